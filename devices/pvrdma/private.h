/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * private - what the files of the pvrdma device share
 *
 *     pvrdma.c     PCI function, registers, shared region, reset, lifecycle
 *     command.c    the command slot: every command
 *     resources.c  contexts, domains, regions, queues: tables of handles, what uses what
 *     directory.c  page directories of the guest: struct guest_pages
 *     ring.c       rings in guest memory
 *     doorbell.c   doorbell pages, where they lead
 *     work.c       work requests in, completions out
 *     event.c      asynchronous events and notifications
 *     state.c      what is saved
 *
 * One mutex, pvrdma->lock, covers everything but the registers' plain values: commands on vCPU
 * threads and the data path on the loop take turns. The backend, the network interface and pci/
 * are called with it held: none of them calls back from inside a call, but for a quick
 * rdma_create_mr (see command.c).
 *
 * Functions return 0 or -errno, and want the lock held unless they say otherwise.
 */
#ifndef DEVICES_PVRDMA_PRIVATE_H
#define DEVICES_PVRDMA_PRIVATE_H

#include <pthread.h>

#include "backends/rdma/rdma.h"
#include "devices/pvrdma/interface.h"
#include "devices/pvrdma/pvrdma.h"

#define PVRDMA_MAX_UAR   256u
#define PVRDMA_MAX_QP    4096u /* handles are 1 to 4095; completions have room for 16 bits */
#define PVRDMA_MAX_CQ    1024u /* no more than the notification ring has room for */
#define PVRDMA_MAX_CQE   65536u
#define PVRDMA_MAX_MR    65536u
#define PVRDMA_MAX_PD    32768u
#define PVRDMA_MAX_SRQ   1024u
#define PVRDMA_MAX_WR    2048u
#define PVRDMA_MAX_SGE   16u /* a power of two, as driver and library round up */
#define PVRDMA_MAX_GIDS  256u
#define PVRDMA_NO_HANDLE UINT32_MAX

/* ---- directory.c ---- */

/* Pages of guest RAM that one page directory named. Each entry was read once; all are in RAM. */
struct guest_pages {
    uint32_t count;
    uint64_t *gpa;
    uint8_t **host;
};

/* The addresses of @count pages under directory @pdir, page aligned and in RAM: g_free. -EINVAL:
 * count, or an entry that no driver would write; -EFAULT: not in RAM. */
int guest_pages_read(struct dma *dma, uint64_t pdir, uint32_t count, uint64_t **gpa);
/* The same, to be accessed for long. */
int guest_pages_map(struct guest_pages *pages, struct dma *dma, uint64_t pdir, uint32_t count);
/* From addresses that were known before (copied). */
int guest_pages_restore(struct guest_pages *pages, struct dma *dma, const uint64_t *gpa,
                        uint32_t count);
void guest_pages_clear(struct guest_pages *pages);

/* ---- ring.c ---- */

struct ring {
    struct guest_pages *pages; /* the first holds the indices */
    uint32_t first_page;       /* of the elements */
    uint32_t entries; /* as the driver counts: need not be a power of two for device rings */
    uint32_t stride;  /* bytes, a power of two up to a page */
    bool tx;
};

/* How many elements a ring may hold: with an odd size, fewer than @entries. */
uint32_t pvr_ring_depth(uint32_t entries);
/* Is there an element to be read (1: at *@element, 0: no, -EINVAL: indices are out of range)? */
int pvr_ring_peek(const struct ring *ring, const void **element);
void pvr_ring_consume(const struct ring *ring, struct dma *dma);
/* Puts an element of stride bytes: -ENOSPC, -EINVAL. */
int pvr_ring_put(const struct ring *ring, struct dma *dma, const void *element);
/* If it is empty, looks at it cost no exit from now on until something is put (user processes' only). */
void pvr_ring_park(const struct ring *ring, struct dma *dma);

/* ---- resources.c ---- */

struct handles {
    void **objects;
    uint32_t size, first, next, used;
};

struct pvr_uar { /* a doorbell page, which is a context while .used */
    struct pvrdma *pvrdma;
    uint32_t page;
    bool used;
    int fd; /* rung for its queue pairs, SRQs, and looks at empty CQs; -1: not yet */
    struct loop_fd *source;
    GPtrArray *qps, *srqs, *cqs; /* of this context; not owned */
};

struct pvr_pd {
    uint32_t handle;
    struct pvr_uar *uar;
    struct rdma_pd *pd;
};

struct pvr_mr {
    uint32_t handle;
    struct pvr_pd *pd;
    struct rdma_mr *mr;
};

enum pvr_armed { PVR_NOT_ARMED, PVR_ARMED_SOLICITED, PVR_ARMED };

struct pvr_cq {
    uint32_t handle;
    struct pvr_uar *uar;
    struct rdma_cq *cq;
    struct guest_pages pages;
    struct ring ring;
    uint8_t armed;  /* enum pvr_armed */
    bool known;     /* to the driver: a queue pair was made with it */
    bool notify;    /* a notification waits for room */
    bool failed;    /* it overflowed, or its indices are out of range: no completions any more */
    bool more;      /* the backend had more than one turn takes */
    bool poll_bell; /* its POLL doorbell ends in the kernel */
};

struct pvr_srq {
    uint32_t handle;
    struct pvr_pd *pd;
    struct rdma_srq *srq;
    struct guest_pages pages;
    struct ring ring;
    uint32_t max_sge;
    bool known; /* to the driver: a queue pair was made with it, or it was modified */
    bool failed, more;
};

struct pvr_qp {
    uint32_t number; /* its place in the table, and its number at the backend */
    uint32_t handle; /* the driver's name of it: before version 20 its QPN, else the same */
    struct pvr_pd *pd;
    struct pvr_cq *send_cq, *recv_cq;
    struct pvr_srq *srq;
    struct rdma_qp *qp;
    enum rdma_qp_type type;
    enum rdma_qp_state state; /* as last modified; the backend's may have gone on to an error */
    struct guest_pages pages;
    struct ring sq, rq; /* rq.entries 0: none */
    struct pvr_qp_cap cap;
    uint32_t send_chunks; /* pages of the send queue */
    uint32_t qkey;
    bool signal_all;
    bool failed; /* indices out of range */
    bool more;
};

void *pvr_handles_get(const struct handles *handles, uint32_t handle);
/* PVRDMA_NO_HANDLE when all are in use. A handle comes back as late as can be. */
uint32_t pvr_handles_add(struct handles *handles, void *object);
bool pvr_handles_set(struct handles *handles, uint32_t handle,
                     void *object); /* false: taken, or none such */
void pvr_handles_remove(struct handles *handles, uint32_t handle);

void pvr_resources_init(struct pvrdma *pvrdma);
void pvr_resources_finish(struct pvrdma *pvrdma);
/* Forgets every object; the backend's are gone already (rdma_reset). */
void pvr_resources_forget(struct pvrdma *pvrdma);

/* What is destroyed takes along what uses it. */
int pvr_context_destroy(struct pvrdma *pvrdma, uint32_t page);
int pvr_pd_create(struct pvrdma *pvrdma, uint32_t context, uint32_t *handle);
int pvr_pd_destroy(struct pvrdma *pvrdma, uint32_t handle);
int pvr_mr_destroy(struct pvrdma *pvrdma, uint32_t handle);
int pvr_cq_create(struct pvrdma *pvrdma, const struct pvr_cmd_create_cq *cmd, uint32_t *handle);
int pvr_cq_destroy(struct pvrdma *pvrdma, uint32_t handle);
/* By the driver's name of it; or NULL. */
struct pvr_qp *pvr_qp_find(struct pvrdma *pvrdma, uint32_t handle);
int pvr_qp_create(struct pvrdma *pvrdma, const struct pvr_cmd_create_qp *cmd, struct pvr_qp **qp);
/* Are the domain and queues that it names there, and of one context? */
bool pvr_qp_parts_fit(const struct pvr_qp *qp);
/* To its context; the driver knows its queues. */
void pvr_qp_add(struct pvr_qp *qp);
int pvr_qp_destroy(struct pvrdma *pvrdma, uint32_t handle);
int pvr_srq_create(struct pvrdma *pvrdma, const struct pvr_cmd_create_srq *cmd, uint32_t *handle);
int pvr_srq_destroy(struct pvrdma *pvrdma, uint32_t handle);
/* Bytes of a request with @sge entries. */
uint32_t pvr_wqe_stride(uint32_t header, uint32_t sge);
/* Lays rings over the pages of an object; sizes were checked. */
void pvr_qp_lay_out(struct pvr_qp *qp);
void pvr_cq_lay_out(struct pvr_cq *cq, uint32_t entries);
void pvr_srq_lay_out(struct pvr_srq *srq, uint32_t max_wr, uint32_t max_sge);

/* ---- the device ---- */

struct pvr_creation; /* a memory region that is being made: command.c */

struct pvrdma {
    struct pci_function function;
    struct pvrdma_nic nic;
    struct rdma *rdma;
    struct loop *loop;
    pthread_mutex_t lock;
    struct rdma_limits limits; /* what we tell: the least of the backend's and our own */

    /* registers */
    uint32_t dsr_low, dsr_high, error, imr, icr;
    bool running;                      /* work may be done: not quiesced */
    bool dsr_latched, request_latched; /* written while it was not */

    /* from the shared region */
    bool ready;  /* read, and good: slots and rings are there */
    bool active; /* CTL_ACTIVATE */
    uint32_t version;
    uint64_t command_slot, response_slot;
    struct guest_pages async_pages, notify_pages;
    struct ring async_ring, notify_ring;
    uint32_t events_lost;
    bool notify; /* a notification of some queue waits for room */

    struct pvr_uar uars[PVRDMA_MAX_UAR];
    struct handles pds, mrs, cqs, qps, srqs;
    struct pvr_creation *creation; /* of the command that is under way */
    GPtrArray *creations;          /* all that the backend still has */
    int poll_fd;                   /* where the kernel's POLL doorbells end: nobody reads it */
    unsigned poll_bells;
    int again_fd; /* there is more to do than one turn took */
    struct loop_fd *again;

    struct pvr_saved *saved; /* what a stream is made from, or read into: state.c */
    uint32_t saved_count;    /* of those: 1 */
};

/* ---- pvrdma.c ---- */

struct dma *pvrdma_dma(struct pvrdma *pvrdma);
void pvrdma_fire(struct pvrdma *pvrdma, enum pvr_vector vector);
void pvrdma_guest_error(struct pvrdma *pvrdma, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* All objects, rings and slots are gone; as before the shared region was written. */
void pvrdma_drop(struct pvrdma *pvrdma);

/* ---- command.c ---- */

/* What is in the command slot; the answer goes to ERR, and with it or later to the response slot.
 * */
void pvr_command_run(struct pvrdma *pvrdma);
/* Its answer will not be waited for. */
void pvr_command_forget(struct pvrdma *pvrdma);
/* Answers what ended while the device was paused. */
void pvr_command_resume(struct pvrdma *pvrdma);
void pvr_command_fill_caps(struct pvrdma *pvrdma, struct pvr_caps *caps, uint32_t version);
const char *pvr_command_name(uint32_t command);
/* The region and its domain are gone, with everything else; an answer may still come. */
void pvr_command_abandon(struct pvr_creation *creation);
/* @mr is gone; if it was being made, an answer may still come. */
void pvr_command_abandon_mr(struct pvrdma *pvrdma, const struct pvr_mr *mr);
/* The region of a struct pvr_creation is gone, and no answer comes. */
void pvr_command_cancelled(void *creation);

/* ---- doorbell.c ---- */

int pvr_doorbell_open_context(struct pvrdma *pvrdma, uint32_t page);
void pvr_doorbell_close_context(struct pvrdma *pvrdma, uint32_t page);
void pvr_doorbell_open_cq(struct pvrdma *pvrdma, struct pvr_cq *cq);
void pvr_doorbell_close_cq(struct pvrdma *pvrdma, struct pvr_cq *cq);
/* A write to BAR 2 that no eventfd took; takes the lock. */
void pvr_doorbell_write(struct pvrdma *pvrdma, uint64_t offset, unsigned size, uint32_t value);
int pvr_doorbell_init(struct pvrdma *pvrdma, GError **error);
void pvr_doorbell_finish(struct pvrdma *pvrdma); /* on the loop's thread */
void pvr_doorbell_again(struct pvrdma *pvrdma);
/* Everything that may have work is looked at. */
void pvr_doorbell_ring_all(struct pvrdma *pvrdma);

/* ---- work.c ---- */

extern const struct rdma_client_ops pvr_work_client; /* takes the lock */

void pvr_work_serve_qp(struct pvrdma *pvrdma, struct pvr_qp *qp);
void pvr_work_serve_srq(struct pvrdma *pvrdma, struct pvr_srq *srq);
/* All that its ring has room for, in one turn. */
void pvr_work_serve_all_of_srq(struct pvrdma *pvrdma, struct pvr_srq *srq);
void pvr_work_drain_cq(struct pvrdma *pvrdma, struct pvr_cq *cq);
void pvr_work_fail_cq(struct pvrdma *pvrdma, struct pvr_cq *cq);
/* Serves what has .more set. */
void pvr_work_again(struct pvrdma *pvrdma);

/* ---- event.c ---- */

void pvr_event_async(struct pvrdma *pvrdma, enum pvr_event_type type, uint32_t info);
void pvr_event_notify(struct pvrdma *pvrdma, struct pvr_cq *cq);
/* Those that found the ring full. */
void pvr_event_notify_waiting(struct pvrdma *pvrdma);
/* From the backend; takes the lock. */
void pvr_event_from_backend(void *opaque, enum rdma_event_type type, uint32_t number);

/* ---- state.c ---- */

extern const struct state_table pvrdma_state;
void pvrdma_before_save(struct device *device);
bool pvrdma_after_load(struct device *device, GError **error);
void pvr_state_init(struct pvrdma *pvrdma);
void pvr_state_finish(struct pvrdma *pvrdma);

#endif
