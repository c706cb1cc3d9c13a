/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unixsocket - UNIX sockets that have a name in the file system
 *
 * A socket file stays when its process dies: one that nobody serves any more is replaced, one that is
 * served and anything that is no socket are left alone. Ours goes away with us, unless something else
 * has taken its place.
 *
 * Errors are reasons for options_set_error(): what is wrong with the path and what to do, without the
 * path itself.
 *
 * Thread: the caller's; unixsocket_watch and what follows it: the loop's.
 */
#ifndef VMM_UNIXSOCKET_H
#define VMM_UNIXSOCKET_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#include "vmm/loop.h"

#define UNIXSOCKET_ERROR unixsocket_error_quark()
GQuark unixsocket_error_quark(void);
enum unixsocket_error {
    UNIXSOCKET_ERROR_FAILED,
    UNIXSOCKET_ERROR_SERVED, /* another process serves it */
};

/* False with @error set when @path is too long for a socket's address. */
bool unixsocket_address(struct sockaddr_un *address, const char *path, GError **error);

/* A new socket of @type (SOCK_STREAM, SOCK_DGRAM), non-blocking, connected to @address; or -errno. */
int unixsocket_connect(const struct sockaddr_un *address, int type);

struct unixsocket;

/* A new socket of @type bound at @path, whose file gets @mode (0: what the umask leaves); a stream socket listens. NULL with
 * @error set. */
struct unixsocket *unixsocket_create(const char *path, int type, mode_t mode, GError **error);
void unixsocket_destroy(struct unixsocket *us); /* NULL is allowed */
int unixsocket_fd(const struct unixsocket *us);

/*
 * Calls @accepted with each new connection (non-blocking, close-on-exec), which it then owns. While no
 * descriptor is left for one, that is logged and tried again every second.
 */
typedef void (*unixsocket_fn)(void *opaque, int fd);
void unixsocket_watch(struct unixsocket *us, struct loop *loop, unixsocket_fn accepted,
                      void *opaque);
void unixsocket_unwatch(struct unixsocket *us);         /* also when it is not watched */
void unixsocket_hold(struct unixsocket *us, bool held); /* held: connections wait in the queue */

#endif
