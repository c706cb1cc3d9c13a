/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loopback_qp - queue pairs: posting, states, waiting, errors, completions (backends/rdma/loopback.h)
 *
 * What waits (for a peer, for a receive) is looked at again when its time is over, which counts as a
 * retry, and as soon as something happened that may help, which does not.
 */
#include <errno.h>
#include <string.h>

#include "backends/rdma/loopback.h"

/* IBTA table 45: the RNR NAK timer, in us. */
static const uint32_t rnr_us[32] = {
    655360, 10,    20,    30,    40,    60,     80,     120,    160,    240,    320,
    480,    640,   960,   1280,  1920,  2560,   3840,   5120,   7680,   10240,  15360,
    20480,  30720, 40960, 61440, 81920, 122880, 163840, 245760, 327680, 491520,
};

struct loopback_qp *loopback_by_qpn(struct loopback *loopback, uint32_t qpn)
{
    return g_hash_table_lookup(loopback->by_qpn, GUINT_TO_POINTER(qpn));
}

/* ---- lists and waiting ---- */

void loopback_list(struct loopback_qp *qp, GQueue *list)
{
    struct loopback *loopback = loopback_of(qp->qp.object.rdma);

    if (qp->list == list)
        return;
    if (qp->list)
        g_queue_unlink(qp->list, &qp->link);
    qp->list = list;
    if (list)
        g_queue_push_tail_link(list, &qp->link);
    if (list == &loopback->ready)
        rdma_kick(&loopback->rdma);
}

void loopback_wake(struct loopback_qp *qp)
{
    loopback_list(qp, &loopback_of(qp->qp.object.rdma)->ready);
}

void loopback_arm(struct loopback *loopback)
{
    int64_t first = INT64_MAX;

    for (GList *link = loopback->waiting.head; link; link = link->next)
        first = MIN(first, ((struct loopback_qp *)link->data)->deadline);
    if (first == INT64_MAX)
        loop_timer_cancel(loopback->timer);
    else if (first != loop_timer_deadline(loopback->timer))
        loop_timer_set(loopback->timer, first);
}

void loopback_wait_over(void *opaque)
{
    struct loopback *loopback = opaque;
    int64_t now = loop_now_ns();

    g_mutex_lock(&loopback->rdma.lock);
    for (GList *link = loopback->waiting.head, *next; link; link = next) {
        struct loopback_qp *qp = link->data;
        next = link->next;
        if (qp->deadline <= now)
            loopback_wake(qp);
    }
    loopback_arm(loopback);
    g_mutex_unlock(&loopback->rdma.lock);
}

/* ---- completions ---- */

static enum rdma_wc_opcode completed_opcode(uint32_t opcode)
{
    switch (opcode) {
    case RDMA_WR_WRITE:
    case RDMA_WR_WRITE_WITH_IMM:
        return RDMA_WC_WRITE;
    case RDMA_WR_READ:
        return RDMA_WC_READ;
    case RDMA_WR_COMPARE_SWAP:
        return RDMA_WC_COMPARE_SWAP;
    case RDMA_WR_FETCH_ADD:
        return RDMA_WC_FETCH_ADD;
    case RDMA_WR_LOCAL_INVALIDATE:
        return RDMA_WC_LOCAL_INVALIDATE;
    case RDMA_WR_FAST_REG:
        return RDMA_WC_FAST_REG;
    default:
        return RDMA_WC_SEND;
    }
}

static void tell_room(struct loopback_qp *qp)
{
    if (qp->qp.wants_room) {
        qp->qp.wants_room = false;
        rdma_notify(&qp->qp.object, RDMA_NOTE_ROOM);
    }
}

static void begin_next(struct loopback_qp *qp)
{
    qp->started = false;
    qp->done = 0;
    qp->wait = LOOPBACK_WAIT_NOTHING;
}

void loopback_complete_send(struct loopback_qp *qp, enum rdma_wc_status status, uint32_t byte_len)
{
    const struct send_wqe *wqe = work_queue_at(&qp->sq, 0);
    struct rdma_wc wc = {
        .wr_id = wqe->wr.wr_id,
        .qp = qp->qp.object.number,
        .status = status,
        .opcode = completed_opcode(wqe->wr.opcode),
        .byte_len = byte_len,
    };
    bool signaled = qp->qp.create.signal_all || (wqe->wr.flags & RDMA_SEND_SIGNALED);

    work_queue_pop(&qp->sq);
    begin_next(qp);
    tell_room(qp);
    if (status == RDMA_WC_SUCCESS && !signaled)
        return;
    loopback_complete(qp->qp.create.send_cq, &wc);
    if (status == RDMA_WC_SUCCESS || status == RDMA_WC_WR_FLUSH_ERR)
        return;
    if (qp->qp.create.type == RDMA_QP_RC)
        loopback_enter_error(qp, 0);
    else if (qp->qp.attributes.state != RDMA_QPS_ERR)
        qp->qp.attributes.state = RDMA_QPS_SQE;
}

void loopback_complete_recv(struct loopback_qp *qp, struct rdma_wc *wc)
{
    wc->wr_id = qp->receive.wr_id;
    wc->qp = qp->qp.object.number;
    qp->receiving = false;
    loopback_complete(qp->qp.create.recv_cq, wc);
}

bool loopback_take_receive(struct loopback_qp *qp)
{
    struct loopback_srq *srq = (struct loopback_srq *)qp->qp.create.srq;
    struct work_queue *queue = srq ? &srq->rq : &qp->rq;

    if (!queue->count) {
        if (srq)
            srq->starved = true;
        return false;
    }
    const struct recv_wqe *wqe = work_queue_at(queue, 0);
    qp->receive.wr_id = wqe->wr_id;
    qp->receive.num_sge = wqe->num_sge;
    qp->receive.status = wqe->status;
    memcpy(qp->receive.sge, wqe->sge, wqe->num_sge * sizeof(wqe->sge[0]));
    qp->receiving = true;
    work_queue_pop(queue);
    if (!srq) {
        tell_room(qp);
        return true;
    }
    if (srq->srq.limit && queue->count < srq->srq.limit) {
        srq->srq.limit = 0;
        rdma_notify(&srq->srq.object, RDMA_NOTE(RDMA_EVENT_SRQ_LIMIT));
    }
    if (srq->srq.wants_room) {
        srq->srq.wants_room = false;
        rdma_notify(&srq->srq.object, RDMA_NOTE_ROOM);
    }
    return true;
}

/* ---- errors ---- */

void loopback_enter_error(struct loopback_qp *qp, uint32_t event_note)
{
    struct rdma_wc wc = {.status = RDMA_WC_WR_FLUSH_ERR, .opcode = RDMA_WC_RECV};

    if (event_note)
        rdma_notify(&qp->qp.object, event_note);
    if (qp->qp.attributes.state == RDMA_QPS_ERR)
        return;
    qp->qp.attributes.state = RDMA_QPS_ERR;
    qp->draining = false;
    if (qp->receiving)
        loopback_complete_recv(qp, &wc);
    if (qp->qp.create.srq)
        rdma_notify(&qp->qp.object, RDMA_NOTE(RDMA_EVENT_LAST_WQE_REACHED));
    loopback_wake(qp);
}

bool loopback_flush(struct loopback_qp *qp)
{
    struct rdma_wc wc = {.status = RDMA_WC_WR_FLUSH_ERR, .opcode = RDMA_WC_RECV};

    if (qp->qp.attributes.state == RDMA_QPS_ERR && qp->rq.count) {
        loopback_take_receive(qp);
        loopback_complete_recv(qp, &wc);
        return true;
    }
    if (!qp->sq.count)
        return false;
    loopback_complete_send(qp, RDMA_WC_WR_FLUSH_ERR, 0);
    return true;
}

/* ---- posting ---- */

/* What would be wrong with a request whatever happens: it completes with that when its turn comes. */
static enum rdma_wc_status posted_status(const struct loopback_qp *qp,
                                         const struct rdma_send_wr *wr)
{
    bool datagram = qp->qp.create.type != RDMA_QP_RC;

    if (wr->opcode > RDMA_WR_FAST_REG || wr->num_sge > qp->qp.create.max_send_sge)
        return RDMA_WC_LOC_QP_OP_ERR;
    if (datagram && wr->opcode > RDMA_WR_SEND_WITH_IMM)
        return RDMA_WC_LOC_QP_OP_ERR;
    if (wr->opcode == RDMA_WR_FAST_REG &&
        wr->fast_reg.page_count > qp->qp.object.rdma->limits.max_fast_reg_pages)
        return RDMA_WC_LOC_QP_OP_ERR;
    return RDMA_WC_SUCCESS;
}

/* Copies the pages of a FAST_REG beside its slot. */
static int keep_pages(struct loopback_qp *qp, struct send_wqe *wqe)
{
    uint32_t room = qp->qp.object.rdma->limits.max_fast_reg_pages;
    size_t slot = ((uint8_t *)wqe - qp->sq.slots) / qp->sq.stride;

    if (!qp->fast_pages &&
        !(qp->fast_pages = g_try_malloc0_n((size_t)qp->sq.size * room, sizeof(uint64_t))))
        return -ENOMEM;
    uint64_t *pages = qp->fast_pages + slot * room;
    memcpy(pages, wqe->wr.fast_reg.pages, wqe->wr.fast_reg.page_count * sizeof(uint64_t));
    wqe->wr.fast_reg.pages = pages;
    return 0;
}

int loopback_post_send(struct rdma_qp *base, const struct rdma_send_wr *wr)
{
    struct loopback_qp *qp = loopback_qp(base);

    if (qp->sq.count == qp->sq.size)
        return -ENOMEM;
    struct send_wqe *wqe = work_queue_at(&qp->sq, qp->sq.count);
    wqe->wr = *wr;
    wqe->status = posted_status(qp, wr);
    if (wqe->status)
        wqe->wr.num_sge = 0;
    else if (wr->num_sge)
        memcpy(wqe->sge, wr->sge, wr->num_sge * sizeof(wqe->sge[0]));
    wqe->wr.sge = wqe->sge;
    if (!wqe->status && wr->opcode == RDMA_WR_FAST_REG && keep_pages(qp, wqe))
        wqe->status = RDMA_WC_LOC_QP_OP_ERR;
    qp->sq.count++;
    /* What waits behind a head that waits does so too. */
    if (qp->list == NULL)
        loopback_wake(qp);
    return 0;
}

/* Somebody may wait for a receive of @qp. */
static void wake_sender(struct loopback_qp *qp)
{
    struct loopback *loopback = loopback_of(qp->qp.object.rdma);
    struct loopback_qp *sender = loopback_by_qpn(loopback, qp->qp.attributes.dest_qpn);

    if (sender && sender->list == &loopback->waiting)
        loopback_wake(sender);
}

int loopback_post_recv(struct rdma_qp *base, const struct rdma_recv_wr *wr)
{
    struct loopback_qp *qp = loopback_qp(base);
    int error = work_queue_add_recv(&qp->rq, wr, base->create.max_recv_sge);

    if (error)
        return error;
    if (base->attributes.state == RDMA_QPS_ERR)
        loopback_wake(qp);
    else if (base->create.type == RDMA_QP_RC)
        wake_sender(qp);
    return 0;
}

int loopback_post_srq_recv(struct rdma_srq *base, const struct rdma_recv_wr *wr)
{
    struct loopback_srq *srq = (struct loopback_srq *)base;
    struct loopback *loopback = loopback_of(base->object.rdma);
    int error = work_queue_add_recv(&srq->rq, wr, base->max_sge);

    if (error || !srq->starved)
        return error;
    srq->starved = false;
    for (GList *link = loopback->waiting.head, *next; link; link = next) {
        struct loopback_qp *qp = link->data;
        next = link->next;
        if (qp->wait == LOOPBACK_WAIT_RECEIVE)
            loopback_wake(qp);
    }
    return 0;
}

/* ---- creating and modifying ---- */

static uint32_t new_qpn(struct loopback *loopback)
{
    uint32_t qpn;

    do {
        qpn = loopback->next_qpn;
        loopback->next_qpn = qpn < 0xfffffe ? qpn + 1 : 0x11;
    } while (loopback_by_qpn(loopback, qpn));
    return qpn;
}

int loopback_create_qp(struct rdma_qp *base)
{
    struct loopback_qp *qp = loopback_qp(base);
    struct loopback *loopback = loopback_of(base->object.rdma);
    const struct rdma_qp_create *c = &base->create;
    size_t send = sizeof(struct send_wqe) + c->max_send_sge * sizeof(struct rdma_sge);
    size_t recv = sizeof(struct recv_wqe) + c->max_recv_sge * sizeof(struct rdma_sge);

    if (work_queue_init(&qp->sq, send, c->max_send_wr) ||
        work_queue_init(&qp->rq, recv, c->srq ? 0 : c->max_recv_wr)) {
        work_queue_finish(&qp->sq);
        return -ENOMEM;
    }
    base->qpn = c->type == RDMA_QP_GSI ? RDMA_QPN_GSI : new_qpn(loopback);
    qp->link.data = qp;
    g_hash_table_insert(loopback->by_qpn, GUINT_TO_POINTER(base->qpn), qp);
    return 0;
}

bool loopback_rename_qp(struct loopback_qp *qp, uint32_t qpn)
{
    GHashTable *by_qpn = loopback_of(qp->qp.object.rdma)->by_qpn;
    bool gsi = qp->qp.create.type == RDMA_QP_GSI;

    if (qpn > 0xffffff || gsi != (qpn == RDMA_QPN_GSI) || !qpn)
        return false;
    g_hash_table_remove(by_qpn, GUINT_TO_POINTER(qp->qp.qpn));
    qp->qp.qpn = qpn;
    return !g_hash_table_contains(by_qpn, GUINT_TO_POINTER(qpn)) &&
           g_hash_table_insert(by_qpn, GUINT_TO_POINTER(qpn), qp);
}

static void forget_work(struct loopback_qp *qp)
{
    loopback_list(qp, NULL);
    loopback_forget_completions(qp->qp.create.send_cq, qp->qp.object.number);
    loopback_forget_completions(qp->qp.create.recv_cq, qp->qp.object.number);
    qp->sq.head = qp->sq.count = 0;
    qp->rq.head = qp->rq.count = 0;
    begin_next(qp);
    qp->draining = false;
    qp->receiving = false;
    qp->established = false;
    qp->qp.wants_room = false;
    qp->qp.object.notes = 0;
}

void loopback_destroy_qp(struct rdma_qp *base)
{
    struct loopback_qp *qp = loopback_qp(base);

    forget_work(qp);
    if (loopback_by_qpn(loopback_of(base->object.rdma), base->qpn) == qp)
        g_hash_table_remove(loopback_of(base->object.rdma)->by_qpn, GUINT_TO_POINTER(base->qpn));
    work_queue_finish(&qp->sq);
    work_queue_finish(&qp->rq);
    g_free(qp->fast_pages);
}

int loopback_modify_qp(struct rdma_qp *base, const struct rdma_qp_attributes *old, uint32_t mask)
{
    struct loopback_qp *qp = loopback_qp(base);
    enum rdma_qp_state to = base->attributes.state;

    if (!(mask & RDMA_QP_STATE))
        return 0;
    switch (to) {
    case RDMA_QPS_RESET:
        forget_work(qp);
        break;
    case RDMA_QPS_ERR:
        base->attributes.state = old->state;
        loopback_enter_error(qp, 0);
        break;
    case RDMA_QPS_RTR:
        wake_sender(qp);
        break;
    case RDMA_QPS_RTS:
        qp->draining = false;
        loopback_wake(qp);
        break;
    case RDMA_QPS_SQD:
        if (old->state != RDMA_QPS_SQD) {
            qp->draining = true;
            if (!qp->started)
                loopback_wake(qp);
        }
        break;
    default:
        break;
    }
    return 0;
}

void loopback_query_qp(struct rdma_qp *base, struct rdma_qp_attributes *attributes)
{
    attributes->sq_draining = loopback_qp(base)->draining;
}

int64_t loopback_rnr_ns(uint8_t timer)
{
    return rnr_us[timer & 31] * INT64_C(1000);
}
