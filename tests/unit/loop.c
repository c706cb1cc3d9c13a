/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of vmm/loop: order of deferred calls, descriptors, timers, threads and their end. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vmm/loop.h"

#define MS INT64_C(1000000)

static void spin_until(int *flag, int value, int timeout_ms)
{
    int64_t end = loop_now_ns() + timeout_ms * MS;

    while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) != value && loop_now_ns() < end)
        if (!loop_iterate(loop_main(), false))
            g_usleep(200);
    g_assert_cmpint(__atomic_load_n(flag, __ATOMIC_ACQUIRE), ==, value);
}

/* Turns the loop for @ms, and until what was due by then has run, however slow the machine is. */
static void quiet_for(int ms)
{
    int64_t end = loop_now_ns() + ms * MS;

    while (loop_now_ns() < end)
        if (!loop_iterate(loop_main(), false))
            g_usleep(200);
    for (int i = 0; i < 20; i++)
        loop_iterate(loop_main(), false);
}

/* ---- deferred calls ---- */

static GString *order;

static void append(void *opaque)
{
    g_string_append(order, opaque);
}

static void append_and_defer(void *opaque)
{
    g_string_append(order, opaque);
    loop_defer(loop_main(), append, "3");
}

static void test_defer_keeps_order(void)
{
    order = g_string_new("");
    loop_defer(loop_main(), append_and_defer, "1");
    loop_defer(loop_main(), append, "2");
    g_assert_cmpstr(order->str, ==, "");
    quiet_for(5);
    g_assert_cmpstr(order->str, ==, "123");
    g_string_free(order, TRUE);
}

static void defer_self(void *opaque)
{
    (*(int *)opaque)++;
    if (*(int *)opaque < 1000)
        loop_defer(loop_main(), defer_self, opaque);
}

static void test_defer_of_itself_waits_a_turn(void)
{
    int n = 0;

    loop_defer(loop_main(), defer_self, &n);
    loop_iterate(loop_main(), false);
    g_assert_cmpint(n, ==, 1);
    spin_until(&n, 1000, 2000);
}

struct probe {
    struct loop *loop;
    GThread *thread;
    bool current;
    int count;
    char name[32];
};

static void probe_run(void *opaque)
{
    struct probe *probe = opaque;

    probe->thread = g_thread_self();
    probe->current = loop_is_current(probe->loop);
    pthread_getname_np(pthread_self(), probe->name, sizeof(probe->name));
    probe->count++;
}

static void test_call_runs_on_the_loops_thread(void)
{
    struct loop *loop = loop_create("io0-a-rather-long-name", NULL);
    struct probe probe = {.loop = loop};

    g_assert_nonnull(loop);
    g_assert_false(loop_is_current(loop));
    loop_call(loop, probe_run, &probe);
    g_assert_cmpint(probe.count, ==, 1);
    g_assert_true(probe.current);
    g_assert_true(probe.thread != g_thread_self());
    g_assert_cmpstr(probe.name, ==, "io0-a-rather-lo");
    loop_destroy(loop);
}

static void test_call_without_running_thread_is_direct(void)
{
    struct probe probe = {.loop = loop_main()};

    loop_call(loop_main(), probe_run, &probe);
    g_assert_true(probe.thread == g_thread_self());
    g_assert_true(probe.current);
}

static void increment(void *opaque)
{
    __atomic_fetch_add((int *)opaque, 1, __ATOMIC_ACQ_REL);
}

static void slow_increment(void *opaque)
{
    g_usleep(2000);
    increment(opaque);
}

static void test_destroy_runs_what_is_deferred(void)
{
    for (int round = 0; round < 20; round++) {
        struct loop *loop = loop_create("io", NULL);
        int n = 0;

        loop_defer(loop, slow_increment, &n);
        for (int i = 0; i < 50; i++)
            loop_defer(loop, increment, &n);
        loop_destroy(loop);
        g_assert_cmpint(n, ==, 51);
    }
}

static gpointer call_many(gpointer opaque)
{
    struct probe *probe = opaque;

    for (int i = 0; i < 500; i++)
        loop_call(probe->loop, increment, &probe->count);
    return NULL;
}

static void test_calls_from_many_threads(void)
{
    struct probe probe = {.loop = loop_create("io", NULL)};
    GThread *threads[4];

    for (int i = 0; i < 4; i++)
        threads[i] = g_thread_new(NULL, call_many, &probe);
    for (int i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(probe.count, ==, 2000);
    loop_destroy(probe.loop);
}

static gpointer call_then_quit(gpointer opaque)
{
    loop_call(loop_main(), increment, opaque);
    loop_quit(loop_main());
    return NULL;
}

static void test_run_until_quit(void)
{
    int n = 0;
    GThread *thread = g_thread_new(NULL, call_then_quit, &n);

    loop_run(loop_main());
    g_thread_join(thread);
    g_assert_cmpint(n, ==, 1);
    loop_quit(loop_main()); /* before loop_run: it returns at once */
    loop_run(loop_main());
}

/* ---- descriptors ---- */

struct watch {
    struct loop_fd *source;
    int fd;
    int calls;
    GIOCondition ready;
    bool drain, destroy_self, pause_self;
};

static void watch_ready(void *opaque, GIOCondition ready)
{
    struct watch *watch = opaque;
    char buffer[64];

    watch->calls++;
    watch->ready = ready;
    if (watch->drain)
        g_assert_cmpint(read(watch->fd, buffer, sizeof(buffer)), >=, 0);
    if (watch->pause_self)
        loop_fd_set_events(watch->source, 0);
    if (watch->destroy_self)
        g_clear_pointer(&watch->source, loop_fd_destroy);
}

static void test_fd_readable(void)
{
    int fds[2];
    struct watch watch = {.drain = true};

    g_assert_cmpint(pipe(fds), ==, 0);
    watch.fd = fds[0];
    watch.source = loop_fd_create(loop_main(), fds[0], G_IO_IN, watch_ready, &watch);
    quiet_for(5);
    g_assert_cmpint(watch.calls, ==, 0);
    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    spin_until(&watch.calls, 1, 1000);
    g_assert_true(watch.ready & G_IO_IN);
    loop_fd_destroy(watch.source);
    close(fds[0]);
    close(fds[1]);
}

static void test_fd_is_level_triggered_and_pauses(void)
{
    int fds[2];
    struct watch watch = {0};

    g_assert_cmpint(pipe(fds), ==, 0);
    watch.source = loop_fd_create(loop_main(), fds[0], G_IO_IN, watch_ready, &watch);
    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    quiet_for(0);
    g_assert_cmpint(watch.calls, >, 2);
    loop_fd_set_events(watch.source, 0);
    watch.calls = 0;
    quiet_for(10);
    g_assert_cmpint(watch.calls, ==, 0);
    watch.drain = true;
    watch.fd = fds[0];
    loop_fd_set_events(watch.source, G_IO_IN);
    spin_until(&watch.calls, 1, 1000);
    loop_fd_destroy(watch.source);
    close(fds[0]);
    close(fds[1]);
}

static int64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000 * MS + now.tv_nsec;
}

static void test_paused_fd_does_not_spin_on_hang_up(void)
{
    int fds[2];
    struct watch watch = {.pause_self = true};
    int fired = 0;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    watch.source = loop_fd_create(loop_main(), fds[0], G_IO_IN, watch_ready, &watch);
    close(fds[1]);
    spin_until(&watch.calls, 1, 1000);
    g_assert_true(watch.ready & G_IO_HUP);

    struct loop_timer *timer = loop_timer_create(loop_main(), increment, &fired);
    loop_timer_set(timer, loop_now_ns() + 100 * MS);
    int64_t before = cpu_ns();
    int turns = 0;
    while (!fired) {
        loop_iterate(loop_main(), true);
        turns++;
    }
    g_assert_cmpint(turns, <, 10);
    g_assert_cmpint(cpu_ns() - before, <, 50 * MS);
    g_assert_cmpint(watch.calls, ==, 1);
    loop_timer_destroy(timer);
    loop_fd_destroy(watch.source);
    close(fds[0]);
}

static void test_fd_destroyed_in_its_callback(void)
{
    int fds[2];
    struct watch watch = {.destroy_self = true};

    g_assert_cmpint(pipe(fds), ==, 0);
    watch.source = loop_fd_create(loop_main(), fds[0], G_IO_IN, watch_ready, &watch);
    g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
    quiet_for(10);
    g_assert_cmpint(watch.calls, ==, 1);
    g_assert_null(watch.source);
    close(fds[0]);
    close(fds[1]);
}

static struct watch *victim;

static void pause_victim(void *opaque, GIOCondition ready)
{
    loop_fd_set_events(victim->source, 0);
}

static void test_pausing_another_takes_effect_in_the_same_turn(void)
{
    int fd = eventfd(1, EFD_NONBLOCK);
    struct watch watch = {0};
    struct loop_fd *first = loop_fd_create(loop_main(), fd, G_IO_IN, pause_victim, NULL);

    watch.source = loop_fd_create(loop_main(), fd, G_IO_IN, watch_ready, &watch);
    victim = &watch;
    quiet_for(5);
    g_assert_cmpint(watch.calls, ==, 0);
    loop_fd_destroy(first);
    loop_fd_destroy(watch.source);
    close(fd);
}

static void test_pause_and_go_on_from_another_thread(void)
{
    struct loop *loop = loop_create("io", NULL);
    int fd = eventfd(0, EFD_NONBLOCK);
    int n = 0;
    uint64_t one = 1;
    struct loop_fd *source = loop_eventfd_create(loop, fd, increment, &n);

    for (int i = 1; i <= 200; i++) {
        loop_fd_set_events(source, 0);
        loop_fd_set_events(source, G_IO_IN);
        g_assert_cmpint(write(fd, &one, 8), ==, 8);
        spin_until(&n, i, 1000);
    }
    loop_call(loop, (loop_fn)(void (*)(void))loop_fd_destroy, source);
    loop_destroy(loop);
    close(fd);
}

static void test_eventfd_takes_all_counts_at_once(void)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    int n = 0;
    uint64_t count = 5;
    struct loop_fd *source = loop_eventfd_create(loop_main(), fd, increment, &n);

    g_assert_cmpint(write(fd, &count, 8), ==, 8);
    quiet_for(10);
    g_assert_cmpint(n, ==, 1);
    g_assert_cmpint(read(fd, &count, 8), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
    loop_fd_destroy(source);
    close(fd);
}

static void test_what_epoll_refuses_is_always_ready(void)
{
    struct watch watch = {.fd = open("/dev/null", O_RDONLY | O_CLOEXEC), .drain = true};

    watch.source = loop_fd_create(loop_main(), watch.fd, G_IO_IN, watch_ready, &watch);
    spin_until(&watch.calls, 3, 1000);
    loop_fd_set_events(watch.source, 0);
    quiet_for(5);
    g_assert_cmpint(watch.calls, ==, 3);
    loop_fd_set_events(watch.source, G_IO_IN);
    spin_until(&watch.calls, 4, 1000);
    loop_fd_destroy(watch.source);
    quiet_for(5);
    g_assert_cmpint(watch.calls, ==, 4);
    close(watch.fd);
}

struct rival {
    struct loop_fd *source;
    struct rival *other;
    int calls;
};

static void destroy_the_other_in_a_nested_turn(void *opaque, GIOCondition ready)
{
    struct rival *rival = opaque;

    if (!rival->calls++ && !rival->other->calls)
        loop_iterate(loop_main(), false); /* both are ready in it, too */
    else
        g_clear_pointer(rival->calls > 1 ? &rival->other->source : &rival->source, loop_fd_destroy);
}

static void test_nested_turn_and_destroying_another_ready_one(void)
{
    struct rival rivals[2] = {{.other = &rivals[1]}, {.other = &rivals[0]}};
    int fds[2];

    for (int i = 0; i < 2; i++) {
        fds[i] = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
        rivals[i].source = loop_fd_create(loop_main(), fds[i], G_IO_IN,
                                          destroy_the_other_in_a_nested_turn, &rivals[i]);
    }
    loop_iterate(loop_main(), false);
    /* One of them is gone since the nested turn, and was not called any more in the outer one. */
    g_assert_true(!rivals[0].source != !rivals[1].source);
    g_assert_cmpint(rivals[0].calls + rivals[1].calls, <=, 3);
    for (int i = 0; i < 2; i++) {
        loop_fd_destroy(rivals[i].source);
        close(fds[i]);
    }
}

static gboolean glib_ready(gpointer opaque)
{
    increment(opaque);
    return G_SOURCE_REMOVE;
}

static void test_users_of_glib_on_a_running_loop(void)
{
    struct loop *loop = loop_create("io", NULL);
    int before = 0, glib = 0, after = 0;
    struct probe probe = {.loop = loop};
    GSource *source = g_idle_source_new();

    loop_call(loop, increment, &before);
    g_source_set_callback(source, glib_ready, &glib, NULL);
    g_source_attach(source, loop_context(loop));
    g_source_unref(source);
    spin_until(&glib, 1, 1000);
    for (int i = 1; i <= 100; i++) {
        loop_defer(loop, increment, &after);
        spin_until(&after, i, 1000);
    }
    loop_call(loop, probe_run, &probe);
    g_assert_true(probe.current);
    loop_destroy(loop);
}

/* ---- timers ---- */

struct stopwatch {
    struct loop_timer *timer;
    int64_t fired_at;
    int count;
    bool again;
};

static void stopwatch_fired(void *opaque)
{
    struct stopwatch *watch = opaque;

    watch->fired_at = loop_now_ns();
    watch->count++;
    if (watch->again)
        loop_timer_set(watch->timer, 0);
}

static void test_timer_is_never_early(void)
{
    struct stopwatch watch = {0};

    watch.timer = loop_timer_create(loop_main(), stopwatch_fired, &watch);
    g_assert_cmpint(loop_timer_deadline(watch.timer), ==, -1);
    for (int us = 50; us <= 3200; us *= 2) {
        int64_t deadline = loop_now_ns() + us * 1000;
        watch.count = 0;
        loop_timer_set(watch.timer, deadline);
        g_assert_cmpint(loop_timer_deadline(watch.timer), ==, deadline);
        spin_until(&watch.count, 1, 1000);
        g_assert_cmpint(watch.fired_at, >=, deadline);
        g_assert_cmpint(loop_timer_deadline(watch.timer), ==, -1);
    }
    loop_timer_destroy(watch.timer);
}

static void test_timers_fire_in_order_of_deadline(void)
{
    static char *const names[] = {"a", "b", "c", "d"};
    static const int delay[] = {3, 1, 4, 2};
    struct loop_timer *timers[4];
    int64_t now = loop_now_ns();

    order = g_string_new("");
    for (int i = 0; i < 4; i++) {
        timers[i] = loop_timer_create(loop_main(), append, names[i]);
        loop_timer_set(timers[i], now + delay[i] * 3 * MS);
    }
    quiet_for(25);
    g_assert_cmpstr(order->str, ==, "bdac");
    for (int i = 0; i < 4; i++)
        loop_timer_destroy(timers[i]);
    g_string_free(order, TRUE);
}

static void test_timer_moved_and_cancelled(void)
{
    struct stopwatch watch = {0};

    watch.timer = loop_timer_create(loop_main(), stopwatch_fired, &watch);
    loop_timer_set(watch.timer, loop_now_ns() + 5 * MS);
    loop_timer_cancel(watch.timer);
    quiet_for(10);
    g_assert_cmpint(watch.count, ==, 0);
    loop_timer_set(watch.timer, loop_now_ns() + 2 * MS);
    loop_timer_set(watch.timer, loop_now_ns() + 2000 * MS);
    quiet_for(15);
    g_assert_cmpint(watch.count, ==, 0);
    loop_timer_set(watch.timer, loop_now_ns() + 1 * MS);
    spin_until(&watch.count, 1, 1000);
    quiet_for(10);
    g_assert_cmpint(watch.count, ==, 1);
    loop_timer_destroy(watch.timer);
}

static void test_timer_set_into_the_past_by_itself_starves_nobody(void)
{
    struct stopwatch watch = {.again = true};
    int others = 0;

    watch.timer = loop_timer_create(loop_main(), stopwatch_fired, &watch);
    struct loop_timer *other = loop_timer_create(loop_main(), increment, &others);
    loop_timer_set(watch.timer, 0);
    loop_timer_set(other, loop_now_ns() + MS);
    spin_until(&others, 1, 1000);
    g_assert_cmpint(watch.count, >, 1);
    loop_timer_destroy(watch.timer);
    loop_timer_destroy(other);
}

static struct loop_timer *doomed;

static void destroy_doomed(void *opaque)
{
    g_clear_pointer(&doomed, loop_timer_destroy);
}

static void test_timer_destroyed_by_another_due_one(void)
{
    int n = 0;
    struct loop_timer *killer = loop_timer_create(loop_main(), destroy_doomed, NULL);

    doomed = loop_timer_create(loop_main(), increment, &n);
    loop_timer_set(killer, 1);
    loop_timer_set(doomed, 2);
    quiet_for(5);
    g_assert_cmpint(n, ==, 0);
    loop_timer_destroy(killer);
}

static void test_timer_set_from_another_thread(void)
{
    struct loop *loop = loop_create("io", NULL);
    int n = 0;
    struct loop_timer *timer = loop_timer_create(loop, increment, &n);

    for (int i = 1; i <= 100; i++) {
        loop_timer_set(timer, loop_now_ns() + MS / 10);
        spin_until(&n, i, 1000);
    }
    loop_call(loop, (loop_fn)(void (*)(void))loop_timer_destroy, timer);
    loop_destroy(loop);
}

#define ADD(NAME) g_test_add_func("/loop/" #NAME, test_##NAME)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(defer_keeps_order);
    ADD(defer_of_itself_waits_a_turn);
    ADD(call_runs_on_the_loops_thread);
    ADD(call_without_running_thread_is_direct);
    ADD(destroy_runs_what_is_deferred);
    ADD(calls_from_many_threads);
    ADD(run_until_quit);
    ADD(fd_readable);
    ADD(fd_is_level_triggered_and_pauses);
    ADD(paused_fd_does_not_spin_on_hang_up);
    ADD(fd_destroyed_in_its_callback);
    ADD(pausing_another_takes_effect_in_the_same_turn);
    ADD(pause_and_go_on_from_another_thread);
    ADD(eventfd_takes_all_counts_at_once);
    ADD(what_epoll_refuses_is_always_ready);
    ADD(nested_turn_and_destroying_another_ready_one);
    ADD(users_of_glib_on_a_running_loop);
    ADD(timer_is_never_early);
    ADD(timers_fire_in_order_of_deadline);
    ADD(timer_moved_and_cancelled);
    ADD(timer_set_into_the_past_by_itself_starves_nobody);
    ADD(timer_destroyed_by_another_due_one);
    ADD(timer_set_from_another_thread);
    return g_test_run();
}
