/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net - the virtio network device (virtio 1.3, 5.1; stock driver: virtio_net)
 *
 * Up to 64 queue pairs, all on the device's loop; a control queue (net_control.c). Transmit passes the
 * guest's buffers to the backend as they are, header first. Receive pops buffers ahead until they hold
 * any frame there can be, and lets the backend read straight into them; what was not used stays ready
 * for the next frame. While the guest has too few buffers for that, a frame is read aside and copied
 * when there is room, and the backend is told to wait.
 *
 * Offloads: the backend either passes large and unchecked frames through (tap) or makes them ordinary
 * (backends/net/offload.c), so transmit offloads are always offered; receive offloads only with tap.
 *
 * Limits: a frame of 64 KiB; one loop for all queues.
 */
#include "virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <gio/gio.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

#include "virtio/net_private.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_net_transmit, "%s pair=%u bytes=%zd",
            (const char *device, unsigned pair, ssize_t bytes), device, pair, bytes)
TRACE_EVENT(virtio_net_receive, "%s pair=%u bytes=%zd buffers=%u",
            (const char *device, unsigned pair, ssize_t bytes, unsigned buffers), device, pair,
            bytes, buffers)

#define BIT(n)            (UINT64_C(1) << (n))
#define BATCH             64u /* frames of one queue before others get their turn */
#define PCI_CLASS_NETWORK 0x020000u

const struct option_spec virtio_net_options[] = {
    NET_OPTIONS,
    {"mac", OPTION_MAC, .help = "the guest's address (default: a random one)"},
    {"offloads", OPTION_BOOL, .value = "on", .help = "offer checksum and segmentation offloads"},
    VIRTIO_DEVICE_OPTIONS,
    {},
};

/* ---- transmit ---- */

/* One frame; false when the queue is done for now. */
static bool transmit_one(struct virtio_net *vnet, struct virtq *vq, unsigned pair)
{
    struct virtq_element *element = vnet->transmit;
    ssize_t sent;

    if (virtq_pop(vq, element) != 1)
        return false;
    if (element->out_bytes <= NET_HEADER_SIZE) {
        log_guest(&vnet->vdev.device->guest_errors, vnet->vdev.device->name,
                  "a frame of %" G_GUINT64_FORMAT " bytes is shorter than its header",
                  element->out_bytes);
        sent = -EINVAL;
    } else if (!vnet->link || !vnet->net->link_up) {
        sent = -ENOTCONN; /* into the void, as from an unplugged card */
    } else {
        sent = net_send(vnet->net, pair, virtq_out(element), element->out_count);
    }
    trace_virtio_net_transmit(vnet->vdev.device->name, pair, sent);
    if (sent == -EAGAIN) {
        virtq_unpop(vq, element);
        vnet->transmit_blocked[pair] = true;
        return false;
    }
    virtq_push(vq, element, 0);
    return true;
}

static void transmit(struct virtio_net *vnet, unsigned pair)
{
    unsigned index = 2 * pair + 1;
    struct virtq *vq = virtio_device_queue(&vnet->vdev, index);
    unsigned done = 0;

    if (vnet->transmit_blocked[pair])
        return;
    virtq_disable_notify(vq);
    while (done < BATCH && transmit_one(vnet, vq, pair))
        done++;
    if (done)
        virtq_flush(vq);
    /* A blocked queue is looked at when the backend has room; until then no doorbell is needed. */
    if (done == BATCH || (!vnet->transmit_blocked[pair] && virtq_enable_notify(vq)))
        virtio_device_kick(&vnet->vdev, index);
}

/* ---- receive ---- */

static struct virtq_element *posted_at(struct net_receive_queue *queue, unsigned i)
{
    return queue->posted[(queue->first + i) % NET_POSTED];
}

/* Pops buffers until they hold @bytes or there are no more. */
static void post_buffers(struct virtio_net *vnet, struct net_receive_queue *queue, struct virtq *vq,
                         uint64_t bytes)
{
    while (queue->bytes < bytes && queue->count < NET_POSTED) {
        struct virtq_element *element = posted_at(queue, queue->count);
        int ret = virtq_pop(vq, element);

        if (ret != 1)
            return;
        if (element->in_bytes < NET_HEADER_SIZE) {
            virtq_unpop(vq, element);
            virtio_device_needs_reset(&vnet->vdev, "receive buffer shorter than the header");
            return;
        }
        queue->count++;
        queue->bytes += element->in_bytes;
    }
}

/* Gives what was popped ahead back, last first. */
static void unpost_buffers(struct virtio_net *vnet, unsigned pair)
{
    struct net_receive_queue *queue = &vnet->receive[pair];
    struct virtq *vq = virtio_device_queue(&vnet->vdev, 2 * pair);

    while (queue->count)
        virtq_unpop(vq, posted_at(queue, --queue->count));
    queue->bytes = 0;
}

/* The buffers' pieces as one list; how many. */
static unsigned gather(struct virtio_net *vnet, struct net_receive_queue *queue, uint64_t bytes)
{
    unsigned count = 0;

    for (unsigned i = 0; i < queue->count; i++) {
        struct virtq_element *element = posted_at(queue, i);

        if (count + element->in_count > NET_PIECES || !bytes)
            break;
        memcpy(vnet->pieces + count, virtq_in(element), element->in_count * sizeof(struct iovec));
        count += element->in_count;
        bytes -= MIN(bytes, element->in_bytes);
    }
    return count;
}

static void write_num_buffers(const struct iovec *iov, unsigned count, uint16_t value)
{
    size_t skip = offsetof(struct virtio_net_hdr_v1, num_buffers);
    uint8_t bytes[2] = {value & 0xff, value >> 8};

    for (unsigned byte = 0; byte < 2; byte++, skip++) {
        size_t offset = skip;
        unsigned i = 0;

        while (i < count && offset >= iov[i].iov_len)
            offset -= iov[i++].iov_len;
        if (i < count)
            ((uint8_t *)iov[i].iov_base)[offset] = bytes[byte];
    }
}

/* Pushes the buffers that @bytes of a frame fill; the others stay posted. */
static void push_frame(struct virtio_net *vnet, struct net_receive_queue *queue, struct virtq *vq,
                       unsigned pair, size_t bytes)
{
    struct virtq_element *first = posted_at(queue, 0);
    size_t left = bytes;
    uint16_t used = 0;

    for (size_t room = 0; room < bytes; used++)
        room += posted_at(queue, used)->in_bytes;
    write_num_buffers(virtq_in(first), first->in_count, used);
    trace_virtio_net_receive(vnet->vdev.device->name, pair, bytes, used);
    for (unsigned i = 0; i < used; i++) {
        struct virtq_element *element = posted_at(queue, i);
        size_t part = MIN(left, element->in_bytes);

        virtq_push(vq, element, part);
        queue->bytes -= element->in_bytes;
        left -= part;
    }
    queue->first = (queue->first + used) % NET_POSTED;
    queue->count -= used;
}

/* Copies the first bytes of the frame behind the header, for the filter. */
static size_t peek(const struct iovec *iov, unsigned count, size_t bytes, uint8_t *head,
                   size_t size)
{
    size_t skip = NET_HEADER_SIZE, done = 0;

    size = MIN(size, bytes - NET_HEADER_SIZE);
    for (unsigned i = 0; i < count && done < size; i++) {
        size_t part;

        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        part = MIN(iov[i].iov_len - skip, size - done);
        memcpy(head + done, (uint8_t *)iov[i].iov_base + skip, part);
        done += part;
        skip = 0;
    }
    return done;
}

static bool wanted(struct virtio_net *vnet, const struct iovec *iov, unsigned count, size_t bytes)
{
    uint8_t head[18];

    return vnet->link && bytes > NET_HEADER_SIZE &&
           net_filter_accepts(vnet, head, peek(iov, count, bytes, head, sizeof(head)));
}

enum received { RECEIVED, NOTHING, NO_BUFFERS };

/* The frame that was set aside into the guest's buffers, once they hold it. */
static enum received deliver_held(struct virtio_net *vnet, struct net_receive_queue *queue,
                                  struct virtq *vq, unsigned pair)
{
    bool merge = virtio_device_has(&vnet->vdev, VIRTIO_NET_F_MRG_RXBUF);
    unsigned count;
    size_t done = 0;

    post_buffers(vnet, queue, vq, queue->held_bytes);
    if (!queue->count || (merge && queue->bytes < queue->held_bytes))
        return NO_BUFFERS;
    if (!merge && posted_at(queue, 0)->in_bytes < queue->held_bytes) {
        queue->held_bytes = 0; /* larger than the driver said frames would be */
        vnet->net->dropped++;
        return RECEIVED;
    }
    count = gather(vnet, queue, queue->held_bytes);
    for (unsigned i = 0; i < count && done < queue->held_bytes; i++) {
        size_t part = MIN(vnet->pieces[i].iov_len, queue->held_bytes - done);

        memcpy(vnet->pieces[i].iov_base, queue->held + done, part);
        done += part;
    }
    push_frame(vnet, queue, vq, pair, done);
    queue->held_bytes = 0;
    return RECEIVED;
}

static enum received receive_aside(struct virtio_net *vnet, struct net_receive_queue *queue,
                                   struct virtq *vq, unsigned pair)
{
    struct iovec aside = {queue->held, NET_FRAME_BUFFER};
    ssize_t got = net_receive(vnet->net, pair, &aside, 1);

    if (got == 0)
        return NOTHING;
    if (got < 0 || !wanted(vnet, &aside, 1, got))
        return RECEIVED;
    queue->held_bytes = got;
    return deliver_held(vnet, queue, vq, pair);
}

static enum received receive_one(struct virtio_net *vnet, struct net_receive_queue *queue,
                                 struct virtq *vq, unsigned pair)
{
    bool merge = virtio_device_has(&vnet->vdev, VIRTIO_NET_F_MRG_RXBUF);
    uint64_t need = merge ? NET_FRAME_BUFFER : 1;
    unsigned count;
    ssize_t got;

    if (queue->held_bytes)
        return deliver_held(vnet, queue, vq, pair);
    post_buffers(vnet, queue, vq, need);
    if (!queue->count)
        return NO_BUFFERS;
    if (queue->bytes < need)
        return receive_aside(vnet, queue, vq, pair);
    count = gather(vnet, queue, merge ? NET_FRAME_BUFFER : 1);
    got = net_receive(vnet->net, pair, vnet->pieces, count);
    if (got == 0)
        return NOTHING;
    if (got > 0 && wanted(vnet, vnet->pieces, count, got))
        push_frame(vnet, queue, vq, pair, got);
    return RECEIVED;
}

static void receive(struct virtio_net *vnet, unsigned pair)
{
    struct net_receive_queue *queue = &vnet->receive[pair];
    struct virtq *vq = virtio_device_queue(&vnet->vdev, 2 * pair);
    enum received state = RECEIVED;
    unsigned done = 0;

    if (!vnet->vdev.started || pair >= vnet->active_pairs || !vq->enabled ||
        !device_is_running(vnet->vdev.device))
        return;
    virtq_disable_notify(vq);
    do {
        while (done < BATCH && (state = receive_one(vnet, queue, vq, pair)) == RECEIVED)
            done++;
    } while (state == NO_BUFFERS && virtq_enable_notify(vq));
    if (done)
        virtq_flush(vq);
    net_set_receiving(vnet->net, pair, state != NO_BUFFERS);
    if (done == BATCH)
        virtio_device_kick(&vnet->vdev, 2 * pair);
}

/* ---- the backend's callbacks ---- */

static void backend_readable(void *opaque, unsigned pair)
{
    receive(opaque, pair);
}

static void backend_writable(void *opaque, unsigned pair)
{
    struct virtio_net *vnet = opaque;

    vnet->transmit_blocked[pair] = false;
    if (vnet->vdev.started && pair < vnet->active_pairs)
        transmit(vnet, pair);
}

static void update_link(struct virtio_net *vnet)
{
    uint16_t status = htole16(vnet->link && vnet->net->link_up ? VIRTIO_NET_S_LINK_UP : 0);

    virtio_device_set_config(&vnet->vdev, offsetof(struct virtio_net_config, status), &status,
                             sizeof(status), true);
}

static void backend_link_changed(void *opaque, bool up)
{
    update_link(opaque);
}

static const struct net_client_ops backend_client = {
    .readable = backend_readable,
    .writable = backend_writable,
    .link_changed = backend_link_changed,
};

struct link_change {
    struct virtio_net *vnet;
    bool up;
};

static void change_link(void *opaque)
{
    struct link_change *change = opaque;

    change->vnet->link = change->up;
    update_link(change->vnet);
}

void virtio_net_set_link(struct virtio_device *vdev, bool up)
{
    struct link_change change = {(struct virtio_net *)vdev, up};

    loop_call(vdev->loop, change_link, &change);
}

/* ---- life ---- */

/* The backend watches for frames, or not, on the pairs in use. */
static void set_active(struct virtio_net *vnet, bool on)
{
    for (unsigned i = 0; i < vnet->pairs; i++) {
        vnet->transmit_blocked[i] = false;
        net_set_active(vnet->net, i, vnet->vdev.loop, on && i < vnet->active_pairs);
    }
}

int net_use_pairs(struct virtio_net *vnet, unsigned pairs)
{
    for (unsigned i = 0; i < vnet->pairs; i++) {
        int ret = net_set_used(vnet->net, i, i < pairs);

        if (ret)
            return ret;
        if (i >= pairs)
            unpost_buffers(vnet, i);
    }
    vnet->active_pairs = pairs;
    set_active(vnet, vnet->vdev.started);
    for (unsigned i = 0; vnet->vdev.started && i < pairs; i++)
        virtio_device_kick(&vnet->vdev, 2 * i);
    return 0;
}

static int net_start(struct virtio_device *vdev)
{
    struct virtio_net *vnet = (struct virtio_net *)vdev;

    if (virtio_device_has(vdev, VIRTIO_NET_F_CTRL_RX))
        vnet->filter.promiscuous = false;
    net_apply_offloads(vnet, vdev->negotiated);
    net_use_pairs(vnet, 1);
    set_active(vnet, true);
    return 0;
}

static void forget_buffers(struct virtio_net *vnet, unsigned pair)
{
    vnet->receive[pair].count = 0;
    vnet->receive[pair].bytes = 0;
    vnet->receive[pair].held_bytes = 0;
}

/* Nothing is in flight but buffers popped ahead, and the backend forgets those when told to. */
static void net_stop(struct virtio_device *vdev)
{
    struct virtio_net *vnet = (struct virtio_net *)vdev;

    set_active(vnet, false);
    for (unsigned i = 0; i < vnet->pairs; i++)
        forget_buffers(vnet, i);
    net_control_reset(vnet);
    virtio_device_stopped(vdev);
}

static void net_queue_stop(struct virtio_device *vdev, unsigned index)
{
    struct virtio_net *vnet = (struct virtio_net *)vdev;

    if (!(index & 1) && index / 2 < vnet->pairs)
        forget_buffers(vnet, index / 2);
    virtio_device_queue_stopped(vdev, index);
}

static void net_queue_ready(struct virtio_device *vdev, unsigned index)
{
    struct virtio_net *vnet = (struct virtio_net *)vdev;

    if (virtio_device_has(vdev, VIRTIO_NET_F_CTRL_VQ) && index == net_control_index(vnet))
        net_control_ready(vnet, virtio_device_queue(vdev, index));
    else if (index / 2 >= vnet->active_pairs)
        return;
    else if (index & 1)
        transmit(vnet, index / 2);
    else
        receive(vnet, index / 2);
}

static void net_quiesce(struct virtio_device *vdev)
{
    struct virtio_net *vnet = (struct virtio_net *)vdev;

    set_active(vnet, false);
    for (unsigned i = 0; i < vnet->pairs; i++)
        unpost_buffers(vnet, i);
}

static void net_resume(struct virtio_device *vdev)
{
    struct virtio_net *vnet = (struct virtio_net *)vdev;

    if (vdev->started)
        set_active(vnet, true);
}

static bool net_after_load(struct virtio_device *vdev, GError **error)
{
    struct virtio_net *vnet = (struct virtio_net *)vdev;

    if (vnet->active_pairs > vnet->pairs || vnet->filter.unicast_count > NET_MAX_MACS ||
        vnet->filter.multicast_count > NET_MAX_MACS) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "virtio-net: active_pairs=%u or a filter count is more than this device has",
                    vnet->active_pairs);
        return false;
    }
    net_apply_offloads(vnet, vnet->offload_bits);
    for (unsigned i = 0; i < vnet->pairs; i++)
        net_set_used(vnet->net, i, i < MAX(vnet->active_pairs, 1));
    update_link(vnet);
    return true;
}

static void close_backend(void *opaque)
{
    net_close(opaque);
}

static void net_destroy(struct virtio_device *vdev)
{
    struct virtio_net *vnet = (struct virtio_net *)vdev;

    if (vnet->net)
        loop_call(vdev->loop, close_backend, vnet->net);
    virtio_device_finish(vdev);
    for (unsigned i = 0; i < vnet->pairs; i++) {
        for (unsigned j = 0; j < NET_POSTED; j++)
            g_free(vnet->receive[i].posted[j]);
        g_free(vnet->receive[i].held);
    }
    g_free(vnet->transmit);
    g_free(vnet->control);
    g_free(vnet);
}

static const struct virtio_class net_class = {
    .type = "virtio-net",
    .id = VIRTIO_ID_NET,
    .pci_class = PCI_CLASS_NETWORK,
    .features =
        BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
        BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
        BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
        BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_CTRL_VQ) |
        BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
        BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_MTU),
    .config_size = offsetof(struct virtio_net_config, speed),
    .start = net_start,
    .stop = net_stop,
    .queue_ready = net_queue_ready,
    .queue_stop = net_queue_stop,
    .quiesce = net_quiesce,
    .resume = net_resume,
    .state_table = &net_state,
    .after_load = net_after_load,
    .destroy = net_destroy,
};

static void choose_features(struct virtio_net *vnet, const struct options *options)
{
    uint64_t *offered = &vnet->vdev.offered;
    uint64_t guest = BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
                     BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
                     BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
    uint64_t host = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |
                    BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN);

    if (!vnet->net->host_offloads || !options_bool(options, "offloads"))
        *offered &= ~guest;
    if (!options_bool(options, "offloads"))
        *offered &= ~host;
    if (vnet->pairs == 1)
        *offered &= ~BIT(VIRTIO_NET_F_MQ);
    if (!vnet->net->mtu)
        *offered &= ~BIT(VIRTIO_NET_F_MTU);
}

static void fill_config(struct virtio_net *vnet)
{
    struct virtio_net_config config = {
        .status = htole16(vnet->net->link_up ? VIRTIO_NET_S_LINK_UP : 0),
        .max_virtqueue_pairs = htole16(vnet->pairs),
        .mtu = htole16(vnet->net->mtu),
    };

    memcpy(config.mac, vnet->mac, 6);
    virtio_device_set_config(&vnet->vdev, 0, &config, net_class.config_size, false);
}

/* Locally administered, unicast. */
static void random_mac(uint8_t mac[6])
{
    if (getrandom(mac, 6, 0) != 6)
        memcpy(mac, "\x52\x54\x00\x12\x34\x56", 6);
    mac[0] = (mac[0] & 0xfc) | 0x02;
}

static bool check_options(const struct options *options, GError **error)
{
    if (options_uint(options, "queues") > 1 && strcmp(options_string(options, "type"), "tap")) {
        options_set_error(error, options, "queues", "only type=tap has more than one queue pair");
        return false;
    }
    return true;
}

struct virtio_device *virtio_net_create(const struct options *options, struct loop *loop,
                                        GError **error)
{
    struct virtio_net *vnet;
    struct virtio_ring_options ring;
    uint16_t queue_size;
    struct net *net;
    int ret;

    if (!virtio_ring_options_read(options, &ring, &queue_size, error) ||
        !check_options(options, error))
        return NULL;
    net = net_open(options, loop, error);
    if (!net)
        return NULL;
    vnet = g_new0(struct virtio_net, 1);
    vnet->net = net;
    vnet->pairs = strcmp(net->implementation, "tap") ? 1 : net->queues;
    vnet->link = true;
    ret = virtio_device_init(&vnet->vdev, &net_class, 2 * vnet->pairs + 1, queue_size, loop);
    if (ret) {
        options_set_error(error, options, "queues", "%s (raise ulimit -n, or use fewer)",
                          g_strerror(-ret));
        net_close(net);
        g_free(vnet);
        return NULL;
    }
    virtio_device_set_ring_options(&vnet->vdev, &ring);
    if (!options_mac(options, "mac", vnet->mac))
        random_mac(vnet->mac);
    for (unsigned i = 0; i < vnet->pairs; i++) {
        for (unsigned j = 0; j < NET_POSTED; j++)
            vnet->receive[i].posted[j] = virtq_element_create(NET_PIECES / 8);
        vnet->receive[i].held = g_malloc(NET_FRAME_BUFFER);
    }
    vnet->transmit = virtq_element_create(NET_PIECES);
    vnet->control = virtq_element_create(NET_PIECES);
    net_control_reset(vnet);
    choose_features(vnet, options);
    fill_config(vnet);
    net_set_client(net, &backend_client, vnet);
    return &vnet->vdev;
}
