/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device - the virtio device core (contract: virtio/device.h; virtio 1.3, 2 and 3)
 *
 * A device is in one of four phases. Only in OFF may another thread than the loop touch its queues,
 * which is why a reset in OFF (every driver's first act) is carried out on the spot:
 *
 *     OFF --DRIVER_OK--> STARTING --loop--> ON --reset, NEEDS_RESET--> STOPPING --class--> OFF
 *
 * What a vCPU asks for is noted under the lock and an eventfd wakes the loop (work); the vCPU then
 * waits for a short time, so that an idle device's reset, queue reset or config write is done when the
 * driver looks. It does not wait longer: drivers poll.
 *
 * While the lifecycle keeps the device quiet, queues are paused and a start waits; resume looks at
 * every queue, whether its doorbell rang or not.
 */

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "virtio/core.h"
#include "vmm/fd.h"
#include "vmm/options.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_status, "%s status=0x%02x", (const char *device, unsigned status), device,
            status)
TRACE_EVENT(virtio_features, "%s accepted=0x%" G_GINT64_MODIFIER "x ok=%d",
            (const char *device, uint64_t features, bool ok), device, features, ok)

/* ---- creation ---- */

static void on_queue_notify(void *opaque, struct virtq *vq)
{
    struct virtio_device *vdev = opaque;

    vdev->transport->notify_queue(vdev->transport_opaque,
                                  __atomic_load_n(&vq->vector, __ATOMIC_RELAXED));
}

static void on_queue_broken(void *opaque, struct virtq *vq, const char *why)
{
    g_autofree char *text = g_strdup_printf("queue %u: %s", vq->index, why);

    virtio_device_needs_reset(opaque, text);
}

static const struct virtq_ops queue_ops = {.notify = on_queue_notify, .broken = on_queue_broken};

int virtio_device_init(struct virtio_device *vdev, const struct virtio_class *class,
                       unsigned queue_count, uint16_t queue_size, struct loop *loop)
{
    struct virtio_device_private *p;
    pthread_condattr_t attr;
    int ret;

    vdev->class = class;
    vdev->loop = loop;
    vdev->offered = class->features | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED) |
                    BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |
                    BIT(VIRTIO_F_RING_RESET);
    pthread_mutex_init(&vdev->lock, NULL);
    p = vdev->p = g_new0(struct virtio_device_private, 1);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->done, &attr);
    pthread_condattr_destroy(&attr);
    /* As many as there can be: queues may be added, and a saved state names a number of its own. */
    vdev->queues = g_new0(struct virtq, VIRTIO_MAX_QUEUES);
    vdev->queue_events = g_new0(int, VIRTIO_MAX_QUEUES);
    p->work_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ret = p->work_fd < 0 ? -errno : virtio_device_add_queues(vdev, queue_count, queue_size);
    if (ret)
        virtio_device_finish(vdev);
    else
        p->work = loop_eventfd_create(loop, p->work_fd, virtio_core_work, vdev);
    return ret;
}

int virtio_device_add_queues(struct virtio_device *vdev, unsigned count, uint16_t size)
{
    struct virtio_device_private *p = vdev->p;

    if (count > VIRTIO_MAX_QUEUES - p->queue_count || size > VIRTQ_MAX_SIZE || !size)
        return -EINVAL;
    for (; count; count--) {
        unsigned i = p->queue_count;
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        if (fd < 0)
            return -errno;
        vdev->queue_events[i] = fd;
        virtq_init(&vdev->queues[i], i, size, NULL, &queue_ops, vdev);
        p->queues[i].vdev = vdev;
        p->queues[i].index = i;
        vdev->queue_count = ++p->queue_count;
    }
    return 0;
}

static void unwatch(void *opaque)
{
    struct virtio_device *vdev = opaque;

    g_clear_pointer(&vdev->p->work, loop_fd_destroy);
    for (unsigned i = 0; i < vdev->p->queue_count; i++)
        g_clear_pointer(&vdev->p->queues[i].doorbell, loop_fd_destroy);
}

void virtio_device_finish(struct virtio_device *vdev)
{
    struct virtio_device_private *p = vdev->p;

    if (!p)
        return;
    if (p->work)
        loop_call(vdev->loop, unwatch, vdev);
    for (unsigned i = 0; i < p->queue_count; i++) {
        virtq_finish(&vdev->queues[i]);
        close(vdev->queue_events[i]);
    }
    close_fd(p->work_fd);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&vdev->lock);
    g_clear_pointer(&vdev->queues, g_free);
    g_clear_pointer(&vdev->queue_events, g_free);
    g_clear_pointer(&vdev->p, g_free);
}

void virtio_device_set_ring_options(struct virtio_device *vdev,
                                    const struct virtio_ring_options *ring)
{
    const struct {
        bool off;
        unsigned bit;
    } bits[] = {
        {ring->no_packed, VIRTIO_F_RING_PACKED},
        {ring->no_indirect, VIRTIO_RING_F_INDIRECT_DESC},
        {ring->no_event_idx, VIRTIO_RING_F_EVENT_IDX},
        {ring->no_in_order, VIRTIO_F_IN_ORDER},
        {ring->no_ring_reset, VIRTIO_F_RING_RESET},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bits); i++) {
        if (bits[i].off)
            vdev->offered &= ~BIT(bits[i].bit);
        else
            vdev->offered |= BIT(bits[i].bit);
    }
}

bool virtio_ring_options_read(const struct options *options, struct virtio_ring_options *ring,
                              uint16_t *queue_size, GError **error)
{
    uint64_t size = options_uint(options, "queue-size");

    ring->no_packed = !options_bool(options, "packed");
    ring->no_indirect = !options_bool(options, "indirect");
    ring->no_event_idx = !options_bool(options, "event-idx");
    ring->no_in_order = !options_bool(options, "in-order");
    ring->no_ring_reset = !options_bool(options, "ring-reset");
    if (size < 2 || size > VIRTQ_MAX_SIZE || size & (size - 1)) {
        options_set_error(error, options, "queue-size", "must be a power of two from 2 to %u",
                          VIRTQ_MAX_SIZE);
        return false;
    }
    *queue_size = size;
    return true;
}

void virtio_device_connect(struct virtio_device *vdev, struct device *device, struct dma *dma,
                           const struct virtio_transport_ops *transport, void *opaque)
{
    vdev->device = device;
    vdev->dma = dma;
    vdev->transport = transport;
    vdev->transport_opaque = opaque;
    for (unsigned i = 0; i < vdev->p->queue_count; i++)
        vdev->queues[i].dma = dma;
}

/* ---- vCPU to loop ---- */

static void wake_loop(struct virtio_device *vdev)
{
    uint64_t one = 1;

    if (loop_is_current(vdev->loop))
        virtio_core_work(vdev);
    else if (write(vdev->p->work_fd, &one, sizeof(one)) < 0)
        log_debug(device_name(vdev), "work eventfd: %s", g_strerror(errno));
}

void virtio_core_wait_while(struct virtio_device *vdev, const bool *pending, int64_t limit_ns)
{
    int64_t deadline = loop_now_ns() + limit_ns;
    struct timespec until = {deadline / G_GINT64_CONSTANT(1000000000),
                             deadline % G_GINT64_CONSTANT(1000000000)};

    while (*pending && !pthread_cond_timedwait(&vdev->p->done, &vdev->lock, &until))
        ;
}

void virtio_device_needs_reset(struct virtio_device *vdev, const char *why)
{
    uint64_t one = 1;
    bool tell;

    guest_error(vdev, "needs a reset: %s", why);
    pthread_mutex_lock(&vdev->lock);
    tell =
        vdev->status & VIRTIO_CONFIG_S_DRIVER_OK && !(vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET);
    __atomic_or_fetch(&vdev->status, VIRTIO_CONFIG_S_NEEDS_RESET, __ATOMIC_RELEASE);
    vdev->p->want_stop = true;
    pthread_mutex_unlock(&vdev->lock);
    if (tell)
        vdev->transport->notify_config(vdev->transport_opaque);
    /* Not on the spot: the caller may be in the middle of its queues. */
    if (write(vdev->p->work_fd, &one, sizeof(one)) < 0)
        log_debug(device_name(vdev), "work eventfd: %s", g_strerror(errno));
}

/* ---- registers ---- */

uint8_t virtio_device_get_status(struct virtio_device *vdev)
{
    return __atomic_load_n(&vdev->status, __ATOMIC_ACQUIRE);
}

static void request_reset(struct virtio_device *vdev)
{
    struct virtio_device_private *p = vdev->p;

    pthread_mutex_lock(&vdev->lock);
    trace_virtio_status(device_name(vdev), 0);
    if (p->phase == PHASE_OFF) {
        virtio_core_reset_locked(vdev);
        pthread_mutex_unlock(&vdev->lock);
        return;
    }
    p->want_reset = true;
    pthread_mutex_unlock(&vdev->lock);
    wake_loop(vdev);
    if (loop_is_current(vdev->loop))
        return;
    pthread_mutex_lock(&vdev->lock);
    virtio_core_wait_while(vdev, &p->want_reset, VCPU_WAIT_NS);
    pthread_mutex_unlock(&vdev->lock);
}

/* Which of the status bits that the driver wants to set can be set; carries out what they mean. */
static uint8_t accept_status(struct virtio_device *vdev, uint8_t wanted)
{
    struct virtio_device_private *p = vdev->p;

    if (wanted & VIRTIO_CONFIG_S_FEATURES_OK) {
        uint64_t features = vdev->driver_features;
        bool ok = !(features & ~vdev->offered) && features & BIT(VIRTIO_F_VERSION_1);

        trace_virtio_features(device_name(vdev), features, ok);
        if (ok) {
            vdev->negotiated = features;
        } else {
            guest_error(vdev,
                        "features 0x%" G_GINT64_MODIFIER "x refused, of 0x%" G_GINT64_MODIFIER
                        "x offered",
                        features, vdev->offered);
            wanted &= ~VIRTIO_CONFIG_S_FEATURES_OK;
        }
    }
    if (wanted & VIRTIO_CONFIG_S_DRIVER_OK) {
        if (!((vdev->status | wanted) & VIRTIO_CONFIG_S_FEATURES_OK)) {
            guest_error(vdev, "DRIVER_OK without FEATURES_OK ignored");
            wanted &= ~VIRTIO_CONFIG_S_DRIVER_OK;
        } else if (!(vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) && p->phase == PHASE_OFF) {
            p->phase = PHASE_STARTING;
        }
    }
    return wanted;
}

void virtio_device_set_status(struct virtio_device *vdev, uint8_t status)
{
    bool begin;

    if (!status) {
        request_reset(vdev);
        return;
    }
    pthread_mutex_lock(&vdev->lock);
    if (vdev->p->want_reset) {
        pthread_mutex_unlock(&vdev->lock);
        return;
    }
    /* Bits only ever get set, and NEEDS_RESET is ours (virtio 1.3, 2.1.1). */
    status &= ~(vdev->status | VIRTIO_CONFIG_S_NEEDS_RESET);
    status = accept_status(vdev, status);
    __atomic_or_fetch(&vdev->status, status, __ATOMIC_RELEASE);
    trace_virtio_status(device_name(vdev), vdev->status);
    begin = vdev->p->phase == PHASE_STARTING;
    pthread_mutex_unlock(&vdev->lock);
    if (begin)
        wake_loop(vdev);
}

void virtio_device_set_driver_features(struct virtio_device *vdev, unsigned word, uint32_t bits)
{
    if (word > 1)
        return;
    pthread_mutex_lock(&vdev->lock);
    if (!(vdev->status & VIRTIO_CONFIG_S_FEATURES_OK))
        vdev->driver_features = (vdev->driver_features & ~((uint64_t)UINT32_MAX << (32 * word))) |
                                (uint64_t)bits << (32 * word);
    pthread_mutex_unlock(&vdev->lock);
}

void virtio_device_enable_queue(struct virtio_device *vdev, unsigned index)
{
    struct virtio_device_private *p = vdev->p;
    bool now;

    if (index >= p->queue_count)
        return;
    pthread_mutex_lock(&vdev->lock);
    if (p->queues[index].resetting || p->want_reset) {
        pthread_mutex_unlock(&vdev->lock);
        return;
    }
    vdev->queues[index].enabled = true;
    /* Before DRIVER_OK the ring is only noted: start maps it. */
    now = p->phase == PHASE_ON || p->phase == PHASE_STARTING;
    if (now)
        p->want_queues = true;
    pthread_mutex_unlock(&vdev->lock);
    if (now)
        wake_loop(vdev);
}

void virtio_device_reset_queue(struct virtio_device *vdev, unsigned index)
{
    struct virtio_device_private *p = vdev->p;

    if (index >= p->queue_count || !virtio_device_has(vdev, VIRTIO_F_RING_RESET))
        return;
    pthread_mutex_lock(&vdev->lock);
    if (p->want_reset || !vdev->queues[index].enabled) {
        pthread_mutex_unlock(&vdev->lock);
        return;
    }
    if (p->phase == PHASE_OFF) {
        virtio_core_reset_queue_locked(vdev, index);
        pthread_mutex_unlock(&vdev->lock);
        return;
    }
    p->queues[index].resetting = true;
    p->want_queues = true;
    pthread_mutex_unlock(&vdev->lock);
    wake_loop(vdev);
    if (loop_is_current(vdev->loop))
        return;
    pthread_mutex_lock(&vdev->lock);
    virtio_core_wait_while(vdev, &p->queues[index].resetting, VCPU_WAIT_NS);
    pthread_mutex_unlock(&vdev->lock);
}

bool virtio_device_queue_enabled(struct virtio_device *vdev, unsigned index)
{
    bool enabled;

    if (index >= vdev->p->queue_count)
        return false;
    pthread_mutex_lock(&vdev->lock);
    enabled = vdev->queues[index].enabled;
    pthread_mutex_unlock(&vdev->lock);
    return enabled;
}

bool virtio_device_begin_queue_setup(struct virtio_device *vdev, unsigned index)
{
    pthread_mutex_lock(&vdev->lock);
    if (index < vdev->p->queue_count && !vdev->queues[index].enabled &&
        !vdev->p->queues[index].resetting && !vdev->p->want_reset)
        return true;
    pthread_mutex_unlock(&vdev->lock);
    return false;
}

void virtio_device_end_queue_setup(struct virtio_device *vdev)
{
    pthread_mutex_unlock(&vdev->lock);
}

bool virtio_device_queue_resetting(struct virtio_device *vdev, unsigned index)
{
    bool resetting;

    if (index >= vdev->p->queue_count)
        return false;
    pthread_mutex_lock(&vdev->lock);
    resetting = vdev->p->queues[index].resetting;
    pthread_mutex_unlock(&vdev->lock);
    return resetting;
}

void virtio_device_kick(struct virtio_device *vdev, unsigned index)
{
    uint64_t one = 1;

    if (index < vdev->p->queue_count && write(vdev->queue_events[index], &one, sizeof(one)) < 0)
        log_debug(device_name(vdev), "doorbell %u: %s", index, g_strerror(errno));
}

/* ---- config space ---- */

uint64_t virtio_device_config_read(struct virtio_device *vdev, unsigned offset, unsigned size)
{
    uint64_t value = 0;

    if (size > sizeof(value) || offset > vdev->class->config_size ||
        size > vdev->class->config_size - offset)
        return 0;
    pthread_mutex_lock(&vdev->lock);
    /* Counting here and not at each change: 256 changes between two reads must not look like none
     * (virtio 1.3, 4.1.4.3.1). */
    if (vdev->p->config_changed) {
        vdev->p->config_changed = false;
        vdev->config_generation++;
    }
    memcpy(&value, vdev->config + offset, size);
    pthread_mutex_unlock(&vdev->lock);
    return value;
}

void virtio_device_config_write(struct virtio_device *vdev, unsigned offset, unsigned size,
                                uint64_t value)
{
    struct virtio_device_private *p = vdev->p;
    uint8_t any = 0;

    if (size > sizeof(value) || !size || offset > vdev->class->config_size ||
        size > vdev->class->config_size - offset)
        return;
    for (unsigned i = 0; i < size; i++)
        any |= vdev->config_writable[offset + i];
    if (!any)
        return;
    pthread_mutex_lock(&vdev->lock);
    if (vdev->class->config_select) {
        virtio_core_write_config_locked(vdev, offset, size, value);
        vdev->class->config_select(vdev);
        pthread_mutex_unlock(&vdev->lock);
        return;
    }
    if (p->write_count < CONFIG_WRITES) {
        p->writes[p->write_count].offset = offset;
        p->writes[p->write_count].size = size;
        p->writes[p->write_count++].value = value;
        p->want_config = true;
    } else {
        guest_error(vdev, "config write at %u dropped: too many at once", offset);
    }
    pthread_mutex_unlock(&vdev->lock);
    wake_loop(vdev);
    if (loop_is_current(vdev->loop))
        return;
    /* So that the driver reads what it wrote. */
    pthread_mutex_lock(&vdev->lock);
    virtio_core_wait_while(vdev, &p->want_config, VCPU_WAIT_NS);
    pthread_mutex_unlock(&vdev->lock);
}

void virtio_device_set_config(struct virtio_device *vdev, unsigned offset, const void *data,
                              unsigned size, bool notify)
{
    if (size > sizeof(vdev->config) || offset > sizeof(vdev->config) - size)
        return;
    pthread_mutex_lock(&vdev->lock);
    memcpy(vdev->config + offset, data, size);
    vdev->p->config_changed = true;
    notify = notify && vdev->transport && vdev->status & VIRTIO_CONFIG_S_DRIVER_OK;
    pthread_mutex_unlock(&vdev->lock);
    if (notify)
        vdev->transport->notify_config(vdev->transport_opaque);
}
