/* SPDX-License-Identifier: GPL-2.0-or-later */
/* unixsocket - sockets with a name in the file system (unixsocket.h) */
#include "vmm/unixsocket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/fd.h"
#include "vmm/log.h"

#define RETRY_NS (INT64_C(1000) * 1000 * 1000)
#define BACKLOG  8

struct unixsocket {
    struct sockaddr_un address;
    int fd;
    dev_t dev; /* of the file we made */
    ino_t ino; /* 0: none */
    struct loop_fd *watch;
    struct loop_timer *retry;
    bool held;
    unixsocket_fn accepted;
    void *opaque;
};

G_DEFINE_QUARK(lodge - unixsocket - error - quark, unixsocket_error)

bool unixsocket_address(struct sockaddr_un *address, const char *path, GError **error)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    if (g_strlcpy(address->sun_path, path, sizeof(address->sun_path)) < sizeof(address->sun_path))
        return true;
    g_set_error(error, UNIXSOCKET_ERROR, UNIXSOCKET_ERROR_FAILED,
                "%zu bytes are too long for a UNIX socket, which has room for %zu bytes; use a "
                "shorter or a relative path",
                strlen(path), sizeof(address->sun_path) - 1);
    return false;
}

int unixsocket_connect(const struct sockaddr_un *address, int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        int result = -errno;

        close(fd);
        return result;
    }
    return fd < 0 ? -errno : fd;
}

/* ---- the file ---- */

static bool clear_path(const struct sockaddr_un *address, int type, GError **error)
{
    const char *path = address->sun_path;
    struct stat status;
    int fd;

    if (lstat(path, &status) < 0)
        return true; /* nothing there; bind has the last word */
    if (!S_ISSOCK(status.st_mode)) {
        g_set_error(error, UNIXSOCKET_ERROR, UNIXSOCKET_ERROR_FAILED,
                    "there is something that is not a socket; remove it or choose another path");
        return false;
    }
    fd = unixsocket_connect(address, type);
    if (fd == -ECONNREFUSED) {
        log_info("socket", "%s: replacing the socket of a process that is gone", path);
        unlink(path);
        return true;
    }
    close_fd(fd);
    g_set_error(error, UNIXSOCKET_ERROR, UNIXSOCKET_ERROR_SERVED,
                "another process serves this socket; stop it or choose another path");
    return false;
}

static bool bind_at(struct unixsocket *us, int type, mode_t mode, GError **error)
{
    const struct sockaddr *address = (const struct sockaddr *)&us->address;
    const char *path = us->address.sun_path;
    struct stat status;
    bool bound;

    us->fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bound = us->fd >= 0 && !bind(us->fd, address, sizeof(us->address));
    if (bound && !lstat(path, &status)) {
        us->dev = status.st_dev;
        us->ino = status.st_ino;
    }
    if (bound && (!mode || !chmod(path, mode)) && (type != SOCK_STREAM || !listen(us->fd, BACKLOG)))
        return true;
    g_set_error(error, UNIXSOCKET_ERROR, UNIXSOCKET_ERROR_FAILED, "%s%s", g_strerror(errno),
                errno == ENOENT ? "; create its folder first" : "");
    return false;
}

struct unixsocket *unixsocket_create(const char *path, int type, mode_t mode, GError **error)
{
    struct unixsocket *us = g_new0(struct unixsocket, 1);

    us->fd = -1;
    if (unixsocket_address(&us->address, path, error) && clear_path(&us->address, type, error) &&
        bind_at(us, type, mode, error))
        return us;
    unixsocket_destroy(us);
    return NULL;
}

void unixsocket_destroy(struct unixsocket *us)
{
    const char *path;
    struct stat status;

    if (!us)
        return;
    path = us->address.sun_path;
    unixsocket_unwatch(us);
    close_fd(us->fd);
    if (us->ino && !lstat(path, &status) && status.st_dev == us->dev && status.st_ino == us->ino)
        unlink(path);
    g_free(us);
}

int unixsocket_fd(const struct unixsocket *us)
{
    return us->fd;
}

/* ---- connections ---- */

static void try_again(void *opaque)
{
    struct unixsocket *us = opaque;

    loop_fd_set_events(us->watch, us->held ? 0 : G_IO_IN);
}

static void ready(void *opaque, GIOCondition condition)
{
    struct unixsocket *us = opaque;
    int fd = us->held ? -1 : accept4(us->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) {
        us->accepted(us->opaque, fd);
        return;
    }
    if (us->held || (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM))
        return;
    log_error("socket", "%s: no descriptor left for a client; raise 'ulimit -n'",
              us->address.sun_path);
    /* It stays in the queue and would wake us at once: look again later. */
    loop_fd_set_events(us->watch, 0);
    loop_timer_set(us->retry, loop_now_ns() + RETRY_NS);
}

void unixsocket_watch(struct unixsocket *us, struct loop *loop, unixsocket_fn accepted,
                      void *opaque)
{
    us->accepted = accepted;
    us->opaque = opaque;
    us->retry = loop_timer_create(loop, try_again, us);
    us->watch = loop_fd_create(loop, us->fd, us->held ? 0 : G_IO_IN, ready, us);
}

void unixsocket_unwatch(struct unixsocket *us)
{
    g_clear_pointer(&us->watch, loop_fd_destroy);
    g_clear_pointer(&us->retry, loop_timer_destroy);
}

void unixsocket_hold(struct unixsocket *us, bool held)
{
    us->held = held;
    if (us->watch)
        loop_fd_set_events(us->watch, held ? 0 : G_IO_IN);
}
