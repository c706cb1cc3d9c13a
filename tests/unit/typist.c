/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of lodge/typist: what send-key and pointer send, in which order, and what they refuse. */
#include "lodge/typist.h"

#include <linux/input-event-codes.h>
#include <string.h>

#include "backends/display/display.h"

struct fixture {
    struct display *display;
    struct display_source *source;
    struct display_input *input;
    struct typist *typist;
    GString *log;
};

static void on_event(void *opaque, const struct display_event *event)
{
    struct fixture *f = opaque;

    switch (event->type) {
    case DISPLAY_FRAME:
        g_string_append(f->log, "; ");
        break;
    case DISPLAY_KEY:
    case DISPLAY_BUTTON:
        g_string_append_printf(f->log, "%s%u", event->value ? "+" : "-", event->code);
        break;
    case DISPLAY_TOUCH_UP:
        g_string_append_printf(f->log, "up %u", event->code);
        break;
    default:
        g_string_append_printf(f->log, "%u:%u(%d,%d)", event->type, event->code, event->x,
                               event->y);
    }
}
static const struct display_input_ops input_ops = {on_event};

static void on_resize(void *opaque, unsigned scanout, uint32_t width, uint32_t height)
{
}
static const struct display_source_ops source_ops = {on_resize};

static void set_up(struct fixture *f, unsigned kinds)
{
    f->display = display_create();
    f->source = display_add_source(f->display, 1, loop_main(), &source_ops, f, NULL);
    f->input = display_add_input(f->display, kinds, -1, loop_main(), &input_ops, f);
    display_input_set_active(f->input, true);
    f->typist = typist_create(f->display);
    f->log = g_string_new(NULL);
}

static void tear_down(struct fixture *f)
{
    typist_destroy(f->typist);
    display_remove_input(f->input);
    display_remove_source(f->source);
    display_destroy(f->display);
    g_string_free(f->log, TRUE);
}

/* The error's text ("" if there was none) of a command; the caller frees it. */
static char *command(struct fixture *f, bool keys, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(
        keys ? typist_key_arguments : typist_pointer_arguments, "command", text, &error);
    bool done = options && (keys ? typist_send_key(f->typist, options, &error)
                                 : typist_pointer(f->typist, options, &error));

    g_assert_true(done == !error);
    return g_strdup(error ? error->message : "");
}

static void run(struct fixture *f, bool keys, const char *text)
{
    g_autofree char *error = command(f, keys, text);

    g_assert_cmpstr(error, ==, "");
}

static void assert_refused(struct fixture *f, bool keys, const char *text, const char *word)
{
    g_autofree char *error = command(f, keys, text);

    g_test_message("%s: %s", text, error);
    g_assert_nonnull(strstr(error, word));
}

static void assert_sent(struct fixture *f, const char *expected)
{
    int64_t deadline = loop_now_ns() + 2 * G_GINT64_CONSTANT(1000000000);

    while (f->log->len < strlen(expected) && loop_now_ns() < deadline)
        if (!loop_iterate(loop_main(), false))
            g_usleep(200);
    for (unsigned i = 0; i < 20; i++) {
        loop_iterate(loop_main(), false);
        g_usleep(200);
    }
    g_assert_cmpstr(f->log->str, ==, expected);
    g_string_truncate(f->log, 0);
}

static void test_combination(void)
{
    struct fixture f;

    set_up(&f, DISPLAY_KEYS);
    run(&f, true, "ctrl-alt-f2,hold=1");
    assert_sent(&f, "+29; +56; +60; -60; -56; -29; ");
    run(&f, true, "shift,state=press,hold=0");
    assert_sent(&f, "+42; ");
    run(&f, true, "shift,state=release,hold=0");
    assert_sent(&f, "-42; ");
    tear_down(&f);
}

static void test_text(void)
{
    struct fixture f;

    set_up(&f, DISPLAY_KEYS);
    run(&f, true, "text=aB,hold=1");
    run(&f, true, "ret,hold=1"); /* behind it */
    assert_sent(&f, "+30; -30; +42; +48; -48; -42; +28; -28; ");
    tear_down(&f);
}

static void test_hold(void)
{
    struct fixture f;
    int64_t start = loop_now_ns();

    set_up(&f, DISPLAY_KEYS);
    run(&f, true, "a,hold=50");
    assert_sent(&f, "+30; -30; ");
    g_assert_cmpint(loop_now_ns() - start, >=, 50 * 1000000);
    tear_down(&f);
}

static void test_keys_refused(void)
{
    g_autoptr(GString) text = g_string_new("text=");
    struct fixture f;

    set_up(&f, DISPLAY_KEYS);
    assert_refused(&f, true, "", "keys");
    assert_refused(&f, true, "ctrl-hyper", "hyper");
    assert_refused(&f, true, "ctrl--a", "no key");
    assert_refused(&f, true, "text=\xc3\xa4", "character");
    assert_refused(&f, true, "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q", "at most 16");
    assert_refused(&f, false, "x=1,y=1,unit=absolute", "tablet");
    for (unsigned i = 0; i < 8000; i++)
        g_string_append_c(text, 'a');
    run(&f, true, text->str);
    assert_refused(&f, true, text->str, "still to be sent");
    display_input_set_active(f.input, false);
    assert_refused(&f, true, "a", "listens");
    tear_down(&f);
}

static void test_pointer(void)
{
    struct fixture f;
    g_autoptr(display_surface_t) surface = display_surface_create(640, 480);

    set_up(&f, DISPLAY_ABSOLUTE);
    assert_refused(&f, false, "x=1,y=1", "dark");
    run(&f, false, "x=7,y=9,unit=absolute");
    assert_sent(&f, "3:0(7,9); ");
    display_show(f.source, 0, surface);
    run(&f, false, "x=0,y=479,button=right,hold=1");
    assert_sent(&f, "3:0(25,32732)+273; -273; ");
    run(&f, false, "wheel=-2");
    assert_sent(&f, "4:0(0,-2); ");
    assert_refused(&f, false, "x=640,y=1", "640 by 480");
    assert_refused(&f, false, "x=1,y=480", "640 by 480");
    assert_refused(&f, false, "x=1", "needed");
    assert_refused(&f, false, "wheel=1,,2,,3", "whole numbers");
    assert_refused(&f, false, "wheel=fast", "whole numbers");
    assert_refused(&f, false, "motion=1,,1", "mouse");
    assert_refused(&f, false, "finger=1,x=1,y=1", "touch");
    assert_refused(&f, false, "", "needed");
    tear_down(&f);
}

/* The middle of each pixel is that pixel again, by whatever rounding. */
static void test_positions_are_exact(void)
{
    static const uint32_t sizes[] = {1, 2, 640, 1080, 1366, 1920, 4096, 16384};

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
        for (uint32_t at = 0; at < sizes[i]; at++) {
            struct display_event event;

            display_to_position(sizes[i], sizes[i], at, at, &event);
            g_assert_cmpint(event.x, >=, 0);
            g_assert_cmpint(event.x, <=, DISPLAY_MAX_POSITION);
            g_assert_cmpuint((uint64_t)event.x * sizes[i] / (DISPLAY_MAX_POSITION + 1), ==, at);
        }
}

static void test_mouse_and_fingers(void)
{
    struct fixture f;

    set_up(&f, DISPLAY_RELATIVE | DISPLAY_TOUCH);
    run(&f, false, "motion=-5,,6,button=left,state=press,hold=1");
    assert_sent(&f, "2:0(-5,6)+272; ");
    run(&f, false, "finger=3,x=10,y=20,unit=absolute,hold=1");
    assert_sent(&f, "5:3(10,20); up 3; ");
    run(&f, false, "finger=3,state=release,hold=1");
    assert_sent(&f, "up 3; ");
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/typist/combination", test_combination);
    g_test_add_func("/typist/text", test_text);
    g_test_add_func("/typist/hold", test_hold);
    g_test_add_func("/typist/keys-refused", test_keys_refused);
    g_test_add_func("/typist/pointer", test_pointer);
    g_test_add_func("/typist/positions-are-exact", test_positions_are_exact);
    g_test_add_func("/typist/mouse-and-fingers", test_mouse_and_fingers);
    return g_test_run();
}
