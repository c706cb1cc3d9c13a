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

static const struct behaviour {
    const char *name;
    void (*run)(void);
} behaviours[] = {
    {"send-arrives-in-pieces", send_arrives_in_pieces},
    {"write-and-read-move-bytes", write_and_read_move_bytes},
    {"immediate-data-arrives", immediate_data_arrives},
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(behaviours); i++) {
        g_autofree char *path = g_strdup_printf("/rdma/%s", behaviours[i].name);
        g_test_add_func(path, behaviours[i].run);
    }
    return g_test_run();
}
