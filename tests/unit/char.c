/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of backends/char on real files, pipes, ptys and sockets: buffers, flow control, ends, errors. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <pty.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "backends/char/char.h"

#define MS      INT64_C(1000000)
#define PATIENT 5000 /* ms */

/* ---- a client that keeps what it gets ---- */

struct client {
    GString *got;
    size_t room; /* SIZE_MAX: unlimited */
    int writable, opened, closed;
};

static size_t client_can_receive(void *opaque)
{
    struct client *client = opaque;

    return client->room == SIZE_MAX ? 100000 : client->room;
}

static void client_receive(void *opaque, const uint8_t *data, size_t size)
{
    struct client *client = opaque;

    if (client->room != SIZE_MAX) {
        g_assert_cmpuint(size, <=, client->room);
        client->room -= size;
    }
    g_string_append_len(client->got, (const char *)data, size);
}

static void client_writable(void *opaque)
{
    ((struct client *)opaque)->writable++;
}

static void client_connected(void *opaque, bool is_open)
{
    struct client *client = opaque;

    client->opened += is_open;
    client->closed += !is_open;
}

static const struct chardev_client_ops client_ops = {client_can_receive, client_receive,
                                                     client_writable, client_connected};

struct fixture {
    char *dir, *path;
    struct client client;
    struct chardev *chardev;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("lodge-char-XXXXXX", NULL);
    g_assert_nonnull(f->dir);
    f->path = g_build_filename(f->dir, "x", NULL);
    f->client.got = g_string_new(NULL);
    f->client.room = SIZE_MAX;
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    char_close(f->chardev);
    unlink(f->path);
    g_assert_cmpint(rmdir(f->dir), ==, 0); /* nothing is left behind */
    g_string_free(f->client.got, TRUE);
    g_free(f->path);
    g_free(f->dir);
}

static struct chardev *try_open(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static struct chardev *try_open(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autoptr(options_t) options = options_parse(char_options, "--serial", text, error);
    return options ? char_open(options, loop_main(), error) : NULL;
}

#define OPEN(F, ...)                                                                               \
    do {                                                                                           \
        g_autoptr(GError) open_error_ = NULL;                                                      \
        (F)->chardev = try_open(&open_error_, __VA_ARGS__);                                        \
        g_assert_no_error(open_error_);                                                            \
        char_set_client((F)->chardev, &client_ops, &(F)->client);                                  \
    } while (0)

static size_t put(struct fixture *f, const char *text)
{
    return char_write(f->chardev, (const uint8_t *)text, strlen(text));
}

static void turn(int ms)
{
    int64_t end = loop_now_ns() + ms * MS;

    do
        if (!loop_iterate(loop_main(), false))
            g_usleep(500);
    while (loop_now_ns() < end);
}

#define wait_for(CONDITION)                                                                        \
    do {                                                                                           \
        int64_t wait_end_ = loop_now_ns() + PATIENT * MS;                                          \
        while (!(CONDITION) && loop_now_ns() < wait_end_)                                          \
            turn(1);                                                                               \
        g_assert_true(CONDITION);                                                                  \
    } while (0)

/* Reads @size bytes from @fd while the loop turns. */
static void read_exactly(int fd, char *buffer, size_t size)
{
    int64_t end = loop_now_ns() + PATIENT * MS;

    while (size && loop_now_ns() < end) {
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        turn(0);
        if (poll(&pollfd, 1, 1) == 1) {
            ssize_t n = read(fd, buffer, size);
            g_assert_cmpint(n, >, 0);
            buffer += n;
            size -= n;
        }
    }
    g_assert_cmpuint(size, ==, 0);
}

static void assert_reads(int fd, const char *expected)
{
    g_autofree char *buffer = g_malloc0(strlen(expected) + 1);

    read_exactly(fd, buffer, strlen(expected));
    g_assert_cmpstr(buffer, ==, expected);
}

/* The loop must sleep while nothing happens: at most a few turns in 100 ms. */
static void count(void *opaque)
{
    (*(int *)opaque)++;
}

static void assert_idle(void)
{
    int fired = 0, turns = 0;
    struct loop_timer *timer = loop_timer_create(loop_main(), count, &fired);

    loop_timer_set(timer, loop_now_ns() + 100 * MS);
    while (!fired) {
        loop_iterate(loop_main(), true);
        turns++;
    }
    g_assert_cmpint(turns, <, 10);
    loop_timer_destroy(timer);
}

/* ---- options ---- */

static void test_option_errors(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"",
         "--serial: type=... is missing (stdio: this terminal; pty: a new one; file, socket: at "
         "path; fd: an open descriptor)"},
        {"tty",
         "--serial: type=tty: must be one of stdio, pty, file, socket, null, fd (did you mean "
         "'pty'?)"},
        {"file", "--serial: type=file needs path=..."},
        {"socket", "--serial: type=socket needs path=..."},
        {"fd", "--serial: type=fd needs fd=..."},
        {"null,path=x", "--serial: path=x: type=null does not take it"},
        {"stdio,server=on", "--serial: server=on: type=stdio does not take it"},
        {"fd,fd=777", "--serial: fd=777: not an open descriptor of this process"},
        {"file,path=/nonexistent/x", "--serial: path=/nonexistent/x: No such file or directory"},
        {"file,path=/tmp", "--serial: path=/tmp: Is a directory; give the name of a file in it"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(try_open(&error, "%s", cases[i].text));
        g_assert_cmpstr(error->message, ==, cases[i].message);
    }
}

/* ---- null and file ---- */

static void observed(void *opaque, const uint8_t *data, size_t size)
{
    g_string_append_len(opaque, (const char *)data, size);
}

static void test_null_takes_everything(struct fixture *f, gconstpointer data)
{
    g_autoptr(GString) seen = g_string_new(NULL);

    OPEN(f, "null");
    char_set_observer(f->chardev, observed, seen);
    g_assert_cmpuint(put(f, "hello"), ==, 5);
    g_assert_cmpstr(seen->str, ==, "hello");
    g_assert_null(char_address(f->chardev));
    g_assert_cmpint(f->client.opened, ==, 1);
    assert_idle();
}

static void assert_content(const char *path, const char *expected)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, expected);
}

static void test_file_is_cut_or_appended_to(struct fixture *f, gconstpointer data)
{
    g_assert_true(g_file_set_contents(f->path, "before ", -1, NULL));
    OPEN(f, "file,path=%s,append", f->path);
    g_assert_cmpstr(char_address(f->chardev), ==, f->path);
    put(f, "one");
    char_close(f->chardev);
    assert_content(f->path, "before one");
    OPEN(f, "file,path=%s", f->path);
    put(f, "two");
    assert_idle();
    char_close(f->chardev);
    assert_content(f->path, "two");
    f->chardev = NULL;
}

static void test_full_disk_loses_output_only(struct fixture *f, gconstpointer data)
{
    OPEN(f, "file,path=/dev/full");
    g_assert_cmpuint(put(f, "lost"), ==, 4);
    g_assert_cmpuint(put(f, "lost too"), ==, 8);
    g_assert_cmpint(f->client.closed, ==, 1);
    assert_idle();
}

/* ---- fd: pipes ---- */

static void test_pipe_input_and_its_end(struct fixture *f, gconstpointer data)
{
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    OPEN(f, "fd,fd=%d", fds[0]);
    g_assert_cmpint(write(fds[1], "hello", 5), ==, 5);
    wait_for(f->client.got->len == 5);
    close(fds[1]);
    wait_for(f->client.closed == 1);
    assert_idle();
    g_assert_cmpint(fcntl(fds[0], F_GETFL) & O_NONBLOCK, ==, 0); /* others may share it */
    close(fds[0]);
}

static void test_input_waits_for_room(struct fixture *f, gconstpointer data)
{
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    f->client.room = 3;
    OPEN(f, "fd,fd=%d", fds[0]);
    g_assert_cmpint(write(fds[1], "abcdefgh", 8), ==, 8);
    close(fds[1]);
    wait_for(f->client.got->len == 3);
    assert_idle();
    g_assert_cmpstr(f->client.got->str, ==, "abc");
    f->client.room = 100;
    char_accept_input(f->chardev);
    wait_for(f->client.closed == 1);
    g_assert_cmpstr(f->client.got->str, ==, "abcdefgh");
    close(fds[0]);
}

static void test_output_is_bounded_and_goes_on(struct fixture *f, gconstpointer data)
{
    g_autofree uint8_t *big = g_malloc(400000);
    g_autofree char *back = g_malloc(400000);
    int fds[2];

    for (int i = 0; i < 400000; i++)
        big[i] = i * 7 + i / 256;
    g_assert_cmpint(pipe(fds), ==, 0);
    OPEN(f, "fd,fd=%d", fds[1]);
    size_t taken = char_write(f->chardev, big, 400000);
    g_assert_cmpuint(taken, >=, 65536);
    g_assert_cmpuint(taken, <, 200000); /* the pipe's and our buffer */
    g_assert_cmpuint(char_write(f->chardev, big, 1), ==, 0);
    assert_idle();
    g_assert_cmpint(f->client.writable, ==, 0);

    size_t done = 0;
    while (done < 400000) {
        size_t piece = MIN(taken - done, 5000);
        read_exactly(fds[0], back + done, piece);
        done += piece;
        if (f->client.writable) {
            f->client.writable = 0;
            taken += char_write(f->chardev, big + taken, 400000 - taken);
        }
    }
    g_assert_cmpmem(back, 400000, big, 400000);
    close(fds[0]);
    close(fds[1]);
}

static void test_reader_that_leaves_is_no_harm(struct fixture *f, gconstpointer data)
{
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    OPEN(f, "fd,fd=%d", fds[1]);
    close(fds[0]);
    close(fds[1]);
    g_assert_cmpuint(put(f, "nobody"), ==, 6);
    g_assert_cmpuint(put(f, "reads this"), ==, 10);
    g_assert_cmpint(f->client.closed, ==, 1);
    assert_idle();
}

static void test_waiting_output_is_dropped_when_the_reader_leaves(struct fixture *f,
                                                                  gconstpointer data)
{
    g_autofree uint8_t *big = g_malloc0(400000);
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    OPEN(f, "fd,fd=%d", fds[1]);
    close(fds[1]);
    g_assert_cmpuint(char_write(f->chardev, big, 400000), <, 400000);
    close(fds[0]);
    wait_for(f->client.closed == 1);
    g_assert_cmpint(f->client.writable, ==, 1); /* a guest that waits goes on */
    g_assert_cmpuint(char_write(f->chardev, big, 400000), ==, 400000);
    assert_idle();
}

static void test_flush_waits_for_a_slow_reader(struct fixture *f, gconstpointer data)
{
    g_autofree uint8_t *big = g_malloc0(100000);
    g_autofree char *back = g_malloc(100000);
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    OPEN(f, "fd,fd=%d", fds[1]);
    close(fds[1]);
    g_assert_cmpuint(char_write(f->chardev, big, 100000), ==, 100000);
    g_assert_false(char_flush(f->chardev, 20));
    read_exactly(fds[0], back, 50000);
    g_assert_true(char_flush(f->chardev, PATIENT));
    char_end_output(f->chardev);
    read_exactly(fds[0], back, 50000);
    g_assert_cmpint(read(fds[0], back, 1), ==, 0); /* the end came after all of it */
    close(fds[0]);
}

static void test_end_comes_after_what_waits(struct fixture *f, gconstpointer data)
{
    g_autofree uint8_t *big = g_malloc0(100000);
    g_autofree char *back = g_malloc(100000);
    int fds[2];

    g_assert_cmpint(pipe(fds), ==, 0);
    OPEN(f, "fd,fd=%d", fds[1]);
    close(fds[1]);
    g_assert_cmpuint(char_write(f->chardev, big, 100000), ==, 100000);
    char_end_output(f->chardev);
    read_exactly(fds[0], back, 100000);
    turn(5);
    g_assert_cmpint(read(fds[0], back, 1), ==, 0);
    close(fds[0]);
}

static void test_regular_file_as_input(struct fixture *f, gconstpointer data)
{
    g_assert_true(g_file_set_contents(f->path, "line\n", -1, NULL));
    int fd = open(f->path, O_RDONLY);
    OPEN(f, "fd,fd=%d", fd);
    wait_for(f->client.closed == 1);
    g_assert_cmpstr(f->client.got->str, ==, "line\n");
    assert_idle();
    close(fd);
}

/* ---- pty ---- */

static int open_slave(struct fixture *f)
{
    int fd = open(char_address(f->chardev), O_RDWR | O_NOCTTY | O_NONBLOCK);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static void test_pty_both_ways(struct fixture *f, gconstpointer data)
{
    OPEN(f, "pty");
    g_assert_true(g_str_has_prefix(char_address(f->chardev), "/dev/pts/"));
    g_assert_cmpuint(put(f, "nobody sees this"), ==, 16);
    turn(20);
    g_assert_cmpint(f->client.opened, ==, 0);
    int fd = open_slave(f);
    wait_for(f->client.opened == 1);
    put(f, "hi\n");
    assert_reads(fd, "hi\n");
    g_assert_cmpint(write(fd, "a\003\r", 3), ==, 3); /* raw: nothing is taken or changed */
    wait_for(f->client.got->len == 3);
    g_assert_cmpstr(f->client.got->str, ==, "a\003\r");
    close(fd);
    wait_for(f->client.closed == 1);
    fd = open_slave(f);
    wait_for(f->client.opened == 2);
    put(f, "again");
    assert_reads(fd, "again");
    close(fd);
}

static void test_pty_without_reader_stays_bounded(struct fixture *f, gconstpointer data)
{
    g_autofree uint8_t *big = g_malloc0(1 << 20);

    OPEN(f, "pty");
    int fd = open_slave(f);
    wait_for(f->client.opened == 1);
    g_assert_cmpuint(char_write(f->chardev, big, 1 << 20), <, 200000);
    assert_idle();
    close(fd);
    wait_for(f->client.closed == 1);
    g_assert_cmpuint(char_write(f->chardev, big, 1 << 20), ==, 1 << 20);
}

static void test_pty_link(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    OPEN(f, "pty,path=%s", f->path);
    g_autofree char *target = g_file_read_link(f->path, NULL);
    g_assert_cmpstr(target, ==, char_address(f->chardev));
    g_assert_null(try_open(&error, "pty,path=%s", f->path));
    g_autofree char *message = g_strdup_printf(
        "--serial: path=%s: File exists; remove it or choose another name", f->path);
    g_assert_cmpstr(error->message, ==, message);
    char_close(f->chardev);
    f->chardev = NULL;
    g_assert_false(g_file_test(f->path, G_FILE_TEST_IS_SYMLINK));
}

/* ---- sockets ---- */

static int try_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

static void test_socket_serves_one_after_the_other(struct fixture *f, gconstpointer data)
{
    OPEN(f, "socket,path=%s", f->path);
    g_autofree char *address = g_strdup_printf("unix:%s", f->path);
    g_assert_cmpstr(char_address(f->chardev), ==, address);
    g_assert_cmpuint(put(f, "dropped"), ==, 7);
    for (int round = 1; round <= 3; round++) {
        int fd = try_connect(f->path);
        g_assert_cmpint(fd, >=, 0);
        wait_for(f->client.opened == round);
        put(f, "hello");
        assert_reads(fd, "hello");
        g_string_truncate(f->client.got, 0);
        g_assert_cmpint(write(fd, "input", 5), ==, 5);
        close(fd);
        wait_for(f->client.closed == round);
        g_assert_cmpstr(f->client.got->str, ==, "input");
    }
    assert_idle();
}

static void test_second_client_is_sent_away(struct fixture *f, gconstpointer data)
{
    char byte;

    OPEN(f, "socket,path=%s", f->path);
    int first = try_connect(f->path);
    wait_for(f->client.opened == 1);
    int second = try_connect(f->path);
    turn(20);
    g_assert_cmpint(read(second, &byte, 1), ==, 0);
    put(f, "for the first");
    assert_reads(first, "for the first");
    close(first);
    close(second);
}

/* One that left while the guest reads nothing does not block the next. */
static void test_dead_client_with_unread_input_makes_way(struct fixture *f, gconstpointer data)
{
    f->client.room = 0;
    OPEN(f, "socket,path=%s", f->path);
    int first = try_connect(f->path);
    wait_for(f->client.opened == 1);
    g_assert_cmpint(write(first, "unread", 6), ==, 6);
    turn(5);
    close(first);
    int second = try_connect(f->path);
    wait_for(f->client.opened == 2);
    put(f, "yours");
    assert_reads(second, "yours");
    close(second);
}

static void test_half_closed_client_still_gets_output(struct fixture *f, gconstpointer data)
{
    OPEN(f, "socket,path=%s", f->path);
    int fd = try_connect(f->path);
    wait_for(f->client.opened == 1);
    g_assert_cmpint(write(fd, "ask", 3), ==, 3);
    g_assert_cmpint(shutdown(fd, SHUT_WR), ==, 0);
    wait_for(f->client.got->len == 3);
    turn(5);
    assert_idle();
    put(f, "answer");
    assert_reads(fd, "answer");
    g_assert_cmpint(f->client.closed, ==, 0);
    close(fd);
    wait_for(f->client.closed == 1);
}

static void test_socket_end_of_output(struct fixture *f, gconstpointer data)
{
    char byte;

    OPEN(f, "socket,path=%s", f->path);
    int fd = try_connect(f->path);
    wait_for(f->client.opened == 1);
    put(f, "bye");
    char_end_output(f->chardev);
    assert_reads(fd, "bye");
    turn(5);
    g_assert_cmpint(read(fd, &byte, 1), ==, 0);
    g_assert_cmpint(write(fd, "ok", 2), ==, 2);
    wait_for(f->client.got->len == 2);
    close(fd);
    wait_for(f->client.closed == 1);
}

static void test_socket_in_use(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    OPEN(f, "socket,path=%s", f->path);
    g_assert_null(try_open(&error, "socket,path=%s", f->path));
    g_autofree char *message = g_strdup_printf(
        "--serial: path=%s: another process serves this socket; stop it or choose another path",
        f->path);
    g_assert_cmpstr(error->message, ==, message);
    g_assert_true(g_file_test(f->path, G_FILE_TEST_EXISTS)); /* the failed one left it alone */
}

static void test_stale_socket_is_replaced(struct fixture *f, gconstpointer data)
{
    close(listen_at(f->path));
    g_assert_true(g_file_test(f->path, G_FILE_TEST_EXISTS));
    OPEN(f, "socket,path=%s", f->path);
    int fd = try_connect(f->path);
    g_assert_cmpint(fd, >=, 0);
    wait_for(f->client.opened == 1);
    close(fd);
}

static void test_other_files_are_not_replaced(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(g_file_set_contents(f->path, "precious", -1, NULL));
    g_assert_null(try_open(&error, "socket,path=%s", f->path));
    g_autofree char *message =
        g_strdup_printf("--serial: path=%s: there is something that is not a socket; remove it or "
                        "choose another path",
                        f->path);
    g_assert_cmpstr(error->message, ==, message);
    assert_content(f->path, "precious");
}

static void test_socket_path_errors(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) long_error = NULL, folder_error = NULL;
    g_autofree char *name = g_strnfill(108, 'x');

    g_assert_null(try_open(&long_error, "socket,path=%s", name));
    g_autofree char *message = g_strdup_printf("--serial: path=%s: 108 bytes are too long for a "
                                               "UNIX socket, which has room for 107 bytes; use a "
                                               "shorter or a relative path",
                                               name);
    g_assert_cmpstr(long_error->message, ==, message);
    g_assert_null(try_open(&folder_error, "socket,path=%s/missing/s", f->dir));
    g_autofree char *folder_message = g_strdup_printf(
        "--serial: path=%s/missing/s: No such file or directory; create its folder first", f->dir);
    g_assert_cmpstr(folder_error->message, ==, folder_message);
}

static void test_close_leaves_a_newer_socket_alone(struct fixture *f, gconstpointer data)
{
    OPEN(f, "socket,path=%s", f->path);
    unlink(f->path);
    int other = listen_at(f->path);
    char_close(f->chardev);
    f->chardev = NULL;
    g_assert_true(g_file_test(f->path, G_FILE_TEST_EXISTS));
    close(other);
}

static void test_client_connects_and_reconnects(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(try_open(&error, "socket,path=%s,server=off", f->path));
    g_autofree char *message = g_strdup_printf("--serial: path=%s: can't connect: No such file or "
                                               "directory; start the program that serves it first",
                                               f->path);
    g_assert_cmpstr(error->message, ==, message);

    int listener = listen_at(f->path);
    OPEN(f, "socket,path=%s,server=off", f->path);
    int peer = accept(listener, NULL, NULL);
    g_assert_cmpint(peer, >=, 0);
    put(f, "one");
    assert_reads(peer, "one");
    close(peer);
    wait_for(f->client.closed == 1);
    g_assert_cmpuint(put(f, "dropped"), ==, 7);
    wait_for(f->client.opened == 2);
    peer = accept(listener, NULL, NULL);
    g_assert_cmpint(peer, >=, 0);
    put(f, "two");
    assert_reads(peer, "two");
    close(peer);
    close(listener);
}

#define ADD(NAME) g_test_add("/char/" #NAME, struct fixture, NULL, set_up, test_##NAME, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(option_errors);
    ADD(null_takes_everything);
    ADD(file_is_cut_or_appended_to);
    ADD(full_disk_loses_output_only);
    ADD(pipe_input_and_its_end);
    ADD(input_waits_for_room);
    ADD(output_is_bounded_and_goes_on);
    ADD(reader_that_leaves_is_no_harm);
    ADD(waiting_output_is_dropped_when_the_reader_leaves);
    ADD(flush_waits_for_a_slow_reader);
    ADD(end_comes_after_what_waits);
    ADD(regular_file_as_input);
    ADD(pty_both_ways);
    ADD(pty_without_reader_stays_bounded);
    ADD(pty_link);
    ADD(socket_serves_one_after_the_other);
    ADD(second_client_is_sent_away);
    ADD(dead_client_with_unread_input_makes_way);
    ADD(half_closed_client_still_gets_output);
    ADD(socket_end_of_output);
    ADD(socket_in_use);
    ADD(stale_socket_is_replaced);
    ADD(other_files_are_not_replaced);
    ADD(socket_path_errors);
    ADD(close_leaves_a_newer_socket_alone);
    ADD(client_connects_and_reconnects);
    return g_test_run();
}
