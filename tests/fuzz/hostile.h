/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hostile - for fuzz targets: a driver of a virtio device without a transport, whose descriptors are as
 * the input says. Its rings stand at fixed addresses of 1 MiB of guest memory, buffers behind them.
 */
#ifndef TESTS_FUZZ_HOSTILE_H
#define TESTS_FUZZ_HOSTILE_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/fuzz/input.h"
#include "tests/fuzz/transport.h"
#include "vmm/memory.h"

#define RAM_SIZE   (1u << 20)
#define MAX_QUEUES 5u
#define RING(Q)                                                                                    \
    (0x1000u + (Q)*0x4000u) /* descriptors; driver area + 0x2000, device area + 0x3000 */
#define BIT(n) (UINT64_C(1) << (n))
#define TURNS  2000

struct hostile {
    struct memory *memory;
    struct device device;
    struct dma dma;
    struct virtio_device *vdev;
    uint64_t features;
    uint16_t queue_size;
    uint16_t next[MAX_QUEUES]; /* descriptor */
    uint16_t avail[MAX_QUEUES];
    bool wrap[MAX_QUEUES];
};

static inline void turn(unsigned times)
{
    while (times-- && loop_iterate(loop_main(), false))
        ;
}

static inline void put(struct hostile *driver, uint64_t gpa, const void *bytes, size_t size)
{
    memory_write(driver->memory, gpa, bytes, size);
}

/* Operation @count - 1: bytes anywhere. */
static inline void put_bytes(struct hostile *driver, struct input *input, unsigned count)
{
    uint8_t bytes[256];
    uint64_t gpa = 16 * (uint64_t)take16(input);

    for (unsigned i = 0; i < count; i++)
        bytes[i] = take8(input);
    put(driver, gpa, bytes, count);
}

static inline bool is_packed(const struct hostile *driver)
{
    return driver->features & BIT(VIRTIO_F_RING_PACKED);
}

/* ---- setting up ---- */

/* @ring_choice: bits for packed, indirect, event index, in order. @more: what the target adds. */
static inline void hostile_connect(struct hostile *driver, const char *name,
                                   struct virtio_device *vdev, uint8_t ring_choice, uint64_t more)
{
    static const struct device_ops no_ops;
    struct memory_ram_options ram = {0};

    log_set_levels("error", NULL);
    driver->memory = memory_create();
    g_assert_true(memory_add_ram(driver->memory, RAM_SIZE, RAM_SIZE, &ram, NULL));
    device_init(&driver->device, name, name, &no_ops);
    dma_init(&driver->dma, driver->memory, &driver->device, true);
    driver->vdev = vdev;
    g_assert_cmpuint(vdev->queue_count, <=, MAX_QUEUES);
    virtio_device_connect(vdev, &driver->device, &driver->dma, &transport, NULL);
    driver->features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_RESET) | more |
                       (ring_choice & 1 ? BIT(VIRTIO_F_RING_PACKED) : 0) |
                       (ring_choice & 2 ? BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
                       (ring_choice & 4 ? BIT(VIRTIO_RING_F_EVENT_IDX) : 0) |
                       (ring_choice & 8 ? BIT(VIRTIO_F_IN_ORDER) : 0);
    driver->features &= vdev->offered;
    driver->queue_size = MIN(driver->queue_size, virtio_device_queue(vdev, 0)->max_size);
}

/* Comes to rest, and after a reset nothing is in flight. */
static inline void hostile_check_rest(struct hostile *driver)
{
    turn(TURNS);
    virtio_device_reset(driver->vdev);
    g_assert_cmpuint(virtio_device_get_status(driver->vdev), ==, 0);
    for (unsigned i = 0; i < driver->vdev->queue_count; i++)
        g_assert_cmpuint(virtio_device_queue(driver->vdev, i)->in_flight, ==, 0);
}

static inline void hostile_finish(struct hostile *driver)
{
    driver->vdev->class->destroy(driver->vdev);
    device_finish(&driver->device);
    memory_destroy(driver->memory);
}

static inline void set_up_queue(struct hostile *driver, unsigned index)
{
    struct virtq *vq = virtio_device_queue(driver->vdev, index);

    if (!virtio_device_begin_queue_setup(driver->vdev, index))
        return;
    vq->size = driver->queue_size;
    vq->descriptors = RING(index);
    vq->driver_area = RING(index) + 0x2000;
    vq->device_area = RING(index) + 0x3000;
    virtio_device_end_queue_setup(driver->vdev);
    virtio_device_enable_queue(driver->vdev, index);
}

static inline void begin(struct hostile *driver)
{
    static const uint8_t zeroes[RING(MAX_QUEUES)];

    put(driver, 0, zeroes, RING(driver->vdev->queue_count));
    memset(driver->next, 0, sizeof(driver->next));
    memset(driver->avail, 0, sizeof(driver->avail));
    memset(driver->wrap, 1, sizeof(driver->wrap));
    virtio_device_set_driver_features(driver->vdev, 0, driver->features);
    virtio_device_set_driver_features(driver->vdev, 1, driver->features >> 32);
    virtio_device_set_status(driver->vdev, VIRTIO_CONFIG_S_FEATURES_OK);
    for (unsigned i = 0; i < driver->vdev->queue_count; i++)
        set_up_queue(driver, i);
    virtio_device_set_status(driver->vdev, VIRTIO_CONFIG_S_DRIVER_OK);
}

static inline void reset_and_begin(struct hostile *driver)
{
    virtio_device_set_status(driver->vdev, 0);
    if (!virtio_device_get_status(driver->vdev))
        begin(driver);
}

static inline void reset_queue(struct hostile *driver, unsigned queue)
{
    virtio_device_reset_queue(driver->vdev, queue);
    turn(4);
    set_up_queue(driver, queue);
}

static inline void pause_device(struct hostile *driver)
{
    virtio_device_quiesce(driver->vdev);
    for (unsigned i = 0; i < TURNS && !virtio_device_quiesced(driver->vdev); i++)
        turn(1);
}

/* ---- chains ---- */

static inline void add_descriptor(struct hostile *driver, unsigned queue, uint64_t gpa,
                                  uint32_t length, uint16_t flags)
{
    uint16_t slot = driver->next[queue];
    uint64_t at = RING(queue) + 16 * slot;

    if (is_packed(driver)) {
        struct vring_packed_desc desc = {gpa, length, slot, flags};

        desc.flags |=
            driver->wrap[queue] ? 1 << VRING_PACKED_DESC_F_AVAIL : 1 << VRING_PACKED_DESC_F_USED;
        put(driver, at, &desc, sizeof(desc));
    } else {
        struct vring_desc desc = {gpa, length, flags, (slot + 1) % driver->queue_size};

        put(driver, at, &desc, sizeof(desc));
    }
    if (++driver->next[queue] == driver->queue_size) {
        driver->next[queue] = 0;
        driver->wrap[queue] = !driver->wrap[queue];
    }
}

/* The chain that began at @head is complete. */
static inline void publish(struct hostile *driver, unsigned queue, uint16_t head)
{
    uint64_t area = RING(queue) + 0x2000;

    if (is_packed(driver))
        return;
    put(driver, area + 4 + 2 * (driver->avail[queue] % driver->queue_size), &head, 2);
    driver->avail[queue]++;
    put(driver, area + 2, &driver->avail[queue], 2);
}

#endif
