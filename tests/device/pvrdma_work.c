/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pvrdma: work through rings and doorbells, completions, notification, events; and hostile rings.
 * */
#include <string.h>

#include "tests/device/pvrdma_driver.h"

#define START   0x40000000ull /* where the process has the buffer */
#define ENTRIES 16u

/* A context with two connected queue pairs and a registered buffer. */
struct pair {
    struct pvd d;
    uint32_t context, pd;
    struct pvd_cq send_cq, recv_cq;
    struct pvd_qp a, b;
    struct pvd_buffer buffer;
    struct pvd_mr mr;
};

static void set_up_pair(struct pair *p, uint32_t context, enum pvr_qp_type type)
{
    struct pvd *d = &p->d;

    pvd_create(d, "backend=loopback");
    pvd_start(d, PVR_VERSION);
    p->context = context ? pvd_open_context(d, context) : 0;
    p->pd = pvd_create_pd(d, p->context);
    p->send_cq = pvd_create_cq(d, p->context, 64);
    p->recv_cq = pvd_create_cq(d, p->context, 64);
    p->a = pvd_create_qp(d, p->context, p->pd, type, &p->send_cq, &p->recv_cq, NULL, ENTRIES);
    p->b = pvd_create_qp(d, p->context, p->pd, type, &p->send_cq, &p->recv_cq, NULL, ENTRIES);
    pvd_bind_gid(d, 0);
    pvd_connect(d, &p->a, type, p->b.qpn);
    pvd_connect(d, &p->b, type, p->a.qpn);
    p->buffer = pvd_alloc(d, 16);
    p->mr = pvd_register(d, p->pd, &p->buffer, START, 16 * PVR_PAGE_SIZE, PVR_ACCESS_ALL);
}

static void setup(struct pair *p, gconstpointer data)
{
    set_up_pair(p, 1, PVR_QPT_RC);
}

static void setup_kernel(struct pair *p, gconstpointer data)
{
    set_up_pair(p, 0, PVR_QPT_RC);
}

static void setup_ud(struct pair *p, gconstpointer data)
{
    set_up_pair(p, 1, PVR_QPT_UD);
}

static void teardown(struct pair *p, gconstpointer data)
{
    pvd_destroy(&p->d);
}

static struct pvr_sge sge_at(struct pair *p, uint64_t offset, uint32_t length)
{
    return (struct pvr_sge){START + offset, length, p->mr.lkey};
}

static void fill(struct pair *p, uint64_t offset, const char *text)
{
    harness_write(p->d.h, p->buffer.gpa + offset, text, strlen(text) + 1);
}

static const char *at(struct pair *p, uint64_t offset)
{
    return harness_ptr(p->d.h, p->buffer.gpa + offset, 64);
}

static void send_from(struct pair *p, struct pvd_qp *qp, uint64_t wr_id, uint64_t offset,
                      uint32_t length, uint32_t flags, bool ring)
{
    struct pvr_sq_wqe wqe = {
        .wr_id = wr_id, .num_sge = 1, .opcode = PVR_WR_SEND, .send_flags = flags};
    struct pvr_sge sge = sge_at(p, offset, length);

    pvd_post_send(&p->d, qp, &wqe, &sge, ring);
}

static void receive_at(struct pair *p, struct pvd_qp *qp, uint64_t wr_id, uint64_t offset,
                       uint32_t length)
{
    struct pvr_sge sge = sge_at(p, offset, length);

    pvd_post_recv(&p->d, qp, wr_id, &sge, 1, true);
}

static void expect(const struct pvr_cqe *cqe, const struct pvd_qp *qp, uint64_t wr_id,
                   uint32_t status, uint32_t opcode)
{
    g_assert_cmpuint(cqe->wr_id, ==, wr_id);
    g_assert_cmpuint(cqe->qp & 0xffff, ==, qp->handle);
    g_assert_cmpuint(cqe->status, ==, status);
    if (!status)
        g_assert_cmpuint(cqe->opcode, ==, opcode);
}

/* ---- the verbs ---- */

static void test_send(struct pair *p, gconstpointer data)
{
    struct pvr_cqe cqe;

    fill(p, 0, "from a to b");
    receive_at(p, &p->b, 7, 0x2000, 64);
    send_from(p, &p->a, 8, 0, 12, PVR_SEND_SIGNALED, true);
    cqe = pvd_wait(&p->d, &p->recv_cq);
    expect(&cqe, &p->b, 7, PVR_WC_SUCCESS, PVR_WC_RECV);
    g_assert_cmpuint(cqe.byte_len, ==, 12);
    g_assert_cmpstr(at(p, 0x2000), ==, "from a to b");
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 8, PVR_WC_SUCCESS, PVR_WC_SEND);
}

static void test_immediate(struct pair *p, gconstpointer data)
{
    struct pvr_sq_wqe wqe = {.wr_id = 1,
                             .num_sge = 1,
                             .opcode = PVR_WR_WRITE_WITH_IMM,
                             .send_flags = PVR_SEND_SIGNALED,
                             .imm_or_rkey = 0x78563412,
                             .wr.rdma = {START + 0x3000, p->mr.rkey, 0}};
    struct pvr_sge sge = sge_at(p, 0, 5);
    struct pvr_cqe cqe;

    fill(p, 0, "imme");
    receive_at(p, &p->b, 2, 0x2000, 64);
    pvd_post_send(&p->d, &p->a, &wqe, &sge, true);
    cqe = pvd_wait(&p->d, &p->recv_cq);
    expect(&cqe, &p->b, 2, PVR_WC_SUCCESS, PVR_WC_RECV_WITH_IMM);
    g_assert_cmphex(cqe.imm_data, ==, 0x78563412);
    g_assert_cmphex(cqe.wc_flags & PVR_WC_WITH_IMM, !=, 0);
    g_assert_cmpstr(at(p, 0x3000), ==, "imme");
}

static void remote(struct pair *p, enum pvr_wr_opcode opcode, uint64_t wr_id, uint64_t local,
                   uint64_t remote_offset, uint32_t length, uint32_t rkey)
{
    struct pvr_sq_wqe wqe = {.wr_id = wr_id,
                             .num_sge = 1,
                             .opcode = opcode,
                             .send_flags = PVR_SEND_SIGNALED,
                             .wr.rdma = {START + remote_offset, rkey, 0}};
    struct pvr_sge sge = sge_at(p, local, length);

    pvd_post_send(&p->d, &p->a, &wqe, &sge, true);
}

static void test_write_and_read(struct pair *p, gconstpointer data)
{
    struct pvr_cqe cqe;

    fill(p, 0xffe, "over a page's end");
    remote(p, PVR_WR_WRITE, 1, 0xffe, 0x4ffb, 18, p->mr.rkey);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 1, PVR_WC_SUCCESS, PVR_WC_WRITE);
    g_assert_cmpstr(at(p, 0x4ffb), ==, "over a page's end");
    remote(p, PVR_WR_READ, 2, 0x6000, 0x4ffb, 18, p->mr.rkey);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 2, PVR_WC_SUCCESS, PVR_WC_READ);
    g_assert_cmpstr(at(p, 0x6000), ==, "over a page's end");
}

static void test_bad_rkey(struct pair *p, gconstpointer data)
{
    struct pvr_cqe cqe;

    remote(p, PVR_WR_WRITE, 1, 0, 0x4000, 18, p->mr.rkey ^ 0x100);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 1, PVR_WC_REM_ACCESS_ERR, 0);
    /* The peer is told, too. */
    for (struct pvr_eqe eqe = {0}; eqe.type != PVR_EVENT_QP_ACCESS_ERR;) {
        eqe = pvd_wait_event(&p->d);
        g_assert_cmpuint(eqe.info, ==, p->b.handle);
    }
    /* In ERR, what is posted is flushed. */
    send_from(p, &p->a, 2, 0, 8, 0, true);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 2, PVR_WC_WR_FLUSH_ERR, 0);
}

static void test_atomics(struct pair *p, gconstpointer data)
{
    struct pvr_sq_wqe wqe = {
        .wr_id = 1,
        .num_sge = 1,
        .opcode = PVR_WR_FETCH_ADD,
        .send_flags = PVR_SEND_SIGNALED,
        .wr.atomic = {.remote_addr = START + 0x1000, .compare_add = 5, .rkey = p->mr.rkey}};
    struct pvr_sge sge = sge_at(p, 0, 8);
    struct pvr_cqe cqe;

    harness_store(p->d.h, p->buffer.gpa + 0x1000, 8, 37);
    pvd_post_send(&p->d, &p->a, &wqe, &sge, true);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 1, PVR_WC_SUCCESS, PVR_WC_FETCH_ADD);
    g_assert_cmpuint(harness_load(p->d.h, p->buffer.gpa, 8), ==, 37);
    wqe.opcode = PVR_WR_COMPARE_SWAP;
    wqe.wr.atomic.compare_add = 42;
    wqe.wr.atomic.swap = 1000;
    pvd_post_send(&p->d, &p->a, &wqe, &sge, true);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 1, PVR_WC_SUCCESS, PVR_WC_COMPARE_SWAP);
    g_assert_cmpuint(harness_load(p->d.h, p->buffer.gpa, 8), ==, 42);
    g_assert_cmpuint(harness_load(p->d.h, p->buffer.gpa + 0x1000, 8), ==, 1000);
}

static void test_datagram(struct pair *p, gconstpointer data)
{
    struct pvr_sq_wqe wqe = {.wr_id = 1,
                             .num_sge = 1,
                             .opcode = PVR_WR_SEND,
                             .send_flags = PVR_SEND_SIGNALED,
                             /* the topmost bit: the queue pair's own key */
                             .wr.ud = {.remote_qpn = p->b.qpn, .remote_qkey = 0x80000000}};
    struct pvr_sge sge = sge_at(p, 0, 12);
    struct pvr_cqe cqe;

    memcpy(wqe.wr.ud.av.dmac, p->d.mac, 6);
    wqe.wr.ud.av.port_pd = 1u << 24 | p->pd;
    wqe.wr.ud.av.hop_limit = 64;
    memcpy(wqe.wr.ud.av.dgid,
           (uint8_t[16]){0xfe, 0x80, [8] = p->d.mac[0] ^ 2, p->d.mac[1], p->d.mac[2], 0xff, 0xfe,
                         p->d.mac[3], p->d.mac[4], p->d.mac[5]},
           16);
    fill(p, 0, "a datagram.");
    receive_at(p, &p->b, 5, 0x2000, 100);
    pvd_post_send(&p->d, &p->a, &wqe, &sge, true);
    cqe = pvd_wait(&p->d, &p->recv_cq);
    expect(&cqe, &p->b, 5, PVR_WC_SUCCESS, PVR_WC_RECV);
    g_assert_cmpuint(cqe.byte_len, ==, 40 + 12);
    g_assert_cmpuint(cqe.src_qp, ==, p->a.qpn);
    g_assert_cmphex(cqe.wc_flags & (PVR_WC_GRH | PVR_WC_WITH_NETWORK_TYPE), ==,
                    PVR_WC_GRH | PVR_WC_WITH_NETWORK_TYPE);
    g_assert_cmpuint(cqe.network_hdr_type, ==, RDMA_NETWORK_IPV6);
    g_assert_cmpstr(at(p, 0x2000 + 40), ==, "a datagram.");
}

/* ---- kernel's own ---- */

static void fast_register(struct pair *p, uint64_t wr_id, uint32_t rkey, const struct pvd_buffer *b,
                          uint32_t pages)
{
    struct pvr_sq_wqe wqe = {.wr_id = wr_id,
                             .opcode = PVR_WR_FAST_REG,
                             .send_flags = PVR_SEND_SIGNALED,
                             .wr.fast_reg = {.iova_start = 0x100000,
                                             .pl_pdir_dma = b->pdir,
                                             .page_shift = 12,
                                             .page_list_len = pages,
                                             .length = pages * PVR_PAGE_SIZE,
                                             .access_flags = PVR_ACCESS_ALL,
                                             .rkey = rkey}};

    pvd_post_send(&p->d, &p->a, &wqe, NULL, true);
}

static struct pvd_mr create_fast(struct pair *p)
{
    union pvr_request req = {.create_mr = {.pd_handle = p->pd, .flags = PVR_MR_FRMR, .nchunks = 8}};
    union pvr_response resp;

    g_assert_cmpuint(pvd_command(&p->d, PVR_CMD_CREATE_MR, &req, &resp), ==, 0);
    return (struct pvd_mr){resp.create_mr.mr_handle, resp.create_mr.lkey, resp.create_mr.rkey};
}

static void test_fast_registration(struct pair *p, gconstpointer data)
{
    struct pvd_mr mr = create_fast(p), dma = pvd_dma_mr(&p->d, p->pd);
    struct pvd_buffer pages = pvd_alloc_scattered(&p->d, 4);
    struct pvr_sq_wqe wqe = {.wr_id = 2,
                             .num_sge = 1,
                             .opcode = PVR_WR_WRITE,
                             .send_flags = PVR_SEND_SIGNALED,
                             .wr.rdma = {0x100000 + 0x1000, (mr.rkey & ~0xffu) | 0x42, 0}};
    struct pvr_sge sge = {p->buffer.gpa, 8, dma.lkey};
    struct pvr_cqe cqe;

    fast_register(p, 1, wqe.wr.rdma.rkey, &pages, 4);
    /* The list may change as soon as the request is consumed. */
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 1, PVR_WC_SUCCESS, PVR_WC_FAST_REG);
    fill(p, 0, "fast");
    pvd_post_send(&p->d, &p->a, &wqe, &sge, true);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 2, PVR_WC_SUCCESS, PVR_WC_WRITE);
    /* Pages are in reverse order: the second of the list is the third in memory. */
    g_assert_cmpstr(harness_ptr(p->d.h, pages.gpa + 2 * PVR_PAGE_SIZE, 8), ==, "fast");
    wqe = (struct pvr_sq_wqe){.wr_id = 3,
                              .opcode = PVR_WR_LOCAL_INV,
                              .send_flags = PVR_SEND_SIGNALED,
                              .imm_or_rkey = wqe.wr.rdma.rkey};
    pvd_post_send(&p->d, &p->a, &wqe, NULL, true);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 3, PVR_WC_SUCCESS, PVR_WC_LOCAL_INV);
}

static void test_bad_fast_registration(struct pair *p, gconstpointer data)
{
    struct pvd_mr mr = create_fast(p);
    struct pvd_buffer pages = pvd_alloc(&p->d, 4);
    struct pvr_cqe cqe;

    harness_store(p->d.h, harness_load(p->d.h, pages.pdir, 8) + 8, 8, UINT64_C(1) << 45);
    fast_register(p, 1, mr.rkey, &pages, 4);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 1, PVR_WC_LOC_QP_OP_ERR, 0);
}

/* The user library's opcodes from 7 on mean something else here, and fast registration by
 * guest-physical pages would give a process all of memory. */
static void test_privileged_opcodes(struct pair *p, gconstpointer data)
{
    uint32_t opcode = GPOINTER_TO_UINT(data);
    struct pvr_sq_wqe wqe = {.wr_id = opcode, .opcode = opcode, .send_flags = PVR_SEND_SIGNALED};
    struct pvr_cqe cqe;

    pvd_post_send(&p->d, &p->a, &wqe, NULL, true);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, opcode, PVR_WC_LOC_QP_OP_ERR, 0);
}

/* ---- notification ---- */

static void test_notification(struct pair *p, gconstpointer data)
{
    uint32_t cq;

    for (unsigned i = 0; i < 4; i++)
        receive_at(p, &p->b, i, 0x2000, 64);
    send_from(p, &p->a, 1, 0, 4, 0, true);
    pvd_wait(&p->d, &p->recv_cq);
    g_assert_cmpuint(pvd_interrupts(&p->d, PVR_VECTOR_CQ), ==, 0); /* not armed */
    pvd_arm(&p->d, &p->recv_cq, false);
    send_from(p, &p->a, 1, 0, 4, 0, false);
    send_from(p, &p->a, 1, 0, 4, 0, true);
    pvd_wait(&p->d, &p->recv_cq);
    pvd_wait(&p->d, &p->recv_cq);
    g_assert_true(pvd_next_notification(&p->d, &cq));
    g_assert_cmpuint(cq, ==, p->recv_cq.handle);
    g_assert_false(pvd_next_notification(&p->d, &cq)); /* one, then disarmed */
    g_assert_cmpuint(pvd_interrupts(&p->d, PVR_VECTOR_CQ), ==, 1);
}

static void wait_for_parked(struct pair *p)
{
    struct pvr_cqe cqe;

    for (unsigned i = 0; i < 1000 && !pvd_is_parked(&p->d, &p->recv_cq); i++) {
        g_assert_false(pvd_poll(&p->d, &p->recv_cq, &cqe));
        harness_settle(p->d.h, 1);
    }
    g_assert_true(pvd_is_parked(&p->d, &p->recv_cq));
}

static void test_looks_at_an_empty_queue_ring_once(struct pair *p, gconstpointer data)
{
    for (unsigned i = 0; i < 3 * ENTRIES; i++) {
        struct pvr_cqe cqe;

        wait_for_parked(p);
        pvd_arm(&p->d, &p->recv_cq, false);
        receive_at(p, &p->b, i, 0x2000, 64);
        send_from(p, &p->a, i, 0, 12, 0, true);
        cqe = pvd_wait(&p->d, &p->recv_cq);
        expect(&cqe, &p->b, i, PVR_WC_SUCCESS, PVR_WC_RECV);
    }
}

static void test_the_kernels_queues_are_not_parked(struct pair *p, gconstpointer data)
{
    struct pvr_cqe cqe;

    receive_at(p, &p->b, 1, 0x2000, 64);
    for (unsigned i = 0; i < 10; i++) {
        g_assert_false(pvd_poll(&p->d, &p->recv_cq, &cqe));
        harness_settle(p->d.h, 1);
        g_assert_false(pvd_is_parked(&p->d, &p->recv_cq));
    }
}

static void test_solicited_notification(struct pair *p, gconstpointer data)
{
    uint32_t cq;

    for (unsigned i = 0; i < 3; i++)
        receive_at(p, &p->b, i, 0x2000, 64);
    pvd_arm(&p->d, &p->recv_cq, true);
    send_from(p, &p->a, 1, 0, 4, 0, true);
    pvd_wait(&p->d, &p->recv_cq);
    g_assert_false(pvd_next_notification(&p->d, &cq));
    send_from(p, &p->a, 1, 0, 4, PVR_SEND_SOLICITED, true);
    pvd_wait(&p->d, &p->recv_cq);
    g_assert_true(pvd_next_notification(&p->d, &cq));
    /* An error counts as solicited. */
    pvd_arm(&p->d, &p->recv_cq, true);
    pvd_set_state(&p->d, &p->b, RDMA_QPS_ERR);
    g_assert_cmpuint(pvd_wait(&p->d, &p->recv_cq).status, ==, PVR_WC_WR_FLUSH_ERR);
    g_assert_true(pvd_next_notification(&p->d, &cq));
}

/* The notification ring's indices go round twice: its size is no power of two. */
static void test_many_notifications(struct pair *p, gconstpointer data)
{
    uint32_t cq;

    for (unsigned i = 0; i < 5000; i++) {
        pvd_arm(&p->d, &p->send_cq, false);
        remote(p, PVR_WR_WRITE, i, 0, 0x1000, 1, p->mr.rkey);
        g_assert_cmpuint(pvd_wait(&p->d, &p->send_cq).wr_id, ==, i);
        g_assert_true(pvd_next_notification(&p->d, &cq));
        g_assert_cmpuint(cq, ==, p->send_cq.handle);
    }
    g_assert_cmpuint(pvd_interrupts(&p->d, PVR_VECTOR_CQ), ==, 5000);
}

/* Its own queue is not armed again before it came: any other's will do. */
static void test_waiting_notification(struct pair *p, gconstpointer data)
{
    const unsigned slots = 1024;
    uint32_t cq;

    receive_at(p, &p->b, 0, 0x2000, 64);
    for (unsigned i = 0; i < slots; i++) {
        pvd_arm(&p->d, &p->send_cq, false);
        remote(p, PVR_WR_WRITE, i, 0, 0x1000, 1, p->mr.rkey);
        pvd_wait(&p->d, &p->send_cq);
    }
    pvd_arm(&p->d, &p->recv_cq, false);
    send_from(p, &p->a, 1, 0, 4, 0, true);
    pvd_wait(&p->d, &p->recv_cq);
    for (unsigned i = 0; i < slots; i++) {
        g_assert_true(pvd_next_notification(&p->d, &cq));
        g_assert_cmpuint(cq, ==, p->send_cq.handle);
    }
    pvd_arm(&p->d, &p->send_cq, false);
    g_assert_true(pvd_next_notification(&p->d, &cq));
    g_assert_cmpuint(cq, ==, p->recv_cq.handle);
}

static void test_masked_interrupts(struct pair *p, gconstpointer data)
{
    pvd_write(&p->d, PVR_REG_IMR, UINT32_MAX);
    pvd_arm(&p->d, &p->send_cq, false);
    remote(p, PVR_WR_WRITE, 1, 0, 0x1000, 1, p->mr.rkey);
    pvd_wait(&p->d, &p->send_cq);
    g_assert_cmpuint(pvd_interrupts(&p->d, PVR_VECTOR_CQ), ==, 0);
    g_assert_cmphex(pvd_read(&p->d, PVR_REG_ICR), ==, 1u << PVR_VECTOR_CQ);
    pvd_write(&p->d, PVR_REG_IMR, 0);
    g_assert_cmpuint(pvd_interrupts(&p->d, PVR_VECTOR_CQ), ==, 1);
}

/* The next driver unmasks before it is ready for a response. */
static void test_reset_forgets_interrupts(struct pair *p, gconstpointer data)
{
    pvd_write(&p->d, PVR_REG_IMR, UINT32_MAX);
    pvd_arm(&p->d, &p->send_cq, false);
    remote(p, PVR_WR_WRITE, 1, 0, 0x1000, 1, p->mr.rkey);
    pvd_wait(&p->d, &p->send_cq);
    pvd_write(&p->d, PVR_REG_CTL, PVR_CTL_RESET);
    pvd_start(&p->d, PVR_VERSION); /* unmasks */
    g_assert_cmpuint(pvd_interrupts(&p->d, PVR_VECTOR_CQ), ==, 0);
}

/* ---- shared receive queues ---- */

/* A shared receive queue, and a connection to one that receives from it. */
struct shared {
    struct pvd_srq srq;
    struct pvd_qp qp, sender;
};

static void set_up_shared(struct pair *p, struct shared *s, uint32_t entries)
{
    struct pvd *d = &p->d;

    s->srq = pvd_create_srq(d, p->context, p->pd, entries, 0);
    s->qp =
        pvd_create_qp(d, p->context, p->pd, PVR_QPT_RC, &p->send_cq, &p->recv_cq, &s->srq, ENTRIES);
    s->sender = p->a;
    g_assert_cmpuint(pvd_set_state(d, &s->sender, RDMA_QPS_RESET), ==, 0);
    pvd_connect(d, &s->qp, PVR_QPT_RC, s->sender.qpn);
    pvd_connect(d, &s->sender, PVR_QPT_RC, s->qp.qpn);
}

static void post_shared(struct pair *p, struct shared *s, unsigned count)
{
    struct pvr_sge sge = sge_at(p, 0x2000, 64);

    for (unsigned i = 0; i < count; i++)
        pvd_post_srq(&p->d, &s->srq, i, &sge, 1, i + 1 == count);
}

static void set_limit(struct pair *p, struct shared *s, uint32_t limit)
{
    union pvr_request req = {.modify_srq = {.srq_handle = s->srq.handle,
                                            .attr_mask = PVR_SRQ_LIMIT,
                                            .attrs = {0, 0, limit}}};
    union pvr_response resp;

    g_assert_cmpuint(pvd_command(&p->d, PVR_CMD_MODIFY_SRQ, &req, &resp), ==, 0);
    g_assert_cmphex(resp.hdr.ack, ==, 0);
}

static void send_shared(struct pair *p, struct shared *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        send_from(p, &s->sender, i, 0, 4, 0, true);
        g_assert_cmpuint(pvd_wait(&p->d, &p->recv_cq).qp, ==, s->qp.handle);
    }
}

static void expect_limit_reached(struct pair *p, struct shared *s)
{
    struct pvr_eqe eqe;

    do
        eqe = pvd_wait_event(&p->d);
    while (eqe.type == PVR_EVENT_COMM_EST);
    g_assert_cmpuint(eqe.type, ==, PVR_EVENT_SRQ_LIMIT);
    g_assert_cmpuint(eqe.info, ==, s->srq.handle);
}

static void test_srq_limit(struct pair *p, gconstpointer data)
{
    struct shared s;

    set_up_shared(p, &s, ENTRIES);
    post_shared(p, &s, 3);
    set_limit(p, &s, 2);
    send_shared(p, &s, 2);
    expect_limit_reached(p, &s);
    g_assert_cmpuint(pvd_set_state(&p->d, &s.qp, RDMA_QPS_ERR), ==, 0);
    g_assert_cmpuint(pvd_wait_event(&p->d).type, ==, PVR_EVENT_LAST_WQE);
}

/* The limit counts from all that was posted before it, though that is more than a turn serves. */
static void test_srq_limit_counts_all_that_is_posted(struct pair *p, gconstpointer data)
{
    struct pvr_eqe eqe;
    struct shared s;

    set_up_shared(p, &s, 256);
    post_shared(p, &s, 200);
    set_limit(p, &s, 100);
    harness_settle(p->d.h, 2);
    send_shared(p, &s, 100);
    harness_settle(p->d.h, 2);
    while (pvd_next_event(&p->d, &eqe))
        g_assert_cmpuint(eqe.type, ==, PVR_EVENT_COMM_EST);
    send_shared(p, &s, 1);
    expect_limit_reached(p, &s);
}

/* ---- states ---- */

static void test_drain_in_error(struct pair *p, gconstpointer data)
{
    struct pvr_cqe cqe;

    receive_at(p, &p->a, 1, 0, 8);
    g_assert_cmpuint(pvd_set_state(&p->d, &p->a, RDMA_QPS_ERR), ==, 0);
    receive_at(p, &p->a, 2, 0, 8);
    send_from(p, &p->a, 3, 0, 8, 0, true);
    for (unsigned i = 1; i <= 2; i++) {
        cqe = pvd_wait(&p->d, &p->recv_cq);
        expect(&cqe, &p->a, i, PVR_WC_WR_FLUSH_ERR, 0);
    }
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 3, PVR_WC_WR_FLUSH_ERR, 0);
}

static void test_reset_and_reuse(struct pair *p, gconstpointer data)
{
    struct pvr_ring_state *state = harness_ptr(p->d.h, p->a.buffer.gpa, sizeof(*state));

    for (unsigned i = 0; i < 100; i++) {
        remote(p, PVR_WR_WRITE, i, 0, 0x1000, 1, p->mr.rkey);
        g_assert_cmpuint(pvd_wait(&p->d, &p->send_cq).status, ==, 0);
        if (i % 10)
            continue;
        g_assert_cmpuint(pvd_set_state(&p->d, &p->a, RDMA_QPS_RESET), ==, 0);
        memset(state, 0, sizeof(*state));
        pvd_connect(&p->d, &p->a, PVR_QPT_RC, p->b.qpn);
    }
}

static void test_destroyed_queue_completes_no_more(struct pair *p, gconstpointer data)
{
    struct pvr_cqe cqe;

    receive_at(p, &p->a, 1, 0, 8);
    send_from(p, &p->a, 2, 0, 8, PVR_SEND_SIGNALED, true); /* the peer is not ready */
    harness_settle(p->d.h, 5);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_QP, p->a.handle), ==, 0);
    harness_settle(p->d.h, 5);
    g_assert_false(pvd_poll(&p->d, &p->send_cq, &cqe));
    g_assert_false(pvd_poll(&p->d, &p->recv_cq, &cqe));
}

/* ---- hostile rings and doorbells ---- */

/* CVE-2018-20124: more scatter/gather entries than there is room for. */
static void test_too_many_sge(struct pair *p, gconstpointer data)
{
    static const uint32_t counts[] = {3, 17, 33, 0x10000000, UINT32_MAX};
    struct pvr_sge sge[2] = {sge_at(p, 0, 4), sge_at(p, 0x1000, 4)};
    struct pvr_ring_state *state = harness_ptr(p->d.h, p->a.buffer.gpa, sizeof(*state));

    for (unsigned i = 0; i < G_N_ELEMENTS(counts); i++) {
        struct pvr_sq_wqe wqe = {.wr_id = i, .num_sge = counts[i], .opcode = PVR_WR_SEND};
        struct pvr_cqe cqe;

        pvd_post_send(&p->d, &p->a, &wqe, sge, true);
        cqe = pvd_wait(&p->d, &p->send_cq);
        g_assert_cmpuint(cqe.status, ==, PVR_WC_LOC_QP_OP_ERR);
        g_assert_cmpuint(pvd_set_state(&p->d, &p->a, RDMA_QPS_RESET), ==, 0);
        memset(state, 0, sizeof(*state));
        pvd_connect(&p->d, &p->a, PVR_QPT_RC, p->b.qpn);
    }
    pvd_post_recv(&p->d, &p->b, 9, sge, UINT32_MAX, true);
    send_from(p, &p->a, 10, 0, 4, 0, true);
    g_assert_cmpuint(pvd_wait(&p->d, &p->recv_cq).status, !=, PVR_WC_SUCCESS);
}

/* CVE-2018-20216: indices out of range, and a ring that is never empty. */
static void test_bad_indices(struct pair *p, gconstpointer data)
{
    static const uint32_t indices[] = {2 * ENTRIES, 0x80000000, UINT32_MAX};

    for (unsigned i = 0; i < 4 * G_N_ELEMENTS(indices); i++) {
        struct pvr_ring_state *state = harness_ptr(p->d.h, p->a.buffer.gpa, sizeof(*state));
        uint32_t *fields[] = {&state->tx.prod_tail, &state->tx.cons_head, &state->rx.prod_tail,
                              &state->rx.cons_head};
        struct pvr_eqe eqe;

        *fields[i % 4] = indices[i / 4];
        pvd_bell(&p->d, p->context, PVR_UAR_QP, p->a.handle | PVR_UAR_QP_SEND);
        eqe = pvd_wait_event(&p->d);
        g_assert_cmpuint(eqe.type, ==, PVR_EVENT_QP_FATAL);
        g_assert_cmpuint(eqe.info, ==, p->a.handle);
        /* It is left alone until it is reset. */
        pvd_bell(&p->d, p->context, PVR_UAR_QP, p->a.handle | PVR_UAR_QP_SEND);
        harness_settle(p->d.h, 1);
        g_assert_false(pvd_next_event(&p->d, &eqe));
        g_assert_cmpuint(pvd_set_state(&p->d, &p->a, RDMA_QPS_RESET), ==, 0);
        memset(state, 0, sizeof(*state));
        pvd_connect(&p->d, &p->a, PVR_QPT_RC, p->b.qpn);
    }
}

/* A tail that runs ahead for ever costs a bounded amount of work a turn: other queues go on. */
static void test_endless_ring(struct pair *p, gconstpointer data)
{
    struct pvr_ring_state *state = harness_ptr(p->d.h, p->b.buffer.gpa, sizeof(*state));
    struct pvr_cqe cqe;

    g_assert_cmpuint(pvd_set_state(&p->d, &p->b, RDMA_QPS_ERR), ==, 0);
    for (unsigned i = 0; i < 200; i++) {
        state->rx.prod_tail = (state->rx.cons_head + ENTRIES - 1) % (2 * ENTRIES);
        pvd_bell(&p->d, p->context, PVR_UAR_QP, p->b.handle | PVR_UAR_QP_RECV);
        harness_settle(p->d.h, 0);
        while (pvd_poll(&p->d, &p->recv_cq, &cqe))
            ;
    }
    g_assert_cmpuint(pvd_set_state(&p->d, &p->b, RDMA_QPS_RESET), ==, 0);
}

static void test_cq_overflow(struct pair *p, gconstpointer data)
{
    struct pvr_eqe eqe;

    for (unsigned i = 0; i < 100; i++) {
        struct pvr_ring_state *state = harness_ptr(p->d.h, p->a.buffer.gpa, sizeof(*state));

        remote(p, PVR_WR_WRITE, i, 0, 0x1000, 1, p->mr.rkey);
        for (unsigned j = 0; j < 100 && state->tx.prod_tail != state->tx.cons_head; j++)
            harness_settle(p->d.h, 0);
        if (state->tx.prod_tail == (state->tx.cons_head ^ ENTRIES))
            break;
    }
    do
        eqe = pvd_wait_event(&p->d);
    while (eqe.type != PVR_EVENT_CQ_ERR);
    g_assert_cmpuint(eqe.info, ==, p->send_cq.handle);
}

static void test_bad_cq_indices(struct pair *p, gconstpointer data)
{
    struct pvr_ring_state *state = harness_ptr(p->d.h, p->send_cq.buffer.gpa, sizeof(*state));
    struct pvr_eqe eqe;

    state->rx.cons_head = 0x12345678;
    remote(p, PVR_WR_WRITE, 1, 0, 0x1000, 1, p->mr.rkey);
    do
        eqe = pvd_wait_event(&p->d);
    while (eqe.type != PVR_EVENT_CQ_ERR);
    g_assert_cmpuint(eqe.info, ==, p->send_cq.handle);
}

/* A process rings only what is its own. */
static void test_foreign_doorbells(struct pair *p, gconstpointer data)
{
    struct pvd *d = &p->d;
    uint32_t other = pvd_open_context(d, 2), cq;
    struct pvr_cqe cqe;

    receive_at(p, &p->b, 1, 0x2000, 64);
    harness_settle(d->h, 2);
    send_from(p, &p->a, 2, 0, 4, PVR_SEND_SIGNALED, false);
    pvd_bell(d, other, PVR_UAR_QP, p->a.handle | PVR_UAR_QP_SEND);
    pvd_bell(d, 0, PVR_UAR_QP, p->a.handle | PVR_UAR_QP_SEND);
    pvd_bell(d, 200, PVR_UAR_QP, p->a.handle | PVR_UAR_QP_SEND);
    harness_settle(d->h, 5);
    g_assert_false(pvd_poll(d, &p->send_cq, &cqe));
    pvd_bell(d, other, PVR_UAR_CQ, p->send_cq.handle | PVR_UAR_CQ_ARM);
    pvd_bell(d, p->context, PVR_UAR_QP, p->a.handle | PVR_UAR_QP_SEND);
    pvd_wait(d, &p->send_cq);
    g_assert_false(pvd_next_notification(d, &cq));
}

static void test_random_doorbells(struct pair *p, gconstpointer data)
{
    struct pvr_cqe cqe;

    for (unsigned i = 0; i < 3000; i++)
        pvd_bell(&p->d, g_test_rand_int_range(0, 256), 4 * g_test_rand_int_range(0, 1024),
                 (uint32_t)g_test_rand_int());
    harness_settle(p->d.h, 5);
    remote(p, PVR_WR_WRITE, 1, 0, 0x1000, 1, p->mr.rkey);
    cqe = pvd_wait(&p->d, &p->send_cq);
    expect(&cqe, &p->a, 1, PVR_WC_SUCCESS, PVR_WC_WRITE);
}

/* After RESET nothing is written to the guest's memory any more, whatever is rung. */
static void test_no_dma_after_reset(struct pair *p, gconstpointer data)
{
    struct pvr_ring_state *state = harness_ptr(p->d.h, p->a.buffer.gpa, sizeof(*state));

    for (unsigned i = 0; i < ENTRIES; i++)
        send_from(p, &p->a, i, 0, 4, PVR_SEND_SIGNALED, i + 1 == ENTRIES);
    pvd_write(&p->d, PVR_REG_CTL, PVR_CTL_RESET);
    memset(harness_ptr(p->d.h, p->a.buffer.gpa, PVR_PAGE_SIZE), 0x5a, PVR_PAGE_SIZE);
    pvd_bell(&p->d, p->context, PVR_UAR_QP, p->a.handle | PVR_UAR_QP_SEND);
    harness_settle(p->d.h, 5);
    g_assert_cmphex(state->tx.cons_head, ==, 0x5a5a5a5a);
    pvd_start(&p->d, PVR_VERSION);
}

#define ADD(PATH, SETUP, TEST) g_test_add(PATH, struct pair, NULL, SETUP, TEST, teardown)

static void add_privileged_opcodes(void)
{
    for (unsigned opcode = PVR_WR_LSO; opcode <= 16; opcode++) {
        g_autofree char *path = g_strdup_printf("/pvrdma/work/privileged-opcode/%u", opcode);

        g_test_add(path, struct pair, GUINT_TO_POINTER(opcode), setup, test_privileged_opcodes,
                   teardown);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    ADD("/pvrdma/work/send", setup, test_send);
    ADD("/pvrdma/work/immediate", setup, test_immediate);
    ADD("/pvrdma/work/write-and-read", setup, test_write_and_read);
    ADD("/pvrdma/work/bad-rkey", setup, test_bad_rkey);
    ADD("/pvrdma/work/atomics", setup, test_atomics);
    ADD("/pvrdma/work/datagram", setup_ud, test_datagram);
    ADD("/pvrdma/work/fast-registration", setup_kernel, test_fast_registration);
    ADD("/pvrdma/work/bad-fast-registration", setup_kernel, test_bad_fast_registration);
    add_privileged_opcodes();
    ADD("/pvrdma/work/notification", setup, test_notification);
    ADD("/pvrdma/work/empty-queue-rings-once", setup, test_looks_at_an_empty_queue_ring_once);
    ADD("/pvrdma/work/kernels-not-parked", setup_kernel, test_the_kernels_queues_are_not_parked);
    ADD("/pvrdma/work/solicited", setup, test_solicited_notification);
    ADD("/pvrdma/work/many-notifications", setup, test_many_notifications);
    ADD("/pvrdma/work/waiting-notification", setup, test_waiting_notification);
    ADD("/pvrdma/work/masked-interrupts", setup, test_masked_interrupts);
    ADD("/pvrdma/work/reset-forgets-interrupts", setup, test_reset_forgets_interrupts);
    ADD("/pvrdma/work/srq-limit", setup, test_srq_limit);
    ADD("/pvrdma/work/srq-limit-counts-all-that-is-posted", setup,
        test_srq_limit_counts_all_that_is_posted);
    ADD("/pvrdma/work/drain-in-error", setup, test_drain_in_error);
    ADD("/pvrdma/work/reset-and-reuse", setup, test_reset_and_reuse);
    ADD("/pvrdma/work/destroyed", setup, test_destroyed_queue_completes_no_more);
    ADD("/pvrdma/work/too-many-sge", setup, test_too_many_sge);
    ADD("/pvrdma/work/bad-indices", setup, test_bad_indices);
    ADD("/pvrdma/work/endless-ring", setup, test_endless_ring);
    ADD("/pvrdma/work/cq-overflow", setup, test_cq_overflow);
    ADD("/pvrdma/work/bad-cq-indices", setup, test_bad_cq_indices);
    ADD("/pvrdma/work/foreign-doorbells", setup, test_foreign_doorbells);
    ADD("/pvrdma/work/random-doorbells", setup, test_random_doorbells);
    ADD("/pvrdma/work/no-dma-after-reset", setup, test_no_dma_after_reset);
    return g_test_run();
}
