/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * char - the host side of a byte stream: terminal, pty, file, socket, null
 *
 * Used by serial ports and console ports. Output is buffered up to a bound when the other side is
 * slow, so that a guest never waits for a viewer: beyond the bound char_write takes less, and the
 * writable callback says when it goes on. Input is pushed as it comes, at most as much as the client
 * says it can take.
 *
 * Thread: the loop given at open.
 */
#ifndef BACKENDS_CHAR_CHAR_H
#define BACKENDS_CHAR_CHAR_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/loop.h"
#include "vmm/options.h"

struct chardev;

struct chardev_client_ops {
    size_t (*can_receive)(void *opaque); /* bytes the client can take now; 0 pauses input */
    void (*receive)(void *opaque, const uint8_t *data, size_t size);
    void (*writable)(void *opaque);                /* after a short char_write; may be NULL */
    void (*connected)(void *opaque, bool is_open); /* peer came or went (EOF); may be NULL */
};

/* Keys: type (stdio, pty, file, socket, null, fd), path, append, fd, server. */
extern const struct option_spec char_options[];

struct chardev *char_open(const struct options *options, struct loop *loop, GError **error);
void char_close(
    struct chardev *chardev); /* flushes what it can without blocking; restores the terminal */
void char_set_client(struct chardev *chardev, const struct chardev_client_ops *client,
                     void *opaque);
size_t char_write(struct chardev *chardev, const uint8_t *data, size_t size); /* bytes taken */
/* Told of all output that char_write takes, before it goes out (the panic report's console tail). */
void char_set_observer(struct chardev *chardev,
                       void (*observe)(void *opaque, const uint8_t *data, size_t size),
                       void *opaque);
/* can_receive may have grown: look for input again. */
void char_accept_input(struct chardev *chardev);
/* Where it can be reached ("/dev/pts/4", "unix:/run/x"), or NULL. */
const char *char_address(const struct chardev *chardev);
void char_end_output(struct chardev *chardev); /* end of stream towards the peer */

#endif
