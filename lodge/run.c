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
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backends/block/block.h"
#include "lodge/announce.h"
#include "lodge/command.h"
#include "lodge/commands.h"
#include "lodge/control.h"
#include "lodge/exitcode.h"
#include "lodge/guest.h"
#include "lodge/incoming.h"
#include "lodge/machine.h"
#include "lodge/migrate.h"
#include "lodge/report.h"
#include "lodge/snapshot.h"
#include "vmm/fd.h"
#include "vmm/log.h"
#include "vmm/setup.h"
#include "vmm/trace.h"

/* One run: what has to be undone at its end. */
struct run {
    struct config *config;
    const struct restore *restore; /* to start from, or NULL */
    struct incoming *incoming;     /* to receive from, or NULL: a kernel boots */
    struct machine *machine;
    struct guest *guest;
    struct command *command;
    struct control *control;
    struct loop_timer *timeout;
    struct loop_fd *quit_watch; /* of SIGQUIT */
    int log_fd, trace_fd;
    const char *result;    /* where the result file goes, or NULL */
    unsigned stop_signals; /* SIGTERM and SIGINT so far */
    bool started;          /* the guest, not the program */
    enum shutdown_reason early_end;
    int early_status;
    int64_t started_ns; /* the program */
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
static bool check_result(struct run *run, GError **error)
{
    const char *path = options_string(run->config->run, "result");
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
        run->result = path;
    return run->result != NULL;
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

/* Before the guest runs there is no machine to ask: start() looks between its steps. */
static void request_end(struct run *run, enum shutdown_reason reason, int status)
{
    if (run->started)
        machine_request(run->machine, reason, status, NULL);
    else if (run->early_end == SHUTDOWN_NONE) {
        run->early_end = reason;
        run->early_status = status;
    }
}

static void timed_out(void *opaque)
{
    request_end(opaque, SHUTDOWN_TIMEOUT, 0);
}

/* Counted from the start of the program. */
static bool set_timeout(struct run *run, GError **error)
{
    double seconds;

    if (!config_timeout(run->config, &seconds, error))
        return false;
    if (seconds > 0) {
        run->timeout = loop_timer_create(loop_main(), timed_out, run);
        loop_timer_set(run->timeout, run->started_ns + (int64_t)(seconds * 1e9));
    }
    return true;
}

/*
 * A command gets the signals, but for the second SIGTERM or the third SIGINT, which end the guest at
 * once. Without a command, the first of them presses the power button, the second ends the guest.
 * SIGHUP (the terminal is gone) and SIGQUIT end it at once.
 */
static void handle_signal(struct run *run, int number)
{
    unsigned patience = run->command ? 2 : 1;
    bool stop = number == SIGTERM || number == SIGINT;
    bool again = stop && run->stop_signals >= patience;

    if (stop)
        run->stop_signals += run->command && number == SIGTERM ? 2 : 1;
    if (run->started && run->command && !again && command_signal(run->command, number))
        return;
    if (number == SIGUSR1 || number == SIGUSR2)
        return;
    if (run->started && stop && !again && !run->command)
        machine_power_button(run->machine);
    else
        request_end(run, SHUTDOWN_QUIT, 128 + number);
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

/* GLib's signal sources don't take SIGQUIT. */
static int quit_fd = -1;

static void on_quit_signal(int number)
{
    int saved_errno = errno;
    uint64_t one = 1;

    if (write(quit_fd, &one, sizeof(one)) < 0) {
        /* Its count is at the limit: then it is signalled already. */
    }
    errno = saved_errno;
}

static void quit_signalled(void *opaque)
{
    handle_signal(opaque, SIGQUIT);
}

static void watch_quit(struct run *run)
{
    struct sigaction action = {.sa_handler = on_quit_signal, .sa_flags = SA_RESTART};

    quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (quit_fd < 0)
        return; /* SIGQUIT then does what it does to every program */
    run->quit_watch = loop_eventfd_create(loop_main(), quit_fd, quit_signalled, run);
    sigaction(SIGQUIT, &action, NULL);
}

static void watch_signals(struct run *run)
{
    g_unix_signal_add(SIGTERM, on_SIGTERM, run);
    g_unix_signal_add(SIGINT, on_SIGINT, run);
    g_unix_signal_add(SIGHUP, on_SIGHUP, run);
    g_unix_signal_add(SIGUSR1, on_SIGUSR1, run);
    g_unix_signal_add(SIGUSR2, on_SIGUSR2, run);
    g_unix_signal_add(SIGWINCH, on_SIGWINCH, run);
    watch_quit(run);
}

static void machine_ended(void *opaque)
{
    loop_quit(loop_main());
}

/* A guest that ends because its command did waits for the command's output to be written. */
static bool guest_ends(void *opaque, enum shutdown_reason reason)
{
    struct run *run = opaque;

    return (reason == SHUTDOWN_POWER_OFF || reason == SHUTDOWN_RESET) && run->command &&
           command_guest_ends(run->command);
}

static void add_times(void *opaque, JsonObject *times)
{
    struct run *run = opaque;
    uint64_t init_ns, ready_ns;

    if (!run->command)
        return;
    command_guest_times(run->command, &init_ns, &ready_ns);
    json_object_set_int_member(times, "guest-init-ns", MIN(init_ns, (uint64_t)INT64_MAX));
    json_object_set_int_member(times, "guest-ready-ns", MIN(ready_ns, (uint64_t)INT64_MAX));
}

/* A restored guest was reset: it boots what its configuration says, as that is now. */
static bool find_boot(void *opaque, struct boot_config *boot, GError **error)
{
    struct run *run = opaque;

    if (run->config->saved_flags & CONFIG_FOREIGN && !options_given(run->config->run, "kernel")) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "it came from another host: give --kernel, --initrd and --params here");
        return false;
    }
    run->guest = guest_create(run->config, error);
    if (run->guest)
        guest_boot_config(run->guest, run->config, boot);
    return run->guest != NULL;
}

/* --prepare: the guest waits for its command. It is saved, and its life here ends. */
static void save_prepared(void *opaque)
{
    struct run *run = opaque;
    g_autoptr(GError) error = NULL;
    bool saved;

    run->machine->waits_for_command = true;
    saved = machine_snapshot(run->machine, run->config->prepare, true, &error);
    if (!saved)
        fail(error->message);
    machine_request(run->machine, SHUTDOWN_QUIT, saved ? 0 : EXIT_LODGE,
                    saved ? NULL : error->message);
}

static void prepared(void *opaque)
{
    loop_defer(loop_main(), save_prepared, opaque);
}

/* A restored guest that waits for its command gets it, and an identity of its own. */
static bool resume_command(struct run *run, GError **error)
{
    g_autoptr(GByteArray) identity = copy_identity(run->machine, error);

    if (identity)
        command_resume(run->command, identity);
    return identity != NULL;
}

/* What would be refused after the guest has booted is better known now. */
static bool check_prepare(const struct run *run, GError **error)
{
    const char *path = run->config->prepare;
    g_autofree char *folder = path ? g_path_get_dirname(path) : NULL;
    g_autoptr(GDir) dir = path ? g_dir_open(path, 0, NULL) : NULL;

    if (!path || run->restore)
        return true;
    if (access(folder, W_OK | X_OK))
        g_set_error(error, OPTIONS_ERROR, 0, "--prepare: %s: %s: %s", path, folder,
                    g_strerror(errno));
    else if ((dir && g_dir_read_name(dir)) || (!dir && g_file_test(path, G_FILE_TEST_EXISTS)))
        g_set_error(error, OPTIONS_ERROR, 0,
                    "--prepare: %s: give the name of a new or empty folder", path);
    else
        return true;
    return false;
}

/* The first console gets the command's ports. */
static bool console_created(void *opaque, struct virtio_device *console, GError **error)
{
    static const int descriptors[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    struct run *run = opaque;

    if (!config_is_command(run->config) || run->command)
        return true;
    run->command = command_create(run->config, descriptors);
    if (run->config->prepare && !run->restore)
        command_set_prepared(run->command, prepared, run);
    return command_add_ports(run->command, console, error);
}

/* ---- start to end ---- */

/* Has a signal or the time-out come while the machine was being set up? */
static bool ends_early(struct run *run)
{
    loop_iterate(loop_main(), false);
    return run->early_end != SHUTDOWN_NONE;
}

static bool incoming_ended(void *opaque)
{
    const struct run *run = opaque;

    return run->early_end != SHUTDOWN_NONE || run->machine->reason != SHUTDOWN_NONE;
}

/* As start(): receives the guest, and starts it when it is ours. */
static bool start_incoming(struct run *run, GError **error)
{
    g_autoptr(GError) reason = NULL;

    if (incoming_receive(run->incoming, run->machine, incoming_ended, run, &reason) &&
        (run->started = machine_start(run->machine, &reason))) {
        incoming_tell_running(run->incoming);
        machine_announce(run->machine);
        /* What ended it while it was not to be ended. */
        if (run->early_end != SHUTDOWN_NONE)
            machine_request(run->machine, run->early_end, run->early_status, NULL);
        run->early_end = SHUTDOWN_NONE;
        return true;
    }
    incoming_tell_failed(run->incoming, run->machine, reason->message);
    if (run->early_end == SHUTDOWN_NONE && run->machine->reason == SHUTDOWN_NONE) {
        g_propagate_error(error, g_steal_pointer(&reason));
        return false;
    }
    if (run->early_end == SHUTDOWN_NONE) {
        run->early_end = run->machine->reason;
        run->early_status = run->machine->status;
    }
    return true;
}

/* False with @error set: it can't be started. True with early_end set: it was not to be any more. */
static bool start(struct run *run, GError **error)
{
    const char *socket = options_string(run->config->run, "control");
    struct machine_hooks hooks = {
        .console_created = console_created,
        .guest_ends = guest_ends,
        .ended = machine_ended,
        .add_times = add_times,
        .find_boot = find_boot,
        .opaque = run,
    };
    struct boot_config boot;

    watch_signals(run);
    if (!set_timeout(run, error))
        return false;
    if (run->restore)
        hooks.memory_fd = run->restore->memory_fd;
    if (!run->restore && !run->incoming) {
        run->guest = guest_create(run->config, error);
        if (!run->guest)
            return false;
    }
    if (ends_early(run))
        return true;
    block_defer_locks(run->incoming);
    run->machine = machine_create(run->config, &hooks, error);
    block_defer_locks(false);
    if (!run->machine)
        return false;
    if (run->command)
        command_set_machine(run->command, run->machine);
    if (socket) {
        run->control = control_create(run->machine, socket, error);
        if (!run->control)
            return false;
    }
    if (run->incoming)
        return start_incoming(run, error);
    if (run->guest)
        guest_boot_config(run->guest, run->config, &boot);
    if (run->restore ? !restore_machine(run->restore, run->machine, error)
                     : !machine_boot(run->machine, &boot, error))
        return false;
    if (run->restore && run->command && !resume_command(run, error))
        return false;
    if (ends_early(run))
        return true;
    run->started = true;
    if (!machine_start(run->machine, error))
        return false;
    if (run->restore && !run->command)
        machine_announce(run->machine);
    return true;
}

static int write_result(struct run *run, struct machine *machine, const struct report_end *end)
{
    g_autoptr(GError) error = NULL;

    if (run->result && !report_write(machine, run->result, end, &error))
        return fail(error->message);
    return end->exit_code;
}

static int conclude(struct run *run)
{
    struct machine *machine = run->machine;
    struct report_end end = {
        .reason = shutdown_reason_name(machine->reason),
        .detail = machine->detail,
        .status = machine->status,
        .exit_code = report_exit_code(machine),
        .started_ns = run->started_ns,
    };

    if (run->command)
        command_write_out(run->command);
    control_announce_end(run->control);
    report_explain(machine, machine_console_hidden(machine));
    return write_result(run, machine, &end);
}

static int conclude_early(struct run *run)
{
    bool timeout = run->early_end == SHUTDOWN_TIMEOUT;
    struct report_end end = {
        .reason = shutdown_reason_name(run->early_end),
        .detail = "it ended before the guest was started",
        .status = run->early_status,
        .exit_code = timeout ? EXIT_TIMEOUT : run->early_status,
        .started_ns = run->started_ns,
    };

    if (timeout)
        fail("--timeout passed before the guest was started");
    return write_result(run, NULL, &end);
}

static int conclude_failed(struct run *run, const char *message)
{
    struct report_end end = {
        .reason = "error",
        .detail = message,
        .exit_code = fail(message),
        .started_ns = run->started_ns,
    };

    return write_result(run, NULL, &end);
}

static bool set_up(struct run *run, GError **error)
{
    return check_result(run, error) && check_prepare(run, error) && set_up_log(run, error) &&
           (run->restore || run->incoming || guest_complete_config(run->config, error)) &&
           start(run, error);
}

static int dry_run(struct run *run)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    if (!guest_complete_config(run->config, &error))
        return fail(error->message);
    text = config_to_json(run->config);
    puts(text);
    return 0;
}

static void finish(struct run *run)
{
    if (run->machine)
        migrate_destroy(run->machine);
    control_destroy(run->control);
    loop_timer_destroy(run->timeout);
    loop_fd_destroy(run->quit_watch);
    command_destroy(run->command);
    machine_destroy(run->machine);
    guest_destroy(run->guest);
    config_free(run->config);
    log_set_fd(-1);
    trace_set_fd(-1);
    setup_undo(); /* does nothing after a start */
    close_fd(run->log_fd);
    close_fd(run->trace_fd);
}

static int run_to_end(struct run *run)
{
    g_autoptr(GError) error = NULL;

    if (!set_up(run, &error)) {
        if (run->incoming)
            incoming_tell_failed(run->incoming, run->machine, error->message);
        return conclude_failed(run, error->message);
    }
    setup_keep();
    if (run->early_end == SHUTDOWN_NONE)
        loop_run(loop_main());
    return run->early_end == SHUTDOWN_NONE ? conclude(run) : conclude_early(run);
}

static int run_on(struct config *config, const struct restore *restore, struct incoming *incoming)
{
    struct run run = {.config = config,
                      .restore = restore,
                      .incoming = incoming,
                      .log_fd = -1,
                      .trace_fd = -1,
                      .started_ns = loop_now_ns()};
    int code = run_to_end(&run);

    finish(&run);
    return code;
}

int run_restored(struct config *config, const struct restore *restore)
{
    return run_on(config, restore, NULL);
}

int run_incoming(struct config *config, struct incoming *incoming)
{
    return run_on(config, NULL, incoming);
}

/* --from FOLDER among the options, which is not in @argv then; or NULL. */
static const char *take_from(char **argv)
{
    for (char **word = argv; *word && strcmp(*word, "--"); word++) {
        const char *folder = NULL;
        unsigned used = 1;

        if (g_str_has_prefix(*word, "--from="))
            folder = *word + strlen("--from=");
        else if (!strcmp(*word, "--from") && word[1] && strcmp(word[1], "--")) {
            folder = word[1];
            used = 2;
        }
        if (folder) {
            memmove(word, word + used, (g_strv_length(word + used) + 1) * sizeof(*word));
            return folder;
        }
    }
    return NULL;
}

int command_run(char **argv)
{
    const char *from = take_from(argv);
    struct run run = {.log_fd = -1, .trace_fd = -1, .started_ns = loop_now_ns()};
    g_autoptr(GError) error = NULL;
    int code;

    if (argv[0] && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))) {
        print_run_help();
        return 0;
    }
    if (from)
        return run_from(from, argv);
    run.config = config_from_arguments(argv, &error);
    if (!run.config) {
        code = fail(error->message);
    } else if (run.config->dry_run) {
        code = dry_run(&run);
    } else {
        code = run_to_end(&run);
    }
    finish(&run);
    return code;
}
