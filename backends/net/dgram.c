/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dgram - UNIX datagram sockets: one frame a datagram, as QEMU's -netdev dgram
 *
 * Between two bound sockets (local= is ours, path= the peer's, which may come and go), or over a
 * connected one given as fd=. Like a wire: what the peer has no room for, or nobody receives, is lost.
 *
 * The peer takes no offloads: frames are segmented here. What arrives goes straight into the guest's
 * buffers.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/net/driver.h"
#include "vmm/iov.h"

#define SEND_BUFFER (1 << 20)
#define MAX_PIECES  1024u /* IOV_MAX */
#define MAX_ERRORS  16    /* in a row, before the socket is left alone until it is readable again */

struct dgram {
    struct net net;
    int fd;
    struct unixsocket *local;  /* owns fd; NULL: the socket was given */
    struct sockaddr_un remote; /* where frames go */
    struct loop_fd *watch;
    bool receiving; /* the frontend has room */
    struct iovec pieces[MAX_PIECES];
    uint8_t frame[NET_MAX_FRAME];
};

static int output(void *opaque, const struct iovec *iov, unsigned count, size_t length)
{
    struct dgram *dgram = opaque;
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};

    if (dgram->local) {
        message.msg_name = &dgram->remote;
        message.msg_namelen = sizeof(dgram->remote);
    }
    if (sendmsg(dgram->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        dgram->net.dropped++;
    return 0;
}

static ssize_t dgram_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    struct dgram *dgram = (struct dgram *)net;
    struct virtio_net_hdr_v1 header;
    ssize_t length = net_frame_take(iov, count, &header, dgram->frame);
    int result;

    if (length < 0)
        return length;
    result = net_offload_segment(&header, dgram->frame, length, output, dgram);
    return result ? result : (ssize_t)NET_HEADER_SIZE + length;
}

static ssize_t dgram_receive(struct net *net, unsigned queue, const struct iovec *iov,
                             unsigned count)
{
    static const struct virtio_net_hdr_v1 header = {.num_buffers = 1};
    struct dgram *dgram = (struct dgram *)net;
    struct msghdr message = {.msg_iov = dgram->pieces};
    size_t room = SIZE_MAX;
    ssize_t got;
    int errors = 0;

    message.msg_iovlen = iov_slice(iov, count, NET_HEADER_SIZE, &room, dgram->pieces, MAX_PIECES);
    /* An error is one of a frame that was sent earlier; reading it takes it away. */
    do {
        got = recvmsg(dgram->fd, &message, MSG_DONTWAIT);
    } while (got < 0 && errno != EAGAIN && ++errors < MAX_ERRORS);
    if (got < 0)
        return 0;
    if (got < (ssize_t)NET_MIN_FRAME || message.msg_flags & MSG_TRUNC)
        return -EMSGSIZE;
    iov_write(iov, count, 0, &header, NET_HEADER_SIZE);
    return NET_HEADER_SIZE + got;
}

static void dgram_ready(void *opaque, GIOCondition ready)
{
    struct dgram *dgram = opaque;

    if (dgram->receiving)
        net_readable(&dgram->net, 0);
}

static void dgram_set_receiving(struct net *net, unsigned queue, bool on)
{
    struct dgram *dgram = (struct dgram *)net;

    dgram->receiving = on;
    if (dgram->watch)
        loop_fd_set_events(dgram->watch, on ? G_IO_IN : 0);
}

static int dgram_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    struct dgram *dgram = (struct dgram *)net;

    g_clear_pointer(&dgram->watch, loop_fd_destroy);
    dgram->receiving = on;
    if (on)
        dgram->watch = loop_fd_create(loop, dgram->fd, G_IO_IN, dgram_ready, dgram);
    return 0;
}

static void dgram_close(struct net *net)
{
    struct dgram *dgram = (struct dgram *)net;

    dgram_set_active(net, 0, NULL, false);
    if (dgram->fd >= 0 && !dgram->local)
        close(dgram->fd);
    unixsocket_destroy(dgram->local);
    g_free(dgram);
}

static const struct net_ops dgram_ops = {
    .send = dgram_send,
    .receive = dgram_receive,
    .set_active = dgram_set_active,
    .set_receiving = dgram_set_receiving,
    .close = dgram_close,
};

static bool set_up(struct dgram *dgram, const struct options *options, GError **error)
{
    int size = SEND_BUFFER;

    if (options_given(options, "fd")) {
        dgram->fd = net_unix_given(options, SOCK_DGRAM, error);
        return dgram->fd >= 0;
    }
    if (!net_unix_address(&dgram->remote, options, "path", error))
        return false;
    dgram->local = net_unix_bind(options, "local", SOCK_DGRAM, error);
    if (!dgram->local)
        return false;
    dgram->fd = unixsocket_fd(dgram->local);
    setsockopt(dgram->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* best effort */
    return true;
}

struct net *net_dgram_open(const struct options *options, struct loop *loop, GError **error)
{
    struct dgram *dgram = g_new0(struct dgram, 1);

    net_init(&dgram->net, &dgram_ops, "dgram", 1);
    dgram->fd = -1;
    if (set_up(dgram, options, error))
        return &dgram->net;
    dgram_close(&dgram->net);
    return NULL;
}
