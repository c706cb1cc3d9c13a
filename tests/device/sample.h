/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sample - a PCI function for tests of what is common to all: registers, ports, MSI-X, INTx
 *
 * BAR 0 holds registers that read as written, BAR 1 ports over the same bytes, BARs 2 and 3 are one
 * 64-bit BAR that reads as a constant and holds the MSI-X table. A vendor capability has a register
 * of each kind.
 */
#ifndef TESTS_DEVICE_SAMPLE_H
#define TESTS_DEVICE_SAMPLE_H

#include <linux/pci_regs.h>

#include "tests/device/harness.h"

#define SAMPLE_VENDOR  0x1b36
#define SAMPLE_DEVICE  0x10c0
#define SAMPLE_VECTORS 70 /* more than one word of pending bits */

enum { REGS = 0, PORTS = 1, BIG = 2 };
#define REGS_SIZE  0x1000
#define PORTS_SIZE 0x20
#define BIG_SIZE   0x10000
#define BIG_VALUE  0xb16b00b5
#define TABLE_AT   0x8000
#define PBA_AT     0x9000

struct sample {
    struct pci_function function;
    uint8_t regs[REGS_SIZE];
    unsigned reads, writes; /* atomic: a test accesses from two threads */
    unsigned last_region, last_size;
    uint64_t last_offset, last_value;
    unsigned config_writes, config_reads;
    unsigned vendor_cap; /* +4: writable and write-one-to-clear nibbles, +8: counts its reads */
};

struct sample *sample_create(struct harness *h, const char *name);
/* Without BARs and vectors. */
struct sample *sample_create_bare(struct harness *h, const char *name);
void sample_destroy(struct sample *sample);

/* A machine with one sample in it, attached. */
struct fixture {
    struct harness *h;
    struct sample *s;
    struct pci_function *f;
    unsigned slot;
};

void fixture_setup(struct fixture *x, gconstpointer data);
void fixture_teardown(struct fixture *x, gconstpointer data);
uint32_t cfg(struct fixture *x, unsigned offset, unsigned size);
void set_cfg(struct fixture *x, unsigned offset, unsigned size, uint32_t value);
void move_bar(struct fixture *x, unsigned bar, uint64_t address);

#define ADD(PATH, TEST)                                                                            \
    g_test_add(PATH, struct fixture, NULL, fixture_setup, TEST, fixture_teardown)

#endif
