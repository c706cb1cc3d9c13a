/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exit - the debug-exit port
 *
 * Four ports; a write of any width to any of them reports SHUTDOWN_DEBUG_EXIT with the written value
 * as status; reads give 0. The machine ends some time later: the guest should halt. No stock driver:
 * bare-metal test guests and "outb" from user space use it.
 *
 * Limits: the exit code has 7 bits of the value (debug_exit_code).
 */
#include "devices/exit.h"

#include "devices/isa.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(debug_exit, "value=0x%x", (unsigned value), value)

struct debug_exit {
    struct device device;
    struct debug_exit_config config;
    uint32_t value; /* the last one written, for whoever looks at the state */
};

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct debug_exit *exit_port = opaque;

    return isa_may_read(&exit_port->device) ? 0 : UINT64_MAX;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct debug_exit *exit_port = opaque;

    if (!isa_may_write(&exit_port->device))
        return;
    trace_debug_exit((unsigned)value);
    __atomic_store_n(&exit_port->value, (uint32_t)value, __ATOMIC_RELAXED);
    shutdown_request(&exit_port->config.shutdown, SHUTDOWN_DEBUG_EXIT, (int)(uint32_t)value,
                     "the guest wrote to the debug-exit port");
}

static const struct bus_ops port_ops = {port_read, port_write};

static void reset(struct device *device)
{
    ((struct debug_exit *)device)->value = 0;
}

static const struct device_ops device_ops = {.reset = reset};

static const struct state_field state_fields[] = {
    STATE_U32(struct debug_exit, value, 1),
    STATE_END,
};
static const struct state_table state_table = {"debug-exit", 1, 1, state_fields};

struct debug_exit *debug_exit_create(const struct debug_exit_config *config, GError **error)
{
    struct debug_exit *exit_port = g_new0(struct debug_exit, 1);

    exit_port->config = *config;
    device_init(&exit_port->device, "debug-exit", "debug-exit", &device_ops);
    exit_port->device.state_table = &state_table;
    exit_port->device.state_base = exit_port;
    if (!isa_claim(config->ports, config->base, DEBUG_EXIT_PORTS, &port_ops, exit_port,
                   "debug-exit", error)) {
        device_finish(&exit_port->device);
        g_free(exit_port);
        return NULL;
    }
    return exit_port;
}

void debug_exit_destroy(struct debug_exit *exit_port)
{
    if (!exit_port)
        return;
    bus_remove(exit_port->config.ports, exit_port->config.base);
    device_finish(&exit_port->device);
    g_free(exit_port);
}

struct device *debug_exit_device(struct debug_exit *exit_port)
{
    return &exit_port->device;
}
