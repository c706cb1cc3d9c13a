/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Input devices through their registers and rings: what they say of themselves, what arrives, and what
 * a guest gets that does not listen. */
#include <linux/input-event-codes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_input.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "backends/display/display.h"
#include "tests/device/virtio_driver.h"
#include "tests/support/check_state.h"
#include "virtio/input.h"

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define PACKED    (UINT64_C(1) << VIRTIO_F_RING_PACKED)
#define BUFFERS   64u /* as the stock driver */
#define EVENTS    0u
#define STATUS    1u
#define BYTES     8u

struct fixture {
    struct harness *h;
    struct display *display;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
    uint64_t buffers; /* BUFFERS events in guest memory */
};

static void setup(struct fixture *f, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(virtio_input_options, "--device", text, &error);
    struct virtio_device *vdev;

    g_assert_no_error(error);
    f->h = harness_create(0);
    f->display = display_create();
    vdev = virtio_input_create(options, f->h->loop, f->display, &error);
    g_assert_no_error(error);
    f->vpci = virtio_pci_create(vdev, "input0", &f->h->env, true, &error);
    g_assert_no_error(error);
    f->driver = virtio_driver_create(f->h, f->vpci);
    f->buffers = harness_alloc(f->h, BUFFERS * BYTES, 64);
}

static void teardown(struct fixture *f)
{
    virtio_driver_destroy(f->driver);
    virtio_pci_destroy(f->vpci);
    display_destroy(f->display);
    harness_destroy(f->h);
}

static void *cookie(struct fixture *f, unsigned buffer)
{
    return harness_ptr(f->h, f->buffers + buffer * BYTES, BYTES);
}

static void give(struct fixture *f, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        const struct driver_buffer in = {f->buffers + i % BUFFERS * BYTES, BYTES};

        virtio_driver_submit(f->driver, EVENTS, NULL, 0, &in, 1, cookie(f, i % BUFFERS));
    }
}

static void start(struct fixture *f, uint64_t features, unsigned buffers)
{
    virtio_driver_start(f->driver, features);
    give(f, 0, buffers);
    harness_settle(f->h, 1);
}

static void send(struct fixture *f, enum display_event_type type, unsigned code, int32_t value,
                 int32_t x, int32_t y)
{
    const struct display_event event = {type, 0, code, value, x, y};

    display_send(f->display, &event);
}

static void frame(struct fixture *f)
{
    send(f, DISPLAY_FRAME, 0, 0, 0, 0);
}

static void key(struct fixture *f, unsigned code, bool down)
{
    send(f, DISPLAY_KEY, code, down, 0, 0);
    frame(f);
}

/* The next event as "TYPE CODE VALUE" in numbers, and its buffer back to the device (if @again). */
static const char *next_event(struct fixture *f, bool again)
{
    static char text[64];
    struct virtio_input_event event;
    uint32_t written;
    void *used = virtio_driver_wait(f->driver, EVENTS, &written);

    g_assert_nonnull(used);
    g_assert_cmpuint(written, ==, BYTES);
    memcpy(&event, used, sizeof(event));
    memset(used, 0xee, BYTES);
    g_snprintf(text, sizeof(text), "%u %u %d", GUINT16_FROM_LE(event.type),
               GUINT16_FROM_LE(event.code), (int32_t)GUINT32_FROM_LE(event.value));
    if (again)
        give(f, ((uint8_t *)used - (uint8_t *)cookie(f, 0)) / BYTES, 1);
    return text;
}

#define assert_event(f, type, code, value)                                                         \
    do {                                                                                           \
        g_autofree char *expected = g_strdup_printf("%u %u %d", type, code, value);                \
        g_assert_cmpstr(next_event(f, true), ==, expected);                                        \
    } while (0)

static void assert_silent(struct fixture *f)
{
    harness_settle(f->h, 20);
    g_assert_null(driver_ring_reap(virtio_driver_ring(f->driver, EVENTS), NULL));
}

static void assert_sound(struct fixture *f)
{
    g_assert_cmpuint(virtio_driver_status(f->driver) & VIRTIO_CONFIG_S_NEEDS_RESET, ==, 0);
}

/* ---- configuration ---- */

/* What the driver reads there after it selected; its size. */
static unsigned select_config(struct fixture *f, unsigned select, unsigned subsel,
                              uint8_t data[128])
{
    unsigned size;

    harness_bar_write(f->h, f->driver->slot, f->driver->bar, f->driver->config, 1, select);
    harness_bar_write(f->h, f->driver->slot, f->driver->bar, f->driver->config + 1, 1, subsel);
    size = virtio_driver_config(f->driver, 2, 1);
    g_assert_cmpuint(size, <=, 128);
    for (unsigned i = 0; i < 128; i++)
        data[i] = virtio_driver_config(f->driver, 8 + i, 1);
    for (unsigned i = size; i < 128; i++)
        g_assert_cmpuint(data[i], ==, 0);
    return size;
}

static bool has_bit(struct fixture *f, unsigned select, unsigned subsel, unsigned bit)
{
    uint8_t data[128];
    unsigned size = select_config(f, select, subsel, data);

    return bit / 8 < size && data[bit / 8] & 1u << bit % 8;
}

static unsigned count_bits(struct fixture *f, unsigned select, unsigned subsel)
{
    uint8_t data[128];
    unsigned count = 0;

    select_config(f, select, subsel, data);
    for (unsigned i = 0; i < 128; i++)
        count += __builtin_popcount(data[i]);
    return count;
}

static void assert_axis(struct fixture *f, unsigned axis, uint32_t max)
{
    uint8_t data[128];
    struct virtio_input_absinfo info;

    g_assert_true(has_bit(f, VIRTIO_INPUT_CFG_EV_BITS, EV_ABS, axis));
    g_assert_cmpuint(select_config(f, VIRTIO_INPUT_CFG_ABS_INFO, axis, data), ==, sizeof(info));
    memcpy(&info, data, sizeof(info));
    g_assert_cmpuint(GUINT32_FROM_LE(info.min), ==, 0);
    g_assert_cmpuint(GUINT32_FROM_LE(info.max), ==, max);
}

static void test_identity(void)
{
    struct fixture f;
    struct virtio_input_devids ids;
    uint8_t data[128];

    setup(&f, "keyboard,name=Klavier,serial=007");
    g_assert_cmpuint(select_config(&f, VIRTIO_INPUT_CFG_ID_NAME, 0, data), ==, 7);
    g_assert_cmpmem(data, 7, "Klavier", 7);
    g_assert_cmpuint(select_config(&f, VIRTIO_INPUT_CFG_ID_SERIAL, 0, data), ==, 3);
    g_assert_cmpmem(data, 3, "007", 3);
    g_assert_cmpuint(select_config(&f, VIRTIO_INPUT_CFG_ID_DEVIDS, 0, data), ==, sizeof(ids));
    memcpy(&ids, data, sizeof(ids));
    g_assert_cmphex(GUINT16_FROM_LE(ids.bustype), ==, 0x06);
    g_assert_cmphex(GUINT16_FROM_LE(ids.vendor), ==, 0x1af4);
    teardown(&f);
}

static void test_keyboard_config(void)
{
    struct fixture f;

    setup(&f, "keyboard");
    for (unsigned code = KEY_ESC; code <= KEY_KPDOT; code++)
        g_assert_true(has_bit(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY, code));
    g_assert_false(has_bit(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY, KEY_RESERVED));
    g_assert_false(has_bit(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY, BTN_LEFT));
    g_assert_cmpuint(count_bits(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_LED), ==, 3);
    g_assert_cmpuint(count_bits(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_REP), ==, 2);
    g_assert_cmpuint(count_bits(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_ABS), ==, 0);
    g_assert_cmpuint(count_bits(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_REL), ==, 0);
    g_assert_cmpuint(count_bits(&f, VIRTIO_INPUT_CFG_PROP_BITS, 0), ==, 0);
    teardown(&f);
}

static void test_pointer_config(void)
{
    struct fixture f;

    setup(&f, "tablet");
    assert_axis(&f, ABS_X, DISPLAY_MAX_POSITION);
    assert_axis(&f, ABS_Y, DISPLAY_MAX_POSITION);
    g_assert_cmpuint(count_bits(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_ABS), ==, 2);
    g_assert_true(has_bit(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_REL, REL_WHEEL));
    g_assert_false(has_bit(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_REL, REL_X));
    g_assert_true(has_bit(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY, BTN_MIDDLE));
    teardown(&f);

    setup(&f, "mouse");
    g_assert_true(has_bit(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_REL, REL_X));
    g_assert_true(has_bit(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_REL, REL_Y));
    g_assert_cmpuint(count_bits(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_ABS), ==, 0);
    teardown(&f);

    setup(&f, "touch");
    assert_axis(&f, ABS_MT_POSITION_X, DISPLAY_MAX_POSITION);
    assert_axis(&f, ABS_MT_SLOT, 9);
    assert_axis(&f, ABS_MT_TRACKING_ID, 65535);
    g_assert_true(has_bit(&f, VIRTIO_INPUT_CFG_PROP_BITS, 0, INPUT_PROP_DIRECT));
    g_assert_cmpuint(count_bits(&f, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY), ==, 1);
    teardown(&f);
}

/* Every select there can be, and writes where nothing may be written. */
static void test_odd_selects(void)
{
    struct fixture f;
    uint8_t data[128];

    setup(&f, "touch");
    for (unsigned select = 0; select < 256; select++)
        for (unsigned subsel = 0; subsel < 256;
             subsel +=
             select == VIRTIO_INPUT_CFG_EV_BITS || select == VIRTIO_INPUT_CFG_ABS_INFO ? 1 : 85)
            if (select < VIRTIO_INPUT_CFG_ID_NAME || select > VIRTIO_INPUT_CFG_ABS_INFO)
                g_assert_cmpuint(select_config(&f, select, subsel, data), ==, 0);
            else
                select_config(&f, select, subsel, data);
    g_assert_cmpuint(select_config(&f, VIRTIO_INPUT_CFG_ID_NAME, 1, data), ==, 0);
    select_config(&f, VIRTIO_INPUT_CFG_ID_NAME, 0, data);
    harness_bar_write(f.h, f.driver->slot, f.driver->bar, f.driver->config + 2, 1, 200);
    harness_bar_write(f.h, f.driver->slot, f.driver->bar, f.driver->config + 8, 4, 0);
    g_assert_cmpuint(virtio_driver_config(f.driver, 2, 1), ==, strlen("Lodge virtio touch screen"));
    g_assert_cmpuint(virtio_driver_config(f.driver, 8, 1), ==, 'L');
    teardown(&f);
}

/* ---- events ---- */

static void test_keys_arrive(gconstpointer features)
{
    struct fixture f;

    setup(&f, "keyboard");
    start(&f, *(const uint64_t *)features, BUFFERS);
    for (unsigned i = 0; i < 300; i++) {
        key(&f, KEY_A + i % 8, true);
        key(&f, KEY_A + i % 8, false);
        assert_event(&f, EV_KEY, KEY_A + i % 8, 1);
        assert_event(&f, EV_SYN, SYN_REPORT, 0);
        assert_event(&f, EV_KEY, KEY_A + i % 8, 0);
        assert_event(&f, EV_SYN, SYN_REPORT, 0);
    }
    assert_sound(&f);
    teardown(&f);
}

static void test_nothing_that_changes_nothing(void)
{
    struct fixture f;

    setup(&f, "keyboard");
    start(&f, 0, BUFFERS);
    key(&f, KEY_A, false);
    key(&f, BTN_LEFT, true);
    key(&f, KEY_RESERVED, true);
    key(&f, 0x2ff, true);
    key(&f, 100000, true);
    assert_silent(&f);
    key(&f, KEY_A, true);
    key(&f, KEY_A, true); /* a viewer's repeat */
    assert_event(&f, EV_KEY, KEY_A, 1);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    assert_silent(&f);
    teardown(&f);
}

static void test_tablet(void)
{
    struct fixture f;

    setup(&f, "tablet");
    start(&f, 0, BUFFERS);
    send(&f, DISPLAY_POSITION, 0, 0, 100, DISPLAY_MAX_POSITION + 5);
    send(&f, DISPLAY_BUTTON, BTN_LEFT, 1, 0, 0);
    send(&f, DISPLAY_WHEEL, 0, 0, 0, -1);
    frame(&f);
    assert_event(&f, EV_ABS, ABS_X, 100);
    assert_event(&f, EV_ABS, ABS_Y, DISPLAY_MAX_POSITION);
    assert_event(&f, EV_KEY, BTN_LEFT, 1);
    assert_event(&f, EV_REL, REL_WHEEL, -1);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    assert_silent(&f);
    teardown(&f);
}

static void test_mouse(void)
{
    struct fixture f;

    setup(&f, "mouse");
    start(&f, 0, BUFFERS);
    send(&f, DISPLAY_MOTION, 0, 0, -7, 0);
    send(&f, DISPLAY_WHEEL, 0, 0, 2, 0);
    frame(&f);
    assert_event(&f, EV_REL, REL_X, -7);
    assert_event(&f, EV_REL, REL_HWHEEL, 2);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    assert_silent(&f);
    teardown(&f);
}

static void assert_finger(struct fixture *f, int slot, int id, int x, int y)
{
    assert_event(f, EV_ABS, ABS_MT_SLOT, slot);
    assert_event(f, EV_ABS, ABS_MT_TRACKING_ID, id);
    if (id < 0)
        return;
    assert_event(f, EV_ABS, ABS_MT_POSITION_X, x);
    assert_event(f, EV_ABS, ABS_MT_POSITION_Y, y);
}

static void test_two_fingers(void)
{
    struct fixture f;

    setup(&f, "touch");
    start(&f, 0, BUFFERS);
    send(&f, DISPLAY_TOUCH_DOWN, 0, 0, 10, 20);
    send(&f, DISPLAY_TOUCH_DOWN, 3, 0, 30, 40);
    send(&f, DISPLAY_TOUCH_DOWN, 10, 0, 1, 1); /* there is no such finger */
    frame(&f);
    assert_finger(&f, 0, 0, 10, 20);
    assert_finger(&f, 3, 1, 30, 40);
    assert_event(&f, EV_KEY, BTN_TOUCH, 1);
    assert_event(&f, EV_ABS, ABS_X, 10);
    assert_event(&f, EV_ABS, ABS_Y, 20);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    send(&f, DISPLAY_TOUCH_UP, 0, 0, 0, 0);
    frame(&f);
    assert_finger(&f, 0, -1, 0, 0);
    assert_event(&f, EV_ABS, ABS_X, 30);
    assert_event(&f, EV_ABS, ABS_Y, 40);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    send(&f, DISPLAY_TOUCH_MOVE, 0, 0, 9, 9); /* it is up */
    send(&f, DISPLAY_TOUCH_UP, 3, 0, 0, 0);
    frame(&f);
    assert_finger(&f, 3, -1, 0, 0);
    assert_event(&f, EV_KEY, BTN_TOUCH, 0);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    assert_silent(&f);
    teardown(&f);
}

static void test_release_all(void)
{
    struct fixture f;

    setup(&f, "keyboard");
    start(&f, 0, BUFFERS);
    key(&f, KEY_LEFTCTRL, true);
    key(&f, KEY_C, true);
    for (unsigned i = 0; i < 4; i++)
        next_event(&f, true);
    send(&f, DISPLAY_RELEASE_ALL, 0, 0, 0, 0);
    assert_event(&f, EV_KEY, KEY_LEFTCTRL, 0);
    assert_event(&f, EV_KEY, KEY_C, 0);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    send(&f, DISPLAY_RELEASE_ALL, 0, 0, 0, 0);
    assert_silent(&f);
    teardown(&f);
}

/* ---- buffers ---- */

static void test_group_waits_for_room(gconstpointer features)
{
    struct fixture f;

    setup(&f, "tablet");
    start(&f, *(const uint64_t *)features, 2);
    send(&f, DISPLAY_POSITION, 0, 0, 1, 2);
    frame(&f);
    assert_silent(&f);
    give(&f, 2, 1);
    assert_event(&f, EV_ABS, ABS_X, 1);
    assert_event(&f, EV_ABS, ABS_Y, 2);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    teardown(&f);
}

/* A ring of two: a group of three can't go at once. */
static void test_group_larger_than_the_ring(void)
{
    struct fixture f;

    setup(&f, "tablet,queue-size=2");
    start(&f, 0, 2);
    for (int i = 1; i < 50; i++) {
        send(&f, DISPLAY_POSITION, 0, 0, i, 2 * i);
        frame(&f);
        assert_event(&f, EV_ABS, ABS_X, i);
        assert_event(&f, EV_ABS, ABS_Y, 2 * i);
        assert_event(&f, EV_SYN, SYN_REPORT, 0);
    }
    teardown(&f);
}

/* Takes what there is and gives its buffer back; false: nothing came. */
static bool take(struct fixture *f, struct virtio_input_event *event)
{
    uint32_t written;
    uint8_t *used = driver_ring_reap(virtio_driver_ring(f->driver, EVENTS), &written);

    if (!used) {
        harness_settle(f->h, 5);
        used = driver_ring_reap(virtio_driver_ring(f->driver, EVENTS), &written);
    }
    if (!used)
        return false;
    g_assert_cmpuint(written, ==, BYTES);
    memcpy(event, used, sizeof(*event));
    give(f, (used - (uint8_t *)cookie(f, 0)) / BYTES, 1);
    return true;
}

struct seen {
    bool down[KEY_CNT];
    unsigned keys, count, last_type;
};

/* All there is, as a guest's input core sees it. */
static void drain(struct fixture *f, struct seen *seen)
{
    struct virtio_input_event event;

    while (take(f, &event)) {
        unsigned code = GUINT16_FROM_LE(event.code);

        seen->last_type = GUINT16_FROM_LE(event.type);
        seen->count++;
        if (seen->last_type != EV_KEY)
            continue;
        g_assert_true(seen->down[code] != !!event.value); /* no press of what is down */
        seen->down[code] = event.value;
        seen->keys += event.value ? 1 : -1;
    }
    if (seen->count)
        g_assert_cmpuint(seen->last_type, ==, EV_SYN);
}

/* A guest that takes nothing for long: what it gets at last is whole, and leaves no key down. */
static void test_overflow(void)
{
    struct fixture f;
    struct seen seen = {};

    setup(&f, "keyboard");
    start(&f, 0, 7);
    for (unsigned i = 0; i < 2500; i++) {
        key(&f, KEY_ESC + i % 100, i / 100 % 2 == 0);
        if (i % 100 == 0)
            harness_settle(f.h, 1);
    }
    drain(&f, &seen);
    send(&f, DISPLAY_RELEASE_ALL, 0, 0, 0, 0);
    drain(&f, &seen);
    g_assert_cmpuint(seen.keys, ==, 0);
    g_assert_cmpuint(seen.count, >, 20);
    assert_sound(&f);
    key(&f, KEY_Z, true);
    assert_event(&f, EV_KEY, KEY_Z, 1);
    teardown(&f);
}

/* A driver with two buffers where a group needs three: it is stuck no longer than a queue lasts. */
static void test_few_buffers(void)
{
    struct fixture f;
    struct seen seen = {};

    setup(&f, "tablet");
    start(&f, 0, 2);
    for (unsigned i = 0; i < 1000; i++) {
        send(&f, DISPLAY_POSITION, 0, 0, i, i);
        frame(&f);
        if (i % 50 == 0)
            drain(&f, &seen);
    }
    drain(&f, &seen);
    g_assert_cmpuint(seen.count, >, 500);
    teardown(&f);
}

/* No more is lost than has to be: a queue's worth waits. */
static void test_queue_holds_what_waits(void)
{
    struct fixture f;
    struct seen seen = {};

    setup(&f, "keyboard");
    start(&f, 0, 0);
    for (unsigned i = 0; i < 500; i++) {
        key(&f, KEY_A, i % 2 == 0);
        if (i % 50 == 0)
            harness_settle(f.h, 1);
    }
    harness_settle(f.h, 1);
    give(&f, 0, BUFFERS);
    drain(&f, &seen);
    g_assert_cmpuint(seen.count, ==, 1000);
    teardown(&f);
}

static void test_small_buffer_needs_a_reset(void)
{
    struct fixture f;
    struct driver_buffer in;

    setup(&f, "keyboard");
    start(&f, 0, 0);
    in = (struct driver_buffer){f.buffers, BYTES - 1};
    virtio_driver_submit(f.driver, EVENTS, NULL, 0, &in, 1, &f);
    key(&f, KEY_A, true);
    harness_settle(f.h, 10);
    g_assert_cmpuint(virtio_driver_status(f.driver) & VIRTIO_CONFIG_S_NEEDS_RESET, !=, 0);
    start(&f, 0, BUFFERS);
    key(&f, KEY_A, true);
    assert_event(&f, EV_KEY, KEY_A, 1);
    teardown(&f);
}

/* An event in eight descriptors of a byte each. */
static void test_scattered_buffer(void)
{
    struct fixture f;
    struct driver_buffer in[BYTES];
    struct virtio_input_event event;

    setup(&f, "keyboard");
    start(&f, 0, 0);
    for (unsigned i = 0; i < BYTES; i++)
        in[i] = (struct driver_buffer){f.buffers + 2 * i, 1};
    virtio_driver_submit(f.driver, EVENTS, NULL, 0, in, BYTES, &f);
    give(&f, 8, 1);
    key(&f, KEY_MICMUTE, true);
    g_assert_true(virtio_driver_wait(f.driver, EVENTS, NULL) == &f);
    for (unsigned i = 0; i < BYTES; i++)
        harness_read(f.h, f.buffers + 2 * i, (uint8_t *)&event + i, 1);
    g_assert_cmpuint(GUINT16_FROM_LE(event.type), ==, EV_KEY);
    g_assert_cmpuint(GUINT16_FROM_LE(event.code), ==, KEY_MICMUTE);
    g_assert_cmpuint(GUINT32_FROM_LE(event.value), ==, 1);
    teardown(&f);
}

/* ---- status ---- */

static void send_status(struct fixture *f, unsigned type, unsigned code, int32_t value,
                        uint32_t bytes)
{
    const struct virtio_input_event event = {GUINT16_TO_LE(type), GUINT16_TO_LE(code),
                                             GUINT32_TO_LE(value)};
    const struct driver_buffer out = {f->buffers, bytes};

    harness_write(f->h, f->buffers, &event, sizeof(event));
    g_assert_cmpint(virtio_driver_request(f->driver, STATUS, &out, 1, NULL, 0), ==, 0);
}

static void test_leds(void)
{
    struct fixture f;

    setup(&f, "keyboard");
    start(&f, 0, 0);
    send_status(&f, EV_LED, LED_CAPSL, 1, BYTES);
    g_assert_cmphex(display_leds(f.display), ==, 1u << LED_CAPSL);
    send_status(&f, EV_LED, LED_NUML, 1, BYTES);
    send_status(&f, EV_LED, LED_CAPSL, 0, BYTES);
    g_assert_cmphex(display_leds(f.display), ==, 1u << LED_NUML);
    send_status(&f, EV_LED, 4000, 1, BYTES);
    send_status(&f, EV_SND, SND_BELL, 1, BYTES);
    send_status(&f, EV_LED, LED_SCROLLL, 1, BYTES - 1);
    g_assert_cmphex(display_leds(f.display), ==, 1u << LED_NUML);
    assert_sound(&f);
    virtio_driver_reset(f.driver);
    g_assert_cmphex(display_leds(f.display), ==, 0);
    teardown(&f);
}

/* ---- life ---- */

static void test_only_a_driver_listens(void)
{
    struct fixture f;

    setup(&f, "keyboard");
    g_assert_cmpuint(display_input_kinds(f.display), ==, 0);
    start(&f, 0, BUFFERS);
    g_assert_cmpuint(display_input_kinds(f.display), ==, DISPLAY_KEYS);
    key(&f, KEY_A, true);
    assert_event(&f, EV_KEY, KEY_A, 1);
    virtio_driver_reset(f.driver);
    g_assert_cmpuint(display_input_kinds(f.display), ==, 0);
    key(&f, KEY_A, false);
    start(&f, 0, BUFFERS); /* a new driver: nothing is down */
    assert_silent(&f);
    key(&f, KEY_A, true);
    assert_event(&f, EV_KEY, KEY_A, 1);
    teardown(&f);
}

static void set_state(struct fixture *f, enum device_state state)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(devices_set_state(&f->h->devices, state, 1000, &error));
    g_assert_no_error(error);
}

/* What is typed at a stopped guest waits. */
static void test_pause(gconstpointer features)
{
    struct fixture f;

    setup(&f, "keyboard");
    start(&f, *(const uint64_t *)features, BUFFERS);
    key(&f, KEY_A, true);
    assert_event(&f, EV_KEY, KEY_A, 1);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    set_state(&f, DEVICE_RUNNING_P2P);
    key(&f, KEY_A, false);
    assert_silent(&f);
    set_state(&f, DEVICE_STOP);
    key(&f, KEY_B, true);
    assert_silent(&f);
    set_state(&f, DEVICE_RUNNING);
    assert_event(&f, EV_KEY, KEY_A, 0);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    assert_event(&f, EV_KEY, KEY_B, 1);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    teardown(&f);
}

/* A saved device has what waited, its LEDs, and lets go of what was down. */
static void test_save_and_load(gconstpointer features)
{
    g_autoptr(GByteArray) saved = NULL;
    g_autoptr(GError) error = NULL;
    struct fixture f;

    setup(&f, "keyboard");
    start(&f, *(const uint64_t *)features, 3);
    send_status(&f, EV_LED, LED_CAPSL, 1, BYTES);
    key(&f, KEY_A, true);
    key(&f, KEY_B, true); /* one buffer is at hand for it */
    harness_settle(f.h, 5);
    saved = harness_save(&f.driver->function->device);
    virtio_driver_wait(f.driver, EVENTS, NULL);
    virtio_driver_wait(f.driver, EVENTS, NULL);
    g_assert_true(harness_load_state(&f.driver->function->device, saved, &error));
    g_assert_no_error(error);
    g_assert_cmphex(display_leds(f.display), ==, 1u << LED_CAPSL);
    give(&f, 3, 10);
    assert_event(&f, EV_KEY, KEY_B, 1);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    assert_event(&f, EV_KEY, KEY_A, 0);
    assert_event(&f, EV_KEY, KEY_B, 0);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    assert_silent(&f);
    key(&f, KEY_C, true);
    assert_event(&f, EV_KEY, KEY_C, 1);
    assert_sound(&f);
    teardown(&f);
}

/* Events in a stream that are no groups. */
static void test_bad_state(void)
{
    static const uint8_t name[] = "saved_pending";
    g_autoptr(GByteArray) saved = NULL;
    g_autoptr(GError) error = NULL;
    struct fixture f;
    uint8_t *at;

    setup(&f, "keyboard");
    start(&f, 0, 0);
    key(&f, KEY_A, true);
    harness_settle(f.h, 5);
    saved = harness_save(&f.driver->function->device);
    at = memmem(saved->data, saved->len, name, sizeof(name) - 1);
    g_assert_nonnull(at);
    at += sizeof(name) - 1 + 6; /* kind, flags, length */
    g_assert_cmpuint(at[0], ==, EV_KEY);
    at[8] = EV_KEY; /* was EV_SYN */
    g_assert_false(harness_load_state(&f.driver->function->device, saved, &error));
    g_assert_nonnull(strstr(error->message, "events"));
    harness_command(f.h, f.driver->slot, 6, 0); /* it was reset */
    f.driver->msix = false;
    start(&f, 0, BUFFERS);
    key(&f, KEY_A, true);
    assert_event(&f, EV_KEY, KEY_A, 1);
    teardown(&f);
}

static void test_state_table(void)
{
    g_autoptr(options_t) options =
        options_parse(virtio_input_options, "--device", "keyboard", NULL);
    struct display *display = display_create();
    struct virtio_device *vdev = virtio_input_create(options, loop_main(), display, NULL);

    check_state_table(vdev->class->state_table);
    vdev->class->destroy(vdev);
    display_destroy(display);
}

static void test_queue_reset(void)
{
    struct fixture f;

    setup(&f, "tablet");
    start(&f, UINT64_C(1) << VIRTIO_F_RING_RESET, 2);
    send(&f, DISPLAY_POSITION, 0, 0, 1, 2);
    frame(&f);
    assert_silent(&f);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, EVENTS);
    virtio_driver_write(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
    for (unsigned i = 0; i < 100 && virtio_driver_read(f.driver, VIRTIO_PCI_COMMON_Q_RESET, 2); i++)
        harness_settle(f.h, 1);
    virtio_driver_setup_queue(f.driver, EVENTS, 0);
    give(&f, 0, BUFFERS);
    assert_event(&f, EV_ABS, ABS_X, 1);
    assert_event(&f, EV_ABS, ABS_Y, 2);
    assert_event(&f, EV_SYN, SYN_REPORT, 0);
    teardown(&f);
}

static void assert_refused(const char *text, const char *word)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(options_t) options = options_parse(virtio_input_options, "--device", text, &error);
    struct display *display = display_create();

    if (options)
        g_assert_null(virtio_input_create(options, loop_main(), display, &error));
    g_assert_nonnull(strstr(error->message, word));
    display_destroy(display);
}

static void test_options(void)
{
    g_autofree char *name = g_strnfill(128, 'n');
    g_autofree char *long_name = g_strconcat("mouse,name=", name, NULL);

    assert_refused("", "type");
    assert_refused("joystick", "joystick");
    assert_refused("mouse,queue-size=100", "queue-size");
    assert_refused("mouse,scanout=16", "scanout");
    assert_refused(long_name, "name");
}

static void add_with_features(const char *name, void (*test)(gconstpointer features))
{
    static const uint64_t sets[] = {0, EVENT_IDX, PACKED, PACKED | EVENT_IDX};

    for (unsigned i = 0; i < G_N_ELEMENTS(sets); i++) {
        g_autofree char *path = g_strdup_printf("/virtio-input/%s/%u", name, i);

        g_test_add_data_func(path, &sets[i], test);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-input/identity", test_identity);
    g_test_add_func("/virtio-input/keyboard-config", test_keyboard_config);
    g_test_add_func("/virtio-input/pointer-config", test_pointer_config);
    g_test_add_func("/virtio-input/odd-selects", test_odd_selects);
    add_with_features("keys-arrive", test_keys_arrive);
    g_test_add_func("/virtio-input/nothing-that-changes-nothing",
                    test_nothing_that_changes_nothing);
    g_test_add_func("/virtio-input/tablet", test_tablet);
    g_test_add_func("/virtio-input/mouse", test_mouse);
    g_test_add_func("/virtio-input/two-fingers", test_two_fingers);
    g_test_add_func("/virtio-input/release-all", test_release_all);
    add_with_features("group-waits-for-room", test_group_waits_for_room);
    g_test_add_func("/virtio-input/group-larger-than-the-ring", test_group_larger_than_the_ring);
    g_test_add_func("/virtio-input/overflow", test_overflow);
    g_test_add_func("/virtio-input/few-buffers", test_few_buffers);
    g_test_add_func("/virtio-input/queue-holds-what-waits", test_queue_holds_what_waits);
    g_test_add_func("/virtio-input/small-buffer-needs-a-reset", test_small_buffer_needs_a_reset);
    g_test_add_func("/virtio-input/scattered-buffer", test_scattered_buffer);
    g_test_add_func("/virtio-input/leds", test_leds);
    g_test_add_func("/virtio-input/only-a-driver-listens", test_only_a_driver_listens);
    add_with_features("pause", test_pause);
    add_with_features("save-and-load", test_save_and_load);
    g_test_add_func("/virtio-input/bad-state", test_bad_state);
    g_test_add_func("/virtio-input/state-table", test_state_table);
    g_test_add_func("/virtio-input/queue-reset", test_queue_reset);
    g_test_add_func("/virtio-input/options", test_options);
    return g_test_run();
}
