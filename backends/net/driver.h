/* SPDX-License-Identifier: GPL-2.0-or-later */
/* driver - what the implementations of net share; private to backends/net */
#ifndef BACKENDS_NET_DRIVER_H
#define BACKENDS_NET_DRIVER_H

#include <sys/un.h>

#include "backends/net/net.h"
#include "backends/net/packet.h"
#include "vmm/unixsocket.h"

#define NET_MIN_FRAME 14u /* an Ethernet header */

/* Each opens by its keys of net_options; NULL with @error set. The caller owns the result. */
struct net *net_null_open(const struct options *options, struct loop *loop, GError **error);
struct net *net_tap_open(const struct options *options, struct loop *loop, GError **error);
struct net *net_user_open(const struct options *options, struct loop *loop, GError **error);
struct net *net_stream_open(const struct options *options, struct loop *loop, GError **error);
struct net *net_dgram_open(const struct options *options, struct loop *loop, GError **error);
/* Records what passes @inner, which it takes over (closed on failure too). */
struct net *net_pcap_open(struct net *inner, const struct options *options, GError **error);

void net_init(struct net *net, const struct net_ops *ops, const char *implementation,
              unsigned queues);
static inline void net_readable(struct net *net, unsigned queue)
{
    if (net->client)
        net->client->readable(net->client_opaque, queue);
}
static inline void net_writable(struct net *net, unsigned queue)
{
    if (net->client)
        net->client->writable(net->client_opaque, queue);
}
void net_set_link(struct net *net, bool up);

/* ---- frames in pieces (frames.c) ---- */

/*
 * A frame that is to be sent, out of the guest's pieces into @frame (NET_MAX_FRAME bytes): its length,
 * or -EINVAL when it can't be one.
 */
ssize_t net_frame_take(const struct iovec *iov, unsigned count, struct virtio_net_hdr_v1 *header,
                       uint8_t *frame);

/* ---- frames that were received from the host and wait for the guest (frames.c) ---- */

/* A bounded ring of frames in one buffer, for implementations that get frames pushed. */
struct net_queue {
    uint8_t *data;
    size_t size, head, used; /* bytes */
    unsigned frames;
};
#define NET_QUEUE_SIZE (2u << 20)
void net_queue_init(struct net_queue *queue);
void net_queue_finish(struct net_queue *queue);
bool net_queue_push(struct net_queue *queue, const void *frame, size_t length); /* false: full */
/* The next frame behind @header into the pieces: bytes; 0: none, -EMSGSIZE: too large, dropped. */
ssize_t net_queue_pop(struct net_queue *queue, const struct virtio_net_hdr_v1 *header,
                      const struct iovec *iov, unsigned count);
bool net_queue_has_room(const struct net_queue *queue); /* for any frame */
void net_queue_save(const struct net_queue *queue, GByteArray *out);
/* In place of what is there. False: the data is damaged; the queue is then empty. */
bool net_queue_load(struct net_queue *queue, const uint8_t *data, size_t size);

/* ---- offloads in software (offload.c) ---- */

/*
 * Makes a frame that needs segmentation or checksums into frames that need neither, and calls @output
 * for each, which gets it in one or two pieces (stops when it returns non-zero, and returns that). A
 * frame that needs nothing is passed on as it is. -EINVAL: the header lies.
 */
typedef int (*net_output_fn)(void *opaque, const struct iovec *iov, unsigned count, size_t length);
int net_offload_segment(const struct virtio_net_hdr_v1 *header, uint8_t *frame, size_t length,
                        net_output_fn output, void *opaque);

/* ---- UNIX sockets (unix_socket.c) ---- */

/* The address that @key names; false with @error set: not given, or too long for a socket. */
bool net_unix_address(struct sockaddr_un *address, const struct options *options, const char *key,
                      GError **error);
/* A new socket of @type bound at @key's path; NULL with @error set. */
struct unixsocket *net_unix_bind(const struct options *options, const char *key, int type,
                                 GError **error);
/* The socket of @type that the user gave as fd=, or -1 with @error set. */
int net_unix_given(const struct options *options, int type, GError **error);

#endif
