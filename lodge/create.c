/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create - devices of a machine that are not virtio (create.h) */
#include "lodge/create.h"

#include "devices/acpi.h"
#include "devices/boottime.h"
#include "devices/exit.h"
#include "devices/pvpanic.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "devices/vmgenid.h"
#include "devices/vmxnet3/vmxnet3.h"
#include "vmm/layout.h"

/* What most of them need: an object, how it is destroyed, and its device. */
static bool created(struct machine_device *entry, void *object, void (*destroy)(void *object),
                    struct device *(*device)(void *object))
{
    if (!object)
        return false;
    entry->object = object;
    entry->destroy = destroy;
    entry->device = device(object);
    return true;
}

#define CREATED(ENTRY, NAME, OBJECT)                                                               \
    created(ENTRY, OBJECT, (void (*)(void *))NAME##_destroy,                                       \
            (struct device * (*)(void *)) NAME##_device)

bool create_acpi(struct machine *machine, struct machine_device *entry, GError **error)
{
    struct acpi_config config = {
        .ports = machine->ports,
        .base = LAYOUT_PORT_ACPI,
        .interrupts = machine->env.interrupts,
        .gsi = LAYOUT_GSI_ACPI,
        .shutdown = machine->shutdown,
    };

    machine->acpi = acpi_create(&config, error);
    return CREATED(entry, acpi, machine->acpi);
}

bool create_boot_timing(struct machine *machine, struct machine_device *entry, GError **error)
{
    struct boottime_config config = {.ports = machine->ports, .base = LAYOUT_PORT_BOOT_TIMING};

    machine->boottime = boottime_create(&config, error);
    return CREATED(entry, boottime, machine->boottime);
}

bool create_debug_exit(struct machine *machine, struct machine_device *entry, GError **error)
{
    struct debug_exit_config config = {
        .ports = machine->ports,
        .base = LAYOUT_PORT_DEBUG_EXIT,
        .shutdown = machine->shutdown,
    };

    return CREATED(entry, debug_exit, debug_exit_create(&config, error));
}

bool create_rtc(struct machine *machine, struct machine_device *entry, GError **error)
{
    struct rtc_config config = {
        .ports = machine->ports,
        .base = LAYOUT_PORT_RTC,
        .interrupts = machine->env.interrupts,
        .gsi = LAYOUT_GSI_RTC,
        .loop = loop_main(),
    };

    machine->rtc = true;
    return CREATED(entry, rtc, rtc_create(&config, error));
}

bool create_vmgenid(struct machine *machine, struct machine_device *entry, GError **error)
{
    struct vmgenid_config config = {
        .memory = machine->memory,
        .address = LAYOUT_VMGENID,
        .acpi = machine->acpi,
    };

    machine->vmgenid = vmgenid_create(&config, error);
    return CREATED(entry, vmgenid, machine->vmgenid);
}

bool create_pvpanic(struct machine *machine, struct machine_device *entry, GError **error)
{
    struct pvpanic *pvpanic = pvpanic_create(entry->id, &machine->env, &machine->shutdown, error);

    if (!pvpanic)
        return false;
    entry->object = pvpanic;
    entry->destroy = (void (*)(void *))pvpanic_destroy;
    if (!machine_attach(machine, entry, pvpanic_function(pvpanic), error))
        return false;
    entry->device = &pvpanic_function(pvpanic)->device;
    return true;
}

static void set_vmxnet3_link(struct machine_device *entry, bool up)
{
    vmxnet3_set_link(entry->object, up);
}

static void announce_vmxnet3(struct machine_device *entry)
{
    vmxnet3_announce(entry->object);
}

bool create_vmxnet3(struct machine *machine, struct machine_device *entry, GError **error)
{
    struct vmxnet3 *vmxnet3 = vmxnet3_create(entry->id, entry->options, &machine->env,
                                             machine_io_loop(machine, entry), error);

    if (!vmxnet3)
        return false;
    entry->object = vmxnet3;
    entry->destroy = (void (*)(void *))vmxnet3_destroy;
    entry->set_link = set_vmxnet3_link;
    entry->announce = announce_vmxnet3;
    if (!machine_attach(machine, entry, vmxnet3_function(vmxnet3), error))
        return false;
    entry->device = &vmxnet3_function(vmxnet3)->device;
    return true;
}

/* ---- serial: the device and its chardev go together ---- */

struct serial_port {
    struct serial *serial;
    struct chardev *chardev;
};

static void destroy_serial(void *object)
{
    struct serial_port *port = object;

    serial_destroy(port->serial);
    char_close(port->chardev);
    g_free(port);
}

bool create_serial(struct machine *machine, struct machine_device *entry, GError **error)
{
    static const struct {
        uint16_t base;
        uint32_t gsi;
    } places[] = {{LAYOUT_PORT_SERIAL0, LAYOUT_GSI_SERIAL0},
                  {LAYOUT_PORT_SERIAL1, LAYOUT_GSI_SERIAL1}};
    unsigned index = machine->serial[0] ? 1 : 0;
    struct serial_config config = {
        .name = entry->id,
        .ports = machine->ports,
        .interrupts = machine->env.interrupts,
        .loop = loop_main(),
    };
    struct serial_port *port;

    if (machine->serial[index]) {
        options_set_error(error, entry->options, NULL, "a machine has at most two serial ports");
        return false;
    }
    port = g_new0(struct serial_port, 1);
    port->chardev = char_open(entry->options, loop_main(), error);
    if (!port->chardev) {
        g_free(port);
        return false;
    }
    entry->object = port;
    entry->destroy = destroy_serial;
    config.base = places[index].base;
    config.gsi = places[index].gsi;
    config.chardev = port->chardev;
    port->serial = serial_create(&config, error);
    if (!port->serial)
        return false;
    machine->serial[index] = true;
    entry->device = serial_device(port->serial);
    if (index == 0)
        machine_console_opened(machine, entry, port->chardev);
    return true;
}
