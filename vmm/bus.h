/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bus - from a guest-physical or port address to the device that answers there
 *
 * Two buses a machine: memory-mapped I/O and ports. A range maps to a table of handlers; ranges
 * never overlap. Lookup takes no lock (an immutable sorted snapshot that a change replaces).
 * Accesses are 1, 2, 4 or 8 bytes, little-endian values in host order; what no range claims reads as
 * all ones and drops writes; an access that crosses a range's end is split into bytes.
 *
 * A doorbell is an eventfd that is signalled by a guest write instead of calling the handler: on KVM
 * an ioeventfd, so the vCPU does not leave the kernel; without KVM (tests), or when KVM has no room
 * for another, the bus itself signals it. Either way the handler does not see that write.
 *
 * Threads: access from any thread (vCPUs); changes from any thread, serialised inside. A handler may
 * be running on another thread while bus_remove returns; bus_remove waits for that, so it must not
 * be called from a handler, nor with a lock held that a handler takes: BARs that a vCPU moves go by
 * bus_remove_nowait, and their owner calls bus_drain before it goes away.
 */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <stdbool.h>
#include <stdint.h>

struct bus;

struct bus_ops {
    /* @offset is from the start of the range. Returns the value; bits above @size are ignored. */
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
};

enum bus_kind { BUS_MMIO, BUS_PORT };

struct bus *bus_create(enum bus_kind kind);
void bus_destroy(struct bus *bus);
enum bus_kind bus_kind(const struct bus *bus);

/* 0, -EEXIST (overlaps a range: its name is in the debug log), -EINVAL (size 0, wrap-around). */
int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *opaque,
            const char *name);
int bus_remove(struct bus *bus, uint64_t base); /* -ENOENT when no range starts there */
/* bus_remove without the wait, from any thread and any handler: a handler of the range may still be
 * running on another thread, so what it uses stays until a bus_drain. */
int bus_remove_nowait(struct bus *bus, uint64_t base);
/* Returns when every handler that was running at the call has returned. Not from a handler. */
void bus_drain(struct bus *bus);

uint64_t bus_read(struct bus *bus, uint64_t address, unsigned size);
void bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value);

struct bus_doorbell {
    uint64_t address;
    unsigned size; /* width of the write that rings it: 1, 2, 4, 8, or 0 for any width */
    bool match;    /* only when the written value equals @value */
    uint64_t value;
    int fd; /* eventfd, not owned */
};

/* 0, -EEXIST (same address, size and match are taken). Removing needs the same five values. */
int bus_add_doorbell(struct bus *bus, const struct bus_doorbell *doorbell);
int bus_remove_doorbell(struct bus *bus, const struct bus_doorbell *doorbell);

/* What offers doorbells in the kernel: vmm/kvm. add returns -errno when it can't take this one. */
struct bus_doorbell_ops {
    int (*add)(void *opaque, enum bus_kind kind, const struct bus_doorbell *doorbell);
    void (*remove)(void *opaque, enum bus_kind kind, const struct bus_doorbell *doorbell);
    void *opaque;
};
void bus_set_doorbell_ops(struct bus *bus, const struct bus_doorbell_ops *ops);

/* For `lodge ctl query-buses`, in order of address. */
void bus_for_each(struct bus *bus,
                  void (*visit)(uint64_t base, uint64_t size, const char *name, void *opaque),
                  void *opaque);

#endif
