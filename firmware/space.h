/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space - the guest's memory map, and which parts of it the loaders have used
 *
 * The map is what the guest is told (e820 or PVH): RAM, with what must stay untouched reserved. The
 * loaders take pieces of it. Below 1 MiB everything belongs to the boot structures: nothing else is
 * ever placed there.
 *
 * Thread: main, before the vCPUs run.
 */
#ifndef FIRMWARE_SPACE_H
#define FIRMWARE_SPACE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "firmware/boot.h"

/* The boot structures, guest-physical. The first page is the guest's BIOS data area: only the GDT. */
#define SPACE_GDT               UINT64_C(0x00000500)
#define SPACE_START_INFO        UINT64_C(0x00006000) /* PVH: start info, module list, memory map */
#define SPACE_START_INFO_SIZE   0x1000u
#define SPACE_BOOT_PARAMS       UINT64_C(0x00007000)
#define SPACE_SETUP_DATA        UINT64_C(0x00008000)
#define SPACE_PAGE_TABLES       UINT64_C(0x00009000) /* six pages */
#define SPACE_COMMAND_LINE      UINT64_C(0x00020000)
#define SPACE_COMMAND_LINE_SIZE 0x10000u
#define SPACE_LOW_RAM_END       UINT64_C(0x000a0000)
#define SPACE_RESET_VECTOR      UINT64_C(0x000ffff0) /* 16 bytes of code */
#define SPACE_HIGH_RAM          UINT64_C(0x00100000)

#define MIB UINT64_C(0x100000)

enum space_type { SPACE_RAM = 1, SPACE_RESERVED = 2 }; /* e820's and PVH's numbers */

struct space_range {
    uint64_t base, size; /* bytes */
#define MIB UINT64_C(0x100000)

    enum space_type type;
};

#define SPACE_RANGES 48
#define SPACE_TAKEN  160

struct space {
    struct memory *memory;
    struct space_range map[SPACE_RANGES]; /* sorted, not overlapping */
    unsigned ranges;
    struct space_range taken[SPACE_TAKEN];
    unsigned taken_count;
};

/* Makes the map. An error if there is less RAM than the boot structures need, or too many regions. */
bool space_init(struct space *space, struct memory *memory, const struct boot_machine *machine,
                GError **error);

/* Is all of it RAM from 1 MiB up that nothing has taken? @size 0 is never free. */
bool space_is_free(const struct space *space, uint64_t base, uint64_t size);
/* Takes it if it is free. */
bool space_take(struct space *space, uint64_t base, uint64_t size);
/* Takes the highest (lowest) free place within [min, max]: the last byte is at most @max. @align is
 * a power of two. False when there is none. */
bool space_take_highest(struct space *space, uint64_t size, uint64_t align, uint64_t min,
                        uint64_t max, uint64_t *base);
bool space_take_lowest(struct space *space, uint64_t size, uint64_t align, uint64_t min,
                       uint64_t max, uint64_t *base);

/* Copies into the boot structures' area or what was taken. */
void space_write(struct space *space, uint64_t gpa, const void *data, uint64_t size);
void space_write_le(struct space *space, uint64_t gpa, uint64_t value, unsigned size);
/* Zeroes what was taken, without touching pages that nobody has used yet. */
void space_zero(struct space *space, uint64_t gpa, uint64_t size);

uint64_t space_ram_mib(const struct space *space); /* of the whole guest, for messages */

#endif
