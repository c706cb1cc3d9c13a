/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pvpanic, as its stock driver uses it: map BAR 0, ask which events there are, write one. */
#include "devices/pvpanic.h"

#include <linux/pci_regs.h>
#include <misc/pvpanic.h>

#include "tests/device/harness.h"

struct fixture {
    struct harness *h;
    struct pvpanic *pvpanic;
    unsigned slot;
};

static void setup(struct fixture *x, gconstpointer data)
{
    GError *error = NULL;

    x->h = harness_create(0);
    x->pvpanic = pvpanic_create("pvpanic", &x->h->env, &x->h->shutdown, &error);
    g_assert_no_error(error);
    x->slot = harness_attach(x->h, pvpanic_function(x->pvpanic));
}

static void teardown(struct fixture *x, gconstpointer data)
{
    harness_detach(x->h, pvpanic_function(x->pvpanic));
    pvpanic_destroy(x->pvpanic);
    harness_destroy(x->h);
}

static void test_identity(struct fixture *x, gconstpointer data)
{
    g_assert_cmphex(harness_config_read(x->h, x->slot, PCI_VENDOR_ID, 4), ==, 0x00111b36);
    g_assert_cmphex(harness_config_read(x->h, x->slot, PCI_CLASS_DEVICE, 2), ==, 0x0880);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, 0, 0, 1), ==,
                    PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
}

static void test_panic(struct fixture *x, gconstpointer data)
{
    harness_bar_write(x->h, x->slot, 0, 0, 1, PVPANIC_PANICKED);
    g_assert_cmpint(x->h->shutdown_reason, ==, SHUTDOWN_PANIC);
    g_assert_cmpint(x->h->shutdown_status, ==, PVPANIC_PANICKED);
    g_assert_cmpuint(x->h->shutdowns, ==, 1);
}

static void test_crash_kernel_takes_over(struct fixture *x, gconstpointer data)
{
    harness_bar_write(x->h, x->slot, 0, 0, 1, PVPANIC_CRASH_LOADED);
    g_assert_cmpint(x->h->shutdown_reason, ==, SHUTDOWN_CRASH_LOADED);
    g_assert_cmpuint(x->h->shutdowns, ==, 1);
}

static void test_unknown_events_are_ignored(struct fixture *x, gconstpointer data)
{
    uint64_t errors = log_guest_errors();

    harness_bar_write(x->h, x->slot, 0, 0, 1, 0xf8);
    harness_bar_write(x->h, x->slot, 0, 0, 1, 0);
    harness_bar_write(x->h, x->slot, 0, 8, 4, 0xffffffff); /* beside the register */
    g_assert_cmpuint(x->h->shutdowns, ==, 0);
    g_assert_cmpuint(log_guest_errors(), ==, errors + 1);
}

static void test_state(struct fixture *x, gconstpointer data)
{
    struct device *device = &pvpanic_function(x->pvpanic)->device;
    g_autoptr(GByteArray) saved = harness_save(device);
    g_autoptr(GError) error = NULL;

    device_reset(device);
    g_assert_true(harness_load_state(device, saved, &error));
    harness_bar_write(x->h, x->slot, 0, 0, 1, PVPANIC_PANICKED);
    g_assert_cmpuint(x->h->shutdowns, ==, 1);
}

#define ADD(PATH, TEST) g_test_add(PATH, struct fixture, NULL, setup, TEST, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    ADD("/pvpanic/identity", test_identity);
    ADD("/pvpanic/panic", test_panic);
    ADD("/pvpanic/crash-loaded", test_crash_kernel_takes_over);
    ADD("/pvpanic/unknown", test_unknown_events_are_ignored);
    ADD("/pvpanic/state", test_state);
    return g_test_run();
}
