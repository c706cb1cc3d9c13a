/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stdio - the terminal that lodge was started from, or whatever its input and output are
 *
 * On a terminal: raw while we are in the foreground, so that every key reaches the guest; the escape
 * key (Ctrl-A) stays ours. The terminal gets its old modes back on every way out: close, exit(), a
 * fatal signal. In the background it is neither changed nor read (that would stop us); SIGCONT, which
 * comes with the return to the foreground, makes us look again.
 *
 * Without a terminal (pipes, files, /dev/null) bytes go through unchanged, and the end of the input is
 * just that: output goes on. One chardev of a process can have it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include "backends/char/driver.h"
#include "vmm/log.h"

#define ESCAPE_KEY 0x01 /* Ctrl-A */

static const char help[] = "\r\n"
                           "Ctrl-A h       this help\r\n"
                           "Ctrl-A x       quit\r\n"
                           "Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

struct stdio {
    int in, out;
    bool is_terminal, escaped;
    struct loop_fd *continued;
};

/* What signal handlers need; one terminal a process. */
static struct {
    bool taken;
    volatile sig_atomic_t is_raw;
    struct termios original;
    int continued_fd; /* eventfd */
    bool handlers_installed;
} terminal = {.continued_fd = -1};

static const int fatal_signals[] = {SIGHUP, SIGINT,  SIGQUIT, SIGTERM, SIGSEGV,
                                    SIGBUS, SIGABRT, SIGFPE,  SIGILL,  SIGSYS};
static struct sigaction old_actions[G_N_ELEMENTS(fatal_signals)];

/* ---- terminal modes ---- */

static bool in_foreground(void)
{
    pid_t group = tcgetpgrp(STDIN_FILENO);

    /* A terminal that does not control us knows no jobs. */
    return group < 0 || group == getpgrp();
}

/* Async-signal-safe. From the background it would stop us, and the modes are the shell's there. */
static void restore_terminal(void)
{
    if (terminal.is_raw && in_foreground())
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.original);
    terminal.is_raw = 0;
}

static void on_fatal_signal(int signo, siginfo_t *info, void *context)
{
    int saved_errno = errno;

    restore_terminal();
    for (unsigned i = 0; i < G_N_ELEMENTS(fatal_signals); i++)
        if (fatal_signals[i] == signo)
            sigaction(signo, &old_actions[i], NULL);
    /* A fault comes again when we return, with its true cause; what was sent has to be sent again. */
    if (info->si_code <= 0)
        raise(signo);
    errno = saved_errno;
}

static void on_continue(int signo)
{
    int saved_errno = errno;
    uint64_t one = 1;

    if (write(terminal.continued_fd, &one, sizeof(one)) < 0) {
        /* Its count is at the limit: then it is signalled already. */
    }
    errno = saved_errno;
}

/* A signal that the program handles itself ends it, if at all, by exit(). */
static void install_handlers(void)
{
    struct sigaction action = {.sa_sigaction = on_fatal_signal, .sa_flags = SA_SIGINFO};
    struct sigaction go_on = {.sa_handler = on_continue, .sa_flags = SA_RESTART};

    sigaction(SIGCONT, &go_on, NULL);
    if (terminal.handlers_installed)
        return;
    terminal.handlers_installed = true;
    atexit(restore_terminal);
    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < G_N_ELEMENTS(fatal_signals); i++) {
        sigaction(fatal_signals[i], NULL, &old_actions[i]);
        bool is_fault = fatal_signals[i] == SIGSEGV || fatal_signals[i] == SIGBUS;
        if (old_actions[i].sa_handler == SIG_DFL || is_fault)
            sigaction(fatal_signals[i], &action, NULL);
    }
}

static void make_raw(void)
{
    struct termios raw;

    if (!terminal.is_raw && tcgetattr(STDIN_FILENO, &terminal.original) < 0)
        return;
    raw = terminal.original;
    raw.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_oflag |= OPOST | ONLCR; /* lines of the log stay lines */
    raw.c_lflag &= ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    raw.c_cflag = (raw.c_cflag & ~(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    terminal.is_raw = 1; /* before: a signal in between restores what is still in force */
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static void look_at_foreground(struct chardev *chardev)
{
    chardev->input_held = !in_foreground();
    if (chardev->input_held) {
        if (chardev->in.source)
            loop_fd_set_events(chardev->in.source, 0);
        return;
    }
    make_raw();
    char_accept_input(chardev);
}

static void continued(void *opaque)
{
    look_at_foreground(opaque);
}

/* ---- the escape key ---- */

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) {
        /* Nobody to tell. */
    }
}

static void escape(struct chardev *chardev, char key)
{
    if (key == 'h' || key == '?') {
        say(help);
        return;
    }
    if (chardev->escape && chardev->escape(chardev->escape_opaque, key))
        return;
    if (key == 'x')
        kill(getpid(), SIGTERM);
    else
        say("\r\n(Ctrl-A h shows the keys)\r\n");
}

static size_t filter(struct chardev *chardev, uint8_t *data, size_t size)
{
    struct stdio *stdio = chardev->state;
    size_t kept = 0;

    for (size_t i = 0; i < size; i++) {
        bool was_escaped = stdio->escaped;
        stdio->escaped = false;
        if (was_escaped && data[i] != ESCAPE_KEY)
            escape(chardev, data[i]);
        else if (!was_escaped && data[i] == ESCAPE_KEY)
            stdio->escaped = true;
        else
            data[kept++] = data[i];
    }
    return kept;
}

/* ---- the driver ---- */

static void terminal_input_ended(struct chardev *chardev)
{
    /* EIO: we went to the background between poll and read, or the terminal is gone. */
    if (!in_foreground() && isatty(STDIN_FILENO))
        look_at_foreground(chardev);
    else
        char_stop_input(chardev, false);
}

static void input_ended(struct chardev *chardev)
{
    char_stop_input(chardev, false);
}

static void output_broken(struct chardev *chardev)
{
    log_info("char", "standard output takes no more; what follows is lost");
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* A description of our own where the kernel gives one; else the shared one, with care. */
static int open_end(int fd, int mode)
{
    int copy = -1;

    if (!is_open(fd))
        return -1;
    if (lseek(fd, 0, SEEK_CUR) < 0) /* a regular file would start at its beginning */
        copy = char_reopen(fd, mode);
    return copy >= 0 ? copy : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static bool stdio_open(struct chardev *chardev, const struct options *options, GError **error)
{
    struct stdio *stdio;

    if (terminal.taken) {
        options_set_error(error, options, NULL,
                          "type=stdio is already in use; only one can have the terminal");
        return false;
    }
    stdio = g_new0(struct stdio, 1);
    chardev->state = stdio;
    terminal.taken = true;
    stdio->in = open_end(STDIN_FILENO, O_RDONLY);
    stdio->out = open_end(STDOUT_FILENO, O_WRONLY);
    stdio->is_terminal = isatty(STDIN_FILENO);
    if (stdio->is_terminal) {
        terminal.continued_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (terminal.continued_fd < 0) {
            options_set_error(error, options, NULL, "no event descriptor: %s", g_strerror(errno));
            return false;
        }
        stdio->continued =
            loop_eventfd_create(chardev->loop, terminal.continued_fd, continued, chardev);
        install_handlers();
        chardev->driver = &char_terminal;
        chardev->input_held = true;
    }
    char_connect(chardev, stdio->in, stdio->out);
    if (stdio->is_terminal)
        look_at_foreground(chardev);
    return true;
}

static void stdio_close(struct chardev *chardev)
{
    struct stdio *stdio = chardev->state;

    if (!stdio)
        return;
    restore_terminal();
    loop_fd_destroy(stdio->continued);
    if (stdio->is_terminal) {
        signal(SIGCONT, SIG_DFL);
        if (terminal.continued_fd >= 0)
            close(terminal.continued_fd);
        terminal.continued_fd = -1;
    }
    if (stdio->in >= 0)
        close(stdio->in);
    if (stdio->out >= 0)
        close(stdio->out);
    terminal.taken = false;
    g_free(stdio);
}

const struct char_driver char_stdio = {.type = "stdio",
                                       .open = stdio_open,
                                       .close = stdio_close,
                                       .input_ended = input_ended,
                                       .output_broken = output_broken};

const struct char_driver char_terminal = {.type = "terminal",
                                          .open = stdio_open,
                                          .close = stdio_close,
                                          .filter = filter,
                                          .input_ended = terminal_input_ended,
                                          .output_broken = output_broken};
