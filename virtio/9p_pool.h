/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_pool - the threads that serve a share's requests, and the order among requests
 *
 * Requests are independent and may be done in any order, with two exceptions that this file sees to:
 *
 *   Tflush    is answered after the request it names: that one is taken back if no thread has begun
 *             it (it completes without a reply), and else runs to its end and is answered first.
 *   Tversion  waits until everything before it is done, and everything after it waits for it.
 *
 * Threads: all functions on the loop's thread (or before it runs), but for those marked. Completions
 * come on the loop, in batches.
 */
#ifndef VIRTIO_9P_POOL_H
#define VIRTIO_9P_POOL_H

#include "virtio/9p_server.h"
#include "vmm/loop.h"

struct p9_pool;

enum p9_job_state {
    P9_JOB_IDLE,
    P9_JOB_HELD,    /* behind a Tversion */
    P9_JOB_WAITING, /* a Tflush for its request, a Tversion for its turn */
    P9_JOB_QUEUED,
    P9_JOB_RUNNING,
    P9_JOB_FINISHED, /* not yet reported */
};

/* One request; owned by the caller, untouched by it between submit and done. */
struct p9_job {
    struct p9_message message; /* begun (p9_message_begin) */
    void (*run)(void *opaque); /* instead of a message: any work that may block */
    void *opaque;
    size_t written; /* afterwards: bytes of the reply; 0: none */
    /* the pool's */
    enum p9_job_state state;        /* atomic */
    struct p9_job *next;            /* in a queue */
    struct p9_job *older, *younger; /* of all that are under way */
    struct p9_job *flushes;         /* Tflush messages that wait for this one */
    struct p9_job *next_flush;
};

struct p9_pool_config {
    struct p9_server *server;
    struct loop *loop;
    const char *name; /* of the threads */
    unsigned threads; /* at most; one at first, more as requests pile up */
    void (*done)(struct p9_job *job, void *opaque); /* may not submit */
    void (*batch_done)(void *opaque);               /* after some; may submit */
    void *opaque;
};

/* NULL with @error: no thread, no event file. */
struct p9_pool *p9_pool_create(const struct p9_pool_config *config, GError **error);
/* Waits for what runs; nothing completes any more. Main thread, loop quiet. NULL is allowed. */
void p9_pool_destroy(struct p9_pool *pool);

void p9_pool_submit(struct p9_pool *pool, struct p9_job *job);
/* Takes back everything that no thread has begun: it completes without a reply, soon. */
void p9_pool_cancel(struct p9_pool *pool);
/* Requests under way, completions not yet reported included. */
unsigned p9_pool_active(const struct p9_pool *pool);

#endif
