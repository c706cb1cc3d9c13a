/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream - a UNIX stream socket to passt, QEMU or another lodge
 *
 * Each frame comes behind its length, 32 bits big-endian, as QEMU's -netdev stream and passt have it.
 * Connects, or (server=on) listens and serves one peer after the other. The link is up while there is
 * a peer; a lost connection is tried again every second, unless the socket was given as fd=.
 *
 * The peer takes no offloads: frames are segmented here, the segments of one frame go out in one
 * write. The peer is not trusted: lengths are checked, and a stream that breaks the framing is closed.
 * What arrives is read in large pieces into one buffer, and from there into the guest's.
 *
 * Limits: OUT_BUFFER of frames wait for a slow peer, then the guest does.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/net/driver.h"
#include "vmm/fd.h"
#include "vmm/iov.h"
#include "vmm/log.h"

#define RETRY_NS     INT64_C(1000000000)
#define IN_BUFFER    (256u << 10)
#define OUT_BUFFER   (1u << 20)
#define OUT_HIGH     (OUT_BUFFER / 2) /* no more frames from there on; the rest is for segments */
#define OUT_LOW      (OUT_HIGH / 4)   /* and again when no more than this waits */
#define LENGTH_BYTES 4u

struct stream {
    struct net net;
    bool connects; /* to address, again when the peer is lost */
    struct sockaddr_un address;
    struct unixsocket *listener; /* or NULL */
    int fd;                      /* -1: none */
    struct loop *loop;           /* NULL while the queue is off */
    struct loop_fd *watch;
    struct loop_timer *retry;
    bool receiving; /* the frontend has room */
    bool blocked;   /* it waits until it may send */
    bool corked;    /* segments are coming: gather them */
    size_t in_start, in_used, out_start, out_used;
    uint8_t *in, *out;
    uint8_t frame[NET_MAX_FRAME];
    struct log_limit errors;
};

/* Watches for what can be used now. */
static void update_watch(struct stream *stream)
{
    GIOCondition events = (stream->receiving ? G_IO_IN : 0) | (stream->out_used ? G_IO_OUT : 0);

    if (stream->watch)
        loop_fd_set_events(stream->watch, events);
}

static void peer_lost(struct stream *stream)
{
    if (stream->fd < 0)
        return;
    g_clear_pointer(&stream->watch, loop_fd_destroy);
    close(stream->fd);
    stream->fd = -1;
    stream->out_start = stream->out_used = 0;
    net_set_link(&stream->net, false);
    if (stream->listener)
        unixsocket_hold(stream->listener, false);
    else if (stream->retry)
        loop_timer_set(stream->retry, loop_now_ns() + RETRY_NS);
    if (stream->blocked) {
        stream->blocked = false;
        net_writable(&stream->net, 0); /* what it has is lost now, like the rest */
    }
}

/* ---- sending ---- */

static void flush_out(struct stream *stream)
{
    while (stream->out_used && stream->fd >= 0) {
        ssize_t put = send(stream->fd, stream->out + stream->out_start, stream->out_used,
                           MSG_NOSIGNAL | MSG_DONTWAIT);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno != EAGAIN)
            peer_lost(stream);
        if (put <= 0)
            break;
        stream->out_start += put;
        stream->out_used -= put;
    }
    if (!stream->out_used)
        stream->out_start = 0;
}

/* Room for another frame, in one piece at the end of what waits. */
static bool has_room(struct stream *stream)
{
    if (stream->out_used < OUT_HIGH && stream->out_start + stream->out_used >= OUT_HIGH) {
        memmove(stream->out, stream->out + stream->out_start, stream->out_used);
        stream->out_start = 0;
    }
    return stream->out_used < OUT_HIGH;
}

static int append(struct stream *stream, const struct iovec *iov, unsigned count, size_t skip,
                  size_t length)
{
    size_t end = stream->out_start + stream->out_used;

    if (end + length > OUT_BUFFER)
        return -ENOBUFS;
    iov_read(iov, count, skip, stream->out + end, length);
    stream->out_used += length;
    return 0;
}

/* One frame, at most two pieces: to the socket at once if nothing waits before it. */
static int output(void *opaque, const struct iovec *iov, unsigned count, size_t length)
{
    struct stream *stream = opaque;
    uint32_t prefix = htobe32(length);
    struct iovec pieces[3] = {{&prefix, LENGTH_BYTES}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count + 1};
    ssize_t put = 0;

    memcpy(pieces + 1, iov, count * sizeof(*iov));
    length += LENGTH_BYTES;
    if (!stream->out_used && !stream->corked) {
        put = sendmsg(stream->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno != EAGAIN && errno != EINTR) {
            peer_lost(stream);
            return -ENOTCONN;
        }
        put = MAX(put, 0);
        if ((size_t)put == length)
            return 0;
    }
    return append(stream, pieces, count + 1, put, length - put);
}

static ssize_t stream_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    struct stream *stream = (struct stream *)net;
    struct virtio_net_hdr_v1 header;
    ssize_t length;
    int result;

    if (stream->fd < 0)
        return -ENOTCONN;
    if (!has_room(stream)) {
        stream->blocked = true;
        update_watch(stream);
        return -EAGAIN;
    }
    length = net_frame_take(iov, count, &header, stream->frame);
    if (length < 0)
        return length;
    stream->corked = header.gso_type != VIRTIO_NET_HDR_GSO_NONE;
    result = net_offload_segment(&header, stream->frame, length, output, stream);
    if (stream->corked)
        flush_out(stream);
    update_watch(stream);
    return result ? result : (ssize_t)NET_HEADER_SIZE + length;
}

/* ---- receiving ---- */

/* The whole frame that is first in the buffer: its length; 0: it is not all there; -EBADMSG. */
static ssize_t next_frame(struct stream *stream)
{
    uint32_t length;

    if (stream->in_used < LENGTH_BYTES)
        return 0;
    memcpy(&length, stream->in + stream->in_start, LENGTH_BYTES);
    length = be32toh(length);
    if (!length || length > NET_MAX_FRAME)
        return -EBADMSG;
    return stream->in_used < LENGTH_BYTES + length ? 0 : (ssize_t)length;
}

static ssize_t take_frame(struct stream *stream, size_t length, const struct iovec *iov,
                          unsigned count)
{
    static const struct virtio_net_hdr_v1 header = {.num_buffers = 1};
    const uint8_t *frame = stream->in + stream->in_start + LENGTH_BYTES;

    stream->in_start += LENGTH_BYTES + length;
    stream->in_used -= LENGTH_BYTES + length;
    if (length < NET_MIN_FRAME || iov_size(iov, count) < NET_HEADER_SIZE + length)
        return -EMSGSIZE;
    iov_write(iov, count, 0, &header, NET_HEADER_SIZE);
    iov_write(iov, count, NET_HEADER_SIZE, frame, length);
    return NET_HEADER_SIZE + length;
}

/* Reads more. False: nothing is there, or the peer is gone. */
static bool fill_in(struct stream *stream)
{
    ssize_t got;

    if (stream->fd < 0)
        return false;
    if (!stream->in_used) {
        stream->in_start = 0;
    } else if (stream->in_start + LENGTH_BYTES + NET_MAX_FRAME > IN_BUFFER) {
        memmove(stream->in, stream->in + stream->in_start, stream->in_used);
        stream->in_start = 0;
    }
    do {
        size_t end = stream->in_start + stream->in_used;

        got = recv(stream->fd, stream->in + end, IN_BUFFER - end, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got > 0)
        stream->in_used += got;
    else if (got == 0 || errno != EAGAIN)
        peer_lost(stream);
    return got > 0;
}

static ssize_t stream_receive(struct net *net, unsigned queue, const struct iovec *iov,
                              unsigned count)
{
    struct stream *stream = (struct stream *)net;
    ssize_t length;

    while (!(length = next_frame(stream)))
        if (!fill_in(stream))
            return 0;
    if (length < 0) {
        log_guest(&stream->errors, "net-stream",
                  "the peer sent a length that no frame has: disconnected");
        stream->in_used = 0;
        peer_lost(stream);
        return 0;
    }
    return take_frame(stream, length, iov, count);
}

static void stream_set_receiving(struct net *net, unsigned queue, bool on)
{
    struct stream *stream = (struct stream *)net;

    stream->receiving = on;
    update_watch(stream);
}

static void stream_ready(void *opaque, GIOCondition ready)
{
    struct stream *stream = opaque;

    /* A peer that has hung up without a word of room: sending tells that it is lost. */
    if (ready & (G_IO_OUT | G_IO_ERR | G_IO_HUP)) {
        flush_out(stream);
        update_watch(stream);
        if (stream->blocked && stream->out_used <= OUT_LOW) {
            stream->blocked = false;
            net_writable(&stream->net, 0);
        }
    }
    if (stream->watch && stream->receiving && (ready & (G_IO_IN | G_IO_ERR | G_IO_HUP)))
        net_readable(&stream->net, 0);
}

/* ---- connections ---- */

static void watch_peer(struct stream *stream)
{
    if (stream->fd >= 0 && stream->loop) {
        stream->watch = loop_fd_create(stream->loop, stream->fd, 0, stream_ready, stream);
        update_watch(stream);
    }
}

static void peer_connected(struct stream *stream, int fd)
{
    stream->fd = fd;
    stream->in_start = stream->in_used = 0;
    watch_peer(stream);
    net_set_link(&stream->net, true);
}

/* A second later. */
static void try_again(void *opaque)
{
    struct stream *stream = opaque;
    int fd;

    if (stream->fd >= 0)
        return;
    fd = unixsocket_connect(&stream->address, SOCK_STREAM);
    if (fd >= 0)
        peer_connected(stream, fd);
    else
        loop_timer_set(stream->retry, loop_now_ns() + RETRY_NS);
}

static void accept_peer(void *opaque, int fd)
{
    struct stream *stream = opaque;

    unixsocket_hold(stream->listener, true); /* one peer at a time */
    peer_connected(stream, fd);
}

static int stream_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    struct stream *stream = (struct stream *)net;

    g_clear_pointer(&stream->watch, loop_fd_destroy);
    if (stream->listener)
        unixsocket_unwatch(stream->listener);
    g_clear_pointer(&stream->retry, loop_timer_destroy);
    stream->loop = on ? loop : NULL;
    stream->receiving = on;
    stream->blocked = false;
    if (!on)
        return 0;
    if (stream->listener) {
        unixsocket_hold(stream->listener, stream->fd >= 0);
        unixsocket_watch(stream->listener, loop, accept_peer, stream);
    }
    if (stream->connects) {
        stream->retry = loop_timer_create(loop, try_again, stream);
        if (stream->fd < 0)
            loop_timer_set(stream->retry, loop_now_ns());
    }
    watch_peer(stream);
    return 0;
}

static void stream_close(struct net *net)
{
    struct stream *stream = (struct stream *)net;

    stream_set_active(net, 0, NULL, false);
    close_fd(stream->fd);
    unixsocket_destroy(stream->listener);
    g_free(stream->in);
    g_free(stream->out);
    g_free(stream);
}

static const struct net_ops stream_ops = {
    .send = stream_send,
    .receive = stream_receive,
    .set_active = stream_set_active,
    .set_receiving = stream_set_receiving,
    .close = stream_close,
};

/* ---- opening ---- */

static bool set_up(struct stream *stream, const struct options *options, GError **error)
{
    if (options_given(options, "fd")) {
        stream->fd = net_unix_given(options, SOCK_STREAM, error);
        return stream->fd >= 0;
    }
    if (options_bool(options, "server")) {
        stream->net.link_up = false;
        stream->listener = net_unix_bind(options, "path", SOCK_STREAM, error);
        return stream->listener != NULL;
    }
    if (!net_unix_address(&stream->address, options, "path", error))
        return false;
    stream->connects = true;
    stream->fd = unixsocket_connect(&stream->address, SOCK_STREAM);
    if (stream->fd >= 0)
        return true;
    options_set_error(error, options, "path",
                      "%s; start the other side first, or use server=on here",
                      g_strerror(-stream->fd));
    stream->fd = -1;
    return false;
}

struct net *net_stream_open(const struct options *options, struct loop *loop, GError **error)
{
    struct stream *stream = g_new0(struct stream, 1);

    net_init(&stream->net, &stream_ops, "stream", 1);
    stream->fd = -1;
    stream->in = g_malloc(IN_BUFFER);
    stream->out = g_malloc(OUT_BUFFER);
    if (set_up(stream, options, error))
        return &stream->net;
    stream_close(&stream->net);
    return NULL;
}
