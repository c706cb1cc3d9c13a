/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bus - from a guest-physical or port address to the device that answers there
 *
 * Ranges and doorbells live in an immutable map sorted by address; a change builds a new one,
 * publishes it and retires the old one (vmm/rcu.h). An access holds an RCU section through the
 * handler's call, which is what bus_remove and bus_drain wait for.
 *
 * The kernel sees doorbells first, by its ioeventfds; the bus looks for them again in bus_write,
 * because KVM may have no room for one, and because tests and the control socket write here too.
 */
#include "vmm/bus.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "vmm/log.h"
#include "vmm/rcu.h"

struct range {
    uint64_t base, last;
    const struct bus_ops *ops;
    void *opaque;
    char name[32];
};

struct bell {
    struct bus_doorbell doorbell;
    bool in_kernel; /* the doorbell ops took it */
};

struct map {
    unsigned ranges, bells;
    struct range *range; /* sorted by base */
    struct bell *bell;   /* sorted by address */
};

struct bus {
    enum bus_kind kind;
    struct map *map;      /* RCU */
    pthread_mutex_t lock; /* serialises changes */
    struct bus_doorbell_ops doorbell_ops;
};

static struct map *map_new(unsigned ranges, unsigned bells)
{
    struct map *map = g_new0(struct map, 1);

    map->ranges = ranges;
    map->bells = bells;
    map->range = g_new0(struct range, ranges + 1) /* never NULL: memcpy */;
    map->bell = g_new0(struct bell, bells + 1);
    return map;
}

static void map_free(void *object)
{
    struct map *map = object;

    g_free(map->range);
    g_free(map->bell);
    g_free(map);
}

static void replace_map(struct bus *bus, struct map *map)
{
    struct map *old = bus->map;

    rcu_publish(bus->map, map);
    rcu_free(old, map_free);
}

struct bus *bus_create(enum bus_kind kind)
{
    struct bus *bus = g_new0(struct bus, 1);

    bus->kind = kind;
    bus->map = map_new(0, 0);
    pthread_mutex_init(&bus->lock, NULL);
    return bus;
}

void bus_destroy(struct bus *bus)
{
    if (!bus)
        return;
    bus_set_doorbell_ops(bus, NULL);
    map_free(bus->map);
    pthread_mutex_destroy(&bus->lock);
    g_free(bus);
}

enum bus_kind bus_kind(const struct bus *bus)
{
    return bus->kind;
}

static const char *kind_name(const struct bus *bus)
{
    return bus->kind == BUS_MMIO ? "mmio" : "port";
}

static uint64_t last_address(const struct bus *bus)
{
    return bus->kind == BUS_PORT ? UINT16_MAX : UINT64_MAX;
}

/* ---- ranges ---- */

/* The first range whose last address is not below @address (it may start above it). */
static unsigned first_from(const struct map *map, uint64_t address)
{
    unsigned low = 0, high = map->ranges;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (map->range[middle].last < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int add_range(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops,
                     void *opaque, const char *name)
{
    const struct map *old = bus->map;
    uint64_t last = base + (size - 1);
    unsigned at = first_from(old, base);
    struct map *map;
    struct range *range;

    if (at < old->ranges && old->range[at].base <= last) {
        log_debug("bus", "%s 0x%" G_GINT64_MODIFIER "x+0x%" G_GINT64_MODIFIER "x of %s overlaps %s",
                  kind_name(bus), base, size, name, old->range[at].name);
        return -EEXIST;
    }
    map = map_new(old->ranges + 1, old->bells);
    memcpy(map->range, old->range, at * sizeof(*range));
    memcpy(map->range + at + 1, old->range + at, (old->ranges - at) * sizeof(*range));
    memcpy(map->bell, old->bell, old->bells * sizeof(*map->bell));
    range = &map->range[at];
    *range = (struct range){.base = base, .last = last, .ops = ops, .opaque = opaque};
    g_strlcpy(range->name, name, sizeof(range->name));
    replace_map(bus, map);
    return 0;
}

int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *opaque,
            const char *name)
{
    int ret;

    if (size == 0 || base > last_address(bus) || size - 1 > last_address(bus) - base)
        return -EINVAL;
    pthread_mutex_lock(&bus->lock);
    ret = add_range(bus, base, size, ops, opaque, name);
    pthread_mutex_unlock(&bus->lock);
    return ret;
}

int bus_remove_nowait(struct bus *bus, uint64_t base)
{
    const struct map *old;
    struct map *map;
    unsigned at;
    int ret = -ENOENT;

    pthread_mutex_lock(&bus->lock);
    old = bus->map;
    at = first_from(old, base);
    if (at < old->ranges && old->range[at].base == base) {
        map = map_new(old->ranges - 1, old->bells);
        memcpy(map->range, old->range, at * sizeof(*map->range));
        memcpy(map->range + at, old->range + at + 1, (old->ranges - at - 1) * sizeof(*map->range));
        memcpy(map->bell, old->bell, old->bells * sizeof(*map->bell));
        replace_map(bus, map);
        ret = 0;
    }
    pthread_mutex_unlock(&bus->lock);
    return ret;
}

void bus_drain(struct bus *bus)
{
    rcu_synchronize();
}

int bus_remove(struct bus *bus, uint64_t base)
{
    int ret = bus_remove_nowait(bus, base);

    if (ret == 0)
        bus_drain(bus);
    return ret;
}

void bus_for_each(struct bus *bus,
                  void (*visit)(uint64_t base, uint64_t size, const char *name, void *opaque),
                  void *opaque)
{
    const struct map *map;

    rcu_read_begin();
    map = rcu_load(bus->map);
    for (unsigned i = 0; i < map->ranges; i++)
        visit(map->range[i].base, map->range[i].last - map->range[i].base + 1, map->range[i].name,
              opaque);
    rcu_read_end();
}

/* ---- accesses ---- */

static uint64_t ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

/* The range at @address, or NULL. */
static const struct range *find_range(const struct map *map, uint64_t address)
{
    unsigned at = first_from(map, address);

    return at < map->ranges && map->range[at].base <= address ? &map->range[at] : NULL;
}

/* Is an access of this size one handler's business as it is? */
static bool is_whole(const struct map *map, uint64_t address, unsigned size,
                     const struct range **range)
{
    unsigned at;

    if (size != 1 && size != 2 && size != 4 && size != 8)
        return false;
    at = first_from(map, address);
    *range = NULL;
    if (at == map->ranges)
        return true;
    if (map->range[at].base > address)
        return map->range[at].base - address >= size; /* all of it before the next range */
    *range = &map->range[at];
    return map->range[at].last - address >= size - 1;
}

static uint64_t read_range(const struct range *range, uint64_t address, unsigned size)
{
    if (!range || !range->ops->read)
        return ones(size);
    return range->ops->read(range->opaque, address - range->base, size) & ones(size);
}

uint64_t bus_read(struct bus *bus, uint64_t address, unsigned size)
{
    const struct map *map;
    const struct range *range = NULL;
    uint64_t value = 0;

    rcu_read_begin();
    map = rcu_load(bus->map);
    if (is_whole(map, address, size, &range)) {
        value = read_range(range, address, size);
    } else {
        for (unsigned i = 0; i < MIN(size, 8u); i++)
            value |= read_range(find_range(map, address + i), address + i, 1) << (8 * i);
    }
    rcu_read_end();
    return value;
}

static void write_range(const struct range *range, uint64_t address, unsigned size, uint64_t value)
{
    if (range && range->ops->write)
        range->ops->write(range->opaque, address - range->base, size, value & ones(size));
}

/* The first doorbell at @address or above. */
static unsigned first_bell(const struct map *map, uint64_t address)
{
    unsigned low = 0, high = map->bells;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (map->bell[middle].doorbell.address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Signals the doorbell that this write rings; false: the handler gets the write. */
static bool ring(const struct map *map, uint64_t address, unsigned size, uint64_t value)
{
    for (unsigned i = first_bell(map, address);
         i < map->bells && map->bell[i].doorbell.address == address; i++) {
        const struct bus_doorbell *bell = &map->bell[i].doorbell;
        const uint64_t one = 1;
        if ((bell->size && bell->size != size) ||
            (bell->match && ((value ^ bell->value) & ones(size))))
            continue;
        /* EAGAIN: the count is at its maximum, so the reader will find it signalled. */
        while (write(bell->fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
        return true;
    }
    return false;
}

void bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value)
{
    const struct map *map;
    const struct range *range = NULL;

    rcu_read_begin();
    map = rcu_load(bus->map);
    if (map->bells && ring(map, address, size, value)) {
        ; /* the handler does not see it */
    } else if (is_whole(map, address, size, &range)) {
        write_range(range, address, size, value);
    } else {
        for (unsigned i = 0; i < MIN(size, 8u); i++)
            write_range(find_range(map, address + i), address + i, 1, value >> (8 * i));
    }
    rcu_read_end();
}

/* ---- doorbells ---- */

/* Could one write ring both? KVM refuses such a pair, so the bus does. */
static bool conflict(const struct bus_doorbell *a, const struct bus_doorbell *b)
{
    return a->address == b->address && (!a->size || !b->size || a->size == b->size) &&
           (!a->match || !b->match || a->value == b->value);
}

static bool same_doorbell(const struct bus_doorbell *a, const struct bus_doorbell *b)
{
    return a->address == b->address && a->size == b->size && a->match == b->match &&
           (!a->match || a->value == b->value) && a->fd == b->fd;
}

static bool offer(struct bus *bus, const struct bus_doorbell *doorbell)
{
    int ret;

    if (!bus->doorbell_ops.add)
        return false;
    ret = bus->doorbell_ops.add(bus->doorbell_ops.opaque, bus->kind, doorbell);
    if (ret < 0)
        log_debug("bus", "%s doorbell 0x%" G_GINT64_MODIFIER "x stays in the monitor: %s",
                  kind_name(bus), doorbell->address, g_strerror(-ret));
    return ret >= 0;
}

int bus_add_doorbell(struct bus *bus, const struct bus_doorbell *doorbell)
{
    const struct map *old;
    struct map *map;
    unsigned at;
    int ret = 0;

    if (doorbell->fd < 0 || doorbell->address > last_address(bus) || doorbell->size > 8 ||
        (doorbell->size & (doorbell->size - 1)))
        return -EINVAL;
    pthread_mutex_lock(&bus->lock);
    old = bus->map;
    at = first_bell(old, doorbell->address);
    for (unsigned i = at; i < old->bells && ret == 0; i++) {
        if (old->bell[i].doorbell.address != doorbell->address)
            break;
        if (conflict(&old->bell[i].doorbell, doorbell))
            ret = -EEXIST;
    }
    if (ret == 0) {
        map = map_new(old->ranges, old->bells + 1);
        memcpy(map->range, old->range, old->ranges * sizeof(*map->range));
        memcpy(map->bell, old->bell, at * sizeof(*map->bell));
        memcpy(map->bell + at + 1, old->bell + at, (old->bells - at) * sizeof(*map->bell));
        map->bell[at].doorbell = *doorbell;
        map->bell[at].in_kernel = offer(bus, doorbell);
        replace_map(bus, map);
    }
    pthread_mutex_unlock(&bus->lock);
    return ret;
}

int bus_remove_doorbell(struct bus *bus, const struct bus_doorbell *doorbell)
{
    const struct map *old;
    struct map *map;
    unsigned at;
    int ret = -ENOENT;

    pthread_mutex_lock(&bus->lock);
    old = bus->map;
    for (at = first_bell(old, doorbell->address); at < old->bells; at++) {
        if (old->bell[at].doorbell.address != doorbell->address) {
            at = old->bells;
            break;
        }
        if (same_doorbell(&old->bell[at].doorbell, doorbell))
            break;
    }
    if (at < old->bells) {
        bool in_kernel = old->bell[at].in_kernel;
        map = map_new(old->ranges, old->bells - 1);
        memcpy(map->range, old->range, old->ranges * sizeof(*map->range));
        memcpy(map->bell, old->bell, at * sizeof(*map->bell));
        memcpy(map->bell + at, old->bell + at + 1, (old->bells - at - 1) * sizeof(*map->bell));
        replace_map(bus, map);
        if (in_kernel)
            bus->doorbell_ops.remove(bus->doorbell_ops.opaque, bus->kind, doorbell);
        ret = 0;
    }
    pthread_mutex_unlock(&bus->lock);
    return ret;
}

void bus_set_doorbell_ops(struct bus *bus, const struct bus_doorbell_ops *ops)
{
    const struct map *old;
    struct map *map;

    pthread_mutex_lock(&bus->lock);
    old = bus->map;
    for (unsigned i = 0; i < old->bells; i++) {
        if (old->bell[i].in_kernel)
            bus->doorbell_ops.remove(bus->doorbell_ops.opaque, bus->kind, &old->bell[i].doorbell);
    }
    memset(&bus->doorbell_ops, 0, sizeof(bus->doorbell_ops));
    if (ops)
        bus->doorbell_ops = *ops;
    map = map_new(old->ranges, old->bells);
    memcpy(map->range, old->range, old->ranges * sizeof(*map->range));
    for (unsigned i = 0; i < old->bells; i++) {
        map->bell[i].doorbell = old->bell[i].doorbell;
        map->bell[i].in_kernel = offer(bus, &map->bell[i].doorbell);
    }
    replace_map(bus, map);
    pthread_mutex_unlock(&bus->lock);
}
