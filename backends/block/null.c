/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * null - a disk without storage: reads give zeroes, writes are forgotten
 *
 *     --disk type=null,size=1G,latency-us=100
 *
 * For measuring what the rest of the monitor costs, and for guests that want a disk to exist. With
 * latency-us a request takes that long, else it completes in the kick.
 */
#include "backends/block/driver.h"

#include <string.h>

struct null_block {
    struct block block; /* first */
    struct block_request *queued, **queued_last;
    bool completing;
    struct block_delay delay;
};

static void complete_all(struct null_block *null, struct block_request *request)
{
    null->completing = true;
    while (request) {
        struct block_request *next = request->next;

        if (request->operation == BLOCK_READ) {
            for (unsigned i = 0; i < request->iov_count; i++)
                memset(request->iov[i].iov_base, 0, request->iov[i].iov_len);
        }
        block_complete(&null->block, request, 0);
        request = next;
    }
    block_batch_done(&null->block);
    null->completing = false;
}

static void null_due(void *opaque, struct block_request *requests)
{
    complete_all(opaque, requests);
}

static void null_submit(struct block *block, struct block_request *request)
{
    struct null_block *null = (struct null_block *)block;

    /* What a done callback submits waits for the next turn of the loop, so that requests that beget
     * requests can't keep the loop. */
    if (null->delay.delay_ns || null->completing)
        block_delay_add(&null->delay, request);
    else
        block_list_add(&null->queued_last, request);
}

static void null_kick(struct block *block)
{
    struct null_block *null = (struct null_block *)block;
    struct block_request *requests = null->queued;

    if (requests) {
        block_list_init(&null->queued, &null->queued_last);
        complete_all(null, requests);
    }
}

static void null_close(struct block *block)
{
    struct null_block *null = (struct null_block *)block;

    block_delay_finish(&null->delay);
    block_finish(block);
    g_free(null);
}

static const struct block_ops null_ops = {
    .submit = null_submit,
    .kick = null_kick,
    .close = null_close,
};

struct block *block_null_open(const struct options *options, struct loop *loop, GError **error)
{
    struct null_block *null;
    uint64_t size = options_uint(options, "size");

    if (options_given(options, "path")) {
        options_set_error(error, options, "path", "type=null has no file; give size= instead");
        return NULL;
    }
    if (!options_given(options, "size")) {
        options_set_error(error, options, NULL, "type=null needs a size, for instance size=1G");
        return NULL;
    }
    if (!size || size % 512) {
        options_set_error(error, options, "size", "must be a multiple of 512, and not 0");
        return NULL;
    }
    null = g_new0(struct null_block, 1);
    block_init(&null->block, &null_ops, loop, "null", "null");
    null->block.size = size;
    null->block.read_only = options_bool(options, "readonly");
    null->block.can_discard = options_bool(options, "discard");
    null->block.can_write_zeroes = true;
    block_list_init(&null->queued, &null->queued_last);
    block_delay_init(&null->delay, loop, options_uint(options, "latency-us"), null_due, null);
    return &null->block;
}
