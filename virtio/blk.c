/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blk - the virtio block device (contract: virtio/blk.h; virtio 1.3, 5.2; stock driver: virtio_blk)
 *
 * Any number of request queues, all on the device's loop. A doorbell pops everything there is and
 * hands it to the backend as one batch; completions come back in batches, and each batch is published
 * and interrupts the driver once.
 *
 * Requests: read, write, flush, get-id, discard, write-zeroes. The header and the status byte may
 * share descriptors with the data in any way (5.2.6). A request that breaks the format (no room for
 * header or status) puts the device in NEEDS_RESET; one that is out of range, unaligned or refused by
 * the backend ends with IOERR, one of a kind that is not offered with UNSUPP.
 *
 * Cache mode: write-back with FLUSH; where the driver takes neither FLUSH nor CONFIG_WCE, or turns
 * the cache off in config space, a write is on stable storage when it completes.
 *
 * Limits: data of a request: 4 GiB; 16 ranges a discard or write-zeroes, which are carried out one
 * after the other. A request's memory is allocated the first time the queue is that deep, and kept.
 */
#include "virtio/blk.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <string.h>

#include "backends/block/block.h"
#include "vmm/iov.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_blk_request, "%s queue=%u type=%u sector=%" PRIu64 " bytes=%" PRIu64,
            (const char *device, unsigned queue, unsigned type, uint64_t sector, uint64_t bytes),
            device, queue, type, sector, bytes)
TRACE_EVENT(virtio_blk_done, "%s queue=%u type=%u sector=%" PRIu64 " status=%u",
            (const char *device, unsigned queue, unsigned type, uint64_t sector, unsigned status),
            device, queue, type, sector, status)

#define SECTOR            512u
#define MAX_QUEUES        64u
#define MAX_RANGES        16u
#define MAX_DISCARD       (UINT32_C(1) << 22) /* sectors: 2 GiB */
#define MAX_WRITE_ZEROES  (UINT32_C(1) << 21) /* sectors: 1 GiB; it may have to be written */
#define HEADER_BYTES      sizeof(struct virtio_blk_outhdr)
#define BATCH             256u /* requests popped before the backend is kicked */
#define BATCHES           4u   /* of one queue before others get their turn */
#define BIT(n)            (UINT64_C(1) << (n))
#define CONFIG_SIZE       offsetof(struct virtio_blk_config, max_secure_erase_sectors)
#define PCI_CLASS_STORAGE 0x018000u
#define SPLIT_PIECES      2u /* descriptors that cross the end of a memory region */

struct blk_queue;

struct blk_request {
    struct block_request block; /* first */
    struct blk_queue *queue;
    struct blk_request *next_free;
    struct virtq_element *element;
    uint32_t type;
    uint64_t sector;
    uint8_t *status; /* in guest memory */
    unsigned range, ranges;
    struct virtio_blk_discard_write_zeroes range_list[MAX_RANGES];
};

struct blk_queue {
    struct virtio_blk *blk;
    struct virtq *vq;
    struct blk_request *free;
    struct blk_request **all; /* @allocated of vq->max_size */
    unsigned allocated;
    unsigned in_flight;
    bool starved;  /* chains are waiting for a free request */
    bool stopping; /* queue reset: completions are dropped */
};

struct virtio_blk {
    struct virtio_device vdev; /* first */
    struct block *block;
    char serial[VIRTIO_BLK_ID_BYTES];
    bool write_through;
    bool stopping;
    bool unkicked; /* a done callback submitted */
    unsigned in_flight;
    uint64_t dirty;   /* queues with something to publish, a bit each */
    uint64_t drained; /* queues that a queue reset waited for, a bit each */
    struct blk_queue queues[MAX_QUEUES];
};

const struct option_spec virtio_blk_options[] = {
    BLOCK_OPTIONS,
    {"serial", OPTION_STRING, .help = "serial number that the guest sees, at most 20 characters"},
    {"queues", OPTION_UINT, .value = "1", .min = 1, .max = MAX_QUEUES, .help = "request queues"},
    VIRTIO_DEVICE_OPTIONS,
    {},
};

static struct virtio_blk *to_blk(struct virtio_device *vdev)
{
    return (struct virtio_blk *)vdev;
}

/* ---- the pool ---- */

static void on_done(struct block_request *block_request, int result);

static struct blk_request *take_request(struct blk_queue *queue)
{
    struct blk_request *request = queue->free;

    if (request) {
        queue->free = request->next_free;
    } else if (queue->allocated < queue->vq->max_size) {
        request = g_new0(struct blk_request, 1);
        request->queue = queue;
        request->block.done = on_done;
        request->element = virtq_element_create(queue->vq->max_size + SPLIT_PIECES);
        queue->all[queue->allocated++] = request;
    }
    return request;
}

static void give_back(struct blk_request *request)
{
    request->next_free = request->queue->free;
    request->queue->free = request;
}

/* ---- completion ---- */

/* @data: bytes written to the device-writable part, from its first byte on. */
static void finish(struct blk_request *request, uint8_t status, uint64_t data)
{
    struct blk_queue *queue = request->queue;
    struct virtio_blk *blk = queue->blk;
    struct virtq_element *element = request->element;
    struct iovec *in = virtq_in(element);

    trace_virtio_blk_done(blk->vdev.device->name, queue->vq->index, request->type, request->sector,
                          status);
    in[element->in_count - 1].iov_len++; /* the status byte again */
    if (!blk->stopping && !queue->stopping) {
        if (!dma_allowed(blk->vdev.dma, DMA_FROM_DEVICE))
            *(volatile uint8_t *)request->status = status;
        if (data + 1 == element->in_bytes)
            data++;
        else
            dma_written_iov(blk->vdev.dma, in, element->in_count, element->in_bytes);
        virtq_push(queue->vq, element, MIN(data, UINT32_MAX));
        blk->dirty |= BIT(queue->vq->index);
    }
    queue->in_flight--;
    blk->in_flight--;
    if (queue->stopping && !queue->in_flight)
        blk->drained |= BIT(queue->vq->index);
    give_back(request);
}

static void report(struct blk_request *request, int result)
{
    struct device *device = request->queue->blk->vdev.device;

    log_guest(&device->guest_errors, device->name,
              "%s of %" PRIu64 " bytes at byte %" PRIu64 " failed: %s",
              block_operation_name(request->block.operation), request->block.length,
              request->block.offset, g_strerror(-result));
}

static bool submit_range(struct blk_request *request);

static void on_done(struct block_request *block_request, int result)
{
    struct blk_request *request = (struct blk_request *)block_request;
    bool is_read = block_request->operation == BLOCK_READ;

    if (result == 0 && ++request->range < request->ranges && submit_range(request)) {
        request->queue->blk->unkicked = true;
        return;
    }
    if (result < 0)
        report(request, result);
    finish(request,
           result == 0             ? VIRTIO_BLK_S_OK
           : result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
                                   : VIRTIO_BLK_S_IOERR,
           is_read && result == 0 ? block_request->length : 0);
}

/* Makes what was pushed visible, and goes on where a completion was waited for. */
static void publish(struct virtio_blk *blk)
{
    while (blk->dirty) {
        unsigned index = __builtin_ctzll(blk->dirty);

        blk->dirty &= ~BIT(index);
        virtq_flush(blk->queues[index].vq);
    }
    if (blk->unkicked) {
        blk->unkicked = false;
        block_kick(blk->block);
    }
    while (blk->drained) {
        unsigned index = __builtin_ctzll(blk->drained);

        blk->drained &= ~BIT(index);
        blk->queues[index].stopping = false;
        virtio_device_queue_stopped(&blk->vdev, index);
    }
    if (blk->stopping && !blk->in_flight) {
        blk->stopping = false;
        virtio_device_stopped(&blk->vdev);
    }
}

static void on_batch_done(void *opaque)
{
    struct virtio_blk *blk = opaque;

    publish(blk);
    for (unsigned i = 0; i < blk->vdev.queue_count; i++) {
        if (blk->queues[i].starved && blk->queues[i].free) {
            blk->queues[i].starved = false;
            virtio_device_kick(&blk->vdev, i); /* the next turn of the loop pops the rest */
        }
    }
}

/* ---- requests ---- */

/* Copies up to @bytes from the front of the device-readable part, and takes them off. */
static size_t consume(struct virtq_element *element, unsigned *piece, void *buffer, size_t bytes)
{
    struct iovec *out = virtq_out(element);
    size_t done = 0;

    while (done < bytes && *piece < element->out_count) {
        size_t n = MIN(bytes - done, out[*piece].iov_len);

        memcpy((uint8_t *)buffer + done, out[*piece].iov_base, n);
        out[*piece].iov_base = (uint8_t *)out[*piece].iov_base + n;
        out[*piece].iov_len -= n;
        done += n;
        if (!out[*piece].iov_len)
            ++*piece;
    }
    return done;
}

static bool in_range(const struct virtio_blk *blk, uint64_t sector, uint64_t bytes)
{
    uint64_t sectors = blk->block->size / SECTOR;

    return bytes / SECTOR <= sectors && sector <= sectors - bytes / SECTOR &&
           !((sector * SECTOR | bytes) & (blk->block->block_size - 1));
}

/* Each of these returns a status, or -1 when the request is on its way. */

static int start_transfer(struct blk_request *request, enum block_operation operation,
                          struct iovec *iov, unsigned count, uint64_t bytes)
{
    struct virtio_blk *blk = request->queue->blk;
    struct block_request *block = &request->block;

    if (!in_range(blk, request->sector, bytes)) {
        log_guest(&blk->vdev.device->guest_errors, blk->vdev.device->name,
                  "%s of %" PRIu64 " bytes at sector %" PRIu64
                  ": unaligned or beyond the end (the disk has %" PRIu64 " sectors)",
                  block_operation_name(operation), bytes, request->sector,
                  blk->block->size / SECTOR);
        return VIRTIO_BLK_S_IOERR;
    }
    if (operation == BLOCK_WRITE && blk->block->read_only)
        return VIRTIO_BLK_S_IOERR;
    if (!bytes)
        return VIRTIO_BLK_S_OK;
    block->operation = operation;
    block->offset = request->sector * SECTOR;
    block->length = bytes;
    block->iov = iov;
    block->iov_count = count;
    block->fua = blk->write_through;
    block_submit(blk->block, block);
    return -1;
}

static int start_flush(struct blk_request *request)
{
    struct block_request *block = &request->block;

    block->operation = BLOCK_FLUSH;
    block->offset = block->length = 0;
    block->iov_count = 0;
    block_submit(request->queue->blk->block, block);
    return -1;
}

/* Starts the current range of a discard or write-zeroes, or a later one if it is empty. */
static bool submit_range(struct blk_request *request)
{
    struct virtio_blk *blk = request->queue->blk;
    struct block_request *block = &request->block;

    for (; request->range < request->ranges; request->range++) {
        const struct virtio_blk_discard_write_zeroes *range = &request->range_list[request->range];

        if (!range->num_sectors)
            continue;
        block->offset = range->sector * SECTOR;
        block->length = (uint64_t)range->num_sectors * SECTOR;
        block->unmap = range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
        block_submit(blk->block, block);
        return true;
    }
    return false;
}

static int start_ranges(struct blk_request *request, unsigned piece, uint64_t bytes)
{
    struct virtio_blk *blk = request->queue->blk;
    bool is_discard = request->type == VIRTIO_BLK_T_DISCARD;
    unsigned feature = is_discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES;
    uint32_t flags = is_discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    uint32_t limit = is_discard ? MAX_DISCARD : MAX_WRITE_ZEROES;

    if (!virtio_device_has(&blk->vdev, feature))
        return VIRTIO_BLK_S_UNSUPP;
    if (bytes % sizeof(request->range_list[0]) || bytes > sizeof(request->range_list))
        return VIRTIO_BLK_S_IOERR;
    consume(request->element, &piece, request->range_list, bytes);
    request->ranges = bytes / sizeof(request->range_list[0]);
    for (unsigned i = 0; i < request->ranges; i++) {
        struct virtio_blk_discard_write_zeroes *range = &request->range_list[i];

        range->sector = GUINT64_FROM_LE(range->sector);
        range->num_sectors = GUINT32_FROM_LE(range->num_sectors);
        range->flags = GUINT32_FROM_LE(range->flags);
        if (range->flags & ~flags)
            return VIRTIO_BLK_S_UNSUPP;
        if (range->num_sectors > limit ||
            !in_range(blk, range->sector, (uint64_t)range->num_sectors * SECTOR))
            return VIRTIO_BLK_S_IOERR;
    }
    request->block.operation = is_discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
    request->block.iov_count = 0;
    request->block.fua = blk->write_through;
    return submit_range(request) ? -1 : VIRTIO_BLK_S_OK;
}

/* Not terminated when it fills all 20 bytes (5.2.6.1). Returns how many were written. */
static uint64_t give_serial(struct blk_request *request, struct iovec *in, unsigned count)
{
    return iov_write(in, count, 0, request->queue->blk->serial, VIRTIO_BLK_ID_BYTES);
}

/* Takes header and status out of a chain and starts it. False: the driver broke the format. */
static bool start_request(struct blk_request *request)
{
    struct blk_queue *queue = request->queue;
    struct virtio_blk *blk = queue->blk;
    struct virtq_element *element = request->element;
    struct iovec *in = virtq_in(element);
    struct virtio_blk_outhdr header;
    uint64_t out_bytes, in_bytes, written = 0;
    unsigned piece = 0, in_count;
    int status;

    if (element->out_bytes < HEADER_BYTES || !element->in_bytes)
        return false;
    consume(element, &piece, &header, HEADER_BYTES);
    out_bytes = element->out_bytes - HEADER_BYTES;
    in_bytes = element->in_bytes - 1;
    in_count = element->in_count;
    in[in_count - 1].iov_len--;
    request->status = (uint8_t *)in[in_count - 1].iov_base + in[in_count - 1].iov_len;
    if (!in[in_count - 1].iov_len)
        in_count--;
    request->type = GUINT32_FROM_LE(header.type);
    request->sector = GUINT64_FROM_LE(header.sector);
    request->range = request->ranges = 0;
    trace_virtio_blk_request(blk->vdev.device->name, queue->vq->index, request->type,
                             request->sector, out_bytes + in_bytes);
    queue->in_flight++;
    blk->in_flight++;

    switch (request->type) {
    case VIRTIO_BLK_T_IN:
        status = start_transfer(request, BLOCK_READ, in, in_count, in_bytes);
        break;
    case VIRTIO_BLK_T_OUT:
        status = start_transfer(request, BLOCK_WRITE, virtq_out(element) + piece,
                                element->out_count - piece, out_bytes);
        break;
    case VIRTIO_BLK_T_FLUSH:
        status = start_flush(request);
        break;
    case VIRTIO_BLK_T_GET_ID:
        written = give_serial(request, in, in_count);
        status = VIRTIO_BLK_S_OK;
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        status = start_ranges(request, piece, out_bytes);
        break;
    default:
        status = VIRTIO_BLK_S_UNSUPP;
        break;
    }
    if (status >= 0)
        finish(request, status, written);
    return true;
}

/* Pops and starts at most BATCH requests; how many there were. */
static unsigned start_batch(struct blk_queue *queue)
{
    unsigned count;

    for (count = 0; count < BATCH; count++) {
        struct blk_request *request = take_request(queue);

        if (!request) {
            queue->starved = true;
            break;
        }
        if (virtq_pop(queue->vq, request->element) <= 0) {
            give_back(request);
            break;
        }
        if (!start_request(request)) {
            give_back(request);
            virtio_device_needs_reset(&queue->blk->vdev,
                                      "a request without room for header and status");
            break;
        }
    }
    return count;
}

static void process_queue(struct virtio_device *vdev, unsigned index)
{
    struct virtio_blk *blk = to_blk(vdev);
    struct blk_queue *queue = &blk->queues[index];
    struct virtq *vq = queue->vq;
    unsigned batches = 0;

    do {
        unsigned count;

        virtq_disable_notify(vq);
        do {
            if (batches++ == BATCHES) {
                virtio_device_kick(vdev, index); /* the rest in the next turn of the loop */
                return;
            }
            count = start_batch(queue);
            if (count)
                block_kick(blk->block);
            publish(blk);
        } while (count == BATCH);
        if (queue->starved)
            return;
    } while (virtq_enable_notify(vq));
}

/* ---- life ---- */

static void update_cache_mode(struct virtio_blk *blk)
{
    struct virtio_device *vdev = &blk->vdev;

    if (virtio_device_has(vdev, VIRTIO_BLK_F_CONFIG_WCE))
        blk->write_through = !vdev->config[offsetof(struct virtio_blk_config, wce)];
    else
        blk->write_through = !virtio_device_has(vdev, VIRTIO_BLK_F_FLUSH);
}

static int blk_start(struct virtio_device *vdev)
{
    update_cache_mode(to_blk(vdev));
    return 0;
}

static void blk_config_written(struct virtio_device *vdev, unsigned offset, unsigned size)
{
    update_cache_mode(to_blk(vdev));
}

static void blk_stop(struct virtio_device *vdev)
{
    struct virtio_blk *blk = to_blk(vdev);
    static const uint8_t write_back = 1;

    for (unsigned i = 0; i < vdev->queue_count; i++)
        blk->queues[i].starved = blk->queues[i].stopping = false;
    blk->dirty = blk->drained = 0;
    /* The next driver finds the cache on again; but a state that is being loaded says how it was. */
    if (device_state(vdev->device) != DEVICE_RESUMING)
        virtio_device_set_config(vdev, offsetof(struct virtio_blk_config, wce), &write_back, 1,
                                 false);
    if (blk->in_flight)
        blk->stopping = true; /* publish() goes on */
    else
        virtio_device_stopped(vdev);
}

static void blk_queue_stop(struct virtio_device *vdev, unsigned index)
{
    struct blk_queue *queue = &to_blk(vdev)->queues[index];

    queue->starved = false;
    if (queue->in_flight)
        queue->stopping = true; /* publish() goes on */
    else
        virtio_device_queue_stopped(vdev, index);
}

static bool blk_quiesced(struct virtio_device *vdev)
{
    return !to_blk(vdev)->in_flight;
}

static void fill_config(struct virtio_blk *blk, uint16_t queue_size)
{
    const struct block *block = blk->block;
    uint32_t physical = block->physical_block_size;
    struct virtio_blk_config config = {
        .capacity = GUINT64_TO_LE(block->size / SECTOR),
        .seg_max = GUINT32_TO_LE(MAX(queue_size, 3) - 2),
        .blk_size = GUINT32_TO_LE(block->block_size),
        .physical_block_exp = __builtin_ctz(physical) - __builtin_ctz(block->block_size),
        .min_io_size = GUINT16_TO_LE(physical / block->block_size),
        .wce = 1,
        .num_queues = GUINT16_TO_LE(blk->vdev.queue_count),
        .max_discard_sectors = GUINT32_TO_LE(MAX_DISCARD),
        .max_discard_seg = GUINT32_TO_LE(MAX_RANGES),
        .discard_sector_alignment = GUINT32_TO_LE(block->discard_granularity / SECTOR),
        .max_write_zeroes_sectors = GUINT32_TO_LE(MAX_WRITE_ZEROES),
        .max_write_zeroes_seg = GUINT32_TO_LE(MAX_RANGES),
        .write_zeroes_may_unmap = block->can_discard,
    };

    G_STATIC_ASSERT(CONFIG_SIZE <= VIRTIO_MAX_CONFIG_SIZE);
    memcpy(blk->vdev.config, &config, CONFIG_SIZE);
    blk->vdev.config_writable[offsetof(struct virtio_blk_config, wce)] = 1;
}

/* The driver knows the disk by what config space said where the state was saved. */
static bool blk_after_load(struct virtio_device *vdev, GError **error)
{
    struct virtio_blk *blk = to_blk(vdev);
    struct virtio_blk_config loaded;
    uint64_t capacity, sectors = blk->block->size / SECTOR;

    memcpy(&loaded, vdev->config, CONFIG_SIZE);
    capacity = GUINT64_FROM_LE(loaded.capacity);
    if (capacity == sectors && GUINT32_FROM_LE(loaded.blk_size) == blk->block->block_size &&
        GUINT16_FROM_LE(loaded.num_queues) == vdev->queue_count &&
        GUINT32_FROM_LE(loaded.seg_max) == MAX(vdev->queues[0].max_size, 3) - 2u) {
        update_cache_mode(blk);
        return true;
    }
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "%s: the state is that of a disk of %" PRIu64 " sectors in blocks of %u, with %u "
                "queues; this one has %" PRIu64 " in blocks of %u, with %u queues of %u",
                vdev->device->name, capacity, GUINT32_FROM_LE(loaded.blk_size),
                GUINT16_FROM_LE(loaded.num_queues), sectors, blk->block->block_size,
                vdev->queue_count, vdev->queues[0].max_size);
    return false;
}

static void blk_destroy(struct virtio_device *vdev)
{
    struct virtio_blk *blk = to_blk(vdev);

    block_close(blk->block);
    for (unsigned i = 0; i < MAX_QUEUES; i++) {
        for (unsigned n = 0; n < blk->queues[i].allocated; n++) {
            g_free(blk->queues[i].all[n]->element);
            g_free(blk->queues[i].all[n]);
        }
        g_free(blk->queues[i].all);
    }
    virtio_device_finish(vdev);
    g_free(blk);
}

static const struct virtio_class blk_class = {
    .type = "virtio-blk",
    .id = VIRTIO_ID_BLOCK,
    .pci_class = PCI_CLASS_STORAGE,
    .features = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
                BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_TOPOLOGY) |
                BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_BLK_F_DISCARD) |
                BIT(VIRTIO_BLK_F_WRITE_ZEROES),
    .config_size = CONFIG_SIZE,
    .start = blk_start,
    .stop = blk_stop,
    .queue_ready = process_queue,
    .queue_stop = blk_queue_stop,
    .config_written = blk_config_written,
    .quiesced = blk_quiesced,
    .after_load = blk_after_load,
    .destroy = blk_destroy,
};

static void withdraw_features(struct virtio_blk *blk)
{
    uint64_t *offered = &blk->vdev.offered;

    if (!blk->block->read_only)
        *offered &= ~BIT(VIRTIO_BLK_F_RO);
    if (!blk->block->can_discard)
        *offered &= ~BIT(VIRTIO_BLK_F_DISCARD);
    if (!blk->block->can_write_zeroes)
        *offered &= ~BIT(VIRTIO_BLK_F_WRITE_ZEROES);
    if (blk->vdev.queue_count == 1)
        *offered &= ~BIT(VIRTIO_BLK_F_MQ);
}

static bool read_serial(struct virtio_blk *blk, const struct options *options, GError **error)
{
    const char *serial = options_string(options, "serial");
    size_t length = serial ? strlen(serial) : 0;

    if (length > sizeof(blk->serial)) {
        options_set_error(error, options, "serial", "has %zu characters, at most %zu are possible",
                          length, sizeof(blk->serial));
        return false;
    }
    memcpy(blk->serial, serial ? serial : "", length);
    return true;
}

struct virtio_device *virtio_blk_create(const struct options *options, struct loop *loop,
                                        GError **error)
{
    struct virtio_blk *blk = g_new0(struct virtio_blk, 1);
    unsigned queues = options_uint(options, "queues");
    struct virtio_ring_options ring;
    uint16_t queue_size;
    int ret;

    if (!virtio_ring_options_read(options, &ring, &queue_size, error) ||
        !read_serial(blk, options, error) || !(blk->block = block_open(options, loop, error))) {
        g_free(blk);
        return NULL;
    }
    blk->block->batch_done = on_batch_done;
    blk->block->batch_opaque = blk;
    ret = virtio_device_init(&blk->vdev, &blk_class, queues, queue_size, loop);
    if (ret < 0) {
        options_set_error(error, options, "queues", "%s (raise ulimit -n, or use fewer queues)",
                          g_strerror(-ret));
        block_close(blk->block);
        g_free(blk);
        return NULL;
    }
    virtio_device_set_ring_options(&blk->vdev, &ring);
    for (unsigned i = 0; i < queues; i++) {
        blk->queues[i].blk = blk;
        blk->queues[i].vq = &blk->vdev.queues[i];
        blk->queues[i].all = g_new0(struct blk_request *, queue_size);
    }
    withdraw_features(blk);
    fill_config(blk, queue_size);
    return &blk->vdev;
}

const struct block *virtio_blk_backend(const struct virtio_device *vdev)
{
    return ((const struct virtio_blk *)vdev)->block;
}
