/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stream - standard input, output and error of command mode (stream.h) */
#include "lodge/stream.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/loop.h"

#define STREAM_CHUNK  65536u
#define STREAM_END_MS 1000

struct stream {
    int fd;
    bool input;
    bool regular; /* a file: never blocks for long, so large writes are fine */
    bool started, at_end, failed, paused, held;
    uint64_t bytes, received;
    struct console_port *port;
    struct loop_fd *watch;
    stream_fn notify;
    void *opaque;
    stream_filter_fn filter;
    void *filter_opaque;
    size_t start, used; /* the part of data that is still to go */
    uint8_t data[STREAM_CHUNK];
};

/* ---- input ---- */

static void input_ready(void *opaque, GIOCondition ready);

/* Nothing more is read until the guest has taken what was: no watch then, because a pipe whose writer
 * has left is always ready. */
static void input_push(struct stream *stream)
{
    while (stream->used) {
        size_t taken = console_port_write(stream->port, stream->data + stream->start, stream->used);

        if (!taken)
            break;
        stream->start += taken;
        stream->used -= taken;
    }
    if (stream->used || stream->held)
        g_clear_pointer(&stream->watch, loop_fd_destroy);
    else if (!stream->watch && stream->started && !stream->at_end)
        stream->watch = loop_fd_create(loop_main(), stream->fd, G_IO_IN, input_ready, stream);
}

static void input_end(struct stream *stream)
{
    stream->at_end = true;
    g_clear_pointer(&stream->watch, loop_fd_destroy);
    stream->notify(stream->opaque);
}

static void input_ready(void *opaque, GIOCondition ready)
{
    struct stream *stream = opaque;
    ssize_t got;

    got = read(stream->fd, stream->data, sizeof(stream->data));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        input_end(stream);
        return;
    }
    stream->start = 0;
    stream->used =
        stream->filter ? stream->filter(stream->filter_opaque, stream->data, got) : (size_t)got;
    stream->bytes += stream->used;
    input_push(stream);
}

struct stream *stream_create_input(int fd, stream_fn end, void *opaque)
{
    struct stream *stream = g_new0(struct stream, 1);

    stream->fd = fd;
    stream->input = true;
    stream->notify = end;
    stream->opaque = opaque;
    return stream;
}

void stream_start(struct stream *stream)
{
    if (stream->started)
        return;
    stream->started = true;
    input_push(stream);
}

void stream_hold(struct stream *stream, bool held)
{
    stream->held = held;
    input_push(stream);
}

void stream_set_filter(struct stream *stream, stream_filter_fn filter, void *opaque)
{
    stream->filter = filter;
    stream->filter_opaque = opaque;
}

/* ---- output ---- */

static bool can_write(int fd, int timeout_ms)
{
    struct pollfd poller = {.fd = fd, .events = POLLOUT};

    return poll(&poller, 1, timeout_ms) == 1;
}

/* Writes once; false when it would block or the other side is gone. */
static bool output_once(struct stream *stream)
{
    size_t size = stream->regular ? stream->used : MIN(stream->used, (size_t)PIPE_BUF);
    ssize_t put;

    if (!stream->regular && !can_write(stream->fd, 0))
        return false;
    put = write(stream->fd, stream->data + stream->start, size);
    if (put < 0 && (errno == EINTR || errno == EAGAIN))
        return errno == EINTR;
    if (put < 0) {
        stream->failed = true;
        stream->used = 0;
        if (stream->port)
            console_port_set_open(stream->port, false);
        return false;
    }
    stream->bytes += put;
    stream->start += put;
    stream->used -= put;
    return true;
}

static void output_flush(struct stream *stream)
{
    while (stream->used && output_once(stream))
        ;
    if (!stream->used)
        stream->start = 0;
}

static void output_ready(void *opaque, GIOCondition ready)
{
    struct stream *stream = opaque;

    output_flush(stream);
    if (!stream->used) {
        g_clear_pointer(&stream->watch, loop_fd_destroy);
        if (stream->paused) {
            stream->paused = false;
            console_port_resume(stream->port);
        }
    }
    stream->notify(stream->opaque);
}

/* Into the buffer and on, until one of them is full. Returns how much was taken. */
static size_t output_take(struct stream *stream, const uint8_t *data, size_t size)
{
    size_t taken = 0;

    while (taken < size && !stream->failed) {
        size_t end = stream->start + stream->used;
        size_t part = MIN(size - taken, sizeof(stream->data) - end);

        if (!part)
            return taken;
        memcpy(stream->data + end, data + taken, part);
        stream->used += part;
        taken += part;
        output_flush(stream);
    }
    return size;
}

static size_t port_receive(void *opaque, const uint8_t *data, size_t size)
{
    struct stream *stream = opaque;
    size_t taken = output_take(stream, data, size);

    stream->received += taken;
    stream->paused = taken < size;
    if (stream->used && !stream->watch)
        stream->watch = loop_fd_create(loop_main(), stream->fd, G_IO_OUT, output_ready, stream);
    stream->notify(stream->opaque);
    return taken;
}

static void port_writable(void *opaque)
{
    struct stream *stream = opaque;

    if (stream->input)
        input_push(stream);
}

const struct console_port_ops stream_port_ops = {
    .receive = port_receive,
    .writable = port_writable,
};

struct stream *stream_create_output(int fd, stream_fn progress, void *opaque)
{
    struct stream *stream = g_new0(struct stream, 1);
    struct stat status;

    stream->fd = fd;
    stream->regular = !fstat(fd, &status) && S_ISREG(status.st_mode);
    stream->notify = progress;
    stream->opaque = opaque;
    return stream;
}

/* A reader that takes nothing for a while must not keep us from ending. */
void stream_write_out(struct stream *stream)
{
    int64_t end = loop_now_ns() + STREAM_END_MS * INT64_C(1000000);

    stream->port = NULL; /* it may be gone */
    output_flush(stream);
    while (stream->used && loop_now_ns() < end) {
        uint64_t before = stream->bytes;

        if (can_write(stream->fd, STREAM_END_MS / 10))
            output_flush(stream);
        if (stream->bytes > before)
            end = loop_now_ns() + STREAM_END_MS * INT64_C(1000000);
    }
}

void stream_destroy(struct stream *stream)
{
    if (!stream)
        return;
    loop_fd_destroy(stream->watch);
    g_free(stream);
}

void stream_set_port(struct stream *stream, struct console_port *port)
{
    stream->port = port;
}

uint64_t stream_bytes(const struct stream *stream)
{
    return stream->bytes;
}

uint64_t stream_received(const struct stream *stream)
{
    return stream->received;
}

bool stream_waits(const struct stream *stream)
{
    return stream->used > 0;
}

bool stream_failed(const struct stream *stream)
{
    return stream->failed;
}
