/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * trace - named events that cost one predicted branch while they are off
 *
 * A source file declares its events in a table at its top:
 *
 *     TRACE_EVENT(virtq_pop, "%s queue=%u head=%u", (const char *device, unsigned queue,
 *                 unsigned head), device, queue, head)
 *
 * and fires them by name: trace_virtq_pop(vq->device, vq->index, head). All events of the program
 * are found through a linker section, so there is no list to keep. `--trace 'virtq_*,pci_config*'`
 * or the control socket's set-trace turn them on; a line is
 *
 *     12.345678 vcpu0 virtq_pop virtio-blk0 queue=0 head=17
 *
 * (seconds since start, thread, event, arguments), on standard error or in the file of
 * --trace-file. Arguments are evaluated even while an event is off: pass what is at hand.
 *
 * Thread: events may fire on any thread; a line is written by a single write(2).
 */
#ifndef VMM_TRACE_H
#define VMM_TRACE_H

#include <glib.h>
#include <stdbool.h>

struct trace_event {
    const char *name;
    const char *format; /* of the arguments, for `lodge devices --trace` */
    bool enabled;       /* read without a lock on every pass */
};

void trace_print(const struct trace_event *event, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* TRACE_PARAMS is the parenthesised parameter list; the arguments after it go to the format. */
#define TRACE_EVENT(NAME, FORMAT, TRACE_PARAMS, ...)                                               \
    static struct trace_event trace_event_##NAME = {#NAME, FORMAT, false};                         \
    static struct trace_event *const trace_pointer_##NAME                                          \
        __attribute__((used, section("lodge_trace"))) = &trace_event_##NAME;                       \
    static inline __attribute__((unused)) void trace_##NAME TRACE_PARAMS                           \
    {                                                                                              \
        if (G_UNLIKELY(__atomic_load_n(&trace_event_##NAME.enabled, __ATOMIC_RELAXED)))            \
            trace_print(&trace_event_##NAME, FORMAT, __VA_ARGS__);                                 \
    }

/*
 * Turns events on or off by comma-separated shell patterns ("virtq_*,kvm_exit"). Returns how many
 * events matched a pattern; a pattern that matches none is an error naming it, and changes nothing.
 */
int trace_set(const char *patterns, bool enabled, GError **error);

/* Calls @visit for every event there is, in no particular order. */
void trace_for_each(void (*visit)(const struct trace_event *event, void *opaque), void *opaque);

/* Trace lines go to @fd (not owned) from now on; -1 is stderr. */
void trace_set_fd(int fd);

#endif
