/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A KVM machine for guests of a few instructions each, and those guests. They also run where KVM
 * emulates (no hardware behind it).
 */
#ifndef TESTS_UNIT_KVM_MACHINE_H
#define TESTS_UNIT_KVM_MACHINE_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/layout.h"
#include "vmm/vm.h"

#define CODE        0x1000u /* guest code; page tables and the rest above it */
#define STACK       0x8000u
#define DATA        0x9000u /* what a guest reads and writes */
#define IDT         0xa000u
#define PAGE_TABLES 0x10000u /* six pages */
#define GDT         0x18000u
#define AP_CODE     0x20000u /* real mode start of the second vCPU: vector 0x20 */
#define DEVICE      0xd0000000u
#define DONE_PORT   0xf1 /* a guest writes here when it is done */
#define WAIT_MS     20000

/* ---- guests; each ends with its _end label ---- */

extern const uint8_t guest_ports[], guest_ports_end[];
extern const uint8_t guest_strings[], guest_strings_end[];
extern const uint8_t guest_mmio32[], guest_mmio32_end[];
extern const uint8_t guest_mmio64[], guest_mmio64_end[];
extern const uint8_t guest_triple_fault[], guest_triple_fault_end[];
extern const uint8_t guest_nowhere[], guest_nowhere_end[];
extern const uint8_t guest_lost[], guest_lost_end[];
extern const uint8_t guest_spin[], guest_spin_end[];
extern const uint8_t guest_count[], guest_count_end[];
extern const uint8_t guest_halt[], guest_halt_end[];
extern const uint8_t guest_bells[], guest_bells_end[];
extern const uint8_t guest_msi[], guest_msi_end[], guest_msi_handler[];
extern const uint8_t guest_level[];
extern const uint8_t guest_smp[], guest_smp_end[];
extern const uint8_t guest_ap[], guest_ap_end[];
extern const uint8_t guest_cpuid[], guest_cpuid_end[];

/* clang-format off */
asm(".pushsection .rodata\n"
    ".code32\n"

    "guest_ports:\n"
    "    in $0x50, %al\n            mov %al, 0x9000\n"
    "    in $0x50, %ax\n            mov %ax, 0x9002\n"
    "    in $0x50, %eax\n           mov %eax, 0x9004\n"
    "    mov $0x11223344, %eax\n"
    "    out %al, $0x51\n           out %ax, $0x51\n           out %eax, $0x51\n"
    "    out %al, $0xf1\n"
    "1:  hlt\n                      jmp 1b\n"
    "guest_ports_end:\n"

    "guest_strings:\n"
    "    cld\n"
    "    mov $0x9000, %esi\n        mov $5, %ecx\n             mov $0x51, %edx\n"
    "    rep outsb\n"
    "    mov $0x9100, %edi\n        mov $3, %ecx\n             mov $0x50, %edx\n"
    "    rep insw\n"
    "    out %al, $0xf1\n"
    "1:  hlt\n                      jmp 1b\n"
    "guest_strings_end:\n"

    "guest_mmio32:\n"
    "    mov $0xd0000000, %ebx\n"
    "    movb (%ebx), %al\n         mov %al, 0x9000\n"
    "    movw 2(%ebx), %ax\n        mov %ax, 0x9002\n"
    "    movl 4(%ebx), %eax\n       mov %eax, 0x9004\n"
    "    movb $0x44, 8(%ebx)\n      movw $0x3344, 0x10(%ebx)\n movl $0x11223344, 0x18(%ebx)\n"
    "    out %al, $0xf1\n"
    "1:  hlt\n                      jmp 1b\n"
    "guest_mmio32_end:\n"

    "guest_triple_fault:\n"
    "    sub $8, %esp\n             movl $0, (%esp)\n          movl $0, 4(%esp)\n"
    "    lidt (%esp)\n"
    "    ud2\n"
    "guest_triple_fault_end:\n"

    "guest_nowhere:\n"
    "    mov $0xd0000000, %eax\n    jmp *%eax\n"
    "guest_nowhere_end:\n"

    "guest_spin:\n"
    "1:  lock incl 0x9000\n         jmp 1b\n"
    "guest_spin_end:\n"

    /* Numbers in order; each must come out once, however often we pause. */
    "guest_count:\n"
    "    xor %eax, %eax\n"
    "1:  out %eax, $0x51\n          inc %eax\n"
    "    mov %eax, 0xd0000000\n     cmp 0xd0000008, %eax\n     jbe 1b\n"
    "    out %al, $0xf1\n"
    "2:  hlt\n                      jmp 2b\n"
    "guest_count_end:\n"

    "guest_halt:\n"
    "    out %al, $0xf1\n"
    "1:  hlt\n                      jmp 1b\n"
    "guest_halt_end:\n"

    "guest_bells:\n"
    "    movw $7, 0xd0000010\n      movw $8, 0xd0000010\n"
    "    movw $1, 0xd0000020\n      movw $2, 0xd0000020\n"
    "    mov $5, %eax\n             out %eax, $0x60\n"
    "    out %al, $0xf1\n"
    "1:  hlt\n                      jmp 1b\n"
    "guest_bells_end:\n"

    /* INIT, SIPI with vector 0x20 to APIC id 1, then wait for its mark. */
    "guest_smp:\n"
    "    movl $0x01000000, 0xfee00310\n    movl $0x00004500, 0xfee00300\n"
    "    movl $0x01000000, 0xfee00310\n    movl $0x00004620, 0xfee00300\n"
    "1:  pause\n                    cmpl $0x5a, 0x9000\n       jne 1b\n"
    "    out %al, $0xf1\n"
    "2:  hlt\n                      jmp 2b\n"
    "guest_smp_end:\n"

    ".code16\n"
    "guest_ap:\n"
    "    xor %ax, %ax\n             mov %ax, %ds\n"
    "    movl $0x5a, 0x9000\n"
    "1:  hlt\n                      jmp 1b\n"
    "guest_ap_end:\n"

    ".code64\n"
    "guest_lost:\n"
    "    mov $0x70000000, %eax\n     mov %rax, %cr3\n"
    "1:  jmp 1b\n"
    "guest_lost_end:\n"

    "guest_mmio64:\n"
    "    mov $0xd0000000, %rbx\n"
    "    movq (%rbx), %rax\n        movq %rax, 0x9000\n"
    "    movabs $0x1122334455667788, %rax\n"
    "    movq %rax, 8(%rbx)\n"
    "    out %al, $0xf1\n"
    "1:  hlt\n                      jmp 1b\n"
    "guest_mmio64_end:\n"

    /* Pin 16 of the I/O APIC as vector 0x41, level triggered; then goes on as the next one. */
    "guest_level:\n"
    "    mov $0xfec00000, %rdx\n"
    "    movl $0x31, (%rdx)\n       movl $0, 0x10(%rdx)\n"
    "    movl $0x30, (%rdx)\n       movl $0x8041, 0x10(%rdx)\n"

    /* Turns the local APIC on and waits; the handler tells port 0x51 and ends the interrupt. */
    "guest_msi:\n"
    "    mov $0xfee00000, %rbx\n    movl $0x1ff, 0xf0(%rbx)\n"
    "    lidt 0x9100\n"
    "    sti\n"
    "    out %al, $0xf1\n"
    "1:  hlt\n                      jmp 1b\n"
    "guest_msi_handler:\n"
    "    mov $0x77, %al\n           out %al, $0x51\n"
    "    movl $0, 0xb0(%rbx)\n"
    "    iretq\n"
    "guest_msi_end:\n"

    /* Leaf and subleaf at 0x9000, answer to 0x9010. */
    "guest_cpuid:\n"
    "    mov 0x9000, %eax\n         mov 0x9004, %ecx\n"
    "    cpuid\n"
    "    mov %eax, 0x9010\n         mov %ebx, 0x9014\n         mov %ecx, 0x9018\n"
    "    mov %edx, 0x901c\n"
    "    out %al, $0xf1\n"
    "    jmp guest_cpuid\n"
    "guest_cpuid_end:\n"
    ".popsection\n");
/* clang-format on */

/* ---- the machine ---- */

struct machine {
    struct memory *memory;
    struct bus *mmio, *ports;
    struct vm *vm;
    GMutex lock; /* what follows; vCPUs and the test share it */
    GCond changed;
    GString *text;      /* accesses as the guest made them */
    unsigned done;      /* writes to DONE_PORT */
    uint64_t value;     /* what reads give */
    uint32_t next;      /* what guest_count writes next */
    uint32_t limit;     /* where it ends */
    unsigned disorders; /* numbers out of order */
    bool ended;
    enum shutdown_reason reason;
    char *detail;
};

static inline uint64_t on_read(void *opaque, uint64_t offset, unsigned size)
{
    struct machine *m = opaque;

    g_mutex_lock(&m->lock);
    g_string_append_printf(m->text, "r%u@%x ", size, (unsigned)offset);
    g_mutex_unlock(&m->lock);
    return m->value;
}

static inline void on_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = opaque;

    g_mutex_lock(&m->lock);
    g_string_append_printf(m->text, "w%u@%x=%" G_GINT64_MODIFIER "x ", size, (unsigned)offset,
                           value);
    g_cond_broadcast(&m->changed);
    g_mutex_unlock(&m->lock);
}

static inline void on_done(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = opaque;

    g_mutex_lock(&m->lock);
    m->done++;
    g_cond_broadcast(&m->changed);
    g_mutex_unlock(&m->lock);
}

static const struct bus_ops access_ops = {on_read, on_write};
static const struct bus_ops done_ops = {.write = on_done};

static inline void on_shutdown(void *opaque, enum shutdown_reason reason, int status,
                               const char *detail)
{
    struct machine *m = opaque;

    g_mutex_lock(&m->lock);
    m->ended = true;
    m->reason = reason;
    g_free(m->detail);
    m->detail = g_strdup(detail);
    g_cond_broadcast(&m->changed);
    g_mutex_unlock(&m->lock);
}

static inline struct vm_config config_of(struct machine *m, unsigned vcpus)
{
    return (struct vm_config){
        .vcpus = vcpus,
        .memory = m->memory,
        .mmio = m->mmio,
        .ports = m->ports,
        .shutdown = {on_shutdown, m},
        .allow_software_kvm = true,
    };
}

static inline struct machine *machine_create(unsigned vcpus)
{
    struct machine *m = g_new0(struct machine, 1);
    struct memory_ram_options options = {0};
    struct vm_config config;
    g_autoptr(GError) error = NULL;

    m->text = g_string_new(NULL);
    m->memory = memory_create();
    m->mmio = bus_create(BUS_MMIO);
    m->ports = bus_create(BUS_PORT);
    g_assert_true(memory_add_ram(m->memory, UINT64_C(4) << 20, LAYOUT_LOW_END, &options, &error));
    g_assert_cmpint(bus_add(m->ports, 0x50, 0x20, &access_ops, m, "test"), ==, 0);
    g_assert_cmpint(bus_add(m->ports, DONE_PORT, 1, &done_ops, m, "done"), ==, 0);
    config = config_of(m, vcpus);
    m->vm = vm_create(&config, &error);
    g_assert_no_error(error);
    return m;
}

static inline void machine_destroy(struct machine *m)
{
    vm_destroy(m->vm);
    bus_destroy(m->mmio);
    bus_destroy(m->ports);
    memory_destroy(m->memory);
    g_string_free(m->text, TRUE);
    g_free(m->detail);
    g_free(m);
}

static inline void put(struct machine *m, uint64_t gpa, const void *data, uint64_t size)
{
    g_assert_cmpint(memory_write(m->memory, gpa, data, size), ==, 0);
}

static inline uint64_t peek(struct machine *m, uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    g_assert_cmpint(memory_read(m->memory, gpa, &value, size), ==, 0);
    return value;
}

/* A GDT for both modes, and page tables that map the first 4 GiB one to one by 2 MiB pages. */
static inline void put_tables(struct machine *m, bool long_mode)
{
    const uint64_t code = long_mode ? 0x00af9b000000ffff : 0x00cf9b000000ffff;
    const uint64_t gdt[] = {0, 0, code, 0x00cf93000000ffff};
    uint64_t entry = (PAGE_TABLES + 0x1000) | 3;

    put(m, GDT, gdt, sizeof(gdt));
    put(m, PAGE_TABLES, &entry, 8);
    for (unsigned i = 0; i < 4; i++) {
        entry = (PAGE_TABLES + 0x2000 + i * 0x1000) | 3;
        put(m, PAGE_TABLES + 0x1000 + i * 8, &entry, 8);
        for (unsigned j = 0; j < 512; j++) {
            entry = ((uint64_t)i << 30 | (uint64_t)j << 21) | 0x83;
            put(m, PAGE_TABLES + 0x2000 + i * 0x1000 + j * 8, &entry, 8);
        }
    }
}

static inline void enter(struct machine *m, const uint8_t *code, const uint8_t *end, bool long_mode)
{
    struct vm_entry entry = {
        .mode = long_mode ? VM_ENTRY_LONG_MODE : VM_ENTRY_PROTECTED_MODE,
        .rip = CODE,
        .rsp = STACK,
        .cr3 = PAGE_TABLES,
        .gdt_base = GDT,
        .gdt_limit = 31,
    };
    g_autoptr(GError) error = NULL;

    put_tables(m, long_mode);
    put(m, CODE, code, (uint64_t)(end - code));
    g_assert_true(vm_set_entry(m->vm, &entry, &error));
    g_assert_no_error(error);
}

static inline void start(struct machine *m)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vm_start(m->vm, &error));
    g_assert_no_error(error);
    g_assert_true(vm_is_running(m->vm));
}

/* Waits for *what to be at least @least. */
static inline bool wait_for(struct machine *m, const unsigned *what, unsigned least)
{
    gint64 until = g_get_monotonic_time() + WAIT_MS * 1000;
    bool reached = true;

    g_mutex_lock(&m->lock);
    while (*what < least && reached && !m->ended)
        reached = g_cond_wait_until(&m->changed, &m->lock, until);
    reached = *what >= least;
    if (m->ended)
        g_test_message("the machine ended: %s %s", shutdown_reason_name(m->reason),
                       m->detail ? m->detail : "");
    g_mutex_unlock(&m->lock);
    return reached;
}

static inline void wait_for_end(struct machine *m)
{
    gint64 until = g_get_monotonic_time() + WAIT_MS * 1000;

    g_mutex_lock(&m->lock);
    while (!m->ended)
        g_assert_true(g_cond_wait_until(&m->changed, &m->lock, until));
    g_mutex_unlock(&m->lock);
}

/* Runs a guest to its end mark. */
static inline void run(struct machine *m, const uint8_t *code, const uint8_t *end, bool long_mode)
{
    enter(m, code, end, long_mode);
    start(m);
    g_assert_true(wait_for(m, &m->done, 1));
}

#define RUN(M, GUEST, LONG_MODE) run(M, GUEST, GUEST##_end, LONG_MODE)

/* Waits for the accesses to be exactly @text. */
static inline bool wait_for_text(struct machine *m, const char *text)
{
    gint64 until = g_get_monotonic_time() + WAIT_MS * 1000;
    bool reached = true;

    g_mutex_lock(&m->lock);
    while (strcmp(m->text->str, text) && reached && !m->ended)
        reached = g_cond_wait_until(&m->changed, &m->lock, until);
    reached = strcmp(m->text->str, text) == 0;
    g_mutex_unlock(&m->lock);
    return reached;
}

/* Says why there is nothing to test, if so. */
static inline bool has_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        g_print("1..0 # SKIP no /dev/kvm that may be opened: %s\n", g_strerror(errno));
        return false;
    }
    close(fd);
    return true;
}

#endif
