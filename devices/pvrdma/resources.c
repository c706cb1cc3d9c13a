/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * resources - what the guest made: contexts, protection domains, memory regions, queues
 *
 * Each kind has a table; a handle is an index there. Handles are small, as the driver has tables of
 * the same sizes and writes to them unchecked, and are used again as late as can be, so that a late
 * message does not meet a new object. Handles of queue pairs are not their numbers (device version
 * 20): those are the backend's choice. Before version 20 they must be the same, and a queue pair
 * whose number is too large for the driver's table is refused.
 *
 * A context is a doorbell page; page 0 is the kernel's. Domains and completion queues belong to a
 * context, queue pairs and shared receive queues to that of their domain, and only that page's
 * doorbells reach them.
 *
 * The driver does not know of all that there is: a signal ends its wait for the answer of a CREATE,
 * then it frees the pages and goes on, and never learns the handle. So
 * - what is destroyed takes along what still uses it; the guest's kernel does not ask for that
 *   while it knows of a user;
 * - a completion queue or shared receive queue is left alone until it is .known: until the driver
 *   names it in another command. A doorbell proves nothing: a process may write any handle there.
 *   Queue pairs are in RESET until they are named, and left alone there.
 */
#include <errno.h>

#include "devices/pvrdma/private.h"

/* ---- tables ---- */

static void handles_init(struct handles *handles, uint32_t size, uint32_t first)
{
    *handles = (struct handles){g_new0(void *, size), size, first, first, 0};
}

void *pvr_handles_get(const struct handles *handles, uint32_t handle)
{
    return handle < handles->size ? handles->objects[handle] : NULL;
}

bool pvr_handles_set(struct handles *handles, uint32_t handle, void *object)
{
    if (handle < handles->first || handle >= handles->size || handles->objects[handle])
        return false;
    handles->objects[handle] = object;
    handles->used++;
    return true;
}

uint32_t pvr_handles_add(struct handles *handles, void *object)
{
    if (handles->used == handles->size - handles->first)
        return PVRDMA_NO_HANDLE;
    for (;;) {
        uint32_t handle = handles->next;

        handles->next = handle + 1 < handles->size ? handle + 1 : handles->first;
        if (pvr_handles_set(handles, handle, object))
            return handle;
    }
}

void pvr_handles_remove(struct handles *handles, uint32_t handle)
{
    if (!pvr_handles_get(handles, handle))
        return;
    handles->objects[handle] = NULL;
    handles->used--;
}

static bool is_power_of_two(uint32_t n)
{
    return n && !(n & (n - 1));
}

uint32_t pvr_wqe_stride(uint32_t header, uint32_t sge)
{
    uint32_t bytes = header + sge * (uint32_t)sizeof(struct pvr_sge), stride = 16;

    while (stride < bytes)
        stride <<= 1;
    return stride;
}

static uint32_t pages_for(uint32_t entries, uint32_t stride)
{
    return (uint32_t)(((uint64_t)entries * stride + PVR_PAGE_SIZE - 1) / PVR_PAGE_SIZE);
}

/* ---- protection domains ---- */

int pvr_pd_create(struct pvrdma *pvrdma, uint32_t context, uint32_t *handle)
{
    struct pvr_pd *pd;
    int ret;

    if (context >= PVRDMA_MAX_UAR || !pvrdma->uars[context].used)
        return -EINVAL;
    pd = g_new0(struct pvr_pd, 1);
    pd->uar = &pvrdma->uars[context];
    pd->handle = pvr_handles_add(&pvrdma->pds, pd);
    ret = pd->handle == PVRDMA_NO_HANDLE ? -ENOSPC
                                         : rdma_create_pd(pvrdma->rdma, pd->handle, &pd->pd);
    if (ret) {
        pvr_handles_remove(&pvrdma->pds, pd->handle);
        g_free(pd);
        return ret;
    }
    *handle = pd->handle;
    return 0;
}

/* ---- completion queues ---- */

void pvr_cq_lay_out(struct pvr_cq *cq, uint32_t entries)
{
    cq->ring = (struct ring){&cq->pages, 1, entries, sizeof(struct pvr_cqe), false};
}

static void cq_free(struct pvr_cq *cq)
{
    guest_pages_clear(&cq->pages);
    g_free(cq);
}

int pvr_cq_create(struct pvrdma *pvrdma, const struct pvr_cmd_create_cq *cmd, uint32_t *handle)
{
    struct pvr_cq *cq;
    int ret;

    if (cmd->ctx_handle >= PVRDMA_MAX_UAR || !pvrdma->uars[cmd->ctx_handle].used)
        return -EINVAL;
    if (!is_power_of_two(cmd->cqe) || cmd->cqe > pvrdma->limits.max_cqe)
        return -EINVAL;
    if (cmd->nchunks < 1 + pages_for(cmd->cqe, sizeof(struct pvr_cqe)))
        return -EINVAL;
    cq = g_new0(struct pvr_cq, 1);
    cq->uar = &pvrdma->uars[cmd->ctx_handle];
    ret = guest_pages_map(&cq->pages, pvrdma_dma(pvrdma), cmd->pdir_dma, cmd->nchunks);
    if (ret) {
        g_free(cq);
        return ret;
    }
    pvr_cq_lay_out(cq, cmd->cqe);
    cq->handle = pvr_handles_add(&pvrdma->cqs, cq);
    ret = cq->handle == PVRDMA_NO_HANDLE
              ? -ENOSPC
              : rdma_create_cq(pvrdma->rdma, cq->handle, cmd->cqe, &cq->cq);
    if (ret) {
        pvr_handles_remove(&pvrdma->cqs, cq->handle);
        cq_free(cq);
        return ret;
    }
    pvr_doorbell_open_cq(pvrdma, cq);
    *handle = cq->handle;
    return 0;
}

/* ---- shared receive queues ---- */

void pvr_srq_lay_out(struct pvr_srq *srq, uint32_t max_wr, uint32_t max_sge)
{
    srq->max_sge = max_sge;
    srq->ring = (struct ring){&srq->pages, 1, max_wr,
                              pvr_wqe_stride(sizeof(struct pvr_rq_wqe), max_sge), false};
}

static void srq_free(struct pvr_srq *srq)
{
    guest_pages_clear(&srq->pages);
    g_free(srq);
}

int pvr_srq_create(struct pvrdma *pvrdma, const struct pvr_cmd_create_srq *cmd, uint32_t *handle)
{
    const struct pvr_srq_attr *attrs = &cmd->attrs;
    struct pvr_pd *pd = pvr_handles_get(&pvrdma->pds, cmd->pd_handle);
    struct pvr_srq *srq;
    uint32_t stride;
    int ret;

    if (!pd || cmd->srq_type || !is_power_of_two(attrs->max_wr) ||
        attrs->max_wr > pvrdma->limits.max_srq_wr || attrs->max_sge > pvrdma->limits.max_srq_sge ||
        attrs->srq_limit > attrs->max_wr)
        return -EINVAL;
    stride = pvr_wqe_stride(sizeof(struct pvr_rq_wqe), attrs->max_sge);
    if (cmd->nchunks < 1 + pages_for(attrs->max_wr, stride))
        return -EINVAL;
    srq = g_new0(struct pvr_srq, 1);
    srq->pd = pd;
    ret = guest_pages_map(&srq->pages, pvrdma_dma(pvrdma), cmd->pdir_dma, cmd->nchunks);
    if (ret) {
        g_free(srq);
        return ret;
    }
    pvr_srq_lay_out(srq, attrs->max_wr, attrs->max_sge);
    srq->handle = pvr_handles_add(&pvrdma->srqs, srq);
    ret = srq->handle == PVRDMA_NO_HANDLE
              ? -ENOSPC
              : rdma_create_srq(pd->pd, srq->handle, attrs->max_wr, attrs->max_sge, &srq->srq);
    if (!ret && attrs->srq_limit) {
        ret = rdma_set_srq_limit(srq->srq, attrs->srq_limit);
        if (ret)
            rdma_destroy_srq(srq->srq);
    }
    if (ret) {
        pvr_handles_remove(&pvrdma->srqs, srq->handle);
        srq_free(srq);
        return ret;
    }
    g_ptr_array_add(pd->uar->srqs, srq);
    *handle = srq->handle;
    return 0;
}

/* ---- queue pairs ---- */

void pvr_qp_lay_out(struct pvr_qp *qp)
{
    const struct pvr_qp_cap *cap = &qp->cap;

    qp->sq = (struct ring){&qp->pages, 1, cap->max_send_wr,
                           pvr_wqe_stride(sizeof(struct pvr_sq_wqe), cap->max_send_sge), true};
    qp->rq = (struct ring){&qp->pages, 1 + qp->send_chunks, qp->srq ? 0 : cap->max_recv_wr,
                           pvr_wqe_stride(sizeof(struct pvr_rq_wqe), cap->max_recv_sge), false};
}

static void qp_free(struct pvr_qp *qp)
{
    guest_pages_clear(&qp->pages);
    g_free(qp);
}

static bool qp_type(uint8_t type, enum rdma_qp_type *result)
{
    switch (type) {
    case PVR_QPT_GSI:
        *result = RDMA_QP_GSI;
        return true;
    case PVR_QPT_RC:
        *result = RDMA_QP_RC;
        return true;
    case PVR_QPT_UD:
        *result = RDMA_QP_UD;
        return true;
    default:
        return false;
    }
}

/* The sizes that the command names, against the limits and against each other. */
static bool qp_sizes_are_valid(struct pvrdma *pvrdma, const struct pvr_cmd_create_qp *cmd)
{
    const struct rdma_limits *limits = &pvrdma->limits;
    uint32_t send_pages, recv_pages;

    if (!is_power_of_two(cmd->max_send_wr) || cmd->max_send_wr > limits->max_qp_wr ||
        cmd->max_send_sge > limits->max_sge || cmd->max_inline_data)
        return false;
    send_pages =
        pages_for(cmd->max_send_wr, pvr_wqe_stride(sizeof(struct pvr_sq_wqe), cmd->max_send_sge));
    if (cmd->send_chunks < send_pages || cmd->total_chunks < 1u + cmd->send_chunks)
        return false;
    if (cmd->is_srq)
        return true;
    if (!is_power_of_two(cmd->max_recv_wr) || cmd->max_recv_wr > limits->max_qp_wr ||
        cmd->max_recv_sge > limits->max_sge)
        return false;
    recv_pages =
        pages_for(cmd->max_recv_wr, pvr_wqe_stride(sizeof(struct pvr_rq_wqe), cmd->max_recv_sge));
    return cmd->total_chunks >= 1u + cmd->send_chunks + recv_pages;
}

/* What it is made of: one domain, of which all else must be, by context at least. */
bool pvr_qp_parts_fit(const struct pvr_qp *qp)
{
    const struct pvr_uar *uar = qp->pd ? qp->pd->uar : NULL;

    return uar && qp->send_cq && qp->recv_cq && qp->send_cq->uar == uar &&
           qp->recv_cq->uar == uar && (!qp->srq || qp->srq->pd->uar == uar);
}

static int qp_find_parts(struct pvrdma *pvrdma, const struct pvr_cmd_create_qp *cmd,
                         struct pvr_qp *qp)
{
    qp->pd = pvr_handles_get(&pvrdma->pds, cmd->pd_handle);
    qp->send_cq = pvr_handles_get(&pvrdma->cqs, cmd->send_cq_handle);
    qp->recv_cq = pvr_handles_get(&pvrdma->cqs, cmd->recv_cq_handle);
    if (cmd->is_srq)
        qp->srq = pvr_handles_get(&pvrdma->srqs, cmd->srq_handle);
    if (!pvr_qp_parts_fit(qp) || (cmd->is_srq && !qp->srq) || !qp_type(cmd->qp_type, &qp->type))
        return -EINVAL;
    return qp->type == RDMA_QP_GSI && qp->pd->uar->page != 0 ? -EPERM : 0;
}

void pvr_qp_add(struct pvr_qp *qp)
{
    g_ptr_array_add(qp->pd->uar->qps, qp);
    qp->send_cq->known = qp->recv_cq->known = true;
    if (qp->srq)
        qp->srq->known = true;
}

static int qp_create_backend(struct pvrdma *pvrdma, struct pvr_qp *qp)
{
    struct rdma_qp_create create = {
        .type = qp->type,
        .send_cq = qp->send_cq->cq,
        .recv_cq = qp->recv_cq->cq,
        .srq = qp->srq ? qp->srq->srq : NULL,
        .max_send_wr = qp->cap.max_send_wr,
        .max_recv_wr = qp->cap.max_recv_wr,
        .max_send_sge = qp->cap.max_send_sge,
        .max_recv_sge = qp->cap.max_recv_sge,
        .signal_all = qp->signal_all,
    };
    int ret = rdma_create_qp(qp->pd->pd, qp->number, &create, &qp->qp);

    qp->handle = qp->number;
    if (ret || pvrdma->version >= PVR_VERSION_HANDLES)
        return ret;
    /* The driver takes its QPN for a handle, and that for an index of its table. */
    qp->handle = rdma_qp_qpn(qp->qp);
    if (qp->handle < pvrdma->limits.max_qp)
        return 0;
    rdma_destroy_qp(qp->qp);
    return -ENOSPC;
}

struct pvr_qp *pvr_qp_find(struct pvrdma *pvrdma, uint32_t handle)
{
    if (pvrdma->version >= PVR_VERSION_HANDLES)
        return pvr_handles_get(&pvrdma->qps, handle);
    for (uint32_t i = 0; i < pvrdma->qps.size; i++) {
        struct pvr_qp *qp = pvr_handles_get(&pvrdma->qps, i);

        if (qp && qp->handle == handle)
            return qp;
    }
    return NULL;
}

int pvr_qp_create(struct pvrdma *pvrdma, const struct pvr_cmd_create_qp *cmd,
                  struct pvr_qp **result)
{
    struct pvr_qp *qp;
    int ret;

    if (!qp_sizes_are_valid(pvrdma, cmd))
        return -EINVAL;
    qp = g_new0(struct pvr_qp, 1);
    qp->cap = (struct pvr_qp_cap){.max_send_wr = cmd->max_send_wr,
                                  .max_recv_wr = cmd->is_srq ? 0 : cmd->max_recv_wr,
                                  .max_send_sge = cmd->max_send_sge,
                                  .max_recv_sge = cmd->is_srq ? 0 : cmd->max_recv_sge};
    qp->send_chunks = cmd->send_chunks;
    qp->signal_all = cmd->sq_sig_all;
    ret = qp_find_parts(pvrdma, cmd, qp);
    if (!ret)
        ret = guest_pages_map(&qp->pages, pvrdma_dma(pvrdma), cmd->pdir_dma, cmd->total_chunks);
    if (ret) {
        g_free(qp);
        return ret;
    }
    pvr_qp_lay_out(qp);
    qp->number = pvr_handles_add(&pvrdma->qps, qp);
    ret = qp->number == PVRDMA_NO_HANDLE ? -ENOSPC : qp_create_backend(pvrdma, qp);
    if (ret) {
        pvr_handles_remove(&pvrdma->qps, qp->number);
        qp_free(qp);
        return ret;
    }
    pvr_qp_add(qp);
    *result = qp;
    return 0;
}

/* ---- destroying ---- */

/* Creation is in command.c: it may take long. */
int pvr_mr_destroy(struct pvrdma *pvrdma, uint32_t handle)
{
    struct pvr_mr *mr = pvr_handles_get(&pvrdma->mrs, handle);
    int ret = !mr ? -ENOENT : !mr->mr ? -EBUSY : rdma_destroy_mr(mr->mr);

    if (ret)
        return ret;
    pvr_handles_remove(&pvrdma->mrs, handle);
    g_free(mr);
    return 0;
}

static int destroy_qp(struct pvrdma *pvrdma, struct pvr_qp *qp)
{
    int ret = rdma_destroy_qp(qp->qp);

    if (ret)
        return ret;
    pvr_handles_remove(&pvrdma->qps, qp->number);
    g_ptr_array_remove_fast(qp->pd->uar->qps, qp);
    qp_free(qp);
    return 0;
}

int pvr_qp_destroy(struct pvrdma *pvrdma, uint32_t handle)
{
    struct pvr_qp *qp = pvr_qp_find(pvrdma, handle);

    return qp ? destroy_qp(pvrdma, qp) : -ENOENT;
}

/* All that use @part: a domain, a completion queue or a shared receive queue of this context. */
static void destroy_qps_with(struct pvrdma *pvrdma, struct pvr_uar *uar, const void *part)
{
    for (guint i = uar->qps->len; i > 0; i--) {
        struct pvr_qp *qp = g_ptr_array_index(uar->qps, i - 1);

        if (qp->pd == part || qp->send_cq == part || qp->recv_cq == part || qp->srq == part)
            destroy_qp(pvrdma, qp);
    }
}

int pvr_srq_destroy(struct pvrdma *pvrdma, uint32_t handle)
{
    struct pvr_srq *srq = pvr_handles_get(&pvrdma->srqs, handle);
    int ret;

    if (!srq)
        return -ENOENT;
    destroy_qps_with(pvrdma, srq->pd->uar, srq);
    ret = rdma_destroy_srq(srq->srq);
    if (ret)
        return ret;
    pvr_handles_remove(&pvrdma->srqs, handle);
    g_ptr_array_remove_fast(srq->pd->uar->srqs, srq);
    srq_free(srq);
    return 0;
}

int pvr_cq_destroy(struct pvrdma *pvrdma, uint32_t handle)
{
    struct pvr_cq *cq = pvr_handles_get(&pvrdma->cqs, handle);
    int ret;

    if (!cq)
        return -ENOENT;
    destroy_qps_with(pvrdma, cq->uar, cq);
    ret = rdma_destroy_cq(cq->cq);
    if (ret)
        return ret;
    pvr_doorbell_close_cq(pvrdma, cq);
    pvr_handles_remove(&pvrdma->cqs, handle);
    cq_free(cq);
    return 0;
}

static void destroy_queues_of_pd(struct pvrdma *pvrdma, struct pvr_pd *pd)
{
    GPtrArray *srqs = pd->uar->srqs;

    destroy_qps_with(pvrdma, pd->uar, pd);
    for (guint i = srqs->len; i > 0; i--) {
        struct pvr_srq *srq = g_ptr_array_index(srqs, i - 1);

        if (srq->pd == pd)
            pvr_srq_destroy(pvrdma, srq->handle);
    }
}

/* Its regions, too: also those on their way. */
int pvr_pd_destroy(struct pvrdma *pvrdma, uint32_t handle)
{
    struct pvr_pd *pd = pvr_handles_get(&pvrdma->pds, handle);
    int ret;

    if (!pd)
        return -ENOENT;
    destroy_queues_of_pd(pvrdma, pd);
    ret = rdma_destroy_pd_and_regions(pd->pd, pvr_command_cancelled);
    if (ret)
        return ret;
    for (uint32_t i = 0; i < pvrdma->mrs.size; i++) {
        struct pvr_mr *mr = pvr_handles_get(&pvrdma->mrs, i);

        if (!mr || mr->pd != pd)
            continue;
        pvr_command_abandon_mr(pvrdma, mr);
        pvr_handles_remove(&pvrdma->mrs, i);
        g_free(mr);
    }
    pvr_handles_remove(&pvrdma->pds, handle);
    g_free(pd);
    return 0;
}

int pvr_context_destroy(struct pvrdma *pvrdma, uint32_t page)
{
    struct pvr_uar *uar = page < PVRDMA_MAX_UAR ? &pvrdma->uars[page] : NULL;
    int ret = 0;

    if (!uar || !uar->used)
        return -ENOENT;
    for (guint i = uar->cqs->len; i > 0 && !ret; i--) {
        struct pvr_cq *cq = g_ptr_array_index(uar->cqs, i - 1);

        ret = pvr_cq_destroy(pvrdma, cq->handle);
    }
    for (uint32_t i = 0; i < pvrdma->pds.size && !ret; i++) {
        struct pvr_pd *pd = pvr_handles_get(&pvrdma->pds, i);

        if (pd && pd->uar == uar)
            ret = pvr_pd_destroy(pvrdma, i);
    }
    if (!ret)
        pvr_doorbell_close_context(pvrdma, page);
    return ret;
}

/* ---- all of them ---- */

static void forget(struct handles *handles, void (*free_fn)(void *object))
{
    for (uint32_t i = 0; i < handles->size && handles->used; i++) {
        void *object = pvr_handles_get(handles, i);

        pvr_handles_remove(handles, i);
        if (object)
            free_fn(object);
    }
    handles->next = handles->first;
}

void pvr_resources_forget(struct pvrdma *pvrdma)
{
    for (uint32_t i = 0; i < PVRDMA_MAX_CQ && pvrdma->cqs.used; i++)
        if (pvr_handles_get(&pvrdma->cqs, i))
            pvr_doorbell_close_cq(pvrdma, pvr_handles_get(&pvrdma->cqs, i));
    forget(&pvrdma->qps, (void (*)(void *))qp_free);
    forget(&pvrdma->srqs, (void (*)(void *))srq_free);
    forget(&pvrdma->cqs, (void (*)(void *))cq_free);
    forget(&pvrdma->mrs, g_free);
    forget(&pvrdma->pds, g_free);
    for (uint32_t i = 0; i < PVRDMA_MAX_UAR; i++) {
        if (!pvrdma->uars[i].used)
            continue;
        g_ptr_array_set_size(pvrdma->uars[i].qps, 0);
        g_ptr_array_set_size(pvrdma->uars[i].srqs, 0);
        pvr_doorbell_close_context(pvrdma, i);
    }
}

void pvr_resources_init(struct pvrdma *pvrdma)
{
    const struct rdma_limits *limits = &pvrdma->limits;

    handles_init(&pvrdma->pds, limits->max_pd, 0);
    handles_init(&pvrdma->mrs, limits->max_mr, 0);
    handles_init(&pvrdma->cqs, limits->max_cq, 0);
    handles_init(&pvrdma->srqs, limits->max_srq, 0);
    handles_init(&pvrdma->qps, limits->max_qp, 1); /* the user library takes 0 for none */
}

void pvr_resources_finish(struct pvrdma *pvrdma)
{
    g_free(pvrdma->pds.objects);
    g_free(pvrdma->mrs.objects);
    g_free(pvrdma->cqs.objects);
    g_free(pvrdma->srqs.objects);
    g_free(pvrdma->qps.objects);
}
