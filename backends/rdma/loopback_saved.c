/* SPDX-License-Identifier: GPL-2.0-or-later */
/* loopback_saved - the tables of the saved state (backends/rdma/loopback_saved.h) */
#include "backends/rdma/loopback_saved.h"

#define MR_PAGES (((UINT64_C(1) << 30) / RDMA_PAGE_SIZE + 1) * sizeof(uint64_t))
#define MAX_KEYS (1u << 18)

static const struct state_field gid_fields[] = {
    STATE_BOOL(struct saved_gid, used, 1), STATE_BYTES(struct saved_gid, gid, 1),
    STATE_U8(struct saved_gid, type, 1), STATE_BYTES(struct saved_gid, mac, 1), STATE_END};
static const struct state_table gid_table = {"gid", 1, 1, gid_fields};

static const struct state_field adapter_fields[] = {
    STATE_BOOL(struct saved_adapter, link_up, 1),
    STATE_U32(struct saved_adapter, link_mtu, 1),
    STATE_U32(struct saved_adapter, notes, 1),
    STATE_U32(struct saved_adapter, next_qpn, 1),
    STATE_U32(struct saved_adapter, gid_count, 1),
    STATE_STRUCTS(struct saved_adapter, gids, false, gid_count, SAVED_MAX_GIDS, &gid_table, 1),
    STATE_BUFFER(struct saved_adapter, keys, MAX_KEYS, 1),
    STATE_END,
};
const struct state_table loopback_adapter_table = {"rdma-loopback", 1, 1, adapter_fields};

static const struct state_field pd_fields[] = {STATE_U32(struct saved_pd, number, 1), STATE_END};
const struct state_table loopback_pd_table = {"pd", 1, 1, pd_fields};

static const struct state_field wc_fields[] = {
    STATE_U64(struct rdma_wc, wr_id, 1),      STATE_U32(struct rdma_wc, qp, 1),
    STATE_U32(struct rdma_wc, status, 1),     STATE_U32(struct rdma_wc, opcode, 1),
    STATE_U32(struct rdma_wc, flags, 1),      STATE_U32(struct rdma_wc, byte_len, 1),
    STATE_U32(struct rdma_wc, imm, 1),        STATE_U32(struct rdma_wc, invalidated_rkey, 1),
    STATE_U32(struct rdma_wc, src_qp, 1),     STATE_U32(struct rdma_wc, vendor_error, 1),
    STATE_U16(struct rdma_wc, pkey_index, 1), STATE_U8(struct rdma_wc, network_type, 1),
    STATE_BYTES(struct rdma_wc, smac, 1),     STATE_END,
};
static const struct state_table wc_table = {"completion", 1, 1, wc_fields};

static const struct state_field cq_fields[] = {
    STATE_U32(struct saved_cq, number, 1),
    STATE_U32(struct saved_cq, entries, 1),
    STATE_U32(struct saved_cq, notes, 1),
    STATE_BOOL(struct saved_cq, tell, 1),
    STATE_BOOL(struct saved_cq, overflown, 1),
    STATE_U32(struct saved_cq, count, 1),
    STATE_STRUCTS(struct saved_cq, completions, true, count, SAVED_MAX_CQE, &wc_table, 1),
    STATE_END,
};
const struct state_table loopback_cq_table = {"cq", 1, 1, cq_fields};

static const struct state_field sge_fields[] = {STATE_U64(struct rdma_sge, addr, 1),
                                                STATE_U32(struct rdma_sge, length, 1),
                                                STATE_U32(struct rdma_sge, lkey, 1), STATE_END};
static const struct state_table sge_table = {"sge", 1, 1, sge_fields};

static const struct state_field recv_fields[] = {
    STATE_U64(struct saved_recv, wr_id, 1),
    STATE_U32(struct saved_recv, status, 1),
    STATE_U32(struct saved_recv, num_sge, 1),
    STATE_STRUCTS(struct saved_recv, sge, false, num_sge, RDMA_MAX_SGE, &sge_table, 1),
    STATE_END,
};
static const struct state_table recv_table = {"receive", 1, 1, recv_fields};

static const struct state_field srq_fields[] = {
    STATE_U32(struct saved_srq, number, 1),
    STATE_U32(struct saved_srq, pd, 1),
    STATE_U32(struct saved_srq, max_wr, 1),
    STATE_U32(struct saved_srq, max_sge, 1),
    STATE_U32(struct saved_srq, limit, 1),
    STATE_U32(struct saved_srq, notes, 1),
    STATE_BOOL(struct saved_srq, wants_room, 1),
    STATE_BOOL(struct saved_srq, starved, 1),
    STATE_U32(struct saved_srq, count, 1),
    STATE_STRUCTS(struct saved_srq, receives, true, count, SAVED_MAX_WR, &recv_table, 1),
    STATE_END,
};
const struct state_table loopback_srq_table = {"srq", 1, 1, srq_fields};

static const struct state_field mr_fields[] = {
    STATE_U32(struct saved_mr, number, 1),
    STATE_U32(struct saved_mr, pd, 1),
    STATE_U32(struct saved_mr, type, 1),
    STATE_U32(struct saved_mr, access, 1),
    STATE_U32(struct saved_mr, key, 1),
    STATE_U32(struct saved_mr, room, 1),
    STATE_U64(struct saved_mr, start, 1),
    STATE_U64(struct saved_mr, length, 1),
    STATE_BOOL(struct saved_mr, valid, 1),
    STATE_BUFFER(struct saved_mr, pages, MR_PAGES, 1),
    STATE_END,
};
const struct state_table loopback_mr_table = {"mr", 1, 1, mr_fields};

static const struct state_field av_fields[] = {
    STATE_BYTES(struct rdma_av, dgid, 1),       STATE_U32(struct rdma_av, flow_label, 1),
    STATE_U8(struct rdma_av, sgid_index, 1),    STATE_U8(struct rdma_av, hop_limit, 1),
    STATE_U8(struct rdma_av, traffic_class, 1), STATE_U8(struct rdma_av, sl, 1),
    STATE_BYTES(struct rdma_av, dmac, 1),       STATE_END,
};
static const struct state_table av_table = {"av", 1, 1, av_fields};

static const struct state_field send_fields[] = {
    STATE_U64(struct saved_send, wr_id, 1),
    STATE_U64(struct saved_send, addr, 1),
    STATE_U64(struct saved_send, compare_add, 1),
    STATE_U64(struct saved_send, swap, 1),
    STATE_U64(struct saved_send, length, 1),
    STATE_U32(struct saved_send, opcode, 1),
    STATE_U32(struct saved_send, flags, 1),
    STATE_U32(struct saved_send, imm_or_rkey, 1),
    STATE_U32(struct saved_send, status, 1),
    STATE_U32(struct saved_send, rkey, 1),
    STATE_U32(struct saved_send, qpn, 1),
    STATE_U32(struct saved_send, qkey, 1),
    STATE_U32(struct saved_send, access, 1),
    STATE_STRUCT(struct saved_send, av, &av_table, 1),
    STATE_U32(struct saved_send, num_sge, 1),
    STATE_STRUCTS(struct saved_send, sge, false, num_sge, RDMA_MAX_SGE, &sge_table, 1),
    STATE_U32(struct saved_send, page_count, 1),
    {.name = "pages",
     .kind = STATE_KIND_U64,
     .offset = offsetof(struct saved_send, pages),
     .count = SAVED_MAX_PAGES,
     .stride = sizeof(uint64_t),
     .since = 1,
     .count_offset = offsetof(struct saved_send, page_count)},
    STATE_END,
};
static const struct state_table send_table = {"send", 1, 1, send_fields};

static const struct state_field attributes_fields[] = {
    STATE_U32(struct rdma_qp_attributes, state, 1),
    STATE_BOOL(struct rdma_qp_attributes, sqd_notify, 1),
    STATE_U32(struct rdma_qp_attributes, access, 1),
    STATE_U16(struct rdma_qp_attributes, pkey_index, 1),
    STATE_U8(struct rdma_qp_attributes, port, 1),
    STATE_U32(struct rdma_qp_attributes, qkey, 1),
    STATE_STRUCT(struct rdma_qp_attributes, av, &av_table, 1),
    STATE_U32(struct rdma_qp_attributes, path_mtu, 1),
    STATE_U8(struct rdma_qp_attributes, timeout, 1),
    STATE_U8(struct rdma_qp_attributes, retry_count, 1),
    STATE_U8(struct rdma_qp_attributes, rnr_retry, 1),
    STATE_U32(struct rdma_qp_attributes, rq_psn, 1),
    STATE_U32(struct rdma_qp_attributes, sq_psn, 1),
    STATE_U8(struct rdma_qp_attributes, max_rd_atomic, 1),
    STATE_U8(struct rdma_qp_attributes, max_dest_rd_atomic, 1),
    STATE_U8(struct rdma_qp_attributes, min_rnr_timer, 1),
    STATE_U32(struct rdma_qp_attributes, dest_qpn, 1),
    STATE_END,
};
static const struct state_table attributes_table = {"attributes", 1, 1, attributes_fields};

static const struct state_field qp_fields[] = {
    STATE_U32(struct saved_qp, number, 1),
    STATE_U32(struct saved_qp, pd, 1),
    STATE_U32(struct saved_qp, type, 1),
    STATE_U32(struct saved_qp, send_cq, 1),
    STATE_U32(struct saved_qp, recv_cq, 1),
    STATE_U32(struct saved_qp, srq, 1),
    STATE_U32(struct saved_qp, qpn, 1),
    STATE_U32(struct saved_qp, notes, 1),
    STATE_U32(struct saved_qp, max_send_wr, 1),
    STATE_U32(struct saved_qp, max_recv_wr, 1),
    STATE_U32(struct saved_qp, max_send_sge, 1),
    STATE_U32(struct saved_qp, max_recv_sge, 1),
    STATE_BOOL(struct saved_qp, has_srq, 1),
    STATE_BOOL(struct saved_qp, signal_all, 1),
    STATE_BOOL(struct saved_qp, wants_room, 1),
    STATE_BOOL(struct saved_qp, started, 1),
    STATE_BOOL(struct saved_qp, draining, 1),
    STATE_BOOL(struct saved_qp, receiving, 1),
    STATE_BOOL(struct saved_qp, established, 1),
    STATE_STRUCT(struct saved_qp, attributes, &attributes_table, 1),
    STATE_U32(struct saved_qp, done, 1),
    STATE_U8(struct saved_qp, retries_left, 1),
    STATE_U8(struct saved_qp, rnr_left, 1),
    STATE_U8(struct saved_qp, wait, 1),
    STATE_U64(struct saved_qp, wait_left, 1),
    STATE_STRUCT(struct saved_qp, receive, &recv_table, 1),
    STATE_U32(struct saved_qp, send_count, 1),
    STATE_STRUCTS(struct saved_qp, sends, true, send_count, SAVED_MAX_WR, &send_table, 1),
    STATE_U32(struct saved_qp, recv_count, 1),
    STATE_STRUCTS(struct saved_qp, receives, true, recv_count, SAVED_MAX_WR, &recv_table, 1),
    STATE_END,
};
const struct state_table loopback_qp_table = {"qp", 1, 1, qp_fields};
