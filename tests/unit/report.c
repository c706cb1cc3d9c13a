/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of lodge/report: exit codes, and the result file of a run whose guest never started. */
#include <glib/gstdio.h>
#include <string.h>

#include "lodge/exitcode.h"
#include "lodge/report.h"

static const struct {
    enum shutdown_reason reason;
    int status;
    int alone, with_command; /* exit codes */
} table[] = {
    {SHUTDOWN_POWER_OFF, 0, EXIT_POWER_OFF, EXIT_LODGE},
    {SHUTDOWN_RESET, 0, EXIT_RESET, EXIT_LODGE},
    {SHUTDOWN_TRIPLE_FAULT, 0, EXIT_TRIPLE_FAULT, EXIT_TRIPLE_FAULT},
    {SHUTDOWN_PANIC, 1, EXIT_PANIC, EXIT_PANIC},
    {SHUTDOWN_WATCHDOG, 0, EXIT_WATCHDOG, EXIT_WATCHDOG},
    {SHUTDOWN_INTERNAL_ERROR, 0, EXIT_INTERNAL_ERROR, EXIT_INTERNAL_ERROR},
    {SHUTDOWN_TIMEOUT, 0, EXIT_TIMEOUT, EXIT_TIMEOUT},
    {SHUTDOWN_QUIT, 0, 0, 0},
    {SHUTDOWN_QUIT, 128 + 15, 143, 143},
    {SHUTDOWN_COMMAND_DONE, 0, 0, 0},
    {SHUTDOWN_COMMAND_DONE, 22, 22, 22},
    {SHUTDOWN_COMMAND_DONE, 128 + 9, 137, 137},
    {SHUTDOWN_DEBUG_EXIT, 0, 1, 1},
    {SHUTDOWN_DEBUG_EXIT, 0x10, 0x21, 0x21},
};

static void test_exit_codes(void)
{
    char *words[] = {(char *)"true", NULL};

    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        struct config config = {};
        struct machine machine = {
            .config = &config, .reason = table[i].reason, .status = table[i].status};

        g_assert_cmpint(report_exit_code(&machine), ==, table[i].alone);
        config.command = words;
        g_assert_cmpint(report_exit_code(&machine), ==, table[i].with_command);
    }
}

static void test_design_values(void)
{
    g_assert_cmpint(EXIT_POWER_OFF, ==, 0);
    g_assert_cmpint(EXIT_RESET, ==, 32);
    g_assert_cmpint(EXIT_TRIPLE_FAULT, ==, 33);
    g_assert_cmpint(EXIT_PANIC, ==, 34);
    g_assert_cmpint(EXIT_WATCHDOG, ==, 36);
    g_assert_cmpint(EXIT_INTERNAL_ERROR, ==, 37);
    g_assert_cmpint(EXIT_TIMEOUT, ==, 124);
    g_assert_cmpint(EXIT_LODGE, ==, 125);
}

static void test_the_result_of_a_failed_start(void)
{
    g_autofree char *folder = g_dir_make_tmp("lodge-report-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "r.json", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = NULL;
    struct report_end end = {.reason = "error", .detail = "--disk: \"x\"", .exit_code = EXIT_LODGE};

    g_assert_true(report_write(NULL, path, &end, &error));
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    node = json_from_string(text, NULL);
    g_assert_nonnull(node);
    JsonObject *object = json_node_get_object(node);
    g_assert_cmpstr(json_object_get_string_member(object, "reason"), ==, "error");
    g_assert_cmpstr(json_object_get_string_member(object, "detail"), ==, "--disk: \"x\"");
    g_assert_cmpint(json_object_get_int_member(object, "exit-code"), ==, 125);
    g_unlink(path);
    g_assert_false(report_write(NULL, folder, &end, &error));
    g_assert_nonnull(strstr(error->message, "--result: "));
    g_rmdir(folder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/report/exit_codes", test_exit_codes);
    g_test_add_func("/report/design_values", test_design_values);
    g_test_add_func("/report/the_result_of_a_failed_start", test_the_result_of_a_failed_start);
    return g_test_run();
}
