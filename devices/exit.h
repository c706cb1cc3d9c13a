/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exit - the debug-exit port: a guest without drivers ends the machine with a status
 *
 * A write of V reports SHUTDOWN_DEBUG_EXIT with status V; the process exit code that users of
 * kvm-unit-tests and other bare-metal tests expect is debug_exit_code(V): odd, so never 0.
 *
 * Threads: created and destroyed on the main thread; the port on vCPU threads.
 */
#ifndef DEVICES_EXIT_H
#define DEVICES_EXIT_H

#include <glib.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/shutdown.h"

#define DEBUG_EXIT_PORTS 4

struct debug_exit;

struct debug_exit_config {
    struct bus *ports;
    uint16_t base; /* LAYOUT_PORT_DEBUG_EXIT */
    struct shutdown_sink shutdown;
};

/* Device "debug-exit". */
struct debug_exit *debug_exit_create(const struct debug_exit_config *config, GError **error);
void debug_exit_destroy(struct debug_exit *debug_exit); /* NULL is allowed */
struct device *debug_exit_device(struct debug_exit *debug_exit);

/* Exit code of a process for the value that the guest wrote; 8 bits, as wait(2) has them. */
static inline int debug_exit_code(int value)
{
    return ((unsigned)value << 1 | 1) & 0xff;
}

#endif
