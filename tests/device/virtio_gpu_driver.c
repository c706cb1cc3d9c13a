/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio_gpu_driver - the driver's side of virtio/gpu (virtio_gpu.h) */
#include <string.h>

#include "tests/device/virtio_gpu.h"

#define COMMAND_BYTES (128u << 10)

static void on_changed(void *opaque)
{
}

static void attach(struct gpu_fixture *f, const char *text, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(virtio_gpu_options, "--gpu", text, &error);

    g_assert_no_error(error);
    f->display = display_create();
    f->vdev = virtio_gpu_create(options, f->h->loop, f->display, &error);
    g_assert_no_error(error);
    f->viewer = display_add_viewer(f->display, f->h->loop, on_changed, NULL);
    f->vpci = virtio_pci_create(f->vdev, name, &f->h->env, true, &error);
    g_assert_no_error(error);
    f->driver = virtio_driver_create(f->h, f->vpci);
}

static void detach(struct gpu_fixture *f)
{
    virtio_driver_destroy(f->driver);
    display_remove_viewer(f->viewer);
    virtio_pci_destroy(f->vpci);
    display_destroy(f->display);
}

void gpu_set_up(struct gpu_fixture *f, const char *options)
{
    memset(f, 0, sizeof(*f));
    f->h = harness_create(0);
    attach(f, options, "gpu0");
    f->command = harness_alloc(f->h, COMMAND_BYTES, 4096);
    f->response = harness_alloc(f->h, 4096, 4096);
    f->pixels = harness_alloc(f->h, PIXELS, 4096);
}

void gpu_start(struct gpu_fixture *f)
{
    virtio_driver_start(f->driver, f->vdev->class->features & f->vdev->offered);
}

void gpu_tear_down(struct gpu_fixture *f)
{
    detach(f);
    harness_destroy(f->h);
}

void gpu_attach_other(struct gpu_fixture *other, const struct gpu_fixture *f, const char *options)
{
    *other = *f;
    attach(other, options, "gpu1");
}

void gpu_detach_other(struct gpu_fixture *other)
{
    detach(other);
}

uint32_t gpu_send(struct gpu_fixture *f, unsigned queue, const void *command, size_t size,
                  const void *list, size_t list_size, uint32_t room)
{
    struct driver_buffer out[2] = {{f->command, size}, {f->command + size, list_size}};
    struct driver_buffer in = {f->response, room};

    g_assert_cmpuint(size + list_size, <=, COMMAND_BYTES);
    harness_write(f->h, f->command, command, size);
    if (list_size)
        harness_write(f->h, f->command + size, list, list_size);
    memset(harness_ptr(f->h, f->response, 4096), 0xee, 4096);
    f->written = virtio_driver_request(f->driver, queue, out, list_size ? 2 : 1, &in, room ? 1 : 0);
    g_assert_cmpint(f->written, >=, 0);
    return harness_load(f->h, f->response, 4);
}

void gpu_response(struct gpu_fixture *f, void *response, size_t size)
{
    g_assert_cmpint(f->written, ==, size);
    harness_read(f->h, f->response, response, size);
}

static uint32_t control(struct gpu_fixture *f, const void *command, size_t size)
{
    return gpu_send(f, 0, command, size, NULL, 0, 4096);
}

uint32_t gpu_simple(struct gpu_fixture *f, uint32_t type)
{
    struct virtio_gpu_ctrl_hdr header = {.type = type};

    return control(f, &header, sizeof(header));
}

uint32_t gpu_create(struct gpu_fixture *f, uint32_t id, uint32_t format, uint32_t width,
                    uint32_t height)
{
    struct virtio_gpu_resource_create_2d command = {
        {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D}, id, format, width, height};

    return control(f, &command, sizeof(command));
}

uint32_t gpu_unref_resource(struct gpu_fixture *f, uint32_t id)
{
    struct virtio_gpu_resource_unref command = {{.type = VIRTIO_GPU_CMD_RESOURCE_UNREF}, id};

    return control(f, &command, sizeof(command));
}

uint32_t gpu_attach(struct gpu_fixture *f, uint32_t id, const struct virtio_gpu_mem_entry *entries,
                    uint32_t count)
{
    struct virtio_gpu_resource_attach_backing command = {
        {.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING}, id, count};

    return gpu_send(f, 0, &command, sizeof(command), entries, count * sizeof(*entries), 4096);
}

uint32_t gpu_attach_plain(struct gpu_fixture *f, uint32_t id, uint32_t bytes)
{
    struct virtio_gpu_mem_entry entry = {f->pixels, bytes};

    return gpu_attach(f, id, &entry, 1);
}

uint32_t gpu_detach(struct gpu_fixture *f, uint32_t id)
{
    struct virtio_gpu_resource_detach_backing command = {
        {.type = VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING}, id};

    return control(f, &command, sizeof(command));
}

uint32_t gpu_scanout(struct gpu_fixture *f, uint32_t scanout, uint32_t id, uint32_t x, uint32_t y,
                     uint32_t width, uint32_t height)
{
    struct virtio_gpu_set_scanout command = {
        {.type = VIRTIO_GPU_CMD_SET_SCANOUT}, {x, y, width, height}, scanout, id};

    return control(f, &command, sizeof(command));
}

uint32_t gpu_copy(struct gpu_fixture *f, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                  uint32_t height, uint64_t offset)
{
    struct virtio_gpu_transfer_to_host_2d command = {
        {.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D}, {x, y, width, height}, offset, id};

    return control(f, &command, sizeof(command));
}

uint32_t gpu_flush_rect(struct gpu_fixture *f, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                        uint32_t height)
{
    struct virtio_gpu_resource_flush command = {
        {.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH}, {x, y, width, height}, id};

    return control(f, &command, sizeof(command));
}

uint32_t gpu_cursor(struct gpu_fixture *f, uint32_t type, uint32_t scanout, uint32_t id, int32_t x,
                    int32_t y, uint32_t hot_x, uint32_t hot_y)
{
    struct virtio_gpu_update_cursor command = {{.type = type}, {scanout, x, y}, id, hot_x, hot_y};

    return gpu_send(f, 1, &command, sizeof(command), NULL, 0, 4096);
}

uint32_t gpu_context(struct gpu_fixture *f, uint32_t id, uint32_t init)
{
    struct virtio_gpu_ctx_create command = {
        .hdr = {.type = VIRTIO_GPU_CMD_CTX_CREATE, .ctx_id = id}, .nlen = 4, .debug_name = "test"};

#ifdef HAVE_VIRTIO_GPU_CONTEXT_INIT
    command.context_init = init;
#endif
    return control(f, &command, sizeof(command));
}

uint32_t gpu_tell_context(struct gpu_fixture *f, uint32_t type, uint32_t context, uint32_t id)
{
    struct virtio_gpu_ctx_resource command = {.hdr = {.type = type, .ctx_id = context},
                                              .resource_id = id};

    return control(f, &command, sizeof(command));
}

struct virtio_gpu_resource_create_3d gpu_texture(uint32_t id, uint32_t width, uint32_t height)
{
    return (struct virtio_gpu_resource_create_3d){
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_3D},
        .resource_id = id,
        .target = 2, /* PIPE_TEXTURE_2D */
        .format = BGRX,
        .bind = 1 << 1 | 1 << 3, /* render target, sampler view */
        .width = width,
        .height = height,
        .depth = 1,
        .array_size = 1,
        .flags = VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP,
    };
}

uint32_t gpu_submit_words(struct gpu_fixture *f, uint32_t context, const uint32_t *words,
                          unsigned count)
{
    struct virtio_gpu_cmd_submit command = {
        .hdr = {.type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = context}, .size = 4 * count};

    return gpu_send(f, 0, &command, sizeof(command), words, 4 * (size_t)count, 4096);
}

#ifdef HAVE_VIRTIO_GPU_BLOB
uint32_t gpu_blob(struct gpu_fixture *f, uint32_t id, uint64_t size,
                  const struct virtio_gpu_mem_entry *entries, uint32_t count)
{
    struct virtio_gpu_resource_create_blob command = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB},
        .resource_id = id,
        .blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST,
        .blob_flags = VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE,
        .nr_entries = count,
        .size = size,
    };

    return gpu_send(f, 0, &command, sizeof(command), entries, count * sizeof(*entries), 4096);
}
#endif

uint32_t gpu_pixel(uint32_t x, uint32_t y)
{
    return (x * 0x10101 ^ y * 0x2f05) & 0xffffff;
}

void gpu_draw(struct gpu_fixture *f, uint64_t gpa, uint32_t width, uint32_t height, uint32_t stride)
{
    for (uint32_t y = 0; y < height; y++) {
        uint32_t *row = harness_ptr(f->h, gpa + (uint64_t)y * stride, 4 * width);

        for (uint32_t x = 0; x < width; x++)
            row[x] = gpu_pixel(x, y);
    }
}

uint32_t gpu_shown(struct gpu_fixture *f, unsigned scanout, uint32_t x, uint32_t y)
{
    g_autoptr(display_surface_t) surface = display_look(f->display, scanout);
    uint32_t pixel;

    g_assert_nonnull(surface);
    g_assert_cmpuint(x, <, surface->width);
    g_assert_cmpuint(y, <, surface->height);
    memcpy(&pixel, surface->pixels + (size_t)y * surface->stride + 4 * x, 4);
    return pixel & 0xffffff;
}

uint32_t gpu_config(struct gpu_fixture *f, unsigned offset)
{
    return virtio_driver_config(f->driver, offset, 4);
}
