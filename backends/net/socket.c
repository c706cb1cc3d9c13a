/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * socket - UNIX sockets to passt, QEMU or another lodge
 *
 * Stream: each frame behind its length, 32 bits big-endian, as QEMU's -netdev stream and passt have
 * it. Connects, or listens and serves one peer after the other; the link is up while there is one, and
 * a lost connection is tried again every second. Datagram: one frame a datagram, between two bound
 * sockets, as QEMU's -netdev dgram.
 *
 * The peer takes no offloads: frames are segmented here. The peer is not trusted: lengths are checked,
 * a stream that breaks the framing is closed.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/net/driver.h"
#include "vmm/log.h"

#define RETRY_NS      INT64_C(1000000000)
#define OUT_BUFFER    (1u << 20)
#define LENGTH_BYTES  4u
#define FRAMES_A_TURN 64

struct peer {
    struct net net;
    bool stream, server;
    char *path, *local;
    int fd, listener;  /* -1: none */
    bool given;        /* fd came from the user: no reconnecting */
    struct loop *loop; /* NULL while the queue is off */
    struct loop_fd *watch, *listen_watch;
    struct loop_timer *retry;
    struct net_queue incoming;
    uint8_t frame[NET_MAX_FRAME], scratch[NET_MAX_FRAME];
    struct sockaddr_un remote; /* datagram: where frames go */
    /* Stream only: what was received of the next frame, and what waits to be sent. */
    uint8_t in[LENGTH_BYTES + NET_MAX_FRAME];
    size_t in_used;
    uint8_t *out;
    size_t out_start, out_used;
    bool send_blocked;
    struct log_limit errors;
};

static void peer_watch(struct peer *peer);

static void peer_lost(struct peer *peer)
{
    if (peer->fd < 0)
        return;
    loop_fd_destroy(peer->watch);
    peer->watch = NULL;
    close(peer->fd);
    peer->fd = -1;
    peer->in_used = peer->out_used = peer->out_start = 0;
    net_set_link(&peer->net, false);
    if (peer->listen_watch)
        loop_fd_set_events(peer->listen_watch, G_IO_IN);
    else if (!peer->given && peer->retry)
        loop_timer_set(peer->retry, loop_now_ns() + RETRY_NS);
}

/* ---- sending ---- */

static void stream_flush(struct peer *peer)
{
    while (peer->out_used && peer->fd >= 0) {
        ssize_t put = send(peer->fd, peer->out + peer->out_start, peer->out_used,
                           MSG_NOSIGNAL | MSG_DONTWAIT);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN)
            break;
        if (put < 0) {
            peer_lost(peer);
            return;
        }
        peer->out_start += put;
        peer->out_used -= put;
    }
    if (!peer->out_used)
        peer->out_start = 0;
}

/* Always takes the frame: user_send made sure that there is room for a whole segmentation. */
static int stream_output(void *opaque, const uint8_t *frame, size_t length)
{
    struct peer *peer = opaque;
    uint32_t prefix = htobe32(length);
    uint8_t *end = peer->out + peer->out_start + peer->out_used;

    if (peer->out_start + peer->out_used + LENGTH_BYTES + length > OUT_BUFFER)
        return -ENOBUFS;
    memcpy(end, &prefix, LENGTH_BYTES);
    memcpy(end + LENGTH_BYTES, frame, length);
    peer->out_used += LENGTH_BYTES + length;
    return 0;
}

static int dgram_output(void *opaque, const uint8_t *frame, size_t length)
{
    struct peer *peer = opaque;
    const struct sockaddr *address = peer->given ? NULL : (struct sockaddr *)&peer->remote;

    /* Like a wire: what the other side has no room for, or nobody receives, is lost. */
    if (sendto(peer->fd, frame, length, MSG_NOSIGNAL | MSG_DONTWAIT, address,
               address ? sizeof(peer->remote) : 0) < 0)
        peer->net.dropped++;
    return 0;
}

/* A segmented frame grows by a header for each segment: 64 bytes of payload each is the worst case
 * that is worth waiting for room for. */
static bool stream_has_room(struct peer *peer)
{
    if (peer->out_start && peer->out_used < OUT_BUFFER / 4) {
        memmove(peer->out, peer->out + peer->out_start, peer->out_used);
        peer->out_start = 0;
    }
    return peer->out_start + peer->out_used < OUT_BUFFER / 2;
}

static ssize_t peer_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    struct peer *peer = (struct peer *)net;
    size_t size = net_iov_size(iov, count);
    struct virtio_net_hdr_v1 header;
    int result;

    if (size <= NET_HEADER_SIZE || size > NET_HEADER_SIZE + NET_MAX_FRAME)
        return -EINVAL;
    if (peer->fd < 0)
        return -ENOTCONN;
    if (peer->stream && !stream_has_room(peer)) {
        stream_flush(peer);
        if (peer->fd >= 0 && !stream_has_room(peer)) {
            peer->send_blocked = true;
            peer_watch(peer);
            return -EAGAIN;
        }
    }
    net_iov_read(iov, count, 0, &header, sizeof(header));
    net_iov_read(iov, count, NET_HEADER_SIZE, peer->frame, size - NET_HEADER_SIZE);
    result = net_offload_segment(&header, peer->frame, size - NET_HEADER_SIZE, peer->scratch,
                                 peer->stream ? stream_output : dgram_output, peer);
    if (peer->stream) {
        stream_flush(peer);
        peer_watch(peer);
    }
    return result ? result : (ssize_t)size;
}

/* ---- receiving ---- */

/* One whole frame from the front of in[], if it is there. False: the framing is broken. */
static bool take_frame(struct peer *peer, bool *taken)
{
    uint32_t length;

    *taken = false;
    if (peer->in_used < LENGTH_BYTES)
        return true;
    memcpy(&length, peer->in, LENGTH_BYTES);
    length = be32toh(length);
    if (!length || length > NET_MAX_FRAME)
        return false;
    if (peer->in_used < LENGTH_BYTES + length)
        return true;
    net_queue_push(&peer->incoming, peer->in + LENGTH_BYTES, length);
    peer->in_used -= LENGTH_BYTES + length;
    memmove(peer->in, peer->in + LENGTH_BYTES + length, peer->in_used);
    *taken = true;
    return true;
}

static void stream_read(struct peer *peer)
{
    bool taken = true;

    while (taken && net_queue_has_room(&peer->incoming)) {
        if (!take_frame(peer, &taken)) {
            log_guest(&peer->errors, "net-stream", "the peer broke the framing: disconnected");
            peer_lost(peer);
            return;
        }
        if (!taken) {
            ssize_t got = recv(peer->fd, peer->in + peer->in_used, sizeof(peer->in) - peer->in_used,
                               MSG_DONTWAIT);

            if (got < 0 && (errno == EAGAIN || errno == EINTR))
                return;
            if (got <= 0) {
                peer_lost(peer);
                return;
            }
            peer->in_used += got;
            taken = true;
        }
    }
}

static void dgram_read(struct peer *peer)
{
    for (int i = 0; i < FRAMES_A_TURN && net_queue_has_room(&peer->incoming); i++) {
        ssize_t got = recv(peer->fd, peer->frame, sizeof(peer->frame), MSG_DONTWAIT);

        if (got <= 0)
            return;
        net_queue_push(&peer->incoming, peer->frame, got);
    }
}

static void peer_ready(void *opaque, GIOCondition ready)
{
    struct peer *peer = opaque;

    if (ready & G_IO_OUT) {
        stream_flush(peer);
        if (peer->send_blocked && peer->fd >= 0 && stream_has_room(peer)) {
            peer->send_blocked = false;
            net_writable(&peer->net, 0);
        }
    }
    if (peer->fd >= 0 && (ready & (G_IO_IN | G_IO_ERR | G_IO_HUP))) {
        if (peer->stream)
            stream_read(peer);
        else
            dgram_read(peer);
    }
    if (peer->incoming.frames)
        net_readable(&peer->net, 0);
    peer_watch(peer);
}

/* Watches for what can be used now: input only while there is room for it. */
static void peer_watch(struct peer *peer)
{
    GIOCondition events = net_queue_has_room(&peer->incoming) ? G_IO_IN : 0;

    if (peer->fd < 0 || !peer->loop)
        return;
    if (peer->stream && peer->out_used)
        events |= G_IO_OUT;
    if (!peer->watch)
        peer->watch = loop_fd_create(peer->loop, peer->fd, events, peer_ready, peer);
    else
        loop_fd_set_events(peer->watch, events);
}

static ssize_t peer_receive(struct net *net, unsigned queue, const struct iovec *iov,
                            unsigned count)
{
    struct peer *peer = (struct peer *)net;
    bool was_full = !net_queue_has_room(&peer->incoming);
    ssize_t got = net_queue_pop(&peer->incoming, iov, count);

    if (was_full)
        peer_watch(peer);
    return got;
}

/* ---- connections ---- */

static void fill_address(struct sockaddr_un *address, const char *path)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    g_strlcpy(address->sun_path, path, sizeof(address->sun_path));
}

static int connect_to(const char *path)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    fill_address(&address, path);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        int code = errno;

        close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

static void peer_connected(struct peer *peer, int fd)
{
    peer->fd = fd;
    net_set_link(&peer->net, true);
    peer_watch(peer);
}

static void try_again(void *opaque)
{
    struct peer *peer = opaque;
    int fd = peer->fd < 0 ? connect_to(peer->path) : -1;

    if (fd >= 0)
        peer_connected(peer, fd);
    else if (peer->fd < 0)
        loop_timer_set(peer->retry, loop_now_ns() + RETRY_NS);
}

static void accept_peer(void *opaque, GIOCondition ready)
{
    struct peer *peer = opaque;
    int fd = accept4(peer->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    loop_fd_set_events(peer->listen_watch, 0); /* one peer at a time */
    peer_connected(peer, fd);
}

static int peer_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    struct peer *peer = (struct peer *)net;

    if (queue != 0)
        return 0;
    loop_fd_destroy(peer->watch);
    loop_fd_destroy(peer->listen_watch);
    loop_timer_destroy(peer->retry);
    peer->watch = peer->listen_watch = NULL;
    peer->retry = NULL;
    peer->loop = on ? loop : NULL;
    if (!on)
        return 0;
    if (peer->listener >= 0)
        peer->listen_watch =
            loop_fd_create(loop, peer->listener, peer->fd < 0 ? G_IO_IN : 0, accept_peer, peer);
    else if (!peer->given && peer->stream)
        peer->retry = loop_timer_create(loop, try_again, peer);
    if (peer->fd < 0 && peer->retry)
        loop_timer_set(peer->retry, loop_now_ns());
    peer_watch(peer);
    if (peer->incoming.frames)
        net_readable(net, 0);
    return 0;
}

static void peer_close(struct net *net)
{
    struct peer *peer = (struct peer *)net;

    peer_set_active(net, 0, NULL, false);
    if (peer->fd >= 0)
        close(peer->fd);
    if (peer->listener >= 0) {
        close(peer->listener);
        unlink(peer->path);
    }
    if (peer->local)
        unlink(peer->local);
    net_queue_finish(&peer->incoming);
    g_free(peer->out);
    g_free(peer->path);
    g_free(peer->local);
    g_free(peer);
}

static const struct net_ops peer_ops = {
    .send = peer_send,
    .receive = peer_receive,
    .set_active = peer_set_active,
    .close = peer_close,
};

/* ---- opening ---- */

static struct peer *peer_new(bool stream)
{
    struct peer *peer = g_new0(struct peer, 1);

    net_init(&peer->net, &peer_ops, stream ? "stream" : "dgram", 1);
    peer->stream = stream;
    peer->fd = peer->listener = -1;
    peer->out = stream ? g_malloc(OUT_BUFFER) : NULL;
    net_queue_init(&peer->incoming);
    return peer;
}

static bool check_path(const struct options *options, const char *key, GError **error)
{
    const char *path = options_string(options, key);

    if (!path) {
        options_set_error(error, options, key, "is needed: the path of a UNIX socket");
        return false;
    }
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        options_set_error(error, options, key, "is longer than a UNIX socket's limit of %zu bytes",
                          sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
        return false;
    }
    return true;
}

/* Binds @fd at @path; a socket file that nobody serves any more is replaced. */
static bool bind_at(int fd, const char *path, const struct options *options, const char *key,
                    int type, GError **error)
{
    struct sockaddr_un address;
    struct stat status;
    int probe;

    fill_address(&address, path);
    if (!lstat(path, &status) && S_ISSOCK(status.st_mode)) {
        probe = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(probe, (struct sockaddr *)&address, sizeof(address)) && errno == ECONNREFUSED)
            unlink(path);
        close(probe);
    }
    if (!bind(fd, (struct sockaddr *)&address, sizeof(address)))
        return true;
    options_set_error(error, options, key, "%s%s", g_strerror(errno),
                      errno == EADDRINUSE ? "; another program uses it, choose another path" : "");
    return false;
}

static bool use_fd(struct peer *peer, const struct options *options, int type, GError **error)
{
    int fd = dup(options_uint(options, "fd"));
    int found = 0;
    socklen_t size = sizeof(found);

    peer->given = true;
    peer->fd = fd;
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &found, &size) || found != type) {
        options_set_error(error, options, "fd", "is not an open %s socket",
                          type == SOCK_STREAM ? "stream" : "datagram");
        return false;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return true;
}

static bool stream_set_up(struct peer *peer, const struct options *options, GError **error)
{
    if (options_given(options, "fd"))
        return use_fd(peer, options, SOCK_STREAM, error);
    if (!check_path(options, "path", error))
        return false;
    peer->path = g_strdup(options_string(options, "path"));
    peer->net.link_up = false;
    if (!options_bool(options, "server")) {
        peer->fd = connect_to(peer->path);
        peer->net.link_up = peer->fd >= 0;
        if (peer->fd >= 0)
            return true;
        options_set_error(error, options, "path",
                          "%s; start the other side first, or use server=on here",
                          g_strerror(errno));
        return false;
    }
    peer->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind_at(peer->listener, peer->path, options, "path", SOCK_STREAM, error) &&
        !listen(peer->listener, 1))
        return true;
    close(peer->listener);
    peer->listener = -1;
    return false;
}

struct net *net_stream_open(const struct options *options, struct loop *loop, GError **error)
{
    struct peer *peer = peer_new(true);

    if (stream_set_up(peer, options, error))
        return &peer->net;
    peer_close(&peer->net);
    return NULL;
}

static bool dgram_set_up(struct peer *peer, const struct options *options, GError **error)
{
    int size = 1 << 20;

    if (options_given(options, "fd"))
        return use_fd(peer, options, SOCK_DGRAM, error);
    if (!check_path(options, "path", error) || !check_path(options, "local", error))
        return false;
    peer->path = g_strdup(options_string(options, "path"));
    peer->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(peer->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (!bind_at(peer->fd, options_string(options, "local"), options, "local", SOCK_DGRAM, error))
        return false;
    peer->local = g_strdup(options_string(options, "local"));
    fill_address(&peer->remote, peer->path); /* the peer may come later */
    return true;
}

struct net *net_dgram_open(const struct options *options, struct loop *loop, GError **error)
{
    struct peer *peer = peer_new(false);

    if (dgram_set_up(peer, options, error))
        return &peer->net;
    peer_close(&peer->net);
    return NULL;
}
