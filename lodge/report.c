/* SPDX-License-Identifier: GPL-2.0-or-later */
/* report - how a run ended (report.h) */
#include "lodge/report.h"

#include <errno.h>
#include <stdio.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/exit.h"
#include "lodge/consoletail.h"
#include "lodge/exitcode.h"
#include "vmm/log.h"

#define TAIL_LINES 60 /* a panic with its registers and its trace */

static const struct {
    enum shutdown_reason reason;
    int exit_code;
    const char *explanation; /* NULL: nothing needs to be said */
} ends[] = {
    {SHUTDOWN_POWER_OFF, EXIT_POWER_OFF, NULL},
    {SHUTDOWN_RESET, EXIT_RESET, NULL},
    {SHUTDOWN_TRIPLE_FAULT, EXIT_TRIPLE_FAULT, "the guest's CPU shut down (triple fault)"},
    {SHUTDOWN_PANIC, EXIT_PANIC, "the guest's kernel panicked"},
    {SHUTDOWN_WATCHDOG, EXIT_WATCHDOG, "the guest's watchdog expired"},
    {SHUTDOWN_INTERNAL_ERROR, EXIT_INTERNAL_ERROR, "the guest can't go on"},
    {SHUTDOWN_QUIT, EXIT_POWER_OFF, NULL},
    {SHUTDOWN_MIGRATED, EXIT_POWER_OFF, NULL},
    {SHUTDOWN_TIMEOUT, EXIT_TIMEOUT, "the guest did not end in time"},
};

int report_exit_code(const struct machine *machine)
{
    bool command = config_is_command(machine->config);

    if (machine->reason == SHUTDOWN_COMMAND_DONE)
        return machine->status & 255;
    if (machine->reason == SHUTDOWN_DEBUG_EXIT)
        return debug_exit_code(machine->status);
    /* A guest that ends by itself before its command has: the command has no status. */
    if (command && (machine->reason == SHUTDOWN_POWER_OFF || machine->reason == SHUTDOWN_RESET))
        return EXIT_LODGE;
    if (machine->reason == SHUTDOWN_QUIT)
        return machine->status;
    for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++)
        if (ends[i].reason == machine->reason)
            return ends[i].exit_code;
    return EXIT_LODGE;
}

static const char *explanation(const struct machine *machine)
{
    if (config_is_command(machine->config) && machine->reason == SHUTDOWN_POWER_OFF)
        return "the guest powered off before its command ended";
    if (config_is_command(machine->config) && machine->reason == SHUTDOWN_RESET)
        return "the guest reset before its command ended";
    if (machine->reason == SHUTDOWN_COMMAND_DONE && machine->detail)
        return "the command was not run";
    for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++)
        if (ends[i].reason == machine->reason)
            return ends[i].explanation;
    return NULL;
}

void report_explain(struct machine *machine, bool console_was_hidden)
{
    const char *text = explanation(machine);
    g_autofree char *panic = console_tail_panic_line(machine->console);
    const char *why;

    if (!text)
        return;
    why = panic ? panic : machine->detail;
    fprintf(stderr, "lodge: %s%s%s\n", text, why ? ": " : "", why ? why : "");
    if (machine->reason == SHUTDOWN_TIMEOUT || machine->reason == SHUTDOWN_TRIPLE_FAULT ||
        machine->reason == SHUTDOWN_INTERNAL_ERROR) {
        for (unsigned i = 0; i < vm_vcpus(machine->vm); i++) {
            g_autofree char *registers = vm_describe_vcpu(machine->vm, i);

            fprintf(stderr, "%s%s", registers, g_str_has_suffix(registers, "\n") ? "" : "\n");
        }
    }
    if (console_was_hidden && !console_tail_empty(machine->console) &&
        machine->reason != SHUTDOWN_COMMAND_DONE) {
        g_autofree char *tail = console_tail_text(machine->console, TAIL_LINES);

        fprintf(stderr, "lodge: the guest's console ended with:\n%s\n", tail);
    }
}

static JsonObject *exits_to_json(struct machine *machine)
{
    JsonObject *object = json_object_new();
    JsonArray *places = json_array_new();
    struct vm_exit_count counts[32];
    struct vm_stats stats;
    unsigned count;

    vm_get_stats(machine->vm, &stats);
    json_object_set_int_member(object, "total", stats.exits);
    json_object_set_int_member(object, "port", stats.port_exits);
    json_object_set_int_member(object, "mmio", stats.mmio_exits);
    json_object_set_int_member(object, "other", stats.other_exits);
    count = vm_get_exit_counts(machine->vm, counts, G_N_ELEMENTS(counts));
    for (unsigned i = 0; i < count; i++) {
        JsonObject *place = json_object_new();
        g_autofree char *address = g_strdup_printf("0x%" PRIx64, counts[i].address);

        json_object_set_string_member(place, "kind", counts[i].kind == BUS_PORT ? "port" : "mmio");
        json_object_set_string_member(place, "access", counts[i].write ? "write" : "read");
        json_object_set_string_member(place, "address", address);
        json_object_set_int_member(place, "count", counts[i].count);
        json_array_add_object_element(places, place);
    }
    json_object_set_array_member(object, "by-address", places);
    return object;
}

static JsonObject *devices_to_json(struct machine *machine)
{
    JsonObject *object = json_object_new();

    for (guint i = 0; i < machine->entries->len; i++) {
        struct machine_device *entry = g_ptr_array_index(machine->entries, i);
        JsonObject *device = json_object_new();
        uint64_t interrupts = 0;

        for (struct irq_msi *msi = entry->device->msis; msi; msi = msi->next)
            interrupts += __atomic_load_n(&msi->fired, __ATOMIC_RELAXED);
        for (struct irq_line *line = entry->device->lines; line; line = line->next)
            interrupts += __atomic_load_n(&line->fired, __ATOMIC_RELAXED);
        json_object_set_string_member(device, "type", entry->type->name);
        json_object_set_int_member(device, "interrupts", interrupts);
        json_object_set_int_member(device, "guest-errors", entry->device->guest_errors.total);
        json_object_set_int_member(device, "violations", entry->device->violations);
        json_object_set_object_member(object, entry->id, device);
    }
    return object;
}

static bool memory_is_ram(struct memory *memory, const uint8_t *host)
{
    unsigned count;
    const struct memory_region *regions = memory_regions(memory, &count);

    for (unsigned i = 0; i < count; i++)
        if (host >= regions[i].host && host < regions[i].host + regions[i].size)
            return true;
    return false;
}

/* Resident memory beyond the guest's RAM, from the process's own map; bytes, -1 if not known. */
static int64_t memory_overhead(struct machine *machine)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    int64_t kib = 0;
    bool ram = false;

    if (!g_file_get_contents("/proc/self/smaps", &text, NULL, NULL))
        return -1;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        unsigned long start, end, value;

        if (sscanf(*line, "%lx-%lx ", &start, &end) == 2)
            ram = memory_is_ram(machine->memory, (const void *)start);
        else if (!ram && sscanf(*line, "Rss: %lu kB", &value) == 1)
            kib += value;
    }
    return kib * 1024;
}

static JsonObject *times_to_json(struct machine *machine)
{
    JsonObject *object = json_object_new();
    struct rusage usage;

    boottime_to_json(machine->boottime, object);
    getrusage(RUSAGE_SELF, &usage);
    json_object_set_int_member(object, "cpu-user-us",
                               usage.ru_utime.tv_sec * INT64_C(1000000) + usage.ru_utime.tv_usec);
    json_object_set_int_member(object, "cpu-system-us",
                               usage.ru_stime.tv_sec * INT64_C(1000000) + usage.ru_stime.tv_usec);
    json_object_set_int_member(object, "kernel-unpack-ns", machine->booted.unpack_ns);
    if (machine->hooks.add_times)
        machine->hooks.add_times(machine->hooks.opaque, object);
    return object;
}

JsonObject *report_stats(struct machine *machine)
{
    JsonObject *object = json_object_new();

    json_object_set_object_member(object, "exits", exits_to_json(machine));
    json_object_set_object_member(object, "devices", devices_to_json(machine));
    json_object_set_object_member(object, "times", times_to_json(machine));
    json_object_set_int_member(object, "memory-overhead-bytes", memory_overhead(machine));
    json_object_set_int_member(object, "guest-errors", log_guest_errors());
    json_object_set_int_member(object, "resets", machine->resets);
    return object;
}

/* A file appears whole or not at all; what is no file (/dev/stdout, a pipe) is written to. */
static bool write_text(const char *path, const char *text, GError **error)
{
    struct stat status;
    FILE *file;
    bool written;

    if (lstat(path, &status) || S_ISREG(status.st_mode))
        return g_file_set_contents(path, text, -1, error);
    file = fopen(path, "we");
    written = file && fputs(text, file) >= 0;
    written = file && !fclose(file) && written;
    if (!written)
        g_set_error_literal(error, G_FILE_ERROR, g_file_error_from_errno(errno), g_strerror(errno));
    return written;
}

static void add_machine(JsonObject *object, struct machine *machine)
{
    g_autofree char *panic = console_tail_panic_line(machine->console);
    g_autofree char *tail = console_tail_text(machine->console, 200);

    if (panic)
        json_object_set_string_member(object, "panic", panic);
    json_object_set_string_member(object, "console-tail", tail);
    if (machine->booted.kernel_version)
        json_object_set_string_member(object, "kernel", machine->booted.kernel_version);
    json_object_set_string_member(object, "boot-protocol",
                                  boot_protocol_name(machine->booted.protocol));
    json_object_set_object_member(object, "stats", report_stats(machine));
}

bool report_write(struct machine *machine, const char *path, const struct report_end *end,
                  GError **error)
{
    JsonObject *object = json_object_new();
    JsonNode *root = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(JsonGenerator) generator = json_generator_new();
    g_autofree char *text = NULL;
    g_autoptr(GError) reason = NULL;

    json_object_set_string_member(object, "reason", end->reason);
    json_object_set_int_member(object, "exit-code", end->exit_code);
    json_object_set_int_member(object, "status", end->status);
    if (end->detail)
        json_object_set_string_member(object, "detail", end->detail);
    json_object_set_int_member(object, "wall-ns", loop_now_ns() - end->started_ns);
    if (machine)
        add_machine(object, machine);
    json_node_take_object(root, object);
    json_generator_set_root(generator, root);
    json_generator_set_pretty(generator, TRUE);
    text = json_generator_to_data(generator, NULL);
    json_node_unref(root);
    if (write_text(path, text, &reason))
        return true;
    g_set_error(error, OPTIONS_ERROR, 0, "--result: %s: %s", path, reason->message);
    return false;
}
