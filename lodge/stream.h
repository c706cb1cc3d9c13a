/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream - one of lodge's own standard streams, joined to a console port
 *
 * Our descriptors may be shared with other programs (the shell's terminal), so their flags are left
 * alone: a read or write happens only when poll says that it will not block, and writes are at most
 * PIPE_BUF bytes then. A reader that is gone (EPIPE) closes the port, which ends the guest's writer.
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

/* Input: looks at what was read, and may take bytes out; returns how many are left. */
typedef size_t (*stream_filter_fn)(void *opaque, uint8_t *data, size_t size);

/* Reads @fd into the port from stream_start on. */
struct stream *stream_create_input(int fd, stream_fn end, void *opaque);
/* Writes what the port receives to @fd. */
struct stream *stream_create_output(int fd, stream_fn progress, void *opaque);
void stream_destroy(struct stream *stream); /* NULL is allowed */
/* Output, after the last use of its port: writes what it has, unless none of it is taken for a second. */
void stream_write_out(struct stream *stream);

extern const struct console_port_ops stream_port_ops; /* opaque: the stream */
void stream_set_port(struct stream *stream, struct console_port *port);
void stream_start(struct stream *stream);           /* input: begin to read */
void stream_hold(struct stream *stream, bool held); /* input: nothing is read while it is held */
void stream_set_filter(struct stream *stream, stream_filter_fn filter, void *opaque); /* input */
uint64_t stream_bytes(const struct stream *stream);    /* for the guest, or written out, in all */
uint64_t stream_received(const struct stream *stream); /* output: taken from the guest in all */
bool stream_waits(const struct stream *stream);  /* it has bytes that the other side must take */
bool stream_failed(const struct stream *stream); /* output: the other side is gone */

#endif
