/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot - a decorator that leaves an image as it is: writes go to a temporary file
 *
 *     --disk path=a.img,snapshot=on
 *
 * The temporary file is as large as the image, sparse, already deleted, and in $TMPDIR or /var/tmp. A
 * bit a block tells where its contents are: in the image, or, once it was written, in the file. Since a
 * write is never smaller than a block, nothing is ever copied from one to the other. Several guests
 * may share an image this way (it is opened read-only, with a shared lock).
 *
 * A request becomes one request after the other to the layer below that has the next piece of it; most
 * are one piece. Flush has nothing to do: what is written is not meant to last.
 */
#include "backends/block/driver.h"
#include "vmm/iov.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/iov.h"

struct snapshot_request {
    struct block_request below; /* first */
    struct snapshot *snapshot;
    struct block_request *above;
    uint64_t done; /* bytes of @above */
    unsigned iov_max;
    struct iovec *iov;
    struct snapshot_request *next_free, *next;
};

struct snapshot {
    struct block block; /* first */
    struct block *base, *layer;
    uint64_t *written; /* a bit a block */
    size_t written_size;
    struct snapshot_request *free, *all;
    struct block_request *flushes, **flushes_last;
    struct loop_timer *later; /* for flushes that done callbacks submit */
    bool unkicked;            /* done callbacks below submitted */
};

/* ---- where the blocks are ---- */

static bool is_written(const struct snapshot *snapshot, uint64_t index)
{
    return snapshot->written[index / 64] >> (index % 64) & 1;
}

static void set_written(struct snapshot *snapshot, uint64_t offset, uint64_t length)
{
    uint64_t first = offset / snapshot->block.block_size;
    uint64_t end = first + length / snapshot->block.block_size;

    for (uint64_t i = first; i < end; i++) {
        if (i % 64 == 0 && end - i >= 64) {
            snapshot->written[i / 64] = UINT64_MAX;
            i += 63;
        } else {
            snapshot->written[i / 64] |= UINT64_C(1) << (i % 64);
        }
    }
}

/* Bytes from @offset on, at most @length, that lie in the layer that @offset does. */
static uint64_t run_length(const struct snapshot *snapshot, uint64_t offset, uint64_t length)
{
    uint64_t first = offset / snapshot->block.block_size;
    uint64_t end = first + length / snapshot->block.block_size;
    bool written = is_written(snapshot, first);
    uint64_t all = written ? UINT64_MAX : 0;
    uint64_t i = first + 1;

    while (i < end) {
        if (i % 64 == 0 && end - i >= 64 && snapshot->written[i / 64] == all)
            i += 64;
        else if (is_written(snapshot, i) == written)
            i++;
        else
            break;
    }
    return (i - first) * snapshot->block.block_size;
}

/* ---- requests ---- */

static void on_done_below(struct block_request *below, int result);

static struct snapshot_request *take(struct snapshot *snapshot)
{
    struct snapshot_request *request = snapshot->free;

    if (request) {
        snapshot->free = request->next_free;
    } else {
        request = g_new0(struct snapshot_request, 1);
        request->snapshot = snapshot;
        request->below.done = on_done_below;
        request->next = snapshot->all;
        snapshot->all = request;
    }
    return request;
}

/* The pieces of @above's iovec for @length bytes from request->done on. */
static void slice(struct snapshot_request *request, uint64_t length)
{
    const struct block_request *above = request->above;
    size_t bytes = length;

    if (request->iov_max < above->iov_count) {
        request->iov_max = above->iov_count;
        request->iov = g_renew(struct iovec, request->iov, request->iov_max);
    }
    request->below.iov = request->iov;
    request->below.iov_count = iov_slice(above->iov, above->iov_count, request->done, &bytes,
                                         request->iov, request->iov_max);
}

/* Starts what comes next of a request. */
static void step(struct snapshot_request *request)
{
    struct snapshot *snapshot = request->snapshot;
    const struct block_request *above = request->above;
    struct block_request *below = &request->below;
    struct block *block = snapshot->layer;

    below->operation = above->operation;
    below->unmap = above->unmap;
    below->offset = above->offset + request->done;
    below->length = above->length - request->done;
    below->iov_count = 0;
    if (above->operation == BLOCK_READ && below->length) {
        if (!is_written(snapshot, below->offset / snapshot->block.block_size))
            block = snapshot->base;
        below->length = run_length(snapshot, below->offset, below->length);
    }
    if (above->operation <= BLOCK_WRITE)
        slice(request, below->length);
    block_submit(block, below);
}

static void on_done_below(struct block_request *below, int result)
{
    struct snapshot_request *request = (struct snapshot_request *)below;
    struct snapshot *snapshot = request->snapshot;
    struct block_request *above = request->above;

    if (result == 0) {
        request->done += below->length;
        if (request->done < above->length) {
            step(request);
            snapshot->unkicked = true;
            return;
        }
        /* Only now: a read meanwhile gets what was there before, not a hole. What is discarded in the
         * file reads as zeroes, and in the image stays. */
        if (above->operation == BLOCK_WRITE || above->operation == BLOCK_WRITE_ZEROES)
            set_written(snapshot, above->offset, above->length);
    }
    request->next_free = snapshot->free;
    snapshot->free = request;
    block_complete(&snapshot->block, above, result);
}

static void kick_below(struct snapshot *snapshot)
{
    block_kick(snapshot->base);
    block_kick(snapshot->layer);
}

static void on_batch_below(void *opaque)
{
    struct snapshot *snapshot = opaque;

    block_batch_done(&snapshot->block);
    if (snapshot->unkicked) {
        snapshot->unkicked = false;
        kick_below(snapshot);
    }
}

static void snapshot_submit(struct block *block, struct block_request *above)
{
    struct snapshot *snapshot = (struct snapshot *)block;
    struct snapshot_request *request;

    if (above->operation == BLOCK_FLUSH) {
        block_list_add(&snapshot->flushes_last, above);
        return;
    }
    request = take(snapshot);
    request->above = above;
    request->done = 0;
    step(request);
}

static void complete_flushes(void *opaque)
{
    struct snapshot *snapshot = opaque;
    struct block_request *flush = snapshot->flushes;

    block_list_init(&snapshot->flushes, &snapshot->flushes_last);
    while (flush) {
        struct block_request *next = flush->next;

        block_complete(&snapshot->block, flush, 0);
        flush = next;
    }
    block_batch_done(&snapshot->block);
}

static void snapshot_kick(struct block *block)
{
    struct snapshot *snapshot = (struct snapshot *)block;

    /* In the next turn of the loop, so that flushes that beget flushes can't keep it. */
    if (snapshot->flushes)
        loop_timer_set(snapshot->later, loop_now_ns());
    kick_below(snapshot);
}

/* ---- opening and closing ---- */

static void snapshot_close(struct block *block)
{
    struct snapshot *snapshot = (struct snapshot *)block;

    block_close(snapshot->base);
    block_close(snapshot->layer);
    loop_timer_destroy(snapshot->later);
    while (snapshot->all) {
        struct snapshot_request *request = snapshot->all;

        snapshot->all = request->next;
        g_free(request->iov);
        g_free(request);
    }
    munmap(snapshot->written, snapshot->written_size);
    block_finish(block);
    g_free(snapshot);
}

static const struct block_ops snapshot_ops = {
    .submit = snapshot_submit,
    .kick = snapshot_kick,
    .close = snapshot_close,
};

static int create_file(const char **folder, uint64_t size)
{
    int fd;

    *folder = g_getenv("TMPDIR");
    if (!*folder || !**folder)
        *folder = "/var/tmp";
    fd = open(*folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        /* Not every file system can make files without a name. */
        g_autofree char *path = g_build_filename(*folder, "lodge-snapshot-XXXXXX", NULL);

        fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0)
            unlink(path);
    }
    if (fd >= 0 && ftruncate(fd, size) < 0) {
        int err = errno;

        close(fd);
        errno = err;
        fd = -1;
    }
    return fd;
}

static struct block *create_layer(struct block *base, const struct options *options, GError **error)
{
    g_autofree char *name = g_strconcat(base->name, " (snapshot)", NULL);
    const char *folder;
    int fd = create_file(&folder, base->size);

    if (fd >= 0)
        return block_raw_from_fd(fd, name, base->block_size, base->loop, error);
    options_set_error(error, options, "snapshot",
                      "no temporary file in %s: %s; set TMPDIR to a folder with room", folder,
                      g_strerror(errno));
    return NULL;
}

struct block *block_snapshot_open(struct block *base, const struct options *options, GError **error)
{
    size_t written_size = (base->size / base->block_size + 63) / 64 * 8;
    struct block *layer = create_layer(base, options, error);
    struct snapshot *snapshot;
    void *written;

    if (!layer) {
        block_close(base);
        return NULL;
    }
    written = mmap(NULL, written_size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (written == MAP_FAILED) {
        options_set_error(error, options, "snapshot", "no memory for its table (%zu bytes)",
                          written_size);
        block_close(layer);
        block_close(base);
        return NULL;
    }
    snapshot = g_new0(struct snapshot, 1);
    block_init(&snapshot->block, &snapshot_ops, base->loop, base->name, "snapshot");
    snapshot->block.size = base->size;
    snapshot->block.block_size = base->block_size;
    snapshot->block.physical_block_size = base->physical_block_size;
    snapshot->block.discard_granularity = layer->discard_granularity;
    snapshot->block.can_discard = layer->can_discard;
    snapshot->block.can_write_zeroes = true;
    snapshot->base = base;
    snapshot->layer = layer;
    snapshot->written = written;
    snapshot->written_size = written_size;
    block_list_init(&snapshot->flushes, &snapshot->flushes_last);
    snapshot->later = loop_timer_create(base->loop, complete_flushes, snapshot);
    base->batch_done = layer->batch_done = on_batch_below;
    base->batch_opaque = layer->batch_opaque = snapshot;
    return &snapshot->block;
}
