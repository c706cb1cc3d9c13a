/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cpuid - what the guest's processors say about themselves
 *
 * We start from KVM_GET_SUPPORTED_CPUID (what this host's KVM can give to a guest) and put in what
 * is the machine's: the topology (leaves 1, 4, 0xb, 0x1f; AMD's 0x80000008, 0x8000001d, 0x8000001e),
 * APIC ids, and frequencies, so that a guest measures nothing: KVM's paravirtual clock (leaves
 * 0x40000000 on) tells Linux the TSC's, leaf 0x40000010 tells others TSC and APIC timer, leaf 0x15
 * says the same in Intel's way where the numbers fit.
 *
 * APIC ids: thread in the lowest bits, then core, then socket, each field as wide as its count needs
 * (SDM volume 3A, 9.9.1; APM volume 3, appendix E). References to leaves: SDM volume 2A, CPUID; APM
 * volume 3, appendix E; Documentation/virt/kvm/x86/cpuid.rst.
 *
 * Pure functions on a table: no KVM is needed to test them.
 */
#include <asm/kvm_para.h>
#include <string.h>

#include "vmm/vm_private.h"

#define KVM_TIMING_LEAF (KVM_CPUID_SIGNATURE + 0x10)
#define APIC_TIMER_KHZ  1000000u /* KVM's local APIC timer counts nanoseconds */

/* Leaf 1 */
#define ECX1_X2APIC       (1u << 21)
#define ECX1_TSC_DEADLINE (1u << 24)
#define ECX1_HYPERVISOR   (1u << 31)
#define EDX1_HTT          (1u << 28)
/* Leaf 7 */
#define EDX7_AMX (1u << 22 | 1u << 24 | 1u << 25)
/* Leaf 0x80000001 */
#define ECX_CMP_LEGACY (1u << 1)
#define ECX_TOPOEXT    (1u << 22)

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
    for (unsigned i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        if (entry->function == function &&
            (!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == index))
            return entry;
    }
    return NULL;
}

/* Finds or adds; NULL when the table is full. */
static struct kvm_cpuid_entry2 *get(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index,
                                    bool indexed)
{
    struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, function, index);

    if (entry && (entry->index == index || !indexed))
        return entry;
    if (cpuid->nent >= CPUID_ROOM)
        return NULL;
    entry = &cpuid->entries[cpuid->nent++];
    memset(entry, 0, sizeof(*entry));
    entry->function = function;
    entry->index = index;
    entry->flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    return entry;
}

static void drop(struct kvm_cpuid2 *cpuid, uint32_t function)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function != function)
            cpuid->entries[kept++] = cpuid->entries[i];
    }
    cpuid->nent = kept;
}

/* Bits that @count values need. */
static unsigned width(unsigned count)
{
    unsigned bits = 0;

    while ((1u << bits) < count)
        bits++;
    return bits;
}

static unsigned thread_bits(const struct cpuid_config *config)
{
    return width(config->threads);
}

static unsigned package_bits(const struct cpuid_config *config)
{
    return width(config->threads) + width(config->cores);
}

uint32_t cpuid_apic_id(const struct cpuid_config *config, unsigned vcpu)
{
    unsigned thread = vcpu % config->threads;
    unsigned core = vcpu / config->threads % config->cores;
    unsigned socket = vcpu / (config->threads * config->cores);

    return socket << package_bits(config) | core << thread_bits(config) | thread;
}

static bool is_amd(struct kvm_cpuid2 *cpuid)
{
    const struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, 0, 0);

    /* "AuthenticAMD" and "HygonGenuine" */
    return entry && (entry->ebx == 0x68747541 || entry->ebx == 0x6f677948);
}

unsigned cpuid_physical_bits(struct kvm_cpuid2 *cpuid)
{
    const struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, 0x80000008, 0);
    unsigned bits = entry ? entry->eax & 0xff : 0;

    return bits >= 32 && bits <= 52 ? bits : 36;
}

/* ---- features ---- */

static void set_features(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config)
{
    struct kvm_cpuid_entry2 *entry = get(cpuid, 1, 0, false);
    const struct kvm_cpuid_entry2 *xsave;
    bool amx;

    if (entry) {
        entry->ecx |= ECX1_HYPERVISOR | ECX1_X2APIC;
        if (config->tsc_deadline)
            entry->ecx |= ECX1_TSC_DEADLINE;
    }
    /* AMX without its state in XCR0 (that needs a permission from the kernel) is no AMX. */
    xsave = cpuid_find(cpuid, 0xd, 0);
    amx = xsave && (xsave->eax & 3u << 17) == 3u << 17;
    entry = cpuid_find(cpuid, 7, 0);
    if (entry && !amx)
        entry->edx &= ~EDX7_AMX;
    entry = cpuid_find(cpuid, 7, 1);
    if (entry && entry->index == 1 && !amx)
        entry->eax &= ~(1u << 21); /* AMX-FP16 */
    if (!amx) {
        drop(cpuid, 0x1d);
        drop(cpuid, 0x1e);
    }
}

/* ---- frequencies ---- */

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/*
 * Leaf 0x15: TSC = crystal * numerator / denominator, where the crystal also drives the APIC timer,
 * which in KVM's case counts nanoseconds. Guests multiply in 32 bits (Linux does): numbers that
 * would overflow there are left out.
 */
static void set_tsc_leaf(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config)
{
    struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, 0x15, 0);
    uint32_t divisor, numerator;

    if (!entry)
        return;
    entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
    if (!config->tsc_khz)
        return;
    divisor = common_divisor(config->tsc_khz, APIC_TIMER_KHZ);
    numerator = config->tsc_khz / divisor;
    if (numerator > UINT32_MAX / APIC_TIMER_KHZ)
        return;
    entry->eax = APIC_TIMER_KHZ / divisor;
    entry->ebx = numerator;
    entry->ecx = APIC_TIMER_KHZ * 1000u;
}

static void set_frequencies(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config)
{
    static const char signature[12] = "KVMKVMKVM\0\0";
    struct kvm_cpuid_entry2 *entry;

    set_tsc_leaf(cpuid, config);
    /* The host's nominal MHz say nothing about the guest's TSC. */
    entry = cpuid_find(cpuid, 0x16, 0);
    if (entry)
        entry->eax = entry->ebx = entry->ecx = entry->edx = 0;

    entry = get(cpuid, KVM_CPUID_SIGNATURE, 0, false);
    if (!entry)
        return;
    memcpy(&entry->ebx, signature, 4);
    memcpy(&entry->ecx, signature + 4, 4);
    memcpy(&entry->edx, signature + 8, 4);
    entry->eax = MAX(entry->eax, KVM_CPUID_FEATURES);
    if (!config->tsc_khz)
        return;
    entry->eax = MAX(entry->eax, KVM_TIMING_LEAF);
    entry = get(cpuid, KVM_TIMING_LEAF, 0, false);
    if (entry) {
        entry->eax = config->tsc_khz;
        entry->ebx = APIC_TIMER_KHZ;
        entry->ecx = entry->edx = 0;
    }
}

/* ---- topology ---- */

/* Leaf 4 and its AMD form: which logical processors share a cache. EAX[25:14] is how many ids less
 * one, a power of two; EAX[31:26] (Intel) how many core ids a package has, less one. */
static void set_caches(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config,
                       uint32_t function)
{
    unsigned cores = 1u << width(config->cores);

    for (unsigned i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        unsigned level = entry->eax >> 5 & 7;
        unsigned sharing;
        if (entry->function != function || (entry->eax & 0x1f) == 0)
            continue;
        sharing = 1u << (level < 3 ? thread_bits(config) : package_bits(config));
        entry->eax &= ~(0xfffu << 14);
        entry->eax |= (sharing - 1) << 14;
        if (function == 4) {
            entry->eax &= ~(0x3fu << 26);
            entry->eax |= MIN(cores - 1, 0x3fu) << 26;
        }
    }
}

/* Leaves 0xb and 0x1f: threads, cores, end. The x2APIC id goes in for each vCPU. */
static void set_levels(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config,
                       uint32_t function)
{
    const struct {
        uint32_t shift, count, type;
    } levels[] = {
        {thread_bits(config), config->threads, 1},
        {package_bits(config), config->threads * config->cores, 2},
        {0, 0, 0},
    };

    drop(cpuid, function);
    for (unsigned i = 0; i < G_N_ELEMENTS(levels); i++) {
        struct kvm_cpuid_entry2 *entry = get(cpuid, function, i, true);
        if (!entry)
            return;
        entry->eax = levels[i].shift;
        entry->ebx = levels[i].count;
        entry->ecx = levels[i].type << 8 | i;
    }
}

static void set_amd_topology(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config)
{
    unsigned logical = config->threads * config->cores;
    struct kvm_cpuid_entry2 *features = cpuid_find(cpuid, 0x80000001, 0);
    struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, 0x80000008, 0);

    if (entry)
        entry->ecx = (entry->ecx & ~0xf0ffu) | package_bits(config) << 12 | (logical - 1);
    if (features) {
        features->ecx &= ~ECX_CMP_LEGACY;
        if (logical > 1)
            features->ecx |= ECX_CMP_LEGACY;
    }
    if (!features || !(features->ecx & ECX_TOPOEXT))
        return;
    set_caches(cpuid, config, 0x8000001d);
    entry = get(cpuid, 0x8000001e, 0, false);
    if (entry) {
        entry->ebx = (config->threads - 1) << 8;
        entry->ecx = 0; /* one node a socket; Linux takes sockets from the APIC id */
        entry->edx = 0;
    }
}

static void set_topology(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config)
{
    struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, 1, 0);
    struct kvm_cpuid_entry2 *top = cpuid_find(cpuid, 0, 0);
    unsigned logical = config->threads * config->cores;

    if (entry) {
        entry->ebx = (entry->ebx & 0x0000ffff) | (1u << package_bits(config)) << 16;
        entry->edx &= ~EDX1_HTT;
        if (logical > 1)
            entry->edx |= EDX1_HTT;
    }
    if (top && top->eax < 0xb)
        top->eax = 0xb;
    set_levels(cpuid, config, 0xb);
    if (is_amd(cpuid)) {
        drop(cpuid, 0x1f);
        set_amd_topology(cpuid, config);
    } else {
        set_caches(cpuid, config, 4);
        if (top && top->eax >= 0x1f)
            set_levels(cpuid, config, 0x1f);
    }
}

void cpuid_prepare(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config)
{
    set_features(cpuid, config);
    set_frequencies(cpuid, config);
    set_topology(cpuid, config);
}

void cpuid_set_vcpu(struct kvm_cpuid2 *cpuid, const struct cpuid_config *config, unsigned vcpu)
{
    uint32_t apic_id = cpuid_apic_id(config, vcpu);

    for (unsigned i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        switch (entry->function) {
        case 1:
            entry->ebx = (entry->ebx & 0x00ffffff) | apic_id << 24;
            break;
        case 0xb:
        case 0x1f:
            entry->edx = apic_id;
            break;
        case 0x8000001e:
            if (!is_amd(cpuid))
                break;
            entry->eax = apic_id;
            entry->ebx = (entry->ebx & ~0xffu) | (apic_id >> thread_bits(config) & 0xff);
            break;
        default:
            break;
        }
    }
}
