/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a hostile driver of devices/vmxnet3, and a host that sends it anything. The device is
 * laid out and activated as a driver would; byte 0 of the input says with what (queues, features, data
 * ring, revision, backend). Then come operations: write anywhere in what is shared and in the rings,
 * registers and commands, descriptors that are made up, frames with lying headers from the host, a
 * backend that is full, pauses, saving and loading (with a byte that is wrong), resets.
 *
 * Whatever it does: the backend gets no frame that it must not get and none while it is off (the test's
 * backend asserts that), and after a reset a well-behaved driver finds a device that works.
 */
#include <linux/pci_regs.h>
#include <string.h>

#include "backends/net/driver.h"
#include "devices/vmxnet3/private.h"
#include "tests/device/vmxnet3.h"
#include "tests/fuzz/input.h"

#define OPERATIONS 300
#define TURNS      50

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void turn(struct vmxtest *t)
{
    for (unsigned i = 0; i < TURNS && loop_iterate(t->h->loop, false); i++)
        ;
}

/* ---- guest memory ---- */

static uint64_t place(struct vmxtest *t, struct input *input)
{
    uint8_t which = take8(input);
    struct vmxtest_rx *rx = &t->rx[which >> 4 & (VMXTEST_QUEUES - 1)];
    struct vmxtest_tx *tx = &t->tx[which >> 4 & (VMXTEST_QUEUES - 1)];
    const uint64_t places[] = {
        t->shared,        t->shared + offsetof(struct vmxnet3_shared, filter),
        t->queues,        t->queues + 256,
        tx->ring.base,    rx->ring[0].base,
        rx->ring[1].base, t->rss,
    };

    return places[which & 7] + take8(input) % 64 * 4;
}

static void scribble(struct vmxtest *t, struct input *input, unsigned count)
{
    uint64_t at = place(t, input);
    uint8_t bytes[8];

    for (unsigned i = 0; i < count; i++)
        bytes[i] = take8(input);
    if (at >= 4096) /* a queue that was not laid out is nowhere */
        harness_write(t->h, at, bytes, count);
}

/* A buffer that makes sense, mostly. */
static uint64_t buffer_address(struct vmxtest *t, struct input *input, unsigned queue)
{
    uint8_t choice = take8(input);

    if (choice < 0xe0)
        return t->tx[queue].buffers + 64 * choice;
    return choice < 0xf0 ? VMXTEST_RAM - (choice & 15) : (uint64_t)take32(input) << 20;
}

/* Descriptors of a packet: their headers those of TCP, perhaps spoilt. */
static void put_packet(struct vmxtest *t, struct input *input, unsigned queue, unsigned count)
{
    struct vmxtest_ring *ring = &t->tx[queue].ring;
    uint8_t headers[128], spoil = take8(input);

    vmxtest_tcp(headers, spoil & 1, 1000, 20);
    headers[spoil % sizeof(headers)] ^= take8(input);
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = ring->base + 16 * ring->next, gpa = buffer_address(t, input, queue);
        uint8_t flags = take8(input);
        uint32_t word2 = take16(input) & VMXNET3_TXD_LENGTH, word3 = take16(input);

        word2 |= (uint32_t)take16(input) << VMXNET3_TXD_MSS_SHIFT;
        word2 |= flags & 1 ? VMXNET3_TXD_TYPE : 0;
        word2 |= ring->generation == !(flags & 2) ? VMXNET3_TXD_GENERATION : 0;
        if (flags & 4)
            word3 = (word3 & ~0x3ffu) | (spoil & 1 ? 74 : 54);
        if (i + 1 == count && !(flags & 8))
            word3 |= VMXNET3_TXD_END | VMXNET3_TXD_COMPLETE;
        else
            word3 &= ~VMXNET3_TXD_END;
        word3 |= (uint32_t)flags << 24;
        if (i == 0 && gpa >= t->tx[queue].buffers && gpa < t->tx[queue].buffers + (1 << 20))
            harness_write(t->h, gpa, headers, sizeof(headers));
        harness_store(t->h, at, 8, gpa);
        harness_store(t->h, at + 12, 4, word3);
        harness_store(t->h, at + 8, 4, word2);
        if (++ring->next == ring->size) {
            ring->next = 0;
            ring->generation = !ring->generation;
        }
    }
    vmxtest_ring_doorbell(t, queue);
}

/* ---- the host ---- */

static void host_sends(struct vmxtest *t, struct input *input)
{
    static uint8_t frame[NET_MAX_FRAME];
    uint8_t choice = take8(input), at = take8(input);
    struct virtio_net_hdr_v1 header = {
        .flags = take8(input) & 7,
        .gso_type = take8(input) & 0x87,
        .gso_size = take16(input),
        .csum_start = choice & 2 ? 34 : take16(input),
        .csum_offset = choice & 4 ? 16 : take16(input),
    };
    size_t length = take16(input) % (NET_MAX_FRAME - 100);

    vmxtest_tcp(frame, choice & 1, choice, length);
    if (choice & 8)
        memcpy(frame + 12, (const uint8_t[]){0x81, 0, 0, at & 1, 8, 0}, 6);
    if (choice & 0x10)
        frame[0] = 0xff;
    frame[at] ^= take8(input);
    vmxtest_host_sends(t, &header, frame, choice & 0x20 ? at : length + 54);
}

/* ---- life ---- */

static void set_state(struct vmxtest *t, enum device_state state)
{
    g_autoptr(GError) error = NULL;

    if (!devices_set_state(&t->h->devices, state, HARNESS_TIMEOUT_MS, &error))
        g_error("pausing: %s", error->message);
}

static void save_and_load(struct vmxtest *t, struct input *input)
{
    struct device *device = &vmxnet3_function(t->v)->device;
    g_autoptr(GByteArray) saved = harness_save(device);
    g_autoptr(GError) error = NULL;
    unsigned at = take16(input);
    uint8_t flip = take8(input);

    saved->data[at % saved->len] ^= flip;
    if (harness_load_state(device, saved, &error) != (error == NULL))
        g_error("a load that failed without an error, or the other way round");
}

static void command(struct vmxtest *t, struct input *input)
{
    uint8_t choice = take8(input);
    uint32_t number = choice & 0x80 ? VMXNET3_FIRST_GET : VMXNET3_ACTIVATE;

    vmxtest_command(t, number + (choice & 0x1f));
    if (choice & 0x40)
        turn(t);
}

static void in_pause(struct vmxtest *t, struct input *input)
{
    set_state(t, DEVICE_RUNNING_P2P);
    command(t, input);
    host_sends(t, input);
    put_packet(t, input, 0, 1);
    turn(t);
    set_state(t, DEVICE_STOP);
    set_state(t, DEVICE_RUNNING);
}

static void operate(struct vmxtest *t, struct input *input)
{
    uint8_t operation = take8(input);
    unsigned queue = operation % t->tx_count;

    switch (operation >> 4) {
    case 0:
    case 1:
        scribble(t, input, 1 + (operation & 7));
        break;
    case 2:
        command(t, input);
        break;
    case 3:
        vmxtest_write(t, 8 * (operation & 15), take32(input));
        break;
    case 4:
        harness_bar_write(t->h, t->slot, 0, take16(input) % 4096, 1u << (operation & 3),
                          take32(input));
        break;
    case 5:
        harness_bar_read(t->h, t->slot, operation & 1, take16(input) % 4096, 1u << (operation & 3));
        break;
    case 6:
    case 7:
        put_packet(t, input, queue, 1 + (operation >> 1 & 7));
        turn(t);
        break;
    case 8:
    case 9:
        host_sends(t, input);
        turn(t);
        break;
    case 10:
        t->backend.full = operation & 1;
        if (!t->backend.full && t->backend.active[0])
            net_writable(&t->backend.net, 0);
        break;
    case 11:
        in_pause(t, input);
        break;
    case 12:
        save_and_load(t, input);
        break;
    case 13:
        vmxnet3_set_link(t->v, operation & 1);
        net_set_link(&t->backend.net, operation & 2);
        break;
    case 14:
        harness_command(t->h, t->slot, operation & 1 ? PCI_COMMAND_MASTER : 0,
                        operation & 2 ? PCI_COMMAND_MASTER : 0);
        break;
    default:
        if (operation & 1)
            device_reset(&vmxnet3_function(t->v)->device);
        turn(t);
    }
}

/* ---- one input ---- */

static void begin(struct vmxtest *t, uint8_t choice)
{
    vmxtest_set_up(t, choice & 1 ? 2 : 1, choice & 2);
    t->tx_count = t->rx_count = choice & 4 ? 2 : 1;
    t->data_entry = choice & 8 ? 128 : 0;
    t->rx[0].heads_every = choice & 0x10 ? 3 : 1;
    t->config.filter.mode |= choice & 0x20 ? VMXNET3_RX_PROMISCUOUS : 0;
    if (choice & 0x40) {
        t->config.misc.features |= VMXNET3_F_RSS;
        t->rss_config = (struct vmxnet3_rss){
            .types = 15, .function = VMXNET3_RSS_TOEPLITZ, .key_size = 40, .table_size = 32};
        for (unsigned i = 0; i < sizeof(t->rss_config.key); i++)
            t->rss_config.key[i] = i * 41;
        for (unsigned i = 0; i < 32; i++)
            t->rss_config.table[i] = i & 1;
    }
    if (choice & 0x80)
        vmxtest_write(t, VMXNET3_VRRS, 1);
    vmxtest_activate(t);
}

static void check_it_still_works(struct vmxtest *t)
{
    device_reset(&vmxnet3_function(t->v)->device);
    harness_command(t->h, t->slot, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
    harness_msix_enable(t->h, t->slot, VMXNET3_VECTORS);
    vmxnet3_set_link(t->v, true);
    net_set_link(&t->backend.net, true);
    t->backend.full = false;
    g_queue_clear_full(&t->backend.sent, g_free);
    g_queue_clear_full(&t->backend.incoming, g_free);
    vmxtest_write(t, VMXNET3_VRRS, 4);
    vmxtest_activate(t);
    vmxtest_echo(t, 0, 1000, 2);
    vmxtest_pass(t, 3000, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct vmxtest t;

    log_set_levels("error", NULL);
    begin(&t, take8(&input));
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&t, &input);
    turn(&t);
    check_it_still_works(&t);
    vmxtest_tear_down(&t);
    return 0;
}
