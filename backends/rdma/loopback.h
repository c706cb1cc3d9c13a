/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loopback - an adapter whose queue pairs reach each other through guest memory; private to
 * backends/rdma
 *
 *   loopback.c         opening, CQs, SRQs, queues of work
 *   loopback_memory.c  keys, memory regions, moving bytes between them
 *   loopback_qp.c      states of queue pairs, waiting, errors, completions
 *   loopback_work.c    what a work request does
 *   loopback_state.c   saving and loading
 *
 * Requester and responder are both here: a message is a copy from the one's memory to the other's, done
 * in slices so that no turn of the loop is long. The request at the head of a send queue is the one that
 * is executed; a queue pair is in the list `ready` when it may have something to do, in `waiting` when
 * its head waits for its peer or for a receive, or in none.
 */
#ifndef BACKENDS_RDMA_LOOPBACK_H
#define BACKENDS_RDMA_LOOPBACK_H

#include "backends/rdma/driver.h"

#define LOOPBACK_MAX_MESSAGE (UINT32_C(1) << 31)

/* ---- queues of work requests ---- */

struct send_wqe {
    struct rdma_send_wr wr; /* .sge is below; FAST_REG: .pages in the queue pair's fast_pages */
    uint32_t status;        /* enum rdma_wc_status: wrong when it was posted */
    struct rdma_sge sge[];
};

struct recv_wqe {
    uint64_t wr_id;
    uint32_t num_sge;
    uint32_t status;
    struct rdma_sge sge[];
};

struct work_queue {
    uint8_t *slots;
    uint32_t stride, size, head, count;
};

static inline void *work_queue_at(const struct work_queue *queue, uint32_t i)
{
    uint32_t slot = queue->head + i;

    return queue->slots + (size_t)(slot < queue->size ? slot : slot - queue->size) * queue->stride;
}
int work_queue_init(struct work_queue *queue, size_t stride, uint32_t size);
void work_queue_finish(struct work_queue *queue);
void work_queue_pop(struct work_queue *queue);
/* Copies a receive to the end. -ENOMEM: full. */
int work_queue_add_recv(struct work_queue *queue, const struct rdma_recv_wr *wr, uint32_t max_sge);

/* ---- objects ---- */

struct loopback_mr {
    struct rdma_mr mr; /* lkey == rkey: index << 8 | the low byte, which FAST_REG sets */
    bool valid;        /* FAST: filled and not invalidated since */
    uint32_t room;     /* FAST: pages it can hold; attributes.page_count are in use */
};

struct loopback_cq {
    struct rdma_cq cq;
    struct rdma_wc *ring; /* grows up to cq.entries */
    uint32_t room, head, count;
    bool overflown;
};

struct loopback_srq {
    struct rdma_srq srq;
    struct work_queue rq;
    bool starved; /* somebody found it empty */
};

enum loopback_wait {
    LOOPBACK_WAIT_NOTHING,
    LOOPBACK_WAIT_PEER,    /* nobody answers: transport retries */
    LOOPBACK_WAIT_RECEIVE, /* receiver not ready */
};

struct loopback_qp {
    struct rdma_qp qp;
    struct work_queue sq, rq;
    uint64_t *fast_pages; /* max_fast_reg_pages for each slot of sq; made by the first FAST_REG */
    GList link;
    GQueue *list; /* ready, waiting or NULL */

    /* Requester: the request at the head of sq. */
    bool started;
    uint32_t done; /* bytes moved */
    uint8_t retries_left, rnr_left;
    enum loopback_wait wait;
    int64_t deadline; /* ns; INT64_MAX: never */
    bool draining;    /* SQD, and not drained yet */

    /* Responder: the receive that a message is coming into. */
    bool receiving;
    bool established; /* had a message in RTR */
    struct {
        uint64_t wr_id;
        uint32_t num_sge, status;
        struct rdma_sge sge[RDMA_MAX_SGE];
    } receive;
};

struct mr_slot {
    struct loopback_mr *mr; /* NULL: free */
    uint8_t key;            /* the next low byte */
    uint32_t next_free;
};

struct loopback {
    struct rdma rdma;
    bool deaf; /* backend=null: no peer answers */
    GQueue ready, waiting;
    GHashTable *by_qpn;
    uint32_t next_qpn;
    struct loop_timer *timer;
    struct mr_slot *mr_slots; /* by index of the key; [0] is not used */
    uint32_t mr_room, mr_free;
    uint32_t load_key; /* not 0: the key that the next region gets */
};

static inline struct loopback *loopback_of(struct rdma *rdma)
{
    return (struct loopback *)rdma;
}
static inline struct loopback_qp *loopback_qp(struct rdma_qp *qp)
{
    return (struct loopback_qp *)qp;
}

/* Opens one; @deaf: backend=null. */
struct rdma *loopback_open(const char *implementation, bool deaf, struct dma *dma,
                           struct loop *loop);

/* ---- loopback.c ---- */

/* A completion; an overflow takes all queue pairs of the CQ to ERR. */
void loopback_complete(struct rdma_cq *cq, const struct rdma_wc *wc);
/* Forgets the completions of a queue pair. */
void loopback_forget_completions(struct rdma_cq *cq, uint32_t qp);

/* ---- loopback_memory.c ---- */

int loopback_create_mr(struct rdma_mr *mr);
void loopback_destroy_mr(struct rdma_mr *mr);
/* After all regions were made with keys of their own (load_key): what other indices come next. @keys:
 * the low byte of each. */
void loopback_load_keys(struct loopback *loopback, const GByteArray *keys);
struct loopback_mr *loopback_find_mr(struct loopback *loopback, uint32_t key);

/* One side of a transfer: pieces of memory, and what must be allowed there. */
struct loopback_side {
    struct loopback *loopback;
    const struct rdma_pd *pd;
    const struct rdma_sge *sge; /* .lkey is any key */
    uint32_t num_sge;
    uint32_t access; /* enum rdma_access of the region; 0: to be read locally */
    uint32_t skip;   /* bytes of the pieces that lie before the transfer */
};

uint64_t loopback_sge_length(const struct rdma_sge *sge, uint32_t num_sge);
/* Keys, domains, rights and bounds of all pieces. */
bool loopback_side_is_valid(const struct loopback_side *side);

enum loopback_moved {
    LOOPBACK_MOVED,
    LOOPBACK_BAD_SOURCE,
    LOOPBACK_BAD_TARGET,
    LOOPBACK_NO_DMA, /* the gate closed: later */
};
/*
 * Copies bytes [from, to) of a message, in order; the last one becomes visible last when @to is
 * its end.
 */
enum loopback_moved loopback_move(const struct loopback_side *source,
                                  const struct loopback_side *target, uint32_t from, uint32_t to);
/* Writes @size bytes from @data at offset 0 of @target. */
enum loopback_moved loopback_put(const struct loopback_side *target, const void *data,
                                 uint32_t size);
/* The host address of 8 aligned bytes, for an atomic; *gpa for dma_written. */
enum loopback_moved loopback_map_atomic(const struct loopback_side *side, uint64_t **host,
                                        uint64_t *gpa);

/* FAST_REG and invalidation of regions of @pd; false: not allowed as asked. */
bool loopback_fast_register(struct loopback *loopback, const struct rdma_pd *pd,
                            const struct rdma_send_wr *wr);
bool loopback_invalidate(struct loopback *loopback, const struct rdma_pd *pd, uint32_t key);

/* ---- loopback_qp.c ---- */

int loopback_create_qp(struct rdma_qp *qp);
void loopback_destroy_qp(struct rdma_qp *qp);
int loopback_modify_qp(struct rdma_qp *qp, const struct rdma_qp_attributes *old, uint32_t mask);
void loopback_query_qp(struct rdma_qp *qp, struct rdma_qp_attributes *attributes);
int loopback_post_send(struct rdma_qp *qp, const struct rdma_send_wr *wr);
int loopback_post_recv(struct rdma_qp *qp, const struct rdma_recv_wr *wr);
int loopback_post_srq_recv(struct rdma_srq *srq, const struct rdma_recv_wr *wr);

/* Moves @qp to a list (NULL: to none) and starts what that needs. */
void loopback_list(struct loopback_qp *qp, GQueue *list);
void loopback_wake(struct loopback_qp *qp); /* to `ready`, from wherever */
/* The timer: those whose wait is over. */
void loopback_wait_over(void *loopback);
void loopback_arm(struct loopback *loopback);

void loopback_enter_error(struct loopback_qp *qp, uint32_t event_note);
/* Completes the head of the send queue, and what an error means for the queue pair. */
void loopback_complete_send(struct loopback_qp *qp, enum rdma_wc_status status, uint32_t byte_len);
/* Completes the current receive. @wc has everything but wr_id and qp. */
void loopback_complete_recv(struct loopback_qp *qp, struct rdma_wc *wc);
/* Takes the next receive as the current one; false: there is none. */
bool loopback_take_receive(struct loopback_qp *qp);
/* Flushes one request of a queue pair in ERR or SQE; false: nothing is left. */
bool loopback_flush(struct loopback_qp *qp);
bool loopback_rename_qp(struct loopback_qp *qp, uint32_t qpn); /* false: can't be its QPN */
struct loopback_qp *loopback_by_qpn(struct loopback *loopback, uint32_t qpn);
int64_t loopback_rnr_ns(uint8_t timer); /* what the code of an RNR timer means (IBTA table 45) */

/* ---- loopback_work.c, loopback_state.c ---- */

bool loopback_work(struct rdma *rdma);

void loopback_save(struct rdma *rdma, GByteArray *out);
bool loopback_load(struct rdma *rdma, const uint8_t *data, size_t size, GError **error);

#endif
