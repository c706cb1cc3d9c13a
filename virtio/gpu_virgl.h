/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gpu_virgl - 3D for virtio/gpu, through virglrenderer; for the files of virtio/gpu, and tests
 *
 * One renderer a process: the library has one state. All of its calls come on the device's loop, whose
 * thread GL's current context belongs to.
 *
 * Built without virglrenderer, gpu_virgl_create() says so, and nothing else is called.
 */
#ifndef VIRTIO_GPU_VIRGL_H
#define VIRTIO_GPU_VIRGL_H

#include <glib.h>

#include "virtio/gpu_private.h"

struct gpu_virgl;

/* Loads the library and starts it on the device's loop. Main thread. NULL with @error set: which library
 * or permission is missing. */
struct gpu_virgl *gpu_virgl_create(struct virtio_gpu *gpu, GError **error);
void gpu_virgl_destroy(
    struct gpu_virgl *virgl); /* main thread; after gpu_virgl_reset(); NULL is allowed */

/* Capability sets that a driver may ask for: 0 to 2. */
unsigned gpu_virgl_capsets(const struct gpu_virgl *virgl);

/* ---- on the loop ---- */

gpu_handler gpu_get_capset_info, gpu_get_capset, gpu_create_context, gpu_destroy_context;
gpu_handler gpu_attach_resource, gpu_detach_resource, gpu_create_3d, gpu_submit;
gpu_handler gpu_transfer_to_3d, gpu_transfer_from_3d;

/* No contexts and no fences; resources are gone before. */
void gpu_virgl_reset(struct gpu_virgl *virgl);
/* Forgets the answers that wait: their queue is gone. */
void gpu_virgl_drop_fences(struct gpu_virgl *virgl);
/*
 * If the answer to @command must wait for the GL: keeps what is needed of it and of its chain, answers
 * when the time has come, and returns true.
 */
bool gpu_virgl_defer(struct virtio_gpu *gpu, const struct gpu_command *command);

/* Of a 3D resource: the library's part of it. */
void gpu_virgl_unref(struct virtio_gpu *gpu, struct gpu_resource *resource);
/* 0, or -errno: the backing that it has now is the library's, too. */
int gpu_virgl_attach(struct virtio_gpu *gpu, struct gpu_resource *resource);
void gpu_virgl_detach(struct virtio_gpu *gpu, struct gpu_resource *resource);
/* Rows [y, y + rows) of @width pixels, from @x on, to @pixels, in the resource's format. 0 or -errno. */
int gpu_virgl_read(const struct gpu_resource *resource, uint32_t x, uint32_t y, uint32_t width,
                   uint32_t rows, void *pixels);
/* From its backing, as TRANSFER_TO_HOST_2D says. 0 or -errno. */
int gpu_virgl_write(const struct gpu_resource *resource, const struct display_rect *rect,
                    uint64_t offset);

#endif
