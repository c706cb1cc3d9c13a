/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * function - a PCI function's life, its region accesses and its interrupt line
 *
 * Every access goes through the lifecycle gate (vmm/device.h) first: what it refuses reads as all
 * ones and drops writes. The MSI-X table and pending bits are served here; the rest of a region is
 * the device's. Config space: config.c, BARs: bar.c, vectors: msix.c.
 *
 * Threads: see function.h.
 */
#include "pci/private.h"

#include <inttypes.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "vmm/trace.h"

TRACE_EVENT(pci_region_read, "%s region=%u offset=0x%" PRIx64 " size=%u value=0x%" PRIx64,
            (const char *name, unsigned region, uint64_t offset, unsigned size, uint64_t value),
            name, region, offset, size, value)
TRACE_EVENT(pci_region_write, "%s region=%u offset=0x%" PRIx64 " size=%u value=0x%" PRIx64,
            (const char *name, unsigned region, uint64_t offset, unsigned size, uint64_t value),
            name, region, offset, size, value)
TRACE_EVENT(pci_intx, "%s level=%d", (const char *name, int level), name, level)

void pci_function_init(struct pci_function *function, const char *name, const char *type,
                       const struct device_ops *device_ops, const struct pci_function_ops *ops,
                       const struct pci_identity *identity, const struct pci_environment *env)
{
    memset(function, 0, sizeof(*function));
    device_init(&function->device, name, type, device_ops);
    pthread_mutex_init(&function->lock, NULL);
    function->ops = ops;
    function->memory = env->memory;
    function->interrupts = env->interrupts;
    function->loop = env->loop;
    dma_init(&function->dma, env->memory, &function->device, false);
    pci_config_init(function, identity);
}

void pci_function_finish(struct pci_function *function)
{
    g_assert(!function->host); /* the host would go on calling it */
    pci_msix_finish(function);
    pci_bar_finish(function);
    g_clear_pointer(&function->power_on, g_free);
    if (function->saved_msix)
        g_byte_array_unref(function->saved_msix);
    function->saved_msix = NULL;
    pthread_mutex_destroy(&function->lock);
    device_finish(&function->device);
}

/* ---- regions ---- */

static bool region_has(const struct pci_function *function, unsigned region, uint64_t offset,
                       unsigned size)
{
    if (region >= PCI_BARS || size < 1 || size > 8)
        return false;
    uint64_t length = function->bars[region].size;
    return size <= length && offset <= length - size;
}

static uint64_t mapped_read(const uint8_t *host, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, host, size);
    return value;
}

/* Widths that no guest instruction has, but a peer may ask for: byte by byte. */
static bool is_odd_width(unsigned size)
{
    return size < 8 && (size & (size - 1));
}

uint64_t pci_function_region_read(struct pci_function *function, unsigned region, uint64_t offset,
                                  unsigned size)
{
    uint64_t value = 0;

    if (is_odd_width(size)) {
        for (unsigned i = 0; i < size; i++)
            value |= pci_function_region_read(function, region, offset + i, 1) << (8 * i);
        return value;
    }

    if (region == PCI_REGION_CONFIG && size <= 4 && offset < PCI_CONFIG_SIZE)
        return pci_function_config_read(function, (unsigned)offset, size);
    if (!region_has(function, region, offset, size))
        return size >= 1 && size <= 8 ? pci_ones(size) : UINT64_MAX;

    bool msix = pci_msix_covers(function, region, offset, size);
    if (device_check(&function->device, msix ? DEVICE_OP_CONFIG : DEVICE_OP_REGISTER_READ) ==
        DEVICE_REFUSE)
        return pci_ones(size);
    const uint8_t *host = pci_bar_mapped(function, region, offset, size);
    if (msix)
        value = pci_msix_read(function, offset, size);
    else if (host)
        value = mapped_read(host, size);
    else if (function->ops && function->ops->region_read)
        value = function->ops->region_read(function, region, offset, size) & pci_ones(size);
    trace_pci_region_read(function->device.name, region, offset, size, value);
    return value;
}

void pci_region_write_handled(struct pci_function *function, unsigned region, uint64_t offset,
                              unsigned size, uint64_t value)
{
    if (!region_has(function, region, offset, size))
        return;
    value &= pci_ones(size);
    trace_pci_region_write(function->device.name, region, offset, size, value);

    bool msix = pci_msix_covers(function, region, offset, size);
    if (device_check(&function->device, msix ? DEVICE_OP_CONFIG : DEVICE_OP_REGISTER_WRITE) ==
        DEVICE_REFUSE)
        return;
    uint8_t *host = pci_bar_mapped(function, region, offset, size);
    if (msix)
        pci_msix_write(function, offset, size, value);
    else if (host)
        memcpy(host, &value, size);
    else if (function->ops && function->ops->region_write)
        function->ops->region_write(function, region, offset, size, value);
}

void pci_function_region_write(struct pci_function *function, unsigned region, uint64_t offset,
                               unsigned size, uint64_t value)
{
    if (is_odd_width(size)) {
        for (unsigned i = 0; i < size; i++)
            pci_function_region_write(function, region, offset + i, 1, value >> (8 * i) & 0xff);
        return;
    }
    if (region == PCI_REGION_CONFIG && size <= 4 && offset < PCI_CONFIG_SIZE) {
        pci_function_config_write(function, (unsigned)offset, size, (uint32_t)value);
        return;
    }
    if (region_has(function, region, offset, size) &&
        !pci_bar_ring(function, region, offset, size, value))
        pci_region_write_handled(function, region, offset, size, value);
}

/* ---- the interrupt pin ---- */

void pci_function_add_intx(struct pci_function *function, uint8_t pin)
{
    g_assert(pin >= 1 && pin <= 4);
    function->config[PCI_INTERRUPT_PIN] = pin;
    function->writable[PCI_COMMAND + 1] |= PCI_COMMAND_INTX_DISABLE >> 8;
    function->has_intx = true;
}

void pci_intx_update(struct pci_function *function)
{
    if (!function->has_intx)
        return;
    uint16_t command = pci_get16(function->config + PCI_COMMAND);
    if (function->intx_level)
        function->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
    else
        function->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
    if (!function->host)
        return; /* no line yet */
    bool level = function->intx_level && !(command & PCI_COMMAND_INTX_DISABLE) &&
                 !pci_function_msix_enabled(function);
    if (level == __atomic_load_n(&function->intx.level, __ATOMIC_ACQUIRE))
        return;
    trace_pci_intx(function->device.name, level);
    /* While a stream is loaded the line may not move; it is looked at when the device runs again. */
    if (device_rule(device_state(&function->device), DEVICE_OP_INTERRUPT) == DEVICE_REFUSE)
        __atomic_store_n(&function->intx.level, level, __ATOMIC_RELEASE);
    else
        irq_line_set(&function->intx, level);
}

void pci_function_set_intx(struct pci_function *function, bool level)
{
    pthread_mutex_lock(&function->lock);
    function->intx_level = level;
    pci_intx_update(function);
    pthread_mutex_unlock(&function->lock);
}
