/* SPDX-License-Identifier: GPL-2.0-or-later */
/* space - the guest's memory map and what of it is used; see space.h. */
#include "firmware/space.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/layout.h"

#define KVM_PRIVATE_SIZE (4 * MEMORY_PAGE_SIZE) /* identity map page and three TSS pages */

static void insert(struct space *space, unsigned at, struct space_range range)
{
    memmove(&space->map[at + 1], &space->map[at], (space->ranges - at) * sizeof(space->map[0]));
    space->map[at] = range;
    space->ranges++;
}

/* Adds a range where nothing is yet, in its place. */
static bool add(struct space *space, uint64_t base, uint64_t size, enum space_type type)
{
    unsigned at = 0;

    if (space->ranges >= SPACE_RANGES)
        return false;
    while (at < space->ranges && space->map[at].base < base)
        at++;
    insert(space, at, (struct space_range){base, size, type});
    return true;
}

/* Turns the part of RAM that [base, base + size) covers, if any, into reserved, splitting. */
static bool reserve(struct space *space, uint64_t base, uint64_t size)
{
    uint64_t end = base + size;
    bool hit = false;

    for (unsigned i = 0; i < space->ranges; i++) {
        struct space_range range = space->map[i];
        uint64_t range_end = range.base + range.size;
        uint64_t from = MAX(base, range.base), to = MIN(end, range_end);

        if (range.type != SPACE_RAM || from >= to)
            continue;
        if (space->ranges + 2 > SPACE_RANGES)
            return false;
        hit = true;
        space->map[i] = (struct space_range){from, to - from, SPACE_RESERVED};
        if (to < range_end)
            insert(space, i + 1, (struct space_range){to, range_end - to, SPACE_RAM});
        if (range.base < from) {
            insert(space, i, (struct space_range){range.base, from - range.base, SPACE_RAM});
            i++;
        }
    }
    return hit || add(space, base, size, SPACE_RESERVED);
}

static bool is_reserved(const struct space *space, uint64_t gpa)
{
    for (unsigned i = 0; i < space->ranges; i++) {
        const struct space_range *range = &space->map[i];
        if (range->type == SPACE_RESERVED && gpa >= range->base && gpa - range->base < range->size)
            return true;
    }
    return false;
}

bool space_init(struct space *space, struct memory *memory, const struct boot_machine *machine,
                GError **error)
{
    unsigned count;
    const struct memory_region *regions = memory_regions(memory, &count);
    struct memory_span span;
    bool fits = true;

    memset(space, 0, sizeof(*space));
    space->memory = memory;
    if (!memory_find(memory, 0, SPACE_HIGH_RAM + MEMORY_PAGE_SIZE, &span) ||
        span.len <= SPACE_HIGH_RAM || !(span.region->flags & MEMORY_RAM)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "the guest has %" G_GUINT64_FORMAT
                    " MiB of memory, booting needs more: give it at least 64 MiB (-m 64M)",
                    space_ram_mib(space));
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        if (regions[i].flags & MEMORY_RAM)
            fits &= add(space, regions[i].gpa, regions[i].size, SPACE_RAM);
    }
    /* ACPI tables and the VM generation id; no VGA, no option ROMs. */
    fits = fits && reserve(space, SPACE_LOW_RAM_END, SPACE_HIGH_RAM - SPACE_LOW_RAM_END);
    if (machine->windows)
        fits = fits && reserve(space, machine->windows->ecam_base, LAYOUT_ECAM_SIZE);
    fits = fits && reserve(space, LAYOUT_IDENTITY_MAP, KVM_PRIVATE_SIZE);
    if (machine->vmgenid && !is_reserved(space, machine->vmgenid))
        fits = fits && reserve(space, machine->vmgenid & ~(uint64_t)(MEMORY_PAGE_SIZE - 1),
                               MEMORY_PAGE_SIZE);
    if (!fits)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "the guest's memory has %u regions: the boot memory map takes %u", count,
                    SPACE_RANGES - 8);
    return fits;
}

/* The taken range that overlaps, or NULL. */
static const struct space_range *find_taken(const struct space *space, uint64_t base, uint64_t size)
{
    for (unsigned i = 0; i < space->taken_count; i++) {
        const struct space_range *taken = &space->taken[i];
        if (base < taken->base + taken->size && taken->base < base + size)
            return taken;
    }
    return NULL;
}

bool space_is_free(const struct space *space, uint64_t base, uint64_t size)
{
    if (size == 0 || base + size < base || base < SPACE_HIGH_RAM)
        return false;
    for (unsigned i = 0; i < space->ranges; i++) {
        const struct space_range *range = &space->map[i];
        if (range->type == SPACE_RAM && base >= range->base &&
            base + size <= range->base + range->size)
            return !find_taken(space, base, size);
    }
    return false;
}

bool space_take(struct space *space, uint64_t base, uint64_t size)
{
    if (space->taken_count >= SPACE_TAKEN || !space_is_free(space, base, size))
        return false;
    space->taken[space->taken_count++] = (struct space_range){base, size, SPACE_RAM};
    return true;
}

bool space_take_highest(struct space *space, uint64_t size, uint64_t align, uint64_t min,
                        uint64_t max, uint64_t *base)
{
    min = MAX(min, SPACE_HIGH_RAM);
    for (unsigned i = space->ranges; size > 0 && i-- > 0;) {
        const struct space_range *range = &space->map[i];
        uint64_t low = MAX(range->base, min);
        uint64_t high = MIN(range->base + range->size - 1, max); /* the last usable byte */

        if (range->type != SPACE_RAM)
            continue;
        while (high >= low && high - low >= size - 1) {
            uint64_t at = (high - (size - 1)) & ~(align - 1);
            if (at < low)
                break;
            const struct space_range *taken = find_taken(space, at, size);
            if (!taken) {
                *base = at;
                return space_take(space, at, size);
            }
            high = taken->base - 1;
        }
    }
    return false;
}

bool space_take_lowest(struct space *space, uint64_t size, uint64_t align, uint64_t min,
                       uint64_t max, uint64_t *base)
{
    min = MAX(min, SPACE_HIGH_RAM);
    for (unsigned i = 0; size > 0 && i < space->ranges; i++) {
        const struct space_range *range = &space->map[i];
        uint64_t low = MAX(range->base, min);
        uint64_t high = MIN(range->base + range->size - 1, max);

        if (range->type != SPACE_RAM)
            continue;
        while (low <= high) {
            uint64_t at = (low + align - 1) & ~(align - 1);
            if (at < low || at > high || high - at < size - 1)
                break;
            const struct space_range *taken = find_taken(space, at, size);
            if (!taken) {
                *base = at;
                return space_take(space, at, size);
            }
            low = taken->base + taken->size;
        }
    }
    return false;
}

void space_write(struct space *space, uint64_t gpa, const void *data, uint64_t size)
{
    int ret = memory_write(space->memory, gpa, data, size);

    g_assert(ret == 0); /* space_init has seen RAM there, or it was taken */
}

void space_write_le(struct space *space, uint64_t gpa, uint64_t value, unsigned size)
{
    uint64_t le = GUINT64_TO_LE(value);

    space_write(space, gpa, &le, size);
}

/* How many bytes from the span's start are pages that its file does not have yet. */
static uint64_t untouched(const struct memory_span *span)
{
    const struct memory_region *region = span->region;
    uint64_t offset = region->fd_offset + (span->host - region->host);
    off_t data;

    if (region->fd < 0) /* no file, or a private mapping of one */
        return 0;
    data = lseek(region->fd, offset, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? span->len : 0;
    return (uint64_t)data <= offset ? 0 : MIN((uint64_t)data - offset, span->len);
}

void space_zero(struct space *space, uint64_t gpa, uint64_t size)
{
    struct memory_span span;

    while (size > 0 && memory_find(space->memory, gpa, size, &span)) {
        uint64_t step = untouched(&span);

        if (step == 0) {
            step = MIN(span.len, MEMORY_PAGE_SIZE - gpa % MEMORY_PAGE_SIZE);
            memset(span.host, 0, step);
            memory_mark_dirty(space->memory, gpa, step);
        }
        gpa += step;
        size -= step;
    }
}

uint64_t space_ram_mib(const struct space *space)
{
    return memory_ram_size(space->memory) >> 20;
}
