/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input - from those who type and point to the guest's input devices (contract: display.h)
 *
 * Each device has a queue of QUEUE events and an event file that wakes its loop. When the queue is full
 * all of it is forgotten and DISPLAY_RELEASE_ALL takes its place, so that no key is down for ever.
 */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backends/display/internal.h"
#include "vmm/trace.h"

TRACE_EVENT(display_event, "type=%u scanout=%u code=%u value=%d at %d,%d taken=%d",
            (const struct display_event *event, bool taken), event->type, event->scanout,
            event->code, event->value, event->x, event->y, taken)

#define QUEUE 512u

struct display_input {
    struct display *display;
    unsigned kinds;
    int scanout; /* -1: all */
    const struct display_input_ops *ops;
    void *opaque;
    bool active;
    bool unfinished; /* events since the last FRAME */
    uint32_t leds;
    unsigned first, count;
    struct display_event events[QUEUE];
    int event;
    struct loop_fd *watch;
};

/* ---- the device's side ---- */

static void on_events(void *opaque)
{
    struct display_input *input = opaque;
    struct display *display = input->display;
    struct display_event event;
    bool there = true;

    for (unsigned n = 0; n < QUEUE && there; n++) {
        pthread_mutex_lock(&display->lock);
        there = input->count > 0;
        if (there) {
            event = input->events[input->first];
            input->first = (input->first + 1) % QUEUE;
            input->count--;
        }
        pthread_mutex_unlock(&display->lock);
        if (there)
            input->ops->event(input->opaque, &event);
    }
    if (there)
        eventfd_write(input->event, 1); /* the others' turn first */
}

struct display_input *display_add_input(struct display *display, unsigned kinds, int scanout,
                                        struct loop *loop, const struct display_input_ops *ops,
                                        void *opaque)
{
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct display_input *input;

    if (event < 0)
        return NULL;
    input = g_new0(struct display_input, 1);
    input->display = display;
    input->kinds = kinds;
    input->scanout = scanout;
    input->ops = ops;
    input->opaque = opaque;
    input->event = event;
    input->watch = loop_eventfd_create(loop, event, on_events, input);
    pthread_mutex_lock(&display->lock);
    g_ptr_array_add(display->inputs, input);
    pthread_mutex_unlock(&display->lock);
    return input;
}

void display_remove_input(struct display_input *input)
{
    if (!input)
        return;
    pthread_mutex_lock(&input->display->lock);
    g_ptr_array_remove(input->display->inputs, input);
    pthread_mutex_unlock(&input->display->lock);
    loop_fd_destroy(input->watch);
    close(input->event);
    g_free(input);
}

void display_input_set_active(struct display_input *input, bool active)
{
    pthread_mutex_lock(&input->display->lock);
    input->active = active;
    if (!active) {
        input->count = 0;
        input->unfinished = false;
    }
    pthread_mutex_unlock(&input->display->lock);
}

void display_input_set_leds(struct display_input *input, uint32_t leds)
{
    pthread_mutex_lock(&input->display->lock);
    if (input->leds != leds) {
        input->leds = leds;
        display_wake_viewers(input->display);
    }
    pthread_mutex_unlock(&input->display->lock);
}

/* ---- the sender's side ---- */

static void put(struct display_input *input, const struct display_event *event)
{
    static const struct display_event release_all = {.type = DISPLAY_RELEASE_ALL};

    if (input->count == QUEUE) {
        input->count = input->first = 0;
        event = &release_all;
    }
    input->events[(input->first + input->count) % QUEUE] = *event;
    if (!input->count++)
        eventfd_write(input->event, 1);
}

/* The first active device that has one of @kinds and is for @scanout. */
static struct display_input *find(struct display *display, unsigned kinds, unsigned scanout)
{
    for (guint i = 0; i < display->inputs->len; i++) {
        struct display_input *input = g_ptr_array_index(display->inputs, i);

        if (input->active && input->kinds & kinds &&
            (input->scanout < 0 || (unsigned)input->scanout == scanout))
            return input;
    }
    return NULL;
}

/* Events that concern every device: the end of a group, and letting go. */
static bool send_to_all(struct display *display, const struct display_event *event)
{
    bool taken = false;

    for (guint i = 0; i < display->inputs->len; i++) {
        struct display_input *input = g_ptr_array_index(display->inputs, i);

        if (!input->active || (event->type == DISPLAY_FRAME && !input->unfinished))
            continue;
        put(input, event);
        input->unfinished = false;
        taken = true;
    }
    return taken;
}

static struct display_input *choose(struct display *display, const struct display_event *event)
{
    struct display_input *input = NULL;

    switch (event->type) {
    case DISPLAY_KEY:
        return find(display, DISPLAY_KEYS, event->scanout);
    case DISPLAY_MOTION:
    case DISPLAY_POSITION: {
        unsigned kind = event->type == DISPLAY_MOTION ? DISPLAY_RELATIVE : DISPLAY_ABSOLUTE;

        input = find(display, kind, event->scanout);
        if (input)
            display->pointer = kind;
        return input;
    }
    case DISPLAY_BUTTON:
    case DISPLAY_WHEEL:
        if (display->pointer)
            input = find(display, display->pointer, event->scanout);
        if (!input)
            input = find(display, DISPLAY_ABSOLUTE, event->scanout);
        return input ? input : find(display, DISPLAY_RELATIVE, event->scanout);
    case DISPLAY_TOUCH_DOWN:
    case DISPLAY_TOUCH_MOVE:
    case DISPLAY_TOUCH_UP:
        return find(display, DISPLAY_TOUCH, event->scanout);
    default:
        return NULL;
    }
}

bool display_send(struct display *display, const struct display_event *event)
{
    bool taken;

    pthread_mutex_lock(&display->lock);
    if (event->type == DISPLAY_FRAME || event->type == DISPLAY_RELEASE_ALL) {
        taken = send_to_all(display, event);
    } else {
        struct display_input *input = choose(display, event);

        taken = input != NULL;
        if (input) {
            put(input, event);
            input->unfinished = true;
        }
    }
    pthread_mutex_unlock(&display->lock);
    trace_display_event(event, taken);
    return taken;
}

static int32_t to_position(uint32_t at, uint32_t size)
{
    return ((uint64_t)MIN(at, size - 1) * 2 + 1) * DISPLAY_MAX_POSITION / (2 * (uint64_t)size);
}

void display_to_position(uint32_t width, uint32_t height, uint32_t x, uint32_t y,
                         struct display_event *event)
{
    event->x = to_position(x, width);
    event->y = to_position(y, height);
}

unsigned display_input_kinds(struct display *display)
{
    unsigned kinds = 0;

    pthread_mutex_lock(&display->lock);
    for (guint i = 0; i < display->inputs->len; i++) {
        const struct display_input *input = g_ptr_array_index(display->inputs, i);

        kinds |= input->active ? input->kinds : 0;
    }
    pthread_mutex_unlock(&display->lock);
    return kinds;
}

uint32_t display_leds(struct display *display)
{
    uint32_t leds = 0;

    pthread_mutex_lock(&display->lock);
    for (guint i = 0; i < display->inputs->len; i++) {
        const struct display_input *input = g_ptr_array_index(display->inputs, i);

        leds |= input->leds;
    }
    pthread_mutex_unlock(&display->lock);
    return leds;
}
