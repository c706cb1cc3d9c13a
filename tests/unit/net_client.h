/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net_client - a frontend for tests of network backends: keeps the frames it gets, counts what it is
 * told; asserts that all goes well
 */
#ifndef TESTS_UNIT_NET_CLIENT_H
#define TESTS_UNIT_NET_CLIENT_H

#include <string.h>
#include <unistd.h>

#include "backends/net/net.h"

#define NET_PATIENT 5000 /* ms; of a wait that should succeed */

struct client {
    struct net *net;
    bool taking;                     /* false: it has no room */
    size_t room;                     /* bytes of its buffer */
    GPtrArray *frames;               /* of GBytes, without the header */
    struct virtio_net_hdr_v1 header; /* of the last */
    unsigned readable, writable, ups, downs;
};

static inline void client_take(struct client *client, unsigned queue)
{
    static uint8_t buffer[NET_HEADER_SIZE + NET_MAX_FRAME];

    while (client->taking) {
        /* In pieces, as a guest's buffers are. */
        size_t first = MIN(client->room, 20), rest = client->room - first;
        struct iovec iov[2] = {{buffer, first}, {buffer + first, rest}};
        ssize_t got = net_receive(client->net, queue, iov, rest ? 2 : 1);

        if (got == 0)
            break;
        if (got < 0)
            continue;
        g_assert_cmpint(got, >=, NET_HEADER_SIZE);
        memcpy(&client->header, buffer, NET_HEADER_SIZE);
        g_ptr_array_add(client->frames,
                        g_bytes_new(buffer + NET_HEADER_SIZE, got - NET_HEADER_SIZE));
    }
    net_set_receiving(client->net, queue, client->taking);
}

static inline void client_readable(void *opaque, unsigned queue)
{
    struct client *client = opaque;

    client->readable++;
    client_take(client, queue);
}

static inline void client_writable(void *opaque, unsigned queue)
{
    ((struct client *)opaque)->writable++;
}

static inline void client_link_changed(void *opaque, bool up)
{
    struct client *client = opaque;

    g_assert_cmpint(client->net->link_up, ==, up);
    client->ups += up;
    client->downs += !up;
}

static const struct net_client_ops client_ops = {client_readable, client_writable,
                                                 client_link_changed};

/* A backend by options, which must open; active at once. */
static inline struct client *client_open(const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(net_options, "--net", text, &error);
    struct client *client = g_new0(struct client, 1);

    g_assert_no_error(error);
    client->net = net_open(options, loop_main(), &error);
    g_assert_no_error(error);
    client->taking = true;
    client->room = NET_HEADER_SIZE + NET_MAX_FRAME;
    client->frames = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    net_set_client(client->net, &client_ops, client);
    for (unsigned i = 0; i < client->net->queues; i++)
        g_assert_cmpint(net_set_active(client->net, i, loop_main(), true), ==, 0);
    return client;
}

static inline void client_active(struct client *client, bool on)
{
    net_set_active(client->net, 0, loop_main(), on);
    if (on)
        client_take(client, 0);
}

static inline void client_close(struct client *client)
{
    net_close(client->net);
    g_ptr_array_unref(client->frames);
    g_free(client);
}

/* Opening must fail with exactly this message. */
static inline void client_refused(const char *text, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(net_options, "--net", text, &error);

    if (options)
        g_assert_null(net_open(options, loop_main(), &error));
    g_assert_nonnull(error);
    g_assert_cmpstr(error->message, ==, message);
}

/* Sends a frame behind @header (NULL: zeroes); what net_send returned. */
static inline ssize_t client_send_as(struct client *client, const struct virtio_net_hdr_v1 *header,
                                     const void *frame, size_t length)
{
    static const struct virtio_net_hdr_v1 zero;
    size_t first = MIN(length, 9);
    struct iovec iov[3] = {
        {(void *)(header ? header : &zero), NET_HEADER_SIZE},
        {(void *)frame, first},
        {(uint8_t *)frame + first, length - first},
    };

    return net_send(client->net, 0, iov, 3);
}

static inline void client_send(struct client *client, const void *frame, size_t length)
{
    g_assert_cmpint(client_send_as(client, NULL, frame, length), ==, NET_HEADER_SIZE + length);
}

static inline void fill_frame(uint8_t *frame, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        frame[i] = seed * 17 + i * 31 + i / 251;
}

/* ---- waiting ---- */

static inline void turn_for(int ms)
{
    gint64 end = g_get_monotonic_time() + ms * 1000;

    do {
        if (!loop_iterate(loop_main(), false))
            g_usleep(200);
    } while (g_get_monotonic_time() < end);
}

/* How often the loop has something to do in 100 ms: few times, unless something spins. */
static inline unsigned count_turns(void)
{
    gint64 end = g_get_monotonic_time() + 100000;
    unsigned turns = 0;

    for (; g_get_monotonic_time() < end; g_usleep(100))
        turns += loop_iterate(loop_main(), false);
    return turns;
}

/* Until the condition holds; false after NET_PATIENT ms. */
#define wait_until(CONDITION)                                                                      \
    ({                                                                                             \
        gint64 wait_end = g_get_monotonic_time() + NET_PATIENT * 1000;                             \
        bool wait_met;                                                                             \
        while (!(wait_met = (CONDITION)) && g_get_monotonic_time() < wait_end)                     \
            if (!loop_iterate(loop_main(), false))                                                 \
                g_usleep(200);                                                                     \
        wait_met;                                                                                  \
    })

/* The oldest frame, which must come: taken off the list. */
static inline GBytes *client_next(struct client *client)
{
    GBytes *frame;

    g_assert_true(wait_until(client->frames->len));
    frame = g_bytes_ref(g_ptr_array_index(client->frames, 0));
    g_ptr_array_remove_index(client->frames, 0);
    return frame;
}

static inline void client_expect(struct client *client, const void *frame, size_t length)
{
    g_autoptr(GBytes) got = client_next(client);

    g_assert_cmpmem(g_bytes_get_data(got, NULL), g_bytes_get_size(got), frame, length);
}

static inline void client_expect_nothing(struct client *client)
{
    turn_for(20);
    g_assert_cmpuint(client->frames->len, ==, 0);
}

#endif
