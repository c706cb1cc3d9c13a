/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of backends/display/keys: names, characters and keysyms of keys. */
#include "backends/display/keys.h"

#include <glib.h>
#include <linux/input-event-codes.h>

static void test_names(void)
{
    static const struct {
        const char *name;
        unsigned code;
    } rows[] = {{"a", KEY_A},
                {"Z", KEY_Z},
                {"0", KEY_0},
                {"9", KEY_9},
                {"f1", KEY_F1},
                {"F24", KEY_F24},
                {"kp_0", KEY_KP0},
                {"Ctrl", KEY_LEFTCTRL},
                {"ret", KEY_ENTER},
                {"spc", KEY_SPACE},
                {"#30", KEY_A},
                {"altgr", KEY_RIGHTALT},
                {"", 0},
                {"#0", 0},
                {"#768", 0},
                {"#", 0},
                {"f0", 0},
                {"f25", 0},
                {"kp_10", 0},
                {"f1x", 0},
                {"hyper", 0},
                {"#-1", 0},
                {"f", KEY_F}};

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%s", rows[i].name);
        g_assert_cmpuint(display_key_by_name(rows[i].name), ==, rows[i].code);
    }
}

static void test_characters(void)
{
    static const char plain[] = "abcxyz0123456789-=[];'`\\,./ ";
    bool shift;

    for (const char *c = plain; *c; c++) {
        g_assert_cmpuint(display_key_of_char(*c, &shift), !=, 0);
        g_assert_false(shift);
    }
    for (const char *c = "ABCXYZ!@#$%^&*()_+{}:\"~|<>?"; *c; c++) {
        g_assert_cmpuint(display_key_of_char(*c, &shift), !=, 0);
        g_assert_true(shift);
    }
    g_assert_cmpuint(display_key_of_char('!', &shift), ==, KEY_1);
    g_assert_cmpuint(display_key_of_char('?', &shift), ==, KEY_SLASH);
    g_assert_cmpuint(display_key_of_char('|', &shift), ==, KEY_BACKSLASH);
    g_assert_cmpuint(display_key_of_char('\n', &shift), ==, KEY_ENTER);
    g_assert_false(shift);
    g_assert_cmpuint(display_key_of_char('\t', &shift), ==, KEY_TAB);
    g_assert_cmpuint(display_key_of_char('\0', &shift), ==, 0);
    g_assert_cmpuint(display_key_of_char('\x7f', &shift), ==, 0);
    g_assert_cmpuint(display_key_of_char('\xe4', &shift), ==, 0);
}

/* Two characters share a key only if Shift tells them apart. */
static void test_characters_differ(void)
{
    unsigned seen[2][KEY_CNT] = {{0}};

    for (char c = ' '; c < 0x7f; c++) {
        bool shift;
        unsigned code = display_key_of_char(c, &shift);

        g_test_message("%c", c);
        g_assert_cmpuint(code, !=, 0);
        g_assert_cmpuint(seen[shift][code]++, ==, 0);
    }
}

static void test_keysyms(void)
{
    g_assert_cmpuint(display_key_of_keysym('a'), ==, KEY_A);
    g_assert_cmpuint(display_key_of_keysym('A'), ==, KEY_A);
    g_assert_cmpuint(display_key_of_keysym('$'), ==, KEY_4);
    g_assert_cmpuint(display_key_of_keysym(0xff0d), ==, KEY_ENTER);
    g_assert_cmpuint(display_key_of_keysym(0xffbe), ==, KEY_F1);
    g_assert_cmpuint(display_key_of_keysym(0xffc9), ==, KEY_F12);
    g_assert_cmpuint(display_key_of_keysym(0xffb5), ==, KEY_KP5);
    g_assert_cmpuint(display_key_of_keysym(0xff9d), ==, KEY_KP5);
    g_assert_cmpuint(display_key_of_keysym(0xffff), ==, KEY_DELETE);
    g_assert_cmpuint(display_key_of_keysym(0), ==, 0);
    g_assert_cmpuint(display_key_of_keysym(0x1234), ==, 0);
    g_assert_cmpuint(display_key_of_keysym(UINT32_MAX), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keys/names", test_names);
    g_test_add_func("/keys/characters", test_characters);
    g_test_add_func("/keys/characters-differ", test_characters_differ);
    g_test_add_func("/keys/keysyms", test_keysyms);
    return g_test_run();
}
