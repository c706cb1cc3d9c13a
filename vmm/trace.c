/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * trace - named events, off until asked for (contract: vmm/trace.h)
 *
 * Every TRACE_EVENT leaves a pointer in the section "lodge_trace"; the linker provides its bounds.
 */
#include "vmm/trace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Longer lines are cut: tracing allocates nothing. */
#define TRACE_LINE_MAX 1024

/* Weak: a program may have no event at all. */
extern struct trace_event *const __start_lodge_trace[] __attribute__((weak));
extern struct trace_event *const __stop_lodge_trace[] __attribute__((weak));

static int trace_fd = -1; /* atomic */
static int64_t start_us;

static void __attribute__((constructor)) trace_start(void)
{
    start_us = g_get_monotonic_time();
}

void trace_print(const struct trace_event *event, const char *format, ...)
{
    int saved_errno = errno;
    int fd = __atomic_load_n(&trace_fd, __ATOMIC_RELAXED);
    int64_t elapsed = g_get_monotonic_time() - start_us;
    char line[TRACE_LINE_MAX];
    char thread[17] = "";
    va_list args;

    prctl(PR_GET_NAME, thread);
    size_t used =
        snprintf(line, sizeof(line), "%" G_GINT64_FORMAT ".%06d %s %s ", elapsed / G_USEC_PER_SEC,
                 (int)(elapsed % G_USEC_PER_SEC), thread, event->name);
    used = MIN(used, sizeof(line) - 2);
    va_start(args, format);
    int n = vsnprintf(line + used, sizeof(line) - used, format, args);
    va_end(args);
    used = MIN(used + MAX(n, 0), sizeof(line) - 2);
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    if (write(fd < 0 ? STDERR_FILENO : fd, line, used) < 0) {
        /* A line that can't be written is lost: there is nobody to tell. */
    }
    errno = saved_errno;
}

int trace_set(const char *patterns, bool enabled, GError **error)
{
    g_auto(GStrv) items = g_strsplit(patterns, ",", -1);
    unsigned count = __stop_lodge_trace - __start_lodge_trace;
    g_autofree bool *matched = g_new0(bool, count + 1);
    int total = 0;

    for (unsigned i = 0; items[i]; i++) {
        g_autoptr(GPatternSpec) pattern = g_pattern_spec_new(items[i]);
        bool any = false;

        for (unsigned e = 0; e < count; e++)
            if (g_pattern_spec_match_string(pattern, __start_lodge_trace[e]->name))
                any = matched[e] = true;
        if (!any) {
            g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                        "trace pattern '%s': no event has such a name; 'lodge devices --trace' "
                        "lists them",
                        items[i]);
            return -1;
        }
    }
    for (unsigned e = 0; e < count; e++)
        if (matched[e]) {
            __atomic_store_n(&__start_lodge_trace[e]->enabled, enabled, __ATOMIC_RELAXED);
            total++;
        }
    return total;
}

void trace_for_each(void (*visit)(const struct trace_event *event, void *opaque), void *opaque)
{
    for (struct trace_event *const *event = __start_lodge_trace; event < __stop_lodge_trace;
         event++)
        visit(*event, opaque);
}

void trace_set_fd(int fd)
{
    __atomic_store_n(&trace_fd, fd, __ATOMIC_RELAXED);
}
