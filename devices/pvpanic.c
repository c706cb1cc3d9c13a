/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvpanic - a PCI device by which a guest's kernel says that it panicked
 *
 * Interface: 1b36:0011, class "system peripheral", BAR 0 with one byte: reading tells which events
 * the device knows, writing reports them: bit 0 PANICKED (the kernel panicked, and nobody in the
 * guest handles it), bit 1 CRASH_LOADED (it panicked and a crash kernel takes over). Stock driver:
 * pvpanic-pci, from the kernel's panic notifier.
 *
 * Limits: the shutdown bit of newer drivers is not offered: power-off goes by ACPI.
 */
#include "devices/pvpanic.h"

#include <misc/pvpanic.h>

#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(pvpanic, "%s events=0x%x", (const char *name, unsigned events), name, events)

#define EVENTS   (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)
#define BAR_SIZE 16 /* the smallest there is; the register is its first byte */

struct pvpanic {
    struct pci_function function;
    struct shutdown_sink shutdown;
};

static uint64_t region_read(struct pci_function *function, unsigned region, uint64_t offset,
                            unsigned size)
{
    return offset == 0 ? EVENTS : 0;
}

static void region_write(struct pci_function *function, unsigned region, uint64_t offset,
                         unsigned size, uint64_t value)
{
    struct pvpanic *pvpanic = (struct pvpanic *)function;
    unsigned events = (uint8_t)value;

    if (offset != 0)
        return;
    trace_pvpanic(function->device.name, events);
    if (events & ~(unsigned)EVENTS)
        log_guest(&function->device.guest_errors, function->device.name,
                  "unknown events 0x%x ignored", events & ~(unsigned)EVENTS);
    if (events & PVPANIC_CRASH_LOADED)
        shutdown_request(&pvpanic->shutdown, SHUTDOWN_CRASH_LOADED, (int)events,
                         "the guest panicked; its crash kernel takes over");
    if (events & PVPANIC_PANICKED)
        shutdown_request(&pvpanic->shutdown, SHUTDOWN_PANIC, (int)events, "the guest panicked");
}

static const struct pci_function_ops function_ops = {
    .region_read = region_read,
    .region_write = region_write,
};

static void reset(struct device *device)
{
    pci_function_reset((struct pci_function *)device, true);
}

static void before_save(struct device *device)
{
    pci_function_before_save((struct pci_function *)device);
}

static bool after_load(struct device *device, GError **error)
{
    return pci_function_after_load((struct pci_function *)device, error);
}

static const struct device_ops device_ops = {
    .reset = reset,
    .before_save = before_save,
    .after_load = after_load,
};

static const struct state_field state_fields[] = {
    STATE_STRUCT(struct pvpanic, function, &pci_function_state, 1),
    STATE_END,
};
static const struct state_table state_table = {"pvpanic", 1, 1, state_fields};

static const struct pci_identity identity = {
    .vendor_id = 0x1b36,
    .device_id = 0x0011,
    .subsystem_vendor_id = 0x1af4,
    .subsystem_id = 0x1100,
    .revision = 1,
    .class_code = 0x088000,
};

struct pvpanic *pvpanic_create(const char *name, const struct pci_environment *env,
                               const struct shutdown_sink *shutdown, GError **error)
{
    struct pvpanic *pvpanic = g_new0(struct pvpanic, 1);

    pvpanic->shutdown = *shutdown;
    pci_function_init(&pvpanic->function, name, "pvpanic", &device_ops, &function_ops, &identity,
                      env);
    pvpanic->function.device.state_table = &state_table;
    pvpanic->function.device.state_base = pvpanic;
    pci_function_add_bar(&pvpanic->function, 0, BAR_SIZE, 0);
    return pvpanic;
}

void pvpanic_destroy(struct pvpanic *pvpanic)
{
    if (!pvpanic)
        return;
    pci_function_finish(&pvpanic->function);
    g_free(pvpanic);
}

struct pci_function *pvpanic_function(struct pvpanic *pvpanic)
{
    return &pvpanic->function;
}
