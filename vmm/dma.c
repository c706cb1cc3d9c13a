/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dma - how a device reaches guest memory: the gate, then the copy or the translation
 *
 * The gate asks bus mastering first, then the lifecycle state. Translation accepts RAM and ROM-like
 * regions; BARs of other devices are refused (no peer-to-peer DMA).
 */
#include "vmm/dma.h"

#include <errno.h>
#include <glib.h>

#include "vmm/device.h"
#include "vmm/memory.h"
#include "vmm/rcu.h"

void dma_init(struct dma *dma, struct memory *memory, struct device *device, bool enabled)
{
    dma->memory = memory;
    dma->device = device;
    dma->enabled = enabled;
}

void dma_set_enabled(struct dma *dma, bool enabled)
{
    __atomic_store_n(&dma->enabled, enabled, __ATOMIC_RELEASE);
}

static enum device_operation operation_of(enum dma_direction direction)
{
    return direction == DMA_TO_DEVICE ? DEVICE_OP_DMA_READ : DEVICE_OP_DMA_WRITE;
}

int dma_allowed(const struct dma *dma, enum dma_direction direction)
{
    if (!__atomic_load_n(&dma->enabled, __ATOMIC_ACQUIRE))
        return -EACCES;
    if (dma->device &&
        device_rule(device_state(dma->device), operation_of(direction)) != DEVICE_ALLOW)
        return -EAGAIN;
    return 0;
}

/* As dma_allowed, but a refusal by the state counts as a violation. */
static int gate(struct dma *dma, enum dma_direction direction)
{
    if (!__atomic_load_n(&dma->enabled, __ATOMIC_ACQUIRE))
        return -EACCES;
    if (dma->device && device_check(dma->device, operation_of(direction)) != DEVICE_ALLOW)
        return -EAGAIN;
    return 0;
}

int dma_read(struct dma *dma, uint64_t gpa, void *buffer, uint64_t len)
{
    int ret = gate(dma, DMA_TO_DEVICE);

    return ret < 0 ? ret : memory_read(dma->memory, gpa, buffer, len);
}

int dma_write(struct dma *dma, uint64_t gpa, const void *buffer, uint64_t len)
{
    int ret = gate(dma, DMA_FROM_DEVICE);

    return ret < 0 ? ret : memory_write(dma->memory, gpa, buffer, len);
}

/* The host address of one naturally aligned value; call and use inside an RCU section. */
static int value_at(struct dma *dma, uint64_t gpa, unsigned size, enum dma_direction direction,
                    void **host)
{
    uint32_t forbidden = MEMORY_BAR | (direction == DMA_FROM_DEVICE ? MEMORY_READONLY : 0);
    struct memory_span span;
    int ret = gate(dma, direction);

    if (ret < 0)
        return ret;
    if (gpa % size)
        return -EINVAL;
    if (!memory_find(dma->memory, gpa, size, &span) || span.len < size ||
        (span.region->flags & forbidden))
        return -EFAULT;
    *host = span.host;
    return 0;
}

#define DEFINE_ACCESS(BITS)                                                                        \
    int dma_load##BITS(struct dma *dma, uint64_t gpa, uint##BITS##_t *value)                       \
    {                                                                                              \
        void *host;                                                                                \
        rcu_read_begin();                                                                          \
        int ret = value_at(dma, gpa, sizeof(*value), DMA_TO_DEVICE, &host);                        \
        if (ret == 0)                                                                              \
            *value =                                                                               \
                GUINT##BITS##_FROM_LE(__atomic_load_n((uint##BITS##_t *)host, __ATOMIC_RELAXED));  \
        rcu_read_end();                                                                            \
        return ret;                                                                                \
    }                                                                                              \
    int dma_store##BITS(struct dma *dma, uint64_t gpa, uint##BITS##_t value)                       \
    {                                                                                              \
        void *host;                                                                                \
        rcu_read_begin();                                                                          \
        int ret = value_at(dma, gpa, sizeof(value), DMA_FROM_DEVICE, &host);                       \
        if (ret == 0) {                                                                            \
            __atomic_store_n((uint##BITS##_t *)host, GUINT##BITS##_TO_LE(value),                   \
                             __ATOMIC_RELAXED);                                                    \
            memory_mark_dirty(dma->memory, gpa, sizeof(value));                                    \
        }                                                                                          \
        rcu_read_end();                                                                            \
        return ret;                                                                                \
    }

DEFINE_ACCESS(16)
DEFINE_ACCESS(32)
DEFINE_ACCESS(64)

int dma_map(struct dma *dma, uint64_t gpa, uint64_t len, enum dma_direction direction,
            struct iovec *iov, unsigned max)
{
    uint32_t forbidden = MEMORY_BAR | (direction == DMA_FROM_DEVICE ? MEMORY_READONLY : 0);
    unsigned count = 0;
    int ret = gate(dma, direction);

    if (ret < 0)
        return ret;
    rcu_read_begin();
    while (len > 0) {
        struct memory_span span;
        if (!memory_find(dma->memory, gpa, len, &span) || (span.region->flags & forbidden)) {
            ret = -EFAULT;
            break;
        }
        if (count == max) {
            ret = -E2BIG;
            break;
        }
        iov[count].iov_base = span.host;
        iov[count].iov_len = span.len;
        count++;
        len -= span.len;
        if (len > 0 && gpa + span.len < gpa) {
            ret = -EFAULT;
            break;
        }
        gpa += span.len;
    }
    rcu_read_end();
    return ret < 0 ? ret : (int)count;
}

void dma_written(struct dma *dma, uint64_t gpa, uint64_t len)
{
    memory_mark_dirty(dma->memory, gpa, len);
}

/* Marks the guest pages behind [host, host + len), which lies in one region. */
static void mark_host(struct memory *memory, const uint8_t *host, uint64_t len)
{
    unsigned count;
    const struct memory_region *regions = memory_regions(memory, &count);

    for (unsigned i = 0; i < count; i++) {
        const struct memory_region *region = &regions[i];
        if (host >= region->host && (uint64_t)(host - region->host) < region->size) {
            memory_mark_dirty(memory, region->gpa + (uint64_t)(host - region->host), len);
            return;
        }
    }
}

void dma_written_iov(struct dma *dma, const struct iovec *iov, unsigned count, uint64_t len)
{
    if (!memory_is_tracking(dma->memory))
        return;
    rcu_read_begin();
    for (unsigned i = 0; i < count && len > 0; i++) {
        uint64_t part = MIN(len, iov[i].iov_len);
        mark_host(dma->memory, iov[i].iov_base, part);
        len -= part;
    }
    rcu_read_end();
}

void *dma_map_ring(struct dma *dma, uint64_t gpa, uint64_t len)
{
    struct memory_span span;
    void *host = NULL;

    rcu_read_begin();
    if (memory_find(dma->memory, gpa, len, &span) && span.len == len &&
        (span.region->flags & (MEMORY_RAM | MEMORY_READONLY)) == MEMORY_RAM)
        host = span.host;
    rcu_read_end();
    return host;
}
