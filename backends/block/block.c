/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * block - opening a disk by its options, and what every request passes (contract: block.h)
 */
#include "backends/block/block.h"

#include <errno.h>
#include <inttypes.h>
#include <fcntl.h>
#include <string.h>

#include "backends/block/driver.h"
#include "vmm/trace.h"

TRACE_EVENT(block_submit, "%s %s offset=%" PRIu64 " length=%" PRIu64,
            (const char *name, const char *operation, uint64_t offset, uint64_t length), name,
            operation, offset, length)
TRACE_EVENT(block_complete, "%s %s offset=%" PRIu64 " length=%" PRIu64 " result=%d",
            (const char *name, const char *operation, uint64_t offset, uint64_t length, int result),
            name, operation, offset, length, result)
TRACE_EVENT(block_kick, "%s in_flight=%u", (const char *name, unsigned in_flight), name, in_flight)

const char *const block_types[] = {"raw", "null", NULL};
const char *const block_engines[] = {"auto", "uring", "threads", NULL};
/* "any", then by enum block_operation. */
const char *const block_fault_operations[] = {"any",     "read",         "write", "flush",
                                              "discard", "write-zeroes", NULL};
const struct option_spec block_options[] = {BLOCK_OPTIONS, {}};

const char *block_operation_name(enum block_operation operation)
{
    return block_fault_operations[operation + 1];
}

/* ---- opening ---- */

struct block *block_open(const struct options *options, struct loop *loop, GError **error)
{
    bool snapshot = options_bool(options, "snapshot");
    bool read_only = options_bool(options, "readonly");
    struct block *block;

    if (snapshot && read_only) {
        options_set_error(error, options, "snapshot", "makes no sense with readonly=on: drop one");
        return NULL;
    }
    if (!strcmp(options_string(options, "type"), "null"))
        block = block_null_open(options, loop, error);
    else
        block = block_raw_open(options, read_only || snapshot, loop, error);
    if (block && snapshot)
        block = block_snapshot_open(block, options, error);
    if (block && (options_uint(options, "fault-errors") || options_uint(options, "fault-delay-us")))
        block = block_fault_open(block, options, error);
    return block;
}

static void close_on_loop(void *opaque)
{
    struct block *block = opaque;

    block->ops->close(block);
}

void block_close(struct block *block)
{
    if (block)
        loop_call(block->loop, close_on_loop, block);
}

void block_init(struct block *block, const struct block_ops *ops, struct loop *loop,
                const char *name, const char *implementation)
{
    memset(block, 0, sizeof(*block));
    block->ops = ops;
    block->loop = loop;
    block->name = g_strdup(name);
    block->implementation = implementation;
    block->block_size = 512;
    block->physical_block_size = 512;
    block->discard_granularity = 512;
    block->lock_fd = -1;
    block_list_init(&block->rejected, &block->rejected_last);
}

int block_set_lock(const struct block *block, bool locked)
{
    struct flock lock = {
        .l_type = !locked            ? F_UNLCK
                  : block->read_only ? F_RDLCK
                                     : F_WRLCK,
        .l_whence = SEEK_SET,
    };

    if (block->lock_fd < 0 || fcntl(block->lock_fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    /* Where nothing can be locked, it could not be at the start either. */
    return errno == EAGAIN || errno == EACCES ? -EAGAIN : 0;
}

void block_finish(struct block *block)
{
    g_free(block->name);
}

/* ---- requests ---- */

static int check(const struct block *block, const struct block_request *request)
{
    if (request->operation == BLOCK_FLUSH)
        return 0;
    if (request->length > block->size || request->offset > block->size - request->length ||
        (request->offset | request->length) % block->block_size)
        return -EINVAL;
    switch (request->operation) {
    case BLOCK_READ:
        return 0;
    case BLOCK_WRITE:
        return block->read_only ? -EROFS : 0;
    case BLOCK_DISCARD:
        return block->read_only ? -EROFS : block->can_discard ? 0 : -EOPNOTSUPP;
    case BLOCK_WRITE_ZEROES:
        return block->read_only ? -EROFS : block->can_write_zeroes ? 0 : -EOPNOTSUPP;
    default:
        return -EINVAL;
    }
}

void block_submit(struct block *block, struct block_request *request)
{
    int ret = check(block, request);

    trace_block_submit(block->name, block_operation_name(request->operation), request->offset,
                       request->length);
    block->in_flight++;
    if (ret < 0) {
        request->backend = GINT_TO_POINTER(ret);
        block_list_add(&block->rejected_last, request);
        return;
    }
    block->ops->submit(block, request);
}

static void complete_rejected(struct block *block)
{
    struct block_request *request = block->rejected;

    block_list_init(&block->rejected, &block->rejected_last);
    while (request) {
        struct block_request *next = request->next;

        block_complete(block, request, GPOINTER_TO_INT(request->backend));
        request = next;
    }
    block_batch_done(block);
}

void block_kick(struct block *block)
{
    trace_block_kick(block->name, block->in_flight);
    if (block->rejected)
        complete_rejected(block);
    if (block->ops->kick)
        block->ops->kick(block);
}

static struct block *outermost(struct block *block)
{
    while (block->outer)
        block = block->outer;
    return block;
}

void block_complete(struct block *block, struct block_request *request, int result)
{
    enum block_operation operation = request->operation;

    block = outermost(block);
    block->in_flight--;
    block->stats.requests[operation]++;
    if (result < 0)
        block->stats.failed[operation]++;
    else
        block->stats.bytes[operation] += request->length;
    trace_block_complete(block->name, block_operation_name(operation), request->offset,
                         request->length, result);
    request->done(request, result);
}

void block_batch_done(struct block *block)
{
    block = outermost(block);
    if (block->batch_done)
        block->batch_done(block->batch_opaque);
}

/* ---- delays ---- */

static void delay_arm(struct block_delay *delay)
{
    if (delay->first)
        loop_timer_set(delay->timer, (intptr_t)delay->first->backend);
}

static void delay_expired(void *opaque)
{
    struct block_delay *delay = opaque;
    struct block_request *due, **due_last;
    int64_t now = loop_now_ns();

    block_list_init(&due, &due_last);
    while (delay->first && (intptr_t)delay->first->backend <= now) {
        struct block_request *request = delay->first;

        delay->first = request->next;
        if (!delay->first)
            delay->last = &delay->first;
        block_list_add(&due_last, request);
    }
    delay_arm(delay);
    if (due)
        delay->due(delay->opaque, due);
}

void block_delay_init(struct block_delay *delay, struct loop *loop, uint64_t delay_us,
                      void (*due)(void *opaque, struct block_request *requests), void *opaque)
{
    delay->delay_ns = delay_us * 1000;
    block_list_init(&delay->first, &delay->last);
    delay->timer = loop_timer_create(loop, delay_expired, delay);
    delay->due = due;
    delay->opaque = opaque;
}

void block_delay_finish(struct block_delay *delay)
{
    loop_timer_destroy(delay->timer);
}

void block_delay_add(struct block_delay *delay, struct block_request *request)
{
    bool first = !delay->first;

    request->backend = (void *)(intptr_t)(loop_now_ns() + delay->delay_ns);
    block_list_add(&delay->last, request);
    if (first)
        delay_arm(delay);
}
