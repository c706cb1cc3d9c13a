/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * harness - a machine without vCPUs: see harness.h
 *
 * Interrupts: where KVM would watch the eventfds (irqfd), the harness reads them, before every look
 * at a counter, and before a message or an attachment changes, so that what was signalled counts for
 * the route that held then.
 */
#include "tests/device/harness.h"

#include <linux/pci_regs.h>
#include <string.h>
#include <unistd.h>

#include "vmm/layout.h"

#define DEFAULT_RAM   (UINT64_C(64) << 20)
#define ALLOC_START   UINT64_C(0x100000)
#define MMIO64_BASE   (UINT64_C(64) << 30)
#define MMIO64_SIZE   (UINT64_C(64) << 30)
#define MSI_BASE      UINT64_C(0xfee00000)
#define WAIT_SLEEP_US 100

/* ---- interrupts ---- */

struct attachment {
    uint32_t gsi;
    int fd, resample_fd;
};

struct route {
    uint32_t gsi;
    uint64_t address;
    uint32_t data;
};

struct message_count {
    uint64_t address;
    uint32_t data;
    uint64_t count;
};

struct harness_interrupts {
    GMutex lock; /* devices may mask vectors on their own threads */
    GArray *attachments, *routes, *messages;
    uint64_t gsi_count[INTERRUPTS_PINS];
    bool gsi_level[INTERRUPTS_PINS];
};

static struct route *find_route(struct harness_interrupts *taken, uint32_t gsi)
{
    for (unsigned i = 0; i < taken->routes->len; i++) {
        struct route *route = &g_array_index(taken->routes, struct route, i);
        if (route->gsi == gsi)
            return route;
    }
    return NULL;
}

static uint64_t *message_counter(struct harness_interrupts *taken, uint64_t address, uint32_t data)
{
    for (unsigned i = 0; i < taken->messages->len; i++) {
        struct message_count *m = &g_array_index(taken->messages, struct message_count, i);
        if (m->address == address && m->data == data)
            return &m->count;
    }
    struct message_count new = {address, data, 0};
    g_array_append_val(taken->messages, new);
    return &g_array_index(taken->messages, struct message_count, taken->messages->len - 1).count;
}

static void take_one(struct harness_interrupts *taken, const struct attachment *attachment)
{
    uint64_t count;

    if (read(attachment->fd, &count, sizeof(count)) != sizeof(count))
        return;
    const struct route *route = find_route(taken, attachment->gsi);
    if (route) {
        *message_counter(taken, route->address, route->data) += count;
        return;
    }
    g_assert_cmpuint(attachment->gsi, <, INTERRUPTS_PINS); /* a vector without a message */
    if (attachment->resample_fd < 0) {
        taken->gsi_count[attachment->gsi] += count;
    } else if (!taken->gsi_level[attachment->gsi]) {
        taken->gsi_count[attachment->gsi]++;
        taken->gsi_level[attachment->gsi] = true;
    }
}

static void take_all_locked(struct harness_interrupts *taken)
{
    for (unsigned i = 0; i < taken->attachments->len; i++)
        take_one(taken, &g_array_index(taken->attachments, struct attachment, i));
}

static void take_all(struct harness *h)
{
    g_mutex_lock(&h->taken->lock);
    take_all_locked(h->taken);
    g_mutex_unlock(&h->taken->lock);
}

static int fake_route_msi(void *opaque, uint32_t gsi, uint64_t address, uint32_t data)
{
    struct harness *h = opaque;

    g_mutex_lock(&h->taken->lock);
    take_all_locked(h->taken);
    g_assert_cmpuint(gsi, >=, INTERRUPTS_PINS);
    struct route *route = find_route(h->taken, gsi), new = {gsi, address, data};
    if (route)
        *route = new;
    else
        g_array_append_val(h->taken->routes, new);
    g_mutex_unlock(&h->taken->lock);
    return 0;
}

static int fake_attach(void *opaque, uint32_t gsi, int fd, int resample_fd)
{
    struct harness *h = opaque;
    struct attachment attachment = {gsi, fd, resample_fd};

    g_mutex_lock(&h->taken->lock);
    for (unsigned i = 0; i < h->taken->attachments->len; i++)
        g_assert_cmpint(g_array_index(h->taken->attachments, struct attachment, i).fd, !=, fd);
    g_array_append_val(h->taken->attachments, attachment);
    take_all_locked(h->taken);
    g_mutex_unlock(&h->taken->lock);
    return 0;
}

static int fake_detach(void *opaque, uint32_t gsi, int fd)
{
    struct harness *h = opaque;
    bool found = false;

    g_mutex_lock(&h->taken->lock);
    take_all_locked(h->taken);
    for (unsigned i = 0; i < h->taken->attachments->len && !found; i++) {
        struct attachment *a = &g_array_index(h->taken->attachments, struct attachment, i);
        if (a->gsi == gsi && a->fd == fd) {
            found = true;
            if (a->resample_fd >= 0)
                h->taken->gsi_level[gsi] = false;
            g_array_remove_index(h->taken->attachments, i);
        }
    }
    g_mutex_unlock(&h->taken->lock);
    g_assert_true(found);
    return 0;
}

static const struct interrupts_ops fake_interrupts = {fake_route_msi, fake_attach, fake_detach};

/* ---- the machine ---- */

static void note_shutdown(void *opaque, enum shutdown_reason reason, int status, const char *detail)
{
    struct harness *h = opaque;

    if (!h->shutdowns++) {
        h->shutdown_reason = reason;
        h->shutdown_status = status;
    }
}

struct harness *harness_create(uint64_t ram_size)
{
    struct harness *h = g_new0(struct harness, 1);
    struct memory_ram_options ram = {0};
    struct pci_windows windows = {
        .ecam_base = LAYOUT_ECAM_BASE,
        .mmio32_base = LAYOUT_MMIO32_BASE,
        .mmio32_size = LAYOUT_MMIO32_SIZE,
        .mmio64_base = MMIO64_BASE,
        .mmio64_size = MMIO64_SIZE,
        .port_base = LAYOUT_PCI_PORT_BASE,
        .port_size = LAYOUT_PCI_PORT_SIZE,
    };
    GError *error = NULL;

    device_violations_fatal(true);
    h->taken = g_new0(struct harness_interrupts, 1);
    g_mutex_init(&h->taken->lock);
    h->taken->attachments = g_array_new(FALSE, FALSE, sizeof(struct attachment));
    h->taken->routes = g_array_new(FALSE, FALSE, sizeof(struct route));
    h->taken->messages = g_array_new(FALSE, FALSE, sizeof(struct message_count));
    h->memory = memory_create();
    memory_add_ram(h->memory, ram_size ? ram_size : DEFAULT_RAM, LAYOUT_LOW_END, &ram, &error);
    g_assert_no_error(error);
    h->mmio = bus_create(BUS_MMIO);
    h->ports = bus_create(BUS_PORT);
    h->interrupts = interrupts_create(&fake_interrupts, h);
    h->loop = loop_main();
    h->host = pci_host_create(h->memory, h->mmio, h->ports, &windows, &error);
    g_assert_no_error(error);
    h->env = (struct pci_environment){h->memory, h->interrupts, h->loop};
    h->shutdown = (struct shutdown_sink){note_shutdown, h};
    h->next_free = ALLOC_START;
    return h;
}

void harness_destroy(struct harness *h)
{
    pci_host_destroy(h->host);
    interrupts_destroy(h->interrupts);
    bus_destroy(h->mmio);
    bus_destroy(h->ports);
    memory_destroy(h->memory);
    g_array_unref(h->taken->attachments);
    g_array_unref(h->taken->routes);
    g_array_unref(h->taken->messages);
    g_mutex_clear(&h->taken->lock);
    g_free(h->taken);
    g_free(h);
}

/* ---- guest memory ---- */

uint64_t harness_alloc(struct harness *h, uint64_t size, uint64_t align)
{
    align = align ? align : 16;
    uint64_t gpa = (h->next_free + align - 1) & ~(align - 1);

    h->next_free = gpa + size;
    memset(harness_ptr(h, gpa, MAX(size, 1)), 0, size);
    return gpa;
}

void *harness_ptr(struct harness *h, uint64_t gpa, uint64_t len)
{
    struct memory_span span;

    g_assert_true(memory_find(h->memory, gpa, len, &span));
    g_assert_cmpuint(span.len, ==, len);
    return span.host;
}

void harness_read(struct harness *h, uint64_t gpa, void *buffer, uint64_t len)
{
    g_assert_cmpint(memory_read(h->memory, gpa, buffer, len), ==, 0);
}

void harness_write(struct harness *h, uint64_t gpa, const void *buffer, uint64_t len)
{
    g_assert_cmpint(memory_write(h->memory, gpa, buffer, len), ==, 0);
}

uint64_t harness_load(struct harness *h, uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    harness_read(h, gpa, &value, size);
    return GUINT64_FROM_LE(value);
}

void harness_store(struct harness *h, uint64_t gpa, unsigned size, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    harness_write(h, gpa, &value, size);
}

/* ---- waiting ---- */

bool harness_wait(struct harness *h, bool (*done)(void *opaque), void *opaque, int timeout_ms)
{
    int64_t deadline = loop_now_ns() + timeout_ms * INT64_C(1000000);

    for (;;) {
        bool busy = false;
        while (loop_iterate(h->loop, false))
            busy = true;
        take_all(h);
        if (done(opaque))
            return true;
        if (loop_now_ns() >= deadline)
            return false;
        if (!busy)
            g_usleep(WAIT_SLEEP_US);
    }
}

static bool flag_set(void *opaque)
{
    return __atomic_load_n((const bool *)opaque, __ATOMIC_ACQUIRE);
}

bool harness_wait_flag(struct harness *h, const bool *flag, int timeout_ms)
{
    return harness_wait(h, flag_set, (void *)flag, timeout_ms);
}

static bool never(void *opaque)
{
    return false;
}

void harness_settle(struct harness *h, int ms)
{
    harness_wait(h, never, NULL, ms);
}

/* ---- nothing moves ---- */

struct harness_still {
    struct harness *h;
    uint8_t *memory;
    uint64_t size, messages;
    unsigned slot, vectors;
};

static uint64_t all_messages(struct harness *h, unsigned slot, unsigned vectors)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < vectors; i++)
        count += harness_msi_count(h, slot, i);
    return count;
}

struct harness_still *harness_watch(struct harness *h, uint64_t size, unsigned slot,
                                    unsigned vectors)
{
    struct harness_still *still = g_new(struct harness_still, 1);

    size = size ? size : h->next_free;
    *still = (struct harness_still){
        .h = h, .size = size, .memory = g_malloc(size), .slot = slot, .vectors = vectors};
    memcpy(still->memory, harness_ptr(h, 0, size), size);
    still->messages = all_messages(h, slot, vectors);
    return still;
}

bool harness_unmoved(struct harness_still *still)
{
    bool same = !memcmp(still->memory, harness_ptr(still->h, 0, still->size), still->size) &&
                all_messages(still->h, still->slot, still->vectors) == still->messages;

    g_free(still->memory);
    g_free(still);
    return same;
}

/* ---- PCI ---- */

unsigned harness_attach(struct harness *h, struct pci_function *function)
{
    GError *error = NULL;

    pci_host_attach(h->host, function, PCI_SLOT_ANY, 0, &error);
    g_assert_no_error(error);
    devices_add(&h->devices, &function->device, &error);
    g_assert_no_error(error);
    pci_host_assign(h->host, &error);
    g_assert_no_error(error);
    harness_command(h, function->slot, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
    return function->slot;
}

void harness_detach(struct harness *h, struct pci_function *function)
{
    devices_remove(&h->devices, &function->device);
    pci_host_detach(h->host, function);
}

uint32_t harness_ecam_read(struct harness *h, unsigned devfn, unsigned offset, unsigned size)
{
    uint64_t address = pci_host_windows(h->host)->ecam_base + devfn * 4096u + offset;

    return (uint32_t)bus_read(h->mmio, address, size);
}

void harness_ecam_write(struct harness *h, unsigned devfn, unsigned offset, unsigned size,
                        uint32_t value)
{
    uint64_t address = pci_host_windows(h->host)->ecam_base + devfn * 4096u + offset;

    bus_write(h->mmio, address, size, value);
}

uint32_t harness_config_read(struct harness *h, unsigned slot, unsigned offset, unsigned size)
{
    return harness_ecam_read(h, slot * 8, offset, size);
}

void harness_config_write(struct harness *h, unsigned slot, unsigned offset, unsigned size,
                          uint32_t value)
{
    harness_ecam_write(h, slot * 8, offset, size, value);
}

uint32_t harness_port_config_read(struct harness *h, unsigned devfn, unsigned offset, unsigned size)
{
    bus_write(h->ports, 0xcf8, 4, 0x80000000u | devfn << 8 | (offset & 0xfc));
    return (uint32_t)bus_read(h->ports, 0xcfc + (offset & 3), size);
}

void harness_port_config_write(struct harness *h, unsigned devfn, unsigned offset, unsigned size,
                               uint32_t value)
{
    bus_write(h->ports, 0xcf8, 4, 0x80000000u | devfn << 8 | (offset & 0xfc));
    bus_write(h->ports, 0xcfc + (offset & 3), size, value);
}

void harness_command(struct harness *h, unsigned slot, uint16_t set, uint16_t clear)
{
    uint32_t command = harness_config_read(h, slot, PCI_COMMAND, 2);

    harness_config_write(h, slot, PCI_COMMAND, 2, (command | set) & ~(uint32_t)clear);
}

unsigned harness_capability(struct harness *h, unsigned slot, uint8_t id, unsigned previous)
{
    unsigned at = previous ? previous + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST;

    for (unsigned guard = 0; guard < 64; guard++) {
        unsigned next = harness_config_read(h, slot, at, 1);
        if (!next || harness_config_read(h, slot, next, 1) == id)
            return next;
        at = next + PCI_CAP_LIST_NEXT;
    }
    g_assert_not_reached(); /* a loop in the list */
}

unsigned harness_extended_capability(struct harness *h, unsigned slot, uint16_t id)
{
    unsigned at = 0x100;

    for (unsigned guard = 0; at && guard < 1024; guard++) {
        uint32_t header = harness_config_read(h, slot, at, 4);
        if ((header & 0xffff) == id && header)
            return at;
        at = header >> 20;
    }
    return 0;
}

static bool bar_is_port(struct harness *h, unsigned slot, unsigned bar)
{
    return harness_config_read(h, slot, PCI_BASE_ADDRESS_0 + 4 * bar, 4) &
           PCI_BASE_ADDRESS_SPACE_IO;
}

uint64_t harness_bar_address(struct harness *h, unsigned slot, unsigned bar)
{
    unsigned at = PCI_BASE_ADDRESS_0 + 4 * bar;
    uint32_t low = harness_config_read(h, slot, at, 4);

    if (low & PCI_BASE_ADDRESS_SPACE_IO)
        return low & ~3u;
    uint64_t address = low & ~15u;
    if (low & PCI_BASE_ADDRESS_MEM_TYPE_64)
        address |= (uint64_t)harness_config_read(h, slot, at + 4, 4) << 32;
    return address;
}

uint64_t harness_bar_read(struct harness *h, unsigned slot, unsigned bar, uint64_t offset,
                          unsigned size)
{
    return bus_read(bar_is_port(h, slot, bar) ? h->ports : h->mmio,
                    harness_bar_address(h, slot, bar) + offset, size);
}

void harness_bar_write(struct harness *h, unsigned slot, unsigned bar, uint64_t offset,
                       unsigned size, uint64_t value)
{
    bus_write(bar_is_port(h, slot, bar) ? h->ports : h->mmio,
              harness_bar_address(h, slot, bar) + offset, size, value);
}

/* ---- MSI-X ---- */

uint64_t harness_msix_address(unsigned slot, unsigned vector)
{
    return MSI_BASE | (vector & 0xf) << 12;
}

uint32_t harness_msix_data(unsigned slot, unsigned vector)
{
    return slot << 16 | vector;
}

static uint64_t entry_offset(struct harness *h, unsigned slot, unsigned vector, unsigned *bar)
{
    unsigned cap = harness_capability(h, slot, PCI_CAP_ID_MSIX, 0);
    uint32_t table = harness_config_read(h, slot, cap + PCI_MSIX_TABLE, 4);

    g_assert_cmpuint(cap, !=, 0);
    *bar = table & 7;
    return (table & ~7u) + vector * 16;
}

void harness_msix_mask(struct harness *h, unsigned slot, unsigned vector, bool masked)
{
    unsigned bar;
    uint64_t at = entry_offset(h, slot, vector, &bar);

    harness_bar_write(h, slot, bar, at + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, masked);
}

unsigned harness_msix_enable(struct harness *h, unsigned slot, unsigned vectors)
{
    unsigned cap = harness_capability(h, slot, PCI_CAP_ID_MSIX, 0), bar;

    g_assert_cmpuint(cap, !=, 0);
    uint32_t flags = harness_config_read(h, slot, cap + PCI_MSIX_FLAGS, 2);
    unsigned have = (flags & PCI_MSIX_FLAGS_QSIZE) + 1;
    /* As the kernel does it: on with everything masked, then messages, then the function's mask. */
    harness_config_write(h, slot, cap + PCI_MSIX_FLAGS, 2,
                         flags | PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    for (unsigned i = 0; i < have; i++) {
        uint64_t at = entry_offset(h, slot, i, &bar);
        uint64_t address = harness_msix_address(slot, i);
        harness_msix_mask(h, slot, i, true);
        if (i >= vectors)
            continue;
        harness_bar_write(h, slot, bar, at + PCI_MSIX_ENTRY_LOWER_ADDR, 4, (uint32_t)address);
        harness_bar_write(h, slot, bar, at + PCI_MSIX_ENTRY_UPPER_ADDR, 4, address >> 32);
        harness_bar_write(h, slot, bar, at + PCI_MSIX_ENTRY_DATA, 4, harness_msix_data(slot, i));
        harness_msix_mask(h, slot, i, false);
    }
    harness_config_write(h, slot, cap + PCI_MSIX_FLAGS, 2,
                         (flags | PCI_MSIX_FLAGS_ENABLE) & ~(uint32_t)PCI_MSIX_FLAGS_MASKALL);
    return have;
}

void harness_msix_disable(struct harness *h, unsigned slot)
{
    unsigned cap = harness_capability(h, slot, PCI_CAP_ID_MSIX, 0);
    uint32_t flags = harness_config_read(h, slot, cap + PCI_MSIX_FLAGS, 2);

    harness_config_write(h, slot, cap + PCI_MSIX_FLAGS, 2,
                         flags & ~(uint32_t)PCI_MSIX_FLAGS_ENABLE);
}

bool harness_msix_pending(struct harness *h, unsigned slot, unsigned vector)
{
    unsigned cap = harness_capability(h, slot, PCI_CAP_ID_MSIX, 0);
    uint32_t pba = harness_config_read(h, slot, cap + PCI_MSIX_PBA, 4);

    return harness_bar_read(h, slot, pba & 7, (pba & ~7u) + vector / 32 * 4, 4) >> vector % 32 & 1;
}

uint64_t harness_message_count(struct harness *h, uint64_t address, uint32_t data)
{
    take_all(h);
    g_mutex_lock(&h->taken->lock);
    uint64_t count = *message_counter(h->taken, address, data);
    g_mutex_unlock(&h->taken->lock);
    return count;
}

uint64_t harness_msi_count(struct harness *h, unsigned slot, unsigned vector)
{
    return harness_message_count(h, harness_msix_address(slot, vector),
                                 harness_msix_data(slot, vector));
}

struct count_wait {
    struct harness *h;
    unsigned slot, vector;
    uint32_t gsi;
    uint64_t count;
};

static bool msi_reached(void *opaque)
{
    struct count_wait *wait = opaque;

    return harness_msi_count(wait->h, wait->slot, wait->vector) >= wait->count;
}

bool harness_wait_msi(struct harness *h, unsigned slot, unsigned vector, uint64_t count,
                      int timeout_ms)
{
    struct count_wait wait = {h, slot, vector, 0, count};

    return harness_wait(h, msi_reached, &wait, timeout_ms);
}

/* ---- lines ---- */

uint64_t harness_gsi_count(struct harness *h, uint32_t gsi)
{
    take_all(h);
    return h->taken->gsi_count[gsi];
}

bool harness_gsi_level(struct harness *h, uint32_t gsi)
{
    take_all(h);
    return h->taken->gsi_level[gsi];
}

static bool gsi_reached(void *opaque)
{
    struct count_wait *wait = opaque;

    return harness_gsi_count(wait->h, wait->gsi) >= wait->count;
}

bool harness_wait_gsi(struct harness *h, uint32_t gsi, uint64_t count, int timeout_ms)
{
    struct count_wait wait = {h, 0, 0, gsi, count};

    return harness_wait(h, gsi_reached, &wait, timeout_ms);
}

void harness_eoi(struct harness *h, uint32_t gsi)
{
    uint64_t one = 1;

    g_mutex_lock(&h->taken->lock);
    take_all_locked(h->taken);
    h->taken->gsi_level[gsi] = false;
    for (unsigned i = 0; i < h->taken->attachments->len; i++) {
        struct attachment *a = &g_array_index(h->taken->attachments, struct attachment, i);
        if (a->gsi == gsi && a->resample_fd >= 0)
            g_assert_cmpint(write(a->resample_fd, &one, sizeof(one)), ==, sizeof(one));
    }
    g_mutex_unlock(&h->taken->lock);
    while (loop_iterate(h->loop, false))
        ; /* the owners of the line look at it again */
}

/* ---- lifecycle ---- */

/* As devices_set_state, for one device that may be in a list of others. */
static void set_state(struct device *device, enum device_state state)
{
    struct devices one = {.first = device};
    struct device *next = device->next;
    GError *error = NULL;

    device->next = NULL;
    devices_set_state(&one, state, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
    device->next = next;
}

GByteArray *harness_save(struct device *device)
{
    GByteArray *out = g_byte_array_new();
    GError *error = NULL;

    set_state(device, DEVICE_STOP_COPY);
    device_save(device, out, &error);
    g_assert_no_error(error);
    set_state(device, DEVICE_RUNNING);
    return out;
}

bool harness_load_state(struct device *device, const GByteArray *saved, GError **error)
{
    set_state(device, DEVICE_RESUMING);
    bool ok = device_load(device, saved->data, saved->len, error);
    if (device_state(device) == DEVICE_ERROR)
        device_reset(device);
    else
        set_state(device, DEVICE_RUNNING);
    return ok;
}
