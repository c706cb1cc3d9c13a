/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_attr - Tgetattr, Tsetattr, Tstatfs, Txattrwalk, Txattrcreate: what is known of a file
 */
#include "virtio/9p_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "vmm/trace.h"

TRACE_EVENT(p9_getattr, "%s fid=%u mask=%#llx",
            (const char *name, unsigned fid, unsigned long long mask), name, fid, mask)
TRACE_EVENT(p9_setattr, "%s fid=%u valid=%#x mode=%o uid=%u gid=%u size=%llu",
            (const char *name, unsigned fid, unsigned valid, unsigned mode, unsigned uid,
             unsigned gid, unsigned long long size),
            name, fid, valid, mode, uid, gid, size)
TRACE_EVENT(p9_statfs, "%s fid=%u", (const char *name, unsigned fid), name, fid)
TRACE_EVENT(p9_xattrwalk, "%s fid=%u newfid=%u name=%s",
            (const char *name, unsigned fid, unsigned newfid, const char *attribute), name, fid,
            newfid, attribute)
TRACE_EVENT(p9_xattrcreate, "%s fid=%u name=%s size=%llu flags=%#x",
            (const char *name, unsigned fid, const char *attribute, unsigned long long size,
             unsigned flags),
            name, fid, attribute, size, flags)

#define V9FS_MAGIC 0x01021997u
#define PAGE       4096u

/* Attributes of a fid: from its open file if it has one, so that they are there when its name is not. */
static int use_stat(struct p9_server *server, const struct p9_use *use, struct statx *stat)
{
    int ret;

    if (p9_use_file(use)) {
        return share_stat(server->share, use->open->fd, NULL, stat);
    }
    pthread_rwlock_rdlock(&server->names);
    ret = p9_node_stat(server, use->node, stat);
    pthread_rwlock_unlock(&server->names);
    return ret;
}

/* A descriptor of what the fid stands for. */
static int use_handle(struct p9_server *server, const struct p9_use *use, struct p9_handle *handle)
{
    int ret;

    pthread_rwlock_rdlock(&server->names);
    ret = p9_node_handle(server, use->node, handle);
    pthread_rwlock_unlock(&server->names);
    return ret;
}

/* ---- Tgetattr ---- */

static void write_time(struct p9_writer *writer, const struct statx_timestamp *time)
{
    p9_write_u64(writer, time->tv_sec);
    p9_write_u64(writer, time->tv_nsec);
}

static int write_attributes(struct p9_call *call, const struct statx *stat)
{
    uint32_t msize = __atomic_load_n(&call->server->msize, __ATOMIC_RELAXED);
    static const struct statx_timestamp none;
    bool has_birth = stat->stx_mask & STATX_BTIME;
    struct p9_writer *writer = &call->writer;
    struct p9_qid qid;
    int ret = p9_qid_make(call->server, stat, &qid);

    if (ret < 0) {
        return ret;
    }
    p9_write_u64(writer, P9_GETATTR_BASIC | (has_birth ? P9_GETATTR_BTIME : 0));
    p9_write_qid(writer, &qid);
    p9_write_u32(writer, stat->stx_mode);
    p9_write_u32(writer, stat->stx_uid);
    p9_write_u32(writer, stat->stx_gid);
    p9_write_u64(writer, stat->stx_nlink);
    p9_write_u64(writer, makedev(stat->stx_rdev_major, stat->stx_rdev_minor));
    p9_write_u64(writer, stat->stx_size);
    /* What programs take as the best size of a read or write: one message of whole pages. */
    p9_write_u64(writer, msize < 2 * PAGE ? PAGE : (msize - P9_IO_HEADER) / PAGE * PAGE);
    p9_write_u64(writer, stat->stx_blocks);
    write_time(writer, &stat->stx_atime);
    write_time(writer, &stat->stx_mtime);
    write_time(writer, &stat->stx_ctime);
    write_time(writer, has_birth ? &stat->stx_btime : &none);
    p9_write_u64(writer, 0); /* generation and data version: not known, not valid */
    p9_write_u64(writer, 0);
    return 0;
}

int p9_do_getattr(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    uint64_t mask = p9_read_u64(&call->reader);
    struct p9_use use;
    struct statx stat;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_getattr(server->name, number, mask);
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    ret = use_stat(server, &use, &stat);
    if (ret == 0) {
        ret = write_attributes(call, &stat);
    }
    p9_use_put(server, &use);
    return ret;
}

/* ---- Tsetattr ---- */

struct attributes {
    uint32_t valid, mode, uid, gid;
    uint64_t size;
    struct timespec times[2];
};

static void read_time(struct p9_call *call, struct timespec *time, bool valid, bool given)
{
    time->tv_sec = p9_read_u64(&call->reader);
    time->tv_nsec = p9_read_u64(&call->reader);
    if (!valid) {
        time->tv_sec = 0;
        time->tv_nsec = UTIME_OMIT;
    } else if (!given) {
        time->tv_sec = 0;
        time->tv_nsec = UTIME_NOW;
    } else if (time->tv_nsec < 0 || time->tv_nsec > 999999999) {
        call->reader.error = call->reader.error ? call->reader.error : -EINVAL;
    }
}

/* Size first (it touches the times), then owner (it clears set-id bits), mode, and times last. */
static int apply(struct p9_server *server, const struct p9_use *use, int fd,
                 const struct attributes *want)
{
    uint32_t valid = want->valid;
    int ret = 0;

    if (valid & P9_SETATTR_SIZE) {
        ret = share_set_size(server->share, p9_use_file(use) ? use->open->fd : fd, want->size);
    }
    if (ret == 0 && valid & (P9_SETATTR_UID | P9_SETATTR_GID)) {
        ret = share_set_owner(server->share, fd, valid & P9_SETATTR_UID ? want->uid : (uid_t)-1,
                              valid & P9_SETATTR_GID ? want->gid : (gid_t)-1);
    }
    if (ret == 0 && valid & P9_SETATTR_MODE) {
        ret = share_set_mode(server->share, fd, want->mode);
    }
    if (ret == 0 && valid & (P9_SETATTR_ATIME | P9_SETATTR_MTIME)) {
        ret = share_set_times(server->share, fd, want->times);
    } else if (ret == 0 && valid == P9_SETATTR_CTIME) {
        ret = share_set_owner(server->share, fd, (uid_t)-1, (gid_t)-1); /* touches it */
    }
    return ret;
}

int p9_do_setattr(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    struct attributes want;
    struct p9_handle handle;
    struct p9_use use;
    int ret;

    want.valid = p9_read_u32(&call->reader);
    want.mode = p9_read_u32(&call->reader);
    want.uid = p9_read_u32(&call->reader);
    want.gid = p9_read_u32(&call->reader);
    want.size = p9_read_u64(&call->reader);
    read_time(call, &want.times[0], want.valid & P9_SETATTR_ATIME,
              want.valid & P9_SETATTR_ATIME_SET);
    read_time(call, &want.times[1], want.valid & P9_SETATTR_MTIME,
              want.valid & P9_SETATTR_MTIME_SET);
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_setattr(server->name, number, want.valid, want.mode, want.uid, want.gid, want.size);
    if (share_is_readonly(server->share)) {
        return -EROFS;
    }
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    if (p9_use_file(&use)) {
        ret = apply(server, &use, use.open->fd, &want);
    } else {
        ret = use_handle(server, &use, &handle);
        if (ret == 0) {
            ret = apply(server, &use, handle.fd, &want);
            p9_handle_close(server, &handle);
        }
    }
    p9_use_put(server, &use);
    return ret;
}

/* ---- Tstatfs ---- */

int p9_do_statfs(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    struct p9_writer *writer = &call->writer;
    struct p9_handle handle;
    struct statfs statfs;
    struct p9_use use;
    uint64_t fsid;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_statfs(server->name, number);
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    if (p9_use_file(&use)) {
        ret = share_statfs(server->share, use.open->fd, &statfs);
    } else {
        ret = use_handle(server, &use, &handle);
        if (ret == 0) {
            ret = share_statfs(server->share, handle.fd, &statfs);
            p9_handle_close(server, &handle);
        }
    }
    p9_use_put(server, &use);
    if (ret < 0) {
        return ret;
    }
    G_STATIC_ASSERT(sizeof(statfs.f_fsid) == sizeof(fsid));
    memcpy(&fsid, &statfs.f_fsid, sizeof(fsid));
    p9_write_u32(writer, V9FS_MAGIC);
    p9_write_u32(writer, statfs.f_bsize);
    p9_write_u64(writer, statfs.f_blocks);
    p9_write_u64(writer, statfs.f_bfree);
    p9_write_u64(writer, statfs.f_bavail);
    p9_write_u64(writer, statfs.f_files);
    p9_write_u64(writer, statfs.f_ffree);
    p9_write_u64(writer, fsid);
    p9_write_u32(writer, NAME_MAX);
    return 0;
}

/* ---- extended attributes ---- */

/* Reads the attribute (or the list of names, if @name is empty) into a buffer of its own. */
static int load_xattr(struct p9_server *server, int fd, const char *name, struct p9_xattr **xattr)
{
    const char *wanted = *name ? name : NULL;
    ssize_t size = share_get_xattr(server->share, fd, wanted, NULL, 0);
    int ret;

    if (size < 0) {
        return size;
    }
    ret = p9_xattr_create(server, name, size, xattr);
    if (ret < 0) {
        return ret;
    }
    if (size > 0) {
        size = share_get_xattr(server->share, fd, wanted, (*xattr)->value, size);
    }
    if (size < 0) { /* it grew, or went away, meanwhile */
        p9_xattr_free(server, *xattr);
        *xattr = NULL;
        return size;
    }
    (*xattr)->filled = size;
    return 0;
}

static int xattr_walk(struct p9_call *call, const struct p9_use *use, uint32_t newfid,
                      const char *name)
{
    struct p9_server *server = call->server;
    struct p9_xattr *xattr = NULL;
    struct p9_handle handle;
    int ret;

    if (p9_use_file(use)) {
        ret = load_xattr(server, use->open->fd, name, &xattr);
    } else {
        ret = use_handle(server, use, &handle);
        if (ret == 0) {
            ret = load_xattr(server, handle.fd, name, &xattr);
            p9_handle_close(server, &handle);
        }
    }
    if (ret < 0) {
        return ret;
    }
    p9_write_u64(&call->writer, xattr->filled);
    ret = p9_fid_add(server, newfid, use->fid->uid, use->node, xattr);
    if (ret < 0) {
        p9_xattr_free(server, xattr);
    }
    return ret;
}

int p9_do_xattrwalk(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    uint32_t newfid = p9_read_u32(&call->reader);
    const char *name = p9_read_string(&call->reader, P9_MAX_XATTR_NAME, NULL);
    struct p9_use use;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_xattrwalk(server->name, number, newfid, name);
    ret = p9_use_get(server, number, &use);
    if (ret == 0) {
        ret = xattr_walk(call, &use, newfid, name);
        p9_use_put(server, &use);
    }
    return ret;
}

int p9_do_xattrcreate(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    const char *name = p9_read_string(&call->reader, P9_MAX_XATTR_NAME, NULL);
    uint64_t size = p9_read_u64(&call->reader);
    uint32_t flags = p9_read_u32(&call->reader);
    struct p9_xattr *xattr;
    struct p9_use use;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_xattrcreate(server->name, number, name, size, flags);
    if (!*name || flags & ~(XATTR_CREATE | XATTR_REPLACE)) {
        return -EINVAL;
    }
    if (share_is_readonly(server->share)) {
        return -EROFS;
    }
    if (size > P9_MAX_XATTR) {
        return -E2BIG;
    }
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    ret = p9_xattr_create(server, name, size, &xattr);
    if (ret == 0) {
        xattr->writing = true;
        xattr->flags = flags;
        ret = p9_fid_set_xattr(server, use.fid, xattr);
        if (ret < 0) {
            p9_xattr_free(server, xattr);
        }
    }
    p9_use_put(server, &use);
    return ret;
}

/* Writes to the file what Twrite has collected. Linux removes an attribute by replacing it by nothing. */
int p9_xattr_commit(struct p9_server *server, struct p9_use *use)
{
    struct p9_xattr *xattr = use->xattr;
    struct p9_handle handle;
    int ret;

    if (xattr->filled != xattr->size) {
        return -EINVAL;
    }
    ret = use_handle(server, use, &handle);
    if (ret < 0) {
        return ret;
    }
    if (xattr->size == 0 && xattr->flags == XATTR_REPLACE) {
        ret = share_remove_xattr(server->share, handle.fd, xattr->name);
    } else {
        ret = share_set_xattr(server->share, handle.fd, xattr->name, xattr->value, xattr->size,
                              xattr->flags);
    }
    p9_handle_close(server, &handle);
    return ret;
}
