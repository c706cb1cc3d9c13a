/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input - virtio input devices (virtio 1.3, 5.8): device id 18, stock driver virtio_input
 *
 *     --device virtio-input,type=keyboard|tablet|mouse|touch
 *
 * Thread: the loop given at creation.
 */
#ifndef VIRTIO_INPUT_H
#define VIRTIO_INPUT_H

#include "virtio/device.h"
#include "vmm/options.h"

struct display;

/* Keys: type, name, serial, scanout, and those of every device. */
extern const struct option_spec virtio_input_options[];

/* A device that takes what display_send() has for its type. The caller gives it to a transport, which
 * destroys it (class->destroy), before @display. Main thread. */
struct virtio_device *virtio_input_create(const struct options *options, struct loop *loop,
                                          struct display *display, GError **error);

#endif
