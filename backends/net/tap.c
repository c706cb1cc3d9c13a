/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tap - a network interface of the host's kernel (Documentation/networking/tuntap.rst)
 *
 * One file descriptor a queue. Frames go between guest buffers and the kernel in one readv or writev,
 * with their virtio header, so that checksums and segmentation stay undone across the host.
 *
 * Threads: queues may be served by different loops.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/net/driver.h"
#include "vmm/log.h"

struct tap_queue {
    struct tap *tap;
    unsigned index;
    int fd;
    bool attached; /* the kernel gives it frames (multiqueue) */
    bool paused;   /* no room for frames */
    bool blocked;  /* a send waits for room in the kernel */
    struct loop_fd *watch;
};

struct tap {
    struct net net;
    char name[IFNAMSIZ];
    struct tap_queue queues[NET_MAX_QUEUES];
};

static void update_events(struct tap_queue *queue)
{
    if (queue->watch)
        loop_fd_set_events(queue->watch,
                           (queue->paused ? 0 : G_IO_IN) | (queue->blocked ? G_IO_OUT : 0));
}

static void tap_ready(void *opaque, GIOCondition ready)
{
    struct tap_queue *queue = opaque;

    if (ready & G_IO_OUT) {
        queue->blocked = false;
        update_events(queue);
        net_writable(&queue->tap->net, queue->index);
    }
    if (!queue->paused && (ready & (G_IO_IN | G_IO_ERR | G_IO_HUP)))
        net_readable(&queue->tap->net, queue->index);
}

static ssize_t tap_send(struct net *net, unsigned index, const struct iovec *iov, unsigned count)
{
    struct tap_queue *queue = &((struct tap *)net)->queues[index];
    ssize_t sent;

    do {
        sent = writev(queue->fd, iov, count);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN) {
        queue->blocked = true;
        update_events(queue);
        return -EAGAIN;
    }
    return -errno;
}

static ssize_t tap_receive(struct net *net, unsigned index, const struct iovec *iov, unsigned count)
{
    struct tap_queue *queue = &((struct tap *)net)->queues[index];
    ssize_t got;

    do {
        got = readv(queue->fd, iov, count);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? 0 : -errno;
    return got;
}

static int tap_set_active(struct net *net, unsigned index, struct loop *loop, bool on)
{
    struct tap_queue *queue = &((struct tap *)net)->queues[index];

    loop_fd_destroy(queue->watch);
    queue->watch = on ? loop_fd_create(loop, queue->fd, G_IO_IN, tap_ready, queue) : NULL;
    queue->paused = queue->blocked = false;
    return 0;
}

/* Only queues that the guest uses take part in the kernel's spreading of flows. */
static int tap_set_used(struct net *net, unsigned index, bool used)
{
    struct tap_queue *queue = &((struct tap *)net)->queues[index];
    struct ifreq request = {.ifr_flags = used ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

    if (net->queues == 1 || queue->attached == used)
        return 0;
    if (ioctl(queue->fd, TUNSETQUEUE, &request))
        return -errno;
    queue->attached = used;
    return 0;
}

static void tap_set_receiving(struct net *net, unsigned index, bool on)
{
    struct tap_queue *queue = &((struct tap *)net)->queues[index];

    if (queue->paused == !on)
        return;
    queue->paused = !on;
    update_events(queue);
}

static int tap_set_offloads(struct net *net, const struct net_offloads *receive)
{
    struct tap *tap = (struct tap *)net;
    unsigned flags = 0;

    if (receive->checksum) {
        flags |= TUN_F_CSUM;
        flags |= receive->tso4 ? TUN_F_TSO4 : 0;
        flags |= receive->tso6 ? TUN_F_TSO6 : 0;
        flags |= receive->ecn && (flags & (TUN_F_TSO4 | TUN_F_TSO6)) ? TUN_F_TSO_ECN : 0;
    }
    return ioctl(tap->queues[0].fd, TUNSETOFFLOAD, flags) ? -errno : 0;
}

static void tap_close(struct net *net)
{
    struct tap *tap = (struct tap *)net;

    for (unsigned i = 0; i < net->queues; i++) {
        loop_fd_destroy(tap->queues[i].watch);
        if (tap->queues[i].fd >= 0)
            close(tap->queues[i].fd);
    }
    g_free(tap);
}

static const struct net_ops tap_ops = {
    .send = tap_send,
    .receive = tap_receive,
    .set_active = tap_set_active,
    .set_offloads = tap_set_offloads,
    .set_receiving = tap_set_receiving,
    .set_used = tap_set_used,
    .close = tap_close,
};

static bool set_up_fd(int fd, const struct options *options, const char *key, GError **error)
{
    int header = NET_HEADER_SIZE, flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ||
        ioctl(fd, TUNSETVNETHDRSZ, &header)) {
        options_set_error(error, options, key, "%s", g_strerror(errno));
        return false;
    }
    return true;
}

static void explain_failure(const struct options *options, const char *name, int code,
                            GError **error)
{
    const char *remedy = "";

    if (code == EPERM)
        remedy = "; creating or opening it needs CAP_NET_ADMIN: become root, have a tap made for "
                 "your user (ip tuntap add NAME mode tap user USER), or use type=user";
    else if (code == EBUSY)
        remedy = "; another program uses it";
    else if (code == EINVAL)
        remedy =
            "; it is there with other settings (multi_queue and vnet_hdr must match: ip tuntap "
            "add NAME mode tap multi_queue vnet_hdr for queues > 1)";
    options_set_error(error, options, "ifname", "%s: %s%s", name, g_strerror(code), remedy);
}

static bool open_queue(struct tap *tap, unsigned index, unsigned queues, const char *name,
                       const struct options *options, GError **error)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        options_set_error(error, options, "type", "/dev/net/tun: %s; %s", g_strerror(errno),
                          errno == ENOENT ? "modprobe tun, or use type=user"
                                          : "become root or use type=user");
        return false;
    }
    tap->queues[index].fd = fd;
    tap->queues[index].attached = true;
    if (queues > 1)
        request.ifr_flags |= IFF_MULTI_QUEUE;
    g_strlcpy(request.ifr_name, index ? tap->name : name, IFNAMSIZ);
    if (ioctl(fd, TUNSETIFF, &request)) {
        explain_failure(options, name, errno, error);
        return false;
    }
    g_strlcpy(tap->name, request.ifr_name, IFNAMSIZ);
    return set_up_fd(fd, options, "ifname", error);
}

/* A tap that was just made is down: bring it up. Not fatal: it may be somebody else's business. */
static void bring_up(struct tap *tap)
{
    struct ifreq request = {};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    g_strlcpy(request.ifr_name, tap->name, IFNAMSIZ);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request)) {
        log_warn("net", "%s: %s", tap->name, g_strerror(errno));
    } else if (!(request.ifr_flags & IFF_UP)) {
        request.ifr_flags |= IFF_UP;
        if (ioctl(fd, SIOCSIFFLAGS, &request))
            log_warn("net", "%s is down and can't be brought up: %s", tap->name, g_strerror(errno));
    }
    if (fd >= 0)
        close(fd);
}

static struct tap *tap_new(unsigned queues)
{
    struct tap *tap = g_new0(struct tap, 1);

    net_init(&tap->net, &tap_ops, "tap", queues);
    tap->net.host_offloads = true;
    for (unsigned i = 0; i < NET_MAX_QUEUES; i++) {
        tap->queues[i].tap = tap;
        tap->queues[i].index = i;
        tap->queues[i].fd = -1;
    }
    return tap;
}

struct net *net_tap_open(const struct options *options, struct loop *loop, GError **error)
{
    unsigned queues = options_uint(options, "queues");
    const char *name = options_string(options, "ifname");
    struct tap *tap;

    if (name && (strlen(name) >= IFNAMSIZ || strchr(name, '/'))) {
        options_set_error(error, options, "ifname", "must be an interface name of at most %d bytes",
                          IFNAMSIZ - 1);
        return NULL;
    }
    if (options_given(options, "fd")) {
        tap = tap_new(1);
        tap->queues[0].fd = dup(options_uint(options, "fd"));
        if (tap->queues[0].fd < 0 || !set_up_fd(tap->queues[0].fd, options, "fd", error)) {
            if (error && !*error)
                options_set_error(error, options, "fd", "%s", g_strerror(errno));
            tap_close(&tap->net);
            return NULL;
        }
        return &tap->net;
    }
    tap = tap_new(queues);
    for (unsigned i = 0; i < queues; i++) {
        if (!open_queue(tap, i, queues, name ? name : "tap%d", options, error)) {
            tap_close(&tap->net);
            return NULL;
        }
    }
    bring_up(tap);
    return &tap->net;
}
