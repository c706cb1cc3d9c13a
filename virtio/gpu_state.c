/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gpu_state - virtio/gpu saved and loaded
 *
 * What is saved is a picture of its own (struct gpu_saved_*), made before saving, so that loading never
 * writes to memory that viewers look at. Loading carries it out as commands would be, with all their
 * checks. A command that is not done when the device comes to rest goes back to its ring, with its
 * fence, and is done again from the start. Copies of blobs are made again when the guest goes on.
 */
#include <gio/gio.h>
#include <string.h>

#include "virtio/gpu_private.h"
#include "vmm/state.h"

#define CURSOR_BYTES (GPU_CURSOR * GPU_CURSOR * GPU_BYTES)
#define PIXELS_MAX   (UINT64_C(2) << 30)

static const struct state_field resource_fields[] = {
    STATE_U32(struct gpu_saved_resource, id, 1),
    STATE_BOOL(struct gpu_saved_resource, blob, 1),
    STATE_BOOL(struct gpu_saved_resource, has_uuid, 1),
    STATE_BOOL(struct gpu_saved_resource, has_backing, 1),
    STATE_U32(struct gpu_saved_resource, format, 1),
    STATE_U32(struct gpu_saved_resource, width, 1),
    STATE_U32(struct gpu_saved_resource, height, 1),
    STATE_U64(struct gpu_saved_resource, size, 1),
    STATE_BYTES(struct gpu_saved_resource, uuid, 1),
    STATE_BUFFER(struct gpu_saved_resource, entries,
                 GPU_MAX_ENTRIES * sizeof(struct virtio_gpu_mem_entry), 1),
    STATE_BUFFER(struct gpu_saved_resource, pixels, PIXELS_MAX, 1),
    STATE_END,
};
static const struct state_table resource_state = {"gpu-resource", 1, 1, resource_fields};

static const struct state_field scanout_fields[] = {
    STATE_U32(struct gpu_saved_scanout, width, 1),
    STATE_U32(struct gpu_saved_scanout, height, 1),
    STATE_BOOL(struct gpu_saved_scanout, enabled, 1),
    STATE_U32(struct gpu_saved_scanout, resource_id, 1),
    STATE_U32(struct gpu_saved_scanout, x, 1),
    STATE_U32(struct gpu_saved_scanout, y, 1),
    STATE_U32(struct gpu_saved_scanout, shown_width, 1),
    STATE_U32(struct gpu_saved_scanout, shown_height, 1),
    STATE_U32(struct gpu_saved_scanout, format, 1),
    STATE_U32(struct gpu_saved_scanout, frame_width, 1),
    STATE_U32(struct gpu_saved_scanout, frame_height, 1),
    STATE_U32(struct gpu_saved_scanout, stride, 1),
    STATE_U64(struct gpu_saved_scanout, offset, 1),
    STATE_BUFFER(struct gpu_saved_scanout, cursor, CURSOR_BYTES, 1),
    STATE_U32(struct gpu_saved_scanout, hot_x, 1),
    STATE_U32(struct gpu_saved_scanout, hot_y, 1),
    STATE_U32(struct gpu_saved_scanout, cursor_x, 1),
    STATE_U32(struct gpu_saved_scanout, cursor_y, 1),
    STATE_END,
};
static const struct state_table scanout_state = {"gpu-scanout", 1, 1, scanout_fields};

static const struct state_field gpu_fields[] = {
    STATE_U32(struct virtio_gpu, saved_scanout_count, 1),
    STATE_STRUCTS(struct virtio_gpu, saved_scanouts, false, saved_scanout_count,
                  DISPLAY_MAX_SCANOUTS, &scanout_state, 1),
    STATE_U32(struct virtio_gpu, saved_resource_count, 1),
    STATE_STRUCTS(struct virtio_gpu, saved_resources, true, saved_resource_count, GPU_MAX_RESOURCES,
                  &resource_state, 1),
    STATE_END,
};
const struct state_table gpu_state = {"gpu", 1, 1, gpu_fields};

static void clear_buffer(GByteArray **buffer)
{
    g_clear_pointer(buffer, g_byte_array_unref);
}

void gpu_clear_saved(struct virtio_gpu *gpu)
{
    for (unsigned i = 0; i < DISPLAY_MAX_SCANOUTS; i++)
        clear_buffer(&gpu->saved_scanouts[i].cursor);
    for (uint32_t i = 0; i < MIN(gpu->saved_resource_count, GPU_MAX_RESOURCES); i++) {
        clear_buffer(&gpu->saved_resources[i].entries);
        clear_buffer(&gpu->saved_resources[i].pixels);
    }
    gpu->saved_scanout_count = gpu->saved_resource_count = 0;
}

/* ---- saving ---- */

static GByteArray *copy_of(const void *data, size_t size)
{
    GByteArray *buffer = g_byte_array_sized_new(size);

    g_byte_array_append(buffer, data, size);
    return buffer;
}

static void save_resource(struct gpu_saved_resource *saved, const struct gpu_resource *resource)
{
    *saved = (struct gpu_saved_resource){
        .id = resource->id,
        .blob = resource->blob,
        .has_uuid = resource->has_uuid,
        .has_backing = resource->entries != NULL,
        .format = resource->format,
        .width = resource->width,
        .height = resource->height,
        .size = resource->size,
    };
    memcpy(saved->uuid, resource->uuid, sizeof(saved->uuid));
    if (resource->entries)
        saved->entries =
            copy_of(resource->entries, (size_t)resource->entry_count * sizeof(*resource->entries));
    if (resource->pixels)
        saved->pixels = copy_of(resource->pixels->pixels, resource->size);
}

static void save_scanout(struct gpu_saved_scanout *saved, const struct gpu_scanout *scanout)
{
    *saved = (struct gpu_saved_scanout){
        .width = scanout->width,
        .height = scanout->height,
        .enabled = scanout->enabled,
        .hot_x = scanout->hot_x,
        .hot_y = scanout->hot_y,
        .cursor_x = scanout->cursor_x,
        .cursor_y = scanout->cursor_y,
    };
    if (scanout->cursor)
        saved->cursor = copy_of(scanout->cursor->pixels, CURSOR_BYTES);
    if (!scanout->resource)
        return;
    saved->resource_id = scanout->resource->id;
    saved->x = scanout->rect.x;
    saved->y = scanout->rect.y;
    saved->shown_width = scanout->rect.width;
    saved->shown_height = scanout->rect.height;
    saved->format = scanout->format;
    saved->frame_width = scanout->frame_width;
    saved->frame_height = scanout->frame_height;
    saved->stride = scanout->stride;
    saved->offset = scanout->offset;
}

void gpu_before_save(struct virtio_device *vdev)
{
    struct virtio_gpu *gpu = (struct virtio_gpu *)vdev;
    GHashTableIter iter;
    gpointer resource;

    gpu_clear_saved(gpu);
    for (unsigned i = 0; i < gpu->scanout_count; i++)
        save_scanout(&gpu->saved_scanouts[i], &gpu->scanouts[i]);
    gpu->saved_scanout_count = gpu->scanout_count;
    g_hash_table_iter_init(&iter, gpu->resources);
    while (g_hash_table_iter_next(&iter, NULL, &resource))
        save_resource(&gpu->saved_resources[gpu->saved_resource_count++], resource);
}

/* ---- loading ---- */

static bool fail(struct virtio_gpu *gpu, GError **error, const char *what, uint32_t number,
                 uint32_t response)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                "%s: saved state: %s %u can't be (response 0x%x)", gpu->vdev.device->name, what,
                number, response);
    return false;
}

/* The list's own memory, out of its buffer. */
static struct virtio_gpu_mem_entry *take_entries(struct gpu_saved_resource *saved, uint32_t *count)
{
    *count = saved->entries ? saved->entries->len / sizeof(struct virtio_gpu_mem_entry) : 0;
    if (!saved->entries)
        return NULL;
    return (struct virtio_gpu_mem_entry *)(void *)g_byte_array_free(
        g_steal_pointer(&saved->entries), FALSE);
}

static bool load_resource(struct virtio_gpu *gpu, struct gpu_saved_resource *saved, GError **error)
{
    uint32_t response = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, count = 0;
    struct virtio_gpu_mem_entry *entries = NULL;
    struct gpu_resource *resource = NULL;

    if (saved->has_backing && !(entries = take_entries(saved, &count)))
        return fail(gpu, error, "backing of resource", saved->id, response);
    if (saved->blob && entries && saved->size) {
        response = gpu_new_blob(gpu, saved->id, saved->size, entries, count, &resource);
    } else if (!saved->blob) {
        response =
            gpu_new_2d(gpu, saved->id, saved->format, saved->width, saved->height, &resource);
        if (response != VIRTIO_GPU_RESP_OK_NODATA)
            g_free(entries);
        else if (entries)
            response = gpu_set_backing(gpu, resource, entries, count);
    } else {
        g_free(entries);
    }
    if (response == VIRTIO_GPU_RESP_OK_NODATA && !saved->blob) {
        if (!saved->pixels || saved->pixels->len != resource->size)
            response = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
        else
            memcpy(resource->pixels->pixels, saved->pixels->data, resource->size);
        clear_buffer(&saved->pixels);
    }
    if (response != VIRTIO_GPU_RESP_OK_NODATA)
        return fail(gpu, error, "resource", saved->id, response);
    resource->has_uuid = saved->has_uuid;
    memcpy(resource->uuid, saved->uuid, sizeof(resource->uuid));
    return true;
}

static bool load_scanout(struct virtio_gpu *gpu, unsigned index, GError **error)
{
    const struct gpu_saved_scanout *saved = &gpu->saved_scanouts[index];
    struct gpu_scanout *scanout = &gpu->scanouts[index];
    struct gpu_scanout wanted = {
        .resource = gpu_find_resource(gpu, saved->resource_id),
        .rect = {saved->x, saved->y, saved->shown_width, saved->shown_height},
        .format = saved->format,
        .frame_width = saved->frame_width,
        .frame_height = saved->frame_height,
        .stride = saved->stride,
        .offset = saved->offset,
    };
    uint32_t response = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;

    if (saved->width > DISPLAY_MAX_SIZE || saved->height > DISPLAY_MAX_SIZE || !saved->width ||
        !saved->height || saved->hot_x >= GPU_CURSOR || saved->hot_y >= GPU_CURSOR ||
        (saved->cursor && saved->cursor->len && saved->cursor->len != CURSOR_BYTES))
        return fail(gpu, error, "scanout", index, response);
    scanout->width = saved->width;
    scanout->height = saved->height;
    scanout->enabled = saved->enabled;
    if (wanted.resource && !wanted.resource->blob) {
        wanted.format = wanted.resource->format;
        wanted.frame_width = wanted.resource->width;
        wanted.frame_height = wanted.resource->height;
    }
    if (saved->resource_id)
        response = wanted.resource ? gpu_show(gpu, index, &wanted) : response;
    if (saved->resource_id && response != VIRTIO_GPU_RESP_OK_NODATA)
        return fail(gpu, error, "picture of scanout", index, response);
    if (saved->cursor && saved->cursor->len) {
        scanout->cursor = display_surface_create(GPU_CURSOR, GPU_CURSOR);
        if (scanout->cursor)
            memcpy(scanout->cursor->pixels, saved->cursor->data, CURSOR_BYTES);
    }
    scanout->hot_x = saved->hot_x;
    scanout->hot_y = saved->hot_y;
    scanout->cursor_x = (int32_t)saved->cursor_x;
    scanout->cursor_y = (int32_t)saved->cursor_y;
    gpu_show_cursor(gpu, index);
    return true;
}

bool gpu_after_load(struct virtio_device *vdev, GError **error)
{
    struct virtio_gpu *gpu = (struct virtio_gpu *)vdev;
    bool done = gpu->saved_scanout_count == gpu->scanout_count;

    if (!done)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%s: saved state: %u scanouts, this device has %u", vdev->device->name,
                    gpu->saved_scanout_count, gpu->scanout_count);
    for (uint32_t i = 0; done && i < gpu->saved_resource_count; i++)
        done = load_resource(gpu, &gpu->saved_resources[i], error);
    for (unsigned i = 0; done && i < gpu->scanout_count; i++)
        done = load_scanout(gpu, i, error);
    gpu->job = (struct gpu_job){0}; /* copies are made on resume */
    gpu_clear_saved(gpu);
    return done;
}
