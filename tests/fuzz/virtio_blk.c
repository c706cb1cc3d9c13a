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

#include "backends/block/block.h"
#include "tests/fuzz/hostile.h"
#include "virtio/blk.h"

#define DATA       0x10000u
#define OPERATIONS 400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_chain(struct hostile *driver, struct input *input, unsigned queue, unsigned count)
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
    publish(driver, queue, head);
}

static void operate(struct hostile *driver, struct input *input)
{
    uint8_t operation = take8(input);
    unsigned queue = operation & 1;

    if (operation < 0x40) {
        put_bytes(driver, input, operation + 1);
    } else if (operation < 0x80) {
        add_chain(driver, input, queue, 1 + ((operation >> 1) & 7));
    } else if (operation < 0xd0) {
        virtio_device_kick(driver->vdev, queue);
        turn(operation & 0xe);
    } else if (operation < 0xd8) {
        reset_and_begin(driver);
    } else if (operation < 0xe0) {
        reset_queue(driver, queue);
    } else if (operation < 0xe8) {
        pause_device(driver);
        virtio_device_resume(driver->vdev);
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
    uint8_t choice = take8(&input), order = take8(&input);
    struct hostile driver = {.queue_size = 1u << (1 + order % 7)};
    struct virtio_device *vdev = create(choice >> 4);

    hostile_connect(&driver, "virtio-blk", vdev, choice, choice & 0x40 ? vdev->class->features : 0);
    begin(&driver);
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&driver, &input);
    hostile_check_rest(&driver);
    g_assert_cmpuint(virtio_blk_backend(vdev)->in_flight, ==, 0);
    hostile_finish(&driver);
    return 0;
}
