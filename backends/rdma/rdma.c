/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rdma - opening by options, turns of work and callbacks, the port and its GIDs (contract:
 * backends/rdma/rdma.h; for implementations: backends/rdma/driver.h; the objects: objects.c)
 *
 * One lock an adapter covers everything; it is held for calls into the implementation and never for
 * callbacks.
 */
#include "backends/rdma/rdma.h"

#include <errno.h>
#include <string.h>

#include "backends/rdma/driver.h"
#include "config.h"
#include "vmm/trace.h"

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

/* ---- opening ---- */

static const struct {
    const char *name;
    struct rdma *(*open)(const struct options *options, struct dma *dma, struct loop *loop,
                         GError **error);
} backends[] = {
    {"loopback", rdma_loopback_open},
#ifdef HAVE_LIBIBVERBS
    {"verbs", rdma_verbs_open},
#endif
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

void rdma_probe(rdma_probe_fn found, void *opaque)
{
#ifdef HAVE_LIBIBVERBS
    rdma_verbs_probe(found, opaque);
#else
    found(opaque, false, "libibverbs is not built in: --rdma has loopback only",
          "install libibverbs-dev and build again");
#endif
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
    rdma_object_init(&rdma->port, rdma, RDMA_OBJECT_PORT, 1);
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
    rdma_reset(rdma, NULL);
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

/* One turn. What the work kicks is in its result; what comes while the client is told is not. */
static void turn(struct rdma *rdma)
{
    bool due = rdma->turn->due;

    rdma->turn->due = true;
    bool more = rdma->running && rdma->ops->work(rdma);
    rdma->turn->due = due;
    tell_all(rdma);
    if (rdma->running && (more || rdma->noted.length))
        rdma_kick(rdma);
}

static void turn_run(void *opaque)
{
    struct rdma_turn *deferred = opaque;
    struct rdma *rdma = deferred->rdma;

    if (!rdma) {
        g_free(deferred);
        return;
    }
    g_mutex_lock(&rdma->lock);
    deferred->due = false;
    turn(rdma);
    g_mutex_unlock(&rdma->lock);
}

void rdma_turn_now(struct rdma *rdma)
{
    g_mutex_lock(&rdma->lock);
    turn(rdma);
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

void rdma_look_again(struct rdma *rdma)
{
    g_mutex_lock(&rdma->lock);
    rdma_kick(rdma);
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

/* ---- work and completions ---- */

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
        rdma_reset(rdma, NULL);
    return loaded;
}
