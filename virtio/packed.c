/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * packed - the packed ring: one ring of descriptors that both sides write (virtio 1.3, 2.8)
 *
 * Whose turn a descriptor is says a pair of bits compared with a wrap counter that flips at the
 * ring's end. A chain takes consecutive slots and carries its buffer id in the last one; a used
 * descriptor is written into the slot that is next in order of completion and stands for as many slots
 * as the chain had. A batch is published by writing the flags of its first descriptor last: the driver
 * looks only there.
 *
 * Thread: the device's loop.
 */
#include <errno.h>
#include <string.h>

#include "virtio/ring.h"

#define DESC_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define DESC_USED  (1u << VRING_PACKED_DESC_F_USED)

int packed_map(struct virtq *vq)
{
    struct virtq_private *p = vq->p;

    if (vq->descriptors % 16 || vq->driver_area % 4 || vq->device_area % 4)
        return -EINVAL;
    if (vq->next_avail >= vq->size || vq->next_used >= vq->size || vq->avail_wrap > 1 ||
        vq->used_wrap > 1)
        return -EINVAL;
    p->descriptors = dma_map_ring(vq->dma, vq->descriptors, 16 * (uint64_t)vq->size);
    p->driver = dma_map_ring(vq->dma, vq->driver_area, 4);
    p->device = dma_map_ring(vq->dma, vq->device_area, 4);
    return p->descriptors && p->driver && p->device ? 0 : -EFAULT;
}

static bool packed_is_available(const struct virtq *vq, uint16_t flags)
{
    bool avail = flags & DESC_AVAIL;
    bool used = flags & DESC_USED;

    return avail != used && avail == vq->avail_wrap;
}

/* The descriptors of an indirect table, one after the other: only the write flag means something. */
static int packed_indirect(struct virtq *vq, struct virtq_chain *chain, uint64_t table,
                           uint32_t length)
{
    unsigned entries = length / sizeof(struct vring_packed_desc);
    struct vring_packed_desc desc;
    int ret = virtq_begin_indirect(vq, chain, table, length);

    for (unsigned i = 0; i < entries && !ret; i++) {
        ret = virtq_read_indirect(vq, chain, i, &desc);
        if (!ret)
            ret = virtq_chain_add(vq, chain, desc.addr, desc.len, desc.flags & VRING_DESC_F_WRITE);
    }
    return ret;
}

/* Reads the chain that starts at next_avail: 0 with the number of @slots and the buffer id. */
static int packed_chain(struct virtq *vq, struct virtq_chain *chain, unsigned *slots, uint16_t *id)
{
    const struct vring_packed_desc *ring = vq->p->descriptors;
    unsigned index = vq->next_avail;
    struct vring_packed_desc desc;

    for (*slots = 1;; (*slots)++) {
        if (vq->p->slots + *slots > vq->size)
            return virtq_break(vq, "chain longer than what is free of the ring");
        memcpy(&desc, &ring[index], sizeof(desc));
        __atomic_signal_fence(__ATOMIC_SEQ_CST); /* desc is a copy, not to be read again */
        *id = desc.id;
        if (desc.flags & VRING_DESC_F_INDIRECT) {
            if (*slots > 1 || desc.flags & VRING_DESC_F_NEXT)
                return virtq_break(vq, "indirect descriptor inside a chain");
            return packed_indirect(vq, chain, desc.addr, desc.len);
        }
        int ret = virtq_chain_add(vq, chain, desc.addr, desc.len, desc.flags & VRING_DESC_F_WRITE);
        if (ret)
            return ret;
        if (!(desc.flags & VRING_DESC_F_NEXT))
            return 0;
        if (++index == vq->size)
            index = 0;
    }
}

int packed_pop(struct virtq *vq, struct virtq_element *element)
{
    const struct vring_packed_desc *ring = vq->p->descriptors;
    struct virtq_chain chain = {.element = element, .limit = vq->size};
    unsigned slots;
    uint16_t id = 0;
    int ret;

    if (!packed_is_available(vq, ring_load16_acquire(&ring[vq->next_avail].flags)))
        return 0;
    ret = packed_chain(vq, &chain, &slots, &id);
    if (ret)
        return ret == -EAGAIN ? 0 : ret;
    element->id = id;
    element->count = slots;
    vq->p->slots += slots;
    vq->next_avail += slots;
    if (vq->next_avail >= vq->size) {
        vq->next_avail -= vq->size;
        vq->avail_wrap ^= 1;
    }
    return 1;
}

void packed_unpop(struct virtq *vq, const struct virtq_element *element)
{
    vq->p->slots -= element->count;
    if (vq->next_avail < element->count) {
        vq->next_avail += vq->size;
        vq->avail_wrap ^= 1;
    }
    vq->next_avail -= element->count;
}

void packed_put(struct virtq *vq, uint16_t id, uint16_t count, uint32_t written)
{
    struct virtq_private *p = vq->p;
    struct vring_packed_desc *desc = (struct vring_packed_desc *)p->descriptors + vq->next_used;
    uint16_t flags =
        (vq->used_wrap ? DESC_AVAIL | DESC_USED : 0) | (written ? VRING_DESC_F_WRITE : 0);

    ring_store16(&desc->id, id);
    ring_store32(&desc->len, written);
    if (!p->unpublished) {
        p->held_slot = vq->next_used;
        p->held_flags = flags;
    } else {
        ring_store16_release(&desc->flags, flags);
    }
    p->unpublished += count;
    p->slots -= count;
    vq->next_used += count;
    if (vq->next_used >= vq->size) {
        vq->next_used -= vq->size;
        vq->used_wrap ^= 1;
    }
}

static bool packed_wants_notify(struct virtq *vq, uint16_t batch)
{
    uint32_t event = ring_load32(vq->p->driver); /* offset and wrap below, flags above */
    uint16_t offset = event & ((1u << VRING_PACKED_EVENT_F_WRAP_CTR) - 1);
    bool wrap = event & (1u << VRING_PACKED_EVENT_F_WRAP_CTR);

    switch ((event >> 16) & 3) {
    case VRING_PACKED_EVENT_FLAG_DISABLE:
        return false;
    case VRING_PACKED_EVENT_FLAG_DESC:
        if (!vq->features.event_idx)
            return true;
        if (wrap != vq->used_wrap)
            offset -= vq->size;
        return ring_need_event(offset, vq->next_used, vq->next_used - batch);
    default:
        return true;
    }
}

bool packed_publish(struct virtq *vq)
{
    struct virtq_private *p = vq->p;
    struct vring_packed_desc *ring = p->descriptors;

    ring_store16_release(&ring[p->held_slot].flags, p->held_flags);
    dma_written(vq->dma, vq->descriptors, 16 * (uint64_t)vq->size);
    ring_full_barrier();
    return packed_wants_notify(vq, p->unpublished);
}

static void packed_set_event(struct virtq *vq, uint16_t offset, uint16_t flags)
{
    ring_store32(vq->p->device, (uint32_t)flags << 16 | offset);
    dma_written(vq->dma, vq->device_area, 4);
}

void packed_disable_notify(struct virtq *vq)
{
    packed_set_event(vq, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
}

void packed_enable_notify(struct virtq *vq)
{
    if (vq->features.event_idx)
        packed_set_event(vq, vq->next_avail | vq->avail_wrap << VRING_PACKED_EVENT_F_WRAP_CTR,
                         VRING_PACKED_EVENT_FLAG_DESC);
    else
        packed_set_event(vq, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
}

bool packed_is_empty(struct virtq *vq)
{
    const struct vring_packed_desc *ring = vq->p->descriptors;

    return !packed_is_available(vq, ring_load16_acquire(&ring[vq->next_avail].flags));
}
