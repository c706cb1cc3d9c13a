/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of lodge/control: clients, good and hostile, of a machine that does not run. A KVM without
 * hardware support will do for it; without any, the tests are skipped.
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lodge/control.h"

#define WAIT_NS (INT64_C(10) * 1000 * 1000 * 1000)

struct fixture {
    struct config *config;
    struct machine *machine;
    struct control *control;
    char *folder, *path;
    int fd; /* of the first client */
    GString *in;
    bool ended;
};

static void on_end(void *opaque)
{
    ((struct fixture *)opaque)->ended = true;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

static void setup(struct fixture *f, gconstpointer data)
{
    char *words[] = {(char *)"--defaults", (char *)"off", (char *)"--allow-software-kvm",
                     (char *)"-m",         (char *)"64",  NULL};
    struct machine_hooks hooks = {.ended = on_end, .opaque = f};
    g_autoptr(GError) error = NULL;

    f->config = config_from_arguments(words, &error);
    g_assert_no_error(error);
    f->folder = g_dir_make_tmp("lodge-control-XXXXXX", NULL);
    f->path = g_build_filename(f->folder, "s", NULL);
    f->in = g_string_new(NULL);
    f->fd = -1;
    f->machine = machine_create(f->config, &hooks, &error);
    if (!f->machine)
        return;
    f->control = control_create(f->machine, f->path, &error);
    g_assert_no_error(error);
    f->fd = connect_to(f->path);
}

static void teardown(struct fixture *f, gconstpointer data)
{
    if (f->fd >= 0)
        close(f->fd);
    control_destroy(f->control);
    g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS));
    machine_destroy(f->machine);
    config_free(f->config);
    g_string_free(f->in, TRUE);
    g_rmdir(f->folder);
    g_free(f->path);
    g_free(f->folder);
}

static void turn(void)
{
    if (!loop_iterate(loop_main(), false))
        g_usleep(500);
}

/* The next line that comes on @fd; NULL when the other side closes. */
static char *next_line(struct fixture *f, int fd)
{
    int64_t end = loop_now_ns() + WAIT_NS;
    char *newline, *line;

    while (!(newline = strchr(f->in->str, '\n'))) {
        char buffer[1000];
        ssize_t got;

        g_assert_cmpint(loop_now_ns(), <, end);
        turn();
        got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return NULL;
        if (got > 0)
            g_string_append_len(f->in, buffer, got);
    }
    line = g_strndup(f->in->str, newline - f->in->str);
    g_string_erase(f->in, 0, newline + 1 - f->in->str);
    return line;
}

static JsonObject *next_object(struct fixture *f)
{
    g_autofree char *line = next_line(f, f->fd);
    g_autoptr(JsonNode) node = line ? json_from_string(line, NULL) : NULL;

    return node ? json_object_ref(json_node_get_object(node)) : NULL;
}

static void say(int fd, const char *text)
{
    g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, strlen(text));
}

static void assert_answer(struct fixture *f, const char *command, const char *answer)
{
    g_autofree char *line = NULL;

    say(f->fd, command);
    say(f->fd, "\n");
    line = next_line(f, f->fd);
    g_assert_nonnull(line);
    g_strchomp(line);
    g_assert_cmpstr(line, ==, answer);
}

static void skip_greeting(struct fixture *f)
{
    g_autoptr(JsonObject) greeting = next_object(f);

    g_assert_nonnull(greeting);
    g_assert_true(json_object_has_member(greeting, "QMP"));
}

#define OK_ANSWER          "{\"return\":{}}"
#define ERROR_ANSWER(TEXT) "{\"error\":{\"class\":\"GenericError\",\"desc\":\"" TEXT "\"}}"

static void test_answers(struct fixture *f, gconstpointer data)
{
    skip_greeting(f);
    assert_answer(f, "{\"execute\": \"qmp_capabilities\"}", OK_ANSWER);
    assert_answer(
        f, "{\"execute\": \"query-status\", \"id\": [1, {\"a\": \"b\"}]}",
        "{\"return\":{\"status\":\"running\",\"running\":true},\"id\":[1,{\"a\":\"b\"}]}");
    assert_answer(f, "{\"execute\": \"nonsense\", \"id\": 3}",
                  "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no command 'nonsense'; "
                  "query-commands lists them\"},\"id\":3}");
    assert_answer(
        f, "{\"execute\": \"set-log\"}",
        ERROR_ANSWER("set-log: levels=... is missing (LEVEL[,DOMAIN=LEVEL...], as --log)"));
    assert_answer(f, "{\"execute\": \"quit\", \"arguments\": {\"status\": 256}}",
                  ERROR_ANSWER("quit: status=256: must be 0 to 255"));
    assert_answer(f, "{\"execute\": \"set-link\", \"arguments\": {\"name\": \"net0\"}}",
                  ERROR_ANSWER("set-link: name=net0: is not a network interface of this machine; "
                               "query-devices lists the devices"));
}

static void test_what_is_no_command(struct fixture *f, gconstpointer data)
{
    skip_greeting(f);
    assert_answer(f, "[]", ERROR_ANSWER("a JSON object is needed"));
    assert_answer(f, "{}", ERROR_ANSWER("an \\\"execute\\\" member with a string is needed"));
    assert_answer(f, "{\"execute\": 3}",
                  ERROR_ANSWER("an \\\"execute\\\" member with a string is needed"));
    assert_answer(f, "{\"execute\": \"stop\", \"arguments\": []}",
                  ERROR_ANSWER("\\\"arguments\\\" must be an object"));
    assert_answer(f, "[[[[[[[[[[[[[[[[[[[[",
                  ERROR_ANSWER("JSON is nested deeper than 16 levels, or "
                               "has more than 1000 brackets"));
    g_autofree char *line = NULL;
    say(f->fd, "{\"execute\"\n");
    line = next_line(f, f->fd);
    g_assert_true(g_str_has_prefix(line, "{\"error\":"));
}

static void test_pieces_and_crowds(struct fixture *f, gconstpointer data)
{
    static const char text[] = "{\"execute\":\"qmp_capabilities\"}\r\n";

    skip_greeting(f);
    for (const char *c = text; *c; c++) {
        g_assert_cmpint(send(f->fd, c, 1, 0), ==, 1);
        turn();
    }
    g_autofree char *one = next_line(f, f->fd);
    g_assert_cmpstr(g_strchomp(one), ==, OK_ANSWER);
    for (unsigned i = 0; i < 50; i++)
        say(f->fd, text);
    for (unsigned i = 0; i < 50; i++) {
        g_autofree char *line = next_line(f, f->fd);
        g_assert_cmpstr(g_strchomp(line), ==, OK_ANSWER);
    }
}

static void test_a_line_without_end(struct fixture *f, gconstpointer data)
{
    g_autofree char *much = g_strnfill(4096, ' ');
    g_autofree char *line = NULL;

    skip_greeting(f);
    for (unsigned i = 0; i < 17; i++) {
        send(f->fd, much, 4096, MSG_NOSIGNAL);
        for (unsigned n = 0; n < 20; n++)
            turn();
    }
    line = next_line(f, f->fd);
    g_assert_cmpstr(g_strchomp(line), ==, ERROR_ANSWER("a line is longer than 64 KiB"));
    g_assert_null(next_line(f, f->fd));
}

static void test_stop_and_cont_are_events(struct fixture *f, gconstpointer data)
{
    g_autoptr(JsonObject) event = NULL;

    skip_greeting(f);
    assert_answer(f, "{\"execute\": \"stop\"}", OK_ANSWER);
    g_assert_cmpint(device_state(f->machine->devices.first), ==, DEVICE_STOP);
    assert_answer(f, "{\"execute\": \"query-status\"}",
                  "{\"return\":{\"status\":\"paused\",\"running\":false}}");
    assert_answer(f, "{\"execute\": \"qmp_capabilities\"}", OK_ANSWER);
    say(f->fd, "{\"execute\": \"cont\"}\n");
    event = next_object(f);
    g_assert_cmpstr(json_object_get_string_member(event, "event"), ==, "RESUME");
    g_autoptr(JsonObject) answer = next_object(f);
    g_assert_true(json_object_has_member(answer, "return"));
    assert_answer(f, "{\"execute\": \"cont\"}", OK_ANSWER); /* nothing changes: no event */
    g_assert_cmpint(device_state(f->machine->devices.first), ==, DEVICE_RUNNING);
}

static void test_quit_ends_the_machine_once(struct fixture *f, gconstpointer data)
{
    skip_greeting(f);
    assert_answer(f, "{\"execute\": \"quit\", \"arguments\": {\"status\": 7}}", OK_ANSWER);
    assert_answer(f, "{\"execute\": \"quit\", \"arguments\": {\"status\": 8}}", OK_ANSWER);
    for (int64_t end = loop_now_ns() + WAIT_NS; !f->ended && loop_now_ns() < end;)
        turn();
    g_assert_cmpint(f->machine->reason, ==, SHUTDOWN_QUIT);
    g_assert_cmpint(f->machine->status, ==, 7);
    assert_answer(f, "{\"execute\": \"stop\"}", ERROR_ANSWER("the guest has ended"));
}

static void test_requests_that_come_too_late(struct fixture *f, gconstpointer data)
{
    for (unsigned i = 0; i < 100; i++)
        machine_request(f->machine, i % 2 ? SHUTDOWN_RESET : SHUTDOWN_QUIT, i, "late");
    /* teardown destroys the machine with all of them on their way */
}

static void test_a_guest_that_reports_without_end(struct fixture *f, gconstpointer data)
{
    g_assert_false(f->ended);
    for (unsigned i = 0; i < 100000; i++)
        shutdown_request(&f->machine->shutdown, SHUTDOWN_CRASH_LOADED, 2, "again");
    g_assert_true(f->machine->crash_pending); /* one is on its way, for all of them */
    while (f->machine->crash_pending)
        turn();
    g_assert_cmpint(f->machine->reason, ==, SHUTDOWN_NONE);
}

static void test_a_client_that_does_not_read(struct fixture *f, gconstpointer data)
{
    int64_t end = loop_now_ns() + 6 * WAIT_NS;
    ssize_t put = 0;

    while (loop_now_ns() < end && (put >= 0 || errno == EAGAIN)) {
        put = send(f->fd, "{\"execute\":\"query-schema\"}\n", 27, MSG_NOSIGNAL | MSG_DONTWAIT);
        turn();
    }
    g_assert_cmpint(put, <, 0);
    g_assert_cmpint(errno, ==, EPIPE);
}

static void test_too_many_clients(struct fixture *f, gconstpointer data)
{
    int fds[CONTROL_MAX_CLIENTS];

    skip_greeting(f);
    for (unsigned i = 0; i < CONTROL_MAX_CLIENTS; i++) {
        fds[i] = connect_to(f->path);
        for (unsigned n = 0; n < 20; n++)
            turn();
    }
    g_assert_null(next_line(f, fds[CONTROL_MAX_CLIENTS - 1]));
    assert_answer(f, "{\"execute\": \"qmp_capabilities\"}", OK_ANSWER);
    for (unsigned i = 0; i < CONTROL_MAX_CLIENTS; i++)
        close(fds[i]);
}

static void test_the_socket_file(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) busy = NULL, other = NULL, folder = NULL;
    g_autofree char *file = g_build_filename(f->folder, "file", NULL);
    g_autofree char *missing = g_build_filename(f->folder, "missing", "s", NULL);
    struct stat status;

    g_assert_cmpint(lstat(f->path, &status), ==, 0);
    g_assert_true(S_ISSOCK(status.st_mode));
    g_assert_cmpint(status.st_mode & 0777, ==, 0600);
    g_assert_null(control_create(f->machine, f->path, &busy));
    g_assert_nonnull(strstr(busy->message, "lodge ctl"));
    g_assert_true(g_file_set_contents(file, "precious", -1, NULL));
    g_assert_null(control_create(f->machine, file, &other));
    g_assert_nonnull(strstr(other->message, "not a socket"));
    g_assert_null(control_create(f->machine, missing, &folder));
    g_assert_nonnull(strstr(folder->message, "No such file or directory"));
    g_assert_true(g_file_test(file, G_FILE_TEST_IS_REGULAR));
    g_unlink(file);
}

struct test {
    void (*run)(struct fixture *f, gconstpointer data);
};

static void run_or_skip(struct fixture *f, gconstpointer data)
{
    if (f->machine)
        ((const struct test *)data)->run(f, NULL);
    else
        g_test_skip("no KVM here");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(NAME)                                                                                  \
    static const struct test NAME = {test_##NAME};                                                 \
    g_test_add("/control/" #NAME, struct fixture, &NAME, setup, run_or_skip, teardown)
    ADD(answers);
    ADD(what_is_no_command);
    ADD(pieces_and_crowds);
    ADD(a_line_without_end);
    ADD(stop_and_cont_are_events);
    ADD(quit_ends_the_machine_once);
    ADD(requests_that_come_too_late);
    ADD(a_guest_that_reports_without_end);
    ADD(a_client_that_does_not_read);
    ADD(too_many_clients);
    ADD(the_socket_file);
    return g_test_run();
}
