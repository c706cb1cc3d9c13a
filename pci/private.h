/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * private - what the files of one PCI function call in each other
 *
 * function.c is the life of a function and its accesses, config.c its config space, bar.c its BARs
 * with their doorbells and mappings, msix.c its vectors. "Locked" means that the caller holds
 * function->lock.
 */
#ifndef PCI_PRIVATE_H
#define PCI_PRIVATE_H

#include <linux/pci_regs.h>

#include "pci/function.h"

#define PCI_MSIX_MAX_VECTORS 2048u
#define PCI_MSIX_SAVED_SIZE  (PCI_MSIX_ENTRY_SIZE + 1u) /* the entry and its pending bit */

/* All ones of an access of @size bytes (1 to 8): what nobody answers. */
static inline uint64_t pci_ones(unsigned size)
{
    return UINT64_MAX >> (64 - 8 * size);
}

static inline uint16_t pci_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t pci_get32(const uint8_t *p)
{
    return pci_get16(p) | (uint32_t)pci_get16(p + 2) << 16;
}

static inline uint64_t pci_get64(const uint8_t *p)
{
    return pci_get32(p) | (uint64_t)pci_get32(p + 4) << 32;
}

static inline void pci_put(uint8_t *p, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static inline bool pci_ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

/* config.c */
void pci_config_init(struct pci_function *function, const struct pci_identity *identity);
/* Makes the power-on image from config space as it stands, unless there is one. Locked. */
void pci_config_seal(struct pci_function *function);
/* Everything that depends on config space (decoding, bus mastering, MSI-X, INTx). Locked. */
void pci_config_apply(struct pci_function *function);
/* The firmware's part: an address (and decoding on), or the interrupt line. Locked. */
void pci_config_assign(struct pci_function *function, unsigned offset, unsigned size,
                       uint32_t value);

/* bar.c */
uint64_t pci_bar_register(const struct pci_function *function, unsigned index);
void pci_bar_assign(struct pci_function *function, unsigned index, uint64_t address);
void pci_bar_update(
    struct pci_function *function); /* maps what shall be, unmaps the rest. Locked. */
void pci_bar_unmap_all(struct pci_function *function); /* Locked. */
void pci_bar_finish(struct pci_function *function);
/* Rings the doorbells of a write that did not come over a bus; true when one took it. */
bool pci_bar_ring(struct pci_function *function, unsigned index, uint64_t offset, unsigned size,
                  uint64_t value);
/* Host memory of a directly mapped part, or NULL. */
uint8_t *pci_bar_mapped(struct pci_function *function, unsigned index, uint64_t offset,
                        unsigned size);

/* function.c: an access whose doorbells have been looked at. */
void pci_region_write_handled(struct pci_function *function, unsigned region, uint64_t offset,
                              unsigned size, uint64_t value);
void pci_intx_update(struct pci_function *function); /* Locked. */

/* msix.c */
bool pci_msix_covers(const struct pci_function *function, unsigned region, uint64_t offset,
                     unsigned size);
uint64_t pci_msix_read(struct pci_function *function, uint64_t offset, unsigned size);
void pci_msix_write(struct pci_function *function, uint64_t offset, unsigned size, uint64_t value);
void pci_msix_update(struct pci_function *function); /* all vectors. Locked. */
void pci_msix_reset(struct pci_function *function);  /* Locked. */
void pci_msix_save(struct pci_function *function, GByteArray *out);
bool pci_msix_check(struct pci_function *function, const GByteArray *saved, GError **error);
void pci_msix_load(struct pci_function *function, const GByteArray *saved); /* Locked. */
void pci_msix_finish(struct pci_function *function);

#endif
