/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * console - virtio console with ports (virtio 1.3, 5.3): device id 3, stock virtio_console driver
 *
 * Port 0 may be a console (hvc0); others are byte streams that the guest finds by name
 * (/sys/class/virtio-ports). Each port has a host side: callbacks (struct console_port_ops), or a
 * chardev behind them (virtio_console_attach_char). Flow control goes both ways: what the host side
 * does not take stays in the queue, and what the guest has no buffers for stays with the host side.
 *
 * Thread: the loop given at creation, for everything here; the console belongs on the main loop.
 */
#ifndef VIRTIO_CONSOLE_H
#define VIRTIO_CONSOLE_H

#include "backends/char/char.h"
#include "virtio/device.h"

#define VIRTIO_CONSOLE_MAX_PORTS 31u

struct console_port;

struct console_port_ops {
    /* Bytes from the guest; returns how many were taken. Less than @size stops the port's queue until
     * console_port_resume. */
    size_t (*receive)(void *opaque, const uint8_t *data, size_t size);
    /* The guest has room again after a short console_port_write. */
    void (*writable)(void *opaque);
    /* The guest opened or closed its side. */
    void (*guest_open)(void *opaque, bool open);
};

extern const struct option_spec virtio_console_options[];

struct virtio_device *virtio_console_create(const struct options *options, struct loop *loop,
                                            GError **error);

/*
 * Adds a port, before the guest starts. @name NULL and @console true: port 0, an hvc console. NULL
 * with @error set when there are too many. The port belongs to the device.
 */
struct console_port *virtio_console_add_port(struct virtio_device *vdev, const char *name,
                                             bool console, const struct console_port_ops *ops,
                                             void *opaque, GError **error);
/* Connects the port to a chardev (owned by the port from then on). */
void virtio_console_attach_char(struct console_port *port, struct chardev *chardev);

/* Bytes for the guest: returns how many went into its buffers (0: none posted, or port closed). */
size_t console_port_write(struct console_port *port, const uint8_t *data, size_t size);
void console_port_resume(struct console_port *port); /* receive can take more */
/* The host side's open state (VIRTIO_CONSOLE_PORT_OPEN); false is the guest's end of file. */
void console_port_set_open(struct console_port *port, bool open);
bool console_port_guest_is_open(const struct console_port *port);
void virtio_console_resize(struct virtio_device *vdev, uint16_t columns, uint16_t rows);

#endif
