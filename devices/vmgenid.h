/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmgenid - virtual machine generation id: tells a guest that it may not be the only one of itself
 *
 * 16 bytes in guest memory that the ACPI tables point to (device VMGENCTR, Microsoft's "Virtual
 * Machine Generation ID"). Stock driver: vmgenid, which reseeds the kernel's random numbers when the
 * event device says that the id changed. Whoever restores a snapshot calls vmgenid_renew.
 *
 * Threads: the main thread.
 */
#ifndef DEVICES_VMGENID_H
#define DEVICES_VMGENID_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/acpi.h"
#include "vmm/device.h"
#include "vmm/memory.h"

#define VMGENID_SIZE 16

struct vmgenid;

struct vmgenid_config {
    struct memory *memory;
    uint64_t address;    /* LAYOUT_VMGENID: 8-aligned guest RAM that nobody else uses */
    struct acpi *acpi;   /* by which the guest is told; outlives the device */
    const uint8_t *guid; /* VMGENID_SIZE bytes, or NULL: a random one */
};

/* Device "vmgenid". The id is in guest memory when it returns. */
struct vmgenid *vmgenid_create(const struct vmgenid_config *config, GError **error);
void vmgenid_destroy(struct vmgenid *vmgenid); /* NULL is allowed */
struct device *vmgenid_device(struct vmgenid *vmgenid);
uint64_t vmgenid_address(const struct vmgenid *vmgenid);
const uint8_t *vmgenid_guid(const struct vmgenid *vmgenid);

/* Changes the id and notifies the guest; while the device may not (not RUNNING), when it may again. */
void vmgenid_set_guid(struct vmgenid *vmgenid, const uint8_t guid[VMGENID_SIZE]);
/* The same with a random one. False with @error when the host has no random numbers. */
bool vmgenid_renew(struct vmgenid *vmgenid, GError **error);

#endif
