/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of vmm/migration: what may come when, and that nothing else is taken. */
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/migration.h"
#include "vmm/snapshot.h"

#define RAM  (UINT64_C(1) << 20)
#define PAGE MEMORY_PAGE_SIZE

struct fixture {
    struct memory *memory;
    struct migration_sink sink;
    GByteArray *bytes;
};

static void setup(struct fixture *f, gconstpointer extra)
{
    const struct memory_ram_options options = {.no_thp = true};
    g_autoptr(GError) error = NULL;

    f->memory = memory_create();
    g_assert_true(memory_add_ram(f->memory, RAM, UINT64_C(3) << 30, &options, &error));
    migration_sink_init(&f->sink);
    f->bytes = g_byte_array_new();
}

static void teardown(struct fixture *f, gconstpointer extra)
{
    migration_sink_clear(&f->sink);
    memory_destroy(f->memory);
    g_byte_array_unref(f->bytes);
}

/* Takes all of f->bytes; what it says when one is refused, or NULL. */
static char *feed(struct fixture *f)
{
    size_t at = 0;

    while (at < f->bytes->len) {
        g_autoptr(GError) error = NULL;
        struct migration_message message;
        gssize taken = migration_parse(f->bytes->data + at, f->bytes->len - at, &message, &error);

        if (taken < 0 || (taken > 0 && !migration_sink_take(&f->sink, &message, &error)))
            return g_strdup(error->message);
        if (!taken)
            return g_strdup("incomplete");
        at += (size_t)taken;
    }
    g_byte_array_set_size(f->bytes, 0);
    return NULL;
}

static void accepts(struct fixture *f)
{
    g_autofree char *refusal = feed(f);

    g_assert_cmpstr(refusal, ==, NULL);
}

static void refuses(struct fixture *f, const char *words)
{
    g_autofree char *refusal = feed(f);

    g_assert_nonnull(refusal);
    if (!strstr(refusal, words))
        g_error("'%s' does not say '%s'", refusal, words);
}

static void greet(struct fixture *f)
{
    migration_put_hello(f->bytes);
    migration_put(f->bytes, MIGRATION_CONFIG, "{}", 2);
    migration_put_layout(f->bytes, f->memory);
    accepts(f);
    f->sink.memory = f->memory;
}

static void test_a_whole_migration(struct fixture *f, gconstpointer extra)
{
    uint8_t pages[2 * PAGE], back[PAGE], zero[PAGE] = {0};
    g_autoptr(GError) error = NULL;

    greet(f);
    g_assert_cmpstr((const char *)f->sink.config->data, ==, "{}");
    g_assert_true(migration_sink_fits(&f->sink, f->memory, &error));
    memset(pages, 0x5a, sizeof(pages));
    migration_put_pages(f->bytes, 3 * PAGE, pages, 2);
    migration_put_zeroes(f->bytes, 4 * PAGE, 1); /* the second of them, written over since */
    g_assert_false(f->sink.asked);
    migration_put(f->bytes, MIGRATION_SYNC, NULL, 0);
    accepts(f);
    g_assert_true(f->sink.asked);
    migration_put(f->bytes, MIGRATION_STATE, "abc", 3);
    migration_put(f->bytes, MIGRATION_STATE, "de", 2);
    migration_put_done(f->bytes, 3, 5);
    accepts(f);
    g_assert_true(f->sink.done);
    g_assert_false(f->sink.committed);
    g_assert_cmpmem(f->sink.state->data, f->sink.state->len, "abcde", 5);
    g_assert_cmpint(memory_read(f->memory, 3 * PAGE, back, PAGE), ==, 0);
    g_assert_cmpmem(back, PAGE, pages, PAGE);
    g_assert_cmpint(memory_read(f->memory, 4 * PAGE, back, PAGE), ==, 0);
    g_assert_cmpmem(back, PAGE, zero, PAGE);
    migration_put(f->bytes, MIGRATION_COMMIT, NULL, 0);
    accepts(f);
    g_assert_true(f->sink.committed);
}

static void test_only_in_order(struct fixture *f, gconstpointer extra)
{
    static const enum migration_type first[] = {
        MIGRATION_LAYOUT, MIGRATION_STATE,   MIGRATION_DONE, MIGRATION_COMMIT, MIGRATION_READY,
        MIGRATION_LOADED, MIGRATION_RUNNING, MIGRATION_SYNC, MIGRATION_SYNCED};
    static const uint8_t body[16];

    for (unsigned i = 0; i < G_N_ELEMENTS(first); i++) {
        bool empty = first[i] >= MIGRATION_COMMIT;

        g_byte_array_set_size(f->bytes, 0);
        migration_put(f->bytes, first[i], body, empty ? 0 : sizeof(body));
        refuses(f, "is not what may come now");
    }
    g_byte_array_set_size(f->bytes, 0);
    greet(f);
    migration_put_hello(f->bytes);
    refuses(f, "HELLO is not what may come now");
    g_byte_array_set_size(f->bytes, 0);
    migration_put(f->bytes, MIGRATION_COMMIT, NULL, 0);
    refuses(f, "COMMIT is not what may come now");
    g_assert_false(f->sink.committed);
    g_byte_array_set_size(f->bytes, 0);
    migration_put(f->bytes, MIGRATION_STATE, "x", 1);
    accepts(f);
    migration_put_zeroes(f->bytes, 0, 1);
    refuses(f, "ZEROES is not what may come now");
}

static void test_pages_outside_of_memory(struct fixture *f, gconstpointer extra)
{
    static const struct {
        uint64_t gpa, count;
        const char *says;
    } rows[] = {
        {RAM, 1, "no RAM"},
        {RAM - PAGE, 2, "no RAM"},
        {1, 1, "not whole pages"},
        {0, 0, "not whole pages"},
        {0, UINT64_MAX, "not whole pages"},
        {0, UINT64_MAX / PAGE, "no RAM"},
        {UINT64_MAX - PAGE + 1, 2, "not whole pages"},
        {0xd0000000, 1, "no RAM"},
    };

    greet(f);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_byte_array_set_size(f->bytes, 0);
        migration_put_zeroes(f->bytes, rows[i].gpa, rows[i].count);
        refuses(f, rows[i].says);
    }
    g_assert_cmpuint(f->sink.pages, ==, 0);
}

static void test_every_flipped_bit_is_found(struct fixture *f, gconstpointer extra)
{
    uint8_t page[PAGE] = {1, 2, 3};

    greet(f);
    migration_put_pages(f->bytes, 0, page, 1);
    for (unsigned bit = 0; bit < f->bytes->len * 8; bit += bit < 512 ? 1 : 97) {
        g_autofree uint8_t *copy = g_memdup2(f->bytes->data, f->bytes->len);
        g_autoptr(GError) error = NULL;
        struct migration_message message;

        copy[bit / 8] ^= 1 << bit % 8;
        g_assert_cmpint(migration_parse(copy, f->bytes->len, &message, &error), ==, -1);
        g_assert_nonnull(error);
    }
    for (unsigned size = 0; size < f->bytes->len; size += size < 64 ? 1 : 61) {
        g_autofree uint8_t *copy = g_memdup2(f->bytes->data, size);
        struct migration_message message;

        g_assert_cmpint(migration_parse(copy, size, &message, NULL), ==, 0);
    }
}

static void test_counts_must_agree(struct fixture *f, gconstpointer extra)
{
    greet(f);
    migration_put_zeroes(f->bytes, 0, 4);
    migration_put(f->bytes, MIGRATION_STATE, "abc", 3);
    accepts(f);
    migration_put_done(f->bytes, 5, 3);
    refuses(f, "DONE says 5 pages");
    g_byte_array_set_size(f->bytes, 0);
    migration_put_done(f->bytes, 4, 2);
    refuses(f, "2 bytes of state");
    g_assert_false(f->sink.done);
}

static void test_foreign_and_newer_peers(struct fixture *f, gconstpointer extra)
{
    uint8_t hello[16] = "LODGEMIG";

    hello[8] = hello[12] = MIGRATION_FORMAT + 1;
    migration_put(f->bytes, MIGRATION_HELLO, hello, sizeof(hello));
    refuses(f, "use a newer lodge");
    g_byte_array_set_size(f->bytes, 0);
    hello[12] = MIGRATION_FORMAT; /* newer, but we may read it */
    migration_put(f->bytes, MIGRATION_HELLO, hello, sizeof(hello));
    accepts(f);
    g_byte_array_append(f->bytes, (const guint8 *)"GET / HTTP/1.0\r\n\r\n", 18);
    refuses(f, "no message of lodge's");
}

static void test_another_layout(struct fixture *f, gconstpointer extra)
{
    const struct memory_ram_options options = {.no_thp = true};
    struct memory *other = memory_create();
    g_autoptr(GError) error = NULL;

    greet(f);
    g_assert_true(memory_add_ram(other, 2 * RAM, UINT64_C(3) << 30, &options, NULL));
    g_assert_false(migration_sink_fits(&f->sink, other, &error));
    g_assert_nonnull(strstr(error->message, "laid out differently"));
    memory_destroy(other);
}

static void test_what_a_failed_peer_says_is_clean(struct fixture *f, gconstpointer extra)
{
    migration_put(f->bytes, MIGRATION_FAILED, "no\033[2J\nroom\xff", 11);
    refuses(f, "gave up: no [2J room");
}

/* ---- the connection ---- */

static void test_a_message_through_a_socket(void)
{
    struct migration_channel one, two;
    struct migration_message message;
    g_autoptr(GError) error = NULL;
    int ends[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), ==, 0);
    migration_channel_init(&one, ends[0], -1);
    migration_channel_init(&two, ends[1], -1);
    g_assert_true(migration_send_type(&one, MIGRATION_READY, NULL, &error));
    g_assert_true(migration_send_type(&one, MIGRATION_FAILED, "because", &error));
    g_assert_true(migration_receive(&two, &message, 1000, &error));
    g_assert_cmpint(message.type, ==, MIGRATION_READY);
    g_assert_true(migration_receive(&two, &message, 1000, &error));
    g_assert_cmpmem(message.data, message.size, "because", 7);
    g_assert_false(migration_receive(&two, &message, 20, &error)); /* nothing comes */
    g_clear_error(&error);
    migration_channel_clear(&one);
    g_assert_false(migration_receive(&two, &message, 1000, &error));
    g_assert_nonnull(strstr(error->message, "closed the connection"));
    migration_channel_clear(&two);
}

static void test_a_cancellation_ends_every_wait(void)
{
    g_autofree uint8_t *much = g_malloc0(8 << 20);
    struct migration_channel channel;
    struct migration_message message;
    g_autoptr(GError) error = NULL;
    int ends[2], cancel = eventfd(1, EFD_NONBLOCK);

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), ==, 0);
    migration_channel_init(&channel, ends[0], cancel);
    g_assert_false(migration_receive(&channel, &message, 0, &error));
    g_assert_nonnull(strstr(error->message, "cancelled"));
    g_clear_error(&error);
    g_assert_false(migration_send(&channel, much, 8 << 20, 60000, &error));
    g_assert_nonnull(strstr(error->message, "cancelled"));
    migration_channel_clear(&channel);
    close(ends[1]);
    close(cancel);
}

static void test_addresses(void)
{
    static const char *const bad[] = {"", "tcp:", "tcp:host", "tcp::1", "file:/x", "/x", "tcp:h:"};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(migration_connect(bad[i], -1, &error), ==, -1);
        g_assert_nonnull(strstr(error->message, "must be unix:PATH or tcp:HOST:PORT"));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(NAME)                                                                                  \
    g_test_add("/migration/" #NAME, struct fixture, NULL, setup, test_##NAME, teardown)
    ADD(a_whole_migration);
    ADD(only_in_order);
    ADD(pages_outside_of_memory);
    ADD(every_flipped_bit_is_found);
    ADD(counts_must_agree);
    ADD(foreign_and_newer_peers);
    ADD(another_layout);
    ADD(what_a_failed_peer_says_is_clean);
    g_test_add_func("/migration/a_message_through_a_socket", test_a_message_through_a_socket);
    g_test_add_func("/migration/a_cancellation_ends_every_wait",
                    test_a_cancellation_ends_every_wait);
    g_test_add_func("/migration/addresses", test_addresses);
    return g_test_run();
}
