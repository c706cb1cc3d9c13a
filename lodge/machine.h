/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine - puts a virtual machine together and carries its life
 *
 * Memory, buses, KVM, the PCI host bridge and every configured device, then the kernel. From then on
 * the machine reacts: to shutdown requests from devices, vCPUs, signals, the control socket and the
 * time-out (the first wins), and to resets, which are carried out in place.
 *
 * Thread: main; machine_request from any thread.
 */
#ifndef LODGE_MACHINE_H
#define LODGE_MACHINE_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/acpi.h"
#include "devices/boottime.h"
#include "devices/vmgenid.h"
#include "firmware/boot.h"
#include "lodge/configuration.h"
#include "pci/host.h"
#include "vmm/device.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/shutdown.h"
#include "vmm/vm.h"

/* A device of the machine: its place in the configuration and what the type made of it. */
struct machine_device {
    const struct device_type *type;
    struct options *options;
    char *id;                      /* "disk0" */
    struct device *device;         /* lifecycle */
    struct pci_function *function; /* PCI devices, attached */
    void *object;
    void (*destroy)(void *object);                           /* after detaching */
    struct virtio_device *vdev;                              /* virtio devices */
    void (*set_link)(struct machine_device *entry, bool up); /* network interfaces; else NULL */
    void (*announce)(struct machine_device *entry);          /* the same */
};

struct control;
struct display;
struct typist;
struct virtio_device;
struct console_tail; /* the last lines of the guest's console */

/* What a program adds to machines that it creates. */
struct machine_hooks {
    /* A virtio console was made: its ports can be added now, and only now. May be NULL. */
    bool (*console_created)(void *opaque, struct virtio_device *console, GError **error);
    /* The guest asks for an end or a reset: true if it is to wait for a machine_request() by whoever
     * knows what the guest left to be done. May be NULL. */
    bool (*guest_ends)(void *opaque, enum shutdown_reason reason);
    void (*ended)(void *opaque); /* on the main loop, once */
    /* Adds what it knows to the times in the result and `stats`. May be NULL. */
    void (*add_times)(void *opaque, JsonObject *times);
    /* What a machine that was not booted here boots at a reset (restored ones); what it fills in lives
     * as long as the machine. NULL: it can't be reset. */
    bool (*find_boot)(void *opaque, struct boot_config *boot, GError **error);
    void *opaque;
    int memory_fd; /* > 0: guest RAM is a private copy of this file, for restoring */
};

struct machine {
    const struct config *config;
    struct memory *memory;
    struct bus *mmio, *ports;
    struct vm *vm;
    struct pci_windows windows;
    struct pci_host *host;
    struct pci_environment env;
    struct devices devices;
    GPtrArray *entries;   /* struct machine_device *, in order of creation */
    GPtrArray *loops;     /* struct loop *, the I/O threads */
    GPtrArray *own_loops; /* struct loop *, one device's each */
    unsigned next_loop;
    struct shutdown_sink shutdown;
    struct boot_config boot;
    struct boot_result booted;
    uint32_t apic_ids[VM_MAX_VCPUS];
    struct acpi *acpi;
    struct boottime *boottime;
    struct vmgenid *vmgenid;
    bool serial[2], rtc;
    struct console_tail *console;
    struct display *display; /* what the guest shows, and input for it */
    GPtrArray *displays;     /* struct display_output *, what --display opened */
    struct typist *typist;
    bool console_visible;    /* some console is on our terminal */
    bool paused;             /* by the control socket */
    bool changing;           /* in machine_pause() or machine_resume() */
    bool migrating;          /* stop, cont and snapshots are refused meanwhile */
    bool arriving;           /* a migration's target, until it starts */
    struct migrate *migrate; /* the last one from here, or NULL */
    GPtrArray *waiting;      /* struct request *, that came meanwhile */
    bool crash_pending;      /* atomic: SHUTDOWN_CRASH_LOADED is on its way */
    struct log_limit guest_reports;
    struct announce *announce; /* of where the guest is now; NULL: it came from nowhere else */
    unsigned resets;           /* atomic */
    /* The end, once there is one; only the first counts. */
    enum shutdown_reason reason;
    int status;
    char *detail;
    struct machine_hooks hooks;
    struct control *control;                                  /* or NULL; told of events */
    void (*event)(struct machine *machine, const char *name); /* or NULL */
    bool no_reboot;
    bool waits_for_command; /* its init has said so, and has not been told one */
};

/* Builds everything but the kernel. Shutdown requests of devices go to this machine. */
struct machine *machine_create(const struct config *config, const struct machine_hooks *hooks,
                               GError **error);
void machine_destroy(struct machine *machine); /* NULL is allowed */

/* What the kernel gets; strings and data must outlive the machine. Loads it and sets the entry. */
bool machine_boot(struct machine *machine, const struct boot_config *boot, GError **error);
bool machine_start(struct machine *machine, GError **error);

/* Stops vCPUs, then devices (all reach P2P, then STOP); and back. Idempotent. Turns the main loop:
 * requests that come meanwhile are carried out afterwards; a pause or resume within fails. A reset
 * leaves a paused machine paused. */
bool machine_pause(struct machine *machine, GError **error);
bool machine_resume(struct machine *machine, GError **error);

/*
 * For migrations. Hold: stops the guest as machine_pause does, and on, so that its devices may be
 * saved. Release: the guest goes on after it (or is not touched, if it was not held). Settle: it stays
 * stopped, as after machine_pause. Start: of one that arrived, when all is loaded.
 */
bool machine_hold(struct machine *machine, GError **error);
bool machine_release(struct machine *machine, GError **error);
bool machine_settle(struct machine *machine, GError **error);

/* Ends the machine for @reason, or resets it. Any thread. */
void machine_request(struct machine *machine, enum shutdown_reason reason, int status,
                     const char *detail);
void machine_power_button(struct machine *machine);

struct machine_device *machine_find(struct machine *machine, const char *id);
/* The first device of a type, or NULL. */
struct machine_device *machine_find_type(struct machine *machine, const char *type);
/* Is no console of the guest connected to the terminal? */
bool machine_console_hidden(const struct machine *machine);

/* ---- for device types ---- */

/* The loop for this device's data path: its iothread= key, else in turn. */
struct loop *machine_io_loop(struct machine *machine, const struct machine_device *entry);
/* A loop of its own, for a device that may keep its thread long. The machine's; NULL with @error set. */
struct loop *machine_own_loop(struct machine *machine, const char *name, GError **error);
/* Attaches at the slot= key or the next free slot, and registers the device. */
bool machine_attach(struct machine *machine, struct machine_device *entry,
                    struct pci_function *function, GError **error);
/* A console of the guest is on @chardev, opened by @entry's options: watches its end, and serves the
 * keys of a terminal (Ctrl-A x ends, p presses the power button). */
struct chardev;
void machine_console_opened(struct machine *machine, const struct machine_device *entry,
                            struct chardev *chardev);

#endif
