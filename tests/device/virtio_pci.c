/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registers of the virtio PCI transport, one by one (virtio 1.3, 4.1). */
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/device/virtio_echo.h"
#include "vmm/layout.h"

#define BIT(n)     (UINT64_C(1) << (n))
#define FEATURE    BIT(ECHO_FEATURE)
#define RING_RESET BIT(VIRTIO_F_RING_RESET)
#define ALL_STATUS                                                                                 \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |          \
     VIRTIO_CONFIG_S_DRIVER_OK)

static void setup(struct echo_fixture *f)
{
    echo_setup(f, NULL, true);
}

static void select_queue(struct echo_fixture *f, unsigned index)
{
    virtio_driver_write(f->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
}

static void test_identity(void)
{
    struct echo_fixture f;

    setup(&f);
    g_assert_cmphex(harness_config_read(f.h, f.driver->slot, PCI_VENDOR_ID, 2), ==, 0x1af4);
    g_assert_cmphex(harness_config_read(f.h, f.driver->slot, PCI_DEVICE_ID, 2), ==, 0x1040 + 63);
    g_assert_cmphex(harness_config_read(f.h, f.driver->slot, PCI_REVISION_ID, 1), ==, 1);
    g_assert_cmphex(harness_config_read(f.h, f.driver->slot, PCI_SUBSYSTEM_VENDOR_ID, 2), ==,
                    0x1af4);
    g_assert_cmphex(harness_config_read(f.h, f.driver->slot, PCI_SUBSYSTEM_ID, 2), >=, 0x40);
    g_assert_cmphex(harness_config_read(f.h, f.driver->slot, PCI_CLASS_PROG, 1), ==, 0x00);
    g_assert_cmphex(harness_config_read(f.h, f.driver->slot, PCI_CLASS_DEVICE, 2), ==, 0x0880);
    g_assert_cmpuint(f.driver->common_length, >=, 60);
    g_assert_cmpuint(f.driver->config_length, ==, ECHO_CONFIG_SIZE);
    g_assert_cmpuint(f.driver->multiplier, >=, 2);
    g_assert_cmpuint(f.driver->queue_count, ==, ECHO_QUEUES);
    echo_teardown(&f);
}

static void test_features_offered(void)
{
    struct echo_fixture f;

    setup(&f);
    g_assert_cmphex(virtio_driver_offered(f.driver), ==,
                    FEATURE | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED) |
                        BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |
                        BIT(VIRTIO_F_IN_ORDER) | RING_RESET);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
    g_assert_cmphex(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_DF, 4), ==, 0);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_DFSELECT, 4, UINT32_MAX);
    g_assert_cmphex(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_DF, 4), ==, 0);
    g_assert_cmphex(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_DFSELECT, 4), ==, UINT32_MAX);
    echo_teardown(&f);
}

static void test_features_accepted(void)
{
    struct echo_fixture f;

    setup(&f);
    g_assert_true(virtio_driver_negotiate(f.driver, FEATURE));
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
    g_assert_cmphex(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_GF, 4), ==, FEATURE);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_GF, 4, 0); /* too late */
    g_assert_cmphex(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_GF, 4), ==, FEATURE);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
    g_assert_cmphex(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_GF, 4), ==, 1);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_GFSELECT, 4, 7);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_GF, 4, UINT32_MAX);
    g_assert_cmphex(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_GF, 4), ==, 0);
    g_assert_true(virtio_device_has(&f.echo->vdev, ECHO_FEATURE));
    virtio_driver_reset(f.driver);
    g_assert_false(virtio_device_has(&f.echo->vdev, ECHO_FEATURE));
    g_assert_cmphex(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_GFSELECT, 4), ==, 0);
    echo_teardown(&f);
}

static void test_features_refused(void)
{
    struct echo_fixture f;

    setup(&f);
    g_assert_false(virtio_driver_negotiate(f.driver, FEATURE | BIT(VIRTIO_F_ACCESS_PLATFORM)));
    g_assert_cmphex(f.echo->vdev.negotiated, ==, 0);
    g_assert_false(virtio_driver_negotiate(f.driver, BIT(0)));
    /* Without VERSION_1 there is no such device. */
    virtio_driver_reset(f.driver);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_GF, 4, FEATURE);
    virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_FEATURES_OK);
    g_assert_cmphex(virtio_driver_status(f.driver), ==, 0);
    /* It may try again. */
    g_assert_true(virtio_driver_negotiate(f.driver, FEATURE));
    echo_teardown(&f);
}

static void test_status_bits(void)
{
    struct echo_fixture f;

    setup(&f);
    g_assert_cmphex(virtio_driver_status(f.driver), ==, 0);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_STATUS, 1, VIRTIO_CONFIG_S_DRIVER);
    g_assert_cmphex(virtio_driver_status(f.driver), ==,
                    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_NEEDS_RESET);
    virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_DRIVER_OK); /* without FEATURES_OK */
    g_assert_cmphex(virtio_driver_status(f.driver), ==,
                    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    g_assert_cmpuint(f.echo->starts, ==, 0);
    virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_FAILED);
    g_assert_cmphex(virtio_driver_status(f.driver) & VIRTIO_CONFIG_S_FAILED, !=, 0);
    /* A reset is done when it is first looked at. */
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_STATUS, 1, 0);
    g_assert_cmphex(virtio_driver_status(f.driver), ==, 0);
    echo_teardown(&f);
}

static void test_start_and_reset(void)
{
    struct echo_fixture f;

    setup(&f);
    for (unsigned i = 1; i <= 3; i++) {
        virtio_driver_start(f.driver, FEATURE);
        g_assert_cmphex(virtio_driver_status(f.driver), ==, ALL_STATUS);
        for (unsigned queue = 0; queue < ECHO_QUEUES; queue++)
            echo_check(&f, queue, 1000 * i);
        g_assert_cmpuint(f.echo->starts, ==, i);
        g_assert_cmpuint(virtio_driver_interrupts(f.driver, 1), >=, i);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_STATUS, 1, 0);
        g_assert_cmphex(virtio_driver_status(f.driver), ==, 0);
        g_assert_cmpuint(f.echo->stops, ==, i);
        select_queue(&f, 1);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
    }
    echo_teardown(&f);
}

static void test_failed_start(void)
{
    struct echo_fixture f;

    setup(&f);
    f.echo->refuse = true;
    virtio_driver_start(f.driver, FEATURE);
    g_assert_cmphex(virtio_driver_status(f.driver), ==, ALL_STATUS | VIRTIO_CONFIG_S_NEEDS_RESET);
    harness_settle(f.h, 5);
    g_assert_cmpuint(f.echo->stops, ==, 1);
    f.echo->refuse = false;
    virtio_driver_start(f.driver, FEATURE);
    echo_check(&f, 0, 1);
    echo_teardown(&f);
}

static void test_queue_registers(void)
{
    struct echo_fixture f;
    static const struct {
        unsigned offset, size;
        uint32_t value;
    } settings[] = {
        {VIRTIO_PCI_COMMON_Q_SIZE, 2, 16},     {VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x11110000},
        {VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x1},  {VIRTIO_PCI_COMMON_Q_AVAILLO, 4, 0x22220000},
        {VIRTIO_PCI_COMMON_Q_AVAILHI, 4, 0x2}, {VIRTIO_PCI_COMMON_Q_USEDLO, 4, 0x33330000},
        {VIRTIO_PCI_COMMON_Q_USEDHI, 4, 0x3},
    };

    setup(&f);
    g_assert_true(virtio_driver_negotiate(f.driver, 0));
    for (unsigned queue = 0; queue < ECHO_QUEUES; queue++) {
        select_queue(&f, queue);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==,
                         ECHO_QUEUE_SIZE);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==,
                         VIRTIO_MSI_NO_VECTOR);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
    }
    for (unsigned round = 0; round < 2; round++) { /* the second time it is enabled: no change */
        for (unsigned i = 0; i < G_N_ELEMENTS(settings); i++) {
            virtio_driver_write(f.driver, settings[i].offset, settings[i].size,
                                settings[i].value + round);
            g_assert_cmphex(virtio_driver_read(f.driver, settings[i].offset, settings[i].size), ==,
                            settings[i].value);
        }
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    }
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 1);
    virtio_driver_reset(f.driver);
    select_queue(&f, ECHO_QUEUES - 1);
    for (unsigned i = 1; i < G_N_ELEMENTS(settings); i++)
        g_assert_cmphex(virtio_driver_read(f.driver, settings[i].offset, settings[i].size), ==, 0);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==,
                     ECHO_QUEUE_SIZE);
    echo_teardown(&f);
}

static void test_queue_that_is_not_there(void)
{
    struct echo_fixture f;

    setup(&f);
    g_assert_true(virtio_driver_negotiate(f.driver, RING_RESET));
    for (unsigned i = 0; i < 2; i++) {
        select_queue(&f, i ? 0xffff : ECHO_QUEUES);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x1000);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 0);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_DESCLO, 4), ==, 0);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2), ==, 0);
    }
    echo_teardown(&f);
}

static void test_queue_size(void)
{
    struct echo_fixture f;

    setup(&f);
    for (unsigned packed = 0; packed < 2; packed++) {
        g_assert_true(virtio_driver_negotiate(f.driver, packed ? BIT(VIRTIO_F_RING_PACKED) : 0));
        select_queue(&f, 0);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 32);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 128); /* too large */
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 32);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 24);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==,
                         packed ? 24 : 32);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 0);
        virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
        g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
    }
    echo_teardown(&f);
}

static void test_small_queues_work(void)
{
    struct echo_fixture f;

    setup(&f);
    for (unsigned size = 4; size <= ECHO_QUEUE_SIZE; size *= 2) {
        g_assert_true(virtio_driver_negotiate(f.driver, 0));
        virtio_driver_setup_queue(f.driver, 1, size);
        virtio_driver_set_status(f.driver, VIRTIO_CONFIG_S_DRIVER_OK);
        for (unsigned i = 0; i < 3 * size; i++)
            echo_check(&f, 1, i);
    }
    echo_teardown(&f);
}

static void test_vectors(void)
{
    struct echo_fixture f;

    setup(&f);
    g_assert_true(virtio_driver_negotiate(f.driver, 0));
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_MSIX, 2, ECHO_QUEUES); /* the last */
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_MSIX, 2), ==, ECHO_QUEUES);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_MSIX, 2, ECHO_QUEUES + 1);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_MSIX, 2), ==,
                     VIRTIO_MSI_NO_VECTOR);
    select_queue(&f, 1);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==, 2);
    select_queue(&f, 2);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==,
                     VIRTIO_MSI_NO_VECTOR);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0x7fff);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==,
                     VIRTIO_MSI_NO_VECTOR);
    virtio_driver_reset(f.driver);
    select_queue(&f, 1);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==,
                     VIRTIO_MSI_NO_VECTOR);
    echo_teardown(&f);
}

/* A queue without a vector is silent; one that shares a vector uses it. */
static void test_vector_is_used(void)
{
    struct echo_fixture f;

    setup(&f);
    virtio_driver_start(f.driver, 0);
    echo_check(&f, 0, 1);
    g_assert_cmpuint(harness_msi_count(f.h, f.driver->slot, 1), ==, 1);
    select_queue(&f, 0);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, VIRTIO_MSI_NO_VECTOR);
    echo_check(&f, 0, 2);
    g_assert_cmpuint(harness_msi_count(f.h, f.driver->slot, 1), ==, 1);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, 3);
    echo_check(&f, 0, 3);
    echo_check(&f, 2, 4);
    g_assert_cmpuint(harness_msi_count(f.h, f.driver->slot, 3), ==, 2);
    echo_teardown(&f);
}

static uint8_t read_isr(struct echo_fixture *f)
{
    return harness_bar_read(f->h, f->driver->slot, f->driver->bar, f->driver->isr, 1);
}

static void test_intx(void)
{
    struct echo_fixture f;
    const uint32_t value = 0x55;
    uint32_t gsi;

    echo_setup(&f, NULL, false);
    gsi = pci_host_gsi(f.driver->slot, 1);
    g_assert_cmpuint(harness_capability(f.h, f.driver->slot, PCI_CAP_ID_MSIX, 0), ==, 0);
    virtio_driver_start(f.driver, 0);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_MSIX, 2, 0);
    g_assert_cmpuint(virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_MSIX, 2), ==,
                     VIRTIO_MSI_NO_VECTOR);
    g_assert_false(harness_gsi_level(f.h, gsi));
    echo_check(&f, 0, 1);
    g_assert_true(harness_wait_gsi(f.h, gsi, 1, HARNESS_TIMEOUT_MS));
    g_assert_true(harness_gsi_level(f.h, gsi));
    g_assert_cmphex(read_isr(&f), ==, 1);
    harness_eoi(f.h, gsi);
    harness_settle(f.h, 5);
    g_assert_false(harness_gsi_level(f.h, gsi));
    g_assert_cmphex(read_isr(&f), ==, 0);

    virtio_device_set_config(&f.echo->vdev, 0, &value, 4, true);
    g_assert_true(harness_wait_gsi(f.h, gsi, 2, HARNESS_TIMEOUT_MS));
    echo_check(&f, 0, 2);
    harness_eoi(f.h, gsi); /* without having read ISR: it comes again */
    g_assert_true(harness_wait_gsi(f.h, gsi, 3, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(read_isr(&f), ==, 1 | VIRTIO_PCI_ISR_CONFIG);
    harness_eoi(f.h, gsi);
    harness_settle(f.h, 5);
    g_assert_false(harness_gsi_level(f.h, gsi));

    echo_check(&f, 0, 3); /* a reset takes the line back */
    virtio_driver_reset(f.driver);
    g_assert_cmphex(read_isr(&f), ==, 0);
    harness_eoi(f.h, gsi);
    harness_settle(f.h, 5);
    g_assert_false(harness_gsi_level(f.h, gsi));
    echo_teardown(&f);
}

static void test_isr_with_msix(void)
{
    struct echo_fixture f;
    const uint32_t value = 0x55;

    setup(&f);
    virtio_driver_start(f.driver, 0);
    echo_check(&f, 0, 1);
    g_assert_cmphex(read_isr(&f), ==, 0);
    virtio_device_set_config(&f.echo->vdev, 0, &value, 4, true);
    g_assert_true(harness_wait_msi(f.h, f.driver->slot, 0, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(read_isr(&f), ==, VIRTIO_PCI_ISR_CONFIG);
    g_assert_cmphex(read_isr(&f), ==, 0);
    g_assert_false(harness_gsi_level(f.h, pci_host_gsi(f.driver->slot, 1)));
    echo_teardown(&f);
}

static unsigned generation(struct echo_fixture *f)
{
    return virtio_driver_read(f->driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
}

static void test_config_generation(void)
{
    struct echo_fixture f;
    unsigned before;
    uint32_t value;

    setup(&f);
    virtio_driver_start(f.driver, 0);
    g_assert_cmphex(virtio_driver_config(f.driver, 0, 4), ==, 0x13121110);
    before = generation(&f);
    g_assert_cmphex(virtio_driver_config(f.driver, 4, 4), ==, 0x17161514);
    g_assert_cmpuint(generation(&f), ==, before);
    /* However often it changes between two reads, the driver sees that it did. */
    for (value = 1; value <= 256; value++)
        virtio_device_set_config(&f.echo->vdev, 0, &value, 4, false);
    g_assert_cmphex(virtio_driver_config(f.driver, 0, 4), ==, 256);
    g_assert_cmpuint(generation(&f), !=, before);
    g_assert_cmpuint(virtio_driver_config_interrupts(f.driver), ==, 0);
    echo_teardown(&f);
}

static void test_config_writes(void)
{
    struct echo_fixture f;
    struct virtio_driver *d;

    setup(&f);
    d = f.driver;
    virtio_driver_start(d, 0);
    for (uint32_t i = 0; i < 20; i++)
        harness_bar_write(f.h, d->slot, d->bar, d->config + 8, 4, 0xa0 + i);
    g_assert_cmpuint(f.echo->write_count, ==, 20);
    for (uint32_t i = 0; i < 20; i++)
        g_assert_cmphex(f.echo->writes[i], ==, 0xa0 + i);
    g_assert_cmphex(virtio_driver_config(d, 8, 4), ==, 0xa0 + 19);
    harness_bar_write(f.h, d->slot, d->bar, d->config + 9, 1, 0x77);
    g_assert_cmphex(virtio_driver_config(d, 8, 4), ==, 0x7700 + 0xa0 + 19);
    /* Read-only bytes, and bytes beyond the end. */
    harness_bar_write(f.h, d->slot, d->bar, d->config, 4, 0xffffffff);
    harness_bar_write(f.h, d->slot, d->bar, d->config + ECHO_CONFIG_SIZE, 4, 1);
    harness_bar_write(f.h, d->slot, d->bar, d->config + ECHO_CONFIG_SIZE - 2, 4, 1);
    g_assert_cmphex(virtio_driver_config(d, 0, 4), ==, 0x13121110);
    g_assert_cmphex(virtio_driver_config(d, ECHO_CONFIG_SIZE, 4), ==, 0);
    g_assert_cmphex(virtio_driver_config(d, ECHO_CONFIG_SIZE - 2, 4), ==, 0);
    g_assert_cmpuint(f.echo->write_count, ==, 21);
    echo_teardown(&f);
}

static void test_widths(void)
{
    struct echo_fixture f;
    struct virtio_driver *d;

    setup(&f);
    d = f.driver;
    g_assert_true(virtio_driver_negotiate(d, 0));
    select_queue(&f, 1);
    /* A 64-bit register in one access, and what no driver does: parts and joints of registers. */
    harness_bar_write(f.h, d->slot, d->bar, d->common + VIRTIO_PCI_COMMON_Q_DESCLO, 8,
                      UINT64_C(0x1122334455667000));
    g_assert_cmphex(
        harness_bar_read(f.h, d->slot, d->bar, d->common + VIRTIO_PCI_COMMON_Q_DESCLO, 8), ==,
        UINT64_C(0x1122334455667000));
    virtio_driver_write(d, VIRTIO_PCI_COMMON_Q_DESCLO, 2, 0xffff);
    virtio_driver_write(d, VIRTIO_PCI_COMMON_Q_DESCLO + 1, 1, 0xff);
    virtio_driver_write(d, VIRTIO_PCI_COMMON_Q_SELECT, 4, 0);
    virtio_driver_write(d, VIRTIO_PCI_COMMON_STATUS, 2, 0);
    virtio_driver_write(d, VIRTIO_PCI_COMMON_NUMQ, 2, 99);
    virtio_driver_write(d, VIRTIO_PCI_COMMON_Q_NOFF, 2, 99);
    virtio_driver_write(d, 0x100, 4, 99);
    g_assert_cmphex(virtio_driver_read(d, VIRTIO_PCI_COMMON_Q_DESCLO, 4), ==, 0x55667000);
    g_assert_cmpuint(virtio_driver_read(d, VIRTIO_PCI_COMMON_Q_SELECT, 2), ==, 1);
    g_assert_cmphex(virtio_driver_status(d), !=, 0);
    g_assert_cmpuint(virtio_driver_read(d, VIRTIO_PCI_COMMON_NUMQ, 2), ==, ECHO_QUEUES);
    g_assert_cmpuint(virtio_driver_read(d, VIRTIO_PCI_COMMON_Q_NOFF, 2), ==, 1);
    g_assert_cmphex(virtio_driver_read(d, VIRTIO_PCI_COMMON_Q_DESCLO + 2, 2), ==, 0x5566);
    g_assert_cmphex(virtio_driver_read(d, 0x3c, 4), ==, 0);
    echo_teardown(&f);
}

/* ---- the configuration access capability ---- */

static void window(struct echo_fixture *f, uint8_t bar, uint32_t offset, uint32_t length)
{
    unsigned at = f->driver->window;

    harness_config_write(f->h, f->driver->slot, at + VIRTIO_PCI_CAP_BAR, 1, bar);
    harness_config_write(f->h, f->driver->slot, at + VIRTIO_PCI_CAP_OFFSET, 4, offset);
    harness_config_write(f->h, f->driver->slot, at + VIRTIO_PCI_CAP_LENGTH, 4, length);
}

static uint32_t window_read(struct echo_fixture *f, uint32_t offset, unsigned length)
{
    window(f, f->driver->bar, offset, length);
    return harness_config_read(f->h, f->driver->slot,
                               f->driver->window + sizeof(struct virtio_pci_cap), length);
}

static void window_write(struct echo_fixture *f, uint32_t offset, unsigned length, uint32_t value)
{
    window(f, f->driver->bar, offset, length);
    harness_config_write(f->h, f->driver->slot, f->driver->window + sizeof(struct virtio_pci_cap),
                         length, value);
}

static void test_window(void)
{
    struct echo_fixture f;
    struct virtio_driver *d;

    setup(&f);
    d = f.driver;
    g_assert_cmpuint(window_read(&f, d->common + VIRTIO_PCI_COMMON_NUMQ, 2), ==, ECHO_QUEUES);
    window_write(&f, d->common + VIRTIO_PCI_COMMON_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    g_assert_cmphex(virtio_driver_status(d), ==, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    g_assert_cmphex(window_read(&f, d->common + VIRTIO_PCI_COMMON_STATUS, 1), ==,
                    VIRTIO_CONFIG_S_ACKNOWLEDGE);
    g_assert_cmphex(window_read(&f, d->config, 4), ==, 0x13121110);
    window_write(&f, d->config + 8, 4, 0xcafe);
    g_assert_cmphex(virtio_driver_config(d, 8, 4), ==, 0xcafe);
    /* It needs no decoding. */
    harness_command(f.h, d->slot, 0, PCI_COMMAND_MEMORY);
    g_assert_cmphex(window_read(&f, d->config + 8, 4), ==, 0xcafe);
    harness_command(f.h, d->slot, PCI_COMMAND_MEMORY, 0);
    echo_teardown(&f);
}

static void test_window_doorbell(void)
{
    struct echo_fixture f;

    setup(&f);
    virtio_driver_start(f.driver, 0);
    for (unsigned i = 0; i < 3; i++) {
        const struct driver_buffer out = {f.data, 8}, in = {f.data + 64, 8};

        g_assert_true(driver_ring_add(virtio_driver_ring(f.driver, 2), &out, 1, &in, 1, false, &f));
        driver_ring_publish(virtio_driver_ring(f.driver, 2));
        harness_settle(f.h, 5);
        g_assert_cmpuint(f.echo->served, ==, i);
        window_write(&f, f.driver->notify_offsets[2], 2, 2);
        g_assert_true(virtio_driver_wait(f.driver, 2, NULL) == &f);
    }
    echo_teardown(&f);
}

static void test_window_to_nowhere(void)
{
    struct echo_fixture f;
    static const struct {
        uint8_t bar;
        uint32_t offset, length;
    } bad[] = {
        {1, 0, 4},          {2, 0, 4},  {6, 0, 4},          {0xff, 0, 4},   {0, 0, 0},
        {0, 0, 3},          {0, 0, 8},  {0, 18, 4},         {0, 0x4000, 4}, {0, 0x3fff, 2},
        {0, 0xfffffffc, 4}, {0, 21, 2}, {0, 0, UINT32_MAX},
    };

    setup(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        window(&f, bad[i].bar, bad[i].offset, bad[i].length);
        harness_config_write(f.h, f.driver->slot, f.driver->window + sizeof(struct virtio_pci_cap),
                             4, 0x5a5a5a5a);
        g_assert_cmphex(harness_config_read(f.h, f.driver->slot,
                                            f.driver->window + sizeof(struct virtio_pci_cap), 4),
                        ==, 0x5a5a5a5a);
        g_assert_cmphex(virtio_driver_status(f.driver), ==, 0);
    }
    /* The rest of the capabilities can't be written. */
    for (unsigned at = 0x40; at < 0x100; at++) {
        if (at >= f.driver->window && at < f.driver->window + sizeof(struct virtio_pci_cfg_cap))
            continue;
        if (harness_config_read(f.h, f.driver->slot, at, 1) == PCI_CAP_ID_VNDR)
            g_assert_cmphex(f.driver->function->writable[at + 3], ==, 0);
    }
    echo_teardown(&f);
}

/* Any access anywhere in the BARs is survived, and a reset leads back to a working device. */
static void test_random_accesses(void)
{
    struct echo_fixture f;
    GRand *rand = g_rand_new_with_seed(7);
    static const unsigned sizes[] = {1, 2, 4, 8};

    setup(&f);
    log_set_levels("error", NULL);
    for (unsigned round = 0; round < 30; round++) {
        for (unsigned i = 0; i < 1000; i++) {
            unsigned size = sizes[g_rand_int(rand) % 4];
            uint64_t offset = g_rand_int(rand) % 0x4000;

            if (g_rand_boolean(rand)) /* mostly where registers are */
                offset = offset % 5 * 0x1000 + g_rand_int(rand) % 64;
            offset = MIN(offset, 0x4000 - size);
            if (g_rand_boolean(rand))
                harness_bar_read(f.h, f.driver->slot, f.driver->bar, offset, size);
            else
                harness_bar_write(f.h, f.driver->slot, f.driver->bar, offset, size,
                                  g_rand_boolean(rand) ? g_rand_int(rand) : g_rand_int(rand) % 16);
        }
        harness_settle(f.h, 1);
        virtio_driver_start(f.driver, FEATURE);
        echo_check(&f, round % ECHO_QUEUES, round);
    }
    g_rand_free(rand);
    echo_teardown(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-pci/identity", test_identity);
    g_test_add_func("/virtio-pci/features-offered", test_features_offered);
    g_test_add_func("/virtio-pci/features-accepted", test_features_accepted);
    g_test_add_func("/virtio-pci/features-refused", test_features_refused);
    g_test_add_func("/virtio-pci/status-bits", test_status_bits);
    g_test_add_func("/virtio-pci/start-and-reset", test_start_and_reset);
    g_test_add_func("/virtio-pci/failed-start", test_failed_start);
    g_test_add_func("/virtio-pci/queue-registers", test_queue_registers);
    g_test_add_func("/virtio-pci/queue-that-is-not-there", test_queue_that_is_not_there);
    g_test_add_func("/virtio-pci/queue-size", test_queue_size);
    g_test_add_func("/virtio-pci/small-queues-work", test_small_queues_work);
    g_test_add_func("/virtio-pci/vectors", test_vectors);
    g_test_add_func("/virtio-pci/vector-is-used", test_vector_is_used);
    g_test_add_func("/virtio-pci/intx", test_intx);
    g_test_add_func("/virtio-pci/isr-with-msix", test_isr_with_msix);
    g_test_add_func("/virtio-pci/config-generation", test_config_generation);
    g_test_add_func("/virtio-pci/config-writes", test_config_writes);
    g_test_add_func("/virtio-pci/widths", test_widths);
    g_test_add_func("/virtio-pci/window", test_window);
    g_test_add_func("/virtio-pci/window-doorbell", test_window_doorbell);
    g_test_add_func("/virtio-pci/window-to-nowhere", test_window_to_nowhere);
    g_test_add_func("/virtio-pci/random-accesses", test_random_accesses);
    return g_test_run();
}
