/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_driver_ring - the driver's side of split and packed rings, for tests: see virtio_driver.h
 */
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/device/virtio_driver.h"

#define AREA(bytes) (((uint64_t)(bytes) + 4095) & ~UINT64_C(4095))
#define TABLE_BYTES (DRIVER_INDIRECT_MAX * 16u)
#define AVAIL_BIT   (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED_BIT    (1u << VRING_PACKED_DESC_F_USED)

void *driver_ring_ptr(const struct driver_ring *ring, uint64_t gpa, uint64_t len)
{
    struct memory_span span;

    g_assert_true(memory_find(ring->memory, gpa, len, &span));
    g_assert_cmpuint(span.len, ==, len);
    return span.host;
}

uint64_t driver_ring_bytes(uint16_t size)
{
    return AREA(16 * size) + AREA(6 + 2 * size) + AREA(6 + 8 * size) + AREA(TABLE_BYTES * size);
}

void driver_ring_init(struct driver_ring *ring, struct memory *memory, uint64_t gpa, uint16_t size,
                      const struct virtq_features *features)
{
    memset(ring, 0, sizeof(*ring));
    ring->memory = memory;
    ring->size = ring->free = size;
    ring->features = *features;
    ring->descriptors = gpa;
    ring->driver_area = ring->descriptors + AREA(16 * size);
    ring->device_area = ring->driver_area + AREA(6 + 2 * size);
    ring->tables = ring->device_area + AREA(6 + 8 * size);
    ring->avail_wrap = ring->used_wrap = true;
    ring->slots = g_new0(struct driver_slot, size);
    ring->order = g_new0(uint16_t, size);
    ring->free_list = g_new0(uint16_t, size);
    for (unsigned i = 0; i < size; i++)
        ring->free_list[i] = size - 1 - i;
}

void driver_ring_finish(struct driver_ring *ring)
{
    g_clear_pointer(&ring->slots, g_free);
    g_clear_pointer(&ring->order, g_free);
    g_clear_pointer(&ring->free_list, g_free);
}

void driver_ring_give(const struct driver_ring *ring, struct virtq *vq)
{
    vq->size = ring->size;
    vq->descriptors = ring->descriptors;
    vq->driver_area = ring->driver_area;
    vq->device_area = ring->device_area;
}

static struct vring_avail *avail_of(const struct driver_ring *ring)
{
    return driver_ring_ptr(ring, ring->driver_area, 6 + 2 * ring->size);
}

static struct vring_used *used_of(const struct driver_ring *ring)
{
    return driver_ring_ptr(ring, ring->device_area, 6 + 8 * ring->size);
}

static struct vring_packed_desc *packed_of(const struct driver_ring *ring)
{
    return driver_ring_ptr(ring, ring->descriptors, 16 * ring->size);
}

/* ---- adding ---- */

static struct driver_buffer buffer_at(const struct driver_buffer *out, unsigned outs,
                                      const struct driver_buffer *in, unsigned i, bool *write)
{
    *write = i >= outs;
    return *write ? in[i - outs] : out[i];
}

/* The chain's descriptors as a table; both layouts have address and length in the same place. */
static void write_table(const struct driver_ring *ring, uint64_t table,
                        const struct driver_buffer *out, unsigned outs,
                        const struct driver_buffer *in, unsigned ins)
{
    struct vring_desc *split = driver_ring_ptr(ring, table, 16 * (outs + ins));
    struct vring_packed_desc *packed = (struct vring_packed_desc *)split;

    for (unsigned i = 0; i < outs + ins; i++) {
        bool write;
        struct driver_buffer b = buffer_at(out, outs, in, i, &write);

        split[i].addr = b.gpa;
        split[i].len = b.len;
        if (ring->features.packed) {
            packed[i].id = 0;
            packed[i].flags = write ? VRING_DESC_F_WRITE : 0;
        } else {
            split[i].flags =
                (write ? VRING_DESC_F_WRITE : 0) | (i + 1 < outs + ins ? VRING_DESC_F_NEXT : 0);
            split[i].next = i + 1 < outs + ins ? i + 1 : 0;
        }
    }
}

/* The descriptor after @index, or the first: in ring order, or from the free list. */
static uint16_t take_descriptor(struct driver_ring *ring)
{
    uint16_t index;

    ring->free--;
    if (!ring->features.in_order)
        return ring->free_list[ring->free];
    index = ring->next_desc;
    ring->next_desc = (ring->next_desc + 1) % ring->size;
    return index;
}

static uint16_t split_add(struct driver_ring *ring, const struct driver_buffer *out, unsigned outs,
                          const struct driver_buffer *in, unsigned ins, bool indirect)
{
    struct vring_desc *table = driver_ring_ptr(ring, ring->descriptors, 16 * ring->size);
    struct vring_avail *avail = avail_of(ring);
    uint16_t head = 0, previous = 0;

    for (unsigned i = 0; i < (indirect ? 1 : outs + ins); i++) {
        uint16_t index = take_descriptor(ring);
        bool write;
        struct driver_buffer b = buffer_at(out, outs, in, i, &write);

        if (i == 0) {
            head = index;
        } else {
            table[previous].next = index;
            table[previous].flags |= VRING_DESC_F_NEXT;
        }
        table[index] = (struct vring_desc){b.gpa, b.len, write ? VRING_DESC_F_WRITE : 0, 0};
        previous = index;
    }
    if (indirect) {
        uint64_t at = ring->tables + (uint64_t)head * TABLE_BYTES;

        write_table(ring, at, out, outs, in, ins);
        table[head] = (struct vring_desc){at, 16 * (outs + ins), VRING_DESC_F_INDIRECT, 0};
    }
    avail->ring[(uint16_t)(ring->next_avail + ring->added) & (ring->size - 1)] = head;
    ring->added++;
    return head;
}

static uint16_t free_id(const struct driver_ring *ring)
{
    for (unsigned i = 0; i < ring->size; i++)
        if (!ring->slots[i].out)
            return i;
    g_assert_not_reached();
}

static uint16_t packed_add(struct driver_ring *ring, const struct driver_buffer *out, unsigned outs,
                           const struct driver_buffer *in, unsigned ins, bool indirect)
{
    struct vring_packed_desc *table = packed_of(ring);
    unsigned count = indirect ? 1 : outs + ins;
    uint16_t id = free_id(ring);

    for (unsigned i = 0; i < count; i++) {
        struct vring_packed_desc *desc = &table[ring->next_avail];
        bool write;
        struct driver_buffer b = buffer_at(out, outs, in, i, &write);
        uint16_t flags = (write ? VRING_DESC_F_WRITE : 0) |
                         (ring->avail_wrap ? AVAIL_BIT : USED_BIT) |
                         (i + 1 < count ? VRING_DESC_F_NEXT : 0);

        if (indirect) {
            b.gpa = ring->tables + (uint64_t)id * TABLE_BYTES;
            b.len = 16 * (outs + ins);
            write_table(ring, b.gpa, out, outs, in, ins);
            flags = (flags & ~VRING_DESC_F_WRITE) | VRING_DESC_F_INDIRECT;
        }
        desc->addr = b.gpa;
        desc->len = b.len;
        desc->id = id;
        if (!ring->added) {
            ring->held_flags = flags;
            ring->held_slot = ring->next_avail;
        } else {
            __atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
        }
        ring->added++;
        ring->free--;
        if (++ring->next_avail == ring->size) {
            ring->next_avail = 0;
            ring->avail_wrap = !ring->avail_wrap;
        }
    }
    return id;
}

bool driver_ring_add(struct driver_ring *ring, const struct driver_buffer *out, unsigned outs,
                     const struct driver_buffer *in, unsigned ins, bool indirect, void *cookie)
{
    unsigned count = indirect ? 1 : outs + ins;
    uint16_t id;

    g_assert_cmpuint(outs + ins, >, 0);
    g_assert_true(!indirect || outs + ins <= DRIVER_INDIRECT_MAX);
    if (ring->free < count)
        return false;
    id = ring->features.packed ? packed_add(ring, out, outs, in, ins, indirect)
                               : split_add(ring, out, outs, in, ins, indirect);
    g_assert_false(ring->slots[id].out);
    ring->slots[id] = (struct driver_slot){true, count, cookie};
    ring->order[ring->order_tail++ % ring->size] = id;
    return true;
}

static bool needs_event(uint16_t event, uint16_t new_index, uint16_t old)
{
    return (uint16_t)(new_index - event - 1) < (uint16_t)(new_index - old);
}

static bool split_publish(struct driver_ring *ring)
{
    struct vring_avail *avail = avail_of(ring);
    struct vring_used *used = used_of(ring);
    uint16_t old = ring->next_avail;

    ring->next_avail += ring->added;
    __atomic_store_n(&avail->idx, ring->next_avail, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (ring->features.event_idx)
        return needs_event(__atomic_load_n((uint16_t *)&used->ring[ring->size], __ATOMIC_RELAXED),
                           ring->next_avail, old);
    return !(__atomic_load_n(&used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

static bool packed_publish(struct driver_ring *ring)
{
    struct vring_packed_desc *table = packed_of(ring);
    uint32_t event;
    uint16_t offset;

    __atomic_store_n(&table[ring->held_slot].flags, ring->held_flags, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    event =
        __atomic_load_n((uint32_t *)driver_ring_ptr(ring, ring->device_area, 4), __ATOMIC_RELAXED);
    if (event >> 16 != VRING_PACKED_EVENT_FLAG_DESC)
        return event >> 16 == VRING_PACKED_EVENT_FLAG_ENABLE;
    g_assert_true(ring->features.event_idx);
    offset = event & 0x7fff;
    if ((event >> 15 & 1) != ring->avail_wrap)
        offset -= ring->size;
    return needs_event(offset, ring->next_avail, ring->next_avail - ring->added);
}

bool driver_ring_publish(struct driver_ring *ring)
{
    bool kick;

    if (!ring->added)
        return false;
    kick = ring->features.packed ? packed_publish(ring) : split_publish(ring);
    ring->added = 0;
    return kick;
}

/* ---- reaping ---- */

/* The used entry that comes next: its id and length; false: there is none. Does not move. */
static bool look_used(struct driver_ring *ring, uint16_t *id, uint32_t *written)
{
    if (ring->features.packed) {
        struct vring_packed_desc *desc = packed_of(ring) + ring->next_used;
        uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);

        if (!(flags & AVAIL_BIT) != !(flags & USED_BIT) || !!(flags & USED_BIT) != ring->used_wrap)
            return false;
        *id = desc->id;
        *written = flags & VRING_DESC_F_WRITE ? desc->len : 0;
    } else {
        struct vring_used *used = used_of(ring);
        uint16_t ready = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) - ring->next_used;
        vring_used_elem_t *entry = &used->ring[ring->next_used & (ring->size - 1)];

        g_assert_cmpuint(ready, <=, ring->size);
        if (!ready)
            return false;
        *id = entry->id;
        *written = entry->len;
    }
    g_assert_cmpuint(*id, <, ring->size);
    return true;
}

static void advance_used(struct driver_ring *ring, unsigned descriptors)
{
    if (!ring->features.packed) {
        ring->next_used++;
        return;
    }
    ring->next_used += descriptors;
    if (ring->next_used >= ring->size) {
        ring->next_used -= ring->size;
        ring->used_wrap = !ring->used_wrap;
    }
}

static void give_back(struct driver_ring *ring, uint16_t id)
{
    struct driver_slot *slot = &ring->slots[id];

    if (!ring->features.packed && !ring->features.in_order) {
        struct vring_desc *table = driver_ring_ptr(ring, ring->descriptors, 16 * ring->size);
        uint16_t index = id;

        for (unsigned i = 0; i < slot->descriptors; i++) {
            ring->free_list[ring->free + i] = index;
            index = table[index].next;
        }
    }
    ring->free += slot->descriptors;
    slot->out = false;
}

void *driver_ring_reap(struct driver_ring *ring, uint32_t *written)
{
    uint16_t id;
    uint32_t length;

    if (!ring->features.in_order) {
        if (!look_used(ring, &id, &length))
            return NULL;
    } else {
        /* One entry may stand for several chains, up to the one that it names (2.7.9, 2.8.9). */
        if (!ring->batch_known) {
            ring->batch_known = look_used(ring, &ring->batch_id, &ring->batch_written);
            if (!ring->batch_known)
                return NULL;
        }
        g_assert_cmpuint(ring->order_head, <, ring->order_tail);
        id = ring->order[ring->order_head++ % ring->size];
        length = UINT32_MAX;
        if (id == ring->batch_id) {
            ring->batch_known = false;
            length = ring->batch_written;
        }
    }
    g_assert_true(ring->slots[id].out);
    advance_used(ring, ring->slots[id].descriptors);
    give_back(ring, id);
    if (written)
        *written = length;
    return ring->slots[id].cookie;
}

/* ---- used buffer notifications ---- */

static void set_driver_event(struct driver_ring *ring, uint16_t offset, uint16_t flags)
{
    __atomic_store_n((uint32_t *)driver_ring_ptr(ring, ring->driver_area, 4),
                     (uint32_t)flags << 16 | offset, __ATOMIC_SEQ_CST);
}

void driver_ring_interrupts_off(struct driver_ring *ring)
{
    if (ring->features.packed)
        set_driver_event(ring, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
    else if (ring->features.event_idx)
        avail_of(ring)->ring[ring->size] = ring->next_used - 1; /* passed already */
    else
        avail_of(ring)->flags = VRING_AVAIL_F_NO_INTERRUPT;
}

void driver_ring_interrupts_after(struct driver_ring *ring, uint16_t count)
{
    uint16_t offset = ring->next_used + count - 1;
    bool wrap = ring->used_wrap;

    g_assert_true(ring->features.event_idx && count);
    if (!ring->features.packed) {
        __atomic_store_n(&avail_of(ring)->ring[ring->size], offset, __ATOMIC_SEQ_CST);
        return;
    }
    if (offset >= ring->size) {
        offset -= ring->size;
        wrap = !wrap;
    }
    set_driver_event(ring, offset | wrap << 15, VRING_PACKED_EVENT_FLAG_DESC);
}

bool driver_ring_interrupts_on(struct driver_ring *ring)
{
    uint16_t id;
    uint32_t written;

    if (ring->features.event_idx)
        driver_ring_interrupts_after(ring, 1);
    else if (ring->features.packed)
        set_driver_event(ring, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
    else
        __atomic_store_n(&avail_of(ring)->flags, 0, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return ring->batch_known || look_used(ring, &id, &written);
}
