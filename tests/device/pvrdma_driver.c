/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pvrdma_driver - the driver's and the user library's side of a pvrdma adapter: see pvrdma_driver.h
 * */
#include "tests/device/pvrdma_driver.h"

#include <string.h>

#include "vmm/options.h"

#define RING_PAGES 4u
#define SGE        2u

/* ---- the machine ---- */

static void nic_mac(void *opaque, uint8_t mac[6])
{
    memcpy(mac, ((struct pvd *)opaque)->mac, 6);
}

static bool nic_active(void *opaque)
{
    return ((struct pvd *)opaque)->nic_active;
}

static unsigned nic_mtu(void *opaque)
{
    return ((struct pvd *)opaque)->mtu;
}

void pvd_create(struct pvd *d, const char *backend)
{
    struct pvrdma_nic nic = {nic_mac, nic_active, nic_mtu, d};
    static const uint8_t mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    GError *error = NULL;

    memset(d, 0, sizeof(*d));
    memcpy(d->mac, mac, sizeof(mac));
    d->nic_active = true;
    d->mtu = 9000;
    d->h = harness_create(0);
    d->options = options_parse(pvrdma_options, "--rdma", backend, &error);
    g_assert_no_error(error);
    d->pvrdma = pvrdma_create("rdma0", d->options, &nic, &d->h->env, d->h->loop, &error);
    g_assert_no_error(error);
    d->slot = harness_attach(d->h, pvrdma_function(d->pvrdma));
}

void pvd_destroy(struct pvd *d)
{
    harness_detach(d->h, pvrdma_function(d->pvrdma));
    pvrdma_destroy(d->pvrdma);
    harness_settle(d->h, 0);
    options_free(d->options);
    harness_destroy(d->h);
}

uint32_t pvd_read(struct pvd *d, unsigned reg)
{
    return (uint32_t)harness_bar_read(d->h, d->slot, PVR_BAR_REGISTERS, reg, 4);
}

void pvd_write(struct pvd *d, unsigned reg, uint32_t value)
{
    harness_bar_write(d->h, d->slot, PVR_BAR_REGISTERS, reg, 4, value);
}

void pvd_bell(struct pvd *d, uint32_t page, unsigned reg, uint32_t value)
{
    harness_bar_write(d->h, d->slot, PVR_BAR_UAR, page * PVR_PAGE_SIZE + reg, 4, value);
}

uint64_t pvd_interrupts(struct pvd *d, enum pvr_vector vector)
{
    return harness_msi_count(d->h, d->slot, vector);
}

/* ---- memory ---- */

static struct pvd_buffer alloc(struct pvd *d, uint32_t pages, bool reversed)
{
    struct pvd_buffer buffer = {.pages = pages};
    uint32_t tables = (pages + PVR_PAGES_A_TABLE - 1) / PVR_PAGES_A_TABLE;

    buffer.gpa = harness_alloc(d->h, (uint64_t)pages * PVR_PAGE_SIZE, PVR_PAGE_SIZE);
    buffer.pdir = harness_alloc(d->h, PVR_PAGE_SIZE, PVR_PAGE_SIZE);
    for (uint32_t i = 0; i < tables; i++) {
        uint64_t table = harness_alloc(d->h, PVR_PAGE_SIZE, PVR_PAGE_SIZE);

        harness_store(d->h, buffer.pdir + 8 * i, 8, table);
        for (uint32_t j = 0; j < PVR_PAGES_A_TABLE && i * PVR_PAGES_A_TABLE + j < pages; j++) {
            uint32_t page = i * PVR_PAGES_A_TABLE + j;

            if (reversed)
                page = pages - 1 - page;
            harness_store(d->h, table + 8 * j, 8, buffer.gpa + (uint64_t)page * PVR_PAGE_SIZE);
        }
    }
    return buffer;
}

struct pvd_buffer pvd_alloc(struct pvd *d, uint32_t pages)
{
    return alloc(d, pages, false);
}

struct pvd_buffer pvd_alloc_scattered(struct pvd *d, uint32_t pages)
{
    return alloc(d, pages, true);
}

/* ---- probe ---- */

struct pvr_dsr *pvd_region(struct pvd *d, uint32_t version)
{
    struct pvd_buffer async = pvd_alloc(d, RING_PAGES), notify = pvd_alloc(d, RING_PAGES);
    struct pvr_dsr *dsr;

    d->version = version;
    d->dsr = harness_alloc(d->h, sizeof(*dsr), PVR_PAGE_SIZE);
    d->command_slot = harness_alloc(d->h, PVR_PAGE_SIZE, PVR_PAGE_SIZE);
    d->response_slot = harness_alloc(d->h, PVR_PAGE_SIZE, PVR_PAGE_SIZE);
    d->async_pages = async.gpa;
    d->notify_pages = notify.gpa;
    dsr = harness_ptr(d->h, d->dsr, sizeof(*dsr));
    dsr->driver_version = version;
    dsr->cmd_slot_dma = d->command_slot;
    dsr->resp_slot_dma = d->response_slot;
    dsr->async_ring_pages = (struct pvr_ring_info){RING_PAGES, 0, async.pdir};
    dsr->cq_ring_pages = (struct pvr_ring_info){RING_PAGES, 0, notify.pdir};
    dsr->uar_pfn = harness_bar_address(d->h, d->slot, PVR_BAR_UAR) / PVR_PAGE_SIZE;
    return dsr;
}

void pvd_tell_region(struct pvd *d)
{
    pvd_write(d, PVR_REG_DSRLOW, (uint32_t)d->dsr);
    pvd_write(d, PVR_REG_DSRHIGH, (uint32_t)(d->dsr >> 32));
}

void pvd_start(struct pvd *d, uint32_t version)
{
    g_assert_cmpuint(pvd_read(d, PVR_REG_VERSION), ==, PVR_VERSION);
    pvd_region(d, version);
    pvd_tell_region(d);
    g_assert_cmpuint(harness_msix_enable(d->h, d->slot, PVR_VECTORS), ==, PVR_VECTORS);
    pvd_write(d, PVR_REG_IMR, 0);
    pvd_write(d, PVR_REG_CTL, PVR_CTL_ACTIVATE);
    g_assert_cmpuint(pvd_read(d, PVR_REG_ERR), ==, 0);
    d->responses = pvd_interrupts(d, PVR_VECTOR_RESPONSE);
}

/* ---- commands ---- */

uint32_t pvd_command(struct pvd *d, enum pvr_command command, union pvr_request *req,
                     union pvr_response *resp)
{
    uint32_t error;

    req->hdr = (struct pvr_cmd_hdr){.cmd = command};
    harness_write(d->h, d->command_slot, req, sizeof(*req));
    pvd_write(d, PVR_REG_REQUEST, 0);
    error = pvd_read(d, PVR_REG_ERR);
    memset(resp, 0, sizeof(*resp));
    if (pvd_interrupts(d, PVR_VECTOR_RESPONSE) != d->responses) {
        d->responses = pvd_interrupts(d, PVR_VECTOR_RESPONSE);
        harness_read(d->h, d->response_slot, resp, sizeof(*resp));
        g_assert_cmphex(resp->hdr.ack, ==, PVR_ACK(command));
        g_assert_cmpuint(error, ==, 0);
    }
    return error;
}

static void command_ok(struct pvd *d, enum pvr_command command, union pvr_request *req,
                       union pvr_response *resp)
{
    g_assert_cmpuint(pvd_command(d, command, req, resp), ==, 0);
    g_assert_cmphex(resp->hdr.ack, ==, PVR_ACK(command));
}

uint32_t pvd_destroy_handle(struct pvd *d, enum pvr_command command, uint32_t handle)
{
    union pvr_request req = {.handle.handle = handle};
    union pvr_response resp;
    uint32_t error = pvd_command(d, command, &req, &resp);

    g_assert_cmphex(resp.hdr.ack, ==, 0); /* it would end the wait for the next command */
    return error;
}

uint32_t pvd_open_context(struct pvd *d, uint32_t page)
{
    union pvr_request req = {0};
    union pvr_response resp;

    req.create_uc.pfn = harness_bar_address(d->h, d->slot, PVR_BAR_UAR) / PVR_PAGE_SIZE + page;
    command_ok(d, PVR_CMD_CREATE_UC, &req, &resp);
    return resp.handle.handle;
}

uint32_t pvd_create_pd(struct pvd *d, uint32_t context)
{
    union pvr_request req = {.handle.handle = context};
    union pvr_response resp;

    command_ok(d, PVR_CMD_CREATE_PD, &req, &resp);
    return resp.handle.handle;
}

struct pvd_mr pvd_register(struct pvd *d, uint32_t pd, const struct pvd_buffer *buffer,
                           uint64_t start, uint64_t length, uint32_t access)
{
    union pvr_request req = {.create_mr = {.start = start,
                                           .length = length,
                                           .pdir_dma = buffer->pdir,
                                           .pd_handle = pd,
                                           .access_flags = access,
                                           .nchunks = buffer->pages}};
    union pvr_response resp;

    command_ok(d, PVR_CMD_CREATE_MR, &req, &resp);
    return (struct pvd_mr){resp.create_mr.mr_handle, resp.create_mr.lkey, resp.create_mr.rkey};
}

struct pvd_mr pvd_dma_mr(struct pvd *d, uint32_t pd)
{
    union pvr_request req = {.create_mr = {.pd_handle = pd,
                                           .access_flags = PVR_ACCESS_LOCAL_WRITE,
                                           .flags = PVR_MR_DMA}};
    union pvr_response resp;

    command_ok(d, PVR_CMD_CREATE_MR, &req, &resp);
    return (struct pvd_mr){resp.create_mr.mr_handle, resp.create_mr.lkey, resp.create_mr.rkey};
}

static uint32_t pages_for(uint32_t entries, uint32_t stride)
{
    return (entries * stride + PVR_PAGE_SIZE - 1) / PVR_PAGE_SIZE;
}

struct pvd_cq pvd_create_cq(struct pvd *d, uint32_t context, uint32_t entries)
{
    struct pvd_cq cq = {.context = context, .entries = entries};
    union pvr_request req = {0};
    union pvr_response resp;

    cq.buffer = pvd_alloc(d, 1 + pages_for(entries, sizeof(struct pvr_cqe)));
    req.create_cq = (struct pvr_cmd_create_cq){.pdir_dma = cq.buffer.pdir,
                                               .ctx_handle = context,
                                               .cqe = entries,
                                               .nchunks = cq.buffer.pages};
    command_ok(d, PVR_CMD_CREATE_CQ, &req, &resp);
    g_assert_cmpuint(resp.create_cq.cqe, ==, entries);
    cq.handle = resp.create_cq.cq_handle;
    return cq;
}

static uint32_t stride_for(uint32_t header)
{
    uint32_t stride = 1;

    while (stride < header + SGE * sizeof(struct pvr_sge))
        stride <<= 1;
    return stride;
}

struct pvd_srq pvd_create_srq(struct pvd *d, uint32_t context, uint32_t pd, uint32_t entries,
                              uint32_t limit)
{
    struct pvd_srq srq = {.context = context, .entries = entries};
    union pvr_request req = {0};
    union pvr_response resp;

    srq.stride = stride_for(sizeof(struct pvr_rq_wqe));
    srq.buffer = pvd_alloc(d, 1 + pages_for(entries, srq.stride));
    req.create_srq = (struct pvr_cmd_create_srq){.pdir_dma = srq.buffer.pdir,
                                                 .pd_handle = pd,
                                                 .nchunks = srq.buffer.pages,
                                                 .attrs = {entries, SGE, limit, 0}};
    command_ok(d, PVR_CMD_CREATE_SRQ, &req, &resp);
    srq.handle = resp.handle.handle;
    return srq;
}

void pvd_fill_create_qp(struct pvd *d, struct pvr_cmd_create_qp *cmd, struct pvd_qp *qp,
                        uint32_t context, uint32_t pd, enum pvr_qp_type type, uint32_t entries,
                        bool srq)
{
    *qp = (struct pvd_qp){.context = context, .send_entries = entries};
    qp->send_stride = stride_for(sizeof(struct pvr_sq_wqe));
    qp->recv_stride = stride_for(sizeof(struct pvr_rq_wqe));
    qp->recv_entries = srq ? 0 : entries;
    qp->send_pages = pages_for(entries, qp->send_stride);
    qp->buffer = pvd_alloc(d, 1 + qp->send_pages + pages_for(qp->recv_entries, qp->recv_stride));
    *cmd = (struct pvr_cmd_create_qp){
        .pdir_dma = qp->buffer.pdir,
        .pd_handle = pd,
        .max_send_wr = entries,
        .max_recv_wr = qp->recv_entries,
        .max_send_sge = SGE,
        .max_recv_sge = srq ? 0 : SGE,
        .access_flags = PVR_ACCESS_LOCAL_WRITE,
        .total_chunks = (uint16_t)qp->buffer.pages,
        .send_chunks = (uint16_t)qp->send_pages,
        .qp_type = type,
        .is_srq = srq,
    };
}

struct pvd_qp pvd_create_qp(struct pvd *d, uint32_t context, uint32_t pd, enum pvr_qp_type type,
                            const struct pvd_cq *send_cq, const struct pvd_cq *recv_cq,
                            const struct pvd_srq *srq, uint32_t entries)
{
    union pvr_request req = {0};
    union pvr_response resp;
    struct pvd_qp qp;

    pvd_fill_create_qp(d, &req.create_qp, &qp, context, pd, type, entries, srq);
    req.create_qp.send_cq_handle = send_cq->handle;
    req.create_qp.recv_cq_handle = recv_cq->handle;
    req.create_qp.srq_handle = srq ? srq->handle : 0;
    command_ok(d, PVR_CMD_CREATE_QP, &req, &resp);
    qp.qpn = resp.create_qp_v2.qpn;
    qp.handle = d->version >= PVR_VERSION_HANDLES ? resp.create_qp_v2.qp_handle : qp.qpn;
    return qp;
}

static void fill_gid(struct pvd *d, uint8_t gid[16])
{
    const uint8_t link_local[16] = {0xfe, 0x80, [8] = d->mac[0] ^ 2, d->mac[1], d->mac[2],
                                    0xff, 0xfe, d->mac[3],           d->mac[4], d->mac[5]};

    memcpy(gid, link_local, sizeof(link_local));
}

void pvd_bind_gid(struct pvd *d, uint32_t index)
{
    union pvr_request req = {.create_bind = {.mtu = 1024, .vlan = 0xfff, .index = index}};
    union pvr_response resp;

    fill_gid(d, req.create_bind.new_gid);
    req.create_bind.new_gid[7] = (uint8_t)index;
    req.create_bind.gid_type = d->version < PVR_VERSION_ROCE_V2 ? PVR_GID_ROCE_V1 : PVR_GID_ROCE_V2;
    g_assert_cmpuint(pvd_command(d, PVR_CMD_CREATE_BIND, &req, &resp), ==, 0);
}

uint32_t pvd_modify(struct pvd *d, const struct pvd_qp *qp, const struct pvr_qp_attr *attr,
                    uint32_t mask)
{
    union pvr_request req = {0};
    union pvr_response resp;

    req.modify_qp.qp_handle = qp->handle;
    req.modify_qp.attr_mask = mask;
    req.modify_qp.attrs = *attr;
    command_ok(d, PVR_CMD_MODIFY_QP, &req, &resp);
    return resp.hdr.err;
}

uint32_t pvd_set_state(struct pvd *d, const struct pvd_qp *qp, uint32_t state)
{
    struct pvr_qp_attr attr = {.qp_state = state};

    return pvd_modify(d, qp, &attr, PVR_QP_STATE);
}

void pvd_connect(struct pvd *d, const struct pvd_qp *qp, enum pvr_qp_type type, uint32_t peer)
{
    struct pvr_qp_attr attr = {
        .qp_state = RDMA_QPS_INIT,
        .port_num = 1,
        .qkey = 0x11111111,
        .qp_access_flags = PVR_ACCESS_ALL,
        .path_mtu = RDMA_MTU_1024,
        .dest_qp_num = peer,
        .rq_psn = 100,
        .sq_psn = 100,
        .max_dest_rd_atomic = 4,
        .max_rd_atomic = 4,
        .min_rnr_timer = 1,
        .timeout = 14,
        .retry_cnt = 7,
        .rnr_retry = 7,
    };

    fill_gid(d, attr.ah_attr.grh.dgid);
    memcpy(attr.ah_attr.dmac, d->mac, sizeof(d->mac));
    attr.ah_attr.grh.hop_limit = 64;
    if (type == PVR_QPT_RC) {
        g_assert_cmpuint(
            pvd_modify(d, qp, &attr,
                       PVR_QP_STATE | PVR_QP_PKEY_INDEX | PVR_QP_PORT | PVR_QP_ACCESS_FLAGS),
            ==, 0);
        attr.qp_state = RDMA_QPS_RTR;
        g_assert_cmpuint(pvd_modify(d, qp, &attr,
                                    PVR_QP_STATE | PVR_QP_AV | PVR_QP_PATH_MTU | PVR_QP_DEST_QPN |
                                        PVR_QP_RQ_PSN | PVR_QP_MAX_DEST_RD_ATOMIC |
                                        PVR_QP_MIN_RNR_TIMER),
                         ==, 0);
        attr.qp_state = RDMA_QPS_RTS;
        g_assert_cmpuint(pvd_modify(d, qp, &attr,
                                    PVR_QP_STATE | PVR_QP_TIMEOUT | PVR_QP_RETRY_CNT |
                                        PVR_QP_RNR_RETRY | PVR_QP_SQ_PSN | PVR_QP_MAX_QP_RD_ATOMIC),
                         ==, 0);
        return;
    }
    g_assert_cmpuint(pvd_modify(d, qp, &attr,
                                PVR_QP_STATE | PVR_QP_PKEY_INDEX | PVR_QP_QKEY |
                                    (type == PVR_QPT_UD ? PVR_QP_PORT : 0)),
                     ==, 0);
    attr.qp_state = RDMA_QPS_RTR;
    g_assert_cmpuint(pvd_modify(d, qp, &attr, PVR_QP_STATE), ==, 0);
    attr.qp_state = RDMA_QPS_RTS;
    g_assert_cmpuint(pvd_modify(d, qp, &attr, PVR_QP_STATE | PVR_QP_SQ_PSN), ==, 0);
}

/* ---- rings, by the driver's formulas ---- */

static struct pvr_ring *ring_of(struct pvd *d, uint64_t gpa, bool tx)
{
    struct pvr_ring_state *state = harness_ptr(d->h, gpa, sizeof(*state));

    return tx ? &state->tx : &state->rx;
}

/* The tail of a completion queue that nobody needs to look at. */
#define PVD_PARKED (UINT32_C(1) << 31)

static uint32_t inc(uint32_t index, uint32_t entries)
{
    return (index + 1) & ((entries << 1) - 1);
}

/* Where the producer's next element goes. */
static uint8_t *produce_at(struct pvd *d, uint64_t gpa, uint64_t elements, uint32_t entries,
                           uint32_t stride, bool tx)
{
    struct pvr_ring *ring = ring_of(d, gpa, tx);
    uint32_t tail = ring->prod_tail;

    g_assert_cmphex(tail & ~((entries << 1) - 1), ==, 0);
    g_assert_cmphex(ring->cons_head & ~((entries << 1) - 1), ==, 0);
    g_assert_cmphex(tail, !=, ring->cons_head ^ entries);
    return harness_ptr(d->h, elements + (uint64_t)(tail & (entries - 1)) * stride, stride);
}

static void produced(struct pvd *d, uint64_t gpa, uint32_t entries, bool tx)
{
    struct pvr_ring *ring = ring_of(d, gpa, tx);

    __atomic_store_n(&ring->prod_tail, inc(ring->prod_tail, entries), __ATOMIC_RELEASE);
}

static bool consume(struct pvd *d, uint64_t gpa, uint32_t entries, uint32_t size, void *element)
{
    struct pvr_ring *ring = ring_of(d, gpa, false);
    uint32_t tail = __atomic_load_n(&ring->prod_tail, __ATOMIC_ACQUIRE);

    if (tail == (ring->cons_head | PVD_PARKED) || tail == ring->cons_head)
        return false;
    g_assert_cmphex(tail & ~((entries << 1) - 1), ==, 0);
    harness_read(d->h, gpa + PVR_PAGE_SIZE + (ring->cons_head & (entries - 1)) * size, element,
                 size);
    __atomic_store_n(&ring->cons_head, inc(ring->cons_head, entries), __ATOMIC_RELEASE);
    return true;
}

void pvd_post_send(struct pvd *d, struct pvd_qp *qp, const struct pvr_sq_wqe *wqe,
                   const struct pvr_sge *sge, bool ring)
{
    uint8_t *at = produce_at(d, qp->buffer.gpa, qp->buffer.gpa + PVR_PAGE_SIZE, qp->send_entries,
                             qp->send_stride, true);

    memcpy(at, wqe, sizeof(*wqe));
    if (sge)
        memcpy(at + sizeof(*wqe), sge, MIN(wqe->num_sge, SGE) * sizeof(*sge));
    produced(d, qp->buffer.gpa, qp->send_entries, true);
    if (ring)
        pvd_bell(d, qp->context, PVR_UAR_QP, qp->handle | PVR_UAR_QP_SEND);
}

static void fill_recv(uint8_t *at, uint64_t wr_id, const struct pvr_sge *sge, uint32_t count)
{
    struct pvr_rq_wqe wqe = {wr_id, count, 0};

    memcpy(at, &wqe, sizeof(wqe));
    memcpy(at + sizeof(wqe), sge, MIN(count, SGE) * sizeof(*sge));
}

void pvd_post_recv(struct pvd *d, struct pvd_qp *qp, uint64_t wr_id, const struct pvr_sge *sge,
                   uint32_t count, bool ring)
{
    uint64_t elements = qp->buffer.gpa + (1 + qp->send_pages) * PVR_PAGE_SIZE;

    fill_recv(produce_at(d, qp->buffer.gpa, elements, qp->recv_entries, qp->recv_stride, false),
              wr_id, sge, count);
    produced(d, qp->buffer.gpa, qp->recv_entries, false);
    if (ring)
        pvd_bell(d, qp->context, PVR_UAR_QP, qp->handle | PVR_UAR_QP_RECV);
}

void pvd_post_srq(struct pvd *d, struct pvd_srq *srq, uint64_t wr_id, const struct pvr_sge *sge,
                  uint32_t count, bool ring)
{
    fill_recv(produce_at(d, srq->buffer.gpa, srq->buffer.gpa + PVR_PAGE_SIZE, srq->entries,
                         srq->stride, false),
              wr_id, sge, count);
    produced(d, srq->buffer.gpa, srq->entries, false);
    if (ring)
        pvd_bell(d, srq->context, PVR_UAR_SRQ, srq->handle | PVR_UAR_SRQ_RECV);
}

void pvd_arm(struct pvd *d, const struct pvd_cq *cq, bool solicited)
{
    pvd_bell(d, cq->context, PVR_UAR_CQ,
             cq->handle | (solicited ? PVR_UAR_CQ_ARM_SOL : PVR_UAR_CQ_ARM));
}

bool pvd_poll(struct pvd *d, const struct pvd_cq *cq, struct pvr_cqe *cqe)
{
    if (consume(d, cq->buffer.gpa, cq->entries, sizeof(*cqe), cqe))
        return true;
    if (!pvd_is_parked(d, cq))
        pvd_bell(d, cq->context, PVR_UAR_CQ, cq->handle | PVR_UAR_CQ_POLL);
    return false;
}

bool pvd_is_parked(struct pvd *d, const struct pvd_cq *cq)
{
    struct pvr_ring *ring = ring_of(d, cq->buffer.gpa, false);

    return __atomic_load_n(&ring->prod_tail, __ATOMIC_ACQUIRE) == (ring->cons_head | PVD_PARKED);
}

struct waiting {
    struct pvd *d;
    const struct pvd_cq *cq;
    void *element;
};

static bool has_completion(void *opaque)
{
    struct waiting *w = opaque;

    return pvd_poll(w->d, w->cq, w->element);
}

static bool has_event(void *opaque)
{
    struct waiting *w = opaque;

    return pvd_next_event(w->d, w->element);
}

struct pvr_cqe pvd_wait(struct pvd *d, const struct pvd_cq *cq)
{
    struct pvr_cqe cqe;
    struct waiting w = {d, cq, &cqe};

    g_assert_true(harness_wait(d->h, has_completion, &w, HARNESS_TIMEOUT_MS));
    return cqe;
}

bool pvd_next_event(struct pvd *d, struct pvr_eqe *eqe)
{
    return consume(d, d->async_pages, (RING_PAGES - 1) * PVR_PAGE_SIZE / sizeof(*eqe), sizeof(*eqe),
                   eqe);
}

struct pvr_eqe pvd_wait_event(struct pvd *d)
{
    struct pvr_eqe eqe;
    struct waiting w = {d, NULL, &eqe};

    g_assert_true(harness_wait(d->h, has_event, &w, HARNESS_TIMEOUT_MS));
    return eqe;
}

bool pvd_next_notification(struct pvd *d, uint32_t *cq)
{
    return consume(d, d->notify_pages, (RING_PAGES - 1) * PVR_PAGE_SIZE / sizeof(*cq), sizeof(*cq),
                   cq);
}
