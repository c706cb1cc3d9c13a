/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * display - scanouts and those who look at them (contract: display.h)
 *
 * One lock, held for a few assignments. What a viewer has not taken yet is kept with the viewer: a set
 * of rectangles that grows no further than DISPLAY_MAX_RECTS, and some flags. An event file wakes it,
 * written when there is something new and it was not woken already.
 */
#include "backends/display/display.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backends/display/internal.h"
#include "vmm/trace.h"

TRACE_EVENT(display_show, "scanout=%u %ux%u", (unsigned scanout, uint32_t width, uint32_t height),
            scanout, width, height)
TRACE_EVENT(display_damage, "scanout=%u at %u,%u %ux%u",
            (unsigned scanout, uint32_t x, uint32_t y, uint32_t width, uint32_t height), scanout, x,
            y, width, height)

struct display_source {
    struct display *display;
    unsigned first, count;
    struct loop *loop;
    const struct display_source_ops *ops;
    void *opaque;
    int event;
    struct loop_fd *watch;
};

/* What a viewer has not taken of one scanout. */
struct pending {
    uint32_t width, height; /* as it took it last; 0: off */
    bool changed, cursor_changed, cursor_moved;
    unsigned rect_count;
    struct display_rect rects[DISPLAY_MAX_RECTS];
};

struct display_viewer {
    struct display *display;
    loop_fn changed;
    void *opaque;
    bool woken;
    int event;
    struct loop_fd *watch;
    struct pending pending[DISPLAY_MAX_SCANOUTS];
};

/* ---- surfaces ---- */

struct display_surface *display_surface_wrap(uint32_t width, uint32_t height, uint32_t stride,
                                             uint8_t *pixels, void (*release)(void *opaque),
                                             void *opaque)
{
    struct display_surface *surface = g_new0(struct display_surface, 1);

    *surface = (struct display_surface){width, height, stride, pixels, 1, release, opaque};
    return surface;
}

struct display_surface *display_surface_create(uint32_t width, uint32_t height)
{
    uint8_t *pixels;

    if (!width || !height || width > DISPLAY_MAX_SIZE || height > DISPLAY_MAX_SIZE)
        return NULL;
    pixels = g_try_malloc0((gsize)4 * width * height);
    return pixels ? display_surface_wrap(width, height, 4 * width, pixels, g_free, pixels) : NULL;
}

struct display_surface *display_surface_ref(struct display_surface *surface)
{
    __atomic_add_fetch(&surface->references, 1, __ATOMIC_RELAXED);
    return surface;
}

void display_surface_unref(struct display_surface *surface)
{
    if (!surface || __atomic_sub_fetch(&surface->references, 1, __ATOMIC_ACQ_REL))
        return;
    if (surface->release)
        surface->release(surface->opaque);
    g_free(surface);
}

static struct display_surface *ref_or_null(struct display_surface *surface)
{
    return surface ? display_surface_ref(surface) : NULL;
}

/* ---- the display ---- */

struct display *display_create(void)
{
    struct display *display = g_new0(struct display, 1);

    pthread_mutex_init(&display->lock, NULL);
    display->viewers = g_ptr_array_new();
    display->inputs = g_ptr_array_new();
    return display;
}

void display_destroy(struct display *display)
{
    if (!display)
        return;
    g_assert(!display->viewers->len && !display->inputs->len);
    g_ptr_array_unref(display->viewers);
    g_ptr_array_unref(display->inputs);
    pthread_mutex_destroy(&display->lock);
    g_free(display);
}

unsigned display_scanouts(struct display *display)
{
    unsigned count;

    pthread_mutex_lock(&display->lock);
    count = display->count;
    pthread_mutex_unlock(&display->lock);
    return count;
}

static void signal_event(int event)
{
    eventfd_write(event, 1); /* can't fail: nobody writes more than once before it is read */
}

static void wake(struct display_viewer *viewer)
{
    if (!viewer->woken)
        signal_event(viewer->event);
    viewer->woken = true;
}

void display_wake_viewers(struct display *display)
{
    for (guint i = 0; i < display->viewers->len; i++)
        wake(g_ptr_array_index(display->viewers, i));
}

/* ---- damage ---- */

static uint64_t area(const struct display_rect *rect)
{
    return (uint64_t)rect->width * rect->height;
}

static struct display_rect bounds(const struct display_rect *a, const struct display_rect *b)
{
    struct display_rect both = {.x = MIN(a->x, b->x), .y = MIN(a->y, b->y)};

    both.width = MAX(a->x + a->width, b->x + b->width) - both.x;
    both.height = MAX(a->y + a->height, b->y + b->height) - both.y;
    return both;
}

/* Adds @rect; where there is no room, or it costs no area, to the one that grows least by it. */
static void add_rect(struct pending *pending, const struct display_rect *rect)
{
    uint64_t least = UINT64_MAX;
    unsigned best = 0;

    for (unsigned i = 0; i < pending->rect_count; i++) {
        struct display_rect both = bounds(&pending->rects[i], rect);
        uint64_t apart = area(&pending->rects[i]) + area(rect);
        uint64_t growth = area(&both) > apart ? area(&both) - apart : 0;

        if (growth < least) {
            least = growth;
            best = i;
        }
    }
    if (least && pending->rect_count < DISPLAY_MAX_RECTS)
        pending->rects[pending->rect_count++] = *rect;
    else
        pending->rects[best] = bounds(&pending->rects[best], rect);
}

static void set_all_damaged(struct pending *pending, const struct display_surface *surface)
{
    pending->changed = true;
    pending->rect_count = surface ? 1 : 0;
    if (surface)
        pending->rects[0] = (struct display_rect){0, 0, surface->width, surface->height};
}

/* ---- sources ---- */

static void on_source_event(void *opaque)
{
    struct display_source *source = opaque;
    struct display *display = source->display;

    for (unsigned i = 0; i < source->count; i++) {
        struct scanout *scanout = &display->scanouts[source->first + i];
        uint32_t width, height;
        bool wanted;

        pthread_mutex_lock(&display->lock);
        wanted = scanout->wanted;
        scanout->wanted = false;
        width = scanout->wanted_width;
        height = scanout->wanted_height;
        pthread_mutex_unlock(&display->lock);
        if (wanted)
            source->ops->resize(source->opaque, i, width, height);
    }
}

struct display_source *display_add_source(struct display *display, unsigned count,
                                          struct loop *loop, const struct display_source_ops *ops,
                                          void *opaque, GError **error)
{
    struct display_source *source;
    int event;

    if (count > DISPLAY_MAX_SCANOUTS - display->count) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "%u scanouts, and the machine has %u already; %u are possible", count,
                    display->count, DISPLAY_MAX_SCANOUTS);
        return NULL;
    }
    event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "event file: %s",
                    g_strerror(errno));
        return NULL;
    }
    source = g_new0(struct display_source, 1);
    *source =
        (struct display_source){display, display->count, count, loop, ops, opaque, event, NULL};
    pthread_mutex_lock(&display->lock);
    for (unsigned i = 0; i < count; i++)
        display->scanouts[source->first + i] = (struct scanout){.source = source, .index = i};
    display->count += count;
    pthread_mutex_unlock(&display->lock);
    source->watch = loop_eventfd_create(loop, event, on_source_event, source);
    return source;
}

void display_remove_source(struct display_source *source)
{
    if (!source)
        return;
    loop_fd_destroy(source->watch);
    for (unsigned i = 0; i < source->count; i++) {
        display_show(source, i, NULL);
        display_set_cursor(source, i, NULL, 0, 0);
    }
    pthread_mutex_lock(&source->display->lock);
    for (unsigned i = 0; i < source->count; i++)
        source->display->scanouts[source->first + i].source = NULL;
    pthread_mutex_unlock(&source->display->lock);
    close(source->event);
    g_free(source);
}

void display_show(struct display_source *source, unsigned scanout, struct display_surface *surface)
{
    struct display *display = source->display;
    unsigned index = source->first + scanout;
    struct display_surface *old;

    g_assert(scanout < source->count);
    trace_display_show(index, surface ? surface->width : 0, surface ? surface->height : 0);
    pthread_mutex_lock(&display->lock);
    old = display->scanouts[index].surface;
    display->scanouts[index].surface = ref_or_null(surface);
    for (guint i = 0; i < display->viewers->len; i++) {
        struct display_viewer *viewer = g_ptr_array_index(display->viewers, i);

        set_all_damaged(&viewer->pending[index], surface);
        wake(viewer);
    }
    pthread_mutex_unlock(&display->lock);
    display_surface_unref(old);
}

static void add_damage(struct display_source *source, unsigned scanout,
                       const struct display_rect *rect, bool behind)
{
    struct display *display = source->display;
    unsigned index = source->first + scanout;
    struct display_rect clipped = *rect;
    const struct display_surface *surface;

    g_assert(scanout < source->count);
    trace_display_damage(index, rect->x, rect->y, rect->width, rect->height);
    pthread_mutex_lock(&display->lock);
    surface = display->scanouts[index].surface;
    display->scanouts[index].behind |= behind;
    if (surface && rect->x < surface->width && rect->y < surface->height && rect->width &&
        rect->height) {
        clipped.width = MIN(rect->width, surface->width - rect->x);
        clipped.height = MIN(rect->height, surface->height - rect->y);
        for (guint i = 0; i < display->viewers->len; i++) {
            struct display_viewer *viewer = g_ptr_array_index(display->viewers, i);

            add_rect(&viewer->pending[index], &clipped);
            viewer->pending[index].changed = true;
            wake(viewer);
        }
    }
    pthread_mutex_unlock(&display->lock);
}

void display_damage(struct display_source *source, unsigned scanout,
                    const struct display_rect *rect)
{
    add_damage(source, scanout, rect, false);
}

void display_damage_behind(struct display_source *source, unsigned scanout,
                           const struct display_rect *rect)
{
    add_damage(source, scanout, rect, true);
}

void display_set_cursor(struct display_source *source, unsigned scanout,
                        struct display_surface *cursor, uint32_t hot_x, uint32_t hot_y)
{
    struct display *display = source->display;
    unsigned index = source->first + scanout;
    struct scanout *s = &display->scanouts[index];
    struct display_surface *old;

    g_assert(scanout < source->count);
    pthread_mutex_lock(&display->lock);
    old = s->cursor;
    s->cursor = ref_or_null(cursor);
    s->hot_x = hot_x;
    s->hot_y = hot_y;
    for (guint i = 0; i < display->viewers->len; i++) {
        struct display_viewer *viewer = g_ptr_array_index(display->viewers, i);

        viewer->pending[index].cursor_changed = true;
        wake(viewer);
    }
    pthread_mutex_unlock(&display->lock);
    display_surface_unref(old);
}

void display_move_cursor(struct display_source *source, unsigned scanout, int32_t x, int32_t y)
{
    struct display *display = source->display;
    unsigned index = source->first + scanout;
    struct scanout *s = &display->scanouts[index];

    g_assert(scanout < source->count);
    pthread_mutex_lock(&display->lock);
    if (s->cursor_x != x || s->cursor_y != y) {
        s->cursor_x = x;
        s->cursor_y = y;
        for (guint i = 0; i < display->viewers->len; i++) {
            struct display_viewer *viewer = g_ptr_array_index(display->viewers, i);

            viewer->pending[index].cursor_moved = true;
            wake(viewer);
        }
    }
    pthread_mutex_unlock(&display->lock);
}

/* ---- viewers ---- */

static void on_viewer_event(void *opaque)
{
    struct display_viewer *viewer = opaque;

    viewer->changed(viewer->opaque);
}

struct display_viewer *display_add_viewer(struct display *display, struct loop *loop,
                                          loop_fn changed, void *opaque)
{
    struct display_viewer *viewer;
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (event < 0)
        return NULL;
    viewer = g_new0(struct display_viewer, 1);
    viewer->display = display;
    viewer->changed = changed;
    viewer->opaque = opaque;
    viewer->event = event;
    viewer->watch = loop_eventfd_create(loop, event, on_viewer_event, viewer);
    pthread_mutex_lock(&display->lock);
    for (unsigned i = 0; i < DISPLAY_MAX_SCANOUTS; i++) {
        set_all_damaged(&viewer->pending[i], display->scanouts[i].surface);
        viewer->pending[i].cursor_changed = viewer->pending[i].cursor_moved = true;
    }
    g_ptr_array_add(display->viewers, viewer);
    wake(viewer);
    pthread_mutex_unlock(&display->lock);
    return viewer;
}

void display_remove_viewer(struct display_viewer *viewer)
{
    if (!viewer)
        return;
    pthread_mutex_lock(&viewer->display->lock);
    g_ptr_array_remove(viewer->display->viewers, viewer);
    pthread_mutex_unlock(&viewer->display->lock);
    loop_fd_destroy(viewer->watch);
    close(viewer->event);
    g_free(viewer);
}

struct refresh {
    struct display *display;
    unsigned scanout;
};

/* On the loop of the source, which can't go away meanwhile. */
static void refresh_on_loop(void *opaque)
{
    const struct refresh *refresh = opaque;
    struct scanout *scanout = &refresh->display->scanouts[refresh->scanout];
    const struct display_source *source;

    pthread_mutex_lock(&refresh->display->lock);
    source = scanout->behind ? scanout->source : NULL;
    scanout->behind = false;
    pthread_mutex_unlock(&refresh->display->lock);
    if (source)
        source->ops->refresh(source->opaque, scanout->index);
}

/* Has the source fetch what was damaged and nobody looked at. */
static void refresh_scanout(struct display *display, unsigned scanout)
{
    struct refresh refresh = {display, scanout};
    const struct scanout *s = &display->scanouts[scanout];
    struct loop *loop;

    pthread_mutex_lock(&display->lock);
    loop = s->behind && s->source ? s->source->loop : NULL;
    pthread_mutex_unlock(&display->lock);
    if (loop)
        loop_call(loop, refresh_on_loop, &refresh);
}

bool display_take(struct display_viewer *viewer, unsigned scanout, struct display_update *update)
{
    struct display *display = viewer->display;
    struct pending *pending;
    const struct scanout *s;
    bool changed;

    memset(update, 0, sizeof(*update));
    if (scanout >= DISPLAY_MAX_SCANOUTS)
        return false;
    pending = &viewer->pending[scanout];
    pthread_mutex_lock(&display->lock);
    s = &display->scanouts[scanout];
    viewer->woken = false;
    changed = pending->changed || pending->cursor_changed || pending->cursor_moved;
    update->surface = ref_or_null(s->surface);
    update->cursor = ref_or_null(s->cursor);
    update->hot_x = s->hot_x;
    update->hot_y = s->hot_y;
    update->cursor_x = s->cursor_x;
    update->cursor_y = s->cursor_y;
    update->cursor_changed = pending->cursor_changed;
    update->cursor_moved = pending->cursor_moved;
    update->rect_count = pending->rect_count;
    memcpy(update->rects, pending->rects, sizeof(update->rects));
    *pending = (struct pending){.width = pending->width, .height = pending->height};
    pthread_mutex_unlock(&display->lock);
    refresh_scanout(display, scanout); /* all that was taken as damage, and perhaps more */

    uint32_t width = update->surface ? update->surface->width : 0;
    uint32_t height = update->surface ? update->surface->height : 0;
    update->mode_changed = pending->width != width || pending->height != height;
    pending->width = width;
    pending->height = height;
    return changed;
}

void display_update_clear(struct display_update *update)
{
    g_clear_pointer(&update->surface, display_surface_unref);
    g_clear_pointer(&update->cursor, display_surface_unref);
}

struct display_surface *display_look(struct display *display, unsigned scanout)
{
    struct display_surface *surface = NULL;

    pthread_mutex_lock(&display->lock);
    if (scanout < display->count)
        surface = ref_or_null(display->scanouts[scanout].surface);
    pthread_mutex_unlock(&display->lock);
    if (surface)
        refresh_scanout(display, scanout);
    return surface;
}

bool display_request_size(struct display *display, unsigned scanout, uint32_t width,
                          uint32_t height)
{
    struct scanout *s;
    bool there;

    if (width > DISPLAY_MAX_SIZE || height > DISPLAY_MAX_SIZE || !width != !height)
        return false;
    pthread_mutex_lock(&display->lock);
    there = scanout < display->count && display->scanouts[scanout].source;
    if (there) {
        s = &display->scanouts[scanout];
        s->wanted = true;
        s->wanted_width = width;
        s->wanted_height = height;
        signal_event(s->source->event);
    }
    pthread_mutex_unlock(&display->lock);
    return there;
}
