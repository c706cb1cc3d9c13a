/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * queue - a virtqueue, device side: split and packed rings behind one interface
 *
 * A queue holds descriptor chains that the driver made available; the device pops a chain as two
 * validated lists of host memory pieces, does the work, and pushes it back with the number of bytes
 * it wrote. (virtio 1.3: 2.6 Virtqueues, 2.7 Split, 2.8 Packed, 2.7.5.3/2.8.7 Indirect, 2.7.10/2.8.10
 * event suppression, 2.7.9/2.8.9 In-order.)
 *
 *     while ((n = virtq_pop(vq, element)) > 0) { ...; virtq_push(vq, element, written); }
 *     virtq_flush(vq);      // publishes what was pushed, interrupts if the driver wants it
 *
 * The ring is hostile: indices, lengths, loops, nesting of indirect tables and addresses are checked;
 * a chain that breaks the rules marks the queue broken (and the device DEVICE_NEEDS_RESET), and pop
 * returns -EBADMSG from then on. A descriptor is read once.
 *
 * No allocation happens after virtq_enable. An element belongs to the caller and may be kept across
 * pops, for devices with several requests in flight.
 *
 * Thread: the loop of the device; not thread-safe in itself.
 */
#ifndef VIRTIO_QUEUE_H
#define VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/dma.h"

#define VIRTQ_MAX_SIZE     1024u /* descriptors of a ring; also the longest chain */
#define VIRTQ_MAX_SEGMENTS 1024u

struct state_table;

/* What was negotiated that concerns rings. */
struct virtq_features {
    bool packed;    /* VIRTIO_F_RING_PACKED */
    bool indirect;  /* VIRTIO_F_INDIRECT_DESC */
    bool event_idx; /* VIRTIO_F_EVENT_IDX */
    bool in_order;  /* VIRTIO_F_IN_ORDER */
};

struct virtq_element {
    uint16_t id;        /* head index (split) or buffer id (packed) */
    uint16_t count;     /* ring slots the chain took (packed) */
    uint16_t sequence;  /* place in the order of popping, for in-order completion */
    unsigned out_count; /* pieces the device reads, first in iov[] */
    unsigned in_count;  /* pieces the device writes, after them */
    uint64_t out_bytes;
    uint64_t in_bytes;
    unsigned max;       /* room in iov[] */
    struct iovec iov[]; /* a descriptor that crosses a region's end becomes two pieces */
};

/* Allocates an element with room for @max_pieces; free with g_free. */
struct virtq_element *virtq_element_create(unsigned max_pieces);
static inline struct iovec *virtq_out(struct virtq_element *element)
{
    return element->iov;
}
static inline struct iovec *virtq_in(struct virtq_element *element)
{
    return element->iov + element->out_count;
}

struct virtq;

struct virtq_ops {
    /* Interrupt the driver for this queue. */
    void (*notify)(void *opaque, struct virtq *vq);
    /* The driver broke the ring's rules; @why for the log. Called once until reset. */
    void (*broken)(void *opaque, struct virtq *vq, const char *why);
};

struct virtq {
    struct dma *dma;
    const struct virtq_ops *ops;
    void *opaque;
    unsigned index; /* queue number, for messages */
    /* As set by the driver through the transport: */
    uint16_t size;                                  /* descriptors */
    uint16_t max_size;                              /* what the device offers */
    uint64_t descriptors, driver_area, device_area; /* guest-physical */
    uint16_t vector;                                /* MSI-X vector or VIRTIO_MSI_NO_VECTOR */
    bool enabled; /* by the driver; it is in use from virtq_enable on */
    bool broken;
    bool paused; /* pop finds nothing (lifecycle, queue reset); atomic */
    struct virtq_features features;
    /* Ring positions: the saved state. */
    uint16_t next_avail; /* split: next index of the avail ring; packed: ring slot */
    uint16_t next_used;
    uint8_t avail_wrap, used_wrap; /* packed wrap counters (0 or 1) */
    uint16_t signalled_used;       /* event index: used index at the last notification */
    bool signalled_valid;
    uint32_t in_flight;      /* popped and not yet pushed */
    struct virtq_private *p; /* mapped ring addresses, in-order reorder buffer; set by enable */
};

void virtq_init(struct virtq *vq, unsigned index, uint16_t max_size, struct dma *dma,
                const struct virtq_ops *ops, void *opaque);
void virtq_finish(struct virtq *vq);
void virtq_reset(struct virtq *vq); /* to power-on: disabled, addresses and positions zero */

/* Starts using the ring at the addresses in @vq. -EINVAL (size, alignment), -EFAULT (not in RAM). */
int virtq_enable(struct virtq *vq, const struct virtq_features *features);
/* After the state was loaded: maps the ring again at the saved positions. -errno as enable. */
int virtq_reenable(struct virtq *vq);

/* 1: @element holds the next chain; 0: none available (or the device may not run now);
 * -EBADMSG: the ring is broken. -ENOBUFS: more pieces than element->max (the queue is then broken).
 * Whatever it returns, what @element held before is gone. */
int virtq_pop(struct virtq *vq, struct virtq_element *element);
/* Returns the last popped chain as if it had not been popped. Several can be returned, the last one
 * first, while nothing that was popped after them has been pushed. */
void virtq_unpop(struct virtq *vq, const struct virtq_element *element);
/* Gives the chain back; @written bytes of its in-pieces, from the first on. Marks them dirty. After a
 * reset of the queue, a break, or with bus mastering off it goes nowhere: nothing to check for. */
void virtq_push(struct virtq *vq, const struct virtq_element *element, uint32_t written);
/* Makes pushes visible to the driver and notifies it if it asked for that. Once per batch. */
void virtq_flush(struct virtq *vq);

/* Tells the driver whether to ring the doorbell. enable returns true when chains became available
 * meanwhile (then pop again). */
void virtq_disable_notify(struct virtq *vq);
bool virtq_enable_notify(struct virtq *vq);
bool virtq_is_empty(struct virtq *vq); /* nothing available now */

extern const struct state_table virtq_state;

#endif
