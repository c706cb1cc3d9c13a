/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gpu_virgl - 3D for virtio/gpu, through virglrenderer (gpu_virgl.h; virtio 1.3, 5.7.6.8)
 *
 * The guest's Mesa (its driver virgl) writes commands of Gallium; virglrenderer carries them out with the
 * host's OpenGL, by EGL without any screen: a GPU if there is one, else Mesa's llvmpipe. Loaded when
 * virgl=on is said, not linked: GL brings a hundred megabytes.
 *
 * 3D resources, and what is drawn on them, are the library's; the device knows their size, their backing
 * and which contexts there are. Scanouts and cursors read them back (gpu_scanout.c). 2D resources and
 * blobs stay the device's own: contexts may be told of them, as the stock driver does of every buffer
 * that a program opens, but can't draw with them.
 *
 * Fences: the answer to a fenced 3D command goes out when GL has done all that came before; so does that
 * to every fenced command behind it, as the driver takes the answer to one for that to all before. Rings
 * of a context (VIRTIO_GPU_FLAG_INFO_RING_IDX) are not told apart: their fences keep one order.
 *
 * Limits: GPU_MAX_CONTEXTS contexts, each charged CONTEXT_CHARGE bytes of memory=, resources by what
 * their pixels take at most. What a context makes beside (shaders, states) is the library's and not
 * counted. A guest that finds a fault in virglrenderer or GL has this process: hence it is off unless
 * asked for. GL works on the device's own thread: a long drawing keeps this device waiting, and whoever
 * pauses the machine, nobody else.
 *
 * Not saved: while there are contexts or 3D resources the device says so (migration_blocker).
 *
 * Thread: the device's loop; create and destroy: main.
 */
#include "virtio/gpu_virgl.h"

#include <gio/gio.h>
#include <string.h>
#include <virglrenderer.h>

#include "backends/display/library.h"
#include "vmm/iov.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_gpu_context, "%s context=%u %s",
            (const char *device, uint32_t id, const char *what), device, id, what)
TRACE_EVENT(virtio_gpu_fence, "%s fence=%u %s",
            (const char *device, uint32_t serial, const char *what), device, serial, what)
TRACE_EVENT(virtio_gpu_submit, "%s context=%u bytes=%u ret=%d",
            (const char *device, uint32_t id, uint32_t bytes, int ret), device, id, bytes, ret)

#define GPU_MAX_CONTEXTS 128u
#define CONTEXT_CHARGE   (UINT64_C(1) << 20)
#define MAX_SUBMIT       (16u << 20) /* bytes */
#define MAX_LEVEL        15u
#define MAX_SAMPLES      32u
#define MAX_NAME         64u
#define FENCE_POLL_NS    (2 * G_GINT64_CONSTANT(1000000)) /* where the library has no event file */
#define TARGET_BUFFER    0u                               /* PIPE_BUFFER: width is in bytes */
#define TARGETS          9u
#define LIBRARY          "libvirglrenderer.so.1"

/* clang-format off */
#define FUNCTIONS(X) \
    X(virgl_renderer_cleanup) X(virgl_renderer_context_create) \
    X(virgl_renderer_context_create_with_flags) X(virgl_renderer_context_destroy) \
    X(virgl_renderer_create_fence) X(virgl_renderer_ctx_attach_resource) \
    X(virgl_renderer_ctx_detach_resource) X(virgl_renderer_fill_caps) \
    X(virgl_renderer_get_cap_set) X(virgl_renderer_get_poll_fd) X(virgl_renderer_init) \
    X(virgl_renderer_poll) X(virgl_renderer_resource_attach_iov) \
    X(virgl_renderer_resource_create) X(virgl_renderer_resource_detach_iov) \
    X(virgl_renderer_resource_unref) X(virgl_renderer_submit_cmd) \
    X(virgl_renderer_transfer_read_iov) X(virgl_renderer_transfer_write_iov) \
    X(virgl_set_debug_callback)
/* clang-format on */
static struct {
    FUNCTIONS(LIBRARY_MEMBER)
} lib;
static const struct library_symbol symbols[] = {FUNCTIONS(LIBRARY_SYMBOL){}};
static const char *library = LIBRARY;

/* A command that is done but for what GL does of it. */
struct fence {
    uint32_t serial;
    size_t reply_size;
    void *reply;
    struct virtq_element *element; /* as long as its chain */
};

struct gpu_virgl {
    struct virtio_gpu *gpu;
    struct loop_fd *watch;    /* the library has news of fences, or */
    struct loop_timer *timer; /* when to ask for them */
    int ret;                  /* of the start */
    GHashTable *contexts;     /* ids */
    unsigned resources;       /* 3D */
    GQueue fences;            /* struct fence *, in order */
    uint32_t last_serial;
    unsigned capset_count;
    struct capset {
        uint32_t id, version, size;
    } capsets[2];
};

static bool in_use; /* main thread */

void virtio_gpu_set_library(const char *name)
{
    library = name;
}

/* ---- fences ---- */

static void free_fence(gpointer data)
{
    struct fence *fence = data;

    g_free(fence->element);
    g_free(fence->reply);
    g_free(fence);
}

static bool is_due(uint32_t serial, uint32_t done)
{
    return (int32_t)(done - serial) >= 0;
}

/* All up to @serial are done. Called from within virgl_renderer_poll(). */
static void on_fence(void *cookie, uint32_t serial)
{
    struct gpu_virgl *virgl = cookie;
    struct fence *fence;

    trace_virtio_gpu_fence(virgl->gpu->vdev.device->name, serial, "done");
    while ((fence = g_queue_peek_head(&virgl->fences)) && is_due(fence->serial, serial)) {
        g_queue_pop_head(&virgl->fences);
        gpu_respond_control(virgl->gpu, fence->element, fence->reply, fence->reply_size);
        free_fence(fence);
    }
}

static void poll_fences(struct gpu_virgl *virgl)
{
    lib.virgl_renderer_poll();
    gpu_flush_control(virgl->gpu);
    if (virgl->timer && !g_queue_is_empty(&virgl->fences))
        loop_timer_set(virgl->timer, loop_now_ns() + FENCE_POLL_NS);
}

static void on_poll_fd(void *opaque, GIOCondition ready)
{
    poll_fences(opaque);
}

static void on_timer(void *opaque)
{
    poll_fences(opaque);
}

void gpu_virgl_drop_fences(struct gpu_virgl *virgl)
{
    g_queue_clear_full(&virgl->fences, free_fence);
    if (virgl->timer)
        loop_timer_cancel(virgl->timer);
}

bool gpu_virgl_defer(struct virtio_gpu *gpu, const struct gpu_command *command)
{
    const struct virtq_element *element = command->element;
    unsigned pieces = element->out_count + element->in_count;
    bool is_3d = GUINT32_FROM_LE(command->hdr.type) >= VIRTIO_GPU_CMD_CTX_CREATE;
    struct gpu_virgl *virgl = gpu->virgl;
    struct fence *fence;

    if (!(command->reply.hdr.flags & GUINT32_TO_LE(VIRTIO_GPU_FLAG_FENCE)) ||
        (!is_3d && g_queue_is_empty(&virgl->fences)))
        return false;
    if (lib.virgl_renderer_create_fence((int)(virgl->last_serial + 1), 0))
        return false; /* GL's own failure: a late answer would be never */
    fence = g_new(struct fence, 1);
    fence->serial = ++virgl->last_serial;
    fence->reply_size = command->reply_size;
    fence->reply = g_memdup2(&command->reply, command->reply_size);
    fence->element = g_memdup2(element, sizeof(*element) + (gsize)pieces * sizeof(element->iov[0]));
    g_queue_push_tail(&virgl->fences, fence);
    trace_virtio_gpu_fence(gpu->vdev.device->name, fence->serial, "waits");
    if (virgl->timer)
        loop_timer_set(virgl->timer, loop_now_ns() + FENCE_POLL_NS);
    return true;
}

/* ---- what there is ---- */

/* Says whether the device can be saved now. */
static void update_blocker(struct virtio_gpu *gpu)
{
    bool used = gpu->virgl->resources || g_hash_table_size(gpu->virgl->contexts);

    gpu->vdev.device->migration_blocker =
        used ? "its guest draws in 3D, and what it draws with is in the host's OpenGL; end the "
               "guest's programs that do"
             : NULL;
}

static bool has_context(const struct virtio_gpu *gpu, uint32_t id)
{
    return g_hash_table_contains(gpu->virgl->contexts, GUINT_TO_POINTER(id));
}

static uint32_t no_context(struct virtio_gpu *gpu, const char *what, uint32_t id)
{
    return gpu_error(gpu, ERR_INVALID_CONTEXT_ID, "%s: no context %u", what, id);
}

static const struct capset *find_capset(const struct gpu_virgl *virgl, uint32_t id)
{
    for (unsigned i = 0; i < virgl->capset_count; i++)
        if (virgl->capsets[i].id == id)
            return &virgl->capsets[i];
    return NULL;
}

unsigned gpu_virgl_capsets(const struct gpu_virgl *virgl)
{
    return virgl->capset_count;
}

uint32_t gpu_get_capset_info(struct virtio_gpu *gpu, struct gpu_command *command)
{
    struct virtio_gpu_resp_capset_info *reply = &command->reply.capset_info;
    uint32_t index = GUINT32_FROM_LE(command->capset_info.capset_index);
    const struct capset *capset;

    if (index >= gpu->virgl->capset_count)
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "capability set info: no set %u of %u", index,
                         gpu->virgl->capset_count);
    capset = &gpu->virgl->capsets[index];
    reply->capset_id = GUINT32_TO_LE(capset->id);
    reply->capset_max_version = GUINT32_TO_LE(capset->version);
    reply->capset_max_size = GUINT32_TO_LE(capset->size);
    command->reply_size = sizeof(*reply);
    return VIRTIO_GPU_RESP_OK_CAPSET_INFO;
}

uint32_t gpu_get_capset(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t id = GUINT32_FROM_LE(command->capset.capset_id);
    uint32_t version = GUINT32_FROM_LE(command->capset.capset_version);
    const struct capset *capset = find_capset(gpu->virgl, id);

    if (!capset || version > capset->version)
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "capability set %u, version %u: there is none",
                         id, version);
    lib.virgl_renderer_fill_caps(id, version, command->reply.capset.data);
    command->reply_size = sizeof(command->reply.hdr) + capset->size;
    return VIRTIO_GPU_RESP_OK_CAPSET;
}

/* ---- contexts ---- */

/* What the context is for: the capability set that the driver names; 0: virgl, as ever. */
static bool read_context_init(const struct virtio_gpu *gpu, const struct gpu_command *command,
                              uint32_t *capset)
{
    *capset = 0;
#ifdef HAVE_VIRTIO_GPU_CONTEXT_INIT
    if (virtio_device_has(&gpu->vdev, VIRTIO_GPU_F_CONTEXT_INIT)) {
        *capset = GUINT32_FROM_LE(command->create_context.context_init);
        return !*capset || find_capset(gpu->virgl, *capset);
    }
#endif
    return true;
}

uint32_t gpu_create_context(struct virtio_gpu *gpu, struct gpu_command *command)
{
    const struct virtio_gpu_ctx_create *create = &command->create_context;
    uint32_t id = GUINT32_FROM_LE(create->hdr.ctx_id), capset;
    uint32_t length = MIN(GUINT32_FROM_LE(create->nlen), MAX_NAME);
    char name[MAX_NAME + 1] = "";
    int ret;

    G_STATIC_ASSERT(sizeof(create->debug_name) == MAX_NAME);
    if (!id || has_context(gpu, id))
        return gpu_error(gpu, ERR_INVALID_CONTEXT_ID, "new context %u: %s", id,
                         id ? "there is one" : "0 is none");
    if (!read_context_init(gpu, command, &capset))
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "new context %u: init 0x%x", id, capset);
    if (g_hash_table_size(gpu->virgl->contexts) >= GPU_MAX_CONTEXTS ||
        !gpu_charge(gpu, CONTEXT_CHARGE))
        return gpu_error(gpu, ERR_OUT_OF_MEMORY, "new context %u: there are %u already", id,
                         g_hash_table_size(gpu->virgl->contexts));
    memcpy(name, create->debug_name, length);
    length = strlen(name);
    ret = capset ? lib.virgl_renderer_context_create_with_flags(id, capset, length, name)
                 : lib.virgl_renderer_context_create(id, length, name);
    if (ret) {
        gpu_uncharge(gpu, CONTEXT_CHARGE);
        return gpu_error(gpu, ERR_OUT_OF_MEMORY, "new context %u: the renderer: %d", id, ret);
    }
    g_hash_table_add(gpu->virgl->contexts, GUINT_TO_POINTER(id));
    update_blocker(gpu);
    trace_virtio_gpu_context(gpu->vdev.device->name, id, "created");
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t gpu_destroy_context(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t id = GUINT32_FROM_LE(command->hdr.ctx_id);

    if (!g_hash_table_remove(gpu->virgl->contexts, GUINT_TO_POINTER(id)))
        return no_context(gpu, "destroy", id);
    lib.virgl_renderer_context_destroy(id);
    gpu_uncharge(gpu, CONTEXT_CHARGE);
    update_blocker(gpu);
    trace_virtio_gpu_context(gpu->vdev.device->name, id, "destroyed");
    return VIRTIO_GPU_RESP_OK_NODATA;
}

static uint32_t tell_context(struct virtio_gpu *gpu, const struct gpu_command *command,
                             const char *what, void (*tell)(int context, int resource))
{
    uint32_t context = GUINT32_FROM_LE(command->hdr.ctx_id);
    uint32_t id = GUINT32_FROM_LE(command->context_resource.resource_id);
    const struct gpu_resource *resource = gpu_find_resource(gpu, id);

    if (!has_context(gpu, context))
        return no_context(gpu, what, context);
    if (!resource)
        return gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "%s: no resource %u", what, id);
    if (resource->is_3d)
        tell(context, id);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t gpu_attach_resource(struct virtio_gpu *gpu, struct gpu_command *command)
{
    return tell_context(gpu, command, "attach resource", lib.virgl_renderer_ctx_attach_resource);
}

uint32_t gpu_detach_resource(struct virtio_gpu *gpu, struct gpu_command *command)
{
    return tell_context(gpu, command, "detach resource", lib.virgl_renderer_ctx_detach_resource);
}

uint32_t gpu_submit(struct virtio_gpu *gpu, struct gpu_command *command)
{
    uint32_t context = GUINT32_FROM_LE(command->hdr.ctx_id);
    uint32_t size = GUINT32_FROM_LE(command->submit.size);
    g_autofree uint32_t *words = NULL; /* a copy: the guest can't change what was checked */
    int ret;

    if (!has_context(gpu, context))
        return no_context(gpu, "submit", context);
    if (size % sizeof(*words) || command->element->out_bytes < (uint64_t)command->size + size)
        return gpu_error(gpu, ERR_INVALID_PARAMETER,
                         "submit: %u bytes of commands in %" G_GUINT64_FORMAT, size,
                         command->element->out_bytes);
    if (!size)
        return VIRTIO_GPU_RESP_OK_NODATA;
    if (size > MAX_SUBMIT || !(words = g_try_malloc(size)))
        return gpu_error(gpu, ERR_OUT_OF_MEMORY, "submit: %u bytes of commands, at most %u", size,
                         MAX_SUBMIT);
    if (iov_read(command->element->iov, command->element->out_count, command->size, words, size) !=
        size)
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "submit: not all of it is there");
    gpu->turn_left = 0; /* drawing may have taken long: viewers that wait come first */
    ret = lib.virgl_renderer_submit_cmd(words, context, size / sizeof(*words));
    trace_virtio_gpu_submit(gpu->vdev.device->name, context, size, ret);
    if (ret)
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "submit: context %u: the renderer: %d",
                         context, ret);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* ---- resources ---- */

/* Of a pixel, or more: formats (virgl's numbers) that are not listed count as the largest. */
static unsigned pixel_bytes(uint32_t format)
{
    static const struct {
        uint8_t first, last, bytes;
    } known[] = {
        {1, 8, 4},     /* B8G8R8A8 to R10G10B10A2 */
        {9, 12, 4},    /* L8, A8 */
        {16, 23, 4},   /* depth and stencil */
        {28, 28, 4},   /* R32_FLOAT */
        {48, 49, 4},   /* R16, R16G16 */
        {64, 68, 4},   /* R8 to R8G8B8A8, X8B8G8R8 */
        {121, 121, 4}, /* A8B8G8R8 */
        {134, 134, 4}, /* R8G8B8X8 */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++)
        if (format >= known[i].first && format <= known[i].last)
            return known[i].bytes;
    return 32;
}

/* Bytes that it takes at most; 0: it can't be. */
static uint64_t size_of(const struct virgl_renderer_resource_create_args *args)
{
    uint64_t bytes;

    if (args->target >= TARGETS || !args->width || !args->height || !args->depth ||
        args->last_level > MAX_LEVEL || args->nr_samples > MAX_SAMPLES)
        return 0;
    if (args->target == TARGET_BUFFER)
        return args->height == 1 && args->depth == 1 ? args->width : 0;
    if (args->width > DISPLAY_MAX_SIZE || args->height > DISPLAY_MAX_SIZE ||
        args->depth > DISPLAY_MAX_SIZE || args->array_size > DISPLAY_MAX_SIZE)
        return 0;
    /* 14 bits each for four sizes; 5 for samples and 5 for bytes do not fit: looked at in between. */
    bytes = (uint64_t)args->width * args->height * args->depth * MAX(args->array_size, 1);
    if (bytes > UINT32_MAX)
        return UINT64_MAX;
    bytes *= (uint64_t)pixel_bytes(args->format) * MAX(args->nr_samples, 1);
    return args->last_level ? bytes + bytes / 2 + 64 * 1024 : bytes; /* 4/3, and small ones */
}

uint32_t gpu_create_3d(struct virtio_gpu *gpu, struct gpu_command *command)
{
    const struct virtio_gpu_resource_create_3d *create = &command->create_3d;
    struct virgl_renderer_resource_create_args args = {
        .handle = GUINT32_FROM_LE(create->resource_id),
        .target = GUINT32_FROM_LE(create->target),
        .format = GUINT32_FROM_LE(create->format),
        .bind = GUINT32_FROM_LE(create->bind),
        .width = GUINT32_FROM_LE(create->width),
        .height = GUINT32_FROM_LE(create->height),
        .depth = GUINT32_FROM_LE(create->depth),
        .array_size = GUINT32_FROM_LE(create->array_size),
        .last_level = GUINT32_FROM_LE(create->last_level),
        .nr_samples = GUINT32_FROM_LE(create->nr_samples),
        .flags = GUINT32_FROM_LE(create->flags),
    };
    uint32_t response = gpu_check_new(gpu, args.handle);
    uint64_t size = size_of(&args);
    struct gpu_resource *resource;
    int ret;

    if (response != VIRTIO_GPU_RESP_OK_NODATA)
        return response;
    if (!size)
        return gpu_error(gpu, ERR_INVALID_PARAMETER,
                         "new resource %u: kind %u, %ux%ux%u, %u layers, %u levels, %u samples",
                         args.handle, args.target, args.width, args.height, args.depth,
                         args.array_size, args.last_level, args.nr_samples);
    if (size > gpu->memory || !gpu_charge(gpu, size + GPU_OVERHEAD))
        return gpu_over_budget(gpu, args.handle, size);
    ret = lib.virgl_renderer_resource_create(&args, NULL, 0);
    if (ret) {
        gpu_uncharge(gpu, size + GPU_OVERHEAD);
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "new resource %u: the renderer: %d",
                         args.handle, ret);
    }
    resource = gpu_add_resource(gpu, args.handle, size, size + GPU_OVERHEAD);
    resource->is_3d = true;
    resource->format = args.format;
    resource->width = args.width;
    resource->height = args.height;
    gpu->virgl->resources++;
    update_blocker(gpu);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

int gpu_virgl_attach(struct virtio_gpu *gpu, struct gpu_resource *resource)
{
    int ret;

    resource->iov = g_try_new(struct iovec, MAX(resource->piece_count, 1));
    if (!resource->iov)
        return -ENOMEM;
    for (unsigned i = 0; i < resource->piece_count; i++)
        resource->iov[i] =
            (struct iovec){(void *)resource->pieces[i].host, resource->pieces[i].length};
    ret =
        lib.virgl_renderer_resource_attach_iov(resource->id, resource->iov, resource->piece_count);
    if (ret)
        g_clear_pointer(&resource->iov, g_free);
    return ret ? -EINVAL : 0;
}

void gpu_virgl_detach(struct virtio_gpu *gpu, struct gpu_resource *resource)
{
    struct iovec *iov;
    int count;

    if (resource->iov)
        lib.virgl_renderer_resource_detach_iov(resource->id, &iov, &count);
    g_clear_pointer(&resource->iov, g_free);
}

void gpu_virgl_unref(struct virtio_gpu *gpu, struct gpu_resource *resource)
{
    gpu_virgl_detach(gpu, resource);
    lib.virgl_renderer_resource_unref(resource->id);
    gpu->virgl->resources--;
    update_blocker(gpu);
}

/* ---- transfers ---- */

static struct virgl_box *box_of(struct virtio_gpu_box *box)
{
    /* Both are x, y, z, w, h, d in 32 bits each; the library's is not in its header. */
    return (struct virgl_box *)box;
}

int gpu_virgl_read(const struct gpu_resource *resource, uint32_t x, uint32_t y, uint32_t width,
                   uint32_t rows, void *pixels)
{
    struct virtio_gpu_box box = {x, y, 0, width, rows, 1};
    struct iovec iov = {pixels, (size_t)width * rows * GPU_BYTES};

    return lib.virgl_renderer_transfer_read_iov(resource->id, 0, 0, width * GPU_BYTES, 0,
                                                box_of(&box), 0, &iov, 1)
               ? -EINVAL
               : 0;
}

int gpu_virgl_write(const struct gpu_resource *resource, const struct display_rect *rect,
                    uint64_t offset)
{
    struct virtio_gpu_box box = {rect->x, rect->y, 0, rect->width, rect->height, 1};

    return lib.virgl_renderer_transfer_write_iov(resource->id, 0, 0, 0, 0, box_of(&box), offset,
                                                 NULL, 0)
               ? -EINVAL
               : 0;
}

/* What both ways have in common; NULL with @response set. */
static struct gpu_resource *begin_transfer(struct virtio_gpu *gpu,
                                           const struct gpu_command *command,
                                           struct virtio_gpu_box *box, uint32_t *response)
{
    const struct virtio_gpu_transfer_host_3d *transfer = &command->transfer_3d;
    uint32_t id = GUINT32_FROM_LE(transfer->resource_id);
    uint32_t context = GUINT32_FROM_LE(transfer->hdr.ctx_id);
    struct gpu_resource *resource = gpu_find_resource(gpu, id);

    if (context && !has_context(gpu, context)) {
        *response = no_context(gpu, "transfer", context);
        return NULL;
    }
    if (!resource || !resource->is_3d) {
        *response = gpu_error(gpu, ERR_INVALID_RESOURCE_ID, "transfer: no 3D resource %u", id);
        return NULL;
    }
    gpu->turn_left = 0; /* it waits for GL */
    if (!resource->iov || GUINT64_FROM_LE(transfer->offset) >= resource->backing) {
        *response = gpu_error(gpu, ERR_INVALID_PARAMETER,
                              "transfer: byte %" G_GUINT64_FORMAT
                              " of resource %u, whose backing has %" G_GUINT64_FORMAT,
                              GUINT64_FROM_LE(transfer->offset), id, resource->backing);
        return NULL;
    }
    *box = (struct virtio_gpu_box){
        GUINT32_FROM_LE(transfer->box.x), GUINT32_FROM_LE(transfer->box.y),
        GUINT32_FROM_LE(transfer->box.z), GUINT32_FROM_LE(transfer->box.w),
        GUINT32_FROM_LE(transfer->box.h), GUINT32_FROM_LE(transfer->box.d),
    };
    return resource;
}

static uint32_t end_transfer(struct virtio_gpu *gpu, const struct gpu_resource *resource, int ret)
{
    if (ret)
        return gpu_error(gpu, ERR_INVALID_PARAMETER, "transfer: resource %u: the renderer: %d",
                         resource->id, ret);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t gpu_transfer_to_3d(struct virtio_gpu *gpu, struct gpu_command *command)
{
    const struct virtio_gpu_transfer_host_3d *transfer = &command->transfer_3d;
    struct virtio_gpu_box box;
    uint32_t response;
    struct gpu_resource *resource = begin_transfer(gpu, command, &box, &response);

    if (!resource)
        return response;
    return end_transfer(
        gpu, resource,
        lib.virgl_renderer_transfer_write_iov(resource->id, GUINT32_FROM_LE(transfer->hdr.ctx_id),
                                              (int)GUINT32_FROM_LE(transfer->level),
                                              GUINT32_FROM_LE(transfer->stride),
                                              GUINT32_FROM_LE(transfer->layer_stride), box_of(&box),
                                              GUINT64_FROM_LE(transfer->offset), NULL, 0));
}

uint32_t gpu_transfer_from_3d(struct virtio_gpu *gpu, struct gpu_command *command)
{
    const struct virtio_gpu_transfer_host_3d *transfer = &command->transfer_3d;
    struct virtio_gpu_box box;
    uint32_t response;
    struct gpu_resource *resource = begin_transfer(gpu, command, &box, &response);
    int ret;

    if (!resource)
        return response;
    if (dma_allowed(gpu->vdev.dma, DMA_FROM_DEVICE))
        return gpu_error(gpu, ERR_UNSPEC, "transfer: bus mastering is off");
    ret = lib.virgl_renderer_transfer_read_iov(
        resource->id, GUINT32_FROM_LE(transfer->hdr.ctx_id), GUINT32_FROM_LE(transfer->level),
        GUINT32_FROM_LE(transfer->stride), GUINT32_FROM_LE(transfer->layer_stride), box_of(&box),
        GUINT64_FROM_LE(transfer->offset), NULL, 0);
    /* Which of its bytes is the library's to know. */
    dma_written_iov(gpu->vdev.dma, resource->iov, resource->piece_count, resource->backing);
    return end_transfer(gpu, resource, ret);
}

/* ---- life ---- */

void gpu_virgl_reset(struct gpu_virgl *virgl)
{
    GHashTableIter iter;
    gpointer id;

    gpu_virgl_drop_fences(virgl);
    g_hash_table_iter_init(&iter, virgl->contexts);
    while (g_hash_table_iter_next(&iter, &id, NULL)) {
        lib.virgl_renderer_context_destroy(GPOINTER_TO_UINT(id));
        gpu_uncharge(virgl->gpu, CONTEXT_CHARGE);
        g_hash_table_iter_remove(&iter);
    }
    if (virgl->gpu->vdev.device)
        update_blocker(virgl->gpu);
}

static void on_message(const char *format, va_list ap) G_GNUC_PRINTF(1, 0);
static void on_message(const char *format, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(format, ap);

    log_debug("virgl", "%s", g_strchomp(text));
}

static void find_capsets(struct gpu_virgl *virgl)
{
    static const uint32_t ids[] = {VIRTIO_GPU_CAPSET_VIRGL, VIRTIO_GPU_CAPSET_VIRGL2};

    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++) {
        struct capset *capset = &virgl->capsets[virgl->capset_count];

        capset->id = ids[i];
        lib.virgl_renderer_get_cap_set(ids[i], &capset->version, &capset->size);
        if (capset->size && capset->size <= GPU_MAX_CAPSET)
            virgl->capset_count++;
    }
}

static void start(void *opaque)
{
    static struct virgl_renderer_callbacks callbacks = {.version = 2, .write_fence = on_fence};
    struct gpu_virgl *virgl = opaque;
    struct loop *loop = virgl->gpu->vdev.loop;
    int fd;

    lib.virgl_set_debug_callback(on_message);
    virgl->ret = lib.virgl_renderer_init(
        virgl, VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS | VIRGL_RENDERER_THREAD_SYNC,
        &callbacks);
    if (virgl->ret)
        return;
    find_capsets(virgl);
    fd = lib.virgl_renderer_get_poll_fd();
    if (fd >= 0)
        virgl->watch = loop_fd_create(loop, fd, G_IO_IN, on_poll_fd, virgl);
    else
        virgl->timer = loop_timer_create(loop, on_timer, virgl);
}

static void stop(void *opaque)
{
    struct gpu_virgl *virgl = opaque;

    loop_fd_destroy(virgl->watch);
    loop_timer_destroy(virgl->timer);
    if (!virgl->ret)
        lib.virgl_renderer_cleanup(virgl);
}

struct gpu_virgl *gpu_virgl_create(struct virtio_gpu *gpu, GError **error)
{
    g_autoptr(GError) reason = NULL;
    struct gpu_virgl *virgl;

    if (in_use) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    "another GPU of this machine has it, and virglrenderer serves one a process");
        return NULL;
    }
    if (!display_load_library(library, symbols, &lib, &reason)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "%s (Debian: apt-get install libvirglrenderer1)", reason->message);
        return NULL;
    }
    virgl = g_new0(struct gpu_virgl, 1);
    virgl->gpu = gpu;
    virgl->contexts = g_hash_table_new(NULL, NULL);
    g_queue_init(&virgl->fences);
    in_use = true;
    loop_call(gpu->vdev.loop, start, virgl);
    if (virgl->ret || !virgl->capset_count) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    "virglrenderer finds no OpenGL (%d): it needs EGL with Mesa's drivers (Debian: "
                    "apt-get install libegl1 libgl1-mesa-dri), and if there is a GPU, permission "
                    "to use /dev/dri/renderD*; --log debug shows what it says",
                    virgl->ret);
        gpu_virgl_destroy(virgl);
        return NULL;
    }
    return virgl;
}

void gpu_virgl_destroy(struct gpu_virgl *virgl)
{
    if (!virgl)
        return;
    loop_call(virgl->gpu->vdev.loop, stop, virgl);
    g_hash_table_destroy(virgl->contexts);
    g_free(virgl);
    in_use = false;
}
