/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of devices/vmxnet3 as its driver sees it: layout of what is shared, registers, activation with
 * good and hostile values, both directions, interrupts, filters, errors, pausing, saved state. */
#include "devices/vmxnet3/vmxnet3.h"

#include <linux/pci_regs.h>
#include <string.h>

#include "backends/net/driver.h"
#include "devices/vmxnet3/private.h"
#include "tests/device/vmxnet3.h"

static const uint8_t somebody[6] = {2, 2, 2, 2, 2, 2};
static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t group[6] = {1, 0, 0x5e, 0, 0, 5};

/* ---- what is shared with the driver ---- */

#define AT(TYPE, MEMBER, OFFSET) g_assert_cmpuint(offsetof(struct TYPE, MEMBER), ==, OFFSET)

static void test_layout(void)
{
    g_assert_cmpuint(sizeof(struct vmxnet3_misc), ==, 72);
    AT(vmxnet3_misc, features, 16);
    AT(vmxnet3_misc, queues, 32);
    AT(vmxnet3_misc, queues_size, 44);
    AT(vmxnet3_misc, mtu, 48);
    AT(vmxnet3_misc, max_rx_pieces, 52);
    AT(vmxnet3_misc, tx_queues, 54);
    AT(vmxnet3_misc, rx_queues, 55);
    g_assert_cmpuint(sizeof(struct vmxnet3_interrupts), ==, 40);
    AT(vmxnet3_interrupts, count, 1);
    AT(vmxnet3_interrupts, event_vector, 2);
    AT(vmxnet3_interrupts, control, 28);
    g_assert_cmpuint(sizeof(struct vmxnet3_rx_filter), ==, 528);
    AT(vmxnet3_rx_filter, multicast_size, 4);
    AT(vmxnet3_rx_filter, multicast, 8);
    AT(vmxnet3_rx_filter, vlans, 16);
    g_assert_cmpuint(sizeof(struct vmxnet3_shared), ==, 720);
    AT(vmxnet3_shared, misc, 8);
    AT(vmxnet3_shared, interrupts, 80);
    AT(vmxnet3_shared, filter, 120);
    AT(vmxnet3_shared, rss, 648);
    AT(vmxnet3_shared, events, 696);
    AT(vmxnet3_shared, command, 704);
    g_assert_cmpuint(sizeof(struct vmxnet3_rss), ==, 176);
    AT(vmxnet3_rss, key, 8);
    AT(vmxnet3_rss, table, 48);
    g_assert_cmpuint(sizeof(struct vmxnet3_coalesce), ==, 16);
}

static void test_queue_layout(void)
{
    g_assert_cmpuint(sizeof(struct vmxnet3_tx_descriptor), ==, 256);
    AT(vmxnet3_tx_descriptor, threshold, 4);
    AT(vmxnet3_tx_descriptor, ring, 16);
    AT(vmxnet3_tx_descriptor, data_ring, 24);
    AT(vmxnet3_tx_descriptor, completions, 32);
    AT(vmxnet3_tx_descriptor, ring_size, 56);
    AT(vmxnet3_tx_descriptor, completions_size, 64);
    AT(vmxnet3_tx_descriptor, vector, 72);
    AT(vmxnet3_tx_descriptor, data_entry, 74);
    AT(vmxnet3_tx_descriptor, status, 80);
    AT(vmxnet3_tx_descriptor, counters, 88);
    g_assert_cmpuint(sizeof(struct vmxnet3_rx_descriptor), ==, 256);
    AT(vmxnet3_rx_descriptor, ring, 16);
    AT(vmxnet3_rx_descriptor, completions, 32);
    AT(vmxnet3_rx_descriptor, data_ring, 48);
    AT(vmxnet3_rx_descriptor, ring_size, 56);
    AT(vmxnet3_rx_descriptor, completions_size, 64);
    AT(vmxnet3_rx_descriptor, vector, 72);
    AT(vmxnet3_rx_descriptor, data_entry, 74);
    AT(vmxnet3_rx_descriptor, status, 80);
    AT(vmxnet3_rx_descriptor, counters, 88);
    g_assert_cmpuint(sizeof(struct vmxnet3_entry), ==, 16);
    AT(vmxnet3_entry, word2, 8);
    g_assert_cmpuint(sizeof(struct vmxnet3_completion), ==, 16);
}

/* ---- registers ---- */

static void test_identity(void)
{
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    g_assert_cmphex(harness_config_read(t.h, t.slot, PCI_VENDOR_ID, 4), ==, 0x07b015ad);
    g_assert_cmphex(harness_config_read(t.h, t.slot, PCI_CLASS_DEVICE, 2), ==, 0x0200);
    g_assert_cmphex(vmxtest_read(&t, VMXNET3_VRRS), ==, 7);
    g_assert_cmphex(vmxtest_read(&t, VMXNET3_UVRS), ==, 1);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_GET_MAC_LOW), ==, 0x01005452);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_GET_MAC_HIGH), ==, 0x0302);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_GET_LINK), ==, 10000u << 16 | 1);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_GET_INTERRUPTS), ==, 3);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_GET_TX_DATA_SIZE), ==, 128);
    g_assert_cmphex(vmxtest_command(&t, 0xf00d0055), ==, 0);
    g_assert_cmphex(vmxtest_command(&t, 0xcafe0055), ==, 0);
    g_assert_cmphex(vmxtest_command(&t, 0x12345678), ==, 0);
    vmxtest_write(&t, VMXNET3_MACL, 0x44332211);
    vmxtest_write(&t, VMXNET3_MACH, 0x6655);
    g_assert_cmphex(vmxtest_read(&t, VMXNET3_MACL), ==, 0x44332211);
    g_assert_cmphex(vmxtest_read(&t, VMXNET3_MACH), ==, 0x6655);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_GET_MAC_HIGH), ==, 0x0302); /* the permanent one */
    vmxtest_tear_down(&t);
}

/* Every way to say no: one field of what is shared that makes no sense. */
static void test_activation_refused(void)
{
    static const struct {
        unsigned where; /* 0: the shared structure, 1: the tx descriptor, 2: the rx descriptor */
        unsigned offset, size;
        uint64_t value;
    } cases[] = {
        {0, offsetof(struct vmxnet3_shared, magic), 4, 1},
        {0, offsetof(struct vmxnet3_shared, misc.tx_queues), 1, 0},
        {0, offsetof(struct vmxnet3_shared, misc.tx_queues), 1, 9},
        {0, offsetof(struct vmxnet3_shared, misc.rx_queues), 1, 0},
        {0, offsetof(struct vmxnet3_shared, misc.rx_queues), 1, 255},
        {0, offsetof(struct vmxnet3_shared, misc.queues_size), 4, 511},
        {0, offsetof(struct vmxnet3_shared, misc.queues), 8, UINT64_MAX - 100},
        {0, offsetof(struct vmxnet3_shared, misc.queues), 8, 0x10},
        {0, offsetof(struct vmxnet3_shared, misc.queues), 8, UINT64_C(1) << 40},
        {0, offsetof(struct vmxnet3_shared, interrupts.event_vector), 1, 25},
        {0, offsetof(struct vmxnet3_shared, filter.multicast_size), 2, 65535},
        {1, offsetof(struct vmxnet3_tx_descriptor, ring), 8, 0x1010},
        {1, offsetof(struct vmxnet3_tx_descriptor, ring), 8, UINT64_C(1) << 50},
        {1, offsetof(struct vmxnet3_tx_descriptor, ring), 8, VMXTEST_RAM - 512},
        {1, offsetof(struct vmxnet3_tx_descriptor, ring_size), 4, 0},
        {1, offsetof(struct vmxnet3_tx_descriptor, ring_size), 4, 33},
        {1, offsetof(struct vmxnet3_tx_descriptor, ring_size), 4, 8192},
        {1, offsetof(struct vmxnet3_tx_descriptor, ring_size), 4, 0x10000020},
        {1, offsetof(struct vmxnet3_tx_descriptor, completions_size), 4, 0},
        {1, offsetof(struct vmxnet3_tx_descriptor, completions_size), 4, 0xffffffe0},
        {1, offsetof(struct vmxnet3_tx_descriptor, completions), 8, 8},
        {1, offsetof(struct vmxnet3_tx_descriptor, vector), 1, 25},
        {2, offsetof(struct vmxnet3_rx_descriptor, ring_size), 4, 0},
        {2, offsetof(struct vmxnet3_rx_descriptor, ring_size) + 4, 4, 4128},
        {2, offsetof(struct vmxnet3_rx_descriptor, ring) + 8, 8, 0x30},
        {2, offsetof(struct vmxnet3_rx_descriptor, completions_size), 4, 8224},
        {2, offsetof(struct vmxnet3_rx_descriptor, completions_size), 4, 16},
        {2, offsetof(struct vmxnet3_rx_descriptor, vector), 1, 200},
        {2, offsetof(struct vmxnet3_rx_descriptor, data_entry), 2, 2112},
        {2, offsetof(struct vmxnet3_rx_descriptor, data_entry), 2, 65},
    };
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        bool refused = cases[i].offset != offsetof(struct vmxnet3_shared, filter.multicast_size);
        uint64_t at;

        vmxtest_lay_out(&t);
        at = (cases[i].where ? t.queues + 256 * (cases[i].where - 1) : t.shared) + cases[i].offset;
        harness_store(t.h, at, cases[i].size, cases[i].value);
        g_assert_cmphex(vmxtest_command(&t, VMXNET3_ACTIVATE), ==, refused);
        g_assert_cmpint(vmxnet3_active(t.v), ==, !refused);
        harness_settle(t.h, 0);
        vmxtest_ring_doorbell(&t, 0);
    }
    vmxtest_write(&t, VMXNET3_DSAH, 0xffffffff);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_ACTIVATE), ==, 1);
    vmxtest_activate(&t); /* and then a good one */
    vmxtest_tear_down(&t);
}

/* ---- transmit ---- */

static void test_transmit(void)
{
    static const size_t lengths[] = {14, 60, 1514, 9018, 16384};
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    for (unsigned pieces = 1; pieces <= 16; pieces += 3)
        for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++)
            if (lengths[i] >= 200 || pieces == 1)
                vmxtest_echo(&t, 0, MAX(lengths[i], pieces > 10 ? 1514 : 0), pieces);
    /* More than rings hold, many times over. */
    for (unsigned i = 0; i < 5 * VMXTEST_RING; i++)
        vmxtest_echo(&t, 0, 60 + i, 1);
    vmxtest_tear_down(&t);
}

static void test_transmit_many(void)
{
    uint8_t data[100];
    unsigned reaped = 0;
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    vmxtest_fill(data, sizeof(data), somebody, 1);
    for (unsigned i = 0; i < VMXTEST_RING - 1; i++)
        vmxtest_put(&t, 0, data, sizeof(data), 1, NULL);
    vmxtest_ring_doorbell(&t, 0);
    harness_settle(t.h, 5);
    while (vmxtest_reap(&t, 0))
        reaped++;
    g_assert_cmpuint(reaped, ==, VMXTEST_RING - 1);
    g_assert_cmpuint(g_queue_get_length(&t.backend.sent), ==, VMXTEST_RING - 1);
    g_assert_cmpuint(harness_msi_count(t.h, t.slot, 0), ==, 1); /* one for all */
    vmxtest_tear_down(&t);
}

/* With a backend that takes nothing, and a frame for it. */
static void set_up_full(struct vmxtest *t, uint8_t frame[60])
{
    vmxtest_set_up(t, 1, false);
    vmxtest_activate(t);
    t->backend.full = true;
    vmxtest_fill(frame, 60, somebody, 1);
}

/* The backend takes nothing for a while. */
static void test_transmit_blocked(void)
{
    uint8_t data[60];
    struct vmxtest t;

    set_up_full(&t, data);
    vmxtest_put(&t, 0, data, sizeof(data), 2, NULL);
    vmxtest_ring_doorbell(&t, 0);
    harness_settle(t.h, 2);
    g_assert_false(vmxtest_reap(&t, 0));
    t.backend.full = false;
    t.backend.net.client->writable(t.v, 0);
    harness_settle(t.h, 2);
    g_assert_true(vmxtest_reap(&t, 0));
    vmxtest_tear_down(&t);
}

/* It takes nothing for nearly as long as a driver waits: frames are lost, until it does again. */
static void test_transmit_blocked_for_long(void)
{
    gint64 start = g_get_monotonic_time();
    uint8_t data[60];
    struct vmxtest t;

    set_up_full(&t, data);
    g_assert_null(vmxtest_send(&t, 0, data, sizeof(data), 2, NULL));
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 2 * G_USEC_PER_SEC);
    start = g_get_monotonic_time();
    g_assert_null(vmxtest_send(&t, 0, data, sizeof(data), 2, NULL)); /* the next at once */
    g_assert_cmpint(g_get_monotonic_time() - start, <, 2 * G_USEC_PER_SEC);
    vmxtest_command(&t, VMXNET3_GET_STATS);
    g_assert_cmpuint(harness_load(t.h, t.queues + 88 + 8 * VMXNET3_TX_DISCARDS, 8), ==, 2);
    t.backend.full = false;
    t.backend.net.client->writable(t.v, 0);
    vmxtest_echo(&t, 0, 60, 1);
    vmxtest_tear_down(&t);
}

/* A driver that starts anew finds the same patience. */
static void test_transmit_blocked_restart(void)
{
    uint8_t data[60];
    struct vmxtest t;

    set_up_full(&t, data);
    g_assert_null(vmxtest_send(&t, 0, data, sizeof(data), 1, NULL));
    vmxtest_command(&t, VMXNET3_QUIESCE);
    vmxtest_activate(&t);
    vmxtest_put(&t, 0, data, sizeof(data), 1, NULL);
    vmxtest_ring_doorbell(&t, 0);
    harness_settle(t.h, 20);
    g_assert_false(vmxtest_reap(&t, 0));
    g_assert_cmpint(loop_timer_deadline(t.v->tx_timer), >, 0);
    vmxtest_command(&t, VMXNET3_QUIESCE);
    harness_settle(t.h, 2);
    g_assert_cmpint(loop_timer_deadline(t.v->tx_timer), ==, -1);
    vmxtest_tear_down(&t);
}

static void test_transmit_queues(void)
{
    struct vmxtest t;

    vmxtest_set_up(&t, 2, false);
    t.tx_count = t.rx_count = 8;
    vmxtest_activate(&t);
    g_assert_true(t.backend.active[1]);
    for (unsigned i = 0; i < 8; i++) {
        uint8_t data[60];
        g_autofree struct vmxtest_frame *frame = NULL;

        vmxtest_fill(data, sizeof(data), somebody, i);
        frame = vmxtest_send(&t, i, data, sizeof(data), 1, NULL);
        g_assert_cmpuint(frame->queue, ==, i % 2);
        g_assert_cmpuint(harness_msi_count(t.h, t.slot, i), ==, 1);
    }
    /* Fewer queues of the driver than of the backend: the others are not used. */
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_QUIESCE), ==, 0);
    t.tx_count = t.rx_count = 1;
    vmxtest_activate(&t);
    g_assert_false(t.backend.active[1]);
    g_assert_false(t.backend.used[1]);
    vmxtest_tear_down(&t);
}

/* ---- errors of a ring ---- */

static void expect_stopped(struct vmxtest *t, uint64_t descriptor, uint32_t error, uint32_t event)
{
    unsigned vector = t->config.interrupts.event_vector;

    g_assert_true(harness_wait_msi(t->h, t->slot, vector, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(harness_load(t->h, t->shared + 696, 4), ==, event);
    g_assert_cmphex(vmxtest_command(t, VMXNET3_GET_QUEUE_STATUS), ==, 0);
    g_assert_cmpuint(harness_load(t->h, descriptor + 80, 1), ==, 1);
    g_assert_cmphex(harness_load(t->h, descriptor + 84, 4), ==, error);
    vmxtest_write(t, VMXNET3_ECR, event);
    g_assert_cmphex(harness_load(t->h, t->shared + 696, 4), ==, 0);
    g_assert_cmphex(vmxtest_read(t, VMXNET3_ECR), ==, 0);
    /* A reset and a new activation make it work again. */
    vmxtest_command(t, VMXNET3_RESET);
    vmxtest_activate(t);
    vmxtest_echo(t, 0, 60, 1);
}

static void transmit_error(uint64_t address, uint32_t word2, uint32_t word3, unsigned copies,
                           uint32_t error)
{
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    for (unsigned i = 0; i < copies; i++) {
        harness_store(t.h, t.tx[0].ring.base + 16 * i, 8, address);
        harness_store(t.h, t.tx[0].ring.base + 16 * i + 8, 4, word2 | VMXNET3_TXD_GENERATION);
        harness_store(t.h, t.tx[0].ring.base + 16 * i + 12, 4, word3);
    }
    vmxtest_ring_doorbell(&t, 0);
    expect_stopped(&t, t.queues, error, VMXNET3_EVENT_TX_ERROR);
    vmxtest_tear_down(&t);
}

static void test_transmit_errors(void)
{
    transmit_error(0x1000, 60, 0, 3, VMXNET3_ERROR_NO_EOP);
    transmit_error(0x1000, 60, 0, VMXTEST_RING, VMXNET3_ERROR_BIG_PACKET);
    transmit_error(0x1000, 60 | VMXNET3_TXD_TYPE, VMXNET3_TXD_END, 1, VMXNET3_ERROR_NOT_SUPPORTED);
    transmit_error(UINT64_C(1) << 45, 60, VMXNET3_TXD_END, 1, VMXNET3_ERROR_TX_DESCRIPTOR);
    transmit_error(UINT64_MAX - 10, 60, VMXNET3_TXD_END, 1, VMXNET3_ERROR_TX_DESCRIPTOR);
}

/* A buffer that a receive ring names is nowhere. */
static void test_receive_error(void)
{
    uint8_t data[60];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    harness_store(t.h, t.rx[0].ring[0].base, 8, UINT64_C(1) << 45);
    vmxtest_fill(data, sizeof(data), vmxtest_mac, 1);
    vmxtest_host_sends(&t, NULL, data, sizeof(data));
    expect_stopped(&t, t.queues + 256, VMXNET3_ERROR_RX_DESCRIPTOR, VMXNET3_EVENT_RX_ERROR);
    vmxtest_host_sends(&t, NULL, data, sizeof(data));
    vmxtest_expect(&t, data, sizeof(data));
    vmxtest_tear_down(&t);
}

/* ---- receive ---- */

static void test_receive(void)
{
    static const size_t lengths[] = {14, 60, 1514, 1536, 1537, 5632, 5633, 9018, 65549};
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    for (unsigned turn = 0; turn < 20; turn++)
        for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++)
            vmxtest_pass(&t, lengths[i], turn);
    vmxtest_tear_down(&t);
}

/* A driver with a large MTU has bodies in ring 0: frames use them, or skip them. */
static void test_receive_jumbo(void)
{
    static const size_t lengths[] = {60, 9018, 1536, 5632, 30000};
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    t.rx[0].heads_every = 3;
    t.config.misc.mtu = 9000;
    vmxtest_activate(&t);
    g_assert_cmpuint(vmxnet3_mtu(t.v), ==, 9000);
    for (unsigned turn = 0; turn < 40; turn++)
        vmxtest_pass(&t, lengths[turn % G_N_ELEMENTS(lengths)], turn);
    vmxtest_tear_down(&t);
}

static void test_receive_data_ring(void)
{
    g_autofree struct vmxtest_received *received = g_new0(struct vmxtest_received, 1);
    uint8_t data[200];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    t.data_entry = 128;
    vmxtest_activate(&t);
    for (unsigned i = 0; i < 2 * VMXTEST_RING; i++) {
        size_t length = i % 2 ? 128 : 129;

        vmxtest_fill(data, length, vmxtest_mac, i);
        vmxtest_host_sends(&t, NULL, data, length);
        g_assert_true(vmxtest_receive(&t, received, HARNESS_TIMEOUT_MS));
        g_assert_cmpmem(received->data, received->length, data, length);
        g_assert_cmpint(received->data_ring, ==, length == 128);
    }
    /* A driver of revision 2 does not know it. */
    vmxtest_command(&t, VMXNET3_QUIESCE);
    vmxtest_write(&t, VMXNET3_VRRS, 2);
    vmxtest_activate(&t);
    vmxtest_host_sends(&t, NULL, data, 100);
    g_assert_true(vmxtest_receive(&t, received, HARNESS_TIMEOUT_MS));
    g_assert_false(received->data_ring);
    vmxtest_tear_down(&t);
}

/* More frames than buffers: they wait, and so does the backend, and none is lost. */
static void test_receive_waits(void)
{
    struct vmxtest t;
    unsigned i;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    for (i = 0; i < 3 * VMXTEST_RING; i++) {
        uint8_t data[100];

        vmxtest_fill(data, sizeof(data), vmxtest_mac, i);
        vmxtest_host_sends(&t, NULL, data, sizeof(data));
    }
    harness_settle(t.h, 5);
    g_assert_cmpuint(g_queue_get_length(&t.backend.incoming), ==,
                     3 * VMXTEST_RING - (VMXTEST_RING - 1) - 1);
    g_assert_false(t.backend.receiving[0]);
    for (i = 0; i < 3 * VMXTEST_RING; i++) {
        uint8_t data[100];

        vmxtest_fill(data, sizeof(data), vmxtest_mac, i);
        vmxtest_expect(&t, data, sizeof(data));
    }
    g_assert_true(t.backend.receiving[0]);
    vmxtest_tear_down(&t);
}

/* More frames than there are buffers: the ring is dry, one frame waits. */
static void run_dry(struct vmxtest *t, unsigned frames)
{
    uint8_t data[100];

    for (unsigned i = 0; i < frames; i++) {
        vmxtest_fill(data, sizeof(data), vmxtest_mac, i);
        vmxtest_host_sends(t, NULL, data, sizeof(data));
    }
    harness_settle(t->h, 2);
    g_assert_false(t->backend.receiving[0]);
}

/* A driver that polls refills and says nothing: no doorbell is rung, no interrupt unmasked. */
static void test_receive_polled(void)
{
    g_autofree struct vmxtest_received *received = g_new0(struct vmxtest_received, 1);
    struct vmxtest t;

    vmxtest_set_up(&t, 1, true);
    vmxtest_activate(&t);
    run_dry(&t, 3 * VMXTEST_RING);
    for (unsigned i = 0; i < 3 * VMXTEST_RING; i++) {
        uint8_t data[100];

        vmxtest_fill(data, sizeof(data), vmxtest_mac, i);
        g_assert_true(vmxtest_poll(&t, received, HARNESS_TIMEOUT_MS));
        g_assert_cmpmem(received->data, received->length, data, sizeof(data));
    }
    g_assert_true(t.backend.receiving[0]);
    vmxtest_tear_down(&t);
}

/* New buffers are looked for while a frame waits for them, not before and not after. */
static void test_receive_looks(void)
{
    g_autofree struct vmxtest_received *received = g_new0(struct vmxtest_received, 1);
    struct vmxtest t;

    vmxtest_set_up(&t, 1, true);
    vmxtest_activate(&t);
    vmxtest_pass(&t, 100, 1);
    g_assert_cmpint(loop_timer_deadline(t.v->rx_timer), ==, -1);
    run_dry(&t, VMXTEST_RING);
    harness_settle(t.h, 20);
    g_assert_cmpint(loop_timer_deadline(t.v->rx_timer), >, 0);
    g_assert_cmpint(loop_timer_deadline(t.v->rx_timer), <=, loop_now_ns() + 10 * 1000000);
    for (unsigned i = 0; i < VMXTEST_RING; i++)
        g_assert_true(vmxtest_poll(&t, received, HARNESS_TIMEOUT_MS));
    harness_settle(t.h, 50);
    g_assert_cmpint(loop_timer_deadline(t.v->rx_timer), ==, -1);
    vmxtest_tear_down(&t);
}

/* A device that is quiesced or paused does not look; after the pause it does again. */
static void test_receive_looks_stop(void)
{
    g_autofree struct vmxtest_received *received = g_new0(struct vmxtest_received, 1);
    g_autoptr(GError) error = NULL;
    struct vmxtest t;

    vmxtest_set_up(&t, 1, true);
    vmxtest_activate(&t);
    run_dry(&t, VMXTEST_RING);
    devices_set_state(&t.h->devices, DEVICE_STOP, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
    g_assert_cmpint(loop_timer_deadline(t.v->rx_timer), ==, -1);
    devices_set_state(&t.h->devices, DEVICE_RUNNING, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
    harness_settle(t.h, 2);
    for (unsigned i = 0; i < VMXTEST_RING; i++)
        g_assert_true(vmxtest_poll(&t, received, HARNESS_TIMEOUT_MS));
    run_dry(&t, VMXTEST_RING);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_QUIESCE), ==, 0);
    harness_settle(t.h, 2);
    g_assert_cmpint(loop_timer_deadline(t.v->rx_timer), ==, -1);
    vmxtest_tear_down(&t);
}

/* One that no number of buffers would do for is dropped. */
static void test_receive_too_large(void)
{
    g_autofree uint8_t *data = g_malloc(20000);
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    t.config.misc.max_rx_pieces = 3;
    vmxtest_activate(&t);
    vmxtest_fill(data, 20000, vmxtest_mac, 1);
    vmxtest_host_sends(&t, NULL, data, 20000);
    vmxtest_expect_nothing(&t);
    vmxtest_pass(&t, 1536 + 2 * 4096, 2);
    vmxtest_command(&t, VMXNET3_GET_STATS);
    g_assert_cmpuint(harness_load(t.h, t.queues + 256 + 88 + 8 * VMXNET3_RX_ERRORS, 8), ==, 1);
    vmxtest_tear_down(&t);
}

/* ---- filters ---- */

static void set_filter(struct vmxtest *t, uint32_t mode, const uint8_t *multicast)
{
    t->config.filter.mode = mode;
    t->config.filter.multicast_size = multicast ? 12 : 0;
    if (multicast)
        harness_write(t->h, t->multicasts + 6, multicast, 6);
    vmxtest_share(t);
    vmxtest_command(t, VMXNET3_UPDATE_RX_MODE);
    vmxtest_command(t, VMXNET3_UPDATE_MAC_FILTERS);
    vmxtest_command(t, VMXNET3_UPDATE_VLAN_FILTERS);
}

static void test_filter(void)
{
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    vmxtest_offer(&t, vmxtest_mac, 0, true);
    vmxtest_offer(&t, everybody, 0, true);
    vmxtest_offer(&t, somebody, 0, false);
    vmxtest_offer(&t, group, 0, false);
    set_filter(&t, VMXNET3_RX_UNICAST | VMXNET3_RX_MULTICAST, group);
    vmxtest_offer(&t, group, 0, true);
    vmxtest_offer(&t, (const uint8_t *)"\x01\x00\x5e\x00\x00\x06", 0, false);
    vmxtest_offer(&t, everybody, 0, false);
    set_filter(&t, VMXNET3_RX_ALL_MULTICAST, NULL);
    vmxtest_offer(&t, group, 0, true);
    vmxtest_offer(&t, vmxtest_mac, 0, false);
    set_filter(&t, VMXNET3_RX_PROMISCUOUS, NULL);
    vmxtest_offer(&t, somebody, 0, true);
    vmxtest_offer(&t, somebody, 77, true); /* the VLAN filter, too, is off */
    /* The driver's own address counts, not the card's. */
    set_filter(&t, VMXNET3_RX_UNICAST, NULL);
    vmxtest_write(&t, VMXNET3_MACL, 0x02020202);
    vmxtest_write(&t, VMXNET3_MACH, 0x0202);
    vmxtest_offer(&t, somebody, 0, true);
    vmxtest_offer(&t, vmxtest_mac, 0, false);
    vmxtest_tear_down(&t);
}

static void test_filter_vlan(void)
{
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    vmxtest_offer(&t, vmxtest_mac, 100, false);
    t.config.filter.vlans[100 / 32] |= 1 << 100 % 32;
    t.config.filter.vlans[4095 / 32] |= 1u << 4095 % 32;
    set_filter(&t, VMXNET3_RX_UNICAST, NULL);
    vmxtest_offer(&t, vmxtest_mac, 100, true);
    vmxtest_offer(&t, vmxtest_mac, 101, false);
    vmxtest_offer(&t, vmxtest_mac, 4095, true);
    vmxtest_tear_down(&t);
}

/* A table of more addresses than the device keeps lets all of them through. */
static void test_filter_many(void)
{
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    t.config.filter.mode = VMXNET3_RX_MULTICAST;
    t.config.filter.multicast_size = 300 * 6;
    vmxtest_share(&t);
    vmxtest_command(&t, VMXNET3_UPDATE_RX_MODE);
    vmxtest_command(&t, VMXNET3_UPDATE_MAC_FILTERS);
    vmxtest_offer(&t, group, 0, true);
    /* One that is nowhere: the command fails, the filter is as it was. */
    t.config.filter.multicast_size = 6;
    t.config.filter.multicast = UINT64_C(1) << 44;
    vmxtest_share(&t);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_UPDATE_MAC_FILTERS), ==, 1);
    vmxtest_tear_down(&t);
}

/* ---- interrupts ---- */

static void test_auto_mask(void)
{
    uint8_t data[60];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    vmxtest_fill(data, sizeof(data), vmxtest_mac, 1);
    for (unsigned i = 0; i < 3; i++)
        vmxtest_host_sends(&t, NULL, data, sizeof(data));
    harness_settle(t.h, 2);
    g_assert_cmpuint(harness_msi_count(t.h, t.slot, 0), ==, 1);
    g_assert_cmphex(harness_bar_read(t.h, t.slot, 0, VMXNET3_IMR, 4), ==, 1);
    vmxtest_unmask(&t, 0); /* what came meanwhile */
    harness_settle(t.h, 2);
    g_assert_cmpuint(harness_msi_count(t.h, t.slot, 0), ==, 2);
    vmxtest_unmask(&t, 0);
    harness_settle(t.h, 2);
    g_assert_cmpuint(harness_msi_count(t.h, t.slot, 0), ==, 2);
    g_assert_cmphex(harness_bar_read(t.h, t.slot, 0, VMXNET3_IMR, 4), ==, 0);
    vmxtest_tear_down(&t);
}

/* What came while a vector was masked is told when it no longer is, though the switch in shared memory
 * is turned on only after that, as Linux does it. */
static void test_interrupts_on(void)
{
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    t.config.interrupts.auto_mask = 0;
    t.config.interrupts.control = VMXNET3_INTERRUPTS_OFF;
    vmxtest_lay_out(&t);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_ACTIVATE), ==, 0);
    vmxnet3_set_link(t.v, false);
    harness_settle(t.h, 2);
    g_assert_cmpuint(harness_msi_count(t.h, t.slot, 1), ==, 0);
    vmxtest_unmask(&t, 1);
    harness_store(t.h, t.shared + 80 + 28, 4, 0);
    harness_settle(t.h, 2);
    g_assert_cmpuint(harness_msi_count(t.h, t.slot, 1), ==, 1);
    for (unsigned i = 0; i < 3; i++) {
        vmxnet3_set_link(t.v, i % 2 == 0);
        harness_settle(t.h, 2);
    }
    g_assert_cmpuint(harness_msi_count(t.h, t.slot, 1), ==, 4); /* nobody masks */
    vmxtest_tear_down(&t);
}

static void test_pin(void)
{
    uint32_t gsi;
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    gsi = pci_host_gsi(t.slot, 1);
    vmxtest_activate(&t);
    harness_msix_disable(t.h, t.slot);
    vmxtest_echo(&t, 0, 60, 1);
    g_assert_true(harness_wait_gsi(t.h, gsi, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(vmxtest_read(&t, VMXNET3_ICR), ==, 1);
    g_assert_cmphex(vmxtest_read(&t, VMXNET3_ICR), ==, 0);
    harness_eoi(t.h, gsi);
    harness_settle(t.h, 2);
    g_assert_false(harness_gsi_level(t.h, gsi));
    vmxtest_tear_down(&t);
}

static void count_changes(void *opaque)
{
    ++*(unsigned *)opaque;
}

static void test_link(void)
{
    unsigned changes = 0;
    uint8_t mac[6];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxnet3_set_listener(t.v, count_changes, &changes);
    g_assert_false(vmxnet3_active(t.v));
    vmxtest_activate(&t);
    g_assert_cmpuint(changes, ==, 1);
    g_assert_true(vmxnet3_active(t.v));
    vmxnet3_set_link(t.v, false);
    g_assert_true(harness_wait_msi(t.h, t.slot, 1, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmpuint(changes, ==, 2);
    g_assert_false(vmxnet3_link_up(t.v));
    g_assert_cmphex(harness_load(t.h, t.shared + 696, 4), ==, VMXNET3_EVENT_LINK);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_GET_LINK), ==, 0);
    vmxtest_write(&t, VMXNET3_ECR, VMXNET3_EVENT_LINK);
    vmxtest_unmask(&t, 1);
    /* Into the void, and out of it. */
    g_assert_null(vmxtest_send(&t, 0, (const uint8_t[60]){0}, 60, 1, NULL));
    vmxtest_offer(&t, vmxtest_mac, 0, false);
    net_set_link(&t.backend.net, false);
    vmxnet3_set_link(t.v, true);
    harness_settle(t.h, 2);
    g_assert_cmpuint(harness_msi_count(t.h, t.slot, 1), ==, 1);
    net_set_link(&t.backend.net, true);
    g_assert_true(harness_wait_msi(t.h, t.slot, 1, 2, HARNESS_TIMEOUT_MS));
    vmxtest_echo(&t, 0, 60, 1);
    vmxtest_write(&t, VMXNET3_MACL, 0x02020202);
    vmxtest_write(&t, VMXNET3_MACH, 0x0202);
    harness_settle(t.h, 2);
    g_assert_cmpuint(changes, ==, 4);
    vmxnet3_mac(t.v, mac);
    g_assert_cmpmem(mac, 6, somebody, 6);
    vmxtest_tear_down(&t);
}

static void test_counters(void)
{
    uint64_t counters[VMXNET3_COUNTERS];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    for (unsigned i = 0; i < 3; i++)
        vmxtest_echo(&t, 0, 100, 1);
    vmxtest_offer(&t, everybody, 0, true);
    vmxtest_command(&t, VMXNET3_GET_STATS);
    harness_read(t.h, t.queues + 88, counters, sizeof(counters));
    g_assert_cmpuint(counters[VMXNET3_TX_UNICAST_PACKETS], ==, 3);
    g_assert_cmpuint(counters[VMXNET3_TX_UNICAST_BYTES], ==, 300);
    harness_read(t.h, t.queues + 256 + 88, counters, sizeof(counters));
    g_assert_cmpuint(counters[VMXNET3_RX_BROADCAST_PACKETS], ==, 1);
    g_assert_cmpuint(counters[VMXNET3_RX_BROADCAST_BYTES], ==, 64);
    vmxtest_tear_down(&t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    g_test_add_func("/vmxnet3/layout", test_layout);
    g_test_add_func("/vmxnet3/layout/queues", test_queue_layout);
    g_test_add_func("/vmxnet3/identity", test_identity);
    g_test_add_func("/vmxnet3/activation/refused", test_activation_refused);
    g_test_add_func("/vmxnet3/transmit", test_transmit);
    g_test_add_func("/vmxnet3/transmit/many", test_transmit_many);
    g_test_add_func("/vmxnet3/transmit/blocked", test_transmit_blocked);
    g_test_add_func("/vmxnet3/transmit/blocked/for-long", test_transmit_blocked_for_long);
    g_test_add_func("/vmxnet3/transmit/blocked/restart", test_transmit_blocked_restart);
    g_test_add_func("/vmxnet3/transmit/queues", test_transmit_queues);
    g_test_add_func("/vmxnet3/transmit/errors", test_transmit_errors);
    g_test_add_func("/vmxnet3/receive", test_receive);
    g_test_add_func("/vmxnet3/receive/jumbo", test_receive_jumbo);
    g_test_add_func("/vmxnet3/receive/data-ring", test_receive_data_ring);
    g_test_add_func("/vmxnet3/receive/waits", test_receive_waits);
    g_test_add_func("/vmxnet3/receive/waits/polled", test_receive_polled);
    g_test_add_func("/vmxnet3/receive/waits/looks", test_receive_looks);
    g_test_add_func("/vmxnet3/receive/waits/looks-stop", test_receive_looks_stop);
    g_test_add_func("/vmxnet3/receive/too-large", test_receive_too_large);
    g_test_add_func("/vmxnet3/receive/error", test_receive_error);
    g_test_add_func("/vmxnet3/filter", test_filter);
    g_test_add_func("/vmxnet3/filter/vlan", test_filter_vlan);
    g_test_add_func("/vmxnet3/filter/many", test_filter_many);
    g_test_add_func("/vmxnet3/interrupts/auto-mask", test_auto_mask);
    g_test_add_func("/vmxnet3/interrupts/on", test_interrupts_on);
    g_test_add_func("/vmxnet3/interrupts/pin", test_pin);
    g_test_add_func("/vmxnet3/link", test_link);
    g_test_add_func("/vmxnet3/counters", test_counters);
    return g_test_run();
}
