/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * configuration - parsing and printing of the option tree (configuration.h says what it is)
 *
 * Run options are collected as a JSON object of strings first, whichever way they came, so that one
 * place (vmm/options) checks them all.
 */
#include "lodge/configuration.h"

#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/stat.h>

#include "backends/display/display.h"
#include "config.h"
#include "lodge/options.h"

#define CONFIG_MAX_FILE     (1u << 20)
#define CONFIG_MAX_DEPTH    16
#define CONFIG_MAX_BRACKETS 4000

static void device_config_free(gpointer data)
{
    struct device_config *device = data;

    options_free(device->options);
    g_free(device);
}

static void free_options(gpointer options)
{
    options_free(options);
}

static struct config *config_new(void)
{
    struct config *config = g_new0(struct config, 1);

    config->devices = g_ptr_array_new_with_free_func(device_config_free);
    config->displays = g_ptr_array_new_with_free_func(free_options);
    return config;
}

void config_free(struct config *config)
{
    if (!config)
        return;
    options_free(config->run);
    g_ptr_array_unref(config->devices);
    g_ptr_array_unref(config->displays);
    g_strfreev(config->command);
    g_free(config);
}

bool config_add_device(struct config *config, const struct device_type *type, const char *what,
                       const char *text, GError **error)
{
    struct options *options = options_parse(device_type_options(type), what, text, error);
    struct device_config *device;

    if (!options)
        return false;
    device = g_new0(struct device_config, 1);
    device->type = type;
    device->options = options;
    g_ptr_array_add(config->devices, device);
    return true;
}

bool config_has_device(const struct config *config, const char *type)
{
    for (guint i = 0; i < config->devices->len; i++) {
        const struct device_config *device = g_ptr_array_index(config->devices, i);

        if (!strcmp(device->type->name, type))
            return true;
    }
    return false;
}

static const struct device_type *find_type(const char *name, const char *what, GError **error)
{
    const struct device_type *type = device_type_find(name);
    g_autoptr(GPtrArray) names = NULL;
    const char *close;

    if (type)
        return type;
    names = g_ptr_array_new();
    for (unsigned i = 0; device_types[i]; i++)
        g_ptr_array_add(names, (gpointer)device_types[i]->name);
    g_ptr_array_add(names, NULL);
    close = options_suggest(name, (const char *const *)names->pdata);
    g_set_error(error, OPTIONS_ERROR, 0,
                "%s: no device type '%s'%s%s%s; `lodge devices` lists them", what, name,
                close ? " (did you mean '" : "", close ? close : "", close ? "'?)" : "");
    return NULL;
}

static bool add_or_change(struct config *config, const struct device_type *type, const char *what,
                          const char *text, GError **error)
{
    return config->restoring ? config_override_device(config, type, what, text, error)
                             : config_add_device(config, type, what, text, error);
}

/* "--device TYPE,key=value..." */
static bool add_generic_device(struct config *config, const char *text, GError **error)
{
    const char *comma = strchr(text, ',');
    g_autofree char *name = comma ? g_strndup(text, comma - text) : g_strdup(text);
    g_autofree char *what = g_strdup_printf("--device %s", name);
    const struct device_type *type = find_type(name, "--device", error);

    return type && add_or_change(config, type, what, comma ? comma + 1 : "", error);
}

static const struct cli_option *find_option(const char *name, size_t length)
{
    for (const struct cli_option *o = cli_options; o->name; o++)
        if (strlen(o->name) == length && !strncmp(o->name, name, length))
            return o;
    return NULL;
}

static void unknown_option(const char *word, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *close;

    for (const struct cli_option *o = cli_options; o->name; o++)
        g_ptr_array_add(names, (gpointer)o->name);
    g_ptr_array_add(names, NULL);
    close = options_suggest(word, (const char *const *)names->pdata);
    g_set_error(error, OPTIONS_ERROR, 0, "unknown option %s%s%s%s%s; `lodge run --help` lists them",
                strlen(word) == 1 ? "-" : "--", word, close ? " (did you mean --" : "",
                close ? close : "", close ? "?)" : "");
}

/* A member that may come several times (a list) becomes an array. */
static void add_member(JsonObject *object, const char *key, const char *value)
{
    const struct option_spec *spec = run_options;

    while (spec->key && strcmp(spec->key, key))
        spec++;
    if (spec->type != OPTION_LIST) {
        json_object_set_string_member(object, key, value);
        return;
    }
    /* What a --config file has there is not looked at before the end: it may be no list at all. */
    if (json_object_has_member(object, key) &&
        !JSON_NODE_HOLDS_ARRAY(json_object_get_member(object, key)))
        return;
    if (!json_object_has_member(object, key))
        json_object_set_array_member(object, key, json_array_new());
    json_array_add_string_element(json_object_get_array_member(object, key), value);
}

/* The models that a short form can have beside its usual type. */
static const struct {
    const char *option, *model, *type;
} models[] = {
    {"net", "virtio", "virtio-net"},
    {"net", "virtio-net", "virtio-net"},
    {"net", "vmxnet3", "vmxnet3"},
};

static bool choose_model(const char *model, const struct cli_option *option,
                         const struct device_type **type, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++) {
        if (!strcmp(models[i].option, option->name) && !strcmp(models[i].model, model)) {
            *type = device_type_find(models[i].type);
            return true;
        }
    }
    g_set_error(error, OPTIONS_ERROR, 0, "--%s: model=%s: must be virtio or vmxnet3", option->name,
                model);
    return false;
}

/* Bytes up to the comma that ends an item; a doubled one is part of it. */
static size_t item_length(const char *item)
{
    size_t length = 0;

    while (item[length] && (item[length] != ',' || item[length + 1] == ','))
        length += item[length] == ',' ? 2 : 1;
    return length;
}

/* "--net type=...,model=...": the model is no key of any device, it says which device it is. What is
 * left of @text without it; the caller frees it. */
static char *take_model(const char *text, const struct cli_option *option,
                        const struct device_type **type, GError **error)
{
    g_autoptr(GString) rest = g_string_new(NULL);
    bool found = false;
    size_t length;

    for (const char *item = text; *item; item += length + (item[length] == ',')) {
        length = item_length(item);
        if (g_str_has_prefix(item, "model=")) {
            g_autofree char *model = g_strndup(item + strlen("model="), length - strlen("model="));

            if (!choose_model(model, option, type, error))
                return NULL;
            found = true;
        } else {
            g_string_append(rest, rest->len ? "," : "");
            g_string_append_len(rest, item, length);
        }
    }
    return found ? g_string_free(g_steal_pointer(&rest), FALSE) : g_strdup(text);
}

#ifdef HAVE_LIBSLIRP
#define DEFAULT_NIC "type=user"
#else
#define DEFAULT_NIC "type=null"
#endif

/* "--rdma backend=...,net=type=...": an adapter is the second function of a vmxnet3's slot, so it brings
 * one along, of which everything after net= is. What is before it in @text; the caller frees it. */
static char *take_nic(struct config *config, const char *text, const char *what, GError **error)
{
    const struct device_type *nic = device_type_find("vmxnet3");
    const char *of_nic = DEFAULT_NIC;
    const char *item = text, *end = text + strlen(text);
    g_autofree char *what_nic = g_strconcat(what, ": net", NULL);

    for (size_t length; *item; item += length + (item[length] == ',')) {
        length = item_length(item);
        if (g_str_has_prefix(item, "net=")) {
            of_nic = item + strlen("net=");
            end = item > text ? item - 1 : item;
            break;
        }
    }
    if (*item && config->restoring) {
        g_set_error(error, OPTIONS_ERROR, 0, "%s: use --net model=vmxnet3 to change its interface",
                    what_nic);
        return NULL;
    }
    if (!config->restoring && !config_add_device(config, nic, what_nic, of_nic, error))
        return NULL;
    return g_strndup(text, (gsize)(end - text));
}

static bool apply_option(struct config *config, JsonObject *run, const struct cli_option *option,
                         const char *value, GError **error)
{
    g_autofree char *what = g_strdup_printf("--%s", option->name), *rest = NULL;
    const struct device_type *type;

    if (option->key) {
        add_member(run, option->key, value ? value : "on");
        config->new_console |= !strcmp(option->key, "console");
        return true;
    }
    if (!strcmp(option->name, "dry-run")) {
        config->dry_run = true;
        return true;
    }
    if (!strcmp(option->name, "from")) {
        g_set_error(error, OPTIONS_ERROR, 0, "--from is for `lodge run` alone, and is given once");
        return false;
    }
    if (!strcmp(option->name, "device"))
        return add_generic_device(config, value, error);
    type = find_type(option->type, what, NULL);
    value = value ? value : "";
    rest = !strcmp(option->name, "net")    ? take_model(value, option, &type, error)
           : !strcmp(option->name, "rdma") ? take_nic(config, value, what, error)
                                           : g_strdup(value);
    return rest && add_or_change(config, type, what, rest, error);
}

/* The string that @node is, or NULL. */
static const char *string_of(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING
               ? json_node_get_string(node)
               : NULL;
}

/* Moves member @from, if there is one, to @to. */
static void rename_member(JsonObject *object, const char *from, const char *to)
{
    if (!json_object_has_member(object, from))
        return;
    json_object_set_member(object, to, json_object_dup_member(object, from));
    json_object_remove_member(object, from);
}

void config_put_type(JsonObject *device, const struct device_type *type)
{
    rename_member(device, "device", "device-name");
    json_object_set_string_member(device, "device", type->name);
}

void config_take_type(JsonObject *device)
{
    json_object_remove_member(device, "device");
    rename_member(device, "device-name", "device");
}

/* A saved device goes by its id. */
static char *saved_device_name(const struct config *config, JsonObject *object)
{
    const char *id = string_of(json_object_get_member(object, "id"));
    const char *type = string_of(json_object_get_member(object, "device"));

    return id ? g_strdup(id)
              : g_strdup_printf("device %u (%s)", config->devices->len, type ? type : "no type");
}

static bool load_devices(struct config *config, JsonNode *node, const char *path, GError **error)
{
    JsonArray *array = JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

    for (guint i = 0; array && i < json_array_get_length(array); i++) {
        JsonNode *element = json_array_get_element(array, i);
        JsonObject *object = JSON_NODE_HOLDS_OBJECT(element) ? json_node_get_object(element) : NULL;
        const char *name = object ? string_of(json_object_get_member(object, "device")) : NULL;
        g_autofree char *what = config->restoring && object
                                    ? saved_device_name(config, object)
                                    : g_strdup_printf("%s: devices[%u]", path, i);
        const struct device_type *type;
        struct device_config *device;
        struct options *options;

        if (!name) {
            g_set_error(error, OPTIONS_ERROR, 0,
                        "%s: an object with a \"device\" (the type) is needed", what);
            return false;
        }
        type = find_type(name, what, error);
        if (!type)
            return false;
        json_object_ref(object);
        config_take_type(object);
        if (config->saved_flags & CONFIG_FOREIGN)
            config_drop_foreign(object, type);
        options = options_from_json(config->restoring ? device_type_change_options(type)
                                                      : device_type_options(type),
                                    what, object, error);
        json_object_unref(object);
        if (!options)
            return false;
        device = g_new0(struct device_config, 1);
        device->type = type;
        device->options = options;
        g_ptr_array_add(config->devices, device);
    }
    if (!array)
        g_set_error(error, OPTIONS_ERROR, 0, "%s: \"devices\" must be an array", path);
    return array != NULL;
}

static bool load_command(struct config *config, JsonNode *node, const char *path, GError **error)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    JsonArray *array = JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
    guint length = array ? json_array_get_length(array) : 0;

    for (guint i = 0; i < length; i++) {
        const char *word = string_of(json_array_get_element(array, i));

        if (word)
            g_strv_builder_add(builder, word);
        else
            length = 0;
    }
    if (!length) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "%s: \"command\" must be an array of strings, at least one", path);
        return false;
    }
    g_strfreev(config->command);
    config->command = g_strv_builder_end(builder);
    return true;
}

/* The text of a regular file of a reasonable size, that does not nest its JSON without end. */
static char *read_file(const char *path, gsize *length, GError **error)
{
    g_autofree char *text = NULL;
    struct stat status;

    if (!stat(path, &status) && !S_ISREG(status.st_mode)) {
        g_set_error(error, OPTIONS_ERROR, 0, "%s: is not a regular file", path);
        return NULL;
    }
    if (!g_file_get_contents(path, &text, length, error))
        return NULL;
    if (*length <= CONFIG_MAX_FILE &&
        options_json_is_flat(text, CONFIG_MAX_DEPTH, CONFIG_MAX_BRACKETS))
        return g_steal_pointer(&text);
    g_set_error(error, OPTIONS_ERROR, 0, "%s: %s", path,
                *length > CONFIG_MAX_FILE
                    ? "larger than 1 MiB"
                    : "nested deeper than 16 levels, or more than 4000 brackets");
    return NULL;
}

/* Moves the run options of JSON @text, which @path is shown as, into @run, its devices and command
 * into @config. */
static bool load_text(struct config *config, JsonObject *run, const char *text, gsize length,
                      const char *path, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) reason = NULL;
    JsonObject *object;
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;

    if (!json_parser_load_from_data(parser, text, length, &reason)) {
        g_set_error(error, OPTIONS_ERROR, 0, "%s: %s", path, reason->message);
        return false;
    }
    node = json_parser_get_root(parser);
    if (!node || !JSON_NODE_HOLDS_OBJECT(node)) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "%s: a JSON object is needed; `lodge run --dry-run` prints one", path);
        return false;
    }
    object = json_node_get_object(node);
    json_object_iter_init(&iter, object);
    while (json_object_iter_next(&iter, &name, &node)) {
        if (!strcmp(name, "devices")) {
            if (!load_devices(config, node, path, error))
                return false;
        } else if (!strcmp(name, "command")) {
            if (!load_command(config, node, path, error))
                return false;
        } else if (!strcmp(name, "config")) {
            g_set_error(error, OPTIONS_ERROR, 0, "%s: \"config\" is not taken from a file", path);
            return false;
        } else {
            json_object_set_member(run, name, json_node_copy(node));
        }
    }
    return true;
}

static bool load_file(struct config *config, JsonObject *run, const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize length;
    char *shown;
    bool done;

    text = read_file(path, &length, error);
    if (!text) {
        g_prefix_error(error, "--config: ");
        return false;
    }
    shown = g_strdup_printf("--config: %s", path);
    done = load_text(config, run, text, length, shown, error);
    g_free(shown);
    return done;
}

/* The option that @word is, and the value that it holds itself (or NULL). */
static const struct cli_option *look_up(const char *word, const char **value, GError **error)
{
    const struct cli_option *option = NULL;
    size_t dashes = g_str_has_prefix(word, "--") ? 2 : 1;
    size_t length = strcspn(word + dashes, "=");
    g_autofree char *name = g_strndup(word + dashes, length);

    if (word[0] != '-' || !word[1]) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "unexpected argument '%s'; a command for the guest comes after --", word);
        return NULL;
    }
    if (dashes == 2) {
        option = find_option(name, length);
        *value = word[2 + length] == '=' ? word + 3 + length : NULL;
    } else {
        for (const struct cli_option *o = cli_options; o->name && !option; o++)
            if (o->letter == word[1])
                option = o;
        *value = word[2] ? word + 2 : NULL;
    }
    if (!option)
        unknown_option(name, error);
    return option;
}

/* One word of the command line; *value_used says whether the next word was taken as its value. With
 * @files only --config is carried out, else only what is not --config. */
static bool apply_word(struct config *config, JsonObject *run, const char *word, const char *next,
                       bool files, bool *value_used, GError **error)
{
    const char *value = NULL;
    const struct cli_option *option = look_up(word, &value, error);
    bool is_file;

    *value_used = false;
    if (!option)
        return false;
    if (!option->argument && value && word[1] != '-') {
        g_set_error(error, OPTIONS_ERROR, 0, "-%c takes no value, but '%s' follows it",
                    option->letter, value);
        return false;
    }
    if (option->argument && option->argument[0] != '[' && !value) {
        if (!next || !strcmp(next, "--")) {
            g_set_error(error, OPTIONS_ERROR, 0, "--%s needs a value: --%s %s", option->name,
                        option->name, option->argument);
            return false;
        }
        value = next;
        *value_used = true;
    }
    /* "--gpu width=800": a word like that could be nothing else. */
    if (option->argument && option->argument[0] == '[' && !value && next && next[0] != '-' &&
        strchr(next, '=')) {
        value = next;
        *value_used = true;
    }
    is_file = !strcmp(option->name, "config");
    if (is_file != files)
        return true;
    return is_file ? load_file(config, run, value, error)
                   : apply_option(config, run, option, value, error);
}

/* Looks at all words before "--"; only at --config with @files, only at the rest without. */
static bool apply_words(struct config *config, JsonObject *run, char **words, bool files,
                        GError **error)
{
    for (; *words && strcmp(*words, "--"); words++) {
        bool value_used;

        if (!apply_word(config, run, *words, words[1], files, &value_used, error))
            return false;
        if (value_used)
            words++;
    }
    if (!*words || files)
        return true;
    if (!words[1]) {
        g_set_error(error, OPTIONS_ERROR, 0, "no command after --");
        return false;
    }
    g_strfreev(config->command);
    config->command = g_strdupv(words + 1);
    return true;
}

static bool take_displays(struct config *config, GError **error)
{
    const char *const *wanted = options_list(config->run, "display");

    for (; wanted && *wanted; wanted++) {
        struct options *options = display_parse(*wanted, error);

        if (!options)
            return false;
        g_ptr_array_add(config->displays, options);
        if (!config_has_device(config, "virtio-gpu") &&
            strcmp(options_string(options, "type"), "none")) {
            options_set_error(error, options, NULL, "the machine has no screen; add --gpu");
            return false;
        }
    }
    return true;
}

/* The run options, now that all have been seen. */
static bool take_run_options(struct config *config, JsonObject *run, GError **error)
{
    uint64_t memory;
    double timeout;

    config->run = options_from_json(run_options, "--", run, error);
    config->prepare = config->run ? options_string(config->run, "prepare") : NULL;
    return config->run && config_memory(config, &memory, error) &&
           config_timeout(config, &timeout, error) && take_displays(config, error);
}

struct config *config_from_arguments(char **argv, GError **error)
{
    g_autoptr(config_t) config = config_new();
    g_autoptr(JsonObject) run = json_object_new();

    if (!apply_words(config, run, argv, true, error) ||
        !apply_words(config, run, argv, false, error) || !take_run_options(config, run, error))
        return NULL;
    return g_steal_pointer(&config);
}

struct config *config_from_saved(const char *text, size_t size, unsigned flags, char **argv,
                                 GError **error)
{
    g_autoptr(config_t) config = config_new();
    g_autoptr(JsonObject) run = json_object_new();

    config->restoring = true;
    config->saved_flags = flags;
    if (size > CONFIG_MAX_FILE ||
        !options_json_is_flat(text, CONFIG_MAX_DEPTH, CONFIG_MAX_BRACKETS)) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "saved configuration: larger than 1 MiB, or nested too deeply");
        return NULL;
    }
    if (!load_text(config, run, text, size, "saved configuration", error))
        return NULL;
    if (flags & CONFIG_FOREIGN)
        config_drop_foreign_run(run);
    if (!apply_words(config, run, argv, false, error) || !take_run_options(config, run, error) ||
        (config->new_console && !config_override_console(config, error)) ||
        (!(flags & CONFIG_INCOMPLETE) && !config_check_complete(config, error)))
        return NULL;
    return g_steal_pointer(&config);
}

char *config_to_json(const struct config *config)
{
    g_autoptr(JsonGenerator) generator = json_generator_new();
    JsonNode *root = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = options_to_json(config->run, false);
    JsonArray *devices = json_array_new();
    char *text;

    for (guint i = 0; i < config->devices->len; i++) {
        const struct device_config *device = g_ptr_array_index(config->devices, i);
        JsonObject *member = options_to_json(device->options, false);

        config_put_type(member, device->type);
        json_array_add_object_element(devices, member);
    }
    json_object_set_array_member(object, "devices", devices);
    if (config->command) {
        JsonArray *words = json_array_new();

        for (char **word = config->command; *word; word++)
            json_array_add_string_element(words, *word);
        json_object_set_array_member(object, "command", words);
    }
    json_node_take_object(root, object);
    json_generator_set_root(generator, root);
    json_generator_set_pretty(generator, TRUE);
    text = json_generator_to_data(generator, NULL);
    json_node_unref(root);
    return text;
}

bool config_memory(const struct config *config, uint64_t *bytes, GError **error)
{
    const char *text = options_string(config->run, "memory");
    bool bare = text[0] && strspn(text, "0123456789") == strlen(text);
    g_autofree char *with_unit = bare ? g_strconcat(text, "M", NULL) : g_strdup(text);

    if (!options_parse_size(with_unit, bytes) || *bytes < RUN_MIN_MEMORY ||
        *bytes > RUN_MAX_MEMORY || *bytes % (1 << 20)) {
        options_set_error(error, config->run, "memory",
                          "must be whole mebibytes from 64M to 1T, for example 512M or 2G");
        return false;
    }
    return true;
}

bool config_timeout(const struct config *config, double *seconds, GError **error)
{
    const char *text = options_string(config->run, "timeout");
    char *end;

    *seconds = 0;
    if (!text)
        return true;
    *seconds = g_ascii_strtod(text, &end);
    if (!*end && end != text && *seconds > 0 && *seconds <= 1e7)
        return true;
    options_set_error(error, config->run, "timeout",
                      "must be seconds, more than 0, for example 30 or 0.5");
    return false;
}
