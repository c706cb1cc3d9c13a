/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop - descriptors, timers and deferred calls over epoll (contract: vmm/loop.h)
 *
 * A turn waits for the loop's epoll descriptor, serves what is ready, and then what was deferred.
 * With dozens of doorbells on one loop, that costs no more than with one. Deferred calls: a queue;
 * other threads wake the loop by an eventfd, its own thread has no need to. Timers: one timerfd, set
 * for the first of a sorted list. A loop that has users of GLib (loop_context) turns its
 * GMainContext instead, of which all of this is then one source; the main loop always does.
 *
 * What epoll refuses to watch (regular files, /dev/null) is ready at every turn, as with poll(2).
 */
#include "vmm/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/fd.h"
#include "vmm/log.h"

#define LAST_ROUNDS 64u /* of deferred calls that defer others, when a loop ends */
#define MAX_READY   32u /* descriptors served in a turn */

G_STATIC_ASSERT((int)G_IO_IN == EPOLLIN && (int)G_IO_OUT == EPOLLOUT && (int)G_IO_PRI == EPOLLPRI &&
                (int)G_IO_ERR == EPOLLERR && (int)G_IO_HUP == EPOLLHUP);

struct deferred {
    loop_fn fn;
    void *opaque;
};

/* What one turn found: turns may be nested (loop_iterate in a callback). */
struct turn {
    struct epoll_event ready[MAX_READY];
    int count;
    struct turn *outer;
};

struct loop_source {
    GSource source; /* first: GLib allocates and frees it */
    struct loop *loop;
    gpointer tag;
};

struct loop {
    char name[16];
    bool is_main;
    int epoll_fd;
    struct turn *turn;          /* the innermost that is under way; loop's thread */
    GMainContext *context;      /* NULL: nobody asked for it; atomic */
    struct loop_source *source; /* all of this, in there */

    GMutex lock;         /* of everything below */
    GThread *thread;     /* that runs it now, or NULL */
    GThread *own_thread; /* of loop_create, for joining */
    bool quit;
    GQueue deferred;
    bool woken; /* by wake_fd, and did not look yet */
    int wake_fd;
    struct loop_fd *wake_source;
    GPtrArray *always; /* struct loop_fd that epoll can't watch */

    struct loop_timer *timers; /* set ones, earliest first */
    uint64_t timer_sequence;   /* of the last that was set */
    int64_t armed;             /* what the timerfd is set to, or -1 */
    int timer_fd;
    struct loop_fd *timer_source;
};

struct loop_fd {
    struct loop *loop;
    int fd;
    int copy;        /* of fd, which was watched already; or -1 */
    unsigned wanted; /* written under the loop's lock, atomic */
    bool always;
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

/* Has a turn look at what changed. Not needed on the loop's own thread, which looks before it waits;
 * GLib's sources may call after that. */
static void wake_locked(struct loop *loop)
{
    if (loop->woken || (!loop->context && loop->thread && loop->thread == g_thread_self()))
        return;
    loop->woken = true;
    eventfd_write(loop->wake_fd, 1);
}

static void on_wake(void *opaque)
{
    struct loop *loop = opaque;

    g_mutex_lock(&loop->lock);
    loop->woken = false;
    g_mutex_unlock(&loop->lock);
}

static void defer_locked(struct loop *loop, loop_fn fn, void *opaque)
{
    struct deferred *deferred = g_new(struct deferred, 1);

    *deferred = (struct deferred){fn, opaque};
    g_queue_push_tail(&loop->deferred, deferred);
    wake_locked(loop);
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

/* Errors and hang-up are reported whatever is asked for, so a paused one is not watched at all. */
static int watch_locked(struct loop_fd *watch, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    int operation = !events ? EPOLL_CTL_DEL : !watch->wanted ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    int fd = watch->copy < 0 ? watch->fd : watch->copy;

    if (watch->always || events == watch->wanted)
        return 0;
    return epoll_ctl(watch->loop->epoll_fd, operation, fd, &event) ? -errno : 0;
}

static int set_events_locked(struct loop_fd *watch, unsigned events)
{
    int ret = watch_locked(watch, events);

    if (ret == -EEXIST && watch->copy < 0) {
        watch->copy = fcntl(watch->fd, F_DUPFD_CLOEXEC, 0);
        ret = watch->copy < 0 ? -errno : watch_locked(watch, events);
    } else if (ret == -EPERM) {
        watch->always = true;
        g_ptr_array_add(watch->loop->always, watch);
        ret = 0;
    }
    if (watch->always && events)
        wake_locked(watch->loop);
    __atomic_store_n(&watch->wanted, ret ? 0 : events, __ATOMIC_RELEASE);
    return ret;
}

void loop_fd_set_events(struct loop_fd *watch, GIOCondition events)
{
    g_mutex_lock(&watch->loop->lock);
    int ret = set_events_locked(watch, events);
    g_mutex_unlock(&watch->loop->lock);
    if (ret && events)
        log_error("loop", "descriptor %d can't be watched: %s", watch->fd, g_strerror(-ret));
}

static struct loop_fd *watch_create(struct loop *loop, int fd, GIOCondition events, loop_fd_fn fn,
                                    loop_fn eventfd_fn, void *opaque)
{
    struct loop_fd *watch = g_new0(struct loop_fd, 1);

    *watch = (struct loop_fd){
        .loop = loop, .fd = fd, .copy = -1, .fn = fn, .eventfd_fn = eventfd_fn, .opaque = opaque};
    loop_fd_set_events(watch, events);
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

void loop_fd_destroy(struct loop_fd *watch)
{
    if (!watch)
        return;
    struct loop *loop = watch->loop;
    g_mutex_lock(&loop->lock);
    if (watch->wanted)
        set_events_locked(watch, 0);
    if (watch->always)
        g_ptr_array_remove(loop->always, watch);
    g_mutex_unlock(&loop->lock);
    for (struct turn *turn = loop->turn; turn; turn = turn->outer)
        for (int i = 0; i < turn->count; i++)
            if (turn->ready[i].data.ptr == watch)
                turn->ready[i].data.ptr = NULL;
    close_fd(watch->copy);
    g_free(watch);
}

static void serve(struct loop_fd *watch, unsigned ready)
{
    unsigned wanted = __atomic_load_n(&watch->wanted, __ATOMIC_ACQUIRE);
    uint64_t count;

    /* An earlier callback may have paused it. */
    ready &= wanted ? wanted | EPOLLERR | EPOLLHUP : 0;
    if (!ready)
        return;
    if (!watch->eventfd_fn)
        watch->fn(watch->opaque, ready);
    else if (read(watch->fd, &count, sizeof(count)) == sizeof(count))
        watch->eventfd_fn(watch->opaque);
}

/* Adds what is ready without being asked. */
static void add_always(struct loop *loop, struct turn *turn)
{
    g_mutex_lock(&loop->lock);
    for (guint i = 0; i < loop->always->len && turn->count < (int)MAX_READY; i++) {
        struct loop_fd *watch = g_ptr_array_index(loop->always, i);
        if (watch->wanted)
            turn->ready[turn->count++] = (struct epoll_event){watch->wanted, {.ptr = watch}};
    }
    g_mutex_unlock(&loop->lock);
}

/* Is there something that epoll does not know of? */
static bool is_due(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    bool due = loop->deferred.length;
    for (guint i = 0; i < loop->always->len && !due; i++)
        due = ((struct loop_fd *)g_ptr_array_index(loop->always, i))->wanted;
    g_mutex_unlock(&loop->lock);
    return due;
}

/* One turn; was there anything to do? */
static bool take_turn(struct loop *loop, bool may_block)
{
    bool due = is_due(loop);
    struct turn turn = {.outer = loop->turn};

    turn.count = epoll_wait(loop->epoll_fd, turn.ready, MAX_READY, due || !may_block ? 0 : -1);
    turn.count = MAX(turn.count, 0); /* EINTR */
    if (due)
        add_always(loop, &turn);
    loop->turn = &turn;
    for (int i = 0; i < turn.count; i++)
        if (turn.ready[i].data.ptr)
            serve(turn.ready[i].data.ptr, turn.ready[i].events);
    loop->turn = turn.outer;
    run_deferred(loop);
    return due || turn.count;
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

static gboolean source_prepare(GSource *source, gint *timeout)
{
    *timeout = -1;
    return is_due(((struct loop_source *)source)->loop);
}

static gboolean source_check(GSource *source)
{
    struct loop_source *own = (struct loop_source *)source;

    return g_source_query_unix_fd(source, own->tag) || is_due(own->loop);
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    take_turn(((struct loop_source *)source)->loop, false);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {
    .prepare = source_prepare, .check = source_check, .dispatch = source_dispatch};

static void attach_locked(struct loop *loop, GMainContext *context)
{
    loop->source = (struct loop_source *)g_source_new(&source_funcs, sizeof(*loop->source));
    loop->source->loop = loop;
    loop->source->tag = g_source_add_unix_fd(&loop->source->source, loop->epoll_fd, G_IO_IN);
    g_source_set_can_recurse(&loop->source->source, TRUE);
    g_source_attach(&loop->source->source, context);
    __atomic_store_n(&loop->context, context, __ATOMIC_RELEASE);
}

GMainContext *loop_context(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    if (!loop->context) {
        attach_locked(loop, g_main_context_new());
        wake_locked(loop);
    }
    g_mutex_unlock(&loop->lock);
    return loop->context;
}

bool loop_iterate(struct loop *loop, bool may_block)
{
    GMainContext *context = __atomic_load_n(&loop->context, __ATOMIC_ACQUIRE);

    return context ? g_main_context_iteration(context, may_block) : take_turn(loop, may_block);
}

static void loop_free(struct loop *loop)
{
    loop_fd_destroy(loop->timer_source);
    loop_fd_destroy(loop->wake_source);
    if (loop->source) {
        g_source_destroy(&loop->source->source);
        g_source_unref(&loop->source->source);
        g_main_context_unref(loop->context);
    }
    close_fd(loop->timer_fd);
    close_fd(loop->wake_fd);
    close_fd(loop->epoll_fd);
    g_queue_clear_full(&loop->deferred, g_free);
    g_ptr_array_unref(loop->always);
    g_mutex_clear(&loop->lock);
    g_free(loop);
}

static struct loop *loop_new(const char *name, GError **error)
{
    struct loop *loop = g_new0(struct loop, 1);

    g_mutex_init(&loop->lock);
    g_queue_init(&loop->deferred);
    loop->always = g_ptr_array_new();
    g_strlcpy(loop->name, name, sizeof(loop->name));
    loop->armed = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 || loop->timer_fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "no descriptors for the loop '%s': %s%s", name, g_strerror(errno),
                    errno == EMFILE ? "; raise 'ulimit -n'" : "");
        loop_free(loop);
        return NULL;
    }
    loop->wake_source = loop_eventfd_create(loop, loop->wake_fd, on_wake, loop);
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
        loop_iterate(loop, true);
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

    loop_turn(loop);
    return NULL;
}

struct loop *loop_main(void)
{
    static struct loop *main_loop;

    if (g_once_init_enter(&main_loop)) {
        g_autoptr(GError) error = NULL;
        struct loop *loop = loop_new("main", &error);
        if (!loop) /* at program start: like being out of memory */
            g_error("%s", error->message);
        loop->is_main = true;
        attach_locked(loop, g_main_context_ref(g_main_context_default()));
        g_once_init_leave(&main_loop, loop);
    }
    return main_loop;
}

struct loop *loop_create(const char *name, GError **error)
{
    struct loop *loop = loop_new(name, error);
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
    loop_free(loop);
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
    wake_locked(loop);
    g_mutex_unlock(&loop->lock);
}

bool loop_is_current(struct loop *loop)
{
    g_mutex_lock(&loop->lock);
    GThread *thread = loop->thread ? loop->thread : loop->own_thread;
    g_mutex_unlock(&loop->lock);
    return thread ? thread == g_thread_self() : syscall(SYS_gettid) == getpid();
}
