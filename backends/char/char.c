/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * char - the part that all char backends share (contract: char.h)
 *
 * Output goes straight to the descriptor while that takes it; the rest waits in a buffer of at most
 * CHAR_OUTPUT_MAX bytes. Without a peer it is dropped, so that a guest never waits for a viewer that
 * is not there. Input is read only when the client can take it, except from a terminal, where the
 * escape key must work whatever the guest does.
 *
 * Descriptors that were inherited are shared with other processes: their O_NONBLOCK flag is not ours
 * to change. Sockets are used with MSG_DONTWAIT; others are opened again by /proc; what can't be is
 * asked with poll(2) before every access.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/char/driver.h"
#include "vmm/log.h"
#include "vmm/trace.h"

TRACE_EVENT(char_connected, "%s open=%d", (const char *type, int is_open), type, is_open)
TRACE_EVENT(char_input, "%s %zu bytes", (const char *type, size_t size), type, size)
TRACE_EVENT(char_output, "%s %zu of %zu bytes taken, %u wait",
            (const char *type, size_t taken, size_t size, unsigned pending), type, taken, size,
            pending)

#define READ_SIZE      16384u
#define BLOCKING_WRITE 256u /* what a terminal that says it is writable takes without blocking */

static const char *const types[] = {"stdio", "pty", "file", "socket", "null", "fd", NULL};
static const struct char_driver *const drivers[] = {&char_stdio,  &char_pty,  &char_file,
                                                    &char_socket, &char_null, &char_fd};

const struct option_spec char_options[] = {
    {"type", OPTION_ENUM, .flags = OPTION_REQUIRED | OPTION_FIRST, .choices = types,
     .help = "stdio: this terminal; pty: a new one; file, socket: at path; fd: an open descriptor"},
    {"path", OPTION_PATH,
     .help = "file: output goes there; socket: UNIX socket; pty: a link to it"},
    {"append", OPTION_BOOL, .value = "off", .help = "file: keep what it has"},
    {"fd", OPTION_UINT, .max = G_MAXINT, .help = "fd: number of the inherited descriptor"},
    {"server", OPTION_BOOL, .value = "on",
     .help = "socket: listen for a client, or connect to one"},
    {},
};

/* ---- descriptors ---- */

int char_reopen(int fd, int mode)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static void end_init(struct char_end *end, int fd)
{
    struct stat st;
    int flags = fd < 0 ? 0 : fcntl(fd, F_GETFL);

    *end = (struct char_end){.fd = fd};
    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    end->is_socket = S_ISSOCK(st.st_mode);
    end->may_block = !end->is_socket && !S_ISREG(st.st_mode) && !(flags & O_NONBLOCK);
}

static bool is_ready(int fd, short events)
{
    struct pollfd pollfd = {.fd = fd, .events = events};

    return poll(&pollfd, 1, 0) == 1;
}

/* As read and write, but never blocks: -EAGAIN. */
static ssize_t end_read(const struct char_end *end, void *data, size_t size)
{
    ssize_t n;

    if (end->may_block && !is_ready(end->fd, POLLIN))
        return -EAGAIN;
    do
        n = end->is_socket ? recv(end->fd, data, size, MSG_DONTWAIT) : read(end->fd, data, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t end_write(const struct char_end *end, const void *data, size_t size)
{
    ssize_t n;

    if (end->may_block) {
        if (!is_ready(end->fd, POLLOUT))
            return -EAGAIN;
        size = MIN(size, BLOCKING_WRITE);
    }
    do
        n = end->is_socket ? send(end->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                           : write(end->fd, data, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* ---- input ---- */

static size_t client_room(struct chardev *chardev)
{
    if (!chardev->client || !chardev->client->receive)
        return 0;
    return chardev->client->can_receive ? chardev->client->can_receive(chardev->client_opaque)
                                        : READ_SIZE;
}

static void deliver(struct chardev *chardev, const uint8_t *data, size_t size)
{
    trace_char_input(chardev->driver->type, size);
    chardev->client->receive(chardev->client_opaque, data, size);
}

/* What was typed ahead goes to the client as it can take it. */
static void deliver_typed(struct chardev *chardev)
{
    size_t room;

    while (chardev->typed->len && (room = client_room(chardev)) > 0) {
        uint8_t piece[256];
        size_t size = MIN(MIN(room, chardev->typed->len), sizeof(piece));
        memcpy(piece, chardev->typed->data, size);
        g_byte_array_remove_range(chardev->typed, 0, size);
        deliver(chardev, piece, size);
    }
}

static size_t input_room(struct chardev *chardev)
{
    if (chardev->input_held)
        return 0;
    return chardev->driver->filter ? CHAR_INPUT_MAX - chardev->typed->len : client_room(chardev);
}

static void input_ready(void *opaque, GIOCondition ready)
{
    struct chardev *chardev = opaque;
    uint8_t data[READ_SIZE];
    size_t room = input_room(chardev);

    if (!room) {
        loop_fd_set_events(chardev->in.source, 0); /* until char_accept_input */
        return;
    }
    ssize_t n = end_read(&chardev->in, data, MIN(room, sizeof(data)));
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        chardev->driver->input_ended(chardev);
        return;
    }
    if (!chardev->driver->filter) {
        deliver(chardev, data, n);
        return;
    }
    g_byte_array_append(chardev->typed, data, chardev->driver->filter(chardev, data, n));
    deliver_typed(chardev);
}

static void hung_up(void *opaque, GIOCondition ready)
{
    struct chardev *chardev = opaque;

    if (ready & (G_IO_HUP | G_IO_ERR))
        chardev->driver->input_ended(chardev);
}

void char_stop_input(struct chardev *chardev, bool watch_hang_up)
{
    g_clear_pointer(&chardev->in.source, loop_fd_destroy);
    /* Hang-up is reported whatever is asked for; nothing sends urgent data here. */
    if (watch_hang_up && chardev->in.fd >= 0)
        chardev->in.source =
            loop_fd_create(chardev->loop, chardev->in.fd, G_IO_PRI, hung_up, chardev);
    else
        chardev->in.fd = -1;
}

void char_accept_input(struct chardev *chardev)
{
    deliver_typed(chardev);
    if (chardev->in.source && input_room(chardev))
        loop_fd_set_events(chardev->in.source, G_IO_IN);
}

/* ---- output ---- */

static void output_broke(struct chardev *chardev)
{
    g_byte_array_set_size(chardev->pending, 0);
    g_clear_pointer(&chardev->out.source, loop_fd_destroy);
    chardev->out.fd = -1;
    chardev->driver->output_broken(chardev);
}

/* Writes what is pending; false when the output broke. */
static bool flush_pending(struct chardev *chardev)
{
    while (chardev->pending->len) {
        ssize_t n = end_write(&chardev->out, chardev->pending->data, chardev->pending->len);
        if (n == -EAGAIN)
            return true;
        if (n < 0) {
            output_broke(chardev);
            return false;
        }
        g_byte_array_remove_range(chardev->pending, 0, n);
    }
    return true;
}

static void tell_writable(struct chardev *chardev)
{
    if (!chardev->owes_writable)
        return;
    chardev->owes_writable = false;
    if (chardev->client && chardev->client->writable)
        chardev->client->writable(chardev->client_opaque);
}

static void watch_output(struct chardev *chardev)
{
    if (chardev->out.source)
        loop_fd_set_events(chardev->out.source, chardev->pending->len ? G_IO_OUT : 0);
    if (chardev->ending && !chardev->pending->len && chardev->out.fd >= 0) {
        g_clear_pointer(&chardev->out.source, loop_fd_destroy);
        chardev->out.fd = -1;
        if (chardev->driver->output_ended)
            chardev->driver->output_ended(chardev);
    }
}

static void output_ready(void *opaque, GIOCondition ready)
{
    struct chardev *chardev = opaque;

    flush_pending(chardev);
    watch_output(chardev);
    if (chardev->pending->len <= CHAR_OUTPUT_MAX / 2)
        tell_writable(chardev);
}

size_t char_write(struct chardev *chardev, const uint8_t *data, size_t size)
{
    size_t taken = size;

    if (chardev->out.fd >= 0 && flush_pending(chardev)) {
        size_t done = 0;
        while (!chardev->pending->len && done < size) {
            ssize_t n = end_write(&chardev->out, data + done, size - done);
            if (n == -EAGAIN)
                break;
            if (n < 0) {
                output_broke(chardev);
                break;
            }
            done += n;
        }
        if (chardev->out.fd >= 0) {
            size_t kept = MIN(size - done, CHAR_OUTPUT_MAX - chardev->pending->len);
            g_byte_array_append(chardev->pending, data + done, kept);
            taken = done + kept;
            chardev->owes_writable |= taken < size;
            watch_output(chardev);
        }
    }
    trace_char_output(chardev->driver->type, taken, size, chardev->pending->len);
    if (taken && chardev->observe)
        chardev->observe(chardev->observe_opaque, data, taken);
    return taken;
}

bool char_flush(struct chardev *chardev, unsigned timeout_ms)
{
    int64_t end = loop_now_ns() + timeout_ms * INT64_C(1000000);

    while (chardev->out.fd >= 0 && flush_pending(chardev) && chardev->pending->len) {
        struct pollfd pollfd = {.fd = chardev->out.fd, .events = POLLOUT};
        int64_t left = (end - loop_now_ns()) / 1000000;
        if (left <= 0)
            return false;
        poll(&pollfd, 1, left);
    }
    watch_output(chardev);
    return true;
}

void char_end_output(struct chardev *chardev)
{
    chardev->ending = true;
    watch_output(chardev);
}

/* ---- streams ---- */

void char_connect(struct chardev *chardev, int in, int out)
{
    end_init(&chardev->in, in);
    end_init(&chardev->out, out);
    chardev->connected = true;
    chardev->ending = false;
    if (in >= 0)
        chardev->in.source = loop_fd_create(chardev->loop, in, input_room(chardev) ? G_IO_IN : 0,
                                            input_ready, chardev);
    if (out >= 0)
        chardev->out.source = loop_fd_create(chardev->loop, out, 0, output_ready, chardev);
    trace_char_connected(chardev->driver->type, true);
    if (chardev->client && chardev->client->connected)
        chardev->client->connected(chardev->client_opaque, true);
}

void char_disconnect(struct chardev *chardev)
{
    char_stop_input(chardev, false);
    g_clear_pointer(&chardev->out.source, loop_fd_destroy);
    chardev->out.fd = -1;
    g_byte_array_set_size(chardev->pending, 0);
    if (!chardev->connected)
        return;
    chardev->connected = false;
    trace_char_connected(chardev->driver->type, false);
    if (chardev->client && chardev->client->connected)
        chardev->client->connected(chardev->client_opaque, false);
    tell_writable(chardev); /* output goes nowhere now, but it goes */
}

void char_set_client(struct chardev *chardev, const struct chardev_client_ops *client, void *opaque)
{
    chardev->client = client;
    chardev->client_opaque = opaque;
    chardev->owes_writable = false;
    if (!client) {
        if (chardev->in.source && !chardev->driver->filter)
            loop_fd_set_events(chardev->in.source, 0);
        return;
    }
    if (chardev->connected && client->connected)
        client->connected(opaque, true);
    char_accept_input(chardev);
}

void char_set_observer(struct chardev *chardev,
                       void (*observe)(void *opaque, const uint8_t *data, size_t size),
                       void *opaque)
{
    chardev->observe = observe;
    chardev->observe_opaque = opaque;
}

void char_set_escape(struct chardev *chardev, bool (*escape)(void *opaque, char key), void *opaque)
{
    chardev->escape = escape;
    chardev->escape_opaque = opaque;
}

const char *char_address(const struct chardev *chardev)
{
    return chardev->address;
}

/* Keys that say nothing to this type are a misunderstanding, not noise. */
static bool check_keys(const struct options *options, const char *type, GError **error)
{
    static const struct {
        const char *key, *types;
        bool required_by_file, required_by_socket, required_by_fd;
    } keys[] = {
        {"path", "file socket pty", true, true, false},
        {"append", "file", false, false, false},
        {"fd", "fd", false, false, true},
        {"server", "socket", false, false, false},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_auto(GStrv) takers = g_strsplit(keys[i].types, " ", -1);
        bool takes = g_strv_contains((const char *const *)takers, type);
        bool needs = (keys[i].required_by_file && !strcmp(type, "file")) ||
                     (keys[i].required_by_socket && !strcmp(type, "socket")) ||
                     (keys[i].required_by_fd && !strcmp(type, "fd"));
        if (options_given(options, keys[i].key) && !takes) {
            options_set_error(error, options, keys[i].key, "type=%s does not take it", type);
            return false;
        }
        if (needs && !options_given(options, keys[i].key)) {
            options_set_error(error, options, NULL, "type=%s needs %s=...", type, keys[i].key);
            return false;
        }
    }
    return true;
}

struct chardev *char_open(const struct options *options, struct loop *loop, GError **error)
{
    const char *type = options_string(options, "type");
    struct sigaction pipe_action;
    unsigned i = 0;

    if (!check_keys(options, type, error))
        return NULL;
    /* A reader that leaves is an error code here, not the end of the machine. */
    if (!sigaction(SIGPIPE, NULL, &pipe_action) && pipe_action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);

    while (strcmp(types[i], type))
        i++;
    struct chardev *chardev = g_new0(struct chardev, 1);
    chardev->driver = drivers[i];
    chardev->loop = loop;
    chardev->in.fd = chardev->out.fd = -1;
    chardev->pending = g_byte_array_new();
    chardev->typed = g_byte_array_new();
    if (!chardev->driver->open(chardev, options, error)) {
        char_close(chardev);
        return NULL;
    }
    return chardev;
}

void char_close(struct chardev *chardev)
{
    if (!chardev)
        return;
    chardev->client = NULL;
    if (chardev->out.fd >= 0)
        flush_pending(chardev);
    char_disconnect(chardev);
    chardev->driver->close(chardev);
    g_byte_array_unref(chardev->pending);
    g_byte_array_unref(chardev->typed);
    g_free(chardev->address);
    g_free(chardev);
}

/* ---- null: takes everything, gives nothing ---- */

static bool null_open(struct chardev *chardev, const struct options *options, GError **error)
{
    chardev->connected = true;
    return true;
}

static void null_close(struct chardev *chardev)
{
}

const struct char_driver char_null = {.type = "null", .open = null_open, .close = null_close};
