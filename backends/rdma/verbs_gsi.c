/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verbs_gsi - QP 1 of a guest, without the host's (backends/rdma/verbs.h)
 *
 * ib_core keeps QP 1 of the host's device for itself, and hands out the messages of the connection
 * manager to one user at most, which is the host's own rdma_cm. So datagrams to QP 1 go another way: each
 * GID of a guest is the name of an abstract UNIX socket of this network namespace ("lodge-rdma-gsi-" and
 * the GID in hexadecimal), where whoever has a datagram for it sends it. Guests of one host find each
 * other like this, and themselves, without a daemon between them; rdma_cm works among them. The queue
 * pairs that it connects are the host's.
 *
 * What a socket brings is as trustworthy as what a network brings: sizes are checked, the rest is the
 * guest's to judge. Only the keys of DMA regions can be used here, as the kernel's MAD layer does.
 *
 * Limits: no connections by rdma_cm to the host itself or to other hosts; ibv_*_pingpong and perftest
 * without -R exchange what they need themselves, and reach anybody.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/rdma/verbs.h"
#include "vmm/fd.h"

#define MAGIC       0x31495347u /* "GSI1" */
#define MAX_PAYLOAD 4096u
#define MAX_TURN    64 /* datagrams taken at once */

/* In the byte order of this machine: it does not leave it. */
struct gsi_head {
    uint32_t magic, qkey;
    uint8_t sgid[16], dgid[16], smac[6];
    uint8_t gid_type, traffic_class, hop_limit, solicited;
    uint32_t flow_label;
};

struct gsi_packet {
    struct gsi_head head;
    uint8_t payload[MAX_PAYLOAD];
};

struct gsi_receive {
    uint64_t wr_id;
    uint32_t num_sge;
    struct rdma_sge sge[];
};

struct gsi_socket {
    struct verbs *verbs;
    union rdma_gid gid;
    struct loop_fd *watch; /* NULL: not open yet, or it can't be */
    int fd;
    bool closed;
};

/* ---- guest memory ---- */

/* Copies between @data and the pieces from byte @skip on. False: not of a DMA region, or not there. */
static bool copy(struct verbs_qp *qp, const struct rdma_sge *sge, uint32_t num_sge, uint8_t *data,
                 uint32_t size, bool to_guest)
{
    struct verbs_pd *pd = (struct verbs_pd *)qp->qp.pd;
    struct dma *dma = qp->qp.object.rdma->dma;

    for (uint32_t i = 0; i < num_sge && size; i++) {
        uint32_t part = MIN(sge[i].length, size);
        if (!part)
            continue;
        if (!pd->dma || sge[i].lkey != VERBS_DMA_KEY)
            return false;
        if (to_guest ? dma_write(dma, sge[i].addr, data, part)
                     : dma_read(dma, sge[i].addr, data, part))
            return false;
        data += part;
        size -= part;
    }
    return size == 0;
}

static uint64_t total(const struct rdma_sge *sge, uint32_t num_sge)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < num_sge; i++)
        size += sge[i].length;
    return size;
}

/* ---- receiving ---- */

static struct verbs_qp *find_gsi(struct verbs *verbs)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, verbs->rdma.objects[RDMA_OBJECT_QP]);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((struct rdma_qp *)value)->create.type == RDMA_QP_GSI)
            return value;
    return NULL;
}

static void complete_receive(struct verbs_qp *qp, struct rdma_wc *wc)
{
    g_autofree struct gsi_receive *receive = g_queue_pop_head(&qp->receives);

    wc->wr_id = receive->wr_id;
    wc->qp = qp->qp.object.number;
    wc->opcode = RDMA_WC_RECV;
    verbs_inject(qp->qp.create.recv_cq, wc);
    if (qp->qp.wants_room) {
        qp->qp.wants_room = false;
        rdma_notify(&qp->qp.object, RDMA_NOTE_ROOM);
    }
}

/* A datagram of @size payload bytes into the next receive, or nowhere. */
static void deliver(struct verbs *verbs, struct gsi_packet *packet, uint32_t size)
{
    struct verbs_qp *qp = find_gsi(verbs);
    struct rdma_gid_entry from = {.used = true, .type = packet->head.gid_type};
    struct rdma_av av = {
        .flow_label = packet->head.flow_label & 0xfffff,
        .hop_limit = packet->head.hop_limit,
        .traffic_class = packet->head.traffic_class,
    };
    uint8_t bytes[RDMA_GRH_SIZE + MAX_PAYLOAD];
    struct rdma_wc wc = {.byte_len = RDMA_GRH_SIZE + size,
                         .src_qp = RDMA_QPN_GSI,
                         .flags = RDMA_WC_GRH | RDMA_WC_SMAC};

    if (!qp || qp->qp.attributes.state < RDMA_QPS_RTR || qp->qp.attributes.state == RDMA_QPS_ERR ||
        packet->head.qkey != qp->qp.attributes.qkey || !qp->receives.length)
        return;
    memcpy(from.gid.raw, packet->head.sgid, sizeof(from.gid.raw));
    memcpy(av.dgid.raw, packet->head.dgid, sizeof(av.dgid.raw));
    memcpy(wc.smac, packet->head.smac, sizeof(wc.smac));
    if (rdma_find_gid(&verbs->rdma, &av.dgid) < 0)
        return;
    rdma_network_header(bytes, &from, &av, size, &wc.network_type);
    memcpy(bytes + RDMA_GRH_SIZE, packet->payload, size);
    if (packet->head.solicited)
        wc.flags |= RDMA_WC_SOLICITED;
    const struct gsi_receive *receive = g_queue_peek_head(&qp->receives);
    if (total(receive->sge, receive->num_sge) < wc.byte_len)
        wc.status = RDMA_WC_LOC_LEN_ERR;
    else if (!copy(qp, receive->sge, receive->num_sge, bytes, wc.byte_len, true))
        wc.status = RDMA_WC_LOC_PROT_ERR;
    complete_receive(qp, &wc);
    if (wc.status) {
        qp->qp.attributes.state = RDMA_QPS_ERR;
        verbs_gsi_modify(qp);
    }
}

static void socket_ready(void *opaque, GIOCondition ready)
{
    struct gsi_socket *gsi = opaque;
    struct verbs *verbs = gsi->verbs;
    struct gsi_packet packet;

    g_mutex_lock(&verbs->rdma.lock);
    for (unsigned i = 0; verbs->rdma.running && i < MAX_TURN; i++) {
        ssize_t got = recv(gsi->fd, &packet, sizeof(packet), MSG_DONTWAIT | MSG_TRUNC);
        if (got < 0)
            break;
        if (got >= (ssize_t)sizeof(packet.head) && got <= (ssize_t)sizeof(packet) &&
            packet.head.magic == MAGIC)
            deliver(verbs, &packet, got - sizeof(packet.head));
    }
    g_mutex_unlock(&verbs->rdma.lock);
}

/* ---- sockets ---- */

static socklen_t name_of(const uint8_t gid[16], struct sockaddr_un *address)
{
    static const char prefix[] = "lodge-rdma-gsi-";
    char *at = address->sun_path + 1; /* abstract: the first byte is 0 */

    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    at += g_strlcpy(at, prefix, sizeof(address->sun_path) - 1);
    for (unsigned i = 0; i < 16; i++)
        at += g_snprintf(at, 3, "%02x", gid[i]);
    return (socklen_t)(at - (char *)address);
}

static void open_socket(struct gsi_socket *gsi)
{
    struct verbs *verbs = gsi->verbs;
    struct sockaddr_un address;
    socklen_t size = name_of(gsi->gid.raw, &address);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0) {
        log_warn("rdma", "%s: rdma_cm will not reach the guest by one of its GIDs: %s",
                 verbs->device,
                 errno == EADDRINUSE ? "another guest of this host has it too" : g_strerror(errno));
        close_fd(fd);
        return;
    }
    gsi->fd = fd;
    gsi->watch = loop_fd_create(verbs->rdma.loop, fd, G_IO_IN, socket_ready, gsi);
}

/* Once it is closed the adapter may be gone; that happens on this thread, too. */
static void open_on_loop(void *opaque)
{
    struct gsi_socket *gsi = opaque;

    if (__atomic_load_n(&gsi->closed, __ATOMIC_ACQUIRE))
        return;
    g_mutex_lock(&gsi->verbs->rdma.lock);
    open_socket(gsi);
    g_mutex_unlock(&gsi->verbs->rdma.lock);
}

/* Sockets are opened where they are closed, in that order: a GID that goes and comes back at once would
 * find its own address taken. */
struct gsi_socket *verbs_gsi_listen(struct verbs *verbs, const union rdma_gid *gid)
{
    struct gsi_socket *gsi = g_new0(struct gsi_socket, 1);

    gsi->verbs = verbs;
    gsi->gid = *gid;
    gsi->fd = -1;
    loop_defer(verbs->rdma.loop, open_on_loop, gsi);
    return gsi;
}

static void close_on_loop(void *opaque)
{
    struct gsi_socket *gsi = opaque;

    loop_fd_destroy(gsi->watch);
    close_fd(gsi->fd);
    g_free(gsi);
}

void verbs_gsi_close(struct gsi_socket *gsi)
{
    if (!gsi)
        return;
    __atomic_store_n(&gsi->closed, true, __ATOMIC_RELEASE);
    if (gsi->watch)
        loop_fd_set_events(gsi->watch, 0);
    loop_defer(gsi->verbs->rdma.loop, close_on_loop, gsi);
}

/* ---- posting ---- */

static enum rdma_wc_status send_packet(struct verbs *verbs, struct verbs_qp *qp,
                                       const struct rdma_send_wr *wr)
{
    const struct rdma *rdma = &verbs->rdma;
    const struct rdma_av *av = &wr->ud.av;
    uint64_t size = total(wr->sge, wr->num_sge);
    struct sockaddr_un address;
    struct gsi_packet packet = {
        .head = {.magic = MAGIC,
                 .qkey = wr->ud.qkey & 0x80000000 ? qp->qp.attributes.qkey : wr->ud.qkey,
                 .traffic_class = av->traffic_class,
                 .hop_limit = av->hop_limit,
                 .flow_label = av->flow_label,
                 .solicited = !!(wr->flags & RDMA_SEND_SOLICITED)},
    };

    if (wr->opcode != RDMA_WR_SEND)
        return RDMA_WC_LOC_QP_OP_ERR;
    if (size > MAX_PAYLOAD)
        return RDMA_WC_LOC_LEN_ERR;
    if (!copy(qp, wr->sge, wr->num_sge, packet.payload, size, false))
        return RDMA_WC_LOC_PROT_ERR;
    if (av->sgid_index >= rdma->limits.gid_entries || !rdma->gids[av->sgid_index].used ||
        wr->ud.qpn != RDMA_QPN_GSI)
        return RDMA_WC_SUCCESS; /* and lost */
    const struct rdma_gid_entry *from = &rdma->gids[av->sgid_index];
    packet.head.gid_type = from->type;
    memcpy(packet.head.sgid, from->gid.raw, sizeof(packet.head.sgid));
    memcpy(packet.head.dgid, av->dgid.raw, sizeof(packet.head.dgid));
    memcpy(packet.head.smac, from->mac, sizeof(packet.head.smac));
    int index = rdma_find_gid(rdma, &av->dgid);
    socklen_t length = name_of(av->dgid.raw, &address);
    int fd = verbs->gids[av->sgid_index].socket ? verbs->gids[av->sgid_index].socket->fd : -1;
    if (index >= 0)
        deliver(verbs, &packet, size);
    else if (fd >= 0 && sendto(fd, &packet, sizeof(packet.head) + size, MSG_DONTWAIT | MSG_NOSIGNAL,
                               (struct sockaddr *)&address, length) < 0)
        log_debug("rdma", "%s: a datagram to QP 1 is lost: %s", verbs->device, g_strerror(errno));
    return RDMA_WC_SUCCESS;
}

int verbs_gsi_send(struct verbs_qp *qp, const struct rdma_send_wr *wr)
{
    struct rdma_wc wc = {.wr_id = wr->wr_id, .qp = qp->qp.object.number};

    if (qp->qp.attributes.state == RDMA_QPS_ERR || qp->qp.attributes.state == RDMA_QPS_SQE)
        wc.status = RDMA_WC_WR_FLUSH_ERR;
    else if (wr->num_sge > qp->qp.create.max_send_sge)
        wc.status = RDMA_WC_LOC_QP_OP_ERR;
    else
        wc.status = send_packet(verbs_of(qp->qp.object.rdma), qp, wr);
    if (wc.status && qp->qp.attributes.state != RDMA_QPS_ERR)
        qp->qp.attributes.state = RDMA_QPS_SQE;
    if (wc.status || qp->qp.create.signal_all || (wr->flags & RDMA_SEND_SIGNALED))
        verbs_inject(qp->qp.create.send_cq, &wc);
    return 0;
}

int verbs_gsi_post_recv(struct verbs_qp *qp, const struct rdma_recv_wr *wr)
{
    if (qp->receives.length >= qp->qp.create.max_recv_wr)
        return -ENOMEM;
    uint32_t num_sge = MIN(wr->num_sge, qp->qp.create.max_recv_sge);
    struct gsi_receive *receive = g_malloc(sizeof(*receive) + num_sge * sizeof(struct rdma_sge));
    receive->wr_id = wr->wr_id;
    receive->num_sge = num_sge;
    if (num_sge)
        memcpy(receive->sge, wr->sge, num_sge * sizeof(struct rdma_sge));
    g_queue_push_tail(&qp->receives, receive);
    return verbs_gsi_modify(qp);
}

int verbs_gsi_modify(struct verbs_qp *qp)
{
    enum rdma_qp_state state = qp->qp.attributes.state;

    if (state == RDMA_QPS_RESET) {
        g_queue_clear_full(&qp->receives, g_free);
        verbs_forget_completions(qp->qp.create.send_cq, qp->qp.object.number);
        verbs_forget_completions(qp->qp.create.recv_cq, qp->qp.object.number);
    }
    while (state == RDMA_QPS_ERR && qp->receives.length) {
        struct rdma_wc wc = {.status = RDMA_WC_WR_FLUSH_ERR};
        complete_receive(qp, &wc);
    }
    return 0;
}
