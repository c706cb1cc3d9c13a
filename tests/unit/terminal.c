/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of backends/char/stdio: a child with a pseudo-terminal (or pipes) as its standard input and
 * output runs one of the small programs below; the test is the person at the keyboard, who looks at
 * the terminal's modes before, while and after.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "backends/char/char.h"

#define PATIENT_MS 5000
#define CTRL_A     "\001"

/* ---- the child: echoes its input as upper case, and ends in many ways ---- */

struct child {
    struct chardev *chardev;
    bool deaf;  /* takes no input, like a guest that hangs */
    int status; /* of exit, when the loop ends */
};

static volatile int *volatile nowhere = (volatile int *)8;

static size_t child_can_receive(void *opaque)
{
    return ((struct child *)opaque)->deaf ? 0 : 16;
}

static void child_receive(void *opaque, const uint8_t *data, size_t size)
{
    struct child *child = opaque;
    g_autofree char *upper = g_ascii_strup((const char *)data, size);

    char_write(child->chardev, (const uint8_t *)upper, size);
    if (memchr(data, 'A', size)) /* one that ends badly, on request */
        abort();
    if (memchr(data, 'S', size))
        *nowhere = 1;
    if (memchr(data, 'E', size))
        exit(3);
    if (memchr(data, 'Q', size))
        loop_quit(loop_main());
}

static void child_connected(void *opaque, bool is_open)
{
    struct child *child = opaque;

    if (!is_open)
        char_write(child->chardev, (const uint8_t *)"<closed>", 8);
}

static bool child_escape(void *opaque, char key)
{
    struct child *child = opaque;

    if (key != 'x' && key != 'c')
        return false;
    child->status = key;
    loop_quit(loop_main());
    return true;
}

static void end_of_patience(void *opaque)
{
    ((struct child *)opaque)->status = 99;
    loop_quit(loop_main());
}

static int child_main(const char *mode)
{
    static const struct chardev_client_ops ops = {child_can_receive, child_receive, NULL,
                                                  child_connected};
    struct child child = {.deaf = !strcmp(mode, "deaf")};
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(char_options, "--serial", "stdio", &error);
    struct loop_timer *timer = loop_timer_create(loop_main(), end_of_patience, &child);
    struct timespec cpu;

    child.chardev = char_open(options, loop_main(), &error);
    if (!child.chardev) {
        fprintf(stderr, "%s\n", error->message);
        return 98;
    }
    if (strcmp(mode, "default"))
        char_set_escape(child.chardev, child_escape, &child);
    char_set_client(child.chardev, &ops, &child);
    char_write(child.chardev, (const uint8_t *)"ready\n", 6);
    loop_timer_set(timer, loop_now_ns() + PATIENT_MS * INT64_C(1000000));
    if (!strcmp(mode, "short"))
        loop_timer_set(timer, loop_now_ns() + INT64_C(200000000));
    loop_run(loop_main());
    char_flush(child.chardev, PATIENT_MS);
    char_close(child.chardev);
    loop_timer_destroy(timer);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    if (!strcmp(mode, "short") && (cpu.tv_sec || cpu.tv_nsec > 100000000))
        return 97; /* it turned and turned instead of sleeping */
    return child.status;
}

/* ---- the test's side ---- */

struct fixture {
    int terminal; /* our side of the pty, or -1 */
    int slave;    /* kept open, to look at the modes */
    struct termios before;
    pid_t pid;
    GString *screen;
};

static char *program;

static void run_child(const char *mode, int in, int out, int err, bool own_session)
{
    if (own_session) {
        setsid();
        ioctl(in, TIOCSCTTY, 0);
    }
    dup2(in, 0);
    dup2(out, 1);
    dup2(err, 2);
    closefrom(3);
    execl(program, program, "--child", mode, NULL);
    _exit(100);
}

static void start(struct fixture *f, const char *mode)
{
    g_assert_cmpint(openpty(&f->terminal, &f->slave, NULL, NULL, NULL), ==, 0);
    g_assert_cmpint(tcgetattr(f->slave, &f->before), ==, 0);
    f->screen = g_string_new(NULL);
    f->pid = fork();
    if (f->pid == 0)
        run_child(mode, f->slave, f->slave, f->slave, true);
}

/* Reads what the child shows until @text is among it. */
static void expect(struct fixture *f, const char *text)
{
    struct pollfd pollfd = {.fd = f->terminal, .events = POLLIN};
    char buffer[256];

    while (!strstr(f->screen->str, text)) {
        if (poll(&pollfd, 1, PATIENT_MS) != 1)
            g_error("'%s' did not come; the screen shows '%s'", text, f->screen->str);
        ssize_t n = read(f->terminal, buffer, sizeof(buffer));
        g_assert_cmpint(n, >, 0);
        g_string_append_len(f->screen, buffer, n);
    }
    g_string_truncate(f->screen, 0);
}

static void type(struct fixture *f, const char *text)
{
    g_assert_cmpint(write(f->terminal, text, strlen(text)), ==, strlen(text));
}

static bool is_raw(struct fixture *f)
{
    struct termios now;

    g_assert_cmpint(tcgetattr(f->slave, &now), ==, 0);
    return !(now.c_lflag & (ICANON | ECHO | ISIG));
}

static void wait_raw(struct fixture *f, bool raw)
{
    for (int i = 0; i < PATIENT_MS && is_raw(f) != raw; i++)
        g_usleep(1000);
    g_assert_true(is_raw(f) == raw);
}

static int wait_for_end(struct fixture *f)
{
    int status = 0;

    for (int i = 0; i < PATIENT_MS; i++) {
        if (waitpid(f->pid, &status, WNOHANG) == f->pid)
            return status;
        g_usleep(1000);
    }
    kill(f->pid, SIGKILL);
    g_error("the child did not end");
}

/* The child is gone: are the modes what they were, every bit? */
static void assert_restored(struct fixture *f)
{
    struct termios now;

    g_assert_cmpint(tcgetattr(f->slave, &now), ==, 0);
    g_assert_cmphex(now.c_iflag, ==, f->before.c_iflag);
    g_assert_cmphex(now.c_oflag, ==, f->before.c_oflag);
    g_assert_cmphex(now.c_cflag, ==, f->before.c_cflag);
    g_assert_cmphex(now.c_lflag, ==, f->before.c_lflag);
    g_assert_cmpmem(now.c_cc, sizeof(now.c_cc), f->before.c_cc, sizeof(now.c_cc));
    close(f->terminal);
    close(f->slave);
    g_string_free(f->screen, TRUE);
}

static void assert_exits(struct fixture *f, int expected)
{
    int status = wait_for_end(f);

    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, expected);
    assert_restored(f);
}

static void assert_killed(struct fixture *f, int expected)
{
    int status = wait_for_end(f);

    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, expected);
    assert_restored(f);
}

static void test_every_key_reaches_the_guest(void)
{
    struct fixture f;

    start(&f, "normal");
    expect(&f, "ready\r\n"); /* lines stay lines */
    g_assert_true(is_raw(&f));
    type(&f, "abc\003\032\004x"); /* Ctrl-C, Ctrl-Z, Ctrl-D */
    expect(&f, "ABC\003\032\004X");
    type(&f, "Q");
    assert_exits(&f, 0);
}

static void test_escape_quits(void)
{
    struct fixture f;

    start(&f, "normal");
    expect(&f, "ready");
    type(&f, CTRL_A "x");
    assert_exits(&f, 'x');
}

static void test_escape_works_while_the_guest_is_deaf(void)
{
    struct fixture f;

    start(&f, "deaf");
    expect(&f, "ready");
    type(&f, "is anybody there? hello? hello?");
    type(&f, CTRL_A);
    type(&f, "x");
    assert_exits(&f, 'x');
}

static void test_escape_help_and_other_keys(void)
{
    struct fixture f;

    start(&f, "normal");
    expect(&f, "ready");
    type(&f, CTRL_A "h");
    expect(&f, "Ctrl-A x       quit");
    type(&f, CTRL_A "y"); /* nobody knows it */
    expect(&f, "(Ctrl-A h shows the keys)");
    type(&f, "a" CTRL_A CTRL_A "b");
    expect(&f, "A" CTRL_A "B");
    type(&f, CTRL_A "c"); /* the program's own */
    assert_exits(&f, 'c');
}

static void test_escape_without_callback_is_a_termination(void)
{
    struct fixture f;

    start(&f, "default");
    expect(&f, "ready");
    type(&f, CTRL_A "x");
    assert_killed(&f, SIGTERM);
}

static void test_terminal_is_restored_on_exit(void)
{
    struct fixture f;

    start(&f, "normal");
    expect(&f, "ready");
    type(&f, "E");
    assert_exits(&f, 3);
}

static void test_terminal_is_restored_on_abort(void)
{
    struct fixture f;

    start(&f, "normal");
    expect(&f, "ready");
    type(&f, "A");
    assert_killed(&f, SIGABRT);
}

static void test_terminal_is_restored_on_segv(void)
{
    struct fixture f;

    start(&f, "normal");
    expect(&f, "ready");
    type(&f, "S");
    int status = wait_for_end(&f);
    /* A sanitizer turns it into an exit of its own. */
    g_assert_true((WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) ||
                  (WIFEXITED(status) && WEXITSTATUS(status) == 1));
    assert_restored(&f);
}

static void test_terminal_is_restored_on_signals(void)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};

    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        struct fixture f;
        start(&f, "normal");
        expect(&f, "ready");
        kill(f.pid, signals[i]);
        assert_killed(&f, signals[i]);
    }
}

/* A shell that stops us, takes its terminal back, and brings us to the foreground again. */
static void test_raw_again_after_a_stop(void)
{
    struct fixture f;
    int status;

    start(&f, "normal");
    expect(&f, "ready");
    kill(f.pid, SIGSTOP);
    g_assert_cmpint(waitpid(f.pid, &status, WUNTRACED), ==, f.pid);
    g_assert_true(WIFSTOPPED(status));
    g_assert_cmpint(tcsetattr(f.slave, TCSANOW, &f.before), ==, 0);
    g_assert_false(is_raw(&f));
    kill(f.pid, SIGCONT);
    wait_raw(&f, true);
    type(&f, "go on");
    expect(&f, "GO ON");
    type(&f, "Q");
    assert_exits(&f, 0);
}

/* Started as a background job: the terminal is neither changed nor read, and nobody is stopped. */
static void test_background_job_leaves_the_terminal_alone(void)
{
    struct fixture f;
    pid_t job = 0;
    int report[2];

    g_assert_cmpint(openpty(&f.terminal, &f.slave, NULL, NULL, NULL), ==, 0);
    g_assert_cmpint(tcgetattr(f.slave, &f.before), ==, 0);
    f.screen = g_string_new(NULL);
    g_assert_cmpint(pipe(report), ==, 0);
    f.pid = fork();
    if (f.pid == 0) { /* the shell: leads the session and stays in the foreground */
        int status;
        setsid();
        ioctl(f.slave, TIOCSCTTY, 0);
        job = fork();
        if (job == 0) {
            setpgid(0, 0);
            run_child("short", f.slave, f.slave, f.slave, false);
        }
        setpgid(job, job);
        if (waitpid(job, &status, WUNTRACED) != job || !WIFEXITED(status))
            _exit(90);
        _exit(WEXITSTATUS(status));
    }
    expect(&f, "ready");
    g_assert_false(is_raw(&f));
    type(&f, "for the shell\n");
    assert_exits(&f, 99); /* its own time was up: it was never stopped */
    close(report[0]);
    close(report[1]);
}

static void test_second_stdio_is_refused(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(char_options, "--console", "stdio", NULL);
    struct chardev *first = char_open(options, loop_main(), &error);

    g_assert_no_error(error);
    g_assert_null(char_open(options, loop_main(), &error));
    g_assert_cmpstr(error->message, ==,
                    "--console: type=stdio is already in use; only one can have the terminal");
    char_close(first);
    g_clear_error(&error);
    first = char_open(options, loop_main(), &error); /* and it is free again */
    g_assert_no_error(error);
    char_close(first);
}

/* ---- no terminal ---- */

static char *run_without_terminal(const char *mode, int in, const char *input, int *status)
{
    struct fixture f;
    int out[2], feed[2] = {-1, -1};
    g_autoptr(GString) text = g_string_new(NULL);
    char buffer[256];
    ssize_t n;

    g_assert_cmpint(pipe2(out, O_CLOEXEC), ==, 0);
    if (in < 0)
        g_assert_cmpint(pipe2(feed, O_CLOEXEC), ==, 0);
    f.pid = fork();
    if (f.pid == 0)
        run_child(mode, in < 0 ? feed[0] : in, out[1], 2, false);
    close(out[1]);
    if (in < 0) {
        close(feed[0]);
        g_assert_cmpint(write(feed[1], input, strlen(input)), ==, strlen(input));
        close(feed[1]);
    }
    while ((n = read(out[0], buffer, sizeof(buffer))) > 0)
        g_string_append_len(text, buffer, n);
    close(out[0]);
    *status = wait_for_end(&f);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void test_pipes_pass_bytes_unchanged(void)
{
    int status;
    g_autofree char *text = run_without_terminal("normal", -1, "a" CTRL_A "x\rbcQ", &status);

    g_assert_cmpstr(text, ==, "ready\nA" CTRL_A "X\rBCQ");
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_end_of_input_neither_ends_nor_spins(void)
{
    int status;
    g_autofree char *text = run_without_terminal("short", -1, "last", &status);

    g_assert_cmpstr(text, ==, "ready\nLAST");
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 99);
}

static void test_dev_null_as_input(void)
{
    int status, null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    g_autofree char *text = run_without_terminal("short", null, NULL, &status);

    g_assert_cmpstr(text, ==, "ready\n");
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 99);
    close(null);
}

#define ADD(NAME) g_test_add_func("/terminal/" #NAME, test_##NAME)

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--child"))
        return child_main(argv[2]);
    program = argv[0];
    /* Ignored under nohup, in jobs behind a shell's & and in some CI runners; children inherit it. */
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    g_test_init(&argc, &argv, NULL);
    ADD(every_key_reaches_the_guest);
    ADD(escape_quits);
    ADD(escape_works_while_the_guest_is_deaf);
    ADD(escape_help_and_other_keys);
    ADD(escape_without_callback_is_a_termination);
    ADD(terminal_is_restored_on_exit);
    ADD(terminal_is_restored_on_abort);
    ADD(terminal_is_restored_on_segv);
    ADD(terminal_is_restored_on_signals);
    ADD(raw_again_after_a_stop);
    ADD(background_job_leaves_the_terminal_alone);
    ADD(second_stdio_is_refused);
    ADD(pipes_pass_bytes_unchanged);
    ADD(end_of_input_neither_ends_nor_spins);
    ADD(dev_null_as_input);
    return g_test_run();
}
