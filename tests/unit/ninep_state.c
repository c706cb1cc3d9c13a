/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of saving and loading a session of the 9P server: what comes back, what is lost, bad streams. */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/unit/ninep.h"
#include "virtio/9p_internal.h"

static const struct client_config plain;

/* Another server on the same directory. */
static struct client *second(struct client *client)
{
    struct client *other = client_create(&(struct client_config){.dir = client->dir});

    g_assert_cmpint(do_version(other, 8192), ==, 0);
    return other;
}

static void load(struct client *client, const GByteArray *saved)
{
    GError *error = NULL;

    p9_server_load(client->server, saved->data, saved->len, &error);
    g_assert_no_error(error);
}

/* Fids: 1 d, 2 d/f, 3 d/f open for both, 4 the root open, 5 d/e, 6 user.a of d/f half written. */
static struct client *busy(void)
{
    struct client *client = client_create(&plain);

    scratch_mkdir(client->dir, "d/e");
    scratch_write(client->dir, "d/f", "contents");
    g_assert_cmpint(do_walk(client, 0, 1, "d"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 2, "d/f"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 3, "d/f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 3, 2 | P9_O_TRUNC), ==, 0);
    g_assert_cmpint(do_write(client, 3, 0, "new contents", 12), ==, 12);
    g_assert_cmpint(do_walk(client, 0, 4, ""), ==, 0);
    g_assert_cmpint(do_lopen(client, 4, 0), ==, 0);
    g_assert_cmpint(do_walk(client, 1, 5, "e"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 6, "d/f"), ==, 0);
    g_assert_cmpint(rpc(client, P9_TXATTRCREATE, "dsqd", u32(6), "user.a", u64(4), u32(0)), ==, 0);
    g_assert_cmpint(do_write(client, 6, 0, "ab", 2), ==, 2);
    g_assert_cmpint(rpc(client, P9_TLOCK, "dbdqqds", u32(3), (unsigned)P9_LOCK_WRITE, u32(0),
                        u64(10), u64(5), u32(1), "guest"),
                    ==, 0);
    return client;
}

static void test_a_session_comes_back(void)
{
    struct client *client = busy(), *other = second(client);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    g_autoptr(GByteArray) again = g_byte_array_new();
    struct attributes before[6], after;
    struct p9_stats stats;
    const uint8_t *got;
    int ret;

    for (uint32_t fid = 0; fid < 6; fid++) {
        g_assert_cmpint(do_getattr(client, fid, &before[fid]), ==, 0);
    }
    p9_server_save(client->server, saved);
    load(other, saved);
    for (uint32_t fid = 0; fid < 6; fid++) {
        g_assert_cmpint(do_getattr(other, fid, &after), ==, 0);
        g_assert_cmpuint(after.qid.path, ==, before[fid].qid.path);
        g_assert_cmpuint(after.size, ==, before[fid].size);
    }
    g_assert_cmpint(do_read(other, 3, 0, 99, &got), ==, 12); /* not truncated again */
    g_assert_cmpint(do_write(other, 3, 0, "N", 1), ==, 1);
    g_assert_cmpint(rpc(other, P9_TREADDIR, "dqd", u32(4), u64(0), u32(1000)), ==, 0);
    g_assert_cmpint(do_walk(other, 5, 9, "../f"), ==, 0); /* the tree is there, too */
    g_assert_cmpint(do_lopen(other, 9, 2), ==, 0);
    g_assert_cmpint(rpc(other, P9_TLOCK, "dbdqqds", u32(9), (unsigned)P9_LOCK_READ, u32(0), u64(14),
                        u64(1), u32(2), "guest"),
                    ==, 0);
    g_assert_cmpuint(p9_read_u8(&other->body), ==, P9_LOCK_BLOCKED);
    g_assert_cmpint(do_clunk(other, 9), ==, 0);
    g_assert_cmpint(do_write(other, 6, 2, "cd", 2), ==, 2);
    ret = do_clunk(other, 6);
    g_assert_true(ret == 0 || ret == EOPNOTSUPP);
    p9_server_get_stats(other->server, &stats);
    g_assert_cmpuint(stats.fids, ==, 6);
    g_assert_cmpuint(stats.open, ==, 2);
    g_assert_cmpuint(stats.msize, ==, 128 * 1024);
    p9_server_save(other->server, again);
    load(client, again); /* replaces what was there */
    g_assert_cmpint(do_clunk(client, 6), ==, EBADF);
    g_assert_cmpint(do_read(client, 3, 0, 99, &got), ==, 12);
    client_destroy(other, false);
    client_destroy(client, true);
}

static bool is_unchanged(struct client *client, const GByteArray *saved)
{
    load(client, saved);
    return p9_server_is_unchanged(client->server);
}

/* What changes within a tick of the files' clock may look as it did; what was just written is not trusted. */
static void save_settled(struct client *client, GByteArray *saved)
{
    g_usleep(40 * 1000);
    g_byte_array_set_size(saved, 0);
    p9_server_save(client->server, saved);
}

static void set_mode(struct client *client, const char *name, mode_t mode)
{
    g_autofree char *path = g_build_filename(client->dir, name, NULL);

    g_assert_cmpint(chmod(path, mode), ==, 0);
}

/* What the guest has cached is right as long as nothing that it knows has changed. */
static void test_changes_are_found(void)
{
    struct client *client = busy(), *other = second(client);
    g_autoptr(GByteArray) saved = g_byte_array_new();

    scratch_write(client->dir, "d/e/unknown", "to the guest");
    p9_server_save(client->server, saved);
    g_assert_false(is_unchanged(other, saved));
    save_settled(client, saved);
    g_assert_true(is_unchanged(other, saved));
    g_assert_true(is_unchanged(other, saved));
    scratch_write(client->dir, "d/e/unknown", "and it may change");
    g_assert_true(is_unchanged(other, saved));
    scratch_write(client->dir, "d/f", "NEW CONTENTS"); /* as long as the old ones */
    g_assert_false(is_unchanged(other, saved));

    set_mode(client, "d/e", 01777); /* as /tmp */
    save_settled(client, saved);
    scratch_write(client->dir, "d/e/temporary", "");
    g_assert_true(is_unchanged(other, saved));
    set_mode(client, "d/e", 0755);

    save_settled(client, saved);
    g_assert_true(is_unchanged(other, saved));
    scratch_write(client->dir, "d/e/new", "a name that was not there");
    g_assert_false(is_unchanged(other, saved));
    save_settled(client, saved);
    set_mode(client, "d/e", 0700);
    g_assert_false(is_unchanged(other, saved));
    client_destroy(other, false);
    client_destroy(client, true);
}

/* Of a session that knows the root only, layout 1 differs by the one stamp. */
static void test_the_first_layout_is_read(void)
{
    struct client *client = client_create(&plain), *other = second(client);
    g_autoptr(GByteArray) saved = g_byte_array_new();

    save_settled(client, saved);
    g_assert_true(is_unchanged(other, saved));
    g_assert_cmpuint(saved->data[0], ==, 2);
    saved->data[0] = 1;
    g_byte_array_remove_range(saved, 8, 8);
    g_assert_false(is_unchanged(other, saved)); /* not known to be */
    client_destroy(other, false);
    client_destroy(client, true);
}

static void test_what_is_gone_is_gone(void)
{
    struct client *client = busy(), *other = second(client);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    g_autofree char *from = g_build_filename(client->dir, "other", NULL);
    g_autofree char *to = g_build_filename(client->dir, "d", "f", NULL);
    g_autofree char *folder = g_build_filename(client->dir, "d", "e", NULL);
    struct attributes attr;
    const uint8_t *got;

    p9_server_save(client->server, saved);
    scratch_write(client->dir, "other", "another file");
    g_assert_cmpint(rename(from, to), ==, 0);
    g_assert_cmpint(rmdir(folder), ==, 0);
    load(other, saved);
    g_assert_cmpint(do_getattr(other, 2, &attr), ==, ENOENT); /* replaced */
    g_assert_cmpint(do_lopen(other, 2, 0), ==, ENOENT);
    g_assert_cmpint(do_read(other, 3, 0, 10, &got), ==, -ESTALE); /* it was open */
    g_assert_cmpint(do_write(other, 3, 0, "x", 1), ==, -ESTALE);
    g_assert_cmpint(do_getattr(other, 5, &attr), ==, ENOENT); /* removed */
    g_assert_cmpint(do_getattr(other, 1, &attr), ==, 0);
    g_assert_cmpint(do_walk(other, 1, 9, "f"), ==, 0); /* the new one can be walked to */
    for (uint32_t fid = 0; fid < 10; fid++) {
        do_clunk(other, fid);
    }
    client_destroy(other, false);
    client_destroy(client, true);
}

static void test_a_removed_open_file_is_lost(void)
{
    struct client *client = busy(), *other = second(client);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    const uint8_t *got;

    g_assert_cmpint(rpc(client, P9_TUNLINKAT, "dsd", u32(1), "f", u32(0)), ==, 0);
    g_assert_cmpint(do_read(client, 3, 0, 10, &got), ==, 10);
    p9_server_save(client->server, saved);
    scratch_write(client->dir, "d/f", "a new one of that name");
    load(other, saved);
    g_assert_cmpint(do_read(other, 3, 0, 10, &got), ==, -ESTALE);
    client_destroy(other, false);
    client_destroy(client, true);
}

/* Device numbers are given out anew at every start of the host. */
static void test_qids_survive_new_device_numbers(void)
{
    struct client *client = busy(), *other = second(client);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    uint64_t dev = client->server->root->dev, another = dev ^ UINT64_C(0x5500000000);
    struct attributes before, after;
    unsigned replaced = 0;

    g_assert_cmpint(do_getattr(client, 2, &before), ==, 0);
    p9_server_save(client->server, saved);
    for (unsigned i = 0; i + 8 <= saved->len; i++) {
        if (memcmp(saved->data + i, &dev, 8) == 0) {
            memcpy(saved->data + i, &another, 8);
            replaced++;
        }
    }
    g_assert_cmpuint(replaced, ==, 1 + 3); /* the prefix, and three nodes */
    load(other, saved);
    g_assert_cmpint(do_getattr(other, 2, &after), ==, 0);
    g_assert_cmpuint(before.qid.path, ==, after.qid.path);
    client_destroy(other, false);
    client_destroy(client, true);
}

static void test_no_session_is_a_session_too(void)
{
    struct client *client = client_create(&plain), *other = second(client);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    struct attributes attr;

    p9_server_reset(client->server);
    p9_server_save(client->server, saved);
    load(other, saved);
    g_assert_cmpint(do_getattr(other, 0, &attr), ==, EPROTO);
    client_destroy(other, false);
    client_destroy(client, true);
}

static void test_bad_streams(void)
{
    struct client *client = busy(), *other = second(client);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    struct attributes attr;
    unsigned accepted = 0;

    log_set_levels("error", NULL);
    g_assert_cmpint(do_attach(other, 7, 0), ==, 0);
    p9_server_save(client->server, saved);
    for (size_t size = 0; size < saved->len; size++) {
        GError *error = NULL;

        g_assert_false(p9_server_load(other->server, saved->data, size, &error));
        g_assert_nonnull(strstr(error->message, "saved session: bad "));
        g_clear_error(&error);
    }
    g_assert_cmpint(do_getattr(other, 7, &attr), ==, 0); /* what was there is as it was */
    for (size_t at = 0; at < saved->len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            saved->data[at] ^= 1 << bit;
            accepted += p9_server_load(other->server, saved->data, saved->len, NULL);
            saved->data[at] ^= 1 << bit;
        }
    }
    g_test_message("%u of %u streams with a wrong bit could be loaded", accepted, saved->len * 8);
    load(other, saved);
    g_assert_cmpint(do_getattr(other, 2, &attr), ==, 0);
    client_destroy(other, false);
    client_destroy(client, true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/9p-state/a-session-comes-back", test_a_session_comes_back);
    g_test_add_func("/9p-state/changes-are-found", test_changes_are_found);
    g_test_add_func("/9p-state/the-first-layout-is-read", test_the_first_layout_is_read);
    g_test_add_func("/9p-state/what-is-gone-is-gone", test_what_is_gone_is_gone);
    g_test_add_func("/9p-state/a-removed-open-file-is-lost", test_a_removed_open_file_is_lost);
    g_test_add_func("/9p-state/qids-survive-new-device-numbers",
                    test_qids_survive_new_device_numbers);
    g_test_add_func("/9p-state/no-session-is-a-session-too", test_no_session_is_a_session_too);
    g_test_add_func("/9p-state/bad-streams", test_bad_streams);
    return g_test_run();
}
