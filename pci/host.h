/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * host - the PCI Express host bridge: segment 0, bus 0, ECAM and configuration ports
 *
 * One root bus with 32 slots of up to 8 functions. Configuration by ECAM (memory-mapped, PCIe 6.0
 * section 7.2.2) and by ports 0xcf8/0xcfc (PCI 3.0 section 3.2.2.3.2). Slot 0 is the bridge itself.
 * INTx pins swizzle to GSIs 16-23 by slot: the ACPI _PRT says the same (pci_host_gsi).
 *
 * Since no firmware runs in the guest, pci_host_assign gives every BAR an address in the windows
 * before boot; a guest may move them.
 *
 * The bridge is a device like others ("pci-host": pci_host_function(host, 0, 0)->device): whoever
 * makes the machine adds it to the machine's devices, so that it is reset and saved with them.
 *
 * Threads: set-up on the main thread; accesses on vCPU threads.
 */
#ifndef PCI_HOST_H
#define PCI_HOST_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "pci/function.h"

#define PCI_SLOTS     32
#define PCI_FUNCTIONS 8
#define PCI_FIRST_GSI 16
#define PCI_GSIS      8

/* Address windows, guest-physical, bytes; the same numbers go into ACPI. */
struct pci_windows {
    uint64_t ecam_base; /* 1 MiB a bus, one bus */
    uint64_t mmio32_base, mmio32_size;
    uint64_t mmio64_base, mmio64_size;
    uint16_t port_base, port_size;
};

struct pci_host;

struct pci_host *pci_host_create(struct memory *memory, struct bus *mmio, struct bus *ports,
                                 const struct pci_windows *windows, GError **error);
void pci_host_destroy(struct pci_host *host); /* functions are detached, not destroyed */
const struct pci_windows *pci_host_windows(const struct pci_host *host);

#define PCI_SLOT_ANY (-1)

/* Puts @function at @slot (PCI_SLOT_ANY: the next free one) as function @number. An error if taken. */
bool pci_host_attach(struct pci_host *host, struct pci_function *function, int slot,
                     unsigned number, GError **error);
void pci_host_detach(struct pci_host *host, struct pci_function *function);
struct pci_function *pci_host_function(struct pci_host *host, unsigned slot, unsigned number);

/* Assigns every BAR that has no address and turns decoding on as firmware would. An error names the
 * function and window when one is too small. */
bool pci_host_assign(struct pci_host *host, GError **error);

/* GSI of an INTx pin (1-4) of a slot: 16 + (slot + pin - 1) mod 8. */
static inline uint32_t pci_host_gsi(unsigned slot, unsigned pin)
{
    return PCI_FIRST_GSI + (slot + pin - 1) % PCI_GSIS;
}

/* Used by function.c: (un)map a BAR on the host's buses. */
struct bus *pci_host_bus(struct pci_host *host, bool io);

#endif
