/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_server - the life of a session, and which message goes where (9p_server.h)
 *
 * Every message is answered: with its reply, or with Rlerror and an errno of Linux. A message that is
 * malformed gets EPROTO (too short), EINVAL or ENAMETOOLONG (bad strings), EMSGSIZE (larger than
 * agreed, or no room for the reply), and is logged; one that this server does not know, EOPNOTSUPP.
 */
#include "virtio/9p_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "vmm/iov.h"
#include "vmm/trace.h"

TRACE_EVENT(p9_request, "%s %s tag=%u size=%u",
            (const char *name, const char *type, unsigned tag, unsigned size), name, type, tag,
            size)
TRACE_EVENT(p9_reply, "%s %s tag=%u size=%zu error=%d",
            (const char *name, const char *type, unsigned tag, size_t size, int error), name, type,
            tag, size, error)

#define DEFAULT_MAX_FIDS (1024u * 1024)
#define MIN_DESCRIPTORS  64u
#define MAX_DESCRIPTORS  65536u

struct message_type {
    p9_handler handler;
    unsigned reply; /* bytes of the largest reply, but for those that carry data */
};

#define Q P9_QID_SIZE
#define H P9_HEADER_SIZE
static const struct message_type message_types[128] = {
    [P9_TSTATFS] = {p9_do_statfs, H + 60},
    [P9_TLOPEN] = {p9_do_lopen, H + Q + 4},
    [P9_TLCREATE] = {p9_do_lcreate, H + Q + 4},
    [P9_TSYMLINK] = {p9_do_symlink, H + Q},
    [P9_TMKNOD] = {p9_do_mknod, H + Q},
    [P9_TRENAME] = {p9_do_rename, H},
    [P9_TREADLINK] = {p9_do_readlink, H + 2},
    [P9_TGETATTR] = {p9_do_getattr, H + 8 + Q + 132},
    [P9_TSETATTR] = {p9_do_setattr, H},
    [P9_TXATTRWALK] = {p9_do_xattrwalk, H + 8},
    [P9_TXATTRCREATE] = {p9_do_xattrcreate, H},
    [P9_TREADDIR] = {p9_do_readdir, H + 4},
    [P9_TFSYNC] = {p9_do_fsync, H},
    [P9_TLOCK] = {p9_do_lock, H + 1},
    [P9_TGETLOCK] = {p9_do_getlock, H + 1 + 8 + 8 + 4 + 2},
    [P9_TLINK] = {p9_do_link, H},
    [P9_TMKDIR] = {p9_do_mkdir, H + Q},
    [P9_TRENAMEAT] = {p9_do_renameat, H},
    [P9_TUNLINKAT] = {p9_do_unlinkat, H},
    [P9_TVERSION] = {p9_do_version, H + 4 + 2 + 8},
    [P9_TAUTH] = {p9_do_auth, H},
    [P9_TATTACH] = {p9_do_attach, H + Q},
    [P9_TFLUSH] = {p9_do_flush, H},
    [P9_TWALK] = {p9_do_walk, H + 2},
    [P9_TREAD] = {p9_do_read, H + 4},
    [P9_TWRITE] = {p9_do_write, H + 4},
    [P9_TCLUNK] = {p9_do_clunk, H},
    [P9_TREMOVE] = {p9_do_remove, H},
};
#undef Q
#undef H

/* ---- create and destroy ---- */

/* How many descriptors this server may use: a quarter of what the process may have. */
static unsigned descriptor_budget(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return MIN_DESCRIPTORS;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};

        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit = raised;
        }
    }
    return CLAMP(limit.rlim_cur / 4, MIN_DESCRIPTORS, MAX_DESCRIPTORS);
}

struct p9_server *p9_server_create(const struct p9_server_config *config)
{
    struct p9_server *server = g_new0(struct p9_server, 1);
    unsigned budget = descriptor_budget();
    pthread_rwlockattr_t attr;

    server->share = config->share;
    server->name = config->name;
    server->limit = config->limit;
    server->max_fids = config->max_fids ? config->max_fids : DEFAULT_MAX_FIDS;
    server->max_nodes = 2 * server->max_fids + P9_MAX_WALK;
    server->max_cached = config->max_cached ? config->max_cached : MIN(budget / 4, 1024);
    server->max_open = config->max_open ? config->max_open : budget - budget / 4;
    pthread_mutex_init(&server->lock, NULL);
    /* Renames must not starve behind a stream of lookups. No thread takes it twice. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&server->names, &attr);
    pthread_rwlockattr_destroy(&attr);
    p9_locks_init(server);
    p9_fids_init(server);
    if (p9_nodes_init(server) < 0) { /* the root can't be looked at any more */
        p9_server_destroy(server);
        return NULL;
    }
    return server;
}

void p9_server_reset(struct p9_server *server)
{
    __atomic_store_n(&server->msize, 0, __ATOMIC_RELAXED);
    p9_fids_clear(server);
    p9_locks_clear(server);
}

void p9_server_destroy(struct p9_server *server)
{
    if (!server) {
        return;
    }
    p9_fids_finish(server);
    p9_locks_finish(server);
    p9_nodes_finish(server);
    share_close(server->share);
    pthread_rwlock_destroy(&server->names);
    pthread_mutex_destroy(&server->lock);
    g_free(server);
}

struct p9_worker *p9_worker_create(void)
{
    return g_malloc(sizeof(struct p9_worker)); /* pages are touched when used */
}

void p9_worker_free(struct p9_worker *worker)
{
    g_free(worker);
}

void p9_server_get_stats(struct p9_server *server, struct p9_stats *stats)
{
    pthread_mutex_lock(&server->lock);
    stats->fids = server->fid_count;
    stats->nodes = server->node_count;
    stats->open = server->open_count;
    stats->cached = server->cached_count;
    pthread_mutex_unlock(&server->lock);
    stats->max_fids = server->max_fids;
    stats->max_open = server->max_open;
    stats->max_cached = server->max_cached;
    stats->msize = __atomic_load_n(&server->msize, __ATOMIC_RELAXED);
    stats->requests = __atomic_load_n(&server->requests, __ATOMIC_RELAXED);
    stats->errors = __atomic_load_n(&server->errors, __ATOMIC_RELAXED);
}

/* ---- messages ---- */

int p9_message_begin(struct p9_message *message)
{
    uint8_t header[P9_HEADER_SIZE + 2] = {0};
    size_t size = iov_read(message->out, message->out_count, 0, header, sizeof(header));
    struct p9_reader reader = {.next = header, .end = header + size};

    message->size = p9_read_u32(&reader);
    message->type = p9_read_u8(&reader);
    message->tag = p9_read_u16(&reader);
    if (reader.error || message->in_bytes < P9_RLERROR_SIZE) {
        return -EBADMSG;
    }
    message->oldtag = p9_read_u16(&reader);
    return 0;
}

/* Copies the part of the message that is not file data. */
static int copy_request(struct p9_call *call)
{
    struct p9_message *message = call->message;
    uint32_t msize = __atomic_load_n(&call->server->msize, __ATOMIC_RELAXED);
    size_t wanted = message->size - P9_HEADER_SIZE;

    if (message->size < P9_HEADER_SIZE || message->size > message->out_bytes) {
        return -EPROTO;
    }
    if (msize == 0 && message->type != P9_TVERSION && message->type != P9_TFLUSH) {
        return -EPROTO; /* no session yet */
    }
    if (msize != 0 && message->size > msize) {
        return -EMSGSIZE;
    }
    if (message->type == P9_TWRITE) {
        wanted = MIN(wanted, 4 + 8 + 4);
    }
    if (wanted > sizeof(call->worker->request)) {
        return -EMSGSIZE;
    }
    wanted =
        iov_read(message->out, message->out_count, P9_HEADER_SIZE, call->worker->request, wanted);
    call->reader.next = call->worker->request;
    call->reader.end = call->worker->request + wanted;
    return 0;
}

static int handle(struct p9_call *call)
{
    struct p9_message *message = call->message;
    const struct message_type *type;
    int ret = copy_request(call);

    if (ret < 0) {
        log_guest(call->server->limit, call->server->name, "malformed %s of %u bytes",
                  p9_type_name(message->type), message->size);
        return ret;
    }
    type = message->type < G_N_ELEMENTS(message_types) ? &message_types[message->type] : NULL;
    if (!type || !type->handler) {
        return -EOPNOTSUPP;
    }
    if (type->reply > call->room) {
        return -EMSGSIZE;
    }
    ret = type->handler(call);
    if (call->reader.error) {
        log_guest(call->server->limit, call->server->name, "malformed %s: %s",
                  p9_type_name(message->type), g_strerror(-call->reader.error));
        return call->reader.error;
    }
    return ret < 0 ? ret : call->writer.overflow ? -EMSGSIZE : 0;
}

size_t p9_server_handle(struct p9_server *server, struct p9_worker *worker,
                        struct p9_message *message)
{
    struct p9_call call = {.server = server, .worker = worker, .message = message};
    uint32_t msize = __atomic_load_n(&server->msize, __ATOMIC_RELAXED);
    struct p9_writer header;
    size_t body, size;
    int ret;

    trace_p9_request(server->name, p9_type_name(message->type), message->tag, message->size);
    call.room = MIN(message->in_bytes, msize ? msize : P9_MIN_MSIZE);
    call.writer.start = worker->reply + P9_HEADER_SIZE;
    call.writer.next = call.writer.start;
    call.writer.end = worker->reply + MIN(call.room, sizeof(worker->reply));
    ret = handle(&call);
    if (ret < 0) {
        call.writer.next = call.writer.start;
        call.writer.overflow = false;
        call.direct = 0;
        p9_write_u32(&call.writer, -ret);
        __atomic_fetch_add(&server->errors, 1, __ATOMIC_RELAXED);
    }
    body = P9_HEADER_SIZE + p9_written(&call.writer);
    size = body + call.direct;
    header =
        (struct p9_writer){worker->reply, worker->reply, worker->reply + P9_HEADER_SIZE, false};
    p9_write_u32(&header, size);
    p9_write_u8(&header, ret < 0 ? P9_RLERROR : message->type + 1);
    p9_write_u16(&header, message->tag);
    iov_write(message->in, message->in_count, 0, worker->reply, body);
    __atomic_fetch_add(&server->requests, 1, __ATOMIC_RELAXED);
    trace_p9_reply(server->name, p9_type_name(message->type), message->tag, size, -ret);
    return size;
}
