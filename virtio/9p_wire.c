/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 9p_wire - reading and writing the fields of 9P2000.L messages (9p_wire.h) */
#include "virtio/9p_wire.h"

#include <endian.h>
#include <errno.h>
#include <glib.h>
#include <string.h>

/* ---- reading ---- */

static const uint8_t *take(struct p9_reader *reader, size_t size)
{
    const uint8_t *field = reader->next;

    if (reader->error || (size_t)(reader->end - reader->next) < size) {
        reader->error = reader->error ? reader->error : -EPROTO;
        return NULL;
    }
    reader->next += size;
    return field;
}

uint8_t p9_read_u8(struct p9_reader *reader)
{
    const uint8_t *field = take(reader, 1);

    return field ? *field : 0;
}

uint16_t p9_read_u16(struct p9_reader *reader)
{
    const uint8_t *field = take(reader, 2);
    uint16_t value = 0;

    if (field) {
        memcpy(&value, field, sizeof(value));
    }
    return le16toh(value);
}

uint32_t p9_read_u32(struct p9_reader *reader)
{
    const uint8_t *field = take(reader, 4);
    uint32_t value = 0;

    if (field) {
        memcpy(&value, field, sizeof(value));
    }
    return le32toh(value);
}

uint64_t p9_read_u64(struct p9_reader *reader)
{
    const uint8_t *field = take(reader, 8);
    uint64_t value = 0;

    if (field) {
        memcpy(&value, field, sizeof(value));
    }
    return le64toh(value);
}

const char *p9_read_string(struct p9_reader *reader, size_t max, size_t *length)
{
    size_t size = p9_read_u16(reader);
    uint8_t *text = (uint8_t *)take(reader, size);

    if (length) {
        *length = 0;
    }
    if (!text) {
        return "";
    }
    if (size > max) {
        reader->error = -ENAMETOOLONG;
        return "";
    }
    if (memchr(text, '\0', size)) {
        reader->error = -EINVAL;
        return "";
    }
    /* The length before it is used up: one of its bytes makes room for the final NUL. */
    memmove(text - 1, text, size);
    text[-1 + (ptrdiff_t)size] = '\0';
    if (length) {
        *length = size;
    }
    return (const char *)text - 1;
}

/* ---- writing ---- */

static void put(struct p9_writer *writer, const void *field, size_t size)
{
    if (writer->overflow || p9_room(writer) < size) {
        writer->overflow = true;
        return;
    }
    memcpy(writer->next, field, size);
    writer->next += size;
}

void p9_write_u8(struct p9_writer *writer, uint8_t value)
{
    put(writer, &value, sizeof(value));
}

void p9_write_u16(struct p9_writer *writer, uint16_t value)
{
    value = htole16(value);
    put(writer, &value, sizeof(value));
}

void p9_write_u32(struct p9_writer *writer, uint32_t value)
{
    value = htole32(value);
    put(writer, &value, sizeof(value));
}

void p9_write_u64(struct p9_writer *writer, uint64_t value)
{
    value = htole64(value);
    put(writer, &value, sizeof(value));
}

void p9_write_string(struct p9_writer *writer, const char *string, size_t length)
{
    if (length > UINT16_MAX || p9_room(writer) < length + 2) {
        writer->overflow = true;
        return;
    }
    p9_write_u16(writer, length);
    put(writer, string, length);
}

void p9_write_qid(struct p9_writer *writer, const struct p9_qid *qid)
{
    p9_write_u8(writer, qid->type);
    p9_write_u32(writer, qid->version);
    p9_write_u64(writer, qid->path);
}

const char *p9_type_name(uint8_t type)
{
    static const char *const names[128] = {
        [P9_TSTATFS] = "Tstatfs",
        [P9_TLOPEN] = "Tlopen",
        [P9_TLCREATE] = "Tlcreate",
        [P9_TSYMLINK] = "Tsymlink",
        [P9_TMKNOD] = "Tmknod",
        [P9_TRENAME] = "Trename",
        [P9_TREADLINK] = "Treadlink",
        [P9_TGETATTR] = "Tgetattr",
        [P9_TSETATTR] = "Tsetattr",
        [P9_TXATTRWALK] = "Txattrwalk",
        [P9_TXATTRCREATE] = "Txattrcreate",
        [P9_TREADDIR] = "Treaddir",
        [P9_TFSYNC] = "Tfsync",
        [P9_TLOCK] = "Tlock",
        [P9_TGETLOCK] = "Tgetlock",
        [P9_TLINK] = "Tlink",
        [P9_TMKDIR] = "Tmkdir",
        [P9_TRENAMEAT] = "Trenameat",
        [P9_TUNLINKAT] = "Tunlinkat",
        [P9_TVERSION] = "Tversion",
        [P9_TAUTH] = "Tauth",
        [P9_TATTACH] = "Tattach",
        [P9_TFLUSH] = "Tflush",
        [P9_TWALK] = "Twalk",
        [P9_TREAD] = "Tread",
        [P9_TWRITE] = "Twrite",
        [P9_TCLUNK] = "Tclunk",
        [P9_TREMOVE] = "Tremove",
    };

    return type < G_N_ELEMENTS(names) && names[type] ? names[type] : "T?";
}
