/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * irq - interrupts: an MSI message or a line of the interrupt controller
 *
 * Firing is writing an eventfd that KVM turns into an interrupt (irqfd): any thread may fire, and so
 * may another process that was handed the eventfd. This is one of the three lifecycle gates
 * (vmm/device.h): while the owner's state forbids interrupts, a firing is latched in the object and
 * happens once when the device runs again.
 *
 * struct interrupts is the machine's side: KVM's in-kernel controllers, or a test double.
 *
 * Threads: irq_msi_fire, irq_line_set from any thread. Set-up from the main thread; routes and masks
 * change on vCPU threads too (serialised inside).
 */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct device;
struct loop;

/* What delivers; functions return 0 or -errno. */
struct interrupts_ops {
    /* Global system interrupt @gsi shall send this message from now on (KVM_SET_GSI_ROUTING). */
    int (*route_msi)(void *opaque, uint32_t gsi, uint64_t address, uint32_t data);
    /* @fd (an eventfd) injects @gsi: once a signal, or as a level until the guest's EOI when
     * @resample_fd >= 0, which is signalled at that EOI. A count that @fd holds already is injected. */
    int (*attach)(void *opaque, uint32_t gsi, int fd, int resample_fd);
    int (*detach)(void *opaque, uint32_t gsi, int fd);
};

struct interrupts;

#define INTERRUPTS_PINS 24 /* of the I/O APIC: GSIs 0-23; MSI routes get numbers above */

struct interrupts *interrupts_create(const struct interrupts_ops *ops, void *opaque);
void interrupts_destroy(struct interrupts *interrupts);

/* ---- MSI and MSI-X vectors ---- */

struct irq_msi {
    struct interrupts *interrupts;
    struct device *device; /* whose state gates it; may be NULL */
    uint32_t gsi;
    int fd; /* the eventfd; readable while masked = pending */
    uint64_t address;
    uint32_t data;
    bool routed;          /* a message was set */
    bool masked;          /* not attached: signals stay in fd */
    bool attached;        /* the controller listens to fd; private to irq.c, as the next two */
    uint64_t set_address; /* the message that the controller has for gsi */
    uint32_t set_data;
    bool set;
    bool latched;         /* fired while the state forbade it; atomic */
    uint64_t fired;       /* statistics; atomic */
    struct irq_msi *next; /* of the same device: the list that a resume walks */
};

/* Starts masked, without a message. 0 or -errno (-ENOSPC: the controller has no number left). */
int irq_msi_init(struct irq_msi *msi, struct interrupts *interrupts, struct device *device);
void irq_msi_finish(struct irq_msi *msi);

/* Kept while masked, so that the writes of one guest update reach the controller once. */
int irq_msi_set_message(struct irq_msi *msi, uint64_t address, uint32_t data);
int irq_msi_set_masked(struct irq_msi *msi, bool masked); /* unmasking delivers what is pending */
bool irq_msi_pending(const struct irq_msi *msi);
void irq_msi_clear_pending(struct irq_msi *msi);
void irq_msi_fire(struct irq_msi *msi);

/* ---- lines ---- */

struct irq_line {
    struct interrupts *interrupts;
    struct device *device;
    uint32_t pin;
    bool level_triggered; /* PCI INTx; false: ISA style, an edge per rising level */
    int fd;
    int resample_fd; /* -1 for edge */
    struct loop_fd *resample;
    bool level;   /* what the device drives; atomic */
    bool latched; /* a rising edge while the state forbade it; atomic */
    uint64_t fired;
    struct irq_line *next;
};

/* @loop watches the guest's EOIs of a level line (asserts again while the level is up). */
int irq_line_init(struct irq_line *line, struct interrupts *interrupts, struct device *device,
                  uint32_t pin, bool level_triggered, struct loop *loop);
void irq_line_finish(struct irq_line *line);
void irq_line_set(struct irq_line *line, bool level);

/* Called by vmm/device.c when a device may interrupt again: fires what was latched, once each. */
void irq_release_latched(struct device *device);

#endif
