/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rdma - opening by options, objects and their numbers, checks and callbacks that all implementations
 * share (contract: backends/rdma/rdma.h; for implementations: backends/rdma/driver.h)
 *
 * One lock an adapter covers everything; it is held for calls into the implementation and never for
 * callbacks. Limits: handles are any 32-bit numbers; objects of a type are as many as rdma_limits says.
 */
#include "backends/rdma/rdma.h"

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
TRACE_EVENT(rdma_post, "%s %s=%u wr_id=0x%lx opcode=%d error=%d",
            (const char *implementation, const char *kind, uint32_t number, unsigned long wr_id,
             int opcode, int error),
            implementation, kind, number, wr_id, opcode, error)
TRACE_EVENT(rdma_poll, "%s cq=%u count=%u",
            (const char *implementation, uint32_t number, unsigned count), implementation, number,
            count)
TRACE_EVENT(rdma_event, "%s event=%u number=%u",
            (const char *implementation, unsigned event, uint32_t number), implementation, event,
            number)

static const char *const kind_names[RDMA_OBJECT_KINDS] = {"port", "pd", "mr", "cq", "srq", "qp"};

/* ---- opening ---- */

static const struct {
    const char *name;
    struct rdma *(*open)(const struct options *options, struct dma *dma, struct loop *loop,
                         GError **error);
} backends[] = {
    {"loopback", rdma_loopback_open},
    {"null", rdma_null_open},
};

struct rdma *rdma_open(const struct options *options, struct dma *dma, struct loop *loop,
                       GError **error)
{
    static const char *const of_verbs[] = {"device", "port", "gid_index"};
    const char *backend = options_string(options, "backend");

    for (unsigned i = 0; strcmp(backend, "verbs") && i < G_N_ELEMENTS(of_verbs); i++) {
        if (options_given(options, of_verbs[i])) {
            options_set_error(error, options, of_verbs[i],
                              "is for backend=verbs, not for backend=%s", backend);
            return NULL;
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(backends); i++)
        if (!strcmp(backends[i].name, backend))
            return backends[i].open(options, dma, loop, error);
    options_set_error(error, options, "backend",
                      "is not in this build: install libibverbs-dev and build again; allowed: "
                      "loopback, null");
    return NULL;
}

static void object_init(struct rdma_object *object, struct rdma *rdma, enum rdma_object_kind kind,
                        uint32_t number)
{
    object->rdma = rdma;
    object->kind = kind;
    object->number = number;
    object->link.data = object;
}

void rdma_init(struct rdma *rdma, const struct rdma_ops *ops, const char *implementation,
               struct dma *dma, struct loop *loop)
{
    rdma->ops = ops;
    rdma->implementation = implementation;
    rdma->dma = dma;
    rdma->loop = loop;
    g_mutex_init(&rdma->lock);
    rdma->running = true;
    rdma->link_up = true;
    rdma->link_mtu = 1500;
    object_init(&rdma->port, rdma, RDMA_OBJECT_PORT, 1);
    for (unsigned i = 0; i < RDMA_OBJECT_KINDS; i++)
        rdma->objects[i] = g_hash_table_new(NULL, NULL);
    g_queue_init(&rdma->noted);
    rdma->gids = g_new0(struct rdma_gid_entry, rdma->limits.gid_entries);
    rdma->turn = g_new0(struct rdma_turn, 1);
    rdma->turn->rdma = rdma;
}

void rdma_finish(struct rdma *rdma)
{
    for (unsigned i = 0; i < RDMA_OBJECT_KINDS; i++)
        g_hash_table_destroy(rdma->objects[i]);
    if (rdma->turn->due)
        rdma->turn->rdma = NULL;
    else
        g_free(rdma->turn);
    g_free(rdma->gids);
    g_mutex_clear(&rdma->lock);
}

void rdma_close(struct rdma *rdma)
{
    if (!rdma)
        return;
    rdma_reset(rdma);
    rdma->ops->close(rdma);
}

void rdma_set_client(struct rdma *rdma, const struct rdma_client_ops *client, void *opaque)
{
    g_mutex_lock(&rdma->lock);
    rdma->client = client;
    rdma->client_opaque = opaque;
    g_mutex_unlock(&rdma->lock);
}

const char *rdma_implementation(const struct rdma *rdma)
{
    return rdma->implementation;
}

const struct rdma_limits *rdma_limits(const struct rdma *rdma)
{
    return &rdma->limits;
}

/* ---- turns ---- */

static void tell_event(const struct rdma_client_ops *client, void *opaque,
                       const struct rdma_object *object, uint32_t notes)
{
    for (unsigned event = 0; event <= RDMA_EVENT_DEVICE_FATAL; event++)
        if (notes & RDMA_NOTE(event))
            client->event(opaque, event, object->number);
}

/* Tells what @object (a copy: the original may go meanwhile) has to say; without the lock. */
static void tell(const struct rdma_client_ops *client, void *opaque,
                 const struct rdma_object *object)
{
    if (object->notes & RDMA_NOTE_READY)
        client->cq_ready(opaque, object->number);
    if ((object->notes & RDMA_NOTE_ROOM) && object->kind == RDMA_OBJECT_QP)
        client->qp_room(opaque, object->number);
    if ((object->notes & RDMA_NOTE_ROOM) && object->kind == RDMA_OBJECT_SRQ)
        client->srq_room(opaque, object->number);
    tell_event(client, opaque, object, object->notes);
}

/* As many as there are now: what callbacks cause waits for the next turn. */
static void tell_all(struct rdma *rdma)
{
    for (unsigned n = rdma->noted.length; n && rdma->running && rdma->noted.length; n--) {
        struct rdma_object *object = g_queue_pop_head_link(&rdma->noted)->data;
        const struct rdma_client_ops *client = rdma->client;
        void *opaque = rdma->client_opaque;
        struct rdma_object copy = *object;

        object->noted = false;
        object->notes = 0;
        if (!client)
            continue;
        for (unsigned event = 0; event <= RDMA_EVENT_DEVICE_FATAL; event++)
            if (copy.notes & RDMA_NOTE(event))
                trace_rdma_event(rdma->implementation, event, copy.number);
        g_mutex_unlock(&rdma->lock);
        tell(client, opaque, &copy);
        g_mutex_lock(&rdma->lock);
    }
}

static void turn_run(void *opaque)
{
    struct rdma_turn *turn = opaque;
    struct rdma *rdma = turn->rdma;

    if (!rdma) {
        g_free(turn);
        return;
    }
    g_mutex_lock(&rdma->lock);
    turn->due = false;
    bool more = rdma->running && rdma->ops->work(rdma);
    tell_all(rdma);
    if (rdma->running && (more || rdma->noted.length))
        rdma_kick(rdma);
    g_mutex_unlock(&rdma->lock);
}

void rdma_kick(struct rdma *rdma)
{
    if (!rdma->running || rdma->turn->due)
        return;
    rdma->turn->due = true;
    loop_defer(rdma->loop, turn_run, rdma->turn);
}

void rdma_notify(struct rdma_object *object, uint32_t notes)
{
    object->notes |= notes;
    if (!object->noted) {
        object->noted = true;
        g_queue_push_tail_link(&object->rdma->noted, &object->link);
    }
    rdma_kick(object->rdma);
}

struct run_request {
    struct rdma *rdma;
    bool running;
};

/* On the loop, so that no callback is under way when it is done. */
static void set_running(void *opaque)
{
    struct run_request *request = opaque;
    struct rdma *rdma = request->rdma;

    g_mutex_lock(&rdma->lock);
    rdma->running = request->running;
    if (rdma->ops->set_running)
        rdma->ops->set_running(rdma, request->running);
    rdma_kick(rdma);
    g_mutex_unlock(&rdma->lock);
}

void rdma_set_running(struct rdma *rdma, bool running)
{
    struct run_request request = {rdma, running};

    loop_call(rdma->loop, set_running, &request);
}

/* ---- objects ---- */

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
    object_init(object, rdma, kind, number);
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

void rdma_reset(struct rdma *rdma)
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
        destroy_mr(object);
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

/* ---- the port ---- */

enum rdma_mtu rdma_mtu_of_link(uint32_t mtu)
{
    enum rdma_mtu fits = RDMA_MTU_256;

    /* IPv6 40, UDP 8, BTH 12, the longest extension (atomics: 28), immediate 4, ICRC 4. */
    while (fits < RDMA_MTU_4096 && rdma_mtu_bytes(fits + 1) + 96 <= mtu)
        fits++;
    return fits;
}

int rdma_query_port(struct rdma *rdma, struct rdma_port *port)
{
    g_mutex_lock(&rdma->lock);
    memset(port, 0, sizeof(*port));
    int error = rdma->ops->query_port(rdma, port);
    port->active = port->active && rdma->link_up;
    port->active_mtu = MIN(port->active_mtu, rdma_mtu_of_link(rdma->link_mtu));
    g_mutex_unlock(&rdma->lock);
    return error;
}

void rdma_set_link(struct rdma *rdma, bool up, uint32_t mtu)
{
    g_mutex_lock(&rdma->lock);
    rdma->link_mtu = mtu;
    if (rdma->link_up != up) {
        rdma->link_up = up;
        rdma->port.notes &= ~(RDMA_NOTE(RDMA_EVENT_PORT_ACTIVE) | RDMA_NOTE(RDMA_EVENT_PORT_ERROR));
        rdma_notify(&rdma->port, RDMA_NOTE(up ? RDMA_EVENT_PORT_ACTIVE : RDMA_EVENT_PORT_ERROR));
    }
    g_mutex_unlock(&rdma->lock);
}

int rdma_find_gid(const struct rdma *rdma, const union rdma_gid *gid)
{
    for (unsigned i = 0; i < rdma->limits.gid_entries; i++)
        if (rdma->gids[i].used && !memcmp(&rdma->gids[i].gid, gid, sizeof(*gid)))
            return i;
    return -1;
}

bool rdma_gid_is_ipv4(const union rdma_gid *gid)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

    return !memcmp(gid->raw, prefix, sizeof(prefix));
}

int rdma_add_gid(struct rdma *rdma, unsigned index, const union rdma_gid *gid,
                 enum rdma_gid_type type, const uint8_t mac[6])
{
    struct rdma_gid_entry entry = {.used = true, .gid = *gid, .type = type};
    int error = 0;

    if (index >= rdma->limits.gid_entries || (type != RDMA_GID_ROCE_V1 && type != RDMA_GID_ROCE_V2))
        return -EINVAL;
    memcpy(entry.mac, mac, sizeof(entry.mac));
    g_mutex_lock(&rdma->lock);
    if (rdma->gids[index].used)
        error = -EEXIST;
    else if (rdma->ops->add_gid)
        error = rdma->ops->add_gid(rdma, index, &entry);
    if (!error)
        rdma->gids[index] = entry;
    g_mutex_unlock(&rdma->lock);
    return error;
}

int rdma_remove_gid(struct rdma *rdma, unsigned index)
{
    int error = -EINVAL;

    if (index >= rdma->limits.gid_entries)
        return error;
    g_mutex_lock(&rdma->lock);
    if (rdma->gids[index].used) {
        if (rdma->ops->remove_gid)
            rdma->ops->remove_gid(rdma, index);
        rdma->gids[index].used = false;
        error = 0;
    }
    g_mutex_unlock(&rdma->lock);
    return error;
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

    g_mutex_lock(&rdma->lock);
    mr->pending = false;
    if (error) {
        destroy_mr(mr);
        mr = NULL;
    }
    g_mutex_unlock(&rdma->lock);
    done(opaque, mr, error);
}

int rdma_destroy_mr(struct rdma_mr *mr)
{
    return DESTROY(mr, destroy_mr);
}

uint32_t rdma_mr_lkey(const struct rdma_mr *mr)
{
    return mr->lkey;
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

unsigned rdma_poll_cq(struct rdma_cq *cq, struct rdma_wc *wc, unsigned max)
{
    struct rdma *rdma = cq->object.rdma;
    unsigned count = 0;

    g_mutex_lock(&rdma->lock);
    if (rdma->running) {
        count = rdma->ops->poll_cq(cq, wc, max);
        if (count < max)
            cq->tell = true;
    } else {
        rdma_notify(&cq->object, RDMA_NOTE_READY); /* to be looked at again */
    }
    g_mutex_unlock(&rdma->lock);
    trace_rdma_poll(rdma->implementation, cq->object.number, count);
    return count;
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

/* Are the values of the attributes @mask in range (IBTA 11.2.4.2)? */
static bool values_are_valid(const struct rdma *rdma, const struct rdma_qp_attributes *a,
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
        !values_are_valid(rdma, attributes, mask))
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

/* ---- work ---- */

int rdma_post_send(struct rdma_qp *qp, const struct rdma_send_wr *wr)
{
    struct rdma *rdma = qp->object.rdma;
    int error = -EINVAL;

    g_mutex_lock(&rdma->lock);
    if (qp->attributes.state >= RDMA_QPS_RTS)
        error = rdma->ops->post_send(qp, wr);
    if (error == -ENOMEM)
        qp->wants_room = true;
    g_mutex_unlock(&rdma->lock);
    trace_rdma_post(rdma->implementation, "qp", qp->object.number, wr->wr_id, wr->opcode, error);
    return error;
}

int rdma_post_recv(struct rdma_qp *qp, const struct rdma_recv_wr *wr)
{
    struct rdma *rdma = qp->object.rdma;
    int error = -EINVAL;

    g_mutex_lock(&rdma->lock);
    if (qp->attributes.state != RDMA_QPS_RESET && !qp->create.srq)
        error = rdma->ops->post_recv(qp, wr);
    if (error == -ENOMEM)
        qp->wants_room = true;
    g_mutex_unlock(&rdma->lock);
    trace_rdma_post(rdma->implementation, "rq", qp->object.number, wr->wr_id, -1, error);
    return error;
}

int rdma_post_srq_recv(struct rdma_srq *srq, const struct rdma_recv_wr *wr)
{
    struct rdma *rdma = srq->object.rdma;

    g_mutex_lock(&rdma->lock);
    int error = rdma->ops->post_srq_recv(srq, wr);
    if (error == -ENOMEM)
        srq->wants_room = true;
    g_mutex_unlock(&rdma->lock);
    trace_rdma_post(rdma->implementation, "srq", srq->object.number, wr->wr_id, -1, error);
    return error;
}

/* ---- lifecycle ---- */

const char *rdma_unsaveable(const struct rdma *rdma)
{
    return rdma->ops->unsaveable;
}

void rdma_save(struct rdma *rdma, GByteArray *out)
{
    g_mutex_lock(&rdma->lock);
    if (rdma->ops->save)
        rdma->ops->save(rdma, out);
    g_mutex_unlock(&rdma->lock);
}

bool rdma_load(struct rdma *rdma, const uint8_t *data, size_t size, GError **error)
{
    bool loaded;

    if (!rdma->ops->load) {
        g_set_error(error, OPTIONS_ERROR, 0, "rdma %s: %s", rdma->implementation,
                    rdma->ops->unsaveable);
        return false;
    }
    loaded = rdma->ops->load(rdma, data, size, error);
    if (!loaded)
        rdma_reset(rdma);
    return loaded;
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
