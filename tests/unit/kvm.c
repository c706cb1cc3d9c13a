/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The KVM machine with guests of a few instructions each: exits, doorbells, interrupts, pausing,
 * resets, and how it ends. Also runs where KVM emulates the guest (no hardware behind it); skipped
 * where there is no KVM.
 */
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/layout.h"
#include "vmm/vcpu_state.h"

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
extern const uint8_t guest_spin[], guest_spin_end[];
extern const uint8_t guest_count[], guest_count_end[];
extern const uint8_t guest_halt[], guest_halt_end[];
extern const uint8_t guest_bells[], guest_bells_end[];
extern const uint8_t guest_msi[], guest_msi_end[], guest_msi_handler[];
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
    "guest_mmio64:\n"
    "    mov $0xd0000000, %rbx\n"
    "    movq (%rbx), %rax\n        movq %rax, 0x9000\n"
    "    movabs $0x1122334455667788, %rax\n"
    "    movq %rax, 8(%rbx)\n"
    "    out %al, $0xf1\n"
    "1:  hlt\n                      jmp 1b\n"
    "guest_mmio64_end:\n"

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

static uint64_t on_read(void *opaque, uint64_t offset, unsigned size)
{
    struct machine *m = opaque;

    g_mutex_lock(&m->lock);
    g_string_append_printf(m->text, "r%u@%x ", size, (unsigned)offset);
    g_mutex_unlock(&m->lock);
    return m->value;
}

static void on_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = opaque;

    g_mutex_lock(&m->lock);
    g_string_append_printf(m->text, "w%u@%x=%" G_GINT64_MODIFIER "x ", size, (unsigned)offset,
                           value);
    g_cond_broadcast(&m->changed);
    g_mutex_unlock(&m->lock);
}

static void on_done(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = opaque;

    g_mutex_lock(&m->lock);
    m->done++;
    g_cond_broadcast(&m->changed);
    g_mutex_unlock(&m->lock);
}

static const struct bus_ops access_ops = {on_read, on_write};
static const struct bus_ops done_ops = {.write = on_done};

static void on_shutdown(void *opaque, enum shutdown_reason reason, int status, const char *detail)
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

static struct vm_config config_of(struct machine *m, unsigned vcpus)
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

static struct machine *machine_create(unsigned vcpus)
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

static void machine_destroy(struct machine *m)
{
    vm_destroy(m->vm);
    bus_destroy(m->mmio);
    bus_destroy(m->ports);
    memory_destroy(m->memory);
    g_string_free(m->text, TRUE);
    g_free(m->detail);
    g_free(m);
}

static void put(struct machine *m, uint64_t gpa, const void *data, uint64_t size)
{
    g_assert_cmpint(memory_write(m->memory, gpa, data, size), ==, 0);
}

static uint64_t peek(struct machine *m, uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    g_assert_cmpint(memory_read(m->memory, gpa, &value, size), ==, 0);
    return value;
}

/* A GDT for both modes, and page tables that map the first 4 GiB one to one by 2 MiB pages. */
static void put_tables(struct machine *m, bool long_mode)
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

static void enter(struct machine *m, const uint8_t *code, const uint8_t *end, bool long_mode)
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

static void start(struct machine *m)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(vm_start(m->vm, &error));
    g_assert_no_error(error);
    g_assert_true(vm_is_running(m->vm));
}

/* Waits for *what to be at least @least. */
static bool wait_for(struct machine *m, const unsigned *what, unsigned least)
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

static void wait_for_end(struct machine *m)
{
    gint64 until = g_get_monotonic_time() + WAIT_MS * 1000;

    g_mutex_lock(&m->lock);
    while (!m->ended)
        g_assert_true(g_cond_wait_until(&m->changed, &m->lock, until));
    g_mutex_unlock(&m->lock);
}

/* Runs a guest to its end mark. */
static void run(struct machine *m, const uint8_t *code, const uint8_t *end, bool long_mode)
{
    enter(m, code, end, long_mode);
    start(m);
    g_assert_true(wait_for(m, &m->done, 1));
}

#define RUN(M, GUEST, LONG_MODE) run(M, GUEST, GUEST##_end, LONG_MODE)

/* ---- exits ---- */

static void ports_reach_the_bus(void)
{
    struct machine *m = machine_create(1);

    m->value = 0xaabbccdd;
    RUN(m, guest_ports, false);
    g_assert_cmpstr(m->text->str, ==, "r1@0 r2@0 r4@0 w1@1=44 w2@1=3344 w4@1=11223344 ");
    g_assert_cmphex(peek(m, DATA, 1), ==, 0xdd);
    g_assert_cmphex(peek(m, DATA + 2, 2), ==, 0xccdd);
    g_assert_cmphex(peek(m, DATA + 4, 4), ==, 0xaabbccdd);
    machine_destroy(m);
}

static void string_instructions_bring_every_value(void)
{
    struct machine *m = machine_create(1);

    m->value = 0xbeef;
    put(m, DATA, "hello", 5);
    RUN(m, guest_strings, false);
    g_assert_cmpstr(m->text->str, ==, "w1@1=68 w1@1=65 w1@1=6c w1@1=6c w1@1=6f r2@0 r2@0 r2@0 ");
    g_assert_cmphex(peek(m, DATA + 0x100, 8), ==, 0xbeefbeefbeef);
    machine_destroy(m);
}

static void memory_mapped_accesses_reach_the_bus(void)
{
    struct machine *m = machine_create(1);

    m->value = 0xaabbccdd;
    g_assert_cmpint(bus_add(m->mmio, DEVICE, 0x1000, &access_ops, m, "device"), ==, 0);
    RUN(m, guest_mmio32, false);
    g_assert_cmpstr(m->text->str, ==, "r1@0 r2@2 r4@4 w1@8=44 w2@10=3344 w4@18=11223344 ");
    g_assert_cmphex(peek(m, DATA, 1), ==, 0xdd);
    g_assert_cmphex(peek(m, DATA + 2, 2), ==, 0xccdd);
    g_assert_cmphex(peek(m, DATA + 4, 4), ==, 0xaabbccdd);
    machine_destroy(m);
}

static void long_mode_accesses_eight_bytes(void)
{
    struct machine *m = machine_create(1);

    m->value = UINT64_C(0x0102030405060708);
    g_assert_cmpint(bus_add(m->mmio, DEVICE, 0x1000, &access_ops, m, "device"), ==, 0);
    RUN(m, guest_mmio64, true);
    g_assert_cmpstr(m->text->str, ==, "r8@0 w8@8=1122334455667788 ");
    g_assert_cmphex(peek(m, DATA, 8), ==, UINT64_C(0x0102030405060708));
    machine_destroy(m);
}

static void exits_are_counted_by_address(void)
{
    struct machine *m = machine_create(1);
    struct vm_exit_count counts[8];
    struct vm_stats stats;
    unsigned given;

    g_assert_cmpint(bus_add(m->mmio, DEVICE, 0x1000, &access_ops, m, "device"), ==, 0);
    RUN(m, guest_mmio32, false);
    vm_pause(m->vm);
    vm_get_stats(m->vm, &stats);
    g_assert_cmpuint(stats.mmio_exits, ==, 6);
    g_assert_cmpuint(stats.port_exits, ==, 1);
    g_assert_cmpuint(stats.exits, ==, stats.mmio_exits + stats.port_exits + stats.other_exits);
    given = vm_get_exit_counts(m->vm, counts, G_N_ELEMENTS(counts));
    g_assert_cmpuint(given, ==, 3);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpint(counts[i].kind, ==, BUS_MMIO);
        g_assert_cmphex(counts[i].address, ==, DEVICE);
        g_assert_cmpuint(counts[i].count, ==, 3);
    }
    g_assert_cmpint(counts[2].kind, ==, BUS_PORT);
    g_assert_cmphex(counts[2].address, ==, DONE_PORT);
    g_assert_true(counts[2].write);
    g_assert_cmpuint(vm_get_exit_counts(m->vm, counts, 1), ==, 1);
    machine_destroy(m);
}

/* ---- doorbells and interrupts in the kernel ---- */

static uint64_t drain(int fd)
{
    uint64_t count = 0;

    if (read(fd, &count, sizeof(count)) < 0)
        g_assert_cmpint(errno, ==, EAGAIN);
    return count;
}

static void doorbells_ring_without_an_exit(void)
{
    struct machine *m = machine_create(1);
    int any = eventfd(0, EFD_NONBLOCK), two = eventfd(0, EFD_NONBLOCK),
        port = eventfd(0, EFD_NONBLOCK);
    struct bus_doorbell bells[] = {
        {.address = DEVICE + 0x10, .size = 2, .fd = any},
        {.address = DEVICE + 0x20, .size = 2, .match = true, .value = 2, .fd = two},
        {.address = 0x60, .size = 4, .fd = port},
    };
    struct vm_stats stats;

    g_assert_cmpint(bus_add(m->mmio, DEVICE, 0x1000, &access_ops, m, "device"), ==, 0);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpint(bus_add_doorbell(i == 2 ? m->ports : m->mmio, &bells[i]), ==, 0);
    RUN(m, guest_bells, false);
    g_assert_cmpuint(drain(any), ==, 2);
    g_assert_cmpuint(drain(two), ==, 1);
    g_assert_cmpuint(drain(port), ==, 1);
    g_assert_cmpstr(m->text->str, ==, "w2@20=1 "); /* the value that did not match */
    vm_get_stats(m->vm, &stats);
    g_assert_cmpuint(stats.mmio_exits, ==, 1);
    g_assert_cmpuint(stats.port_exits, ==, 1);
    machine_destroy(m);
    close(any);
    close(two);
    close(port);
}

static bool wait_for_text(struct machine *m, const char *text)
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

static void an_msi_reaches_the_guests_handler(void)
{
    struct machine *m = machine_create(1);
    const uint64_t handler = CODE + (uint64_t)(guest_msi_handler - guest_msi);
    const uint64_t gate[2] = {(handler & 0xffff) | 0x10 << 16 | UINT64_C(0x8e00) << 32 |
                                  (handler >> 16 & 0xffff) << 48,
                              0};
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idtr = {0xfff, IDT};
    struct irq_msi msi;

    put(m, IDT + 0x41 * 16, gate, sizeof(gate));
    put(m, DATA + 0x100, &idtr, sizeof(idtr));
    g_assert_cmpint(irq_msi_init(&msi, vm_interrupts(m->vm), NULL), ==, 0);
    g_assert_cmpint(irq_msi_set_message(&msi, 0xfee00000, 0x41), ==, 0);
    g_assert_cmpint(irq_msi_set_masked(&msi, false), ==, 0);
    RUN(m, guest_msi, true);
    irq_msi_fire(&msi);
    g_assert_true(wait_for_text(m, "w1@1=77 "));
    /* Masked it waits, unmasked it comes. */
    irq_msi_set_masked(&msi, true);
    irq_msi_fire(&msi);
    g_usleep(20000);
    g_assert_true(wait_for_text(m, "w1@1=77 "));
    irq_msi_set_masked(&msi, false);
    g_assert_true(wait_for_text(m, "w1@1=77 w1@1=77 "));
    irq_msi_finish(&msi);
    machine_destroy(m);
}

static void many_vectors_have_routes_of_their_own(void)
{
    struct machine *m = machine_create(1);
    struct irq_msi msis[200];

    for (unsigned i = 0; i < G_N_ELEMENTS(msis); i++) {
        g_assert_cmpint(irq_msi_init(&msis[i], vm_interrupts(m->vm), NULL), ==, 0);
        g_assert_cmpint(irq_msi_set_message(&msis[i], 0xfee00000, 0x30 + i % 64), ==, 0);
        g_assert_cmpint(irq_msi_set_masked(&msis[i], false), ==, 0);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(msis); i++)
        irq_msi_finish(&msis[i]);
    machine_destroy(m);
}

/* ---- ends ---- */

static void a_triple_fault_is_reported(void)
{
    struct machine *m = machine_create(1);

    enter(m, guest_triple_fault, guest_triple_fault_end, false);
    start(m);
    wait_for_end(m);
    g_assert_cmpint(m->reason, ==, SHUTDOWN_TRIPLE_FAULT);
    vm_pause(m->vm); /* returns though the vCPU can't go on */
    vm_resume(m->vm);
    machine_destroy(m);
}

static void a_jump_to_nowhere_is_explained(void)
{
    struct machine *m = machine_create(1);

    enter(m, guest_nowhere, guest_nowhere_end, false);
    start(m);
    wait_for_end(m);
    g_test_message("%s", m->detail ? m->detail : "(nothing)");
    /* Hardware may also give it as a fault without a handler: a triple fault. */
    if (m->reason != SHUTDOWN_TRIPLE_FAULT) {
        g_assert_cmpint(m->reason, ==, SHUTDOWN_INTERNAL_ERROR);
        g_assert_nonnull(strstr(m->detail, "0xd0000000"));
        g_assert_null(strchr(m->detail, '\n'));
    }
    machine_destroy(m);
}

/* ---- pausing ---- */

static void a_spinning_vcpu_pauses_and_goes_on(void)
{
    struct machine *m = machine_create(1);
    uint64_t before, after;

    enter(m, guest_spin, guest_spin_end, false);
    start(m);
    for (unsigned turn = 0; turn < 50; turn++) {
        vm_pause(m->vm);
        g_assert_false(vm_is_running(m->vm));
        before = peek(m, DATA, 4);
        g_usleep(1000);
        g_assert_cmpuint(peek(m, DATA, 4), ==, before);
        vm_resume(m->vm);
        for (unsigned i = 0; i < 10000 && peek(m, DATA, 4) == before; i++)
            g_usleep(1000);
        after = peek(m, DATA, 4);
        g_assert_cmpuint(after, !=, before);
    }
    machine_destroy(m);
}

static void a_halted_vcpu_pauses_and_goes_on(void)
{
    struct machine *m = machine_create(1);

    RUN(m, guest_halt, false);
    for (unsigned turn = 0; turn < 20; turn++) {
        vm_pause(m->vm);
        vm_resume(m->vm);
    }
    machine_destroy(m);
}

static void pauses_that_follow_each_other_at_once_are_not_lost(void)
{
    struct machine *m = machine_create(2); /* one spins, one waits for INIT */

    enter(m, guest_spin, guest_spin_end, false);
    start(m);
    for (unsigned turn = 0; turn < 500; turn++) {
        uint64_t before;
        vm_pause(m->vm);
        before = peek(m, DATA, 4);
        g_assert_cmpuint(peek(m, DATA, 4), ==, before);
        vm_resume(m->vm);
    }
    machine_destroy(m);
}

static void count_port(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = opaque;

    m->disorders += value != m->next;
}

static uint64_t count_limit(void *opaque, uint64_t offset, unsigned size)
{
    struct machine *m = opaque;

    return __atomic_load_n(&m->limit, __ATOMIC_RELAXED);
}

static void count_device(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct machine *m = opaque;

    m->disorders += value != m->next + 1;
    m->next = (uint32_t)value;
}

static const struct bus_ops count_port_ops = {.write = count_port};
static const struct bus_ops count_device_ops = {count_limit, count_device};

/* Every access happens once, though its registers are taken out and put back in between. */
static void accesses_are_complete_when_paused(void)
{
    struct machine *m = machine_create(1);
    g_autoptr(GError) error = NULL;

    m->limit = UINT32_MAX - 1;
    g_assert_cmpint(bus_remove(m->ports, 0x50), ==, 0);
    g_assert_cmpint(bus_add(m->ports, 0x51, 1, &count_port_ops, m, "count"), ==, 0);
    g_assert_cmpint(bus_remove(m->ports, 0x51), ==, 0);
    g_assert_cmpint(bus_add(m->ports, 0x51, 4, &count_port_ops, m, "count"), ==, 0);
    g_assert_cmpint(bus_add(m->mmio, DEVICE, 0x1000, &count_device_ops, m, "count"), ==, 0);
    enter(m, guest_count, guest_count_end, false);
    start(m);
    for (unsigned turn = 0; turn < 100; turn++) {
        struct vcpu_state state;
        g_usleep((turn * 37) % 300);
        vm_pause(m->vm);
        g_assert_true(vcpu_state_get(m->vm, 0, &state, &error));
        g_assert_no_error(error);
        g_assert_true(vcpu_state_set(m->vm, 0, &state, 0, &error));
        g_assert_no_error(error);
        vcpu_state_clear(&state);
        vm_resume(m->vm);
    }
    __atomic_store_n(&m->limit, 0, __ATOMIC_RELAXED);
    g_assert_true(wait_for(m, &m->done, 1));
    g_assert_cmpuint(m->next, >, 100);
    g_assert_cmpuint(m->disorders, ==, 0);
    machine_destroy(m);
}

static void state_goes_out_and_in_again_unchanged(void)
{
    struct machine *m = machine_create(2);
    struct vcpu_state before, after;
    struct vm_chips_state chips, chips_after;
    g_autoptr(GError) error = NULL;

    RUN(m, guest_msi, true); /* with the local APIC on and an interrupt table set */
    vm_pause(m->vm);
    g_assert_true(vm_chips_state_get(m->vm, &chips, &error));
    g_assert_true(vm_chips_state_set(m->vm, &chips, true, &error));
    g_assert_true(vm_chips_state_get(m->vm, &chips_after, &error));
    g_assert_no_error(error);
    g_assert_cmpmem(chips.irqchips, sizeof(chips.irqchips), chips_after.irqchips,
                    sizeof(chips_after.irqchips));
    g_assert_cmpuint(chips_after.clock.clock, >=, chips.clock.clock);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(vcpu_state_get(m->vm, i, &before, &error));
        g_assert_true(vcpu_state_set(m->vm, i, &before, 0, &error));
        g_assert_true(vcpu_state_get(m->vm, i, &after, &error));
        g_assert_no_error(error);
        g_assert_cmpmem(&before.regs, sizeof(before.regs), &after.regs, sizeof(after.regs));
        g_assert_cmpmem(&before.sregs, sizeof(before.sregs), &after.sregs, sizeof(after.sregs));
        g_assert_cmpmem(&before.lapic, sizeof(before.lapic), &after.lapic, sizeof(after.lapic));
        g_assert_cmpmem(&before.events, sizeof(before.events), &after.events, sizeof(after.events));
        g_assert_cmpmem(before.xsave, before.xsave_size, after.xsave, after.xsave_size);
        g_assert_cmpint(before.mp_state.mp_state, ==, after.mp_state.mp_state);
        g_assert_cmpuint(before.msr_count, >, 10);
        g_assert_cmpuint(before.msr_count, ==, after.msr_count);
        vcpu_state_clear(&before);
        vcpu_state_clear(&after);
    }
    machine_destroy(m);
}

/* ---- resets ---- */

static void a_reset_starts_from_power_on(void)
{
    struct machine *m = machine_create(1);
    g_autoptr(GError) error = NULL;
    struct vcpu_state fresh, again;

    g_assert_true(vcpu_state_get(m->vm, 0, &fresh, &error));
    RUN(m, guest_ports, false);
    for (unsigned turn = 2; turn < 5; turn++) {
        vm_pause(m->vm);
        g_assert_true(vm_reset(m->vm, &error));
        g_assert_no_error(error);
        g_assert_true(vcpu_state_get(m->vm, 0, &again, &error));
        g_assert_cmpmem(&fresh.regs, sizeof(fresh.regs), &again.regs, sizeof(again.regs));
        g_assert_cmpmem(&fresh.sregs, sizeof(fresh.sregs), &again.sregs, sizeof(again.sregs));
        g_assert_cmpint(again.mp_state.mp_state, ==, fresh.mp_state.mp_state);
        vcpu_state_clear(&again);
        enter(m, guest_ports, guest_ports_end, false);
        vm_resume(m->vm);
        g_assert_true(wait_for(m, &m->done, turn));
    }
    vcpu_state_clear(&fresh);
    machine_destroy(m);
}

static void a_reset_revives_a_faulted_vcpu(void)
{
    struct machine *m = machine_create(1);
    g_autoptr(GError) error = NULL;

    enter(m, guest_triple_fault, guest_triple_fault_end, false);
    start(m);
    wait_for_end(m);
    vm_pause(m->vm);
    g_assert_true(vm_reset(m->vm, &error));
    m->ended = false;
    enter(m, guest_ports, guest_ports_end, false);
    vm_resume(m->vm);
    g_assert_true(wait_for(m, &m->done, 1));
    machine_destroy(m);
}

/* ---- more than one vCPU, and what they say of themselves ---- */

static void a_second_vcpu_starts_by_init_and_sipi(void)
{
    struct machine *m = machine_create(2);

    put(m, AP_CODE, guest_ap, (uint64_t)(guest_ap_end - guest_ap));
    g_assert_cmpuint(vm_vcpu_apic_id(m->vm, 1), ==, 1);
    RUN(m, guest_smp, false);
    g_assert_cmphex(peek(m, DATA, 4), ==, 0x5a);
    machine_destroy(m);
}

static void sixty_four_vcpus_can_be_had(void)
{
    struct machine *m = machine_create(64);

    RUN(m, guest_ports, false);
    g_assert_cmpuint(vm_vcpus(m->vm), ==, 64);
    vm_pause(m->vm);
    vm_resume(m->vm);
    machine_destroy(m);
}

static void ask_cpuid(struct machine *m, uint32_t leaf, uint32_t subleaf, uint32_t answer[4])
{
    const uint32_t question[2] = {leaf, subleaf};

    put(m, DATA, question, sizeof(question));
    vm_pause(m->vm);
    enter(m, guest_cpuid, guest_cpuid_end, true);
    m->done = 0;
    if (m->vm && answer) {
        vm_resume(m->vm);
        /* The second answer is certainly to this question. */
        g_assert_true(wait_for(m, &m->done, 2));
        vm_pause(m->vm);
        g_assert_cmpint(memory_read(m->memory, DATA + 0x10, answer, 16), ==, 0);
    }
}

static void the_guest_sees_the_hypervisor_and_its_clock(void)
{
    struct machine *m = machine_create(1);
    uint32_t r[4];

    RUN(m, guest_cpuid, true);
    ask_cpuid(m, 1, 0, r);
    g_assert_true(r[2] & 1u << 31);
    g_assert_true(r[2] & 1u << 21); /* x2APIC */
    g_assert_cmpuint(r[1] >> 24, ==, 0);
    ask_cpuid(m, 0x40000000, 0, r);
    g_assert_cmpmem(&r[1], 12, "KVMKVMKVM\0\0", 12);
    ask_cpuid(m, 0x40000001, 0, r);
    g_assert_true(r[0] & 1u << 3); /* the clock */
    g_assert_cmpuint(vm_physical_bits(m->vm), >=, 36);
    machine_destroy(m);
}

static void a_description_names_registers(void)
{
    struct machine *m = machine_create(1);
    g_autofree char *running = NULL, *paused = NULL, *none = NULL;

    RUN(m, guest_halt, false);
    running = vm_describe_vcpu(m->vm, 0);
    g_assert_nonnull(strstr(running, "pause"));
    vm_pause(m->vm);
    paused = vm_describe_vcpu(m->vm, 0);
    g_assert_nonnull(strstr(paused, "rip 000000000000100"));
    none = vm_describe_vcpu(m->vm, 7);
    g_assert_nonnull(strstr(none, "no such"));
    machine_destroy(m);
}

int main(int argc, char **argv)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    g_test_init(&argc, &argv, NULL);
    if (fd < 0) {
        g_print("1..0 # SKIP no /dev/kvm that may be opened: %s\n", g_strerror(errno));
        return 0;
    }
    close(fd);
    g_test_add_func("/kvm/ports", ports_reach_the_bus);
    g_test_add_func("/kvm/strings", string_instructions_bring_every_value);
    g_test_add_func("/kvm/mmio", memory_mapped_accesses_reach_the_bus);
    g_test_add_func("/kvm/mmio-eight-bytes", long_mode_accesses_eight_bytes);
    g_test_add_func("/kvm/exits-are-counted", exits_are_counted_by_address);
    g_test_add_func("/kvm/doorbells", doorbells_ring_without_an_exit);
    g_test_add_func("/kvm/msi", an_msi_reaches_the_guests_handler);
    g_test_add_func("/kvm/many-vectors", many_vectors_have_routes_of_their_own);
    g_test_add_func("/kvm/triple-fault", a_triple_fault_is_reported);
    g_test_add_func("/kvm/jump-to-nowhere", a_jump_to_nowhere_is_explained);
    g_test_add_func("/kvm/pause-spinning", a_spinning_vcpu_pauses_and_goes_on);
    g_test_add_func("/kvm/pause-halted", a_halted_vcpu_pauses_and_goes_on);
    g_test_add_func("/kvm/pause-again-and-again",
                    pauses_that_follow_each_other_at_once_are_not_lost);
    g_test_add_func("/kvm/pause-completes-accesses", accesses_are_complete_when_paused);
    g_test_add_func("/kvm/state", state_goes_out_and_in_again_unchanged);
    g_test_add_func("/kvm/reset", a_reset_starts_from_power_on);
    g_test_add_func("/kvm/reset-after-fault", a_reset_revives_a_faulted_vcpu);
    g_test_add_func("/kvm/second-vcpu", a_second_vcpu_starts_by_init_and_sipi);
    g_test_add_func("/kvm/sixty-four-vcpus", sixty_four_vcpus_can_be_had);
    g_test_add_func("/kvm/cpuid", the_guest_sees_the_hypervisor_and_its_clock);
    g_test_add_func("/kvm/describe", a_description_names_registers);
    return g_test_run();
}
