/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What any RDMA backend does for queue pairs of one adapter: one table, run over loopback here, and over
 * verbs in the lab ($LODGE_RDMA=backend=verbs,device=rxe0).
 */
#include "tests/unit/rdma_host.h"

static void send_arrives_in_pieces(void)
{
    struct pair p;

    pair_set_up(&p);
    fill(p.host.ram + 0x1000, 5000, 1);
    struct rdma_sge to[3] = {sge_at(&p, 0x10000, 100), sge_at(&p, 0x20010, 0),
                             sge_at(&p, 0x30001, 8000)};
    struct rdma_recv_wr recv = {.wr_id = 7, .num_sge = 3, .sge = to};
    g_assert_cmpint(rdma_post_recv(p.qp[1], &recv), ==, 0);
    post_send(&p, 8, 0x1000, 5000);
    struct rdma_wc wc = next_wc(p.cq[1]);
    g_assert_cmpuint(wc.wr_id, ==, 7);
    g_assert_cmpuint(wc.status, ==, RDMA_WC_SUCCESS);
    g_assert_cmpuint(wc.opcode, ==, RDMA_WC_RECV);
    g_assert_cmpuint(wc.byte_len, ==, 5000);
    g_assert_cmpuint(wc.qp, ==, rdma_qp_number(p.qp[1]));
    wc = next_wc(p.cq[0]);
    g_assert_cmpuint(wc.wr_id, ==, 8);
    g_assert_cmpuint(wc.opcode, ==, RDMA_WC_SEND);
    g_assert_cmpuint(wc.qp, ==, rdma_qp_number(p.qp[0]));
    g_assert_cmpmem(p.host.ram + 0x10000, 100, p.host.ram + 0x1000, 100);
    g_assert_cmpmem(p.host.ram + 0x30001, 4900, p.host.ram + 0x1064, 4900);
    g_assert_cmpuint(p.host.ram[0x30001 + 4900], ==, 0);
    pair_tear_down(&p);
}

static void write_and_read_move_bytes(void)
{
    struct pair p;

    pair_set_up(&p);
    fill(p.host.ram + 0x1003, 70001, 2);
    post_remote(&p, RDMA_WR_WRITE, 1, 0x1003, 70001, 0x100005);
    struct rdma_wc wc = next_wc(p.cq[0]);
    g_assert_cmpuint(wc.status, ==, RDMA_WC_SUCCESS);
    g_assert_cmpuint(wc.opcode, ==, RDMA_WC_WRITE);
    expect_filled(p.host.ram + 0x100005, 70001, 2);
    g_assert_cmpuint(p.host.ram[0x100005 + 70001], ==, 0);
    post_remote(&p, RDMA_WR_READ, 2, 0x200007, 70001, 0x100005);
    wc = next_wc(p.cq[0]);
    g_assert_cmpuint(wc.status, ==, RDMA_WC_SUCCESS);
    g_assert_cmpuint(wc.opcode, ==, RDMA_WC_READ);
    expect_filled(p.host.ram + 0x200007, 70001, 2);
    expect_no_wc(p.cq[1]);
    pair_tear_down(&p);
}

static void immediate_data_arrives(void)
{
    struct pair p;
    struct rdma_wc wc;

    pair_set_up(&p);
    post_recv(&p, 1, 1, 0x10000, 64);
    post_recv(&p, 1, 2, 0x11000, 64);
    struct rdma_sge sge = sge_at(&p, 0x1000, 10);
    struct rdma_send_wr wr = send_wr(RDMA_WR_SEND_WITH_IMM, 3, &sge);
    wr.imm_or_rkey = 0xaabbccdd;
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    wc = next_wc(p.cq[1]);
    g_assert_cmphex(wc.imm, ==, 0xaabbccdd);
    g_assert_cmpuint(wc.flags & RDMA_WC_WITH_IMM, !=, 0);
    g_assert_cmpuint(wc.byte_len, ==, 10);
    p.host.ram[0x11000] = 99;
    fill(p.host.ram + 0x1000, 32, 3);
    post_remote(&p, RDMA_WR_WRITE_WITH_IMM, 4, 0x1000, 32, 0x12000);
    wc = next_wc(p.cq[1]);
    g_assert_cmpuint(wc.wr_id, ==, 2);
    g_assert_cmpuint(wc.opcode, ==, RDMA_WC_RECV_WRITE_WITH_IMM);
    g_assert_cmphex(wc.imm, ==, 0x04030201);
    g_assert_cmpuint(wc.byte_len, ==, 32);
    expect_filled(p.host.ram + 0x12000, 32, 3);
    g_assert_cmpuint(p.host.ram[0x11000], ==, 99);
    pair_tear_down(&p);
}

/* ---- atomics ---- */

static int post_atomic(struct pair *p, enum rdma_wr_opcode opcode, uint64_t remote,
                       uint64_t compare_add, uint64_t swap)
{
    struct rdma_sge sge = sge_at(p, 0x1000, 8);
    struct rdma_send_wr wr = send_wr(opcode, 5, &sge);

    wr.atomic.addr = WHOLE + remote;
    wr.atomic.rkey = rdma_mr_rkey(p->mr);
    wr.atomic.compare_add = compare_add;
    wr.atomic.swap = swap;
    return rdma_post_send(p->qp[0], &wr);
}

static void atomics_change_memory_and_return_what_was(void)
{
    struct pair p;
    uint64_t *here, *there;

    pair_set_up(&p);
    here = (uint64_t *)(p.host.ram + 0x1000);
    there = (uint64_t *)(p.host.ram + 0x20008);
    *there = 100;
    g_assert_cmpint(post_atomic(&p, RDMA_WR_FETCH_ADD, 0x20008, 11, 0), ==, 0);
    struct rdma_wc wc = next_wc(p.cq[0]);
    g_assert_cmpuint(wc.status, ==, RDMA_WC_SUCCESS);
    g_assert_cmpuint(wc.opcode, ==, RDMA_WC_FETCH_ADD);
    g_assert_cmpuint(*here, ==, 100);
    g_assert_cmpuint(*there, ==, 111);
    g_assert_cmpint(post_atomic(&p, RDMA_WR_COMPARE_SWAP, 0x20008, 111, 5), ==, 0);
    wc = next_wc(p.cq[0]);
    g_assert_cmpuint(wc.opcode, ==, RDMA_WC_COMPARE_SWAP);
    g_assert_cmpuint(*here, ==, 111);
    g_assert_cmpuint(*there, ==, 5);
    g_assert_cmpint(post_atomic(&p, RDMA_WR_COMPARE_SWAP, 0x20008, 111, 9), ==, 0);
    g_assert_cmpuint(next_wc(p.cq[0]).status, ==, RDMA_WC_SUCCESS);
    g_assert_cmpuint(*here, ==, 5);
    g_assert_cmpuint(*there, ==, 5);
    pair_tear_down(&p);
}

static void an_unaligned_atomic_is_an_invalid_request(void)
{
    struct pair p;

    pair_set_up(&p);
    g_assert_cmpint(post_atomic(&p, RDMA_WR_FETCH_ADD, 0x20004, 1, 0), ==, 0);
    expect_wc(p.cq[0], 5, RDMA_WC_REM_INV_REQ_ERR);
    /* libibverbs does not even send it. */
    g_assert_true(over_verbs() || wait_until(state_of(p.qp[1]) == RDMA_QPS_ERR));
    g_assert_cmpint(state_of(p.qp[0]), ==, RDMA_QPS_ERR);
    pair_tear_down(&p);
}

/* ---- keys, bounds and rights ---- */

/* A WRITE of @length bytes from @local to @remote by @rkey, and how it must end. */
static void expect_write(uint64_t local, uint32_t lkey_xor, uint64_t remote, uint32_t rkey_xor,
                         uint32_t length, enum rdma_wc_status status)
{
    struct pair p;

    pair_set_up(&p);
    struct rdma_sge sge = {local, length, p.key ^ lkey_xor};
    struct rdma_send_wr wr = send_wr(RDMA_WR_WRITE, 5, &sge);
    wr.remote.addr = remote;
    wr.remote.rkey = rdma_mr_rkey(p.mr) ^ rkey_xor;
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 5, status);
    g_assert_cmpint(state_of(p.qp[0]), ==, status ? RDMA_QPS_ERR : RDMA_QPS_RTS);
    pair_tear_down(&p);
}

static void keys_must_be_right(void)
{
    expect_write(WHOLE, 0, WHOLE + 0x1000, 0x1, 8, RDMA_WC_REM_ACCESS_ERR);
    expect_write(WHOLE, 0x1, WHOLE + 0x1000, 0, 8, RDMA_WC_LOC_PROT_ERR);
    expect_write(WHOLE, 0, WHOLE + 0x1000, 0xff00, 8, RDMA_WC_REM_ACCESS_ERR);
}

static void ranges_must_be_inside(void)
{
    const uint64_t end = WHOLE + (16 << 20);

    expect_write(WHOLE, 0, end - 8, 0, 8, RDMA_WC_SUCCESS);
    expect_write(WHOLE, 0, end - 7, 0, 8, RDMA_WC_REM_ACCESS_ERR);
    expect_write(WHOLE, 0, WHOLE - 1, 0, 8, RDMA_WC_REM_ACCESS_ERR);
    expect_write(WHOLE, 0, UINT64_MAX - 3, 0, 8, RDMA_WC_REM_ACCESS_ERR);
    expect_write(end - 7, 0, WHOLE, 0, 8, RDMA_WC_LOC_PROT_ERR);
    expect_write(UINT64_MAX - 3, 0, WHOLE, 0, 8, RDMA_WC_LOC_PROT_ERR);
}

static void the_region_must_allow_it(void)
{
    static const enum rdma_wr_opcode opcodes[] = {RDMA_WR_WRITE, RDMA_WR_READ};

    for (unsigned i = 0; i < G_N_ELEMENTS(opcodes); i++) {
        struct pair p;
        pair_set_up(&p);
        struct rdma_mr *mr = make_mr(&p.host, WHOLE, 4096, 0x8000, 1, RDMA_ACCESS_LOCAL_WRITE);
        struct rdma_sge sge = sge_at(&p, 0x1000, 16);
        struct rdma_send_wr wr = send_wr(opcodes[i], 5, &sge);
        wr.remote.addr = WHOLE;
        wr.remote.rkey = rdma_mr_rkey(mr);
        g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
        expect_wc(p.cq[0], 5, RDMA_WC_REM_ACCESS_ERR);
        pair_tear_down(&p);
    }
}

static void the_queue_pair_must_allow_it(void)
{
    struct pair p;

    host_set_up(&p.host);
    pair_create(&p, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct rdma_qp_attributes a = usual_attributes(&p.host, rdma_qp_qpn(p.qp[!i]));
        a.access = i ? RDMA_ACCESS_REMOTE_READ : ALL_ACCESS;
        connect_as(p.qp[i], &a);
    }
    post_remote(&p, RDMA_WR_READ, 4, 0x1000, 8, 0x2000);
    expect_wc(p.cq[0], 4, RDMA_WC_SUCCESS);
    post_remote(&p, RDMA_WR_WRITE, 5, 0x1000, 8, 0x2000);
    expect_wc(p.cq[0], 5, RDMA_WC_REM_INV_REQ_ERR);
    pair_tear_down(&p);
}

static void a_region_that_is_gone_opens_nothing(void)
{
    struct pair p;

    pair_set_up(&p);
    struct rdma_mr *mr = make_mr(&p.host, WHOLE, 4096, 0x8000, 1, ALL_ACCESS);
    struct rdma_sge sge = sge_at(&p, 0x1000, 16);
    struct rdma_send_wr wr = send_wr(RDMA_WR_WRITE, 5, &sge);
    wr.remote.addr = WHOLE;
    wr.remote.rkey = rdma_mr_rkey(mr);
    g_assert_cmpint(rdma_destroy_mr(mr), ==, 0);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 5, RDMA_WC_REM_ACCESS_ERR);
    pair_tear_down(&p);
}

static void scattered_pages_are_one_range(void)
{
    struct pair p;
    const uint32_t length = 1000 * 4096 - 100;

    pair_set_up(&p);
    /* Pages from 8 MiB down, every second one. */
    struct rdma_mr *mr =
        make_mr(&p.host, UINT64_C(0x10000032), length, UINT64_C(40) << 20, -2, ALL_ACCESS);
    fill(p.host.ram + 0x1000, length, 4);
    struct rdma_sge sge = sge_at(&p, 0x1000, length);
    struct rdma_send_wr wr = send_wr(RDMA_WR_WRITE, 5, &sge);
    wr.remote.addr = UINT64_C(0x10000032);
    wr.remote.rkey = rdma_mr_rkey(mr);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 5, RDMA_WC_SUCCESS);
    for (uint32_t done = 0, at = 0x32; done < length;) {
        uint32_t part = MIN(4096 - at % 4096, length - done);
        uint64_t gpa = (UINT64_C(40) << 20) - (uint64_t)(at / 4096) * 8192 + at % 4096;
        g_assert_cmpmem(p.host.ram + gpa, part, p.host.ram + 0x1000 + done, part);
        done += part;
        at += part;
    }
    pair_tear_down(&p);
}

/* ---- receivers ---- */

static void a_receive_that_is_too_small_fails_both(void)
{
    struct pair p;

    pair_set_up(&p);
    post_recv(&p, 1, 1, 0x10000, 99);
    post_send(&p, 2, 0x1000, 100);
    expect_wc(p.cq[1], 1, RDMA_WC_LOC_LEN_ERR);
    expect_wc(p.cq[0], 2, RDMA_WC_REM_INV_REQ_ERR);
    g_assert_cmpint(state_of(p.qp[0]), ==, RDMA_QPS_ERR);
    g_assert_true(wait_until(state_of(p.qp[1]) == RDMA_QPS_ERR));
    pair_tear_down(&p);
}

static void a_sender_waits_for_a_receive(void)
{
    struct pair p;

    pair_set_up(&p);
    fill(p.host.ram + 0x1000, 100, 5);
    post_send(&p, 2, 0x1000, 100);
    expect_no_wc(p.cq[0]);
    post_recv(&p, 1, 1, 0x10000, 100);
    expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
    expect_wc(p.cq[0], 2, RDMA_WC_SUCCESS);
    expect_filled(p.host.ram + 0x10000, 100, 5);
    pair_tear_down(&p);
}

static void waiting_for_a_receive_ends_after_its_retries(void)
{
    struct pair p;

    host_set_up(&p.host);
    pair_create(&p, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct rdma_qp_attributes a = usual_attributes(&p.host, rdma_qp_qpn(p.qp[!i]));
        a.rnr_retry = 2;
        connect_as(p.qp[i], &a);
    }
    post_send(&p, 2, 0x1000, 100);
    expect_wc(p.cq[0], 2, RDMA_WC_RNR_RETRY_EXC_ERR);
    g_assert_cmpint(state_of(p.qp[0]), ==, RDMA_QPS_ERR);
    pair_tear_down(&p);
}

static void nobody_there_ends_after_the_retries(void)
{
    struct pair p;

    host_set_up(&p.host);
    pair_create(&p, NULL);
    struct rdma_qp_attributes a = usual_attributes(&p.host, rdma_qp_qpn(p.qp[1]));
    connect_as(p.qp[0], &a);
    post_send(&p, 2, 0x1000, 100);
    post_send(&p, 3, 0x1000, 100);
    expect_wc(p.cq[0], 2, RDMA_WC_RETRY_EXC_ERR);
    expect_wc(p.cq[0], 3, RDMA_WC_WR_FLUSH_ERR);
    pair_tear_down(&p);
}

/* With the seven retries that nearly all programs ask for, which are not endless ones. */
static void a_peer_that_goes_is_noticed(void)
{
    struct pair p;

    host_set_up(&p.host);
    pair_create(&p, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct rdma_qp_attributes a = usual_attributes(&p.host, rdma_qp_qpn(p.qp[!i]));
        a.retry_count = 7;
        connect_as(p.qp[i], &a);
    }
    post_recv(&p, 1, 1, 0x10000, 100);
    post_send(&p, 2, 0x1000, 100);
    expect_wc(p.cq[0], 2, RDMA_WC_SUCCESS);
    g_assert_cmpint(rdma_destroy_qp(p.qp[1]), ==, 0);
    post_send(&p, 3, 0x1000, 100);
    post_send(&p, 4, 0x1000, 100);
    expect_wc(p.cq[0], 3, RDMA_WC_RETRY_EXC_ERR);
    expect_wc(p.cq[0], 4, RDMA_WC_WR_FLUSH_ERR);
    g_assert_cmpint(state_of(p.qp[0]), ==, RDMA_QPS_ERR);
    pair_tear_down(&p);
}

/* ---- states ---- */

static void an_error_flushes_what_is_and_what_comes(void)
{
    struct pair p;
    struct rdma_qp_attributes a = {0};

    pair_set_up(&p);
    post_recv(&p, 0, 1, 0x10000, 100);
    post_recv(&p, 0, 2, 0x10000, 100);
    to_state(p.qp[0], &a, RDMA_QPS_ERR, 0);
    expect_wc(p.cq[0], 1, RDMA_WC_WR_FLUSH_ERR);
    expect_wc(p.cq[0], 2, RDMA_WC_WR_FLUSH_ERR);
    post_recv(&p, 0, 3, 0x10000, 100);
    expect_wc(p.cq[0], 3, RDMA_WC_WR_FLUSH_ERR);
    post_send(&p, 4, 0x1000, 100);
    expect_wc(p.cq[0], 4, RDMA_WC_WR_FLUSH_ERR);
    pair_tear_down(&p);
}

static void a_reset_forgets_and_can_be_used_again(void)
{
    struct pair p;
    struct rdma_qp_attributes a = {0};

    pair_set_up(&p);
    for (unsigned i = 0; i < 40; i++)
        post_recv(&p, 1, 1, 0x10000, 100);
    to_state(p.qp[1], &a, RDMA_QPS_ERR, 0);
    to_state(p.qp[1], &a, RDMA_QPS_RESET, 0);
    to_state(p.qp[0], &a, RDMA_QPS_RESET, 0);
    pair_connect(&p);
    expect_no_wc(p.cq[1]);
    post_recv(&p, 1, 2, 0x10000, 100);
    post_send(&p, 3, 0x1000, 100);
    expect_wc(p.cq[1], 2, RDMA_WC_SUCCESS);
    expect_wc(p.cq[0], 3, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

/* Also if they are more than are fetched at once. */
static void what_others_complete_comes_behind_those_that_are_gone(void)
{
    struct pair p;

    host_set_up(&p.host);
    pair_create(&p, NULL);
    for (unsigned i = 0; i < 3; i++) {
        struct rdma_qp *qp = make_qp(&p.host, RDMA_QP_RC, p.cq[1], NULL);
        struct rdma_qp_attributes a = usual_attributes(&p.host, 0);
        struct rdma_recv_wr recv = {.wr_id = 1};
        to_state(qp, &a, RDMA_QPS_INIT, INIT_RC);
        for (unsigned j = 0; j < 60; j++)
            g_assert_cmpint(rdma_post_recv(qp, &recv), ==, 0);
        to_state(qp, &a, RDMA_QPS_ERR, 0);
        g_assert_cmpint(rdma_destroy_qp(qp), ==, 0);
    }
    pair_connect(&p);
    post_recv(&p, 1, 2, 0x10000, 100);
    post_send(&p, 3, 0x1000, 100);
    expect_wc(p.cq[1], 2, RDMA_WC_SUCCESS);
    expect_wc(p.cq[0], 3, RDMA_WC_SUCCESS);
    expect_no_wc(p.cq[1]);
    pair_tear_down(&p);
}

static void posting_too_early_is_refused(void)
{
    struct pair p;
    struct rdma_send_wr send = send_wr(RDMA_WR_SEND, 1, NULL);
    struct rdma_recv_wr recv = {.wr_id = 2};

    host_set_up(&p.host);
    pair_create(&p, NULL);
    struct rdma_qp_attributes a = usual_attributes(&p.host, rdma_qp_qpn(p.qp[1]));
    g_assert_cmpint(rdma_post_recv(p.qp[0], &recv), ==, -EINVAL);
    g_assert_cmpint(rdma_post_send(p.qp[0], &send), ==, -EINVAL);
    to_state(p.qp[0], &a, RDMA_QPS_INIT, INIT_RC);
    g_assert_cmpint(rdma_post_recv(p.qp[0], &recv), ==, 0);
    g_assert_cmpint(rdma_post_send(p.qp[0], &send), ==, -EINVAL);
    to_state(p.qp[0], &a, RDMA_QPS_RTR, RTR_RC);
    g_assert_cmpint(rdma_post_send(p.qp[0], &send), ==, -EINVAL);
    pair_tear_down(&p);
}

static void values_out_of_range_are_refused(void)
{
    struct pair p;

    host_set_up(&p.host);
    pair_create(&p, NULL);
    struct rdma_qp_attributes good = usual_attributes(&p.host, rdma_qp_qpn(p.qp[1])), a = good;
    a.port = 2;
    g_assert_cmpint(set_state(p.qp[0], &a, RDMA_QPS_INIT, INIT_RC), ==, -EINVAL);
    a = good;
    to_state(p.qp[0], &a, RDMA_QPS_INIT, INIT_RC);
    a.path_mtu = 6;
    g_assert_cmpint(set_state(p.qp[0], &a, RDMA_QPS_RTR, RTR_RC), ==, -EINVAL);
    a = good;
    a.dest_qpn = 1 << 24;
    g_assert_cmpint(set_state(p.qp[0], &a, RDMA_QPS_RTR, RTR_RC), ==, -EINVAL);
    a = good;
    a.max_dest_rd_atomic = 255;
    g_assert_cmpint(set_state(p.qp[0], &a, RDMA_QPS_RTR, RTR_RC), ==, -EINVAL);
    g_assert_cmpint(set_state(p.qp[0], &a, RDMA_QPS_RTS, RTS_RC), ==, -EINVAL);
    g_assert_cmpint(state_of(p.qp[0]), ==, RDMA_QPS_INIT);
    pair_tear_down(&p);
}

static void a_query_gives_what_was_set(void)
{
    struct pair p;
    struct rdma_qp_attributes a;

    pair_set_up(&p);
    g_assert_cmpint(rdma_query_qp(p.qp[0], &a), ==, 0);
    g_assert_cmpint(a.state, ==, RDMA_QPS_RTS);
    g_assert_cmpuint(a.dest_qpn, ==, rdma_qp_qpn(p.qp[1]));
    g_assert_cmpuint(a.path_mtu, ==, RDMA_MTU_1024);
    g_assert_cmpuint(a.timeout, ==, 10);
    g_assert_cmpmem(&a.av.dgid, 16, &p.host.gid, 16);
    pair_tear_down(&p);
}

/* ---- queues ---- */

static void only_signaled_sends_complete(void)
{
    struct pair p;
    struct rdma_qp_create create = {.type = RDMA_QP_RC,
                                    .max_send_wr = 16,
                                    .max_recv_wr = 1,
                                    .max_send_sge = 1,
                                    .max_recv_sge = 1};

    host_set_up(&p.host);
    pair_create(&p, NULL);
    g_assert_cmpint(rdma_destroy_qp(p.qp[0]), ==, 0);
    create.send_cq = create.recv_cq = p.cq[0];
    g_assert_cmpint(rdma_create_qp(p.host.pd, p.host.next++, &create, &p.qp[0]), ==, 0);
    pair_connect(&p);
    for (unsigned i = 0; i < 4; i++) {
        struct rdma_sge sge = sge_at(&p, 0x1000, 8);
        struct rdma_send_wr wr = send_wr(RDMA_WR_WRITE, i, &sge);
        wr.flags = i == 3 ? RDMA_SEND_SIGNALED : 0;
        wr.remote.addr = WHOLE + 0x2000;
        wr.remote.rkey = rdma_mr_rkey(p.mr);
        g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    }
    expect_wc(p.cq[0], 3, RDMA_WC_SUCCESS);
    expect_no_wc(p.cq[0]);
    pair_tear_down(&p);
}

static void completions_come_in_order_and_are_announced(void)
{
    struct pair p;
    struct rdma_wc wc[64];
    unsigned got = 0;

    pair_set_up(&p);
    for (unsigned i = 0; i < 40; i++)
        post_remote(&p, i % 3 ? RDMA_WR_WRITE : RDMA_WR_READ, i, 0x1000, 64 * i, 0x40000);
    while (got < 40) {
        unsigned before = p.host.ready;
        unsigned n = rdma_poll_cq(p.cq[0], wc, 64);
        for (unsigned i = 0; i < n; i++, got++) {
            g_assert_cmpuint(wc[i].wr_id, ==, got);
            g_assert_cmpuint(wc[i].status, ==, RDMA_WC_SUCCESS);
        }
        if (got < 40)
            g_assert_true(wait_until(p.host.ready > before));
    }
    pair_tear_down(&p);
}

static void a_full_queue_says_when_there_is_room(void)
{
    struct pair p;
    struct rdma_sge sge;
    unsigned taken = 0;
    int error;

    pair_set_up(&p);
    sge = sge_at(&p, 0x1000, 8);
    struct rdma_send_wr wr = send_wr(RDMA_WR_SEND, 1, &sge);
    while (!(error = rdma_post_send(p.qp[0], &wr)) && taken < MAX_PENDING)
        taken++;
    g_assert_cmpint(error, ==, -ENOMEM);
    g_assert_cmpuint(taken, >=, 64);
    turn_for(5);
    g_assert_cmpuint(p.host.room, ==, 0);
    for (unsigned i = 0; i < 8; i++)
        post_recv(&p, 1, i, 0x10000, 8);
    g_assert_true(wait_until(p.host.room));
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    pair_tear_down(&p);
}

static void what_is_used_can_not_be_destroyed(void)
{
    struct pair p;

    pair_set_up(&p);
    g_assert_cmpint(rdma_destroy_pd(p.host.pd), ==, -EBUSY);
    g_assert_cmpint(rdma_destroy_cq(p.cq[0]), ==, -EBUSY);
    g_assert_cmpint(rdma_destroy_qp(p.qp[0]), ==, 0);
    g_assert_cmpint(rdma_destroy_cq(p.cq[0]), ==, 0);
    g_assert_cmpint(rdma_destroy_qp(p.qp[1]), ==, 0);
    g_assert_cmpint(rdma_destroy_pd(p.host.pd), ==, -EBUSY);
    g_assert_cmpint(rdma_destroy_mr(p.mr), ==, 0);
    g_assert_cmpint(rdma_destroy_pd(p.host.pd), ==, 0);
    pair_tear_down(&p);
}

/* ---- shared receive queues ---- */

static struct rdma_srq *make_srq(struct host *host)
{
    struct rdma_srq *srq;

    g_assert_cmpint(rdma_create_srq(host->pd, host->next++, 16, 2, &srq), ==, 0);
    return srq;
}

static void post_srq(struct pair *p, struct rdma_srq *srq, uint64_t wr_id)
{
    struct rdma_sge sge = sge_at(p, 0x10000 + wr_id * 0x1000, 100);
    struct rdma_recv_wr wr = {.wr_id = wr_id, .num_sge = 1, .sge = &sge};

    g_assert_cmpint(rdma_post_srq_recv(srq, &wr), ==, 0);
}

static void a_shared_queue_serves_and_warns(void)
{
    struct pair p;
    uint32_t max_wr, max_sge, limit;

    host_set_up(&p.host);
    struct rdma_srq *srq = make_srq(&p.host);
    pair_create(&p, srq);
    pair_connect(&p);
    g_assert_cmpint(rdma_destroy_srq(srq), ==, -EBUSY);
    for (unsigned i = 0; i < 3; i++)
        post_srq(&p, srq, i);
    g_assert_cmpint(rdma_set_srq_limit(srq, 2), ==, 0);
    g_assert_cmpint(rdma_query_srq(srq, &max_wr, &max_sge, &limit), ==, 0);
    g_assert_cmpuint(limit, ==, 2);
    post_send(&p, 1, 0x1000, 10);
    expect_wc(p.cq[1], 0, RDMA_WC_SUCCESS);
    turn_for(5);
    g_assert_cmpuint(p.host.events[RDMA_EVENT_SRQ_LIMIT], ==, 0);
    post_send(&p, 1, 0x1000, 10);
    expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
    g_assert_true(wait_until(p.host.events[RDMA_EVENT_SRQ_LIMIT] == 1));
    post_send(&p, 1, 0x1000, 10);
    expect_wc(p.cq[1], 2, RDMA_WC_SUCCESS);
    turn_for(5);
    g_assert_cmpuint(p.host.events[RDMA_EVENT_SRQ_LIMIT], ==, 1);
    post_send(&p, 9, 0x1000, 10); /* nothing left */
    turn_for(5);
    post_srq(&p, srq, 3);
    expect_wc(p.cq[1], 3, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

static void an_error_with_a_shared_queue_tells_the_last_receive(void)
{
    struct pair p;
    struct rdma_qp_attributes a = {0};

    host_set_up(&p.host);
    struct rdma_srq *srq = make_srq(&p.host);
    pair_create(&p, srq);
    pair_connect(&p);
    post_srq(&p, srq, 1);
    to_state(p.qp[1], &a, RDMA_QPS_ERR, 0);
    g_assert_true(wait_until(p.host.events[RDMA_EVENT_LAST_WQE_REACHED] == 1));
    g_assert_cmpuint(p.host.event_number, ==, rdma_qp_number(p.qp[1]));
    expect_no_wc(p.cq[1]); /* the receive is still the SRQ's */
    pair_tear_down(&p);
}

/* ---- draining, events ---- */

static void draining_ends_with_an_event_and_sends_wait(void)
{
    struct pair p;
    struct rdma_qp_attributes a = {.sqd_notify = true};

    pair_set_up(&p);
    post_remote(&p, RDMA_WR_WRITE, 1, 0x1000, 8, 0x2000);
    expect_wc(p.cq[0], 1, RDMA_WC_SUCCESS);
    to_state(p.qp[0], &a, RDMA_QPS_SQD, RDMA_QP_SQD_NOTIFY);
    g_assert_true(wait_until(p.host.events[RDMA_EVENT_SQ_DRAINED] == 1));
    /* It is taken and waits, or is held back until there is room. */
    struct rdma_sge sge = sge_at(&p, 0x1000, 8);
    struct rdma_send_wr wr = send_wr(RDMA_WR_WRITE, 2, &sge);
    wr.remote.addr = WHOLE + 0x2000;
    wr.remote.rkey = rdma_mr_rkey(p.mr);
    int error = rdma_post_send(p.qp[0], &wr);
    expect_no_wc(p.cq[0]);
    to_state(p.qp[0], &a, RDMA_QPS_RTS, 0);
    if (error) {
        g_assert_cmpint(error, ==, -ENOMEM);
        g_assert_true(wait_until(p.host.room));
        g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    }
    expect_wc(p.cq[0], 2, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

static void the_first_message_establishes(void)
{
    struct pair p;

    host_set_up(&p.host);
    pair_create(&p, NULL);
    struct rdma_qp_attributes a = usual_attributes(&p.host, rdma_qp_qpn(p.qp[0]));
    to_state(p.qp[1], &a, RDMA_QPS_INIT, INIT_RC);
    to_state(p.qp[1], &a, RDMA_QPS_RTR, RTR_RC);
    a = usual_attributes(&p.host, rdma_qp_qpn(p.qp[1]));
    connect_as(p.qp[0], &a);
    post_recv(&p, 1, 1, 0x10000, 100);
    post_send(&p, 2, 0x1000, 100);
    expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
    g_assert_true(wait_until(p.host.events[RDMA_EVENT_COMM_EST] == 1));
    pair_tear_down(&p);
}

/* ---- the region of the guest's kernel ---- */

static void a_dma_region_is_local_and_by_physical_address(void)
{
    struct pair p;
    struct rdma_mr_attributes a = {.type = RDMA_MR_DMA, .access = RDMA_ACCESS_LOCAL_WRITE};

    pair_set_up(&p);
    struct rdma_mr *mr = make_mr_in(&p.host, p.host.pd, &a);
    fill(p.host.ram + 0x2345, 300, 8);
    struct rdma_sge sge = {0x2345, 300, rdma_mr_lkey(mr)};
    struct rdma_send_wr wr = send_wr(RDMA_WR_SEND, 1, &sge);
    post_recv(&p, 1, 2, 0x30000, 300);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[1], 2, RDMA_WC_SUCCESS);
    expect_filled(p.host.ram + 0x30000, 300, 8);
    expect_wc(p.cq[0], 1, RDMA_WC_SUCCESS);
    wr.opcode = RDMA_WR_WRITE;
    wr.wr_id = 3;
    wr.remote.addr = 0x40000;
    wr.remote.rkey = rdma_mr_rkey(mr);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 3, RDMA_WC_REM_ACCESS_ERR);
    pair_tear_down(&p);
}

#define ADD(NAME) g_test_add_func("/rdma/" #NAME, NAME)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(send_arrives_in_pieces);
    ADD(write_and_read_move_bytes);
    ADD(immediate_data_arrives);
    ADD(atomics_change_memory_and_return_what_was);
    ADD(an_unaligned_atomic_is_an_invalid_request);
    ADD(keys_must_be_right);
    ADD(ranges_must_be_inside);
    ADD(the_region_must_allow_it);
    ADD(the_queue_pair_must_allow_it);
    ADD(a_region_that_is_gone_opens_nothing);
    ADD(scattered_pages_are_one_range);
    ADD(a_receive_that_is_too_small_fails_both);
    ADD(a_sender_waits_for_a_receive);
    ADD(waiting_for_a_receive_ends_after_its_retries);
    ADD(nobody_there_ends_after_the_retries);
    ADD(a_peer_that_goes_is_noticed);
    ADD(an_error_flushes_what_is_and_what_comes);
    ADD(a_reset_forgets_and_can_be_used_again);
    ADD(what_others_complete_comes_behind_those_that_are_gone);
    ADD(posting_too_early_is_refused);
    ADD(values_out_of_range_are_refused);
    ADD(a_query_gives_what_was_set);
    ADD(only_signaled_sends_complete);
    ADD(completions_come_in_order_and_are_announced);
    ADD(a_full_queue_says_when_there_is_room);
    ADD(what_is_used_can_not_be_destroyed);
    ADD(a_shared_queue_serves_and_warns);
    ADD(an_error_with_a_shared_queue_tells_the_last_receive);
    ADD(draining_ends_with_an_event_and_sends_wait);
    ADD(the_first_message_establishes);
    ADD(a_dma_region_is_local_and_by_physical_address);
    return g_test_run();
}
