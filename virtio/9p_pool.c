/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_pool - worker threads and the order of requests (9p_pool.h)
 *
 * All decisions are the loop's: which requests are under way, who waits for whom. Threads only take
 * from one queue and put into another, under one mutex; an eventfd tells the loop when the second one
 * is no longer empty.
 */
#include "virtio/9p_pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/log.h"

#define STACK_SIZE (256u * 1024)
#define MAX_NAME   15

struct list {
    struct p9_job *first, **last;
};

struct p9_pool {
    struct p9_pool_config config;
    int event;
    struct loop_fd *watch;
    struct p9_worker *worker; /* the loop's, for messages that need no file */

    /* the loop's */
    struct p9_job *oldest, *youngest; /* all under way */
    unsigned active;
    unsigned started;       /* of them, queued, running or finished */
    struct p9_job *barrier; /* a Tversion that waits or runs */
    struct list held;       /* what came after it */
    pthread_t *threads;
    unsigned thread_count;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list queue, finished;
    unsigned queued; /* how many are in queue */
    unsigned idle;   /* threads that wait, or were woken and have not run yet */
    bool quit;
};

static enum p9_job_state state_of(const struct p9_job *job)
{
    return __atomic_load_n(&job->state, __ATOMIC_RELAXED);
}

/* ---- queues ---- */

static void list_init(struct list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void append(struct list *list, struct p9_job *job)
{
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
}

static struct p9_job *take_first(struct list *list)
{
    struct p9_job *job = list->first;

    if (job) {
        list->first = job->next;
        if (!list->first) {
            list->last = &list->first;
        }
    }
    return job;
}

static bool take_out(struct list *list, struct p9_job *job)
{
    for (struct p9_job **link = &list->first; *link; link = &(*link)->next) {
        if (*link == job) {
            *link = job->next;
            if (!*link) {
                list->last = link;
            }
            return true;
        }
    }
    return false;
}

/* ---- the threads ---- */

/* The job is over: the loop is to hear of it. With the lock held. */
static void finish_locked(struct p9_pool *pool, struct p9_job *job)
{
    bool first = !pool->finished.first;
    uint64_t one = 1;

    __atomic_store_n(&job->state, P9_JOB_FINISHED, __ATOMIC_RELAXED);
    append(&pool->finished, job);
    if (first && write(pool->event, &one, sizeof(one)) < 0) {
        log_debug(pool->config.name, "event: %s", g_strerror(errno));
    }
}

static void work(struct p9_pool *pool, struct p9_worker *worker, struct p9_job *job)
{
    if (job->run) {
        job->run(job->opaque);
        job->written = 0;
    } else {
        job->written = p9_server_handle(pool->config.server, worker, &job->message);
    }
}

static void *thread_main(void *opaque)
{
    struct p9_pool *pool = opaque;
    struct p9_worker *worker = p9_worker_create();

    pthread_mutex_lock(&pool->lock);
    while (!pool->quit) {
        struct p9_job *job = take_first(&pool->queue);

        if (!job) {
            pool->idle++;
            pthread_cond_wait(&pool->wake, &pool->lock);
            pool->idle--;
            continue;
        }
        pool->queued--;
        __atomic_store_n(&job->state, P9_JOB_RUNNING, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&pool->lock);
        work(pool, worker, job);
        pthread_mutex_lock(&pool->lock);
        finish_locked(pool, job);
    }
    pthread_mutex_unlock(&pool->lock);
    p9_worker_free(worker);
    return NULL;
}

static int add_thread(struct p9_pool *pool)
{
    char name[MAX_NAME + 1];
    pthread_attr_t attr;
    sigset_t all, old;
    int ret;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
    ret = pthread_create(&pool->threads[pool->thread_count], &attr, thread_main, pool);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (ret == 0) {
        g_strlcpy(name, pool->config.name, sizeof(name));
        pthread_setname_np(pool->threads[pool->thread_count++], name);
    }
    return -ret;
}

/* ---- under way; on the loop from here on ---- */

static void enter(struct p9_pool *pool, struct p9_job *job)
{
    job->older = pool->youngest;
    job->younger = NULL;
    job->flushes = job->next_flush = NULL;
    job->written = 0;
    if (pool->youngest) {
        pool->youngest->younger = job;
    } else {
        pool->oldest = job;
    }
    pool->youngest = job;
    pool->active++;
}

static void leave(struct p9_pool *pool, struct p9_job *job)
{
    *(job->older ? &job->older->younger : &pool->oldest) = job->younger;
    *(job->younger ? &job->younger->older : &pool->youngest) = job->older;
    pool->active--;
    job->state = P9_JOB_IDLE;
}

static void start(struct p9_pool *pool, struct p9_job *job)
{
    bool grow;

    pool->started++;
    pthread_mutex_lock(&pool->lock);
    job->state = P9_JOB_QUEUED;
    append(&pool->queue, job);
    grow = ++pool->queued > pool->idle && pool->thread_count < pool->config.threads;
    pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    if (grow) {
        add_thread(pool); /* if it can't be had, those that are there will do */
    }
}

/* Completes, through the queue of finished ones, what no thread has seen. */
static void finish_here(struct p9_pool *pool, struct p9_job *job)
{
    pool->started++; /* until it is reported */
    pthread_mutex_lock(&pool->lock);
    finish_locked(pool, job);
    pthread_mutex_unlock(&pool->lock);
}

/* Takes back what no thread has begun; false if it is too late. */
static bool take_back(struct p9_pool *pool, struct p9_job *job)
{
    bool taken;

    if (state_of(job) == P9_JOB_HELD) {
        take_out(&pool->held, job);
        return true;
    }
    pthread_mutex_lock(&pool->lock);
    taken = state_of(job) == P9_JOB_QUEUED && take_out(&pool->queue, job);
    pool->queued -= taken;
    pthread_mutex_unlock(&pool->lock);
    if (taken) {
        pool->started--;
    }
    return taken;
}

static bool is_message(const struct p9_job *job, uint8_t type)
{
    return !job->run && job->message.type == type;
}

/* What @flush names: the youngest with that tag. */
static struct p9_job *find_flushed(struct p9_pool *pool, const struct p9_job *flush)
{
    for (struct p9_job *job = flush->older; job; job = job->older) {
        if (!job->run && job->message.tag == flush->message.oldtag) {
            return job;
        }
    }
    return NULL;
}

static void answer_flush(struct p9_pool *pool, struct p9_job *flush)
{
    flush->written = p9_server_handle(pool->config.server, pool->worker, &flush->message);
    finish_here(pool, flush);
}

static void flush(struct p9_pool *pool, struct p9_job *job)
{
    struct p9_job *target = find_flushed(pool, job);

    if (target && !is_message(target, P9_TVERSION) && take_back(pool, target)) {
        target->written = 0;
        finish_here(pool, target);
        /* and whoever flushed it is answered when that is reported */
    }
    if (target) {
        job->state = P9_JOB_WAITING;
        job->next_flush = target->flushes;
        target->flushes = job;
    } else {
        answer_flush(pool, job);
    }
}

static void start_barrier(struct p9_pool *pool)
{
    if (pool->barrier && state_of(pool->barrier) == P9_JOB_WAITING && pool->started == 0) {
        start(pool, pool->barrier);
    }
}

static void dispatch(struct p9_pool *pool, struct p9_job *job)
{
    /* A flush must not wait behind what it is to flush. */
    if (is_message(job, P9_TFLUSH) && job->message.size >= P9_HEADER_SIZE + 2) {
        flush(pool, job);
    } else if (pool->barrier) {
        job->state = P9_JOB_HELD;
        append(&pool->held, job);
    } else if (is_message(job, P9_TVERSION)) {
        pool->barrier = job;
        job->state = P9_JOB_WAITING;
        start_barrier(pool);
    } else {
        start(pool, job);
    }
}

void p9_pool_submit(struct p9_pool *pool, struct p9_job *job)
{
    enter(pool, job);
    dispatch(pool, job);
}

/* The Tversion is done: what came after it goes on, up to the next one. */
static void end_barrier(struct p9_pool *pool)
{
    struct list held = pool->held;
    struct p9_job *job;

    pool->barrier = NULL;
    if (held.first) {
        list_init(&pool->held);
    } else {
        held.last = &held.first;
    }
    while ((job = take_first(&held))) {
        dispatch(pool, job);
    }
}

/* Reports one completion; those who flushed it are next. */
static void report(struct p9_pool *pool, struct p9_job *job)
{
    struct p9_job *waiting = job->flushes, *next;
    bool was_barrier = job == pool->barrier;

    pool->started--;
    leave(pool, job);
    pool->config.done(job, pool->config.opaque);
    for (; waiting; waiting = next) {
        next = waiting->next_flush;
        answer_flush(pool, waiting);
    }
    if (was_barrier) {
        end_barrier(pool);
    } else {
        start_barrier(pool);
    }
}

static void on_event(void *opaque)
{
    struct p9_pool *pool = opaque;
    struct p9_job *job;
    bool any = false;

    for (;;) {
        pthread_mutex_lock(&pool->lock);
        job = take_first(&pool->finished);
        pthread_mutex_unlock(&pool->lock);
        if (!job) {
            break;
        }
        report(pool, job);
        any = true;
    }
    if (any) {
        pool->config.batch_done(pool->config.opaque);
    }
}

void p9_pool_cancel(struct p9_pool *pool)
{
    for (struct p9_job *job = pool->oldest; job; job = job->younger) {
        if (job == pool->barrier && state_of(job) == P9_JOB_WAITING) {
            finish_here(pool, job);
        } else if (take_back(pool, job)) {
            finish_here(pool, job);
        }
    }
}

unsigned p9_pool_active(const struct p9_pool *pool)
{
    return pool->active;
}

/* ---- create and destroy ---- */

struct p9_pool *p9_pool_create(const struct p9_pool_config *config, GError **error)
{
    struct p9_pool *pool = g_new0(struct p9_pool, 1);
    int ret;

    pool->config = *config;
    pool->threads = g_new0(pthread_t, config->threads);
    list_init(&pool->held);
    list_init(&pool->queue);
    list_init(&pool->finished);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ret = pool->event < 0 ? -errno : add_thread(pool);
    if (ret < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-ret), "worker thread: %s",
                    g_strerror(-ret));
        p9_pool_destroy(pool);
        return NULL;
    }
    pool->worker = p9_worker_create();
    pool->watch = loop_eventfd_create(config->loop, pool->event, on_event, pool);
    return pool;
}

static void unwatch(void *opaque)
{
    struct p9_pool *pool = opaque;

    g_clear_pointer(&pool->watch, loop_fd_destroy);
}

void p9_pool_destroy(struct p9_pool *pool)
{
    if (!pool) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    if (pool->watch) {
        loop_call(pool->config.loop, unwatch, pool);
    }
    if (pool->event >= 0) {
        close(pool->event);
    }
    p9_worker_free(pool->worker);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    g_free(pool->threads);
    g_free(pool);
}
