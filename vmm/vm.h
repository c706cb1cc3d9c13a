/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vm - a KVM virtual machine: in-kernel interrupt controllers, vCPU threads, exits
 *
 * Joins the parts of this floor: memory becomes KVM slots (memory_listener), the buses' doorbells
 * ioeventfds, struct interrupts irqfds and routes. vCPUs run on threads of their own and serve port
 * and memory-mapped exits inline.
 *
 * Threads: the main thread, but where said.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/memory.h"
#include "vmm/shutdown.h"

#define VM_MAX_VCPUS 64

struct vm;

struct vm_config {
    unsigned vcpus;   /* 1 to VM_MAX_VCPUS */
    unsigned threads; /* per core, default 1 */
    unsigned cores;   /* per socket, default vcpus / threads */
    struct memory *memory;
    struct bus *mmio, *ports;
    struct shutdown_sink shutdown;
    const char *kvm_path; /* default "/dev/kvm" */
    /* A stock kernel is to run: refuse a KVM without hardware support with the remedy, unless set. */
    bool allow_software_kvm;
};

/*
 * Opens KVM and creates the machine with its vCPUs (stopped). Errors are one line: cause and remedy
 * (no /dev/kvm, no permission, too old, no hardware virtualization behind it).
 */
struct vm *vm_create(const struct vm_config *config, GError **error);
void vm_destroy(struct vm *vm); /* stops vCPUs; NULL is allowed */
struct interrupts *vm_interrupts(struct vm *vm);
unsigned vm_vcpus(const struct vm *vm);
uint32_t vm_vcpu_apic_id(const struct vm *vm, unsigned vcpu);
unsigned vm_physical_bits(const struct vm *vm); /* guest-physical address bits, from CPUID */

/* How vCPU 0 enters the guest; the others wait for INIT/SIPI. */
struct vm_entry {
    enum { VM_ENTRY_LONG_MODE, VM_ENTRY_PROTECTED_MODE } mode;
    uint64_t rip, rsp;
    uint64_t rsi; /* Linux boot protocol: boot_params */
    uint64_t rbx; /* PVH: hvm_start_info */
    uint64_t cr3; /* long mode: identity page tables, made by firmware/ */
    uint64_t gdt_base;
    uint16_t gdt_limit; /* with code at 0x10 and data at 0x18, made by firmware/ */
};
bool vm_set_entry(struct vm *vm, const struct vm_entry *entry, GError **error);

/* Full reset of vCPUs and interrupt controllers to power-on; set_entry again before resume. */
bool vm_reset(struct vm *vm, GError **error);

bool vm_start(struct vm *vm, GError **error); /* creates the threads; they run */
void vm_pause(struct vm *vm); /* returns when no vCPU is in the guest or a handler */
void vm_resume(struct vm *vm);
bool vm_is_running(const struct vm *vm);

/*
 * What the vCPUs and KVM itself write to RAM, by KVM's log (vmm/memory has what the monitor writes).
 * Start marks nothing: the caller takes all pages for dirty then. Sync ORs the pages of @region that
 * were written since the last call (or the start) into @bitmap, and forgets them. 0 or -errno.
 */
int vm_dirty_start(struct vm *vm);
void vm_dirty_stop(struct vm *vm);
int vm_dirty_sync(struct vm *vm, const struct memory_region *region, uint64_t *bitmap);

/* Counters, any thread. */
struct vm_stats {
    uint64_t exits; /* to user space */
    uint64_t port_exits, mmio_exits, other_exits;
};
void vm_get_stats(const struct vm *vm, struct vm_stats *stats);
/* Exits by port or page of MMIO address, most first, for `stats`: fills at most @max. */
struct vm_exit_count {
    enum bus_kind kind;
    bool write;
    uint64_t address;
    uint64_t count;
};
unsigned vm_get_exit_counts(const struct vm *vm, struct vm_exit_count *counts, unsigned max);

/* For doctor: what this host's KVM can do. Never fails; fields tell. */
struct vm_probe {
    bool present, permitted, usable;
    bool hardware; /* vmx or svm behind it */
    int api_version;
    char detail[256]; /* cause, when not usable */
    char remedy[256];
};
void vm_probe(const char *kvm_path, struct vm_probe *probe);

/* For debugging and `ctl query-vcpus`, and the panic report: registers as text, while paused. */
char *vm_describe_vcpu(struct vm *vm, unsigned vcpu);

#endif
