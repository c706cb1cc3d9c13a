/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * harness - a machine without vCPUs, for device tests
 *
 * Memory, both buses, the PCI host bridge, a list of devices and interrupts that nobody takes but
 * which are counted. The test is the guest: it allocates guest memory, programs config space and BARs
 * through ECAM, ports and buses as a driver would, and waits for interrupts. Devices run on
 * loop_main(), which only turns while the test waits (harness_wait*), or on I/O loops of their own.
 *
 * A violated expectation inside the harness ends the test (g_assert). Lifecycle gate violations are
 * fatal (device_violations_fatal) unless a test turns that off.
 *
 * Thread: the test's only.
 */
#ifndef TESTS_DEVICE_HARNESS_H
#define TESTS_DEVICE_HARNESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "pci/host.h"
#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/shutdown.h"

#define HARNESS_TIMEOUT_MS 5000 /* of a wait that should succeed; generous for slow machines */

struct harness_interrupts; /* private */

struct harness {
    struct memory *memory;
    struct bus *mmio, *ports;
    struct interrupts *interrupts;
    struct pci_host *host;
    struct devices devices;
    struct loop *loop;          /* loop_main() */
    struct pci_environment env; /* all of the above that a PCI function wants */

    /* What was reported to @shutdown, the first time and how often. */
    struct shutdown_sink shutdown;
    enum shutdown_reason shutdown_reason;
    int shutdown_status;
    unsigned shutdowns;

    struct harness_interrupts *taken;
    uint64_t next_free; /* of the guest memory allocator */
};

/* @ram_size: bytes, page aligned; 0: 64 MiB. */
struct harness *harness_create(uint64_t ram_size);
void harness_destroy(struct harness *h); /* devices are detached and destroyed by the test before */

/* ---- guest memory ---- */

/* @size bytes of zeroed guest memory at a multiple of @align (a power of two; 0: 16). Never freed. */
uint64_t harness_alloc(struct harness *h, uint64_t size, uint64_t align);
/* Host address of guest RAM [gpa, gpa + len): for tests that look at a lot of it. */
void *harness_ptr(struct harness *h, uint64_t gpa, uint64_t len);
void harness_read(struct harness *h, uint64_t gpa, void *buffer, uint64_t len);
void harness_write(struct harness *h, uint64_t gpa, const void *buffer, uint64_t len);
uint64_t harness_load(struct harness *h, uint64_t gpa,
                      unsigned size); /* little-endian, 1-8 bytes */
void harness_store(struct harness *h, uint64_t gpa, unsigned size, uint64_t value);

/* ---- waiting ---- */

/* Turns the main loop and takes interrupts until @done says true; false after @timeout_ms. */
bool harness_wait(struct harness *h, bool (*done)(void *opaque), void *opaque, int timeout_ms);
/* The same until *flag is set. */
bool harness_wait_flag(struct harness *h, const bool *flag, int timeout_ms);
/* Turns the main loop for @ms and takes interrupts: to see that something does not happen. */
void harness_settle(struct harness *h, int ms);

/* The proof that a device is quiet: takes memory up to @size (0: what was allocated) and the counts of a function's first
 * vectors; harness_unmoved, after which the caller's are as before, or not, frees that. */
struct harness_still *harness_watch(struct harness *h, uint64_t size, unsigned slot,
                                    unsigned vectors);
bool harness_unmoved(struct harness_still *still);

/* ---- PCI as a driver does it; @slot's function 0 ---- */

/*
 * Attaches @function to the next free slot and its device to the list, assigns BARs, and enables
 * decoding and bus mastering as pci_enable_device and pci_set_master would. Returns the slot.
 */
unsigned harness_attach(struct harness *h, struct pci_function *function);
void harness_detach(struct harness *h, struct pci_function *function);

uint32_t harness_config_read(struct harness *h, unsigned slot, unsigned offset, unsigned size);
void harness_config_write(struct harness *h, unsigned slot, unsigned offset, unsigned size,
                          uint32_t value);
/* The same for any function (devfn = slot * 8 + number), over ECAM or over ports 0xcf8/0xcfc. */
uint32_t harness_ecam_read(struct harness *h, unsigned devfn, unsigned offset, unsigned size);
void harness_ecam_write(struct harness *h, unsigned devfn, unsigned offset, unsigned size,
                        uint32_t value);
uint32_t harness_port_config_read(struct harness *h, unsigned devfn, unsigned offset,
                                  unsigned size);
void harness_port_config_write(struct harness *h, unsigned devfn, unsigned offset, unsigned size,
                               uint32_t value);
/* Sets and clears bits of the command register. */
void harness_command(struct harness *h, unsigned slot, uint16_t set, uint16_t clear);

/* Offset of the first capability @id after @previous (0: from the start); 0: there is none. */
unsigned harness_capability(struct harness *h, unsigned slot, uint8_t id, unsigned previous);
unsigned harness_extended_capability(struct harness *h, unsigned slot, uint16_t id);

/* Where BAR @bar is, as its registers say; and accesses there, over the bus. */
uint64_t harness_bar_address(struct harness *h, unsigned slot, unsigned bar);
uint64_t harness_bar_read(struct harness *h, unsigned slot, unsigned bar, uint64_t offset,
                          unsigned size);
void harness_bar_write(struct harness *h, unsigned slot, unsigned bar, uint64_t offset,
                       unsigned size, uint64_t value);

/* ---- MSI-X ---- */

/* Enables MSI-X with @vectors (at most those there are) given a message each and unmasked, the rest
 * masked; returns how many vectors the function has. */
unsigned harness_msix_enable(struct harness *h, unsigned slot, unsigned vectors);
void harness_msix_disable(struct harness *h, unsigned slot);
void harness_msix_mask(struct harness *h, unsigned slot, unsigned vector, bool masked);
bool harness_msix_pending(struct harness *h, unsigned slot, unsigned vector); /* in the PBA */
/* The message that harness_msix_enable gives a vector. */
uint64_t harness_msix_address(unsigned slot, unsigned vector);
uint32_t harness_msix_data(unsigned slot, unsigned vector);

/* How often the vector's message was delivered so far. */
uint64_t harness_msi_count(struct harness *h, unsigned slot, unsigned vector);
/* Waits until it was delivered @count times or more since the start; false after the time-out. */
bool harness_wait_msi(struct harness *h, unsigned slot, unsigned vector, uint64_t count,
                      int timeout_ms);
/* Deliveries of any message, by what is in it. */
uint64_t harness_message_count(struct harness *h, uint64_t address, uint32_t data);

/* ---- lines ---- */

uint64_t harness_gsi_count(struct harness *h, uint32_t gsi); /* edges, or assertions of a level */
bool harness_gsi_level(struct harness *h, uint32_t gsi);     /* asserted and not acknowledged */
bool harness_wait_gsi(struct harness *h, uint32_t gsi, uint64_t count, int timeout_ms);
void harness_eoi(struct harness *h, uint32_t gsi); /* the guest's end of interrupt */

/* ---- lifecycle ---- */

/* The device's state as a stream, by way of STOP_COPY and back to RUNNING; the caller frees it. */
GByteArray *harness_save(struct device *device);
/* Loads it, by way of RESUMING and on to RUNNING; a device that refused it is reset. */
bool harness_load_state(struct device *device, const GByteArray *saved, GError **error);

#endif
