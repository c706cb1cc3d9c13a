/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net_private - what virtio/net.c, net_queues.c and net_control.c share */
#ifndef VIRTIO_NET_PRIVATE_H
#define VIRTIO_NET_PRIVATE_H

#include <linux/virtio_net.h>

#include "backends/net/net.h"
#include "virtio/net.h"

#define NET_BIT(n)       (UINT64_C(1) << (n))
#define NET_BATCH        64u /* frames or commands of one queue before others get their turn */
#define NET_MAX_MACS     64u
#define NET_VLAN_WORDS   (4096u / 64)
#define NET_POSTED       64u   /* receive buffers held ready, of one queue */
#define NET_PIECES       1023u /* of a chain, and of all buffers held ready: readv takes one more */
#define NET_WINDOW       (2 * NET_PIECES)
#define NET_FRAME_BUFFER (NET_HEADER_SIZE + NET_MAX_FRAME)
#define NET_MAX_STATE    (8u << 20) /* bytes of saved frames, and of the backend's state */

/* Which frames the driver wants (virtio 1.3, 5.1.6.5.1); all of it is saved state. */
struct net_filter {
    bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    bool unicast_overflow, multicast_overflow;
    uint32_t unicast_count, multicast_count;
    uint8_t unicast[NET_MAX_MACS * 6], multicast[NET_MAX_MACS * 6];
    uint64_t vlans[NET_VLAN_WORDS];
};

/* A receive buffer that was popped ahead: its element, whose pieces are in the queue's list. */
struct net_posted {
    uint16_t id, count, sequence;
    unsigned pieces;
    uint64_t bytes;
};

/* One receive queue: buffers popped ahead, so that a frame can be read straight into them. */
struct net_receive_queue {
    struct net_posted posted[NET_POSTED]; /* a ring */
    unsigned first, count;
    uint64_t bytes;       /* room in them */
    struct iovec *pieces; /* NET_WINDOW; those of all posted buffers, in order, without gaps */
    unsigned piece_first, piece_count;
    uint8_t *held; /* a frame that waits for buffers, with its header; NULL until there is one */
    size_t held_bytes;
};

struct virtio_net {
    struct virtio_device vdev;
    struct net *net;
    unsigned pairs; /* offered */
    uint32_t active_pairs;
    uint8_t mac[6], own_mac[6]; /* as the driver set it; as the user did */
    bool link;                  /* as the user has it */
    struct net_filter filter;
    uint64_t offload_bits; /* of receive, as negotiated or set by the control queue */
    bool loaded;           /* the next start goes on with what was loaded */
    struct net_receive_queue *receive;
    bool *transmit_blocked;       /* by pair: the backend takes nothing now */
    bool transmitting;            /* inside a batch: */
    uint64_t readable;            /* by pair: what it brought in is looked at after it */
    struct virtq_element *out;    /* the chain that is being sent, or a command */
    struct virtq_element *in;     /* a chain on its way from or to a receive queue */
    GByteArray *frames, *backend; /* saved state, while it is saved or loaded */
};

/* ---- the data path (net_queues.c) ---- */

void net_transmit(struct virtio_net *vnet, unsigned pair);
void net_receive_frames(struct virtio_net *vnet, unsigned pair);
extern const struct net_client_ops net_backend_client;
/* Receive buffers popped ahead go back to the ring, or (its ring is gone) are forgotten. */
void net_unpost(struct virtio_net *vnet, unsigned pair);
void net_forget_posted(struct virtio_net *vnet, unsigned pair);
/* The frames that wait for buffers as bytes, and back. False: they are damaged. */
void net_save_frames(struct virtio_net *vnet, GByteArray *out);
bool net_load_frames(struct virtio_net *vnet, const uint8_t *data, size_t size);

/* ---- control (net_control.c) ---- */

void net_control_ready(struct virtio_net *vnet, unsigned index);
void net_control_reset(struct virtio_net *vnet);
/* Does the driver want this frame? @frame has at least its first 18 bytes (fewer: @length). */
bool net_filter_accepts(const struct virtio_net *vnet, const uint8_t *frame, size_t length);

/* ---- net.c ---- */

/* Sets the receive offloads from feature bits. 0 or -errno: they are as before. */
int net_apply_offloads(struct virtio_net *vnet, uint64_t bits);
#define NET_OFFLOAD_FEATURES                                                                       \
    (NET_BIT(VIRTIO_NET_F_GUEST_CSUM) | NET_BIT(VIRTIO_NET_F_GUEST_TSO4) |                         \
     NET_BIT(VIRTIO_NET_F_GUEST_TSO6) | NET_BIT(VIRTIO_NET_F_GUEST_ECN))
/* Tells the driver whether the link is up, now. */
void net_update_link(struct virtio_net *vnet);
/* The driver has told the network where it is. */
void net_announced(struct virtio_net *vnet);
/* The guest uses this many queue pairs from now on. 0 or -errno: as before. */
int net_use_pairs(struct virtio_net *vnet, unsigned pairs);
/* The control queue's index with the negotiated features (5.1.2). */
static inline unsigned net_control_index(const struct virtio_net *vnet)
{
    return virtio_device_has(&vnet->vdev, VIRTIO_NET_F_MQ) ? 2 * vnet->pairs : 2;
}

extern const struct state_table net_state;

#endif
