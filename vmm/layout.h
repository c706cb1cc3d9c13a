/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layout - the x86 machine's guest-physical address map, in one place
 *
 *   0x0000_0000  RAM, up to LAYOUT_LOW_END at most (boot structures below 640 KiB: firmware/)
 *   0x000a_0000  RAM that the memory map declares reserved, up to 1 MiB: ACPI tables, VM generation id
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
#define LAYOUT_ACPI_TABLES   UINT64_C(0x000e0000) /* where the RSDP lies, the other tables after it */
#define LAYOUT_ACPI_END      UINT64_C(0x000ef000)
#define LAYOUT_VMGENID       UINT64_C(0x000ef000) /* 16 bytes (devices/vmgenid), a page of its own */
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

/*
 * The registers at LAYOUT_PORT_ACPI, offsets in bytes. The tables (firmware/acpi) describe them, the
 * device (devices/acpi) answers them.
 *
 *   RESET          1 byte, write LAYOUT_ACPI_RESET_VALUE: the machine resets (ACPI 6.5, 4.8.3.6)
 *   SLEEP_CONTROL  1 byte, write: bits 4:2 SLP_TYP, bit 5 SLP_EN (4.8.3.7); type LAYOUT_ACPI_S5 turns
 *                  the machine off; reads as 0
 *   SLEEP_STATUS   1 byte: bit 7 WAK_STS, cleared by writing one; stays 0, for nothing wakes
 *   EVENT          4 bytes, read-only: which events are pending since the last read, that clears them
 *                  all (_EVT of the generic event device, 5.6.9). A read also lowers the line; an
 *                  event raises it: LAYOUT_GSI_ACPI is edge triggered, active high.
 */
#define LAYOUT_ACPI_RESET         0x0
#define LAYOUT_ACPI_RESET_VALUE   0x01
#define LAYOUT_ACPI_SLEEP_CONTROL 0x1
#define LAYOUT_ACPI_SLEEP_STATUS  0x2
#define LAYOUT_ACPI_EVENT         0x4
#define LAYOUT_ACPI_SIZE          0x8

#define LAYOUT_ACPI_SLP_TYP_SHIFT 2
#define LAYOUT_ACPI_SLP_TYP_MASK  0x1c
#define LAYOUT_ACPI_SLP_EN        0x20
#define LAYOUT_ACPI_WAK_STS       0x80
#define LAYOUT_ACPI_S5            5 /* SLP_TYP of soft-off */

#define LAYOUT_ACPI_EVENT_POWER_BUTTON 0x1
#define LAYOUT_ACPI_EVENT_VMGENID      0x2

#define LAYOUT_GSI_SERIAL0 4
#define LAYOUT_GSI_SERIAL1 3
#define LAYOUT_GSI_RTC     8
#define LAYOUT_GSI_ACPI    9 /* generic event device: power button, vmgenid */

#endif
