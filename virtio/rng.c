/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rng - virtio entropy source (virtio 1.3, 5.4), driven by Linux' virtio_rng
 *
 * One queue of buffers that the device fills with getrandom(2), without ever waiting for it: while the
 * host's pool is not ready, requests stay in the queue and are looked at again later. With max-bytes
 * the guest gets that many bytes a period; the rest waits for the next one.
 *
 * A buffer gets at most RNG_CHUNK bytes, and a turn of the loop serves at most RNG_BATCH buffers, so
 * that a greedy guest does not stop what else the loop does. Nothing is ever in flight, and nothing of
 * it needs saving: a restored device begins a new period.
 *
 * Thread: the device's loop.
 */
#include "virtio/rng.h"

#include <errno.h>
#include <gio/gio.h>
#include <linux/virtio_ids.h>
#include <sys/random.h>

#include "vmm/trace.h"

TRACE_EVENT(virtio_rng_fill, "%s bytes=%" G_GUINT64_FORMAT, (const char *device, uint64_t bytes),
            device, bytes)

#define RNG_CHUNK    65536u
#define RNG_BATCH    64u
#define RNG_PIECES   64u
#define RNG_RETRY_NS (100 * G_GINT64_CONSTANT(1000000))
#define NS_PER_MS    G_GINT64_CONSTANT(1000000)

const struct option_spec virtio_rng_options[] = {
    {"max-bytes", OPTION_SIZE, .value = "0", .help = "bytes the guest gets a period (0: no limit)"},
    {"period", OPTION_UINT, .value = "1000", .min = 1, .max = 3600000,
     .help = "milliseconds of max-bytes"},
    VIRTIO_DEVICE_OPTIONS,
    {},
};

struct virtio_rng {
    struct virtio_device vdev;
    struct virtq_element *element;
    struct loop_timer *timer; /* the next period, or another look at the host's pool */
    uint64_t max_bytes;
    int64_t period_ns;
    int64_t period_end; /* loop time */
    uint64_t left;      /* bytes in this period */
};

/* How many bytes may go out now; 0: not before the timer. */
static uint64_t budget(struct virtio_rng *rng)
{
    int64_t now;

    if (!rng->max_bytes)
        return UINT64_MAX;
    now = loop_now_ns();
    if (now >= rng->period_end) {
        rng->period_end = now + rng->period_ns;
        rng->left = rng->max_bytes;
    }
    if (!rng->left)
        loop_timer_set(rng->timer, rng->period_end);
    return rng->left;
}

/* Fills the element's pieces with up to @limit bytes: how many it were, or -errno when it were none. */
static int64_t fill(struct virtq_element *element, uint64_t limit)
{
    uint64_t done = 0;

    for (unsigned i = 0; i < element->in_count && done < limit; i++) {
        const struct iovec *iov = &virtq_in(element)[i];
        size_t offset = 0;

        while (offset < iov->iov_len && done < limit) {
            size_t part = MIN(iov->iov_len - offset, limit - done);
            ssize_t got = getrandom((char *)iov->iov_base + offset, part, GRND_NONBLOCK);

            if (got < 0 && errno == EINTR)
                continue;
            if (got < 0)
                return done ? (int64_t)done : -errno;
            offset += got;
            done += got;
        }
    }
    return done;
}

enum { SERVED, EMPTY, WAITING };

/* One buffer. WAITING: the timer will look again. */
static int serve(struct virtio_rng *rng, struct virtq *vq)
{
    uint64_t limit = MIN(budget(rng), RNG_CHUNK);
    int64_t filled;

    if (!limit)
        return WAITING;
    if (virtq_pop(vq, rng->element) <= 0)
        return EMPTY;
    filled = fill(rng->element, limit);
    if (filled < 0) {
        virtq_unpop(vq, rng->element);
        loop_timer_set(rng->timer, loop_now_ns() + RNG_RETRY_NS);
        return WAITING;
    }
    trace_virtio_rng_fill(rng->vdev.device->name, filled);
    if (rng->max_bytes)
        rng->left -= filled;
    virtq_push(vq, rng->element, filled);
    return SERVED;
}

static void rng_queue_ready(struct virtio_device *vdev, unsigned index)
{
    struct virtio_rng *rng = (struct virtio_rng *)vdev;
    struct virtq *vq = virtio_device_queue(vdev, 0);
    int state = SERVED;

    virtq_disable_notify(vq);
    for (unsigned n = 0; n < RNG_BATCH && state == SERVED; n++)
        state = serve(rng, vq);
    virtq_flush(vq);
    if (state == SERVED || (state == EMPTY && virtq_enable_notify(vq)))
        virtio_device_kick(vdev, 0); /* there is more; the others' turn first */
}

static void rng_timer(void *opaque)
{
    struct virtio_device *vdev = opaque;

    if (vdev->started)
        rng_queue_ready(vdev, 0);
}

static void destroy_timer(void *opaque)
{
    loop_timer_destroy(opaque);
}

static void rng_destroy(struct virtio_device *vdev)
{
    struct virtio_rng *rng = (struct virtio_rng *)vdev;

    if (rng->timer)
        loop_call(vdev->loop, destroy_timer, rng->timer);
    virtio_device_finish(vdev);
    g_free(rng->element);
    g_free(rng);
}

static const struct virtio_class rng_class = {
    .type = "virtio-rng",
    .id = VIRTIO_ID_RNG,
    .pci_class = 0x00ff00, /* unclassified: there is no class for entropy sources */
    .queue_ready = rng_queue_ready,
    .destroy = rng_destroy,
};

struct virtio_device *virtio_rng_create(const struct options *options, struct loop *loop,
                                        GError **error)
{
    struct virtio_ring_options ring;
    struct virtio_rng *rng;
    uint16_t queue_size;
    int ret;

    if (!virtio_ring_options_read(options, &ring, &queue_size, error))
        return NULL;
    rng = g_new0(struct virtio_rng, 1);
    ret = virtio_device_init(&rng->vdev, &rng_class, 1, queue_size, loop);
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "%s: event file: %s",
                    options_what(options), g_strerror(-ret));
        g_free(rng);
        return NULL;
    }
    virtio_device_set_ring_options(&rng->vdev, &ring);
    rng->max_bytes = options_uint(options, "max-bytes");
    rng->period_ns = (int64_t)options_uint(options, "period") * NS_PER_MS;
    rng->element = virtq_element_create(RNG_PIECES);
    rng->timer = loop_timer_create(loop, rng_timer, rng);
    return &rng->vdev;
}
