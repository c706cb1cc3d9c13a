/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raw - what the engines for files and block devices share; not for users of block devices
 *
 * raw.c opens and describes the file and can carry out any request by blocking system calls;
 * threads.c does that on worker threads; uring.c does reads, writes and flushes by io_uring and
 * leaves the rest to the workers.
 */
#ifndef BACKENDS_BLOCK_RAW_H
#define BACKENDS_BLOCK_RAW_H

#include "backends/block/driver.h"

struct raw_file {
    int fd;
    int lock_fd; /* a description of its own that holds the lock, or -1 */
    bool read_only;
    bool is_device;
    bool direct;
    uint32_t alignment; /* of buffers, offsets and lengths when direct */
    bool in_memory;     /* tmpfs: reads and writes never wait for a disk */
    bool nowait_reads;  /* RWF_NOWAIT works: a read can be tried without waiting */
    bool no_punch_hole; /* found out in use; atomic */
    bool no_zero_range; /* found out in use; atomic */
};

/* First member of both engines' blocks. */
struct raw {
    struct block block; /* first */
    struct raw_file file;
};

/* Carries out @request, blocking; 0 or -errno. Any thread. */
int raw_execute(struct raw_file *file, struct block_request *request);
/* May the buffers of @request be given to the kernel as they are? */
bool raw_is_aligned(const struct raw_file *file, const struct block_request *request);
/* Fills an engine's @raw from the one that was opened, which is then the caller's no more. */
void raw_adopt(struct raw *raw, const struct raw *from, const struct block_ops *ops,
               const char *implementation);
void raw_finish(struct raw *raw); /* closes the file; block_finish */

/*
 * The engines take over what is in @raw (file, name) when they succeed. NULL with @error set when
 * the kernel does not offer io_uring, or no eventfd is to be had.
 */
struct block *raw_threads_create(const struct raw *raw, GError **error);
struct block *raw_uring_create(const struct raw *raw, GError **error);

/* ---- position in the iovec of a request that is transferred in several steps ---- */

struct raw_cursor {
    struct iovec *iov; /* what remains */
    unsigned count;
    struct iovec saved; /* iov[0] as the requester gave it */
};

void raw_cursor_init(struct raw_cursor *cursor, const struct block_request *request);
void raw_cursor_advance(struct raw_cursor *cursor, size_t bytes);
void raw_cursor_finish(struct raw_cursor *cursor); /* the iovec is as it was */

/* ---- worker threads, one pool for the process ---- */

struct worker_port; /* between one block and the pool */

/* NULL when there is no eventfd to be had (errno). @file outlives the port. */
struct worker_port *worker_port_create(struct block *block, struct raw_file *file);
void worker_port_destroy(struct worker_port *port); /* waits for what is running; loop's thread */
void worker_port_submit(struct worker_port *port, struct block_request *request);
void worker_port_kick(struct worker_port *port);
/* The port reaps, and kicks its block, in the next turn of the loop. */
void worker_port_wake(struct worker_port *port);

#endif
