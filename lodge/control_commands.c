/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control_commands - what the control socket can do; the schema comes from this table
 */
#include <inttypes.h>
#include <string.h>

#include "backends/display/display.h"
#include "config.h"
#include "lodge/control.h"
#include "lodge/migrate.h"
#include "lodge/report.h"
#include "lodge/screen.h"
#include "lodge/snapshot.h"
#include "lodge/typist.h"
#include "vmm/log.h"
#include "vmm/trace.h"

static JsonNode *object_node(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, object);
    return node;
}

static JsonNode *array_node(JsonArray *array)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);

    json_node_take_array(node, array);
    return node;
}

static JsonNode *qmp_capabilities(struct control *control, struct machine *machine,
                                  const struct options *arguments, GError **error)
{
    return NULL;
}

static JsonNode *query_version(struct control *control, struct machine *machine,
                               const struct options *arguments, GError **error)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "lodge", LODGE_VERSION);
    return object_node(object);
}

static JsonNode *query_status(struct control *control, struct machine *machine,
                              const struct options *arguments, GError **error)
{
    JsonObject *object = json_object_new();
    const char *status = machine->reason != SHUTDOWN_NONE ? "shutdown"
                         : machine->arriving              ? "arriving"
                         : machine->paused                ? "paused"
                                                          : "running";

    json_object_set_string_member(object, "status", status);
    json_object_set_boolean_member(object, "running", !strcmp(status, "running"));
    return object_node(object);
}

static JsonNode *query_devices(struct control *control, struct machine *machine,
                               const struct options *arguments, GError **error)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < machine->entries->len; i++) {
        struct machine_device *entry = g_ptr_array_index(machine->entries, i);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "id", entry->id);
        json_object_set_string_member(object, "type", entry->type->name);
        json_object_set_string_member(object, "state",
                                      device_state_name(device_state(entry->device)));
        if (entry->function) {
            g_autofree char *address =
                g_strdup_printf("0000:00:%02x.%x", entry->function->slot, entry->function->number);

            json_object_set_string_member(object, "pci-address", address);
        }
        json_object_set_object_member(object, "options", options_to_json(entry->options, true));
        json_array_add_object_element(array, object);
    }
    return array_node(array);
}

static void add_range(uint64_t base, uint64_t size, const char *name, void *opaque)
{
    JsonObject *object = json_object_new();
    g_autofree char *text = g_strdup_printf("0x%" PRIx64, base);

    json_object_set_string_member(object, "base", text);
    json_object_set_int_member(object, "size", size);
    json_object_set_string_member(object, "name", name);
    json_array_add_object_element(opaque, object);
}

static JsonNode *query_buses(struct control *control, struct machine *machine,
                             const struct options *arguments, GError **error)
{
    JsonObject *object = json_object_new();
    JsonArray *mmio = json_array_new(), *ports = json_array_new();

    bus_for_each(machine->mmio, add_range, mmio);
    bus_for_each(machine->ports, add_range, ports);
    json_object_set_array_member(object, "mmio", mmio);
    json_object_set_array_member(object, "ports", ports);
    return object_node(object);
}

static JsonNode *query_vcpus(struct control *control, struct machine *machine,
                             const struct options *arguments, GError **error)
{
    JsonArray *array = json_array_new();
    bool running = vm_is_running(machine->vm);

    if (running)
        vm_pause(machine->vm);
    for (unsigned i = 0; i < vm_vcpus(machine->vm); i++) {
        g_autofree char *text = vm_describe_vcpu(machine->vm, i);

        json_array_add_string_element(array, text);
    }
    if (running)
        vm_resume(machine->vm);
    return array_node(array);
}

static JsonNode *stop(struct control *control, struct machine *machine,
                      const struct options *arguments, GError **error)
{
    bool was_paused = machine->paused;

    if (machine_pause(machine, error) && !was_paused)
        control_event(control, "STOP", NULL);
    return NULL;
}

static JsonNode *cont(struct control *control, struct machine *machine,
                      const struct options *arguments, GError **error)
{
    bool was_paused = machine->paused;

    if (migrate_may_continue(machine, error) && machine_resume(machine, error) && was_paused)
        control_event(control, "RESUME", NULL);
    return NULL;
}

static JsonNode *take_snapshot(struct control *control, struct machine *machine,
                               const struct options *arguments, GError **error)
{
    bool was_paused = machine->paused;

    if (machine_snapshot(machine, options_string(arguments, "path"),
                         options_bool(arguments, "stop"), error) &&
        machine->paused && !was_paused)
        control_event(control, "STOP", NULL);
    return NULL;
}

static JsonNode *migrate(struct control *control, struct machine *machine,
                         const struct options *arguments, GError **error)
{
    struct migrate_options options = {
        .to = options_string(arguments, "to"),
        .downtime_ms = options_uint(arguments, "downtime-limit"),
        .bandwidth = options_uint(arguments, "bandwidth"),
    };

    migrate_start(machine, &options, error);
    return NULL;
}

static JsonNode *cancel_migration(struct control *control, struct machine *machine,
                                  const struct options *arguments, GError **error)
{
    migrate_cancel(machine, error);
    return NULL;
}

static JsonNode *query_migrate(struct control *control, struct machine *machine,
                               const struct options *arguments, GError **error)
{
    return object_node(migrate_describe(machine));
}

/* Is there a guest, or is it still arriving? */
static bool is_here(const struct machine *machine, GError **error)
{
    if (machine->arriving)
        g_set_error(error, OPTIONS_ERROR, 0, "the guest is still arriving from another monitor");
    return !machine->arriving;
}

static JsonNode *system_powerdown(struct control *control, struct machine *machine,
                                  const struct options *arguments, GError **error)
{
    if (!is_here(machine, error))
        return NULL;
    machine_power_button(machine);
    control_event(control, "POWERDOWN", NULL);
    return NULL;
}

static JsonNode *system_reset(struct control *control, struct machine *machine,
                              const struct options *arguments, GError **error)
{
    if (is_here(machine, error))
        machine_request(machine, SHUTDOWN_RESET, 0, NULL);
    return NULL;
}

static JsonNode *quit(struct control *control, struct machine *machine,
                      const struct options *arguments, GError **error)
{
    machine_request(machine, SHUTDOWN_QUIT, options_uint(arguments, "status"), NULL);
    return NULL;
}

static JsonNode *set_log(struct control *control, struct machine *machine,
                         const struct options *arguments, GError **error)
{
    log_set_levels(options_string(arguments, "levels"), error);
    return NULL;
}

static JsonNode *set_trace(struct control *control, struct machine *machine,
                           const struct options *arguments, GError **error)
{
    int matched =
        trace_set(options_string(arguments, "events"), options_bool(arguments, "enable"), error);
    JsonObject *object;

    if (matched < 0)
        return NULL;
    object = json_object_new();
    json_object_set_int_member(object, "events", matched);
    return object_node(object);
}

static void add_event(const struct trace_event *event, void *opaque)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "name", event->name);
    json_object_set_string_member(object, "format", event->format);
    json_object_set_boolean_member(object, "enabled", event->enabled);
    json_array_add_object_element(opaque, object);
}

static JsonNode *query_trace(struct control *control, struct machine *machine,
                             const struct options *arguments, GError **error)
{
    JsonArray *array = json_array_new();

    trace_for_each(add_event, array);
    return array_node(array);
}

static JsonNode *set_link(struct control *control, struct machine *machine,
                          const struct options *arguments, GError **error)
{
    const char *id = options_string(arguments, "name");
    struct machine_device *entry = machine_find(machine, id);

    if (!entry || !entry->set_link) {
        options_set_error(error, arguments, "name",
                          "is not a network interface of this machine; "
                          "query-devices lists the devices");
        return NULL;
    }
    entry->set_link(entry, options_bool(arguments, "up"));
    return NULL;
}

static JsonNode *query_displays(struct control *control, struct machine *machine,
                                const struct options *arguments, GError **error)
{
    return screen_query(machine);
}

static JsonNode *screendump(struct control *control, struct machine *machine,
                            const struct options *arguments, GError **error)
{
    screen_dump(machine, options_uint(arguments, "scanout"), options_string(arguments, "path"),
                error);
    return NULL;
}

static JsonNode *set_display(struct control *control, struct machine *machine,
                             const struct options *arguments, GError **error)
{
    screen_resize(machine, options_uint(arguments, "scanout"), options_uint(arguments, "width"),
                  options_uint(arguments, "height"), error);
    return NULL;
}

static JsonNode *send_key(struct control *control, struct machine *machine,
                          const struct options *arguments, GError **error)
{
    typist_send_key(machine->typist, arguments, error);
    return NULL;
}

static JsonNode *pointer(struct control *control, struct machine *machine,
                         const struct options *arguments, GError **error)
{
    typist_pointer(machine->typist, arguments, error);
    return NULL;
}

static JsonNode *stats(struct control *control, struct machine *machine,
                       const struct options *arguments, GError **error)
{
    return object_node(report_stats(machine));
}

static JsonNode *query_commands(struct control *control, struct machine *machine,
                                const struct options *arguments, GError **error)
{
    JsonArray *array = json_array_new();

    for (const struct control_command *command = control_commands; command->name; command++) {
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", command->name);
        json_array_add_object_element(array, object);
    }
    return array_node(array);
}

static const char *const type_names[] = {
    [OPTION_STRING] = "string", [OPTION_PATH] = "path", [OPTION_BOOL] = "bool",
    [OPTION_UINT] = "uint",     [OPTION_SIZE] = "size", [OPTION_ENUM] = "enum",
    [OPTION_MAC] = "mac",       [OPTION_LIST] = "list",
};

const char *control_type_name(enum option_type type)
{
    return type_names[type];
}

static JsonArray *describe_arguments(const struct option_spec *spec)
{
    JsonArray *array = json_array_new();

    for (; spec && spec->key; spec++) {
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", spec->key);
        json_object_set_string_member(object, "type", control_type_name(spec->type));
        json_object_set_boolean_member(object, "required", spec->flags & OPTION_REQUIRED);
        if (spec->value)
            json_object_set_string_member(object, "default", spec->value);
        json_object_set_string_member(object, "help", spec->help);
        json_array_add_object_element(array, object);
    }
    return array;
}

const struct control_event_type control_event_types[] = {
    {"STOP", "the guest was stopped by the stop command"},
    {"RESUME", "the guest goes on after cont"},
    {"POWERDOWN", "the power button was pressed"},
    {"RESET", "the guest was reset"},
    {"GUEST_CRASHLOADED", "the guest panicked and starts its crash kernel"},
    {"GUEST_PANICKED", "the guest panicked; SHUTDOWN follows"},
    {"MIGRATION", "a migration's next round or its end (data as query-migrate's)"},
    {"SHUTDOWN", "the guest ended (data: reason, detail); lodge ends"},
    {},
};

static JsonNode *query_schema(struct control *control, struct machine *machine,
                              const struct options *arguments, GError **error)
{
    JsonObject *schema = json_object_new();
    JsonArray *commands = json_array_new(), *event_list = json_array_new();

    for (const struct control_command *command = control_commands; command->name; command++) {
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", command->name);
        json_object_set_string_member(object, "help", command->help);
        json_object_set_array_member(object, "arguments", describe_arguments(command->arguments));
        json_object_set_string_member(object, "returns", command->returns);
        json_array_add_object_element(commands, object);
    }
    for (const struct control_event_type *event = control_event_types; event->name; event++) {
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", event->name);
        json_object_set_string_member(object, "help", event->help);
        json_array_add_object_element(event_list, object);
    }
    json_object_set_array_member(schema, "commands", commands);
    json_object_set_array_member(schema, "events", event_list);
    return object_node(schema);
}

static const struct option_spec capabilities_arguments[] = {
    {"enable", OPTION_LIST, .help = "capabilities to turn on; there are none"},
    {},
};
static const struct option_spec quit_arguments[] = {
    {"status", OPTION_UINT, .value = "0", .max = 255, .help = "lodge's exit code"},
    {},
};
static const struct option_spec log_arguments[] = {
    {"levels", OPTION_STRING, .flags = OPTION_REQUIRED | OPTION_FIRST,
     .help = "LEVEL[,DOMAIN=LEVEL...], as --log"},
    {},
};
static const struct option_spec trace_arguments[] = {
    {"events", OPTION_STRING, .flags = OPTION_REQUIRED | OPTION_FIRST,
     .help = "shell patterns with commas, as --trace"},
    {"enable", OPTION_BOOL, .value = "on", .help = "on or off"},
    {},
};
static const struct option_spec snapshot_arguments[] = {
    {"path", OPTION_PATH, .flags = OPTION_REQUIRED | OPTION_FIRST,
     .help = "new or empty folder; relative to where lodge was started"},
    {"stop", OPTION_BOOL, .value = "off", .help = "the guest stays stopped"},
    {},
};
static const struct option_spec migrate_arguments[] = {
    {"to", OPTION_STRING, .flags = OPTION_REQUIRED | OPTION_FIRST,
     .help = "unix:PATH or tcp:HOST:PORT, where lodge restore --listen waits"},
    {"downtime-limit", OPTION_UINT, .value = "300", .min = 1, .max = 600000,
     .help = "milliseconds: the guest is stopped once the rest takes no longer"},
    {"bandwidth", OPTION_SIZE, .value = "0",
     .help = "bytes a second while the guest runs (0: no limit)"},
    {},
};
static const struct option_spec link_arguments[] = {
    {"name", OPTION_STRING, .flags = OPTION_REQUIRED | OPTION_FIRST, .help = "device id"},
    {"up", OPTION_BOOL, .value = "on", .help = "cable plugged in"},
    {},
};
static const struct option_spec screendump_arguments[] = {
    {"path", OPTION_PATH, .flags = OPTION_REQUIRED | OPTION_FIRST,
     .help = "the file, PNG or .ppm; relative to where lodge was started"},
    {"scanout", OPTION_UINT, .value = "0", .max = DISPLAY_MAX_SCANOUTS - 1,
     .help = "which screen, counted from 0"},
    {},
};
static const struct option_spec display_arguments[] = {
    {"width", OPTION_UINT, .flags = OPTION_REQUIRED, .max = DISPLAY_MAX_SIZE, .help = "pixels"},
    {"height", OPTION_UINT, .flags = OPTION_REQUIRED, .max = DISPLAY_MAX_SIZE,
     .help = "pixels; 0 by 0 unplugs the screen"},
    {"scanout", OPTION_UINT, .value = "0", .max = DISPLAY_MAX_SCANOUTS - 1,
     .help = "which screen, counted from 0"},
    {},
};

const struct control_command control_commands[] = {
    {"qmp_capabilities", "ends negotiation: events are sent from now on", capabilities_arguments,
     "{}", qmp_capabilities},
    {"query-version", "lodge's version", NULL, "{lodge: string}", query_version},
    {"query-status", "whether the guest runs", NULL,
     "{status: running|paused|arriving|shutdown, running: bool}", query_status},
    {"query-devices", "the devices with their options and lifecycle states", NULL,
     "[{id, type, state, pci-address, options}]", query_devices},
    {"query-buses", "what answers at which port and memory address", NULL,
     "{mmio: [{base, size, name}], ports: [...]}", query_buses},
    {"query-vcpus", "the vCPUs' registers as text", NULL, "[string]", query_vcpus},
    {"stop", "stops the vCPUs, then every device", NULL, "{}", stop},
    {"cont", "lets a stopped guest go on", NULL, "{}", cont},
    {"snapshot", "saves the guest to a folder, for lodge restore", snapshot_arguments, "{}",
     take_snapshot},
    {"migrate", "moves the running guest to another lodge; answers at once (query-migrate, events)",
     migrate_arguments, "{}", migrate},
    {"query-migrate", "how far the last migration is", NULL,
     "{status: none|setup|active|stopped|commit|completed|failed|cancelled|lost, ...}",
     query_migrate},
    {"migrate_cancel", "ends a migration; the guest goes on here", NULL, "{}", cancel_migration},
    {"system_powerdown", "presses the power button", NULL, "{}", system_powerdown},
    {"system_reset", "resets the guest; a stopped one stays stopped", NULL, "{}", system_reset},
    {"quit", "ends lodge at once", quit_arguments, "{}", quit},
    {"set-log", "changes log levels", log_arguments, "{}", set_log},
    {"set-trace", "turns trace events on or off", trace_arguments, "{events: int}", set_trace},
    {"query-trace", "the trace events", NULL, "[{name, format, enabled}]", query_trace},
    {"set-link", "plugs a network interface's cable in or out", link_arguments, "{}", set_link},
    {"query-displays", "the screens: which are on, and how large", NULL,
     "[{scanout, on, width, height}]", query_displays},
    {"screendump", "writes what a screen shows to a file", screendump_arguments, "{}", screendump},
    {"set-display", "asks the guest's driver for another screen size", display_arguments, "{}",
     set_display},
    {"send-key", "presses keys of the guest's keyboard, and lets them go", typist_key_arguments,
     "{}", send_key},
    {"pointer", "moves the guest's pointer, turns its wheel, presses buttons and fingers",
     typist_pointer_arguments, "{}", pointer},
    {"stats", "counters: exits, interrupts, times, memory", NULL, "{...}", stats},
    {"query-commands", "the names of all commands", NULL, "[{name}]", query_commands},
    {"query-schema", "this description", NULL, "{commands, events}", query_schema},
    {},
};
