/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a guest that writes anything to the devices on fixed ports: serial, RTC, ACPI
 * registers, debug-exit, boot timing. The input is a sequence of 8-byte operations: kind, width,
 * port (16 bits, within a device's range or anywhere), value (32 bits). In between the host presses
 * the power button, sends characters, saves states and loads them, broken or not.
 *
 * Whatever it does, each device works after a reset.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/acpi.h"
#include "devices/boottime.h"
#include "devices/exit.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "tests/device/harness.h"
#include "vmm/layout.h"

#define OPERATIONS 2000
#define DEVICES    5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct machine {
    struct harness *h;
    struct chardev *chardev;
    int line;
    struct serial *serial;
    struct rtc *rtc;
    struct acpi *acpi;
    struct debug_exit *debug_exit;
    struct boottime *boottime;
    struct device *devices[DEVICES];
};

static void create(struct machine *m)
{
    struct harness *h = m->h = harness_create(1 << 21);
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    g_autofree char *text = g_strdup_printf("type=fd,fd=%d", fds[0]);
    g_autoptr(options_t) options = options_parse(char_options, "--serial", text, NULL);
    m->chardev = char_open(options, h->loop, NULL);
    close(fds[0]); /* it has its own */
    m->line = fds[1];
    struct serial_config serial = {.name = "serial0",
                                   .ports = h->ports,
                                   .base = LAYOUT_PORT_SERIAL0,
                                   .interrupts = h->interrupts,
                                   .gsi = LAYOUT_GSI_SERIAL0,
                                   .chardev = m->chardev,
                                   .loop = h->loop};
    struct rtc_config rtc = {.ports = h->ports,
                             .base = LAYOUT_PORT_RTC,
                             .interrupts = h->interrupts,
                             .gsi = LAYOUT_GSI_RTC,
                             .loop = h->loop};
    struct acpi_config acpi = {h->ports, LAYOUT_PORT_ACPI, h->interrupts, LAYOUT_GSI_ACPI,
                               h->shutdown};
    struct debug_exit_config debug_exit = {h->ports, LAYOUT_PORT_DEBUG_EXIT, h->shutdown};
    struct boottime_config boottime = {h->ports, LAYOUT_PORT_BOOT_TIMING};
    m->serial = serial_create(&serial, NULL);
    m->rtc = rtc_create(&rtc, NULL);
    m->acpi = acpi_create(&acpi, NULL);
    m->debug_exit = debug_exit_create(&debug_exit, NULL);
    m->boottime = boottime_create(&boottime, NULL);
    struct device *devices[] = {serial_device(m->serial), rtc_device(m->rtc), acpi_device(m->acpi),
                                debug_exit_device(m->debug_exit), boottime_device(m->boottime)};
    memcpy(m->devices, devices, sizeof(devices));
}

static void destroy(struct machine *m)
{
    serial_destroy(m->serial);
    rtc_destroy(m->rtc);
    acpi_destroy(m->acpi);
    debug_exit_destroy(m->debug_exit);
    boottime_destroy(m->boottime);
    char_close(m->chardev);
    close(m->line);
    harness_destroy(m->h);
}

static void reload(struct machine *m, const uint8_t *op)
{
    struct device *device = m->devices[op[1] % DEVICES];
    g_autoptr(GByteArray) saved = harness_save(device);
    g_autoptr(GError) error = NULL;
    unsigned at = op[2] | op[3] << 8;

    if (op[4] & 1 && saved->len)
        saved->data[at % saved->len] ^= op[5];
    if (op[4] & 2)
        g_byte_array_set_size(saved, at % (saved->len + 1));
    if (harness_load_state(device, saved, &error) != (error == NULL))
        g_error("a load that failed without an error, or the other way round");
}

static void operate(struct machine *m, const uint8_t *op)
{
    static const struct {
        uint16_t base, count;
    } ranges[] = {
        {LAYOUT_PORT_SERIAL0, SERIAL_PORTS},  {LAYOUT_PORT_RTC, 2},
        {LAYOUT_PORT_ACPI, LAYOUT_ACPI_SIZE}, {LAYOUT_PORT_DEBUG_EXIT, DEBUG_EXIT_PORTS},
        {LAYOUT_PORT_BOOT_TIMING, 1},
    };
    unsigned range = op[1] >> 2 & 7, size = 1u << (op[1] & 3);
    unsigned port = op[2] | op[3] << 8;
    uint32_t value;
    char buffer[256];

    memcpy(&value, op + 4, 4);
    if (range < G_N_ELEMENTS(ranges))
        port = ranges[range].base + port % ranges[range].count;
    switch (op[0] % 8) {
    case 0:
    case 1:
    case 2:
        bus_write(m->h->ports, port, size, value);
        break;
    case 3:
    case 4:
        bus_read(m->h->ports, port, size);
        break;
    case 5:
        acpi_raise(m->acpi, value & (LAYOUT_ACPI_EVENT_POWER_BUTTON | LAYOUT_ACPI_EVENT_VMGENID));
        break;
    case 6:
        if (write(m->line, op, 1 + value % 7) < 0 || read(m->line, buffer, sizeof(buffer)) < 0) {
            /* Full, or nothing there. */
        }
        harness_settle(m->h, 0);
        break;
    case 7:
        if (value & 0x80)
            device_reset(m->devices[op[1] % DEVICES]);
        else
            reload(m, op);
        break;
    }
}

static void check_they_still_work(struct machine *m)
{
    struct bus *ports = m->h->ports;

    for (unsigned i = 0; i < DEVICES; i++)
        device_reset(m->devices[i]);
    bus_write(ports, LAYOUT_PORT_SERIAL0 + 7, 1, 0x5a);
    g_assert_cmphex(bus_read(ports, LAYOUT_PORT_SERIAL0 + 7, 1), ==, 0x5a);
    bus_write(ports, LAYOUT_PORT_RTC, 1, 0x0d);
    g_assert_cmphex(bus_read(ports, LAYOUT_PORT_RTC + 1, 1), ==, 0x80);
    acpi_power_button(m->acpi);
    g_assert_cmphex(bus_read(ports, LAYOUT_PORT_ACPI + LAYOUT_ACPI_EVENT, 4), ==,
                    LAYOUT_ACPI_EVENT_POWER_BUTTON);
    bus_write(ports, LAYOUT_PORT_BOOT_TIMING, 1, 0x7f);
    g_assert_cmpuint(boottime_get(m->boottime, 0x7f).count, ==, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct machine m = {0};

    log_set_levels("error", NULL);
    create(&m);
    for (unsigned done = 0; size >= 8 && done < OPERATIONS; done++, data += 8, size -= 8)
        operate(&m, data);
    check_they_still_work(&m);
    destroy(&m);
    return 0;
}
