/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small devices on fixed ports: ACPI registers, debug-exit, boot timing; and vmgenid, which uses ACPI. */
#include <string.h>

#include "devices/acpi.h"
#include "devices/boottime.h"
#include "devices/exit.h"
#include "devices/vmgenid.h"
#include "tests/device/harness.h"
#include "vmm/layout.h"

#define ACPI(REGISTER) (LAYOUT_PORT_ACPI + LAYOUT_ACPI_##REGISTER)

struct fixture {
    struct harness *h;
    struct acpi *acpi;
};

static void setup(struct fixture *x, gconstpointer data)
{
    struct acpi_config config = {.base = LAYOUT_PORT_ACPI, .gsi = LAYOUT_GSI_ACPI};
    GError *error = NULL;

    x->h = harness_create(0);
    config.ports = x->h->ports;
    config.interrupts = x->h->interrupts;
    config.shutdown = x->h->shutdown;
    x->acpi = acpi_create(&config, &error);
    g_assert_no_error(error);
    devices_add(&x->h->devices, acpi_device(x->acpi), &error);
    g_assert_no_error(error);
}

static void teardown(struct fixture *x, gconstpointer data)
{
    devices_remove(&x->h->devices, acpi_device(x->acpi));
    acpi_destroy(x->acpi);
    harness_destroy(x->h);
}

static void set_state(struct fixture *x, enum device_state state)
{
    GError *error = NULL;

    devices_set_state(&x->h->devices, state, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
}

/* ---- acpi ---- */

static void test_reset_register(struct fixture *x, gconstpointer data)
{
    bus_write(x->h->ports, ACPI(RESET), 1, LAYOUT_ACPI_RESET_VALUE + 1);
    g_assert_cmpuint(x->h->shutdowns, ==, 0);
    bus_write(x->h->ports, ACPI(RESET), 1, LAYOUT_ACPI_RESET_VALUE);
    g_assert_cmpint(x->h->shutdown_reason, ==, SHUTDOWN_RESET);
}

static void test_sleep_control_turns_off(struct fixture *x, gconstpointer data)
{
    unsigned s5 = LAYOUT_ACPI_S5 << LAYOUT_ACPI_SLP_TYP_SHIFT;

    bus_write(x->h->ports, ACPI(SLEEP_CONTROL), 1, s5);
    g_assert_cmpuint(x->h->shutdowns, ==, 0); /* only with SLP_EN */
    uint64_t errors = log_guest_errors();
    bus_write(x->h->ports, ACPI(SLEEP_CONTROL), 1, LAYOUT_ACPI_SLP_EN | 3 << 2);
    g_assert_cmpuint(x->h->shutdowns, ==, 0); /* S3 is not there */
    g_assert_cmpuint(log_guest_errors(), ==, errors + 1);
    bus_write(x->h->ports, ACPI(SLEEP_CONTROL), 1, LAYOUT_ACPI_SLP_EN | s5);
    g_assert_cmpint(x->h->shutdown_reason, ==, SHUTDOWN_POWER_OFF);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(SLEEP_CONTROL), 1), ==, 0);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(SLEEP_STATUS), 1), ==, 0);
}

static void test_power_button_event(struct fixture *x, gconstpointer data)
{
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==, 0);
    acpi_power_button(x->acpi);
    g_assert_cmpuint(harness_gsi_count(x->h, LAYOUT_GSI_ACPI), ==, 1);
    bus_write(x->h->ports, ACPI(EVENT), 4, 0xffffffff); /* read-only */
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==, LAYOUT_ACPI_EVENT_POWER_BUTTON);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==, 0); /* taken */
}

static void test_every_event_has_its_edge(struct fixture *x, gconstpointer data)
{
    acpi_power_button(x->acpi); /* before the guest listens: it takes no notice */
    acpi_power_button(x->acpi);
    acpi_raise(x->acpi, LAYOUT_ACPI_EVENT_VMGENID);
    g_assert_cmpuint(harness_gsi_count(x->h, LAYOUT_GSI_ACPI), ==, 3);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==,
                    LAYOUT_ACPI_EVENT_POWER_BUTTON | LAYOUT_ACPI_EVENT_VMGENID);
    acpi_power_button(x->acpi);
    g_assert_cmpuint(harness_gsi_count(x->h, LAYOUT_GSI_ACPI), ==, 4);
}

static void test_events_survive_a_move(struct fixture *x, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    acpi_power_button(x->acpi);
    g_autoptr(GByteArray) saved = harness_save(acpi_device(x->acpi));
    device_reset(acpi_device(x->acpi));
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==, 0);
    uint64_t before = harness_gsi_count(x->h, LAYOUT_GSI_ACPI);
    g_assert_true(harness_load_state(acpi_device(x->acpi), saved, &error));
    g_assert_cmpuint(harness_gsi_count(x->h, LAYOUT_GSI_ACPI), >, before);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==, LAYOUT_ACPI_EVENT_POWER_BUTTON);
}

static void test_event_while_paused_interrupts_later(struct fixture *x, gconstpointer data)
{
    set_state(x, DEVICE_STOP);
    acpi_power_button(x->acpi);
    g_assert_cmpuint(harness_gsi_count(x->h, LAYOUT_GSI_ACPI), ==, 0);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==, LAYOUT_ACPI_EVENT_POWER_BUTTON);
    set_state(x, DEVICE_RUNNING);
    g_assert_cmpuint(harness_gsi_count(x->h, LAYOUT_GSI_ACPI), >=, 1);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==, LAYOUT_ACPI_EVENT_POWER_BUTTON);
}

static void test_odd_accesses(struct fixture *x, gconstpointer data)
{
    for (unsigned offset = 0; offset < LAYOUT_ACPI_SIZE; offset++)
        for (unsigned size = 1; size <= 8; size *= 2)
            bus_read(x->h->ports, LAYOUT_PORT_ACPI + offset, size);
    acpi_power_button(x->acpi);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT) + 1, 1), ==, 0); /* not its byte */
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 1), ==, LAYOUT_ACPI_EVENT_POWER_BUTTON);
}

static void test_taken_ports_are_an_error(struct fixture *x, gconstpointer data)
{
    struct acpi_config config = {.ports = x->h->ports,
                                 .base = LAYOUT_PORT_ACPI + 4,
                                 .interrupts = x->h->interrupts,
                                 .gsi = 10,
                                 .shutdown = x->h->shutdown};
    g_autoptr(GError) error = NULL;

    g_assert_null(acpi_create(&config, &error));
    g_assert_nonnull(strstr(error->message, "0x604"));
}

/* ---- debug-exit ---- */

static void test_debug_exit(struct fixture *x, gconstpointer data)
{
    struct debug_exit_config config = {x->h->ports, LAYOUT_PORT_DEBUG_EXIT, x->h->shutdown};
    struct debug_exit *debug_exit = debug_exit_create(&config, NULL);

    g_assert_nonnull(debug_exit);
    g_assert_cmphex(bus_read(x->h->ports, LAYOUT_PORT_DEBUG_EXIT, 1), ==, 0);
    bus_write(x->h->ports, LAYOUT_PORT_DEBUG_EXIT, 4, 5);
    g_assert_cmpint(x->h->shutdown_reason, ==, SHUTDOWN_DEBUG_EXIT);
    g_assert_cmpint(x->h->shutdown_status, ==, 5);
    g_assert_cmpint(debug_exit_code(5), ==, 11);
    g_assert_cmpint(debug_exit_code(0), ==, 1);
    g_assert_cmpint(debug_exit_code(-1), ==, 0xff);
    debug_exit_destroy(debug_exit);
    g_assert_cmphex(bus_read(x->h->ports, LAYOUT_PORT_DEBUG_EXIT, 1), ==, 0xff);
}

/* ---- boot timing ---- */

static void test_boot_timing(struct fixture *x, gconstpointer data)
{
    struct boottime_config config = {x->h->ports, LAYOUT_PORT_BOOT_TIMING};
    struct boottime *boottime = boottime_create(&config, NULL);
    int64_t before = boottime_now_ns();

    bus_write(x->h->ports, LAYOUT_PORT_BOOT_TIMING, 1, 0x61);
    bus_write(x->h->ports, LAYOUT_PORT_BOOT_TIMING, 1, 0x40);
    bus_write(x->h->ports, LAYOUT_PORT_BOOT_TIMING, 1, 0x61);
    bus_write(x->h->ports, LAYOUT_PORT_BOOT_TIMING, 1, 0xed); /* not a code of ours */
    g_assert_cmphex(bus_read(x->h->ports, LAYOUT_PORT_BOOT_TIMING, 1), ==, 0xed);

    struct boottime_entry user = boottime_get(boottime, 0x61),
                          kernel = boottime_get(boottime, 0x40);
    g_assert_cmpuint(user.count, ==, 2);
    g_assert_cmpuint(kernel.count, ==, 1);
    g_assert_cmpuint(boottime_get(boottime, 0x41).count, ==, 0);
    g_assert_cmpint(user.first_ns, >=, before);
    g_assert_cmpint(user.first_ns, <=, kernel.first_ns);
    g_assert_cmpint(kernel.first_ns, <=, user.last_ns);
    g_assert_cmpint(user.last_ns, <=, boottime_now_ns());
    g_assert_cmpint(before, >, 0);
    g_assert_cmpstr(boottime_phase(0x1f), ==, "firmware");
    g_assert_cmpstr(boottime_phase(0x7f), ==, "user");

    g_autoptr(JsonObject) object = json_object_new();
    boottime_to_json(boottime, object);
    JsonArray *rows = json_object_get_array_member(object, "boot-timing");
    g_assert_cmpuint(json_array_get_length(rows), ==, 2);
    JsonObject *first = json_array_get_object_element(rows, 0);
    g_assert_cmpint(json_object_get_int_member(first, "code"), ==, 0x61); /* by time */
    g_assert_cmpint(json_object_get_int_member(first, "count"), ==, 2);

    device_reset(boottime_device(boottime)); /* another boot, another table */
    g_assert_cmpuint(boottime_get(boottime, 0x61).count, ==, 0);
    boottime_destroy(boottime);
}

/* ---- vmgenid ---- */

static struct vmgenid *add_vmgenid(struct fixture *x, const uint8_t *guid)
{
    struct vmgenid_config config = {x->h->memory, LAYOUT_VMGENID, x->acpi, guid};
    GError *error = NULL;
    struct vmgenid *vmgenid = vmgenid_create(&config, &error);

    g_assert_no_error(error);
    devices_add(&x->h->devices, vmgenid_device(vmgenid), &error);
    g_assert_no_error(error);
    return vmgenid;
}

static void remove_vmgenid(struct fixture *x, struct vmgenid *vmgenid)
{
    devices_remove(&x->h->devices, vmgenid_device(vmgenid));
    vmgenid_destroy(vmgenid);
}

static const uint8_t some_guid[VMGENID_SIZE] = {0x32, 0x4e, 0x6e, 0xaf, 0xd1, 0xd1, 0x4b, 0xf6,
                                                0xbf, 0x41, 0xb9, 0xbb, 0x6c, 0x91, 0xfb, 0x87};

static void test_vmgenid_is_in_memory(struct fixture *x, gconstpointer data)
{
    struct vmgenid *vmgenid = add_vmgenid(x, some_guid);

    g_assert_cmphex(vmgenid_address(vmgenid), ==, LAYOUT_VMGENID);
    g_assert_cmpmem(harness_ptr(x->h, LAYOUT_VMGENID, 16), 16, some_guid, 16);
    g_assert_cmpuint(harness_gsi_count(x->h, LAYOUT_GSI_ACPI), ==, 0); /* no news at start */
    remove_vmgenid(x, vmgenid);
}

static void test_new_vmgenid_notifies(struct fixture *x, gconstpointer data)
{
    struct vmgenid *vmgenid = add_vmgenid(x, NULL);
    uint8_t first[VMGENID_SIZE];

    harness_read(x->h, LAYOUT_VMGENID, first, sizeof(first));
    g_assert_cmpmem(first, 16, vmgenid_guid(vmgenid), 16);
    g_assert_true(vmgenid_renew(vmgenid, NULL));
    g_assert_cmpmem(harness_ptr(x->h, LAYOUT_VMGENID, 16), 16, vmgenid_guid(vmgenid), 16);
    g_assert_cmpint(memcmp(first, vmgenid_guid(vmgenid), 16), !=, 0);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==, LAYOUT_ACPI_EVENT_VMGENID);
    remove_vmgenid(x, vmgenid);
}

static void test_vmgenid_waits_for_a_paused_machine(struct fixture *x, gconstpointer data)
{
    struct vmgenid *vmgenid = add_vmgenid(x, NULL);
    uint8_t first[VMGENID_SIZE];

    harness_read(x->h, LAYOUT_VMGENID, first, sizeof(first));
    set_state(x, DEVICE_STOP);
    vmgenid_set_guid(vmgenid, some_guid);
    g_assert_cmpmem(harness_ptr(x->h, LAYOUT_VMGENID, 16), 16, first, 16);
    set_state(x, DEVICE_RUNNING);
    g_assert_cmpmem(harness_ptr(x->h, LAYOUT_VMGENID, 16), 16, some_guid, 16);
    g_assert_cmphex(bus_read(x->h->ports, ACPI(EVENT), 4), ==, LAYOUT_ACPI_EVENT_VMGENID);
    remove_vmgenid(x, vmgenid);
}

static void test_vmgenid_after_a_reset(struct fixture *x, gconstpointer data)
{
    struct vmgenid *vmgenid = add_vmgenid(x, some_guid);

    memset(harness_ptr(x->h, LAYOUT_VMGENID, 16), 0, 16);
    device_reset(vmgenid_device(vmgenid));
    g_assert_cmpmem(harness_ptr(x->h, LAYOUT_VMGENID, 16), 16, some_guid, 16);
    remove_vmgenid(x, vmgenid);
}

static void test_vmgenid_outside_memory_is_an_error(struct fixture *x, gconstpointer data)
{
    struct vmgenid_config config = {x->h->memory, UINT64_C(1) << 40, x->acpi, some_guid};
    g_autoptr(GError) error = NULL;

    g_assert_null(vmgenid_create(&config, &error));
    g_assert_nonnull(strstr(error->message, "0x10000000000"));
}

#define ADD(PATH, TEST) g_test_add(PATH, struct fixture, NULL, setup, TEST, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    ADD("/acpi/reset", test_reset_register);
    ADD("/acpi/off", test_sleep_control_turns_off);
    ADD("/acpi/power-button", test_power_button_event);
    ADD("/acpi/edges", test_every_event_has_its_edge);
    ADD("/acpi/state", test_events_survive_a_move);
    ADD("/acpi/paused", test_event_while_paused_interrupts_later);
    ADD("/acpi/odd-accesses", test_odd_accesses);
    ADD("/acpi/taken-ports", test_taken_ports_are_an_error);
    ADD("/debug-exit", test_debug_exit);
    ADD("/boot-timing", test_boot_timing);
    ADD("/vmgenid/memory", test_vmgenid_is_in_memory);
    ADD("/vmgenid/renew", test_new_vmgenid_notifies);
    ADD("/vmgenid/paused", test_vmgenid_waits_for_a_paused_machine);
    ADD("/vmgenid/reset", test_vmgenid_after_a_reset);
    ADD("/vmgenid/bad-address", test_vmgenid_outside_memory_is_an_error);
    return g_test_run();
}
