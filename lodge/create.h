/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create - how a device of each type is made and put into a machine: the create column of types.c */
#ifndef LODGE_CREATE_H
#define LODGE_CREATE_H

#include "lodge/machine.h"

#define DECLARE_CREATE(NAME)                                                                       \
    bool create_##NAME(struct machine *machine, struct machine_device *entry, GError **error)

DECLARE_CREATE(acpi);
DECLARE_CREATE(boot_timing);
DECLARE_CREATE(debug_exit);
DECLARE_CREATE(pvpanic);
DECLARE_CREATE(pvrdma);
DECLARE_CREATE(rtc);
DECLARE_CREATE(serial);
DECLARE_CREATE(virtio_9p);
DECLARE_CREATE(virtio_blk);
DECLARE_CREATE(virtio_console);
DECLARE_CREATE(virtio_gpu);
DECLARE_CREATE(virtio_input);
DECLARE_CREATE(virtio_net);
DECLARE_CREATE(virtio_rng);
DECLARE_CREATE(vmgenid);
DECLARE_CREATE(vmxnet3);

bool pvrdma_shares_memory(const struct options *options);

#endif
