/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of virtio/gpu: blobs in guest memory and UUIDs, as far as the kernel headers know them. */
#include <string.h>

#include "tests/device/virtio_gpu.h"

#ifdef HAVE_VIRTIO_GPU_BLOB

#define STRIDE 1024u /* of the frames here, bytes */

static struct virtio_gpu_set_scanout_blob frame(uint32_t id, uint32_t width, uint32_t height)
{
    return (struct virtio_gpu_set_scanout_blob){
        .hdr = {.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB},
        .r = {0, 0, width, height},
        .resource_id = id,
        .width = width,
        .height = height,
        .format = BGRX,
        .strides = {STRIDE},
    };
}

static uint32_t set_blob(struct gpu_fixture *f, const struct virtio_gpu_set_scanout_blob *command)
{
    return gpu_send(f, 0, command, sizeof(*command), NULL, 0, 4096);
}

static uint32_t blob_plain(struct gpu_fixture *f, uint32_t id, uint64_t gpa, uint32_t size)
{
    struct virtio_gpu_mem_entry entry = {gpa, size};

    return gpu_blob(f, id, size, &entry, 1);
}

static void test_blob_create(void)
{
    struct virtio_gpu_resource_create_blob command = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB},
        .resource_id = 2,
        .blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST,
        .nr_entries = 1,
        .size = 4096,
    };
    struct virtio_gpu_mem_entry entry;
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    entry = (struct virtio_gpu_mem_entry){f.pixels, 4096};
    g_assert_cmphex(gpu_blob(&f, 1, 4096, &entry, 1), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_blob(&f, 1, 4096, &entry, 1), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_blob(&f, 0, 4096, &entry, 1), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_blob(&f, 2, 4097, &entry, 1), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_blob(&f, 2, UINT64_MAX, &entry, 1), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_blob(&f, 2, 0, &entry, 1), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_blob(&f, 2, 4096, &entry, 0), ==, RESP(ERR_INVALID_PARAMETER));
    entry.addr = UINT64_C(1) << 45;
    g_assert_cmphex(gpu_blob(&f, 2, 4096, &entry, 1), ==, RESP(ERR_INVALID_PARAMETER));
    entry.addr = f.pixels;
    command.blob_mem = VIRTIO_GPU_BLOB_MEM_HOST3D;
    g_assert_cmphex(gpu_send(&f, 0, &command, sizeof(command), &entry, 16, 4096), ==,
                    RESP(ERR_INVALID_PARAMETER));
    command.blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST;
    command.blob_flags = 0x100;
    g_assert_cmphex(gpu_send(&f, 0, &command, sizeof(command), &entry, 16, 4096), ==,
                    RESP(ERR_INVALID_PARAMETER));
    g_assert_cmpuint(virtio_gpu_resource_count(f.vdev), ==, 1);
    g_assert_cmphex(gpu_simple(&f, VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB), ==, RESP(ERR_UNSPEC));
    /* A transfer has nothing to do; it is no 2D resource. */
    g_assert_cmphex(gpu_copy(&f, 1, 0, 0, 10, 10, 0), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_scanout(&f, 0, 1, 0, 0, 10, 10), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_unref_resource(&f, 1), ==, RESP(OK_NODATA));
    g_assert_cmpuint(virtio_gpu_memory_used(f.vdev), ==, 0);
    gpu_tear_down(&f);
}

static void test_blob_shown(void)
{
    struct virtio_gpu_set_scanout_blob command = frame(1, 200, 100);
    struct display_update update;
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    g_assert_cmphex(blob_plain(&f, 1, f.pixels, 2 * 100 * STRIDE), ==, RESP(OK_NODATA));
    gpu_draw(&f, f.pixels + 100 * STRIDE, 200, 100, STRIDE);
    command.offsets[0] = 100 * STRIDE;
    command.r = (struct virtio_gpu_rect){20, 10, 100, 80};
    g_assert_cmphex(set_blob(&f, &command), ==, RESP(OK_NODATA));
    for (uint32_t y = 0; y < 80; y++)
        for (uint32_t x = 0; x < 100; x++)
            g_assert_cmphex(gpu_shown(&f, 0, x, y), ==, gpu_pixel(x + 20, y + 10));
    display_take(f.viewer, 0, &update);
    display_update_clear(&update);
    /* The guest draws: it is seen with the flush, and only there. */
    harness_store(f.h, f.pixels + 100 * STRIDE + 30 * STRIDE + 40 * 4, 4, 0xabcdef);
    harness_store(f.h, f.pixels + 100 * STRIDE + 50 * STRIDE + 40 * 4, 4, 0xabcdef);
    g_assert_cmphex(gpu_shown(&f, 0, 20, 20), !=, 0xabcdef);
    g_assert_cmphex(gpu_flush_rect(&f, 1, 0, 25, 200, 10), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_shown(&f, 0, 20, 20), ==, 0xabcdef);
    g_assert_cmphex(gpu_shown(&f, 0, 20, 40), !=, 0xabcdef);
    g_assert_true(display_take(f.viewer, 0, &update));
    g_assert_cmpuint(update.rects[0].y, ==, 15);
    g_assert_cmpuint(update.rects[0].width, ==, 100);
    display_update_clear(&update);
    g_assert_cmphex(gpu_flush_rect(&f, 1, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX), ==,
                    RESP(OK_NODATA));
    g_assert_false(display_take(f.viewer, 0, &update));
    display_update_clear(&update);
    /* The copy belongs to the scanout. */
    g_assert_cmphex(gpu_unref_resource(&f, 1), ==, RESP(OK_NODATA));
    g_assert_cmpuint(virtio_gpu_memory_used(f.vdev), ==, 0);
    gpu_tear_down(&f);
}

/* Two blobs take turns: the first flush of each shows all of it, whatever it names. */
/* A small frame is copied when somebody looks, however often it was flushed; at rest it is as flushed last. */
static void test_blob_lazy(void)
{
    struct virtio_gpu_set_scanout_blob command = frame(1, 200, 100);
    g_autoptr(GError) error = NULL;
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    blob_plain(&f, 1, f.pixels, 100 * STRIDE);
    g_assert_cmphex(set_blob(&f, &command), ==, RESP(OK_NODATA));
    harness_store(f.h, f.pixels, 4, 0x111111);
    harness_store(f.h, f.pixels + 99 * STRIDE + 4 * 199, 4, 0x222222);
    gpu_flush_rect(&f, 1, 0, 0, 1, 1);
    gpu_flush_rect(&f, 1, 199, 99, 1, 1);
    harness_store(f.h, f.pixels, 4, 0x333333);
    g_assert_cmphex(gpu_shown(&f, 0, 0, 0), ==, 0x333333);
    g_assert_cmphex(gpu_shown(&f, 0, 199, 99), ==, 0x222222);
    gpu_flush_rect(&f, 1, 0, 0, 1, 1);
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_STOP, HARNESS_TIMEOUT_MS, &error));
    g_assert_no_error(error);
    memset(harness_ptr(f.h, f.pixels, 4), 0x44, 4);
    g_assert_cmphex(gpu_shown(&f, 0, 0, 0), ==, 0x333333);
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING, HARNESS_TIMEOUT_MS, &error));
    g_assert_no_error(error);
    g_assert_cmphex(gpu_shown(&f, 0, 0, 0), ==, 0x333333);
    gpu_flush_rect(&f, 1, 0, 0, 1, 1);
    harness_store(f.h, f.pixels, 4, 0x555555);
    g_assert_cmphex(gpu_detach(&f, 1), ==, RESP(OK_NODATA)); /* its last moment counts */
    g_assert_cmphex(gpu_shown(&f, 0, 0, 0), ==, 0x555555);
    gpu_tear_down(&f);
}

static void test_blob_pages(void)
{
    struct virtio_gpu_set_scanout_blob command = frame(1, 64, 64);
    struct gpu_fixture f;
    uint64_t used;

    gpu_set_up(&f, "");
    gpu_start(&f);
    blob_plain(&f, 1, f.pixels, 64 * STRIDE);
    blob_plain(&f, 2, f.pixels + 64 * STRIDE, 64 * STRIDE);
    memset(harness_ptr(f.h, f.pixels, 64 * STRIDE), 0x11, 64 * STRIDE);
    memset(harness_ptr(f.h, f.pixels + 64 * STRIDE, 64 * STRIDE), 0x22, 64 * STRIDE);
    set_blob(&f, &command);
    g_assert_cmphex(gpu_shown(&f, 0, 63, 63), ==, 0x111111);
    used = virtio_gpu_memory_used(f.vdev);
    for (unsigned i = 0; i < 6; i++) {
        command.resource_id = 2 - i % 2;
        g_assert_cmphex(set_blob(&f, &command), ==, RESP(OK_NODATA));
        g_assert_cmphex(gpu_flush_rect(&f, command.resource_id, 0, 0, 1, 1), ==, RESP(OK_NODATA));
        g_assert_cmphex(gpu_shown(&f, 0, 63, 63), ==, i % 2 ? 0x111111 : 0x222222);
    }
    g_assert_cmpuint(virtio_gpu_memory_used(f.vdev), ==, used);
    gpu_tear_down(&f);
}

static void test_blob_scattered_and_converted(void)
{
    struct virtio_gpu_set_scanout_blob command = frame(1, 100, 50);
    struct virtio_gpu_mem_entry entries[200];
    uint32_t count = 0, left = 50 * 404;
    struct gpu_fixture f;
    uint64_t at;

    gpu_set_up(&f, "");
    gpu_start(&f);
    at = f.pixels;
    command.format = VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM;
    command.strides[0] = 404;
    /* Bytes of one row behind the other, in pieces that cut pixels. */
    for (uint32_t done = 0; left; count++) {
        uint32_t length = MIN(left, 3 + count * 37 % 300);

        for (uint32_t i = 0; i < length; i++, done++) {
            uint32_t pixel = gpu_pixel(done % 404 / 4, done / 404);

            harness_store(f.h, at + i, 1, done % 4 ? pixel >> (8 * (3 - done % 4)) & 0xff : 0);
        }
        entries[count] = (struct virtio_gpu_mem_entry){at, length};
        at += length + 5;
        left -= length;
    }
    g_assert_cmphex(gpu_blob(&f, 1, 50 * 404, entries, count), ==, RESP(OK_NODATA));
    g_assert_cmphex(set_blob(&f, &command), ==, RESP(OK_NODATA));
    for (uint32_t y = 0; y < 50; y++)
        for (uint32_t x = 0; x < 100; x++)
            g_assert_cmphex(gpu_shown(&f, 0, x, y), ==, gpu_pixel(x, y));
    gpu_tear_down(&f);
}

static void test_blob_bad_frames(void)
{
    struct virtio_gpu_set_scanout_blob good = frame(1, 200, 100), bad;
    struct gpu_fixture f;

    gpu_set_up(&f, "memory=1M");
    gpu_start(&f);
    blob_plain(&f, 1, f.pixels, 100 * STRIDE);
#define BAD(RESPONSE, ...)                                                                         \
    bad = good;                                                                                    \
    __VA_ARGS__;                                                                                   \
    g_assert_cmphex(set_blob(&f, &bad), ==, RESP(RESPONSE))
    BAD(ERR_INVALID_SCANOUT_ID, bad.scanout_id = 1);
    BAD(ERR_INVALID_RESOURCE_ID, bad.resource_id = 3);
    BAD(ERR_INVALID_PARAMETER, bad.format = 0);
    BAD(ERR_INVALID_PARAMETER, bad.height = 101);
    BAD(ERR_INVALID_PARAMETER, bad.offsets[0] = STRIDE);
    BAD(ERR_INVALID_PARAMETER, bad.offsets[0] = UINT32_MAX);
    BAD(ERR_INVALID_PARAMETER, bad.strides[0] = 799);
    BAD(ERR_INVALID_PARAMETER, bad.strides[0] = 0);
    BAD(ERR_INVALID_PARAMETER, bad.strides[0] = UINT32_MAX);
    BAD(ERR_INVALID_PARAMETER, bad.width = UINT32_MAX);
    BAD(ERR_INVALID_PARAMETER, bad.width = 0x40000000, bad.strides[0] = 0);
    BAD(ERR_INVALID_PARAMETER, bad.r.width = 0);
    BAD(ERR_INVALID_PARAMETER, bad.r.width = 201);
    BAD(ERR_INVALID_PARAMETER, bad.r.x = UINT32_MAX, bad.r.width = 2);
#undef BAD
    g_assert_null(display_look(f.display, 0));
    g_assert_cmphex(set_blob(&f, &good), ==, RESP(OK_NODATA));
    /* A frame whose copy is more than the budget has: what was shown stays. */
    blob_plain(&f, 2, f.pixels, 4 << 20);
    bad = frame(2, 1024, 1024);
    bad.strides[0] = 4096;
    g_assert_cmphex(set_blob(&f, &bad), ==, RESP(ERR_OUT_OF_MEMORY));
    g_assert_cmphex(gpu_shown(&f, 0, 199, 99), ==, 0);
    bad = good;
    bad.resource_id = 0;
    g_assert_cmphex(set_blob(&f, &bad), ==, RESP(OK_NODATA));
    g_assert_null(display_look(f.display, 0));
    gpu_tear_down(&f);
}

static void test_blob_cursor(void)
{
    struct display_update update;
    struct gpu_fixture f;
    uint32_t pixel;

    gpu_set_up(&f, "");
    gpu_start(&f);
    blob_plain(&f, 1, f.pixels, 16384);
    blob_plain(&f, 2, f.pixels, 16383);
    harness_store(f.h, f.pixels + 16380, 4, 0xff102030);
    g_assert_cmphex(gpu_cursor(&f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 0, 2, 0, 0, 0, 0), ==,
                    RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_cursor(&f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 0, 1, 0, 0, 0, 0), ==,
                    RESP(OK_NODATA));
    display_take(f.viewer, 0, &update);
    memcpy(&pixel, update.cursor->pixels + 16380, 4);
    g_assert_cmphex(pixel, ==, 0xff102030);
    display_update_clear(&update);
    gpu_tear_down(&f);
}

static void test_blob_saved(void)
{
    struct virtio_gpu_set_scanout_blob command = frame(1, 64, 64);
    g_autoptr(GByteArray) saved = NULL;
    g_autoptr(GError) error = NULL;
    struct gpu_fixture f, other;

    gpu_set_up(&f, "");
    gpu_start(&f);
    blob_plain(&f, 1, f.pixels, 64 * STRIDE);
    gpu_draw(&f, f.pixels, 64, 64, STRIDE);
    set_blob(&f, &command);
    saved = harness_save(&virtio_pci_function(f.vpci)->device);
    devices_set_state(&f.h->devices, DEVICE_RUNNING, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
    gpu_attach_other(&other, &f, "");
    g_assert_true(harness_load_state(&virtio_pci_function(other.vpci)->device, saved, &error));
    g_assert_no_error(error);
    harness_settle(f.h, 5);
    for (uint32_t i = 0; i < 64; i++)
        g_assert_cmphex(gpu_shown(&other, 0, i, i), ==, gpu_pixel(i, i));
    gpu_detach_other(&other);
    gpu_tear_down(&f);
}

#endif

#ifdef HAVE_VIRTIO_GPU_UUID

static uint32_t assign(struct gpu_fixture *f, uint32_t id,
                       struct virtio_gpu_resp_resource_uuid *uuid)
{
    struct virtio_gpu_resource_assign_uuid command = {{.type = VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID},
                                                      id};
    uint32_t type = gpu_send(f, 0, &command, sizeof(command), NULL, 0, 4096);

    if (type == RESP(OK_RESOURCE_UUID))
        gpu_response(f, uuid, sizeof(*uuid));
    return type;
}

static void test_uuid(void)
{
    struct virtio_gpu_resp_resource_uuid one, two, again;
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    gpu_create(&f, 1, BGRX, 8, 8);
    gpu_create(&f, 2, BGRX, 8, 8);
    g_assert_cmphex(assign(&f, 1, &one), ==, RESP(OK_RESOURCE_UUID));
    g_assert_cmphex(assign(&f, 2, &two), ==, RESP(OK_RESOURCE_UUID));
    g_assert_cmphex(assign(&f, 1, &again), ==, RESP(OK_RESOURCE_UUID));
    g_assert_cmpint(memcmp(one.uuid, two.uuid, 16), !=, 0);
    g_assert_cmpmem(one.uuid, 16, again.uuid, 16);
    g_assert_cmpuint(one.uuid[6] >> 4, ==, 4);
    g_assert_cmphex(assign(&f, 3, &one), ==, RESP(ERR_INVALID_RESOURCE_ID));
    gpu_tear_down(&f);
}

#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
#ifdef HAVE_VIRTIO_GPU_BLOB
    g_test_add_func("/virtio-gpu/blob/create", test_blob_create);
    g_test_add_func("/virtio-gpu/blob/shown", test_blob_shown);
    g_test_add_func("/virtio-gpu/blob/lazy", test_blob_lazy);
    g_test_add_func("/virtio-gpu/blob/pages", test_blob_pages);
    g_test_add_func("/virtio-gpu/blob/scattered-and-converted", test_blob_scattered_and_converted);
    g_test_add_func("/virtio-gpu/blob/bad-frames", test_blob_bad_frames);
    g_test_add_func("/virtio-gpu/blob/cursor", test_blob_cursor);
    g_test_add_func("/virtio-gpu/blob/saved", test_blob_saved);
#endif
#ifdef HAVE_VIRTIO_GPU_UUID
    g_test_add_func("/virtio-gpu/uuid", test_uuid);
#endif
    return g_test_run();
}
