/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of what devices/vmxnet3 does beyond moving frames: checksums, segmentation, VLAN tags, LRO, RSS. */
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/net/packet.h"
#include "devices/vmxnet3/private.h"
#include "tests/device/vmxnet3.h"

static uint16_t get16(const uint8_t *at)
{
    return at[0] << 8 | at[1];
}

/* ---- transmit ---- */

static void test_checksum(void)
{
    struct vmxtest_offload offload = {VMXNET3_TXD_MODE_CSUM, 34, 34 + 16};
    g_autofree struct vmxtest_frame *frame = NULL;
    uint8_t data[200];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, true);
    vmxtest_activate(&t);
    vmxtest_tcp(data, false, 1000, sizeof(data) - 54);
    frame = vmxtest_send(&t, 0, data, sizeof(data), 3, &offload);
    g_assert_cmpmem(frame->data, frame->length, data, sizeof(data));
    g_assert_cmphex(frame->header.flags, ==, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    g_assert_cmpuint(frame->header.csum_start, ==, 34);
    g_assert_cmpuint(frame->header.csum_offset, ==, 16);
    vmxtest_tear_down(&t);
}

/* What the driver leaves undone in the headers is done, in a copy. */
static void segment(bool ipv6, bool tag)
{
    struct vmxtest_offload offload = {VMXNET3_TXD_MODE_TSO, vmxtest_tcp_headers(ipv6), 1448, tag,
                                      0x6123};
    size_t headers = offload.headers, shift = tag ? 4 : 0, transport = headers - 20;
    g_autofree uint8_t *data = g_malloc(12000), *undone = NULL;
    g_autofree struct vmxtest_frame *frame = NULL;
    size_t length = vmxtest_tcp(data, ipv6, 1000, 10000);
    struct net_layout layout;
    uint16_t checksum;
    struct vmxtest t;

    vmxtest_set_up(&t, 1, true);
    vmxtest_activate(&t);
    undone = g_memdup2(data, length);
    memset(undone + (ipv6 ? 18 : 24), 0, 2); /* IPv6 length, IPv4 checksum */
    frame = vmxtest_send(&t, 0, undone, length, 4, &offload);
    g_assert_cmpuint(frame->length, ==, length + shift);
    g_assert_cmphex(frame->header.flags, ==, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    g_assert_cmphex(frame->header.gso_type, ==,
                    ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
    g_assert_cmpuint(frame->header.gso_size, ==, 1448);
    g_assert_cmpuint(frame->header.hdr_len, ==, headers + shift);
    g_assert_cmpuint(frame->header.csum_start, ==, transport + shift);
    if (tag) {
        g_assert_cmphex(get16(frame->data + 12), ==, 0x8100);
        g_assert_cmphex(get16(frame->data + 14), ==, 0x6123);
        memmove(frame->data + 12, frame->data + 16, length - 12);
    }
    g_assert_true(net_parse(data, length, &layout));
    checksum = net_pseudo_checksum(data, &layout, length - transport);
    memcpy(data + transport + 16, &checksum, 2);
    g_assert_cmpmem(frame->data, length, data, length);
    vmxtest_tear_down(&t);
}

static void test_segment(void)
{
    segment(false, false);
    segment(true, false);
    segment(false, true);
    segment(true, true);
}

static void test_tag(void)
{
    struct vmxtest_offload offload = {.tag = true, .tci = 0xe042};
    g_autofree struct vmxtest_frame *frame = NULL;
    uint8_t data[60];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, true);
    vmxtest_activate(&t);
    vmxtest_fill(data, sizeof(data), vmxtest_mac, 3);
    frame = vmxtest_send(&t, 0, data, sizeof(data), 2, &offload);
    g_assert_cmpuint(frame->length, ==, 64);
    g_assert_cmpmem(frame->data, 12, data, 12);
    g_assert_cmpmem(frame->data + 12, 4, "\x81\x00\xe0\x42", 4);
    g_assert_cmpmem(frame->data + 16, 48, data + 12, 48);
    vmxtest_tear_down(&t);
}

/* A packet that makes no sense is completed, counted and not sent. */
static void test_nonsense(void)
{
    static const struct vmxtest_offload cases[] = {
        {VMXNET3_TXD_MODE_CSUM, 60, 50},   {VMXNET3_TXD_MODE_CSUM, 150, 199},
        {VMXNET3_TXD_MODE_CSUM, 34, 8000}, {VMXNET3_TXD_MODE_TSO, 54, 0},
        {VMXNET3_TXD_MODE_TSO, 0, 100},    {VMXNET3_TXD_MODE_TSO, 53, 100},
        {VMXNET3_TXD_MODE_TSO, 55, 100},   {VMXNET3_TXD_MODE_TSO, 1023, 100},
        {VMXNET3_TXD_MODE_TSO, 200, 100},
    };
    uint8_t data[200];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, true);
    vmxtest_activate(&t);
    vmxtest_tcp(data, false, 1000, sizeof(data) - 54);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_null(vmxtest_send(&t, 0, data, sizeof(data), 2, &cases[i]));
    g_assert_null(vmxtest_send(&t, 0, data, 13, 1, NULL));
    vmxtest_command(&t, VMXNET3_GET_STATS);
    g_assert_cmpuint(harness_load(t.h, t.queues + 88 + 8 * VMXNET3_TX_ERRORS, 8), ==,
                     G_N_ELEMENTS(cases) + 1);
    g_assert_cmpuint(harness_load(t.h, t.queues + 80, 1), ==, 0);
    vmxtest_tear_down(&t);
}

/* Less than a segment needs none. */
static void test_segment_short(void)
{
    struct vmxtest_offload offload = {VMXNET3_TXD_MODE_TSO, 54, 1448};
    g_autofree struct vmxtest_frame *frame = NULL;
    uint8_t data[200];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, true);
    vmxtest_activate(&t);
    vmxtest_tcp(data, false, 1000, sizeof(data) - 54);
    frame = vmxtest_send(&t, 0, data, sizeof(data), 2, &offload);
    g_assert_cmphex(frame->header.gso_type, ==, VIRTIO_NET_HDR_GSO_NONE);
    g_assert_cmphex(frame->header.flags, ==, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    vmxtest_tear_down(&t);
}

/* ---- receive ---- */

#define CORRECT (VMXNET3_RCD_L4_CORRECT | VMXNET3_RCD_IP_CORRECT)

struct offload_test {
    struct vmxtest t;
    uint8_t data[NET_MAX_FRAME];
    struct vmxtest_received received;
};

static void receive(struct offload_test *x, const struct virtio_net_hdr_v1 *header, size_t length)
{
    vmxtest_host_sends(&x->t, header, x->data, length);
    g_assert_true(vmxtest_receive(&x->t, &x->received, HARNESS_TIMEOUT_MS));
}

static void test_receive_checksum(void)
{
    static const struct virtio_net_hdr_v1 valid = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};
    struct virtio_net_hdr_v1 partial = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_offset = 16};
    g_autofree struct offload_test *x = g_new0(struct offload_test, 1);
    size_t length;

    vmxtest_set_up(&x->t, 1, true);
    vmxtest_activate(&x->t);
    g_assert_true(x->t.backend.net.receive.checksum);
    g_assert_true(x->t.backend.net.receive.tso4);
    length = vmxtest_tcp(x->data, false, 1000, 100);
    receive(x, NULL, length); /* nobody vouches for it */
    g_assert_cmphex(x->received.last[0] & VMXNET3_RCD_UNCHECKED, !=, 0);
    g_assert_cmphex(x->received.last[3] & CORRECT, ==, 0);
    receive(x, &valid, length);
    g_assert_cmphex(x->received.last[0] & VMXNET3_RCD_UNCHECKED, ==, 0);
    g_assert_cmphex(x->received.last[3] & (CORRECT | VMXNET3_RCD_TCP | VMXNET3_RCD_IPV4), ==,
                    CORRECT | VMXNET3_RCD_TCP | VMXNET3_RCD_IPV4);
    partial.csum_start = 34;
    receive(x, &partial, length);
    g_assert_cmphex(x->received.last[3] & CORRECT, ==, CORRECT);
    x->data[24] ^= 1; /* the IP header's own is wrong: nothing is said */
    receive(x, &valid, length);
    g_assert_cmphex(x->received.last[3] & CORRECT, ==, 0);
    length = vmxtest_tcp(x->data, true, 1000, 100);
    receive(x, &valid, length);
    g_assert_cmphex(x->received.last[3] & (VMXNET3_RCD_L4_CORRECT | VMXNET3_RCD_IPV6), ==,
                    VMXNET3_RCD_L4_CORRECT | VMXNET3_RCD_IPV6);
    vmxtest_tear_down(&x->t);
}

/* The stock driver stops its kernel when a fragment, or what is not TCP or UDP, is called correct. */
static void test_receive_checksum_never(void)
{
    static const struct virtio_net_hdr_v1 valid = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};
    g_autofree struct offload_test *x = g_new0(struct offload_test, 1);
    size_t length;

    vmxtest_set_up(&x->t, 1, true);
    vmxtest_activate(&x->t);
    length = vmxtest_tcp(x->data, false, 1000, 100);
    x->data[20] = 0x20; /* more fragments */
    vmxtest_fix_ip(x->data);
    receive(x, &valid, length);
    g_assert_cmphex(x->received.last[3] & CORRECT, ==, 0);
    g_assert_cmphex(x->received.last[3] & VMXNET3_RCD_FRAGMENT, !=, 0);
    x->data[20] = 0;
    x->data[23] = 1; /* ICMP */
    vmxtest_fix_ip(x->data);
    receive(x, &valid, length);
    g_assert_cmphex(x->received.last[3] & CORRECT, ==, 0);
    x->data[23] = 6;
    x->data[46] = 0xf0; /* a TCP header longer than the frame's rest */
    vmxtest_fix_ip(x->data);
    receive(x, &valid, 80);
    g_assert_cmphex(x->received.last[3] & CORRECT, ==, 0);
    vmxtest_tear_down(&x->t);
}

/* A checksum that is not where the driver would believe it is completed. */
static void test_receive_checksum_inner(void)
{
    struct virtio_net_hdr_v1 partial = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 60, .csum_offset = 6};
    g_autofree struct offload_test *x = g_new0(struct offload_test, 1);
    size_t length;

    vmxtest_set_up(&x->t, 1, true);
    vmxtest_activate(&x->t);
    length = vmxtest_tcp(x->data, false, 1000, 100);
    memset(x->data + 66, 0, 2);
    receive(x, &partial, length);
    g_assert_cmphex(x->received.last[0] & VMXNET3_RCD_UNCHECKED, !=, 0);
    g_assert_cmpuint(net_checksum(x->received.data + 60, length - 60), ==, 0);
    vmxtest_tear_down(&x->t);
}

static void test_lro(void)
{
    g_autofree struct offload_test *x = g_new0(struct offload_test, 1);

    vmxtest_set_up(&x->t, 1, true);
    vmxtest_activate(&x->t);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        struct virtio_net_hdr_v1 header = {
            .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
            .gso_type = ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
            .gso_size = 1448,
            .csum_start = vmxtest_tcp_headers(ipv6) - 20,
            .csum_offset = 16,
        };
        size_t length = vmxtest_tcp(x->data, ipv6, 1000, 60000);

        receive(x, &header, length);
        g_assert_cmpmem(x->received.data, x->received.length, x->data, length);
        g_assert_cmpuint(x->received.first[3] >> 24 & 0x7f, ==, VMXNET3_KIND_LRO);
        g_assert_cmpuint(x->received.first[1] & 0xff, ==, (60000 + 1447) / 1448);
        g_assert_cmpuint(x->received.first[3] & 0xffff, ==, 1448);
        g_assert_cmphex(x->received.last[3] & (VMXNET3_RCD_TCP | VMXNET3_RCD_L4_CORRECT), ==,
                        VMXNET3_RCD_TCP | VMXNET3_RCD_L4_CORRECT);
        g_assert_cmpuint(x->received.last[3] >> 24 & 0x7f, ==, VMXNET3_KIND_RX);
    }
    vmxtest_tear_down(&x->t);
}

/* The backend is asked for what the driver can take, no more. */
static void test_features(void)
{
    struct vmxtest t;

    vmxtest_set_up(&t, 1, true);
    t.config.misc.features = VMXNET3_F_RX_CHECKSUM;
    vmxtest_activate(&t);
    g_assert_true(t.backend.net.receive.checksum);
    g_assert_false(t.backend.net.receive.tso4);
    g_assert_cmpuint(harness_load(t.h, t.queues + 256, 1), ==, 0);
    t.config.misc.features = 0;
    vmxtest_share(&t);
    vmxtest_command(&t, VMXNET3_UPDATE_FEATURES);
    harness_settle(t.h, 2);
    g_assert_false(t.backend.net.receive.checksum);
    g_assert_true(t.backend.active[0]);
    vmxtest_tear_down(&t);

    /* A backend without large frames: the driver is asked to merge them. */
    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    g_assert_cmpuint(harness_load(t.h, t.queues + 256, 1), ==, 1);
    vmxtest_tear_down(&t);
}

static void test_strip(void)
{
    struct virtio_net_hdr_v1 header = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 38, .csum_offset = 16};
    g_autofree struct offload_test *x = g_new0(struct offload_test, 1);
    uint8_t plain[300];
    size_t length;

    vmxtest_set_up(&x->t, 1, true);
    x->t.config.filter.vlans[0x123 / 32] = 1u << 0x123 % 32;
    vmxtest_activate(&x->t);
    length = vmxtest_tcp(plain, false, 1000, 200);
    memcpy(x->data, plain, 12);
    memcpy(x->data + 12, "\x81\x00\x61\x23", 4);
    memcpy(x->data + 16, plain + 12, length - 12);
    receive(x, &header, length + 4);
    g_assert_cmpmem(x->received.data, x->received.length, plain, length);
    g_assert_cmphex(x->received.last[2] & VMXNET3_RCD_TAGGED, !=, 0);
    g_assert_cmphex(x->received.last[2] >> VMXNET3_RCD_TAG_SHIFT, ==, 0x6123);
    g_assert_cmphex(x->received.last[3] & CORRECT, ==, CORRECT);
    x->t.config.misc.features &= ~VMXNET3_F_VLAN_STRIP;
    vmxtest_share(&x->t);
    vmxtest_command(&x->t, VMXNET3_UPDATE_FEATURES);
    harness_settle(x->t.h, 2);
    receive(x, &header, length + 4);
    memcpy(x->data + 38 + 16, x->received.data + 38 + 16, 2); /* the checksum is completed */
    g_assert_cmpmem(x->received.data, x->received.length, x->data, length + 4);
    g_assert_cmphex(x->received.last[2] & VMXNET3_RCD_TAGGED, ==, 0);
    vmxtest_tear_down(&x->t);
}

/* ---- tags that stay in the frame ---- */

#define SAID                                                                                       \
    (CORRECT | VMXNET3_RCD_IPV4 | VMXNET3_RCD_IPV6 | VMXNET3_RCD_TCP | VMXNET3_RCD_UDP |           \
     VMXNET3_RCD_FRAGMENT)

static const struct tags_left {
    bool strip, ipv6;
    unsigned count;
    uint16_t types[2];
} tags_left[] = {
    {true, false, 2, {0x88a8, 0x8100}},  {true, true, 2, {0x88a8, 0x8100}},
    {true, false, 2, {0x8100, 0x8100}},  {true, true, 2, {0x8100, 0x88a8}},
    {true, false, 1, {0x88a8}},          {false, false, 2, {0x8100, 0x8100}},
    {false, true, 2, {0x8100, 0x8100}},  {false, false, 1, {0x8100}},
    {false, true, 1, {0x8100}},          {false, false, 1, {0x88a8}},
    {false, false, 2, {0x88a8, 0x8100}},
};

/* TCP behind tags, more than the MTU, with a checksum that is left undone; its length. */
static size_t put_tagged(uint8_t *frame, const struct tags_left *tags,
                         struct virtio_net_hdr_v1 *header)
{
    size_t payload = 3000, length = vmxtest_tcp(frame, tags->ipv6, 1000, payload);
    size_t transport = vmxtest_tcp_headers(tags->ipv6) - 20;
    struct net_layout layout;
    uint16_t checksum;

    g_assert_true(net_parse(frame, length, &layout));
    checksum = net_pseudo_checksum(frame, &layout, length - transport);
    memcpy(frame + transport + 16, &checksum, 2);
    for (unsigned i = tags->count; i-- > 0;) {
        memmove(frame + 16, frame + 12, length - 12);
        memcpy(frame + 12, (const uint8_t[]){tags->types[i] >> 8, tags->types[i], 0, 5}, 4);
        length += 4;
        transport += 4;
    }
    *header = (struct virtio_net_hdr_v1){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = transport, .csum_offset = 16};
    return length;
}

static void receive_tagged(struct offload_test *x, const struct tags_left *tags,
                           const struct virtio_net_hdr_v1 *header, size_t length)
{
    vmxtest_set_up(&x->t, 1, true);
    x->t.config.misc.features &= tags->strip ? UINT32_MAX : ~VMXNET3_F_VLAN_STRIP;
    x->t.config.filter.vlans[0] |= 1u << 5;
    vmxtest_activate(&x->t);
    receive(x, header, length);
    vmxtest_tear_down(&x->t);
}

/* Stock drivers look for IP right behind the Ethernet header, or behind one tag, and stop their
 * kernel where a completion speaks of TCP and there is something else. */
static void test_tags_left(void)
{
    g_autofree struct offload_test *x = g_new0(struct offload_test, 1);

    for (unsigned i = 0; i < G_N_ELEMENTS(tags_left); i++) {
        struct virtio_net_hdr_v1 header;
        size_t length = put_tagged(x->data, &tags_left[i], &header);

        receive_tagged(x, &tags_left[i], &header, length);
        g_assert_cmphex(x->received.last[0] & VMXNET3_RCD_UNCHECKED, !=, 0);
        g_assert_cmphex(x->received.last[3] & SAID, ==, 0);
    }
}

/* Nobody vouches for the checksum then: it is there. */
static void test_tags_left_checksum(void)
{
    g_autofree struct offload_test *x = g_new0(struct offload_test, 1);

    for (unsigned i = 0; i < G_N_ELEMENTS(tags_left); i++) {
        struct virtio_net_hdr_v1 header;
        size_t length = put_tagged(x->data, &tags_left[i], &header);
        size_t tcp = length - header.csum_start;
        uint16_t checksum;

        receive_tagged(x, &tags_left[i], &header, length);
        memcpy(&checksum, x->received.data + x->received.length - tcp + 16, 2);
        g_assert_cmphex(checksum, ==, net_checksum(x->data + length - tcp, tcp));
    }
}

static void test_tags_left_segments(void)
{
    g_autofree struct offload_test *x = g_new0(struct offload_test, 1);

    for (unsigned i = 0; i < G_N_ELEMENTS(tags_left); i++) {
        struct virtio_net_hdr_v1 header;
        size_t length = put_tagged(x->data, &tags_left[i], &header);

        header.gso_type = tags_left[i].ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
        header.gso_size = 1448;
        receive_tagged(x, &tags_left[i], &header, length);
        g_assert_cmpuint(x->received.first[3] >> 24 & 0x7f, ==, VMXNET3_KIND_RX);
    }
}

/* ---- RSS ---- */

/* The key and results that everybody verifies the hash with. */
static const uint8_t rss_key[40] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
                                    0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
                                    0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
                                    0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

static void test_toeplitz(void)
{
    static const uint8_t inputs[][12] = {
        {66, 9, 149, 187, 161, 142, 100, 80, 2794 >> 8, 2794 & 255, 1766 >> 8, 1766 & 255},
        {199, 92, 111, 2, 65, 69, 140, 83, 14230 >> 8, 14230 & 255, 4739 >> 8, 4739 & 255},
    };

    g_assert_cmphex(vmxnet3_toeplitz(rss_key, inputs[0], 12), ==, 0x51ccc178);
    g_assert_cmphex(vmxnet3_toeplitz(rss_key, inputs[0], 8), ==, 0x323e8fc2);
    g_assert_cmphex(vmxnet3_toeplitz(rss_key, inputs[1], 12), ==, 0xc626b0ea);
    g_assert_cmphex(vmxnet3_toeplitz(rss_key, inputs[1], 8), ==, 0xd718262a);
}

static void test_rss(void)
{
    g_autofree struct offload_test *x = g_new0(struct offload_test, 1);
    unsigned seen = 0;

    vmxtest_set_up(&x->t, 1, true);
    x->t.tx_count = x->t.rx_count = 4;
    x->t.config.misc.features |= VMXNET3_F_RSS;
    x->t.rss_config = (struct vmxnet3_rss){
        .types = 15, .function = VMXNET3_RSS_TOEPLITZ, .key_size = 40, .table_size = 32};
    memcpy(x->t.rss_config.key, rss_key, sizeof(rss_key));
    for (unsigned i = 0; i < 32; i++)
        x->t.rss_config.table[i] = i % 4;
    vmxtest_activate(&x->t);
    for (unsigned i = 0; i < 64; i++) {
        size_t length = vmxtest_tcp(x->data, i & 1, 1000 + i, 100);
        uint32_t hash;

        receive(x, NULL, length);
        hash = x->received.last[1];
        g_assert_cmpuint(x->received.last[0] >> VMXNET3_RCD_HASH_SHIFT & 15, ==,
                         i & 1 ? VMXNET3_HASH_TCP_IPV6 : VMXNET3_HASH_TCP_IPV4);
        g_assert_cmpuint(x->received.queue, ==, hash % 32 % 4);
        seen |= 1 << x->received.queue;
    }
    g_assert_cmphex(seen, ==, 15);
    /* All to one queue; a queue that is not there is queue 0. */
    memset(x->t.rss_config.table, 2, 32);
    vmxtest_share(&x->t);
    g_assert_cmphex(vmxtest_command(&x->t, VMXNET3_UPDATE_RSS), ==, 0);
    receive(x, NULL, vmxtest_tcp(x->data, false, 5, 100));
    g_assert_cmpuint(x->received.queue, ==, 2);
    memset(x->t.rss_config.table, 200, 32);
    vmxtest_share(&x->t);
    g_assert_cmphex(vmxtest_command(&x->t, VMXNET3_UPDATE_RSS), ==, 0);
    receive(x, NULL, vmxtest_tcp(x->data, false, 5, 100));
    g_assert_cmpuint(x->received.queue, ==, 0);
    x->t.rss_config.table_size = 129;
    vmxtest_share(&x->t);
    g_assert_cmphex(vmxtest_command(&x->t, VMXNET3_UPDATE_RSS), ==, 1);
    vmxtest_tear_down(&x->t);
}

/* ---- a backend that does none of it ---- */

/* Segments with all of their checksums right come out of a socket; a frame goes in. */
static void test_socket(void)
{
    struct vmxtest_offload offload = {VMXNET3_TXD_MODE_TSO, 54, 1000};
    g_autofree uint8_t *data = g_malloc(6000), *got = g_malloc(NET_MAX_FRAME);
    size_t length = vmxtest_tcp(data, false, 1000, 4500), payload = 0;
    g_autofree char *text = NULL;
    g_autoptr(options_t) options = NULL;
    struct net *net;
    struct vmxtest t;
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==, 0);
    text = g_strdup_printf("type=dgram,fd=%d", pair[1]);
    options = options_parse(vmxnet3_options, "--net", text, NULL);
    vmxtest_set_up(&t, 1, false);
    net = t.v->net = net_open(options, t.h->loop, NULL);
    net_set_client(net, &vmxnet3_client, t.v);
    vmxtest_activate(&t);
    memset(data + 24, 0, 2);
    g_assert_null(vmxtest_send(&t, 0, data, length, 3, &offload)); /* not to the test's backend */
    for (unsigned i = 0; i < 5; i++) {
        ssize_t size = recv(pair[0], got, NET_MAX_FRAME, 0);
        struct net_layout layout;
        uint16_t sum, pseudo;

        g_assert_cmpint(size, ==, i < 4 ? 1054 : 554);
        g_assert_true(net_parse(got, size, &layout));
        g_assert_cmphex(net_checksum(got + 14, 20), ==, 0);
        memcpy(&sum, got + 34 + 16, 2);
        pseudo = net_pseudo_checksum(got, &layout, size - 34);
        memcpy(got + 34 + 16, &pseudo, 2);
        g_assert_cmphex(net_checksum(got + 34, size - 34), ==, sum);
        g_assert_cmpmem(got + 54, size - 54, data + 54 + payload, size - 54);
        payload += size - 54;
    }
    g_assert_cmpint(recv(pair[0], got, NET_MAX_FRAME, 0), ==, -1);
    vmxtest_fill(data, 1500, vmxtest_mac, 1);
    g_assert_cmpint(send(pair[0], data, 1500, 0), ==, 1500);
    vmxtest_expect(&t, data, 1500);
    vmxtest_tear_down(&t);
    close(pair[0]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    g_test_add_func("/vmxnet3/transmit/checksum", test_checksum);
    g_test_add_func("/vmxnet3/transmit/segment", test_segment);
    g_test_add_func("/vmxnet3/transmit/segment/short", test_segment_short);
    g_test_add_func("/vmxnet3/transmit/tag", test_tag);
    g_test_add_func("/vmxnet3/transmit/nonsense", test_nonsense);
    g_test_add_func("/vmxnet3/receive/checksum", test_receive_checksum);
    g_test_add_func("/vmxnet3/receive/checksum/never", test_receive_checksum_never);
    g_test_add_func("/vmxnet3/receive/checksum/inner", test_receive_checksum_inner);
    g_test_add_func("/vmxnet3/receive/lro", test_lro);
    g_test_add_func("/vmxnet3/receive/strip", test_strip);
    g_test_add_func("/vmxnet3/receive/tags-left/nothing-said", test_tags_left);
    g_test_add_func("/vmxnet3/receive/tags-left/checksum", test_tags_left_checksum);
    g_test_add_func("/vmxnet3/receive/tags-left/no-lro", test_tags_left_segments);
    g_test_add_func("/vmxnet3/features", test_features);
    g_test_add_func("/vmxnet3/rss/toeplitz", test_toeplitz);
    g_test_add_func("/vmxnet3/rss", test_rss);
    g_test_add_func("/vmxnet3/socket", test_socket);
    return g_test_run();
}
