/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a guest that uses and moves the BARs of a function with MSI-X, INTx, doorbells and a
 * directly mapped part. The input is a sequence of 16-byte operations: kind, three bytes, a 32-bit
 * and a 64-bit number. Some save the state and load it, broken or not.
 *
 * Whatever it does: no access outside of what a region is, and after a reset the function delivers
 * interrupts again.
 */
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/device/sample.h"
#include "vmm/layout.h"

#define OPERATIONS 1000
#define PART_AT    0x2000
#define PART_SIZE  0x2000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct machine {
    struct fixture x;
    int bell, part_fd;
    uint8_t *part;
};

struct op {
    uint8_t kind, a, b, c;
    uint32_t d;
    uint64_t e;
};

/* An address that is likely to mean something: in a window, at another BAR, or anything. */
static uint64_t somewhere(const struct op *op)
{
    static const uint64_t bases[] = {
        LAYOUT_MMIO32_BASE, LAYOUT_MMIO32_BASE + LAYOUT_MMIO32_SIZE,
        UINT64_C(64) << 30, LAYOUT_PCI_PORT_BASE,
        LAYOUT_ECAM_BASE,   0,
        UINT32_MAX,         UINT64_MAX,
    };

    return op->b & 0x80 ? op->e : bases[op->b & 7] + (int32_t)op->d;
}

static void reload(struct machine *m, const struct op *op)
{
    g_autoptr(GByteArray) saved = harness_save(&m->x.f->device);
    g_autoptr(GError) error = NULL;

    if (op->b & 1 && saved->len)
        saved->data[op->d % saved->len] ^= op->c;
    if (op->b & 2)
        g_byte_array_set_size(saved, op->d % (saved->len + 1));
    if (harness_load_state(&m->x.f->device, saved, &error) != (error == NULL))
        g_error("a load that failed without an error, or the other way round");
}

static void operate(struct machine *m, const struct op *op)
{
    struct pci_function *f = m->x.f;
    struct harness *h = m->x.h;
    unsigned size = 1u << (op->a & 3), region = op->c % PCI_REGIONS;
    uint64_t offset = op->b & 0x40 ? op->d % BIG_SIZE : TABLE_AT + op->d % 0x1100;

    switch (op->kind % 14) {
    case 0:
        harness_bar_write(h, m->x.slot, op->c % 3, offset, size, op->e);
        break;
    case 1:
        harness_bar_read(h, m->x.slot, op->c % 3, offset, size);
        break;
    case 2:
        bus_write(op->c & 1 ? h->ports : h->mmio, somewhere(op), size, op->e);
        break;
    case 3:
        pci_function_region_write(f, region, op->b & 0x20 ? op->e : op->d, op->a % 9, op->e);
        break;
    case 4:
        pci_function_region_read(f, region, op->b & 0x20 ? op->e : op->d, op->a % 9);
        break;
    case 5:
        move_bar(&m->x, op->c % 3, somewhere(op));
        break;
    case 6:
        set_cfg(&m->x, PCI_COMMAND, 2, op->d);
        break;
    case 7:
        set_cfg(&m->x, f->msix.capability + PCI_MSIX_FLAGS, 2, op->d);
        break;
    case 8:
        pci_function_fire(f, op->d % (SAMPLE_VECTORS + 2));
        break;
    case 9:
        pci_function_set_intx(f, op->d & 1);
        break;
    case 10:
        harness_eoi(h, pci_host_gsi(m->x.slot, 1));
        break;
    case 11: /* not the guest's, but what a device does when its driver asks */
        pci_function_add_doorbell(f, op->c % 4, op->d, 1u << (op->a % 4), op->b & 1, op->e,
                                  m->bell);
        break;
    case 12:
        pci_function_remove_doorbell(f, op->c % 4, op->d, 1u << (op->a % 4), op->b & 1, op->e,
                                     m->bell);
        break;
    case 13:
        if (op->b & 4)
            device_reset(&f->device);
        else
            reload(m, op);
        break;
    }
}

static void check_it_still_works(struct machine *m)
{
    struct harness *h = m->x.h;

    device_reset(&m->x.f->device);
    harness_command(h, m->x.slot, PCI_COMMAND_MASTER, 0);
    harness_msix_enable(h, m->x.slot, SAMPLE_VECTORS);
    for (unsigned i = 0; i < SAMPLE_VECTORS; i += SAMPLE_VECTORS - 1) {
        uint64_t before = harness_msi_count(h, m->x.slot, i);
        pci_function_fire(m->x.f, i);
        g_assert_cmpuint(harness_msi_count(h, m->x.slot, i), ==, before + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct machine m = {0};
    struct op op;

    log_set_levels("error", NULL);
    fixture_setup(&m.x, NULL);
    m.bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    m.part_fd = memfd_create("part", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(m.part_fd, PART_SIZE), ==, 0);
    m.part = mmap(NULL, PART_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m.part_fd, 0);
    g_assert_true(m.part != MAP_FAILED);
    pci_function_add_mapping(m.x.f, BIG, PART_AT, PART_SIZE, m.part, m.part_fd, 0);
    for (unsigned done = 0; size >= sizeof(op) && done < OPERATIONS; done++) {
        memcpy(&op, data, sizeof(op));
        operate(&m, &op);
        data += sizeof(op);
        size -= sizeof(op);
    }
    check_it_still_works(&m);
    fixture_teardown(&m.x, NULL);
    munmap(m.part, PART_SIZE);
    close(m.part_fd);
    close(m.bell);
    return 0;
}
