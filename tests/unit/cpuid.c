/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CPUID tables of made-up hosts: topology, ids, frequencies, what is hidden. */
#include <string.h>

#include "vmm/vm_private.h"

struct table {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[CPUID_ROOM];
};

static void add(struct kvm_cpuid2 *cpuid, uint32_t function, int index, uint32_t eax, uint32_t ebx,
                uint32_t ecx, uint32_t edx)
{
    cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
        .function = function,
        .index = index < 0 ? 0 : (uint32_t)index,
        .flags = index < 0 ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        .eax = eax,
        .ebx = ebx,
        .ecx = ecx,
        .edx = edx,
    };
}

/* As KVM gives them on an Intel host, with leaves that matter here. */
static struct kvm_cpuid2 *intel(struct table *table)
{
    struct kvm_cpuid2 *cpuid = &table->head;

    memset(table, 0, sizeof(*table));
    add(cpuid, 0, -1, 0x20, 0x756e6547, 0x6c65746e, 0x49656e69);
    add(cpuid, 1, -1, 0x000a0671, 0x05100800, 0x80202000, 0x1f8bfbff);
    add(cpuid, 4, 0, 0x1c004121, 0x02c0003f, 0x3f, 0);  /* L1 data */
    add(cpuid, 4, 1, 0x1c004122, 0x01c0003f, 0x3f, 0);  /* L1 instruction */
    add(cpuid, 4, 2, 0x1c004143, 0x04c0003f, 0x3ff, 0); /* L2 */
    add(cpuid, 4, 3, 0x1c03c163, 0x03c0003f, 0x3fff, 0);
    add(cpuid, 4, 4, 0, 0, 0, 0);
    add(cpuid, 7, 0, 1, 0x01802852, 0, 1u << 22 | 1u << 24 | 1u << 25);
    add(cpuid, 0xb, 0, 1, 2, 0x100, 5);
    add(cpuid, 0xb, 1, 4, 16, 0x201, 5);
    add(cpuid, 0xd, 0, 0xe7, 0xa80, 0xa80, 0);
    add(cpuid, 0x15, -1, 2, 200, 24000000, 0);
    add(cpuid, 0x16, -1, 2600, 4000, 100, 0);
    add(cpuid, 0x1d, 0, 1, 0, 0, 0);
    add(cpuid, 0x80000008, -1, 0x3930, 0, 0, 0);
    add(cpuid, 0x40000000, -1, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
    add(cpuid, 0x40000001, -1, 0x01007efb, 0, 0, 0);
    return cpuid;
}

static struct kvm_cpuid2 *amd(struct table *table)
{
    struct kvm_cpuid2 *cpuid = &table->head;

    memset(table, 0, sizeof(*table));
    add(cpuid, 0, -1, 0xd, 0x68747541, 0x444d4163, 0x69746e65);
    add(cpuid, 1, -1, 0x00800f12, 0x05100800, 0x80202000, 0x1f8bfbff);
    add(cpuid, 7, 0, 1, 0, 0, 0);
    add(cpuid, 0x80000001, -1, 0, 0, 1u << 22, 0);
    add(cpuid, 0x80000008, -1, 0x3030, 0, 0x703f, 0);
    add(cpuid, 0x8000001d, 0, 0x4121, 0x01c0003f, 0x3f, 0);
    add(cpuid, 0x8000001d, 1, 0x4122, 0x00c000ff, 0xff, 0);
    add(cpuid, 0x8000001d, 2, 0x4143, 0x01c0003f, 0x3ff, 2);
    add(cpuid, 0x8000001d, 3, 0x1c163, 0x03c0003f, 0x1fff, 1);
    add(cpuid, 0x8000001e, -1, 5, 0x102, 0x300, 0);
    add(cpuid, 0x40000000, -1, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
    return cpuid;
}

static void ids_leave_gaps_where_counts_are_no_powers_of_two(void)
{
    const struct cpuid_config flat = {.vcpus = 4, .threads = 1, .cores = 4};
    const struct cpuid_config odd = {.vcpus = 12, .threads = 2, .cores = 3};

    for (unsigned i = 0; i < 4; i++)
        g_assert_cmpuint(cpuid_apic_id(&flat, i), ==, i);
    g_assert_cmpuint(cpuid_apic_id(&odd, 1), ==, 1);
    g_assert_cmpuint(cpuid_apic_id(&odd, 2), ==, 2);
    g_assert_cmpuint(cpuid_apic_id(&odd, 5), ==, 5);
    g_assert_cmpuint(cpuid_apic_id(&odd, 6), ==, 8); /* the second socket */
    g_assert_cmpuint(cpuid_apic_id(&odd, 11), ==, 13);
}

static void leaf_1_has_the_id_the_count_and_the_hypervisor(void)
{
    struct table table;
    const struct cpuid_config config = {.vcpus = 6, .threads = 2, .cores = 3, .tsc_deadline = true};
    struct kvm_cpuid2 *cpuid = intel(&table);
    const struct kvm_cpuid_entry2 *leaf;

    cpuid_prepare(cpuid, &config);
    cpuid_set_vcpu(cpuid, &config, 3);
    leaf = cpuid_find(cpuid, 1, 0);
    g_assert_cmpuint(leaf->ebx >> 24, ==, 3);
    g_assert_cmpuint(leaf->ebx >> 16 & 0xff, ==, 8); /* ids a socket takes */
    g_assert_cmpuint(leaf->ebx & 0xffff, ==, 0x0800);
    g_assert_true(leaf->ecx & 1u << 31);
    g_assert_true(leaf->ecx & 1u << 24);
    g_assert_true(leaf->ecx & 1u << 21);
    g_assert_true(leaf->edx & 1u << 28);
}

static void a_single_vcpu_is_no_hyperthread(void)
{
    struct table table;
    const struct cpuid_config config = {.vcpus = 1, .threads = 1, .cores = 1};
    struct kvm_cpuid2 *cpuid = intel(&table);

    cpuid_prepare(cpuid, &config);
    g_assert_false(cpuid_find(cpuid, 1, 0)->edx & 1u << 28);
    g_assert_false(cpuid_find(cpuid, 1, 0)->ecx & 1u << 24); /* KVM has no such timer */
}

static void check_levels(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t id)
{
    const struct kvm_cpuid_entry2 *leaf = cpuid_find(cpuid, function, 0);

    g_assert_nonnull(leaf);
    g_assert_cmphex(leaf->eax, ==, 1);
    g_assert_cmphex(leaf->ebx, ==, 2);
    g_assert_cmphex(leaf->ecx, ==, 0x100);
    g_assert_cmphex(leaf->edx, ==, id);
    leaf = cpuid_find(cpuid, function, 1);
    g_assert_cmphex(leaf->eax, ==, 3);
    g_assert_cmphex(leaf->ebx, ==, 6);
    g_assert_cmphex(leaf->ecx, ==, 0x201);
    g_assert_cmphex(leaf->edx, ==, id);
    leaf = cpuid_find(cpuid, function, 2);
    g_assert_cmphex(leaf->ebx, ==, 0);
    g_assert_cmphex(leaf->ecx, ==, 2);
}

static void extended_topology_lists_threads_and_cores(void)
{
    struct table table;
    const struct cpuid_config config = {.vcpus = 12, .threads = 2, .cores = 3};
    struct kvm_cpuid2 *cpuid = intel(&table);

    cpuid_prepare(cpuid, &config);
    cpuid_set_vcpu(cpuid, &config, 7);
    check_levels(cpuid, 0xb, 9);
    check_levels(cpuid, 0x1f, 9);
    g_assert_null(cpuid_find(cpuid, 0xb, 3));
}

static void intel_caches_are_shared_by_core_and_by_socket(void)
{
    struct table table;
    const struct cpuid_config config = {.vcpus = 8, .threads = 2, .cores = 4};
    struct kvm_cpuid2 *cpuid = intel(&table);

    cpuid_prepare(cpuid, &config);
    for (unsigned i = 0; i < 4; i++) {
        const struct kvm_cpuid_entry2 *leaf = cpuid_find(cpuid, 4, i);
        g_assert_cmpuint((leaf->eax >> 14 & 0xfff) + 1, ==, i < 3 ? 2 : 8);
        g_assert_cmpuint((leaf->eax >> 26) + 1, ==, 4);
    }
    g_assert_cmphex(cpuid_find(cpuid, 4, 2)->eax & 0x3fff, ==, 0x0143);
    g_assert_cmphex(cpuid_find(cpuid, 4, 4)->eax, ==, 0);
}

static void amd_counts_cores_in_its_own_leaves(void)
{
    struct table table;
    const struct cpuid_config config = {.vcpus = 16, .threads = 2, .cores = 4};
    struct kvm_cpuid2 *cpuid = amd(&table);
    const struct kvm_cpuid_entry2 *leaf;

    cpuid_prepare(cpuid, &config);
    cpuid_set_vcpu(cpuid, &config, 11); /* second socket, core 1, thread 1 */
    leaf = cpuid_find(cpuid, 0x80000008, 0);
    g_assert_cmpuint((leaf->ecx & 0xff) + 1, ==, 8);
    g_assert_cmpuint(leaf->ecx >> 12 & 0xf, ==, 3);
    g_assert_true(cpuid_find(cpuid, 0x80000001, 0)->ecx & 1u << 1);
    g_assert_cmpuint((cpuid_find(cpuid, 0x8000001d, 2)->eax >> 14 & 0xfff) + 1, ==, 2);
    g_assert_cmpuint((cpuid_find(cpuid, 0x8000001d, 3)->eax >> 14 & 0xfff) + 1, ==, 8);
    leaf = cpuid_find(cpuid, 0x8000001e, 0);
    g_assert_cmphex(leaf->eax, ==, 11);
    g_assert_cmphex(leaf->ebx >> 8 & 0xff, ==, 1);
    g_assert_cmphex(leaf->ebx & 0xff, ==, 5);
    /* The extended topology leaf is there too, though the host's highest was 0xd. */
    g_assert_cmphex(cpuid_find(cpuid, 0xb, 1)->edx, ==, 11);
    g_assert_null(cpuid_find(cpuid, 0x1f, 0));
}

static void frequencies_are_told_where_they_fit(void)
{
    struct table table;
    struct cpuid_config config = {.vcpus = 1, .threads = 1, .cores = 1, .tsc_khz = 2600000};
    struct kvm_cpuid2 *cpuid = intel(&table);
    const struct kvm_cpuid_entry2 *leaf;

    cpuid_prepare(cpuid, &config);
    leaf = cpuid_find(cpuid, 0x40000010, 0);
    g_assert_cmpuint(leaf->eax, ==, 2600000);
    g_assert_cmpuint(leaf->ebx, ==, 1000000);
    g_assert_cmphex(cpuid_find(cpuid, 0x40000000, 0)->eax, ==, 0x40000010);
    leaf = cpuid_find(cpuid, 0x15, 0);
    g_assert_cmpuint(leaf->ecx, ==, 1000000000);
    /* As Linux does it, in 32 bits. */
    g_assert_cmpuint(leaf->ecx / 1000 * leaf->ebx / leaf->eax, ==, 2600000);
    g_assert_cmpuint(cpuid_find(cpuid, 0x16, 0)->eax, ==, 0);

    /* A frequency that has no small ratio to 1 GHz. */
    cpuid = intel(&table);
    config.tsc_khz = 2599981;
    cpuid_prepare(cpuid, &config);
    leaf = cpuid_find(cpuid, 0x15, 0);
    g_assert_cmpuint(leaf->eax | leaf->ebx | leaf->ecx, ==, 0);
    g_assert_cmpuint(cpuid_find(cpuid, 0x40000010, 0)->eax, ==, 2599981);

    /* Not known: nothing is claimed. */
    cpuid = intel(&table);
    config.tsc_khz = 0;
    cpuid_prepare(cpuid, &config);
    g_assert_null(cpuid_find(cpuid, 0x40000010, 0));
    g_assert_cmphex(cpuid_find(cpuid, 0x40000000, 0)->eax, ==, 0x40000001);
}

static void amx_goes_with_its_state(void)
{
    struct table table;
    const struct cpuid_config config = {.vcpus = 1, .threads = 1, .cores = 1};
    struct kvm_cpuid2 *cpuid = intel(&table);

    cpuid_prepare(cpuid, &config);
    g_assert_cmphex(cpuid_find(cpuid, 7, 0)->edx, ==, 0);
    g_assert_null(cpuid_find(cpuid, 0x1d, 0));
    cpuid = intel(&table);
    cpuid_find(cpuid, 0xd, 0)->eax |= 3u << 17;
    cpuid_prepare(cpuid, &config);
    g_assert_cmphex(cpuid_find(cpuid, 7, 0)->edx, ==, 1u << 22 | 1u << 24 | 1u << 25);
    g_assert_nonnull(cpuid_find(cpuid, 0x1d, 0));
}

static void a_full_table_is_not_overrun(void)
{
    struct table table;
    const struct cpuid_config config = {
        .vcpus = 4, .threads = 2, .cores = 2, .tsc_khz = 2600000, .tsc_deadline = true};
    struct kvm_cpuid2 *cpuid = intel(&table);

    while (cpuid->nent < CPUID_ROOM)
        add(cpuid, 0x90000000 + cpuid->nent, -1, 0, 0, 0, 0);
    cpuid_prepare(cpuid, &config);
    cpuid_set_vcpu(cpuid, &config, 1);
    g_assert_cmpuint(cpuid->nent, <=, CPUID_ROOM);
}

static void physical_bits_are_plausible(void)
{
    struct table table;
    struct kvm_cpuid2 *cpuid = intel(&table);

    g_assert_cmpuint(cpuid_physical_bits(cpuid), ==, 48);
    cpuid_find(cpuid, 0x80000008, 0)->eax = 0;
    g_assert_cmpuint(cpuid_physical_bits(cpuid), ==, 36);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cpuid/ids-leave-gaps", ids_leave_gaps_where_counts_are_no_powers_of_two);
    g_test_add_func("/cpuid/leaf-1", leaf_1_has_the_id_the_count_and_the_hypervisor);
    g_test_add_func("/cpuid/single-vcpu", a_single_vcpu_is_no_hyperthread);
    g_test_add_func("/cpuid/extended-topology", extended_topology_lists_threads_and_cores);
    g_test_add_func("/cpuid/intel-caches", intel_caches_are_shared_by_core_and_by_socket);
    g_test_add_func("/cpuid/amd-topology", amd_counts_cores_in_its_own_leaves);
    g_test_add_func("/cpuid/frequencies", frequencies_are_told_where_they_fit);
    g_test_add_func("/cpuid/amx", amx_goes_with_its_state);
    g_test_add_func("/cpuid/full-table", a_full_table_is_not_overrun);
    g_test_add_func("/cpuid/physical-bits", physical_bits_are_plausible);
    return g_test_run();
}
