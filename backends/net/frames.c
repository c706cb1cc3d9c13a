/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * frames - frames in pieces, and frames that wait for the guest (backends/net/driver.h)
 *
 * The queue is a ring of records in one buffer: a length, the frame, padding to 8 bytes. A record that
 * would wrap starts at the front instead, behind a mark. Whoever fills it asks for room first and
 * leaves the rest where it comes from, so that what is not taken is slowed down, not lost.
 */
#include <errno.h>
#include <string.h>

#include "backends/net/driver.h"
#include "vmm/iov.h"

#define QUEUE_WRAP UINT32_MAX

ssize_t net_frame_take(const struct iovec *iov, unsigned count, struct virtio_net_hdr_v1 *header,
                       uint8_t *frame)
{
    size_t size = iov_size(iov, count);

    if (size < NET_HEADER_SIZE + NET_MIN_FRAME || size > NET_HEADER_SIZE + NET_MAX_FRAME)
        return -EINVAL;
    iov_read(iov, count, 0, header, NET_HEADER_SIZE);
    return iov_read(iov, count, NET_HEADER_SIZE, frame, size - NET_HEADER_SIZE);
}

/* ---- frames that wait ---- */

void net_queue_init(struct net_queue *queue)
{
    memset(queue, 0, sizeof(*queue));
    queue->size = NET_QUEUE_SIZE;
    queue->data = g_malloc(queue->size);
}

void net_queue_finish(struct net_queue *queue)
{
    g_clear_pointer(&queue->data, g_free);
}

static size_t record_size(size_t length)
{
    return (sizeof(uint32_t) + length + 7) & ~(size_t)7;
}

/* Where the next record goes, and what is skipped for it at the buffer's end. False: no room. */
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
        queue->head = 0; /* so that a queue that stays short stays in the cache, too */
    if (length > NET_MAX_FRAME || !find_room(queue, need, &at, &skipped))
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

/* The record at @at (moved on over a mark). */
static const uint8_t *record_at(const struct net_queue *queue, size_t *at, uint32_t *length)
{
    memcpy(length, queue->data + *at, sizeof(*length));
    if (*length == QUEUE_WRAP) {
        *at = 0;
        memcpy(length, queue->data, sizeof(*length));
    }
    return queue->data + *at + sizeof(*length);
}

ssize_t net_queue_pop(struct net_queue *queue, const struct virtio_net_hdr_v1 *header,
                      const struct iovec *iov, unsigned count)
{
    size_t at = queue->head;
    uint32_t length;
    const uint8_t *frame;

    if (!queue->frames)
        return 0;
    frame = record_at(queue, &at, &length);
    if (at < queue->head)
        queue->used -= queue->size - queue->head;
    queue->frames--;
    queue->used -= record_size(length);
    queue->head = (at + record_size(length)) % queue->size;
    if (iov_size(iov, count) < NET_HEADER_SIZE + (size_t)length)
        return -EMSGSIZE;
    iov_write(iov, count, 0, header, NET_HEADER_SIZE);
    iov_write(iov, count, NET_HEADER_SIZE, frame, length);
    return NET_HEADER_SIZE + length;
}

void net_queue_save(const struct net_queue *queue, GByteArray *out)
{
    size_t at = queue->head;

    for (unsigned i = 0; i < queue->frames; i++) {
        uint32_t length, stored;
        const uint8_t *frame = record_at(queue, &at, &length);

        stored = GUINT32_TO_LE(length);
        g_byte_array_append(out, (const uint8_t *)&stored, sizeof(stored));
        g_byte_array_append(out, frame, length);
        at = (at + record_size(length)) % queue->size;
    }
}

bool net_queue_load(struct net_queue *queue, const uint8_t *data, size_t size)
{
    queue->head = queue->used = queue->frames = 0;
    while (size) {
        uint32_t length = 0;

        if (size >= sizeof(length))
            memcpy(&length, data, sizeof(length));
        length = GUINT32_FROM_LE(length);
        if (!length || length > NET_MAX_FRAME || length > size - sizeof(length) ||
            !net_queue_push(queue, data + sizeof(length), length)) {
            queue->head = queue->used = queue->frames = 0;
            return false;
        }
        data += sizeof(length) + length;
        size -= sizeof(length) + length;
    }
    return true;
}
