/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device - the virtio device core: features, status, config space, queues; no transport
 *
 * A device type fills a struct virtio_class and embeds struct virtio_device as its first member. It
 * knows nothing of its transport (virtio/pci.c is one). (virtio 1.3: 2 Basic Facilities, 3 General
 * Initialization.)
 *
 * Threads: a device has one loop (its data path). All class callbacks run on that loop, but for
 * config_select. Register accesses of the transport come on vCPU threads: config space reads and
 * writes are served from a copy under a short lock; DRIVER_OK, queue enable/reset, device reset and
 * config writes reach the callbacks as deferred calls. Until a reset has been carried out the status
 * register does not read as 0, which is what the driver waits for.
 */
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/queue.h"
#include "vmm/device.h"
#include "vmm/loop.h"

#define VIRTIO_MAX_QUEUES      130u /* 64 pairs of net and its control queue */
#define VIRTIO_MAX_CONFIG_SIZE 256u

struct virtio_device;

struct virtio_class {
    const char *type;   /* "virtio-blk" */
    uint16_t id;        /* virtio device id (virtio_ids.h) */
    uint32_t pci_class; /* 24-bit PCI class code */
    uint64_t features;  /* device-type bits it may offer; the core adds ring and transport bits */
    unsigned config_size;

    /* The driver set DRIVER_OK with these features: start. Queues that are enabled are ready. An
     * error marks the device NEEDS_RESET. */
    int (*start)(struct virtio_device *vdev);
    /* Stop using queues (device reset, or NEEDS_RESET): cancel or wait for what is in flight without
     * blocking; when done call virtio_device_stopped(). NULL: nothing in flight, ever. */
    void (*stop)(struct virtio_device *vdev);
    /* The driver rang queue @index (or it must be looked at: after start, after resume). */
    void (*queue_ready)(struct virtio_device *vdev, unsigned index);
    /* One queue is being reset (VIRTIO_F_RING_RESET): like stop for that queue, then call
     * virtio_device_queue_stopped(). NULL: nothing in flight on it. */
    void (*queue_stop)(struct virtio_device *vdev, unsigned index);
    /* The driver wrote config bytes (now in vdev->config); once for each write. */
    void (*config_written)(struct virtio_device *vdev, unsigned offset, unsigned size);
    /* Instead of it, where what the driver reads next depends on what it wrote: brings vdev->config up
     * to date at once. On the vCPU's thread, with vdev->lock held; it touches nothing else. */
    void (*config_select)(struct virtio_device *vdev);
    /* Lifecycle: begin to drain / has drained (queue pops are already off). NULL: nothing in flight. */
    void (*quiesce)(struct virtio_device *vdev);
    bool (*quiesced)(struct virtio_device *vdev);
    void (*resume)(struct virtio_device *vdev); /* optional; queue_ready follows for every queue */
    /* Before it is saved: brings what state_table describes up to date. Optional. */
    void (*before_save)(struct virtio_device *vdev);
    /* Device-specific saved state beside features, status, config and queues (may be NULL), and its
     * check after loading. */
    const struct state_table *state_table;
    bool (*after_load)(struct virtio_device *vdev, GError **error);
    void (*destroy)(
        struct virtio_device *vdev); /* frees the device; on the main thread, loop quiet */
};

/* What the transport offers the core. */
struct virtio_transport_ops {
    void (*notify_queue)(void *opaque, unsigned vector); /* used buffer notification */
    void (*notify_config)(void *opaque);                 /* configuration change notification */
    /* The device is being reset: forget interrupts and selectors. With the device's lock held: it
     * must not call back. */
    void (*reset)(void *opaque);
};

struct virtio_device {
    const struct virtio_class *class;
    struct device *device; /* the transport's; lifecycle and name */
    struct dma *dma;
    struct loop *loop;
    const struct virtio_transport_ops *transport;
    void *transport_opaque;
    uint64_t offered;         /* feature bits offered (user options may have removed some) */
    uint64_t driver_features; /* as the driver writes them */
    uint64_t negotiated;      /* accepted by the driver, fixed at FEATURES_OK */
    uint8_t status;           /* atomic */
    bool started;             /* between start and stop; loop's thread */
    uint32_t config_generation;
    uint8_t config[VIRTIO_MAX_CONFIG_SIZE];
    uint8_t config_writable[VIRTIO_MAX_CONFIG_SIZE];
    unsigned queue_count;
    struct virtq *queues;
    int *queue_events; /* doorbell eventfds, watched on the loop */
    struct virtio_device_private *p;
    pthread_mutex_t lock; /* config space and status; never held in a callback */
};

/* Features the core offers for all devices unless @disabled ring options say otherwise. */
struct virtio_ring_options {
    bool no_packed, no_indirect, no_event_idx, no_in_order, no_ring_reset;
};
struct option_spec;
struct options;
/* Keys every virtio device takes: packed, indirect, event-idx, in-order, ring-reset, queue-size. */
#define VIRTIO_DEVICE_OPTIONS                                                                      \
    {"packed", OPTION_BOOL, .value = "on", .help = "offer the packed ring layout"},                \
        {"indirect", OPTION_BOOL, .value = "on", .help = "offer indirect descriptors"},            \
        {"event-idx", OPTION_BOOL, .value = "on", .help = "offer event index suppression"},        \
        {"in-order", OPTION_BOOL, .value = "off", .help = "offer in-order completion"},            \
        {"ring-reset", OPTION_BOOL, .value = "on", .help = "offer reset of single queues"},        \
    {                                                                                              \
        "queue-size", OPTION_UINT, .value = "256", .min = 2, .max = 1024,                          \
                                   .help = "descriptors a queue (a power of two)"                  \
    }

/* Initialises the core part. @queue_count queues of @queue_size. 0 or -errno (eventfds). */
int virtio_device_init(struct virtio_device *vdev, const struct virtio_class *class,
                       unsigned queue_count, uint16_t queue_size, struct loop *loop);
/* More queues, before the transport is created. 0 or -errno. */
int virtio_device_add_queues(struct virtio_device *vdev, unsigned count, uint16_t size);
void virtio_device_set_ring_options(struct virtio_device *vdev,
                                    const struct virtio_ring_options *ring);
/* Reads the VIRTIO_DEVICE_OPTIONS keys; queue-size must be a power of two. */
bool virtio_ring_options_read(const struct options *options, struct virtio_ring_options *ring,
                              uint16_t *queue_size, GError **error);
void virtio_device_finish(struct virtio_device *vdev);
static inline struct virtq *virtio_device_queue(struct virtio_device *vdev, unsigned index)
{
    return &vdev->queues[index];
}

static inline bool virtio_device_has(const struct virtio_device *vdev, unsigned feature_bit)
{
    return vdev->negotiated & (UINT64_C(1) << feature_bit);
}

/* ---- for device types (on the loop) ---- */
/* Any thread, also out of virtq_pop: the device is stopped from the loop, later. */
void virtio_device_needs_reset(struct virtio_device *vdev, const char *why);
void virtio_device_stopped(struct virtio_device *vdev);
void virtio_device_queue_stopped(struct virtio_device *vdev, unsigned index);
/* Changes config bytes, bumps the generation, and (@notify) tells the driver. Any thread. */
void virtio_device_set_config(struct virtio_device *vdev, unsigned offset, const void *data,
                              unsigned size, bool notify);

/* ---- for transports (vCPU threads, but for connect) ---- */

/* Before anything else: whose lifecycle, name and DMA the device has, and how it interrupts. */
void virtio_device_connect(struct virtio_device *vdev, struct device *device, struct dma *dma,
                           const struct virtio_transport_ops *transport, void *opaque);
uint64_t virtio_device_config_read(struct virtio_device *vdev, unsigned offset, unsigned size);
void virtio_device_config_write(struct virtio_device *vdev, unsigned offset, unsigned size,
                                uint64_t value);
uint8_t virtio_device_get_status(struct virtio_device *vdev);
void virtio_device_set_status(struct virtio_device *vdev, uint8_t status);
void virtio_device_set_driver_features(struct virtio_device *vdev, unsigned word, uint32_t bits);
void virtio_device_enable_queue(struct virtio_device *vdev, unsigned index);
void virtio_device_reset_queue(struct virtio_device *vdev, unsigned index);
bool virtio_device_queue_enabled(struct virtio_device *vdev,
                                 unsigned index); /* as the driver sees */
/* Brackets a change of the driver's settings of a queue (size, addresses); false: it is enabled or
 * being reset, and they may not change now. */
bool virtio_device_begin_queue_setup(struct virtio_device *vdev, unsigned index);
void virtio_device_end_queue_setup(struct virtio_device *vdev);
bool virtio_device_queue_resetting(struct virtio_device *vdev, unsigned index);
void virtio_device_kick(struct virtio_device *vdev,
                        unsigned index); /* a doorbell without eventfd */

/* Lifecycle, called by the transport's device_ops. */
void virtio_device_quiesce(struct virtio_device *vdev);
bool virtio_device_quiesced(struct virtio_device *vdev);
void virtio_device_resume(struct virtio_device *vdev);
void virtio_device_reset(struct virtio_device *vdev); /* main thread, synchronous */

extern const struct state_table virtio_device_state;
void virtio_device_before_save(struct virtio_device *vdev);
bool virtio_device_after_load(struct virtio_device *vdev, GError **error);

#endif
