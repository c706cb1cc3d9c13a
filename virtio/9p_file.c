/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_file - Tlopen, Tlcreate, Tread, Twrite, Treaddir, Tfsync: the contents of files
 */
#include "virtio/9p_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/iov.h"
#include "vmm/trace.h"

TRACE_EVENT(p9_lopen, "%s fid=%u flags=%#o", (const char *name, unsigned fid, unsigned flags), name,
            fid, flags)
TRACE_EVENT(p9_lcreate, "%s fid=%u name=%s flags=%#o mode=%o gid=%u",
            (const char *name, unsigned fid, const char *file, unsigned flags, unsigned mode,
             unsigned gid),
            name, fid, file, flags, mode, gid)
TRACE_EVENT(p9_read, "%s fid=%u offset=%llu count=%u",
            (const char *name, unsigned fid, unsigned long long offset, unsigned count), name, fid,
            offset, count)
TRACE_EVENT(p9_write, "%s fid=%u offset=%llu count=%u",
            (const char *name, unsigned fid, unsigned long long offset, unsigned count), name, fid,
            offset, count)
TRACE_EVENT(p9_readdir, "%s fid=%u offset=%llu count=%u",
            (const char *name, unsigned fid, unsigned long long offset, unsigned count), name, fid,
            offset, count)
TRACE_EVENT(p9_fsync, "%s fid=%u datasync=%u", (const char *name, unsigned fid, unsigned datasync),
            name, fid, datasync)

#define PAGE 4096u

/* The host's flags for those of the protocol. What else a client may send (O_DIRECT, O_NOATIME...) is
 * advice that does not concern the host. */
static int host_flags(uint32_t flags)
{
    int host = flags & P9_O_ACCESS;

    host |= flags & P9_O_EXCL ? O_EXCL : 0;
    host |= flags & P9_O_TRUNC ? O_TRUNC : 0;
    host |= flags & P9_O_APPEND ? O_APPEND : 0;
    host |= flags & P9_O_DSYNC ? O_DSYNC : 0;
    host |= flags & P9_O_SYNC ? O_SYNC : 0;
    return host;
}

/* The largest read or write that a client should ask for: whole pages. 0: as the session allows. */
static uint32_t io_unit(struct p9_server *server)
{
    uint32_t msize = __atomic_load_n(&server->msize, __ATOMIC_RELAXED);

    return msize < P9_IO_HEADER ? 0 : (msize - P9_IO_HEADER) / PAGE * PAGE;
}

static int write_opened(struct p9_call *call, const struct statx *stat)
{
    struct p9_qid qid;
    int ret = p9_qid_make(call->server, stat, &qid);

    if (ret == 0) {
        p9_write_qid(&call->writer, &qid);
        p9_write_u32(&call->writer, io_unit(call->server));
    }
    return ret;
}

/* ---- Tlopen ---- */

int p9_open_node(struct p9_server *server, struct p9_node *node, uint32_t flags)
{
    struct p9_handle handle;
    int fd, ret;

    pthread_rwlock_rdlock(&server->names);
    ret = p9_node_handle(server, node, &handle);
    pthread_rwlock_unlock(&server->names);
    if (ret < 0) {
        if (node->barred && S_ISDIR(node->mode) && (flags & P9_O_ACCESS) == O_RDONLY) {
            return P9_NO_FILE; /* shown as an empty directory */
        }
        return ret;
    }
    fd = share_open_file(server->share, handle.fd, host_flags(flags));
    p9_handle_close(server, &handle);
    return fd;
}

static int lopen(struct p9_call *call, struct p9_use *use, uint32_t flags)
{
    struct p9_server *server = call->server;
    struct statx stat;
    int fd, ret;

    if (use->open || use->xattr) {
        return -EINVAL;
    }
    if (flags & P9_O_DIRECTORY && !S_ISDIR(use->node->mode)) {
        return -ENOTDIR;
    }
    ret = p9_open_reserve(server);
    if (ret < 0) {
        return ret;
    }
    fd = p9_open_node(server, use->node, flags);
    if (fd == P9_NO_FILE) {
        pthread_rwlock_rdlock(&server->names);
        ret = p9_node_stat(server, use->node, &stat);
        pthread_rwlock_unlock(&server->names);
    } else {
        ret = fd < 0 ? fd : share_stat(server->share, fd, NULL, &stat);
    }
    if (ret == 0) {
        ret = write_opened(call, &stat);
    }
    if (ret == 0) {
        ret = p9_fid_set_open(server, use->fid, NULL, fd, flags, S_ISDIR(use->node->mode));
    }
    if (ret < 0) {
        if (fd >= 0) {
            close(fd);
        }
        p9_open_release(server);
    }
    return ret;
}

int p9_do_lopen(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    uint32_t flags = p9_read_u32(&call->reader);
    struct p9_use use;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_lopen(server->name, number, flags);
    if (share_is_readonly(server->share) &&
        ((flags & P9_O_ACCESS) != O_RDONLY || flags & P9_O_TRUNC)) {
        return -EROFS;
    }
    ret = p9_use_get(server, number, &use);
    if (ret == 0) {
        ret = lopen(call, &use, flags);
        p9_use_put(server, &use);
    }
    return ret;
}

/* ---- Tlcreate ---- */

struct creation {
    const char *name;
    uint32_t flags, mode;
    struct share_owner owner;
};

/* Creates and opens; the descriptor, or -errno. names held. */
static int create_file(struct p9_call *call, struct p9_use *use, const struct creation *what,
                       struct p9_node **node)
{
    struct p9_server *server = call->server;
    struct p9_handle dir;
    struct statx stat;
    bool created;
    int fd, ret = p9_node_enter(server, use->node, &dir);

    if (ret < 0) {
        return ret;
    }
    fd = share_create(server->share, dir.fd, what->name, host_flags(what->flags), what->mode,
                      &what->owner, &created);
    ret = fd < 0 ? fd : share_stat(server->share, fd, NULL, &stat);
    if (ret == 0 && !S_ISREG(stat.stx_mode)) {
        ret = -EISDIR;
    }
    if (ret == 0) {
        ret = p9_node_child(server, use->node, what->name, &stat,
                            use->node->unstable ? SHARE_FS_UNSTABLE : 0, node);
    }
    if (ret == 0) {
        ret = write_opened(call, &stat);
    }
    if (ret < 0 && fd >= 0) {
        close(fd);
        if (created) {
            share_unlink(server->share, dir.fd, what->name, false);
        }
    }
    p9_handle_close(server, &dir);
    return ret < 0 ? ret : fd;
}

static int lcreate(struct p9_call *call, struct p9_use *use, const struct creation *what)
{
    struct p9_server *server = call->server;
    struct p9_node *node = NULL;
    int fd, ret;

    if (use->open || use->xattr) {
        return -EINVAL;
    }
    ret = p9_open_reserve(server);
    if (ret < 0) {
        return ret;
    }
    pthread_rwlock_rdlock(&server->names);
    fd = create_file(call, use, what, &node);
    pthread_rwlock_unlock(&server->names);
    ret = fd < 0 ? fd : p9_fid_set_open(server, use->fid, node, fd, what->flags, false);
    if (ret < 0) {
        if (fd >= 0) {
            close(fd);
        }
        p9_open_release(server);
    }
    p9_node_unref(server, node);
    return ret;
}

int p9_do_lcreate(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    struct creation what = {.name = p9_read_name(call)};
    struct p9_use use;
    int ret;

    what.flags = p9_read_u32(&call->reader);
    what.mode = p9_read_u32(&call->reader);
    what.owner.gid = p9_read_u32(&call->reader);
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_lcreate(server->name, number, what.name, what.flags, what.mode, what.owner.gid);
    if (share_is_readonly(server->share)) {
        return -EROFS;
    }
    ret = p9_use_get(server, number, &use);
    if (ret == 0) {
        what.owner.uid = use.fid->uid;
        ret = lcreate(call, &use, &what);
        p9_use_put(server, &use);
    }
    return ret;
}

/* ---- Tread ---- */

/* From the value of an attribute. */
static int read_xattr(struct p9_call *call, struct p9_xattr *xattr, uint64_t offset, uint32_t count)
{
    if (xattr->writing) {
        return -EBADF;
    }
    if (offset < xattr->filled) {
        call->direct = iov_write(call->message->in, call->message->in_count, P9_HEADER_SIZE + 4,
                                 xattr->value + offset, MIN(count, xattr->filled - offset));
    }
    return 0;
}

/* From the file straight into the pieces of the reply, behind the header that is yet to come. */
static int read_file(struct p9_call *call, const struct p9_use *use, uint64_t offset,
                     uint32_t count)
{
    size_t size = count;
    unsigned pieces = iov_slice(call->message->in, call->message->in_count, P9_HEADER_SIZE + 4,
                                &size, call->worker->iov, IOV_MAX);
    ssize_t done;

    if (use->open->is_directory) {
        return -EISDIR;
    }
    if (!p9_use_file(use)) {
        return -ESTALE; /* lost in a restore */
    }
    done = share_read(call->server->share, use->open->fd, call->worker->iov, pieces, offset);
    call->direct = done < 0 ? 0 : done;
    return done < 0 ? done : 0;
}

int p9_do_read(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    uint64_t offset = p9_read_u64(&call->reader);
    uint32_t count = p9_read_u32(&call->reader);
    struct p9_use use;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_read(server->name, number, offset, count);
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    count = MIN(count, call->room - P9_HEADER_SIZE - 4);
    if (use.xattr) {
        ret = read_xattr(call, use.xattr, offset, count);
    } else {
        ret = use.open ? read_file(call, &use, offset, count) : -EBADF;
    }
    p9_write_u32(&call->writer, call->direct);
    p9_use_put(server, &use);
    return ret;
}

/* ---- Twrite ---- */

#define WRITE_HEADER (P9_HEADER_SIZE + 4 + 8 + 4)

static int write_xattr(struct p9_call *call, struct p9_xattr *xattr, uint64_t offset,
                       uint32_t count, uint32_t *written)
{
    int ret = -EINVAL;

    if (!xattr->writing) {
        return -EBADF;
    }
    pthread_mutex_lock(&xattr->lock);
    if (offset == xattr->filled && count <= xattr->size - xattr->filled) {
        xattr->filled += iov_read(call->message->out, call->message->out_count, WRITE_HEADER,
                                  xattr->value + offset, count);
        *written = count;
        ret = 0;
    }
    pthread_mutex_unlock(&xattr->lock);
    return ret;
}

static int write_file(struct p9_call *call, const struct p9_use *use, uint64_t offset,
                      uint32_t count, uint32_t *written)
{
    size_t size = count;
    unsigned pieces = iov_slice(call->message->out, call->message->out_count, WRITE_HEADER, &size,
                                call->worker->iov, IOV_MAX);
    ssize_t done;

    if (use->open->is_directory) {
        return -EISDIR;
    }
    if (!p9_use_file(use)) {
        return -ESTALE;
    }
    done = share_write(call->server->share, use->open->fd, call->worker->iov, pieces, offset);
    *written = done < 0 ? 0 : done;
    return done < 0 ? done : 0;
}

int p9_do_write(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    uint64_t offset = p9_read_u64(&call->reader);
    uint32_t written = 0, count = p9_read_u32(&call->reader);
    struct p9_use use;
    int ret;

    if (!call->reader.error && count > call->message->size - WRITE_HEADER) {
        call->reader.error = -EPROTO; /* more than the message holds */
    }
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_write(server->name, number, offset, count);
    if (share_is_readonly(server->share)) {
        return -EROFS;
    }
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    if (use.xattr) {
        ret = write_xattr(call, use.xattr, offset, count, &written);
    } else {
        ret = use.open ? write_file(call, &use, offset, count, &written) : -EBADF;
    }
    p9_write_u32(&call->writer, written);
    p9_use_put(server, &use);
    return ret;
}

/* ---- Treaddir ---- */

static uint8_t qid_type(unsigned char type)
{
    return type == DT_DIR ? P9_QID_DIRECTORY : type == DT_LNK ? P9_QID_SYMLINK : 0;
}

/* One entry; false when it does not fit any more. */
static bool write_entry(struct p9_call *call, const struct p9_node *dir,
                        const struct dirent64 *entry)
{
    size_t length = strlen(entry->d_name);
    struct p9_qid qid = {.type = qid_type(entry->d_type), .version = 1};
    uint64_t dev = dir->dev, ino = entry->d_ino;

    if (p9_room(&call->writer) < P9_QID_SIZE + 8 + 1 + 2 + length) {
        return false;
    }
    if (!dir->parent && strcmp(entry->d_name, "..") == 0) {
        ino = dir->ino; /* what lies above the share is not the guest's business */
    }
    if (p9_qid_path(call->server, dev, ino, &qid.path) < 0) {
        qid.path = ino;
    }
    p9_write_qid(&call->writer, &qid);
    p9_write_u64(&call->writer, entry->d_off);
    p9_write_u8(&call->writer, entry->d_type);
    p9_write_string(&call->writer, entry->d_name, length);
    return true;
}

/* Entries from @offset on, as the file system counts them, as many as fit. The open file's lock held. */
static int read_entries(struct p9_call *call, const struct p9_use *use, uint64_t offset)
{
    struct p9_open *open = use->open;
    uint8_t *buffer = call->worker->buffer;
    /* An entry of the protocol takes at most 7/6 of the host's: what is read will fit, but a very
     * small buffer must take at least the longest one. */
    size_t size = MAX(p9_room(&call->writer) * 6 / 7, 19 + NAME_MAX + 8);
    ssize_t length;

    size = MIN(size, sizeof(call->worker->buffer));
    if (offset > INT64_MAX) {
        return -EINVAL;
    }
    if (open->position != offset) {
        if (lseek(open->fd, offset, SEEK_SET) < 0) {
            return -errno;
        }
        open->position = offset;
    }
    length = share_getdents(call->server->share, open->fd, buffer, size);
    if (length < 0) {
        return length;
    }
    for (ssize_t at = 0; at < length;) {
        const struct dirent64 *entry = (const struct dirent64 *)(buffer + at);

        if (!write_entry(call, use->node, entry)) {
            open->position = UINT64_MAX; /* fd is further than what the client was told */
            return at == 0 ? -EINVAL : 0;
        }
        open->position = entry->d_off;
        at += entry->d_reclen;
    }
    return 0;
}

int p9_do_readdir(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    uint64_t offset = p9_read_u64(&call->reader);
    uint32_t count = p9_read_u32(&call->reader);
    struct p9_writer size_field = call->writer;
    struct p9_use use;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_readdir(server->name, number, offset, count);
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    p9_write_u32(&call->writer, 0); /* filled in below */
    call->writer.end =
        MIN(call->writer.end, call->writer.next + MIN(count, p9_room(&call->writer)));
    if (!use.open) {
        ret = -EBADF;
    } else if (!use.open->is_directory) {
        ret = -ENOTDIR;
    } else if (!p9_use_file(&use)) {
        ret = use.node->barred ? 0 : -ESTALE;
    } else {
        pthread_mutex_lock(&use.open->lock);
        ret = read_entries(call, &use, offset);
        pthread_mutex_unlock(&use.open->lock);
    }
    p9_write_u32(&size_field, p9_written(&call->writer) - 4);
    p9_use_put(server, &use);
    return ret;
}

/* ---- Tfsync ---- */

int p9_do_fsync(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    /* Clients of old leave the second field out. */
    uint32_t datasync = call->reader.next < call->reader.end ? p9_read_u32(&call->reader) : 0;
    struct p9_use use;
    int ret;

    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_fsync(server->name, number, datasync);
    ret = p9_use_get(server, number, &use);
    if (ret == 0) {
        ret = !use.open           ? -EBADF
              : p9_use_file(&use) ? share_sync(server->share, use.open->fd, datasync)
                                  : 0;
        p9_use_put(server, &use);
    }
    return ret;
}
