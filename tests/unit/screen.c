/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of lodge/screen: --display and pictures on demand, of a machine that does not run. A KVM without
 * hardware support will do for it; without any, or without pixman, the tests are skipped.
 */
#include <string.h>

#include "backends/display/display.h"
#include "config.h"
#include "lodge/screen.h"

struct fixture {
    struct config *config;
    struct machine *machine;
    GError *error;
};

/* A machine of these words beside what every one needs here. */
static bool set_up(struct fixture *f, const char *gpu, const char *display)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_auto(GStrv) words = NULL;
    struct machine_hooks hooks = {0};

    memset(f, 0, sizeof(*f));
    g_strv_builder_add_many(builder, "--defaults=off", "--allow-software-kvm", "-m", "64", NULL);
    if (gpu)
        g_strv_builder_add_many(builder, "--gpu", NULL);
    if (gpu && *gpu)
        g_strv_builder_add_many(builder, "--device", gpu, NULL);
    if (display)
        g_strv_builder_add_many(builder, "--display", display, NULL);
    words = g_strv_builder_end(builder);
    f->config = config_from_arguments(words, &f->error);
    g_assert_no_error(f->error);
    f->machine = machine_create(f->config, &hooks, &f->error);
    if (!f->machine && f->error->domain != OPTIONS_ERROR) {
        g_test_skip(f->error->message);
        return false;
    }
    return true;
}

static void tear_down(struct fixture *f)
{
    machine_destroy(f->machine);
    config_free(f->config);
    g_clear_error(&f->error);
}

static void assert_error(struct fixture *f, const char *expected)
{
    g_assert_nonnull(f->error);
    if (!strstr(f->error->message, expected))
        g_error("%s: %s", expected, f->error->message);
    g_clear_error(&f->error);
}

static void test_no_screen(void)
{
    struct fixture f;

    if (set_up(&f, NULL, "none")) {
        g_assert_no_error(f.error);
        g_assert_false(screen_dump(f.machine, 0, "/nonexistent/x.ppm", &f.error));
        assert_error(&f, "--gpu");
        g_assert_false(screen_resize(f.machine, 0, 800, 600, &f.error));
        assert_error(&f, "--gpu");
    }
    tear_down(&f);
}

#ifdef HAVE_PIXMAN

static void test_dark_screens(void)
{
    struct fixture f;
    JsonNode *node;

    if (set_up(&f, "virtio-gpu,scanouts=2", NULL)) { /* and the one of --gpu */
        g_assert_no_error(f.error);
        node = screen_query(f.machine);
        g_assert_cmpuint(json_array_get_length(json_node_get_array(node)), ==, 3);
        json_node_unref(node);
        g_assert_false(screen_dump(f.machine, 2, "/nonexistent/x.ppm", &f.error));
        assert_error(&f, "dark");
        g_assert_false(screen_dump(f.machine, 3, "/nonexistent/x.ppm", &f.error));
        assert_error(&f, "the machine has 3");
        g_assert_true(screen_resize(f.machine, 1, 800, 600, &f.error));
        g_assert_true(screen_resize(f.machine, 1, 0, 0, &f.error));
        g_assert_false(screen_resize(f.machine, 1, 800, 0, &f.error));
        assert_error(&f, "unplug");
        g_assert_false(screen_resize(f.machine, 1, DISPLAY_MAX_SIZE + 1, 600, &f.error));
        assert_error(&f, "16384");
    }
    tear_down(&f);
}

static void test_display(void)
{
    struct fixture f;

    if (set_up(&f, "", "png,path=/nonexistent/x.ppm"))
        g_assert_no_error(f.error);
    tear_down(&f);
    if (set_up(&f, "", "png,path=/nonexistent/x.ppm,scanout=1")) {
        g_assert_null(f.machine);
        assert_error(&f, "the machine has 1");
    }
    tear_down(&f);
    if (set_up(&f, "virtio-gpu,scanouts=16", NULL)) {
        g_assert_null(f.machine);
        assert_error(&f, "16 are possible");
    }
    tear_down(&f);
}

#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/screen/none", test_no_screen);
#ifdef HAVE_PIXMAN
    g_test_add_func("/screen/dark", test_dark_screens);
    g_test_add_func("/screen/display", test_display);
#endif
    return g_test_run();
}
