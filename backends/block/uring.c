/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uring - disk I/O by io_uring
 *
 * One ring a disk, used by the disk's loop only. Reads, writes and flushes are operations of the
 * ring; discard, write-zeroes, and what O_DIRECT can't take as it is go to the worker threads, and so
 * do buffered writes: the kernel would hand each of those to a thread of its own, at a higher price.
 *
 * A kick submits the whole batch by one system call and reaps what was completed within it (page
 * cache hits). The rest signals an eventfd that the loop watches; the signal is turned off while we
 * reap. At most SLOTS requests are in the ring, others wait in line.
 *
 * Set-up may be refused (kernel.io_uring_disabled, seccomp, an old kernel): raw.c then takes the
 * worker threads for everything.
 */
#include "config.h"

#include "backends/block/raw.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef HAVE_LIBURING
#include <liburing.h>

#include "vmm/log.h"

#define SLOTS     256u
#define MAX_BYTES (1u << 30) /* of one operation; longer ones are continued */
#define ROUNDS    4          /* of submitting and reaping in one kick */
#define RETRY_NS  1000000    /* after the kernel had no memory for a submission */

/* A request in the ring. */
struct slot {
    struct block_request *request;
    struct raw_cursor cursor;
    uint64_t offset, left; /* bytes that remain */
    struct slot *next;     /* free slots */
};

struct uring {
    struct raw raw; /* first */
    struct io_uring ring;
    int event_fd;
    struct loop_fd *source;
    struct loop_timer *retry;
    struct worker_port *port;
    struct block_request *waiting, **waiting_last; /* for a slot */
    struct slot *free;
    unsigned in_ring;
    bool kicking;
    bool enabled; /* the ring was, by the loop's thread */
    struct slot slots[SLOTS];
};

static struct uring *to_uring(struct block *block)
{
    return (struct uring *)block;
}

/* ---- into the ring ---- */

static void prepare(struct uring *uring, struct slot *slot)
{
    /* There are as many entries as slots, and a slot has one at a time. */
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    struct block_request *request = slot->request;
    bool write = request->operation == BLOCK_WRITE;

    if (request->operation == BLOCK_FLUSH) {
        io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
    } else if (slot->cursor.count == 1) {
        void *base = slot->cursor.iov[0].iov_base;
        unsigned bytes = MIN(slot->cursor.iov[0].iov_len, MAX_BYTES);

        if (write)
            io_uring_prep_write(sqe, 0, base, bytes, slot->offset);
        else
            io_uring_prep_read(sqe, 0, base, bytes, slot->offset);
    } else {
        unsigned count = MIN(slot->cursor.count, IOV_MAX);

        if (write)
            io_uring_prep_writev(sqe, 0, slot->cursor.iov, count, slot->offset);
        else
            io_uring_prep_readv(sqe, 0, slot->cursor.iov, count, slot->offset);
    }
    if (write && request->fua)
        sqe->rw_flags = RWF_DSYNC;
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, slot);
}

static void start_waiting(struct uring *uring)
{
    while (uring->waiting && uring->free) {
        struct block_request *request = uring->waiting;
        struct slot *slot = uring->free;

        uring->waiting = request->next;
        if (!uring->waiting)
            uring->waiting_last = &uring->waiting;
        uring->free = slot->next;
        uring->in_ring++;
        slot->request = request;
        slot->offset = request->offset;
        slot->left = request->operation == BLOCK_FLUSH ? 0 : request->length;
        raw_cursor_init(&slot->cursor, request);
        prepare(uring, slot);
    }
}

static void submit_entries(struct uring *uring)
{
    int ret = 0;

    for (int round = 0; round < ROUNDS && io_uring_sq_ready(&uring->ring); round++) {
        ret = io_uring_submit(&uring->ring);
        if (ret < 0 && ret != -EINTR)
            break;
    }
    if (io_uring_sq_ready(&uring->ring)) {
        if (ret != -EAGAIN && ret != -EBUSY && ret != -EINTR)
            log_warn("block", "%s: io_uring_enter: %s", uring->raw.block.name,
                     g_strerror(ret < 0 ? -ret : 0));
        loop_timer_set(uring->retry, loop_now_ns() + RETRY_NS);
    }
}

/* ---- out of the ring ---- */

static void release(struct uring *uring, struct slot *slot)
{
    raw_cursor_finish(&slot->cursor);
    slot->next = uring->free;
    uring->free = slot;
    uring->in_ring--;
}

/* One operation of @slot has ended with @res. True when its request was completed. */
static bool slot_ended(struct uring *uring, struct slot *slot, int res)
{
    struct block_request *request = slot->request;
    int result = MIN(res, 0);

    if (res == -EAGAIN || res == -EINTR) {
        release(uring, slot);
        worker_port_submit(uring->port, request);
        return false;
    }
    if (res >= 0 && slot->left) {
        if (res == 0 || (uint64_t)res > slot->left) {
            result = -EIO; /* beyond the end of a file that was cut short */
        } else {
            slot->left -= res;
            if (slot->left) {
                slot->offset += res;
                raw_cursor_advance(&slot->cursor, res);
                prepare(uring, slot);
                return false;
            }
        }
    }
    release(uring, slot);
    block_complete(&uring->raw.block, request, result);
    return true;
}

/* At most one ring full. True when a request was completed. */
static bool reap(struct uring *uring)
{
    struct io_uring_cqe *cqe;
    bool completed = false;

    for (unsigned i = 0; i < SLOTS && io_uring_peek_cqe(&uring->ring, &cqe) == 0; i++) {
        struct slot *slot = io_uring_cqe_get_data(cqe);
        int res = cqe->res;

        io_uring_cqe_seen(&uring->ring, cqe);
        completed |= slot_ended(uring, slot, res);
    }
    return completed;
}

static void uring_submit(struct block *block, struct block_request *request)
{
    struct uring *uring = to_uring(block);
    bool in_ring;

    switch (request->operation) {
    case BLOCK_READ:
        in_ring = raw_is_aligned(&uring->raw.file, request) && request->length;
        break;
    case BLOCK_WRITE:
        in_ring =
            uring->raw.file.direct && raw_is_aligned(&uring->raw.file, request) && request->length;
        break;
    default:
        in_ring = request->operation == BLOCK_FLUSH;
        break;
    }
    if (in_ring)
        block_list_add(&uring->waiting_last, request);
    else
        worker_port_submit(uring->port, request);
}

/* The calling thread becomes the one that submits. (Not every liburing has a function for it.) */
static void enable(struct uring *uring)
{
    if (syscall(__NR_io_uring_register, uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
                0) < 0)
        log_error("block", "%s: io_uring can't be enabled: %s; use engine=threads",
                  uring->raw.block.name, g_strerror(errno));
}

static void uring_kick(struct block *block)
{
    struct uring *uring = to_uring(block);
    bool completed = false;

    if (uring->kicking)
        return; /* from a done callback: the rounds below see what it submitted */
    if (!uring->enabled) {
        uring->enabled = true;
        enable(uring);
    }
    uring->kicking = true;
    io_uring_cq_eventfd_toggle(&uring->ring, false);
    for (int round = 0; round < ROUNDS; round++) {
        start_waiting(uring);
        submit_entries(uring);
        if (!io_uring_cq_ready(&uring->ring))
            break;
        completed |= reap(uring);
    }
    if (completed)
        block_batch_done(block);
    worker_port_kick(uring->port);
    io_uring_cq_eventfd_toggle(&uring->ring, true);
    uring->kicking = false;
    if (io_uring_cq_ready(&uring->ring) || io_uring_sq_ready(&uring->ring) ||
        (uring->waiting && uring->free))
        worker_port_wake(uring->port);
}

static void uring_ready(void *opaque)
{
    uring_kick(opaque);
}

/* ---- opening and closing ---- */

static void uring_close(struct block *block)
{
    struct uring *uring = to_uring(block);
    struct io_uring_cqe *cqe;

    /* The kernel may still write to the requesters' buffers: wait. What was not yet submitted is
     * dropped with the ring. */
    uring->in_ring -= io_uring_sq_ready(&uring->ring);
    while (uring->in_ring) {
        int ret = io_uring_wait_cqe(&uring->ring, &cqe);

        if (ret == 0) {
            io_uring_cqe_seen(&uring->ring, cqe);
            uring->in_ring--;
        } else if (ret != -EINTR) {
            break;
        }
    }
    loop_timer_destroy(uring->retry);
    worker_port_destroy(uring->port);
    loop_fd_destroy(uring->source);
    close(uring->event_fd);
    io_uring_queue_exit(&uring->ring);
    raw_finish(&uring->raw);
    g_free(uring);
}

static const struct block_ops uring_ops = {
    .submit = uring_submit,
    .kick = uring_kick,
    .close = uring_close,
};

static int create_ring(struct io_uring *ring)
{
    /* One thread submits, and it is not to be interrupted for completions while it runs. Disabled
     * until the loop's thread is known: it becomes that one. */
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_R_DISABLED,
        IORING_SETUP_R_DISABLED,
    };
    int ret = -ENOSYS;

    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        ret = io_uring_queue_init(SLOTS, ring, flags[i]);
        if (ret != -EINVAL)
            break;
    }
    return ret;
}

static const char *why_refused(int err)
{
    switch (err) {
    case ENOSYS:
        return "this kernel has no io_uring, or a system call filter hides it";
    case EPERM:
    case EACCES:
        return "io_uring is not permitted here (sysctl kernel.io_uring_disabled, or a system call "
               "filter)";
    case ENOMEM:
        return "io_uring may not lock memory (ulimit -l)";
    case EMFILE:
    case ENFILE:
        return "no file descriptor left (ulimit -n)";
    default:
        return g_strerror(err);
    }
}

/* The operations we use, and what a ring is set up with: -errno, and nothing remains. */
static int set_up(struct uring *uring)
{
    int ret = create_ring(&uring->ring);

    if (ret < 0)
        return ret;
    uring->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uring->event_fd < 0) {
        ret = -errno;
        goto fail_ring;
    }
    ret = io_uring_register_files(&uring->ring, &uring->raw.file.fd, 1);
    if (ret == 0)
        ret = io_uring_register_eventfd(&uring->ring, uring->event_fd);
    if (ret == 0) {
        struct io_uring_probe *probe = io_uring_get_probe_ring(&uring->ring);

        /* Plain reads came with 5.6: what is older lacks too much. */
        if (!probe || !io_uring_opcode_supported(probe, IORING_OP_READ))
            ret = -ENOSYS;
        io_uring_free_probe(probe);
    }
    if (ret == 0) {
        uring->port = worker_port_create(&uring->raw.block, &uring->raw.file);
        if (uring->port)
            return 0;
        ret = -errno;
    }
    close(uring->event_fd);
fail_ring:
    io_uring_queue_exit(&uring->ring);
    return ret;
}

struct block *raw_uring_create(const struct raw *raw, GError **error)
{
    struct uring *uring = g_new0(struct uring, 1);
    int ret;

    raw_adopt(&uring->raw, raw, &uring_ops, "uring");
    block_list_init(&uring->waiting, &uring->waiting_last);
    ret = set_up(uring);
    if (ret < 0) {
        g_set_error_literal(error, G_FILE_ERROR, g_file_error_from_errno(-ret), why_refused(-ret));
        g_free(uring);
        return NULL;
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        uring->slots[i].next = uring->free;
        uring->free = &uring->slots[i];
    }
    uring->source = loop_eventfd_create(raw->block.loop, uring->event_fd, uring_ready, uring);
    uring->retry = loop_timer_create(raw->block.loop, uring_ready, uring);
    return &uring->raw.block;
}

#else

struct block *raw_uring_create(const struct raw *raw, GError **error)
{
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                        "this lodge was built without io_uring (liburing)");
    return NULL;
}

#endif
