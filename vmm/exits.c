/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exits - why a vCPU left the guest, and what is done about it
 *
 * Port and memory-mapped accesses go to the buses; the rest ends the machine, with a line that says
 * what happened and one that says what to do. Nothing here aborts: a guest can cause most of it.
 *
 * Counting costs a probe into a table of the vCPU's own: exits by port, or by page of memory-mapped
 * address, and direction.
 */
#include <errno.h>
#include <string.h>

#include "vmm/log.h"
#include "vmm/trace.h"
#include "vmm/vm_private.h"

TRACE_EVENT(kvm_exit, "vcpu=%u reason=%s (%u)", (unsigned vcpu, const char *name, unsigned reason),
            vcpu, name, reason)
TRACE_EVENT(kvm_port, "vcpu=%u %s port=%#x size=%u count=%u value=%#x",
            (unsigned vcpu, int is_write, unsigned port, unsigned size, unsigned count,
             unsigned value),
            vcpu, is_write ? "out" : "in", port, size, count, value)
TRACE_EVENT(kvm_mmio,
            "vcpu=%u %s address=%#" G_GINT64_MODIFIER "x size=%u value=%#" G_GINT64_MODIFIER "x",
            (unsigned vcpu, int is_write, guint64 address, unsigned size, guint64 value), vcpu,
            is_write ? "write" : "read", address, size, value)

/* Newer than the oldest kernel headers that we build with. */
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#endif

/* ---- counting ---- */

static void count_one(uint64_t *counter)
{
    /* One writer: no read-modify-write on the bus. */
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

static void count_exit(struct vcpu *vcpu, enum bus_kind kind, bool write, uint64_t address)
{
    uint64_t key, hash;

    if (kind == BUS_MMIO)
        address &= ~UINT64_C(0xfff);
    key = (address << 2 | (kind == BUS_PORT) << 1 | write) + 1;
    hash = (key * UINT64_C(0x9e3779b97f4a7c15)) >> 32;
    for (unsigned i = 0; i < EXIT_PROBES; i++) {
        struct exit_slot *slot = &vcpu->exits[(hash + i) % EXIT_SLOTS];
        uint64_t there = __atomic_load_n(&slot->key, __ATOMIC_RELAXED);
        if (there == 0)
            __atomic_store_n(&slot->key, key, __ATOMIC_RELEASE);
        else if (there != key)
            continue;
        count_one(&slot->count);
        return;
    }
    /* A guest that scans addresses fills the table: such exits are in the totals only. */
}

/* ---- accesses ---- */

static uint64_t load_value(const uint8_t *bytes, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, bytes, MIN(size, 8));
    return GUINT64_FROM_LE(value);
}

static void store_value(uint8_t *bytes, unsigned size, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    memcpy(bytes, &value, MIN(size, 8));
}

static void handle_port(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    bool write = run->io.direction == KVM_EXIT_IO_OUT;
    unsigned size = run->io.size, count = run->io.count;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    count_one(&vcpu->stats.port_exits);
    count_exit(vcpu, BUS_PORT, write, run->io.port);
    trace_kvm_port(vcpu->index, write, run->io.port, size, count,
                   write ? (unsigned)load_value(data, size) : 0);
    /* String instructions bring several values at once. */
    for (unsigned i = 0; i < count; i++, data += size) {
        if (write)
            bus_write(vcpu->vm->config.ports, run->io.port, size, load_value(data, size));
        else
            store_value(data, size, bus_read(vcpu->vm->config.ports, run->io.port, size));
    }
}

static void handle_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint64_t address = run->mmio.phys_addr, value;
    unsigned size = run->mmio.len;

    count_one(&vcpu->stats.mmio_exits);
    count_exit(vcpu, BUS_MMIO, run->mmio.is_write, address);
    if (run->mmio.is_write) {
        value = load_value(run->mmio.data, size);
        trace_kvm_mmio(vcpu->index, true, address, size, value);
        bus_write(vcpu->vm->config.mmio, address, size, value);
    } else {
        value = bus_read(vcpu->vm->config.mmio, address, size);
        trace_kvm_mmio(vcpu->index, false, address, size, value);
        store_value(run->mmio.data, size, value);
    }
}

/* ---- ends ---- */

static const char *exit_name(uint32_t reason)
{
    static const char *const names[] = {
        [KVM_EXIT_UNKNOWN] = "unknown",
        [KVM_EXIT_EXCEPTION] = "exception",
        [KVM_EXIT_IO] = "port",
        [KVM_EXIT_DEBUG] = "debug",
        [KVM_EXIT_HLT] = "halt",
        [KVM_EXIT_MMIO] = "mmio",
        [KVM_EXIT_IRQ_WINDOW_OPEN] = "irq-window",
        [KVM_EXIT_SHUTDOWN] = "triple-fault",
        [KVM_EXIT_FAIL_ENTRY] = "fail-entry",
        [KVM_EXIT_INTR] = "signal",
        [KVM_EXIT_INTERNAL_ERROR] = "internal-error",
        [KVM_EXIT_SYSTEM_EVENT] = "system-event",
        [KVM_EXIT_MEMORY_FAULT] = "memory-fault",
    };

    return reason < G_N_ELEMENTS(names) && names[reason] ? names[reason] : "other";
}

static void end_machine(struct vcpu *vcpu, enum shutdown_reason reason, const char *detail)
{
    shutdown_request(&vcpu->vm->config.shutdown, reason, 0, detail);
}

static uint64_t instruction_pointer(struct vcpu *vcpu)
{
    struct kvm_regs regs = {0};

    kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
    return regs.rip;
}

/* An internal error: one line of what happened, one of the likely cause and what to do. */
static void end_with_error(struct vcpu *vcpu, const char *what, const char *advice)
{
    g_autofree char *line =
        g_strdup_printf("vCPU %u at %#" G_GINT64_MODIFIER "x: %s: %s", vcpu->index,
                        (guint64)instruction_pointer(vcpu), what, advice);

    end_machine(vcpu, SHUTDOWN_INTERNAL_ERROR, line);
}

static const char *software_advice(void)
{
    return "this KVM has no hardware virtualization behind it and does not know all instructions: "
           "use a host that has, or run lodge in its lab (tests/lab/enter)";
}

/* The instructions that guests are known to end at, by their bytes behind the prefixes. */
static const char *instruction_name(const uint8_t *bytes, unsigned size)
{
    unsigned at = 0;
    bool wide = false;

    while (at < size && (bytes[at] == 0xf0 || bytes[at] == 0xf2 || bytes[at] == 0xf3 ||
                         bytes[at] == 0x66 || (bytes[at] & 0xf0) == 0x40)) {
        wide = (bytes[at] & 0xf8) == 0x48;
        at++;
    }
    if (at < size && bytes[at] == 0xcc)
        return "int3";
    if (at < size && (bytes[at] == 0xc4 || bytes[at] == 0xc5 || bytes[at] == 0x62))
        return "an AVX instruction";
    if (at + 2 >= size || bytes[at] != 0x0f)
        return NULL;
    switch (bytes[at + 1]) {
    case 0xc7:
        if ((bytes[at + 2] & 0x38) == 0x08)
            return wide ? "cmpxchg16b" : "cmpxchg8b";
        return (bytes[at + 2] & 0x38) == 0x18 ? "xrstors" : "xsavec or xsaves";
    case 0xae:
        return (bytes[at + 2] & 0x38) == 0x28 ? "xrstor" : "xsave or a fence";
    case 0x01:
        return "a system instruction (0f 01)";
    default:
        return NULL;
    }
}

static void emulation_failed(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    g_autoptr(GString) what = g_string_new("KVM can't emulate the instruction");

    if (run->emulation_failure.ndata >= 1 &&
        (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
        unsigned size = MIN(run->emulation_failure.insn_size, 15);
        const char *name = instruction_name(run->emulation_failure.insn_bytes, size);
        for (unsigned i = 0; i < size; i++)
            g_string_append_printf(what, " %02x", run->emulation_failure.insn_bytes[i]);
        if (name)
            g_string_append_printf(what, " (%s)", name);
    }
    end_with_error(vcpu, what->str,
                   vcpu->vm->hardware
                       ? "it reads or writes device memory in a way that KVM does not know, or the "
                         "guest jumped to where no memory is: look at the guest's driver or kernel"
                       : software_advice());
}

static void handle_internal_error(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    g_autofree char *what = NULL;

    for (unsigned i = 0; i < MIN(run->internal.ndata, G_N_ELEMENTS(run->internal.data)); i++)
        log_debug("kvm", "vcpu%u: internal error %u: data[%u] = %#" G_GINT64_MODIFIER "x",
                  vcpu->index, run->internal.suberror, i, (guint64)run->internal.data[i]);
    switch (run->internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        emulation_failed(vcpu);
        return;
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        end_with_error(vcpu, "KVM met an exception while it handled another",
                       "a fault of the host's kernel: try a newer one");
        return;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        end_with_error(vcpu, "the guest's interrupt table or stack is where no memory is",
                       "the guest's kernel went wrong before: see its console");
        return;
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        what = g_strdup_printf(
            "the CPU left the guest for a reason that KVM does not know (%#" G_GINT64_MODIFIER "x)",
            run->internal.ndata ? (guint64)run->internal.data[0] : 0);
        end_with_error(vcpu, what, "update the host's kernel, or the outer one where it is nested");
        return;
    default:
        what = g_strdup_printf("KVM internal error %u", run->internal.suberror);
        end_with_error(vcpu, what, "see the kernel's log (dmesg) on the host");
        return;
    }
}

static void handle_fail_entry(struct vcpu *vcpu)
{
    uint64_t reason = vcpu->run->fail_entry.hardware_entry_failure_reason;
    const char *meaning = "the CPU does not take the guest's state";
    g_autofree char *what = NULL;

    /* SDM volume 3C, 27.8 and 31.4; APM volume 2, 15.5. */
    if ((uint32_t)reason == 0x80000021)
        meaning = "invalid guest state";
    else if ((uint32_t)reason == 0x80000022)
        meaning = "an MSR of the guest can't be loaded";
    else if (reason == 7)
        meaning = "invalid control fields, often an outer hypervisor that lacks a feature";
    else if (reason == UINT64_MAX || reason == UINT32_MAX)
        meaning = "invalid guest state (VMEXIT_INVALID)";
    what =
        g_strdup_printf("the CPU refused to enter the guest, reason %#" G_GINT64_MODIFIER "x (%s)",
                        (guint64)reason, meaning);
    end_with_error(vcpu, what,
                   "on a nested host update the outer kernel, else the host's kernel and the CPU's "
                   "microcode; see dmesg");
}

static void handle_system_event(struct vcpu *vcpu)
{
    switch (vcpu->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        end_machine(vcpu, SHUTDOWN_POWER_OFF, NULL);
        break;
    case KVM_SYSTEM_EVENT_RESET:
        end_machine(vcpu, SHUTDOWN_RESET, NULL);
        break;
    case KVM_SYSTEM_EVENT_CRASH:
        end_machine(vcpu, SHUTDOWN_PANIC, "the guest told KVM that it crashed");
        break;
    default:
        end_with_error(vcpu, "KVM reports a system event that lodge does not know",
                       "use a newer lodge");
        break;
    }
}

static void handle_unknown(struct vcpu *vcpu)
{
    g_autofree char *what =
        g_strdup_printf("exit reason %u, hardware reason %#" G_GINT64_MODIFIER "x",
                        vcpu->run->exit_reason, (guint64)vcpu->run->hw.hardware_exit_reason);

    end_with_error(vcpu, what,
                   "the host's KVM reports what lodge does not know: use a newer lodge");
}

bool vcpu_handle_exit(struct vcpu *vcpu)
{
    const uint32_t reason = vcpu->run->exit_reason;

    count_one(&vcpu->stats.exits);
    trace_kvm_exit(vcpu->index, exit_name(reason), reason);
    switch (reason) {
    case KVM_EXIT_IO:
        handle_port(vcpu);
        return true;
    case KVM_EXIT_MMIO:
        handle_mmio(vcpu);
        return true;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        count_one(&vcpu->stats.other_exits);
        return true;
    default:
        break;
    }
    count_one(&vcpu->stats.other_exits);
    switch (reason) {
    case KVM_EXIT_SHUTDOWN:
        end_machine(vcpu, SHUTDOWN_TRIPLE_FAULT, NULL);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        handle_internal_error(vcpu);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        handle_fail_entry(vcpu);
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        handle_system_event(vcpu);
        break;
    case KVM_EXIT_HLT:
        /* Only without the in-kernel APIC, which wakes halted vCPUs: nothing else would. */
        end_with_error(vcpu, "the vCPU halted outside of the kernel's interrupt controller",
                       "see the kernel's log (dmesg) on the host");
        break;
    case KVM_EXIT_MEMORY_FAULT:
        end_with_error(vcpu, "the guest touched memory that the host can't give it",
                       "see the kernel's log (dmesg) on the host");
        break;
    default:
        handle_unknown(vcpu);
        break;
    }
    return false;
}

void vcpu_report_run_error(struct vcpu *vcpu, int err)
{
    g_autofree char *what = g_strdup_printf("KVM_RUN failed: %s", g_strerror(err));
    const char *advice = "see the kernel's log (dmesg) on the host";

    count_one(&vcpu->stats.exits);
    count_one(&vcpu->stats.other_exits);
    if (err == EFAULT)
        advice = "a page of guest memory can't be had: the host is out of (huge) pages, or the "
                 "memory file was truncated";
    else if (err == ENOMEM)
        advice = "the host is out of memory";
    else if (err == EIO)
        advice = "the CPU's virtualization is in use by another hypervisor, or was taken away";
    end_with_error(vcpu, what, advice);
}
