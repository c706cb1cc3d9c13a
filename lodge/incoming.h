/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * incoming - a machine that comes from another lodge: `lodge restore --listen` (migrate.h has the
 * source's side, vmm/migration.h the wire)
 *
 * The greeting comes first, on nobody's time; then the machine is made of it, and a thread receives into
 * its memory while the main loop serves the control socket and signals. The guest runs after the
 * source's COMMIT and never before; whatever fails earlier ends this program, and the guest goes on
 * where it was.
 *
 * Threads: main.
 */
#ifndef LODGE_INCOMING_H
#define LODGE_INCOMING_H

#include <glib.h>
#include <stdbool.h>

#include "lodge/machine.h"

struct incoming;

/* Listens at @address until a lodge has sent its greeting; others are turned away. Blocks, for at most
 * @seconds (0: for ever; then G_IO_ERROR_TIMED_OUT). */
struct incoming *incoming_accept(const char *address, double seconds, GError **error);
void incoming_destroy(struct incoming *incoming); /* NULL is allowed */

/* The machine's configuration with the options of @argv over it. From another host nothing is taken
 * that names something on this one: the options have to. */
struct config *incoming_config(const struct incoming *incoming, char **argv, GError **error);

/*
 * Receives into @machine, made with that configuration while locks on images were deferred
 * (block_defer_locks), until the guest is this program's: devices run, disks are locked, and
 * machine_start is all that is left. @ended is asked now and then; true gives up, as long as the source
 * has not committed.
 */
bool incoming_receive(struct incoming *incoming, struct machine *machine,
                      bool (*ended)(void *opaque), void *opaque, GError **error);
/* Tells the source how it went: the guest runs, or it never has (@why) and goes on there. */
void incoming_tell_running(struct incoming *incoming);
void incoming_tell_failed(struct incoming *incoming, struct machine *machine, const char *why);

#endif
