/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pci - the modern virtio PCI transport (virtio 1.3, 4.1)
 *
 * Turns a struct virtio_device into a PCI function: 0x1af4:0x1040+id, revision 1; one 64-bit memory
 * BAR with common, notify, ISR and device configuration, MSI-X in a BAR of its own, and the PCI
 * configuration access capability. Doorbells are eventfds on the notify area, one address a queue,
 * each watched on the device's loop.
 */
#ifndef VIRTIO_PCI_H
#define VIRTIO_PCI_H

#include "pci/function.h"
#include "virtio/device.h"

struct virtio_pci;

/*
 * Takes over @vdev (destroyed with the transport; on failure it is left to the caller). @name is the
 * device's name, unique in the machine. @msix off leaves INTx only (for tests of that path).
 */
struct virtio_pci *virtio_pci_create(struct virtio_device *vdev, const char *name,
                                     const struct pci_environment *env, bool msix, GError **error);
void virtio_pci_destroy(struct virtio_pci *vpci); /* detached from its host before */
struct pci_function *virtio_pci_function(struct virtio_pci *vpci);

#endif
