/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a guest that writes anything to configuration space. The input is a sequence of 8-byte
 * operations: kind, width and function, offset (16 bits), value (32 bits): reads and writes by ECAM
 * and by the configuration ports, resets. Two functions share a slot.
 *
 * Whatever it does, functions stay what they are, and what is mapped lies inside the windows, apart
 * from every other thing that is mapped.
 */
#include <string.h>

#include "tests/device/sample.h"

#define OPERATIONS 2000
#define FUNCTIONS  2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_identity(const struct pci_function *f, const uint8_t *before)
{
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        uint8_t fixed = (uint8_t) ~(f->writable[i] | f->write_clear[i]);
        if ((f->config[i] ^ before[i]) & fixed)
            g_error("config byte 0x%x changed from 0x%x to 0x%x", i, before[i], f->config[i]);
    }
}

static bool inside(uint64_t base, uint64_t size, uint64_t at, uint64_t length)
{
    return at >= base && length <= size && at - base <= size - length;
}

static void check_bars(struct harness *h, struct pci_function *const *functions)
{
    const struct pci_windows *w = pci_host_windows(h->host);
    const struct pci_bar *mapped[FUNCTIONS * PCI_BARS];
    unsigned count = 0;

    for (unsigned i = 0; i < FUNCTIONS * PCI_BARS; i++) {
        const struct pci_bar *bar = &functions[i / PCI_BARS]->bars[i % PCI_BARS];
        bool io = bar->flags & PCI_BAR_IO;
        if (!bar->mapped)
            continue;
        g_assert_true(io ? inside(w->port_base, w->port_size, bar->address, bar->size)
                         : inside(w->mmio32_base, w->mmio32_size, bar->address, bar->size) ||
                               inside(w->mmio64_base, w->mmio64_size, bar->address, bar->size));
        for (unsigned j = 0; j < count; j++)
            if ((mapped[j]->flags & PCI_BAR_IO) == (bar->flags & PCI_BAR_IO))
                g_assert_true(mapped[j]->address + mapped[j]->size <= bar->address ||
                              bar->address + bar->size <= mapped[j]->address);
        mapped[count++] = bar;
    }
}

static void operate(struct harness *h, struct pci_function *const *functions, const uint8_t *op)
{
    unsigned kind = op[0] % 8, width = op[1] & 3, slot = functions[0]->slot;
    /* Mostly what is there: the bridge, the two functions, and one that is absent. */
    unsigned devfns[] = {0, slot * 8, slot * 8 + 3, slot * 8 + 1};
    unsigned devfn = op[1] & 0x80 ? op[2] : devfns[op[1] >> 2 & 3];
    unsigned offset = (op[2] | op[3] << 8) & (op[1] & 0x40 ? 0xfff : 0xff);
    uint32_t value;

    memcpy(&value, op + 4, 4);
    switch (kind) {
    case 0:
    case 1:
        bus_write(h->mmio, pci_host_windows(h->host)->ecam_base + devfn * 4096 + offset, 1 << width,
                  kind ? value : (uint64_t)value << 32 | value);
        break;
    case 2:
        bus_read(h->mmio, pci_host_windows(h->host)->ecam_base + devfn * 4096 + offset, 1 << width);
        break;
    case 3:
        bus_write(h->ports, 0xcf8, 4, 0x80000000u | devfn << 8 | (offset & 0xfc));
        bus_write(h->ports, 0xcfc + (offset & 3), 1 << width, value);
        break;
    case 4:
        bus_write(h->ports, 0xcf8 + (offset & 7), 1 << width, value);
        break;
    case 5:
        bus_read(h->ports, 0xcf8 + (offset & 7), 1 << width);
        break;
    case 6:
        pci_function_fire(functions[value & 1], offset);
        pci_function_set_intx(functions[value & 1], value & 2);
        break;
    case 7:
        device_reset(&functions[value & 1]->device);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct harness *h = harness_create(1 << 21);
    struct sample *samples[FUNCTIONS] = {sample_create(h, "first"), sample_create(h, "second")};
    struct pci_function *functions[FUNCTIONS] = {&samples[0]->function, &samples[1]->function};
    uint8_t before[FUNCTIONS][PCI_CONFIG_SIZE];

    log_set_levels("error", NULL);
    harness_attach(h, functions[0]);
    g_assert_true(pci_host_attach(h->host, functions[1], functions[0]->slot, 3, NULL));
    g_assert_true(pci_host_assign(h->host, NULL));
    for (unsigned i = 0; i < FUNCTIONS; i++)
        memcpy(before[i], functions[i]->config, PCI_CONFIG_SIZE);
    for (unsigned done = 0; size >= 8 && done < OPERATIONS; done++, data += 8, size -= 8) {
        operate(h, functions, data);
        check_bars(h, functions);
    }
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        pci_function_set_intx(functions[i], false); /* the status bit shows it */
        check_identity(functions[i], before[i]);
    }
    pci_host_detach(h->host, functions[1]);
    harness_detach(h, functions[0]);
    for (unsigned i = 0; i < FUNCTIONS; i++)
        sample_destroy(samples[i]);
    harness_destroy(h);
    return 0;
}
