/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saving and loading a loopback adapter in the middle of traffic, and streams that lie. */
#include "tests/unit/rdma_host.h"

/* The adapter is saved, closed, and loaded into a new one over the same memory. */
static void move_house(struct pair *p)
{
    g_autoptr(GByteArray) saved = g_byte_array_new();
    g_autoptr(GByteArray) again = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    uint32_t cq[2], qp[2], mr;

    rdma_set_running(p->host.rdma, false);
    g_assert_null(rdma_unsaveable(p->host.rdma));
    rdma_save(p->host.rdma, saved);
    for (unsigned i = 0; i < 2; i++) {
        qp[i] = rdma_qp_number(p->qp[i]);
        cq[i] = 0;
    }
    mr = rdma_mr_rkey(p->mr);
    for (uint32_t n = 1; n < p->host.next; n++)
        for (unsigned i = 0; i < 2; i++)
            if (rdma_find_cq(p->host.rdma, n) == p->cq[i])
                cq[i] = n;
    uint32_t mr_number = 0;
    for (uint32_t n = 1; n < p->host.next; n++)
        if (rdma_find_mr(p->host.rdma, n) == p->mr)
            mr_number = n;
    rdma_close(p->host.rdma);

    p->host.rdma = host_open(&p->host);
    rdma_reset(p->host.rdma, NULL);
    rdma_set_running(p->host.rdma, false);
    g_assert_true(rdma_load(p->host.rdma, saved->data, saved->len, &error));
    g_assert_no_error(error);
    rdma_save(p->host.rdma, again);
    g_assert_cmpuint(again->len, ==, saved->len);
    for (unsigned i = 0; i < 2; i++) {
        p->qp[i] = rdma_find_qp(p->host.rdma, qp[i]);
        p->cq[i] = rdma_find_cq(p->host.rdma, cq[i]);
        g_assert_nonnull(p->qp[i]);
        g_assert_nonnull(p->cq[i]);
    }
    p->mr = rdma_find_mr(p->host.rdma, mr_number);
    g_assert_cmphex(rdma_mr_rkey(p->mr), ==, mr);
    p->host.pd = rdma_find_pd(p->host.rdma, 1);
    rdma_set_running(p->host.rdma, true);
}

static void posted_work_goes_on(void)
{
    struct pair p;

    pair_set_up(&p);
    fill(p.host.ram + 0x1000, 500, 1);
    rdma_set_running(p.host.rdma, false);
    post_recv(&p, 1, 1, 0x20000, 500);
    post_send(&p, 2, 0x1000, 500);
    post_remote(&p, RDMA_WR_WRITE, 3, 0x1000, 500, 0x30000);
    post_remote(&p, RDMA_WR_READ, 4, 0x40000, 500, 0x30000);
    move_house(&p);
    expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
    for (unsigned i = 2; i <= 4; i++)
        expect_wc(p.cq[0], i, RDMA_WC_SUCCESS);
    expect_filled(p.host.ram + 0x20000, 500, 1);
    expect_filled(p.host.ram + 0x40000, 500, 1);
    pair_tear_down(&p);
}

static void a_message_goes_on_in_its_middle(void)
{
    struct pair p;
    struct rdma_wc wc;
    const uint32_t length = 7 << 20;

    pair_set_up(&p);
    fill(p.host.ram, length, 2);
    post_recv(&p, 1, 1, 8 << 20, length);
    post_send(&p, 2, 0, length);
    while (!p.host.ram[(8 << 20) + 1000])
        loop_iterate(loop_main(), false);
    g_assert_cmpuint(rdma_poll_cq(p.cq[1], &wc, 1), ==, 0);
    /* What was moved is not moved again. */
    memset(p.host.ram + (8 << 20), 0x55, 1000);
    move_house(&p);
    expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
    expect_wc(p.cq[0], 2, RDMA_WC_SUCCESS);
    g_assert_cmphex(p.host.ram[(8 << 20) + 10], ==, 0x55);
    g_assert_cmpmem(p.host.ram + (8 << 20) + 1000, length - 1000, p.host.ram + 1000, length - 1000);
    pair_tear_down(&p);
}

static void completions_are_delivered_later(void)
{
    struct pair p;

    pair_set_up(&p);
    for (unsigned i = 0; i < 5; i++)
        post_remote(&p, RDMA_WR_WRITE, i, 0x1000, 8, 0x2000);
    turn_for(5);
    p.host.ready = 0;
    move_house(&p);
    for (unsigned i = 0; i < 5; i++)
        expect_wc(p.cq[0], i, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

static void waiting_goes_on(void)
{
    struct pair p;

    host_set_up(&p.host);
    pair_create(&p, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct rdma_qp_attributes a = usual_attributes(&p.host, rdma_qp_qpn(p.qp[!i]));
        a.rnr_retry = 2;
        a.min_rnr_timer = 24; /* 41 ms */
        connect_as(p.qp[i], &a);
    }
    post_send(&p, 2, 0x1000, 100);
    turn_for(5);
    move_house(&p);
    post_recv(&p, 1, 1, 0x20000, 500);
    expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
    expect_wc(p.cq[0], 2, RDMA_WC_SUCCESS);
    post_send(&p, 3, 0x1000, 100);
    turn_for(5);
    move_house(&p);
    expect_wc(p.cq[0], 3, RDMA_WC_RNR_RETRY_EXC_ERR);
    pair_tear_down(&p);
}

static void a_fast_region_and_its_request_stay(void)
{
    struct pair p;
    const uint64_t pages[2] = {0x300000, 0x310000};
    struct rdma_mr_attributes a = {.type = RDMA_MR_FAST, .page_count = 2};

    pair_set_up(&p);
    uint32_t number = p.host.next;
    struct rdma_mr *mr = make_mr_in(&p.host, p.host.pd, &a);
    uint32_t rkey = (rdma_mr_rkey(mr) & ~0xffu) | 0x33;
    struct rdma_send_wr wr = send_wr(RDMA_WR_FAST_REG, 1, NULL);
    wr.fast_reg.iova = 0x10000;
    wr.fast_reg.length = 8192;
    wr.fast_reg.pages = pages;
    wr.fast_reg.page_count = 2;
    wr.fast_reg.access = ALL_ACCESS;
    wr.fast_reg.rkey = rkey;
    rdma_set_running(p.host.rdma, false);
    g_assert_cmpint(rdma_post_send(p.qp[1], &wr), ==, 0);
    move_house(&p); /* the request */
    expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
    move_house(&p); /* the region */
    g_assert_cmphex(rdma_mr_rkey(rdma_find_mr(p.host.rdma, number)), ==, rkey);
    fill(p.host.ram + 0x1000, 100, 3);
    struct rdma_sge sge = sge_at(&p, 0x1000, 100);
    wr = send_wr(RDMA_WR_WRITE, 2, &sge);
    wr.remote.addr = 0x11000;
    wr.remote.rkey = rkey;
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 2, RDMA_WC_SUCCESS);
    expect_filled(p.host.ram + 0x310000, 100, 3);
    pair_tear_down(&p);
}

static void a_shared_queue_stays(void)
{
    struct pair p;
    struct rdma_srq *srq;
    uint32_t max_wr, max_sge, limit;

    host_set_up(&p.host);
    uint32_t number = p.host.next++;
    g_assert_cmpint(rdma_create_srq(p.host.pd, number, 8, 2, &srq), ==, 0);
    pair_create(&p, srq);
    pair_connect(&p);
    for (unsigned i = 0; i < 3; i++) {
        struct rdma_sge sge = sge_at(&p, 0x20000, 100);
        struct rdma_recv_wr wr = {.wr_id = 10 + i, .num_sge = 1, .sge = &sge};
        g_assert_cmpint(rdma_post_srq_recv(srq, &wr), ==, 0);
    }
    g_assert_cmpint(rdma_set_srq_limit(srq, 3), ==, 0);
    move_house(&p);
    srq = rdma_find_srq(p.host.rdma, number);
    g_assert_cmpint(rdma_query_srq(srq, &max_wr, &max_sge, &limit), ==, 0);
    g_assert_cmpuint(limit, ==, 3);
    post_send(&p, 1, 0x1000, 50);
    expect_wc(p.cq[1], 10, RDMA_WC_SUCCESS);
    g_assert_true(wait_until(p.host.events[RDMA_EVENT_SRQ_LIMIT] == 1));
    pair_tear_down(&p);
}

/* ---- streams that lie ---- */

static GByteArray *save_something(struct pair *p)
{
    GByteArray *saved = g_byte_array_new();

    pair_set_up(p);
    rdma_set_running(p->host.rdma, false);
    post_recv(p, 1, 1, 0x20000, 500);
    post_send(p, 2, 0x1000, 500);
    post_remote(p, RDMA_WR_WRITE, 3, 0x1000, 500, 0x30000);
    rdma_save(p->host.rdma, saved);
    rdma_reset(p->host.rdma, NULL);
    return saved;
}

static void what_is_cut_off_is_refused(void)
{
    struct pair p;
    g_autoptr(GByteArray) saved = save_something(&p);

    /* All lengths but those that end at a record, where it is another adapter with less in it. */
    unsigned refused = 0;
    for (guint length = 0; length < saved->len; length += 7) {
        g_autoptr(GError) error = NULL;
        if (!rdma_load(p.host.rdma, saved->data, length, &error)) {
            g_assert_nonnull(error);
            refused++;
        }
        rdma_reset(p.host.rdma, NULL);
    }
    g_assert_cmpuint(refused, >, saved->len / 7 - 10);
    g_assert_true(rdma_load(p.host.rdma, saved->data, saved->len, NULL));
    pair_tear_down(&p);
}

static void broken_bytes_do_no_harm(void)
{
    struct pair p;
    g_autoptr(GByteArray) saved = save_something(&p);

    for (unsigned i = 0; i < 3000; i++) {
        g_autoptr(GByteArray) broken = g_byte_array_new();
        g_byte_array_append(broken, saved->data, saved->len);
        for (unsigned n = g_test_rand_int_range(1, 4); n; n--)
            broken->data[g_test_rand_int_range(0, broken->len)] = g_test_rand_int_range(0, 256);
        if (rdma_load(p.host.rdma, broken->data, broken->len, NULL)) {
            rdma_set_running(p.host.rdma, true);
            for (unsigned t = 0; t < 5; t++)
                loop_iterate(loop_main(), false);
            rdma_set_running(p.host.rdma, false);
        }
        rdma_reset(p.host.rdma, NULL);
    }
    g_assert_true(rdma_load(p.host.rdma, saved->data, saved->len, NULL));
    pair_tear_down(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_unsetenv("LODGE_RDMA");
#define ADD(NAME, FN) g_test_add_func("/rdma-state/" NAME, FN)
    ADD("posted-work-goes-on", posted_work_goes_on);
    ADD("a-message-goes-on-in-its-middle", a_message_goes_on_in_its_middle);
    ADD("completions-are-delivered-later", completions_are_delivered_later);
    ADD("waiting-goes-on", waiting_goes_on);
    ADD("a-fast-region-and-its-request-stay", a_fast_region_and_its_request_stay);
    ADD("a-shared-queue-stays", a_shared_queue_stays);
    ADD("what-is-cut-off-is-refused", what_is_cut_off_is_refused);
    ADD("broken-bytes-do-no-harm", broken_bytes_do_no_harm);
    return g_test_run();
}
