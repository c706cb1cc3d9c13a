/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * user - networking without privileges: NAT in this process, by libslirp
 *
 * The guest is 10.0.2.15/24 (by DHCP, or as it likes), the gateway and host 10.0.2.2, the name server
 * 10.0.2.3; IPv6 is fec0::/64. The guest's connections come out of this process's sockets; hostfwd=
 * brings the host's in. The link's MTU is large, so that a TCP stream takes few frames: a guest that
 * sends a segmentation offload has it taken as one frame, after its checksum was completed. libslirp
 * computes the checksums of what it sends, so a guest that can be told need not check them.
 *
 * libslirp's sockets are a GSource of the loop that the device's queue is active on. While the queue is
 * off nothing of libslirp runs, timers included: connections wait in the kernel.
 *
 * A descriptor stays in the loop's poll set, asking for nothing, while libslirp does not want it: it
 * changes its mind with every frame, and changing the set costs more than polling for one too many. It
 * leaves the set when it is closed, or has an error or a hang-up to tell that nobody wants to know.
 *
 * Saved state: DHCP leases and frames that wait for the guest. Connections are this process's sockets,
 * which can't be saved; the guest's next segment of one is answered by a reset.
 */
#include "config.h"

#ifdef HAVE_LIBSLIRP

#include <arpa/inet.h>
#include <errno.h>
#include <libslirp.h>
#include <string.h>

#include "backends/net/driver.h"
#include "vmm/log.h"
#include "vmm/state.h"
#include "vmm/trace.h"

#define USER_MTU       16384u /* larger frames fill the socket buffers with too few of them */
#define USER_MAX_STATE 4096u  /* bytes of libslirp's own state */

TRACE_EVENT(net_user_forward, "%s", (const char *rule), rule)
TRACE_EVENT(net_user_poll, "sockets=%u ready=%u", (unsigned sockets, unsigned ready), sockets,
            ready)

struct user_timer {
    struct user *user;
    SlirpTimerCb function;
    void *argument;
    int64_t deadline_ns;      /* -1: not set */
    struct loop_timer *timer; /* while the queue is active */
    struct user_timer *next;
};

struct user {
    struct net net;
    Slirp *slirp;
    struct loop *loop; /* while the queue is active */
    struct user_source *source;
    struct user_timer *timers;
    struct net_queue incoming;
    uint8_t frame[NET_MAX_FRAME];
    bool delivered; /* since the client was told */
    struct log_limit errors;
    /* Only while it is being saved or loaded: */
    uint32_t slirp_version;
    GByteArray *slirp_state, *frames;
};

/* A socket of libslirp in the poll set. */
struct user_fd {
    GPollFD poll; /* where the context's poll set points to */
    unsigned wanted;
    unsigned round; /* of the last fill that wanted it */
};

struct user_source {
    GSource source; /* first: GLib allocates and frees it */
    struct user *user;
    GPtrArray *fds;    /* of struct user_fd */
    GPtrArray *by_fd;  /* the same, by descriptor, with holes */
    bool changed;      /* libslirp must be asked again what it waits for */
    bool poll_at_once; /* it has something to do */
    unsigned round;
    int64_t due_ns; /* when it wants to be called in any case */
};

static void tell_client(struct user *user)
{
    if (user->delivered && user->incoming.frames) {
        user->delivered = false;
        net_readable(&user->net, 0);
    }
}

/* ---- the poll set ---- */

static struct user_fd *find_fd(struct user_source *source, int fd)
{
    return fd >= 0 && (guint)fd < source->by_fd->len ? g_ptr_array_index(source->by_fd, fd) : NULL;
}

static void drop_fd(struct user_source *source, struct user_fd *entry)
{
    g_source_remove_poll(&source->source, &entry->poll);
    g_ptr_array_index(source->by_fd, entry->poll.fd) = NULL;
    g_ptr_array_remove_fast(source->fds, entry); /* frees it */
}

static struct user_fd *add_fd(struct user_source *source, int fd)
{
    struct user_fd *entry = g_new0(struct user_fd, 1);

    entry->poll.fd = fd;
    if ((guint)fd >= source->by_fd->len)
        g_ptr_array_set_size(source->by_fd, fd + 1);
    g_ptr_array_index(source->by_fd, fd) = entry;
    g_ptr_array_add(source->fds, entry);
    g_source_add_poll(&source->source, &entry->poll);
    return entry;
}

static int add_poll(int fd, int events, void *opaque)
{
    struct user_source *source = opaque;
    struct user_fd *entry = find_fd(source, fd);

    if (!entry)
        entry = add_fd(source, fd);
    entry->wanted = (events & SLIRP_POLL_IN ? G_IO_IN : 0) |
                    (events & SLIRP_POLL_OUT ? G_IO_OUT : 0) |
                    (events & SLIRP_POLL_PRI ? G_IO_PRI : 0);
    entry->poll.events = entry->wanted;
    entry->round = source->round;
    return fd;
}

/* Asks libslirp what it waits for. While there is no room for what it would bring, for nothing. */
static void fill(struct user_source *source)
{
    uint32_t wait_ms = UINT32_MAX;

    source->changed = false;
    source->round++;
    if (net_queue_has_room(&source->user->incoming))
        slirp_pollfds_fill(source->user->slirp, &wait_ms, add_poll, source);
    source->due_ns = loop_now_ns() + wait_ms * INT64_C(1000000);
    for (guint i = 0; i < source->fds->len; i++) {
        struct user_fd *entry = g_ptr_array_index(source->fds, i);

        if (entry->round != source->round)
            entry->wanted = entry->poll.events = 0;
    }
}

static gboolean source_prepare(GSource *base, gint *timeout)
{
    struct user_source *source = (struct user_source *)base;
    int64_t left;

    if (source->changed)
        fill(source);
    left = source->poll_at_once ? 0 : source->due_ns - loop_now_ns();
    *timeout = left <= 0 ? 0 : (gint)MIN((left + 999999) / 1000000, G_MAXINT);
    return left <= 0;
}

static bool is_ready(const struct user_fd *entry)
{
    return entry->poll.revents & (entry->wanted | G_IO_ERR | G_IO_HUP | G_IO_NVAL);
}

static gboolean source_check(GSource *base)
{
    struct user_source *source = (struct user_source *)base;

    for (guint i = 0; i < source->fds->len; i++)
        if (is_ready(g_ptr_array_index(source->fds, i)))
            return TRUE;
    return loop_now_ns() >= source->due_ns;
}

static int get_revents(int fd, void *opaque)
{
    struct user_fd *entry = find_fd(opaque, fd);
    unsigned ready = entry ? entry->poll.revents & (entry->wanted | G_IO_ERR | G_IO_HUP) : 0;
    int events = 0;

    events |= ready & G_IO_IN ? SLIRP_POLL_IN : 0;
    events |= ready & G_IO_OUT ? SLIRP_POLL_OUT : 0;
    events |= ready & G_IO_PRI ? SLIRP_POLL_PRI : 0;
    events |= ready & G_IO_ERR ? SLIRP_POLL_ERR : 0;
    events |= ready & G_IO_HUP ? SLIRP_POLL_HUP : 0;
    return events;
}

static gboolean source_dispatch(GSource *base, GSourceFunc callback, gpointer data)
{
    struct user_source *source = (struct user_source *)base;
    unsigned ready = 0;

    for (guint i = source->fds->len; i-- > 0;) {
        struct user_fd *entry = g_ptr_array_index(source->fds, i);

        ready += is_ready(entry);
        /* It would be told again and again, and nobody asked. */
        if (!entry->wanted && is_ready(entry))
            drop_fd(source, entry);
    }
    trace_net_user_poll(source->fds->len, ready);
    source->poll_at_once = false;
    slirp_pollfds_poll(source->user->slirp, 0, get_revents, source);
    source->changed = true;
    tell_client(source->user);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_functions = {
    .prepare = source_prepare,
    .check = source_check,
    .dispatch = source_dispatch,
};

static void source_create(struct user *user, struct loop *loop)
{
    struct user_source *source =
        (struct user_source *)g_source_new(&source_functions, sizeof(struct user_source));

    source->user = user;
    source->changed = true;
    source->fds = g_ptr_array_new_with_free_func(g_free);
    source->by_fd = g_ptr_array_new();
    g_source_set_static_name(&source->source, "libslirp");
    g_source_attach(&source->source, loop_context(loop));
    user->source = source;
}

static void source_destroy(struct user *user)
{
    struct user_source *source = g_steal_pointer(&user->source);

    if (!source)
        return;
    while (source->fds->len)
        drop_fd(source, g_ptr_array_index(source->fds, 0));
    g_ptr_array_unref(source->fds);
    g_ptr_array_unref(source->by_fd);
    g_source_destroy(&source->source);
    g_source_unref(&source->source);
}

/* ---- callbacks of libslirp ---- */

static ssize_t send_packet(const void *data, size_t length, void *opaque)
{
    struct user *user = opaque;

    if (net_queue_push(&user->incoming, data, length))
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

static void timer_fired(void *opaque)
{
    struct user_timer *timer = opaque;
    struct user *user = timer->user;

    timer->deadline_ns = -1;
    timer->function(timer->argument);
    tell_client(user);
}

static void timer_start(struct user_timer *timer)
{
    if (!timer->timer && timer->user->loop)
        timer->timer = loop_timer_create(timer->user->loop, timer_fired, timer);
    if (timer->timer && timer->deadline_ns >= 0)
        loop_timer_set(timer->timer, timer->deadline_ns);
}

static void *timer_new(SlirpTimerCb function, void *argument, void *opaque)
{
    struct user_timer *timer = g_new0(struct user_timer, 1);

    timer->user = opaque;
    timer->function = function;
    timer->argument = argument;
    timer->deadline_ns = -1;
    timer->next = timer->user->timers;
    timer->user->timers = timer;
    timer_start(timer);
    return timer;
}

static void timer_free(void *opaque_timer, void *opaque)
{
    struct user_timer *timer = opaque_timer, **link = &timer->user->timers;

    while (*link != timer)
        link = &(*link)->next;
    *link = timer->next;
    loop_timer_destroy(timer->timer);
    g_free(timer);
}

static void timer_mod(void *opaque_timer, int64_t expire_ms, void *opaque)
{
    struct user_timer *timer = opaque_timer;

    timer->deadline_ns = expire_ms * 1000000;
    timer_start(timer);
}

static void register_poll_fd(int fd, void *opaque)
{
}

static void unregister_poll_fd(int fd, void *opaque)
{
    struct user *user = opaque;
    struct user_fd *entry = user->source ? find_fd(user->source, fd) : NULL;

    if (entry)
        drop_fd(user->source, entry);
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
    .unregister_poll_fd = unregister_poll_fd,
    .notify = notify,
};

/* ---- the backend ---- */

/* What libslirp only remembers until it is polled next: that an address was resolved. */
static bool needs_poll(const uint8_t *frame)
{
    unsigned type = frame[12] << 8 | frame[13];

    return type == 0x0806 || (type == 0x86dd && frame[20] == IPPROTO_ICMPV6);
}

static ssize_t user_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    struct user *user = (struct user *)net;
    struct virtio_net_hdr_v1 header;
    ssize_t length = net_frame_take(iov, count, &header, user->frame);

    if (length < 0)
        return length;
    if (!user->source)
        return -ENOTCONN;
    if (!net_offload_checksum(&header, user->frame, length))
        return -EINVAL;
    slirp_input(user->slirp, user->frame, length);
    user->source->changed = true;
    user->source->poll_at_once |= length > 20 && needs_poll(user->frame);
    /* Its answers may have come at once. */
    tell_client(user);
    return NET_HEADER_SIZE + length;
}

static ssize_t user_receive(struct net *net, unsigned queue, const struct iovec *iov,
                            unsigned count)
{
    struct user *user = (struct user *)net;
    struct virtio_net_hdr_v1 header = {
        .flags = net->receive.checksum ? VIRTIO_NET_HDR_F_DATA_VALID : 0,
        .num_buffers = 1,
    };
    bool was_full = !net_queue_has_room(&user->incoming);
    ssize_t got = net_queue_pop(&user->incoming, &header, iov, count);

    if (was_full && user->source)
        user->source->changed = true;
    return got;
}

static int user_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    struct user *user = (struct user *)net;

    source_destroy(user);
    for (struct user_timer *timer = user->timers; timer; timer = timer->next)
        g_clear_pointer(&timer->timer, loop_timer_destroy);
    user->loop = on ? loop : NULL;
    if (!on)
        return 0;
    source_create(user, loop);
    for (struct user_timer *timer = user->timers; timer; timer = timer->next)
        timer_start(timer);
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

/* ---- saved state ---- */

static const struct state_field user_fields[] = {
    STATE_U32(struct user, slirp_version, 1),
    STATE_BUFFER(struct user, slirp_state, USER_MAX_STATE, 1),
    STATE_BUFFER(struct user, frames, NET_QUEUE_SIZE, 1),
    STATE_END,
};
static const struct state_table user_state = {"net-user", 1, 1, user_fields};

static ssize_t write_state(const void *data, size_t length, void *opaque)
{
    g_byte_array_append(opaque, data, length);
    return length;
}

static ssize_t read_state(void *data, size_t length, void *opaque)
{
    GByteArray *left = opaque;

    if (length > left->len)
        return -1;
    memcpy(data, left->data, length);
    g_byte_array_remove_range(left, 0, length);
    return length;
}

static void forget_buffers(struct user *user)
{
    g_clear_pointer(&user->slirp_state, g_byte_array_unref);
    g_clear_pointer(&user->frames, g_byte_array_unref);
}

static void user_save(struct net *net, GByteArray *out)
{
    struct user *user = (struct user *)net;

    user->slirp_version = slirp_state_version();
    user->slirp_state = g_byte_array_new();
    user->frames = g_byte_array_new();
    slirp_state_save(user->slirp, write_state, user->slirp_state);
    net_queue_save(&user->incoming, user->frames);
    state_save(&user_state, user, out);
    forget_buffers(user);
}

/* libslirp trusts what it loads. Without connections (a first byte of 0) it is numbers that can't do
 * harm, and a fixed number of them. */
static bool load_slirp(struct user *user)
{
    if (!user->slirp_state->len || user->slirp_state->data[0])
        return false;
    return user->slirp_version <= (uint32_t)slirp_state_version() &&
           !slirp_state_load(user->slirp, user->slirp_version, read_state, user->slirp_state);
}

static bool user_load(struct net *net, const uint8_t *data, size_t size, GError **error)
{
    struct user *user = (struct user *)net;
    bool ok = state_load(&user_state, user, data, size, error);

    if (ok && (!load_slirp(user) ||
               !net_queue_load(&user->incoming, user->frames->data, user->frames->len))) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "net-user: libslirp (state version %u, this one has %d) or the frames that "
                    "waited: the saved state is damaged",
                    user->slirp_version, slirp_state_version());
        ok = false;
    }
    forget_buffers(user);
    return ok;
}

static const struct net_ops user_ops = {
    .send = user_send,
    .receive = user_receive,
    .set_active = user_set_active,
    .save = user_save,
    .load = user_load,
    .close = user_close,
};

/* ---- options ---- */

static bool parse_port(const char *text, uint16_t *port)
{
    char *end;
    guint64 value = g_ascii_strtoull(text, &end, 10);

    if (!g_ascii_isdigit(*text) || *end || value < 1 || value > 65535)
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
    uint32_t mtu = options_given(options, "mtu") ? options_uint(options, "mtu") : USER_MTU;
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
    user->net.checked = true;
    net_queue_init(&user->incoming);
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
