/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vcpu_state - all that KVM keeps of a machine, out and in again
 *
 * For resets (the power-on state is taken when the machine is created and put back), and for
 * snapshots. The vCPUs must not run: before vm_start, or between vm_pause and vm_resume.
 *
 * Threads: main.
 */
#ifndef VMM_VCPU_STATE_H
#define VMM_VCPU_STATE_H

#include <glib.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct vm;

struct vcpu_state {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp_state;
    struct kvm_lapic_state lapic;
    struct kvm_xcrs xcrs;
    bool has_xcrs;
    uint32_t xsave_size; /* bytes at xsave: struct kvm_xsave, longer with dynamic features */
    void *xsave;
    uint32_t nested_size; /* bytes at nested: struct kvm_nested_state; 0: this KVM has none */
    void *nested;
    uint32_t msr_count;
    struct kvm_msr_entry *msrs; /* those of KVM_GET_MSR_INDEX_LIST that could be read */
};

/* What of the machine is not a vCPU's: interrupt controllers and the paravirtual clock. */
struct vm_chips_state {
    struct kvm_irqchip irqchips[3]; /* master PIC, slave PIC, I/O APIC */
    struct kvm_clock_data clock;
};

enum vcpu_state_flags {
    VCPU_STATE_KEEP_TSC = 1 << 0, /* leave the time stamp counter running: resets */
};

/* @state need not be initialised; on success the caller clears it. */
bool vcpu_state_get(struct vm *vm, unsigned vcpu, struct vcpu_state *state, GError **error);
bool vcpu_state_set(struct vm *vm, unsigned vcpu, const struct vcpu_state *state, unsigned flags,
                    GError **error);
void vcpu_state_clear(struct vcpu_state *state);

bool vm_chips_state_get(struct vm *vm, struct vm_chips_state *state, GError **error);
/* The clock is left alone unless @with_clock. */
bool vm_chips_state_set(struct vm *vm, const struct vm_chips_state *state, bool with_clock,
                        GError **error);

/*
 * The same as bytes, for snapshots. Data to load is hostile: decoded and checked whole first; what KVM
 * itself refuses may leave the machine half set (it must not be started then).
 */
bool vm_chips_save(struct vm *vm, GByteArray *out, GError **error);
bool vm_chips_load(struct vm *vm, const uint8_t *data, size_t size, GError **error);
bool vcpu_save(struct vm *vm, unsigned vcpu, GByteArray *out, GError **error);
bool vcpu_load(struct vm *vm, unsigned vcpu, const uint8_t *data, size_t size, GError **error);

#endif
