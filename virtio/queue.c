/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * queue - what split and packed rings have in common (contract: virtio/queue.h)
 *
 * Limits: VIRTQ_MAX_SIZE descriptors in a ring, as many in a chain, 4 GiB of buffers in a chain
 * (virtio 1.3, 2.7.5.2). A chain whose buffers are not in guest RAM, or whose device-readable part
 * comes after a device-writable one, breaks the queue.
 *
 * In-order completion (2.7.9, 2.8.9): each used chain gets an entry of its own, in the order of
 * popping; one that is finished early waits in a table. Leaving entries out, which drivers must allow
 * for, would claim that skipped chains were written in full.
 *
 * Saved state: the device has drained, so nothing is in flight and the in-order table is empty; the
 * positions and addresses are all there is.
 */
#include "virtio/queue.h"

#include <errno.h>
#include <glib.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "virtio/ring.h"
#include "vmm/device.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(virtq_pop, "%s queue=%u id=%u out=%" G_GUINT64_FORMAT " in=%" G_GUINT64_FORMAT,
            (const char *device, unsigned queue, unsigned id, uint64_t out, uint64_t in), device,
            queue, id, out, in)
TRACE_EVENT(virtq_push, "%s queue=%u id=%u written=%u",
            (const char *device, unsigned queue, unsigned id, uint32_t written), device, queue, id,
            written)
TRACE_EVENT(virtq_notify, "%s queue=%u used=%u",
            (const char *device, unsigned queue, unsigned used), device, queue, used)

static const char *virtq_device(const struct virtq *vq)
{
    return vq->dma && vq->dma->device ? vq->dma->device->name : "-";
}

struct virtq_element *virtq_element_create(unsigned max_pieces)
{
    struct virtq_element *element =
        g_malloc0(sizeof(*element) + (size_t)max_pieces * sizeof(struct iovec));

    element->max = max_pieces;
    return element;
}

/* ---- set-up ---- */

void virtq_init(struct virtq *vq, unsigned index, uint16_t max_size, struct dma *dma,
                const struct virtq_ops *ops, void *opaque)
{
    memset(vq, 0, sizeof(*vq));
    vq->index = index;
    vq->max_size = max_size;
    vq->dma = dma;
    vq->ops = ops;
    vq->opaque = opaque;
    virtq_reset(vq);
}

void virtq_finish(struct virtq *vq)
{
    g_clear_pointer(&vq->p, g_free);
}

void virtq_reset(struct virtq *vq)
{
    g_clear_pointer(&vq->p, g_free);
    vq->size = vq->max_size;
    vq->descriptors = vq->driver_area = vq->device_area = 0;
    vq->vector = VIRTIO_MSI_NO_VECTOR;
    vq->enabled = vq->broken = false;
    vq->features = (struct virtq_features){0};
    vq->next_avail = vq->next_used = 0;
    vq->avail_wrap = vq->used_wrap = 0;
    vq->signalled_used = 0;
    vq->signalled_valid = false;
    vq->in_flight = 0;
}

/* Maps the ring at the positions that are in @vq. */
static int virtq_map(struct virtq *vq)
{
    int ret;

    if (!vq->size || vq->size > vq->max_size || vq->max_size > VIRTQ_MAX_SIZE)
        return -EINVAL;
    g_free(vq->p);
    vq->p = g_malloc0(sizeof(*vq->p) +
                      (vq->features.in_order ? vq->size : 0) * sizeof(vq->p->order[0]));
    ret = vq->features.packed ? packed_map(vq) : split_map(vq);
    if (ret)
        g_clear_pointer(&vq->p, g_free);
    vq->enabled = !ret;
    return ret;
}

int virtq_enable(struct virtq *vq, const struct virtq_features *features)
{
    vq->features = *features;
    vq->broken = false;
    vq->next_avail = vq->next_used = 0;
    vq->avail_wrap = vq->used_wrap = features->packed;
    vq->signalled_used = 0;
    vq->signalled_valid = false;
    vq->in_flight = 0;
    return virtq_map(vq);
}

int virtq_reenable(struct virtq *vq)
{
    /* Chains that were out when the state was saved would never come back. */
    if (vq->in_flight)
        return -EINVAL;
    return virtq_map(vq);
}

/* ---- reading chains ---- */

int virtq_break(struct virtq *vq, const char *why)
{
    if (!vq->broken) {
        vq->broken = true;
        if (vq->ops && vq->ops->broken)
            vq->ops->broken(vq->opaque, vq, why);
    }
    return -EBADMSG;
}

int virtq_chain_add(struct virtq *vq, struct virtq_chain *chain, uint64_t address, uint32_t length,
                    bool device_writes)
{
    struct virtq_element *element = chain->element;
    unsigned used = element->out_count + element->in_count;
    int pieces;

    if (chain->descriptors >= chain->limit)
        return virtq_break(vq, "chain longer than the ring, or a loop");
    chain->descriptors++;
    if (!device_writes && element->in_count + element->in_bytes)
        return virtq_break(vq, "device-readable buffer after a device-writable one");
    if (element->out_bytes + element->in_bytes + length > UINT64_C(1) << 32)
        return virtq_break(vq, "chain of more than 4 GiB");
    pieces = dma_map(vq->dma, address, length, device_writes ? DMA_FROM_DEVICE : DMA_TO_DEVICE,
                     element->iov + used, element->max - used);
    if (pieces == -E2BIG) {
        virtq_break(vq, "chain of more pieces than the device takes");
        return -ENOBUFS;
    }
    if (pieces == -EACCES || pieces == -EAGAIN)
        return -EAGAIN;
    if (pieces < 0)
        return virtq_break(vq, "buffer outside of guest RAM");
    if (device_writes) {
        element->in_count += pieces;
        element->in_bytes += length;
    } else {
        element->out_count += pieces;
        element->out_bytes += length;
    }
    return 0;
}

int virtq_begin_indirect(struct virtq *vq, struct virtq_chain *chain, uint64_t table,
                         uint32_t length)
{
    unsigned entries = length / 16;

    if (!vq->features.indirect)
        return virtq_break(vq, "indirect descriptor, which was not negotiated");
    if (!entries || length % 16 || entries > VIRTQ_MAX_SIZE)
        return virtq_break(vq, "length of an indirect table");
    chain->limit = chain->descriptors + entries;
    chain->table = table;
    chain->host = dma_map_ring(vq->dma, table, length);
    return 0;
}

int virtq_read_indirect(struct virtq *vq, const struct virtq_chain *chain, unsigned index,
                        void *descriptor)
{
    uint64_t address = chain->table + 16 * (uint64_t)index;
    int ret;

    if (chain->host) {
        memcpy(descriptor, chain->host + 16 * index, 16);
        __atomic_signal_fence(__ATOMIC_SEQ_CST); /* a copy, not to be read again */
        return 0;
    }
    ret = address < chain->table ? -EFAULT : dma_read(vq->dma, address, descriptor, 16);
    if (ret == -EACCES || ret == -EAGAIN)
        return -EAGAIN;
    return ret ? virtq_break(vq, "indirect table outside of guest RAM") : 0;
}

static bool virtq_may_run(const struct virtq *vq)
{
    return vq->p && !__atomic_load_n(&vq->paused, __ATOMIC_ACQUIRE) &&
           !dma_allowed(vq->dma, DMA_TO_DEVICE) && !dma_allowed(vq->dma, DMA_FROM_DEVICE);
}

int virtq_pop(struct virtq *vq, struct virtq_element *element)
{
    int ret;

    if (vq->broken)
        return -EBADMSG;
    if (!virtq_may_run(vq))
        return 0;
    element->out_count = element->in_count = 0;
    element->out_bytes = element->in_bytes = 0;
    ret = vq->features.packed ? packed_pop(vq, element) : split_pop(vq, element);
    if (ret <= 0)
        return ret;
    vq->in_flight++;
    if (vq->features.in_order) {
        element->sequence = vq->p->popped;
        vq->p->popped = (vq->p->popped + 1) % vq->size;
    }
    trace_virtq_pop(virtq_device(vq), vq->index, element->id, element->out_bytes,
                    element->in_bytes);
    return 1;
}

void virtq_unpop(struct virtq *vq, const struct virtq_element *element)
{
    if (!vq->p || !vq->in_flight)
        return;
    if (vq->features.packed)
        packed_unpop(vq, element);
    else
        split_unpop(vq, element);
    vq->in_flight--;
    if (vq->features.in_order)
        vq->p->popped = element->sequence;
}

/* ---- giving them back ---- */

static void virtq_put(struct virtq *vq, uint16_t id, uint16_t count, uint32_t written)
{
    if (vq->features.packed)
        packed_put(vq, id, count, written);
    else
        split_put(vq, id, written);
}

void virtq_push(struct virtq *vq, const struct virtq_element *element, uint32_t written)
{
    struct virtq_private *p = vq->p;
    struct virtq_done *done;

    /* The ring was reset under a request in flight: it is gone. */
    if (!p || !vq->in_flight)
        return;
    vq->in_flight--;
    written = MIN(written, element->in_bytes);
    trace_virtq_push(virtq_device(vq), vq->index, element->id, written);
    /* Bus mastering went off, or the ring is broken: nothing may be written any more. */
    if (vq->broken || dma_allowed(vq->dma, DMA_FROM_DEVICE))
        return;
    if (written)
        dma_written_iov(vq->dma, element->iov + element->out_count, element->in_count, written);
    if (!vq->features.in_order) {
        virtq_put(vq, element->id, element->count, written);
        return;
    }
    p->order[element->sequence] = (struct virtq_done){element->id, element->count, written, true};
    while ((done = &p->order[p->completed])->done) {
        virtq_put(vq, done->id, done->count, done->written);
        done->done = false;
        p->completed = (p->completed + 1) % vq->size;
    }
}

void virtq_flush(struct virtq *vq)
{
    bool notify;

    if (!vq->p || !vq->p->unpublished || vq->broken || dma_allowed(vq->dma, DMA_FROM_DEVICE))
        return;
    notify = vq->features.packed ? packed_publish(vq) : split_publish(vq);
    vq->p->unpublished = 0;
    if (notify) {
        trace_virtq_notify(virtq_device(vq), vq->index, vq->next_used);
        vq->ops->notify(vq->opaque, vq);
    }
}

/* ---- the driver's doorbell ---- */

void virtq_disable_notify(struct virtq *vq)
{
    if (!vq->p || vq->broken || dma_allowed(vq->dma, DMA_FROM_DEVICE))
        return;
    if (vq->features.packed)
        packed_disable_notify(vq);
    else
        split_disable_notify(vq);
}

bool virtq_enable_notify(struct virtq *vq)
{
    if (vq->broken || !virtq_may_run(vq))
        return false;
    if (vq->features.packed)
        packed_enable_notify(vq);
    else
        split_enable_notify(vq);
    /* The driver adds a chain, then looks whether to ring; we ask for it, then look for a chain. */
    ring_full_barrier();
    return !virtq_is_empty(vq);
}

bool virtq_is_empty(struct virtq *vq)
{
    if (vq->broken || !virtq_may_run(vq))
        return true;
    return vq->features.packed ? packed_is_empty(vq) : split_is_empty(vq);
}

/* ---- saved state ---- */

static const struct state_field virtq_fields[] = {
    STATE_U16(struct virtq, size, 1),
    STATE_U64(struct virtq, descriptors, 1),
    STATE_U64(struct virtq, driver_area, 1),
    STATE_U64(struct virtq, device_area, 1),
    STATE_U16(struct virtq, vector, 1),
    STATE_BOOL(struct virtq, enabled, 1),
    STATE_BOOL(struct virtq, broken, 1),
    STATE_BOOL(struct virtq, features.packed, 1),
    STATE_BOOL(struct virtq, features.indirect, 1),
    STATE_BOOL(struct virtq, features.event_idx, 1),
    STATE_BOOL(struct virtq, features.in_order, 1),
    STATE_U16(struct virtq, next_avail, 1),
    STATE_U16(struct virtq, next_used, 1),
    STATE_U8(struct virtq, avail_wrap, 1),
    STATE_U8(struct virtq, used_wrap, 1),
    STATE_U16(struct virtq, signalled_used, 1),
    STATE_BOOL(struct virtq, signalled_valid, 1),
    STATE_U32(struct virtq, in_flight, 1),
    STATE_END,
};

const struct state_table virtq_state = {"virtq", 1, 1, virtq_fields};
