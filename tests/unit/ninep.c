/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the 9P server's messages as a well-behaved client sends them. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "tests/unit/ninep.h"

static const struct client_config plain;

/* ---- sessions ---- */

static void test_version_agrees_on_the_smaller_size(void)
{
    struct client *client = client_create(&plain);

    g_assert_cmpint(do_version(client, 64 * 1024 * 1024), ==, 0);
    g_assert_cmpuint(p9_read_u32(&client->body), ==, P9_MAX_MSIZE);
    g_assert_cmpstr(p9_read_string(&client->body, 20, NULL), ==, "9P2000.L");
    g_assert_cmpint(do_version(client, 512000), ==, 0);
    g_assert_cmpuint(p9_read_u32(&client->body), ==, 512000);
    g_assert_cmpint(do_version(client, P9_MIN_MSIZE - 1), ==, EMSGSIZE);
    client_destroy(client, true);
}

static void test_unknown_version_makes_no_session(void)
{
    struct client *client = client_create(&plain);

    g_assert_cmpint(rpc(client, P9_TVERSION, "ds", u32(8192), "9P2000.u"), ==, 0);
    p9_read_u32(&client->body);
    g_assert_cmpstr(p9_read_string(&client->body, 20, NULL), ==, "unknown");
    g_assert_cmpint(do_attach(client, 0, 0), ==, EPROTO);
    client_destroy(client, true);
}

static void test_version_ends_the_session_before(void)
{
    struct client *client = client_create(&plain);
    struct p9_stats stats;
    struct attributes attr;

    scratch_write(client->dir, "a", "x");
    g_assert_cmpint(do_walk(client, 0, 1, "a"), ==, 0);
    g_assert_cmpint(do_lopen(client, 1, 0), ==, 0);
    g_assert_cmpint(do_version(client, 8192), ==, 0);
    g_assert_cmpint(do_getattr(client, 0, &attr), ==, EBADF);
    p9_server_get_stats(client->server, &stats);
    g_assert_cmpuint(stats.fids, ==, 0);
    g_assert_cmpuint(stats.open, ==, 0);
    g_assert_cmpuint(stats.nodes, ==, 1); /* the root */
    client_destroy(client, true);
}

static void test_attach_to_a_folder(void)
{
    struct client *client = client_create(&plain);
    struct attributes attr, folder;

    scratch_mkdir(client->dir, "a/b");
    scratch_write(client->dir, "f", "");
    g_assert_cmpint(do_walk(client, 0, 1, "a/b"), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &folder), ==, 0);
    g_assert_cmpint(rpc(client, P9_TATTACH, "ddssd", u32(2), P9_NOFID, "u", "/a//b", u32(0)), ==,
                    0);
    g_assert_cmpint(do_getattr(client, 2, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, folder.qid.path);
    g_assert_cmpint(rpc(client, P9_TATTACH, "ddssd", u32(3), P9_NOFID, "u", "a/../..", u32(0)), ==,
                    EACCES);
    g_assert_cmpint(rpc(client, P9_TATTACH, "ddssd", u32(3), P9_NOFID, "u", "f", u32(0)), ==,
                    ENOTDIR);
    g_assert_cmpint(rpc(client, P9_TATTACH, "ddssd", u32(3), P9_NOFID, "u", "none", u32(0)), ==,
                    ENOENT);
    client_destroy(client, true);
}

static void test_no_authentication(void)
{
    struct client *client = client_create(&plain);

    g_assert_cmpint(rpc(client, P9_TAUTH, "dssd", u32(9), "u", "", u32(0)), ==, EOPNOTSUPP);
    g_assert_cmpint(rpc(client, P9_TATTACH, "ddssd", u32(3), u32(9), "u", "", u32(0)), ==,
                    EOPNOTSUPP);
    client_destroy(client, true);
}

/* ---- walking ---- */

static void test_walk_many_names(void)
{
    struct client *client = client_create(&plain);
    struct attributes attr;
    struct p9_qid qid;

    scratch_mkdir(client->dir, "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15");
    scratch_write(client->dir, "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/f", "deep");
    g_assert_cmpint(do_walk(client, 0, 1, "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/f"), ==, 0);
    for (unsigned i = 0; i < 16; i++) {
        read_qid(client, &qid);
        g_assert_cmpuint(qid.type, ==, i == 15 ? 0 : P9_QID_DIRECTORY);
    }
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.size, ==, 4);
    g_assert_cmpuint(attr.qid.path, ==, qid.path);
    client_destroy(client, true);
}

static void test_walk_that_ends_early(void)
{
    struct client *client = client_create(&plain);

    scratch_mkdir(client->dir, "a");
    g_assert_cmpint(do_walk(client, 0, 1, "a/none/x"), ==, -1);
    g_assert_cmpint(do_clunk(client, 1), ==, EBADF);
    g_assert_cmpint(do_walk(client, 0, 1, "none"), ==, ENOENT);
    g_assert_cmpint(do_clunk(client, 1), ==, EBADF);
    client_destroy(client, true);
}

static void test_walk_clones_and_moves_fids(void)
{
    struct client *client = client_create(&plain);
    struct attributes root, attr;

    scratch_mkdir(client->dir, "a/b");
    g_assert_cmpint(do_getattr(client, 0, &root), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 1, ""), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, root.qid.path);
    g_assert_cmpint(do_walk(client, 1, 1, "a/b"), ==, 0); /* in place */
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, !=, root.qid.path);
    g_assert_cmpint(do_walk(client, 1, 1, "../.."), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.qid.path, ==, root.qid.path);
    g_assert_cmpint(do_walk(client, 0, 1, "a"), ==, EBADF); /* in use */
    g_assert_cmpint(do_walk(client, 0, P9_NOFID, "a"), ==, EBADF);
    g_assert_cmpint(do_walk(client, 77, 2, "a"), ==, EBADF);
    client_destroy(client, true);
}

/* ---- contents ---- */

static void test_read_and_write_in_pieces(void)
{
    static const size_t pieces[] = {0, 1, 3, 7, 11, 23, 24, 100, 4096};
    g_autofree uint8_t *data = g_malloc(3000);
    const uint8_t *got;

    for (unsigned i = 0; i < 3000; i++) {
        data[i] = i * 7;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pieces); i++) {
        struct client *client = client_create(&plain);

        client->piece = pieces[i];
        client->room = 900;
        g_assert_cmpint(do_walk(client, 0, 1, ""), ==, 0);
        g_assert_cmpint(do_lcreate(client, 1, "f", 2, 0644, 0), ==, 0);
        g_assert_cmpint(do_write(client, 1, 10, data, 900), ==, 900);
        g_assert_cmpint(do_read(client, 1, 0, 100, &got), ==, 100);
        g_assert_cmpmem(got, 10, "\0\0\0\0\0\0\0\0\0\0", 10);
        g_assert_cmpmem(got + 10, 90, data, 90);
        g_assert_cmpint(do_read(client, 1, 900, 100, &got), ==, 10);
        g_assert_cmpmem(got, 10, data + 890, 10);
        g_assert_cmpint(do_read(client, 1, 910, 100, &got), ==, 0);
        g_assert_cmpint(do_read(client, 1, UINT64_MAX, 1, &got), ==, -EINVAL);
        g_assert_cmpint(do_write(client, 1, UINT64_MAX, data, 1), ==, -EINVAL);
        g_assert_cmpint(do_write(client, 1, 0, data, 0), ==, 0);
        client_destroy(client, true);
    }
}

static void test_reads_are_cut_to_the_room_for_the_reply(void)
{
    struct client *client = client_create(&plain);
    g_autofree char *text = g_strnfill(100000, 'x');
    const uint8_t *got;

    scratch_write(client->dir, "f", text);
    g_assert_cmpint(do_version(client, 8192), ==, 0);
    g_assert_cmpint(do_attach(client, 0, 0), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 1, 0), ==, 0);
    g_assert_cmpint(do_read(client, 1, 0, UINT32_MAX, &got), ==, 8192 - 11);
    client->room = 100;
    g_assert_cmpint(do_read(client, 1, 0, 4096, &got), ==, 100 - 11);
    client_destroy(client, true);
}

static void test_open_modes(void)
{
    struct client *client = client_create(&plain);
    const uint8_t *got;
    char *text;

    scratch_write(client->dir, "f", "0123456789");
    scratch_mkdir(client->dir, "d");
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(do_read(client, 1, 0, 1, &got), ==, -EBADF); /* not open */
    g_assert_cmpint(do_lopen(client, 1, 0), ==, 0);
    g_assert_cmpint(do_lopen(client, 1, 0), ==, EINVAL); /* twice */
    g_assert_cmpint(do_write(client, 1, 0, "x", 1), ==, -EBADF);
    g_assert_cmpint(do_walk(client, 0, 2, "f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 2, 1 | P9_O_APPEND), ==, 0);
    g_assert_cmpint(do_write(client, 2, 0, "ab", 2), ==, 2);
    g_assert_cmpint(do_read(client, 2, 0, 1, &got), ==, -EBADF);
    g_assert_cmpint(do_walk(client, 0, 3, "f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 3, P9_O_DIRECTORY), ==, ENOTDIR);
    text = scratch_read(client->dir, "f");
    g_assert_cmpstr(text, ==, "0123456789ab");
    g_free(text);
    g_assert_cmpint(do_lopen(client, 3, 2 | P9_O_TRUNC), ==, 0);
    text = scratch_read(client->dir, "f");
    g_assert_cmpstr(text, ==, "");
    g_free(text);
    g_assert_cmpint(do_walk(client, 0, 4, "d"), ==, 0);
    g_assert_cmpint(do_lopen(client, 4, 2), ==, EISDIR);
    g_assert_cmpint(do_lopen(client, 4, P9_O_DIRECTORY), ==, 0);
    g_assert_cmpint(do_read(client, 4, 0, 1, &got), ==, -EISDIR);
    client_destroy(client, true);
}

static void test_lcreate(void)
{
    struct client *client = client_create(&plain);
    mode_t mask = umask(077);
    struct attributes attr;

    g_assert_cmpint(do_walk(client, 0, 1, ""), ==, 0);
    g_assert_cmpint(do_lcreate(client, 1, "f", 1, 0664, getgid()), ==, 0);
    g_assert_cmpint(do_write(client, 1, 0, "new", 3), ==, 3);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0); /* the fid is the file now */
    g_assert_cmpuint(attr.mode, ==, S_IFREG | 0664);
    g_assert_cmpuint(attr.size, ==, 3);
    g_assert_cmpint(do_lcreate(client, 1, "g", 1, 0644, 0), ==, EINVAL);
    g_assert_cmpint(do_walk(client, 0, 2, ""), ==, 0);
    g_assert_cmpint(do_lcreate(client, 2, "f", P9_O_EXCL, 0644, 0), ==, EEXIST);
    g_assert_cmpint(do_lcreate(client, 2, "f", 0, 0600, 0), ==, 0); /* opens what is there */
    g_assert_cmpint(do_getattr(client, 2, &attr), ==, 0);
    g_assert_cmpuint(attr.mode, ==, S_IFREG | 0664);
    umask(mask);
    client_destroy(client, true);
}

static void test_fsync(void)
{
    struct client *client = client_create(&plain);

    g_assert_cmpint(do_walk(client, 0, 1, ""), ==, 0);
    g_assert_cmpint(rpc(client, P9_TFSYNC, "dd", u32(1), u32(0)), ==, EBADF);
    g_assert_cmpint(do_lcreate(client, 1, "f", 1, 0644, 0), ==, 0);
    g_assert_cmpint(rpc(client, P9_TFSYNC, "dd", u32(1), u32(1)), ==, 0);
    g_assert_cmpint(rpc(client, P9_TFSYNC, "d", u32(1)), ==, 0); /* as clients did once */
    client_destroy(client, true);
}

/* ---- directories ---- */

/* Reads the whole directory open as @fid from @offset on in messages of @count bytes. */
static unsigned list(struct client *client, uint32_t fid, uint64_t offset, uint32_t count,
                     GHashTable *names, uint64_t *middle)
{
    unsigned entries = 0;

    for (;;) {
        uint32_t size;
        int ret = rpc(client, P9_TREADDIR, "dqd", fid, offset, count);

        g_assert_cmpint(ret, ==, 0);
        size = p9_read_u32(&client->body);
        g_assert_cmpuint(size, ==, client->body.end - client->body.next);
        g_assert_cmpuint(size, <=, count);
        if (size == 0) {
            return entries;
        }
        while (client->body.next < client->body.end) {
            struct p9_qid qid;
            const char *name;
            uint8_t type;

            read_qid(client, &qid);
            offset = p9_read_u64(&client->body);
            type = p9_read_u8(&client->body);
            name = p9_read_string(&client->body, NAME_MAX, NULL);
            g_assert_cmpint(client->body.error, ==, 0);
            if (type != DT_UNKNOWN) {
                g_assert_cmpint(qid.type == P9_QID_DIRECTORY, ==, type == DT_DIR);
            }
            g_assert_true(g_hash_table_add(names, g_strdup(name))); /* each once */
            if (++entries == 500 && middle) {
                *middle = offset;
            }
        }
    }
}

static void test_readdir_of_a_big_directory(void)
{
    static const uint32_t counts[] = {300, 1000, 8168, 100000};
    struct client *client = client_create(&plain);
    uint64_t middle = 0;

    scratch_mkdir(client->dir, "d/folder");
    for (unsigned i = 0; i < 2000; i++) {
        g_autofree char *name = g_strdup_printf("d/%.*s%u", i % 100,
                                                "a-name-of-many-lengths-a-name-of-many-lengths-"
                                                "a-name-of-many-lengths-a-name-of-many-lengths",
                                                i);
        scratch_write(client->dir, name, "");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(counts); i++) {
        GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        g_assert_cmpint(do_walk(client, 0, 1, "d"), ==, 0);
        g_assert_cmpint(do_lopen(client, 1, 0), ==, 0);
        g_assert_cmpuint(list(client, 1, 0, counts[i], names, &middle), ==, 2003);
        g_assert_true(g_hash_table_contains(names, ".."));
        g_hash_table_remove_all(names);
        g_assert_cmpuint(list(client, 1, middle, counts[i], names, NULL), ==, 1503);
        g_hash_table_unref(names);
        g_assert_cmpint(do_clunk(client, 1), ==, 0);
    }
    client_destroy(client, true);
}

static void test_readdir_without_room_or_directory(void)
{
    struct client *client = client_create(&plain);

    scratch_write(client->dir, "f", "");
    g_assert_cmpint(do_walk(client, 0, 1, ""), ==, 0);
    g_assert_cmpint(rpc(client, P9_TREADDIR, "dqd", u32(1), u64(0), u32(4096)), ==, EBADF);
    g_assert_cmpint(do_lopen(client, 1, 0), ==, 0);
    g_assert_cmpint(rpc(client, P9_TREADDIR, "dqd", u32(1), u64(0), u32(5)), ==, EINVAL);
    g_assert_cmpint(rpc(client, P9_TREADDIR, "dqd", u32(1), UINT64_MAX, u32(500)), ==, EINVAL);
    g_assert_cmpint(do_walk(client, 0, 2, "f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 2, 0), ==, 0);
    g_assert_cmpint(rpc(client, P9_TREADDIR, "dqd", u32(2), u64(0), u32(4096)), ==, ENOTDIR);
    client_destroy(client, true);
}

/* ---- names ---- */

static void test_mkdir_symlink_mknod(void)
{
    struct client *client = client_create(&plain);
    struct attributes attr;
    struct p9_qid qid;

    g_assert_cmpint(do_mkdir(client, 0, "d", 01755), ==, 0);
    read_qid(client, &qid);
    g_assert_cmpuint(qid.type, ==, P9_QID_DIRECTORY);
    g_assert_cmpint(do_mkdir(client, 0, "d", 0755), ==, EEXIST);
    g_assert_cmpint(do_walk(client, 0, 1, "d"), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.mode, ==, S_IFDIR | 01755);
    g_assert_cmpuint(attr.qid.path, ==, qid.path);

    g_assert_cmpint(rpc(client, P9_TSYMLINK, "dssd", u32(1), "l", "../any/where", u32(0)), ==, 0);
    read_qid(client, &qid);
    g_assert_cmpuint(qid.type, ==, P9_QID_SYMLINK);
    g_assert_cmpint(do_walk(client, 1, 2, "l"), ==, 0);
    g_assert_cmpint(rpc(client, P9_TREADLINK, "d", u32(2)), ==, 0);
    g_assert_cmpstr(p9_read_string(&client->body, 100, NULL), ==, "../any/where");
    g_assert_cmpint(rpc(client, P9_TREADLINK, "d", u32(1)), ==, EINVAL);
    g_assert_cmpint(do_lopen(client, 2, 0), ==, ELOOP);
    g_assert_cmpint(rpc(client, P9_TSYMLINK, "dssd", u32(1), "e", "", u32(0)), ==, ENOENT);

    g_assert_cmpint(rpc(client, P9_TMKNOD, "dsdddd", u32(1), "fifo", u32(S_IFIFO | 0622), u32(0),
                        u32(0), u32(0)),
                    ==, 0);
    g_assert_cmpint(do_walk(client, 1, 3, "fifo"), ==, 0);
    g_assert_cmpint(do_getattr(client, 3, &attr), ==, 0);
    g_assert_cmpuint(attr.mode, ==, S_IFIFO | 0622);
    g_assert_cmpint(
        rpc(client, P9_TMKNOD, "dsdddd", u32(1), "x", u32(S_IFDIR | 0755), u32(0), u32(0), u32(0)),
        ==, EINVAL);
    if (geteuid() == 0) {
        g_assert_cmpint(rpc(client, P9_TMKNOD, "dsdddd", u32(1), "dev", u32(S_IFCHR | 0600), u32(1),
                            u32(700), u32(0)),
                        ==, 0);
        g_assert_cmpint(do_walk(client, 1, 4, "dev"), ==, 0);
        g_assert_cmpint(do_getattr(client, 4, &attr), ==, 0);
        g_assert_cmpuint(attr.rdev, ==, makedev(1, 700));
    }
    client_destroy(client, true);
}

static void test_link(void)
{
    struct client *client = client_create(&plain);
    struct attributes attr, other;

    scratch_write(client->dir, "f", "x");
    scratch_mkdir(client->dir, "d");
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 2, "d"), ==, 0);
    g_assert_cmpint(rpc(client, P9_TLINK, "dds", u32(2), u32(1), "g"), ==, 0);
    g_assert_cmpint(do_walk(client, 2, 3, "g"), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpint(do_getattr(client, 3, &other), ==, 0);
    g_assert_cmpuint(attr.nlink, ==, 2);
    g_assert_cmpuint(attr.qid.path, ==, other.qid.path);
    g_assert_cmpint(rpc(client, P9_TLINK, "dds", u32(1), u32(1), "h"), ==, ENOTDIR);
    g_assert_cmpint(rpc(client, P9_TLINK, "dds", u32(0), u32(2), "h"), ==, EPERM);
    client_destroy(client, true);
}

static void test_fids_follow_renames(void)
{
    struct client *client = client_create(&(struct client_config){.max_cached = 4});
    struct attributes attr;
    const uint8_t *got;

    scratch_mkdir(client->dir, "a/b/c");
    scratch_mkdir(client->dir, "z");
    scratch_write(client->dir, "a/b/c/f", "text");
    g_assert_cmpint(do_walk(client, 0, 1, "a/b/c/f"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 2, "a/b"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 3, "z"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 4, "a"), ==, 0);
    g_assert_cmpint(rpc(client, P9_TRENAMEAT, "dsds", u32(4), "b", u32(3), "y"), ==, 0);
    g_assert_true(scratch_exists(client->dir, "z/y/c/f"));
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0); /* below what moved */
    g_assert_cmpint(do_walk(client, 2, 5, "c/f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 5, 0), ==, 0);
    g_assert_cmpint(do_read(client, 5, 0, 9, &got), ==, 4);
    g_assert_cmpint(rpc(client, P9_TRENAME, "dds", u32(1), u32(0), "top"), ==, 0); /* by fid */
    g_assert_true(scratch_exists(client->dir, "top"));
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpint(do_walk(client, 2, 6, ".."), ==, 0); /* its parent is z now */
    g_assert_cmpint(do_walk(client, 6, 7, "y"), ==, 0);
    g_assert_cmpint(rpc(client, P9_TRENAME, "dds", u32(0), u32(3), "root"), ==, EBUSY);
    g_assert_cmpint(rpc(client, P9_TRENAMEAT, "dsds", u32(0), "none", u32(0), "x"), ==, ENOENT);
    g_assert_cmpint(rpc(client, P9_TRENAMEAT, "dsds", u32(0), "z", u32(2), "x"), ==, EINVAL);
    client_destroy(client, true);
}

static void test_rename_over_a_file_in_use(void)
{
    struct client *client = client_create(&plain);
    struct attributes attr;
    const uint8_t *got;
    char *text;

    scratch_write(client->dir, "old", "old");
    scratch_write(client->dir, "new", "newer");
    g_assert_cmpint(do_walk(client, 0, 1, "old"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 2, "new"), ==, 0);
    g_assert_cmpint(rpc(client, P9_TRENAMEAT, "dsds", u32(0), "new", u32(0), "old"), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0); /* without a name, and still there */
    g_assert_cmpuint(attr.size, ==, 3);
    g_assert_cmpuint(attr.nlink, ==, 0);
    g_assert_cmpint(do_lopen(client, 1, 0), ==, 0);
    g_assert_cmpint(do_read(client, 1, 0, 9, &got), ==, 3);
    g_assert_cmpint(do_getattr(client, 2, &attr), ==, 0);
    g_assert_cmpuint(attr.size, ==, 5);
    text = slurp(client, "old");
    g_assert_cmpstr(text, ==, "newer");
    g_free(text);
    client_destroy(client, true);
}

static void test_removed_files_stay_usable(void)
{
    struct client *client = client_create(&plain);
    struct attributes attr;
    struct p9_stats stats;
    const uint8_t *got;

    scratch_write(client->dir, "f", "text");
    scratch_write(client->dir, "g", "text");
    scratch_mkdir(client->dir, "d");
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 2, "f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 2, 2), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 3, "d"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 4, "g"), ==, 0);
    g_assert_cmpint(rpc(client, P9_TUNLINKAT, "dsd", u32(0), "f", u32(0)), ==, 0);
    g_assert_false(scratch_exists(client->dir, "f"));
    g_assert_cmpint(do_write(client, 2, 4, "more", 4), ==, 4);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.size, ==, 8);
    g_assert_cmpint(do_setattr(client, 1, P9_SETATTR_SIZE, 0, 0, 0, 2, 0, 0), ==, 0);
    g_assert_cmpint(do_lopen(client, 1, 0), ==, 0);
    g_assert_cmpint(do_read(client, 1, 0, 99, &got), ==, 2);
    g_assert_cmpint(do_walk(client, 0, 5, "f"), ==, ENOENT);
    g_assert_cmpint(rpc(client, P9_TUNLINKAT, "dsd", u32(0), "d", u32(0)), ==, EISDIR);
    g_assert_cmpint(rpc(client, P9_TUNLINKAT, "dsd", u32(0), "d", u32(P9_AT_REMOVEDIR)), ==, 0);
    g_assert_cmpint(rpc(client, P9_TUNLINKAT, "dsd", u32(0), "g", u32(0x1000)), ==, EINVAL);
    g_assert_cmpint(do_getattr(client, 3, &attr), ==, 0);
    g_assert_cmpint(do_mkdir(client, 3, "sub", 0755), ==, ENOENT);
    g_assert_cmpint(rpc(client, P9_TREMOVE, "d", u32(4)), ==, 0);
    g_assert_false(scratch_exists(client->dir, "g"));
    g_assert_cmpint(do_clunk(client, 4), ==, EBADF);
    g_assert_cmpint(rpc(client, P9_TREMOVE, "d", u32(1)), ==, ENOENT); /* and the fid is gone */
    g_assert_cmpint(do_clunk(client, 1), ==, EBADF);
    g_assert_cmpint(do_clunk(client, 2), ==, 0);
    g_assert_cmpint(do_clunk(client, 3), ==, 0);
    g_assert_cmpint(rpc(client, P9_TREMOVE, "d", u32(0)), ==, EBUSY);
    p9_server_get_stats(client->server, &stats);
    g_assert_cmpuint(stats.nodes, ==, 1);
    g_assert_cmpuint(stats.cached, ==, 0);
    client_destroy(client, true);
}

/* ---- attributes ---- */

static void test_setattr(void)
{
    struct client *client = client_create(&plain);
    struct attributes attr;

    scratch_write(client->dir, "f", "0123456789");
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(do_setattr(client, 1, P9_SETATTR_MODE, 0604, 0, 0, 0, 0, 0), ==, 0);
    g_assert_cmpint(do_setattr(client, 1, P9_SETATTR_SIZE, 0, 0, 0, 5, 0, 0), ==, 0);
    g_assert_cmpint(do_setattr(client, 1,
                               P9_SETATTR_ATIME | P9_SETATTR_ATIME_SET | P9_SETATTR_MTIME |
                                   P9_SETATTR_MTIME_SET,
                               0, 0, 0, 0, 111, 222),
                    ==, 0);
    g_assert_cmpint(do_setattr(client, 1, P9_SETATTR_CTIME, 0, 0, 0, 0, 0, 0), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.mode, ==, S_IFREG | 0604);
    g_assert_cmpuint(attr.size, ==, 5);
    g_assert_cmpuint(attr.atime, ==, 111);
    g_assert_cmpuint(attr.mtime, ==, 222);
    g_assert_cmpint(do_setattr(client, 1, P9_SETATTR_MTIME, 0, 0, 0, 0, 0, 0), ==, 0); /* now */
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
    g_assert_cmpuint(attr.mtime, >, 222);
    g_assert_cmpuint(attr.atime, ==, 111);
    if (geteuid() == 0) {
        g_assert_cmpint(do_setattr(client, 1, P9_SETATTR_UID | P9_SETATTR_GID | P9_SETATTR_MODE,
                                   04755, 1234, 4321, 0, 0, 0),
                        ==, 0);
        g_assert_cmpint(do_getattr(client, 1, &attr), ==, 0);
        g_assert_cmpuint(attr.uid, ==, 1234);
        g_assert_cmpuint(attr.gid, ==, 4321);
        g_assert_cmpuint(attr.mode, ==, S_IFREG | 04755);
    }
    g_assert_cmpint(do_setattr(client, 0, P9_SETATTR_SIZE, 0, 0, 0, 5, 0, 0), ==, EISDIR);
    client_destroy(client, true);
}

static void test_new_files_belong_to_who_attached(void)
{
    struct client *client = client_create(&plain);
    struct attributes attr;

    if (geteuid() != 0) {
        g_test_skip("changing owners needs root");
    } else {
        g_assert_cmpint(do_attach(client, 1, 1234), ==, 0);
        g_assert_cmpint(rpc(client, P9_TMKDIR, "dsdd", u32(1), "d", u32(0750), u32(77)), ==, 0);
        g_assert_cmpint(do_walk(client, 1, 2, "d"), ==, 0);
        g_assert_cmpint(do_getattr(client, 2, &attr), ==, 0);
        g_assert_cmpuint(attr.uid, ==, 1234);
        g_assert_cmpuint(attr.gid, ==, 77);
        g_assert_cmpint(do_lcreate(client, 2, "f", 1, 0640, 78), ==, 0);
        g_assert_cmpint(do_getattr(client, 2, &attr), ==, 0);
        g_assert_cmpuint(attr.uid, ==, 1234);
        g_assert_cmpuint(attr.gid, ==, 78);
    }
    client_destroy(client, true);
}

static void test_versions_change_with_the_contents(void)
{
    struct client *client = client_create(&plain);
    struct attributes before, after;

    scratch_write(client->dir, "f", "1");
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(do_getattr(client, 1, &before), ==, 0);
    g_assert_cmpuint(before.qid.version, !=, 0); /* 0 would forbid caching */
    g_assert_cmpint(do_lopen(client, 1, 1), ==, 0);
    g_assert_cmpint(do_write(client, 1, 1, "2", 1), ==, 1);
    g_assert_cmpint(do_getattr(client, 1, &after), ==, 0);
    g_assert_cmpuint(before.qid.version, !=, after.qid.version);
    g_assert_cmpuint(before.qid.path, ==, after.qid.path);
    client_destroy(client, true);
}

static void test_statfs(void)
{
    struct client *client = client_create(&plain);

    g_assert_cmpint(rpc(client, P9_TSTATFS, "d", u32(0)), ==, 0);
    g_assert_cmphex(p9_read_u32(&client->body), ==, 0x01021997);
    g_assert_cmpuint(p9_read_u32(&client->body), >, 0);
    g_assert_cmpuint(p9_read_u64(&client->body), >, 0);
    g_assert_cmpint(client->body.end - client->body.next, ==, 60 - 16);
    client_destroy(client, true);
}

static void test_xattrs(void)
{
    struct client *client = client_create(&plain);
    const uint8_t *got;
    int ret;

    scratch_write(client->dir, "f", "");
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 2, "f"), ==, 0);
    g_assert_cmpint(rpc(client, P9_TXATTRCREATE, "dsqd", u32(2), "user.a", u64(5), u32(0)), ==, 0);
    g_assert_cmpint(do_write(client, 2, 0, "he", 2), ==, 2);
    g_assert_cmpint(do_write(client, 2, 3, "x", 1), ==, -EINVAL);    /* a gap */
    g_assert_cmpint(do_write(client, 2, 2, "llo!", 4), ==, -EINVAL); /* too much */
    g_assert_cmpint(do_write(client, 2, 2, "llo", 3), ==, 3);
    g_assert_cmpint(do_read(client, 2, 0, 9, &got), ==, -EBADF);
    ret = do_clunk(client, 2);
    if (ret == EOPNOTSUPP) {
        g_test_skip("no user attributes on this file system");
        client_destroy(client, true);
        return;
    }
    g_assert_cmpint(ret, ==, 0);
    g_assert_cmpint(rpc(client, P9_TXATTRWALK, "dds", u32(1), u32(3), "user.a"), ==, 0);
    g_assert_cmpuint(p9_read_u64(&client->body), ==, 5);
    g_assert_cmpint(do_read(client, 3, 1, 2, &got), ==, 2);
    g_assert_cmpmem(got, 2, "el", 2);
    g_assert_cmpint(do_read(client, 3, 5, 2, &got), ==, 0);
    g_assert_cmpint(do_read(client, 3, UINT64_MAX, 2, &got), ==, 0);
    g_assert_cmpint(do_lopen(client, 3, 0), ==, EINVAL);
    g_assert_cmpint(do_clunk(client, 3), ==, 0);
    g_assert_cmpint(rpc(client, P9_TXATTRWALK, "dds", u32(1), u32(3), ""), ==, 0); /* the list */
    g_assert_cmpint(do_read(client, 3, 0, 100, &got), >=, 7);
    g_assert_cmpint(do_clunk(client, 3), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 4, "f"), ==, 0); /* removal, as Linux does it */
    g_assert_cmpint(rpc(client, P9_TXATTRCREATE, "dsqd", u32(4), "user.a", u64(0), u32(2)), ==, 0);
    g_assert_cmpint(do_clunk(client, 4), ==, 0);
    g_assert_cmpint(rpc(client, P9_TXATTRWALK, "dds", u32(1), u32(3), "user.a"), ==, ENODATA);
    g_assert_cmpint(rpc(client, P9_TXATTRCREATE, "dsqd", u32(1), "user.b", u64(9), u32(0)), ==, 0);
    g_assert_cmpint(do_clunk(client, 1), ==, EINVAL); /* less than was announced */
    g_assert_cmpint(do_clunk(client, 1), ==, EBADF);
    client_destroy(client, true);
}

static void test_xattrs_hold_bounded_memory(void)
{
    struct client *client = client_create(&plain);
    unsigned made = 0;

    scratch_write(client->dir, "f", "");
    for (uint32_t fid = 1; fid < 1000; fid++) {
        g_assert_cmpint(do_walk(client, 0, fid, "f"), ==, 0);
        if (rpc(client, P9_TXATTRCREATE, "dsqd", fid, "user.a", u64(65536), u32(0)) != 0) {
            break;
        }
        made++;
    }
    g_assert_cmpuint(made, >, 10);
    g_assert_cmpuint(made, <, 100);
    g_assert_cmpint(rpc(client, P9_TXATTRCREATE, "dsqd", u32(0), "user.a", u64(65537), u32(0)), ==,
                    E2BIG);
    client_destroy(client, true);
}

/* ---- locks ---- */

static int lock(struct client *client, uint32_t fid, unsigned type, uint64_t start, uint64_t length,
                uint32_t process)
{
    int ret = rpc(client, P9_TLOCK, "dbdqqds", fid, type, u32(0), start, length, process, "guest");

    return ret ? -ret : p9_read_u8(&client->body);
}

static void test_locks(void)
{
    struct client *client = client_create(&plain);

    scratch_write(client->dir, "f", "");
    for (uint32_t fid = 1; fid <= 3; fid++) {
        g_assert_cmpint(do_walk(client, 0, fid, "f"), ==, 0);
        g_assert_cmpint(lock(client, fid, P9_LOCK_READ, 0, 1, 1), ==, -EBADF);
        g_assert_cmpint(do_lopen(client, fid, 2), ==, 0);
    }
    g_assert_cmpint(lock(client, 1, P9_LOCK_WRITE, 0, 100, 1), ==, P9_LOCK_SUCCESS);
    g_assert_cmpint(lock(client, 1, P9_LOCK_WRITE, 50, 100, 1), ==, P9_LOCK_SUCCESS); /* own */
    g_assert_cmpint(lock(client, 2, P9_LOCK_READ, 149, 10, 2), ==, P9_LOCK_BLOCKED);
    g_assert_cmpint(lock(client, 2, P9_LOCK_READ, 150, 0, 2), ==, P9_LOCK_SUCCESS);
    g_assert_cmpint(lock(client, 3, P9_LOCK_READ, 1000, 1, 3), ==, P9_LOCK_SUCCESS);
    g_assert_cmpint(lock(client, 3, P9_LOCK_WRITE, 1000, 1, 3), ==, P9_LOCK_BLOCKED);
    g_assert_cmpint(lock(client, 1, P9_LOCK_UNLOCK, 20, 10, 1), ==, P9_LOCK_SUCCESS); /* a hole */
    g_assert_cmpint(lock(client, 2, P9_LOCK_WRITE, 20, 10, 2), ==, P9_LOCK_SUCCESS);
    g_assert_cmpint(lock(client, 2, P9_LOCK_WRITE, 30, 1, 2), ==, P9_LOCK_BLOCKED);
    g_assert_cmpint(rpc(client, P9_TGETLOCK, "dbqqds", u32(3), (unsigned)P9_LOCK_WRITE, u64(0),
                        u64(5), u32(3), "guest"),
                    ==, 0);
    g_assert_cmpuint(p9_read_u8(&client->body), ==, P9_LOCK_WRITE);
    g_assert_cmpuint(p9_read_u64(&client->body), ==, 0);
    g_assert_cmpuint(p9_read_u64(&client->body), ==, 20);
    g_assert_cmpuint(p9_read_u32(&client->body), ==, 1);
    g_assert_cmpint(do_clunk(client, 1), ==, 0); /* what was locked by it is free */
    g_assert_cmpint(lock(client, 2, P9_LOCK_WRITE, 0, 100, 2), ==, P9_LOCK_SUCCESS);
    g_assert_cmpint(lock(client, 2, P9_LOCK_WRITE, UINT64_MAX, 2, 2), ==, -EINVAL);
    g_assert_cmpint(lock(client, 2, 3, 0, 1, 2), ==, -EINVAL);
    client_destroy(client, true);
}

static void test_locks_are_bounded(void)
{
    struct client *client = client_create(&plain);
    int ret = P9_LOCK_SUCCESS;
    unsigned made = 0;

    scratch_write(client->dir, "f", "");
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 1, 2), ==, 0);
    for (uint64_t i = 0; ret == P9_LOCK_SUCCESS && i < 10000; i++, made++) {
        ret = lock(client, 1, P9_LOCK_READ, i * 2, 1, 1);
    }
    g_assert_cmpint(ret, ==, P9_LOCK_ERROR);
    g_assert_cmpuint(made, >, 1000);
    client_destroy(client, true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/9p/version-agrees-on-the-smaller-size",
                    test_version_agrees_on_the_smaller_size);
    g_test_add_func("/9p/unknown-version-makes-no-session", test_unknown_version_makes_no_session);
    g_test_add_func("/9p/version-ends-the-session-before", test_version_ends_the_session_before);
    g_test_add_func("/9p/attach-to-a-folder", test_attach_to_a_folder);
    g_test_add_func("/9p/no-authentication", test_no_authentication);
    g_test_add_func("/9p/walk-many-names", test_walk_many_names);
    g_test_add_func("/9p/walk-that-ends-early", test_walk_that_ends_early);
    g_test_add_func("/9p/walk-clones-and-moves-fids", test_walk_clones_and_moves_fids);
    g_test_add_func("/9p/read-and-write-in-pieces", test_read_and_write_in_pieces);
    g_test_add_func("/9p/reads-are-cut-to-the-room-for-the-reply",
                    test_reads_are_cut_to_the_room_for_the_reply);
    g_test_add_func("/9p/open-modes", test_open_modes);
    g_test_add_func("/9p/lcreate", test_lcreate);
    g_test_add_func("/9p/fsync", test_fsync);
    g_test_add_func("/9p/readdir-of-a-big-directory", test_readdir_of_a_big_directory);
    g_test_add_func("/9p/readdir-without-room-or-directory",
                    test_readdir_without_room_or_directory);
    g_test_add_func("/9p/mkdir-symlink-mknod", test_mkdir_symlink_mknod);
    g_test_add_func("/9p/link", test_link);
    g_test_add_func("/9p/fids-follow-renames", test_fids_follow_renames);
    g_test_add_func("/9p/rename-over-a-file-in-use", test_rename_over_a_file_in_use);
    g_test_add_func("/9p/removed-files-stay-usable", test_removed_files_stay_usable);
    g_test_add_func("/9p/setattr", test_setattr);
    g_test_add_func("/9p/new-files-belong-to-who-attached", test_new_files_belong_to_who_attached);
    g_test_add_func("/9p/versions-change-with-the-contents",
                    test_versions_change_with_the_contents);
    g_test_add_func("/9p/statfs", test_statfs);
    g_test_add_func("/9p/xattrs", test_xattrs);
    g_test_add_func("/9p/xattrs-hold-bounded-memory", test_xattrs_hold_bounded_memory);
    g_test_add_func("/9p/locks", test_locks);
    g_test_add_func("/9p/locks-are-bounded", test_locks_are_bounded);
    return g_test_run();
}
