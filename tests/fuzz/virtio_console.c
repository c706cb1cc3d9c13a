/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a hostile driver of virtio/console over virtio/pci, three ports, with a host side that
 * answers, stalls and leaves. The input is a small program:
 *
 *     byte 0     ring features; multiport or not; INTx or MSI-X
 *     then       operations: registers of any width anywhere in the BAR or through the configuration
 *                window, bytes anywhere in the rings, control messages, chains, doorbells, turns of the
 *                loop, pauses, saving and loading, what the host side does
 *
 * Whatever it does, a reset leads back to a device that works.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/device/virtio_driver.h"
#include "tests/fuzz/input.h"
#include "virtio/console.h"
#include "vmm/log.h"

#define BIT(n)     (UINT64_C(1) << (n))
#define PORTS      3u
#define QUEUES     8u
#define OPERATIONS 300u
#define DATA_SIZE  8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    struct harness *h;
    struct virtio_device *vdev;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
    struct console_port *ports[PORTS];
    unsigned taken; /* of the last output: how much the host side takes */
    bool answers;
    uint64_t data;
    uint64_t received; /* bytes */
};

static size_t on_receive(void *opaque, const uint8_t *data, size_t size)
{
    struct state *s = opaque;
    size_t taken = MIN(size, s->taken);

    s->received += taken;
    if (s->answers)
        console_port_write(s->ports[1], data, taken);
    return taken;
}

static const struct console_port_ops port_ops = {.receive = on_receive};

static void create(struct state *s, uint8_t bits)
{
    g_autoptr(options_t) options =
        options_parse(virtio_console_options, "console", "in-order=on,queue-size=8", NULL);

    s->h = harness_create(32 << 20);
    s->vdev = virtio_console_create(options, s->h->loop, NULL);
    s->taken = UINT_MAX;
    for (unsigned i = 0; i < PORTS; i++)
        s->ports[i] = virtio_console_add_port(s->vdev, i ? "port" : NULL, !i, &port_ops, s, NULL);
    s->vpci = virtio_pci_create(s->vdev, "console", &s->h->env, bits & 0x40, NULL);
    s->driver = virtio_driver_create(s->h, s->vpci);
    g_assert_cmpuint(s->driver->queue_count, ==, QUEUES);
    s->data = harness_alloc(s->h, DATA_SIZE, 4096);
}

static uint64_t features_of(uint8_t bits)
{
    return (bits & 1 ? BIT(VIRTIO_F_RING_PACKED) : 0) |
           (bits & 2 ? BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
           (bits & 4 ? BIT(VIRTIO_RING_F_EVENT_IDX) : 0) | (bits & 8 ? BIT(VIRTIO_F_IN_ORDER) : 0) |
           BIT(VIRTIO_F_RING_RESET) | (bits & 0x20 ? 0 : BIT(VIRTIO_CONSOLE_F_MULTIPORT));
}

static void access_bar(struct state *s, struct input *input, bool write)
{
    static const unsigned sizes[] = {1, 2, 4, 8};
    uint8_t how = take(input, 1);
    uint64_t offset = (how >> 4) % 4 * 0x1000 + take(input, 1) % (how & 8 ? 256 : 64);
    unsigned size = sizes[how & 3];

    if (how & 4)
        offset -= offset % size;
    if (write)
        harness_bar_write(s->h, s->driver->slot, s->driver->bar, offset, size, take(input, size));
    else
        harness_bar_read(s->h, s->driver->slot, s->driver->bar, offset, size);
}

static void access_window(struct state *s, struct input *input)
{
    unsigned at = s->driver->window + take(input, 1) % sizeof(struct virtio_pci_cfg_cap);
    uint8_t how = take(input, 1);
    unsigned size = 1u << how % 3;

    at -= at % size;
    if (how & 0x80)
        harness_config_write(s->h, s->driver->slot, at, size, take(input, size));
    else
        harness_config_read(s->h, s->driver->slot, at, size);
}

/* A chain as a driver makes it, if the driver's side still has room (it may be confused by now). */
static void add_chain(struct state *s, struct input *input)
{
    unsigned index = take(input, 1) % QUEUES;
    struct driver_ring *ring = virtio_driver_ring(s->driver, index);
    uint8_t how = take(input, 1);
    struct driver_buffer out[2], in[2];

    for (unsigned i = 0; i < 2; i++) {
        out[i] = (struct driver_buffer){s->data + take(input, 1) * 16, take(input, 1)};
        in[i] = (struct driver_buffer){s->data + take(input, 1) * 16, take(input, 1)};
    }
    if (ring->free < 4 || !ring->slots)
        return;
    driver_ring_add(ring, out, how & 3 ? 1 + (how & 1) : 0, in, how & 12 || !(how & 3) ? 1 : 0,
                    ring->features.indirect && how & 16, s);
    driver_ring_publish(ring);
    virtio_driver_kick(s->driver, index);
}

static void control(struct state *s, struct input *input)
{
    struct driver_ring *ring = virtio_driver_ring(s->driver, 3);
    const struct virtio_console_control message = {take(input, 1) % 5, take(input, 1) % 9,
                                                   take(input, 1) % 2};
    const struct driver_buffer out = {s->data, sizeof(message)};

    harness_write(s->h, s->data, &message, sizeof(message));
    if (ring->free < 1 || !ring->slots)
        return;
    driver_ring_add(ring, &out, 1, NULL, 0, false, s);
    driver_ring_publish(ring);
    virtio_driver_kick(s->driver, 3);
    loop_iterate(s->h->loop, false);
}

static void write_ring(struct state *s, struct input *input)
{
    const struct driver_ring *ring = virtio_driver_ring(s->driver, take(input, 1) % QUEUES);
    uint64_t parts[] = {ring->descriptors, ring->driver_area, ring->device_area, ring->tables};
    uint64_t at = parts[take(input, 1) % 4] + take(input, 1);

    if (!ring->slots)
        return;
    for (unsigned n = 1 + take(input, 1) % 16; n; n--)
        harness_store(s->h, at++, 1, take(input, 1));
}

static void host_side(struct state *s, struct input *input)
{
    static const uint8_t text[600];
    uint8_t how = take(input, 1);
    struct console_port *port = s->ports[how % PORTS];

    switch (how >> 5) {
    case 0:
        console_port_set_open(port, how & 0x10);
        break;
    case 1:
        s->taken = how & 0x10 ? UINT_MAX : take(input, 1);
        break;
    case 2:
        console_port_resume(port);
        break;
    case 3:
        virtio_console_resize(s->vdev, take(input, 1), 24);
        break;
    case 4:
        s->answers = how & 0x10;
        break;
    default:
        g_assert_cmpuint(console_port_write(port, text, take(input, 1) * 2), <=, 510);
    }
}

static void set_state(struct state *s, enum device_state state)
{
    g_autoptr(GError) error = NULL;

    devices_set_state(&s->h->devices, state, 1000, &error);
    g_assert_no_error(error);
}

static void save_and_load(struct state *s)
{
    struct device *device = &s->driver->function->device;
    g_autoptr(GByteArray) saved = harness_save(device);

    if (!harness_load_state(device, saved, NULL)) {
        /* Rings that a driver made unusable meanwhile; the device is reset then. */
        g_assert_cmpint(device_state(device), ==, DEVICE_RUNNING);
    }
}

static void operate(struct state *s, struct input *input)
{
    uint8_t operation = take(input, 1);

    switch (operation % 16) {
    case 0:
        access_bar(s, input, true);
        break;
    case 1:
        access_bar(s, input, false);
        break;
    case 2:
        access_window(s, input);
        break;
    case 3:
        write_ring(s, input);
        break;
    case 4:
    case 5:
        add_chain(s, input);
        break;
    case 6:
    case 7:
        control(s, input);
        break;
    case 8:
        virtio_driver_kick(s->driver, operation / 16 % QUEUES);
        break;
    case 9:
    case 10:
        host_side(s, input);
        break;
    case 11:
        set_state(s, operation & 0x10 ? DEVICE_STOP : DEVICE_RUNNING_P2P);
        if (operation & 0x20 && !(operation & 0x10)) /* no vCPU runs in STOP */
            access_bar(s, input, true);
        set_state(s, DEVICE_RUNNING);
        break;
    case 12:
        if (operation & 0x80)
            save_and_load(s);
        break;
    default:
        for (unsigned i = 0; i < 4 && loop_iterate(s->h->loop, false); i++)
            ;
    }
}

/* The driver gives up and begins again: everything works. */
static void check_works(struct state *s)
{
    struct driver_buffer out = {s->data, 100};
    uint64_t before;

    s->taken = UINT_MAX;
    s->answers = false;
    for (unsigned i = 0; i < PORTS; i++)
        console_port_resume(s->ports[i]);
    harness_command(s->h, s->driver->slot, 6, 0);
    s->driver->msix = false; /* it may be off by now, and nobody waits for it */
    virtio_driver_start(s->driver, 0);
    before = s->received;
    g_assert_cmpint(virtio_driver_request(s->driver, 1, &out, 1, NULL, 0), ==, 0);
    g_assert_cmpuint(s->received - before, ==, 100);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct state s = {0};
    uint8_t bits = take(&input, 1);

    log_set_levels("error", NULL);
    create(&s, bits);
    if (!(bits & 0x80))
        virtio_driver_start(s.driver, features_of(bits));
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&s, &input);
    check_works(&s);
    virtio_driver_destroy(s.driver);
    virtio_pci_destroy(s.vpci);
    harness_destroy(s.h);
    return 0;
}
