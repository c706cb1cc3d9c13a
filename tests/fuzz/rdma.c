/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a hostile user of backends/rdma (loopback). The input is a small program over a few
 * objects of each kind; every number, key, address and length is made up, near what would be right or
 * far from it:
 *
 *     byte 0     what there is at the beginning: connected queue pairs, an SRQ, datagrams, a QP 1
 *     then       operations: create, destroy and modify objects, post work, poll, let turns pass, stop
 *                and go on, save and load (perhaps with a byte that is wrong), the link
 *
 * Whatever it does: no access outside of guest memory, and after a reset nothing is left.
 */
#include <string.h>

#include "backends/rdma/rdma.h"
#include "tests/fuzz/input.h"
#include "vmm/device.h"
#include "vmm/log.h"
#include "vmm/memory.h"

#define RAM_SIZE   (UINT64_C(1) << 20)
#define OBJECTS    6u
#define OPERATIONS 300
#define BASE       UINT64_C(0x100000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct user {
    struct memory *memory;
    struct dma dma;
    struct rdma *rdma;
    uint32_t keys[OBJECTS];
    unsigned told;
};

/* Lengths and addresses: small, a page, its borders, or huge. */
static uint64_t take_size(struct input *input)
{
    uint8_t kind = take8(input);
    uint16_t value = take16(input);

    switch (kind & 7) {
    case 0:
        return value & 0xff;
    case 1:
        return value;
    case 2:
        return (uint64_t)value * RDMA_PAGE_SIZE;
    case 3:
        return (uint64_t)value * RDMA_PAGE_SIZE - (kind >> 3);
    case 4:
        return UINT64_MAX - value;
    case 5:
        return (uint64_t)value << 20;
    default:
        return 8 * (value & 0x3f);
    }
}

static uint32_t take_key(struct user *user, struct input *input)
{
    uint8_t byte = take8(input);
    uint32_t key = user->keys[byte % OBJECTS];

    return byte & 0x80 ? key ^ take16(input) : key;
}

static void told(void *opaque, uint32_t number)
{
    ((struct user *)opaque)->told++;
}

static void told_event(void *opaque, enum rdma_event_type type, uint32_t number)
{
    ((struct user *)opaque)->told++;
}

static const struct rdma_client_ops client = {told, told, told, told_event};

static void turn(unsigned count)
{
    while (count-- && loop_iterate(loop_main(), false))
        ;
}

/* ---- objects ---- */

static void made(void *opaque, struct rdma_mr *mr, int error)
{
    if (mr)
        *(uint32_t *)opaque = rdma_mr_rkey(mr);
}

static void create_mr(struct user *user, struct input *input, uint32_t number)
{
    struct rdma_pd *pd = rdma_find_pd(user->rdma, take8(input) & 1);
    uint8_t kind = take8(input);
    struct rdma_mr_attributes a = {
        .type = kind % 4,
        .access = kind & 0x80 ? take8(input) : 0xf,
        .start = kind & 0x40 ? take_size(input) : BASE + (kind & 0x3f),
        .length = take_size(input),
        .page_count = kind & 0x20 ? take16(input) : 0,
    };

    if (a.type == RDMA_MR_USER && !a.page_count)
        a.page_count =
            MIN((a.start % RDMA_PAGE_SIZE + MIN(a.length, RAM_SIZE) + RDMA_PAGE_SIZE - 1) /
                    RDMA_PAGE_SIZE,
                256);
    if (a.type == RDMA_MR_FAST && !a.page_count)
        a.page_count = 8;
    a.pages = a.type == RDMA_MR_USER ? g_new0(uint64_t, MAX(a.page_count, 1)) : NULL;
    for (uint32_t i = 0; a.pages && i < a.page_count; i++)
        a.pages[i] = (uint64_t)((kind & 0x10 ? take16(input) : i * 3) & 0x1ff) * RDMA_PAGE_SIZE;
    if (!pd) {
        g_free(a.pages);
        return;
    }
    rdma_create_mr(pd, number, &a, made, &user->keys[number]);
}

static void create_qp(struct user *user, struct input *input, uint32_t number, unsigned type)
{
    struct rdma_pd *pd = rdma_find_pd(user->rdma, 0);
    uint8_t with = take8(input);
    struct rdma_qp_create create = {
        .type = type,
        .send_cq = rdma_find_cq(user->rdma, with & 1),
        .recv_cq = rdma_find_cq(user->rdma, with >> 1 & 1),
        .srq = with & 4 ? rdma_find_srq(user->rdma, 0) : NULL,
        .max_send_wr = 1 + (with >> 4),
        .max_recv_wr = 8,
        .max_send_sge = 3,
        .max_recv_sge = 3,
        .signal_all = with & 8,
    };
    struct rdma_qp *qp;

    if (pd)
        rdma_create_qp(pd, number, &create, &qp);
}

static void create(struct user *user, struct input *input, unsigned kind, uint32_t number)
{
    struct rdma_pd *pd = rdma_find_pd(user->rdma, 0);
    struct rdma_cq *cq;
    struct rdma_srq *srq;

    switch (kind) {
    case 0:
        rdma_create_pd(user->rdma, number & 1, &pd);
        break;
    case 1:
        rdma_create_cq(user->rdma, number & 1, take8(input), &cq);
        break;
    case 2:
        if (pd)
            rdma_create_srq(pd, number & 1, take8(input), 2, &srq);
        break;
    case 3:
        create_mr(user, input, number);
        break;
    default:
        create_qp(user, input, number, take8(input) % 4);
    }
}

static void destroy(struct user *user, unsigned kind, uint32_t number)
{
    struct rdma_pd *pd = rdma_find_pd(user->rdma, number);
    struct rdma_cq *cq = rdma_find_cq(user->rdma, number);
    struct rdma_srq *srq = rdma_find_srq(user->rdma, number);
    struct rdma_mr *mr = rdma_find_mr(user->rdma, number);
    struct rdma_qp *qp = rdma_find_qp(user->rdma, number);

    if (kind == 0 && pd)
        rdma_destroy_pd(pd);
    else if (kind == 1 && cq)
        rdma_destroy_cq(cq);
    else if (kind == 2 && srq)
        rdma_destroy_srq(srq);
    else if (kind == 3 && mr)
        rdma_destroy_mr(mr);
    else if (qp)
        rdma_destroy_qp(qp);
}

/* ---- states ---- */

static struct rdma_qp_attributes attributes_to(struct user *user, uint32_t peer)
{
    struct rdma_qp *qp = rdma_find_qp(user->rdma, peer);

    return (struct rdma_qp_attributes){
        .port = 1,
        .access = 0xf,
        .qkey = 5,
        .path_mtu = RDMA_MTU_1024,
        .timeout = 1,
        .retry_count = 1,
        .rnr_retry = 1,
        .min_rnr_timer = 1,
        .max_rd_atomic = 1,
        .max_dest_rd_atomic = 1,
        .dest_qpn = qp ? rdma_qp_qpn(qp) : 0,
    };
}

static void modify_as(struct rdma_qp *qp, struct rdma_qp_attributes *a, enum rdma_qp_state state)
{
    a->state = state;
    /* The mask that is right for one of the types. */
    for (unsigned i = 0; i < 3; i++) {
        static const uint32_t masks[][3] = {
            [RDMA_QPS_INIT] = {0x39, 0x71, 0x51},
            [RDMA_QPS_RTR] = {0x35181, 0x1, 0x1},
            [RDMA_QPS_RTS] = {0xae01, 0x8001, 0x1},
            [RDMA_QPS_ERR] = {1, 1, 1},
        };
        if (state < G_N_ELEMENTS(masks) && !rdma_modify_qp(qp, a, masks[state][i] | RDMA_QP_STATE))
            return;
    }
    rdma_modify_qp(qp, a, RDMA_QP_STATE);
}

static void bring_up(struct user *user, uint32_t number, uint32_t peer)
{
    struct rdma_qp *qp = rdma_find_qp(user->rdma, number);
    struct rdma_qp_attributes a = attributes_to(user, peer);

    for (unsigned state = RDMA_QPS_INIT; qp && state <= RDMA_QPS_RTS; state++) {
        static const uint32_t rc[] = {
            0,
            RDMA_QP_PKEY_INDEX | RDMA_QP_PORT | RDMA_QP_ACCESS,
            RDMA_QP_AV | RDMA_QP_PATH_MTU | RDMA_QP_DEST_QPN | RDMA_QP_RQ_PSN |
                RDMA_QP_MAX_DEST_RD_ATOMIC | RDMA_QP_MIN_RNR_TIMER,
            RDMA_QP_TIMEOUT | RDMA_QP_RETRY_COUNT | RDMA_QP_RNR_RETRY | RDMA_QP_SQ_PSN |
                RDMA_QP_MAX_RD_ATOMIC,
        };
        static const uint32_t ud[] = {0, RDMA_QP_PKEY_INDEX | RDMA_QP_PORT | RDMA_QP_QKEY, 0,
                                      RDMA_QP_SQ_PSN};
        a.state = state;
        if (rdma_modify_qp(qp, &a, rc[state] | RDMA_QP_STATE))
            rdma_modify_qp(qp, &a, ud[state] | RDMA_QP_STATE);
    }
}

static void modify(struct user *user, struct input *input, uint32_t number)
{
    struct rdma_qp *qp = rdma_find_qp(user->rdma, number);
    uint8_t how = take8(input);
    struct rdma_qp_attributes a = attributes_to(user, how >> 4 & 3);

    if (how & 0x80) {
        bring_up(user, number, how & 3);
        return;
    }
    if (how & 0x40) {
        a.rnr_retry = take8(input);
        a.timeout = take8(input);
        a.av.sgid_index = take8(input);
        a.sqd_notify = how & 1;
    }
    if (qp)
        modify_as(qp, &a, how & 7);
}

/* ---- work ---- */

static unsigned take_pieces(struct user *user, struct input *input, struct rdma_sge sge[4])
{
    unsigned count = take8(input) % 5;

    for (unsigned i = 0; i < count; i++)
        sge[i] = (struct rdma_sge){BASE + take_size(input), (uint32_t)take_size(input),
                                   take_key(user, input)};
    return count;
}

static void post_recv(struct user *user, struct input *input, uint32_t number)
{
    struct rdma_sge sge[4];
    struct rdma_recv_wr wr = {
        .wr_id = take8(input), .num_sge = take_pieces(user, input, sge), .sge = sge};
    struct rdma_qp *qp = rdma_find_qp(user->rdma, number);
    struct rdma_srq *srq = rdma_find_srq(user->rdma, 0);

    if (number == OBJECTS - 1 && srq)
        rdma_post_srq_recv(srq, &wr);
    else if (qp)
        rdma_post_recv(qp, &wr);
}

static void post_send(struct user *user, struct input *input, uint32_t number)
{
    struct rdma_qp *qp = rdma_find_qp(user->rdma, number);
    struct rdma_sge sge[4];
    uint64_t pages[8];
    struct rdma_send_wr wr = {
        .wr_id = take8(input),
        .opcode = take8(input) % 11,
        .flags = take8(input),
        .num_sge = take_pieces(user, input, sge),
        .sge = sge,
    };

    if (wr.opcode == RDMA_WR_SEND_WITH_INVALIDATE || wr.opcode == RDMA_WR_LOCAL_INVALIDATE)
        wr.imm_or_rkey = take_key(user, input);
    if (wr.opcode == RDMA_WR_COMPARE_SWAP || wr.opcode == RDMA_WR_FETCH_ADD) {
        wr.atomic.addr = BASE + take_size(input);
        wr.atomic.rkey = take_key(user, input);
        wr.atomic.compare_add = take16(input);
    } else if (wr.opcode == RDMA_WR_FAST_REG) {
        wr.fast_reg.iova = BASE + take_size(input);
        wr.fast_reg.length = take_size(input);
        wr.fast_reg.page_count = take8(input) % 9;
        wr.fast_reg.pages = pages;
        wr.fast_reg.access = take8(input);
        wr.fast_reg.rkey = take_key(user, input);
        for (unsigned i = 0; i < 8; i++)
            pages[i] = (uint64_t)(take8(input)) * RDMA_PAGE_SIZE;
    } else if (qp && wr.opcode <= RDMA_WR_SEND_WITH_IMM && wr.flags & 0x80) {
        struct rdma_qp *to = rdma_find_qp(user->rdma, take8(input) % OBJECTS);
        wr.ud.qpn = to ? rdma_qp_qpn(to) : 1;
        wr.ud.qkey = 5;
        wr.ud.av.sgid_index = take8(input) & 1;
    } else {
        wr.remote.addr = BASE + take_size(input);
        wr.remote.rkey = take_key(user, input);
    }
    if (qp)
        rdma_post_send(qp, &wr);
}

static void poll(struct user *user, uint32_t number)
{
    struct rdma_cq *cq = rdma_find_cq(user->rdma, number & 1);
    struct rdma_wc wc[4];

    if (!cq)
        return;
    unsigned count = rdma_poll_cq(cq, wc, G_N_ELEMENTS(wc));
    for (unsigned i = 0; i < count; i++)
        g_assert_nonnull(rdma_find_qp(user->rdma, wc[i].qp));
}

static void save_and_load(struct user *user, struct input *input)
{
    g_autoptr(GByteArray) saved = g_byte_array_new();
    unsigned at = take16(input);
    uint8_t flip = take8(input);

    rdma_set_running(user->rdma, false);
    rdma_save(user->rdma, saved);
    rdma_reset(user->rdma, NULL);
    saved->data[at % saved->len] ^= flip;
    bool loaded = rdma_load(user->rdma, saved->data, saved->len, NULL);
    if (!flip)
        g_assert_true(loaded);
    rdma_set_running(user->rdma, true);
}

static void operate(struct user *user, struct input *input)
{
    static const uint8_t mac[6] = {2};
    static const union rdma_gid gid;
    uint8_t operation = take8(input);
    uint32_t number = (operation & 0xf) % OBJECTS;

    switch (operation >> 4) {
    case 0:
    case 1:
        create(user, input, operation & 7, take8(input) % OBJECTS);
        break;
    case 2:
        destroy(user, operation & 7, take8(input) % OBJECTS);
        break;
    case 3:
    case 4:
        modify(user, input, number);
        break;
    case 5:
    case 6:
    case 7:
        post_recv(user, input, number);
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        post_send(user, input, number);
        break;
    case 12:
        poll(user, number);
        break;
    case 13:
        turn(1 + number);
        break;
    case 14:
        rdma_set_running(user->rdma, operation & 1);
        if (operation & 2)
            save_and_load(user, input);
        break;
    default:
        rdma_set_link(user->rdma, operation & 1, 1500);
        if (operation & 2)
            rdma_remove_gid(user->rdma, 0);
        else
            rdma_add_gid(user->rdma, 0, &gid, RDMA_GID_ROCE_V2, mac);
    }
}

/* ---- one input ---- */

static void begin(struct user *user, uint8_t choice)
{
    static const uint8_t mac[6] = {2};
    static const union rdma_gid gid;
    struct input set_up = {(const uint8_t[]){0, 1, 0x02, 2, 0, 4, 0xf8, 0xf8, 0xfc, 0xfc}, 10};

    rdma_add_gid(user->rdma, 0, &gid, RDMA_GID_ROCE_V2, mac);
    create(user, &set_up, 0, 0);
    for (uint32_t i = 0; i < 2; i++) {
        struct input entries = {(const uint8_t[]){64}, 1};
        struct input region = {(const uint8_t[]){0, 0, 0x05, 0x10, 0}, 5};
        create(user, &entries, 1, i);
        region.data = (const uint8_t[]){0, 0, 0x02, 0x10, 0}; /* 16 pages */
        create_mr(user, &region, i);
    }
    if (choice & 1) {
        struct input entries = {(const uint8_t[]){16}, 1};
        create(user, &entries, 2, 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        struct input with = {(const uint8_t[]){choice & 1 && i == 1 ? 0xfc : 0xfa}, 1};
        unsigned type = i < 2 ? RDMA_QP_RC : i == 2 && choice & 2 ? RDMA_QP_GSI : RDMA_QP_UD;
        create_qp(user, &with, i, type);
    }
    for (uint32_t i = 0; i < 4 && !(choice & 4); i++)
        bring_up(user, i, i ^ 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct memory_ram_options ram = {0};
    struct user user = {.memory = memory_create()};
    g_autoptr(options_t) options = options_parse(rdma_options, "--rdma", "loopback", NULL);

    log_set_levels("error", NULL);
    g_assert_true(memory_add_ram(user.memory, RAM_SIZE, RAM_SIZE, &ram, NULL));
    dma_init(&user.dma, user.memory, NULL, true);
    user.rdma = rdma_open(options, &user.dma, loop_main(), NULL);
    rdma_set_client(user.rdma, &client, &user);
    begin(&user, take8(&input));
    for (unsigned i = 0; input.left && i < OPERATIONS; i++)
        operate(&user, &input);
    rdma_set_running(user.rdma, true);
    turn(50);
    rdma_reset(user.rdma, NULL);
    for (uint32_t i = 0; i < OBJECTS; i++) {
        g_assert_null(rdma_find_qp(user.rdma, i));
        g_assert_null(rdma_find_pd(user.rdma, i));
    }
    rdma_close(user.rdma);
    turn(10);
    memory_destroy(user.memory);
    return 0;
}
