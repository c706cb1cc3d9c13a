/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the 9P server's bounds (fids, descriptors), and of a host that changes files under it. */
#include <fcntl.h>

#include "tests/unit/ninep.h"
#include "virtio/9p_internal.h"

static const struct client_config plain;

static void test_fids_are_bounded(void)
{
    struct client *client = client_create(&(struct client_config){.max_fids = 10});

    for (uint32_t fid = 1; fid < 10; fid++) {
        g_assert_cmpint(do_walk(client, 0, fid, ""), ==, 0);
    }
    g_assert_cmpint(do_walk(client, 0, 10, ""), ==, ENFILE);
    g_assert_cmpint(do_clunk(client, 5), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 10, ""), ==, 0);
    client_destroy(client, true);
}

static void test_opened_files_are_bounded(void)
{
    struct client *client = client_create(&(struct client_config){.max_open = 3});

    scratch_write(client->dir, "f", "");
    for (uint32_t fid = 1; fid <= 4; fid++) {
        g_assert_cmpint(do_walk(client, 0, fid, "f"), ==, 0);
        g_assert_cmpint(do_lopen(client, fid, 0), ==, fid <= 3 ? 0 : EMFILE);
    }
    g_assert_cmpint(do_walk(client, 0, 5, ""), ==, 0);
    g_assert_cmpint(do_lcreate(client, 5, "g", 1, 0644, 0), ==, EMFILE);
    g_assert_false(scratch_exists(client->dir, "g"));
    g_assert_cmpint(do_clunk(client, 1), ==, 0);
    g_assert_cmpint(do_lopen(client, 4, 0), ==, 0);
    client_destroy(client, true);
}

static void test_many_fids_need_few_descriptors(void)
{
    struct client *client = client_create(&(struct client_config){.max_cached = 4});
    unsigned before;
    struct attributes attr;

    for (unsigned i = 0; i < 50; i++) {
        g_autofree char *dir = g_strdup_printf("a%u/b/c/d", i);
        g_autofree char *file = g_strdup_printf("a%u/b/c/d/f", i);

        scratch_mkdir(client->dir, dir);
        scratch_write(client->dir, file, "x");
    }
    before = count_descriptors();
    for (unsigned i = 0; i < 50; i++) {
        g_autofree char *file = g_strdup_printf("a%u/b/c/d/f", i);
        g_autofree char *dir = g_strdup_printf("a%u/b/c/d", i);

        g_assert_cmpint(do_walk(client, 0, 100 + i, file), ==, 0);
        g_assert_cmpint(do_walk(client, 0, 200 + i, dir), ==, 0);
        g_assert_cmpuint(count_descriptors(), <=, before + 4);
    }
    for (unsigned i = 0; i < 50; i++) { /* all still good, opened again on the way */
        g_assert_cmpint(do_getattr(client, 100 + i, &attr), ==, 0);
        g_assert_cmpint(do_getattr(client, 200 + i, &attr), ==, 0);
        g_assert_cmpint(do_walk(client, 200 + i, 300, "f"), ==, 0);
        g_assert_cmpint(do_lopen(client, 300, 0), ==, 0);
        g_assert_cmpint(do_clunk(client, 300), ==, 0);
        g_assert_cmpuint(count_descriptors(), <=, before + 4);
    }
    client_destroy(client, true);
}

static void test_host_changes_are_seen(void)
{
    struct client *client = client_create(&(struct client_config){.max_cached = 2});
    g_autofree char *from = g_build_filename(client->dir, "a", NULL);
    g_autofree char *to = g_build_filename(client->dir, "b", NULL);
    struct attributes attr, old;
    char *text;

    scratch_write(client->dir, "a", "old");
    scratch_write(client->dir, "b", "newer");
    g_assert_cmpint(do_walk(client, 0, 1, "b"), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &old), ==, 0);
    g_assert_cmpint(rename(from, to), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, ENOENT); /* the file it knew is gone */
    g_assert_cmpint(do_walk(client, 0, 2, "b"), ==, 0);
    g_assert_cmpint(do_getattr(client, 2, &attr), ==, 0);
    g_assert_cmpuint(attr.size, ==, 3);
    g_assert_cmpint(do_walk(client, 0, 3, "a"), ==, ENOENT);
    text = slurp(client, "b");
    g_assert_cmpstr(text, ==, "old");
    g_free(text);
    client_destroy(client, true);
}

static void test_nothing_is_left_open(void)
{
    unsigned before = count_descriptors();
    struct client *client = client_create(&plain);

    scratch_mkdir(client->dir, "a/b");
    scratch_write(client->dir, "a/b/f", "x");
    for (uint32_t fid = 1; fid < 20; fid++) {
        g_assert_cmpint(do_walk(client, 0, fid, "a/b/f"), ==, 0);
        g_assert_cmpint(do_lopen(client, fid, 0), ==, 0);
    }
    client_destroy(client, true);
    g_assert_cmpuint(count_descriptors(), ==, before);
}

static void test_unstable_inode_numbers(void)
{
    struct client *client = client_create(&plain);
    g_autofree char *from = g_build_filename(client->dir, "other", NULL);
    g_autofree char *to = g_build_filename(client->dir, "f", NULL);
    struct attributes attr;

    client->server->root->unstable = true; /* as on overlayfs or vfat */
    scratch_write(client->dir, "f", "1");
    scratch_write(client->dir, "other", "22");
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(rename(from, to), ==, 0); /* another number by the same name */
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.size, ==, 2);
    g_assert_cmpint(do_walk(client, 0, 2, "f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 1, 0), ==, 0);
    g_assert_cmpint(unlink(to), ==, 0);
    scratch_symlink(client->dir, "f", "elsewhere");
    g_assert_cmpint(do_getattr(client, 2, &attr), ==, ENOENT); /* but not of another type */
    client_destroy(client, true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/9p-bounds/fids-are-bounded", test_fids_are_bounded);
    g_test_add_func("/9p-bounds/opened-files-are-bounded", test_opened_files_are_bounded);
    g_test_add_func("/9p-bounds/many-fids-need-few-descriptors",
                    test_many_fids_need_few_descriptors);
    g_test_add_func("/9p-bounds/host-changes-are-seen", test_host_changes_are_seen);
    g_test_add_func("/9p-bounds/nothing-is-left-open", test_nothing_is_left_open);
    g_test_add_func("/9p-bounds/unstable-inode-numbers", test_unstable_inode_numbers);
    return g_test_run();
}
