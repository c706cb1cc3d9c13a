/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 16550A, as its stock driver uses it, with a socket pair for a line. */
#include "devices/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/device/harness.h"
#include "vmm/layout.h"

struct fixture {
    struct harness *h;
    struct chardev *chardev;
    struct serial *serial;
    int line; /* the far end */
};

static void setup(struct fixture *x, gconstpointer data)
{
    GError *error = NULL;
    int fds[2];

    x->h = harness_create(0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    g_autofree char *text = g_strdup_printf("type=fd,fd=%d", fds[0]);
    g_autoptr(options_t) options = options_parse(char_options, "--serial", text, &error);
    g_assert_no_error(error);
    x->chardev = char_open(options, x->h->loop, &error);
    g_assert_no_error(error);
    close(fds[0]); /* the backend has its own */
    x->line = fds[1];
    struct serial_config config = {.name = "serial0",
                                   .ports = x->h->ports,
                                   .base = LAYOUT_PORT_SERIAL0,
                                   .interrupts = x->h->interrupts,
                                   .gsi = LAYOUT_GSI_SERIAL0,
                                   .chardev = x->chardev,
                                   .loop = x->h->loop};
    x->serial = serial_create(&config, &error);
    g_assert_no_error(error);
    devices_add(&x->h->devices, serial_device(x->serial), &error);
    g_assert_no_error(error);
}

static void teardown(struct fixture *x, gconstpointer data)
{
    devices_remove(&x->h->devices, serial_device(x->serial));
    serial_destroy(x->serial);
    char_close(x->chardev);
    close(x->line);
    harness_destroy(x->h);
}

static uint8_t in(struct fixture *x, unsigned reg)
{
    return (uint8_t)bus_read(x->h->ports, LAYOUT_PORT_SERIAL0 + reg, 1);
}

static void out(struct fixture *x, unsigned reg, uint8_t value)
{
    bus_write(x->h->ports, LAYOUT_PORT_SERIAL0 + reg, 1, value);
}

static uint64_t interrupts(struct fixture *x)
{
    return harness_gsi_count(x->h, LAYOUT_GSI_SERIAL0);
}

/* As the driver's startup: FIFOs on and clear, 8 bits, 115200, modem controls up. */
static void start(struct fixture *x, uint8_t trigger, uint8_t ier)
{
    out(x, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT | trigger);
    out(x, UART_LCR, UART_LCR_DLAB);
    out(x, UART_DLL, 1);
    out(x, UART_DLM, 0);
    out(x, UART_LCR, UART_LCR_WLEN8);
    out(x, UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
    out(x, UART_IER, ier);
}

struct line_wait {
    struct fixture *x;
    GString *got;
    size_t want;
};

static bool line_has(void *opaque)
{
    struct line_wait *wait = opaque;
    char buffer[512];
    ssize_t size;

    while ((size = read(wait->x->line, buffer, sizeof(buffer))) > 0)
        g_string_append_len(wait->got, buffer, size);
    return wait->got->len >= wait->want;
}

/* What comes out at the far end, once it is as much as @text; the caller's expectation. */
static void expect_output(struct fixture *x, const char *text)
{
    struct line_wait wait = {x, g_string_new(NULL), strlen(text)};

    g_assert_true(harness_wait(x->h, line_has, &wait, HARNESS_TIMEOUT_MS));
    g_assert_cmpstr(wait.got->str, ==, text);
    g_string_free(wait.got, TRUE);
}

static bool data_ready(void *opaque)
{
    return in(opaque, UART_LSR) & UART_LSR_DR;
}

static void send_to_guest(struct fixture *x, const char *text)
{
    g_assert_cmpint(write(x->line, text, strlen(text)), ==, (ssize_t)strlen(text));
}

static void test_driver_finds_a_16550a(struct fixture *x, gconstpointer data)
{
    /* The steps of the kernel's autoconfig, in its order. */
    out(x, UART_IER, 0);
    g_assert_cmphex(in(x, UART_IER) & 0x0f, ==, 0);
    out(x, UART_IER, 0x0f);
    g_assert_cmphex(in(x, UART_IER) & 0x0f, ==, 0x0f);
    out(x, UART_IER, 0);
    out(x, UART_MCR, UART_MCR_LOOP | 0x0a);
    g_assert_cmphex(in(x, UART_MSR) & 0xf0, ==, 0x90);
    out(x, UART_MCR, 0);
    out(x, UART_LCR, 0xbf);
    out(x, UART_LCR, 0);
    out(x, UART_FCR, UART_FCR_ENABLE_FIFO);
    g_assert_cmphex(in(x, UART_IIR) >> 6, ==, 3);
    out(x, UART_FCR, UART_FCR_ENABLE_FIFO | 0x20); /* no 64-byte FIFO */
    g_assert_cmphex(in(x, UART_IIR) & 0x20, ==, 0);
    out(x, UART_IER, 0x40); /* no XScale */
    g_assert_cmphex(in(x, UART_IER), ==, 0);
    out(x, UART_SCR, 0xa5);
    g_assert_cmphex(in(x, UART_SCR), ==, 0xa5);
}

static void test_divisor_latch(struct fixture *x, gconstpointer data)
{
    out(x, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
    out(x, UART_DLL, 0x34);
    out(x, UART_DLM, 0x12);
    g_assert_cmphex(in(x, UART_DLL), ==, 0x34);
    g_assert_cmphex(in(x, UART_DLM), ==, 0x12);
    out(x, UART_LCR, UART_LCR_WLEN8);
    g_assert_cmphex(in(x, UART_IER), ==, 0);
    g_assert_cmphex(in(x, UART_RX), ==, 0);
}

static void test_polled_output(struct fixture *x, gconstpointer data)
{
    static const char text[] = "Linux version 6.1.0\r\nand a second line\r\n";

    start(x, 0, 0);
    for (const char *c = text; *c; c++) {
        g_assert_cmphex(in(x, UART_LSR), ==, UART_LSR_THRE | UART_LSR_TEMT);
        out(x, UART_TX, (uint8_t)*c);
    }
    expect_output(x, text);
    g_assert_cmpuint(interrupts(x), ==, 0);
}

static void test_output_goes_out_in_batches(struct fixture *x, gconstpointer data)
{
    struct line_wait wait = {x, g_string_new(NULL), 1};
    char buffer[64];

    start(x, 0, 0);
    for (unsigned i = 0; i < 40; i++)
        out(x, UART_TX, 'x');
    g_assert_cmpint(read(x->line, buffer, sizeof(buffer)), ==, -1); /* nothing yet */
    serial_flush(x->serial);
    g_assert_true(harness_wait(x->h, line_has, &wait, HARNESS_TIMEOUT_MS));
    g_assert_cmpuint(wait.got->len, ==, 40);
    g_string_free(wait.got, TRUE);
}

static void test_transmitter_interrupt(struct fixture *x, gconstpointer data)
{
    start(x, 0, 0);
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_NO_INT);
    out(x, UART_IER, UART_IER_THRI); /* is it empty? it says so at once */
    g_assert_cmpuint(interrupts(x), ==, 1);
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_THRI);
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_NO_INT); /* reading acknowledges */
    for (unsigned i = 0; i < 16; i++)
        out(x, UART_TX, 'a'); /* a FIFO's worth, as the driver's burst */
    g_assert_cmpuint(interrupts(x), ==, 2);
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_THRI);
    for (unsigned i = 0; i < 3; i++)
        out(x, UART_TX, 'b'); /* less than that: after a while */
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_NO_INT);
    g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_SERIAL0, 3, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_THRI);
    out(x, UART_IER, 0);
    out(x, UART_IER, UART_IER_THRI); /* the driver's test for a chip that forgets */
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_THRI);
    expect_output(x, "aaaaaaaaaaaaaaaabbb");
}

static void test_without_fifo_every_character_interrupts(struct fixture *x, gconstpointer data)
{
    out(x, UART_IER, UART_IER_THRI);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmphex(in(x, UART_IIR), ==, UART_IIR_THRI);
        out(x, UART_TX, 'c');
    }
    g_assert_cmpuint(interrupts(x), ==, 4);
    expect_output(x, "ccc");
}

static void test_input_at_the_trigger_level(struct fixture *x, gconstpointer data)
{
    start(x, UART_FCR_TRIGGER_8, UART_IER_RDI);
    send_to_guest(x, "12345678");
    g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_SERIAL0, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_RDI);
    for (unsigned i = 0; i < 8; i++) {
        g_assert_cmphex(in(x, UART_LSR) & UART_LSR_DR, ==, UART_LSR_DR);
        g_assert_cmpint(in(x, UART_RX), ==, '1' + i);
    }
    g_assert_cmphex(in(x, UART_LSR) & UART_LSR_DR, ==, 0);
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_NO_INT);
}

static void test_input_below_the_trigger_level_times_out(struct fixture *x, gconstpointer data)
{
    start(x, UART_FCR_TRIGGER_14, UART_IER_RDI);
    send_to_guest(x, "ok");
    g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_SERIAL0, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(in(x, UART_IIR), ==, 0xcc);
    g_assert_cmpint(in(x, UART_RX), ==, 'o');
    g_assert_cmpint(in(x, UART_RX), ==, 'k');
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_NO_INT);
}

static void test_long_input_loses_nothing(struct fixture *x, gconstpointer data)
{
    g_autoptr(GString) sent = g_string_new(NULL), got = g_string_new(NULL);

    start(x, UART_FCR_TRIGGER_8, UART_IER_RDI);
    for (unsigned i = 0; i < 500; i++)
        g_string_append_printf(sent, "%u ", i);
    send_to_guest(x, sent->str);
    while (got->len < sent->len) {
        g_assert_true(harness_wait(x->h, data_ready, x, HARNESS_TIMEOUT_MS));
        g_string_append_c(got, (char)in(x, UART_RX));
    }
    g_assert_cmpstr(got->str, ==, sent->str);
    g_assert_cmphex(in(x, UART_LSR) & UART_LSR_OE, ==, 0);
}

static void test_loopback(struct fixture *x, gconstpointer data)
{
    start(x, 0, 0);
    out(x, UART_MCR, UART_MCR_LOOP);
    g_assert_cmphex(in(x, UART_MSR) & 0xf0, ==, 0);
    out(x, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR | UART_MCR_OUT1);
    g_assert_cmphex(in(x, UART_MSR), ==, UART_MSR_DSR | UART_MSR_RI | UART_MSR_DDSR);
    out(x, UART_MCR, UART_MCR_LOOP);
    g_assert_cmphex(in(x, UART_MSR), ==, UART_MSR_DDSR | UART_MSR_TERI);
    for (unsigned i = 0; i < 17; i++)
        out(x, UART_TX, (uint8_t)('A' + i));
    g_assert_cmphex(in(x, UART_LSR) & UART_LSR_OE, ==, UART_LSR_OE); /* one too many */
    g_assert_cmphex(in(x, UART_LSR) & UART_LSR_OE, ==, 0);
    for (unsigned i = 0; i < 16; i++)
        g_assert_cmpint(in(x, UART_RX), ==, 'A' + i);
    harness_settle(x->h, 5);
    char byte;
    g_assert_cmpint(read(x->line, &byte, 1), ==, -1); /* none of it went out */
    out(x, UART_MCR, 0);
    g_assert_cmphex(in(x, UART_MSR) & 0xf0, ==, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
}

static void test_interrupt_priorities(struct fixture *x, gconstpointer data)
{
    start(x, 0, 0);
    out(x, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS); /* modem lines change, input overruns */
    for (unsigned i = 0; i < 17; i++)
        out(x, UART_TX, 'z');
    out(x, UART_IER, 0x0f);
    g_assert_cmphex(in(x, UART_IIR) & 0x0f, ==, UART_IIR_RLSI);
    in(x, UART_LSR);
    g_assert_cmphex(in(x, UART_IIR) & 0x0f, ==, UART_IIR_RDI);
    for (unsigned i = 0; i < 16; i++)
        in(x, UART_RX);
    g_assert_cmphex(in(x, UART_IIR) & 0x0f, ==, UART_IIR_THRI);
    g_assert_cmphex(in(x, UART_IIR) & 0x0f, ==, UART_IIR_MSI);
    in(x, UART_MSR);
    g_assert_cmphex(in(x, UART_IIR) & 0x0f, ==, UART_IIR_NO_INT);
}

static void test_slow_backend_holds_the_guest(struct fixture *x, gconstpointer data)
{
    g_autoptr(GString) sent = g_string_new(NULL);
    struct line_wait wait = {x, g_string_new(NULL), 0};

    start(x, 0, 0);
    /* Until neither the socket, nor the backend, nor the buffer takes any more. */
    for (unsigned idle = 0; idle < 50 && sent->len < (8u << 20);) {
        if (in(x, UART_LSR) & UART_LSR_THRE) {
            for (unsigned i = 0; i < 16; i++) {
                char c = (char)('a' + sent->len % 23);
                out(x, UART_TX, (uint8_t)c);
                g_string_append_c(sent, c);
            }
            idle = 0;
        } else {
            harness_settle(x->h, 1);
            idle++;
        }
    }
    g_assert_cmphex(in(x, UART_LSR) & UART_LSR_THRE, ==, 0);
    out(x, UART_IER, UART_IER_THRI);
    g_assert_cmphex(in(x, UART_IIR) & 0x0f, ==, UART_IIR_NO_INT);
    uint64_t before = interrupts(x);
    wait.want = sent->len;
    g_assert_true(harness_wait(x->h, line_has, &wait, 4 * HARNESS_TIMEOUT_MS));
    g_assert_true(g_string_equal(wait.got, sent));
    g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_SERIAL0, before + 1, HARNESS_TIMEOUT_MS));
    g_string_free(wait.got, TRUE);
}

static void test_state(struct fixture *x, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    struct device *device = serial_device(x->serial);

    start(x, UART_FCR_TRIGGER_14, UART_IER_RDI);
    out(x, UART_SCR, 0x3c);
    send_to_guest(x, "in");
    g_assert_true(harness_wait(x->h, data_ready, x, HARNESS_TIMEOUT_MS));
    g_autoptr(GByteArray) saved = harness_save(device);
    device_reset(device);
    g_assert_cmphex(in(x, UART_SCR), ==, 0);
    uint64_t before = interrupts(x);
    g_assert_true(harness_load_state(device, saved, &error));
    g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_SERIAL0, before + 1, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(in(x, UART_SCR), ==, 0x3c);
    g_assert_cmpint(in(x, UART_RX), ==, 'i');
    g_assert_cmpint(in(x, UART_RX), ==, 'n');
    g_assert_cmphex(in(x, UART_IIR), ==, 0xc0 | UART_IIR_NO_INT);
}

static void test_broken_state_is_refused(struct fixture *x, gconstpointer data)
{
    struct device *device = serial_device(x->serial);
    g_autoptr(GError) error = NULL;

    g_autoptr(GByteArray) saved = harness_save(device);
    uint8_t *name = memmem(saved->data, saved->len, "rx_count", 8);
    g_assert_nonnull(name);
    name[8 + 1 + 1 + 4] = 17; /* after kind, flags and length: more than fits */
    g_assert_false(harness_load_state(device, saved, &error));
    g_assert_nonnull(strstr(error->message, "serial0"));
    g_assert_cmphex(in(x, UART_LSR), ==, UART_LSR_THRE | UART_LSR_TEMT); /* reset, and well */
}

#define ADD(PATH, TEST) g_test_add(PATH, struct fixture, NULL, setup, TEST, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    ADD("/serial/autoconfig", test_driver_finds_a_16550a);
    ADD("/serial/divisor", test_divisor_latch);
    ADD("/serial/output/polled", test_polled_output);
    ADD("/serial/output/batches", test_output_goes_out_in_batches);
    ADD("/serial/output/interrupt", test_transmitter_interrupt);
    ADD("/serial/output/no-fifo", test_without_fifo_every_character_interrupts);
    ADD("/serial/output/slow-backend", test_slow_backend_holds_the_guest);
    ADD("/serial/input/trigger", test_input_at_the_trigger_level);
    ADD("/serial/input/timeout", test_input_below_the_trigger_level_times_out);
    ADD("/serial/input/long", test_long_input_loses_nothing);
    ADD("/serial/loopback", test_loopback);
    ADD("/serial/priorities", test_interrupt_priorities);
    ADD("/serial/state", test_state);
    ADD("/serial/broken-state", test_broken_state_is_refused);
    return g_test_run();
}
