/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of virtio/net through its PCI function, as a driver sees it: frames both ways in every layout,
 * too few buffers, resets, pausing, saved state. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/device/virtio_net.h"
#include "tests/support/check_state.h"
#include "virtio/net_private.h"

#define BIT NETTEST_BIT

static const uint8_t somebody[6] = {2, 2, 2, 2, 2, 2};

static uint8_t *make_frame(size_t length, unsigned seed)
{
    uint8_t *frame = g_malloc(length);

    nettest_fill(frame, length, nettest_mac, seed);
    return frame;
}

/* A frame from the peer, which the driver is to get as it is. */
static void receive_one(struct nettest *t, size_t length, unsigned seed)
{
    g_autofree uint8_t *frame = make_frame(length, seed);

    nettest_peer_send(t, frame, length);
    nettest_expect(t, frame, length);
}

static void send_from_peer(struct nettest *t, size_t length, unsigned seed)
{
    g_autofree uint8_t *frame = make_frame(length, seed);

    nettest_peer_send(t, frame, length);
}

static void expect_frame(struct nettest *t, size_t length, unsigned seed)
{
    g_autofree uint8_t *frame = make_frame(length, seed);

    nettest_expect(t, frame, length);
}

/* ---- what the device says it is ---- */

static void test_config(void)
{
    struct nettest t;
    uint64_t offered;

    nettest_set_up(&t, SOCK_DGRAM, "mtu=9000");
    offered = virtio_driver_offered(t.driver);
    g_assert_cmphex(offered & NETTEST_SEND, ==, NETTEST_SEND);
    g_assert_cmphex(offered & NETTEST_CONTROL, ==, NETTEST_CONTROL);
    g_assert_false(offered & (NET_OFFLOAD_FEATURES | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)));
    g_assert_false(offered & BIT(VIRTIO_NET_F_MQ));
    virtio_driver_start(t.driver, BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_STATUS));
    g_assert_cmpuint(NETTEST_CONFIG(&t, mtu), ==, 9000);
    g_assert_cmpuint(NETTEST_CONFIG(&t, status), ==, VIRTIO_NET_S_LINK_UP);
    for (unsigned i = 0; i < 6; i++)
        g_assert_cmphex(virtio_driver_config(t.driver, i, 1), ==, nettest_mac[i]);
    nettest_tear_down(&t);

    nettest_set_up(&t, 0, "type=null,queues=4,offloads=off");
    offered = virtio_driver_offered(t.driver);
    g_assert_true(offered & BIT(VIRTIO_NET_F_MQ));
    g_assert_false(offered & (NETTEST_SEND | NET_OFFLOAD_FEATURES | BIT(VIRTIO_NET_F_MTU)));
    virtio_driver_start(t.driver, BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_CTRL_VQ));
    g_assert_cmpuint(NETTEST_CONFIG(&t, max_virtqueue_pairs), ==, 4);
    g_assert_cmpuint(t.driver->queue_count, ==, 9);
    nettest_tear_down(&t);
}

static void test_random_mac(void)
{
    uint8_t macs[2][6];

    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(options_t) options = options_parse(virtio_net_options, "--net", "null", NULL);
        struct virtio_device *vdev = virtio_net_create(options, loop_main(), NULL);

        memcpy(macs[i], vdev->config, 6);
        g_assert_cmphex(macs[i][0] & 3, ==, 2);
        vdev->class->destroy(vdev);
    }
    g_assert_cmpint(memcmp(macs[0], macs[1], 6), !=, 0);
}

static void test_bad_options(void)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"type=null,queue-size=100", "--net: queue-size=100: must be a power of two"},
        {"type=null,queues=65", "--net: queues=65: must be 1 to 64"},
        {"type=user,queues=2", "--net: queues=2: is for type=tap, type=null, not for type=user"},
        {"type=null,mac=01:00:00:00:00:01", "--net: mac=01:00:00:00:00:01:"},
        {"type=bridge", "--net: type=bridge:"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(options_t) options =
            options_parse(virtio_net_options, "--net", cases[i].text, &error);

        if (options)
            g_assert_null(virtio_net_create(options, loop_main(), &error));
        g_assert_nonnull(error);
        g_assert_cmpstr(strstr(error->message, cases[i].expected), ==, error->message);
    }
}

/* ---- transmit ---- */

static void test_transmit(const void *rings)
{
    static const size_t lengths[] = {14, 15, 60, 1514, 9000, 65535 + 14};
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "in-order=on,queue-size=32");
    virtio_driver_start(t.driver, *(const uint64_t *)rings | NETTEST_SEND);
    for (unsigned pieces = 1; pieces <= 9; pieces++)
        for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++)
            nettest_echo(&t, lengths[i], pieces);
    g_assert_cmpuint(nettest_backend(&t)->tx_frames, ==, 54);
    g_assert_cmpuint(nettest_backend(&t)->dropped, ==, 0);
    nettest_tear_down(&t);
}

/* What a driver must not send is lost, and the next frame is not. */
static void test_transmit_bad(void)
{
    static const struct virtio_net_hdr_v1 headers[] = {
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 0xffff},
        {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 0},
        {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 100},
        {.gso_type = 0x7f, .gso_size = 100},
    };
    uint8_t frame[100];
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "");
    virtio_driver_start(t.driver, NETTEST_SEND);
    nettest_fill(frame, sizeof(frame), somebody, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(headers); i++)
        nettest_send(&t, &headers[i], frame, sizeof(frame), 2);
    nettest_send(&t, NULL, frame, 0, 1); /* only a header */
    nettest_send(&t, NULL, frame, 13, 1);
    g_assert_cmpint(nettest_peer_receive(&t, frame, sizeof(frame), 20), ==, -1);
    g_assert_cmpuint(nettest_backend(&t)->tx_frames, ==, 0);
    nettest_echo(&t, 60, 1);
    g_assert_false(virtio_driver_status(t.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
    nettest_tear_down(&t);
}

/* More than any frame, and less than a header. */
static void test_transmit_sizes(void)
{
    struct driver_buffer parts[3];
    uint64_t large;
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "");
    virtio_driver_start(t.driver, 0);
    large = harness_alloc(t.h, 1 << 20, 4096);
    for (unsigned i = 0; i < 3; i++)
        parts[i] = (struct driver_buffer){large, 1 << 20};
    g_assert_cmpint(virtio_driver_request(t.driver, NETTEST_TX, parts, 3, NULL, 0), ==, 0);
    parts[0].len = 5;
    g_assert_cmpint(virtio_driver_request(t.driver, NETTEST_TX, parts, 1, NULL, 0), ==, 0);
    parts[0].len = 0;
    g_assert_cmpint(virtio_driver_request(t.driver, NETTEST_TX, parts, 1, NULL, 0), ==, 0);
    nettest_echo(&t, 60, 2);
    nettest_tear_down(&t);
}

/* Many at once, more than one turn of the loop takes; then with nobody who reads them. */
static void test_transmit_many(void)
{
    g_autofree uint8_t *frame = g_malloc(3000), *got = g_malloc(NET_MAX_FRAME);
    struct nettest t;
    unsigned sent = 0, done = 0;

    nettest_set_up(&t, SOCK_STREAM, "queue-size=1024");
    virtio_driver_start(t.driver, NETTEST_RINGS);
    while (sent < 1000) { /* 3 MB: more than socket and backend keep */
        uint64_t at = harness_alloc(t.h, NET_HEADER_SIZE + 3000, 16);
        struct driver_buffer out = {at, NET_HEADER_SIZE + 3000};

        nettest_fill(frame, 3000, somebody, sent++);
        harness_write(t.h, at + NET_HEADER_SIZE, frame, 3000);
        g_assert_true(
            driver_ring_add(virtio_driver_ring(t.driver, NETTEST_TX), &out, 1, NULL, 0, false, &t));
    }
    virtio_driver_publish(t.driver, NETTEST_TX);
    harness_settle(t.h, 50);
    while (driver_ring_reap(virtio_driver_ring(t.driver, NETTEST_TX), NULL))
        done++;
    g_assert_cmpuint(done, >, 64);
    g_assert_cmpuint(done, <, 1000);
    for (unsigned i = 0; i < sent; i++) {
        g_assert_cmpint(nettest_peer_receive(&t, got, NET_MAX_FRAME, HARNESS_TIMEOUT_MS), ==, 3000);
        nettest_fill(frame, 3000, somebody, i);
        g_assert_cmpmem(got, 3000, frame, 3000);
    }
    while (driver_ring_reap(virtio_driver_ring(t.driver, NETTEST_TX), NULL))
        done++;
    g_assert_cmpuint(done, ==, 1000);
    g_assert_cmpuint(nettest_backend(&t)->dropped, ==, 0);
    nettest_tear_down(&t);
}

/* The device is paused, or reset, while the backend takes nothing. */
static void test_transmit_blocked(void)
{
    g_autofree uint8_t *frame = g_malloc(60000), *got = g_malloc(NET_MAX_FRAME);
    struct driver_buffer out;
    g_autoptr(GError) error = NULL;
    unsigned done = 0;
    struct nettest t;

    nettest_set_up(&t, SOCK_STREAM, "queue-size=128");
    virtio_driver_start(t.driver, NETTEST_RINGS);
    nettest_fill(frame, 60000, somebody, 1);
    harness_write(t.h, t.frame + NET_HEADER_SIZE, frame, 60000);
    out = (struct driver_buffer){t.frame, NET_HEADER_SIZE + 60000};
    for (unsigned i = 0; i < 100; i++)
        g_assert_true(
            driver_ring_add(virtio_driver_ring(t.driver, NETTEST_TX), &out, 1, NULL, 0, false, &t));
    virtio_driver_publish(t.driver, NETTEST_TX);
    harness_settle(t.h, 20);
    devices_set_state(&t.h->devices, DEVICE_STOP, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
    devices_set_state(&t.h->devices, DEVICE_RUNNING, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < 100; i++)
        g_assert_cmpint(nettest_peer_receive(&t, got, NET_MAX_FRAME, HARNESS_TIMEOUT_MS), ==,
                        60000);
    harness_settle(t.h, 10);
    while (driver_ring_reap(virtio_driver_ring(t.driver, NETTEST_TX), NULL))
        done++;
    g_assert_cmpuint(done, ==, 100);

    for (unsigned i = 0; i < 100; i++)
        driver_ring_add(virtio_driver_ring(t.driver, NETTEST_TX), &out, 1, NULL, 0, false, &t);
    virtio_driver_publish(t.driver, NETTEST_TX);
    harness_settle(t.h, 20);
    virtio_driver_start(t.driver, NETTEST_RINGS);
    while (nettest_peer_receive(&t, got, NET_MAX_FRAME, 50) > 0)
        ;
    nettest_echo(&t, 60, 1);
    nettest_tear_down(&t);
}

/* A segmentation offload, for a backend that takes none: three frames come out. */
static void test_segments(void)
{
    static const struct virtio_net_hdr_v1 header = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = 54,
        .gso_size = 1000,
        .csum_start = 34,
        .csum_offset = 16,
    };
    uint8_t frame[54 + 2500] = {2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 8, 0, 0x45, [23] = 6},
                       got[2000];
    struct nettest t;

    frame[46] = 0x50;
    nettest_set_up(&t, SOCK_DGRAM, "");
    virtio_driver_start(t.driver, NETTEST_SEND);
    nettest_send(&t, &header, frame, sizeof(frame), 3);
    g_assert_cmpint(nettest_peer_receive(&t, got, sizeof(got), HARNESS_TIMEOUT_MS), ==, 1054);
    g_assert_cmpint(nettest_peer_receive(&t, got, sizeof(got), HARNESS_TIMEOUT_MS), ==, 1054);
    g_assert_cmpint(nettest_peer_receive(&t, got, sizeof(got), HARNESS_TIMEOUT_MS), ==, 554);
    nettest_tear_down(&t);
}

/* ---- receive ---- */

static void test_receive(const void *rings)
{
    static const size_t lengths[] = {14, 60, 1500, 1514, 1515, 3028, 30000, 65535 + 14};
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "in-order=on,queue-size=128");
    virtio_driver_start(t.driver, *(const uint64_t *)rings | NETTEST_MERGE);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
            nettest_post(&t, 128, 1526, 1);
            receive_one(&t, lengths[i], round);
            g_assert_cmpuint(t.header.flags, ==, 0);
            g_assert_cmpuint(t.header.gso_type, ==, 0);
            g_assert_cmpuint(GUINT16_FROM_LE(t.header.num_buffers), ==,
                             (lengths[i] + NET_HEADER_SIZE + 1525) / 1526);
        }
    }
    g_assert_cmpuint(nettest_backend(&t)->dropped, ==, 0);
    nettest_tear_down(&t);
}

/* Buffers of several descriptors, a header that is cut up, sizes that change. */
static void test_receive_layouts(void)
{
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "queue-size=1024");
    virtio_driver_start(t.driver, NETTEST_MERGE);
    for (unsigned round = 0; round < 40; round++) {
        nettest_post(&t, 5, 12 + round * 300, 1 + round % 7);
        nettest_post(&t, 3, 12, 11);
        receive_one(&t, 14 + round * 100, round);
        nettest_post(&t, 4, 20000, 16);
        receive_one(&t, 60000, round);
    }
    nettest_tear_down(&t);
}

static void test_receive_not_merged(void)
{
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "");
    virtio_driver_start(t.driver, NETTEST_RINGS);
    nettest_post(&t, 8, 1526, 1);
    receive_one(&t, 1514, 1);
    g_assert_cmpuint(GUINT16_FROM_LE(t.header.num_buffers), ==, 1);
    send_from_peer(&t, 1515, 2); /* does not fit: lost, nothing but it */
    receive_one(&t, 60, 3);
    g_assert_cmpuint(nettest_backend(&t)->dropped, ==, 1);
    for (unsigned i = 0; i < 6; i++)
        receive_one(&t, 100 + i, i);
    send_from_peer(&t, 500, 4); /* no buffers: it waits */
    nettest_expect_nothing(&t);
    nettest_post(&t, 1, 1526, 2);
    expect_frame(&t, 500, 4);
    nettest_tear_down(&t);
}

/* Frames wait in the backend while there are no buffers; one that was read waits for enough. */
static void test_receive_few_buffers(const void *rings)
{
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "in-order=on");
    virtio_driver_start(t.driver, *(const uint64_t *)rings | NETTEST_MERGE);
    send_from_peer(&t, 1000, 1);
    send_from_peer(&t, 20000, 2);
    send_from_peer(&t, 60, 3);
    nettest_expect_nothing(&t);
    nettest_post(&t, 5, 1526, 1);
    expect_frame(&t, 1000, 1);
    nettest_expect_nothing(&t);
    nettest_post(&t, 9, 1526, 1); /* 13 are there, 14 are needed */
    nettest_expect_nothing(&t);
    nettest_post(&t, 1, 1526, 1);
    expect_frame(&t, 20000, 2);
    nettest_expect_nothing(&t);
    nettest_post(&t, 1, 1526, 1);
    expect_frame(&t, 60, 3);
    g_assert_cmpuint(nettest_backend(&t)->dropped, ==, 0);
    nettest_tear_down(&t);
}

/* A frame that no number of buffers will hold is lost; those behind it are not. */
static void test_receive_too_large(void)
{
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "queue-size=16");
    virtio_driver_start(t.driver, NETTEST_MERGE);
    g_assert_cmpuint(nettest_post(&t, 100, 1526, 1), ==, 16);
    send_from_peer(&t, 60000, 1);
    receive_one(&t, 60, 2);
    receive_one(&t, 15 * 1526 - 12, 3);
    g_assert_cmpuint(nettest_backend(&t)->dropped, ==, 1);
    nettest_tear_down(&t);

    nettest_set_up(&t, SOCK_DGRAM, "queue-size=1024"); /* more small buffers than are looked at */
    virtio_driver_start(t.driver, NETTEST_MERGE);
    g_assert_cmpuint(nettest_post(&t, 1024, 100, 1), ==, 1024);
    send_from_peer(&t, 60000, 1);
    receive_one(&t, 60, 2);
    receive_one(&t, 6388, 3);
    send_from_peer(&t, 6389, 4);
    receive_one(&t, 6388, 5);
    g_assert_cmpuint(nettest_backend(&t)->dropped, ==, 2);
    nettest_tear_down(&t);
}

static void test_receive_bad_buffer(void)
{
    struct nettest t;

    for (unsigned merge = 0; merge < 2; merge++) {
        nettest_set_up(&t, SOCK_DGRAM, "");
        virtio_driver_start(t.driver, merge ? NETTEST_MERGE : 0);
        nettest_post(&t, 1, 11, 1);
        nettest_post(&t, 10, 1526, 1);
        harness_settle(t.h, 20);
        g_assert_true(virtio_driver_status(t.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
        send_from_peer(&t, 60, 1);
        nettest_expect_nothing(&t);
        virtio_driver_start(t.driver, merge ? NETTEST_MERGE : 0);
        nettest_post(&t, 64, 1526, 1);
        expect_frame(&t, 60, 1);
        nettest_tear_down(&t);
    }
}

/* While nobody can receive, a readable backend does not keep the loop busy. */
static void test_no_spinning(void)
{
    struct nettest t;
    unsigned turns = 0;
    gint64 end;

    nettest_set_up(&t, SOCK_DGRAM, "");
    virtio_driver_start(t.driver, BIT(VIRTIO_F_RING_RESET) | NETTEST_MERGE);
    for (unsigned i = 0; i < 3; i++)
        send_from_peer(&t, 60, i);
    harness_settle(t.h, 20);
    for (unsigned round = 0; round < 2; round++) {
        end = g_get_monotonic_time() + 50000;
        for (turns = 0; g_get_monotonic_time() < end; g_usleep(100))
            turns += loop_iterate(t.h->loop, false);
        g_assert_cmpuint(turns, <, 20);
        /* The second time with its receive queue reset. */
        virtio_driver_write(t.driver, 22, 2, NETTEST_RX);
        virtio_driver_write(t.driver, 58, 2, 1);
    }
    virtio_driver_setup_queue(t.driver, NETTEST_RX, 0);
    nettest_post(&t, 64, 1526, 1);
    for (unsigned i = 0; i < 3; i++)
        expect_frame(&t, 60, i);
    nettest_tear_down(&t);
}

/* ---- link ---- */

static void test_link(void)
{
    uint8_t frame[60], got[60];
    uint64_t before;
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "");
    virtio_driver_start(t.driver, BIT(VIRTIO_NET_F_STATUS) | NETTEST_MERGE);
    nettest_post(&t, 100, 1526, 1);
    receive_one(&t, 60, 1);
    before = virtio_driver_config_interrupts(t.driver);
    virtio_net_set_link(t.vdev, false);
    harness_settle(t.h, 5);
    g_assert_cmpuint(virtio_driver_config_interrupts(t.driver), ==, before + 1);
    g_assert_cmpuint(NETTEST_CONFIG(&t, status), ==, 0);
    send_from_peer(&t, 60, 2); /* lost, like */
    nettest_expect_nothing(&t);
    nettest_fill(frame, 60, somebody, 3);
    nettest_send(&t, NULL, frame, 60, 1); /* this one */
    g_assert_cmpint(nettest_peer_receive(&t, got, sizeof(got), 20), ==, -1);
    virtio_net_set_link(t.vdev, true);
    harness_settle(t.h, 5);
    g_assert_cmpuint(virtio_driver_config_interrupts(t.driver), ==, before + 2);
    g_assert_cmpuint(NETTEST_CONFIG(&t, status), ==, VIRTIO_NET_S_LINK_UP);
    receive_one(&t, 60, 4);
    nettest_echo(&t, 60, 1);
    nettest_tear_down(&t);
}

static void test_peer_leaves(void)
{
    struct nettest t;

    nettest_set_up(&t, SOCK_STREAM, "");
    virtio_driver_start(t.driver, BIT(VIRTIO_NET_F_STATUS) | NETTEST_MERGE);
    nettest_post(&t, 100, 1526, 1);
    send_from_peer(&t, 60, 1);
    shutdown(t.peer, SHUT_RDWR);
    expect_frame(&t, 60, 1);
    harness_settle(t.h, 10);
    g_assert_cmpuint(NETTEST_CONFIG(&t, status), ==, 0);
    nettest_send(&t, NULL, (const uint8_t *)"too late, nobody listens", 24, 2);
    nettest_tear_down(&t);
}

/* ---- reset ---- */

static void test_reset_with_held_frame(void)
{
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "");
    virtio_driver_start(t.driver, NETTEST_MERGE);
    nettest_post(&t, 5, 1526, 1);
    send_from_peer(&t, 20000, 1); /* read, and waits for buffers */
    harness_settle(t.h, 10);
    virtio_driver_start(t.driver, NETTEST_MERGE);
    nettest_post(&t, 64, 1526, 1);
    receive_one(&t, 60, 2); /* the old one was for the old driver */
    nettest_tear_down(&t);
}

static void reset_queue(struct nettest *t, unsigned index)
{
    virtio_driver_write(t->driver, 22, 2, index); /* queue_select */
    virtio_driver_write(t->driver, 58, 2, 1);     /* queue_reset */
    for (unsigned i = 0; i < 100 && virtio_driver_read(t->driver, 58, 2); i++)
        harness_settle(t->h, 2);
    g_assert_cmpuint(virtio_driver_read(t->driver, 58, 2), ==, 0);
    virtio_driver_setup_queue(t->driver, index, 0);
}

static void test_queue_reset(const void *rings)
{
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "in-order=on");
    virtio_driver_start(t.driver,
                        *(const uint64_t *)rings | NETTEST_MERGE | BIT(VIRTIO_F_RING_RESET));
    for (unsigned round = 0; round < 4; round++) {
        nettest_post(&t, 100, 1526, 1);
        receive_one(&t, 3000, round);
        nettest_echo(&t, 60, 2);
        reset_queue(&t, NETTEST_RX);
        send_from_peer(&t, 500, round);
        nettest_echo(&t, 61, 2);
        reset_queue(&t, NETTEST_TX);
        nettest_echo(&t, 62, 2);
        nettest_post(&t, 64, 1526, 1);
        expect_frame(&t, 500, round);
    }
    nettest_tear_down(&t);
}

/* ---- pausing ---- */

static void set_state(struct nettest *t, enum device_state state)
{
    g_autoptr(GError) error = NULL;

    devices_set_state(&t->h->devices, state, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
}

/* Buffers that were popped ahead go back, and are used in the order that they were posted in. */
static void test_pause(const void *rings)
{
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "in-order=on,queue-size=256");
    virtio_driver_start(t.driver, *(const uint64_t *)rings | NETTEST_MERGE);
    for (unsigned round = 0; round < 40; round++) {
        nettest_post(&t, 256, round % 3 ? 1526 : 3000, 1);
        receive_one(&t, 100 + round * 300, round);
        set_state(&t, round % 2 ? DEVICE_STOP : DEVICE_RUNNING_P2P);
        g_assert_cmpuint(virtio_device_queue(t.vdev, NETTEST_RX)->in_flight, ==, 0);
        send_from_peer(&t, 5000, round); /* comes when it goes on */
        nettest_expect_nothing(&t);
        set_state(&t, DEVICE_RUNNING);
        expect_frame(&t, 5000, round);
        nettest_echo(&t, 1000, 3);
    }
    nettest_tear_down(&t);
}

/* ---- saved state ---- */

static GByteArray *save(struct nettest *t)
{
    set_state(t, DEVICE_STOP_COPY);
    return harness_save(&virtio_pci_function(t->vpci)->device);
}

static void load(struct nettest *t, const GByteArray *saved)
{
    g_autoptr(GError) error = NULL;

    harness_load_state(&virtio_pci_function(t->vpci)->device, saved, &error);
    g_assert_no_error(error);
}

/* Saved with a frame that waits for buffers, settings of the control queue and buffers in the ring;
 * forgotten by a reset of the machine, whose memory stays; loaded: all goes on. */
static void test_saved_state(const void *rings)
{
    static const uint8_t mac[6] = {0x02, 5, 5, 5, 5, 5}, on = 1, vlan[2] = {7, 0};
    g_autoptr(GByteArray) saved = NULL;
    struct net_filter filter;
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "in-order=on");
    virtio_driver_start(t.driver, *(const uint64_t *)rings | NETTEST_MERGE | NETTEST_CONTROL);
    g_assert_cmpuint(nettest_command(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
                     ==, VIRTIO_NET_OK);
    g_assert_cmpuint(nettest_command(&t, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1),
                     ==, VIRTIO_NET_OK);
    g_assert_cmpuint(nettest_command(&t, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, &on, 1), ==,
                     VIRTIO_NET_OK);
    g_assert_cmpuint(nettest_command(&t, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, vlan, 2),
                     ==, VIRTIO_NET_OK);
    nettest_post(&t, 3, 1526, 1);
    send_from_peer(&t, 10000, 1);
    harness_settle(t.h, 10);
    filter = ((struct virtio_net *)t.vdev)->filter;
    saved = save(&t);
    device_reset(&virtio_pci_function(t.vpci)->device);
    g_assert_cmpuint(virtio_driver_config(t.driver, 1, 1), !=, 5);
    load(&t, saved);

    g_assert_cmpuint(virtio_driver_config(t.driver, 1, 1), ==, 5);
    g_assert_cmpmem(&((struct virtio_net *)t.vdev)->filter, sizeof(filter), &filter,
                    sizeof(filter));
    nettest_expect_nothing(&t);
    nettest_post(&t, 10, 1526, 1);
    expect_frame(&t, 10000, 1);
    nettest_post(&t, 50, 1526, 1);
    receive_one(&t, 60, 2);
    nettest_echo(&t, 60, 2);
    g_assert_cmpuint(nettest_command(&t, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
                     ==, VIRTIO_NET_OK);
    nettest_tear_down(&t);
}

static void test_saved_state_damaged(void)
{
    static const char *const what[] = {"frames", "backend"};
    g_autoptr(GByteArray) saved = NULL;
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "");
    virtio_driver_start(t.driver, NETTEST_MERGE);
    nettest_post(&t, 3, 1526, 1);
    send_from_peer(&t, 10000, 1);
    harness_settle(t.h, 10);
    saved = save(&t);
    set_state(&t, DEVICE_RUNNING);
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GByteArray) damaged = g_byte_array_new();
        g_autoptr(GError) error = NULL;
        uint8_t *at;

        g_byte_array_append(damaged, saved->data, saved->len);
        at = memmem(damaged->data, damaged->len, what[i], strlen(what[i]));
        g_assert_nonnull(at);
        at += strlen(what[i]) + 2 + 4; /* kind, flags, length */
        at[i ? 0 : 4] = 200;           /* the name's length; the frame's */
        g_assert_false(harness_load_state(&virtio_pci_function(t.vpci)->device, damaged, &error));
        g_assert_nonnull(error);
        g_assert_nonnull(strstr(error->message, "net0"));
    }
    nettest_tear_down(&t);
}

static void test_state_table(void)
{
    check_state_table(&net_state);
}

/* ---- queues ---- */

/* Only pairs that the driver switched on are served. */
static void test_pairs(void)
{
    uint16_t pairs = GUINT16_TO_LE(3);
    struct driver_buffer out;
    struct nettest t;

    nettest_set_up(&t, 0, "type=null,queues=4");
    virtio_driver_start(t.driver, NETTEST_CONTROL | BIT(VIRTIO_NET_F_MQ) | NETTEST_RINGS);
    out = (struct driver_buffer){t.frame, NET_HEADER_SIZE + 60};
    g_assert_cmpint(virtio_driver_request(t.driver, 1, &out, 1, NULL, 0), ==, 0);
    virtio_driver_submit(t.driver, 5, &out, 1, NULL, 0, &t);
    harness_settle(t.h, 20);
    g_assert_null(driver_ring_reap(virtio_driver_ring(t.driver, 5), NULL));
    g_assert_cmpuint(
        nettest_command(&t, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, 2), ==,
        VIRTIO_NET_OK);
    virtio_driver_kick(t.driver, 5);
    g_assert_true(virtio_driver_wait(t.driver, 5, NULL) == &t);
    g_assert_cmpuint(nettest_backend(&t)->tx_frames, ==, 2);
    nettest_tear_down(&t);
}

static ssize_t takes_nothing(struct net *net, unsigned queue, const struct iovec *iov,
                             unsigned count)
{
    return -EAGAIN;
}

/* A queue that waits for the backend is looked at again when the number of pairs is set: what the
 * backend knew of it is forgotten, and the driver rings no doorbell meanwhile. */
static void test_pairs_while_blocked(void)
{
    uint16_t pairs = GUINT16_TO_LE(2);
    const struct net_ops *ops;
    struct driver_buffer out;
    struct net_ops full;
    struct nettest t;

    nettest_set_up(&t, 0, "type=null,queues=4");
    virtio_driver_start(t.driver, NETTEST_CONTROL | BIT(VIRTIO_NET_F_MQ) | NETTEST_RINGS);
    ops = nettest_backend(&t)->ops;
    full = *ops;
    full.send = takes_nothing;
    nettest_backend(&t)->ops = &full;
    out = (struct driver_buffer){t.frame, NET_HEADER_SIZE + 60};
    virtio_driver_submit(t.driver, 1, &out, 1, NULL, 0, &t);
    harness_settle(t.h, 20);
    g_assert_null(driver_ring_reap(virtio_driver_ring(t.driver, 1), NULL));
    nettest_backend(&t)->ops = ops;
    g_assert_cmpuint(
        nettest_command(&t, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, 2), ==,
        VIRTIO_NET_OK);
    g_assert_true(virtio_driver_wait(t.driver, 1, NULL) == &t);
    nettest_tear_down(&t);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t features;
    } rings[] = {
        {"split", 0},
        {"split-indirect-event-idx", NETTEST_RINGS},
        {"split-in-order", NETTEST_RINGS | BIT(VIRTIO_F_IN_ORDER)},
        {"packed", BIT(VIRTIO_F_RING_PACKED)},
        {"packed-indirect-event-idx", NETTEST_RINGS | BIT(VIRTIO_F_RING_PACKED)},
        {"packed-in-order", NETTEST_RINGS | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER)},
    };
    static const struct {
        const char *name;
        void (*test)(const void *rings);
    } tests[] = {
        {"transmit", test_transmit},
        {"receive", test_receive},
        {"few-buffers", test_receive_few_buffers},
        {"queue-reset", test_queue_reset},
        {"pause", test_pause},
        {"saved-state", test_saved_state},
    };

    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    g_test_add_func("/virtio-net/config", test_config);
    g_test_add_func("/virtio-net/random-mac", test_random_mac);
    g_test_add_func("/virtio-net/bad-options", test_bad_options);
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
        for (unsigned j = 0; j < G_N_ELEMENTS(rings); j++) {
            g_autofree char *name =
                g_strdup_printf("/virtio-net/%s/%s", tests[i].name, rings[j].name);

            g_test_add_data_func(name, &rings[j].features, tests[i].test);
        }
    }
    g_test_add_func("/virtio-net/transmit-bad", test_transmit_bad);
    g_test_add_func("/virtio-net/transmit-sizes", test_transmit_sizes);
    g_test_add_func("/virtio-net/transmit-many", test_transmit_many);
    g_test_add_func("/virtio-net/transmit-blocked", test_transmit_blocked);
    g_test_add_func("/virtio-net/segments", test_segments);
    g_test_add_func("/virtio-net/receive-layouts", test_receive_layouts);
    g_test_add_func("/virtio-net/receive-not-merged", test_receive_not_merged);
    g_test_add_func("/virtio-net/receive-too-large", test_receive_too_large);
    g_test_add_func("/virtio-net/receive-bad-buffer", test_receive_bad_buffer);
    g_test_add_func("/virtio-net/no-spinning", test_no_spinning);
    g_test_add_func("/virtio-net/link", test_link);
    g_test_add_func("/virtio-net/peer-leaves", test_peer_leaves);
    g_test_add_func("/virtio-net/reset-with-held-frame", test_reset_with_held_frame);
    g_test_add_func("/virtio-net/saved-state-damaged", test_saved_state_damaged);
    g_test_add_func("/virtio-net/state-table", test_state_table);
    g_test_add_func("/virtio-net/pairs", test_pairs);
    g_test_add_func("/virtio-net/pairs/while-blocked", test_pairs_while_blocked);
    return g_test_run();
}
