/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net - the host side of a network interface: Ethernet frames in and out
 *
 * Implementations: tap (multiqueue, offloads), user (libslirp), socket (UNIX stream and datagram),
 * null; decorator: pcap. Each frame is preceded by a struct virtio_net_hdr_v1 (12 bytes), so that
 * checksum and segmentation offloads pass through where the host can do them; where it cannot (all
 * but tap), backends/net/offload.c segments and checksums frames on the way out, so that a frontend
 * may always offer its guest all offloads. Receiving is pulled: the frontend is told that frames
 * are there, and asks for one when it has buffers for it.
 *
 * Thread: queue @q is used on the loop it was started for; queues may have different loops only if
 * the implementation says so (tap).
 */
#ifndef BACKENDS_NET_NET_H
#define BACKENDS_NET_NET_H

#include <glib.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/loop.h"
#include "vmm/options.h"

#define NET_HEADER_SIZE 12u /* struct virtio_net_hdr_v1 */
#define NET_MAX_FRAME   (65535u + 14u + 4u)
#define NET_MAX_QUEUES  64u

/* What the guest's driver can take on receive, and may send. */
struct net_offloads {
    bool checksum; /* partial checksums (NEEDS_CSUM) */
    bool tso4, tso6, ufo, ecn;
    bool uso; /* UDP segmentation */
};

struct net;

struct net_client_ops {
    void (*readable)(void *opaque, unsigned queue); /* net_receive may have something */
    void (*writable)(void *opaque, unsigned queue); /* after net_send returned -EAGAIN */
    void (*link_changed)(void *opaque, bool up);
};

struct net_ops {
    ssize_t (*send)(struct net *net, unsigned queue, const struct iovec *iov, unsigned count);
    ssize_t (*receive)(struct net *net, unsigned queue, const struct iovec *iov, unsigned count);
    /* Watch for readable and writable on @loop, or stop (@on false). */
    int (*set_active)(struct net *net, unsigned queue, struct loop *loop, bool on);
    int (*set_offloads)(struct net *net, const struct net_offloads *receive);
    void (*close)(struct net *net);
    const struct state_table *state_table; /* saved connections (libslirp), or NULL */
};

struct net {
    const struct net_ops *ops;
    const struct net_client_ops *client;
    void *client_opaque;
    unsigned queues;    /* pairs it can serve */
    bool host_offloads; /* the host takes and gives GSO frames (tap) */
    bool link_up;
    const char *implementation;
    struct net_offloads receive; /* as set */
    uint64_t tx_frames, rx_frames, tx_bytes, rx_bytes, dropped;
};

/* Keys: type (user, tap, stream, dgram, null), ifname, fd, path, listen, connect, hostfwd, net, dns,
 * restrict, pcap, queues. */
extern const struct option_spec net_options[];
struct net *net_open(const struct options *options, GError **error);
void net_close(struct net *net);

void net_set_client(struct net *net, const struct net_client_ops *client, void *opaque);
int net_set_active(struct net *net, unsigned queue, struct loop *loop, bool on);
int net_set_offloads(struct net *net, const struct net_offloads *receive);

/*
 * Sends one frame: NET_HEADER_SIZE header bytes (hostile: checked), then the frame, in pieces of any
 * shape. Returns bytes taken, -EAGAIN (wait for writable; nothing was taken), or another -errno: the
 * frame is lost (counted).
 */
ssize_t net_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count);
/* Fills pieces with header and one frame; returns the bytes (header included), 0 when there is none
 * now, or -errno. A frame that does not fit is dropped whole and counted. */
ssize_t net_receive(struct net *net, unsigned queue, const struct iovec *iov, unsigned count);

#endif
