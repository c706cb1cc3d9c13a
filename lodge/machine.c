/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine - assembly and life of one virtual machine (machine.h)
 *
 * Order of creation: memory, KVM (which learns of the memory and the buses), PCI host bridge, I/O
 * threads, then the configured devices in the order given. Destruction is the reverse.
 */
#include "lodge/machine.h"

#include <string.h>

#include "backends/char/char.h"
#include "backends/display/display.h"
#include "lodge/announce.h"
#include "lodge/consoletail.h"
#include "lodge/screen.h"
#include "lodge/typist.h"
#include "vmm/layout.h"
#include "vmm/log.h"
#include "vmm/trace.h"

#define PAUSE_TIMEOUT_MS 5000
#define GIB              (UINT64_C(1) << 30)

TRACE_EVENT(machine_request, "%s status=%d", (const char *reason, int status), reason, status)
TRACE_EVENT(machine_reset, "%u", (unsigned resets), resets)

/* ---- ends and resets ---- */

struct request {
    struct machine *machine;
    enum shutdown_reason reason;
    int status;
    char *detail;
    bool by_guest;
    unsigned resets; /* when it was made */
};

static void request_free(gpointer data)
{
    struct request *request = data;

    g_free(request->detail);
    g_free(request);
}

static void handle_request(void *opaque);

/* Turns the main loop until all devices are there; what is asked for meanwhile is done afterwards. */
static bool set_devices(struct machine *machine, enum device_state state, GError **error)
{
    bool done;

    machine->changing = true;
    done = devices_set_state(&machine->devices, state, PAUSE_TIMEOUT_MS, error);
    machine->changing = false;
    for (guint i = 0; i < machine->waiting->len; i++)
        loop_defer(loop_main(), handle_request, g_ptr_array_index(machine->waiting, i));
    g_ptr_array_set_size(machine->waiting, 0);
    return done;
}

/* A reset does not end a pause: as after a reset button that was held down. */
static bool reload(struct machine *machine, GError **error)
{
    vm_pause(machine->vm);
    devices_reset(&machine->devices);
    if (!vm_reset(machine->vm, error) || !pci_host_assign(machine->host, error))
        return false;
    boot_result_clear(&machine->booted);
    if (!boot_load(machine->memory, &machine->boot, &machine->booted, error) ||
        !vm_set_entry(machine->vm, &machine->booted.entry, error))
        return false;
    trace_machine_reset(__atomic_add_fetch(&machine->resets, 1, __ATOMIC_RELEASE));
    if (machine->paused)
        return set_devices(machine, DEVICE_STOP, error);
    vm_resume(machine->vm);
    return true;
}

static void finish(struct machine *machine, struct request *request, enum shutdown_reason reason)
{
    machine->reason = reason;
    machine->status = request->status;
    machine->detail = g_steal_pointer(&request->detail);
    vm_pause(machine->vm);
    if (machine->hooks.ended)
        machine->hooks.ended(machine->hooks.opaque);
}

static void tell(struct machine *machine, const char *event)
{
    if (machine->event)
        machine->event(machine, event);
}

static void set_boot(struct machine *machine, const struct boot_config *boot)
{
    unsigned vcpus = vm_vcpus(machine->vm);

    for (unsigned i = 0; i < vcpus; i++)
        machine->apic_ids[i] = vm_vcpu_apic_id(machine->vm, i);
    machine->boot = *boot;
    machine->boot.machine = (struct boot_machine){
        .vcpus = vcpus,
        .apic_ids = machine->apic_ids,
        .windows = pci_host_windows(machine->host),
        .serial = {machine->serial[0], machine->serial[1]},
        .rtc = machine->rtc,
        .vmgenid = machine->vmgenid ? vmgenid_address(machine->vmgenid) : 0,
        .event_gsi = LAYOUT_GSI_ACPI,
        .event_port = LAYOUT_PORT_ACPI + LAYOUT_ACPI_EVENT,
        .acpi_port = LAYOUT_PORT_ACPI,
    };
}

/* Does it know what to boot? One that was restored finds out when it must. */
static bool can_boot(struct machine *machine)
{
    g_autoptr(GError) error = NULL;
    struct boot_config boot;

    if (machine->boot.kernel)
        return true;
    if (!machine->hooks.find_boot)
        return false;
    if (machine->hooks.find_boot(machine->hooks.opaque, &boot, &error)) {
        set_boot(machine, &boot);
        return true;
    }
    log_error("machine", "the guest was reset, but can't boot again here: %s", error->message);
    return false;
}

static void reset(struct machine *machine, struct request *request)
{
    g_autoptr(GError) error = NULL;

    if (console_tail_panicked(machine->console)) {
        /* panic=-1 without a pvpanic driver: the reset is how a panic shows. */
        finish(machine, request, SHUTDOWN_PANIC);
        return;
    }
    if (machine->no_reboot || !can_boot(machine)) {
        finish(machine, request, SHUTDOWN_RESET);
        return;
    }
    tell(machine, "RESET");
    if (reload(machine, &error))
        return;
    g_free(request->detail);
    request->detail = g_strdup(error->message);
    finish(machine, request, SHUTDOWN_INTERNAL_ERROR);
}

/* A guest may ask many times before it is stopped; what it asked before a reset is over with it. */
static bool is_outdated(const struct machine *machine, const struct request *request)
{
    return machine->reason != SHUTDOWN_NONE ||
           (machine->arriving && request->reason == SHUTDOWN_RESET) || /* there is nobody yet */
           (request->by_guest && request->resets != machine->resets);
}

static void carry_out(struct machine *machine, struct request *request)
{
    if (is_outdated(machine, request))
        return;
    if (request->reason == SHUTDOWN_CRASH_LOADED) {
        log_guest(&machine->guest_reports, "machine",
                  "the guest panicked and starts its crash kernel");
        tell(machine, "GUEST_CRASHLOADED");
    } else if (request->by_guest && machine->hooks.guest_ends &&
               machine->hooks.guest_ends(machine->hooks.opaque, request->reason)) {
        /* Another request follows, when what the guest left behind has been dealt with. */
    } else if (request->reason == SHUTDOWN_RESET) {
        reset(machine, request);
    } else {
        finish(machine, request, request->reason);
    }
}

static void handle_request(void *opaque)
{
    struct request *request = opaque;
    struct machine *machine = request->machine;

    if (request->reason == SHUTDOWN_CRASH_LOADED)
        __atomic_store_n(&machine->crash_pending, false, __ATOMIC_RELEASE);
    /* Pausing turns the main loop: what comes meanwhile waits for its end. */
    if (machine->changing) {
        g_ptr_array_add(machine->waiting, request);
        return;
    }
    carry_out(machine, request);
    request_free(request);
}

static void post_request(struct machine *machine, enum shutdown_reason reason, int status,
                         const char *detail, bool by_guest)
{
    struct request *request;

    trace_machine_request(shutdown_reason_name(reason), status);
    /* The one report that does not stop the guest: it could be repeated without end. */
    if (reason == SHUTDOWN_CRASH_LOADED &&
        __atomic_exchange_n(&machine->crash_pending, true, __ATOMIC_ACQ_REL))
        return;
    request = g_new0(struct request, 1);
    request->machine = machine;
    request->reason = reason;
    request->status = status;
    request->detail = g_strdup(detail);
    request->by_guest = by_guest;
    request->resets = __atomic_load_n(&machine->resets, __ATOMIC_ACQUIRE);
    loop_defer(loop_main(), handle_request, request);
}

void machine_request(struct machine *machine, enum shutdown_reason reason, int status,
                     const char *detail)
{
    post_request(machine, reason, status, detail, false);
}

static void shutdown_sink(void *opaque, enum shutdown_reason reason, int status, const char *detail)
{
    post_request(opaque, reason, status, detail, true);
}

void machine_power_button(struct machine *machine)
{
    acpi_power_button(machine->acpi);
}

/* ---- assembly ---- */

static void machine_device_free(gpointer data)
{
    struct machine_device *entry = data;

    g_free(entry->id);
    options_free(entry->options);
    g_free(entry);
}

static void destroy_device(struct machine *machine, struct machine_device *entry)
{
    if (entry->device)
        devices_remove(&machine->devices, entry->device);
    if (entry->function && entry->function->host)
        pci_host_detach(machine->host, entry->function);
    if (entry->destroy)
        entry->destroy(entry->object);
    entry->destroy = NULL;
}

struct loop *machine_io_loop(struct machine *machine, const struct machine_device *entry)
{
    guint index = options_given(entry->options, "iothread")
                      ? options_uint(entry->options, "iothread")
                      : machine->next_loop++;

    return g_ptr_array_index(machine->loops, index % machine->loops->len);
}

struct loop *machine_own_loop(struct machine *machine, const char *name, GError **error)
{
    struct loop *loop = loop_create(name, error);

    if (loop)
        g_ptr_array_add(machine->own_loops, loop);
    return loop;
}

bool machine_attach(struct machine *machine, struct machine_device *entry,
                    struct pci_function *function, GError **error)
{
    int slot = options_given(entry->options, "slot") ? (int)options_uint(entry->options, "slot")
                                                     : PCI_SLOT_ANY;

    if (!pci_host_attach(machine->host, function, slot, 0, error))
        return false;
    entry->function = function;
    return true;
}

static void observe_console(void *opaque, const uint8_t *data, size_t size)
{
    console_tail_append(opaque, data, size);
}

static bool terminal_key(void *opaque, char key)
{
    struct machine *machine = opaque;

    if (key == 'x')
        machine_request(machine, SHUTDOWN_QUIT, 0, NULL);
    else if (key == 'p')
        machine_power_button(machine);
    return key == 'x' || key == 'p';
}

void machine_console_opened(struct machine *machine, const struct machine_device *entry,
                            struct chardev *chardev)
{
    char_set_observer(chardev, observe_console, machine->console);
    if (g_strcmp0(options_string(entry->options, "type"), "stdio"))
        return;
    machine->console_visible = true;
    char_set_escape(chardev, terminal_key, machine);
}

bool machine_console_hidden(const struct machine *machine)
{
    return !machine->console_visible;
}

struct machine_device *machine_find(struct machine *machine, const char *id)
{
    for (guint i = 0; i < machine->entries->len; i++) {
        struct machine_device *entry = g_ptr_array_index(machine->entries, i);

        if (!strcmp(entry->id, id))
            return entry;
    }
    return NULL;
}

struct machine_device *machine_find_type(struct machine *machine, const char *type)
{
    for (guint i = 0; i < machine->entries->len; i++) {
        struct machine_device *entry = g_ptr_array_index(machine->entries, i);

        if (!strcmp(entry->type->name, type))
            return entry;
    }
    return NULL;
}

static char *choose_id(struct machine *machine, const struct device_config *config, GError **error)
{
    const char *given = options_string(config->options, "id");

    if (given) {
        if (!machine_find(machine, given))
            return g_strdup(given);
        options_set_error(error, config->options, "id",
                          "is taken by another device; ids are unique in a machine");
        return NULL;
    }
    for (unsigned i = 0;; i++) {
        g_autofree char *id = g_strdup_printf("%s%u", config->type->prefix, i);

        if (!machine_find(machine, id))
            return g_steal_pointer(&id);
    }
}

static bool check_io_thread(struct machine *machine, const struct device_config *config,
                            GError **error)
{
    guint count = machine->loops->len;

    if (!options_given(config->options, "iothread") ||
        options_uint(config->options, "iothread") < count)
        return true;
    options_set_error(error, config->options, "iothread",
                      "must be 0 to %u, or give --io-threads a larger number", count - 1);
    return false;
}

static bool add_device(struct machine *machine, const struct device_config *config, GError **error)
{
    struct machine_device *entry = g_new0(struct machine_device, 1);

    entry->type = config->type;
    entry->options = options_ref(config->options);
    entry->id = choose_id(machine, config, error);
    if (!entry->id)
        goto fail;
    if (config->type->flags & (DEVICE_TYPE_VIRTIO | DEVICE_TYPE_IO) &&
        !check_io_thread(machine, config, error))
        goto fail;
    if (config->type->flags & DEVICE_TYPE_SINGLE) {
        for (guint i = 0; i < machine->entries->len; i++) {
            struct machine_device *other = g_ptr_array_index(machine->entries, i);

            if (other->type == config->type) {
                options_set_error(error, config->options, NULL,
                                  "a machine has one %s, and there is %s already",
                                  config->type->name, other->id);
                goto fail;
            }
        }
    }
    if (!config->type->create(machine, entry, error) ||
        !devices_add(&machine->devices, entry->device, error)) {
        entry->device = NULL;
        destroy_device(machine, entry);
        goto fail;
    }
    g_ptr_array_add(machine->entries, entry);
    return true;

fail:
    machine_device_free(entry);
    return false;
}

static bool needs_shared_memory(const struct config *config)
{
    for (unsigned i = 0; i < config->devices->len; i++) {
        const struct device_config *device = g_ptr_array_index(config->devices, i);

        if (device->type->shares_memory && device->type->shares_memory(device->options))
            return true;
    }
    return false;
}

/* Private memory is the default only where shared memory would cost the guest its huge pages, and no
 * device needs it shared. */
static bool private_memory(const struct config *config)
{
    const char *shared = options_string(config->run, "shared-memory");

    if (!strcmp(shared, "auto") && needs_shared_memory(config))
        return false;
    return !strcmp(shared, "off") || (!strcmp(shared, "auto") && !memory_shared_thp());
}

static bool create_memory(struct machine *machine, GError **error)
{
    struct memory_ram_options options = {
        .hugepages = options_bool(machine->config->run, "hugepages"),
        .prefault = options_bool(machine->config->run, "prefault"),
        .private = private_memory(machine->config),
        .fd = machine->hooks.memory_fd,
    };
    uint64_t bytes;

    machine->memory = memory_create();
    return config_memory(machine->config, &bytes, error) &&
           memory_add_ram(machine->memory, bytes, LAYOUT_LOW_END, &options, error);
}

static bool create_vm(struct machine *machine, GError **error)
{
    struct vm_config config = {
        .vcpus = options_uint(machine->config->run, "cpus"),
        .memory = machine->memory,
        .mmio = machine->mmio,
        .ports = machine->ports,
        .shutdown = machine->shutdown,
        .kvm_path = options_string(machine->config->run, "kvm"),
        .allow_software_kvm = options_bool(machine->config->run, "allow-software-kvm"),
    };

    machine->vm = vm_create(&config, error);
    return machine->vm != NULL;
}

/* The 64-bit window starts above RAM and ends with what the CPU can address. */
static void lay_out_windows(struct machine *machine)
{
    uint64_t limit = UINT64_C(1) << MIN(vm_physical_bits(machine->vm), 46);
    uint64_t top = LAYOUT_HIGH_START;
    unsigned count;
    const struct memory_region *regions = memory_regions(machine->memory, &count);

    for (unsigned i = 0; i < count; i++)
        top = MAX(top, regions[i].gpa + regions[i].size);
    top = (top + 4 * GIB - 1) & ~(4 * GIB - 1);
    machine->windows = (struct pci_windows){
        .ecam_base = LAYOUT_ECAM_BASE,
        .mmio32_base = LAYOUT_MMIO32_BASE,
        .mmio32_size = LAYOUT_MMIO32_SIZE,
        .mmio64_base = top,
        .mmio64_size = top < limit ? MIN(limit - top, 64 * GIB) : 0,
        .port_base = LAYOUT_PCI_PORT_BASE,
        .port_size = LAYOUT_PCI_PORT_SIZE,
    };
}

static bool create_loops(struct machine *machine, GError **error)
{
    unsigned count = options_uint(machine->config->run, "io-threads");

    for (unsigned i = 0; i < count; i++) {
        g_autofree char *name = g_strdup_printf("io%u", i);
        struct loop *loop = loop_create(name, error);

        if (!loop)
            return false;
        g_ptr_array_add(machine->loops, loop);
    }
    return true;
}

/* Devices that make the machine what it is, with or without --defaults. */
static bool create_platform(struct machine *machine, GError **error)
{
    struct device_type const *const *type = device_types;

    for (; *type; type++) {
        struct device_config config = {.type = *type};
        bool done;

        if (strcmp((*type)->name, "acpi") && strcmp((*type)->name, "boot-timing") &&
            strcmp((*type)->name, "debug-exit"))
            continue;
        if (config_has_device(machine->config, (*type)->name))
            continue;
        config.options = options_parse(device_type_options(*type), (*type)->name, "", error);
        if (!config.options)
            return false;
        done = add_device(machine, &config, error);
        options_free(config.options);
        if (!done)
            return false;
    }
    return true;
}

/* The bridge is reset, paused and saved with the others, but is in nobody's configuration. */
static struct device *bridge_device(struct machine *machine)
{
    return &pci_host_function(machine->host, 0, 0)->device;
}

static void close_display(gpointer output)
{
    display_close(output);
}

struct machine *machine_create(const struct config *config, const struct machine_hooks *hooks,
                               GError **error)
{
    struct machine *machine = g_new0(struct machine, 1);

    machine->config = config;
    machine->hooks = *hooks;
    machine->entries = g_ptr_array_new_with_free_func(machine_device_free);
    machine->loops = g_ptr_array_new();
    machine->own_loops = g_ptr_array_new_with_free_func((GDestroyNotify)loop_destroy);
    machine->waiting = g_ptr_array_new();
    machine->shutdown = (struct shutdown_sink){shutdown_sink, machine};
    /* A guest that was reset has lost its command: there is nothing to come back for. */
    machine->no_reboot = options_bool(config->run, "no-reboot") || config_is_command(config);
    machine->console = console_tail_create();
    machine->display = display_create();
    machine->typist = typist_create(machine->display);
    machine->displays = g_ptr_array_new_with_free_func(close_display);
    machine->mmio = bus_create(BUS_MMIO);
    machine->ports = bus_create(BUS_PORT);
    if (!create_memory(machine, error) || !create_vm(machine, error))
        goto fail;
    lay_out_windows(machine);
    machine->host =
        pci_host_create(machine->memory, machine->mmio, machine->ports, &machine->windows, error);
    if (!machine->host || !devices_add(&machine->devices, bridge_device(machine), error) ||
        !create_loops(machine, error))
        goto fail;
    machine->env = (struct pci_environment){
        .memory = machine->memory,
        .interrupts = vm_interrupts(machine->vm),
        .loop = loop_main(),
    };
    if (!create_platform(machine, error))
        goto fail;
    for (guint i = 0; i < config->devices->len; i++)
        if (!add_device(machine, g_ptr_array_index(config->devices, i), error))
            goto fail;
    if (!pci_host_assign(machine->host, error) || !screen_open(machine, error))
        goto fail;
    return machine;

fail:
    machine_destroy(machine);
    return NULL;
}

static void set_flag(void *opaque)
{
    *(bool *)opaque = true;
}

/* Requests that were on their way find an ended machine. Only those: sources of others may stay
 * ready for ever. */
static void drain_requests(struct machine *machine)
{
    bool drained = false;

    if (machine->reason == SHUTDOWN_NONE)
        machine->reason = SHUTDOWN_QUIT;
    loop_defer(loop_main(), set_flag, &drained);
    while (!drained)
        loop_iterate(loop_main(), true);
}

void machine_destroy(struct machine *machine)
{
    if (!machine)
        return;
    if (machine->vm)
        vm_pause(machine->vm);
    announce_destroy(machine->announce);
    screen_close(machine);
    for (guint i = machine->entries->len; i-- > 0;)
        destroy_device(machine, g_ptr_array_index(machine->entries, i));
    for (guint i = 0; i < machine->loops->len; i++)
        loop_destroy(g_ptr_array_index(machine->loops, i));
    g_ptr_array_unref(machine->own_loops);
    drain_requests(machine);
    g_ptr_array_unref(machine->entries);
    g_ptr_array_unref(machine->loops);
    g_ptr_array_unref(machine->waiting);
    if (machine->host) {
        devices_remove(&machine->devices, bridge_device(machine));
        pci_host_destroy(machine->host);
    }
    vm_destroy(machine->vm);
    bus_destroy(machine->mmio);
    bus_destroy(machine->ports);
    memory_destroy(machine->memory);
    boot_result_clear(&machine->booted);
    console_tail_destroy(machine->console);
    typist_destroy(machine->typist);
    display_destroy(machine->display);
    g_ptr_array_unref(machine->displays);
    g_free(machine->detail);
    g_free(machine);
}

/* ---- life ---- */

bool machine_boot(struct machine *machine, const struct boot_config *boot, GError **error)
{
    set_boot(machine, boot);
    if (!boot_load(machine->memory, &machine->boot, &machine->booted, error))
        return false;
    return vm_set_entry(machine->vm, &machine->booted.entry, error);
}

bool machine_start(struct machine *machine, GError **error)
{
    return vm_start(machine->vm, error);
}

static bool may_change(struct machine *machine, GError **error)
{
    if (machine->changing)
        g_set_error(error, OPTIONS_ERROR, 0,
                    "the guest is just being stopped or resumed; try again");
    else if (machine->reason != SHUTDOWN_NONE)
        g_set_error(error, OPTIONS_ERROR, 0, "the guest has ended");
    else
        return true;
    return false;
}

/* As above, for whoever is not the migration. */
static bool may_be_changed(struct machine *machine, GError **error)
{
    if (machine->migrating)
        g_set_error(error, OPTIONS_ERROR, 0,
                    "the guest is being migrated: wait for the end, or cancel it (migrate_cancel)");
    else if (machine->arriving)
        g_set_error(error, OPTIONS_ERROR, 0, "the guest is still arriving from another monitor");
    else
        return may_change(machine, error);
    return false;
}

static bool stop(struct machine *machine, enum device_state state, GError **error)
{
    vm_pause(machine->vm);
    if (!set_devices(machine, state, error)) {
        vm_resume(machine->vm);
        return false;
    }
    machine->paused = true;
    return true;
}

static bool go_on(struct machine *machine, GError **error)
{
    if (!set_devices(machine, DEVICE_RUNNING, error))
        return false;
    machine->paused = false;
    vm_resume(machine->vm);
    return true;
}

bool machine_pause(struct machine *machine, GError **error)
{
    return may_be_changed(machine, error) && (machine->paused || stop(machine, DEVICE_STOP, error));
}

bool machine_resume(struct machine *machine, GError **error)
{
    return may_be_changed(machine, error) && (!machine->paused || go_on(machine, error));
}

bool machine_hold(struct machine *machine, GError **error)
{
    return may_change(machine, error) && stop(machine, DEVICE_STOP_COPY, error);
}

bool machine_release(struct machine *machine, GError **error)
{
    return !machine->paused || (may_change(machine, error) && go_on(machine, error));
}

bool machine_settle(struct machine *machine, GError **error)
{
    return may_change(machine, error) && set_devices(machine, DEVICE_STOP, error);
}
