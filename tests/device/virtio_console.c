/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The console device: control messages as Linux' driver sends them, ports, flow control, lifecycle. */
#include "tests/device/virtio_console.h"

#define SPINS 20000u

/* ---- one console, two queues ---- */

static void test_single(gconstpointer features)
{
    struct fixture f;
    struct host *host;

    setup(&f);
    host = add_port(&f, NULL, true);
    attach(&f);
    g_assert_cmpuint(f.driver->queue_count, ==, 2);
    g_assert_cmphex(virtio_driver_offered(f.driver) & MULTIPORT, ==, 0);
    g_assert_cmpuint(host_write(host, "early"), ==, 0);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    g_assert_cmpuint(host->opened, ==, 1);
    g_assert_true(console_port_guest_is_open(host->port));
    for (unsigned i = 0; i < 100; i++) {
        g_byte_array_set_size(host->got, 0);
        guest_write(&f, 1, "hello");
        expect_got(host, "hello");
    }
    g_assert_cmpuint(host_write(host, "abc"), ==, 0); /* nothing posted */
    g_assert_cmpuint(host->writable, ==, 1);          /* of the write before the start */
    post(&f, 0, 4);
    harness_settle(f.h, 2);
    g_assert_cmpuint(host->writable, ==, 2);
    for (unsigned i = 0; i < 100; i++) {
        g_assert_cmpuint(host_write(host, "abc"), ==, 3);
        expect_received(&f, 0, "abc");
    }
    virtio_driver_reset(f.driver);
    g_assert_cmpuint(host->closed, ==, 1);
    g_assert_cmpuint(host_write(host, "abc"), ==, 0);
    teardown(&f);
}

static void test_size(void)
{
    struct fixture f;

    setup(&f);
    add_port(&f, NULL, true);
    attach(&f);
    virtio_console_resize(f.vdev, 80, 25);
    virtio_driver_start(f.driver, BIT(VIRTIO_CONSOLE_F_SIZE));
    g_assert_cmpuint(virtio_driver_config(f.driver, 0, 2), ==, 80);
    g_assert_cmpuint(virtio_driver_config(f.driver, 2, 2), ==, 25);
    g_assert_cmpuint(virtio_driver_config_interrupts(f.driver), ==, 0);
    virtio_console_resize(f.vdev, 132, 50);
    g_assert_true(harness_wait_msi(f.h, f.driver->slot, 0, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmpuint(virtio_driver_config(f.driver, 0, 2), ==, 132);
    g_assert_cmpuint(virtio_driver_config(f.driver, 2, 2), ==, 50);
    teardown(&f);
}

static void test_emergency_write(void)
{
    struct fixture f;
    struct host *host;

    setup(&f);
    host = add_port(&f, NULL, true);
    attach(&f);
    for (const char *c = "panic"; *c; c++) /* before any driver */
        harness_bar_write(f.h, f.driver->slot, f.driver->bar, f.driver->config + 8, 4, *c);
    expect_got(host, "panic");
    teardown(&f);
}

/* ---- ports ---- */

static void test_ports(gconstpointer features)
{
    struct fixture f;
    struct host *console, *control, *data;

    setup(&f);
    console = add_port(&f, NULL, true);
    control = add_port(&f, "org.example.control", false);
    data = add_port(&f, "org.example.data", false);
    console_port_set_open(data->port, false);
    attach(&f);
    g_assert_cmpuint(f.driver->queue_count, ==, 8);
    for (unsigned round = 0; round < 2; round++) {
        start_ports(&f, *(const uint64_t *)features);
        port_is_ready(&f, 0, NULL);
        expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
        port_is_ready(&f, 1, "org.example.control");
        expect_plain(&f, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
        port_is_ready(&f, 2, "org.example.data");
        expect_nothing(&f); /* the host side of it is closed */

        g_assert_cmpuint(control->opened, ==, round);
        send_control(&f, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
        send_control(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
        g_assert_cmpuint(control->opened, ==, round + 1);
        guest_write(&f, 5, "to control");
        expect_got(control, "to control");
        g_assert_cmpuint(console->got->len, ==, 0);
        post(&f, 4, 2);
        g_assert_cmpuint(host_write(control, "from control"), ==, 12);
        expect_received(&f, 4, "from control");
        g_assert_cmpuint(host_write(data, "x"), ==, 0); /* the guest has it closed */
        send_control(&f, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
        g_assert_cmpuint(control->closed, ==, round + 1);
        g_assert_cmpuint(host_write(control, "x"), ==, 0);
        send_control(&f, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
        control->opened--;
        virtio_driver_reset(f.driver);
        g_assert_cmpuint(control->closed, ==, round + 2);
        control->closed--;
        g_byte_array_set_size(control->got, 0);
    }
    teardown(&f);
}

static void test_host_open(void)
{
    struct fixture f;
    struct host *host;

    setup(&f);
    host = add_port(&f, "p", false);
    attach(&f);
    g_assert_cmpuint(f.driver->queue_count, ==, 4);
    start_ports(&f, 0);
    port_is_ready(&f, 0, "p");
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    for (unsigned i = 0; i < 3; i++) {
        console_port_set_open(host->port, false);
        expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
        console_port_set_open(host->port, false);
        expect_nothing(&f);
        console_port_set_open(host->port, true);
        expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    }
    teardown(&f);
}

/* While the driver has no buffers for messages nothing is lost: a peer that left and came back did. */
static void test_control_without_buffers(void)
{
    struct fixture f;
    struct host *host;

    setup(&f);
    host = add_port(&f, "p", false);
    add_port(&f, "q", false);
    attach(&f);
    virtio_driver_start(f.driver, MULTIPORT);
    send_control(&f, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    harness_settle(f.h, 5);
    post(&f, CONTROL_RX, 1); /* one at a time */
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_ADD, -1);
    expect_plain(&f, 1, VIRTIO_CONSOLE_PORT_ADD, -1);
    port_is_ready(&f, 0, "p");
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    /* Take the only buffer away for a while. */
    virtio_console_resize(f.vdev, 1, 1);
    console_port_set_open(host->port, false);
    console_port_set_open(host->port, true);
    console_port_set_open(host->port, false);
    console_port_set_open(host->port, true);
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    expect_nothing(&f);
    teardown(&f);
}

static void test_ports_resize(void)
{
    struct fixture f;
    g_autoptr(GBytes) first = NULL, second = NULL;
    const uint16_t before[2] = {80, 24}, after[2] = {100, 40};

    setup(&f);
    add_port(&f, NULL, true);
    add_port(&f, "p", false);
    attach(&f);
    virtio_console_resize(f.vdev, 80, 24);
    start_ports(&f, BIT(VIRTIO_CONSOLE_F_SIZE));
    port_is_ready(&f, 0, NULL);
    first = expect(&f, 0, VIRTIO_CONSOLE_RESIZE, -1);
    g_assert_cmpmem(g_bytes_get_data(first, NULL), g_bytes_get_size(first), before, 4);
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    virtio_console_resize(f.vdev, 100, 40);
    second = expect(&f, 0, VIRTIO_CONSOLE_RESIZE, -1);
    g_assert_cmpmem(g_bytes_get_data(second, NULL), g_bytes_get_size(second), after, 4);
    expect_nothing(&f);
    teardown(&f);
}

/* Messages that make no sense are passed over, and the device goes on. */
static void test_bad_control(void)
{
    struct fixture f;
    struct driver_buffer out;

    setup(&f);
    add_port(&f, "p", false);
    attach(&f);
    out = (struct driver_buffer){f.out, 3};
    start_ports(&f, 0);
    send_control(&f, 0, VIRTIO_CONSOLE_DEVICE_READY, 1); /* again */
    send_control(&f, 7, VIRTIO_CONSOLE_PORT_READY, 1);
    send_control(&f, UINT32_MAX, VIRTIO_CONSOLE_PORT_OPEN, 1);
    send_control(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1); /* before it is ready */
    send_control(&f, 0, 99, 1);
    send_control(&f, 0, VIRTIO_CONSOLE_PORT_READY, 0);
    g_assert_cmpint(virtio_driver_request(f.driver, CONTROL_TX, &out, 1, NULL, 0), ==, 0);
    expect_nothing(&f);
    g_assert_cmpuint(f.hosts[0].opened, ==, 0);
    port_is_ready(&f, 0, "p");
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    send_control(&f, 0, VIRTIO_CONSOLE_PORT_READY, 1); /* again */
    expect_nothing(&f);
    g_assert_cmphex(virtio_driver_status(f.driver) & VIRTIO_CONFIG_S_NEEDS_RESET, ==, 0);
    teardown(&f);
}

/* ---- flow control ---- */

static void test_output_back_pressure(gconstpointer features)
{
    struct fixture f;
    struct host *host;
    uint64_t at;
    struct driver_buffer out[3];

    setup(&f);
    host = add_port(&f, NULL, true);
    attach(&f);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    at = f.out + 4096;
    for (unsigned i = 0; i < 20000; i++)
        harness_store(f.h, at + i, 1, (uint8_t)(i * 7 + i / 256));
    out[0] = (struct driver_buffer){at, 1};
    out[1] = (struct driver_buffer){at + 1, 9999};
    out[2] = (struct driver_buffer){at + 10000, 5000};
    host->limit = 100;
    virtio_driver_submit(f.driver, 1, out, 3, NULL, 0, &f);
    harness_settle(f.h, 5);
    while (host->limit < 13000) {
        g_assert_cmpuint(host->got->len, ==, host->limit);
        g_assert_null(driver_ring_reap(virtio_driver_ring(f.driver, 1), NULL));
        virtio_driver_kick(f.driver, 1); /* makes no difference */
        harness_settle(f.h, 2);
        g_assert_cmpuint(host->got->len, ==, host->limit);
        host->limit += 1777;
        console_port_resume(host->port);
    }
    host->limit = SIZE_MAX;
    console_port_resume(host->port);
    g_assert_true(virtio_driver_wait(f.driver, 1, NULL) == &f);
    g_assert_cmpuint(host->got->len, ==, 15000);
    g_assert_cmpmem(host->got->data, 15000, harness_ptr(f.h, at, 15000), 15000);
    teardown(&f);
}

/* A guest that writes without end does not keep the loop from turning. */
static void test_output_yields(void)
{
    struct fixture f;
    struct host *host;
    struct driver_buffer out;

    setup(&f);
    host = add_port(&f, NULL, true);
    attach(&f);
    virtio_driver_start(f.driver, 0);
    out = (struct driver_buffer){0x2000000, 16 << 20};
    virtio_driver_submit(f.driver, 1, &out, 1, NULL, 0, &f);
    for (unsigned i = 0; i < 3 && loop_iterate(f.h->loop, false); i++)
        ;
    g_assert_cmpuint(host->got->len, >, 0);
    g_assert_cmpuint(host->got->len, <=, 1 << 20);
    g_assert_true(virtio_driver_wait(f.driver, 1, NULL) == &f);
    g_assert_cmpuint(host->got->len, ==, 16 << 20);
    teardown(&f);
}

static void test_input_back_pressure(gconstpointer features)
{
    struct fixture f;
    struct host *host;
    uint8_t data[2000];
    size_t done = 0;
    unsigned got = 0;

    setup(&f);
    host = add_port(&f, NULL, true);
    attach(&f);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = i * 5 + i / 256;
    post(&f, 0, 3);
    harness_settle(f.h, 2);
    done = console_port_write(host->port, data, sizeof(data));
    g_assert_cmpuint(done, ==, 3 * BUFFER);
    while (got < sizeof(data)) {
        unsigned told = host->writable;
        g_autoptr(GBytes) bytes = received(&f, 0);
        gsize size;
        const void *piece = g_bytes_get_data(bytes, &size);

        g_assert_cmpmem(piece, size, data + got, MIN(size, sizeof(data) - got));
        got += size;
        harness_settle(f.h, 2);
        if (done < sizeof(data)) {
            g_assert_cmpuint(host->writable, ==, told + 1);
            done += console_port_write(host->port, data + done, sizeof(data) - done);
        }
    }
    teardown(&f);
}

/* A handler that answers from its receive callback. */
static size_t on_echo(void *opaque, const uint8_t *data, size_t size)
{
    struct host *host = opaque;

    g_byte_array_append(host->got, data, size);
    return console_port_write(host->port, data, size);
}

static void test_answer_from_callback(void)
{
    static const struct console_port_ops echo_ops = {.receive = on_echo};
    struct fixture f;
    struct host *host = &f.hosts[0];
    g_autoptr(GError) error = NULL;

    setup(&f);
    f.ports = 1;
    host->got = g_byte_array_new();
    host->port = virtio_console_add_port(f.vdev, NULL, true, &echo_ops, host, &error);
    attach(&f);
    virtio_driver_start(f.driver, 0);
    post(&f, 0, 4);
    for (unsigned i = 0; i < 20; i++) {
        guest_write(&f, 1, "ping");
        expect_received(&f, 0, "ping");
    }
    teardown(&f);
}

/* A driver as Linux' hvc: one short chain after the other, each waited for without a pause. */
struct spinning {
    struct fixture *f;
    unsigned done;
    bool stuck;
};

static gpointer spin(gpointer data)
{
    struct spinning *spinning = data;
    struct fixture *f = spinning->f;
    struct driver_ring *ring = virtio_driver_ring(f->driver, 1);
    const struct driver_buffer out = {f->out + 1024, 16};

    for (unsigned i = 0; i < SPINS; i++) {
        int64_t until = loop_now_ns() + INT64_C(5000000000);

        g_assert_true(driver_ring_add(ring, &out, 1, NULL, 0, false, f));
        if (driver_ring_publish(ring))
            virtio_driver_kick(f->driver, 1);
        while (!driver_ring_reap(ring, NULL))
            if (loop_now_ns() > until) {
                __atomic_store_n(&spinning->stuck, true, __ATOMIC_RELEASE);
                return NULL;
            }
        __atomic_store_n(&spinning->done, i + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void test_driver_that_spins(gconstpointer features)
{
    struct fixture f;
    struct spinning spinning = {&f};
    struct host *host;
    GThread *thread;

    setup(&f);
    host = add_port(&f, NULL, true);
    attach(&f);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    thread = g_thread_new("spin", spin, &spinning);
    while (__atomic_load_n(&spinning.done, __ATOMIC_ACQUIRE) < SPINS &&
           !__atomic_load_n(&spinning.stuck, __ATOMIC_ACQUIRE))
        loop_iterate(f.h->loop, false);
    g_thread_join(thread);
    g_assert_false(spinning.stuck);
    g_assert_cmpuint(host->got->len, ==, 16 * SPINS);
    teardown(&f);
}

/* ---- lifecycle ---- */

static void test_pause(void)
{
    struct fixture f;
    struct host *host;
    g_autoptr(GError) error = NULL;
    const char *text = "while paused";
    struct driver_buffer out;

    setup(&f);
    host = add_port(&f, "p", false);
    attach(&f);
    out = (struct driver_buffer){f.out + 512, strlen(text)};
    start_ports(&f, PACKED);
    port_is_ready(&f, 0, "p");
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    send_control(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    post(&f, 0, 2);
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING_P2P, 1000, &error));
    harness_write(f.h, out.gpa, text, out.len);
    virtio_driver_submit(f.driver, 1, &out, 1, NULL, 0, &f);
    g_assert_cmpuint(host_write(host, "x"), ==, 0);
    console_port_set_open(host->port, false);
    expect_nothing(&f);
    g_assert_cmpuint(host->got->len, ==, 0);
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING, 1000, &error));
    g_assert_true(virtio_driver_wait(f.driver, 1, NULL) == &f);
    expect_got(host, text);
    g_assert_cmpuint(host->writable, ==, 1);
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
    teardown(&f);
}

/* In the middle of a chain, with the driver yet to be told of the name. */
static void test_save_and_load(void)
{
    struct fixture f;
    struct host *host;
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) saved = g_byte_array_new();
    struct device *device;
    struct driver_buffer out;

    setup(&f);
    host = add_port(&f, "p", false);
    add_port(&f, "late", false);
    attach(&f);
    device = &f.driver->function->device;
    start_ports(&f, 0);
    port_is_ready(&f, 0, "p");
    expect_plain(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    send_control(&f, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    out = (struct driver_buffer){f.out + 512, 10};
    harness_write(f.h, out.gpa, "0123456789", 10);
    host->limit = 4;
    virtio_driver_submit(f.driver, 1, &out, 1, NULL, 0, &f);
    harness_settle(f.h, 5);
    expect_got(host, "0123");
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_STOP_COPY, 1000, &error));
    g_assert_true(device_save(device, saved, &error));
    devices_reset(&f.h->devices);
    g_assert_false(console_port_guest_is_open(host->port));
    host->limit = SIZE_MAX;
    g_assert_true(harness_load_state(device, saved, &error));
    g_assert_no_error(error);
    g_assert_true(console_port_guest_is_open(host->port));
    g_assert_true(virtio_driver_wait(f.driver, 1, NULL) == &f);
    expect_got(host, "0123456789");
    port_is_ready(&f, 1, "late");
    expect_plain(&f, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    post(&f, 0, 1);
    g_assert_cmpuint(host_write(host, "on"), ==, 2);
    expect_received(&f, 0, "on");
    teardown(&f);
}

static void test_errors(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;
    g_autofree char *longest = g_strnfill(128, 'n');

    setup(&f);
    g_assert_null(virtio_console_add_port(f.vdev, longest, false, NULL, NULL, &error));
    g_assert_nonnull(strstr(error->message, "127"));
    g_clear_error(&error);
    g_assert_null(virtio_console_add_port(f.vdev, "", false, NULL, NULL, &error));
    g_clear_error(&error);
    for (unsigned i = 0; i < VIRTIO_CONSOLE_MAX_PORTS; i++)
        g_assert_nonnull(virtio_console_add_port(f.vdev, "n", false, NULL, NULL, &error));
    g_assert_null(virtio_console_add_port(f.vdev, "n", false, NULL, NULL, &error));
    g_assert_nonnull(strstr(error->message, "31"));
    attach(&f);
    g_assert_cmpuint(f.driver->queue_count, ==, 2 * (VIRTIO_CONSOLE_MAX_PORTS + 1));
    teardown(&f);
}

int main(int argc, char **argv)
{
    static const uint64_t sets[] = {0, EVENT_IDX, PACKED, PACKED | EVENT_IDX,
                                    PACKED | EVENT_IDX | BIT(VIRTIO_F_IN_ORDER)};
    static const struct {
        const char *name;
        GTestDataFunc test;
    } matrix[] = {
        {"single", test_single},
        {"ports", test_ports},
        {"output-back-pressure", test_output_back_pressure},
        {"input-back-pressure", test_input_back_pressure},
        {"driver-that-spins", test_driver_that_spins},
    };

    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    for (unsigned i = 0; i < G_N_ELEMENTS(matrix); i++) {
        for (unsigned n = 0; n < G_N_ELEMENTS(sets); n++) {
            g_autofree char *path = g_strdup_printf("/virtio-console/%s/%u", matrix[i].name, n);
            g_test_add_data_func(path, &sets[n], matrix[i].test);
        }
    }
    g_test_add_func("/virtio-console/size", test_size);
    g_test_add_func("/virtio-console/emergency-write", test_emergency_write);
    g_test_add_func("/virtio-console/host-open", test_host_open);
    g_test_add_func("/virtio-console/control-without-buffers", test_control_without_buffers);
    g_test_add_func("/virtio-console/ports-resize", test_ports_resize);
    g_test_add_func("/virtio-console/bad-control", test_bad_control);
    g_test_add_func("/virtio-console/output-yields", test_output_yields);
    g_test_add_func("/virtio-console/answer-from-callback", test_answer_from_callback);
    g_test_add_func("/virtio-console/pause", test_pause);
    g_test_add_func("/virtio-console/save-and-load", test_save_and_load);
    g_test_add_func("/virtio-console/errors", test_errors);
    return g_test_run();
}
