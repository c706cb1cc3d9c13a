/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_console - what the tests of virtio/console share: a device with up to four ports, the host's
 * side of each, and a driver that posts buffers, writes, and sends control messages
 *
 * A violated expectation ends the test (g_assert).
 */
#ifndef TESTS_DEVICE_VIRTIO_CONSOLE_H
#define TESTS_DEVICE_VIRTIO_CONSOLE_H

#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/device/virtio_driver.h"
#include "virtio/console.h"

#define BIT(n)      (UINT64_C(1) << (n))
#define MULTIPORT   BIT(VIRTIO_CONSOLE_F_MULTIPORT)
#define PACKED      BIT(VIRTIO_F_RING_PACKED)
#define EVENT_IDX   BIT(VIRTIO_RING_F_EVENT_IDX)
#define BUFFER      256u
#define CONTROL_RX  2u
#define CONTROL_TX  3u
#define MAX_BUFFERS 40u

/* The host side of a port, as lodge's own handlers are. */
struct host {
    struct console_port *port;
    GByteArray *got;
    size_t limit; /* bytes it takes in all */
    unsigned writable, opened, closed;
};

struct buffer {
    uint64_t gpa;
    unsigned queue;
};

struct fixture {
    struct harness *h;
    struct virtio_device *vdev;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
    struct host hosts[4];
    unsigned ports;
    struct buffer buffers[MAX_BUFFERS];
    unsigned buffer_count;
    uint64_t out; /* for what the driver sends */
};

static inline size_t on_receive(void *opaque, const uint8_t *data, size_t size)
{
    struct host *host = opaque;
    size_t room = host->limit - MIN(host->limit, host->got->len);

    size = MIN(size, room);
    g_byte_array_append(host->got, data, size);
    return size;
}

static inline void on_writable(void *opaque)
{
    ((struct host *)opaque)->writable++;
}

static inline void on_guest_open(void *opaque, bool open)
{
    struct host *host = opaque;

    if (open)
        host->opened++;
    else
        host->closed++;
}

static const struct console_port_ops port_ops = {on_receive, on_writable, on_guest_open};

static inline void setup(struct fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options =
        options_parse(virtio_console_options, "--console", "in-order=on", &error);

    memset(f, 0, sizeof(*f));
    g_assert_no_error(error);
    f->h = harness_create(0);
    f->vdev = virtio_console_create(options, f->h->loop, &error);
    g_assert_no_error(error);
}

static inline struct host *add_port(struct fixture *f, const char *name, bool console)
{
    g_autoptr(GError) error = NULL;
    struct host *host = &f->hosts[f->ports++];

    host->got = g_byte_array_new();
    host->limit = SIZE_MAX;
    host->port = virtio_console_add_port(f->vdev, name, console, &port_ops, host, &error);
    g_assert_no_error(error);
    return host;
}

static inline void attach(struct fixture *f)
{
    g_autoptr(GError) error = NULL;

    f->vpci = virtio_pci_create(f->vdev, "console0", &f->h->env, true, &error);
    g_assert_no_error(error);
    f->driver = virtio_driver_create(f->h, f->vpci);
    f->out = harness_alloc(f->h, 65536, 64);
}

static inline void teardown(struct fixture *f)
{
    virtio_driver_destroy(f->driver);
    virtio_pci_destroy(f->vpci);
    harness_destroy(f->h);
    for (unsigned i = 0; i < f->ports; i++)
        g_byte_array_free(f->hosts[i].got, true);
}

/* Posts @count empty buffers for the guest to receive in. */
static inline void post(struct fixture *f, unsigned queue, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct buffer *buffer = &f->buffers[f->buffer_count++];
        g_assert_cmpuint(f->buffer_count, <=, MAX_BUFFERS);
        *buffer = (struct buffer){harness_alloc(f->h, BUFFER, 64), queue};
        const struct driver_buffer in = {buffer->gpa, BUFFER};
        virtio_driver_submit(f->driver, queue, NULL, 0, &in, 1, buffer);
    }
}

/* The next filled buffer of @queue, posted again: its content, or NULL. */
static inline GBytes *received(struct fixture *f, unsigned queue)
{
    uint32_t written;
    struct buffer *buffer;
    GBytes *bytes;

    harness_settle(f->h, 2);
    buffer = driver_ring_reap(virtio_driver_ring(f->driver, queue), &written);
    if (!buffer)
        return NULL;
    bytes = g_bytes_new(harness_ptr(f->h, buffer->gpa, BUFFER), written);
    const struct driver_buffer in = {buffer->gpa, BUFFER};
    virtio_driver_submit(f->driver, queue, NULL, 0, &in, 1, buffer);
    return bytes;
}

static inline void send_control(struct fixture *f, uint32_t id, uint16_t event, uint16_t value)
{
    const struct virtio_console_control message = {id, event, value};
    const struct driver_buffer out = {f->out, sizeof(message)};

    harness_write(f->h, f->out, &message, sizeof(message));
    g_assert_cmpint(virtio_driver_request(f->driver, CONTROL_TX, &out, 1, NULL, 0), ==, 0);
}

/* The next control message must be this one; returns what follows it. */
static inline GBytes *expect(struct fixture *f, uint32_t id, uint16_t event, int value)
{
    g_autoptr(GBytes) bytes = received(f, CONTROL_RX);
    struct virtio_console_control message;
    const void *data;
    gsize size;

    g_assert_nonnull(bytes);
    data = g_bytes_get_data(bytes, &size);
    g_assert_cmpuint(size, >=, sizeof(message));
    memcpy(&message, data, sizeof(message));
    g_assert_cmpuint(message.id, ==, id);
    g_assert_cmpuint(message.event, ==, event);
    if (value >= 0)
        g_assert_cmpuint(message.value, ==, value);
    return g_bytes_new_from_bytes(bytes, sizeof(message), size - sizeof(message));
}

static inline void expect_plain(struct fixture *f, uint32_t id, uint16_t event, int value)
{
    g_autoptr(GBytes) rest = expect(f, id, event, value);

    g_assert_cmpuint(g_bytes_get_size(rest), ==, 0);
}

static inline void expect_nothing(struct fixture *f)
{
    g_autoptr(GBytes) bytes = received(f, CONTROL_RX);

    g_assert_null(bytes);
}

/* Sends @text as the guest; waits until the device used it. */
static inline void guest_write(struct fixture *f, unsigned queue, const char *text)
{
    const struct driver_buffer out = {f->out + 1024, strlen(text)};

    harness_write(f->h, out.gpa, text, out.len);
    g_assert_cmpint(virtio_driver_request(f->driver, queue, &out, 1, NULL, 0), ==, 0);
}

static inline void expect_got(struct host *host, const char *text)
{
    g_assert_cmpmem(host->got->data, host->got->len, text, strlen(text));
}

static inline void expect_received(struct fixture *f, unsigned queue, const char *text)
{
    g_autoptr(GBytes) bytes = received(f, queue);
    gsize size;
    const void *data;

    g_assert_nonnull(bytes);
    data = g_bytes_get_data(bytes, &size);
    g_assert_cmpmem(data, size, text, strlen(text));
}

static inline size_t host_write(struct host *host, const char *text)
{
    return console_port_write(host->port, (const uint8_t *)text, strlen(text));
}

/* As the driver comes up: every port announced, named, opened. */
static inline void start_ports(struct fixture *f, uint64_t features)
{
    g_assert_cmpuint(virtio_driver_config(f->driver, 4, 4), ==, f->ports);
    virtio_driver_start(f->driver, features | MULTIPORT);
    f->buffer_count = 0;
    post(f, CONTROL_RX, 4);
    expect_nothing(f);
    send_control(f, UINT32_MAX, VIRTIO_CONSOLE_DEVICE_READY, 1);
    for (unsigned i = 0; i < f->ports; i++)
        expect_plain(f, i, VIRTIO_CONSOLE_PORT_ADD, -1);
    expect_nothing(f);
}

static inline void port_is_ready(struct fixture *f, unsigned id, const char *name)
{
    g_autoptr(GBytes) rest = NULL;
    gsize size;
    const void *data;

    send_control(f, id, VIRTIO_CONSOLE_PORT_READY, 1);
    if (!name) {
        expect_plain(f, id, VIRTIO_CONSOLE_CONSOLE_PORT, 1);
    } else {
        rest = expect(f, id, VIRTIO_CONSOLE_PORT_NAME, -1);
        data = g_bytes_get_data(rest, &size);
        g_assert_cmpmem(data, size, name, strlen(name));
    }
}

#endif
