/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of lodge/command and lodge/stream: the test is the guest's init, good or not. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "guest-images/init/protocol.h"
#include "tests/support/fake_console.h"
#include "vmm/loop.h"

#define WAIT_NS  (INT64_C(10) * 1000 * 1000 * 1000)
#define BIG      (300u << 10)
#define GRACE_MS 2000

static const struct option_spec specs[] = {
    {"cwd", OPTION_STRING}, {"env", OPTION_LIST}, {"tty", OPTION_BOOL, .value = "off"}, {}};

struct fixture {
    struct config config;
    struct command *command;
    int in[2], out[2], errors[2];
    struct console_port *control, *input, *output, *error;
};

static void setup(struct fixture *f, gconstpointer data)
{
    static char *words[] = {(char *)"echo", (char *)"a=b", (char *)"", NULL};
    g_autoptr(GError) error = NULL;

    f->config.run = options_parse(specs, "run", "cwd=/tmp,env=LODGE_X=1", &error);
    f->config.command = words;
    g_assert_cmpint(pipe2(f->in, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(f->out, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(f->errors, O_CLOEXEC), ==, 0);
    f->command = command_create(&f->config, (int[]){f->in[0], f->out[1], f->errors[1]});
    g_assert_true(command_add_ports(f->command, NULL, &error));
    f->control = fake_port(LODGE_PORT_CONTROL);
    f->input = fake_port(LODGE_PORT_STDIN);
    f->output = fake_port(LODGE_PORT_STDOUT);
    f->error = fake_port(LODGE_PORT_STDERR);
    f->control->room = f->input->room = SIZE_MAX / 2;
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void teardown(struct fixture *f, gconstpointer data)
{
    command_destroy(f->command);
    for (unsigned i = 0; i < 2; i++) {
        close_end(&f->in[i]);
        close_end(&f->out[i]);
        close_end(&f->errors[i]);
    }
    options_free(f->config.run);
    fake_console_reset();
}

#define wait_for(CONDITION)                                                                        \
    do {                                                                                           \
        int64_t end = loop_now_ns() + WAIT_NS;                                                     \
        while (!(CONDITION)) {                                                                     \
            g_assert_cmpint(loop_now_ns(), <, end);                                                \
            if (!loop_iterate(loop_main(), false))                                                 \
                g_usleep(500);                                                                     \
        }                                                                                          \
    } while (0)

static GByteArray *frame(unsigned type, const char *fields, size_t length)
{
    struct lodge_frame_header header = {.length = GUINT32_TO_LE(length),
                                        .type = GUINT16_TO_LE(type)};
    GByteArray *bytes = g_byte_array_new();

    g_byte_array_append(bytes, (const guint8 *)&header, sizeof(header));
    return g_byte_array_append(bytes, (const guint8 *)fields, length);
}

static void tell(struct fixture *f, unsigned type, const char *fields, size_t length)
{
    g_autoptr(GByteArray) bytes = frame(type, fields, length);

    g_assert_cmpuint(fake_port_send(f->control, bytes->data, bytes->len), ==, bytes->len);
}
#define TELL(F, TYPE, FIELDS) tell(F, LODGE_FRAME_##TYPE, FIELDS, sizeof(FIELDS))

/* The fields of the first frame for the guest, which is taken away. */
static char *told(struct fixture *f, unsigned type, size_t *length)
{
    GByteArray *bytes = f->control->to_guest;
    struct lodge_frame_header header;
    char *fields;

    g_assert_cmpuint(bytes->len, >=, sizeof(header));
    memcpy(&header, bytes->data, sizeof(header));
    *length = GUINT32_FROM_LE(header.length);
    g_assert_cmpuint(GUINT16_FROM_LE(header.type), ==, type);
    g_assert_cmpuint(bytes->len, >=, sizeof(header) + *length);
    fields = g_memdup2(bytes->data + sizeof(header), *length);
    g_byte_array_remove_range(bytes, 0, sizeof(header) + *length);
    return fields;
}

static bool has_field(const char *fields, size_t length, const char *wanted)
{
    for (const char *end = fields + length; fields < end; fields += strlen(fields) + 1)
        if (!strcmp(fields, wanted))
            return true;
    return false;
}

static void begin(struct fixture *f)
{
    size_t length;

    TELL(f, HELLO, "version=1\0init-ns=5\0ready-ns=6");
    g_autofree char *start = told(f, LODGE_FRAME_START, &length);
    g_assert_true(has_field(start, length, "arg=echo"));
    g_assert_true(has_field(start, length, "arg=a=b"));
    g_assert_true(has_field(start, length, "arg="));
    g_assert_true(has_field(start, length, "env=LODGE_X=1"));
    g_assert_true(has_field(start, length, "cwd=/tmp"));
    TELL(f, STARTED, "pid=1");
}

static void drain(int fd, size_t size)
{
    char buffer[4096];

    while (size) {
        ssize_t got = read(fd, buffer, MIN(size, sizeof(buffer)));
        g_assert_cmpint(got, >, 0);
        size -= got;
    }
}

static void test_a_command_from_start_to_end(struct fixture *f, gconstpointer data)
{
    uint64_t init_ns, ready_ns;

    begin(f);
    command_guest_times(f->command, &init_ns, &ready_ns);
    g_assert_cmpuint(init_ns, ==, 5);
    g_assert_cmpuint(ready_ns, ==, 6);
    TELL(f, EXIT, "code=22\0core=0\0stdout=0\0stderr=0");
    g_assert_cmpuint(fake_console.requests, ==, 1);
    g_assert_cmpint(fake_console.reason, ==, SHUTDOWN_COMMAND_DONE);
    g_assert_cmpint(fake_console.status, ==, 22);
    g_assert_null(fake_console.detail);
}

static void count_call(void *opaque)
{
    ++*(unsigned *)opaque;
}

/* A guest that is to be saved rehearses first, in no folder of ours, and is saved once. */
static void test_a_guest_is_prepared(struct fixture *f, gconstpointer data)
{
    unsigned prepared = 0;
    size_t length;

    command_set_prepared(f->command, count_call, &prepared);
    TELL(f, WARMED, "");
    TELL(f, HELLO, "version=2\0init-ns=5\0ready-ns=6");
    g_autofree char *warm = told(f, LODGE_FRAME_WARM, &length);
    g_assert_true(has_field(warm, length, "arg=sh"));
    g_assert_true(has_field(warm, length, "env=LODGE_X=1"));
    g_assert_false(has_field(warm, length, "cwd=/tmp"));
    g_assert_cmpuint(prepared, ==, 0);
    TELL(f, WARMED, "ready-ns=7");
    TELL(f, WARMED, "ready-ns=8");
    g_assert_cmpuint(prepared, ==, 1);
    g_assert_cmpuint(f->control->to_guest->len, ==, 0);
}

/* The init of an initramfs that somebody made long ago does not know how. */
static void test_an_older_guest_is_prepared(struct fixture *f, gconstpointer data)
{
    unsigned prepared = 0;

    command_set_prepared(f->command, count_call, &prepared);
    TELL(f, HELLO, "version=1\0init-ns=5\0ready-ns=6");
    g_assert_cmpuint(prepared, ==, 1);
    g_assert_cmpuint(f->control->to_guest->len, ==, 0);
}

static void test_a_signal_is_128_more(struct fixture *f, gconstpointer data)
{
    begin(f);
    TELL(f, EXIT, "signal=9\0stdout=0\0stderr=0");
    g_assert_cmpint(fake_console.status, ==, 137);
}

static void test_only_the_first_end_counts(struct fixture *f, gconstpointer data)
{
    begin(f);
    TELL(f, EXIT, "code=1");
    TELL(f, EXIT, "code=2");
    TELL(f, ERROR, "code=3\0message=x");
    TELL(f, STARTED, "pid=3");
    g_assert_cmpuint(fake_console.requests, ==, 1);
    g_assert_cmpint(fake_console.status, ==, 1);
}

static void test_input_comes_after_the_start(struct fixture *f, gconstpointer data)
{
    size_t length;

    g_assert_cmpint(write(f->in[1], "hello", 5), ==, 5);
    close_end(&f->in[1]);
    for (unsigned i = 0; i < 20; i++)
        loop_iterate(loop_main(), false);
    g_assert_cmpuint(f->input->to_guest->len, ==, 0);
    begin(f);
    wait_for(f->control->to_guest->len > 0);
    g_assert_cmpmem(f->input->to_guest->data, f->input->to_guest->len, "hello", 5);
    g_autofree char *end = told(f, LODGE_FRAME_STDIN_EOF, &length);
    g_assert_true(has_field(end, length, "bytes=5"));
}

static void test_a_guest_that_does_not_read(struct fixture *f, gconstpointer data)
{
    char text[1000] = "";
    unsigned turns = 0;

    f->input->room = 10;
    begin(f);
    g_assert_cmpint(write(f->in[1], text, sizeof(text)), ==, sizeof(text));
    close_end(&f->in[1]);
    wait_for(f->input->to_guest->len == 10);
    for (int64_t end = loop_now_ns() + 50000000; loop_now_ns() < end;)
        turns += loop_iterate(loop_main(), false);
    g_assert_cmpuint(turns, <, 10); /* a writer that is gone does not keep the loop busy */
    fake_port_give_room(f->input, 2000);
    wait_for(f->input->to_guest->len == 1000);
    wait_for(f->control->to_guest->len > 0);
}

static void test_output_that_comes_after_the_exit(struct fixture *f, gconstpointer data)
{
    begin(f);
    g_assert_cmpuint(fake_port_send(f->output, "abc", 3), ==, 3);
    TELL(f, EXIT, "code=0\0stdout=6\0stderr=2");
    g_assert_cmpuint(fake_console.requests, ==, 0);
    g_assert_true(command_guest_ends(f->command));
    fake_port_send(f->output, "def", 3);
    g_assert_cmpuint(fake_console.requests, ==, 0);
    fake_port_send(f->error, "xy", 2);
    g_assert_cmpuint(fake_console.requests, ==, 1);
    drain(f->out[0], 6);
    drain(f->errors[0], 2);
}

/* The reader takes its time: longer than output that was announced and never comes is waited for. */
static void test_a_slow_reader_gets_all(struct fixture *f, gconstpointer data)
{
    g_autofree uint8_t *big = g_malloc0(BIG);
    size_t sent = 0, read_size = 0;

    begin(f);
    sent += fake_port_send(f->output, big, BIG);
    g_assert_cmpuint(sent, <, BIG);
    TELL(f, EXIT, "code=0\0stdout=307200\0stderr=0");
    for (int64_t end = loop_now_ns() + (GRACE_MS + 1500) * INT64_C(1000000); loop_now_ns() < end;) {
        if (!loop_iterate(loop_main(), false))
            g_usleep(1000);
    }
    g_assert_cmpuint(fake_console.requests, ==, 0);
    while (read_size < BIG) {
        size_t part = MIN(BIG - read_size, 4096u);
        unsigned resumed = f->output->resumed;

        drain(f->out[0], part);
        read_size += part;
        for (unsigned i = 0; i < 5; i++)
            loop_iterate(loop_main(), false);
        if (f->output->resumed > resumed && sent < BIG)
            sent += fake_port_send(f->output, big, BIG - sent);
    }
    wait_for(fake_console.requests == 1);
    g_assert_cmpint(fake_console.reason, ==, SHUTDOWN_COMMAND_DONE);
}

static void test_output_that_never_comes(struct fixture *f, gconstpointer data)
{
    begin(f);
    TELL(f, EXIT, "code=3\0stdout=18446744073709551615\0stderr=0");
    g_assert_cmpuint(fake_console.requests, ==, 0);
    wait_for(fake_console.requests == 1);
    g_assert_cmpint(fake_console.status, ==, 3);
}

static void test_a_reader_that_leaves(struct fixture *f, gconstpointer data)
{
    begin(f);
    close_end(&f->out[0]);
    g_assert_cmpuint(fake_port_send(f->output, "abc", 3), ==, 3);
    g_assert_false(f->output->open); /* which is a SIGPIPE in the guest */
    g_assert_true(f->error->open);
    TELL(f, EXIT, "code=0\0stdout=1000\0stderr=0");
    g_assert_cmpuint(fake_console.requests, ==, 1);
}

static void test_a_stuck_reader_does_not_keep_us(struct fixture *f, gconstpointer data)
{
    g_autofree uint8_t *big = g_malloc0(BIG);
    int64_t start;

    begin(f);
    fake_port_send(f->output, big, BIG);
    start = loop_now_ns();
    command_write_out(f->command);
    g_assert_cmpint(loop_now_ns() - start, <, WAIT_NS / 2);
}

static void test_signals_need_a_command(struct fixture *f, gconstpointer data)
{
    size_t length;

    g_assert_false(command_signal(f->command, 15));
    begin(f);
    g_assert_true(command_signal(f->command, 15));
    g_autofree char *fields = told(f, LODGE_FRAME_SIGNAL, &length);
    g_assert_true(has_field(fields, length, "signal=15"));
    TELL(f, EXIT, "code=0");
    g_assert_false(command_signal(f->command, 15));
}

static void test_what_the_guest_says_is_cleaned(struct fixture *f, gconstpointer data)
{
    TELL(f, ERROR, "code=127\0message=\033[2Jno\nsuch \xff");
    g_assert_cmpint(fake_console.status, ==, 127);
    g_assert_cmpstr(fake_console.detail, ==, " [2Jno such \xef\xbf\xbd");
}

static void test_frames_in_single_bytes(struct fixture *f, gconstpointer data)
{
    g_autoptr(GByteArray) bytes = frame(LODGE_FRAME_ERROR, "stage=root\0x", 13);

    for (guint i = 0; i < bytes->len; i++)
        fake_port_send(f->control, bytes->data + i, 1);
    g_assert_cmpstr(fake_console.detail, ==, "root");
    g_assert_cmpint(fake_console.status, ==, LODGE_STATUS_FAILED);
}

static void test_frames_that_are_none(struct fixture *f, gconstpointer data)
{
    static const uint8_t huge[8] = {0xff, 0xff, 0xff, 0xff, 0x83};

    tell(f, LODGE_FRAME_EXIT, "code=1", 6); /* not terminated */
    tell(f, 0x1234, "x", 2);
    tell(f, LODGE_FRAME_EXIT, "", 0);
    g_assert_cmpint(fake_console.status, ==, 0);
    fake_port_send(f->control, huge, sizeof(huge));
    for (unsigned i = 0; i < 100; i++)
        g_assert_cmpuint(fake_port_send(f->control, huge, sizeof(huge)), ==, sizeof(huge));
    g_assert_cmpuint(fake_console.requests, <=,
                     2); /* the end by the empty EXIT, and the huge frame */
}

/* The terminal is standard input, as it is for lodge. */
static void test_a_terminal_is_raw_while_the_command_runs(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    struct termios before, during, after;
    int standard_input = dup(STDIN_FILENO), master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    int slave;

    g_assert_cmpint(master, >=, 0);
    g_assert_true(!grantpt(master) && !unlockpt(master));
    slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    g_assert_cmpint(dup2(slave, STDIN_FILENO), ==, STDIN_FILENO);
    command_destroy(f->command);
    fake_console_reset();
    options_free(f->config.run);
    f->config.run = options_parse(specs, "run", "tty,cwd=/tmp,env=LODGE_X=1", &error);
    f->command = command_create(&f->config, (int[]){STDIN_FILENO, f->out[1], f->errors[1]});
    g_assert_true(command_add_ports(f->command, NULL, &error));
    f->control = fake_port(LODGE_PORT_CONTROL);
    f->input = fake_port(LODGE_PORT_STDIN);
    f->control->room = f->input->room = 1000000;

    g_assert_cmpint(tcgetattr(slave, &before), ==, 0);
    begin(f);
    g_assert_cmpint(tcgetattr(slave, &during), ==, 0);
    g_assert_true(before.c_lflag & ICANON && before.c_lflag & ISIG);
    g_assert_false(during.c_lflag & (ICANON | ISIG | ECHO));
    g_assert_false(during.c_oflag & OPOST);
    g_assert_cmpint(write(master, "a\x03\x01\x01z\x01x", 7), ==, 7);
    wait_for(fake_console.requests == 1);
    g_assert_cmpint(fake_console.reason, ==, SHUTDOWN_QUIT);
    g_assert_cmpint(fake_console.status, ==, 130);
    g_assert_cmpmem(f->input->to_guest->data, f->input->to_guest->len, "a\x03\x01z", 4);
    command_write_out(f->command);
    g_assert_cmpint(tcgetattr(slave, &after), ==, 0);
    g_assert_cmphex(after.c_lflag, ==, before.c_lflag);
    g_assert_cmphex(after.c_iflag, ==, before.c_iflag);
    g_assert_cmphex(after.c_oflag, ==, before.c_oflag);
    dup2(standard_input, STDIN_FILENO);
    close(standard_input);
    close(master);
    close(slave);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
#define ADD(NAME) g_test_add("/command/" #NAME, struct fixture, NULL, setup, test_##NAME, teardown)
    ADD(a_command_from_start_to_end);
    ADD(a_guest_is_prepared);
    ADD(an_older_guest_is_prepared);
    ADD(a_signal_is_128_more);
    ADD(only_the_first_end_counts);
    ADD(input_comes_after_the_start);
    ADD(a_guest_that_does_not_read);
    ADD(output_that_comes_after_the_exit);
    ADD(a_slow_reader_gets_all);
    ADD(output_that_never_comes);
    ADD(a_reader_that_leaves);
    ADD(a_stuck_reader_does_not_keep_us);
    ADD(signals_need_a_command);
    ADD(what_the_guest_says_is_cleaned);
    ADD(frames_in_single_bytes);
    ADD(frames_that_are_none);
    ADD(a_terminal_is_raw_while_the_command_runs);
    return g_test_run();
}
