/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_server - a 9P2000.L file server over one shared directory: a request in, a reply out
 *
 * Knows messages and files, not how they travel: a message is a list of pieces to read and a list of
 * pieces to write, both possibly guest memory that changes under us. The header and the fixed fields
 * are copied once and then checked and used; the data of Tread and Twrite goes straight between the
 * pieces and the file.
 *
 * A fid names a file by its place: a node of a tree that mirrors what the guest has walked
 * (9p_node.c). Directories that are looked into keep an O_PATH descriptor from a bounded cache, files
 * none; both are found again through their parents, and must then be the same inode. So a guest may
 * hold many more fids than this process may hold descriptors. What the guest removes while it has fids
 * to it keeps a descriptor, and stays usable.
 *
 * Threads: p9_server_handle() may run on any number of threads at once, each with its own worker;
 * it blocks on file I/O. Tversion ends the session that was there: the caller sees to it that no
 * other request is under way. Tflush is answered at once: whoever orders requests (9p_pool.h) sees to
 * it that the flushed request is done.
 */
#ifndef VIRTIO_9P_SERVER_H
#define VIRTIO_9P_SERVER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "backends/fs/share.h"
#include "virtio/9p_wire.h"
#include "vmm/log.h"

#define P9_MIN_MSIZE 4096u
#define P9_MAX_MSIZE (1024u * 1024)

struct p9_server_config {
    struct share *share;     /* the server's from now on */
    const char *name;        /* for messages; outlives the server */
    struct log_limit *limit; /* of the device */
    /* 0: derived from RLIMIT_NOFILE, which is raised to its hard limit */
    unsigned max_fids;
    unsigned max_open;   /* descriptors of opened files */
    unsigned max_cached; /* descriptors of directories */
};

struct p9_server;
struct p9_worker;

struct p9_server *p9_server_create(const struct p9_server_config *config);
void p9_server_destroy(struct p9_server *server);
/* Ends the session: all fids are closed. No request under way. May block. */
void p9_server_reset(struct p9_server *server);

/* What a thread needs to handle requests: buffers. Freed with p9_worker_free. */
struct p9_worker *p9_worker_create(void);
void p9_worker_free(struct p9_worker *worker);

struct p9_message {
    const struct iovec *out; /* the request */
    const struct iovec *in;  /* room for the reply */
    unsigned out_count, in_count;
    size_t out_bytes, in_bytes;
    /* Taken by p9_message_begin(); not read again. */
    uint32_t size;
    uint8_t type;
    uint16_t tag;
    uint16_t oldtag; /* of Tflush */
};

/* Copies the header. -EBADMSG: there is none, or no room for an error reply. */
int p9_message_begin(struct p9_message *message);

/* Does what the message asks, and writes the reply: returns its size in bytes. */
size_t p9_server_handle(struct p9_server *server, struct p9_worker *worker,
                        struct p9_message *message);

/* The session as bytes, appended to @out; and back, replacing the one that is there. No request under
 * way. Loading opens files: it may block. On a bad stream nothing changes. */
void p9_server_save(struct p9_server *server, GByteArray *out);
bool p9_server_load(struct p9_server *server, const uint8_t *data, size_t size, GError **error);

/* After a load: is everything that the session had fids to as it was when it was saved? */
bool p9_server_is_unchanged(const struct p9_server *server);

struct p9_stats {
    unsigned fids, nodes, open, cached;
    unsigned max_fids, max_open, max_cached;
    uint32_t msize;
    uint64_t requests, errors;
};
void p9_server_get_stats(struct p9_server *server, struct p9_stats *stats); /* any thread */

#endif
