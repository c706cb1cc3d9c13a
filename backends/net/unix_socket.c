/* SPDX-License-Identifier: GPL-2.0-or-later */
/* unix_socket - opening UNIX sockets by options (backends/net/driver.h) */
#include <fcntl.h>
#include <sys/socket.h>

#include "backends/net/driver.h"

bool net_unix_address(struct sockaddr_un *address, const struct options *options, const char *key,
                      GError **error)
{
    const char *path = options_string(options, key);
    g_autoptr(GError) reason = NULL;

    if (!path || !*path) {
        options_set_error(error, options, key, "is needed: the path of a UNIX socket");
        return false;
    }
    if (unixsocket_address(address, path, &reason))
        return true;
    options_set_error(error, options, key, "%s", reason->message);
    return false;
}

struct unixsocket *net_unix_bind(const struct options *options, const char *key, int type,
                                 GError **error)
{
    struct sockaddr_un address;
    struct unixsocket *us;
    g_autoptr(GError) reason = NULL;

    if (!net_unix_address(&address, options, key, error))
        return NULL;
    us = unixsocket_create(address.sun_path, type, 0, &reason);
    if (!us)
        options_set_error(error, options, key, "%s", reason->message);
    return us;
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
