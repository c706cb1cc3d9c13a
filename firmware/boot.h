/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * boot - puts a kernel and all it needs into guest memory
 *
 * Looks at the image and chooses: bzImage by the 64-bit entry, ELF by its PVH note, a bzImage whose
 * payload can be unpacked on the host entered by PVH. Then initrd, command line, e820 or PVH memory
 * map, ACPI tables, page tables and GDT.
 *
 * Thread: main, before the vCPUs run. Errors name the file and what is wrong with it.
 */
#ifndef FIRMWARE_BOOT_H
#define FIRMWARE_BOOT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "pci/host.h"
#include "vmm/memory.h"
#include "vmm/vm.h"

enum boot_protocol { BOOT_AUTO, BOOT_LINUX64, BOOT_PVH, BOOT_PVH_UNPACKED };

/* What ACPI has to describe; all in guest terms. */
struct boot_machine {
    unsigned vcpus;
    const uint32_t *apic_ids;          /* one a vCPU */
    const struct pci_windows *windows; /* NULL: no PCI */
    bool serial[2];                    /* COM1, COM2 are there */
    bool rtc;
    uint64_t vmgenid;    /* guest-physical address of the 16-byte GUID, 0: none */
    uint32_t event_gsi;  /* of the generic event device; 0: none */
    uint16_t event_port; /* its selector register (devices/acpi) */
    uint16_t acpi_port;  /* reset, sleep control, sleep status registers */
};

struct boot_config {
    const char *kernel;      /* path */
    const char *initrd;      /* path or NULL */
    const void *initrd_data; /* or bytes in memory, appended after the file's */
    uint64_t initrd_size;
    const char *command_line;
    enum boot_protocol protocol; /* BOOT_AUTO chooses */
    const char
        *cache; /* folder for unpacked kernels; NULL: $XDG_CACHE_HOME/lodge/kernels; "": none */
    struct boot_machine machine;
};

/* What was done, for the log and --result; strings are owned by the caller (boot_result_clear). */
struct boot_result {
    struct vm_entry entry;
    enum boot_protocol protocol;
    char *kernel_version; /* "6.1.0-56-amd64", or NULL when the image does not say */
    uint64_t kernel_bytes, initrd_bytes;
    int64_t unpack_ns; /* what unpacking took, or reading the unpacked kernel from the cache */
    bool unpack_cached;
};

bool boot_load(struct memory *memory, const struct boot_config *config, struct boot_result *result,
               GError **error);
/* Unpacks @kernel into the cache, if it is one to unpack and not there yet: without a machine, so
 * that later boots of it are fast wherever this cache is seen. */
bool boot_prepare(const char *kernel, const char *cache, GError **error);
void boot_result_clear(struct boot_result *result);
const char *boot_protocol_name(enum boot_protocol protocol); /* "linux64", "pvh", "pvh-unpacked" */

#endif
