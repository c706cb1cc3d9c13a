/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verbs - opening, the port, completion queues and events (backends/rdma/verbs.h)
 *
 * Completions: the host's completion channel wakes the loop. From a completion on, its queue is polled
 * by turns of the loop for a while, and only armed again when nothing more came: the window grows when
 * that paid and shrinks when it did not, so that a busy queue costs no wake-ups and an idle one no CPU.
 * Soft RoCE gets no window: it works on the very processor that would look, and is held up by it.
 *
 * Order: a send has completed before its answer is received. Where the two completions go to two
 * queues, programs that wait for both on one channel count on being told in that order (perftest
 * does), so the queue of the sends is looked at after, and told of before, that of the receives.
 */
#include "backends/rdma/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SOFT_ROCE_VENDOR 0xffffffu

#define WINDOW_MIN INT64_C(2000)  /* ns */
#define WINDOW_MAX INT64_C(50000) /* ns */

/* ---- completion queues ---- */

static int create_cq(struct rdma_cq *base)
{
    struct verbs *verbs = verbs_of(base->object.rdma);
    struct verbs_cq *cq = (struct verbs_cq *)base;

    g_queue_init(&cq->injected);
    cq->link.data = cq;
    cq->ib = ibv_create_cq(verbs->ib, base->entries, cq, verbs->channel, 0);
    if (!cq->ib)
        return errno ? -errno : -ENOMEM;
    if (ibv_req_notify_cq(cq->ib, 0)) {
        ibv_destroy_cq(cq->ib);
        return -EIO;
    }
    cq->armed = true;
    return 0;
}

static void cool(struct verbs_cq *cq)
{
    if (cq->hot)
        g_queue_unlink(&verbs_of(cq->cq.object.rdma)->hot, &cq->link);
    cq->hot = false;
}

/* To be polled for a while: whatever is not armed is hot, or its completions are to be fetched. */
static void heat(struct verbs_cq *cq)
{
    struct verbs *verbs = verbs_of(cq->cq.object.rdma);

    cq->hot_until = loop_now_ns() + verbs->window;
    if (cq->hot)
        return;
    cq->hot = true;
    g_queue_push_tail_link(&verbs->hot, &cq->link);
    rdma_kick(&verbs->rdma);
}

static bool take_channel_event(struct verbs *verbs)
{
    struct ibv_cq *ib;
    void *cq;

    if (ibv_get_cq_event(verbs->channel, &ib, &cq))
        return false;
    ibv_ack_cq_events(ib, 1);
    ((struct verbs_cq *)cq)->armed = false;
    heat(cq);
    return true;
}

static void take_channel_events(struct verbs *verbs)
{
    while (take_channel_event(verbs))
        ;
}

static void destroy_cq(struct rdma_cq *base)
{
    struct verbs_cq *cq = (struct verbs_cq *)base;

    cool(cq);
    /* An event on its way would come for memory that is freed. */
    take_channel_events(verbs_of(base->object.rdma));
    cool(cq);
    ibv_destroy_cq(cq->ib);
    g_queue_clear_full(&cq->injected, g_free);
}

void verbs_inject(struct rdma_cq *base, const struct rdma_wc *wc)
{
    struct verbs_cq *cq = (struct verbs_cq *)base;

    g_queue_push_tail(&cq->injected, g_memdup2(wc, sizeof(*wc)));
    rdma_cq_filled(base);
}

static uint32_t opcode_of(enum ibv_wc_opcode opcode)
{
    switch (opcode) {
    case IBV_WC_RDMA_WRITE:
        return RDMA_WC_WRITE;
    case IBV_WC_RDMA_READ:
        return RDMA_WC_READ;
    case IBV_WC_COMP_SWAP:
        return RDMA_WC_COMPARE_SWAP;
    case IBV_WC_FETCH_ADD:
        return RDMA_WC_FETCH_ADD;
    case IBV_WC_LOCAL_INV:
        return RDMA_WC_LOCAL_INVALIDATE;
    case IBV_WC_RECV:
        return RDMA_WC_RECV;
    case IBV_WC_RECV_RDMA_WITH_IMM:
        return RDMA_WC_RECV_WRITE_WITH_IMM;
    default:
        return RDMA_WC_SEND;
    }
}

static uint32_t status_of(enum ibv_wc_status status)
{
    static const uint8_t map[] = {
        [IBV_WC_SUCCESS] = RDMA_WC_SUCCESS,
        [IBV_WC_LOC_LEN_ERR] = RDMA_WC_LOC_LEN_ERR,
        [IBV_WC_LOC_QP_OP_ERR] = RDMA_WC_LOC_QP_OP_ERR,
        [IBV_WC_LOC_EEC_OP_ERR] = RDMA_WC_GENERAL_ERR,
        [IBV_WC_LOC_PROT_ERR] = RDMA_WC_LOC_PROT_ERR,
        [IBV_WC_WR_FLUSH_ERR] = RDMA_WC_WR_FLUSH_ERR,
        [IBV_WC_MW_BIND_ERR] = RDMA_WC_MW_BIND_ERR,
        [IBV_WC_BAD_RESP_ERR] = RDMA_WC_BAD_RESP_ERR,
        [IBV_WC_LOC_ACCESS_ERR] = RDMA_WC_LOC_ACCESS_ERR,
        [IBV_WC_REM_INV_REQ_ERR] = RDMA_WC_REM_INV_REQ_ERR,
        [IBV_WC_REM_ACCESS_ERR] = RDMA_WC_REM_ACCESS_ERR,
        [IBV_WC_REM_OP_ERR] = RDMA_WC_REM_OP_ERR,
        [IBV_WC_RETRY_EXC_ERR] = RDMA_WC_RETRY_EXC_ERR,
        [IBV_WC_RNR_RETRY_EXC_ERR] = RDMA_WC_RNR_RETRY_EXC_ERR,
        [IBV_WC_LOC_RDD_VIOL_ERR] = RDMA_WC_GENERAL_ERR,
        [IBV_WC_REM_INV_RD_REQ_ERR] = RDMA_WC_GENERAL_ERR,
        [IBV_WC_REM_ABORT_ERR] = RDMA_WC_REM_ABORT_ERR,
        [IBV_WC_FATAL_ERR] = RDMA_WC_FATAL_ERR,
    };

    return (unsigned)status < G_N_ELEMENTS(map) ? map[status] : RDMA_WC_GENERAL_ERR;
}

/* What the host completed, as the device has it; false: of a queue pair that is gone. */
static bool convert(struct verbs *verbs, const struct ibv_wc *ib, struct rdma_wc *wc)
{
    struct verbs_qp *qp = g_hash_table_lookup(verbs->by_qpn, GUINT_TO_POINTER(ib->qp_num));

    if (!qp || qp->qp.attributes.state == RDMA_QPS_RESET)
        return false;
    *wc = (struct rdma_wc){
        .wr_id = ib->wr_id,
        .qp = qp->qp.object.number,
        .status = status_of(ib->status),
        .vendor_error = ib->vendor_err,
    };
    if (!ib->status) {
        wc->opcode = opcode_of(ib->opcode);
        wc->byte_len = ib->byte_len;
        wc->src_qp = ib->src_qp;
        wc->pkey_index = ib->pkey_index;
        /* The host does not say which messages asked for an event: rather one too many than none. */
        if (ib->opcode & IBV_WC_RECV)
            wc->flags |= RDMA_WC_SOLICITED;
        if (ib->wc_flags & IBV_WC_WITH_IMM) {
            wc->flags |= RDMA_WC_WITH_IMM;
            wc->imm = ib->imm_data;
        }
        if (ib->wc_flags & IBV_WC_WITH_INV) {
            wc->flags |= RDMA_WC_WITH_INVALIDATE;
            wc->invalidated_rkey = ib->invalidated_rkey;
        }
        if (ib->wc_flags & IBV_WC_GRH) {
            const struct rdma_gid_entry *gid = &verbs->rdma.gids[qp->qp.attributes.av.sgid_index];
            wc->flags |= RDMA_WC_GRH;
            wc->network_type = gid->type == RDMA_GID_ROCE_V1 ? RDMA_NETWORK_ROCE_V1
                               : rdma_gid_is_ipv4(&gid->gid) ? RDMA_NETWORK_IPV4
                                                             : RDMA_NETWORK_IPV6;
        }
    }
    verbs_completed(qp, wc);
    return true;
}

/* From the host into @wc, which has room for VERBS_BATCH; 0: the host has no more. */
static unsigned poll_host(struct verbs_cq *cq, struct rdma_wc *wc)
{
    struct verbs *verbs = verbs_of(cq->cq.object.rdma);
    struct ibv_wc ib[VERBS_BATCH];
    unsigned count = 0;
    int got;

    /* Behind a batch that is all of queue pairs that are gone there may be others'. */
    do {
        got = ibv_poll_cq(cq->ib, VERBS_BATCH, ib);
        for (int i = 0; i < got; i++)
            count += convert(verbs, &ib[i], &wc[count]);
    } while (!count && got == VERBS_BATCH);
    return count;
}

/* What the host has comes to us: it keeps completions of queue pairs that are gone, among others. */
static void take_over(struct verbs_cq *cq)
{
    struct rdma_wc wc[VERBS_BATCH];
    unsigned count = 1;

    for (int left = cq->ib->cqe; left > 0 && count; left -= (int)count) {
        count = poll_host(cq, wc);
        for (unsigned i = 0; i < count; i++)
            verbs_inject(&cq->cq, &wc[i]);
    }
}

void verbs_forget_completions(struct rdma_cq *base, uint32_t qp)
{
    struct verbs_cq *cq = (struct verbs_cq *)base;

    take_over(cq);
    for (GList *link = cq->injected.head, *next; link; link = next) {
        struct rdma_wc *wc = link->data;
        next = link->next;
        if (wc->qp == qp) {
            g_free(wc);
            g_queue_delete_link(&cq->injected, link);
        }
    }
    unsigned kept = 0;
    for (unsigned i = cq->stash_head; i < cq->stashed; i++)
        if (cq->stash[i].qp != qp)
            cq->stash[kept++] = cq->stash[i];
    cq->stash_head = 0;
    cq->stashed = kept;
}

/* Is there something to be fetched? What the host has is newer, and waits for that. */
static bool is_filled(const struct verbs_cq *cq)
{
    return cq->stash_head < cq->stashed || cq->injected.length;
}

static bool fill_stash(struct verbs_cq *cq)
{
    cq->stash_head = 0;
    cq->stashed = poll_host(cq, cq->stash);
    return cq->stashed;
}

/* What the sends' queue of the queue pair of @wc, a receive, got before it. */
static void collect_sends(struct verbs_cq *cq, const struct rdma_wc *wc)
{
    struct rdma_qp *qp = rdma_find(cq->cq.object.rdma, RDMA_OBJECT_QP, wc->qp);
    struct verbs_cq *sends = qp ? (struct verbs_cq *)qp->create.send_cq : cq;

    if (sends == cq || is_filled(sends) || !fill_stash(sends))
        return;
    heat(sends);
    rdma_cq_filled(&sends->cq);
}

/* Takes what the host has, to be fetched; was there anything? */
static bool collect(struct verbs_cq *cq)
{
    if (!fill_stash(cq))
        return false;
    for (unsigned i = 0; i < cq->stashed; i++)
        if (cq->stash[i].opcode == RDMA_WC_RECV ||
            cq->stash[i].opcode == RDMA_WC_RECV_WRITE_WITH_IMM)
            collect_sends(cq, &cq->stash[i]);
    rdma_cq_filled(&cq->cq);
    return true;
}

static unsigned poll_cq(struct rdma_cq *base, struct rdma_wc *wc, unsigned max)
{
    struct verbs_cq *cq = (struct verbs_cq *)base;
    unsigned count = 0;

    while (count < max && cq->stash_head < cq->stashed)
        wc[count++] = cq->stash[cq->stash_head++];
    while (count < max && cq->injected.length) {
        g_autofree struct rdma_wc *injected = g_queue_pop_head(&cq->injected);
        wc[count++] = *injected;
    }
    if (!cq->armed)
        heat(cq);
    return count;
}

/* Nothing came for a while: the host is to tell. What came just now it does not, and there may be more
 * of that than is collected. */
static void arm(struct verbs_cq *cq)
{
    ibv_req_notify_cq(cq->ib, 0);
    cq->armed = !collect(cq);
    if (!cq->armed)
        heat(cq);
}

/* Polls what is hot: a turn each. */
static bool work(struct rdma *rdma)
{
    struct verbs *verbs = verbs_of(rdma);
    int64_t now = loop_now_ns();

    if (verbs->channel_is_ready)
        take_channel_event(verbs); /* mostly the only one; else the loop tells again */
    verbs->channel_is_ready = false;
    for (GList *link = verbs->hot.head, *next; link; link = next) {
        struct verbs_cq *cq = link->data;
        next = link->next;
        if (is_filled(cq)) {
            cool(cq); /* until what was found is fetched */
        } else if (collect(cq)) {
            verbs->window = MIN(verbs->window * 2, verbs->max_window);
            cq->hot_until = now + verbs->window;
        } else if (now >= cq->hot_until) {
            verbs->window = MAX(verbs->window / 2, MIN(WINDOW_MIN, verbs->max_window));
            cool(cq);
            arm(cq);
        }
    }
    return verbs->hot.length;
}

static void channel_ready(void *opaque, GIOCondition ready)
{
    struct verbs *verbs = opaque;

    g_mutex_lock(&verbs->rdma.lock);
    verbs->channel_is_ready = verbs->rdma.running;
    if (!verbs->channel_is_ready)
        take_channel_events(verbs); /* there are no turns */
    g_mutex_unlock(&verbs->rdma.lock);
    rdma_turn_now(&verbs->rdma);
}

/* ---- events ---- */

static void note_qp(const struct ibv_async_event *event, enum rdma_event_type type)
{
    struct verbs_qp *qp = event->element.qp->qp_context;

    rdma_notify(&qp->qp.object, RDMA_NOTE(type));
    verbs_refresh_state(qp, &qp->qp.attributes);
}

static void take_event(struct verbs *verbs, const struct ibv_async_event *event)
{
    struct rdma_object *port = &verbs->rdma.port;

    switch (event->event_type) {
    case IBV_EVENT_CQ_ERR:
        rdma_notify(&((struct rdma_cq *)event->element.cq->cq_context)->object,
                    RDMA_NOTE(RDMA_EVENT_CQ_ERROR));
        break;
    case IBV_EVENT_QP_FATAL:
        note_qp(event, RDMA_EVENT_QP_FATAL);
        break;
    case IBV_EVENT_QP_REQ_ERR:
        note_qp(event, RDMA_EVENT_QP_REQUEST_ERROR);
        break;
    case IBV_EVENT_QP_ACCESS_ERR:
        note_qp(event, RDMA_EVENT_QP_ACCESS_ERROR);
        break;
    case IBV_EVENT_COMM_EST:
        verbs_established(event->element.qp->qp_context);
        break;
    case IBV_EVENT_SQ_DRAINED:
        note_qp(event, RDMA_EVENT_SQ_DRAINED);
        break;
    case IBV_EVENT_QP_LAST_WQE_REACHED:
        verbs_last_receive(event->element.qp->qp_context);
        break;
    case IBV_EVENT_SRQ_ERR:
        rdma_notify(&((struct rdma_srq *)event->element.srq->srq_context)->object,
                    RDMA_NOTE(RDMA_EVENT_SRQ_ERROR));
        break;
    case IBV_EVENT_SRQ_LIMIT_REACHED: {
        struct rdma_srq *srq = event->element.srq->srq_context;
        srq->limit = 0;
        rdma_notify(&srq->object, RDMA_NOTE(RDMA_EVENT_SRQ_LIMIT));
        break;
    }
    case IBV_EVENT_PORT_ACTIVE:
    case IBV_EVENT_PORT_ERR:
        if (event->element.port_num == verbs->port)
            rdma_notify(port, RDMA_NOTE(event->event_type == IBV_EVENT_PORT_ACTIVE
                                            ? RDMA_EVENT_PORT_ACTIVE
                                            : RDMA_EVENT_PORT_ERROR));
        break;
    case IBV_EVENT_DEVICE_FATAL:
        log_error("rdma", "%s: the host's device failed", verbs->device);
        rdma_notify(port, RDMA_NOTE(RDMA_EVENT_DEVICE_FATAL));
        break;
    default:
        break; /* GIDs, P_Keys, clients: the guest has its own */
    }
}

static void async_ready(void *opaque, GIOCondition ready)
{
    struct verbs *verbs = opaque;
    struct ibv_async_event event;

    g_mutex_lock(&verbs->rdma.lock);
    while (!ibv_get_async_event(verbs->ib, &event)) {
        take_event(verbs, &event);
        ibv_ack_async_event(&event);
    }
    g_mutex_unlock(&verbs->rdma.lock);
}

/* ---- the adapter ---- */

static int create_pd(struct rdma_pd *base)
{
    struct verbs_pd *pd = (struct verbs_pd *)base;

    pd->ib = ibv_alloc_pd(verbs_of(base->object.rdma)->ib);
    if (!pd->ib)
        return errno ? -errno : -ENOMEM;
    pd->handles = verbs_handles_create();
    return 0;
}

static void destroy_pd(struct rdma_pd *base)
{
    struct verbs_pd *pd = (struct verbs_pd *)base;

    g_hash_table_destroy(pd->handles);
    ibv_dealloc_pd(pd->ib);
}

static int query_port(struct rdma *rdma, struct rdma_port *port)
{
    struct verbs *verbs = verbs_of(rdma);
    struct ibv_port_attr attr;

    if (ibv_query_port(verbs->ib, verbs->port, &attr))
        return -EIO;
    port->active = attr.state == IBV_PORT_ACTIVE;
    port->max_mtu = (enum rdma_mtu)attr.max_mtu;
    port->active_mtu = (enum rdma_mtu)attr.active_mtu;
    port->max_msg_size = attr.max_msg_sz;
    port->active_width = attr.active_width;
    port->active_speed = attr.active_speed;
    return 0;
}

/* What was refused meanwhile may come now. */
static void set_running(struct rdma *rdma, bool running)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, rdma->objects[RDMA_OBJECT_QP]);
    while (running && g_hash_table_iter_next(&iter, NULL, &value)) {
        struct rdma_qp *qp = value;
        if (qp->wants_room)
            rdma_notify(&qp->object, RDMA_NOTE_ROOM);
        qp->wants_room = false;
    }
    g_hash_table_iter_init(&iter, rdma->objects[RDMA_OBJECT_SRQ]);
    while (running && g_hash_table_iter_next(&iter, NULL, &value)) {
        struct rdma_srq *srq = value;
        if (srq->wants_room)
            rdma_notify(&srq->object, RDMA_NOTE_ROOM);
        srq->wants_room = false;
    }
}

static void verbs_close(struct rdma *rdma)
{
    struct verbs *verbs = verbs_of(rdma);

    loop_fd_destroy(verbs->channel_watch);
    loop_fd_destroy(verbs->async_watch);
    if (verbs->workers)
        g_thread_pool_free(verbs->workers, FALSE, TRUE);
    if (verbs->channel)
        ibv_destroy_comp_channel(verbs->channel);
    ibv_close_device(verbs->ib);
    g_hash_table_destroy(verbs->by_qpn);
    g_free(verbs->gids);
    g_free(verbs->device);
    rdma_finish(rdma);
    g_free(verbs);
}

static const struct rdma_ops verbs_ops = {
    .pd_size = sizeof(struct verbs_pd),
    .mr_size = sizeof(struct verbs_mr),
    .cq_size = sizeof(struct verbs_cq),
    .srq_size = sizeof(struct verbs_srq),
    .qp_size = sizeof(struct verbs_qp),
    .close = verbs_close,
    .work = work,
    .set_running = set_running,
    .query_port = query_port,
    .add_gid = verbs_add_gid,
    .remove_gid = verbs_remove_gid,
    .create_pd = create_pd,
    .destroy_pd = destroy_pd,
    .create_mr = verbs_create_mr,
    .destroy_mr = verbs_destroy_mr,
    .create_cq = create_cq,
    .destroy_cq = destroy_cq,
    .poll_cq = poll_cq,
    .create_srq = verbs_create_srq,
    .destroy_srq = verbs_destroy_srq,
    .set_srq_limit = verbs_set_srq_limit,
    .create_qp = verbs_create_qp,
    .destroy_qp = verbs_destroy_qp,
    .modify_qp = verbs_modify_qp,
    .query_qp = verbs_query_qp,
    .post_send = verbs_post_send,
    .post_recv = verbs_post_recv,
    .post_srq_recv = verbs_post_srq_recv,
    .unsaveable = "the connections of an RDMA device of the host stay with that device; "
                  "backend=loopback can be saved",
};

/* ---- opening ---- */

/* What we offer: what the host has, within what the interface can say. */
static void take_limits(struct verbs *verbs)
{
    const struct ibv_device_attr *a = &verbs->attr;
    uint32_t sge = MIN((uint32_t)MAX(a->max_sge, 1), 27u);

    verbs->rdma.limits = (struct rdma_limits){
        .node_guid = GUINT64_FROM_BE(a->node_guid),
        .sys_image_guid = GUINT64_FROM_BE(a->sys_image_guid),
        .max_qp = CLAMP(a->max_qp, 1, 4096),
        .max_qp_wr = CLAMP(a->max_qp_wr, 1, 2048),
        .max_sge = sge,
        .max_sge_rd = CLAMP(a->max_sge_rd, 1, (int)sge),
        .max_cq = CLAMP(a->max_cq, 1, 1024),
        .max_cqe = CLAMP(a->max_cqe, 1, 65536),
        .max_mr = CLAMP(a->max_mr, 1, 65536),
        .max_pd = CLAMP(a->max_pd, 1, 65536),
        .max_ah = CLAMP(a->max_ah, 1, 65536),
        .max_srq = CLAMP(a->max_srq, 0, 1024),
        .max_srq_wr = CLAMP(a->max_srq_wr, 0, 2048),
        .max_srq_sge = CLAMP(a->max_srq_sge, 0, 27),
        .max_mr_size = MIN(a->max_mr_size, UINT64_C(1) << 30),
        .max_qp_rd_atom = CLAMP(a->max_qp_rd_atom, 1, 255),
        .max_qp_init_rd_atom = CLAMP(a->max_qp_init_rd_atom, 1, 255),
        .max_fast_reg_pages = 0,
        .gid_entries = 128,
        .local_ca_ack_delay = a->local_ca_ack_delay,
        .atomics = a->atomic_cap != IBV_ATOMIC_NONE,
        .dma_mr = true,
    };
}

/* The device @name as an open context; NULL with @error set, which names those there are. */
static struct ibv_context *open_device(const struct options *options, const char *name,
                                       GError **error)
{
    int count = 0;
    struct ibv_device **list = ibv_get_device_list(&count);
    g_autoptr(GString) names = g_string_new(NULL);
    struct ibv_context *context = NULL;
    bool found = false;

    for (int i = 0; list && i < count; i++) {
        g_string_append_printf(names, "%s%s", i ? ", " : "", ibv_get_device_name(list[i]));
        if (strcmp(ibv_get_device_name(list[i]), name))
            continue;
        found = true;
        context = ibv_open_device(list[i]);
        if (!context)
            options_set_error(error, options, "device",
                              "can't be opened: %s; are ib_uverbs and /dev/infiniband there?",
                              g_strerror(errno));
    }
    if (!found)
        options_set_error(error, options, "device",
                          "the host has no such RDMA device; it has: %s%s",
                          names->len ? names->str : "none",
                          names->len ? "" : " (rdma link add rxe0 type rxe netdev NAME makes one)");
    if (list)
        ibv_free_device_list(list);
    return context;
}

static bool has_gid(struct verbs *verbs, int index)
{
    static const union ibv_gid none;
    union ibv_gid gid;

    return !ibv_query_gid(verbs->ib, verbs->port, index, &gid) && memcmp(&gid, &none, sizeof(gid));
}

static bool check_port(struct verbs *verbs, const struct options *options, GError **error)
{
    struct ibv_port_attr attr;

    if (ibv_query_device(verbs->ib, &verbs->attr)) {
        options_set_error(error, options, "device", "does not say what it can do");
        return false;
    }
    if (verbs->port > verbs->attr.phys_port_cnt || ibv_query_port(verbs->ib, verbs->port, &attr)) {
        options_set_error(error, options, "port", "the device has %u port%s",
                          verbs->attr.phys_port_cnt, verbs->attr.phys_port_cnt == 1 ? "" : "s");
        return false;
    }
    if (attr.link_layer != IBV_LINK_LAYER_ETHERNET) {
        options_set_error(error, options, "port",
                          "is InfiniBand; guests have RoCE, which needs an Ethernet port");
        return false;
    }
    if (attr.state != IBV_PORT_ACTIVE) {
        options_set_error(error, options, "port", "is down (%s): bring its network interface up",
                          ibv_port_state_str(attr.state));
        return false;
    }
    if (verbs->fallback_gid >= 0 && !has_gid(verbs, verbs->fallback_gid)) {
        options_set_error(error, options, "gid_index",
                          "the port has no such GID; lodge doctor lists them");
        return false;
    }
    return true;
}

static bool set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) >= 0;
}

static bool start(struct verbs *verbs, struct loop *loop, const struct options *options,
                  GError **error)
{
    verbs->channel = ibv_create_comp_channel(verbs->ib);
    if (!verbs->channel || !set_nonblocking(verbs->channel->fd) ||
        !set_nonblocking(verbs->ib->async_fd)) {
        options_set_error(error, options, "device", "no completion channel: %s", g_strerror(errno));
        return false;
    }
    verbs->workers = g_thread_pool_new(verbs_work_on, verbs, 2, FALSE, error);
    if (!verbs->workers)
        return false;
    verbs->channel_watch = loop_fd_create(loop, verbs->channel->fd, G_IO_IN, channel_ready, verbs);
    verbs->async_watch = loop_fd_create(loop, verbs->ib->async_fd, G_IO_IN, async_ready, verbs);
    return true;
}

struct rdma *rdma_verbs_open(const struct options *options, struct dma *dma, struct loop *loop,
                             GError **error)
{
    const char *name = options_string(options, "device");
    struct ibv_context *context;

    if (!name) {
        options_set_error(error, options, "backend", "needs device=NAME; lodge doctor lists them");
        return NULL;
    }
    if (!(context = open_device(options, name, error)))
        return NULL;
    struct verbs *verbs = g_new0(struct verbs, 1);
    verbs->ib = context;
    verbs->device = g_strdup(name);
    verbs->port = options_uint(options, "port");
    verbs->fallback_gid =
        options_given(options, "gid_index") ? (int)options_uint(options, "gid_index") : -1;
    verbs->by_qpn = g_hash_table_new(NULL, NULL);
    g_queue_init(&verbs->hot);
    verbs->rdma.limits.gid_entries = 128;
    bool good = check_port(verbs, options, error);
    verbs->soft = verbs->attr.vendor_id == SOFT_ROCE_VENDOR;
    verbs->max_window = verbs->soft ? 0 : WINDOW_MAX;
    verbs->window = verbs->max_window / 2;
    if (good)
        take_limits(verbs);
    rdma_init(&verbs->rdma, &verbs_ops, "verbs", dma, loop);
    verbs->gids = g_malloc0_n(verbs->rdma.limits.gid_entries, sizeof(verbs->gids[0]));
    if (!good || !verbs_memory_check(verbs, options, error) ||
        !start(verbs, loop, options, error)) {
        verbs_close(&verbs->rdma);
        return NULL;
    }
    return &verbs->rdma;
}
