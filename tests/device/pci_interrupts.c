/* SPDX-License-Identifier: GPL-2.0-or-later */
/* MSI-X, INTx, reset, lifecycle and state of PCI functions. */
#include <errno.h>
#include <string.h>

#include "tests/device/sample.h"
#include "vmm/dma.h"
#include "vmm/layout.h"
#include "vmm/state.h"

/* ---- MSI-X ---- */

static void test_msix_delivers(struct fixture *x, gconstpointer data)
{
    g_assert_cmpuint(harness_msix_enable(x->h, x->slot, 3), ==, SAMPLE_VECTORS);
    pci_function_fire(x->f, 1);
    pci_function_fire(x->f, 2);
    pci_function_fire(x->f, 2);
    g_assert_true(harness_wait_msi(x->h, x->slot, 2, 2, HARNESS_TIMEOUT_MS));
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 0);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 1), ==, 1);
    pci_function_fire(x->f, SAMPLE_VECTORS); /* no such vector */
    pci_function_fire(x->f, 0xffff);
}

static void test_masked_vector_is_pending_until_unmasked(struct fixture *x, gconstpointer data)
{
    unsigned last = SAMPLE_VECTORS - 1; /* its bit is in the second word */

    harness_msix_enable(x->h, x->slot, SAMPLE_VECTORS);
    harness_msix_mask(x->h, x->slot, last, true);
    g_assert_false(harness_msix_pending(x->h, x->slot, last));
    pci_function_fire(x->f, last);
    g_assert_true(harness_msix_pending(x->h, x->slot, last));
    g_assert_false(harness_msix_pending(x->h, x->slot, last - 1));
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, last), ==, 0);
    harness_msix_mask(x->h, x->slot, last, false);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, last), ==, 1);
    g_assert_false(harness_msix_pending(x->h, x->slot, last));
    harness_bar_write(x->h, x->slot, BIG, PBA_AT, 8, UINT64_MAX); /* read-only */
    g_assert_cmphex(harness_bar_read(x->h, x->slot, BIG, PBA_AT, 8), ==, 0);
}

static void test_function_mask(struct fixture *x, gconstpointer data)
{
    unsigned cap = harness_capability(x->h, x->slot, PCI_CAP_ID_MSIX, 0);

    harness_msix_enable(x->h, x->slot, 2);
    set_cfg(x, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    pci_function_fire(x->f, 0);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 0);
    g_assert_true(harness_msix_pending(x->h, x->slot, 0));
    set_cfg(x, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 1);
    g_assert_cmphex(cfg(x, cap + PCI_MSIX_FLAGS, 2), ==,
                    PCI_MSIX_FLAGS_ENABLE | (SAMPLE_VECTORS - 1));
}

static void test_message_changes_while_unmasked(struct fixture *x, gconstpointer data)
{
    uint64_t address = harness_msix_address(x->slot, 0);

    harness_msix_enable(x->h, x->slot, 1);
    harness_bar_write(x->h, x->slot, BIG, TABLE_AT + PCI_MSIX_ENTRY_DATA, 4, 0x7777);
    pci_function_fire(x->f, 0);
    g_assert_cmpuint(harness_message_count(x->h, address, 0x7777), ==, 1);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 0);
    /* 64-bit writes reach two registers at once. */
    harness_bar_write(x->h, x->slot, BIG, TABLE_AT, 8, address | 0xf000);
    pci_function_fire(x->f, 0);
    g_assert_cmpuint(harness_message_count(x->h, address | 0xf000, 0x7777), ==, 1);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, BIG, TABLE_AT, 8), ==, address | 0xf000);
}

static void test_vector_control_keeps_only_its_mask(struct fixture *x, gconstpointer data)
{
    uint64_t control = TABLE_AT + PCI_MSIX_ENTRY_VECTOR_CTRL;

    g_assert_cmphex(harness_bar_read(x->h, x->slot, BIG, control, 4), ==, 1); /* at power-on */
    harness_bar_write(x->h, x->slot, BIG, control, 4, 0xfffffffe);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, BIG, control, 4), ==, 0);
}

static void test_msix_off_fires_nothing(struct fixture *x, gconstpointer data)
{
    pci_function_fire(x->f, 0);
    harness_msix_enable(x->h, x->slot, 1);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 0);
    harness_msix_mask(x->h, x->slot, 0, true);
    pci_function_fire(x->f, 0);
    harness_msix_disable(x->h, x->slot); /* what was pending is gone with it */
    harness_msix_enable(x->h, x->slot, 1);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 0);
}

static void test_bus_mastering_gates_messages_and_dma(struct fixture *x, gconstpointer data)
{
    uint64_t gpa = harness_alloc(x->h, 64, 0);
    uint32_t word = 0x12345678;

    harness_msix_enable(x->h, x->slot, 1);
    g_assert_cmpint(dma_write(&x->f->dma, gpa, &word, 4), ==, 0);
    harness_command(x->h, x->slot, 0, PCI_COMMAND_MASTER);
    g_assert_cmpint(dma_write(&x->f->dma, gpa + 4, &word, 4), ==, -EACCES);
    g_assert_cmphex(harness_load(x->h, gpa, 8), ==, word);
    pci_function_fire(x->f, 0);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 0);
    harness_command(x->h, x->slot, PCI_COMMAND_MASTER, 0);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 1);
    g_assert_cmpint(dma_write(&x->f->dma, gpa + 4, &word, 4), ==, 0);
}

static void test_bad_msix_layouts_are_refused(struct fixture *x, gconstpointer data)
{
    struct sample *s = sample_create_bare(x->h, "huge");
    struct pci_function *f = &s->function;

    pci_function_add_bar(f, 0, 0x1000, 0);
    pci_function_add_bar(f, 1, 0x20, PCI_BAR_IO);
    g_assert_cmpint(pci_function_add_msix(f, 0, 0, 0, 0x800), ==, -EINVAL);
    g_assert_cmpint(pci_function_add_msix(f, 2049, 0, 0, 0x800), ==, -EINVAL);
    g_assert_cmpint(pci_function_add_msix(f, 1, 1, 0, 0x10), ==, -EINVAL);  /* ports */
    g_assert_cmpint(pci_function_add_msix(f, 1, 2, 0, 0x10), ==, -EINVAL);  /* no such BAR */
    g_assert_cmpint(pci_function_add_msix(f, 2, 0, 0, 0x18), ==, -EINVAL);  /* overlap */
    g_assert_cmpint(pci_function_add_msix(f, 256, 0, 8, 0), ==, -EINVAL);   /* too long */
    g_assert_cmpint(pci_function_add_msix(f, 1, 0, 4, 0x800), ==, -EINVAL); /* unaligned */
    g_assert_cmpint(pci_function_add_msix(f, 2, 0, 0, 0x20), ==, 0);
    sample_destroy(s);
}

/* ---- the interrupt pin ---- */

static uint32_t gsi_of(struct fixture *x)
{
    return pci_host_gsi(x->slot, 1);
}

static void test_intx_is_a_level(struct fixture *x, gconstpointer data)
{
    uint32_t gsi = gsi_of(x);

    g_assert_cmpuint(cfg(x, PCI_INTERRUPT_PIN, 1), ==, 1);
    g_assert_cmpuint(cfg(x, PCI_INTERRUPT_LINE, 1), ==, gsi);
    pci_function_set_intx(x->f, true);
    g_assert_true(harness_gsi_level(x->h, gsi));
    g_assert_cmphex(cfg(x, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, ==, PCI_STATUS_INTERRUPT);
    harness_eoi(x->h, gsi);
    g_assert_cmpuint(harness_gsi_count(x->h, gsi), ==, 2); /* still up: asserted again */
    pci_function_set_intx(x->f, false);
    harness_eoi(x->h, gsi);
    g_assert_cmpuint(harness_gsi_count(x->h, gsi), ==, 2);
    g_assert_cmphex(cfg(x, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, ==, 0);
}

static void test_intx_disable_bit(struct fixture *x, gconstpointer data)
{
    uint32_t gsi = gsi_of(x);

    harness_command(x->h, x->slot, PCI_COMMAND_INTX_DISABLE, 0);
    pci_function_set_intx(x->f, true);
    g_assert_cmpuint(harness_gsi_count(x->h, gsi), ==, 0);
    g_assert_cmphex(cfg(x, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, ==, PCI_STATUS_INTERRUPT);
    harness_command(x->h, x->slot, 0, PCI_COMMAND_INTX_DISABLE);
    g_assert_cmpuint(harness_gsi_count(x->h, gsi), ==, 1);
}

static void test_intx_is_silent_while_msix_is_on(struct fixture *x, gconstpointer data)
{
    harness_msix_enable(x->h, x->slot, 1);
    pci_function_set_intx(x->f, true);
    g_assert_cmpuint(harness_gsi_count(x->h, gsi_of(x)), ==, 0);
    harness_msix_disable(x->h, x->slot);
    g_assert_cmpuint(harness_gsi_count(x->h, gsi_of(x)), ==, 1);
}

static void test_functions_share_a_line(struct fixture *x, gconstpointer data)
{
    struct sample *other = sample_create(x->h, "sample1");
    uint32_t gsi = gsi_of(x);
    GError *error = NULL;

    pci_host_attach(x->h->host, &other->function, (int)x->slot + PCI_GSIS, 0, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(other->function.intx.pin, ==, gsi);
    pci_function_set_intx(x->f, true);
    pci_function_set_intx(&other->function, true);
    g_assert_true(harness_gsi_level(x->h, gsi));
    pci_function_set_intx(x->f, false);
    harness_eoi(x->h, gsi);
    g_assert_true(harness_gsi_level(x->h, gsi)); /* the other one still wants it */
    pci_function_set_intx(&other->function, false);
    harness_eoi(x->h, gsi);
    g_assert_false(harness_gsi_level(x->h, gsi));
    pci_host_detach(x->h->host, &other->function);
    sample_destroy(other);
}

/* ---- reset, lifecycle, state ---- */

static void test_reset_returns_to_what_firmware_set(struct fixture *x, gconstpointer data)
{
    uint64_t regs = harness_bar_address(x->h, x->slot, REGS);

    harness_msix_enable(x->h, x->slot, 1);
    set_cfg(x, x->s->vendor_cap + 4, 1, 0x33);
    move_bar(x, REGS, LAYOUT_MMIO32_BASE + 0x1230000);
    pci_function_set_intx(x->f, true);
    x->f->device.ops->reset(&x->f->device);

    g_assert_cmphex(harness_bar_address(x->h, x->slot, REGS), ==, regs);
    g_assert_cmphex(bus_read(x->h->mmio, regs, 4), ==, 0);
    g_assert_cmphex(cfg(x, PCI_COMMAND, 2), ==, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    g_assert_cmphex(cfg(x, x->s->vendor_cap + 4, 1), ==, 0xaf);
    g_assert_cmphex(cfg(x, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, ==, 0);
    g_assert_false(pci_function_msix_enabled(x->f));
    g_assert_cmphex(harness_bar_read(x->h, x->slot, BIG, TABLE_AT, 8), ==, 0);
    g_assert_cmpint(dma_allowed(&x->f->dma, DMA_TO_DEVICE), ==, -EACCES);

    pci_function_reset(x->f, false);
    g_assert_cmphex(cfg(x, PCI_COMMAND, 2), ==, 0);
    g_assert_cmphex(cfg(x, PCI_BASE_ADDRESS_0, 4), ==, 0);
    g_assert_cmphex(cfg(x, PCI_BASE_ADDRESS_2, 4), ==, 0xc);
    g_assert_cmphex(bus_read(x->h->mmio, regs, 4), ==, 0xffffffff);
}

static void set_state(struct fixture *x, enum device_state state)
{
    GError *error = NULL;

    devices_set_state(&x->h->devices, state, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
}

static void test_lifecycle_gates_accesses(struct fixture *x, gconstpointer data)
{
    device_violations_fatal(false); /* this guest does what a stopped one would not */
    harness_bar_write(x->h, x->slot, REGS, 0, 4, 0x11);
    set_state(x, DEVICE_STOP);
    harness_bar_write(x->h, x->slot, REGS, 0, 4, 0x22); /* dropped and counted */
    g_assert_cmpuint(x->f->device.violations, ==, 1);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, REGS, 0, 4), ==, 0x11);
    g_assert_cmphex(cfg(x, PCI_VENDOR_ID, 2), ==, SAMPLE_VENDOR);
    harness_bar_write(x->h, x->slot, BIG, TABLE_AT, 4, 0xfee01000); /* MSI-X is answered */
    g_assert_cmphex(harness_bar_read(x->h, x->slot, BIG, TABLE_AT, 4), ==, 0xfee01000);
    uint64_t regs = harness_bar_address(x->h, x->slot, REGS);
    set_state(x, DEVICE_STOP_COPY);
    g_assert_cmphex(cfg(x, PCI_VENDOR_ID, 4), ==, 0xffffffff);
    g_assert_cmphex(bus_read(x->h->mmio, regs, 2), ==, 0xffff);
    g_assert_cmphex(pci_function_region_read(x->f, BIG, TABLE_AT, 8), ==, UINT64_MAX);
    set_cfg(x, PCI_COMMAND, 2, 0);
    set_state(x, DEVICE_RUNNING);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, REGS, 0, 4), ==, 0x11);
}

static void test_interrupts_wait_in_p2p(struct fixture *x, gconstpointer data)
{
    harness_msix_enable(x->h, x->slot, 1);
    set_state(x, DEVICE_RUNNING_P2P);
    pci_function_fire(x->f, 0);
    pci_function_fire(x->f, 0);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 0);
    set_state(x, DEVICE_RUNNING);
    g_assert_cmpuint(harness_msi_count(x->h, x->slot, 0), ==, 1);
}

static void test_state_moves_to_another_machine(struct fixture *x, gconstpointer data)
{
    struct fixture y;
    g_autoptr(GError) error = NULL;
    uint64_t place = LAYOUT_MMIO32_BASE + 0x1230000;

    fixture_setup(&y, NULL);
    harness_msix_enable(x->h, x->slot, 2);
    harness_msix_mask(x->h, x->slot, 1, true);
    pci_function_fire(x->f, 1); /* pending */
    move_bar(x, REGS, place);
    set_cfg(x, x->s->vendor_cap + 4, 1, 0x03);
    g_autoptr(GByteArray) saved = harness_save(&x->f->device);

    g_assert_true(harness_load_state(&y.f->device, saved, &error));
    g_assert_no_error(error);
    g_assert_cmphex(bus_read(y.h->mmio, place, 4), ==, 0);
    g_assert_cmphex(cfg(&y, y.s->vendor_cap + 4, 1), ==, cfg(x, x->s->vendor_cap + 4, 1));
    pci_function_fire(y.f, 0);
    g_assert_cmpuint(harness_msi_count(y.h, y.slot, 0), ==, 1);
    g_assert_cmpuint(harness_msi_count(y.h, y.slot, 1), ==, 0);
    g_assert_true(harness_msix_pending(y.h, y.slot, 1));
    harness_msix_mask(y.h, y.slot, 1, false);
    g_assert_cmpuint(harness_msi_count(y.h, y.slot, 1), ==, 1);
    fixture_teardown(&y, NULL);
}

static void test_saved_twice_is_the_same(struct fixture *x, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    harness_msix_enable(x->h, x->slot, 5);
    harness_msix_mask(x->h, x->slot, 3, true);
    pci_function_fire(x->f, 3);
    pci_function_set_intx(x->f, true);
    g_autoptr(GByteArray) first = harness_save(&x->f->device);
    g_assert_true(harness_load_state(&x->f->device, first, &error));
    g_autoptr(GByteArray) second = harness_save(&x->f->device);
    g_assert_cmpmem(first->data, first->len, second->data, second->len);
}

static void test_foreign_state_is_refused(struct fixture *x, gconstpointer data)
{
    g_autoptr(GByteArray) saved = harness_save(&x->f->device);
    g_autoptr(GError) error = NULL;
    uint8_t *config = memmem(saved->data, saved->len, x->f->config, 64);

    g_assert_nonnull(config);
    config[PCI_DEVICE_ID] ^= 1; /* another device */
    g_assert_false(harness_load_state(&x->f->device, saved, &error));
    g_assert_nonnull(strstr(error->message, "sample0"));
    g_clear_error(&error);
    config[PCI_DEVICE_ID] ^= 1;
    config[x->s->vendor_cap + 5] ^= 1; /* a read-only bit of a capability */
    g_assert_false(harness_load_state(&x->f->device, saved, &error));
    g_clear_error(&error);
    config[x->s->vendor_cap + 5] ^= 1;
    g_assert_true(harness_load_state(&x->f->device, saved, &error));
    g_assert_cmphex(cfg(x, PCI_VENDOR_ID, 4), ==, SAMPLE_DEVICE << 16 | SAMPLE_VENDOR);
}

static void test_truncated_state_is_refused(struct fixture *x, gconstpointer data)
{
    g_autoptr(GByteArray) saved = harness_save(&x->f->device);

    for (unsigned len = 0; len < saved->len; len += len < 64 ? 1 : 97) {
        g_autoptr(GByteArray) cut = g_byte_array_append(g_byte_array_new(), saved->data, len);
        g_autoptr(GError) error = NULL;
        g_assert_false(harness_load_state(&x->f->device, cut, &error));
        g_assert_nonnull(error);
    }
    g_assert_cmphex(cfg(x, PCI_VENDOR_ID, 4), ==, SAMPLE_DEVICE << 16 | SAMPLE_VENDOR);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL); /* hostile guests are logged; that is not news here */
    ADD("/pci/msix/delivers", test_msix_delivers);
    ADD("/pci/msix/pending", test_masked_vector_is_pending_until_unmasked);
    ADD("/pci/msix/function-mask", test_function_mask);
    ADD("/pci/msix/message-change", test_message_changes_while_unmasked);
    ADD("/pci/msix/vector-control", test_vector_control_keeps_only_its_mask);
    ADD("/pci/msix/off", test_msix_off_fires_nothing);
    ADD("/pci/msix/bad-layouts", test_bad_msix_layouts_are_refused);
    ADD("/pci/bus-mastering", test_bus_mastering_gates_messages_and_dma);
    ADD("/pci/intx/level", test_intx_is_a_level);
    ADD("/pci/intx/disable", test_intx_disable_bit);
    ADD("/pci/intx/shared", test_functions_share_a_line);
    ADD("/pci/intx/msix", test_intx_is_silent_while_msix_is_on);
    ADD("/pci/reset", test_reset_returns_to_what_firmware_set);
    ADD("/pci/lifecycle/gates", test_lifecycle_gates_accesses);
    ADD("/pci/lifecycle/p2p", test_interrupts_wait_in_p2p);
    ADD("/pci/state/moves", test_state_moves_to_another_machine);
    ADD("/pci/state/twice", test_saved_twice_is_the_same);
    ADD("/pci/state/foreign", test_foreign_state_is_refused);
    ADD("/pci/state/truncated", test_truncated_state_is_refused);
    return g_test_run();
}
