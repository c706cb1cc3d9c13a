/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loopback_work - what a work request does (backends/rdma/loopback.h)
 *
 * A turn gives each ready queue pair a share, round robin, until the turn's budget of requests and bytes
 * is used up. A message that is longer than a share goes on in the next one; between two shares the peer
 * may have changed, so everything is looked up and checked again for each slice.
 *
 * Requests of a queue pair are executed one after the other, each to its end, so fences need no thought.
 * Errors of the requester's own memory are found before anything moves; those of the responder are as
 * IBTA 9.7.5.2 and table 60 say, and both sides come to ERR.
 */
#include <errno.h>
#include <string.h>

#include "backends/rdma/loopback.h"

#define TURN_REQUESTS  512u
#define TURN_BYTES     (4u << 20)
#define SHARE_REQUESTS 32u
#define SHARE_BYTES    (512u << 10)

#define QKEY_PRIVILEGED 0x80000000u

struct share {
    unsigned requests;
    uint32_t bytes;
};

enum outcome {
    COMPLETED,  /* the head, well or not */
    UNFINISHED, /* the share is used up */
    WAITING,    /* in the list of those that wait */
    NO_DMA,
};

/* ---- peers ---- */

static const struct rdma_gid_entry *gid_at(const struct rdma *rdma, unsigned index)
{
    return index < rdma->limits.gid_entries && rdma->gids[index].used ? &rdma->gids[index] : NULL;
}

static bool same_gid(const union rdma_gid *a, const union rdma_gid *b)
{
    return !memcmp(a, b, sizeof(*a));
}

/* The other end of a connection, if it takes messages of this one. */
static struct loopback_qp *find_peer(struct loopback *loopback, const struct loopback_qp *qp)
{
    const struct rdma_qp_attributes *mine = &qp->qp.attributes;
    struct loopback_qp *peer = loopback_by_qpn(loopback, mine->dest_qpn);

    if (loopback->deaf || !loopback->rdma.link_up || !peer || peer->qp.create.type != RDMA_QP_RC)
        return NULL;
    const struct rdma_qp_attributes *theirs = &peer->qp.attributes;
    if (theirs->state < RDMA_QPS_RTR || theirs->state > RDMA_QPS_SQD ||
        theirs->dest_qpn != qp->qp.qpn)
        return NULL;
    const struct rdma_gid_entry *my_gid = gid_at(&loopback->rdma, mine->av.sgid_index);
    const struct rdma_gid_entry *their_gid = gid_at(&loopback->rdma, theirs->av.sgid_index);
    if (!my_gid || !their_gid || !same_gid(&mine->av.dgid, &their_gid->gid) ||
        !same_gid(&theirs->av.dgid, &my_gid->gid))
        return NULL;
    return peer;
}

static enum outcome finish(struct loopback_qp *qp, enum rdma_wc_status status, uint32_t byte_len)
{
    loopback_complete_send(qp, status, byte_len);
    return COMPLETED;
}

static enum outcome wait_until(struct loopback_qp *qp, enum loopback_wait what, int64_t deadline)
{
    struct loopback *loopback = loopback_of(qp->qp.object.rdma);

    qp->wait = what;
    qp->deadline = deadline;
    loopback_list(qp, &loopback->waiting);
    loopback_arm(loopback);
    return WAITING;
}

/* Nobody answers (IBTA 9.7.6.1.3): another try each time that the timer runs out. */
static enum outcome wait_for_peer(struct loopback_qp *qp)
{
    const struct rdma_qp_attributes *a = &qp->qp.attributes;
    int64_t now = loop_now_ns();
    int64_t interval = a->timeout ? INT64_C(4096) << a->timeout : 0;

    qp->done = 0;
    if (qp->wait == LOOPBACK_WAIT_PEER) {
        if (qp->deadline > now)
            return wait_until(qp, LOOPBACK_WAIT_PEER, qp->deadline);
        if (!qp->retries_left)
            return finish(qp, RDMA_WC_RETRY_EXC_ERR, 0);
        qp->retries_left--;
    }
    return wait_until(qp, LOOPBACK_WAIT_PEER, interval ? now + interval : INT64_MAX);
}

/* The peer has no receive (IBTA 9.7.5.2.8). */
static enum outcome wait_for_receive(struct loopback_qp *qp, const struct loopback_qp *peer)
{
    int64_t now = loop_now_ns();

    qp->done = 0;
    if (qp->wait == LOOPBACK_WAIT_RECEIVE && qp->deadline > now)
        return wait_until(qp, LOOPBACK_WAIT_RECEIVE, qp->deadline);
    if (qp->qp.attributes.rnr_retry != 7) {
        if (!qp->rnr_left)
            return finish(qp, RDMA_WC_RNR_RETRY_EXC_ERR, 0);
        qp->rnr_left--;
    }
    return wait_until(qp, LOOPBACK_WAIT_RECEIVE,
                      now + loopback_rnr_ns(peer->qp.attributes.min_rnr_timer));
}

/* ---- what goes wrong at the peer ---- */

/* The receive of @peer ends with @recv_status, or else the peer is told by @event; both end in ERR. */
static enum outcome peer_fails(struct loopback_qp *qp, struct loopback_qp *peer,
                               enum rdma_wc_status recv_status, enum rdma_event_type event,
                               enum rdma_wc_status status)
{
    struct rdma_wc wc = {.status = recv_status, .opcode = RDMA_WC_RECV};

    if (recv_status && peer->receiving) {
        loopback_complete_recv(peer, &wc);
        loopback_enter_error(peer, 0);
    } else {
        loopback_enter_error(peer, RDMA_NOTE(event));
    }
    return finish(qp, status, 0);
}

static enum outcome access_fails(struct loopback_qp *qp, struct loopback_qp *peer)
{
    return peer_fails(qp, peer, 0, RDMA_EVENT_QP_ACCESS_ERROR, RDMA_WC_REM_ACCESS_ERR);
}

static enum outcome request_fails(struct loopback_qp *qp, struct loopback_qp *peer)
{
    return peer_fails(qp, peer, 0, RDMA_EVENT_QP_REQUEST_ERROR, RDMA_WC_REM_INV_REQ_ERR);
}

/* ---- sides ---- */

static struct loopback_side local_side(struct loopback_qp *qp, const struct send_wqe *wqe,
                                       uint32_t access)
{
    return (struct loopback_side){
        .loopback = loopback_of(qp->qp.object.rdma),
        .pd = qp->qp.pd,
        .sge = wqe->sge,
        .num_sge = wqe->wr.num_sge,
        .access = access,
    };
}

static struct loopback_side receive_side(struct loopback_qp *peer)
{
    struct rdma_srq *srq = peer->qp.create.srq;

    return (struct loopback_side){
        .loopback = loopback_of(peer->qp.object.rdma),
        .pd = srq ? srq->pd : peer->qp.pd,
        .sge = peer->receive.sge,
        .num_sge = peer->receive.num_sge,
        .access = RDMA_ACCESS_LOCAL_WRITE,
    };
}

static struct loopback_side remote_side(struct loopback_qp *peer, const struct rdma_sge *range,
                                        uint32_t access)
{
    return (struct loopback_side){
        .loopback = loopback_of(peer->qp.object.rdma),
        .pd = peer->qp.pd,
        .sge = range,
        .num_sge = 1,
        .access = access,
    };
}

/* Moves what the share allows of a message of @length bytes. */
static enum loopback_moved move(struct loopback_qp *qp, const struct loopback_side *source,
                                const struct loopback_side *target, uint32_t length,
                                struct share *share)
{
    uint32_t part = MIN(length - qp->done, share->bytes);
    enum loopback_moved moved = loopback_move(source, target, qp->done, qp->done + part);

    if (moved == LOOPBACK_MOVED) {
        qp->done += part;
        share->bytes -= part;
    }
    return moved;
}

/* ---- receives ---- */

static void note_established(struct loopback_qp *peer)
{
    if (peer->established)
        return;
    peer->established = true;
    if (peer->qp.attributes.state == RDMA_QPS_RTR)
        rdma_notify(&peer->qp.object, RDMA_NOTE(RDMA_EVENT_COMM_EST));
}

static struct rdma_wc received(const struct send_wqe *wqe, uint32_t byte_len)
{
    struct rdma_wc wc = {.opcode = RDMA_WC_RECV, .byte_len = byte_len};

    switch (wqe->wr.opcode) {
    case RDMA_WR_WRITE_WITH_IMM:
        wc.opcode = RDMA_WC_RECV_WRITE_WITH_IMM;
        /* fall through */
    case RDMA_WR_SEND_WITH_IMM:
        wc.flags |= RDMA_WC_WITH_IMM;
        wc.imm = wqe->wr.imm_or_rkey;
        break;
    case RDMA_WR_SEND_WITH_INVALIDATE:
        wc.flags |= RDMA_WC_WITH_INVALIDATE;
        wc.invalidated_rkey = wqe->wr.imm_or_rkey;
        break;
    }
    if (wqe->wr.flags & RDMA_SEND_SOLICITED)
        wc.flags |= RDMA_WC_SOLICITED;
    return wc;
}

static bool needs_receive(uint32_t opcode)
{
    return opcode <= RDMA_WR_SEND_WITH_INVALIDATE || opcode == RDMA_WR_WRITE_WITH_IMM;
}

/* ---- reliable connections ---- */

static enum outcome rc_send(struct loopback_qp *qp, struct loopback_qp *peer,
                            const struct send_wqe *wqe, uint32_t length, struct share *share)
{
    struct loopback_side source = local_side(qp, wqe, 0), target = receive_side(peer);

    if (peer->receive.status)
        return peer_fails(qp, peer, peer->receive.status, 0, RDMA_WC_REM_OP_ERR);
    if (loopback_sge_length(target.sge, target.num_sge) < length)
        return peer_fails(qp, peer, RDMA_WC_LOC_LEN_ERR, 0, RDMA_WC_REM_INV_REQ_ERR);
    if (!qp->done && !loopback_side_is_valid(&target))
        return peer_fails(qp, peer, RDMA_WC_LOC_PROT_ERR, 0, RDMA_WC_REM_OP_ERR);
    switch (move(qp, &source, &target, length, share)) {
    case LOOPBACK_MOVED:
        break;
    case LOOPBACK_BAD_SOURCE:
        return finish(qp, RDMA_WC_LOC_PROT_ERR, 0);
    case LOOPBACK_BAD_TARGET:
        return peer_fails(qp, peer, RDMA_WC_LOC_PROT_ERR, 0, RDMA_WC_REM_OP_ERR);
    case LOOPBACK_NO_DMA:
        return NO_DMA;
    }
    if (qp->done < length)
        return UNFINISHED;
    if (wqe->wr.opcode == RDMA_WR_SEND_WITH_INVALIDATE &&
        !loopback_invalidate(source.loopback, peer->qp.pd, wqe->wr.imm_or_rkey))
        return access_fails(qp, peer);
    struct rdma_wc wc = received(wqe, length);
    loopback_complete_recv(peer, &wc);
    return finish(qp, RDMA_WC_SUCCESS, length);
}

static enum outcome rc_write(struct loopback_qp *qp, struct loopback_qp *peer,
                             const struct send_wqe *wqe, uint32_t length, struct share *share)
{
    struct rdma_sge range = {wqe->wr.remote.addr, length, wqe->wr.remote.rkey};
    struct loopback_side source = local_side(qp, wqe, 0);
    struct loopback_side target = remote_side(peer, &range, RDMA_ACCESS_REMOTE_WRITE);

    if (!(peer->qp.attributes.access & RDMA_ACCESS_REMOTE_WRITE))
        return request_fails(qp, peer);
    if (!loopback_side_is_valid(&target))
        return access_fails(qp, peer);
    switch (move(qp, &source, &target, length, share)) {
    case LOOPBACK_MOVED:
        break;
    case LOOPBACK_BAD_SOURCE:
        return finish(qp, RDMA_WC_LOC_PROT_ERR, 0);
    case LOOPBACK_BAD_TARGET:
        return access_fails(qp, peer);
    case LOOPBACK_NO_DMA:
        return NO_DMA;
    }
    if (qp->done < length)
        return UNFINISHED;
    if (wqe->wr.opcode == RDMA_WR_WRITE_WITH_IMM) {
        struct rdma_wc wc = received(wqe, length);
        loopback_complete_recv(peer, &wc);
    }
    return finish(qp, RDMA_WC_SUCCESS, length);
}

static enum outcome rc_read(struct loopback_qp *qp, struct loopback_qp *peer,
                            const struct send_wqe *wqe, uint32_t length, struct share *share)
{
    struct rdma_sge range = {wqe->wr.remote.addr, length, wqe->wr.remote.rkey};
    struct loopback_side source = remote_side(peer, &range, RDMA_ACCESS_REMOTE_READ);
    struct loopback_side target = local_side(qp, wqe, RDMA_ACCESS_LOCAL_WRITE);

    if (!(peer->qp.attributes.access & RDMA_ACCESS_REMOTE_READ) ||
        !peer->qp.attributes.max_dest_rd_atomic)
        return request_fails(qp, peer);
    if (!loopback_side_is_valid(&source))
        return access_fails(qp, peer);
    switch (move(qp, &source, &target, length, share)) {
    case LOOPBACK_MOVED:
        break;
    case LOOPBACK_BAD_SOURCE:
        return access_fails(qp, peer);
    case LOOPBACK_BAD_TARGET:
        return finish(qp, RDMA_WC_LOC_PROT_ERR, 0);
    case LOOPBACK_NO_DMA:
        return NO_DMA;
    }
    return qp->done < length ? UNFINISHED : finish(qp, RDMA_WC_SUCCESS, length);
}

/* With the host's own atomic instructions, since the guest's CPUs use the same memory. */
static uint64_t do_atomic(uint64_t *host, const struct send_wqe *wqe)
{
    uint64_t old = GUINT64_TO_LE(wqe->wr.atomic.compare_add);

    if (wqe->wr.opcode == RDMA_WR_FETCH_ADD)
        return __atomic_fetch_add(host, wqe->wr.atomic.compare_add, __ATOMIC_SEQ_CST);
    __atomic_compare_exchange_n(host, &old, wqe->wr.atomic.swap, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
    return old;
}

static enum outcome rc_atomic(struct loopback_qp *qp, struct loopback_qp *peer,
                              const struct send_wqe *wqe)
{
    struct loopback *loopback = loopback_of(qp->qp.object.rdma);
    struct rdma_sge range = {wqe->wr.atomic.addr, 8, wqe->wr.atomic.rkey};
    struct loopback_side remote = remote_side(peer, &range, RDMA_ACCESS_REMOTE_ATOMIC);
    struct loopback_side local = local_side(qp, wqe, RDMA_ACCESS_LOCAL_WRITE);
    uint64_t *host, gpa;

    if (!(peer->qp.attributes.access & RDMA_ACCESS_REMOTE_ATOMIC) ||
        !peer->qp.attributes.max_dest_rd_atomic || range.addr % 8)
        return request_fails(qp, peer);
    if (!loopback_side_is_valid(&remote))
        return access_fails(qp, peer);
    switch (loopback_map_atomic(&remote, &host, &gpa)) {
    case LOOPBACK_MOVED:
        break;
    case LOOPBACK_NO_DMA:
        return NO_DMA;
    default:
        return access_fails(qp, peer);
    }
    uint64_t old = do_atomic(host, wqe);
    dma_written(loopback->rdma.dma, gpa, sizeof(old));
    if (loopback_put(&local, &old, sizeof(old)) != LOOPBACK_MOVED)
        return finish(qp, RDMA_WC_LOC_PROT_ERR, 0);
    return finish(qp, RDMA_WC_SUCCESS, sizeof(old));
}

/* Before a request is begun: what is wrong with it here? */
static enum rdma_wc_status check_local(struct loopback_qp *qp, const struct send_wqe *wqe)
{
    bool inbound = wqe->wr.opcode >= RDMA_WR_READ && wqe->wr.opcode <= RDMA_WR_FETCH_ADD;
    struct loopback_side local = local_side(qp, wqe, inbound ? RDMA_ACCESS_LOCAL_WRITE : 0);
    uint64_t length = loopback_sge_length(wqe->sge, wqe->wr.num_sge);

    if (wqe->status)
        return wqe->status;
    if (inbound && !qp->qp.attributes.max_rd_atomic)
        return RDMA_WC_LOC_QP_OP_ERR;
    if (length > LOOPBACK_MAX_MESSAGE ||
        (inbound && wqe->wr.opcode != RDMA_WR_READ && length < sizeof(uint64_t)))
        return RDMA_WC_LOC_LEN_ERR;
    if (!loopback_side_is_valid(&local))
        return RDMA_WC_LOC_PROT_ERR;
    return RDMA_WC_SUCCESS;
}

static enum outcome rc_local(struct loopback_qp *qp, const struct send_wqe *wqe)
{
    struct loopback *loopback = loopback_of(qp->qp.object.rdma);
    bool good = wqe->wr.opcode == RDMA_WR_FAST_REG
                    ? loopback_fast_register(loopback, qp->qp.pd, &wqe->wr)
                    : loopback_invalidate(loopback, qp->qp.pd, wqe->wr.imm_or_rkey);

    return finish(qp, good ? RDMA_WC_SUCCESS : RDMA_WC_LOC_QP_OP_ERR, 0);
}

static enum outcome rc_execute(struct loopback *loopback, struct loopback_qp *qp,
                               const struct send_wqe *wqe, struct share *share)
{
    if (!qp->started) {
        enum rdma_wc_status status = check_local(qp, wqe);
        if (status)
            return finish(qp, status, 0);
        qp->started = true;
        qp->retries_left = qp->qp.attributes.retry_count;
        qp->rnr_left = qp->qp.attributes.rnr_retry;
    }
    if (wqe->wr.opcode >= RDMA_WR_LOCAL_INVALIDATE)
        return rc_local(qp, wqe);
    struct loopback_qp *peer = find_peer(loopback, qp);
    if (!peer)
        return wait_for_peer(qp);
    note_established(peer);
    if (needs_receive(wqe->wr.opcode) && !peer->receiving) {
        if (!loopback_take_receive(peer))
            return wait_for_receive(qp, peer);
        qp->done = 0;
    }
    qp->wait = LOOPBACK_WAIT_NOTHING;
    uint32_t length = loopback_sge_length(wqe->sge, wqe->wr.num_sge);
    switch (wqe->wr.opcode) {
    case RDMA_WR_WRITE:
    case RDMA_WR_WRITE_WITH_IMM:
        return rc_write(qp, peer, wqe, length, share);
    case RDMA_WR_READ:
        return rc_read(qp, peer, wqe, length, share);
    case RDMA_WR_COMPARE_SWAP:
    case RDMA_WR_FETCH_ADD:
        return rc_atomic(qp, peer, wqe);
    default:
        return rc_send(qp, peer, wqe, length, share);
    }
}

/* ---- datagrams ---- */

/* The queue pair that a datagram reaches, or NULL: it is lost. */
static struct loopback_qp *find_target(struct loopback *loopback, const struct loopback_qp *qp,
                                       const struct send_wqe *wqe)
{
    struct loopback_qp *target = loopback_by_qpn(loopback, wqe->wr.ud.qpn);
    uint32_t qkey = wqe->wr.ud.qkey & QKEY_PRIVILEGED ? qp->qp.attributes.qkey : wqe->wr.ud.qkey;

    if (loopback->deaf || !loopback->rdma.link_up || !target ||
        target->qp.create.type == RDMA_QP_RC || target->qp.attributes.qkey != qkey)
        return NULL;
    if (target->qp.attributes.state < RDMA_QPS_RTR || target->qp.attributes.state == RDMA_QPS_ERR)
        return NULL;
    return rdma_find_gid(&loopback->rdma, &wqe->wr.ud.av.dgid) >= 0 ? target : NULL;
}

static void fail_receive(struct loopback_qp *qp, enum rdma_wc_status status)
{
    struct rdma_wc wc = {.status = status, .opcode = RDMA_WC_RECV};

    loopback_complete_recv(qp, &wc);
    loopback_enter_error(qp, 0);
}

/* Into the current receive of @target. False: no DMA now, try again. */
static bool deliver(struct loopback_qp *qp, struct loopback_qp *target, const struct send_wqe *wqe,
                    const struct rdma_gid_entry *from, uint32_t length)
{
    struct loopback_side source = local_side(qp, wqe, 0), into = receive_side(target);
    struct rdma_wc wc = received(wqe, length + RDMA_GRH_SIZE);
    uint8_t grh[RDMA_GRH_SIZE];

    if (target->receive.status) {
        fail_receive(target, target->receive.status);
        return true;
    }
    if (loopback_sge_length(into.sge, into.num_sge) < wc.byte_len) {
        fail_receive(target, RDMA_WC_LOC_LEN_ERR);
        return true;
    }
    rdma_network_header(grh, from, &wqe->wr.ud.av, length, &wc.network_type);
    enum loopback_moved moved = loopback_put(&into, grh, sizeof(grh));
    into.skip = RDMA_GRH_SIZE;
    if (moved == LOOPBACK_MOVED)
        moved = loopback_move(&source, &into, 0, length);
    if (moved == LOOPBACK_NO_DMA)
        return false;
    if (moved != LOOPBACK_MOVED) {
        fail_receive(target, RDMA_WC_LOC_PROT_ERR);
        return true;
    }
    wc.flags |= RDMA_WC_GRH | RDMA_WC_SMAC;
    wc.src_qp = qp->qp.qpn;
    memcpy(wc.smac, from->mac, sizeof(wc.smac));
    note_established(target);
    loopback_complete_recv(target, &wc);
    return true;
}

static enum outcome ud_execute(struct loopback *loopback, struct loopback_qp *qp,
                               const struct send_wqe *wqe, struct share *share)
{
    enum rdma_wc_status status = check_local(qp, wqe);
    uint64_t length = loopback_sge_length(wqe->sge, wqe->wr.num_sge);

    if (status)
        return finish(qp, status, 0);
    const struct rdma_gid_entry *from = gid_at(&loopback->rdma, wqe->wr.ud.av.sgid_index);
    struct loopback_qp *target = find_target(loopback, qp, wqe);
    /* Longer than the port's MTU: not sent, and no error (IBTA C10-93.1.1). */
    if (from && target && length <= rdma_mtu_bytes(rdma_mtu_of_link(loopback->rdma.link_mtu)) &&
        (target->receiving || loopback_take_receive(target))) {
        if (!deliver(qp, target, wqe, from, length))
            return NO_DMA;
    }
    share->bytes -= MIN(share->bytes, length);
    /* A queue pair that sent to itself may have failed in that. */
    if (qp->qp.attributes.state == RDMA_QPS_ERR)
        return finish(qp, RDMA_WC_WR_FLUSH_ERR, 0);
    return finish(qp, RDMA_WC_SUCCESS, length);
}

/* ---- turns ---- */

static void drained(struct loopback_qp *qp)
{
    qp->draining = false;
    if (qp->qp.attributes.sqd_notify)
        rdma_notify(&qp->qp.object, RDMA_NOTE(RDMA_EVENT_SQ_DRAINED));
}

/* One step of @qp; false: it has nothing to do now (or waits). */
static bool step(struct loopback *loopback, struct loopback_qp *qp, struct share *share,
                 bool *no_dma)
{
    switch (qp->qp.attributes.state) {
    case RDMA_QPS_ERR:
    case RDMA_QPS_SQE:
        return loopback_flush(qp);
    case RDMA_QPS_SQD:
        if (!qp->started) {
            if (qp->draining)
                drained(qp);
            return false;
        }
        break;
    case RDMA_QPS_RTS:
        break;
    default:
        return false;
    }
    if (!qp->sq.count)
        return false;
    const struct send_wqe *wqe = work_queue_at(&qp->sq, 0);
    enum outcome outcome = qp->qp.create.type == RDMA_QP_RC ? rc_execute(loopback, qp, wqe, share)
                                                            : ud_execute(loopback, qp, wqe, share);
    *no_dma = outcome == NO_DMA;
    return outcome == COMPLETED || outcome == UNFINISHED;
}

/* Gives @qp its share; false: the gate is closed. */
static bool run(struct loopback *loopback, struct loopback_qp *qp, struct share *turn)
{
    struct share share = {MIN(SHARE_REQUESTS, turn->requests), MIN(SHARE_BYTES, turn->bytes)};
    struct share given = share;
    bool more = true, no_dma = false;

    while (more && share.requests && share.bytes) {
        share.requests--;
        more = step(loopback, qp, &share, &no_dma);
    }
    turn->requests -= given.requests - share.requests;
    turn->bytes -= given.bytes - share.bytes;
    if (!more && !no_dma && qp->list == &loopback->ready) {
        loopback_list(qp, NULL);
    } else if (qp->list == &loopback->ready) {
        loopback_list(qp, NULL);
        loopback_list(qp, &loopback->ready); /* to its end */
    }
    return !no_dma;
}

bool loopback_work(struct rdma *rdma)
{
    struct loopback *loopback = loopback_of(rdma);
    struct share turn = {TURN_REQUESTS, TURN_BYTES};

    /* A closed gate leaves all as it is: rdma_set_running or rdma_look_again comes when it opens. */
    if (dma_allowed(rdma->dma, DMA_TO_DEVICE) < 0 || dma_allowed(rdma->dma, DMA_FROM_DEVICE) < 0)
        return false;
    while (loopback->ready.length && turn.requests && turn.bytes)
        if (!run(loopback, loopback->ready.head->data, &turn))
            return false;
    return loopback->ready.length;
}
