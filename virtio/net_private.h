/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net_private - what virtio/net.c and virtio/net_control.c share */
#ifndef VIRTIO_NET_PRIVATE_H
#define VIRTIO_NET_PRIVATE_H

#include <linux/virtio_net.h>

#include "backends/net/net.h"
#include "virtio/net.h"

#define NET_MAX_MACS     64u
#define NET_VLAN_WORDS   (4096u / 64)
#define NET_POSTED       64u /* receive buffers held ready for one frame */
#define NET_PIECES       1024u
#define NET_FRAME_BUFFER (NET_HEADER_SIZE + NET_MAX_FRAME)

/* Which frames the driver wants (virtio 1.3, 5.1.6.5.1); all of it is saved state. */
struct net_filter {
    bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    bool unicast_overflow, multicast_overflow;
    uint32_t unicast_count, multicast_count;
    uint8_t unicast[NET_MAX_MACS * 6], multicast[NET_MAX_MACS * 6];
    uint64_t vlans[NET_VLAN_WORDS];
};

/* One receive queue: buffers popped ahead, so that a frame can be read straight into them. */
struct net_receive_queue {
    struct virtq_element *posted[NET_POSTED]; /* a ring */
    unsigned first, count;
    uint64_t bytes; /* room in them */
    uint8_t *held;  /* a frame that waits for buffers, with its header */
    size_t held_bytes;
};

struct virtio_net {
    struct virtio_device vdev;
    struct net *net;
    unsigned pairs; /* offered */
    uint32_t active_pairs;
    uint8_t mac[6];
    bool link; /* as the user has it */
    struct net_filter filter;
    struct net_offloads offloads; /* of receive, as negotiated or set by the control queue */
    uint64_t offload_bits;
    struct net_receive_queue receive[NET_MAX_QUEUES];
    struct virtq_element *transmit; /* one at a time: net_send takes or leaves it */
    bool transmit_blocked[NET_MAX_QUEUES];
    struct virtq_element *control;
    struct iovec pieces[NET_PIECES];
};

/* The control queue's index with the negotiated features (5.1.2). */
static inline unsigned net_control_index(const struct virtio_net *vnet)
{
    return virtio_device_has(&vnet->vdev, VIRTIO_NET_F_MQ) ? 2 * vnet->pairs : 2;
}

void net_control_ready(struct virtio_net *vnet, struct virtq *vq);
void net_control_reset(struct virtio_net *vnet);
/* Does the driver want this frame? @frame has at least its first 18 bytes (fewer: @length). */
bool net_filter_accepts(const struct virtio_net *vnet, const uint8_t *frame, size_t length);
/* Sets the receive offloads from feature bits. */
void net_apply_offloads(struct virtio_net *vnet, uint64_t bits);
int net_use_pairs(struct virtio_net *vnet, unsigned pairs);

extern const struct state_table net_state;

#endif
