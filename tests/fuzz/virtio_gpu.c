/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a hostile driver of virtio/gpu. The input is a small program:
 *
 *     byte 0     which device (screens, budget, 3D) and features
 *     then       operations: a command with a list behind it, its words from a table of likely and of
 *                bad numbers, cut into pieces; bytes anywhere; doorbells; a reset of the device or of a
 *                queue; a pause, a save and a load; a viewer that looks, or asks for another size
 *
 * Rings are split and sound: hostile ones are the matter of virtq. Whatever comes, after a reset nothing
 * may be left, and no byte of the budget be taken. 3D is a fake's (virgl_fake.h), which asserts what the
 * device has to see to: virglrenderer's own parser has its own fuzzers.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_gpu.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "backends/display/display.h"
#include "config.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/transport.h"
#include "tests/support/virgl_fake.h"
#include "virtio/gpu.h"
#include "vmm/memory.h"
#include "vmm/state.h"

#define RAM_SIZE   (1u << 20)
#define QUEUES     2u
#define QUEUE_SIZE 64u
#define RING(Q)    (0x1000u + (Q)*0x4000u) /* descriptors; avail ring + 0x2000, used ring + 0x3000 */
#define COMMANDS   0x10000u
#define RESPONSES  0x20000u
#define BIT(n)     (UINT64_C(1) << (n))
#define OPERATIONS 300
#define TURNS      2000
#define WORDS      40u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct driver {
    struct memory *memory;
    struct device device;
    struct dma dma;
    struct display *display;
    struct display_viewer *viewer;
    struct virtio_device *vdev;
    uint64_t features;
    bool virgl;
    uint16_t next[QUEUES]; /* descriptor */
    uint16_t avail[QUEUES];
};

static const struct device_ops no_ops;

static void put(struct driver *driver, uint64_t gpa, const void *bytes, size_t size)
{
    memory_write(driver->memory, gpa, bytes, size);
}

static void turn(unsigned times)
{
    while (times-- && loop_iterate(loop_main(), false))
        ;
}

/* ---- the driver's life ---- */

static void set_up_queue(struct driver *driver, unsigned index)
{
    static const uint8_t zeroes[0x4000];
    struct virtq *vq = virtio_device_queue(driver->vdev, index);

    if (!virtio_device_begin_queue_setup(driver->vdev, index))
        return;
    put(driver, RING(index), zeroes, sizeof(zeroes));
    driver->next[index] = driver->avail[index] = 0;
    vq->size = QUEUE_SIZE;
    vq->descriptors = RING(index);
    vq->driver_area = RING(index) + 0x2000;
    vq->device_area = RING(index) + 0x3000;
    virtio_device_end_queue_setup(driver->vdev);
    virtio_device_enable_queue(driver->vdev, index);
}

static void begin(struct driver *driver)
{
    virtio_device_set_driver_features(driver->vdev, 0, driver->features);
    virtio_device_set_driver_features(driver->vdev, 1, driver->features >> 32);
    virtio_device_set_status(driver->vdev, VIRTIO_CONFIG_S_FEATURES_OK);
    for (unsigned i = 0; i < QUEUES; i++)
        set_up_queue(driver, i);
    virtio_device_set_status(driver->vdev, VIRTIO_CONFIG_S_DRIVER_OK);
}

static void reset(struct driver *driver)
{
    virtio_device_set_status(driver->vdev, 0);
    turn(8);
    if (!virtio_device_get_status(driver->vdev))
        begin(driver);
}

/* Saves, and loads what was saved, perhaps with a byte changed. */
static void save_and_load(struct driver *driver, struct input *input)
{
    struct virtio_device *vdev = driver->vdev;
    g_autoptr(GByteArray) core = g_byte_array_new();
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    uint16_t place = take16(input);
    uint8_t bits = take8(input);

    virtio_device_before_save(vdev);
    state_save(&virtio_device_state, vdev, core);
    state_save(vdev->class->state_table, vdev, bytes);
    bytes->data[place % bytes->len] ^= bits;
    if (!state_load(vdev->class->state_table, vdev, bytes->data, bytes->len, NULL))
        return;
    g_assert_true(state_load(&virtio_device_state, vdev, core->data, core->len, NULL));
    if (!virtio_device_after_load(vdev, NULL))
        virtio_device_reset(vdev);
}

static void pause_and_resume(struct driver *driver, struct input *input, bool save)
{
    virtio_device_quiesce(driver->vdev);
#ifdef HAVE_VIRGLRENDERER
    virgl_fake_holds = false;
#endif
    for (unsigned i = 0; i < TURNS && !virtio_device_quiesced(driver->vdev); i++)
        turn(1);
    if (save)
        save_and_load(driver, input);
    virtio_device_resume(driver->vdev);
    if (!virtio_device_get_status(driver->vdev))
        begin(driver);
}

/* ---- operations ---- */

static void add_descriptor(struct driver *driver, unsigned queue, uint64_t gpa, uint32_t length,
                           uint16_t flags)
{
    uint16_t slot = driver->next[queue];
    struct vring_desc desc = {gpa, length, flags, (slot + 1) % QUEUE_SIZE};

    put(driver, RING(queue) + 16 * slot, &desc, sizeof(desc));
    driver->next[queue] = (slot + 1) % QUEUE_SIZE;
}

/* Numbers that commands are made of: most are right for something. */
static uint32_t number(struct input *input)
{
    static const uint32_t numbers[] = {
        0,          1,          2,
        3,          4,          5,
        6,          7,          8,
        16,         31,         32,
        60,         63,         64,
        65,         67,         68,
        100,        121,        128,
        134,        256,        400,
        512,        1024,       4096,
        16384,      16385,      0x10000,
        0x20000,    0x80000,    RAM_SIZE - 4096,
        RAM_SIZE,   0x7fffffff, 0x80000000,
        0xfffff000, UINT32_MAX,
    };
    uint8_t choice = take8(input);

    return choice < 0xf0 ? numbers[choice % G_N_ELEMENTS(numbers)]
                         : choice | (uint32_t)take16(input) << 8;
}

static void add_command(struct driver *driver, struct input *input)
{
    static const uint16_t types[] = {0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107,
                                     0x108, 0x109, 0x10a, 0x10b, 0x10c, 0x10d, 0x101, 0x103,
                                     0x104, 0x105, 0x106, 0x10c, 0x10d, 0x300, 0x301, 0x200};
    static const uint16_t types_3d[] = {0x108, 0x109, 0x200, 0x201, 0x202, 0x203,
                                        0x204, 0x205, 0x206, 0x207, 0x204, 0x106};
    uint8_t type = take8(input), shape = take8(input), words = take8(input);
    bool is_3d = driver->virgl && type & 0x80;
    uint32_t command[WORDS] = {is_3d ? types_3d[type % G_N_ELEMENTS(types_3d)]
                                     : types[type % G_N_ELEMENTS(types)]};
    uint32_t size = 24 + 4 * MIN(words % 24, WORDS - 6), at = COMMANDS + 0x100 * (type & 0x3f);
    unsigned queue = (command[0] >= 0x300) != !!(shape & 0x80 && shape & 0x40);
    uint32_t first = shape & 1 ? 1u + shape % 23 : size;
    uint16_t head = driver->next[queue];
    uint32_t index;

    command[1] = shape & 2;
    command[2] = type;
    command[4] = driver->virgl ? number(input) : 0; /* which context */
    for (unsigned i = 6; i < size / 4; i++)
        command[i] = number(input);
    put(driver, at, command, size);
    add_descriptor(driver, queue, at, MIN(first, size), VRING_DESC_F_NEXT);
    if (first < size)
        add_descriptor(driver, queue, at + first, size - first, VRING_DESC_F_NEXT);
    add_descriptor(driver, queue, RESPONSES + 0x800 * queue, shape & 4 ? 24 : 1056,
                   VRING_DESC_F_WRITE);
    index = RING(queue) + 0x2000 + 4 + 2 * (driver->avail[queue] % QUEUE_SIZE);
    put(driver, index, &head, 2);
    driver->avail[queue]++;
    put(driver, RING(queue) + 0x2000 + 2, &driver->avail[queue], 2);
    if (shape & 8) {
        virtio_device_kick(driver->vdev, queue);
        turn(8);
    }
}

static void look(struct driver *driver, struct input *input)
{
    uint8_t scanout = take8(input), x = take8(input), y = take8(input);
    struct display_update update;

    if (scanout & 0x80)
        display_request_size(driver->display, scanout & 3, 16 * x, 16 * y);
    display_take(driver->viewer, scanout & 3, &update);
    if (update.surface) {
        const struct display_surface *s = update.surface;
        volatile uint8_t sum = 0;

        for (unsigned i = 0; i < update.rect_count; i++) {
            g_assert_cmpuint(update.rects[i].x + update.rects[i].width, <=, s->width);
            g_assert_cmpuint(update.rects[i].y + update.rects[i].height, <=, s->height);
        }
        sum += s->pixels[0] + s->pixels[(size_t)(s->height - 1) * s->stride + 4 * s->width - 1];
        (void)sum; /* what counts is that it could be read */
    }
    display_update_clear(&update);
}

static void operate(struct driver *driver, struct input *input)
{
    uint8_t operation = take8(input);

    if (operation < 0xb0) {
        add_command(driver, input);
    } else if (operation < 0xc0) {
        uint8_t bytes[16];
        uint64_t gpa = 16 * (uint64_t)take16(input);

        for (unsigned i = 0; i < sizeof(bytes); i++)
            bytes[i] = take8(input);
        put(driver, gpa, bytes, sizeof(bytes));
    } else if (operation < 0xd0) {
        virtio_device_kick(driver->vdev, operation & 1);
        turn(operation & 0xe);
    } else if (operation < 0xe0) {
#ifdef HAVE_VIRGLRENDERER
        virgl_fake_holds = operation & 1;
        virgl_fake_fails = operation & 2;
#endif
        look(driver, input);
    } else if (operation < 0xe8) {
        pause_and_resume(driver, input, operation & 1);
    } else if (operation < 0xf0) {
        uint8_t offset = take8(input), value = take8(input);

        virtio_device_config_write(driver->vdev, offset, 1, value);
        virtio_device_config_read(driver->vdev, offset, 4);
    } else if (operation < 0xf8) {
        virtio_device_reset_queue(driver->vdev, operation & 1);
        turn(4);
        set_up_queue(driver, operation & 1);
    } else {
        reset(driver);
    }
}

/* ---- one input ---- */

static struct virtio_device *create(struct driver *driver, unsigned choice)
{
    static const char *const gpus[] = {"", "scanouts=4,memory=1M", "scanouts=2,memory=16M",
                                       "edid=off"};
    g_autofree char *text = g_strconcat(gpus[choice & 3], driver->virgl ? ",virgl=on" : "", NULL);
    g_autoptr(options_t) options =
        options_parse(virtio_gpu_options, "--gpu", *text == ',' ? text + 1 : text, NULL);

    return virtio_gpu_create(options, loop_main(), driver->display, NULL);
}

static void on_changed(void *opaque)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct memory_ram_options ram = {0};
    uint8_t choice = take8(&input);
    struct driver driver = {.memory = memory_create(), .display = display_create()};

    log_set_levels("error", NULL);
    g_assert_true(memory_add_ram(driver.memory, RAM_SIZE, RAM_SIZE, &ram, NULL));
    device_init(&driver.device, "gpu0", "virtio-gpu", &no_ops);
    dma_init(&driver.dma, driver.memory, &driver.device, true);
#ifdef HAVE_VIRGLRENDERER
    driver.virgl = choice & 2;
    virgl_fake_holds = choice & 4;
    virgl_fake_fails = false;
    virtio_gpu_set_library(NULL);
#endif
    driver.vdev = create(&driver, choice >> 4);
    g_assert_nonnull(driver.vdev);
    driver.viewer = display_add_viewer(driver.display, loop_main(), on_changed, NULL);
    virtio_device_connect(driver.vdev, &driver.device, &driver.dma, &transport, NULL);
    driver.features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_RESET) |
                      (choice & 1 ? 0 : driver.vdev->class->features);
    driver.features &= driver.vdev->offered;
    begin(&driver);
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&driver, &input);

    turn(TURNS);
    virtio_device_reset(driver.vdev);
    g_assert_cmpuint(virtio_device_get_status(driver.vdev), ==, 0);
    g_assert_cmpuint(virtio_gpu_resource_count(driver.vdev), ==, 0);
    g_assert_cmpuint(virtio_gpu_memory_used(driver.vdev), ==, 0);
#ifdef HAVE_VIRGLRENDERER
    g_assert_cmpuint(virgl_fake_objects(), ==, 0);
#endif
    display_remove_viewer(driver.viewer);
    driver.vdev->class->destroy(driver.vdev);
    display_destroy(driver.display);
    device_finish(&driver.device);
    memory_destroy(driver.memory);
    return 0;
}
