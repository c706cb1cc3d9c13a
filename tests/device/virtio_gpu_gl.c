/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of virtio/gpu with virglrenderer and this host's OpenGL; skipped, with the reason, without them. */
#include "tests/device/virtio_gpu.h"

#define WIDTH  64u
#define HEIGHT 32u
#define BYTES  (4u * WIDTH * HEIGHT)

static void test_drawn(void)
{
    g_autoptr(options_t) options = options_parse(virtio_gpu_options, "--gpu", "virgl=on", NULL);
    struct display *display = display_create();
    g_autoptr(GError) error = NULL;
    struct virtio_device *probe;
    /* Gallium's, for a context: a surface of resource 7, the frame buffer, and clear it to blue. */
    static const uint32_t words[] = {
        1 | 8 << 8 | 5 << 16, 1, 7, BGRX, 0,          0, /* CREATE_OBJECT, SURFACE */
        5 | 0 << 8 | 3 << 16, 1, 0, 1, /* SET_FRAMEBUFFER_STATE: one colour buffer */
        7 | 0 << 8 | 8 << 16, 4, 0, 0,    0x3f800000, 0x3f800000, 0, 0, 0, /* CLEAR colour 0 */
    };
    struct virtio_gpu_resource_create_3d texture = gpu_texture(7, WIDTH, HEIGHT);
    struct gpu_fixture f;

    probe = virtio_gpu_create(options, loop_main(), display, &error);
    if (!probe) {
        display_destroy(display);
        g_test_skip(error->message);
        return;
    }
    probe->class->destroy(probe);
    display_destroy(display);
    gpu_set_up(&f, "virgl=on");
    gpu_start(&f);
    g_assert_cmphex(gpu_context(&f, 1, 0), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_send(&f, 0, &texture, sizeof(texture), NULL, 0, 4096), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_attach_plain(&f, 7, BYTES), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_tell_context(&f, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 7), ==,
                    RESP(OK_NODATA));
    g_assert_cmphex(gpu_submit_words(&f, 1, words, G_N_ELEMENTS(words)), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_scanout(&f, 0, 7, 0, 0, WIDTH, HEIGHT), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_flush_rect(&f, 7, 0, 0, WIDTH, HEIGHT), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_shown(&f, 0, 5, 5), ==, 0x0000ff);
    g_assert_cmphex(gpu_unref_resource(&f, 7), ==, RESP(OK_NODATA));
    gpu_tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    g_test_add_func("/virtio-gpu/gl/drawn", test_drawn);
    return g_test_run();
}
