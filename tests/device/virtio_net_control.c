/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of virtio-net's control queue: each command, well and badly formed, and what the filters that it
 * sets let through. */
#include "config.h"

#include <string.h>
#include <sys/socket.h>

#include "tests/device/virtio_net.h"
#include "virtio/net_private.h"

#define BIT NETTEST_BIT

static const uint8_t somebody[6] = {0x02, 7, 7, 7, 7, 7};
static const uint8_t group[6] = {0x01, 0, 0x5e, 1, 2, 3};
static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void expect_ack(struct nettest *t, unsigned class, unsigned command, const void *data,
                       size_t size, uint8_t ack)
{
    uint8_t got = nettest_command(t, class, command, data, size);

    if (got != ack)
        g_error("class %u command %u of %zu bytes: %u, not %u", class, command, size, got, ack);
}

static void allow(struct nettest *t, unsigned class, unsigned command, const void *data,
                  size_t size)
{
    expect_ack(t, class, command, data, size, VIRTIO_NET_OK);
}

static void refuse(struct nettest *t, unsigned class, unsigned command, const void *data,
                   size_t size)
{
    expect_ack(t, class, command, data, size, VIRTIO_NET_ERR);
}

static void set_mode(struct nettest *t, unsigned command, uint8_t on)
{
    allow(t, VIRTIO_NET_CTRL_RX, command, &on, 1);
}

/* Does a frame to @to with this VLAN (-1: none) arrive? One to the device's own address follows it. */
static bool arrives(struct nettest *t, const uint8_t *to, int vlan)
{
    const uint8_t *mac = ((struct virtio_net *)t->vdev)->mac;
    uint8_t frame[60], mark[60], got[60];
    bool arrived;

    nettest_fill(frame, sizeof(frame), to, 1);
    if (vlan >= 0) {
        frame[12] = 0x81;
        frame[13] = 0;
        frame[14] = 0xe0 | vlan >> 8; /* with a priority */
        frame[15] = vlan;
    }
    nettest_fill(mark, sizeof(mark), mac, 2);
    nettest_post(t, 10, 1526, 1);
    nettest_peer_send(t, frame, sizeof(frame));
    nettest_peer_send(t, mark, sizeof(mark));
    g_assert_cmpint(nettest_receive(t, got, sizeof(got), HARNESS_TIMEOUT_MS), ==, 60);
    arrived = !memcmp(got, frame, sizeof(got));
    if (arrived)
        g_assert_cmpint(nettest_receive(t, got, sizeof(got), HARNESS_TIMEOUT_MS), ==, 60);
    g_assert_cmpmem(got, sizeof(got), mark, sizeof(mark));
    return arrived;
}

static void start(struct nettest *t, uint64_t features)
{
    nettest_set_up(t, SOCK_DGRAM, "");
    virtio_driver_start(t->driver, features | NETTEST_MERGE);
}

/* ---- filters ---- */

static void test_without_control(void)
{
    struct nettest t;

    start(&t, 0);
    g_assert_true(arrives(&t, somebody, -1));
    g_assert_true(arrives(&t, group, 5));
    nettest_tear_down(&t);
}

static void test_modes(void)
{
    struct nettest t;

    start(&t, NETTEST_CONTROL);
    g_assert_false(arrives(&t, somebody, -1));
    g_assert_false(arrives(&t, group, -1));
    g_assert_true(arrives(&t, broadcast, -1));

    set_mode(&t, VIRTIO_NET_CTRL_RX_ALLMULTI, 1);
    g_assert_true(arrives(&t, group, -1));
    g_assert_false(arrives(&t, somebody, -1));
    set_mode(&t, VIRTIO_NET_CTRL_RX_NOMULTI, 1);
    g_assert_false(arrives(&t, group, -1));
    set_mode(&t, VIRTIO_NET_CTRL_RX_NOMULTI, 0);
    set_mode(&t, VIRTIO_NET_CTRL_RX_ALLMULTI, 0);
    g_assert_false(arrives(&t, group, -1));

    set_mode(&t, VIRTIO_NET_CTRL_RX_ALLUNI, 1);
    g_assert_true(arrives(&t, somebody, -1));
    set_mode(&t, VIRTIO_NET_CTRL_RX_ALLUNI, 0);

    set_mode(&t, VIRTIO_NET_CTRL_RX_NOBCAST, 1);
    g_assert_false(arrives(&t, broadcast, -1));
    set_mode(&t, VIRTIO_NET_CTRL_RX_PROMISC, 1);
    g_assert_true(arrives(&t, broadcast, -1));
    g_assert_true(arrives(&t, somebody, 7));
    g_assert_true(arrives(&t, group, -1));
    set_mode(&t, VIRTIO_NET_CTRL_RX_PROMISC, 0);
    g_assert_false(arrives(&t, group, -1));
    nettest_tear_down(&t);
}

static void test_no_unicast(void)
{
    uint8_t frame[60], got[60];
    struct nettest t;

    start(&t, NETTEST_CONTROL);
    set_mode(&t, VIRTIO_NET_CTRL_RX_NOUNI, 1);
    nettest_post(&t, 64, 1526, 1);
    nettest_fill(frame, sizeof(frame), nettest_mac, 1);
    nettest_peer_send(&t, frame, sizeof(frame));
    nettest_fill(frame, sizeof(frame), broadcast, 2);
    nettest_peer_send(&t, frame, sizeof(frame));
    g_assert_cmpint(nettest_receive(&t, got, sizeof(got), HARNESS_TIMEOUT_MS), ==, 60);
    g_assert_cmpmem(got, 60, frame, 60);
    nettest_tear_down(&t);
}

static void test_malformed_modes(void)
{
    static const uint8_t bytes[3] = {1, 1, 1}, two = 2;
    struct nettest t;

    start(&t, NETTEST_CONTROL);
    refuse(&t, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, NULL, 0);
    refuse(&t, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, bytes, 2);
    refuse(&t, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &two, 1);
    refuse(&t, VIRTIO_NET_CTRL_RX, 6, bytes, 1);
    refuse(&t, VIRTIO_NET_CTRL_RX, 255, bytes, 1);
    refuse(&t, 77, 0, bytes, 1);
    g_assert_false(arrives(&t, somebody, -1));
    nettest_tear_down(&t);

    /* What was not negotiated is not there. */
    start(&t, BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX));
    refuse(&t, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, bytes, 1);
    refuse(&t, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, bytes, 2);
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, somebody, 6);
    refuse(&t, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\1", 2);
    refuse(&t, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, "\0\0\0\0\0\0\0",
           8);
    allow(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, "\0\0\0\0\0\0\0", 8);
    nettest_tear_down(&t);
}

/* ---- addresses ---- */

static size_t put_table(uint8_t *at, uint32_t claimed, unsigned count, uint8_t first)
{
    uint32_t entries = GUINT32_TO_LE(claimed);

    memcpy(at, &entries, 4);
    for (unsigned i = 0; i < count; i++) {
        uint8_t mac[6] = {first, 0, 0x5e, 9, i >> 8, i};

        memcpy(at + 4 + 6 * i, mac, 6);
    }
    return 4 + 6 * count;
}

static void test_mac_table(void)
{
    static const uint8_t unicast[6] = {0x02, 0, 0x5e, 9, 0, 1},
                         multicast[6] = {1, 0, 0x5e, 9, 0, 2};
    uint8_t data[16384];
    struct nettest t;
    size_t size;

    start(&t, NETTEST_CONTROL);
    size = put_table(data, 2, 2, 2);
    size += put_table(data + size, 3, 3, 1);
    allow(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, size);
    g_assert_true(arrives(&t, unicast, -1));
    g_assert_true(arrives(&t, multicast, -1));
    g_assert_false(arrives(&t, somebody, -1));
    g_assert_false(arrives(&t, group, -1));

    /* Malformed: all stays as it is. */
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, size - 1);
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, size + 1);
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, 3);
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, NULL, 0);
    refuse(&t, VIRTIO_NET_CTRL_MAC, 2, data, size);
    put_table(data, UINT32_MAX, 0, 0);
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, size);
    put_table(data, 0x2aaaaaab, 0, 0); /* times 6 is 2 in 32 bits */
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, size);
    g_assert_true(arrives(&t, unicast, -1));
    g_assert_false(arrives(&t, somebody, -1));

    /* More than fit: all of their kind. */
    size = put_table(data, 0, 0, 0);
    size += put_table(data + size, 65, 65, 1);
    allow(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, size);
    g_assert_true(arrives(&t, group, -1));
    g_assert_false(arrives(&t, unicast, -1));
    size = put_table(data, 1000, 1000, 2);
    size += put_table(data + size, 0, 0, 1);
    allow(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, size);
    g_assert_true(arrives(&t, somebody, -1));
    g_assert_false(arrives(&t, group, -1));
    /* More than any command. */
    size = put_table(data, 2600, 2600, 2);
    size += put_table(data + size, 0, 0, 1);
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, size);
    nettest_tear_down(&t);
}

static void test_mac_address(void)
{
    static const uint8_t zero[7];
    struct nettest t;

    start(&t, NETTEST_CONTROL);
    allow(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, somebody, 6);
    g_assert_true(arrives(&t, somebody, -1));
    g_assert_false(arrives(&t, nettest_mac, -1));
    g_assert_cmphex(virtio_driver_config(t.driver, 5, 1), ==, 7);
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, group, 6);
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, zero, 5);
    refuse(&t, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, zero, 7);
    g_assert_true(arrives(&t, somebody, -1));
    /* The next driver finds the card's own again, and none of the filters. */
    set_mode(&t, VIRTIO_NET_CTRL_RX_ALLUNI, 1);
    virtio_driver_reset(t.driver);
    g_assert_cmphex(virtio_driver_config(t.driver, 5, 1), ==, nettest_mac[5]);
    virtio_driver_start(t.driver, NETTEST_CONTROL | NETTEST_MERGE);
    g_assert_false(arrives(&t, somebody, -1));
    nettest_tear_down(&t);
}

/* ---- VLANs ---- */

static void test_vlans(void)
{
    static const uint8_t vlans[][2] = {{0, 0}, {1, 0}, {0xff, 0x0f}}, beyond[3] = {0, 0x10, 0};
    struct nettest t;

    start(&t, NETTEST_CONTROL);
    for (unsigned i = 0; i < G_N_ELEMENTS(vlans); i++) {
        int vlan = vlans[i][0] | vlans[i][1] << 8;

        g_assert_false(arrives(&t, broadcast, vlan));
        allow(&t, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, vlans[i], 2);
        g_assert_true(arrives(&t, broadcast, vlan));
        g_assert_false(arrives(&t, broadcast, 100));
        g_assert_true(arrives(&t, broadcast, -1));
        allow(&t, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, vlans[i], 2);
        g_assert_false(arrives(&t, broadcast, vlan));
    }
    refuse(&t, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, beyond, 2);
    refuse(&t, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, beyond, 1);
    refuse(&t, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, beyond, 3);
    refuse(&t, VIRTIO_NET_CTRL_VLAN, 2, vlans[0], 2);
    nettest_tear_down(&t);

    start(&t, NETTEST_CONTROL & ~BIT(VIRTIO_NET_F_CTRL_VLAN));
    g_assert_true(arrives(&t, broadcast, 100));
    nettest_tear_down(&t);
}

/* ---- queue pairs ---- */

static void test_pairs(void)
{
    static const struct {
        uint8_t bytes[3];
        size_t size;
        uint8_t ack;
    } cases[] = {
        {{1, 0}, 2, VIRTIO_NET_OK},  {{4, 0}, 2, VIRTIO_NET_OK},  {{0, 0}, 2, VIRTIO_NET_ERR},
        {{5, 0}, 2, VIRTIO_NET_ERR}, {{1, 1}, 2, VIRTIO_NET_ERR}, {{2, 0}, 1, VIRTIO_NET_ERR},
        {{2, 0}, 3, VIRTIO_NET_ERR}, {{2, 0}, 2, VIRTIO_NET_OK},
    };
    struct nettest t;

    nettest_set_up(&t, 0, "type=null,queues=4");
    virtio_driver_start(t.driver, NETTEST_CONTROL | BIT(VIRTIO_NET_F_MQ));
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
        expect_ack(&t, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, cases[i].bytes,
                   cases[i].size, cases[i].ack);
    g_assert_cmpuint(((struct virtio_net *)t.vdev)->active_pairs, ==, 2);
    expect_ack(&t, VIRTIO_NET_CTRL_MQ, 1, cases[0].bytes, 2, VIRTIO_NET_ERR); /* RSS */
    /* A driver without MQ has its control queue behind the first pair (5.1.2). */
    virtio_driver_start(t.driver, NETTEST_CONTROL);
    g_assert_cmpuint(((struct virtio_net *)t.vdev)->active_pairs, ==, 1);
    set_mode(&t, VIRTIO_NET_CTRL_RX_PROMISC, 1);
    expect_ack(&t, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, cases[0].bytes, 2,
               VIRTIO_NET_ERR);
    nettest_tear_down(&t);
}

/* ---- receive offloads: libslirp's answer to an ARP request says whether its checksum is right ---- */

#ifdef HAVE_LIBSLIRP
static uint8_t answer_flags(struct nettest *t)
{
    uint8_t request[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0,    1,    2,  3, 8, 6,
                           0,    1,    8,    0,    6,    4,    0,    1,    0x52, 0x54, 0,  1, 2, 3,
                           10,   0,    2,    15,   0,    0,    0,    0,    0,    0,    10, 0, 2, 2};
    uint8_t got[100];

    nettest_post(t, 4, 1526, 1);
    nettest_send(t, NULL, request, sizeof(request), 2);
    g_assert_cmpint(nettest_receive(t, got, sizeof(got), HARNESS_TIMEOUT_MS), >=, 42);
    g_assert_cmpuint(got[21], ==, 2); /* a reply */
    return t->header.flags;
}

static void test_guest_offloads(void)
{
    uint64_t bits = 0;
    struct nettest t;

    nettest_set_up(&t, 0, "type=user");
    g_assert_cmphex(virtio_driver_offered(t.driver) & NET_OFFLOAD_FEATURES, ==,
                    BIT(VIRTIO_NET_F_GUEST_CSUM));
    virtio_driver_start(t.driver, NETTEST_CONTROL | NETTEST_MERGE | BIT(VIRTIO_NET_F_GUEST_CSUM) |
                                      BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
    g_assert_cmpuint(answer_flags(&t), ==, VIRTIO_NET_HDR_F_DATA_VALID);
    allow(&t, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &bits, 8);
    g_assert_cmpuint(answer_flags(&t), ==, 0);
    bits = GUINT64_TO_LE(BIT(VIRTIO_NET_F_GUEST_CSUM));
    refuse(&t, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &bits, 7);
    refuse(&t, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 1, &bits, 8);
    allow(&t, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &bits, 8);
    g_assert_cmpuint(answer_flags(&t), ==, VIRTIO_NET_HDR_F_DATA_VALID);
    bits = GUINT64_TO_LE(BIT(VIRTIO_NET_F_GUEST_TSO4)); /* not negotiated */
    refuse(&t, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &bits, 8);
    g_assert_cmpuint(answer_flags(&t), ==, VIRTIO_NET_HDR_F_DATA_VALID);
    /* A driver that knows nothing of checksums. */
    virtio_driver_start(t.driver, NETTEST_MERGE);
    g_assert_cmpuint(answer_flags(&t), ==, 0);
    nettest_tear_down(&t);
}
#endif

/* ---- the queue itself ---- */

/* Commands cut into pieces of any shape (2.7.4.2), and too short ones. */
static void test_layouts(const void *rings)
{
    struct driver_buffer out[9], in[2];
    struct nettest t;

    nettest_set_up(&t, SOCK_DGRAM, "in-order=on");
    virtio_driver_start(t.driver, *(const uint64_t *)rings | NETTEST_CONTROL | NETTEST_MERGE);
    in[0] = (struct driver_buffer){t.command + 100, 0}; /* the ack in the second piece */
    in[1] = (struct driver_buffer){t.command + 200, 4};
    for (unsigned size = 0; size <= 9; size++) {
        uint8_t bytes[9] = {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 8, 8, 8, 8, size};

        harness_write(t.h, t.command, bytes, sizeof(bytes));
        harness_store(t.h, t.command + 200, 1, 0xee);
        for (unsigned i = 0; i < 9; i++)
            out[i] = (struct driver_buffer){t.command + i, 1};
        if (size)
            g_assert_cmpint(virtio_driver_request(t.driver, NETTEST_CTRL, out, size, in, 2), ==, 1);
        else
            g_assert_cmpint(virtio_driver_request(t.driver, NETTEST_CTRL, NULL, 0, in, 2), ==, 1);
        g_assert_cmpuint(harness_load(t.h, t.command + 200, 1), ==,
                         size == 8 ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
    }
    g_assert_cmphex(virtio_driver_config(t.driver, 5, 1), ==, 8);
    nettest_tear_down(&t);
}

static void test_no_room_for_ack(void)
{
    struct driver_buffer out;
    struct nettest t;

    start(&t, NETTEST_CONTROL);
    out = (struct driver_buffer){t.command, 3};
    virtio_driver_submit(t.driver, NETTEST_CTRL, &out, 1, NULL, 0, &t);
    harness_settle(t.h, 20);
    g_assert_true(virtio_driver_status(t.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
    virtio_driver_start(t.driver, NETTEST_CONTROL | NETTEST_MERGE);
    g_assert_false(arrives(&t, somebody, -1));
    nettest_tear_down(&t);
}

static void test_many_commands(void)
{
    struct driver_buffer out, in;
    struct nettest t;

    start(&t, NETTEST_CONTROL | NETTEST_RINGS);
    out = (struct driver_buffer){t.command, 3};
    for (unsigned i = 0; i < 120; i++) {
        in = (struct driver_buffer){t.command + 100 + i, 1};
        harness_store(t.h, in.gpa, 1, 0xee);
        g_assert_true(driver_ring_add(virtio_driver_ring(t.driver, NETTEST_CTRL), &out, 1, &in, 1,
                                      false, &t));
    }
    virtio_driver_publish(t.driver, NETTEST_CTRL);
    for (unsigned i = 0; i < 120; i++) {
        g_assert_true(virtio_driver_wait(t.driver, NETTEST_CTRL, NULL) == &t);
        g_assert_cmpuint(harness_load(t.h, t.command + 100 + i, 1), ==, VIRTIO_NET_OK);
    }
    nettest_tear_down(&t);
}

/* ---- announcements ---- */

static void test_announce_by_driver(void)
{
    struct nettest t;
    uint8_t frame[64];

    start(&t, NETTEST_CONTROL | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE));
    g_assert_cmpuint(NETTEST_CONFIG(&t, status), ==, VIRTIO_NET_S_LINK_UP);
    virtio_net_announce(t.vdev);
    g_assert_cmpuint(NETTEST_CONFIG(&t, status), ==, VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
    g_assert_cmpint(nettest_peer_receive(&t, frame, sizeof(frame), 50), ==, -1);
    refuse(&t, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK + 1, NULL, 0);
    allow(&t, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0);
    g_assert_cmpuint(NETTEST_CONFIG(&t, status), ==, VIRTIO_NET_S_LINK_UP);
    nettest_tear_down(&t);
}

/* A driver that can't has a frame sent in its name: RARP, RFC 903. */
static void test_announce_for_driver(void)
{
    static const uint8_t rarp[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
    struct nettest t;
    uint8_t frame[64];

    start(&t, NETTEST_CONTROL);
    virtio_net_announce(t.vdev);
    g_assert_cmpint(nettest_peer_receive(&t, frame, sizeof(frame), HARNESS_TIMEOUT_MS), ==, 60);
    g_assert_cmpmem(frame, 6, broadcast, 6);
    g_assert_cmpmem(frame + 6, 6, nettest_mac, 6);
    g_assert_cmpmem(frame + 12, sizeof(rarp), rarp, sizeof(rarp));
    g_assert_cmpmem(frame + 22, 6, nettest_mac, 6);
    g_assert_cmpmem(frame + 32, 6, nettest_mac, 6);
    refuse(&t, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0);
    virtio_net_set_link(t.vdev, false);
    virtio_net_announce(t.vdev);
    g_assert_cmpint(nettest_peer_receive(&t, frame, sizeof(frame), 50), ==, -1);
    nettest_tear_down(&t);
}

int main(int argc, char **argv)
{
    static const uint64_t split = NETTEST_RINGS | BIT(VIRTIO_F_IN_ORDER),
                          packed = NETTEST_RINGS | BIT(VIRTIO_F_RING_PACKED);

    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    g_test_add_func("/virtio-net/control/none", test_without_control);
    g_test_add_func("/virtio-net/control/modes", test_modes);
    g_test_add_func("/virtio-net/control/no-unicast", test_no_unicast);
    g_test_add_func("/virtio-net/control/malformed-modes", test_malformed_modes);
    g_test_add_func("/virtio-net/control/mac-table", test_mac_table);
    g_test_add_func("/virtio-net/control/mac-address", test_mac_address);
    g_test_add_func("/virtio-net/control/vlans", test_vlans);
    g_test_add_func("/virtio-net/control/pairs", test_pairs);
#ifdef HAVE_LIBSLIRP
    g_test_add_func("/virtio-net/control/guest-offloads", test_guest_offloads);
#endif
    g_test_add_data_func("/virtio-net/control/layouts/split", &split, test_layouts);
    g_test_add_data_func("/virtio-net/control/layouts/packed", &packed, test_layouts);
    g_test_add_func("/virtio-net/announce/by-driver", test_announce_by_driver);
    g_test_add_func("/virtio-net/announce/for-driver", test_announce_for_driver);
    g_test_add_func("/virtio-net/control/no-room-for-ack", test_no_room_for_ack);
    g_test_add_func("/virtio-net/control/many", test_many_commands);
    return g_test_run();
}
