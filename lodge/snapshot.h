/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot - a machine to a folder, and back
 *
 * The folder has two files: "state", the stream of vmm/snapshot.h (configuration, KVM's state, every
 * device), and "memory", the guest's RAM with holes for pages of zeroes. A restored machine maps
 * "memory" copy-on-write and reads a page when the guest touches it, so a folder can be restored any
 * number of times, and must stay as it is while such a machine runs.
 *
 * Disks and shared folders are not in it: a restored guest goes on with them as they are then.
 * A restored guest gets a new generation id (vmgenid). After a reset it boots what its configuration
 * names, as that is on the host by then.
 *
 * Thread: main.
 */
#ifndef LODGE_SNAPSHOT_H
#define LODGE_SNAPSHOT_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "lodge/machine.h"
#include "vmm/snapshot.h"

/*
 * Saves to the new (or empty) folder @path, complete or not at all. The guest is stopped meanwhile;
 * then goes on if it ran before, unless @stop. On error it is as it was.
 */
bool machine_snapshot(struct machine *machine, const char *path, bool stop, GError **error);

/* For migrations too: could it be saved now (nothing is stopped yet)? All but RAM of a machine whose
 * devices are in STOP_COPY, as a stream of vmm/snapshot.h. The configuration in it, JSON. */
bool machine_may_be_saved(struct machine *machine, GError **error);
GByteArray *machine_state(struct machine *machine, GError **error);
char *machine_saved_config(struct machine *machine);

/* A snapshot to start from. */
struct restore {
    struct snapshot *snapshot;
    int memory_fd;
};

/* Opens and checks all that can be without a machine. NULL with @error set. */
struct restore *restore_open(const char *path, GError **error);
/* The same from a stream alone; memory comes otherwise. */
struct restore *restore_from_stream(const uint8_t *data, size_t size, GError **error);
void restore_close(struct restore *restore); /* NULL is allowed */
/* The saved configuration with the options of @argv over it; its shape can't change. */
struct config *restore_config(const struct restore *restore, char **argv, GError **error);
/* The same of a text; @foreign: from another host, whose files and folders mean nothing here. */
struct config *restore_config_text(const char *text, size_t size, bool foreign, char **argv,
                                   GError **error);
/* Loads KVM's state and the devices, which are in STOP then: all is checked, nothing runs. */
bool restore_load(const struct restore *restore, struct machine *machine, GError **error);
/* For a copy: the same, and a new generation id; the devices of a machine made with that configuration and memory
 * run then, the vCPUs don't yet. */
bool restore_machine(const struct restore *restore, struct machine *machine, GError **error);
/* What tells a copy of a guest that waits for its command from its twins: the fields of a COPY frame
 * (guest-images/protocol.md). The caller owns them; NULL with @error set. */
GByteArray *copy_identity(struct machine *machine, GError **error);
/* What `lodge inspect` prints. The caller owns the node. */
JsonNode *restore_describe(const struct restore *restore);

#endif
