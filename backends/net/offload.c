/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * offload - checksums and segmentation in software, for hosts that cannot do them
 *
 * A guest that was offered offloads sends TCP and UDP frames larger than the MTU with partial
 * checksums (virtio 1.3, 5.1.6.2). Here they become ordinary frames. The header and the frame are
 * hostile: every offset is checked against the frame's length. Segments follow RFC 9293 (sequence
 * numbers, FIN and PSH on the last, CWR on the first only) and RFC 791 (IP identification counts up).
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "backends/net/driver.h"

#define ETH_HEADER 14u
#define VLAN_TAG   4u
#define PROTO_TCP  6
#define PROTO_UDP  17

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

/* One's complement sum in memory order (RFC 1071), eight bytes at a time. */
static uint64_t sum_bytes(const uint8_t *data, size_t length, uint64_t sum)
{
    uint64_t word;

    for (; length >= 8; data += 8, length -= 8) {
        memcpy(&word, data, 8);
        sum += word & 0xffffffff;
        sum += word >> 32;
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

/* Where the headers of a frame lie. */
struct layout {
    size_t ip, transport, payload; /* offsets in the frame */
    bool ipv6;
    uint8_t protocol;
};

static bool parse_ipv4(const uint8_t *frame, size_t length, struct layout *layout)
{
    size_t header = (size_t)(frame[layout->ip] & 15) * 4;

    if (header < 20 || layout->ip + header > length)
        return false;
    layout->protocol = frame[layout->ip + 9];
    layout->transport = layout->ip + header;
    return true;
}

static bool parse(const uint8_t *frame, size_t length, struct layout *layout)
{
    uint16_t type;

    layout->ip = ETH_HEADER;
    if (length < ETH_HEADER + VLAN_TAG + 20)
        return false;
    type = get16(frame + 12);
    if (type == 0x8100) {
        type = get16(frame + 16);
        layout->ip += VLAN_TAG;
    }
    if (type == 0x0800 && !parse_ipv4(frame, length, layout))
        return false;
    layout->ipv6 = type == 0x86dd;
    if (layout->ipv6) {
        if (layout->ip + 40 > length)
            return false;
        /* Extension headers do not come with segmentation offload from a Linux guest. */
        layout->protocol = frame[layout->ip + 6];
        layout->transport = layout->ip + 40;
    } else if (type != 0x0800) {
        return false;
    }
    if (layout->protocol == PROTO_TCP && layout->transport + 20 <= length)
        layout->payload = layout->transport + (frame[layout->transport + 12] >> 4) * 4u;
    else if (layout->protocol == PROTO_UDP && layout->transport + 8 <= length)
        layout->payload = layout->transport + 8;
    else
        return false;
    return layout->payload >= layout->transport + 8 && layout->payload <= length;
}

/* Sums addresses, protocol and transport length (RFC 9293 3.1, RFC 8200 8.1). */
static uint64_t pseudo_header(const uint8_t *frame, const struct layout *layout, size_t length)
{
    uint8_t tail[8] = {0};
    uint64_t sum;

    put32(tail, length);
    tail[7] = layout->protocol;
    sum = layout->ipv6 ? sum_bytes(frame + layout->ip + 8, 32, 0)
                       : sum_bytes(frame + layout->ip + 12, 8, 0);
    return sum_bytes(tail, sizeof(tail), sum);
}

/* Makes the headers of one segment right: @index-th, @offset into the payload, @size bytes of it. */
static void finish_segment(uint8_t *segment, const struct layout *layout, unsigned index,
                           size_t offset, size_t size, bool last)
{
    size_t transport_length = layout->payload - layout->transport + size;
    uint8_t *ip = segment + layout->ip, *transport = segment + layout->transport;
    size_t field = layout->protocol == PROTO_TCP ? 16 : 6;
    uint16_t checksum;

    if (layout->ipv6) {
        put16(ip + 4, transport_length);
    } else {
        put16(ip + 2, layout->transport - layout->ip + transport_length);
        put16(ip + 4, get16(ip + 4) + index);
        memset(ip + 10, 0, 2);
        checksum = fold(sum_bytes(ip, layout->transport - layout->ip, 0));
        memcpy(ip + 10, &checksum, 2);
    }
    if (layout->protocol == PROTO_TCP) {
        put32(transport + 4, get32(transport + 4) + offset);
        if (!last)
            transport[13] &= ~(TCP_FIN | TCP_PSH);
        if (index)
            transport[13] &= ~TCP_CWR;
    } else {
        put16(transport + 4, transport_length);
    }
    memset(transport + field, 0, 2);
    checksum = fold(
        sum_bytes(transport, transport_length, pseudo_header(segment, layout, transport_length)));
    if (!checksum && layout->protocol == PROTO_UDP)
        checksum = 0xffff;
    memcpy(transport + field, &checksum, 2);
}

int net_offload_segment(const struct virtio_net_hdr_v1 *header, uint8_t *frame, size_t length,
                        uint8_t *scratch, net_output_fn output, void *opaque)
{
    size_t mss = le16toh(header->gso_size);
    struct layout layout;
    unsigned index = 0;

    if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        if (!net_offload_checksum(header, frame, length))
            return -EINVAL;
        return output(opaque, frame, length);
    }
    if (!mss || !parse(frame, length, &layout))
        return -EINVAL;
    for (size_t offset = 0; offset < length - layout.payload || !index; offset += mss, index++) {
        size_t size = MIN(mss, length - layout.payload - offset);
        int result;

        memcpy(scratch, frame, layout.payload);
        memcpy(scratch + layout.payload, frame + layout.payload + offset, size);
        finish_segment(scratch, &layout, index, offset, size,
                       offset + size == length - layout.payload);
        result = output(opaque, scratch, layout.payload + size);
        if (result)
            return result;
    }
    return 0;
}
