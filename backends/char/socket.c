/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * socket - a UNIX stream socket: serves one client after the other, or is one
 *
 * Server (the default): listens at path. One client at a time; another that comes meanwhile is closed
 * at once. When it leaves, the next is taken. A socket file that a dead process left behind is
 * replaced; one that somebody serves, or anything else, is not touched. The file goes away at close.
 *
 * Client (server=off): the connection must succeed at start; when it is lost later, it is tried again
 * every second.
 *
 * A peer that only ends its own output (shutdown) still gets ours.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/char/driver.h"
#include "vmm/fd.h"
#include "vmm/log.h"
#include "vmm/unixsocket.h"

#define RETRY_NS (INT64_C(1000) * 1000 * 1000)

struct socket {
    struct sockaddr_un address;
    struct unixsocket *listener; /* server */
    struct loop_timer *retry;    /* client: connect again */
    int peer;                    /* -1: none */
};

static void drop_peer(struct chardev *chardev)
{
    struct socket *s = chardev->state;

    if (s->peer < 0)
        return;
    char_disconnect(chardev);
    close(s->peer);
    s->peer = -1;
    if (!s->listener)
        loop_timer_set(s->retry, loop_now_ns() + RETRY_NS);
}

static void input_ended(struct chardev *chardev)
{
    struct socket *s = chardev->state;
    struct pollfd pollfd = {.fd = s->peer};

    /* Only its output ended, or is it gone? */
    if (chardev->out.fd >= 0 && poll(&pollfd, 1, 0) >= 0 && !(pollfd.revents & (POLLHUP | POLLERR)))
        char_stop_input(chardev, true);
    else
        drop_peer(chardev);
}

/* It is gone, or does not listen: what it wrote before is still read. */
static void output_broken(struct chardev *chardev)
{
    if (chardev->in.fd < 0)
        drop_peer(chardev);
}

static void output_ended(struct chardev *chardev)
{
    struct socket *s = chardev->state;

    shutdown(s->peer, SHUT_WR);
}

static void accept_peer(void *opaque, int fd)
{
    struct chardev *chardev = opaque;
    struct socket *s = chardev->state;

    if (s->peer >= 0) {
        /* The one we have may have left already, with bytes that nobody read. */
        struct pollfd pollfd = {.fd = s->peer};
        if (poll(&pollfd, 1, 0) != 1 || !(pollfd.revents & POLLHUP)) {
            log_info("char", "%s: another client came and was sent away", s->address.sun_path);
            close(fd);
            return;
        }
        drop_peer(chardev);
    }
    s->peer = fd;
    char_connect(chardev, fd, fd);
}

/* ---- opening ---- */

static bool serve(struct chardev *chardev, const struct options *options, GError **error)
{
    struct socket *s = chardev->state;
    g_autoptr(GError) reason = NULL;

    s->listener = unixsocket_create(options_string(options, "path"), SOCK_STREAM, 0, &reason);
    if (!s->listener) {
        options_set_error(error, options, "path", "%s", reason->message);
        return false;
    }
    unixsocket_watch(s->listener, chardev->loop, accept_peer, chardev);
    return true;
}

static void try_again(void *opaque)
{
    struct chardev *chardev = opaque;
    struct socket *s = chardev->state;
    int fd;

    fd = unixsocket_connect(&s->address, SOCK_STREAM);
    if (fd < 0) {
        loop_timer_set(s->retry, loop_now_ns() + RETRY_NS);
        return;
    }
    s->peer = fd;
    char_connect(chardev, fd, fd);
}

static bool be_client(struct chardev *chardev, const struct options *options, GError **error)
{
    struct socket *s = chardev->state;
    int fd = unixsocket_connect(&s->address, SOCK_STREAM);

    if (fd < 0) {
        options_set_error(error, options, "path", "can't connect: %s%s", g_strerror(-fd),
                          fd == -ECONNREFUSED || fd == -ENOENT
                              ? "; start the program that serves it first"
                          : fd == -EAGAIN ? "; it has too many clients waiting"
                                          : "");
        return false;
    }
    s->peer = fd;
    char_connect(chardev, fd, fd);
    return true;
}

static bool socket_open(struct chardev *chardev, const struct options *options, GError **error)
{
    const char *path = options_string(options, "path");
    struct socket *s = g_new0(struct socket, 1);
    g_autoptr(GError) reason = NULL;

    chardev->state = s;
    s->peer = -1;
    if (!unixsocket_address(&s->address, path, &reason)) {
        options_set_error(error, options, "path", "%s", reason->message);
        return false;
    }
    chardev->address = g_strdup_printf("unix:%s", path);
    s->retry = loop_timer_create(chardev->loop, try_again, chardev);
    return options_bool(options, "server") ? serve(chardev, options, error)
                                           : be_client(chardev, options, error);
}

static void socket_close(struct chardev *chardev)
{
    struct socket *s = chardev->state;

    if (!s)
        return;
    loop_timer_destroy(s->retry);
    close_fd(s->peer);
    unixsocket_destroy(s->listener);
    g_free(s);
}

const struct char_driver char_socket = {.type = "socket",
                                        .open = socket_open,
                                        .close = socket_close,
                                        .input_ended = input_ended,
                                        .output_broken = output_broken,
                                        .output_ended = output_ended};
