/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * share - a host directory that a guest may use: path operations that cannot leave it
 *
 * The guest is hostile, and other host processes may rename, replace and delete under us. So no
 * operation here takes a path: each takes an open directory (O_PATH) and ONE name in it. A name is
 * never "." or "..", holds no slash, and the last component is never followed if it is a symbolic
 * link; a walk of many components is many lookups, each from the descriptor that the one before
 * returned. What is resolved can so never lie outside, whatever is renamed meanwhile.
 *
 * Contents are opened in two steps: an O_PATH descriptor first, which has no side effect on any kind
 * of file; then, if it is a regular file or a directory, that same inode through /proc/self/fd. Device
 * nodes, FIFOs and sockets are never opened. Neither are files of the kernel's own file systems (proc,
 * sysfs...) mounted below the shared directory: they are controls of the host, not data.
 *
 * A read-only share refuses every change with -EROFS here, whatever the guest's mount says.
 *
 * Ownership (security=):
 *   passthrough   new files get the guest's user and group ids, chown works; lodge must be root
 *   none          everything is done, and owned, as the user who runs lodge; a guest's chown is
 *                 accepted and changes nothing where the host refuses it; set-user-ID and
 *                 set-group-ID bits of files and security.* and trusted.* attributes are not stored
 * A passthrough share that may be written lets guest root create set-user-ID files and device nodes
 * on the host: other host users should not be able to reach the directory.
 *
 * Errors: -errno as the system call, and -EINVAL (bad name), -ENAMETOOLONG, -EROFS, -ENXIO (contents
 * of a special file), -EACCES (a kernel file system), -ESTALE (replaced while we looked).
 *
 * Descriptors returned are owned by the caller, all close-on-exec. @dir and @fd stay the caller's.
 * Threads: any, in parallel; the share itself does not change after it was opened. Calls may block.
 */
#ifndef BACKENDS_FS_SHARE_H
#define BACKENDS_FS_SHARE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>

enum share_security {
    SHARE_SECURITY_AUTO, /* passthrough for root, else none */
    SHARE_SECURITY_PASSTHROUGH,
    SHARE_SECURITY_NONE,
};

struct share_config {
    const char *path; /* a directory, or a symbolic link to one */
    bool readonly;
    enum share_security security;
};

struct share;

/* Errors: path missing or not a directory, not searchable, no /proc, passthrough without root. */
struct share *share_open(const struct share_config *config, GError **error);
void share_close(struct share *share); /* NULL is allowed */

int share_root(const struct share *share); /* O_PATH descriptor, the share's own */
bool share_is_readonly(const struct share *share);
bool share_is_passthrough(const struct share *share);
const char *share_path(const struct share *share); /* as configured, for messages */

/* May @name (@length bytes, any content) be one component? 0, -EINVAL, -ENAMETOOLONG. */
int share_check_name(const char *name, size_t length);

/* Device number of statx results as one value. */
static inline uint64_t share_dev(const struct statx *stat)
{
    return (uint64_t)stat->stx_dev_major << 32 | stat->stx_dev_minor;
}

/* ---- looking ---- */

/* Attributes of @name in @dir, links not followed; or of @dir itself if @name is NULL. */
int share_stat(const struct share *share, int dir, const char *name, struct statx *stat);
/* An O_PATH descriptor of @name in @dir: of the link itself if it is one. */
int share_lookup(const struct share *share, int dir, const char *name);
/* What matters of the file system that @fd is on: its kind, by flags. */
enum share_fs {
    SHARE_FS_KERNEL = 1 << 0,   /* proc, sysfs...; never set for the share's own */
    SHARE_FS_UNSTABLE = 1 << 1, /* a file's inode number may change when nobody uses it */
};
unsigned share_file_system(const struct share *share, int fd);
ssize_t share_readlink(const struct share *share, int fd, char *buffer, size_t size);
int share_statfs(const struct share *share, int fd, struct statfs *statfs);

/* ---- contents ---- */

/*
 * Opens the regular file or directory that @fd (O_PATH) stands for. Of @flags the access mode,
 * O_APPEND, O_TRUNC, O_SYNC and O_DSYNC count. -ENXIO: a special file; -ELOOP: a symbolic link.
 */
int share_open_file(const struct share *share, int fd, int flags);
/* One getdents64(2) at the position of @fd. */
ssize_t share_getdents(const struct share *share, int fd, void *buffer, size_t size);
ssize_t share_write(const struct share *share, int fd, const struct iovec *iov, unsigned count,
                    uint64_t offset);
ssize_t share_read(const struct share *share, int fd, const struct iovec *iov, unsigned count,
                   uint64_t offset);
int share_sync(const struct share *share, int fd, bool data_only);

/* ---- creating: who is to own it, and with which mode (umask does not apply) ---- */

struct share_owner {
    uid_t uid; /* (uid_t)-1: whoever lodge runs as */
    gid_t gid;
};

/*
 * Creates a regular file @name in @dir and opens it with @flags (as share_open_file, and O_EXCL). If
 * it exists and O_EXCL is not given, opens it as share_open_file would; @created tells.
 */
int share_create(const struct share *share, int dir, const char *name, int flags, mode_t mode,
                 const struct share_owner *owner, bool *created);
/* These fill @stat with what was made. On an error nothing is left behind. */
int share_mkdir(const struct share *share, int dir, const char *name, mode_t mode,
                const struct share_owner *owner, struct statx *stat);
int share_symlink(const struct share *share, int dir, const char *name, const char *target,
                  const struct share_owner *owner, struct statx *stat);
/* @mode with its type: S_IFREG, S_IFIFO, S_IFSOCK; S_IFCHR and S_IFBLK with passthrough only (-EPERM).
 * The node is made, never opened. */
int share_mknod(const struct share *share, int dir, const char *name, mode_t mode, dev_t rdev,
                const struct share_owner *owner, struct statx *stat);
/* A hard link to what @fd (O_PATH) stands for. */
int share_link(const struct share *share, int fd, int dir, const char *name);

/* ---- changing ---- */

int share_rename(const struct share *share, int old_dir, const char *old_name, int new_dir,
                 const char *new_name);
int share_unlink(const struct share *share, int dir, const char *name, bool directory);
/* @fd is O_PATH or an open file. */
int share_set_mode(const struct share *share, int fd, mode_t mode);
int share_set_owner(const struct share *share, int fd, uid_t uid, gid_t gid); /* -1: unchanged */
int share_set_size(const struct share *share, int fd, uint64_t size); /* regular files only */
int share_set_times(const struct share *share, int fd, const struct timespec times[2]);

/* ---- extended attributes of what @fd (O_PATH or open) stands for ---- */

/* Sizes as getxattr(2): @size 0 asks for the size. @name NULL: the list of names. */
ssize_t share_get_xattr(const struct share *share, int fd, const char *name, void *value,
                        size_t size);
int share_set_xattr(const struct share *share, int fd, const char *name, const void *value,
                    size_t size, int flags);
int share_remove_xattr(const struct share *share, int fd, const char *name);

#endif
