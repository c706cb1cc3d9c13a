/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gpu_scanout - what virtio/gpu shows: scanouts, flushes, cursors (virtio 1.3, 5.7.6)
 *
 * A 2D resource in the display's own format is shown as it is, without a copy: transfers change what
 * viewers look at, and a flush tells them so. A resource in another format, a blob, which is guest
 * memory in any number of pieces, or a 3D resource, which is read back from the renderer, is shown as a
 * copy in the display's format. A flush says what is to be copied; that happens when a viewer looks, so
 * that a guest may flush as often as it likes. Large ones are copied by each flush, in turns. A copy is
 * kept when a guest turns pages: the first flush then counts for all of it.
 *
 * Formats are named by the order of bytes in memory, pixman's by that in a little-endian word.
 */
#include <string.h>

#include "virtio/gpu_virgl.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_gpu_scanout, "%s scanout=%u resource=%u %ux%u at %u,%u copy=%d",
            (const char *device, unsigned scanout, uint32_t resource, uint32_t width,
             uint32_t height, uint32_t x, uint32_t y, bool copy),
            device, scanout, resource, width, height, x, y, copy)

pixman_format_code_t gpu_pixman_format(uint32_t format)
{
    switch (format) {
    case VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM:
        return PIXMAN_a8r8g8b8;
    case VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM:
        return PIXMAN_x8r8g8b8;
    case VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM:
        return PIXMAN_b8g8r8a8;
    case VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM:
        return PIXMAN_b8g8r8x8;
    case VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM:
        return PIXMAN_a8b8g8r8;
    case VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM:
        return PIXMAN_r8g8b8x8;
    case VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM:
        return PIXMAN_r8g8b8a8;
    case VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM:
        return PIXMAN_x8b8g8r8;
    default:
        return 0;
    }
}

static bool is_native(uint32_t format)
{
    return format == VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM || format == VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM;
}

/* Pixels of any format at @from to the display's, with alpha if @alpha. False: no memory. */
static bool convert(uint32_t format, const uint8_t *from, uint32_t from_stride, uint8_t *to,
                    uint32_t to_stride, uint32_t width, uint32_t height, bool alpha)
{
    pixman_image_t *source = pixman_image_create_bits_no_clear(
        gpu_pixman_format(format), width, height, (uint32_t *)(void *)from, from_stride);
    pixman_image_t *target =
        pixman_image_create_bits_no_clear(alpha ? PIXMAN_a8r8g8b8 : PIXMAN_x8r8g8b8, width, height,
                                          (uint32_t *)(void *)to, to_stride);
    bool done = source && target;

    if (done)
        pixman_image_composite32(PIXMAN_OP_SRC, source, NULL, target, 0, 0, 0, 0, 0, 0, width,
                                 height);
    if (source)
        pixman_image_unref(source);
    if (target)
        pixman_image_unref(target);
    return done;
}

/* ---- showing and hiding ---- */

static void unref_surface(void *opaque)
{
    display_surface_unref(opaque);
}

static void set_surface(struct virtio_gpu *gpu, struct gpu_scanout *scanout,
                        struct display_surface *surface, bool is_copy, uint64_t charged)
{
    display_show(gpu->source, scanout - gpu->scanouts, surface);
    display_surface_unref(scanout->surface);
    gpu_uncharge(gpu, scanout->charged);
    scanout->surface = surface;
    scanout->is_copy = is_copy;
    scanout->charged = charged;
    scanout->behind = (struct display_rect){0};
}

void gpu_hide(struct virtio_gpu *gpu, unsigned index)
{
    struct gpu_scanout *scanout = &gpu->scanouts[index];

    if (!scanout->resource)
        return;
    scanout->resource = NULL;
    scanout->stale = false;
    set_surface(gpu, scanout, NULL, false, 0);
}

void gpu_hide_resource(struct virtio_gpu *gpu, const struct gpu_resource *resource)
{
    for (unsigned i = 0; i < gpu->scanout_count; i++)
        if (gpu->scanouts[i].resource == resource)
            gpu_hide(gpu, i);
}

/* Is the rectangle within the frame, and the frame within the blob? The response that says so. */
static uint32_t check_frame(struct virtio_gpu *gpu, const struct gpu_scanout *wanted)
{
    const struct gpu_resource *resource = wanted->resource;
    const struct display_rect *rect = &wanted->rect;
    uint64_t end;

    if (!rect->width || !rect->height || wanted->frame_width > DISPLAY_MAX_SIZE ||
        wanted->frame_height > DISPLAY_MAX_SIZE ||
        (uint64_t)rect->x + rect->width > wanted->frame_width ||
        (uint64_t)rect->y + rect->height > wanted->frame_height)
        return gpu_error(gpu, ERR_INVALID_PARAMETER,
                         "set scanout: %ux%u at %u,%u of resource %u, %ux%u", rect->width,
                         rect->height, rect->x, rect->y, resource->id, wanted->frame_width,
                         wanted->frame_height);
    if (resource->is_3d && !gpu_pixman_format(wanted->format))
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "set scanout: resource %u has format %u",
                         resource->id, wanted->format);
    if (!resource->blob)
        return VIRTIO_GPU_RESP_OK_NODATA;
    end = wanted->offset + (uint64_t)wanted->stride * (wanted->frame_height - 1) +
          (uint64_t)wanted->frame_width * GPU_BYTES; /* the offset has 32 bits */
    if (!gpu_pixman_format(wanted->format) || wanted->offset > UINT32_MAX ||
        wanted->stride < wanted->frame_width * GPU_BYTES || end > resource->size)
        return gpu_error(gpu, ERR_INVALID_PARAMETER,
                         "set scanout: blob %u of %" G_GUINT64_FORMAT
                         " bytes: %ux%u, stride %u, offset %" G_GUINT64_FORMAT ", format %u",
                         resource->id, resource->size, wanted->frame_width, wanted->frame_height,
                         wanted->stride, wanted->offset, wanted->format);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* The part of a 2D resource that is shown, without a copy. */
static struct display_surface *part_of(struct display_surface *pixels,
                                       const struct display_rect *rect)
{
    if (rect->width == pixels->width && rect->height == pixels->height)
        return display_surface_ref(pixels);
    return display_surface_wrap(rect->width, rect->height, pixels->stride,
                                pixels->pixels + (size_t)rect->y * pixels->stride +
                                    (size_t)rect->x * GPU_BYTES,
                                unref_surface, display_surface_ref(pixels));
}

/* Begins a copy to show, or goes on with the one of the same size that is shown. */
static uint32_t show_copy(struct virtio_gpu *gpu, struct gpu_scanout *scanout,
                          const struct display_rect *rect)
{
    uint64_t bytes = (uint64_t)rect->width * rect->height * GPU_BYTES;
    struct display_surface *surface;

    if (scanout->is_copy && scanout->surface->width == rect->width &&
        scanout->surface->height == rect->height)
        return VIRTIO_GPU_RESP_OK_NODATA;
    if (!gpu_charge(gpu, bytes))
        return gpu_error(gpu, ERR_OUT_OF_MEMORY,
                         "set scanout: a copy of %ux%u pixels, of %" G_GUINT64_FORMAT
                         " bytes (memory=) %" G_GUINT64_FORMAT " are left",
                         rect->width, rect->height, gpu->memory, gpu->memory - gpu->used);
    surface = display_surface_create(rect->width, rect->height);
    if (!surface) {
        gpu_uncharge(gpu, bytes);
        return gpu_error(gpu, ERR_OUT_OF_MEMORY, "set scanout: the host has no memory");
    }
    set_surface(gpu, scanout, surface, true, bytes);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t gpu_show(struct virtio_gpu *gpu, unsigned index, const struct gpu_scanout *wanted)
{
    struct gpu_scanout *scanout = &gpu->scanouts[index];
    bool copy = wanted->resource->blob || wanted->resource->is_3d || !is_native(wanted->format);
    struct display_surface *old = scanout->surface;
    uint32_t response = check_frame(gpu, wanted);

    if (response == VIRTIO_GPU_RESP_OK_NODATA && copy)
        response = show_copy(gpu, scanout, &wanted->rect);
    if (response != VIRTIO_GPU_RESP_OK_NODATA)
        return response;
    if (!copy)
        set_surface(gpu, scanout, part_of(wanted->resource->pixels, &wanted->rect), false, 0);
    scanout->stale = copy;
    scanout->behind = (struct display_rect){0}; /* that was another frame's */
    scanout->resource = wanted->resource;
    scanout->rect = wanted->rect;
    scanout->format = wanted->format;
    scanout->frame_width = wanted->frame_width;
    scanout->frame_height = wanted->frame_height;
    scanout->stride = wanted->stride;
    scanout->offset = wanted->offset;
    trace_virtio_gpu_scanout(gpu->vdev.device->name, index, wanted->resource->id,
                             wanted->rect.width, wanted->rect.height, wanted->rect.x,
                             wanted->rect.y, copy);
    /* A new copy is filled at once; one that was there waits for the flush that follows. */
    if (copy && scanout->surface != old)
        gpu->job = (struct gpu_job){.kind = GPU_REFRESH,
                                    .resource = wanted->resource,
                                    .rect = wanted->rect,
                                    .scanout = index,
                                    .scanouts = index + 1};
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* ---- copies ---- */

/* The same of a 3D resource; they are as wide as the copy, so that they are in one piece in it. */
static bool read_back(const struct gpu_scanout *scanout, uint32_t y, uint32_t rows, uint8_t *to)
{
    uint32_t width = scanout->rect.width, stride = scanout->surface->stride;
    g_autofree uint8_t *pixels = NULL;

    if (is_native(scanout->format) && stride == width * GPU_BYTES)
        return !gpu_virgl_read(scanout->resource, scanout->rect.x, y, width, rows, to);
    pixels = g_try_malloc((gsize)width * rows * GPU_BYTES);
    return pixels && !gpu_virgl_read(scanout->resource, scanout->rect.x, y, width, rows, pixels) &&
           convert(scanout->format, pixels, width * GPU_BYTES, to, stride, width, rows, false);
}

/* Copies rows of the frame, @x and @y in it, to the copy. False: no memory, or the renderer failed. */
static bool copy_rows(const struct gpu_scanout *scanout, uint32_t x, uint32_t y, uint32_t width,
                      uint32_t rows)
{
    const struct gpu_resource *resource = scanout->resource;
    const struct display_surface *surface = scanout->surface;
    uint8_t *to = surface->pixels + (size_t)(y - scanout->rect.y) * surface->stride +
                  (size_t)(x - scanout->rect.x) * GPU_BYTES;
    g_autofree uint8_t *row = NULL;

    if (resource->is_3d)
        return read_back(scanout, y, rows, to);
    if (!resource->blob)
        return convert(scanout->format,
                       resource->pixels->pixels + (size_t)y * resource->pixels->stride +
                           (size_t)x * GPU_BYTES,
                       resource->pixels->stride, to, surface->stride, width, rows, false);
    if (is_native(scanout->format) && scanout->stride == surface->stride &&
        width * GPU_BYTES == scanout->stride) {
        gpu_read_backing(resource, scanout->offset + (uint64_t)y * scanout->stride, to,
                         (size_t)rows * scanout->stride);
        return true;
    }
    if (!is_native(scanout->format))
        row = g_malloc((gsize)width * GPU_BYTES);
    for (uint32_t i = 0; i < rows; i++, to += surface->stride) {
        uint64_t from = scanout->offset + (uint64_t)(y + i) * scanout->stride + x * GPU_BYTES;

        gpu_read_backing(resource, from, row ? row : to, (size_t)width * GPU_BYTES);
        if (row &&
            !convert(scanout->format, row, width * GPU_BYTES, to, surface->stride, width, 1, false))
            return false;
    }
    return true;
}

/* Where @rect, of the frame, meets what the scanout shows of it. */
static bool intersect(const struct display_rect *rect, const struct display_rect *shown,
                      struct display_rect *both)
{
    uint64_t right = MIN((uint64_t)rect->x + rect->width, (uint64_t)shown->x + shown->width);
    uint64_t lower = MIN((uint64_t)rect->y + rect->height, (uint64_t)shown->y + shown->height);

    both->x = MAX(rect->x, shown->x);
    both->y = MAX(rect->y, shown->y);
    if (both->x >= right || both->y >= lower)
        return false;
    both->width = right - both->x;
    both->height = lower - both->y;
    return true;
}

static void damage(struct virtio_gpu *gpu, unsigned index, const struct display_rect *area,
                   __typeof__(display_damage) *tell)
{
    const struct display_rect *shown = &gpu->scanouts[index].rect;
    struct display_rect moved = {area->x - shown->x, area->y - shown->y, area->width, area->height};

    tell(gpu->source, index, &moved);
}

/* Is the copy so small that a viewer's look may wait for all of it? */
static bool is_lazy(const struct gpu_scanout *scanout)
{
    return (uint64_t)scanout->rect.width * scanout->rect.height * GPU_BYTES <= GPU_TURN_BYTES;
}

/* @area, of the frame, is to be copied when somebody looks. */
static void fall_behind(struct virtio_gpu *gpu, unsigned index, const struct display_rect *area)
{
    struct display_rect *behind = &gpu->scanouts[index].behind;
    uint32_t right = MAX(behind->x + behind->width, area->x + area->width);
    uint32_t lower = MAX(behind->y + behind->height, area->y + area->height);

    if (!behind->width) {
        *behind = *area;
    } else {
        behind->x = MIN(behind->x, area->x);
        behind->y = MIN(behind->y, area->y);
        behind->width = right - behind->x;
        behind->height = lower - behind->y;
    }
    damage(gpu, index, area, display_damage_behind);
}

static void copy_area(struct virtio_gpu *gpu, unsigned index, const struct display_rect *area,
                      uint32_t from, uint32_t rows)
{
    if (!copy_rows(&gpu->scanouts[index], area->x, area->y + from, area->width, rows))
        log_guest(&gpu->vdev.device->guest_errors, gpu->vdev.device->name,
                  "scanout %u: the host can't read it", index);
}

void gpu_catch_up(struct virtio_gpu *gpu, unsigned index)
{
    struct display_rect *behind = &gpu->scanouts[index].behind;

    /* Once the device has come to rest there is nothing new, and it may not look at guest memory. */
    if (!behind->width || dma_allowed(gpu->vdev.dma, DMA_TO_DEVICE))
        return;
    copy_area(gpu, index, behind, 0, behind->height);
    behind->width = 0;
}

/* What this turn may do of one scanout; true: that one is done. */
static bool refresh_scanout(struct virtio_gpu *gpu, unsigned index)
{
    struct gpu_scanout *scanout = &gpu->scanouts[index];
    struct gpu_job *job = &gpu->job;
    struct display_rect area;
    uint32_t rows;

    if (scanout->resource != job->resource)
        return true;
    if (scanout->stale)
        area = scanout->rect;
    else if (!intersect(&job->rect, &scanout->rect, &area))
        return true;
    if (job->resource->is_3d) { /* its rows are read back whole */
        area.x = scanout->rect.x;
        area.width = scanout->rect.width;
    }
    if (scanout->is_copy && is_lazy(scanout)) {
        scanout->stale = false;
        fall_behind(gpu, index, &area);
        return true;
    }
    if (scanout->is_copy) {
        rows = gpu_take_rows(gpu, area.width * GPU_BYTES, area.height - job->row);
        copy_area(gpu, index, &area, job->row, rows);
        job->row += rows;
        if (job->row < area.height)
            return false;
    }
    scanout->stale = false;
    damage(gpu, index, &area, display_damage);
    return true;
}

bool gpu_continue_refresh(struct virtio_gpu *gpu)
{
    struct gpu_job *job = &gpu->job;

    for (; job->scanout < job->scanouts; job->scanout++) {
        if (!refresh_scanout(gpu, job->scanout))
            return false;
        job->row = 0;
    }
    return true;
}

void gpu_refresh_copies(struct virtio_gpu *gpu)
{
    for (unsigned i = 0; i < gpu->scanout_count; i++) {
        struct gpu_scanout *scanout = &gpu->scanouts[i];

        if (!scanout->stale)
            continue;
        copy_rows(scanout, scanout->rect.x, scanout->rect.y, scanout->rect.width,
                  scanout->rect.height);
        scanout->stale = false;
        scanout->behind.width = 0;
        damage(gpu, i, &scanout->rect, display_damage);
    }
}

/* ---- commands ---- */

uint32_t gpu_get_display_info(struct virtio_gpu *gpu, struct gpu_command *command)
{
    struct virtio_gpu_resp_display_info *info = &command->reply.info;

    for (unsigned i = 0; i < gpu->scanout_count; i++) {
        const struct gpu_scanout *scanout = &gpu->scanouts[i];

        info->pmodes[i].enabled = GUINT32_TO_LE(scanout->enabled);
        info->pmodes[i].r.width = GUINT32_TO_LE(scanout->width);
        info->pmodes[i].r.height = GUINT32_TO_LE(scanout->height);
    }
    command->reply_size = sizeof(*info);
    return VIRTIO_GPU_RESP_OK_DISPLAY_INFO;
}

#ifdef HAVE_VIRTIO_GPU_EDID

uint32_t gpu_get_edid(struct virtio_gpu *gpu, struct gpu_command *command)
{
    struct virtio_gpu_resp_edid *reply = &command->reply.edid;
    uint32_t index = GUINT32_FROM_LE(command->edid.scanout);

    G_STATIC_ASSERT(sizeof(reply->edid) >= GPU_MAX_EDID);
    if (index >= gpu->scanout_count)
        return gpu_error(gpu, ERR_INVALID_SCANOUT_ID, "EDID: no scanout %u", index);
    reply->size = GUINT32_TO_LE(
        gpu_make_edid(reply->edid, index, gpu->scanouts[index].width, gpu->scanouts[index].height));
    command->reply_size = sizeof(*reply);
    return VIRTIO_GPU_RESP_OK_EDID;
}

#endif

static struct display_rect read_rect(const struct virtio_gpu_rect *rect)
{
    return (struct display_rect){GUINT32_FROM_LE(rect->x), GUINT32_FROM_LE(rect->y),
                                 GUINT32_FROM_LE(rect->width), GUINT32_FROM_LE(rect->height)};
}

/* What both kinds of SET_SCANOUT have in common: which resource goes where. True: go on. */
static bool begin_set(struct virtio_gpu *gpu, uint32_t index, uint32_t id, bool blob,
                      struct gpu_resource **resource, uint32_t *response)
{
    *response = VIRTIO_GPU_RESP_OK_NODATA;
    if (index >= gpu->scanout_count) {
        *response = gpu_error(gpu, ERR_INVALID_SCANOUT_ID, "set scanout: no scanout %u", index);
        return false;
    }
    if (!id) {
        gpu_hide(gpu, index);
        return false;
    }
    *resource = gpu_find_resource(gpu, id);
    if (*resource && (*resource)->blob == blob)
        return true;
    *response = gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "set scanout: no %s resource %u",
                          blob ? "blob" : "2D", id);
    return false;
}

uint32_t gpu_set_scanout(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t index = GUINT32_FROM_LE(command->set_scanout.scanout_id), response;
    struct gpu_scanout wanted = {.rect = read_rect(&command->set_scanout.r)};

    if (!begin_set(gpu, index, GUINT32_FROM_LE(command->set_scanout.resource_id), false,
                   &wanted.resource, &response))
        return response;
    wanted.format = wanted.resource->format;
    wanted.frame_width = wanted.resource->width;
    wanted.frame_height = wanted.resource->height;
    return gpu_show(gpu, index, &wanted);
}

#ifdef HAVE_VIRTIO_GPU_BLOB

uint32_t gpu_set_scanout_blob(struct virtio_gpu *gpu, struct gpu_command *command)
{
    const struct virtio_gpu_set_scanout_blob *set = &command->set_blob;
    uint32_t index = GUINT32_FROM_LE(set->scanout_id), response;
    struct gpu_scanout wanted = {
        .rect = read_rect(&set->r),
        .format = GUINT32_FROM_LE(set->format),
        .frame_width = GUINT32_FROM_LE(set->width),
        .frame_height = GUINT32_FROM_LE(set->height),
        .stride = GUINT32_FROM_LE(set->strides[0]),
        .offset = GUINT32_FROM_LE(set->offsets[0]),
    };

    if (!begin_set(gpu, index, GUINT32_FROM_LE(set->resource_id), true, &wanted.resource,
                   &response))
        return response;
    return gpu_show(gpu, index, &wanted);
}

#endif

uint32_t gpu_flush(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t id = GUINT32_FROM_LE(command->flush.resource_id);
    struct display_rect rect = read_rect(&command->flush.r);
    struct gpu_resource *resource = gpu_find_resource(gpu, id);

    if (!resource)
        return gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "flush: no resource %u", id);
    /* A blob has no size in pixels but on a scanout: there it is the frame's part that counts. */
    if (!resource->blob && ((uint64_t)rect.x + rect.width > resource->width ||
                            (uint64_t)rect.y + rect.height > resource->height))
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "flush: %ux%u at %u,%u of resource %u, %ux%u",
                         rect.width, rect.height, rect.x, rect.y, id, resource->width,
                         resource->height);
    gpu->job = (struct gpu_job){
        .kind = GPU_REFRESH, .resource = resource, .rect = rect, .scanouts = gpu->scanout_count};
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* ---- cursors ---- */

void gpu_show_cursor(struct virtio_gpu *gpu, unsigned index)
{
    const struct gpu_scanout *scanout = &gpu->scanouts[index];

    display_set_cursor(gpu->source, index, scanout->cursor, scanout->hot_x, scanout->hot_y);
    display_move_cursor(gpu->source, index, scanout->cursor_x, scanout->cursor_y);
}

/* The pixels of a resource that is as large as cursors are. False: no memory, or the renderer failed. */
static bool copy_cursor(const struct gpu_resource *resource, struct display_surface *cursor)
{
    const uint32_t stride = GPU_CURSOR * GPU_BYTES, bytes = GPU_CURSOR * stride;
    g_autofree uint8_t *pixels = NULL;

    if (resource->blob) {
        gpu_read_backing(resource, 0, cursor->pixels, bytes);
        return true;
    }
    if (resource->is_3d) {
        pixels = g_malloc(bytes);
        if (!gpu_pixman_format(resource->format) ||
            gpu_virgl_read(resource, 0, 0, GPU_CURSOR, GPU_CURSOR, pixels))
            return false;
    }
    return convert(resource->format, pixels ? pixels : resource->pixels->pixels, stride,
                   cursor->pixels, stride, GPU_CURSOR, GPU_CURSOR, true);
}

/* A copy of the resource as a cursor, with alpha; NULL with @response set. */
static struct display_surface *make_cursor(struct virtio_gpu *gpu, uint32_t id, uint32_t *response)
{
    const uint32_t bytes = GPU_CURSOR * GPU_CURSOR * GPU_BYTES;
    struct gpu_resource *resource = gpu_find_resource(gpu, id);
    struct display_surface *cursor;

    if (!resource) {
        *response = gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "cursor: no resource %u", id);
        return NULL;
    }
    if (resource->blob ? resource->size < bytes || resource->backing < bytes
                       : resource->width != GPU_CURSOR || resource->height != GPU_CURSOR) {
        *response = gpu_error(gpu, ERR_INVALID_PARAMETER, "cursor: resource %u is not %ux%u", id,
                              GPU_CURSOR, GPU_CURSOR);
        return NULL;
    }
    cursor = display_surface_create(GPU_CURSOR, GPU_CURSOR);
    if (cursor && copy_cursor(resource, cursor))
        return cursor;
    display_surface_unref(cursor);
    *response = gpu_error(gpu, ERR_OUT_OF_MEMORY, "cursor: the host can't read resource %u", id);
    return NULL;
}

static void move_cursor(struct virtio_gpu *gpu, const struct virtio_gpu_cursor_pos *position,
                        unsigned index)
{
    struct gpu_scanout *scanout = &gpu->scanouts[index];

    scanout->cursor_x = (int32_t)GUINT32_FROM_LE(position->x);
    scanout->cursor_y = (int32_t)GUINT32_FROM_LE(position->y);
}

uint32_t gpu_update_cursor(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t index = GUINT32_FROM_LE(command->cursor.pos.scanout_id), response;
    uint32_t id = GUINT32_FROM_LE(command->cursor.resource_id);
    struct display_surface *cursor = NULL;
    struct gpu_scanout *scanout;

    if (index >= gpu->scanout_count)
        return gpu_error(gpu, ERR_INVALID_SCANOUT_ID, "cursor: no scanout %u", index);
    if (id && !(cursor = make_cursor(gpu, id, &response)))
        return response;
    scanout = &gpu->scanouts[index];
    display_surface_unref(scanout->cursor);
    scanout->cursor = cursor;
    scanout->hot_x = MIN(GUINT32_FROM_LE(command->cursor.hot_x), GPU_CURSOR - 1);
    scanout->hot_y = MIN(GUINT32_FROM_LE(command->cursor.hot_y), GPU_CURSOR - 1);
    move_cursor(gpu, &command->cursor.pos, index);
    gpu_show_cursor(gpu, index);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t gpu_move_cursor(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t index = GUINT32_FROM_LE(command->cursor.pos.scanout_id);

    if (index >= gpu->scanout_count)
        return gpu_error(gpu, ERR_INVALID_SCANOUT_ID, "cursor: no scanout %u", index);
    move_cursor(gpu, &command->cursor.pos, index);
    display_move_cursor(gpu->source, index, gpu->scanouts[index].cursor_x,
                        gpu->scanouts[index].cursor_y);
    return VIRTIO_GPU_RESP_OK_NODATA;
}
