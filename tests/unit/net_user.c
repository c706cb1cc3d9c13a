/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of backends/net/user.c, as a guest sees it: ARP, DHCP, ICMP, and TCP and UDP both ways, by a
 * guest stack made by hand that has one connection and no patience.
 */
#include "config.h"

#ifdef HAVE_LIBSLIRP

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "backends/net/driver.h"
#include "tests/unit/net_client.h"

#define GUEST 0x0a00020fu /* 10.0.2.15 */
#define HOST  0x0a000202u
#define FIN   0x01
#define SYN   0x02
#define RST   0x04
#define PSH   0x08
#define ACK   0x10

static const uint8_t guest_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

/* ---- frames ---- */

static void put16(uint8_t *p, unsigned value)
{
    p[0] = value >> 8;
    p[1] = value;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, value >> 16);
    put16(p + 2, value);
}

static unsigned get16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static unsigned sum(const uint8_t *data, size_t length, unsigned start)
{
    for (size_t i = 0; i < length; i++)
        start += i % 2 ? data[i] : data[i] << 8;
    while (start >> 16)
        start = (start & 0xffff) + (start >> 16);
    return start;
}

struct frame {
    uint8_t bytes[NET_MAX_FRAME];
    size_t length;
};

/* Ethernet and IPv4 headers before @length bytes of @protocol, which the caller adds. */
static uint8_t *make_ip(struct frame *f, uint8_t protocol, uint32_t from, uint32_t to,
                        size_t length)
{
    static const uint8_t gateway[6] = {0x52, 0x55, 10, 0, 2, 2};
    uint8_t *ip = f->bytes + 14;

    memset(f->bytes, 0, 34);
    memcpy(f->bytes, gateway, 6);
    memcpy(f->bytes + 6, guest_mac, 6);
    put16(f->bytes + 12, 0x0800);
    ip[0] = 0x45;
    put16(ip + 2, 20 + length);
    ip[8] = 64;
    ip[9] = protocol;
    put32(ip + 12, from);
    put32(ip + 16, to);
    put16(ip + 10, ~sum(ip, 20, 0));
    f->length = 34 + length;
    return ip + 20;
}

static unsigned pseudo(const uint8_t *ip, size_t length)
{
    return sum(ip + 12, 8, ip[9] + length);
}

/* Is what arrived an IPv4 frame of @protocol with right checksums? Its payload, or NULL. */
static const uint8_t *parse_ip(GBytes *frame, uint8_t protocol, size_t *length)
{
    size_t size;
    const uint8_t *bytes = g_bytes_get_data(frame, &size), *ip = bytes + 14;

    if (size < 34 || get16(bytes + 12) != 0x0800 || ip[9] != protocol)
        return NULL;
    g_assert_cmphex(sum(ip, 20, 0), ==, 0xffff);
    *length = get16(ip + 2) - 20;
    g_assert_cmpuint(34 + *length, <=, size);
    if (protocol != 1)
        g_assert_cmphex(sum(ip + 20, *length, pseudo(ip, *length)), ==, 0xffff);
    return ip + 20;
}

/* ---- a guest ---- */

static void arp(struct client *client, unsigned operation, uint32_t target)
{
    uint8_t frame[42];

    memset(frame, 0xff, 6);
    memcpy(frame + 6, guest_mac, 6);
    put16(frame + 12, 0x0806);
    memcpy(frame + 14, "\0\1\10\0\6\4", 6);
    put16(frame + 20, operation);
    memcpy(frame + 22, guest_mac, 6);
    put32(frame + 28, GUEST);
    memset(frame + 32, 0, 6);
    put32(frame + 38, target);
    client_send(client, frame, sizeof(frame));
}

/* The next frame that is not ARP, which is answered; NULL after @timeout ms. */
static GBytes *next_frame(struct client *client, int timeout_ms)
{
    gint64 end = g_get_monotonic_time() + timeout_ms * 1000;

    while (g_get_monotonic_time() < end) {
        GBytes *frame;
        const uint8_t *bytes;

        if (!client->frames->len) {
            if (!loop_iterate(loop_main(), false))
                g_usleep(200);
            continue;
        }
        frame = client_next(client);
        bytes = g_bytes_get_data(frame, NULL);
        if (get16(bytes + 12) == 0x0800)
            return frame;
        if (get16(bytes + 12) == 0x0806 && bytes[21] == 1 && get32(bytes + 38) == GUEST)
            arp(client, 2, get32(bytes + 28));
        g_bytes_unref(frame); /* IPv6 router advertisements, too */
    }
    return NULL;
}

struct tcp {
    struct client *client;
    uint32_t peer;
    uint16_t port, peer_port;
    uint32_t next, expected; /* sequence numbers */
    GByteArray *received;
    bool finished; /* the peer sent FIN */
    bool partial;  /* send checksums half done, and as a segmentation offload */
};

static void tcp_send(struct tcp *tcp, unsigned flags, const void *data, size_t length)
{
    struct frame *f = g_new(struct frame, 1);
    struct virtio_net_hdr_v1 header = {.flags = 0};
    uint8_t *p = make_ip(f, 6, GUEST, tcp->peer, 20 + length);

    memset(p, 0, 20);
    put16(p, tcp->port);
    put16(p + 2, tcp->peer_port);
    put32(p + 4, tcp->next);
    put32(p + 8, flags & ACK ? tcp->expected : 0);
    p[12] = 0x50;
    p[13] = flags;
    put16(p + 14, 65535);
    if (length)
        memcpy(p + 20, data, length);
    if (tcp->partial) {
        put16(p + 16, pseudo(f->bytes + 14, 20 + length));
        header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header.csum_start = GUINT16_TO_LE(34);
        header.csum_offset = GUINT16_TO_LE(16);
        header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        header.gso_size = GUINT16_TO_LE(1460);
    } else {
        put16(p + 16, ~sum(p, 20 + length, pseudo(f->bytes + 14, 20 + length)));
    }
    tcp->next += length + !!(flags & SYN) + !!(flags & FIN);
    g_assert_cmpint(client_send_as(tcp->client, &header, f->bytes, f->length), ==,
                    NET_HEADER_SIZE + f->length);
    g_free(f);
}

/* Takes the next segment of the connection in, acknowledges its data. Its flags, or -1. */
static int tcp_receive(struct tcp *tcp, int timeout_ms)
{
    for (;;) {
        g_autoptr(GBytes) frame = next_frame(tcp->client, timeout_ms);
        const uint8_t *p;
        size_t length, header;

        if (!frame)
            return -1;
        p = parse_ip(frame, 6, &length);
        if (!p || get16(p + 2) != tcp->port)
            continue;
        header = (p[12] >> 4) * 4;
        if (p[13] & SYN) {
            tcp->peer = get32(p - 20 + 12);
            tcp->peer_port = get16(p);
            tcp->expected = get32(p + 4) + 1;
            return p[13];
        }
        if (p[13] & RST || get32(p + 4) != tcp->expected)
            return p[13];
        g_byte_array_append(tcp->received, p + header, length - header);
        tcp->expected += length - header + !!(p[13] & FIN);
        tcp->finished |= p[13] & FIN;
        if (length > header || p[13] & FIN)
            tcp_send(tcp, ACK, NULL, 0);
        return p[13];
    }
}

static void tcp_receive_until(struct tcp *tcp, size_t size)
{
    while (tcp->received->len < size)
        g_assert_cmpint(tcp_receive(tcp, NET_PATIENT), >=, 0);
}

static struct tcp tcp_new(struct client *client, uint16_t port)
{
    return (struct tcp){
        .client = client, .port = port, .next = 1000, .received = g_byte_array_new(), .peer = HOST};
}

static void tcp_connect(struct tcp *tcp, uint16_t peer_port)
{
    tcp->peer_port = peer_port;
    tcp_send(tcp, SYN, NULL, 0);
    g_assert_cmphex(tcp_receive(tcp, NET_PATIENT), ==, SYN | ACK);
    tcp_send(tcp, ACK, NULL, 0);
}

static void tcp_accept(struct tcp *tcp)
{
    g_assert_cmphex(tcp_receive(tcp, NET_PATIENT), ==, SYN);
    tcp_send(tcp, SYN | ACK, NULL, 0);
}

/* ---- the host ---- */

static int host_socket(int type, uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &size), ==, 0);
    if (type == SOCK_STREAM)
        g_assert_cmpint(listen(fd, 5), ==, 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* A port that was free just now. */
static uint16_t free_port(int type)
{
    uint16_t port;

    close(host_socket(type, &port));
    return port;
}

/* -1: nobody takes it. */
static int host_try_connect(int type, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int host_connect(int type, uint16_t port)
{
    int fd = host_try_connect(type, port);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

/* The guest connects to the host, whose end is returned; @listener took it. */
static int tcp_open(struct tcp *tcp, int *listener)
{
    uint16_t port;
    int fd = -1;

    *listener = host_socket(SOCK_STREAM, &port);
    tcp_connect(tcp, port);
    g_assert_true(wait_until((fd = accept(*listener, NULL, NULL)) >= 0));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void host_read(int fd, void *buffer, size_t size)
{
    size_t done = 0;

    g_assert_true(wait_until(({
        ssize_t got = recv(fd, (uint8_t *)buffer + done, size - done, MSG_DONTWAIT);
        done += MAX(got, 0);
        done == size;
    })));
}

/* ---- small protocols ---- */

static void test_arp(void)
{
    struct client *client = client_open("type=user");
    g_autoptr(GBytes) frame = NULL;
    const uint8_t *bytes;

    arp(client, 1, HOST);
    frame = client_next(client);
    bytes = g_bytes_get_data(frame, NULL);
    g_assert_cmphex(get16(bytes + 12), ==, 0x0806);
    g_assert_cmpuint(bytes[21], ==, 2);
    g_assert_cmphex(get32(bytes + 28), ==, HOST);
    g_assert_cmpmem(bytes, 6, guest_mac, 6);
    arp(client, 1, 0x0a000263); /* nobody */
    client_expect_nothing(client);
    client_close(client);
}

static void test_ping(void)
{
    struct client *client = client_open("type=user");
    struct frame *f = g_new(struct frame, 1);
    uint8_t *p = make_ip(f, 1, GUEST, HOST, 64);
    g_autoptr(GBytes) frame = NULL;
    const uint8_t *answer;
    size_t length;

    memset(p, 0, 64);
    p[0] = 8;
    put16(p + 4, 77);
    memset(p + 8, 0xab, 56);
    put16(p + 2, ~sum(p, 64, 0));
    arp(client, 1, HOST);
    client_send(client, f->bytes, f->length);
    frame = next_frame(client, NET_PATIENT);
    g_assert_nonnull(frame);
    answer = parse_ip(frame, 1, &length);
    g_assert_nonnull(answer);
    g_assert_cmpuint(length, ==, 64);
    g_assert_cmpuint(answer[0], ==, 0);
    g_assert_cmpmem(answer + 4, 60, p + 4, 60);
    g_free(f);
    client_close(client);
}

/* A DHCP exchange; the address that is offered, and the server's answer to a request for it. */
static uint32_t dhcp(struct client *client, uint8_t message, const uint8_t *mac, uint32_t wanted)
{
    struct frame *f = g_new0(struct frame, 1);
    uint8_t *p = make_ip(f, 17, 0, 0xffffffff, 8 + 300), *options = p + 8 + 240;
    g_autoptr(GBytes) frame = NULL;
    const uint8_t *answer;
    size_t length;

    memset(f->bytes, 0xff, 6);
    memset(p, 0, 308);
    put16(p, 68);
    put16(p + 2, 67);
    put16(p + 4, 308);
    memcpy(p + 8, "\1\1\6\0abcd", 8);
    memcpy(p + 8 + 28, mac, 6);
    put32(p + 8 + 236, 0x63825363);
    memcpy(options, "\x35\1", 2);
    options[2] = message;
    options += 3;
    if (wanted) {
        memcpy(options, "\x32\4", 2);
        put32(options + 2, wanted);
        options += 6;
    }
    *options = 0xff;
    client_send(client, f->bytes, f->length);
    g_free(f);
    frame = next_frame(client, NET_PATIENT);
    g_assert_nonnull(frame);
    answer = parse_ip(frame, 17, &length);
    g_assert_nonnull(answer);
    g_assert_cmpuint(get16(answer + 2), ==, 68);
    g_assert_cmpmem(answer + 8 + 4, 4, "abcd", 4);
    answer += 8 + 240;
    g_assert_cmpuint(answer[0], ==, 0x35);
    g_assert_cmpuint(answer[2], ==, message == 1 ? 2 : 5); /* an offer, or an acknowledgement */
    return get32(answer - 240 + 16);
}

static void test_dhcp(void)
{
    static const uint8_t other[6] = {2, 0, 0, 0, 0, 9};
    struct client *client = client_open("type=user");

    g_assert_cmphex(dhcp(client, 1, guest_mac, 0), ==, GUEST);
    g_assert_cmphex(dhcp(client, 3, guest_mac, GUEST), ==, GUEST);
    g_assert_cmphex(dhcp(client, 1, other, 0), ==, GUEST + 1);
    client_close(client);
}

/* What comes from libslirp has right checksums, and the guest may be told so. */
static void test_checksums_vouched(void)
{
    struct net_offloads offloads = {.checksum = true};
    struct client *client = client_open("type=user");

    g_assert_true(client->net->checked);
    g_assert_cmpuint(client->net->mtu, ==, 16384);
    arp(client, 1, HOST);
    g_bytes_unref(client_next(client));
    g_assert_cmpuint(client->header.flags, ==, 0);
    net_set_offloads(client->net, &offloads);
    arp(client, 1, HOST);
    g_bytes_unref(client_next(client));
    g_assert_cmpuint(client->header.flags, ==, VIRTIO_NET_HDR_F_DATA_VALID);
    client_close(client);
}

/* ---- TCP ---- */

static void check_forward(const char *rule, uint16_t guest_port, uint16_t port)
{
    g_autofree char *text = g_strdup_printf("type=user,hostfwd=%s", rule);
    struct client *client = client_open(text);
    struct tcp tcp = tcp_new(client, guest_port);
    uint8_t answer[5];
    int fd = host_connect(SOCK_STREAM, port);

    tcp_accept(&tcp);
    g_assert_cmpint(send(fd, "hello", 5, 0), ==, 5);
    tcp_receive_until(&tcp, 5);
    g_assert_cmpmem(tcp.received->data, 5, "hello", 5);
    tcp_send(&tcp, ACK | PSH, "world", 5);
    host_read(fd, answer, 5);
    g_assert_cmpmem(answer, 5, "world", 5);
    close(fd);
    while (!tcp.finished)
        g_assert_cmpint(tcp_receive(&tcp, NET_PATIENT), >=, 0);
    tcp_send(&tcp, FIN | ACK, NULL, 0);
    g_assert_cmpint(tcp_receive(&tcp, NET_PATIENT), ==, ACK);
    g_byte_array_unref(tcp.received);
    client_close(client);
}

static void test_forward(void)
{
    uint16_t port = free_port(SOCK_STREAM);
    g_autofree char *rule = g_strdup_printf("tcp::%u-:80", port);
    g_autofree char *full = g_strdup_printf("tcp:127.0.0.1:%u-10.0.2.15:8080", port);

    check_forward(rule, 80, port);
    check_forward(full, 8080, port);
    /* The port is free again. */
    g_assert_cmpint(host_try_connect(SOCK_STREAM, port), ==, -1);
}

static void test_udp_forward(void)
{
    uint16_t port = free_port(SOCK_DGRAM);
    g_autofree char *text = g_strdup_printf("type=user,hostfwd=udp::%u-:53", port);
    struct client *client = client_open(text);
    int fd = host_connect(SOCK_DGRAM, port);
    g_autoptr(GBytes) frame = NULL;
    struct frame *f = g_new0(struct frame, 1);
    const uint8_t *p;
    uint8_t *answer, got[10];
    size_t length;

    g_assert_cmpint(send(fd, "question", 8, 0), ==, 8);
    frame = next_frame(client, NET_PATIENT);
    g_assert_nonnull(frame);
    p = parse_ip(frame, 17, &length);
    g_assert_nonnull(p);
    g_assert_cmpuint(get16(p + 2), ==, 53);
    g_assert_cmpmem(p + 8, length - 8, "question", 8);
    answer = make_ip(f, 17, GUEST, get32(p - 20 + 12), 8 + 6);
    put16(answer, 53);
    put16(answer + 2, get16(p));
    put16(answer + 4, 14);
    put16(answer + 6, 0);
    memcpy(answer + 8, "answer", 6);
    put16(answer + 6, ~sum(answer, 14, pseudo(f->bytes + 14, 14)));
    client_send(client, f->bytes, f->length);
    host_read(fd, got, 6);
    g_assert_cmpmem(got, 6, "answer", 6);
    g_free(f);
    close(fd);
    client_close(client);
}

static void transfer(bool partial)
{
    struct client *client = client_open("type=user");
    struct tcp tcp = tcp_new(client, 40000);
    g_autofree uint8_t *data = g_malloc(1 << 20), *got = g_malloc(1 << 20);
    int listener, fd;
    size_t done = 0;

    fill_frame(data, 1 << 20, 5);
    tcp.partial = partial;
    fd = tcp_open(&tcp, &listener);
    /* Out: a segment of 30000 bytes at a time. */
    for (size_t at = 0; at < 1 << 20; at += 30000) {
        size_t part = MIN(30000, (1 << 20) - at);

        tcp_send(&tcp, ACK | PSH, data + at, part);
        host_read(fd, got + at, part);
    }
    g_assert_cmpmem(got, 1 << 20, data, 1 << 20);
    /* In: as it comes. */
    while (tcp.received->len < 1 << 20) {
        ssize_t put = done < 1 << 20 ? send(fd, data + done, (1 << 20) - done, 0) : 0;

        done += MAX(put, 0);
        tcp_receive(&tcp, done < 1 << 20 ? 5 : NET_PATIENT);
    }
    g_assert_cmpmem(tcp.received->data, tcp.received->len, data, 1 << 20);
    tcp_send(&tcp, FIN | ACK, NULL, 0);
    g_assert_true(wait_until(recv(fd, got, 1, MSG_DONTWAIT) == 0));
    close(fd);
    close(listener);
    g_byte_array_unref(tcp.received);
    client_close(client);
}

static void test_transfer(void)
{
    transfer(false);
}

/* Segments with half a checksum, larger than any link: completed, and taken in one. */
static void test_transfer_offloaded(void)
{
    transfer(true);
}

static void test_restrict(void)
{
    struct client *client = client_open("type=user,restrict=on");
    struct tcp tcp = tcp_new(client, 40000);
    uint16_t port;
    int listener = host_socket(SOCK_STREAM, &port);

    arp(client, 1, HOST);
    tcp.peer_port = port;
    tcp_send(&tcp, SYN, NULL, 0);
    g_assert_cmphex(tcp_receive(&tcp, NET_PATIENT), ==, RST | ACK);
    g_assert_cmpint(accept(listener, NULL, NULL), ==, -1);
    close(listener);
    g_byte_array_unref(tcp.received);
    client_close(client);
}

/* ---- the loop ---- */

/* Connections that nobody reads from, or whose other end is closed, do not keep the loop busy. */
static void test_at_rest(void)
{
    struct client *client = client_open("type=user");
    struct tcp tcp = tcp_new(client, 40000);
    g_autofree uint8_t *data = g_malloc0(1 << 20);
    int listener, fd;

    turn_for(50);
    g_assert_cmpuint(count_turns(), <, 10);
    fd = tcp_open(&tcp, &listener);
    turn_for(50);
    g_assert_cmpuint(count_turns(), <, 10);
    /* The host sends; the guest takes it, but does not acknowledge it. */
    while (send(fd, data, 1 << 20, 0) > 0)
        turn_for(5);
    turn_for(50);
    g_assert_cmpuint(count_turns(), <, 15);
    close(fd);
    turn_for(50);
    g_assert_cmpuint(count_turns(), <, 15);
    close(listener);
    g_byte_array_unref(tcp.received);
    client_close(client);
}

/* While the queue is off libslirp does not run; connections wait. */
static void test_inactive(void)
{
    uint16_t port = free_port(SOCK_STREAM);
    g_autofree char *text = g_strdup_printf("type=user,hostfwd=tcp::%u-:80", port);
    struct client *client = client_open(text);
    struct tcp tcp = tcp_new(client, 80);
    uint8_t answer[5];
    int fd;

    client_active(client, false);
    g_assert_cmpint(client_send_as(client, NULL, answer, 5), ==, -EINVAL);
    g_assert_cmpint(client_send_as(client, NULL, text, 14), ==, -ENOTCONN);
    fd = host_connect(SOCK_STREAM, port);
    client->readable = 0;
    turn_for(200);
    g_assert_cmpuint(client->readable, ==, 0);
    client_active(client, true);
    tcp_accept(&tcp);
    g_assert_cmpint(send(fd, "hello", 5, 0), ==, 5);
    tcp_receive_until(&tcp, 5);
    client_active(client, false);
    g_assert_cmpint(send(fd, "there", 5, 0), ==, 5);
    turn_for(50);
    g_assert_cmpuint(client->frames->len, ==, 0);
    client_active(client, true);
    tcp_receive_until(&tcp, 10);
    g_assert_cmpmem(tcp.received->data, 10, "hellothere", 10);
    tcp_send(&tcp, ACK | PSH, "world", 5);
    host_read(fd, answer, 5);
    close(fd);
    g_byte_array_unref(tcp.received);
    client_close(client);
}

/* A guest that takes nothing: libslirp is not asked for more than is kept, and loses none of it. */
static void test_full(void)
{
    struct client *client = client_open("type=user,mtu=65520");
    struct frame *f = g_new0(struct frame, 1);
    uint8_t *p = make_ip(f, 1, GUEST, HOST, 60000);
    unsigned sent = 0;

    memset(p, 0, 60000);
    p[0] = 8;
    put16(p + 2, ~sum(p, 60000, 0));
    arp(client, 1, HOST);
    g_bytes_unref(client_next(client));
    client->taking = false;
    for (; !client->net->dropped; sent++) { /* each is answered by its like */
        client_send(client, f->bytes, f->length);
        g_assert_cmpuint(sent, <, 100);
    }
    g_assert_cmpuint(sent, >, 30);
    turn_for(50);
    g_assert_cmpuint(count_turns(), <, 10);
    client->taking = true;
    client_take(client, 0);
    turn_for(10);
    g_assert_cmpuint(client->frames->len, ==, sent - 1);
    g_free(f);
    client_close(client);
}

/* ---- saved state ---- */

/* Leases, and frames that wait, go over into another lodge. */
static void test_state(void)
{
    static const uint8_t other[6] = {2, 0, 0, 0, 0, 9}, third[6] = {2, 0, 0, 0, 0, 10};
    g_autoptr(GByteArray) saved = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    struct client *from = client_open("type=user"), *to = client_open("type=user");

    g_assert_cmphex(dhcp(from, 3, other, GUEST), ==, GUEST);
    from->taking = false;
    arp(from, 1, HOST);
    arp(from, 1, HOST + 1);
    turn_for(10);
    client_active(from, false);
    net_save(from->net, saved);
    client_active(to, false);
    g_assert_true(net_load(to->net, saved->data, saved->len, &error));
    g_assert_no_error(error);
    client_active(to, true);
    g_bytes_unref(client_next(to)); /* the answers to both */
    g_bytes_unref(client_next(to));
    client_expect_nothing(to);
    g_assert_cmphex(dhcp(to, 1, third, 0), ==, GUEST + 1); /* the first is taken */
    g_assert_cmphex(dhcp(to, 1, other, 0), ==, GUEST);
    client_close(from);
    client_close(to);
}

/* A connection stays behind: the guest hears so as soon as it sends on it, and may make another. */
static void test_state_without_connections(void)
{
    g_autoptr(GByteArray) saved = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    struct client *from = client_open("type=user"), *to = client_open("type=user");
    struct tcp tcp = tcp_new(from, 4000), again = tcp_new(to, 4001);
    int listener, fd = tcp_open(&tcp, &listener);

    client_active(from, false);
    net_save(from->net, saved);
    client_active(to, false);
    g_assert_true(net_load(to->net, saved->data, saved->len, &error));
    g_assert_no_error(error);
    client_active(to, true);
    tcp.client = to;
    tcp_send(&tcp, ACK | PSH, "hello", 5);
    g_assert_cmphex(tcp_receive(&tcp, NET_PATIENT) & RST, ==, RST);
    tcp_connect(&again, tcp.peer_port);
    close(fd);
    close(listener);
    g_byte_array_unref(tcp.received);
    g_byte_array_unref(again.received);
    client_close(from);
    client_close(to);
}

static void test_state_damaged(void)
{
    g_autoptr(GByteArray) saved = g_byte_array_new();
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    struct client *client = client_open("type=user");
    uint8_t *connections;
    unsigned refused = 0;

    client->taking = false;
    arp(client, 1, HOST);
    turn_for(10);
    client_active(client, false);
    net_save(client->net, saved);
    for (unsigned length = 0; length < saved->len; length++) {
        g_autofree uint8_t *copy = g_memdup2(saved->data, MAX(length, 1));

        g_assert_false(net_load(client->net, copy, length, NULL));
    }
    for (unsigned i = 0; i < 2000; i++) {
        g_autofree uint8_t *copy = g_memdup2(saved->data, saved->len);

        copy[g_rand_int_range(rand, 0, saved->len)] = g_rand_int(rand);
        refused += !net_load(client->net, copy, saved->len, NULL);
    }
    g_assert_cmpuint(refused, >, 0);
    /* Connections in it would make libslirp allocate as it is told. */
    connections = memmem(saved->data, saved->len, "slirp_state", 11);
    g_assert_nonnull(connections);
    connections[11 + 2 + 4] = 42;
    {
        g_autoptr(GError) error = NULL;

        g_assert_false(net_load(client->net, saved->data, saved->len, &error));
        g_assert_cmpstr(error->message, ==,
                        "net-user: libslirp (state version 4, this one has 4) or the frames that "
                        "waited: the saved state is damaged");
    }
    client_active(client, true);
    client->taking = true;
    g_assert_cmphex(dhcp(client, 3, guest_mac, GUEST), ==, GUEST);
    client_close(client);
}

/* ---- options ---- */

static void test_options(void)
{
    static const char *const rules[] = {
        "",
        "tcp",
        "tcp::80",
        "tcp::80-",
        "tcp::80-80",
        "tcp::x-:1",
        "tcp::0-:1",
        "tcp::65536-:1",
        "tcp::1-:0",
        "tcp::1-:+1",
        "tcp: :1-:1",
        "sctp::1-:1",
        "tcp:host:1-:1",
        "tcp::1-host:1",
        "tcp::1:2-:1",
        "tcp::1-:1-:1",
        "tcp::-1-:1",
    };
    g_autofree char *text = NULL, *message = NULL;
    uint16_t port;
    int fd;

    for (unsigned i = 0; i < G_N_ELEMENTS(rules); i++) {
        g_autofree char *options = g_strdup_printf("type=user,hostfwd=%s", rules[i]);
        g_autofree char *expected = g_strdup_printf(
            "--net: hostfwd: '%s' must be tcp|udp:[HOST-ADDRESS]:PORT-[GUEST-ADDRESS]:PORT, for "
            "example tcp::2222-:22",
            rules[i]);

        client_refused(options, expected);
    }
    fd = host_socket(SOCK_STREAM, &port);
    text = g_strdup_printf("type=user,hostfwd=tcp::%u-:80", port);
    message = g_strdup_printf("--net: hostfwd: 'tcp::%u-:80': host port %u can't be listened on: "
                              "Address already in use; choose another",
                              port, port);
    client_refused(text, message);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net/user/arp", test_arp);
    g_test_add_func("/net/user/ping", test_ping);
    g_test_add_func("/net/user/dhcp", test_dhcp);
    g_test_add_func("/net/user/checksums-vouched", test_checksums_vouched);
    g_test_add_func("/net/user/forward", test_forward);
    g_test_add_func("/net/user/udp-forward", test_udp_forward);
    g_test_add_func("/net/user/transfer", test_transfer);
    g_test_add_func("/net/user/transfer-offloaded", test_transfer_offloaded);
    g_test_add_func("/net/user/restrict", test_restrict);
    g_test_add_func("/net/user/at-rest", test_at_rest);
    g_test_add_func("/net/user/inactive", test_inactive);
    g_test_add_func("/net/user/full", test_full);
    g_test_add_func("/net/user/state", test_state);
    g_test_add_func("/net/user/state-without-connections", test_state_without_connections);
    g_test_add_func("/net/user/state-damaged", test_state_damaged);
    g_test_add_func("/net/user/options", test_options);
    return g_test_run();
}

#else

#include "tests/unit/net_client.h"

static void test_missing(void)
{
    client_refused("type=user",
                   "--net: type=user: user needs libslirp, which this lodge was built without; "
                   "install libslirp-dev and build again, or use type=tap");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net/user/missing", test_missing);
    return g_test_run();
}

#endif
