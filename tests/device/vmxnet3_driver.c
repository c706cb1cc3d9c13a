/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmxnet3_driver - the driver's side of vmxnet3, and a backend, for tests (vmxnet3.h) */
#include <errno.h>
#include <string.h>

#include "backends/net/driver.h"
#include "devices/vmxnet3/private.h"
#include "tests/device/vmxnet3.h"
#include "vmm/iov.h"

#define TX_BUFFER 65536u

const uint8_t vmxtest_mac[6] = {0x52, 0x54, 0, 1, 2, 3};

/* ---- the backend ---- */

static ssize_t backend_send(struct net *net, unsigned queue, const struct iovec *iov,
                            unsigned count)
{
    struct vmxtest_backend *backend = (struct vmxtest_backend *)net;
    size_t size = iov_size(iov, count);
    struct vmxtest_frame *frame;

    if (backend->full)
        return -EAGAIN;
    g_assert_true(backend->active[queue]);
    g_assert_cmpuint(size, >=, NET_HEADER_SIZE + NET_MIN_FRAME);
    g_assert_cmpuint(size, <=, NET_HEADER_SIZE + NET_MAX_FRAME);
    frame = g_malloc0(sizeof(*frame) + size);
    frame->queue = queue;
    frame->length = size - NET_HEADER_SIZE;
    iov_read(iov, count, 0, &frame->header, NET_HEADER_SIZE);
    iov_read(iov, count, NET_HEADER_SIZE, frame->data, frame->length);
    g_queue_push_tail(&backend->sent, frame);
    return size;
}

static ssize_t backend_receive(struct net *net, unsigned queue, const struct iovec *iov,
                               unsigned count)
{
    struct vmxtest_backend *backend = (struct vmxtest_backend *)net;
    g_autofree struct vmxtest_frame *frame = NULL;

    g_assert_true(backend->active[queue]);
    if (queue || g_queue_is_empty(&backend->incoming))
        return 0;
    frame = g_queue_pop_head(&backend->incoming);
    iov_write(iov, count, 0, &frame->header, NET_HEADER_SIZE);
    iov_write(iov, count, NET_HEADER_SIZE, frame->data, frame->length);
    return NET_HEADER_SIZE + frame->length;
}

static int backend_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    struct vmxtest_backend *backend = (struct vmxtest_backend *)net;

    backend->active[queue] = backend->receiving[queue] = on;
    return 0;
}

static void backend_set_receiving(struct net *net, unsigned queue, bool on)
{
    ((struct vmxtest_backend *)net)->receiving[queue] = on;
}

static int backend_set_offloads(struct net *net, const struct net_offloads *offloads)
{
    return 0;
}

static int backend_set_used(struct net *net, unsigned queue, bool used)
{
    ((struct vmxtest_backend *)net)->used[queue] = used;
    return 0;
}

static void backend_close(struct net *net)
{
    struct vmxtest_backend *backend = (struct vmxtest_backend *)net;

    g_queue_clear_full(&backend->sent, g_free);
    g_queue_clear_full(&backend->incoming, g_free);
}

static const struct net_ops backend_ops = {
    .send = backend_send,
    .receive = backend_receive,
    .set_active = backend_set_active,
    .set_receiving = backend_set_receiving,
    .set_offloads = backend_set_offloads,
    .set_used = backend_set_used,
    .close = backend_close,
};

/* ---- setting up ---- */

void vmxtest_set_up_on(struct vmxtest *t, struct loop *loop, const char *text)
{
    g_autofree char *all = g_strdup_printf("%s,mac=52:54:00:01:02:03", text);
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(vmxnet3_options, "--net", all, &error);

    g_assert_no_error(error);
    memset(t, 0, sizeof(*t));
    t->h = harness_create(VMXTEST_RAM);
    t->v = vmxnet3_create("net0", options, &t->h->env, loop ? loop : t->h->loop, &error);
    g_assert_no_error(error);
    t->slot = harness_attach(t->h, vmxnet3_function(t->v));
    g_assert_cmpuint(harness_msix_enable(t->h, t->slot, VMXNET3_VECTORS), ==, VMXNET3_VECTORS);
    t->tx_count = t->rx_count = 1;
    t->shared = harness_alloc(t->h, sizeof(struct vmxnet3_shared), 64);
    t->queues = harness_alloc(t->h, 2 * VMXTEST_QUEUES * 256, 128);
    t->multicasts = harness_alloc(t->h, 65536, 16);
    t->rss = harness_alloc(t->h, sizeof(struct vmxnet3_rss), 16);
    t->config = (struct vmxnet3_shared){
        .magic = VMXNET3_MAGIC,
        .misc = {.features = VMXNET3_F_RX_CHECKSUM | VMXNET3_F_LRO | VMXNET3_F_VLAN_STRIP,
                 .queues = t->queues,
                 .mtu = 1500,
                 .max_rx_pieces = 18},
        .interrupts = {.auto_mask = 1, .count = 2},
        .filter = {.mode = VMXNET3_RX_UNICAST | VMXNET3_RX_BROADCAST,
                   .multicast = t->multicasts,
                   .vlans = {1}},
        .rss = {1, sizeof(struct vmxnet3_rss), t->rss},
    };
    vmxtest_write(t, VMXNET3_VRRS, 4);
}

void vmxtest_set_up(struct vmxtest *t, unsigned backend_queues, bool host_offloads)
{
    vmxtest_set_up_on(t, NULL, "type=null");
    net_close(t->v->net);
    net_init(&t->backend.net, &backend_ops, "test", backend_queues);
    t->backend.net.host_offloads = host_offloads;
    net_set_client(&t->backend.net, &vmxnet3_client, t->v);
    t->v->net = &t->backend.net;
    g_queue_init(&t->backend.sent);
    g_queue_init(&t->backend.incoming);
}

void vmxtest_tear_down(struct vmxtest *t)
{
    harness_detach(t->h, vmxnet3_function(t->v));
    vmxnet3_destroy(t->v);
    harness_destroy(t->h);
}

uint32_t vmxtest_read(struct vmxtest *t, unsigned offset)
{
    return harness_bar_read(t->h, t->slot, 1, offset, 4);
}

void vmxtest_write(struct vmxtest *t, unsigned offset, uint32_t value)
{
    harness_bar_write(t->h, t->slot, 1, offset, 4, value);
}

uint32_t vmxtest_command(struct vmxtest *t, uint32_t command)
{
    vmxtest_write(t, VMXNET3_CMD, command);
    return vmxtest_read(t, VMXNET3_CMD);
}

static struct vmxtest_ring new_ring(struct vmxtest *t, uint32_t size)
{
    return (struct vmxtest_ring){
        .base = harness_alloc(t->h, 16 * size, 512), .size = size, .generation = true};
}

static void advance(struct vmxtest_ring *ring)
{
    if (++ring->next == ring->size) {
        ring->next = 0;
        ring->generation = !ring->generation;
    }
}

/* Gives the device the next entry of a receive ring. */
static void post(struct vmxtest *t, struct vmxtest_rx *rx, unsigned ring)
{
    struct vmxtest_ring *r = &rx->ring[ring];
    bool head = ring == 0 && r->next % rx->heads_every == 0;
    uint64_t at = r->base + 16 * r->next;

    harness_store(t->h, at, 8, rx->buffers[ring] + VMXTEST_BODY * r->next);
    harness_store(t->h, at + 8, 4,
                  (head ? VMXTEST_HEAD : VMXTEST_BODY | VMXNET3_RXD_BODY) |
                      (r->generation ? VMXNET3_RXD_GENERATION : 0));
    advance(r);
}

static void lay_out_tx(struct vmxtest *t, struct vmxtest_tx *tx, unsigned vector, uint64_t at)
{
    struct vmxnet3_tx_descriptor descriptor = {
        .ring_size = VMXTEST_RING, .completions_size = VMXTEST_RING, .vector = vector};

    *tx = (struct vmxtest_tx){new_ring(t, VMXTEST_RING), new_ring(t, VMXTEST_RING),
                              harness_alloc(t->h, VMXTEST_RING * TX_BUFFER, 4096)};
    descriptor.ring = tx->ring.base;
    descriptor.completions = tx->completions.base;
    harness_write(t->h, at, &descriptor, sizeof(descriptor));
}

static void lay_out_rx(struct vmxtest *t, struct vmxtest_rx *rx, unsigned vector, uint64_t at)
{
    struct vmxnet3_rx_descriptor descriptor = {.ring_size = {VMXTEST_RING, VMXTEST_RING},
                                               .completions_size = 2 * VMXTEST_RING,
                                               .vector = vector,
                                               .data_entry = t->data_entry};
    unsigned heads_every = rx->heads_every ? rx->heads_every : 1;

    *rx = (struct vmxtest_rx){.ring = {new_ring(t, VMXTEST_RING), new_ring(t, VMXTEST_RING)},
                              .completions = new_ring(t, 2 * VMXTEST_RING),
                              .data = harness_alloc(t->h, VMXTEST_RING * 2048, 512),
                              .heads_every = heads_every};
    for (unsigned i = 0; i < 2; i++) {
        rx->buffers[i] = harness_alloc(t->h, VMXTEST_RING * VMXTEST_BODY, 4096);
        descriptor.ring[i] = rx->ring[i].base;
        while (rx->ring[i].next < VMXTEST_RING - 1)
            post(t, rx, i);
    }
    descriptor.completions = rx->completions.base;
    descriptor.data_ring = rx->data;
    harness_write(t->h, at, &descriptor, sizeof(descriptor));
}

void vmxtest_share(struct vmxtest *t)
{
    harness_write(t->h, t->rss, &t->rss_config, sizeof(t->rss_config));
    harness_write(t->h, t->shared, &t->config, sizeof(t->config));
}

void vmxtest_lay_out(struct vmxtest *t)
{
    uint64_t at = t->queues;

    for (unsigned i = 0; i < t->tx_count; i++, at += 256)
        lay_out_tx(t, &t->tx[i], i, at);
    for (unsigned i = 0; i < t->rx_count; i++, at += 256)
        lay_out_rx(t, &t->rx[i], i, at);
    t->config.misc.tx_queues = t->tx_count;
    t->config.misc.rx_queues = t->rx_count;
    t->config.misc.queues_size = (t->tx_count + t->rx_count) * 256;
    t->config.interrupts.event_vector = MAX(t->tx_count, t->rx_count);
    vmxtest_share(t);
    vmxtest_write(t, VMXNET3_DSAL, t->shared);
    vmxtest_write(t, VMXNET3_DSAH, t->shared >> 32);
}

void vmxtest_unmask(struct vmxtest *t, unsigned vector)
{
    harness_bar_write(t->h, t->slot, 0, VMXNET3_IMR + 8 * vector, 4, 0);
}

void vmxtest_activate(struct vmxtest *t)
{
    vmxtest_lay_out(t);
    g_assert_cmphex(vmxtest_command(t, VMXNET3_ACTIVATE), ==, 0);
    for (unsigned i = 0; i <= t->config.interrupts.event_vector; i++)
        vmxtest_unmask(t, i);
    harness_settle(t->h, 1);
}

/* ---- sending ---- */

void vmxtest_put(struct vmxtest *t, unsigned queue, const uint8_t *frame, size_t length,
                 unsigned pieces, const struct vmxtest_offload *offload)
{
    static const struct vmxtest_offload none;
    struct vmxtest_tx *tx = &t->tx[queue];
    uint32_t first_word2 = 0;
    uint64_t first = 0;
    size_t done = 0;

    offload = offload ? offload : &none;
    for (unsigned i = 0; i < pieces; i++) {
        size_t part = i + 1 < pieces ? MIN(20 + 7 * i, length - done) : length - done;
        uint64_t at = tx->ring.base + 16 * tx->ring.next;
        uint64_t buffer = tx->buffers + TX_BUFFER * tx->ring.next;
        uint32_t word2 = part & VMXNET3_TXD_LENGTH, word3 = 0;

        g_assert_cmpuint(part, <=, 16384);
        harness_write(t->h, buffer, frame + done, part);
        if (i == 0) {
            word2 |= offload->mss << VMXNET3_TXD_MSS_SHIFT;
            word3 = offload->headers | offload->mode << VMXNET3_TXD_MODE_SHIFT |
                    (offload->tag ? VMXNET3_TXD_TAG : 0) |
                    (uint32_t)offload->tci << VMXNET3_TXD_TAG_SHIFT;
        }
        if (i + 1 == pieces)
            word3 |= VMXNET3_TXD_END | VMXNET3_TXD_COMPLETE;
        word2 |= tx->ring.generation ? VMXNET3_TXD_GENERATION : 0;
        harness_store(t->h, at, 8, buffer);
        harness_store(t->h, at + 12, 4, word3);
        if (i == 0) {
            first = at + 8;
            first_word2 = word2;
        } else {
            harness_store(t->h, at + 8, 4, word2);
        }
        advance(&tx->ring);
        done += part;
    }
    harness_store(t->h, first, 4, first_word2);
}

void vmxtest_ring_doorbell(struct vmxtest *t, unsigned queue)
{
    harness_bar_write(t->h, t->slot, 0, VMXNET3_TXPROD + 8 * queue, 4, t->tx[queue].ring.next);
}

bool vmxtest_reap(struct vmxtest *t, unsigned queue)
{
    struct vmxtest_ring *ring = &t->tx[queue].completions;
    uint64_t at = ring->base + 16 * ring->next;
    uint32_t last = harness_load(t->h, at + 12, 4);

    if ((bool)(last & VMXNET3_CD_GENERATION) != ring->generation)
        return false;
    g_assert_cmpuint(harness_load(t->h, at, 4), <, t->tx[queue].ring.size);
    advance(ring);
    return true;
}

struct reap_wait {
    struct vmxtest *t;
    unsigned queue;
};

static bool has_reaped(void *opaque)
{
    struct reap_wait *wait = opaque;

    return vmxtest_reap(wait->t, wait->queue);
}

struct vmxtest_frame *vmxtest_send(struct vmxtest *t, unsigned queue, const uint8_t *frame,
                                   size_t length, unsigned pieces,
                                   const struct vmxtest_offload *offload)
{
    struct reap_wait wait = {t, queue};

    vmxtest_put(t, queue, frame, length, pieces, offload);
    vmxtest_ring_doorbell(t, queue);
    g_assert_true(harness_wait(t->h, has_reaped, &wait, HARNESS_TIMEOUT_MS));
    return g_queue_pop_head(&t->backend.sent);
}

/* ---- receiving ---- */

void vmxtest_host_sends(struct vmxtest *t, const struct virtio_net_hdr_v1 *header,
                        const uint8_t *data, size_t length)
{
    struct vmxtest_frame *frame = g_malloc0(sizeof(*frame) + length);

    if (header)
        frame->header = *header;
    frame->length = length;
    memcpy(frame->data, data, length);
    g_queue_push_tail(&t->backend.incoming, frame);
    if (t->backend.active[0] && t->backend.receiving[0])
        net_readable(&t->backend.net, 0);
}

/* One completion, with all that the stock driver insists on. */
static bool take_completion(struct vmxtest *t, unsigned queue, struct vmxtest_received *received,
                            bool *end)
{
    struct vmxtest_rx *rx = &t->rx[queue];
    uint64_t at = rx->completions.base + 16 * rx->completions.next, buffer;
    uint32_t words[4], index, size, id;
    unsigned ring;

    harness_read(t->h, at, words, sizeof(words));
    if ((bool)(words[3] & VMXNET3_CD_GENERATION) != rx->completions.generation)
        return false;
    index = words[0] & 0xfff;
    size = words[2] & VMXNET3_RCD_LENGTH;
    id = words[0] >> VMXNET3_RCD_QUEUE_SHIFT & 0x3ff;
    g_assert_true(id == queue || id == queue + t->rx_count || id == queue + 2 * t->rx_count);
    ring = id == queue + t->rx_count;
    g_assert_cmpuint(index, <, rx->ring[ring].size);
    if (words[0] & VMXNET3_RCD_START) {
        g_assert_cmpuint(received->buffers, ==, 0);
        g_assert_cmpuint(ring, ==, 0);
        g_assert_cmpuint(index % rx->heads_every, ==, 0);
        g_assert_cmpuint(size, >, 0);
        received->data_ring = id == queue + 2 * t->rx_count;
        memcpy(received->first, words, sizeof(words));
    } else {
        g_assert_cmpuint(received->buffers, >, 0);
        g_assert_true(ring == 1 || index % rx->heads_every);
    }
    buffer = received->data_ring ? rx->data + (uint64_t)index * t->data_entry
                                 : rx->buffers[ring] + VMXTEST_BODY * index;
    g_assert_cmpuint(size, <=,
                     received->data_ring ? t->data_entry
                     : received->buffers ? VMXTEST_BODY
                                         : VMXTEST_HEAD);
    harness_read(t->h, buffer, received->data + received->length, size);
    received->length += size;
    received->buffers++;
    memcpy(received->last, words, sizeof(words));
    *end = words[0] & VMXNET3_RCD_END;
    advance(&rx->completions);
    /* The device may have skipped some: all before this one can be filled again. */
    while ((rx->ring[ring].next + 1) % rx->ring[ring].size != index)
        post(t, rx, ring);
    return true;
}

static bool has_received(void *opaque)
{
    struct {
        struct vmxtest *t;
        struct vmxtest_received *received;
    } *wait = opaque;

    for (unsigned queue = 0; queue < wait->t->rx_count; queue++) {
        bool end = false;

        wait->received->length = wait->received->buffers = 0;
        wait->received->queue = queue;
        if (!take_completion(wait->t, queue, wait->received, &end))
            continue;
        while (!end)
            g_assert_true(take_completion(wait->t, queue, wait->received, &end));
        return true;
    }
    return false;
}

bool vmxtest_poll(struct vmxtest *t, struct vmxtest_received *received, int timeout_ms)
{
    struct {
        struct vmxtest *t;
        struct vmxtest_received *received;
    } wait = {t, received};

    return harness_wait(t->h, has_received, &wait, timeout_ms);
}

bool vmxtest_receive(struct vmxtest *t, struct vmxtest_received *received, int timeout_ms)
{
    if (!vmxtest_poll(t, received, timeout_ms))
        return false;
    vmxtest_unmask(t, received->queue);
    return true;
}

void vmxtest_expect(struct vmxtest *t, const uint8_t *frame, size_t length)
{
    g_autofree struct vmxtest_received *received = g_new0(struct vmxtest_received, 1);

    g_assert_true(vmxtest_receive(t, received, HARNESS_TIMEOUT_MS));
    g_assert_cmpmem(received->data, received->length, frame, length);
}

void vmxtest_expect_nothing(struct vmxtest *t)
{
    g_autofree struct vmxtest_received *received = g_new0(struct vmxtest_received, 1);

    harness_settle(t->h, 5);
    g_assert_false(vmxtest_receive(t, received, 1));
}

/* ---- frames ---- */

void vmxtest_fill(uint8_t *frame, size_t length, const uint8_t *to, unsigned seed)
{
    static const uint8_t head[] = {0x52, 0x54, 0, 9, 9, 9, 0x88, 0xb5};

    memcpy(frame, to, 6);
    memcpy(frame + 6, head, sizeof(head));
    for (size_t i = 14; i < length; i++)
        frame[i] = seed * 17 + i * 31 + i / 251;
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = value >> 8;
    at[1] = value;
}

void vmxtest_fix_ip(uint8_t *frame)
{
    uint16_t sum;

    put16(frame + 24, 0);
    sum = net_checksum(frame + 14, 20);
    memcpy(frame + 24, &sum, 2);
}

size_t vmxtest_tcp_headers(bool ipv6)
{
    return 14 + (ipv6 ? 40 : 20) + 20;
}

size_t vmxtest_tcp(uint8_t *frame, bool ipv6, uint16_t port, size_t payload)
{
    size_t transport = vmxtest_tcp_headers(ipv6) - 20, length = transport + 20 + payload;

    vmxtest_fill(frame, length, vmxtest_mac, port);
    memset(frame + 12, 0, transport + 20 - 12);
    put16(frame + 12, ipv6 ? 0x86dd : 0x0800);
    if (ipv6) {
        frame[14] = 0x60;
        put16(frame + 18, 20 + payload);
        frame[20] = 6;
        frame[21] = 64;
        frame[22] = frame[38] = 0xfd;
        frame[37] = 1;
        frame[53] = 2;
    } else {
        frame[14] = 0x45;
        put16(frame + 16, MIN(40 + payload, 65535));
        frame[22] = 64;
        frame[23] = 6;
        memcpy(frame + 26, (const uint8_t[]){10, 0, 2, 2, 10, 0, 2, 15}, 8);
        vmxtest_fix_ip(frame);
    }
    put16(frame + transport, port);
    put16(frame + transport + 2, 5001);
    frame[transport + 12] = 0x50;
    frame[transport + 13] = 0x10;
    return length;
}

/* ---- whole ways ---- */

void vmxtest_echo(struct vmxtest *t, unsigned queue, size_t length, unsigned pieces)
{
    g_autofree uint8_t *data = g_malloc(length);
    g_autofree struct vmxtest_frame *frame = NULL;

    vmxtest_fill(data, length, (const uint8_t *)"\2\2\2\2\2\2", length);
    frame = vmxtest_send(t, queue, data, length, pieces, NULL);
    g_assert_nonnull(frame);
    g_assert_cmpmem(frame->data, frame->length, data, length);
    g_assert_cmphex(frame->header.flags, ==, 0);
    g_assert_cmphex(frame->header.gso_type, ==, 0);
}

void vmxtest_pass(struct vmxtest *t, size_t length, unsigned seed)
{
    g_autofree uint8_t *data = g_malloc(length);

    vmxtest_fill(data, length, vmxtest_mac, seed);
    vmxtest_host_sends(t, NULL, data, length);
    vmxtest_expect(t, data, length);
}

void vmxtest_offer(struct vmxtest *t, const uint8_t *to, unsigned vlan, bool expected)
{
    g_autofree struct vmxtest_received *received = g_new0(struct vmxtest_received, 1);
    uint8_t data[64];

    vmxtest_fill(data, sizeof(data), to, 1);
    if (vlan)
        memcpy(data + 12, (const uint8_t[]){0x81, 0, 0x20 | vlan >> 8, vlan, 0x88, 0xb5}, 6);
    vmxtest_host_sends(t, NULL, data, sizeof(data));
    harness_settle(t->h, 1);
    g_assert_cmpint(vmxtest_receive(t, received, 1), ==, expected);
}
