/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvrdma - a paravirtual RDMA adapter for guests with the stock driver vmw_pvrdma
 *
 * PCI 15ad:0820, device version 20, RoCE v2, function 1 of a slot whose function 0 is a vmxnet3:
 * that interface gives it its address, its link and its MTU. Queue pairs of the types RC, UD and
 * GSI, shared receive queues, completion queues with notification, user and kernel memory regions,
 * fast registration, asynchronous events. What carries the work is a backend
 * (backends/rdma/rdma.h).
 *
 * Threads: created and destroyed on the main thread; registers and commands on vCPU threads;
 * doorbells, work and completions on the loop given at creation.
 */
#ifndef DEVICES_PVRDMA_PVRDMA_H
#define DEVICES_PVRDMA_PVRDMA_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "pci/function.h"
#include "vmm/loop.h"
#include "vmm/options.h"

struct pvrdma;
struct rdma;

/* The network interface of the same slot. Any thread, no lock held; none may be NULL. */
struct pvrdma_nic {
    void (*mac)(void *opaque, uint8_t mac[6]);
    bool (*active)(void *opaque);  /* frames pass, and its driver uses it */
    unsigned (*mtu)(void *opaque); /* bytes */
    void *opaque;
};

/* Keys: those of the backend, and nic, for whoever puts devices into slots. */
extern const struct option_spec pvrdma_options[];

/* @loop serves the data path. NULL with @error set, and nothing left behind. */
struct pvrdma *pvrdma_create(const char *name, const struct options *options,
                             const struct pvrdma_nic *nic, const struct pci_environment *env,
                             struct loop *loop, GError **error);
void pvrdma_destroy(struct pvrdma *pvrdma); /* detached before; NULL is allowed */
struct pci_function *pvrdma_function(struct pvrdma *pvrdma);
/* Any of the interface's answers may be another one now. Any thread. */
void pvrdma_nic_changed(struct pvrdma *pvrdma);
/* For statistics and tests; owned by the device. */
struct rdma *pvrdma_backend(struct pvrdma *pvrdma);

#endif
