/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault - a decorator that makes requests to a disk fail or take long
 *
 *     --disk path=a.img,fault-errors=10,fault-operation=write,fault-start=1M,fault-size=4K
 *
 * A request of the chosen operation that touches the chosen range is held back for fault-delay-us,
 * and then fails with -EIO in fault-errors of 1000 cases, without reaching the disk. Which ones is
 * drawn from fault-seed alone: the same sequence of requests meets the same faults.
 */
#include "backends/block/driver.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct fault {
    struct block block; /* first */
    struct block *inner;
    unsigned errors;     /* of 1000 */
    int operation;       /* enum block_operation, or -1 for any */
    uint64_t start, end; /* bytes; a request that touches [start, end) is concerned */
    uint64_t random;
    struct block_request *failing, **failing_last;
    bool completing;
    struct loop_timer *later; /* for what done callbacks submit */
    struct block_delay delay;
};

/* splitmix64: small, and good enough for drawing lots. */
static uint64_t draw(struct fault *fault)
{
    uint64_t z = fault->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool concerned(const struct fault *fault, const struct block_request *request)
{
    if (fault->operation >= 0 && fault->operation != (int)request->operation)
        return false;
    if (request->operation == BLOCK_FLUSH)
        return true;
    return request->offset < fault->end && request->offset + request->length > fault->start;
}

/* Decides over a request whose delay, if any, is over. */
static void forward(struct fault *fault, struct block_request *request, bool is_concerned)
{
    if (is_concerned && fault->errors && draw(fault) % 1000 < fault->errors)
        block_list_add(&fault->failing_last, request);
    else
        fault->inner->ops->submit(fault->inner, request);
}

static void fault_submit(struct block *block, struct block_request *request)
{
    struct fault *fault = (struct fault *)block;
    bool is_concerned = concerned(fault, request);

    if (is_concerned && fault->delay.delay_ns)
        block_delay_add(&fault->delay, request);
    else
        forward(fault, request, is_concerned);
}

static void fault_kick(struct block *block)
{
    struct fault *fault = (struct fault *)block;
    struct block_request *request = fault->failing;

    if (request && !fault->completing) {
        block_list_init(&fault->failing, &fault->failing_last);
        fault->completing = true;
        while (request) {
            struct block_request *next = request->next;

            block_complete(block, request, -EIO);
            request = next;
        }
        block_batch_done(block);
        fault->completing = false;
        if (fault->failing)
            loop_timer_set(fault->later, loop_now_ns());
    }
    if (fault->inner->ops->kick)
        fault->inner->ops->kick(fault->inner);
}

static void kick_later(void *opaque)
{
    fault_kick(opaque);
}

static void fault_due(void *opaque, struct block_request *requests)
{
    struct fault *fault = opaque;

    while (requests) {
        struct block_request *next = requests->next;

        forward(fault, requests, true);
        requests = next;
    }
    fault_kick(&fault->block);
}

static void fault_close(struct block *block)
{
    struct fault *fault = (struct fault *)block;

    fault->inner->ops->close(fault->inner);
    loop_timer_destroy(fault->later);
    block_delay_finish(&fault->delay);
    block_finish(block);
    g_free(fault);
}

static const struct block_ops fault_ops = {
    .submit = fault_submit,
    .kick = fault_kick,
    .close = fault_close,
};

struct block *block_fault_open(struct block *inner, const struct options *options, GError **error)
{
    struct fault *fault;
    const char *operation = options_string(options, "fault-operation");
    uint64_t start = options_uint(options, "fault-start");
    uint64_t size = options_uint(options, "fault-size");

    if (start >= inner->size) {
        options_set_error(error, options, "fault-start",
                          "lies beyond the end of the disk (%" PRIu64 " bytes)", inner->size);
        block_close(inner);
        return NULL;
    }
    fault = g_new0(struct fault, 1);
    block_init(&fault->block, &fault_ops, inner->loop, inner->name, "fault");
    fault->block.size = inner->size;
    fault->block.block_size = inner->block_size;
    fault->block.physical_block_size = inner->physical_block_size;
    fault->block.discard_granularity = inner->discard_granularity;
    fault->block.read_only = inner->read_only;
    fault->block.lock_fd = inner->lock_fd;
    fault->block.can_discard = inner->can_discard;
    fault->block.can_write_zeroes = inner->can_write_zeroes;
    fault->inner = inner;
    inner->outer = &fault->block;
    fault->errors = options_uint(options, "fault-errors");
    fault->operation = -1;
    for (int i = 0; i < BLOCK_OPERATIONS; i++) {
        if (!strcmp(operation, block_operation_name(i)))
            fault->operation = i;
    }
    fault->start = start;
    fault->end = size && size < inner->size - start ? start + size : inner->size;
    fault->random = options_uint(options, "fault-seed");
    block_list_init(&fault->failing, &fault->failing_last);
    fault->later = loop_timer_create(inner->loop, kick_later, fault);
    block_delay_init(&fault->delay, inner->loop, options_uint(options, "fault-delay-us"), fault_due,
                     fault);
    return &fault->block;
}
