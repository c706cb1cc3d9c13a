/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * char - the host side of a byte stream: terminal, pty, file, socket, null
 *
 * Used by serial ports and console ports. Output is buffered up to a bound when the other side is
 * slow, so that a guest never waits for a viewer: beyond the bound char_write takes less, and the
 * writable callback says when it goes on; while nobody is connected, output is dropped. Input is pushed
 * as it comes, at most as much as the client says it can take.
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
    void (*writable)(void *opaque); /* after a short char_write; may be NULL */
    /* A peer came, or nobody is there any more in either direction; may be NULL. A client that is set
     * while there is one is told at once. */
    void (*connected)(void *opaque, bool is_open);
};

/* Keys: type (stdio, pty, file, socket, null, fd), path, append, fd, server. */
extern const struct option_spec char_options[];

/* Ignores SIGPIPE in this process, unless it is handled. */
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
/*
 * Ctrl-A on a terminal (type stdio) is the monitor's, as users of QEMU and kvmtool know it: Ctrl-A h
 * prints help, Ctrl-A x quits, Ctrl-A Ctrl-A sends one to the guest. @escape is called with any other
 * key, and with 'x'; it returns whether it knew it. Without one, Ctrl-A x sends this process SIGTERM.
 * Works while the guest takes no input. @escape must not close the chardev.
 */
void char_set_escape(struct chardev *chardev, bool (*escape)(void *opaque, char key), void *opaque);
/* Waits until all output is out, for the way out of the program: false after @timeout_ms. */
bool char_flush(struct chardev *chardev, unsigned timeout_ms);
/* can_receive may have grown: look for input again. */
void char_accept_input(struct chardev *chardev);
/* Where it can be reached ("/dev/pts/4", "unix:/run/x"), or NULL. */
const char *char_address(const struct chardev *chardev);
void char_end_output(struct chardev *chardev); /* end of stream towards the peer */

#endif
