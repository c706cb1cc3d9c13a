/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rng - virtio entropy source (virtio 1.3, 5.4): device id 4, stock virtio_rng driver (hwrng)
 *
 * Thread: the loop given at creation.
 */
#ifndef VIRTIO_RNG_H
#define VIRTIO_RNG_H

#include "virtio/device.h"
#include "vmm/options.h"

/* Keys: max-bytes and period (at most so many bytes in so many ms), and those of every device. */
extern const struct option_spec virtio_rng_options[];

struct virtio_device *virtio_rng_create(const struct options *options, struct loop *loop,
                                        GError **error);

#endif
