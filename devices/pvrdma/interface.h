/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * interface - what the stock driver vmw_pvrdma and its user library expect of a PVRDMA adapter
 *
 * PCI 15ad:0820, function 1 or higher of a slot whose function 0 is a vmxnet3. BAR 0 holds the
 * MSI-X table, BAR 1 the registers, BAR 2 the doorbell pages ("UAR"), a page a user context, page 0
 * the kernel's. The rest is memory that the driver shares by way of the device shared region (DSR),
 * whose address it writes into two registers.
 *
 * All numbers are little-endian but GIDs, GUIDs and immediate data, which are kept as bytes on the
 * wire. Offsets are compared with the driver's own header by tests/device/pvrdma_layout.
 */
#ifndef DEVICES_PVRDMA_INTERFACE_H
#define DEVICES_PVRDMA_INTERFACE_H

#include <stdint.h>

#define PVR_VENDOR_ID 0x15ad
#define PVR_DEVICE_ID 0x0820

/* Versions: 18 brought RoCE v2, 19 page frame numbers of 64 bits, 20 handles of queue pairs that
 * are not their numbers. */
#define PVR_VERSION_MIN     17u
#define PVR_VERSION_ROCE_V2 18u
#define PVR_VERSION_PFN64   19u
#define PVR_VERSION_HANDLES 20u
#define PVR_VERSION         20u

#define PVR_PAGE_SIZE      4096u
#define PVR_PAGES_A_TABLE  512u
#define PVR_MAX_PAGES      (512u * 512u) /* that one page directory can name: 1 GiB */
#define PVR_MAX_FAST_PAGES 128u          /* of a fast registration */

enum pvr_bar { PVR_BAR_MSIX, PVR_BAR_REGISTERS, PVR_BAR_UAR };

enum pvr_vector { PVR_VECTOR_RESPONSE, PVR_VECTOR_ASYNC, PVR_VECTOR_CQ, PVR_VECTORS };

enum pvr_register { /* 4 bytes each */
                    PVR_REG_VERSION = 0x00,
                    PVR_REG_DSRLOW = 0x04,
                    PVR_REG_DSRHIGH = 0x08, /* the capabilities are there when this write is done */
                    PVR_REG_CTL = 0x0c,
                    PVR_REG_REQUEST = 0x10, /* 0: a command is in its slot */
                    PVR_REG_ERR = 0x14,     /* of what was written last; 0: none */
                    PVR_REG_ICR = 0x18,
                    PVR_REG_IMR = 0x1c,
                    PVR_REG_MACL = 0x20,
                    PVR_REG_MACH = 0x24,
};

enum pvr_control { PVR_CTL_ACTIVATE, PVR_CTL_UNQUIESCE, PVR_CTL_RESET };

/* ---- device shared region ---- */

enum pvr_mode { PVR_MODE_ROCE };
enum pvr_gid_types { PVR_GID_ROCE_V1 = 1 << 0, PVR_GID_ROCE_V2 = 1 << 1 };
enum pvr_atomic_ops { PVR_ATOMIC_COMPARE_SWAP = 1 << 0, PVR_ATOMIC_FETCH_ADD = 1 << 1 };
#define PVR_BMME_ALL 7u /* local and remote invalidation, fast registration: all or none */

struct pvr_caps {
    uint64_t fw_ver;
    uint8_t node_guid[8], sys_image_guid[8];
    uint64_t max_mr_size, page_size_cap, atomic_arg_sizes;
    uint32_t ex_comp_mask, device_cap_flags2, max_fa_bit_boundary, log_max_atomic_inline_arg;
    uint32_t vendor_id, vendor_part_id, hw_ver;
    uint32_t max_qp, max_qp_wr, device_cap_flags, max_sge, max_sge_rd;
    uint32_t max_cq, max_cqe, max_mr, max_pd;
    uint32_t max_qp_rd_atom, max_ee_rd_atom, max_res_rd_atom;
    uint32_t max_qp_init_rd_atom, max_ee_init_rd_atom, max_ee, max_rdd, max_mw;
    uint32_t max_raw_ipv6_qp, max_raw_ethy_qp;
    uint32_t max_mcast_grp, max_mcast_qp_attach, max_total_mcast_qp_attach;
    uint32_t max_ah, max_fmr, max_map_per_fmr;
    uint32_t max_srq, max_srq_wr, max_srq_sge;
    uint32_t max_uar; /* a power of two */
    uint32_t gid_tbl_len;
    uint16_t max_pkeys;
    uint8_t local_ca_ack_delay, phys_port_cnt;
    uint8_t mode, atomic_ops, bmme_flags, gid_types;
    uint32_t max_fast_reg_page_list_len;
};

struct pvr_ring_info {
    uint32_t num_pages; /* with the page of the indices */
    uint32_t reserved;
    uint64_t pdir_dma;
};

struct pvr_dsr {
    uint32_t driver_version, pad;
    uint32_t gos_info, gos_pad;
    uint64_t cmd_slot_dma, resp_slot_dma;
    struct pvr_ring_info async_ring_pages, cq_ring_pages;
    uint64_t uar_pfn; /* 32 bits before version 19 */
    struct pvr_caps caps;
};

/* ---- rings ---- */

/* Indices count modulo twice the size; the size's bit tells a full ring from an empty one. */
struct pvr_ring {
    uint32_t prod_tail, cons_head;
};
struct pvr_ring_state {
    struct pvr_ring tx, rx;
};

enum pvr_event_type {
    PVR_EVENT_CQ_ERR,
    PVR_EVENT_QP_FATAL,
    PVR_EVENT_QP_REQ_ERR,
    PVR_EVENT_QP_ACCESS_ERR,
    PVR_EVENT_COMM_EST,
    PVR_EVENT_SQ_DRAINED,
    PVR_EVENT_DEVICE_FATAL = 8,
    PVR_EVENT_PORT_ACTIVE,
    PVR_EVENT_PORT_ERR,
    PVR_EVENT_SRQ_ERR = 14,
    PVR_EVENT_SRQ_LIMIT,
    PVR_EVENT_LAST_WQE,
    PVR_EVENT_GID_CHANGE = 18,
};
struct pvr_eqe {
    uint32_t type, info; /* info: a handle, or the port */
};
struct pvr_cqne {
    uint32_t cq;
};

/* ---- doorbells, at these offsets of a page ---- */

#define PVR_UAR_HANDLE     0x00ffffffu
#define PVR_UAR_QP         0u
#define PVR_UAR_QP_SEND    (1u << 30)
#define PVR_UAR_QP_RECV    (1u << 31)
#define PVR_UAR_CQ         4u
#define PVR_UAR_CQ_ARM_SOL (1u << 29)
#define PVR_UAR_CQ_ARM     (1u << 30)
#define PVR_UAR_CQ_POLL    (1u << 31)
#define PVR_UAR_SRQ        8u
#define PVR_UAR_SRQ_RECV   (1u << 30)

/* ---- work and completions ---- */

enum pvr_wr_opcode {
    PVR_WR_WRITE,
    PVR_WR_WRITE_WITH_IMM,
    PVR_WR_SEND,
    PVR_WR_SEND_WITH_IMM,
    PVR_WR_READ,
    PVR_WR_COMPARE_SWAP,
    PVR_WR_FETCH_ADD,
    PVR_WR_LSO,
    PVR_WR_SEND_WITH_INV,
    PVR_WR_READ_WITH_INV,
    PVR_WR_LOCAL_INV,
    PVR_WR_FAST_REG,
};

enum pvr_send_flags {
    PVR_SEND_FENCE = 1 << 0,
    PVR_SEND_SIGNALED = 1 << 1,
    PVR_SEND_SOLICITED = 1 << 2,
    PVR_SEND_INLINE = 1 << 3,
};

struct pvr_av {
    uint32_t port_pd; /* port in the topmost byte */
    uint32_t sl_tclass_flowlabel;
    uint8_t dgid[16];
    uint8_t src_path_bits, gid_index, stat_rate, hop_limit;
    uint8_t dmac[6], reserved[6];
};

struct pvr_sge {
    uint64_t addr;
    uint32_t length, lkey;
};

/* Followed by as many struct pvr_sge as the queue was made for; padded to a power of two. */
struct pvr_rq_wqe {
    uint64_t wr_id;
    uint32_t num_sge, total_len;
};
struct pvr_sq_wqe {
    uint64_t wr_id;
    uint32_t num_sge, total_len;
    uint32_t opcode, send_flags;
    uint32_t imm_or_rkey;
    uint32_t reserved;
    union {
        struct {
            uint64_t remote_addr;
            uint32_t rkey, reserved;
        } rdma;
        struct {
            uint64_t remote_addr, compare_add, swap;
            uint32_t rkey, reserved;
        } atomic;
        struct {
            uint64_t iova_start, pl_pdir_dma;
            uint32_t page_shift, page_list_len, length, access_flags, rkey, reserved;
        } fast_reg;
        struct {
            uint32_t remote_qpn, remote_qkey;
            struct pvr_av av;
        } ud;
    } wr;
};

enum pvr_wc_status {
    PVR_WC_SUCCESS,
    PVR_WC_LOC_LEN_ERR,
    PVR_WC_LOC_QP_OP_ERR,
    PVR_WC_LOC_EEC_OP_ERR,
    PVR_WC_LOC_PROT_ERR,
    PVR_WC_WR_FLUSH_ERR,
    PVR_WC_MW_BIND_ERR,
    PVR_WC_BAD_RESP_ERR,
    PVR_WC_LOC_ACCESS_ERR,
    PVR_WC_REM_INV_REQ_ERR,
    PVR_WC_REM_ACCESS_ERR,
    PVR_WC_REM_OP_ERR,
    PVR_WC_RETRY_EXC_ERR,
    PVR_WC_RNR_RETRY_EXC_ERR,
    PVR_WC_REM_ABORT_ERR = 16,
    PVR_WC_FATAL_ERR = 19,
    PVR_WC_GENERAL_ERR = 21,
};

enum pvr_wc_opcode {
    PVR_WC_SEND,
    PVR_WC_WRITE,
    PVR_WC_READ,
    PVR_WC_COMPARE_SWAP,
    PVR_WC_FETCH_ADD,
    PVR_WC_LOCAL_INV = 7,
    PVR_WC_FAST_REG,
    PVR_WC_RECV = 1 << 7,
    PVR_WC_RECV_WITH_IMM,
};

enum pvr_wc_flags {
    PVR_WC_GRH = 1 << 0,
    PVR_WC_WITH_IMM = 1 << 1,
    PVR_WC_WITH_INVALIDATE = 1 << 2,
    PVR_WC_WITH_SMAC = 1 << 4,
    PVR_WC_WITH_NETWORK_TYPE = 1 << 6,
};

struct pvr_cqe {
    uint64_t wr_id;
    uint64_t qp; /* the handle; the driver uses its low 16 bits */
    uint32_t opcode, status, byte_len, imm_data, src_qp, wc_flags, vendor_err;
    uint16_t pkey_index, slid;
    uint8_t sl, dlid_path_bits, port_num, smac[6], network_hdr_type, reserved[6];
};

/* ---- commands ---- */

enum pvr_command {
    PVR_CMD_QUERY_PORT,
    PVR_CMD_QUERY_PKEY,
    PVR_CMD_CREATE_PD,
    PVR_CMD_DESTROY_PD,
    PVR_CMD_CREATE_MR,
    PVR_CMD_DESTROY_MR,
    PVR_CMD_CREATE_CQ,
    PVR_CMD_RESIZE_CQ, /* no driver sends it */
    PVR_CMD_DESTROY_CQ,
    PVR_CMD_CREATE_QP,
    PVR_CMD_MODIFY_QP,
    PVR_CMD_QUERY_QP,
    PVR_CMD_DESTROY_QP,
    PVR_CMD_CREATE_UC,
    PVR_CMD_DESTROY_UC,
    PVR_CMD_CREATE_BIND,
    PVR_CMD_DESTROY_BIND,
    PVR_CMD_CREATE_SRQ,
    PVR_CMD_MODIFY_SRQ,
    PVR_CMD_QUERY_SRQ,
    PVR_CMD_DESTROY_SRQ,
    PVR_COMMANDS,
};
#define PVR_ACK(COMMAND) (0x80000000u + (COMMAND))

struct pvr_cmd_hdr {
    uint64_t response;
    uint32_t cmd, reserved;
};
struct pvr_resp_hdr {
    uint64_t response;
    uint32_t ack; /* PVR_ACK() of the command, else it failed */
    uint8_t err;  /* heeded after MODIFY_QP alone */
    uint8_t reserved[3];
};

enum pvr_port_state { PVR_PORT_DOWN = 1, PVR_PORT_ACTIVE = 4 };
enum pvr_phys_state { PVR_PHYS_DISABLED = 3, PVR_PHYS_LINK_UP = 5 };
#define PVR_PORT_IP_BASED_GIDS (1u << 26)

struct pvr_port_attr {
    uint32_t state, max_mtu, active_mtu, gid_tbl_len, port_cap_flags, max_msg_sz;
    uint32_t bad_pkey_cntr, qkey_viol_cntr;
    uint16_t pkey_tbl_len, lid, sm_lid;
    uint8_t lmc, max_vl_num, sm_sl, subnet_timeout, init_type_reply;
    uint8_t active_width, active_speed, phys_state, reserved[2];
};

struct pvr_cmd_query_port {
    struct pvr_cmd_hdr hdr;
    uint8_t port_num, reserved[7];
};
struct pvr_resp_query_port {
    struct pvr_resp_hdr hdr;
    struct pvr_port_attr attrs;
};

struct pvr_cmd_query_pkey {
    struct pvr_cmd_hdr hdr;
    uint8_t port_num, index, reserved[6];
};
struct pvr_resp_query_pkey {
    struct pvr_resp_hdr hdr;
    uint16_t pkey;
    uint8_t reserved[6];
};

struct pvr_cmd_create_uc {
    struct pvr_cmd_hdr hdr;
    uint64_t pfn; /* 32 bits before version 19 */
};

/* CREATE_PD (a context), and everything that destroys or queries by a handle alone. */
struct pvr_cmd_handle {
    struct pvr_cmd_hdr hdr;
    uint32_t handle;
    uint8_t reserved[4];
};
/* Of CREATE_UC, CREATE_PD, CREATE_SRQ. */
struct pvr_resp_handle {
    struct pvr_resp_hdr hdr;
    uint32_t handle;
    uint8_t reserved[4];
};

enum pvr_mr_flags { PVR_MR_DMA = 1 << 0, PVR_MR_FRMR = 1 << 1 };
enum pvr_access {
    PVR_ACCESS_LOCAL_WRITE = 1 << 0,
    PVR_ACCESS_REMOTE_WRITE = 1 << 1,
    PVR_ACCESS_REMOTE_READ = 1 << 2,
    PVR_ACCESS_REMOTE_ATOMIC = 1 << 3,
    PVR_ACCESS_ALL = 0xf,
    PVR_ACCESS_ZERO_BASED = 1 << 5,
    PVR_ACCESS_ON_DEMAND = 1 << 6,
};
struct pvr_cmd_create_mr {
    struct pvr_cmd_hdr hdr;
    uint64_t start, length, pdir_dma;
    uint32_t pd_handle, access_flags, flags, nchunks;
};
struct pvr_resp_create_mr {
    struct pvr_resp_hdr hdr;
    uint32_t mr_handle, lkey, rkey;
    uint8_t reserved[4];
};

struct pvr_cmd_create_cq {
    struct pvr_cmd_hdr hdr;
    uint64_t pdir_dma;
    uint32_t ctx_handle, cqe, nchunks;
    uint8_t reserved[4];
};
struct pvr_resp_create_cq {
    struct pvr_resp_hdr hdr;
    uint32_t cq_handle, cqe;
};

enum pvr_qp_type { PVR_QPT_GSI = 1, PVR_QPT_RC = 2, PVR_QPT_UD = 4 };
struct pvr_cmd_create_qp {
    struct pvr_cmd_hdr hdr;
    uint64_t pdir_dma;
    uint32_t pd_handle, send_cq_handle, recv_cq_handle, srq_handle;
    uint32_t max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data;
    uint32_t lkey, access_flags;
    uint16_t total_chunks, send_chunks, max_atomic_arg;
    uint8_t sq_sig_all, qp_type, is_srq, reserved[3];
};
struct pvr_resp_create_qp { /* before version 20 */
    struct pvr_resp_hdr hdr;
    uint32_t qpn, max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data;
};
struct pvr_resp_create_qp_v2 {
    struct pvr_resp_hdr hdr;
    uint32_t qpn, qp_handle;
    uint32_t max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data;
};

struct pvr_global_route {
    uint8_t dgid[16];
    uint32_t flow_label;
    uint8_t sgid_index, hop_limit, traffic_class, reserved;
};
struct pvr_ah_attr {
    struct pvr_global_route grh;
    uint16_t dlid, vlan_id;
    uint8_t sl, src_path_bits, static_rate, ah_flags, port_num, dmac[6], reserved;
};
struct pvr_qp_cap {
    uint32_t max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data, reserved;
};

enum pvr_qp_attr_mask {
    PVR_QP_STATE = 1 << 0,
    PVR_QP_CUR_STATE = 1 << 1,
    PVR_QP_EN_SQD_ASYNC_NOTIFY = 1 << 2,
    PVR_QP_ACCESS_FLAGS = 1 << 3,
    PVR_QP_PKEY_INDEX = 1 << 4,
    PVR_QP_PORT = 1 << 5,
    PVR_QP_QKEY = 1 << 6,
    PVR_QP_AV = 1 << 7,
    PVR_QP_PATH_MTU = 1 << 8,
    PVR_QP_TIMEOUT = 1 << 9,
    PVR_QP_RETRY_CNT = 1 << 10,
    PVR_QP_RNR_RETRY = 1 << 11,
    PVR_QP_RQ_PSN = 1 << 12,
    PVR_QP_MAX_QP_RD_ATOMIC = 1 << 13,
    PVR_QP_ALT_PATH = 1 << 14,
    PVR_QP_MIN_RNR_TIMER = 1 << 15,
    PVR_QP_SQ_PSN = 1 << 16,
    PVR_QP_MAX_DEST_RD_ATOMIC = 1 << 17,
    PVR_QP_PATH_MIG_STATE = 1 << 18,
    PVR_QP_CAP = 1 << 19,
    PVR_QP_DEST_QPN = 1 << 20,
    PVR_QP_MASK_ALL = (1 << 21) - 1,
};
struct pvr_qp_attr {
    uint32_t qp_state, cur_qp_state, path_mtu, path_mig_state;
    uint32_t qkey, rq_psn, sq_psn, dest_qp_num, qp_access_flags;
    uint16_t pkey_index, alt_pkey_index;
    uint8_t en_sqd_async_notify, sq_draining, max_rd_atomic, max_dest_rd_atomic;
    uint8_t min_rnr_timer, port_num, timeout, retry_cnt, rnr_retry;
    uint8_t alt_port_num, alt_timeout, reserved[5];
    struct pvr_qp_cap cap;
    struct pvr_ah_attr ah_attr, alt_ah_attr;
};
struct pvr_cmd_modify_qp {
    struct pvr_cmd_hdr hdr;
    uint32_t qp_handle, attr_mask;
    struct pvr_qp_attr attrs;
};
struct pvr_cmd_query_qp {
    struct pvr_cmd_hdr hdr;
    uint32_t qp_handle, attr_mask;
};
struct pvr_resp_query_qp {
    struct pvr_resp_hdr hdr;
    struct pvr_qp_attr attrs;
};

struct pvr_cmd_create_bind {
    struct pvr_cmd_hdr hdr;
    uint32_t mtu, vlan, index;
    uint8_t new_gid[16];
    uint8_t gid_type, reserved[3];
};
struct pvr_cmd_destroy_bind {
    struct pvr_cmd_hdr hdr;
    uint32_t index;
    uint8_t dest_gid[16], reserved[4];
};

enum pvr_srq_attr_mask { PVR_SRQ_MAX_WR = 1 << 0, PVR_SRQ_LIMIT = 1 << 1 };
struct pvr_srq_attr {
    uint32_t max_wr, max_sge, srq_limit, reserved;
};
struct pvr_cmd_create_srq {
    struct pvr_cmd_hdr hdr;
    uint64_t pdir_dma;
    uint32_t pd_handle, nchunks;
    struct pvr_srq_attr attrs;
    uint8_t srq_type, reserved[7];
};
struct pvr_cmd_modify_srq {
    struct pvr_cmd_hdr hdr;
    uint32_t srq_handle, attr_mask;
    struct pvr_srq_attr attrs;
};
struct pvr_resp_query_srq {
    struct pvr_resp_hdr hdr;
    struct pvr_srq_attr attrs;
};

union pvr_request {
    struct pvr_cmd_hdr hdr;
    struct pvr_cmd_query_port query_port;
    struct pvr_cmd_query_pkey query_pkey;
    struct pvr_cmd_create_uc create_uc;
    struct pvr_cmd_handle handle;
    struct pvr_cmd_create_mr create_mr;
    struct pvr_cmd_create_cq create_cq;
    struct pvr_cmd_create_qp create_qp;
    struct pvr_cmd_modify_qp modify_qp;
    struct pvr_cmd_query_qp query_qp;
    struct pvr_cmd_create_bind create_bind;
    struct pvr_cmd_destroy_bind destroy_bind;
    struct pvr_cmd_create_srq create_srq;
    struct pvr_cmd_modify_srq modify_srq;
};
union pvr_response {
    struct pvr_resp_hdr hdr;
    struct pvr_resp_query_port query_port;
    struct pvr_resp_query_pkey query_pkey;
    struct pvr_resp_handle handle;
    struct pvr_resp_create_mr create_mr;
    struct pvr_resp_create_cq create_cq;
    struct pvr_resp_create_qp create_qp;
    struct pvr_resp_create_qp_v2 create_qp_v2;
    struct pvr_resp_query_qp query_qp;
    struct pvr_resp_query_srq query_srq;
};

#endif
