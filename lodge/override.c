/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * override - the configuration of a saved machine: what goes into a snapshot, and what a restore may
 * change
 *
 * What the guest sees of its devices is fixed; what is behind them on the host is not: `lodge restore
 * DIR --disk id=disk0,path=copy.img`. Which keys are the host's is a column of the table of device
 * types (types.c). A device whose backend type changes keeps none of the old one's keys.
 *
 * Thread: main.
 */
#include <string.h>

#include "backends/char/char.h"
#include "lodge/configuration.h"
#include "lodge/options.h"

/* What belongs to a run and not to the machine. */
static const char *const of_the_run[] = {"control",   "result",     "log",     "log-file",
                                         "trace",     "trace-file", "timeout", "prefault",
                                         "hugepages", "display"};

static const struct device_config *device_at(const struct config *config, guint index)
{
    return g_ptr_array_index(config->devices, index);
}

char *config_device_id(const struct config *config, guint index)
{
    const struct device_config *device = device_at(config, index);
    const char *given = options_string(device->options, "id");
    unsigned before = 0;

    if (given)
        return g_strdup(given);
    for (guint i = 0; i < index; i++)
        before += device_at(config, i)->type == device->type &&
                  !options_given(device_at(config, i)->options, "id");
    return g_strdup_printf("%s%u", device->type->prefix, before);
}

/* ---- which device is meant ---- */

/* The ids of all devices of @type, by commas. */
static char *list_ids(const struct config *config, const struct device_type *type)
{
    GString *list = g_string_new(NULL);

    for (guint i = 0; i < config->devices->len; i++) {
        g_autofree char *id = config_device_id(config, i);

        if (device_at(config, i)->type == type)
            g_string_append_printf(list, "%s%s", list->len ? ", " : "", id);
    }
    return g_string_free(list, FALSE);
}

static bool has_tag(const struct device_config *device, const char *tag)
{
    return tag && !g_strcmp0(options_string(device->options, "tag"), tag);
}

/* By id, by tag, or as the only one of its type. */
static struct device_config *find_target(struct config *config, const struct device_type *type,
                                         const struct options *change, GError **error)
{
    const char *id = options_string(change, "id");
    const char *tag = !strcmp(type->name, "virtio-9p") ? options_string(change, "tag") : NULL;
    g_autofree char *ids = list_ids(config, type);
    struct device_config *found = NULL;

    for (guint i = 0; i < config->devices->len; i++) {
        struct device_config *device = g_ptr_array_index(config->devices, i);
        g_autofree char *name = config_device_id(config, i);

        if (device->type != type || (id ? strcmp(id, name) : tag && !has_tag(device, tag)))
            continue;
        if (found) {
            g_set_error(error, OPTIONS_ERROR, 0,
                        "%s: the snapshot has several of them: say which with id= (%s)",
                        options_what(change), ids);
            return NULL;
        }
        found = device;
    }
    if (found)
        return found;
    if (!*ids)
        g_set_error(error, OPTIONS_ERROR, 0,
                    "%s: the snapshot has no %s, and devices can't be added to it",
                    options_what(change), type->name);
    else
        options_set_error(error, change, id ? "id" : "tag",
                          "the snapshot's are %s; devices can't be added to it", ids);
    return NULL;
}

/* ---- changing it ---- */

/* What the saved device has of @key, as text; the caller frees it. */
static char *value_text(JsonObject *object, const char *key)
{
    JsonNode *node = json_object_get_member(object, key);

    return node ? json_to_string(node, FALSE) : NULL;
}

/* Is all that is given the host's, or as it was? */
static bool check_keys(const struct device_config *target, const struct options *change,
                       GError **error)
{
    const struct option_spec *all = device_type_change_options(target->type);
    g_autoptr(JsonObject) before = options_to_json(target->options, true);
    g_autoptr(JsonObject) after = options_to_json(change, false);
    g_autoptr(GString) allowed = g_string_new(NULL);

    for (const struct option_spec *spec = all; spec->key; spec++)
        if (device_type_is_host_key(target->type, spec->key))
            g_string_append_printf(allowed, "%s%s", allowed->len ? ", " : "", spec->key);
    for (const struct option_spec *spec = all; spec->key; spec++) {
        g_autofree char *old = value_text(before, spec->key);
        g_autofree char *new = value_text(after, spec->key);

        if (!new || !strcmp(spec->key, "id") || !g_strcmp0(old, new) ||
            device_type_is_host_key(target->type, spec->key))
            continue;
        options_set_error(error, change, spec->key,
                          "the guest knows it as %s; a restore may change %s",
                          old ? old : "it was by default", allowed->len ? allowed->str : "nothing");
        return false;
    }
    if (options_given(change, "id") ? json_object_get_size(after) > 1
                                    : json_object_get_size(after) > 0)
        return true;
    g_set_error(error, OPTIONS_ERROR, 0,
                "%s: say what is to change (%s); devices can't be added to a snapshot",
                options_what(change), allowed->len ? allowed->str : "nothing may");
    return false;
}

static void drop_host_keys(const struct device_type *type, JsonObject *object)
{
    for (const struct option_spec *spec = device_type_options(type); spec->key; spec++)
        if (device_type_is_host_key(type, spec->key) && json_object_has_member(object, spec->key))
            json_object_remove_member(object, spec->key);
}

static bool change_device(struct device_config *target, const struct options *change,
                          const char *what, GError **error)
{
    g_autoptr(JsonObject) merged = options_to_json(target->options, false);
    g_autoptr(JsonObject) given = options_to_json(change, false);
    g_autofree char *old_type = value_text(merged, "type");
    g_autofree char *new_type = value_text(given, "type");
    struct options *options;
    JsonObjectIter iter;
    const char *key;
    JsonNode *node;

    if (new_type && g_strcmp0(old_type, new_type))
        drop_host_keys(target->type, merged);
    json_object_iter_init(&iter, given);
    while (json_object_iter_next(&iter, &key, &node))
        json_object_set_member(merged, key, json_node_copy(node));
    options = options_from_json(device_type_change_options(target->type), what, merged, error);
    if (!options)
        return false;
    options_free(target->options);
    target->options = options;
    return true;
}

bool config_override_device(struct config *config, const struct device_type *type, const char *what,
                            const char *text, GError **error)
{
    g_autoptr(options_t) change =
        options_parse(device_type_change_options(type), what, text, error);
    struct device_config *target;

    target = change ? find_target(config, type, change, error) : NULL;
    return target && check_keys(target, change, error) &&
           change_device(target, change, options_what(target->options), error);
}

/* ---- what comes from another host ---- */

/* A console without a backend is another device for the guest: it keeps one that goes nowhere. */
void config_drop_foreign(JsonObject *device, const struct device_type *type)
{
    bool console = json_object_has_member(device, "type") && type->host == char_options;

    drop_host_keys(type, device);
    if (console)
        json_object_set_string_member(device, "type", "null");
}

/* Only what makes the machine what it is. */
void config_drop_foreign_run(JsonObject *run)
{
    static const char *const kept[] = {"memory", "cpus", "io-threads", "defaults"};
    g_autoptr(GList) keys = json_object_get_members(run);

    for (GList *key = keys; key; key = key->next) {
        bool keep = false;

        for (unsigned i = 0; i < G_N_ELEMENTS(kept); i++)
            keep |= !strcmp(kept[i], key->data);
        if (!keep)
            json_object_remove_member(run, key->data);
    }
}

bool config_check_complete(struct config *config, GError **error)
{
    for (guint i = 0; i < config->devices->len; i++) {
        struct device_config *device = g_ptr_array_index(config->devices, i);
        g_autoptr(JsonObject) object = options_to_json(device->options, false);
        struct options *options = options_from_json(device_type_options(device->type),
                                                    options_what(device->options), object, error);

        if (!options)
            return false;
        options_free(device->options);
        device->options = options;
    }
    return true;
}

/* ---- the console ---- */

static bool set_char_type(struct device_config *device, const char *type, GError **error)
{
    g_autofree char *text = g_strdup_printf("type=%s", type);
    g_autoptr(options_t) change =
        options_parse(device_type_change_options(device->type), "--console", text, error);

    return change && change_device(device, change, options_what(device->options), error);
}

bool config_override_console(struct config *config, GError **error)
{
    const char *kind = options_string(config->run, "console");
    const char *type = !strcmp(kind, "virtio") ? "virtio-console" : "serial";
    struct device_config *chosen = NULL;

    for (guint i = 0; i < config->devices->len; i++) {
        struct device_config *device = g_ptr_array_index(config->devices, i);
        bool has_char = (!strcmp(device->type->name, "serial") ||
                         !strcmp(device->type->name, "virtio-console")) &&
                        options_given(device->options, "type");

        if (!has_char)
            continue;
        if (!chosen && !strcmp(device->type->name, type))
            chosen = device;
        if (!g_strcmp0(options_string(device->options, "type"), "stdio") &&
            !set_char_type(device, "null", error))
            return false;
    }
    if (!strcmp(kind, "off"))
        return true;
    if (!chosen)
        options_set_error(error, config->run, "console", "the snapshot has no such console");
    return chosen && set_char_type(chosen, "stdio", error);
}

/* ---- copies ---- */

bool config_make_copy(struct config *config, GError **error)
{
    for (guint i = 0; i < config->devices->len; i++) {
        struct device_config *device = g_ptr_array_index(config->devices, i);
        const struct options *options = device->options;
        g_autoptr(options_t) change = NULL;

        if (strcmp(device->type->name, "virtio-blk") || options_given(options, "snapshot") ||
            options_bool(options, "readonly") || !options_string(options, "path"))
            continue;
        change = options_parse(device_type_change_options(device->type), options_what(options),
                               "snapshot=on", error);
        if (!change || !change_device(device, change, options_what(options), error))
            return false;
    }
    return true;
}

/* The kernel's messages of a guest that waits for a command: on our standard error, or nowhere. */
bool config_override_verbose(struct config *config, GError **error)
{
    bool verbose = options_bool(config->run, "verbose");

    for (guint i = 0; i < config->devices->len; i++) {
        struct device_config *device = g_ptr_array_index(config->devices, i);

        if (!strcmp(device->type->name, "serial"))
            return set_char_type(device, verbose ? "fd,fd=2" : "null", error);
    }
    return true;
}

/* ---- saving ---- */

/* A snapshot is restored from anywhere. (A first '@' is an abstract socket's.) */
static void make_paths_absolute(const struct option_spec *specs, JsonObject *object)
{
    g_autofree char *here = g_get_current_dir();

    for (; specs->key; specs++) {
        const char *path = specs->type == OPTION_PATH && json_object_has_member(object, specs->key)
                               ? json_object_get_string_member(object, specs->key)
                               : NULL;
        g_autofree char *absolute = NULL;

        if (!path || !*path || *path == '/' || *path == '@')
            continue;
        absolute = g_build_filename(here, path, NULL);
        json_object_set_string_member(object, specs->key, absolute);
    }
}

JsonObject *config_to_save(const struct config *config)
{
    JsonObject *object = options_to_json(config->run, false);
    JsonArray *devices = json_array_new();

    for (unsigned i = 0; i < G_N_ELEMENTS(of_the_run); i++)
        if (json_object_has_member(object, of_the_run[i]))
            json_object_remove_member(object, of_the_run[i]);
    make_paths_absolute(run_options, object);
    for (guint i = 0; i < config->devices->len; i++) {
        const struct device_config *device = device_at(config, i);
        JsonObject *member = options_to_json(device->options, false);
        g_autofree char *id = config_device_id(config, i);

        /* Always at the end: the same machine is the same text, whoever chose the id and slot. */
        json_object_remove_member(member, "id");
        json_object_remove_member(member, "slot");
        make_paths_absolute(device_type_options(device->type), member);
        config_put_type(member, device->type);
        json_object_set_string_member(member, "id", id);
        json_array_add_object_element(devices, member);
    }
    json_object_set_array_member(object, "devices", devices);
    return object;
}
