/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vm - a KVM virtual machine as a whole: creation, start, pause, reset, counters
 *
 * Reading order: vm.c (this), kvm.c (the machine without its vCPUs), cpuid.c, vcpu.c (threads),
 * exits.c (why they come back), vcpu_state.c (out and in again).
 *
 * A vCPU's id for KVM is its APIC id, so ids may have gaps where cores or threads are not powers of
 * two. The power-on state is read from KVM when the machine is created; a reset puts it back but for
 * the time stamp counters, which run on (setting them would drive the vCPUs' apart).
 */
#include "vmm/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <gio/gio.h>

#include "vmm/log.h"
#include "vmm/vm_private.h"

#define MAX_APIC_ID 254u /* of 8-bit ids; 255 is broadcast */

/* Fills the defaults in and checks. */
static bool check_config(struct vm *vm, const struct vm_config *config, struct cpuid_config *cpu,
                         GError **error)
{
    vm->config = *config;
    if (config->vcpus < 1 || config->vcpus > VM_MAX_VCPUS) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "vCPUs: %u: must be 1 to %u",
                    config->vcpus, VM_MAX_VCPUS);
        return false;
    }
    cpu->vcpus = config->vcpus;
    cpu->threads = config->threads ? config->threads : 1;
    cpu->cores = config->cores ? config->cores : MAX(config->vcpus / cpu->threads, 1);
    if (cpu->threads > config->vcpus || cpu->cores > config->vcpus ||
        config->vcpus % (cpu->threads * cpu->cores)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "vCPUs: %u can't be whole sockets of %u cores with %u threads each: make it a "
                    "multiple of %u",
                    config->vcpus, cpu->cores, cpu->threads, cpu->cores * cpu->threads);
        return false;
    }
    if (cpuid_apic_id(cpu, config->vcpus - 1) > MAX_APIC_ID) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "vCPUs: %u in sockets of %u cores with %u threads need APIC ids above %u: use "
                    "powers of two",
                    config->vcpus, cpu->cores, cpu->threads, MAX_APIC_ID);
        return false;
    }
    return true;
}

/* What only an existing vCPU can tell; the first one's TSC is as every one's. */
static void find_timers(struct vm *vm, struct cpuid_config *cpu)
{
    int khz = -ENOTTY;

    cpu->tsc_deadline =
        kvm_ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    if (kvm_ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_GET_TSC_KHZ) > 0)
        khz = kvm_ioctl(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, NULL);
    cpu->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
}

static bool create_vcpus(struct vm *vm, struct cpuid_config *cpu, GError **error)
{
    vm->vcpus = g_new0(struct vcpu, vm->config.vcpus);
    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        if (!vcpu_create(vm, i, cpuid_apic_id(cpu, i), error))
            return false;
    }
    find_timers(vm, cpu);
    cpuid_prepare(vm->cpuid, cpu);
    vm->physical_bits = cpuid_physical_bits(vm->cpuid);
    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        if (!vcpu_init(&vm->vcpus[i], cpu, error))
            return false;
    }
    return vm_chips_state_get(vm, &vm->power_on, error);
}

struct vm *vm_create(const struct vm_config *config, GError **error)
{
    struct vm *vm = g_new0(struct vm, 1);
    struct cpuid_config cpu = {0};

    vm->fd = vm->kvm_fd = -1;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_mutex_init(&vm->route_lock, NULL);
    pthread_cond_init(&vm->parked_cond, NULL);
    pthread_cond_init(&vm->run_cond, NULL);
    if (!check_config(vm, config, &cpu, error) || !kvm_open(vm, error))
        goto fail;
    if (!create_vcpus(vm, &cpu, error) || !kvm_plug(vm, error))
        goto fail;
    return vm;
fail:
    vm_destroy(vm);
    return NULL;
}

static void stop_threads(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    __atomic_store_n(&vm->quit, true, __ATOMIC_SEQ_CST);
    pthread_cond_broadcast(&vm->run_cond);
    pthread_mutex_unlock(&vm->lock);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_kick(&vm->vcpus[i]);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpus[i].has_thread)
            pthread_join(vm->vcpus[i].thread, NULL);
        vm->vcpus[i].has_thread = false;
    }
    vm->started = false;
    __atomic_store_n(&vm->quit, false, __ATOMIC_SEQ_CST);
}

void vm_destroy(struct vm *vm)
{
    if (!vm)
        return;
    stop_threads(vm);
    kvm_unplug(vm);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_destroy(&vm->vcpus[i]);
    g_free(vm->vcpus);
    kvm_close(vm);
    pthread_cond_destroy(&vm->run_cond);
    pthread_cond_destroy(&vm->parked_cond);
    pthread_mutex_destroy(&vm->route_lock);
    pthread_mutex_destroy(&vm->lock);
    g_free(vm);
}

struct interrupts *vm_interrupts(struct vm *vm)
{
    return vm->interrupts;
}

unsigned vm_vcpus(const struct vm *vm)
{
    return vm->vcpu_count;
}

uint32_t vm_vcpu_apic_id(const struct vm *vm, unsigned vcpu)
{
    return vm->vcpus[vcpu].apic_id;
}

unsigned vm_physical_bits(const struct vm *vm)
{
    return vm->physical_bits;
}

/* ---- running ---- */

bool vm_is_running(const struct vm *vm)
{
    return vm->started && !__atomic_load_n(&vm->pause, __ATOMIC_SEQ_CST);
}

bool vm_set_entry(struct vm *vm, const struct vm_entry *entry, GError **error)
{
    g_assert(!vm_is_running(vm));
    return vcpu_set_entry(&vm->vcpus[0], entry, error);
}

bool vm_start(struct vm *vm, GError **error)
{
    g_assert(!vm->started);
    vcpu_install_kick_handler();
    vm->started = true;
    __atomic_store_n(&vm->pause, false, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (!vcpu_start(&vm->vcpus[i], error)) {
            stop_threads(vm);
            return false;
        }
    }
    return true;
}

static bool all_parked(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (!vm->vcpus[i].parked)
            return false;
    }
    return true;
}

void vm_pause(struct vm *vm)
{
    if (!vm_is_running(vm))
        return;
    pthread_mutex_lock(&vm->lock);
    __atomic_store_n(&vm->pause, true, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&vm->lock);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_kick(&vm->vcpus[i]);
    pthread_mutex_lock(&vm->lock);
    while (!all_parked(vm))
        pthread_cond_wait(&vm->parked_cond, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
}

void vm_resume(struct vm *vm)
{
    if (!vm->started || vm_is_running(vm))
        return;
    /* So that the guest does not take the pause for a lock-up. EINVAL: it has no such clock. */
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        kvm_ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, NULL);
    pthread_mutex_lock(&vm->lock);
    __atomic_store_n(&vm->pause, false, __ATOMIC_SEQ_CST);
    /* Not parked any more from now on: a pause that follows at once waits for them again. */
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vm->vcpus[i].parked = vm->vcpus[i].faulted;
    pthread_cond_broadcast(&vm->run_cond);
    pthread_mutex_unlock(&vm->lock);
}

bool vm_reset(struct vm *vm, GError **error)
{
    g_assert(!vm_is_running(vm));
    if (!vm_chips_state_set(vm, &vm->power_on, false, error))
        return false;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (!vcpu_state_set(vm, i, &vm->vcpus[i].power_on, VCPU_STATE_KEEP_TSC, error))
            return false;
    }
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vm->vcpus[i].faulted = false;
    pthread_mutex_unlock(&vm->lock);
    return true;
}

/* ---- counters ---- */

void vm_get_stats(const struct vm *vm, struct vm_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        const struct vm_stats *one = &vm->vcpus[i].stats;
        stats->exits += __atomic_load_n(&one->exits, __ATOMIC_RELAXED);
        stats->port_exits += __atomic_load_n(&one->port_exits, __ATOMIC_RELAXED);
        stats->mmio_exits += __atomic_load_n(&one->mmio_exits, __ATOMIC_RELAXED);
        stats->other_exits += __atomic_load_n(&one->other_exits, __ATOMIC_RELAXED);
    }
}

static int by_count(const void *a, const void *b)
{
    const struct vm_exit_count *one = a, *other = b;

    if (one->count != other->count)
        return one->count < other->count ? 1 : -1;
    return one->address < other->address ? -1 : one->address > other->address;
}

unsigned vm_get_exit_counts(const struct vm *vm, struct vm_exit_count *counts, unsigned max)
{
    g_autoptr(GHashTable) sums = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct vm_exit_count));
    GHashTableIter iterator;
    gpointer key, value;
    unsigned given;

    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        for (unsigned j = 0; j < EXIT_SLOTS; j++) {
            const struct exit_slot *slot = &vm->vcpus[i].exits[j];
            gint64 id = (gint64)__atomic_load_n(&slot->key, __ATOMIC_ACQUIRE);
            guint64 *sum = id ? g_hash_table_lookup(sums, &id) : NULL;
            if (!id)
                continue;
            if (!sum) {
                sum = g_new0(guint64, 1);
                g_hash_table_insert(sums, g_memdup2(&id, sizeof(id)), sum);
            }
            *sum += __atomic_load_n(&slot->count, __ATOMIC_RELAXED);
        }
    }
    g_hash_table_iter_init(&iterator, sums);
    while (g_hash_table_iter_next(&iterator, &key, &value)) {
        uint64_t id = *(const uint64_t *)key - 1;
        struct vm_exit_count count = {
            .kind = id & 2 ? BUS_PORT : BUS_MMIO,
            .write = id & 1,
            .address = id >> 2,
            .count = *(const guint64 *)value,
        };
        g_array_append_val(all, count);
    }
    if (all->len == 0)
        return 0;
    qsort(all->data, all->len, sizeof(struct vm_exit_count), by_count);
    given = MIN(max, all->len);
    memcpy(counts, all->data, given * sizeof(*counts));
    return given;
}
