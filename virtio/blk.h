/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blk - the virtio block device (virtio 1.3, 5.2; stock driver: virtio_blk)
 *
 *     --disk path=a.img,serial=root,queues=2
 */
#ifndef VIRTIO_BLK_H
#define VIRTIO_BLK_H

#include <glib.h>

#include "virtio/device.h"
#include "vmm/options.h"

struct block;

/* The backend's keys (backends/block/block.h), the device's, and those of every virtio device. */
extern const struct option_spec virtio_blk_options[];

/*
 * Opens the disk and makes a device of it whose data path runs on @loop. Main thread; the caller
 * gives it to a transport, which destroys it (class->destroy). Errors as block_open, and of options.
 */
struct virtio_device *virtio_blk_create(const struct options *options, struct loop *loop,
                                        GError **error);

/* The disk behind it, for its counters and description; the device's own. */
const struct block *virtio_blk_backend(const struct virtio_device *vdev);

#endif
