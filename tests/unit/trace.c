/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of vmm/trace: events are found, switched by pattern, and print one line each. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/trace.h"

TRACE_EVENT(tracetest_pop, "%s queue=%u", (const char *device, unsigned queue), device, queue)
TRACE_EVENT(tracetest_push, "%d", (int head), head)

static char *take(int fd)
{
    char *text = g_malloc0(8192);

    g_assert_cmpint(pread(fd, text, 8191, 0), >=, 0);
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    lseek(fd, 0, SEEK_SET);
    return text;
}

static int open_log(void)
{
    int fd = memfd_create("trace", 0);

    g_assert_cmpint(fd, >=, 0);
    trace_set_fd(fd);
    return fd;
}

static void test_off_is_silent(void)
{
    int fd = open_log();

    trace_tracetest_pop("dev0", 1);
    g_autofree char *text = take(fd);
    g_assert_cmpstr(text, ==, "");
    close(fd);
}

static void test_on_prints_a_line(void)
{
    int fd = open_log();

    g_assert_cmpint(trace_set("tracetest_pop", true, NULL), ==, 1);
    trace_tracetest_pop("dev0", 7);
    trace_tracetest_push(1);
    g_autofree char *text = take(fd);
    g_assert_true(g_regex_match_simple("^[0-9]+\\.[0-9]{6} [^ ]+ tracetest_pop dev0 queue=7\n$",
                                       text, G_REGEX_DOLLAR_ENDONLY, 0));
    g_assert_cmpint(trace_set("tracetest_pop", false, NULL), ==, 1);
    trace_tracetest_pop("dev0", 8);
    g_autofree char *after = take(fd);
    g_assert_cmpstr(after, ==, "");
    close(fd);
}

static void test_patterns(void)
{
    g_assert_cmpint(trace_set("tracetest_*", true, NULL), ==, 2);
    g_assert_cmpint(trace_set("tracetest_push,tracetest_p*", false, NULL), ==, 2);
}

static void test_unknown_pattern_changes_nothing(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(trace_set("tracetest_pop,nothing_*", true, &error), ==, -1);
    g_assert_cmpstr(error->message, ==,
                    "trace pattern 'nothing_*': no event has such a name; 'lodge devices --trace' "
                    "lists them");
    g_assert_false(trace_event_tracetest_pop.enabled);
}

static void test_long_line_is_cut(void)
{
    int fd = open_log();
    g_autofree char *name = g_strnfill(5000, 'x');

    name[3] = '\n';
    trace_set("tracetest_pop", true, NULL);
    trace_tracetest_pop(name, 7);
    trace_set("tracetest_pop", false, NULL);
    g_autofree char *text = take(fd);
    g_assert_cmpuint(strlen(text), <=, 1024);
    g_assert_cmpuint(strlen(text), >, 1000);
    g_assert_true(strchr(text, '\n') == text + strlen(text) - 1);
    close(fd);
}

static void count(const struct trace_event *event, void *opaque)
{
    if (g_str_has_prefix(event->name, "tracetest_"))
        (*(int *)opaque)++;
}

static void test_for_each(void)
{
    int n = 0;

    trace_for_each(count, &n);
    g_assert_cmpint(n, ==, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/trace/off_is_silent", test_off_is_silent);
    g_test_add_func("/trace/on_prints_a_line", test_on_prints_a_line);
    g_test_add_func("/trace/patterns", test_patterns);
    g_test_add_func("/trace/unknown_pattern_changes_nothing", test_unknown_pattern_changes_nothing);
    g_test_add_func("/trace/long_line_is_cut", test_long_line_is_cut);
    g_test_add_func("/trace/for_each", test_for_each);
    return g_test_run();
}
