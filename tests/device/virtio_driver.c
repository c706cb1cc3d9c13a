/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_driver - the driver's side of virtio over PCI, for tests: see virtio_driver.h
 */
#include "tests/device/virtio_driver.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#define BIT(n) (UINT64_C(1) << (n))

static void find_capabilities(struct virtio_driver *driver)
{
    struct harness *h = driver->h;
    unsigned found = 0;

    for (unsigned at = 0; (at = harness_capability(h, driver->slot, PCI_CAP_ID_VNDR, at)) != 0;) {
        unsigned type = harness_config_read(h, driver->slot, at + VIRTIO_PCI_CAP_CFG_TYPE, 1);
        uint32_t offset = harness_config_read(h, driver->slot, at + VIRTIO_PCI_CAP_OFFSET, 4);
        uint32_t length = harness_config_read(h, driver->slot, at + VIRTIO_PCI_CAP_LENGTH, 4);

        found |= 1u << type;
        switch (type) {
        case VIRTIO_PCI_CAP_COMMON_CFG:
            driver->bar = harness_config_read(h, driver->slot, at + VIRTIO_PCI_CAP_BAR, 1);
            driver->common = offset;
            driver->common_length = length;
            break;
        case VIRTIO_PCI_CAP_NOTIFY_CFG:
            driver->notify = offset;
            driver->multiplier =
                harness_config_read(h, driver->slot, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
            break;
        case VIRTIO_PCI_CAP_ISR_CFG:
            driver->isr = offset;
            break;
        case VIRTIO_PCI_CAP_DEVICE_CFG:
            driver->config = offset;
            driver->config_length = length;
            break;
        case VIRTIO_PCI_CAP_PCI_CFG:
            driver->window = at;
            break;
        }
    }
    g_assert_cmphex(found & 0x2e, ==, 0x2e);
}

struct virtio_driver *virtio_driver_create(struct harness *h, struct virtio_pci *vpci)
{
    struct virtio_driver *driver = g_new0(struct virtio_driver, 1);

    driver->h = h;
    driver->vpci = vpci;
    driver->function = virtio_pci_function(vpci);
    driver->slot = harness_attach(h, driver->function);
    find_capabilities(driver);
    driver->queue_count = virtio_driver_read(driver, VIRTIO_PCI_COMMON_NUMQ, 2);
    driver->rings = g_new0(struct driver_ring, driver->queue_count);
    driver->ring_memory = g_new0(uint64_t, driver->queue_count);
    driver->notify_offsets = g_new0(uint32_t, driver->queue_count);
    driver->msix = driver->function->msix.vectors > 0;
    if (driver->msix)
        harness_msix_enable(h, driver->slot, driver->queue_count + 1);
    return driver;
}

void virtio_driver_destroy(struct virtio_driver *driver)
{
    for (unsigned i = 0; i < driver->queue_count; i++)
        driver_ring_finish(&driver->rings[i]);
    harness_detach(driver->h, driver->function);
    g_free(driver->rings);
    g_free(driver->ring_memory);
    g_free(driver->notify_offsets);
    g_free(driver);
}

uint32_t virtio_driver_read(struct virtio_driver *driver, unsigned offset, unsigned size)
{
    return harness_bar_read(driver->h, driver->slot, driver->bar, driver->common + offset, size);
}

void virtio_driver_write(struct virtio_driver *driver, unsigned offset, unsigned size,
                         uint32_t value)
{
    harness_bar_write(driver->h, driver->slot, driver->bar, driver->common + offset, size, value);
}

uint32_t virtio_driver_config(struct virtio_driver *driver, unsigned offset, unsigned size)
{
    return harness_bar_read(driver->h, driver->slot, driver->bar, driver->config + offset, size);
}

uint8_t virtio_driver_status(struct virtio_driver *driver)
{
    return virtio_driver_read(driver, VIRTIO_PCI_COMMON_STATUS, 1);
}

void virtio_driver_set_status(struct virtio_driver *driver, uint8_t bits)
{
    virtio_driver_write(driver, VIRTIO_PCI_COMMON_STATUS, 1, virtio_driver_status(driver) | bits);
}

static bool is_reset(void *opaque)
{
    return virtio_driver_status(opaque) == 0;
}

void virtio_driver_reset(struct virtio_driver *driver)
{
    virtio_driver_write(driver, VIRTIO_PCI_COMMON_STATUS, 1, 0);
    g_assert_true(harness_wait(driver->h, is_reset, driver, HARNESS_TIMEOUT_MS));
}

uint64_t virtio_driver_offered(struct virtio_driver *driver)
{
    uint64_t features;

    virtio_driver_write(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
    features = virtio_driver_read(driver, VIRTIO_PCI_COMMON_DF, 4);
    virtio_driver_write(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
    return features | (uint64_t)virtio_driver_read(driver, VIRTIO_PCI_COMMON_DF, 4) << 32;
}

bool virtio_driver_negotiate(struct virtio_driver *driver, uint64_t features)
{
    features |= BIT(VIRTIO_F_VERSION_1);
    virtio_driver_reset(driver);
    virtio_driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    virtio_driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER);
    for (unsigned word = 0; word < 2; word++) {
        virtio_driver_write(driver, VIRTIO_PCI_COMMON_GFSELECT, 4, word);
        virtio_driver_write(driver, VIRTIO_PCI_COMMON_GF, 4, features >> (32 * word));
    }
    virtio_driver_set_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
    driver->features = features;
    if (driver->msix)
        virtio_driver_write(driver, VIRTIO_PCI_COMMON_MSIX, 2, 0);
    return virtio_driver_status(driver) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void write_address(struct virtio_driver *driver, unsigned offset, uint64_t address)
{
    virtio_driver_write(driver, offset, 4, (uint32_t)address);
    virtio_driver_write(driver, offset + 4, 4, address >> 32);
}

void virtio_driver_setup_queue(struct virtio_driver *driver, unsigned index, uint16_t size)
{
    struct driver_ring *ring = &driver->rings[index];
    const struct virtq_features features = {
        .packed = driver->features & BIT(VIRTIO_F_RING_PACKED),
        .indirect = driver->features & BIT(VIRTIO_RING_F_INDIRECT_DESC),
        .event_idx = driver->features & BIT(VIRTIO_RING_F_EVENT_IDX),
        .in_order = driver->features & BIT(VIRTIO_F_IN_ORDER),
    };
    uint16_t max;

    virtio_driver_write(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
    max = virtio_driver_read(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2);
    g_assert_cmpuint(max, >, 0);
    size = size ? size : max;
    if (!driver->ring_memory[index])
        driver->ring_memory[index] =
            harness_alloc(driver->h, driver_ring_bytes(VIRTQ_MAX_SIZE), 4096);
    driver_ring_finish(ring);
    memset(harness_ptr(driver->h, driver->ring_memory[index], driver_ring_bytes(size)), 0,
           driver_ring_bytes(size));
    driver_ring_init(ring, driver->h->memory, driver->ring_memory[index], size, &features);
    virtio_driver_write(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
    if (driver->msix) {
        virtio_driver_write(driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, index + 1);
        g_assert_cmpuint(virtio_driver_read(driver, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==, index + 1);
    }
    write_address(driver, VIRTIO_PCI_COMMON_Q_DESCLO, ring->descriptors);
    write_address(driver, VIRTIO_PCI_COMMON_Q_AVAILLO, ring->driver_area);
    write_address(driver, VIRTIO_PCI_COMMON_Q_USEDLO, ring->device_area);
    driver->notify_offsets[index] =
        driver->notify +
        virtio_driver_read(driver, VIRTIO_PCI_COMMON_Q_NOFF, 2) * driver->multiplier;
    virtio_driver_write(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    g_assert_cmpuint(virtio_driver_read(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 1);
}

void virtio_driver_start(struct virtio_driver *driver, uint64_t features)
{
    g_assert_true(virtio_driver_negotiate(driver, features));
    for (unsigned i = 0; i < driver->queue_count; i++)
        virtio_driver_setup_queue(driver, i, 0);
    virtio_driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
}

struct driver_ring *virtio_driver_ring(struct virtio_driver *driver, unsigned index)
{
    return &driver->rings[index];
}

void virtio_driver_kick(struct virtio_driver *driver, unsigned index)
{
    harness_bar_write(driver->h, driver->slot, driver->bar, driver->notify_offsets[index], 2,
                      index);
}

void virtio_driver_publish(struct virtio_driver *driver, unsigned index)
{
    if (driver_ring_publish(&driver->rings[index]))
        virtio_driver_kick(driver, index);
}

void virtio_driver_submit(struct virtio_driver *driver, unsigned index,
                          const struct driver_buffer *out, unsigned outs,
                          const struct driver_buffer *in, unsigned ins, void *cookie)
{
    bool indirect = driver->rings[index].features.indirect && outs + ins > 1;

    g_assert_true(driver_ring_add(&driver->rings[index], out, outs, in, ins, indirect, cookie));
    virtio_driver_publish(driver, index);
}

struct waiting {
    struct driver_ring *ring;
    void *cookie;
    uint32_t written;
};

static bool has_used(void *opaque)
{
    struct waiting *waiting = opaque;

    waiting->cookie = driver_ring_reap(waiting->ring, &waiting->written);
    return waiting->cookie != NULL;
}

void *virtio_driver_wait(struct virtio_driver *driver, unsigned index, uint32_t *written)
{
    struct waiting waiting = {.ring = &driver->rings[index]};

    if (!harness_wait(driver->h, has_used, &waiting, HARNESS_TIMEOUT_MS))
        return NULL;
    if (written)
        *written = waiting.written;
    return waiting.cookie;
}

int64_t virtio_driver_request(struct virtio_driver *driver, unsigned index,
                              const struct driver_buffer *out, unsigned outs,
                              const struct driver_buffer *in, unsigned ins)
{
    uint32_t written;
    int marker;
    void *cookie;

    virtio_driver_submit(driver, index, out, outs, in, ins, &marker);
    cookie = virtio_driver_wait(driver, index, &written);
    g_assert_true(!cookie || cookie == &marker);
    return cookie ? (int64_t)written : -1;
}

uint64_t virtio_driver_interrupts(struct virtio_driver *driver, unsigned index)
{
    return harness_msi_count(driver->h, driver->slot, index + 1);
}

uint64_t virtio_driver_config_interrupts(struct virtio_driver *driver)
{
    return harness_msi_count(driver->h, driver->slot, 0);
}
