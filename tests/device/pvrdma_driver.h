/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvrdma_driver - the driver's and the user library's side of a pvrdma adapter, for device tests
 *
 * What vmw_pvrdma does at probe (shared region, slots, rings, vectors), commands, and verbs on top
 * of them: domains, regions, queues, posting, doorbells, polling. The interface's own structures
 * are used throughout, so that a test can also send what no driver would.
 *
 * Functions that are to succeed end the test (g_assert) if they do not; the ones named _try return
 * the device's error.
 */
#ifndef TESTS_DEVICE_PVRDMA_DRIVER_H
#define TESTS_DEVICE_PVRDMA_DRIVER_H

#include "backends/rdma/rdma.h"
#include "devices/pvrdma/interface.h"
#include "devices/pvrdma/pvrdma.h"
#include "tests/device/harness.h"

struct pvd { /* "pvrdma driver" */
    struct harness *h;
    struct pvrdma *pvrdma;
    unsigned slot;
    struct options *options;
    /* the network interface of the slot, as the device is told */
    uint8_t mac[6];
    bool nic_active;
    unsigned mtu;
    /* after pvd_start */
    uint32_t version;
    uint64_t dsr, command_slot, response_slot;
    uint64_t async_pages, notify_pages; /* of 4 pages each; the first has the indices */
    uint64_t responses;                 /* interrupts seen so far, of each vector */
};

struct pvd_buffer { /* pages of guest memory and their directory */
    uint64_t gpa;   /* of the first; they are in a row unless scattered */
    uint64_t pdir;
    uint32_t pages;
};

struct pvd_cq {
    uint32_t handle, context, entries;
    struct pvd_buffer buffer;
};

struct pvd_srq {
    uint32_t handle, context, entries, stride;
    struct pvd_buffer buffer;
};

struct pvd_qp {
    uint32_t handle, qpn, context;
    uint32_t send_entries, recv_entries, send_stride, recv_stride;
    uint32_t send_pages;
    struct pvd_buffer buffer;
};

struct pvd_mr {
    uint32_t handle, lkey, rkey;
};

/* A machine with an adapter on @backend ("backend=loopback"), its slot's interface up; not started.
 * */
void pvd_create(struct pvd *d, const char *backend);
void pvd_destroy(struct pvd *d);
/* Probe: shared region, rings, slots, vectors, ACTIVATE. */
void pvd_start(struct pvd *d, uint32_t version);
/* A shared region that is all right, at d->dsr, not yet told to the device. */
struct pvr_dsr *pvd_region(struct pvd *d, uint32_t version);
void pvd_tell_region(struct pvd *d);

uint32_t pvd_read(struct pvd *d, unsigned reg);
void pvd_write(struct pvd *d, unsigned reg, uint32_t value);
void pvd_bell(struct pvd *d, uint32_t page, unsigned reg, uint32_t value);
uint64_t pvd_interrupts(struct pvd *d, enum pvr_vector vector);

/* Memory. */
struct pvd_buffer pvd_alloc(struct pvd *d, uint32_t pages);
struct pvd_buffer pvd_alloc_scattered(struct pvd *d, uint32_t pages); /* in reverse order */

/* Commands: @req is filled but for the header; returns ERR. The answer is in @resp, zeroes if none.
 * */
uint32_t pvd_command(struct pvd *d, enum pvr_command command, union pvr_request *req,
                     union pvr_response *resp);
uint32_t pvd_destroy_handle(struct pvd *d, enum pvr_command command, uint32_t handle);

uint32_t pvd_open_context(struct pvd *d, uint32_t page);
uint32_t pvd_create_pd(struct pvd *d, uint32_t context);
/* @virtual: where the first byte is in the process; @gpa_offset: in the buffer's first page. */
struct pvd_mr pvd_register(struct pvd *d, uint32_t pd, const struct pvd_buffer *buffer,
                           uint64_t start, uint64_t length, uint32_t access);
struct pvd_mr pvd_dma_mr(struct pvd *d, uint32_t pd);
struct pvd_cq pvd_create_cq(struct pvd *d, uint32_t context, uint32_t entries);
struct pvd_srq pvd_create_srq(struct pvd *d, uint32_t context, uint32_t pd, uint32_t entries,
                              uint32_t limit);
/* With @srq NULL, a receive queue of its own. 2 entries of scatter/gather each. */
struct pvd_qp pvd_create_qp(struct pvd *d, uint32_t context, uint32_t pd, enum pvr_qp_type type,
                            const struct pvd_cq *send_cq, const struct pvd_cq *recv_cq,
                            const struct pvd_srq *srq, uint32_t entries);
/* The command as pvd_create_qp would send it; buffer and sizes in @qp. */
void pvd_fill_create_qp(struct pvd *d, struct pvr_cmd_create_qp *cmd, struct pvd_qp *qp,
                        uint32_t context, uint32_t pd, enum pvr_qp_type type, uint32_t entries,
                        bool srq);
void pvd_bind_gid(struct pvd *d, uint32_t index);

/* MODIFY_QP: the error that it reports in its answer. */
uint32_t pvd_modify(struct pvd *d, const struct pvd_qp *qp, const struct pvr_qp_attr *attr,
                    uint32_t mask);
uint32_t pvd_set_state(struct pvd *d, const struct pvd_qp *qp, uint32_t state);
/* All the way to RTS; RC: connected with @peer. */
void pvd_connect(struct pvd *d, const struct pvd_qp *qp, enum pvr_qp_type type, uint32_t peer);

/* Work. The doorbell is rung by the last of a series. */
void pvd_post_send(struct pvd *d, struct pvd_qp *qp, const struct pvr_sq_wqe *wqe,
                   const struct pvr_sge *sge, bool ring);
void pvd_post_recv(struct pvd *d, struct pvd_qp *qp, uint64_t wr_id, const struct pvr_sge *sge,
                   uint32_t count, bool ring);
void pvd_post_srq(struct pvd *d, struct pvd_srq *srq, uint64_t wr_id, const struct pvr_sge *sge,
                  uint32_t count, bool ring);
void pvd_arm(struct pvd *d, const struct pvd_cq *cq, bool solicited);
bool pvd_poll(struct pvd *d, const struct pvd_cq *cq, struct pvr_cqe *cqe);
/* Does a look at this empty queue ring no doorbell? */
bool pvd_is_parked(struct pvd *d, const struct pvd_cq *cq);
/* Waits for one; ends the test if none comes. */
struct pvr_cqe pvd_wait(struct pvd *d, const struct pvd_cq *cq);
/* The same for the event ring (of the driver's odd size) and the notification ring. */
bool pvd_next_event(struct pvd *d, struct pvr_eqe *eqe);
struct pvr_eqe pvd_wait_event(struct pvd *d);
bool pvd_next_notification(struct pvd *d, uint32_t *cq);

#endif
