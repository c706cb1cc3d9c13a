/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command: its description from START, its process in a session of its own, and the loop that
 * carries bytes between its pipes (or its terminal) and the ports until it ends.
 *
 * Why pipes and not the ports themselves: a virtio port can be opened once only, so /dev/stdout
 * would fail in the command; and the end of output is exact only with a pipe. When the command's
 * first process ends, what its pipes still hold is passed on and the machine ends, whoever else has
 * them open. EXIT tells how many bytes were passed, as ports are not ordered among each other.
 */
#include "guest-images/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define STREAM_ROOM (64u << 10)
#define END_WAIT    10000 /* ms for the host's END after EXIT */
#define POWER_WAIT  10000 /* ms that the command may take to end after the power button */
#define BUTTONS_MAX 4

/* Bytes on their way from one descriptor to another. from < 0: ended; to < 0: nobody listens. */
struct stream {
    int from, to;
    size_t have, sent;
    uint64_t total; /* passed on so far */
    char *buffer;
};

struct session {
    struct command *command;
    struct stream stream[3]; /* stdin, stdout, stderr */
    uint64_t stdin_end;      /* end of input after so many bytes; UINT64_MAX: not known */
    int signals;             /* signalfd with SIGCHLD */
    int terminal;            /* master side in tty mode, else -1 */
    int button[BUTTONS_MAX];
    size_t button_count;
    uint64_t kill_at; /* ns: the power button was pressed; 0: it was not */
    pid_t pid;
    bool exited;
    int status; /* as wait() gives it */
    uint64_t started_ns;
};

static unsigned number_field(const char *key, const char *value, unsigned long max)
{
    unsigned long number;

    if (!parse_unsigned(value, max, &number))
        fail(LODGE_STATUS_FAILED, "start", "START: %s=%s is not a number up to %lu", key, value,
             max);
    return (unsigned)number;
}

static void groups_field(struct command *command, char *value)
{
    for (char *save, *one = strtok_r(value, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
        if (command->group_count == sizeof(command->groups) / sizeof(*command->groups))
            fail(LODGE_STATUS_FAILED, "start", "START: more than %zu groups", command->group_count);
        command->groups[command->group_count++] = number_field("groups", one, UINT32_MAX - 1);
    }
}

static bool stdio_field(struct command *command, const char *key, const char *value)
{
    static const char *const names[] = {"stdin", "stdout", "stderr"};

    for (int i = 0; i < 3; i++) {
        if (strcmp(key, names[i]))
            continue;
        if (strcmp(value, "port") && strcmp(value, "null") && strcmp(value, "console"))
            fail(LODGE_STATUS_FAILED, "start", "START: %s=%s is not port, null or console", key,
                 value);
        if (!strcmp(value, "port") && control_port(i) < 0)
            fail(LODGE_STATUS_FAILED, "start", "START: %s=port, but there is no such port", key);
        command->stdio[i] = value;
        return true;
    }
    return false;
}

static void start_field(struct command *command, const char *key, char *value)
{
    if (!strcmp(key, "arg")) {
        strings_add(&command->args, value);
    } else if (!strcmp(key, "env")) {
        strings_add(&command->env, value);
    } else if (!strcmp(key, "mount")) {
        strings_add(&command->mounts, value);
    } else if (!strcmp(key, "ip")) {
        strings_add(&command->addresses, value);
    } else if (!strcmp(key, "cwd")) {
        command->cwd = value;
    } else if (!strcmp(key, "hostname")) {
        command->hostname = value;
    } else if (!strcmp(key, "clock")) {
        command->clock = value;
    } else if (!strcmp(key, "uid")) {
        command->uid = number_field(key, value, UINT32_MAX - 1);
        command->ids = true;
    } else if (!strcmp(key, "gid")) {
        command->gid = number_field(key, value, UINT32_MAX - 1);
        command->ids = true;
    } else if (!strcmp(key, "groups")) {
        groups_field(command, value);
    } else if (!strcmp(key, "tty")) {
        command->tty = number_field(key, value, 1);
    } else if (!strcmp(key, "rows")) {
        command->rows = number_field(key, value, UINT16_MAX);
    } else if (!strcmp(key, "cols")) {
        command->cols = number_field(key, value, UINT16_MAX);
    } else if (!stdio_field(command, key, value)) {
        /* Better no command than one that runs without what was asked for. */
        fail(LODGE_STATUS_FAILED, "start", "START: unknown field %s", key);
    }
}

void command_from_start(struct command *command, char *payload, size_t length)
{
    char *copy = must_alloc(length + 1), *at = copy, *end = copy + length, *key, *value;

    memcpy(copy, payload, length);
    while (control_field(&at, end, &key, &value))
        start_field(command, key, value);
    if (!command->args.count)
        fail(LODGE_STATUS_FAILED, "start", "START: no arg");
}

static void set_clock(const char *text)
{
    struct timespec time = {0};
    long long seconds;
    char dot;

    if (sscanf(text, "%lld%c%ld", &seconds, &dot, &time.tv_nsec) != 3 || dot != '.')
        fail(LODGE_STATUS_FAILED, "start", "START: clock=%s is not SECONDS.NANOSECONDS", text);
    time.tv_sec = seconds;
    if (clock_settime(CLOCK_REALTIME, &time))
        fail(LODGE_STATUS_FAILED, "start", "cannot set the clock to %s: %s", text, strerror(errno));
}

static void prepare(struct command *command)
{
    for (size_t i = 0; i < command->mounts.count; i++)
        root_mount_share(command->mounts.item[i]);
    for (size_t i = 0; i < command->addresses.count; i++)
        net_configure(command->addresses.item[i]);
    if (command->clock)
        set_clock(command->clock);
    if (command->hostname && sethostname(command->hostname, strlen(command->hostname)))
        fail(LODGE_STATUS_FAILED, "start", "cannot set host name %s: %s", command->hostname,
             strerror(errno));
    if (!command->env.count) {
        strings_add(&command->env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
                                   "/sbin:/bin");
        strings_add(&command->env, "HOME=/root");
        strings_add(&command->env, "TERM=linux");
    }
    for (int i = 0; i < 3; i++)
        if (!command->stdio[i])
            command->stdio[i] = control_port(i) >= 0 ? "port" : i ? "console" : "null";
}

/* The terminal behind /dev/console, which itself can't become a controlling terminal. */
static int open_console(void)
{
    char *active = read_text("/sys/class/tty/console/active"), *name, path[64];
    int fd = -1;

    if (active) {
        active[strcspn(active, "\n")] = 0;
        name = strrchr(active, ' ');
        snprintf(path, sizeof(path), "/dev/%s", name ? name + 1 : active);
        fd = open(path, O_RDWR | O_NOCTTY);
        free(active);
    }
    return fd >= 0 ? fd : open("/dev/console", O_RDWR | O_NOCTTY);
}

static void must_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC))
        fail(LODGE_STATUS_FAILED, "command", "cannot make a pipe: %s", strerror(errno));
}

static void stream_open(struct stream *stream, int from, int to)
{
    stream->from = from;
    stream->to = to;
    stream->buffer = must_alloc(STREAM_ROOM);
    fcntl(from, F_SETFL, O_NONBLOCK);
    fcntl(to, F_SETFL, O_NONBLOCK);
}

/* A descriptor for the command's stdin (0), stdout (1) or stderr (2). */
static int open_stdio(struct session *session, int i)
{
    const char *kind = session->command->stdio[i];
    int ends[2], fd;

    if (!strcmp(kind, "port")) {
        must_pipe(ends);
        stream_open(&session->stream[i], i ? ends[0] : control_port(0),
                    i ? control_port(i) : ends[1]);
        return ends[i ? 1 : 0];
    }
    fd = strcmp(kind, "console") ? open("/dev/null", O_RDWR | O_CLOEXEC) : open_console();
    if (fd < 0)
        fail(LODGE_STATUS_FAILED, "command", "cannot open the command's %s: %s", kind,
             strerror(errno));
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

static void set_window(const struct session *session, unsigned rows, unsigned cols)
{
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};

    if (session->terminal >= 0 && rows && cols)
        ioctl(session->terminal, TIOCSWINSZ, &size);
}

/* tty mode: one pseudo-terminal for all three; its output goes to the stdout port. */
static int open_terminal(struct session *session)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave, unlock = 0;

    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) ||
        (slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        fail(LODGE_STATUS_FAILED, "command", "cannot make a terminal: %s", strerror(errno));
    session->terminal = master;
    set_window(session, session->command->rows, session->command->cols);
    if (control_port(0) >= 0)
        stream_open(&session->stream[0], control_port(0), dup(master));
    if (control_port(1) >= 0)
        stream_open(&session->stream[1], dup(master), control_port(1));
    return slave;
}

/* In the child: never returns. What goes wrong is told through `report` (closed by exec). */
static void execute(const struct command *command, const int stdio[3], int report)
{
    sigset_t none;
    struct {
        int error;
        char what[60];
    } wrong = {0};

    sigemptyset(&none);
    setsid();
    for (int i = 0; i < 3; i++)
        dup2(stdio[i], i);
    if (isatty(0))
        ioctl(0, TIOCSCTTY, 1);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (command->ids && (setgroups(command->group_count, command->groups) || setgid(command->gid) ||
                         setuid(command->uid))) {
        wrong.error = errno;
        snprintf(wrong.what, sizeof(wrong.what), "cannot become user %u, group %u", command->uid,
                 command->gid);
    } else if (command->cwd && chdir(command->cwd)) {
        wrong.error = errno;
        snprintf(wrong.what, sizeof(wrong.what), "cannot change to the folder asked for");
    } else {
        environ = command->env.item;
        execvp(command->args.item[0], command->args.item);
        wrong.error = errno;
    }
    if (write(report, &wrong, sizeof(wrong)) < 0) {
        /* init sees the exit status then. */
    }
    _exit(LODGE_STATUS_FAILED);
}

void command_rehearse(struct command *command)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t pid = fork();

    if (!pid)
        execute(command, (const int[]){null, null, null}, null);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    close(null);
}

/* Reads what execute() had to say; nothing: the program is running. */
static void check_started(struct session *session, int report)
{
    struct {
        int error;
        char what[60];
    } wrong;
    const char *program = session->command->args.item[0];

    if (read(report, &wrong, sizeof(wrong)) != sizeof(wrong)) {
        close(report);
        return;
    }
    wrong.what[sizeof(wrong.what) - 1] = 0;
    if (*wrong.what)
        fail(LODGE_STATUS_FAILED, "command", "%s: %s", wrong.what, strerror(wrong.error));
    fail(wrong.error == ENOENT || wrong.error == ENOTDIR ? LODGE_STATUS_NOT_FOUND
                                                         : LODGE_STATUS_NOT_EXECUTABLE,
         "command", "cannot run %s: %s", program,
         wrong.error == ENOENT ? "not found in the guest" : strerror(wrong.error));
}

static void start(struct session *session)
{
    struct command *command = session->command;
    int stdio[3], report[2];
    sigset_t child;

    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    signal(SIGPIPE, SIG_IGN);
    session->signals = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
    must_pipe(report);
    if (command->tty)
        stdio[0] = stdio[1] = stdio[2] = open_terminal(session);
    else
        for (int i = 0; i < 3; i++)
            stdio[i] = open_stdio(session, i);

    progress(LODGE_PROGRESS_COMMAND);
    session->started_ns = now_ns();
    session->pid = fork();
    if (session->pid < 0)
        fail(LODGE_STATUS_FAILED, "command", "cannot fork: %s", strerror(errno));
    if (!session->pid)
        execute(command, stdio, report[1]);
    close(report[1]);
    for (int i = 0; i < (command->tty ? 1 : 3); i++)
        close(stdio[i]);
    check_started(session, report[0]);
    control_send(LODGE_FRAME_STARTED, "pid=%d%c", (int)session->pid, 0);
}

static void stream_close(struct session *session, int i)
{
    struct stream *stream = &session->stream[i];

    if (i == 0) {
        if (stream->to >= 0)
            close(stream->to);
        control_close_port(0);
    } else {
        if (stream->from >= 0)
            close(stream->from);
        control_close_port(i);
    }
    stream->from = stream->to = -1;
    stream->have = stream->sent = 0;
}

/* Input that ended: a terminal hears ^D, a pipe is closed. */
static void end_input(struct session *session)
{
    if (session->terminal >= 0 && write(session->terminal, "\004", 1) < 0) {
        /* The terminal hung up already. */
    }
    stream_close(session, 0);
}

static void stream_fill(struct session *session, int i)
{
    struct stream *stream = &session->stream[i];
    ssize_t got = read(stream->from, stream->buffer, STREAM_ROOM);

    if (got > 0) {
        stream->have = (size_t)got;
        stream->sent = 0;
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        /* EIO is how a terminal says that its last user is gone. */
        if (i == 0)
            end_input(session);
        else
            stream_close(session, i);
    }
}

static void stream_drain(struct session *session, int i)
{
    struct stream *stream = &session->stream[i];
    ssize_t put = write(stream->to, stream->buffer + stream->sent, stream->have - stream->sent);

    if (put > 0) {
        stream->sent += (size_t)put;
        stream->total += (uint64_t)put;
        if (stream->sent == stream->have)
            stream->have = stream->sent = 0;
    } else if (put < 0 && errno != EAGAIN && errno != EINTR) {
        stream_close(session, i);
    }
}

static void reap(struct session *session)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;

    while (read(session->signals, &info, sizeof(info)) > 0) {
        /* waitpid says which. */
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == session->pid) {
            session->exited = true;
            session->status = status;
        }
    }
}

static void handle_frame(struct session *session, uint16_t type, char *payload, size_t length)
{
    char *at = payload, *key, *value;
    unsigned long number, rows = 0, cols = 0;

    if (type == LODGE_FRAME_END)
        end_machine(LODGE_STATUS_FAILED);
    while (control_field(&at, payload + length, &key, &value)) {
        if (type == LODGE_FRAME_STDIN_EOF && !strcmp(key, "bytes")) {
            session->stdin_end = strtoull(value, NULL, 0);
            continue;
        }
        if (!parse_unsigned(value, UINT16_MAX, &number))
            continue;
        if (type == LODGE_FRAME_SIGNAL && !strcmp(key, "signal") && number && number < 65)
            kill(-session->pid, (int)number);
        if (type == LODGE_FRAME_WINSIZE && !strcmp(key, "rows"))
            rows = number;
        if (type == LODGE_FRAME_WINSIZE && !strcmp(key, "cols"))
            cols = number;
    }
    set_window(session, (unsigned)rows, (unsigned)cols);
}

static void handle_control(struct session *session)
{
    uint16_t type;
    char *payload;
    size_t length;
    int got;

    while ((got = control_receive(&type, &payload, &length)) == 1)
        handle_frame(session, type, payload, length);
    if (got < 0) { /* nobody left to report to */
        say("the host closed the control port");
        end_machine(LODGE_STATUS_FAILED);
    }
}

static bool output_left(const struct session *session)
{
    return session->stream[1].from >= 0 || session->stream[2].from >= 0;
}

/* After the command's end, a pipe that is empty now is done, even if a child left behind holds it. */
static void close_empty(struct session *session)
{
    for (int i = 1; i < 3; i++) {
        struct stream *stream = &session->stream[i];

        if (stream->from >= 0 && !stream->have) {
            stream_fill(session, i);
            if (stream->from >= 0 && !stream->have)
                stream_close(session, i);
        }
    }
}

/* A shell on a terminal ignores SIGTERM, but takes SIGHUP for the end. */
static void ask_to_end(struct session *session)
{
    const char *input = session->command->stdio[0];

    say("the power button was pressed");
    kill(-session->pid, SIGTERM);
    if (session->terminal >= 0 || (input && !strcmp(input, "console")))
        kill(-session->pid, SIGHUP);
    kill(-session->pid, SIGCONT);
    session->kill_at = now_ns() + (uint64_t)POWER_WAIT * 1000000;
}

static void check_buttons(struct session *session)
{
    for (size_t i = 0; i < session->button_count; i++)
        if (power_pressed(session->button[i]) && !session->kill_at)
            ask_to_end(session);
    if (session->kill_at && now_ns() >= session->kill_at)
        kill(-1, SIGKILL);
}

static void pump_stream(struct session *session, int i, short events)
{
    struct stream *stream = &session->stream[i];

    if (!events || stream->from < 0)
        return;
    if (!stream->have)
        stream_fill(session, i);
    else if (i && (events & POLLHUP)) /* the host reads no more */
        stream_close(session, i);
    else
        stream_drain(session, i);
}

/* One round: waits for something to do, does it. */
static void pump(struct session *session)
{
    struct pollfd fds[5 + BUTTONS_MAX] = {{.fd = session->signals, .events = POLLIN},
                                          {.fd = control_fd(), .events = POLLIN}};

    for (int i = 0; i < 3; i++) {
        struct stream *stream = &session->stream[i];

        fds[2 + i].fd = stream->have ? stream->to : stream->from;
        fds[2 + i].events = stream->have ? POLLOUT : POLLIN;
    }
    for (size_t i = 0; i < session->button_count; i++)
        fds[5 + i] = (struct pollfd){.fd = session->button[i], .events = POLLIN};
    if (poll(fds, 5 + session->button_count, session->kill_at ? 100 : -1) < 0)
        return;
    check_buttons(session);
    if (fds[0].revents)
        reap(session);
    if (fds[1].revents)
        handle_control(session);
    for (int i = 0; i < 3; i++)
        pump_stream(session, i, fds[2 + i].revents);
    if (session->stream[0].from >= 0 && !session->stream[0].have &&
        session->stream[0].total >= session->stdin_end)
        end_input(session);
}

static void report(const struct session *session, int code)
{
    bool killed = WIFSIGNALED(session->status);

    control_send(LODGE_FRAME_EXIT, "%s=%d%ccore=%d%cstdout=%llu%cstderr=%llu%creal-ns=%llu%c",
                 killed ? "signal" : "code", killed ? WTERMSIG(session->status) : code, 0,
                 killed && WCOREDUMP(session->status), 0,
                 (unsigned long long)session->stream[1].total, 0,
                 (unsigned long long)session->stream[2].total, 0,
                 (unsigned long long)(now_ns() - session->started_ns), 0);
}

/* EXIT was sent: the host says END once it has every byte, or ends the machine itself. */
static void wait_for_end(void)
{
    uint64_t until = now_ns() + (uint64_t)END_WAIT * 1000000;
    uint16_t type;
    char *payload;
    size_t length;

    while (now_ns() < until) {
        int got = control_receive(&type, &payload, &length);

        if (got < 0 || (got == 1 && type == LODGE_FRAME_END))
            return;
        if (!got)
            control_wait(100);
    }
}

void command_run(struct command *command)
{
    struct session session = {.command = command, .stdin_end = UINT64_MAX, .terminal = -1};
    int code;

    for (int i = 0; i < 3; i++)
        session.stream[i].from = session.stream[i].to = -1;
    prepare(command);
    session.button_count = power_open(session.button, BUTTONS_MAX);
    start(&session);
    while (!session.exited)
        pump(&session);
    progress(LODGE_PROGRESS_EXITED);
    kill(-1, SIGKILL); /* or what it left behind could write for ever */
    stream_close(&session, 0);
    for (close_empty(&session); output_left(&session); close_empty(&session))
        pump(&session);
    code =
        WIFSIGNALED(session.status) ? 128 + WTERMSIG(session.status) : WEXITSTATUS(session.status);
    if (control_is_open()) {
        report(&session, code);
        wait_for_end();
    }
    end_machine(code);
}
