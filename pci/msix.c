/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msix - message-signalled interrupts of a function (PCIe 6.0 section 6.1.4)
 *
 * The table holds what the guest wrote. A vector is open when MSI-X is enabled, neither the function
 * nor the vector is masked and bus mastering is on; what fires while it is closed stays in its
 * eventfd, and that is its pending bit. The message is routed when the vector opens, and again when
 * the guest changes it while open, so a driver that fills its table with everything masked costs one
 * route a vector.
 *
 * Threads: any; function->lock serialises the table. Firing takes no lock.
 */
#include "pci/private.h"

#include <errno.h>
#include <inttypes.h>
#include <gio/gio.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "vmm/trace.h"

TRACE_EVENT(pci_msix_open, "%s vector=%u address=0x%" PRIx64 " data=0x%x",
            (const char *name, unsigned vector, uint64_t address, uint32_t data), name, vector,
            address, data)
TRACE_EVENT(pci_msix_close, "%s vector=%u", (const char *name, unsigned vector), name, vector)
TRACE_EVENT(pci_msix_fire, "%s vector=%u", (const char *name, unsigned vector), name, vector)

#define CAPABILITY_SIZE 12u

int pci_function_add_msix(struct pci_function *function, unsigned vectors, unsigned bar,
                          uint32_t table_offset, uint32_t pba_offset)
{
    struct pci_msix *msix = &function->msix;

    if (vectors < 1 || vectors > PCI_MSIX_MAX_VECTORS || bar >= PCI_BARS || msix->vectors ||
        (function->bars[bar].flags & PCI_BAR_IO) || table_offset % 8 || pba_offset % 8)
        return -EINVAL;
    uint64_t size = function->bars[bar].size;
    uint64_t table_size = vectors * (uint64_t)PCI_MSIX_ENTRY_SIZE;
    uint64_t pba_size = (vectors + 63) / 64 * 8;
    if (table_offset + table_size > size || pba_offset + pba_size > size ||
        pci_ranges_overlap(table_offset, table_size, pba_offset, pba_size))
        return -EINVAL;

    int at = pci_function_add_capability(function, PCI_CAP_ID_MSIX, CAPABILITY_SIZE);
    if (at < 0)
        return at;
    msix->msi = g_new0(struct irq_msi, vectors);
    for (unsigned i = 0; i < vectors; i++) {
        int ret = irq_msi_init(&msix->msi[i], function->interrupts, &function->device);
        if (ret) {
            while (i--)
                irq_msi_finish(&msix->msi[i]);
            g_clear_pointer(&msix->msi, g_free);
            return ret;
        }
    }
    msix->table = g_malloc0(table_size);
    for (unsigned i = 0; i < vectors; i++)
        msix->table[i * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL] =
            PCI_MSIX_ENTRY_CTRL_MASKBIT;
    msix->vectors = vectors;
    msix->bar = bar;
    msix->table_offset = table_offset;
    msix->pba_offset = pba_offset;
    msix->capability = (unsigned)at;
    pci_put(function->config + at + PCI_MSIX_FLAGS, 2, vectors - 1);
    pci_put(function->config + at + PCI_MSIX_TABLE, 4, table_offset | bar);
    pci_put(function->config + at + PCI_MSIX_PBA, 4, pba_offset | bar);
    pci_put(function->writable + at + PCI_MSIX_FLAGS, 2,
            PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    return 0;
}

/* The high byte of message control: enable and function mask. */
static uint8_t control(const struct pci_function *function)
{
    return __atomic_load_n(&function->config[function->msix.capability + PCI_MSIX_FLAGS + 1],
                           __ATOMIC_ACQUIRE);
}

bool pci_function_msix_enabled(const struct pci_function *function)
{
    return function->msix.vectors && (control(function) & (PCI_MSIX_FLAGS_ENABLE >> 8));
}

void pci_function_fire(struct pci_function *function, unsigned vector)
{
    if (vector >= function->msix.vectors || !pci_function_msix_enabled(function))
        return;
    trace_pci_msix_fire(function->device.name, vector);
    irq_msi_fire(&function->msix.msi[vector]);
}

/* Locked. */
static void update_vector(struct pci_function *function, unsigned vector)
{
    struct irq_msi *msi = &function->msix.msi[vector];
    const uint8_t *entry = function->msix.table + vector * PCI_MSIX_ENTRY_SIZE;
    bool open = pci_function_msix_enabled(function) &&
                !(control(function) & (PCI_MSIX_FLAGS_MASKALL >> 8)) &&
                !(entry[PCI_MSIX_ENTRY_VECTOR_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT) &&
                (function->config[PCI_COMMAND] & PCI_COMMAND_MASTER);

    if (open) {
        uint64_t address = pci_get64(entry + PCI_MSIX_ENTRY_LOWER_ADDR) & ~UINT64_C(3);
        uint32_t data = pci_get32(entry + PCI_MSIX_ENTRY_DATA);
        if (!msi->routed || msi->address != address || msi->data != data) {
            int ret = irq_msi_set_message(msi, address, data);
            if (ret) {
                log_guest(&function->device.guest_errors, function->device.name,
                          "MSI-X vector %u: message 0x%x to 0x%" PRIx64 " refused: %s", vector,
                          data, address, g_strerror(-ret));
                open = false;
            }
        }
    }
    if (open != msi->masked)
        return;
    int ret = irq_msi_set_masked(msi, !open);
    if (ret)
        log_guest(&function->device.guest_errors, function->device.name,
                  "MSI-X vector %u can't be %s: %s", vector, open ? "opened" : "closed",
                  g_strerror(-ret));
    else if (open)
        trace_pci_msix_open(function->device.name, vector, msi->address, msi->data);
    else
        trace_pci_msix_close(function->device.name, vector);
}

void pci_msix_update(struct pci_function *function)
{
    struct pci_msix *msix = &function->msix;
    bool enabled = pci_function_msix_enabled(function);

    if (!enabled && !msix->was_enabled)
        return; /* a guest that sizes BARs comes by here often */
    for (unsigned i = 0; i < msix->vectors; i++) {
        update_vector(function, i);
        /* Off means that INTx tells of what happens; nothing may turn up later. */
        if (!enabled)
            irq_msi_clear_pending(&msix->msi[i]);
    }
    msix->was_enabled = enabled;
}

void pci_msix_reset(struct pci_function *function)
{
    struct pci_msix *msix = &function->msix;

    if (!msix->vectors)
        return;
    memset(msix->table, 0, msix->vectors * (size_t)PCI_MSIX_ENTRY_SIZE);
    for (unsigned i = 0; i < msix->vectors; i++) {
        msix->table[i * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL] =
            PCI_MSIX_ENTRY_CTRL_MASKBIT;
        update_vector(function, i);
        irq_msi_clear_pending(&msix->msi[i]);
    }
}

void pci_msix_finish(struct pci_function *function)
{
    struct pci_msix *msix = &function->msix;

    for (unsigned i = 0; i < msix->vectors; i++)
        irq_msi_finish(&msix->msi[i]);
    g_clear_pointer(&msix->msi, g_free);
    g_clear_pointer(&msix->table, g_free);
    msix->vectors = 0;
}

/* ---- table and pending bits as the guest sees them ---- */

static uint64_t table_end(const struct pci_msix *msix)
{
    return msix->table_offset + msix->vectors * (uint64_t)PCI_MSIX_ENTRY_SIZE;
}

static uint64_t pba_end(const struct pci_msix *msix)
{
    return msix->pba_offset + (msix->vectors + 63) / 64 * UINT64_C(8);
}

bool pci_msix_covers(const struct pci_function *function, unsigned region, uint64_t offset,
                     unsigned size)
{
    const struct pci_msix *msix = &function->msix;

    if (!msix->vectors || region != msix->bar)
        return false;
    return pci_ranges_overlap(offset, size, msix->table_offset,
                              table_end(msix) - msix->table_offset) ||
           pci_ranges_overlap(offset, size, msix->pba_offset, pba_end(msix) - msix->pba_offset);
}

static uint8_t read_byte(struct pci_msix *msix, uint64_t offset)
{
    if (offset >= msix->table_offset && offset < table_end(msix))
        return msix->table[offset - msix->table_offset];
    if (offset < msix->pba_offset || offset >= pba_end(msix))
        return 0;

    uint8_t bits = 0;
    unsigned first = (unsigned)(offset - msix->pba_offset) * 8;
    for (unsigned i = 0; i < 8 && first + i < msix->vectors; i++)
        if (irq_msi_pending(&msix->msi[first + i]))
            bits |= (uint8_t)(1 << i);
    return bits;
}

uint64_t pci_msix_read(struct pci_function *function, uint64_t offset, unsigned size)
{
    uint64_t value = 0;

    pthread_mutex_lock(&function->lock);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_byte(&function->msix, offset + i) << (8 * i);
    pthread_mutex_unlock(&function->lock);
    return value;
}

void pci_msix_write(struct pci_function *function, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_msix *msix = &function->msix;
    unsigned first = msix->vectors, last = 0;

    pthread_mutex_lock(&function->lock);
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;
        if (at < msix->table_offset || at >= table_end(msix))
            continue; /* the PBA is read-only */
        unsigned byte = (unsigned)(at - msix->table_offset);
        uint8_t bits = (uint8_t)(value >> (8 * i));
        if (byte % PCI_MSIX_ENTRY_SIZE == PCI_MSIX_ENTRY_VECTOR_CTRL)
            bits &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
        else if (byte % PCI_MSIX_ENTRY_SIZE > PCI_MSIX_ENTRY_VECTOR_CTRL)
            continue; /* reserved bits of vector control */
        msix->table[byte] = bits;
        first = MIN(first, byte / PCI_MSIX_ENTRY_SIZE);
        last = MAX(last, byte / PCI_MSIX_ENTRY_SIZE);
    }
    for (unsigned i = first; i <= last && i < msix->vectors; i++)
        update_vector(function, i);
    pthread_mutex_unlock(&function->lock);
}

/* ---- state: for each vector its table entry and a byte that says whether it is pending ---- */

void pci_msix_save(struct pci_function *function, GByteArray *out)
{
    struct pci_msix *msix = &function->msix;

    for (unsigned i = 0; i < msix->vectors; i++) {
        uint8_t pending = irq_msi_pending(&msix->msi[i]) ||
                          __atomic_load_n(&msix->msi[i].latched, __ATOMIC_ACQUIRE);
        g_byte_array_append(out, msix->table + i * PCI_MSIX_ENTRY_SIZE, PCI_MSIX_ENTRY_SIZE);
        g_byte_array_append(out, &pending, 1);
    }
}

bool pci_msix_check(struct pci_function *function, const GByteArray *saved, GError **error)
{
    unsigned size = saved ? saved->len : 0;

    if (size == function->msix.vectors * PCI_MSIX_SAVED_SIZE)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                "%s: %u bytes of MSI-X state in the stream, %u expected (%u vectors)",
                function->device.name, size, function->msix.vectors * PCI_MSIX_SAVED_SIZE,
                function->msix.vectors);
    return false;
}

void pci_msix_load(struct pci_function *function, const GByteArray *saved)
{
    struct pci_msix *msix = &function->msix;

    for (unsigned i = 0; i < msix->vectors; i++) {
        const uint8_t *from = saved->data + i * PCI_MSIX_SAVED_SIZE;
        uint8_t *entry = msix->table + i * PCI_MSIX_ENTRY_SIZE;
        memcpy(entry, from, PCI_MSIX_ENTRY_SIZE);
        pci_put(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4,
                entry[PCI_MSIX_ENTRY_VECTOR_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
        /* Fires when the device runs again, through the mask as it is then. */
        if (from[PCI_MSIX_ENTRY_SIZE])
            __atomic_store_n(&msix->msi[i].latched, true, __ATOMIC_RELEASE);
    }
}
