/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rx - frames from the backend to the driver's receive rings
 *
 * A frame is read aside, examined (filter, VLAN tag, checksums, RSS), and copied to the buffers of a
 * receive queue: the driver's completions say all of that. Ring 0 has heads, with bodies among them if
 * the driver's MTU takes more than a buffer; ring 1 has bodies. Buffers are used in order; bodies that
 * a short frame has no use for are skipped. A frame that fits an entry of the data ring goes there,
 * and its head buffer stays with the driver.
 *
 * Segments that the host has not split go up as they are, marked as received together (LRO), with
 * their number and size. A checksum that the host has not even computed is right by definition.
 *
 * While a queue has too few buffers the frame waits, and so does the backend. A driver need not ring a
 * doorbell for new buffers, but it unmasks its interrupt after it has refilled. One that polls
 * (DPDK, VPP) does neither: as long as a frame waits, a timer looks for buffers, too.
 *
 * Limits: max_rx_pieces buffers a frame; a frame waits, whichever queue it is for, and others of the
 * same backend queue wait behind it.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "backends/net/packet.h"
#include "devices/vmxnet3/private.h"
#include "vmm/trace.h"

TRACE_EVENT(vmxnet3_receive, "%s queue=%u bytes=%zu buffers=%u",
            (const char *device, unsigned queue, size_t bytes, unsigned buffers), device, queue,
            bytes, buffers)
TRACE_EVENT(vmxnet3_receive_drop, "%s bytes=%zu: %s",
            (const char *device, size_t bytes, const char *why), device, bytes, why)

#define VLAN_TAG   4u
#define ADDRESSES  12u
#define ETHERNET   14u
#define PROTO_TCP  6
#define PROTO_UDP  17
#define MAX_PIECES 32u
#define MAX_COUNT  255u /* segments that a completion can tell of */

/* A frame, and what its completions say. */
struct arrival {
    uint8_t *data; /* Ethernet header first */
    size_t size;
    bool tagged; /* the tag is still in the frame, and is to be taken out */
    uint16_t tag;
    uint32_t flags; /* of word 3 */
    bool unchecked;
    uint32_t hash, hash_type;
    unsigned segments, mss; /* LRO; 0: none */
};

/* Where in its rings a queue is, and which buffers a frame takes. */
struct placement {
    uint32_t next[2];
    bool generation[2];
    unsigned count;
    struct {
        uint8_t ring;
        uint32_t index, size;
        uint64_t address;
    } pieces[MAX_PIECES];
};

enum delivered { DELIVERED, NO_BUFFERS };

/* ---- which frames are wanted ---- */

static bool multicast_wanted(const struct vmxnet3_setup *setup, const uint8_t *address)
{
    if (setup->rx_mode & VMXNET3_RX_ALL_MULTICAST)
        return true;
    if (!(setup->rx_mode & VMXNET3_RX_MULTICAST))
        return false;
    for (unsigned i = 0; i < setup->multicast_count; i++)
        if (!memcmp(setup->multicasts + 6 * i, address, 6))
            return true;
    return setup->many_multicasts;
}

static bool is_tagged(const uint8_t *frame, size_t size)
{
    return size >= ETHERNET + VLAN_TAG && frame[12] == 0x81 && frame[13] == 0x00;
}

static bool wanted(const struct vmxnet3 *v, const uint8_t *frame, size_t size)
{
    const struct vmxnet3_setup *setup = &v->setup;
    unsigned vlan;

    if (size < ETHERNET || !v->link)
        return false;
    if (setup->rx_mode & VMXNET3_RX_PROMISCUOUS)
        return true;
    if (is_tagged(frame, size)) {
        vlan = (frame[14] & 15) << 8 | frame[15];
        if (!(setup->vlans[vlan / 32] & 1u << vlan % 32))
            return false;
    }
    switch (vmxnet3_cast(frame)) {
    case 0:
        return setup->rx_mode & VMXNET3_RX_UNICAST && !memcmp(frame, v->mac, 6);
    case 2:
        return multicast_wanted(setup, frame);
    default:
        return setup->rx_mode & VMXNET3_RX_BROADCAST;
    }
}

/* ---- what is known of a frame ---- */

static void look_at_rss(const struct vmxnet3_setup *setup, const struct net_layout *layout,
                        const uint8_t *frame, struct arrival *arrival)
{
    bool tcp = layout->payload && layout->protocol == PROTO_TCP;
    unsigned addresses = layout->ipv6 ? 32 : 8, size = addresses;
    uint32_t with_ports = layout->ipv6 ? VMXNET3_RSS_TCP_IPV6 : VMXNET3_RSS_TCP_IPV4;
    uint32_t without = layout->ipv6 ? VMXNET3_RSS_IPV6 : VMXNET3_RSS_IPV4;
    uint8_t input[36];

    memcpy(input, frame + layout->ip + (layout->ipv6 ? 8 : 12), addresses);
    if (tcp && setup->rss_types & with_ports) {
        memcpy(input + addresses, frame + layout->transport, 4);
        size += 4;
        arrival->hash_type = layout->ipv6 ? VMXNET3_HASH_TCP_IPV6 : VMXNET3_HASH_TCP_IPV4;
    } else if (setup->rss_types & without) {
        arrival->hash_type = layout->ipv6 ? VMXNET3_HASH_IPV6 : VMXNET3_HASH_IPV4;
    } else {
        return;
    }
    arrival->hash = vmxnet3_toeplitz(setup->rss_key, input, size);
}

/* A checksum that was left undone: the driver believes one of TCP or UDP, any other is done here. */
static bool settle_checksum(struct virtio_net_hdr_v1 *virtio, const struct net_layout *layout,
                            struct arrival *arrival)
{
    if (!(virtio->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return virtio->flags & VIRTIO_NET_HDR_F_DATA_VALID;
    if (layout->payload && le16toh(virtio->csum_start) == layout->transport)
        return true;
    net_offload_checksum(virtio, arrival->data, arrival->size);
    virtio->flags = 0;
    return false;
}

/*
 * Is it an IP packet, with no tag before it once it is delivered? Of any other nothing is said:
 * where TCP is told of a frame longer than the MTU, stock drivers look for IP right behind the
 * Ethernet header (newer ones: or behind one tag), and stop their kernel when it is not there.
 */
static bool look_at_headers(const struct arrival *arrival, struct net_layout *layout)
{
    if (net_parse(arrival->data, arrival->size, layout) &&
        layout->ip == ETHERNET + (arrival->tagged ? VLAN_TAG : 0))
        return true;
    *layout = (struct net_layout){0};
    return false;
}

static void look_at_packet(const struct vmxnet3_setup *setup, struct virtio_net_hdr_v1 *virtio,
                           struct arrival *arrival)
{
    struct net_layout layout;
    bool right;

    arrival->unchecked = true;
    arrival->flags = VMXNET3_RCD_FCS_CORRECT;
    if (!look_at_headers(arrival, &layout)) {
        settle_checksum(virtio, &layout, arrival);
        return;
    }
    right = settle_checksum(virtio, &layout, arrival);
    arrival->flags |= layout.ipv6 ? VMXNET3_RCD_IPV6 : VMXNET3_RCD_IPV4;
    arrival->flags |= layout.fragment ? VMXNET3_RCD_FRAGMENT : 0;
    if (setup->rss_table_size)
        look_at_rss(setup, &layout, arrival->data, arrival);
    if (!layout.payload)
        return;
    arrival->flags |= layout.protocol == PROTO_UDP ? VMXNET3_RCD_UDP : VMXNET3_RCD_TCP;
    if (!right || !(setup->features & VMXNET3_F_RX_CHECKSUM))
        return;
    if (!layout.ipv6 && net_checksum(arrival->data + layout.ip, layout.transport - layout.ip))
        return;
    arrival->flags |= VMXNET3_RCD_L4_CORRECT | (layout.ipv6 ? 0 : VMXNET3_RCD_IP_CORRECT);
    arrival->unchecked = false;
    if (virtio->gso_type == VIRTIO_NET_HDR_GSO_NONE || !virtio->gso_size)
        return;
    arrival->mss = le16toh(virtio->gso_size);
    arrival->segments = (arrival->size - layout.payload + arrival->mss - 1) / arrival->mss;
}

static void examine(struct vmxnet3 *v, struct vmxnet3_received *received, struct arrival *arrival)
{
    struct virtio_net_hdr_v1 virtio;

    memcpy(&virtio, received->bytes, NET_HEADER_SIZE);
    *arrival = (struct arrival){
        .data = received->bytes + NET_HEADER_SIZE,
        .size = received->size - NET_HEADER_SIZE,
    };
    arrival->tagged =
        v->setup.features & VMXNET3_F_VLAN_STRIP && is_tagged(arrival->data, arrival->size);
    look_at_packet(&v->setup, &virtio, arrival);
    memcpy(received->bytes, &virtio, NET_HEADER_SIZE); /* what was done need not be done again */
    if (arrival->tagged) {
        arrival->tag = arrival->data[14] << 8 | arrival->data[15];
        arrival->size -= VLAN_TAG;
    }
}

static unsigned choose_queue(const struct vmxnet3 *v, const struct arrival *arrival,
                             unsigned backend_queue)
{
    const struct vmxnet3_setup *setup = &v->setup;
    unsigned queue = backend_queue % setup->rx_count;

    if (setup->rss_table_size)
        queue = arrival->hash_type ? setup->rss_table[arrival->hash % setup->rss_table_size] : 0;
    return queue < setup->rx_count ? queue : 0;
}

/* ---- buffers ---- */

static bool peek(const struct vmxnet3_rx_queue *queue, const struct placement *place, unsigned ring,
                 struct vmxnet3_entry *entry)
{
    return queue->ring[ring].host &&
           vmxnet3_ring_peek(&queue->ring[ring], place->next[ring], VMXNET3_RXD_GENERATION,
                             place->generation[ring], entry);
}

static void step(const struct vmxnet3_rx_queue *queue, struct placement *place, unsigned ring)
{
    vmxnet3_ring_step(&place->next[ring], &place->generation[ring], queue->ring[ring].size);
}

static uint32_t take(const struct vmxnet3_rx_queue *queue, struct placement *place, unsigned ring,
                     const struct vmxnet3_entry *entry)
{
    uint32_t size = entry->word2 & VMXNET3_RXD_LENGTH;

    place->pieces[place->count].ring = ring;
    place->pieces[place->count].index = place->next[ring];
    place->pieces[place->count].address = entry->address;
    place->pieces[place->count++].size = size;
    step(queue, place, ring);
    return size;
}

static bool take_head(const struct vmxnet3_rx_queue *queue, struct placement *place, uint32_t *size)
{
    struct vmxnet3_entry entry;

    for (uint32_t i = 0; i < queue->ring[0].size; i++) {
        if (!peek(queue, place, 0, &entry))
            return false;
        if (!(entry.word2 & VMXNET3_RXD_BODY)) {
            *size = take(queue, place, 0, &entry);
            return true;
        }
        step(queue, place, 0);
    }
    return false;
}

static bool take_body(const struct vmxnet3_rx_queue *queue, struct placement *place, uint32_t *size)
{
    struct vmxnet3_entry entry;
    unsigned ring = 0;

    if (!peek(queue, place, 0, &entry) || !(entry.word2 & VMXNET3_RXD_BODY)) {
        ring = 1;
        if (!peek(queue, place, 1, &entry) || !(entry.word2 & VMXNET3_RXD_BODY))
            return false;
    }
    *size = take(queue, place, ring, &entry);
    return true;
}

enum placed { PLACED, TOO_FEW, TOO_LARGE };

/* Buffers for @bytes; with @one, a single head whatever its size. */
static enum placed find_buffers(const struct vmxnet3 *v, const struct vmxnet3_rx_queue *queue,
                                size_t bytes, bool one, struct placement *place)
{
    unsigned most = v->setup.max_rx_pieces ? v->setup.max_rx_pieces : VMXNET3_RX_PIECES;
    size_t room = 0;
    uint32_t size;

    most = MIN(most, MAX_PIECES);
    *place = (struct placement){
        .next = {queue->ring[0].next, queue->ring[1].next},
        .generation = {queue->ring[0].generation, queue->ring[1].generation},
    };
    if (!take_head(queue, place, &size))
        return TOO_FEW;
    for (room = size; room < bytes && !one; room += size) {
        if (place->count == most)
            return TOO_LARGE;
        if (!take_body(queue, place, &size))
            return queue->ring[1].size ? TOO_FEW : TOO_LARGE;
    }
    return PLACED;
}

/* ---- delivery ---- */

static struct vmxnet3_completion describe(const struct arrival *arrival, bool first, bool last,
                                          unsigned queue_id, uint32_t index, uint32_t size)
{
    struct vmxnet3_completion completion = {
        .words = {index | queue_id << VMXNET3_RCD_QUEUE_SHIFT, arrival->hash, size,
                  arrival->flags | VMXNET3_KIND_RX << VMXNET3_RCD_KIND_SHIFT},
    };
    uint32_t *words = completion.words;

    words[0] |= (first ? VMXNET3_RCD_START : 0) | (last ? VMXNET3_RCD_END : 0) |
                (arrival->unchecked ? VMXNET3_RCD_UNCHECKED : 0) |
                arrival->hash_type << VMXNET3_RCD_HASH_SHIFT;
    if (arrival->tagged)
        words[2] |= VMXNET3_RCD_TAGGED | (uint32_t)arrival->tag << VMXNET3_RCD_TAG_SHIFT;
    /* The first completion tells of segments, in the place of the hash. */
    if (first && arrival->segments) {
        words[0] &= ~(15u << VMXNET3_RCD_HASH_SHIFT);
        words[1] = MIN(arrival->segments, MAX_COUNT);
        words[3] = arrival->flags | arrival->mss | VMXNET3_KIND_LRO << VMXNET3_RCD_KIND_SHIFT;
    }
    return completion;
}

static enum delivered stop_queue(struct vmxnet3 *v, unsigned index)
{
    vmxnet3_guest_error(v, "rx queue %u: buffer that is not in memory", index);
    v->rx[index].stopped = true;
    v->rx[index].error = VMXNET3_ERROR_RX_DESCRIPTOR;
    vmxnet3_write_status(v, false);
    vmxnet3_event(v, VMXNET3_EVENT_RX_ERROR);
    return DELIVERED; /* the frame is gone */
}

static int copy_out(struct vmxnet3 *v, const struct placement *place, const uint8_t *data,
                    size_t left)
{
    int ret = 0;

    for (unsigned i = 0; i < place->count && !ret; i++) {
        size_t part = MIN(left, place->pieces[i].size);

        ret = part ? dma_write(&v->function.dma, place->pieces[i].address, data, part) : 0;
        data += part;
        left -= part;
    }
    return ret;
}

static void complete(struct vmxnet3 *v, unsigned index, const struct placement *place,
                     const struct arrival *arrival, bool data_ring)
{
    struct vmxnet3_rx_queue *queue = &v->rx[index];
    size_t left = arrival->size;

    for (unsigned i = 0; i < place->count; i++) {
        uint32_t part = data_ring ? left : MIN(left, place->pieces[i].size);
        unsigned space = data_ring ? 2 : place->pieces[i].ring;
        struct vmxnet3_completion completion =
            describe(arrival, i == 0, i + 1 == place->count, index + space * v->setup.rx_count,
                     place->pieces[i].index, part);

        vmxnet3_complete(v, &queue->completions, &completion);
        left -= part;
    }
    for (unsigned i = 0; i < 2; i++) {
        queue->ring[i].next = place->next[i];
        queue->ring[i].generation = place->generation[i];
    }
    v->fire |= 1u << queue->vector;
}

static void count_received(struct vmxnet3_rx_queue *queue, const struct arrival *arrival)
{
    unsigned cast = VMXNET3_RX_UNICAST_PACKETS + vmxnet3_cast(arrival->data);

    queue->counters[cast] += arrival->segments ? arrival->segments : 1;
    queue->counters[cast + 1] += arrival->size;
    if (arrival->segments) {
        queue->counters[VMXNET3_RX_LRO_PACKETS]++;
        queue->counters[VMXNET3_RX_LRO_BYTES] += arrival->size;
    }
}

static enum delivered drop(struct vmxnet3 *v, size_t bytes, const char *why)
{
    trace_vmxnet3_receive_drop(vmxnet3_name(v), bytes, why);
    return DELIVERED;
}

static enum delivered deliver(struct vmxnet3 *v, struct vmxnet3_received *received,
                              unsigned backend_queue)
{
    struct vmxnet3_rx_queue *queue;
    struct placement place;
    struct arrival arrival;
    enum placed placed;
    bool data_ring;
    unsigned index;
    int ret;

    if (received->size < NET_HEADER_SIZE ||
        !wanted(v, received->bytes + NET_HEADER_SIZE, received->size - NET_HEADER_SIZE))
        return drop(v, received->size, "filtered");
    examine(v, received, &arrival);
    index = choose_queue(v, &arrival, backend_queue);
    queue = &v->rx[index];
    if (queue->stopped)
        return drop(v, arrival.size, "its queue is stopped");
    data_ring = arrival.size <= queue->data_entry;
    placed = find_buffers(v, queue, arrival.size, data_ring, &place);
    if (placed == TOO_FEW)
        return NO_BUFFERS;
    if (placed == TOO_LARGE) {
        queue->counters[VMXNET3_RX_ERRORS]++;
        return drop(v, arrival.size, "takes too many buffers");
    }
    /* From here on the frame is delivered or lost: the tag can go. */
    if (arrival.tagged) {
        memmove(arrival.data + VLAN_TAG, arrival.data, ADDRESSES);
        arrival.data += VLAN_TAG;
    }
    ret = data_ring ? dma_write(&v->function.dma,
                                queue->data + (uint64_t)place.pieces[0].index * queue->data_entry,
                                arrival.data, arrival.size)
                    : copy_out(v, &place, arrival.data, arrival.size);
    if (ret == -EACCES || ret == -EAGAIN)
        return drop(v, arrival.size, "bus mastering is off");
    if (ret)
        return stop_queue(v, index);
    complete(v, index, &place, &arrival, data_ring);
    count_received(queue, &arrival);
    trace_vmxnet3_receive(vmxnet3_name(v), index, arrival.size, place.count);
    return DELIVERED;
}

/* ---- the backend's queues ---- */

enum received { RECEIVED, NOTHING, WAITING, STOPPED };

static enum received receive_one(struct vmxnet3 *v, unsigned backend_queue)
{
    struct vmxnet3_received *received = &v->received[backend_queue];
    uint64_t bit = UINT64_C(1) << backend_queue;

    if (!received->size) {
        struct iovec aside;
        ssize_t got;

        if (!received->bytes)
            received->bytes = g_malloc(VMXNET3_FRAME);
        aside = (struct iovec){received->bytes, VMXNET3_FRAME};
        got = net_receive(v->net, backend_queue, &aside, 1);
        if (got == 0)
            return NOTHING;
        if (got < 0)
            return RECEIVED;
        received->size = got;
    }
    if (deliver(v, received, backend_queue) == NO_BUFFERS) {
        /* Told that it waits, a vCPU that refills wakes us; it may have refilled before that. */
        if (__atomic_fetch_or(&v->rx_waiting, bit, __ATOMIC_SEQ_CST) & bit)
            return WAITING;
        if (deliver(v, received, backend_queue) == NO_BUFFERS)
            return WAITING;
    }
    __atomic_fetch_and(&v->rx_waiting, ~bit, __ATOMIC_SEQ_CST);
    received->size = 0;
    return RECEIVED;
}

void vmxnet3_receive(struct vmxnet3 *v, unsigned backend_queue)
{
    enum received state = STOPPED;
    uint64_t one = 1;
    unsigned done = 0;

    if (!v->backend_on || backend_queue >= v->backend_queues)
        return;
    pthread_mutex_lock(&v->lock);
    v->busy = true;
    if (vmxnet3_can_run(v)) {
        state = RECEIVED;
        while (done < VMXNET3_BATCH && !__atomic_load_n(&v->impatient, __ATOMIC_RELAXED) &&
               (state = receive_one(v, backend_queue)) == RECEIVED)
            done++;
    }
    vmxnet3_fire(v);
    net_set_receiving(v->net, backend_queue, state == RECEIVED || state == NOTHING);
    v->busy = false;
    pthread_mutex_unlock(&v->lock);
    if (state == WAITING && loop_timer_deadline(v->rx_timer) < 0)
        loop_timer_set(v->rx_timer, loop_now_ns() + (done ? VMXNET3_LOOK_SOON : v->rx_patience));
    /* The batch is full: the others' turn, then ours again. */
    if (state == RECEIVED) {
        __atomic_fetch_or(&v->rx_waiting, UINT64_C(1) << backend_queue, __ATOMIC_SEQ_CST);
        if (write(v->rx_doorbell, &one, sizeof(one)) < 0)
            log_debug(vmxnet3_name(v), "doorbell: %s", g_strerror(errno));
    }
}

void vmxnet3_receive_waiting(struct vmxnet3 *v)
{
    uint64_t waiting = __atomic_exchange_n(&v->rx_waiting, 0, __ATOMIC_SEQ_CST);

    for (; waiting; waiting &= waiting - 1)
        vmxnet3_receive(v, __builtin_ctzll(waiting));
}

/* What goes on waiting sets the timer again. */
void vmxnet3_receive_later(void *opaque)
{
    struct vmxnet3 *v = opaque;

    v->rx_patience = VMXNET3_LOOK_LATER;
    vmxnet3_receive_waiting(v);
    v->rx_patience = VMXNET3_LOOK_SOON;
}

void vmxnet3_after_batch(struct vmxnet3 *v)
{
    while (v->readable) {
        unsigned queue = __builtin_ctzll(v->readable);

        v->readable &= v->readable - 1;
        vmxnet3_receive(v, queue);
    }
}

/* ---- the backend's callbacks ---- */

static void backend_readable(void *opaque, unsigned queue)
{
    struct vmxnet3 *v = opaque;

    if (v->busy)
        v->readable |= UINT64_C(1) << queue;
    else
        vmxnet3_receive(v, queue);
}

static void backend_writable(void *opaque, unsigned queue)
{
    struct vmxnet3 *v = opaque;
    uint64_t one = 1;

    for (unsigned i = queue; i < VMXNET3_MAX_QUEUES; i += v->backend_queues) {
        v->tx[i].blocked = v->tx[i].discards = false;
        if (write(v->tx[i].doorbell, &one, sizeof(one)) < 0)
            log_debug(vmxnet3_name(v), "doorbell: %s", g_strerror(errno));
    }
}

static void backend_link_changed(void *opaque, bool up)
{
    vmxnet3_apply_later(opaque);
}

const struct net_client_ops vmxnet3_client = {
    .readable = backend_readable,
    .writable = backend_writable,
    .link_changed = backend_link_changed,
};
