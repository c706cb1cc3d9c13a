/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tap - a network interface of the host's kernel (Documentation/networking/tuntap.rst)
 *
 * One file descriptor a queue. Frames go between guest buffers and the kernel in one readv or writev,
 * with their virtio header, so that checksums and segmentation stay undone across the host. The
 * interface is made unless it is there; one made here goes with the last descriptor.
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
#include "vmm/fd.h"
#include "vmm/iov.h"
#include "vmm/log.h"

#define MAX_PIECES 1024u /* IOV_MAX */
#define MAX_STALE  4096u /* frames that are thrown away when offloads go off */

struct tap_queue {
    struct tap *tap;
    unsigned index;
    int fd;
    bool attached;  /* the kernel gives it frames (multiqueue) */
    bool receiving; /* the frontend has room */
    bool blocked;   /* a send waits for room in the kernel */
    bool gone;      /* the interface was removed */
    struct loop_fd *watch;
};

struct tap {
    struct net net;
    char name[IFNAMSIZ];
    unsigned flags; /* TUN_F_*, as set */
    struct tap_queue queues[NET_MAX_QUEUES];
};

static void update_watch(struct tap_queue *queue)
{
    GIOCondition events = (queue->receiving ? G_IO_IN : 0) | (queue->blocked ? G_IO_OUT : 0);

    if (queue->watch)
        loop_fd_set_events(queue->watch, queue->gone ? 0 : events);
}

static void tap_ready(void *opaque, GIOCondition ready)
{
    struct tap_queue *queue = opaque;

    if (ready & (G_IO_OUT | G_IO_ERR) && queue->blocked) {
        queue->blocked = false;
        update_watch(queue);
        net_writable(&queue->tap->net, queue->index);
    }
    if (queue->watch && queue->receiving && (ready & (G_IO_IN | G_IO_ERR | G_IO_HUP)))
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
        update_watch(queue);
        return -EAGAIN;
    }
    return -errno;
}

/* Reads a frame that may be larger than its room: the kernel would cut it off without a word. */
static ssize_t read_checked(int fd, const struct iovec *iov, unsigned count, size_t room)
{
    struct iovec pieces[MAX_PIECES];
    uint8_t beyond;
    ssize_t got;

    if (count >= MAX_PIECES)
        return readv(fd, iov, count);
    memcpy(pieces, iov, count * sizeof(*iov));
    pieces[count] = (struct iovec){&beyond, 1};
    got = readv(fd, pieces, count + 1);
    if (got <= (ssize_t)room)
        return got;
    errno = EMSGSIZE;
    return -1;
}

static ssize_t tap_receive(struct net *net, unsigned index, const struct iovec *iov, unsigned count)
{
    struct tap_queue *queue = &((struct tap *)net)->queues[index];
    size_t room = iov_size(iov, count);
    ssize_t got;

    do {
        got = room < NET_HEADER_SIZE + NET_MAX_FRAME ? read_checked(queue->fd, iov, count, room)
                                                     : readv(queue->fd, iov, count);
    } while (got < 0 && errno == EINTR);
    if (got >= 0)
        return got;
    if (errno == EMSGSIZE)
        return -EMSGSIZE;
    if (errno != EAGAIN && !queue->gone) {
        log_error("net", "%s: %s: the interface is gone; the guest's link is down",
                  ((struct tap *)net)->name, g_strerror(errno));
        queue->gone = true;
        update_watch(queue);
        net_set_link(net, false);
    }
    return 0;
}

static int tap_set_active(struct net *net, unsigned index, struct loop *loop, bool on)
{
    struct tap_queue *queue = &((struct tap *)net)->queues[index];

    g_clear_pointer(&queue->watch, loop_fd_destroy);
    queue->receiving = on;
    queue->blocked = false;
    if (on) {
        queue->watch = loop_fd_create(loop, queue->fd, 0, tap_ready, queue);
        update_watch(queue);
    }
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

    queue->receiving = on;
    update_watch(queue);
}

/* Frames that wait in the kernel were made for the offloads of before. */
static void drop_stale(struct tap *tap)
{
    uint8_t byte;
    unsigned dropped = 0;

    for (unsigned i = 0; i < tap->net.queues; i++)
        while (dropped < MAX_STALE && tap->queues[i].attached &&
               (read(tap->queues[i].fd, &byte, 1) >= 0 || errno == EINVAL))
            dropped++;
    tap->net.dropped += dropped;
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
    if (ioctl(tap->queues[0].fd, TUNSETOFFLOAD, flags))
        return -errno;
    if (tap->flags & ~flags)
        drop_stale(tap);
    tap->flags = flags;
    return 0;
}

static void tap_close(struct net *net)
{
    struct tap *tap = (struct tap *)net;

    for (unsigned i = 0; i < NET_MAX_QUEUES; i++) {
        loop_fd_destroy(tap->queues[i].watch);
        close_fd(tap->queues[i].fd);
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

/* ---- opening ---- */

static struct tap *tap_new(unsigned queues)
{
    struct tap *tap = g_new0(struct tap, 1);

    net_init(&tap->net, &tap_ops, "tap", queues);
    tap->net.host_offloads = true;
    tap->flags = ~0u; /* whoever had it before may have set any */
    for (unsigned i = 0; i < NET_MAX_QUEUES; i++) {
        tap->queues[i].tap = tap;
        tap->queues[i].index = i;
        tap->queues[i].fd = -1;
    }
    return tap;
}

static bool set_up_queue(struct tap *tap, unsigned index, int fd)
{
    int header = NET_HEADER_SIZE, flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC) ||
        ioctl(fd, TUNSETVNETHDRSZ, &header))
        return false;
    tap->queues[index].fd = fd;
    tap->queues[index].attached = true;
    return true;
}

/* The interface that the user gave as fd=: it must be a tap with virtio headers. */
static bool use_given(struct tap *tap, const struct options *options, GError **error)
{
    struct ifreq request = {};
    int fd = options_uint(options, "fd");

    if (ioctl(fd, TUNGETIFF, &request)) {
        options_set_error(error, options, "fd", "is not an open tap interface");
        return false;
    }
    if (!(request.ifr_flags & IFF_TAP) || !(request.ifr_flags & IFF_NO_PI) ||
        !(request.ifr_flags & IFF_VNET_HDR)) {
        options_set_error(error, options, "fd",
                          "must be a tap (IFF_TAP) with IFF_NO_PI and IFF_VNET_HDR");
        return false;
    }
    if (!set_up_queue(tap, 0, fd)) {
        options_set_error(error, options, "fd", "%s", g_strerror(errno));
        return false;
    }
    g_strlcpy(tap->name, request.ifr_name, IFNAMSIZ);
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
        remedy = "; it is there with other settings (for queues > 1 it must be multi_queue, else "
                 "not: ip tuntap add NAME mode tap multi_queue), or is no tap at all";
    options_set_error(error, options, "ifname", "%s: %s%s", name, g_strerror(code), remedy);
}

static bool open_queue(struct tap *tap, unsigned index, const char *name,
                       const struct options *options, GError **error)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        options_set_error(error, options, "type", "/dev/net/tun: %s; %s", g_strerror(errno),
                          errno == ENOENT ? "modprobe tun, or use type=user"
                                          : "become root or use type=user");
        return false;
    }
    if (tap->net.queues > 1)
        request.ifr_flags |= IFF_MULTI_QUEUE;
    g_strlcpy(request.ifr_name, index ? tap->name : name, IFNAMSIZ);
    if (ioctl(fd, TUNSETIFF, &request) || !set_up_queue(tap, index, fd)) {
        explain_failure(options, name, errno, error);
        close(fd);
        return false;
    }
    g_strlcpy(tap->name, request.ifr_name, IFNAMSIZ);
    return true;
}

/*
 * A tap that was just made is down: brings it up, and asks for its MTU. Not fatal: it may be somebody
 * else's business, or (fd=) in another network namespace.
 */
static void look_at_interface(struct tap *tap)
{
    struct ifreq request = {};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    g_strlcpy(request.ifr_name, tap->name, IFNAMSIZ);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request)) {
        log_info("net", "%s: %s", tap->name, g_strerror(errno));
    } else if (!(request.ifr_flags & IFF_UP)) {
        request.ifr_flags |= IFF_UP;
        if (ioctl(fd, SIOCSIFFLAGS, &request))
            log_warn("net", "%s is down and can't be brought up: %s", tap->name, g_strerror(errno));
    }
    if (fd >= 0 && !ioctl(fd, SIOCGIFMTU, &request) && request.ifr_mtu >= 68 &&
        request.ifr_mtu <= 65535)
        tap->net.mtu = request.ifr_mtu;
    close_fd(fd);
}

static bool open_queues(struct tap *tap, const struct options *options, GError **error)
{
    const char *name = options_string(options, "ifname");

    if (name && (!*name || strlen(name) >= IFNAMSIZ || strpbrk(name, "/ %"))) {
        options_set_error(error, options, "ifname",
                          "must be an interface name: 1 to %d bytes, no '/', '%%' or blank",
                          IFNAMSIZ - 1);
        return false;
    }
    for (unsigned i = 0; i < tap->net.queues; i++)
        if (!open_queue(tap, i, name ? name : "tap%d", options, error))
            return false;
    return true;
}

struct net *net_tap_open(const struct options *options, struct loop *loop, GError **error)
{
    struct tap *tap = tap_new(options_uint(options, "queues"));

    if (options_given(options, "fd") ? use_given(tap, options, error)
                                     : open_queues(tap, options, error)) {
        look_at_interface(tap);
        return &tap->net;
    }
    tap_close(&tap->net);
    return NULL;
}
