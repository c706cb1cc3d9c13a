/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The entropy device through its registers and ring. */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/device/virtio_driver.h"
#include "virtio/rng.h"

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define PACKED    (UINT64_C(1) << VIRTIO_F_RING_PACKED)
#define INDIRECT  (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

struct fixture {
    struct harness *h;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
};

static void setup(struct fixture *f, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(virtio_rng_options, "--rng", text, &error);
    struct virtio_device *vdev;

    g_assert_no_error(error);
    f->h = harness_create(0);
    vdev = virtio_rng_create(options, f->h->loop, &error);
    g_assert_no_error(error);
    f->vpci = virtio_pci_create(vdev, "rng0", &f->h->env, true, &error);
    g_assert_no_error(error);
    f->driver = virtio_driver_create(f->h, f->vpci);
}

static void teardown(struct fixture *f)
{
    virtio_driver_destroy(f->driver);
    virtio_pci_destroy(f->vpci);
    harness_destroy(f->h);
}

/* Random bytes that are not all the same: 32 of them never repeat. */
static void check_random(struct fixture *f, uint64_t gpa, uint32_t len)
{
    const uint8_t *data = harness_ptr(f->h, gpa, len);
    unsigned seen = 0;

    for (uint32_t i = 0; i < len; i++)
        seen += data[i] != data[0];
    g_assert_cmpuint(seen, >, len / 2);
}

static void test_fills_buffers(gconstpointer features)
{
    struct fixture f;

    setup(&f, "");
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    for (unsigned i = 0; i < 600; i++) {
        uint64_t gpa = harness_alloc(f.h, 128, 64);
        const struct driver_buffer in[2] = {{gpa, 64}, {gpa + 64, 64}};

        g_assert_cmpint(virtio_driver_request(f.driver, 0, NULL, 0, in, 2), ==, 128);
        check_random(&f, gpa, 128);
    }
    g_assert_cmpuint(virtio_driver_status(f.driver) & VIRTIO_CONFIG_S_NEEDS_RESET, ==, 0);
    teardown(&f);
}

static void test_two_buffers_differ(void)
{
    struct fixture f;
    uint64_t gpa;

    setup(&f, "");
    virtio_driver_start(f.driver, 0);
    gpa = harness_alloc(f.h, 128, 64);
    for (unsigned i = 0; i < 2; i++) {
        const struct driver_buffer in = {gpa + 64 * i, 64};
        g_assert_cmpint(virtio_driver_request(f.driver, 0, NULL, 0, &in, 1), ==, 64);
    }
    g_assert_cmpint(memcmp(harness_ptr(f.h, gpa, 64), harness_ptr(f.h, gpa + 64, 64), 64), !=, 0);
    teardown(&f);
}

/* A huge buffer gets a part: one request may not hold up the loop. */
static void test_huge_buffer(void)
{
    struct fixture f;
    const struct driver_buffer in = {0x200000, 32 << 20};
    int64_t written;

    setup(&f, "");
    virtio_driver_start(f.driver, 0);
    written = virtio_driver_request(f.driver, 0, NULL, 0, &in, 1);
    g_assert_cmpint(written, >, 0);
    g_assert_cmpint(written, <=, 65536);
    teardown(&f);
}

static void test_rate(void)
{
    struct fixture f;
    uint64_t gpa;
    struct driver_buffer in[2];
    int64_t start, first;
    uint32_t written;

    setup(&f, "max-bytes=100,period=300");
    virtio_driver_start(f.driver, 0);
    gpa = harness_alloc(f.h, 256, 64);
    in[0] = (struct driver_buffer){gpa, 80};
    in[1] = (struct driver_buffer){gpa + 128, 80};
    start = loop_now_ns();
    g_assert_cmpint(virtio_driver_request(f.driver, 0, NULL, 0, &in[0], 1), ==, 80);
    first = loop_now_ns();
    g_assert_cmpint(virtio_driver_request(f.driver, 0, NULL, 0, &in[1], 1), ==, 20);
    virtio_driver_submit(f.driver, 0, NULL, 0, &in[0], 1, &f);
    g_assert_true(virtio_driver_wait(f.driver, 0, &written) == &f);
    g_assert_cmpuint(written, ==, 80);
    g_assert_cmpint(loop_now_ns() - start, >=, 300 * 1000000 - (first - start));
    teardown(&f);
}

static void test_paused_device_is_silent(void)
{
    struct fixture f;
    g_autoptr(GError) error = NULL;
    struct driver_buffer in;

    setup(&f, "");
    virtio_driver_start(f.driver, EVENT_IDX);
    in = (struct driver_buffer){harness_alloc(f.h, 64, 64), 64};
    g_assert_cmpint(virtio_driver_request(f.driver, 0, NULL, 0, &in, 1), ==, 64);
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING_P2P, 1000, &error));
    virtio_driver_submit(f.driver, 0, NULL, 0, &in, 1, &f);
    harness_settle(f.h, 50);
    g_assert_null(driver_ring_reap(virtio_driver_ring(f.driver, 0), NULL));
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING, 1000, &error));
    g_assert_true(virtio_driver_wait(f.driver, 0, NULL) == &f);
    teardown(&f);
}

static void test_options(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options =
        options_parse(virtio_rng_options, "--rng", "queue-size=100", &error);

    g_assert_no_error(error);
    g_assert_null(virtio_rng_create(options, loop_main(), &error));
    g_assert_nonnull(strstr(error->message, "queue-size"));
}

int main(int argc, char **argv)
{
    static const uint64_t sets[] = {0, EVENT_IDX | INDIRECT, PACKED, PACKED | EVENT_IDX | INDIRECT};

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(sets); i++) {
        g_autofree char *path = g_strdup_printf("/virtio-rng/fills-buffers/%u", i);
        g_test_add_data_func(path, &sets[i], test_fills_buffers);
    }
    g_test_add_func("/virtio-rng/two-buffers-differ", test_two_buffers_differ);
    g_test_add_func("/virtio-rng/huge-buffer", test_huge_buffer);
    g_test_add_func("/virtio-rng/rate", test_rate);
    g_test_add_func("/virtio-rng/paused-device-is-silent", test_paused_device_is_silent);
    g_test_add_func("/virtio-rng/options", test_options);
    return g_test_run();
}
