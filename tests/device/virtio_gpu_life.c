/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of virtio/gpu: fences, malformed commands, other sizes, resets, and what is saved. */
#include <linux/pci_regs.h>
#include <string.h>

#include "tests/device/virtio_gpu.h"
#include "tests/support/check_state.h"

#define ALL(F) ((F)->vdev->class->features & (F)->vdev->offered)

/* ---- fences ---- */

static void test_fences(void)
{
    struct virtio_gpu_ctrl_hdr command = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO,
                                          .flags = VIRTIO_GPU_FLAG_FENCE,
                                          .fence_id = UINT64_C(0x1122334455667788),
                                          .ctx_id = 0x99},
                               response;
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    gpu_send(&f, 0, &command, sizeof(command), NULL, 0, 4096);
    harness_read(f.h, f.response, &response, sizeof(response));
    g_assert_cmphex(response.flags, ==, VIRTIO_GPU_FLAG_FENCE);
    g_assert_cmphex(response.fence_id, ==, command.fence_id);
    g_assert_cmphex(response.ctx_id, ==, 0x99);

    command.type = 0x7777; /* a failed command is done, too */
    g_assert_cmphex(gpu_send(&f, 0, &command, sizeof(command), NULL, 0, 4096), ==,
                    RESP(ERR_UNSPEC));
    gpu_response(&f, &response, sizeof(response));
    g_assert_cmphex(response.flags, ==, VIRTIO_GPU_FLAG_FENCE);
    g_assert_cmphex(response.fence_id, ==, command.fence_id);

    command.flags = 0; /* nobody asked */
    gpu_send(&f, 0, &command, sizeof(command), NULL, 0, 4096);
    gpu_response(&f, &response, sizeof(response));
    g_assert_cmphex(response.flags, ==, 0);
    g_assert_cmphex(response.fence_id, ==, 0);
    gpu_tear_down(&f);
}

/* A resource of 4096 x 2048 whose backing is the same 8 MiB four times over. */
static void create_large(struct gpu_fixture *f)
{
    struct virtio_gpu_mem_entry entries[4];

    for (unsigned i = 0; i < 4; i++)
        entries[i] = (struct virtio_gpu_mem_entry){f->pixels, PIXELS};
    g_assert_cmphex(gpu_create(f, 1, BGRX, 4096, 2048), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_attach(f, 1, entries, 4), ==, RESP(OK_NODATA));
    gpu_draw(f, f->pixels, 4096, 512, 16384);
    g_assert_cmphex(gpu_scanout(f, 0, 1, 0, 0, 4096, 2048), ==, RESP(OK_NODATA));
}

static void submit_large(struct gpu_fixture *f)
{
    struct virtio_gpu_transfer_to_host_2d command = {{.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
                                                      .flags = VIRTIO_GPU_FLAG_FENCE,
                                                      .fence_id = 77},
                                                     {0, 0, 4096, 2048},
                                                     0,
                                                     1};
    struct driver_buffer out = {f->command, sizeof(command)}, in = {f->response, 4096};

    harness_write(f->h, f->command, &command, sizeof(command));
    harness_store(f->h, f->response, 8, 0);
    harness_store(f->h, f->response + 8, 8, 0);
    virtio_driver_submit(f->driver, 0, &out, 1, &in, 1, f);
}

static void assert_large(struct gpu_fixture *f)
{
    for (uint32_t y = 0; y < 2048; y += 31)
        for (uint32_t x = 0; x < 4096; x += 101)
            g_assert_cmphex(gpu_shown(f, 0, x, y), ==, gpu_pixel(x, y % 512));
}

static void test_large_transfer(void)
{
    struct gpu_fixture f;
    uint32_t written;

    gpu_set_up(&f, "");
    gpu_start(&f);
    create_large(&f);
    submit_large(&f);
    g_assert_true(virtio_driver_wait(f.driver, 0, &written) == &f);
    g_assert_cmphex(harness_load(f.h, f.response, 4), ==, RESP(OK_NODATA));
    g_assert_cmpuint(harness_load(f.h, f.response + 8, 8), ==, 77);
    assert_large(&f);
    gpu_tear_down(&f);
}

/* A pause in the middle: nothing is answered before it is done, and afterwards it is, once. */
static void test_pause_in_transfer(void)
{
    struct gpu_fixture f;
    g_autoptr(GError) error = NULL;
    struct device *device;
    uint32_t written;

    gpu_set_up(&f, "");
    device = &virtio_pci_function(f.vpci)->device;
    gpu_start(&f);
    create_large(&f);
    submit_large(&f);
    loop_iterate(f.h->loop, false); /* a turn or two: at most half of it */
    loop_iterate(f.h->loop, false);
    g_assert_cmphex(harness_load(f.h, f.response, 4), ==, 0);
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_STOP, HARNESS_TIMEOUT_MS, &error));
    harness_settle(f.h, 20);
    g_assert_cmphex(harness_load(f.h, f.response, 4), ==, 0);
    g_assert_cmpuint(device_state(device), ==, DEVICE_STOP);
    g_assert_true(devices_set_state(&f.h->devices, DEVICE_RUNNING, HARNESS_TIMEOUT_MS, &error));
    g_assert_true(virtio_driver_wait(f.driver, 0, &written) == &f);
    g_assert_cmpuint(harness_load(f.h, f.response + 8, 8), ==, 77);
    assert_large(&f);
    gpu_tear_down(&f);
}

static void test_reset_in_transfer(void)
{
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    create_large(&f);
    submit_large(&f);
    loop_iterate(f.h->loop, false);
    virtio_driver_reset(f.driver);
    g_assert_cmpuint(virtio_gpu_resource_count(f.vdev), ==, 0);
    g_assert_cmpuint(virtio_gpu_memory_used(f.vdev), ==, 0);
    g_assert_null(display_look(f.display, 0));
    gpu_start(&f); /* and it works again */
    g_assert_cmphex(gpu_create(&f, 1, BGRX, 64, 64), ==, RESP(OK_NODATA));
    gpu_tear_down(&f);
}

/* Nothing is read or written once bus mastering is off, and what goes on afterwards is sound. */
static void test_bus_master_off_in_transfer(void)
{
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    create_large(&f);
    submit_large(&f);
    loop_iterate(f.h->loop, false);
    harness_command(f.h, f.driver->slot, 0, PCI_COMMAND_MASTER);
    harness_settle(f.h, 20);
    g_assert_cmphex(harness_load(f.h, f.response, 8), ==, 0);
    g_assert_cmphex(gpu_shown(&f, 0, 0, 2047), ==, 0); /* it did not get that far */
    harness_command(f.h, f.driver->slot, PCI_COMMAND_MASTER, 0);
    virtio_driver_reset(f.driver);
    gpu_start(&f);
    g_assert_cmphex(gpu_simple(&f, VIRTIO_GPU_CMD_GET_DISPLAY_INFO), ==, RESP(OK_DISPLAY_INFO));
    gpu_tear_down(&f);
}

/* ---- malformed ---- */

static void test_short_commands(void)
{
    static const struct {
        uint32_t type;
        size_t size;
        unsigned queue;
    } cases[] = {
        {VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, sizeof(struct virtio_gpu_resource_create_2d), 0},
        {VIRTIO_GPU_CMD_RESOURCE_UNREF, sizeof(struct virtio_gpu_resource_unref), 0},
        {VIRTIO_GPU_CMD_SET_SCANOUT, sizeof(struct virtio_gpu_set_scanout), 0},
        {VIRTIO_GPU_CMD_RESOURCE_FLUSH, sizeof(struct virtio_gpu_resource_flush), 0},
        {VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, sizeof(struct virtio_gpu_transfer_to_host_2d), 0},
        {VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, sizeof(struct virtio_gpu_resource_attach_backing),
         0},
        {VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, sizeof(struct virtio_gpu_resource_detach_backing),
         0},
        {VIRTIO_GPU_CMD_UPDATE_CURSOR, sizeof(struct virtio_gpu_update_cursor), 1},
        {VIRTIO_GPU_CMD_MOVE_CURSOR, sizeof(struct virtio_gpu_update_cursor), 1},
    };
    struct gpu_fixture f;
    uint8_t bytes[256] = {0};

    gpu_set_up(&f, "");
    gpu_start(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        memcpy(bytes, &cases[i].type, 4);
        for (size_t size = 1; size < cases[i].size; size += 7)
            g_assert_cmphex(gpu_send(&f, cases[i].queue, bytes, size, NULL, 0, 4096), ==,
                            RESP(ERR_INVALID_PARAMETER));
        /* The right command on the wrong queue. */
        g_assert_cmphex(gpu_send(&f, !cases[i].queue, bytes, sizeof(bytes), NULL, 0, 4096), ==,
                        RESP(ERR_UNSPEC));
    }
    g_assert_cmphex(gpu_simple(&f, VIRTIO_GPU_CMD_GET_DISPLAY_INFO), ==, RESP(OK_DISPLAY_INFO));
    gpu_tear_down(&f);
}

static void test_unknown_commands(void)
{
    static const uint32_t types[] = {0,
                                     VIRTIO_GPU_CMD_GET_CAPSET_INFO,
                                     VIRTIO_GPU_CMD_GET_CAPSET,
                                     VIRTIO_GPU_CMD_CTX_CREATE,
                                     VIRTIO_GPU_CMD_SUBMIT_3D,
                                     VIRTIO_GPU_CMD_RESOURCE_CREATE_3D,
                                     VIRTIO_GPU_RESP_OK_NODATA,
                                     UINT32_MAX};
    struct gpu_fixture f;
    uint8_t bytes[256] = {0};

    gpu_set_up(&f, "");
    gpu_start(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) {
        memcpy(bytes, &types[i], 4);
        g_assert_cmphex(gpu_send(&f, 0, bytes, sizeof(bytes), NULL, 0, 4096), ==, RESP(ERR_UNSPEC));
        g_assert_cmphex(gpu_send(&f, 1, bytes, sizeof(bytes), NULL, 0, 4096), ==, RESP(ERR_UNSPEC));
    }
    g_assert_false(virtio_driver_status(f.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
    gpu_tear_down(&f);
}

/* An answer that finds too little room is cut off, a command without any room is carried out. */
static void test_short_responses(void)
{
    struct virtio_gpu_ctrl_hdr info = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
    struct virtio_gpu_resource_create_2d create = {
        {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D}, 1, BGRX, 8, 8};
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    gpu_start(&f);
    gpu_send(&f, 0, &info, sizeof(info), NULL, 0, 30);
    g_assert_cmpint(f.written, ==, 30);
    g_assert_cmphex(harness_load(f.h, f.response, 4), ==, RESP(OK_DISPLAY_INFO));
    g_assert_cmphex(harness_load(f.h, f.response + 30, 1), ==, 0xee);
    gpu_send(&f, 0, &create, sizeof(create), NULL, 0, 0);
    g_assert_cmpint(f.written, ==, 0);
    g_assert_cmpuint(virtio_gpu_resource_count(f.vdev), ==, 1);
    gpu_tear_down(&f);
}

/* A command in single bytes, its answer in odd pieces. */
static void test_any_layout(void)
{
    struct virtio_gpu_ctrl_hdr command = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
    struct virtio_gpu_resp_display_info info;
    struct driver_buffer out[sizeof(command)], in[3];
    struct gpu_fixture f;
    uint64_t at;

    gpu_set_up(&f, "width=111,height=222");
    gpu_start(&f);
    at = f.response;
    harness_write(f.h, f.command, &command, sizeof(command));
    for (unsigned i = 0; i < sizeof(command); i++)
        out[i] = (struct driver_buffer){f.command + i, 1};
    for (unsigned i = 0; i < 3; i++) {
        in[i] = (struct driver_buffer){at, i == 2 ? sizeof(info) - 40 : 7 + 26 * i};
        at += in[i].len;
    }
    g_assert_cmpint(virtio_driver_request(f.driver, 0, out, sizeof(command), in, 3), ==,
                    sizeof(info));
    harness_read(f.h, f.response, &info, sizeof(info));
    g_assert_cmphex(info.hdr.type, ==, RESP(OK_DISPLAY_INFO));
    g_assert_cmpuint(info.pmodes[0].r.width, ==, 111);
    g_assert_cmpuint(info.pmodes[0].r.height, ==, 222);
    gpu_tear_down(&f);
}

static void test_rings(const void *features)
{
    struct gpu_fixture f;

    gpu_set_up(&f, "in-order=on,queue-size=8");
    virtio_driver_start(f.driver, ALL(&f) | *(const uint64_t *)features);
    for (uint32_t round = 0; round < 40; round++) {
        g_assert_cmphex(gpu_create(&f, 1 + round, BGRX, 16, 16), ==, RESP(OK_NODATA));
        g_assert_cmphex(gpu_cursor(&f, VIRTIO_GPU_CMD_MOVE_CURSOR, 0, 0, round, 0, 0, 0), ==,
                        RESP(OK_NODATA));
    }
    g_assert_cmpuint(virtio_gpu_resource_count(f.vdev), ==, 40);
    gpu_tear_down(&f);
}

/* ---- other sizes ---- */

static void clear_events(struct gpu_fixture *f, uint32_t events)
{
    harness_bar_write(f->h, f->driver->slot, f->driver->bar,
                      f->driver->config + offsetof(struct virtio_gpu_config, events_clear), 4,
                      events);
    harness_settle(f->h, 1);
}

static void test_resize(void)
{
    struct virtio_gpu_resp_display_info info;
    struct gpu_fixture f;
    uint64_t before;

    gpu_set_up(&f, "scanouts=2");
    gpu_start(&f);
    before = virtio_driver_config_interrupts(f.driver);
    g_assert_true(display_request_size(f.display, 1, 1920, 1200));
    harness_settle(f.h, 5);
    g_assert_cmpuint(virtio_driver_config_interrupts(f.driver), ==, before + 1);
    g_assert_cmpuint(GPU_CONFIG(&f, events_read), ==, VIRTIO_GPU_EVENT_DISPLAY);
    clear_events(&f, 2); /* another one */
    g_assert_cmpuint(GPU_CONFIG(&f, events_read), ==, VIRTIO_GPU_EVENT_DISPLAY);
    clear_events(&f, VIRTIO_GPU_EVENT_DISPLAY);
    g_assert_cmpuint(GPU_CONFIG(&f, events_read), ==, 0);
    g_assert_cmpuint(GPU_CONFIG(&f, events_clear), ==, 0);
    g_assert_cmpuint(GPU_CONFIG(&f, num_scanouts), ==, 2);
    gpu_simple(&f, VIRTIO_GPU_CMD_GET_DISPLAY_INFO);
    gpu_response(&f, &info, sizeof(info));
    g_assert_cmpuint(info.pmodes[1].r.width, ==, 1920);
    g_assert_cmpuint(info.pmodes[0].r.width, ==, 1280);
    g_assert_true(display_request_size(f.display, 1, 0, 0)); /* unplugged */
    harness_settle(f.h, 5);
    gpu_simple(&f, VIRTIO_GPU_CMD_GET_DISPLAY_INFO);
    gpu_response(&f, &info, sizeof(info));
    g_assert_cmpuint(info.pmodes[1].enabled, ==, 0);
    g_assert_cmpuint(info.pmodes[0].enabled, ==, 1);
    virtio_driver_reset(f.driver);
    g_assert_cmpuint(GPU_CONFIG(&f, events_read), ==, 0);
    gpu_tear_down(&f);
}

/* ---- what is saved ---- */

static void draw_something(struct gpu_fixture *f)
{
    gpu_create(f, 5, BGRX, 320, 200);
    gpu_attach_plain(f, 5, 320 * 200 * 4);
    gpu_draw(f, f->pixels, 320, 200, 1280);
    gpu_copy(f, 5, 0, 0, 320, 200, 0);
    gpu_scanout(f, 1, 5, 10, 20, 300, 150);
    gpu_create(f, 6, VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, 64, 64);
    gpu_attach_plain(f, 6, 16384);
    gpu_copy(f, 6, 0, 0, 64, 64, 0);
    gpu_scanout(f, 0, 6, 0, 0, 64, 64);
    gpu_cursor(f, VIRTIO_GPU_CMD_UPDATE_CURSOR, 1, 6, 7, -8, 9, 10);
    gpu_detach(f, 6);
    display_request_size(f->display, 0, 1000, 900);
    harness_settle(f->h, 5);
}

static GByteArray *save(struct gpu_fixture *f)
{
    struct device *device = &virtio_pci_function(f->vpci)->device;
    g_autoptr(GError) error = NULL;
    GByteArray *saved = harness_save(device);

    devices_set_state(&f->h->devices, DEVICE_RUNNING, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
    return saved;
}

static bool load(struct gpu_fixture *f, const GByteArray *saved, GError **error)
{
    return harness_load_state(&virtio_pci_function(f->vpci)->device, saved, error);
}

static void test_saved_state(void)
{
    struct virtio_gpu_resp_display_info info;
    g_autoptr(GByteArray) saved = NULL;
    g_autoptr(GError) error = NULL;
    struct gpu_fixture f, other;
    struct display_update update;

    gpu_set_up(&f, "scanouts=2");
    gpu_start(&f);
    draw_something(&f);
    saved = save(&f);
    gpu_attach_other(&other, &f, "scanouts=2");
    g_assert_true(load(&other, saved, &error));
    g_assert_no_error(error);
    harness_settle(f.h, 5);
    g_assert_cmpuint(virtio_gpu_resource_count(other.vdev), ==, 2);
    g_assert_cmpuint(virtio_gpu_memory_used(other.vdev), ==, virtio_gpu_memory_used(f.vdev));
    for (uint32_t y = 0; y < 150; y += 7)
        for (uint32_t x = 0; x < 300; x += 3)
            g_assert_cmphex(gpu_shown(&other, 1, x, y), ==, gpu_pixel(x + 10, y + 20));
    for (uint32_t x = 0; x < 64; x++) /* converted again */
        g_assert_cmphex(gpu_shown(&other, 0, x, x), ==, gpu_shown(&f, 0, x, x));
    g_assert_true(display_take(other.viewer, 1, &update));
    g_assert_nonnull(update.cursor);
    g_assert_cmpint(update.cursor_y, ==, -8);
    g_assert_cmpuint(update.hot_y, ==, 10);
    display_update_clear(&update);
    g_assert_cmpuint(GPU_CONFIG(&other, events_read), ==, VIRTIO_GPU_EVENT_DISPLAY);
    gpu_detach_other(&other);

    /* Into itself, over what it has; the rings are those of then, too. */
    g_assert_true(load(&f, saved, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(virtio_gpu_resource_count(f.vdev), ==, 2);
    g_assert_cmphex(gpu_shown(&f, 1, 5, 5), ==, gpu_pixel(15, 25));
    g_assert_cmphex(gpu_copy(&f, 5, 0, 0, 320, 200, 0), ==, RESP(OK_NODATA));
    g_assert_cmphex(gpu_copy(&f, 6, 0, 0, 64, 64, 0), ==, RESP(ERR_UNSPEC)); /* no backing */
    gpu_simple(&f, VIRTIO_GPU_CMD_GET_DISPLAY_INFO);
    gpu_response(&f, &info, sizeof(info));
    g_assert_cmpuint(info.pmodes[0].r.width, ==, 1000);
    gpu_tear_down(&f);
}

static void test_saved_state_refused(void)
{
    static const struct {
        const char *options, *expected;
    } cases[] = {{"scanouts=1", "scanouts"}, {"scanouts=2,memory=1M", "resource"}};
    g_autoptr(GByteArray) saved = NULL;
    struct gpu_fixture f, other;

    gpu_set_up(&f, "scanouts=2");
    gpu_start(&f);
    draw_something(&f);
    gpu_create(&f, 7, BGRX, 1000, 1000);
    saved = save(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        gpu_attach_other(&other, &f, cases[i].options);
        g_assert_false(load(&other, saved, &error));
        g_assert_nonnull(strstr(error->message, cases[i].expected));
        g_assert_cmpuint(virtio_gpu_resource_count(other.vdev), ==, 0); /* it was reset */
        gpu_detach_other(&other);
    }
    gpu_tear_down(&f);
}

static void test_state_table(void)
{
    struct gpu_fixture f;

    gpu_set_up(&f, "");
    check_state_table(f.vdev->class->state_table);
    gpu_tear_down(&f);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t features;
    } rings[] = {
        {"split", 0},
        {"split-indirect-event-idx", RINGS},
        {"split-in-order", RINGS | BIT(VIRTIO_F_IN_ORDER)},
        {"packed", BIT(VIRTIO_F_RING_PACKED)},
        {"packed-in-order", RINGS | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER)},
    };

    g_test_init(&argc, &argv, NULL);
    device_violations_fatal(true);
    g_test_add_func("/virtio-gpu/fences", test_fences);
    g_test_add_func("/virtio-gpu/large-transfer", test_large_transfer);
    g_test_add_func("/virtio-gpu/pause-in-transfer", test_pause_in_transfer);
    g_test_add_func("/virtio-gpu/reset-in-transfer", test_reset_in_transfer);
    g_test_add_func("/virtio-gpu/bus-master-off-in-transfer", test_bus_master_off_in_transfer);
    g_test_add_func("/virtio-gpu/short-commands", test_short_commands);
    g_test_add_func("/virtio-gpu/unknown-commands", test_unknown_commands);
    g_test_add_func("/virtio-gpu/short-responses", test_short_responses);
    g_test_add_func("/virtio-gpu/any-layout", test_any_layout);
    for (unsigned i = 0; i < G_N_ELEMENTS(rings); i++) {
        g_autofree char *path = g_strconcat("/virtio-gpu/rings/", rings[i].name, NULL);

        g_test_add_data_func(path, &rings[i].features, test_rings);
    }
    g_test_add_func("/virtio-gpu/resize", test_resize);
    g_test_add_func("/virtio-gpu/saved-state", test_saved_state);
    g_test_add_func("/virtio-gpu/saved-state-refused", test_saved_state_refused);
    g_test_add_func("/virtio-gpu/state-table", test_state_table);
    return g_test_run();
}
