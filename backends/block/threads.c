/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * threads - disk I/O by blocking calls on worker threads
 *
 * One pool serves all disks of the process: a queue of requests under one lock, and up to
 * WORKERS_MAX threads that are started as work comes up and stay until the last disk is closed. A
 * finished request goes on the list of its disk's port, whose eventfd wakes the disk's loop.
 *
 * Writes to a file through the page cache are carried out one after the other, by one thread: they
 * would only wait for each other at the file's lock. Their completions are reported in groups.
 *
 * What certainly does not wait is done at once, in the kick: small reads and writes of files in
 * memory (tmpfs), and reads that the page cache can answer (RWF_NOWAIT). Handing them to a thread and
 * back costs many times what they take.
 *
 * The io_uring engine uses a port of its own for what io_uring has no operation for.
 */
#include "backends/block/raw.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/log.h"

#define WORKERS_MAX  16u
#define INLINE_BYTES (128u << 10) /* the most that is copied on the loop for one request */
#define GROUP        16u          /* completed writes that the loop is woken for, at the latest */
#define GROUP_BYTES  (64u << 10)

struct worker_port {
    struct block *block;
    struct raw_file *file;
    int event_fd;
    struct loop_fd *source;
    struct block_request *submitted, **submitted_last; /* until the kick; loop's thread */
    unsigned submitted_count;
    struct block_request *done; /* newest first; atomic: workers push, the loop takes all */
    /* Under the pool's lock: */
    unsigned pending; /* queued or running */
    bool writing;     /* a thread carries out writes that wait for each other, or is about to */
    struct block_request *writes, **writes_last; /* for that thread */
};

/* One for the process: guarded by its lock. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_cond_t drained;
    struct block_request *first, **last;
    unsigned queued;
    unsigned ports;
    unsigned threads, busy; /* started; of those, carrying out a request */
    pthread_t ids[WORKERS_MAX];
    bool quit;
} pool = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .work = PTHREAD_COND_INITIALIZER,
    .drained = PTHREAD_COND_INITIALIZER,
};

/* ---- workers ---- */

/* Puts @request on the list of completed ones; true if that was empty. */
static bool port_push(struct worker_port *port, struct block_request *request)
{
    struct block_request *head = __atomic_load_n(&port->done, __ATOMIC_RELAXED);

    do {
        request->next = head;
    } while (!__atomic_compare_exchange_n(&port->done, &head, request, true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
    return !head;
}

static bool execute(struct worker_port *port, struct block_request *request)
{
    request->backend = GINT_TO_POINTER(raw_execute(port->file, request));
    return port_push(port, request);
}

/* Under the lock. The port may be gone when it is released. */
static void port_finished(struct worker_port *port)
{
    if (--port->pending == 0)
        pthread_cond_broadcast(&pool.drained);
}

static struct block_request *take_first(struct block_request **first, struct block_request ***last)
{
    struct block_request *request = *first;

    if (request) {
        *first = request->next;
        if (!*first)
            *last = first;
    }
    return request;
}

/* Is it one of those that a file takes one at a time? */
static bool is_serial(const struct worker_port *port, const struct block_request *request)
{
    return request->operation == BLOCK_WRITE && !port->file->direct && !port->file->is_device;
}

/* Carries out @request and what comes in meanwhile; called and returns with the lock held. */
static void run_writes(struct worker_port *port, struct block_request *request)
{
    unsigned count = 0, bytes = 0;

    while (request) {
        struct block_request *next;

        count++;
        bytes += MIN(request->length, GROUP_BYTES);
        pthread_mutex_unlock(&pool.lock);
        execute(port, request);
        pthread_mutex_lock(&pool.lock);
        next = take_first(&port->writes, &port->writes_last);
        if (!next || count >= GROUP || bytes >= GROUP_BYTES) {
            worker_port_wake(port);
            count = bytes = 0;
        }
        if (!next)
            port->writing = false;
        port_finished(port);
        request = next;
    }
}

static void *worker(void *opaque)
{
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        struct block_request *request;
        struct worker_port *port;

        while (!pool.first && !pool.quit)
            pthread_cond_wait(&pool.work, &pool.lock);
        request = take_first(&pool.first, &pool.last);
        if (!request)
            break;
        pool.queued--;
        pool.busy++;
        port = request->backend;
        if (is_serial(port, request)) {
            run_writes(port, request);
        } else {
            pthread_mutex_unlock(&pool.lock);
            if (execute(port, request))
                worker_port_wake(port);
            pthread_mutex_lock(&pool.lock);
            port_finished(port);
        }
        pool.busy--;
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* Another thread, if there may be one more. Under the lock. */
static bool start_worker(void)
{
    sigset_t all, old;
    int ret;

    if (pool.threads == WORKERS_MAX)
        return false;
    /* Signals are the main thread's business. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&pool.ids[pool.threads], NULL, worker, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ret == 0) {
        pthread_setname_np(pool.ids[pool.threads], "block-worker");
        pool.threads++;
    }
    return ret == 0;
}

static void pool_stop(void)
{
    unsigned threads;

    pthread_mutex_lock(&pool.lock);
    pool.quit = true;
    pthread_cond_broadcast(&pool.work);
    threads = pool.threads;
    pthread_mutex_unlock(&pool.lock);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(pool.ids[i], NULL);
    pool.threads = 0;
    pool.quit = false;
}

/* ---- ports ---- */

static void port_reap(struct worker_port *port)
{
    struct block_request *request = __atomic_exchange_n(&port->done, NULL, __ATOMIC_ACQUIRE);
    struct block_request *in_order = NULL;

    if (!request)
        return;
    while (request) {
        struct block_request *next = request->next;

        request->next = in_order;
        in_order = request;
        request = next;
    }
    while (in_order) {
        struct block_request *next = in_order->next;

        block_complete(port->block, in_order, GPOINTER_TO_INT(in_order->backend));
        in_order = next;
    }
    block_batch_done(port->block);
}

static void port_ready(void *opaque)
{
    struct worker_port *port = opaque;

    port_reap(port);
    port->block->ops->kick(port->block);
}

struct worker_port *worker_port_create(struct block *block, struct raw_file *file)
{
    struct worker_port *port;
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (event_fd < 0)
        return NULL;
    port = g_new0(struct worker_port, 1);
    port->block = block;
    port->file = file;
    port->event_fd = event_fd;
    port->source = loop_eventfd_create(block->loop, event_fd, port_ready, port);
    block_list_init(&port->submitted, &port->submitted_last);
    block_list_init(&port->writes, &port->writes_last);
    pthread_mutex_lock(&pool.lock);
    if (pool.ports++ == 0)
        block_list_init(&pool.first, &pool.last);
    pthread_mutex_unlock(&pool.lock);
    return port;
}

void worker_port_destroy(struct worker_port *port)
{
    bool last;

    if (!port)
        return;
    pthread_mutex_lock(&pool.lock);
    while (port->pending)
        pthread_cond_wait(&pool.drained, &pool.lock);
    last = --pool.ports == 0;
    pthread_mutex_unlock(&pool.lock);
    if (last)
        pool_stop();
    loop_fd_destroy(port->source);
    close(port->event_fd);
    g_free(port);
}

void worker_port_submit(struct worker_port *port, struct block_request *request)
{
    request->backend = port;
    block_list_add(&port->submitted_last, request);
    port->submitted_count++;
}

/* The host has no thread left for us. */
static void fail_submitted(struct worker_port *port)
{
    struct block_request *request = port->submitted;

    log_error("block", "%s: no worker thread can be started; raise the limit on processes",
              port->block->name);
    while (request) {
        struct block_request *next = request->next;

        request->backend = GINT_TO_POINTER(-EAGAIN);
        port_push(port, request);
        request = next;
    }
    worker_port_wake(port);
}

/* Under the lock. How many requests there are now for other threads than one that writes already. */
static unsigned enqueue_submitted(struct worker_port *port)
{
    struct block_request *request;
    unsigned count = 0;

    port->pending += port->submitted_count;
    while ((request = take_first(&port->submitted, &port->submitted_last))) {
        bool serial = is_serial(port, request);

        if (serial && port->writing) {
            block_list_add(&port->writes_last, request);
            continue;
        }
        port->writing |= serial;
        block_list_add(&pool.last, request);
        count++;
    }
    pool.queued += count;
    return count;
}

void worker_port_kick(struct worker_port *port)
{
    unsigned count = 0;
    bool no_workers;

    if (!port->submitted_count)
        return;
    pthread_mutex_lock(&pool.lock);
    no_workers = pool.threads == 0 && !start_worker();
    if (!no_workers)
        count = enqueue_submitted(port);
    while (pool.queued > pool.threads - pool.busy && start_worker())
        continue;
    if (count == 1)
        pthread_cond_signal(&pool.work);
    else if (count)
        pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    if (no_workers)
        fail_submitted(port);
    block_list_init(&port->submitted, &port->submitted_last);
    port->submitted_count = 0;
}

void worker_port_wake(struct worker_port *port)
{
    eventfd_write(port->event_fd, 1);
}

/* ---- the engine ---- */

struct threads {
    struct raw raw; /* first */
    struct worker_port *port;
    struct block_request *queued, **queued_last;
    bool kicking;
};

static struct threads *to_threads(struct block *block)
{
    return (struct threads *)block;
}

static void threads_submit(struct block *block, struct block_request *request)
{
    block_list_add(&to_threads(block)->queued_last, request);
}

/* Does @request if that does not wait for a disk: true, with its result. */
static bool try_inline(struct raw_file *file, struct block_request *request, int *result)
{
    ssize_t n;

    if (request->length > INLINE_BYTES || request->iov_count > IOV_MAX)
        return false;
    if (file->in_memory) {
        if (request->operation > BLOCK_FLUSH)
            return false;
        *result = raw_execute(file, request);
        return true;
    }
    if (request->operation != BLOCK_READ || !file->nowait_reads || file->direct)
        return false;
    n = preadv2(file->fd, request->iov, request->iov_count, request->offset, RWF_NOWAIT);
    *result = 0;
    return n >= 0 && (uint64_t)n == request->length;
}

static void threads_kick(struct block *block)
{
    struct threads *threads = to_threads(block);
    struct block_request *request = threads->queued;
    bool completed = false;

    if (!request || threads->kicking)
        return;
    block_list_init(&threads->queued, &threads->queued_last);
    threads->kicking = true;
    while (request) {
        struct block_request *next = request->next;
        int result;

        if (try_inline(&threads->raw.file, request, &result)) {
            block_complete(block, request, result);
            completed = true;
        } else {
            worker_port_submit(threads->port, request);
        }
        request = next;
    }
    worker_port_kick(threads->port);
    if (completed)
        block_batch_done(block);
    threads->kicking = false;
    /* What done callbacks submitted waits for the next turn of the loop. */
    if (threads->queued)
        worker_port_wake(threads->port);
}

static void threads_close(struct block *block)
{
    struct threads *threads = to_threads(block);

    worker_port_destroy(threads->port);
    raw_finish(&threads->raw);
    g_free(threads);
}

static const struct block_ops threads_ops = {
    .submit = threads_submit,
    .kick = threads_kick,
    .close = threads_close,
};

struct block *raw_threads_create(const struct raw *raw, GError **error)
{
    struct threads *threads = g_new0(struct threads, 1);

    raw_adopt(&threads->raw, raw, &threads_ops, "threads");
    block_list_init(&threads->queued, &threads->queued_last);
    threads->port = worker_port_create(&threads->raw.block, &threads->raw.file);
    if (!threads->port) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "%s: no file descriptor left; raise the limit (ulimit -n)", raw->block.name);
        g_free(threads);
        return NULL;
    }
    return &threads->raw.block;
}
