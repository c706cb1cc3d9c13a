/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serial - a 16550A serial port (National Semiconductor PC16550D) on ports
 *
 * Stock driver: 8250. Eight ports from @base, an ISA interrupt, a char backend behind it. Contract
 * and limits: serial.c.
 *
 * Threads: created and destroyed on the main thread; registers on vCPU threads; the backend on @loop.
 */
#ifndef DEVICES_SERIAL_H
#define DEVICES_SERIAL_H

#include <glib.h>
#include <stdint.h>

#include "backends/char/char.h"
#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/irq.h"

#define SERIAL_PORTS 8

struct serial;

struct serial_config {
    const char *name; /* "serial0", unique in the machine */
    struct bus *ports;
    uint16_t base; /* LAYOUT_PORT_SERIAL0 */
    struct interrupts *interrupts;
    uint32_t gsi;            /* LAYOUT_GSI_SERIAL0 */
    struct chardev *chardev; /* or NULL: output goes nowhere; the caller's, outlives the device */
    struct loop *loop;       /* the backend's */
};

struct serial *serial_create(const struct serial_config *config, GError **error);
void serial_destroy(struct serial *serial); /* flushes first; NULL is allowed */
struct device *serial_device(struct serial *serial);
/* Hands what the guest wrote to the backend now instead of within a millisecond. Thread: @loop's. */
void serial_flush(struct serial *serial);

#endif
