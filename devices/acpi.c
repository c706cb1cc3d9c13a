/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi - registers of a hardware-reduced ACPI machine (ACPI 6.5, sections 4.1 and 4.8.3)
 *
 *   0  RESET          a write of LAYOUT_ACPI_RESET_VALUE asks for a reset
 *   1  SLEEP_CONTROL  SLP_EN with the type of S5 turns the machine off; reads as 0
 *   2  SLEEP_STATUS   0: nothing wakes
 *   4  EVENT          pending events, cleared as they are read (generic event device, 5.6.9)
 *
 * Stock drivers: the kernel's ACPI core, its generic event device (evged) and button drivers. The
 * event interrupt is edge triggered; each event makes an edge of its own, since one that came before
 * the guest listened is lost.
 *
 * Threads: registers on vCPU threads, events from any; a lock serialises the pending bits.
 */
#include "devices/acpi.h"

#include <pthread.h>

#include "devices/isa.h"
#include "vmm/layout.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(acpi_reset, "value=0x%x", (unsigned value), value)
TRACE_EVENT(acpi_sleep_control, "value=0x%x", (unsigned value), value)
TRACE_EVENT(acpi_event, "raised=0x%x pending=0x%x", (unsigned raised, unsigned pending), raised,
            pending)
TRACE_EVENT(acpi_event_read, "pending=0x%x", (unsigned pending), pending)

struct acpi {
    struct device device;
    struct acpi_config config;
    struct irq_line line;
    pthread_mutex_t lock;
    uint32_t pending; /* LAYOUT_ACPI_EVENT_* */
};

/* The bits of the event register that lie in [offset, offset + size) of the block. */
static uint32_t event_bits(uint64_t offset, unsigned size)
{
    uint32_t bits = 0;

    for (unsigned i = 0; i < 4; i++)
        if (LAYOUT_ACPI_EVENT + i >= offset && LAYOUT_ACPI_EVENT + i < offset + size)
            bits |= 0xffu << (8 * i);
    return bits;
}

static uint32_t take_events(struct acpi *acpi, uint32_t bits)
{
    pthread_mutex_lock(&acpi->lock);
    uint32_t events = acpi->pending & bits;
    if (isa_reads_have_effects(&acpi->device)) {
        acpi->pending &= ~bits;
        if (!acpi->pending)
            irq_line_set(&acpi->line, false);
    }
    pthread_mutex_unlock(&acpi->lock);
    trace_acpi_event_read(events);
    return events;
}

static uint64_t block_read(void *opaque, uint64_t offset, unsigned size)
{
    struct acpi *acpi = opaque;
    uint32_t bits = event_bits(offset, size);

    if (!isa_may_read(&acpi->device))
        return UINT64_MAX;
    if (!bits)
        return 0; /* the others */
    uint64_t events = (uint64_t)take_events(acpi, bits) << (8 * LAYOUT_ACPI_EVENT);
    return events >> (8 * offset);
}

static void write_byte(struct acpi *acpi, unsigned offset, uint8_t value)
{
    switch (offset) {
    case LAYOUT_ACPI_RESET:
        trace_acpi_reset(value);
        if (value == LAYOUT_ACPI_RESET_VALUE)
            shutdown_request(&acpi->config.shutdown, SHUTDOWN_RESET, 0, NULL);
        break;
    case LAYOUT_ACPI_SLEEP_CONTROL:
        trace_acpi_sleep_control(value);
        if (!(value & LAYOUT_ACPI_SLP_EN))
            break;
        unsigned type = (value & LAYOUT_ACPI_SLP_TYP_MASK) >> LAYOUT_ACPI_SLP_TYP_SHIFT;
        if (type == LAYOUT_ACPI_S5)
            shutdown_request(&acpi->config.shutdown, SHUTDOWN_POWER_OFF, 0, NULL);
        else
            log_guest(&acpi->device.guest_errors, acpi->device.name,
                      "the guest asked for sleep type %u: only %u (off) is there", type,
                      LAYOUT_ACPI_S5);
        break;
    default: /* the status has nothing to clear, events are read-only */
        break;
    }
}

static void block_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi *acpi = opaque;

    if (!isa_may_write(&acpi->device))
        return;
    for (unsigned i = 0; i < size; i++)
        write_byte(acpi, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
}

static const struct bus_ops block_ops = {block_read, block_write};

void acpi_raise(struct acpi *acpi, uint32_t events)
{
    pthread_mutex_lock(&acpi->lock);
    acpi->pending |= events;
    trace_acpi_event(events, acpi->pending);
    irq_line_set(&acpi->line, false); /* an edge, though an earlier one may not have been heard */
    irq_line_set(&acpi->line, true);
    pthread_mutex_unlock(&acpi->lock);
}

void acpi_power_button(struct acpi *acpi)
{
    acpi_raise(acpi, LAYOUT_ACPI_EVENT_POWER_BUTTON);
}

/* ---- life ---- */

static void reset(struct device *device)
{
    struct acpi *acpi = (struct acpi *)device;

    pthread_mutex_lock(&acpi->lock);
    acpi->pending = 0;
    irq_line_set(&acpi->line, false);
    pthread_mutex_unlock(&acpi->lock);
}

static void resume(struct device *device)
{
    struct acpi *acpi = (struct acpi *)device;

    /* What a stream brought; an edge too many is an event read of 0. */
    if (acpi->pending)
        acpi_raise(acpi, 0);
}

static bool after_load(struct device *device, GError **error)
{
    const uint32_t known = LAYOUT_ACPI_EVENT_POWER_BUTTON | LAYOUT_ACPI_EVENT_VMGENID;
    struct acpi *acpi = (struct acpi *)device;

    if (!(acpi->pending & ~known))
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                "acpi: unknown events 0x%x are pending in the stream", acpi->pending & ~known);
    return false;
}

static const struct device_ops device_ops = {
    .reset = reset,
    .resume = resume,
    .after_load = after_load,
};

static const struct state_field state_fields[] = {
    STATE_U32(struct acpi, pending, 1),
    STATE_END,
};
static const struct state_table state_table = {"acpi", 1, 1, state_fields};

struct acpi *acpi_create(const struct acpi_config *config, GError **error)
{
    struct acpi *acpi = g_new0(struct acpi, 1);

    acpi->config = *config;
    device_init(&acpi->device, "acpi", "acpi", &device_ops);
    acpi->device.state_table = &state_table;
    acpi->device.state_base = acpi;
    pthread_mutex_init(&acpi->lock, NULL);
    int ret =
        irq_line_init(&acpi->line, config->interrupts, &acpi->device, config->gsi, false, NULL);
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "acpi: interrupt %u: %s",
                    config->gsi, g_strerror(-ret));
    } else if (isa_claim(config->ports, config->base, LAYOUT_ACPI_SIZE, &block_ops, acpi, "acpi",
                         error)) {
        return acpi;
    } else {
        irq_line_finish(&acpi->line);
    }
    pthread_mutex_destroy(&acpi->lock);
    device_finish(&acpi->device);
    g_free(acpi);
    return NULL;
}

void acpi_destroy(struct acpi *acpi)
{
    if (!acpi)
        return;
    bus_remove(acpi->config.ports, acpi->config.base);
    irq_line_finish(&acpi->line);
    pthread_mutex_destroy(&acpi->lock);
    device_finish(&acpi->device);
    g_free(acpi);
}

struct device *acpi_device(struct acpi *acpi)
{
    return &acpi->device;
}
