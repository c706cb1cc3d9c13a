/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sample - a PCI function for tests: see sample.h */
#include "tests/device/sample.h"

#include <string.h>

static uint64_t sample_read(struct pci_function *function, unsigned region, uint64_t offset,
                            unsigned size)
{
    struct sample *s = (struct sample *)function;
    uint64_t value = 0;

    __atomic_fetch_add(&s->reads, 1, __ATOMIC_RELAXED);
    if (region == BIG)
        return BIG_VALUE;
    memcpy(&value, s->regs + offset, size);
    return value;
}

static void sample_write(struct pci_function *function, unsigned region, uint64_t offset,
                         unsigned size, uint64_t value)
{
    struct sample *s = (struct sample *)function;

    __atomic_fetch_add(&s->writes, 1, __ATOMIC_RELAXED);
    s->last_region = region;
    s->last_offset = offset;
    s->last_size = size;
    s->last_value = value;
    if (region != BIG)
        memcpy(s->regs + offset, &value, size);
}

static void sample_config_written(struct pci_function *function, unsigned offset, unsigned size)
{
    ((struct sample *)function)->config_writes++;
}

static void sample_config_read(struct pci_function *function, unsigned offset, unsigned size)
{
    struct sample *s = (struct sample *)function;

    s->config_reads++;
    pci_function_config_set(function, s->vendor_cap + 8, 4, s->config_reads);
}

static void sample_reset(struct device *device)
{
    pci_function_reset((struct pci_function *)device, true);
}

static void sample_before_save(struct device *device)
{
    pci_function_before_save((struct pci_function *)device);
}

static bool sample_after_load(struct device *device, GError **error)
{
    return pci_function_after_load((struct pci_function *)device, error);
}

static const struct device_ops sample_device_ops = {
    .reset = sample_reset,
    .before_save = sample_before_save,
    .after_load = sample_after_load,
};

static const struct pci_function_ops sample_ops = {
    .region_read = sample_read,
    .region_write = sample_write,
    .config_written = sample_config_written,
    .config_read = sample_config_read,
};

static const struct pci_identity sample_identity = {
    .vendor_id = SAMPLE_VENDOR,
    .device_id = SAMPLE_DEVICE,
    .subsystem_vendor_id = 0x1af4,
    .subsystem_id = 0x1234,
    .revision = 7,
    .class_code = 0xff0001,
};

struct sample *sample_create_bare(struct harness *h, const char *name)
{
    struct sample *s = g_new0(struct sample, 1);
    struct pci_function *f = &s->function;

    pci_function_init(f, name, "sample", &sample_device_ops, &sample_ops, &sample_identity,
                      &h->env);
    f->device.state_table = &pci_function_state;
    f->device.state_base = f;
    return s;
}

struct sample *sample_create(struct harness *h, const char *name)
{
    struct sample *s = sample_create_bare(h, name);
    struct pci_function *f = &s->function;

    pci_function_add_bar(f, REGS, REGS_SIZE, 0);
    pci_function_add_bar(f, PORTS, PORTS_SIZE, PCI_BAR_IO);
    pci_function_add_bar(f, BIG, BIG_SIZE, PCI_BAR_64 | PCI_BAR_PREFETCH);
    g_assert_cmpint(pci_function_add_msix(f, SAMPLE_VECTORS, BIG, TABLE_AT, PBA_AT), ==, 0);
    pci_function_add_intx(f, 1);
    s->vendor_cap = (unsigned)pci_function_add_capability(f, PCI_CAP_ID_VNDR, 12);
    /* A register of each kind: writable nibble, write-one-to-clear nibble, read-only byte. */
    f->config[s->vendor_cap + 4] = 0xaf;
    f->writable[s->vendor_cap + 4] = 0x0f;
    f->write_clear[s->vendor_cap + 4] = 0xf0;
    f->config[s->vendor_cap + 5] = 0x5a;
    memset(f->writable + s->vendor_cap + 8, 0xff, 4); /* what changes by itself is not identity */
    return s;
}

void sample_destroy(struct sample *s)
{
    pci_function_finish(&s->function);
    g_free(s);
}

void fixture_setup(struct fixture *x, gconstpointer data)
{
    x->h = harness_create(0);
    x->s = sample_create(x->h, "sample0");
    x->f = &x->s->function;
    x->slot = harness_attach(x->h, x->f);
}

void fixture_teardown(struct fixture *x, gconstpointer data)
{
    if (x->f->host)
        harness_detach(x->h, x->f);
    sample_destroy(x->s);
    harness_destroy(x->h);
}

uint32_t cfg(struct fixture *x, unsigned offset, unsigned size)
{
    return harness_config_read(x->h, x->slot, offset, size);
}

void set_cfg(struct fixture *x, unsigned offset, unsigned size, uint32_t value)
{
    harness_config_write(x->h, x->slot, offset, size, value);
}

void move_bar(struct fixture *x, unsigned bar, uint64_t address)
{
    set_cfg(x, PCI_BASE_ADDRESS_0 + bar * 4, 4, (uint32_t)address);
    if (bar == BIG)
        set_cfg(x, PCI_BASE_ADDRESS_0 + bar * 4 + 4, 4, (uint32_t)(address >> 32));
}
