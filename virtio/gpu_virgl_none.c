/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gpu_virgl_none - gpu_virgl.h where lodge is built without virglrenderer: there is no 3D */
#include <errno.h>

#include "virtio/gpu_virgl.h"

struct gpu_virgl *gpu_virgl_create(struct virtio_gpu *gpu, GError **error)
{
    g_set_error(error, OPTIONS_ERROR, 0,
                "this lodge was built without virglrenderer; install it (Debian: apt-get install "
                "libvirglrenderer-dev) and build again");
    return NULL;
}

/* Nobody has a renderer, and no resource is one's. */
void gpu_virgl_destroy(struct gpu_virgl *virgl)
{
}

void gpu_virgl_reset(struct gpu_virgl *virgl)
{
}

void gpu_virgl_drop_fences(struct gpu_virgl *virgl)
{
}

unsigned gpu_virgl_capsets(const struct gpu_virgl *virgl)
{
    return 0;
}

bool gpu_virgl_defer(struct virtio_gpu *gpu, const struct gpu_command *command)
{
    return false;
}

void gpu_virgl_unref(struct virtio_gpu *gpu, struct gpu_resource *resource)
{
}

int gpu_virgl_attach(struct virtio_gpu *gpu, struct gpu_resource *resource)
{
    return -ENOTSUP;
}

void gpu_virgl_detach(struct virtio_gpu *gpu, struct gpu_resource *resource)
{
}

int gpu_virgl_read(const struct gpu_resource *resource, uint32_t x, uint32_t y, uint32_t width,
                   uint32_t rows, void *pixels)
{
    return -ENOTSUP;
}

int gpu_virgl_write(const struct gpu_resource *resource, const struct display_rect *rect,
                    uint64_t offset)
{
    return -ENOTSUP;
}
