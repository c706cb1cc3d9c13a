/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bar - base address registers: where a function's regions are on the buses, as the guest moves them
 *
 * A BAR is mapped while its kind of decoding is on and its address lies in one of the bridge's
 * windows (PCI 3.0, section 6.2.5). An address outside of them, or one that something else answers,
 * leaves it unmapped, with a message: a guest can write any address. It is looked at again when the
 * function's command or BAR registers change.
 *
 * A BAR's doorbells and directly mapped parts come and go with it. A mapped part is also reachable
 * through the region's handlers here, so that an access which arrives before the mapping does, or
 * over vfio-user, gives the same.
 *
 * Threads: config writes on vCPU threads, doorbells from any; function->lock serialises. Handlers of
 * a BAR that another vCPU moves away may still run when it has gone (bus_remove_nowait).
 */
#include "pci/private.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <unistd.h>

#include "pci/host.h"
#include "vmm/memory.h"
#include "vmm/rcu.h"
#include "vmm/trace.h"

TRACE_EVENT(pci_bar_map, "%s bar=%u address=0x%" PRIx64 " size=0x%" PRIx64,
            (const char *name, unsigned bar, uint64_t address, uint64_t size), name, bar, address,
            size)
TRACE_EVENT(pci_bar_unmap, "%s bar=%u address=0x%" PRIx64,
            (const char *name, unsigned bar, uint64_t address), name, bar, address)

#define NOWHERE UINT64_MAX

struct pci_doorbell {
    uint64_t offset;
    unsigned size;
    bool match;
    uint64_t value;
    int fd;
    struct pci_doorbell *next;
};

struct pci_mapping {
    uint64_t offset, size;
    uint8_t *host;
    int fd;
    uint64_t fd_offset;
    bool mapped;
    struct pci_mapping *next;
};

static unsigned index_of(const struct pci_bar *bar)
{
    return (unsigned)(bar - bar->function->bars);
}

void pci_function_add_bar(struct pci_function *function, unsigned index, uint64_t size,
                          unsigned flags)
{
    bool io = flags & PCI_BAR_IO, is64 = flags & PCI_BAR_64;

    /* A device's own constants: wrong ones are a programming error. */
    g_assert(index + is64 < PCI_BARS && !function->bars[index].size && !(io && is64));
    g_assert(size && !(size & (size - 1)) && size >= (io ? 4 : 16) && (is64 || size <= 1u << 31));

    struct pci_bar *bar = &function->bars[index];
    unsigned at = PCI_BASE_ADDRESS_0 + index * 4;
    bar->size = size;
    bar->flags = flags;
    bar->function = function;
    bar->refused = NOWHERE;
    uint32_t low = io     ? PCI_BASE_ADDRESS_SPACE_IO
                   : is64 ? PCI_BASE_ADDRESS_MEM_TYPE_64
                          : PCI_BASE_ADDRESS_MEM_TYPE_32;
    if (flags & PCI_BAR_PREFETCH)
        low |= PCI_BASE_ADDRESS_MEM_PREFETCH;
    pci_put(function->config + at, 4, low);
    pci_put(function->writable + at, 4, (uint32_t) ~(size - 1));
    if (is64)
        pci_put(function->writable + at + 4, 4, ~(size - 1) >> 32);
    function->writable[PCI_COMMAND] |= io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
}

uint64_t pci_bar_register(const struct pci_function *function, unsigned index)
{
    const struct pci_bar *bar = &function->bars[index];
    const uint8_t *reg = function->config + PCI_BASE_ADDRESS_0 + index * 4;

    if (bar->flags & PCI_BAR_IO)
        return pci_get32(reg) & ~UINT32_C(3);
    uint64_t address = pci_get32(reg) & ~UINT32_C(15);
    if (bar->flags & PCI_BAR_64)
        address |= (uint64_t)pci_get32(reg + 4) << 32;
    return address;
}

void pci_bar_assign(struct pci_function *function, unsigned index, uint64_t address)
{
    const struct pci_bar *bar = &function->bars[index];
    unsigned at = PCI_BASE_ADDRESS_0 + index * 4;

    pci_config_assign(function, at, 4,
                      (uint32_t)address | (function->config[at] & ~function->writable[at]));
    if (bar->flags & PCI_BAR_64)
        pci_config_assign(function, at + 4, 4, (uint32_t)(address >> 32));
}

/* ---- doorbells ---- */

static struct bus *bus_of(const struct pci_bar *bar)
{
    return pci_host_bus(bar->function->host, bar->flags & PCI_BAR_IO);
}

static struct bus_doorbell on_bus(const struct pci_bar *bar, const struct pci_doorbell *doorbell)
{
    return (struct bus_doorbell){.address = bar->address + doorbell->offset,
                                 .size = doorbell->size,
                                 .match = doorbell->match,
                                 .value = doorbell->value,
                                 .fd = doorbell->fd};
}

static int connect_doorbell(const struct pci_bar *bar, const struct pci_doorbell *doorbell)
{
    struct bus_doorbell on = on_bus(bar, doorbell);
    int ret = bus_add_doorbell(bus_of(bar), &on);

    if (ret)
        log_warn(bar->function->device.name, "doorbell at 0x%" PRIx64 " is not connected: %s",
                 on.address, g_strerror(-ret));
    return ret;
}

static void disconnect_doorbell(const struct pci_bar *bar, const struct pci_doorbell *doorbell)
{
    struct bus_doorbell on = on_bus(bar, doorbell);

    bus_remove_doorbell(bus_of(bar), &on);
}

static bool same(const struct pci_doorbell *doorbell, uint64_t offset, unsigned size, bool match,
                 uint64_t value)
{
    return doorbell->offset == offset && doorbell->size == size && doorbell->match == match &&
           (!match || doorbell->value == value);
}

int pci_function_add_doorbell(struct pci_function *function, unsigned bar_index, uint64_t offset,
                              unsigned size, bool match, uint64_t value, int fd)
{
    struct pci_bar *bar = bar_index < PCI_BARS ? &function->bars[bar_index] : NULL;
    int ret = 0;

    if (!bar || offset >= bar->size || size > bar->size - offset)
        return -EINVAL;
    pthread_mutex_lock(&function->lock);
    for (const struct pci_doorbell *d = bar->doorbells; d && !ret; d = d->next)
        if (same(d, offset, size, match, value))
            ret = -EEXIST;
    if (!ret) {
        struct pci_doorbell *doorbell = g_new0(struct pci_doorbell, 1);
        *doorbell = (struct pci_doorbell){offset, size, match, value, fd, bar->doorbells};
        if (bar->mapped)
            ret = connect_doorbell(bar, doorbell);
        if (ret)
            g_free(doorbell);
        else
            bar->doorbells = doorbell;
    }
    pthread_mutex_unlock(&function->lock);
    return ret;
}

void pci_function_remove_doorbell(struct pci_function *function, unsigned bar_index,
                                  uint64_t offset, unsigned size, bool match, uint64_t value,
                                  int fd)
{
    if (bar_index >= PCI_BARS)
        return;
    struct pci_bar *bar = &function->bars[bar_index];
    pthread_mutex_lock(&function->lock);
    for (struct pci_doorbell **p = &bar->doorbells; *p; p = &(*p)->next) {
        struct pci_doorbell *doorbell = *p;
        if (!same(doorbell, offset, size, match, value) || doorbell->fd != fd)
            continue;
        if (bar->mapped)
            disconnect_doorbell(bar, doorbell);
        *p = doorbell->next;
        g_free(doorbell);
        break;
    }
    pthread_mutex_unlock(&function->lock);
}

bool pci_bar_ring(struct pci_function *function, unsigned index, uint64_t offset, unsigned size,
                  uint64_t value)
{
    int fd = -1;

    if (index >= PCI_BARS)
        return false;
    pthread_mutex_lock(&function->lock);
    for (const struct pci_doorbell *d = function->bars[index].doorbells; d && fd < 0; d = d->next)
        if (d->offset == offset && (!d->size || d->size == size) &&
            (!d->match || ((d->value ^ value) & pci_ones(size)) == 0))
            fd = d->fd;
    if (fd >= 0) {
        uint64_t one = 1;
        if (write(fd, &one, sizeof(one)) < 0) {
            /* Full counter: it rings already. */
        }
    }
    pthread_mutex_unlock(&function->lock);
    return fd >= 0;
}

/* ---- directly mapped parts ---- */

static void map_part(struct pci_bar *bar, struct pci_mapping *part)
{
    struct memory_region region = {.gpa = bar->address + part->offset,
                                   .size = part->size,
                                   .host = part->host,
                                   .fd = part->fd,
                                   .fd_offset = part->fd_offset,
                                   .flags = MEMORY_BAR};

    g_snprintf(region.name, sizeof(region.name), "%s.%u", bar->function->device.name,
               index_of(bar));
    int ret = memory_add(bar->function->memory, &region);
    part->mapped = ret == 0;
    if (ret) /* not lost: the region's handlers reach the same bytes */
        log_guest(&bar->function->device.guest_errors, bar->function->device.name,
                  "BAR %u: 0x%" PRIx64 " bytes at 0x%" PRIx64 " can't be mapped directly: %s",
                  index_of(bar), part->size, region.gpa, g_strerror(-ret));
}

static void unmap_part(struct pci_bar *bar, struct pci_mapping *part)
{
    if (!part->mapped)
        return;
    /* Inside a section memory_remove does not wait for readers: one may want the lock that we hold.
     * The memory itself stays with the device. */
    rcu_read_begin();
    memory_remove(bar->function->memory, bar->address + part->offset, part->size);
    rcu_read_end();
    part->mapped = false;
}

int pci_function_add_mapping(struct pci_function *function, unsigned bar_index, uint64_t offset,
                             uint64_t size, void *host, int fd, uint64_t fd_offset)
{
    struct pci_bar *bar = bar_index < PCI_BARS ? &function->bars[bar_index] : NULL;

    if (!bar || (bar->flags & PCI_BAR_IO) || !size || offset % MEMORY_PAGE_SIZE ||
        size % MEMORY_PAGE_SIZE || offset > bar->size || size > bar->size - offset)
        return -EINVAL;
    pthread_mutex_lock(&function->lock);
    for (const struct pci_mapping *m = bar->mappings; m; m = m->next)
        if (pci_ranges_overlap(offset, size, m->offset, m->size)) {
            pthread_mutex_unlock(&function->lock);
            return -EEXIST;
        }
    struct pci_mapping *part = g_new0(struct pci_mapping, 1);
    *part = (struct pci_mapping){offset, size, host, fd, fd_offset, false, bar->mappings};
    if (bar->mapped)
        map_part(bar, part);
    __atomic_store_n(&bar->mappings, part, __ATOMIC_RELEASE); /* read without the lock */
    pthread_mutex_unlock(&function->lock);
    return 0;
}

uint8_t *pci_bar_mapped(struct pci_function *function, unsigned index, uint64_t offset,
                        unsigned size)
{
    const struct pci_mapping *m =
        __atomic_load_n(&function->bars[index].mappings, __ATOMIC_ACQUIRE);

    for (; m; m = m->next)
        if (offset >= m->offset && size <= m->size && offset - m->offset <= m->size - size)
            return m->host + (offset - m->offset);
    return NULL;
}

/* ---- on and off the bus ---- */

static uint64_t bus_region_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_bar *bar = opaque;

    return pci_function_region_read(bar->function, index_of(bar), offset, size);
}

static void bus_region_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_bar *bar = opaque;

    pci_region_write_handled(bar->function, index_of(bar), offset, size, value);
}

static const struct bus_ops bar_ops = {bus_region_read, bus_region_write};

/* Where the registers put it: NOWHERE when it is off, or at no address that can be meant. */
static uint64_t wanted_address(const struct pci_function *function, unsigned index)
{
    const struct pci_bar *bar = &function->bars[index];
    uint16_t command = pci_get16(function->config + PCI_COMMAND);
    bool io = bar->flags & PCI_BAR_IO;

    if (!bar->size || !function->host || !(command & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
        return NOWHERE;
    uint64_t address = pci_bar_register(function, index);
    uint64_t sizing = bar->flags & PCI_BAR_64 ? ~(bar->size - 1) : (uint32_t) ~(bar->size - 1);
    return address == 0 || address == sizing ? NOWHERE : address;
}

static bool within(uint64_t address, uint64_t size, uint64_t base, uint64_t window)
{
    return address >= base && size <= window && address - base <= window - size;
}

static bool in_window(const struct pci_bar *bar, uint64_t address)
{
    const struct pci_windows *w = pci_host_windows(bar->function->host);

    if (bar->flags & PCI_BAR_IO)
        return within(address, bar->size, w->port_base, w->port_size);
    return within(address, bar->size, w->mmio32_base, w->mmio32_size) ||
           within(address, bar->size, w->mmio64_base, w->mmio64_size);
}

static void refuse(struct pci_bar *bar, uint64_t address, const char *why)
{
    if (bar->refused == address)
        return;
    bar->refused = address;
    log_guest(&bar->function->device.guest_errors, bar->function->device.name,
              "BAR %u (0x%" PRIx64 " bytes) is not mapped at 0x%" PRIx64 ": %s", index_of(bar),
              bar->size, address, why);
}

static void map(struct pci_bar *bar, uint64_t address)
{
    if (!in_window(bar, address)) {
        refuse(bar, address, "outside of the bridge's windows");
        return;
    }
    int ret = bus_add(bus_of(bar), address, bar->size, &bar_ops, bar, bar->function->device.name);
    if (ret) {
        refuse(bar, address, ret == -EEXIST ? "something else is there" : g_strerror(-ret));
        return;
    }
    bar->address = address;
    bar->mapped = true;
    bar->refused = NOWHERE;
    trace_pci_bar_map(bar->function->device.name, index_of(bar), address, bar->size);
    for (const struct pci_doorbell *d = bar->doorbells; d; d = d->next)
        connect_doorbell(bar, d);
    for (struct pci_mapping *m = bar->mappings; m; m = m->next)
        map_part(bar, m);
}

static void unmap(struct pci_bar *bar)
{
    trace_pci_bar_unmap(bar->function->device.name, index_of(bar), bar->address);
    for (const struct pci_doorbell *d = bar->doorbells; d; d = d->next)
        disconnect_doorbell(bar, d);
    for (struct pci_mapping *m = bar->mappings; m; m = m->next)
        unmap_part(bar, m);
    bus_remove_nowait(bus_of(bar), bar->address);
    bar->mapped = false;
}

void pci_bar_update(struct pci_function *function)
{
    /* All that leaves first: a guest may swap two of them. */
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &function->bars[i];
        if (bar->mapped && wanted_address(function, i) != bar->address)
            unmap(bar);
    }
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &function->bars[i];
        uint64_t address = bar->mapped ? NOWHERE : wanted_address(function, i);
        if (address != NOWHERE)
            map(bar, address);
    }
}

void pci_bar_unmap_all(struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_BARS; i++)
        if (function->bars[i].mapped)
            unmap(&function->bars[i]);
}

void pci_bar_finish(struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &function->bars[i];
        while (bar->doorbells) {
            struct pci_doorbell *next = bar->doorbells->next;
            g_free(bar->doorbells);
            bar->doorbells = next;
        }
        while (bar->mappings) {
            struct pci_mapping *next = bar->mappings->next;
            g_free(bar->mappings);
            bar->mappings = next;
        }
    }
}
