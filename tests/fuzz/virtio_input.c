/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a hostile driver of virtio/input over virtio/pci, and a viewer that sends anything. The
 * input is a small program:
 *
 *     byte 0     type; byte 1: ring features, INTx or MSI-X
 *     then       operations: registers of any width anywhere in the BAR, bytes anywhere in the rings,
 *                chains, doorbells, turns of the loop, pauses, saving and loading (also of broken
 *                streams), events from the viewer
 *
 * Whatever it does, a reset leads back to a device that works.
 */
#include <linux/input-event-codes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_input.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "backends/display/display.h"
#include "tests/device/virtio_driver.h"
#include "tests/fuzz/input.h"
#include "virtio/input.h"
#include "vmm/log.h"

#define BIT(n)     (UINT64_C(1) << (n))
#define OPERATIONS 300u
#define DATA_SIZE  8192u
#define TYPES      4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    struct harness *h;
    struct display *display;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
    unsigned type;
    uint64_t data;
};

static const char *const texts[TYPES] = {
    "keyboard,in-order=on,queue-size=64", "tablet,in-order=on,queue-size=4",
    "mouse,in-order=on,queue-size=16", "touch,in-order=on,queue-size=64"};

static void create(struct state *s, uint8_t bits)
{
    g_autoptr(options_t) options =
        options_parse(virtio_input_options, "input", texts[s->type], NULL);
    struct virtio_device *vdev;

    s->h = harness_create(32 << 20);
    s->display = display_create();
    vdev = virtio_input_create(options, s->h->loop, s->display, NULL);
    s->vpci = virtio_pci_create(vdev, "input", &s->h->env, bits & 0x40, NULL);
    s->driver = virtio_driver_create(s->h, s->vpci);
    s->data = harness_alloc(s->h, DATA_SIZE, 4096);
}

static uint64_t features_of(uint8_t bits)
{
    return (bits & 1 ? BIT(VIRTIO_F_RING_PACKED) : 0) |
           (bits & 2 ? BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
           (bits & 4 ? BIT(VIRTIO_RING_F_EVENT_IDX) : 0) | (bits & 8 ? BIT(VIRTIO_F_IN_ORDER) : 0) |
           BIT(VIRTIO_F_RING_RESET);
}

static void access_bar(struct state *s, struct input *input)
{
    static const unsigned sizes[] = {1, 2, 4, 8};
    uint8_t how = take(input, 1);
    uint64_t offset = (how >> 4) % 4 * 0x1000 + take(input, 1) % (how & 8 ? 256 : 64);
    unsigned size = sizes[how & 3];

    if (how & 4)
        offset -= offset % size;
    if (how & 0x80)
        harness_bar_write(s->h, s->driver->slot, s->driver->bar, offset, size, take(input, size));
    else
        harness_bar_read(s->h, s->driver->slot, s->driver->bar, offset, size);
}

/* As a driver asks, with any select: the answer is as long as it says, and no longer. */
static void select_config(struct state *s, struct input *input)
{
    unsigned size;

    harness_bar_write(s->h, s->driver->slot, s->driver->bar, s->driver->config, 1, take(input, 1));
    harness_bar_write(s->h, s->driver->slot, s->driver->bar, s->driver->config + 1, 1,
                      take(input, 1));
    size = virtio_driver_config(s->driver, 2, 1);
    g_assert_cmpuint(size, <=, 128);
    for (unsigned i = size; i < 128; i++)
        g_assert_cmpuint(virtio_driver_config(s->driver, 8 + i, 1), ==, 0);
}

/* Chains as a driver makes them, if its side still has room (it may be confused by now). */
static void add_chains(struct state *s, struct input *input)
{
    uint8_t how = take(input, 1);
    unsigned index = how & 1;
    struct driver_ring *ring = virtio_driver_ring(s->driver, index);
    const struct driver_buffer buffer = {s->data + take(input, 1) * 16,
                                         how & 2 ? take(input, 1) : 8};
    const struct driver_buffer two[2] = {buffer, {buffer.gpa + 4, buffer.len}};

    for (unsigned i = how >> 4; i < 16 && ring->slots && ring->free >= 4; i++) {
        if (how & 4)
            driver_ring_add(ring, two, 1, &two[1], how & 8 ? 1 : 0, false, s);
        else
            driver_ring_add(ring, two, index ? 1 + !!(how & 8) : 0, two,
                            index ? 0 : 1 + !!(how & 8), ring->features.indirect, s);
    }
    if (!ring->slots)
        return;
    driver_ring_publish(ring);
    virtio_driver_kick(s->driver, index);
}

static void write_ring(struct state *s, struct input *input)
{
    const struct driver_ring *ring = virtio_driver_ring(s->driver, take(input, 1) % 2);
    uint64_t parts[] = {ring->descriptors, ring->driver_area, ring->device_area, ring->tables};
    uint64_t at = parts[take(input, 1) % 4] + take(input, 1);

    if (!ring->slots)
        return;
    for (unsigned n = 1 + take(input, 1) % 16; n; n--)
        harness_store(s->h, at++, 1, take(input, 1));
}

static void view(struct state *s, struct input *input)
{
    uint8_t how = take(input, 1);
    struct display_event event = {
        .type = how % (DISPLAY_RELEASE_ALL + 1),
        .code = take(input, how & 0x80 ? 4 : 1),
        .value = how & 0x40 ? 1 : 0,
        .x = take(input, how & 0x20 ? 4 : 1),
        .y = take(input, 1),
    };

    for (unsigned i = 0; i < (how & 0x10 ? 100u : 1u); i++, event.code++) {
        display_send(s->display, &event);
        if (how & 0x20)
            display_send(s->display, &(struct display_event){.type = DISPLAY_FRAME});
        if (i % 20 == 19)
            loop_iterate(s->h->loop, false);
    }
}

static void set_state(struct state *s, enum device_state state)
{
    g_autoptr(GError) error = NULL;

    devices_set_state(&s->h->devices, state, 1000, &error);
    g_assert_no_error(error);
}

static void save_and_load(struct state *s, struct input *input)
{
    struct device *device = &s->driver->function->device;
    g_autoptr(GByteArray) saved = harness_save(device);
    unsigned changes = take(input, 1) % 4;

    for (; changes; changes--)
        saved->data[take(input, 2) % saved->len] = take(input, 1);
    if (!harness_load_state(device, saved, NULL)) {
        /* A broken stream, or rings that a driver made unusable; the device is reset then. */
        g_assert_cmpint(device_state(device), ==, DEVICE_RUNNING);
    }
}

static void operate(struct state *s, struct input *input)
{
    uint8_t operation = take(input, 1);

    switch (operation % 16) {
    case 0:
    case 1:
        access_bar(s, input);
        break;
    case 2:
        select_config(s, input);
        break;
    case 3:
        write_ring(s, input);
        break;
    case 4:
    case 5:
    case 6:
        add_chains(s, input);
        break;
    case 7:
        virtio_driver_kick(s->driver, operation / 16 % 2);
        break;
    case 8:
    case 9:
    case 10:
        view(s, input);
        break;
    case 11:
        set_state(s, operation & 0x10 ? DEVICE_STOP : DEVICE_RUNNING_P2P);
        view(s, input);
        set_state(s, DEVICE_RUNNING);
        break;
    case 12:
        if (operation & 0x80)
            save_and_load(s, input);
        break;
    default:
        for (unsigned i = 0; i < 4 && loop_iterate(s->h->loop, false); i++)
            ;
    }
}

/* The driver gives up and begins again: everything works. */
static void check_works(struct state *s)
{
    static const struct display_event events[TYPES] = {
        {.type = DISPLAY_KEY, .code = KEY_A, .value = 1},
        {.type = DISPLAY_BUTTON, .code = BTN_LEFT, .value = 1},
        {.type = DISPLAY_BUTTON, .code = BTN_LEFT, .value = 1},
        {.type = DISPLAY_TOUCH_DOWN},
    };
    static const unsigned expected[TYPES] = {2, 2, 2, 8};

    harness_command(s->h, s->driver->slot, 6, 0);
    s->driver->msix = false; /* it may be off by now, and nobody waits for it */
    virtio_driver_start(s->driver, 0);
    for (unsigned i = 0; i < expected[s->type]; i++) {
        const struct driver_buffer in = {s->data + i * 8, 8};

        if (i < virtio_driver_ring(s->driver, 0)->size)
            virtio_driver_submit(s->driver, 0, NULL, 0, &in, 1, s);
    }
    harness_settle(s->h, 0);
    display_send(s->display, &events[s->type]);
    display_send(s->display, &(struct display_event){.type = DISPLAY_FRAME});
    for (unsigned i = 0; i < expected[s->type]; i++)
        g_assert_true(virtio_driver_wait(s->driver, 0, NULL) == s);
    g_assert_cmpuint(harness_load(s->h, s->data + 8 * (expected[s->type] - 1), 2), ==, EV_SYN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct state s = {0};
    uint8_t bits;

    log_set_levels("error", NULL);
    s.type = take(&input, 1) % TYPES;
    bits = take(&input, 1);
    create(&s, bits);
    if (!(bits & 0x80))
        virtio_driver_start(s.driver, features_of(bits));
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&s, &input);
    check_works(&s);
    virtio_driver_destroy(s.driver);
    virtio_pci_destroy(s.vpci);
    display_destroy(s.display);
    harness_destroy(s.h);
    return 0;
}
