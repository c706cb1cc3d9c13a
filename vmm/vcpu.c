/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vcpu - one virtual processor: its thread, how it is stopped, how it enters the guest
 *
 * The thread's loop: attend to pause and quit, KVM_RUN, serve the exit inline. Whoever wants it out
 * sets the flag under vm->lock and then sends the kick signal, whose handler sets immediate_exit in
 * the shared page: a signal that comes before KVM_RUN makes it return at once, one that comes during
 * it interrupts it. So no kick is lost, wherever it hits.
 *
 * A port or memory-mapped access that we served is only finished by the next KVM_RUN (it stores the
 * value and moves the instruction pointer). Before it parks, the thread enters once more with
 * immediate_exit for that, so that the state of a paused vCPU is between two instructions
 * (Documentation/virt/kvm/api.rst, 5: "KVM_EXIT_IO ... the corresponding operations are complete").
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gio/gio.h>

#include "vmm/layout.h"
#include "vmm/log.h"
#include "vmm/trace.h"
#include "vmm/vm_private.h"

#define MSR_MISC_ENABLE    0x1a0
#define MISC_FAST_STRING   1u
#define MSR_MTRR_DEF_TYPE  0x2ff
#define MTRR_ENABLE_ALL_WB (1u << 11 | 6u)

#define APIC_LVT0   0x350
#define APIC_LVT1   0x360
#define APIC_NMI    0x400u
#define APIC_EXTINT 0x700u
#define APIC_MASKED 0x10000u

#define CR0_PE   (1u << 0)
#define CR0_ET   (1u << 4)
#define CR0_NE   (1u << 5)
#define CR0_PG   (1u << 31)
#define CR3_PAGE UINT64_C(0x000ffffffffff000) /* but for PCIDs and the page's attributes */
#define CR4_PAE  (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

TRACE_EVENT(vcpu_parked, "vcpu=%u", (unsigned vcpu), vcpu)
TRACE_EVENT(vcpu_running, "vcpu=%u", (unsigned vcpu), vcpu)

/* ---- creation ---- */

/* Firmware would have done this; Linux turns features off where it finds it undone. */
static void set_boot_msrs(struct vcpu *vcpu)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msr = {.head.nmsrs = 1, .entry.index = MSR_MISC_ENABLE};

    if (kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &msr) == 1) {
        msr.entry.data |= MISC_FAST_STRING;
        kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &msr);
    }
    /* All memory write-back but what page tables say: with MTRRs off, guests do without PAT. */
    msr.entry.index = MSR_MTRR_DEF_TYPE;
    msr.entry.data = MTRR_ENABLE_ALL_WB;
    kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &msr);
}

static bool set_cpuid(struct vcpu *vcpu, const struct cpuid_config *config, GError **error)
{
    const struct kvm_cpuid2 *common = vcpu->vm->cpuid;
    gsize size = sizeof(*common) + CPUID_ROOM * sizeof(struct kvm_cpuid_entry2);
    g_autofree struct kvm_cpuid2 *cpuid = g_memdup2(common, size);
    int ret;

    cpuid_set_vcpu(cpuid, config, vcpu->index);
    ret = kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid);
    if (ret < 0)
        kvm_set_error(error, -ret, "KVM_SET_CPUID2 of vCPU %u", vcpu->index);
    return ret >= 0;
}

bool vcpu_create(struct vm *vm, unsigned index, uint32_t apic_id, GError **error)
{
    struct vcpu *vcpu = &vm->vcpus[index];

    vcpu->vm = vm;
    vcpu->index = index;
    vcpu->apic_id = apic_id;
    vcpu->run = MAP_FAILED;
    vcpu->fd = kvm_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)vcpu->apic_id);
    if (vcpu->fd < 0) {
        kvm_set_error(error, -vcpu->fd, "vCPU %u can't be created", index);
        return false;
    }
    vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        kvm_set_error(error, errno, "the shared page of vCPU %u can't be mapped", index);
        close(vcpu->fd);
        return false;
    }
    vm->vcpu_count = index + 1; /* vcpu_destroy's from here on */
    return true;
}

/*
 * Local interrupt pins as firmware leaves them: nothing is wired to LINT0 (no PIC), LINT1 is NMI.
 * Doing it at all matters too: KVM finds the target of an INIT in a map that it made before the last
 * vCPU was there, and makes anew here.
 */
static bool set_local_pins(struct vcpu *vcpu, GError **error)
{
    struct kvm_lapic_state lapic;
    const uint32_t lint0 = APIC_EXTINT | APIC_MASKED, lint1 = APIC_NMI;
    int ret = kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic);

    if (ret >= 0) {
        memcpy(lapic.regs + APIC_LVT0, &lint0, sizeof(lint0));
        memcpy(lapic.regs + APIC_LVT1, &lint1, sizeof(lint1));
        ret = kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic);
    }
    if (ret < 0)
        kvm_set_error(error, -ret, "the local APIC of vCPU %u can't be set", vcpu->index);
    return ret >= 0;
}

bool vcpu_init(struct vcpu *vcpu, const struct cpuid_config *config, GError **error)
{
    if (!set_cpuid(vcpu, config, error) || !set_local_pins(vcpu, error))
        return false;
    set_boot_msrs(vcpu);
    return vcpu_state_get(vcpu->vm, vcpu->index, &vcpu->power_on, error);
}

void vcpu_destroy(struct vcpu *vcpu)
{
    vcpu_state_clear(&vcpu->power_on);
    munmap(vcpu->run, vcpu->vm->run_size);
    close(vcpu->fd);
}

/* ---- the thread ---- */

static __thread struct vcpu *current;

static void on_kick(int signal_number)
{
    /* Before `current` is set the thread has not looked at the flags yet: nothing to do. */
    if (current)
        __atomic_store_n(&current->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

void vcpu_install_kick_handler(void)
{
    /* SA_RESTART for the system calls of device handlers; KVM_RUN is interrupted nevertheless. */
    struct sigaction action = {.sa_handler = on_kick, .sa_flags = SA_RESTART};

    sigemptyset(&action.sa_mask);
    sigaction(KICK_SIGNAL, &action, NULL);
}

void vcpu_kick(struct vcpu *vcpu)
{
    if (vcpu->has_thread)
        pthread_kill(vcpu->thread, KICK_SIGNAL);
}

/* Enters KVM once; false: this vCPU can't go on. */
static bool run_once(struct vcpu *vcpu)
{
    if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
        int err = errno;
        vcpu->unfinished = false; /* what there was is finished before KVM looks at signals */
        if (err == EINTR || err == EAGAIN) /* EAGAIN: a vCPU that waits for its SIPI */
            return true;
        vcpu_report_run_error(vcpu, err);
        return false;
    }
    vcpu->unfinished =
        vcpu->run->exit_reason == KVM_EXIT_IO || vcpu->run->exit_reason == KVM_EXIT_MMIO;
    return vcpu_handle_exit(vcpu);
}

static bool wanted_out(struct vcpu *vcpu)
{
    return __atomic_load_n(&vcpu->vm->pause, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&vcpu->vm->quit, __ATOMIC_SEQ_CST);
}

/* Waits until it may run. False: the thread shall end. */
static bool park(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    bool go_on;

    trace_vcpu_parked(vcpu->index);
    pthread_mutex_lock(&vm->lock);
    while ((vm->pause || vcpu->faulted) && !vm->quit) {
        /* Told again after each wake-up: vm_resume takes the mark away, and a pause may follow it
         * before this thread gets to see either. */
        vcpu->parked = true;
        pthread_cond_broadcast(&vm->parked_cond);
        pthread_cond_wait(&vm->run_cond, &vm->lock);
    }
    go_on = !vm->quit;
    vcpu->parked = false;
    pthread_mutex_unlock(&vm->lock);
    trace_vcpu_running(vcpu->index);
    return go_on;
}

static void set_faulted(struct vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->vm->lock);
    vcpu->faulted = true;
    pthread_mutex_unlock(&vcpu->vm->lock);
}

static void *vcpu_thread(void *data)
{
    struct vcpu *vcpu = data;
    bool alive = true;

    current = vcpu;
    if (!wanted_out(vcpu))
        trace_vcpu_running(vcpu->index);
    for (;;) {
        /* First clear, then look: a kick after this is seen by KVM_RUN. */
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        if (!alive || wanted_out(vcpu)) {
            while (alive && vcpu->unfinished) {
                __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
                alive = run_once(vcpu);
            }
            if (!alive)
                set_faulted(vcpu);
            if (!park(vcpu))
                break;
            alive = true;
            vcpu->unfinished = false;
            continue; /* a pause may have come again */
        }
        alive = run_once(vcpu);
    }
    current = NULL;
    return NULL;
}

bool vcpu_start(struct vcpu *vcpu, GError **error)
{
    sigset_t all, before;
    char name[16];
    int ret;

    /* Signals for the program are the main thread's; the kick is all that a vCPU takes. */
    sigfillset(&all);
    sigdelset(&all, KICK_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ret = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ret) {
        kvm_set_error(error, ret, "the thread of vCPU %u can't be created", vcpu->index);
        return false;
    }
    g_snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
    pthread_setname_np(vcpu->thread, name);
    vcpu->has_thread = true;
    return true;
}

/* ---- entering the guest ---- */

static void set_segments(struct kvm_sregs *sregs, bool long_mode)
{
    struct kvm_segment code = {
        .limit = 0xffffffff,
        .selector = 0x10,
        .type = 11, /* code, readable, accessed */
        .present = 1,
        .s = 1,
        .g = 1,
        .l = long_mode,
        .db = !long_mode,
    };
    struct kvm_segment data = code;

    data.selector = 0x18;
    data.type = 3; /* data, writable, accessed */
    data.l = 0;
    data.db = 1;
    sregs->cs = code;
    sregs->ds = sregs->es = sregs->ss = sregs->fs = sregs->gs = data;
}

bool vcpu_set_entry(struct vcpu *vcpu, const struct vm_entry *entry, GError **error)
{
    struct kvm_sregs sregs = vcpu->power_on.sregs;
    struct kvm_regs regs = {
        .rip = entry->rip,
        .rsp = entry->rsp,
        .rsi = entry->rsi,
        .rbx = entry->rbx,
        .rflags = 2,
    };
    bool long_mode = entry->mode == VM_ENTRY_LONG_MODE;
    int ret;

    set_segments(&sregs, long_mode);
    sregs.gdt.base = entry->gdt_base;
    sregs.gdt.limit = entry->gdt_limit;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    /* The task register as a 32-bit busy TSS, as Intel CPUs want it and PVH says. */
    sregs.tr.base = 0;
    sregs.tr.limit = 0x67;
    sregs.tr.type = 11;
    sregs.tr.present = 1;
    sregs.tr.s = 0;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_NE;
    sregs.cr4 = 0;
    sregs.efer = 0;
    if (long_mode) {
        sregs.cr0 |= CR0_PG;
        sregs.cr3 = entry->cr3;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LME | EFER_LMA;
    }
    ret = kvm_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);
    if (ret >= 0)
        ret = kvm_ioctl(vcpu->fd, KVM_SET_REGS, &regs);
    if (ret < 0)
        kvm_set_error(error, -ret, "the entry state of vCPU %u is not taken", vcpu->index);
    return ret >= 0;
}

/* ---- description ---- */

static const char *mp_state_name(uint32_t state)
{
    switch (state) {
    case KVM_MP_STATE_RUNNABLE:
        return "runnable";
    case KVM_MP_STATE_UNINITIALIZED:
        return "waiting for INIT";
    case KVM_MP_STATE_INIT_RECEIVED:
        return "waiting for SIPI";
    case KVM_MP_STATE_HALTED:
        return "halted";
    default:
        return "other";
    }
}

/* Has CR3 lost its way? A guest that hangs like that was not led there by its own code: said, because
 * its registers look sound otherwise. */
static bool page_tables_in_ram(const struct vm *vm, const struct kvm_sregs *s)
{
    struct memory_span span;

    return !(s->cr0 & CR0_PG) ||
           memory_find(vm->config.memory, s->cr3 & CR3_PAGE, MEMORY_PAGE_SIZE, &span);
}

#define HEX "%016" G_GINT64_MODIFIER "x"

char *vm_describe_vcpu(struct vm *vm, unsigned index)
{
    struct vcpu *vcpu;
    struct kvm_regs r;
    struct kvm_sregs s;
    struct kvm_mp_state mp = {.mp_state = UINT32_MAX};

    if (index >= vm->vcpu_count)
        return g_strdup("no such vCPU");
    vcpu = &vm->vcpus[index];
    if (vm_is_running(vm))
        return g_strdup_printf("vCPU %u runs: pause the machine first", index);
    if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 || kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
        return g_strdup_printf("vCPU %u: KVM does not tell its registers", index);
    kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp);
    return g_strdup_printf(
        "vCPU %u (APIC id %u): %s%s\n"
        "  rip " HEX " rflags %08" G_GINT64_MODIFIER "x cs %04x ss %04x\n"
        "  rax " HEX " rbx " HEX " rcx " HEX " rdx " HEX "\n"
        "  rsi " HEX " rdi " HEX " rbp " HEX " rsp " HEX "\n"
        "  r8  " HEX " r9  " HEX " r10 " HEX " r11 " HEX "\n"
        "  r12 " HEX " r13 " HEX " r14 " HEX " r15 " HEX "\n"
        "  cr0 %08" G_GINT64_MODIFIER "x cr2 " HEX " cr3 " HEX "%s cr4 %08" G_GINT64_MODIFIER
        "x efer %04" G_GINT64_MODIFIER "x\n"
        "  gdt " HEX "+%x idt " HEX "+%x fs " HEX " gs " HEX,
        index, vcpu->apic_id, mp_state_name(mp.mp_state), vcpu->faulted ? ", can't go on" : "",
        (guint64)r.rip, (guint64)r.rflags, s.cs.selector, s.ss.selector, (guint64)r.rax,
        (guint64)r.rbx, (guint64)r.rcx, (guint64)r.rdx, (guint64)r.rsi, (guint64)r.rdi,
        (guint64)r.rbp, (guint64)r.rsp, (guint64)r.r8, (guint64)r.r9, (guint64)r.r10,
        (guint64)r.r11, (guint64)r.r12, (guint64)r.r13, (guint64)r.r14, (guint64)r.r15,
        (guint64)s.cr0, (guint64)s.cr2, (guint64)s.cr3,
        page_tables_in_ram(vm, &s) ? "" : " (outside of guest RAM)", (guint64)s.cr4,
        (guint64)s.efer, (guint64)s.gdt.base, s.gdt.limit, (guint64)s.idt.base, s.idt.limit,
        (guint64)s.fs.base, (guint64)s.gs.base);
}
