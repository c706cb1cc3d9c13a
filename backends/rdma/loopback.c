/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loopback - the adapter and its queues (backends/rdma/loopback.h)
 *
 * Memory: send and receive queues have a slot for each request from the start; completion queues grow
 * as they fill. Nothing is allocated for a single request.
 */
#include "backends/rdma/loopback.h"

#include <errno.h>
#include <string.h>

#define CQ_FIRST_ROOM 64u

static const struct rdma_limits loopback_limits = {
    .node_guid = UINT64_C(0x02505600000a0001),
    .sys_image_guid = UINT64_C(0x02505600000a0001),
    .max_qp = 4096,
    .max_qp_wr = 2048,
    .max_sge = 27,
    .max_sge_rd = 27,
    .max_cq = 1024,
    .max_cqe = 65536,
    .max_mr = 65536,
    .max_pd = 65536,
    .max_ah = 65536,
    .max_srq = 1024,
    .max_srq_wr = 2048,
    .max_srq_sge = 27,
    .max_mr_size = UINT64_C(1) << 30,
    .max_qp_rd_atom = 16,
    .max_qp_init_rd_atom = 16,
    .max_fast_reg_pages = 128,
    .gid_entries = 128,
    .local_ca_ack_delay = 0,
    .atomics = true,
    .dma_mr = true,
};

/* ---- queues of work requests ---- */

int work_queue_init(struct work_queue *queue, size_t stride, uint32_t size)
{
    *queue = (struct work_queue){.stride = (stride + 7) & ~(size_t)7, .size = size};
    if (size && !(queue->slots = g_try_malloc0_n(size, queue->stride)))
        return -ENOMEM;
    return 0;
}

void work_queue_finish(struct work_queue *queue)
{
    g_free(queue->slots);
}

void work_queue_pop(struct work_queue *queue)
{
    queue->head = queue->head + 1 < queue->size ? queue->head + 1 : 0;
    queue->count--;
}

int work_queue_add_recv(struct work_queue *queue, const struct rdma_recv_wr *wr, uint32_t max_sge)
{
    if (queue->count == queue->size)
        return -ENOMEM;
    struct recv_wqe *wqe = work_queue_at(queue, queue->count++);
    wqe->wr_id = wr->wr_id;
    wqe->status = wr->num_sge > max_sge ? RDMA_WC_LOC_QP_OP_ERR : RDMA_WC_SUCCESS;
    wqe->num_sge = wqe->status ? 0 : wr->num_sge;
    if (wqe->num_sge)
        memcpy(wqe->sge, wr->sge, wqe->num_sge * sizeof(wqe->sge[0]));
    return 0;
}

/* ---- completion queues ---- */

static int create_cq(struct rdma_cq *base)
{
    struct loopback_cq *cq = (struct loopback_cq *)base;

    cq->room = MIN(CQ_FIRST_ROOM, base->entries);
    cq->ring = g_try_new(struct rdma_wc, cq->room);
    return cq->ring ? 0 : -ENOMEM;
}

static void destroy_cq(struct rdma_cq *base)
{
    g_free(((struct loopback_cq *)base)->ring);
}

static struct rdma_wc *wc_at(const struct loopback_cq *cq, uint32_t i)
{
    uint32_t slot = cq->head + i;

    return &cq->ring[slot < cq->room ? slot : slot - cq->room];
}

/* Twice the room, or all that the CQ may have. */
static bool grow(struct loopback_cq *cq)
{
    uint32_t room = MIN(cq->room * 2, cq->cq.entries);
    struct rdma_wc *ring;

    if (room == cq->room || !(ring = g_try_new(struct rdma_wc, room)))
        return false;
    for (uint32_t i = 0; i < cq->count; i++)
        ring[i] = *wc_at(cq, i);
    g_free(cq->ring);
    cq->ring = ring;
    cq->room = room;
    cq->head = 0;
    return true;
}

static void overflow(struct loopback_cq *cq)
{
    struct rdma *rdma = cq->cq.object.rdma;
    GHashTableIter iter;
    gpointer value;

    cq->overflown = true;
    rdma_notify(&cq->cq.object, RDMA_NOTE(RDMA_EVENT_CQ_ERROR));
    g_hash_table_iter_init(&iter, rdma->objects[RDMA_OBJECT_QP]);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct rdma_qp *qp = value;
        if ((qp->create.send_cq == &cq->cq || qp->create.recv_cq == &cq->cq) &&
            qp->attributes.state != RDMA_QPS_RESET)
            loopback_enter_error(loopback_qp(qp), 0);
    }
}

void loopback_complete(struct rdma_cq *base, const struct rdma_wc *wc)
{
    struct loopback_cq *cq = (struct loopback_cq *)base;

    if (cq->overflown)
        return;
    if (cq->count == cq->room && !grow(cq)) {
        overflow(cq);
        return;
    }
    *wc_at(cq, cq->count++) = *wc;
    rdma_cq_filled(base);
}

void loopback_forget_completions(struct rdma_cq *base, uint32_t qp)
{
    struct loopback_cq *cq = (struct loopback_cq *)base;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < cq->count; i++)
        if (wc_at(cq, i)->qp != qp)
            *wc_at(cq, kept++) = *wc_at(cq, i);
    cq->count = kept;
}

static unsigned poll_cq(struct rdma_cq *base, struct rdma_wc *wc, unsigned max)
{
    struct loopback_cq *cq = (struct loopback_cq *)base;
    unsigned count = MIN(max, cq->count);

    for (unsigned i = 0; i < count; i++)
        wc[i] = *wc_at(cq, i);
    cq->head = (cq->head + count) % cq->room;
    cq->count -= count;
    return count;
}

/* ---- shared receive queues ---- */

static int create_srq(struct rdma_srq *base)
{
    struct loopback_srq *srq = (struct loopback_srq *)base;

    return work_queue_init(
        &srq->rq, sizeof(struct recv_wqe) + base->max_sge * sizeof(struct rdma_sge), base->max_wr);
}

static void destroy_srq(struct rdma_srq *base)
{
    work_queue_finish(&((struct loopback_srq *)base)->rq);
}

static int set_srq_limit(struct rdma_srq *base, uint32_t limit)
{
    struct loopback_srq *srq = (struct loopback_srq *)base;

    base->limit = limit;
    if (limit && srq->rq.count < limit) {
        base->limit = 0;
        rdma_notify(&base->object, RDMA_NOTE(RDMA_EVENT_SRQ_LIMIT));
    }
    return 0;
}

/* ---- the adapter ---- */

static int create_pd(struct rdma_pd *pd)
{
    return 0;
}

static void destroy_pd(struct rdma_pd *pd)
{
}

static int query_port(struct rdma *rdma, struct rdma_port *port)
{
    port->active = true;
    port->max_mtu = RDMA_MTU_4096;
    port->active_mtu = rdma_mtu_of_link(rdma->link_mtu);
    port->max_msg_size = LOOPBACK_MAX_MESSAGE;
    port->active_width = 2; /* 4x */
    port->active_speed = 4; /* 10 Gb/s a lane */
    return 0;
}

static void loopback_close(struct rdma *rdma)
{
    struct loopback *loopback = loopback_of(rdma);

    loop_timer_destroy(loopback->timer);
    g_hash_table_destroy(loopback->by_qpn);
    g_free(loopback->mr_slots);
    rdma_finish(rdma);
    g_free(loopback);
}

static const struct rdma_ops loopback_ops = {
    .pd_size = sizeof(struct rdma_pd),
    .mr_size = sizeof(struct loopback_mr),
    .cq_size = sizeof(struct loopback_cq),
    .srq_size = sizeof(struct loopback_srq),
    .qp_size = sizeof(struct loopback_qp),
    .close = loopback_close,
    .work = loopback_work,
    .query_port = query_port,
    .create_pd = create_pd,
    .destroy_pd = destroy_pd,
    .create_mr = loopback_create_mr,
    .destroy_mr = loopback_destroy_mr,
    .create_cq = create_cq,
    .destroy_cq = destroy_cq,
    .poll_cq = poll_cq,
    .create_srq = create_srq,
    .destroy_srq = destroy_srq,
    .set_srq_limit = set_srq_limit,
    .create_qp = loopback_create_qp,
    .destroy_qp = loopback_destroy_qp,
    .modify_qp = loopback_modify_qp,
    .query_qp = loopback_query_qp,
    .post_send = loopback_post_send,
    .post_recv = loopback_post_recv,
    .post_srq_recv = loopback_post_srq_recv,
    .save = loopback_save,
    .load = loopback_load,
};

struct rdma *loopback_open(const char *implementation, bool deaf, struct dma *dma,
                           struct loop *loop)
{
    struct loopback *loopback = g_new0(struct loopback, 1);

    loopback->rdma.limits = loopback_limits;
    loopback->deaf = deaf;
    loopback->next_qpn = 0x11;
    loopback->by_qpn = g_hash_table_new(NULL, NULL);
    g_queue_init(&loopback->ready);
    g_queue_init(&loopback->waiting);
    loopback->timer = loop_timer_create(loop, loopback_wait_over, loopback);
    rdma_init(&loopback->rdma, &loopback_ops, implementation, dma, loop);
    return &loopback->rdma;
}

struct rdma *rdma_loopback_open(const struct options *options, struct dma *dma, struct loop *loop,
                                GError **error)
{
    return loopback_open("loopback", false, dma, loop);
}
