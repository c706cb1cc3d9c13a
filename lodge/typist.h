/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * typist - keys and pointer movements for a guest, one after the other: send-key and pointer
 *
 * What is to be sent is a list of steps, each with a time to wait after it; keys stay down for a while,
 * as guests expect of people. Commands that come while there are steps left queue behind them.
 *
 * Thread: main.
 */
#ifndef LODGE_TYPIST_H
#define LODGE_TYPIST_H

#include <glib.h>
#include <stdbool.h>

#include "vmm/options.h"

struct display;
struct typist;

struct typist *typist_create(struct display *display);
void typist_destroy(struct typist *typist); /* lets go of what it holds; NULL is allowed */

extern const struct option_spec typist_key_arguments[], typist_pointer_arguments[];
/* The commands send-key and pointer; false with @error set: nothing is sent. */
bool typist_send_key(struct typist *typist, const struct options *arguments, GError **error);
bool typist_pointer(struct typist *typist, const struct options *arguments, GError **error);

#endif
