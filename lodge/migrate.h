/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate - a running machine to another lodge (the source's side; incoming.h has the target's)
 *
 * A thread of its own sends: the connection, RAM in rounds while the guest runs (what was written since
 * a page was sent is sent again), and the waits are its. What touches the machine (tracking, stopping,
 * saving, going on) is done for it by the main thread, in short steps. So neither the guest's devices
 * nor the control socket ever wait for the network.
 *
 * The guest is stopped once what is left can be sent within the downtime limit, at the speed of the
 * round before. Until COMMIT is sent every failure, and migrate_cancel, lets the guest go on here. After
 * it the guest is the target's: it goes on here only if the target says that it failed to start it.
 *
 * Threads: main.
 */
#ifndef LODGE_MIGRATE_H
#define LODGE_MIGRATE_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lodge/machine.h"

struct migrate;

struct migrate_options {
    const char *to;       /* "unix:PATH", "tcp:HOST:PORT" */
    unsigned downtime_ms; /* the guest is stopped when the rest is expected to take no longer */
    uint64_t bandwidth;   /* bytes a second, 0: no limit */
};

/* Begins; false with @error set when it can't. The machine owns what it began. */
bool migrate_start(struct machine *machine, const struct migrate_options *options, GError **error);
/* The guest goes on here; false with @error set when there is nothing to cancel any more. */
bool migrate_cancel(struct machine *machine, GError **error);
/* Before `cont`: after a migration whose end is not known, the disks must be free, which they aren't while
 * the target runs the guest (on this host, or on a file system that knows locks). */
bool migrate_may_continue(struct machine *machine, GError **error);
/* Takes the locks of all disks, or none: false with @error set. */
bool machine_take_disks(struct machine *machine, GError **error);
/* What query-migrate answers. */
JsonObject *migrate_describe(const struct machine *machine);
/* Before the machine is destroyed, and whenever it ended: ends the thread. */
void migrate_destroy(struct machine *machine);

#endif
