/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fake_console - a console's ports without a guest, and a machine that only notes its end
 *
 * Stands in for virtio/console and lodge/machine under lodge/command: the test is the guest.
 */
#ifndef TESTS_SUPPORT_FAKE_CONSOLE_H
#define TESTS_SUPPORT_FAKE_CONSOLE_H

#include "lodge/command.h"
#include "virtio/console.h"

#define FAKE_PORTS 4

struct console_port {
    char *name;
    const struct console_port_ops *ops;
    void *opaque;
    GByteArray *to_guest;
    size_t room; /* bytes that the guest still takes */
    bool open;
    unsigned resumed;
};

struct fake_console {
    struct console_port ports[FAKE_PORTS];
    unsigned count;
    /* machine_request() */
    unsigned requests;
    enum shutdown_reason reason;
    int status;
    char *detail;
};

extern struct fake_console fake_console;

void fake_console_reset(void);
struct console_port *fake_port(const char *name); /* NULL: there is none */
/* The guest writes; returns what was taken. */
size_t fake_port_send(struct console_port *port, const void *data, size_t size);
/* The guest has room for @size more bytes. */
void fake_port_give_room(struct console_port *port, size_t size);

#endif
