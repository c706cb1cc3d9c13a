/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ring - rings in guest memory: of work, of completions, of events
 *
 * The first page of an object has two pairs of indices, "tx" and "rx"; elements are in the pages
 * after it. An index counts modulo twice the size, so that a full ring (tail == head ^ size)
 * differs from an empty one; its slot is the index without the topmost bit.
 *
 * The driver applies these formulas to sizes that are no powers of two, too: three pages of 4-byte
 * notifications are "3072 slots". An index & (2 * 3072 - 1) then counts from 0 to 2047, and & (3072
 * - 1) leaves 1024 slots in use; "full" is never seen. So the same formulas are used here,
 * literally, and the number of elements is bounded by what they can tell apart (pvr_ring_depth).
 *
 * An empty completion queue can be parked: its tail gets a bit that no index has. The user library
 * rings the POLL doorbell, an exit, at every look at a queue that is empty, but at none whose indices
 * are out of range: then, too, there is no completion for it. The next completion puts a tail in range.
 *
 * The guest can write any index at any time: each is loaded once and checked at each use. Nothing
 * is cached here: the driver zeroes both when it resets a queue pair.
 */
#include <errno.h>
#include <string.h>

#include "devices/pvrdma/private.h"

#define PARKED (UINT32_C(1) << 31)

static bool is_valid(uint32_t index, uint32_t entries)
{
    return !(index & ~((entries << 1) - 1));
}

static uint32_t next(uint32_t index, uint32_t entries)
{
    return (index + 1) & ((entries << 1) - 1);
}

/* The lowest bit of the size is the first that a slot's mask lacks: from there on slots repeat. */
uint32_t pvr_ring_depth(uint32_t entries)
{
    return entries & -entries;
}

static struct pvr_ring *indices(const struct ring *ring)
{
    struct pvr_ring_state *state = (void *)ring->pages->host[0];

    return ring->tx ? &state->tx : &state->rx;
}

static uint8_t *element_at(const struct ring *ring, uint32_t slot, uint64_t *gpa)
{
    uint64_t offset = (uint64_t)slot * ring->stride;
    uint32_t page = ring->first_page + (uint32_t)(offset / PVR_PAGE_SIZE);

    if (page >= ring->pages->count)
        return NULL;
    *gpa = ring->pages->gpa[page] + offset % PVR_PAGE_SIZE;
    return ring->pages->host[page] + offset % PVR_PAGE_SIZE;
}

int pvr_ring_peek(const struct ring *ring, const void **element)
{
    struct pvr_ring *index = indices(ring);
    uint32_t tail = __atomic_load_n(&index->prod_tail, __ATOMIC_ACQUIRE);
    uint32_t head = __atomic_load_n(&index->cons_head, __ATOMIC_RELAXED);
    uint64_t gpa;

    if (!is_valid(tail, ring->entries) || !is_valid(head, ring->entries))
        return -EINVAL;
    if (tail == head)
        return 0;
    *element = element_at(ring, head & (ring->entries - 1), &gpa);
    return *element ? 1 : -EINVAL;
}

void pvr_ring_consume(const struct ring *ring, struct dma *dma)
{
    struct pvr_ring *index = indices(ring);
    uint32_t head = __atomic_load_n(&index->cons_head, __ATOMIC_RELAXED);

    __atomic_store_n(&index->cons_head, next(head, ring->entries), __ATOMIC_RELEASE);
    dma_written(dma, ring->pages->gpa[0], sizeof(struct pvr_ring_state));
}

int pvr_ring_put(const struct ring *ring, struct dma *dma, const void *element)
{
    struct pvr_ring *index = indices(ring);
    uint32_t tail = __atomic_load_n(&index->prod_tail, __ATOMIC_RELAXED) & ~PARKED;
    uint32_t head = __atomic_load_n(&index->cons_head, __ATOMIC_ACQUIRE);
    uint32_t depth = pvr_ring_depth(ring->entries);
    uint8_t *slot;
    uint64_t gpa;

    if (!is_valid(tail, ring->entries) || !is_valid(head, ring->entries))
        return -EINVAL;
    if (((tail - head) & (2 * depth - 1)) >= depth)
        return -ENOSPC;
    slot = element_at(ring, tail & (ring->entries - 1), &gpa);
    if (!slot)
        return -EINVAL;
    memcpy(slot, element, ring->stride);
    dma_written(dma, gpa, ring->stride);
    __atomic_store_n(&index->prod_tail, next(tail, ring->entries), __ATOMIC_RELEASE);
    dma_written(dma, ring->pages->gpa[0], sizeof(struct pvr_ring_state));
    return 0;
}

void pvr_ring_park(const struct ring *ring, struct dma *dma)
{
    struct pvr_ring *index = indices(ring);
    uint32_t tail = __atomic_load_n(&index->prod_tail, __ATOMIC_RELAXED);

    if (tail != __atomic_load_n(&index->cons_head, __ATOMIC_RELAXED))
        return;
    __atomic_store_n(&index->prod_tail, tail | PARKED, __ATOMIC_RELAXED);
    dma_written(dma, ring->pages->gpa[0], sizeof(struct pvr_ring_state));
}
