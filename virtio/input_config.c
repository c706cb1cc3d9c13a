/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input_config - what input devices say of themselves (virtio 1.3, 5.8.4 and 5.8.5)
 *
 * The driver writes select and subsel, then reads size and that many bytes. One table a type says
 * which codes there are; ranges of axes are the same wherever they occur.
 */
#include <glib.h>
#include <linux/input-event-codes.h>
#include <linux/input.h>
#include <string.h>

#include "backends/display/display.h"
#include "virtio/input_private.h"

#define VENDOR       0x1af4 /* as the PCI function's */
#define VERSION      1
#define MAX_TRACKING 65535
#define LAST_KEY     KEY_MICMUTE /* the keys of keyboards end there; buttons and more follow */
#define MAX_CODES    16u
#define CODES(...)                                                                                 \
    {                                                                                              \
        __VA_ARGS__, END                                                                           \
    }
#define END 0xffff

struct codes {
    uint16_t type; /* EV_* */
    uint16_t codes[MAX_CODES];
};

static const struct codes keyboard_codes[] = {
    {EV_LED, CODES(LED_NUML, LED_CAPSL, LED_SCROLLL)},
    {EV_REP, CODES(REP_DELAY, REP_PERIOD)}, /* the guest repeats keys that are held */
    {},
};
static const struct codes mouse_codes[] = {
    {EV_KEY, CODES(BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA, BTN_FORWARD, BTN_BACK)},
    {EV_REL, CODES(REL_X, REL_Y, REL_WHEEL, REL_HWHEEL)},
    {},
};
static const struct codes tablet_codes[] = {
    {EV_KEY, CODES(BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA, BTN_FORWARD, BTN_BACK)},
    {EV_REL, CODES(REL_WHEEL, REL_HWHEEL)},
    {EV_ABS, CODES(ABS_X, ABS_Y)},
    {},
};
static const struct codes touch_codes[] = {
    {EV_KEY, CODES(BTN_TOUCH)},
    {EV_ABS,
     CODES(ABS_X, ABS_Y, ABS_MT_SLOT, ABS_MT_POSITION_X, ABS_MT_POSITION_Y, ABS_MT_TRACKING_ID)},
    {},
};

static const struct codes *const tables[] = {
    [INPUT_KEYBOARD] = keyboard_codes,
    [INPUT_TABLET] = tablet_codes,
    [INPUT_MOUSE] = mouse_codes,
    [INPUT_TOUCH] = touch_codes,
};

static const struct codes *find_codes(enum input_type type, unsigned event_type)
{
    for (const struct codes *codes = tables[type]; codes->type; codes++)
        if (codes->type == event_type)
            return codes;
    return NULL;
}

static bool has_code(enum input_type type, unsigned event_type, unsigned code)
{
    const struct codes *codes = find_codes(type, event_type);

    for (unsigned i = 0; codes && codes->codes[i] != END; i++)
        if (codes->codes[i] == code)
            return true;
    return false;
}

bool input_has_key(enum input_type type, unsigned code)
{
    if (type == INPUT_KEYBOARD)
        return code > KEY_RESERVED && code <= LAST_KEY;
    return has_code(type, EV_KEY, code);
}

static void set_bit(struct virtio_input_config *config, unsigned bit)
{
    config->u.bitmap[bit / 8] |= 1u << bit % 8;
    config->size = MAX(config->size, bit / 8 + 1);
}

static void fill_event_bits(enum input_type type, struct virtio_input_config *config)
{
    const struct codes *codes = find_codes(type, config->subsel);

    if (type == INPUT_KEYBOARD && config->subsel == EV_KEY)
        for (unsigned key = KEY_RESERVED + 1; key <= LAST_KEY; key++)
            set_bit(config, key);
    for (unsigned i = 0; codes && codes->codes[i] != END; i++)
        set_bit(config, codes->codes[i]);
}

static void fill_axis(enum input_type type, struct virtio_input_config *config)
{
    int32_t max = DISPLAY_MAX_POSITION;

    if (!has_code(type, EV_ABS, config->subsel))
        return;
    if (config->subsel == ABS_MT_SLOT)
        max = INPUT_SLOTS - 1;
    else if (config->subsel == ABS_MT_TRACKING_ID)
        max = MAX_TRACKING;
    config->u.abs.max = GUINT32_TO_LE(max);
    config->size = sizeof(config->u.abs);
}

static void fill_string(struct virtio_input_config *config, const char *text)
{
    config->size = strnlen(text, sizeof(config->u.string));
    memcpy(config->u.string, text, config->size);
}

static void fill_ids(enum input_type type, struct virtio_input_config *config)
{
    config->u.ids = (struct virtio_input_devids){
        .bustype = GUINT16_TO_LE(BUS_VIRTUAL),
        .vendor = GUINT16_TO_LE(VENDOR),
        .product = GUINT16_TO_LE(type + 1),
        .version = GUINT16_TO_LE(VERSION),
    };
    config->size = sizeof(config->u.ids);
}

void input_config_fill(const struct input_identity *identity, struct virtio_input_config *config)
{
    /* Event types and axes are what subsel says; it is 0 for everything else (5.8.5.1). */
    bool plain = !config->subsel;

    config->size = 0;
    memset(&config->u, 0, sizeof(config->u));
    switch (config->select) {
    case VIRTIO_INPUT_CFG_ID_NAME:
        if (plain)
            fill_string(config, identity->name);
        break;
    case VIRTIO_INPUT_CFG_ID_SERIAL:
        if (plain)
            fill_string(config, identity->serial);
        break;
    case VIRTIO_INPUT_CFG_ID_DEVIDS:
        if (plain)
            fill_ids(identity->type, config);
        break;
    case VIRTIO_INPUT_CFG_PROP_BITS:
        if (plain && identity->type == INPUT_TOUCH)
            set_bit(config, INPUT_PROP_DIRECT);
        break;
    case VIRTIO_INPUT_CFG_EV_BITS:
        fill_event_bits(identity->type, config);
        break;
    case VIRTIO_INPUT_CFG_ABS_INFO:
        fill_axis(identity->type, config);
        break;
    default:
        break;
    }
}
