/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * packet - looking into frames: where their headers lie, and their checksums (offload.c)
 *
 * For frontends whose guests hand over less, or want to be told more, than a virtio header says. A
 * frame is hostile: whatever it claims, nothing outside of [frame, frame + length) is looked at.
 *
 * Limits: two VLAN tags; IPv6 extension headers that may precede TCP.
 */
#ifndef BACKENDS_NET_PACKET_H
#define BACKENDS_NET_PACKET_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct net_layout {
    size_t ip, transport; /* offsets in the frame */
    size_t payload;       /* behind a whole TCP or UDP header; 0: there is none, or of a fragment */
    bool ipv6;
    bool fragment;
    uint8_t protocol; /* of the transport header */
};

/* Is it an IP packet, and how is it laid out? */
bool net_parse(const uint8_t *frame, size_t length, struct net_layout *layout);

/* The Internet checksum (RFC 1071), in memory order: store it with memcpy. */
uint16_t net_checksum(const uint8_t *data, size_t length);
/* What the checksum field of a transport header is to hold when the rest is left to somebody else: the
 * sum of the pseudo header for @length bytes of transport header and data. In memory order. */
uint16_t net_pseudo_checksum(const uint8_t *frame, const struct net_layout *layout, size_t length);

/* Completes the checksum that @header asks for in the frame. False: the header points outside of it. */
bool net_offload_checksum(const struct virtio_net_hdr_v1 *header, uint8_t *frame, size_t length);

#endif
