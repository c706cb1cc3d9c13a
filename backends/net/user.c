/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * user - networking without privileges: NAT in this process, by libslirp
 *
 * The guest is 10.0.2.15/24 (by DHCP, or as it likes), the gateway and host 10.0.2.2, the name server
 * 10.0.2.3; IPv6 is fec0::/64. The guest's connections come out of this process's sockets; hostfwd=
 * brings the host's in. The link's MTU is large, so that a TCP stream takes few frames: a guest that
 * sends a segmentation offload has it taken as one frame, after its checksum was completed.
 *
 * libslirp runs on the loop that the device's queue is active on, as a GSource; before that, and while
 * the queue is off, connections wait.
 */
#include "config.h"

#ifdef HAVE_LIBSLIRP

#include <arpa/inet.h>
#include <errno.h>
#include <libslirp.h>
#include <string.h>

#include "backends/net/driver.h"
#include "vmm/log.h"
#include "vmm/trace.h"

#define USER_MAX_POLLFDS 4096u

TRACE_EVENT(net_user_forward, "%s", (const char *rule), rule)

struct user {
    struct net net;
    Slirp *slirp;
    struct loop *loop;
    GSource *source;
    struct net_queue incoming;
    uint8_t frame[NET_MAX_FRAME];
    bool in_slirp; /* its callbacks are running: readable is told afterwards */
    bool delivered;
    struct log_limit errors;
};

/* libslirp's sockets as a GSource: asked in prepare what it waits for, told in dispatch what happened. */
struct user_source {
    GSource source;
    struct user *user;
    GArray *pollfds; /* GPollFD; fixed places while they are added to the context */
};

static void tell_client(struct user *user)
{
    if (user->delivered && user->incoming.frames) {
        user->delivered = false;
        net_readable(&user->net, 0);
    }
}

/* ---- callbacks of libslirp ---- */

static ssize_t send_packet(const void *data, size_t length, void *opaque)
{
    struct user *user = opaque;

    if (length <= NET_MAX_FRAME && net_queue_push(&user->incoming, data, length))
        user->delivered = true;
    else
        user->net.dropped++;
    return length;
}

static void guest_error(const char *message, void *opaque)
{
    struct user *user = opaque;

    log_guest(&user->errors, "net-user", "%s", message);
}

static int64_t clock_get_ns(void *opaque)
{
    return loop_now_ns();
}

struct user_timer {
    struct user *user;
    SlirpTimerCb function;
    void *argument;
    struct loop_timer *timer;
};

static void timer_fired(void *opaque)
{
    struct user_timer *timer = opaque;

    timer->function(timer->argument);
    tell_client(timer->user);
}

static void *timer_new(SlirpTimerCb function, void *argument, void *opaque)
{
    struct user_timer *timer = g_new0(struct user_timer, 1);

    timer->user = opaque;
    timer->function = function;
    timer->argument = argument;
    timer->timer = loop_timer_create(timer->user->loop, timer_fired, timer);
    return timer;
}

static void timer_free(void *opaque_timer, void *opaque)
{
    struct user_timer *timer = opaque_timer;

    loop_timer_destroy(timer->timer);
    g_free(timer);
}

static void timer_mod(void *opaque_timer, int64_t expire_ms, void *opaque)
{
    struct user_timer *timer = opaque_timer;

    loop_timer_set(timer->timer, expire_ms * 1000000);
}

static void register_poll_fd(int fd, void *opaque)
{
}

static void notify(void *opaque)
{
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = register_poll_fd,
    .unregister_poll_fd = register_poll_fd,
    .notify = notify,
};

/* ---- its sockets ---- */

static int add_poll(int fd, int events, void *opaque)
{
    struct user_source *source = opaque;
    GPollFD pollfd = {.fd = fd};

    if (source->pollfds->len >= USER_MAX_POLLFDS)
        return -1;
    pollfd.events |= events & SLIRP_POLL_IN ? G_IO_IN : 0;
    pollfd.events |= events & SLIRP_POLL_OUT ? G_IO_OUT : 0;
    pollfd.events |= events & SLIRP_POLL_PRI ? G_IO_PRI : 0;
    pollfd.events |= events & SLIRP_POLL_ERR ? G_IO_ERR : 0;
    pollfd.events |= events & SLIRP_POLL_HUP ? G_IO_HUP : 0;
    g_array_append_val(source->pollfds, pollfd);
    return source->pollfds->len - 1;
}

static int get_revents(int index, void *opaque)
{
    struct user_source *source = opaque;
    gushort ready;
    int events = 0;

    if (index < 0 || (guint)index >= source->pollfds->len)
        return 0;
    ready = g_array_index(source->pollfds, GPollFD, index).revents;
    events |= ready & G_IO_IN ? SLIRP_POLL_IN : 0;
    events |= ready & G_IO_OUT ? SLIRP_POLL_OUT : 0;
    events |= ready & G_IO_PRI ? SLIRP_POLL_PRI : 0;
    events |= ready & G_IO_ERR ? SLIRP_POLL_ERR : 0;
    events |= ready & G_IO_HUP ? SLIRP_POLL_HUP : 0;
    return events;
}

static void remove_polls(struct user_source *source)
{
    for (guint i = 0; i < source->pollfds->len; i++)
        g_source_remove_poll(&source->source, &g_array_index(source->pollfds, GPollFD, i));
    g_array_set_size(source->pollfds, 0);
}

static gboolean source_prepare(GSource *base, gint *timeout)
{
    struct user_source *source = (struct user_source *)base;
    uint32_t wait_ms = UINT32_MAX;

    remove_polls(source);
    /* While the guest takes nothing, what its peers send stays in the host's socket buffers. */
    if (net_queue_has_room(&source->user->incoming))
        slirp_pollfds_fill(source->user->slirp, &wait_ms, add_poll, source);
    for (guint i = 0; i < source->pollfds->len; i++)
        g_source_add_poll(base, &g_array_index(source->pollfds, GPollFD, i));
    *timeout = wait_ms > G_MAXINT ? -1 : (gint)wait_ms;
    return FALSE;
}

static gboolean source_check(GSource *base)
{
    return TRUE;
}

static gboolean source_dispatch(GSource *base, GSourceFunc callback, gpointer data)
{
    struct user_source *source = (struct user_source *)base;

    slirp_pollfds_poll(source->user->slirp, 0, get_revents, source);
    tell_client(source->user);
    return G_SOURCE_CONTINUE;
}

static void source_finalize(GSource *base)
{
    g_array_free(((struct user_source *)base)->pollfds, TRUE);
}

static GSourceFuncs source_functions = {
    .prepare = source_prepare,
    .check = source_check,
    .dispatch = source_dispatch,
    .finalize = source_finalize,
};

/* ---- the backend ---- */

static ssize_t user_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    struct user *user = (struct user *)net;
    size_t size = net_iov_size(iov, count);
    struct virtio_net_hdr_v1 header;

    if (size <= NET_HEADER_SIZE || size > NET_HEADER_SIZE + NET_MAX_FRAME || !user->loop)
        return -EINVAL;
    net_iov_read(iov, count, 0, &header, sizeof(header));
    net_iov_read(iov, count, NET_HEADER_SIZE, user->frame, size - NET_HEADER_SIZE);
    if (!net_offload_checksum(&header, user->frame, size - NET_HEADER_SIZE))
        return -EINVAL;
    slirp_input(user->slirp, user->frame, size - NET_HEADER_SIZE);
    /* Its answers may have come at once. */
    tell_client(user);
    return size;
}

static ssize_t user_receive(struct net *net, unsigned queue, const struct iovec *iov,
                            unsigned count)
{
    return net_queue_pop(&((struct user *)net)->incoming, iov, count);
}

static int user_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    struct user *user = (struct user *)net;
    struct user_source *source = (struct user_source *)user->source;

    if (queue != 0)
        return 0;
    if (source) {
        remove_polls(source);
        g_source_destroy(user->source);
        g_source_unref(user->source);
        user->source = NULL;
    }
    if (!on)
        return 0;
    user->source = g_source_new(&source_functions, sizeof(struct user_source));
    source = (struct user_source *)user->source;
    source->user = user;
    source->pollfds = g_array_sized_new(FALSE, FALSE, sizeof(GPollFD), USER_MAX_POLLFDS);
    g_source_set_static_name(user->source, "libslirp");
    g_source_attach(user->source, loop_context(loop));
    user->delivered = true;
    tell_client(user);
    return 0;
}

static void user_close(struct net *net)
{
    struct user *user = (struct user *)net;

    user_set_active(net, 0, NULL, false);
    if (user->slirp)
        slirp_cleanup(user->slirp);
    net_queue_finish(&user->incoming);
    g_free(user);
}

static const struct net_ops user_ops = {
    .send = user_send,
    .receive = user_receive,
    .set_active = user_set_active,
    .close = user_close,
};

/* ---- options ---- */

static bool parse_port(const char *text, uint16_t *port)
{
    char *end;
    guint64 value = g_ascii_strtoull(text, &end, 10);

    if (end == text || *end || value < 1 || value > 65535)
        return false;
    *port = value;
    return true;
}

/* tcp|udp:[HOST-ADDRESS]:HOST-PORT-[GUEST-ADDRESS]:GUEST-PORT, as users of QEMU know it. */
static bool add_forward(struct user *user, const struct options *options, const char *rule,
                        GError **error)
{
    static const char form[] =
        "must be tcp|udp:[HOST-ADDRESS]:PORT-[GUEST-ADDRESS]:PORT, for example tcp::2222-:22";
    g_auto(GStrv) halves = g_strsplit(rule, "-", 2);
    g_auto(GStrv) host = halves[0] ? g_strsplit(halves[0], ":", 3) : NULL;
    g_auto(GStrv) guest = halves[0] && halves[1] ? g_strsplit(halves[1], ":", 2) : NULL;
    struct in_addr host_address = {.s_addr = htonl(INADDR_LOOPBACK)}, guest_address;
    uint16_t host_port, guest_port;
    bool udp;

    inet_aton("10.0.2.15", &guest_address);
    if (!guest || g_strv_length(host) != 3 || g_strv_length(guest) != 2 ||
        (strcmp(host[0], "tcp") && strcmp(host[0], "udp")) ||
        (*host[1] && !inet_aton(host[1], &host_address)) || !parse_port(host[2], &host_port) ||
        (*guest[0] && !inet_aton(guest[0], &guest_address)) || !parse_port(guest[1], &guest_port)) {
        options_set_error(error, options, "hostfwd", "'%s' %s", rule, form);
        return false;
    }
    udp = !strcmp(host[0], "udp");
    trace_net_user_forward(rule);
    if (slirp_add_hostfwd(user->slirp, udp, host_address, host_port, guest_address, guest_port)) {
        options_set_error(error, options, "hostfwd",
                          "'%s': host port %u can't be listened on: %s; choose another", rule,
                          host_port, g_strerror(errno));
        return false;
    }
    return true;
}

struct net *net_user_open(const struct options *options, struct loop *loop, GError **error)
{
    struct user *user = g_new0(struct user, 1);
    const char *const *forwards = options_list(options, "hostfwd");
    uint32_t mtu = options_uint(options, "mtu");
    SlirpConfig config = {
        .version = 4,
        .restricted = options_bool(options, "restrict"),
        .in_enabled = true,
        .in6_enabled = true,
        .vprefix_len = 64,
        .if_mtu = mtu,
        .if_mru = 65521,
        .vhostname = "lodge",
    };

    inet_aton("10.0.2.0", &config.vnetwork);
    inet_aton("255.255.255.0", &config.vnetmask);
    inet_aton("10.0.2.2", &config.vhost);
    inet_aton("10.0.2.15", &config.vdhcp_start);
    inet_aton("10.0.2.3", &config.vnameserver);
    inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &config.vhost6);
    inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
    net_init(&user->net, &user_ops, "user", 1);
    user->net.mtu = mtu;
    net_queue_init(&user->incoming);
    user->loop = loop;
    user->slirp = slirp_new(&config, &callbacks, user);
    if (!user->slirp) {
        options_set_error(error, options, "type", "libslirp did not start");
        user_close(&user->net);
        return NULL;
    }
    for (; forwards && *forwards; forwards++) {
        if (!add_forward(user, options, *forwards, error)) {
            user_close(&user->net);
            return NULL;
        }
    }
    return &user->net;
}

#else

#include "backends/net/driver.h"

struct net *net_user_open(const struct options *options, struct loop *loop, GError **error)
{
    options_set_error(error, options, "type",
                      "user needs libslirp, which this lodge was built without; install "
                      "libslirp-dev and build again, or use type=tap");
    return NULL;
}

#endif
