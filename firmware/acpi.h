/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi - the tables that describe the machine to the guest
 *
 * A hardware-reduced machine (ACPI 6.5, section 4.1): no fixed hardware, no PIC, PIT or SMI. What
 * there is: RSDP revision 2, XSDT, FADT with reset and sleep registers, MADT, MCFG, and a DSDT with
 * the PCI host bridge, serial ports, RTC, power button, VM generation id and the generic event
 * device that tells of the last two. The registers are those of vmm/layout.h.
 *
 * Thread: the caller's; no shared state.
 */
#ifndef FIRMWARE_ACPI_H
#define FIRMWARE_ACPI_H

#include <glib.h>
#include <stdint.h>

#include "firmware/boot.h"

/*
 * Builds all tables to lie at guest-physical address @base (16-byte aligned, below 4 GiB), the RSDP
 * first. The caller owns the array. Pointers between the tables are final: copy it there as it is.
 */
GByteArray *acpi_build(const struct boot_machine *machine, uint64_t base);

#endif
