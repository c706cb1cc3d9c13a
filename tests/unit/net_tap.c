/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of backends/net/tap.c on real interfaces, in a network namespace of its own: frames are put
 * on them and looked at by packet sockets. Skipped where no namespace, or no tap, may be made.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/unit/net_client.h"

#define TYPE 0x88b5 /* for experiments: nobody else on the interface speaks it */

/* ---- the host's side of an interface ---- */

static int packet_socket(const char *name, bool with_header)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = if_nametoindex(name)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL)), on = 1;

    g_assert_cmpint(address.sll_ifindex, !=, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    if (with_header)
        g_assert_cmpint(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), ==, 0);
    return fd;
}

/* The next frame of our type that came in by the interface; its length, -1: none came. */
static ssize_t packet_receive(int fd, uint8_t *frame, size_t size)
{
    struct sockaddr_ll from;
    socklen_t length = sizeof(from);
    ssize_t got = -1;

    wait_until(({
        got = recvfrom(fd, frame, size, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
        got >= 14 && from.sll_pkttype != PACKET_OUTGOING && (frame[12] << 8 | frame[13]) == TYPE;
    }));
    return got;
}

static void make_frame(uint8_t *frame, size_t length, unsigned seed)
{
    fill_frame(frame, length, seed);
    memcpy(frame, "\x02\x02\x02\x02\x02\x02\x02\x01\x01\x01\x01\x01\x88\xb5", 14);
}

/* The next frame of our type that the backend gives. */
static GBytes *next_of_ours(struct client *client)
{
    for (;;) {
        GBytes *frame = client_next(client);
        const uint8_t *bytes = g_bytes_get_data(frame, NULL);

        if ((bytes[12] << 8 | bytes[13]) == TYPE)
            return frame;
        g_bytes_unref(frame); /* the kernel's own: IPv6 neighbours */
    }
}

static void set_mtu(const char *name, int mtu)
{
    struct ifreq request = {.ifr_mtu = mtu};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    g_strlcpy(request.ifr_name, name, IFNAMSIZ);
    g_assert_cmpint(ioctl(fd, SIOCSIFMTU, &request), ==, 0);
    close(fd);
}

static unsigned flags_of(const char *name)
{
    struct ifreq request = {};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    g_strlcpy(request.ifr_name, name, IFNAMSIZ);
    g_assert_cmpint(ioctl(fd, SIOCGIFFLAGS, &request), ==, 0);
    close(fd);
    return (unsigned short)request.ifr_flags;
}

static void remove_interface(const char *name)
{
    struct {
        struct nlmsghdr header;
        struct ifinfomsg info;
    } request = {{sizeof(request), RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0},
                 {.ifi_family = AF_UNSPEC, .ifi_index = if_nametoindex(name)}};
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    uint8_t answer[200];

    g_assert_cmpint(send(fd, &request, sizeof(request), 0), ==, sizeof(request));
    g_assert_cmpint(recv(fd, answer, sizeof(answer), 0), >, 0);
    close(fd);
    g_assert_cmpuint(if_nametoindex(name), ==, 0);
}

/* A tap of somebody else's. */
static int other_tap(const char *name, short flags)
{
    struct ifreq request = {.ifr_flags = flags};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    g_strlcpy(request.ifr_name, name, IFNAMSIZ);
    g_assert_cmpint(ioctl(fd, TUNSETIFF, &request), ==, 0);
    return fd;
}

/* ---- frames ---- */

static void test_frames(void)
{
    static const size_t lengths[] = {14, 60, 1514};
    struct client *client = client_open("type=tap,ifname=lodge0");
    uint8_t frame[2000], got[2000];
    int packets = packet_socket("lodge0", false);

    g_assert_true(flags_of("lodge0") & IFF_UP);
    g_assert_cmpuint(client->net->mtu, ==, 1500);
    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_autoptr(GBytes) received = NULL;

        make_frame(frame, lengths[i], i);
        client_send(client, frame, lengths[i]);
        g_assert_cmpint(packet_receive(packets, got, sizeof(got)), ==, lengths[i]);
        g_assert_cmpmem(got, lengths[i], frame, lengths[i]);
        if (lengths[i] == 14)
            continue; /* packet sockets do not send an empty frame */
        make_frame(frame, lengths[i], 100 + i);
        g_assert_cmpint(send(packets, frame, lengths[i], 0), ==, lengths[i]);
        received = next_of_ours(client);
        g_assert_cmpmem(g_bytes_get_data(received, NULL), g_bytes_get_size(received), frame,
                        lengths[i]);
    }
    close(packets);
    client_close(client);
    g_assert_cmpuint(if_nametoindex("lodge0"), ==, 0);
}

static void test_named_by_kernel(void)
{
    struct client *client = client_open("type=tap");

    g_assert_cmpuint(if_nametoindex("tap0"), !=, 0);
    client_close(client);
    g_assert_cmpuint(if_nametoindex("tap0"), ==, 0);
}

/* The kernel would cut it off; we drop it. */
static void test_too_large(void)
{
    struct client *client = client_open("type=tap,ifname=lodge0");
    uint8_t frame[9000];
    int packets = packet_socket("lodge0", false);

    set_mtu("lodge0", 9000);
    client->room = NET_HEADER_SIZE + 1514;
    make_frame(frame, sizeof(frame), 1);
    g_assert_cmpint(send(packets, frame, 9000, 0), ==, 9000);
    g_assert_cmpint(send(packets, frame, 1515, 0), ==, 1515);
    g_assert_cmpint(send(packets, frame, 1514, 0), ==, 1514);
    {
        g_autoptr(GBytes) received = next_of_ours(client);

        g_assert_cmpuint(g_bytes_get_size(received), ==, 1514);
    }
    g_assert_cmpuint(client->net->dropped, ==, 2);
    close(packets);
    client_close(client);
}

static void test_bad_headers(void)
{
    struct client *client = client_open("type=tap,ifname=lodge0");
    struct virtio_net_hdr_v1 headers[] = {
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 0xffff},
        {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4},
        {.gso_type = 0x7f, .gso_size = 1000},
    };
    uint8_t frame[60];

    make_frame(frame, sizeof(frame), 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(headers); i++)
        g_assert_cmpint(client_send_as(client, &headers[i], frame, sizeof(frame)), ==, -EINVAL);
    g_assert_cmpint(client_send_as(client, NULL, frame, 5), <, 0);
    client_send(client, frame, sizeof(frame));
    g_assert_cmpuint(client->net->dropped, ==, 4);
    client_close(client);
}

/* ---- offloads ---- */

static size_t make_tcp(uint8_t *bytes, size_t payload)
{
    static const struct virtio_net_hdr header = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = 54,
        .gso_size = 1000,
        .csum_start = 34,
        .csum_offset = 16,
    };
    uint8_t *frame = bytes + sizeof(header);

    memset(bytes, 0, sizeof(header) + 54);
    memcpy(bytes, &header, sizeof(header));
    make_frame(frame, 54 + payload, 1);
    memset(frame + 14, 0, 40);
    memcpy(frame + 12, "\x08\0\x45", 3);
    frame[16] = (40 + payload) >> 8;
    frame[17] = 40 + payload;
    frame[22] = 64;
    frame[23] = 6;
    memcpy(frame + 26, "\x0a\x09\0\1\x0a\x09\0\2", 8);
    frame[46] = 0x50;
    frame[47] = 0x10;
    return sizeof(header) + 54 + payload;
}

static bool is_tcp(GBytes *frame)
{
    const uint8_t *bytes = g_bytes_get_data(frame, NULL);

    return bytes[12] == 8 && bytes[13] == 0 && bytes[23] == 6;
}

static GBytes *next_tcp(struct client *client)
{
    GBytes *frame = client_next(client);

    while (!is_tcp(frame)) {
        g_bytes_unref(frame);
        frame = client_next(client);
    }
    return frame;
}

/* A large frame from the host: whole for a guest that takes it, else in segments. */
static void test_offloads(void)
{
    struct net_offloads all = {.checksum = true, .tso4 = true, .tso6 = true, .ecn = true},
                        none = {};
    struct client *client = client_open("type=tap,ifname=lodge0");
    int packets = packet_socket("lodge0", true);
    g_autofree uint8_t *bytes = g_malloc(20000);
    size_t size = make_tcp(bytes, 5500);
    GBytes *frame;

    g_assert_true(client->net->host_offloads);
    g_assert_cmpint(net_set_offloads(client->net, &all), ==, 0);
    g_assert_cmpint(send(packets, bytes, size, 0), ==, size);
    frame = next_tcp(client);
    g_assert_cmpuint(g_bytes_get_size(frame), ==, 5554);
    g_assert_cmpuint(client->header.gso_type, ==, VIRTIO_NET_HDR_GSO_TCPV4);
    g_assert_cmpuint(client->header.gso_size, ==, 1000);
    g_assert_cmpuint(client->header.flags, ==, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    g_bytes_unref(frame);

    /* One that waits in the kernel goes when offloads do: it was made for them. */
    client_active(client, false);
    g_assert_cmpint(send(packets, bytes, size, 0), ==, size);
    g_assert_cmpint(net_set_offloads(client->net, &none), ==, 0);
    client_active(client, true);
    g_assert_cmpint(send(packets, bytes, size, 0), ==, size);
    for (unsigned i = 0; i < 6; i++) {
        frame = next_tcp(client);
        g_assert_cmpuint(g_bytes_get_size(frame), ==, i < 5 ? 1054 : 554);
        g_assert_cmpuint(client->header.gso_type, ==, VIRTIO_NET_HDR_GSO_NONE);
        g_assert_false(client->header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
        g_bytes_unref(frame);
    }
    close(packets);
    client_close(client);
}

/* And from the guest: the kernel takes it in one. */
static void test_send_large(void)
{
    struct client *client = client_open("type=tap,ifname=lodge0");
    int packets = packet_socket("lodge0", true);
    g_autofree uint8_t *bytes = g_malloc(70000), *got = g_malloc(70000);
    struct virtio_net_hdr_v1 header = {};
    size_t size = make_tcp(bytes, 60000), ours = sizeof(struct virtio_net_hdr);
    ssize_t received;

    memcpy(&header, bytes, ours);
    g_assert_cmpint(client_send_as(client, &header, bytes + ours, size - ours), ==,
                    NET_HEADER_SIZE + size - ours);
    g_assert_true(wait_until(({
        received = recv(packets, got, 70000, MSG_DONTWAIT);
        received > 34 && got[ours + 23] == 6;
    })));
    g_assert_cmpint(received, ==, size);
    g_assert_cmpmem(got + ours + 54, 60000, bytes + ours + 54, 60000);
    close(packets);
    client_close(client);
}

/* ---- queues ---- */

static void test_queues(void)
{
    struct client *client = client_open("type=tap,ifname=lodge0,queues=4");
    int packets = packet_socket("lodge0", false);
    uint8_t frame[60], got[60];

    g_assert_cmpuint(client->net->queues, ==, 4);
    for (unsigned used = 4; used > 0; used--) {
        for (unsigned i = 0; i < 4; i++) {
            g_assert_cmpint(net_set_active(client->net, i, loop_main(), false), ==, 0);
            g_assert_cmpint(net_set_used(client->net, i, i < used), ==, 0);
        }
        for (unsigned i = 0; i < used; i++)
            g_assert_cmpint(net_set_active(client->net, i, loop_main(), true), ==, 0);
        for (unsigned i = 0; i < 20; i++) { /* by whichever queue */
            make_frame(frame, sizeof(frame), i);
            g_assert_cmpint(send(packets, frame, sizeof(frame), 0), ==, sizeof(frame));
            g_bytes_unref(next_of_ours(client));
        }
        for (unsigned i = 0; i < used; i++) {
            struct iovec iov[2] = {{(void *)&(struct virtio_net_hdr_v1){}, NET_HEADER_SIZE},
                                   {frame, sizeof(frame)}};

            make_frame(frame, sizeof(frame), 50 + i);
            g_assert_cmpint(net_send(client->net, i, iov, 2), ==, NET_HEADER_SIZE + 60);
            g_assert_cmpint(packet_receive(packets, got, sizeof(got)), ==, 60);
            g_assert_cmpmem(got, 60, frame, 60);
        }
        g_assert_cmpuint(count_turns(), <, 20);
    }
    close(packets);
    client_close(client);
    g_assert_cmpuint(if_nametoindex("lodge0"), ==, 0);
}

/* ---- when it is stopped, and when it goes away ---- */

static void test_paused(void)
{
    struct client *client = client_open("type=tap,ifname=lodge0");
    int packets = packet_socket("lodge0", false);
    uint8_t frame[60];

    turn_for(20);
    client->taking = false;
    for (unsigned i = 0; i < 5; i++) {
        make_frame(frame, sizeof(frame), i);
        g_assert_cmpint(send(packets, frame, sizeof(frame), 0), ==, sizeof(frame));
    }
    g_assert_cmpuint(count_turns(), <, 20);
    client->taking = true;
    client_take(client, 0);
    for (unsigned i = 0; i < 5; i++) {
        g_autoptr(GBytes) received = next_of_ours(client);

        make_frame(frame, sizeof(frame), i);
        g_assert_cmpmem(g_bytes_get_data(received, NULL), g_bytes_get_size(received), frame, 60);
    }
    close(packets);
    client_close(client);
}

static void test_removed(void)
{
    struct client *client = client_open("type=tap,ifname=lodge0");
    uint8_t frame[60];

    remove_interface("lodge0");
    g_assert_true(wait_until(client->downs == 1));
    g_assert_cmpuint(count_turns(), <, 10);
    make_frame(frame, sizeof(frame), 1);
    g_assert_cmpint(client_send_as(client, NULL, frame, sizeof(frame)), <, 0);
    client_active(client, false);
    client_active(client, true);
    g_assert_cmpuint(count_turns(), <, 10);
    client_close(client);
}

/* ---- options ---- */

static void test_given(void)
{
    int fd = other_tap("given0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), packets, wrong;
    g_autofree char *text = g_strdup_printf("type=tap,fd=%d", fd), *message = NULL;
    struct client *client = client_open(text);
    uint8_t frame[60], got[60];

    packets = packet_socket("given0", false);
    make_frame(frame, sizeof(frame), 1);
    client_send(client, frame, sizeof(frame));
    g_assert_cmpint(packet_receive(packets, got, sizeof(got)), ==, 60);
    close(packets);
    client_close(client);
    g_assert_cmpuint(if_nametoindex("given0"), ==, 0); /* it was ours to close */

    for (unsigned i = 0; i < 2; i++) {
        static const short flags[] = {IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, IFF_TAP | IFF_NO_PI};

        wrong = other_tap("wrong0", flags[i]);
        g_free(text);
        g_free(message);
        text = g_strdup_printf("type=tap,fd=%d", wrong);
        message = g_strdup_printf("--net: fd=%d: must be a tap (IFF_TAP) with IFF_NO_PI and "
                                  "IFF_VNET_HDR",
                                  wrong);
        client_refused(text, message);
        g_assert_cmpuint(if_nametoindex("wrong0"), !=, 0); /* it stays its owner's */
        close(wrong);
    }
}

static void test_refused(void)
{
    int fd = other_tap("busy0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);

    client_refused("type=tap,ifname=busy0",
                   "--net: ifname=busy0: busy0: Device or resource busy; another program uses it");
    client_refused("type=tap,ifname=busy0,queues=2",
                   "--net: ifname=busy0: busy0: Invalid argument; it is there with other settings "
                   "(for queues > 1 it must be multi_queue, else not: ip tuntap add NAME mode tap "
                   "multi_queue), or is no tap at all");
    client_refused("type=tap,ifname=lo",
                   "--net: ifname=lo: lo: Invalid argument; it is there with other settings "
                   "(for queues > 1 it must be multi_queue, else not: ip tuntap add NAME mode tap "
                   "multi_queue), or is no tap at all");
    client_refused("type=tap,ifname=a/b",
                   "--net: ifname=a/b: must be an interface name: 1 to 15 bytes, no '/', '%' or "
                   "blank");
    close(fd);
    client_refused("type=tap,ifname=half0,pcap=/no/such/folder/file",
                   "--net: pcap=/no/such/folder/file: No such file or directory");
    g_assert_cmpuint(if_nametoindex("half0"), ==, 0);
}

/* One that is there stays. */
static void test_persistent(void)
{
    int fd = other_tap("stays0", IFF_TAP | IFF_NO_PI);

    g_assert_cmpint(ioctl(fd, TUNSETPERSIST, 1), ==, 0);
    close(fd);
    set_mtu("stays0", 4000);
    for (unsigned i = 0; i < 2; i++) {
        struct client *client = client_open("type=tap,ifname=stays0");

        g_assert_cmpuint(client->net->mtu, ==, 4000);
        client_close(client);
        g_assert_cmpuint(if_nametoindex("stays0"), !=, 0);
    }
    remove_interface("stays0");
}

/* Can taps be made here? Why not, or NULL. */
static const char *enter_namespace(void)
{
    struct ifreq request = {.ifr_name = "lodge%d", .ifr_flags = IFF_TAP};
    int fd, ret;

    if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
        return "a network namespace can't be made";
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return "/dev/net/tun can't be opened";
    ret = ioctl(fd, TUNSETIFF, &request);
    close(fd);
    return ret ? "a tap can't be made" : NULL;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*test)(void);
    } tests[] = {
        {"/net/tap/frames", test_frames},       {"/net/tap/named-by-kernel", test_named_by_kernel},
        {"/net/tap/too-large", test_too_large}, {"/net/tap/bad-headers", test_bad_headers},
        {"/net/tap/offloads", test_offloads},   {"/net/tap/send-large", test_send_large},
        {"/net/tap/queues", test_queues},       {"/net/tap/paused", test_paused},
        {"/net/tap/removed", test_removed},     {"/net/tap/given", test_given},
        {"/net/tap/refused", test_refused},     {"/net/tap/persistent", test_persistent},
    };
    const char *missing;

    g_test_init(&argc, &argv, NULL);
    missing = enter_namespace();
    if (missing) {
        g_print("1..0 # SKIP %s: %s\n", missing, g_strerror(errno));
        return 0;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add_func(tests[i].name, tests[i].test);
    return g_test_run();
}
