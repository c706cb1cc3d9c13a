/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * function - one PCI function: config space, regions, interrupts, DMA, reset, lifecycle
 *
 * Shaped after VFIO on purpose (region indices, "read/write a region", eventfd interrupts), so that
 * the same function can be attached to our host bridge, or served to another monitor over
 * vfio-user, and a remote or a real device can be a function whose operations forward.
 *
 * A device embeds struct pci_function as its first member, fills a pci_identity and its regions, and
 * is attached with pci_host_attach. Config space has, per bit, declared writable and
 * write-one-to-clear masks; command, status, BARs, capabilities and MSI-X are handled here and not
 * by the device.
 *
 * Threads: config and region accesses arrive on vCPU threads, possibly several at once: config space
 * is serialised here, the device's region handlers are not. Set-up on the main thread.
 */
#ifndef PCI_FUNCTION_H
#define PCI_FUNCTION_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/dma.h"
#include "vmm/irq.h"

#define PCI_CONFIG_SIZE 4096u
#define PCI_BARS        6

/* Region indices, as VFIO's. */
enum pci_region {
    PCI_REGION_BAR0,
    PCI_REGION_BAR1,
    PCI_REGION_BAR2,
    PCI_REGION_BAR3,
    PCI_REGION_BAR4,
    PCI_REGION_BAR5,
    PCI_REGION_ROM,
    PCI_REGION_CONFIG,
    PCI_REGIONS
};

enum pci_bar_flags {
    PCI_BAR_IO = 1 << 0, /* ports; else memory */
    PCI_BAR_64 = 1 << 1, /* takes this index and the next */
    PCI_BAR_PREFETCH = 1 << 2,
};

struct pci_function;
struct pci_host;

struct pci_function_ops {
    /* Accesses to BARs (not to the parts that MSI-X occupies). Offset is in the region; 1, 2, 4 or 8
     * bytes, within the region's size. vCPU threads. NULL: reads as zero, writes dropped. */
    uint64_t (*region_read)(struct pci_function *function, unsigned region, uint64_t offset,
                            unsigned size);
    void (*region_write)(struct pci_function *function, unsigned region, uint64_t offset,
                         unsigned size, uint64_t value);
    /* After a guest write changed config bytes [offset, offset + size): for device-specific
     * registers (a capability's), and to see the command register change. vCPU thread; optional. */
    void (*config_written)(struct pci_function *function, unsigned offset, unsigned size);
    /* Before a guest read of config bytes [offset, offset + size): brings registers that are windows
     * to something else up to date in config[]. vCPU thread, no lock held; optional. */
    void (*config_read)(struct pci_function *function, unsigned offset, unsigned size);
};

struct pci_identity {
    uint16_t vendor_id, device_id;
    uint16_t subsystem_vendor_id, subsystem_id;
    uint8_t revision;
    uint32_t class_code; /* 24 bits: class, subclass, programming interface */
};

struct pci_doorbell; /* an eventfd in a BAR; private */
struct pci_mapping;  /* directly mapped part of a BAR; private */

struct pci_bar {
    uint64_t size;    /* bytes, power of two; 0: not there */
    unsigned flags;   /* enum pci_bar_flags */
    uint64_t address; /* where it is mapped now; meaningful while mapped */
    bool mapped;      /* decoding is on and the address is usable */
    uint64_t refused; /* last address that could not be mapped: said once */
    struct pci_function *function;
    struct pci_doorbell *doorbells;
    struct pci_mapping *mappings;
};

struct pci_msix {
    unsigned vectors; /* 0: no MSI-X */
    unsigned bar;
    uint32_t table_offset, pba_offset;
    unsigned capability; /* offset in config space */
    uint8_t *table;      /* 16 bytes a vector, as the guest wrote it */
    struct irq_msi *msi; /* one a vector */
    bool was_enabled;    /* at the last look: what is pending goes when it is turned off */
};

struct pci_function {
    struct device device; /* name, lifecycle; ops and state table set by the owner */
    const struct pci_function_ops *ops;
    struct dma dma;
    struct memory *memory;
    struct interrupts *interrupts;
    struct loop *loop;
    struct pci_host *host; /* NULL while not attached */
    uint8_t slot, number;  /* device 0-31, function 0-7 */
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t writable[PCI_CONFIG_SIZE];    /* bits the guest may change */
    uint8_t write_clear[PCI_CONFIG_SIZE]; /* bits cleared by writing one */
    uint8_t *power_on;                    /* what reset restores; taken at first use */
    unsigned next_capability;             /* where the next standard capability goes */
    unsigned last_capability;
    unsigned next_extended, last_extended; /* the same of the list from 0x100 on */
    unsigned pcie_capability;              /* its offset */
    struct pci_bar bars[PCI_BARS];
    struct pci_msix msix;
    struct irq_line intx;
    bool has_intx;
    bool intx_level; /* what the device drives, before the command register's disable bit */
    uint8_t saved_config[PCI_CONFIG_SIZE]; /* of the state table: checked before it counts */
    GByteArray *saved_msix;
    pthread_mutex_t lock; /* config space and BAR mapping; never held in a callback */
};

/* What a function needs of its machine. */
struct pci_environment {
    struct memory *memory;
    struct interrupts *interrupts;
    struct loop *loop; /* main loop: INTx resampling */
};

/* Initialises a type 0 function with a PCIe capability (root complex integrated endpoint, so that
 * drivers see extended config space). @name and the lifecycle ops go to device_init. */
void pci_function_init(struct pci_function *function, const char *name, const char *type,
                       const struct device_ops *device_ops, const struct pci_function_ops *ops,
                       const struct pci_identity *identity, const struct pci_environment *env);
void pci_function_finish(struct pci_function *function); /* detached before */

/* Set-up, before attaching. Sizes are rounded by the caller: power of two, >= 16 (memory), >= 4 (io). */
void pci_function_add_bar(struct pci_function *function, unsigned index, uint64_t size,
                          unsigned flags);
/* Appends a standard capability of @size bytes (with its 2-byte header); returns its offset, or
 * -ENOSPC. The body is zero and read-only: the caller fills config[] and writable[]. */
int pci_function_add_capability(struct pci_function *function, uint8_t id, unsigned size);
/* Appends a PCIe extended capability (offset >= 0x100); returns its offset or -ENOSPC. */
int pci_function_add_extended_capability(struct pci_function *function, uint16_t id,
                                         uint8_t version, unsigned size);
/* Sets config bytes as the device (1, 2 or 4, little-endian), masks aside. At set-up, or from
 * config_read; not for the command register or BARs. */
void pci_function_config_set(struct pci_function *function, unsigned offset, unsigned size,
                             uint32_t value);
/* MSI-X with @vectors (1-2048) in BAR @bar; the table takes 16 bytes a vector from @table_offset,
 * the PBA 8 bytes per 64 from @pba_offset (both 8-aligned, not overlapping). 0 or -errno. */
int pci_function_add_msix(struct pci_function *function, unsigned vectors, unsigned bar,
                          uint32_t table_offset, uint32_t pba_offset);
/* Gives the function interrupt pin @pin (1 = INTA). The line comes with attaching. */
void pci_function_add_intx(struct pci_function *function, uint8_t pin);

/*
 * An eventfd (not owned) that rings when the guest writes to [offset, +size) of a memory or port
 * BAR; follows the BAR when the guest moves it. See struct bus_doorbell for @size, @match, @value.
 */
int pci_function_add_doorbell(struct pci_function *function, unsigned bar, uint64_t offset,
                              unsigned size, bool match, uint64_t value, int fd);
void pci_function_remove_doorbell(struct pci_function *function, unsigned bar, uint64_t offset,
                                  unsigned size, bool match, uint64_t value, int fd);
/* A directly mapped, page-aligned part of a BAR (a memory slot that moves with it). */
int pci_function_add_mapping(struct pci_function *function, unsigned bar, uint64_t offset,
                             uint64_t size, void *host, int fd, uint64_t fd_offset);

/* ---- used by the data path ---- */

/* Of .config_written: was bus mastering written, and is it on? What was rung before has been passed by. */
bool pci_function_mastering_written(const struct pci_function *function, unsigned offset,
                                    unsigned size);
/* Fires MSI-X vector @vector (out of range, or MSI-X disabled: nothing). A vector counts as masked
 * while bus mastering is off: a message is a memory write. Any thread. */
void pci_function_fire(struct pci_function *function, unsigned vector);
bool pci_function_msix_enabled(const struct pci_function *function);
/* Drives INTx (nothing happens on the line while MSI-X is on or it is disabled). Any thread. */
void pci_function_set_intx(struct pci_function *function, bool level);

/* ---- used by the host bridge, the vfio-user server, and tests ---- */

/* Config space access as the guest makes it: 1, 2 or 4 bytes, any alignment within 4 KiB (no more
 * than the space; the rest reads as ones). Goes through the lifecycle gate. */
uint32_t pci_function_config_read(struct pci_function *function, unsigned offset, unsigned size);
void pci_function_config_write(struct pci_function *function, unsigned offset, unsigned size,
                               uint32_t value);
/* Region access by index and offset, 1 to 8 bytes (the device sees 1, 2, 4 or 8), MSI-X table and PBA
 * included; through the lifecycle gate. */
uint64_t pci_function_region_read(struct pci_function *function, unsigned region, uint64_t offset,
                                  unsigned size);
void pci_function_region_write(struct pci_function *function, unsigned region, uint64_t offset,
                               unsigned size, uint64_t value);
/* Config space to power-on values, MSI-X masked and off, nothing pending, INTx low. Part of a
 * device's own reset op. With @keep_bars BARs and decoding return to what the firmware
 * (pci_host_assign) had set, else to zero and off. */
void pci_function_reset(struct pci_function *function, bool keep_bars);

/* State table of the PCI part (config, MSI-X); a device's own table nests it as its first field, and
 * calls pci_function_before_save and _after_load from its own ops: they check what was loaded, remap
 * BARs and reroute vectors. */
extern const struct state_table pci_function_state;
void pci_function_before_save(struct pci_function *function);
bool pci_function_after_load(struct pci_function *function, GError **error);

#endif
