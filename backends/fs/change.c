/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * change - the operations of a share that change it (share.h)
 *
 * Every one begins by refusing a read-only share. New objects are made with the rights of lodge and
 * then given to the guest's user through a descriptor of the very object: between the two, another
 * host process could put something else under that name, so that it is given away only if it is what
 * was just made (type, owner, no second link).
 */
#include "backends/fs/share_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CREATE_ATTEMPTS 8

/* May @name in a directory of @share be changed? */
static int check_change(const struct share *share, const char *name)
{
    return share->readonly ? -EROFS : share_check_name(name, strlen(name));
}

/* The permission bits that this share stores of @mode. */
static mode_t stored_mode(const struct share *share, mode_t mode, bool is_directory)
{
    mode &= 07777;
    return share->passthrough || is_directory ? mode : mode & ~(S_ISUID | S_ISGID);
}

static int change_owner(int fd, uid_t uid, gid_t gid)
{
    return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int change_mode(const struct share *share, int fd, mode_t mode)
{
    char name[SHARE_PROC_NAME];

    share_proc_name(name, fd);
    return fchmodat(share->proc, name, mode, 0) < 0 ? -errno : 0;
}

/* Gives the new object @fd its owner and exact mode, as far as they differ from what it has. */
static int settle(const struct share *share, int fd, mode_t mode, const struct share_owner *owner,
                  struct statx *stat)
{
    int ret = share_stat(share, fd, NULL, stat);
    bool changed = false;

    if (ret < 0) {
        return ret;
    }
    mode = stored_mode(share, mode, S_ISDIR(stat->stx_mode));
    if (share->passthrough) {
        uid_t uid = owner->uid == stat->stx_uid ? (uid_t)-1 : owner->uid;
        gid_t gid = owner->gid == stat->stx_gid ? (gid_t)-1 : owner->gid;

        if (uid != (uid_t)-1 || gid != (gid_t)-1) {
            changed = true;
            ret = change_owner(fd, uid, gid);
        }
    }
    /* After the owner: a change of owner clears the set-id bits. */
    if (ret == 0 && !S_ISLNK(stat->stx_mode) && (changed || (stat->stx_mode & 07777) != mode)) {
        changed = true;
        ret = change_mode(share, fd, mode);
    }
    return ret == 0 && changed ? share_stat(share, fd, NULL, stat) : ret;
}

/* Is @stat what we have made a moment ago? */
static bool is_fresh(const struct share *share, const struct statx *stat, mode_t type)
{
    return (stat->stx_mode & S_IFMT) == type &&
           (stat->stx_uid == share->uid || !share->passthrough) &&
           (S_ISDIR(type) ? stat->stx_nlink <= 2 : stat->stx_nlink == 1);
}

/* settle() for what was just made under @name without a descriptor; removes it on failure. */
static int settle_name(const struct share *share, int dir, const char *name, mode_t mode,
                       const struct share_owner *owner, struct statx *stat)
{
    int ret, fd = share_lookup(share, dir, name);

    if (fd < 0) {
        return fd;
    }
    ret = share_stat(share, fd, NULL, stat);
    if (ret == 0 && !is_fresh(share, stat, mode & S_IFMT)) {
        close(fd);
        return -ESTALE; /* not ours any more, so not ours to remove */
    }
    if (ret == 0) {
        ret = settle(share, fd, mode, owner, stat);
    }
    if (ret < 0) {
        unlinkat(dir, name, S_ISDIR(mode) ? AT_REMOVEDIR : 0);
    }
    close(fd);
    return ret;
}

/* Opens an existing @name that share_create found. */
static int open_existing(const struct share *share, int dir, const char *name, int flags)
{
    int file, fd = share_lookup(share, dir, name);

    if (fd < 0) {
        return fd;
    }
    file = share_open_file(share, fd, flags);
    close(fd);
    return file;
}

int share_create(const struct share *share, int dir, const char *name, int flags, mode_t mode,
                 const struct share_owner *owner, bool *created)
{
    int exclusive = O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd, ret = check_change(share, name);
    struct statx stat;

    *created = false;
    for (unsigned i = 0; ret == 0 && i < CREATE_ATTEMPTS; i++) {
        fd = openat(dir, name, (flags & SHARE_OPEN_FLAGS) | exclusive, mode & 0777);
        if (fd >= 0) {
            *created = true;
            ret = settle(share, fd, mode, owner, &stat);
            if (ret < 0) {
                unlinkat(dir, name, 0);
                close(fd);
            }
            return ret < 0 ? ret : fd;
        }
        if (errno != EEXIST || (flags & O_EXCL)) {
            return -errno;
        }
        fd = open_existing(share, dir, name, flags);
        if (fd != -ENOENT) { /* else it went away in between */
            return fd;
        }
    }
    return ret < 0 ? ret : -ESTALE;
}

int share_mkdir(const struct share *share, int dir, const char *name, mode_t mode,
                const struct share_owner *owner, struct statx *stat)
{
    int ret = check_change(share, name);

    if (ret == 0 && mkdirat(dir, name, mode & 01777) < 0) {
        ret = -errno;
    }
    return ret < 0 ? ret : settle_name(share, dir, name, (mode & 07777) | S_IFDIR, owner, stat);
}

int share_symlink(const struct share *share, int dir, const char *name, const char *target,
                  const struct share_owner *owner, struct statx *stat)
{
    int ret = check_change(share, name);

    if (ret == 0 && symlinkat(target, dir, name) < 0) {
        ret = -errno;
    }
    return ret < 0 ? ret : settle_name(share, dir, name, S_IFLNK | 0777, owner, stat);
}

int share_mknod(const struct share *share, int dir, const char *name, mode_t mode, dev_t rdev,
                const struct share_owner *owner, struct statx *stat)
{
    int ret = check_change(share, name);

    if (ret < 0) {
        return ret;
    }
    switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
        rdev = 0;
        break;
    case S_IFCHR:
    case S_IFBLK:
        if (!share->passthrough) {
            return -EPERM;
        }
        break;
    default:
        return -EINVAL;
    }
    if (mknodat(dir, name, mode & (S_IFMT | 0777), rdev) < 0) {
        return -errno;
    }
    return settle_name(share, dir, name, mode, owner, stat);
}

int share_link(const struct share *share, int fd, int dir, const char *name)
{
    char source[SHARE_PROC_NAME];
    int ret = check_change(share, name);

    if (ret < 0) {
        return ret;
    }
    /* The magic link is followed to the very object; if that is a symbolic link, no further. */
    share_proc_name(source, fd);
    return linkat(share->proc, source, dir, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int share_rename(const struct share *share, int old_dir, const char *old_name, int new_dir,
                 const char *new_name)
{
    int ret = check_change(share, old_name);

    if (ret == 0) {
        ret = check_change(share, new_name);
    }
    if (ret == 0 && renameat(old_dir, old_name, new_dir, new_name) < 0) {
        ret = -errno;
    }
    return ret;
}

int share_unlink(const struct share *share, int dir, const char *name, bool directory)
{
    int ret = check_change(share, name);

    if (ret == 0 && unlinkat(dir, name, directory ? AT_REMOVEDIR : 0) < 0) {
        ret = -errno;
    }
    return ret;
}

ssize_t share_write(const struct share *share, int fd, const struct iovec *iov, unsigned count,
                    uint64_t offset)
{
    ssize_t done;

    if (share->readonly) {
        return -EROFS;
    }
    if (offset > INT64_MAX) {
        return -EINVAL;
    }
    done = pwritev(fd, iov, MIN(count, IOV_MAX), offset);
    return done < 0 ? -errno : done;
}

int share_set_mode(const struct share *share, int fd, mode_t mode)
{
    struct statx stat;
    int ret;

    if (share->readonly) {
        return -EROFS;
    }
    ret = share_stat(share, fd, NULL, &stat);
    if (ret < 0) {
        return ret;
    }
    if (S_ISLNK(stat.stx_mode)) {
        return -EOPNOTSUPP;
    }
    return change_mode(share, fd, stored_mode(share, mode, S_ISDIR(stat.stx_mode)));
}

int share_set_owner(const struct share *share, int fd, uid_t uid, gid_t gid)
{
    int ret;

    if (share->readonly) {
        return -EROFS;
    }
    ret = change_owner(fd, uid, gid);
    return !share->passthrough && (ret == -EPERM || ret == -EINVAL) ? 0 : ret;
}

int share_set_size(const struct share *share, int fd, uint64_t size)
{
    char name[SHARE_PROC_NAME], path[SHARE_PROC_NAME + 8];

    if (share->readonly) {
        return -EROFS;
    }
    if (size > INT64_MAX) {
        return -EFBIG;
    }
    if (ftruncate(fd, size) == 0) {
        return 0;
    }
    if (errno != EBADF && errno != EINVAL) {
        return -errno;
    }
    /* An O_PATH descriptor, or one not open for writing: truncate(2) opens nothing, and refuses
     * whatever is not a regular file. */
    share_proc_name(name, fd);
    snprintf(path, sizeof(path), "/proc/%s", name);
    return truncate(path, size) < 0 ? -errno : 0;
}

int share_set_times(const struct share *share, int fd, const struct timespec times[2])
{
    char name[SHARE_PROC_NAME];

    if (share->readonly) {
        return -EROFS;
    }
    if (utimensat(fd, "", times, AT_EMPTY_PATH) == 0) {
        return 0;
    }
    if (errno != EINVAL) {
        return -errno;
    }
    share_proc_name(name, fd); /* before Linux 5.8 */
    return utimensat(share->proc, name, times, 0) < 0 ? -errno : 0;
}

/* ---- extended attributes ---- */

static void xattr_path(char path[SHARE_PROC_NAME + 8], int fd)
{
    char name[SHARE_PROC_NAME];

    share_proc_name(name, fd);
    snprintf(path, SHARE_PROC_NAME + 8, "/proc/%s", name);
}

ssize_t share_get_xattr(const struct share *share, int fd, const char *name, void *value,
                        size_t size)
{
    char path[SHARE_PROC_NAME + 8];
    ssize_t length;

    xattr_path(path, fd);
    length = name ? getxattr(path, name, value, size) : listxattr(path, value, size);
    return length < 0 ? -errno : length;
}

static int check_xattr(const struct share *share, const char *name)
{
    if (share->readonly) {
        return -EROFS;
    }
    if (!share->passthrough &&
        (g_str_has_prefix(name, "security.") || g_str_has_prefix(name, "trusted."))) {
        return -EPERM;
    }
    return 0;
}

int share_set_xattr(const struct share *share, int fd, const char *name, const void *value,
                    size_t size, int flags)
{
    char path[SHARE_PROC_NAME + 8];
    int ret = check_xattr(share, name);

    if (ret == 0) {
        xattr_path(path, fd);
        ret = setxattr(path, name, value, size, flags) < 0 ? -errno : 0;
    }
    return ret;
}

int share_remove_xattr(const struct share *share, int fd, const char *name)
{
    char path[SHARE_PROC_NAME + 8];
    int ret = check_xattr(share, name);

    if (ret == 0) {
        xattr_path(path, fd);
        ret = removexattr(path, name) < 0 ? -errno : 0;
    }
    return ret;
}
