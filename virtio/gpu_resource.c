/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gpu_resource - resources of virtio/gpu: pixels on the host, backing in the guest (virtio 1.3, 5.7.6)
 *
 * A 2D resource has its pixels in a display_surface, so that viewers may keep it after the guest gave it
 * up; its memory is untouched until the guest draws. A backing list is copied, checked and turned into
 * runs of host memory once, neighbours joined; guest RAM stays where it is as long as the machine lives.
 *
 * Every byte that a guest can make the host keep is charged to memory=; beyond it the answer is
 * OUT_OF_MEMORY.
 */
#include <string.h>
#include <sys/random.h>

#include "virtio/gpu_virgl.h"
#include "vmm/iov.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_gpu_resource,
            "%s id=%u %ux%u format=%u bytes=%" G_GUINT64_FORMAT " used=%" G_GUINT64_FORMAT,
            (const char *device, uint32_t id, uint32_t width, uint32_t height, uint32_t format,
             uint64_t bytes, uint64_t used),
            device, id, width, height, format, bytes, used)

/* ---- the budget ---- */

bool gpu_charge(struct virtio_gpu *gpu, uint64_t bytes)
{
    if (bytes > gpu->memory - gpu->used)
        return false;
    gpu->used += bytes;
    return true;
}

void gpu_uncharge(struct virtio_gpu *gpu, uint64_t bytes)
{
    gpu->used -= bytes;
}

/* ---- the table ---- */

struct gpu_resource *gpu_find_resource(struct virtio_gpu *gpu, uint32_t id)
{
    return g_hash_table_lookup(gpu->resources, GUINT_TO_POINTER(id));
}

static void drop_backing(struct gpu_resource *resource)
{
    g_clear_pointer(&resource->entries, g_free);
    g_clear_pointer(&resource->pieces, g_free);
    resource->entry_count = resource->piece_count = 0;
    resource->backing = 0;
}

void gpu_free_resource(gpointer data)
{
    struct gpu_resource *resource = data;

    drop_backing(resource);
    display_surface_unref(resource->pixels);
    g_free(resource);
}

uint32_t gpu_check_new(struct virtio_gpu *gpu, uint32_t id)
{
    if (!id || gpu_find_resource(gpu, id))
        return gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "new resource %u: %s", id,
                         id ? "there is one" : "0 is none");
    if (g_hash_table_size(gpu->resources) >= GPU_MAX_RESOURCES)
        return gpu_error(gpu, ERR_OUT_OF_MEMORY, "new resource %u: there are %u already", id,
                         GPU_MAX_RESOURCES);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t gpu_over_budget(struct virtio_gpu *gpu, uint32_t id, uint64_t bytes)
{
    return gpu_error(gpu, ERR_OUT_OF_MEMORY,
                     "resource %u: %" G_GUINT64_FORMAT " bytes, of %" G_GUINT64_FORMAT
                     " (memory=) %" G_GUINT64_FORMAT " are left",
                     id, bytes, gpu->memory, gpu->memory - gpu->used);
}

struct gpu_resource *gpu_add_resource(struct virtio_gpu *gpu, uint32_t id, uint64_t size,
                                      uint64_t charged)
{
    struct gpu_resource *resource = g_new0(struct gpu_resource, 1);

    resource->id = id;
    resource->size = size;
    resource->charged = charged;
    g_hash_table_insert(gpu->resources, GUINT_TO_POINTER(id), resource);
    return resource;
}

void gpu_remove_resource(struct virtio_gpu *gpu, struct gpu_resource *resource)
{
    if (resource->is_3d)
        gpu_virgl_unref(gpu, resource);
    gpu_uncharge(gpu, resource->charged);
    g_hash_table_remove(gpu->resources, GUINT_TO_POINTER(resource->id));
}

uint32_t gpu_new_2d(struct virtio_gpu *gpu, uint32_t id, uint32_t format, uint32_t width,
                    uint32_t height, struct gpu_resource **result)
{
    uint64_t pixels = (uint64_t)width * height; /* at most 64 bits */
    uint64_t size = pixels * GPU_BYTES;
    uint32_t response = gpu_check_new(gpu, id);
    struct display_surface *surface;
    struct gpu_resource *resource;

    if (response != VIRTIO_GPU_RESP_OK_NODATA)
        return response;
    if (!gpu_pixman_format(format) || !pixels)
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "new resource %u: %ux%u in format %u", id,
                         width, height, format);
    if (pixels > gpu->memory || !gpu_charge(gpu, size + GPU_OVERHEAD))
        return gpu_over_budget(gpu, id, pixels > UINT64_MAX / GPU_BYTES ? UINT64_MAX : size);
    if (width > DISPLAY_MAX_SIZE || height > DISPLAY_MAX_SIZE) {
        gpu_uncharge(gpu, size + GPU_OVERHEAD);
        return gpu_error(gpu, ERR_INVALID_PARAMETER,
                         "new resource %u: %ux%u, at most %u are possible", id, width, height,
                         DISPLAY_MAX_SIZE);
    }
    surface = display_surface_create(width, height);
    if (!surface) {
        gpu_uncharge(gpu, size + GPU_OVERHEAD);
        return gpu_error(gpu, ERR_OUT_OF_MEMORY, "new resource %u: the host has no memory", id);
    }
    resource = gpu_add_resource(gpu, id, size, size + GPU_OVERHEAD);
    resource->pixels = surface;
    resource->format = format;
    resource->width = width;
    resource->height = height;
    trace_virtio_gpu_resource(gpu->vdev.device->name, id, width, height, format, size, gpu->used);
    *result = resource;
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t gpu_create_2d(struct virtio_gpu *gpu, struct gpu_command *command)
{
    struct gpu_resource *resource;

    return gpu_new_2d(
        gpu, GUINT32_FROM_LE(command->create.resource_id), GUINT32_FROM_LE(command->create.format),
        GUINT32_FROM_LE(command->create.width), GUINT32_FROM_LE(command->create.height), &resource);
}

uint32_t gpu_unref(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t id = GUINT32_FROM_LE(command->unref.resource_id);
    struct gpu_resource *resource = gpu_find_resource(gpu, id);

    if (!resource)
        return gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "unref: no resource %u", id);
    gpu_hide_resource(gpu, resource);
    gpu_remove_resource(gpu, resource);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* ---- backing ---- */

static uint64_t backing_charge(uint32_t count)
{
    return (uint64_t)count *
           (sizeof(struct virtio_gpu_mem_entry) + sizeof(struct gpu_piece) + sizeof(struct iovec));
}

static void remove_backing(struct virtio_gpu *gpu, struct gpu_resource *resource)
{
    uint64_t charge = backing_charge(resource->entry_count);

    gpu_uncharge(gpu, charge);
    resource->charged -= charge;
    drop_backing(resource);
}

/* Finds the entries in guest RAM. False: one is not there. */
static bool map_entries(struct virtio_gpu *gpu, const struct virtio_gpu_mem_entry *entries,
                        uint32_t count, struct gpu_piece *pieces, unsigned *piece_count,
                        uint64_t *bytes)
{
    unsigned n = 0;
    uint64_t total = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t length = GUINT32_FROM_LE(entries[i].length);
        const uint8_t *host;

        if (!length)
            continue;
        host = dma_map_ring(gpu->vdev.dma, GUINT64_FROM_LE(entries[i].addr), length);
        if (!host)
            return false;
        if (n && pieces[n - 1].host + pieces[n - 1].length == host)
            pieces[n - 1].length += length;
        else
            pieces[n++] = (struct gpu_piece){total, length, host};
        total += length;
    }
    *piece_count = n;
    *bytes = total;
    return true;
}

uint32_t gpu_set_backing(struct virtio_gpu *gpu, struct gpu_resource *resource,
                         struct virtio_gpu_mem_entry *entries, uint32_t count)
{
    struct gpu_piece *pieces = g_try_new(struct gpu_piece, count);
    unsigned piece_count = 0;
    uint64_t bytes = 0;

    if (!pieces || !gpu_charge(gpu, backing_charge(count))) {
        g_free(pieces);
        g_free(entries);
        return gpu_over_budget(gpu, resource->id, backing_charge(count));
    }
    if (!map_entries(gpu, entries, count, pieces, &piece_count, &bytes)) {
        gpu_uncharge(gpu, backing_charge(count));
        g_free(pieces);
        g_free(entries);
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "resource %u: backing outside of guest RAM",
                         resource->id);
    }
    resource->entries = entries;
    resource->entry_count = count;
    resource->pieces = g_renew(struct gpu_piece, pieces, MAX(piece_count, 1));
    resource->piece_count = piece_count;
    resource->backing = bytes;
    resource->charged += backing_charge(count);
    if (resource->is_3d && gpu_virgl_attach(gpu, resource)) {
        remove_backing(gpu, resource);
        return gpu_error(gpu, ERR_UNSPEC, "resource %u: the renderer takes no backing",
                         resource->id);
    }
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* The list behind a command; NULL with @response set. */
static struct virtio_gpu_mem_entry *read_entries(struct virtio_gpu *gpu,
                                                 const struct gpu_command *command, uint32_t id,
                                                 uint32_t count, uint32_t *response)
{
    uint64_t size = (uint64_t)count * sizeof(struct virtio_gpu_mem_entry);
    struct virtio_gpu_mem_entry *entries = NULL;

    if (!count || command->element->out_bytes < command->size + size) {
        *response =
            gpu_error(gpu, ERR_INVALID_PARAMETER,
                      "resource %u: a backing list of %u entries in %" G_GUINT64_FORMAT " bytes",
                      id, count, command->element->out_bytes);
        return NULL;
    }
    if (count <= GPU_MAX_ENTRIES && backing_charge(count) <= gpu->memory - gpu->used)
        entries = g_try_malloc(size);
    if (entries)
        iov_read(command->element->iov, command->element->out_count, command->size, entries, size);
    else
        *response = gpu_over_budget(gpu, id, backing_charge(count));
    return entries;
}

uint32_t gpu_attach_backing(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t id = GUINT32_FROM_LE(command->attach.resource_id);
    uint32_t count = GUINT32_FROM_LE(command->attach.nr_entries), response;
    struct gpu_resource *resource = gpu_find_resource(gpu, id);
    struct virtio_gpu_mem_entry *entries;

    if (!resource)
        return gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "attach backing: no resource %u", id);
    if (resource->entries)
        return gpu_error(gpu, ERR_UNSPEC, "attach backing: resource %u has one", id);
    entries = read_entries(gpu, command, id, count, &response);
    return entries ? gpu_set_backing(gpu, resource, entries, count) : response;
}

uint32_t gpu_detach_backing(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t id = GUINT32_FROM_LE(command->detach.resource_id);
    struct gpu_resource *resource = gpu_find_resource(gpu, id);

    if (!resource)
        return gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "detach backing: no resource %u", id);
    if (!resource->entries)
        return gpu_error(gpu, ERR_UNSPEC, "detach backing: resource %u has none", id);
    for (unsigned i = 0; i < gpu->scanout_count; i++)
        if (gpu->scanouts[i].resource == resource)
            gpu_catch_up(gpu, i); /* it was flushed before */
    if (resource->is_3d)
        gpu_virgl_detach(gpu, resource);
    remove_backing(gpu, resource);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* The piece that has byte @offset; there is one. */
static unsigned find_piece(const struct gpu_resource *resource, uint64_t offset)
{
    unsigned low = 0, high = resource->piece_count - 1;

    while (low < high) {
        unsigned middle = low + (high - low + 1) / 2;

        if (resource->pieces[middle].offset <= offset)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

void gpu_read_backing(const struct gpu_resource *resource, uint64_t offset, void *data, size_t size)
{
    uint8_t *to = data;
    size_t there = offset < resource->backing ? MIN(size, resource->backing - offset) : 0;

    memset(to + there, 0, size - there);
    for (unsigned i = there ? find_piece(resource, offset) : 0; there; i++) {
        const struct gpu_piece *piece = &resource->pieces[i];
        size_t part = MIN(there, piece->length - (offset - piece->offset));

        memcpy(to, piece->host + (offset - piece->offset), part);
        to += part;
        offset += part;
        there -= part;
    }
}

/* ---- transfers ---- */

uint32_t gpu_transfer(struct virtio_gpu *gpu, struct gpu_command *command)
{
    const struct virtio_gpu_transfer_to_host_2d *transfer = &command->transfer;
    uint32_t id = GUINT32_FROM_LE(transfer->resource_id);
    uint64_t offset = GUINT64_FROM_LE(transfer->offset), needed;
    struct display_rect rect = {GUINT32_FROM_LE(transfer->r.x), GUINT32_FROM_LE(transfer->r.y),
                                GUINT32_FROM_LE(transfer->r.width),
                                GUINT32_FROM_LE(transfer->r.height)};
    struct gpu_resource *resource = gpu_find_resource(gpu, id);

    if (!resource)
        return gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "transfer: no resource %u", id);
    if (!resource->entries)
        return gpu_error(gpu, ERR_UNSPEC, "transfer: resource %u has no backing", id);
    if (resource->blob)
        return VIRTIO_GPU_RESP_OK_NODATA; /* it is there already; stock drivers ask for it all the same */
    if ((uint64_t)rect.x + rect.width > resource->width ||
        (uint64_t)rect.y + rect.height > resource->height)
        return gpu_error(gpu, ERR_INVALID_PARAMETER,
                         "transfer: %ux%u at %u,%u of resource %u, %ux%u", rect.width, rect.height,
                         rect.x, rect.y, id, resource->width, resource->height);
    if (!rect.width || !rect.height)
        return VIRTIO_GPU_RESP_OK_NODATA;
    needed = ((uint64_t)(rect.height - 1) * resource->width + rect.width) * GPU_BYTES;
    if (offset > resource->backing || needed > resource->backing - offset)
        return gpu_error(gpu, ERR_INVALID_PARAMETER,
                         "transfer: %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT
                         " of resource %u, whose backing has %" G_GUINT64_FORMAT,
                         needed, offset, id, resource->backing);
    if (resource->is_3d) {
        if (gpu_virgl_write(resource, &rect, offset))
            return gpu_error(gpu, ERR_INVALID_PARAMETER,
                             "transfer: resource %u: the renderer can't", id);
        return VIRTIO_GPU_RESP_OK_NODATA;
    }
    gpu->job = (struct gpu_job){
        .kind = GPU_TRANSFER, .resource = resource, .rect = rect, .offset = offset};
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t gpu_take_rows(struct virtio_gpu *gpu, uint32_t row_bytes, uint32_t wanted)
{
    uint32_t rows = MIN(MAX(gpu->turn_left / row_bytes, 1), wanted);

    gpu->turn_left -= MIN(gpu->turn_left, (uint64_t)rows * row_bytes);
    return rows;
}

bool gpu_continue_transfer(struct virtio_gpu *gpu)
{
    struct gpu_job *job = &gpu->job;
    const struct gpu_resource *resource = job->resource;
    struct display_surface *pixels = resource->pixels;
    uint32_t row_bytes = job->rect.width * GPU_BYTES;
    uint32_t rows = gpu_take_rows(gpu, row_bytes, job->rect.height - job->row);
    uint64_t from = job->offset + (uint64_t)job->row * pixels->stride;
    uint8_t *to = pixels->pixels + (size_t)(job->rect.y + job->row) * pixels->stride +
                  (size_t)job->rect.x * GPU_BYTES;

    if (row_bytes == pixels->stride) {
        gpu_read_backing(resource, from, to, (size_t)rows * row_bytes);
    } else {
        for (uint32_t i = 0; i < rows; i++)
            gpu_read_backing(resource, from + (uint64_t)i * pixels->stride,
                             to + (size_t)i * pixels->stride, row_bytes);
    }
    job->row += rows;
    return job->row == job->rect.height;
}

/* ---- blobs and names ---- */

uint32_t gpu_new_blob(struct virtio_gpu *gpu, uint32_t id, uint64_t size,
                      struct virtio_gpu_mem_entry *entries, uint32_t count,
                      struct gpu_resource **result)
{
    uint32_t response = gpu_check_new(gpu, id);
    struct gpu_resource *resource;

    if (response != VIRTIO_GPU_RESP_OK_NODATA || !gpu_charge(gpu, GPU_OVERHEAD)) {
        g_free(entries);
        return response != VIRTIO_GPU_RESP_OK_NODATA ? response
                                                     : gpu_over_budget(gpu, id, GPU_OVERHEAD);
    }
    resource = gpu_add_resource(gpu, id, size, GPU_OVERHEAD);
    resource->blob = true;
    response = gpu_set_backing(gpu, resource, entries, count);
    if (response == VIRTIO_GPU_RESP_OK_NODATA && resource->backing < size)
        response =
            gpu_error(gpu, ERR_INVALID_PARAMETER,
                      "blob %u: %" G_GUINT64_FORMAT " bytes, its backing has %" G_GUINT64_FORMAT,
                      id, size, resource->backing);
    if (response != VIRTIO_GPU_RESP_OK_NODATA) {
        gpu_remove_resource(gpu, resource);
        return response;
    }
    trace_virtio_gpu_resource(gpu->vdev.device->name, id, 0, 0, 0, size, gpu->used);
    *result = resource;
    return VIRTIO_GPU_RESP_OK_NODATA;
}

#ifdef HAVE_VIRTIO_GPU_BLOB

uint32_t gpu_create_blob(struct virtio_gpu *gpu, struct gpu_command *command)
{
    const struct virtio_gpu_resource_create_blob *blob = &command->blob;
    uint32_t id = GUINT32_FROM_LE(blob->resource_id), kind = GUINT32_FROM_LE(blob->blob_mem);
    uint32_t count = GUINT32_FROM_LE(blob->nr_entries), flags = GUINT32_FROM_LE(blob->blob_flags);
    uint64_t size = GUINT64_FROM_LE(blob->size);
    uint32_t known = VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE | VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE |
                     VIRTIO_GPU_BLOB_FLAG_USE_CROSS_DEVICE;
    uint32_t response = gpu_check_new(gpu, id);
    struct virtio_gpu_mem_entry *entries;
    struct gpu_resource *resource;

    if (response != VIRTIO_GPU_RESP_OK_NODATA)
        return response;
    /* Memory of the host is for 3D contexts only. */
    if (kind != VIRTIO_GPU_BLOB_MEM_GUEST || flags & ~known || blob->blob_id || !size)
        return gpu_error(gpu, ERR_INVALID_PARAMETER,
                         "blob %u: kind %u, flags 0x%x, %" G_GUINT64_FORMAT " bytes", id, kind,
                         flags, size);
    entries = read_entries(gpu, command, id, count, &response);
    return entries ? gpu_new_blob(gpu, id, size, entries, count, &resource) : response;
}

#endif

#ifdef HAVE_VIRTIO_GPU_UUID

uint32_t gpu_assign_uuid(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t id = GUINT32_FROM_LE(command->uuid.resource_id);
    struct gpu_resource *resource = gpu_find_resource(gpu, id);

    if (!resource)
        return gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "assign UUID: no resource %u", id);
    if (!resource->has_uuid) {
        if (getrandom(resource->uuid, sizeof(resource->uuid), GRND_NONBLOCK) !=
            sizeof(resource->uuid))
            return gpu_error(gpu, ERR_UNSPEC, "assign UUID: the host has no random numbers yet");
        resource->uuid[6] = (resource->uuid[6] & 0x0f) | 0x40; /* RFC 9562, version 4 */
        resource->uuid[8] = (resource->uuid[8] & 0x3f) | 0x80;
        resource->has_uuid = true;
    }
    memcpy(command->reply.uuid.uuid, resource->uuid, sizeof(resource->uuid));
    command->reply_size = sizeof(command->reply.uuid);
    return VIRTIO_GPU_RESP_OK_RESOURCE_UUID;
}

#endif
