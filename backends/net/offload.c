/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * offload - checksums and segmentation in software, for hosts that cannot do them
 *
 * A guest that was offered offloads sends TCP and UDP frames larger than the MTU with partial
 * checksums (virtio 1.3, 5.1.6.2). Here they become ordinary frames. The header and the frame are
 * hostile: every offset is checked against the frame's length. Segments follow RFC 9293 (sequence
 * numbers, FIN and PSH on the last, CWR on the first only) and RFC 791 (IP identification counts up);
 * only the headers are copied, the payload stays where it is.
 *
 * Limits: two VLAN tags; IPv6 extension headers that may precede TCP (hop-by-hop, routing,
 * destination options); MAX_SEGMENTS of a frame. UDP is segmented (GSO_UDP_L4), not fragmented.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "backends/net/driver.h"
#include "backends/net/packet.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4 /* since Linux 6.2 */
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#define VLAN_TAG  4u
#define PROTO_TCP 6
#define PROTO_UDP 17

#define MAX_HEADERS  256u  /* bytes of all headers of a frame that is segmented */
#define MAX_SEGMENTS 4096u /* a guest must not make us work for one byte at a time */

#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80

static uint16_t get16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = value >> 8;
    p[1] = value;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, value >> 16);
    put16(p + 2, value);
}

/*
 * One's complement sum in memory order (RFC 1071). Four words of eight bytes a turn, each added with
 * its carry left for later: the sums of the halves can't overflow for the length of any frame.
 */
static uint64_t sum_bytes(const uint8_t *data, size_t length, uint64_t sum)
{
    uint64_t words[4];

    for (; length >= sizeof(words); data += sizeof(words), length -= sizeof(words)) {
        memcpy(words, data, sizeof(words));
        sum +=
            (words[0] & 0xffffffff) + (words[0] >> 32) + (words[1] & 0xffffffff) + (words[1] >> 32);
        sum +=
            (words[2] & 0xffffffff) + (words[2] >> 32) + (words[3] & 0xffffffff) + (words[3] >> 32);
    }
    for (; length >= 2; data += 2, length -= 2) {
        uint16_t half;

        memcpy(&half, data, 2);
        sum += half;
    }
    if (length)
        sum += htole16(*data);
    return sum;
}

/* Folds to 16 bits; the result is in memory order too: store it with memcpy. */
static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

bool net_offload_checksum(const struct virtio_net_hdr_v1 *header, uint8_t *frame, size_t length)
{
    size_t start = le16toh(header->csum_start), offset = le16toh(header->csum_offset);
    uint16_t checksum;

    if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return true;
    if (start >= length || offset + 2 > length - start)
        return false;
    /* The field holds the pseudo-header's sum: it is part of what is summed up. */
    checksum = fold(sum_bytes(frame + start, length - start, 0));
    if (!checksum && offset == 6)
        checksum = 0xffff; /* UDP: zero means none */
    memcpy(frame + start + offset, &checksum, 2);
    return true;
}

/* ---- where the headers of a frame lie ---- */

/* Behind the Ethernet header and VLAN tags: the EtherType, and @layout->ip. */
static uint16_t parse_ethernet(const uint8_t *frame, size_t length, struct net_layout *layout)
{
    uint16_t type = get16(frame + 12);

    layout->ip = NET_MIN_FRAME;
    for (unsigned tags = 0; tags < 2 && (type == 0x8100 || type == 0x88a8); tags++) {
        if (layout->ip + VLAN_TAG > length)
            return 0;
        type = get16(frame + layout->ip + 2);
        layout->ip += VLAN_TAG;
    }
    return type;
}

static bool parse_ipv4(const uint8_t *frame, size_t length, struct net_layout *layout)
{
    size_t header;

    if (layout->ip + 20 > length)
        return false;
    header = (size_t)(frame[layout->ip] & 15) * 4;
    if (frame[layout->ip] >> 4 != 4 || header < 20 || layout->ip + header > length)
        return false;
    layout->protocol = frame[layout->ip + 9];
    layout->fragment = get16(frame + layout->ip + 6) & 0x3fff; /* an offset, or more to come */
    layout->transport = layout->ip + header;
    return true;
}

static bool parse_ipv6(const uint8_t *frame, size_t length, struct net_layout *layout)
{
    size_t at = layout->ip + 40;
    uint8_t next;

    if (at > length || frame[layout->ip] >> 4 != 6)
        return false;
    next = frame[layout->ip + 6];
    while (next == 0 || next == 43 || next == 60) {
        if (at + 8 > length)
            return false;
        next = frame[at];
        at += 8 + 8 * (size_t)frame[at + 1];
    }
    layout->protocol = next;
    layout->fragment = next == 44;
    layout->transport = at;
    layout->ipv6 = true;
    return true;
}

bool net_parse(const uint8_t *frame, size_t length, struct net_layout *layout)
{
    bool tcp, udp;
    uint16_t type;
    size_t header;

    *layout = (struct net_layout){0};
    if (length < NET_MIN_FRAME)
        return false;
    type = parse_ethernet(frame, length, layout);
    if (!(type == 0x0800 && parse_ipv4(frame, length, layout)) &&
        !(type == 0x86dd && parse_ipv6(frame, length, layout)))
        return false;
    tcp = layout->protocol == PROTO_TCP;
    udp = layout->protocol == PROTO_UDP;
    header = tcp ? 20 : 8;
    if (layout->fragment || !(tcp || udp) || layout->transport + header > length)
        return true;
    if (tcp)
        header = MAX(header, (frame[layout->transport + 12] >> 4) * 4u);
    if (layout->transport + header <= length)
        layout->payload = layout->transport + header;
    return true;
}

/* Does the frame hold what the header says it does? */
static bool matches(uint8_t gso_type, const struct net_layout *layout)
{
    switch (gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return layout->protocol == PROTO_TCP && !layout->ipv6;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return layout->protocol == PROTO_TCP && layout->ipv6;
    case VIRTIO_NET_HDR_GSO_UDP_L4:
        return layout->protocol == PROTO_UDP;
    default:
        return false;
    }
}

/* Sums addresses, protocol and transport length (RFC 9293 3.1, RFC 8200 8.1). */
static uint64_t pseudo_header(const uint8_t *headers, const struct net_layout *layout,
                              size_t length)
{
    uint8_t tail[8] = {0};
    uint64_t sum;

    put32(tail, length);
    tail[7] = layout->protocol;
    sum = layout->ipv6 ? sum_bytes(headers + layout->ip + 8, 32, 0)
                       : sum_bytes(headers + layout->ip + 12, 8, 0);
    return sum_bytes(tail, sizeof(tail), sum);
}

uint16_t net_pseudo_checksum(const uint8_t *frame, const struct net_layout *layout, size_t length)
{
    return ~fold(pseudo_header(frame, layout, length));
}

uint16_t net_checksum(const uint8_t *data, size_t length)
{
    return fold(sum_bytes(data, length, 0));
}

struct segment {
    uint8_t headers[MAX_HEADERS];
    const uint8_t *payload;
    size_t offset, size; /* of this payload in the whole one */
    unsigned index;
    bool last;
};

static void finish_ip(struct segment *segment, const struct net_layout *layout, size_t length)
{
    uint8_t *ip = segment->headers + layout->ip;
    size_t header = layout->transport - layout->ip;
    uint16_t checksum;

    if (layout->ipv6) {
        put16(ip + 4, header - 40 + length);
        return;
    }
    put16(ip + 2, header + length);
    put16(ip + 4, get16(ip + 4) + segment->index);
    memset(ip + 10, 0, 2);
    checksum = fold(sum_bytes(ip, header, 0));
    memcpy(ip + 10, &checksum, 2);
}

/* Makes the headers right, which are those of the whole frame. */
static void finish_segment(struct segment *segment, const struct net_layout *layout)
{
    uint8_t *transport = segment->headers + layout->transport;
    size_t header = layout->payload - layout->transport;
    size_t length = header + segment->size;
    uint8_t *field = transport + (layout->protocol == PROTO_TCP ? 16 : 6);
    uint16_t checksum;
    uint64_t sum;

    finish_ip(segment, layout, length);
    if (layout->protocol == PROTO_TCP) {
        put32(transport + 4, get32(transport + 4) + segment->offset);
        if (!segment->last)
            transport[13] &= ~(TCP_FIN | TCP_PSH);
        if (segment->index)
            transport[13] &= ~TCP_CWR;
    } else {
        put16(transport + 4, length);
    }
    memset(field, 0, 2);
    sum = pseudo_header(segment->headers, layout, length);
    sum = sum_bytes(transport, header, sum); /* an even number of bytes */
    checksum = fold(sum_bytes(segment->payload, segment->size, sum));
    if (!checksum && layout->protocol == PROTO_UDP)
        checksum = 0xffff;
    memcpy(field, &checksum, 2);
}

static int output_segments(const uint8_t *frame, const struct net_layout *layout, size_t payload,
                           size_t mss, net_output_fn output, void *opaque)
{
    struct segment segment = {.index = 0};
    int result;

    do {
        struct iovec pieces[2] = {{segment.headers, layout->payload}};

        memcpy(segment.headers, frame, layout->payload);
        segment.offset = segment.index * mss;
        segment.payload = frame + layout->payload + segment.offset;
        segment.size = MIN(mss, payload - segment.offset);
        segment.last = segment.offset + segment.size == payload;
        finish_segment(&segment, layout);
        pieces[1] = (struct iovec){(void *)segment.payload, segment.size};
        result = output(opaque, pieces, segment.size ? 2 : 1, layout->payload + segment.size);
        segment.index++;
    } while (!result && !segment.last);
    return result;
}

int net_offload_segment(const struct virtio_net_hdr_v1 *header, uint8_t *frame, size_t length,
                        net_output_fn output, void *opaque)
{
    size_t mss = le16toh(header->gso_size), payload;
    struct iovec whole = {frame, length};
    struct net_layout layout;

    if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        if (!net_offload_checksum(header, frame, length))
            return -EINVAL;
        return output(opaque, &whole, 1, length);
    }
    if (!mss || !net_parse(frame, length, &layout) || !layout.payload ||
        layout.payload > MAX_HEADERS || !matches(header->gso_type, &layout))
        return -EINVAL;
    payload = length - layout.payload;
    if (payload / mss >= MAX_SEGMENTS)
        return -EINVAL;
    return output_segments(frame, &layout, payload, mss, output, opaque);
}
