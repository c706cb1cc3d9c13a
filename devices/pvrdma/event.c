/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * event - what the device tells without being asked
 *
 * Two rings, each with a vector: asynchronous events (a type and a handle or port), and
 * notifications (the handle of a completion queue that was armed and got a completion). The vector
 * is fired for every element: firing only when the ring was empty is not safe, as the driver looks
 * at the ring a last time without a barrier.
 *
 * A completion queue has at most one notification in the ring for each time that it was armed, so
 * there is room as long as the guest takes them out; else it waits for the next arming or
 * notification. The driver leaves asynchronous events in the ring until it has registered its
 * device. When the ring is full they are lost, and that is logged.
 */
#include <errno.h>

#include "devices/pvrdma/private.h"
#include "vmm/trace.h"

TRACE_EVENT(pvrdma_event, "%s type=%u info=%u", (const char *device, unsigned type, unsigned info),
            device, type, info)
TRACE_EVENT(pvrdma_notify, "%s cq=%u", (const char *device, unsigned cq), device, cq)

void pvr_event_async(struct pvrdma *pvrdma, enum pvr_event_type type, uint32_t info)
{
    struct pvr_eqe eqe = {type, info};
    int ret;

    if (!pvrdma->ready || dma_allowed(pvrdma_dma(pvrdma), DMA_FROM_DEVICE))
        return;
    trace_pvrdma_event(pvrdma->function.device.name, type, info);
    ret = pvr_ring_put(&pvrdma->async_ring, pvrdma_dma(pvrdma), &eqe);
    if (ret) {
        pvrdma->events_lost++;
        pvrdma_guest_error(pvrdma, "event %u is lost: the event ring %s", type,
                           ret == -ENOSPC ? "is full" : "has bad indices");
        return;
    }
    pvrdma_fire(pvrdma, PVR_VECTOR_ASYNC);
}

void pvr_event_notify(struct pvrdma *pvrdma, struct pvr_cq *cq)
{
    struct pvr_cqne cqne = {cq->handle};
    int ret;

    if (!pvrdma->ready || dma_allowed(pvrdma_dma(pvrdma), DMA_FROM_DEVICE))
        return;
    trace_pvrdma_notify(pvrdma->function.device.name, cq->handle);
    ret = pvr_ring_put(&pvrdma->notify_ring, pvrdma_dma(pvrdma), &cqne);
    cq->notify = ret != 0;
    pvrdma->notify |= cq->notify;
    if (ret)
        pvrdma_guest_error(pvrdma, "a notification waits: the notification ring %s",
                           ret == -ENOSPC ? "is full" : "has bad indices");
    pvrdma_fire(pvrdma, PVR_VECTOR_CQ);
}

void pvr_event_notify_waiting(struct pvrdma *pvrdma)
{
    bool some = pvrdma->notify;

    pvrdma->notify = false;
    for (uint32_t i = 0; some && i < pvrdma->cqs.size; i++) {
        struct pvr_cq *cq = pvr_handles_get(&pvrdma->cqs, i);

        if (cq && cq->notify)
            pvr_event_notify(pvrdma, cq);
    }
}

static void queue_event(struct pvrdma *pvrdma, enum pvr_event_type type, enum rdma_event_type from,
                        uint32_t number)
{
    struct pvr_qp *qp;

    switch (from) {
    case RDMA_EVENT_CQ_ERROR:
        if (pvr_handles_get(&pvrdma->cqs, number))
            pvr_work_fail_cq(pvrdma, pvr_handles_get(&pvrdma->cqs, number));
        break;
    case RDMA_EVENT_SRQ_ERROR:
    case RDMA_EVENT_SRQ_LIMIT:
        if (pvr_handles_get(&pvrdma->srqs, number))
            pvr_event_async(pvrdma, type, number);
        break;
    default:
        qp = pvr_handles_get(&pvrdma->qps, number);
        if (qp)
            pvr_event_async(pvrdma, type, qp->handle);
        break;
    }
}

void pvr_event_from_backend(void *opaque, enum rdma_event_type type, uint32_t number)
{
    static const enum pvr_event_type types[] = {
        [RDMA_EVENT_CQ_ERROR] = PVR_EVENT_CQ_ERR,
        [RDMA_EVENT_QP_FATAL] = PVR_EVENT_QP_FATAL,
        [RDMA_EVENT_QP_REQUEST_ERROR] = PVR_EVENT_QP_REQ_ERR,
        [RDMA_EVENT_QP_ACCESS_ERROR] = PVR_EVENT_QP_ACCESS_ERR,
        [RDMA_EVENT_COMM_EST] = PVR_EVENT_COMM_EST,
        [RDMA_EVENT_SQ_DRAINED] = PVR_EVENT_SQ_DRAINED,
        [RDMA_EVENT_LAST_WQE_REACHED] = PVR_EVENT_LAST_WQE,
        [RDMA_EVENT_SRQ_ERROR] = PVR_EVENT_SRQ_ERR,
        [RDMA_EVENT_SRQ_LIMIT] = PVR_EVENT_SRQ_LIMIT,
        [RDMA_EVENT_PORT_ACTIVE] = PVR_EVENT_PORT_ACTIVE,
        [RDMA_EVENT_PORT_ERROR] = PVR_EVENT_PORT_ERR,
        [RDMA_EVENT_GID_CHANGE] = PVR_EVENT_GID_CHANGE,
        [RDMA_EVENT_DEVICE_FATAL] = PVR_EVENT_DEVICE_FATAL,
    };
    struct pvrdma *pvrdma = opaque;

    if ((unsigned)type >= G_N_ELEMENTS(types))
        return;
    pthread_mutex_lock(&pvrdma->lock);
    if (!pvrdma->active)
        ;
    else if (types[type] == PVR_EVENT_DEVICE_FATAL || types[type] == PVR_EVENT_PORT_ACTIVE ||
             types[type] == PVR_EVENT_PORT_ERR || types[type] == PVR_EVENT_GID_CHANGE)
        pvr_event_async(pvrdma, types[type], 1);
    else
        queue_event(pvrdma, types[type], type, number);
    pthread_mutex_unlock(&pvrdma->lock);
}
