/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The KVM machine: exits, doorbells, interrupts, and how it ends. Skipped where there is no KVM. */
#include <sys/eventfd.h>

#include "tests/unit/kvm_machine.h"
#include "vmm/loop.h"

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

/* An interrupt table whose vector 0x41 is guest_msi_handler, in a guest that begins at @code. */
static void put_idt(struct machine *m, const uint8_t *code)
{
    const uint64_t handler = CODE + (uint64_t)(guest_msi_handler - code);
    const uint64_t gate[2] = {(handler & 0xffff) | 0x10 << 16 | UINT64_C(0x8e00) << 32 |
                                  (handler >> 16 & 0xffff) << 48,
                              0};
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idtr = {0xfff, IDT};

    put(m, IDT + 0x41 * 16, gate, sizeof(gate));
    put(m, DATA + 0x100, &idtr, sizeof(idtr));
}

static void an_msi_reaches_the_guests_handler(void)
{
    struct machine *m = machine_create(1);
    struct irq_msi msi;

    put_idt(m, guest_msi);
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

/* Turns the loop, which hears of the guest's EOIs, until there were @count accesses; false: never. */
static bool turn_until(struct machine *m, unsigned count)
{
    const unsigned length = count * strlen("w1@1=77 ");
    gint64 until = g_get_monotonic_time() + WAIT_MS * 1000;
    bool reached = false;

    while (!reached && g_get_monotonic_time() < until) {
        loop_iterate(loop_main(), false);
        g_mutex_lock(&m->lock);
        reached = m->text->len >= length;
        g_mutex_unlock(&m->lock);
    }
    return reached;
}

static void a_level_line_comes_again_until_it_is_lowered(void)
{
    struct machine *m = machine_create(1);
    struct irq_line line;
    gsize length;

    put_idt(m, guest_level);
    g_assert_cmpint(irq_line_init(&line, vm_interrupts(m->vm), NULL, 16, true, loop_main()), ==, 0);
    run(m, guest_level, guest_msi_end, true);
    irq_line_set(&line, true);
    g_assert_true(turn_until(m, 200));
    irq_line_set(&line, false);
    g_usleep(20000);
    while (loop_iterate(loop_main(), false))
        ;
    g_usleep(20000);
    length = m->text->len;
    while (loop_iterate(loop_main(), false))
        ;
    g_usleep(20000);
    g_assert_cmpuint(m->text->len, ==, length);
    irq_line_finish(&line);
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
int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!has_kvm())
        return 0;
    g_test_add_func("/kvm/ports", ports_reach_the_bus);
    g_test_add_func("/kvm/strings", string_instructions_bring_every_value);
    g_test_add_func("/kvm/mmio", memory_mapped_accesses_reach_the_bus);
    g_test_add_func("/kvm/mmio-eight-bytes", long_mode_accesses_eight_bytes);
    g_test_add_func("/kvm/exits-are-counted", exits_are_counted_by_address);
    g_test_add_func("/kvm/doorbells", doorbells_ring_without_an_exit);
    g_test_add_func("/kvm/msi", an_msi_reaches_the_guests_handler);
    g_test_add_func("/kvm/level-line", a_level_line_comes_again_until_it_is_lowered);
    g_test_add_func("/kvm/many-vectors", many_vectors_have_routes_of_their_own);
    g_test_add_func("/kvm/triple-fault", a_triple_fault_is_reported);
    g_test_add_func("/kvm/jump-to-nowhere", a_jump_to_nowhere_is_explained);
    return g_test_run();
}
