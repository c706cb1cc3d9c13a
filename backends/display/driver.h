/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * driver - what a kind of --display provides; private to backends/display
 *
 * A driver attaches viewers to the display, and runs them where they keep nobody waiting: a thread of
 * its own (vmm/loop) unless it is done at once.
 */
#ifndef BACKENDS_DISPLAY_DRIVER_H
#define BACKENDS_DISPLAY_DRIVER_H

#include "backends/display/display.h"

struct display_driver {
    const char *type;
    const char *const *keys; /* of display_options that it takes beside type; NULL-terminated */
    /* Its state, or NULL with @error set. */
    void *(*open)(struct display *display, const struct options *options, GError **error);
    void (*close)(void *state);
};

extern const struct display_driver display_none, display_png, display_vnc, display_sdl;

#endif
