/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * share - opening a shared directory, looking things up in it and reading them (share.h)
 *
 * openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS guards every lookup where the host has it
 * (Linux 5.6); a single checked component with O_NOFOLLOW resolves no link and leaves no directory by
 * itself, so that the fallback is as safe, only less redundant. What changes the share is in change.c.
 */
#include "backends/fs/share_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOOKUP_FLAGS (O_PATH | O_NOFOLLOW | O_CLOEXEC)

int share_check_name(const char *name, size_t length)
{
    if (length == 0 || memchr(name, '/', length) || memchr(name, '\0', length)) {
        return -EINVAL;
    }
    if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.'))) {
        return -EINVAL;
    }
    return length > NAME_MAX ? -ENAMETOOLONG : 0;
}

void share_proc_name(char name[SHARE_PROC_NAME], int fd)
{
    snprintf(name, SHARE_PROC_NAME, "self/fd/%d", fd);
}

static int try_openat2(int dir, const char *name, uint64_t flags)
{
    struct open_how how = {
        .flags = flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));

    return fd < 0 ? -errno : fd;
}

int share_stat(const struct share *share, int dir, const char *name, struct statx *stat)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

    if (name) {
        int ret = share_check_name(name, strlen(name));

        if (ret < 0) {
            return ret;
        }
    } else {
        flags |= AT_EMPTY_PATH;
    }
    if (statx(dir, name ? name : "", flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, stat) <
        0) {
        return -errno;
    }
    return 0;
}

int share_lookup(const struct share *share, int dir, const char *name)
{
    int ret = share_check_name(name, strlen(name));

    if (ret < 0) {
        return ret;
    }
    if (share->has_openat2) {
        return try_openat2(dir, name, LOOKUP_FLAGS);
    }
    ret = openat(dir, name, LOOKUP_FLAGS);
    return ret < 0 ? -errno : ret;
}

/* They number inodes as they meet them, or as a peer does. */
static const uint32_t unstable_magics[] = {
    OVERLAYFS_SUPER_MAGIC, MSDOS_SUPER_MAGIC, EXFAT_SUPER_MAGIC, V9FS_MAGIC, FUSE_SUPER_MAGIC,
    CIFS_SUPER_MAGIC,      SMB2_SUPER_MAGIC,  SMB_SUPER_MAGIC,   0x786f4256, /* vboxsf */
};

static const uint32_t kernel_magics[] = {
    PROC_SUPER_MAGIC, SYSFS_MAGIC,        DEBUGFS_MAGIC,       TRACEFS_MAGIC,
    SECURITYFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC,
    BPF_FS_MAGIC,     EFIVARFS_MAGIC,     PSTOREFS_MAGIC,      BINFMTFS_MAGIC,
    SELINUX_MAGIC,    SMACK_MAGIC,        NSFS_MAGIC,          0x62656570, /* configfs */
    0x65735543,                                                            /* fusectl */
    0x19800202,                                                            /* mqueue */
};

static bool is_one_of(uint32_t magic, const uint32_t *magics, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (magic == magics[i]) {
            return true;
        }
    }
    return false;
}

unsigned share_file_system(const struct share *share, int fd)
{
    unsigned flags = 0;
    struct statfs statfs;
    struct statx stat;

    if (share_stat(share, fd, NULL, &stat) < 0 || fstatfs(fd, &statfs) < 0) {
        return SHARE_FS_KERNEL;
    }
    if (share_dev(&stat) != share->root_dev &&
        is_one_of(statfs.f_type, kernel_magics, G_N_ELEMENTS(kernel_magics))) {
        flags |= SHARE_FS_KERNEL;
    }
    if (is_one_of(statfs.f_type, unstable_magics, G_N_ELEMENTS(unstable_magics))) {
        flags |= SHARE_FS_UNSTABLE;
    }
    return flags;
}

ssize_t share_readlink(const struct share *share, int fd, char *buffer, size_t size)
{
    ssize_t length = readlinkat(fd, "", buffer, size);

    return length < 0 ? -errno : length;
}

int share_statfs(const struct share *share, int fd, struct statfs *statfs)
{
    return fstatfs(fd, statfs) < 0 ? -errno : 0;
}

int share_open_file(const struct share *share, int fd, int flags)
{
    struct statx stat;
    char name[SHARE_PROC_NAME];
    int file, ret = share_stat(share, fd, NULL, &stat);

    if (ret < 0) {
        return ret;
    }
    flags &= SHARE_OPEN_FLAGS;
    if (share->readonly && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC))) {
        return -EROFS;
    }
    switch (stat.stx_mode & S_IFMT) {
    case S_IFREG:
        break;
    case S_IFDIR:
        flags |= O_DIRECTORY;
        break;
    case S_IFLNK:
        return -ELOOP;
    default:
        return -ENXIO;
    }
    if (share_dev(&stat) != share->root_dev && share_file_system(share, fd) & SHARE_FS_KERNEL) {
        return -EACCES;
    }
    share_proc_name(name, fd);
    file = openat(share->proc, name, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return file < 0 ? -errno : file;
}

ssize_t share_getdents(const struct share *share, int fd, void *buffer, size_t size)
{
    ssize_t length = syscall(SYS_getdents64, fd, buffer, size);

    return length < 0 ? -errno : length;
}

ssize_t share_read(const struct share *share, int fd, const struct iovec *iov, unsigned count,
                   uint64_t offset)
{
    ssize_t done;

    if (offset > INT64_MAX) {
        return -EINVAL;
    }
    done = preadv(fd, iov, MIN(count, IOV_MAX), offset);
    return done < 0 ? -errno : done;
}

int share_sync(const struct share *share, int fd, bool data_only)
{
    return (data_only ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}

static bool share_fail(GError **error, struct share *share, int code, const char *reason)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code), "path=%s: %s", share->path,
                reason);
    share_close(share);
    return false;
}

static bool open_root(struct share *share, GError **error)
{
    struct statx stat;
    int ret, probe;

    share->root = open(share->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (share->root < 0) {
        ret = errno;
        return share_fail(error, share, ret,
                          ret == ENOTDIR  ? "not a directory; share the directory that holds it"
                          : ret == ENOENT ? "no such directory; create it first"
                                          : g_strerror(ret));
    }
    probe = openat(share->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (probe < 0) {
        ret = errno;
        return share_fail(error, share, ret,
                          ret == EACCES ? "no permission to read this directory" : g_strerror(ret));
    }
    close(probe);
    ret = share_stat(share, share->root, NULL, &stat);
    if (ret < 0) {
        return share_fail(error, share, -ret, g_strerror(-ret));
    }
    share->root_dev = share_dev(&stat);
    probe = try_openat2(share->root, ".", LOOKUP_FLAGS);
    share->has_openat2 = probe >= 0;
    if (probe >= 0) {
        close(probe);
    }
    return true;
}

static bool open_proc(struct share *share, GError **error)
{
    struct statfs statfs;

    share->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (share->proc < 0 || fstatfs(share->proc, &statfs) < 0 || statfs.f_type != PROC_SUPER_MAGIC) {
        return share_fail(error, share, ENOENT,
                          "sharing needs /proc; mount it (mount -t proc proc /proc)");
    }
    return true;
}

struct share *share_open(const struct share_config *config, GError **error)
{
    struct share *share = g_new0(struct share, 1);
    bool is_root = geteuid() == 0;

    share->root = share->proc = -1;
    share->path = g_strdup(config->path);
    share->readonly = config->readonly;
    share->uid = geteuid();
    share->gid = getegid();
    share->passthrough = config->security == SHARE_SECURITY_PASSTHROUGH ||
                         (config->security == SHARE_SECURITY_AUTO && is_root);
    if (share->passthrough && !is_root) {
        share_fail(error, share, EPERM,
                   "security=passthrough needs root; use security=none, or run lodge as root");
        return NULL;
    }
    return open_root(share, error) && open_proc(share, error) ? share : NULL;
}

void share_close(struct share *share)
{
    if (!share) {
        return;
    }
    if (share->root >= 0) {
        close(share->root);
    }
    if (share->proc >= 0) {
        close(share->proc);
    }
    g_free(share->path);
    g_free(share);
}

int share_root(const struct share *share)
{
    return share->root;
}

bool share_is_readonly(const struct share *share)
{
    return share->readonly;
}

bool share_is_passthrough(const struct share *share)
{
    return share->passthrough;
}

const char *share_path(const struct share *share)
{
    return share->path;
}
