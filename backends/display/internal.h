/* SPDX-License-Identifier: GPL-2.0-or-later */
/* internal - what display.c and input.c share of struct display; private to them */
#ifndef BACKENDS_DISPLAY_INTERNAL_H
#define BACKENDS_DISPLAY_INTERNAL_H

#include <pthread.h>

#include "backends/display/display.h"

struct scanout {
    struct display_source *source;
    unsigned index; /* of the source's */
    bool behind;    /* the surface, of what was damaged: ops->refresh */
    struct display_surface *surface, *cursor;
    uint32_t hot_x, hot_y;
    int32_t cursor_x, cursor_y;
    bool wanted; /* a size that the source is to be told */
    uint32_t wanted_width, wanted_height;
};

struct display {
    pthread_mutex_t lock; /* of everything here; never held in a callback */
    unsigned count;
    struct scanout scanouts[DISPLAY_MAX_SCANOUTS];
    GPtrArray *viewers; /* struct display_viewer * */
    GPtrArray *inputs;  /* struct display_input *, in order of addition */
    unsigned pointer;   /* the kind that moved last, or 0 */
};

/* Wakes every viewer that was not woken since it took something last. With the lock held. */
void display_wake_viewers(struct display *display);

#endif
