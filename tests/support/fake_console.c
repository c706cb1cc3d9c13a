/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fake_console - ports without a guest (fake_console.h) */
#include "tests/support/fake_console.h"

#include <string.h>

struct fake_console fake_console;

void fake_console_reset(void)
{
    for (unsigned i = 0; i < fake_console.count; i++) {
        g_free(fake_console.ports[i].name);
        g_byte_array_unref(fake_console.ports[i].to_guest);
    }
    g_free(fake_console.detail);
    memset(&fake_console, 0, sizeof(fake_console));
}

struct console_port *fake_port(const char *name)
{
    for (unsigned i = 0; i < fake_console.count; i++)
        if (!strcmp(fake_console.ports[i].name, name))
            return &fake_console.ports[i];
    return NULL;
}

size_t fake_port_send(struct console_port *port, const void *data, size_t size)
{
    return port->ops->receive(port->opaque, data, size);
}

void fake_port_give_room(struct console_port *port, size_t size)
{
    port->room += size;
    if (port->ops->writable)
        port->ops->writable(port->opaque);
}

struct console_port *virtio_console_add_port(struct virtio_device *vdev, const char *name,
                                             bool console, const struct console_port_ops *ops,
                                             void *opaque, GError **error)
{
    struct console_port *port = &fake_console.ports[fake_console.count++];

    g_assert_cmpuint(fake_console.count, <=, FAKE_PORTS);
    *port = (struct console_port){
        .name = g_strdup(name), .ops = ops, .opaque = opaque, .to_guest = g_byte_array_new()};
    return port;
}

size_t console_port_write(struct console_port *port, const uint8_t *data, size_t size)
{
    size_t taken = MIN(size, port->room);

    g_byte_array_append(port->to_guest, data, taken);
    port->room -= taken;
    return taken;
}

void console_port_resume(struct console_port *port)
{
    port->resumed++;
}

void console_port_set_open(struct console_port *port, bool open)
{
    port->open = open;
}

void machine_request(struct machine *machine, enum shutdown_reason reason, int status,
                     const char *detail)
{
    if (fake_console.requests++)
        return;
    fake_console.reason = reason;
    fake_console.status = status;
    fake_console.detail = g_strdup(detail);
}
