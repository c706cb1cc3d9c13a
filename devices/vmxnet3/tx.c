/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tx - frames from the driver's transmit rings to the backend
 *
 * A packet is one descriptor or several; the driver turns the generation bit of the first one last.
 * The first says what is left to be done: a checksum, segmentation, a VLAN tag. That becomes a virtio
 * header, which every backend of the house understands. Headers that must be changed for it are
 * copied and changed in the copy; payload is passed on where it is:
 *   - a VLAN tag is put behind the addresses;
 *   - for segmentation the driver leaves lengths and the IP checksum undone, and a pseudo checksum
 *     without the length: all are made those of the whole packet.
 *
 * A ring that makes no sense stops its queue and is told as an error event, upon which a driver resets
 * the device; a packet that makes no sense is completed and counted.
 *
 * While the backend takes nothing the ring stands still, but not for longer than PATIENCE_NS:
 * Linux's driver resets the card when its ring does not move for 5 s, again and again, which would
 * help nobody. From then on packets are completed and counted as discarded, until the backend takes
 * some again.
 *
 * Limits: MAX_DESCRIPTORS a packet, 64 KiB.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "backends/net/packet.h"
#include "devices/vmxnet3/private.h"
#include "vmm/iov.h"
#include "vmm/trace.h"

TRACE_EVENT(vmxnet3_transmit, "%s queue=%u descriptors=%u bytes=%zd",
            (const char *device, unsigned queue, unsigned descriptors, ssize_t bytes), device,
            queue, descriptors, bytes)
TRACE_EVENT(vmxnet3_queue_error, "%s queue=%u error=0x%08x",
            (const char *device, unsigned queue, unsigned error), device, queue, error)

#define MAX_DESCRIPTORS 64u
#define MAX_PIECES      (2 * MAX_DESCRIPTORS)
#define FULL_LENGTH     16384u
#define VLAN_TAG        4u
#define ADDRESSES       12u
#define ETHERNET        14u
#define PROTO_TCP       6
#define TCP_CHECKSUM    16u
#define PATIENCE_NS     INT64_C(2000000000) /* with a backend that takes nothing */

struct packet {
    struct iovec pieces[2 + MAX_PIECES]; /* the first two: virtio header, changed headers */
    unsigned count;                      /* of the guest's pieces, from [2] on */
    size_t bytes;                        /* of the frame, as the guest has it */
    unsigned descriptors;
    uint32_t word2, word3; /* of the first descriptor */
    uint32_t last, next;   /* index of the last one, and behind it */
    bool generation;       /* there */
    bool complete;         /* the driver wants a completion */
};

enum fetched { FETCHED, NOTHING, NOT_NOW, BROKEN };

static enum fetched stop_queue(struct vmxnet3 *v, unsigned queue, uint32_t error, const char *why)
{
    vmxnet3_guest_error(v, "tx queue %u: %s", queue, why);
    trace_vmxnet3_queue_error(vmxnet3_name(v), queue, error);
    v->tx[queue].stopped = true;
    v->tx[queue].error = error;
    vmxnet3_write_status(v, false);
    vmxnet3_event(v, VMXNET3_EVENT_TX_ERROR);
    return BROKEN;
}

/* ---- descriptors ---- */

/* One descriptor's buffer. */
static enum fetched add_piece(struct vmxnet3 *v, unsigned queue, struct packet *packet,
                              const struct vmxnet3_entry *entry)
{
    uint32_t length = entry->word2 & VMXNET3_TXD_LENGTH;
    int ret;

    if (entry->word2 & VMXNET3_TXD_TYPE)
        return stop_queue(v, queue, VMXNET3_ERROR_NOT_SUPPORTED, "descriptor of an unknown type");
    length = length ? length : FULL_LENGTH;
    ret = dma_map(&v->function.dma, entry->address, length, DMA_TO_DEVICE,
                  packet->pieces + 2 + packet->count, MAX_PIECES - packet->count);
    if (ret == -EAGAIN || ret == -EACCES)
        return NOT_NOW;
    if (ret < 0)
        return stop_queue(v, queue, VMXNET3_ERROR_TX_DESCRIPTOR, "buffer that is not in memory");
    packet->count += ret;
    packet->bytes += length;
    return FETCHED;
}

/* The next packet, up to the descriptor that ends it. Nothing is taken from the ring yet. */
static enum fetched fetch(struct vmxnet3 *v, unsigned queue, struct packet *packet)
{
    const struct vmxnet3_ring *ring = &v->tx[queue].ring;
    struct vmxnet3_entry entry;
    enum fetched state;

    packet->count = packet->descriptors = 0;
    packet->bytes = 0;
    packet->next = ring->next;
    packet->generation = ring->generation;
    do {
        if (packet->descriptors == MIN(MAX_DESCRIPTORS, ring->size))
            return stop_queue(v, queue, VMXNET3_ERROR_BIG_PACKET, "packet of too many descriptors");
        if (!vmxnet3_ring_peek(ring, packet->next, VMXNET3_TXD_GENERATION, packet->generation,
                               &entry))
            return packet->descriptors
                       ? stop_queue(v, queue, VMXNET3_ERROR_NO_EOP, "packet without an end")
                       : NOTHING;
        if (!packet->descriptors++) {
            packet->word2 = entry.word2;
            packet->word3 = entry.word3;
        }
        state = add_piece(v, queue, packet, &entry);
        if (state != FETCHED)
            return state;
        packet->last = packet->next;
        vmxnet3_ring_step(&packet->next, &packet->generation, ring->size);
    } while (!(entry.word3 & VMXNET3_TXD_END));
    packet->complete = entry.word3 & VMXNET3_TXD_COMPLETE;
    return FETCHED;
}

/* ---- offloads ---- */

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = value >> 8;
    at[1] = value;
}

/* Lengths and checksums of the whole packet into the copied headers. False: they are no TCP/IP. */
static bool finish_headers(uint8_t *headers, size_t size, size_t bytes, struct net_layout *layout)
{
    uint16_t checksum;
    size_t length;

    if (!net_parse(headers, size, layout) || layout->protocol != PROTO_TCP ||
        layout->payload != size)
        return false;
    length = bytes - layout->ip - (layout->ipv6 ? 40 : 0);
    if (length > UINT16_MAX)
        return false;
    if (layout->ipv6) {
        put16(headers + layout->ip + 4, length);
    } else {
        put16(headers + layout->ip + 2, length);
        memset(headers + layout->ip + 10, 0, 2);
        checksum = net_checksum(headers + layout->ip, layout->transport - layout->ip);
        memcpy(headers + layout->ip + 10, &checksum, 2);
    }
    checksum = net_pseudo_checksum(headers, layout, bytes - layout->transport);
    memcpy(headers + layout->transport + TCP_CHECKSUM, &checksum, 2);
    return true;
}

static bool ask_segments(struct virtio_net_hdr_v1 *virtio, uint8_t *headers, size_t size,
                         size_t bytes, unsigned mss)
{
    struct net_layout layout;

    if (!mss || size >= bytes || !finish_headers(headers, size, bytes, &layout))
        return false;
    virtio->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    virtio->csum_start = htole16(layout.transport);
    virtio->csum_offset = htole16(TCP_CHECKSUM);
    if (bytes - size <= mss)
        return true;
    virtio->gso_type = layout.ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
    virtio->gso_size = htole16(mss);
    virtio->hdr_len = htole16(size);
    return true;
}

/* The copied headers' size in the guest's frame; 0: nothing needs to be copied. */
static size_t size_to_copy(const struct packet *packet, unsigned mode)
{
    size_t copy = packet->word3 & VMXNET3_TXD_TAG ? ADDRESSES : 0;

    return mode == VMXNET3_TXD_MODE_TSO ? MAX(copy, packet->word3 & VMXNET3_TXD_HEADERS) : copy;
}

/*
 * The virtio header, and behind it headers that had to be changed, into v->headers; the pieces to send
 * begin at the result, or NULL: the packet makes no sense.
 */
static struct iovec *prepare(struct vmxnet3 *v, struct packet *packet, unsigned *count)
{
    unsigned mode = packet->word3 >> VMXNET3_TXD_MODE_SHIFT & 3;
    unsigned start = packet->word3 & VMXNET3_TXD_HEADERS;
    unsigned field = packet->word2 >> VMXNET3_TXD_MSS_SHIFT;
    size_t copy = size_to_copy(packet, mode), tag = 0;
    uint8_t *headers = v->headers + NET_HEADER_SIZE;
    struct virtio_net_hdr_v1 virtio = {.num_buffers = 0};
    struct iovec *pieces = packet->pieces + 2;

    if (packet->bytes < ETHERNET || packet->bytes + VLAN_TAG > NET_MAX_FRAME ||
        copy > packet->bytes)
        return NULL;
    *count = packet->count;
    iov_read(pieces, *count, 0, headers, copy);
    if (copy)
        pieces = iov_drop(pieces, count, copy);
    if (packet->word3 & VMXNET3_TXD_TAG) {
        tag = VLAN_TAG;
        memmove(headers + ADDRESSES + tag, headers + ADDRESSES, copy - ADDRESSES);
        put16(headers + ADDRESSES, 0x8100);
        put16(headers + ADDRESSES + 2, packet->word3 >> VMXNET3_TXD_TAG_SHIFT);
    }
    if (mode == VMXNET3_TXD_MODE_TSO) {
        if (!ask_segments(&virtio, headers, copy + tag, packet->bytes + tag, field))
            return NULL;
    } else if (mode == VMXNET3_TXD_MODE_CSUM) {
        if (field < start || field + 2 > packet->bytes)
            return NULL;
        virtio.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        virtio.csum_start = htole16(start + tag);
        virtio.csum_offset = htole16(field - start);
    }
    memcpy(v->headers, &virtio, NET_HEADER_SIZE);
    *--pieces = (struct iovec){v->headers, NET_HEADER_SIZE + copy + tag};
    ++*count;
    return pieces;
}

/* ---- packets ---- */

static void count_sent(struct vmxnet3_tx_queue *queue, const struct packet *packet,
                       const uint8_t address[6])
{
    unsigned cast = VMXNET3_TX_UNICAST_PACKETS + vmxnet3_cast(address);
    unsigned mss = packet->word2 >> VMXNET3_TXD_MSS_SHIFT;
    size_t headers = packet->word3 & VMXNET3_TXD_HEADERS;

    queue->counters[cast]++;
    queue->counters[cast + 1] += packet->bytes;
    if ((packet->word3 >> VMXNET3_TXD_MODE_SHIFT & 3) == VMXNET3_TXD_MODE_TSO) {
        queue->counters[VMXNET3_TX_TSO_PACKETS] += (packet->bytes - headers + mss - 1) / mss;
        queue->counters[VMXNET3_TX_TSO_BYTES] += packet->bytes;
    }
}

static void finish(struct vmxnet3 *v, struct vmxnet3_tx_queue *queue, const struct packet *packet)
{
    struct vmxnet3_completion completion = {.words = {packet->last}};

    queue->ring.next = packet->next;
    queue->ring.generation = packet->generation;
    if (!packet->complete)
        return;
    vmxnet3_complete(v, &queue->completions, &completion);
    v->fire |= 1u << queue->vector;
}

static void block(struct vmxnet3 *v, struct vmxnet3_tx_queue *queue)
{
    queue->blocked = true;
    queue->blocked_at = loop_now_ns();
    if (loop_timer_deadline(v->tx_timer) < 0)
        loop_timer_set(v->tx_timer, queue->blocked_at + PATIENCE_NS);
}

/* One packet; false when the queue is done for now. */
static bool transmit_one(struct vmxnet3 *v, unsigned index)
{
    struct vmxnet3_tx_queue *queue = &v->tx[index];
    struct packet packet;
    struct iovec *pieces;
    ssize_t sent = -EINVAL;
    uint8_t address[6];
    unsigned count;

    if (fetch(v, index, &packet) != FETCHED)
        return false;
    iov_read(packet.pieces + 2, packet.count, 0, address, sizeof(address));
    pieces = prepare(v, &packet, &count);
    if (pieces && !vmxnet3_link_now(v))
        sent = -ENOTCONN; /* into the void, as from an unplugged card */
    else if (pieces && queue->discards)
        sent = -ENOBUFS;
    else if (pieces)
        sent = net_send(v->net, index % v->backend_queues, pieces, count);
    trace_vmxnet3_transmit(vmxnet3_name(v), index, packet.descriptors, sent);
    if (sent == -EAGAIN) {
        block(v, queue);
        return false;
    }
    if (sent >= 0)
        count_sent(queue, &packet, address);
    else
        queue->counters[pieces ? VMXNET3_TX_DISCARDS : VMXNET3_TX_ERRORS]++;
    finish(v, queue, &packet);
    return true;
}

void vmxnet3_transmit(struct vmxnet3 *v, unsigned index)
{
    struct vmxnet3_tx_queue *queue = &v->tx[index];
    uint64_t one = 1;
    unsigned done = 0;
    bool more = false;

    if (v->busy || !v->backend_on)
        return;
    pthread_mutex_lock(&v->lock);
    v->busy = true;
    if (vmxnet3_can_run(v) && index < v->setup.tx_count && !queue->stopped &&
        (!queue->blocked || queue->discards)) {
        do {
            more = !__atomic_load_n(&v->impatient, __ATOMIC_RELAXED) && done < VMXNET3_BATCH;
        } while (more && transmit_one(v, index) && ++done);
        more = !more; /* it was not the ring that ended it */
    }
    vmxnet3_fire(v);
    v->busy = false;
    pthread_mutex_unlock(&v->lock);
    if (more && write(queue->doorbell, &one, sizeof(one)) < 0)
        log_debug(vmxnet3_name(v), "doorbell: %s", g_strerror(errno));
    vmxnet3_after_batch(v);
}

void vmxnet3_discard_blocked(void *opaque)
{
    struct vmxnet3 *v = opaque;
    int64_t now = loop_now_ns(), next = INT64_MAX;

    for (unsigned i = 0; i < VMXNET3_MAX_QUEUES; i++) {
        struct vmxnet3_tx_queue *queue = &v->tx[i];

        if (!queue->blocked || queue->discards)
            continue;
        if (now < queue->blocked_at + PATIENCE_NS) {
            next = MIN(next, queue->blocked_at + PATIENCE_NS);
            continue;
        }
        log_info(vmxnet3_name(v), "tx queue %u: the host takes nothing: frames are lost", i);
        queue->discards = true;
        vmxnet3_transmit(v, i);
    }
    if (next != INT64_MAX)
        loop_timer_set(v->tx_timer, next);
}
