/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ninep - a client for tests of the 9P server: builds raw messages, cuts them into small pieces as a
 * driver might, and takes replies apart
 *
 * Fields of a request are given as a format: b w d q are integers of 1, 2, 4 and 8 bytes, s is a
 * string. rpc() returns the errno of Rlerror, or 0; the reply's body is then at client->body.
 */
#ifndef TESTS_UNIT_NINEP_H
#define TESTS_UNIT_NINEP_H

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "backends/fs/share.h"
#include "tests/unit/scratch.h"
#include "virtio/9p_server.h"

#define NINEP_BUFFER (256u * 1024)

struct client {
    struct p9_server *server;
    struct p9_worker *worker;
    struct log_limit limit;
    char *dir;
    size_t piece; /* bytes of a piece, 0: one piece */
    size_t room;  /* for the reply */
    struct p9_writer tx;
    struct p9_reader body; /* of the last reply */
    uint8_t tx_buffer[NINEP_BUFFER], rx_buffer[NINEP_BUFFER];
    struct iovec out[1024], in[1024];
};

static inline unsigned client_cut(uint8_t *buffer, size_t size, size_t piece, struct iovec *iov)
{
    unsigned count = 0;

    if (piece == 0 || size / piece >= 1000) {
        piece = size;
    }
    for (size_t at = 0; at < size; at += piece) {
        iov[count].iov_base = buffer + at;
        iov[count++].iov_len = MIN(piece, size - at);
    }
    return count;
}

/* Sends what is in tx_buffer. The reply's type is checked to be @type + 1 or Rlerror. */
static inline int client_send(struct client *client, size_t size)
{
    struct p9_message message = {
        .out = client->out,
        .in = client->in,
        .out_bytes = size,
        .in_bytes = client->room,
        .out_count = client_cut(client->tx_buffer, size, client->piece, client->out),
        .in_count = client_cut(client->rx_buffer, client->room, client->piece, client->in)};
    struct p9_reader reader = {.next = client->rx_buffer};
    uint8_t type;
    size_t got;
    int ret = p9_message_begin(&message);

    if (ret < 0) {
        return -ret;
    }
    memset(client->rx_buffer, 0xee, client->room);
    got = p9_server_handle(client->server, client->worker, &message);
    g_assert_cmpuint(got, >=, P9_HEADER_SIZE);
    g_assert_cmpuint(got, <=, client->room);
    reader.end = client->rx_buffer + got;
    g_assert_cmpuint(p9_read_u32(&reader), ==, got);
    type = p9_read_u8(&reader);
    g_assert_cmpuint(p9_read_u16(&reader), ==, message.tag);
    client->body = reader;
    if (type == P9_RLERROR) {
        uint32_t error = p9_read_u32(&reader);

        g_assert_cmpuint(got, ==, P9_RLERROR_SIZE);
        g_assert_cmpuint(error, >, 0);
        return error;
    }
    g_assert_cmpuint(type, ==, (uint8_t)(message.type + 1));
    return 0;
}

static inline void client_put(struct client *client, const char *format, va_list args)
{
    for (; *format; format++) {
        const char *string;

        switch (*format) {
        case 'b':
            p9_write_u8(&client->tx, va_arg(args, unsigned));
            break;
        case 'w':
            p9_write_u16(&client->tx, va_arg(args, unsigned));
            break;
        case 'd':
            p9_write_u32(&client->tx, va_arg(args, uint32_t));
            break;
        case 'q':
            p9_write_u64(&client->tx, va_arg(args, uint64_t));
            break;
        case 's':
            string = va_arg(args, const char *);
            p9_write_string(&client->tx, string, strlen(string));
            break;
        default:
            g_assert_not_reached();
        }
    }
}

/* Begins a message: header with its size to be set by client_end. */
static inline void client_begin(struct client *client, uint8_t type)
{
    client->tx = (struct p9_writer){client->tx_buffer, client->tx_buffer,
                                    client->tx_buffer + NINEP_BUFFER, false};
    p9_write_u32(&client->tx, 0);
    p9_write_u8(&client->tx, type);
    p9_write_u16(&client->tx, 17);
}

static inline size_t client_end(struct client *client)
{
    size_t size = p9_written(&client->tx);
    struct p9_writer header = {client->tx_buffer, client->tx_buffer, client->tx_buffer + 4, false};

    g_assert_false(client->tx.overflow);
    p9_write_u32(&header, size);
    return size;
}

static inline int rpc(struct client *client, uint8_t type, const char *format, ...)
{
    va_list args;

    client_begin(client, type);
    va_start(args, format);
    client_put(client, format, args);
    va_end(args);
    return client_send(client, client_end(client));
}

#define u32(value) ((uint32_t)(value))
#define u64(value) ((uint64_t)(value))

static inline int do_version(struct client *client, uint32_t msize)
{
    return rpc(client, P9_TVERSION, "ds", msize, "9P2000.L");
}

static inline int do_attach(struct client *client, uint32_t fid, uint32_t uid)
{
    return rpc(client, P9_TATTACH, "ddssd", fid, P9_NOFID, "root", "", uid);
}

/* Walks names separated by '/', as they are (".." included). The whole way, or -1 if it ended early. */
static inline int do_walk(struct client *client, uint32_t fid, uint32_t newfid, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);
    unsigned count = *path ? g_strv_length(names) : 0;
    int ret;

    client_begin(client, P9_TWALK);
    p9_write_u32(&client->tx, fid);
    p9_write_u32(&client->tx, newfid);
    p9_write_u16(&client->tx, count);
    for (unsigned i = 0; i < count; i++) {
        p9_write_string(&client->tx, names[i], strlen(names[i]));
    }
    ret = client_send(client, client_end(client));
    return ret ? ret : p9_read_u16(&client->body) == count ? 0 : -1;
}

static inline int do_clunk(struct client *client, uint32_t fid)
{
    return rpc(client, P9_TCLUNK, "d", fid);
}

static inline int do_lopen(struct client *client, uint32_t fid, uint32_t flags)
{
    return rpc(client, P9_TLOPEN, "dd", fid, flags);
}

/* The bytes read, at *data; or -errno. */
static inline ssize_t do_read(struct client *client, uint32_t fid, uint64_t offset, uint32_t count,
                              const uint8_t **data)
{
    int ret = rpc(client, P9_TREAD, "dqd", fid, offset, count);
    uint32_t size;

    *data = NULL;
    if (ret) {
        return -ret;
    }
    size = p9_read_u32(&client->body);
    g_assert_cmpuint(client->body.end - client->body.next, ==, size);
    g_assert_cmpuint(size, <=, count);
    *data = client->body.next;
    return size;
}

static inline ssize_t do_write(struct client *client, uint32_t fid, uint64_t offset,
                               const void *data, uint32_t count)
{
    int ret;

    client_begin(client, P9_TWRITE);
    p9_write_u32(&client->tx, fid);
    p9_write_u64(&client->tx, offset);
    p9_write_u32(&client->tx, count);
    g_assert_cmpuint(p9_room(&client->tx), >=, count);
    if (count) {
        memcpy(client->tx.next, data, count);
    }
    client->tx.next += count;
    ret = client_send(client, client_end(client));
    return ret ? -ret : (ssize_t)p9_read_u32(&client->body);
}

struct attributes {
    uint64_t valid;
    struct p9_qid qid;
    uint32_t mode, uid, gid;
    uint64_t nlink, rdev, size, block_size, blocks;
    uint64_t atime, atime_ns, mtime, mtime_ns;
};

static inline void read_qid(struct client *client, struct p9_qid *qid)
{
    qid->type = p9_read_u8(&client->body);
    qid->version = p9_read_u32(&client->body);
    qid->path = p9_read_u64(&client->body);
}

static inline int do_getattr(struct client *client, uint32_t fid, struct attributes *attr)
{
    int ret = rpc(client, P9_TGETATTR, "dq", fid, u64(P9_GETATTR_BASIC));

    memset(attr, 0, sizeof(*attr));
    if (ret) {
        return ret;
    }
    attr->valid = p9_read_u64(&client->body);
    read_qid(client, &attr->qid);
    attr->mode = p9_read_u32(&client->body);
    attr->uid = p9_read_u32(&client->body);
    attr->gid = p9_read_u32(&client->body);
    attr->nlink = p9_read_u64(&client->body);
    attr->rdev = p9_read_u64(&client->body);
    attr->size = p9_read_u64(&client->body);
    attr->block_size = p9_read_u64(&client->body);
    attr->blocks = p9_read_u64(&client->body);
    attr->atime = p9_read_u64(&client->body);
    attr->atime_ns = p9_read_u64(&client->body);
    attr->mtime = p9_read_u64(&client->body);
    attr->mtime_ns = p9_read_u64(&client->body);
    g_assert_cmpint(client->body.error, ==, 0);
    return 0;
}

static inline int do_setattr(struct client *client, uint32_t fid, uint32_t valid, uint32_t mode,
                             uint32_t uid, uint32_t gid, uint64_t size, uint64_t atime,
                             uint64_t mtime)
{
    return rpc(client, P9_TSETATTR, "dddddqqqqq", fid, valid, mode, uid, gid, size, atime, u64(0),
               mtime, u64(0));
}

static inline int do_lcreate(struct client *client, uint32_t fid, const char *name, uint32_t flags,
                             uint32_t mode, uint32_t gid)
{
    return rpc(client, P9_TLCREATE, "dsddd", fid, name, flags, mode, gid);
}

static inline int do_mkdir(struct client *client, uint32_t fid, const char *name, uint32_t mode)
{
    return rpc(client, P9_TMKDIR, "dsdd", fid, name, mode, u32(0));
}

/* Walks from the root (fid 0) and reads all of a small file; NULL with errno set. */
static inline char *slurp(struct client *client, const char *path)
{
    const uint8_t *data;
    char *text = NULL;
    ssize_t size;
    int ret = do_walk(client, 0, 999, path);

    if (ret == 0) {
        ret = do_lopen(client, 999, 0);
        if (ret == 0) {
            size = do_read(client, 999, 0, 4096, &data);
            ret = size < 0 ? -size : 0;
            text = size < 0 ? NULL : g_strndup((const char *)data, size);
        }
        g_assert_cmpint(do_clunk(client, 999), ==, 0);
    }
    errno = ret == -1 ? ENOENT : ret;
    return text;
}

struct client_config {
    const char *dir; /* NULL: one of its own */
    bool readonly;
    enum share_security security;
    unsigned max_fids, max_open, max_cached;
};

/* A server over a directory, with a session and the root as fid 0. */
static inline struct client *client_create(const struct client_config *config)
{
    struct client *client = g_new0(struct client, 1);
    struct share_config share_config = {.readonly = config->readonly, .security = config->security};
    struct p9_server_config server_config = {.name = "9p-test",
                                             .limit = &client->limit,
                                             .max_fids = config->max_fids,
                                             .max_open = config->max_open,
                                             .max_cached = config->max_cached};
    GError *error = NULL;

    client->dir = config->dir ? g_strdup(config->dir) : scratch_create();
    client->room = NINEP_BUFFER;
    client->piece = 4096;
    share_config.path = client->dir;
    server_config.share = share_open(&share_config, &error);
    g_assert_no_error(error);
    client->server = p9_server_create(&server_config);
    g_assert_nonnull(client->server);
    client->worker = p9_worker_create();
    g_assert_cmpint(do_version(client, 128 * 1024), ==, 0);
    g_assert_cmpint(do_attach(client, 0, 0), ==, 0);
    return client;
}

/* Another thread's way to the same server. */
static inline struct client *client_clone(struct client *client)
{
    struct client *clone = g_new0(struct client, 1);

    clone->server = client->server;
    clone->room = NINEP_BUFFER;
    clone->worker = p9_worker_create();
    return clone;
}

static inline void client_free_clone(struct client *clone)
{
    p9_worker_free(clone->worker);
    g_free(clone);
}

static inline void client_destroy(struct client *client, bool remove_dir)
{
    p9_server_destroy(client->server);
    p9_worker_free(client->worker);
    if (remove_dir) {
        scratch_remove(client->dir);
    }
    g_free(client->dir);
    g_free(client);
}

static inline unsigned count_descriptors(void)
{
    GDir *fds = g_dir_open("/proc/self/fd", 0, NULL);
    unsigned count = 0;

    while (g_dir_read_name(fds)) {
        count++;
    }
    g_dir_close(fds);
    return count;
}

#endif
