/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * work - from the guest's work requests to the backend's, and from its completions to the guest's
 *
 * A request is copied out of the ring before it is looked at, and its place given back as soon as
 * the backend has taken it; the backend completes whatever is wrong in it. Requests of user
 * processes are held to what the verbs allow them: their library passes libibverbs' opcodes
 * through, which above the atomics have other meanings, and fast registration by guest-physical
 * pages is for the kernel alone.
 *
 * A turn serves a bounded number of requests of each queue, and of completions; what is left waits
 * for the next turn of the loop. A queue whose indices are out of range is not looked at again: the
 * queue pair goes to ERR with a QP_FATAL event, until a reset. A completion queue that has no room
 * goes the same way with CQ_ERR, and all its queue pairs with it.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "devices/pvrdma/private.h"
#include "vmm/trace.h"

TRACE_EVENT(pvrdma_send, "%s qp=%u wr=0x%" PRIx64 " opcode=%u sge=%u result=%d",
            (const char *device, unsigned qp, uint64_t wr, unsigned opcode, unsigned sge,
             int result),
            device, qp, wr, opcode, sge, result)
TRACE_EVENT(pvrdma_recv, "%s queue=%u wr=0x%" PRIx64 " sge=%u result=%d",
            (const char *device, unsigned queue, uint64_t wr, unsigned sge, int result), device,
            queue, wr, sge, result)
TRACE_EVENT(pvrdma_complete, "%s cq=%u qp=%u wr=0x%" PRIx64 " status=%u opcode=%u bytes=%u",
            (const char *device, unsigned cq, unsigned qp, uint64_t wr, unsigned status,
             unsigned opcode, unsigned bytes),
            device, cq, qp, wr, status, opcode, bytes)

#define BUDGET          64u /* requests of a queue in one turn */
#define CQ_BUDGET       256u
#define POLL_BATCH      32u
#define BAD_OPCODE      UINT32_MAX /* the backend completes it as LOC_QP_OP_ERR */
#define PRIVILEGED_QKEY (1u << 31)

#define SGE_ROOM PVRDMA_MAX_SGE

/* ---- send requests ---- */

struct request {
    struct rdma_send_wr wr;
    struct rdma_sge sge[SGE_ROOM];
    uint64_t pages[PVR_MAX_FAST_PAGES];
};

static bool is_user(const struct pvr_qp *qp)
{
    return qp->pd->uar->page != 0;
}

/* As many as there is room for; a larger count is passed on, for the backend to refuse. */
static void copy_sge(struct rdma_sge *sge, const uint8_t *from, uint32_t count, uint32_t max)
{
    for (uint32_t i = 0; i < MIN(MIN(count, max), SGE_ROOM); i++) {
        struct pvr_sge entry;

        memcpy(&entry, from + i * sizeof(entry), sizeof(entry));
        sge[i] = (struct rdma_sge){entry.addr, entry.length, entry.lkey};
    }
}

static void fill_ud(const struct pvr_qp *qp, const struct pvr_sq_wqe *wqe, struct rdma_send_wr *wr)
{
    const struct pvr_av *av = &wqe->wr.ud.av;

    wr->ud.qpn = wqe->wr.ud.remote_qpn & 0xffffff;
    /* IBTA 10.2.5: the topmost bit of a Q_Key asks for the queue pair's own. */
    wr->ud.qkey = wqe->wr.ud.remote_qkey & PRIVILEGED_QKEY ? qp->qkey : wqe->wr.ud.remote_qkey;
    memcpy(wr->ud.av.dgid.raw, av->dgid, sizeof(av->dgid));
    memcpy(wr->ud.av.dmac, av->dmac, sizeof(av->dmac));
    wr->ud.av.flow_label = av->sl_tclass_flowlabel & 0xfffff;
    wr->ud.av.traffic_class = (uint8_t)(av->sl_tclass_flowlabel >> 20);
    wr->ud.av.sl = av->sl_tclass_flowlabel >> 28 & 0xf;
    wr->ud.av.sgid_index = av->gid_index;
    wr->ud.av.hop_limit = av->hop_limit;
}

/* The list is read now and never again: the driver writes the next registration's into the same
 * page. */
static void fill_fast_reg(struct pvrdma *pvrdma, const struct pvr_sq_wqe *wqe,
                          struct request *request)
{
    uint32_t count = wqe->wr.fast_reg.page_list_len;
    uint64_t *pages;

    if (wqe->wr.fast_reg.page_shift != 12 || !count || count > PVR_MAX_FAST_PAGES ||
        guest_pages_read(pvrdma_dma(pvrdma), wqe->wr.fast_reg.pl_pdir_dma, count, &pages)) {
        request->wr.opcode = BAD_OPCODE;
        return;
    }
    memcpy(request->pages, pages, count * sizeof(*pages));
    g_free(pages);
    request->wr.fast_reg.iova = wqe->wr.fast_reg.iova_start;
    request->wr.fast_reg.length = wqe->wr.fast_reg.length;
    request->wr.fast_reg.pages = request->pages;
    request->wr.fast_reg.page_count = count;
    request->wr.fast_reg.access = wqe->wr.fast_reg.access_flags & PVR_ACCESS_ALL;
    request->wr.fast_reg.rkey = wqe->wr.fast_reg.rkey;
}

static uint32_t translate_opcode(const struct pvr_qp *qp, uint32_t opcode)
{
    static const uint32_t opcodes[] = {
        [PVR_WR_WRITE] = RDMA_WR_WRITE,
        [PVR_WR_WRITE_WITH_IMM] = RDMA_WR_WRITE_WITH_IMM,
        [PVR_WR_SEND] = RDMA_WR_SEND,
        [PVR_WR_SEND_WITH_IMM] = RDMA_WR_SEND_WITH_IMM,
        [PVR_WR_READ] = RDMA_WR_READ,
        [PVR_WR_COMPARE_SWAP] = RDMA_WR_COMPARE_SWAP,
        [PVR_WR_FETCH_ADD] = RDMA_WR_FETCH_ADD,
        [PVR_WR_LSO] = BAD_OPCODE,
        [PVR_WR_SEND_WITH_INV] = RDMA_WR_SEND_WITH_INVALIDATE,
        [PVR_WR_READ_WITH_INV] = BAD_OPCODE,
        [PVR_WR_LOCAL_INV] = RDMA_WR_LOCAL_INVALIDATE,
        [PVR_WR_FAST_REG] = RDMA_WR_FAST_REG,
    };

    if (opcode >= G_N_ELEMENTS(opcodes) || (is_user(qp) && opcode > PVR_WR_FETCH_ADD))
        return BAD_OPCODE;
    return opcodes[opcode];
}

static void translate(struct pvrdma *pvrdma, const struct pvr_qp *qp, const struct pvr_sq_wqe *wqe,
                      const uint8_t *sge, struct request *request)
{
    struct rdma_send_wr *wr = &request->wr;

    *wr = (struct rdma_send_wr){
        .wr_id = wqe->wr_id,
        .opcode = translate_opcode(qp, wqe->opcode),
        .flags = (wqe->send_flags & PVR_SEND_FENCE ? RDMA_SEND_FENCE : 0) |
                 (wqe->send_flags & PVR_SEND_SIGNALED ? RDMA_SEND_SIGNALED : 0) |
                 (wqe->send_flags & PVR_SEND_SOLICITED ? RDMA_SEND_SOLICITED : 0),
        .imm_or_rkey = wqe->imm_or_rkey,
        .num_sge = wqe->num_sge,
        .sge = request->sge,
    };
    switch (wr->opcode) {
    case RDMA_WR_SEND:
    case RDMA_WR_SEND_WITH_IMM:
        if (qp->type != RDMA_QP_RC)
            fill_ud(qp, wqe, wr);
        break;
    case RDMA_WR_WRITE:
    case RDMA_WR_WRITE_WITH_IMM:
    case RDMA_WR_READ:
        wr->remote.addr = wqe->wr.rdma.remote_addr;
        wr->remote.rkey = wqe->wr.rdma.rkey;
        break;
    case RDMA_WR_COMPARE_SWAP:
    case RDMA_WR_FETCH_ADD:
        wr->atomic.addr = wqe->wr.atomic.remote_addr;
        wr->atomic.compare_add = wqe->wr.atomic.compare_add;
        wr->atomic.swap = wqe->wr.atomic.swap;
        wr->atomic.rkey = wqe->wr.atomic.rkey;
        break;
    case RDMA_WR_FAST_REG:
        fill_fast_reg(pvrdma, wqe, request);
        wr->num_sge = 0;
        break;
    case RDMA_WR_LOCAL_INVALIDATE:
        wr->num_sge = 0;
        break;
    default:
        break;
    }
    copy_sge(request->sge, sge, wr->num_sge, qp->cap.max_send_sge);
}

/* ---- queues ---- */

static void fail_qp(struct pvrdma *pvrdma, struct pvr_qp *qp)
{
    struct rdma_qp_attributes attributes = {.state = RDMA_QPS_ERR};

    if (qp->failed)
        return;
    qp->failed = true;
    pvrdma_guest_error(pvrdma, "queue pair %u: ring indices out of range", qp->handle);
    rdma_modify_qp(qp->qp, &attributes, RDMA_QP_STATE);
    qp->state = RDMA_QPS_ERR;
    pvr_event_async(pvrdma, PVR_EVENT_QP_FATAL, qp->handle);
}

/* 1: one was taken; 0: no more for now; -EINVAL: indices. */
static int serve_one_send(struct pvrdma *pvrdma, struct pvr_qp *qp)
{
    struct request request;
    struct pvr_sq_wqe wqe;
    const void *element;
    int ret = pvr_ring_peek(&qp->sq, &element);

    if (ret <= 0)
        return ret;
    memcpy(&wqe, element, sizeof(wqe));
    translate(pvrdma, qp, &wqe, (const uint8_t *)element + sizeof(wqe), &request);
    ret = rdma_post_send(qp->qp, &request.wr);
    trace_pvrdma_send(pvrdma->function.device.name, qp->handle, wqe.wr_id, wqe.opcode, wqe.num_sge,
                      ret);
    if (ret)
        return 0; /* full (qp_room comes), or no sends in this state (modify_qp looks again) */
    pvr_ring_consume(&qp->sq, pvrdma_dma(pvrdma));
    return 1;
}

static int take_recv(struct pvrdma *pvrdma, const struct ring *ring, uint32_t max_sge,
                     struct rdma_recv_wr *wr, struct rdma_sge *sge)
{
    struct pvr_rq_wqe wqe;
    const void *element;
    int ret = pvr_ring_peek(ring, &element);

    if (ret <= 0)
        return ret;
    memcpy(&wqe, element, sizeof(wqe));
    copy_sge(sge, (const uint8_t *)element + sizeof(wqe), wqe.num_sge, max_sge);
    *wr = (struct rdma_recv_wr){wqe.wr_id, wqe.num_sge, sge};
    return 1;
}

static int serve_one_recv(struct pvrdma *pvrdma, struct pvr_qp *qp)
{
    struct rdma_sge sge[SGE_ROOM];
    struct rdma_recv_wr wr;
    int ret = take_recv(pvrdma, &qp->rq, qp->cap.max_recv_sge, &wr, sge);

    if (ret <= 0)
        return ret;
    ret = rdma_post_recv(qp->qp, &wr);
    trace_pvrdma_recv(pvrdma->function.device.name, qp->handle, wr.wr_id, wr.num_sge, ret);
    if (ret)
        return 0;
    pvr_ring_consume(&qp->rq, pvrdma_dma(pvrdma));
    return 1;
}

static int serve_one_srq(struct pvrdma *pvrdma, struct pvr_srq *srq)
{
    struct rdma_sge sge[SGE_ROOM];
    struct rdma_recv_wr wr;
    int ret = take_recv(pvrdma, &srq->ring, srq->max_sge, &wr, sge);

    if (ret <= 0)
        return ret;
    ret = rdma_post_srq_recv(srq->srq, &wr);
    trace_pvrdma_recv(pvrdma->function.device.name, srq->handle, wr.wr_id, wr.num_sge, ret);
    if (ret)
        return 0;
    pvr_ring_consume(&srq->ring, pvrdma_dma(pvrdma));
    return 1;
}

static bool may_work(struct pvrdma *pvrdma)
{
    return pvrdma->running && pvrdma->active && !dma_allowed(pvrdma_dma(pvrdma), DMA_TO_DEVICE) &&
           !dma_allowed(pvrdma_dma(pvrdma), DMA_FROM_DEVICE);
}

void pvr_work_serve_qp(struct pvrdma *pvrdma, struct pvr_qp *qp)
{
    int ret = 1;
    unsigned left;

    if (qp->state == RDMA_QPS_RESET || qp->failed || !may_work(pvrdma))
        return;
    qp->more = false;
    for (left = BUDGET; qp->rq.entries && left && ret > 0; left--)
        ret = serve_one_recv(pvrdma, qp);
    qp->more |= ret > 0 && !left;
    if (ret >= 0) {
        ret = 1;
        for (left = BUDGET; left && ret > 0; left--)
            ret = serve_one_send(pvrdma, qp);
        qp->more |= ret > 0 && !left;
    }
    if (ret < 0)
        fail_qp(pvrdma, qp);
    else if (qp->more)
        pvr_doorbell_again(pvrdma);
}

static void serve_srq(struct pvrdma *pvrdma, struct pvr_srq *srq, unsigned budget)
{
    unsigned left;
    int ret = 1;

    if (!srq->known || srq->failed || !may_work(pvrdma))
        return;
    for (left = budget; left && ret > 0; left--)
        ret = serve_one_srq(pvrdma, srq);
    srq->more = ret > 0 && !left;
    if (ret < 0) {
        srq->failed = true;
        pvrdma_guest_error(pvrdma, "shared receive queue %u: ring indices out of range",
                           srq->handle);
        pvr_event_async(pvrdma, PVR_EVENT_SRQ_ERR, srq->handle);
    } else if (srq->more) {
        pvr_doorbell_again(pvrdma);
    }
}

void pvr_work_serve_srq(struct pvrdma *pvrdma, struct pvr_srq *srq)
{
    serve_srq(pvrdma, srq, BUDGET);
}

void pvr_work_serve_all_of_srq(struct pvrdma *pvrdma, struct pvr_srq *srq)
{
    serve_srq(pvrdma, srq, srq->ring.entries);
}

/* ---- completions ---- */

static uint32_t translate_status(uint32_t status)
{
    static const uint8_t statuses[] = {
        [RDMA_WC_SUCCESS] = PVR_WC_SUCCESS,
        [RDMA_WC_LOC_LEN_ERR] = PVR_WC_LOC_LEN_ERR,
        [RDMA_WC_LOC_QP_OP_ERR] = PVR_WC_LOC_QP_OP_ERR,
        [RDMA_WC_LOC_PROT_ERR] = PVR_WC_LOC_PROT_ERR,
        [RDMA_WC_WR_FLUSH_ERR] = PVR_WC_WR_FLUSH_ERR,
        [RDMA_WC_MW_BIND_ERR] = PVR_WC_MW_BIND_ERR,
        [RDMA_WC_BAD_RESP_ERR] = PVR_WC_BAD_RESP_ERR,
        [RDMA_WC_LOC_ACCESS_ERR] = PVR_WC_LOC_ACCESS_ERR,
        [RDMA_WC_REM_INV_REQ_ERR] = PVR_WC_REM_INV_REQ_ERR,
        [RDMA_WC_REM_ACCESS_ERR] = PVR_WC_REM_ACCESS_ERR,
        [RDMA_WC_REM_OP_ERR] = PVR_WC_REM_OP_ERR,
        [RDMA_WC_RETRY_EXC_ERR] = PVR_WC_RETRY_EXC_ERR,
        [RDMA_WC_RNR_RETRY_EXC_ERR] = PVR_WC_RNR_RETRY_EXC_ERR,
        [RDMA_WC_REM_ABORT_ERR] = PVR_WC_REM_ABORT_ERR,
        [RDMA_WC_FATAL_ERR] = PVR_WC_FATAL_ERR,
        [RDMA_WC_GENERAL_ERR] = PVR_WC_GENERAL_ERR,
    };

    return status < G_N_ELEMENTS(statuses) ? statuses[status] : PVR_WC_GENERAL_ERR;
}

static uint32_t translate_wc_opcode(uint32_t opcode)
{
    static const uint8_t opcodes[] = {
        [RDMA_WC_SEND] = PVR_WC_SEND,
        [RDMA_WC_WRITE] = PVR_WC_WRITE,
        [RDMA_WC_READ] = PVR_WC_READ,
        [RDMA_WC_COMPARE_SWAP] = PVR_WC_COMPARE_SWAP,
        [RDMA_WC_FETCH_ADD] = PVR_WC_FETCH_ADD,
        [RDMA_WC_LOCAL_INVALIDATE] = PVR_WC_LOCAL_INV,
        [RDMA_WC_FAST_REG] = PVR_WC_FAST_REG,
        [RDMA_WC_RECV] = PVR_WC_RECV,
        [RDMA_WC_RECV_WRITE_WITH_IMM] = PVR_WC_RECV_WITH_IMM,
    };

    return opcode < G_N_ELEMENTS(opcodes) ? opcodes[opcode] : PVR_WC_SEND;
}

static void fill_cqe(const struct pvr_qp *qp, const struct rdma_wc *wc, struct pvr_cqe *cqe)
{
    *cqe = (struct pvr_cqe){
        .wr_id = wc->wr_id,
        .qp = qp->handle,
        .status = translate_status(wc->status),
        .vendor_err = wc->vendor_error,
        .port_num = 1,
    };
    cqe->opcode = translate_wc_opcode(wc->opcode);
    if (wc->status != RDMA_WC_SUCCESS)
        return;
    cqe->byte_len = wc->byte_len;
    cqe->src_qp = wc->src_qp;
    cqe->pkey_index = wc->pkey_index;
    if (wc->flags & RDMA_WC_GRH) {
        cqe->wc_flags |= PVR_WC_GRH | PVR_WC_WITH_NETWORK_TYPE;
        cqe->network_hdr_type = wc->network_type;
    }
    if (wc->flags & RDMA_WC_WITH_IMM) {
        cqe->wc_flags |= PVR_WC_WITH_IMM;
        cqe->imm_data = wc->imm;
    }
    if (wc->flags & RDMA_WC_WITH_INVALIDATE) {
        cqe->wc_flags |= PVR_WC_WITH_INVALIDATE;
        cqe->imm_data = wc->invalidated_rkey;
    }
    if (wc->flags & RDMA_WC_SMAC) {
        cqe->wc_flags |= PVR_WC_WITH_SMAC;
        memcpy(cqe->smac, wc->smac, sizeof(cqe->smac));
    }
}

void pvr_work_fail_cq(struct pvrdma *pvrdma, struct pvr_cq *cq)
{
    struct rdma_qp_attributes attributes = {.state = RDMA_QPS_ERR};

    if (cq->failed)
        return;
    cq->failed = true;
    pvrdma_guest_error(pvrdma, "completion queue %u has no room, or bad indices", cq->handle);
    for (guint i = 0; i < cq->uar->qps->len; i++) {
        struct pvr_qp *qp = g_ptr_array_index(cq->uar->qps, i);

        if ((qp->send_cq == cq || qp->recv_cq == cq) && qp->state != RDMA_QPS_RESET)
            rdma_modify_qp(qp->qp, &attributes, RDMA_QP_STATE);
    }
    pvr_event_async(pvrdma, PVR_EVENT_CQ_ERR, cq->handle);
}

static bool wants_notice(const struct pvr_cq *cq, const struct rdma_wc *wc)
{
    return cq->armed == PVR_ARMED ||
           (cq->armed == PVR_ARMED_SOLICITED &&
            (wc->flags & RDMA_WC_SOLICITED || wc->status != RDMA_WC_SUCCESS));
}

static bool put_completion(struct pvrdma *pvrdma, struct pvr_cq *cq, const struct rdma_wc *wc)
{
    /* The driver would wait for ever at a completion of a queue pair that it does not know. */
    const struct pvr_qp *qp = pvr_handles_get(&pvrdma->qps, wc->qp);
    struct pvr_cqe cqe;

    if (!qp || cq->failed)
        return false;
    fill_cqe(qp, wc, &cqe);
    trace_pvrdma_complete(pvrdma->function.device.name, cq->handle, qp->handle, cqe.wr_id,
                          cqe.status, cqe.opcode, cqe.byte_len);
    if (pvr_ring_put(&cq->ring, pvrdma_dma(pvrdma), &cqe)) {
        pvr_work_fail_cq(pvrdma, cq);
        return false;
    }
    return true;
}

void pvr_work_drain_cq(struct pvrdma *pvrdma, struct pvr_cq *cq)
{
    struct rdma_wc wc[POLL_BATCH];
    unsigned left = CQ_BUDGET, count = POLL_BATCH;

    if (!may_work(pvrdma)) {
        cq->more = true;
        return;
    }
    while (left && count == POLL_BATCH) {
        bool notify = false;

        count = rdma_poll_cq(cq->cq, wc, POLL_BATCH);
        for (unsigned i = 0; i < count; i++)
            notify |= put_completion(pvrdma, cq, &wc[i]) && wants_notice(cq, &wc[i]);
        left -= MIN(left, POLL_BATCH);
        if (notify) {
            cq->armed = PVR_NOT_ARMED;
            pvr_event_notify(pvrdma, cq);
        }
    }
    cq->more = count == POLL_BATCH;
    if (cq->more)
        pvr_doorbell_again(pvrdma);
}

/* ---- the backend's calls, and later turns ---- */

static void on_cq_ready(void *opaque, uint32_t number)
{
    struct pvrdma *pvrdma = opaque;
    struct pvr_cq *cq;

    pthread_mutex_lock(&pvrdma->lock);
    cq = pvr_handles_get(&pvrdma->cqs, number);
    if (cq)
        pvr_work_drain_cq(pvrdma, cq);
    pthread_mutex_unlock(&pvrdma->lock);
}

static void on_qp_room(void *opaque, uint32_t number)
{
    struct pvrdma *pvrdma = opaque;
    struct pvr_qp *qp;

    pthread_mutex_lock(&pvrdma->lock);
    qp = pvr_handles_get(&pvrdma->qps, number);
    if (qp)
        pvr_work_serve_qp(pvrdma, qp);
    pthread_mutex_unlock(&pvrdma->lock);
}

static void on_srq_room(void *opaque, uint32_t number)
{
    struct pvrdma *pvrdma = opaque;
    struct pvr_srq *srq;

    pthread_mutex_lock(&pvrdma->lock);
    srq = pvr_handles_get(&pvrdma->srqs, number);
    if (srq)
        pvr_work_serve_srq(pvrdma, srq);
    pthread_mutex_unlock(&pvrdma->lock);
}

const struct rdma_client_ops pvr_work_client = {
    .cq_ready = on_cq_ready,
    .qp_room = on_qp_room,
    .srq_room = on_srq_room,
    .event = pvr_event_from_backend,
};

void pvr_work_again(struct pvrdma *pvrdma)
{
    for (uint32_t i = 0; i < pvrdma->srqs.size; i++) {
        struct pvr_srq *srq = pvr_handles_get(&pvrdma->srqs, i);

        if (srq && srq->more)
            pvr_work_serve_srq(pvrdma, srq);
    }
    for (uint32_t i = 0; i < pvrdma->qps.size; i++) {
        struct pvr_qp *qp = pvr_handles_get(&pvrdma->qps, i);

        if (qp && qp->more)
            pvr_work_serve_qp(pvrdma, qp);
    }
    for (uint32_t i = 0; i < pvrdma->cqs.size; i++) {
        struct pvr_cq *cq = pvr_handles_get(&pvrdma->cqs, i);

        if (cq && cq->more)
            pvr_work_drain_cq(pvrdma, cq);
    }
}
