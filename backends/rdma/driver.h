/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * driver - what the implementations of rdma.h share; private to backends/rdma
 *
 * rdma.c allocates every object, keeps it by its number, counts its users and checks what holds for all
 * implementations; an implementation embeds the structs below as first members of its own, gives their
 * sizes, and fills or empties them in create_* and destroy_*. All functions of struct rdma_ops are called
 * with the lock held.
 *
 * What is to be told to the client is noted at the object (rdma_notify) and told in the next turn: a
 * call on the loop that lets the implementation work for a bounded time, then drops the lock for each
 * callback. So nothing waits in a list that could grow, and nothing is told of objects that are gone.
 */
#ifndef BACKENDS_RDMA_DRIVER_H
#define BACKENDS_RDMA_DRIVER_H

#include "backends/rdma/rdma.h"

enum rdma_object_kind {
    RDMA_OBJECT_PORT, /* the adapter itself */
    RDMA_OBJECT_PD,
    RDMA_OBJECT_MR,
    RDMA_OBJECT_CQ,
    RDMA_OBJECT_SRQ,
    RDMA_OBJECT_QP,
    RDMA_OBJECT_KINDS
};

/* Notes beside enum rdma_event_type, whose values are bits of the same word. */
#define RDMA_NOTE(EVENT) (1u << (EVENT))
#define RDMA_NOTE_READY  (1u << 30) /* CQ */
#define RDMA_NOTE_ROOM   (1u << 31) /* QP, SRQ */

struct rdma_object {
    struct rdma *rdma;
    enum rdma_object_kind kind;
    uint32_t number;
    unsigned users;
    uint32_t notes; /* to tell */
    bool noted;     /* link is in rdma->noted */
    GList link;
};

struct rdma_pd {
    struct rdma_object object;
};

struct rdma_mr {
    struct rdma_object object;
    struct rdma_pd *pd;
    struct rdma_mr_attributes attributes; /* .pages belongs to the implementation */
    uint32_t lkey, rkey;
    bool pending; /* done did not come yet */
    rdma_mr_fn done;
    void *opaque;
};

struct rdma_cq {
    struct rdma_object object;
    uint32_t entries;
    bool tell; /* cq_ready is due with the next completion */
};

struct rdma_srq {
    struct rdma_object object;
    struct rdma_pd *pd;
    uint32_t max_wr, max_sge, limit;
    bool wants_room;
};

struct rdma_qp {
    struct rdma_object object;
    struct rdma_pd *pd;
    struct rdma_qp_create create;
    struct rdma_qp_attributes attributes; /* .state is the state */
    uint32_t qpn;
    bool wants_room; /* a post returned -ENOMEM */
};

struct rdma_gid_entry {
    bool used;
    union rdma_gid gid;
    enum rdma_gid_type type;
    uint8_t mac[6];
};

struct rdma_ops {
    size_t pd_size, mr_size, cq_size, srq_size, qp_size;

    /* All objects are gone; frees @rdma. On the loop, without the lock. */
    void (*close)(struct rdma *rdma);
    /* A bounded part of what is to do; true: there is more. Only while running. */
    bool (*work)(struct rdma *rdma);
    void (*set_running)(struct rdma *rdma, bool running); /* may be NULL */
    int (*query_port)(struct rdma *rdma, struct rdma_port *port);
    /* Checks and does what the host needs; the table is kept by rdma.c. May be NULL. */
    int (*add_gid)(struct rdma *rdma, unsigned index, const struct rdma_gid_entry *entry);
    void (*remove_gid)(struct rdma *rdma, unsigned index);

    int (*create_pd)(struct rdma_pd *pd);
    void (*destroy_pd)(struct rdma_pd *pd);
    /* 0: there it is; 1: rdma_mr_created() comes later; -errno. */
    int (*create_mr)(struct rdma_mr *mr);
    void (*destroy_mr)(struct rdma_mr *mr); /* also one that is still being made */
    int (*create_cq)(struct rdma_cq *cq);
    void (*destroy_cq)(struct rdma_cq *cq);
    unsigned (*poll_cq)(struct rdma_cq *cq, struct rdma_wc *wc, unsigned max);
    int (*create_srq)(struct rdma_srq *srq);
    void (*destroy_srq)(struct rdma_srq *srq);
    int (*set_srq_limit)(struct rdma_srq *srq, uint32_t limit);
    /* May lower nothing of qp->create; sets qp->qpn. */
    int (*create_qp)(struct rdma_qp *qp);
    void (*destroy_qp)(struct rdma_qp *qp);
    /* The transition and the values are checked and qp->attributes has what is to be; @old is what it
     * was, and will be again on errors. @mask: what the caller asked for. */
    int (*modify_qp)(struct rdma_qp *qp, const struct rdma_qp_attributes *old, uint32_t mask);
    /* May refresh .state and .sq_draining; may be NULL. */
    void (*query_qp)(struct rdma_qp *qp, struct rdma_qp_attributes *attributes);
    int (*post_send)(struct rdma_qp *qp, const struct rdma_send_wr *wr);
    int (*post_recv)(struct rdma_qp *qp, const struct rdma_recv_wr *wr);
    int (*post_srq_recv)(struct rdma_srq *srq, const struct rdma_recv_wr *wr);

    const char *unsaveable; /* or NULL, and then both of: */
    void (*save)(struct rdma *rdma, GByteArray *out);
    bool (*load)(struct rdma *rdma, const uint8_t *data, size_t size, GError **error);
};

/* The deferred call; it outlives an adapter that is closed while the call is on its way. */
struct rdma_turn {
    struct rdma *rdma; /* NULL: closed */
    bool due;
};

struct rdma {
    const struct rdma_ops *ops;
    const char *implementation;
    struct dma *dma;
    struct loop *loop;
    struct rdma_limits limits;
    const struct rdma_client_ops *client;
    void *client_opaque;

    GMutex lock; /* of all that follows and of all objects */
    bool running;
    bool link_up;
    uint32_t link_mtu;
    struct rdma_object port;                /* number 1 */
    GHashTable *objects[RDMA_OBJECT_KINDS]; /* by number */
    GQueue noted;                           /* objects with notes */
    struct rdma_gid_entry *gids;            /* limits.gid_entries */
    struct rdma_turn *turn;
};

/* Each opens by its keys of rdma_options; NULL with @error set. */
struct rdma *rdma_loopback_open(const struct options *options, struct dma *dma, struct loop *loop,
                                GError **error);
struct rdma *rdma_verbs_open(const struct options *options, struct dma *dma, struct loop *loop,
                             GError **error);
void rdma_verbs_probe(rdma_probe_fn found, void *opaque);
struct rdma *rdma_null_open(const struct options *options, struct dma *dma, struct loop *loop,
                            GError **error);

/* @rdma is zeroed but for .limits. */
void rdma_init(struct rdma *rdma, const struct rdma_ops *ops, const char *implementation,
               struct dma *dma, struct loop *loop);
void rdma_finish(struct rdma *rdma);

void rdma_object_init(struct rdma_object *object, struct rdma *rdma, enum rdma_object_kind kind,
                      uint32_t number);
/* Has a turn run soon. With the lock, as all below. */
void rdma_kick(struct rdma *rdma);
/* Runs a turn, without waiting for the loop's next one; on the loop, not with the lock. */
void rdma_turn_now(struct rdma *rdma);
/* Tells of an event (RDMA_NOTE) or of RDMA_NOTE_*, in the next turn. */
void rdma_notify(struct rdma_object *object, uint32_t notes);
/* A completion came into an empty queue, or the first one since a poll found less than it wanted. */
static inline void rdma_cq_filled(struct rdma_cq *cq)
{
    if (cq->tell) {
        cq->tell = false;
        rdma_notify(&cq->object, RDMA_NOTE_READY);
    }
}

/* For create_mr that returned 1; on the loop. Frees @mr when @error is not 0; drops the lock while it
 * tells the client. */
void rdma_mr_created(struct rdma_mr *mr, int error);

void *rdma_find(struct rdma *rdma, enum rdma_object_kind kind, uint32_t number);
unsigned rdma_count(const struct rdma *rdma, enum rdma_object_kind kind);

/* Are the values of the attributes @mask in range (IBTA 11.2.4.2)? */
bool rdma_qp_values_are_valid(const struct rdma *rdma, const struct rdma_qp_attributes *attributes,
                              uint32_t mask);

/* The index of a used entry with this GID, or -1. */
int rdma_find_gid(const struct rdma *rdma, const union rdma_gid *gid);
bool rdma_gid_is_ipv4(const union rdma_gid *gid); /* ::ffff:a.b.c.d */

/* The first 40 bytes of a received datagram: the network header that it has on the wire, an IPv4 one in
 * the last 20. @size: of the payload. */
#define RDMA_GRH_SIZE 40u
void rdma_network_header(uint8_t grh[RDMA_GRH_SIZE], const struct rdma_gid_entry *from,
                         const struct rdma_av *av, uint32_t size, uint8_t *network_type);

/* The largest InfiniBand MTU whose packets fit an Ethernet link of @mtu bytes (RoCE v2 over IPv6). */
enum rdma_mtu rdma_mtu_of_link(uint32_t mtu);

#endif
