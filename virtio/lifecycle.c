/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lifecycle - what happens to a virtio device on its loop: start, stop, resets, quiescing, saved state
 *
 * Contract: virtio/device.h; phases: virtio/device.c.
 *
 * Thread: the device's loop; the lifecycle functions at the end come on the main thread and call over
 * to it.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <time.h>

#include "virtio/core.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_start, "%s", (const char *device), device)
TRACE_EVENT(virtio_stop, "%s", (const char *device), device)
TRACE_EVENT(virtio_queue_reset, "%s queue=%u", (const char *device, unsigned queue), device, queue)

/* ---- starting and stopping; on the loop ---- */

static void set_paused(struct virtio_device *vdev, unsigned index, bool paused)
{
    __atomic_store_n(&vdev->queues[index].paused, paused, __ATOMIC_RELEASE);
}

static bool queue_runs(struct virtio_device *vdev, unsigned index)
{
    return vdev->p->phase == PHASE_ON && !vdev->p->quiet && vdev->queues[index].p &&
           !vdev->queues[index].paused;
}

static void on_doorbell(void *opaque)
{
    struct queue_state *queue = opaque;

    if (queue_runs(queue->vdev, queue->index))
        queue->vdev->class->queue_ready(queue->vdev, queue->index);
}

void virtio_core_reset_queue_locked(struct virtio_device *vdev, unsigned index)
{
    uint16_t vector = vdev->queues[index].vector;

    trace_virtio_queue_reset(device_name(vdev), index);
    virtq_reset(&vdev->queues[index]);
    vdev->queues[index].vector = vector; /* the driver may count on it still being set */
    vdev->p->queues[index].resetting = vdev->p->queues[index].stopping = false;
    pthread_cond_broadcast(&vdev->p->done);
}

/* Maps the ring of an enabled queue and watches its doorbell. */
static bool use_queue(struct virtio_device *vdev, unsigned index)
{
    struct virtq *vq = &vdev->queues[index];
    struct queue_state *queue = &vdev->p->queues[index];
    struct virtq_features features = {
        .packed = virtio_device_has(vdev, VIRTIO_F_RING_PACKED),
        .indirect = virtio_device_has(vdev, VIRTIO_RING_F_INDIRECT_DESC),
        .event_idx = virtio_device_has(vdev, VIRTIO_RING_F_EVENT_IDX),
        .in_order = virtio_device_has(vdev, VIRTIO_F_IN_ORDER),
    };
    int ret = vq->p ? 0 : virtq_enable(vq, &features);

    if (ret) {
        g_autofree char *why = g_strdup_printf("queue %u of %u descriptors: %s", index, vq->size,
                                               ret == -EFAULT ? "the ring is not in guest RAM"
                                                              : "bad size or alignment");
        virtio_device_needs_reset(vdev, why);
        return false;
    }
    set_paused(vdev, index, vdev->p->quiet);
    if (!queue->doorbell)
        queue->doorbell =
            loop_eventfd_create(vdev->loop, vdev->queue_events[index], on_doorbell, queue);
    return true;
}

/* The loop has let go of the queues; with the lock held. Queue resets that were asked for have
 * nothing to wait for any more. */
static void turn_off_locked(struct virtio_device *vdev)
{
    struct virtio_device_private *p = vdev->p;

    p->phase = PHASE_OFF;
    for (unsigned i = 0; i < p->queue_count; i++) {
        if (p->queues[i].resetting)
            virtio_core_reset_queue_locked(vdev, i);
    }
}

static void start(struct virtio_device *vdev)
{
    struct virtio_device_private *p = vdev->p;
    int ret = 0;

    trace_virtio_start(device_name(vdev));
    for (unsigned i = 0; i < p->queue_count; i++)
        if (vdev->queues[i].enabled && !use_queue(vdev, i))
            ret = -EINVAL;
    pthread_mutex_lock(&vdev->lock);
    p->phase = PHASE_ON;
    if (ret)
        turn_off_locked(vdev);
    pthread_mutex_unlock(&vdev->lock);
    if (ret)
        return;
    vdev->started = true;
    if (vdev->class->start)
        ret = vdev->class->start(vdev);
    if (ret) {
        virtio_device_needs_reset(vdev, g_strerror(-ret));
        return;
    }
    for (unsigned i = 0; i < p->queue_count; i++)
        if (queue_runs(vdev, i))
            vdev->class->queue_ready(vdev, i);
}

static void begin_stop(struct virtio_device *vdev)
{
    struct virtio_device_private *p = vdev->p;

    trace_virtio_stop(device_name(vdev));
    pthread_mutex_lock(&vdev->lock);
    p->phase = PHASE_STOPPING;
    pthread_mutex_unlock(&vdev->lock);
    for (unsigned i = 0; i < p->queue_count; i++) {
        set_paused(vdev, i, true);
        g_clear_pointer(&p->queues[i].doorbell, loop_fd_destroy);
    }
    if (vdev->class->stop)
        vdev->class->stop(vdev);
    else
        virtio_device_stopped(vdev);
}

void virtio_core_reset_locked(struct virtio_device *vdev)
{
    struct virtio_device_private *p = vdev->p;

    for (unsigned i = 0; i < p->queue_count; i++) {
        virtq_reset(&vdev->queues[i]);
        set_paused(vdev, i, p->quiet);
        p->queues[i].resetting = p->queues[i].stopping = false;
    }
    vdev->driver_features = vdev->negotiated = 0;
    p->want_reset = p->want_stop = p->want_queues = false;
    if (vdev->transport && vdev->transport->reset)
        vdev->transport->reset(vdev->transport_opaque);
    __atomic_store_n(&vdev->status, 0, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&p->done);
}

void virtio_device_stopped(struct virtio_device *vdev)
{
    struct virtio_device_private *p = vdev->p;

    if (p->phase != PHASE_STOPPING)
        return;
    vdev->started = false;
    pthread_mutex_lock(&vdev->lock);
    turn_off_locked(vdev);
    if (p->want_reset)
        virtio_core_reset_locked(vdev);
    pthread_mutex_unlock(&vdev->lock);
}

static void finish_queue_reset(struct virtio_device *vdev, unsigned index)
{
    g_clear_pointer(&vdev->p->queues[index].doorbell, loop_fd_destroy);
    pthread_mutex_lock(&vdev->lock);
    virtio_core_reset_queue_locked(vdev, index);
    pthread_mutex_unlock(&vdev->lock);
}

void virtio_device_queue_stopped(struct virtio_device *vdev, unsigned index)
{
    if (vdev->p->queues[index].stopping)
        finish_queue_reset(vdev, index);
}

/* A queue that the driver resets or enables while the device is on. */
static void work_queue(struct virtio_device *vdev, unsigned index)
{
    struct queue_state *queue = &vdev->p->queues[index];
    struct virtq *vq = &vdev->queues[index];
    bool resetting, enabled;

    pthread_mutex_lock(&vdev->lock);
    resetting = queue->resetting;
    enabled = vq->enabled;
    pthread_mutex_unlock(&vdev->lock);
    if (resetting && !queue->stopping) {
        queue->stopping = true;
        set_paused(vdev, index, true);
        if (vq->p && vdev->class->queue_stop)
            vdev->class->queue_stop(vdev, index);
        else
            finish_queue_reset(vdev, index);
    } else if (enabled && !vq->p && !resetting) {
        if (use_queue(vdev, index) && queue_runs(vdev, index))
            vdev->class->queue_ready(vdev, index);
    }
}

static void work_queues(struct virtio_device *vdev)
{
    for (unsigned i = 0; i < vdev->p->queue_count && vdev->p->phase == PHASE_ON; i++)
        work_queue(vdev, i);
}

void virtio_core_write_config_locked(struct virtio_device *vdev, unsigned offset, unsigned size,
                                     uint64_t value)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t mask = vdev->config_writable[offset + i];
        uint8_t byte = value >> (8 * i);

        vdev->config[offset + i] = (vdev->config[offset + i] & ~mask) | (byte & mask);
    }
}

/* Config writes become visible here, one by one, so that the class sees every value there was. */
static void work_config(struct virtio_device *vdev)
{
    struct virtio_device_private *p = vdev->p;

    pthread_mutex_lock(&vdev->lock);
    while (p->write_count) {
        unsigned offset = p->writes[0].offset, size = p->writes[0].size;

        virtio_core_write_config_locked(vdev, offset, size, p->writes[0].value);
        p->write_count--;
        memmove(p->writes, p->writes + 1, p->write_count * sizeof(p->writes[0]));
        pthread_mutex_unlock(&vdev->lock);
        if (vdev->class->config_written)
            vdev->class->config_written(vdev, offset, size);
        pthread_mutex_lock(&vdev->lock);
    }
    p->want_config = false;
    pthread_cond_broadcast(&p->done);
    pthread_mutex_unlock(&vdev->lock);
}

void virtio_core_work(void *opaque)
{
    struct virtio_device *vdev = opaque;
    struct virtio_device_private *p = vdev->p;
    bool want_reset, want_stop, want_queues;
    enum phase phase;

    work_config(vdev);
    pthread_mutex_lock(&vdev->lock);
    want_reset = p->want_reset;
    want_stop = p->want_stop || want_reset;
    want_queues = p->want_queues;
    p->want_stop = p->want_queues = false;
    if (want_stop && p->phase == PHASE_STARTING)
        turn_off_locked(vdev);
    if (want_reset && p->phase == PHASE_OFF)
        virtio_core_reset_locked(vdev);
    phase = p->phase;
    pthread_mutex_unlock(&vdev->lock);

    if (phase == PHASE_ON && want_stop) {
        begin_stop(vdev);
    } else if (phase == PHASE_STARTING && !p->quiet) {
        start(vdev);
        work_queues(vdev);
    } else if (phase == PHASE_ON && want_queues) {
        work_queues(vdev);
    }
}

/* ---- lifecycle; on the main thread, the work on the loop ---- */

static void quiesce_on_loop(void *opaque)
{
    struct virtio_device *vdev = opaque;
    struct virtio_device_private *p = vdev->p;

    work_config(vdev);
    p->quiet = true;
    for (unsigned i = 0; i < p->queue_count; i++)
        set_paused(vdev, i, true);
    if (p->phase == PHASE_ON && vdev->class->quiesce)
        vdev->class->quiesce(vdev);
}

void virtio_device_quiesce(struct virtio_device *vdev)
{
    loop_call(vdev->loop, quiesce_on_loop, vdev);
}

struct quiesced_call {
    struct virtio_device *vdev;
    bool quiesced;
};

static void quiesced_on_loop(void *opaque)
{
    struct quiesced_call *call = opaque;
    struct virtio_device *vdev = call->vdev;

    call->quiesced = vdev->p->phase != PHASE_STOPPING;
    if (vdev->p->phase != PHASE_ON)
        return;
    if (vdev->class->quiesced)
        call->quiesced = vdev->class->quiesced(vdev);
    for (unsigned i = 0; i < vdev->p->queue_count; i++) {
        virtq_flush(&vdev->queues[i]);
        /* A chain that is out would be lost to whoever loads the state. */
        call->quiesced &= !vdev->queues[i].in_flight && !vdev->p->queues[i].stopping;
    }
}

bool virtio_device_quiesced(struct virtio_device *vdev)
{
    struct quiesced_call call = {.vdev = vdev};

    loop_call(vdev->loop, quiesced_on_loop, &call);
    return call.quiesced;
}

static void resume_on_loop(void *opaque)
{
    struct virtio_device *vdev = opaque;
    struct virtio_device_private *p = vdev->p;

    p->quiet = false;
    if (p->phase == PHASE_ON) {
        for (unsigned i = 0; i < p->queue_count; i++)
            set_paused(vdev, i, p->queues[i].resetting);
        if (vdev->class->resume)
            vdev->class->resume(vdev);
        for (unsigned i = 0; i < p->queue_count; i++)
            if (queue_runs(vdev, i))
                vdev->class->queue_ready(vdev, i);
    }
    virtio_core_work(vdev);
}

void virtio_device_resume(struct virtio_device *vdev)
{
    loop_call(vdev->loop, resume_on_loop, vdev);
}

static void reset_on_loop(void *opaque)
{
    struct virtio_device *vdev = opaque;

    pthread_mutex_lock(&vdev->lock);
    vdev->p->quiet = false;
    vdev->p->want_reset = true;
    pthread_mutex_unlock(&vdev->lock);
    virtio_core_work(vdev);
}

void virtio_device_reset(struct virtio_device *vdev)
{
    struct virtio_device_private *p = vdev->p;
    int64_t deadline = loop_now_ns() + RESET_WAIT_NS;

    loop_call(vdev->loop, reset_on_loop, vdev);
    while (loop_is_current(vdev->loop) && p->want_reset && loop_now_ns() < deadline) {
        /* What is in flight completes on this very loop. */
        if (!loop_iterate(vdev->loop, false))
            g_usleep(100);
    }
    pthread_mutex_lock(&vdev->lock);
    virtio_core_wait_while(vdev, &p->want_reset, deadline - loop_now_ns());
    if (p->want_reset)
        log_error(device_name(vdev), "requests are still in flight %d s after a reset",
                  (int)(RESET_WAIT_NS / G_GINT64_CONSTANT(1000000000)));
    pthread_mutex_unlock(&vdev->lock);
}

/* ---- saved state ---- */

static const struct state_field device_fields[] = {
    STATE_U64(struct virtio_device, driver_features, 1),
    STATE_U64(struct virtio_device, negotiated, 1),
    STATE_U8(struct virtio_device, status, 1),
    STATE_U32(struct virtio_device, config_generation, 1),
    STATE_BYTES(struct virtio_device, config, 1),
    STATE_U32(struct virtio_device, queue_count, 1),
    STATE_STRUCTS(struct virtio_device, queues, true, queue_count, VIRTIO_MAX_QUEUES, &virtq_state,
                  1),
    STATE_END,
};

const struct state_table virtio_device_state = {"virtio", 1, 1, device_fields};

static void before_save_on_loop(void *opaque)
{
    struct virtio_device *vdev = opaque;

    vdev->class->before_save(vdev);
}

void virtio_device_before_save(struct virtio_device *vdev)
{
    if (vdev->class->before_save)
        loop_call(vdev->loop, before_save_on_loop, vdev);
}

static bool load_error(struct virtio_device *vdev, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static bool load_error(struct virtio_device *vdev, GError **error, const char *format, ...)
{
    va_list ap;
    g_autofree char *text = NULL;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: saved state: %s", device_name(vdev),
                text);
    return false;
}

static bool check_loaded(struct virtio_device *vdev, GError **error)
{
    bool features_ok = vdev->status & VIRTIO_CONFIG_S_FEATURES_OK;
    bool driver_ok = vdev->status & VIRTIO_CONFIG_S_DRIVER_OK;

    if (vdev->negotiated & ~vdev->offered)
        return load_error(vdev, error,
                          "features 0x%" G_GINT64_MODIFIER
                          "x, this device offers 0x%" G_GINT64_MODIFIER "x",
                          vdev->negotiated, vdev->offered);
    if (features_ok != !!vdev->negotiated || (driver_ok && !features_ok))
        return load_error(vdev, error,
                          "status 0x%02x does not go with features 0x%" G_GINT64_MODIFIER "x",
                          vdev->status, vdev->negotiated);
    for (unsigned i = 0; i < vdev->queue_count; i++) {
        struct virtq *vq = &vdev->queues[i];
        int ret = 0;

        if (!vq->size || vq->size > vq->max_size || vq->in_flight)
            ret = -EINVAL;
        else if (driver_ok && vq->enabled)
            ret = virtq_reenable(vq);
        if (ret)
            return load_error(vdev, error, "queue %u: %s (size %u of at most %u, %u in flight)", i,
                              g_strerror(-ret), vq->size, vq->max_size, vq->in_flight);
    }
    return true;
}

struct load_call {
    struct virtio_device *vdev;
    GError **error;
    bool ok;
};

/* The device is quiet, so a start waits for resume. */
static void load_on_loop(void *opaque)
{
    struct load_call *call = opaque;
    struct virtio_device *vdev = call->vdev;
    struct virtio_device_private *p = vdev->p;
    unsigned loaded = vdev->queue_count;

    p->quiet = true;
    vdev->queue_count = p->queue_count;
    /* The queues are the loaded ones by now: no reset of the old ones may touch them. */
    for (unsigned i = 0; i < p->queue_count; i++)
        p->queues[i].resetting = p->queues[i].stopping = false;
    if (p->phase == PHASE_ON)
        begin_stop(vdev);
    if (p->phase != PHASE_OFF && p->phase != PHASE_STARTING) {
        call->ok = load_error(vdev, call->error, "the device is still busy");
        return;
    }
    call->ok =
        loaded == p->queue_count ||
        load_error(vdev, call->error, "%u queues, this device has %u", loaded, p->queue_count);
    call->ok = call->ok && check_loaded(vdev, call->error);
    pthread_mutex_lock(&vdev->lock);
    p->phase = PHASE_OFF;
    if (!call->ok)
        virtio_core_reset_locked(vdev);
    else if (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK &&
             !(vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET))
        p->phase = PHASE_STARTING;
    p->want_reset = p->want_stop = p->want_queues = false;
    pthread_mutex_unlock(&vdev->lock);
    for (unsigned i = 0; i < p->queue_count; i++)
        set_paused(vdev, i, true);
    if (call->ok && vdev->class->after_load)
        call->ok = vdev->class->after_load(vdev, call->error);
}

bool virtio_device_after_load(struct virtio_device *vdev, GError **error)
{
    struct load_call call = {.vdev = vdev, .error = error};

    loop_call(vdev->loop, load_on_loop, &call);
    return call.ok;
}
