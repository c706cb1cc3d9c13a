/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What any RDMA backend does for datagrams, queue pair 1 and GIDs: like rdma_behaviours.c, over loopback
 * here, and over verbs in the lab.
 */
#include "tests/unit/rdma_host.h"

static void ud_set_up(struct pair *p, uint32_t qkey)
{
    host_set_up(&p->host);
    for (unsigned i = 0; i < 2; i++) {
        struct rdma_qp_attributes a = usual_attributes(&p->host, 0);
        p->cq[i] = make_cq(&p->host, 64);
        p->qp[i] = make_qp(&p->host, RDMA_QP_UD, p->cq[i], NULL);
        a.qkey = i ? qkey : QKEY;
        to_state(p->qp[i], &a, RDMA_QPS_INIT, INIT_UD);
        to_state(p->qp[i], &a, RDMA_QPS_RTR, 0);
        to_state(p->qp[i], &a, RDMA_QPS_RTS, RDMA_QP_SQ_PSN);
    }
    p->mr = make_whole(&p->host);
    p->key = rdma_mr_lkey(p->mr);
}

static struct rdma_send_wr datagram(struct pair *p, uint64_t wr_id, const struct rdma_sge *sge,
                                    uint32_t qkey)
{
    struct rdma_send_wr wr = send_wr(RDMA_WR_SEND_WITH_IMM, wr_id, sge);

    wr.imm_or_rkey = 0x11223344;
    wr.ud.qpn = rdma_qp_qpn(p->qp[1]);
    wr.ud.qkey = qkey;
    wr.ud.av = usual_attributes(&p->host, 0).av;
    return wr;
}

static void a_datagram_arrives_behind_its_header(void)
{
    struct pair p;

    ud_set_up(&p, QKEY);
    fill(p.host.ram + 0x1000, 900, 6);
    post_recv(&p, 1, 1, 0x10000, 1000);
    struct rdma_sge sge = sge_at(&p, 0x1000, 900);
    struct rdma_send_wr wr = datagram(&p, 2, &sge, QKEY);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    struct rdma_wc wc = next_wc(p.cq[1]);
    g_assert_cmpuint(wc.status, ==, RDMA_WC_SUCCESS);
    g_assert_cmpuint(wc.byte_len, ==, 940);
    g_assert_cmpuint(wc.src_qp, ==, rdma_qp_qpn(p.qp[0]));
    g_assert_cmphex(wc.imm, ==, 0x11223344);
    g_assert_cmpuint(wc.flags & RDMA_WC_GRH, !=, 0);
    expect_filled(p.host.ram + 0x10028, 900, 6);
    const uint8_t *ip = p.host.ram + 0x10014;
    g_assert_cmphex(ip[0], ==, 0x45);
    g_assert_cmpmem(ip + 12, 4, p.host.gid.raw + 12, 4);
    g_assert_cmpmem(ip + 16, 4, p.host.gid.raw + 12, 4);
    expect_wc(p.cq[0], 2, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

static void a_datagram_with_the_wrong_qkey_is_lost(void)
{
    struct pair p;

    ud_set_up(&p, QKEY + 1);
    post_recv(&p, 1, 1, 0x10000, 1000);
    struct rdma_sge sge = sge_at(&p, 0x1000, 100);
    struct rdma_send_wr wr = datagram(&p, 2, &sge, QKEY);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 2, RDMA_WC_SUCCESS);
    expect_no_wc(p.cq[1]);
    wr = datagram(&p, 3, &sge, QKEY + 1);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

static void the_privileged_qkey_is_the_senders_own(void)
{
    struct pair p;

    ud_set_up(&p, QKEY);
    post_recv(&p, 1, 1, 0x10000, 1000);
    struct rdma_sge sge = sge_at(&p, 0x1000, 100);
    struct rdma_send_wr wr = datagram(&p, 2, &sge, 0x80000000);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
    pair_tear_down(&p);
}

/* At the same index there is another one. */
static void a_datagram_names_the_gid_of_now(void)
{
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 1};
    static const union rdma_gid other = {{[10] = 0xff, 0xff, 10, 9, 0, 77}};
    struct pair p;

    ud_set_up(&p, QKEY);
    for (unsigned i = 0; i < 2; i++) {
        struct rdma_sge sge = sge_at(&p, 0x1000, 100);
        struct rdma_send_wr wr = datagram(&p, 1, &sge, QKEY);
        post_recv(&p, 1, 1, 0x10000, 1000);
        g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
        expect_wc(p.cq[1], 1, RDMA_WC_SUCCESS);
        g_assert_cmpmem(p.host.ram + 0x10020, 4, (i ? &other : &p.host.gid)->raw + 12, 4);
        g_assert_cmpint(rdma_remove_gid(p.host.rdma, 0), ==, 0);
        g_assert_cmpint(rdma_add_gid(p.host.rdma, 0, &other, RDMA_GID_ROCE_V2, mac), ==, 0);
        g_assert_cmpint(rdma_add_gid(p.host.rdma, 1, &p.host.gid, RDMA_GID_ROCE_V2, mac), ==,
                        i ? -EEXIST : 0);
    }
    pair_tear_down(&p);
}

static void a_datagram_without_a_receive_is_lost(void)
{
    struct pair p;

    ud_set_up(&p, QKEY);
    struct rdma_sge sge = sge_at(&p, 0x1000, 100);
    struct rdma_send_wr wr = datagram(&p, 2, &sge, QKEY);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 2, RDMA_WC_SUCCESS);
    post_recv(&p, 1, 1, 0x10000, 1000);
    expect_no_wc(p.cq[1]);
    pair_tear_down(&p);
}

static void the_general_service_talks_to_itself(void)
{
    struct pair p;
    struct rdma_qp_create create = {.type = RDMA_QP_GSI};
    struct rdma_qp *second;

    host_set_up(&p.host);
    struct rdma_qp_attributes a = usual_attributes(&p.host, 0);
    a.qkey = 0x80010000;
    p.cq[0] = make_cq(&p.host, 64);
    p.qp[0] = make_qp(&p.host, RDMA_QP_GSI, p.cq[0], NULL);
    create.send_cq = create.recv_cq = p.cq[0];
    g_assert_cmpuint(rdma_qp_qpn(p.qp[0]), ==, RDMA_QPN_GSI);
    g_assert_cmpint(rdma_create_qp(p.host.pd, 77, &create, &second), ==, -EEXIST);
    to_state(p.qp[0], &a, RDMA_QPS_INIT, RDMA_QP_PKEY_INDEX | RDMA_QP_QKEY);
    to_state(p.qp[0], &a, RDMA_QPS_RTR, 0);
    to_state(p.qp[0], &a, RDMA_QPS_RTS, RDMA_QP_SQ_PSN);
    struct rdma_mr_attributes dma = {.type = RDMA_MR_DMA, .access = RDMA_ACCESS_LOCAL_WRITE};
    uint32_t lkey = rdma_mr_lkey(make_mr_in(&p.host, p.host.pd, &dma));
    fill(p.host.ram + 0x1000, 256, 9);
    struct rdma_sge into = {0x20000, 296, lkey};
    struct rdma_recv_wr recv = {.wr_id = 1, .num_sge = 1, .sge = &into};
    g_assert_cmpint(rdma_post_recv(p.qp[0], &recv), ==, 0);
    struct rdma_sge sge[2] = {{0x1000, 24, lkey}, {0x1018, 232, lkey}};
    struct rdma_send_wr wr = send_wr(RDMA_WR_SEND, 2, sge);
    wr.num_sge = 2;
    wr.ud.qpn = 1;
    wr.ud.qkey = 0x80010000;
    wr.ud.av = a.av;
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    struct rdma_wc wc = next_wc(p.cq[0]);
    g_assert_cmpuint(wc.wr_id, ==, 1);
    g_assert_cmpuint(wc.src_qp, ==, 1);
    g_assert_cmpuint(wc.network_type, ==, RDMA_NETWORK_IPV4);
    g_assert_cmpmem(wc.smac, 6, ((uint8_t[]){0x52, 0x54, 0, 0, 0, 1}), 6);
    expect_filled(p.host.ram + 0x20028, 256, 9);
    uint32_t sum = 0; /* of an IPv4 header with a valid checksum: all ones */
    for (unsigned i = 0; i < 20; i += 2)
        sum += p.host.ram[0x20014 + i] << 8 | p.host.ram[0x20015 + i];
    sum = (sum & 0xffff) + (sum >> 16);
    g_assert_cmphex(sum, ==, 0xffff);
    pair_tear_down(&p);
}

/* ---- GIDs ---- */

/* Over verbs: does the host's port have it? */
static bool host_has(const char *text)
{
    for (unsigned i = 0; i < 64; i++) {
        g_autofree char *path = g_strdup_printf("/sys/class/infiniband/rxe0/ports/1/gids/%u", i);
        g_autofree char *gid = NULL;
        if (g_file_get_contents(path, &gid, NULL, NULL) && g_str_has_prefix(gid, text))
            return true;
    }
    return false;
}

static void a_gid_comes_and_goes(void)
{
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 1};
    static const union rdma_gid gids[] = {
        {{[10] = 0xff, 0xff, 10, 9, 0, 77}},
        {{0xfe, 0x80, [8] = 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 0x77}},
    };
    static const char *const texts[] = {"0000:0000:0000:0000:0000:ffff:0a09:004d",
                                        "fe80:0000:0000:0000:5054:00ff:fe00:0077"};
    struct host host;

    host_set_up(&host);
    for (unsigned i = 0; i < G_N_ELEMENTS(gids); i++) {
        g_assert_cmpint(rdma_add_gid(host.rdma, 3, &gids[i], RDMA_GID_ROCE_V2, mac), ==, 0);
        g_assert_cmpint(rdma_add_gid(host.rdma, 3, &gids[i], RDMA_GID_ROCE_V2, mac), ==, -EEXIST);
        g_assert_true(!over_verbs() || host_has(texts[i]));
        g_assert_cmpint(rdma_remove_gid(host.rdma, 3), ==, 0);
        g_assert_cmpint(rdma_remove_gid(host.rdma, 3), ==, -EINVAL);
        g_assert_true(!over_verbs() || wait_until(!host_has(texts[i])));
    }
    g_assert_cmpint(rdma_add_gid(host.rdma, 1 << 20, &gids[0], RDMA_GID_ROCE_V2, mac), ==, -EINVAL);
    g_assert_cmpint(rdma_add_gid(host.rdma, 3, &gids[0], 3, mac), ==, -EINVAL);
    host_tear_down(&host);
}

/* Over verbs, the other guests of the host reach it by a socket with its name. */
static void a_gid_that_comes_back_at_once_is_heard(void)
{
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 1};
    g_autofree char *sockets = NULL;
    struct host host;

    host_set_up(&host);
    turn_for(5);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(rdma_remove_gid(host.rdma, 0), ==, 0);
        g_assert_cmpint(rdma_add_gid(host.rdma, 0, &host.gid, RDMA_GID_ROCE_V2, mac), ==, 0);
    }
    turn_for(5);
    g_assert_true(g_file_get_contents("/proc/net/unix", &sockets, NULL, NULL));
    g_assert_true(!over_verbs() || strstr(sockets, "@lodge-rdma-gsi-"));
    host_tear_down(&host);
}

#define ADD(NAME) g_test_add_func("/rdma/" #NAME, NAME)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(a_datagram_arrives_behind_its_header);
    ADD(a_datagram_with_the_wrong_qkey_is_lost);
    ADD(the_privileged_qkey_is_the_senders_own);
    ADD(a_datagram_names_the_gid_of_now);
    ADD(a_datagram_without_a_receive_is_lost);
    ADD(the_general_service_talks_to_itself);
    ADD(a_gid_comes_and_goes);
    ADD(a_gid_that_comes_back_at_once_is_heard);
    return g_test_run();
}
