/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of lodge/consoletail: panics in any pieces, the last lines, and a bounded memory. */
#include <glib.h>
#include <string.h>

#include "lodge/consoletail.h"

static const char panic[] = "[    1.2] Kernel panic - not syncing: no init\r\n";

static void append(struct console_tail *tail, const char *text)
{
    console_tail_append(tail, (const uint8_t *)text, strlen(text));
}

static void test_a_panic_in_two_pieces(void)
{
    for (size_t cut = 0; cut <= strlen(panic); cut++) {
        struct console_tail *tail = console_tail_create();
        g_autofree char *line = NULL;

        console_tail_append(tail, (const uint8_t *)panic, cut);
        console_tail_append(tail, (const uint8_t *)panic + cut, strlen(panic) - cut);
        g_assert_true(console_tail_panicked(tail));
        line = console_tail_panic_line(tail);
        g_assert_cmpstr(line, ==, "Kernel panic - not syncing: no init");
        console_tail_destroy(tail);
    }
}

static void test_a_false_start(void)
{
    struct console_tail *tail = console_tail_create();

    append(tail, "KKernel panic Kernel panic - not syncinKernel panic - not syncin");
    g_assert_false(console_tail_panicked(tail));
    g_assert_null(console_tail_panic_line(tail));
    append(tail, "Kernel panic - not syncing: x");
    g_assert_true(console_tail_panicked(tail));
    console_tail_destroy(tail);
}

static void test_the_first_panic_is_the_one(void)
{
    struct console_tail *tail = console_tail_create();
    g_autofree char *line = NULL;

    append(tail, "Kernel panic - not syncing: one\nKernel panic - not syncing: two\n");
    line = console_tail_panic_line(tail);
    g_assert_cmpstr(line, ==, "Kernel panic - not syncing: one");
    console_tail_destroy(tail);
}

static void test_a_panic_without_end_is_bounded(void)
{
    struct console_tail *tail = console_tail_create();
    g_autofree char *line = NULL, *filler = g_strnfill(100000, 'x');

    append(tail, "Kernel panic - not syncing: \033[2J\007");
    append(tail, filler);
    line = console_tail_panic_line(tail);
    g_assert_cmpuint(strlen(line), <, 500);
    g_assert_nonnull(strstr(line, ": ?[2J?xxx"));
    console_tail_destroy(tail);
}

static void test_the_last_lines(void)
{
    struct console_tail *tail = console_tail_create();
    g_autofree char *two = NULL, *all = NULL, *none = NULL;

    g_assert_true(console_tail_empty(tail));
    none = console_tail_text(tail, 5);
    g_assert_cmpstr(none, ==, "");
    append(tail, "one\r\ntw\033[1mo\xff\nthree\n");
    two = console_tail_text(tail, 2);
    g_assert_cmpstr(two, ==, "tw[1mo?\nthree\n");
    all = console_tail_text(tail, 100);
    g_assert_cmpstr(all, ==, "one\ntw[1mo?\nthree\n");
    console_tail_destroy(tail);
}

static void test_only_the_end_is_kept(void)
{
    struct console_tail *tail = console_tail_create();
    g_autofree char *text = NULL, *huge = g_strnfill(3 * CONSOLE_TAIL_SIZE, '.');
    char line[32];

    append(tail, huge);
    for (unsigned i = 0; i < 20000; i++) {
        g_snprintf(line, sizeof(line), "line %u\n", i);
        append(tail, line);
    }
    text = console_tail_text(tail, 1000000);
    g_assert_cmpuint(strlen(text), <=, CONSOLE_TAIL_SIZE);
    g_assert_cmpuint(strlen(text), >=, CONSOLE_TAIL_SIZE / 4);
    g_assert_true(g_str_has_suffix(text, "line 19998\nline 19999\n"));
    console_tail_destroy(tail);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(NAME) g_test_add_func("/consoletail/" #NAME, test_##NAME)
    ADD(a_panic_in_two_pieces);
    ADD(a_false_start);
    ADD(the_first_panic_is_the_one);
    ADD(a_panic_without_end_is_bounded);
    ADD(the_last_lines);
    ADD(only_the_end_is_kept);
    return g_test_run();
}
