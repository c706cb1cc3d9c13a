/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ring - between queue.c and the two ring layouts, split.c and packed.c; nobody else includes it
 *
 * A layout knows where descriptors, indices and flags lie in guest memory and when they may be
 * touched. Everything that does not depend on it (bounds of a chain, in-order completion, life cycle)
 * is in queue.c.
 *
 * Guest memory is little-endian and so is the host (x86-64 only), hence plain loads and stores; each
 * is a single atomic access, since the guest writes at the same time.
 */
#ifndef VIRTIO_RING_H
#define VIRTIO_RING_H

#include <linux/virtio_ring.h>

#include "virtio/queue.h"

/* A chain that was pushed ahead of an older one; kept until that is pushed too (in-order). */
struct virtq_done {
    uint16_t id;
    uint16_t count;
    uint32_t written;
    bool done;
};

struct virtq_private {
    /* The three parts of the ring: split: descriptor table, avail ring, used ring; packed: descriptor
     * ring, driver and device event suppression. */
    void *descriptors;
    void *driver;
    void *device;
    uint16_t seen_avail;  /* split: avail index as last read; next_avail..seen_avail are there */
    uint16_t unpublished; /* slots (packed) or entries (split) pushed since the last flush */
    uint32_t slots;       /* packed: descriptors of the chains in flight */
    uint16_t held_slot;   /* packed: first descriptor of the batch, whose flags are written last */
    uint16_t held_flags;
    uint16_t popped;           /* in-order: place in order[] of the next chain to pop */
    uint16_t completed;        /* in-order: place of the oldest chain that was not given back */
    struct virtq_done order[]; /* in-order: the queue's size */
};

#define ring_load16(pointer)         __atomic_load_n((const uint16_t *)(pointer), __ATOMIC_RELAXED)
#define ring_load16_acquire(pointer) __atomic_load_n((const uint16_t *)(pointer), __ATOMIC_ACQUIRE)
#define ring_load32(pointer)         __atomic_load_n((const uint32_t *)(pointer), __ATOMIC_RELAXED)
#define ring_store16(pointer, v)     __atomic_store_n((uint16_t *)(pointer), v, __ATOMIC_RELAXED)
#define ring_store16_release(p, v)   __atomic_store_n((uint16_t *)(p), v, __ATOMIC_RELEASE)
#define ring_store32(pointer, v)     __atomic_store_n((uint32_t *)(pointer), v, __ATOMIC_RELAXED)
/* Orders our stores before our later loads: publish, then look at what the driver wants. */
#define ring_full_barrier() __atomic_thread_fence(__ATOMIC_SEQ_CST)

/* Has @event been passed on the way from @old to @new? (virtio 1.3, 2.7.7.2) */
static inline bool ring_need_event(uint16_t event, uint16_t new_index, uint16_t old_index)
{
    return (uint16_t)(new_index - event - 1) < (uint16_t)(new_index - old_index);
}

/* The chain that is being read. */
struct virtq_chain {
    struct virtq_element *element;
    unsigned descriptors; /* read so far */
    unsigned limit;       /* that many at most */
    uint64_t table;       /* the indirect table, and where it is mapped when it lies in one piece */
    const uint8_t *host;
};

/* Marks the queue broken; always -EBADMSG, for `return virtq_break(...)`. */
int virtq_break(struct virtq *vq, const char *why);
/* Adds one buffer to the chain: 0, -EBADMSG or -ENOBUFS (the queue is broken), or -EAGAIN when a gate
 * closed meanwhile: then nothing is to be popped. */
int virtq_chain_add(struct virtq *vq, struct virtq_chain *chain, uint64_t address, uint32_t length,
                    bool device_writes);
/* Begins reading the indirect table of @length bytes at @table; then its descriptors one by one. 0 or
 * -errno as above. */
int virtq_begin_indirect(struct virtq *vq, struct virtq_chain *chain, uint64_t table,
                         uint32_t length);
int virtq_read_indirect(struct virtq *vq, const struct virtq_chain *chain, unsigned index,
                        void *descriptor);

int split_map(struct virtq *vq);
int split_pop(struct virtq *vq, struct virtq_element *element);
void split_unpop(struct virtq *vq, const struct virtq_element *element);
void split_put(struct virtq *vq, uint16_t id, uint32_t written);
bool split_publish(struct virtq *vq); /* true: the driver wants to be notified */
void split_disable_notify(struct virtq *vq);
void split_enable_notify(struct virtq *vq);
bool split_is_empty(struct virtq *vq);

int packed_map(struct virtq *vq);
int packed_pop(struct virtq *vq, struct virtq_element *element);
void packed_unpop(struct virtq *vq, const struct virtq_element *element);
void packed_put(struct virtq *vq, uint16_t id, uint16_t count, uint32_t written);
bool packed_publish(struct virtq *vq);
void packed_disable_notify(struct virtq *vq);
void packed_enable_notify(struct virtq *vq);
bool packed_is_empty(struct virtq *vq);

#endif
