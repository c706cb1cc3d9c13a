/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio devices being reset, broken, paused, saved and loaded; on the main loop and on their own. */
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/device/virtio_echo.h"

#define BIT(n)     (UINT64_C(1) << (n))
#define PACKED     BIT(VIRTIO_F_RING_PACKED)
#define EVENT_IDX  BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT   BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER   BIT(VIRTIO_F_IN_ORDER)
#define RING_RESET BIT(VIRTIO_F_RING_RESET)

static const uint64_t ring_features[] = {
    0,
    EVENT_IDX | INDIRECT,
    PACKED,
    PACKED | EVENT_IDX | INDIRECT | IN_ORDER,
};

static void add_for_rings(const char *name, GTestDataFunc test)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(ring_features); i++) {
        g_autofree char *path = g_strdup_printf("/virtio-lifecycle/%s/%u", name, i);
        g_test_add_data_func(path, &ring_features[i], test);
    }
}

static void setup(struct echo_fixture *f)
{
    echo_setup(f, NULL, true);
}

/* ---- reset ---- */

/* Status stays until what is in flight has ended; then nothing of it reaches the guest. */
static void test_reset_in_flight(gconstpointer features)
{
    struct echo_fixture f;

    setup(&f);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    f.echo->hold = true;
    for (unsigned i = 0; i < 5; i++)
        echo_submit(&f, 1, i, i);
    harness_settle(f.h, 5);
    g_assert_cmpuint(f.echo->held_in[1], ==, 5);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_STATUS, 1, 0);
    g_assert_cmphex(virtio_driver_status(f.driver), !=, 0);
    virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_ACKNOWLEDGE); /* not now */
    harness_settle(f.h, 5);
    g_assert_cmpuint(f.echo->stops, ==, 1);
    echo_release(f.echo, true);
    g_assert_cmphex(virtio_driver_status(f.driver), ==, 0);
    f.echo->hold = false;
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    echo_check(&f, 1, 7);
    echo_teardown(&f);
}

static void test_destroy_in_flight(void)
{
    struct echo_fixture f;

    setup(&f);
    virtio_driver_start(f.driver, 0);
    for (unsigned i = 0; i < 5; i++)
        echo_submit(&f, 0, i, i); /* rung, not yet looked at */
    echo_teardown(&f);
}

static void select_queue(struct echo_fixture *f, unsigned index)
{
    virtio_driver_write(f->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
}

static bool queue_is_reset(void *opaque)
{
    struct echo_fixture *f = opaque;

    return !virtio_driver_read(f->driver, VIRTIO_PCI_COMMON_Q_RESET, 2);
}

static void test_queue_reset(gconstpointer features)
{
    struct echo_fixture f;

    setup(&f);
    virtio_driver_start(f.driver, *(const uint64_t *)features | RING_RESET);
    for (unsigned round = 0; round < 5; round++) {
        f.echo->hold = true;
        echo_submit(&f, 1, 0, round);
        echo_submit(&f, 1, 1, round);
        harness_settle(f.h, 2);
        select_queue(&f, 1);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2), ==, 1);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1); /* not now */
        f.echo->hold = false;
        echo_check(&f, 2, round); /* the others work on */
        echo_release(f.echo, false);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2), ==, 0);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==,
                         ECHO_QUEUE_SIZE);
        virtio_driver_setup_queue(f.driver, 1, 8 << round % 3);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2), ==, 0);
        for (unsigned i = 0; i < 20; i++)
            echo_check(&f, 1, i);
    }
    g_assert_cmpuint(f.echo->stops, ==, 0);
    echo_teardown(&f);
}

static void test_queue_reset_not_negotiated(void)
{
    struct echo_fixture f;

    setup(&f);
    virtio_driver_start(f.driver, 0);
    select_queue(&f, 1);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
    harness_settle(f.h, 5);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2), ==, 0);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 1);
    echo_check(&f, 1, 1);
    echo_teardown(&f);
}

/* A queue may be enabled only when the device runs already. */
static void test_late_queue(void)
{
    struct echo_fixture f;

    setup(&f);
    g_assert_true(virtio_driver_negotiate(f.driver, 0));
    virtio_driver_setup_queue(f.driver, 0, 0);
    virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_DRIVER_OK);
    echo_check(&f, 0, 1);
    virtio_driver_setup_queue(f.driver, 2, 0);
    echo_check(&f, 2, 2);
    echo_teardown(&f);
}

/* ---- broken rings ---- */

static void expect_needs_reset(struct echo_fixture *f, uint64_t interrupts)
{
    g_assert_true(harness_wait_msi(f->h, f->driver->slot, 0, interrupts, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(virtio_driver_status(f->driver) & VIRTIO_CONFIG_S_NEEDS_RESET, !=, 0);
}

static void test_bad_chain(gconstpointer features)
{
    struct echo_fixture f;
    const struct driver_buffer out = {UINT64_C(1) << 50, 8};

    setup(&f);
    for (unsigned round = 1; round <= 3; round++) {
        virtio_driver_start(f.driver, *(const uint64_t *)features);
        echo_check(&f, 0, 1);
        virtio_driver_submit(f.driver, 0, &out, 1, NULL, 0, &f);
        expect_needs_reset(&f, round);
        harness_settle(f.h, 2);
        g_assert_cmpuint(f.echo->stops, ==, round);
        /* It is silent, all of it, and says so once. */
        echo_submit(&f, 1, 1, 1);
        virtio_driver_kick(f.driver, 0);
        harness_settle(f.h, 10);
        g_assert_null(driver_ring_reap(virtio_driver_ring(f.driver, 1), NULL));
        g_assert_cmpuint(virtio_driver_config_interrupts(f.driver), ==, round);
    }
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    echo_check(&f, 0, 2);
    echo_teardown(&f);
}

static void test_bad_chain_with_others_in_flight(void)
{
    struct echo_fixture f;
    const struct driver_buffer out = {UINT64_C(1) << 50, 8};

    setup(&f);
    virtio_driver_start(f.driver, RING_RESET);
    f.echo->hold = true;
    echo_submit(&f, 1, 0, 5);
    harness_settle(f.h, 2);
    virtio_driver_submit(f.driver, 0, &out, 1, NULL, 0, &f);
    expect_needs_reset(&f, 1);
    harness_settle(f.h, 2);
    /* A queue reset now must not stay open for ever. */
    select_queue(&f, 2);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_STATUS, 1, 0);
    harness_settle(f.h, 2);
    g_assert_cmphex(virtio_driver_status(f.driver), !=, 0);
    echo_release(f.echo, false);
    g_assert_cmphex(virtio_driver_status(f.driver), ==, 0);
    f.echo->hold = false;
    virtio_driver_start(f.driver, RING_RESET);
    f.echo->hold = true;
    echo_submit(&f, 1, 0, 5);
    harness_settle(f.h, 2);
    virtio_driver_submit(f.driver, 0, &out, 1, NULL, 0, &f);
    expect_needs_reset(&f, 2);
    select_queue(&f, 2);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
    harness_settle(f.h, 2);
    f.echo->hold = false;
    echo_release(f.echo, false);
    g_assert_true(harness_wait(f.h, queue_is_reset, &f, HARNESS_TIMEOUT_MS));
    echo_teardown(&f);
}

static void test_ring_outside_of_memory(void)
{
    struct echo_fixture f;

    setup(&f);
    for (unsigned late = 0; late < 2; late++) {
        g_assert_true(virtio_driver_negotiate(f.driver, 0));
        virtio_driver_setup_queue(f.driver, 0, 0);
        if (late) {
            virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_DRIVER_OK);
            echo_check(&f, 0, 1);
        }
        select_queue(&f, 1);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x8000);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
        virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_DRIVER_OK);
        expect_needs_reset(&f, late + 1);
        harness_settle(f.h, 2);
        g_assert_cmpuint(f.echo->starts, ==, late);
    }
    virtio_driver_start(f.driver, 0);
    echo_check(&f, 1, 1);
    echo_teardown(&f);
}

static void test_bus_mastering(gconstpointer features)
{
    struct echo_fixture f;

    setup(&f);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    echo_check(&f, 0, 1);
    harness_command(f.h, f.driver->slot, 0, PCI_COMMAND_MASTER);
    echo_submit(&f, 0, 0, 2);
    virtio_driver_kick(f.driver, 0);
    harness_settle(f.h, 10);
    g_assert_null(driver_ring_reap(virtio_driver_ring(f.driver, 0), NULL));
    harness_command(f.h, f.driver->slot, PCI_COMMAND_MASTER, 0);
    g_assert_cmpint(echo_wait(&f, 0), ==, 0);
    echo_check(&f, 0, 3);
    echo_teardown(&f);
}

/* ---- pausing ---- */

static void set_state(struct echo_fixture *f, enum device_state state)
{
    g_autoptr(GError) error = NULL;

    devices_set_state(&f->h->devices, state, 1000, &error);
    g_assert_no_error(error);
}

static void test_p2p(gconstpointer features)
{
    struct echo_fixture f;
    unsigned served;
    uint64_t interrupts;

    setup(&f);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    for (unsigned round = 0; round < 3; round++) {
        echo_check(&f, 0, round);
        served = f.echo->served;
        interrupts = virtio_driver_interrupts(f.driver, 0);
        set_state(&f, round == 1 ? DEVICE_STOP : DEVICE_RUNNING_P2P);
        for (unsigned i = 0; i < 3; i++) {
            echo_submit(&f, 0, i, i);
            echo_submit(&f, 2, 10 + i, i);
        }
        harness_settle(f.h, 20);
        g_assert_cmpuint(f.echo->served, ==, served);
        g_assert_cmpuint(virtio_driver_interrupts(f.driver, 0), ==, interrupts);
        set_state(&f, DEVICE_RUNNING);
        for (unsigned i = 0; i < 3; i++) {
            g_assert_cmpint(echo_wait(&f, 0), ==, i);
            g_assert_cmpint(echo_wait(&f, 2), ==, 10 + i);
        }
        g_assert_cmpuint(f.echo->served, ==, served + 6);
    }
    echo_teardown(&f);
}

static gboolean release_soon(gpointer opaque)
{
    echo_release(opaque, true);
    return G_SOURCE_REMOVE;
}

/* The state changes when what is in flight has come back to the guest, not before. */
static void test_pause_drains(gconstpointer features)
{
    struct echo_fixture f;

    setup(&f);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    f.echo->hold = true;
    for (unsigned i = 0; i < 4; i++)
        echo_submit(&f, 1, i, i);
    harness_settle(f.h, 2);
    g_assert_cmpuint(f.echo->held_in[1], ==, 4);
    g_timeout_add(30, release_soon, f.echo);
    set_state(&f, DEVICE_STOP);
    g_assert_cmpuint(f.echo->held_in[1], ==, 0);
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmpint(echo_wait(&f, 1), >=, 0);
    f.echo->hold = false;
    set_state(&f, DEVICE_RUNNING);
    echo_check(&f, 1, 9);
    echo_teardown(&f);
}

static void test_pause_times_out(void)
{
    struct echo_fixture f;
    g_autoptr(GError) error = NULL;

    setup(&f);
    virtio_driver_start(f.driver, 0);
    f.echo->hold = true;
    echo_submit(&f, 1, 0, 1);
    harness_settle(f.h, 2);
    g_assert_false(devices_set_state(&f.h->devices, DEVICE_STOP, 30, &error));
    g_assert_nonnull(strstr(error->message, "echo0"));
    f.echo->hold = false;
    echo_release(f.echo, false);
    g_assert_cmpint(echo_wait(&f, 1), ==, 0);
    echo_check(&f, 1, 2);
    echo_teardown(&f);
}

/* A driver that starts a device while it is paused finds it working afterwards. */
static void test_start_while_paused(void)
{
    struct echo_fixture f;

    setup(&f);
    set_state(&f, DEVICE_RUNNING_P2P);
    virtio_driver_start(f.driver, RING_RESET);
    echo_submit(&f, 0, 0, 1);
    harness_settle(f.h, 10);
    g_assert_cmpuint(f.echo->starts, ==, 0);
    set_state(&f, DEVICE_RUNNING);
    g_assert_cmpint(echo_wait(&f, 0), ==, 0);
    set_state(&f, DEVICE_RUNNING_P2P);
    select_queue(&f, 1);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
    g_assert_true(queue_is_reset(&f));
    virtio_driver_setup_queue(f.driver, 1, 16);
    virtio_driver_reset(f.driver);
    virtio_driver_start(f.driver, 0);
    set_state(&f, DEVICE_RUNNING);
    echo_check(&f, 1, 3);
    echo_teardown(&f);
}

static void test_machine_reset(gconstpointer features)
{
    struct echo_fixture f;

    setup(&f);
    for (unsigned round = 0; round < 3; round++) {
        virtio_driver_start(f.driver, *(const uint64_t *)features);
        echo_check(&f, 0, round);
        echo_submit(&f, 1, 1, 1);
        devices_reset(&f.h->devices);
        g_assert_cmpuint(virtio_device_get_status(&f.echo->vdev), ==, 0);
        g_assert_cmpuint(f.echo->stops, ==, round + 1);
        harness_command(f.h, f.driver->slot, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
        harness_msix_enable(f.h, f.driver->slot, ECHO_QUEUES + 1);
    }
    echo_teardown(&f);
}

/* ---- saved state ---- */

/* The device is in STOP_COPY, and stays there. */
static GByteArray *save(struct echo_fixture *f)
{
    GByteArray *out = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    device_save(&f->driver->function->device, out, &error);
    g_assert_no_error(error);
    return out;
}

static void test_save_and_load(gconstpointer features)
{
    struct echo_fixture f;
    g_autoptr(GByteArray) saved = NULL;
    g_autoptr(GError) error = NULL;
    uint32_t counter;

    setup(&f);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    for (unsigned i = 0; i < ECHO_QUEUE_SIZE + 7; i++)
        echo_check(&f, i % 2, i);
    set_state(&f, DEVICE_RUNNING_P2P);
    echo_submit(&f, 0, 3, 3); /* available when it is saved */
    set_state(&f, DEVICE_STOP_COPY);
    saved = save(&f);
    counter = f.echo->counter;
    /* Another life of the device, with guest memory as it was when the state was saved. */
    devices_reset(&f.h->devices);
    f.echo->counter = 12345;
    g_assert_true(harness_load_state(&f.driver->function->device, saved, &error));
    g_assert_no_error(error);
    g_assert_cmpint(echo_wait(&f, 0), ==, 3);
    g_assert_cmpuint(f.echo->counter, ==, counter + 1);
    for (unsigned i = 0; i < ECHO_QUEUE_SIZE + 7; i++)
        echo_check(&f, i % 2, i);
    g_assert_cmpuint(virtio_driver_interrupts(f.driver, 0), >, 0);
    echo_teardown(&f);
}

/* Registers of a driver in the middle of probing are there again, too. */
static void test_save_while_probing(void)
{
    struct echo_fixture f;
    g_autoptr(GByteArray) saved = NULL;
    g_autoptr(GError) error = NULL;

    setup(&f);
    g_assert_true(virtio_driver_negotiate(f.driver, PACKED));
    virtio_driver_setup_queue(f.driver, 0, 24);
    select_queue(&f, 1);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0xabc000);
    saved = harness_save(&f.driver->function->device);
    devices_reset(&f.h->devices);
    g_assert_true(harness_load_state(&f.driver->function->device, saved, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_SELECT, 2), ==, 1);
    g_assert_cmphex(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_DESCLO, 4), ==, 0xabc000);
    select_queue(&f, 0);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 24);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 1);
    g_assert_cmpuint(f.echo->starts, ==, 0);
    virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_DRIVER_OK);
    echo_check(&f, 0, 1);
    echo_teardown(&f);
}

static void load_must_fail(struct echo_fixture *f, const GByteArray *saved, const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(harness_load_state(&f->driver->function->device, saved, &error));
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, why));
}

static void test_load_refuses(void)
{
    struct echo_fixture f;
    struct virtio_device *vdev;
    g_autoptr(GByteArray) good = NULL, in_flight = NULL, features = NULL, ring = NULL,
                          queues = NULL;

    setup(&f);
    vdev = &f.echo->vdev;
    virtio_driver_start(f.driver, PACKED);
    echo_check(&f, 0, 1);
    set_state(&f, DEVICE_STOP_COPY);
    good = save(&f);
    vdev->queues[1].in_flight = 1;
    in_flight = save(&f);
    vdev->queues[1].in_flight = 0;
    vdev->queues[1].next_avail = ECHO_QUEUE_SIZE;
    ring = save(&f);
    vdev->queues[1].next_avail = 0;
    vdev->negotiated |= BIT(VIRTIO_F_ACCESS_PLATFORM);
    features = save(&f);
    vdev->negotiated &= ~BIT(VIRTIO_F_ACCESS_PLATFORM);
    vdev->queue_count = ECHO_QUEUES + 1;
    vdev->queues[ECHO_QUEUES].size = 16;
    queues = save(&f);
    vdev->queue_count = ECHO_QUEUES;
    set_state(&f, DEVICE_RUNNING);
    load_must_fail(&f, in_flight, "queue 1");
    devices_reset(&f.h->devices);
    load_must_fail(&f, ring, "queue 1");
    devices_reset(&f.h->devices);
    load_must_fail(&f, features, "features");
    devices_reset(&f.h->devices);
    load_must_fail(&f, queues, "queues");
    devices_reset(&f.h->devices);
    /* And goes on to work. */
    harness_command(f.h, f.driver->slot, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
    harness_msix_enable(f.h, f.driver->slot, ECHO_QUEUES + 1);
    virtio_driver_start(f.driver, 0);
    echo_check(&f, 0, 1);
    echo_teardown(&f);
}

/* ---- a loop of its own ---- */

static void test_own_loop(gconstpointer features)
{
    struct echo_fixture f;
    g_autoptr(GError) error = NULL;
    struct loop *loop = loop_create("echo", &error);

    g_assert_no_error(error);
    echo_setup(&f, loop, true);
    for (unsigned round = 0; round < 20; round++) {
        /* Short of a stall of the other thread, a reset is done when it is first looked at. */
        virtio_driver_start(f.driver, *(const uint64_t *)features | RING_RESET);
        for (unsigned i = 0; i < 60; i++)
            echo_submit(&f, i % ECHO_QUEUES, i, i);
        for (unsigned i = 0; i < 60; i++)
            g_assert_cmpint(echo_wait(&f, i % ECHO_QUEUES), >=, 0);
        select_queue(&f, 1);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
        g_assert_true(harness_wait(f.h, queue_is_reset, &f, HARNESS_TIMEOUT_MS));
        virtio_driver_setup_queue(f.driver, 1, 0);
        echo_check(&f, 1, round);
        echo_submit(&f, 0, 1, 1); /* and a reset into the middle of it */
    }
    g_assert_cmpuint(f.echo->starts, ==, 20);
    echo_teardown(&f);
    loop_destroy(loop);
}

static void test_own_loop_pause(gconstpointer features)
{
    struct echo_fixture f;
    g_autoptr(GError) error = NULL;
    struct loop *loop = loop_create("echo", &error);

    g_assert_no_error(error);
    echo_setup(&f, loop, true);
    virtio_driver_start(f.driver, *(const uint64_t *)features);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 20; i++)
            echo_submit(&f, i % 2, i, i);
        set_state(&f, round % 2 ? DEVICE_RUNNING_P2P : DEVICE_STOP);
        g_autofree uint8_t *before = g_memdup2(harness_ptr(f.h, 0x100000, 0x400000), 0x400000);
        harness_settle(f.h, 2);
        g_assert_cmpint(memcmp(before, harness_ptr(f.h, 0x100000, 0x400000), 0x400000), ==, 0);
        set_state(&f, DEVICE_RUNNING);
        for (unsigned i = 0; i < 20; i++)
            g_assert_cmpint(echo_wait(&f, i % 2), >=, 0);
    }
    echo_teardown(&f);
    loop_destroy(loop);
}

static bool twenty_writes(void *opaque)
{
    struct echo_fixture *f = opaque;

    return __atomic_load_n(&f->echo->write_count, __ATOMIC_ACQUIRE) >= 20;
}

static void test_own_loop_config_writes(void)
{
    struct echo_fixture f;
    g_autoptr(GError) error = NULL;
    struct loop *loop = loop_create("echo", &error);

    g_assert_no_error(error);
    echo_setup(&f, loop, true);
    for (uint32_t i = 0; i < 20; i++)
        harness_bar_write(f.h, f.driver->slot, f.driver->bar, f.driver->config + 8, 4, i + 1);
    g_assert_true(harness_wait(f.h, twenty_writes, &f, HARNESS_TIMEOUT_MS));
    harness_settle(f.h, 5);
    g_assert_cmpuint(f.echo->write_count, ==, 20);
    for (uint32_t i = 0; i < 20; i++)
        g_assert_cmpuint(f.echo->writes[i], ==, i + 1);
    echo_teardown(&f);
    loop_destroy(loop);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    add_for_rings("reset-in-flight", test_reset_in_flight);
    g_test_add_func("/virtio-lifecycle/destroy-in-flight", test_destroy_in_flight);
    add_for_rings("queue-reset", test_queue_reset);
    g_test_add_func("/virtio-lifecycle/queue-reset-not-negotiated",
                    test_queue_reset_not_negotiated);
    g_test_add_func("/virtio-lifecycle/late-queue", test_late_queue);
    add_for_rings("bad-chain", test_bad_chain);
    g_test_add_func("/virtio-lifecycle/bad-chain-with-others-in-flight",
                    test_bad_chain_with_others_in_flight);
    g_test_add_func("/virtio-lifecycle/ring-outside-of-memory", test_ring_outside_of_memory);
    add_for_rings("bus-mastering", test_bus_mastering);
    add_for_rings("p2p", test_p2p);
    add_for_rings("pause-drains", test_pause_drains);
    g_test_add_func("/virtio-lifecycle/pause-times-out", test_pause_times_out);
    g_test_add_func("/virtio-lifecycle/start-while-paused", test_start_while_paused);
    add_for_rings("machine-reset", test_machine_reset);
    add_for_rings("save-and-load", test_save_and_load);
    g_test_add_func("/virtio-lifecycle/save-while-probing", test_save_while_probing);
    g_test_add_func("/virtio-lifecycle/load-refuses", test_load_refuses);
    add_for_rings("own-loop", test_own_loop);
    add_for_rings("own-loop-pause", test_own_loop_pause);
    g_test_add_func("/virtio-lifecycle/own-loop-config-writes", test_own_loop_config_writes);
    return g_test_run();
}
