/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * host - the PCI Express host bridge: finds functions for ECAM and port accesses, places BARs
 *
 * Functions stand in a table that accesses read without a lock. The bridge is function 00:00.0, with
 * no BARs; it is also the device whose state holds the configuration address port. Its stock driver
 * is the kernel's PCI core, which knows it by its class.
 *
 * Assignment is first-fit by decreasing size in the window of each kind; 64-bit BARs go above RAM if
 * there is a window, with the 32-bit one as the second choice. Memory BARs get at least a page each,
 * so that parts of them can be mapped.
 *
 * Limits: one bus; no bridges below it; functions other than 0 are found only where function 0 is
 * (PCI 3.0, section 3.2.2.3.4).
 */
#include "pci/host.h"

#include <errno.h>
#include <inttypes.h>
#include <gio/gio.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "pci/private.h"
#include "vmm/memory.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(pci_absent, "slot=%u function=%u offset=0x%x",
            (unsigned slot, unsigned number, unsigned offset), slot, number, offset)
TRACE_EVENT(pci_attach, "%s slot=%u function=%u",
            (const char *name, unsigned slot, unsigned number), name, slot, number)
TRACE_EVENT(pci_detach, "%s", (const char *name), name)

#define CONFIG_ADDRESS_PORT 0xcf8
#define CONFIG_PORTS        8
#define ADDRESS_ENABLE      0x80000000u
#define ADDRESS_BITS        0x80fffffcu /* the rest reads as zero */

struct pci_host {
    struct pci_function bridge; /* first: it is a function */
    struct memory *memory;
    struct bus *mmio, *ports;
    struct pci_windows windows;
    uint32_t config_address; /* atomic: vCPUs may use the ports without a lock of ours */
    struct pci_function *functions[PCI_SLOTS][PCI_FUNCTIONS]; /* atomic */
};

/* ---- accesses ---- */

static struct pci_function *lookup(struct pci_host *host, unsigned slot, unsigned number)
{
    return __atomic_load_n(&host->functions[slot][number], __ATOMIC_ACQUIRE);
}

struct pci_function *pci_host_function(struct pci_host *host, unsigned slot, unsigned number)
{
    return slot < PCI_SLOTS && number < PCI_FUNCTIONS ? lookup(host, slot, number) : NULL;
}

static uint32_t config_read(struct pci_host *host, unsigned devfn, unsigned offset, unsigned size)
{
    struct pci_function *function = lookup(host, devfn >> 3, devfn & 7);

    if (function)
        return pci_function_config_read(function, offset, size);
    trace_pci_absent(devfn >> 3, devfn & 7, offset);
    return (uint32_t)pci_ones(size);
}

static void config_write(struct pci_host *host, unsigned devfn, unsigned offset, unsigned size,
                         uint32_t value)
{
    struct pci_function *function = lookup(host, devfn >> 3, devfn & 7);

    if (function)
        pci_function_config_write(function, offset, size, value);
}

/* ECAM: bits 19:15 of the offset are the device, 14:12 the function, 11:0 the register. */
static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_host *host = opaque;
    unsigned devfn = (unsigned)(offset >> 12) & 0xff, reg = (unsigned)offset & 0xfff;

    if (size <= 4)
        return config_read(host, devfn, reg, size);
    return config_read(host, devfn, reg, 4) |
           (reg + 4 < PCI_CONFIG_SIZE ? (uint64_t)config_read(host, devfn, reg + 4, 4) << 32
                                      : UINT64_C(0xffffffff00000000));
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_host *host = opaque;
    unsigned devfn = (unsigned)(offset >> 12) & 0xff, reg = (unsigned)offset & 0xfff;

    config_write(host, devfn, reg, MIN(size, 4), (uint32_t)value);
    if (size > 4 && reg + 4 < PCI_CONFIG_SIZE)
        config_write(host, devfn, reg + 4, 4, (uint32_t)(value >> 32));
}

static const struct bus_ops ecam_ops = {ecam_read, ecam_write};

/* The register that a data port access means; false: nobody's (disabled, or not bus 0). */
static bool port_target(struct pci_host *host, uint64_t offset, unsigned size, unsigned *devfn,
                        unsigned *reg)
{
    uint32_t address = __atomic_load_n(&host->config_address, __ATOMIC_ACQUIRE);
    unsigned byte = (unsigned)offset & 3;

    *devfn = (address >> 8) & 0xff;
    *reg = (address & 0xfc) + byte;
    return (address & ADDRESS_ENABLE) && !(address & 0xff0000) && byte + size <= 4;
}

static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_host *host = opaque;
    unsigned devfn, reg;

    if (offset < 4) /* only a whole dword is the address register */
        return offset == 0 && size == 4 ? __atomic_load_n(&host->config_address, __ATOMIC_ACQUIRE)
                                        : UINT64_MAX;
    return port_target(host, offset, size, &devfn, &reg) ? config_read(host, devfn, reg, size)
                                                         : UINT64_MAX;
}

static void ports_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_host *host = opaque;
    unsigned devfn, reg;

    if (offset == 0 && size == 4)
        __atomic_store_n(&host->config_address, (uint32_t)value & ADDRESS_BITS, __ATOMIC_RELEASE);
    else if (offset >= 4 && port_target(host, offset, size, &devfn, &reg))
        config_write(host, devfn, reg, size, (uint32_t)value);
}

static const struct bus_ops port_ops = {ports_read, ports_write};

/* ---- the bridge as a device ---- */

static const struct state_field host_fields[] = {
    STATE_STRUCT(struct pci_host, bridge, &pci_function_state, 1),
    STATE_U32(struct pci_host, config_address, 1),
    STATE_END,
};

static const struct state_table host_state = {"pci-host", 1, 1, host_fields};

static struct pci_host *of_device(struct device *device)
{
    return (struct pci_host *)device; /* bridge, and in it device, come first */
}

static void bridge_reset(struct device *device)
{
    struct pci_host *host = of_device(device);

    __atomic_store_n(&host->config_address, 0, __ATOMIC_RELEASE);
    pci_function_reset(&host->bridge, true);
}

static void bridge_before_save(struct device *device)
{
    pci_function_before_save(&of_device(device)->bridge);
}

static bool bridge_after_load(struct device *device, GError **error)
{
    struct pci_host *host = of_device(device);

    host->config_address &= ADDRESS_BITS;
    return pci_function_after_load(&host->bridge, error);
}

static const struct device_ops bridge_ops = {
    .reset = bridge_reset,
    .before_save = bridge_before_save,
    .after_load = bridge_after_load,
};

static const struct pci_identity bridge_identity = {
    .vendor_id = 0x1b36, /* a PCI Express host bridge of virtual machines, in pci.ids */
    .device_id = 0x0008,
    .subsystem_vendor_id = 0x1af4,
    .subsystem_id = 0x1100,
    .class_code = 0x060000,
};

struct pci_host *pci_host_create(struct memory *memory, struct bus *mmio, struct bus *ports,
                                 const struct pci_windows *windows, GError **error)
{
    struct pci_host *host = g_new0(struct pci_host, 1);
    struct pci_environment env = {.memory = memory};

    host->memory = memory;
    host->mmio = mmio;
    host->ports = ports;
    host->windows = *windows;
    pci_function_init(&host->bridge, "pci-host", "pci-host", &bridge_ops, NULL, &bridge_identity,
                      &env);
    host->bridge.device.state_table = &host_state;
    host->bridge.device.state_base = host;
    host->bridge.host = host;
    host->functions[0][0] = &host->bridge;

    int ret =
        bus_add(mmio, windows->ecam_base, (uint64_t)PCI_SLOTS * PCI_FUNCTIONS * PCI_CONFIG_SIZE,
                &ecam_ops, host, "pci-ecam");
    if (!ret) {
        ret = bus_add(ports, CONFIG_ADDRESS_PORT, CONFIG_PORTS, &port_ops, host, "pci-config");
        if (ret)
            bus_remove(mmio, windows->ecam_base);
    }
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret),
                    "pci-host: configuration space at 0x%" PRIx64 " and ports 0xcf8-0xcff: %s",
                    windows->ecam_base, g_strerror(-ret));
        host->bridge.host = NULL;
        pci_function_finish(&host->bridge);
        g_free(host);
        return NULL;
    }
    return host;
}

void pci_host_destroy(struct pci_host *host)
{
    if (!host)
        return;
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
        for (unsigned number = 0; number < PCI_FUNCTIONS; number++)
            if (host->functions[slot][number] && host->functions[slot][number] != &host->bridge)
                pci_host_detach(host, host->functions[slot][number]);
    bus_remove(host->mmio, host->windows.ecam_base);
    bus_remove(host->ports, CONFIG_ADDRESS_PORT);
    host->bridge.host = NULL;
    pci_function_finish(&host->bridge);
    g_free(host);
}

const struct pci_windows *pci_host_windows(const struct pci_host *host)
{
    return &host->windows;
}

struct bus *pci_host_bus(struct pci_host *host, bool io)
{
    return io ? host->ports : host->mmio;
}

/* ---- attaching ---- */

/* Function 0 says whether there are others (PCI 3.0, header type bit 7). */
static void update_multifunction(struct pci_host *host, unsigned slot)
{
    struct pci_function *first = lookup(host, slot, 0);
    bool others = false;

    for (unsigned number = 1; number < PCI_FUNCTIONS; number++)
        others |= lookup(host, slot, number) != NULL;
    if (!first)
        return;
    pthread_mutex_lock(&first->lock);
    first->config[PCI_HEADER_TYPE] =
        (uint8_t)((first->config[PCI_HEADER_TYPE] & 0x7f) | (others ? 0x80 : 0));
    pthread_mutex_unlock(&first->lock);
}

static int free_slot(struct pci_host *host)
{
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
        bool used = false;
        for (unsigned number = 0; number < PCI_FUNCTIONS; number++)
            used |= lookup(host, slot, number) != NULL;
        if (!used)
            return (int)slot;
    }
    return -1;
}

bool pci_host_attach(struct pci_host *host, struct pci_function *function, int slot,
                     unsigned number, GError **error)
{
    const char *name = function->device.name;

    if (slot == PCI_SLOT_ANY && (slot = free_slot(host)) < 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "%s: no free PCI slot: all %d are in use", name, PCI_SLOTS);
        return false;
    }
    if (slot < 0 || slot >= PCI_SLOTS || number >= PCI_FUNCTIONS) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "%s: no PCI slot %d.%u: slots are 0 to 31, functions 0 to 7", name, slot,
                    number);
        return false;
    }
    struct pci_function *other = lookup(host, (unsigned)slot, number);
    if (other) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                    "%s: PCI slot %02x.%u is taken by %s: choose another one", name, slot, number,
                    other->device.name);
        return false;
    }
    function->slot = (uint8_t)slot;
    function->number = (uint8_t)number;
    if (function->has_intx) {
        uint32_t gsi = pci_host_gsi((unsigned)slot, function->config[PCI_INTERRUPT_PIN]);
        int ret = irq_line_init(&function->intx, function->interrupts, &function->device, gsi, true,
                                function->loop);
        if (ret) {
            g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret),
                        "%s: interrupt line (GSI %u): %s", name, gsi, g_strerror(-ret));
            return false;
        }
        pthread_mutex_lock(&function->lock);
        pci_config_assign(function, PCI_INTERRUPT_LINE, 1, gsi);
        pthread_mutex_unlock(&function->lock);
    }
    pthread_mutex_lock(&function->lock);
    function->host = host;
    pci_config_seal(function);
    pci_config_apply(function);
    pthread_mutex_unlock(&function->lock);
    __atomic_store_n(&host->functions[slot][number], function, __ATOMIC_RELEASE);
    update_multifunction(host, (unsigned)slot);
    trace_pci_attach(name, (unsigned)slot, number);
    return true;
}

void pci_host_detach(struct pci_host *host, struct pci_function *function)
{
    if (function->host != host || function == &host->bridge)
        return;
    trace_pci_detach(function->device.name);
    __atomic_store_n(&host->functions[function->slot][function->number], NULL, __ATOMIC_RELEASE);
    update_multifunction(host, function->slot);
    /* A vCPU inside a config access could map a BAR again, so those leave first. */
    bus_drain(host->mmio);
    bus_drain(host->ports);
    pthread_mutex_lock(&function->lock);
    pci_bar_unmap_all(function);
    function->host = NULL;
    pthread_mutex_unlock(&function->lock);
    bus_drain(host->mmio);
    bus_drain(host->ports);
    if (function->has_intx)
        irq_line_finish(&function->intx);
}

/* ---- placing BARs as firmware would ---- */

struct placement {
    struct pci_function *function;
    unsigned index;
    uint64_t address, size; /* size as it takes up space */
};

static uint64_t footprint(const struct pci_bar *bar)
{
    return bar->flags & PCI_BAR_IO ? bar->size : MAX(bar->size, MEMORY_PAGE_SIZE);
}

/* All BARs of the kind @io, those with an address and those without. */
static GArray *collect(struct pci_host *host, bool io)
{
    GArray *bars = g_array_new(FALSE, FALSE, sizeof(struct placement));

    for (unsigned devfn = 0; devfn < PCI_SLOTS * PCI_FUNCTIONS; devfn++) {
        struct pci_function *function = lookup(host, devfn / PCI_FUNCTIONS, devfn % PCI_FUNCTIONS);
        for (unsigned i = 0; function && i < PCI_BARS; i++) {
            const struct pci_bar *bar = &function->bars[i];
            if (!bar->size || !!(bar->flags & PCI_BAR_IO) != io)
                continue;
            struct placement p = {function, i, pci_bar_register(function, i), footprint(bar)};
            g_array_append_val(bars, p);
        }
    }
    return bars;
}

static int larger_first(gconstpointer a, gconstpointer b)
{
    const struct placement *x = a, *y = b;

    return x->size < y->size ? 1 : x->size > y->size ? -1 : 0;
}

/* The lowest aligned place in [base, base + length) that no placed BAR overlaps; 0: none. */
static uint64_t first_fit(const GArray *bars, uint64_t size, uint64_t base, uint64_t length)
{
    uint64_t at = (base + size - 1) & ~(size - 1);

    while (at >= base && at != 0 && length >= size && at - base <= length - size) {
        const struct placement *hit = NULL;
        for (unsigned i = 0; i < bars->len && !hit; i++) {
            const struct placement *p = &g_array_index(bars, struct placement, i);
            if (p->address && pci_ranges_overlap(at, size, p->address, p->size))
                hit = p;
        }
        if (!hit)
            return at;
        at = (hit->address + hit->size + size - 1) & ~(size - 1);
    }
    return 0;
}

static bool place(struct pci_host *host, GArray *bars, struct placement *p, GError **error)
{
    const struct pci_bar *bar = &p->function->bars[p->index];
    const struct pci_windows *w = &host->windows;
    const char *window;
    uint64_t length;

    if (bar->flags & PCI_BAR_IO) {
        window = "port", length = w->port_size;
        p->address = first_fit(bars, p->size, w->port_base, length);
    } else {
        window = "32-bit memory", length = w->mmio32_size;
        if (bar->flags & PCI_BAR_64) {
            p->address = first_fit(bars, p->size, w->mmio64_base, w->mmio64_size);
            if (w->mmio64_size)
                window = "64-bit memory", length = w->mmio64_size;
        }
        if (!p->address)
            p->address = first_fit(bars, p->size, w->mmio32_base, w->mmio32_size);
    }
    if (p->address)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                "%s: BAR %u needs 0x%" PRIx64 " bytes, and the %s window of 0x%" PRIx64
                " bytes has no room for it: use fewer or smaller devices",
                p->function->device.name, p->index, p->size, window, length);
    return false;
}

static bool assign_kind(struct pci_host *host, bool io, GError **error)
{
    g_autoptr(GArray) bars = collect(host, io);

    g_array_sort(bars, larger_first);
    for (unsigned i = 0; i < bars->len; i++) {
        struct placement *p = &g_array_index(bars, struct placement, i);
        if (p->address)
            continue;
        if (!place(host, bars, p, error))
            return false;
        pthread_mutex_lock(&p->function->lock);
        pci_bar_assign(p->function, p->index, p->address);
        pthread_mutex_unlock(&p->function->lock);
    }
    return true;
}

bool pci_host_assign(struct pci_host *host, GError **error)
{
    if (!assign_kind(host, false, error) || !assign_kind(host, true, error))
        return false;
    for (unsigned devfn = 0; devfn < PCI_SLOTS * PCI_FUNCTIONS; devfn++) {
        struct pci_function *function = lookup(host, devfn / PCI_FUNCTIONS, devfn % PCI_FUNCTIONS);
        if (!function)
            continue;
        pthread_mutex_lock(&function->lock);
        /* Only kinds of decoding that the function has are writable. */
        pci_config_assign(function, PCI_COMMAND, 1,
                          function->config[PCI_COMMAND] | (function->writable[PCI_COMMAND] &
                                                           (PCI_COMMAND_IO | PCI_COMMAND_MEMORY)));
        pci_config_apply(function);
        pthread_mutex_unlock(&function->lock);
    }
    return true;
}
