/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verbs - an adapter on an RDMA device of the host, through libibverbs; private to backends/rdma
 *
 *   verbs.c         opening, the port, completion queues, events
 *   verbs_memory.c  guest pages as one range of addresses, registered; locked memory
 *   verbs_qp.c      queue pairs, shared receive queues, work
 *   verbs_gid.c     GIDs of the host's port
 *   verbs_gsi.c     QP 1, and the datagrams between those of several guests
 *   verbs_probe.c   what there is, for lodge doctor
 *
 * Objects are the host's own, one for one; keys, queue pair numbers and addresses too (a region is
 * registered at the address that the guest uses), so posting translates nothing, but keys of DMA
 * regions.
 *
 * What the host can't do for us: stop a device that a peer writes to (so such an adapter is not saved,
 * and rdma_set_running(false) only holds back what is posted and what has completed), fast registration
 * (a generic one needs keys that are known before), and QP 1, which ib_core keeps for itself: that of a
 * guest reaches the guests of the same host only (verbs_gsi.c).
 */
#ifndef BACKENDS_RDMA_VERBS_H
#define BACKENDS_RDMA_VERBS_H

#include <infiniband/verbs.h>

#include "backends/rdma/driver.h"
#include "vmm/log.h"

#define VERBS_BATCH    32u
#define VERBS_DMA_KEY  0xfffffe00u /* and up: keys of DMA regions, which are ours */
#define VERBS_SPLIT    2u /* pieces that a scatter/gather entry of a DMA region may become */
#define VERBS_MAX_SGE  (RDMA_MAX_SGE * VERBS_SPLIT)
#define VERBS_AH_CACHE 256u

struct verbs_pd {
    struct rdma_pd pd;
    struct ibv_pd *ib;
    GHashTable *handles;  /* struct ah_key -> struct ibv_ah */
    struct verbs_mr *dma; /* a DMA region, or NULL */
};

struct verbs_range {
    uint8_t *host;
    size_t size;
    uint32_t mappings; /* 0: where guest memory is mapped anyway; else ours, to be unmapped: */
    size_t filled;     /* [0, filled) has pages, */
    size_t reserved;   /* and from here on nobody else can map; all of it, in the end */
};

struct verbs_segment {
    uint64_t gpa, size;
    uint8_t *host;
    struct ibv_mr *ib; /* NULL: not yet, or refused */
};

struct verbs_mr {
    struct rdma_mr mr;
    struct ibv_mr *ib;
    struct verbs_range range;
    struct verbs_job *job;          /* under way, or NULL */
    struct verbs_segment *segments; /* DMA: registered when first used */
    unsigned segment_count;
    bool registered; /* DMA: all segments are */
};

struct verbs_cq {
    struct rdma_cq cq;
    struct ibv_cq *ib;
    GQueue injected; /* of struct rdma_wc: completions that the host did not make */
    struct rdma_wc stash[VERBS_BATCH];
    unsigned stashed, stash_head;
    bool hot;   /* in verbs->hot: polled by turns of the loop */
    bool armed; /* the host tells of the next completion */
    GList link;
    int64_t hot_until; /* ns */
};

struct verbs_srq {
    struct rdma_srq srq;
    struct ibv_srq *ib;
};

struct verbs_qp {
    struct rdma_qp qp;
    struct ibv_qp *ib; /* NULL: GSI */
    GQueue receives;   /* GSI: of struct gsi_receive */
    bool established;  /* COMM_EST was told since RESET */
    bool last_told;    /* LAST_WQE_REACHED was told since RESET */
};

struct gsi_socket;

struct verbs {
    struct rdma rdma;
    struct ibv_context *ib;
    struct ibv_device_attr attr;
    struct ibv_comp_channel *channel;
    struct loop_fd *channel_watch, *async_watch;
    bool channel_is_ready; /* the loop's own */
    GHashTable *by_qpn;
    char *device;
    uint8_t port;
    int fallback_gid; /* -1: none */
    bool soft;        /* rdma_rxe: see verbs_qp.c */
    struct {
        uint8_t index;             /* of the host's table */
        bool added;                /* its address is ours to remove */
        struct gsi_socket *socket; /* where datagrams for QP 1 come in; NULL: none */
    } * gids;
    GQueue hot;
    int64_t window;     /* ns that a completion queue is polled after a completion, */
    int64_t max_window; /* and at most; 0: not at all */
    GThreadPool *workers;
    struct log_limit complaints;
};

static inline struct verbs *verbs_of(struct rdma *rdma)
{
    return (struct verbs *)rdma;
}

/* ---- verbs.c ---- */

/* A completion that the host's device does not make. */
void verbs_inject(struct rdma_cq *cq, const struct rdma_wc *wc);
void verbs_forget_completions(struct rdma_cq *cq, uint32_t qp);

/* ---- verbs_memory.c ---- */

bool verbs_memory_check(struct verbs *verbs, const struct options *options, GError **error);
int verbs_create_mr(struct rdma_mr *mr);
void verbs_destroy_mr(struct rdma_mr *mr);
/* The entries for the host's device, in @out with room for VERBS_MAX_SGE; how many, or -errno. */
int verbs_translate(struct verbs_pd *pd, const struct rdma_sge *sge, uint32_t num_sge,
                    struct ibv_sge *out);
void verbs_work_on(gpointer job, gpointer verbs); /* of the workers */

/* ---- verbs_qp.c ---- */

int verbs_create_qp(struct rdma_qp *qp);
void verbs_destroy_qp(struct rdma_qp *qp);
int verbs_modify_qp(struct rdma_qp *qp, const struct rdma_qp_attributes *old, uint32_t mask);
void verbs_query_qp(struct rdma_qp *qp, struct rdma_qp_attributes *attributes);
/* What the host says of the state: .state and .sq_draining of @to. */
void verbs_refresh_state(struct verbs_qp *qp, struct rdma_qp_attributes *to);
int verbs_post_send(struct rdma_qp *qp, const struct rdma_send_wr *wr);
int verbs_post_recv(struct rdma_qp *qp, const struct rdma_recv_wr *wr);
int verbs_create_srq(struct rdma_srq *srq);
void verbs_destroy_srq(struct rdma_srq *srq);
int verbs_set_srq_limit(struct rdma_srq *srq, uint32_t limit);
int verbs_post_srq_recv(struct rdma_srq *srq, const struct rdma_recv_wr *wr);
void verbs_free_handle(gpointer ah);
void verbs_forget_handles(struct verbs *verbs, unsigned index); /* from this GID of the guest's */
GHashTable *verbs_handles_create(void);
void verbs_established(struct verbs_qp *qp);  /* a message came in RTR */
void verbs_last_receive(struct verbs_qp *qp); /* of an SRQ, in ERR */
/* What a completion says about its queue pair: room, an error. */
void verbs_completed(struct verbs_qp *qp, const struct rdma_wc *wc);

/* Completes a datagram that goes nowhere as sent. */
void verbs_lose(struct verbs_qp *qp, const struct rdma_send_wr *wr);

/* ---- verbs_gsi.c ---- */

/* Both with the adapter's lock; NULL may be closed. */
struct gsi_socket *verbs_gsi_listen(struct verbs *verbs, const union rdma_gid *gid);
void verbs_gsi_close(struct gsi_socket *socket);
int verbs_gsi_send(struct verbs_qp *qp, const struct rdma_send_wr *wr);
int verbs_gsi_post_recv(struct verbs_qp *qp, const struct rdma_recv_wr *wr);
int verbs_gsi_modify(struct verbs_qp *qp); /* its state changed */

/* ---- verbs_gid.c ---- */

int verbs_add_gid(struct rdma *rdma, unsigned index, const struct rdma_gid_entry *entry);
void verbs_remove_gid(struct rdma *rdma, unsigned index);

#endif
