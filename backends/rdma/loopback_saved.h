/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loopback_saved - what the saved state has of each object of a loopback adapter; private to
 * backends/rdma
 *
 * The limits are of the stream, and at least those of the adapter.
 */
#ifndef BACKENDS_RDMA_LOOPBACK_SAVED_H
#define BACKENDS_RDMA_LOOPBACK_SAVED_H

#include "backends/rdma/loopback.h"
#include "vmm/state.h"

#define SAVED_MAX_WR    2048u
#define SAVED_MAX_CQE   65536u
#define SAVED_MAX_PAGES 128u
#define SAVED_MAX_GIDS  128u

struct saved_gid {
    bool used;
    uint8_t gid[16], type, mac[6];
};

struct saved_adapter {
    bool link_up;
    uint32_t link_mtu, notes, next_qpn, gid_count;
    struct saved_gid gids[SAVED_MAX_GIDS];
    GByteArray *keys; /* the next low byte of each index */
};

struct saved_pd {
    uint32_t number;
};

struct saved_cq {
    uint32_t number, entries, notes, count;
    bool tell, overflown;
    struct rdma_wc *completions; /* SAVED_MAX_CQE */
};

struct saved_recv {
    uint64_t wr_id;
    uint32_t status, num_sge;
    struct rdma_sge sge[RDMA_MAX_SGE];
};

struct saved_srq {
    uint32_t number, pd, max_wr, max_sge, limit, notes, count;
    bool wants_room, starved;
    struct saved_recv *receives; /* SAVED_MAX_WR */
};

struct saved_mr {
    uint32_t number, pd, type, access, key, room;
    uint64_t start, length;
    bool valid;
    GByteArray *pages; /* little-endian u64 */
};

/* All that any opcode has, side by side. */
struct saved_send {
    uint64_t wr_id, addr, compare_add, swap, length;
    uint32_t opcode, flags, imm_or_rkey, status, rkey, qpn, qkey, access;
    struct rdma_av av;
    uint32_t num_sge, page_count;
    struct rdma_sge sge[RDMA_MAX_SGE];
    uint64_t pages[SAVED_MAX_PAGES];
};

struct saved_qp {
    uint32_t number, pd, type, send_cq, recv_cq, srq, qpn, notes;
    uint32_t max_send_wr, max_recv_wr, max_send_sge, max_recv_sge;
    bool has_srq, signal_all, wants_room, started, draining, receiving, established;
    struct rdma_qp_attributes attributes;
    uint32_t done;
    uint8_t retries_left, rnr_left, wait;
    uint64_t wait_left; /* ns; UINT64_MAX: for ever */
    struct saved_recv receive;
    uint32_t send_count, recv_count;
    struct saved_send *sends;    /* SAVED_MAX_WR */
    struct saved_recv *receives; /* SAVED_MAX_WR */
};

extern const struct state_table loopback_adapter_table;
extern const struct state_table loopback_pd_table;
extern const struct state_table loopback_cq_table;
extern const struct state_table loopback_srq_table;
extern const struct state_table loopback_mr_table;
extern const struct state_table loopback_qp_table;

#endif
