/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command - the command slot
 *
 * The driver writes a request into its slot, 0 into REQUEST, and reads ERR: the request has been
 * carried out by then. Only a memory region may take longer: then ERR says 0, and the answer comes
 * later. A failure shows in ERR, or (a late one) in an answer without the command's
 * acknowledgement; MODIFY_QP alone reports its error in the answer. What destroys, and MODIFY_SRQ
 * and the binding of GIDs, has no answer and raises no interrupt: it would end the wait for the
 * next command.
 *
 * The driver gives up waiting when its caller is sent a signal. A region that it no longer waits
 * for when the next request comes is undone; other things that it does not know of are left alone
 * (resources.c).
 *
 * The request is copied before it is looked at; everything in it is the guest's.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "devices/pvrdma/private.h"
#include "vmm/trace.h"

TRACE_EVENT(pvrdma_command, "%s %s result=%d", (const char *device, const char *name, int result),
            device, name, result)

#define PENDING 1 /* the answer comes later */

struct pvr_creation {
    struct pvrdma *pvrdma;
    struct pvr_mr *mr;
    pthread_t thread; /* while in_call: whose rdma_create_mr it is */
    bool in_call, done, forgotten;
    int error;
};

/* ---- capabilities ---- */

void pvr_command_fill_caps(struct pvrdma *pvrdma, struct pvr_caps *caps, uint32_t version)
{
    const struct rdma_limits *limits = &pvrdma->limits;
    uint8_t mac[6];

    pvrdma->nic.mac(pvrdma->nic.opaque, mac);
    *caps = (struct pvr_caps){
        .fw_ver = UINT64_C(14) << 32,
        .node_guid = {mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]},
        .max_mr_size = limits->max_mr_size,
        .page_size_cap = PVR_PAGE_SIZE,
        .vendor_id = PVR_VENDOR_ID,
        .vendor_part_id = PVR_DEVICE_ID,
        .hw_ver = PVR_VERSION,
        .max_qp = limits->max_qp,
        .max_qp_wr = limits->max_qp_wr,
        .max_sge = limits->max_sge,
        .max_sge_rd = limits->max_sge_rd,
        .max_cq = limits->max_cq,
        .max_cqe = limits->max_cqe,
        .max_mr = limits->max_mr,
        .max_pd = limits->max_pd,
        .max_qp_rd_atom = limits->max_qp_rd_atom,
        .max_res_rd_atom = limits->max_qp_rd_atom,
        .max_qp_init_rd_atom = limits->max_qp_init_rd_atom,
        .max_ah = limits->max_ah,
        .max_srq = limits->max_srq,
        .max_srq_wr = limits->max_srq_wr,
        .max_srq_sge = limits->max_srq_sge,
        .max_uar = PVRDMA_MAX_UAR,
        .gid_tbl_len = limits->gid_entries,
        .max_pkeys = 1,
        .local_ca_ack_delay = limits->local_ca_ack_delay,
        .phys_port_cnt = 1,
        .mode = PVR_MODE_ROCE,
        .atomic_ops = limits->atomics ? PVR_ATOMIC_COMPARE_SWAP | PVR_ATOMIC_FETCH_ADD : 0,
        .bmme_flags = limits->max_fast_reg_pages ? PVR_BMME_ALL : 0,
        .gid_types = version < PVR_VERSION_ROCE_V2 ? PVR_GID_ROCE_V1 : PVR_GID_ROCE_V2,
        .max_fast_reg_page_list_len = limits->max_fast_reg_pages,
    };
    memcpy(caps->sys_image_guid, caps->node_guid, sizeof(caps->node_guid));
}

/* ---- the port ---- */

static int query_port(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    struct pvr_port_attr *attrs = &resp->query_port.attrs;
    struct rdma_port port;
    int ret;

    if (req->query_port.port_num != 1)
        return -EINVAL;
    ret = rdma_query_port(pvrdma->rdma, &port);
    if (ret)
        return ret;
    *attrs = (struct pvr_port_attr){
        .state = port.active ? PVR_PORT_ACTIVE : PVR_PORT_DOWN,
        .max_mtu = port.max_mtu,
        .active_mtu = port.active_mtu,
        .gid_tbl_len = pvrdma->limits.gid_entries,
        .port_cap_flags = PVR_PORT_IP_BASED_GIDS,
        .max_msg_sz = port.max_msg_size,
        .pkey_tbl_len = 1,
        .max_vl_num = 1,
        .active_width = port.active_width,
        .active_speed = port.active_speed,
        .phys_state = port.active ? PVR_PHYS_LINK_UP : PVR_PHYS_DISABLED,
    };
    return 0;
}

static int query_pkey(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    if (req->query_pkey.port_num != 1 || req->query_pkey.index != 0)
        return -EINVAL;
    resp->query_pkey.pkey = 0xffff;
    return 0;
}

static int create_bind(struct pvrdma *pvrdma, const union pvr_request *req,
                       union pvr_response *resp)
{
    const struct pvr_cmd_create_bind *cmd = &req->create_bind;
    uint8_t offered = pvrdma->version < PVR_VERSION_ROCE_V2 ? PVR_GID_ROCE_V1 : PVR_GID_ROCE_V2;
    union rdma_gid gid;
    uint8_t mac[6];

    if (cmd->index >= pvrdma->limits.gid_entries || cmd->gid_type != offered)
        return -EINVAL;
    memcpy(gid.raw, cmd->new_gid, sizeof(gid.raw));
    pvrdma->nic.mac(pvrdma->nic.opaque, mac);
    return rdma_add_gid(pvrdma->rdma, cmd->index, &gid,
                        cmd->gid_type == PVR_GID_ROCE_V1 ? RDMA_GID_ROCE_V1 : RDMA_GID_ROCE_V2,
                        mac);
}

static int destroy_bind(struct pvrdma *pvrdma, const union pvr_request *req,
                        union pvr_response *resp)
{
    if (req->destroy_bind.index >= pvrdma->limits.gid_entries)
        return -EINVAL;
    return rdma_remove_gid(pvrdma->rdma, req->destroy_bind.index);
}

/* ---- contexts and domains ---- */

static int create_uc(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    const struct pci_bar *bar = &pvrdma->function.bars[PVR_BAR_UAR];
    uint64_t pfn = req->create_uc.pfn, first = bar->address / PVR_PAGE_SIZE;

    if (pvrdma->version < PVR_VERSION_PFN64)
        pfn = (uint32_t)pfn, first = (uint32_t)first;
    if (!bar->mapped || pfn <= first || pfn - first >= PVRDMA_MAX_UAR)
        return -EINVAL;
    resp->handle.handle = (uint32_t)(pfn - first);
    /* The driver has given the page away, so it is not in use, whatever we know. */
    pvr_context_destroy(pvrdma, resp->handle.handle);
    return pvr_doorbell_open_context(pvrdma, resp->handle.handle);
}

static int destroy_uc(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    uint32_t page = req->handle.handle;

    return page ? pvr_context_destroy(pvrdma, page) : -ENOENT;
}

static int create_pd(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    return pvr_pd_create(pvrdma, req->handle.handle, &resp->handle.handle);
}

static int destroy_pd(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    return pvr_pd_destroy(pvrdma, req->handle.handle);
}

/* ---- memory regions ---- */

static void answer(struct pvrdma *pvrdma, uint32_t command, union pvr_response *resp)
{
    resp->hdr.ack = PVR_ACK(command);
    if (dma_write(pvrdma_dma(pvrdma), pvrdma->response_slot, resp, sizeof(*resp)))
        pvrdma_guest_error(pvrdma, "the response slot is not in memory any more");
    pvrdma_fire(pvrdma, PVR_VECTOR_RESPONSE);
}

static void fill_mr(const struct pvr_mr *mr, union pvr_response *resp)
{
    resp->create_mr.mr_handle = mr->handle;
    resp->create_mr.lkey = rdma_mr_lkey(mr->mr);
    resp->create_mr.rkey = rdma_mr_rkey(mr->mr);
}

static void remove_mr(struct pvrdma *pvrdma, struct pvr_mr *mr)
{
    pvr_handles_remove(&pvrdma->mrs, mr->handle);
    g_free(mr);
}

/* Not while the device is paused, nor before what the driver wrote meanwhile, which comes first. */
static bool may_answer(const struct pvrdma *pvrdma)
{
    return pvrdma->running && !pvrdma->dsr_latched && !pvrdma->request_latched;
}

/* The region is there, or not, and the driver waits for it; or it does not any more. */
static void creation_ended(struct pvrdma *pvrdma, struct pvr_creation *creation)
{
    union pvr_response resp = {0};

    if (!creation->forgotten && !may_answer(pvrdma))
        return; /* pvr_command_resume */
    trace_pvrdma_command(pvrdma->function.device.name, "CREATE_MR answer", creation->error);
    if (creation->forgotten) {
        if (creation->mr && creation->mr->mr)
            rdma_destroy_mr(creation->mr->mr);
    } else {
        pvrdma->creation = NULL;
        if (creation->error)
            pvrdma_fire(pvrdma, PVR_VECTOR_RESPONSE); /* the slot has no acknowledgement */
        else
            fill_mr(creation->mr, &resp), answer(pvrdma, PVR_CMD_CREATE_MR, &resp);
    }
    if (creation->mr && (creation->error || creation->forgotten))
        remove_mr(pvrdma, creation->mr);
    g_ptr_array_remove_fast(pvrdma->creations, creation);
}

static void mr_done(void *opaque, struct rdma_mr *mr, int error)
{
    struct pvr_creation *creation = opaque;
    struct pvrdma *pvrdma = creation->pvrdma;
    bool in_call = creation->in_call && pthread_equal(creation->thread, pthread_self());

    if (!in_call)
        pthread_mutex_lock(&pvrdma->lock);
    if (creation->mr)
        creation->mr->mr = mr;
    creation->error = error;
    creation->done = true;
    if (!in_call) {
        creation_ended(pvrdma, creation);
        pthread_mutex_unlock(&pvrdma->lock);
    }
}

void pvr_command_forget(struct pvrdma *pvrdma)
{
    struct pvr_creation *creation = pvrdma->creation;

    if (!creation)
        return;
    pvrdma->creation = NULL;
    creation->forgotten = true;
    if (creation->done)
        creation_ended(pvrdma, creation);
}

void pvr_command_resume(struct pvrdma *pvrdma)
{
    if (pvrdma->creation && pvrdma->creation->done)
        creation_ended(pvrdma, pvrdma->creation);
}

void pvr_command_abandon(struct pvr_creation *creation)
{
    creation->forgotten = true;
    creation->mr = NULL;
}

void pvr_command_abandon_mr(struct pvrdma *pvrdma, const struct pvr_mr *mr)
{
    for (guint i = 0; i < pvrdma->creations->len; i++) {
        struct pvr_creation *creation = g_ptr_array_index(pvrdma->creations, i);

        if (creation->mr == mr)
            pvr_command_abandon(creation);
    }
}

void pvr_command_cancelled(void *opaque)
{
    struct pvr_creation *creation = opaque;

    g_ptr_array_remove_fast(creation->pvrdma->creations, creation);
}

/* USER: the region's pages, counted here and by the driver, must be as many. */
static int mr_attributes(struct pvrdma *pvrdma, const struct pvr_cmd_create_mr *cmd,
                         struct rdma_mr_attributes *a)
{
    uint64_t pages;

    a->access = cmd->access_flags & PVR_ACCESS_ALL;
    if (cmd->flags == PVR_MR_DMA) {
        a->type = RDMA_MR_DMA;
        return 0;
    }
    if (cmd->flags == PVR_MR_FRMR) {
        a->type = RDMA_MR_FAST;
        a->page_count = cmd->nchunks;
        return cmd->nchunks && cmd->nchunks <= pvrdma->limits.max_fast_reg_pages ? 0 : -EINVAL;
    }
    if (cmd->flags || cmd->access_flags & (PVR_ACCESS_ZERO_BASED | PVR_ACCESS_ON_DEMAND))
        return -EINVAL;
    if (!cmd->length || cmd->length > pvrdma->limits.max_mr_size ||
        cmd->start + cmd->length - 1 < cmd->start)
        return -EINVAL;
    pages = (cmd->start % PVR_PAGE_SIZE + cmd->length + PVR_PAGE_SIZE - 1) / PVR_PAGE_SIZE;
    if (pages != cmd->nchunks)
        return -EINVAL;
    a->type = RDMA_MR_USER;
    a->start = cmd->start;
    a->length = cmd->length;
    a->page_count = cmd->nchunks;
    return guest_pages_read(pvrdma_dma(pvrdma), cmd->pdir_dma, cmd->nchunks, &a->pages);
}

static int create_mr(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    struct pvr_pd *pd = pvr_handles_get(&pvrdma->pds, req->create_mr.pd_handle);
    struct rdma_mr_attributes attributes = {0};
    struct pvr_creation *creation;
    struct pvr_mr *mr;
    int ret;

    if (!pd)
        return -EINVAL;
    /* All of guest memory is for the kernel alone. */
    if (req->create_mr.flags == PVR_MR_DMA && pd->uar->page != 0)
        return -EPERM;
    ret = mr_attributes(pvrdma, &req->create_mr, &attributes);
    if (ret)
        return ret;
    mr = g_new0(struct pvr_mr, 1);
    mr->pd = pd;
    mr->handle = pvr_handles_add(&pvrdma->mrs, mr);
    if (mr->handle == PVRDMA_NO_HANDLE) {
        g_free(attributes.pages);
        g_free(mr);
        return -ENOSPC;
    }
    creation = g_new0(struct pvr_creation, 1);
    *creation = (struct pvr_creation){pvrdma, mr, pthread_self(), .in_call = true};
    g_ptr_array_add(pvrdma->creations, creation);
    ret = rdma_create_mr(pd->pd, mr->handle, &attributes, mr_done, creation);
    creation->in_call = false;
    if (!ret && !creation->done) {
        pvrdma->creation = creation;
        return PENDING;
    }
    if (!ret)
        ret = creation->error;
    if (ret)
        remove_mr(pvrdma, mr);
    else
        fill_mr(mr, resp);
    g_ptr_array_remove_fast(pvrdma->creations, creation);
    return ret;
}

static int destroy_mr(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    return pvr_mr_destroy(pvrdma, req->handle.handle);
}

/* ---- queues ---- */

static int create_cq(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    resp->create_cq.cqe = req->create_cq.cqe;
    return pvr_cq_create(pvrdma, &req->create_cq, &resp->create_cq.cq_handle);
}

static int destroy_cq(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    return pvr_cq_destroy(pvrdma, req->handle.handle);
}

static int create_srq(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    return pvr_srq_create(pvrdma, &req->create_srq, &resp->handle.handle);
}

static int destroy_srq(struct pvrdma *pvrdma, const union pvr_request *req,
                       union pvr_response *resp)
{
    return pvr_srq_destroy(pvrdma, req->handle.handle);
}

static int modify_srq(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    const struct pvr_cmd_modify_srq *cmd = &req->modify_srq;
    struct pvr_srq *srq = pvr_handles_get(&pvrdma->srqs, cmd->srq_handle);

    if (!srq)
        return -ENOENT;
    if (cmd->attr_mask != PVR_SRQ_LIMIT || cmd->attrs.srq_limit > srq->ring.entries)
        return -EINVAL;
    srq->known = true;
    /* The limit counts from all that is posted: a part of it could be below, and tell too early. */
    pvr_work_serve_all_of_srq(pvrdma, srq);
    return rdma_set_srq_limit(srq->srq, cmd->attrs.srq_limit);
}

static int query_srq(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    struct pvr_srq *srq = pvr_handles_get(&pvrdma->srqs, req->handle.handle);
    struct pvr_srq_attr *attrs = &resp->query_srq.attrs;
    uint32_t max_wr, max_sge, limit;
    int ret = srq ? rdma_query_srq(srq->srq, &max_wr, &max_sge, &limit) : -ENOENT;

    if (!ret)
        *attrs = (struct pvr_srq_attr){srq->ring.entries, srq->max_sge, limit, 0};
    return ret;
}

/* ---- queue pairs ---- */

static int create_qp(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    const struct pvr_cmd_create_qp *cmd = &req->create_qp;
    struct pvr_qp *qp;
    int ret = pvr_qp_create(pvrdma, cmd, &qp);

    if (ret)
        return ret;
    if (qp->srq)
        pvr_work_serve_srq(pvrdma, qp->srq); /* what was posted before it was known */
    if (pvrdma->version >= PVR_VERSION_HANDLES) {
        resp->create_qp_v2.qpn = rdma_qp_qpn(qp->qp);
        resp->create_qp_v2.qp_handle = qp->handle;
        resp->create_qp_v2.max_send_wr = cmd->max_send_wr;
        resp->create_qp_v2.max_recv_wr = cmd->max_recv_wr;
        resp->create_qp_v2.max_send_sge = cmd->max_send_sge;
        resp->create_qp_v2.max_recv_sge = cmd->max_recv_sge;
    } else {
        resp->create_qp.qpn = qp->handle;
        resp->create_qp.max_send_wr = cmd->max_send_wr;
        resp->create_qp.max_recv_wr = cmd->max_recv_wr;
        resp->create_qp.max_send_sge = cmd->max_send_sge;
        resp->create_qp.max_recv_sge = cmd->max_recv_sge;
    }
    return 0;
}

static int destroy_qp(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    return pvr_qp_destroy(pvrdma, req->handle.handle);
}

/* The driver's attribute bits and the backend's; the first ones are the same in both. */
static const struct {
    uint32_t ours, theirs;
} attribute_bits[] = {
    {PVR_QP_STATE, RDMA_QP_STATE},
    {PVR_QP_CUR_STATE, RDMA_QP_CURRENT_STATE},
    {PVR_QP_EN_SQD_ASYNC_NOTIFY, RDMA_QP_SQD_NOTIFY},
    {PVR_QP_ACCESS_FLAGS, RDMA_QP_ACCESS},
    {PVR_QP_PKEY_INDEX, RDMA_QP_PKEY_INDEX},
    {PVR_QP_PORT, RDMA_QP_PORT},
    {PVR_QP_QKEY, RDMA_QP_QKEY},
    {PVR_QP_AV, RDMA_QP_AV},
    {PVR_QP_PATH_MTU, RDMA_QP_PATH_MTU},
    {PVR_QP_TIMEOUT, RDMA_QP_TIMEOUT},
    {PVR_QP_RETRY_CNT, RDMA_QP_RETRY_COUNT},
    {PVR_QP_RNR_RETRY, RDMA_QP_RNR_RETRY},
    {PVR_QP_RQ_PSN, RDMA_QP_RQ_PSN},
    {PVR_QP_MAX_QP_RD_ATOMIC, RDMA_QP_MAX_RD_ATOMIC},
    {PVR_QP_MIN_RNR_TIMER, RDMA_QP_MIN_RNR_TIMER},
    {PVR_QP_SQ_PSN, RDMA_QP_SQ_PSN},
    {PVR_QP_MAX_DEST_RD_ATOMIC, RDMA_QP_MAX_DEST_RD_ATOMIC},
    {PVR_QP_DEST_QPN, RDMA_QP_DEST_QPN},
};

static void av_from_ah(const struct pvr_ah_attr *ah, struct rdma_av *av)
{
    memcpy(av->dgid.raw, ah->grh.dgid, sizeof(av->dgid.raw));
    memcpy(av->dmac, ah->dmac, sizeof(av->dmac));
    av->flow_label = ah->grh.flow_label & 0xfffff;
    av->sgid_index = ah->grh.sgid_index;
    av->hop_limit = ah->grh.hop_limit;
    av->traffic_class = ah->grh.traffic_class;
    av->sl = ah->sl;
}

static void av_to_ah(const struct rdma_av *av, struct pvr_ah_attr *ah)
{
    memcpy(ah->grh.dgid, av->dgid.raw, sizeof(av->dgid.raw));
    memcpy(ah->dmac, av->dmac, sizeof(av->dmac));
    ah->grh.flow_label = av->flow_label;
    ah->grh.sgid_index = av->sgid_index;
    ah->grh.hop_limit = av->hop_limit;
    ah->grh.traffic_class = av->traffic_class;
    ah->sl = av->sl;
    ah->ah_flags = 1; /* a global route: on Ethernet there always is one */
    ah->port_num = 1;
}

static int attributes_from_driver(const struct pvr_qp_attr *attrs, uint32_t mask,
                                  struct rdma_qp_attributes *a, uint32_t *result)
{
    /* There is one path. A driver that asks for its migration state gets the only one there is. */
    if (mask & (PVR_QP_ALT_PATH | PVR_QP_CAP | ~(uint32_t)PVR_QP_MASK_ALL))
        return -EINVAL;
    if (attrs->qp_state > RDMA_QPS_ERR || attrs->cur_qp_state > RDMA_QPS_ERR ||
        attrs->path_mtu > RDMA_MTU_4096)
        return -EINVAL;
    *result = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(attribute_bits); i++)
        if (mask & attribute_bits[i].ours)
            *result |= attribute_bits[i].theirs;
    *a = (struct rdma_qp_attributes){
        .state = attrs->qp_state,
        .current_state = attrs->cur_qp_state,
        .sqd_notify = attrs->en_sqd_async_notify,
        .access = attrs->qp_access_flags & PVR_ACCESS_ALL & ~(uint32_t)PVR_ACCESS_LOCAL_WRITE,
        .pkey_index = attrs->pkey_index,
        .port = attrs->port_num,
        .qkey = attrs->qkey,
        .path_mtu = attrs->path_mtu,
        .timeout = attrs->timeout,
        .retry_count = attrs->retry_cnt,
        .rnr_retry = attrs->rnr_retry,
        .rq_psn = attrs->rq_psn & 0xffffff,
        .sq_psn = attrs->sq_psn & 0xffffff,
        .max_rd_atomic = attrs->max_rd_atomic,
        .max_dest_rd_atomic = attrs->max_dest_rd_atomic,
        .min_rnr_timer = attrs->min_rnr_timer,
        .dest_qpn = attrs->dest_qp_num & 0xffffff,
    };
    av_from_ah(&attrs->ah_attr, &a->av);
    return 0;
}

static int modify_qp(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    const struct pvr_cmd_modify_qp *cmd = &req->modify_qp;
    struct pvr_qp *qp = pvr_qp_find(pvrdma, cmd->qp_handle);
    struct rdma_qp_attributes attributes;
    uint32_t mask;
    int ret;

    if (!qp)
        return -ENOENT;
    ret = attributes_from_driver(&cmd->attrs, cmd->attr_mask, &attributes, &mask);
    if (!ret)
        ret = rdma_modify_qp(qp->qp, &attributes, mask);
    if (ret)
        return ret;
    if (mask & RDMA_QP_QKEY)
        qp->qkey = attributes.qkey;
    if (mask & RDMA_QP_STATE) {
        qp->state = attributes.state;
        qp->failed = qp->failed && qp->state != RDMA_QPS_RESET;
    }
    pvr_work_serve_qp(pvrdma, qp); /* what was posted before the state allowed it */
    return 0;
}

static int query_qp(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp)
{
    struct pvr_qp *qp = pvr_qp_find(pvrdma, req->query_qp.qp_handle);
    struct pvr_qp_attr *attrs = &resp->query_qp.attrs;
    struct rdma_qp_attributes a;
    int ret = qp ? rdma_query_qp(qp->qp, &a) : -ENOENT;

    if (ret)
        return ret;
    *attrs = (struct pvr_qp_attr){
        .qp_state = a.state,
        .cur_qp_state = a.state,
        .path_mtu = a.path_mtu,
        .qkey = a.qkey,
        .rq_psn = a.rq_psn,
        .sq_psn = a.sq_psn,
        .dest_qp_num = a.dest_qpn,
        .qp_access_flags = a.access | PVR_ACCESS_LOCAL_WRITE,
        .pkey_index = a.pkey_index,
        .en_sqd_async_notify = a.sqd_notify,
        .sq_draining = a.sq_draining,
        .max_rd_atomic = a.max_rd_atomic,
        .max_dest_rd_atomic = a.max_dest_rd_atomic,
        .min_rnr_timer = a.min_rnr_timer,
        .port_num = a.port,
        .timeout = a.timeout,
        .retry_cnt = a.retry_count,
        .rnr_retry = a.rnr_retry,
        .cap = qp->cap,
    };
    av_to_ah(&a.av, &attrs->ah_attr);
    return 0;
}

/* ---- the slot ---- */

struct command {
    const char *name;
    int (*run)(struct pvrdma *pvrdma, const union pvr_request *req, union pvr_response *resp);
    bool answers;
};

static const struct command commands[PVR_COMMANDS] = {
    [PVR_CMD_QUERY_PORT] = {"QUERY_PORT", query_port, true},
    [PVR_CMD_QUERY_PKEY] = {"QUERY_PKEY", query_pkey, true},
    [PVR_CMD_CREATE_PD] = {"CREATE_PD", create_pd, true},
    [PVR_CMD_DESTROY_PD] = {"DESTROY_PD", destroy_pd},
    [PVR_CMD_CREATE_MR] = {"CREATE_MR", create_mr, true},
    [PVR_CMD_DESTROY_MR] = {"DESTROY_MR", destroy_mr},
    [PVR_CMD_CREATE_CQ] = {"CREATE_CQ", create_cq, true},
    [PVR_CMD_RESIZE_CQ] = {"RESIZE_CQ", NULL},
    [PVR_CMD_DESTROY_CQ] = {"DESTROY_CQ", destroy_cq},
    [PVR_CMD_CREATE_QP] = {"CREATE_QP", create_qp, true},
    [PVR_CMD_MODIFY_QP] = {"MODIFY_QP", modify_qp, true},
    [PVR_CMD_QUERY_QP] = {"QUERY_QP", query_qp, true},
    [PVR_CMD_DESTROY_QP] = {"DESTROY_QP", destroy_qp},
    [PVR_CMD_CREATE_UC] = {"CREATE_UC", create_uc, true},
    [PVR_CMD_DESTROY_UC] = {"DESTROY_UC", destroy_uc},
    [PVR_CMD_CREATE_BIND] = {"CREATE_BIND", create_bind},
    [PVR_CMD_DESTROY_BIND] = {"DESTROY_BIND", destroy_bind},
    [PVR_CMD_CREATE_SRQ] = {"CREATE_SRQ", create_srq, true},
    [PVR_CMD_MODIFY_SRQ] = {"MODIFY_SRQ", modify_srq},
    [PVR_CMD_QUERY_SRQ] = {"QUERY_SRQ", query_srq, true},
    [PVR_CMD_DESTROY_SRQ] = {"DESTROY_SRQ", destroy_srq},
};

const char *pvr_command_name(uint32_t command)
{
    return command < PVR_COMMANDS ? commands[command].name : "unknown";
}

void pvr_command_run(struct pvrdma *pvrdma)
{
    union pvr_request req;
    union pvr_response resp = {0};
    const struct command *command;
    int ret = -EOPNOTSUPP;

    pvr_command_forget(pvrdma);
    if (!pvrdma->ready || !pvrdma->active) {
        pvrdma->error = ENODEV;
        pvrdma_guest_error(pvrdma, "a command before the device is active");
        return;
    }
    if (dma_read(pvrdma_dma(pvrdma), pvrdma->command_slot, &req, sizeof(req)) ||
        dma_write(pvrdma_dma(pvrdma), pvrdma->response_slot, &resp, sizeof(resp))) {
        pvrdma->error = EFAULT;
        return;
    }
    command = req.hdr.cmd < PVR_COMMANDS ? &commands[req.hdr.cmd] : NULL;
    resp.hdr.response = req.hdr.response;
    if (command && command->run)
        ret = command->run(pvrdma, &req, &resp);
    trace_pvrdma_command(pvrdma->function.device.name, pvr_command_name(req.hdr.cmd), ret);
    if (ret < 0) {
        log_debug(pvrdma->function.device.name, "command %u (%s) failed: %s", req.hdr.cmd,
                  pvr_command_name(req.hdr.cmd), g_strerror(-ret));
        if (req.hdr.cmd == PVR_CMD_MODIFY_QP)
            resp.hdr.err = (uint8_t)-ret;
        else
            pvrdma->error = (uint32_t)-ret;
    }
    if (pvrdma->error || ret == PENDING || !command->answers)
        return;
    answer(pvrdma, req.hdr.cmd, &resp);
}
