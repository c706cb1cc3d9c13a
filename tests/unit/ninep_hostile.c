/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the 9P server against what no client should send: cut, foreign and contradictory messages,
 * no room for replies, and many threads that use the same fids for everything at once. */
#include <fcntl.h>

#include "tests/unit/ninep.h"

static const struct client_config plain = {.security = SHARE_SECURITY_NONE};

#define STRESS_MS      500
#define STRESS_THREADS 4

static void quiet(void)
{
    log_set_levels("error", NULL);
}

/* ---- single messages ---- */

/* A whole message of every type, on fids that are as it wants them: 0 the root, 1 a file, 2 it opened,
 * 3 the root opened. @index counts types; false after the last. */
static bool build_message(struct client *client, unsigned index)
{
    static const struct {
        uint8_t type;
        const char *format;
        uint64_t numbers[10]; /* for the integers, in order */
        const char *strings[2];
    } messages[] = {
        {P9_TSTATFS, "d", {0}, {NULL}},
        {P9_TLOPEN, "dd", {1, 0}, {NULL}},
        {P9_TLCREATE, "dsddd", {0, 1, 0644, 0}, {"c"}},
        {P9_TSYMLINK, "dssd", {0, 0}, {"s", "target"}},
        {P9_TMKNOD, "dsdddd", {0, S_IFIFO | 0600, 0, 0, 0}, {"p"}},
        {P9_TRENAME, "dds", {1, 0}, {"r"}},
        {P9_TREADLINK, "d", {1}, {NULL}},
        {P9_TGETATTR, "dq", {0, 0x7ff}, {NULL}},
        {P9_TSETATTR, "dddddqqqqq", {1, 1, 0600, 0, 0, 0, 0, 0, 0, 0}, {NULL}},
        {P9_TXATTRWALK, "dds", {1, 9}, {"user.a"}},
        {P9_TXATTRCREATE, "dsqd", {1, 3, 0}, {"user.a"}},
        {P9_TREADDIR, "dqd", {3, 0, 1000}, {NULL}},
        {P9_TLOCK, "dbdqqds", {2, 0, 0, 0, 10, 1}, {"guest"}},
        {P9_TGETLOCK, "dbqqds", {2, 0, 0, 10, 1}, {"guest"}},
        {P9_TLINK, "dds", {0, 1}, {"l"}},
        {P9_TMKDIR, "dsdd", {0, 0700, 0}, {"m"}},
        {P9_TRENAMEAT, "dsds", {0, 0}, {"f", "r"}},
        {P9_TUNLINKAT, "dsd", {0, 0}, {"f"}},
        {P9_TVERSION, "ds", {8192}, {"9P2000.L"}},
        {P9_TAUTH, "dssd", {9, 0}, {"u", "a"}},
        {P9_TATTACH, "ddssd", {9, P9_NOFID, 0}, {"u", ""}},
        {P9_TFLUSH, "w", {9}, {NULL}},
        {P9_TWALK, "ddws", {0, 9, 1}, {"f"}},
        {P9_TREAD, "dqd", {2, 0, 10}, {NULL}},
        {P9_TWRITE, "dqdd", {2, 0, 4, 0}, {NULL}},
        {P9_TCLUNK, "d", {1}, {NULL}},
        {P9_TREMOVE, "d", {1}, {NULL}},
    };
    unsigned number = 0, string = 0;

    if (index == G_N_ELEMENTS(messages)) {
        return false;
    }
    client_begin(client, messages[index].type);
    for (const char *at = messages[index].format; *at; at++) {
        uint64_t value = *at == 's' ? 0 : messages[index].numbers[number++];

        if (*at == 's') {
            const char *text = messages[index].strings[string++];

            p9_write_string(&client->tx, text, strlen(text));
        } else if (*at == 'b') {
            p9_write_u8(&client->tx, value);
        } else if (*at == 'w') {
            p9_write_u16(&client->tx, value);
        } else if (*at == 'd') {
            p9_write_u32(&client->tx, value);
        } else {
            p9_write_u64(&client->tx, value);
        }
    }
    return true;
}

static struct client *prepared(void)
{
    struct client *client = client_create(&plain);

    scratch_write(client->dir, "f", "contents");
    g_assert_cmpint(do_walk(client, 0, 1, "f"), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 2, "f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 2, 2), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 3, ""), ==, 0);
    g_assert_cmpint(do_lopen(client, 3, 0), ==, 0);
    return client;
}

static void test_whole_messages_work(void)
{
    struct client *client = prepared();

    for (unsigned i = 0; build_message(client, i); i++) {
        struct client *fresh = prepared();
        int ret;

        build_message(fresh, i);
        ret = client_send(fresh, client_end(fresh));
        /* Those that say no do so for a good reason: no link, no such attribute, no authentication. */
        g_assert_true(ret == 0 || ret == EINVAL || ret == ENODATA || ret == EOPNOTSUPP);
        client_destroy(fresh, true);
    }
    client_destroy(client, true);
}

/* Each message cut at every length, its size field telling the truth: an error, and no effect. */
static void test_cut_messages_have_no_effect(void)
{
    struct client *client = prepared();

    quiet();
    for (unsigned i = 0; build_message(client, i); i++) {
        size_t whole = client_end(client);

        for (size_t size = P9_HEADER_SIZE; size < whole; size++) {
            struct p9_writer field = {client->tx_buffer, client->tx_buffer, client->tx_buffer + 4,
                                      false};
            int ret;

            build_message(client, i);
            p9_write_u32(&field, size);
            ret = client_send(client, size);
            if (client->tx_buffer[4] == P9_TAUTH && ret == EOPNOTSUPP) {
                continue;
            }
            g_assert_cmpint(ret, ==, EPROTO);
        }
    }
    g_assert_true(scratch_exists(client->dir, "f"));
    for (const char *name = "csprlm"; *name; name++) {
        g_assert_false(scratch_exists(client->dir, (char[]){*name, '\0'}));
    }
    client_destroy(client, true);
}

static void test_sizes_that_lie(void)
{
    static const uint32_t sizes[] = {0, 1, 6, 100, 20000, 0x7fffffff, 0xffffffff};
    struct client *client = prepared();
    struct attributes attr;

    quiet();
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct p9_writer field = {client->tx_buffer, client->tx_buffer, client->tx_buffer + 4,
                                  false};

        client_begin(client, P9_TGETATTR);
        p9_write_u32(&client->tx, 0);
        p9_write_u64(&client->tx, 0x7ff);
        p9_write_u32(&field, sizes[i]);
        g_assert_cmpint(client_send(client, 19), ==, EPROTO);
    }
    g_assert_cmpint(do_getattr(client, 0, &attr), ==, 0);
    client_destroy(client, true);
}

static void test_messages_larger_than_agreed(void)
{
    struct client *client = prepared();
    g_autofree char *text = g_strnfill(9000, 'x');

    g_assert_cmpint(do_version(client, 8192), ==, 0);
    g_assert_cmpint(do_attach(client, 0, 0), ==, 0);
    g_assert_cmpint(do_walk(client, 0, 2, "f"), ==, 0);
    g_assert_cmpint(do_lopen(client, 2, 2), ==, 0);
    g_assert_cmpint(do_write(client, 2, 0, text, 9000), ==, -EMSGSIZE);
    g_assert_cmpint(do_version(client, 100000), ==, 0);
    g_assert_cmpint(do_attach(client, 0, 0), ==, 0);
    client_begin(client, P9_TMKDIR); /* as long as agreed, but nothing needs that much */
    memset(client->tx.next, 0, 50000);
    client->tx.next += 50000;
    g_assert_cmpint(client_send(client, client_end(client)), ==, EMSGSIZE);
    client_destroy(client, true);
}

static void test_unknown_types(void)
{
    struct client *client = prepared();
    unsigned known = 0;

    quiet();
    for (unsigned type = 0; type < 256; type++) {
        int ret;

        client_begin(client, type);
        ret = client_send(client, client_end(client));
        known += ret == EPROTO; /* it wanted fields */
        g_assert_true(ret == EPROTO || ret == EOPNOTSUPP);
    }
    g_assert_cmpuint(known, ==, 27); /* all but Tauth, which is refused before it is looked at */
    client_destroy(client, true);
}

static void test_strings(void)
{
    struct client *client = prepared();
    g_autofree char *longest = g_strnfill(256, 'x');
    static const struct {
        uint16_t length;
        char bytes[8];
        int error;
    } names[] = {
        {3, "a\0b", EINVAL}, {1, "\0", EINVAL},  {0, "", EINVAL},      {1, ".", EINVAL},
        {2, "..", EINVAL},   {3, "a/b", EINVAL}, {9, "short", EPROTO}, {65535, "x", EPROTO},
    };

    quiet();
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        client_begin(client, P9_TMKDIR);
        p9_write_u32(&client->tx, 0);
        p9_write_u16(&client->tx, names[i].length);
        memcpy(client->tx.next, names[i].bytes, MIN(names[i].length, 5));
        client->tx.next += MIN(names[i].length, 5);
        if (names[i].error != EPROTO) {
            p9_write_u32(&client->tx, 0755);
            p9_write_u32(&client->tx, 0);
        }
        g_assert_cmpint(client_send(client, client_end(client)), ==, names[i].error);
    }
    g_assert_cmpint(do_mkdir(client, 0, longest, 0755), ==, ENAMETOOLONG);
    longest[255] = '\0';
    g_assert_cmpint(do_mkdir(client, 0, longest, 0755), ==, 0);
    client_destroy(client, true);
}

static void test_walks_of_too_many_names(void)
{
    struct client *client = prepared();

    client_begin(client, P9_TWALK);
    p9_write_u32(&client->tx, 0);
    p9_write_u32(&client->tx, 9);
    p9_write_u16(&client->tx, 17);
    for (unsigned i = 0; i < 17; i++) {
        p9_write_string(&client->tx, "..", 2);
    }
    g_assert_cmpint(client_send(client, client_end(client)), ==, EINVAL);
    client_destroy(client, true);
}

/* With too little room for the reply nothing is done, and there is an error that fits. */
static void test_no_room_for_the_reply(void)
{
    for (size_t room = P9_RLERROR_SIZE; room < 200; room += room < 30 ? 1 : 40) {
        struct client *client = prepared();
        bool told;

        client->room = room;
        client->piece = 3;
        told = do_mkdir(client, 0, "m", 0755) == 0;
        g_assert_cmpint(told, ==, room >= P9_HEADER_SIZE + P9_QID_SIZE);
        g_assert_cmpint(told, ==, scratch_exists(client->dir, "m"));
        for (unsigned i = 0; build_message(client, i); i++) {
            if (client->tx_buffer[4] != P9_TVERSION) {
                client_send(client, client_end(client)); /* checks the reply's size */
            }
        }
        client_destroy(client, true);
    }
}

static void test_no_header_or_no_room_at_all(void)
{
    struct client *client = prepared();

    build_message(client, 0);
    client_end(client);
    for (size_t size = 0; size < P9_HEADER_SIZE; size++) {
        g_assert_cmpint(client_send(client, size), ==, EBADMSG);
    }
    for (client->room = 0; client->room < P9_RLERROR_SIZE; client->room++) {
        g_assert_cmpint(client_send(client, 11), ==, EBADMSG);
    }
    client_destroy(client, true);
}

/* Directories so deep that a node's parents can't be walked up without bound. */
static void test_depth_is_bounded(void)
{
    struct client *client = client_create(&(struct client_config){.max_cached = 4});
    const char *remove[] = {"rm", "-rf", client->dir, NULL};
    unsigned depth = 0;
    struct attributes attr;
    int64_t start;
    int ret = 0;

    g_assert_cmpint(do_walk(client, 0, 1, ""), ==, 0);
    for (; ret == 0 && depth < 3000; depth++) {
        ret = do_mkdir(client, 1, "d", 0755);
        ret = ret ? ret : do_walk(client, 1, 1, "d");
    }
    for (unsigned i = 0; i < 100; i++) { /* what is far down leaves the cache */
        g_autofree char *name = g_strdup_printf("x%u", i);

        g_assert_cmpint(do_mkdir(client, 0, name, 0755), ==, 0);
        g_assert_cmpint(do_walk(client, 0, 2 + i, name), ==, 0);
        g_assert_cmpint(do_mkdir(client, 2 + i, "y", 0755), ==, 0);
    }
    start = g_get_monotonic_time();
    g_assert_cmpint(do_mkdir(client, 1, "d", 0755), ==, ENAMETOOLONG);
    g_assert_cmpint(do_getattr(client, 1, &attr), ==, ENAMETOOLONG);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 5000000);
    g_assert_cmpint(do_getattr(client, 0, &attr), ==, 0);
    g_assert_true(g_spawn_sync(NULL, (char **)remove, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                               NULL, NULL, NULL));
    client_destroy(client, false);
}

/* ---- many threads ---- */

struct stress {
    struct client *client;
    uint32_t seed;
    bool *stop;
};

static void one_call(struct client *client, GRand *rand)
{
    static const char *const names[] = {"a", "b", "c", "f", "..", "x"};
    const char *name = names[g_rand_int_range(rand, 0, 6)];
    const char *other = names[g_rand_int_range(rand, 0, 6)];
    uint32_t fid = g_rand_int_range(rand, 0, 12), newfid = g_rand_int_range(rand, 1, 12);
    struct attributes attr;
    const uint8_t *data;

    switch (g_rand_int_range(rand, 0, 20)) {
    case 0:
    case 1:
    case 2:
    case 3:
        do_walk(client, fid, newfid, name);
        break;
    case 4:
        do_walk(client, 0, newfid, "a/b/f");
        break;
    case 5:
        do_getattr(client, fid, &attr);
        break;
    case 6:
        do_lopen(client, newfid, g_rand_int_range(rand, 0, 3));
        break;
    case 7:
        do_lcreate(client, newfid, name, 2, 0644, 0);
        break;
    case 8:
        do_read(client, fid, 0, 100, &data);
        break;
    case 9:
        do_write(client, fid, 0, "data", 4);
        break;
    case 10:
        do_mkdir(client, fid, name, 0755);
        break;
    case 11:
        rpc(client, P9_TUNLINKAT, "dsd", fid, name, u32(g_rand_boolean(rand) ? 0x200 : 0));
        break;
    case 12:
        rpc(client, P9_TRENAMEAT, "dsds", fid, name, newfid, other);
        break;
    case 13:
        rpc(client, P9_TRENAME, "dds", newfid, fid, name);
        break;
    case 14:
        rpc(client, P9_TREMOVE, "d", newfid);
        break;
    case 15:
        rpc(client, P9_TREADDIR, "dqd", fid, u64(0), u32(1000));
        break;
    case 16:
        rpc(client, P9_TXATTRWALK, "dds", fid, newfid, "");
        break;
    case 17:
        do_setattr(client, fid, P9_SETATTR_MODE, 0755, 0, 0, 0, 0, 0);
        break;
    case 18:
        rpc(client, P9_TLOCK, "dbdqqds", fid, g_rand_int_range(rand, 0, 3), u32(0),
            u64(g_rand_int_range(rand, 0, 9)), u64(3), fid, "guest");
        break;
    default:
        do_clunk(client, newfid);
        break;
    }
}

static gpointer stress_thread(gpointer opaque)
{
    struct stress *stress = opaque;
    struct client *client = client_clone(stress->client);
    GRand *rand = g_rand_new_with_seed(stress->seed);

    while (!__atomic_load_n(stress->stop, __ATOMIC_RELAXED)) {
        one_call(client, rand);
    }
    g_rand_free(rand);
    client_free_clone(client);
    return NULL;
}

static void test_threads_that_share_fids(void)
{
    unsigned before = count_descriptors();
    struct client *client = client_create(
        &(struct client_config){.max_cached = 6, .max_open = 5, .security = SHARE_SECURITY_NONE});
    struct stress stress[STRESS_THREADS];
    GThread *threads[STRESS_THREADS];
    struct p9_stats stats;
    bool stop = false;

    quiet();
    scratch_mkdir(client->dir, "a/b/c");
    scratch_write(client->dir, "a/b/f", "x");
    for (unsigned i = 0; i < STRESS_THREADS; i++) {
        stress[i] = (struct stress){client, g_test_rand_int(), &stop};
        threads[i] = g_thread_new("stress", stress_thread, &stress[i]);
    }
    g_usleep(STRESS_MS * 1000);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < STRESS_THREADS; i++) {
        g_thread_join(threads[i]);
    }
    for (uint32_t fid = 0; fid < 12; fid++) {
        do_clunk(client, fid);
    }
    p9_server_get_stats(client->server, &stats);
    g_test_message("%u requests, %u errors", (unsigned)stats.requests, (unsigned)stats.errors);
    g_assert_cmpuint(stats.requests, >, stats.errors + 100);
    g_assert_cmpuint(stats.fids, ==, 0);
    g_assert_cmpuint(stats.nodes, ==, 1);
    g_assert_cmpuint(stats.open, ==, 0);
    g_assert_cmpuint(stats.cached, ==, 0);
    client_destroy(client, true);
    g_assert_cmpuint(count_descriptors(), ==, before);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/9p-hostile/whole-messages-work", test_whole_messages_work);
    g_test_add_func("/9p-hostile/cut-messages-have-no-effect", test_cut_messages_have_no_effect);
    g_test_add_func("/9p-hostile/sizes-that-lie", test_sizes_that_lie);
    g_test_add_func("/9p-hostile/messages-larger-than-agreed", test_messages_larger_than_agreed);
    g_test_add_func("/9p-hostile/unknown-types", test_unknown_types);
    g_test_add_func("/9p-hostile/strings", test_strings);
    g_test_add_func("/9p-hostile/walks-of-too-many-names", test_walks_of_too_many_names);
    g_test_add_func("/9p-hostile/no-room-for-the-reply", test_no_room_for_the_reply);
    g_test_add_func("/9p-hostile/no-header-or-no-room-at-all", test_no_header_or_no_room_at_all);
    g_test_add_func("/9p-hostile/depth-is-bounded", test_depth_is_bounded);
    g_test_add_func("/9p-hostile/threads-that-share-fids", test_threads_that_share_fids);
    return g_test_run();
}
