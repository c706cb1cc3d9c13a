/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop - a thread that waits for file descriptors, timers and deferred calls
 *
 * Over epoll, and over GMainContext where somebody attaches sources of GLib's to it (libslirp; the
 * main thread's loop always). I/O loops each have a thread of their own. A device's data path
 * belongs to exactly one loop: its callbacks never run concurrently with each other. A loop does not
 * cross a fork(): make it in the child.
 *
 * Ownership: whoever creates a source or timer destroys it, on the loop's own thread (or while the
 * loop is not running). After destroy returns there, the callback does not run again.
 *
 * Threads: loop_defer, loop_call and loop_timer_* of one's own loop as said at each function; the
 * rest on the loop's thread, or before loop_start.
 */
#ifndef VMM_LOOP_H
#define VMM_LOOP_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_fd;
struct loop_timer;

typedef void (*loop_fn)(void *opaque);
typedef void (*loop_fd_fn)(void *opaque, GIOCondition ready);

/* The loop of the main thread, over the default GMainContext. Never destroyed. */
struct loop *loop_main(void);

/* A loop with a thread of its own, named @name (at most 15 characters show in ps); running. */
struct loop *loop_create(const char *name, GError **error);

/* Stops and joins the thread; remaining deferred calls run first. NULL is allowed. */
void loop_destroy(struct loop *loop);

/* Runs the main loop until loop_quit(); only on the main thread. A loop_quit() that came before
 * makes it return at once. */
void loop_run(struct loop *loop);
void loop_quit(struct loop *loop); /* any thread */

/* One turn of the loop on the calling thread, which must own it: for tests and shutdown paths. */
bool loop_iterate(struct loop *loop, bool may_block);

/* For sources of GLib's; from the first call on the loop turns this context. Any thread. */
GMainContext *loop_context(struct loop *loop);
bool loop_is_current(struct loop *loop); /* is the caller on this loop's thread? */

/* Calls @fn once on the loop's thread, in order of the calls. Any thread; never blocks. */
void loop_defer(struct loop *loop, loop_fn fn, void *opaque);

/*
 * Calls @fn on the loop's thread and returns when it has returned. Any thread but a vCPU's or
 * another I/O loop's (it blocks); runs @fn directly when the caller is on the loop's thread, or
 * when the loop has no running thread.
 */
void loop_call(struct loop *loop, loop_fn fn, void *opaque);

/*
 * Watches @fd (not owned; close it after the watch is destroyed) for @events (G_IO_IN, G_IO_OUT;
 * errors and hang-up are always reported, unless @events is 0).
 * Level-triggered. Created and changed from any thread; destroyed on the loop's thread, also from
 * inside its own callback.
 */
struct loop_fd *loop_fd_create(struct loop *loop, int fd, GIOCondition events, loop_fd_fn fn,
                               void *opaque);
void loop_fd_set_events(struct loop_fd *source, GIOCondition events); /* 0 pauses it */
void loop_fd_destroy(struct loop_fd *source);                         /* NULL is allowed */

/* Watches an eventfd: reads it (all counts at once) before it calls @fn. */
struct loop_fd *loop_eventfd_create(struct loop *loop, int fd, loop_fn fn, void *opaque);

/* One-shot timers on CLOCK_MONOTONIC, in nanoseconds; set again from inside the callback to repeat. */
int64_t loop_now_ns(void);
struct loop_timer *loop_timer_create(struct loop *loop, loop_fn fn, void *opaque);
void loop_timer_set(struct loop_timer *timer, int64_t deadline_ns); /* any thread */
void loop_timer_cancel(struct loop_timer *timer);
int64_t loop_timer_deadline(const struct loop_timer *timer); /* ns, -1 when not set */
void loop_timer_destroy(struct loop_timer *timer);           /* NULL is allowed */

#endif
