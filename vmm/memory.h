/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memory - the guest-physical address space: RAM and other directly mapped regions
 *
 * RAM is memfd-backed and shared (MAP_SHARED, lazily faulted), so that it can be handed to another
 * process; or private to this one where nobody will ask and the host gives transparent huge pages to
 * private memory only (memory_shared_thp). A region maps [gpa, gpa + size) to host memory; regions
 * never overlap. Lookups take no lock: they read an immutable snapshot of the sorted region list,
 * which a change replaces. RAM added at start stays until memory_destroy, so pointers into it stay
 * valid. Pointers to regions (memory_regions, span.region) stay valid inside an RCU section
 * (vmm/rcu.h), or while nobody changes the map.
 *
 * Devices do not use this header's pointers: they go through vmm/dma.h.
 *
 * Threads: lookups from any thread; RAM, listener and dirty tracking from the main thread;
 * memory_add and memory_remove from any thread, also from a bus handler (a guest that moves a BAR).
 */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_PAGE_SIZE 4096u

enum memory_flags {
    MEMORY_RAM = 1 << 0,      /* guest RAM: saved, migrated, described in e820 */
    MEMORY_READONLY = 1 << 1, /* guest and DMA writes are refused */
    MEMORY_BAR = 1 << 2,      /* a device's mappable BAR: not RAM, never a DMA target */
};

struct memory_region {
    uint64_t gpa;       /* bytes, page aligned */
    uint64_t size;      /* bytes, page aligned, never 0 */
    uint8_t *host;      /* where it is mapped in this process */
    int fd;             /* the file behind it (-1: none); not owned by the region */
    uint64_t fd_offset; /* of the region's first byte in fd */
    bool private;       /* this process's alone: the guest's writes go to no file */
    int copied_fd;      /* private: the file that it is a copy of, at fd_offset, or -1 */
    uint32_t flags;     /* enum memory_flags */
    char name[24];
    unsigned slot;   /* KVM memory slot number */
    uint64_t *dirty; /* one bit a page while dirty tracking is on, else NULL */
};

struct memory;

/* Told of every change, before an addition becomes visible and after a removal did: KVM's slots. */
struct memory_listener {
    int (*add)(void *opaque, const struct memory_region *region); /* 0 or -errno */
    void (*remove)(void *opaque, const struct memory_region *region);
    void *opaque;
};

struct memory *memory_create(void);
void memory_destroy(
    struct memory *memory); /* unmaps and closes the RAM it created; NULL is allowed */

/*
 * Sets the listener (one, NULL for none) and replays the regions there are to it. Main thread.
 */
int memory_set_listener(struct memory *memory, const struct memory_listener *listener);

/* How RAM is to be backed; zero-initialised is the default. */
struct memory_ram_options {
    bool hugepages; /* hugetlbfs pages (memfd MFD_HUGETLB): an error if the host has too few */
    bool no_thp;    /* do not ask for transparent huge pages */
    bool prefault;  /* populate now instead of at first touch */
    bool private; /* anonymous memory of this process alone: gets transparent huge pages on any host */
    int fd;       /* if > 0: map this file (private copy-on-write) instead of a new memfd */
    uint64_t fd_offset;
};

/* Does the host give shared memory transparent huge pages when asked (shmem_enabled)? Without them a
 * guest takes a page fault exit every 4 KiB it touches first, five times the exits of a boot. */
bool memory_shared_thp(void);

/*
 * Lays out @size bytes of RAM around the PCI hole: below @low_end (a guest-physical address, for
 * instance 3 GiB) and the rest from 4 GiB up, one memfd for all. @size is a multiple of 4 KiB.
 */
bool memory_add_ram(struct memory *memory, uint64_t size, uint64_t low_end,
                    const struct memory_ram_options *options, GError **error);

/* Adds a region over memory that the caller owns (a BAR, a ROM). -EEXIST on overlap, -EINVAL on bad
 * alignment or wrap, or the listener's error. */
int memory_add(struct memory *memory, const struct memory_region *region);
/* Exact match, else -ENOENT. The guest does not see the region any more when this returns. Lookups
 * in progress on other threads have ended too, unless the caller is inside an RCU section (a bus
 * handler): an owner unmaps the host memory only after a removal outside of one. */
int memory_remove(struct memory *memory, uint64_t gpa, uint64_t size);

/* The regions of the current snapshot, sorted by gpa; valid until the next change. */
const struct memory_region *memory_regions(const struct memory *memory, unsigned *count);
uint64_t memory_ram_size(const struct memory *memory);

/* A run of host memory. */
struct memory_span {
    uint8_t *host;
    uint64_t len;
    const struct memory_region *region;
};

/*
 * The longest run from @gpa, at most @len bytes, that lies in one region. False when @gpa is in no
 * region (holes, wrap-around). len 0 is never found.
 */
bool memory_find(const struct memory *memory, uint64_t gpa, uint64_t len, struct memory_span *span);

/* Copies that the monitor itself makes (loaders, debuggers). -EFAULT when any byte is not in RAM or
 * in a read-only region for a write; then nothing was copied. Writes mark pages dirty. */
int memory_read(const struct memory *memory, uint64_t gpa, void *buffer, uint64_t len);
int memory_write(struct memory *memory, uint64_t gpa, const void *buffer, uint64_t len);

/*
 * Which of @count pages of a private region, counted from @first (a page number within it), may hold
 * anything but zeroes: bit 0 of @used is page @first. Touches nothing: asks /proc/self/pagemap what is
 * there, and the file that it is a copy of for its holes. False: it can't be known. Any thread.
 */
bool memory_find_used(const struct memory_region *region, uint64_t first, uint64_t count,
                      uint64_t *used);

/*
 * Dirty tracking of what the monitor writes (KVM's own log is separate). While it is on,
 * memory_mark_dirty sets a bit per touched page; memory_dirty_sync moves the bits of one region to
 * @bitmap (ORs them in, and clears its own). Marking: any thread. The rest: main thread.
 */
int memory_dirty_start(struct memory *memory); /* 0 or -ENOMEM */
void memory_dirty_stop(struct memory *memory);
bool memory_is_tracking(const struct memory *memory); /* any thread */
void memory_mark_dirty(struct memory *memory, uint64_t gpa, uint64_t len);
void memory_dirty_sync(struct memory *memory, const struct memory_region *region, uint64_t *bitmap);

#endif
