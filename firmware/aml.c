/* SPDX-License-Identifier: GPL-2.0-or-later */
/* aml - ACPI machine language; see aml.h. Encodings: ACPI 6.5, sections 20.2 and 6.4. */
#include "firmware/aml.h"

#include <string.h>

enum {
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_DUAL_NAME = 0x2e,
    AML_MULTI_NAME = 0x2f,
    AML_EXTENDED = 0x5b,
    AML_EXT_REGION = 0x80,
    AML_EXT_FIELD = 0x81,
    AML_EXT_DEVICE = 0x82,
    AML_IF = 0xa0,
    AML_ELSE = 0xa1,
};

static void put(GByteArray *bytes, uint64_t value, unsigned size)
{
    uint64_t le = GUINT64_TO_LE(value);

    g_byte_array_append(bytes, (const guint8 *)&le, size);
}

void aml_init(struct aml *aml)
{
    aml->bytes = g_byte_array_new();
    aml->depth = 0;
}

void aml_finish(struct aml *aml)
{
    g_assert(aml->depth == 0);
    g_clear_pointer(&aml->bytes, g_byte_array_unref);
}

void aml_op(struct aml *aml, enum aml_op op)
{
    put(aml->bytes, op, 1);
}

void aml_path(struct aml *aml, const char *path)
{
    if (*path == '\\') {
        put(aml->bytes, '\\', 1);
        path++;
    }
    g_auto(GStrv) segments = g_strsplit(path, ".", -1);
    guint count = g_strv_length(segments);

    if (count == 0) { /* the root alone: NullName */
        put(aml->bytes, 0, 1);
    } else if (count == 2) {
        put(aml->bytes, AML_DUAL_NAME, 1);
    } else if (count > 2) {
        put(aml->bytes, AML_MULTI_NAME, 1);
        put(aml->bytes, count, 1);
    }
    for (guint i = 0; i < count; i++) {
        char segment[4] = {'_', '_', '_', '_'};
        size_t length = strlen(segments[i]);

        g_assert(length >= 1 && length <= 4);
        memcpy(segment, segments[i], length);
        g_byte_array_append(aml->bytes, (const guint8 *)segment, 4);
    }
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        put(aml->bytes, value, 1); /* ZeroOp, OneOp */
    } else if (value <= G_MAXUINT8) {
        put(aml->bytes, AML_BYTE, 1);
        put(aml->bytes, value, 1);
    } else if (value <= G_MAXUINT16) {
        put(aml->bytes, AML_WORD, 1);
        put(aml->bytes, value, 2);
    } else if (value <= G_MAXUINT32) {
        put(aml->bytes, AML_DWORD, 1);
        put(aml->bytes, value, 4);
    } else {
        put(aml->bytes, AML_QWORD, 1);
        put(aml->bytes, value, 8);
    }
}

void aml_string(struct aml *aml, const char *string)
{
    put(aml->bytes, AML_STRING, 1);
    g_byte_array_append(aml->bytes, (const guint8 *)string, strlen(string) + 1);
}

/* Section 19.3.4: three letters of five bits each, four hexadecimal digits, big-endian. */
void aml_eisa_id(struct aml *aml, const char *id)
{
    g_assert(strlen(id) == 7);
    uint32_t value = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
                     (uint32_t)(id[2] - '@') << 16 | (uint32_t)g_ascii_strtoull(id + 3, NULL, 16);

    put(aml->bytes, AML_DWORD, 1);
    put(aml->bytes, GUINT32_SWAP_LE_BE(value), 4);
}

/* Section 19.6.142: the first three groups are little-endian, the rest as written. */
void aml_uuid(struct aml *aml, const char *uuid)
{
    static const uint8_t position[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    uint8_t bytes[16];
    unsigned n = 0;

    for (const char *c = uuid; *c && n < 16; n++) {
        if (*c == '-')
            c++;
        bytes[position[n]] = g_ascii_xdigit_value(c[0]) << 4 | g_ascii_xdigit_value(c[1]);
        c += 2;
    }
    g_assert(n == 16);
    aml_buffer(aml, bytes, sizeof(bytes));
}

/* ---- package lengths (section 20.2.4) ---- */

static unsigned encode_length(uint8_t out[4], uint32_t body)
{
    /* The length counts its own bytes. */
    if (body + 1 < 0x40) {
        out[0] = body + 1;
        return 1;
    }
    unsigned extra = body + 2 < 1u << 12 ? 1 : body + 3 < 1u << 20 ? 2 : 3;
    uint32_t length = body + 1 + extra;

    g_assert(length < 1u << 28);
    out[0] = extra << 6 | (length & 0xf);
    for (unsigned i = 0; i < extra; i++)
        out[1 + i] = length >> (4 + 8 * i);
    return 1 + extra;
}

static void open_length(struct aml *aml)
{
    g_assert(aml->depth < AML_DEPTH);
    aml->open[aml->depth++] = aml->bytes->len;
}

void aml_close(struct aml *aml)
{
    g_assert(aml->depth > 0);
    guint at = aml->open[--aml->depth];
    guint body = aml->bytes->len - at;
    uint8_t length[4];
    unsigned size = encode_length(length, body);

    g_byte_array_set_size(aml->bytes, aml->bytes->len + size);
    memmove(aml->bytes->data + at + size, aml->bytes->data + at, body);
    memcpy(aml->bytes->data + at, length, size);
}

void aml_buffer(struct aml *aml, const void *data, unsigned size)
{
    put(aml->bytes, AML_BUFFER, 1);
    open_length(aml);
    aml_integer(aml, size);
    g_byte_array_append(aml->bytes, data, size);
    aml_close(aml);
}

/* ---- named objects ---- */

void aml_name(struct aml *aml, const char *name)
{
    put(aml->bytes, AML_NAME, 1);
    aml_path(aml, name);
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
    aml_name(aml, name);
    aml_integer(aml, value);
}

void aml_name_string(struct aml *aml, const char *name, const char *value)
{
    aml_name(aml, name);
    aml_string(aml, value);
}

void aml_name_eisa_id(struct aml *aml, const char *name, const char *id)
{
    aml_name(aml, name);
    aml_eisa_id(aml, id);
}

void aml_open_scope(struct aml *aml, const char *path)
{
    put(aml->bytes, AML_SCOPE, 1);
    open_length(aml);
    aml_path(aml, path);
}

void aml_open_device(struct aml *aml, const char *name)
{
    put(aml->bytes, AML_EXTENDED, 1);
    put(aml->bytes, AML_EXT_DEVICE, 1);
    open_length(aml);
    aml_path(aml, name);
}

void aml_open_method(struct aml *aml, const char *name, unsigned arguments, bool serialized)
{
    g_assert(arguments <= 7);
    put(aml->bytes, AML_METHOD, 1);
    open_length(aml);
    aml_path(aml, name);
    put(aml->bytes, arguments | (serialized ? 1 << 3 : 0), 1);
}

void aml_open_package(struct aml *aml, unsigned elements)
{
    g_assert(elements <= G_MAXUINT8);
    put(aml->bytes, AML_PACKAGE, 1);
    open_length(aml);
    put(aml->bytes, elements, 1);
}

void aml_open_if(struct aml *aml)
{
    put(aml->bytes, AML_IF, 1);
    open_length(aml);
}

void aml_open_else(struct aml *aml)
{
    put(aml->bytes, AML_ELSE, 1);
    open_length(aml);
}

void aml_port_region(struct aml *aml, const char *name, uint16_t port, unsigned size)
{
    put(aml->bytes, AML_EXTENDED, 1);
    put(aml->bytes, AML_EXT_REGION, 1);
    aml_path(aml, name);
    put(aml->bytes, 0x01, 1); /* SystemIO */
    aml_integer(aml, port);
    aml_integer(aml, size);
}

void aml_dword_field(struct aml *aml, const char *region, const char *field)
{
    put(aml->bytes, AML_EXTENDED, 1);
    put(aml->bytes, AML_EXT_FIELD, 1);
    open_length(aml);
    aml_path(aml, region);
    put(aml->bytes, 0x03, 1); /* DWordAcc, NoLock, Preserve */
    aml_path(aml, field);
    put(aml->bytes, 32, 1); /* bits; below 64, so one byte of package length */
    aml_close(aml);
}

/* ---- resource descriptors ---- */

enum {
    RESOURCE_PORTS = 0x47, /* small: the low bits are the length */
    RESOURCE_END = 0x79,
    RESOURCE_MEMORY32_FIXED = 0x86,
    RESOURCE_DWORD_SPACE = 0x87,
    RESOURCE_WORD_SPACE = 0x88,
    RESOURCE_INTERRUPT = 0x89,
    RESOURCE_QWORD_SPACE = 0x8a,

    SPACE_MEMORY = 0,
    SPACE_PORTS = 1,
    SPACE_BUS = 2,
    SPACE_FIXED = 0x0c, /* producer, positive decode, minimum and maximum are fixed */
    MEMORY_READ_WRITE = 0x01,
    PORTS_ENTIRE = 0x03,
};

aml_resources *aml_resources_new(void)
{
    return g_byte_array_new();
}

void aml_resource_ports(aml_resources *resources, uint16_t first, uint8_t count)
{
    put(resources, RESOURCE_PORTS, 1);
    put(resources, 0x01, 1); /* decodes 16 bits */
    put(resources, first, 2);
    put(resources, first, 2);
    put(resources, 1, 1); /* alignment */
    put(resources, count, 1);
}

void aml_resource_memory32(aml_resources *resources, uint32_t base, uint32_t size)
{
    put(resources, RESOURCE_MEMORY32_FIXED, 1);
    put(resources, 9, 2);
    put(resources, MEMORY_READ_WRITE, 1);
    put(resources, base, 4);
    put(resources, size, 4);
}

void aml_resource_interrupt(aml_resources *resources, uint32_t gsi, bool edge, bool active_low)
{
    put(resources, RESOURCE_INTERRUPT, 1);
    put(resources, 6, 2);
    put(resources, 1 | (edge ? 1 << 1 : 0) | (active_low ? 1 << 2 : 0),
        1); /* consumer, exclusive */
    put(resources, 1, 1);
    put(resources, gsi, 4);
}

static void window(aml_resources *resources, unsigned tag, unsigned width, unsigned space,
                   unsigned flags, uint64_t base, uint64_t size)
{
    g_assert(size > 0);
    put(resources, tag, 1);
    put(resources, 3 + 5 * width, 2);
    put(resources, space, 1);
    put(resources, SPACE_FIXED, 1);
    put(resources, flags, 1);
    put(resources, 0, width); /* granularity */
    put(resources, base, width);
    put(resources, base + size - 1, width);
    put(resources, 0, width); /* translation */
    put(resources, size, width);
}

void aml_window_bus(aml_resources *resources, uint8_t first, uint8_t last)
{
    window(resources, RESOURCE_WORD_SPACE, 2, SPACE_BUS, 0, first, last - first + 1);
}

void aml_window_ports(aml_resources *resources, uint16_t base, uint16_t size)
{
    window(resources, RESOURCE_WORD_SPACE, 2, SPACE_PORTS, PORTS_ENTIRE, base, size);
}

void aml_window_memory32(aml_resources *resources, uint32_t base, uint32_t size)
{
    window(resources, RESOURCE_DWORD_SPACE, 4, SPACE_MEMORY, MEMORY_READ_WRITE, base, size);
}

void aml_window_memory64(aml_resources *resources, uint64_t base, uint64_t size)
{
    window(resources, RESOURCE_QWORD_SPACE, 8, SPACE_MEMORY, MEMORY_READ_WRITE, base, size);
}

void aml_crs(struct aml *aml, aml_resources *resources)
{
    put(resources, RESOURCE_END, 1);
    put(resources, 0, 1); /* checksum 0: not checked */
    aml_name(aml, "_CRS");
    aml_buffer(aml, resources->data, resources->len);
    g_byte_array_unref(resources);
}
