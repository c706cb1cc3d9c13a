/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream - one of lodge's own standard streams, joined to a console port
 *
 * Our descriptors may be shared with other programs (the shell's terminal), so their flags are left
 * alone: a read or write happens only when poll says that it will not block, and writes are at most
 * PIPE_BUF bytes then.
 *
 * Thread: main.
 */
#ifndef LODGE_STREAM_H
#define LODGE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/console.h"

struct stream;

/* @end: for input: end of file was reached after stream_bytes(); for output: more bytes went out. */
typedef void (*stream_fn)(void *opaque);

/* Reads @fd into the port from stream_start on. */
struct stream *stream_create_input(int fd, stream_fn end, void *opaque);
/* Writes what the port receives to @fd. */
struct stream *stream_create_output(int fd, stream_fn progress, void *opaque);
void stream_destroy(
    struct stream *stream); /* an output is written out first, blocking; NULL allowed */

extern const struct console_port_ops stream_port_ops; /* opaque: the stream */
void stream_set_port(struct stream *stream, struct console_port *port);
void stream_start(struct stream *stream);              /* input: begin to read */
uint64_t stream_bytes(const struct stream *stream);    /* read, or written out, in all */
uint64_t stream_received(const struct stream *stream); /* output: taken from the guest in all */
bool stream_failed(const struct stream *stream);       /* output: the other side is gone */

#endif
