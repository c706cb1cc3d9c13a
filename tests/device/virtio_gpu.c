/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of virtio/gpu as a driver and a viewer see it: every 2D command, good and malformed. */
#include <string.h>

#include "tests/device/virtio_gpu.h"

/* ---- what it says it is ---- */

static void test_config(void)
{
    struct gpu_fixture f;

    gpu_set_up(&f, "scanouts=3");
    g_assert_false(virtio_driver_offered(f.driver) & BIT(VIRTIO_GPU_F_VIRGL));
    gpu_start(&f);
    g_assert_cmpuint(GPU_CONFIG(&f, num_scanouts), ==, 3);
    g_assert_cmpuint(GPU_CONFIG(&f, num_capsets), ==, 0);
    g_assert_cmpuint(GPU_CONFIG(&f, events_read), ==, 0);
    gpu_tear_down(&f);
}

static void test_features_can_be_withdrawn(void)
{
    struct gpu_fixture f;

    gpu_set_up(&f, "edid=off,blob=off");
#ifdef HAVE_VIRTIO_GPU_EDID
    g_assert_false(virtio_driver_offered(f.driver) & BIT(VIRTIO_GPU_F_EDID));
#endif
#ifdef HAVE_VIRTIO_GPU_BLOB
    g_assert_false(virtio_driver_offered(f.driver) & BIT(VIRTIO_GPU_F_RESOURCE_BLOB));
#endif
    gpu_start(&f);
#ifdef HAVE_VIRTIO_GPU_EDID
    g_assert_cmphex(gpu_simple(&f, VIRTIO_GPU_CMD_GET_EDID), ==, RESP(ERR_UNSPEC));
#endif
#ifdef HAVE_VIRTIO_GPU_BLOB
    g_assert_cmphex(gpu_simple(&f, VIRTIO_GPU_CMD_SET_SCANOUT_BLOB), ==, RESP(ERR_UNSPEC));
#endif
    gpu_tear_down(&f);
}

static void test_bad_options(void)
{
    static const char *const cases[] = {"scanouts=17", "width=20000", "memory=1K", "queue-size=3",
                                        "scanouts=9"};
    struct display *display = display_create();

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(options_t) options = options_parse(virtio_gpu_options, "--gpu", cases[i], &error);
        struct virtio_device *first = NULL, *second = NULL;

        if (options && i == G_N_ELEMENTS(cases) - 1) /* one can have 9, two can't */
            first = virtio_gpu_create(options, loop_main(), display, &error);
        if (options)
            second = virtio_gpu_create(options, loop_main(), display, &error);
        g_assert_null(second);
        g_assert_nonnull(error);
        if (first)
            first->class->destroy(first);
    }
    display_destroy(display);
}

static void test_display_info(void)
{
    struct virtio_gpu_resp_display_info info;
    struct gpu_fixture f;

    gpu_set_up(&f, "scanouts=2,width=1024,height=768");
    gpu_start(&f);
    g_assert_cmphex(gpu_simple(&f, VIRTIO_GPU_CMD_GET_DISPLAY_INFO), ==, RESP(OK_DISPLAY_INFO));
    gpu_response(&f, &info, sizeof(info));
    for (unsigned i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
        g_assert_cmpuint(info.pmodes[i].enabled, ==, i < 2);
        g_assert_cmpuint(info.pmodes[i].r.width, ==, i < 2 ? 1024 : 0);
        g_assert_cmpuint(info.pmodes[i].r.height, ==, i < 2 ? 768 : 0);
    }
    gpu_tear_down(&f);
}

#ifdef HAVE_VIRTIO_GPU_EDID

static uint8_t sum(const uint8_t *data, size_t size)
{
    uint8_t total = 0;

    while (size--)
        total += *data++;
    return total;
}

static uint32_t get_edid(struct gpu_fixture *f, uint32_t scanout,
                         struct virtio_gpu_resp_edid *reply)
{
    struct virtio_gpu_cmd_get_edid command = {{.type = VIRTIO_GPU_CMD_GET_EDID}, scanout};
    uint32_t type = gpu_send(f, 0, &command, sizeof(command), NULL, 0, 4096);

    if (type == RESP(OK_EDID))
        gpu_response(f, reply, sizeof(*reply));
    return type;
}

static void test_edid(void)
{
    static const uint8_t magic[8] = {0, 255, 255, 255, 255, 255, 255, 0};
    struct virtio_gpu_resp_edid reply;
    struct gpu_fixture f;
    const uint8_t *timing = reply.edid + 54;

    gpu_set_up(&f, "scanouts=2,width=1920,height=1080");
    gpu_start(&f);
    g_assert_cmphex(get_edid(&f, 1, &reply), ==, RESP(OK_EDID));
    g_assert_cmpuint(reply.size, ==, 128);
    g_assert_cmpmem(reply.edid, 8, magic, 8);
    g_assert_cmpuint(sum(reply.edid, 128), ==, 0);
    g_assert_cmpuint(timing[2] | (timing[4] & 0xf0) << 4, ==, 1920);
    g_assert_cmpuint(timing[5] | (timing[7] & 0xf0) << 4, ==, 1080);
    g_assert_cmpuint(timing[0] | timing[1] << 8, ==, 13865); /* 138.65 MHz: 2080 x 1111 x 60 */
    g_assert_cmphex(get_edid(&f, 2, &reply), ==, RESP(ERR_INVALID_SCANOUT_ID));
    gpu_tear_down(&f);
}

/* What a detailed timing descriptor can't say is in an extension. */
static void test_large_edid(void)
{
    struct virtio_gpu_resp_edid reply;
    struct gpu_fixture f;
    const uint8_t *section = reply.edid + 129;

    gpu_set_up(&f, "width=7680,height=4320");
    gpu_start(&f);
    g_assert_cmphex(get_edid(&f, 0, &reply), ==, RESP(OK_EDID));
    g_assert_cmpuint(reply.size, ==, 256);
    g_assert_cmpuint(reply.edid[126], ==, 1);
    g_assert_cmpuint(sum(reply.edid, 128), ==, 0);
    g_assert_cmpuint(sum(reply.edid + 128, 128), ==, 0);
    g_assert_cmphex(reply.edid[128], ==, 0x70);
    g_assert_cmpuint(sum(section, section[1] + 5), ==, 0);
    g_assert_cmpuint(section[11] | section[12] << 8, ==, 7680 - 1);
    g_assert_cmpuint(section[19] | section[20] << 8, ==, 4320 - 1);
    gpu_tear_down(&f);
}

#endif

/* ---- resources ---- */

static void test_create(void)
{
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    g_assert_cmphex(gpu_create(&f, 1, BGRX, 64, 32), ==, RESP(OK_NODATA));
    g_assert_cmpint(f.written, ==, sizeof(struct virtio_gpu_ctrl_hdr));
    g_assert_cmphex(gpu_create(&f, 1, BGRX, 64, 32), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_create(&f, 0, BGRX, 64, 32), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_create(&f, 2, 0, 64, 32), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_create(&f, 2, 5, 64, 32), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_create(&f, 2, BGRX, 0, 32), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_create(&f, 2, BGRX, 64, 0), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_create(&f, 2, BGRX, DISPLAY_MAX_SIZE + 1, 1), ==,
                    RESP(ERR_INVALID_PARAMETER));
    g_assert_cmpuint(virtio_gpu_resource_count(f.vdev), ==, 1);
    g_assert_cmphex(gpu_create(&f, UINT32_MAX, BGRX, DISPLAY_MAX_SIZE, 1), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_unref_resource(&f, 1), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_unref_resource(&f, 1), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_unref_resource(&f, UINT32_MAX), ==, RESP(OK_NODATA));
    g_assert_cmpuint(virtio_gpu_memory_used(f.vdev), ==, 0);
    gpu_tear_down(&f);
}

static void test_budget(void)
{
    struct gpu_fixture f;
    unsigned count = 0;

    gpu_set_up(&f, "memory=4M");
    gpu_start(&f);
    g_assert_cmphex(gpu_create(&f, 1, BGRX, 1024, 1024), ==, RESP(ERR_OUT_OF_MEMORY));
    g_assert_cmphex(gpu_create(&f, 1, BGRX, UINT32_MAX, UINT32_MAX), ==, RESP(ERR_OUT_OF_MEMORY));
    g_assert_cmphex(gpu_create(&f, 1, BGRX, 0x10000, 0x10000), ==, RESP(ERR_OUT_OF_MEMORY));
    g_assert_cmphex(gpu_create(&f, 1, BGRX, 0x80000000, 2), ==, RESP(ERR_OUT_OF_MEMORY));
    g_assert_cmphex(gpu_create(&f, 1, BGRX, 1000, 1000), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_create(&f, 2, BGRX, 1000, 1000), ==, RESP(ERR_OUT_OF_MEMORY));
    g_assert_cmphex(gpu_unref_resource(&f, 1), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_create(&f, 2, BGRX, 1000, 1000), ==, RESP(OK_NODATA));
    gpu_unref_resource(&f, 2);
    /* Small ones are not free either, and so is a list. */
    for (uint32_t id = 1; gpu_create(&f, id, BGRX, 1, 1) == RESP(OK_NODATA); id++)
        count++;
    g_assert_cmpuint(count, >, 100);
    g_assert_cmpuint(count, <=, 4096);
    for (uint32_t id = 1; id <= count; id++)
        g_assert_cmphex(gpu_unref_resource(&f, id), ==, RESP(OK_NODATA));
    g_assert_cmpuint(virtio_gpu_memory_used(f.vdev), ==, 0);
    gpu_tear_down(&f);
}

static void test_backing(void)
{
    struct virtio_gpu_mem_entry entries[3] = {{0}};
    struct virtio_gpu_resource_attach_backing command = {
        {.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING}, 1, 2};
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    gpu_create(&f, 1, BGRX, 64, 64);
    entries[0] = (struct virtio_gpu_mem_entry){f.pixels, 4096};
    entries[1] = (struct virtio_gpu_mem_entry){f.pixels + 8192, 12288};
    g_assert_cmphex(gpu_attach(&f, 9, entries, 2), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_detach(&f, 9), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_detach(&f, 1), ==, RESP(ERR_UNSPEC));
    g_assert_cmphex(gpu_attach(&f, 1, entries, 0), ==, RESP(ERR_INVALID_PARAMETER));
    /* Fewer entries than said; more than there can be. */
    g_assert_cmphex(gpu_send(&f, 0, &command, sizeof(command), entries, 16, 4096), ==,
                    RESP(ERR_INVALID_PARAMETER));
    command.nr_entries = UINT32_MAX;
    g_assert_cmphex(gpu_send(&f, 0, &command, sizeof(command), entries, 48, 4096), ==,
                    RESP(ERR_INVALID_PARAMETER));
    /* Outside of RAM, across its end, around the end of everything. */
    entries[1].addr = UINT64_C(1) << 40;
    g_assert_cmphex(gpu_attach(&f, 1, entries, 2), ==, RESP(ERR_INVALID_PARAMETER));
    entries[1] = (struct virtio_gpu_mem_entry){f.pixels, UINT32_MAX};
    g_assert_cmphex(gpu_attach(&f, 1, entries, 2), ==, RESP(ERR_INVALID_PARAMETER));
    entries[1] = (struct virtio_gpu_mem_entry){UINT64_MAX - 10, 4096};
    g_assert_cmphex(gpu_attach(&f, 1, entries, 2), ==, RESP(ERR_INVALID_PARAMETER));
    entries[1] = (struct virtio_gpu_mem_entry){f.pixels + 8192, 12288};
    g_assert_cmphex(gpu_attach(&f, 1, entries, 2), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_attach(&f, 1, entries, 2), ==, RESP(ERR_UNSPEC));
    g_assert_cmphex(gpu_detach(&f, 1), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_detach(&f, 1), ==, RESP(ERR_UNSPEC));
    g_assert_cmphex(gpu_attach(&f, 1, entries, 2), ==, RESP(OK_NODATA));
    gpu_unref_resource(&f, 1);
    g_assert_cmpuint(virtio_gpu_memory_used(f.vdev), ==, 0);
    gpu_tear_down(&f);
}

/* ---- pictures ---- */

static void test_picture(void)
{
    struct display_update update;
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    gpu_create(&f, 1, BGRX, 640, 480);
    gpu_attach_plain(&f, 1, 640 * 480 * 4);
    g_assert_cmphex(gpu_scanout(&f, 0, 1, 0, 0, 640, 480), ==, RESP(OK_NODATA));
    display_take(f.viewer, 0, &update);
    g_assert_true(update.mode_changed);
    display_update_clear(&update);
    gpu_draw(&f, f.pixels, 640, 480, 2560);
    g_assert_cmphex(gpu_copy(&f, 1, 0, 0, 640, 480, 0), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_flush_rect(&f, 1, 3, 5, 7, 11), ==, RESP(OK_NODATA));
    g_assert_true(display_take(f.viewer, 0, &update));
    g_assert_cmpuint(update.rect_count, ==, 1);
    g_assert_cmpuint(update.rects[0].x, ==, 3);
    g_assert_cmpuint(update.rects[0].height, ==, 11);
    display_update_clear(&update);
    for (uint32_t y = 0; y < 480; y++)
        for (uint32_t x = 0; x < 640; x += 7)
            g_assert_cmphex(gpu_shown(&f, 0, x, y), ==, gpu_pixel(x, y));
    g_assert_cmphex(gpu_scanout(&f, 0, 0, 0, 0, 0, 0), ==, RESP(OK_NODATA));
    display_take(f.viewer, 0, &update);
    g_assert_null(update.surface);
    gpu_tear_down(&f);
}

/* A part of the resource is shown; another is transferred, from where the offset says. */
static void test_parts(void)
{
    struct display_update update;
    struct gpu_fixture f;

    gpu_set_up(&f, "scanouts=2");
    gpu_start(&f);
    gpu_create(&f, 1, BGRX, 200, 100);
    gpu_attach_plain(&f, 1, 200 * 100 * 4);
    gpu_draw(&f, f.pixels, 200, 100, 800);
    g_assert_cmphex(gpu_scanout(&f, 0, 1, 0, 0, 100, 100), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_scanout(&f, 1, 1, 100, 10, 100, 90), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_copy(&f, 1, 90, 20, 30, 40, 20 * 800 + 90 * 4), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_shown(&f, 0, 95, 30), ==, gpu_pixel(95, 30));
    g_assert_cmphex(gpu_shown(&f, 0, 89, 30), ==, 0);
    g_assert_cmphex(gpu_shown(&f, 0, 95, 60), ==, 0);
    g_assert_cmphex(gpu_shown(&f, 1, 5, 30), ==, gpu_pixel(105, 40));
    g_assert_cmphex(gpu_shown(&f, 1, 20, 30), ==, 0);
    for (unsigned i = 0; i < 2; i++) {
        display_take(f.viewer, i, &update);
        display_update_clear(&update);
    }
    gpu_flush_rect(&f, 1, 90, 20, 30, 40);
    g_assert_true(display_take(f.viewer, 0, &update));
    g_assert_cmpuint(update.rects[0].x, ==, 90);
    g_assert_cmpuint(update.rects[0].width, ==, 10);
    display_update_clear(&update);
    g_assert_true(display_take(f.viewer, 1, &update));
    g_assert_cmpuint(update.rects[0].x, ==, 0);
    g_assert_cmpuint(update.rects[0].y, ==, 10);
    g_assert_cmpuint(update.rects[0].width, ==, 20);
    display_update_clear(&update);
    gpu_flush_rect(&f, 1, 0, 0, 50, 100); /* only where it is seen */
    g_assert_false(display_take(f.viewer, 1, &update));
    display_update_clear(&update);
    gpu_tear_down(&f);
}

static void test_scattered_backing(void)
{
    struct virtio_gpu_mem_entry entries[400];
    struct gpu_fixture f;
    uint32_t left = 100 * 100 * 4, count = 0;
    uint64_t linear = 0;

    gpu_set_up(&f, "");
    gpu_start(&f);
    gpu_create(&f, 1, BGRX, 100, 100);
    /* Odd pieces, back to front, some empty. */
    for (uint64_t at = f.pixels + PIXELS; left; count++) {
        uint32_t length = count % 5 == 4 ? 0 : MIN(left, 4 * (1 + count * 13 % 97));

        at -= length + 64;
        entries[count] = (struct virtio_gpu_mem_entry){at, length};
        for (uint32_t i = 0; i < length; i += 4, linear += 4)
            harness_store(f.h, at + i, 4, gpu_pixel(linear / 4 % 100, linear / 400));
        left -= length;
    }
    g_assert_cmpuint(count, <, G_N_ELEMENTS(entries));
    g_assert_cmphex(gpu_attach(&f, 1, entries, count), ==, RESP(OK_NODATA));
    gpu_scanout(&f, 0, 1, 0, 0, 100, 100);
    g_assert_cmphex(gpu_copy(&f, 1, 0, 0, 100, 100, 0), ==, RESP(OK_NODATA));
    for (uint32_t y = 0; y < 100; y++)
        for (uint32_t x = 0; x < 100; x++)
            g_assert_cmphex(gpu_shown(&f, 0, x, y), ==, gpu_pixel(x, y));
    gpu_tear_down(&f);
}

static void test_formats(void)
{
    /* How 0x112233 lies in memory; 0xaa is alpha, or nothing. */
    static const struct {
        uint32_t format;
        uint8_t bytes[4];
    } cases[] = {
        {VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, {0x33, 0x22, 0x11, 0xaa}},
        {VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, {0x33, 0x22, 0x11, 0xaa}},
        {VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, {0xaa, 0x11, 0x22, 0x33}},
        {VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, {0xaa, 0x11, 0x22, 0x33}},
        {VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, {0x11, 0x22, 0x33, 0xaa}},
        {VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, {0xaa, 0x33, 0x22, 0x11}},
        {VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, {0xaa, 0x33, 0x22, 0x11}},
        {VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, {0x11, 0x22, 0x33, 0xaa}},
    };
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmphex(gpu_create(&f, 1, cases[i].format, 32, 32), ==, RESP(OK_NODATA));
        gpu_attach_plain(&f, 1, 4096);
        memset(harness_ptr(f.h, f.pixels, 4096), 0, 4096);
        harness_write(f.h, f.pixels + 4 * (5 * 32 + 3), cases[i].bytes, 4);
        gpu_copy(&f, 1, 0, 0, 32, 32, 0);
        g_assert_cmphex(gpu_scanout(&f, 0, 1, 1, 2, 30, 30), ==, RESP(OK_NODATA));
        g_assert_cmphex(gpu_shown(&f, 0, 2, 3), ==, 0x112233);
        g_assert_cmphex(gpu_shown(&f, 0, 3, 3), ==, 0);
        harness_write(f.h, f.pixels + 4 * (20 * 32 + 21), cases[i].bytes, 4);
        gpu_copy(&f, 1, 0, 0, 32, 32, 0);
        gpu_flush_rect(&f, 1, 21, 20, 1, 1);
        g_assert_cmphex(gpu_shown(&f, 0, 20, 18), ==, 0x112233);
        g_assert_cmphex(gpu_unref_resource(&f, 1), ==, RESP(OK_NODATA));
        g_assert_cmpuint(virtio_gpu_memory_used(f.vdev), ==, 0); /* nor of its copy */
    }
    gpu_tear_down(&f);
}

static void test_bad_pictures(void)
{
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    gpu_create(&f, 1, BGRX, 100, 100);
    g_assert_cmphex(gpu_copy(&f, 1, 0, 0, 100, 100, 0), ==, RESP(ERR_UNSPEC)); /* no backing */
    gpu_attach_plain(&f, 1, 40000);
    g_assert_cmphex(gpu_copy(&f, 2, 0, 0, 1, 1, 0), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_copy(&f, 1, 1, 0, 100, 100, 0), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_copy(&f, 1, 0, 0, UINT32_MAX, 1, 0), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_copy(&f, 1, UINT32_MAX, 0, 2, 1, 0), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_copy(&f, 1, 0, 99, 1, 2, 0), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_copy(&f, 1, 0, 0, 100, 100, 1), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_copy(&f, 1, 0, 0, 1, 1, UINT64_MAX), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_copy(&f, 1, 0, 0, 0, 0, 0), ==, RESP(OK_NODATA)); /* nothing to do */
    g_assert_cmphex(gpu_scanout(&f, 1, 1, 0, 0, 100, 100), ==, RESP(ERR_INVALID_SCANOUT_ID));
    g_assert_cmphex(gpu_scanout(&f, UINT32_MAX, 0, 0, 0, 0, 0), ==, RESP(ERR_INVALID_SCANOUT_ID));
    g_assert_cmphex(gpu_scanout(&f, 0, 7, 0, 0, 100, 100), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_scanout(&f, 0, 1, 0, 0, 0, 100), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_scanout(&f, 0, 1, 0, 0, 101, 100), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_scanout(&f, 0, 1, UINT32_MAX, 0, 2, 1), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_null(display_look(f.display, 0));
    g_assert_cmphex(gpu_flush_rect(&f, 7, 0, 0, 1, 1), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_flush_rect(&f, 1, 0, 0, 101, 1), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_flush_rect(&f, 1, 0, UINT32_MAX, 1, 1), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_flush_rect(&f, 1, 0, 0, 100, 100), ==, RESP(OK_NODATA)); /* shown nowhere */
    gpu_tear_down(&f);
}

/* A resource that is given up while it is shown: the screen goes dark, a viewer keeps its picture. */
static void test_unref_while_shown(void)
{
    struct display_update update, after;
    struct gpu_fixture f;

    gpu_set_up(&f, "scanouts=2");
    gpu_start(&f);
    gpu_create(&f, 1, BGRX, 64, 64);
    gpu_scanout(&f, 0, 1, 0, 0, 64, 64);
    gpu_scanout(&f, 1, 1, 8, 8, 32, 32);
    display_take(f.viewer, 1, &update);
    g_assert_cmphex(gpu_unref_resource(&f, 1), ==, RESP(OK_NODATA));
    g_assert_null(display_look(f.display, 0));
    g_assert_cmphex(gpu_flush_rect(&f, 1, 0, 0, 64, 64), ==, RESP(ERR_INVALID_RESOURCE_ID));
    memset(update.surface->pixels, 0x55, update.surface->stride * 31 + 32 * 4);
    g_assert_true(display_take(f.viewer, 1, &after));
    g_assert_null(after.surface);
    g_assert_true(after.mode_changed);
    display_update_clear(&update);
    gpu_tear_down(&f);
}

/* ---- cursors ---- */

static void test_cursor(void)
{
    const uint32_t update = VIRTIO_GPU_CMD_UPDATE_CURSOR, move = VIRTIO_GPU_CMD_MOVE_CURSOR;
    struct display_update taken;
    struct gpu_fixture f;
    uint32_t pixel;

    gpu_set_up(&f, "");
    gpu_start(&f);
    gpu_create(&f, 1, VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, 64, 64);
    gpu_create(&f, 2, BGRX, 63, 64);
    gpu_attach_plain(&f, 1, 16384);
    harness_store(f.h, f.pixels + 4 * (2 * 64 + 1), 4, 0x80402010);
    gpu_copy(&f, 1, 0, 0, 64, 64, 0);
    g_assert_cmphex(gpu_cursor(&f, update, 0, 1, 10, -20, 3, 4), ==, RESP(OK_NODATA));
    g_assert_true(display_take(f.viewer, 0, &taken));
    g_assert_true(taken.cursor_changed && taken.cursor_moved && taken.cursor);
    g_assert_cmpint(taken.cursor_y, ==, -20);
    g_assert_cmpuint(taken.hot_x, ==, 3);
    memcpy(&pixel, taken.cursor->pixels + 4 * (2 * 64 + 1), 4);
    g_assert_cmphex(pixel, ==, 0x80402010);
    display_update_clear(&taken);
    g_assert_cmphex(gpu_cursor(&f, move, 0, 0, 11, 12, 0, 0), ==, RESP(OK_NODATA));
    g_assert_true(display_take(f.viewer, 0, &taken));
    g_assert_true(taken.cursor_moved && !taken.cursor_changed && taken.cursor);
    display_update_clear(&taken);
    g_assert_cmphex(gpu_unref_resource(&f, 1), ==, RESP(OK_NODATA)); /* the cursor is a copy */
    g_assert_cmphex(gpu_cursor(&f, update, 0, 2, 0, 0, 0, 0), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_cursor(&f, update, 0, 9, 0, 0, 0, 0), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_cursor(&f, update, 1, 0, 0, 0, 0, 0), ==, RESP(ERR_INVALID_SCANOUT_ID));
    g_assert_cmphex(gpu_cursor(&f, move, 1, 0, 0, 0, 0, 0), ==, RESP(ERR_INVALID_SCANOUT_ID));
    g_assert_false(display_take(f.viewer, 0, &taken));
    g_assert_nonnull(taken.cursor);
    display_update_clear(&taken);
    g_assert_cmphex(gpu_cursor(&f, update, 0, 0, 0, 0, UINT32_MAX, 0), ==, RESP(OK_NODATA));
    g_assert_true(display_take(f.viewer, 0, &taken));
    g_assert_true(taken.cursor_changed && !taken.cursor);
    gpu_tear_down(&f);
}

/* The stock driver leaves no room for an answer on the cursor queue. */
static void test_cursor_without_response(void)
{
    struct virtio_gpu_update_cursor command = {{.type = VIRTIO_GPU_CMD_MOVE_CURSOR},
                                               {.scanout_id = 0, .x = 5, .y = 6}};
    struct display_update taken;
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    gpu_send(&f, 1, &command, sizeof(command), NULL, 0, 0);
    g_assert_cmpint(f.written, ==, 0);
    display_take(f.viewer, 0, &taken);
    g_assert_cmpint(taken.cursor_x, ==, 5);
    gpu_tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    g_test_add_func("/virtio-gpu/config", test_config);
    g_test_add_func("/virtio-gpu/features-can-be-withdrawn", test_features_can_be_withdrawn);
    g_test_add_func("/virtio-gpu/bad-options", test_bad_options);
    g_test_add_func("/virtio-gpu/display-info", test_display_info);
#ifdef HAVE_VIRTIO_GPU_EDID
    g_test_add_func("/virtio-gpu/edid", test_edid);
    g_test_add_func("/virtio-gpu/edid-large", test_large_edid);
#endif
    g_test_add_func("/virtio-gpu/create", test_create);
    g_test_add_func("/virtio-gpu/budget", test_budget);
    g_test_add_func("/virtio-gpu/backing", test_backing);
    g_test_add_func("/virtio-gpu/picture", test_picture);
    g_test_add_func("/virtio-gpu/parts", test_parts);
    g_test_add_func("/virtio-gpu/scattered-backing", test_scattered_backing);
    g_test_add_func("/virtio-gpu/formats", test_formats);
    g_test_add_func("/virtio-gpu/bad-pictures", test_bad_pictures);
    g_test_add_func("/virtio-gpu/unref-while-shown", test_unref_while_shown);
    g_test_add_func("/virtio-gpu/cursor", test_cursor);
    g_test_add_func("/virtio-gpu/cursor-without-response", test_cursor_without_response);
    return g_test_run();
}
