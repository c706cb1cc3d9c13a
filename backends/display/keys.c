/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keys - which key is which (contract: keys.h): letters, digits and function keys by their order, the
 * rest in one table */
#include "backends/display/keys.h"

#include <glib.h>
#include <linux/input-event-codes.h>
#include <string.h>

static const struct {
    const char *name;
    uint16_t code;
    uint32_t keysym; /* 0: an earlier row has it, or there is none */
} keys[] = {
    {"esc", KEY_ESC, 0xff1b},
    {"escape", KEY_ESC, 0},
    {"backspace", KEY_BACKSPACE, 0xff08},
    {"tab", KEY_TAB, 0xff09},
    {"ret", KEY_ENTER, 0xff0d},
    {"enter", KEY_ENTER, 0},
    {"return", KEY_ENTER, 0},
    {"ctrl", KEY_LEFTCTRL, 0xffe3},
    {"leftctrl", KEY_LEFTCTRL, 0},
    {"shift", KEY_LEFTSHIFT, 0xffe1},
    {"leftshift", KEY_LEFTSHIFT, 0},
    {"rightshift", KEY_RIGHTSHIFT, 0xffe2},
    {"shift_r", KEY_RIGHTSHIFT, 0},
    {"alt", KEY_LEFTALT, 0xffe9},
    {"leftalt", KEY_LEFTALT, 0},
    {"rightctrl", KEY_RIGHTCTRL, 0xffe4},
    {"ctrl_r", KEY_RIGHTCTRL, 0},
    {"rightalt", KEY_RIGHTALT, 0xffea},
    {"altgr", KEY_RIGHTALT, 0},
    {"alt_r", KEY_RIGHTALT, 0},
    {"meta", KEY_LEFTMETA, 0xffeb},
    {"leftmeta", KEY_LEFTMETA, 0},
    {"super", KEY_LEFTMETA, 0},
    {"rightmeta", KEY_RIGHTMETA, 0xffec},
    {"meta_r", KEY_RIGHTMETA, 0},
    {"menu", KEY_COMPOSE, 0xff67},
    {"compose", KEY_COMPOSE, 0},
    {"capslock", KEY_CAPSLOCK, 0xffe5},
    {"caps_lock", KEY_CAPSLOCK, 0},
    {"numlock", KEY_NUMLOCK, 0xff7f},
    {"num_lock", KEY_NUMLOCK, 0},
    {"scrolllock", KEY_SCROLLLOCK, 0xff14},
    {"scroll_lock", KEY_SCROLLLOCK, 0},
    {"pause", KEY_PAUSE, 0xff13},
    {"sysrq", KEY_SYSRQ, 0xff61},
    {"print", KEY_SYSRQ, 0},
    {"home", KEY_HOME, 0xff50},
    {"left", KEY_LEFT, 0xff51},
    {"up", KEY_UP, 0xff52},
    {"right", KEY_RIGHT, 0xff53},
    {"down", KEY_DOWN, 0xff54},
    {"pageup", KEY_PAGEUP, 0xff55},
    {"pgup", KEY_PAGEUP, 0},
    {"pagedown", KEY_PAGEDOWN, 0xff56},
    {"pgdn", KEY_PAGEDOWN, 0},
    {"end", KEY_END, 0xff57},
    {"insert", KEY_INSERT, 0xff63},
    {"delete", KEY_DELETE, 0xffff},
    {"del", KEY_DELETE, 0},
    {"space", KEY_SPACE, 0x20},
    {"spc", KEY_SPACE, 0},
    {"minus", KEY_MINUS, 0x2d},
    {"equal", KEY_EQUAL, 0x3d},
    {"bracket_left", KEY_LEFTBRACE, 0x5b},
    {"leftbrace", KEY_LEFTBRACE, 0},
    {"bracket_right", KEY_RIGHTBRACE, 0x5d},
    {"rightbrace", KEY_RIGHTBRACE, 0},
    {"semicolon", KEY_SEMICOLON, 0x3b},
    {"apostrophe", KEY_APOSTROPHE, 0x27},
    {"grave", KEY_GRAVE, 0x60},
    {"grave_accent", KEY_GRAVE, 0},
    {"backslash", KEY_BACKSLASH, 0x5c},
    {"comma", KEY_COMMA, 0x2c},
    {"dot", KEY_DOT, 0x2e},
    {"slash", KEY_SLASH, 0x2f},
    {"less", KEY_102ND, 0x0},
    {"102nd", KEY_102ND, 0},
    {"kp_divide", KEY_KPSLASH, 0xffaf},
    {"kpslash", KEY_KPSLASH, 0},
    {"kp_multiply", KEY_KPASTERISK, 0xffaa},
    {"kpasterisk", KEY_KPASTERISK, 0},
    {"kp_subtract", KEY_KPMINUS, 0xffad},
    {"kpminus", KEY_KPMINUS, 0},
    {"kp_add", KEY_KPPLUS, 0xffab},
    {"kpplus", KEY_KPPLUS, 0},
    {"kp_enter", KEY_KPENTER, 0xff8d},
    {"kpenter", KEY_KPENTER, 0},
    {"kp_decimal", KEY_KPDOT, 0xffae},
    {"kpdot", KEY_KPDOT, 0},
    {"kp_equal", KEY_KPEQUAL, 0xffbd},
    {"kpequal", KEY_KPEQUAL, 0},
    {"volumeup", KEY_VOLUMEUP, 0x1008ff13},
    {"volumedown", KEY_VOLUMEDOWN, 0x1008ff11},
    {"mute", KEY_MUTE, 0x1008ff12},
    {"power", KEY_POWER, 0x1008ff2a},
    {"sleep", KEY_SLEEP, 0x1008ff2f},
    {"wakeup", KEY_WAKEUP, 0x1008ff2b},
    {"wake", KEY_WAKEUP, 0},
    {"help", KEY_HELP, 0xff6a},
    {"undo", KEY_UNDO, 0xff65},
    {"find", KEY_FIND, 0xff68},
    {"stop", KEY_STOP, 0xff69},
};

/* Other keysyms of keys: the number pad without Num Lock, left tab, right level shifts, ... */
static const struct {
    uint32_t keysym;
    uint16_t code;
} more_keysyms[] = {
    {0xfe20, KEY_TAB},       {0xfe03, KEY_RIGHTALT}, {0xff7e, KEY_RIGHTALT}, {0xffe7, KEY_LEFTMETA},
    {0xffe8, KEY_RIGHTMETA}, {0xff0a, KEY_ENTER},    {0xff15, KEY_SYSRQ},    {0xff6b, KEY_PAUSE},
    {0xff95, KEY_KP7},       {0xff96, KEY_KP4},      {0xff97, KEY_KP8},      {0xff98, KEY_KP6},
    {0xff99, KEY_KP2},       {0xff9a, KEY_KP9},      {0xff9b, KEY_KP3},      {0xff9c, KEY_KP1},
    {0xff9d, KEY_KP5},       {0xff9e, KEY_KP0},      {0xff9f, KEY_KPDOT},    {0xffac, KEY_KPCOMMA},
};

static const uint16_t letters[] = {
    KEY_A, KEY_B, KEY_C, KEY_D, KEY_E, KEY_F, KEY_G, KEY_H, KEY_I, KEY_J, KEY_K, KEY_L, KEY_M,
    KEY_N, KEY_O, KEY_P, KEY_Q, KEY_R, KEY_S, KEY_T, KEY_U, KEY_V, KEY_W, KEY_X, KEY_Y, KEY_Z,
};
static const uint16_t digits[] = {KEY_0, KEY_1, KEY_2, KEY_3, KEY_4,
                                  KEY_5, KEY_6, KEY_7, KEY_8, KEY_9};
static const uint16_t pad_digits[] = {KEY_KP0, KEY_KP1, KEY_KP2, KEY_KP3, KEY_KP4,
                                      KEY_KP5, KEY_KP6, KEY_KP7, KEY_KP8, KEY_KP9};
static const uint16_t functions[] = {
    KEY_F1,  KEY_F2,  KEY_F3,  KEY_F4,  KEY_F5,  KEY_F6,  KEY_F7,  KEY_F8,
    KEY_F9,  KEY_F10, KEY_F11, KEY_F12, KEY_F13, KEY_F14, KEY_F15, KEY_F16,
    KEY_F17, KEY_F18, KEY_F19, KEY_F20, KEY_F21, KEY_F22, KEY_F23, KEY_F24,
};
/* What Shift makes of the character before it. */
static const char shifted[] = "1!2@3#4$5%6^7&8*9(0)-_=+[{]};:'\"`~\\|,<.>/?";

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *number)
{
    return g_ascii_string_to_unsigned(text, 10, min, max, number, NULL);
}

unsigned display_key_by_name(const char *name)
{
    uint64_t number;

    if (name[0] == '#')
        return parse_number(name + 1, 1, KEY_MAX, &number) ? number : 0;
    if (name[0] && !name[1] && g_ascii_isalpha(name[0]))
        return letters[g_ascii_tolower(name[0]) - 'a'];
    if (name[0] && !name[1] && g_ascii_isdigit(name[0]))
        return digits[name[0] - '0'];
    if (g_ascii_tolower(name[0]) == 'f' &&
        parse_number(name + 1, 1, G_N_ELEMENTS(functions), &number))
        return functions[number - 1];
    if (!g_ascii_strncasecmp(name, "kp_", 3) && parse_number(name + 3, 0, 9, &number))
        return pad_digits[number];
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        if (!g_ascii_strcasecmp(keys[i].name, name))
            return keys[i].code;
    return 0;
}

unsigned display_key_of_keysym(uint32_t keysym)
{
    const char *at;

    if (keysym > 0x20 && keysym < 0x7f) {
        if (g_ascii_isalpha(keysym))
            return letters[g_ascii_tolower(keysym) - 'a'];
        at = strchr(shifted, keysym);
        if (at && (at - shifted) % 2)
            keysym = at[-1];
        if (g_ascii_isdigit(keysym))
            return digits[keysym - '0'];
    }
    if (keysym >= 0xffbe && keysym < 0xffbe + G_N_ELEMENTS(functions))
        return functions[keysym - 0xffbe];
    if (keysym >= 0xffb0 && keysym <= 0xffb9)
        return pad_digits[keysym - 0xffb0];
    for (unsigned i = 0; keysym && i < G_N_ELEMENTS(keys); i++)
        if (keys[i].keysym == keysym)
            return keys[i].code;
    for (unsigned i = 0; i < G_N_ELEMENTS(more_keysyms); i++)
        if (more_keysyms[i].keysym == keysym)
            return more_keysyms[i].code;
    return 0;
}

unsigned display_key_of_char(char c, bool *shift)
{
    const char *at = c ? strchr(shifted, c) : NULL;

    *shift = g_ascii_isupper(c) || (at && (at - shifted) % 2);
    if (c == '\n' || c == '\r')
        return KEY_ENTER;
    if (c == '\t')
        return KEY_TAB;
    return c >= ' ' && c < 0x7f ? display_key_of_keysym(c) : 0;
}
