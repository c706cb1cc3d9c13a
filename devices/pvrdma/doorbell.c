/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doorbell - the doorbell pages in BAR 2
 *
 * A page has three registers of 4 bytes: queue pairs, completion queues, shared receive queues.
 * Each user context maps one page, the kernel uses page 0. Only objects of that context are reached
 * from it.
 *
 * Queue pairs and shared receive queues: the write ends in the kernel, in an eventfd a page; the
 * value is lost, but what was posted stands in the rings, so the loop looks at those of that
 * context. Completion queues: arming is carried out in the vCPU's exit, since the driver looks at
 * the queue once more right afterwards. POLL is written at a look at an empty queue. There is nothing to
 * fetch then, so for a number of queues it ends in the kernel: for user processes, in the context's
 * eventfd, and the loop parks the queue (ring.c), so that the looks that follow cost no exit; for the
 * guest's kernel, which looks once and then waits for a notification, in an eventfd that nobody reads.
 *
 * Anything else is ignored, as the hardware would.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/pvrdma/private.h"
#include "vmm/fd.h"
#include "vmm/trace.h"

TRACE_EVENT(pvrdma_doorbell, "%s page=%u queues=%u",
            (const char *device, unsigned page, unsigned queues), device, page, queues)
TRACE_EVENT(pvrdma_arm, "%s page=%u value=0x%x",
            (const char *device, unsigned page, unsigned value), device, page, value)

#define MAX_POLL_BELLS 256u /* eventfds in the kernel are limited, a thousand for all devices */

/* ---- queue pairs and shared receive queues ---- */

/* The guest's kernel would complain of a parked queue. */
static void park(struct pvrdma *pvrdma, struct pvr_cq *cq)
{
    if (cq->known && cq->uar->page && !dma_allowed(pvrdma_dma(pvrdma), DMA_FROM_DEVICE))
        pvr_ring_park(&cq->ring, pvrdma_dma(pvrdma));
}

static void serve_context(struct pvrdma *pvrdma, struct pvr_uar *uar)
{
    if (!pvrdma->running || !pvrdma->active)
        return;
    trace_pvrdma_doorbell(pvrdma->function.device.name, uar->page, uar->qps->len + uar->srqs->len);
    /* At once: posting takes the time of many looks. Receives before sends, which may be for them. */
    for (guint i = 0; i < uar->cqs->len; i++)
        park(pvrdma, g_ptr_array_index(uar->cqs, i));
    for (guint i = 0; i < uar->srqs->len; i++)
        pvr_work_serve_srq(pvrdma, g_ptr_array_index(uar->srqs, i));
    for (guint i = 0; i < uar->qps->len; i++)
        pvr_work_serve_qp(pvrdma, g_ptr_array_index(uar->qps, i));
}

static void on_doorbell(void *opaque)
{
    struct pvr_uar *uar = opaque;
    struct pvrdma *pvrdma = uar->pvrdma;

    pthread_mutex_lock(&pvrdma->lock);
    if (uar->used)
        serve_context(pvrdma, uar);
    pthread_mutex_unlock(&pvrdma->lock);
}

/* Once a page is used its eventfd stays: what watches it can only be taken away on the loop's
 * thread. */
static int watch(struct pvr_uar *uar)
{
    if (uar->source)
        return 0;
    uar->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (uar->fd < 0)
        return -errno;
    uar->source = loop_eventfd_create(uar->pvrdma->loop, uar->fd, on_doorbell, uar);
    return 0;
}

static const unsigned queue_registers[] = {PVR_UAR_QP, PVR_UAR_SRQ};

int pvr_doorbell_open_context(struct pvrdma *pvrdma, uint32_t page)
{
    struct pvr_uar *uar = &pvrdma->uars[page];
    int ret;

    if (uar->used)
        return -EEXIST;
    ret = watch(uar);
    for (unsigned i = 0; i < G_N_ELEMENTS(queue_registers) && !ret; i++)
        ret = pci_function_add_doorbell(&pvrdma->function, PVR_BAR_UAR,
                                        page * PVR_PAGE_SIZE + queue_registers[i], 4, false, 0,
                                        uar->fd);
    uar->used = !ret;
    if (ret)
        pvr_doorbell_close_context(pvrdma, page);
    return ret;
}

void pvr_doorbell_close_context(struct pvrdma *pvrdma, uint32_t page)
{
    struct pvr_uar *uar = &pvrdma->uars[page];

    for (unsigned i = 0; i < G_N_ELEMENTS(queue_registers); i++)
        pci_function_remove_doorbell(&pvrdma->function, PVR_BAR_UAR,
                                     page * PVR_PAGE_SIZE + queue_registers[i], 4, false, 0,
                                     uar->fd);
    uar->used = false;
}

/* ---- completion queues ---- */

/* What is woken by a look at the empty queue. */
static int poll_fd(const struct pvrdma *pvrdma, const struct pvr_cq *cq)
{
    return cq->uar->page ? cq->uar->fd : pvrdma->poll_fd;
}

void pvr_doorbell_open_cq(struct pvrdma *pvrdma, struct pvr_cq *cq)
{
    g_ptr_array_add(cq->uar->cqs, cq);
    if (pvrdma->poll_bells == MAX_POLL_BELLS)
        return;
    cq->poll_bell = !pci_function_add_doorbell(&pvrdma->function, PVR_BAR_UAR,
                                               cq->uar->page * PVR_PAGE_SIZE + PVR_UAR_CQ, 4, true,
                                               cq->handle | PVR_UAR_CQ_POLL, poll_fd(pvrdma, cq));
    pvrdma->poll_bells += cq->poll_bell;
}

void pvr_doorbell_close_cq(struct pvrdma *pvrdma, struct pvr_cq *cq)
{
    g_ptr_array_remove_fast(cq->uar->cqs, cq);
    if (!cq->poll_bell)
        return;
    pci_function_remove_doorbell(&pvrdma->function, PVR_BAR_UAR,
                                 cq->uar->page * PVR_PAGE_SIZE + PVR_UAR_CQ, 4, true,
                                 cq->handle | PVR_UAR_CQ_POLL, poll_fd(pvrdma, cq));
    cq->poll_bell = false;
    pvrdma->poll_bells--;
}

static void cq_doorbell(struct pvrdma *pvrdma, struct pvr_uar *uar, uint32_t value)
{
    struct pvr_cq *cq = pvr_handles_get(&pvrdma->cqs, value & PVR_UAR_HANDLE);

    if (!cq || cq->uar != uar)
        return;
    if (value & PVR_UAR_CQ_POLL) {
        park(pvrdma, cq);
        return;
    }
    trace_pvrdma_arm(pvrdma->function.device.name, uar->page, value);
    /* Arming for all completions holds against arming for solicited ones (IBTA 11.4.2.2). */
    if (value & PVR_UAR_CQ_ARM)
        cq->armed = PVR_ARMED;
    else if (value & PVR_UAR_CQ_ARM_SOL && cq->armed == PVR_NOT_ARMED)
        cq->armed = PVR_ARMED_SOLICITED;
    /* Whoever arms has read notifications, mostly. */
    pvr_event_notify_waiting(pvrdma);
}

void pvr_doorbell_write(struct pvrdma *pvrdma, uint64_t offset, unsigned size, uint32_t value)
{
    uint64_t page = offset / PVR_PAGE_SIZE;
    unsigned at = offset % PVR_PAGE_SIZE;

    if (size != 4 || page >= PVRDMA_MAX_UAR)
        return;
    pthread_mutex_lock(&pvrdma->lock);
    if (!pvrdma->active || !pvrdma->uars[page].used)
        ; /* nobody's page */
    else if (at == PVR_UAR_CQ)
        cq_doorbell(pvrdma, &pvrdma->uars[page], value);
    pthread_mutex_unlock(&pvrdma->lock);
}

/* ---- all of it ---- */

static void on_again(void *opaque)
{
    struct pvrdma *pvrdma = opaque;

    pthread_mutex_lock(&pvrdma->lock);
    if (pvrdma->running && pvrdma->active)
        pvr_work_again(pvrdma);
    pthread_mutex_unlock(&pvrdma->lock);
}

void pvr_doorbell_again(struct pvrdma *pvrdma)
{
    eventfd_write(pvrdma->again_fd, 1);
}

void pvr_doorbell_ring_all(struct pvrdma *pvrdma)
{
    for (uint32_t i = 0; i < PVRDMA_MAX_UAR; i++)
        if (pvrdma->uars[i].used)
            eventfd_write(pvrdma->uars[i].fd, 1);
    for (uint32_t i = 0; i < pvrdma->cqs.size; i++) {
        struct pvr_cq *cq = pvr_handles_get(&pvrdma->cqs, i);

        if (cq)
            cq->more = true;
    }
    pvr_doorbell_again(pvrdma);
}

int pvr_doorbell_init(struct pvrdma *pvrdma, GError **error)
{
    for (uint32_t i = 0; i < PVRDMA_MAX_UAR; i++)
        pvrdma->uars[i] = (struct pvr_uar){
            .pvrdma = pvrdma,
            .page = i,
            .fd = -1,
            .qps = g_ptr_array_new(),
            .srqs = g_ptr_array_new(),
            .cqs = g_ptr_array_new(),
        };
    pvrdma->poll_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pvrdma->again_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (pvrdma->poll_fd < 0 || pvrdma->again_fd < 0) {
        int saved = errno;

        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved), "%s: eventfd: %s",
                    pvrdma->function.device.name, g_strerror(saved));
        return -saved;
    }
    pvrdma->again = loop_eventfd_create(pvrdma->loop, pvrdma->again_fd, on_again, pvrdma);
    return 0;
}

void pvr_doorbell_finish(struct pvrdma *pvrdma)
{
    for (uint32_t i = 0; i < PVRDMA_MAX_UAR; i++) {
        loop_fd_destroy(pvrdma->uars[i].source);
        close_fd(pvrdma->uars[i].fd);
        g_clear_pointer(&pvrdma->uars[i].qps, g_ptr_array_unref);
        g_clear_pointer(&pvrdma->uars[i].srqs, g_ptr_array_unref);
        g_clear_pointer(&pvrdma->uars[i].cqs, g_ptr_array_unref);
    }
    loop_fd_destroy(pvrdma->again);
    close_fd(pvrdma->again_fd);
    close_fd(pvrdma->poll_fd);
}
