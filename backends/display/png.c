/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * png - --display png,path=FILE: a file that follows what a scanout shows
 *
 * For runs that nobody watches, and the simplest viewer there is. A thread of its own writes the file
 * (picture.c) when the picture changed, at most once an interval; what changes meanwhile is in the next
 * one. The last picture stays when the scanout goes dark and when lodge ends. The cursor is not in it.
 */
#include <errno.h>
#include <gio/gio.h>

#include "backends/display/driver.h"
#include "config.h"
#include "vmm/log.h"

#define NS_PER_MS G_GINT64_CONSTANT(1000000)

struct png {
    struct display *display;
    struct display_viewer *viewer;
    struct loop *loop;
    struct loop_timer *timer;
    char *path;
    unsigned scanout;
    int64_t interval_ns;
    int64_t written; /* when the file was written last, loop time */
    bool failed;     /* it was said that it can't be written */
    int error;       /* errno of the start */
};

static void write_file(struct png *png, const struct display_surface *surface)
{
    g_autoptr(GError) error = NULL;

    png->written = loop_now_ns();
    if (display_write_picture(surface, png->path, &error)) {
        png->failed = false;
        return;
    }
    if (!png->failed)
        log_warn("display", "png: %s", error->message);
    png->failed = true;
}

/* Takes the picture now, or when the interval is over. */
static void look(void *opaque)
{
    struct png *png = opaque;
    struct display_update update;

    if (png->written && loop_now_ns() < png->written + png->interval_ns) {
        loop_timer_set(png->timer, png->written + png->interval_ns);
        return;
    }
    display_take(png->viewer, png->scanout, &update);
    if (update.surface && update.rect_count)
        write_file(png, update.surface);
    display_update_clear(&update);
}

static void start(void *opaque)
{
    struct png *png = opaque;

    png->viewer = display_add_viewer(png->display, png->loop, look, png);
    png->error = errno;
}

static void stop(void *opaque)
{
    struct png *png = opaque;

    if (png->viewer) {
        png->written = 0;
        look(png);
    }
    display_remove_viewer(png->viewer);
    loop_timer_destroy(png->timer);
}

static void close_png(void *state)
{
    struct png *png = state;

    loop_call(png->loop, stop, png);
    loop_destroy(png->loop);
    g_free(png->path);
    g_free(png);
}

static bool check(struct display *display, const struct options *options, GError **error)
{
    const char *path = options_string(options, "path");
    unsigned scanouts = display_scanouts(display);

    if (!path) {
        options_set_error(error, options, "path", "is needed: the file to write");
        return false;
    }
#ifndef HAVE_LIBPNG
    if (!g_str_has_suffix(path, ".ppm")) {
        options_set_error(error, options, "path",
                          "this lodge was built without libpng (Debian: libpng-dev); "
                          "name the file .ppm");
        return false;
    }
#endif
    if (options_uint(options, "scanout") < scanouts)
        return true;
    options_set_error(error, options, "scanout", "the machine has %u", scanouts);
    return false;
}

static void *open_png(struct display *display, const struct options *options, GError **error)
{
    struct loop *loop;
    struct png *png;

    if (!check(display, options, error))
        return NULL;
    loop = loop_create("display-png", error);
    if (!loop)
        return NULL;
    png = g_new0(struct png, 1);
    png->loop = loop;
    png->path = g_strdup(options_string(options, "path"));
    png->scanout = options_uint(options, "scanout");
    png->interval_ns = (int64_t)options_uint(options, "interval") * NS_PER_MS;
    png->display = display;
    png->timer = loop_timer_create(loop, look, png);
    loop_call(loop, start, png);
    if (png->viewer)
        return png;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(png->error), "%s: event file: %s",
                options_what(options), g_strerror(png->error));
    close_png(png);
    return NULL;
}

static const char *const keys[] = {"path", "scanout", "interval", NULL};
const struct display_driver display_png = {"png", keys, open_png, close_png};
