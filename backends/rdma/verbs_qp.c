/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verbs_qp - queue pairs, shared receive queues and work on the host's device (backends/rdma/verbs.h)
 *
 * What libibverbs refuses at once (too many pieces, an opcode that the device lacks) the guest gets as a
 * completion: the queue pair goes to ERR, and the request completes with LOC_QP_OP_ERR.
 *
 * What soft RoCE (rdma_rxe of Linux 6.1) leaves out is made up for: it does not flush a receive that is
 * posted in ERR, unless it is told ERR again; does not send what was posted in SQD, so that is held back
 * here; has no COMM_EST event, nor a LAST_WQE_REACHED one when ERR was asked for; and takes seven
 * retries for endless ones, so that with what most programs ask for, a peer that is gone is never noticed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/rdma/verbs.h"

#define SOFT_MAX_RETRIES 6u /* of soft RoCE: one more would be for ever */

/* ---- address handles ---- */

struct ah_key {
    uint8_t dgid[16];
    uint32_t flow_label;
    uint8_t sgid_index, hop_limit, traffic_class, sl;
};

static guint ah_hash(gconstpointer key)
{
    const struct ah_key *k = key;
    guint hash = k->sgid_index;

    for (unsigned i = 0; i < sizeof(k->dgid); i++)
        hash = hash * 31 + k->dgid[i];
    return hash;
}

static gboolean ah_equal(gconstpointer a, gconstpointer b)
{
    return !memcmp(a, b, sizeof(struct ah_key));
}

void verbs_free_handle(gpointer ah)
{
    ibv_destroy_ah(ah);
}

GHashTable *verbs_handles_create(void)
{
    return g_hash_table_new_full(ah_hash, ah_equal, g_free, verbs_free_handle);
}

static gboolean is_of_gid(gpointer key, gpointer ah, gpointer index)
{
    return ((const struct ah_key *)key)->sgid_index == GPOINTER_TO_UINT(index);
}

void verbs_forget_handles(struct verbs *verbs, unsigned index)
{
    GHashTableIter iter;
    gpointer pd;

    g_hash_table_iter_init(&iter, verbs->rdma.objects[RDMA_OBJECT_PD]);
    while (g_hash_table_iter_next(&iter, NULL, &pd))
        g_hash_table_foreach_remove(((struct verbs_pd *)pd)->handles, is_of_gid,
                                    GUINT_TO_POINTER(index));
}

static void fill_ah(const struct verbs *verbs, const struct rdma_av *av, struct ibv_ah_attr *ah)
{
    const struct rdma *rdma = &verbs->rdma;
    unsigned index = MIN(av->sgid_index, rdma->limits.gid_entries - 1);

    *ah = (struct ibv_ah_attr){
        .is_global = 1,
        .port_num = verbs->port,
        .sl = av->sl,
        .grh = {.sgid_index = verbs->gids[index].index,
                .hop_limit = av->hop_limit,
                .traffic_class = av->traffic_class,
                .flow_label = av->flow_label},
    };
    memcpy(ah->grh.dgid.raw, av->dgid.raw, sizeof(av->dgid.raw));
}

/* The handle for an address; NULL: nobody there. */
static struct ibv_ah *find_handle(struct verbs *verbs, struct verbs_pd *pd,
                                  const struct rdma_av *av)
{
    struct ah_key key = {
        .flow_label = av->flow_label,
        .sgid_index = av->sgid_index,
        .hop_limit = av->hop_limit,
        .traffic_class = av->traffic_class,
        .sl = av->sl,
    };
    struct ibv_ah_attr attr;

    memcpy(key.dgid, av->dgid.raw, sizeof(key.dgid));
    struct ibv_ah *ah = g_hash_table_lookup(pd->handles, &key);
    if (ah || av->sgid_index >= verbs->rdma.limits.gid_entries ||
        !verbs->rdma.gids[av->sgid_index].used)
        return ah;
    if (g_hash_table_size(pd->handles) >= VERBS_AH_CACHE)
        g_hash_table_remove_all(pd->handles);
    fill_ah(verbs, av, &attr);
    ah = ibv_create_ah(pd->ib, &attr);
    if (ah)
        g_hash_table_insert(pd->handles, g_memdup2(&key, sizeof(key)), ah);
    return ah;
}

/* ---- creating ---- */

int verbs_create_qp(struct rdma_qp *base)
{
    struct verbs *verbs = verbs_of(base->object.rdma);
    struct verbs_qp *qp = (struct verbs_qp *)base;
    const struct rdma_qp_create *c = &base->create;
    struct ibv_qp_init_attr init = {
        .qp_context = qp,
        .send_cq = ((struct verbs_cq *)c->send_cq)->ib,
        .recv_cq = ((struct verbs_cq *)c->recv_cq)->ib,
        .srq = c->srq ? ((struct verbs_srq *)c->srq)->ib : NULL,
        .cap = {.max_send_wr = MAX(c->max_send_wr, 1),
                .max_recv_wr = c->srq ? 0 : MAX(c->max_recv_wr, 1),
                .max_send_sge = MAX(c->max_send_sge, 1),
                .max_recv_sge = c->srq ? 0 : MAX(c->max_recv_sge, 1)},
        .qp_type = c->type == RDMA_QP_RC ? IBV_QPT_RC : IBV_QPT_UD,
        .sq_sig_all = c->signal_all,
    };

    g_queue_init(&qp->receives);
    if (c->type == RDMA_QP_GSI) {
        base->qpn = RDMA_QPN_GSI;
        return 0;
    }
    errno = 0;
    qp->ib = ibv_create_qp(((struct verbs_pd *)base->pd)->ib, &init);
    if (!qp->ib)
        return errno ? -errno : -ENOMEM;
    base->qpn = qp->ib->qp_num;
    g_hash_table_insert(verbs->by_qpn, GUINT_TO_POINTER(base->qpn), qp);
    return 0;
}

void verbs_destroy_qp(struct rdma_qp *base)
{
    struct verbs *verbs = verbs_of(base->object.rdma);
    struct verbs_qp *qp = (struct verbs_qp *)base;

    g_queue_clear_full(&qp->receives, g_free);
    if (qp->ib) {
        g_hash_table_remove(verbs->by_qpn, GUINT_TO_POINTER(base->qpn));
        ibv_destroy_qp(qp->ib);
    }
    verbs_forget_completions(base->create.send_cq, base->object.number);
    verbs_forget_completions(base->create.recv_cq, base->object.number);
}

int verbs_create_srq(struct rdma_srq *base)
{
    struct verbs_srq *srq = (struct verbs_srq *)base;
    struct ibv_srq_init_attr init = {
        .srq_context = srq,
        .attr = {.max_wr = base->max_wr, .max_sge = MAX(base->max_sge, 1)},
    };

    errno = 0;
    srq->ib = ibv_create_srq(((struct verbs_pd *)base->pd)->ib, &init);
    return srq->ib ? 0 : errno ? -errno : -ENOMEM;
}

void verbs_destroy_srq(struct rdma_srq *base)
{
    ibv_destroy_srq(((struct verbs_srq *)base)->ib);
}

int verbs_set_srq_limit(struct rdma_srq *base, uint32_t limit)
{
    struct ibv_srq_attr attr = {.srq_limit = limit};
    int error = ibv_modify_srq(((struct verbs_srq *)base)->ib, &attr, IBV_SRQ_LIMIT);

    if (!error)
        base->limit = limit;
    return -abs(error);
}

/* ---- states ---- */

static const enum ibv_qp_state host_states[] = {
    [RDMA_QPS_RESET] = IBV_QPS_RESET, [RDMA_QPS_INIT] = IBV_QPS_INIT, [RDMA_QPS_RTR] = IBV_QPS_RTR,
    [RDMA_QPS_RTS] = IBV_QPS_RTS,     [RDMA_QPS_SQD] = IBV_QPS_SQD,   [RDMA_QPS_SQE] = IBV_QPS_SQE,
    [RDMA_QPS_ERR] = IBV_QPS_ERR,
};

static int host_mask(uint32_t mask)
{
    static const struct {
        uint32_t ours;
        int theirs;
    } bits[] = {
        {RDMA_QP_STATE, IBV_QP_STATE},
        {RDMA_QP_SQD_NOTIFY, IBV_QP_EN_SQD_ASYNC_NOTIFY},
        {RDMA_QP_ACCESS, IBV_QP_ACCESS_FLAGS},
        {RDMA_QP_PKEY_INDEX, IBV_QP_PKEY_INDEX},
        {RDMA_QP_PORT, IBV_QP_PORT},
        {RDMA_QP_QKEY, IBV_QP_QKEY},
        {RDMA_QP_AV, IBV_QP_AV},
        {RDMA_QP_PATH_MTU, IBV_QP_PATH_MTU},
        {RDMA_QP_TIMEOUT, IBV_QP_TIMEOUT},
        {RDMA_QP_RETRY_COUNT, IBV_QP_RETRY_CNT},
        {RDMA_QP_RNR_RETRY, IBV_QP_RNR_RETRY},
        {RDMA_QP_RQ_PSN, IBV_QP_RQ_PSN},
        {RDMA_QP_MAX_RD_ATOMIC, IBV_QP_MAX_QP_RD_ATOMIC},
        {RDMA_QP_MIN_RNR_TIMER, IBV_QP_MIN_RNR_TIMER},
        {RDMA_QP_SQ_PSN, IBV_QP_SQ_PSN},
        {RDMA_QP_MAX_DEST_RD_ATOMIC, IBV_QP_MAX_DEST_RD_ATOMIC},
        {RDMA_QP_DEST_QPN, IBV_QP_DEST_QPN},
    };
    int host = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(bits); i++)
        host |= mask & bits[i].ours ? bits[i].theirs : 0;
    return host;
}

static int host_access(uint32_t access)
{
    return IBV_ACCESS_LOCAL_WRITE |
           (access & RDMA_ACCESS_REMOTE_WRITE ? IBV_ACCESS_REMOTE_WRITE : 0) |
           (access & RDMA_ACCESS_REMOTE_READ ? IBV_ACCESS_REMOTE_READ : 0) |
           (access & RDMA_ACCESS_REMOTE_ATOMIC ? IBV_ACCESS_REMOTE_ATOMIC : 0);
}

static int set_error(struct verbs_qp *qp)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

    qp->qp.attributes.state = RDMA_QPS_ERR;
    return qp->ib ? -ibv_modify_qp(qp->ib, &attr, IBV_QP_STATE) : 0;
}

/* Throws away what the host completed for a queue pair that is reset. */
static void forget_host_completions(struct verbs_qp *qp)
{
    struct rdma_cq *cqs[] = {qp->qp.create.send_cq, qp->qp.create.recv_cq};

    for (unsigned i = 0; i < G_N_ELEMENTS(cqs); i++)
        verbs_forget_completions(cqs[i], qp->qp.object.number);
}

/* A new state, which it has. */
static void entered(struct verbs_qp *qp, enum rdma_qp_state from)
{
    enum rdma_qp_state state = qp->qp.attributes.state;

    if (state == RDMA_QPS_RESET) {
        forget_host_completions(qp);
        qp->established = qp->last_told = false;
    }
    if (state == RDMA_QPS_ERR && qp->qp.create.srq && verbs_of(qp->qp.object.rdma)->soft)
        verbs_last_receive(qp);
    if (from == RDMA_QPS_SQD && state != from && qp->qp.wants_room) {
        qp->qp.wants_room = false;
        rdma_notify(&qp->qp.object, RDMA_NOTE_ROOM);
    }
}

int verbs_modify_qp(struct rdma_qp *base, const struct rdma_qp_attributes *old, uint32_t mask)
{
    struct verbs *verbs = verbs_of(base->object.rdma);
    struct verbs_qp *qp = (struct verbs_qp *)base;
    const struct rdma_qp_attributes *a = &base->attributes;
    struct ibv_qp_attr attr = {
        .qp_state = host_states[a->state],
        .en_sqd_async_notify = a->sqd_notify,
        .qp_access_flags = host_access(a->access),
        .pkey_index = a->pkey_index,
        .port_num = verbs->port,
        .qkey = a->qkey,
        .path_mtu = (enum ibv_mtu)a->path_mtu,
        .timeout = a->timeout,
        .retry_cnt = verbs->soft ? MIN(a->retry_count, SOFT_MAX_RETRIES) : a->retry_count,
        .rnr_retry = a->rnr_retry,
        .rq_psn = a->rq_psn,
        .sq_psn = a->sq_psn,
        .max_rd_atomic = a->max_rd_atomic,
        .max_dest_rd_atomic = a->max_dest_rd_atomic,
        .min_rnr_timer = a->min_rnr_timer,
        .dest_qp_num = a->dest_qpn,
    };

    if (!qp->ib)
        return verbs_gsi_modify(qp);
    if (mask & RDMA_QP_AV) {
        if (!verbs->rdma.gids[a->av.sgid_index].used)
            return -EINVAL;
        fill_ah(verbs, &a->av, &attr.ah_attr);
    }
    int error = ibv_modify_qp(qp->ib, &attr, host_mask(mask));
    if (!error && (mask & RDMA_QP_STATE))
        entered(qp, old->state);
    return -abs(error);
}

/* The host's device changes states by itself, on errors. */
void verbs_refresh_state(struct verbs_qp *qp, struct rdma_qp_attributes *to)
{
    struct ibv_qp_attr attr;
    struct ibv_qp_init_attr init;

    if (!qp->ib || ibv_query_qp(qp->ib, &attr, IBV_QP_STATE, &init))
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(host_states); i++)
        if (host_states[i] == attr.qp_state)
            to->state = i;
    to->sq_draining = attr.sq_draining;
}

void verbs_query_qp(struct rdma_qp *base, struct rdma_qp_attributes *attributes)
{
    verbs_refresh_state((struct verbs_qp *)base, attributes);
    base->attributes.state = attributes->state;
}

void verbs_established(struct verbs_qp *qp)
{
    if (!qp->established)
        rdma_notify(&qp->qp.object, RDMA_NOTE(RDMA_EVENT_COMM_EST));
    qp->established = true;
}

void verbs_last_receive(struct verbs_qp *qp)
{
    if (!qp->last_told)
        rdma_notify(&qp->qp.object, RDMA_NOTE(RDMA_EVENT_LAST_WQE_REACHED));
    qp->last_told = true;
}

void verbs_completed(struct verbs_qp *qp, const struct rdma_wc *wc)
{
    if (qp->qp.wants_room) {
        qp->qp.wants_room = false;
        rdma_notify(&qp->qp.object, RDMA_NOTE_ROOM);
    }
    if (qp->qp.create.srq && ((struct rdma_srq *)qp->qp.create.srq)->wants_room) {
        qp->qp.create.srq->wants_room = false;
        rdma_notify(&qp->qp.create.srq->object, RDMA_NOTE_ROOM);
    }
    /* Soft RoCE has no such event; others have told it before. */
    if (!wc->status && qp->qp.attributes.state == RDMA_QPS_RTR)
        verbs_established(qp);
    if (wc->status && qp->qp.attributes.state != RDMA_QPS_ERR)
        verbs_refresh_state(qp, &qp->qp.attributes);
}

/* ---- posting ---- */

/* What the host refused: ENOMEM is for the caller, the rest for the guest. */
static int refused(struct verbs_qp *qp, struct rdma_cq *cq, uint64_t wr_id, uint32_t opcode,
                   int error)
{
    bool atomic = opcode == RDMA_WC_COMPARE_SWAP || opcode == RDMA_WC_FETCH_ADD;
    struct rdma_wc wc = {.wr_id = wr_id,
                         .qp = qp->qp.object.number,
                         .status = atomic ? RDMA_WC_REM_INV_REQ_ERR : RDMA_WC_LOC_QP_OP_ERR,
                         .opcode = opcode};

    if (abs(error) == ENOMEM) /* some providers' are negative */
        return -ENOMEM;
    if (qp->qp.attributes.state == RDMA_QPS_ERR)
        wc.status = RDMA_WC_WR_FLUSH_ERR;
    else
        set_error(qp);
    verbs_inject(cq, &wc);
    return 0;
}

/* In ERR, what was just posted is to be flushed too. */
static void flush_again(struct verbs_qp *qp)
{
    if (qp->qp.attributes.state == RDMA_QPS_ERR && verbs_of(qp->qp.object.rdma)->soft)
        set_error(qp);
}

static bool fill_send(const struct rdma_send_wr *wr, struct ibv_send_wr *host)
{
    host->imm_data = wr->imm_or_rkey;
    switch (wr->opcode) {
    case RDMA_WR_SEND:
        host->opcode = IBV_WR_SEND;
        return true;
    case RDMA_WR_SEND_WITH_IMM:
        host->opcode = IBV_WR_SEND_WITH_IMM;
        return true;
    case RDMA_WR_SEND_WITH_INVALIDATE:
        host->opcode = IBV_WR_SEND_WITH_INV;
        host->invalidate_rkey = wr->imm_or_rkey;
        return true;
    case RDMA_WR_WRITE:
    case RDMA_WR_WRITE_WITH_IMM:
    case RDMA_WR_READ:
        host->opcode = wr->opcode == RDMA_WR_READ    ? IBV_WR_RDMA_READ
                       : wr->opcode == RDMA_WR_WRITE ? IBV_WR_RDMA_WRITE
                                                     : IBV_WR_RDMA_WRITE_WITH_IMM;
        host->wr.rdma.remote_addr = wr->remote.addr;
        host->wr.rdma.rkey = wr->remote.rkey;
        return true;
    case RDMA_WR_COMPARE_SWAP:
    case RDMA_WR_FETCH_ADD:
        host->opcode = wr->opcode == RDMA_WR_FETCH_ADD ? IBV_WR_ATOMIC_FETCH_AND_ADD
                                                       : IBV_WR_ATOMIC_CMP_AND_SWP;
        host->wr.atomic.remote_addr = wr->atomic.addr;
        host->wr.atomic.compare_add = wr->atomic.compare_add;
        host->wr.atomic.swap = wr->atomic.swap;
        host->wr.atomic.rkey = wr->atomic.rkey;
        return true;
    default:
        return false;
    }
}

/* A datagram that nobody can get: it was sent, and is lost. */
void verbs_lose(struct verbs_qp *qp, const struct rdma_send_wr *wr)
{
    struct rdma_wc wc = {.wr_id = wr->wr_id, .qp = qp->qp.object.number};

    if (qp->qp.create.signal_all || (wr->flags & RDMA_SEND_SIGNALED))
        verbs_inject(qp->qp.create.send_cq, &wc);
}

int verbs_post_send(struct rdma_qp *base, const struct rdma_send_wr *wr)
{
    struct verbs_qp *qp = (struct verbs_qp *)base;
    struct verbs *verbs = verbs_of(base->object.rdma);
    struct verbs_pd *pd = (struct verbs_pd *)base->pd;
    struct rdma_cq *cq = base->create.send_cq;
    struct ibv_sge sge[VERBS_MAX_SGE];
    struct ibv_send_wr host = {
        .wr_id = wr->wr_id,
        .sg_list = sge,
        .send_flags = (wr->flags & RDMA_SEND_FENCE ? IBV_SEND_FENCE : 0) |
                      (wr->flags & RDMA_SEND_SIGNALED ? IBV_SEND_SIGNALED : 0) |
                      (wr->flags & RDMA_SEND_SOLICITED ? IBV_SEND_SOLICITED : 0),
    };
    struct ibv_send_wr *bad;

    /* The host's device would start at once, or (soft RoCE) never. */
    if (!verbs->rdma.running || base->attributes.state == RDMA_QPS_SQD)
        return -ENOMEM;
    if (!qp->ib)
        return verbs_gsi_send(qp, wr);
    if (!fill_send(wr, &host) || wr->num_sge > base->create.max_send_sge)
        return refused(qp, cq, wr->wr_id, RDMA_WC_SEND, EINVAL);
    host.num_sge = verbs_translate(pd, wr->sge, wr->num_sge, sge);
    if (host.num_sge < 0)
        return refused(qp, cq, wr->wr_id, RDMA_WC_SEND, EINVAL);
    if (base->create.type == RDMA_QP_UD) {
        if (wr->opcode > RDMA_WR_SEND_WITH_IMM)
            return refused(qp, cq, wr->wr_id, RDMA_WC_SEND, EINVAL);
        host.wr.ud.ah = find_handle(verbs, pd, &wr->ud.av);
        host.wr.ud.remote_qpn = wr->ud.qpn;
        host.wr.ud.remote_qkey = wr->ud.qkey & 0x80000000 ? base->attributes.qkey : wr->ud.qkey;
        if (!host.wr.ud.ah) {
            verbs_lose(qp, wr);
            return 0;
        }
    }
    /* Providers refuse an atomic that is not aligned: what a peer would answer. */
    bool unaligned = (wr->opcode == RDMA_WR_COMPARE_SWAP || wr->opcode == RDMA_WR_FETCH_ADD) &&
                     wr->atomic.addr % 8;
    int error = unaligned ? EINVAL : ibv_post_send(qp->ib, &host, &bad);
    if (!error)
        flush_again(qp);
    return error ? refused(qp, cq, wr->wr_id, unaligned ? RDMA_WC_FETCH_ADD : RDMA_WC_SEND, error)
                 : 0;
}

static int fill_recv(struct verbs_pd *pd, const struct rdma_recv_wr *wr, uint32_t max_sge,
                     struct ibv_sge *sge, struct ibv_recv_wr *host)
{
    *host = (struct ibv_recv_wr){.wr_id = wr->wr_id, .sg_list = sge};
    host->num_sge = wr->num_sge > max_sge ? -1 : verbs_translate(pd, wr->sge, wr->num_sge, sge);
    return host->num_sge < 0 ? -EINVAL : 0;
}

int verbs_post_recv(struct rdma_qp *base, const struct rdma_recv_wr *wr)
{
    struct verbs_qp *qp = (struct verbs_qp *)base;
    struct ibv_sge sge[VERBS_MAX_SGE];
    struct ibv_recv_wr host, *bad;

    if (!base->object.rdma->running)
        return -ENOMEM;
    if (!qp->ib)
        return verbs_gsi_post_recv(qp, wr);
    int error = fill_recv((struct verbs_pd *)base->pd, wr, base->create.max_recv_sge, sge, &host);
    if (!error)
        error = ibv_post_recv(qp->ib, &host, &bad);
    if (!error)
        flush_again(qp);
    return error ? refused(qp, base->create.recv_cq, wr->wr_id, RDMA_WC_RECV, error) : 0;
}

int verbs_post_srq_recv(struct rdma_srq *base, const struct rdma_recv_wr *wr)
{
    struct ibv_sge sge[VERBS_MAX_SGE];
    struct ibv_recv_wr host, *bad;
    int error;

    if (!base->object.rdma->running)
        return -ENOMEM;
    error = fill_recv((struct verbs_pd *)base->pd, wr, base->max_sge, sge, &host);
    if (!error)
        error = ibv_post_srq_recv(((struct verbs_srq *)base)->ib, &host, &bad);
    error = abs(error); /* some providers' are negative */
    if (error && error != ENOMEM) {
        /* No queue pair whose completion could say so. */
        rdma_notify(&base->object, RDMA_NOTE(RDMA_EVENT_SRQ_ERROR));
        return 0;
    }
    return -abs(error);
}
