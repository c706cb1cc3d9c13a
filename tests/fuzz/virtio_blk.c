/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a hostile driver of virtio/blk. The input is a small program:
 *
 *     byte 0     ring features (packed, indirect, event index, in order), which disk, which features
 *     byte 1     queue size
 *     then       operations: write bytes anywhere in rings and buffers, add a chain of made-up
 *                descriptors that begins like a request, ring a doorbell, reset the device or a queue,
 *                pause and resume, write to config space
 *
 * Whatever it does, the device must come back to rest after a reset, with nothing in flight.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "backends/block/block.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/transport.h"
#include "virtio/blk.h"
#include "vmm/memory.h"

#define RAM_SIZE (1u << 20)
#define QUEUES   2u
#define RING(Q)                                                                                    \
    (0x1000u + (Q)*0x4000u) /* descriptors; driver area + 0x2000, device area + 0x3000 */
#define DATA       0x10000u
#define BIT(n)     (UINT64_C(1) << (n))
#define OPERATIONS 400
#define TURNS      2000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct driver {
    struct memory *memory;
    struct device device;
    struct dma dma;
    struct virtio_device *vdev;
    uint64_t features;
    uint16_t queue_size;
    uint16_t next[QUEUES]; /* descriptor; split: also the avail index, as it counts on */
    uint16_t avail[QUEUES];
    bool wrap[QUEUES];
};

static const struct device_ops no_ops;

static void put(struct driver *driver, uint64_t gpa, const void *bytes, size_t size)
{
    memory_write(driver->memory, gpa, bytes, size);
}

static bool is_packed(const struct driver *driver)
{
    return driver->features & BIT(VIRTIO_F_RING_PACKED);
}

/* ---- operations ---- */

static void start(struct driver *driver)
{
    static const uint8_t zeroes[DATA];

    put(driver, 0, zeroes, sizeof(zeroes));
    memset(driver->next, 0, sizeof(driver->next));
    memset(driver->avail, 0, sizeof(driver->avail));
    memset(driver->wrap, 1, sizeof(driver->wrap));
    virtio_device_set_driver_features(driver->vdev, 0, driver->features);
    virtio_device_set_driver_features(driver->vdev, 1, driver->features >> 32);
    virtio_device_set_status(driver->vdev, VIRTIO_CONFIG_S_FEATURES_OK);
}

static void set_up_queue(struct driver *driver, unsigned index)
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

static void begin(struct driver *driver)
{
    start(driver);
    for (unsigned i = 0; i < QUEUES; i++)
        set_up_queue(driver, i);
    virtio_device_set_status(driver->vdev, VIRTIO_CONFIG_S_DRIVER_OK);
}

static void add_descriptor(struct driver *driver, unsigned queue, uint64_t gpa, uint32_t length,
                           uint16_t flags)
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

static void add_chain(struct driver *driver, struct input *input, unsigned queue, unsigned count)
{
    static const uint32_t types[] = {VIRTIO_BLK_T_IN,      VIRTIO_BLK_T_OUT,
                                     VIRTIO_BLK_T_FLUSH,   VIRTIO_BLK_T_GET_ID,
                                     VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
    uint8_t type = take8(input), sector = take8(input);
    struct virtio_blk_outhdr header = {
        .type = type < 240 ? types[type % G_N_ELEMENTS(types)] : type,
        .sector = sector == 255   ? UINT64_MAX
                  : sector == 254 ? RAM_SIZE / 512 - 1
                                  : sector,
    };
    uint16_t head = driver->next[queue];

    for (unsigned i = 0; i < count; i++) {
        uint8_t flags = take8(input);
        uint64_t gpa = DATA + 256 * take8(input);
        uint32_t length = take16(input);

        if (i == 0)
            put(driver, gpa, &header, sizeof(header));
        if (flags & 0x80)
            gpa = RAM_SIZE - 256;
        if (flags & 0x40)
            length <<= 16;
        if (flags & 0x20 && length > 16)
            length = i ? 512 : 16;
        add_descriptor(driver, queue, gpa, length,
                       (flags & (VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) |
                           (i + 1 < count ? VRING_DESC_F_NEXT : 0));
    }
    if (!is_packed(driver)) {
        uint64_t area = RING(queue) + 0x2000;

        put(driver, area + 4 + 2 * (driver->avail[queue] % driver->queue_size), &head, 2);
        driver->avail[queue]++;
        put(driver, area + 2, &driver->avail[queue], 2);
    }
}

static void turn(unsigned times)
{
    while (times-- && loop_iterate(loop_main(), false))
        ;
}

static void pause_and_resume(struct driver *driver)
{
    virtio_device_quiesce(driver->vdev);
    for (unsigned i = 0; i < TURNS && !virtio_device_quiesced(driver->vdev); i++)
        turn(1);
    virtio_device_resume(driver->vdev);
}

static void operate(struct driver *driver, struct input *input)
{
    uint8_t operation = take8(input);
    unsigned queue = operation & 1;

    if (operation < 0x40) {
        uint8_t bytes[0x40];
        uint64_t gpa = 16 * (uint64_t)take16(input);

        for (unsigned i = 0; i <= operation; i++)
            bytes[i] = take8(input);
        put(driver, gpa, bytes, operation + 1);
    } else if (operation < 0x80) {
        add_chain(driver, input, queue, 1 + ((operation >> 1) & 7));
    } else if (operation < 0xd0) {
        virtio_device_kick(driver->vdev, queue);
        turn(operation & 0xe);
    } else if (operation < 0xd8) {
        virtio_device_set_status(driver->vdev, 0);
        if (!virtio_device_get_status(driver->vdev))
            begin(driver);
    } else if (operation < 0xe0) {
        virtio_device_reset_queue(driver->vdev, queue);
        turn(4);
        set_up_queue(driver, queue);
    } else if (operation < 0xe8) {
        pause_and_resume(driver);
    } else {
        uint8_t offset = take8(input), value = take8(input);

        virtio_device_config_write(driver->vdev, offset, 1, value);
        virtio_device_config_read(driver->vdev, offset, 4);
    }
}

/* ---- one input ---- */

static struct virtio_device *create(unsigned choice)
{
    static const char *const disks[] = {
        "type=null,size=1M,queues=2",
        "type=null,size=1M,queues=2,latency-us=1,queue-size=8",
        "type=null,size=1M,queues=2,fault-errors=300",
        "type=null,size=1M,queues=2,readonly=on,fault-delay-us=1",
    };
    g_autofree char *text = g_strconcat(disks[choice & 3], ",in-order=on", NULL);
    g_autoptr(options_t) options = options_parse(virtio_blk_options, "--disk", text, NULL);
    struct virtio_device *vdev = virtio_blk_create(options, loop_main(), NULL);

    g_assert_nonnull(vdev);
    return vdev;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct memory_ram_options ram = {0};
    uint8_t choice = take8(&input), order = take8(&input);
    struct driver driver = {.memory = memory_create()};

    log_set_levels("error", NULL);
    g_assert_true(memory_add_ram(driver.memory, RAM_SIZE, RAM_SIZE, &ram, NULL));
    device_init(&driver.device, "virtio-blk0", "virtio-blk", &no_ops);
    dma_init(&driver.dma, driver.memory, &driver.device, true);
    driver.vdev = create(choice >> 4);
    virtio_device_connect(driver.vdev, &driver.device, &driver.dma, &transport, NULL);
    driver.features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_RESET) |
                      (choice & 1 ? BIT(VIRTIO_F_RING_PACKED) : 0) |
                      (choice & 2 ? BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
                      (choice & 4 ? BIT(VIRTIO_RING_F_EVENT_IDX) : 0) |
                      (choice & 8 ? BIT(VIRTIO_F_IN_ORDER) : 0) |
                      (choice & 0x40 ? driver.vdev->class->features : 0);
    driver.features &= driver.vdev->offered;
    driver.queue_size = 1u << (1 + order % 7);
    driver.queue_size = MIN(driver.queue_size, virtio_device_queue(driver.vdev, 0)->max_size);
    begin(&driver);
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&driver, &input);

    turn(TURNS);
    virtio_device_reset(driver.vdev);
    g_assert_cmpuint(virtio_device_get_status(driver.vdev), ==, 0);
    g_assert_cmpuint(virtio_blk_backend(driver.vdev)->in_flight, ==, 0);
    driver.vdev->class->destroy(driver.vdev);
    device_finish(&driver.device);
    memory_destroy(driver.memory);
    return 0;
}
