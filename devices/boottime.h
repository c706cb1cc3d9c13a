/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * boottime - port 0x80: when the guest reached which step, from the start of this process
 *
 * A write of a code below BOOTTIME_CODES is recorded with its time: codes 0x00-0x1f are firmware's,
 * 0x20-0x3f a loader's, 0x40-0x5f the kernel's, 0x60-0x7f user space's. Each code keeps its first
 * and last time and a count, so that a kernel that uses the port for delays costs no memory.
 *
 * Threads: created and destroyed on the main thread; the port on vCPU threads; reading from any.
 */
#ifndef DEVICES_BOOTTIME_H
#define DEVICES_BOOTTIME_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/device.h"

#define BOOTTIME_CODES 0x80

struct boottime;

struct boottime_config {
    struct bus *ports;
    uint16_t base; /* LAYOUT_PORT_BOOT_TIMING */
};

struct boottime_entry {
    uint64_t count;            /* 0: never written */
    int64_t first_ns, last_ns; /* since the process started */
};

/* Device "boot-timing". */
struct boottime *boottime_create(const struct boottime_config *config, GError **error);
void boottime_destroy(struct boottime *boottime); /* NULL is allowed */
struct device *boottime_device(struct boottime *boottime);

struct boottime_entry boottime_get(const struct boottime *boottime, uint8_t code);
const char *boottime_phase(uint8_t code); /* "firmware", "loader", "kernel", "user" */
/* Nanoseconds since the process started, as in the table: for the host's own steps. */
int64_t boottime_now_ns(void);
/* Adds "boot-timing": [{"code", "phase", "first-ns", "last-ns", "count"}, ...] by time to @object. */
void boottime_to_json(const struct boottime *boottime, JsonObject *object);

#endif
