/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net_queues - transmit and receive queues of virtio-net (virtio 1.3, 5.1.6.1 to 5.1.6.4)
 *
 * Transmit passes the guest's buffers to the backend as they are, header first. What the backend has
 * to say to it (libslirp answers at once) is received after the batch.
 *
 * Receive pops buffers ahead until they hold any frame there can be, and lets the backend read straight
 * into them; what was not used stays ready for the next frame. While the guest has too few buffers
 * for that, a frame is read aside and copied when there is room, and the backend is told to wait. A
 * frame that the ring can't hold however long one waits is dropped.
 *
 * Limits: NET_POSTED buffers a frame (1 KiB each hold the largest).
 */
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "virtio/net_private.h"
#include "vmm/iov.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_net_transmit, "%s pair=%u bytes=%zd",
            (const char *device, unsigned pair, ssize_t bytes), device, pair, bytes)
TRACE_EVENT(virtio_net_receive, "%s pair=%u bytes=%zu buffers=%u",
            (const char *device, unsigned pair, size_t bytes, unsigned buffers), device, pair,
            bytes, buffers)

/* ---- transmit ---- */

/* One frame; false when the queue is done for now. */
static bool transmit_one(struct virtio_net *vnet, struct virtq *vq, unsigned pair)
{
    struct virtq_element *element = vnet->out;
    ssize_t sent;

    if (virtq_pop(vq, element) != 1)
        return false;
    if (element->out_bytes <= NET_HEADER_SIZE) {
        log_guest(&vnet->vdev.device->guest_errors, vnet->vdev.device->name,
                  "a frame of %" G_GUINT64_FORMAT " bytes has no more than a header",
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

static void receive_what_came(struct virtio_net *vnet)
{
    while (vnet->readable) {
        unsigned pair = __builtin_ctzll(vnet->readable);

        vnet->readable &= vnet->readable - 1;
        net_receive_frames(vnet, pair);
    }
}

void net_transmit(struct virtio_net *vnet, unsigned pair)
{
    unsigned index = 2 * pair + 1;
    struct virtq *vq = virtio_device_queue(&vnet->vdev, index);
    unsigned done = 0;

    if (!vnet->vdev.started || vnet->transmitting || pair >= vnet->active_pairs ||
        vnet->transmit_blocked[pair])
        return;
    vnet->transmitting = true;
    virtq_disable_notify(vq);
    while (done < NET_BATCH && transmit_one(vnet, vq, pair))
        done++;
    vnet->transmitting = false;
    if (done)
        virtq_flush(vq);
    receive_what_came(vnet);
    /* A blocked queue is looked at when the backend has room; until then no doorbell is needed. */
    if (done == NET_BATCH || (!vnet->transmit_blocked[pair] && virtq_enable_notify(vq)))
        virtio_device_kick(&vnet->vdev, index);
}

/* ---- receive: buffers popped ahead ---- */

static struct net_posted *posted_at(struct net_receive_queue *queue, unsigned i)
{
    return &queue->posted[(queue->first + i) % NET_POSTED];
}

static struct iovec *first_pieces(struct net_receive_queue *queue)
{
    return queue->pieces + queue->piece_first;
}

/* Remembers a popped buffer. False: it has more pieces than there is room for. */
static bool post(struct net_receive_queue *queue, struct virtq_element *element)
{
    if (queue->piece_count + element->in_count > NET_PIECES)
        return false;
    if (!queue->pieces)
        queue->pieces = g_new(struct iovec, NET_WINDOW);
    if (queue->piece_first + queue->piece_count + element->in_count > NET_WINDOW) {
        memmove(queue->pieces, first_pieces(queue), queue->piece_count * sizeof(struct iovec));
        queue->piece_first = 0;
    }
    memcpy(first_pieces(queue) + queue->piece_count, virtq_in(element),
           element->in_count * sizeof(struct iovec));
    queue->piece_count += element->in_count;
    *posted_at(queue, queue->count++) = (struct net_posted){
        .id = element->id,
        .count = element->count,
        .sequence = element->sequence,
        .pieces = element->in_count,
        .bytes = element->in_bytes,
    };
    queue->bytes += element->in_bytes;
    return true;
}

/* The element of a posted buffer again, in vnet->in; with its pieces if it is the first. */
static struct virtq_element *element_of(struct virtio_net *vnet, struct net_receive_queue *queue,
                                        const struct net_posted *posted)
{
    struct virtq_element *element = vnet->in;

    element->id = posted->id;
    element->count = posted->count;
    element->sequence = posted->sequence;
    element->out_count = element->out_bytes = 0;
    element->in_count = posted->pieces;
    element->in_bytes = posted->bytes;
    memcpy(element->iov, first_pieces(queue), posted->pieces * sizeof(struct iovec));
    return element;
}

enum posting { ENOUGH, EMPTY, FULL, BROKEN };

/* Pops buffers until they hold @bytes, there are no more (EMPTY), or no more can be kept (FULL). */
static enum posting post_buffers(struct virtio_net *vnet, struct net_receive_queue *queue,
                                 struct virtq *vq, uint64_t bytes)
{
    struct virtq_element *element = vnet->in;

    while (queue->bytes < bytes) {
        if (queue->count == NET_POSTED)
            return FULL;
        if (virtq_pop(vq, element) != 1)
            return vq->broken ? BROKEN : EMPTY;
        if (element->in_bytes < NET_HEADER_SIZE) {
            virtio_device_needs_reset(&vnet->vdev, "receive buffer shorter than the header");
            return BROKEN;
        }
        if (!post(queue, element)) {
            virtq_unpop(vq, element);
            return FULL;
        }
    }
    return ENOUGH;
}

void net_forget_posted(struct virtio_net *vnet, unsigned pair)
{
    struct net_receive_queue *queue = &vnet->receive[pair];

    queue->first = queue->count = queue->piece_first = queue->piece_count = 0;
    queue->bytes = 0;
}

void net_unpost(struct virtio_net *vnet, unsigned pair)
{
    struct net_receive_queue *queue = &vnet->receive[pair];
    struct virtq *vq = virtio_device_queue(&vnet->vdev, 2 * pair);

    for (unsigned i = queue->count; i-- > 0;)
        virtq_unpop(vq, element_of(vnet, queue, posted_at(queue, i)));
    net_forget_posted(vnet, pair);
}

/* ---- receive: frames ---- */

/* What the backend's header can't know, in the buffers that hold the frame. */
static void finish_header(struct virtio_net *vnet, struct net_receive_queue *queue,
                          uint16_t buffers)
{
    const struct iovec *pieces = first_pieces(queue);
    uint16_t number = htole16(buffers);
    uint8_t flags = 0;

    iov_write(pieces, queue->piece_count, offsetof(struct virtio_net_hdr_v1, num_buffers), &number,
              sizeof(number));
    /* A driver that knows nothing of checksums must find no flags (5.1.6.4.1). */
    if (!vnet->net->receive.checksum)
        iov_write(pieces, queue->piece_count, offsetof(struct virtio_net_hdr_v1, flags), &flags,
                  sizeof(flags));
}

/* Pushes the buffers that @bytes of a frame fill; the others stay posted. */
static void push_frame(struct virtio_net *vnet, struct net_receive_queue *queue, struct virtq *vq,
                       unsigned pair, size_t bytes)
{
    uint16_t used = 0;

    for (size_t room = 0; room < bytes; used++)
        room += posted_at(queue, used)->bytes;
    finish_header(vnet, queue, used);
    trace_virtio_net_receive(vnet->vdev.device->name, pair, bytes, used);
    while (used--) {
        struct net_posted *posted = posted_at(queue, 0);
        size_t part = MIN(bytes, posted->bytes);

        virtq_push(vq, element_of(vnet, queue, posted), part);
        bytes -= part;
        queue->first = (queue->first + 1) % NET_POSTED;
        queue->count--;
        queue->piece_first += posted->pieces;
        queue->piece_count -= posted->pieces;
        queue->bytes -= posted->bytes;
    }
}

static bool wanted(const struct virtio_net *vnet, const struct iovec *iov, unsigned count,
                   size_t bytes)
{
    uint8_t head[18];

    if (!vnet->link || bytes <= NET_HEADER_SIZE)
        return false;
    bytes = MIN(bytes - NET_HEADER_SIZE, sizeof(head));
    return vnet->filter.promiscuous ||
           net_filter_accepts(vnet, head, iov_read(iov, count, NET_HEADER_SIZE, head, bytes));
}

enum received { RECEIVED, NOTHING, NO_BUFFERS, STOPPED };

static bool merges(const struct virtio_net *vnet)
{
    return virtio_device_has(&vnet->vdev, VIRTIO_NET_F_MRG_RXBUF);
}

/* The frame that was set aside into the guest's buffers, once they hold it. */
static enum received deliver_held(struct virtio_net *vnet, struct net_receive_queue *queue,
                                  struct virtq *vq, unsigned pair)
{
    enum posting posting = post_buffers(vnet, queue, vq, merges(vnet) ? queue->held_bytes : 1);
    uint64_t room = merges(vnet) || !queue->count ? queue->bytes : posted_at(queue, 0)->bytes;

    if (posting == BROKEN)
        return STOPPED;
    if (room >= queue->held_bytes) {
        iov_write(first_pieces(queue), queue->piece_count, 0, queue->held, queue->held_bytes);
        push_frame(vnet, queue, vq, pair, queue->held_bytes);
        queue->held_bytes = 0;
        return RECEIVED;
    }
    /* More buffers will help, if the driver can have more: not all descriptors are here. */
    if (posting == EMPTY && queue->piece_count < vq->size)
        return NO_BUFFERS;
    queue->held_bytes = 0;
    vnet->net->dropped++;
    return RECEIVED;
}

static enum received receive_aside(struct virtio_net *vnet, struct net_receive_queue *queue,
                                   struct virtq *vq, unsigned pair)
{
    struct iovec aside;
    ssize_t got;

    if (!queue->held)
        queue->held = g_malloc(NET_FRAME_BUFFER);
    aside = (struct iovec){queue->held, NET_FRAME_BUFFER};
    got = net_receive(vnet->net, pair, &aside, 1);
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
    bool merge = merges(vnet);
    enum posting posting;
    unsigned count;
    ssize_t got;

    if (queue->held_bytes)
        return deliver_held(vnet, queue, vq, pair);
    posting = post_buffers(vnet, queue, vq, merge ? NET_FRAME_BUFFER : 1);
    if (posting == BROKEN)
        return STOPPED;
    if (!queue->count)
        return NO_BUFFERS;
    if (merge && posting != ENOUGH)
        return receive_aside(vnet, queue, vq, pair);
    count = merge ? queue->piece_count : posted_at(queue, 0)->pieces;
    got = net_receive(vnet->net, pair, first_pieces(queue), count);
    if (got == 0)
        return NOTHING;
    if (got > 0 && wanted(vnet, first_pieces(queue), count, got))
        push_frame(vnet, queue, vq, pair, got);
    return RECEIVED;
}

void net_receive_frames(struct virtio_net *vnet, unsigned pair)
{
    struct net_receive_queue *queue = &vnet->receive[pair];
    struct virtq *vq = virtio_device_queue(&vnet->vdev, 2 * pair);
    enum received state = STOPPED;
    unsigned done = 0;

    if (!vnet->vdev.started || pair >= vnet->active_pairs) {
        net_set_receiving(vnet->net, pair, false);
        return;
    }
    virtq_disable_notify(vq);
    do {
        while (done < NET_BATCH && (state = receive_one(vnet, queue, vq, pair)) == RECEIVED)
            done++;
    } while (state == NO_BUFFERS && virtq_enable_notify(vq));
    if (done)
        virtq_flush(vq);
    net_set_receiving(vnet->net, pair, state == NOTHING || state == RECEIVED);
    if (state == RECEIVED)
        virtio_device_kick(&vnet->vdev, 2 * pair);
}

/* ---- the backend's callbacks ---- */

static void backend_readable(void *opaque, unsigned pair)
{
    struct virtio_net *vnet = opaque;

    if (vnet->transmitting)
        vnet->readable |= UINT64_C(1) << pair;
    else
        net_receive_frames(vnet, pair);
}

static void backend_writable(void *opaque, unsigned pair)
{
    struct virtio_net *vnet = opaque;

    vnet->transmit_blocked[pair] = false;
    net_transmit(vnet, pair);
}

static void backend_link_changed(void *opaque, bool up)
{
    net_update_link(opaque);
}

const struct net_client_ops net_backend_client = {
    .readable = backend_readable,
    .writable = backend_writable,
    .link_changed = backend_link_changed,
};

/* ---- saved state: the frames that were set aside; of each its pair, its length, itself ---- */

void net_save_frames(struct virtio_net *vnet, GByteArray *out)
{
    for (unsigned i = 0; i < vnet->pairs; i++) {
        uint32_t head[2] = {htole32(i), htole32(vnet->receive[i].held_bytes)};

        if (!vnet->receive[i].held_bytes)
            continue;
        g_byte_array_append(out, (const uint8_t *)head, sizeof(head));
        g_byte_array_append(out, vnet->receive[i].held, vnet->receive[i].held_bytes);
    }
}

bool net_load_frames(struct virtio_net *vnet, const uint8_t *data, size_t size)
{
    for (unsigned i = 0; i < vnet->pairs; i++)
        vnet->receive[i].held_bytes = 0;
    while (size) {
        struct net_receive_queue *queue;
        uint32_t head[2], pair, length;

        if (size < sizeof(head))
            return false;
        memcpy(head, data, sizeof(head));
        pair = le32toh(head[0]);
        length = le32toh(head[1]);
        size -= sizeof(head);
        if (pair >= vnet->pairs || length <= NET_HEADER_SIZE || length > NET_FRAME_BUFFER ||
            length > size)
            return false;
        queue = &vnet->receive[pair];
        if (!queue->held)
            queue->held = g_malloc(NET_FRAME_BUFFER);
        memcpy(queue->held, data + sizeof(head), length);
        queue->held_bytes = length;
        data += sizeof(head) + length;
        size -= length;
    }
    return true;
}
