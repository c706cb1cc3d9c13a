/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: state streams. Whatever comes in, a stream that loads leaves an object within its
 * bounds that saves and loads again to the same; one that does not load changes nothing.
 */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ITEMS 4u
#define SLOTS 6u
#define LOG   32u

struct item {
    uint16_t size;
    bool ready;
    uint32_t count;
    uint8_t pad; /* not saved */
    struct {
        uint64_t address;
    } pages[2];
};

struct object {
    uint8_t u8;
    uint16_t words[3];
    uint64_t u64;
    bool flag;
    uint8_t bytes[5];
    struct item one;
    uint32_t item_count;
    struct item items[ITEMS];
    uint32_t slot_count;
    struct item *slots;
    GByteArray *log;
    uint32_t later;
};

static const struct state_field page_fields[] = {
    {.name = "address",
     .kind = STATE_KIND_U64,
     .count = 1,
     .stride = 8,
     .since = 1,
     .count_offset = -1},
    STATE_END,
};
static const struct state_table page_table = {"page", 1, 1, page_fields};
static const struct state_field item_fields[] = {
    STATE_U16(struct item, size, 1),
    STATE_BOOL(struct item, ready, 1),
    STATE_U32(struct item, count, 1),
    STATE_STRUCTS(struct item, pages, false, count, 2, &page_table, 1),
    STATE_END,
};
static const struct state_table item_table = {"item", 1, 1, item_fields};
static const struct state_field object_fields[] = {
    STATE_U8(struct object, u8, 1),
    STATE_ARRAY(struct object, words, STATE_KIND_U16, 1),
    STATE_U64(struct object, u64, 1),
    STATE_BOOL(struct object, flag, 1),
    STATE_BYTES(struct object, bytes, 1),
    STATE_STRUCT(struct object, one, &item_table, 1),
    STATE_U32(struct object, item_count, 1),
    STATE_STRUCTS(struct object, items, false, item_count, ITEMS, &item_table, 1),
    STATE_U32(struct object, slot_count, 1),
    STATE_STRUCTS(struct object, slots, true, slot_count, SLOTS, &item_table, 1),
    STATE_BUFFER(struct object, log, LOG, 1),
    STATE_U32(struct object, later, 2),
    STATE_END,
};
static const struct state_table object_table = {"object", 2, 1, object_fields};

static void init(struct object *object)
{
    memset(object, 0, sizeof(*object));
    object->slots = g_new0(struct item, SLOTS);
    object->item_count = 1;
}

static void finish(struct object *object)
{
    g_free(object->slots);
    if (object->log)
        g_byte_array_unref(object->log);
}

static void check(bool holds)
{
    if (!holds)
        abort();
}

static bool saves_equal(const struct object *object, const GByteArray *expected)
{
    g_autoptr(GByteArray) out = g_byte_array_new();

    state_save(&object_table, object, out);
    return out->len == expected->len && !memcmp(out->data, expected->data, out->len);
}

static void check_item(const struct item *item)
{
    uint8_t ready;

    memcpy(&ready, &item->ready, 1);
    check(ready <= 1 && item->count <= 2);
}

static void check_object(const struct object *object)
{
    check(object->item_count <= ITEMS && object->slot_count <= SLOTS);
    check(!object->log || object->log->len <= LOG);
    check_item(&object->one);
    for (unsigned i = 0; i < ITEMS; i++)
        check_item(&object->items[i]);
    for (unsigned i = 0; i < SLOTS; i++)
        check_item(&object->slots[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GByteArray) before = g_byte_array_new();
    g_autoptr(GByteArray) after = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    struct object object, twin;

    init(&object);
    init(&twin);
    state_save(&object_table, &object, before);
    if (state_load(&object_table, &object, data, size, &error)) {
        state_save(&object_table, &object, after);
        check(state_load(&object_table, &twin, after->data, after->len, NULL));
        check(saves_equal(&twin, after));
        json_node_unref(state_to_json(&object_table, &object));
    } else {
        check(error && g_str_has_prefix(error->message, "object"));
        check(saves_equal(&object, before));
    }
    check_object(&object);
    finish(&object);
    finish(&twin);
    return 0;
}
