/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * console - virtio console with ports (contract: virtio/console.h; virtio 1.3, 5.3), driven by Linux'
 * virtio_console: hvc consoles and /dev/virtio-ports
 *
 * A device with nothing but one console has two queues and no control messages. As soon as a port has
 * a name or there are two, VIRTIO_CONSOLE_F_MULTIPORT is offered: the driver is told of each port
 * (ADD), and when it is ready for it, of its kind, name, size and open state. What the driver is still
 * to be told is kept as a set of flags for each port, not as a queue of messages, so that a guest that
 * does not listen costs nothing.
 *
 * From the guest: chunks of a chain are copied and handed to the host side; if that takes less, the
 * chain goes back unread but for a count of bytes that were taken (tx_done), until
 * console_port_resume. To the guest: into the buffers it posted. Nothing is ever in flight. A chardev's
 * input goes through a small buffer, since it can't be given back.
 *
 * Output reaches the host side whether that is open or not: a console whose input has ended still
 * prints. A chardev whose reader is there but takes nothing makes a console wait for PATIENCE_NS, then
 * its output is lost until the reader goes on: Linux waits for a console with interrupts off, so the
 * whole guest would hang on it. An end of file is announced when the input before it has been delivered.
 *
 * Limits: VIRTIO_CONSOLE_MAX_PORTS ports, CHUNKS_A_TURN chunks a turn of the loop and port; ports are
 * not removed. Saved: what the driver was told and has opened, partial output, buffered input; not what
 * is behind the ports.
 *
 * Thread: the device's loop.
 */
#include "virtio/console.h"

#include <errno.h>
#include <gio/gio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "vmm/iov.h"
#include "vmm/log.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(console_control, "%s to guest=%d port=%u event=%u value=%u",
            (const char *device, bool out, unsigned port, unsigned event, unsigned value), device,
            out, port, event, value)
TRACE_EVENT(console_output, "%s port=%u bytes=%zu taken=%zu",
            (const char *device, unsigned port, size_t size, size_t taken), device, port, size,
            taken)
TRACE_EVENT(console_input, "%s port=%u bytes=%zu taken=%zu",
            (const char *device, unsigned port, size_t size, size_t taken), device, port, size,
            taken)

#define BIT(n)          (UINT64_C(1) << (n))
#define CONTROL_RX      2u
#define CONTROL_TX      3u
#define CHUNK           4096u
#define CHUNKS_A_TURN   64u
#define CONTROL_A_TURN  256u
#define INPUT_MAX       4096u
#define NAME_MAX_BYTES  127u
#define MAX_PIECES      64u
#define PATIENCE_NS     (INT64_C(1) * 1000 * 1000 * 1000)
#define QUEUE_SIZE_TEXT "32"

/* What the driver is to be told of a port, in this order. */
enum {
    TELL_ADD = 1 << 0,
    TELL_CONSOLE = 1 << 1,
    TELL_NAME = 1 << 2,
    TELL_SIZE = 1 << 3,
    TELL_CLOSED = 1 << 4,
    TELL_OPEN = 1 << 5,
};

const struct option_spec virtio_console_options[] = {
    {"packed", OPTION_BOOL, .value = "on", .help = "offer the packed ring layout"},
    {"indirect", OPTION_BOOL, .value = "on", .help = "offer indirect descriptors"},
    {"event-idx", OPTION_BOOL, .value = "on", .help = "offer event index suppression"},
    {"in-order", OPTION_BOOL, .value = "off", .help = "offer in-order completion"},
    {"ring-reset", OPTION_BOOL, .value = "on", .help = "offer reset of single queues"},
    /* Linux fills every receive queue with pages when it starts: few will do. */
    {"queue-size", OPTION_UINT, .value = QUEUE_SIZE_TEXT, .min = 2, .max = 1024,
     .help = "descriptors a queue (a power of two)"},
    {},
};

struct console;

struct console_port {
    struct console *console;
    unsigned index;
    char *name;
    bool is_console;
    const struct console_port_ops *ops;
    void *opaque;
    struct chardev *chardev;
    struct loop_timer *patience; /* of a console whose chardev takes nothing */
    bool impatient;              /* it has run out: output is dropped */
    struct virtq_element *tx;    /* of its own: one port's callbacks may look at another port */

    bool host_open;
    bool blocked;  /* the host side took less than it was given */
    bool in_tx;    /* its receive callback is running */
    bool starved;  /* the guest had too little room */
    bool deferred; /* the host side closed, but input is still to be delivered before that */

    /* Saved: */
    uint8_t tell;      /* TELL_* */
    bool told_open;    /* the last of TELL_OPEN and TELL_CLOSED that went out */
    bool ready;        /* the driver has the port */
    bool guest_open;   /* the driver said so (without multiport: it runs) */
    uint32_t tx_done;  /* bytes of the next chain that the host side has taken */
    GByteArray *input; /* from the chardev, for the guest */
};

struct console {
    struct virtio_device vdev;
    struct virtq_element *element; /* control messages, and input */
    unsigned ports_added;
    uint16_t queue_size;
    bool multiport; /* offered */
    bool driver_ready;
    uint16_t columns, rows;
    uint32_t port_count;
    struct console_port ports[VIRTIO_CONSOLE_MAX_PORTS];
};

static const char *console_name(const struct console *console)
{
    return console->vdev.device ? console->vdev.device->name : "virtio-console";
}

static bool uses_ports(const struct console *console)
{
    return virtio_device_has(&console->vdev, VIRTIO_CONSOLE_F_MULTIPORT);
}

static unsigned rx_queue(unsigned port)
{
    return port ? 2 + 2 * port : 0;
}

static struct virtq *port_rx(struct console_port *port)
{
    return virtio_device_queue(&port->console->vdev, rx_queue(port->index));
}

static struct virtq *port_tx(struct console_port *port)
{
    return virtio_device_queue(&port->console->vdev, rx_queue(port->index) + 1);
}

#define guest_error(console, ...)                                                                  \
    log_guest(&(console)->vdev.device->guest_errors, console_name(console), __VA_ARGS__)

/* ---- control messages to the driver ---- */

/* False: the driver has no buffer for it. */
static bool send_control(struct console *console, unsigned port, uint16_t event, uint16_t value,
                         const void *extra, size_t extra_size)
{
    struct virtq *vq = virtio_device_queue(&console->vdev, CONTROL_RX);
    const struct virtio_console_control message = {port, event, value};
    uint8_t data[sizeof(message) + NAME_MAX_BYTES + 1];
    size_t size = sizeof(message) + extra_size;

    g_assert(size <= sizeof(data));
    if (virtq_pop(vq, console->element) <= 0)
        return false;
    memcpy(data, &message, sizeof(message));
    if (extra_size)
        memcpy(data + sizeof(message), extra, extra_size);
    trace_console_control(console_name(console), true, port, event, value);
    if (console->element->in_bytes < size) {
        guest_error(console, "no room for a control message of %zu bytes", size);
        size = 0;
    }
    virtq_push(vq, console->element,
               iov_write(virtq_in(console->element), console->element->in_count, 0, data, size));
    return true;
}

static bool tell_one(struct console_port *port, uint8_t what)
{
    struct console *console = port->console;
    const uint16_t size[2] = {console->columns, console->rows};

    switch (what) {
    case TELL_ADD:
        return send_control(console, port->index, VIRTIO_CONSOLE_PORT_ADD, 0, NULL, 0);
    case TELL_CONSOLE:
        return send_control(console, port->index, VIRTIO_CONSOLE_CONSOLE_PORT, 1, NULL, 0);
    case TELL_NAME:
        return send_control(console, port->index, VIRTIO_CONSOLE_PORT_NAME, 1, port->name,
                            strlen(port->name));
    case TELL_SIZE:
        return send_control(console, port->index, VIRTIO_CONSOLE_RESIZE, 0, size, sizeof(size));
    default:
        if (!send_control(console, port->index, VIRTIO_CONSOLE_PORT_OPEN, what == TELL_OPEN, NULL,
                          0))
            return false;
        port->told_open = what == TELL_OPEN;
        return true;
    }
}

/* Tells the driver what it does not know yet, as far as it has buffers. */
static void tell_driver(struct console *console)
{
    struct virtq *vq = virtio_device_queue(&console->vdev, CONTROL_RX);

    if (!console->multiport || !console->driver_ready)
        return;
    do {
        bool room = true;
        for (unsigned i = 0; i < console->port_count && room; i++) {
            struct console_port *port = &console->ports[i];
            unsigned what = port->ready ? port->tell : port->tell & TELL_ADD;

            while (what && room) {
                uint8_t first = what & -what;
                room = tell_one(port, first);
                if (room) {
                    what &= ~first;
                    port->tell &= ~first;
                }
            }
        }
        virtq_flush(vq);
        if (room)
            return; /* all is said; the driver need not ring for new buffers */
    } while (virtq_enable_notify(vq));
}

/* The driver learns of the host side's open state, in order: a close is not lost by an open. */
static void announce_open(struct console_port *port)
{
    bool last = port->tell & TELL_OPEN || (port->told_open && !(port->tell & TELL_CLOSED));

    if (last == port->host_open || !uses_ports(port->console))
        return;
    if (port->host_open)
        port->tell |= TELL_OPEN;
    else if (port->told_open)
        port->tell = (port->tell & ~TELL_OPEN) | TELL_CLOSED;
    else
        port->tell &= ~TELL_OPEN;
    tell_driver(port->console);
}

/* ---- from the guest ---- */

/* Gives the host side the next chain, or a part: true when the chain is done with. */
static bool output_chain(struct console_port *port, struct virtq_element *element, unsigned *chunks)
{
    uint8_t data[CHUNK];

    while (port->tx_done < element->out_bytes) {
        size_t size = MIN(sizeof(data), element->out_bytes - port->tx_done);
        size_t taken;

        if (!*chunks)
            return false;
        --*chunks;
        size = iov_read(virtq_out(element), element->out_count, port->tx_done, data, size);
        port->in_tx = true;
        taken =
            port->ops && port->ops->receive ? port->ops->receive(port->opaque, data, size) : size;
        port->in_tx = false;
        trace_console_output(console_name(port->console), port->index, size, taken);
        port->tx_done += taken;
        if (taken < size) {
            port->blocked = true;
            return false;
        }
    }
    port->tx_done = 0;
    return true;
}

static void port_output(struct console_port *port)
{
    struct virtq *vq = port_tx(port);
    struct virtq_element *element = port->tx;
    unsigned chunks = CHUNKS_A_TURN;

    if (port->blocked || port->in_tx)
        return;
    do {
        virtq_disable_notify(vq);
        while (chunks && virtq_pop(vq, element) > 0) {
            if (!output_chain(port, element, &chunks)) {
                virtq_unpop(vq, element);
                break;
            }
            if (!element->out_bytes)
                chunks--;
            virtq_push(vq, element, 0);
        }
        virtq_flush(vq);
        if (port->blocked)
            return;
        if (!chunks) { /* the others' turn first */
            virtio_device_kick(&port->console->vdev, vq->index);
            return;
        }
    } while (virtq_enable_notify(vq));
}

void console_port_resume(struct console_port *port)
{
    port->blocked = false;
    if (port->console->vdev.started)
        port_output(port);
}

/* ---- to the guest ---- */

size_t console_port_write(struct console_port *port, const uint8_t *data, size_t size)
{
    struct console *console = port->console;
    struct virtq *vq = port_rx(port);
    unsigned chains = 2 * VIRTQ_MAX_SIZE; /* empty ones could go on for ever */
    size_t done = 0;

    if (!console->vdev.started || !port->guest_open) {
        port->starved |= size > 0;
        return 0;
    }
    virtq_disable_notify(vq);
    while (done < size) {
        size_t part;

        if (!chains) {
            port->starved = true;
            virtio_device_kick(&console->vdev, vq->index);
            break;
        }
        chains--;
        if (virtq_pop(vq, console->element) <= 0) {
            virtq_flush(vq);
            if (virtq_enable_notify(vq))
                continue;
            port->starved = true;
            break;
        }
        part = iov_write(virtq_in(console->element), console->element->in_count, 0,
                         (uint8_t *)data + done, size - done);
        virtq_push(vq, console->element, part);
        done += part;
    }
    virtq_flush(vq);
    trace_console_input(console_name(console), port->index, size, done);
    return done;
}

/* The guest has room again, or opened the port. */
static void port_writable(struct console_port *port)
{
    if (!port->starved || !port->guest_open)
        return;
    port->starved = false;
    if (port->ops && port->ops->writable)
        port->ops->writable(port->opaque);
}

static void set_guest_open(struct console_port *port, bool open)
{
    if (port->guest_open == open)
        return;
    port->guest_open = open;
    if (port->ops && port->ops->guest_open)
        port->ops->guest_open(port->opaque, open);
    if (open)
        port_writable(port);
}

void console_port_set_open(struct console_port *port, bool open)
{
    port->host_open = open;
    if (port->console->vdev.started)
        announce_open(port);
}

bool console_port_guest_is_open(const struct console_port *port)
{
    return port->guest_open;
}

/* ---- control messages from the driver ---- */

static void driver_is_ready(struct console *console, bool ok)
{
    if (!ok) {
        guest_error(console, "the driver could not set up the device");
        return;
    }
    if (console->driver_ready)
        return; /* a port must not be added twice */
    console->driver_ready = true;
    for (unsigned i = 0; i < console->port_count; i++)
        console->ports[i].tell = TELL_ADD;
}

static void port_is_ready(struct console_port *port, bool ok)
{
    if (!ok) {
        guest_error(port->console, "the driver could not set up port %u", port->index);
        return;
    }
    if (port->ready || port->tell & TELL_ADD)
        return;
    port->ready = true;
    port->told_open = false;
    port->tell = (port->is_console ? TELL_CONSOLE : 0) | (port->name ? TELL_NAME : 0);
    if (port->is_console && port->console->columns)
        port->tell |= TELL_SIZE;
    if (port->host_open)
        port->tell |= TELL_OPEN;
}

static void control_message(struct console *console, const struct virtio_console_control *message)
{
    struct console_port *port;

    trace_console_control(console_name(console), false, message->id, message->event,
                          message->value);
    if (message->event == VIRTIO_CONSOLE_DEVICE_READY) {
        driver_is_ready(console, message->value);
        return;
    }
    if (message->id >= console->port_count) {
        guest_error(console, "control message %u for port %u, which is not there", message->event,
                    message->id);
        return;
    }
    port = &console->ports[message->id];
    if (message->event == VIRTIO_CONSOLE_PORT_READY)
        port_is_ready(port, message->value);
    else if (message->event == VIRTIO_CONSOLE_PORT_OPEN && port->ready)
        set_guest_open(port, message->value);
    else
        guest_error(console, "control message %u for port %u ignored", message->event, message->id);
}

static void control_output(struct console *console)
{
    struct virtq *vq = virtio_device_queue(&console->vdev, CONTROL_TX);
    struct virtio_console_control message;
    unsigned left = CONTROL_A_TURN;

    do {
        virtq_disable_notify(vq);
        while (left && virtq_pop(vq, console->element) > 0) {
            size_t size = iov_read(virtq_out(console->element), console->element->out_count, 0,
                                   &message, sizeof(message));
            left--;
            /* Before its callbacks use the element for something else. */
            virtq_push(vq, console->element, 0);
            if (size == sizeof(message))
                control_message(console, &message);
            else
                guest_error(console, "control message of %zu bytes", size);
        }
        virtq_flush(vq);
        if (!left) {
            virtio_device_kick(&console->vdev, CONTROL_TX);
            break;
        }
    } while (virtq_enable_notify(vq));
    tell_driver(console);
}

/* ---- a chardev behind a port ---- */

static void char_deliver(struct console_port *port)
{
    size_t taken;

    if (port->input->len) {
        taken = console_port_write(port, port->input->data, port->input->len);
        if (taken)
            g_byte_array_remove_range(port->input, 0, taken);
    }
    if (!port->input->len && port->deferred) {
        port->deferred = false;
        console_port_set_open(port, false);
    }
}

static size_t char_can_receive(void *opaque)
{
    struct console_port *port = opaque;

    if (!port->guest_open) {
        port->starved = true; /* to be told when it opens */
        return 0;
    }
    return INPUT_MAX - port->input->len;
}

static void char_receive(void *opaque, const uint8_t *data, size_t size)
{
    struct console_port *port = opaque;

    g_byte_array_append(port->input, data, size);
    char_deliver(port);
}

static void char_writable(void *opaque)
{
    struct console_port *port = opaque;

    port->impatient = false;
    if (port->patience)
        loop_timer_cancel(port->patience);
    console_port_resume(port);
}

static void patience_ended(void *opaque)
{
    struct console_port *port = opaque;

    log_info("virtio", "%s: whoever reads its output takes nothing; what follows is lost",
             console_name(port->console));
    port->impatient = true;
    console_port_resume(port);
}

static void char_connected(void *opaque, bool is_open)
{
    struct console_port *port = opaque;

    port->impatient = false; /* of another reader than the one to come */
    /* The peer's last bytes come before its end of file. */
    port->deferred = !is_open && port->input->len;
    if (!port->deferred)
        console_port_set_open(port, is_open);
}

static const struct chardev_client_ops char_client = {
    .can_receive = char_can_receive,
    .receive = char_receive,
    .writable = char_writable,
    .connected = char_connected,
};

static size_t to_char(void *opaque, const uint8_t *data, size_t size)
{
    struct console_port *port = opaque;
    size_t taken = port->impatient ? 0 : char_write(port->chardev, data, size);

    if (taken == size || !port->is_console)
        return taken;
    if (port->impatient)
        return size;
    if (!port->patience)
        port->patience = loop_timer_create(port->console->vdev.loop, patience_ended, port);
    /* Again for each short write: a slow reader is not one that takes nothing. */
    loop_timer_set(port->patience, loop_now_ns() + PATIENCE_NS);
    return taken;
}

static void from_char(void *opaque)
{
    struct console_port *port = opaque;

    char_deliver(port);
    char_accept_input(port->chardev);
}

static void char_guest_open(void *opaque, bool open)
{
    struct console_port *port = opaque;

    if (open)
        char_accept_input(port->chardev);
}

static const struct console_port_ops char_port = {
    .receive = to_char,
    .writable = from_char,
    .guest_open = char_guest_open,
};

void virtio_console_attach_char(struct console_port *port, struct chardev *chardev)
{
    g_clear_pointer(&port->chardev, char_close);
    port->chardev = chardev;
    port->ops = &char_port;
    port->opaque = port;
    port->host_open = false; /* until the chardev says that somebody is there */
    char_set_client(chardev, &char_client, port);
}

/* ---- the device ---- */

static void console_queue_ready(struct virtio_device *vdev, unsigned index)
{
    struct console *console = (struct console *)vdev;
    unsigned port = index < 2 ? 0 : (index - 2) / 2;

    if (port >= console->port_count)
        return;
    if (index == CONTROL_RX && uses_ports(console))
        tell_driver(console);
    else if (index == CONTROL_TX && uses_ports(console))
        control_output(console);
    else if (port && !uses_ports(console))
        return; /* not there without multiport */
    else if (index % 2)
        port_output(&console->ports[port]);
    else
        port_writable(&console->ports[port]);
}

static int console_start(struct virtio_device *vdev)
{
    struct console *console = (struct console *)vdev;

    if (!uses_ports(console) && console->port_count)
        set_guest_open(&console->ports[0], true);
    return 0;
}

static void console_stop(struct virtio_device *vdev)
{
    struct console *console = (struct console *)vdev;

    console->driver_ready = false;
    for (unsigned i = 0; i < console->port_count; i++) {
        struct console_port *port = &console->ports[i];

        port->tell = 0;
        port->told_open = port->ready = false;
        port->tx_done = 0;
        set_guest_open(port, false);
    }
    virtio_device_stopped(vdev);
}

static void console_queue_stop(struct virtio_device *vdev, unsigned index)
{
    struct console *console = (struct console *)vdev;

    for (unsigned i = 0; i < console->port_count; i++)
        if (rx_queue(i) + 1 == index)
            console->ports[i].tx_done = 0;
    virtio_device_queue_stopped(vdev, index);
}

static void console_config_written(struct virtio_device *vdev, unsigned offset, unsigned size)
{
    struct console *console = (struct console *)vdev;
    struct console_port *port = &console->ports[0];
    uint8_t c = vdev->config[offsetof(struct virtio_console_config, emerg_wr)];

    /* Emergency write: one character, at any time; if the host side is full, it is lost. */
    if (offset <= offsetof(struct virtio_console_config, emerg_wr) && port->is_console &&
        port->ops && port->ops->receive && !port->in_tx)
        port->ops->receive(port->opaque, &c, 1);
}

/* The chardev and handlers are those of now: what they would do differs from what was saved. */
static bool console_after_load(struct virtio_device *vdev, GError **error)
{
    struct console *console = (struct console *)vdev;
    unsigned saved = console->port_count;

    console->port_count = console->ports_added;
    if (saved != console->ports_added) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%s: saved state: %u ports, this console has %u", console_name(console), saved,
                    console->ports_added);
        return false;
    }
    for (unsigned i = 0; i < console->port_count; i++) {
        struct console_port *port = &console->ports[i];

        port->blocked = false;
        port->starved = true;
        if (port->tell &
                ~(TELL_ADD | TELL_CONSOLE | TELL_NAME | TELL_SIZE | TELL_CLOSED | TELL_OPEN) ||
            (port->tell & TELL_NAME && !port->name)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "%s: saved state: port %u: messages 0x%x", console_name(console), i,
                        port->tell);
            return false;
        }
        if (port->ops && port->ops->guest_open)
            port->ops->guest_open(port->opaque, port->guest_open);
    }
    return true;
}

static void console_resume(struct virtio_device *vdev)
{
    struct console *console = (struct console *)vdev;

    for (unsigned i = 0; i < console->port_count; i++)
        announce_open(&console->ports[i]);
}

static void console_destroy(struct virtio_device *vdev)
{
    struct console *console = (struct console *)vdev;

    for (unsigned i = 0; i < console->port_count; i++) {
        loop_timer_destroy(console->ports[i].patience);
        g_clear_pointer(&console->ports[i].chardev, char_close);
        g_free(console->ports[i].name);
        g_free(console->ports[i].tx);
    }
    for (unsigned i = 0; i < VIRTIO_CONSOLE_MAX_PORTS; i++)
        g_byte_array_free(console->ports[i].input, true);
    virtio_device_finish(vdev);
    g_free(console->element);
    g_free(console);
}

static const struct state_field port_fields[] = {
    STATE_U8(struct console_port, tell, 1),
    STATE_BOOL(struct console_port, told_open, 1),
    STATE_BOOL(struct console_port, ready, 1),
    STATE_BOOL(struct console_port, guest_open, 1),
    STATE_U32(struct console_port, tx_done, 1),
    STATE_BUFFER(struct console_port, input, INPUT_MAX, 1),
    STATE_END,
};
static const struct state_table port_state = {"console-port", 1, 1, port_fields};

static const struct state_field console_fields[] = {
    STATE_BOOL(struct console, driver_ready, 1),
    STATE_U16(struct console, columns, 1),
    STATE_U16(struct console, rows, 1),
    STATE_U32(struct console, port_count, 1),
    STATE_STRUCTS(struct console, ports, false, port_count, VIRTIO_CONSOLE_MAX_PORTS, &port_state,
                  1),
    STATE_END,
};
static const struct state_table console_state = {"console", 1, 1, console_fields};

static const struct virtio_class console_class = {
    .type = "virtio-console",
    .id = VIRTIO_ID_CONSOLE,
    .pci_class = 0x078000, /* communication controller, other */
    .features = BIT(VIRTIO_CONSOLE_F_SIZE) | BIT(VIRTIO_CONSOLE_F_EMERG_WRITE),
    .config_size = sizeof(struct virtio_console_config),
    .start = console_start,
    .stop = console_stop,
    .queue_ready = console_queue_ready,
    .queue_stop = console_queue_stop,
    .config_written = console_config_written,
    .resume = console_resume,
    .state_table = &console_state,
    .after_load = console_after_load,
    .destroy = console_destroy,
};

struct virtio_device *virtio_console_create(const struct options *options, struct loop *loop,
                                            GError **error)
{
    const uint32_t one = 1;
    struct virtio_ring_options ring;
    struct console *console;
    uint16_t queue_size;
    int ret;

    if (!virtio_ring_options_read(options, &ring, &queue_size, error))
        return NULL;
    console = g_new0(struct console, 1);
    console->queue_size = queue_size;
    ret = virtio_device_init(&console->vdev, &console_class, 2, queue_size, loop);
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "%s: event files: %s",
                    options_what(options), g_strerror(-ret));
        g_free(console);
        return NULL;
    }
    virtio_device_set_ring_options(&console->vdev, &ring);
    console->element = virtq_element_create(MAX_PIECES);
    for (unsigned i = 0; i < VIRTIO_CONSOLE_MAX_PORTS; i++)
        console->ports[i].input = g_byte_array_new(); /* also for what a saved state names */
    virtio_device_set_config(&console->vdev, offsetof(struct virtio_console_config, max_nr_ports),
                             &one, sizeof(one), false);
    memset(console->vdev.config_writable + offsetof(struct virtio_console_config, emerg_wr), 0xff,
           4);
    return &console->vdev;
}

static bool add_port_queues(struct console *console, const char *name, bool is_console,
                            GError **error)
{
    unsigned needed = 0;
    uint32_t ports = console->port_count + 1;
    int ret;

    if (ports > VIRTIO_CONSOLE_MAX_PORTS) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "%s: port '%s': a console has at most %u ports", console_name(console),
                    name ? name : "", VIRTIO_CONSOLE_MAX_PORTS);
        return false;
    }
    if (name && (!*name || strlen(name) > NAME_MAX_BYTES || !g_utf8_validate(name, -1, NULL))) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "%s: port name '%s': must be 1 to %u bytes of UTF-8", console_name(console),
                    name, NAME_MAX_BYTES);
        return false;
    }
    if (!console->multiport && (ports > 1 || name || !is_console)) {
        console->multiport = true;
        console->vdev.offered |= BIT(VIRTIO_CONSOLE_F_MULTIPORT);
        needed += 2;
    }
    needed += ports > 1 ? 2 : 0;
    ret = virtio_device_add_queues(&console->vdev, needed, console->queue_size);
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "%s: port '%s': queues: %s",
                    console_name(console), name ? name : "", g_strerror(-ret));
        return false;
    }
    virtio_device_set_config(&console->vdev, offsetof(struct virtio_console_config, max_nr_ports),
                             &ports, sizeof(ports), false);
    return true;
}

struct console_port *virtio_console_add_port(struct virtio_device *vdev, const char *name,
                                             bool is_console, const struct console_port_ops *ops,
                                             void *opaque, GError **error)
{
    struct console *console = (struct console *)vdev;
    struct console_port *port;

    g_assert(vdev->class == &console_class && !vdev->device);
    if (!add_port_queues(console, name, is_console, error))
        return NULL;
    port = &console->ports[console->port_count];
    port->console = console;
    port->index = console->port_count++;
    port->name = g_strdup(name);
    port->is_console = is_console;
    port->ops = ops;
    port->opaque = opaque;
    port->host_open = true;
    port->tx = virtq_element_create(MAX_PIECES);
    console->ports_added = console->port_count;
    return port;
}

void virtio_console_resize(struct virtio_device *vdev, uint16_t columns, uint16_t rows)
{
    struct console *console = (struct console *)vdev;
    const uint16_t size[2] = {columns, rows};

    console->columns = columns;
    console->rows = rows;
    /* Without multiport the driver reads it from here; else it only takes the messages. */
    virtio_device_set_config(vdev, offsetof(struct virtio_console_config, cols), size, sizeof(size),
                             !uses_ports(console) &&
                                 virtio_device_has(vdev, VIRTIO_CONSOLE_F_SIZE));
    if (!uses_ports(console))
        return;
    for (unsigned i = 0; i < console->port_count; i++)
        if (console->ports[i].is_console && console->ports[i].ready)
            console->ports[i].tell |= TELL_SIZE;
    tell_driver(console);
}
