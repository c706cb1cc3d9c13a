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
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/net/net.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/transport.h"
#include "virtio/net.h"
#include "vmm/memory.h"
#include "vmm/state.h"

#define RAM_SIZE   (1u << 20)
#define MAX_QUEUES 5u
#define RING(Q)                                                                                    \
    (0x1000u + (Q)*0x4000u) /* descriptors; driver area + 0x2000, device area + 0x3000 */
#define DATA       0x20000u
#define BIT(n)     (UINT64_C(1) << (n))
#define OPERATIONS 400
#define TURNS      2000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct driver {
    struct memory *memory;
    struct device device;
    struct dma dma;
    struct virtio_device *vdev;
    int peer; /* -1: none */
    uint64_t features;
    uint16_t queue_size;
    uint16_t next[MAX_QUEUES]; /* descriptor */
    uint16_t avail[MAX_QUEUES];
    bool wrap[MAX_QUEUES];
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

static void turn(unsigned times)
{
    while (times-- && loop_iterate(loop_main(), false))
        ;
}

/* ---- setting up ---- */

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
    static const uint8_t zeroes[DATA];

    put(driver, 0, zeroes, sizeof(zeroes));
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

/* ---- chains ---- */

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

/* What a chain begins with: a header and the headers of a TCP segment, or a command. */
static void put_start(struct driver *driver, struct input *input, unsigned queue, uint64_t gpa)
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

static void add_chain(struct driver *driver, struct input *input, unsigned queue, unsigned count)
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
    if (!is_packed(driver)) {
        uint64_t area = RING(queue) + 0x2000;

        put(driver, area + 4 + 2 * (driver->avail[queue] % driver->queue_size), &head, 2);
        driver->avail[queue]++;
        put(driver, area + 2, &driver->avail[queue], 2);
    }
}

/* ---- operations ---- */

static void peer_acts(struct driver *driver, struct input *input, uint8_t operation)
{
    static uint8_t bytes[NET_MAX_FRAME + 8];
    uint16_t length = take16(input);
    size_t prefix = operation & 2 ? 4 : 0; /* a frame of a stream, or what it takes for one */

    memset(bytes, take8(input), sizeof(bytes));
    memcpy(bytes, (uint8_t[]){0, 0, length >> 8, length & 255}, prefix);
    if (driver->peer < 0)
        return;
    if (operation & 1) {
        while (recv(driver->peer, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
    } else if (send(driver->peer, bytes, prefix + length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        turn(1);
    }
}

static void pause_device(struct driver *driver)
{
    virtio_device_quiesce(driver->vdev);
    for (unsigned i = 0; i < TURNS && !virtio_device_quiesced(driver->vdev); i++)
        turn(1);
}

/* Saved, and loaded again, perhaps with a byte that is wrong. */
static void save_and_load(struct driver *driver, struct input *input)
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

static void operate(struct driver *driver, struct input *input)
{
    uint8_t operation = take8(input);
    unsigned queue = (operation & 7) % driver->vdev->queue_count;

    if (operation < 0x20) {
        uint8_t bytes[0x20];
        uint64_t gpa = 16 * (uint64_t)take16(input);

        for (unsigned i = 0; i <= operation; i++)
            bytes[i] = take8(input);
        put(driver, gpa, bytes, operation + 1);
    } else if (operation < 0x70) {
        add_chain(driver, input, queue, 1 + ((operation >> 3) & 7));
    } else if (operation < 0xa0) {
        virtio_device_kick(driver->vdev, queue);
        turn(operation & 0xe);
    } else if (operation < 0xd0) {
        peer_acts(driver, input, operation);
    } else if (operation < 0xd8) {
        virtio_device_set_status(driver->vdev, 0);
        if (!virtio_device_get_status(driver->vdev))
            begin(driver);
    } else if (operation < 0xe0) {
        virtio_device_reset_queue(driver->vdev, queue);
        turn(4);
        set_up_queue(driver, queue);
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

static void create(struct driver *driver, unsigned choice)
{
    static const int types[] = {SOCK_DGRAM, SOCK_STREAM, 0, SOCK_DGRAM};
    g_autoptr(options_t) options = NULL;
    g_autofree char *text = NULL;
    int type = types[choice & 3], pair[2] = {-1, -1};

    if (type && socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair))
        g_error("socketpair");
    driver->peer = pair[0];
    text = type ? g_strdup_printf("type=%s,fd=%d,in-order=on,queue-size=64",
                                  type == SOCK_DGRAM ? "dgram" : "stream", pair[1])
                : g_strdup("type=null,queues=2,in-order=on,queue-size=64");
    options = options_parse(virtio_net_options, "--net", text, NULL);
    driver->vdev = virtio_net_create(options, loop_main(), NULL);
    g_assert_nonnull(driver->vdev);
    g_assert_cmpuint(driver->vdev->queue_count, <=, MAX_QUEUES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct memory_ram_options ram = {0};
    uint8_t choice = take8(&input), order = take8(&input);
    struct driver driver = {.memory = memory_create()};

    log_set_levels("error", NULL);
    g_assert_true(memory_add_ram(driver.memory, RAM_SIZE, RAM_SIZE, &ram, NULL));
    device_init(&driver.device, "virtio-net0", "virtio-net", &no_ops);
    dma_init(&driver.dma, driver.memory, &driver.device, true);
    create(&driver, choice >> 4);
    virtio_device_connect(driver.vdev, &driver.device, &driver.dma, &transport, NULL);
    driver.features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_RESET) |
                      BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ) |
                      (choice & 1 ? BIT(VIRTIO_F_RING_PACKED) : 0) |
                      (choice & 2 ? BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
                      (choice & 4 ? BIT(VIRTIO_RING_F_EVENT_IDX) : 0) |
                      (choice & 8 ? BIT(VIRTIO_F_IN_ORDER) : 0) |
                      (choice & 0x40 ? driver.vdev->class->features : 0) |
                      (choice & 0x80 ? BIT(VIRTIO_NET_F_MRG_RXBUF) : 0);
    driver.features &= driver.vdev->offered;
    driver.queue_size = 1u << (1 + order % 6);
    begin(&driver);
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&driver, &input);

    turn(TURNS);
    virtio_device_reset(driver.vdev);
    g_assert_cmpuint(virtio_device_get_status(driver.vdev), ==, 0);
    for (unsigned i = 0; i < driver.vdev->queue_count; i++)
        g_assert_cmpuint(virtio_device_queue(driver.vdev, i)->in_flight, ==, 0);
    driver.vdev->class->destroy(driver.vdev);
    if (driver.peer >= 0)
        close(driver.peer);
    device_finish(&driver.device);
    memory_destroy(driver.memory);
    return 0;
}
