/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gpu - the virtio GPU (virtio 1.3, 5.7; stock driver: virtio_gpu)
 *
 *     --gpu scanouts=2,width=1920,height=1080
 *
 * Needs pixman; without it virtio_gpu_create() says so. With virgl=on: 3D, by virglrenderer and the host's
 * OpenGL, which keep @loop for as long as they draw: it should have a thread of its own.
 */
#ifndef VIRTIO_GPU_H
#define VIRTIO_GPU_H

#include <glib.h>

#include "virtio/device.h"
#include "vmm/options.h"

struct display;

/* The device's keys, and those of every virtio device. */
extern const struct option_spec virtio_gpu_options[];

/*
 * A device whose data path runs on @loop and whose scanouts come after those that @display has. Main
 * thread; the caller gives it to a transport, which destroys it (class->destroy), before @display.
 */
struct virtio_device *virtio_gpu_create(const struct options *options, struct loop *loop,
                                        struct display *display, GError **error);

/* What the resources take now, bytes of memory=, and how many there are; on its loop, or in tests. */
uint64_t virtio_gpu_memory_used(const struct virtio_device *vdev);
unsigned virtio_gpu_resource_count(const struct virtio_device *vdev);

/* For tests, with virglrenderer: the library that virgl=on loads; NULL: this program's own functions. */
void virtio_gpu_set_library(const char *name);

#endif
