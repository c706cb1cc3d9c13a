/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio_echo - a device type for tests of the virtio core: see virtio_echo.h */
#include "tests/device/virtio_echo.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

#include "vmm/state.h"

#define ECHO_PIECES 64u

static void serve(struct echo *echo, unsigned queue, struct virtq_element *element)
{
    uint64_t bytes = MIN(element->out_bytes, element->in_bytes);
    g_autofree uint8_t *copy = g_malloc(MAX(bytes, 1));
    uint64_t done = 0;

    for (unsigned i = 0; i < element->out_count && done < bytes; i++) {
        uint64_t part = MIN(element->iov[i].iov_len, bytes - done);
        memcpy(copy + done, element->iov[i].iov_base, part);
        done += part;
    }
    done = 0;
    for (unsigned i = 0; i < element->in_count && done < bytes; i++) {
        const struct iovec *iov = &virtq_in(element)[i];
        uint64_t part = MIN(iov->iov_len, bytes - done);
        memcpy(iov->iov_base, copy + done, part);
        done += part;
    }
    virtq_push(virtio_device_queue(&echo->vdev, queue), element, done);
    echo->counter++;
    __atomic_add_fetch(&echo->served, 1, __ATOMIC_RELEASE);
}

static void queue_ready(struct virtio_device *vdev, unsigned index)
{
    struct echo *echo = (struct echo *)vdev;
    struct virtq *vq = virtio_device_queue(vdev, index);
    struct virtq_element *element = virtq_element_create(ECHO_PIECES);

    do {
        virtq_disable_notify(vq);
        while (virtq_pop(vq, element) > 0) {
            if (!__atomic_load_n(&echo->hold, __ATOMIC_ACQUIRE)) {
                serve(echo, index, element);
                continue;
            }
            struct echo_chain *chain = g_new(struct echo_chain, 1);
            *chain = (struct echo_chain){element, index};
            g_queue_push_tail(&echo->held, chain);
            __atomic_add_fetch(&echo->held_in[index], 1, __ATOMIC_RELEASE);
            element = virtq_element_create(ECHO_PIECES);
        }
        virtq_flush(vq);
    } while (virtq_enable_notify(vq));
    g_free(element);
}

static int start(struct virtio_device *vdev)
{
    struct echo *echo = (struct echo *)vdev;

    __atomic_add_fetch(&echo->starts, 1, __ATOMIC_RELEASE);
    return echo->refuse ? -EIO : 0;
}

static void stop(struct virtio_device *vdev)
{
    struct echo *echo = (struct echo *)vdev;

    __atomic_add_fetch(&echo->stops, 1, __ATOMIC_RELEASE);
    if (g_queue_is_empty(&echo->held))
        virtio_device_stopped(vdev);
    else
        echo->stopping = true;
}

static void queue_stop(struct virtio_device *vdev, unsigned index)
{
    struct echo *echo = (struct echo *)vdev;

    if (!echo->held_in[index])
        virtio_device_queue_stopped(vdev, index);
    else
        echo->queue_stopping[index] = true;
}

static bool quiesced(struct virtio_device *vdev)
{
    return g_queue_is_empty(&((struct echo *)vdev)->held);
}

static void config_written(struct virtio_device *vdev, unsigned offset, unsigned size)
{
    struct echo *echo = (struct echo *)vdev;
    unsigned n = echo->write_count;

    if (n < G_N_ELEMENTS(echo->writes))
        memcpy(&echo->writes[n], vdev->config + 8, 4);
    __atomic_store_n(&echo->write_count, n + 1, __ATOMIC_RELEASE);
}

static void destroy(struct virtio_device *vdev)
{
    struct echo *echo = (struct echo *)vdev;

    g_assert_true(g_queue_is_empty(&echo->held));
    virtio_device_finish(vdev);
    g_free(echo);
}

static const struct state_field echo_fields[] = {
    STATE_U32(struct echo, counter, 1),
    STATE_END,
};
static const struct state_table echo_state = {"echo", 1, 1, echo_fields};

static const struct virtio_class echo_class = {
    .type = "virtio-echo",
    .id = 63,
    .pci_class = 0x088000,
    .features = UINT64_C(1) << ECHO_FEATURE,
    .config_size = ECHO_CONFIG_SIZE,
    .start = start,
    .stop = stop,
    .queue_ready = queue_ready,
    .queue_stop = queue_stop,
    .config_written = config_written,
    .quiesced = quiesced,
    .state_table = &echo_state,
    .destroy = destroy,
};

struct echo *echo_create(struct loop *loop, const struct virtio_ring_options *ring)
{
    struct echo *echo = g_new0(struct echo, 1);
    int ret = virtio_device_init(&echo->vdev, &echo_class, ECHO_QUEUES, ECHO_QUEUE_SIZE, loop);

    g_assert_cmpint(ret, ==, 0);
    g_queue_init(&echo->held);
    virtio_device_set_ring_options(&echo->vdev, ring);
    for (unsigned i = 0; i < ECHO_CONFIG_SIZE; i++)
        echo->vdev.config[i] = 0x10 + i;
    memset(echo->vdev.config_writable + 8, 0xff, 4);
    return echo;
}

struct release {
    struct echo *echo;
    bool newest_first;
};

static void release_on_loop(void *opaque)
{
    struct release *release = opaque;
    struct echo *echo = release->echo;
    struct echo_chain *chain;

    while ((chain = release->newest_first ? g_queue_pop_tail(&echo->held)
                                          : g_queue_pop_head(&echo->held))) {
        serve(echo, chain->queue, chain->element);
        __atomic_sub_fetch(&echo->held_in[chain->queue], 1, __ATOMIC_RELEASE);
        g_free(chain->element);
        g_free(chain);
    }
    for (unsigned i = 0; i < ECHO_QUEUES; i++) {
        virtq_flush(virtio_device_queue(&echo->vdev, i));
        if (echo->queue_stopping[i]) {
            echo->queue_stopping[i] = false;
            virtio_device_queue_stopped(&echo->vdev, i);
        }
    }
    if (echo->stopping) {
        echo->stopping = false;
        virtio_device_stopped(&echo->vdev);
    }
}

void echo_release(struct echo *echo, bool newest_first)
{
    struct release release = {echo, newest_first};

    loop_call(echo->vdev.loop, release_on_loop, &release);
}

void echo_setup(struct echo_fixture *f, struct loop *loop, bool msix)
{
    g_autoptr(GError) error = NULL;
    const struct virtio_ring_options ring = {0};

    f->h = harness_create(0);
    f->echo = echo_create(loop ? loop : f->h->loop, &ring);
    f->vpci = virtio_pci_create(&f->echo->vdev, "echo0", &f->h->env, msix, &error);
    g_assert_no_error(error);
    f->driver = virtio_driver_create(f->h, f->vpci);
    f->data = harness_alloc(f->h, 65536, 4096);
}

void echo_teardown(struct echo_fixture *f)
{
    virtio_driver_destroy(f->driver);
    virtio_pci_destroy(f->vpci);
    harness_destroy(f->h);
}

void echo_submit(struct echo_fixture *f, unsigned queue, unsigned slot, uint64_t seed)
{
    uint64_t at = f->data + 128 * slot;
    const struct driver_buffer out[2] = {{at, 8}, {at + 16, 24}};
    const struct driver_buffer in[1] = {{at + 64, 32}};

    for (unsigned i = 0; i < 4; i++)
        harness_store(f->h, i ? at + 8 + 8 * i : at, 8, seed + i);
    virtio_driver_submit(f->driver, queue, out, 2, in, 1, GUINT_TO_POINTER(slot + 1));
}

int echo_wait(struct echo_fixture *f, unsigned queue)
{
    uint32_t written = 0;
    void *cookie = virtio_driver_wait(f->driver, queue, &written);
    unsigned slot = GPOINTER_TO_UINT(cookie) - 1;
    uint64_t at = f->data + 128 * slot;

    if (!cookie)
        return -1;
    g_assert_cmpuint(written, ==, 32);
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmphex(harness_load(f->h, at + 64 + 8 * i, 8), ==, harness_load(f->h, at, 8) + i);
    return (int)slot;
}

void echo_check(struct echo_fixture *f, unsigned queue, uint64_t seed)
{
    echo_submit(f, queue, 511, seed);
    g_assert_cmpint(echo_wait(f, queue), ==, 511);
}
