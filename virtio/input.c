/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input - virtio keyboards, tablets, mice and touch screens (contract: virtio/input.h; virtio 1.3, 5.8;
 * stock driver: virtio_input)
 *
 * What viewers and `lodge ctl` send (backends/display) becomes groups of events, each ended by EV_SYN.
 * A group waits in a bounded queue until the driver has buffers for all of it, and then goes at once:
 * it is never torn, also not by a pause or a snapshot. Only with a driver that has fewer buffers than a
 * group has events do groups go in parts, in order.
 *
 * When the guest takes nothing any more and the queue is full, all of it is forgotten, and a group
 * that lets go of every key, button and finger that the guest believes to be down takes its place. So
 * nothing is down for ever. For that, two records of what is down are kept: as the guest was told, and
 * as it will have been told when the queue is empty; a key that is down is not pressed again, one that
 * is not down is not let go. A device whose state was loaded lets go too: whoever held the keys is
 * elsewhere.
 *
 * The status queue carries LEDs from the guest; other status is taken and ignored. Configuration
 * selects are answered on the vCPU's thread (input_config.c), as the driver reads the answer at once.
 *
 * Limits: PENDING events in the queue, GROUP a group (then an EV_SYN comes early); INPUT_SLOTS
 * fingers. Saved: the queue, what the guest was told is down, LEDs, the next finger's tracking id.
 *
 * Thread: the device's loop.
 */
#include "virtio/input.h"

#include <errno.h>
#include <gio/gio.h>
#include <linux/input-event-codes.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <string.h>

#include "backends/display/display.h"
#include "virtio/input_private.h"
#include "vmm/iov.h"
#include "vmm/log.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(virtio_input_group, "%s events=%u waiting=%u",
            (const char *device, unsigned count, unsigned waiting), device, count, waiting)
TRACE_EVENT(virtio_input_event, "%s type=%u code=%u value=%d",
            (const char *device, unsigned type, unsigned code, int32_t value), device, type, code,
            value)
TRACE_EVENT(virtio_input_lost, "%s events=%u", (const char *device, unsigned count), device, count)
TRACE_EVENT(virtio_input_status, "%s type=%u code=%u value=%d",
            (const char *device, unsigned type, unsigned code, int32_t value), device, type, code,
            value)

#define EVENTS       0u /* queues */
#define STATUS       1u
#define GROUP        64u   /* events; as many buffers as the stock driver has */
#define SMALL_GROUP  7u    /* what need not be one group: few buffers do */
#define PENDING      2048u /* events */
#define EVENT_BYTES  sizeof(struct virtio_input_event)
#define MAX_PIECES   16u /* of a buffer: each of its bytes, each at the end of a memory region */
#define STATUS_BATCH 64u
#define RUNS         (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)
#define KEY_BYTES    ((KEY_MAX + 1) / 8)
#define PCI_CLASS    0x098000u /* input device, other; the types say more: */

static const char *const types[] = {"keyboard", "tablet", "mouse", "touch", NULL};
static const struct {
    const char *name;
    unsigned kind;
} type_info[] = {
    [INPUT_KEYBOARD] = {"Lodge virtio keyboard", DISPLAY_KEYS},
    [INPUT_TABLET] = {"Lodge virtio tablet", DISPLAY_ABSOLUTE},
    [INPUT_MOUSE] = {"Lodge virtio mouse", DISPLAY_RELATIVE},
    [INPUT_TOUCH] = {"Lodge virtio touch screen", DISPLAY_TOUCH},
};

const struct option_spec virtio_input_options[] = {
    {"type", OPTION_ENUM, .flags = OPTION_REQUIRED | OPTION_FIRST, .choices = types,
     .help = "what it is; tablet: absolute positions, mouse: relative motion"},
    {"name", OPTION_STRING, .help = "what the guest calls it (default: by its type)"},
    {"serial", OPTION_STRING, .help = "serial number for the guest"},
    {"scanout", OPTION_UINT, .max = DISPLAY_MAX_SCANOUTS - 1,
     .help = "only input for that screen, counted from 0 (default: for any)"},
    VIRTIO_DEVICE_OPTIONS,
    {},
};

/* What is down. */
struct held {
    uint8_t keys[KEY_BYTES]; /* and buttons */
    uint32_t fingers;        /* bits 1 << slot */
    uint32_t slot;           /* the one that positions are for */
};

struct virtio_input {
    struct virtio_device vdev; /* first */
    struct input_identity identity;
    struct display_input *input;
    struct virtq_element *status;
    unsigned buffer_count; /* popped, for the next group; none while the device is quiet */
    struct virtq_element *buffers[GROUP];
    bool few_buffers; /* the driver has never given enough for a group that waited */
    unsigned group_count;
    struct virtio_input_event group[GROUP]; /* under construction; host's byte order */
    struct {
        int32_t x, y;
    } fingers[INPUT_SLOTS];
    struct held told;    /* the guest, by what went out */
    struct held queued;  /* will have been told, the group under construction included */
    GByteArray *pending; /* struct virtio_input_event, as on the wire */
    bool torn;           /* the first of them is the rest of a group that goes in parts */
    uint16_t next_tracking_id;
    uint32_t leds;
    /* Saved: copies of the above, so that none is touched while the main thread writes them. */
    GByteArray *saved_pending;
    bool saved_torn;
    struct held saved_told;
    uint16_t saved_tracking_id;
    uint32_t saved_leds;
};

static struct virtio_input *to_input(struct virtio_device *vdev)
{
    return (struct virtio_input *)vdev;
}

static const char *name_of(const struct virtio_input *in)
{
    return in->vdev.device ? in->vdev.device->name : in->vdev.class->type;
}

/* ---- what is down ---- */

static bool is_down(const struct held *held, unsigned code)
{
    return code <= KEY_MAX && held->keys[code / 8] & 1u << code % 8;
}

static void note(struct held *held, unsigned type, unsigned code, int32_t value)
{
    if (type == EV_KEY && code <= KEY_MAX) {
        if (value)
            held->keys[code / 8] |= 1u << code % 8;
        else
            held->keys[code / 8] &= ~(1u << code % 8);
    } else if (type == EV_ABS && code == ABS_MT_SLOT) {
        held->slot = (uint32_t)value < INPUT_SLOTS ? value : 0;
    } else if (type == EV_ABS && code == ABS_MT_TRACKING_ID) {
        if (value >= 0)
            held->fingers |= 1u << held->slot;
        else
            held->fingers &= ~(1u << held->slot);
    }
}

/* ---- to the guest ---- */

static unsigned pending_count(const struct virtio_input *in)
{
    return in->pending->len / EVENT_BYTES;
}

static struct virtio_input_event pending_at(const struct virtio_input *in, unsigned index)
{
    struct virtio_input_event event;

    memcpy(&event, in->pending->data + index * EVENT_BYTES, EVENT_BYTES);
    return event;
}

/* Events of the first group; 0: there is none. */
static unsigned first_group(const struct virtio_input *in)
{
    for (unsigned i = 0; i < pending_count(in); i++)
        if (pending_at(in, i).type == GUINT16_TO_LE(EV_SYN))
            return i + 1;
    return 0;
}

/* Pops buffers until @count are at hand: whether they are. Those that are too few stay at hand: given
 * back, they would keep the driver from ringing when it adds the next. */
static bool find_buffers(struct virtio_input *in, struct virtq *vq, unsigned count)
{
    while (in->buffer_count < count && virtq_pop(vq, in->buffers[in->buffer_count]) > 0) {
        if (in->buffers[in->buffer_count]->in_bytes < EVENT_BYTES) {
            virtio_device_needs_reset(&in->vdev, "a buffer that is too small for an event");
            return false;
        }
        in->buffer_count++;
    }
    return in->buffer_count >= count;
}

static void send(struct virtio_input *in, struct virtq *vq, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct virtio_input_event event = pending_at(in, i);
        struct virtq_element *buffer = in->buffers[0];
        unsigned type = GUINT16_FROM_LE(event.type), code = GUINT16_FROM_LE(event.code);
        int32_t value = GUINT32_FROM_LE(event.value);

        trace_virtio_input_event(name_of(in), type, code, value);
        note(&in->told, type, code, value);
        in->torn = type != EV_SYN;
        iov_write(virtq_in(buffer), buffer->in_count, 0, &event, EVENT_BYTES);
        virtq_push(vq, buffer, EVENT_BYTES);
        memmove(in->buffers, in->buffers + 1, --in->buffer_count * sizeof(in->buffers[0]));
        in->buffers[in->buffer_count] = buffer;
    }
    g_byte_array_remove_range(in->pending, 0, count * EVENT_BYTES);
}

/* One group, if there is one and there are buffers for it. */
static bool deliver_group(struct virtio_input *in, struct virtq *vq)
{
    unsigned count = first_group(in);
    bool whole = count <= vq->size && !in->torn && !in->few_buffers;

    if (!count || dma_allowed(in->vdev.dma, DMA_FROM_DEVICE))
        return false;
    if (!find_buffers(in, vq, count)) {
        if (whole || !in->buffer_count || vq->broken)
            return false;
        count = in->buffer_count;
    }
    send(in, vq, count);
    return true;
}

/* Ends when there is nothing to send, or when the next buffer will ring the doorbell. */
static void deliver(struct virtio_input *in)
{
    struct virtq *vq = virtio_device_queue(&in->vdev, EVENTS);

    if (!in->vdev.started)
        return;
    virtq_disable_notify(vq);
    do {
        while (deliver_group(in, vq))
            ;
    } while (in->pending->len && virtq_enable_notify(vq));
    virtq_flush(vq);
}

/* Buffers at hand are the driver's again, in the same order. */
static void return_buffers(struct virtio_input *in)
{
    while (in->buffer_count)
        virtq_unpop(virtio_device_queue(&in->vdev, EVENTS), in->buffers[--in->buffer_count]);
}

/* ---- groups ---- */

static void release_all(struct virtio_input *in);

/* The guest does not listen: what waits is forgotten, but for the rest of a group that it has begun. */
static void give_up(struct virtio_input *in)
{
    unsigned keep = in->torn ? first_group(in) : 0;

    trace_virtio_input_lost(name_of(in), pending_count(in) - keep + in->group_count);
    in->group_count = 0;
    in->few_buffers |= in->buffer_count > 0;
    g_byte_array_set_size(in->pending, keep * EVENT_BYTES);
    in->queued = in->told;
    for (unsigned i = 0; i < keep; i++) {
        struct virtio_input_event event = pending_at(in, i);

        note(&in->queued, GUINT16_FROM_LE(event.type), GUINT16_FROM_LE(event.code),
             GUINT32_FROM_LE(event.value));
    }
    release_all(in);
}

static void end_group(struct virtio_input *in)
{
    if (!in->group_count)
        return;
    in->group[in->group_count++] = (struct virtio_input_event){EV_SYN, SYN_REPORT, 0};
    /* Letting go of everything, in the worst case, is less than that: give_up() ends. */
    if (pending_count(in) + in->group_count > PENDING) {
        give_up(in);
        return;
    }
    for (unsigned i = 0; i < in->group_count; i++) {
        const struct virtio_input_event event = {GUINT16_TO_LE(in->group[i].type),
                                                 GUINT16_TO_LE(in->group[i].code),
                                                 GUINT32_TO_LE(in->group[i].value)};

        g_byte_array_append(in->pending, (const uint8_t *)&event, EVENT_BYTES);
    }
    trace_virtio_input_group(name_of(in), in->group_count, pending_count(in));
    in->group_count = 0;
}

static void add(struct virtio_input *in, unsigned type, unsigned code, int32_t value)
{
    if (in->group_count == GROUP - 1)
        end_group(in); /* too much at once */
    in->group[in->group_count++] = (struct virtio_input_event){type, code, value};
    note(&in->queued, type, code, value);
}

static void release_all(struct virtio_input *in)
{
    for (unsigned slot = 0; slot < INPUT_SLOTS; slot++) {
        if (!(in->queued.fingers & 1u << slot))
            continue;
        add(in, EV_ABS, ABS_MT_SLOT, slot);
        add(in, EV_ABS, ABS_MT_TRACKING_ID, -1);
    }
    for (unsigned code = 0; code <= KEY_MAX; code++) {
        if (is_down(&in->queued, code))
            add(in, EV_KEY, code, 0);
        if (in->group_count >= SMALL_GROUP)
            end_group(in);
    }
    end_group(in);
}

/* ---- from viewers ---- */

static void on_key(struct virtio_input *in, const struct display_event *event)
{
    bool down = event->value;

    if (input_has_key(in->identity.type, event->code) && is_down(&in->queued, event->code) != down)
        add(in, EV_KEY, event->code, down);
}

static void add_nonzero(struct virtio_input *in, unsigned type, unsigned code, int32_t value)
{
    if (value)
        add(in, type, code, value);
}

static void on_motion(struct virtio_input *in, const struct display_event *event)
{
    if (in->identity.type != INPUT_MOUSE)
        return;
    add_nonzero(in, EV_REL, REL_X, event->x);
    add_nonzero(in, EV_REL, REL_Y, event->y);
}

static void on_position(struct virtio_input *in, const struct display_event *event)
{
    if (in->identity.type != INPUT_TABLET)
        return;
    add(in, EV_ABS, ABS_X, CLAMP(event->x, 0, DISPLAY_MAX_POSITION));
    add(in, EV_ABS, ABS_Y, CLAMP(event->y, 0, DISPLAY_MAX_POSITION));
}

static void on_wheel(struct virtio_input *in, const struct display_event *event)
{
    if (in->identity.type != INPUT_TABLET && in->identity.type != INPUT_MOUSE)
        return;
    add_nonzero(in, EV_REL, REL_HWHEEL, event->x);
    add_nonzero(in, EV_REL, REL_WHEEL, event->y);
}

static void on_finger(struct virtio_input *in, const struct display_event *event)
{
    bool down = event->type != DISPLAY_TOUCH_UP;
    unsigned slot = event->code;
    bool was_down;

    if (in->identity.type != INPUT_TOUCH || slot >= INPUT_SLOTS)
        return;
    was_down = in->queued.fingers & 1u << slot;
    if (!was_down && event->type != DISPLAY_TOUCH_DOWN)
        return;
    if (in->group_count > GROUP - 8)
        end_group(in); /* a finger's events stay together */
    add(in, EV_ABS, ABS_MT_SLOT, slot);
    if (was_down != down)
        add(in, EV_ABS, ABS_MT_TRACKING_ID, down ? in->next_tracking_id++ : -1);
    if (!down)
        return;
    in->fingers[slot].x = CLAMP(event->x, 0, DISPLAY_MAX_POSITION);
    in->fingers[slot].y = CLAMP(event->y, 0, DISPLAY_MAX_POSITION);
    add(in, EV_ABS, ABS_MT_POSITION_X, in->fingers[slot].x);
    add(in, EV_ABS, ABS_MT_POSITION_Y, in->fingers[slot].y);
}

/* What those see who know of one finger only: the first one. */
static void add_single_touch(struct virtio_input *in)
{
    bool touching = in->queued.fingers;

    if (in->identity.type != INPUT_TOUCH || !in->group_count)
        return;
    if (is_down(&in->queued, BTN_TOUCH) != touching)
        add(in, EV_KEY, BTN_TOUCH, touching);
    if (touching) {
        unsigned slot = __builtin_ctz(in->queued.fingers);

        add(in, EV_ABS, ABS_X, in->fingers[slot].x);
        add(in, EV_ABS, ABS_Y, in->fingers[slot].y);
    }
}

static void on_event(void *opaque, const struct display_event *event)
{
    struct virtio_input *in = opaque;

    if (!in->vdev.started)
        return;
    switch (event->type) {
    case DISPLAY_KEY:
    case DISPLAY_BUTTON:
        on_key(in, event);
        break;
    case DISPLAY_MOTION:
        on_motion(in, event);
        break;
    case DISPLAY_POSITION:
        on_position(in, event);
        break;
    case DISPLAY_WHEEL:
        on_wheel(in, event);
        break;
    case DISPLAY_TOUCH_DOWN:
    case DISPLAY_TOUCH_MOVE:
    case DISPLAY_TOUCH_UP:
        on_finger(in, event);
        break;
    case DISPLAY_FRAME:
        add_single_touch(in);
        end_group(in);
        deliver(in);
        break;
    case DISPLAY_RELEASE_ALL:
        release_all(in);
        deliver(in);
        break;
    }
}

static const struct display_input_ops input_ops = {on_event};

/* ---- from the guest ---- */

static void on_status(struct virtio_input *in, struct virtq_element *element)
{
    struct virtio_input_event event;
    unsigned type, code;
    int32_t value;

    if (iov_read(virtq_out(element), element->out_count, 0, &event, EVENT_BYTES) < EVENT_BYTES) {
        log_guest(&in->vdev.device->guest_errors, name_of(in),
                  "a status of %" G_GUINT64_FORMAT " bytes ignored: an event has %zu",
                  element->out_bytes, EVENT_BYTES);
        return;
    }
    type = GUINT16_FROM_LE(event.type);
    code = GUINT16_FROM_LE(event.code);
    value = GUINT32_FROM_LE(event.value);
    trace_virtio_input_status(name_of(in), type, code, value);
    if (in->identity.type != INPUT_KEYBOARD || type != EV_LED || code > LED_SCROLLL)
        return;
    in->leds = value ? in->leds | 1u << code : in->leds & ~(1u << code);
    display_input_set_leds(in->input, in->leds);
}

static void take_status(struct virtio_input *in)
{
    struct virtq *vq = virtio_device_queue(&in->vdev, STATUS);
    unsigned taken = 0;

    virtq_disable_notify(vq);
    while (taken < STATUS_BATCH && virtq_pop(vq, in->status) > 0) {
        on_status(in, in->status);
        virtq_push(vq, in->status, 0);
        taken++;
    }
    virtq_flush(vq);
    if (taken == STATUS_BATCH || virtq_enable_notify(vq))
        virtio_device_kick(&in->vdev, STATUS); /* there is more; the others' turn first */
}

static void input_queue_ready(struct virtio_device *vdev, unsigned index)
{
    if (index == EVENTS)
        deliver(to_input(vdev));
    else
        take_status(to_input(vdev));
}

static void input_config_select(struct virtio_device *vdev)
{
    struct virtio_input_config *config = (struct virtio_input_config *)vdev->config;

    input_config_fill(&to_input(vdev)->identity, config);
}

/* ---- life ---- */

static void forget(struct virtio_input *in)
{
    g_byte_array_set_size(in->pending, 0);
    in->group_count = 0;
    in->buffer_count = 0;
    in->torn = in->few_buffers = false;
    memset(&in->told, 0, sizeof(in->told));
    memset(&in->queued, 0, sizeof(in->queued));
    in->leds = 0;
    display_input_set_leds(in->input, 0);
}

static int input_start(struct virtio_device *vdev)
{
    display_input_set_active(to_input(vdev)->input, true);
    return 0;
}

static void input_stop(struct virtio_device *vdev)
{
    display_input_set_active(to_input(vdev)->input, false);
    return_buffers(to_input(vdev));
    forget(to_input(vdev));
    virtio_device_stopped(vdev);
}

/* The ring is reset: what is at hand goes with it. */
static void input_queue_stop(struct virtio_device *vdev, unsigned index)
{
    if (index == EVENTS)
        to_input(vdev)->buffer_count = 0;
    virtio_device_queue_stopped(vdev, index);
}

static void input_quiesce(struct virtio_device *vdev)
{
    return_buffers(to_input(vdev));
}

static void input_before_save(struct virtio_device *vdev)
{
    struct virtio_input *in = to_input(vdev);

    g_byte_array_set_size(in->saved_pending, 0);
    g_byte_array_append(in->saved_pending, in->pending->data, in->pending->len);
    in->saved_torn = in->torn;
    in->saved_told = in->told;
    in->saved_tracking_id = in->next_tracking_id;
    in->saved_leds = in->leds;
}

/* Groups as end_group() makes them, whole but for the first one's beginning. */
static bool check_loaded(struct virtio_input *in, GError **error)
{
    unsigned length = 0;

    for (unsigned i = 0; i < in->saved_pending->len / EVENT_BYTES && length < GROUP; i++) {
        struct virtio_input_event event;

        memcpy(&event, in->saved_pending->data + i * EVENT_BYTES, EVENT_BYTES);
        length = event.type == GUINT16_TO_LE(EV_SYN) ? 0 : length + 1;
    }
    if (!length && in->saved_pending->len % EVENT_BYTES == 0)
        return true;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "%s: saved state: %u bytes of events, which are not groups of at most %u",
                name_of(in), in->saved_pending->len, GROUP);
    return false;
}

/* On the loop; input_stop() came before, if the device was running. */
static bool input_after_load(struct virtio_device *vdev, GError **error)
{
    struct virtio_input *in = to_input(vdev);

    forget(in);
    if (!check_loaded(in, error))
        return false;
    pthread_mutex_lock(&vdev->lock);
    input_config_select(vdev); /* by what was selected, and not by what a stream says of it */
    pthread_mutex_unlock(&vdev->lock);
    if ((vdev->status & RUNS) != VIRTIO_CONFIG_S_DRIVER_OK)
        return true; /* its next driver is a new one */
    g_byte_array_append(in->pending, in->saved_pending->data, in->saved_pending->len);
    in->told = in->queued = in->saved_told;
    in->told.slot = in->queued.slot = MIN(in->saved_told.slot, INPUT_SLOTS - 1);
    in->torn = in->saved_torn && in->pending->len;
    in->next_tracking_id = in->saved_tracking_id;
    in->leds = in->saved_leds;
    display_input_set_leds(in->input, in->leds);
    for (unsigned i = 0; i < pending_count(in); i++) {
        struct virtio_input_event event = pending_at(in, i);

        note(&in->queued, GUINT16_FROM_LE(event.type), GUINT16_FROM_LE(event.code),
             GUINT32_FROM_LE(event.value));
    }
    release_all(in);
    return true;
}

static void remove_input(void *opaque)
{
    display_remove_input(opaque);
}

static void input_destroy(struct virtio_device *vdev)
{
    struct virtio_input *in = to_input(vdev);

    if (in->input)
        loop_call(vdev->loop, remove_input, in->input);
    virtio_device_finish(vdev);
    g_free(in->status);
    for (unsigned i = 0; i < GROUP; i++)
        g_free(in->buffers[i]);
    g_byte_array_unref(in->pending);
    g_byte_array_unref(in->saved_pending);
    g_free(in);
}

static const struct state_field held_fields[] = {
    STATE_BYTES(struct held, keys, 1),
    STATE_U32(struct held, fingers, 1),
    STATE_U32(struct held, slot, 1),
    STATE_END,
};
static const struct state_table held_state = {"input-held", 1, 1, held_fields};

static const struct state_field input_fields[] = {
    STATE_BUFFER(struct virtio_input, saved_pending, PENDING *EVENT_BYTES, 1),
    STATE_BOOL(struct virtio_input, saved_torn, 1),
    STATE_STRUCT(struct virtio_input, saved_told, &held_state, 1),
    STATE_U16(struct virtio_input, saved_tracking_id, 1),
    STATE_U32(struct virtio_input, saved_leds, 1),
    STATE_END,
};
static const struct state_table input_state = {"virtio-input", 1, 1, input_fields};

static const struct virtio_class input_class = {
    .type = "virtio-input",
    .id = VIRTIO_ID_INPUT,
    .pci_class = PCI_CLASS,
    .config_size = sizeof(struct virtio_input_config),
    .start = input_start,
    .stop = input_stop,
    .queue_ready = input_queue_ready,
    .queue_stop = input_queue_stop,
    .quiesce = input_quiesce,
    .config_select = input_config_select,
    .before_save = input_before_save,
    .state_table = &input_state,
    .after_load = input_after_load,
    .destroy = input_destroy,
};

static bool read_text(const struct options *options, const char *key, const char *otherwise,
                      char text[128], GError **error)
{
    const char *given = options_string(options, key);
    size_t length = given ? strlen(given) : 0;

    if (length >= sizeof(((struct input_identity *)0)->name) ||
        (given && !g_utf8_validate(given, -1, NULL))) {
        options_set_error(error, options, key, "must be at most 127 bytes of UTF-8");
        return false;
    }
    g_strlcpy(text, given ? given : otherwise, sizeof(((struct input_identity *)0)->name));
    return true;
}

static bool read_identity(struct input_identity *identity, const struct options *options,
                          GError **error)
{
    const char *type = options_string(options, "type");

    while (strcmp(types[identity->type], type))
        identity->type++;
    return read_text(options, "name", type_info[identity->type].name, identity->name, error) &&
           read_text(options, "serial", "", identity->serial, error);
}

static struct virtio_input *create_core(const struct options *options, struct loop *loop,
                                        GError **error)
{
    struct virtio_ring_options ring;
    struct virtio_input *in;
    uint16_t queue_size;
    int ret;

    if (!virtio_ring_options_read(options, &ring, &queue_size, error))
        return NULL;
    in = g_new0(struct virtio_input, 1);
    ret = virtio_device_init(&in->vdev, &input_class, 2, queue_size, loop);
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "%s: event files: %s",
                    options_what(options), g_strerror(-ret));
        g_free(in);
        return NULL;
    }
    virtio_device_set_ring_options(&in->vdev, &ring);
    in->status = virtq_element_create(MAX_PIECES);
    for (unsigned i = 0; i < GROUP; i++)
        in->buffers[i] = virtq_element_create(MAX_PIECES);
    in->pending = g_byte_array_sized_new(GROUP * EVENT_BYTES);
    in->saved_pending = g_byte_array_new();
    memset(in->vdev.config_writable, 0xff, offsetof(struct virtio_input_config, size));
    return in;
}

struct virtio_device *virtio_input_create(const struct options *options, struct loop *loop,
                                          struct display *display, GError **error)
{
    struct virtio_input *in = create_core(options, loop, error);
    int scanout = options_given(options, "scanout") ? (int)options_uint(options, "scanout") : -1;

    if (!in)
        return NULL;
    if (!read_identity(&in->identity, options, error)) {
        input_destroy(&in->vdev);
        return NULL;
    }
    in->input = display_add_input(display, type_info[in->identity.type].kind, scanout, loop,
                                  &input_ops, in);
    if (!in->input) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "%s: event file: %s",
                    options_what(options), g_strerror(errno));
        input_destroy(&in->vdev);
        return NULL;
    }
    return &in->vdev;
}
