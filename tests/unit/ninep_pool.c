/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the order of requests: flushes, new sessions, cancelling. A request is made to hang by
 * holding a lock of the server that a Tgetattr wants.
 */
#include <poll.h>

#include "tests/unit/ninep.h"
#include "virtio/9p_internal.h"
#include "virtio/9p_pool.h"

#define MAX_JOBS 64

struct one {
    struct p9_job job; /* first */
    struct iovec out, in;
    uint8_t request[256], reply[4096];
};

struct fixture {
    struct client *client;
    struct p9_pool *pool;
    struct one jobs[MAX_JOBS];
    unsigned count;
    GString *order; /* tags as they completed; in brackets: without a reply */
    unsigned batches;
};

static void done(struct p9_job *job, void *opaque)
{
    struct fixture *f = opaque;

    g_string_append_printf(f->order, job->written ? " %u" : " [%u]", job->message.tag);
}

static void batch_done(void *opaque)
{
    ((struct fixture *)opaque)->batches++;
}

static void setup(struct fixture *f, unsigned threads)
{
    static const struct client_config plain;
    struct p9_pool_config config = {.loop = loop_main(),
                                    .name = "9p-test",
                                    .threads = threads,
                                    .done = done,
                                    .batch_done = batch_done,
                                    .opaque = f};
    GError *error = NULL;

    memset(f, 0, sizeof(*f));
    f->client = client_create(&plain);
    f->order = g_string_new("");
    config.server = f->client->server;
    f->pool = p9_pool_create(&config, &error);
    g_assert_no_error(error);
}

static void teardown(struct fixture *f)
{
    p9_pool_destroy(f->pool);
    client_destroy(f->client, true);
    g_string_free(f->order, TRUE);
}

/* Submits what client_begin and so on have built. */
static void submit(struct fixture *f, uint16_t tag)
{
    struct one *one = &f->jobs[f->count++];
    size_t size = client_end(f->client);

    memcpy(one->request, f->client->tx_buffer, size);
    one->request[5] = tag;
    one->request[6] = tag >> 8;
    one->out = (struct iovec){one->request, size};
    one->in = (struct iovec){one->reply, sizeof(one->reply)};
    one->job.message = (struct p9_message){.out = &one->out,
                                           .in = &one->in,
                                           .out_count = 1,
                                           .in_count = 1,
                                           .out_bytes = size,
                                           .in_bytes = sizeof(one->reply)};
    g_assert_cmpint(p9_message_begin(&one->job.message), ==, 0);
    p9_pool_submit(f->pool, &one->job);
}

static void submit_getattr(struct fixture *f, uint16_t tag)
{
    client_begin(f->client, P9_TGETATTR);
    p9_write_u32(&f->client->tx, 0);
    p9_write_u64(&f->client->tx, P9_GETATTR_BASIC);
    submit(f, tag);
}

/* A request that will hang, and does. */
static void submit_hanging(struct fixture *f, uint16_t tag)
{
    struct p9_job *job = &f->jobs[f->count].job;

    submit_getattr(f, tag);
    while (__atomic_load_n(&job->state, __ATOMIC_RELAXED) != P9_JOB_RUNNING) {
        g_usleep(500);
    }
}

static void submit_flush(struct fixture *f, uint16_t tag, uint16_t oldtag)
{
    client_begin(f->client, P9_TFLUSH);
    p9_write_u16(&f->client->tx, oldtag);
    submit(f, tag);
}

static void submit_version(struct fixture *f, uint16_t tag)
{
    client_begin(f->client, P9_TVERSION);
    p9_write_u32(&f->client->tx, 8192);
    p9_write_string(&f->client->tx, "9P2000.L", 8);
    submit(f, tag);
}

static void submit_attach(struct fixture *f, uint16_t tag)
{
    client_begin(f->client, P9_TATTACH);
    p9_write_u32(&f->client->tx, 0);
    p9_write_u32(&f->client->tx, P9_NOFID);
    p9_write_string(&f->client->tx, "u", 1);
    p9_write_string(&f->client->tx, "", 0);
    p9_write_u32(&f->client->tx, 0);
    submit(f, tag);
}

static void turn(int ms)
{
    int64_t end = loop_now_ns() + ms * INT64_C(1000000);

    while (loop_now_ns() < end) {
        if (!loop_iterate(loop_main(), false)) {
            g_usleep(500);
        }
    }
}

/* Waits until the replies that must come have come, and a little longer for those that must not. */
static void expect_order(struct fixture *f, const char *expected)
{
    int64_t end = loop_now_ns() + INT64_C(10000000000);

    while (strcmp(f->order->str, expected) && loop_now_ns() < end)
        turn(5);
    turn(20);
    g_assert_cmpstr(f->order->str, ==, expected);
}

static void wait_idle(struct fixture *f)
{
    int64_t end = loop_now_ns() + INT64_C(10000000000);

    while (p9_pool_active(f->pool) && loop_now_ns() < end) {
        loop_iterate(loop_main(), true);
    }
    g_assert_cmpuint(p9_pool_active(f->pool), ==, 0);
}

static void hang(struct fixture *f)
{
    pthread_rwlock_wrlock(&f->client->server->names);
}

static void unhang(struct fixture *f)
{
    pthread_rwlock_unlock(&f->client->server->names);
}

static void test_requests_overtake_one_that_hangs(void)
{
    struct fixture f;

    setup(&f, 2);
    hang(&f);
    submit_hanging(&f, 1);
    client_begin(f.client, P9_TCLUNK); /* of no fid: an error, at once */
    p9_write_u32(&f.client->tx, 77);
    submit(&f, 2);
    expect_order(&f, " 2");
    unhang(&f);
    wait_idle(&f);
    g_assert_cmpstr(f.order->str, ==, " 2 1");
    g_assert_cmpuint(f.batches, ==, 2);
    teardown(&f);
}

static void test_flush_of_a_running_request_comes_after_it(void)
{
    struct fixture f;

    setup(&f, 2);
    hang(&f);
    submit_hanging(&f, 1);
    submit_flush(&f, 2, 1);
    submit_flush(&f, 3, 2); /* of the flush */
    turn(50);
    g_assert_cmpstr(f.order->str, ==, "");
    unhang(&f);
    wait_idle(&f);
    g_assert_cmpstr(f.order->str, ==, " 1 2 3");
    teardown(&f);
}

static void test_flush_takes_back_what_has_not_begun(void)
{
    struct fixture f;

    setup(&f, 1);
    hang(&f);
    submit_hanging(&f, 1);
    submit_getattr(&f, 2); /* the only thread hangs */
    submit_getattr(&f, 3);
    submit_flush(&f, 4, 2);
    expect_order(&f, " [2] 4");
    unhang(&f);
    wait_idle(&f);
    g_assert_cmpstr(f.order->str, ==, " [2] 4 1 3");
    teardown(&f);
}

static void test_flush_of_nothing(void)
{
    struct fixture f;

    setup(&f, 1);
    submit_flush(&f, 1, 99);
    submit_flush(&f, 2, 2); /* of itself */
    wait_idle(&f);
    g_assert_cmpstr(f.order->str, ==, " 1 2");
    g_assert_cmpuint(f.jobs[0].reply[4], ==, P9_TFLUSH + 1);
    g_assert_cmpuint(f.jobs[0].job.written, ==, P9_HEADER_SIZE);
    teardown(&f);
}

static void test_version_waits_and_is_waited_for(void)
{
    struct fixture f;

    setup(&f, 4);
    hang(&f);
    submit_hanging(&f, 1);
    submit_version(&f, 2);
    submit_getattr(&f, 3); /* the new session has no fids */
    submit_attach(&f, 4);
    submit_flush(&f, 5, 1); /* flushes do not wait behind it */
    turn(50);
    g_assert_cmpstr(f.order->str, ==, "");
    unhang(&f);
    wait_idle(&f);
    g_assert_true(g_str_has_prefix(f.order->str, " 1 5 2 "));
    g_assert_cmpuint(f.jobs[0].reply[4], ==, P9_TGETATTR + 1); /* of the old session */
    g_assert_cmpuint(f.jobs[1].reply[4], ==, P9_TVERSION + 1);
    g_assert_cmpuint(f.jobs[3].reply[4], ==, P9_TATTACH + 1);
    teardown(&f);
}

static void test_versions_one_after_the_other(void)
{
    struct fixture f;

    setup(&f, 4);
    for (uint16_t tag = 1; tag <= 30; tag += 3) {
        submit_version(&f, tag);
        submit_attach(&f, tag + 1);
        submit_version(&f, tag + 2);
    }
    wait_idle(&f);
    g_assert_cmpstr(f.order->str, ==,
                    " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29"
                    " 30");
    teardown(&f);
}

static void test_flush_of_what_is_held_back(void)
{
    struct fixture f;

    setup(&f, 1);
    hang(&f);
    submit_hanging(&f, 1);
    submit_version(&f, 2);
    submit_getattr(&f, 3);
    submit_flush(&f, 4, 3);
    submit_flush(&f, 5, 2);
    expect_order(&f, " [3] 4");
    unhang(&f);
    wait_idle(&f);
    g_assert_cmpstr(f.order->str, ==, " [3] 4 1 2 5");
    teardown(&f);
}

static void test_cancel(void)
{
    struct fixture f;

    setup(&f, 1);
    hang(&f);
    submit_hanging(&f, 1);
    submit_getattr(&f, 2);
    submit_version(&f, 3);
    submit_getattr(&f, 4);
    submit_version(&f, 5);
    submit_flush(&f, 6, 1);
    p9_pool_cancel(f.pool);
    expect_order(&f, " [2] [3] [4] [5]");
    g_assert_cmpuint(p9_pool_active(f.pool), ==, 2);
    unhang(&f);
    wait_idle(&f);
    g_assert_cmpstr(f.order->str, ==, " [2] [3] [4] [5] 1 6");
    submit_getattr(&f, 7); /* and it still works */
    wait_idle(&f);
    g_assert_true(g_str_has_suffix(f.order->str, " 6 7"));
    teardown(&f);
}

static void count_run(void *opaque)
{
    __atomic_fetch_add((unsigned *)opaque, 1, __ATOMIC_RELAXED);
}

static void test_threads_do_other_work(void)
{
    struct fixture f;
    unsigned runs = 0;

    setup(&f, 4);
    for (unsigned i = 0; i < 20; i++) {
        struct p9_job *job = &f.jobs[i].job;

        job->run = count_run;
        job->opaque = &runs;
        p9_pool_submit(f.pool, job);
    }
    wait_idle(&f);
    g_assert_cmpuint(runs, ==, 20);
    teardown(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/9p-pool/requests-overtake-one-that-hangs",
                    test_requests_overtake_one_that_hangs);
    g_test_add_func("/9p-pool/flush-of-a-running-request-comes-after-it",
                    test_flush_of_a_running_request_comes_after_it);
    g_test_add_func("/9p-pool/flush-takes-back-what-has-not-begun",
                    test_flush_takes_back_what_has_not_begun);
    g_test_add_func("/9p-pool/flush-of-nothing", test_flush_of_nothing);
    g_test_add_func("/9p-pool/version-waits-and-is-waited-for",
                    test_version_waits_and_is_waited_for);
    g_test_add_func("/9p-pool/versions-one-after-the-other", test_versions_one_after_the_other);
    g_test_add_func("/9p-pool/flush-of-what-is-held-back", test_flush_of_what_is_held_back);
    g_test_add_func("/9p-pool/cancel", test_cancel);
    g_test_add_func("/9p-pool/threads-do-other-work", test_threads_do_other_work);
    return g_test_run();
}
