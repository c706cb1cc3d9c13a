/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vnc_private - between vnc.c (options, sockets) and vnc_viewer.c (one connection); nobody else includes
 * it */
#ifndef BACKENDS_DISPLAY_VNC_PRIVATE_H
#define BACKENDS_DISPLAY_VNC_PRIVATE_H

#include "backends/display/display.h"

struct vnc_settings {
    struct display *display;
    unsigned scanout;
    bool view_only;
    char *passwords[2]; /* none, or one; NULL-terminated */
};

struct vnc_viewer;

/* Before any viewer; main thread. False with @error set: LibVNCServer is not there. */
bool vnc_load_library(GError **error);

/*
 * Serves the connection @fd (owned from now on, also on failure) on a thread of its own. @gone is
 * called on that thread, once, when the connection has ended; the viewer is to be destroyed then, on
 * another thread. @settings must outlive it. NULL with @error set: no thread, no descriptor.
 */
struct vnc_viewer *vnc_viewer_create(const struct vnc_settings *settings, int fd,
                                     void (*gone)(void *opaque, struct vnc_viewer *viewer),
                                     void *opaque, GError **error);
/* Ends the connection whatever it is doing, and waits for its thread. Any thread but the viewer's. */
void vnc_viewer_destroy(struct vnc_viewer *viewer);

#endif
