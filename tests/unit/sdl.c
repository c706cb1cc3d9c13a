/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of backends/display/sdl on SDL's dummy screen: it opens, follows the guest's screen, and passes
 * on input. */
#include <SDL.h>
#include <linux/input-event-codes.h>
#include <string.h>

#include "backends/display/display.h"

#define WAIT_NS (5 * G_GINT64_CONSTANT(1000000000))

struct fixture {
    struct display *display;
    struct display_source *source;
    struct display_input *input;
    struct display_output *output;
    uint32_t wanted_width, wanted_height;
    GString *typed;
};

static void on_resize(void *opaque, unsigned scanout, uint32_t width, uint32_t height)
{
    struct fixture *f = opaque;

    f->wanted_width = width;
    f->wanted_height = height;
}
static const struct display_source_ops source_ops = {on_resize};

static void on_input(void *opaque, const struct display_event *event)
{
    struct fixture *f = opaque;

    if (event->type == DISPLAY_KEY || event->type == DISPLAY_BUTTON)
        g_string_append_printf(f->typed, "%s%u ", event->value ? "+" : "-", event->code);
    else if (event->type != DISPLAY_FRAME)
        g_string_append_printf(f->typed, "%u(%d,%d) ", event->type, event->x, event->y);
}
static const struct display_input_ops input_ops = {on_input};

static struct display_output *open_sdl(struct fixture *f, GError **error)
{
    g_autoptr(options_t) options = display_parse("sdl", error);

    return options ? display_open(f->display, options, error) : NULL;
}

static void set_up(struct fixture *f, unsigned kinds)
{
    memset(f, 0, sizeof(*f));
    f->display = display_create();
    f->source = display_add_source(f->display, 1, loop_main(), &source_ops, f, NULL);
    f->input = display_add_input(f->display, kinds, -1, loop_main(), &input_ops, f);
    display_input_set_active(f->input, true);
    f->typed = g_string_new(NULL);
}

static void tear_down(struct fixture *f)
{
    display_close(f->output);
    display_remove_input(f->input);
    display_remove_source(f->source);
    display_destroy(f->display);
    g_string_free(f->typed, TRUE);
}

static void open_window(struct fixture *f)
{
    g_autoptr(GError) error = NULL;

    f->output = open_sdl(f, &error);
    g_assert_no_error(error);
}

static void await_typed(struct fixture *f, const char *expected)
{
    int64_t deadline = loop_now_ns() + WAIT_NS;

    while (f->typed->len < strlen(expected) && loop_now_ns() < deadline)
        if (!loop_iterate(loop_main(), false))
            g_usleep(1000);
    g_assert_cmpstr(f->typed->str, ==, expected);
    g_string_truncate(f->typed, 0);
}

static void push_key(SDL_Scancode scancode, bool down, bool repeat)
{
    SDL_Event event = {.key = {.type = down ? SDL_KEYDOWN : SDL_KEYUP,
                               .state = down ? SDL_PRESSED : SDL_RELEASED,
                               .repeat = repeat,
                               .keysym.scancode = scancode}};

    SDL_PushEvent(&event);
}

static void test_keys(void)
{
    struct fixture f;

    set_up(&f, DISPLAY_KEYS);
    open_window(&f);
    push_key(SDL_SCANCODE_A, true, false);
    push_key(SDL_SCANCODE_A, true, true);
    push_key(SDL_SCANCODE_A, false, false);
    push_key(SDL_SCANCODE_RALT, true, false);
    push_key(SDL_SCANCODE_F12, true, false);
    push_key(SDL_SCANCODE_KP_PERIOD, true, false);
    push_key(SDL_SCANCODE_APPLICATION, true, false);
    push_key(SDL_SCANCODE_UNKNOWN, true, false);
    push_key(SDL_SCANCODE_MEDIASELECT, true, false);
    push_key(SDL_SCANCODE_UP, true, false);
    await_typed(&f, "+30 -30 +100 +88 +83 +127 +103 ");
    tear_down(&f);
}

static void test_pointer(void)
{
    SDL_Event motion = {.motion = {.type = SDL_MOUSEMOTION, .x = 320, .y = 0, .xrel = 4}};
    SDL_Event button = {
        .button = {.type = SDL_MOUSEBUTTONDOWN, .button = SDL_BUTTON_RIGHT, .state = SDL_PRESSED}};
    SDL_Event wheel = {.wheel = {.type = SDL_MOUSEWHEEL, .y = -2}};
    struct fixture f;

    set_up(&f, DISPLAY_ABSOLUTE);
    open_window(&f);
    SDL_PushEvent(&motion);
    SDL_PushEvent(&button);
    SDL_PushEvent(&wheel);
    await_typed(&f, "3(16409,34) +273 4(0,-2) ");
    tear_down(&f);
}

static void test_fingers(void)
{
    SDL_Event finger = {.tfinger = {.type = SDL_FINGERDOWN, .fingerId = 77, .x = 0.5f, .y = 2.0f}};
    struct fixture f;

    set_up(&f, DISPLAY_TOUCH);
    open_window(&f);
    SDL_PushEvent(&finger);
    finger.type = SDL_FINGERUP;
    SDL_PushEvent(&finger);
    SDL_PushEvent(&finger); /* it is up already */
    await_typed(&f, "5(16383,32767) 7(16383,32767) ");
    tear_down(&f);
}

/* Screens of all sizes, and dark; nothing waits for the window. */
static void test_pictures(void)
{
    static const uint32_t sizes[][2] = {{640, 480}, {1, 1}, {1920, 1080}, {33, 7}};
    g_autoptr(display_surface_t) cursor = display_surface_create(64, 64);
    struct fixture f;

    set_up(&f, DISPLAY_KEYS);
    open_window(&f);
    display_set_cursor(f.source, 0, cursor, 3, 3);
    for (unsigned i = 0; i < 40; i++) {
        const uint32_t *size = sizes[i % G_N_ELEMENTS(sizes)];
        g_autoptr(display_surface_t) surface = display_surface_create(size[0], size[1]);

        display_show(f.source, 0, surface);
        memset(surface->pixels, i, (size_t)surface->stride * surface->height);
        display_damage(f.source, 0, &(struct display_rect){0, 0, size[0], size[1]});
        g_usleep(3000);
        if (i % 10 == 9)
            display_show(f.source, 0, NULL);
    }
    display_set_cursor(f.source, 0, NULL, 0, 0);
    push_key(SDL_SCANCODE_B, true, false); /* it is alive */
    await_typed(&f, "+48 ");
    tear_down(&f);
}

static void test_window(void)
{
    SDL_Event event = {
        .window = {
            .type = SDL_WINDOWEVENT, .event = SDL_WINDOWEVENT_RESIZED, .data1 = 800, .data2 = 600}};
    g_autoptr(display_surface_t) surface = display_surface_create(640, 480);
    struct fixture f;

    set_up(&f, DISPLAY_KEYS);
    open_window(&f);
    SDL_PushEvent(&event);
    for (int64_t end = loop_now_ns() + WAIT_NS; !f.wanted_width && loop_now_ns() < end;)
        if (!loop_iterate(loop_main(), false))
            g_usleep(1000);
    g_assert_cmpuint(f.wanted_width, ==, 800);
    g_assert_cmpuint(f.wanted_height, ==, 600);
    event.window.event = SDL_WINDOWEVENT_CLOSE;
    SDL_PushEvent(&event);
    g_usleep(50000);
    display_show(f.source, 0, surface); /* nobody looks */
    g_usleep(50000);
    tear_down(&f);
}

static void test_one_window(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;

    set_up(&f, DISPLAY_KEYS);
    open_window(&f);
    g_assert_null(open_sdl(&f, &error));
    g_assert_nonnull(strstr(error->message, "already"));
    tear_down(&f);
    set_up(&f, DISPLAY_KEYS);
    open_window(&f);
    tear_down(&f);
}

static void test_no_screen(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;

    g_setenv("SDL_VIDEODRIVER", "nonesuch", TRUE);
    set_up(&f, DISPLAY_KEYS);
    g_assert_null(open_sdl(&f, &error));
    g_assert_nonnull(strstr(error->message, "no window"));
    tear_down(&f);
    g_setenv("SDL_VIDEODRIVER", "dummy", TRUE);
}

int main(int argc, char **argv)
{
    g_setenv("SDL_VIDEODRIVER", "dummy", TRUE);
    g_setenv("SDL_RENDER_DRIVER", "software", TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sdl/keys", test_keys);
    g_test_add_func("/sdl/pointer", test_pointer);
    g_test_add_func("/sdl/fingers", test_fingers);
    g_test_add_func("/sdl/pictures", test_pictures);
    g_test_add_func("/sdl/window", test_window);
    g_test_add_func("/sdl/one-window", test_one_window);
    g_test_add_func("/sdl/no-screen", test_no_screen);
    return g_test_run();
}
