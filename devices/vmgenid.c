/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmgenid - virtual machine generation id
 *
 * Interface: "Virtual Machine Generation ID" (Microsoft, 2012): 128 bits in guest memory, found by
 * the ADDR method of the ACPI device VMGENCTR (firmware/acpi); a change is followed by Notify(0x80),
 * here through the generic event device (devices/acpi). Stock driver: vmgenid.
 *
 * The id goes into guest memory through the device's DMA, so not while its lifecycle state forbids
 * that: a new id then goes out when the device runs again. Saved with the machine; after a restore
 * that makes a copy, the restorer asks for a new one (vmgenid_renew).
 */
#include "devices/vmgenid.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/dma.h"
#include "vmm/layout.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(vmgenid_publish, "address=0x%" G_GINT64_MODIFIER "x notify=%d",
            (uint64_t address, int notify), address, notify)

struct vmgenid {
    struct device device;
    struct dma dma;
    struct acpi *acpi;
    uint64_t address;
    uint8_t guid[VMGENID_SIZE];
    bool unpublished; /* changed while the device could not say so */
};

/* Into guest memory, and the guest told. */
static void publish(struct vmgenid *vmgenid, bool notify)
{
    int ret = dma_write(&vmgenid->dma, vmgenid->address, vmgenid->guid, VMGENID_SIZE);

    trace_vmgenid_publish(vmgenid->address, notify);
    if (ret) {
        log_error(vmgenid->device.name, "no id at 0x%" G_GINT64_MODIFIER "x: %s", vmgenid->address,
                  g_strerror(-ret));
        return;
    }
    vmgenid->unpublished = false;
    if (notify)
        acpi_raise(vmgenid->acpi, LAYOUT_ACPI_EVENT_VMGENID);
}

void vmgenid_set_guid(struct vmgenid *vmgenid, const uint8_t guid[VMGENID_SIZE])
{
    memcpy(vmgenid->guid, guid, VMGENID_SIZE);
    vmgenid->unpublished = true;
    if (dma_allowed(&vmgenid->dma, DMA_FROM_DEVICE) == 0)
        publish(vmgenid, true);
}

static bool random_guid(uint8_t guid[VMGENID_SIZE], GError **error)
{
    ssize_t got = getrandom(guid, VMGENID_SIZE, 0);

    if (got == VMGENID_SIZE)
        return true;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(got < 0 ? errno : EIO),
                "vmgenid: no random numbers from the host: %s", g_strerror(got < 0 ? errno : EIO));
    return false;
}

bool vmgenid_renew(struct vmgenid *vmgenid, GError **error)
{
    uint8_t guid[VMGENID_SIZE];

    if (!random_guid(guid, error))
        return false;
    vmgenid_set_guid(vmgenid, guid);
    return true;
}

uint64_t vmgenid_address(const struct vmgenid *vmgenid)
{
    return vmgenid->address;
}

const uint8_t *vmgenid_guid(const struct vmgenid *vmgenid)
{
    return vmgenid->guid;
}

/* ---- life ---- */

static void resume(struct device *device)
{
    struct vmgenid *vmgenid = (struct vmgenid *)device;

    if (vmgenid->unpublished)
        publish(vmgenid, true);
}

/* The guest before may have written over the page; the next one reads it as it boots. */
static void reset(struct device *device)
{
    struct vmgenid *vmgenid = (struct vmgenid *)device;

    vmgenid->unpublished = true;
    if (dma_allowed(&vmgenid->dma, DMA_FROM_DEVICE) == 0)
        publish(vmgenid, false);
}

static const struct device_ops device_ops = {.reset = reset, .resume = resume};

static const struct state_field state_fields[] = {
    STATE_BYTES(struct vmgenid, guid, 1),
    STATE_BOOL(struct vmgenid, unpublished, 1),
    STATE_END,
};
static const struct state_table state_table = {"vmgenid", 1, 1, state_fields};

struct vmgenid *vmgenid_create(const struct vmgenid_config *config, GError **error)
{
    struct vmgenid *vmgenid = g_new0(struct vmgenid, 1);

    vmgenid->acpi = config->acpi;
    vmgenid->address = config->address;
    device_init(&vmgenid->device, "vmgenid", "vmgenid", &device_ops);
    vmgenid->device.state_table = &state_table;
    vmgenid->device.state_base = vmgenid;
    dma_init(&vmgenid->dma, config->memory, &vmgenid->device, true);
    if (config->guid)
        memcpy(vmgenid->guid, config->guid, VMGENID_SIZE);
    if (config->guid || random_guid(vmgenid->guid, error)) {
        int ret = config->address % 8
                      ? -EINVAL
                      : dma_write(&vmgenid->dma, config->address, vmgenid->guid, VMGENID_SIZE);
        if (!ret)
            return vmgenid;
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret),
                    "vmgenid: no place for the id at 0x%" G_GINT64_MODIFIER "x: %s",
                    config->address, g_strerror(-ret));
    }
    vmgenid_destroy(vmgenid);
    return NULL;
}

void vmgenid_destroy(struct vmgenid *vmgenid)
{
    if (!vmgenid)
        return;
    device_finish(&vmgenid->device);
    g_free(vmgenid);
}

struct device *vmgenid_device(struct vmgenid *vmgenid)
{
    return &vmgenid->device;
}
