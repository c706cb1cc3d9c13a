/* SPDX-License-Identifier: GPL-2.0-or-later */
/* terminal - raw modes and the way back from them (terminal.h) */
#include "backends/char/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE_KEY 0x01 /* Ctrl-A */

/* What signal handlers need; one terminal a process. */
static struct {
    volatile sig_atomic_t is_raw;
    struct termios original;
    int continued_fd; /* eventfd */
    struct loop_fd *continued;
    bool handlers_installed;
} terminal = {.continued_fd = -1};

static const int fatal_signals[] = {SIGHUP, SIGINT,  SIGQUIT, SIGTERM, SIGSEGV,
                                    SIGBUS, SIGABRT, SIGFPE,  SIGILL,  SIGSYS};
static struct sigaction old_actions[G_N_ELEMENTS(fatal_signals)];

/* ---- terminal modes ---- */

bool terminal_in_foreground(void)
{
    pid_t group = tcgetpgrp(STDIN_FILENO);

    /* A terminal that does not control us knows no jobs. */
    return group < 0 || group == getpgrp();
}

/* Async-signal-safe. From the background it would stop us, and the modes are the shell's there. */
static void restore_terminal(void)
{
    if (terminal.is_raw && terminal_in_foreground())
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

void terminal_make_raw(bool process_output)
{
    struct termios raw;

    if (!terminal.is_raw && tcgetattr(STDIN_FILENO, &terminal.original) < 0)
        return;
    raw = terminal.original;
    raw.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    if (process_output)
        raw.c_oflag |= OPOST | ONLCR; /* lines of the log stay lines */
    else
        raw.c_oflag &= ~OPOST;
    raw.c_lflag &= ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    raw.c_cflag = (raw.c_cflag & ~(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    terminal.is_raw = 1; /* before: a signal in between restores what is still in force */
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

bool terminal_open(struct loop *loop, loop_fn continued, void *opaque)
{
    terminal.continued_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (terminal.continued_fd < 0)
        return false;
    terminal.continued = loop_eventfd_create(loop, terminal.continued_fd, continued, opaque);
    install_handlers();
    return true;
}

void terminal_close(void)
{
    if (terminal.continued_fd < 0)
        return;
    restore_terminal();
    signal(SIGCONT, SIG_DFL);
    g_clear_pointer(&terminal.continued, loop_fd_destroy);
    close(terminal.continued_fd);
    terminal.continued_fd = -1;
}

size_t terminal_filter(struct terminal_escape *escape, uint8_t *data, size_t size)
{
    size_t kept = 0;

    for (size_t i = 0; i < size; i++) {
        bool was_escaped = escape->escaped;

        escape->escaped = false;
        if (was_escaped && data[i] != ESCAPE_KEY)
            escape->key(escape->opaque, data[i]);
        else if (!was_escaped && data[i] == ESCAPE_KEY)
            escape->escaped = true;
        else
            data[kept++] = data[i];
    }
    return kept;
}
