/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * driver - what the implementations of block.h share; not for users of block devices
 *
 * An implementation embeds struct block as its first member, fills it by block_init and the fields
 * that describe the disk, and reports with block_complete() once a request and block_batch_done()
 * once after a run of those. submit only queues; kick starts. Both run on the loop, as does close.
 *
 * A decorator that passes requests on as they are sets inner->outer to itself and calls inner->ops
 * directly: they are counted once, by the outermost block. One that makes requests of its own is an
 * ordinary user of the blocks below.
 */
#ifndef BACKENDS_BLOCK_DRIVER_H
#define BACKENDS_BLOCK_DRIVER_H

#include "backends/block/block.h"

void block_init(struct block *block, const struct block_ops *ops, struct loop *loop,
                const char *name, const char *implementation);
/* Frees what block_init made; the implementation's last step of close before it frees itself. */
void block_finish(struct block *block);

void block_complete(struct block *block, struct block_request *request, int result);
void block_batch_done(struct block *block);

/* @read_only whatever the options say. */
struct block *block_raw_open(const struct options *options, bool read_only, struct loop *loop,
                             GError **error);
/* A regular file that is open for reading and writing, of the size that it is to have; takes over
 * @fd, also on failure. No lock. */
struct block *block_raw_from_fd(int fd, const char *name, uint32_t block_size, struct loop *loop,
                                GError **error);
struct block *block_null_open(const struct options *options, struct loop *loop, GError **error);

/* These take over the block that they decorate, also on failure. */
struct block *block_snapshot_open(struct block *base, const struct options *options,
                                  GError **error);
struct block *block_fault_open(struct block *inner, const struct options *options, GError **error);

/* ---- requests that wait for some time, in order of arrival ---- */

struct block_delay {
    int64_t delay_ns;
    struct block_request *first, **last; /* request->backend: when it is due, ns */
    struct loop_timer *timer;
    /* Takes the requests that are due (linked by next, never NULL), on the loop. */
    void (*due)(void *opaque, struct block_request *requests);
    void *opaque;
};

void block_delay_init(struct block_delay *delay, struct loop *loop, uint64_t delay_us,
                      void (*due)(void *opaque, struct block_request *requests), void *opaque);
void block_delay_finish(struct block_delay *delay); /* forgets what waits */
void block_delay_add(struct block_delay *delay, struct block_request *request);

/* ---- a list of requests, first in first out ---- */

static inline void block_list_init(struct block_request **first, struct block_request ***last)
{
    *first = NULL;
    *last = first;
}

static inline void block_list_add(struct block_request ***last, struct block_request *request)
{
    request->next = NULL;
    **last = request;
    *last = &request->next;
}

#endif
