/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * create_rdma - an RDMA adapter: the second function of the slot of a vmxnet3 (create.h)
 *
 * The stock driver looks for its network interface there, and nowhere else. The adapter asks it for
 * address, link and MTU, and hears of changes.
 */
#include "lodge/create.h"

#include <string.h>

#include "devices/pvrdma/pvrdma.h"
#include "devices/vmxnet3/vmxnet3.h"

struct adapter {
    struct pvrdma *pvrdma;
    struct vmxnet3 *vmxnet3;
};

static void nic_mac(void *opaque, uint8_t mac[6])
{
    vmxnet3_mac(opaque, mac);
}

static bool nic_active(void *opaque)
{
    return vmxnet3_link_up(opaque) && vmxnet3_active(opaque);
}

static unsigned nic_mtu(void *opaque)
{
    return vmxnet3_mtu(opaque);
}

static void nic_changed(void *opaque)
{
    pvrdma_nic_changed(opaque);
}

static void destroy_adapter(void *object)
{
    struct adapter *adapter = object;

    vmxnet3_set_listener(adapter->vmxnet3, NULL, NULL);
    pvrdma_destroy(adapter->pvrdma);
    g_free(adapter);
}

static bool is_free_nic(struct machine *machine, const struct machine_device *entry)
{
    return !strcmp(entry->type->name, "vmxnet3") &&
           !pci_host_function(machine->host, entry->function->slot, 1);
}

/* The one that nic= names, else the last that has no adapter yet. */
static struct machine_device *find_nic(struct machine *machine, const struct machine_device *entry,
                                       GError **error)
{
    const char *id = options_string(entry->options, "nic");

    for (guint i = machine->entries->len; i-- > 0;) {
        struct machine_device *nic = g_ptr_array_index(machine->entries, i);

        if (id ? !strcmp(nic->id, id) : is_free_nic(machine, nic)) {
            if (is_free_nic(machine, nic))
                return nic;
            options_set_error(error, entry->options, "nic",
                              "must be the id of a vmxnet3 that has no adapter yet");
            return NULL;
        }
    }
    options_set_error(
        error, entry->options, id ? "nic" : NULL,
        id ? "no such device before this one: it must be the id of a vmxnet3"
           : "needs a vmxnet3 before it (--net model=vmxnet3); --rdma brings its own");
    return NULL;
}

bool create_pvrdma(struct machine *machine, struct machine_device *entry, GError **error)
{
    struct machine_device *nic = find_nic(machine, entry, error);
    struct adapter *adapter;

    if (!nic)
        return false;
    struct pvrdma_nic of_nic = {nic_mac, nic_active, nic_mtu, nic->object};
    struct pvrdma *pvrdma = pvrdma_create(entry->id, entry->options, &of_nic, &machine->env,
                                          machine_io_loop(machine, entry), error);
    if (!pvrdma)
        return false;
    adapter = g_new0(struct adapter, 1);
    *adapter = (struct adapter){pvrdma, nic->object};
    entry->object = adapter;
    entry->destroy = destroy_adapter;
    vmxnet3_set_listener(adapter->vmxnet3, nic_changed, pvrdma);
    if (!pci_host_attach(machine->host, pvrdma_function(pvrdma), nic->function->slot, 1, error))
        return false;
    entry->function = pvrdma_function(pvrdma);
    entry->device = &pvrdma_function(pvrdma)->device;
    return true;
}

/* Scattered pages are registered with the host's device as one range of addresses. */
bool pvrdma_shares_memory(const struct options *options)
{
    return !strcmp(options_string(options, "backend"), "verbs");
}
