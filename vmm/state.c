/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state - the codec of the state tables (contract and encoding: vmm/state.h)
 *
 * Loading goes over the stream twice with the same code: once to check all of it, once to store. So
 * nothing is stored from a stream that is bad somewhere, whatever the object looks like, and the
 * second pass can't fail. What bounds the work is the reader's own table: unknown fields are skipped
 * whole, so nesting is never the stream's choice.
 */
#include "vmm/state.h"

#include <gio/gio.h>
#include <string.h>

#define FIELD_REQUIRED 1u

static const struct kind_info {
    const char *name;
    unsigned size; /* of an element in stream and object alike, or 0 */
} kinds[] = {
    [STATE_KIND_END] = {"end", 0},       [STATE_KIND_U8] = {"u8", 1},
    [STATE_KIND_U16] = {"u16", 2},       [STATE_KIND_U32] = {"u32", 4},
    [STATE_KIND_U64] = {"u64", 8},       [STATE_KIND_BOOL] = {"bool", 1},
    [STATE_KIND_BYTES] = {"bytes", 1},   [STATE_KIND_TABLE] = {"table", 0},
    [STATE_KIND_BUFFER] = {"buffer", 1},
};

static const char *kind_name(unsigned kind)
{
    return kind < G_N_ELEMENTS(kinds) ? kinds[kind].name : "unknown";
}

static unsigned field_count(const struct state_table *table)
{
    unsigned count = 0;

    while (table->fields[count].kind != STATE_KIND_END)
        count++;
    return count;
}

/* ---- elements in memory ---- */

static uint64_t load_int(const void *p, enum state_kind kind)
{
    switch (kind) {
    case STATE_KIND_U8:
        return *(const uint8_t *)p;
    case STATE_KIND_U16:
        return *(const uint16_t *)p;
    case STATE_KIND_U32:
        return *(const uint32_t *)p;
    case STATE_KIND_U64:
        return *(const uint64_t *)p;
    default:
        return *(const bool *)p;
    }
}

static void store_int(void *p, enum state_kind kind, uint64_t value)
{
    switch (kind) {
    case STATE_KIND_U8:
        *(uint8_t *)p = value;
        break;
    case STATE_KIND_U16:
        *(uint16_t *)p = value;
        break;
    case STATE_KIND_U32:
        *(uint32_t *)p = value;
        break;
    case STATE_KIND_U64:
        *(uint64_t *)p = value;
        break;
    default:
        *(bool *)p = value;
        break;
    }
}

static uint8_t *field_base(const struct state_field *field, const void *object)
{
    uint8_t *p = (uint8_t *)object + field->offset;

    return field->indirect ? *(uint8_t **)p : p;
}

/* Elements of @field that @object has now. */
static size_t live_count(const struct state_field *field, const void *object)
{
    size_t count = field->count;

    if (field->count_offset >= 0)
        count = MIN(count, *(const uint32_t *)((const uint8_t *)object + field->count_offset));
    return field_base(field, object) ? count : 0;
}

/* ---- saving ---- */

static void put_int(GByteArray *out, uint64_t value, unsigned size)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < size; i++)
        bytes[i] = value >> (8 * i);
    g_byte_array_append(out, bytes, size);
}

static void save_payload(const struct state_field *field, const void *object, GByteArray *out)
{
    const uint8_t *p = field_base(field, object);

    if (field->kind == STATE_KIND_BUFFER) {
        const GByteArray *buffer = *(GByteArray *const *)p;
        if (buffer)
            g_byte_array_append(out, buffer->data, MIN(buffer->len, field->count));
    } else if (field->kind == STATE_KIND_BYTES) {
        g_byte_array_append(out, p, field->count);
    } else {
        size_t count = live_count(field, object);
        for (size_t i = 0; i < count; i++, p += field->stride)
            if (field->kind == STATE_KIND_TABLE)
                state_save(field->table, p, out);
            else
                put_int(out, load_int(p, field->kind), kinds[field->kind].size);
    }
}

void state_save(const struct state_table *table, const void *object, GByteArray *out)
{
    put_int(out, table->version, 2);
    put_int(out, field_count(table), 4);
    for (const struct state_field *field = table->fields; field->kind != STATE_KIND_END; field++) {
        size_t name_length = strlen(field->name);

        if (name_length == 0 || name_length > UINT8_MAX)
            g_error("state table %s: a field name of %zu bytes", table->name, name_length);
        put_int(out, name_length, 1);
        g_byte_array_append(out, (const uint8_t *)field->name, name_length);
        put_int(out, field->kind, 1);
        put_int(out, field->optional ? 0 : FIELD_REQUIRED, 1);
        guint length_at = out->len;
        put_int(out, 0, 4);
        save_payload(field, object, out);
        uint32_t length = GUINT32_TO_LE(out->len - length_at - 4);
        memcpy(out->data + length_at, &length, 4);
    }
}

/* ---- loading ---- */

struct reader {
    const uint8_t *data;
    size_t left;
};

/* Where we are, for messages; a chain on the stack. */
struct place {
    const struct place *parent;
    const char *name;
    size_t index;
    bool has_index;
};

static void append_place(GString *text, const struct place *place)
{
    if (place->parent) {
        append_place(text, place->parent);
        g_string_append_c(text, '.');
    }
    g_string_append(text, place->name);
    if (place->has_index)
        g_string_append_printf(text, "[%zu]", place->index);
}

static bool fail(const struct place *place, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static bool fail(const struct place *place, GError **error, const char *format, ...)
{
    g_autoptr(GString) text = g_string_new(NULL);
    va_list args;

    append_place(text, place);
    g_string_append(text, ": ");
    va_start(args, format);
    g_string_append_vprintf(text, format, args);
    va_end(args);
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, text->str);
    return false;
}

/* The next @size bytes, or NULL. */
static const uint8_t *take(struct reader *reader, size_t size)
{
    const uint8_t *data = reader->data;

    if (size > reader->left)
        return NULL;
    reader->data += size;
    reader->left -= size;
    return data;
}

static bool take_int(struct reader *reader, unsigned size, uint64_t *value)
{
    const uint8_t *bytes = take(reader, size);

    if (!bytes)
        return false;
    *value = 0;
    for (unsigned i = 0; i < size; i++)
        *value |= (uint64_t)bytes[i] << (8 * i);
    return true;
}

/* One table of the stream while it is read. */
struct table_reader {
    const struct state_table *table;
    void *object;
    bool store; /* second pass */
    const struct place *place;
    unsigned count;
    bool *seen;       /* by index of the field */
    uint32_t *values; /* of single u32 fields: they may count elements */
};

static bool load_table(const struct state_table *table, void *object, struct reader *reader,
                       bool store, const struct place *place, GError **error);

static bool counts(const struct state_field *counter, const struct state_field *field)
{
    return field->count_offset >= 0 && counter->kind == STATE_KIND_U32 && counter->count == 1 &&
           (ptrdiff_t)counter->offset == field->count_offset;
}

/* How many elements the stream has for @field: what the stream itself said in the counting field. */
static bool stream_count(const struct state_field *field, const struct table_reader *t,
                         const struct place *place, size_t *count, GError **error)
{
    *count = field->count;
    if (field->count_offset >= 0) {
        *count = *(const uint32_t *)((const uint8_t *)t->object + field->count_offset);
        for (unsigned i = 0; i < t->count; i++)
            if (t->seen[i] && counts(&t->table->fields[i], field))
                *count = t->values[i];
    }
    if (*count > field->count)
        return fail(place, error, "%zu elements in the stream, at most %zu are possible", *count,
                    field->count);
    if (*count && !field_base(field, t->object))
        return fail(place, error, "%zu elements in the stream, but there is no room for any",
                    *count);
    return true;
}

/* @counter has a new value: it must come before what it counts, and suit it. */
static bool check_counter(const struct state_field *counter, const struct table_reader *t,
                          uint32_t value, const struct place *place, GError **error)
{
    for (unsigned i = 0; i < t->count; i++) {
        const struct state_field *field = &t->table->fields[i];
        if (!counts(counter, field))
            continue;
        if (t->seen[i])
            return fail(place, error, "comes after %s in the stream, which it counts", field->name);
        if (value > field->count || (value && !field_base(field, t->object)))
            return fail(place, error, "%u in the stream, at most %zu elements of %s are possible",
                        value, field_base(field, t->object) ? field->count : 0, field->name);
    }
    return true;
}

static bool load_ints(const struct state_field *field, struct table_reader *t,
                      struct reader *payload, const struct place *place, GError **error)
{
    unsigned size = kinds[field->kind].size;
    size_t count;

    if (!stream_count(field, t, place, &count, error))
        return false;
    if (payload->left != count * size)
        return fail(place, error, "%zu bytes in the stream, %zu expected", payload->left,
                    count * size);
    uint8_t *p = field_base(field, t->object);
    for (size_t i = 0; i < count; i++, p += field->stride) {
        uint64_t value = 0;
        take_int(payload, size, &value);
        if (field->kind == STATE_KIND_BOOL && value > 1)
            return fail(place, error, "neither true nor false: %u", (unsigned)value);
        if (field->kind == STATE_KIND_U32 && field->count == 1) {
            if (!check_counter(field, t, value, place, error))
                return false;
            t->values[field - t->table->fields] = value;
        }
        if (t->store)
            store_int(p, field->kind, value);
    }
    return true;
}

static bool load_tables(const struct state_field *field, struct table_reader *t,
                        struct reader *payload, const struct place *place, GError **error)
{
    size_t count;

    if (!stream_count(field, t, place, &count, error))
        return false;
    uint8_t *p = field_base(field, t->object);
    for (size_t i = 0; i < count; i++, p += field->stride) {
        struct place element = *place;
        element.has_index = field->count > 1;
        element.index = i;
        if (!load_table(field->table, p, payload, t->store, &element, error))
            return false;
    }
    if (payload->left)
        return fail(place, error, "%zu bytes left over after %zu elements", payload->left, count);
    return true;
}

static bool load_payload(const struct state_field *field, struct table_reader *t,
                         struct reader *payload, const struct place *place, GError **error)
{
    switch (field->kind) {
    case STATE_KIND_TABLE:
        return load_tables(field, t, payload, place, error);
    case STATE_KIND_BYTES:
        if (payload->left != field->count)
            return fail(place, error, "%zu bytes in the stream, %zu expected", payload->left,
                        field->count);
        if (t->store)
            memcpy(field_base(field, t->object), payload->data, field->count);
        return true;
    case STATE_KIND_BUFFER:
        if (payload->left > field->count)
            return fail(place, error, "%zu bytes in the stream, at most %zu are possible",
                        payload->left, field->count);
        if (t->store) {
            GByteArray **buffer = (GByteArray **)field_base(field, t->object);
            if (!*buffer)
                *buffer = g_byte_array_new();
            g_byte_array_set_size(*buffer, 0);
            g_byte_array_append(*buffer, payload->data, payload->left);
        }
        return true;
    default:
        return load_ints(field, t, payload, place, error);
    }
}

static int find_field(const struct table_reader *t, const uint8_t *name, size_t length)
{
    for (unsigned i = 0; i < t->count; i++)
        if (strlen(t->table->fields[i].name) == length &&
            !memcmp(t->table->fields[i].name, name, length))
            return i;
    return -1;
}

static bool load_field(struct table_reader *t, struct reader *reader, GError **error)
{
    uint64_t name_length, kind, flags, length;
    const uint8_t *name, *data;

    if (!take_int(reader, 1, &name_length) || !(name = take(reader, name_length)) ||
        !take_int(reader, 1, &kind) || !take_int(reader, 1, &flags) ||
        !take_int(reader, 4, &length))
        return fail(t->place, error, "the stream ends between two fields");

    int index = find_field(t, name, name_length);
    g_autofree char *raw = index < 0 ? g_strndup((const char *)name, name_length) : NULL;
    g_autofree char *unknown = raw ? g_strescape(raw, NULL) : NULL; /* it goes to a terminal */
    struct place place = {t->place, unknown ? unknown : t->table->fields[index].name, 0, false};

    if (!(data = take(reader, length)))
        return fail(&place, error, "the stream ends inside it: %zu of %zu bytes", reader->left,
                    (size_t)length);
    if (index < 0)
        return flags & FIELD_REQUIRED
                   ? fail(&place, error, "required, but unknown to this version of lodge")
                   : true;
    const struct state_field *field = &t->table->fields[index];
    if (kind != field->kind)
        return fail(&place, error, "its kind is %s in the stream, %s expected", kind_name(kind),
                    kind_name(field->kind));
    if (t->seen[index])
        return fail(&place, error, "twice in the stream");
    struct reader payload = {data, length};
    if (!load_payload(field, t, &payload, &place, error))
        return false;
    t->seen[index] = true;
    return true;
}

static bool load_table(const struct state_table *table, void *object, struct reader *reader,
                       bool store, const struct place *place, GError **error)
{
    uint64_t version, fields;

    if (!take_int(reader, 2, &version) || !take_int(reader, 4, &fields))
        return fail(place, error, "the stream ends before it");
    if (version < table->min_version)
        return fail(place, error, "version %u in the stream, %u is the oldest that can be read",
                    (unsigned)version, table->min_version);

    unsigned count = field_count(table);
    g_autofree bool *seen = g_new0(bool, count + 1);
    g_autofree uint32_t *values = g_new0(uint32_t, count + 1);
    struct table_reader t = {table, object, store, place, count, seen, values};

    /* Each turn takes bytes or fails, so the stream's size bounds the number of turns. */
    for (uint64_t i = 0; i < fields; i++)
        if (!load_field(&t, reader, error))
            return false;
    for (unsigned i = 0; i < count; i++) {
        const struct state_field *field = &table->fields[i];
        struct place missing = {place, field->name, 0, false};
        if (!seen[i] && field->since <= version && !field->optional)
            return fail(&missing, error, "missing in the stream");
    }
    return true;
}

bool state_load(const struct state_table *table, void *object, const uint8_t *data, size_t size,
                GError **error)
{
    struct place place = {NULL, table->name, 0, false};

    for (int store = 0; store <= 1; store++) {
        struct reader reader = {data, size};
        if (!load_table(table, object, &reader, store, &place, error))
            return false;
        if (reader.left)
            return fail(&place, error, "%zu bytes left over at its end", reader.left);
    }
    return true;
}

/* ---- JSON ---- */

static JsonNode *hex_node(const uint8_t *data, size_t size)
{
    g_autoptr(GString) text = g_string_sized_new(2 * size);

    for (size_t i = 0; i < size; i++)
        g_string_append_printf(text, "%02x", data[i]);
    return json_node_init_string(json_node_alloc(), text->str);
}

static JsonNode *element_node(const struct state_field *field, const uint8_t *p)
{
    if (field->kind == STATE_KIND_TABLE)
        return state_to_json(field->table, p);
    uint64_t value = load_int(p, field->kind);
    if (field->kind == STATE_KIND_BOOL)
        return json_node_init_boolean(json_node_alloc(), value);
    if (value <= G_MAXINT64)
        return json_node_init_int(json_node_alloc(), value);
    /* JSON's integers are signed here. */
    g_autofree char *text = g_strdup_printf("0x%" G_GINT64_MODIFIER "x", (guint64)value);
    return json_node_init_string(json_node_alloc(), text);
}

static JsonNode *field_node(const struct state_field *field, const void *object)
{
    const uint8_t *p = field_base(field, object);

    if (field->kind == STATE_KIND_BUFFER) {
        const GByteArray *buffer = *(GByteArray *const *)p;
        return hex_node(buffer ? buffer->data : NULL, buffer ? buffer->len : 0);
    }
    if (field->kind == STATE_KIND_BYTES)
        return hex_node(p, field->count);
    if (field->count == 1 && field->count_offset < 0)
        return element_node(field, p);

    JsonArray *array = json_array_new();
    size_t count = live_count(field, object);
    for (size_t i = 0; i < count; i++)
        json_array_add_element(array, element_node(field, p + i * field->stride));
    JsonNode *node = json_node_init_array(json_node_alloc(), array);
    json_array_unref(array);
    return node;
}

JsonNode *state_to_json(const struct state_table *table, const void *object)
{
    JsonObject *members = json_object_new();

    for (const struct state_field *field = table->fields; field->kind != STATE_KIND_END; field++)
        json_object_set_member(members, field->name, field_node(field, object));
    JsonNode *node = json_node_init_object(json_node_alloc(), members);
    json_object_unref(members);
    return node;
}
