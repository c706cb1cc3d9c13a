/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device - the one lifecycle of every device
 *
 * The states are those of the VFIO migration protocol version 2 (<linux/vfio.h>, enum
 * vfio_device_mig_state), with their values. One constant table (device.c) says, state by operation,
 * what is allowed; the gates consult it, so that no device can break it:
 *
 *     gate                          operation
 *     dma_*           (vmm/dma)     DMA_READ, DMA_WRITE
 *     irq_*           (vmm/irq)     INTERRUPT
 *     region access   (pci, bus)    CONFIG, REGISTER_READ, REGISTER_WRITE
 *     device_save, device_load      SAVE, LOAD
 *
 *   RUNNING, PRE_COPY            everything (in PRE_COPY the state may be read already)
 *   RUNNING_P2P, PRE_COPY_P2P    accesses are answered; no DMA, interrupts are latched; doorbells wait
 *   STOP                         config space and MSI-X table are answered, registers read without
 *                                side effects, register writes are counted and dropped; what the
 *                                host side changes may still latch an interrupt
 *   STOP_COPY                    no accesses (reads give all ones); the state may be read
 *   RESUMING                     no accesses; the state may be written
 *   ERROR                        nothing but reset
 *
 * A refused operation that a well-behaved orchestrator would not cause is a violation: it is counted
 * and, with device_violations_fatal (tests), aborts. (Guest accesses in ERROR are not: vCPUs may run.)
 *
 * Threads: state changes on the main thread; gates on any thread (one atomic load).
 */
#ifndef VMM_DEVICE_H
#define VMM_DEVICE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/log.h"

struct irq_msi;
struct irq_line;
struct state_table;

enum device_state {
    DEVICE_ERROR = 0,
    DEVICE_STOP = 1,
    DEVICE_RUNNING = 2,
    DEVICE_STOP_COPY = 3,
    DEVICE_RESUMING = 4,
    DEVICE_RUNNING_P2P = 5,
    DEVICE_PRE_COPY = 6,
    DEVICE_PRE_COPY_P2P = 7,
    DEVICE_STATES
};

enum device_operation {
    DEVICE_OP_CONFIG, /* config space and MSI-X table */
    DEVICE_OP_REGISTER_READ,
    DEVICE_OP_REGISTER_WRITE,
    DEVICE_OP_DMA_READ,
    DEVICE_OP_DMA_WRITE,
    DEVICE_OP_INTERRUPT,
    DEVICE_OP_SAVE,
    DEVICE_OP_LOAD,
    DEVICE_OPERATIONS
};

enum device_verdict {
    DEVICE_ALLOW,
    DEVICE_LATCH,  /* keep it and do it once when the device runs again */
    DEVICE_REFUSE, /* reads give all ones, writes are dropped; counted */
};

struct device;

struct device_ops {
    /*
     * RUNNING -> RUNNING_P2P, first half: stop starting anything new (no descriptor is fetched, no
     * packet read from the host). Main thread. What is in flight may still do DMA and interrupt.
     */
    void (*quiesce)(struct device *device);
    /* Second half: has everything in flight completed and been published to the guest? Main thread,
     * polled; must not block. NULL: always. The state changes only when it returns true. */
    bool (*quiesced)(struct device *device);
    /* RUNNING_P2P -> RUNNING: start again and look at every doorbell and backend once, whether it was
     * rung or not. The state is RUNNING already. */
    void (*resume)(struct device *device);
    /* Power-on state. The state becomes RUNNING. */
    void (*reset)(struct device *device);
    /* Called around saving and loading the state table; both may be NULL. after_load checks what the
     * table can't (cross-field limits) and rebuilds what is derived; -EINVAL with @error set. */
    void (*before_save)(struct device *device);
    bool (*after_load)(struct device *device, GError **error);
};

struct device {
    char *name;       /* unique in the machine and stable: "virtio-blk0", "serial0" */
    const char *type; /* "virtio-blk" */
    const struct device_ops *ops;
    const struct state_table *state_table; /* what is saved, or NULL: nothing */
    void *state_base;                      /* the object that the table describes */
    const char *migration_blocker;         /* why it can't be saved, or NULL; static string */
    enum device_state state;               /* atomic */
    struct irq_msi *msis;                  /* registered by irq_*_init */
    struct irq_line *lines;
    struct log_limit guest_errors; /* for log_guest(&device->guest_errors, device->name, ...) */
    uint64_t violations;           /* refused operations, atomic */
    bool quiescing;                /* asked to quiesce, not there yet; the rest is device.c's own */
    enum device_state origin, target;
    struct device *next; /* of struct devices */
};

/* Starts in RUNNING. @name is copied. */
void device_init(struct device *device, const char *name, const char *type,
                 const struct device_ops *ops);
void device_finish(struct device *device);

/* Power-on: drops latched interrupts; from any state, ERROR too. Main thread. */
void device_reset(struct device *device);
/* To ERROR, for good until a reset; @reason (one line) is logged. Main thread. */
void device_fail(struct device *device, const char *reason);

/*
 * The state as a stream, gated (PRE_COPY*, STOP_COPY; RESUMING). Errors name the device. A stream that
 * does not decode leaves the device as it was; one that after_load refuses puts it into ERROR.
 */
bool device_save(struct device *device, GByteArray *out, GError **error);
bool device_load(struct device *device, const uint8_t *data, size_t size, GError **error);

enum device_verdict device_check(struct device *device, enum device_operation operation);
static inline enum device_state device_state(const struct device *device)
{
    return __atomic_load_n(&device->state, __ATOMIC_ACQUIRE);
}
/* May the device fetch new work? (RUNNING, PRE_COPY.) Data paths ask before they pop a request. */
static inline bool device_is_running(const struct device *device)
{
    enum device_state state = device_state(device);
    return state == DEVICE_RUNNING || state == DEVICE_PRE_COPY;
}
const char *device_state_name(enum device_state state); /* "RUNNING_P2P" */

/* The table itself, for documents and tests. */
enum device_verdict device_rule(enum device_state state, enum device_operation operation);
/* The next state on the shortest path from @from to @to that the protocol allows, or -EINVAL. */
int device_next_state(enum device_state from, enum device_state to);

/* Whether gate violations abort the process; for tests. */
void device_violations_fatal(bool fatal);

/* ---- all devices of a machine ---- */

struct devices {
    struct device *first; /* in order of addition */
    bool changing;        /* in devices_set_state() */
};

bool devices_add(struct devices *devices, struct device *device, GError **error); /* name taken? */
void devices_remove(struct devices *devices, struct device *device);
struct device *devices_find(const struct devices *devices, const char *name);

/*
 * Brings every device to @target along the legal arcs, with a barrier at P2P both ways: no device
 * goes on to STOP (or back to RUNNING) before all have reached P2P. If one fails or does not drain
 * in @timeout_ms, all go back to where they were and the error names it. A device in ERROR stays
 * there; it keeps others from being saved or loaded, not from pausing. Turns the main loop while it
 * waits; entered again from there (or devices_add), it fails. Main thread.
 */
bool devices_set_state(struct devices *devices, enum device_state target, unsigned timeout_ms,
                       GError **error);
void devices_reset(struct devices *devices);

#endif
