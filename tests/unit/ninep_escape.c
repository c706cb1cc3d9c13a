/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests that a guest of the 9P server cannot leave the shared directory: by symbolic links, "..", races
 * with renames, special files, /proc; and that a read-only share stays as it is.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include "backends/fs/share_internal.h"
#include "tests/unit/ninep.h"
#include "virtio/9p_internal.h"

#define RACE_MS 700

/*
 * outside/secret        "secret"
 * outside/dir/secret    "secret"
 * shared/               what is shared
 */
struct fixture {
    char *top, *outside, *shared;
    struct client *client;
};

static bool without_openat2; /* as on a host before Linux 5.6 */

static void setup(struct fixture *f, bool readonly)
{
    struct client_config config = {.readonly = readonly};

    f->top = scratch_create();
    f->outside = g_build_filename(f->top, "outside", NULL);
    f->shared = g_build_filename(f->top, "shared", NULL);
    scratch_mkdir(f->top, "outside/dir");
    scratch_mkdir(f->top, "shared/a/b");
    scratch_write(f->top, "outside/secret", "secret");
    scratch_write(f->top, "outside/dir/secret", "secret");
    scratch_write(f->top, "shared/a/b/f", "inside");
    config.dir = f->shared;
    f->client = client_create(&config);
    if (without_openat2) {
        f->client->server->share->has_openat2 = false;
    }
}

static void run_without_openat2(gconstpointer test)
{
    without_openat2 = true;
    ((void (*)(void))test)();
    without_openat2 = false;
}

static void teardown(struct fixture *f)
{
    client_destroy(f->client, false);
    scratch_remove(f->top);
    g_free(f->top);
    g_free(f->outside);
    g_free(f->shared);
}

static void check_not_readable(struct fixture *f, const char *path)
{
    char *text = slurp(f->client, path);

    if (text) {
        g_error("%s can be read: %s", path, text);
    }
}

/* ---- symbolic links ---- */

static void test_links_at_every_position(void)
{
    struct fixture f;
    g_autofree char *secret = NULL, *text = NULL;

    setup(&f, false);
    secret = g_build_filename(f.outside, "secret", NULL);
    scratch_symlink(f.shared, "first", f.outside);
    scratch_symlink(f.shared, "a/middle", "../../outside/dir");
    scratch_symlink(f.shared, "a/b/last", secret);
    scratch_symlink(f.shared, "up", "..");
    scratch_symlink(f.shared, "root", "/");
    scratch_symlink(f.shared, "loop", "loop");
    scratch_symlink(f.shared, "inner", "a/b/f");
    check_not_readable(&f, "first/secret");
    check_not_readable(&f, "first/dir/secret");
    check_not_readable(&f, "a/middle/secret");
    check_not_readable(&f, "a/b/last");
    check_not_readable(&f, "up/outside/secret");
    check_not_readable(&f, "root/etc/passwd");
    check_not_readable(&f, "loop");
    check_not_readable(&f, "inner"); /* resolving is the guest's business */
    text = slurp(f.client, "a/b/f");
    g_assert_cmpstr(text, ==, "inside");
    teardown(&f);
}

static void test_nothing_is_made_through_links(void)
{
    struct fixture f;

    setup(&f, false);
    scratch_symlink(f.shared, "out", f.outside);
    scratch_symlink(f.shared, "new", "../outside/new");
    scratch_symlink(f.shared, "secret", "../outside/secret");
    g_assert_cmpint(do_walk(f.client, 0, 1, "out"), ==, 0); /* the link itself */
    g_assert_cmpint(do_walk(f.client, 0, 2, ""), ==, 0);
    g_assert_cmpint(do_lcreate(f.client, 1, "x", 1, 0644, 0), ==, ENOTDIR);
    g_assert_cmpint(do_mkdir(f.client, 1, "x", 0755), ==, ENOTDIR);
    g_assert_cmpint(rpc(f.client, P9_TSYMLINK, "dssd", u32(1), "x", "t", u32(0)), ==, ENOTDIR);
    g_assert_cmpint(rpc(f.client, P9_TUNLINKAT, "dsd", u32(1), "secret", u32(0)), ==, ENOTDIR);
    g_assert_cmpint(rpc(f.client, P9_TRENAMEAT, "dsds", u32(1), "secret", u32(0), "s"), ==,
                    ENOTDIR);
    g_assert_cmpint(rpc(f.client, P9_TRENAMEAT, "dsds", u32(0), "a", u32(1), "s"), ==, ENOTDIR);
    g_assert_cmpint(do_lcreate(f.client, 2, "new", 1, 0644, 0), ==, ELOOP);
    g_assert_cmpint(do_lcreate(f.client, 2, "secret", 1 | P9_O_TRUNC, 0644, 0), ==, ELOOP);
    g_assert_cmpint(do_walk(f.client, 0, 3, "secret"), ==, 0);
    g_assert_cmpint(do_setattr(f.client, 3, P9_SETATTR_SIZE, 0, 0, 0, 0, 0, 0), !=, 0);
    g_assert_cmpint(do_setattr(f.client, 3, P9_SETATTR_MODE, 0777, 0, 0, 0, 0, 0), ==, EOPNOTSUPP);
    g_assert_cmpint(rpc(f.client, P9_TLINK, "dds", u32(0), u32(3), "copy"), ==, 0);
    check_not_readable(&f, "copy"); /* a second name of the link, not of what it points to */
    g_assert_false(scratch_exists(f.outside, "new"));
    g_assert_false(scratch_exists(f.outside, "x"));
    g_assert_true(scratch_exists(f.outside, "secret"));
    g_autofree char *text = scratch_read(f.outside, "secret");
    g_assert_cmpstr(text, ==, "secret");
    teardown(&f);
}

/* ---- dots ---- */

static void test_dots_stay_inside(void)
{
    struct fixture f;
    struct attributes root, attr;
    static const char *const bad[] = {".", "..", "", "/", "a/b", "../outside", "a/"};
    g_autofree char *text = NULL;

    setup(&f, false);
    g_assert_cmpint(do_getattr(f.client, 0, &root), ==, 0);
    g_assert_cmpint(do_walk(f.client, 0, 1, "../../.."), ==, 0);
    g_assert_cmpint(do_getattr(f.client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, root.qid.path);
    g_assert_cmpint(do_walk(f.client, 0, 2, "a/b/../../../../outside"), ==, -1);
    check_not_readable(&f, "../outside/secret");
    check_not_readable(&f, "a/b/../../../outside/secret");
    text = slurp(f.client, "a/./b/../b/f");
    g_assert_cmpstr(text, ==, "inside");
    g_assert_cmpint(do_walk(f.client, 0, 3, "a/b/f/.."), ==, -1); /* of a file */
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(do_mkdir(f.client, 0, bad[i], 0755), ==, EINVAL);
        g_assert_cmpint(rpc(f.client, P9_TRENAMEAT, "dsds", u32(0), "a", u32(0), bad[i]), ==,
                        EINVAL);
        g_assert_cmpint(rpc(f.client, P9_TUNLINKAT, "dsd", u32(0), bad[i], u32(0x200)), ==, EINVAL);
        g_assert_cmpint(do_lcreate(f.client, 1, bad[i], 1, 0644, 0), ==, EINVAL);
    }
    teardown(&f);
}

static void test_a_directory_moved_away_leads_nowhere(void)
{
    struct fixture f;
    g_autofree char *from = NULL, *to = NULL;
    struct attributes root, attr;

    setup(&f, false);
    g_assert_cmpint(do_walk(f.client, 0, 1, "a/b"), ==, 0);
    g_assert_cmpint(do_walk(f.client, 1, 2, "f"), ==, 0); /* opens b on the host */
    from = g_build_filename(f.shared, "a", "b", NULL);
    to = g_build_filename(f.outside, "b", NULL);
    g_assert_cmpint(rename(from, to), ==, 0);
    check_not_readable(&f, "a/b/../../secret");
    g_assert_cmpint(do_walk(f.client, 1, 3, "../../../secret"), !=, 0);
    g_assert_cmpint(do_getattr(f.client, 0, &root), ==, 0);
    g_assert_cmpint(do_walk(f.client, 1, 4, "../.."), ==, 0); /* as it was when it was walked */
    g_assert_cmpint(do_getattr(f.client, 4, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, root.qid.path);
    teardown(&f);
}

/* ---- races ---- */

struct race {
    struct fixture *f;
    const char *name; /* swapped between a directory (or file) and a link to the outside */
    bool stop;
};

/* Exchanges shared/NAME and shared/other until told to stop. */
static gpointer swap(gpointer opaque)
{
    struct race *race = opaque;
    g_autofree char *one = g_build_filename(race->f->shared, race->name, NULL);
    g_autofree char *other = g_build_filename(race->f->shared, "other", NULL);

    while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
        if (renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) < 0) {
            g_error("renameat2: %s", g_strerror(errno));
        }
    }
    return NULL;
}

static void race(struct fixture *f, const char *name, const char *const *paths)
{
    struct race state = {.f = f, .name = name};
    GThread *thread = g_thread_new("swap", swap, &state);
    int64_t end = g_get_monotonic_time() + RACE_MS * 1000;
    unsigned inside = 0, refused = 0;

    while (g_get_monotonic_time() < end) {
        for (unsigned i = 0; paths[i]; i++) {
            char *text = slurp(f->client, paths[i]);

            if (text) {
                g_assert_cmpstr(text, ==, "inside");
                inside++;
            } else {
                refused++;
            }
            g_free(text);
        }
        /* Making things must not reach the outside either. */
        if (do_walk(f->client, 0, 50, name) == 0) {
            do_mkdir(f->client, 50, "made", 0755);
            rpc(f->client, P9_TUNLINKAT, "dsd", u32(50), "made", u32(P9_AT_REMOVEDIR));
            rpc(f->client, P9_TUNLINKAT, "dsd", u32(50), "secret", u32(0));
            do_setattr(f->client, 50, P9_SETATTR_MODE, 0711, 0, 0, 0, 0, 0);
            g_assert_cmpint(do_clunk(f->client, 50), ==, 0);
        }
    }
    __atomic_store_n(&state.stop, true, __ATOMIC_RELAXED);
    g_thread_join(thread);
    g_test_message("%u reads inside, %u refused", inside, refused);
    g_assert_cmpuint(inside, >, 0); /* else the test saw no race */
    g_assert_cmpuint(refused, >, 0);
    g_assert_true(scratch_exists(f->outside, "secret"));
    g_assert_false(scratch_exists(f->outside, "made"));
}

static void test_race_of_a_directory_with_a_link(void)
{
    static const char *const paths[] = {"d/secret", "d/dir/secret", "d/../d/secret", NULL};
    struct fixture f;
    struct stat before, after;

    setup(&f, false);
    scratch_mkdir(f.shared, "d/dir");
    scratch_write(f.shared, "d/dir/secret", "inside");
    scratch_symlink(f.shared, "other", f.outside);
    g_assert_cmpint(stat(f.outside, &before), ==, 0);
    race(&f, "d", paths);
    g_assert_cmpint(stat(f.outside, &after), ==, 0);
    g_assert_cmpuint(before.st_mode, ==, after.st_mode);
    teardown(&f);
}

static void test_race_of_a_file_with_a_link(void)
{
    static const char *const paths[] = {"f", NULL};
    struct fixture f;
    g_autofree char *secret = NULL;
    struct stat before, after;

    setup(&f, false);
    secret = g_build_filename(f.outside, "secret", NULL);
    scratch_write(f.shared, "f", "inside");
    scratch_symlink(f.shared, "other", secret);
    g_assert_cmpint(stat(secret, &before), ==, 0);
    race(&f, "f", paths);
    g_assert_cmpint(stat(secret, &after), ==, 0);
    g_assert_cmpuint(before.st_mode, ==, after.st_mode);
    teardown(&f);
}

static void test_race_of_a_file_with_a_fifo(void)
{
    static const char *const paths[] = {"f", NULL};
    struct fixture f;
    g_autofree char *fifo = NULL;

    setup(&f, false);
    fifo = g_build_filename(f.shared, "other", NULL);
    scratch_write(f.shared, "f", "inside");
    g_assert_cmpint(mkfifo(fifo, 0666), ==, 0);
    race(&f, "f", paths); /* and does not hang */
    teardown(&f);
}

/* A guest that renames its own directories while it walks through them. */
static gpointer rename_in_guest(gpointer opaque)
{
    struct race *race = opaque;
    struct client *client = client_clone(race->f->client);

    while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
        rpc(client, P9_TRENAMEAT, "dsds", u32(0), "a", u32(10), "moved");
        rpc(client, P9_TRENAMEAT, "dsds", u32(10), "moved", u32(0), "a");
        rpc(client, P9_TRENAMEAT, "dsds", u32(11), "b", u32(0), "b");
        rpc(client, P9_TRENAMEAT, "dsds", u32(0), "b", u32(11), "b");
    }
    client_free_clone(client);
    return NULL;
}

static void test_race_of_walks_and_renames_in_the_guest(void)
{
    static const char *const paths[] = {
        "a/b/f", "z/moved/b/f", "b/f", "a/b/../../../secret", "b/../secret", "z/../../secret"};
    struct fixture f;
    struct race state = {.f = &f};
    unsigned inside = 0;
    struct attributes attr;
    GThread *thread;
    int64_t end;

    setup(&f, false);
    scratch_mkdir(f.shared, "z");
    scratch_symlink(f.shared, "secret", "../outside/secret");
    g_assert_cmpint(do_walk(f.client, 0, 10, "z"), ==, 0);
    g_assert_cmpint(do_walk(f.client, 0, 11, "a"), ==, 0);
    g_assert_cmpint(do_walk(f.client, 0, 12, "a/b/f"), ==, 0);
    thread = g_thread_new("rename", rename_in_guest, &state);
    end = g_get_monotonic_time() + RACE_MS * 1000;
    while (g_get_monotonic_time() < end) {
        for (unsigned i = 0; i < G_N_ELEMENTS(paths); i++) {
            char *text = slurp(f.client, paths[i]);

            if (text) {
                g_assert_cmpstr(text, ==, "inside");
                inside++;
            }
            g_free(text);
        }
        /* A fid below all of that is good at every moment. */
        g_assert_cmpint(do_getattr(f.client, 12, &attr), ==, 0);
        g_assert_cmpuint(attr.size, ==, 6);
    }
    __atomic_store_n(&state.stop, true, __ATOMIC_RELAXED);
    g_thread_join(thread);
    g_assert_cmpuint(inside, >, 0);
    teardown(&f);
}

/* ---- special files ---- */

static void test_special_files_are_not_opened(void)
{
    struct fixture f;
    g_autofree char *fifo = NULL, *device = NULL;
    struct attributes attr;
    bool root = geteuid() == 0;

    setup(&f, false);
    fifo = g_build_filename(f.shared, "fifo", NULL);
    device = g_build_filename(f.shared, "zero", NULL);
    g_assert_cmpint(mkfifo(fifo, 0666), ==, 0);
    g_assert_cmpint(do_walk(f.client, 0, 1, "fifo"), ==, 0);
    for (uint32_t mode = 0; mode < 3; mode++) {
        g_assert_cmpint(do_lopen(f.client, 1, mode), ==, ENXIO);
    }
    g_assert_cmpint(do_walk(f.client, 0, 3, ""), ==, 0);
    g_assert_cmpint(do_lcreate(f.client, 3, "fifo", 1, 0644, 0), ==, ENXIO);
    if (root) {
        g_assert_cmpint(rpc(f.client, P9_TMKNOD, "dsdddd", u32(0), "zero", u32(S_IFCHR | 0666),
                            u32(1), u32(5), u32(0)),
                        ==, 0);
        g_assert_cmpint(do_walk(f.client, 0, 2, "zero"), ==, 0);
        g_assert_cmpint(do_getattr(f.client, 2, &attr), ==, 0);
        g_assert_cmpuint(attr.rdev, ==, makedev(1, 5));
        g_assert_cmpint(do_lopen(f.client, 2, 0), ==, ENXIO);
        g_assert_cmpint(do_lopen(f.client, 2, 2), ==, ENXIO);
        g_assert_cmpint(do_setattr(f.client, 2, P9_SETATTR_SIZE, 0, 0, 0, 0, 0, 0), ==, EINVAL);
    }
    teardown(&f);
}

/* ---- /proc ---- */

/* The host's root shared: what the kernel shows below /proc and /sys is not for the guest. */
static void test_kernel_file_systems_are_empty(void)
{
    struct client *client = client_create(&(struct client_config){.dir = "/", .readonly = true});
    g_autofree char *magic = g_strdup_printf("proc/%d/root/etc/passwd", getpid());
    struct attributes attr;
    char *text;

    g_assert_cmpint(do_walk(client, 0, 1, "proc"), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.mode & S_IFMT, ==, S_IFDIR);
    g_assert_cmpint(do_walk(client, 1, 2, "self"), ==, ENOENT);
    g_assert_cmpint(do_lopen(client, 1, 0), ==, 0); /* an empty directory */
    g_assert_cmpint(rpc(client, P9_TREADDIR, "dqd", u32(1), u64(0), u32(8000)), ==, 0);
    g_assert_cmpuint(p9_read_u32(&client->body), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.mode & S_IFMT, ==, S_IFDIR);
    g_assert_cmpint(rpc(client, P9_TFSYNC, "d", u32(1)), ==, 0);
    g_assert_cmpint(rpc(client, P9_TSTATFS, "d", u32(1)), ==, EACCES);
    g_assert_null(slurp(client, "proc/self/environ"));
    g_assert_null(slurp(client, magic));
    text = slurp(client, "etc/passwd"); /* an ordinary file is there */
    g_assert_nonnull(text);
    g_free(text);
    client_destroy(client, false);
}

/* Whoever shares /proc itself gets it; its magic links are still only links. */
static void test_magic_links_are_not_followed(void)
{
    struct client *client =
        client_create(&(struct client_config){.dir = "/proc", .readonly = true});
    static const char *const links[] = {"root/etc/passwd", "cwd/.", "exe", "fd/0", "ns/mnt"};

    for (unsigned i = 0; i < G_N_ELEMENTS(links); i++) {
        g_autofree char *path = g_strdup_printf("%d/%s", getpid(), links[i]);

        g_assert_null(slurp(client, path));
    }
    g_autofree char *status = g_strdup_printf("%d/status", getpid());
    g_autofree char *text = slurp(client, status);
    g_assert_nonnull(text);
    client_destroy(client, false);
}

/* ---- qids ---- */

static bool own_mounts(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void test_qids_of_several_file_systems_differ(void)
{
    struct fixture f;
    g_autofree char *one = NULL, *two = NULL;
    struct attributes a, b;
    struct stat host_a, host_b;

    if (!own_mounts()) {
        g_test_skip("mounting is not allowed here");
        return;
    }
    setup(&f, false);
    scratch_mkdir(f.shared, "one");
    scratch_mkdir(f.shared, "two");
    one = g_build_filename(f.shared, "one", NULL);
    two = g_build_filename(f.shared, "two", NULL);
    g_assert_cmpint(mount("one", one, "tmpfs", 0, NULL), ==, 0);
    g_assert_cmpint(mount("two", two, "tmpfs", 0, NULL), ==, 0);
    scratch_write(one, "f", "1");
    scratch_write(two, "f", "2");
    g_assert_cmpint(do_walk(f.client, 0, 1, "one"), ==, 0);
    g_assert_cmpint(do_walk(f.client, 0, 2, "two"), ==, 0);
    g_assert_cmpint(do_getattr(f.client, 1, &a), ==, 0);
    g_assert_cmpint(do_getattr(f.client, 2, &b), ==, 0);
    g_assert_cmpint(stat(one, &host_a), ==, 0);
    g_assert_cmpint(stat(two, &host_b), ==, 0);
    g_assert_cmpuint(host_a.st_ino, ==, host_b.st_ino); /* what the test is about */
    g_assert_cmpuint(a.qid.path, !=, b.qid.path);
    g_autofree char *text = slurp(f.client, "two/f");
    g_assert_cmpstr(text, ==, "2");
    g_assert_cmpint(umount2(one, MNT_DETACH), ==, 0);
    g_assert_cmpint(umount2(two, MNT_DETACH), ==, 0);
    teardown(&f);
}

/* ---- read-only ---- */

static void test_readonly_refuses_every_message_that_changes(void)
{
    struct fixture f;
    struct client *client;
    g_autofree char *text = NULL;

    setup(&f, true);
    client = f.client;
    g_assert_cmpint(do_walk(client, 0, 1, "a/b/f"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 2, "a"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 3, "a/b/f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 3, 0), ==, 0);
    g_assert_cmpint(do_lopen(client, 1, 1), ==, EROFS);
    g_assert_cmpint(do_lopen(client, 1, 2), ==, EROFS);
    g_assert_cmpint(do_lopen(client, 1, P9_O_TRUNC), ==, EROFS);
    g_assert_cmpint(do_lopen(client, 1, 1 | P9_O_APPEND), ==, EROFS);
    g_assert_cmpint(do_lcreate(client, 2, "new", 0, 0644, 0), ==, EROFS);
    g_assert_cmpint(do_write(client, 3, 0, "x", 1), ==, -EROFS);
    g_assert_cmpint(do_write(client, 1, 0, "x", 1), ==, -EROFS);
    g_assert_cmpint(do_mkdir(client, 2, "new", 0755), ==, EROFS);
    g_assert_cmpint(rpc(client, P9_TSYMLINK, "dssd", u32(2), "new", "t", u32(0)), ==, EROFS);
    g_assert_cmpint(rpc(client, P9_TMKNOD, "dsdddd", u32(2), "new", u32(S_IFIFO | 0644), u32(0),
                        u32(0), u32(0)),
                    ==, EROFS);
    g_assert_cmpint(rpc(client, P9_TLINK, "dds", u32(2), u32(1), "new"), ==, EROFS);
    g_assert_cmpint(rpc(client, P9_TRENAME, "dds", u32(1), u32(2), "new"), ==, EROFS);
    g_assert_cmpint(rpc(client, P9_TRENAMEAT, "dsds", u32(0), "a", u32(0), "new"), ==, EROFS);
    g_assert_cmpint(rpc(client, P9_TUNLINKAT, "dsd", u32(0), "a", u32(0x200)), ==, EROFS);
    g_assert_cmpint(rpc(client, P9_TXATTRCREATE, "dsqd", u32(1), "user.a", u64(1), u32(0)), ==,
                    EROFS);
    for (uint32_t valid = 1; valid <= P9_SETATTR_MTIME_SET; valid <<= 1) {
        g_assert_cmpint(do_setattr(client, 1, valid, 0600, 0, 0, 0, 1, 1), ==, EROFS);
        g_assert_cmpint(do_setattr(client, 3, valid, 0600, 0, 0, 0, 1, 1), ==, EROFS);
    }
    g_assert_cmpint(rpc(client, P9_TREMOVE, "d", u32(1)), ==, EROFS);
    g_assert_false(scratch_exists(f.shared, "a/new"));
    text = slurp(client, "a/b/f");
    g_assert_cmpstr(text, ==, "inside");
    teardown(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/9p-escape/links-at-every-position", test_links_at_every_position);
    g_test_add_func("/9p-escape/nothing-is-made-through-links", test_nothing_is_made_through_links);
    g_test_add_func("/9p-escape/dots-stay-inside", test_dots_stay_inside);
    g_test_add_func("/9p-escape/a-directory-moved-away-leads-nowhere",
                    test_a_directory_moved_away_leads_nowhere);
    g_test_add_func("/9p-escape/race-of-a-directory-with-a-link",
                    test_race_of_a_directory_with_a_link);
    g_test_add_func("/9p-escape/race-of-a-file-with-a-link", test_race_of_a_file_with_a_link);
    g_test_add_func("/9p-escape/race-of-a-file-with-a-fifo", test_race_of_a_file_with_a_fifo);
    g_test_add_func("/9p-escape/race-of-walks-and-renames-in-the-guest",
                    test_race_of_walks_and_renames_in_the_guest);
    g_test_add_data_func("/9p-escape/old-kernel/links-at-every-position",
                         test_links_at_every_position, run_without_openat2);
    g_test_add_data_func("/9p-escape/old-kernel/nothing-is-made-through-links",
                         test_nothing_is_made_through_links, run_without_openat2);
    g_test_add_data_func("/9p-escape/old-kernel/race-of-a-directory-with-a-link",
                         test_race_of_a_directory_with_a_link, run_without_openat2);
    g_test_add_data_func("/9p-escape/old-kernel/race-of-a-file-with-a-link",
                         test_race_of_a_file_with_a_link, run_without_openat2);
    g_test_add_func("/9p-escape/special-files-are-not-opened", test_special_files_are_not_opened);
    g_test_add_func("/9p-escape/kernel-file-systems-are-empty", test_kernel_file_systems_are_empty);
    g_test_add_func("/9p-escape/magic-links-are-not-followed", test_magic_links_are_not_followed);
    g_test_add_func("/9p-escape/readonly-refuses-every-message-that-changes",
                    test_readonly_refuses_every_message_that_changes);
    /* Last: it moves the process to a mount namespace of its own. */
    g_test_add_func("/9p-escape/qids-of-several-file-systems-differ",
                    test_qids_of_several_file_systems_differ);
    return g_test_run();
}
