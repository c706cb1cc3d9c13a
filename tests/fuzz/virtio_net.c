/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a hostile driver of virtio/net, and a hostile peer behind its backend. The input is a
 * small program:
 *
 *     byte 0     ring features (packed, indirect, event index, in order), which backend, which features
 *     byte 1     queue size
 *     then       operations: write bytes anywhere in rings and buffers, add a chain of made-up
 *                descriptors that begins like a frame's header or a command, ring a doorbell, let the
 *                peer send a frame (or bytes) or read, reset the device or a queue, pause and resume,
 *                save and load, plug the cable in or out
 *
 * Whatever it does, the device must come back to rest after a reset, with nothing in flight.
 */
#include <linux/virtio_net.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/net/net.h"
#include "tests/fuzz/hostile.h"
#include "virtio/net.h"
#include "vmm/state.h"

#define DATA       0x20000u
#define OPERATIONS 400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct driver {
    struct hostile hostile;
    int peer; /* -1: none */
};

/* ---- chains ---- */

/* What a chain begins with: a header and the headers of a TCP segment, or a command. */
static void put_start(struct hostile *driver, struct input *input, unsigned queue, uint64_t gpa)
{
    uint8_t choice = take8(input);
    uint8_t bytes[66] = {
        [0] = choice & 1,
        [1] = choice >> 1 & 7,
        [4] = take8(input),
        [5] = choice >> 6,
        [6] = choice & 0x20 ? 34 : take8(input),
        [8] = 16,
        [24] = 8,
        [26] = 0x45,
        [35] = choice & 0x10 ? 17 : 6,
        [58] = 0x50,
    };

    if (queue + 1 == driver->vdev->queue_count) {
        bytes[0] = choice & 7;
        bytes[1] = choice >> 3 & 7;
    }
    put(driver, gpa, bytes, sizeof(bytes));
}

static void add_chain(struct hostile *driver, struct input *input, unsigned queue, unsigned count)
{
    uint16_t head = driver->next[queue];

    for (unsigned i = 0; i < count; i++) {
        uint8_t flags = take8(input);
        uint64_t gpa = DATA + 256 * take8(input);
        uint32_t length = take16(input);

        if (i == 0)
            put_start(driver, input, queue, gpa);
        if (flags & 0x80)
            gpa = RAM_SIZE - 256;
        if (flags & 0x40)
            length <<= 16;
        if (flags & 0x20)
            length &= 0x7ff;
        if (flags & 0x10 && !(queue & 1) && queue + 1 < driver->vdev->queue_count)
            flags |= VRING_DESC_F_WRITE;
        add_descriptor(driver, queue, gpa, length,
                       (flags & (VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) |
                           (i + 1 < count ? VRING_DESC_F_NEXT : 0));
    }
    publish(driver, queue, head);
}

/* ---- operations ---- */

static void peer_acts(int peer, struct input *input, uint8_t operation)
{
    static uint8_t bytes[NET_MAX_FRAME + 8];
    uint16_t length = take16(input);
    size_t prefix = operation & 2 ? 4 : 0; /* a frame of a stream, or what it takes for one */

    memset(bytes, take8(input), sizeof(bytes));
    memcpy(bytes, (uint8_t[]){0, 0, length >> 8, length & 255}, prefix);
    if (peer < 0)
        return;
    if (operation & 1) {
        while (recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
    } else if (send(peer, bytes, prefix + length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        turn(1);
    }
}

/* Saved, and loaded again, perhaps with a byte that is wrong. */
static void save_and_load(struct hostile *driver, struct input *input)
{
    const struct state_table *table = driver->vdev->class->state_table;
    g_autoptr(GByteArray) saved = g_byte_array_new();
    unsigned at = take16(input);
    uint8_t flip = take8(input);

    pause_device(driver);
    virtio_device_before_save(driver->vdev);
    state_save(table, driver->vdev, saved);
    saved->data[at % saved->len] ^= flip;
    driver->device.state = DEVICE_RESUMING;
    if (!state_load(table, driver->vdev, saved->data, saved->len, NULL) ||
        !virtio_device_after_load(driver->vdev, NULL)) {
        driver->device.state = DEVICE_RUNNING;
        virtio_device_reset(driver->vdev);
        return;
    }
    driver->device.state = DEVICE_RUNNING;
    virtio_device_resume(driver->vdev);
}

static void operate(struct driver *fuzz, struct input *input)
{
    struct hostile *driver = &fuzz->hostile;
    uint8_t operation = take8(input);
    unsigned queue = (operation & 7) % driver->vdev->queue_count;

    if (operation < 0x20) {
        put_bytes(driver, input, operation + 1);
    } else if (operation < 0x70) {
        add_chain(driver, input, queue, 1 + ((operation >> 3) & 7));
    } else if (operation < 0xa0) {
        virtio_device_kick(driver->vdev, queue);
        turn(operation & 0xe);
    } else if (operation < 0xd0) {
        peer_acts(fuzz->peer, input, operation);
    } else if (operation < 0xd8) {
        reset_and_begin(driver);
    } else if (operation < 0xe0) {
        reset_queue(driver, queue);
    } else if (operation < 0xe8) {
        pause_device(driver);
        virtio_device_resume(driver->vdev);
    } else if (operation < 0xf0) {
        save_and_load(driver, input);
    } else {
        virtio_net_set_link(driver->vdev, operation & 1);
    }
}

/* ---- one input ---- */

static struct virtio_device *create(unsigned choice, int *peer)
{
    static const int types[] = {SOCK_DGRAM, SOCK_STREAM, 0, SOCK_DGRAM};
    g_autoptr(options_t) options = NULL;
    struct virtio_device *vdev;
    g_autofree char *text = NULL;
    int type = types[choice & 3], pair[2] = {-1, -1};

    if (type && socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair))
        g_error("socketpair");
    *peer = pair[0];
    text = type ? g_strdup_printf("type=%s,fd=%d,in-order=on,queue-size=64",
                                  type == SOCK_DGRAM ? "dgram" : "stream", pair[1])
                : g_strdup("type=null,queues=2,in-order=on,queue-size=64");
    options = options_parse(virtio_net_options, "--net", text, NULL);
    vdev = virtio_net_create(options, loop_main(), NULL);
    g_assert_nonnull(vdev);
    return vdev;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    uint8_t choice = take8(&input), order = take8(&input);
    struct driver fuzz = {.hostile = {.queue_size = 1u << (1 + order % 6)}};
    struct virtio_device *vdev = create(choice >> 4, &fuzz.peer);

    hostile_connect(&fuzz.hostile, "virtio-net", vdev, choice,
                    BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ) |
                        (choice & 0x40 ? vdev->class->features : 0) |
                        (choice & 0x80 ? BIT(VIRTIO_NET_F_MRG_RXBUF) : 0));
    begin(&fuzz.hostile);
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&fuzz, &input);
    hostile_check_rest(&fuzz.hostile);
    hostile_finish(&fuzz.hostile);
    if (fuzz.peer >= 0)
        close(fuzz.peer);
    return 0;
}
