/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of backends/net/offload.c: frames with partial checksums and segmentation offloads become
 * ordinary frames. What comes out is looked at by a slow reader of its own; the headers that lie come
 * last.
 */
#include <errno.h>
#include <string.h>

#include "backends/net/driver.h"
#include "vmm/iov.h"

#define UDP_L4 5 /* VIRTIO_NET_HDR_GSO_UDP_L4, which older headers lack */

/* ---- a frame, as a guest's stack makes it ---- */

struct frame {
    uint8_t bytes[NET_MAX_FRAME];
    size_t length, ip, transport, payload;
    bool ipv6, udp;
    struct virtio_net_hdr_v1 header;
};

struct recipe {
    unsigned tags; /* VLAN */
    bool ipv6, udp;
    unsigned ip_options; /* bytes; IPv6: an extension header of 8 bytes each */
    unsigned tcp_options;
    unsigned payload;
    uint8_t tcp_flags;
};

static void put16(uint8_t *p, unsigned value)
{
    p[0] = value >> 8;
    p[1] = value & 255;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, value >> 16);
    put16(p + 2, value & 65535);
}

static unsigned get16(const uint8_t *p)
{
    return p[0] * 256 + p[1];
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) * 65536u + get16(p + 2);
}

/* RFC 1071 as its text says, two bytes at a time; not complemented. */
static unsigned slow_sum(const uint8_t *data, size_t length, unsigned sum)
{
    for (size_t i = 0; i < length; i++) {
        sum += i % 2 ? data[i] : data[i] * 256u;
        sum = sum % 65536 + sum / 65536;
    }
    return sum;
}

static unsigned pseudo_sum(const uint8_t *ip, bool ipv6, uint8_t protocol, size_t length)
{
    uint8_t tail[4] = {0, 0, 0, protocol}, size[4];
    unsigned sum = ipv6 ? slow_sum(ip + 8, 32, 0) : slow_sum(ip + 12, 8, 0);

    put32(size, length);
    return slow_sum(tail, 4, slow_sum(size, 4, sum));
}

static void make_ip(struct frame *f, const struct recipe *r, unsigned protocol, size_t length)
{
    uint8_t *ip = f->bytes + f->ip;

    if (r->ipv6) {
        unsigned extensions = r->ip_options / 8;

        put32(ip, 0x60012345);
        put16(ip + 4, r->ip_options + length);
        ip[6] = extensions ? 0 : protocol;
        ip[7] = 64;
        for (unsigned i = 0; i < 32; i++)
            ip[8 + i] = 0x20 + i;
        for (unsigned i = 0; i < extensions; i++) {
            static const uint8_t kinds[] = {60, 43, 60};

            memset(ip + 40 + 8 * i, 0, 8);
            ip[40 + 8 * i] = i + 1 == extensions ? protocol : kinds[i];
        }
        return;
    }
    ip[0] = 0x40 | (20 + r->ip_options) / 4;
    ip[1] = 0x10;
    put16(ip + 2, 20 + r->ip_options + length);
    put16(ip + 4, 0xfffe); /* runs over */
    put16(ip + 6, 0x4000);
    ip[8] = 64;
    ip[9] = protocol;
    put32(ip + 12, 0x0a00020f);
    put32(ip + 16, 0xc0a80101);
    memset(ip + 20, 1, r->ip_options);
    put16(ip + 10, 0);
    put16(ip + 10, slow_sum(ip, 20 + r->ip_options, 0) ^ 0xffff);
}

/* A frame with a partial checksum in its place and a header that says so. */
static struct frame *make_frame(const struct recipe *r)
{
    static const uint8_t addresses[12] = {2, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2};
    struct frame *f = g_new0(struct frame, 1);
    size_t own = r->udp ? 8 : 20 + r->tcp_options;
    uint8_t *transport;

    memcpy(f->bytes, addresses, 12);
    f->ip = 14 + 4 * r->tags;
    for (unsigned i = 0; i < r->tags; i++)
        put32(f->bytes + 12 + 4 * i, (i + 1 < r->tags ? 0x88a80000 : 0x81000000) + 100 + i);
    put16(f->bytes + f->ip - 2, r->ipv6 ? 0x86dd : 0x0800);
    f->transport = f->ip + (r->ipv6 ? 40 : 20) + r->ip_options;
    f->payload = f->transport + own;
    f->length = f->payload + r->payload;
    f->ipv6 = r->ipv6;
    f->udp = r->udp;
    g_assert_cmpuint(f->length, <=, sizeof(f->bytes));
    make_ip(f, r, r->udp ? 17 : 6, own + r->payload);
    transport = f->bytes + f->transport;
    put16(transport, 40000);
    put16(transport + 2, 5201);
    if (r->udp) {
        put16(transport + 4, 8 + r->payload);
    } else {
        put32(transport + 4, 0xffffff00); /* runs over */
        put32(transport + 8, 12345);
        transport[12] = (own / 4) << 4;
        transport[13] = r->tcp_flags;
        put16(transport + 14, 502);
        memset(transport + 20, 1, r->tcp_options);
    }
    for (size_t i = f->payload; i < f->length; i++)
        f->bytes[i] = i * 31 + i / 251;
    put16(transport + (r->udp ? 6 : 16),
          pseudo_sum(f->bytes + f->ip, r->ipv6, r->udp ? 17 : 6, own + r->payload));
    f->header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    f->header.csum_start = GUINT16_TO_LE(f->transport);
    f->header.csum_offset = GUINT16_TO_LE(r->udp ? 6 : 16);
    return f;
}

static void want_segments(struct frame *f, unsigned size)
{
    f->header.gso_type = f->udp    ? UDP_L4
                         : f->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6
                                   : VIRTIO_NET_HDR_GSO_TCPV4;
    f->header.gso_size = GUINT16_TO_LE(size);
    f->header.hdr_len = GUINT16_TO_LE(f->payload);
}

/* ---- what comes out ---- */

struct output {
    GPtrArray *frames; /* of GBytes */
    int stop_after;    /* -1: never */
};

static int collect(void *opaque, const struct iovec *iov, unsigned count, size_t length)
{
    struct output *output = opaque;
    uint8_t *bytes = g_malloc(length);

    g_assert_cmpuint(count, <=, 2);
    g_assert_cmpuint(iov_size(iov, count), ==, length);
    iov_read(iov, count, 0, bytes, length);
    g_ptr_array_add(output->frames, g_bytes_new_take(bytes, length));
    return output->stop_after == (int)output->frames->len ? -ENOBUFS : 0;
}

static GPtrArray *segment(struct frame *f, int expected)
{
    struct output output = {g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref), -1};

    g_assert_cmpint(net_offload_segment(&f->header, f->bytes, f->length, collect, &output), ==,
                    expected);
    return output.frames;
}

/* Is the checksum of the frame's transport right, and that of its IPv4 header? */
static void check_checksums(const struct frame *f, const uint8_t *bytes, size_t length)
{
    size_t size = length - f->transport;
    const uint8_t *ip = bytes + f->ip;
    unsigned sum = pseudo_sum(ip, f->ipv6, f->udp ? 17 : 6, size);

    g_assert_cmphex(slow_sum(bytes + f->transport, size, sum), ==, 0xffff);
    if (!f->ipv6)
        g_assert_cmphex(slow_sum(ip, (ip[0] & 15) * 4, 0), ==, 0xffff);
}

static void check_ip(const struct frame *f, const uint8_t *bytes, size_t length, unsigned index)
{
    const uint8_t *ip = bytes + f->ip, *original = f->bytes + f->ip;

    g_assert_cmpmem(bytes, f->ip, f->bytes, f->ip);
    if (f->ipv6) {
        g_assert_cmpuint(get16(ip + 4), ==, length - f->ip - 40);
        g_assert_cmpmem(ip, 4, original, 4);
        g_assert_cmpmem(ip + 6, f->transport - f->ip - 6, original + 6, f->transport - f->ip - 6);
        return;
    }
    g_assert_cmpuint(get16(ip + 2), ==, length - f->ip);
    g_assert_cmphex(get16(ip + 4), ==, (get16(original + 4) + index) % 65536);
    g_assert_cmpmem(ip + 6, 4, original + 6, 4);
    g_assert_cmpmem(ip + 12, f->transport - f->ip - 12, original + 12, f->transport - f->ip - 12);
}

static void check_tcp(const struct frame *f, const uint8_t *tcp, size_t offset, bool first,
                      bool last)
{
    const uint8_t *original = f->bytes + f->transport;
    unsigned flags = original[13];

    if (!first)
        flags &= ~0x80u; /* CWR */
    if (!last)
        flags &= ~0x09u; /* FIN, PSH */
    g_assert_cmphex(tcp[13], ==, flags);
    g_assert_cmphex(get32(tcp + 4), ==, (uint32_t)(get32(original + 4) + offset));
    g_assert_cmpmem(tcp, 4, original, 4);
    g_assert_cmpmem(tcp + 8, 5, original + 8, 5);
    g_assert_cmpmem(tcp + 18, f->payload - f->transport - 18, original + 18,
                    f->payload - f->transport - 18);
}

/* Segments @r by @size and looks at every one. */
static void check_segments(const struct recipe *r, unsigned size)
{
    struct frame *f = make_frame(r);
    g_autoptr(GPtrArray) frames = NULL;
    size_t offset = 0;

    want_segments(f, size);
    frames = segment(f, 0);
    g_assert_cmpuint(frames->len, ==, r->payload ? (r->payload + size - 1) / size : 1);
    for (unsigned i = 0; i < frames->len; i++) {
        size_t length;
        const uint8_t *bytes = g_bytes_get_data(g_ptr_array_index(frames, i), &length);
        size_t part = length - f->payload;

        g_assert_cmpuint(part, ==, MIN(size, r->payload - offset));
        check_checksums(f, bytes, length);
        check_ip(f, bytes, length, i);
        if (f->udp)
            g_assert_cmpuint(get16(bytes + f->transport + 4), ==, 8 + part);
        else
            check_tcp(f, bytes + f->transport, offset, i == 0, i + 1 == frames->len);
        g_assert_cmpmem(bytes + f->payload, part, f->bytes + f->payload + offset, part);
        offset += part;
    }
    g_assert_cmpuint(offset, ==, r->payload);
    g_free(f);
}

/* ---- checksums ---- */

static void test_nothing_to_do(void)
{
    struct frame *f = make_frame(&(struct recipe){.payload = 100});
    g_autoptr(GPtrArray) frames = NULL;
    g_autoptr(GBytes) before = g_bytes_new(f->bytes, f->length);

    f->header.flags = 0;
    frames = segment(f, 0);
    g_assert_cmpuint(frames->len, ==, 1);
    g_assert_true(g_bytes_equal(before, g_ptr_array_index(frames, 0)));
    g_free(f);
}

static void test_checksums(void)
{
    for (unsigned payload = 0; payload < 200; payload++) {
        for (unsigned kind = 0; kind < 4; kind++) {
            struct recipe r = {.ipv6 = kind & 1,
                               .udp = kind & 2,
                               .payload = payload,
                               .tags = payload % 3,
                               .tcp_options = 4 * (payload % 11)};
            struct frame *f = make_frame(&r);

            g_assert_true(net_offload_checksum(&f->header, f->bytes, f->length));
            check_checksums(f, f->bytes, f->length);
            g_free(f);
        }
    }
}

static void test_largest_checksum(void)
{
    struct recipe r = {.payload = 65535 - 40};
    struct frame *f = make_frame(&r);

    memset(f->bytes + f->payload, 0xff, r.payload); /* the sum grows as it can */
    g_assert_true(net_offload_checksum(&f->header, f->bytes, f->length));
    check_checksums(f, f->bytes, f->length);
    g_free(f);
}

/* In UDP a checksum of zero says that there is none (RFC 768). */
static void test_udp_checksum_zero(void)
{
    struct recipe r = {.udp = true, .payload = 2};
    struct frame *f = make_frame(&r);
    uint8_t *field = f->bytes + f->transport + 6;
    unsigned sum;

    put16(f->bytes + f->payload, 0);
    sum = slow_sum(f->bytes + f->transport, 10, 0);
    put16(f->bytes + f->payload, 0xffff - sum);
    g_assert_true(net_offload_checksum(&f->header, f->bytes, f->length));
    g_assert_cmphex(get16(field), ==, 0xffff);
    g_free(f);

    /* TCP has no such exception. */
    r = (struct recipe){.payload = 2};
    f = make_frame(&r);
    put16(f->bytes + f->payload, 0);
    sum = slow_sum(f->bytes + f->transport, 22, 0);
    put16(f->bytes + f->payload, 0xffff - sum);
    g_assert_true(net_offload_checksum(&f->header, f->bytes, f->length));
    g_assert_cmphex(get16(f->bytes + f->transport + 16), ==, 0);
    g_free(f);
}

static void test_checksum_outside(void)
{
    static const struct {
        unsigned start, offset;
        bool ok;
    } cases[] = {
        {98, 0, true},      {98, 1, false},    {99, 0, false}, {100, 0, false},
        {101, 0, false},    {0, 98, true},     {0, 99, false}, {65535, 65535, false},
        {34, 65535, false}, {65535, 0, false}, {50, 48, true}, {50, 49, false},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct virtio_net_hdr_v1 header = {
            .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
            .csum_start = GUINT16_TO_LE(cases[i].start),
            .csum_offset = GUINT16_TO_LE(cases[i].offset),
        };
        uint8_t *bytes = g_malloc0(100); /* so that a sanitizer sees what is beyond */

        g_assert_cmpint(net_offload_checksum(&header, bytes, 100), ==, cases[i].ok);
        g_free(bytes);
    }
}

/* ---- segments ---- */

static void test_tcp4(void)
{
    struct recipe r = {.tcp_options = 12, .tcp_flags = 0x99}; /* CWR, ACK, PSH, FIN */
    static const unsigned payloads[] = {1, 1447, 1448, 1449, 2896, 30000, 65535 - 52};

    for (unsigned i = 0; i < G_N_ELEMENTS(payloads); i++) {
        r.payload = payloads[i];
        check_segments(&r, 1448);
    }
}

static void test_tcp6(void)
{
    struct recipe r = {.ipv6 = true, .tcp_options = 12, .tcp_flags = 0x18, .payload = 65000};

    check_segments(&r, 1428);
    r.ip_options = 8;
    check_segments(&r, 1420);
    r.ip_options = 24;
    check_segments(&r, 16);
}

static void test_udp(void)
{
    struct recipe r = {.udp = true, .payload = 10000};

    check_segments(&r, 1472);
    check_segments(&r, 999);
    r.ipv6 = true;
    check_segments(&r, 1452);
}

static void test_vlan(void)
{
    struct recipe r = {.tags = 1, .payload = 5000, .ip_options = 40, .tcp_options = 40};

    check_segments(&r, 1400);
    r.tags = 2;
    check_segments(&r, 1400);
    r = (struct recipe){.tags = 2, .payload = 5000, .ipv6 = true};
    check_segments(&r, 1400);
}

static void test_odd_sizes(void)
{
    for (unsigned size = 17; size < 400; size += 2) {
        struct recipe r = {.payload = 4000 + size, .tcp_flags = 0x10};

        check_segments(&r, size);
    }
}

static void test_no_payload(void)
{
    check_segments(&(struct recipe){.tcp_flags = 0x11}, 1448);
}

static void test_output_stops(void)
{
    struct frame *f = make_frame(&(struct recipe){.payload = 10000});
    struct output output = {g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref), 3};

    want_segments(f, 1000);
    g_assert_cmpint(net_offload_segment(&f->header, f->bytes, f->length, collect, &output), ==,
                    -ENOBUFS);
    g_assert_cmpuint(output.frames->len, ==, 3);
    g_ptr_array_unref(output.frames);
    g_free(f);
}

/* ---- headers that lie ---- */

static void refuse(struct frame *f)
{
    g_autoptr(GPtrArray) frames = segment(f, -EINVAL);

    g_assert_cmpuint(frames->len, ==, 0);
    g_free(f);
}

static struct frame *large(const struct recipe *r)
{
    struct frame *f = make_frame(r);

    want_segments(f, 1000);
    return f;
}

static void test_bad_types(void)
{
    struct recipe tcp4 = {.payload = 5000}, udp4 = {.payload = 5000, .udp = true};
    struct frame *f;

    for (unsigned type = 1; type < 256; type++) {
        if ((type & 0x7f) == VIRTIO_NET_HDR_GSO_TCPV4)
            continue;
        f = large(&tcp4);
        f->header.gso_type = type;
        refuse(f);
    }
    f = large(&udp4);
    f->header.gso_type = VIRTIO_NET_HDR_GSO_UDP; /* fragments were never offered */
    refuse(f);
    f = large(&udp4);
    f->header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    refuse(f);
    f = large(&tcp4);
    f->header.gso_size = 0;
    refuse(f);
    f = large(&tcp4);
    f->header.gso_size = GUINT16_TO_LE(1); /* five thousand frames of one byte */
    refuse(f);
}

static void test_bad_frames(void)
{
    struct recipe tcp4 = {.payload = 5000}, tcp6 = {.payload = 5000, .ipv6 = true};
    struct frame *f;

    f = large(&tcp4);
    f->bytes[f->ip] = 0x44; /* an IP header of 16 bytes */
    refuse(f);
    f = large(&tcp4);
    f->bytes[f->ip] = 0x65; /* version 6 behind 0x0800 */
    refuse(f);
    f = large(&tcp4);
    f->bytes[f->ip + 9] = 1; /* ICMP */
    refuse(f);
    f = large(&tcp4);
    put16(f->bytes + 12, 0x0806);
    refuse(f);
    f = large(&tcp6);
    f->bytes[f->ip + 6] = 0; /* the TCP header as an extension header, and so on */
    memset(f->bytes + f->transport, 0, 5000);
    refuse(f);
    f = large(&tcp6);
    f->bytes[f->ip + 6] = 60;
    f->bytes[f->transport] = 6;
    f->bytes[f->transport + 1] = 255;
    f->length = f->transport + 2000;
    refuse(f);
    f = large(&tcp6);
    f->bytes[f->ip + 6] = 44; /* a fragment */
    refuse(f);
    /* Headers of more bytes than anyone needs. */
    f = large(&tcp6);
    f->bytes[f->ip + 6] = 60;
    f->bytes[f->transport] = 6;
    f->bytes[f->transport + 1] = 30;
    refuse(f);
}

/* Each length that a frame can be cut off at: no byte beyond is looked at (a sanitizer would see). */
static void test_truncated(void)
{
    static const struct recipe recipes[] = {
        {.payload = 300, .tcp_options = 12, .tags = 2, .ip_options = 8},
        {.payload = 300, .ipv6 = true, .ip_options = 16, .tags = 1},
        {.payload = 300, .udp = true},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(recipes); i++) {
        struct frame *f = make_frame(&recipes[i]);

        want_segments(f, 100);
        for (size_t length = 0; length <= f->length; length++) {
            struct output output = {g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref),
                                    -1};
            uint8_t *copy = g_memdup2(f->bytes, MAX(length, 1));
            int expected = length < f->payload ? -EINVAL : 0;

            g_assert_cmpint(net_offload_segment(&f->header, copy, length, collect, &output), ==,
                            expected);
            g_ptr_array_unref(output.frames);
            g_free(copy);
        }
        g_free(f);
    }
}

/* Random bytes in header and headers: nothing bad happens, and what comes out fits. */
static void test_random(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    for (unsigned round = 0; round < 20000; round++) {
        struct recipe r = {
            .ipv6 = round & 1, .udp = round & 2, .payload = round % 3000, .tags = round % 3};
        struct frame *f = make_frame(&r);
        struct output output = {g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref), -1};
        uint8_t *copy;

        want_segments(f, g_rand_int_range(rand, 1, 3000));
        for (unsigned i = g_rand_int_range(rand, 0, 4); i > 0; i--)
            ((uint8_t *)&f->header)[g_rand_int_range(rand, 0, 12)] = g_rand_int(rand);
        for (unsigned i = g_rand_int_range(rand, 0, 4); i > 0; i--)
            f->bytes[g_rand_int_range(rand, 12, 90)] = g_rand_int(rand);
        f->length = g_rand_int_range(rand, 0, f->length + 1);
        copy = g_memdup2(f->bytes, MAX(f->length, 1));
        net_offload_segment(&f->header, copy, f->length, collect, &output);
        for (unsigned i = 0; i < output.frames->len; i++)
            g_assert_cmpuint(g_bytes_get_size(g_ptr_array_index(output.frames, i)), <=, f->length);
        g_ptr_array_unref(output.frames);
        g_free(copy);
        g_free(f);
    }
}

/* ---- where headers lie ---- */

static void test_layout(void)
{
    static const struct recipe recipes[] = {
        {.payload = 100},
        {.payload = 100, .ipv6 = true},
        {.payload = 100, .udp = true, .tags = 1},
        {.payload = 100, .tags = 2, .ip_options = 8, .tcp_options = 12},
        {.payload = 100, .ipv6 = true, .ip_options = 16, .tcp_options = 4},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(recipes); i++) {
        struct frame *f = make_frame(&recipes[i]);
        struct net_layout layout;

        g_assert_true(net_parse(f->bytes, f->length, &layout));
        g_assert_cmpuint(layout.ip, ==, f->ip);
        g_assert_cmpuint(layout.transport, ==, f->transport);
        g_assert_cmpuint(layout.payload, ==, f->payload);
        g_assert_cmpint(layout.ipv6, ==, f->ipv6);
        g_assert_cmpuint(layout.protocol, ==, f->udp ? 17 : 6);
        g_assert_false(layout.fragment);
        /* Cut off anywhere, it is an IP packet as long as that header is whole, and no more. */
        for (size_t length = 0; length < f->payload; length++) {
            g_autofree uint8_t *cut = g_memdup2(f->bytes, length);

            g_assert_cmpint(net_parse(cut, length, &layout), ==, length >= f->transport);
            g_assert_cmpuint(layout.payload, ==, 0);
        }
        g_free(f);
    }
}

static void test_layout_of_fragments(void)
{
    static const uint16_t fields[] = {0x2000, 0x0001, 0x3fff};
    struct net_layout layout;

    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        struct frame *f = make_frame(&(struct recipe){.payload = 100});

        put16(f->bytes + f->ip + 6, fields[i]);
        g_assert_true(net_parse(f->bytes, f->length, &layout));
        g_assert_true(layout.fragment);
        g_assert_cmpuint(layout.payload, ==, 0);
        g_free(f);
    }
}

static void test_pseudo_checksum(void)
{
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        struct frame *f = make_frame(&(struct recipe){.payload = 1000, .ipv6 = ipv6});
        size_t length = f->length - f->transport;
        struct net_layout layout;
        uint16_t sum;

        g_assert_true(net_parse(f->bytes, f->length, &layout));
        sum = net_pseudo_checksum(f->bytes, &layout, length);
        g_assert_cmphex(GUINT16_FROM_BE(sum), ==, pseudo_sum(f->bytes + f->ip, ipv6, 6, length));
        g_free(f);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net/offload/nothing", test_nothing_to_do);
    g_test_add_func("/net/offload/checksums", test_checksums);
    g_test_add_func("/net/offload/checksum-largest", test_largest_checksum);
    g_test_add_func("/net/offload/checksum-udp-zero", test_udp_checksum_zero);
    g_test_add_func("/net/offload/checksum-outside", test_checksum_outside);
    g_test_add_func("/net/offload/tcp4", test_tcp4);
    g_test_add_func("/net/offload/tcp6", test_tcp6);
    g_test_add_func("/net/offload/udp", test_udp);
    g_test_add_func("/net/offload/vlan", test_vlan);
    g_test_add_func("/net/offload/odd-sizes", test_odd_sizes);
    g_test_add_func("/net/offload/no-payload", test_no_payload);
    g_test_add_func("/net/offload/output-stops", test_output_stops);
    g_test_add_func("/net/offload/bad-types", test_bad_types);
    g_test_add_func("/net/offload/bad-frames", test_bad_frames);
    g_test_add_func("/net/offload/truncated", test_truncated);
    g_test_add_func("/net/offload/random", test_random);
    g_test_add_func("/net/layout", test_layout);
    g_test_add_func("/net/layout/fragments", test_layout_of_fragments);
    g_test_add_func("/net/layout/pseudo-checksum", test_pseudo_checksum);
    return g_test_run();
}
