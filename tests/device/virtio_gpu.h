/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_gpu - a driver of virtio/gpu for its device tests: one call a command
 *
 * Every command is sent on its queue as the stock driver would, one descriptor for the command and one
 * for the response, and waited for; it returns the response's type.
 */
#ifndef TESTS_DEVICE_VIRTIO_GPU_H
#define TESTS_DEVICE_VIRTIO_GPU_H

#include <linux/virtio_config.h>
#include <linux/virtio_gpu.h>
#include <linux/virtio_ring.h>

#include "backends/display/display.h"
#include "config.h"
#include "tests/device/virtio_driver.h"
#include "virtio/gpu.h"

#define BIT(n)     (UINT64_C(1) << (n))
#define RINGS      (BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX))
#define BGRX       VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM
#define RESP(NAME) VIRTIO_GPU_RESP_##NAME
#define PIXELS     (8u << 20) /* bytes of guest memory for backing */

struct gpu_fixture {
    struct harness *h;
    struct display *display;
    struct display_viewer *viewer;
    struct virtio_device *vdev;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
    uint64_t command, response, pixels; /* guest memory */
    int64_t written;                    /* by the last command */
};

/* A device of these options, its driver not started. */
void gpu_set_up(struct gpu_fixture *f, const char *options);
/* With all the features that it offers. */
void gpu_start(struct gpu_fixture *f);
void gpu_tear_down(struct gpu_fixture *f);
/* A second device on @f's harness, which can be given what was saved; without a driver. */
void gpu_attach_other(struct gpu_fixture *other, const struct gpu_fixture *f, const char *options);
void gpu_detach_other(struct gpu_fixture *other);

/* Sends @size bytes, with @list behind them, and gives the response's type. */
uint32_t gpu_send(struct gpu_fixture *f, unsigned queue, const void *command, size_t size,
                  const void *list, size_t list_size, uint32_t room);
void gpu_response(struct gpu_fixture *f, void *response, size_t size);

uint32_t gpu_simple(struct gpu_fixture *f, uint32_t type);
uint32_t gpu_create(struct gpu_fixture *f, uint32_t id, uint32_t format, uint32_t width,
                    uint32_t height);
uint32_t gpu_unref_resource(struct gpu_fixture *f, uint32_t id);
uint32_t gpu_attach(struct gpu_fixture *f, uint32_t id, const struct virtio_gpu_mem_entry *entries,
                    uint32_t count);
/* One piece at f->pixels. */
uint32_t gpu_attach_plain(struct gpu_fixture *f, uint32_t id, uint32_t bytes);
uint32_t gpu_detach(struct gpu_fixture *f, uint32_t id);
uint32_t gpu_scanout(struct gpu_fixture *f, uint32_t scanout, uint32_t id, uint32_t x, uint32_t y,
                     uint32_t width, uint32_t height);
uint32_t gpu_copy(struct gpu_fixture *f, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                  uint32_t height, uint64_t offset);
uint32_t gpu_flush_rect(struct gpu_fixture *f, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                        uint32_t height);
uint32_t gpu_cursor(struct gpu_fixture *f, uint32_t type, uint32_t scanout, uint32_t id, int32_t x,
                    int32_t y, uint32_t hot_x, uint32_t hot_y);
#ifdef HAVE_VIRTIO_GPU_BLOB
uint32_t gpu_blob(struct gpu_fixture *f, uint32_t id, uint64_t size,
                  const struct virtio_gpu_mem_entry *entries, uint32_t count);
#endif

/* 3D, with virgl=on. @init: which capability set, 0 for virgl. */
uint32_t gpu_context(struct gpu_fixture *f, uint32_t id, uint32_t init);
uint32_t gpu_tell_context(struct gpu_fixture *f, uint32_t type, uint32_t context, uint32_t id);
/* The command that makes a 2D texture that can be drawn on. */
struct virtio_gpu_resource_create_3d gpu_texture(uint32_t id, uint32_t width, uint32_t height);
uint32_t gpu_submit_words(struct gpu_fixture *f, uint32_t context, const uint32_t *words,
                          unsigned count);

/* A value for each pixel that says where it is. */
uint32_t gpu_pixel(uint32_t x, uint32_t y);
/* Fills backing at @gpa with them: a picture of @stride bytes a row. */
void gpu_draw(struct gpu_fixture *f, uint64_t gpa, uint32_t width, uint32_t height,
              uint32_t stride);
/* The RGB of a pixel that @scanout shows; ends the test if it is dark. */
uint32_t gpu_shown(struct gpu_fixture *f, unsigned scanout, uint32_t x, uint32_t y);
uint32_t gpu_config(struct gpu_fixture *f, unsigned offset);
#define GPU_CONFIG(F, MEMBER) gpu_config(F, offsetof(struct virtio_gpu_config, MEMBER))

#endif
