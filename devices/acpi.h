/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi - the registers of a hardware-reduced ACPI machine, and its generic event device
 *
 * Reset, sleep control and status, and an event selector (vmm/layout.h has the layout, firmware/acpi
 * the tables that describe it). Power-off and reset go to the shutdown sink.
 *
 * Threads: created and destroyed on the main thread; registers on vCPU threads; events from any.
 */
#ifndef DEVICES_ACPI_H
#define DEVICES_ACPI_H

#include <glib.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/shutdown.h"

struct acpi;

struct acpi_config {
    struct bus *ports;
    uint16_t base; /* LAYOUT_PORT_ACPI */
    struct interrupts *interrupts;
    uint32_t gsi; /* LAYOUT_GSI_ACPI */
    struct shutdown_sink shutdown;
};

struct acpi *acpi_create(const struct acpi_config *config, GError **error); /* device "acpi" */
void acpi_destroy(struct acpi *acpi);                                       /* NULL is allowed */
struct device *acpi_device(struct acpi *acpi);

/* Makes events (LAYOUT_ACPI_EVENT_*) pending and interrupts. Any thread. */
void acpi_raise(struct acpi *acpi, uint32_t events);
/* The user presses the power button: the guest is asked to turn itself off. Any thread. */
void acpi_power_button(struct acpi *acpi);

#endif
