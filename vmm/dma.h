/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dma - how a device reaches guest memory: the only way
 *
 * Each device owns one struct dma. Every access is checked against holes, overflow and read-only
 * regions, marks written pages dirty, and is refused while bus mastering is off or while the
 * device's lifecycle state forbids it (vmm/device.h: this is one of the three gates). BARs of other
 * devices are not DMA targets: -EFAULT.
 *
 * What the guest can change under us is copied once, then checked, then used: use dma_read into a
 * private copy, or dma_load* (one aligned little-endian access, never torn).
 *
 * Errors: -EFAULT (no such memory, or read-only), -EACCES (bus mastering off), -EAGAIN (refused by
 * the lifecycle state; counted as a violation by the gate), -E2BIG (too many pieces for the iovec),
 * -EINVAL (a load or store that is not naturally aligned).
 * Nothing is transferred on error.
 *
 * Threads: any; the caller serialises accesses that must be ordered (barriers as in the ring code).
 */
#ifndef VMM_DMA_H
#define VMM_DMA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct memory;
struct device;

enum dma_direction {
    DMA_TO_DEVICE,   /* the device reads guest memory */
    DMA_FROM_DEVICE, /* the device writes guest memory */
};

struct dma {
    struct memory *memory;
    struct device *device;
    bool enabled; /* bus mastering; atomic, set by pci/function (always on for non-PCI devices) */
};

void dma_init(struct dma *dma, struct memory *memory, struct device *device, bool enabled);
void dma_set_enabled(struct dma *dma, bool enabled);

/* May this device do DMA of @direction now? 0, -EACCES or -EAGAIN (not counted as a violation). */
int dma_allowed(const struct dma *dma, enum dma_direction direction);

int dma_read(struct dma *dma, uint64_t gpa, void *buffer, uint64_t len);
int dma_write(struct dma *dma, uint64_t gpa, const void *buffer, uint64_t len);

/* Naturally aligned little-endian loads and stores, single access (relaxed atomics). */
int dma_load16(struct dma *dma, uint64_t gpa, uint16_t *value);
int dma_load32(struct dma *dma, uint64_t gpa, uint32_t *value);
int dma_load64(struct dma *dma, uint64_t gpa, uint64_t *value);
int dma_store16(struct dma *dma, uint64_t gpa, uint16_t value);
int dma_store32(struct dma *dma, uint64_t gpa, uint32_t value);
int dma_store64(struct dma *dma, uint64_t gpa, uint64_t value);

/*
 * Translates [gpa, gpa + len) to host pieces appended at @iov (room for @max): returns how many
 * pieces, or -errno. len 0 gives no piece. The pieces stay valid while the memory map does (RAM: as
 * long as the machine lives). For DMA_FROM_DEVICE the caller says with dma_written() what it wrote,
 * after writing it, so that dirty tracking sees it.
 */
int dma_map(struct dma *dma, uint64_t gpa, uint64_t len, enum dma_direction direction,
            struct iovec *iov, unsigned max);
void dma_written(struct dma *dma, uint64_t gpa, uint64_t len);
/* The same for pieces that came from dma_map, by host address: @len bytes from the first on. */
void dma_written_iov(struct dma *dma, const struct iovec *iov, unsigned count, uint64_t len);

/*
 * One contiguous piece, for rings that are accessed for long: the host address of [gpa, gpa + len),
 * or NULL when it is not all in one RAM region. Only translation is checked, not the gates: the
 * caller asks dma_allowed() at each use, and marks writes with dma_written().
 */
void *dma_map_ring(struct dma *dma, uint64_t gpa, uint64_t len);

#endif
