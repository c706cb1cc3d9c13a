/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gpu - the virtio GPU (contract: virtio/gpu.h; virtio 1.3, 5.7; stock driver: virtio_gpu)
 *
 * Two queues. The control queue is carried out in order, one command after the other; what copies many
 * pixels (transfers, flushes of large blobs and foreign formats) does so in turns of the loop, and the rest of
 * the queue waits. A response goes out when its command is done, so that a fence, which is no more than
 * an answer that the driver waits for, means what it says (5.7.6.7). The cursor queue does not wait.
 *
 * EDID, resource UUIDs and blob resources in guest memory, as far as the kernel headers that this was
 * built with know them (meson looks). 3D contexts with virgl=on, where the host can serve them
 * (gpu_virgl.c); else their commands get ERR_UNSPEC, as do those for blobs in host memory. A command that
 * is too short gets INVALID_PARAMETER, one that is not known ERR_UNSPEC; an answer that finds too little
 * room is cut off. Nothing that a guest sends breaks the device.
 *
 * Viewers (backends/display) are told and never waited for. A screen that wants another size is announced
 * by a configuration change (5.7.4). Saved with the guest: resources, scanouts, cursors; see gpu_state.c.
 *
 * Files: gpu_resource.c, gpu_scanout.c, gpu_edid.c, gpu_state.c, gpu_options.c, gpu_virgl.c.
 *
 * Limits: GPU_MAX_RESOURCES resources, memory= bytes for them, DISPLAY_MAX_SCANOUTS screens in a machine.
 *
 * Thread: the device's loop.
 */
#include "virtio/gpu.h"

#include <gio/gio.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "virtio/gpu_virgl.h"
#include "vmm/iov.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_gpu_command, "%s queue=%u type=0x%x flags=0x%x fence=%" G_GUINT64_FORMAT,
            (const char *device, unsigned queue, uint32_t type, uint32_t flags, uint64_t fence),
            device, queue, type, flags, fence)
TRACE_EVENT(virtio_gpu_response, "%s queue=%u type=0x%x response=0x%x",
            (const char *device, unsigned queue, uint32_t type, uint32_t response), device, queue,
            type, response)
TRACE_EVENT(virtio_gpu_resize, "%s scanout=%u %ux%u",
            (const char *device, unsigned scanout, uint32_t width, uint32_t height), device,
            scanout, width, height)

#define CONTROL_QUEUE     0u
#define CURSOR_QUEUE      1u
#define COMMANDS_A_TURN   64u
#define PIECES            (VIRTQ_MAX_SEGMENTS + 2u) /* some cross the end of a memory region */
#define PCI_CLASS_DISPLAY 0x038000u                 /* display controller, other */
#define ALWAYS            (-1)

static const struct {
    uint32_t type;
    unsigned queue;
    int feature; /* that must have been negotiated */
    size_t size;
    gpu_handler *run;
} commands[] = {
#define COMMAND(TYPE, QUEUE, FEATURE, STRUCT, RUN)                                                 \
    {                                                                                              \
        VIRTIO_GPU_CMD_##TYPE, QUEUE##_QUEUE, FEATURE, sizeof(struct virtio_gpu_##STRUCT), RUN     \
    }
    COMMAND(GET_DISPLAY_INFO, CONTROL, ALWAYS, ctrl_hdr, gpu_get_display_info),
    COMMAND(RESOURCE_CREATE_2D, CONTROL, ALWAYS, resource_create_2d, gpu_create_2d),
    COMMAND(RESOURCE_UNREF, CONTROL, ALWAYS, resource_unref, gpu_unref),
    COMMAND(SET_SCANOUT, CONTROL, ALWAYS, set_scanout, gpu_set_scanout),
    COMMAND(RESOURCE_FLUSH, CONTROL, ALWAYS, resource_flush, gpu_flush),
    COMMAND(TRANSFER_TO_HOST_2D, CONTROL, ALWAYS, transfer_to_host_2d, gpu_transfer),
    COMMAND(RESOURCE_ATTACH_BACKING, CONTROL, ALWAYS, resource_attach_backing, gpu_attach_backing),
    COMMAND(RESOURCE_DETACH_BACKING, CONTROL, ALWAYS, resource_detach_backing, gpu_detach_backing),
#ifdef HAVE_VIRTIO_GPU_EDID
    COMMAND(GET_EDID, CONTROL, VIRTIO_GPU_F_EDID, cmd_get_edid, gpu_get_edid),
#endif
#ifdef HAVE_VIRTIO_GPU_UUID
    COMMAND(RESOURCE_ASSIGN_UUID, CONTROL, VIRTIO_GPU_F_RESOURCE_UUID, resource_assign_uuid,
            gpu_assign_uuid),
#endif
#ifdef HAVE_VIRTIO_GPU_BLOB
    COMMAND(RESOURCE_CREATE_BLOB, CONTROL, VIRTIO_GPU_F_RESOURCE_BLOB, resource_create_blob,
            gpu_create_blob),
    COMMAND(SET_SCANOUT_BLOB, CONTROL, VIRTIO_GPU_F_RESOURCE_BLOB, set_scanout_blob,
            gpu_set_scanout_blob),
#endif
#ifdef HAVE_VIRGLRENDERER
    COMMAND(GET_CAPSET_INFO, CONTROL, VIRTIO_GPU_F_VIRGL, get_capset_info, gpu_get_capset_info),
    COMMAND(GET_CAPSET, CONTROL, VIRTIO_GPU_F_VIRGL, get_capset, gpu_get_capset),
    COMMAND(CTX_CREATE, CONTROL, VIRTIO_GPU_F_VIRGL, ctx_create, gpu_create_context),
    COMMAND(CTX_DESTROY, CONTROL, VIRTIO_GPU_F_VIRGL, ctx_destroy, gpu_destroy_context),
    COMMAND(CTX_ATTACH_RESOURCE, CONTROL, VIRTIO_GPU_F_VIRGL, ctx_resource, gpu_attach_resource),
    COMMAND(CTX_DETACH_RESOURCE, CONTROL, VIRTIO_GPU_F_VIRGL, ctx_resource, gpu_detach_resource),
    COMMAND(RESOURCE_CREATE_3D, CONTROL, VIRTIO_GPU_F_VIRGL, resource_create_3d, gpu_create_3d),
    COMMAND(TRANSFER_TO_HOST_3D, CONTROL, VIRTIO_GPU_F_VIRGL, transfer_host_3d, gpu_transfer_to_3d),
    COMMAND(TRANSFER_FROM_HOST_3D, CONTROL, VIRTIO_GPU_F_VIRGL, transfer_host_3d,
            gpu_transfer_from_3d),
    COMMAND(SUBMIT_3D, CONTROL, VIRTIO_GPU_F_VIRGL, cmd_submit, gpu_submit),
#endif
    COMMAND(UPDATE_CURSOR, CURSOR, ALWAYS, update_cursor, gpu_update_cursor),
    COMMAND(MOVE_CURSOR, CURSOR, ALWAYS, update_cursor, gpu_move_cursor),
#undef COMMAND
};

static struct virtio_gpu *to_gpu(struct virtio_device *vdev)
{
    return (struct virtio_gpu *)vdev;
}

/* ---- commands and responses ---- */

static void respond(struct virtio_gpu *gpu, unsigned queue, const struct virtq_element *element,
                    const void *reply, size_t size)
{
    if (dma_allowed(gpu->vdev.dma, DMA_FROM_DEVICE))
        size = 0; /* bus mastering went off meanwhile */
    size = iov_write(element->iov + element->out_count, element->in_count, 0, reply, size);
    virtq_push(virtio_device_queue(&gpu->vdev, queue), element, size);
}

void gpu_respond_control(struct virtio_gpu *gpu, const struct virtq_element *element,
                         const void *reply, size_t size)
{
    respond(gpu, CONTROL_QUEUE, element, reply, size);
}

void gpu_flush_control(struct virtio_gpu *gpu)
{
    virtq_flush(virtio_device_queue(&gpu->vdev, CONTROL_QUEUE));
}

static uint32_t run_command(struct virtio_gpu *gpu, unsigned queue, struct gpu_command *command,
                            size_t size)
{
    uint32_t type = GUINT32_FROM_LE(command->hdr.type);

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (commands[i].type != type || commands[i].queue != queue)
            continue;
        if (commands[i].feature != ALWAYS && !virtio_device_has(&gpu->vdev, commands[i].feature))
            break;
        if (size < commands[i].size)
            return gpu_error(gpu, ERR_INVALID_PARAMETER, "command 0x%x of %zu bytes, %zu expected",
                             type, size, commands[i].size);
        command->size = commands[i].size;
        return commands[i].run(gpu, command);
    }
    return gpu_error(gpu, ERR_UNSPEC, "command 0x%x on queue %u is not known or was not negotiated",
                     type, queue);
}

/* Carries out what is in @element. What it began is in gpu->job, its response then waits there. */
static void carry_out(struct virtio_gpu *gpu, unsigned queue, const struct virtq_element *element,
                      struct gpu_command *command)
{
    const size_t fixed = offsetof(struct gpu_command, element);
    size_t size;
    uint32_t response;

    memset(command, 0, sizeof(*command));
    command->element = element;
    command->reply_size = sizeof(command->reply.hdr);
    size = iov_read(element->iov, element->out_count, 0, command, fixed);
    trace_virtio_gpu_command(gpu->vdev.device->name, queue, GUINT32_FROM_LE(command->hdr.type),
                             GUINT32_FROM_LE(command->hdr.flags),
                             GUINT64_FROM_LE(command->hdr.fence_id));
    if (size < sizeof(command->hdr))
        response = gpu_error(gpu, ERR_INVALID_PARAMETER, "a command of %zu bytes on queue %u", size,
                             queue);
    else
        response = run_command(gpu, queue, command, size);
    trace_virtio_gpu_response(gpu->vdev.device->name, queue, GUINT32_FROM_LE(command->hdr.type),
                              response);
    command->reply.hdr.type = GUINT32_TO_LE(response);
    if (size >= sizeof(command->hdr) &&
        GUINT32_FROM_LE(command->hdr.flags) & VIRTIO_GPU_FLAG_FENCE) {
        command->reply.hdr.flags = GUINT32_TO_LE(VIRTIO_GPU_FLAG_FENCE);
        command->reply.hdr.fence_id = command->hdr.fence_id;
        command->reply.hdr.ctx_id = command->hdr.ctx_id;
#ifdef HAVE_VIRTIO_GPU_CONTEXT_INIT
        if (virtio_device_has(&gpu->vdev, VIRTIO_GPU_F_CONTEXT_INIT)) {
            command->reply.hdr.flags |=
                command->hdr.flags & GUINT32_TO_LE(VIRTIO_GPU_FLAG_INFO_RING_IDX);
            command->reply.hdr.ring_idx = command->hdr.ring_idx;
        }
#endif
    }
}

/* ---- the queues ---- */

static bool continue_job(struct virtio_gpu *gpu)
{
    bool done = gpu->job.kind == GPU_TRANSFER  ? gpu_continue_transfer(gpu)
                : gpu->job.kind == GPU_REFRESH ? gpu_continue_refresh(gpu)
                                               : true;

    if (done)
        gpu->job.kind = GPU_NO_JOB;
    return done;
}

/* Goes on with the command that is out. True: it is done, its response sent. */
static bool continue_command(struct virtio_gpu *gpu)
{
    /* With bus mastering off there is nothing to copy, and nobody to answer. */
    if (!dma_allowed(gpu->vdev.dma, DMA_TO_DEVICE) && !continue_job(gpu))
        return false;
    gpu->job.kind = GPU_NO_JOB;
    gpu->busy = false;
    if (!gpu->virgl || !gpu_virgl_defer(gpu, &gpu->pending))
        respond(gpu, CONTROL_QUEUE, gpu->element, &gpu->pending.reply, gpu->pending.reply_size);
    return true;
}

/* One command from the control queue: false when there is none, or it is not done yet. */
static bool next_command(struct virtio_gpu *gpu, struct virtq *vq)
{
    if (virtq_pop(vq, gpu->element) <= 0)
        return false;
    gpu->busy = true;
    carry_out(gpu, CONTROL_QUEUE, gpu->element, &gpu->pending);
    return continue_command(gpu);
}

static void control_ready(struct virtio_gpu *gpu)
{
    struct virtq *vq = virtio_device_queue(&gpu->vdev, CONTROL_QUEUE);
    unsigned left = COMMANDS_A_TURN;

    gpu->turn_left = GPU_TURN_BYTES;
    if (gpu->busy && !continue_command(gpu))
        left = 0;
    do {
        virtq_disable_notify(vq);
        while (left && gpu->turn_left && next_command(gpu, vq))
            left--;
        virtq_flush(vq);
        if (gpu->busy || !left || !gpu->turn_left) { /* the others' turn first */
            virtio_device_kick(&gpu->vdev, CONTROL_QUEUE);
            return;
        }
    } while (virtq_enable_notify(vq));
}

static void cursor_ready(struct virtio_gpu *gpu)
{
    struct virtq *vq = virtio_device_queue(&gpu->vdev, CURSOR_QUEUE);
    unsigned left = COMMANDS_A_TURN;
    struct gpu_command command;

    do {
        virtq_disable_notify(vq);
        while (left && virtq_pop(vq, gpu->cursor_element) > 0) {
            carry_out(gpu, CURSOR_QUEUE, gpu->cursor_element, &command);
            respond(gpu, CURSOR_QUEUE, gpu->cursor_element, &command.reply, command.reply_size);
            left--;
        }
        virtq_flush(vq);
        if (!left) {
            virtio_device_kick(&gpu->vdev, CURSOR_QUEUE);
            return;
        }
    } while (virtq_enable_notify(vq));
}

static void gpu_queue_ready(struct virtio_device *vdev, unsigned index)
{
    if (index == CONTROL_QUEUE)
        control_ready(to_gpu(vdev));
    else
        cursor_ready(to_gpu(vdev));
}

/* ---- life ---- */

static void drop_command(struct virtio_gpu *gpu)
{
    gpu->busy = false;
    gpu->job = (struct gpu_job){0};
}

/* The control queue is gone, and with it whoever waited for answers. */
static void drop_control(struct virtio_gpu *gpu)
{
    drop_command(gpu);
    if (gpu->virgl)
        gpu_virgl_drop_fences(gpu->virgl);
}

/* To power-on, but for the sizes that the screens prefer. */
static void forget_all(struct virtio_gpu *gpu)
{
    GHashTableIter iter;
    gpointer resource;

    drop_control(gpu);
    for (unsigned i = 0; i < gpu->scanout_count; i++) {
        struct gpu_scanout *scanout = &gpu->scanouts[i];

        gpu_hide(gpu, i);
        g_clear_pointer(&scanout->cursor, display_surface_unref);
        scanout->hot_x = scanout->hot_y = 0;
        scanout->cursor_x = scanout->cursor_y = 0;
        gpu_show_cursor(gpu, i);
    }
    for (;;) {
        g_hash_table_iter_init(&iter, gpu->resources);
        if (!g_hash_table_iter_next(&iter, NULL, &resource))
            break;
        gpu_remove_resource(gpu, resource);
    }
    if (gpu->virgl)
        gpu_virgl_reset(gpu->virgl);
}

static void set_events(struct virtio_gpu *gpu, uint32_t events, bool notify)
{
    const uint32_t fields[2] = {GUINT32_TO_LE(events), 0};

    G_STATIC_ASSERT(offsetof(struct virtio_gpu_config, events_read) == 0 &&
                    offsetof(struct virtio_gpu_config, events_clear) == 4);
    virtio_device_set_config(&gpu->vdev, 0, fields, sizeof(fields), notify);
}

static uint32_t config_word(const struct virtio_gpu *gpu, unsigned offset)
{
    uint32_t word;

    memcpy(&word, gpu->vdev.config + offset, sizeof(word));
    return GUINT32_FROM_LE(word);
}

static void gpu_stop(struct virtio_device *vdev)
{
    forget_all(to_gpu(vdev));
    if (device_state(vdev->device) !=
        DEVICE_RESUMING) /* a state that is being loaded has its own */
        set_events(to_gpu(vdev), 0, false);
    virtio_device_stopped(vdev);
}

static void gpu_queue_stop(struct virtio_device *vdev, unsigned index)
{
    if (index == CONTROL_QUEUE)
        drop_control(to_gpu(vdev));
    virtio_device_queue_stopped(vdev, index);
}

static void gpu_config_written(struct virtio_device *vdev, unsigned offset, unsigned size)
{
    uint32_t clear = config_word(to_gpu(vdev), offsetof(struct virtio_gpu_config, events_clear));
    uint32_t events = config_word(to_gpu(vdev), offsetof(struct virtio_gpu_config, events_read));

    set_events(to_gpu(vdev), events & ~clear, false);
}

/* The command that is not done goes back to its ring, and begins anew when the device goes on. */
static void gpu_quiesce(struct virtio_device *vdev)
{
    struct virtio_gpu *gpu = to_gpu(vdev);

    if (gpu->busy)
        virtq_unpop(virtio_device_queue(vdev, CONTROL_QUEUE), gpu->element);
    drop_command(gpu);
    /* A guest that stands still shows what it flushed last. */
    for (unsigned i = 0; i < gpu->scanout_count; i++)
        gpu_catch_up(gpu, i);
}

static void gpu_resume(struct virtio_device *vdev)
{
    gpu_clear_saved(to_gpu(vdev));
    gpu_refresh_copies(to_gpu(vdev));
}

static int gpu_start(struct virtio_device *vdev)
{
    gpu_refresh_copies(to_gpu(vdev)); /* of a state that was loaded */
    return 0;
}

static void on_resize(void *opaque, unsigned index, uint32_t width, uint32_t height)
{
    struct virtio_gpu *gpu = opaque;
    struct gpu_scanout *scanout = &gpu->scanouts[index];
    uint32_t events = config_word(gpu, offsetof(struct virtio_gpu_config, events_read));

    trace_virtio_gpu_resize(gpu->vdev.device->name, index, width, height);
    scanout->enabled = width && height;
    if (scanout->enabled) {
        scanout->width = width;
        scanout->height = height;
    }
    set_events(gpu, events | VIRTIO_GPU_EVENT_DISPLAY, true);
}

static void on_refresh(void *opaque, unsigned index)
{
    gpu_catch_up(opaque, index);
}
static const struct display_source_ops source_ops = {on_resize, on_refresh};

static void remove_source(void *opaque)
{
    struct virtio_gpu *gpu = opaque;

    forget_all(gpu);
    display_remove_source(gpu->source);
}

static void gpu_destroy(struct virtio_device *vdev)
{
    struct virtio_gpu *gpu = to_gpu(vdev);

    loop_call(vdev->loop, remove_source, gpu);
    gpu_virgl_destroy(gpu->virgl);
    gpu_clear_saved(gpu);
    virtio_device_finish(vdev);
    g_hash_table_destroy(gpu->resources);
    g_free(gpu->saved_resources);
    g_free(gpu->element);
    g_free(gpu->cursor_element);
    g_free(gpu);
}

static const struct virtio_class gpu_class = {
    .type = "virtio-gpu",
    .id = VIRTIO_ID_GPU,
    .pci_class = PCI_CLASS_DISPLAY,
    .features = 0
#ifdef HAVE_VIRTIO_GPU_EDID
                | BIT(VIRTIO_GPU_F_EDID)
#endif
#ifdef HAVE_VIRTIO_GPU_UUID
                | BIT(VIRTIO_GPU_F_RESOURCE_UUID)
#endif
#ifdef HAVE_VIRTIO_GPU_BLOB
                | BIT(VIRTIO_GPU_F_RESOURCE_BLOB)
#endif
#ifdef HAVE_VIRGLRENDERER
                | BIT(VIRTIO_GPU_F_VIRGL)
#ifdef HAVE_VIRTIO_GPU_CONTEXT_INIT
                | BIT(VIRTIO_GPU_F_CONTEXT_INIT)
#endif
#endif
        ,
    .config_size = sizeof(struct virtio_gpu_config),
    .start = gpu_start,
    .stop = gpu_stop,
    .queue_ready = gpu_queue_ready,
    .queue_stop = gpu_queue_stop,
    .config_written = gpu_config_written,
    .quiesce = gpu_quiesce,
    .resume = gpu_resume,
    .before_save = gpu_before_save,
    .state_table = &gpu_state,
    .after_load = gpu_after_load,
    .destroy = gpu_destroy,
};

static void withdraw_features(struct virtio_gpu *gpu, const struct options *options)
{
#ifdef HAVE_VIRTIO_GPU_EDID
    if (!options_bool(options, "edid"))
        gpu->vdev.offered &= ~BIT(VIRTIO_GPU_F_EDID);
#endif
#ifdef HAVE_VIRTIO_GPU_BLOB
    if (!options_bool(options, "blob"))
        gpu->vdev.offered &= ~BIT(VIRTIO_GPU_F_RESOURCE_BLOB);
#endif
    if (!gpu->virgl)
        gpu->vdev.offered &= ~BIT(VIRTIO_GPU_F_VIRGL);
#ifdef HAVE_VIRTIO_GPU_CONTEXT_INIT
    if (!gpu->virgl)
        gpu->vdev.offered &= ~BIT(VIRTIO_GPU_F_CONTEXT_INIT);
#endif
}

/* Adds 3D, if it is wanted. */
static bool add_virgl(struct virtio_gpu *gpu, const struct options *options, GError **error)
{
    g_autoptr(GError) reason = NULL;
    struct virtio_gpu_config config = {.num_scanouts = GUINT32_TO_LE(gpu->scanout_count)};

    if (!options_bool(options, "virgl"))
        return true;
    gpu->virgl = gpu_virgl_create(gpu, &reason);
    if (!gpu->virgl) {
        options_set_error(error, options, "virgl", "%s", reason->message);
        return false;
    }
    config.num_capsets = GUINT32_TO_LE(gpu_virgl_capsets(gpu->virgl));
    memcpy(gpu->vdev.config, &config, sizeof(config));
    return true;
}

static void set_up(struct virtio_gpu *gpu, const struct options *options)
{
    const struct virtio_gpu_config config = {.num_scanouts = GUINT32_TO_LE(gpu->scanout_count)};

    gpu->memory = options_uint(options, "memory");
    for (unsigned i = 0; i < gpu->scanout_count; i++) {
        gpu->scanouts[i].width = options_uint(options, "width");
        gpu->scanouts[i].height = options_uint(options, "height");
        gpu->scanouts[i].enabled = true;
    }
    memcpy(gpu->vdev.config, &config, sizeof(config));
    memset(gpu->vdev.config_writable + offsetof(struct virtio_gpu_config, events_clear), 0xff, 4);
    gpu->resources = g_hash_table_new_full(NULL, NULL, NULL, gpu_free_resource);
    gpu->saved_resources = g_new0(struct gpu_saved_resource, GPU_MAX_RESOURCES);
    gpu->element = virtq_element_create(PIECES);
    gpu->cursor_element = virtq_element_create(PIECES);
}

struct virtio_device *virtio_gpu_create(const struct options *options, struct loop *loop,
                                        struct display *display, GError **error)
{
    struct virtio_ring_options ring;
    struct virtio_gpu *gpu;
    uint16_t queue_size;
    int ret;

    if (!virtio_ring_options_read(options, &ring, &queue_size, error))
        return NULL;
    gpu = g_new0(struct virtio_gpu, 1);
    gpu->scanout_count = options_uint(options, "scanouts");
    gpu->source = display_add_source(display, gpu->scanout_count, loop, &source_ops, gpu, error);
    if (!gpu->source) {
        g_prefix_error(error, "%s: ", options_what(options));
        g_free(gpu);
        return NULL;
    }
    ret = virtio_device_init(&gpu->vdev, &gpu_class, 2, queue_size, loop);
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "%s: event files: %s",
                    options_what(options), g_strerror(-ret));
        display_remove_source(gpu->source);
        g_free(gpu);
        return NULL;
    }
    virtio_device_set_ring_options(&gpu->vdev, &ring);
    set_up(gpu, options);
    if (!add_virgl(gpu, options, error)) {
        gpu_destroy(&gpu->vdev);
        return NULL;
    }
    withdraw_features(gpu, options);
    return &gpu->vdev;
}

uint64_t virtio_gpu_memory_used(const struct virtio_device *vdev)
{
    return ((const struct virtio_gpu *)vdev)->used;
}

unsigned virtio_gpu_resource_count(const struct virtio_device *vdev)
{
    return g_hash_table_size(((const struct virtio_gpu *)vdev)->resources);
}
