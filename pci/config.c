/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config - the configuration space of a type 0 function (PCI 3.0 chapter 6, PCIe 6.0 section 7.5)
 *
 * 4 KiB of bytes with a mask of bits the guest may change and one of bits it clears by writing one;
 * every other bit is what the function says. What follows from a write (decoding, bus mastering,
 * MSI-X, INTx) is derived from the bytes in one place, pci_config_apply, which also serves reset and
 * restore.
 *
 * Threads: any; function->lock serialises.
 */
#include "pci/private.h"

#include <errno.h>
#include <gio/gio.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(pci_config_read, "%s offset=0x%x size=%u value=0x%x",
            (const char *name, unsigned offset, unsigned size, uint32_t value), name, offset, size,
            value)
TRACE_EVENT(pci_config_write, "%s offset=0x%x size=%u value=0x%x",
            (const char *name, unsigned offset, unsigned size, uint32_t value), name, offset, size,
            value)
TRACE_EVENT(pci_reset, "%s keep_bars=%d", (const char *name, int keep_bars), name, keep_bars)

#define HEADER_SIZE          0x40u
#define FIRST_CAPABILITY     0x40u
#define STANDARD_SIZE        0x100u
#define EXTENDED_START       0x100u
#define PCIE_CAPABILITY_SIZE 0x3cu
#define COMMAND_DECODE       (PCI_COMMAND_IO | PCI_COMMAND_MEMORY)
/* Error bits of the status register, all write-one-to-clear (PCIe 6.0 section 7.5.1.1.4). */
#define STATUS_ERRORS 0xf900u

static void set16(uint8_t *p, uint16_t value)
{
    pci_put(p, 2, value);
}

/* The PCI Express capability of a root complex integrated endpoint: no link below it. */
static void add_pcie_capability(struct pci_function *function)
{
    int at = pci_function_add_capability(function, PCI_CAP_ID_EXP, PCIE_CAPABILITY_SIZE);

    g_assert(at > 0); /* the first capability always fits */
    function->pcie_capability = (unsigned)at;
    uint8_t *cap = function->config + at;
    set16(cap + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_RC_END << 4);
    pci_put(cap + PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_RBER);
    /* Relaxed ordering, no snoop, 512-byte read requests: the reset values of the specification. */
    set16(cap + PCI_EXP_DEVCTL,
          PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ_512B);
    set16(function->writable + at + PCI_EXP_DEVCTL, 0x78ff & ~PCI_EXP_DEVCTL_EXT_TAG);
    set16(function->write_clear + at + PCI_EXP_DEVSTA,
          PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD);
}

void pci_config_init(struct pci_function *function, const struct pci_identity *identity)
{
    uint8_t *config = function->config;

    set16(config + PCI_VENDOR_ID, identity->vendor_id);
    set16(config + PCI_DEVICE_ID, identity->device_id);
    config[PCI_REVISION_ID] = identity->revision;
    config[PCI_CLASS_PROG] = (uint8_t)identity->class_code;
    set16(config + PCI_CLASS_DEVICE, (uint16_t)(identity->class_code >> 8));
    set16(config + PCI_SUBSYSTEM_VENDOR_ID, identity->subsystem_vendor_id);
    set16(config + PCI_SUBSYSTEM_ID, identity->subsystem_id);
    set16(function->writable + PCI_COMMAND,
          PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR);
    set16(function->write_clear + PCI_STATUS, STATUS_ERRORS);
    function->writable[PCI_CACHE_LINE_SIZE] = 0xff;
    function->writable[PCI_INTERRUPT_LINE] = 0xff;
    function->next_capability = FIRST_CAPABILITY;
    function->next_extended = EXTENDED_START;
    add_pcie_capability(function);
}

int pci_function_add_capability(struct pci_function *function, uint8_t id, unsigned size)
{
    unsigned at = function->next_capability;

    if (size < 2 || size > STANDARD_SIZE || at + size > STANDARD_SIZE)
        return -ENOSPC;
    function->config[at + PCI_CAP_LIST_ID] = id;
    function->config[at + PCI_CAP_LIST_NEXT] = 0;
    if (function->last_capability)
        function->config[function->last_capability + PCI_CAP_LIST_NEXT] = (uint8_t)at;
    else
        function->config[PCI_CAPABILITY_LIST] = (uint8_t)at;
    function->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
    function->last_capability = at;
    function->next_capability = (at + size + 3) & ~3u;
    return (int)at;
}

int pci_function_add_extended_capability(struct pci_function *function, uint16_t id,
                                         uint8_t version, unsigned size)
{
    unsigned at = function->next_extended;

    if (size < 4 || size > PCI_CONFIG_SIZE || at + size > PCI_CONFIG_SIZE)
        return -ENOSPC;
    pci_put(function->config + at, 4, id | (uint32_t)(version & 0xf) << 16);
    if (function->last_extended) {
        uint8_t *last = function->config + function->last_extended;
        pci_put(last, 4, (pci_get32(last) & 0xfffff) | at << 20);
    }
    function->last_extended = at;
    function->next_extended = (at + size + 3) & ~3u;
    return (int)at;
}

void pci_function_config_set(struct pci_function *function, unsigned offset, unsigned size,
                             uint32_t value)
{
    if (size > 4 || offset > PCI_CONFIG_SIZE - size)
        return;
    pthread_mutex_lock(&function->lock);
    pci_put(function->config + offset, size, value);
    pthread_mutex_unlock(&function->lock);
}

/* ---- accesses ---- */

uint32_t pci_function_config_read(struct pci_function *function, unsigned offset, unsigned size)
{
    uint32_t value = 0;

    if (size < 1 || size > 4)
        return UINT32_MAX;
    if (device_check(&function->device, DEVICE_OP_CONFIG) == DEVICE_REFUSE)
        return (uint32_t)pci_ones(size);
    if (offset >= HEADER_SIZE && function->ops && function->ops->config_read)
        function->ops->config_read(function, offset, size);
    pthread_mutex_lock(&function->lock);
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = offset + i < PCI_CONFIG_SIZE ? function->config[offset + i] : 0xff;
        value |= (uint32_t)byte << (8 * i);
    }
    pthread_mutex_unlock(&function->lock);
    trace_pci_config_read(function->device.name, offset, size, value);
    return value;
}

static bool touches(unsigned offset, unsigned size, unsigned reg, unsigned reg_size)
{
    return pci_ranges_overlap(offset, size, reg, reg_size);
}

/* Locked. Applies one byte through the masks; true when it changed. */
static bool write_byte(struct pci_function *function, unsigned offset, uint8_t value)
{
    uint8_t old = function->config[offset];
    uint8_t mask = function->writable[offset];
    uint8_t byte = (uint8_t)((old & ~mask) | (value & mask));

    byte = (uint8_t)(byte & ~(value & function->write_clear[offset]));
    __atomic_store_n(&function->config[offset], byte, __ATOMIC_RELEASE);
    return byte != old;
}

void pci_function_config_write(struct pci_function *function, unsigned offset, unsigned size,
                               uint32_t value)
{
    if (size < 1 || size > 4 || offset >= PCI_CONFIG_SIZE)
        return;
    trace_pci_config_write(function->device.name, offset, size, value);
    if (device_check(&function->device, DEVICE_OP_CONFIG) == DEVICE_REFUSE)
        return;
    size = MIN(size, PCI_CONFIG_SIZE - offset);

    bool changed = false;
    unsigned msix = function->msix.capability;
    pthread_mutex_lock(&function->lock);
    pci_config_seal(function);
    for (unsigned i = 0; i < size; i++)
        changed |= write_byte(function, offset + i, (uint8_t)(value >> (8 * i)));
    if (changed &&
        (touches(offset, size, PCI_COMMAND, 2) || touches(offset, size, PCI_BASE_ADDRESS_0, 24) ||
         (msix && touches(offset, size, msix + PCI_MSIX_FLAGS, 2))))
        pci_config_apply(function);
    pthread_mutex_unlock(&function->lock);
    if (function->ops && function->ops->config_written)
        function->ops->config_written(function, offset, size);
}

bool pci_function_mastering_written(const struct pci_function *function, unsigned offset,
                                    unsigned size)
{
    return touches(offset, size, PCI_COMMAND, 1) &&
           function->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

void pci_config_apply(struct pci_function *function)
{
    uint16_t command = pci_get16(function->config + PCI_COMMAND);

    dma_set_enabled(&function->dma, command & PCI_COMMAND_MASTER);
    pci_bar_update(function);
    pci_msix_update(function);
    pci_intx_update(function);
}

/* ---- power-on, reset ---- */

void pci_config_seal(struct pci_function *function)
{
    if (!function->power_on)
        function->power_on = g_memdup2(function->config, PCI_CONFIG_SIZE);
}

void pci_config_assign(struct pci_function *function, unsigned offset, unsigned size,
                       uint32_t value)
{
    pci_config_seal(function);
    pci_put(function->config + offset, size, value);
    pci_put(function->power_on + offset, size, value);
}

void pci_function_reset(struct pci_function *function, bool keep_bars)
{
    trace_pci_reset(function->device.name, keep_bars);
    pthread_mutex_lock(&function->lock);
    pci_config_seal(function);
    uint8_t header_type = function->config[PCI_HEADER_TYPE]; /* the host's multifunction bit */
    memcpy(function->config, function->power_on, PCI_CONFIG_SIZE);
    function->config[PCI_HEADER_TYPE] = header_type;
    if (!keep_bars) {
        function->config[PCI_COMMAND] &= (uint8_t)~COMMAND_DECODE;
        for (unsigned i = 0; i < 24; i++)
            function->config[PCI_BASE_ADDRESS_0 + i] &=
                (uint8_t)~function->writable[PCI_BASE_ADDRESS_0 + i];
    }
    function->intx_level = false;
    pci_msix_reset(function);
    pci_config_apply(function);
    pthread_mutex_unlock(&function->lock);
}

/* ---- state ---- */

static const struct state_field pci_function_fields[] = {
    STATE_BYTES(struct pci_function, saved_config, 1),
    STATE_BUFFER(struct pci_function, saved_msix, PCI_MSIX_MAX_VECTORS *PCI_MSIX_SAVED_SIZE, 1),
    STATE_BOOL(struct pci_function, intx_level, 1),
    STATE_END,
};

const struct state_table pci_function_state = {"pci-function", 1, 1, pci_function_fields};

void pci_function_before_save(struct pci_function *function)
{
    pthread_mutex_lock(&function->lock);
    memcpy(function->saved_config, function->config, PCI_CONFIG_SIZE);
    if (!function->saved_msix)
        function->saved_msix = g_byte_array_new();
    g_byte_array_set_size(function->saved_msix, 0);
    pci_msix_save(function, function->saved_msix);
    pthread_mutex_unlock(&function->lock);
}

/* A stream can set what the guest could have set, and the status bits; the rest is what the function
 * is, and has to be the same. */
static bool check_config(const struct pci_function *function, GError **error)
{
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        uint8_t guest = function->writable[i] | function->write_clear[i];
        uint8_t differs = (function->saved_config[i] ^ function->config[i]) & (uint8_t)~guest;
        if (i == PCI_STATUS)
            differs &= (uint8_t)~PCI_STATUS_INTERRUPT;
        if (differs) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "%s: config space byte 0x%x is 0x%02x in the stream, 0x%02x here: not the "
                        "same device or options",
                        function->device.name, i, function->saved_config[i], function->config[i]);
            return false;
        }
    }
    return true;
}

bool pci_function_after_load(struct pci_function *function, GError **error)
{
    if (!check_config(function, error) || !pci_msix_check(function, function->saved_msix, error))
        return false;
    pthread_mutex_lock(&function->lock);
    pci_config_seal(function);
    memcpy(function->config, function->saved_config, PCI_CONFIG_SIZE);
    pci_msix_reset(function);
    pci_msix_load(function, function->saved_msix);
    pci_config_apply(function);
    pthread_mutex_unlock(&function->lock);
    return true;
}
