/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop - descriptors, timers and deferred calls over GMainContext (contract: vmm/loop.h)
 *
 * Deferred calls: one queue and one source a loop, so that order is kept and no call allocates a
 * source. Timers: one timerfd a loop, armed for the first of a sorted list, because GMainContext
 * waits in milliseconds. Descriptors: a source each; what another thread asks of it is only noted
 * there and carried out when the loop prepares to wait (GPollFDs must not change under a poll).
 */
#include "vmm/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/log.h"

#define LAST_ROUNDS 64 /* of deferred calls that defer others, when a loop ends */

struct deferred {
    loop_fn fn;
    void *opaque;
};

struct defer_source {
    GSource source; /* first: GLib allocates and frees it */
    struct loop *loop;
};

struct loop {
    GMainContext *context;
    char name[16];
    bool is_main;

    GMutex lock;         /* of everything below */
    GThread *thread;     /* that runs it now, or NULL */
    GThread *own_thread; /* of loop_create, for joining */
    bool quit;
    GQueue deferred;
    struct defer_source *defer_source;

    struct loop_timer *timers; /* set ones, earliest first */
    uint64_t timer_sequence;   /* of the last that was set */
    int64_t armed;             /* what the timerfd is set to, or -1 */
    int timer_fd;
    struct loop_fd *timer_source;
};

struct loop_fd {
    GSource source; /* first: GLib allocates and frees it */
    int fd;
    void *tag;        /* in the poll set, or NULL while paused; loop's thread */
    unsigned applied; /* events of tag */
    unsigned wanted;  /* atomic */
    loop_fd_fn fn;
    loop_fn eventfd_fn;
    void *opaque;
};

struct loop_timer {
    struct loop *loop;
    loop_fn fn;
    void *opaque;
    int64_t deadline;  /* ns, -1: not set; written under the loop's lock, atomic */
    uint64_t sequence; /* loop->timer_sequence when it was set */
    struct loop_timer *next;
};

/* ---- deferred calls ---- */

/* Runs what is queued now; what a call adds waits for the next turn, so that nobody starves. */
static void run_deferred(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    for (unsigned n = loop->deferred.length; n > 0; n--) {
        struct deferred *deferred = g_queue_pop_head(&loop->deferred);
        if (!deferred)
            break;
        g_mutex_unlock(&loop->lock);
        deferred->fn(deferred->opaque);
        g_free(deferred);
        g_mutex_lock(&loop->lock);
    }
    g_mutex_unlock(&loop->lock);
}

static gboolean defer_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    g_source_set_ready_time(source, -1);
    run_deferred(((struct defer_source *)source)->loop);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs defer_funcs = {.dispatch = defer_dispatch};

static void defer_locked(struct loop *loop, loop_fn fn, void *opaque)
{
    struct deferred *deferred = g_new(struct deferred, 1);

    *deferred = (struct deferred){fn, opaque};
    g_queue_push_tail(&loop->deferred, deferred);
    g_source_set_ready_time(&loop->defer_source->source, 0);
}

void loop_defer(struct loop *loop, loop_fn fn, void *opaque)
{
    g_mutex_lock(&loop->lock);
    defer_locked(loop, fn, opaque);
    g_mutex_unlock(&loop->lock);
}

struct call {
    loop_fn fn;
    void *opaque;
    bool done;
    GMutex lock;
    GCond cond;
};

static void call_run(void *opaque)
{
    struct call *call = opaque;

    call->fn(call->opaque);
    g_mutex_lock(&call->lock);
    call->done = true;
    g_cond_signal(&call->cond);
    g_mutex_unlock(&call->lock);
}

void loop_call(struct loop *loop, loop_fn fn, void *opaque)
{
    struct call call = {.fn = fn, .opaque = opaque};

    /* Whoever stops the loop clears ->thread under the lock and then empties the queue, so a call
     * that is queued here is never forgotten. */
    g_mutex_lock(&loop->lock);
    if (!loop->thread || loop->thread == g_thread_self()) {
        g_mutex_unlock(&loop->lock);
        fn(opaque);
        return;
    }
    g_mutex_init(&call.lock);
    g_cond_init(&call.cond);
    defer_locked(loop, call_run, &call);
    g_mutex_unlock(&loop->lock);

    g_mutex_lock(&call.lock);
    while (!call.done)
        g_cond_wait(&call.cond, &call.lock);
    g_mutex_unlock(&call.lock);
    g_mutex_clear(&call.lock);
    g_cond_clear(&call.cond);
}

/* ---- descriptors ---- */

static gboolean fd_prepare(GSource *source, gint *timeout)
{
    struct loop_fd *watch = (struct loop_fd *)source;
    unsigned wanted = __atomic_load_n(&watch->wanted, __ATOMIC_ACQUIRE);

    *timeout = -1;
    if (wanted == watch->applied)
        return FALSE;
    /* Errors and hang-up are reported whatever is asked for, so a paused one leaves the poll set. */
    if (!wanted) {
        g_source_remove_unix_fd(source, watch->tag);
        watch->tag = NULL;
    } else if (!watch->tag) {
        watch->tag = g_source_add_unix_fd(source, watch->fd, wanted);
    } else {
        g_source_modify_unix_fd(source, watch->tag, wanted);
    }
    watch->applied = wanted;
    return FALSE;
}

static GIOCondition fd_ready(struct loop_fd *watch)
{
    unsigned wanted = __atomic_load_n(&watch->wanted, __ATOMIC_ACQUIRE);

    if (!wanted || !watch->tag)
        return 0;
    return g_source_query_unix_fd(&watch->source, watch->tag) &
           (wanted | G_IO_ERR | G_IO_HUP | G_IO_NVAL);
}

static gboolean fd_check(GSource *source)
{
    return fd_ready((struct loop_fd *)source) != 0;
}

static gboolean fd_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    struct loop_fd *watch = (struct loop_fd *)source;
    GIOCondition ready = fd_ready(watch); /* again: an earlier callback may have paused it */

    if (!ready)
        return G_SOURCE_CONTINUE;
    if (ready & G_IO_NVAL) {
        /* Somebody closed the descriptor under us: say so once instead of spinning. */
        log_error("loop", "descriptor %d was closed while it was watched", watch->fd);
        loop_fd_set_events(watch, 0);
        return G_SOURCE_CONTINUE;
    }
    if (watch->eventfd_fn) {
        uint64_t count;
        if (read(watch->fd, &count, sizeof(count)) == sizeof(count))
            watch->eventfd_fn(watch->opaque);
    } else {
        watch->fn(watch->opaque, ready);
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs fd_funcs = {.prepare = fd_prepare, .check = fd_check, .dispatch = fd_dispatch};

static struct loop_fd *watch_create(struct loop *loop, int fd, GIOCondition events, loop_fd_fn fn,
                                    loop_fn eventfd_fn, void *opaque)
{
    struct loop_fd *watch = (struct loop_fd *)g_source_new(&fd_funcs, sizeof(*watch));

    watch->fd = fd;
    watch->wanted = events;
    watch->fn = fn;
    watch->eventfd_fn = eventfd_fn;
    watch->opaque = opaque;
    g_source_attach(&watch->source, loop->context);
    return watch;
}

struct loop_fd *loop_fd_create(struct loop *loop, int fd, GIOCondition events, loop_fd_fn fn,
                               void *opaque)
{
    return watch_create(loop, fd, events, fn, NULL, opaque);
}

struct loop_fd *loop_eventfd_create(struct loop *loop, int fd, loop_fn fn, void *opaque)
{
    return watch_create(loop, fd, G_IO_IN, NULL, fn, opaque);
}

void loop_fd_set_events(struct loop_fd *watch, GIOCondition events)
{
    GMainContext *context = g_source_get_context(&watch->source);

    if (__atomic_exchange_n(&watch->wanted, events, __ATOMIC_ACQ_REL) != (unsigned)events &&
        context && !g_main_context_is_owner(context))
        g_main_context_wakeup(context);
}

void loop_fd_destroy(struct loop_fd *watch)
{
    if (!watch)
        return;
    g_source_destroy(&watch->source);
    g_source_unref(&watch->source);
}

/* ---- timers ---- */

int64_t loop_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* An early wake-up is harmless, so the timerfd is only touched when the first deadline is earlier. */
static void timers_arm_locked(struct loop *loop)
{
    struct itimerspec spec = {0};

    if (!loop->timers || (loop->armed >= 0 && loop->armed <= loop->timers->deadline))
        return;
    loop->armed = loop->timers->deadline;
    spec.it_value.tv_sec = loop->armed / 1000000000;
    spec.it_value.tv_nsec = loop->armed % 1000000000;
    if (timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0)
        log_error("loop", "timerfd_settime: %s", g_strerror(errno));
}

static void timer_unlink_locked(struct loop_timer *timer)
{
    for (struct loop_timer **link = &timer->loop->timers; *link; link = &(*link)->next)
        if (*link == timer) {
            *link = timer->next;
            break;
        }
    __atomic_store_n(&timer->deadline, -1, __ATOMIC_RELEASE);
}

static void timers_run(void *opaque)
{
    struct loop *loop = opaque;
    int64_t now = loop_now_ns();

    g_mutex_lock(&loop->lock);
    loop->armed = -1;
    /* One that is set again by its own callback, into the past, waits for the next turn. */
    uint64_t last = loop->timer_sequence;
    for (;;) {
        struct loop_timer *timer = loop->timers;
        while (timer && timer->deadline <= now && timer->sequence > last)
            timer = timer->next;
        if (!timer || timer->deadline > now)
            break;
        timer_unlink_locked(timer);
        g_mutex_unlock(&loop->lock);
        timer->fn(timer->opaque);
        g_mutex_lock(&loop->lock);
    }
    timers_arm_locked(loop);
    g_mutex_unlock(&loop->lock);
}

struct loop_timer *loop_timer_create(struct loop *loop, loop_fn fn, void *opaque)
{
    struct loop_timer *timer = g_new0(struct loop_timer, 1);

    timer->loop = loop;
    timer->fn = fn;
    timer->opaque = opaque;
    timer->deadline = -1;
    return timer;
}

void loop_timer_set(struct loop_timer *timer, int64_t deadline_ns)
{
    struct loop *loop = timer->loop;
    struct loop_timer **link;

    g_mutex_lock(&loop->lock);
    timer_unlink_locked(timer);
    /* 0 would disarm a timerfd; the past is "now". */
    __atomic_store_n(&timer->deadline, MAX(deadline_ns, 1), __ATOMIC_RELEASE);
    timer->sequence = ++loop->timer_sequence;
    for (link = &loop->timers; *link && (*link)->deadline <= timer->deadline; link = &(*link)->next)
        ;
    timer->next = *link;
    *link = timer;
    timers_arm_locked(loop);
    g_mutex_unlock(&loop->lock);
}

void loop_timer_cancel(struct loop_timer *timer)
{
    g_mutex_lock(&timer->loop->lock);
    timer_unlink_locked(timer);
    g_mutex_unlock(&timer->loop->lock);
}

int64_t loop_timer_deadline(const struct loop_timer *timer)
{
    return __atomic_load_n(&timer->deadline, __ATOMIC_ACQUIRE);
}

void loop_timer_destroy(struct loop_timer *timer)
{
    if (!timer)
        return;
    loop_timer_cancel(timer);
    g_free(timer);
}

/* ---- loops ---- */

static struct loop *loop_new(GMainContext *context, const char *name, GError **error)
{
    struct loop *loop = g_new0(struct loop, 1);

    g_mutex_init(&loop->lock);
    g_queue_init(&loop->deferred);
    g_strlcpy(loop->name, name, sizeof(loop->name));
    loop->armed = -1;
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (loop->timer_fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "no timer for the loop '%s': %s%s", name, g_strerror(errno),
                    errno == EMFILE ? "; raise 'ulimit -n'" : "");
        g_mutex_clear(&loop->lock);
        g_free(loop);
        return NULL;
    }
    loop->context = g_main_context_ref(context);
    loop->defer_source =
        (struct defer_source *)g_source_new(&defer_funcs, sizeof(*loop->defer_source));
    loop->defer_source->loop = loop;
    g_source_attach(&loop->defer_source->source, context);
    loop->timer_source = loop_eventfd_create(loop, loop->timer_fd, timers_run, loop);
    return loop;
}

static bool loop_should_quit(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    bool quit = loop->quit;
    g_mutex_unlock(&loop->lock);
    return quit;
}

/*
 * Turns until loop_quit, then runs what is still deferred (a loop_call may be waiting among it) and
 * what that defers in turn, but not for ever.
 */
static void loop_turn(struct loop *loop)
{
    while (!loop_should_quit(loop))
        g_main_context_iteration(loop->context, TRUE);
    for (unsigned round = 0;; round++) {
        run_deferred(loop);
        g_mutex_lock(&loop->lock);
        if (!loop->deferred.length || round == LAST_ROUNDS) {
            loop->thread = NULL;
            loop->quit = false;
            g_mutex_unlock(&loop->lock);
            break;
        }
        g_mutex_unlock(&loop->lock);
    }
    run_deferred(loop);
}

static gpointer loop_thread(gpointer opaque)
{
    struct loop *loop = opaque;

    g_main_context_push_thread_default(loop->context);
    loop_turn(loop);
    g_main_context_pop_thread_default(loop->context);
    return NULL;
}

struct loop *loop_main(void)
{
    static struct loop *main_loop;

    if (g_once_init_enter(&main_loop)) {
        g_autoptr(GError) error = NULL;
        struct loop *loop = loop_new(g_main_context_default(), "main", &error);
        if (!loop) /* at program start: like being out of memory */
            g_error("%s", error->message);
        loop->is_main = true;
        g_once_init_leave(&main_loop, loop);
    }
    return main_loop;
}

struct loop *loop_create(const char *name, GError **error)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    struct loop *loop = loop_new(context, name, error);
    sigset_t all, old;

    if (!loop)
        return NULL;
    /* Signals are the main thread's business. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    g_mutex_lock(&loop->lock);
    loop->own_thread = g_thread_try_new(loop->name, loop_thread, loop, error);
    loop->thread = loop->own_thread;
    g_mutex_unlock(&loop->lock);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!loop->own_thread) {
        loop_destroy(loop);
        return NULL;
    }
    return loop;
}

void loop_destroy(struct loop *loop)
{
    if (!loop || loop->is_main)
        return;
    if (loop->own_thread) {
        loop_quit(loop);
        g_thread_join(loop->own_thread);
    }
    loop_fd_destroy(loop->timer_source);
    close(loop->timer_fd);
    g_source_destroy(&loop->defer_source->source);
    g_source_unref(&loop->defer_source->source);
    g_queue_clear_full(&loop->deferred, g_free);
    g_main_context_unref(loop->context);
    g_mutex_clear(&loop->lock);
    g_free(loop);
}

void loop_run(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    loop->thread = g_thread_self();
    g_mutex_unlock(&loop->lock);
    loop_turn(loop);
}

void loop_quit(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    loop->quit = true;
    g_mutex_unlock(&loop->lock);
    g_main_context_wakeup(loop->context);
}

bool loop_iterate(struct loop *loop, bool may_block)
{
    return g_main_context_iteration(loop->context, may_block);
}

GMainContext *loop_context(struct loop *loop)
{
    return loop->context;
}

bool loop_is_current(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    GThread *thread = loop->thread;
    g_mutex_unlock(&loop->lock);
    if (thread)
        return thread == g_thread_self();
    return loop->is_main ? syscall(SYS_gettid) == getpid() : g_main_context_is_owner(loop->context);
}
