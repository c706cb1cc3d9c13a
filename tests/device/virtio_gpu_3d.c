/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of virtio/gpu with virgl=on, without GL: the renderer is a fake (virgl_fake.h) that asserts what
 * the device has to see to. virtio_gpu_gl.c has the real one.
 */
#include <string.h>

#include "tests/device/virtio_gpu.h"
#include "tests/support/virgl_fake.h"

#define WIDTH  64u
#define HEIGHT 32u
#define BYTES  (4u * WIDTH * HEIGHT)

static void set_up(struct gpu_fixture *f, const char *options)
{
    virgl_fake_holds = virgl_fake_fails = false;
    gpu_set_up(f, options);
    gpu_start(f);
}

static void tear_down(struct gpu_fixture *f)
{
    virgl_fake_holds = virgl_fake_fails = false;
    virtio_driver_reset(f->driver);
    g_assert_cmpuint(virgl_fake_objects(), ==, 0);
    g_assert_cmpuint(virtio_gpu_memory_used(f->vdev), ==, 0);
    gpu_tear_down(f);
}

static uint32_t send(struct gpu_fixture *f, const void *command, size_t size)
{
    return gpu_send(f, 0, command, size, NULL, 0, 4096);
}

static uint32_t destroy_context(struct gpu_fixture *f, uint32_t id)
{
    struct virtio_gpu_ctx_destroy command = {
        .hdr = {.type = VIRTIO_GPU_CMD_CTX_DESTROY, .ctx_id = id}};

    return send(f, &command, sizeof(command));
}

static uint32_t create_3d(struct gpu_fixture *f, uint32_t id)
{
    struct virtio_gpu_resource_create_3d command = gpu_texture(id, WIDTH, HEIGHT);

    return send(f, &command, sizeof(command));
}

static struct virtio_gpu_transfer_host_3d transfer(uint32_t type, uint32_t context, uint32_t id)
{
    return (struct virtio_gpu_transfer_host_3d){.hdr = {.type = type, .ctx_id = context},
                                                .box = {0, 0, 0, WIDTH, HEIGHT, 1},
                                                .resource_id = id,
                                                .stride = 4 * WIDTH};
}

/* ---- what is offered ---- */

static void test_not_offered(void)
{
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    g_assert_false(f.vdev->offered & BIT(VIRTIO_GPU_F_VIRGL));
    g_assert_cmpuint(GPU_CONFIG(&f, num_capsets), ==, 0);
    g_assert_cmphex(gpu_context(&f, 1, 0), ==, RESP(ERR_UNSPEC));
    g_assert_cmphex(create_3d(&f, 1), ==, RESP(ERR_UNSPEC));
    gpu_tear_down(&f);
}

static void assert_refused(const char *library, const char *why)
{
    g_autoptr(options_t) options = options_parse(virtio_gpu_options, "--gpu", "virgl=on", NULL);
    struct display *display = display_create();
    g_autoptr(GError) error = NULL;

    virtio_gpu_set_library(library);
    g_assert_null(virtio_gpu_create(options, loop_main(), display, &error));
    virtio_gpu_set_library(NULL);
    g_assert_nonnull(error);
    if (!strstr(error->message, why))
        g_error("'%s' does not say '%s'", error->message, why);
    g_assert_nonnull(strstr(error->message, "virgl"));
    display_destroy(display);
}

static void test_no_library(void)
{
    assert_refused("libthere-is-none.so.9", "libvirglrenderer1");
}

static void test_no_gl(void)
{
    virgl_fake_fails = true;
    assert_refused(NULL, "libegl1");
    virgl_fake_fails = false;
}

static void test_one_a_process(void)
{
    struct gpu_fixture f;

    set_up(&f, "virgl=on");
    assert_refused(NULL, "another GPU");
    tear_down(&f);
}

static void test_capsets(void)
{
    struct virtio_gpu_get_capset_info info = {{.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO}, 1};
    struct virtio_gpu_get_capset get = {{.type = VIRTIO_GPU_CMD_GET_CAPSET}, 2, 1};
    struct virtio_gpu_resp_capset_info reply;
    struct gpu_fixture f;
    uint8_t caps[224];

    set_up(&f, "virgl=on");
    g_assert_true(f.vdev->offered & BIT(VIRTIO_GPU_F_VIRGL));
    g_assert_cmpuint(GPU_CONFIG(&f, num_capsets), ==, 2);
    g_assert_cmphex(send(&f, &info, sizeof(info)), ==, RESP(OK_CAPSET_INFO));
    gpu_response(&f, &reply, sizeof(reply));
    g_assert_cmpuint(reply.capset_id, ==, 2);
    g_assert_cmpuint(reply.capset_max_version, ==, 2);
    g_assert_cmpuint(reply.capset_max_size, ==, 200);
    g_assert_cmphex(send(&f, &get, sizeof(get)), ==, RESP(OK_CAPSET));
    gpu_response(&f, caps, sizeof(caps));
    g_assert_cmphex(caps[24], ==, 0x12);
    g_assert_cmphex(caps[223], ==, 0x12);
    info.capset_index = 2;
    g_assert_cmphex(send(&f, &info, sizeof(info)), ==, RESP(ERR_INVALID_PARAMETER));
    get.capset_version = 3;
    g_assert_cmphex(send(&f, &get, sizeof(get)), ==, RESP(ERR_INVALID_PARAMETER));
    get.capset_id = 7;
    g_assert_cmphex(send(&f, &get, sizeof(get)), ==, RESP(ERR_INVALID_PARAMETER));
    tear_down(&f);
}

/* ---- contexts ---- */

static void test_contexts(void)
{
    struct gpu_fixture f;

    set_up(&f, "virgl=on");
    g_assert_cmphex(gpu_context(&f, 0, 0), ==, RESP(ERR_INVALID_CONTEXT_ID));
    g_assert_cmphex(gpu_context(&f, 1, 0), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_context(&f, 1, 0), ==, RESP(ERR_INVALID_CONTEXT_ID));
#ifdef HAVE_VIRTIO_GPU_CONTEXT_INIT
    g_assert_cmphex(gpu_context(&f, 2, VIRTIO_GPU_CAPSET_VIRGL2), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_context(&f, 3, 9), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_context(&f, 3, 0x101), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(destroy_context(&f, 2), ==, RESP(OK_NODATA));
#endif
    gpu_create(&f, 5, BGRX, 8, 8);
    g_assert_cmphex(gpu_tell_context(&f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 5), ==,
                    RESP(OK_NODATA));
    g_assert_cmphex(gpu_tell_context(&f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 6), ==,
                    RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_tell_context(&f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 2, 5), ==,
                    RESP(ERR_INVALID_CONTEXT_ID));
    g_assert_cmphex(gpu_tell_context(&f, VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE, 1, 5), ==,
                    RESP(OK_NODATA));
    g_assert_cmphex(destroy_context(&f, 1), ==, RESP(OK_NODATA));
    g_assert_cmphex(destroy_context(&f, 1), ==, RESP(ERR_INVALID_CONTEXT_ID));
    tear_down(&f);
}

static void test_context_budget(void)
{
    struct gpu_fixture f;
    uint32_t id = 1;

    set_up(&f, "virgl=on,memory=8M");
    while (gpu_context(&f, id, 0) == RESP(OK_NODATA) && id < 100)
        id++;
    g_assert_cmpuint(id, ==, 9);
    g_assert_cmphex(gpu_context(&f, id, 0), ==, RESP(ERR_OUT_OF_MEMORY));
    tear_down(&f);
}

static void test_submit(void)
{
    struct virtio_gpu_cmd_submit command = {.hdr = {.type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = 1},
                                            .size = 4096};
    uint32_t words[] = {7, 0x11223344};
    struct gpu_fixture f;

    set_up(&f, "virgl=on");
    gpu_context(&f, 1, 0);
    create_3d(&f, 7);
    g_assert_cmphex(gpu_submit_words(&f, 1, words, 2), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_submit_words(&f, 2, words, 2), ==, RESP(ERR_INVALID_CONTEXT_ID));
    g_assert_cmphex(gpu_submit_words(&f, 1, words, 0), ==, RESP(OK_NODATA));
    words[0] = 8; /* the renderer says no */
    g_assert_cmphex(gpu_submit_words(&f, 1, words, 2), ==, RESP(ERR_INVALID_PARAMETER));
    /* More than there is, not whole words, 4 GiB. */
    g_assert_cmphex(gpu_send(&f, 0, &command, sizeof(command), words, 8, 4096), ==,
                    RESP(ERR_INVALID_PARAMETER));
    command.size = 7;
    g_assert_cmphex(gpu_send(&f, 0, &command, sizeof(command), words, 8, 4096), ==,
                    RESP(ERR_INVALID_PARAMETER));
    command.size = 0xfffffffc;
    g_assert_cmphex(gpu_send(&f, 0, &command, sizeof(command), words, 8, 4096), ==,
                    RESP(ERR_INVALID_PARAMETER));
    tear_down(&f);
}

/* ---- resources ---- */

static void test_bad_resources(void)
{
    static const struct {
        uint32_t target, width, height, depth, layers, levels, samples;
        uint32_t response;
    } cases[] = {
        {2, 0, 32, 1, 1, 0, 0, RESP(ERR_INVALID_PARAMETER)},
        {2, 64, 0, 1, 1, 0, 0, RESP(ERR_INVALID_PARAMETER)},
        {2, 64, 32, 0, 1, 0, 0, RESP(ERR_INVALID_PARAMETER)},
        {9, 64, 32, 1, 1, 0, 0, RESP(ERR_INVALID_PARAMETER)},
        {UINT32_MAX, 64, 32, 1, 1, 0, 0, RESP(ERR_INVALID_PARAMETER)},
        {2, 16385, 1, 1, 1, 0, 0, RESP(ERR_INVALID_PARAMETER)},
        {2, UINT32_MAX, UINT32_MAX, 1, 1, 0, 0, RESP(ERR_INVALID_PARAMETER)},
        {2, 64, 32, 1, UINT32_MAX, 0, 0, RESP(ERR_INVALID_PARAMETER)},
        {2, 64, 32, 1, 1, 16, 0, RESP(ERR_INVALID_PARAMETER)},
        {2, 64, 32, 1, 1, 0, 33, RESP(ERR_INVALID_PARAMETER)},
        {0, 64, 2, 1, 1, 0, 0, RESP(ERR_INVALID_PARAMETER)},
        {2, 16384, 16384, 1, 1, 0, 0, RESP(ERR_OUT_OF_MEMORY)},
        {3, 16384, 16384, 16384, 16384, 0, 32, RESP(ERR_OUT_OF_MEMORY)},
        {2, 4096, 4096, 1, 1, 0, 8, RESP(ERR_OUT_OF_MEMORY)},
        {2, 4096, 4096, 1, 8, 0, 0, RESP(ERR_OUT_OF_MEMORY)},
        {0, UINT32_MAX, 1, 1, 1, 0, 0, RESP(ERR_OUT_OF_MEMORY)},
    };
    struct gpu_fixture f;

    set_up(&f, "virgl=on");
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct virtio_gpu_resource_create_3d command = gpu_texture(3, WIDTH, HEIGHT);

        command.target = cases[i].target;
        command.width = cases[i].width;
        command.height = cases[i].height;
        command.depth = cases[i].depth;
        command.array_size = cases[i].layers;
        command.last_level = cases[i].levels;
        command.nr_samples = cases[i].samples;
        g_assert_cmphex(send(&f, &command, sizeof(command)), ==, cases[i].response);
        g_assert_cmpuint(virtio_gpu_memory_used(f.vdev), ==, 0);
    }
    g_assert_cmphex(create_3d(&f, 0), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(create_3d(&f, 3), ==, RESP(OK_NODATA));
    g_assert_cmphex(create_3d(&f, 3), ==, RESP(ERR_INVALID_RESOURCE_ID));
    virgl_fake_fails = true;
    g_assert_cmphex(create_3d(&f, 4), ==, RESP(ERR_INVALID_PARAMETER));
    tear_down(&f);
}

static void test_transfers(void)
{
    struct virtio_gpu_transfer_host_3d to = transfer(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 1, 7);
    struct virtio_gpu_transfer_host_3d from = transfer(VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 1, 7);
    struct gpu_fixture f;

    set_up(&f, "virgl=on");
    gpu_context(&f, 1, 0);
    create_3d(&f, 7);
    g_assert_cmphex(send(&f, &to, sizeof(to)), ==, RESP(ERR_INVALID_PARAMETER)); /* no backing */
    g_assert_cmphex(gpu_attach_plain(&f, 7, BYTES), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_attach_plain(&f, 7, BYTES), ==, RESP(ERR_UNSPEC));
    gpu_draw(&f, f.pixels, WIDTH, HEIGHT, 4 * WIDTH);
    g_assert_cmphex(send(&f, &to, sizeof(to)), ==, RESP(OK_NODATA));
    memset(harness_ptr(f.h, f.pixels, BYTES), 0, BYTES);
    g_assert_cmphex(send(&f, &from, sizeof(from)), ==, RESP(OK_NODATA));
    g_assert_cmphex(harness_load(f.h, f.pixels + 4 * (5 * WIDTH + 9), 4) & 0xffffff, ==,
                    gpu_pixel(9, 5) & 0xffffff);
    to.offset = BYTES;
    g_assert_cmphex(send(&f, &to, sizeof(to)), ==, RESP(ERR_INVALID_PARAMETER));
    to.offset = UINT64_MAX;
    g_assert_cmphex(send(&f, &to, sizeof(to)), ==, RESP(ERR_INVALID_PARAMETER));
    from.box.w = UINT32_MAX;
    g_assert_cmphex(send(&f, &from, sizeof(from)), ==, RESP(ERR_INVALID_PARAMETER));
    from.hdr.ctx_id = 2;
    g_assert_cmphex(send(&f, &from, sizeof(from)), ==, RESP(ERR_INVALID_CONTEXT_ID));
    from.hdr.ctx_id = 0;
    from.resource_id = 9;
    g_assert_cmphex(send(&f, &from, sizeof(from)), ==, RESP(ERR_INVALID_RESOURCE_ID));
    gpu_create(&f, 9, BGRX, 8, 8); /* there, but 2D */
    g_assert_cmphex(send(&f, &from, sizeof(from)), ==, RESP(ERR_INVALID_RESOURCE_ID));
    g_assert_cmphex(gpu_detach(&f, 7), ==, RESP(OK_NODATA));
    from = transfer(VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 1, 7);
    g_assert_cmphex(send(&f, &from, sizeof(from)), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_unref_resource(&f, 7), ==, RESP(OK_NODATA));
    g_assert_cmphex(send(&f, &from, sizeof(from)), ==, RESP(ERR_INVALID_RESOURCE_ID));
    tear_down(&f);
}

static void test_shown(void)
{
    const uint32_t red[] = {7, 0xff0000}, green[] = {7, 0x00ff00};
    struct gpu_fixture f;

    set_up(&f, "virgl=on");
    gpu_context(&f, 1, 0);
    create_3d(&f, 7);
    gpu_submit_words(&f, 1, red, 2);
    g_assert_cmphex(gpu_scanout(&f, 0, 7, 0, 0, WIDTH, HEIGHT), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_shown(&f, 0, 0, 0), ==, 0xff0000);
    gpu_submit_words(&f, 1, green, 2);
    g_assert_cmphex(gpu_shown(&f, 0, 3, 3), ==, 0xff0000);
    g_assert_cmphex(gpu_flush_rect(&f, 7, 2, 2, 4, 4), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_shown(&f, 0, 3, 3), ==, 0x00ff00);
    g_assert_cmphex(gpu_flush_rect(&f, 7, 60, 0, 5, 4), ==, RESP(ERR_INVALID_PARAMETER));
    g_assert_cmphex(gpu_scanout(&f, 0, 7, 32, 0, 33, HEIGHT), ==, RESP(ERR_INVALID_PARAMETER));
    /* A part of it, which begins anywhere. */
    g_assert_cmphex(gpu_scanout(&f, 0, 7, 32, 8, 16, 16), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_shown(&f, 0, 15, 15), ==, 0x00ff00);
    g_assert_cmphex(gpu_unref_resource(&f, 7), ==, RESP(OK_NODATA));
    tear_down(&f);
}

static void test_not_saved(void)
{
    struct gpu_fixture f;

    set_up(&f, "virgl=on");
    g_assert_null(f.vdev->device->migration_blocker);
    gpu_context(&f, 1, 0);
    g_assert_nonnull(strstr(f.vdev->device->migration_blocker, "3D"));
    create_3d(&f, 7);
    destroy_context(&f, 1);
    g_assert_nonnull(f.vdev->device->migration_blocker);
    gpu_unref_resource(&f, 7);
    g_assert_null(f.vdev->device->migration_blocker);
    gpu_context(&f, 1, 0);
    virtio_driver_reset(f.driver);
    g_assert_null(f.vdev->device->migration_blocker);
    gpu_tear_down(&f);
}

/* ---- fences ---- */

/* Sends a command with a fence, and does not wait. */
static void send_fenced(struct gpu_fixture *f, unsigned slot, uint32_t type, uint32_t context)
{
    struct virtio_gpu_ctrl_hdr header = {
        .type = type, .flags = VIRTIO_GPU_FLAG_FENCE, .fence_id = 40 + slot, .ctx_id = context};
    struct driver_buffer out = {f->command + 64 * slot, 32};
    struct driver_buffer in = {f->response + 512 * slot, 512};

    harness_write(f->h, out.gpa, &header, sizeof(header));
    memset(harness_ptr(f->h, out.gpa + 24, 8), 0, 8);
    memset(harness_ptr(f->h, in.gpa, 24), 0xee, 24);
    virtio_driver_submit(f->driver, 0, &out, 1, &in, 1, (void *)(uintptr_t)(slot + 1));
    harness_settle(f->h, 20);
}

static uint32_t answer(struct gpu_fixture *f, unsigned slot)
{
    return harness_load(f->h, f->response + 512 * slot, 4);
}

static void test_fences(void)
{
    struct gpu_fixture f;

    set_up(&f, "virgl=on");
    gpu_context(&f, 1, 0);
    virgl_fake_holds = true;
    send_fenced(&f, 0, VIRTIO_GPU_CMD_SUBMIT_3D, 1);        /* waits for GL */
    send_fenced(&f, 1, VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0); /* waits behind it */
    g_assert_cmphex(answer(&f, 0), ==, 0xeeeeeeee);
    g_assert_cmphex(answer(&f, 1), ==, 0xeeeeeeee);
    virgl_fake_holds = false;
    g_assert_true(virtio_driver_wait(f.driver, 0, NULL) == (void *)1);
    g_assert_true(virtio_driver_wait(f.driver, 0, NULL) == (void *)2);
    g_assert_cmphex(answer(&f, 0), ==, RESP(OK_NODATA));
    g_assert_cmpuint(harness_load(f.h, f.response + 8, 8), ==, 40);
    g_assert_cmphex(answer(&f, 1), ==, RESP(OK_DISPLAY_INFO));
    virgl_fake_holds = true; /* nothing of 3D is under way: no reason to wait */
    send_fenced(&f, 0, VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);
    g_assert_cmphex(answer(&f, 0), ==, RESP(OK_DISPLAY_INFO));
    g_assert_true(virtio_driver_wait(f.driver, 0, NULL) == (void *)1);
    tear_down(&f);
}

static void test_fence_at_reset(void)
{
    struct gpu_fixture f;

    set_up(&f, "virgl=on");
    gpu_context(&f, 1, 0);
    virgl_fake_holds = true;
    send_fenced(&f, 0, VIRTIO_GPU_CMD_SUBMIT_3D, 1);
    virtio_driver_reset(f.driver);
    virgl_fake_holds = false;
    harness_settle(f.h, 20);
    g_assert_cmphex(answer(&f, 0), ==, 0xeeeeeeee);
    gpu_start(&f);
    g_assert_cmphex(gpu_context(&f, 1, 0), ==, RESP(OK_NODATA));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    virtio_gpu_set_library(NULL);
    g_test_add_func("/virtio-gpu/3d/not-offered", test_not_offered);
    g_test_add_func("/virtio-gpu/3d/no-library", test_no_library);
    g_test_add_func("/virtio-gpu/3d/no-gl", test_no_gl);
    g_test_add_func("/virtio-gpu/3d/one-a-process", test_one_a_process);
    g_test_add_func("/virtio-gpu/3d/capsets", test_capsets);
    g_test_add_func("/virtio-gpu/3d/contexts", test_contexts);
    g_test_add_func("/virtio-gpu/3d/context-budget", test_context_budget);
    g_test_add_func("/virtio-gpu/3d/submit", test_submit);
    g_test_add_func("/virtio-gpu/3d/bad-resources", test_bad_resources);
    g_test_add_func("/virtio-gpu/3d/transfers", test_transfers);
    g_test_add_func("/virtio-gpu/3d/shown", test_shown);
    g_test_add_func("/virtio-gpu/3d/not-saved", test_not_saved);
    g_test_add_func("/virtio-gpu/3d/fences", test_fences);
    g_test_add_func("/virtio-gpu/3d/fence-at-reset", test_fence_at_reset);
    return g_test_run();
}
