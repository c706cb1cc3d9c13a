/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * split - the split ring: descriptor table, available ring, used ring (virtio 1.3, 2.7)
 *
 * The driver writes chain heads into the available ring and moves its index; we write used entries
 * and move ours. Either index counts freely modulo 2^16. Everything the driver wrote is read once and
 * checked: the index may be at most a ring's length ahead, heads and links stay inside the table, and
 * a chain has at most as many descriptors as the ring (an indirect table: VIRTQ_MAX_SIZE), which also
 * ends loops.
 *
 * Thread: the device's loop.
 */
#include <errno.h>
#include <string.h>

#include "virtio/ring.h"

int split_map(struct virtq *vq)
{
    struct virtq_private *p = vq->p;
    unsigned event = vq->features.event_idx ? 2 : 0;

    if (vq->size & (vq->size - 1))
        return -EINVAL;
    if (vq->descriptors % 16 || vq->driver_area % 2 || vq->device_area % 4)
        return -EINVAL;
    p->descriptors = dma_map_ring(vq->dma, vq->descriptors, 16 * (uint64_t)vq->size);
    p->driver = dma_map_ring(vq->dma, vq->driver_area, 4 + 2 * (uint64_t)vq->size + event);
    p->device = dma_map_ring(vq->dma, vq->device_area, 4 + 8 * (uint64_t)vq->size + event);
    if (!p->descriptors || !p->driver || !p->device)
        return -EFAULT;
    p->seen_avail = vq->next_avail;
    return 0;
}

/* Is there a chain? 1, 0, or -EBADMSG when the driver's index makes no sense. */
static int split_look(struct virtq *vq)
{
    struct virtq_private *p = vq->p;
    const struct vring_avail *avail = p->driver;

    if (p->seen_avail != vq->next_avail)
        return 1;
    p->seen_avail = ring_load16_acquire(&avail->idx);
    if (p->seen_avail == vq->next_avail)
        return 0;
    if ((uint16_t)(p->seen_avail - vq->next_avail) > vq->size) {
        p->seen_avail = vq->next_avail;
        return virtq_break(vq, "available index is more than a ring ahead");
    }
    return 1;
}

/* The descriptors of an indirect table, linked by their next fields. */
static int split_indirect(struct virtq *vq, struct virtq_chain *chain, uint64_t table,
                          uint32_t length)
{
    unsigned entries = length / sizeof(struct vring_desc);
    unsigned index = 0;
    struct vring_desc desc;
    int ret = virtq_begin_indirect(vq, chain, table, length);

    if (ret)
        return ret;
    for (;;) {
        ret = virtq_read_indirect(vq, chain, index, &desc);
        if (ret)
            return ret;
        if (desc.flags & VRING_DESC_F_INDIRECT)
            return virtq_break(vq, "indirect descriptor inside an indirect table");
        ret = virtq_chain_add(vq, chain, desc.addr, desc.len, desc.flags & VRING_DESC_F_WRITE);
        if (ret)
            return ret;
        if (!(desc.flags & VRING_DESC_F_NEXT))
            return 0;
        index = desc.next;
        if (index >= entries)
            return virtq_break(vq, "link out of the indirect table");
    }
}

static int split_chain(struct virtq *vq, struct virtq_chain *chain, unsigned index)
{
    const struct vring_desc *table = vq->p->descriptors;
    struct vring_desc desc;

    for (;;) {
        memcpy(&desc, &table[index], sizeof(desc));
        __atomic_signal_fence(__ATOMIC_SEQ_CST); /* desc is a copy, not to be read again */
        if (desc.flags & VRING_DESC_F_INDIRECT) {
            if (desc.flags & VRING_DESC_F_NEXT)
                return virtq_break(vq, "indirect descriptor with a link");
            return split_indirect(vq, chain, desc.addr, desc.len);
        }
        int ret = virtq_chain_add(vq, chain, desc.addr, desc.len, desc.flags & VRING_DESC_F_WRITE);
        if (ret)
            return ret;
        if (!(desc.flags & VRING_DESC_F_NEXT))
            return 0;
        index = desc.next;
        if (index >= vq->size)
            return virtq_break(vq, "link out of the descriptor table");
    }
}

int split_pop(struct virtq *vq, struct virtq_element *element)
{
    const struct vring_avail *avail = vq->p->driver;
    struct virtq_chain chain = {.element = element, .limit = vq->size};
    uint16_t head;
    int ret = split_look(vq);

    if (ret <= 0)
        return ret;
    if (vq->in_flight >= vq->size)
        return virtq_break(vq, "more chains available than the ring has descriptors");
    head = ring_load16(&avail->ring[vq->next_avail & (vq->size - 1)]);
    if (head >= vq->size)
        return virtq_break(vq, "head out of the descriptor table");
    ret = split_chain(vq, &chain, head);
    if (ret)
        return ret == -EAGAIN ? 0 : ret;
    element->id = head;
    element->count = 1;
    vq->next_avail++;
    return 1;
}

void split_unpop(struct virtq *vq, const struct virtq_element *element)
{
    vq->next_avail--;
}

void split_put(struct virtq *vq, uint16_t id, uint32_t written)
{
    struct vring_used *used = vq->p->device;
    vring_used_elem_t *entry = &used->ring[vq->next_used & (vq->size - 1)];

    ring_store32(&entry->id, id);
    ring_store32(&entry->len, written);
    vq->next_used++;
    vq->p->unpublished++;
}

bool split_publish(struct virtq *vq)
{
    const struct vring_avail *avail = vq->p->driver;
    struct vring_used *used = vq->p->device;
    uint16_t old = vq->signalled_used;
    bool known = vq->signalled_valid;

    ring_store16_release(&used->idx, vq->next_used);
    dma_written(vq->dma, vq->device_area, 4 + 8 * (uint64_t)vq->size);
    vq->signalled_used = vq->next_used;
    vq->signalled_valid = true;
    ring_full_barrier();
    if (!vq->features.event_idx)
        return !(ring_load16(&avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    return !known || ring_need_event(ring_load16(&avail->ring[vq->size]), vq->next_used, old);
}

/* With event indices there is nothing to do: the driver rings once, when it passes the event, and we
 * do not move that while we are polling. */
void split_disable_notify(struct virtq *vq)
{
    struct vring_used *used = vq->p->device;

    if (vq->features.event_idx)
        return;
    ring_store16(&used->flags, VRING_USED_F_NO_NOTIFY);
    dma_written(vq->dma, vq->device_area, 2);
}

void split_enable_notify(struct virtq *vq)
{
    struct vring_used *used = vq->p->device;

    if (vq->features.event_idx) {
        ring_store16(&used->ring[vq->size], vq->next_avail);
        dma_written(vq->dma, vq->device_area + 4 + 8 * (uint64_t)vq->size, 2);
    } else {
        ring_store16(&used->flags, 0);
        dma_written(vq->dma, vq->device_area, 2);
    }
}

bool split_is_empty(struct virtq *vq)
{
    const struct vring_avail *avail = vq->p->driver;

    return vq->p->seen_avail == vq->next_avail && ring_load16(&avail->idx) == vq->next_avail;
}
