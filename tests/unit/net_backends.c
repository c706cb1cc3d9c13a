/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of backends/net on real sockets and files: stream, dgram, pcap, null; what options are refused
 * with, and that nothing stays behind. */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/unit/net_client.h"
#include "tests/unit/scratch.h"

#define LARGEST (65535 + 14 + 4)

static char *dir;

/* A path below the test's folder; the caller frees it. */
static char *path_of(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static struct client *open_at(const char *format, const char *name)
{
    g_autofree char *path = path_of(name);
    g_auto(GStrv) parts = g_strsplit(format, "%s", 2);
    g_autofree char *text = g_strconcat(parts[0], path, parts[1], NULL);

    return client_open(text);
}

static struct client *open_fd(int type, int *peer)
{
    g_autofree char *text = NULL;
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==, 0);
    *peer = pair[0];
    text = g_strdup_printf("type=%s,fd=%d", type == SOCK_STREAM ? "stream" : "dgram", pair[1]);
    return client_open(text);
}

static int bound_socket(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    if (type == SOCK_STREAM)
        g_assert_cmpint(listen(fd, 5), ==, 0);
    return fd;
}

static int connected_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

static void read_all(int fd, void *buffer, size_t size)
{
    size_t done = 0;

    g_assert_true(wait_until(({
        ssize_t got = recv(fd, (uint8_t *)buffer + done, size - done, MSG_DONTWAIT);
        done += MAX(got, 0);
        done == size;
    })));
}

static bool is_closed(int fd)
{
    uint8_t byte;

    return wait_until(recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || (errno != EAGAIN && errno != EINTR));
}

/* ---- stream ---- */

static void test_stream_send(void)
{
    static const size_t lengths[] = {14, 60, 1514, 40000, LARGEST};
    g_autofree uint8_t *frame = g_malloc(LARGEST), *got = g_malloc(LARGEST + 4);
    struct client *client;
    int peer;

    client = open_fd(SOCK_STREAM, &peer);
    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        fill_frame(frame, lengths[i], i);
        client_send(client, frame, lengths[i]);
        read_all(peer, got, 4 + lengths[i]);
        g_assert_cmpuint(got[0] << 24 | got[1] << 16 | got[2] << 8 | got[3], ==, lengths[i]);
        g_assert_cmpmem(got + 4, lengths[i], frame, lengths[i]);
    }
    g_assert_cmpint(client_send_as(client, NULL, frame, 13), ==, -EINVAL);
    g_assert_cmpint(client_send_as(client, NULL, frame, 0), ==, -EINVAL);
    g_assert_cmpuint(client->net->tx_frames, ==, G_N_ELEMENTS(lengths));
    g_assert_cmpuint(client->net->dropped, ==, 2);
    g_assert_cmpint(recv(peer, got, 1, MSG_DONTWAIT), ==, -1);
    client_close(client);
    g_assert_true(is_closed(peer));
    close(peer);
}

static size_t put_frame(uint8_t *at, const uint8_t *frame, uint32_t length)
{
    at[0] = length >> 24;
    at[1] = length >> 16;
    at[2] = length >> 8;
    at[3] = length;
    memcpy(at + 4, frame, length);
    return 4 + length;
}

/* Frames arrive in whatever pieces the socket gives. */
static void test_stream_receive_split(void)
{
    static const size_t pieces[] = {1, 2, 3, 5, 1000, 4099, 65536, 300000};
    g_autofree uint8_t *frame = g_malloc(LARGEST), *stream = g_malloc(700000);

    for (unsigned i = 0; i < G_N_ELEMENTS(pieces); i++) {
        size_t lengths[] = {14,
                            60,
                            15,
                            1514,
                            2000,
                            61,
                            pieces[i] < 100 ? 100 : LARGEST,
                            18,
                            pieces[i] < 100 ? 77 : 30000};
        size_t size = 0;
        struct client *client;
        int peer;

        client = open_fd(SOCK_STREAM, &peer);
        for (unsigned j = 0; j < G_N_ELEMENTS(lengths); j++) {
            fill_frame(frame, lengths[j], j);
            size += put_frame(stream + size, frame, lengths[j]);
        }
        for (size_t at = 0; at < size;) {
            ssize_t put = send(peer, stream + at, MIN(pieces[i], size - at), MSG_DONTWAIT);

            at += MAX(put, 0);
            loop_iterate(loop_main(), false);
        }
        for (unsigned j = 0; j < G_N_ELEMENTS(lengths); j++) {
            fill_frame(frame, lengths[j], j);
            client_expect(client, frame, lengths[j]);
            g_assert_cmpuint(client->header.flags, ==, 0);
            g_assert_cmpuint(GUINT16_FROM_LE(client->header.num_buffers), ==, 1);
        }
        client_expect_nothing(client);
        client_close(client);
        close(peer);
    }
}

static void test_stream_hostile_lengths(void)
{
    static const uint32_t lengths[] = {0, LARGEST + 1, 0x80000000, UINT32_MAX};
    uint8_t frame[60], bytes[100];

    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        uint32_t be = GUINT32_TO_BE(lengths[i]);
        struct client *client;
        size_t size;
        int peer;

        client = open_fd(SOCK_STREAM, &peer);
        fill_frame(frame, sizeof(frame), 1);
        size = put_frame(bytes, frame, sizeof(frame));
        memcpy(bytes + size, &be, 4);
        g_assert_cmpint(send(peer, bytes, size + 4, 0), ==, size + 4);
        client_expect(client, frame, sizeof(frame)); /* what came before is good */
        g_assert_true(is_closed(peer));
        g_assert_cmpuint(client->downs, ==, 1);
        g_assert_cmpint(client_send_as(client, NULL, frame, sizeof(frame)), ==, -ENOTCONN);
        client_expect_nothing(client);
        client_close(client);
        close(peer);
    }
}

/* Lost are a frame too short to be one, and one that the buffers do not hold; not the next. */
static void test_stream_receive_sizes(void)
{
    uint8_t frame[2000], bytes[4000];
    struct client *client;
    size_t size;
    int peer;

    client = open_fd(SOCK_STREAM, &peer);
    client->room = NET_HEADER_SIZE + 1514;
    fill_frame(frame, sizeof(frame), 3);
    size = put_frame(bytes, frame, 13);
    size += put_frame(bytes + size, frame, 1515);
    size += put_frame(bytes + size, frame, 1514);
    g_assert_cmpint(send(peer, bytes, size, 0), ==, size);
    client_expect(client, frame, 1514);
    g_assert_cmpuint(client->net->dropped, ==, 2);
    client_close(client);
    close(peer);
}

/* What the client does not take stays in the socket, and the loop at rest. */
static void test_stream_paused(void)
{
    uint8_t frame[1000] = {0}, bytes[1004];
    struct client *client;
    unsigned sent = 0;
    int peer;

    client = open_fd(SOCK_STREAM, &peer);
    client->taking = false;
    put_frame(bytes, frame, sizeof(frame));
    for (; send(peer, bytes, sizeof(bytes), MSG_DONTWAIT) == sizeof(bytes); sent++)
        loop_iterate(loop_main(), false);
    g_assert_cmpuint(client->readable, ==, 1);
    g_assert_cmpuint(count_turns(), <, 10);
    close(peer);
    g_assert_cmpuint(count_turns(), <, 10);
    client->taking = true;
    client_take(client, 0);
    g_assert_true(wait_until(client->downs));
    g_assert_cmpuint(client->frames->len, >=, sent);
    client_close(client);
}

/* A peer that reads slowly: sending says so, and goes on when there is room; nothing is lost. */
static void test_stream_slow_peer(void)
{
    uint8_t frame[5000], got[5004];
    struct client *client;
    unsigned sent = 0;
    int peer;

    client = open_fd(SOCK_STREAM, &peer);
    for (;; sent++) {
        fill_frame(frame, sizeof(frame), sent);
        if (client_send_as(client, NULL, frame, sizeof(frame)) == -EAGAIN)
            break;
        g_assert_cmpuint(sent, <, 1000);
    }
    g_assert_cmpuint(count_turns(), <, 10);
    for (unsigned i = 0; i < sent; i++) {
        fill_frame(frame, sizeof(frame), i);
        read_all(peer, got, sizeof(got));
        g_assert_cmpmem(got + 4, sizeof(frame), frame, sizeof(frame));
    }
    g_assert_true(wait_until(client->writable == 1));
    client_send(client, frame, sizeof(frame));
    read_all(peer, got, sizeof(got));
    g_assert_cmpuint(client->net->dropped, ==, 0);
    client_close(client);
    close(peer);
}

static void test_stream_peer_gone_while_blocked(void)
{
    uint8_t frame[5000] = {0};
    struct client *client;
    int peer;

    client = open_fd(SOCK_STREAM, &peer);
    while (client_send_as(client, NULL, frame, sizeof(frame)) != -EAGAIN)
        ;
    close(peer);
    g_assert_true(wait_until(client->writable));
    g_assert_cmpuint(client->downs, ==, 1);
    g_assert_cmpint(client_send_as(client, NULL, frame, sizeof(frame)), ==, -ENOTCONN);
    g_assert_cmpuint(count_turns(), <, 10);
    client_close(client);
}

/* A peer that hangs up but keeps its socket: neither room nor anything to read is ever told of. */
static void test_stream_hung_up_while_blocked(void)
{
    uint8_t frame[5000] = {0};
    struct client *client;
    int peer;

    client = open_fd(SOCK_STREAM, &peer);
    client->taking = false;
    client_take(client, 0);
    while (client_send_as(client, NULL, frame, sizeof(frame)) != -EAGAIN)
        ;
    g_assert_cmpint(shutdown(peer, SHUT_RDWR), ==, 0);
    g_assert_cmpuint(count_turns(), <, 10);
    g_assert_cmpuint(client->downs, ==, 1);
    g_assert_cmpuint(client->writable, ==, 1);
    client_close(client);
    close(peer);
}

static void test_stream_reconnects(void)
{
    g_autofree char *path = path_of("again");
    uint8_t frame[60], got[64];
    int listener = bound_socket(path, SOCK_STREAM), peer;
    struct client *client = open_at("type=stream,path=%s", "again");

    g_assert_true(client->net->link_up);
    peer = accept(listener, NULL, NULL);
    g_assert_cmpint(peer, >=, 0);
    g_assert_cmpint(send(peer, "\0\0\0\x20half", 8, 0), ==,
                    8); /* is not mixed with what comes later */
    turn_for(5);
    close(peer);
    g_assert_true(wait_until(client->downs == 1));
    close(listener); /* the other side is away for a while */
    g_assert_cmpint(g_unlink(path), ==, 0);
    turn_for(1500);
    g_assert_cmpuint(client->ups, ==, 0);
    listener = bound_socket(path, SOCK_STREAM);
    g_assert_true(wait_until((peer = accept(listener, NULL, NULL)) >= 0));
    g_assert_true(wait_until(client->ups == 1));
    fill_frame(frame, sizeof(frame), 1);
    client_send(client, frame, sizeof(frame));
    read_all(peer, got, sizeof(got));
    g_assert_cmpmem(got + 4, 60, frame, 60);
    g_assert_cmpint(send(peer, got, sizeof(got), 0), ==, sizeof(got));
    client_expect(client, frame, sizeof(frame));
    client_close(client);
    close(peer);
    close(listener);
    g_assert_cmpint(g_unlink(path), ==, 0); /* it was not ours */
}

static void test_stream_server(void)
{
    g_autofree char *path = path_of("server");
    struct client *client = open_at("type=stream,server=on,path=%s", "server");
    uint8_t frame[60], got[64];
    int peers[2];

    g_assert_false(client->net->link_up);
    g_assert_cmpint(client_send_as(client, NULL, frame, sizeof(frame)), ==, -ENOTCONN);
    fill_frame(frame, sizeof(frame), 1);
    peers[0] = connected_socket(path);
    peers[1] = connected_socket(path);
    g_assert_true(wait_until(client->ups == 1));
    put_frame(got, frame, sizeof(frame));
    g_assert_cmpint(send(peers[1], got, sizeof(got), 0), ==, sizeof(got)); /* waits for its turn */
    client_expect_nothing(client);
    client_send(client, frame, sizeof(frame));
    read_all(peers[0], got, sizeof(got));
    close(peers[0]);
    g_assert_true(wait_until(client->ups == 2));
    g_assert_cmpuint(client->downs, ==, 1);
    client_expect(client, frame, sizeof(frame));
    client_send(client, frame, sizeof(frame));
    read_all(peers[1], got, sizeof(got));
    g_assert_cmpuint(count_turns(), <, 10);
    client_close(client);
    g_assert_true(is_closed(peers[1]));
    close(peers[1]);
    g_assert_false(scratch_exists(dir, "server"));
}

/* While the guest's queue is off nothing is read, accepted or lost. */
static void test_stream_inactive(void)
{
    g_autofree char *path = path_of("inactive");
    struct client *client = open_at("type=stream,server=on,path=%s", "inactive");
    uint8_t frame[60], got[64];
    int peer;

    client_active(client, false);
    peer = connected_socket(path);
    fill_frame(frame, sizeof(frame), 1);
    put_frame(got, frame, sizeof(frame));
    g_assert_cmpint(send(peer, got, sizeof(got), 0), ==, sizeof(got));
    g_assert_cmpuint(count_turns(), <, 10);
    g_assert_cmpuint(client->ups, ==, 0);
    client_active(client, true);
    client_expect(client, frame, sizeof(frame));
    client_active(client, false);
    g_assert_cmpint(send(peer, got, sizeof(got), 0), ==, sizeof(got));
    client_expect_nothing(client);
    client_active(client, true);
    client_expect(client, frame, sizeof(frame));
    client_close(client);
    close(peer);
}

static void test_stream_two_ends(void)
{
    g_autofree uint8_t *frame = g_malloc(LARGEST);
    struct client *server = open_at("type=stream,server=on,path=%s", "pair");
    struct client *client = open_at("type=stream,path=%s", "pair");

    g_assert_true(wait_until(server->net->link_up));
    for (unsigned i = 0; i < 300; i++) {
        size_t length = 14 + i * 200;

        fill_frame(frame, length, i);
        client_send(i & 1 ? server : client, frame, length);
        client_expect(i & 1 ? client : server, frame, length);
    }
    client_close(client);
    client_close(server);
}

static void test_stale_socket(void)
{
    g_autofree char *path = path_of("stale"), *text = NULL, *message = NULL;
    int fd = bound_socket(path, SOCK_STREAM);

    text = g_strdup_printf("type=stream,server=on,path=%s", path);
    message =
        g_strdup_printf("--net: path=%s: another process serves this socket; stop it or choose "
                        "another path",
                        path);
    client_refused(text, message);
    close(fd); /* its program died: the file stays */
    g_assert_true(scratch_exists(dir, "stale"));
    client_close(open_at("type=stream,server=on,path=%s", "stale"));
    g_assert_false(scratch_exists(dir, "stale"));
}

/* ---- dgram ---- */

static void test_dgram_pair(void)
{
    g_autofree char *one = path_of("one"), *two = path_of("two");
    g_autofree char *first = g_strdup_printf("type=dgram,local=%s,path=%s", one, two);
    g_autofree char *second = g_strdup_printf("type=dgram,local=%s,path=%s", two, one);
    g_autofree uint8_t *frame = g_malloc(LARGEST);
    struct client *a = client_open(first), *b;

    fill_frame(frame, 60, 1);
    client_send(a, frame, 60); /* nobody is there yet: lost */
    g_assert_cmpuint(a->net->dropped, ==, 1);
    b = client_open(second);
    for (unsigned i = 0; i < 200; i++) {
        size_t length = 14 + i * 329;

        fill_frame(frame, length, i);
        client_send(i & 1 ? b : a, frame, length);
        client_expect(i & 1 ? a : b, frame, length);
        g_assert_cmpuint(GUINT16_FROM_LE((i & 1 ? a : b)->header.num_buffers), ==, 1);
    }
    client_close(b);
    g_assert_false(scratch_exists(dir, "two"));
    client_send(a, frame, 60);
    b = client_open(second); /* comes back */
    client_send(a, frame, 60);
    client_expect(b, frame, 60);
    client_close(a);
    client_close(b);
    g_assert_false(scratch_exists(dir, "one"));
}

static void test_dgram_sizes(void)
{
    uint8_t frame[3000];
    struct client *client;
    int peer;

    client = open_fd(SOCK_DGRAM, &peer);
    client->room = NET_HEADER_SIZE + 1514;
    fill_frame(frame, sizeof(frame), 1);
    g_assert_cmpint(send(peer, frame, 0, 0), ==, 0);
    g_assert_cmpint(send(peer, frame, 13, 0), ==, 13);
    g_assert_cmpint(send(peer, frame, 1515, 0), ==, 1515);
    g_assert_cmpint(send(peer, frame, 3000, 0), ==, 3000);
    g_assert_cmpint(send(peer, frame, 1514, 0), ==, 1514);
    client_expect(client, frame, 1514);
    g_assert_cmpuint(client->net->dropped, ==, 4);
    client->taking = false;
    g_assert_cmpint(send(peer, frame, 60, 0), ==, 60);
    g_assert_cmpuint(count_turns(), <, 10);
    client->taking = true;
    client_take(client, 0);
    client_expect(client, frame, 60);
    close(peer);
    for (unsigned i = 0; i < 5; i++)
        client_send(client, frame, 60); /* into the void */
    g_assert_cmpuint(count_turns(), <, 10);
    client_close(client);
}

/* ---- offloads, for a peer that takes none ---- */

static void test_segments(void)
{
    static const struct virtio_net_hdr_v1 header = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = GUINT16_TO_LE(54),
        .gso_size = GUINT16_TO_LE(1000),
        .csum_start = GUINT16_TO_LE(34),
        .csum_offset = GUINT16_TO_LE(16),
    };
    uint8_t frame[54 + 2500] = {2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 8, 0, 0x45, [23] = 6};
    uint8_t got[3 * 58 + 2500];
    struct client *client;
    int peer;

    frame[46] = 0x50;
    fill_frame(frame + 54, 2500, 1);
    client = open_fd(SOCK_STREAM, &peer);
    g_assert_cmpint(client_send_as(client, &header, frame, sizeof(frame)), ==,
                    NET_HEADER_SIZE + sizeof(frame));
    read_all(peer, got, sizeof(got));
    g_assert_cmpuint(got[2] << 8 | got[3], ==, 1054);
    g_assert_cmpmem(got + 58, 1000, frame + 54, 1000);
    g_assert_cmpuint(got[1058 + 2] << 8 | got[1058 + 3], ==, 1054);
    g_assert_cmpuint(got[2116 + 2] << 8 | got[2116 + 3], ==, 554);
    g_assert_cmpmem(got + 2116 + 58, 500, frame + 54 + 2000, 500);
    client_close(client);
    close(peer);

    client = open_fd(SOCK_DGRAM, &peer);
    client_send_as(client, &header, frame, sizeof(frame));
    g_assert_cmpint(recv(peer, got, sizeof(got), 0), ==, 1054);
    g_assert_cmpint(recv(peer, got, sizeof(got), 0), ==, 1054);
    g_assert_cmpint(recv(peer, got, sizeof(got), 0), ==, 554);
    g_assert_cmpint(recv(peer, got, sizeof(got), 0), ==, -1);
    client_close(client);
    close(peer);
}

/* ---- pcap ---- */

static void test_pcap(void)
{
    g_autofree char *path = path_of("record.pcap"), *text = NULL;
    g_autofree uint8_t *frame = g_malloc(LARGEST), *bytes = NULL;
    static const size_t lengths[] = {60, 1514, LARGEST};
    uint32_t header[6], record[4];
    struct client *client;
    int pair[2];
    size_t at = 24, size;
    gint64 before = g_get_real_time() / G_USEC_PER_SEC;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), ==, 0);
    text = g_strdup_printf("type=dgram,fd=%d,pcap=%s", pair[1], path);
    client = client_open(text);
    g_assert_cmpstr(client->net->implementation, ==, "dgram");
    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        fill_frame(frame, lengths[i], i);
        client_send(client, frame, lengths[i]);
        g_assert_cmpint(recv(pair[0], frame, LARGEST, 0), ==, lengths[i]);
        fill_frame(frame, lengths[i], 100 + i);
        g_assert_cmpint(send(pair[0], frame, lengths[i], 0), ==, lengths[i]);
        client_expect(client, frame, lengths[i]);
    }
    client_close(client);
    close(pair[0]);

    g_assert_true(g_file_get_contents(path, (char **)&bytes, &size, NULL));
    memcpy(header, bytes, sizeof(header));
    g_assert_cmphex(header[0], ==, 0xa1b23c4d);
    g_assert_cmphex(header[1], ==, 2 | 4 << 16);
    g_assert_cmpuint(header[4], ==, LARGEST);
    g_assert_cmpuint(header[5], ==, 1);
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(lengths); i++) {
        memcpy(record, bytes + at, sizeof(record));
        g_assert_cmpint(record[0], >=, before);
        g_assert_cmpint(record[0], <=, before + 60);
        g_assert_cmpuint(record[1], <, 1000000000);
        g_assert_cmpuint(record[2], ==, lengths[i / 2]);
        g_assert_cmpuint(record[3], ==, lengths[i / 2]);
        fill_frame(frame, lengths[i / 2], i & 1 ? 100 + i / 2 : i / 2);
        g_assert_cmpmem(bytes + at + 16, record[2], frame, lengths[i / 2]);
        at += 16 + record[2];
    }
    g_assert_cmpuint(at, ==, size);
}

/* The recording ends when the disk is full; the traffic does not. */
static void test_pcap_full(void)
{
    g_autofree char *path = path_of("short.pcap"), *text = NULL;
    struct rlimit limit, old;
    uint8_t frame[1000] = {0};
    struct client *client;
    struct stat status;

    signal(SIGXFSZ, SIG_IGN);
    text = g_strdup_printf("type=null,pcap=%s", path);
    client = client_open(text);
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
    limit = (struct rlimit){5000, old.rlim_max};
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    for (unsigned i = 0; i < 20; i++)
        client_send(client, frame, sizeof(frame));
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
    client_send(client, frame, sizeof(frame));
    g_assert_cmpuint(client->net->tx_frames, ==, 21);
    client_close(client);
    g_assert_cmpint(stat(path, &status), ==, 0);
    g_assert_cmpint(status.st_size, ==, 5000);
}

/* A recording that goes to a program, which reads from the result. */
static struct client *open_fifo(const char *name, int *reader)
{
    g_autofree char *path = path_of(name);

    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    *reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    g_assert_cmpint(*reader, >=, 0);
    return open_at("type=null,pcap=%s", name);
}

/* What waits there, and nothing but whole records behind what was read before: how many. */
static unsigned read_records(int reader, GByteArray *bytes, size_t *at)
{
    uint8_t part[4096];
    unsigned records = 0;
    uint32_t record[4];
    ssize_t got;

    while ((got = read(reader, part, sizeof(part))) > 0)
        g_byte_array_append(bytes, part, got);
    for (; *at + sizeof(record) <= bytes->len; *at += sizeof(record) + record[2], records++) {
        memcpy(record, bytes->data + *at, sizeof(record));
        g_assert_cmpuint(record[2], ==, record[3]);
        if (*at + sizeof(record) + record[2] > bytes->len)
            break;
    }
    return records;
}

/* A program that does not read its recording holds nothing up. */
static void test_pcap_reader_stops(void)
{
    uint8_t frame[1000] = {0};
    struct client *client;
    int reader;

    client = open_fifo("stops", &reader);
    alarm(30); /* a write that waits would wait for ever */
    for (unsigned i = 0; i < 5000; i++)
        client_send(client, frame, sizeof(frame));
    alarm(0);
    g_assert_cmpuint(client->net->tx_frames, ==, 5000);
    client_close(client);
    close(reader);
}

/* What it has missed is missing whole, and it gets what comes after that. */
static void test_pcap_reader_goes_on(void)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    static uint8_t frame[30000];
    struct client *client;
    unsigned records;
    size_t at = 24;
    int reader;

    client = open_fifo("goes-on", &reader);
    alarm(30);
    for (unsigned i = 0; i < 100; i++)
        client_send(client, frame, sizeof(frame));
    records = read_records(reader, bytes, &at);
    g_assert_cmpuint(records, >, 0);
    g_assert_cmpuint(records, <, 100);
    for (unsigned i = 0; i < 3; i++)
        client_send(client, frame, 60);
    alarm(0);
    records += read_records(reader, bytes, &at);
    client_close(client);
    records += read_records(reader, bytes, &at);
    g_assert_cmpuint(at, ==, bytes->len);
    g_assert_cmpuint(bytes->data[at - 60 - 8], ==, 60); /* the last one's length */
    g_assert_cmpuint(records, <, 103);
    close(reader);
}

/* One that is gone ends the recording, and no more. */
static void test_pcap_reader_leaves(void)
{
    uint8_t frame[1000] = {0};
    struct client *client;
    int reader;

    client = open_fifo("leaves", &reader);
    client_send(client, frame, sizeof(frame));
    close(reader);
    for (unsigned i = 0; i < 3; i++)
        client_send(client, frame, sizeof(frame));
    client_close(client);
}

/* ---- null ---- */

static void test_null(void)
{
    struct client *client = client_open("type=null,queues=3");
    uint8_t frame[60] = {0};

    g_assert_cmpuint(client->net->queues, ==, 3);
    g_assert_true(client->net->link_up);
    client_send(client, frame, sizeof(frame));
    client_take(client, 0);
    client_expect_nothing(client);
    client_close(client);
}

/* ---- saved state of backends that have none ---- */

static void test_state(void)
{
    g_autoptr(GByteArray) saved = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    struct client *client = client_open("type=null");

    client_active(client, false);
    net_save(client->net, saved);
    g_assert_cmpmem(saved->data, saved->len, "\4null", 5);
    g_assert_true(net_load(client->net, saved->data, saved->len, &error));
    g_assert_no_error(error);
    g_assert_true(
        net_load(client->net, (const uint8_t *)"\3taprubbish", 11, &error)); /* another's */
    g_assert_no_error(error);
    g_assert_false(net_load(client->net, (const uint8_t *)"\5null", 5, &error));
    g_assert_cmpstr(error->message, ==, "null: the backend's saved state is cut off");
    g_clear_error(&error);
    g_assert_false(net_load(client->net, NULL, 0, &error));
    client_close(client);
}

/* ---- options ---- */

static void test_options(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"type=stream", "--net: path: is needed: the path of a UNIX socket"},
        {"type=dgram,path=/x", "--net: local: is needed: the path of a UNIX socket"},
        {"type=dgram,local=/x", "--net: path: is needed: the path of a UNIX socket"},
        {"type=stream,path=/no/such/folder/socket",
         "--net: path=/no/such/folder/socket: No such file or directory; start the other side "
         "first, or use server=on here"},
        {"type=stream,server=on,path=/no/such/folder/socket",
         "--net: path=/no/such/folder/socket: No such file or directory; create its folder first"},
        {"type=dgram,path=/x,local=/no/such/folder/socket",
         "--net: local=/no/such/folder/socket: No such file or directory; create its folder first"},
        {"type=stream,fd=9999", "--net: fd=9999: is not an open stream socket"},
        {"type=dgram,fd=2", "--net: fd=2: is not an open datagram socket"},
        {"type=tap,fd=2", "--net: fd=2: is not an open tap interface"},
        {"type=stream,fd=9999,path=/x",
         "--net: path=/x: does not go with fd=, which is open already; leave one out"},
        {"type=null,path=/x", "--net: path=/x: is for type=stream, type=dgram, not for type=null"},
        {"type=stream,path=/x,local=/y", "--net: local=/y: is for type=dgram, not for type=stream"},
        {"type=tap,hostfwd=tcp::1-:1", "--net: hostfwd: is for type=user, not for type=tap"},
        {"type=tap,mtu=1500",
         "--net: mtu=1500: is for type=user, type=stream, type=dgram, not for type=tap"},
        {"type=stream,path=/x,queues=2",
         "--net: queues=2: is for type=tap, type=null, not for type=stream"},
        {"type=tap,ifname=a-name-of-sixteen",
         "--net: ifname=a-name-of-sixteen: must be an interface name: 1 to 15 bytes, no '/', '%' "
         "or blank"},
        {"type=null,pcap=/no/such/folder/file",
         "--net: pcap=/no/such/folder/file: No such file or directory"},
        {"type=bridge", "--net: type=bridge: must be one of user, tap, stream, dgram, null"},
        {"type=user,mtu=100", "--net: mtu=100: must be 576 to 65520"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
        client_refused(cases[i].text, cases[i].message);
}

static void test_option_paths(void)
{
    g_autofree char *long_path = g_strnfill(108, 'x');
    g_autofree char *path = path_of("regular"), *text = NULL, *message = NULL;

    text = g_strdup_printf("type=stream,server=on,path=%s", long_path);
    message = g_strdup_printf("--net: path=%s: 108 bytes are too long for a UNIX socket, which has "
                              "room for 107 bytes; use a shorter or a relative path",
                              long_path);
    client_refused(text, message);
    g_free(text);
    g_free(message);

    scratch_write(dir, "regular", "precious");
    text = g_strdup_printf("type=stream,server=on,path=%s", path);
    message = g_strdup_printf(
        "--net: path=%s: there is something that is not a socket; remove it or choose another path",
        path);
    client_refused(text, message);
    g_free(text);
    text = g_strdup_printf("type=dgram,path=/x,local=%s", path);
    g_free(message);
    message = g_strdup_printf("--net: local=%s: there is something that is not a socket; remove it "
                              "or choose another path",
                              path);
    client_refused(text, message);
    g_free(text);
    text = scratch_read(dir, "regular");
    g_assert_cmpstr(text, ==, "precious");
}

/* A pcap that can't be written: the socket that was made before it goes, too. */
static void test_nothing_left(void)
{
    g_autofree char *path = path_of("half");
    g_autofree char *text =
        g_strdup_printf("type=stream,server=on,path=%s,pcap=/no/such/folder/file", path);
    g_autoptr(GDir) fds = NULL;
    unsigned before = 0, after = 0;

    fds = g_dir_open("/proc/self/fd", 0, NULL);
    while (g_dir_read_name(fds))
        before++;
    client_refused(text, "--net: pcap=/no/such/folder/file: No such file or directory");
    g_assert_false(scratch_exists(dir, "half"));
    g_dir_rewind(fds);
    while (g_dir_read_name(fds))
        after++;
    g_assert_cmpuint(after, ==, before);
}

int main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    dir = scratch_create();
    g_test_add_func("/net/stream/send", test_stream_send);
    g_test_add_func("/net/stream/receive-split", test_stream_receive_split);
    g_test_add_func("/net/stream/hostile-lengths", test_stream_hostile_lengths);
    g_test_add_func("/net/stream/receive-sizes", test_stream_receive_sizes);
    g_test_add_func("/net/stream/paused", test_stream_paused);
    g_test_add_func("/net/stream/slow-peer", test_stream_slow_peer);
    g_test_add_func("/net/stream/gone-while-blocked", test_stream_peer_gone_while_blocked);
    g_test_add_func("/net/stream/hung-up-while-blocked", test_stream_hung_up_while_blocked);
    g_test_add_func("/net/stream/reconnects", test_stream_reconnects);
    g_test_add_func("/net/stream/server", test_stream_server);
    g_test_add_func("/net/stream/inactive", test_stream_inactive);
    g_test_add_func("/net/stream/two-ends", test_stream_two_ends);
    g_test_add_func("/net/stream/stale-socket", test_stale_socket);
    g_test_add_func("/net/dgram/pair", test_dgram_pair);
    g_test_add_func("/net/dgram/sizes", test_dgram_sizes);
    g_test_add_func("/net/segments", test_segments);
    g_test_add_func("/net/pcap/both-ways", test_pcap);
    g_test_add_func("/net/pcap/full", test_pcap_full);
    g_test_add_func("/net/pcap/reader-stops", test_pcap_reader_stops);
    g_test_add_func("/net/pcap/reader-goes-on", test_pcap_reader_goes_on);
    g_test_add_func("/net/pcap/reader-leaves", test_pcap_reader_leaves);
    g_test_add_func("/net/null", test_null);
    g_test_add_func("/net/state", test_state);
    g_test_add_func("/net/options/refused", test_options);
    g_test_add_func("/net/options/paths", test_option_paths);
    g_test_add_func("/net/options/nothing-left", test_nothing_left);
    status = g_test_run();
    scratch_remove(dir);
    g_free(dir);
    return status;
}
