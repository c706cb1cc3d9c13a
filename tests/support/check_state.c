/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checks that every state table must pass (see check_state.h). */
#include "tests/support/check_state.h"

#include <string.h>

static size_t element_size(const struct state_field *field)
{
    switch (field->kind) {
    case STATE_KIND_U8:
    case STATE_KIND_BYTES:
        return 1;
    case STATE_KIND_BOOL:
        return sizeof(bool);
    case STATE_KIND_U16:
        return 2;
    case STATE_KIND_U32:
        return 4;
    case STATE_KIND_U64:
        return 8;
    case STATE_KIND_BUFFER:
        return sizeof(GByteArray *);
    default:
        return field->stride;
    }
}

static bool is_int(const struct state_field *field)
{
    return field->kind >= STATE_KIND_U8 && field->kind <= STATE_KIND_BOOL;
}

static const struct state_field *find_counter(const struct state_table *table,
                                              const struct state_field *end)
{
    for (const struct state_field *field = table->fields; field < end; field++)
        if (end->count_offset >= 0 && (ptrdiff_t)field->offset == end->count_offset)
            return field;
    return NULL;
}

static size_t field_end(const struct state_field *field)
{
    if (field->indirect)
        return field->offset + sizeof(void *);
    if (field->kind == STATE_KIND_BUFFER)
        return field->offset + sizeof(GByteArray *);
    return field->offset + (field->count - 1) * field->stride + element_size(field);
}

void check_state_table(const struct state_table *table)
{
    g_assert_nonnull(table->name);
    g_assert_cmpuint(table->min_version, >=, 1);
    g_assert_cmpuint(table->min_version, <=, table->version);
    for (const struct state_field *field = table->fields; field->kind != STATE_KIND_END; field++) {
        g_test_message("%s.%s", table->name, field->name);
        g_assert_cmpuint(strlen(field->name), >, 0);
        g_assert_cmpuint(strlen(field->name), <, 256);
        g_assert_cmpuint(field->count, >, 0);
        g_assert_cmpuint(field->since, >=, 1);
        g_assert_cmpuint(field->since, <=, table->version);
        if (is_int(field) && !field->indirect && field->count == 1)
            g_assert_cmpuint(field->stride, ==, element_size(field));
        if (field->kind == STATE_KIND_TABLE)
            check_state_table(field->table);
        const struct state_field *counter = find_counter(table, field);
        if (counter) {
            g_assert_cmpint(counter->kind, ==, STATE_KIND_U32);
            g_assert_cmpuint(counter->count, ==, 1);
        }
        for (const struct state_field *other = table->fields; other < field; other++) {
            g_assert_cmpstr(other->name, !=, field->name);
            g_assert_true(field_end(other) <= field->offset || field_end(field) <= other->offset);
        }
    }
}

static uint32_t counter_limit(const struct state_table *table, const struct state_field *counter)
{
    uint32_t limit = UINT32_MAX;

    for (const struct state_field *field = table->fields; field->kind != STATE_KIND_END; field++)
        if (field->count_offset >= 0 && field->count_offset == (ptrdiff_t)counter->offset)
            limit = MIN(limit, field->count);
    return limit;
}

static void randomize_field(const struct state_table *table, const struct state_field *field,
                            uint8_t *object, GRand *rand)
{
    uint8_t *p = object + field->offset;
    size_t count = field->count;

    if (field->indirect)
        p = *(uint8_t **)p;
    if (field->count_offset >= 0)
        count = MIN(count, *(uint32_t *)(object + field->count_offset));
    if (field->kind == STATE_KIND_BUFFER) {
        GByteArray **buffer = (GByteArray **)p;
        if (!*buffer)
            *buffer = g_byte_array_new();
        g_byte_array_set_size(*buffer, g_rand_int(rand) % (MIN(field->count, 300) + 1));
        for (guint i = 0; i < (*buffer)->len; i++)
            (*buffer)->data[i] = g_rand_int(rand);
        return;
    }
    for (size_t i = 0; p && i < count; i++, p += field->stride) {
        uint64_t value = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
        if (field->kind == STATE_KIND_TABLE) {
            check_state_randomize(field->table, p, rand);
            continue;
        }
        if (field->kind == STATE_KIND_BOOL)
            value &= 1;
        if (field->kind == STATE_KIND_U32 && field->count == 1 &&
            counter_limit(table, field) != UINT32_MAX)
            value %= counter_limit(table, field) + UINT64_C(1);
        memcpy(p, &value, element_size(field));
    }
}

void check_state_randomize(const struct state_table *table, void *object, GRand *rand)
{
    for (const struct state_field *field = table->fields; field->kind != STATE_KIND_END; field++)
        randomize_field(table, field, object, rand);
}

void check_state_round_trip(const struct state_table *table, const void *from, void *to)
{
    g_autoptr(GByteArray) first = g_byte_array_new();
    g_autoptr(GByteArray) second = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    state_save(table, from, first);
    bool loaded = state_load(table, to, first->data, first->len, &error);
    g_assert_no_error(error);
    g_assert_true(loaded);
    state_save(table, to, second);
    g_assert_cmpmem(first->data, first->len, second->data, second->len);
}

void check_state_truncated(const struct state_table *table, const void *object, void *to)
{
    g_autoptr(GByteArray) whole = g_byte_array_new();
    g_autoptr(GByteArray) before = g_byte_array_new();

    state_save(table, object, whole);
    state_save(table, to, before);
    for (guint size = 0; size < whole->len; size++) {
        g_autofree uint8_t *copy = g_memdup2(whole->data, size);
        g_autoptr(GByteArray) after = g_byte_array_new();
        g_autoptr(GError) error = NULL;

        g_assert_false(state_load(table, to, copy, size, &error));
        g_assert_true(g_str_has_prefix(error->message, table->name));
        state_save(table, to, after);
        g_assert_cmpmem(before->data, before->len, after->data, after->len);
    }
}
