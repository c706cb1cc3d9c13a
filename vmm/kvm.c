/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvm - the machine's half of KVM: opening it, memory slots, doorbells, interrupt routes
 *
 * The interrupt controllers are the kernel's (local APICs, I/O APIC, and a PIC that nothing is wired
 * to: the machine is ACPI hardware-reduced, so a guest leaves the PIC unprogrammed, and its power-on
 * state would turn a stray line into vector 0). There is no PIT: guests take time from the
 * paravirtual clock and the TSC-deadline timer, which KVM's local APIC has on every CPU.
 *
 * GSIs 0 to 23 are the I/O APIC's pins; MSI routes have the numbers above (vmm/irq.c).
 *
 * Threads: memory, doorbell and route changes from any thread (the first two are serialised by their
 * callers, routes here).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gio/gio.h>

#include "vmm/fd.h"
#include "vmm/layout.h"
#include "vmm/log.h"
#include "vmm/trace.h"
#include "vmm/vm_private.h"

TRACE_EVENT(kvm_route, "gsi=%u address=%#" G_GINT64_MODIFIER "x data=%#x",
            (unsigned gsi, guint64 address, unsigned data), gsi, address, data)
TRACE_EVENT(kvm_irqfd, "gsi=%u fd=%d resample=%d attach=%d",
            (unsigned gsi, int fd, int resample, int attach), gsi, fd, resample, attach)
TRACE_EVENT(kvm_ioeventfd, "address=%#" G_GINT64_MODIFIER "x size=%u port=%d add=%d",
            (guint64 address, unsigned size, int port, int add), address, size, port, add)
TRACE_EVENT(kvm_slot, "slot=%u gpa=%#" G_GINT64_MODIFIER "x size=%#" G_GINT64_MODIFIER "x %s",
            (unsigned slot, guint64 gpa, guint64 size, const char *name), slot, gpa, size, name)

int kvm_ioctl(int fd, unsigned long request, void *argument)
{
    int ret;

    do {
        ret = ioctl(fd, request, argument);
    } while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : ret;
}

void kvm_set_error(GError **error, int err, const char *what, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, what);
    text = g_strdup_vprintf(what, args);
    va_end(args);
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(err), "kvm: %s: %s", text,
                g_strerror(err));
}

/* ---- what this host can do ---- */

static const struct {
    int number;
    const char *name;
    const char *since;
} needed[] = {
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "2.6.20"},
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "2.6.25"},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", "2.6.25"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "2.6.26"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "2.6.26"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING", "2.6.30"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "2.6.32"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "2.6.32"},
    {KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK", "2.6.33"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "2.6.33"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", "2.6.35"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "2.6.36"},
    {KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE", "3.8"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "4.11"},
};

/* Does the first processor in /proc/cpuinfo show Intel's or AMD's virtualization? */
static bool host_has_hardware(void)
{
    g_autofree char *text = NULL;
    const char *flags, *end;
    g_autofree char *line = NULL;

    /* No cpuinfo to read (a container without /proc): believe in KVM. */
    if (!g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL) ||
        !(flags = strstr(text, "\nflags")))
        return true;
    end = strchr(flags + 1, '\n');
    line = g_strndup(flags, end ? (gsize)(end - flags) : strlen(flags));
    g_auto(GStrv) words = g_strsplit_set(line, " \t", -1);
    return g_strv_contains((const char *const *)words, "vmx") ||
           g_strv_contains((const char *const *)words, "svm");
}

static void set_cause(struct vm_probe *probe, const char *remedy, const char *detail, ...)
    G_GNUC_PRINTF(3, 4);

static void set_cause(struct vm_probe *probe, const char *remedy, const char *detail, ...)
{
    va_list args;

    va_start(args, detail);
    g_vsnprintf(probe->detail, sizeof(probe->detail), detail, args);
    va_end(args);
    g_strlcpy(probe->remedy, remedy, sizeof(probe->remedy));
}

static void explain_open_error(struct vm_probe *probe, const char *path, int err)
{
    switch (err) {
    case ENOENT:
        set_cause(probe,
                  probe->hardware
                      ? "load its module (modprobe kvm_intel or kvm_amd); in a container, pass the "
                        "device in (--device /dev/kvm)"
                      : "turn on virtualization (VT-x or AMD-V) in the firmware set-up, or nested "
                        "virtualization where this host is itself a guest",
                  "%s does not exist%s", path,
                  probe->hardware ? "" : ", and the CPU shows neither vmx nor svm");
        break;
    case EACCES:
    case EPERM:
        set_cause(probe,
                  "add the user to the device's group (usermod -aG kvm USER, then log in again), "
                  "or run as root",
                  "no permission to open %s", path);
        break;
    case ENODEV:
    case ENXIO:
        set_cause(probe, "load the module of this CPU: modprobe kvm_intel or kvm_amd",
                  "%s is there but no driver is behind it", path);
        break;
    default:
        set_cause(probe, "see the kernel's log (dmesg) for what KVM says", "can't open %s: %s",
                  path, g_strerror(err));
        break;
    }
}

/* Opens and examines; the descriptor, or -1 with the probe saying why. */
static int probe_open(const char *path, struct vm_probe *probe)
{
    int fd, ret;

    memset(probe, 0, sizeof(*probe));
    probe->hardware = host_has_hardware();
    probe->present = access(path, F_OK) == 0;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        explain_open_error(probe, path, errno);
        return -1;
    }
    probe->permitted = true;
    ret = kvm_ioctl(fd, KVM_GET_API_VERSION, NULL);
    if (ret < 0) {
        set_cause(probe, "give the path of the KVM device, /dev/kvm",
                  "%s is not a KVM device (KVM_GET_API_VERSION: %s)", path, g_strerror(-ret));
        goto fail;
    }
    probe->api_version = ret;
    if (ret != KVM_API_VERSION) {
        set_cause(probe, "use a kernel newer than Linux 2.6.22",
                  "KVM has API version %d, and %d is needed", ret, KVM_API_VERSION);
        goto fail;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++) {
        if (kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)(intptr_t)needed[i].number) <= 0) {
            g_autofree char *remedy =
                g_strdup_printf("use Linux %s or later on the host", needed[i].since);
            set_cause(probe, remedy, "this host's KVM lacks %s", needed[i].name);
            goto fail;
        }
    }
    probe->usable = true;
    return fd;
fail:
    close(fd);
    return -1;
}

static void explain_software(struct vm_probe *probe)
{
    set_cause(
        probe,
        "use a host with nested virtualization turned on, or run lodge in its lab "
        "(tests/lab/enter -- lodge run ...)",
        "KVM has no hardware virtualization behind it (the CPU shows neither vmx nor svm): it "
        "emulates the guest's kernel, and a stock one ends in an internal error");
}

void vm_probe(const char *kvm_path, struct vm_probe *probe)
{
    int fd = probe_open(kvm_path ? kvm_path : "/dev/kvm", probe);

    if (fd < 0)
        return;
    close(fd);
    if (!probe->hardware) {
        probe->usable = false;
        explain_software(probe);
    }
}

/* ---- creation ---- */

static bool get_cpuid(struct vm *vm, GError **error)
{
    int ret;

    vm->cpuid = g_malloc0(sizeof(*vm->cpuid) + CPUID_ROOM * sizeof(struct kvm_cpuid_entry2));
    vm->cpuid->nent = CPUID_ROOM;
    ret = kvm_ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, vm->cpuid);
    if (ret < 0)
        kvm_set_error(error, -ret, "KVM_GET_SUPPORTED_CPUID");
    return ret >= 0;
}

static bool get_msr_list(struct vm *vm, GError **error)
{
    struct kvm_msr_list probe = {0};
    int ret = kvm_ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe);

    if (ret == -E2BIG || ret >= 0) {
        vm->msr_list = g_malloc0(sizeof(probe) + probe.nmsrs * sizeof(probe.indices[0]));
        vm->msr_list->nmsrs = probe.nmsrs;
        ret = kvm_ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, vm->msr_list);
    }
    if (ret < 0)
        kvm_set_error(error, -ret, "KVM_GET_MSR_INDEX_LIST");
    return ret >= 0;
}

static bool create_machine(struct vm *vm, GError **error)
{
    uint64_t identity = LAYOUT_IDENTITY_MAP;
    int ret;

    vm->fd = kvm_ioctl(vm->kvm_fd, KVM_CREATE_VM, NULL);
    if (vm->fd < 0) {
        ret = vm->fd;
        vm->fd = -1;
        if (ret == -EBUSY)
            kvm_set_error(error, -ret,
                          "KVM_CREATE_VM (another hypervisor holds the CPU's virtualization: end "
                          "it first)");
        else
            kvm_set_error(error, -ret, "KVM_CREATE_VM");
        return false;
    }
    /* Where Intel CPUs without unrestricted guest mode need room; before the first vCPU. */
    ret = kvm_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    if (ret >= 0)
        ret = kvm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)LAYOUT_TSS);
    if (ret < 0) {
        kvm_set_error(error, -ret, "KVM_SET_TSS_ADDR");
        return false;
    }
    ret = kvm_ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL);
    if (ret < 0)
        kvm_set_error(error, -ret, "KVM_CREATE_IRQCHIP");
    return ret >= 0;
}

bool kvm_open(struct vm *vm, GError **error)
{
    const char *path = vm->config.kvm_path ? vm->config.kvm_path : "/dev/kvm";
    struct vm_probe probe;
    int ret, max;

    vm->kvm_fd = probe_open(path, &probe);
    if (vm->kvm_fd >= 0 && !probe.hardware && !vm->config.allow_software_kvm) {
        explain_software(&probe);
        probe.usable = false;
    }
    if (!probe.usable) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "kvm: %s: %s", probe.detail,
                    probe.remedy);
        return false;
    }
    vm->hardware = probe.hardware;
    max = kvm_ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MAX_VCPUS);
    if (max > 0 && vm->config.vcpus > (unsigned)max) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "kvm: %u vCPUs: this host's KVM allows at most %d", vm->config.vcpus, max);
        return false;
    }
    ret = kvm_ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (ret < (int)sizeof(struct kvm_run)) {
        kvm_set_error(error, ret < 0 ? -ret : EINVAL, "KVM_GET_VCPU_MMAP_SIZE");
        return false;
    }
    vm->run_size = (uint32_t)ret;
    ret = kvm_ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_NESTED_STATE);
    vm->nested_size = ret > 0 ? (uint32_t)ret : 0;
    vm->any_length_doorbells =
        kvm_ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
    return get_cpuid(vm, error) && get_msr_list(vm, error) && create_machine(vm, error);
}

void kvm_close(struct vm *vm)
{
    close_fd(vm->fd);
    close_fd(vm->kvm_fd);
    vm->fd = vm->kvm_fd = -1;
    g_clear_pointer(&vm->cpuid, g_free);
    g_clear_pointer(&vm->msr_list, g_free);
}

/* ---- memory slots ---- */

static int set_slot(struct vm *vm, const struct memory_region *region, uint64_t size)
{
    struct kvm_userspace_memory_region slot = {
        .slot = region->slot,
        .flags = (region->flags & MEMORY_READONLY ? KVM_MEM_READONLY : 0) |
                 (region->flags & MEMORY_RAM && vm->dirty_log ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = region->gpa,
        .memory_size = size,
        .userspace_addr = (uintptr_t)region->host,
    };

    trace_kvm_slot(region->slot, region->gpa, size, region->name);
    return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot);
}

static int add_region(void *opaque, const struct memory_region *region)
{
    int ret = set_slot(opaque, region, region->size);

    return ret < 0 ? ret : 0;
}

static void remove_region(void *opaque, const struct memory_region *region)
{
    int ret = set_slot(opaque, region, 0);

    if (ret < 0)
        log_warn("kvm", "memory slot %u can't be removed: %s", region->slot, g_strerror(-ret));
}

/* ---- dirty log ---- */

static int set_dirty_log(struct vm *vm, bool on)
{
    unsigned count;
    const struct memory_region *regions = memory_regions(vm->config.memory, &count);
    int ret = 0;

    vm->dirty_log = on;
    for (unsigned i = 0; i < count && ret >= 0; i++)
        if (regions[i].flags & MEMORY_RAM)
            ret = set_slot(vm, &regions[i], regions[i].size); /* the same but for its flags */
    return ret < 0 ? ret : 0;
}

int vm_dirty_start(struct vm *vm)
{
    int ret = set_dirty_log(vm, true);

    if (ret < 0)
        vm_dirty_stop(vm);
    return ret;
}

void vm_dirty_stop(struct vm *vm)
{
    int ret = vm->dirty_log ? set_dirty_log(vm, false) : 0;

    if (ret < 0)
        log_warn("kvm", "the dirty log does not go off: %s", g_strerror(-ret));
}

int vm_dirty_sync(struct vm *vm, const struct memory_region *region, uint64_t *bitmap)
{
    size_t words = (region->size / MEMORY_PAGE_SIZE + 63) / 64;
    g_autofree uint64_t *log = g_try_new0(uint64_t, words);
    struct kvm_dirty_log request = {.slot = region->slot, .dirty_bitmap = log};
    int ret;

    if (!log)
        return -ENOMEM;
    ret = kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &request);
    if (ret < 0)
        return ret;
    for (size_t i = 0; i < words; i++)
        bitmap[i] |= log[i];
    return 0;
}

/* ---- doorbells ---- */

static int set_doorbell(struct vm *vm, enum bus_kind kind, const struct bus_doorbell *doorbell,
                        bool add)
{
    struct kvm_ioeventfd request = {
        .datamatch = doorbell->match ? doorbell->value : 0,
        .addr = doorbell->address,
        .len = doorbell->size,
        .fd = doorbell->fd,
    };

    if (doorbell->size == 0 && (!vm->any_length_doorbells || doorbell->match))
        return -EOPNOTSUPP;
    if (doorbell->match)
        request.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
    if (kind == BUS_PORT)
        request.flags |= KVM_IOEVENTFD_FLAG_PIO;
    if (!add)
        request.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
    trace_kvm_ioeventfd(doorbell->address, doorbell->size, kind == BUS_PORT, add);
    return kvm_ioctl(vm->fd, KVM_IOEVENTFD, &request);
}

static int add_doorbell(void *opaque, enum bus_kind kind, const struct bus_doorbell *doorbell)
{
    return set_doorbell(opaque, kind, doorbell, true);
}

static void remove_doorbell(void *opaque, enum bus_kind kind, const struct bus_doorbell *doorbell)
{
    int ret = set_doorbell(opaque, kind, doorbell, false);

    if (ret < 0)
        log_warn("kvm", "doorbell at %#" G_GINT64_MODIFIER "x can't be removed: %s",
                 (guint64)doorbell->address, g_strerror(-ret));
}

/* ---- interrupts ---- */

/* The entry of @gsi, a new one at the end if there is none; the route lock is held. */
static struct kvm_irq_routing_entry *route_entry(struct vm *vm, uint32_t gsi)
{
    struct kvm_irq_routing_entry *entry;

    for (unsigned i = 0; i < vm->routes->nr; i++) {
        if (vm->routes->entries[i].gsi == gsi)
            return &vm->routes->entries[i];
    }
    if (vm->routes->nr == vm->route_room) {
        vm->route_room *= 2;
        vm->routes = g_realloc(vm->routes,
                               sizeof(*vm->routes) + vm->route_room * sizeof(*vm->routes->entries));
    }
    entry = &vm->routes->entries[vm->routes->nr++];
    memset(entry, 0, sizeof(*entry));
    entry->gsi = gsi;
    return entry;
}

static int route_msi(void *opaque, uint32_t gsi, uint64_t address, uint32_t data)
{
    struct vm *vm = opaque;
    struct kvm_irq_routing_entry before, *entry;
    int ret;

    trace_kvm_route(gsi, address, data);
    pthread_mutex_lock(&vm->route_lock);
    entry = route_entry(vm, gsi);
    before = *entry;
    entry->type = KVM_IRQ_ROUTING_MSI;
    entry->u.msi.address_lo = (uint32_t)address;
    entry->u.msi.address_hi = (uint32_t)(address >> 32);
    entry->u.msi.data = data;
    ret = kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, vm->routes);
    if (ret < 0) {
        /* One that KVM does not take must not spoil the next change. */
        if (before.type)
            *entry = before;
        else
            vm->routes->nr--;
    }
    pthread_mutex_unlock(&vm->route_lock);
    return ret;
}

static int attach(void *opaque, uint32_t gsi, int fd, int resample_fd)
{
    struct vm *vm = opaque;
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi};

    if (resample_fd >= 0) {
        irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
        irqfd.resamplefd = (uint32_t)resample_fd;
    }
    trace_kvm_irqfd(gsi, fd, resample_fd, true);
    return kvm_ioctl(vm->fd, KVM_IRQFD, &irqfd);
}

static int detach(void *opaque, uint32_t gsi, int fd)
{
    struct vm *vm = opaque;
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN};

    trace_kvm_irqfd(gsi, fd, -1, false);
    return kvm_ioctl(vm->fd, KVM_IRQFD, &irqfd);
}

static const struct interrupts_ops kvm_interrupts_ops = {route_msi, attach, detach};

/* The I/O APIC's pins, and no PIC. */
static int set_pin_routes(struct vm *vm)
{
    vm->route_room = 64;
    vm->routes = g_malloc0(sizeof(*vm->routes) + vm->route_room * sizeof(*vm->routes->entries));
    for (unsigned pin = 0; pin < INTERRUPTS_PINS; pin++) {
        struct kvm_irq_routing_entry *entry = route_entry(vm, pin);
        entry->type = KVM_IRQ_ROUTING_IRQCHIP;
        entry->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
        entry->u.irqchip.pin = pin;
    }
    return kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, vm->routes);
}

/* ---- joining the rest of the floor ---- */

bool kvm_plug(struct vm *vm, GError **error)
{
    struct memory_listener listener = {add_region, remove_region, vm};
    struct bus_doorbell_ops doorbells = {add_doorbell, remove_doorbell, vm};
    int ret = set_pin_routes(vm);

    if (ret < 0) {
        kvm_set_error(error, -ret, "KVM_SET_GSI_ROUTING");
        return false;
    }
    vm->interrupts = interrupts_create(&kvm_interrupts_ops, vm);
    ret = memory_set_listener(vm->config.memory, &listener);
    if (ret < 0) {
        kvm_set_error(error, -ret, "guest memory of %" G_GUINT64_FORMAT " MiB is not taken",
                      memory_ram_size(vm->config.memory) >> 20);
        return false;
    }
    bus_set_doorbell_ops(vm->config.mmio, &doorbells);
    bus_set_doorbell_ops(vm->config.ports, &doorbells);
    return true;
}

void kvm_unplug(struct vm *vm)
{
    if (!vm->interrupts)
        return;
    bus_set_doorbell_ops(vm->config.ports, NULL);
    bus_set_doorbell_ops(vm->config.mmio, NULL);
    memory_set_listener(vm->config.memory, NULL);
    interrupts_destroy(vm->interrupts);
    vm->interrupts = NULL;
    g_clear_pointer(&vm->routes, g_free);
}
