/* SPDX-License-Identifier: GPL-2.0-or-later */
/* unix_socket - opening UNIX sockets by options (backends/net/driver.h) */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/net/driver.h"

void net_unix_address(struct sockaddr_un *address, const char *path)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    g_strlcpy(address->sun_path, path, sizeof(address->sun_path));
}

const char *net_unix_path(const struct options *options, const char *key, GError **error)
{
    const char *path = options_string(options, key);
    size_t limit = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

    if (!path || !*path) {
        options_set_error(error, options, key, "is needed: the path of a UNIX socket");
        return NULL;
    }
    if (strlen(path) > limit) {
        options_set_error(error, options, key, "is longer than a UNIX socket's limit of %zu bytes",
                          limit);
        return NULL;
    }
    return path;
}

/* A socket file stays when its program dies; one that nobody answers at goes. */
static void remove_stale(const struct sockaddr_un *address, int type)
{
    struct stat status;
    int probe;

    if (lstat(address->sun_path, &status) || !S_ISSOCK(status.st_mode))
        return;
    probe = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return;
    if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) && errno == ECONNREFUSED)
        unlink(address->sun_path);
    close(probe);
}

static void explain_bind(const struct options *options, const char *key, const char *path, int code,
                         GError **error)
{
    struct stat status;

    if (code != EADDRINUSE)
        options_set_error(error, options, key, "%s", g_strerror(code));
    else if (!lstat(path, &status) && !S_ISSOCK(status.st_mode))
        options_set_error(error, options, key,
                          "is there and is not a socket; remove it or choose another path");
    else
        options_set_error(error, options, key,
                          "is in use by another program; end it or choose another path");
}

int net_unix_bind(const struct options *options, const char *key, int type, GError **error)
{
    const char *path = net_unix_path(options, key, error);
    struct sockaddr_un address;
    int fd;

    if (!path)
        return -1;
    net_unix_address(&address, path);
    remove_stale(&address, type);
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)))
        return fd;
    explain_bind(options, key, path, errno, error);
    if (fd >= 0)
        close(fd);
    return -1;
}

int net_unix_given(const struct options *options, int type, GError **error)
{
    int fd = options_uint(options, "fd"), found = 0;
    socklen_t size = sizeof(found);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &found, &size) || found != type) {
        options_set_error(error, options, "fd", "is not an open %s socket",
                          type == SOCK_STREAM ? "stream" : "datagram");
        return -1;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}
