/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vcpu_state - all that KVM keeps of a machine, out and in again
 *
 * Order matters (Documentation/virt/kvm/api.rst says little of it). Out: the multiprocessing state
 * first, because asking for it makes KVM act on a pending INIT or SIPI. In: special registers (they
 * place and enable the local APIC) before the APIC, the APIC before the MSRs (the TSC deadline counts
 * only in that timer mode), events last (setting registers clears pending exceptions).
 */
#include <errno.h>
#include <string.h>

#include "vmm/log.h"
#include "vmm/vm_private.h"

#define MSR_TSC          0x10
#define MSR_TSC_DEADLINE 0x6e0

static bool get(struct vcpu *vcpu, unsigned long request, void *data, const char *what,
                GError **error)
{
    int ret = kvm_ioctl(vcpu->fd, request, data);

    if (ret < 0)
        kvm_set_error(error, -ret, "%s of vCPU %u", what, vcpu->index);
    return ret >= 0;
}

/* One MSR a call where the kernel stops at one that it lists but can't read. */
static void get_msrs(struct vcpu *vcpu, struct vcpu_state *state)
{
    const struct kvm_msr_list *list = vcpu->vm->msr_list;
    g_autofree struct kvm_msrs *msrs =
        g_malloc0(sizeof(*msrs) + list->nmsrs * sizeof(struct kvm_msr_entry));
    unsigned at = 0;

    state->msrs = g_new0(struct kvm_msr_entry, list->nmsrs + 1);
    while (at < list->nmsrs) {
        int done;
        msrs->nmsrs = list->nmsrs - at;
        for (unsigned i = 0; i < msrs->nmsrs; i++)
            msrs->entries[i] = (struct kvm_msr_entry){.index = list->indices[at + i]};
        done = kvm_ioctl(vcpu->fd, KVM_GET_MSRS, msrs);
        if (done < 0)
            done = 0;
        memcpy(&state->msrs[state->msr_count], msrs->entries,
               (unsigned)done * sizeof(struct kvm_msr_entry));
        state->msr_count += (unsigned)done;
        at += (unsigned)done + 1; /* behind the one that failed, or the end */
    }
}

static bool get_xsave(struct vcpu *vcpu, struct vcpu_state *state, GError **error)
{
    int size = kvm_ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_XSAVE2);

    state->xsave_size = (uint32_t)MAX(size, (int)sizeof(struct kvm_xsave));
    state->xsave = g_malloc0(state->xsave_size);
    return get(vcpu, size > (int)sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE,
               state->xsave, "FPU state", error);
}

bool vcpu_state_get(struct vm *vm, unsigned index, struct vcpu_state *state, GError **error)
{
    struct vcpu *vcpu = &vm->vcpus[index];

    memset(state, 0, sizeof(*state));
    state->has_xcrs = kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_XCRS) > 0;
    if (!get(vcpu, KVM_GET_MP_STATE, &state->mp_state, "run state", error) ||
        !get(vcpu, KVM_GET_REGS, &state->regs, "registers", error) ||
        !get(vcpu, KVM_GET_SREGS, &state->sregs, "special registers", error) ||
        !get_xsave(vcpu, state, error) ||
        (state->has_xcrs && !get(vcpu, KVM_GET_XCRS, &state->xcrs, "XCR0", error)) ||
        !get(vcpu, KVM_GET_DEBUGREGS, &state->debugregs, "debug registers", error) ||
        !get(vcpu, KVM_GET_LAPIC, &state->lapic, "local APIC", error))
        goto fail;
    get_msrs(vcpu, state);
    if (vm->nested_size) {
        struct kvm_nested_state *nested = g_malloc0(vm->nested_size);
        state->nested = nested;
        state->nested_size = vm->nested_size;
        nested->size = vm->nested_size;
        if (!get(vcpu, KVM_GET_NESTED_STATE, nested, "nested state", error))
            goto fail;
    }
    if (!get(vcpu, KVM_GET_VCPU_EVENTS, &state->events, "pending events", error))
        goto fail;
    return true;
fail:
    vcpu_state_clear(state);
    return false;
}

static void set_msrs(struct vcpu *vcpu, const struct vcpu_state *state, unsigned flags)
{
    g_autofree struct kvm_msrs *msrs =
        g_malloc0(sizeof(*msrs) + (state->msr_count + 1) * sizeof(struct kvm_msr_entry));
    struct kvm_msr_entry deadline = {0};
    unsigned count = 0, at = 0;
    g_autofree struct kvm_msr_entry *wanted = g_new0(struct kvm_msr_entry, state->msr_count + 1);

    for (unsigned i = 0; i < state->msr_count; i++) {
        if (state->msrs[i].index == MSR_TSC && (flags & VCPU_STATE_KEEP_TSC))
            continue;
        if (state->msrs[i].index == MSR_TSC_DEADLINE)
            deadline = state->msrs[i]; /* after the TSC */
        else
            wanted[count++] = state->msrs[i];
    }
    if (deadline.index)
        wanted[count++] = deadline;
    while (at < count) {
        int done;
        msrs->nmsrs = count - at;
        memcpy(msrs->entries, wanted + at, msrs->nmsrs * sizeof(struct kvm_msr_entry));
        done = kvm_ioctl(vcpu->fd, KVM_SET_MSRS, msrs);
        if (done < 0)
            done = 0;
        at += (unsigned)done;
        if (at < count) {
            log_debug("kvm", "vcpu%u: MSR %#x does not take %#" G_GINT64_MODIFIER "x", vcpu->index,
                      wanted[at].index, (guint64)wanted[at].data);
            at++;
        }
    }
}

/* KVM's structures for setting are not const; it does not write to them. */
static bool set(struct vcpu *vcpu, unsigned long request, const void *data, const char *what,
                GError **error)
{
    int ret = kvm_ioctl(vcpu->fd, request, (void *)data);

    if (ret < 0)
        kvm_set_error(error, -ret, "%s of vCPU %u can't be set", what, vcpu->index);
    return ret >= 0;
}

bool vcpu_state_set(struct vm *vm, unsigned index, const struct vcpu_state *state, unsigned flags,
                    GError **error)
{
    struct vcpu *vcpu = &vm->vcpus[index];

    /* Out of nested guest mode before the registers change under it. */
    if (state->nested_size &&
        !set(vcpu, KVM_SET_NESTED_STATE, state->nested, "nested state", error))
        return false;
    if (!set(vcpu, KVM_SET_MP_STATE, &state->mp_state, "run state", error) ||
        !set(vcpu, KVM_SET_SREGS, &state->sregs, "special registers", error) ||
        !set(vcpu, KVM_SET_REGS, &state->regs, "registers", error) ||
        !set(vcpu, KVM_SET_XSAVE, state->xsave, "FPU state", error) ||
        (state->has_xcrs && !set(vcpu, KVM_SET_XCRS, &state->xcrs, "XCR0", error)) ||
        !set(vcpu, KVM_SET_DEBUGREGS, &state->debugregs, "debug registers", error) ||
        !set(vcpu, KVM_SET_LAPIC, &state->lapic, "local APIC", error))
        return false;
    set_msrs(vcpu, state, flags);
    return set(vcpu, KVM_SET_VCPU_EVENTS, &state->events, "pending events", error);
}

void vcpu_state_clear(struct vcpu_state *state)
{
    g_clear_pointer(&state->xsave, g_free);
    g_clear_pointer(&state->nested, g_free);
    g_clear_pointer(&state->msrs, g_free);
    state->msr_count = 0;
}

bool vm_chips_state_get(struct vm *vm, struct vm_chips_state *state, GError **error)
{
    int ret = 0;

    memset(state, 0, sizeof(*state));
    for (unsigned i = 0; i < G_N_ELEMENTS(state->irqchips) && ret >= 0; i++) {
        state->irqchips[i].chip_id = i;
        ret = kvm_ioctl(vm->fd, KVM_GET_IRQCHIP, &state->irqchips[i]);
    }
    if (ret >= 0)
        ret = kvm_ioctl(vm->fd, KVM_GET_CLOCK, &state->clock);
    if (ret < 0)
        kvm_set_error(error, -ret, "state of the interrupt controllers");
    return ret >= 0;
}

bool vm_chips_state_set(struct vm *vm, const struct vm_chips_state *state, bool with_clock,
                        GError **error)
{
    int ret = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(state->irqchips) && ret >= 0; i++) {
        struct kvm_irqchip chip = state->irqchips[i];
        ret = kvm_ioctl(vm->fd, KVM_SET_IRQCHIP, &chip);
    }
    if (ret >= 0 && with_clock) {
        /* The other fields are what KVM said of its own clock then. */
        struct kvm_clock_data clock = {.clock = state->clock.clock};
        ret = kvm_ioctl(vm->fd, KVM_SET_CLOCK, &clock);
    }
    if (ret < 0)
        kvm_set_error(error, -ret, "the interrupt controllers can't be set");
    return ret >= 0;
}
