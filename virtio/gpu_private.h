/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gpu_private - between the files of virtio/gpu: gpu.c (queues, life), gpu_resource.c, gpu_scanout.c,
 * gpu_edid.c, gpu_state.c, gpu_virgl.c; nobody else includes it
 *
 * Thread: the device's loop.
 */
#ifndef VIRTIO_GPU_PRIVATE_H
#define VIRTIO_GPU_PRIVATE_H

#include <linux/virtio_gpu.h>
#include <pixman.h>

#include "backends/display/display.h"
#include "config.h"
#include "virtio/gpu.h"
#include "vmm/log.h"
#include "vmm/state.h"

#define GPU_MAX_RESOURCES 4096u
#define GPU_MAX_ENTRIES   (1u << 20) /* of a backing list: 4 GiB in pages */
#define GPU_BYTES         4u         /* of a pixel, in every format there is */
#define GPU_CURSOR        64u        /* width and height of a cursor (5.7.6.10) */
#define GPU_TURN_BYTES    (8u << 20) /* copied before others on the loop get their turn */
#define GPU_MAX_EDID      256u
#define GPU_MAX_CAPSET    4096u
#define GPU_OVERHEAD      512u /* what a resource takes beside its pixels, about */

#define BIT(n) (UINT64_C(1) << (n))

struct virtio_gpu;

/* A run of guest memory; its place in the backing list. */
struct gpu_piece {
    uint64_t offset, length;
    const uint8_t *host;
};

struct gpu_resource {
    uint32_t id;
    bool blob;                      /* in guest memory; else the host has the pixels */
    bool is_3d;                     /* virglrenderer has them (gpu_virgl.c) */
    uint32_t format, width, height; /* 2D, 3D */
    uint64_t size;                  /* bytes: of the pixels, or as the driver said of a blob */
    struct display_surface *pixels; /* 2D; of any format */
    /* Backing: the list as the driver gave it, and where it is. */
    struct virtio_gpu_mem_entry *entries;
    uint32_t entry_count;
    struct gpu_piece *pieces;
    unsigned piece_count;
    struct iovec *iov; /* the pieces again, 3D: virglrenderer keeps it */
    uint64_t backing;  /* bytes */
    bool has_uuid;
    uint8_t uuid[16];
    uint64_t charged; /* bytes of the budget */
};

struct gpu_scanout {
    /* What it prefers, for display info and EDID. */
    uint32_t width, height;
    bool enabled;
    /* What the driver shows there. */
    struct gpu_resource *resource; /* NULL: nothing */
    struct display_rect rect;      /* of the frame that is shown */
    uint32_t format;
    uint32_t frame_width, frame_height, stride; /* of a blob */
    uint64_t offset;
    struct display_surface *surface; /* shown */
    bool is_copy;                    /* of the resource, in the display's format; made by flushes */
    bool stale;                      /* the copy is of another resource */
    struct display_rect behind; /* flushed and not yet copied, of the frame; width 0: nothing */
    uint64_t charged;
    struct display_surface *cursor;
    uint32_t hot_x, hot_y;
    int32_t cursor_x, cursor_y;
};

/* A command that takes its time: it is carried out in turns, and nothing behind it in its queue before
 * it is done. */
struct gpu_job {
    enum { GPU_NO_JOB, GPU_TRANSFER, GPU_REFRESH } kind;
    struct gpu_resource *resource;
    struct display_rect rect;
    uint64_t offset;            /* TRANSFER: in the backing, of the rectangle's first pixel */
    unsigned scanout, scanouts; /* REFRESH: from, up to */
    uint32_t row;               /* that many are done */
};

/* What is saved: a picture of the above, made before and used up after. */
struct gpu_saved_resource {
    uint32_t id;
    bool blob, has_uuid, has_backing;
    uint32_t format, width, height;
    uint64_t size;
    uint8_t uuid[16];
    GByteArray *entries, *pixels;
};
struct gpu_saved_scanout {
    uint32_t width, height;
    bool enabled;
    uint32_t resource_id;
    uint32_t x, y, shown_width, shown_height;
    uint32_t format, frame_width, frame_height, stride;
    uint64_t offset;
    GByteArray *cursor;
    uint32_t hot_x, hot_y, cursor_x, cursor_y;
};

/* One command, copied out of its chain. */
struct gpu_command {
    union {
        struct virtio_gpu_ctrl_hdr hdr;
        struct virtio_gpu_resource_create_2d create;
        struct virtio_gpu_resource_unref unref;
        struct virtio_gpu_set_scanout set_scanout;
        struct virtio_gpu_resource_flush flush;
        struct virtio_gpu_transfer_to_host_2d transfer;
        struct virtio_gpu_resource_attach_backing attach;
        struct virtio_gpu_resource_detach_backing detach;
        struct virtio_gpu_update_cursor cursor;
        struct virtio_gpu_get_capset_info capset_info;
        struct virtio_gpu_get_capset capset;
        struct virtio_gpu_ctx_create create_context;
        struct virtio_gpu_ctx_resource context_resource;
        struct virtio_gpu_resource_create_3d create_3d;
        struct virtio_gpu_transfer_host_3d transfer_3d;
        struct virtio_gpu_cmd_submit submit;
#ifdef HAVE_VIRTIO_GPU_EDID
        struct virtio_gpu_cmd_get_edid edid;
#endif
#ifdef HAVE_VIRTIO_GPU_UUID
        struct virtio_gpu_resource_assign_uuid uuid;
#endif
#ifdef HAVE_VIRTIO_GPU_BLOB
        struct virtio_gpu_resource_create_blob blob;
        struct virtio_gpu_set_scanout_blob set_blob;
#endif
    };
    const struct virtq_element *element;
    size_t size; /* of the command's fixed part; a list may follow in the element */
    union {
        struct virtio_gpu_ctrl_hdr hdr;
        struct virtio_gpu_resp_display_info info;
#ifdef HAVE_VIRTIO_GPU_EDID
        struct virtio_gpu_resp_edid edid;
#endif
#ifdef HAVE_VIRTIO_GPU_UUID
        struct virtio_gpu_resp_resource_uuid uuid;
#endif
        struct virtio_gpu_resp_capset_info capset_info;
        struct {
            struct virtio_gpu_ctrl_hdr hdr;
            uint8_t data[GPU_MAX_CAPSET];
        } capset;
    } reply;
    size_t reply_size;
};

struct virtio_gpu {
    struct virtio_device vdev; /* first */
    struct display_source *source;
    struct gpu_virgl *virgl; /* NULL: no 3D */
    struct virtq_element *element, *cursor_element;
    bool busy; /* @element is out, and the job not done */
    struct gpu_job job;
    uint32_t turn_left;         /* bytes that this turn of the loop may still copy */
    struct gpu_command pending; /* of @element: its response */
    uint64_t memory, used;      /* budget, bytes */
    GHashTable *resources;      /* id -> struct gpu_resource * */
    unsigned scanout_count;
    struct gpu_scanout scanouts[DISPLAY_MAX_SCANOUTS];
    uint32_t saved_scanout_count, saved_resource_count;
    struct gpu_saved_scanout saved_scanouts[DISPLAY_MAX_SCANOUTS];
    struct gpu_saved_resource *saved_resources; /* room for GPU_MAX_RESOURCES */
};

/* Logs what the guest did wrong, and gives the response that says so. */
#define gpu_error(gpu, response, ...)                                                              \
    ({                                                                                             \
        log_guest(&(gpu)->vdev.device->guest_errors, (gpu)->vdev.device->name, __VA_ARGS__);       \
        (uint32_t) VIRTIO_GPU_RESP_##response;                                                     \
    })

/* ---- commands: each gives the type of its response ---- */
typedef uint32_t gpu_handler(struct virtio_gpu *gpu, struct gpu_command *command);
gpu_handler gpu_create_2d, gpu_unref, gpu_attach_backing, gpu_detach_backing, gpu_transfer;
gpu_handler gpu_create_blob, gpu_assign_uuid;
gpu_handler gpu_get_display_info, gpu_get_edid, gpu_set_scanout, gpu_set_scanout_blob, gpu_flush;
gpu_handler gpu_update_cursor, gpu_move_cursor;

/* Puts an answer on the control queue; the driver sees it when the queue was flushed. */
void gpu_respond_control(struct virtio_gpu *gpu, const struct virtq_element *element,
                         const void *reply, size_t size);
void gpu_flush_control(struct virtio_gpu *gpu);

/* ---- gpu_resource.c ---- */

struct gpu_resource *gpu_find_resource(struct virtio_gpu *gpu, uint32_t id);
/* VIRTIO_GPU_RESP_OK_NODATA: there can be one of that id. */
uint32_t gpu_check_new(struct virtio_gpu *gpu, uint32_t id);
uint32_t gpu_over_budget(struct virtio_gpu *gpu, uint32_t id, uint64_t bytes); /* says so */
/* A new one of that id, for which @charged bytes of the budget are taken already. */
struct gpu_resource *gpu_add_resource(struct virtio_gpu *gpu, uint32_t id, uint64_t size,
                                      uint64_t charged);
void gpu_remove_resource(struct virtio_gpu *gpu, struct gpu_resource *resource); /* not shown */
/* Each: VIRTIO_GPU_RESP_OK_NODATA, or why not; on error nothing changed. */
uint32_t gpu_new_2d(struct virtio_gpu *gpu, uint32_t id, uint32_t format, uint32_t width,
                    uint32_t height, struct gpu_resource **result);
/* @entries as on the wire; the resource takes them over. */
uint32_t gpu_set_backing(struct virtio_gpu *gpu, struct gpu_resource *resource,
                         struct virtio_gpu_mem_entry *entries, uint32_t count);
uint32_t gpu_new_blob(struct virtio_gpu *gpu, uint32_t id, uint64_t size,
                      struct virtio_gpu_mem_entry *entries, uint32_t count,
                      struct gpu_resource **result);
void gpu_free_resource(gpointer resource);               /* for the table; not one that is shown */
bool gpu_charge(struct virtio_gpu *gpu, uint64_t bytes); /* false: over the budget */
void gpu_uncharge(struct virtio_gpu *gpu, uint64_t bytes);
/* Copies from the backing; what is beyond it reads as 0. */
void gpu_read_backing(const struct gpu_resource *resource, uint64_t offset, void *data,
                      size_t size);
/* How many rows of @row_bytes each, at least one, this turn copies of @wanted. */
uint32_t gpu_take_rows(struct virtio_gpu *gpu, uint32_t row_bytes, uint32_t wanted);
/* What this turn may do of a transfer; true: done. */
bool gpu_continue_transfer(struct virtio_gpu *gpu);

/* ---- gpu_scanout.c ---- */

pixman_format_code_t gpu_pixman_format(uint32_t format); /* 0: there is no such format */
/* Shows what @wanted says of a resource: which, which part of the frame, and of a blob what the frame is. Its
 * response; on error what was shown stays. */
uint32_t gpu_show(struct virtio_gpu *gpu, unsigned index, const struct gpu_scanout *wanted);
void gpu_hide(struct virtio_gpu *gpu, unsigned index);
void gpu_hide_resource(struct virtio_gpu *gpu, const struct gpu_resource *resource);
/* What this turn may do of a flush; true: done. */
bool gpu_continue_refresh(struct virtio_gpu *gpu);
void gpu_refresh_copies(struct virtio_gpu *gpu); /* all that are stale, at once */
/* Copies what was flushed and nobody looked at yet. */
void gpu_catch_up(struct virtio_gpu *gpu, unsigned index);
void gpu_show_cursor(struct virtio_gpu *gpu, unsigned index); /* as the scanout says */

/* ---- gpu_edid.c ---- */

/* An EDID of a screen that prefers that size; its length. @edid has GPU_MAX_EDID bytes. */
size_t gpu_make_edid(uint8_t *edid, unsigned scanout, uint32_t width, uint32_t height);

/* ---- gpu_state.c ---- */

extern const struct state_table gpu_state;
void gpu_before_save(struct virtio_device *vdev);
bool gpu_after_load(struct virtio_device *vdev, GError **error);
void gpu_clear_saved(struct virtio_gpu *gpu);

#endif
