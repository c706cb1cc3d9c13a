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
#include <unistd.h>

#include "backends/char/driver.h"
#include "backends/char/terminal.h"
#include "vmm/fd.h"
#include "vmm/log.h"

static const char help[] = "\r\n"
                           "Ctrl-A h       this help\r\n"
                           "Ctrl-A x       quit\r\n"
                           "Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

struct stdio {
    int in, out;
    bool is_terminal;
    struct terminal_escape escape;
};

static bool taken; /* by some chardev */

static void look_at_foreground(struct chardev *chardev)
{
    chardev->input_held = !terminal_in_foreground();
    if (chardev->input_held) {
        if (chardev->in.source)
            loop_fd_set_events(chardev->in.source, 0);
        return;
    }
    terminal_make_raw(true);
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

static void escape_key(void *opaque, char key)
{
    escape(opaque, key);
}

static size_t filter(struct chardev *chardev, uint8_t *data, size_t size)
{
    struct stdio *stdio = chardev->state;

    return terminal_filter(&stdio->escape, data, size);
}

/* ---- the driver ---- */

static void terminal_input_ended(struct chardev *chardev)
{
    /* EIO: we went to the background between poll and read, or the terminal is gone. */
    if (!terminal_in_foreground() && isatty(STDIN_FILENO))
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

    if (taken) {
        options_set_error(error, options, NULL,
                          "type=stdio is already in use; only one can have the terminal");
        return false;
    }
    stdio = g_new0(struct stdio, 1);
    chardev->state = stdio;
    taken = true;
    stdio->in = open_end(STDIN_FILENO, O_RDONLY);
    stdio->out = open_end(STDOUT_FILENO, O_WRONLY);
    stdio->is_terminal = isatty(STDIN_FILENO);
    if (stdio->is_terminal) {
        if (!terminal_open(chardev->loop, continued, chardev)) {
            options_set_error(error, options, NULL, "no event descriptor: %s", g_strerror(errno));
            return false;
        }
        stdio->escape = (struct terminal_escape){.key = escape_key, .opaque = chardev};
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
    if (stdio->is_terminal)
        terminal_close();
    close_fd(stdio->in);
    close_fd(stdio->out);
    taken = false;
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
