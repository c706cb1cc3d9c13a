/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rdma - the host side of an RDMA adapter: protection domains, memory regions, completion queues,
 * queue pairs, shared receive queues, and the work that is posted on them
 *
 * Implementations: loopback (queue pairs of one adapter reach each other through guest memory; no RDMA
 * device needed, and the only one that can be saved), verbs (an RDMA device of the host, through
 * libibverbs), null (every verb is there and no peer ever answers). A software RoCE v2 adapter is to
 * become one more. The names are those of the InfiniBand Architecture Specification, volume 1 (IBTA),
 * chapters 10 and 11.
 *
 * Objects belong to the backend, and are known by numbers that the device chose (its handles): two
 * live objects of one type never have the same. They are what callbacks name, because an object may be
 * gone by the time that a callback comes. An object that others use can't be destroyed: -EBUSY.
 *
 * Work is copied when it is posted: nothing of the caller's is kept. Memory is named by local and remote
 * keys and by the addresses that the guest uses; translation, bounds and access rights are checked where
 * the work is executed (IBTA 10.6), and end in completions with an error, never in an error return.
 *
 * Guest memory is reached through the struct dma of the device, so that the gates hold: while
 * rdma_set_running(false) no work is executed, and nothing completes.
 *
 * Threads: any; calls are serialised here. Callbacks come on the loop given to rdma_open, with no lock
 * held, never from inside a call. Only creating a memory region may take long, and says so by a callback.
 *
 * Errors: -errno as at each function; -EOPNOTSUPP for what this backend can't do.
 */
#ifndef BACKENDS_RDMA_RDMA_H
#define BACKENDS_RDMA_RDMA_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/dma.h"
#include "vmm/loop.h"
#include "vmm/options.h"

#define RDMA_PAGE_SIZE 4096u
#define RDMA_MAX_SGE   32u /* of any work request */
#define RDMA_QPN_GSI   1u

struct rdma;
struct rdma_pd;
struct rdma_mr;
struct rdma_cq;
struct rdma_srq;
struct rdma_qp;

/* ---- the adapter ---- */

struct rdma_limits {
    uint64_t node_guid, sys_image_guid; /* as numbers, most significant byte first on the wire */
    uint32_t max_qp, max_qp_wr, max_sge, max_sge_rd;
    uint32_t max_cq, max_cqe, max_mr, max_pd, max_ah;
    uint32_t max_srq, max_srq_wr, max_srq_sge;
    uint64_t max_mr_size; /* bytes */
    uint32_t max_qp_rd_atom, max_qp_init_rd_atom;
    uint32_t max_fast_reg_pages; /* 0: no fast registration */
    uint32_t gid_entries;
    uint8_t local_ca_ack_delay;
    bool atomics;
    bool dma_mr; /* regions over all of guest memory */
};

enum rdma_mtu { RDMA_MTU_256 = 1, RDMA_MTU_512, RDMA_MTU_1024, RDMA_MTU_2048, RDMA_MTU_4096 };
static inline uint32_t rdma_mtu_bytes(enum rdma_mtu mtu)
{
    return 128u << mtu;
}

struct rdma_port {
    bool active;
    enum rdma_mtu max_mtu, active_mtu;
    uint32_t max_msg_size;              /* bytes */
    uint8_t active_width, active_speed; /* IBTA 14.2.5.6: encoded */
};

enum rdma_gid_type { RDMA_GID_ROCE_V1 = 1, RDMA_GID_ROCE_V2 = 2 };
union rdma_gid {
    uint8_t raw[16];
};

enum rdma_event_type {
    RDMA_EVENT_CQ_ERROR,         /* number: of the CQ; it overflowed, its queue pairs are in ERR */
    RDMA_EVENT_QP_FATAL,         /* number: of the QP */
    RDMA_EVENT_QP_REQUEST_ERROR, /* invalid request of the peer */
    RDMA_EVENT_QP_ACCESS_ERROR,  /* the peer's request violates access rights */
    RDMA_EVENT_COMM_EST,         /* first message while in RTR */
    RDMA_EVENT_SQ_DRAINED,
    RDMA_EVENT_LAST_WQE_REACHED,
    RDMA_EVENT_SRQ_ERROR, /* number: of the SRQ */
    RDMA_EVENT_SRQ_LIMIT,
    RDMA_EVENT_PORT_ACTIVE, /* number: 1 */
    RDMA_EVENT_PORT_ERROR,
    RDMA_EVENT_GID_CHANGE,
    RDMA_EVENT_DEVICE_FATAL,
};

struct rdma_client_ops {
    void (*cq_ready)(void *opaque, uint32_t cq); /* rdma_poll_cq may have something */
    void (*qp_room)(void *opaque, uint32_t qp);  /* after a post on it returned -ENOMEM */
    void (*srq_room)(void *opaque, uint32_t srq);
    void (*event)(void *opaque, enum rdma_event_type type, uint32_t number);
};

#define RDMA_OPTIONS                                                                               \
    {"backend",                                                                                    \
     OPTION_ENUM,                                                                                  \
     .value = "loopback",                                                                          \
     .choices = rdma_backends,                                                                     \
     .flags = OPTION_FIRST,                                                                        \
     .help = "what carries the work of the queue pairs"},                                          \
        {"device", OPTION_STRING, .help = "verbs: the host's RDMA device, by its name"},           \
        {"port", OPTION_UINT, .value = "1", .min = 1, .max = 255, .help = "verbs: its port"},      \
    {                                                                                              \
        "gid_index", OPTION_UINT, .max = 255, .help = "verbs: the GID to use for one not found"    \
    }
extern const char *const rdma_backends[];
extern const struct option_spec rdma_options[];

/*
 * What the host has for backend=verbs, one line each, in words for a user: devices, their ports and GIDs,
 * and what is missing with its remedy (or NULL). For lodge doctor; any thread, takes nothing.
 */
typedef void (*rdma_probe_fn)(void *opaque, bool usable, const char *finding, const char *remedy);
void rdma_probe(rdma_probe_fn found, void *opaque);

/* Opens by options. NULL with @error set (OPTIONS_ERROR), nothing left behind. @dma outlives it. */
struct rdma *rdma_open(const struct options *options, struct dma *dma, struct loop *loop,
                       GError **error);
/* Destroys what objects there are, whatever uses them. On the loop's thread, or while it is not running:
 * no callback comes afterwards. NULL is allowed. */
void rdma_close(struct rdma *rdma);
void rdma_set_client(struct rdma *rdma, const struct rdma_client_ops *client, void *opaque);
const char *rdma_implementation(const struct rdma *rdma);
const struct rdma_limits *rdma_limits(const struct rdma *rdma);

/*
 * Everything that a guest made is destroyed; nothing completes afterwards. The device's reset. @cancelled
 * (or NULL) gets the opaque of each memory region on its way whose done does not come any more, and is
 * called with the adapter locked.
 */
void rdma_reset(struct rdma *rdma, void (*cancelled)(void *opaque));

/*
 * Whether work is executed. After rdma_set_running(false) returned, no DMA is done and no callback does
 * anything but wait: it is for the device's way into and out of the P2P and STOP states.
 */
void rdma_set_running(struct rdma *rdma, bool running);
/* DMA may be allowed again (bus mastering is on): what stood goes on. Any thread. */
void rdma_look_again(struct rdma *rdma);

int rdma_query_port(struct rdma *rdma, struct rdma_port *port);
/* The link below (the NIC of the same slot): the port's state and events follow it. @mtu: of the
 * Ethernet link, bytes; it bounds the port's where packets take that link (not over verbs). */
void rdma_set_link(struct rdma *rdma, bool up, uint32_t mtu);

/* Entry @index of the GID table; -EINVAL: no such index, -EEXIST: taken by another, -EADDRNOTAVAIL: the
 * host's port has no such address and it can't be added. @mac: of the NIC that has this GID. */
int rdma_add_gid(struct rdma *rdma, unsigned index, const union rdma_gid *gid,
                 enum rdma_gid_type type, const uint8_t mac[6]);
int rdma_remove_gid(struct rdma *rdma, unsigned index);

/* ---- protection domains and memory ---- */

int rdma_create_pd(struct rdma *rdma, uint32_t number, struct rdma_pd **pd);
int rdma_destroy_pd(struct rdma_pd *pd);
/*
 * The same with all memory regions in it, also those on their way: @cancelled as in rdma_reset. -EBUSY:
 * something else is in it.
 */
int rdma_destroy_pd_and_regions(struct rdma_pd *pd, void (*cancelled)(void *opaque));

enum rdma_access {
    RDMA_ACCESS_LOCAL_WRITE = 1 << 0,
    RDMA_ACCESS_REMOTE_WRITE = 1 << 1, /* needs LOCAL_WRITE, as does REMOTE_ATOMIC */
    RDMA_ACCESS_REMOTE_READ = 1 << 2,
    RDMA_ACCESS_REMOTE_ATOMIC = 1 << 3,
};

enum rdma_mr_type {
    RDMA_MR_USER, /* pages of guest memory that appear as one range of addresses from @start on */
    RDMA_MR_DMA, /* all of guest memory, addressed by guest-physical addresses; local access only */
    RDMA_MR_FAST, /* empty, until a FAST_REG work request fills it */
};

struct rdma_mr_attributes {
    enum rdma_mr_type type;
    uint32_t access; /* enum rdma_access */
    uint64_t start;  /* USER: the address of its first byte, as peers and work requests name it */
    uint64_t length; /* USER: bytes */
    /* USER: the guest-physical addresses of the pages under [start, start + length), page aligned, in
     * guest RAM; the backend takes the array over, on errors too (g_free). */
    uint64_t *pages;
    uint32_t page_count; /* FAST: how many pages it can hold */
};

/* @mr is NULL where @error (-errno) is not 0. */
typedef void (*rdma_mr_fn)(void *opaque, struct rdma_mr *mr, int error);

/*
 * Registers memory. 0: @done comes later, on the loop, or came already, from inside this call (the one
 * exception to the rule above; quick backends do that). -errno: it never comes, nor does it after a
 * reset.
 */
int rdma_create_mr(struct rdma_pd *pd, uint32_t number, const struct rdma_mr_attributes *attributes,
                   rdma_mr_fn done, void *opaque);
int rdma_destroy_mr(struct rdma_mr *mr);
const struct rdma_pd *rdma_mr_pd(const struct rdma_mr *mr);
uint32_t rdma_mr_lkey(const struct rdma_mr *mr);
uint32_t rdma_mr_rkey(const struct rdma_mr *mr);

/* ---- completion queues ---- */

int rdma_create_cq(struct rdma *rdma, uint32_t number, uint32_t entries, struct rdma_cq **cq);
int rdma_destroy_cq(struct rdma_cq *cq); /* -EBUSY while queue pairs use it */

enum rdma_wc_status { /* IBTA 11.6.2 */
                      RDMA_WC_SUCCESS,
                      RDMA_WC_LOC_LEN_ERR,
                      RDMA_WC_LOC_QP_OP_ERR,
                      RDMA_WC_LOC_PROT_ERR,
                      RDMA_WC_WR_FLUSH_ERR,
                      RDMA_WC_MW_BIND_ERR,
                      RDMA_WC_BAD_RESP_ERR,
                      RDMA_WC_LOC_ACCESS_ERR,
                      RDMA_WC_REM_INV_REQ_ERR,
                      RDMA_WC_REM_ACCESS_ERR,
                      RDMA_WC_REM_OP_ERR,
                      RDMA_WC_RETRY_EXC_ERR,
                      RDMA_WC_RNR_RETRY_EXC_ERR,
                      RDMA_WC_REM_ABORT_ERR,
                      RDMA_WC_FATAL_ERR,
                      RDMA_WC_GENERAL_ERR,
};

enum rdma_wc_opcode {
    RDMA_WC_SEND,
    RDMA_WC_WRITE,
    RDMA_WC_READ,
    RDMA_WC_COMPARE_SWAP,
    RDMA_WC_FETCH_ADD,
    RDMA_WC_LOCAL_INVALIDATE,
    RDMA_WC_FAST_REG,
    RDMA_WC_RECV,
    RDMA_WC_RECV_WRITE_WITH_IMM,
};

enum rdma_wc_flags {
    RDMA_WC_GRH = 1 << 0, /* the first 40 bytes of the receive buffer */
    RDMA_WC_WITH_IMM = 1 << 1,
    RDMA_WC_WITH_INVALIDATE = 1 << 2,
    RDMA_WC_SOLICITED = 1 << 3, /* the message asked for an event (receive side) */
    RDMA_WC_SMAC = 1 << 4,
};

enum rdma_network_type { RDMA_NETWORK_ROCE_V1, RDMA_NETWORK_IPV4, RDMA_NETWORK_IPV6 };

struct rdma_wc {
    uint64_t wr_id;
    uint32_t qp;     /* number */
    uint32_t status; /* enum rdma_wc_status; but wr_id and qp, nothing else counts on errors */
    uint32_t opcode; /* enum rdma_wc_opcode */
    uint32_t flags;  /* enum rdma_wc_flags */
    uint32_t byte_len;
    uint32_t imm;              /* WITH_IMM: the four bytes as they were posted */
    uint32_t invalidated_rkey; /* WITH_INVALIDATE */
    uint32_t src_qp;           /* UD: the sender's QPN */
    uint32_t vendor_error;
    uint16_t pkey_index;
    uint8_t network_type; /* enum rdma_network_type, with GRH */
    uint8_t smac[6];
};

/* At most @max completions, oldest first; how many. When it was fewer than @max, cq_ready comes for the
 * next one. */
unsigned rdma_poll_cq(struct rdma_cq *cq, struct rdma_wc *wc, unsigned max);

/* ---- queue pairs ---- */

enum rdma_qp_type { RDMA_QP_GSI, RDMA_QP_RC, RDMA_QP_UD };
enum rdma_qp_state { /* IBTA 10.3.1 */
                     RDMA_QPS_RESET,
                     RDMA_QPS_INIT,
                     RDMA_QPS_RTR,
                     RDMA_QPS_RTS,
                     RDMA_QPS_SQD,
                     RDMA_QPS_SQE,
                     RDMA_QPS_ERR,
};

struct rdma_av { /* address vector: IBTA 11.2.2.1 */
    union rdma_gid dgid;
    uint32_t flow_label; /* 20 bits */
    uint8_t sgid_index;
    uint8_t hop_limit;
    uint8_t traffic_class;
    uint8_t sl;
    uint8_t dmac[6];
};

enum rdma_qp_attribute_mask {
    RDMA_QP_STATE = 1 << 0,
    RDMA_QP_CURRENT_STATE = 1 << 1, /* -EINVAL if it is not in .current_state */
    RDMA_QP_SQD_NOTIFY = 1 << 2,
    RDMA_QP_ACCESS = 1 << 3,
    RDMA_QP_PKEY_INDEX = 1 << 4,
    RDMA_QP_PORT = 1 << 5,
    RDMA_QP_QKEY = 1 << 6,
    RDMA_QP_AV = 1 << 7,
    RDMA_QP_PATH_MTU = 1 << 8,
    RDMA_QP_TIMEOUT = 1 << 9,
    RDMA_QP_RETRY_COUNT = 1 << 10,
    RDMA_QP_RNR_RETRY = 1 << 11,
    RDMA_QP_RQ_PSN = 1 << 12,
    RDMA_QP_MAX_RD_ATOMIC = 1 << 13,
    RDMA_QP_MIN_RNR_TIMER = 1 << 14,
    RDMA_QP_SQ_PSN = 1 << 15,
    RDMA_QP_MAX_DEST_RD_ATOMIC = 1 << 16,
    RDMA_QP_DEST_QPN = 1 << 17,
};

struct rdma_qp_attributes {
    enum rdma_qp_state state, current_state;
    bool sqd_notify;  /* an SQ_DRAINED event when the send queue is */
    bool sq_draining; /* query only */
    uint32_t access;  /* REMOTE_* of enum rdma_access */
    uint16_t pkey_index;
    uint8_t port;
    uint32_t qkey;
    struct rdma_av av;
    enum rdma_mtu path_mtu;
    uint8_t timeout;                /* 4.096 us * 2^timeout; 0: for ever; at most 31 */
    uint8_t retry_count, rnr_retry; /* at most 7; rnr_retry 7: for ever */
    uint32_t rq_psn, sq_psn;        /* 24 bits */
    uint8_t max_rd_atomic, max_dest_rd_atomic;
    uint8_t min_rnr_timer; /* at most 31 */
    uint32_t dest_qpn;     /* 24 bits */
};

struct rdma_qp_create {
    enum rdma_qp_type type;
    struct rdma_cq *send_cq, *recv_cq;
    struct rdma_srq *srq;                                          /* or NULL */
    uint32_t max_send_wr, max_recv_wr, max_send_sge, max_recv_sge; /* recv: unused with an SRQ */
    bool signal_all;
};

/* In RESET. Its QPN is the backend's choice, 24 bits and unlike that of any other; GSI: RDMA_QPN_GSI,
 * and -EEXIST for a second. -EINVAL for limits that are exceeded, -ENOMEM. */
int rdma_create_qp(struct rdma_pd *pd, uint32_t number, const struct rdma_qp_create *create,
                   struct rdma_qp **qp);
/* After it returned no completion of this queue pair comes out of rdma_poll_cq. */
int rdma_destroy_qp(struct rdma_qp *qp);
uint32_t rdma_qp_number(const struct rdma_qp *qp);
uint32_t rdma_qp_qpn(const struct rdma_qp *qp);

/* May attributes @mask take a queue pair of @type from one state to the other, and are the required
 * ones there (IBTA table 91)? Pure; @mask has RDMA_QP_STATE where the state changes. */
bool rdma_qp_transition(enum rdma_qp_type type, enum rdma_qp_state from, enum rdma_qp_state to,
                        uint32_t mask);
/*
 * Modifies: all or nothing. -EINVAL: no such transition, a required attribute missing, or a value out of
 * range. To RESET: all work and completions of it are forgotten; to ERR: all work completes as flushed,
 * also what is posted afterwards (IBTA 10.3.1).
 */
int rdma_modify_qp(struct rdma_qp *qp, const struct rdma_qp_attributes *attributes, uint32_t mask);
int rdma_query_qp(struct rdma_qp *qp, struct rdma_qp_attributes *attributes);

/* ---- shared receive queues ---- */

int rdma_create_srq(struct rdma_pd *pd, uint32_t number, uint32_t max_wr, uint32_t max_sge,
                    struct rdma_srq **srq);
int rdma_destroy_srq(struct rdma_srq *srq); /* -EBUSY while queue pairs use it */
/* SRQ_LIMIT comes once when fewer than @limit (0: never) receives are left. */
int rdma_set_srq_limit(struct rdma_srq *srq, uint32_t limit);
int rdma_query_srq(struct rdma_srq *srq, uint32_t *max_wr, uint32_t *max_sge, uint32_t *limit);

/* ---- work ---- */

struct rdma_sge {
    uint64_t addr;
    uint32_t length;
    uint32_t lkey;
};

enum rdma_wr_opcode {
    RDMA_WR_SEND,
    RDMA_WR_SEND_WITH_IMM,
    RDMA_WR_SEND_WITH_INVALIDATE,
    RDMA_WR_WRITE,
    RDMA_WR_WRITE_WITH_IMM,
    RDMA_WR_READ,
    RDMA_WR_COMPARE_SWAP,
    RDMA_WR_FETCH_ADD,
    RDMA_WR_LOCAL_INVALIDATE,
    RDMA_WR_FAST_REG,
};

enum rdma_wr_flags {
    RDMA_SEND_FENCE = 1 << 0,
    RDMA_SEND_SIGNALED = 1 << 1,
    RDMA_SEND_SOLICITED = 1 << 2,
};

struct rdma_send_wr {
    uint64_t wr_id;
    uint32_t opcode;      /* enum rdma_wr_opcode, checked */
    uint32_t flags;       /* enum rdma_wr_flags */
    uint32_t imm_or_rkey; /* WITH_IMM: as it is to arrive; INVALIDATE: the rkey */
    uint32_t num_sge;     /* checked against the queue pair's limit */
    const struct rdma_sge *sge;
    union {
        struct {
            uint64_t addr;
            uint32_t rkey;
        } remote; /* WRITE, READ */
        struct {
            uint64_t addr, compare_add, swap;
            uint32_t rkey;
        } atomic;
        struct {
            uint32_t qpn, qkey;
            struct rdma_av av;
        } ud;
        struct {
            uint64_t iova, length;
            const uint64_t *pages; /* copied */
            uint32_t page_count, access, rkey;
        } fast_reg;
    };
};

struct rdma_recv_wr {
    uint64_t wr_id;
    uint32_t num_sge;
    const struct rdma_sge *sge;
};

/*
 * Post work. 0: taken; it completes sooner or later, in order, also if it is wrong (IBTA 10.8.3.1: what
 * a bad request would have been an immediate error for is a LOC_QP_OP_ERR completion). -ENOMEM: the queue
 * is full, or held back (stopped, SQD); qp_room or srq_room says when to try again. -EINVAL: sends while in RESET, INIT or RTR, receives
 * in RESET.
 */
int rdma_post_send(struct rdma_qp *qp, const struct rdma_send_wr *wr);
int rdma_post_recv(struct rdma_qp *qp, const struct rdma_recv_wr *wr);
int rdma_post_srq_recv(struct rdma_srq *srq, const struct rdma_recv_wr *wr);

/* ---- lifecycle ---- */

/* NULL if the backend can be saved, else why not: a sentence for the user. */
const char *rdma_unsaveable(const struct rdma *rdma);
/*
 * All objects with their posted work, undelivered completions, keys and counters, while not running.
 * rdma_load wants a backend without objects and leaves it so on errors; then the rdma_find_* give the
 * objects by their numbers (NULL: none such).
 */
void rdma_save(struct rdma *rdma, GByteArray *out);
bool rdma_load(struct rdma *rdma, const uint8_t *data, size_t size, GError **error);
struct rdma_pd *rdma_find_pd(struct rdma *rdma, uint32_t number);
struct rdma_mr *rdma_find_mr(struct rdma *rdma, uint32_t number);
struct rdma_cq *rdma_find_cq(struct rdma *rdma, uint32_t number);
struct rdma_srq *rdma_find_srq(struct rdma *rdma, uint32_t number);
struct rdma_qp *rdma_find_qp(struct rdma *rdma, uint32_t number);

#endif
