/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of vmm/state: the encoding, versions, hostile streams, JSON, and random tables there and back. */
#include <gio/gio.h>
#include <string.h>

#include "tests/support/check_state.h"
#include "vmm/device.h"
#include "vmm/state.h"

struct queue {
    uint16_t size;
    bool ready;
};

struct toy {
    uint8_t index;
    uint16_t words[3];
    uint32_t many;
    uint64_t address;
    bool on;
    uint8_t cmos[5];
    struct queue admin;
    struct queue queues[4];
    uint32_t slot_count;
    struct queue *slots;
    GByteArray *log;
    uint32_t private; /* not saved */
};

static const struct state_field queue_fields[] = {
    STATE_U16(struct queue, size, 1),
    STATE_BOOL(struct queue, ready, 1),
    STATE_END,
};
static const struct state_table queue_state = {"queue", 1, 1, queue_fields};

#define MAX_SLOTS 6
static const struct state_field toy_fields[] = {
    STATE_U8(struct toy, index, 1),
    STATE_ARRAY(struct toy, words, STATE_KIND_U16, 1),
    STATE_U32(struct toy, many, 1),
    STATE_U64(struct toy, address, 1),
    STATE_BOOL(struct toy, on, 1),
    STATE_BYTES(struct toy, cmos, 1),
    STATE_STRUCT(struct toy, admin, &queue_state, 1),
    STATE_STRUCTS(struct toy, queues, false, many, 4, &queue_state, 1),
    STATE_U32(struct toy, slot_count, 1),
    STATE_STRUCTS(struct toy, slots, true, slot_count, MAX_SLOTS, &queue_state, 1),
    STATE_BUFFER(struct toy, log, 20, 1),
    STATE_END,
};
static const struct state_table toy_state = {"toy", 1, 1, toy_fields};

static struct toy *toy_new(void)
{
    struct toy *toy = g_new0(struct toy, 1);

    toy->slots = g_new0(struct queue, MAX_SLOTS);
    return toy;
}

static void toy_free(struct toy *toy)
{
    if (toy->log)
        g_byte_array_unref(toy->log);
    g_free(toy->slots);
    g_free(toy);
}

static struct toy *toy_sample(void)
{
    struct toy *toy = toy_new();

    *toy = (struct toy){.index = 7,
                        .words = {1, 2, 0xfffe},
                        .many = 2,
                        .address = UINT64_C(0x8877665544332211),
                        .on = true,
                        .cmos = {9, 8, 7, 6, 5},
                        .admin = {64, true},
                        .queues = {{256, false}, {128, true}},
                        .slot_count = 3,
                        .slots = toy->slots,
                        .private = 99};
    for (int i = 0; i < 3; i++)
        toy->slots[i] = (struct queue){10 + i, i & 1};
    toy->log = g_byte_array_new();
    g_byte_array_append(toy->log, (const uint8_t *)"hello", 5);
    return toy;
}

/* ---- building streams by hand ---- */

static GByteArray *stream_new(uint16_t version, uint32_t fields)
{
    GByteArray *stream = g_byte_array_new();
    uint8_t head[6] = {version, version >> 8, fields, fields >> 8, fields >> 16, fields >> 24};

    g_byte_array_append(stream, head, 6);
    return stream;
}

static void stream_field(GByteArray *stream, const char *name, uint8_t kind, bool required,
                         const void *data, uint32_t size)
{
    uint8_t head[6] = {kind, required, size, size >> 8, size >> 16, size >> 24};
    uint8_t length = strlen(name);

    g_byte_array_append(stream, &length, 1);
    g_byte_array_append(stream, (const uint8_t *)name, length);
    g_byte_array_append(stream, head, 6);
    g_byte_array_append(stream, data, size);
}

struct pair {
    uint8_t a;
    uint16_t b;
    uint8_t later;
};
static const struct state_field pair_fields[] = {
    STATE_U8(struct pair, a, 1),
    STATE_U16(struct pair, b, 1),
    STATE_U8(struct pair, later, 3),
    STATE_END,
};
static const struct state_table pair_state = {"pair", 3, 1, pair_fields};

static void assert_load_fails(const struct state_table *table, void *object, GByteArray *stream,
                              const char *message)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) before = g_byte_array_new();
    g_autoptr(GByteArray) after = g_byte_array_new();

    state_save(table, object, before);
    g_assert_false(state_load(table, object, stream->data, stream->len, &error));
    g_assert_cmpstr(error->message, ==, message);
    g_assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA));
    state_save(table, object, after);
    g_assert_cmpmem(before->data, before->len, after->data, after->len);
}

/* ---- tests ---- */

static void test_encoding_is_as_documented(void)
{
    static const uint8_t expected[] = {
        3,
        0,
        3,
        0,
        0,
        0, /* version, fields */
        1,
        'a',
        STATE_KIND_U8,
        1,
        1,
        0,
        0,
        0,
        0x11, /* a */
        1,
        'b',
        STATE_KIND_U16,
        1,
        2,
        0,
        0,
        0,
        0x33,
        0x22, /* b */
        5,
        'l',
        'a',
        't',
        'e',
        'r',
        STATE_KIND_U8,
        1,
        1,
        0,
        0,
        0,
        0x44,
    };
    struct pair pair = {0x11, 0x2233, 0x44};
    g_autoptr(GByteArray) out = g_byte_array_new();

    state_save(&pair_state, &pair, out);
    g_assert_cmpmem(out->data, out->len, expected, sizeof(expected));
    g_assert_cmpint(STATE_KIND_U8, ==, 1); /* the numbers are part of the format */
    g_assert_cmpint(STATE_KIND_BOOL, ==, 5);
    g_assert_cmpint(STATE_KIND_BUFFER, ==, 8);
}

static void test_round_trip(void)
{
    struct toy *from = toy_sample(), *to = toy_new();

    to->private = 5;
    check_state_round_trip(&toy_state, from, to);
    g_assert_cmpuint(to->address, ==, UINT64_C(0x8877665544332211));
    g_assert_cmpuint(to->words[2], ==, 0xfffe);
    g_assert_cmpuint(to->queues[1].size, ==, 128);
    g_assert_true(to->queues[1].ready);
    g_assert_cmpuint(to->slots[2].size, ==, 12);
    g_assert_cmpmem(to->log->data, to->log->len, "hello", 5);
    g_assert_cmpuint(to->private, ==, 5);
    /* Again, over what is there: a shorter buffer, fewer elements. */
    g_byte_array_set_size(from->log, 2);
    from->slot_count = 1;
    check_state_round_trip(&toy_state, from, to);
    g_assert_cmpuint(to->log->len, ==, 2);
    g_assert_cmpuint(to->slot_count, ==, 1);
    toy_free(from);
    toy_free(to);
}

static void test_truncated_at_every_byte(void)
{
    struct toy *from = toy_sample(), *to = toy_new();

    check_state_truncated(&toy_state, from, to);
    toy_free(from);
    toy_free(to);
}

static bool toy_is_sound(const struct toy *toy)
{
    uint8_t on, ready;

    memcpy(&on, &toy->on, 1);
    memcpy(&ready, &toy->admin.ready, 1);
    return toy->many <= 4 && toy->slot_count <= MAX_SLOTS && on <= 1 && ready <= 1 &&
           (!toy->log || toy->log->len <= 20);
}

/* Each bit of the stream, flipped: what loads is sound, what does not changes nothing. */
static void test_every_bit_flipped(void)
{
    struct toy *from = toy_sample();
    g_autoptr(GByteArray) stream = g_byte_array_new();
    unsigned refused = 0;

    state_save(&toy_state, from, stream);
    for (guint bit = 0; bit < stream->len * 8; bit++) {
        struct toy *to = toy_new();
        g_autoptr(GByteArray) before = g_byte_array_new();
        g_autoptr(GByteArray) after = g_byte_array_new();

        state_save(&toy_state, to, before);
        stream->data[bit / 8] ^= 1 << bit % 8;
        if (!state_load(&toy_state, to, stream->data, stream->len, NULL)) {
            state_save(&toy_state, to, after);
            g_assert_cmpmem(before->data, before->len, after->data, after->len);
            refused++;
        }
        g_assert_true(toy_is_sound(to));
        stream->data[bit / 8] ^= 1 << bit % 8;
        toy_free(to);
    }
    g_assert_cmpuint(refused, >, stream->len * 4);
    toy_free(from);
}

static void test_older_stream_leaves_newer_fields(void)
{
    struct pair pair = {1, 2, 77};
    g_autoptr(GByteArray) stream = stream_new(2, 2);
    g_autoptr(GError) error = NULL;

    stream_field(stream, "b", STATE_KIND_U16, true, "\x34\x12", 2); /* any order */
    stream_field(stream, "a", STATE_KIND_U8, true, "\x05", 1);
    g_assert_true(state_load(&pair_state, &pair, stream->data, stream->len, &error));
    g_assert_cmpuint(pair.a, ==, 5);
    g_assert_cmphex(pair.b, ==, 0x1234);
    g_assert_cmpuint(pair.later, ==, 77);
}

static void test_missing_field(void)
{
    struct pair pair = {1, 2, 77};
    g_autoptr(GByteArray) stream = stream_new(3, 2);

    stream_field(stream, "a", STATE_KIND_U8, true, "\x05", 1);
    stream_field(stream, "b", STATE_KIND_U16, true, "\x34\x12", 2);
    assert_load_fails(&pair_state, &pair, stream, "pair.later: missing in the stream");
}

static void test_too_old_stream(void)
{
    static const struct state_table strict = {"pair", 3, 2, pair_fields};
    struct pair pair = {0};
    g_autoptr(GByteArray) stream = stream_new(1, 0);

    assert_load_fails(&strict, &pair, stream,
                      "pair: version 1 in the stream, 2 is the oldest that can be read");
}

static GByteArray *newer_stream(const char *name, bool required)
{
    GByteArray *stream = stream_new(9, 4);

    stream_field(stream, "a", STATE_KIND_U8, true, "\x05", 1);
    stream_field(stream, name, 200, required, "whatever", 8);
    stream_field(stream, "b", STATE_KIND_U16, true, "\x34\x12", 2);
    stream_field(stream, "later", STATE_KIND_U8, true, "\x06", 1);
    return stream;
}

static void test_unknown_optional_field_is_skipped(void)
{
    struct pair pair = {0};
    g_autoptr(GByteArray) stream = newer_stream("future", false);

    g_assert_true(state_load(&pair_state, &pair, stream->data, stream->len, NULL));
    g_assert_cmpuint(pair.later, ==, 6);
}

static void test_unknown_required_field_is_refused(void)
{
    struct pair pair = {0};
    g_autoptr(GByteArray) stream = newer_stream("future\033[m", true);

    assert_load_fails(&pair_state, &pair, stream,
                      "pair.future\\033[m: required, but unknown to this version of lodge");
}

static void test_bad_fields(void)
{
    struct pair pair = {1, 2, 3};
    static const struct {
        const char *name;
        uint8_t kind;
        const char *data;
        uint32_t size;
        const char *message;
    } cases[] = {
        {"b", STATE_KIND_U16, "xyz", 3, "pair.b: 3 bytes in the stream, 2 expected"},
        {"b", STATE_KIND_U16, "", 0, "pair.b: 0 bytes in the stream, 2 expected"},
        {"b", STATE_KIND_U32, "xy", 2, "pair.b: its kind is u32 in the stream, u16 expected"},
        {"b", 77, "xy", 2, "pair.b: its kind is unknown in the stream, u16 expected"},
        {"a", STATE_KIND_U8, "x", 1, "pair.a: twice in the stream"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) stream = stream_new(1, 2);
        stream_field(stream, "a", STATE_KIND_U8, true, "\x05", 1);
        stream_field(stream, cases[i].name, cases[i].kind, true, cases[i].data, cases[i].size);
        assert_load_fails(&pair_state, &pair, stream, cases[i].message);
    }
}

static void test_bytes_at_the_end(void)
{
    struct pair pair = {1, 2, 3};
    g_autoptr(GByteArray) stream = g_byte_array_new();

    state_save(&pair_state, &pair, stream);
    g_byte_array_append(stream, (const uint8_t *)"!!", 2);
    assert_load_fails(&pair_state, &pair, stream, "pair: 2 bytes left over at its end");
}

static void test_lengths_beyond_the_stream(void)
{
    struct pair pair = {1, 2, 3};
    g_autoptr(GByteArray) stream = stream_new(1, UINT32_MAX);

    stream_field(stream, "a", STATE_KIND_U8, true, "\x05", 1);
    assert_load_fails(&pair_state, &pair, stream, "pair: the stream ends between two fields");
    g_autoptr(GByteArray) longer = stream_new(1, 1);
    stream_field(longer, "a", STATE_KIND_U8, true, "\x05", 1);
    memset(longer->data + longer->len - 5, 0xff, 4);
    assert_load_fails(&pair_state, &pair, longer,
                      "pair.a: the stream ends inside it: 1 of 4294967295 bytes");
}

struct counted {
    uint32_t count;
    struct queue queues[4];
};
static const struct state_field counted_fields[] = {
    STATE_U32(struct counted, count, 1),
    STATE_STRUCTS(struct counted, queues, false, count, 4, &queue_state, 1),
    STATE_END,
};
static const struct state_table counted_state = {"counted", 1, 1, counted_fields};
static const struct state_field uncounted_fields[] = {
    STATE_STRUCTS(struct counted, queues, false, count, 4, &queue_state, 1),
    STATE_END,
};
static const struct state_table uncounted_state = {"uncounted", 1, 1, uncounted_fields};

static GByteArray *queue_elements(unsigned count)
{
    struct queue queue = {256, true};
    GByteArray *out = g_byte_array_new();

    for (unsigned i = 0; i < count; i++)
        state_save(&queue_state, &queue, out);
    return out;
}

static void test_counts_are_bounded(void)
{
    struct counted object = {1};
    g_autoptr(GByteArray) elements = queue_elements(2);
    g_autoptr(GByteArray) many = stream_new(1, 2);
    stream_field(many, "count", STATE_KIND_U32, true, "\x05\0\0\0", 4);
    stream_field(many, "queues", STATE_KIND_TABLE, true, elements->data, elements->len);
    assert_load_fails(&counted_state, &object, many,
                      "counted.count: 5 in the stream, at most 4 elements of queues are possible");

    g_autoptr(GByteArray) few = stream_new(1, 2);
    stream_field(few, "count", STATE_KIND_U32, true, "\x03\0\0\0", 4);
    stream_field(few, "queues", STATE_KIND_TABLE, true, elements->data, elements->len);
    assert_load_fails(&counted_state, &object, few, "counted.queues[2]: the stream ends before it");

    g_autoptr(GByteArray) more = stream_new(1, 2);
    stream_field(more, "count", STATE_KIND_U32, true, "\x01\0\0\0", 4);
    stream_field(more, "queues", STATE_KIND_TABLE, true, elements->data, elements->len);
    g_autofree char *message =
        g_strdup_printf("counted.queues: %u bytes left over after 1 elements", elements->len / 2);
    assert_load_fails(&counted_state, &object, more, message);

    /* A count that comes later would not have been looked at. */
    g_autoptr(GByteArray) late = stream_new(1, 2);
    g_autoptr(GByteArray) one = queue_elements(1);
    stream_field(late, "queues", STATE_KIND_TABLE, true, one->data, one->len);
    stream_field(late, "count", STATE_KIND_U32, true, "\xff\xff\xff\xff", 4);
    assert_load_fails(&counted_state, &object, late,
                      "counted.count: comes after queues in the stream, which it counts");
}

static void test_count_that_is_not_in_the_table(void)
{
    struct counted object = {2};
    g_autoptr(GByteArray) two = queue_elements(2);
    g_autoptr(GByteArray) good = stream_new(1, 1), bad = stream_new(1, 1);

    stream_field(good, "queues", STATE_KIND_TABLE, true, two->data, two->len);
    g_assert_true(state_load(&uncounted_state, &object, good->data, good->len, NULL));
    g_assert_cmpuint(object.queues[1].size, ==, 256);
    object.count = 3;
    stream_field(bad, "queues", STATE_KIND_TABLE, true, two->data, two->len);
    assert_load_fails(&uncounted_state, &object, bad,
                      "uncounted.queues[2]: the stream ends before it");
}

static void test_no_room_for_indirect_elements(void)
{
    struct toy *from = toy_sample(), *to = toy_new();
    g_autoptr(GByteArray) stream = g_byte_array_new();

    g_clear_pointer(&to->slots, g_free);
    state_save(&toy_state, from, stream);
    assert_load_fails(&toy_state, to, stream,
                      "toy.slot_count: 3 in the stream, at most 0 elements of slots are possible");
    from->slot_count = 0;
    check_state_round_trip(&toy_state, from, to);
    toy_free(from);
    toy_free(to);
}

static void test_buffer_is_bounded(void)
{
    struct toy *from = toy_sample(), *to = toy_new();
    g_autoptr(GByteArray) stream = g_byte_array_new();

    g_byte_array_set_size(from->log, 20);
    check_state_round_trip(&toy_state, from, to);
    state_save(&toy_state, from, stream);
    /* The last field: one byte more than it may have. */
    stream->data[stream->len - 24] = 21;
    g_byte_array_append(stream, (const uint8_t *)"x", 1);
    assert_load_fails(&toy_state, to, stream,
                      "toy.log: 21 bytes in the stream, at most 20 are possible");
    toy_free(from);
    toy_free(to);
}

static void test_errors_name_the_nested_field(void)
{
    struct counted object = {1};
    g_autoptr(GByteArray) element = stream_new(1, 2);
    g_autoptr(GByteArray) stream = stream_new(1, 2);

    stream_field(element, "size", STATE_KIND_U16, true, "\x01\0", 2);
    stream_field(element, "ready", STATE_KIND_BOOL, true, "\x02", 1);
    stream_field(stream, "count", STATE_KIND_U32, true, "\x01\0\0\0", 4);
    stream_field(stream, "queues", STATE_KIND_TABLE, true, element->data, element->len);
    assert_load_fails(&counted_state, &object, stream,
                      "counted.queues[0].ready: neither true nor false: 2");
}

static void test_json(void)
{
    struct toy *toy = toy_sample();
    g_autoptr(JsonNode) node = state_to_json(&toy_state, toy);
    g_autofree char *text = json_to_string(node, FALSE);

    g_assert_cmpstr(text, ==,
                    "{\"index\":7,\"words\":[1,2,65534],\"many\":2,"
                    "\"address\":\"0x8877665544332211\",\"on\":true,\"cmos\":\"0908070605\","
                    "\"admin\":{\"size\":64,\"ready\":true},"
                    "\"queues\":[{\"size\":256,\"ready\":false},{\"size\":128,\"ready\":true}],"
                    "\"slot_count\":3,\"slots\":[{\"size\":10,\"ready\":false},"
                    "{\"size\":11,\"ready\":true},{\"size\":12,\"ready\":false}],"
                    "\"log\":\"68656c6c6f\"}");
    toy_free(toy);
}

/* ---- random tables ---- */

#define MAX_FIELDS 12

struct random_table {
    struct state_table table;
    struct state_field fields[MAX_FIELDS + 1];
    char names[MAX_FIELDS][8];
    size_t size; /* of the object */
};

static struct random_table *random_table_new(GRand *rand, int depth, GPtrArray *all)
{
    static const unsigned sizes[] = {0, 1, 2, 4, 8, 1, 1, 0, sizeof(void *)};
    struct random_table *t = g_new0(struct random_table, 1);
    unsigned count = g_rand_int_range(rand, 0, MAX_FIELDS + 1);

    g_ptr_array_add(all, t);
    for (unsigned i = 0; i < count; i++) {
        struct state_field *field = &t->fields[i];
        enum state_kind kind = g_rand_int_range(rand, STATE_KIND_U8, STATE_KIND_BUFFER + 1);
        if (kind == STATE_KIND_TABLE && depth == 0)
            kind = STATE_KIND_U32;
        g_snprintf(t->names[i], sizeof(t->names[i]), "f%u", i);
        t->size = (t->size + 7) & ~(size_t)7;
        *field = (struct state_field){.name = t->names[i],
                                      .kind = kind,
                                      .offset = t->size,
                                      .count = g_rand_int_range(rand, 1, 5),
                                      .stride = sizes[kind],
                                      .since = 1,
                                      .optional = g_rand_boolean(rand),
                                      .count_offset = -1};
        if (kind == STATE_KIND_TABLE) {
            struct random_table *nested = random_table_new(rand, depth - 1, all);
            field->table = &nested->table;
            field->stride = (nested->size + 15) & ~(size_t)7;
            if (i && t->fields[i - 1].kind == STATE_KIND_U32 && t->fields[i - 1].count == 1)
                field->count_offset = t->fields[i - 1].offset;
        }
        t->size += kind == STATE_KIND_BUFFER ? sizeof(void *) : field->count * field->stride;
    }
    t->fields[count] = (struct state_field)STATE_END;
    t->table = (struct state_table){"random", 1, 1, t->fields};
    return t;
}

static void free_buffers(const struct state_table *table, uint8_t *object)
{
    for (const struct state_field *field = table->fields; field->kind != STATE_KIND_END; field++) {
        uint8_t *p = object + field->offset;
        if (field->kind == STATE_KIND_BUFFER && *(GByteArray **)p)
            g_byte_array_unref(*(GByteArray **)p);
        for (size_t i = 0; field->kind == STATE_KIND_TABLE && i < field->count; i++)
            free_buffers(field->table, p + i * field->stride);
    }
}

static void test_random_tables(void)
{
    for (int round = 0; round < 300; round++) {
        g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
        GRand *rand = g_rand_new_with_seed(g_test_rand_int());
        struct random_table *t = random_table_new(rand, 2, all);
        uint8_t *from = g_malloc0(t->size + 8), *to = g_malloc0(t->size + 8);

        check_state_table(&t->table);
        check_state_randomize(&t->table, from, rand);
        check_state_randomize(&t->table, to, rand);
        if (round % 10 == 0)
            check_state_truncated(&t->table, from, to);
        check_state_round_trip(&t->table, from, to);
        g_autoptr(JsonNode) a = state_to_json(&t->table, from);
        g_autoptr(JsonNode) b = state_to_json(&t->table, to);
        g_assert_true(json_node_equal(a, b));
        free_buffers(&t->table, from);
        free_buffers(&t->table, to);
        g_free(from);
        g_free(to);
        g_rand_free(rand);
    }
}

/* ---- a device with state ---- */

struct boxed {
    struct device device;
    struct pair pair;
    bool refuse;
    int before_saves;
};

static void boxed_before_save(struct device *device)
{
    ((struct boxed *)device)->before_saves++;
}

static bool boxed_after_load(struct device *device, GError **error)
{
    if (((struct boxed *)device)->refuse)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "b=%u is too much",
                    ((struct boxed *)device)->pair.b);
    return !((struct boxed *)device)->refuse;
}

static const struct device_ops boxed_ops = {.before_save = boxed_before_save,
                                            .after_load = boxed_after_load};

static void boxed_init(struct boxed *boxed, const char *name)
{
    *boxed = (struct boxed){.pair = {1, 2, 3}};
    device_init(&boxed->device, name, "boxed", &boxed_ops);
    boxed->device.state_table = &pair_state;
    boxed->device.state_base = &boxed->pair;
}

static void test_device_save_and_load(void)
{
    struct boxed from, to;
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    boxed_init(&from, "from0");
    boxed_init(&to, "to0");
    from.pair = (struct pair){7, 8, 9};
    g_assert_false(device_save(&from.device, stream, &error));
    g_assert_cmpstr(error->message, ==, "from0 can't be saved in state RUNNING");
    g_clear_error(&error);
    from.device.state = DEVICE_STOP_COPY;
    g_assert_true(device_save(&from.device, stream, &error));
    g_assert_cmpint(from.before_saves, ==, 1);

    g_assert_false(device_load(&to.device, stream->data, stream->len, &error));
    g_assert_cmpstr(error->message, ==, "to0 can't be loaded in state RUNNING");
    g_clear_error(&error);
    to.device.state = DEVICE_RESUMING;
    g_assert_false(device_load(&to.device, stream->data, stream->len - 1, &error));
    g_assert_cmpstr(error->message, ==, "to0: pair.later: the stream ends inside it: 0 of 1 bytes");
    g_assert_cmpint(device_state(&to.device), ==, DEVICE_RESUMING);
    g_assert_cmpuint(to.pair.a, ==, 1);
    g_clear_error(&error);
    g_assert_true(device_load(&to.device, stream->data, stream->len, &error));
    g_assert_cmpuint(to.pair.later, ==, 9);
    to.refuse = true;
    g_assert_false(device_load(&to.device, stream->data, stream->len, &error));
    g_assert_cmpstr(error->message, ==, "to0: b=8 is too much");
    g_assert_cmpint(device_state(&to.device), ==, DEVICE_ERROR);
    device_finish(&from.device);
    device_finish(&to.device);
}

static void test_tables_are_sound(void)
{
    check_state_table(&toy_state);
    check_state_table(&pair_state);
    check_state_table(&counted_state);
}

#define ADD(NAME) g_test_add_func("/state/" #NAME, test_##NAME)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(encoding_is_as_documented);
    ADD(round_trip);
    ADD(truncated_at_every_byte);
    ADD(every_bit_flipped);
    ADD(older_stream_leaves_newer_fields);
    ADD(missing_field);
    ADD(too_old_stream);
    ADD(unknown_optional_field_is_skipped);
    ADD(unknown_required_field_is_refused);
    ADD(bad_fields);
    ADD(bytes_at_the_end);
    ADD(lengths_beyond_the_stream);
    ADD(counts_are_bounded);
    ADD(count_that_is_not_in_the_table);
    ADD(no_room_for_indirect_elements);
    ADD(buffer_is_bounded);
    ADD(errors_name_the_nested_field);
    ADD(json);
    ADD(random_tables);
    ADD(device_save_and_load);
    ADD(tables_are_sound);
    return g_test_run();
}
