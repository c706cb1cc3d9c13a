/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * screen - the machine's screens: what --display opens, and pictures on demand
 *
 * Thread: main.
 */
#ifndef LODGE_SCREEN_H
#define LODGE_SCREEN_H

#include "lodge/machine.h"

/* Opens what --display asks for, when all devices are there. */
bool screen_open(struct machine *machine, GError **error);
void screen_close(struct machine *machine); /* before the devices go */

/* Writes what @scanout shows to @path. */
bool screen_dump(struct machine *machine, unsigned scanout, const char *path, GError **error);
/* Asks the guest for another size; 0 x 0 unplugs the screen. */
bool screen_resize(struct machine *machine, unsigned scanout, unsigned width, unsigned height,
                   GError **error);
JsonNode *screen_query(struct machine *machine); /* for query-displays */

#endif
