/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stream - standard input, output and error of command mode (stream.h) */
#include "lodge/stream.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/loop.h"

#define STREAM_CHUNK 65536u

struct stream {
    int fd;
    bool input;
    bool regular; /* a file: never blocks for long, so large writes are fine */
    bool started, at_end, failed, paused;
    uint64_t bytes, received;
    struct console_port *port;
    struct loop_fd *watch;
    stream_fn notify;
    void *opaque;
    size_t start, used; /* the part of data that is still to go */
    uint8_t data[STREAM_CHUNK];
};

/* ---- input ---- */

static void input_push(struct stream *stream)
{
    while (stream->used) {
        size_t taken = console_port_write(stream->port, stream->data + stream->start, stream->used);

        if (!taken)
            break;
        stream->start += taken;
        stream->used -= taken;
    }
    /* Nothing more is read until the guest has taken this. */
    if (stream->watch)
        loop_fd_set_events(stream->watch, stream->used ? 0 : G_IO_IN);
}

static void input_end(struct stream *stream)
{
    stream->at_end = true;
    loop_fd_destroy(stream->watch);
    stream->watch = NULL;
    stream->notify(stream->opaque);
}

static void input_ready(void *opaque, GIOCondition ready)
{
    struct stream *stream = opaque;
    ssize_t got;

    if (stream->used) {
        /* A hang-up while data waits for the guest: it is reported again after that. */
        if (ready & (G_IO_HUP | G_IO_ERR))
            g_usleep(1000);
        return;
    }
    got = read(stream->fd, stream->data, sizeof(stream->data));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        input_end(stream);
        return;
    }
    stream->bytes += got;
    stream->start = 0;
    stream->used = got;
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
    stream->watch = loop_fd_create(loop_main(), stream->fd, G_IO_IN, input_ready, stream);
    if (!stream->watch)
        input_end(stream);
}

/* ---- output ---- */

static bool can_write(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLOUT};

    return poll(&poller, 1, 0) == 1;
}

/* Writes once; false when it would block or the other side is gone. */
static bool output_once(struct stream *stream, bool block)
{
    size_t size = stream->regular ? stream->used : MIN(stream->used, (size_t)PIPE_BUF);
    ssize_t put;

    if (!block && !stream->regular && !can_write(stream->fd))
        return false;
    put = write(stream->fd, stream->data + stream->start, size);
    if (put < 0 && errno == EINTR)
        return true;
    if (put < 0 && errno == EAGAIN) {
        struct pollfd poller = {.fd = stream->fd, .events = POLLOUT};

        return block && poll(&poller, 1, -1) >= 0;
    }
    if (put < 0) {
        stream->failed = true;
        return false;
    }
    stream->bytes += put;
    stream->start += put;
    stream->used -= put;
    return true;
}

static void output_flush(struct stream *stream)
{
    while (stream->used && !stream->failed && output_once(stream, false))
        ;
    if (stream->failed)
        stream->used = 0;
    if (!stream->used)
        stream->start = 0;
}

static void output_ready(void *opaque, GIOCondition ready)
{
    struct stream *stream = opaque;

    output_flush(stream);
    if (!stream->used) {
        loop_fd_destroy(stream->watch);
        stream->watch = NULL;
        if (stream->paused) {
            stream->paused = false;
            console_port_resume(stream->port);
        }
    }
    stream->notify(stream->opaque);
}

static size_t port_receive(void *opaque, const uint8_t *data, size_t size)
{
    struct stream *stream = opaque;
    size_t room = sizeof(stream->data) - stream->start - stream->used;
    size_t taken = MIN(size, room);

    if (stream->failed)
        taken = size;
    else
        memcpy(stream->data + stream->start + stream->used, data, taken);
    stream->received += taken;
    if (!stream->failed)
        stream->used += taken;
    output_flush(stream);
    stream->paused = taken < size;
    if (stream->used && !stream->watch)
        stream->watch = loop_fd_create(loop_main(), stream->fd, G_IO_OUT, output_ready, stream);
    if (stream->failed && stream->port)
        console_port_set_open(stream->port, false);
    stream->notify(stream->opaque);
    return taken;
}

static void port_writable(void *opaque)
{
    struct stream *stream = opaque;

    if (stream->input && stream->started && !stream->at_end)
        input_push(stream);
    else if (stream->input && stream->used)
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

void stream_destroy(struct stream *stream)
{
    if (!stream)
        return;
    loop_fd_destroy(stream->watch);
    if (!stream->input)
        while (stream->used && !stream->failed && output_once(stream, true))
            ;
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

bool stream_failed(const struct stream *stream)
{
    return stream->failed;
}
