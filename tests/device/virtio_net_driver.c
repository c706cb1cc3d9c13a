/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio_net_driver - the driver's side of virtio-net, for tests (virtio_net.h) */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/device/virtio_net.h"

#define FRAME_AREA (NET_HEADER_SIZE + NET_MAX_FRAME + 4096)

const uint8_t nettest_mac[6] = {0x52, 0x54, 0, 1, 2, 3};

void nettest_set_up(struct nettest *t, int type, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = NULL;
    g_autofree char *all = NULL;
    int pair[2] = {-1, -1};

    memset(t, 0, sizeof(*t));
    if (type) {
        int size = 4 << 20;

        g_assert_cmpint(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), ==, 0);
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    }
    t->peer = pair[0];
    t->type = type;
    all = type ? g_strdup_printf("type=%s,fd=%d,mac=52:54:00:01:02:03,%s",
                                 type == SOCK_DGRAM ? "dgram" : "stream", pair[1], text)
               : g_strdup_printf("mac=52:54:00:01:02:03,%s", text);
    if (g_str_has_suffix(all, ","))
        all[strlen(all) - 1] = '\0';
    options = options_parse(virtio_net_options, "--net", all, &error);
    g_assert_no_error(error);
    t->h = harness_create(0);
    t->vdev = virtio_net_create(options, t->h->loop, &error);
    g_assert_no_error(error);
    t->vpci = virtio_pci_create(t->vdev, "net0", &t->h->env, true, &error);
    g_assert_no_error(error);
    t->driver = virtio_driver_create(t->h, t->vpci);
    t->frame = harness_alloc(t->h, FRAME_AREA, 4096);
    t->command = harness_alloc(t->h, 65536, 4096);
    t->buffers = g_ptr_array_new_with_free_func(g_free);
}

void nettest_tear_down(struct nettest *t)
{
    virtio_driver_destroy(t->driver);
    virtio_pci_destroy(t->vpci);
    harness_destroy(t->h);
    g_ptr_array_unref(t->buffers);
    if (t->peer >= 0)
        close(t->peer);
}

struct net *nettest_backend(struct nettest *t)
{
    return virtio_net_backend(t->vdev);
}

void nettest_fill(uint8_t *frame, size_t length, const uint8_t *to, unsigned seed)
{
    static const uint8_t head[] = {0x52, 0x54, 0, 9, 9, 9, 0x88, 0xb5};

    memcpy(frame, to, 6);
    memcpy(frame + 6, head, sizeof(head));
    for (size_t i = 14; i < length; i++)
        frame[i] = seed * 17 + i * 31 + i / 251;
}

/* ---- the host's end ---- */

struct peer_wait {
    struct nettest *t;
    uint8_t *frame;
    size_t size, done;
    bool sending;
};

/* As far as it goes now: true when all of it was moved. */
static bool move_bytes(void *opaque)
{
    struct peer_wait *wait = opaque;
    uint8_t *at = wait->frame + wait->done;
    size_t left = wait->size - wait->done;
    ssize_t moved = wait->sending ? send(wait->t->peer, at, left, MSG_DONTWAIT | MSG_NOSIGNAL)
                                  : recv(wait->t->peer, at, left, MSG_DONTWAIT);

    if (moved > 0)
        wait->done += moved;
    return wait->done == wait->size || (moved >= 0 && wait->t->type == SOCK_DGRAM);
}

void nettest_peer_send(struct nettest *t, const uint8_t *frame, size_t length)
{
    g_autofree uint8_t *bytes = g_malloc(4 + length);
    size_t prefix = t->type == SOCK_STREAM ? 4 : 0;
    struct peer_wait wait = {t, bytes, prefix + length, 0, true};
    uint32_t be = GUINT32_TO_BE(length);

    memcpy(bytes, &be, prefix);
    memcpy(bytes + prefix, frame, length);
    g_assert_true(harness_wait(t->h, move_bytes, &wait, HARNESS_TIMEOUT_MS));
}

ssize_t nettest_peer_receive(struct nettest *t, uint8_t *frame, size_t size, int timeout_ms)
{
    struct peer_wait wait = {t, frame, size, 0, false};
    uint32_t be;

    if (t->type == SOCK_STREAM) {
        wait.frame = (uint8_t *)&be;
        wait.size = 4;
        if (!harness_wait(t->h, move_bytes, &wait, timeout_ms))
            return -1;
        wait = (struct peer_wait){t, frame, GUINT32_FROM_BE(be), 0, false};
        g_assert_cmpuint(wait.size, <=, size);
    }
    return harness_wait(t->h, move_bytes, &wait, timeout_ms) ? (ssize_t)wait.done : -1;
}

/* ---- receiving ---- */

unsigned nettest_post(struct nettest *t, unsigned count, uint32_t size, unsigned pieces)
{
    unsigned posted = 0;

    g_assert_cmpuint(pieces, <=, 16);
    for (; posted < count; posted++) {
        struct driver_buffer *buffer = g_new(struct driver_buffer, 1), parts[16];
        uint32_t done = 0;

        *buffer = (struct driver_buffer){harness_alloc(t->h, size, 16), size};
        g_ptr_array_add(t->buffers, buffer);
        for (unsigned i = 0; i < pieces; i++) {
            uint32_t part = i + 1 < pieces ? MIN(size / pieces + i, size - done) : size - done;

            parts[i] = (struct driver_buffer){buffer->gpa + done, part};
            done += part;
        }
        if (!driver_ring_add(virtio_driver_ring(t->driver, NETTEST_RX), NULL, 0, parts, pieces,
                             false, buffer))
            break;
    }
    if (posted)
        virtio_driver_publish(t->driver, NETTEST_RX);
    return posted;
}

struct used_wait {
    struct driver_ring *ring;
    struct driver_buffer *buffer;
    uint32_t written;
};

static bool has_used(void *opaque)
{
    struct used_wait *wait = opaque;

    wait->buffer = driver_ring_reap(wait->ring, &wait->written);
    return wait->buffer != NULL;
}

ssize_t nettest_receive(struct nettest *t, uint8_t *frame, size_t size, int timeout_ms)
{
    struct used_wait wait = {.ring = virtio_driver_ring(t->driver, NETTEST_RX)};
    size_t length = 0;
    unsigned buffers;

    if (!harness_wait(t->h, has_used, &wait, timeout_ms))
        return -1;
    g_assert_cmpuint(wait.written, >=, NET_HEADER_SIZE);
    harness_read(t->h, wait.buffer->gpa, &t->header, NET_HEADER_SIZE);
    buffers = GUINT16_FROM_LE(t->header.num_buffers);
    g_assert_cmpuint(buffers, >, 0);
    for (unsigned i = 0; i < buffers; i++) {
        unsigned skip = i ? 0 : NET_HEADER_SIZE;

        /* All buffers of a frame are made used at once, each but the last is filled. */
        if (i)
            g_assert_true(has_used(&wait));
        if (i + 1 < buffers)
            g_assert_cmpuint(wait.written, ==, wait.buffer->len);
        g_assert_cmpuint(wait.written, <=, wait.buffer->len);
        g_assert_cmpuint(length + wait.written - skip, <=, size);
        harness_read(t->h, wait.buffer->gpa + skip, frame + length, wait.written - skip);
        length += wait.written - skip;
    }
    return length;
}

void nettest_expect(struct nettest *t, const uint8_t *frame, size_t length)
{
    g_autofree uint8_t *got = g_malloc(NET_MAX_FRAME);
    ssize_t got_length = nettest_receive(t, got, NET_MAX_FRAME, HARNESS_TIMEOUT_MS);

    g_assert_cmpint(got_length, >=, 0);
    g_assert_cmpmem(got, got_length, frame, length);
}

void nettest_expect_nothing(struct nettest *t)
{
    uint8_t frame[64];

    harness_settle(t->h, 20);
    g_assert_cmpint(nettest_receive(t, frame, sizeof(frame), 1), ==, -1);
}

/* ---- sending ---- */

void nettest_send(struct nettest *t, const struct virtio_net_hdr_v1 *header, const uint8_t *frame,
                  size_t length, unsigned pieces)
{
    static const struct virtio_net_hdr_v1 zero;
    struct driver_buffer parts[16];
    size_t size = NET_HEADER_SIZE + length, done = 0;

    g_assert_cmpuint(pieces, <=, 16);
    g_assert_cmpuint(size, <=, FRAME_AREA);
    harness_write(t->h, t->frame, header ? header : &zero, NET_HEADER_SIZE);
    if (length)
        harness_write(t->h, t->frame + NET_HEADER_SIZE, frame, length);
    for (unsigned i = 0; i < pieces; i++) {
        size_t part = i + 1 < pieces ? MIN(5 + i * 7, size - done) : size - done;

        parts[i] = (struct driver_buffer){t->frame + done, part};
        done += part;
    }
    g_assert_cmpint(virtio_driver_request(t->driver, NETTEST_TX, parts, pieces, NULL, 0), ==, 0);
}

void nettest_echo(struct nettest *t, size_t length, unsigned pieces)
{
    g_autofree uint8_t *frame = g_malloc(NET_MAX_FRAME), *got = g_malloc(NET_MAX_FRAME);
    ssize_t got_length;

    nettest_fill(frame, length, (const uint8_t *)"\x02\x02\x02\x02\x02\x02", length);
    nettest_send(t, NULL, frame, length, pieces);
    got_length = nettest_peer_receive(t, got, NET_MAX_FRAME, HARNESS_TIMEOUT_MS);
    g_assert_cmpint(got_length, >=, 0);
    g_assert_cmpmem(got, got_length, frame, length);
}

/* ---- commands ---- */

static unsigned control_queue(struct nettest *t)
{
    return t->driver->features & NETTEST_BIT(VIRTIO_NET_F_MQ) ? t->driver->queue_count - 1
                                                              : NETTEST_CTRL;
}

uint8_t nettest_command(struct nettest *t, unsigned class, unsigned command, const void *data,
                        size_t size)
{
    uint64_t ack = t->command + 65535;
    struct driver_buffer out[2] = {{t->command, 2}, {t->command + 2, size}};
    struct driver_buffer in = {ack, 1};

    harness_store(t->h, t->command, 1, class);
    harness_store(t->h, t->command + 1, 1, command);
    harness_store(t->h, ack, 1, 0xee);
    if (size)
        harness_write(t->h, t->command + 2, data, size);
    g_assert_cmpint(virtio_driver_request(t->driver, control_queue(t), out, size ? 2 : 1, &in, 1),
                    ==, 1);
    return harness_load(t->h, ack, 1);
}
