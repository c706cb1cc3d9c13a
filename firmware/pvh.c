/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pvh - the start info of Xen's x86/HVM direct boot ABI; see pvh.h. */
#include "firmware/pvh.h"

#include <string.h>

#define START_INFO_MAGIC 0x336ec578

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line, rsdp;
    uint64_t memory_map;
    uint32_t memory_map_entries, reserved;
};

struct module {
    uint64_t address, size, command_line, reserved;
};

struct memory_map_entry {
    uint64_t address, size;
    uint32_t type, reserved;
};

/* All of it, in the order in which it lies in memory. */
struct start_page {
    struct start_info info;
    struct module module;
    struct memory_map_entry map[SPACE_RANGES];
};

G_STATIC_ASSERT(sizeof(struct start_info) == 56);
G_STATIC_ASSERT(sizeof(struct module) == 32);
G_STATIC_ASSERT(sizeof(struct memory_map_entry) == 24);
G_STATIC_ASSERT(sizeof(struct start_page) <= SPACE_START_INFO_SIZE);

void pvh_write_start_info(struct space *space, uint64_t initrd, uint64_t initrd_size, uint64_t rsdp)
{
    struct start_page page;

    memset(&page, 0, sizeof(page));
    page.info.magic = START_INFO_MAGIC;
    page.info.version = 1;
    page.info.command_line = SPACE_COMMAND_LINE;
    page.info.rsdp = rsdp;
    if (initrd_size > 0) {
        page.info.modules = 1;
        page.info.module_list = SPACE_START_INFO + G_STRUCT_OFFSET(struct start_page, module);
        page.module.address = initrd;
        page.module.size = initrd_size;
    }
    page.info.memory_map = SPACE_START_INFO + G_STRUCT_OFFSET(struct start_page, map);
    page.info.memory_map_entries = space->ranges;
    for (unsigned i = 0; i < space->ranges; i++) {
        page.map[i].address = space->map[i].base;
        page.map[i].size = space->map[i].size;
        page.map[i].type = space->map[i].type;
    }
    space_write(space, SPACE_START_INFO, &page, sizeof(page));
}
