/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net - opening by options, and what all implementations share (backends/net/net.h) */
#include "backends/net/net.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "backends/net/driver.h"
#include "vmm/iov.h"
#include "vmm/log.h"
#include "vmm/trace.h"

TRACE_EVENT(net_send, "%s queue=%u bytes=%zd",
            (const char *implementation, unsigned queue, ssize_t bytes), implementation, queue,
            bytes)
TRACE_EVENT(net_receive, "%s queue=%u bytes=%zd",
            (const char *implementation, unsigned queue, ssize_t bytes), implementation, queue,
            bytes)
TRACE_EVENT(net_link, "%s up=%d", (const char *implementation, bool up), implementation, up)

/* ---- opening ---- */

static const struct {
    const char *type;
    struct net *(*open)(const struct options *options, struct loop *loop, GError **error);
} types[] = {
    {"user", net_user_open},   {"tap", net_tap_open},   {"stream", net_stream_open},
    {"dgram", net_dgram_open}, {"null", net_null_open},
};

/* Which types a key means something to; the others are for all. */
static const struct {
    const char *key;
    const char *types[4];
} belongs[] = {
    {"ifname", {"tap"}},           {"fd", {"tap", "stream", "dgram"}},
    {"path", {"stream", "dgram"}}, {"local", {"dgram"}},
    {"server", {"stream"}},        {"hostfwd", {"user"}},
    {"restrict", {"user"}},        {"mtu", {"user", "stream", "dgram"}},
    {"queues", {"tap", "null"}},
};

static bool check_keys(const struct options *options, const char *type, GError **error)
{
    static const char *const with_fd[] = {"ifname", "path", "local", "server", "queues"};

    for (unsigned i = 0; i < G_N_ELEMENTS(belongs); i++) {
        g_autofree char *list = g_strjoinv(", type=", (char **)belongs[i].types);

        if (options_given(options, belongs[i].key) && !g_strv_contains(belongs[i].types, type)) {
            options_set_error(error, options, belongs[i].key, "is for type=%s, not for type=%s",
                              list, type);
            return false;
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(with_fd) && options_given(options, "fd"); i++) {
        if (options_given(options, with_fd[i])) {
            options_set_error(error, options, with_fd[i],
                              "does not go with fd=, which is open already; leave one out");
            return false;
        }
    }
    return true;
}

/* libslirp writes to sockets, pcap to FIFOs whose other end may be closed. */
static void ignore_sigpipe(void)
{
    struct sigaction action;

    if (!sigaction(SIGPIPE, NULL, &action) && action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

struct net *net_open(const struct options *options, struct loop *loop, GError **error)
{
    const char *type = options_string(options, "type");
    struct net *net = NULL;

    if (!check_keys(options, type, error))
        return NULL;
    ignore_sigpipe();
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++)
        if (!strcmp(types[i].type, type))
            net = types[i].open(options, loop, error);
    if (net && options_given(options, "mtu"))
        net->mtu = options_uint(options, "mtu");
    if (net && options_given(options, "pcap"))
        net = net_pcap_open(net, options, error);
    return net;
}

void net_close(struct net *net)
{
    if (net)
        net->ops->close(net);
}

void net_init(struct net *net, const struct net_ops *ops, const char *implementation,
              unsigned queues)
{
    net->ops = ops;
    net->implementation = implementation;
    net->queues = queues;
    net->link_up = true;
}

/* ---- what frontends call ---- */

void net_set_client(struct net *net, const struct net_client_ops *client, void *opaque)
{
    net->client = client;
    net->client_opaque = opaque;
}

int net_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    return net->ops->set_active(net, queue, loop, on);
}

int net_set_offloads(struct net *net, const struct net_offloads *receive)
{
    int ret = net->ops->set_offloads ? net->ops->set_offloads(net, receive) : 0;

    if (!ret)
        net->receive = *receive;
    return ret;
}

void net_set_receiving(struct net *net, unsigned queue, bool on)
{
    if (net->ops->set_receiving)
        net->ops->set_receiving(net, queue, on);
}

int net_set_used(struct net *net, unsigned queue, bool used)
{
    return net->ops->set_used ? net->ops->set_used(net, queue, used) : 0;
}

void net_set_link(struct net *net, bool up)
{
    if (net->link_up == up)
        return;
    net->link_up = up;
    trace_net_link(net->implementation, up);
    if (net->client)
        net->client->link_changed(net->client_opaque, up);
}

ssize_t net_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    ssize_t sent = net->ops->send(net, queue, iov, count);

    trace_net_send(net->implementation, queue, sent);
    if (sent > 0) {
        net->tx_frames++;
        net->tx_bytes += sent - NET_HEADER_SIZE;
    } else if (sent != -EAGAIN) {
        net->dropped++;
    }
    return sent;
}

ssize_t net_receive(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    ssize_t got = net->ops->receive(net, queue, iov, count);

    trace_net_receive(net->implementation, queue, got);
    if (got > 0) {
        net->rx_frames++;
        net->rx_bytes += got - NET_HEADER_SIZE;
    } else if (got < 0) {
        net->dropped++;
    }
    return got;
}

void net_announce(struct net *net, const uint8_t mac[6])
{
    static const uint8_t request[] = {
        0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x03, /* Ethernet, IPv4, "request reverse" */
    };
    uint8_t frame[NET_HEADER_SIZE + 60] = {0}; /* the least that goes over a wire */
    uint8_t *at = frame + NET_HEADER_SIZE;
    struct iovec iov = {frame, sizeof(frame)};

    memset(at, 0xff, 6);
    memcpy(at + 6, mac, 6);
    at[12] = 0x80, at[13] = 0x35;
    memcpy(at + 14, request, sizeof(request));
    memcpy(at + 22, mac, 6); /* the sender's addresses, then the target's: the same, and no IPv4 */
    memcpy(at + 32, mac, 6);
    net_send(net, 0, &iov, 1);
}

/* ---- saved state: the implementation's name (a length before it), then what it has ---- */

void net_save(struct net *net, GByteArray *out)
{
    uint8_t length = strlen(net->implementation);

    g_byte_array_append(out, &length, 1);
    g_byte_array_append(out, (const uint8_t *)net->implementation, length);
    if (net->ops->save)
        net->ops->save(net, out);
}

bool net_load(struct net *net, const uint8_t *data, size_t size, GError **error)
{
    size_t length = strlen(net->implementation);
    size_t name = size ? data[0] : 0;

    if (size < 1 + name) {
        g_set_error(error, OPTIONS_ERROR, 0, "%s: the backend's saved state is cut off",
                    net->implementation);
        return false;
    }
    if (name != length || memcmp(data + 1, net->implementation, length)) {
        log_info("net", "what the guest was connected to was of another type: not %s",
                 net->implementation);
        return true;
    }
    return !net->ops->load || net->ops->load(net, data + 1 + name, size - 1 - name, error);
}

/* ---- null: takes everything, has nothing ---- */

static ssize_t null_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    return iov_size(iov, count);
}

static ssize_t null_receive(struct net *net, unsigned queue, const struct iovec *iov,
                            unsigned count)
{
    return 0;
}

static int null_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    return 0;
}

static void null_close(struct net *net)
{
    g_free(net);
}

static const struct net_ops null_ops = {
    .send = null_send,
    .receive = null_receive,
    .set_active = null_set_active,
    .close = null_close,
};

struct net *net_null_open(const struct options *options, struct loop *loop, GError **error)
{
    struct net *net = g_new0(struct net, 1);

    net_init(net, &null_ops, "null", options_uint(options, "queues"));
    return net;
}
