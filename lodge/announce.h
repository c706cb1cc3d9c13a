/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * announce - tells the networks where a guest is that has come from elsewhere
 *
 * After a migration or a restore the guest's addresses are behind another port of the switch. Each network
 * interface is asked to say so, five times within the first 1.25 s: the first frame may be lost, or the
 * switch's port may not forward yet. A copy that waits for its command gets other addresses and does not.
 *
 * Threads: the main thread.
 */
#ifndef LODGE_ANNOUNCE_H
#define LODGE_ANNOUNCE_H

#include "lodge/machine.h"

/* Begins, once, for a machine that was started. */
void machine_announce(struct machine *machine);
void announce_destroy(struct announce *announce); /* NULL is allowed */

#endif
