/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * core - between device.c (what transports and drivers see) and lifecycle.c (what happens on the
 * device's loop); nobody else includes it
 */
#ifndef VIRTIO_CORE_H
#define VIRTIO_CORE_H

#include "virtio/device.h"
#include "vmm/log.h"

#define BIT(n) (UINT64_C(1) << (n))

#define CONFIG_WRITES 64u

#define VCPU_WAIT_NS  (20 * G_GINT64_CONSTANT(1000000))
#define RESET_WAIT_NS (5 * G_GINT64_CONSTANT(1000000000))

enum phase { PHASE_OFF, PHASE_STARTING, PHASE_ON, PHASE_STOPPING };

struct queue_state {
    struct virtio_device *vdev;
    unsigned index;
    struct loop_fd *doorbell; /* while the device is on and the queue in use */
    bool resetting;           /* queue_reset; lock */
    bool stopping;            /* class->queue_stop was called; loop */
};

struct virtio_device_private {
    enum phase phase; /* written with the lock on the loop, or in OFF */
    bool want_reset;  /* lock */
    bool want_stop;   /* lock: NEEDS_RESET was set */
    bool want_queues; /* lock: a queue was enabled or is to be reset */
    bool want_config; /* lock: there are config writes */
    unsigned write_count;
    struct {
        uint16_t offset, size;
        uint64_t value;
    } writes[CONFIG_WRITES]; /* lock: config writes in order, not yet carried out */
    bool config_changed;     /* lock: since the driver last read config space */
    bool quiet;              /* between quiesce and resume; loop */
    unsigned queue_count;
    int work_fd;
    struct loop_fd *work;
    pthread_cond_t done; /* something that a vCPU may be waiting for happened */
    struct queue_state queues[VIRTIO_MAX_QUEUES];
};

static inline const char *device_name(const struct virtio_device *vdev)
{
    return vdev->device ? vdev->device->name : vdev->class->type;
}

#define guest_error(vdev, ...)                                                                     \
    do {                                                                                           \
        if ((vdev)->device)                                                                        \
            log_guest(&(vdev)->device->guest_errors, (vdev)->device->name, __VA_ARGS__);           \
    } while (0)

/* Takes up what was asked for: reset, stop, start, queues, config writes. On the loop. */
void virtio_core_work(void *opaque);
/* To power-on, as far as the driver sees it. In OFF, with the lock held. */
void virtio_core_reset_locked(struct virtio_device *vdev);
void virtio_core_reset_queue_locked(struct virtio_device *vdev, unsigned index);
/* Puts into config space what the driver may write of it. */
void virtio_core_write_config_locked(struct virtio_device *vdev, unsigned offset, unsigned size,
                                     uint64_t value);
/* Waits with the lock held until @pending is false, or for a limited time. */
void virtio_core_wait_while(struct virtio_device *vdev, const bool *pending, int64_t limit_ns);

#endif
