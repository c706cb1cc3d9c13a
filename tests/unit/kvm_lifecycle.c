/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The KVM machine paused, saved, reset, and with more vCPUs. Skipped where there is no KVM. */
#include "tests/unit/kvm_machine.h"
#include "vmm/vcpu_state.h"

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

/* What a guest writes is in KVM's log, once, and nothing else is. */
static void written_pages_are_logged(void)
{
    struct machine *m = machine_create(1);
    const struct memory_region *regions;
    uint64_t bitmap[1024] = {0};
    unsigned count;

    enter(m, guest_spin, guest_spin_end, false);
    regions = memory_regions(m->memory, &count);
    g_assert_cmpuint(regions[0].size, <=, sizeof(bitmap) * 8 * MEMORY_PAGE_SIZE);
    start(m);
    for (unsigned turn = 0; turn < 3; turn++) {
        uint64_t before;
        vm_pause(m->vm);
        g_assert_cmpint(vm_dirty_start(m->vm), ==, 0);
        vm_dirty_sync(m->vm, &regions[0], bitmap);
        memset(bitmap, 0, sizeof(bitmap));
        g_assert_cmpint(vm_dirty_sync(m->vm, &regions[0], bitmap), ==, 0);
        g_assert_cmphex(bitmap[0], ==, 0); /* it does not run */
        before = peek(m, DATA, 4);
        vm_resume(m->vm);
        for (unsigned i = 0; i < 10000 && peek(m, DATA, 4) == before; i++)
            g_usleep(1000);
        vm_pause(m->vm);
        g_assert_cmpint(vm_dirty_sync(m->vm, &regions[0], bitmap), ==, 0);
        g_assert_cmphex(bitmap[0], ==, UINT64_C(1) << (DATA / MEMORY_PAGE_SIZE));
        vm_dirty_stop(m->vm);
        vm_resume(m->vm);
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
    g_assert_null(strstr(paused, "outside of guest RAM"));
    machine_destroy(m);
}

/* Whatever becomes of such a guest: it hangs on most KVMs. */
static void a_description_tells_of_page_tables_that_are_nowhere(void)
{
    struct machine *m = machine_create(1);
    g_autofree char *text = NULL;

    enter(m, guest_lost, guest_lost_end, true);
    start(m);
    g_usleep(100000);
    vm_pause(m->vm);
    text = vm_describe_vcpu(m->vm, 0);
    g_assert_nonnull(strstr(text, "cr3 0000000070000000 (outside of guest RAM)"));
    machine_destroy(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!has_kvm())
        return 0;
    g_test_add_func("/kvm-lifecycle/pause-spinning", a_spinning_vcpu_pauses_and_goes_on);
    g_test_add_func("/kvm-lifecycle/pause-halted", a_halted_vcpu_pauses_and_goes_on);
    g_test_add_func("/kvm-lifecycle/dirty-log", written_pages_are_logged);
    g_test_add_func("/kvm-lifecycle/pause-again-and-again",
                    pauses_that_follow_each_other_at_once_are_not_lost);
    g_test_add_func("/kvm-lifecycle/pause-completes-accesses", accesses_are_complete_when_paused);
    g_test_add_func("/kvm-lifecycle/state", state_goes_out_and_in_again_unchanged);
    g_test_add_func("/kvm-lifecycle/reset", a_reset_starts_from_power_on);
    g_test_add_func("/kvm-lifecycle/reset-after-fault", a_reset_revives_a_faulted_vcpu);
    g_test_add_func("/kvm-lifecycle/second-vcpu", a_second_vcpu_starts_by_init_and_sipi);
    g_test_add_func("/kvm-lifecycle/sixty-four-vcpus", sixty_four_vcpus_can_be_had);
    g_test_add_func("/kvm-lifecycle/cpuid", the_guest_sees_the_hypervisor_and_its_clock);
    g_test_add_func("/kvm-lifecycle/describe", a_description_names_registers);
    g_test_add_func("/kvm-lifecycle/describe-lost",
                    a_description_tells_of_page_tables_that_are_nowhere);
    return g_test_run();
}
