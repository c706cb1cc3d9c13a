/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_name - Tmkdir, Tsymlink, Tmknod, Tlink, Trename, Trenameat, Tunlinkat, Tremove, Treadlink: what
 * directories hold
 *
 * Renames hold server->names for writing, so that no other request goes by a name that is about to
 * change. A file that is removed, or renamed over, while there are fids to it keeps a descriptor.
 */
#include "virtio/9p_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "vmm/trace.h"

TRACE_EVENT(p9_mkdir, "%s dfid=%u name=%s mode=%o gid=%u",
            (const char *name, unsigned dfid, const char *file, unsigned mode, unsigned gid), name,
            dfid, file, mode, gid)
TRACE_EVENT(p9_symlink, "%s dfid=%u name=%s target=%s gid=%u",
            (const char *name, unsigned dfid, const char *file, const char *target, unsigned gid),
            name, dfid, file, target, gid)
TRACE_EVENT(p9_mknod, "%s dfid=%u name=%s mode=%o device=%u:%u gid=%u",
            (const char *name, unsigned dfid, const char *file, unsigned mode, unsigned major,
             unsigned minor, unsigned gid),
            name, dfid, file, mode, major, minor, gid)
TRACE_EVENT(p9_link, "%s dfid=%u fid=%u name=%s",
            (const char *name, unsigned dfid, unsigned fid, const char *file), name, dfid, fid,
            file)
TRACE_EVENT(p9_rename, "%s fid=%u dfid=%u name=%s",
            (const char *name, unsigned fid, unsigned dfid, const char *file), name, fid, dfid,
            file)
TRACE_EVENT(p9_renameat, "%s olddir=%u oldname=%s newdir=%u newname=%s",
            (const char *name, unsigned old_dir, const char *old_name, unsigned new_dir,
             const char *new_name),
            name, old_dir, old_name, new_dir, new_name)
TRACE_EVENT(p9_unlinkat, "%s dfid=%u name=%s flags=%#x",
            (const char *name, unsigned dfid, const char *file, unsigned flags), name, dfid, file,
            flags)
TRACE_EVENT(p9_remove, "%s fid=%u", (const char *name, unsigned fid), name, fid)
TRACE_EVENT(p9_readlink, "%s fid=%u", (const char *name, unsigned fid), name, fid)

/* ---- Tmkdir, Tsymlink, Tmknod ---- */

struct making {
    const char *name;
    mode_t mode;        /* with the type */
    const char *target; /* of a symbolic link */
    dev_t rdev;
    uint32_t gid;
};

static int make_in(struct p9_server *server, int dir, const struct making *what,
                   const struct share_owner *owner, struct statx *stat)
{
    switch (what->mode & S_IFMT) {
    case S_IFDIR:
        return share_mkdir(server->share, dir, what->name, what->mode, owner, stat);
    case S_IFLNK:
        return share_symlink(server->share, dir, what->name, what->target, owner, stat);
    default:
        return share_mknod(server->share, dir, what->name, what->mode, what->rdev, owner, stat);
    }
}

static int make(struct p9_call *call, uint32_t number, const struct making *what)
{
    struct p9_server *server = call->server;
    struct share_owner owner = {.gid = what->gid};
    struct p9_handle dir;
    struct p9_qid qid = {0};
    struct statx stat;
    struct p9_use use;
    int ret;

    if (share_is_readonly(server->share)) {
        return -EROFS;
    }
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    owner.uid = use.fid->uid;
    pthread_rwlock_rdlock(&server->names);
    ret = p9_node_enter(server, use.node, &dir);
    if (ret == 0) {
        ret = make_in(server, dir.fd, what, &owner, &stat);
        p9_handle_close(server, &dir);
    }
    pthread_rwlock_unlock(&server->names);
    if (ret == 0) {
        ret = p9_qid_make(server, &stat, &qid);
    }
    p9_write_qid(&call->writer, &qid);
    p9_use_put(server, &use);
    return ret;
}

int p9_do_mkdir(struct p9_call *call)
{
    uint32_t number = p9_read_u32(&call->reader);
    struct making what = {.name = p9_read_name(call)};

    what.mode = (p9_read_u32(&call->reader) & 07777) | S_IFDIR;
    what.gid = p9_read_u32(&call->reader);
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_mkdir(call->server->name, number, what.name, what.mode, what.gid);
    return make(call, number, &what);
}

int p9_do_symlink(struct p9_call *call)
{
    uint32_t number = p9_read_u32(&call->reader);
    struct making what = {.name = p9_read_name(call), .mode = S_IFLNK};
    size_t length;

    what.target = p9_read_string(&call->reader, P9_MAX_TARGET, &length);
    what.gid = p9_read_u32(&call->reader);
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_symlink(call->server->name, number, what.name, what.target, what.gid);
    return length == 0 ? -ENOENT : make(call, number, &what);
}

int p9_do_mknod(struct p9_call *call)
{
    uint32_t number = p9_read_u32(&call->reader);
    struct making what = {.name = p9_read_name(call)};
    uint32_t major, minor;

    what.mode = p9_read_u32(&call->reader);
    major = p9_read_u32(&call->reader);
    minor = p9_read_u32(&call->reader);
    what.gid = p9_read_u32(&call->reader);
    what.rdev = makedev(major, minor);
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_mknod(call->server->name, number, what.name, what.mode, major, minor, what.gid);
    if (S_ISDIR(what.mode) || S_ISLNK(what.mode)) {
        return -EINVAL;
    }
    return make(call, number, &what);
}

/* ---- Treadlink ---- */

int p9_do_readlink(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    struct p9_handle handle;
    struct p9_use use;
    ssize_t length;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_readlink(server->name, number);
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    if (!S_ISLNK(use.node->mode)) {
        p9_use_put(server, &use);
        return -EINVAL;
    }
    pthread_rwlock_rdlock(&server->names);
    ret = p9_node_handle(server, use.node, &handle);
    pthread_rwlock_unlock(&server->names);
    if (ret == 0) {
        length = share_readlink(server->share, handle.fd, (char *)call->worker->buffer,
                                P9_MAX_TARGET + 1);
        p9_handle_close(server, &handle);
        if (length > P9_MAX_TARGET) {
            length = -ENAMETOOLONG;
        }
        ret = length < 0 ? length : 0;
        if (ret == 0) {
            p9_write_string(&call->writer, (const char *)call->worker->buffer, length);
        }
    }
    p9_use_put(server, &use);
    return ret;
}

/* ---- Tlink ---- */

static int link_node(struct p9_server *server, struct p9_use *dir, struct p9_use *file,
                     const char *name)
{
    struct p9_handle dir_handle, file_handle;
    int ret;

    pthread_rwlock_rdlock(&server->names);
    ret = p9_node_enter(server, dir->node, &dir_handle);
    if (ret == 0) {
        ret = p9_node_handle(server, file->node, &file_handle);
        if (ret == 0) {
            ret = share_link(server->share, file_handle.fd, dir_handle.fd, name);
            p9_handle_close(server, &file_handle);
        }
        p9_handle_close(server, &dir_handle);
    }
    pthread_rwlock_unlock(&server->names);
    return ret;
}

int p9_do_link(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t dfid = p9_read_u32(&call->reader);
    uint32_t number = p9_read_u32(&call->reader);
    const char *name = p9_read_name(call);
    struct p9_use dir, file;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_link(server->name, dfid, number, name);
    if (share_is_readonly(server->share)) {
        return -EROFS;
    }
    ret = p9_use_get(server, dfid, &dir);
    if (ret < 0) {
        return ret;
    }
    ret = p9_use_get(server, number, &file);
    if (ret == 0) {
        ret = link_node(server, &dir, &file, name);
        p9_use_put(server, &file);
    }
    p9_use_put(server, &dir);
    return ret;
}

/* ---- renaming ---- */

/* names held for writing. */
static int rename_node(struct p9_server *server, struct p9_node *old_dir, const char *old_name,
                       struct p9_node *new_dir, const char *new_name)
{
    struct p9_handle from, to;
    struct p9_node *victim;
    int ret = p9_node_enter(server, old_dir, &from);

    if (ret < 0) {
        return ret;
    }
    ret = p9_node_enter(server, new_dir, &to);
    if (ret == 0) {
        victim = p9_node_keep(server, new_dir, new_name);
        ret = share_rename(server->share, from.fd, old_name, to.fd, new_name);
        if (ret == 0) {
            p9_node_renamed(server, old_dir, old_name, new_dir, new_name);
        }
        p9_node_release(server, victim);
        p9_handle_close(server, &to);
    }
    p9_handle_close(server, &from);
    return ret;
}

int p9_do_renameat(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t old_number = p9_read_u32(&call->reader);
    const char *old_name = p9_read_name(call);
    uint32_t new_number = p9_read_u32(&call->reader);
    const char *new_name = p9_read_name(call);
    struct p9_use old_dir, new_dir;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_renameat(server->name, old_number, old_name, new_number, new_name);
    if (share_is_readonly(server->share)) {
        return -EROFS;
    }
    ret = p9_use_get(server, old_number, &old_dir);
    if (ret < 0) {
        return ret;
    }
    ret = p9_use_get(server, new_number, &new_dir);
    if (ret == 0) {
        pthread_rwlock_wrlock(&server->names);
        ret = rename_node(server, old_dir.node, old_name, new_dir.node, new_name);
        pthread_rwlock_unlock(&server->names);
        p9_use_put(server, &new_dir);
    }
    p9_use_put(server, &old_dir);
    return ret;
}

/* Is @node still what its name stands for? names held. */
static int check_place(struct p9_server *server, struct p9_node *node)
{
    struct p9_handle parent;
    struct statx stat;
    int ret;

    if (!node->parent) {
        return -EBUSY; /* the root has no name */
    }
    if (!__atomic_load_n(&node->hashed, __ATOMIC_RELAXED)) {
        return -ENOENT;
    }
    ret = p9_node_enter(server, node->parent, &parent);
    if (ret == 0) {
        ret = share_stat(server->share, parent.fd, node->name, &stat);
        p9_handle_close(server, &parent);
    }
    if (ret == 0 && !p9_node_is(node, &stat)) {
        ret = -ENOENT;
    }
    return ret;
}

int p9_do_rename(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    uint32_t dfid = p9_read_u32(&call->reader);
    const char *name = p9_read_name(call);
    struct p9_use use, dir;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_rename(server->name, number, dfid, name);
    if (share_is_readonly(server->share)) {
        return -EROFS;
    }
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    ret = p9_use_get(server, dfid, &dir);
    if (ret == 0) {
        pthread_rwlock_wrlock(&server->names);
        ret = check_place(server, use.node);
        if (ret == 0) {
            /* The rename changes the one, and may drop the other. */
            g_autofree char *old_name = g_strdup(use.node->name);
            struct p9_node *old_dir = p9_node_ref(server, use.node->parent);

            ret = rename_node(server, old_dir, old_name, dir.node, name);
            p9_node_unref(server, old_dir);
        }
        pthread_rwlock_unlock(&server->names);
        p9_use_put(server, &dir);
    }
    p9_use_put(server, &use);
    return ret;
}

/* ---- removing ---- */

/* names held. */
static int unlink_name(struct p9_server *server, struct p9_node *dir, const char *name,
                       bool directory)
{
    struct p9_handle handle;
    struct p9_node *kept;
    int ret = p9_node_enter(server, dir, &handle);

    if (ret < 0) {
        return ret;
    }
    kept = p9_node_keep(server, dir, name);
    ret = share_unlink(server->share, handle.fd, name, directory);
    if (ret == 0) {
        p9_node_unlinked(server, kept);
    }
    p9_node_release(server, kept);
    p9_handle_close(server, &handle);
    return ret;
}

int p9_do_unlinkat(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    const char *name = p9_read_name(call);
    uint32_t flags = p9_read_u32(&call->reader);
    struct p9_use use;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_unlinkat(server->name, number, name, flags);
    if (flags & ~P9_AT_REMOVEDIR) {
        return -EINVAL;
    }
    if (share_is_readonly(server->share)) {
        return -EROFS;
    }
    ret = p9_use_get(server, number, &use);
    if (ret == 0) {
        pthread_rwlock_rdlock(&server->names);
        ret = unlink_name(server, use.node, name, flags & P9_AT_REMOVEDIR);
        pthread_rwlock_unlock(&server->names);
        p9_use_put(server, &use);
    }
    return ret;
}

int p9_do_remove(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    struct p9_use use;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_remove(server->name, number);
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    pthread_rwlock_rdlock(&server->names);
    ret = share_is_readonly(server->share) ? -EROFS : check_place(server, use.node);
    if (ret == 0) {
        ret = unlink_name(server, use.node->parent, use.node->name, S_ISDIR(use.node->mode));
    }
    pthread_rwlock_unlock(&server->names);
    p9_fid_remove(server, use.fid); /* the fid goes even if the file stays */
    p9_use_put(server, &use);
    return ret;
}
