/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serial - 16550A UART (National Semiconductor PC16550D data sheet)
 *
 * Stock driver: 8250. Line speed and format are registers without effect, but for the time after
 * which received characters below the trigger level are told (four characters' time).
 *
 * Output: a written character goes into a buffer that takes far more than the chip's 16 and is handed
 * to the backend within a millisecond, many at once. The transmitter is therefore empty (LSR) as
 * long as the buffer has room for a FIFO's worth; when the backend is slow it is full, and the guest
 * waits as it would for a slow line. The interrupt of an empty transmitter comes after 16
 * characters, when 16 would have been sent since the first, or at once when it is enabled.
 *
 * Input: 16 characters deep (1 without FIFO); the backend is asked for more when it has drained.
 *
 * Loopback (MCR) connects output to input and the modem controls to the modem status, which the
 * driver tests with. Modem status inputs are else always asserted; OUT2 does not gate the interrupt.
 *
 * Limits: no breaks, no parity or framing errors; no DMA mode.
 *
 * Threads: registers on vCPU threads, backend and timers on the loop; a lock serialises, and is not
 * held while the backend is called.
 */
#include "devices/serial.h"

#include <linux/serial_reg.h>
#include <pthread.h>
#include <string.h>

#include "devices/isa.h"
#include "vmm/loop.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(serial_read, "%s reg=%u value=0x%02x", (const char *name, unsigned reg, unsigned value),
            name, reg, value)
TRACE_EVENT(serial_write, "%s reg=%u value=0x%02x",
            (const char *name, unsigned reg, unsigned value), name, reg, value)
TRACE_EVENT(serial_flush, "%s bytes=%zu taken=%zu", (const char *name, size_t bytes, size_t taken),
            name, bytes, taken)
TRACE_EVENT(serial_receive, "%s bytes=%zu", (const char *name, size_t bytes), name, bytes)
TRACE_EVENT(serial_interrupt, "%s id=0x%02x", (const char *name, unsigned id), name, id)

#define FIFO_SIZE     16
#define TX_SIZE       4096 /* power of two */
#define TX_FLUSH_AT   1024 /* this much does not wait for the timer */
#define TX_FLUSH_NS   INT64_C(1000000)
#define MAX_WAIT_NS   INT64_C(10000000)
#define CLOCK_HZ      1843200
#define MSR_CONNECTED (UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD)
#define IIR_FIFO      0xc0
#define IIR_TIMEOUT   0x0c /* received characters below the trigger level */
#define MCR_BITS      0x1f
#define IER_BITS      0x0f

struct serial {
    struct device device;
    struct serial_config config;
    struct irq_line line;
    struct loop_timer *flush_timer, *rx_timer, *thre_timer;
    struct loop_timer *input_timer; /* deadline now: look for input on the loop */
    pthread_mutex_t lock;
    uint8_t ier, fcr, lcr, mcr, msr, scr;
    uint8_t lsr_errors; /* UART_LSR_OE */
    uint8_t divisor[2];
    bool thre_pending; /* the transmitter became empty, and nobody has looked yet */
    bool rx_timeout;   /* characters have waited long enough */
    uint8_t burst;     /* characters written since the transmitter was last told to be empty */
    uint8_t rx[FIFO_SIZE];
    uint8_t rx_head, rx_count;
    /* Output: positions run on and are taken modulo TX_SIZE; the loop moves head, writes move tail. */
    uint8_t tx[TX_SIZE];
    unsigned tx_head, tx_tail;
    bool tx_blocked; /* the backend takes no more until it says writable */
    GByteArray *saved_tx;
};

/* ---- interrupts; the lock is held ---- */

static unsigned rx_capacity(const struct serial *s)
{
    return s->fcr & UART_FCR_ENABLE_FIFO ? FIFO_SIZE : 1;
}

static unsigned rx_trigger(const struct serial *s)
{
    static const uint8_t levels[] = {1, 4, 8, 14};

    return s->fcr & UART_FCR_ENABLE_FIFO ? levels[s->fcr >> 6] : 1;
}

/* The interrupt identification of what is pending and enabled, by priority. */
static uint8_t identification(const struct serial *s)
{
    if ((s->ier & UART_IER_RLSI) && s->lsr_errors)
        return UART_IIR_RLSI;
    if ((s->ier & UART_IER_RDI) && s->rx_count >= rx_trigger(s))
        return UART_IIR_RDI;
    if ((s->ier & UART_IER_RDI) && s->rx_count && s->rx_timeout)
        return IIR_TIMEOUT;
    if ((s->ier & UART_IER_THRI) && s->thre_pending)
        return UART_IIR_THRI;
    if ((s->ier & UART_IER_MSI) && (s->msr & UART_MSR_ANY_DELTA))
        return UART_IIR_MSI;
    return UART_IIR_NO_INT;
}

static void update_line(struct serial *s)
{
    uint8_t id = identification(s);

    trace_serial_interrupt(s->device.name, id);
    irq_line_set(&s->line, id != UART_IIR_NO_INT);
}

/* Nanoseconds that @count characters take on the line, within reason. */
static int64_t characters_ns(const struct serial *s, unsigned count)
{
    unsigned divisor = s->divisor[0] | s->divisor[1] << 8;
    unsigned bits = 1 + 5 + (s->lcr & UART_LCR_WLEN8) + !!(s->lcr & UART_LCR_PARITY) + 1 +
                    !!(s->lcr & UART_LCR_STOP);

    return MIN(INT64_C(1000000000) * 16 * MAX(divisor, 1) / CLOCK_HZ * bits * count, MAX_WAIT_NS);
}

static unsigned tx_used(const struct serial *s)
{
    return s->tx_tail - s->tx_head;
}

static bool tx_has_room(const struct serial *s)
{
    return TX_SIZE - tx_used(s) >= FIFO_SIZE;
}

static void transmitter_empty(struct serial *s)
{
    s->burst = 0;
    s->thre_pending = true;
    loop_timer_cancel(s->thre_timer);
    update_line(s);
}

static void on_thre_timer(void *opaque)
{
    struct serial *s = opaque;

    pthread_mutex_lock(&s->lock);
    if (device_is_running(&s->device) && s->burst && tx_has_room(s))
        transmitter_empty(s);
    pthread_mutex_unlock(&s->lock);
}

/* ---- output ---- */

void serial_flush(struct serial *s)
{
    bool more = s->config.chardev != NULL;

    pthread_mutex_lock(&s->lock);
    loop_timer_cancel(s->flush_timer);
    if (!more)
        s->tx_head = s->tx_tail;
    while (more && tx_used(s)) {
        unsigned at = s->tx_head % TX_SIZE;
        size_t size = MIN(tx_used(s), TX_SIZE - at);
        pthread_mutex_unlock(&s->lock);
        /* Only this thread takes from the buffer: these bytes stay as they are. */
        size_t taken = char_write(s->config.chardev, s->tx + at, size);
        trace_serial_flush(s->device.name, size, taken);
        pthread_mutex_lock(&s->lock);
        s->tx_head += (unsigned)taken;
        more = taken == size;
        s->tx_blocked = !more;
    }
    /* The driver waits when the buffer was full as it wrote, or as the time for its burst came. */
    if (s->burst && tx_has_room(s) &&
        (s->burst == FIFO_SIZE || loop_timer_deadline(s->thre_timer) < 0))
        transmitter_empty(s);
    pthread_mutex_unlock(&s->lock);
}

static void on_flush(void *opaque)
{
    serial_flush(opaque);
}

/* Locked. */
static void transmit(struct serial *s, uint8_t byte)
{
    unsigned used = tx_used(s);

    if (used == TX_SIZE)
        return; /* written without a look at LSR: lost, as on the chip */
    s->tx[s->tx_tail++ % TX_SIZE] = byte;
    if (!s->tx_blocked && (used == 0 || used + 1 == TX_FLUSH_AT))
        loop_timer_set(s->flush_timer, loop_now_ns() + (used ? 0 : TX_FLUSH_NS));
    s->thre_pending = false;
    if (s->burst < FIFO_SIZE)
        s->burst++;
    bool is_full = s->burst == FIFO_SIZE || !(s->fcr & UART_FCR_ENABLE_FIFO);
    if (is_full && tx_has_room(s)) {
        transmitter_empty(s);
        return;
    }
    if (s->burst == 1 && (s->ier & UART_IER_THRI))
        loop_timer_set(s->thre_timer, loop_now_ns() + characters_ns(s, FIFO_SIZE));
    update_line(s);
}

/* ---- input ---- */

/* Locked. False: no room. */
static bool put_received(struct serial *s, uint8_t byte)
{
    if (s->rx_count >= rx_capacity(s)) {
        s->lsr_errors |= UART_LSR_OE;
        return false;
    }
    s->rx[(s->rx_head + s->rx_count++) % FIFO_SIZE] = byte;
    return true;
}

/* Locked. Characters below the trigger level are told after a while without any change. */
static void watch_received(struct serial *s)
{
    s->rx_timeout = false;
    if (s->rx_count && s->rx_count < rx_trigger(s))
        loop_timer_set(s->rx_timer, loop_now_ns() + characters_ns(s, 4));
    else
        loop_timer_cancel(s->rx_timer);
    update_line(s);
}

static void on_rx_timer(void *opaque)
{
    struct serial *s = opaque;

    pthread_mutex_lock(&s->lock);
    if (s->rx_count && device_is_running(&s->device)) {
        s->rx_timeout = true;
        update_line(s);
    }
    pthread_mutex_unlock(&s->lock);
}

static size_t backend_can_receive(void *opaque)
{
    struct serial *s = opaque;
    size_t room = 0;

    pthread_mutex_lock(&s->lock);
    if (device_is_running(&s->device) && !(s->mcr & UART_MCR_LOOP) && s->rx_count < rx_capacity(s))
        room = rx_capacity(s) - s->rx_count;
    pthread_mutex_unlock(&s->lock);
    return room;
}

static void backend_receive(void *opaque, const uint8_t *data, size_t size)
{
    struct serial *s = opaque;

    trace_serial_receive(s->device.name, size);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < size; i++)
        if (!put_received(s, data[i]))
            break;
    watch_received(s);
    pthread_mutex_unlock(&s->lock);
}

static void backend_writable(void *opaque)
{
    struct serial *s = opaque;

    pthread_mutex_lock(&s->lock);
    s->tx_blocked = false;
    pthread_mutex_unlock(&s->lock);
    serial_flush(s);
}

static const struct chardev_client_ops client_ops = {
    .can_receive = backend_can_receive,
    .receive = backend_receive,
    .writable = backend_writable,
};

static void accept_input(void *opaque)
{
    struct serial *s = opaque;

    char_accept_input(s->config.chardev);
}

/* Locked. The guest made room: the backend is asked on its own thread. */
static void want_input(struct serial *s)
{
    if (s->config.chardev)
        loop_timer_set(s->input_timer, loop_now_ns());
}

static uint8_t take_received(struct serial *s)
{
    if (!s->rx_count)
        return 0;
    uint8_t byte = s->rx[s->rx_head];
    if (!isa_reads_have_effects(&s->device))
        return byte;
    s->rx_head = (s->rx_head + 1) % FIFO_SIZE;
    if (--s->rx_count == 0)
        want_input(s);
    watch_received(s);
    return byte;
}

/* ---- registers; the lock is held ---- */

/* The four status lines: what is connected, or in loopback the four control lines. */
static void update_modem_status(struct serial *s)
{
    uint8_t lines = MSR_CONNECTED;
    uint8_t old = s->msr & 0xf0, deltas;

    if (s->mcr & UART_MCR_LOOP)
        lines = (uint8_t)((s->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
                          (s->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
                          (s->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
                          (s->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0));
    deltas = (uint8_t)((old ^ lines) >> 4);
    if (!(old & UART_MSR_RI) || (lines & UART_MSR_RI))
        deltas &= (uint8_t)~UART_MSR_TERI; /* only its trailing edge counts */
    s->msr = (uint8_t)(lines | (s->msr & UART_MSR_ANY_DELTA) | deltas);
}

static uint8_t read_lsr(struct serial *s)
{
    uint8_t value = s->lsr_errors;

    if (s->rx_count)
        value |= UART_LSR_DR;
    if (tx_has_room(s))
        value |= UART_LSR_THRE | UART_LSR_TEMT;
    if (isa_reads_have_effects(&s->device) && s->lsr_errors) {
        s->lsr_errors = 0;
        update_line(s);
    }
    return value;
}

static uint8_t read_iir(struct serial *s)
{
    uint8_t id = identification(s);

    if (id == UART_IIR_THRI && isa_reads_have_effects(&s->device)) {
        s->thre_pending = false;
        update_line(s);
    }
    return (uint8_t)(id | (s->fcr & UART_FCR_ENABLE_FIFO ? IIR_FIFO : 0));
}

static uint8_t read_msr(struct serial *s)
{
    uint8_t value = s->msr;

    if (isa_reads_have_effects(&s->device)) {
        s->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
        update_line(s);
    }
    return value;
}

static uint8_t read_register(struct serial *s, unsigned reg)
{
    bool divisor = s->lcr & UART_LCR_DLAB;

    switch (reg) {
    case UART_RX:
        return divisor ? s->divisor[0] : take_received(s);
    case UART_IER:
        return divisor ? s->divisor[1] : s->ier;
    case UART_IIR:
        return read_iir(s);
    case UART_LCR:
        return s->lcr;
    case UART_MCR:
        return s->mcr;
    case UART_LSR:
        return read_lsr(s);
    case UART_MSR:
        return read_msr(s);
    default:
        return s->scr;
    }
}

static void write_ier(struct serial *s, uint8_t value)
{
    value &= IER_BITS;
    /* Enabling it asks whether the transmitter is empty now. */
    if ((value & ~s->ier & UART_IER_THRI) && tx_has_room(s)) {
        s->thre_pending = true;
        s->burst = 0;
    }
    if (!(value & UART_IER_THRI))
        loop_timer_cancel(s->thre_timer);
    s->ier = value;
    update_line(s);
}

static void write_fcr(struct serial *s, uint8_t value)
{
    bool toggled = (value ^ s->fcr) & UART_FCR_ENABLE_FIFO;

    /* What was written counts as sent: only received characters can be cleared. */
    if (toggled || ((value & UART_FCR_ENABLE_FIFO) && (value & UART_FCR_CLEAR_RCVR))) {
        s->rx_count = 0;
        want_input(s);
    }
    s->fcr =
        value & UART_FCR_ENABLE_FIFO ? value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK) : 0;
    watch_received(s);
}

static void write_mcr(struct serial *s, uint8_t value)
{
    bool left_loop = (s->mcr & UART_MCR_LOOP) && !(value & UART_MCR_LOOP);

    s->mcr = value & MCR_BITS;
    update_modem_status(s);
    update_line(s);
    if (left_loop)
        want_input(s);
}

static void write_thr(struct serial *s, uint8_t value)
{
    if (!(s->mcr & UART_MCR_LOOP)) {
        transmit(s, value);
        return;
    }
    put_received(s, value);
    watch_received(s);
    transmitter_empty(s);
}

static void write_register(struct serial *s, unsigned reg, uint8_t value)
{
    bool divisor = s->lcr & UART_LCR_DLAB;

    switch (reg) {
    case UART_TX:
        if (divisor)
            s->divisor[0] = value;
        else
            write_thr(s, value);
        break;
    case UART_IER:
        if (divisor)
            s->divisor[1] = value;
        else
            write_ier(s, value);
        break;
    case UART_FCR:
        write_fcr(s, value);
        break;
    case UART_LCR:
        s->lcr = value;
        break;
    case UART_MCR:
        write_mcr(s, value);
        break;
    case UART_SCR:
        s->scr = value;
        break;
    default: /* LSR, MSR: read-only */
        break;
    }
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct serial *s = opaque;
    uint64_t value = 0;

    if (!isa_may_read(&s->device))
        return UINT64_MAX;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_register(s, (unsigned)offset + i) << (8 * i);
    pthread_mutex_unlock(&s->lock);
    trace_serial_read(s->device.name, (unsigned)offset, (unsigned)value);
    return value;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct serial *s = opaque;

    trace_serial_write(s->device.name, (unsigned)offset, (unsigned)value);
    if (!isa_may_write(&s->device))
        return;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < size; i++)
        write_register(s, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
    pthread_mutex_unlock(&s->lock);
}

static const struct bus_ops port_ops = {port_read, port_write};

/* ---- life ---- */

static void cancel_timers(struct serial *s)
{
    loop_timer_cancel(s->flush_timer);
    loop_timer_cancel(s->rx_timer);
    loop_timer_cancel(s->thre_timer);
}

/* Master reset of the chip. Output that the guest wrote before still goes out. */
static void reset(struct device *device)
{
    struct serial *s = (struct serial *)device;

    serial_flush(s);
    pthread_mutex_lock(&s->lock);
    s->ier = s->fcr = s->lcr = s->mcr = s->scr = s->lsr_errors = 0;
    s->divisor[0] = 1; /* 115200 */
    s->divisor[1] = 0;
    s->msr = MSR_CONNECTED;
    s->thre_pending = s->rx_timeout = false;
    s->burst = s->rx_head = s->rx_count = 0;
    loop_timer_cancel(s->rx_timer);
    loop_timer_cancel(s->thre_timer);
    update_line(s);
    want_input(s);
    pthread_mutex_unlock(&s->lock);
}

static void quiesce(struct device *device)
{
    struct serial *s = (struct serial *)device;

    /* What the backend takes at once goes out; the rest is state. */
    serial_flush(s);
    cancel_timers(s);
}

static void resume(struct device *device)
{
    struct serial *s = (struct serial *)device;

    serial_flush(s);
    pthread_mutex_lock(&s->lock);
    bool waiting = s->rx_timeout;
    watch_received(s);
    s->rx_timeout = waiting;
    /* A timer may have been cancelled on the way: an interrupt too early does no harm. */
    if (s->burst && tx_has_room(s))
        transmitter_empty(s);
    update_line(s);
    want_input(s);
    pthread_mutex_unlock(&s->lock);
}

static void before_save(struct device *device)
{
    struct serial *s = (struct serial *)device;

    g_byte_array_set_size(s->saved_tx, 0);
    for (unsigned at = s->tx_head; at != s->tx_tail; at++)
        g_byte_array_append(s->saved_tx, &s->tx[at % TX_SIZE], 1);
}

static bool after_load(struct device *device, GError **error)
{
    struct serial *s = (struct serial *)device;

    if (s->rx_head >= FIFO_SIZE || s->rx_count > FIFO_SIZE || s->burst > FIFO_SIZE ||
        (s->lsr_errors & ~UART_LSR_OE) || (s->saved_tx && s->saved_tx->len > TX_SIZE)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%s: %u received characters from %u, %u to send: not a 16550's state",
                    s->device.name, s->rx_count, s->rx_head, s->saved_tx ? s->saved_tx->len : 0);
        return false;
    }
    s->ier &= IER_BITS;
    s->mcr &= MCR_BITS;
    s->tx_head = s->tx_tail = 0;
    for (unsigned i = 0; s->saved_tx && i < s->saved_tx->len; i++)
        s->tx[s->tx_tail++] = s->saved_tx->data[i];
    s->tx_blocked = false;
    return true;
}

static const struct device_ops device_ops = {
    .quiesce = quiesce,
    .resume = resume,
    .reset = reset,
    .before_save = before_save,
    .after_load = after_load,
};

static const struct state_field state_fields[] = {
    STATE_U8(struct serial, ier, 1),
    STATE_U8(struct serial, fcr, 1),
    STATE_U8(struct serial, lcr, 1),
    STATE_U8(struct serial, mcr, 1),
    STATE_U8(struct serial, msr, 1),
    STATE_U8(struct serial, scr, 1),
    STATE_U8(struct serial, lsr_errors, 1),
    STATE_BYTES(struct serial, divisor, 1),
    STATE_BOOL(struct serial, thre_pending, 1),
    STATE_BOOL(struct serial, rx_timeout, 1),
    STATE_U8(struct serial, burst, 1),
    STATE_BYTES(struct serial, rx, 1),
    STATE_U8(struct serial, rx_head, 1),
    STATE_U8(struct serial, rx_count, 1),
    STATE_BUFFER(struct serial, saved_tx, TX_SIZE, 1),
    STATE_END,
};
static const struct state_table state_table = {"serial", 1, 1, state_fields};

static void release(struct serial *s)
{
    loop_timer_destroy(s->flush_timer);
    loop_timer_destroy(s->rx_timer);
    loop_timer_destroy(s->thre_timer);
    loop_timer_destroy(s->input_timer);
    irq_line_finish(&s->line);
    g_byte_array_unref(s->saved_tx);
    pthread_mutex_destroy(&s->lock);
    device_finish(&s->device);
    g_free(s);
}

struct serial *serial_create(const struct serial_config *config, GError **error)
{
    struct serial *s = g_new0(struct serial, 1);

    s->config = *config;
    device_init(&s->device, config->name, "serial", &device_ops);
    s->device.state_table = &state_table;
    s->device.state_base = s;
    s->config.name = s->device.name; /* the caller's may go */
    pthread_mutex_init(&s->lock, NULL);
    s->saved_tx = g_byte_array_new();
    s->flush_timer = loop_timer_create(config->loop, on_flush, s);
    s->rx_timer = loop_timer_create(config->loop, on_rx_timer, s);
    s->thre_timer = loop_timer_create(config->loop, on_thre_timer, s);
    s->input_timer = loop_timer_create(config->loop, accept_input, s);
    int ret =
        irq_line_init(&s->line, config->interrupts, &s->device, config->gsi, false, config->loop);
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "%s: interrupt %u: %s",
                    s->device.name, config->gsi, g_strerror(-ret));
        release(s);
        return NULL;
    }
    reset(&s->device);
    if (!isa_claim(config->ports, config->base, SERIAL_PORTS, &port_ops, s, s->device.name,
                   error)) {
        release(s);
        return NULL;
    }
    if (config->chardev)
        char_set_client(config->chardev, &client_ops, s);
    return s;
}

void serial_destroy(struct serial *s)
{
    if (!s)
        return;
    bus_remove(s->config.ports, s->config.base);
    serial_flush(s);
    if (s->config.chardev)
        char_set_client(s->config.chardev, NULL, NULL);
    release(s);
}

struct device *serial_device(struct serial *serial)
{
    return &serial->device;
}
