/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * block - the host side of a disk: an array of bytes that is read and written asynchronously
 *
 * Implementations: raw (files and block devices, by io_uring or worker threads), null; decorators:
 * fault (errors and delays on demand), trace. A request completes by its done callback, on the loop
 * that the block device was opened for, never inside block_submit.
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
};

struct block_request {
    enum block_operation operation;
    bool unmap;        /* WRITE_ZEROES */
    uint64_t offset;   /* bytes */
    uint64_t length;   /* bytes; of READ and WRITE: the sum of iov */
    struct iovec *iov; /* READ, WRITE; may be changed by the backend while in flight */
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

struct block {
    const struct block_ops *ops;
    struct loop *loop;
    uint64_t size;       /* bytes, a multiple of 512 */
    uint32_t block_size; /* logical, bytes: 512 or 4096 */
    bool read_only;
    bool can_discard, can_write_zeroes;
    unsigned in_flight;         /* kept by block_submit and completion */
    const char *implementation; /* "uring", "threads", "null", for stats */
};

/* Keys of --disk that concern the backend: path, type (raw, null), readonly, size (null), direct,
 * engine (auto, uring, threads), lock, fault options. */
#define BLOCK_OPTIONS_MAX 16
extern const struct option_spec block_options[];

/* Opens by options; the error names the option, the path, the cause and the remedy (missing file,
 * directory, no permission, read-only, in use by another lodge: the image is locked). */
struct block *block_open(const struct options *options, struct loop *loop, GError **error);
void block_close(struct block *block); /* nothing in flight; NULL is allowed */

/* Queues a request: completion comes later on the loop. Bounds and read-only are the caller's to
 * check against block->size; a violation completes with -EINVAL or -EROFS. */
void block_submit(struct block *block, struct block_request *request);
void block_kick(struct block *block);

#endif
