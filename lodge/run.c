/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run - `lodge run`: from the command line to the exit code
 *
 * Everything that can fail for a reason of the user's fails before the guest starts, with one line on
 * standard error and exit code 125; nothing (socket, tap, process, file) stays behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lodge/command.h"
#include "lodge/commands.h"
#include "lodge/control.h"
#include "lodge/exitcode.h"
#include "lodge/guest.h"
#include "lodge/machine.h"
#include "lodge/report.h"
#include "vmm/log.h"
#include "vmm/setup.h"
#include "vmm/trace.h"

/* One run: what has to be undone at its end. */
struct run {
    struct config *config;
    struct machine *machine;
    struct guest *guest;
    struct command *command;
    struct control *control;
    struct loop_timer *timeout;
    int log_fd, trace_fd;
    unsigned stop_signals; /* SIGTERM and SIGINT so far */
    int64_t started_ns;
};

static int fail(const char *message)
{
    fprintf(stderr, "lodge: %s\n", message);
    return EXIT_LODGE;
}

static int open_output(const char *path, const char *what, GError **error)
{
    int fd;

    if (!path)
        return -1;
    fd = setup_open(path, O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        g_set_error(error, OPTIONS_ERROR, 0, "%s: %s: %s", what, path, g_strerror(errno));
    return fd;
}

/* What can't be written at the end is better known now. */
static bool check_result(const char *path, GError **error)
{
    g_autofree char *folder = path ? g_path_get_dirname(path) : NULL;

    if (!path)
        return true;
    if (access(folder, W_OK | X_OK))
        g_set_error(error, OPTIONS_ERROR, 0, "--result: %s: %s: %s", path, folder,
                    g_strerror(errno));
    else if (g_file_test(path, G_FILE_TEST_IS_DIR))
        g_set_error(error, OPTIONS_ERROR, 0,
                    "--result: %s: is a directory; give the name of a file in it", path);
    else
        return true;
    return false;
}

static bool set_up_log(struct run *run, GError **error)
{
    const struct options *options = run->config->run;
    const char *trace = options_string(options, "trace");

    if (options_string(options, "log-file")) {
        run->log_fd = open_output(options_string(options, "log-file"), "--log-file", error);
        if (run->log_fd < 0)
            return false;
        log_set_fd(run->log_fd);
    }
    if (options_string(options, "trace-file")) {
        run->trace_fd = open_output(options_string(options, "trace-file"), "--trace-file", error);
        if (run->trace_fd < 0)
            return false;
        trace_set_fd(run->trace_fd);
    }
    if (!log_set_levels(options_string(options, "log"), error)) {
        g_prefix_error(error, "--log: ");
        return false;
    }
    if (trace && trace_set(trace, true, error) < 0) {
        g_prefix_error(error, "--trace: ");
        return false;
    }
    return true;
}

/* ---- what can end it ---- */

static void timed_out(void *opaque)
{
    struct run *run = opaque;

    machine_request(run->machine, SHUTDOWN_TIMEOUT, 0, NULL);
}

static bool set_timeout(struct run *run, GError **error)
{
    double seconds;

    if (!config_timeout(run->config, &seconds, error))
        return false;
    if (seconds > 0) {
        run->timeout = loop_timer_create(loop_main(), timed_out, run);
        loop_timer_set(run->timeout, loop_now_ns() + (int64_t)(seconds * 1e9));
    }
    return true;
}

/*
 * The first SIGTERM or SIGINT presses the power button (or goes to the command); the second ends the
 * guest at once. SIGHUP (the terminal is gone) ends it at once.
 */
static void handle_signal(struct run *run, int number)
{
    if (run->command && command_signal(run->command, number) && run->stop_signals < 2) {
        run->stop_signals += number == SIGTERM || number == SIGINT;
        return;
    }
    if (number == SIGUSR1 || number == SIGUSR2 || number == SIGQUIT)
        return;
    if (number == SIGHUP || run->command || run->stop_signals++)
        machine_request(run->machine, SHUTDOWN_QUIT, 128 + number, NULL);
    else
        machine_power_button(run->machine);
}

#define SIGNAL_HANDLER(NUMBER)                                                                     \
    static gboolean on_##NUMBER(gpointer run)                                                      \
    {                                                                                              \
        handle_signal(run, NUMBER);                                                                \
        return G_SOURCE_CONTINUE;                                                                  \
    }
SIGNAL_HANDLER(SIGTERM)
SIGNAL_HANDLER(SIGINT)
SIGNAL_HANDLER(SIGHUP)
SIGNAL_HANDLER(SIGUSR1)
SIGNAL_HANDLER(SIGUSR2)

static gboolean on_SIGWINCH(gpointer opaque)
{
    struct run *run = opaque;
    struct winsize size;

    if (run->command && !ioctl(STDIN_FILENO, TIOCGWINSZ, &size))
        command_window_size(run->command, size.ws_row, size.ws_col);
    return G_SOURCE_CONTINUE;
}

static void watch_signals(struct run *run)
{
    g_unix_signal_add(SIGTERM, on_SIGTERM, run);
    g_unix_signal_add(SIGINT, on_SIGINT, run);
    g_unix_signal_add(SIGHUP, on_SIGHUP, run);
    g_unix_signal_add(SIGUSR1, on_SIGUSR1, run);
    g_unix_signal_add(SIGUSR2, on_SIGUSR2, run);
    g_unix_signal_add(SIGWINCH, on_SIGWINCH, run);
}

static void machine_ended(void *opaque)
{
    loop_quit(loop_main());
}

/* The first console gets the command's ports. */
static bool console_created(void *opaque, struct virtio_device *console, GError **error)
{
    struct run *run = opaque;

    if (!run->config->command || run->command)
        return true;
    run->command = command_create(run->config);
    return command_add_ports(run->command, console, error);
}

/* ---- start to end ---- */

static bool start(struct run *run, GError **error)
{
    const char *socket = options_string(run->config->run, "control");
    struct machine_hooks hooks = {console_created, machine_ended, run};
    struct boot_config boot;

    run->guest = guest_create(run->config, error);
    if (!run->guest)
        return false;
    run->machine = machine_create(run->config, &hooks, error);
    if (!run->machine)
        return false;
    if (run->command)
        command_set_machine(run->command, run->machine);
    if (socket) {
        run->control = control_create(run->machine, socket, error);
        if (!run->control)
            return false;
    }
    guest_boot_config(run->guest, run->config, &boot);
    if (!machine_boot(run->machine, &boot, error) || !set_timeout(run, error))
        return false;
    watch_signals(run);
    return machine_start(run->machine, error);
}

static int conclude(struct run *run)
{
    struct machine *machine = run->machine;
    const char *path = options_string(run->config->run, "result");
    g_autoptr(GError) error = NULL;
    int code = report_exit_code(machine);

    command_destroy(run->command);
    run->command = NULL;
    control_announce_end(run->control);
    report_explain(machine, machine_console_hidden(machine));
    if (path && !report_write(machine, path, code, run->started_ns, &error))
        code = fail(error->message);
    return code;
}

static void finish(struct run *run)
{
    control_destroy(run->control);
    loop_timer_destroy(run->timeout);
    command_destroy(run->command);
    machine_destroy(run->machine);
    guest_destroy(run->guest);
    config_free(run->config);
    log_set_fd(-1);
    trace_set_fd(-1);
    setup_undo(); /* does nothing after a start */
    if (run->log_fd >= 0)
        close(run->log_fd);
    if (run->trace_fd >= 0)
        close(run->trace_fd);
}

int command_run(char **argv)
{
    struct run run = {.log_fd = -1, .trace_fd = -1, .started_ns = loop_now_ns()};
    g_autoptr(GError) error = NULL;
    int code = EXIT_LODGE;

    if (argv[0] && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))) {
        print_run_help();
        return 0;
    }
    run.config = config_from_arguments(argv, &error);
    if (run.config && run.config->dry_run) {
        if (guest_complete_config(run.config, &error)) {
            g_autofree char *text = config_to_json(run.config);

            puts(text);
            code = 0;
        }
    } else if (run.config && set_up_log(&run, &error) &&
               check_result(options_string(run.config->run, "result"), &error) &&
               guest_complete_config(run.config, &error) && start(&run, &error)) {
        setup_keep();
        loop_run(loop_main());
        code = conclude(&run);
    }
    if (error)
        code = fail(error->message);
    finish(&run);
    return code;
}
