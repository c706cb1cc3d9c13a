/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p - a host directory for the guest: virtio 9P transport (device id 9), stock 9pnet_virtio driver
 *
 *     --share path=/srv,tag=srv        mount -t 9p -o trans=virtio,version=9p2000.L srv /mnt
 *
 * One device a share. What a guest can and can't do in the directory: backends/fs/share.h.
 *
 * Thread: the loop given at creation; file I/O runs on threads of the device's own.
 */
#ifndef VIRTIO_9P_H
#define VIRTIO_9P_H

#include "virtio/device.h"
#include "vmm/options.h"

/* Keys: path, tag, readonly, security (passthrough, none), threads, and those of every device. */
extern const struct option_spec virtio_9p_options[];

/* Errors: a bad path (backends/fs/share.h), a tag that is empty or too long, no thread. */
struct virtio_device *virtio_9p_create(const struct options *options, struct loop *loop,
                                       GError **error);

/* Of a device that a saved state was loaded into: is what the guest has cached of the directory still
 * right? False, too, if that can't be known. Main thread. */
bool virtio_9p_is_unchanged(struct virtio_device *vdev);

#endif
