/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_driver - the driver's side of virtio, for tests: rings, and the PCI transport
 *
 * A ring (struct driver_ring) lives in guest memory and needs no device: ring tests give the same
 * addresses to a struct virtq. A driver (struct virtio_driver) does what a guest's virtio_pci does, on
 * a function in a harness: finds the capabilities, negotiates, sets up queues with an MSI-X vector
 * each, rings doorbells over the bus and waits for used buffers.
 *
 * What a device must never do (a used id that is not out, an index that jumps) ends the test.
 */
#ifndef TESTS_DEVICE_VIRTIO_DRIVER_H
#define TESTS_DEVICE_VIRTIO_DRIVER_H

#include "tests/device/harness.h"
#include "virtio/pci.h"
#include "virtio/queue.h"

struct driver_buffer {
    uint64_t gpa;
    uint32_t len;
};

#define DRIVER_INDIRECT_MAX 64u /* descriptors in an indirect table */

struct driver_slot { /* a chain that is out, by its id */
    bool out;
    uint16_t descriptors;
    void *cookie;
};

struct driver_ring {
    struct memory *memory;
    uint16_t size;
    struct virtq_features features;
    uint64_t descriptors, driver_area, device_area, tables; /* guest-physical */
    uint16_t free;                                          /* descriptors */
    uint16_t next_avail, next_used;
    bool avail_wrap, used_wrap;
    uint16_t added;      /* since the last kick: entries (split) or descriptors (packed) */
    uint16_t next_desc;  /* where the next chain's descriptors begin (split, in-order) */
    uint16_t *free_list; /* split, any order */
    uint16_t held_flags; /* packed: of the first added descriptor */
    uint16_t held_slot;
    struct driver_slot *slots;
    uint16_t *order; /* ids in the order of adding; in-order completion */
    unsigned order_head, order_tail;
    bool batch_known; /* in-order: a used entry stands for all up to batch_id */
    uint16_t batch_id;
    uint32_t batch_written;
};

/* Bytes of guest memory that a ring of @size takes, tables included. */
uint64_t driver_ring_bytes(uint16_t size);
/* Lays the ring out at @gpa (4096-aligned, zeroed). */
void driver_ring_init(struct driver_ring *ring, struct memory *memory, uint64_t gpa, uint16_t size,
                      const struct virtq_features *features);
void driver_ring_finish(struct driver_ring *ring);
/* The device's side of it: addresses and size into @vq. */
void driver_ring_give(const struct driver_ring *ring, struct virtq *vq);

/* Adds a chain, not yet visible to the device. @cookie (not NULL) comes back from reap. False: no
 * room. */
bool driver_ring_add(struct driver_ring *ring, const struct driver_buffer *out, unsigned outs,
                     const struct driver_buffer *in, unsigned ins, bool indirect, void *cookie);
/* Makes what was added visible; true if the device wants its doorbell rung. */
bool driver_ring_publish(struct driver_ring *ring);
/* The next used chain's cookie and bytes written, or NULL. */
void *driver_ring_reap(struct driver_ring *ring, uint32_t *written);
/* Used buffer notifications: off; on for the next used chain (true: there is one already); on after
 * @count more used chains (with event indices). */
void driver_ring_interrupts_off(struct driver_ring *ring);
bool driver_ring_interrupts_on(struct driver_ring *ring);
void driver_ring_interrupts_after(struct driver_ring *ring, uint16_t count);

/* Host address of guest memory, for tests that write rings by hand. */
void *driver_ring_ptr(const struct driver_ring *ring, uint64_t gpa, uint64_t len);

/* ---- over PCI ---- */

struct virtio_driver {
    struct harness *h;
    struct virtio_pci *vpci;
    struct pci_function *function;
    unsigned slot;
    unsigned bar; /* all four areas lie there */
    uint32_t common, isr, config, notify, multiplier;
    uint32_t common_length, config_length;
    unsigned window; /* the configuration access capability */
    uint64_t features;
    bool msix;
    unsigned queue_count;
    struct driver_ring *rings;
    uint64_t *ring_memory; /* guest memory of each ring, reused when it is set up again */
    uint32_t *notify_offsets;
};

/* Attaches the function and finds everything. The driver borrows @vpci. */
struct virtio_driver *virtio_driver_create(struct harness *h, struct virtio_pci *vpci);
/* Detaches the function and frees the driver, not the device. */
void virtio_driver_destroy(struct virtio_driver *driver);

uint32_t virtio_driver_read(struct virtio_driver *driver, unsigned offset,
                            unsigned size); /* common */
void virtio_driver_write(struct virtio_driver *driver, unsigned offset, unsigned size,
                         uint32_t value);
uint32_t virtio_driver_config(struct virtio_driver *driver, unsigned offset, unsigned size);
uint8_t virtio_driver_status(struct virtio_driver *driver);
void virtio_driver_set_status(struct virtio_driver *driver, uint8_t bits); /* adds bits */
void virtio_driver_reset(struct virtio_driver *driver); /* and waits until it is done */
uint64_t virtio_driver_offered(struct virtio_driver *driver);
/* Reset, ACKNOWLEDGE, DRIVER, these features (VERSION_1 is added), FEATURES_OK: was it accepted? */
bool virtio_driver_negotiate(struct virtio_driver *driver, uint64_t features);
/* Lays out and enables a queue; @size 0: the largest. */
void virtio_driver_setup_queue(struct virtio_driver *driver, unsigned index, uint16_t size);
/* All of it: negotiates @features, which must be accepted, sets up all queues, DRIVER_OK. */
void virtio_driver_start(struct virtio_driver *driver, uint64_t features);
struct driver_ring *virtio_driver_ring(struct virtio_driver *driver, unsigned index);

/* Adds a chain, publishes it and rings the doorbell if the device wants it. */
void virtio_driver_submit(struct virtio_driver *driver, unsigned index,
                          const struct driver_buffer *out, unsigned outs,
                          const struct driver_buffer *in, unsigned ins, void *cookie);
void virtio_driver_publish(struct virtio_driver *driver, unsigned index);
void virtio_driver_kick(struct virtio_driver *driver, unsigned index); /* in any case */
/* Turns the loop until a chain is used: its cookie, or NULL after HARNESS_TIMEOUT_MS. */
void *virtio_driver_wait(struct virtio_driver *driver, unsigned index, uint32_t *written);
/* One chain there and back; bytes written, or -1. */
int64_t virtio_driver_request(struct virtio_driver *driver, unsigned index,
                              const struct driver_buffer *out, unsigned outs,
                              const struct driver_buffer *in, unsigned ins);
/* How many interrupts came for a queue (MSI-X). */
uint64_t virtio_driver_interrupts(struct virtio_driver *driver, unsigned index);
uint64_t virtio_driver_config_interrupts(struct virtio_driver *driver);

#endif
