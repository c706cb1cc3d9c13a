/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vm_private - shared by the files that make up a KVM machine; not for others. */
#ifndef VMM_VM_PRIVATE_H
#define VMM_VM_PRIVATE_H

#include <glib.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/vcpu_state.h"
#include "vmm/vm.h"

/* Exits by address of one vCPU; written by its thread, read by any. A power of two. */
#define EXIT_SLOTS  1024u
#define EXIT_PROBES 16u

struct exit_slot {
    uint64_t key; /* atomic: address << 2 | port << 1 | write, plus 1; 0: free */
    uint64_t count;
};

struct vcpu {
    struct vm *vm;
    unsigned index;
    uint32_t apic_id;
    int fd;
    struct kvm_run *run;
    pthread_t thread;
    bool has_thread;
    /* The last exit was an access whose instruction KVM ends at the next KVM_RUN. Thread's own. */
    bool unfinished;
    /* Under vm->lock. */
    bool parked;  /* not in KVM_RUN nor in a handler, until vm->run_cond */
    bool faulted; /* can't go on until a reset */
    struct vcpu_state power_on;
    /* Statistics: atomics with one writer. */
    struct vm_stats stats;
    struct exit_slot exits[EXIT_SLOTS];
};

struct vm {
    struct vm_config config;
    int kvm_fd, fd;
    bool hardware; /* virtualization by the CPU is behind this KVM */
    bool any_length_doorbells;
    bool dirty_log;       /* of RAM slots */
    uint32_t run_size;    /* of struct kvm_run's mapping */
    uint32_t nested_size; /* of struct kvm_nested_state; 0: none */
    unsigned physical_bits;
    struct kvm_cpuid2 *cpuid; /* common part */
    struct kvm_msr_list *msr_list;
    struct vcpu *vcpus;
    unsigned vcpu_count; /* that exist in @vcpus */
    struct vm_chips_state power_on;

    struct interrupts *interrupts;
    pthread_mutex_t route_lock;
    struct kvm_irq_routing *routes;
    unsigned route_room;

    pthread_mutex_t lock;
    pthread_cond_t parked_cond; /* vCPUs tell who pauses */
    pthread_cond_t run_cond;    /* who resumes tells vCPUs */
    bool started;
    bool pause, quit; /* written under the lock; atomic */
};

#define KICK_SIGNAL SIGRTMIN

/* ---- kvm.c: the machine without its vCPUs ---- */

/* ioctl that goes on after EINTR; -errno instead of -1. */
int kvm_ioctl(int fd, unsigned long request, void *argument);
/* "kvm: WHAT: CAUSE" */
void kvm_set_error(GError **error, int err, const char *what, ...) G_GNUC_PRINTF(3, 4);
/* Opens KVM and makes the machine with its interrupt controllers; false with @error set. */
bool kvm_open(struct vm *vm, GError **error);
/* Makes memory, buses and interrupts KVM's; after kvm_open. */
bool kvm_plug(struct vm *vm, GError **error);
void kvm_unplug(struct vm *vm);
void kvm_close(struct vm *vm);

/* ---- cpuid.c ---- */

#define CPUID_ROOM 256u /* entries; KVM takes no more */

struct cpuid_config {
    unsigned vcpus, threads, cores; /* threads per core, cores per socket */
    uint32_t tsc_khz;               /* 0: not known */
    bool tsc_deadline;              /* KVM's local APIC has the TSC-deadline timer */
};

uint32_t cpuid_apic_id(const struct cpuid_config *config, unsigned vcpu);
/* From what KVM supports to what every vCPU of this machine has; @cpuid has room for CPUID_ROOM. */
void cpuid_prepare(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config);
/* Puts one vCPU's ids into a copy of the prepared table. */
void cpuid_set_vcpu(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config, unsigned vcpu);
struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index);
unsigned cpuid_physical_bits(struct kvm_cpuid2 *cpuid);

/* ---- vcpu.c ---- */

/* The bare vCPU; then, when all are there, with its CPUID to its power-on state. */
bool vcpu_create(struct vm *vm, unsigned index, uint32_t apic_id, GError **error);
bool vcpu_init(struct vcpu *vcpu, const struct cpuid_config *config, GError **error);
void vcpu_destroy(struct vcpu *vcpu);
bool vcpu_start(struct vcpu *vcpu, GError **error);
/* Gets it out of KVM_RUN, if its thread runs: it looks at pause and quit before it goes in again. */
void vcpu_kick(struct vcpu *vcpu);
void vcpu_install_kick_handler(void);
bool vcpu_set_entry(struct vcpu *vcpu, const struct vm_entry *entry, GError **error);

/* ---- exits.c ---- */

/* Serves the exit in vcpu->run. False: the vCPU can't go on (it has been reported). */
bool vcpu_handle_exit(struct vcpu *vcpu);
/* KVM_RUN itself failed with -@err: reports it. */
void vcpu_report_run_error(struct vcpu *vcpu, int err);

#endif
