/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of backends/fs/share: names, special files, ownership, read-only, what is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "backends/fs/share.h"
#include "tests/unit/scratch.h"

static struct share *open_share(const char *path, bool readonly, enum share_security security)
{
    struct share_config config = {.path = path, .readonly = readonly, .security = security};
    GError *error = NULL;
    struct share *share = share_open(&config, &error);

    g_assert_no_error(error);
    return share;
}

static const struct share_owner nobody = {.uid = 65534, .gid = 65533};

static void test_names(void)
{
    char longest[NAME_MAX + 2];

    memset(longest, 'x', sizeof(longest));
    g_assert_cmpint(share_check_name("a", 1), ==, 0);
    g_assert_cmpint(share_check_name("...", 3), ==, 0);
    g_assert_cmpint(share_check_name(".a", 2), ==, 0);
    g_assert_cmpint(share_check_name("a b\n\xff", 5), ==, 0);
    g_assert_cmpint(share_check_name(longest, NAME_MAX), ==, 0);
    g_assert_cmpint(share_check_name(longest, NAME_MAX + 1), ==, -ENAMETOOLONG);
    g_assert_cmpint(share_check_name("", 0), ==, -EINVAL);
    g_assert_cmpint(share_check_name(".", 1), ==, -EINVAL);
    g_assert_cmpint(share_check_name("..", 2), ==, -EINVAL);
    g_assert_cmpint(share_check_name("a/b", 3), ==, -EINVAL);
    g_assert_cmpint(share_check_name("/", 1), ==, -EINVAL);
    g_assert_cmpint(share_check_name("a\0b", 3), ==, -EINVAL);
}

static void test_no_operation_takes_a_path(void)
{
    g_autofree char *dir = scratch_create();
    struct share *share = open_share(dir, false, SHARE_SECURITY_AUTO);
    static const char *const bad[] = {"", ".", "..", "/etc", "a/b", "../x", "a/"};
    int root = share_root(share);
    struct statx stat;
    bool created;

    scratch_mkdir(dir, "a");
    scratch_write(dir, "a/b", "x");
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(share_stat(share, root, bad[i], &stat), ==, -EINVAL);
        g_assert_cmpint(share_lookup(share, root, bad[i]), ==, -EINVAL);
        g_assert_cmpint(share_create(share, root, bad[i], O_RDWR, 0644, &nobody, &created), ==,
                        -EINVAL);
        g_assert_cmpint(share_mkdir(share, root, bad[i], 0755, &nobody, &stat), ==, -EINVAL);
        g_assert_cmpint(share_symlink(share, root, bad[i], "t", &nobody, &stat), ==, -EINVAL);
        g_assert_cmpint(share_mknod(share, root, bad[i], S_IFIFO | 0600, 0, &nobody, &stat), ==,
                        -EINVAL);
        g_assert_cmpint(share_link(share, root, root, bad[i]), ==, -EINVAL);
        g_assert_cmpint(share_rename(share, root, bad[i], root, "ok"), ==, -EINVAL);
        g_assert_cmpint(share_rename(share, root, "a", root, bad[i]), ==, -EINVAL);
        g_assert_cmpint(share_unlink(share, root, bad[i], true), ==, -EINVAL);
    }
    share_close(share);
    scratch_remove(dir);
}

static void test_links_are_not_followed(void)
{
    g_autofree char *dir = scratch_create();
    struct share *share = open_share(dir, false, SHARE_SECURITY_AUTO);
    char target[64];
    struct statx stat;
    int fd;

    scratch_symlink(dir, "etc", "/etc");
    g_assert_cmpint(share_stat(share, share_root(share), "etc", &stat), ==, 0);
    g_assert_true(S_ISLNK(stat.stx_mode));
    fd = share_lookup(share, share_root(share), "etc");
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(share_open_file(share, fd, O_RDONLY), ==, -ELOOP);
    g_assert_cmpint(share_lookup(share, fd, "passwd"), ==, -ENOTDIR);
    g_assert_cmpint(share_readlink(share, fd, target, sizeof(target)), ==, 4);
    g_assert_cmpmem(target, 4, "/etc", 4);
    g_assert_cmpint(share_set_mode(share, fd, 0777), ==, -EOPNOTSUPP);
    g_assert_cmpint(share_set_size(share, fd, 0), !=, 0);
    close(fd);
    share_close(share);
    scratch_remove(dir);
}

static void test_special_files_are_never_opened(void)
{
    g_autofree char *dir = scratch_create();
    struct share *share = open_share(dir, false, SHARE_SECURITY_AUTO);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static const char *const names[] = {"fifo", "socket", "device"};
    g_autofree char *fifo = g_build_filename(dir, "fifo", NULL);
    g_autofree char *device = g_build_filename(dir, "device", NULL);
    int fd, server = socket(AF_UNIX, SOCK_STREAM, 0);

    g_assert_cmpint(mkfifo(fifo, 0666), ==, 0);
    g_snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", dir);
    g_assert_cmpint(bind(server, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    if (mknod(device, S_IFCHR | 0666, makedev(1, 3)) < 0) {
        scratch_write(dir, "device", "");
        g_test_message("no device node: not root");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(names) - (geteuid() != 0); i++) {
        fd = share_lookup(share, share_root(share), names[i]);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(share_open_file(share, fd, O_RDONLY), ==, -ENXIO);
        g_assert_cmpint(share_open_file(share, fd, O_RDWR), ==, -ENXIO);
        close(fd);
    }
    close(server);
    share_close(share);
    scratch_remove(dir);
}

static void test_kernel_file_systems_are_recognised(void)
{
    g_autofree char *dir = scratch_create();
    struct share *share = open_share(dir, false, SHARE_SECURITY_AUTO);
    int proc = open("/proc", O_PATH | O_CLOEXEC), status = open("/proc/self/status", O_PATH);

    g_assert_true(share_file_system(share, proc) & SHARE_FS_KERNEL);
    g_assert_true(share_file_system(share, status) & SHARE_FS_KERNEL);
    g_assert_false(share_file_system(share, share_root(share)) & SHARE_FS_KERNEL);
    g_assert_cmpint(share_open_file(share, status, O_RDONLY), ==, -EACCES);
    close(proc);
    close(status);
    share_close(share);
    scratch_remove(dir);
}

static void test_create_gives_owner_and_exact_mode(void)
{
    g_autofree char *dir = scratch_create();
    struct share *share = open_share(dir, false, SHARE_SECURITY_AUTO);
    int root = share_root(share), fd;
    mode_t mask = umask(077);
    struct statx stat;
    bool created;

    if (geteuid() != 0) {
        g_test_skip("changing owners needs root");
    } else {
        fd = share_create(share, root, "file", O_RDWR, 04755, &nobody, &created);
        g_assert_cmpint(fd, >=, 0);
        g_assert_true(created);
        close(fd);
        g_assert_cmpint(share_stat(share, root, "file", &stat), ==, 0);
        g_assert_cmpuint(stat.stx_mode, ==, S_IFREG | 04755);
        g_assert_cmpuint(stat.stx_uid, ==, nobody.uid);
        g_assert_cmpuint(stat.stx_gid, ==, nobody.gid);
        g_assert_cmpint(share_mkdir(share, root, "dir", 02775, &nobody, &stat), ==, 0);
        g_assert_cmpuint(stat.stx_mode, ==, S_IFDIR | 02775);
        g_assert_cmpuint(stat.stx_uid, ==, nobody.uid);
        g_assert_cmpint(share_symlink(share, root, "link", "/x", &nobody, &stat), ==, 0);
        g_assert_true(S_ISLNK(stat.stx_mode));
        g_assert_cmpuint(stat.stx_gid, ==, nobody.gid);
        g_assert_cmpint(
            share_mknod(share, root, "dev", S_IFBLK | 0660, makedev(7, 9), &nobody, &stat), ==, 0);
        g_assert_cmpuint(stat.stx_mode, ==, S_IFBLK | 0660);
        g_assert_cmpuint(stat.stx_rdev_major, ==, 7);
        g_assert_cmpuint(stat.stx_rdev_minor, ==, 9);
    }
    umask(mask);
    share_close(share);
    scratch_remove(dir);
}

static void test_security_none_keeps_the_users_rights(void)
{
    g_autofree char *dir = scratch_create();
    struct share *share = open_share(dir, false, SHARE_SECURITY_NONE);
    int root = share_root(share), fd;
    struct statx stat;
    bool created;

    fd = share_create(share, root, "file", O_RDWR, 06755, &nobody, &created);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(share_stat(share, fd, NULL, &stat), ==, 0);
    g_assert_cmpuint(stat.stx_mode, ==, S_IFREG | 0755);
    g_assert_cmpuint(stat.stx_uid, ==, geteuid());
    g_assert_cmpint(share_set_mode(share, fd, 04711), ==, 0);
    g_assert_cmpint(share_stat(share, fd, NULL, &stat), ==, 0);
    g_assert_cmpuint(stat.stx_mode, ==, S_IFREG | 0711);
    g_assert_cmpint(share_set_xattr(share, fd, "security.x", "1", 1, 0), ==, -EPERM);
    g_assert_cmpint(share_set_xattr(share, fd, "trusted.x", "1", 1, 0), ==, -EPERM);
    g_assert_cmpint(share_mknod(share, root, "dev", S_IFCHR | 0666, makedev(1, 3), &nobody, &stat),
                    ==, -EPERM);
    g_assert_cmpint(share_mknod(share, root, "fifo", S_IFIFO | 0640, 0, &nobody, &stat), ==, 0);
    g_assert_cmpuint(stat.stx_mode, ==, S_IFIFO | 0640);
    close(fd);
    share_close(share);
    scratch_remove(dir);
}

static void test_create_of_an_existing_name(void)
{
    g_autofree char *dir = scratch_create();
    struct share *share = open_share(dir, false, SHARE_SECURITY_AUTO);
    g_autofree char *fifo = g_build_filename(dir, "fifo", NULL);
    int root = share_root(share), fd;
    bool created;

    scratch_write(dir, "old", "contents");
    scratch_symlink(dir, "dangling", "nowhere");
    scratch_symlink(dir, "outside", "/etc/passwd");
    g_assert_cmpint(mkfifo(fifo, 0666), ==, 0);
    fd = share_create(share, root, "old", O_RDONLY, 0600, &nobody, &created);
    g_assert_cmpint(fd, >=, 0);
    g_assert_false(created);
    close(fd);
    g_assert_cmpint(share_create(share, root, "old", O_RDWR | O_EXCL, 0600, &nobody, &created), ==,
                    -EEXIST);
    g_assert_cmpint(share_create(share, root, "dangling", O_RDWR, 0600, &nobody, &created), ==,
                    -ELOOP);
    g_assert_cmpint(share_create(share, root, "outside", O_RDONLY, 0600, &nobody, &created), ==,
                    -ELOOP);
    g_assert_cmpint(share_create(share, root, "fifo", O_RDWR, 0600, &nobody, &created), ==, -ENXIO);
    share_close(share);
    scratch_remove(dir);
}

static void test_attributes_through_path_descriptors(void)
{
    g_autofree char *dir = scratch_create();
    struct share *share = open_share(dir, false, SHARE_SECURITY_AUTO);
    struct timespec times[2] = {{1000, 5}, {2000, 7}};
    struct statx stat;
    char value[8];
    int fd, ret;

    scratch_write(dir, "file", "0123456789");
    fd = share_lookup(share, share_root(share), "file");
    g_assert_cmpint(share_set_mode(share, fd, 0640), ==, 0);
    g_assert_cmpint(share_set_size(share, fd, 4), ==, 0);
    g_assert_cmpint(share_set_size(share, fd, UINT64_MAX), ==, -EFBIG);
    g_assert_cmpint(share_set_times(share, fd, times), ==, 0);
    g_assert_cmpint(share_stat(share, fd, NULL, &stat), ==, 0);
    g_assert_cmpuint(stat.stx_mode & 07777, ==, 0640);
    g_assert_cmpuint(stat.stx_size, ==, 4);
    g_assert_cmpint(stat.stx_atime.tv_sec, ==, 1000);
    g_assert_cmpuint(stat.stx_mtime.tv_nsec, ==, 7);
    ret = share_set_xattr(share, fd, "user.colour", "red", 3, XATTR_CREATE);
    if (ret == -EOPNOTSUPP) {
        g_test_message("no user attributes on this file system");
    } else {
        g_assert_cmpint(ret, ==, 0);
        g_assert_cmpint(share_set_xattr(share, fd, "user.colour", "", 0, XATTR_CREATE), ==,
                        -EEXIST);
        g_assert_cmpint(share_get_xattr(share, fd, "user.colour", value, sizeof(value)), ==, 3);
        g_assert_cmpmem(value, 3, "red", 3);
        g_assert_cmpint(share_remove_xattr(share, fd, "user.colour"), ==, 0);
        g_assert_cmpint(share_get_xattr(share, fd, "user.colour", value, sizeof(value)), ==,
                        -ENODATA);
    }
    close(fd);
    share_close(share);
    scratch_remove(dir);
}

static void test_readonly_refuses_every_change(void)
{
    g_autofree char *dir = scratch_create();
    struct share *share = open_share(dir, true, SHARE_SECURITY_AUTO);
    struct timespec times[2] = {{1, 0}, {1, 0}};
    struct iovec iov = {.iov_base = (char *)"x", .iov_len = 1};
    int root = share_root(share), fd, writable;
    g_autofree char *path = g_build_filename(dir, "file", NULL);
    struct statx stat;
    bool created;

    scratch_write(dir, "file", "x");
    fd = share_lookup(share, root, "file");
    writable = open(path, O_RDWR);
    g_assert_cmpint(share_create(share, root, "new", O_RDONLY, 0600, &nobody, &created), ==,
                    -EROFS);
    g_assert_cmpint(share_mkdir(share, root, "new", 0700, &nobody, &stat), ==, -EROFS);
    g_assert_cmpint(share_symlink(share, root, "new", "t", &nobody, &stat), ==, -EROFS);
    g_assert_cmpint(share_mknod(share, root, "new", S_IFIFO | 0600, 0, &nobody, &stat), ==, -EROFS);
    g_assert_cmpint(share_link(share, fd, root, "new"), ==, -EROFS);
    g_assert_cmpint(share_rename(share, root, "file", root, "new"), ==, -EROFS);
    g_assert_cmpint(share_unlink(share, root, "file", false), ==, -EROFS);
    g_assert_cmpint(share_open_file(share, fd, O_WRONLY), ==, -EROFS);
    g_assert_cmpint(share_open_file(share, fd, O_RDWR), ==, -EROFS);
    g_assert_cmpint(share_open_file(share, fd, O_RDONLY | O_TRUNC), ==, -EROFS);
    g_assert_cmpint(share_write(share, writable, &iov, 1, 0), ==, -EROFS);
    g_assert_cmpint(share_set_mode(share, fd, 0600), ==, -EROFS);
    g_assert_cmpint(share_set_owner(share, fd, 1, 1), ==, -EROFS);
    g_assert_cmpint(share_set_size(share, writable, 0), ==, -EROFS);
    g_assert_cmpint(share_set_times(share, fd, times), ==, -EROFS);
    g_assert_cmpint(share_set_xattr(share, fd, "user.a", "x", 1, 0), ==, -EROFS);
    g_assert_cmpint(share_remove_xattr(share, fd, "user.a"), ==, -EROFS);
    g_assert_cmpint(share_stat(share, root, "new", &stat), ==, -ENOENT);
    close(fd);
    close(writable);
    share_close(share);
    scratch_remove(dir);
}

static void test_open_errors_name_the_path_and_the_remedy(void)
{
    g_autofree char *dir = scratch_create();
    g_autofree char *file = g_build_filename(dir, "file", NULL);
    struct share_config config = {.path = "/nowhere/at/all"};
    GError *error = NULL;

    scratch_write(dir, "file", "");
    g_assert_null(share_open(&config, &error));
    g_assert_nonnull(strstr(error->message, "path=/nowhere/at/all: no such directory"));
    g_clear_error(&error);
    config.path = file;
    g_assert_null(share_open(&config, &error));
    g_assert_nonnull(strstr(error->message, "not a directory"));
    g_clear_error(&error);
    scratch_remove(dir);
}

/* In a process of its own, since it gives up being root. */
static void test_who_is_not_root_gets_no_passthrough(void)
{
    if (g_test_subprocess()) {
        struct share_config config = {.path = "/tmp", .security = SHARE_SECURITY_PASSTHROUGH};
        GError *error = NULL;
        struct share *share;

        if (geteuid() == 0) {
            g_assert_cmpint(setresuid(65534, 65534, 65534), ==, 0);
        }
        g_assert_null(share_open(&config, &error));
        g_assert_nonnull(strstr(error->message, "needs root; use security=none"));
        g_clear_error(&error);
        config.security = SHARE_SECURITY_AUTO;
        share = share_open(&config, &error);
        g_assert_no_error(error);
        g_assert_false(share_is_passthrough(share));
        share_close(share);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/share/names", test_names);
    g_test_add_func("/share/no-operation-takes-a-path", test_no_operation_takes_a_path);
    g_test_add_func("/share/links-are-not-followed", test_links_are_not_followed);
    g_test_add_func("/share/special-files-are-never-opened", test_special_files_are_never_opened);
    g_test_add_func("/share/kernel-file-systems-are-recognised",
                    test_kernel_file_systems_are_recognised);
    g_test_add_func("/share/create-gives-owner-and-exact-mode",
                    test_create_gives_owner_and_exact_mode);
    g_test_add_func("/share/security-none-keeps-the-users-rights",
                    test_security_none_keeps_the_users_rights);
    g_test_add_func("/share/create-of-an-existing-name", test_create_of_an_existing_name);
    g_test_add_func("/share/attributes-through-path-descriptors",
                    test_attributes_through_path_descriptors);
    g_test_add_func("/share/readonly-refuses-every-change", test_readonly_refuses_every_change);
    g_test_add_func("/share/who-is-not-root-gets-no-passthrough",
                    test_who_is_not_root_gets_no_passthrough);
    g_test_add_func("/share/open-errors-name-the-path-and-the-remedy",
                    test_open_errors_name_the_path_and_the_remedy);
    return g_test_run();
}
