/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loopback_state - saving and loading an adapter with all that is under way (backends/rdma/loopback.h)
 *
 * The stream is a run of records: u8 kind, u32 length, a table (vmm/state.h) of that length; the adapter
 * first, then protection domains, completion queues, shared receive queues, regions, queue pairs
 * (loopback_saved.h). Loading makes objects through the same calls as a
 * guest's commands do, so what these check need not be checked here again.
 *
 * Time does not pass while saved: a wait goes on with what was left of it.
 */
#include <errno.h>
#include <gio/gio.h>
#include <string.h>

#include "backends/rdma/loopback_saved.h"

enum record {
    RECORD_ADAPTER = 1,
    RECORD_PD,
    RECORD_CQ,
    RECORD_SRQ,
    RECORD_MR,
    RECORD_QP,
};

/* Room for what a record may have; used for one object after the other. */
typedef struct room {
    struct saved_adapter adapter;
    struct saved_cq cq;
    struct saved_srq srq;
    struct saved_mr mr;
    struct saved_qp qp;
} room_t;

static struct room *room_create(void)
{
    struct room *room = g_new0(struct room, 1);

    room->cq.completions = g_new0(struct rdma_wc, SAVED_MAX_CQE);
    room->srq.receives = room->qp.receives = g_new0(struct saved_recv, SAVED_MAX_WR);
    room->qp.sends = g_new0(struct saved_send, SAVED_MAX_WR);
    room->adapter.keys = g_byte_array_new();
    room->mr.pages = g_byte_array_new();
    return room;
}

static void room_destroy(room_t *room)
{
    g_free(room->cq.completions);
    g_free(room->qp.receives);
    g_free(room->qp.sends);
    g_byte_array_unref(room->adapter.keys);
    g_byte_array_unref(room->mr.pages);
    g_free(room);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(room_t, room_destroy)

/* ---- saving ---- */

static void append(GByteArray *out, enum record record, const struct state_table *table,
                   const void *object)
{
    uint8_t head[5] = {record};
    guint at = out->len;

    g_byte_array_append(out, head, sizeof(head));
    state_save(table, object, out);
    uint32_t length = GUINT32_TO_LE(out->len - at - (guint)sizeof(head));
    memcpy(out->data + at + 1, &length, sizeof(length));
}

static void save_adapter(struct loopback *loopback, struct saved_adapter *saved, GByteArray *out)
{
    struct rdma *rdma = &loopback->rdma;

    saved->link_up = rdma->link_up;
    saved->link_mtu = rdma->link_mtu;
    saved->notes = rdma->port.notes;
    saved->next_qpn = loopback->next_qpn;
    saved->gid_count = MIN(rdma->limits.gid_entries, SAVED_MAX_GIDS);
    for (unsigned i = 0; i < saved->gid_count; i++) {
        struct saved_gid *gid = &saved->gids[i];
        gid->used = rdma->gids[i].used;
        gid->type = rdma->gids[i].type;
        memcpy(gid->gid, rdma->gids[i].gid.raw, sizeof(gid->gid));
        memcpy(gid->mac, rdma->gids[i].mac, sizeof(gid->mac));
    }
    g_byte_array_set_size(saved->keys, 0);
    for (uint32_t i = 0; i < loopback->mr_room; i++)
        g_byte_array_append(saved->keys, &loopback->mr_slots[i].key, 1);
    append(out, RECORD_ADAPTER, &loopback_adapter_table, saved);
}

static void save_cq(const struct loopback_cq *cq, struct saved_cq *saved, GByteArray *out)
{
    saved->number = cq->cq.object.number;
    saved->notes = cq->cq.object.notes;
    saved->entries = cq->cq.entries;
    saved->tell = cq->cq.tell;
    saved->overflown = cq->overflown;
    saved->count = cq->count;
    for (uint32_t i = 0; i < cq->count; i++)
        saved->completions[i] = cq->ring[(cq->head + i) % cq->room];
    append(out, RECORD_CQ, &loopback_cq_table, saved);
}

static uint32_t save_receives(const struct work_queue *queue, struct saved_recv *saved)
{
    for (uint32_t i = 0; i < queue->count; i++) {
        const struct recv_wqe *wqe = work_queue_at(queue, i);
        saved[i].wr_id = wqe->wr_id;
        saved[i].status = wqe->status;
        saved[i].num_sge = wqe->num_sge;
        memcpy(saved[i].sge, wqe->sge, wqe->num_sge * sizeof(wqe->sge[0]));
    }
    return queue->count;
}

static void save_srq(const struct loopback_srq *srq, struct saved_srq *saved, GByteArray *out)
{
    saved->number = srq->srq.object.number;
    saved->notes = srq->srq.object.notes;
    saved->pd = srq->srq.pd->object.number;
    saved->max_wr = srq->srq.max_wr;
    saved->max_sge = srq->srq.max_sge;
    saved->limit = srq->srq.limit;
    saved->wants_room = srq->srq.wants_room;
    saved->starved = srq->starved;
    saved->count = save_receives(&srq->rq, saved->receives);
    append(out, RECORD_SRQ, &loopback_srq_table, saved);
}

static void save_mr(const struct loopback_mr *mr, struct saved_mr *saved, GByteArray *out)
{
    const struct rdma_mr_attributes *a = &mr->mr.attributes;

    saved->number = mr->mr.object.number;
    saved->pd = mr->mr.pd->object.number;
    saved->type = a->type;
    saved->access = a->access;
    saved->key = mr->mr.rkey;
    saved->room = mr->room;
    saved->start = a->start;
    saved->length = a->length;
    saved->valid = mr->valid;
    g_byte_array_set_size(saved->pages, 0);
    for (uint32_t i = 0; a->type != RDMA_MR_DMA && i < a->page_count; i++) {
        uint64_t page = GUINT64_TO_LE(a->pages[i]);
        g_byte_array_append(saved->pages, (const uint8_t *)&page, sizeof(page));
    }
    append(out, RECORD_MR, &loopback_mr_table, saved);
}

static void save_send(const struct send_wqe *wqe, struct saved_send *saved)
{
    const struct rdma_send_wr *wr = &wqe->wr;

    memset(saved, 0, sizeof(*saved));
    saved->wr_id = wr->wr_id;
    saved->opcode = wr->opcode;
    saved->flags = wr->flags;
    saved->imm_or_rkey = wr->imm_or_rkey;
    saved->status = wqe->status;
    saved->num_sge = wr->num_sge;
    memcpy(saved->sge, wqe->sge, wr->num_sge * sizeof(wqe->sge[0]));
    if (wqe->status)
        return;
    switch (wr->opcode) {
    case RDMA_WR_WRITE:
    case RDMA_WR_WRITE_WITH_IMM:
    case RDMA_WR_READ:
        saved->addr = wr->remote.addr;
        saved->rkey = wr->remote.rkey;
        break;
    case RDMA_WR_COMPARE_SWAP:
    case RDMA_WR_FETCH_ADD:
        saved->addr = wr->atomic.addr;
        saved->rkey = wr->atomic.rkey;
        saved->compare_add = wr->atomic.compare_add;
        saved->swap = wr->atomic.swap;
        break;
    case RDMA_WR_FAST_REG:
        saved->addr = wr->fast_reg.iova;
        saved->length = wr->fast_reg.length;
        saved->rkey = wr->fast_reg.rkey;
        saved->access = wr->fast_reg.access;
        saved->page_count = wr->fast_reg.page_count;
        memcpy(saved->pages, wr->fast_reg.pages, saved->page_count * sizeof(uint64_t));
        break;
    default:
        saved->qpn = wr->ud.qpn;
        saved->qkey = wr->ud.qkey;
        saved->av = wr->ud.av;
    }
}

static void save_qp_identity(const struct rdma_qp *qp, struct saved_qp *saved)
{
    const struct rdma_qp_create *c = &qp->create;

    saved->number = qp->object.number;
    saved->notes = qp->object.notes;
    saved->pd = qp->pd->object.number;
    saved->type = c->type;
    saved->send_cq = c->send_cq->object.number;
    saved->recv_cq = c->recv_cq->object.number;
    saved->has_srq = c->srq;
    saved->srq = c->srq ? c->srq->object.number : 0;
    saved->qpn = qp->qpn;
    saved->max_send_wr = c->max_send_wr;
    saved->max_recv_wr = c->max_recv_wr;
    saved->max_send_sge = c->max_send_sge;
    saved->max_recv_sge = c->max_recv_sge;
    saved->signal_all = c->signal_all;
    saved->wants_room = qp->wants_room;
    saved->attributes = qp->attributes;
}

static void save_qp(const struct loopback_qp *qp, struct saved_qp *saved, GByteArray *out)
{
    int64_t now = loop_now_ns();

    save_qp_identity(&qp->qp, saved);
    saved->started = qp->started;
    saved->draining = qp->draining;
    saved->receiving = qp->receiving;
    saved->established = qp->established;
    saved->done = qp->done;
    saved->retries_left = qp->retries_left;
    saved->rnr_left = qp->rnr_left;
    saved->wait = qp->wait;
    saved->wait_left =
        qp->deadline == INT64_MAX ? UINT64_MAX : (uint64_t)MAX(qp->deadline - now, 0);
    saved->receive.num_sge = 0;
    if (qp->receiving) {
        saved->receive.wr_id = qp->receive.wr_id;
        saved->receive.status = qp->receive.status;
        saved->receive.num_sge = qp->receive.num_sge;
        memcpy(saved->receive.sge, qp->receive.sge, sizeof(saved->receive.sge));
    }
    saved->send_count = qp->sq.count;
    for (uint32_t i = 0; i < qp->sq.count; i++)
        save_send(work_queue_at(&qp->sq, i), &saved->sends[i]);
    saved->recv_count = save_receives(&qp->rq, saved->receives);
    append(out, RECORD_QP, &loopback_qp_table, saved);
}

/* The objects of a kind, by number: the same state gives the same stream. */
static GList *objects_of(struct rdma *rdma, enum rdma_object_kind kind)
{
    return g_hash_table_get_values(rdma->objects[kind]);
}

static gint by_number(gconstpointer a, gconstpointer b)
{
    uint32_t x = ((const struct rdma_object *)a)->number;
    uint32_t y = ((const struct rdma_object *)b)->number;

    return x < y ? -1 : x > y;
}

void loopback_save(struct rdma *rdma, GByteArray *out)
{
    g_autoptr(room_t) room = room_create();

    save_adapter(loopback_of(rdma), &room->adapter, out);
    for (unsigned kind = RDMA_OBJECT_PD; kind < RDMA_OBJECT_KINDS; kind++) {
        /* In the order in which loading needs them. */
        static const enum rdma_object_kind order[] = {
            RDMA_OBJECT_PD, RDMA_OBJECT_CQ, RDMA_OBJECT_SRQ, RDMA_OBJECT_MR, RDMA_OBJECT_QP};
        enum rdma_object_kind next = order[kind - RDMA_OBJECT_PD];
        g_autoptr(GList) objects = g_list_sort(objects_of(rdma, next), by_number);
        for (GList *link = objects; link; link = link->next) {
            void *object = link->data;
            struct saved_pd pd = {((struct rdma_object *)object)->number};
            if (next == RDMA_OBJECT_PD)
                append(out, RECORD_PD, &loopback_pd_table, &pd);
            else if (next == RDMA_OBJECT_CQ)
                save_cq(object, &room->cq, out);
            else if (next == RDMA_OBJECT_SRQ)
                save_srq(object, &room->srq, out);
            else if (next == RDMA_OBJECT_MR)
                save_mr(object, &room->mr, out);
            else
                save_qp(object, &room->qp, out);
        }
    }
}

/* ---- loading ---- */

static bool refuse(GError **error, const char *what, uint32_t number, const char *why)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "rdma-loopback: %s %u: %s", what,
                number, why);
    return false;
}

static bool load_adapter(struct loopback *loopback, const struct saved_adapter *saved,
                         GError **error)
{
    struct rdma *rdma = &loopback->rdma;

    if (saved->next_qpn < 2 || saved->next_qpn > 0xffffff ||
        saved->gid_count > rdma->limits.gid_entries)
        return refuse(error, "adapter", 0, "its next QPN or its GIDs are out of range");
    for (unsigned i = 0; i < saved->gid_count; i++) {
        const struct saved_gid *gid = &saved->gids[i];
        if (gid->used && gid->type != RDMA_GID_ROCE_V1 && gid->type != RDMA_GID_ROCE_V2)
            return refuse(error, "GID", i, "of an unknown type");
        rdma->gids[i].used = gid->used;
        rdma->gids[i].type = gid->type;
        memcpy(rdma->gids[i].gid.raw, gid->gid, sizeof(gid->gid));
        memcpy(rdma->gids[i].mac, gid->mac, sizeof(gid->mac));
    }
    rdma->link_up = saved->link_up;
    rdma->link_mtu = saved->link_mtu;
    loopback->next_qpn = saved->next_qpn;
    if (saved->notes)
        rdma_notify(&rdma->port, saved->notes);
    return true;
}

static bool load_cq(struct rdma *rdma, const struct saved_cq *saved, GError **error)
{
    struct rdma_cq *cq;

    if (saved->count > saved->entries || rdma_create_cq(rdma, saved->number, saved->entries, &cq))
        return refuse(error, "cq", saved->number, "can't be made as it was");
    for (uint32_t i = 0; i < saved->count; i++) {
        const struct rdma_wc *wc = &saved->completions[i];
        if (wc->status > RDMA_WC_GENERAL_ERR || wc->opcode > RDMA_WC_RECV_WRITE_WITH_IMM)
            return refuse(error, "cq", saved->number, "an impossible completion");
        loopback_complete(cq, wc);
    }
    cq->tell = saved->tell;
    ((struct loopback_cq *)cq)->overflown = saved->overflown;
    if (saved->notes)
        rdma_notify(&cq->object, saved->notes);
    return true;
}

static bool load_receives(struct work_queue *queue, const struct saved_recv *saved, uint32_t count,
                          uint32_t max_sge)
{
    for (uint32_t i = 0; i < count; i++) {
        struct rdma_recv_wr wr = {saved[i].wr_id, saved[i].num_sge, saved[i].sge};
        if (saved[i].status > RDMA_WC_GENERAL_ERR || work_queue_add_recv(queue, &wr, max_sge))
            return false;
        struct recv_wqe *wqe = work_queue_at(queue, queue->count - 1);
        if (saved[i].status) {
            wqe->status = saved[i].status;
            wqe->num_sge = 0;
        }
    }
    return true;
}

static bool load_srq(struct rdma *rdma, const struct saved_srq *saved, GError **error)
{
    struct rdma_pd *pd = rdma_find_pd(rdma, saved->pd);
    struct rdma_srq *base;

    if (!pd || rdma_create_srq(pd, saved->number, saved->max_wr, saved->max_sge, &base))
        return refuse(error, "srq", saved->number, "can't be made as it was");
    struct loopback_srq *srq = (struct loopback_srq *)base;
    if (!load_receives(&srq->rq, saved->receives, saved->count, saved->max_sge) ||
        saved->limit > saved->max_wr)
        return refuse(error, "srq", saved->number, "more receives or limit than it can have");
    base->limit = saved->limit;
    base->wants_room = saved->wants_room;
    srq->starved = saved->starved;
    if (saved->notes)
        rdma_notify(&base->object, saved->notes);
    return true;
}

static void mr_made(void *opaque, struct rdma_mr *mr, int error)
{
    *(struct rdma_mr **)opaque = mr;
}

static uint64_t *pages_of(const struct saved_mr *saved, uint32_t count)
{
    uint64_t *pages = g_try_new(uint64_t, MAX(count, 1));

    for (uint32_t i = 0; pages && i < count; i++) {
        memcpy(&pages[i], saved->pages->data + i * sizeof(uint64_t), sizeof(uint64_t));
        pages[i] = GUINT64_FROM_LE(pages[i]);
    }
    return pages;
}

static bool load_mr(struct rdma *rdma, const struct saved_mr *saved, GError **error)
{
    struct loopback *loopback = loopback_of(rdma);
    struct rdma_pd *pd = rdma_find_pd(rdma, saved->pd);
    uint32_t count = saved->pages->len / sizeof(uint64_t);
    struct rdma_mr_attributes a = {
        .type = saved->type,
        .access = saved->type == RDMA_MR_FAST ? 0 : saved->access,
        .start = saved->start,
        .length = saved->length,
        .page_count = saved->type == RDMA_MR_FAST ? saved->room : count,
    };
    struct rdma_mr *mr = NULL;

    if (!pd || !(saved->key >> 8))
        return refuse(error, "mr", saved->number, "has no protection domain or key");
    g_autofree uint64_t *pages = pages_of(saved, count);
    if (!pages)
        return refuse(error, "mr", saved->number, "too little memory");
    if (saved->type == RDMA_MR_USER)
        a.pages = g_steal_pointer(&pages);
    loopback->load_key = saved->key;
    int ret = rdma_create_mr(pd, saved->number, &a, mr_made, &mr);
    loopback->load_key = 0;
    if (ret || !mr)
        return refuse(error, "mr", saved->number, "can't be made as it was");
    if (saved->type != RDMA_MR_FAST || !saved->valid)
        return true;
    struct rdma_send_wr wr = {
        .fast_reg = {saved->start, saved->length, pages, count, saved->access, saved->key}};
    return loopback_fast_register(loopback, pd, &wr) ||
           refuse(error, "mr", saved->number, "its pages are not as registered");
}

static bool load_sends(struct loopback_qp *qp, const struct saved_qp *saved)
{
    for (uint32_t i = 0; i < saved->send_count; i++) {
        const struct saved_send *send = &saved->sends[i];
        struct rdma_send_wr wr = {
            .wr_id = send->wr_id,
            .opcode = send->opcode,
            .flags = send->flags,
            .imm_or_rkey = send->imm_or_rkey,
            .num_sge = send->num_sge,
            .sge = send->sge,
        };
        switch (send->opcode) {
        case RDMA_WR_WRITE:
        case RDMA_WR_WRITE_WITH_IMM:
        case RDMA_WR_READ:
            wr.remote.addr = send->addr;
            wr.remote.rkey = send->rkey;
            break;
        case RDMA_WR_COMPARE_SWAP:
        case RDMA_WR_FETCH_ADD:
            wr.atomic.addr = send->addr;
            wr.atomic.rkey = send->rkey;
            wr.atomic.compare_add = send->compare_add;
            wr.atomic.swap = send->swap;
            break;
        case RDMA_WR_FAST_REG:
            wr.fast_reg.iova = send->addr;
            wr.fast_reg.length = send->length;
            wr.fast_reg.pages = send->pages;
            wr.fast_reg.page_count = send->page_count;
            wr.fast_reg.access = send->access;
            wr.fast_reg.rkey = send->rkey;
            break;
        default:
            wr.ud.qpn = send->qpn;
            wr.ud.qkey = send->qkey;
            wr.ud.av = send->av;
        }
        if (send->status > RDMA_WC_GENERAL_ERR || loopback_post_send(&qp->qp, &wr))
            return false;
        struct send_wqe *wqe = work_queue_at(&qp->sq, qp->sq.count - 1);
        if (send->status) {
            wqe->status = send->status;
            wqe->wr.num_sge = 0;
        }
    }
    return true;
}

/* What the engine relies on in the request at the head, and in attributes. */
static bool qp_is_possible(const struct rdma *rdma, const struct loopback_qp *qp,
                           const struct saved_qp *saved)
{
    const struct send_wqe *head = saved->send_count ? work_queue_at(&qp->sq, 0) : NULL;

    if (saved->attributes.state > RDMA_QPS_ERR ||
        !rdma_qp_values_are_valid(rdma, &saved->attributes,
                                  ~(uint32_t)(RDMA_QP_PORT | RDMA_QP_PATH_MTU)))
        return false;
    if (saved->started || saved->done) {
        if (!head || head->status || saved->done > loopback_sge_length(head->sge, head->wr.num_sge))
            return false;
    }
    if ((saved->send_count && saved->attributes.state < RDMA_QPS_RTS) ||
        ((saved->recv_count || saved->receiving) && saved->attributes.state == RDMA_QPS_RESET))
        return false;
    return saved->wait <= LOOPBACK_WAIT_RECEIVE && saved->receive.status <= RDMA_WC_GENERAL_ERR;
}

static void load_progress(struct loopback_qp *qp, const struct saved_qp *saved)
{
    int64_t now = loop_now_ns();

    qp->started = saved->started;
    qp->draining = saved->draining;
    qp->receiving = saved->receiving;
    qp->established = saved->established;
    qp->done = saved->done;
    qp->retries_left = saved->retries_left;
    qp->rnr_left = saved->rnr_left;
    qp->wait = saved->wait;
    qp->deadline = saved->wait_left > (uint64_t)(INT64_MAX - now) ? INT64_MAX
                                                                  : now + (int64_t)saved->wait_left;
    qp->receive.wr_id = saved->receive.wr_id;
    qp->receive.status = saved->receive.status;
    qp->receive.num_sge = saved->receive.num_sge;
    memcpy(qp->receive.sge, saved->receive.sge, sizeof(qp->receive.sge));
}

static bool load_qp(struct rdma *rdma, const struct saved_qp *saved, GError **error)
{
    struct rdma_pd *pd = rdma_find_pd(rdma, saved->pd);
    struct rdma_qp_create create = {
        .type = saved->type,
        .send_cq = rdma_find_cq(rdma, saved->send_cq),
        .recv_cq = rdma_find_cq(rdma, saved->recv_cq),
        .srq = saved->has_srq ? rdma_find_srq(rdma, saved->srq) : NULL,
        .max_send_wr = saved->max_send_wr,
        .max_recv_wr = saved->max_recv_wr,
        .max_send_sge = saved->max_send_sge,
        .max_recv_sge = saved->max_recv_sge,
        .signal_all = saved->signal_all,
    };
    struct rdma_qp *base;

    if (!pd || (saved->has_srq && !create.srq) || rdma_create_qp(pd, saved->number, &create, &base))
        return refuse(error, "qp", saved->number, "can't be made as it was");
    struct loopback_qp *qp = loopback_qp(base);
    if (!loopback_rename_qp(qp, saved->qpn))
        return refuse(error, "qp", saved->number, "its QPN is another's, or out of range");
    base->attributes = saved->attributes;
    if (!load_sends(qp, saved) ||
        !load_receives(&qp->rq, saved->receives, saved->recv_count, create.max_recv_sge))
        return refuse(error, "qp", saved->number, "more work than its queues can hold");
    if (!qp_is_possible(rdma, qp, saved))
        return refuse(error, "qp", saved->number, "its state can't be");
    base->wants_room = saved->wants_room;
    load_progress(qp, saved);
    if (saved->notes)
        rdma_notify(&base->object, saved->notes);
    loopback_wake(qp);
    return true;
}

static bool load_record(struct rdma *rdma, struct room *room, enum record record,
                        const uint8_t *data, size_t size, GError **error)
{
    struct saved_pd pd;
    struct rdma_pd *made;

    switch (record) {
    case RECORD_ADAPTER:
        return state_load(&loopback_adapter_table, &room->adapter, data, size, error) &&
               load_adapter(loopback_of(rdma), &room->adapter, error);
    case RECORD_PD:
        return state_load(&loopback_pd_table, &pd, data, size, error) &&
               (!rdma_create_pd(rdma, pd.number, &made) ||
                refuse(error, "pd", pd.number, "can't be made as it was"));
    case RECORD_CQ:
        return state_load(&loopback_cq_table, &room->cq, data, size, error) &&
               load_cq(rdma, &room->cq, error);
    case RECORD_SRQ:
        return state_load(&loopback_srq_table, &room->srq, data, size, error) &&
               load_srq(rdma, &room->srq, error);
    case RECORD_MR:
        return state_load(&loopback_mr_table, &room->mr, data, size, error) &&
               load_mr(rdma, &room->mr, error);
    case RECORD_QP:
        return state_load(&loopback_qp_table, &room->qp, data, size, error) &&
               load_qp(rdma, &room->qp, error);
    }
    return refuse(error, "record", record, "of an unknown kind");
}

/* Completions name queue pairs that came after them in the stream. */
static bool check_completions(struct rdma *rdma, GError **error)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, rdma->objects[RDMA_OBJECT_CQ]);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct loopback_cq *cq = value;
        for (uint32_t i = 0; i < cq->count; i++)
            if (!rdma_find(rdma, RDMA_OBJECT_QP, cq->ring[(cq->head + i) % cq->room].qp))
                return refuse(error, "cq", cq->cq.object.number, "a completion of no queue pair");
    }
    return true;
}

bool loopback_load(struct rdma *rdma, const uint8_t *data, size_t size, GError **error)
{
    struct loopback *loopback = loopback_of(rdma);
    g_autoptr(room_t) room = room_create();
    bool good = true;

    if (!size)
        good = refuse(error, "adapter", 0, "the saved state is empty");
    while (good && size) {
        uint32_t length = 0;
        if (size >= 5)
            memcpy(&length, data + 1, sizeof(length));
        length = GUINT32_FROM_LE(length);
        if (size < 5 || length > size - 5) {
            good = refuse(error, "adapter", 0, "the saved state is cut off");
            break;
        }
        good = load_record(rdma, room, data[0], data + 5, length, error);
        data += 5 + length;
        size -= 5 + length;
    }
    loopback_load_keys(loopback, room->adapter.keys);
    return good && check_completions(rdma, error);
}
