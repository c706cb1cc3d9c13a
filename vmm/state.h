/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state - what of a device is saved, declared as a table
 *
 *     static const struct state_field rtc_fields[] = {
 *         STATE_U8(struct rtc, index, 1),
 *         STATE_BYTES(struct rtc, cmos, 1),
 *         STATE_END,
 *     };
 *     static const struct state_table rtc_state = {"rtc", 1, 1, rtc_fields};
 *
 * The same table drives the binary stream (tagged little-endian fields, so that fields can be added
 * and unknown optional ones skipped), the JSON view, and the random round-trip tests.
 *
 * Encoding of a table: u16 version, u32 field count, then for each field: u8 name length, name,
 * u8 kind, u8 flags (bit 0: required), u32 payload length, payload. Arrays and nested tables are the
 * concatenation of their elements. No padding.
 *
 * A stream may be newer than its reader: what is not known is skipped, or refused if required. It may
 * be older, down to min_version: fields that came later stay as they are in the object. Every other
 * field must be there, once; a counting field before what it counts.
 *
 * Errors name the table and the field: "rtc.cmos: 96 bytes in the stream, 128 expected".
 * Threads: the caller's; the object must not change meanwhile (device states see to that).
 */
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum state_kind {
    STATE_KIND_END,
    STATE_KIND_U8,
    STATE_KIND_U16,
    STATE_KIND_U32,
    STATE_KIND_U64,
    STATE_KIND_BOOL,
    STATE_KIND_BYTES,  /* opaque bytes of a fixed size */
    STATE_KIND_TABLE,  /* nested struct, or an array of them */
    STATE_KIND_BUFFER, /* GByteArray *: variable length, at most max_count bytes */
};

struct state_table;

struct state_field {
    const char *name;
    enum state_kind kind;
    size_t offset;
    size_t count;   /* elements of an array (1: a single one); of BYTES: its size */
    size_t stride;  /* bytes from one element to the next */
    uint16_t since; /* the table version that brought the field; absent in older streams */
    bool optional;  /* a reader that does not know it may skip it */
    const struct state_table *table; /* TABLE */
    /* TABLE arrays with a variable length: where the element count is kept (a uint32_t field listed
     * before this one), at most @count; and whether the base is a pointer to the elements. */
    ptrdiff_t count_offset; /* -1: fixed */
    bool indirect;          /* the field is a pointer to room for @count elements, or NULL */
};

struct state_table {
    const char *name;
    uint16_t version;     /* written */
    uint16_t min_version; /* the oldest that can be read */
    const struct state_field *fields;
};

#define STATE_FIELD(TYPE, MEMBER, KIND, SINCE)                                                     \
    {                                                                                              \
        .name = #MEMBER, .kind = KIND, .offset = offsetof(TYPE, MEMBER), .count = 1,               \
        .stride = sizeof(((TYPE *)0)->MEMBER), .since = SINCE, .count_offset = -1                  \
    }
#define STATE_U8(TYPE, MEMBER, SINCE)   STATE_FIELD(TYPE, MEMBER, STATE_KIND_U8, SINCE)
#define STATE_U16(TYPE, MEMBER, SINCE)  STATE_FIELD(TYPE, MEMBER, STATE_KIND_U16, SINCE)
#define STATE_U32(TYPE, MEMBER, SINCE)  STATE_FIELD(TYPE, MEMBER, STATE_KIND_U32, SINCE)
#define STATE_U64(TYPE, MEMBER, SINCE)  STATE_FIELD(TYPE, MEMBER, STATE_KIND_U64, SINCE)
#define STATE_BOOL(TYPE, MEMBER, SINCE) STATE_FIELD(TYPE, MEMBER, STATE_KIND_BOOL, SINCE)
#define STATE_BYTES(TYPE, MEMBER, SINCE)                                                           \
    {                                                                                              \
        .name = #MEMBER, .kind = STATE_KIND_BYTES, .offset = offsetof(TYPE, MEMBER),               \
        .count = sizeof(((TYPE *)0)->MEMBER), .stride = 1, .since = SINCE, .count_offset = -1      \
    }
/* A C array of integers: KIND is the element's. */
#define STATE_ARRAY(TYPE, MEMBER, KIND, SINCE)                                                     \
    {                                                                                              \
        .name = #MEMBER, .kind = KIND, .offset = offsetof(TYPE, MEMBER),                           \
        .count = G_N_ELEMENTS(((TYPE *)0)->MEMBER), .stride = sizeof(((TYPE *)0)->MEMBER[0]),      \
        .since = SINCE, .count_offset = -1                                                         \
    }
#define STATE_STRUCT(TYPE, MEMBER, TABLE, SINCE)                                                   \
    {                                                                                              \
        .name = #MEMBER, .kind = STATE_KIND_TABLE, .offset = offsetof(TYPE, MEMBER), .count = 1,   \
        .stride = sizeof(((TYPE *)0)->MEMBER), .since = SINCE, .table = TABLE, .count_offset = -1  \
    }
/* MEMBER is an array of structs, or (INDIRECT) a pointer to one, with room for MAX either way;
 * COUNT_MEMBER (uint32_t) says how many are in use. If the table lists COUNT_MEMBER, the stream sets
 * it; if not, the stream must have as many as the object. */
#define STATE_STRUCTS(TYPE, MEMBER, INDIRECT, COUNT_MEMBER, MAX, TABLE, SINCE)                     \
    {                                                                                              \
        .name = #MEMBER, .kind = STATE_KIND_TABLE, .offset = offsetof(TYPE, MEMBER), .count = MAX, \
        .stride = sizeof(((TYPE *)0)->MEMBER[0]), .since = SINCE, .table = TABLE,                  \
        .count_offset = offsetof(TYPE, COUNT_MEMBER), .indirect = INDIRECT                         \
    }
#define STATE_BUFFER(TYPE, MEMBER, MAX, SINCE)                                                     \
    {                                                                                              \
        .name = #MEMBER, .kind = STATE_KIND_BUFFER, .offset = offsetof(TYPE, MEMBER),              \
        .count = MAX, .stride = 1, .since = SINCE, .count_offset = -1                              \
    }
#define STATE_END                                                                                  \
    {                                                                                              \
        .kind = STATE_KIND_END, .count_offset = -1                                                 \
    }

/* Appends the encoding of @object to @out. */
void state_save(const struct state_table *table, const void *object, GByteArray *out);

/*
 * Decodes all of @data into @object. The stream is hostile: everything is checked before anything is
 * stored, so on error @object is as it was. What a field may hold beyond its type is for the device's
 * after_load to check.
 */
bool state_load(const struct state_table *table, void *object, const uint8_t *data, size_t size,
                GError **error);

/* The JSON view: bytes and buffers in hexadecimal, u64 beyond the signed range as "0x..." strings. The
 * caller owns the node. */
JsonNode *state_to_json(const struct state_table *table, const void *object);

#endif
