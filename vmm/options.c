/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options - the typed option tree (contract: vmm/options.h)
 *
 * Text and JSON both end in value_set(), so that every check and every message exists once.
 */
#include "vmm/options.h"

#include <errno.h>
#include <string.h>

struct value {
    bool given; /* by the user */
    bool set;   /* given, or a default */
    char *text; /* as given; BOOL and numbers print from number */
    uint64_t number;
    uint8_t mac[6];
    GPtrArray *list; /* of char *, NULL-terminated; LIST only */
};

struct options {
    int references; /* atomic */
    char *what;
    const struct option_spec *specs;
    unsigned count;
    struct value *values; /* one for each spec */
};

G_DEFINE_QUARK(lodge - options - error - quark, options_error)

/* ---- small parsers ---- */

static bool parse_uint(const char *text, uint64_t *number)
{
    bool is_hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    guint64 result;

    if (!g_ascii_string_to_unsigned(is_hex ? text + 2 : text, is_hex ? 16 : 10, 0, G_MAXUINT64,
                                    &result, NULL))
        return false;
    *number = result;
    return true;
}

bool options_parse_size(const char *text, uint64_t *bytes)
{
    static const char suffixes[] = "KMGT";
    size_t length = strlen(text);
    unsigned shift = 0;
    uint64_t number;

    if (length > 1 && g_ascii_isalpha(text[length - 1]) && !g_str_has_prefix(text, "0x")) {
        const char *suffix = strchr(suffixes, g_ascii_toupper(text[length - 1]));
        if (!suffix)
            return false;
        shift = 10 * (suffix - suffixes + 1);
        length--;
    }
    g_autofree char *digits = g_strndup(text, length);
    if (!parse_uint(digits, &number) || (shift && number > G_MAXUINT64 >> shift))
        return false;
    *bytes = number << shift;
    return true;
}

static char *format_size(uint64_t bytes)
{
    static const char suffixes[] = "KMGT";
    int last = -1;

    while (last < 3 && bytes && bytes % 1024 == 0) {
        bytes /= 1024;
        last++;
    }
    return last < 0 ? g_strdup_printf("%" G_GUINT64_FORMAT, bytes)
                    : g_strdup_printf("%" G_GUINT64_FORMAT "%c", bytes, suffixes[last]);
}

static bool parse_bool(const char *text, uint64_t *number)
{
    static const char *const words[2][5] = {{"off", "false", "no", "0"},
                                            {"on", "true", "yes", "1"}};

    for (unsigned i = 0; i < 2; i++)
        if (g_strv_contains(words[i], text)) {
            *number = i;
            return true;
        }
    return false;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
    uint8_t any = 0;

    if (strlen(text) != 17)
        return false;
    for (unsigned i = 0; i < 6; i++) {
        const char *pair = text + i * 3;
        if (!g_ascii_isxdigit(pair[0]) || !g_ascii_isxdigit(pair[1]) || (i < 5 && pair[2] != ':'))
            return false;
        mac[i] = g_ascii_xdigit_value(pair[0]) << 4 | g_ascii_xdigit_value(pair[1]);
        any |= mac[i];
    }
    return any && !(mac[0] & 1);
}

/* Optimal string alignment: insertions, deletions, replacements and swaps of neighbours. */
#define SUGGEST_MAX 32
static unsigned word_distance(const char *a, const char *b)
{
    unsigned d[SUGGEST_MAX + 1][SUGGEST_MAX + 1];
    unsigned la = strlen(a), lb = strlen(b);

    for (unsigned i = 0; i <= la; i++)
        d[i][0] = i;
    for (unsigned j = 0; j <= lb; j++)
        d[0][j] = j;
    for (unsigned i = 1; i <= la; i++)
        for (unsigned j = 1; j <= lb; j++) {
            char ca = g_ascii_tolower(a[i - 1]), cb = g_ascii_tolower(b[j - 1]);
            d[i][j] = MIN(MIN(d[i - 1][j], d[i][j - 1]) + 1, d[i - 1][j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == g_ascii_tolower(b[j - 2]) &&
                cb == g_ascii_tolower(a[i - 2]))
                d[i][j] = MIN(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[la][lb];
}

const char *options_suggest(const char *word, const char *const *candidates)
{
    size_t length = strlen(word);
    unsigned best = MIN(length / 3 + 1, 3); /* a distance that is worth a guess, exclusive bound */
    const char *suggestion = NULL;

    if (length == 0 || length > SUGGEST_MAX)
        return NULL;
    best = MAX(best, 2);
    for (; *candidates; candidates++) {
        if (strlen(*candidates) > SUGGEST_MAX)
            continue;
        unsigned distance = word_distance(word, *candidates);
        if (distance < best && distance < strlen(*candidates)) {
            best = distance;
            suggestion = *candidates;
        } else if (!suggestion && length >= 3 && g_str_has_prefix(*candidates, word)) {
            suggestion = *candidates; /* unless a closer one follows */
        }
    }
    return suggestion;
}

/* ---- errors ---- */

static void set_error(GError **error, const char *what, const char *key, const char *value,
                      const char *format, ...) G_GNUC_PRINTF(5, 6);
static void set_error(GError **error, const char *what, const char *key, const char *value,
                      const char *format, ...)
{
    g_autoptr(GString) text = g_string_new(NULL);
    bool alone = what && !strcmp(what, "--"); /* each key is an option of its own */
    va_list args;

    if (what && !(alone && key))
        g_string_append_printf(text, "%s: ", alone ? "options" : what);
    if (key) {
        g_string_append_printf(text, "%s%s", alone ? "--" : "", key);
        if (value)
            g_string_append_printf(text, "%c%s", alone ? ' ' : '=', value);
        g_string_append(text, ": ");
    }
    va_start(args, format);
    g_string_append_vprintf(text, format, args);
    va_end(args);
    g_set_error_literal(error, OPTIONS_ERROR, 0, text->str);
}

/* "must be 1 to 64", in the units of the option. */
static char *describe_range(const struct option_spec *spec)
{
    bool is_size = spec->type == OPTION_SIZE;
    g_autofree char *min =
        is_size ? format_size(spec->min) : g_strdup_printf("%" G_GUINT64_FORMAT, spec->min);
    g_autofree char *max =
        is_size ? format_size(spec->max) : g_strdup_printf("%" G_GUINT64_FORMAT, spec->max);

    if (spec->max)
        return g_strdup_printf("must be %s to %s", min, max);
    if (spec->min)
        return g_strdup_printf("must be at least %s", min);
    return g_strdup(is_size ? "must be a size in bytes, or with suffix K, M, G or T"
                            : "must be a number");
}

static void set_enum_error(GError **error, const char *what, const struct option_spec *spec,
                           const char *text)
{
    g_autofree char *choices = g_strjoinv(", ", (char **)spec->choices);
    const char *suggestion = options_suggest(text, spec->choices);

    if (suggestion)
        set_error(error, what, spec->key, text, "must be one of %s (did you mean '%s'?)", choices,
                  suggestion);
    else
        set_error(error, what, spec->key, text, "must be one of %s", choices);
}

static void set_unknown_key_error(GError **error, const char *what, const struct option_spec *specs,
                                  const char *key)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();

    for (const struct option_spec *spec = specs; spec->type != OPTION_NONE; spec++)
        g_ptr_array_add(keys, (gpointer)spec->key);
    g_ptr_array_add(keys, NULL);
    if (keys->len == 1) {
        set_error(error, what, NULL, NULL, "unknown key '%s'; it takes no options", key);
        return;
    }
    g_autofree char *allowed = g_strjoinv(", ", (char **)keys->pdata);
    const char *suggestion = options_suggest(key, (const char *const *)keys->pdata);
    if (suggestion)
        set_error(error, what, NULL, NULL, "unknown key '%s' (did you mean '%s'?); allowed: %s",
                  key, suggestion, allowed);
    else
        set_error(error, what, NULL, NULL, "unknown key '%s'; allowed: %s", key, allowed);
}

/* ---- values ---- */

static bool value_check(const struct option_spec *spec, const char *what, struct value *value,
                        const char *text, GError **error)
{
    switch (spec->type) {
    case OPTION_NONE:
    case OPTION_STRING:
    case OPTION_LIST:
        return true;
    case OPTION_PATH:
        if (!*text) {
            set_error(error, what, spec->key, text, "must name a file");
            return false;
        }
        return true;
    case OPTION_BOOL:
        if (!parse_bool(text, &value->number)) {
            set_error(error, what, spec->key, text, "must be on or off");
            return false;
        }
        return true;
    case OPTION_UINT:
    case OPTION_SIZE:
        if (!(spec->type == OPTION_SIZE ? options_parse_size(text, &value->number)
                                        : parse_uint(text, &value->number)) ||
            value->number < spec->min || (spec->max && value->number > spec->max)) {
            g_autofree char *range = describe_range(spec);
            set_error(error, what, spec->key, text, "%s", range);
            return false;
        }
        return true;
    case OPTION_ENUM:
        if (!g_strv_contains(spec->choices, text)) {
            set_enum_error(error, what, spec, text);
            return false;
        }
        return true;
    case OPTION_MAC:
        if (!parse_mac(text, value->mac)) {
            set_error(error, what, spec->key, text,
                      "must be a unicast MAC address such as 52:54:00:12:34:56");
            return false;
        }
        return true;
    }
    g_assert_not_reached();
}

/* Takes @text for the option at @index: the one place where a value enters. */
static bool value_set(struct options *options, unsigned index, const char *text, bool given,
                      GError **error)
{
    const struct option_spec *spec = &options->specs[index];
    struct value *value = &options->values[index];

    if (given && value->given && spec->type != OPTION_LIST) {
        set_error(error, options->what, spec->key, text, "%s was already given as '%s'", spec->key,
                  value->text);
        return false;
    }
    if (!value_check(spec, options->what, value, text, error))
        return false;
    if (spec->type == OPTION_LIST) {
        /* The first that is given replaces the default. */
        if (given && !value->given)
            g_clear_pointer(&value->list, g_ptr_array_unref);
        if (!value->list) {
            value->list = g_ptr_array_new_with_free_func(g_free);
            g_ptr_array_add(value->list, NULL);
        }
        g_ptr_array_insert(value->list, value->list->len - 1, g_strdup(text));
    } else {
        g_free(value->text);
        value->text = g_strdup(text);
    }
    value->set = true;
    value->given = given;
    return true;
}

static int find_spec(const struct option_spec *specs, const char *key)
{
    for (int i = 0; specs[i].type != OPTION_NONE; i++)
        if (!strcmp(specs[i].key, key))
            return i;
    return -1;
}

static struct options *options_new(const struct option_spec *specs, const char *what)
{
    struct options *options = g_new0(struct options, 1);

    options->references = 1;
    options->what = g_strdup(what);
    options->specs = specs;
    while (specs[options->count].type != OPTION_NONE)
        options->count++;
    options->values = g_new0(struct value, options->count);
    for (unsigned i = 0; i < options->count; i++) {
        g_autoptr(GError) error = NULL;
        if (specs[i].value && !value_set(options, i, specs[i].value, false, &error))
            g_error("the default of an option breaks its own rule: %s", error->message);
    }
    return options;
}

/* Everything that is only known once all values are in. */
static bool options_complete(const struct options *options, GError **error)
{
    for (unsigned i = 0; i < options->count; i++) {
        const struct option_spec *spec = &options->specs[i];
        if ((spec->flags & OPTION_REQUIRED) && !options->values[i].set) {
            set_error(error, options->what, NULL, NULL, "%s=... is missing (%s)", spec->key,
                      spec->help ? spec->help : "it is required");
            return false;
        }
    }
    return true;
}

/* ---- from text ---- */

/* Cuts the next item off at a single comma; a doubled one stays as one. NULL at the end. */
static char *next_item(const char **text)
{
    g_autoptr(GString) item = g_string_new(NULL);
    const char *p = *text;

    if (!p)
        return NULL;
    for (; *p; p++) {
        if (*p == ',' && p[1] != ',')
            break;
        if (*p == ',')
            p++;
        g_string_append_c(item, *p);
    }
    *text = *p ? p + 1 : NULL;
    return g_string_free(g_steal_pointer(&item), FALSE);
}

static bool is_key(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!g_ascii_isalnum(text[i]) && !strchr("-_.", text[i]))
            return false;
    return length > 0;
}

static int find_first(const struct option_spec *specs)
{
    for (int i = 0; specs[i].type != OPTION_NONE; i++)
        if (specs[i].flags & OPTION_FIRST)
            return i;
    return -1;
}

static bool parse_item(struct options *options, const char *item, bool is_first, GError **error)
{
    const char *equals = strchr(item, '=');
    int first = is_first ? find_first(options->specs) : -1;

    if (!*item) {
        set_error(error, options->what, NULL, NULL,
                  "nothing before or after a comma (a comma in a value is doubled: ',,')");
        return false;
    }
    /* "/tmp/a=b.img" is a bare value too: no key looks like that. */
    if (first >= 0 && (!equals || !is_key(item, equals - item)))
        return value_set(options, first, item, true, error);

    g_autofree char *key = equals ? g_strndup(item, equals - item) : g_strdup(item);
    int index = find_spec(options->specs, key);
    if (index < 0) {
        set_unknown_key_error(error, options->what, options->specs, key);
        return false;
    }
    if (!equals && options->specs[index].type != OPTION_BOOL) {
        set_error(error, options->what, key, NULL, "needs a value: %s=...", key);
        return false;
    }
    return value_set(options, index, equals ? equals + 1 : "on", true, error);
}

struct options *options_parse(const struct option_spec *specs, const char *what, const char *text,
                              GError **error)
{
    g_autoptr(options_t) options = options_new(specs, what);
    const char *rest = text && *text ? text : NULL;
    bool is_first = true;

    while (rest) {
        g_autofree char *item = next_item(&rest);
        if (!parse_item(options, item, is_first, error))
            return NULL;
        is_first = false;
    }
    if (!options_complete(options, error))
        return NULL;
    return g_steal_pointer(&options);
}

/* ---- from JSON ---- */

/* The text form of a JSON scalar that suits @type, or NULL. */
static char *scalar_text(JsonNode *node, enum option_type type)
{
    if (!JSON_NODE_HOLDS_VALUE(node))
        return NULL;
    GType held = json_node_get_value_type(node);
    if (held == G_TYPE_STRING)
        return json_node_dup_string(node);
    if (held == G_TYPE_BOOLEAN && type == OPTION_BOOL)
        return g_strdup(json_node_get_boolean(node) ? "on" : "off");
    if (held == G_TYPE_INT64 && (type == OPTION_UINT || type == OPTION_SIZE))
        return g_strdup_printf("%" G_GINT64_FORMAT, json_node_get_int(node));
    return NULL;
}

static const char *json_form(enum option_type type)
{
    switch (type) {
    case OPTION_BOOL:
        return "true or false";
    case OPTION_UINT:
        return "a number";
    case OPTION_SIZE:
        return "a number of bytes or a string such as \"64M\"";
    case OPTION_LIST:
        return "an array of strings";
    default:
        return "a string";
    }
}

static bool json_member(struct options *options, const char *key, JsonNode *node, GError **error)
{
    int index = find_spec(options->specs, key);

    if (index < 0) {
        set_unknown_key_error(error, options->what, options->specs, key);
        return false;
    }
    enum option_type type = options->specs[index].type;
    bool is_array = type == OPTION_LIST && JSON_NODE_HOLDS_ARRAY(node);
    JsonArray *array = is_array ? json_node_get_array(node) : NULL;
    unsigned length = is_array ? json_array_get_length(array) : 1;

    for (unsigned i = 0; i < length; i++) {
        JsonNode *element = is_array ? json_array_get_element(array, i) : node;
        g_autofree char *text = scalar_text(element, type);
        if (!text) {
            g_autofree char *shown = json_to_string(element, FALSE);
            set_error(error, options->what, key, shown, "must be %s", json_form(type));
            return false;
        }
        if (!value_set(options, index, text, true, error))
            return false;
    }
    return true;
}

bool options_json_is_flat(const char *text, unsigned depth, unsigned brackets)
{
    unsigned open = 0;
    bool string = false;

    for (const char *p = text; *p; p++)
        if ((*p == '{' || *p == '[') && !brackets--)
            return false;
    for (; *text; text++) {
        if (string && *text == '\\' && text[1])
            text++;
        else if (*text == '"')
            string = !string;
        else if (!string && (*text == '{' || *text == '[') && ++open > depth)
            return false;
        else if (!string && (*text == '}' || *text == ']') && open)
            open--;
    }
    return true;
}

struct options *options_from_json(const struct option_spec *specs, const char *what,
                                  JsonObject *object, GError **error)
{
    g_autoptr(options_t) options = options_new(specs, what);
    g_autoptr(GList) keys = json_object_get_members(object);

    for (GList *key = keys; key; key = key->next)
        if (!json_member(options, key->data, json_object_get_member(object, key->data), error))
            return NULL;
    if (!options_complete(options, error))
        return NULL;
    return g_steal_pointer(&options);
}

struct options *options_ref(struct options *options)
{
    g_atomic_int_inc(&options->references);
    return options;
}

void options_free(struct options *options)
{
    if (!options || !g_atomic_int_dec_and_test(&options->references))
        return;
    for (unsigned i = 0; i < options->count; i++) {
        g_free(options->values[i].text);
        if (options->values[i].list)
            g_ptr_array_unref(options->values[i].list);
    }
    g_free(options->values);
    g_free(options->what);
    g_free(options);
}

/* ---- back out ---- */

JsonObject *options_to_json(const struct options *options, bool all)
{
    JsonObject *object = json_object_new();

    for (unsigned i = 0; i < options->count; i++) {
        const struct option_spec *spec = &options->specs[i];
        const struct value *value = &options->values[i];

        if (!(all ? value->set : value->given))
            continue;
        if (spec->type == OPTION_BOOL) {
            json_object_set_boolean_member(object, spec->key, value->number);
        } else if ((spec->type == OPTION_UINT || spec->type == OPTION_SIZE) &&
                   value->number <= G_MAXINT64) {
            json_object_set_int_member(object, spec->key, value->number);
        } else if (spec->type == OPTION_LIST) {
            JsonArray *array = json_array_new();
            for (unsigned n = 0; n + 1 < value->list->len; n++)
                json_array_add_string_element(array, value->list->pdata[n]);
            json_object_set_array_member(object, spec->key, array);
        } else {
            json_object_set_string_member(object, spec->key, value->text);
        }
    }
    return object;
}

static void append_text(GString *text, const char *key, const char *value)
{
    g_string_append_printf(text, "%s%s=", text->len ? "," : "", key);
    for (; *value; value++) {
        if (*value == ',')
            g_string_append_c(text, ',');
        g_string_append_c(text, *value);
    }
}

char *options_to_text(const struct options *options)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < options->count; i++) {
        const struct value *value = &options->values[i];

        if (!value->given)
            continue;
        if (options->specs[i].type == OPTION_LIST)
            for (unsigned n = 0; n + 1 < value->list->len; n++)
                append_text(text, options->specs[i].key, value->list->pdata[n]);
        else
            append_text(text, options->specs[i].key, value->text);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* ---- getters ---- */

const char *options_what(const struct options *options)
{
    return options->what;
}

static const struct value *get(const struct options *options, const char *key, unsigned types)
{
    int index = find_spec(options->specs, key);

    /* The caller's own table: asking for what is not in it is a bug in the program, not input. */
    if (index < 0)
        g_error("%s has no option '%s'", options->what, key);
    if (!(types & 1u << options->specs[index].type))
        g_error("%s: option '%s' has another type", options->what, key);
    return &options->values[index];
}

const char *options_string(const struct options *options, const char *key)
{
    return get(options, key, 1u << OPTION_STRING | 1u << OPTION_PATH | 1u << OPTION_ENUM)->text;
}

bool options_bool(const struct options *options, const char *key)
{
    return get(options, key, 1u << OPTION_BOOL)->number;
}

uint64_t options_uint(const struct options *options, const char *key)
{
    return get(options, key, 1u << OPTION_UINT | 1u << OPTION_SIZE)->number;
}

const char *const *options_list(const struct options *options, const char *key)
{
    static const char *const empty[] = {NULL};
    const struct value *value = get(options, key, 1u << OPTION_LIST);

    return value->list ? (const char *const *)value->list->pdata : empty;
}

bool options_mac(const struct options *options, const char *key, uint8_t mac[6])
{
    const struct value *value = get(options, key, 1u << OPTION_MAC);

    if (value->set)
        memcpy(mac, value->mac, 6);
    return value->set;
}

bool options_given(const struct options *options, const char *key)
{
    return get(options, key, ~0u)->given;
}

void options_set_error(GError **error, const struct options *options, const char *key,
                       const char *reason, ...)
{
    int index = options && key ? find_spec(options->specs, key) : -1;
    const char *value = index >= 0 ? options->values[index].text : NULL;
    va_list args;

    va_start(args, reason);
    g_autofree char *text = g_strdup_vprintf(reason, args);
    va_end(args);
    set_error(error, options ? options->what : NULL, key, value, "%s", text);
}
