/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layout - the x86 machine's guest-physical address map, in one place
 *
 *   0x0000_0000  RAM, up to LAYOUT_LOW_END at most (real-mode area and tables below 1 MiB: firmware/)
 *   0xc000_0000  PCI 32-bit memory window (512 MiB)
 *   0xe000_0000  ECAM of bus 0 (1 MiB)
 *   0xfec0_0000  I/O APIC     0xfee0_0000  local APICs (and MSI)
 *   0xfffb_c000  KVM's identity map page and TSS (Intel)
 *   4 GiB        the rest of RAM, then (aligned) the PCI 64-bit memory window
 */
#ifndef VMM_LAYOUT_H
#define VMM_LAYOUT_H

#include <stdint.h>

#define LAYOUT_LOW_END       UINT64_C(0xc0000000)
#define LAYOUT_HIGH_START    UINT64_C(0x100000000)
#define LAYOUT_MMIO32_BASE   UINT64_C(0xc0000000)
#define LAYOUT_MMIO32_SIZE   UINT64_C(0x20000000)
#define LAYOUT_ECAM_BASE     UINT64_C(0xe0000000)
#define LAYOUT_ECAM_SIZE     UINT64_C(0x00100000)
#define LAYOUT_IOAPIC        UINT64_C(0xfec00000)
#define LAYOUT_LAPIC         UINT64_C(0xfee00000)
#define LAYOUT_IDENTITY_MAP  UINT64_C(0xfffbc000)
#define LAYOUT_TSS           UINT64_C(0xfffbd000)
#define LAYOUT_PCI_PORT_BASE 0x1000
#define LAYOUT_PCI_PORT_SIZE 0xf000

/* Ports of the devices that are always there. */
#define LAYOUT_PORT_BOOT_TIMING 0x80  /* progress codes */
#define LAYOUT_PORT_SERIAL0     0x3f8 /* GSI 4 */
#define LAYOUT_PORT_SERIAL1     0x2f8 /* GSI 3 */
#define LAYOUT_PORT_RTC         0x70  /* GSI 8 */
#define LAYOUT_PORT_DEBUG_EXIT  0xf4
#define LAYOUT_PORT_ACPI        0x600 /* reset, sleep control and status (devices/acpi) */

#define LAYOUT_GSI_SERIAL0 4
#define LAYOUT_GSI_SERIAL1 3
#define LAYOUT_GSI_RTC     8
#define LAYOUT_GSI_ACPI    9 /* generic event device: power button, vmgenid */

#endif
