/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memory - the guest-physical address space: RAM and other directly mapped regions
 *
 * The map is an immutable array of regions sorted by address; a change builds a new one, publishes
 * it and retires the old one (vmm/rcu.h). Lookups are a binary search in whatever array they find.
 *
 * RAM is one memfd mapped once: the part below the PCI hole first, the part from 4 GiB up behind
 * it, both aligned to 2 MiB on the host so that huge pages can back it. Nothing is touched until the
 * guest or a loader does.
 *
 * Limits: as many regions as the listener takes (KVM: 32764 slots, or 509 on old kernels).
 */
#include "vmm/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gio/gio.h>

#include "vmm/fd.h"
#include "vmm/layout.h"
#include "vmm/log.h"
#include "vmm/rcu.h"

#define HUGE_PAGE_SIZE (UINT64_C(2) << 20)

struct map {
    unsigned count;
    struct memory_region regions[];
};

struct memory {
    struct map *map;      /* RCU */
    pthread_mutex_t lock; /* serialises changes */
    struct memory_listener listener;
    bool tracking; /* dirty tracking is on; atomic */
    /* The RAM that memory_add_ram made. */
    uint8_t *ram;
    uint64_t ram_size;
    int ram_fd;
};

static struct map *map_new(unsigned count)
{
    struct map *map = g_malloc0(sizeof(*map) + (gsize)MAX(count, 1) * sizeof(struct memory_region));
    map->count = count;
    return map;
}

struct memory *memory_create(void)
{
    struct memory *memory = g_new0(struct memory, 1);

    memory->map = map_new(0);
    memory->ram_fd = -1;
    pthread_mutex_init(&memory->lock, NULL);
    return memory;
}

void memory_destroy(struct memory *memory)
{
    if (!memory)
        return;
    for (unsigned i = 0; i < memory->map->count; i++)
        g_free(memory->map->regions[i].dirty);
    g_free(memory->map);
    if (memory->ram)
        munmap(memory->ram, memory->ram_size);
    close_fd(memory->ram_fd);
    pthread_mutex_destroy(&memory->lock);
    g_free(memory);
}

int memory_set_listener(struct memory *memory, const struct memory_listener *listener)
{
    int ret = 0;

    pthread_mutex_lock(&memory->lock);
    memset(&memory->listener, 0, sizeof(memory->listener));
    if (listener) {
        const struct map *map = memory->map;
        unsigned done;
        for (done = 0; done < map->count; done++) {
            ret = listener->add(listener->opaque, &map->regions[done]);
            if (ret < 0)
                break;
        }
        if (ret < 0) {
            while (done-- > 0)
                listener->remove(listener->opaque, &map->regions[done]);
        } else {
            memory->listener = *listener;
        }
    }
    pthread_mutex_unlock(&memory->lock);
    return ret;
}

/* ---- lookups ---- */

/* The region that holds @gpa, or NULL; inside an RCU section. */
static const struct memory_region *find_region(const struct map *map, uint64_t gpa)
{
    unsigned low = 0, high = map->count;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        const struct memory_region *region = &map->regions[middle];
        if (gpa < region->gpa)
            high = middle;
        else if (gpa - region->gpa >= region->size)
            low = middle + 1;
        else
            return region;
    }
    return NULL;
}

static bool find_span(const struct map *map, uint64_t gpa, uint64_t len, struct memory_span *span)
{
    const struct memory_region *region = len ? find_region(map, gpa) : NULL;
    uint64_t offset;

    if (!region)
        return false;
    offset = gpa - region->gpa;
    span->host = region->host + offset;
    span->len = MIN(len, region->size - offset);
    span->region = region;
    return true;
}

bool memory_find(const struct memory *memory, uint64_t gpa, uint64_t len, struct memory_span *span)
{
    bool found;

    rcu_read_begin();
    found = find_span(rcu_load(memory->map), gpa, len, span);
    rcu_read_end();
    return found;
}

const struct memory_region *memory_regions(const struct memory *memory, unsigned *count)
{
    const struct map *map = rcu_load(memory->map);

    *count = map->count;
    return map->regions;
}

uint64_t memory_ram_size(const struct memory *memory)
{
    const struct map *map;
    uint64_t size = 0;

    rcu_read_begin();
    map = rcu_load(memory->map);
    for (unsigned i = 0; i < map->count; i++) {
        if (map->regions[i].flags & MEMORY_RAM)
            size += map->regions[i].size;
    }
    rcu_read_end();
    return size;
}

/* Is all of [gpa, gpa + len) in regions without @forbidden flags? */
static bool covered(const struct map *map, uint64_t gpa, uint64_t len, uint32_t forbidden)
{
    struct memory_span span;

    while (len > 0) {
        if (!find_span(map, gpa, len, &span) || (span.region->flags & forbidden))
            return false;
        gpa += span.len; /* may wrap to 0 only when len becomes 0, or the next find decides */
        len -= span.len;
        if (len > 0 && gpa == 0)
            return false;
    }
    return true;
}

static void mark_region(const struct memory_region *region, uint64_t gpa, uint64_t len)
{
    uint64_t first, last;

    if (!region->dirty)
        return;
    first = (gpa - region->gpa) / MEMORY_PAGE_SIZE;
    last = (gpa - region->gpa + len - 1) / MEMORY_PAGE_SIZE;
    for (uint64_t page = first; page <= last; page++) {
        uint64_t bit = UINT64_C(1) << (page % 64);
        uint64_t *word = &region->dirty[page / 64];
        if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
            __atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
    }
}

int memory_read(const struct memory *memory, uint64_t gpa, void *buffer, uint64_t len)
{
    const struct map *map;
    struct memory_span span;
    uint8_t *to = buffer;
    int ret = 0;

    rcu_read_begin();
    map = rcu_load(memory->map);
    if (!covered(map, gpa, len, MEMORY_BAR)) {
        ret = -EFAULT;
        len = 0;
    }
    while (len > 0 && find_span(map, gpa, len, &span)) {
        memcpy(to, span.host, span.len);
        to += span.len;
        gpa += span.len;
        len -= span.len;
    }
    rcu_read_end();
    return ret;
}

int memory_write(struct memory *memory, uint64_t gpa, const void *buffer, uint64_t len)
{
    const struct map *map;
    struct memory_span span;
    const uint8_t *from = buffer;
    int ret = 0;

    rcu_read_begin();
    map = rcu_load(memory->map);
    if (!covered(map, gpa, len, MEMORY_BAR | MEMORY_READONLY)) {
        ret = -EFAULT;
        len = 0;
    }
    while (len > 0 && find_span(map, gpa, len, &span)) {
        memcpy(span.host, from, span.len);
        mark_region(span.region, gpa, span.len);
        from += span.len;
        gpa += span.len;
        len -= span.len;
    }
    rcu_read_end();
    return ret;
}

/* ---- changes; the lock is held ---- */

static bool overlaps(const struct map *map, uint64_t gpa, uint64_t size)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct memory_region *region = &map->regions[i];
        if (gpa <= region->gpa + (region->size - 1) && region->gpa <= gpa + (size - 1))
            return true;
    }
    return false;
}

static unsigned free_slot(const struct map *map)
{
    for (unsigned slot = 0;; slot++) {
        bool used = false;
        for (unsigned i = 0; i < map->count && !used; i++)
            used = map->regions[i].slot == slot;
        if (!used)
            return slot;
    }
}

static size_t dirty_words(const struct memory_region *region)
{
    return (region->size / MEMORY_PAGE_SIZE + 63) / 64;
}

/* Publishes @map in place of the current one. */
static void replace_map(struct memory *memory, struct map *map)
{
    struct map *old = memory->map;

    rcu_publish(memory->map, map);
    rcu_free(old, g_free);
}

static int add_region(struct memory *memory, const struct memory_region *region)
{
    const struct map *old = memory->map;
    struct memory_region added = *region;
    struct map *map;
    unsigned at = 0;
    int ret;

    if (region->size == 0 || region->gpa % MEMORY_PAGE_SIZE || region->size % MEMORY_PAGE_SIZE ||
        region->gpa + (region->size - 1) < region->gpa || !region->host ||
        (uintptr_t)region->host % MEMORY_PAGE_SIZE)
        return -EINVAL;
    if (overlaps(old, region->gpa, region->size))
        return -EEXIST;
    added.name[sizeof(added.name) - 1] = '\0';
    added.slot = free_slot(old);
    added.dirty = NULL;
    if (memory->tracking) {
        added.dirty = g_try_new0(uint64_t, dirty_words(&added));
        if (!added.dirty)
            return -ENOMEM;
    }
    if (memory->listener.add) {
        ret = memory->listener.add(memory->listener.opaque, &added);
        if (ret < 0) {
            g_free(added.dirty);
            return ret;
        }
    }

    map = map_new(old->count + 1);
    while (at < old->count && old->regions[at].gpa < added.gpa)
        at++;
    memcpy(map->regions, old->regions, at * sizeof(added));
    map->regions[at] = added;
    memcpy(&map->regions[at + 1], &old->regions[at], (old->count - at) * sizeof(added));
    replace_map(memory, map);
    return 0;
}

int memory_add(struct memory *memory, const struct memory_region *region)
{
    int ret;

    pthread_mutex_lock(&memory->lock);
    ret = add_region(memory, region);
    pthread_mutex_unlock(&memory->lock);
    return ret;
}

int memory_remove(struct memory *memory, uint64_t gpa, uint64_t size)
{
    struct memory_region removed;
    const struct map *old;
    struct map *map;
    unsigned at;

    pthread_mutex_lock(&memory->lock);
    old = memory->map;
    for (at = 0; at < old->count; at++) {
        if (old->regions[at].gpa == gpa && old->regions[at].size == size)
            break;
    }
    if (at == old->count) {
        pthread_mutex_unlock(&memory->lock);
        return -ENOENT;
    }
    removed = old->regions[at];
    map = map_new(old->count - 1);
    memcpy(map->regions, old->regions, at * sizeof(removed));
    memcpy(&map->regions[at], &old->regions[at + 1], (old->count - at - 1) * sizeof(removed));
    replace_map(memory, map);
    rcu_free(removed.dirty, g_free);
    if (memory->listener.remove)
        memory->listener.remove(memory->listener.opaque, &removed);
    pthread_mutex_unlock(&memory->lock);
    if (!rcu_is_reading())
        rcu_synchronize();
    return 0;
}

/* ---- RAM ---- */

static uint64_t free_huge_pages(void)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", &text,
                             NULL, NULL))
        return 0;
    return g_ascii_strtoull(text, NULL, 10);
}

static void set_ram_error(GError **error, uint64_t size, bool hugepages, const char *what)
{
    int saved = errno;

    if (hugepages)
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved),
                    "guest memory: %" G_GUINT64_FORMAT " huge pages of 2 MiB are needed and the "
                    "host has %" G_GUINT64_FORMAT " free: write a larger number to "
                    "/proc/sys/vm/nr_hugepages, or do without huge pages",
                    size / HUGE_PAGE_SIZE, free_huge_pages());
    else
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved),
                    "guest memory: can't %s %" G_GUINT64_FORMAT " MiB: %s%s", what, size >> 20,
                    g_strerror(saved),
                    saved == ENOMEM ? ": give the guest less, or free memory on the host" : "");
}

/* Maps @size bytes of @fd at a host address aligned for huge pages, or MAP_FAILED with errno. */
static void *map_aligned(int fd, uint64_t offset, uint64_t size, int flags)
{
    uint64_t reserve = size + HUGE_PAGE_SIZE;
    uint8_t *base, *start;
    void *mapped;

    if (reserve < size || reserve > SIZE_MAX) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    base = mmap(NULL, reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return MAP_FAILED;
    start = (uint8_t *)(((uintptr_t)base + HUGE_PAGE_SIZE - 1) & ~(uintptr_t)(HUGE_PAGE_SIZE - 1));
    mapped = mmap(start, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, (off_t)offset);
    if (mapped == MAP_FAILED) {
        int saved = errno;
        munmap(base, reserve);
        errno = saved;
        return MAP_FAILED;
    }
    if (start > base)
        munmap(base, (size_t)(start - base));
    if (base + reserve > start + size)
        munmap(start + size, (size_t)(base + reserve - (start + size)));
    return mapped;
}

static int prefault(uint8_t *ram, uint64_t size)
{
#ifdef MADV_POPULATE_WRITE
    if (madvise(ram, size, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL)
        return -errno;
#endif
    for (uint64_t at = 0; at < size; at += MEMORY_PAGE_SIZE)
        __atomic_fetch_add(&ram[at], 0, __ATOMIC_RELAXED);
    return 0;
}

/* The file to map, stored in memory->ram_fd: a new memfd, or the caller's, checked. -1 on error. */
static int ram_file(struct memory *memory, uint64_t size, const struct memory_ram_options *options,
                    GError **error)
{
    unsigned flags = MFD_CLOEXEC | (options->hugepages ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
    struct stat st;

    if (options->fd > 0) {
        if (fstat(options->fd, &st) < 0 || options->fd_offset % MEMORY_PAGE_SIZE ||
            st.st_size < 0 || (uint64_t)st.st_size < options->fd_offset ||
            (uint64_t)st.st_size - options->fd_offset < size) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "guest memory: the memory file is too short for %" G_GUINT64_FORMAT
                        " MiB: it is truncated, or of a machine with less memory",
                        size >> 20);
            return -1;
        }
        memory->ram_fd = fcntl(options->fd, F_DUPFD_CLOEXEC, 0);
        if (memory->ram_fd < 0)
            set_ram_error(error, size, false, "open");
        return memory->ram_fd;
    }
    memory->ram_fd = memfd_create("lodge-ram", flags);
    if (memory->ram_fd < 0 || ftruncate(memory->ram_fd, (off_t)size) < 0) {
        set_ram_error(error, size, options->hugepages, "create");
        return -1;
    }
    return memory->ram_fd;
}

static bool check_ram_sizes(uint64_t size, uint64_t low_end, bool hugepages, GError **error)
{
    uint64_t unit = hugepages ? HUGE_PAGE_SIZE : MEMORY_PAGE_SIZE;

    if (size > 0 && size % unit == 0 && size <= G_MAXINT64 / 2 && low_end > 0 &&
        low_end % unit == 0 && low_end <= LAYOUT_HIGH_START)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                "guest memory: %" G_GUINT64_FORMAT " bytes: must be a multiple of %s", size,
                hugepages ? "2 MiB (the huge page size)" : "4 KiB");
    return false;
}

static bool add_ram_regions(struct memory *memory, uint64_t size, uint64_t low_end,
                            const struct memory_ram_options *options, bool private, GError **error)
{
    uint64_t low = MIN(size, low_end);
    struct memory_region region = {
        .gpa = 0,
        .size = low,
        .host = memory->ram,
        .fd = private ? -1 : memory->ram_fd,
        .private = private,
        .copied_fd = private ? memory->ram_fd : -1,
        .fd_offset = options->fd > 0 ? options->fd_offset : 0,
        .flags = MEMORY_RAM,
        .name = "ram",
    };
    int ret = memory_add(memory, &region);

    if (ret == 0 && size > low) {
        region.gpa = LAYOUT_HIGH_START;
        region.size = size - low;
        region.host = memory->ram + low;
        region.fd_offset += low;
        g_strlcpy(region.name, "ram-high", sizeof(region.name));
        ret = memory_add(memory, &region);
        if (ret < 0)
            memory_remove(memory, 0, low);
    }
    if (ret < 0)
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret),
                    "guest memory: can't add %" G_GUINT64_FORMAT " MiB to the machine: %s",
                    size >> 20, g_strerror(-ret));
    return ret == 0;
}

bool memory_shared_thp(void)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents("/sys/kernel/mm/transparent_hugepage/shmem_enabled", &text, NULL,
                             NULL))
        return false;
    return strstr(text, "[always]") || strstr(text, "[within_size]") || strstr(text, "[advise]") ||
           strstr(text, "[force]");
}

bool memory_add_ram(struct memory *memory, uint64_t size, uint64_t low_end,
                    const struct memory_ram_options *options, GError **error)
{
    bool anonymous = options->private && options->fd <= 0 && !options->hugepages;
    bool private = anonymous || options->fd > 0;
    int flags = (private ? MAP_PRIVATE : MAP_SHARED) | (anonymous ? MAP_ANONYMOUS : 0);
    void *ram;
    int fd = -1;

    if (!check_ram_sizes(size, low_end, options->hugepages, error))
        return false;
    if (memory->ram) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS, "guest memory: there already");
        return false;
    }
    if (!anonymous) {
        fd = ram_file(memory, size, options, error);
        if (fd < 0)
            goto fail;
    }
    /* Huge pages are reserved now, so that the guest does not die at the first missing one. */
    if (!options->hugepages)
        flags |= MAP_NORESERVE;
    ram = map_aligned(fd, options->fd > 0 ? options->fd_offset : 0, size, flags);
    if (ram == MAP_FAILED) {
        set_ram_error(error, size, options->hugepages, "map");
        goto fail;
    }
    memory->ram = ram;
    memory->ram_size = size;
    /* Advice: it is fine when the host's kernel does not take it. */
    if (!options->no_thp && !options->hugepages)
        madvise(ram, size, MADV_HUGEPAGE);
    madvise(ram, size, MADV_DONTDUMP);
    if (options->prefault) {
        int ret = prefault(ram, size);
        if (ret < 0) {
            errno = -ret;
            set_ram_error(error, size, options->hugepages, "populate");
            goto fail;
        }
    }
    if (!add_ram_regions(memory, size, low_end, options, private, error))
        goto fail;
    return true;

fail:
    if (memory->ram)
        munmap(memory->ram, memory->ram_size);
    close_fd(memory->ram_fd);
    memory->ram = NULL;
    memory->ram_size = 0;
    memory->ram_fd = -1;
    return false;
}

/* ---- what is used (Documentation/admin-guide/mm/pagemap.rst) ---- */

#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_BATCH   1024u

/* Those that the file has something for. */
static void add_data(const struct memory_region *region, uint64_t first, uint64_t count,
                     uint64_t *used)
{
    off_t base = (off_t)(region->fd_offset + first * MEMORY_PAGE_SIZE);
    off_t end = base + (off_t)(count * MEMORY_PAGE_SIZE), data, hole;

    for (off_t at = base; at < end; at = hole) {
        data = lseek(region->copied_fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return;
        hole = data < 0 ? -1 : lseek(region->copied_fd, data, SEEK_HOLE);
        /* A file system that does not know has data everywhere. */
        data = data < 0 ? at : data;
        hole = hole < 0 ? end : MIN(hole, end);
        for (uint64_t page = (uint64_t)(data - base) / MEMORY_PAGE_SIZE;
             base + (off_t)(page * MEMORY_PAGE_SIZE) < hole; page++)
            used[page / 64] |= UINT64_C(1) << (page % 64);
    }
}

bool memory_find_used(const struct memory_region *region, uint64_t first, uint64_t count,
                      uint64_t *used)
{
    int fd = region->private ? open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) : -1;
    uint64_t page = (uintptr_t)region->host / MEMORY_PAGE_SIZE + first;
    uint64_t entries[PAGEMAP_BATCH];
    uint64_t done = 0;

    memset(used, 0, (count + 63) / 64 * sizeof(*used));
    while (fd >= 0 && done < count) {
        size_t bytes = MIN(count - done, PAGEMAP_BATCH) * sizeof(*entries);
        ssize_t got = pread(fd, entries, bytes, (off_t)((page + done) * sizeof(*entries)));

        if (got < (ssize_t)sizeof(*entries))
            break;
        for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, done++)
            if (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
                used[done / 64] |= UINT64_C(1) << (done % 64);
    }
    close_fd(fd);
    if (done == count && region->copied_fd >= 0)
        add_data(region, first, count, used);
    return done == count;
}

/* ---- dirty tracking ---- */

/* A copy of the current map with fresh bitmaps, or without; NULL when there is no memory. */
static struct map *map_with_bitmaps(const struct map *old, bool bitmaps)
{
    struct map *map = map_new(old->count);

    for (unsigned i = 0; i < old->count; i++) {
        struct memory_region *region = &map->regions[i];
        *region = old->regions[i];
        region->dirty = bitmaps ? g_try_new0(uint64_t, dirty_words(region)) : NULL;
        if (bitmaps && !region->dirty) {
            while (i-- > 0)
                g_free(map->regions[i].dirty);
            g_free(map);
            return NULL;
        }
    }
    return map;
}

static int set_tracking(struct memory *memory, bool on)
{
    int ret = 0;

    pthread_mutex_lock(&memory->lock);
    if (memory->tracking != on) {
        struct map *old = memory->map, *map = map_with_bitmaps(old, on);
        if (map) {
            g_autofree uint64_t **bitmaps = g_new0(uint64_t *, old->count + 1);
            unsigned count = old->count;
            for (unsigned i = 0; i < count; i++)
                bitmaps[i] = old->regions[i].dirty;
            __atomic_store_n(&memory->tracking, on, __ATOMIC_RELEASE);
            replace_map(memory, map); /* old may be gone now */
            for (unsigned i = 0; i < count; i++)
                rcu_free(bitmaps[i], g_free);
        } else {
            ret = -ENOMEM;
        }
    }
    pthread_mutex_unlock(&memory->lock);
    /* From here on no writer marks by the old map: what start returns after is seen in full. */
    if (!rcu_is_reading())
        rcu_synchronize();
    return ret;
}

int memory_dirty_start(struct memory *memory)
{
    return set_tracking(memory, true);
}

void memory_dirty_stop(struct memory *memory)
{
    set_tracking(memory, false);
}

bool memory_is_tracking(const struct memory *memory)
{
    return __atomic_load_n(&memory->tracking, __ATOMIC_ACQUIRE);
}

void memory_mark_dirty(struct memory *memory, uint64_t gpa, uint64_t len)
{
    const struct map *map;
    struct memory_span span;

    if (!memory_is_tracking(memory))
        return;
    rcu_read_begin();
    map = rcu_load(memory->map);
    while (len > 0 && find_span(map, gpa, len, &span)) {
        mark_region(span.region, gpa, span.len);
        gpa += span.len;
        len -= span.len;
    }
    rcu_read_end();
}

void memory_dirty_sync(struct memory *memory, const struct memory_region *region, uint64_t *bitmap)
{
    if (!region->dirty)
        return;
    for (size_t i = 0; i < dirty_words(region); i++) {
        if (__atomic_load_n(&region->dirty[i], __ATOMIC_RELAXED))
            bitmap[i] |= __atomic_exchange_n(&region->dirty[i], 0, __ATOMIC_ACQ_REL);
    }
}
