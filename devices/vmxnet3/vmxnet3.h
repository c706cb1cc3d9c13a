/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmxnet3 - a paravirtual network interface of another house's making, for guests whose driver it is
 *
 * PCI 15ad:07b0, revision 3 of the device interface. Stock driver: vmxnet3. It is also function 0 of
 * the slot in which a pvrdma adapter is function 1: that device asks here for address, link and MTU,
 * and listens for changes.
 *
 * Threads: created and destroyed on the main thread; the data path on the loop given at creation. The
 * questions below may be asked from any thread.
 */
#ifndef DEVICES_VMXNET3_VMXNET3_H
#define DEVICES_VMXNET3_VMXNET3_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "pci/function.h"
#include "vmm/options.h"

struct net;
struct vmxnet3;

/* Keys: mac, and those of the backend (backends/net/net.h). */
extern const struct option_spec vmxnet3_options[];

/* @loop serves the data path. NULL with @error set, and nothing left behind. */
struct vmxnet3 *vmxnet3_create(const char *name, const struct options *options,
                               const struct pci_environment *env, struct loop *loop,
                               GError **error);
void vmxnet3_destroy(struct vmxnet3 *vmxnet3); /* detached before; NULL is allowed */
struct pci_function *vmxnet3_function(struct vmxnet3 *vmxnet3);
/* For statistics and tests; owned by the device, used on its loop. */
struct net *vmxnet3_backend(struct vmxnet3 *vmxnet3);
/* Plugs the cable in or out; the link is up only while the backend's is, too. Main thread. */
void vmxnet3_set_link(struct vmxnet3 *vmxnet3, bool up);
/* The machine has come to another place: a frame in the guest's name tells the network of it. The
 * device is in RUNNING. Main thread. */
void vmxnet3_announce(struct vmxnet3 *vmxnet3);

/* ---- for the other functions of the slot ---- */

/* The address in use: the driver's choice, else the device's own. */
void vmxnet3_mac(struct vmxnet3 *vmxnet3, uint8_t mac[6]);
/* Can frames pass: the cable is in, the host side is up. What the driver does has no part in it. */
bool vmxnet3_link_up(struct vmxnet3 *vmxnet3);
/* Has the driver activated the interface (and not quiesced it since)? */
bool vmxnet3_active(struct vmxnet3 *vmxnet3);
/* Bytes, as the driver set it at its last activation; 1500 before the first. */
unsigned vmxnet3_mtu(struct vmxnet3 *vmxnet3);

/*
 * Called after any of the four answers changed, on vmxnet3's loop, with no lock held; several changes
 * may come as one call. One listener; NULL: none, and no call comes after the function returned.
 * Main thread.
 */
typedef void (*vmxnet3_listener_fn)(void *opaque);
void vmxnet3_set_listener(struct vmxnet3 *vmxnet3, vmxnet3_listener_fn changed, void *opaque);

#endif
