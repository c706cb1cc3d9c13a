/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is loopback's own: fast registration, GSI, the gates, shares of work; and null. */
#include "config.h"
#include "tests/unit/rdma_host.h"

/* ---- fast registration ---- */

static void post_fast_reg(struct pair *p, struct rdma_mr *mr, uint8_t key, uint64_t iova,
                          const uint64_t *pages, uint32_t count, uint64_t length)
{
    struct rdma_send_wr wr = send_wr(RDMA_WR_FAST_REG, 100 + key, NULL);

    wr.fast_reg.iova = iova;
    wr.fast_reg.length = length;
    wr.fast_reg.pages = pages;
    wr.fast_reg.page_count = count;
    wr.fast_reg.access = ALL_ACCESS;
    wr.fast_reg.rkey = (rdma_mr_rkey(mr) & ~0xffu) | key;
    g_assert_cmpint(rdma_post_send(p->qp[1], &wr), ==, 0);
}

static struct rdma_mr *make_fast(struct pair *p, uint32_t pages)
{
    struct rdma_mr_attributes a = {.type = RDMA_MR_FAST, .page_count = pages};

    return make_mr_in(&p->host, p->host.pd, &a);
}

static int post_write_to(struct pair *p, uint64_t wr_id, uint64_t addr, uint32_t rkey)
{
    struct rdma_sge sge = sge_at(p, 0x1000, 100);
    struct rdma_send_wr wr = send_wr(RDMA_WR_WRITE, wr_id, &sge);

    wr.remote.addr = addr;
    wr.remote.rkey = rkey;
    return rdma_post_send(p->qp[0], &wr);
}

static void a_fast_region_opens_and_closes(void)
{
    struct pair p;
    const uint64_t iova = 0x5000000000000fc0;
    uint64_t pages[2] = {0x300000, 0x200000};

    pair_set_up(&p);
    struct rdma_mr *mr = make_fast(&p, 4);
    fill(p.host.ram + 0x1000, 100, 7);
    post_fast_reg(&p, mr, 0x42, iova, pages, 2, 128);
    pages[0] = pages[1] = 0; /* copied when posted */
    struct rdma_wc wc = next_wc(p.cq[1]);
    g_assert_cmpuint(wc.status, ==, RDMA_WC_SUCCESS);
    g_assert_cmpuint(wc.opcode, ==, RDMA_WC_FAST_REG);
    g_assert_cmphex(rdma_mr_rkey(mr) & 0xff, ==, 0x42);
    g_assert_cmpint(post_write_to(&p, 1, iova, rdma_mr_rkey(mr)), ==, 0);
    expect_wc(p.cq[0], 1, RDMA_WC_SUCCESS);
    g_assert_cmpmem(p.host.ram + 0x300fc0, 64, p.host.ram + 0x1000, 64);
    g_assert_cmpmem(p.host.ram + 0x200000, 36, p.host.ram + 0x1040, 36);
    struct rdma_send_wr wr = send_wr(RDMA_WR_LOCAL_INVALIDATE, 2, NULL);
    wr.imm_or_rkey = rdma_mr_rkey(mr);
    g_assert_cmpint(rdma_post_send(p.qp[1], &wr), ==, 0);
    wc = next_wc(p.cq[1]);
    g_assert_cmpuint(wc.opcode, ==, RDMA_WC_LOCAL_INVALIDATE);
    g_assert_cmpuint(wc.status, ==, RDMA_WC_SUCCESS);
    g_assert_cmpint(post_write_to(&p, 3, iova, rdma_mr_rkey(mr)), ==, 0);
    expect_wc(p.cq[0], 3, RDMA_WC_REM_ACCESS_ERR);
    pair_tear_down(&p);
}

static void a_send_can_invalidate_at_the_peer(void)
{
    struct pair p;
    const uint64_t page = 0x300000;

    pair_set_up(&p);
    struct rdma_mr *mr = make_fast(&p, 1);
    post_fast_reg(&p, mr, 1, 0x10000, &page, 1, 4096);
    expect_wc(p.cq[1], 101, RDMA_WC_SUCCESS);
    post_recv(&p, 1, 5, 0x20000, 64);
    struct rdma_sge sge = sge_at(&p, 0x1000, 16);
    struct rdma_send_wr wr = send_wr(RDMA_WR_SEND_WITH_INVALIDATE, 6, &sge);
    wr.imm_or_rkey = rdma_mr_rkey(mr);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    struct rdma_wc wc = next_wc(p.cq[1]);
    g_assert_cmpuint(wc.status, ==, RDMA_WC_SUCCESS);
    g_assert_cmpuint(wc.flags & RDMA_WC_WITH_INVALIDATE, !=, 0);
    g_assert_cmphex(wc.invalidated_rkey, ==, rdma_mr_rkey(mr));
    expect_wc(p.cq[0], 6, RDMA_WC_SUCCESS);
    g_assert_cmpint(post_write_to(&p, 7, 0x10000, rdma_mr_rkey(mr)), ==, 0);
    expect_wc(p.cq[0], 7, RDMA_WC_REM_ACCESS_ERR);
    pair_tear_down(&p);
}

static void a_fast_registration_is_checked(void)
{
    static const struct {
        uint64_t iova, length, page;
        uint32_t count;
    } bad[] = {
        {0x10000, 4097, 0x1000, 1},                             /* longer than its pages */
        {0x10800, 2049, 0x1000, 1}, {UINT64_MAX, 2, 0x1000, 1}, /* wraps */
        {0x10000, 4096, 0x1001, 1},                             /* not a page */
        {0x10000, 4096, 0x1000, 0}, {0x10000, 4096, 0x1000, 3}, /* more than it can hold */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct pair p;
        uint64_t pages[4] = {bad[i].page, bad[i].page, bad[i].page, bad[i].page};
        pair_set_up(&p);
        struct rdma_mr *mr = make_fast(&p, 2);
        post_fast_reg(&p, mr, 1, bad[i].iova, pages, bad[i].count, bad[i].length);
        expect_wc(p.cq[1], 101, RDMA_WC_LOC_QP_OP_ERR);
        g_assert_cmpint(state_of(p.qp[1]), ==, RDMA_QPS_ERR);
        pair_tear_down(&p);
    }
}

/* ---- keys ---- */

static void a_region_of_another_domain_opens_nothing(void)
{
    struct pair p;
    struct rdma_pd *other;

    pair_set_up(&p);
    g_assert_cmpint(rdma_create_pd(p.host.rdma, 900, &other), ==, 0);
    struct rdma_mr_attributes a = {.type = RDMA_MR_USER,
                                   .access = ALL_ACCESS,
                                   .start = WHOLE,
                                   .length = 4096,
                                   .pages = g_new0(uint64_t, 1),
                                   .page_count = 1};
    struct rdma_mr *mr = make_mr_in(&p.host, other, &a);
    g_assert_cmpint(post_write_to(&p, 1, WHOLE, rdma_mr_rkey(mr)), ==, 0);
    expect_wc(p.cq[0], 1, RDMA_WC_REM_ACCESS_ERR);
    pair_tear_down(&p);
}

static void a_dma_address_outside_of_memory_fails(void)
{
    struct pair p;
    struct rdma_mr_attributes a = {.type = RDMA_MR_DMA, .access = RDMA_ACCESS_LOCAL_WRITE};

    pair_set_up(&p);
    struct rdma_mr *mr = make_mr_in(&p.host, p.host.pd, &a);
    struct rdma_sge sge = {RAM - 4, 8, rdma_mr_lkey(mr)};
    struct rdma_send_wr wr = send_wr(RDMA_WR_SEND, 1, &sge);
    post_recv(&p, 1, 2, 0x30000, 300);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 1, RDMA_WC_LOC_PROT_ERR);
    pair_tear_down(&p);
}

static void a_key_is_not_used_again_soon(void)
{
    struct host host;
    uint32_t last = 0;

    host_set_up(&host);
    for (unsigned i = 0; i < 50; i++) {
        struct rdma_mr *mr = make_mr(&host, WHOLE, 4096, 0, 1, ALL_ACCESS);
        g_assert_cmphex(rdma_mr_lkey(mr), !=, last);
        g_assert_cmphex(rdma_mr_lkey(mr) >> 8, !=, 0);
        last = rdma_mr_lkey(mr);
        g_assert_cmpint(rdma_destroy_mr(mr), ==, 0);
    }
    host_tear_down(&host);
}

static void bad_regions_are_refused(void)
{
    struct host host;
    static const struct {
        struct rdma_mr_attributes a;
        int error;
    } bad[] = {
        {{.type = RDMA_MR_USER, .access = RDMA_ACCESS_REMOTE_WRITE, .length = 1, .page_count = 1},
         -EINVAL},
        {{.type = RDMA_MR_USER, .length = 0, .page_count = 1}, -EINVAL},
        {{.type = RDMA_MR_USER, .length = 4097, .page_count = 1}, -EINVAL},
        {{.type = RDMA_MR_USER, .start = 1, .length = 4096, .page_count = 1}, -EINVAL},
        {{.type = RDMA_MR_USER, .start = UINT64_MAX, .length = 2, .page_count = 2}, -EINVAL},
        {{.type = RDMA_MR_USER, .length = UINT64_C(1) << 40, .page_count = 1}, -EINVAL},
        {{.type = RDMA_MR_FAST, .page_count = 0}, -EINVAL},
        {{.type = RDMA_MR_FAST, .page_count = 129}, -EINVAL},
        {{.type = RDMA_MR_DMA, .access = RDMA_ACCESS_REMOTE_READ}, -EINVAL},
        {{.type = 7}, -EINVAL},
    };

    host_set_up(&host);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct rdma_mr_attributes a = bad[i].a;
        if (a.type == RDMA_MR_USER)
            a.pages = g_new0(uint64_t, 2);
        g_assert_cmpint(rdma_create_mr(host.pd, 50, &a, mr_made, NULL), ==, bad[i].error);
    }
    host_tear_down(&host);
}

/* ---- datagrams ---- */

/* ---- completion queues ---- */

static void an_overflow_is_the_end_of_the_queue_pairs(void)
{
    struct pair p;
    struct rdma_wc wc[16];

    host_set_up(&p.host);
    pair_create(&p, NULL);
    g_assert_cmpint(rdma_destroy_qp(p.qp[0]), ==, 0);
    g_assert_cmpint(rdma_destroy_cq(p.cq[0]), ==, 0);
    p.cq[0] = make_cq(&p.host, 4);
    p.qp[0] = make_qp(&p.host, RDMA_QP_RC, p.cq[0], NULL);
    pair_connect(&p);
    for (unsigned i = 0; i < 6; i++)
        post_remote(&p, RDMA_WR_WRITE, i, 0x1000, 8, 0x2000);
    g_assert_true(wait_until(p.host.events[RDMA_EVENT_CQ_ERROR]));
    g_assert_cmpint(state_of(p.qp[0]), ==, RDMA_QPS_ERR);
    g_assert_cmpint(state_of(p.qp[1]), ==, RDMA_QPS_RTS);
    g_assert_cmpuint(rdma_poll_cq(p.cq[0], wc, 16), ==, 4);
    turn_for(5);
    g_assert_cmpuint(p.host.events[RDMA_EVENT_CQ_ERROR], ==, 1);
    pair_tear_down(&p);
}

static void a_solicited_message_says_so(void)
{
    struct pair p;

    pair_set_up(&p);
    for (unsigned i = 0; i < 2; i++) {
        struct rdma_sge sge = sge_at(&p, 0x1000, 8);
        struct rdma_send_wr wr = send_wr(RDMA_WR_SEND, i, &sge);
        post_recv(&p, 1, i, 0x20000, 8);
        if (i)
            wr.flags |= RDMA_SEND_SOLICITED;
        g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
        struct rdma_wc wc = next_wc(p.cq[1]);
        g_assert_cmpint(!!(wc.flags & RDMA_WC_SOLICITED), ==, i);
    }
    pair_tear_down(&p);
}

static void too_many_pieces_are_an_error_of_the_operation(void)
{
    struct pair p;
    struct rdma_sge sge[5] = {0};

    pair_set_up(&p);
    struct rdma_send_wr wr = send_wr(RDMA_WR_SEND, 1, sge);
    wr.num_sge = 5;
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 1, RDMA_WC_LOC_QP_OP_ERR);
    pair_tear_down(&p);
    pair_set_up(&p);
    wr.num_sge = 0;
    wr.opcode = 1234;
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 1, RDMA_WC_LOC_QP_OP_ERR);
    pair_tear_down(&p);
}

/* ---- gates and shares ---- */

static void nothing_moves_while_stopped(void)
{
    struct pair p;
    struct rdma_wc wc;

    pair_set_up(&p);
    fill(p.host.ram + 0x1000, 64, 1);
    rdma_set_running(p.host.rdma, false);
    __atomic_store_n(&p.host.device.state, DEVICE_RUNNING_P2P, __ATOMIC_SEQ_CST);
    post_remote(&p, RDMA_WR_WRITE, 1, 0x1000, 64, 0x40000);
    turn_for(20);
    g_assert_cmpuint(p.host.ram[0x40001], ==, 0);
    g_assert_cmpuint(rdma_poll_cq(p.cq[0], &wc, 1), ==, 0);
    g_assert_cmpuint(p.host.ready, ==, 0);
    __atomic_store_n(&p.host.device.state, DEVICE_RUNNING, __ATOMIC_SEQ_CST);
    rdma_set_running(p.host.rdma, true);
    g_assert_true(wait_until(p.host.ready));
    expect_wc(p.cq[0], 1, RDMA_WC_SUCCESS);
    expect_filled(p.host.ram + 0x40000, 64, 1);
    pair_tear_down(&p);
}

static void completions_wait_while_stopped(void)
{
    struct pair p;
    struct rdma_wc wc;

    pair_set_up(&p);
    post_remote(&p, RDMA_WR_WRITE, 1, 0x1000, 64, 0x40000);
    g_assert_true(wait_until(p.host.ready == 1));
    rdma_set_running(p.host.rdma, false);
    g_assert_cmpuint(rdma_poll_cq(p.cq[0], &wc, 1), ==, 0);
    rdma_set_running(p.host.rdma, true);
    g_assert_true(wait_until(p.host.ready == 2));
    expect_wc(p.cq[0], 1, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

static void nothing_moves_without_bus_mastering(void)
{
    struct pair p;

    pair_set_up(&p);
    dma_set_enabled(&p.host.dma, false);
    post_remote(&p, RDMA_WR_WRITE, 1, 0x1000, 64, 0x40000);
    expect_no_wc(p.cq[0]);
    dma_set_enabled(&p.host.dma, true);
    rdma_set_running(p.host.rdma, true);
    expect_wc(p.cq[0], 1, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

static void a_long_message_is_many_turns(void)
{
    struct pair p;
    struct rdma_wc wc;
    unsigned turns = 0;

    pair_set_up(&p);
    for (unsigned i = 0; i < 4; i++)
        post_remote(&p, RDMA_WR_WRITE, i, 0, 8 << 20, 8 << 20);
    while (!rdma_poll_cq(p.cq[0], &wc, 1)) {
        loop_iterate(loop_main(), false);
        turns++;
    }
    g_assert_cmpuint(turns, >=, 2);
    g_assert_cmpuint(wc.wr_id, ==, 0);
    pair_tear_down(&p);
}

static void a_reset_leaves_nothing(void)
{
    struct pair p;

    pair_set_up(&p);
    post_remote(&p, RDMA_WR_WRITE, 1, 0x1000, 64, 0x40000);
    uint32_t number = rdma_qp_number(p.qp[0]);
    rdma_reset(p.host.rdma, NULL);
    turn_for(5);
    g_assert_cmpuint(p.host.ram[0x40001], ==, 0);
    g_assert_null(rdma_find_qp(p.host.rdma, number));
    p.host.next = 1;
    g_assert_cmpint(rdma_create_pd(p.host.rdma, p.host.next++, &p.host.pd), ==, 0);
    static const uint8_t mac[6];
    g_assert_cmpint(rdma_add_gid(p.host.rdma, 0, &p.host.gid, RDMA_GID_ROCE_V2, mac), ==, 0);
    pair_create(&p, NULL);
    pair_connect(&p);
    post_remote(&p, RDMA_WR_WRITE, 1, 0x1000, 64, 0x40000);
    expect_wc(p.cq[0], 1, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

static void the_port_follows_the_link(void)
{
    struct host host;
    struct rdma_port port;

    host_set_up(&host);
    rdma_set_link(host.rdma, true, 1500);
    g_assert_cmpint(rdma_query_port(host.rdma, &port), ==, 0);
    g_assert_true(port.active);
    g_assert_cmpint(port.active_mtu, ==, RDMA_MTU_1024);
    rdma_set_link(host.rdma, false, 9000);
    g_assert_true(wait_until(host.events[RDMA_EVENT_PORT_ERROR] == 1));
    g_assert_cmpint(rdma_query_port(host.rdma, &port), ==, 0);
    g_assert_false(port.active);
    g_assert_cmpint(port.active_mtu, ==, RDMA_MTU_4096);
    rdma_set_link(host.rdma, true, 9000);
    g_assert_true(wait_until(host.events[RDMA_EVENT_PORT_ACTIVE] == 1));
    host_tear_down(&host);
}

/* ---- threads ---- */

struct poster {
    struct pair *pair;
    unsigned i;
    bool *stop;
    uint64_t completed;
};

/* Posts and polls for its own queue pair, while the loop works and others pause it. */
static gpointer post_and_poll(gpointer opaque)
{
    struct poster *poster = opaque;
    struct pair *p = poster->pair;
    struct rdma_sge sge = sge_at(p, 0x1000 + poster->i * 0x10000, 3000);
    struct rdma_wc wc[16];
    uint64_t posted = 0;

    while (!__atomic_load_n(poster->stop, __ATOMIC_ACQUIRE) || poster->completed < posted) {
        struct rdma_send_wr wr = send_wr(RDMA_WR_WRITE, posted, &sge);
        wr.remote.addr = WHOLE + 0x100000 + poster->i * 0x10000;
        wr.remote.rkey = rdma_mr_rkey(p->mr);
        /* No more than the completion queue has room for, as a guest would. */
        if (!__atomic_load_n(poster->stop, __ATOMIC_ACQUIRE) && posted - poster->completed < 64 &&
            !rdma_post_send(p->qp[poster->i], &wr))
            posted++;
        unsigned count = rdma_poll_cq(p->cq[poster->i], wc, 16);
        for (unsigned n = 0; n < count; n++) {
            g_assert_cmpuint(wc[n].status, ==, RDMA_WC_SUCCESS);
            g_assert_cmpuint(wc[n].wr_id, ==, poster->completed);
            __atomic_store_n(&poster->completed, poster->completed + 1, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

static void close_adapter(void *opaque)
{
    rdma_close(opaque);
}

static void many_threads_use_one_adapter(void)
{
    struct pair p;
    bool stop = false;
    g_autoptr(GError) error = NULL;
    struct loop *loop = loop_create("rdma", &error);
    struct poster posters[2];
    GThread *threads[2];

    g_assert_no_error(error);
    host_set_up_on(&p.host, loop);
    rdma_set_client(p.host.rdma, NULL, NULL); /* its counters are not for two threads */
    pair_create(&p, NULL);
    pair_connect(&p);
    for (unsigned i = 0; i < 2; i++) {
        posters[i] = (struct poster){&p, i, &stop, 0};
        threads[i] = g_thread_new("poster", post_and_poll, &posters[i]);
    }
    for (unsigned i = 0; i < 20; i++) {
        g_usleep(2000);
        rdma_set_running(p.host.rdma, false);
        uint8_t before = p.host.ram[0x100000];
        g_usleep(500);
        g_assert_cmpuint(p.host.ram[0x100000], ==, before);
        rdma_set_running(p.host.rdma, true);
    }
    for (unsigned i = 0; i < 2; i++)
        g_assert_true(wait_until(__atomic_load_n(&posters[i].completed, __ATOMIC_RELAXED) > 20));
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < 2; i++)
        g_thread_join(threads[i]);
    loop_call(loop, close_adapter, p.host.rdma);
    p.host.rdma = NULL;
    host_tear_down(&p.host);
    loop_destroy(loop);
}

/* ---- null, transitions, options ---- */

static struct rdma *open_as(struct host *host, const char *text, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(rdma_options, "--rdma", text, &error);
    struct rdma *rdma = NULL;

    if (options)
        rdma = rdma_open(options, &host->dma, loop_main(), &error);
    if (message) {
        g_assert_null(rdma);
        g_assert_cmpstr(error->message, ==, message);
    } else {
        g_assert_no_error(error);
    }
    return rdma;
}

static void null_answers_nobody(void)
{
    struct pair p;

    host_set_up(&p.host);
    rdma_close(p.host.rdma);
    p.host.rdma = open_as(&p.host, "null", NULL);
    rdma_set_client(p.host.rdma, &host_client, &p.host);
    g_assert_cmpstr(rdma_implementation(p.host.rdma), ==, "null");
    g_assert_cmpint(rdma_create_pd(p.host.rdma, 1, &p.host.pd), ==, 0);
    pair_create(&p, NULL);
    pair_connect(&p);
    post_remote(&p, RDMA_WR_WRITE, 1, 0x1000, 64, 0x40000);
    expect_wc(p.cq[0], 1, RDMA_WC_RETRY_EXC_ERR);
    pair_tear_down(&p);
}

static void keys_of_verbs_are_refused(void)
{
    struct host host;

    host_set_up(&host);
    open_as(&host, "loopback,device=rxe0",
            "--rdma: device=rxe0: is for backend=verbs, not for backend=loopback");
    host_tear_down(&host);
}

static void verbs_says_what_is_missing(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
#ifdef HAVE_LIBIBVERBS
        {"verbs", "--rdma: backend=verbs: needs device=NAME; lodge doctor lists them"},
        {"verbs,device=nosuch0",
         "--rdma: device=nosuch0: the host has no such RDMA device; it has: "},
#else
        {"verbs,device=nosuch0", "--rdma: backend=verbs: is not in this build: "},
#endif
    };
    struct host host;

    host_set_up(&host);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(options_t) options = options_parse(rdma_options, "--rdma", cases[i].text, &error);
        g_assert_no_error(error);
        g_assert_null(rdma_open(options, &host.dma, loop_main(), &error));
        g_assert_true(g_str_has_prefix(error->message, cases[i].message));
    }
    host_tear_down(&host);
}

static void transitions_are_those_of_the_specification(void)
{
    const enum rdma_qp_state reset = RDMA_QPS_RESET, init = RDMA_QPS_INIT, rtr = RDMA_QPS_RTR,
                             rts = RDMA_QPS_RTS, sqd = RDMA_QPS_SQD, sqe = RDMA_QPS_SQE,
                             err = RDMA_QPS_ERR;
    const struct {
        enum rdma_qp_type type;
        enum rdma_qp_state from, to;
        uint32_t mask;
        bool good;
    } cases[] = {
        {RDMA_QP_RC, reset, init, INIT_RC, true},
        {RDMA_QP_RC, reset, init, INIT_UD, false},
        {RDMA_QP_RC, reset, init, INIT_RC & ~(uint32_t)RDMA_QP_PORT, false},
        {RDMA_QP_UD, reset, init, INIT_UD, true},
        {RDMA_QP_GSI, reset, init, RDMA_QP_STATE | RDMA_QP_PKEY_INDEX | RDMA_QP_QKEY, true},
        {RDMA_QP_RC, reset, rtr, RTR_RC, false},
        {RDMA_QP_RC, reset, err, RDMA_QP_STATE, false},
        {RDMA_QP_RC, init, rtr, RTR_RC, true},
        {RDMA_QP_RC, init, rtr, RTR_RC | RDMA_QP_TIMEOUT, false},
        {RDMA_QP_UD, init, rtr, RDMA_QP_STATE, true},
        {RDMA_QP_RC, rtr, rts, RTS_RC, true},
        {RDMA_QP_RC, rtr, rts, RTS_RC | RDMA_QP_CURRENT_STATE | RDMA_QP_ACCESS, true},
        {RDMA_QP_UD, rtr, rts, RDMA_QP_STATE, false},
        {RDMA_QP_UD, rtr, rts, RDMA_QP_STATE | RDMA_QP_SQ_PSN, true},
        {RDMA_QP_RC, rts, rts, RDMA_QP_ACCESS, true},
        {RDMA_QP_RC, rts, rts, RDMA_QP_AV, false},
        {RDMA_QP_RC, rts, sqd, RDMA_QP_STATE | RDMA_QP_SQD_NOTIFY, true},
        {RDMA_QP_RC, rts, sqd, 0, false},
        {RDMA_QP_RC, sqd, sqd, RDMA_QP_AV | RDMA_QP_TIMEOUT, true},
        {RDMA_QP_RC, sqd, rts, RDMA_QP_STATE, true},
        {RDMA_QP_UD, sqe, rts, RDMA_QP_STATE | RDMA_QP_QKEY, true},
        {RDMA_QP_RC, sqe, rts, RDMA_QP_STATE, false},
        {RDMA_QP_RC, err, rts, RDMA_QP_STATE, false},
        {RDMA_QP_RC, err, reset, RDMA_QP_STATE, true},
        {RDMA_QP_RC, err, err, RDMA_QP_STATE, true},
        {RDMA_QP_RC, rts, err, RDMA_QP_STATE, true},
        {RDMA_QP_RC, rts, reset, RDMA_QP_STATE | RDMA_QP_ACCESS, false},
        {RDMA_QP_RC, rtr, rtr, RDMA_QP_ACCESS, false},
        {RDMA_QP_RC, 99, 99, 0, false},
        {9, reset, init, INIT_RC, false},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("case %u", i);
        g_assert_cmpint(
            rdma_qp_transition(cases[i].type, cases[i].from, cases[i].to, cases[i].mask), ==,
            cases[i].good);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_unsetenv("LODGE_RDMA");
#define ADD(NAME, FN) g_test_add_func("/rdma-loopback/" NAME, FN)
    ADD("a-fast-region-opens-and-closes", a_fast_region_opens_and_closes);
    ADD("a-send-can-invalidate-at-the-peer", a_send_can_invalidate_at_the_peer);
    ADD("a-fast-registration-is-checked", a_fast_registration_is_checked);
    ADD("a-region-of-another-domain-opens-nothing", a_region_of_another_domain_opens_nothing);
    ADD("a-dma-address-outside-of-memory-fails", a_dma_address_outside_of_memory_fails);
    ADD("a-key-is-not-used-again-soon", a_key_is_not_used_again_soon);
    ADD("bad-regions-are-refused", bad_regions_are_refused);
    ADD("an-overflow-is-the-end-of-the-queue-pairs", an_overflow_is_the_end_of_the_queue_pairs);
    ADD("a-solicited-message-says-so", a_solicited_message_says_so);
    ADD("too-many-pieces-are-an-error-of-the-operation",
        too_many_pieces_are_an_error_of_the_operation);
    ADD("nothing-moves-while-stopped", nothing_moves_while_stopped);
    ADD("completions-wait-while-stopped", completions_wait_while_stopped);
    ADD("nothing-moves-without-bus-mastering", nothing_moves_without_bus_mastering);
    ADD("a-long-message-is-many-turns", a_long_message_is_many_turns);
    ADD("a-reset-leaves-nothing", a_reset_leaves_nothing);
    ADD("the-port-follows-the-link", the_port_follows_the_link);
    ADD("null-answers-nobody", null_answers_nobody);
    ADD("keys-of-verbs-are-refused", keys_of_verbs_are_refused);
    ADD("many-threads-use-one-adapter", many_threads_use_one_adapter);
    ADD("verbs-says-what-is-missing", verbs_says_what_is_missing);
    ADD("transitions-are-those-of-the-specification", transitions_are_those_of_the_specification);
    return g_test_run();
}
