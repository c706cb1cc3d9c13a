/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * objects - protection domains, memory regions, queues: their numbers and users, and the checks that all
 * implementations share (contract: backends/rdma/rdma.h; for implementations: backends/rdma/driver.h)
 *
 * Limits: handles are any 32-bit numbers; objects of a type are as many as rdma_limits says.
 */
#include <errno.h>
#include <string.h>

#include "backends/rdma/driver.h"
#include "vmm/trace.h"

TRACE_EVENT(rdma_create, "%s %s=%u error=%d",
            (const char *implementation, const char *kind, uint32_t number, int error),
            implementation, kind, number, error)
TRACE_EVENT(rdma_destroy, "%s %s=%u",
            (const char *implementation, const char *kind, uint32_t number), implementation, kind,
            number)
TRACE_EVENT(rdma_modify_qp, "%s qp=%u from=%d to=%d mask=0x%x error=%d",
            (const char *implementation, uint32_t number, int from, int to, uint32_t mask,
             int error),
            implementation, number, from, to, mask, error)

static const char *const kind_names[RDMA_OBJECT_KINDS] = {"port", "pd", "mr", "cq", "srq", "qp"};

/* ---- objects and their numbers ---- */

void rdma_object_init(struct rdma_object *object, struct rdma *rdma, enum rdma_object_kind kind,
                      uint32_t number)
{
    object->rdma = rdma;
    object->kind = kind;
    object->number = number;
    object->link.data = object;
}

void *rdma_find(struct rdma *rdma, enum rdma_object_kind kind, uint32_t number)
{
    return g_hash_table_lookup(rdma->objects[kind], GUINT_TO_POINTER(number));
}

unsigned rdma_count(const struct rdma *rdma, enum rdma_object_kind kind)
{
    return g_hash_table_size(rdma->objects[kind]);
}

/* A new object, zeroed, not in the table yet; NULL with *error set. */
static void *object_new(struct rdma *rdma, enum rdma_object_kind kind, uint32_t number, size_t size,
                        uint32_t max, int *error)
{
    struct rdma_object *object;

    *error = -EEXIST;
    if (rdma_find(rdma, kind, number))
        return NULL;
    *error = -ENOMEM;
    if (rdma_count(rdma, kind) >= max || !(object = g_try_malloc0(size)))
        return NULL;
    *error = 0;
    rdma_object_init(object, rdma, kind, number);
    return object;
}

/* Into the table, or freed when its creation failed with @error. */
static int object_keep(struct rdma_object *object, int error)
{
    trace_rdma_create(object->rdma->implementation, kind_names[object->kind], object->number,
                      error);
    if (error < 0) {
        if (object->noted)
            g_queue_unlink(&object->rdma->noted, &object->link);
        g_free(object);
        return error;
    }
    g_hash_table_insert(object->rdma->objects[object->kind], GUINT_TO_POINTER(object->number),
                        object);
    return error;
}

static void object_free(struct rdma_object *object)
{
    trace_rdma_destroy(object->rdma->implementation, kind_names[object->kind], object->number);
    g_hash_table_remove(object->rdma->objects[object->kind], GUINT_TO_POINTER(object->number));
    if (object->noted)
        g_queue_unlink(&object->rdma->noted, &object->link);
    g_free(object);
}

static void destroy_qp(struct rdma_qp *qp)
{
    struct rdma *rdma = qp->object.rdma;

    rdma->ops->destroy_qp(qp);
    qp->pd->object.users--;
    qp->create.send_cq->object.users--;
    qp->create.recv_cq->object.users--;
    if (qp->create.srq)
        qp->create.srq->object.users--;
    object_free(&qp->object);
}

static void destroy_srq(struct rdma_srq *srq)
{
    srq->object.rdma->ops->destroy_srq(srq);
    srq->pd->object.users--;
    object_free(&srq->object);
}

static void destroy_cq(struct rdma_cq *cq)
{
    cq->object.rdma->ops->destroy_cq(cq);
    object_free(&cq->object);
}

static void destroy_mr(struct rdma_mr *mr)
{
    mr->object.rdma->ops->destroy_mr(mr);
    mr->pd->object.users--;
    object_free(&mr->object);
}

/* The same, told to whoever waits for it. */
static void cancel_mr(struct rdma_mr *mr, void (*cancelled)(void *opaque))
{
    if (mr->pending && cancelled)
        cancelled(mr->opaque);
    destroy_mr(mr);
}

static void destroy_pd(struct rdma_pd *pd)
{
    pd->object.rdma->ops->destroy_pd(pd);
    object_free(&pd->object);
}

/* Runs @destroy with the lock held unless the object has users. */
#define DESTROY(OBJECT, FUNCTION)                                                                  \
    ({                                                                                             \
        struct rdma *destroy_rdma = (OBJECT)->object.rdma;                                         \
        int destroy_error = 0;                                                                     \
        g_mutex_lock(&destroy_rdma->lock);                                                         \
        if ((OBJECT)->object.users)                                                                \
            destroy_error = -EBUSY;                                                                \
        else                                                                                       \
            FUNCTION(OBJECT);                                                                      \
        g_mutex_unlock(&destroy_rdma->lock);                                                       \
        destroy_error;                                                                             \
    })

static void *any_object(struct rdma *rdma, enum rdma_object_kind kind)
{
    GHashTableIter iter;
    gpointer object = NULL;

    g_hash_table_iter_init(&iter, rdma->objects[kind]);
    return g_hash_table_iter_next(&iter, NULL, &object) ? object : NULL;
}

void rdma_reset(struct rdma *rdma, void (*cancelled)(void *opaque))
{
    void *object;

    g_mutex_lock(&rdma->lock);
    while ((object = any_object(rdma, RDMA_OBJECT_QP)))
        destroy_qp(object);
    while ((object = any_object(rdma, RDMA_OBJECT_SRQ)))
        destroy_srq(object);
    while ((object = any_object(rdma, RDMA_OBJECT_CQ)))
        destroy_cq(object);
    while ((object = any_object(rdma, RDMA_OBJECT_MR)))
        cancel_mr(object, cancelled);
    while ((object = any_object(rdma, RDMA_OBJECT_PD)))
        destroy_pd(object);
    for (unsigned i = 0; i < rdma->limits.gid_entries; i++) {
        if (rdma->gids[i].used && rdma->ops->remove_gid)
            rdma->ops->remove_gid(rdma, i);
        rdma->gids[i].used = false;
    }
    if (rdma->port.noted)
        g_queue_unlink(&rdma->noted, &rdma->port.link);
    rdma->port.noted = false;
    rdma->port.notes = 0;
    g_mutex_unlock(&rdma->lock);
}

/* ---- protection domains and memory ---- */

int rdma_create_pd(struct rdma *rdma, uint32_t number, struct rdma_pd **pd)
{
    int error;

    g_mutex_lock(&rdma->lock);
    *pd = object_new(rdma, RDMA_OBJECT_PD, number, rdma->ops->pd_size, rdma->limits.max_pd, &error);
    if (*pd)
        error = object_keep(&(*pd)->object, rdma->ops->create_pd(*pd));
    g_mutex_unlock(&rdma->lock);
    return error;
}

int rdma_destroy_pd(struct rdma_pd *pd)
{
    return DESTROY(pd, destroy_pd);
}

int rdma_destroy_pd_and_regions(struct rdma_pd *pd, void (*cancelled)(void *opaque))
{
    struct rdma *rdma = pd->object.rdma;
    g_autoptr(GPtrArray) regions = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;
    int error = -EBUSY;

    g_mutex_lock(&rdma->lock);
    g_hash_table_iter_init(&iter, rdma->objects[RDMA_OBJECT_MR]);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((struct rdma_mr *)value)->pd == pd)
            g_ptr_array_add(regions, value);
    if (pd->object.users == regions->len) {
        for (guint i = 0; i < regions->len; i++)
            cancel_mr(g_ptr_array_index(regions, i), cancelled);
        destroy_pd(pd);
        error = 0;
    }
    g_mutex_unlock(&rdma->lock);
    return error;
}

static int check_user_pages(const struct rdma_mr_attributes *a)
{
    uint64_t pages = (a->start % RDMA_PAGE_SIZE + a->length + RDMA_PAGE_SIZE - 1) / RDMA_PAGE_SIZE;

    if (a->start + (a->length - 1) < a->start || !a->pages || a->page_count != pages)
        return -EINVAL;
    for (uint32_t i = 0; i < a->page_count; i++)
        if (a->pages[i] % RDMA_PAGE_SIZE)
            return -EINVAL;
    return 0;
}

static int check_mr(const struct rdma_limits *limits, const struct rdma_mr_attributes *a)
{
    if ((a->access & (RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_ATOMIC)) &&
        !(a->access & RDMA_ACCESS_LOCAL_WRITE))
        return -EINVAL;
    switch (a->type) {
    case RDMA_MR_USER:
        if (!a->length || a->length > limits->max_mr_size)
            return -EINVAL;
        return check_user_pages(a);
    case RDMA_MR_DMA:
        if (!limits->dma_mr)
            return -EOPNOTSUPP;
        return a->access & ~(uint32_t)RDMA_ACCESS_LOCAL_WRITE ? -EINVAL : 0;
    case RDMA_MR_FAST:
        if (!limits->max_fast_reg_pages)
            return -EOPNOTSUPP;
        return a->page_count && a->page_count <= limits->max_fast_reg_pages ? 0 : -EINVAL;
    }
    return -EINVAL;
}

/* Keeps @mr as it is (error 0, or 1: pending), or frees it. */
static int mr_keep(struct rdma_mr *mr, int error)
{
    struct rdma_pd *pd = mr->pd;

    error = object_keep(&mr->object, error);
    if (error < 0)
        pd->object.users--;
    return error;
}

int rdma_create_mr(struct rdma_pd *pd, uint32_t number, const struct rdma_mr_attributes *attributes,
                   rdma_mr_fn done, void *opaque)
{
    struct rdma *rdma = pd->object.rdma;
    struct rdma_mr_attributes a = *attributes;
    struct rdma_mr *mr = NULL;
    int error;

    /* Bits of optional features (relaxed ordering, ...) ask for nothing here. */
    a.access &= RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ |
                RDMA_ACCESS_REMOTE_ATOMIC;
    error = check_mr(&rdma->limits, &a);
    if (error) {
        g_free(a.pages);
        return error;
    }
    g_mutex_lock(&rdma->lock);
    mr = object_new(rdma, RDMA_OBJECT_MR, number, rdma->ops->mr_size, rdma->limits.max_mr, &error);
    if (mr) {
        mr->pd = pd;
        mr->attributes = a;
        mr->done = done;
        mr->opaque = opaque;
        pd->object.users++;
        mr->pending = true;
        error = mr_keep(mr, rdma->ops->create_mr(mr));
        if (!error)
            mr->pending = false;
    } else {
        g_free(a.pages);
    }
    g_mutex_unlock(&rdma->lock);
    if (!error)
        done(opaque, mr, 0);
    return MIN(error, 0);
}

void rdma_mr_created(struct rdma_mr *mr, int error)
{
    struct rdma *rdma = mr->object.rdma;
    rdma_mr_fn done = mr->done;
    void *opaque = mr->opaque;

    mr->pending = false;
    if (error) {
        destroy_mr(mr);
        mr = NULL;
    }
    g_mutex_unlock(&rdma->lock);
    done(opaque, mr, error);
    g_mutex_lock(&rdma->lock);
}

int rdma_destroy_mr(struct rdma_mr *mr)
{
    return DESTROY(mr, destroy_mr);
}

uint32_t rdma_mr_lkey(const struct rdma_mr *mr)
{
    return mr->lkey;
}

const struct rdma_pd *rdma_mr_pd(const struct rdma_mr *mr)
{
    return mr->pd;
}

uint32_t rdma_mr_rkey(const struct rdma_mr *mr)
{
    return mr->rkey;
}

/* ---- completion queues ---- */

int rdma_create_cq(struct rdma *rdma, uint32_t number, uint32_t entries, struct rdma_cq **cq)
{
    int error;

    if (!entries || entries > rdma->limits.max_cqe)
        return -EINVAL;
    g_mutex_lock(&rdma->lock);
    *cq = object_new(rdma, RDMA_OBJECT_CQ, number, rdma->ops->cq_size, rdma->limits.max_cq, &error);
    if (*cq) {
        (*cq)->entries = entries;
        (*cq)->tell = true;
        error = object_keep(&(*cq)->object, rdma->ops->create_cq(*cq));
    }
    g_mutex_unlock(&rdma->lock);
    return error;
}

int rdma_destroy_cq(struct rdma_cq *cq)
{
    return DESTROY(cq, destroy_cq);
}

/* ---- shared receive queues ---- */

int rdma_create_srq(struct rdma_pd *pd, uint32_t number, uint32_t max_wr, uint32_t max_sge,
                    struct rdma_srq **srq)
{
    struct rdma *rdma = pd->object.rdma;
    int error;

    if (!max_wr || max_wr > rdma->limits.max_srq_wr || max_sge > rdma->limits.max_srq_sge)
        return -EINVAL;
    g_mutex_lock(&rdma->lock);
    *srq = object_new(rdma, RDMA_OBJECT_SRQ, number, rdma->ops->srq_size, rdma->limits.max_srq,
                      &error);
    if (*srq) {
        (*srq)->pd = pd;
        (*srq)->max_wr = max_wr;
        (*srq)->max_sge = max_sge;
        error = object_keep(&(*srq)->object, rdma->ops->create_srq(*srq));
        pd->object.users += !error;
    }
    g_mutex_unlock(&rdma->lock);
    return error;
}

int rdma_destroy_srq(struct rdma_srq *srq)
{
    return DESTROY(srq, destroy_srq);
}

int rdma_set_srq_limit(struct rdma_srq *srq, uint32_t limit)
{
    struct rdma *rdma = srq->object.rdma;
    int error = -EINVAL;

    g_mutex_lock(&rdma->lock);
    if (limit <= srq->max_wr)
        error = rdma->ops->set_srq_limit(srq, limit);
    g_mutex_unlock(&rdma->lock);
    return error;
}

int rdma_query_srq(struct rdma_srq *srq, uint32_t *max_wr, uint32_t *max_sge, uint32_t *limit)
{
    g_mutex_lock(&srq->object.rdma->lock);
    *max_wr = srq->max_wr;
    *max_sge = srq->max_sge;
    *limit = srq->limit;
    g_mutex_unlock(&srq->object.rdma->lock);
    return 0;
}

/* ---- queue pairs ---- */

static int check_qp(const struct rdma *rdma, const struct rdma_pd *pd,
                    const struct rdma_qp_create *c)
{
    const struct rdma_limits *limits = &rdma->limits;

    if ((unsigned)c->type > RDMA_QP_UD || !c->send_cq || !c->recv_cq)
        return -EINVAL;
    if (c->srq && (c->type == RDMA_QP_GSI || c->srq->pd != pd))
        return -EINVAL;
    if (c->max_send_wr > limits->max_qp_wr || c->max_send_sge > limits->max_sge)
        return -EINVAL;
    if (!c->srq && (c->max_recv_wr > limits->max_qp_wr || c->max_recv_sge > limits->max_sge))
        return -EINVAL;
    return 0;
}

static bool has_gsi(struct rdma *rdma)
{
    GHashTableIter iter;
    gpointer qp;

    g_hash_table_iter_init(&iter, rdma->objects[RDMA_OBJECT_QP]);
    while (g_hash_table_iter_next(&iter, NULL, &qp))
        if (((struct rdma_qp *)qp)->create.type == RDMA_QP_GSI)
            return true;
    return false;
}

int rdma_create_qp(struct rdma_pd *pd, uint32_t number, const struct rdma_qp_create *create,
                   struct rdma_qp **qp)
{
    struct rdma *rdma = pd->object.rdma;
    int error = check_qp(rdma, pd, create);

    if (error)
        return error;
    g_mutex_lock(&rdma->lock);
    *qp = NULL;
    if (create->type == RDMA_QP_GSI && has_gsi(rdma))
        error = -EEXIST;
    else
        *qp = object_new(rdma, RDMA_OBJECT_QP, number, rdma->ops->qp_size, rdma->limits.max_qp,
                         &error);
    if (*qp) {
        (*qp)->pd = pd;
        (*qp)->create = *create;
        error = object_keep(&(*qp)->object, rdma->ops->create_qp(*qp));
    }
    if (!error) {
        pd->object.users++;
        create->send_cq->object.users++;
        create->recv_cq->object.users++;
        if (create->srq)
            create->srq->object.users++;
    }
    g_mutex_unlock(&rdma->lock);
    return error;
}

int rdma_destroy_qp(struct rdma_qp *qp)
{
    return DESTROY(qp, destroy_qp);
}

uint32_t rdma_qp_number(const struct rdma_qp *qp)
{
    return qp->object.number;
}

uint32_t rdma_qp_qpn(const struct rdma_qp *qp)
{
    return qp->qpn;
}

bool rdma_qp_values_are_valid(const struct rdma *rdma, const struct rdma_qp_attributes *a,
                              uint32_t mask)
{
    const uint32_t psn_mask = 0xffffff;
    const struct {
        uint32_t bit;
        bool valid;
    } checks[] = {
        {RDMA_QP_PKEY_INDEX, a->pkey_index == 0},
        {RDMA_QP_PORT, a->port == 1},
        {RDMA_QP_AV, a->av.sgid_index < rdma->limits.gid_entries && a->av.flow_label < 1u << 20},
        {RDMA_QP_PATH_MTU, a->path_mtu >= RDMA_MTU_256 && a->path_mtu <= RDMA_MTU_4096},
        {RDMA_QP_TIMEOUT, a->timeout <= 31},
        {RDMA_QP_RETRY_COUNT, a->retry_count <= 7},
        {RDMA_QP_RNR_RETRY, a->rnr_retry <= 7},
        {RDMA_QP_RQ_PSN, a->rq_psn <= psn_mask},
        {RDMA_QP_SQ_PSN, a->sq_psn <= psn_mask},
        {RDMA_QP_DEST_QPN, a->dest_qpn <= psn_mask},
        {RDMA_QP_MAX_RD_ATOMIC, a->max_rd_atomic <= rdma->limits.max_qp_init_rd_atom},
        {RDMA_QP_MAX_DEST_RD_ATOMIC, a->max_dest_rd_atomic <= rdma->limits.max_qp_rd_atom},
        {RDMA_QP_MIN_RNR_TIMER, a->min_rnr_timer <= 31},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(checks); i++)
        if ((mask & checks[i].bit) && !checks[i].valid)
            return false;
    return true;
}

static void merge_attributes(struct rdma_qp_attributes *to, const struct rdma_qp_attributes *from,
                             uint32_t mask)
{
#define MERGE(BIT, MEMBER)                                                                         \
    if (mask & (BIT))                                                                              \
    to->MEMBER = from->MEMBER
    MERGE(RDMA_QP_SQD_NOTIFY, sqd_notify);
    MERGE(RDMA_QP_ACCESS, access);
    MERGE(RDMA_QP_PKEY_INDEX, pkey_index);
    MERGE(RDMA_QP_PORT, port);
    MERGE(RDMA_QP_QKEY, qkey);
    MERGE(RDMA_QP_AV, av);
    MERGE(RDMA_QP_PATH_MTU, path_mtu);
    MERGE(RDMA_QP_TIMEOUT, timeout);
    MERGE(RDMA_QP_RETRY_COUNT, retry_count);
    MERGE(RDMA_QP_RNR_RETRY, rnr_retry);
    MERGE(RDMA_QP_RQ_PSN, rq_psn);
    MERGE(RDMA_QP_SQ_PSN, sq_psn);
    MERGE(RDMA_QP_MAX_RD_ATOMIC, max_rd_atomic);
    MERGE(RDMA_QP_MAX_DEST_RD_ATOMIC, max_dest_rd_atomic);
    MERGE(RDMA_QP_MIN_RNR_TIMER, min_rnr_timer);
    MERGE(RDMA_QP_DEST_QPN, dest_qpn);
#undef MERGE
}

static int modify_qp(struct rdma_qp *qp, const struct rdma_qp_attributes *attributes, uint32_t mask)
{
    struct rdma *rdma = qp->object.rdma;
    enum rdma_qp_state from = qp->attributes.state;
    enum rdma_qp_state to = mask & RDMA_QP_STATE ? attributes->state : from;

    if ((mask & RDMA_QP_CURRENT_STATE) && attributes->current_state != from)
        return -EINVAL;
    if (!rdma_qp_transition(qp->create.type, from, to, mask) ||
        !rdma_qp_values_are_valid(rdma, attributes, mask))
        return -EINVAL;
    struct rdma_qp_attributes old = qp->attributes;
    if (to == RDMA_QPS_RESET)
        memset(&qp->attributes, 0, sizeof(qp->attributes));
    merge_attributes(&qp->attributes, attributes, mask);
    qp->attributes.access &=
        RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_ATOMIC;
    if (to == RDMA_QPS_SQD && from != to)
        qp->attributes.sqd_notify = (mask & RDMA_QP_SQD_NOTIFY) && attributes->sqd_notify;
    qp->attributes.state = to;
    int error = rdma->ops->modify_qp(qp, &old, mask);
    if (error)
        qp->attributes = old;
    return error;
}

int rdma_modify_qp(struct rdma_qp *qp, const struct rdma_qp_attributes *attributes, uint32_t mask)
{
    struct rdma *rdma = qp->object.rdma;

    g_mutex_lock(&rdma->lock);
    enum rdma_qp_state from = qp->attributes.state;
    int error = modify_qp(qp, attributes, mask);
    trace_rdma_modify_qp(rdma->implementation, qp->object.number, from, qp->attributes.state, mask,
                         error);
    g_mutex_unlock(&rdma->lock);
    return error;
}

int rdma_query_qp(struct rdma_qp *qp, struct rdma_qp_attributes *attributes)
{
    struct rdma *rdma = qp->object.rdma;

    g_mutex_lock(&rdma->lock);
    *attributes = qp->attributes;
    if (rdma->ops->query_qp)
        rdma->ops->query_qp(qp, attributes);
    attributes->current_state = attributes->state;
    g_mutex_unlock(&rdma->lock);
    return 0;
}

#define DEFINE_FIND(TYPE, KIND)                                                                    \
    struct rdma_##TYPE *rdma_find_##TYPE(struct rdma *rdma, uint32_t number)                       \
    {                                                                                              \
        g_mutex_lock(&rdma->lock);                                                                 \
        struct rdma_##TYPE *found = rdma_find(rdma, KIND, number);                                 \
        g_mutex_unlock(&rdma->lock);                                                               \
        return found;                                                                              \
    }

DEFINE_FIND(pd, RDMA_OBJECT_PD)
DEFINE_FIND(mr, RDMA_OBJECT_MR)
DEFINE_FIND(cq, RDMA_OBJECT_CQ)
DEFINE_FIND(srq, RDMA_OBJECT_SRQ)
DEFINE_FIND(qp, RDMA_OBJECT_QP)
