/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * block - the host side of a disk: an array of bytes that is read and written asynchronously
 *
 * Implementations: raw (files and block devices, by io_uring or worker threads), null; decorators:
 * snapshot (writes go to a temporary file), fault (errors and delays on demand). Every request passes the trace events block_submit and
 * block_complete and the counters of struct block_stats.
 *
 * A request completes by its done callback, on the loop that the block device was opened for, never
 * inside block_submit; inside block_kick it may (a page-cache hit costs one system call then).
 *
 *     block_submit(block, a); block_submit(block, b); ...; block_kick(block);
 *
 * Ownership: the requester owns the request and its iovec until done is called.
 * Thread: the loop given at open.
 */
#ifndef BACKENDS_BLOCK_BLOCK_H
#define BACKENDS_BLOCK_BLOCK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/loop.h"
#include "vmm/options.h"

enum block_operation {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,        /* what was completed before is on stable storage */
    BLOCK_DISCARD,      /* contents of [offset, offset + length) become undefined (zeroes or old) */
    BLOCK_WRITE_ZEROES, /* contents become zero; with unmap the space may be given back */
    BLOCK_OPERATIONS
};

struct block_request {
    enum block_operation operation;
    bool unmap;        /* WRITE_ZEROES */
    bool fua;          /* WRITE, DISCARD, WRITE_ZEROES: on stable storage when done */
    uint64_t offset;   /* bytes, a multiple of block_size */
    uint64_t length;   /* bytes, a multiple of block_size; of READ and WRITE: the sum of iov */
    struct iovec *iov; /* READ, WRITE; the backend may change it in flight, and restores it */
    unsigned iov_count;
    /* @result: 0 or -errno; a short transfer is continued or becomes -EIO, never reported as 0. */
    void (*done)(struct block_request *request, int result);
    void *opaque;               /* the requester's */
    struct block_request *next; /* the backend's, while in flight */
    void *backend;              /* the backend's, while in flight */
};

struct block;

struct block_ops {
    void (*submit)(struct block *block, struct block_request *request);
    void (*kick)(struct block *block); /* end of a batch of submits; may be NULL */
    void (*close)(struct block *block);
};

/* Counters by operation; the loop writes them, any thread may read them. */
struct block_stats {
    uint64_t requests[BLOCK_OPERATIONS]; /* completed, failures included */
    uint64_t bytes[BLOCK_OPERATIONS];    /* of those that succeeded */
    uint64_t failed[BLOCK_OPERATIONS];
};

struct block {
    const struct block_ops *ops;
    struct loop *loop;
    char *name;                   /* for messages: the path, or "null" */
    const char *implementation;   /* "uring", "threads", "null", "snapshot", "fault", for stats */
    uint64_t size;                /* bytes, a multiple of block_size */
    uint32_t block_size;          /* logical, bytes: 512 or 4096 */
    uint32_t physical_block_size; /* bytes, a power of two >= block_size: what is written at once */
    uint32_t discard_granularity; /* bytes */
    bool read_only;
    bool can_discard, can_write_zeroes;
    unsigned in_flight; /* kept by block_submit and completion */
    struct block_stats stats;

    /* Called after each run of done callbacks: the place to publish a batch. Set by the user. */
    void (*batch_done)(void *opaque);
    void *batch_opaque;

    int lock_fd;                    /* holds the lock on the image, or would; -1: there is none */
    struct block *outer;            /* the decorator around this one; it counts and reports */
    struct block_request *rejected; /* to be completed by the next kick */
    struct block_request **rejected_last;
};

/*
 * Keys that concern the backend, for the option table of a device (`--disk`); block_options is the
 * same as a table of its own.
 */
extern const char *const block_types[], *const block_engines[], *const block_fault_operations[];
#define BLOCK_OPTIONS                                                                              \
    {"path", OPTION_PATH, .flags = OPTION_FIRST, .help = "image file or block device"},            \
        {"type", OPTION_ENUM, .value = "raw", .choices = block_types,                              \
         .help = "raw: the image's bytes are the disk's; null: no storage, reads give zeroes"},    \
        {"readonly", OPTION_BOOL, .value = "off", .help = "refuse guest writes"},                  \
        {"snapshot", OPTION_BOOL, .value = "off",                                                  \
         .help = "keep guest writes in a temporary file and leave the image as it is"},            \
        {"direct", OPTION_BOOL, .value = "off",                                                    \
         .help = "bypass the host's page cache (O_DIRECT)"},                                       \
        {"engine", OPTION_ENUM, .value = "auto", .choices = block_engines,                         \
         .help = "how I/O is done: io_uring or worker threads"},                                   \
        {"lock", OPTION_BOOL, .value = "on",                                                       \
         .help = "refuse an image that another monitor has open for writing"},                     \
        {"discard", OPTION_BOOL, .value = "on",                                                    \
         .help = "give space that the guest discards back to the host"},                           \
        {"size", OPTION_SIZE, .help = "type=null: size of the disk"},                              \
        {"latency-us", OPTION_UINT, .value = "0", .max = 60000000,                                 \
         .help = "type=null: microseconds that a request takes"},                                  \
        {"fault-errors", OPTION_UINT, .value = "0", .max = 1000,                                   \
         .help = "requests in 1000 that fail with an I/O error"},                                  \
        {"fault-delay-us", OPTION_UINT, .value = "0", .max = 60000000,                             \
         .help = "microseconds that requests are held back"},                                      \
        {"fault-operation", OPTION_ENUM, .value = "any", .choices = block_fault_operations,        \
         .help = "requests that fault-errors and fault-delay-us concern"},                         \
        {"fault-start", OPTION_SIZE, .value = "0", .help = "first byte that faults concern"},      \
        {"fault-size", OPTION_SIZE, .value = "0",                                                  \
         .help = "bytes from there that faults concern (0: to the end)"},                          \
    {                                                                                              \
        "fault-seed", OPTION_UINT, .value = "1",                                                   \
                                   .help = "which requests fail: same seed, same ones"             \
    }
extern const struct option_spec block_options[];

/*
 * A machine that moves to another process takes its images along: while locks are deferred, images are
 * opened without one, and the two monitors say when one gives them up and the other takes them. The
 * first is for the program's thread that sets machines up; 0 or -EAGAIN (somebody else has it).
 */
void block_defer_locks(bool defer);
int block_set_lock(const struct block *block, bool locked);

/* Opens by options; the error names the option, the path, the cause and the remedy (missing file,
 * directory, no permission, read-only, in use by another lodge: the image is locked). */
struct block *block_open(const struct options *options, struct loop *loop, GError **error);
/* Waits for what is in flight (its done callbacks are not called). Any thread that may loop_call
 * block->loop; NULL is allowed. */
void block_close(struct block *block);

/* Queues a request; the kick after it starts it, completion comes later on the loop. The caller
 * checks bounds and read-only against the block's fields; a violation completes with -EINVAL (range,
 * alignment), -EROFS, or -EOPNOTSUPP. */
void block_submit(struct block *block, struct block_request *request);
void block_kick(struct block *block);

const char *block_operation_name(enum block_operation operation); /* "write-zeroes" */

#endif
