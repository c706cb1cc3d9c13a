/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile driver, and hostile processes, of a pvrdma adapter over loopback: command slot, rings,
 * doorbells, registers, page directories.
 *
 *     byte 0     driver version (of those that are let in)
 *     then       operations: write bytes into the command slot, a ring, a directory or the shared
 *                region; send a command, well-formed but for some words; post work; ring doorbells;
 *                write registers; reset and probe again; save and load; let the loop turn
 *
 * The device begins with two connected queue pairs, so that little input reaches far. Whatever is
 * done, it must come back to life after a reset and a new probe.
 */
#include <string.h>

#include "tests/device/pvrdma_driver.h"
#include "tests/fuzz/input.h"

#define OPERATIONS 250
#define PROBES     8 /* memory is never given back */
#define ENTRIES    16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct attacker {
    struct pvd d;
    uint32_t context, pd, version;
    struct pvd_cq cq;
    struct pvd_srq srq;
    struct pvd_qp a, b;
    struct pvd_buffer buffer;
    struct pvd_mr mr;
    unsigned probes;
};

/* Numbers that programs stumble over, and small ones. */
static uint32_t take_number(struct input *input)
{
    static const uint32_t odd[] = {0,          1,          0x7fffffff, 0x80000000, UINT32_MAX,
                                   0xfffff000, 0x00ffffff, 0x00010000, 4095,       4096};
    uint8_t choice = take8(input);

    return choice < 0x80 ? choice : choice < 0xf0 ? odd[choice % G_N_ELEMENTS(odd)] : take32(input);
}

static void turn(unsigned times)
{
    while (times-- && loop_iterate(loop_main(), false))
        ;
}

static void probe(struct attacker *x)
{
    struct pvd *d = &x->d;
    enum pvr_qp_type type = x->probes++ & 1 ? PVR_QPT_UD : PVR_QPT_RC;

    pvd_start(d, x->version);
    x->context = x->probes & 2 ? 0 : pvd_open_context(d, 1);
    x->pd = pvd_create_pd(d, x->context);
    x->cq = pvd_create_cq(d, x->context, 64);
    x->srq = pvd_create_srq(d, x->context, x->pd, ENTRIES, 0);
    x->a = pvd_create_qp(d, x->context, x->pd, type, &x->cq, &x->cq, NULL, ENTRIES);
    x->b = pvd_create_qp(d, x->context, x->pd, type, &x->cq, &x->cq, &x->srq, ENTRIES);
    pvd_bind_gid(d, 0);
    pvd_connect(d, &x->a, type, x->b.qpn);
    pvd_connect(d, &x->b, type, x->a.qpn);
    x->buffer = pvd_alloc(d, 4);
    x->mr = pvd_register(d, x->pd, &x->buffer, x->buffer.gpa, 4 * PVR_PAGE_SIZE, PVR_ACCESS_ALL);
}

/* ---- operations ---- */

static void write_bytes(struct attacker *x, struct input *input, unsigned count)
{
    uint64_t places[] = {
        x->d.command_slot, x->d.dsr,         x->a.buffer.gpa,   x->a.buffer.gpa + PVR_PAGE_SIZE,
        x->b.buffer.gpa,   x->cq.buffer.gpa, x->srq.buffer.gpa, x->srq.buffer.gpa + PVR_PAGE_SIZE,
        x->d.notify_pages, x->d.async_pages, x->a.buffer.pdir,  x->buffer.pdir,
        x->buffer.gpa,
    };
    uint64_t at = places[take8(input) % G_N_ELEMENTS(places)] + 4 * take8(input);
    uint8_t bytes[32];

    for (unsigned i = 0; i < count; i++)
        bytes[i] = take8(input);
    harness_write(x->d.h, at, bytes, count);
}

static void fill_request(struct attacker *x, enum pvr_command command, union pvr_request *req)
{
    struct pvd_qp none;

    switch (command) {
    case PVR_CMD_CREATE_MR:
        req->create_mr = (struct pvr_cmd_create_mr){.start = 0x1000,
                                                    .length = 4 * PVR_PAGE_SIZE,
                                                    .pdir_dma = x->buffer.pdir,
                                                    .pd_handle = x->pd,
                                                    .access_flags = PVR_ACCESS_ALL,
                                                    .nchunks = 4};
        break;
    case PVR_CMD_CREATE_CQ:
        req->create_cq = (struct pvr_cmd_create_cq){.pdir_dma = x->cq.buffer.pdir,
                                                    .ctx_handle = x->context,
                                                    .cqe = 64,
                                                    .nchunks = x->cq.buffer.pages};
        break;
    case PVR_CMD_CREATE_QP:
        pvd_fill_create_qp(&x->d, &req->create_qp, &none, x->context, x->pd, PVR_QPT_RC, 4, false);
        req->create_qp.send_cq_handle = req->create_qp.recv_cq_handle = x->cq.handle;
        break;
    case PVR_CMD_CREATE_SRQ:
        req->create_srq = (struct pvr_cmd_create_srq){.pdir_dma = x->srq.buffer.pdir,
                                                      .pd_handle = x->pd,
                                                      .nchunks = x->srq.buffer.pages,
                                                      .attrs = {ENTRIES, 2, 0, 0}};
        break;
    case PVR_CMD_CREATE_UC:
        req->create_uc.pfn =
            harness_bar_address(x->d.h, x->d.slot, PVR_BAR_UAR) / PVR_PAGE_SIZE + 2;
        break;
    case PVR_CMD_MODIFY_QP:
        req->modify_qp.qp_handle = x->a.handle;
        req->modify_qp.attr_mask = PVR_QP_STATE;
        break;
    case PVR_CMD_QUERY_PORT:
    case PVR_CMD_QUERY_PKEY:
        req->query_port.port_num = 1;
        break;
    default:
        req->handle.handle = x->a.handle;
        break;
    }
}

static void send_command(struct attacker *x, struct input *input, unsigned changes)
{
    enum pvr_command command = take8(input) % (PVR_COMMANDS + 1);
    union pvr_request req = {0};
    union pvr_response resp;
    uint32_t *words = (uint32_t *)(void *)&req;

    fill_request(x, command, &req);
    while (changes--)
        words[4 + take8(input) % (sizeof(req) / 4 - 4)] = take_number(input);
    /* The slot may have been moved, or be gone: the answer is not looked at. */
    req.hdr = (struct pvr_cmd_hdr){.cmd = command};
    harness_write(x->d.h, x->d.command_slot, &req, sizeof(req));
    pvd_write(&x->d, PVR_REG_REQUEST, 0);
    harness_read(x->d.h, x->d.response_slot, &resp, sizeof(resp));
}

static uint64_t slot_of(struct attacker *x, uint64_t gpa, bool tx, uint32_t entries,
                        uint32_t stride, uint64_t elements)
{
    struct pvr_ring_state *state = harness_ptr(x->d.h, gpa, sizeof(*state));
    uint32_t *tail = tx ? &state->tx.prod_tail : &state->rx.prod_tail;
    uint32_t slot = *tail & (entries - 1);

    *tail = (*tail + 1) & (2 * entries - 1);
    return elements + slot * stride;
}

/* A request that is all right but for some words. */
static void post_send(struct attacker *x, struct input *input, unsigned changes)
{
    struct pvr_sq_wqe wqe = {.num_sge = 1, .opcode = take8(input) % 13, .send_flags = 2};
    struct pvr_sge sge = {x->buffer.gpa, take8(input), x->mr.lkey};
    uint32_t *words = (uint32_t *)(void *)&wqe;
    uint64_t at = slot_of(x, x->a.buffer.gpa, true, ENTRIES, x->a.send_stride,
                          x->a.buffer.gpa + PVR_PAGE_SIZE);

    wqe.wr.rdma.remote_addr = x->buffer.gpa + 0x1000;
    wqe.wr.rdma.rkey = x->mr.rkey;
    while (changes--)
        words[2 + take8(input) % (sizeof(wqe) / 4 - 2)] = take_number(input);
    harness_write(x->d.h, at, &wqe, sizeof(wqe));
    harness_write(x->d.h, at + sizeof(wqe), &sge, sizeof(sge));
    pvd_bell(&x->d, x->context, PVR_UAR_QP, x->a.handle | PVR_UAR_QP_SEND);
}

static void post_recv(struct attacker *x, struct input *input)
{
    struct pvr_rq_wqe wqe = {.wr_id = 1, .num_sge = take_number(input)};
    struct pvr_sge sge = {x->buffer.gpa + 0x2000, take_number(input), x->mr.lkey};
    bool shared = wqe.num_sge & 1;
    uint64_t at = shared ? slot_of(x, x->srq.buffer.gpa, false, ENTRIES, x->srq.stride,
                                   x->srq.buffer.gpa + PVR_PAGE_SIZE)
                         : slot_of(x, x->a.buffer.gpa, false, ENTRIES, x->a.recv_stride,
                                   x->a.buffer.gpa + (1 + x->a.send_pages) * PVR_PAGE_SIZE);

    harness_write(x->d.h, at, &wqe, sizeof(wqe));
    harness_write(x->d.h, at + sizeof(wqe), &sge, sizeof(sge));
    pvd_bell(&x->d, x->context, shared ? PVR_UAR_SRQ : PVR_UAR_QP, x->srq.handle);
}

static void save_and_load(struct attacker *x)
{
    struct device *device = &pvrdma_function(x->d.pvrdma)->device;
    g_autoptr(GByteArray) saved = harness_save(device);

    device_reset(device);
    g_assert_true(harness_load_state(device, saved, NULL));
}

static void restart(struct attacker *x)
{
    device_reset(&pvrdma_function(x->d.pvrdma)->device);
    turn(100);
    harness_command(x->d.h, x->d.slot, 0x6, 0);
    probe(x);
}

static void operate(struct attacker *x, struct input *input)
{
    uint8_t operation = take8(input);

    if (operation < 0x20)
        write_bytes(x, input, operation + 1);
    else if (operation < 0x60)
        send_command(x, input, operation & 3);
    else if (operation < 0x90)
        post_send(x, input, operation & 3);
    else if (operation < 0xa0)
        post_recv(x, input);
    else if (operation < 0xc0)
        pvd_bell(&x->d, take8(input) & 3, 4 * (operation & 3),
                 take_number(input) | (uint32_t)(operation & 0xc) << 28);
    else if (operation < 0xc8)
        pvd_write(&x->d, 4 * (take8(input) % 12), take_number(input));
    else if (operation < 0xcc && x->probes < PROBES)
        restart(x);
    else if (operation < 0xd0)
        save_and_load(x);
    else
        turn(operation & 0x1f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct attacker x = {0};

    log_set_levels("error", NULL);
    pvd_create(&x.d, "backend=loopback");
    x.version = PVR_VERSION_ROCE_V2 + take8(&input) % 3;
    probe(&x);
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&x, &input);
    turn(200);
    restart(&x);
    pvd_destroy(&x.d);
    return 0;
}
