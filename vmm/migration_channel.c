/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migration_channel - the connection of a migration: addresses, and sending and receiving that can be
 * interrupted
 *
 * The descriptor does not block; every wait is a poll(2) of it and of the cancel eventfd, and is
 * bounded. So a peer that falls silent ends a migration instead of holding it.
 */
#include "vmm/migration.h"

#include <errno.h>
#include <gio/gio.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/fd.h"
#include "vmm/loop.h"
#include "vmm/unixsocket.h"

#define CONNECT_MS 10000
#define REPLY_MS   10000 /* for a short message to be taken */
#define READ_CHUNK (256u << 10)

static bool failed(GError **error, int err, const char *what)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(err), "migration: %s: %s", what,
                g_strerror(err));
    return false;
}

void migration_channel_init(struct migration_channel *channel, int fd, int cancel_fd)
{
    *channel =
        (struct migration_channel){.fd = fd, .cancel_fd = cancel_fd, .in = g_byte_array_new()};
}

void migration_channel_clear(struct migration_channel *channel)
{
    close_fd(channel->fd);
    channel->fd = -1;
    g_clear_pointer(&channel->in, g_byte_array_unref);
}

/* Until @events, @end_ns (0: for ever) or a cancellation. */
static bool wait_for(int fd, int cancel_fd, short events, int64_t end_ns, GError **error)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = cancel_fd, .events = POLLIN}};

    for (;;) {
        int64_t left_ms = end_ns ? (end_ns - loop_now_ns()) / 1000000 + 1 : -1;
        int ready;

        if (end_ns && left_ms <= 0) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                        "migration: the other side says nothing, or takes nothing");
            return false;
        }
        ready = poll(fds, 2, (int)MIN(left_ms, 3600000));
        if (ready < 0 && errno != EINTR)
            return failed(error, errno, "poll");
        if (ready > 0 && fds[1].revents) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "migration: cancelled");
            return false;
        }
        if (ready > 0 && fds[0].revents)
            return true;
    }
}

bool migration_send(struct migration_channel *channel, const void *data, size_t size,
                    unsigned timeout_ms, GError **error)
{
    const uint8_t *at = data;

    while (size) {
        ssize_t sent = send(channel->fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN)
            return failed(error, errno, "the connection broke");
        if (sent < 0 && !wait_for(channel->fd, channel->cancel_fd, POLLOUT,
                                  loop_now_ns() + timeout_ms * INT64_C(1000000), error))
            return false;
        if (sent > 0) {
            at += sent;
            size -= (size_t)sent;
        }
    }
    return true;
}

bool migration_send_type(struct migration_channel *channel, enum migration_type type,
                         const char *text, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    migration_put(bytes, type, text, text ? MIN(strlen(text), 1000) : 0);
    return migration_send(channel, bytes->data, bytes->len, REPLY_MS, error);
}

bool migration_receive(struct migration_channel *channel, struct migration_message *message,
                       unsigned timeout_ms, GError **error)
{
    int64_t end_ns = timeout_ms ? loop_now_ns() + timeout_ms * INT64_C(1000000) : 0;

    for (;;) {
        gssize taken = migration_parse(channel->in->data + channel->taken,
                                       channel->in->len - channel->taken, message, error);
        guint have;
        ssize_t got;

        if (taken < 0)
            return false;
        if (taken > 0) {
            channel->taken += (size_t)taken;
            return true;
        }
        if (channel->taken)
            g_byte_array_remove_range(channel->in, 0, (guint)channel->taken);
        channel->taken = 0;
        have = channel->in->len;
        if (!wait_for(channel->fd, channel->cancel_fd, POLLIN, end_ns, error))
            return false;
        g_byte_array_set_size(channel->in, have + READ_CHUNK);
        got = recv(channel->fd, channel->in->data + have, READ_CHUNK, MSG_DONTWAIT);
        g_byte_array_set_size(channel->in, have + (guint)MAX(got, 0));
        if (got < 0 && errno != EINTR && errno != EAGAIN)
            return failed(error, errno, "the connection broke");
        if (got == 0) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_CLOSED,
                        "migration: the other side closed the connection");
            return false;
        }
    }
}

/* ---- addresses ---- */

bool migration_is_local(const char *address)
{
    return g_str_has_prefix(address, "unix:");
}

static struct addrinfo *resolve(const char *address, bool listening, GError **error)
{
    const char *rest = g_str_has_prefix(address, "tcp:") ? address + 4 : NULL;
    const char *colon = rest ? strrchr(rest, ':') : NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_ADDRCONFIG | (listening ? AI_PASSIVE : 0)};
    struct addrinfo *list = NULL;
    g_autofree char *host = NULL;
    int ret;

    if (!colon || colon == rest || !colon[1]) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "migration: %s: must be unix:PATH or tcp:HOST:PORT", address);
        return NULL;
    }
    host = *rest == '[' && colon[-1] == ']' ? g_strndup(rest + 1, (gsize)(colon - rest - 2))
                                            : g_strndup(rest, (gsize)(colon - rest));
    ret = getaddrinfo(host, colon + 1, &hints, &list);
    if (ret) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_HOST_NOT_FOUND, "migration: %s: %s", address,
                    gai_strerror(ret));
        return NULL;
    }
    return list;
}

static bool finish_connect(int fd, int cancel_fd, GError **error)
{
    int err = 0;
    socklen_t size = sizeof(err);

    if (!wait_for(fd, cancel_fd, POLLOUT, loop_now_ns() + CONNECT_MS * INT64_C(1000000), error))
        return false;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size);
    return !err || failed(error, err, "can't connect");
}

static int connect_tcp(const char *address, int cancel_fd, GError **error)
{
    struct addrinfo *list = resolve(address, false, error);
    int fd = -1, one = 1;

    for (struct addrinfo *i = list; i && fd < 0; i = i->ai_next) {
        fd = socket(i->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            continue;
        g_clear_error(error);
        if ((connect(fd, i->ai_addr, i->ai_addrlen) && errno != EINPROGRESS &&
             !failed(error, errno, "can't connect")) ||
            !finish_connect(fd, cancel_fd, error)) {
            close(fd);
            fd = -1;
        }
    }
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (list)
        freeaddrinfo(list);
    if (fd < 0 && error && !*error)
        failed(error, errno, "can't connect");
    return fd;
}

int migration_connect(const char *address, int cancel_fd, GError **error)
{
    struct sockaddr_un name;
    int fd;

    if (!migration_is_local(address))
        return connect_tcp(address, cancel_fd, error);
    if (!unixsocket_address(&name, address + 5, error))
        return -1;
    fd = unixsocket_connect(&name, SOCK_STREAM);
    if (fd < 0) {
        failed(error, -fd, address);
        return -1;
    }
    return fd;
}

static int listen_unix(const char *path, GError **error)
{
    struct sockaddr_un name;
    mode_t mask;
    int fd, err;

    if (!unixsocket_address(&name, path, error))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mask = umask(0177); /* there is no moment at which others could connect */
    err = fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) || listen(fd, 1) ? errno : 0;
    umask(mask);
    if (!err)
        return fd;
    failed(error, err, path);
    close_fd(fd);
    return -1;
}

int migration_listen(const char *address, char **path, GError **error)
{
    struct addrinfo *list;
    int fd = -1, one = 1, err = 0;

    *path = NULL;
    if (migration_is_local(address)) {
        fd = listen_unix(address + 5, error);
        *path = fd >= 0 ? g_strdup(address + 5) : NULL;
        return fd;
    }
    list = resolve(address, true, error);
    if (!list)
        return -1;
    fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) || listen(fd, 1))
        err = errno;
    freeaddrinfo(list);
    if (!err)
        return fd;
    failed(error, err, address);
    close_fd(fd);
    return -1;
}
