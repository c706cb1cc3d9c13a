/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state - what of the device is saved
 *
 * Registers, the negotiated version, where slots and rings are, and a list of each kind of object,
 * with the handles by which the guest knows them. Pages are saved as their addresses: their
 * contents are guest memory, where all ring indices are, too. Which queues the driver knows is seen
 * by the queue pairs: without one, a queue has nothing to do. What the backend has of the objects
 * (posted work, undelivered completions, keys, GIDs) is one buffer of its own making.
 *
 * Loading trusts nothing: every handle and page of the stream is checked as if a command had named
 * it, and the backend must have the object.
 */
#include <string.h>

#include "devices/pvrdma/private.h"
#include "vmm/state.h"

#define MAX_PAGES   (64u << 20)  /* bytes of page addresses: of all rings together */
#define MAX_BACKEND (512u << 20) /* bytes */

struct saved_pd {
    uint32_t handle, context;
};
struct saved_mr {
    uint32_t handle, pd;
};
struct saved_cq {
    uint32_t handle, context, entries, pages;
    uint8_t armed;
    bool notify, failed;
};
struct saved_srq {
    uint32_t handle, pd, max_wr, max_sge, pages;
    bool failed;
};
struct saved_qp {
    uint32_t number, handle, pd, send_cq, recv_cq, srq; /* srq: or PVRDMA_NO_HANDLE */
    uint8_t type, state;
    uint32_t max_send_wr, max_recv_wr, max_send_sge, max_recv_sge;
    uint32_t send_chunks, pages, qkey;
    bool signal_all, failed;
};

struct pvr_saved {
    uint64_t command_slot, response_slot;
    uint32_t dsr_low, dsr_high, error, imr, icr, version, events_lost;
    bool ready, active, dsr_latched, request_latched;
    uint8_t contexts[PVRDMA_MAX_UAR]; /* 1: in use */
    uint32_t async_pages, notify_pages;
    uint32_t pd_count, mr_count, cq_count, srq_count, qp_count;
    struct saved_pd *pds;
    struct saved_mr *mrs;
    struct saved_cq *cqs;
    struct saved_srq *srqs;
    struct saved_qp *qps;
    uint32_t next_pd, next_mr, next_cq, next_srq, next_qp;
    GByteArray *pages; /* addresses: of the two device rings, then of each CQ, SRQ, QP */
    GByteArray *backend;
};

#define SAVED_U32(MEMBER) STATE_U32(struct pvr_saved, MEMBER, 1)

static const struct state_field pd_fields[] = {
    STATE_U32(struct saved_pd, handle, 1),
    STATE_U32(struct saved_pd, context, 1),
    STATE_END,
};
static const struct state_table pd_state = {"pvrdma-pd", 1, 1, pd_fields};

static const struct state_field mr_fields[] = {
    STATE_U32(struct saved_mr, handle, 1),
    STATE_U32(struct saved_mr, pd, 1),
    STATE_END,
};
static const struct state_table mr_state = {"pvrdma-mr", 1, 1, mr_fields};

static const struct state_field cq_fields[] = {
    STATE_U32(struct saved_cq, handle, 1),  STATE_U32(struct saved_cq, context, 1),
    STATE_U32(struct saved_cq, entries, 1), STATE_U32(struct saved_cq, pages, 1),
    STATE_U8(struct saved_cq, armed, 1),    STATE_BOOL(struct saved_cq, notify, 1),
    STATE_BOOL(struct saved_cq, failed, 1), STATE_END,
};
static const struct state_table cq_state = {"pvrdma-cq", 1, 1, cq_fields};

static const struct state_field srq_fields[] = {
    STATE_U32(struct saved_srq, handle, 1),
    STATE_U32(struct saved_srq, pd, 1),
    STATE_U32(struct saved_srq, max_wr, 1),
    STATE_U32(struct saved_srq, max_sge, 1),
    STATE_U32(struct saved_srq, pages, 1),
    STATE_BOOL(struct saved_srq, failed, 1),
    STATE_END,
};
static const struct state_table srq_state = {"pvrdma-srq", 1, 1, srq_fields};

static const struct state_field qp_fields[] = {
    STATE_U32(struct saved_qp, number, 1),       STATE_U32(struct saved_qp, handle, 1),
    STATE_U32(struct saved_qp, pd, 1),           STATE_U32(struct saved_qp, send_cq, 1),
    STATE_U32(struct saved_qp, recv_cq, 1),      STATE_U32(struct saved_qp, srq, 1),
    STATE_U8(struct saved_qp, type, 1),          STATE_U8(struct saved_qp, state, 1),
    STATE_U32(struct saved_qp, max_send_wr, 1),  STATE_U32(struct saved_qp, max_recv_wr, 1),
    STATE_U32(struct saved_qp, max_send_sge, 1), STATE_U32(struct saved_qp, max_recv_sge, 1),
    STATE_U32(struct saved_qp, send_chunks, 1),  STATE_U32(struct saved_qp, pages, 1),
    STATE_U32(struct saved_qp, qkey, 1),         STATE_BOOL(struct saved_qp, signal_all, 1),
    STATE_BOOL(struct saved_qp, failed, 1),      STATE_END,
};
static const struct state_table qp_state = {"pvrdma-qp", 1, 1, qp_fields};

static const struct state_field saved_fields[] = {
    STATE_U64(struct pvr_saved, command_slot, 1),
    STATE_U64(struct pvr_saved, response_slot, 1),
    SAVED_U32(dsr_low),
    SAVED_U32(dsr_high),
    SAVED_U32(error),
    SAVED_U32(imr),
    SAVED_U32(icr),
    SAVED_U32(version),
    SAVED_U32(events_lost),
    STATE_BOOL(struct pvr_saved, ready, 1),
    STATE_BOOL(struct pvr_saved, active, 1),
    STATE_BOOL(struct pvr_saved, dsr_latched, 1),
    STATE_BOOL(struct pvr_saved, request_latched, 1),
    STATE_BYTES(struct pvr_saved, contexts, 1),
    SAVED_U32(async_pages),
    SAVED_U32(notify_pages),
    SAVED_U32(next_pd),
    SAVED_U32(next_mr),
    SAVED_U32(next_cq),
    SAVED_U32(next_srq),
    SAVED_U32(next_qp),
    SAVED_U32(pd_count),
    STATE_STRUCTS(struct pvr_saved, pds, true, pd_count, PVRDMA_MAX_PD, &pd_state, 1),
    SAVED_U32(mr_count),
    STATE_STRUCTS(struct pvr_saved, mrs, true, mr_count, PVRDMA_MAX_MR, &mr_state, 1),
    SAVED_U32(cq_count),
    STATE_STRUCTS(struct pvr_saved, cqs, true, cq_count, PVRDMA_MAX_CQ, &cq_state, 1),
    SAVED_U32(srq_count),
    STATE_STRUCTS(struct pvr_saved, srqs, true, srq_count, PVRDMA_MAX_SRQ, &srq_state, 1),
    SAVED_U32(qp_count),
    STATE_STRUCTS(struct pvr_saved, qps, true, qp_count, PVRDMA_MAX_QP, &qp_state, 1),
    STATE_BUFFER(struct pvr_saved, pages, MAX_PAGES, 1),
    STATE_BUFFER(struct pvr_saved, backend, MAX_BACKEND, 1),
    STATE_END,
};
static const struct state_table saved_state = {"pvrdma-device", 1, 1, saved_fields};

#undef SAVED_U32

static const struct state_field fields[] = {
    STATE_STRUCT(struct pvrdma, function, &pci_function_state, 1),
    STATE_STRUCTS(struct pvrdma, saved, true, saved_count, 1, &saved_state, 1),
    STATE_END,
};
const struct state_table pvrdma_state = {"pvrdma", 1, 1, fields};

void pvr_state_init(struct pvrdma *pvrdma)
{
    struct pvr_saved *saved = g_new0(struct pvr_saved, 1);

    saved->pds = g_new0(struct saved_pd, PVRDMA_MAX_PD);
    saved->mrs = g_new0(struct saved_mr, PVRDMA_MAX_MR);
    saved->cqs = g_new0(struct saved_cq, PVRDMA_MAX_CQ);
    saved->srqs = g_new0(struct saved_srq, PVRDMA_MAX_SRQ);
    saved->qps = g_new0(struct saved_qp, PVRDMA_MAX_QP);
    pvrdma->saved = saved;
    pvrdma->saved_count = 1;
}

static void clear(struct pvr_saved *saved)
{
    g_clear_pointer(&saved->pages, g_byte_array_unref);
    g_clear_pointer(&saved->backend, g_byte_array_unref);
}

void pvr_state_finish(struct pvrdma *pvrdma)
{
    struct pvr_saved *saved = pvrdma->saved;

    if (!saved)
        return;
    clear(saved);
    g_free(saved->pds);
    g_free(saved->mrs);
    g_free(saved->cqs);
    g_free(saved->srqs);
    g_free(saved->qps);
    g_clear_pointer(&pvrdma->saved, g_free);
}

/* ---- saving ---- */

static void save_registers(const struct pvrdma *pvrdma, struct pvr_saved *saved)
{
    saved->command_slot = pvrdma->command_slot;
    saved->response_slot = pvrdma->response_slot;
    saved->dsr_low = pvrdma->dsr_low;
    saved->dsr_high = pvrdma->dsr_high;
    saved->error = pvrdma->error;
    saved->imr = pvrdma->imr;
    saved->icr = pvrdma->icr;
    saved->version = pvrdma->version;
    saved->events_lost = pvrdma->events_lost;
    saved->ready = pvrdma->ready;
    saved->active = pvrdma->active;
    saved->dsr_latched = pvrdma->dsr_latched;
    saved->request_latched = pvrdma->request_latched;
}

static uint32_t save_pages(struct pvr_saved *saved, const struct guest_pages *pages)
{
    if (pages->count)
        g_byte_array_append(saved->pages, (const uint8_t *)pages->gpa,
                            pages->count * sizeof(*pages->gpa));
    return pages->count;
}

static void save_domains(struct pvrdma *pvrdma, struct pvr_saved *saved)
{
    saved->pd_count = saved->mr_count = 0;
    for (uint32_t i = 0; i < pvrdma->pds.size; i++) {
        const struct pvr_pd *pd = pvr_handles_get(&pvrdma->pds, i);

        if (pd)
            saved->pds[saved->pd_count++] = (struct saved_pd){i, pd->uar->page};
    }
    for (uint32_t i = 0; i < pvrdma->mrs.size; i++) {
        const struct pvr_mr *mr = pvr_handles_get(&pvrdma->mrs, i);

        if (mr)
            saved->mrs[saved->mr_count++] = (struct saved_mr){i, mr->pd->handle};
    }
}

static void save_cqs(struct pvrdma *pvrdma, struct pvr_saved *saved)
{
    saved->cq_count = 0;
    for (uint32_t i = 0; i < pvrdma->cqs.size; i++) {
        const struct pvr_cq *cq = pvr_handles_get(&pvrdma->cqs, i);

        if (cq)
            saved->cqs[saved->cq_count++] = (struct saved_cq){
                i,         cq->uar->page, cq->ring.entries, save_pages(saved, &cq->pages),
                cq->armed, cq->notify,    cq->failed,
            };
    }
}

static void save_srqs(struct pvrdma *pvrdma, struct pvr_saved *saved)
{
    saved->srq_count = 0;
    for (uint32_t i = 0; i < pvrdma->srqs.size; i++) {
        const struct pvr_srq *srq = pvr_handles_get(&pvrdma->srqs, i);

        if (srq)
            saved->srqs[saved->srq_count++] = (struct saved_srq){
                i,
                srq->pd->handle,
                srq->ring.entries,
                srq->max_sge,
                save_pages(saved, &srq->pages),
                srq->failed,
            };
    }
}

static void save_qps(struct pvrdma *pvrdma, struct pvr_saved *saved)
{
    saved->qp_count = 0;
    for (uint32_t i = 0; i < pvrdma->qps.size; i++) {
        const struct pvr_qp *qp = pvr_handles_get(&pvrdma->qps, i);

        if (!qp)
            continue;
        saved->qps[saved->qp_count++] = (struct saved_qp){
            .number = i,
            .handle = qp->handle,
            .pd = qp->pd->handle,
            .send_cq = qp->send_cq->handle,
            .recv_cq = qp->recv_cq->handle,
            .srq = qp->srq ? qp->srq->handle : PVRDMA_NO_HANDLE,
            .type = qp->type,
            .state = qp->state,
            .max_send_wr = qp->cap.max_send_wr,
            .max_recv_wr = qp->cap.max_recv_wr,
            .max_send_sge = qp->cap.max_send_sge,
            .max_recv_sge = qp->cap.max_recv_sge,
            .send_chunks = qp->send_chunks,
            .pages = save_pages(saved, &qp->pages),
            .qkey = qp->qkey,
            .signal_all = qp->signal_all,
            .failed = qp->failed,
        };
    }
}

void pvrdma_before_save(struct device *device)
{
    struct pvrdma *pvrdma = (struct pvrdma *)device;
    struct pvr_saved *saved = pvrdma->saved;

    pci_function_before_save(&pvrdma->function);
    pthread_mutex_lock(&pvrdma->lock);
    clear(saved);
    saved->pages = g_byte_array_new();
    saved->backend = g_byte_array_new();
    save_registers(pvrdma, saved);
    for (uint32_t i = 0; i < PVRDMA_MAX_UAR; i++)
        saved->contexts[i] = pvrdma->uars[i].used;
    saved->async_pages = save_pages(saved, &pvrdma->async_pages);
    saved->notify_pages = save_pages(saved, &pvrdma->notify_pages);
    save_domains(pvrdma, saved);
    save_cqs(pvrdma, saved);
    save_srqs(pvrdma, saved);
    save_qps(pvrdma, saved);
    saved->next_pd = pvrdma->pds.next;
    saved->next_mr = pvrdma->mrs.next;
    saved->next_cq = pvrdma->cqs.next;
    saved->next_srq = pvrdma->srqs.next;
    saved->next_qp = pvrdma->qps.next;
    rdma_save(pvrdma->rdma, saved->backend);
    pthread_mutex_unlock(&pvrdma->lock);
}

/* ---- loading ---- */

struct reader {
    struct pvrdma *pvrdma;
    const struct pvr_saved *saved;
    size_t taken; /* bytes of the page addresses */
    GError **error;
};

static bool refuse(struct reader *reader, const char *what, uint32_t handle)
{
    g_set_error(reader->error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                "%s: the saved %s %u does not fit this device or the other saved objects",
                reader->pvrdma->function.device.name, what, handle);
    return false;
}

static bool load_pages(struct reader *reader, struct guest_pages *pages, uint32_t count,
                       uint32_t least)
{
    const GByteArray *all = reader->saved->pages;
    size_t size = (size_t)count * sizeof(uint64_t);
    g_autofree uint64_t *gpa = NULL;

    if (count < least || count > PVR_MAX_PAGES || !all || size > all->len - reader->taken)
        return false;
    gpa = g_memdup2(all->data + reader->taken, size);
    reader->taken += size;
    return !guest_pages_restore(pages, pvrdma_dma(reader->pvrdma), gpa, count);
}

static uint32_t pages_of(const struct ring *ring)
{
    return ring->first_page +
           (uint32_t)(((uint64_t)ring->entries * ring->stride + PVR_PAGE_SIZE - 1) / PVR_PAGE_SIZE);
}

static struct pvr_uar *context(struct reader *reader, uint32_t page)
{
    if (page >= PVRDMA_MAX_UAR || !reader->pvrdma->uars[page].used)
        return NULL;
    return &reader->pvrdma->uars[page];
}

static bool load_domains(struct reader *reader)
{
    struct pvrdma *pvrdma = reader->pvrdma;
    const struct pvr_saved *saved = reader->saved;

    for (uint32_t i = 0; i < saved->pd_count; i++) {
        const struct saved_pd *from = &saved->pds[i];
        struct pvr_uar *uar = context(reader, from->context);
        struct rdma_pd *backend = rdma_find_pd(pvrdma->rdma, from->handle);
        struct pvr_pd *pd = g_new0(struct pvr_pd, 1);

        *pd = (struct pvr_pd){from->handle, uar, backend};
        if (!uar || !backend || !pvr_handles_set(&pvrdma->pds, from->handle, pd)) {
            g_free(pd);
            return refuse(reader, "protection domain", from->handle);
        }
    }
    for (uint32_t i = 0; i < saved->mr_count; i++) {
        const struct saved_mr *from = &saved->mrs[i];
        struct pvr_pd *pd = pvr_handles_get(&pvrdma->pds, from->pd);
        struct rdma_mr *backend = rdma_find_mr(pvrdma->rdma, from->handle);
        struct pvr_mr *mr = g_new0(struct pvr_mr, 1);

        *mr = (struct pvr_mr){from->handle, pd, backend};
        if (!pd || !backend || rdma_mr_pd(backend) != pd->pd ||
            !pvr_handles_set(&pvrdma->mrs, from->handle, mr)) {
            g_free(mr);
            return refuse(reader, "memory region", from->handle);
        }
    }
    return true;
}

static bool is_ring_size(uint32_t entries, uint32_t max)
{
    return entries && !(entries & (entries - 1)) && entries <= max;
}

static bool load_cqs(struct reader *reader)
{
    struct pvrdma *pvrdma = reader->pvrdma;

    for (uint32_t i = 0; i < reader->saved->cq_count; i++) {
        const struct saved_cq *from = &reader->saved->cqs[i];
        struct pvr_cq *cq = g_new0(struct pvr_cq, 1);

        *cq = (struct pvr_cq){
            .handle = from->handle,
            .uar = context(reader, from->context),
            .cq = rdma_find_cq(pvrdma->rdma, from->handle),
            .armed = MIN(from->armed, PVR_ARMED),
            .notify = from->notify,
            .failed = from->failed,
        };
        pvrdma->notify |= from->notify;
        pvr_cq_lay_out(cq, from->entries);
        if (!cq->uar || !cq->cq || !is_ring_size(from->entries, pvrdma->limits.max_cqe) ||
            !load_pages(reader, &cq->pages, from->pages, pages_of(&cq->ring)) ||
            !pvr_handles_set(&pvrdma->cqs, from->handle, cq)) {
            guest_pages_clear(&cq->pages);
            g_free(cq);
            return refuse(reader, "completion queue", from->handle);
        }
        pvr_doorbell_open_cq(pvrdma, cq);
    }
    return true;
}

static bool load_srqs(struct reader *reader)
{
    struct pvrdma *pvrdma = reader->pvrdma;

    for (uint32_t i = 0; i < reader->saved->srq_count; i++) {
        const struct saved_srq *from = &reader->saved->srqs[i];
        struct pvr_srq *srq = g_new0(struct pvr_srq, 1);

        srq->handle = from->handle;
        srq->pd = pvr_handles_get(&pvrdma->pds, from->pd);
        srq->srq = rdma_find_srq(pvrdma->rdma, from->handle);
        srq->failed = from->failed;
        if (from->max_sge <= pvrdma->limits.max_srq_sge)
            pvr_srq_lay_out(srq, from->max_wr, from->max_sge);
        if (!srq->pd || !srq->srq || !srq->ring.stride ||
            !is_ring_size(from->max_wr, pvrdma->limits.max_srq_wr) ||
            !load_pages(reader, &srq->pages, from->pages, pages_of(&srq->ring)) ||
            !pvr_handles_set(&pvrdma->srqs, from->handle, srq)) {
            guest_pages_clear(&srq->pages);
            g_free(srq);
            return refuse(reader, "shared receive queue", from->handle);
        }
        g_ptr_array_add(srq->pd->uar->srqs, srq);
    }
    return true;
}

static bool qp_sizes_fit(struct pvrdma *pvrdma, const struct saved_qp *from)
{
    const struct rdma_limits *limits = &pvrdma->limits;

    return from->type <= RDMA_QP_UD && from->state <= RDMA_QPS_ERR &&
           is_ring_size(from->max_send_wr, limits->max_qp_wr) &&
           from->max_send_sge <= limits->max_sge && from->max_recv_sge <= limits->max_sge &&
           (from->srq != PVRDMA_NO_HANDLE || is_ring_size(from->max_recv_wr, limits->max_qp_wr)) &&
           from->send_chunks < PVR_MAX_PAGES;
}

static bool load_qp(struct reader *reader, const struct saved_qp *from, struct pvr_qp *qp)
{
    struct pvrdma *pvrdma = reader->pvrdma;
    bool has_srq = from->srq != PVRDMA_NO_HANDLE;
    uint32_t least;

    *qp = (struct pvr_qp){
        .number = from->number,
        .handle = from->handle,
        .pd = pvr_handles_get(&pvrdma->pds, from->pd),
        .send_cq = pvr_handles_get(&pvrdma->cqs, from->send_cq),
        .recv_cq = pvr_handles_get(&pvrdma->cqs, from->recv_cq),
        .srq = has_srq ? pvr_handles_get(&pvrdma->srqs, from->srq) : NULL,
        .qp = rdma_find_qp(pvrdma->rdma, from->number),
        .type = from->type,
        .state = from->state,
        .cap = {from->max_send_wr, from->max_recv_wr, from->max_send_sge, from->max_recv_sge},
        .send_chunks = from->send_chunks,
        .qkey = from->qkey,
        .signal_all = from->signal_all,
        .failed = from->failed,
    };
    if (!pvr_qp_parts_fit(qp) || (has_srq && !qp->srq) || !qp->qp || !qp_sizes_fit(pvrdma, from) ||
        (pvrdma->version >= PVR_VERSION_HANDLES && from->handle != from->number))
        return false;
    pvr_qp_lay_out(qp);
    least = qp->rq.entries ? pages_of(&qp->rq) : 1 + qp->send_chunks;
    return pages_of(&qp->sq) <= 1 + qp->send_chunks &&
           load_pages(reader, &qp->pages, from->pages, least) &&
           pvr_handles_set(&pvrdma->qps, from->number, qp);
}

static bool load_qps(struct reader *reader)
{
    for (uint32_t i = 0; i < reader->saved->qp_count; i++) {
        struct pvr_qp *qp = g_new0(struct pvr_qp, 1);

        if (!load_qp(reader, &reader->saved->qps[i], qp)) {
            guest_pages_clear(&qp->pages);
            g_free(qp);
            return refuse(reader, "queue pair", reader->saved->qps[i].number);
        }
        pvr_qp_add(qp);
    }
    return true;
}

static bool load_ring(struct reader *reader, struct guest_pages *pages, struct ring *ring,
                      uint32_t count, uint32_t stride)
{
    if (count > PVR_PAGES_A_TABLE || !load_pages(reader, pages, count, 2))
        return false;
    *ring = (struct ring){pages, 1, (count - 1) * (PVR_PAGE_SIZE / stride), stride, false};
    return true;
}

static bool load_region(struct reader *reader)
{
    struct pvrdma *pvrdma = reader->pvrdma;
    const struct pvr_saved *saved = reader->saved;
    struct dma *dma = pvrdma_dma(pvrdma);

    if (!saved->ready)
        return !saved->active || refuse(reader, "device state", 0);
    if (saved->version < PVR_VERSION_MIN || saved->version > PVR_VERSION ||
        saved->command_slot % PVR_PAGE_SIZE || saved->response_slot % PVR_PAGE_SIZE ||
        !dma_map_ring(dma, saved->command_slot, PVR_PAGE_SIZE) ||
        !dma_map_ring(dma, saved->response_slot, PVR_PAGE_SIZE) ||
        !load_ring(reader, &pvrdma->async_pages, &pvrdma->async_ring, saved->async_pages,
                   sizeof(struct pvr_eqe)) ||
        !load_ring(reader, &pvrdma->notify_pages, &pvrdma->notify_ring, saved->notify_pages,
                   sizeof(struct pvr_cqne)))
        return refuse(reader, "shared region of driver version", saved->version);
    pvrdma->version = saved->version;
    pvrdma->command_slot = saved->command_slot;
    pvrdma->response_slot = saved->response_slot;
    pvrdma->ready = true;
    pvrdma->active = saved->active;
    return true;
}

static void load_registers(struct pvrdma *pvrdma, const struct pvr_saved *saved)
{
    pvrdma->dsr_low = saved->dsr_low;
    pvrdma->dsr_high = saved->dsr_high;
    pvrdma->error = saved->error;
    pvrdma->imr = saved->imr;
    pvrdma->icr = saved->icr;
    pvrdma->events_lost = saved->events_lost;
    pvrdma->dsr_latched = saved->dsr_latched;
    pvrdma->request_latched = saved->request_latched;
}

static void load_next(struct handles *handles, uint32_t next)
{
    if (next >= handles->first && next < handles->size)
        handles->next = next;
}

static bool load_all(struct reader *reader)
{
    struct pvrdma *pvrdma = reader->pvrdma;
    const struct pvr_saved *saved = reader->saved;

    pvrdma_drop(pvrdma);
    load_registers(pvrdma, saved);
    if (!load_region(reader))
        return false;
    for (uint32_t i = 0; i < PVRDMA_MAX_UAR; i++)
        if (saved->contexts[i] && pvr_doorbell_open_context(pvrdma, i))
            return refuse(reader, "context", i);
    if (!saved->backend ||
        !rdma_load(pvrdma->rdma, saved->backend->data, saved->backend->len, reader->error))
        return saved->backend ? false : refuse(reader, "backend", 0);
    load_next(&pvrdma->pds, saved->next_pd);
    load_next(&pvrdma->mrs, saved->next_mr);
    load_next(&pvrdma->cqs, saved->next_cq);
    load_next(&pvrdma->srqs, saved->next_srq);
    load_next(&pvrdma->qps, saved->next_qp);
    return load_domains(reader) && load_cqs(reader) && load_srqs(reader) && load_qps(reader);
}

bool pvrdma_after_load(struct device *device, GError **error)
{
    struct pvrdma *pvrdma = (struct pvrdma *)device;
    struct reader reader = {pvrdma, pvrdma->saved, 0, error};
    bool done;

    if (!pci_function_after_load(&pvrdma->function, error))
        return false;
    pthread_mutex_lock(&pvrdma->lock);
    done = load_all(&reader);
    if (!done)
        pvrdma_drop(pvrdma);
    clear(pvrdma->saved);
    pthread_mutex_unlock(&pvrdma->lock);
    return done;
}
