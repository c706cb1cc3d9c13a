/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of backends/display: what viewers are told of a source's pictures, where input goes, and what
 * is in the files. */
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/input-event-codes.h>
#include <string.h>

#include "backends/display/display.h"
#include "config.h"

#ifdef HAVE_LIBPNG
#include <png.h>
#endif

struct fixture {
    struct display *display;
    struct display_source *source;
    unsigned resizes, width, height, resized, refreshes;
    struct display_surface *surface; /* that a refresh writes to */
    unsigned changes;
};

static void on_resize(void *opaque, unsigned scanout, uint32_t width, uint32_t height)
{
    struct fixture *f = opaque;

    f->resizes++;
    f->resized = scanout;
    f->width = width;
    f->height = height;
}

/* As many as there were refreshes, in the first pixel. */
static void on_refresh(void *opaque, unsigned scanout)
{
    struct fixture *f = opaque;

    g_assert_cmpuint(scanout, ==, 0);
    f->refreshes++;
    f->surface->pixels[0] = f->refreshes;
}
static const struct display_source_ops source_ops = {on_resize, on_refresh};

static void on_changed(void *opaque)
{
    ((struct fixture *)opaque)->changes++;
}

static void turn(void)
{
    while (loop_iterate(loop_main(), false))
        ;
}

static void set_up(struct fixture *f, unsigned scanouts)
{
    g_autoptr(GError) error = NULL;

    memset(f, 0, sizeof(*f));
    f->display = display_create();
    f->source = display_add_source(f->display, scanouts, loop_main(), &source_ops, f, &error);
    g_assert_no_error(error);
}

static void tear_down(struct fixture *f)
{
    display_remove_source(f->source);
    display_destroy(f->display);
}

static struct display_viewer *add_viewer(struct fixture *f)
{
    struct display_viewer *viewer = display_add_viewer(f->display, loop_main(), on_changed, f);

    g_assert_nonnull(viewer);
    return viewer;
}

static void damage(struct fixture *f, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
    display_damage(f->source, 0, &(struct display_rect){x, y, width, height});
}

static bool take(struct display_viewer *viewer, struct display_update *update)
{
    return display_take(viewer, 0, update);
}

static bool covered(const struct display_update *update, uint32_t x, uint32_t y)
{
    for (unsigned i = 0; i < update->rect_count; i++) {
        const struct display_rect *r = &update->rects[i];

        if (x >= r->x && y >= r->y && x - r->x < r->width && y - r->y < r->height)
            return true;
    }
    return false;
}

static void assert_rect(const struct display_rect *rect, uint32_t x, uint32_t y, uint32_t width,
                        uint32_t height)
{
    g_assert_cmpuint(rect->x, ==, x);
    g_assert_cmpuint(rect->y, ==, y);
    g_assert_cmpuint(rect->width, ==, width);
    g_assert_cmpuint(rect->height, ==, height);
}

/* ---- pictures ---- */

static void test_surface_limits(void)
{
    g_assert_null(display_surface_create(0, 1));
    g_assert_null(display_surface_create(1, 0));
    g_assert_null(display_surface_create(DISPLAY_MAX_SIZE + 1, 1));
    display_surface_unref(NULL);
}

static void test_pixels_are_fetched_for_who_looks(void)
{
    const struct display_rect rect = {1, 1, 2, 2};
    struct display_viewer *first, *second;
    struct display_surface *seen;
    struct display_update update;
    struct fixture f;

    set_up(&f, 1);
    first = add_viewer(&f);
    second = add_viewer(&f);
    f.surface = display_surface_create(8, 8);
    display_show(f.source, 0, f.surface);
    take(first, &update);
    display_update_clear(&update);
    for (unsigned i = 0; i < 3; i++)
        display_damage_behind(f.source, 0, &rect);
    g_assert_cmpuint(f.refreshes, ==, 0);
    g_assert_true(take(first, &update));
    assert_rect(&update.rects[0], 1, 1, 2, 2);
    g_assert_cmpuint(update.surface->pixels[0], ==, 1);
    display_update_clear(&update);
    take(second, &update); /* there is nothing newer */
    display_update_clear(&update);
    g_assert_cmpuint(f.refreshes, ==, 1);
    display_damage_behind(f.source, 0, &rect);
    seen = display_look(f.display, 0);
    g_assert_cmpuint(seen->pixels[0], ==, 2);
    display_surface_unref(seen);
    damage(&f, 1, 1, 2, 2); /* these are there already */
    take(first, &update);
    display_update_clear(&update);
    g_assert_cmpuint(f.refreshes, ==, 2);
    display_damage_behind(f.source, 0, &rect);
    display_surface_unref(f.surface);
    display_remove_source(g_steal_pointer(&f.source)); /* nobody to ask */
    take(first, &update);
    display_update_clear(&update);
    g_assert_cmpuint(f.refreshes, ==, 2);
    display_remove_viewer(first);
    display_remove_viewer(second);
    tear_down(&f);
}

static void test_viewer_sees_changes(void)
{
    g_autoptr(display_surface_t) surface = display_surface_create(640, 480);
    struct display_update update;
    struct display_viewer *viewer;
    struct fixture f;

    set_up(&f, 2);
    viewer = add_viewer(&f);
    g_assert_true(take(viewer, &update)); /* the first time, in any case */
    g_assert_null(update.surface);
    g_assert_false(update.mode_changed);
    g_assert_false(take(viewer, &update));

    display_show(f.source, 0, surface);
    g_assert_true(take(viewer, &update));
    g_assert_true(update.surface == surface);
    g_assert_true(update.mode_changed);
    g_assert_cmpuint(update.rect_count, ==, 1);
    assert_rect(&update.rects[0], 0, 0, 640, 480);
    display_update_clear(&update);

    damage(&f, 10, 20, 30, 40);
    g_assert_true(take(viewer, &update));
    g_assert_false(update.mode_changed);
    g_assert_cmpuint(update.rect_count, ==, 1);
    assert_rect(&update.rects[0], 10, 20, 30, 40);
    display_update_clear(&update);
    g_assert_false(take(viewer, &update)); /* nothing new; the surface all the same */
    g_assert_true(update.surface == surface);
    g_assert_cmpuint(update.rect_count, ==, 0);
    display_update_clear(&update);

    display_show(f.source, 0, NULL);
    g_assert_true(take(viewer, &update));
    g_assert_null(update.surface);
    g_assert_true(update.mode_changed);
    g_assert_false(display_take(viewer, DISPLAY_MAX_SCANOUTS, &update));
    display_remove_viewer(viewer);
    tear_down(&f);
    g_assert_cmpint(surface->references, ==, 1);
}

static void test_damage_is_clipped_and_bounded(void)
{
    g_autoptr(display_surface_t) surface = display_surface_create(1000, 1000);
    struct display_update update;
    struct display_viewer *viewer;
    struct fixture f;

    set_up(&f, 1);
    viewer = add_viewer(&f);
    damage(&f, 0, 0, 5, 5); /* of nothing */
    display_show(f.source, 0, surface);
    take(viewer, &update);
    display_update_clear(&update);
    damage(&f, 990, 980, UINT32_MAX, UINT32_MAX);
    damage(&f, 1000, 0, 1, 1);
    damage(&f, 0, UINT32_MAX, 1, 1);
    damage(&f, 3, 3, 0, 7);
    g_assert_true(take(viewer, &update));
    g_assert_cmpuint(update.rect_count, ==, 1);
    assert_rect(&update.rects[0], 990, 980, 10, 20);
    display_update_clear(&update);
    for (unsigned i = 0; i < 100; i++)
        damage(&f, 10 * i, (i * 37 % 100) * 10, 3, 3);
    g_assert_true(take(viewer, &update));
    g_assert_cmpuint(update.rect_count, ==, DISPLAY_MAX_RECTS);
    for (unsigned i = 0; i < 100; i++)
        g_assert_true(covered(&update, 10 * i + 2, (i * 37 % 100) * 10 + 2));
    display_update_clear(&update);
    display_remove_viewer(viewer);
    tear_down(&f);
}

static void test_viewer_is_woken_once(void)
{
    g_autoptr(display_surface_t) surface = display_surface_create(64, 64);
    struct display_viewer *one, *two;
    struct display_update update;
    struct fixture f;

    set_up(&f, 1);
    one = add_viewer(&f);
    turn();
    g_assert_cmpuint(f.changes, ==, 1);
    for (unsigned i = 0; i < 100; i++)
        display_show(f.source, 0, surface);
    turn();
    g_assert_cmpuint(f.changes, ==, 1); /* it has not taken anything yet */
    take(one, &update);
    display_update_clear(&update);
    damage(&f, 0, 0, 1, 1);
    damage(&f, 0, 0, 1, 1);
    turn();
    g_assert_cmpuint(f.changes, ==, 2);
    two = add_viewer(&f); /* each has damage of its own */
    g_assert_true(take(one, &update));
    g_assert_cmpuint(update.rects[0].width, ==, 1);
    display_update_clear(&update);
    g_assert_true(take(two, &update));
    g_assert_cmpuint(update.rects[0].width, ==, 64);
    display_update_clear(&update);
    display_remove_viewer(one);
    display_remove_viewer(two);
    tear_down(&f);
}

static void test_surface_outlives_its_source(void)
{
    struct display_surface *surface = display_surface_create(8, 8);
    struct display_update update;
    struct display_viewer *viewer;
    struct fixture f;

    set_up(&f, 1);
    viewer = add_viewer(&f);
    display_show(f.source, 0, surface);
    display_surface_unref(surface);
    take(viewer, &update);
    display_remove_source(f.source);
    f.source = NULL;
    memset(update.surface->pixels, 0xff, 8 * 32);
    display_update_clear(&update);
    g_assert_null(display_look(f.display, 0));
    g_assert_false(display_request_size(f.display, 0, 10, 10));
    display_remove_viewer(viewer);
    tear_down(&f);
}

static void test_cursor(void)
{
    g_autoptr(display_surface_t) cursor = display_surface_create(64, 64);
    struct display_update update;
    struct display_viewer *viewer;
    struct fixture f;

    set_up(&f, 1);
    viewer = add_viewer(&f);
    take(viewer, &update);
    display_set_cursor(f.source, 0, cursor, 3, 4);
    g_assert_true(take(viewer, &update));
    g_assert_true(update.cursor_changed && !update.cursor_moved && update.cursor == cursor);
    g_assert_cmpuint(update.hot_x, ==, 3);
    g_assert_cmpuint(update.hot_y, ==, 4);
    display_update_clear(&update);
    display_move_cursor(f.source, 0, -5, 7);
    display_move_cursor(f.source, 0, -6, 7);
    g_assert_true(take(viewer, &update));
    g_assert_true(update.cursor_moved && !update.cursor_changed);
    g_assert_cmpint(update.cursor_x, ==, -6);
    display_update_clear(&update);
    display_move_cursor(f.source, 0, -6, 7); /* where it is */
    g_assert_false(take(viewer, &update));
    display_update_clear(&update);
    display_remove_viewer(viewer);
    tear_down(&f);
}

static void test_size_requests(void)
{
    struct display_source *second;
    g_autoptr(GError) error = NULL;
    struct fixture f, g = {0};

    set_up(&f, 2);
    g_assert_true(display_request_size(f.display, 1, 800, 600));
    g_assert_true(display_request_size(f.display, 1, 1024, 768));
    turn();
    g_assert_cmpuint(f.resizes, ==, 1); /* the last wish */
    g_assert_cmpuint(f.resized, ==, 1);
    g_assert_cmpuint(f.width, ==, 1024);
    g_assert_false(display_request_size(f.display, 2, 800, 600));
    g_assert_false(display_request_size(f.display, 0, 800, 0));
    g_assert_false(display_request_size(f.display, 0, DISPLAY_MAX_SIZE + 1, 1));

    second = display_add_source(f.display, 14, loop_main(), &source_ops, &g, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(display_scanouts(f.display), ==, 16);
    g_assert_true(display_request_size(f.display, 5, 0, 0));
    turn();
    g_assert_cmpuint(g.resized, ==, 3);
    g_assert_null(display_add_source(f.display, 1, loop_main(), &source_ops, &g, &error));
    g_assert_nonnull(strstr(error->message, "16 are possible"));
    display_remove_source(second);
    tear_down(&f);
}

/* ---- input ---- */

struct device {
    struct display_input *input;
    unsigned count;
    struct display_event last;
};

static void on_event(void *opaque, const struct display_event *event)
{
    struct device *device = opaque;

    device->count++;
    device->last = *event;
}
static const struct display_input_ops input_ops = {on_event};

static void add_device(struct fixture *f, struct device *device, unsigned kinds, int scanout)
{
    *device = (struct device){
        display_add_input(f->display, kinds, scanout, loop_main(), &input_ops, device)};
    g_assert_nonnull(device->input);
}

static bool send(struct fixture *f, enum display_event_type type, unsigned code, int32_t value)
{
    struct display_event event = {.type = type, .code = code, .value = value};
    bool taken = display_send(f->display, &event);

    turn();
    return taken;
}

static void test_input_goes_by_kind(void)
{
    struct device keys, mouse, tablet;
    struct fixture f;

    set_up(&f, 1);
    add_device(&f, &keys, DISPLAY_KEYS, -1);
    add_device(&f, &mouse, DISPLAY_RELATIVE, -1);
    add_device(&f, &tablet, DISPLAY_ABSOLUTE, 0);
    g_assert_false(send(&f, DISPLAY_KEY, KEY_A, 1)); /* nobody listens yet */
    g_assert_cmpuint(display_input_kinds(f.display), ==, 0);
    display_input_set_active(keys.input, true);
    display_input_set_active(mouse.input, true);
    g_assert_cmpuint(display_input_kinds(f.display), ==, DISPLAY_KEYS | DISPLAY_RELATIVE);
    g_assert_true(send(&f, DISPLAY_KEY, KEY_A, 1));
    g_assert_cmpuint(keys.last.code, ==, KEY_A);
    g_assert_true(send(&f, DISPLAY_BUTTON, BTN_LEFT, 1));
    g_assert_cmpuint(mouse.last.code, ==, BTN_LEFT);
    g_assert_false(send(&f, DISPLAY_POSITION, 0, 0));
    display_input_set_active(tablet.input, true);
    g_assert_true(send(&f, DISPLAY_POSITION, 0, 0));
    g_assert_true(send(&f, DISPLAY_BUTTON, BTN_RIGHT, 1)); /* with what moved last */
    g_assert_cmpuint(tablet.last.code, ==, BTN_RIGHT);
    g_assert_true(send(&f, DISPLAY_MOTION, 0, 0));
    g_assert_true(send(&f, DISPLAY_WHEEL, 0, 0));
    g_assert_cmpuint(mouse.last.type, ==, DISPLAY_WHEEL);
    g_assert_false(send(&f, DISPLAY_TOUCH_DOWN, 0, 0));
    keys.count = mouse.count = tablet.count = 0;
    g_assert_true(send(&f, DISPLAY_FRAME, 0, 0));
    g_assert_cmpuint(keys.count + mouse.count + tablet.count, ==, 3);
    g_assert_false(send(&f, DISPLAY_FRAME, 0, 0)); /* nothing happened since */
    display_remove_input(keys.input);
    display_remove_input(mouse.input);
    display_remove_input(tablet.input);
    tear_down(&f);
}

static void test_input_by_scanout(void)
{
    struct display_event event = {.type = DISPLAY_POSITION, .scanout = 1};
    struct device first, second;
    struct fixture f;

    set_up(&f, 2);
    add_device(&f, &first, DISPLAY_ABSOLUTE, 0);
    add_device(&f, &second, DISPLAY_ABSOLUTE, 1);
    display_input_set_active(first.input, true);
    g_assert_false(display_send(f.display, &event));
    display_input_set_active(second.input, true);
    g_assert_true(display_send(f.display, &event));
    turn();
    g_assert_cmpuint(first.count, ==, 0);
    g_assert_cmpuint(second.count, ==, 1);
    display_remove_input(first.input);
    display_remove_input(second.input);
    tear_down(&f);
}

static void test_input_overflow_releases_all(void)
{
    struct device keys;
    struct fixture f;

    set_up(&f, 1);
    add_device(&f, &keys, DISPLAY_KEYS, -1);
    display_input_set_active(keys.input, true);
    for (unsigned i = 0; i < 513; i++)
        display_send(f.display, &(struct display_event){.type = DISPLAY_KEY, .code = KEY_B});
    turn();
    g_assert_cmpuint(keys.count, ==, 1);
    g_assert_cmpint(keys.last.type, ==, DISPLAY_RELEASE_ALL);
    g_assert_true(send(&f, DISPLAY_KEY, KEY_C, 1)); /* and on it goes */
    g_assert_cmpuint(keys.last.code, ==, KEY_C);
    display_input_set_leds(keys.input, 1 << LED_CAPSL);
    g_assert_cmpuint(display_leds(f.display), ==, 1 << LED_CAPSL);
    display_remove_input(keys.input);
    g_assert_cmpuint(display_leds(f.display), ==, 0);
    tear_down(&f);
}

/* ---- files ---- */

static char *make_folder(void)
{
    g_autoptr(GError) error = NULL;
    char *folder = g_dir_make_tmp("lodge-display-XXXXXX", &error);

    g_assert_no_error(error);
    return folder;
}

static struct display_surface *make_picture(void)
{
    struct display_surface *surface = display_surface_create(3, 2);
    static const uint32_t pixels[6] = {0x00ff0000, 0x0000ff00, 0x000000ff,
                                       0xff123456, 0x00ffffff, 0};

    memcpy(surface->pixels, pixels, sizeof(pixels));
    return surface;
}

static void test_ppm(void)
{
    static const uint8_t expected[] =
        "P6\n3 2\n255\n\xff\0\0\0\xff\0\0\0\xff\x12\x34\x56\xff\xff\xff\0\0";
    g_autoptr(display_surface_t) surface = make_picture();
    g_autofree char *folder = make_folder();
    g_autofree char *path = g_build_filename(folder, "a.ppm", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    gsize length;

    g_assert_true(display_write_picture(surface, path, &error));
    g_assert_true(g_file_get_contents(path, &text, &length, &error));
    g_assert_cmpmem(text, length, expected, sizeof(expected));
    g_unlink(path);
    g_assert_cmpint(g_rmdir(folder), ==, 0); /* nothing else was left there */
    g_assert_false(display_write_picture(surface, path, &error));
    g_assert_nonnull(strstr(error->message, path));
}

static void test_png(void)
{
#ifdef HAVE_LIBPNG
    g_autoptr(display_surface_t) surface = display_surface_create(100, 70);
    g_autofree char *folder = make_folder();
    g_autofree char *path = g_build_filename(folder, "a.png", NULL);
    png_image image = {.version = PNG_IMAGE_VERSION};
    g_autoptr(GError) error = NULL;
    uint8_t pixels[100 * 70 * 3];

    for (unsigned i = 0; i < 100 * 70 * 4; i++)
        surface->pixels[i] = i * 37 + i / 7;
    g_assert_true(display_write_picture(surface, path, &error));
    g_assert_true(png_image_begin_read_from_file(&image, path));
    g_assert_cmpuint(image.width, ==, 100);
    g_assert_cmpuint(image.height, ==, 70);
    image.format = PNG_FORMAT_RGB;
    g_assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
    for (unsigned i = 0; i < 100 * 70; i++)
        for (unsigned c = 0; c < 3; c++)
            g_assert_cmpuint(pixels[3 * i + c], ==, surface->pixels[4 * i + 2 - c]);
    g_unlink(path);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
#else
    g_test_skip("built without libpng");
#endif
}

/* ---- --display ---- */

static struct display_output *open_output(struct fixture *f, const char *text, GError **error)
{
    g_autoptr(options_t) options = display_parse(text, error);

    return options ? display_open(f->display, options, error) : NULL;
}

static void test_output_follows(void)
{
    g_autoptr(display_surface_t) surface = make_picture();
    g_autofree char *folder = make_folder();
    g_autofree char *path = g_build_filename(folder, "a.ppm", NULL);
    g_autofree char *text = g_strdup_printf("png,path=%s,interval=10", path);
    g_autoptr(GError) error = NULL;
    g_autofree char *content = NULL;
    struct display_output *output;
    struct fixture f;
    gsize length = 0;

    set_up(&f, 1);
    output = open_output(&f, text, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(display_output_type(output), ==, "png");
    display_show(f.source, 0, surface);
    for (unsigned i = 0; i < 500 && !g_file_test(path, G_FILE_TEST_EXISTS); i++)
        g_usleep(10000);
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
    surface->pixels[0] = 0x77;
    damage(&f, 0, 0, 1, 1);
    display_close(output); /* the last picture is written in any case */
    g_assert_true(g_file_get_contents(path, &content, &length, &error));
    g_assert_cmpint((uint8_t)content[11 + 2], ==, 0x77);
    g_unlink(path);
    g_rmdir(folder);
    tear_down(&f);
}

static void test_output_errors(void)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"jpeg", "none"},
        {"none,path=a.png", "type=none"},
        {"png", "path"},
        {"png,path=a.ppm,scanout=1", "the machine has 1"},
        {"png,path=a.ppm,interval=1", "10 to"},
    };
    struct fixture f;

    set_up(&f, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(open_output(&f, cases[i].text, &error));
        g_assert_nonnull(strstr(error->message, cases[i].expected));
    }
    display_close(open_output(&f, "none", NULL));
    display_close(NULL);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/display/surface-limits", test_surface_limits);
    g_test_add_func("/display/viewer-sees-changes", test_viewer_sees_changes);
    g_test_add_func("/display/damage-is-clipped-and-bounded", test_damage_is_clipped_and_bounded);
    g_test_add_func("/display/viewer-is-woken-once", test_viewer_is_woken_once);
    g_test_add_func("/display/surface-outlives-its-source", test_surface_outlives_its_source);
    g_test_add_func("/display/cursor", test_cursor);
    g_test_add_func("/display/size-requests", test_size_requests);
    g_test_add_func("/display/input/by-kind", test_input_goes_by_kind);
    g_test_add_func("/display/input/by-scanout", test_input_by_scanout);
    g_test_add_func("/display/input/overflow-releases-all", test_input_overflow_releases_all);
    g_test_add_func("/display/ppm", test_ppm);
    g_test_add_func("/display/png", test_png);
    g_test_add_func("/display/fetched-for-who-looks", test_pixels_are_fetched_for_who_looks);
    g_test_add_func("/display/output/follows", test_output_follows);
    g_test_add_func("/display/output/errors", test_output_errors);
    return g_test_run();
}
