/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PCI functions and the host bridge, as a guest's config and BAR accesses see them. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/device/sample.h"
#include "vmm/layout.h"

/* ---- configuration space ---- */

static void test_absent_functions_read_ones(struct fixture *x, gconstpointer data)
{
    g_assert_cmphex(harness_ecam_read(x->h, 31 * 8, 0, 4), ==, 0xffffffff);
    g_assert_cmphex(harness_ecam_read(x->h, 31 * 8 + 7, 0xffe, 2), ==, 0xffff);
    g_assert_cmphex(harness_ecam_read(x->h, x->slot * 8 + 1, 0, 4), ==, 0xffffffff);
    g_assert_cmphex(harness_port_config_read(x->h, 31 * 8, 0, 4), ==, 0xffffffff);
    harness_ecam_write(x->h, 31 * 8, 4, 4, 7); /* and writes are dropped */
}

static void test_the_bridge_is_function_0(struct fixture *x, gconstpointer data)
{
    g_assert_cmphex(harness_ecam_read(x->h, 0, PCI_CLASS_DEVICE, 2), ==, 0x0600);
    g_assert_cmphex(harness_ecam_read(x->h, 0, PCI_COMMAND, 2) & 3, ==, 0); /* decodes nothing */
}

static void test_identity(struct fixture *x, gconstpointer data)
{
    g_assert_cmphex(cfg(x, PCI_VENDOR_ID, 4), ==, SAMPLE_DEVICE << 16 | SAMPLE_VENDOR);
    g_assert_cmphex(cfg(x, PCI_CLASS_REVISION, 4), ==, 0xff000107);
    g_assert_cmphex(cfg(x, PCI_SUBSYSTEM_VENDOR_ID, 4), ==, 0x12341af4);
    g_assert_cmphex(cfg(x, PCI_HEADER_TYPE, 1), ==, 0);
    g_assert_cmphex(cfg(x, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, ==, PCI_STATUS_CAP_LIST);
    set_cfg(x, PCI_VENDOR_ID, 4, 0x12345678);
    g_assert_cmphex(cfg(x, PCI_VENDOR_ID, 4), ==, SAMPLE_DEVICE << 16 | SAMPLE_VENDOR);
}

static void test_every_width_and_alignment_agrees(struct fixture *x, gconstpointer data)
{
    uint64_t ecam = pci_host_windows(x->h->host)->ecam_base + x->slot * 8 * 4096;

    for (unsigned offset = 0; offset < 0x100; offset += 4) {
        if (offset >= x->s->vendor_cap && offset < x->s->vendor_cap + 12)
            continue; /* changes as it is read */
        uint32_t whole = cfg(x, offset, 4);
        for (unsigned i = 0; i < 4; i++)
            g_assert_cmphex(cfg(x, offset + i, 1), ==, whole >> (8 * i) & 0xff);
        for (unsigned i = 0; i < 3; i++)
            g_assert_cmphex(cfg(x, offset + i, 2), ==, whole >> (8 * i) & 0xffff);
        g_assert_cmphex(bus_read(x->h->mmio, ecam + offset, 8) & 0xffffffff, ==, whole);
    }
    g_assert_cmphex(bus_read(x->h->mmio, ecam + 0xffc, 8) >> 32, ==, 0xffffffff);
    g_assert_cmphex(cfg(x, 0xffe, 4) >> 16, ==, 0xffff); /* beyond the function's 4 KiB */
}

static void test_masks(struct fixture *x, gconstpointer data)
{
    unsigned at = x->s->vendor_cap;

    set_cfg(x, at + 4, 1, 0x20); /* low nibble written, one sticky bit cleared */
    g_assert_cmphex(cfg(x, at + 4, 1), ==, 0x80);
    set_cfg(x, at + 4, 1, 0x05);
    g_assert_cmphex(cfg(x, at + 4, 1), ==, 0x85);
    set_cfg(x, at + 5, 1, 0xff);
    g_assert_cmphex(cfg(x, at + 5, 1), ==, 0x5a);
    set_cfg(x, at + 3, 4, 0x00ff8f00); /* unaligned, over all of them */
    g_assert_cmphex(cfg(x, at + 4, 1), ==, 0x0f);
    g_assert_cmphex(cfg(x, at + 5, 1), ==, 0x5a);
}

static void test_device_hooks(struct fixture *x, gconstpointer data)
{
    unsigned at = x->s->vendor_cap, reads = x->s->config_reads, writes = x->s->config_writes;

    g_assert_cmphex(cfg(x, at + 8, 4), ==, reads + 1); /* filled as it is read */
    set_cfg(x, at + 4, 1, 0);
    g_assert_cmpuint(x->s->config_writes, ==, writes + 1);
}

static void test_capability_lists(struct fixture *x, gconstpointer data)
{
    unsigned pcie = harness_capability(x->h, x->slot, PCI_CAP_ID_EXP, 0);
    struct sample *other = sample_create(x->h, "sample1");
    struct pci_function *f = &other->function;

    g_assert_cmpuint(pcie, !=, 0);
    g_assert_cmphex(cfg(x, pcie + PCI_EXP_FLAGS, 2), ==, PCI_EXP_TYPE_RC_END << 4 | 2);
    g_assert_cmpuint(harness_capability(x->h, x->slot, PCI_CAP_ID_MSIX, 0), !=, 0);
    g_assert_cmpuint(harness_capability(x->h, x->slot, PCI_CAP_ID_VNDR, 0), ==, x->s->vendor_cap);
    g_assert_cmpuint(harness_capability(x->h, x->slot, PCI_CAP_ID_PM, 0), ==, 0);

    g_assert_cmpint(pci_function_add_extended_capability(f, PCI_EXT_CAP_ID_DSN, 1, 12), ==, 0x100);
    g_assert_cmpint(pci_function_add_extended_capability(f, PCI_EXT_CAP_ID_VNDR, 1, 0x10), ==,
                    0x10c);
    g_assert_cmpint(pci_function_add_extended_capability(f, PCI_EXT_CAP_ID_LTR, 1, 0xf00), ==,
                    -ENOSPC);
    g_assert_cmpint(pci_function_add_capability(f, PCI_CAP_ID_PM, 200), ==, -ENOSPC);
    unsigned slot = harness_attach(x->h, f);
    g_assert_cmphex(harness_extended_capability(x->h, slot, PCI_EXT_CAP_ID_VNDR), ==, 0x10c);
    g_assert_cmphex(harness_extended_capability(x->h, slot, PCI_EXT_CAP_ID_LTR), ==, 0);
    harness_detach(x->h, f);
    sample_destroy(other);
}

static void test_configuration_ports(struct fixture *x, gconstpointer data)
{
    unsigned devfn = x->slot * 8;

    g_assert_cmphex(harness_port_config_read(x->h, devfn, PCI_VENDOR_ID, 4), ==,
                    SAMPLE_DEVICE << 16 | SAMPLE_VENDOR);
    g_assert_cmphex(harness_port_config_read(x->h, devfn, PCI_DEVICE_ID, 2), ==, SAMPLE_DEVICE);
    g_assert_cmphex(harness_port_config_read(x->h, devfn, PCI_REVISION_ID, 1), ==, 7);
    g_assert_cmphex(harness_port_config_read(x->h, devfn, PCI_CLASS_DEVICE + 1, 1), ==, 0xff);
    harness_port_config_write(x->h, devfn, PCI_INTERRUPT_LINE, 1, 0x2a);
    g_assert_cmphex(cfg(x, PCI_INTERRUPT_LINE, 1), ==, 0x2a);

    /* Only a dword reaches the address register; the probe of the kernel's conf1 relies on it. */
    bus_write(x->h->ports, 0xcf8, 4, 0x80000000);
    bus_write(x->h->ports, 0xcfb, 1, 1);
    g_assert_cmphex(bus_read(x->h->ports, 0xcf8, 4), ==, 0x80000000);
    bus_write(x->h->ports, 0xcf8, 4, 0xffffffff);
    g_assert_cmphex(bus_read(x->h->ports, 0xcf8, 4), ==, 0x80fffffc);

    bus_write(x->h->ports, 0xcf8, 4, devfn << 8); /* not enabled */
    g_assert_cmphex(bus_read(x->h->ports, 0xcfc, 4), ==, 0xffffffff);
    bus_write(x->h->ports, 0xcf8, 4, 0x80010000 | devfn << 8); /* bus 1 */
    g_assert_cmphex(bus_read(x->h->ports, 0xcfc, 4), ==, 0xffffffff);
}

static void test_multifunction_bit(struct fixture *x, gconstpointer data)
{
    struct sample *second = sample_create(x->h, "sample1");
    GError *error = NULL;

    pci_host_attach(x->h->host, &second->function, (int)x->slot, 3, &error);
    g_assert_no_error(error);
    g_assert_cmphex(cfg(x, PCI_HEADER_TYPE, 1), ==, 0x80);
    g_assert_cmphex(harness_ecam_read(x->h, x->slot * 8 + 3, PCI_VENDOR_ID, 2), ==, SAMPLE_VENDOR);
    g_assert_cmphex(harness_ecam_read(x->h, x->slot * 8 + 3, PCI_HEADER_TYPE, 1), ==, 0);
    pci_function_reset(x->f, true); /* what stands beside it does not change by a reset */
    g_assert_cmphex(cfg(x, PCI_HEADER_TYPE, 1), ==, 0x80);
    pci_host_detach(x->h->host, &second->function);
    g_assert_cmphex(cfg(x, PCI_HEADER_TYPE, 1), ==, 0);
    sample_destroy(second);
}

static void test_taken_slot_is_an_error(struct fixture *x, gconstpointer data)
{
    struct sample *second = sample_create(x->h, "sample1");
    g_autoptr(GError) error = NULL;

    g_assert_false(pci_host_attach(x->h->host, &second->function, (int)x->slot, 0, &error));
    g_assert_nonnull(strstr(error->message, "sample0"));
    g_clear_error(&error);
    g_assert_false(pci_host_attach(x->h->host, &second->function, 32, 0, &error));
    g_assert_null(second->function.host);
    sample_destroy(second);
}

static void test_full_bus_is_an_error(struct fixture *x, gconstpointer data)
{
    struct sample *more[31];
    g_autoptr(GError) error = NULL;
    unsigned count = 0;

    for (; count < G_N_ELEMENTS(more); count++) {
        more[count] = sample_create(x->h, "more");
        if (!pci_host_attach(x->h->host, &more[count]->function, PCI_SLOT_ANY, 0, &error))
            break;
    }
    g_assert_cmpuint(count, ==, 30); /* 32 without the bridge and the fixture's */
    g_assert_nonnull(error);
    sample_destroy(more[count]);
    while (count--) {
        pci_host_detach(x->h->host, &more[count]->function);
        sample_destroy(more[count]);
    }
}

/* ---- BARs ---- */

static void test_bar_sizing(struct fixture *x, gconstpointer data)
{
    harness_command(x->h, x->slot, 0, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    for (unsigned i = 0; i < PCI_BARS; i++)
        set_cfg(x, PCI_BASE_ADDRESS_0 + 4 * i, 4, 0xffffffff);
    g_assert_cmphex(cfg(x, PCI_BASE_ADDRESS_0, 4), ==, 0xfffff000);
    g_assert_cmphex(cfg(x, PCI_BASE_ADDRESS_1, 4), ==, 0xffffffe1);
    g_assert_cmphex(cfg(x, PCI_BASE_ADDRESS_2, 4), ==, 0xffff000c);
    g_assert_cmphex(cfg(x, PCI_BASE_ADDRESS_3, 4), ==, 0xffffffff);
    g_assert_cmphex(cfg(x, PCI_BASE_ADDRESS_4, 4), ==, 0); /* not there */
    g_assert_cmphex(cfg(x, PCI_BASE_ADDRESS_5, 4), ==, 0);
    g_assert_cmphex(cfg(x, PCI_ROM_ADDRESS, 4), ==, 0);
}

static void test_assigned_bars_answer(struct fixture *x, gconstpointer data)
{
    const struct pci_windows *w = pci_host_windows(x->h->host);

    harness_bar_write(x->h, x->slot, REGS, 0x10, 4, 0xcafe1234);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, REGS, 0x10, 4), ==, 0xcafe1234);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, REGS, 0x12, 2), ==, 0xcafe);
    harness_bar_write(x->h, x->slot, PORTS, 4, 2, 0xbeef);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, PORTS, 4, 2), ==, 0xbeef);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, BIG, 0, 4), ==, BIG_VALUE);
    g_assert_cmphex(harness_bar_address(x->h, x->slot, REGS), >=, w->mmio32_base);
    g_assert_cmphex(harness_bar_address(x->h, x->slot, BIG), >=, w->mmio64_base);
    g_assert_cmphex(harness_bar_address(x->h, x->slot, PORTS), >=, w->port_base);
}

static void test_moved_bar_answers_there_only(struct fixture *x, gconstpointer data)
{
    uint64_t old = harness_bar_address(x->h, x->slot, REGS), new = LAYOUT_MMIO32_BASE + 0x1230000;

    move_bar(x, REGS, new);
    bus_write(x->h->mmio, new + 8, 4, 0x1111);
    g_assert_cmphex(bus_read(x->h->mmio, new + 8, 4), ==, 0x1111);
    g_assert_cmphex(bus_read(x->h->mmio, old + 8, 4), ==, 0xffffffff);

    old = harness_bar_address(x->h, x->slot, BIG);
    move_bar(x, BIG, old + (UINT64_C(5) << 32));
    g_assert_cmphex(bus_read(x->h->mmio, old + (UINT64_C(5) << 32), 4), ==, BIG_VALUE);
    g_assert_cmphex(bus_read(x->h->mmio, old, 4), ==, 0xffffffff);

    old = harness_bar_address(x->h, x->slot, PORTS);
    move_bar(x, PORTS, 0xc000);
    bus_write(x->h->ports, 0xc01f, 1, 0x77);
    g_assert_cmphex(bus_read(x->h->ports, 0xc01f, 1), ==, 0x77);
    g_assert_cmphex(bus_read(x->h->ports, old, 4), ==, 0xffffffff);
}

static void test_decoding_bits(struct fixture *x, gconstpointer data)
{
    harness_command(x->h, x->slot, 0, PCI_COMMAND_MEMORY);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, REGS, 0, 4), ==, 0xffffffff);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, BIG, 0, 4), ==, 0xffffffff);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, PORTS, 0, 4), ==, 0);
    harness_command(x->h, x->slot, PCI_COMMAND_MEMORY, PCI_COMMAND_IO);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, REGS, 0, 4), ==, 0);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, PORTS, 0, 4), ==, 0xffffffff);
}

static void test_bar_outside_windows_is_unmapped(struct fixture *x, gconstpointer data)
{
    static const uint64_t outside[] = {
        0x1000,           /* RAM */
        LAYOUT_ECAM_BASE, /* the bridge itself */
        LAYOUT_IOAPIC,
        0xfffff000 - 0x10000, /* near the top */
        LAYOUT_MMIO32_BASE - REGS_SIZE,
    };
    uint64_t errors = log_guest_errors();

    for (unsigned i = 0; i < G_N_ELEMENTS(outside); i++) {
        move_bar(x, REGS, outside[i]);
        g_assert_false(x->f->bars[REGS].mapped);
    }
    g_assert_cmpuint(log_guest_errors(), ==, errors + G_N_ELEMENTS(outside));
    move_bar(x, PORTS, 0x3f8);
    g_assert_false(x->f->bars[PORTS].mapped);
    move_bar(x, BIG, UINT64_MAX - BIG_SIZE + 1 - BIG_SIZE);
    g_assert_false(x->f->bars[BIG].mapped);
    move_bar(x, REGS, LAYOUT_MMIO32_BASE + LAYOUT_MMIO32_SIZE - REGS_SIZE); /* just inside */
    g_assert_true(x->f->bars[REGS].mapped);
    g_assert_cmphex(harness_bar_read(x->h, x->slot, REGS, 0, 4), ==, 0);
}

static void test_overlapping_bar_is_unmapped(struct fixture *x, gconstpointer data)
{
    struct sample *other = sample_create(x->h, "sample1");
    unsigned slot = harness_attach(x->h, &other->function);
    uint64_t taken = harness_bar_address(x->h, slot, REGS), errors = log_guest_errors();

    other->regs[0] = 0x42;
    move_bar(x, REGS, taken);
    g_assert_false(x->f->bars[REGS].mapped);
    g_assert_cmpuint(log_guest_errors(), ==, errors + 1);
    g_assert_cmphex(bus_read(x->h->mmio, taken, 1), ==, 0x42); /* the first one stays */
    harness_command(x->h, x->slot, PCI_COMMAND_PARITY, 0);
    g_assert_cmpuint(log_guest_errors(), ==, errors + 1); /* said once */

    harness_config_write(x->h, slot, PCI_BASE_ADDRESS_0, 4, (uint32_t)taken + REGS_SIZE * 4);
    harness_command(x->h, x->slot, 0, PCI_COMMAND_PARITY);
    g_assert_true(x->f->bars[REGS].mapped); /* the place is free now */
    g_assert_cmphex(bus_read(x->h->mmio, taken, 1), ==, 0);
    harness_detach(x->h, &other->function);
    sample_destroy(other);
}

static void test_access_across_the_end_of_a_bar(struct fixture *x, gconstpointer data)
{
    x->s->regs[REGS_SIZE - 1] = 0x99;
    g_assert_cmphex(harness_bar_read(x->h, x->slot, REGS, REGS_SIZE - 1, 4), ==, 0xffffff99);
    g_assert_cmphex(pci_function_region_read(x->f, REGS, REGS_SIZE - 1, 4), ==, 0xffffffff);
    g_assert_cmphex(pci_function_region_read(x->f, BIG + 1, 0, 4), ==, 0xffffffff);
    g_assert_cmphex(pci_function_region_read(x->f, PCI_REGION_ROM, 0, 4), ==, 0xffffffff);
    g_assert_cmphex(pci_function_region_read(x->f, 77, UINT64_MAX, 8), ==, UINT64_MAX);
    pci_function_region_write(x->f, REGS, UINT64_MAX - 2, 4, 0);
    g_assert_cmpuint(x->s->writes, ==, 0);
}

static void test_odd_widths_go_byte_by_byte(struct fixture *x, gconstpointer data)
{
    pci_function_region_write(x->f, REGS, 0x11, 7, UINT64_C(0xff07060504030201));
    g_assert_cmpuint(x->s->writes, ==, 7);
    g_assert_cmpuint(x->s->last_size, ==, 1);
    g_assert_cmphex(pci_function_region_read(x->f, REGS, 0x11, 7), ==, UINT64_C(0x07060504030201));
    g_assert_cmphex(pci_function_region_read(x->f, REGS, 0x12, 3), ==, 0x040302);
    g_assert_cmphex(pci_function_region_read(x->f, PCI_REGION_CONFIG, 1, 3), ==,
                    SAMPLE_DEVICE << 8 | SAMPLE_VENDOR >> 8);
    g_assert_cmphex(pci_function_region_read(x->f, REGS, REGS_SIZE - 1, 3), ==, 0xffff00);
}

static void test_assignment_avoids_what_is_there(struct fixture *x, gconstpointer data)
{
    struct sample *others[8];

    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autofree char *name = g_strdup_printf("other%u", i);
        others[i] = sample_create(x->h, name);
        harness_attach(x->h, &others[i]->function);
        for (unsigned bar = 0; bar < 3; bar++)
            g_assert_true(others[i]->function.bars[bar].mapped);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
        pci_host_detach(x->h->host, &others[i]->function);
        devices_remove(&x->h->devices, &others[i]->function.device);
        sample_destroy(others[i]);
    }
}

static void test_full_window_is_an_error(struct fixture *x, gconstpointer data)
{
    struct sample *s = sample_create_bare(x->h, "huge");
    g_autoptr(GError) error = NULL;

    pci_function_add_bar(&s->function, 0, LAYOUT_MMIO32_SIZE, 0); /* all of it, with others there */
    g_assert_true(pci_host_attach(x->h->host, &s->function, PCI_SLOT_ANY, 0, &error));
    g_assert_false(pci_host_assign(x->h->host, &error));
    g_assert_nonnull(strstr(error->message, "huge"));
    g_assert_nonnull(strstr(error->message, "32-bit memory window"));
    pci_host_detach(x->h->host, &s->function);
    sample_destroy(s);
}

/* ---- doorbells and mappings ---- */

static unsigned rings(int fd)
{
    uint64_t count = 0;

    return read(fd, &count, sizeof(count)) == sizeof(count) ? (unsigned)count : 0;
}

static void test_doorbell_follows_its_bar(struct fixture *x, gconstpointer data)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    uint64_t old = harness_bar_address(x->h, x->slot, REGS), new = old + REGS_SIZE * 16;

    g_assert_cmpint(pci_function_add_doorbell(x->f, REGS, 0x40, 2, false, 0, fd), ==, 0);
    g_assert_cmpint(pci_function_add_doorbell(x->f, REGS, 0x40, 2, false, 0, fd), ==, -EEXIST);
    g_assert_cmpint(pci_function_add_doorbell(x->f, REGS, REGS_SIZE, 2, false, 0, fd), ==, -EINVAL);
    bus_write(x->h->mmio, old + 0x40, 2, 1);
    g_assert_cmpuint(rings(fd), ==, 1);
    g_assert_cmpuint(x->s->writes, ==, 0); /* the device did not see it */
    move_bar(x, REGS, new);
    bus_write(x->h->mmio, old + 0x40, 2, 1);
    g_assert_cmpuint(rings(fd), ==, 0);
    bus_write(x->h->mmio, new + 0x40, 2, 1);
    g_assert_cmpuint(rings(fd), ==, 1);
    harness_command(x->h, x->slot, 0, PCI_COMMAND_MEMORY);
    bus_write(x->h->mmio, new + 0x40, 2, 1);
    g_assert_cmpuint(rings(fd), ==, 0);
    harness_command(x->h, x->slot, PCI_COMMAND_MEMORY, 0);
    pci_function_remove_doorbell(x->f, REGS, 0x40, 2, false, 0, fd);
    bus_write(x->h->mmio, new + 0x40, 2, 1);
    g_assert_cmpuint(rings(fd), ==, 0);
    g_assert_cmpuint(x->s->writes, ==, 1);
    close(fd);
}

static void test_doorbell_rings_without_a_bus(struct fixture *x, gconstpointer data)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    g_assert_cmpint(pci_function_add_doorbell(x->f, REGS, 0x40, 4, true, 5, fd), ==, 0);
    pci_function_region_write(x->f, REGS, 0x40, 4, 5);
    g_assert_cmpuint(rings(fd), ==, 1);
    pci_function_region_write(x->f, REGS, 0x40, 4,
                              6); /* another value, another width: the device's */
    pci_function_region_write(x->f, REGS, 0x40, 2, 5);
    g_assert_cmpuint(rings(fd), ==, 0);
    g_assert_cmpuint(x->s->writes, ==, 2);
    pci_function_remove_doorbell(x->f, REGS, 0x40, 4, true, 5, fd);
    close(fd);
}

static void test_mapping_follows_its_bar(struct fixture *x, gconstpointer data)
{
    int fd = memfd_create("part", MFD_CLOEXEC);
    struct memory_span span;

    g_assert_cmpint(ftruncate(fd, 0x2000), ==, 0);
    uint8_t *host = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(host != MAP_FAILED);
    g_assert_cmpint(pci_function_add_mapping(x->f, BIG, 0x2000, 0x2000, host, fd, 0), ==, 0);
    g_assert_cmpint(pci_function_add_mapping(x->f, BIG, 0x3000, 0x1000, host, fd, 0), ==, -EEXIST);
    g_assert_cmpint(pci_function_add_mapping(x->f, BIG, 0x800, 0x1000, host, fd, 0), ==, -EINVAL);
    g_assert_cmpint(pci_function_add_mapping(x->f, BIG, 0xf000, 0x2000, host, fd, 0), ==, -EINVAL);

    uint64_t old = harness_bar_address(x->h, x->slot, BIG), new = old + BIG_SIZE * 16;
    g_assert_true(memory_find(x->h->memory, old + 0x2000, 1, &span));
    g_assert_true(span.host == host && (span.region->flags & MEMORY_BAR));
    move_bar(x, BIG, new);
    g_assert_false(memory_find(x->h->memory, old + 0x2000, 1, &span));
    g_assert_true(memory_find(x->h->memory, new + 0x2004, 1, &span));
    g_assert_true(span.host == host + 4);
    /* The same bytes by the handlers' way, which an access may take before the mapping is there. */
    bus_write(x->h->mmio, new + 0x2008, 4, 0x600dcafe);
    g_assert_cmphex(*(uint32_t *)(host + 8), ==, 0x600dcafe);
    g_assert_cmphex(bus_read(x->h->mmio, new + 0x2008, 4), ==, 0x600dcafe);
    g_assert_cmpuint(x->s->writes + x->s->reads, ==, 0);

    harness_detach(x->h, x->f);
    g_assert_false(memory_find(x->h->memory, new + 0x2000, 1, &span));
    munmap(host, 0x2000);
    close(fd);
}

/* A vCPU moves the BAR to and fro while another one uses it: no access may fall on a wrong register,
 * and nothing may block. */
struct mover {
    struct fixture *x;
    uint64_t place[2];
    bool stop;
};

static gpointer access_thread(gpointer opaque)
{
    struct mover *m = opaque;
    unsigned wrong = 0;

    while (!__atomic_load_n(&m->stop, __ATOMIC_ACQUIRE))
        for (unsigned i = 0; i < 2; i++) {
            uint64_t value = bus_read(m->x->h->mmio, m->place[i] + 0x20, 4);
            wrong += value != 0x5aa5a55a && value != 0xffffffff;
        }
    return GUINT_TO_POINTER(wrong);
}

static void test_bar_moves_under_another_vcpu(struct fixture *x, gconstpointer data)
{
    uint64_t at = harness_bar_address(x->h, x->slot, REGS);
    struct mover m = {x, {at, at + 64 * REGS_SIZE}, false};
    uint32_t value = 0x5aa5a55a;

    memcpy(x->s->regs + 0x20, &value, 4);
    GThread *thread = g_thread_new("access", access_thread, &m);
    for (unsigned i = 0; i < 2000; i++)
        move_bar(x, REGS, m.place[i & 1]);
    while (!__atomic_load_n(&x->s->reads, __ATOMIC_ACQUIRE))
        g_usleep(100);
    __atomic_store_n(&m.stop, true, __ATOMIC_RELEASE);
    g_assert_cmpuint(GPOINTER_TO_UINT(g_thread_join(thread)), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL); /* hostile guests are logged; that is not news here */
    ADD("/pci/config/absent-functions-read-ones", test_absent_functions_read_ones);
    ADD("/pci/config/bridge", test_the_bridge_is_function_0);
    ADD("/pci/config/identity", test_identity);
    ADD("/pci/config/widths", test_every_width_and_alignment_agrees);
    ADD("/pci/config/masks", test_masks);
    ADD("/pci/config/hooks", test_device_hooks);
    ADD("/pci/config/capabilities", test_capability_lists);
    ADD("/pci/config/ports", test_configuration_ports);
    ADD("/pci/config/multifunction", test_multifunction_bit);
    ADD("/pci/attach/taken-slot", test_taken_slot_is_an_error);
    ADD("/pci/attach/full-bus", test_full_bus_is_an_error);
    ADD("/pci/bar/sizing", test_bar_sizing);
    ADD("/pci/bar/assigned", test_assigned_bars_answer);
    ADD("/pci/bar/moved", test_moved_bar_answers_there_only);
    ADD("/pci/bar/decoding", test_decoding_bits);
    ADD("/pci/bar/outside-windows", test_bar_outside_windows_is_unmapped);
    ADD("/pci/bar/overlap", test_overlapping_bar_is_unmapped);
    ADD("/pci/bar/bounds", test_access_across_the_end_of_a_bar);
    ADD("/pci/bar/odd-widths", test_odd_widths_go_byte_by_byte);
    ADD("/pci/bar/assignment", test_assignment_avoids_what_is_there);
    ADD("/pci/bar/full-window", test_full_window_is_an_error);
    ADD("/pci/bar/moves-under-access", test_bar_moves_under_another_vcpu);
    ADD("/pci/doorbell/follows", test_doorbell_follows_its_bar);
    ADD("/pci/doorbell/no-bus", test_doorbell_rings_without_a_bus);
    ADD("/pci/mapping/follows", test_mapping_follows_its_bar);
    return g_test_run();
}
