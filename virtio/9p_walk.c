/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_walk - Tversion, Tauth, Tattach, Twalk, Tclunk, Tflush: sessions and fids
 */
#include "virtio/9p_internal.h"

#include <errno.h>
#include <string.h>

#include "vmm/trace.h"

TRACE_EVENT(p9_version, "%s msize=%u version=%s",
            (const char *name, unsigned msize, const char *version), name, msize, version)
TRACE_EVENT(p9_attach, "%s fid=%u uid=%u aname=%s",
            (const char *name, unsigned fid, unsigned uid, const char *aname), name, fid, uid,
            aname)
TRACE_EVENT(p9_walk, "%s fid=%u newfid=%u names=%u first=%s",
            (const char *name, unsigned fid, unsigned newfid, unsigned names, const char *first),
            name, fid, newfid, names, first)
TRACE_EVENT(p9_clunk, "%s fid=%u", (const char *name, unsigned fid), name, fid)
TRACE_EVENT(p9_flush, "%s oldtag=%u", (const char *name, unsigned oldtag), name, oldtag)

#define VERSION            "9P2000.L"
#define MAX_VERSION_LENGTH 64
#define MAX_ATTACH_NAME    4095

int p9_do_version(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t msize = p9_read_u32(&call->reader);
    const char *version = p9_read_string(&call->reader, MAX_VERSION_LENGTH, NULL);
    bool known = strcmp(version, VERSION) == 0;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_version(server->name, msize, version);
    if (msize < P9_MIN_MSIZE) {
        return -EMSGSIZE;
    }
    msize = MIN(msize, P9_MAX_MSIZE);
    p9_server_reset(server);
    __atomic_store_n(&server->msize, known ? msize : 0, __ATOMIC_RELAXED);
    p9_write_u32(&call->writer, msize);
    version = known ? VERSION : "unknown";
    p9_write_string(&call->writer, version, strlen(version));
    return 0;
}

int p9_do_auth(struct p9_call *call)
{
    return -EOPNOTSUPP; /* none needed: the client attaches without */
}

int p9_do_flush(struct p9_call *call)
{
    uint16_t oldtag = p9_read_u16(&call->reader);

    trace_p9_flush(call->server->name, oldtag);
    return call->reader.error;
}

/* One step of a walk: @name from *@node, which becomes what it leads to. names held. */
static int step(struct p9_server *server, struct p9_node **node, const char *name,
                struct p9_qid *qid)
{
    struct p9_node *next;
    struct statx stat;
    int ret;

    if (strcmp(name, "..") == 0 || strcmp(name, ".") == 0) {
        if (!S_ISDIR((*node)->mode)) {
            return -ENOTDIR;
        }
        /* The root is its own parent. No other directory of the host is ever asked for its "..". */
        next = name[1] == '.' && (*node)->parent ? (*node)->parent : *node;
        p9_node_ref(server, next);
        ret = p9_node_stat(server, next, &stat);
        if (ret < 0) {
            p9_node_unref(server, next);
        }
    } else {
        ret = p9_node_walk(server, *node, name, &stat, &next);
    }
    if (ret < 0) {
        return ret;
    }
    p9_node_unref(server, *node);
    *node = next;
    return p9_qid_make(server, &stat, qid);
}

/* Follows @aname from the root: a path without "..". */
static int walk_attach(struct p9_server *server, const char *aname, struct p9_node **node,
                       struct p9_qid *qid)
{
    struct statx stat;
    int ret = p9_node_stat(server, *node, &stat);

    if (ret == 0) {
        ret = p9_qid_make(server, &stat, qid);
    }
    while (ret == 0 && *aname) {
        char name[NAME_MAX + 1];
        size_t length = strcspn(aname, "/");

        if (length > NAME_MAX) {
            return -ENAMETOOLONG;
        }
        memcpy(name, aname, length);
        name[length] = '\0';
        if (length > 0) {
            ret = strcmp(name, "..") == 0 ? -EACCES : step(server, node, name, qid);
        }
        aname += length + (aname[length] == '/');
    }
    return ret == 0 && !S_ISDIR((*node)->mode) ? -ENOTDIR : ret;
}

int p9_do_attach(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    uint32_t afid = p9_read_u32(&call->reader);
    const char *aname, *uname = p9_read_string(&call->reader, MAX_ATTACH_NAME, NULL);
    struct p9_node *node;
    struct p9_qid qid = {0};
    uint32_t uid;
    int ret;

    (void)uname; /* the number counts */
    aname = p9_read_string(&call->reader, MAX_ATTACH_NAME, NULL);
    uid = p9_read_u32(&call->reader);
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_attach(server->name, number, uid, aname);
    if (afid != P9_NOFID) {
        return -EOPNOTSUPP;
    }
    node = p9_node_ref(server, server->root);
    pthread_rwlock_rdlock(&server->names);
    ret = walk_attach(server, aname, &node, &qid);
    pthread_rwlock_unlock(&server->names);
    if (ret == 0) {
        ret = p9_fid_add(server, number, uid, node, NULL);
    }
    p9_node_unref(server, node);
    p9_write_qid(&call->writer, &qid);
    return ret;
}

/* Makes @newfid stand for @node, where the whole walk has led. */
static int walk_end(struct p9_server *server, struct p9_use *use, uint32_t newfid,
                    struct p9_node *node)
{
    if (newfid == use->fid->number) {
        return p9_fid_move(server, use->fid, node);
    }
    return p9_fid_add(server, newfid, use->fid->uid, node, NULL);
}

static int walk(struct p9_call *call, struct p9_use *use, uint32_t newfid, unsigned count,
                char *const *names)
{
    struct p9_server *server = call->server;
    struct p9_node *node = p9_node_ref(server, use->node);
    struct p9_qid qid;
    unsigned done = 0;
    int ret = 0;

    p9_write_u16(&call->writer, 0); /* filled in below */
    pthread_rwlock_rdlock(&server->names);
    while (done < count) {
        ret = step(server, &node, names[done], &qid);
        if (ret < 0) {
            break;
        }
        p9_write_qid(&call->writer, &qid);
        done++;
    }
    pthread_rwlock_unlock(&server->names);
    if (done == count) {
        ret = walk_end(server, use, newfid, node);
    } else if (done > 0) {
        ret = 0; /* a walk that ends early says how far it came, and makes no fid */
    }
    p9_node_unref(server, node);
    call->writer.start[0] = done;
    return ret;
}

int p9_do_walk(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    uint32_t newfid = p9_read_u32(&call->reader);
    uint16_t count = p9_read_u16(&call->reader);
    char *names[P9_MAX_WALK];
    struct p9_use use;
    int ret;

    if (count > P9_MAX_WALK) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < count; i++) {
        size_t length;

        names[i] = (char *)p9_read_string(&call->reader, NAME_MAX, &length);
        if (length == 0 || strchr(names[i], '/')) {
            call->reader.error = call->reader.error ? call->reader.error : -EINVAL;
        }
    }
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_walk(server->name, number, newfid, count, count ? names[0] : "");
    if (P9_HEADER_SIZE + 2 + count * P9_QID_SIZE > call->room) {
        return -EMSGSIZE;
    }
    ret = p9_use_get(server, number, &use);
    if (ret == 0) {
        ret = walk(call, &use, newfid, count, names);
        p9_use_put(server, &use);
    }
    return ret;
}

int p9_do_clunk(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    struct p9_use use;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_clunk(server->name, number);
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    if (use.xattr && use.xattr->writing) {
        ret = p9_xattr_commit(server, &use);
    }
    p9_fid_remove(server, use.fid);
    p9_use_put(server, &use);
    return ret;
}
