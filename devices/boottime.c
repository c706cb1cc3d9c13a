/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * boottime - port 0x80, the progress code port of PCs since the first power-on self test
 *
 * A table with a row a code; the port reads as the last code written. A stock kernel that is not told
 * io_delay=none also writes here to pass time, with whatever is in AL: rows then mean something only
 * for codes that the guest's own programs write. Codes from BOOTTIME_CODES up are not recorded.
 *
 * The table is not saved: it tells about this process.
 */
#include "devices/boottime.h"

#include "devices/isa.h"
#include "vmm/loop.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(boot_timing, "code=0x%02x", (unsigned code), code)

struct boottime {
    struct device device;
    struct boottime_config config;
    uint8_t last;
    struct boottime_entry entries[BOOTTIME_CODES]; /* atomic, field by field */
};

static int64_t process_start_ns;

/* Before main: what precedes it is the dynamic linker's. */
static void __attribute__((constructor)) note_process_start(void)
{
    process_start_ns = loop_now_ns();
}

int64_t boottime_now_ns(void)
{
    return loop_now_ns() - process_start_ns;
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct boottime *boottime = opaque;

    if (!isa_may_read(&boottime->device))
        return UINT64_MAX;
    return __atomic_load_n(&boottime->last, __ATOMIC_RELAXED);
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct boottime *boottime = opaque;
    uint8_t code = (uint8_t)value;

    if (!isa_may_write(&boottime->device))
        return;
    trace_boot_timing(code);
    __atomic_store_n(&boottime->last, code, __ATOMIC_RELAXED);
    if (code >= BOOTTIME_CODES)
        return;
    struct boottime_entry *entry = &boottime->entries[code];
    int64_t now = boottime_now_ns();
    __atomic_store_n(&entry->last_ns, now, __ATOMIC_RELAXED);
    /* Two vCPUs may write the same code at once: then either time is a first one. */
    if (!__atomic_load_n(&entry->count, __ATOMIC_RELAXED))
        __atomic_store_n(&entry->first_ns, now, __ATOMIC_RELAXED);
    __atomic_fetch_add(&entry->count, 1, __ATOMIC_RELEASE);
}

static const struct bus_ops port_ops = {port_read, port_write};

/* A reset is a new boot, and a new table. */
static void reset(struct device *device)
{
    struct boottime *boottime = (struct boottime *)device;

    boottime->last = 0;
    for (unsigned code = 0; code < BOOTTIME_CODES; code++)
        __atomic_store_n(&boottime->entries[code].count, 0, __ATOMIC_RELEASE);
}

static const struct device_ops device_ops = {.reset = reset};

static const struct state_field state_fields[] = {
    STATE_U8(struct boottime, last, 1),
    STATE_END,
};
static const struct state_table state_table = {"boot-timing", 1, 1, state_fields};

struct boottime *boottime_create(const struct boottime_config *config, GError **error)
{
    struct boottime *boottime = g_new0(struct boottime, 1);

    boottime->config = *config;
    device_init(&boottime->device, "boot-timing", "boot-timing", &device_ops);
    boottime->device.state_table = &state_table;
    boottime->device.state_base = boottime;
    if (!isa_claim(config->ports, config->base, 1, &port_ops, boottime, "boot-timing", error)) {
        device_finish(&boottime->device);
        g_free(boottime);
        return NULL;
    }
    return boottime;
}

void boottime_destroy(struct boottime *boottime)
{
    if (!boottime)
        return;
    bus_remove(boottime->config.ports, boottime->config.base);
    device_finish(&boottime->device);
    g_free(boottime);
}

struct device *boottime_device(struct boottime *boottime)
{
    return &boottime->device;
}

struct boottime_entry boottime_get(const struct boottime *boottime, uint8_t code)
{
    struct boottime_entry entry = {0};

    if (code >= BOOTTIME_CODES)
        return entry;
    const struct boottime_entry *from = &boottime->entries[code];
    entry.count = __atomic_load_n(&from->count, __ATOMIC_ACQUIRE);
    entry.first_ns = __atomic_load_n(&from->first_ns, __ATOMIC_RELAXED);
    entry.last_ns = __atomic_load_n(&from->last_ns, __ATOMIC_RELAXED);
    return entry;
}

const char *boottime_phase(uint8_t code)
{
    static const char *const phases[] = {"firmware", "loader", "kernel", "user"};

    return code < BOOTTIME_CODES ? phases[code / 0x20] : "other";
}

static int by_first_time(const void *a, const void *b, void *opaque)
{
    const struct boottime_entry *entries = opaque;
    int64_t x = entries[*(const uint8_t *)a].first_ns, y = entries[*(const uint8_t *)b].first_ns;

    return x < y ? -1 : x > y;
}

void boottime_to_json(const struct boottime *boottime, JsonObject *object)
{
    struct boottime_entry entries[BOOTTIME_CODES];
    uint8_t order[BOOTTIME_CODES];
    unsigned count = 0;
    JsonArray *array = json_array_new();

    for (unsigned code = 0; code < BOOTTIME_CODES; code++) {
        entries[code] = boottime_get(boottime, (uint8_t)code);
        if (entries[code].count)
            order[count++] = (uint8_t)code;
    }
    g_qsort_with_data(order, (int)count, sizeof(order[0]), by_first_time, entries);
    for (unsigned i = 0; i < count; i++) {
        const struct boottime_entry *entry = &entries[order[i]];
        JsonObject *row = json_object_new();
        json_object_set_int_member(row, "code", order[i]);
        json_object_set_string_member(row, "phase", boottime_phase(order[i]));
        json_object_set_int_member(row, "first-ns", entry->first_ns);
        json_object_set_int_member(row, "last-ns", entry->last_ns);
        json_object_set_int_member(row, "count", (int64_t)entry->count);
        json_array_add_object_element(array, row);
    }
    json_object_set_array_member(object, "boot-timing", array);
}
