/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net - the host side of a network interface: Ethernet frames in and out
 *
 * Implementations: tap (multiqueue, offloads), user (libslirp), stream and dgram (UNIX sockets), null;
 * decorator: pcap. Each frame is preceded by a struct virtio_net_hdr_v1 (12 bytes), so that
 * checksum and segmentation offloads pass through where the host can do them; where it cannot (all
 * but tap), backends/net/offload.c segments and checksums frames on the way out, so that a frontend
 * may always offer its guest all offloads.
 *
 * Receiving is pulled: the frontend is told that frames may be there (readable), and asks for them
 * until net_receive returns 0, or says that it has no room (net_set_receiving). Whenever it has room
 * again, or was made active, it asks without being told.
 *
 * Thread: queue @q is used on the loop it was made active for; queues may have different loops only if
 * the implementation says so (tap). Opening and closing are for the main thread, or that loop's, while
 * no queue is active.
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
    bool tso4, tso6, ecn;
};

struct net;

struct net_client_ops {
    void (*readable)(void *opaque, unsigned queue); /* net_receive may have something */
    void (*writable)(void *opaque, unsigned queue); /* after net_send returned -EAGAIN */
    void (*link_changed)(void *opaque, bool up);
};

struct net_ops {
    /* As the functions below; those that may be NULL say so. */
    ssize_t (*send)(struct net *net, unsigned queue, const struct iovec *iov, unsigned count);
    ssize_t (*receive)(struct net *net, unsigned queue, const struct iovec *iov, unsigned count);
    int (*set_active)(struct net *net, unsigned queue, struct loop *loop, bool on);
    int (*set_offloads)(struct net *net, const struct net_offloads *receive); /* or NULL */
    void (*set_receiving)(struct net *net, unsigned queue, bool on);          /* or NULL */
    int (*set_used)(struct net *net, unsigned queue, bool used);              /* or NULL */
    void (*save)(struct net *net, GByteArray *out);                           /* or NULL */
    bool (*load)(struct net *net, const uint8_t *data, size_t size, GError **error);
    void (*close)(struct net *net);
};

struct net {
    const struct net_ops *ops;
    const struct net_client_ops *client;
    void *client_opaque;
    unsigned queues;    /* pairs it can serve */
    bool host_offloads; /* the host takes and gives GSO frames (tap) */
    bool checked; /* what it gives has right checksums, and says so where the guest takes that */
    bool link_up;
    const char *implementation;
    uint32_t mtu;                /* of the link as the host side has it; 0: not known */
    struct net_offloads receive; /* as set */
    uint64_t tx_frames, rx_frames, tx_bytes, rx_bytes, dropped;
};

/* The keys of a net backend: part of the option table of every network interface. */
#define NET_OPTIONS                                                                                \
    {"type",                                                                                       \
     OPTION_ENUM,                                                                                  \
     .value = "user",                                                                              \
     .choices = net_types,                                                                         \
     .flags = OPTION_FIRST,                                                                        \
     .help = "how it is connected to the host"},                                                   \
        {"ifname", OPTION_STRING, .help = "tap: the interface (default: a new one)"},              \
        {"fd", OPTION_UINT, .max = 65535, .help = "tap, stream, dgram: an open file descriptor"},  \
        {"path", OPTION_PATH, .help = "stream, dgram: the UNIX socket"},                           \
        {"local", OPTION_PATH, .help = "dgram: our own socket, that path answers to"},             \
        {"server", OPTION_BOOL, .value = "off", .help = "stream: listen instead of connect"},      \
        {"hostfwd", OPTION_LIST, .help = "user: tcp|udp:[ADDR]:PORT-[ADDR]:PORT into the guest"},  \
        {"restrict", OPTION_BOOL, .value = "off", .help = "user: no way out of the guest"},        \
        {"mtu", OPTION_UINT, .min = 576, .max = 65520,                                             \
         .help = "user (16384), stream, dgram: the link's MTU, told to the guest"},                \
        {"queues", OPTION_UINT,           .value = "1",                                            \
         .min = 1, .max = NET_MAX_QUEUES, .help = "queue pairs (tap, null; others have one)"},     \
    {                                                                                              \
        "pcap", OPTION_PATH, .help = "record every frame there"                                    \
    }
extern const char *const net_types[];
extern const struct option_spec net_options[];

/* Opens by options. @loop is where queue 0 will be served. NULL with @error set (OPTIONS_ERROR), and
 * nothing left behind. An fd that was given belongs to the backend from then on. */
struct net *net_open(const struct options *options, struct loop *loop, GError **error);
void net_close(struct net *net); /* NULL is allowed */

void net_set_client(struct net *net, const struct net_client_ops *client, void *opaque);
/* Watches for readable and writable on @loop, or stops: then no callback comes but link_changed. On
 * @loop's thread. 0 or -errno. */
int net_set_active(struct net *net, unsigned queue, struct loop *loop, bool on);
/* What may be received from now on. 0, or -errno: as before. */
int net_set_offloads(struct net *net, const struct net_offloads *receive);
/* The frontend has no room for frames (@on false), or has asked until there were none: call readable
 * or not. Receiving is on when a queue is made active. */
void net_set_receiving(struct net *net, unsigned queue, bool on);
/* Whether the guest uses this queue pair at all. 0 or -errno. */
int net_set_used(struct net *net, unsigned queue, bool used);

/* What a snapshot should have of the backend: appended to @out, or taken from there, with no queue
 * active. State of another type of backend is left aside. Errors: the data is damaged. */
void net_save(struct net *net, GByteArray *out);
bool net_load(struct net *net, const uint8_t *data, size_t size, GError **error);

/*
 * Sends one frame: NET_HEADER_SIZE header bytes (hostile: checked), then the frame, in pieces of any
 * shape. Returns bytes taken, -EAGAIN (wait for writable; nothing was taken), or another -errno: the
 * frame is lost (counted).
 */
ssize_t net_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count);
/* Fills pieces with header and one frame; returns the bytes (header included), 0 when there is none
 * now, or -errno. A frame that does not fit is dropped whole and counted. */
ssize_t net_receive(struct net *net, unsigned queue, const struct iovec *iov, unsigned count);

/* Sends a frame from @mac to all (RARP, RFC 903, as if @mac asked for its own address), by which
 * switches learn where it is now. On queue 0's loop; a frame that can't be sent now is lost. */
void net_announce(struct net *net, const uint8_t mac[6]);

#endif
