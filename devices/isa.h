/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * isa - what devices on fixed ports have in common: claiming their ports, the lifecycle gate
 *
 * Handlers ask the gate first: what it refuses reads as all ones and drops writes (vmm/device.h). In
 * STOP registers are read without side effects.
 */
#ifndef DEVICES_ISA_H
#define DEVICES_ISA_H

#include <errno.h>
#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/device.h"

static inline bool isa_claim(struct bus *ports, uint16_t base, unsigned count,
                             const struct bus_ops *ops, void *opaque, const char *name,
                             GError **error)
{
    int ret = bus_add(ports, base, count, ops, opaque, name);

    if (ret)
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "%s: ports 0x%x-0x%x: %s", name,
                    base, base + count - 1,
                    ret == -EEXIST ? "another device is there" : g_strerror(-ret));
    return ret == 0;
}

static inline bool isa_may_read(struct device *device)
{
    return device_check(device, DEVICE_OP_REGISTER_READ) != DEVICE_REFUSE;
}

static inline bool isa_may_write(struct device *device)
{
    return device_check(device, DEVICE_OP_REGISTER_WRITE) != DEVICE_REFUSE;
}

/* May a read change the device now? */
static inline bool isa_reads_have_effects(const struct device *device)
{
    return device_rule(device_state(device), DEVICE_OP_REGISTER_WRITE) != DEVICE_REFUSE;
}

#endif
