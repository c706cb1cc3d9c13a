/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvpanic - a PCI device by which a guest's kernel says that it panicked
 *
 * 1b36:0011, one memory BAR with one register of event bits (<misc/pvpanic.h>). Stock driver:
 * pvpanic-pci. A panic reports SHUTDOWN_PANIC with the bits as status; a crash kernel that takes
 * over reports SHUTDOWN_CRASH_LOADED.
 *
 * Threads: created and destroyed on the main thread; the register on vCPU threads.
 */
#ifndef DEVICES_PVPANIC_H
#define DEVICES_PVPANIC_H

#include <glib.h>

#include "pci/function.h"
#include "vmm/shutdown.h"

struct pvpanic;

struct pvpanic *pvpanic_create(const char *name, const struct pci_environment *env,
                               const struct shutdown_sink *shutdown, GError **error);
void pvpanic_destroy(struct pvpanic *pvpanic); /* detached before; NULL is allowed */
struct pci_function *pvpanic_function(struct pvpanic *pvpanic);

#endif
