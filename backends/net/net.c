/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net - opening by options, and what all implementations share (backends/net/net.h) */
#include "backends/net/net.h"

#include <errno.h>
#include <string.h>

#include "backends/net/driver.h"
#include "vmm/log.h"
#include "vmm/trace.h"

TRACE_EVENT(net_send, "%s queue=%u bytes=%zd",
            (const char *implementation, unsigned queue, ssize_t bytes), implementation, queue,
            bytes)
TRACE_EVENT(net_receive, "%s queue=%u bytes=%zd",
            (const char *implementation, unsigned queue, ssize_t bytes), implementation, queue,
            bytes)

struct net *net_open(const struct options *options, struct loop *loop, GError **error)
{
    static const struct {
        const char *type;
        struct net *(*open)(const struct options *options, struct loop *loop, GError **error);
    } types[] = {
        {"user", net_user_open},   {"tap", net_tap_open},   {"stream", net_stream_open},
        {"dgram", net_dgram_open}, {"null", net_null_open},
    };
    const char *type = options_string(options, "type");
    const char *pcap = options_string(options, "pcap");
    struct net *net = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++)
        if (!strcmp(types[i].type, type))
            net = types[i].open(options, loop, error);
    if (net && pcap)
        net = net_pcap_open(net, pcap, error);
    return net;
}

void net_close(struct net *net)
{
    if (net)
        net->ops->close(net);
}

void net_init(struct net *net, const struct net_ops *ops, const char *implementation,
              unsigned queues)
{
    net->ops = ops;
    net->implementation = implementation;
    net->queues = queues;
    net->link_up = true;
}

void net_set_client(struct net *net, const struct net_client_ops *client, void *opaque)
{
    net->client = client;
    net->client_opaque = opaque;
}

int net_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    return net->ops->set_active(net, queue, loop, on);
}

int net_set_offloads(struct net *net, const struct net_offloads *receive)
{
    net->receive = *receive;
    return net->ops->set_offloads ? net->ops->set_offloads(net, receive) : 0;
}

void net_set_receiving(struct net *net, unsigned queue, bool on)
{
    if (net->ops->set_receiving)
        net->ops->set_receiving(net, queue, on);
}

int net_set_used(struct net *net, unsigned queue, bool used)
{
    return net->ops->set_used ? net->ops->set_used(net, queue, used) : 0;
}

void net_set_link(struct net *net, bool up)
{
    if (net->link_up == up)
        return;
    net->link_up = up;
    if (net->client)
        net->client->link_changed(net->client_opaque, up);
}

ssize_t net_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    ssize_t sent = net->ops->send(net, queue, iov, count);

    trace_net_send(net->implementation, queue, sent);
    if (sent > 0) {
        net->tx_frames++;
        net->tx_bytes += sent - NET_HEADER_SIZE;
    } else if (sent != -EAGAIN) {
        net->dropped++;
    }
    return sent;
}

ssize_t net_receive(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    ssize_t got = net->ops->receive(net, queue, iov, count);

    trace_net_receive(net->implementation, queue, got);
    if (got > 0) {
        net->rx_frames++;
        net->rx_bytes += got - NET_HEADER_SIZE;
    } else if (got < 0) {
        net->dropped++;
    }
    return got;
}

/* ---- pieces ---- */

size_t net_iov_size(const struct iovec *iov, unsigned count)
{
    size_t size = 0;

    for (unsigned i = 0; i < count; i++)
        size += iov[i].iov_len;
    return size;
}

size_t net_iov_read(const struct iovec *iov, unsigned count, size_t skip, void *buffer, size_t size)
{
    size_t done = 0;

    for (unsigned i = 0; i < count && done < size; i++) {
        size_t part;

        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        part = MIN(iov[i].iov_len - skip, size - done);
        memcpy((uint8_t *)buffer + done, (uint8_t *)iov[i].iov_base + skip, part);
        done += part;
        skip = 0;
    }
    return done;
}

size_t net_iov_write(const struct iovec *iov, unsigned count, size_t skip, const void *data,
                     size_t size)
{
    size_t done = 0;

    for (unsigned i = 0; i < count && done < size; i++) {
        size_t part;

        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        part = MIN(iov[i].iov_len - skip, size - done);
        memcpy((uint8_t *)iov[i].iov_base + skip, (const uint8_t *)data + done, part);
        done += part;
        skip = 0;
    }
    return done;
}

/* ---- frames that wait for the guest ---- */

void net_queue_init(struct net_queue *queue)
{
    memset(queue, 0, sizeof(*queue));
    queue->size = NET_QUEUE_SIZE;
    queue->data = g_malloc(queue->size);
}

void net_queue_finish(struct net_queue *queue)
{
    g_free(queue->data);
    queue->data = NULL;
}

/* A record is a length and the bytes; one that would wrap starts at the front instead, behind a mark. */
#define QUEUE_WRAP UINT32_MAX

static size_t record_size(size_t length)
{
    return (sizeof(uint32_t) + length + 7) & ~(size_t)7;
}

/* Where the next record goes and how much room there is in one piece. */
static bool find_room(const struct net_queue *queue, size_t need, size_t *at, size_t *skipped)
{
    size_t tail = (queue->head + queue->used) % queue->size;
    size_t free_bytes = queue->size - queue->used;
    size_t to_end = queue->size - tail;

    *skipped = 0;
    *at = tail;
    if (tail < queue->head || (queue->used && tail == queue->head))
        return free_bytes >= need;
    if (to_end >= need)
        return true;
    *skipped = to_end;
    *at = 0;
    return free_bytes >= to_end + need;
}

bool net_queue_has_room(const struct net_queue *queue)
{
    size_t at, skipped;

    return find_room(queue, record_size(NET_MAX_FRAME), &at, &skipped);
}

bool net_queue_push(struct net_queue *queue, const void *frame, size_t length)
{
    size_t need = record_size(length), at, skipped;
    uint32_t mark;

    if (!queue->used)
        queue->head = 0;
    if (!find_room(queue, need, &at, &skipped))
        return false;
    if (skipped) {
        mark = QUEUE_WRAP;
        memcpy(queue->data + queue->size - skipped, &mark, sizeof(mark));
        queue->used += skipped;
    }
    mark = length;
    memcpy(queue->data + at, &mark, sizeof(mark));
    memcpy(queue->data + at + sizeof(mark), frame, length);
    queue->used += need;
    queue->frames++;
    return true;
}

ssize_t net_queue_pop(struct net_queue *queue, const struct iovec *iov, unsigned count)
{
    static const struct virtio_net_hdr_v1 header = {.num_buffers = 1};
    size_t room = net_iov_size(iov, count);
    uint32_t length;
    const uint8_t *frame;

    if (!queue->frames)
        return 0;
    memcpy(&length, queue->data + queue->head, sizeof(length));
    if (length == QUEUE_WRAP) {
        queue->used -= queue->size - queue->head;
        queue->head = 0;
        memcpy(&length, queue->data, sizeof(length));
    }
    frame = queue->data + queue->head + sizeof(length);
    queue->frames--;
    queue->used -= record_size(length);
    queue->head = (queue->head + record_size(length)) % queue->size;
    if (room < NET_HEADER_SIZE + (size_t)length)
        return -EMSGSIZE;
    net_iov_write(iov, count, 0, &header, NET_HEADER_SIZE);
    net_iov_write(iov, count, NET_HEADER_SIZE, frame, length);
    return NET_HEADER_SIZE + length;
}

/* ---- null: takes everything, has nothing ---- */

static ssize_t null_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    return net_iov_size(iov, count);
}

static ssize_t null_receive(struct net *net, unsigned queue, const struct iovec *iov,
                            unsigned count)
{
    return 0;
}

static int null_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    return 0;
}

static void null_close(struct net *net)
{
    g_free(net);
}

static const struct net_ops null_ops = {
    .send = null_send,
    .receive = null_receive,
    .set_active = null_set_active,
    .close = null_close,
};

struct net *net_null_open(const struct options *options, struct loop *loop, GError **error)
{
    struct net *net = g_new0(struct net, 1);

    net_init(net, &null_ops, "null", NET_MAX_QUEUES);
    return net;
}
