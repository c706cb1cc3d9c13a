/* SPDX-License-Identifier: GPL-2.0-or-later */
/* driver - what the implementations of net share; private to backends/net */
#ifndef BACKENDS_NET_DRIVER_H
#define BACKENDS_NET_DRIVER_H

#include "backends/net/net.h"

/* Each opens by its keys of net_options; NULL with @error set. The caller owns the result. */
struct net *net_null_open(const struct options *options, struct loop *loop, GError **error);
struct net *net_tap_open(const struct options *options, struct loop *loop, GError **error);
struct net *net_user_open(const struct options *options, struct loop *loop, GError **error);
struct net *net_stream_open(const struct options *options, struct loop *loop, GError **error);
struct net *net_dgram_open(const struct options *options, struct loop *loop, GError **error);
/* Records what passes @inner, which it takes over (closed on failure too). */
struct net *net_pcap_open(struct net *inner, const char *path, GError **error);

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

/*
 * Frames that were received from the host and wait for the guest: a bounded ring of packets in one
 * buffer, for implementations that get frames pushed. Each is kept with its 12-byte header.
 */
struct net_queue {
    uint8_t *data;
    size_t size, head, used; /* bytes */
    unsigned frames;
};
#define NET_QUEUE_SIZE (2u << 20)
void net_queue_init(struct net_queue *queue);
void net_queue_finish(struct net_queue *queue);
bool net_queue_push(struct net_queue *queue, const void *frame, size_t length); /* false: full */
/* The next frame's bytes into @iov (with a zero header); 0: none, -EMSGSIZE: too large, dropped. */
ssize_t net_queue_pop(struct net_queue *queue, const struct iovec *iov, unsigned count);
bool net_queue_has_room(const struct net_queue *queue);

/* ---- copying between pieces and one buffer ---- */
size_t net_iov_size(const struct iovec *iov, unsigned count);
size_t net_iov_read(const struct iovec *iov, unsigned count, size_t skip, void *buffer,
                    size_t size);
size_t net_iov_write(const struct iovec *iov, unsigned count, size_t skip, const void *data,
                     size_t size);

/* ---- offloads in software (offload.c) ---- */

/* Completes the checksum that @header asks for in the frame. False: the header points outside of it. */
bool net_offload_checksum(const struct virtio_net_hdr_v1 *header, uint8_t *frame, size_t length);

/*
 * Splits a frame that needs segmentation and checksums into frames that need neither, and calls
 * @output for each (stops when it returns non-zero, and returns that). A frame that needs nothing is
 * passed on as it is. -EINVAL: the header lies. @scratch has room for NET_MAX_FRAME bytes.
 */
typedef int (*net_output_fn)(void *opaque, const uint8_t *frame, size_t length);
int net_offload_segment(const struct virtio_net_hdr_v1 *header, uint8_t *frame, size_t length,
                        uint8_t *scratch, net_output_fn output, void *opaque);

#endif
