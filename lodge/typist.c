/* SPDX-License-Identifier: GPL-2.0-or-later */
/* typist - keys and pointer movements by command (typist.h) */
#include "lodge/typist.h"

#include <linux/input-event-codes.h>
#include <string.h>

#include "backends/display/display.h"
#include "backends/display/keys.h"

#define MAX_STEPS 16384u
#define MAX_KEYS  16u /* of one combination */
#define NS_PER_MS G_GINT64_CONSTANT(1000000)

static const char *const buttons[] = {"left", "right", "middle", "side", "extra", NULL};
static const unsigned button_codes[] = {BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA};
static const char *const states[] = {"click", "press", "release", NULL};
static const char *const units[] = {"pixels", "absolute", NULL};

const struct option_spec typist_key_arguments[] = {
    {"keys", OPTION_STRING, .flags = OPTION_FIRST,
     .help = "held down together: names joined by '-', as ctrl-alt-f2; #N is KEY_* code N"},
    {"text", OPTION_STRING, .help = "typed as on a US keyboard, after the keys"},
    {"hold", OPTION_UINT, .value = "20", .max = 60000,
     .help = "milliseconds that keys are down, and up before the next ones"},
    {"state", OPTION_ENUM, .value = "click", .choices = states,
     .help = "of the keys; click: down and up"},
    {},
};

const struct option_spec typist_pointer_arguments[] = {
    {"x", OPTION_UINT, .max = DISPLAY_MAX_POSITION, .help = "position of a tablet or a finger"},
    {"y", OPTION_UINT, .max = DISPLAY_MAX_POSITION, .help = "the same, downwards"},
    {"unit", OPTION_ENUM, .value = "pixels", .choices = units,
     .help = "of x and y; absolute: 0 to 32767, whatever the screen's size"},
    {"scanout", OPTION_UINT, .value = "0", .max = DISPLAY_MAX_SCANOUTS - 1, .help = "which screen"},
    {"motion", OPTION_STRING, .help = "of a mouse: DX,DY"},
    {"wheel", OPTION_STRING, .help = "clicks: away from the user; or RIGHT,AWAY"},
    {"button", OPTION_ENUM, .choices = buttons, .help = "which one"},
    {"finger", OPTION_UINT, .max = 9, .help = "a finger of a touch screen instead, with x and y"},
    {"state", OPTION_ENUM, .value = "click", .choices = states, .help = "of the button or finger"},
    {"hold", OPTION_UINT, .value = "20", .max = 60000,
     .help = "milliseconds that a click lasts, and before the next command"},
    {},
};

struct step {
    struct display_event event;
    unsigned wait_ms; /* after it; also ends a frame */
};

struct typist {
    struct display *display;
    struct loop_timer *timer;
    GArray *steps; /* struct step */
    guint next;
    bool waiting;
};

static void go_on(void *opaque)
{
    static const struct display_event frame = {.type = DISPLAY_FRAME};
    struct typist *typist = opaque;

    typist->waiting = false;
    while (typist->next < typist->steps->len) {
        const struct step *step = &g_array_index(typist->steps, struct step, typist->next++);

        display_send(typist->display, &step->event);
        if (!step->wait_ms)
            continue;
        display_send(typist->display, &frame);
        typist->waiting = true;
        loop_timer_set(typist->timer, loop_now_ns() + step->wait_ms * NS_PER_MS);
        return;
    }
    display_send(typist->display, &frame);
    typist->next = 0;
    g_array_set_size(typist->steps, 0);
}

struct typist *typist_create(struct display *display)
{
    struct typist *typist = g_new0(struct typist, 1);

    typist->display = display;
    typist->timer = loop_timer_create(loop_main(), go_on, typist);
    typist->steps = g_array_new(FALSE, FALSE, sizeof(struct step));
    return typist;
}

void typist_destroy(struct typist *typist)
{
    if (!typist)
        return;
    loop_timer_destroy(typist->timer);
    g_array_unref(typist->steps);
    g_free(typist);
}

/* Adds @steps (emptied) to what is to be sent. */
static bool take_steps(struct typist *typist, GArray *steps, GError **error)
{
    guint left = typist->steps->len - typist->next;

    if (left + steps->len > MAX_STEPS) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "%u events are still to be sent, and at most %u wait; try again later", left,
                    MAX_STEPS);
        return false;
    }
    g_array_remove_range(typist->steps, 0, typist->next);
    typist->next = 0;
    g_array_append_vals(typist->steps, steps->data, steps->len);
    if (!typist->waiting)
        go_on(typist);
    return true;
}

/* Is there a device of @kinds whose driver listens? */
static bool somebody_listens(struct typist *typist, unsigned kinds, const char *what,
                             GError **error)
{
    if (display_input_kinds(typist->display) & kinds)
        return true;
    g_set_error(error, OPTIONS_ERROR, 0,
                "no %s listens: the machine has none (--device virtio-input,type=...), or its "
                "driver has not started",
                what);
    return false;
}

static void add(GArray *steps, enum display_event_type type, unsigned code, int32_t value,
                unsigned wait_ms)
{
    const struct step step = {{.type = type, .code = code, .value = value}, wait_ms};

    g_array_append_val(steps, step);
}

/* ---- keys ---- */

static bool read_keys(const struct options *arguments, const char *text, unsigned *codes,
                      unsigned *count, GError **error)
{
    g_auto(GStrv) names = g_strsplit(text, "-", -1);

    for (*count = 0; names[*count]; ++*count) {
        if (*count == MAX_KEYS) {
            options_set_error(error, arguments, "keys", "at most %u at once", MAX_KEYS);
            return false;
        }
        codes[*count] = display_key_by_name(names[*count]);
        if (codes[*count])
            continue;
        options_set_error(
            error, arguments, "keys",
            "no key is named '%s'; letters, digits, f1 to f24, ctrl, alt, shift, ret, "
            "esc, spc, tab, up, ... or #CODE",
            names[*count]);
        return false;
    }
    return true;
}

static bool add_keys(GArray *steps, const struct options *arguments, unsigned hold, GError **error)
{
    const char *text = options_string(arguments, "keys");
    const char *state = options_string(arguments, "state");
    unsigned codes[MAX_KEYS], count;

    if (!text)
        return true;
    if (!read_keys(arguments, text, codes, &count, error))
        return false;
    for (unsigned i = 0; i < count && strcmp(state, "release"); i++)
        add(steps, DISPLAY_KEY, codes[i], 1, hold);
    for (unsigned i = count; i-- > 0 && strcmp(state, "press");)
        add(steps, DISPLAY_KEY, codes[i], 0, hold);
    return true;
}

static bool add_text(GArray *steps, const struct options *arguments, unsigned hold, GError **error)
{
    const char *text = options_string(arguments, "text");

    for (; text && *text; text++) {
        bool shift;
        unsigned code = display_key_of_char(*text, &shift);

        if (!code) {
            options_set_error(error, arguments, "text",
                              "a US keyboard has no key for character 0x%02x", (uint8_t)*text);
            return false;
        }
        if (shift)
            add(steps, DISPLAY_KEY, KEY_LEFTSHIFT, 1, hold);
        add(steps, DISPLAY_KEY, code, 1, hold);
        add(steps, DISPLAY_KEY, code, 0, hold);
        if (shift)
            add(steps, DISPLAY_KEY, KEY_LEFTSHIFT, 0, hold);
    }
    return true;
}

bool typist_send_key(struct typist *typist, const struct options *arguments, GError **error)
{
    g_autoptr(GArray) steps = g_array_new(FALSE, FALSE, sizeof(struct step));
    /* Every key is a frame of its own, also where nothing is to be waited for. */
    unsigned hold = MAX(options_uint(arguments, "hold"), 1);

    if (!options_string(arguments, "keys") && !options_string(arguments, "text")) {
        options_set_error(error, arguments, "keys", "or text is needed");
        return false;
    }
    return add_keys(steps, arguments, hold, error) && add_text(steps, arguments, hold, error) &&
           somebody_listens(typist, DISPLAY_KEYS, "keyboard", error) &&
           take_steps(typist, steps, error);
}

/* ---- pointers ---- */

/* "A" or "A,B": how many; 0 with @error set. */
static unsigned read_numbers(const struct options *arguments, const char *key, int32_t numbers[2],
                             GError **error)
{
    g_auto(GStrv) words = g_strsplit(options_string(arguments, key), ",", 3);
    unsigned count = g_strv_length(words);

    for (unsigned i = 0; i < count && i < 2; i++) {
        gint64 number;

        if (!g_ascii_string_to_signed(words[i], 10, -DISPLAY_MAX_POSITION, DISPLAY_MAX_POSITION,
                                      &number, NULL))
            count = 0;
        else
            numbers[i] = number;
    }
    if (count == 1 || count == 2)
        return count;
    options_set_error(error, arguments, key, "must be whole numbers from -%d to %d",
                      DISPLAY_MAX_POSITION, DISPLAY_MAX_POSITION);
    return 0;
}

/* Where x and y are, as events have it. */
static bool read_position(struct typist *typist, const struct options *arguments,
                          struct display_event *event, GError **error)
{
    g_autoptr(display_surface_t) surface = NULL;
    uint64_t x, y;

    if (!options_given(arguments, "x") || !options_given(arguments, "y")) {
        options_set_error(error, arguments, options_given(arguments, "x") ? "y" : "x",
                          "is needed, too");
        return false;
    }
    x = options_uint(arguments, "x");
    y = options_uint(arguments, "y");
    event->x = x;
    event->y = y;
    if (!strcmp(options_string(arguments, "unit"), "absolute"))
        return true;
    surface = display_look(typist->display, event->scanout);
    if (!surface || x >= surface->width || y >= surface->height) {
        options_set_error(error, arguments, !surface || x >= surface->width ? "x" : "y",
                          surface ? "the screen has %u by %u pixels"
                                  : "the screen is dark and has no pixels; see unit",
                          surface ? surface->width : 0, surface ? surface->height : 0);
        return false;
    }
    display_to_position(surface->width, surface->height, x, y, event);
    return true;
}

static bool add_finger(struct typist *typist, GArray *steps, const struct options *arguments,
                       unsigned hold, GError **error)
{
    const char *state = options_string(arguments, "state");
    struct step step = {.wait_ms = hold};

    step.event.code = options_uint(arguments, "finger");
    step.event.scanout = options_uint(arguments, "scanout");
    if (strcmp(state, "release")) {
        if (!read_position(typist, arguments, &step.event, error))
            return false;
        step.event.type = DISPLAY_TOUCH_DOWN;
        g_array_append_val(steps, step);
    }
    if (strcmp(state, "press")) {
        step.event.type = DISPLAY_TOUCH_UP;
        g_array_append_val(steps, step);
    }
    return somebody_listens(typist, DISPLAY_TOUCH, "touch screen", error);
}

static bool add_moves(struct typist *typist, GArray *steps, const struct options *arguments,
                      GError **error)
{
    unsigned scanout = options_uint(arguments, "scanout");
    int32_t numbers[2];
    unsigned count;

    if (options_given(arguments, "x") || options_given(arguments, "y")) {
        struct step step = {.event = {.type = DISPLAY_POSITION, .scanout = scanout}};

        if (!read_position(typist, arguments, &step.event, error) ||
            !somebody_listens(typist, DISPLAY_ABSOLUTE, "tablet", error))
            return false;
        g_array_append_val(steps, step);
    }
    if (options_given(arguments, "motion")) {
        struct step step = {.event = {.type = DISPLAY_MOTION, .scanout = scanout}};

        count = read_numbers(arguments, "motion", numbers, error);
        if (!count || !somebody_listens(typist, DISPLAY_RELATIVE, "mouse", error))
            return false;
        step.event.x = numbers[0];
        step.event.y = count == 2 ? numbers[1] : 0;
        g_array_append_val(steps, step);
    }
    if (options_given(arguments, "wheel")) {
        struct step step = {.event = {.type = DISPLAY_WHEEL, .scanout = scanout}};

        count = read_numbers(arguments, "wheel", numbers, error);
        if (!count)
            return false;
        step.event.x = count == 2 ? numbers[0] : 0;
        step.event.y = numbers[count - 1];
        g_array_append_val(steps, step);
    }
    return true;
}

static void add_button(GArray *steps, const struct options *arguments, unsigned hold)
{
    const char *button = options_string(arguments, "button");
    const char *state = options_string(arguments, "state");
    struct step step = {.event.type = DISPLAY_BUTTON, .wait_ms = hold};
    unsigned index = 0;

    while (strcmp(buttons[index], button))
        index++;
    step.event.scanout = options_uint(arguments, "scanout");
    step.event.code = button_codes[index];
    step.event.value = 1;
    if (strcmp(state, "release"))
        g_array_append_val(steps, step);
    step.event.value = 0;
    if (strcmp(state, "press"))
        g_array_append_val(steps, step);
}

bool typist_pointer(struct typist *typist, const struct options *arguments, GError **error)
{
    g_autoptr(GArray) steps = g_array_new(FALSE, FALSE, sizeof(struct step));
    unsigned hold = MAX(options_uint(arguments, "hold"), 1);

    if (options_given(arguments, "finger")) {
        if (!add_finger(typist, steps, arguments, hold, error))
            return false;
    } else {
        if (!add_moves(typist, steps, arguments, error) ||
            !somebody_listens(typist, DISPLAY_ABSOLUTE | DISPLAY_RELATIVE, "pointer", error))
            return false;
        if (options_given(arguments, "button"))
            add_button(steps, arguments, hold);
    }
    if (steps->len)
        return take_steps(typist, steps, error);
    options_set_error(error, arguments, "x", "and y, motion, wheel, button or finger is needed");
    return false;
}
