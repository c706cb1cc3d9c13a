/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net - virtio network device (virtio 1.3, 5.1): device id 1, stock virtio_net driver
 *
 * Thread: the loop given at creation; virtio_net_set_link and creation from the main thread.
 */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include "virtio/device.h"
#include "vmm/options.h"

struct net;

/* Keys: mac, offloads, and those of the backend (backends/net/net.h) and of every virtio device. */
extern const struct option_spec virtio_net_options[];

struct virtio_device *virtio_net_create(const struct options *options, struct loop *loop,
                                        GError **error);
/* For statistics and tests; owned by the device, used on its loop. */
struct net *virtio_net_backend(struct virtio_device *vdev);
/* Plugs the cable in or out (VIRTIO_NET_S_LINK_UP); it is up only while the backend's is, too. */
void virtio_net_set_link(struct virtio_device *vdev, bool up);
/* The machine has come to another place: the driver is asked to tell the network of it if it knows
 * how (VIRTIO_NET_F_GUEST_ANNOUNCE, 5.1.6.5.4), else a frame is sent in its name. The device
 * is in RUNNING. Main thread. */
void virtio_net_announce(struct virtio_device *vdev);

#endif
