/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * types - the list of device types: the only place that knows every one of them
 *
 * A type is a row of one table: its name, what a user reads about it, its option table, and how one
 * is made and put into a machine. `--device TYPE,...`, the short forms (--disk, --net, ...), `lodge
 * devices` and the manual page all come from this table.
 *
 * Thread: main.
 */
#ifndef LODGE_TYPES_H
#define LODGE_TYPES_H

#include <glib.h>
#include <stdbool.h>

#include "vmm/options.h"

struct machine;
struct machine_device;

enum device_type_flags {
    DEVICE_TYPE_SINGLE = 1 << 0, /* at most one a machine */
    DEVICE_TYPE_PCI = 1 << 1,    /* takes a slot */
    DEVICE_TYPE_VIRTIO = 1 << 2, /* takes the keys of every virtio device */
    DEVICE_TYPE_IO = 1 << 3,     /* an I/O thread serves it; every virtio device is such a one */
};

struct device_type {
    const char *name;                  /* "virtio-blk" */
    const char *prefix;                /* of generated ids: "disk" gives disk0, disk1 */
    const char *summary;               /* one line */
    const char *manual;                /* paragraphs */
    const struct option_spec *options; /* the type's own keys */
    const struct option_spec *backend; /* those of a backend that the type does not list itself */
    /* Keys (of the two before) that name or concern the host: a restored machine may have others. */
    const struct option_spec *host;
    unsigned flags;
    /* With these options, needs guest memory that can be mapped more than once; NULL: never does. */
    bool (*shares_memory)(const struct options *options);
    /*
     * Makes the device that @entry describes and attaches it; fills entry->device, object, destroy
     * and (PCI) function. On failure nothing is left behind.
     */
    bool (*create)(struct machine *machine, struct machine_device *entry, GError **error);
};

extern const struct device_type *const device_types[]; /* NULL-terminated */

const struct device_type *device_type_find(const char *name);
/* All keys: those every device takes (id, slot, ...) and the type's own. Lives for ever. */
const struct option_spec *device_type_options(const struct device_type *type);
/* The same with no key required: for changes to a device that there is. Lives for ever. */
const struct option_spec *device_type_change_options(const struct device_type *type);
/* May a restored device of this type have another value of @key than the saved one? */
bool device_type_is_host_key(const struct device_type *type, const char *key);

#endif
