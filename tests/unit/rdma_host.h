/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rdma_host - an adapter under test, without a guest: memory, a client that counts what it is told, and
 * short forms of the calls of backends/rdma/rdma.h; asserts that all goes well
 *
 * The backend is loopback, or what $LODGE_RDMA says ("backend=verbs,device=rxe0"); over verbs, the GID
 * is one that the host's port has.
 */
#ifndef TESTS_UNIT_RDMA_HOST_H
#define TESTS_UNIT_RDMA_HOST_H

#include <errno.h>
#include <string.h>

#include "backends/rdma/rdma.h"
#include "vmm/device.h"
#include "vmm/layout.h"
#include "vmm/memory.h"

#ifndef RAM
#define RAM (UINT64_C(64) << 20)
#endif
#define PATIENT     10000 /* ms; of a wait that should succeed */
#define QKEY        0x11111111u
#define MAX_PENDING 4096u

struct host {
    struct memory *memory;
    uint8_t *ram; /* at guest-physical 0 */
    struct device device;
    struct dma dma;
    struct rdma *rdma;
    union rdma_gid gid;
    unsigned ready, room, srq_room; /* callbacks */
    unsigned events[RDMA_EVENT_DEVICE_FATAL + 1];
    uint32_t event_number;
    uint32_t next;     /* number of the next object */
    struct loop *loop; /* NULL: the main one */
    struct rdma_pd *pd;
};

static inline void host_cq_ready(void *opaque, uint32_t cq)
{
    ((struct host *)opaque)->ready++;
}

static inline void host_qp_room(void *opaque, uint32_t qp)
{
    ((struct host *)opaque)->room++;
}

static inline void host_srq_room(void *opaque, uint32_t srq)
{
    ((struct host *)opaque)->srq_room++;
}

static inline void host_event(void *opaque, enum rdma_event_type type, uint32_t number)
{
    struct host *host = opaque;

    host->events[type]++;
    host->event_number = number;
}

static const struct rdma_client_ops host_client = {host_cq_ready, host_qp_room, host_srq_room,
                                                   host_event};
static const struct device_ops host_device_ops;

/* 10.9.0.1 mapped into IPv6, or the first such GID of the host's port. */
static inline void host_find_gid(struct host *host, const struct options *options)
{
    static const uint8_t gid[16] = {[10] = 0xff, 0xff, 10, 9, 0, 1};

    memcpy(host->gid.raw, gid, sizeof(gid));
    for (unsigned i = 0; options_given(options, "device") && i < 16; i++) {
        g_autofree char *path = g_strdup_printf("/sys/class/infiniband/%s/ports/%u/gids/%u",
                                                options_string(options, "device"),
                                                (unsigned)options_uint(options, "port"), i);
        g_autofree char *text = NULL;
        if (!g_file_get_contents(path, &text, NULL, NULL) ||
            !g_str_has_prefix(text, "0000:0000:0000:0000:0000:ffff:"))
            continue;
        for (unsigned j = 0, at = 0; j < 16; j++, at += 2 + (j % 2 == 0))
            host->gid.raw[j] =
                g_ascii_xdigit_value(text[at]) << 4 | g_ascii_xdigit_value(text[at + 1]);
        return;
    }
}

static inline struct rdma *host_open(struct host *host)
{
    const char *text = g_getenv("LODGE_RDMA");
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 1};
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options =
        options_parse(rdma_options, "--rdma", text ? text : "loopback", &error);

    g_assert_no_error(error);
    struct rdma *rdma =
        rdma_open(options, &host->dma, host->loop ? host->loop : loop_main(), &error);
    g_assert_no_error(error);
    rdma_set_client(rdma, &host_client, host);
    rdma_set_link(rdma, true, 4200);
    host_find_gid(host, options);
    g_assert_cmpint(rdma_add_gid(rdma, 0, &host->gid, RDMA_GID_ROCE_V2, mac), ==, 0);
    return rdma;
}

static inline void host_set_up_on(struct host *host, struct loop *loop)
{
    struct memory_ram_options ram = {0};
    g_autoptr(GError) error = NULL;

    memset(host, 0, sizeof(*host));
    host->loop = loop;
    host->memory = memory_create();
    g_assert_true(memory_add_ram(host->memory, RAM, LAYOUT_LOW_END, &ram, &error));
    device_init(&host->device, "rdma0", "test", &host_device_ops);
    dma_init(&host->dma, host->memory, &host->device, true);
    host->ram = dma_map_ring(&host->dma, 0, RAM);
    g_assert_nonnull(host->ram);
    host->rdma = host_open(host);
    host->next = 1;
    g_assert_cmpint(rdma_create_pd(host->rdma, host->next++, &host->pd), ==, 0);
}

static inline void host_set_up(struct host *host)
{
    host_set_up_on(host, NULL);
}

static inline void host_tear_down(struct host *host)
{
    rdma_close(host->rdma);
    while (loop_iterate(loop_main(), false))
        ;
    g_assert_cmpuint(host->device.violations, ==, 0);
    device_finish(&host->device);
    memory_destroy(host->memory);
}

/* ---- waiting ---- */

#define wait_until(CONDITION)                                                                      \
    ({                                                                                             \
        gint64 wait_end = g_get_monotonic_time() + PATIENT * 1000;                                 \
        bool wait_met;                                                                             \
        while (!(wait_met = (CONDITION)) && g_get_monotonic_time() < wait_end)                     \
            if (!loop_iterate(loop_main(), false))                                                 \
                g_usleep(50);                                                                      \
        wait_met;                                                                                  \
    })

static inline void turn_for(int ms)
{
    gint64 end = g_get_monotonic_time() + ms * 1000;

    do {
        if (!loop_iterate(loop_main(), false))
            g_usleep(50);
    } while (g_get_monotonic_time() < end);
}

/* The next completion of @cq, which must come. */
static inline struct rdma_wc next_wc(struct rdma_cq *cq)
{
    struct rdma_wc wc = {0};

    g_assert_true(wait_until(rdma_poll_cq(cq, &wc, 1)));
    return wc;
}

static inline bool over_verbs(void)
{
    return g_getenv("LODGE_RDMA") && strstr(g_getenv("LODGE_RDMA"), "verbs");
}

static inline void expect_wc(struct rdma_cq *cq, uint64_t wr_id, enum rdma_wc_status status)
{
    struct rdma_wc wc = next_wc(cq);

    g_assert_cmphex(wc.wr_id, ==, wr_id);
    /* Which local error it is, devices disagree about: soft RoCE calls most of them this. */
    if (over_verbs() && wc.status == RDMA_WC_LOC_QP_OP_ERR &&
        (status == RDMA_WC_LOC_PROT_ERR || status == RDMA_WC_LOC_LEN_ERR))
        return;
    /* And, as the responder's fault, a message that its receive has no room for. */
    if (over_verbs() && wc.status == RDMA_WC_REM_OP_ERR && status == RDMA_WC_REM_INV_REQ_ERR)
        return;
    g_assert_cmpint(wc.status, ==, status);
}

static inline void expect_no_wc(struct rdma_cq *cq)
{
    struct rdma_wc wc;

    turn_for(20);
    g_assert_cmpuint(rdma_poll_cq(cq, &wc, 1), ==, 0);
}

/* ---- objects ---- */

struct made_mr {
    struct rdma_mr *mr;
    int error;
    bool done;
};

static inline void mr_made(void *opaque, struct rdma_mr *mr, int error)
{
    *(struct made_mr *)opaque = (struct made_mr){mr, error, true};
}

static inline struct rdma_mr *make_mr_in(struct host *host, struct rdma_pd *pd,
                                         const struct rdma_mr_attributes *a)
{
    struct made_mr made = {0};

    g_assert_cmpint(rdma_create_mr(pd, host->next++, a, mr_made, &made), ==, 0);
    g_assert_true(wait_until(made.done));
    g_assert_cmpint(made.error, ==, 0);
    return made.mr;
}

/*
 * A region of @length bytes at @start; its pages lie from @gpa on, the next one @step pages further each
 * time (1: contiguous).
 */
static inline struct rdma_mr *make_mr(struct host *host, uint64_t start, uint64_t length,
                                      uint64_t gpa, int step, uint32_t access)
{
    uint32_t count = (start % RDMA_PAGE_SIZE + length + RDMA_PAGE_SIZE - 1) / RDMA_PAGE_SIZE;
    struct rdma_mr_attributes a = {
        .type = RDMA_MR_USER,
        .access = access,
        .start = start,
        .length = length,
        .pages = g_new(uint64_t, count),
        .page_count = count,
    };

    for (uint32_t i = 0; i < count; i++)
        a.pages[i] = gpa + (int64_t)i * step * RDMA_PAGE_SIZE;
    return make_mr_in(host, host->pd, &a);
}

#define ALL_ACCESS                                                                                 \
    (RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ |                \
     RDMA_ACCESS_REMOTE_ATOMIC)

/* All of memory as a region whose addresses are not the guest-physical ones. */
#define WHOLE (UINT64_C(0x7f0000000000))
static inline struct rdma_mr *make_whole(struct host *host)
{
    return make_mr(host, WHOLE, 16 << 20, 0, 1, ALL_ACCESS);
}

static inline struct rdma_cq *make_cq(struct host *host, uint32_t entries)
{
    struct rdma_cq *cq;

    g_assert_cmpint(rdma_create_cq(host->rdma, host->next++, entries, &cq), ==, 0);
    return cq;
}

static inline struct rdma_qp *make_qp(struct host *host, enum rdma_qp_type type, struct rdma_cq *cq,
                                      struct rdma_srq *srq)
{
    struct rdma_qp_create create = {
        .type = type,
        .send_cq = cq,
        .recv_cq = cq,
        .srq = srq,
        .max_send_wr = 64,
        .max_recv_wr = 64,
        .max_send_sge = 4,
        .max_recv_sge = 4,
        .signal_all = true,
    };
    struct rdma_qp *qp;

    g_assert_cmpint(rdma_create_qp(host->pd, host->next++, &create, &qp), ==, 0);
    return qp;
}

#define INIT_RC (RDMA_QP_STATE | RDMA_QP_PKEY_INDEX | RDMA_QP_PORT | RDMA_QP_ACCESS)
#define INIT_UD (RDMA_QP_STATE | RDMA_QP_PKEY_INDEX | RDMA_QP_PORT | RDMA_QP_QKEY)
#define RTR_RC                                                                                     \
    (RDMA_QP_STATE | RDMA_QP_AV | RDMA_QP_PATH_MTU | RDMA_QP_DEST_QPN | RDMA_QP_RQ_PSN |           \
     RDMA_QP_MAX_DEST_RD_ATOMIC | RDMA_QP_MIN_RNR_TIMER)
#define RTS_RC                                                                                     \
    (RDMA_QP_STATE | RDMA_QP_TIMEOUT | RDMA_QP_RETRY_COUNT | RDMA_QP_RNR_RETRY | RDMA_QP_SQ_PSN |  \
     RDMA_QP_MAX_RD_ATOMIC)

/* What a queue pair is given on its way to RTS; tests change what they are about. */
static inline struct rdma_qp_attributes usual_attributes(struct host *host, uint32_t dest_qpn)
{
    return (struct rdma_qp_attributes){
        .port = 1,
        .qkey = QKEY,
        .access = ALL_ACCESS,
        .av = {.dgid = host->gid, .hop_limit = 64},
        .path_mtu = RDMA_MTU_1024,
        .dest_qpn = dest_qpn,
        .rq_psn = 100,
        .sq_psn = 100,
        .max_dest_rd_atomic = 4,
        .max_rd_atomic = 4,
        .min_rnr_timer = 1,
        .timeout = 10,
        .retry_count = 3,
        .rnr_retry = 7,
    };
}

static inline int set_state(struct rdma_qp *qp, struct rdma_qp_attributes *a,
                            enum rdma_qp_state state, uint32_t mask)
{
    a->state = state;
    return rdma_modify_qp(qp, a, mask | RDMA_QP_STATE);
}

static inline void to_state(struct rdma_qp *qp, struct rdma_qp_attributes *a,
                            enum rdma_qp_state state, uint32_t mask)
{
    g_assert_cmpint(set_state(qp, a, state, mask), ==, 0);
}

static inline void connect_as(struct rdma_qp *qp, struct rdma_qp_attributes *a)
{
    to_state(qp, a, RDMA_QPS_INIT, INIT_RC);
    to_state(qp, a, RDMA_QPS_RTR, RTR_RC);
    to_state(qp, a, RDMA_QPS_RTS, RTS_RC);
}

static inline enum rdma_qp_state state_of(struct rdma_qp *qp)
{
    struct rdma_qp_attributes a;

    g_assert_cmpint(rdma_query_qp(qp, &a), ==, 0);
    return a.state;
}

/* ---- two connected queue pairs with a CQ each, over a region of all of memory ---- */

struct pair {
    struct host host;
    struct rdma_cq *cq[2];
    struct rdma_qp *qp[2];
    struct rdma_mr *mr;
    uint32_t key;
};

static inline void pair_create(struct pair *pair, struct rdma_srq *srq)
{
    for (unsigned i = 0; i < 2; i++) {
        pair->cq[i] = make_cq(&pair->host, 256);
        pair->qp[i] = make_qp(&pair->host, RDMA_QP_RC, pair->cq[i], i ? srq : NULL);
    }
    pair->mr = make_whole(&pair->host);
    pair->key = rdma_mr_lkey(pair->mr);
    g_assert_cmpuint(pair->key, ==, rdma_mr_lkey(pair->mr));
}

static inline void pair_connect(struct pair *pair)
{
    for (unsigned i = 0; i < 2; i++) {
        struct rdma_qp_attributes a = usual_attributes(&pair->host, rdma_qp_qpn(pair->qp[!i]));
        connect_as(pair->qp[i], &a);
    }
}

static inline void pair_set_up(struct pair *pair)
{
    host_set_up(&pair->host);
    pair_create(pair, NULL);
    pair_connect(pair);
}

static inline void pair_tear_down(struct pair *pair)
{
    host_tear_down(&pair->host);
}

/* ---- work; addresses are offsets into memory ---- */

static inline struct rdma_sge sge_at(const struct pair *pair, uint64_t offset, uint32_t length)
{
    return (struct rdma_sge){WHOLE + offset, length, pair->key};
}

static inline void post_recv(struct pair *pair, unsigned i, uint64_t wr_id, uint64_t offset,
                             uint32_t length)
{
    struct rdma_sge sge = sge_at(pair, offset, length);
    struct rdma_recv_wr wr = {.wr_id = wr_id, .num_sge = 1, .sge = &sge};

    g_assert_cmpint(rdma_post_recv(pair->qp[i], &wr), ==, 0);
}

static inline struct rdma_send_wr send_wr(enum rdma_wr_opcode opcode, uint64_t wr_id,
                                          const struct rdma_sge *sge)
{
    return (struct rdma_send_wr){
        .wr_id = wr_id,
        .opcode = opcode,
        .flags = RDMA_SEND_SIGNALED,
        .num_sge = sge ? 1 : 0,
        .sge = sge,
    };
}

static inline void post_send(struct pair *pair, uint64_t wr_id, uint64_t offset, uint32_t length)
{
    struct rdma_sge sge = sge_at(pair, offset, length);
    struct rdma_send_wr wr = send_wr(RDMA_WR_SEND, wr_id, &sge);

    g_assert_cmpint(rdma_post_send(pair->qp[0], &wr), ==, 0);
}

/* WRITE, WRITE_WITH_IMM or READ between @offset here and @remote there. */
static inline void post_remote(struct pair *pair, enum rdma_wr_opcode opcode, uint64_t wr_id,
                               uint64_t offset, uint32_t length, uint64_t remote)
{
    struct rdma_sge sge = sge_at(pair, offset, length);
    struct rdma_send_wr wr = send_wr(opcode, wr_id, &sge);

    wr.imm_or_rkey = 0x04030201;
    wr.remote.addr = WHOLE + remote;
    wr.remote.rkey = rdma_mr_rkey(pair->mr);
    g_assert_cmpint(rdma_post_send(pair->qp[0], &wr), ==, 0);
}

static inline void fill(uint8_t *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = seed * 17 + i * 31 + i / 251;
}

static inline void expect_filled(const uint8_t *bytes, size_t length, unsigned seed)
{
    g_autofree uint8_t *wanted = g_malloc(length);

    fill(wanted, length, seed);
    g_assert_cmpmem(bytes, length, wanted, length);
}

#endif
