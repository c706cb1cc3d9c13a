/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The console device with chardevs behind its ports: readers that are slow, stuck, or gone. */
#include <sys/socket.h>
#include <unistd.h>

#include "tests/device/virtio_console.h"

static int attach_socket(struct fixture *f, struct host *host)
{
    int fds[2];
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    g_autoptr(options_t) options = NULL;
    struct chardev *chardev;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), ==, 0);
    text = g_strdup_printf("type=fd,fd=%d", fds[1]);
    options = options_parse(char_options, "--console", text, &error);
    g_assert_no_error(error);
    chardev = char_open(options, f->h->loop, &error);
    g_assert_no_error(error);
    virtio_console_attach_char(host->port, chardev);
    return fds[0];
}

static void test_chardev(void)
{
    struct fixture f;
    struct host *host;
    char data[32];
    int fd;

    setup(&f);
    host = add_port(&f, "p", false);
    fd = attach_socket(&f, host);
    attach(&f);
    start_ports(&f, 0);
    port_is_ready(&f, 0, "p");
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    /* Nothing is read for a guest that has not opened the port. */
    g_assert_cmpint(write(fd, "for later", 9), ==, 9);
    post(&f, 0, 4);
    harness_settle(f.h, 5);
    g_assert_null(driver_ring_reap(virtio_driver_ring(f.driver, 0), NULL));
    send_control(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    expect_received(&f, 0, "for later");
    guest_write(&f, 1, "answer");
    g_assert_cmpint(read(fd, data, sizeof(data)), ==, 6);
    g_assert_cmpmem(data, 6, "answer", 6);
    close(fd);
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    guest_write(&f, 1, "to nobody");
    teardown(&f);
}

/* What a peer wrote before it left reaches the guest before the end of file does. */
static void test_chardev_end_of_file(void)
{
    struct fixture f;
    struct host *host;
    g_autofree char *data = g_strnfill(3000, 'x');
    unsigned got = 0;
    int fd;

    setup(&f);
    host = add_port(&f, "p", false);
    fd = attach_socket(&f, host);
    attach(&f);
    start_ports(&f, EVENT_IDX);
    port_is_ready(&f, 0, "p");
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    send_control(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    g_assert_cmpint(write(fd, data, 3000), ==, 3000);
    close(fd);
    harness_settle(f.h, 5);
    expect_nothing(&f);
    post(&f, 0, 2);
    while (got < 3000) {
        g_autoptr(GBytes) bytes = received(&f, 0);
        if (got + 4 * BUFFER < 3000) /* what is posted may be filled already */
            expect_nothing(&f);
        got += g_bytes_get_size(bytes);
    }
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    teardown(&f);
}

static void test_chardev_slow_reader(void)
{
    struct fixture f;
    struct host *host;
    struct driver_buffer out;
    g_autofree char *data = g_malloc(65536);
    size_t got = 0;
    int fd;

    setup(&f);
    host = add_port(&f, NULL, true);
    fd = attach_socket(&f, host);
    attach(&f);
    virtio_driver_start(f.driver, 0);
    out = (struct driver_buffer){0x2000000, 4 << 20};
    for (uint64_t i = 0; i < out.len; i += 8)
        harness_store(f.h, out.gpa + i, 8, i * 0x9e3779b97f4a7c15);
    virtio_driver_submit(f.driver, 1, &out, 1, NULL, 0, &f);
    harness_settle(f.h, 20);
    g_assert_null(driver_ring_reap(virtio_driver_ring(f.driver, 1), NULL));
    while (got < out.len) {
        ssize_t n = read(fd, data, 65536);
        if (n > 0) {
            g_assert_cmpmem(data, n, harness_ptr(f.h, out.gpa + got, n), n);
            got += n;
        }
        loop_iterate(f.h->loop, false);
    }
    g_assert_true(virtio_driver_wait(f.driver, 1, NULL) == &f);
    close(fd);
    teardown(&f);
}

/* A console's driver waits with interrupts off: not for ever. */
static void test_chardev_stuck_reader(void)
{
    struct fixture f;
    struct host *host;
    struct driver_buffer out;
    g_autofree char *data = g_malloc(65536);
    int64_t begun;
    size_t got = 0;
    ssize_t n;
    int fd;

    setup(&f);
    host = add_port(&f, NULL, true);
    fd = attach_socket(&f, host);
    attach(&f);
    virtio_driver_start(f.driver, 0);
    out = (struct driver_buffer){0x2000000, 4 << 20};
    virtio_driver_submit(f.driver, 1, &out, 1, NULL, 0, &f);
    begun = loop_now_ns();
    while (!driver_ring_reap(virtio_driver_ring(f.driver, 1), NULL)) {
        g_assert_cmpint(loop_now_ns() - begun, <, 10 * G_TIME_SPAN_SECOND * 1000);
        loop_iterate(f.h->loop, false);
    }
    g_assert_cmpint(loop_now_ns() - begun, >, 500 * 1000 * 1000);
    guest_write(&f, 1, "lost");
    /* The reader goes on: what was buffered comes, then what is written from now on. */
    while ((n = read(fd, data, 65536)) > 0 || got < 1000) {
        got += MAX(n, 0);
        loop_iterate(f.h->loop, false);
    }
    guest_write(&f, 1, "seen");
    g_assert_cmpint(read(fd, data, 65536), ==, 4);
    g_assert_cmpmem(data, 4, "seen", 4);
    close(fd);
    teardown(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    g_test_add_func("/virtio-console-chardev/echo", test_chardev);
    g_test_add_func("/virtio-console-chardev/end-of-file", test_chardev_end_of_file);
    g_test_add_func("/virtio-console-chardev/slow-reader", test_chardev_slow_reader);
    g_test_add_func("/virtio-console-chardev/stuck-reader", test_chardev_stuck_reader);
    return g_test_run();
}
