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
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/char/driver.h"
#include "vmm/log.h"

#define RETRY_NS (INT64_C(1000) * 1000 * 1000)
#define BACKLOG  4

struct socket {
    char *path;
    struct sockaddr_un address;
    int listener, peer; /* -1: none */
    struct loop_fd *listener_source;
    struct loop_timer *retry; /* client: connect again; server: listen again */
    dev_t dev;                /* of the file we made */
    ino_t ino;
};

static void drop_peer(struct chardev *chardev)
{
    struct socket *s = chardev->state;

    if (s->peer < 0)
        return;
    char_disconnect(chardev);
    close(s->peer);
    s->peer = -1;
    if (s->listener < 0)
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

static void accept_peer(void *opaque, GIOCondition ready)
{
    struct chardev *chardev = opaque;
    struct socket *s = chardev->state;
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE) {
            log_error("char", "%s: no descriptor left for a client; raise 'ulimit -n'", s->path);
            /* It stays in the queue and would wake us at once: look again later. */
            loop_fd_set_events(s->listener_source, 0);
            loop_timer_set(s->retry, loop_now_ns() + RETRY_NS);
        }
        return;
    }
    if (s->peer >= 0) {
        /* The one we have may have left already, with bytes that nobody read. */
        struct pollfd pollfd = {.fd = s->peer};
        if (poll(&pollfd, 1, 0) != 1 || !(pollfd.revents & POLLHUP)) {
            log_info("char", "%s: another client came and was sent away", s->path);
            close(fd);
            return;
        }
        drop_peer(chardev);
    }
    s->peer = fd;
    char_connect(chardev, fd, fd);
}

/* ---- opening ---- */

static int connect_to(const struct socket *s)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&s->address, sizeof(s->address)) < 0) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    return fd;
}

/* Makes way for our socket file: 0, or -errno with @error set. */
static bool clear_path(struct socket *s, const struct options *options, GError **error)
{
    struct stat st;
    int fd;

    if (lstat(s->path, &st) < 0)
        return true; /* nothing there; bind has the last word */
    if (!S_ISSOCK(st.st_mode)) {
        options_set_error(error, options, "path",
                          "there is something that is no socket; remove it or choose another path");
        return false;
    }
    fd = connect_to(s);
    if (fd >= 0 || fd == -EAGAIN) {
        if (fd >= 0)
            close(fd);
        options_set_error(error, options, "path",
                          "another process serves this socket; stop it or choose another path");
        return false;
    }
    if (fd == -ECONNREFUSED) {
        log_info("char", "%s: replacing the socket of a process that is gone", s->path);
        unlink(s->path);
    }
    return true;
}

static bool serve(struct chardev *chardev, const struct options *options, GError **error)
{
    struct socket *s = chardev->state;
    struct stat st;

    if (!clear_path(s, options, error))
        return false;
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listener < 0 ||
        bind(s->listener, (const struct sockaddr *)&s->address, sizeof(s->address)) < 0) {
        options_set_error(error, options, "path", "%s%s", g_strerror(errno),
                          errno == ENOENT ? "; create its folder first" : "");
        return false;
    }
    if (!lstat(s->path, &st)) {
        s->dev = st.st_dev;
        s->ino = st.st_ino;
    }
    if (listen(s->listener, BACKLOG) < 0) {
        options_set_error(error, options, "path", "%s", g_strerror(errno));
        return false;
    }
    s->listener_source = loop_fd_create(chardev->loop, s->listener, G_IO_IN, accept_peer, chardev);
    return true;
}

static void try_again(void *opaque)
{
    struct chardev *chardev = opaque;
    struct socket *s = chardev->state;
    int fd;

    if (s->listener >= 0) {
        loop_fd_set_events(s->listener_source, G_IO_IN);
        return;
    }
    fd = connect_to(s);
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
    int fd = connect_to(s);

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

    chardev->state = s;
    s->listener = s->peer = -1;
    s->path = g_strdup(path);
    s->address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(s->address.sun_path)) {
        options_set_error(error, options, "path",
                          "%zu bytes are too long for a UNIX socket, which has room for %zu; use a "
                          "shorter or a relative path",
                          strlen(path), sizeof(s->address.sun_path) - 1);
        return false;
    }
    g_strlcpy(s->address.sun_path, path, sizeof(s->address.sun_path));
    chardev->address = g_strdup_printf("unix:%s", path);
    s->retry = loop_timer_create(chardev->loop, try_again, chardev);
    return options_bool(options, "server") ? serve(chardev, options, error)
                                           : be_client(chardev, options, error);
}

static void socket_close(struct chardev *chardev)
{
    struct socket *s = chardev->state;
    struct stat st;

    if (!s)
        return;
    loop_timer_destroy(s->retry);
    loop_fd_destroy(s->listener_source);
    if (s->peer >= 0)
        close(s->peer);
    if (s->listener >= 0)
        close(s->listener);
    if (s->ino && !lstat(s->path, &st) && st.st_dev == s->dev && st.st_ino == s->ino)
        unlink(s->path);
    g_free(s->path);
    g_free(s);
}

const struct char_driver char_socket = {.type = "socket",
                                        .open = socket_open,
                                        .close = socket_close,
                                        .input_ended = input_ended,
                                        .output_broken = output_broken,
                                        .output_ended = output_ended};
