/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pvrdma being paused, reset, saved and loaded, in the middle of traffic; and what a driver leaves
 * that gave up waiting. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "backends/rdma/driver.h"
#include "tests/device/pvrdma_driver.h"
#include "tests/support/check_state.h"

#define START 0x40000000ull

struct pair {
    struct pvd d;
    uint32_t pd;
    struct pvd_cq send_cq, recv_cq;
    struct pvd_srq srq;
    struct pvd_qp a, b;
    struct pvd_buffer buffer;
    struct pvd_mr mr;
};

static struct device *device(struct pair *p)
{
    return &pvrdma_function(p->d.pvrdma)->device;
}

/* A process with two connected queue pairs; the second one receives from a shared queue. */
static void setup(struct pair *p, gconstpointer data)
{
    struct pvd *d = &p->d;
    uint32_t context;

    pvd_create(d, "backend=loopback");
    pvd_start(d, PVR_VERSION);
    context = pvd_open_context(d, 5);
    p->pd = pvd_create_pd(d, context);
    p->send_cq = pvd_create_cq(d, context, 64);
    p->recv_cq = pvd_create_cq(d, context, 64);
    p->srq = pvd_create_srq(d, context, p->pd, 16, 0);
    p->a = pvd_create_qp(d, context, p->pd, PVR_QPT_RC, &p->send_cq, &p->recv_cq, NULL, 16);
    p->b = pvd_create_qp(d, context, p->pd, PVR_QPT_RC, &p->send_cq, &p->recv_cq, &p->srq, 16);
    pvd_bind_gid(d, 0);
    pvd_connect(d, &p->a, PVR_QPT_RC, p->b.qpn);
    pvd_connect(d, &p->b, PVR_QPT_RC, p->a.qpn);
    p->buffer = pvd_alloc_scattered(d, 16);
    p->mr = pvd_register(d, p->pd, &p->buffer, START, 16 * PVR_PAGE_SIZE, PVR_ACCESS_ALL);
}

static void teardown(struct pair *p, gconstpointer data)
{
    pvd_destroy(&p->d);
}

static void send(struct pair *p, uint64_t wr_id, bool ring)
{
    struct pvr_sq_wqe wqe = {
        .wr_id = wr_id, .num_sge = 1, .opcode = PVR_WR_SEND, .send_flags = PVR_SEND_SIGNALED};
    struct pvr_sge sge = {START + 8 * wr_id, 8, p->mr.lkey};

    pvd_post_send(&p->d, &p->a, &wqe, &sge, ring);
}

static void receive(struct pair *p, uint64_t wr_id, bool ring)
{
    struct pvr_sge sge = {START + 0x8000 + 8 * wr_id, 8, p->mr.lkey};

    pvd_post_srq(&p->d, &p->srq, wr_id, &sge, 1, ring);
}

/* Page 0 of the process is the last in memory. */
static uint64_t gpa_of(struct pair *p, uint64_t address)
{
    uint64_t offset = address - START;

    return p->buffer.gpa + (15 - offset / PVR_PAGE_SIZE) * PVR_PAGE_SIZE + offset % PVR_PAGE_SIZE;
}

static void expect_messages(struct pair *p, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct pvr_cqe cqe = pvd_wait(&p->d, &p->recv_cq);

        g_assert_cmpuint(cqe.wr_id, ==, i);
        g_assert_cmpuint(cqe.status, ==, PVR_WC_SUCCESS);
        g_assert_cmpuint(cqe.qp, ==, p->b.handle);
        g_assert_cmphex(harness_load(p->d.h, gpa_of(p, START + 0x8000 + 8 * i), 8), ==, 1000 + i);
        cqe = pvd_wait(&p->d, &p->send_cq);
        g_assert_cmpuint(cqe.wr_id, ==, i);
        g_assert_cmpuint(cqe.status, ==, PVR_WC_SUCCESS);
    }
}

static void fill(struct pair *p, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        harness_store(p->d.h, gpa_of(p, START + 8 * i), 8, 1000 + i);
}

static void test_table(struct pair *p, gconstpointer data)
{
    check_state_table(device(p)->state_table);
}

/* Sends that wait for receives, a receive that waits for a send, an armed queue: all of it goes on.
 * */
static void test_save_in_traffic(struct pair *p, gconstpointer data)
{
    uint32_t cq;

    fill(p, 8);
    for (unsigned i = 0; i < 8; i++)
        send(p, i, i == 7);
    for (unsigned i = 0; i < 3; i++)
        receive(p, i, i == 2);
    pvd_arm(&p->d, &p->send_cq, false);
    harness_settle(p->d.h, 2);
    for (unsigned i = 0; i < 3; i++) { /* a copy of a copy, too */
        g_autoptr(GByteArray) saved = harness_save(device(p));
        g_autoptr(GError) error = NULL;

        device_reset(device(p));
        g_assert_cmpuint(pvd_read(&p->d, PVR_REG_ERR), !=, 0);
        g_assert_true(harness_load_state(device(p), saved, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(pvd_read(&p->d, PVR_REG_ERR), ==, 0);
    }
    for (unsigned i = 3; i < 8; i++)
        receive(p, i, i == 7);
    expect_messages(p, 8);
    g_assert_true(pvd_next_notification(&p->d, &cq));
    g_assert_cmpuint(cq, ==, p->send_cq.handle);
    /* Handles are the same, and new ones are not those in use. */
    g_assert_cmpuint(pvd_create_cq(&p->d, 5, 64).handle, !=, p->send_cq.handle);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_QP, p->a.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_MR, p->mr.handle), ==, 0);
}

/* What a damaged stream leaves is a device that can be reset and used. */
static void test_damaged_streams(struct pair *p, gconstpointer data)
{
    g_autoptr(GByteArray) saved = NULL;
    unsigned refused = 0;

    send(p, 0, true);
    harness_settle(p->d.h, 2);
    saved = harness_save(device(p));
    for (unsigned i = 0; i < 300; i++) {
        g_autoptr(GByteArray) copy = g_byte_array_new();
        g_autoptr(GError) error = NULL;

        g_byte_array_append(copy, saved->data, saved->len);
        /* Behind the part that pci/ checks, most of the time. */
        copy->data[g_test_rand_int_range(i % 4 ? (int)copy->len / 2 : 0, (int)copy->len)] ^=
            1 << g_test_rand_int_range(0, 8);
        refused += !harness_load_state(device(p), copy, &error);
        device_reset(device(p));
    }
    g_assert_cmpuint(refused, >, 0);
    g_assert_true(harness_load_state(device(p), saved, NULL));
}

static void test_paused(struct pair *p, gconstpointer data)
{
    struct harness_still *still;
    struct pvr_cqe cqe;
    g_autoptr(GError) error = NULL;

    fill(p, 2);
    receive(p, 0, false);
    receive(p, 1, true);
    harness_settle(p->d.h, 2);
    g_assert_true(devices_set_state(&p->d.h->devices, DEVICE_RUNNING_P2P, 1000, &error));
    send(p, 0, true);
    send(p, 1, true);
    still = harness_watch(p->d.h, 0, p->d.slot, PVR_VECTORS);
    harness_settle(p->d.h, 60);
    g_assert_false(pvd_poll(&p->d, &p->send_cq, &cqe));
    g_assert_true(devices_set_state(&p->d.h->devices, DEVICE_STOP, 1000, &error));
    harness_settle(p->d.h, 60);
    g_assert_true(harness_unmoved(still));
    g_assert_true(devices_set_state(&p->d.h->devices, DEVICE_RUNNING, 1000, &error));
    expect_messages(p, 2);
}

/* A command in the P2P state is carried out when the device runs again. */
static void test_command_while_paused(struct pair *p, gconstpointer data)
{
    union pvr_request req = {.query_pkey = {.hdr = {.cmd = PVR_CMD_QUERY_PKEY}, .port_num = 1}};
    union pvr_response resp;
    uint64_t before = pvd_interrupts(&p->d, PVR_VECTOR_RESPONSE);

    harness_write(p->d.h, p->d.command_slot, &req, sizeof(req));
    g_assert_true(devices_set_state(&p->d.h->devices, DEVICE_RUNNING_P2P, 1000, NULL));
    pvd_write(&p->d, PVR_REG_REQUEST, 0);
    g_assert_cmpuint(pvd_read(&p->d, PVR_REG_ERR), ==, 0);
    g_assert_cmpuint(pvd_interrupts(&p->d, PVR_VECTOR_RESPONSE), ==, before);
    g_assert_true(devices_set_state(&p->d.h->devices, DEVICE_RUNNING, 1000, NULL));
    g_assert_cmpuint(pvd_interrupts(&p->d, PVR_VECTOR_RESPONSE), ==, before + 1);
    harness_read(p->d.h, p->d.response_slot, &resp, sizeof(resp));
    g_assert_cmphex(resp.hdr.ack, ==, PVR_ACK(PVR_CMD_QUERY_PKEY));
    g_assert_cmphex(resp.query_pkey.pkey, ==, 0xffff);
}

static void test_reset_in_traffic(struct pair *p, gconstpointer data)
{
    for (unsigned i = 0; i < 8; i++)
        send(p, i, i == 7);
    device_reset(device(p));
    harness_settle(p->d.h, 5);
    g_assert_cmpuint(pvd_read(&p->d, PVR_REG_ERR), ==, 0xffff);
    harness_command(p->d.h, p->d.slot, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
    pvd_start(&p->d, PVR_VERSION);
    g_assert_cmpuint(pvd_create_pd(&p->d, 0), ==, 0);
}

/* Nothing is done for a function that may not do DMA; what was rung meanwhile is looked at when it may. */
static void test_bus_mastering_off(struct pair *p, gconstpointer data)
{
    struct pvr_cqe cqe;

    fill(p, 1);
    receive(p, 0, true);
    harness_settle(p->d.h, 2);
    harness_command(p->d.h, p->d.slot, 0, PCI_COMMAND_MASTER);
    send(p, 0, true);
    harness_settle(p->d.h, 2);
    pvd_write(&p->d, PVR_REG_REQUEST, 0);
    g_assert_cmpuint(pvd_read(&p->d, PVR_REG_ERR), !=, 0);
    g_assert_false(pvd_poll(&p->d, &p->send_cq, &cqe));
    harness_command(p->d.h, p->d.slot, PCI_COMMAND_MASTER, 0);
    expect_messages(p, 1);
}

/* ---- what the driver does not know of: a signal ended its wait for the answer of a CREATE ---- */

static unsigned in_backend(struct pair *p, enum rdma_object_kind kind)
{
    return g_hash_table_size(pvrdma_backend(p->d.pvrdma)->objects[kind]);
}

static void expect_nothing_left(struct pair *p)
{
    for (unsigned kind = RDMA_OBJECT_PD; kind < RDMA_OBJECT_KINDS; kind++)
        g_assert_cmpuint(in_backend(p, kind), ==, 0);
}

static void test_context_takes_all_along(struct pair *p, gconstpointer data)
{
    receive(p, 0, true);
    send(p, 0, true);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_UC, 5), ==, 0);
    expect_nothing_left(p);
    harness_settle(p->d.h, 2);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_QP, p->a.handle), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_SRQ, p->srq.handle), ==, ENOENT);
    g_assert_cmpuint(pvd_open_context(&p->d, 5), ==, 5);
}

static void test_context_leaves_others_alone(struct pair *p, gconstpointer data)
{
    uint32_t other = pvd_open_context(&p->d, 6), pd = pvd_create_pd(&p->d, other);
    struct pvd_cq cq = pvd_create_cq(&p->d, other, 64);

    pvd_create_qp(&p->d, other, pd, PVR_QPT_RC, &cq, &cq, NULL, 16);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_UC, other), ==, 0);
    fill(p, 1);
    receive(p, 0, true);
    send(p, 0, true);
    expect_messages(p, 1);
}

/* The driver gave the page to the next process. */
static void test_new_context_takes_the_page_over(struct pair *p, gconstpointer data)
{
    g_assert_cmpuint(pvd_open_context(&p->d, 5), ==, 5);
    expect_nothing_left(p);
    pvd_create_pd(&p->d, 5);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_UC, 5), ==, 0);
}

static void test_domain_takes_its_queues_along(struct pair *p, gconstpointer data)
{
    uint32_t other = pvd_create_pd(&p->d, 5);
    struct pvd_qp qp =
        pvd_create_qp(&p->d, 5, other, PVR_QPT_RC, &p->send_cq, &p->recv_cq, NULL, 16);

    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_PD, p->pd), ==, 0);
    g_assert_cmpuint(in_backend(p, RDMA_OBJECT_SRQ), ==, 0);
    g_assert_cmpuint(in_backend(p, RDMA_OBJECT_MR), ==, 0);
    g_assert_cmpuint(in_backend(p, RDMA_OBJECT_QP), ==, 1);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_QP, qp.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_CQ, p->recv_cq.handle), ==, 0);
}

static void test_cq_takes_its_queue_pairs_along(struct pair *p, gconstpointer data)
{
    struct pvd_qp qp =
        pvd_create_qp(&p->d, 5, p->pd, PVR_QPT_RC, &p->recv_cq, &p->recv_cq, NULL, 16);

    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_CQ, p->send_cq.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_QP, p->b.handle), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_QP, qp.handle), ==, 0);
}

static void test_srq_takes_its_queue_pairs_along(struct pair *p, gconstpointer data)
{
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_SRQ, p->srq.handle), ==, 0);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_QP, p->b.handle), ==, ENOENT);
    g_assert_cmpuint(pvd_destroy_handle(&p->d, PVR_CMD_DESTROY_QP, p->a.handle), ==, 0);
}

/* Its pages are somebody else's by now, and a process may name any handle in its doorbells. */
static void test_unknown_cq_is_left_alone(struct pair *p, gconstpointer data)
{
    struct pvd_cq cq = pvd_create_cq(&p->d, 5, 64);
    struct pvr_cqe cqe;

    for (unsigned i = 0; i < 10; i++) {
        g_assert_false(pvd_poll(&p->d, &cq, &cqe));
        pvd_arm(&p->d, &cq, false);
        pvd_bell(&p->d, 5, PVR_UAR_QP, p->a.handle | PVR_UAR_QP_SEND);
        harness_settle(p->d.h, 1);
        g_assert_false(pvd_is_parked(&p->d, &cq));
    }
    pvd_create_qp(&p->d, 5, p->pd, PVR_QPT_RC, &cq, &cq, NULL, 16);
    g_assert_false(pvd_poll(&p->d, &cq, &cqe));
    harness_settle(p->d.h, 2);
    g_assert_true(pvd_is_parked(&p->d, &cq));
}

static uint32_t srq_head(struct pair *p, const struct pvd_srq *srq)
{
    const struct pvr_ring_state *state = harness_ptr(p->d.h, srq->buffer.gpa, sizeof(*state));

    return state->rx.cons_head;
}

static void post_unknown_srq(struct pair *p, struct pvd_srq *srq)
{
    struct pvr_sge sge = {START, 8, p->mr.lkey};

    *srq = pvd_create_srq(&p->d, 5, p->pd, 16, 0);
    for (unsigned i = 0; i < 3; i++)
        pvd_post_srq(&p->d, srq, i, &sge, 1, true);
    harness_settle(p->d.h, 2);
    g_assert_cmpuint(srq_head(p, srq), ==, 0);
}

/* What is posted waits for the queue pair that it is for. */
static void test_unknown_srq_is_left_alone(struct pair *p, gconstpointer data)
{
    struct pvd_srq srq;

    post_unknown_srq(p, &srq);
    pvd_create_qp(&p->d, 5, p->pd, PVR_QPT_RC, &p->send_cq, &p->recv_cq, &srq, 16);
    g_assert_cmpuint(srq_head(p, &srq), ==, 3);
}

static void test_unknown_srq_is_named_by_its_limit(struct pair *p, gconstpointer data)
{
    union pvr_request req = {0};
    union pvr_response resp;
    struct pvd_srq srq;

    post_unknown_srq(p, &srq);
    req.modify_srq = (struct pvr_cmd_modify_srq){
        .srq_handle = srq.handle, .attr_mask = PVR_SRQ_LIMIT, .attrs = {0, 0, 2}};
    g_assert_cmpuint(pvd_command(&p->d, PVR_CMD_MODIFY_SRQ, &req, &resp), ==, 0);
    g_assert_cmpuint(srq_head(p, &srq), ==, 3);
}

/* What was unknown is so after it is loaded, and what was known is parked again. */
static void test_unknown_queues_are_saved(struct pair *p, gconstpointer data)
{
    struct pvd_cq cq = pvd_create_cq(&p->d, 5, 64);
    g_autoptr(GByteArray) saved = NULL;
    struct pvd_srq srq;

    post_unknown_srq(p, &srq);
    saved = harness_save(device(p));
    g_assert_true(harness_load_state(device(p), saved, NULL));
    pvd_bell(&p->d, 5, PVR_UAR_QP, p->a.handle | PVR_UAR_QP_SEND);
    harness_settle(p->d.h, 2);
    g_assert_cmpuint(srq_head(p, &srq), ==, 0);
    g_assert_false(pvd_is_parked(&p->d, &cq));
    g_assert_true(pvd_is_parked(&p->d, &p->send_cq));
}

#define ADD(PATH, TEST) g_test_add(PATH, struct pair, NULL, setup, TEST, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    device_violations_fatal(true);
    ADD("/pvrdma/lifecycle/table", test_table);
    ADD("/pvrdma/lifecycle/save-in-traffic", test_save_in_traffic);
    ADD("/pvrdma/lifecycle/damaged-streams", test_damaged_streams);
    ADD("/pvrdma/lifecycle/paused", test_paused);
    ADD("/pvrdma/lifecycle/command-while-paused", test_command_while_paused);
    ADD("/pvrdma/lifecycle/reset-in-traffic", test_reset_in_traffic);
    ADD("/pvrdma/lifecycle/bus-mastering-off", test_bus_mastering_off);
    ADD("/pvrdma/lifecycle/context-takes-all-along", test_context_takes_all_along);
    ADD("/pvrdma/lifecycle/context-leaves-others-alone", test_context_leaves_others_alone);
    ADD("/pvrdma/lifecycle/new-context-takes-the-page-over", test_new_context_takes_the_page_over);
    ADD("/pvrdma/lifecycle/domain-takes-its-queues-along", test_domain_takes_its_queues_along);
    ADD("/pvrdma/lifecycle/cq-takes-its-queue-pairs-along", test_cq_takes_its_queue_pairs_along);
    ADD("/pvrdma/lifecycle/srq-takes-its-queue-pairs-along", test_srq_takes_its_queue_pairs_along);
    ADD("/pvrdma/lifecycle/unknown-cq-is-left-alone", test_unknown_cq_is_left_alone);
    ADD("/pvrdma/lifecycle/unknown-srq-is-left-alone", test_unknown_srq_is_left_alone);
    ADD("/pvrdma/lifecycle/unknown-srq-is-named-by-its-limit",
        test_unknown_srq_is_named_by_its_limit);
    ADD("/pvrdma/lifecycle/unknown-queues-are-saved", test_unknown_queues_are_saved);
    return g_test_run();
}
