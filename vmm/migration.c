/* SPDX-License-Identifier: GPL-2.0-or-later */
/* migration - messages, and what a target makes of them (vmm/migration.h); the connection is in
 * migration_channel.c */
#include "vmm/migration.h"

#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>

#include "vmm/snapshot.h"
#include "vmm/stream.h"

#define WHO            "migration" /* in messages */
#define MAGIC          "LODGEMIG"
#define FIRST_READABLE 2u
#define MAX_CONFIG     (1u << 20)
#define MAX_REGIONS    64u
#define MAX_FAILURE    1000u

static const struct {
    uint16_t type;
    const char *name;
    size_t least, most; /* bytes of payload */
} known[] = {
    {MIGRATION_HELLO, "HELLO", 16, 4096},
    {MIGRATION_CONFIG, "CONFIG", 2, MAX_CONFIG},
    {MIGRATION_LAYOUT, "LAYOUT", 16, 16 * MAX_REGIONS},
    {MIGRATION_PAGES, "PAGES", 8 + MEMORY_PAGE_SIZE, 8 + MIGRATION_MAX_PAGES *MEMORY_PAGE_SIZE},
    {MIGRATION_ZEROES, "ZEROES", 16, 16},
    {MIGRATION_STATE, "STATE", 1, MIGRATION_PIECE},
    {MIGRATION_DONE, "DONE", 16, 16},
    {MIGRATION_COMMIT, "COMMIT", 0, 0},
    {MIGRATION_SYNC, "SYNC", 0, 0},
    {MIGRATION_READY, "READY", 0, 0},
    {MIGRATION_LOADED, "LOADED", 0, 0},
    {MIGRATION_RUNNING, "RUNNING", 0, 0},
    {MIGRATION_SYNCED, "SYNCED", 0, 0},
    {MIGRATION_FAILED, "FAILED", 0, MAX_FAILURE},
};

static void put_u32(uint8_t *at, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    memcpy(at, &value, sizeof(value));
}

static void put_u64(uint8_t *at, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    memcpy(at, &value, sizeof(value));
}

/* ---- messages ---- */

static int find_type(unsigned type)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++)
        if (known[i].type == type)
            return (int)i;
    return -1;
}

const char *migration_type_name(unsigned type)
{
    int index = find_type(type);

    return index < 0 ? "unknown" : known[index].name;
}

/* Header and room for the payload, which the caller fills; then seal(). */
static uint8_t *begin(GByteArray *out, enum migration_type type, size_t size, guint *at)
{
    *at = out->len;
    g_byte_array_set_size(out, out->len + MIGRATION_HEADER + (guint)size);
    put_u32(out->data + *at, type);
    put_u32(out->data + *at + 4, (uint32_t)size);
    return out->data + *at + MIGRATION_HEADER;
}

static void seal(GByteArray *out, guint at)
{
    uint8_t *head = out->data + at;

    put_u32(head + 8, snapshot_crc32c(0, head + MIGRATION_HEADER, stream_get_u32(head + 4)));
    put_u32(head + 12, snapshot_crc32c(0, head, 12));
}

void migration_put(GByteArray *out, enum migration_type type, const void *data, size_t size)
{
    guint at;
    uint8_t *payload = begin(out, type, size, &at);

    if (size)
        memcpy(payload, data, size);
    seal(out, at);
}

void migration_put_hello(GByteArray *out)
{
    uint8_t hello[16];

    memcpy(hello, MAGIC, 8);
    put_u32(hello + 8, MIGRATION_FORMAT);
    put_u32(hello + 12, FIRST_READABLE);
    migration_put(out, MIGRATION_HELLO, hello, sizeof(hello));
}

void migration_put_layout(GByteArray *out, const struct memory *memory)
{
    uint8_t layout[16 * MAX_REGIONS];
    unsigned count;
    const struct memory_region *regions = memory_regions(memory, &count);
    size_t size = 0;

    for (unsigned i = 0; i < count && size < sizeof(layout); i++) {
        if (!(regions[i].flags & MEMORY_RAM))
            continue;
        put_u64(layout + size, regions[i].gpa);
        put_u64(layout + size + 8, regions[i].size);
        size += 16;
    }
    migration_put(out, MIGRATION_LAYOUT, layout, size);
}

void migration_put_pages(GByteArray *out, uint64_t gpa, const uint8_t *host, unsigned count)
{
    guint at;
    uint8_t *payload = begin(out, MIGRATION_PAGES, 8 + (size_t)count * MEMORY_PAGE_SIZE, &at);

    put_u64(payload, gpa);
    /* The guest may write meanwhile; the checksum is of what was copied, and the page is dirty. */
    memcpy(payload + 8, host, (size_t)count * MEMORY_PAGE_SIZE);
    seal(out, at);
}

void migration_put_zeroes(GByteArray *out, uint64_t gpa, uint64_t count)
{
    uint8_t body[16];

    put_u64(body, gpa);
    put_u64(body + 8, count);
    migration_put(out, MIGRATION_ZEROES, body, sizeof(body));
}

void migration_put_done(GByteArray *out, uint64_t pages, uint64_t state_bytes)
{
    uint8_t body[16];

    put_u64(body, pages);
    put_u64(body + 8, state_bytes);
    migration_put(out, MIGRATION_DONE, body, sizeof(body));
}

gssize migration_parse(const uint8_t *data, size_t size, struct migration_message *message,
                       GError **error)
{
    uint32_t type, length;
    int index;

    if (size < MIGRATION_HEADER)
        return 0;
    if (stream_get_u32(data + 12) != snapshot_crc32c(0, data, 12)) {
        stream_refuse(error, WHO,
                      "what comes is no message of lodge's (its header's checksum is wrong)");
        return -1;
    }
    type = stream_get_u32(data);
    length = stream_get_u32(data + 4);
    index = find_type(type);
    if (index < 0) {
        stream_refuse(error, WHO, "message type %u is not known: use a newer lodge", type);
        return -1;
    }
    if (length < known[index].least || length > known[index].most) {
        stream_refuse(error, WHO, "a %s message of %u bytes: must be %zu to %zu", known[index].name,
                      length, known[index].least, known[index].most);
        return -1;
    }
    if (size - MIGRATION_HEADER < length)
        return 0;
    if (stream_get_u32(data + 8) != snapshot_crc32c(0, data + MIGRATION_HEADER, length)) {
        stream_refuse(error, WHO, "a %s message is damaged (checksum)", known[index].name);
        return -1;
    }
    *message =
        (struct migration_message){.type = type, .data = data + MIGRATION_HEADER, .size = length};
    return (gssize)(MIGRATION_HEADER + length);
}

/* ---- the target's half ---- */

void migration_sink_init(struct migration_sink *sink)
{
    memset(sink, 0, sizeof(*sink));
    sink->state = g_byte_array_new();
}

void migration_sink_clear(struct migration_sink *sink)
{
    g_clear_pointer(&sink->config, g_byte_array_unref);
    g_clear_pointer(&sink->layout, g_array_unref);
    g_clear_pointer(&sink->state, g_byte_array_unref);
    g_clear_pointer(&sink->failure, g_free);
}

static bool take_hello(struct migration_sink *sink, const struct migration_message *message,
                       GError **error)
{
    if (memcmp(message->data, MAGIC, 8))
        return stream_refuse(error, WHO, "the other side is not a lodge");
    if (stream_get_u32(message->data + 12) > MIGRATION_FORMAT)
        return stream_refuse(error, WHO,
                             "format %u, which needs a reader of format %u; this program has %u: "
                             "use a newer lodge",
                             stream_get_u32(message->data + 8), stream_get_u32(message->data + 12),
                             MIGRATION_FORMAT);
    sink->greeted = true;
    return true;
}

static bool take_config(struct migration_sink *sink, const struct migration_message *message,
                        GError **error)
{
    if (memchr(message->data, 0, message->size) ||
        !g_utf8_validate((const char *)message->data, (gssize)message->size, NULL))
        return stream_refuse(error, WHO, "CONFIG is no text");
    sink->config = g_byte_array_new();
    g_byte_array_append(sink->config, message->data, (guint)message->size);
    g_byte_array_append(sink->config, (const guint8 *)"", 1);
    return true;
}

static bool take_layout(struct migration_sink *sink, const struct migration_message *message,
                        GError **error)
{
    if (message->size % 16)
        return stream_refuse(error, WHO, "LAYOUT has %zu bytes, not whole regions of 16",
                             message->size);
    sink->layout = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    for (size_t at = 0; at < message->size; at += 8) {
        uint64_t value = stream_get_u64(message->data + at);

        g_array_append_val(sink->layout, value);
    }
    return true;
}

/* Page aligned, and all in RAM; what is there already is not looked at. */
static bool check_range(const struct memory *memory, uint64_t gpa, uint64_t count, GError **error)
{
    uint64_t left = count <= UINT64_MAX / MEMORY_PAGE_SIZE ? count * MEMORY_PAGE_SIZE : 0;

    if (gpa % MEMORY_PAGE_SIZE || !left || gpa + left < gpa)
        return stream_refuse(
            error, WHO, "%" G_GUINT64_FORMAT " pages at 0x%" G_GINT64_MODIFIER "x: not whole pages",
            (guint64)count, (guint64)gpa);
    while (left) {
        struct memory_span span;

        if (!memory_find(memory, gpa, left, &span) ||
            (span.region->flags & (MEMORY_RAM | MEMORY_READONLY)) != MEMORY_RAM)
            return stream_refuse(error, WHO,
                                 "a page at 0x%" G_GINT64_MODIFIER "x, where there is no RAM",
                                 (guint64)gpa);
        gpa += span.len;
        left -= span.len;
    }
    return true;
}

static bool is_zero(const uint8_t *page)
{
    return !page[0] && !memcmp(page, page + 1, MEMORY_PAGE_SIZE - 1);
}

/* Memory that the guest never used stays unused: a file gets a hole without a look (which would fill
 * it), anonymous memory is looked at where there is any, and only pages that are not zero are written. */
static void clear_span(const struct memory_span *span, uint64_t gpa)
{
    const struct memory_region *region = span->region;
    uint64_t pages = span->len / MEMORY_PAGE_SIZE;
    g_autofree uint64_t *used = NULL;

    if (region->fd >= 0 &&
        !fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   (off_t)(region->fd_offset + (gpa - region->gpa)), (off_t)span->len))
        return;
    used = g_new(uint64_t, (pages + 63) / 64);
    if (!memory_find_used(region, (gpa - region->gpa) / MEMORY_PAGE_SIZE, pages, used))
        memset(used, 0xff, (pages + 63) / 64 * sizeof(*used));
    for (uint64_t page = 0; page < pages; page++) {
        uint8_t *host = span->host + page * MEMORY_PAGE_SIZE;

        if (!used[page / 64])
            page |= 63;
        else if (used[page / 64] >> (page % 64) & 1 && !is_zero(host))
            memset(host, 0, MEMORY_PAGE_SIZE);
    }
}

static void clear_pages(struct memory *memory, uint64_t gpa, uint64_t count)
{
    for (uint64_t left = count * MEMORY_PAGE_SIZE; left;) {
        struct memory_span span;

        if (!memory_find(memory, gpa, left, &span))
            return;
        clear_span(&span, gpa);
        gpa += span.len;
        left -= span.len;
    }
}

static bool take_pages(struct migration_sink *sink, const struct migration_message *message,
                       GError **error)
{
    uint64_t gpa = stream_get_u64(message->data), count;
    bool zeroes = message->type == MIGRATION_ZEROES;

    if (!sink->memory)
        return stream_refuse(error, WHO, "%s before READY", migration_type_name(message->type));
    if (!zeroes && (message->size - 8) % MEMORY_PAGE_SIZE)
        return stream_refuse(error, WHO, "PAGES has %zu bytes: no whole pages", message->size - 8);
    count = zeroes ? stream_get_u64(message->data + 8) : (message->size - 8) / MEMORY_PAGE_SIZE;
    if (!check_range(sink->memory, gpa, count, error))
        return false;
    sink->pages += count;
    if (zeroes)
        clear_pages(sink->memory, gpa, count);
    else
        memory_write(sink->memory, gpa, message->data + 8, count * MEMORY_PAGE_SIZE);
    return true;
}

static bool take_state(struct migration_sink *sink, const struct migration_message *message,
                       GError **error)
{
    if (sink->state->len + message->size > SNAPSHOT_MAX_SIZE)
        return stream_refuse(error, WHO, "more than %u MiB of state", SNAPSHOT_MAX_SIZE >> 20);
    g_byte_array_append(sink->state, message->data, (guint)message->size);
    return true;
}

static bool take_done(struct migration_sink *sink, const struct migration_message *message,
                      GError **error)
{
    uint64_t pages = stream_get_u64(message->data), state = stream_get_u64(message->data + 8);

    if (pages != sink->pages || state != sink->state->len)
        return stream_refuse(error, WHO,
                             "DONE says %" G_GUINT64_FORMAT " pages and %" G_GUINT64_FORMAT
                             " bytes of state; %" G_GUINT64_FORMAT " and %u came",
                             (guint64)pages, (guint64)state, (guint64)sink->pages,
                             sink->state->len);
    sink->done = true;
    return true;
}

static bool take_failed(struct migration_sink *sink, const struct migration_message *message,
                        GError **error)
{
    g_autofree char *text = g_strndup((const char *)message->data, message->size);

    sink->failure = g_utf8_make_valid(text, -1);
    for (char *c = sink->failure; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    return stream_refuse(error, WHO, "the other side gave up: %s", sink->failure);
}

/* What may come in which phase: greeting, pages, state, commit. */
static bool in_order(const struct migration_sink *sink, enum migration_type type)
{
    switch (type) {
    case MIGRATION_HELLO:
        return !sink->greeted;
    case MIGRATION_CONFIG:
        return sink->greeted && !sink->config;
    case MIGRATION_LAYOUT:
        return sink->config && !sink->layout;
    case MIGRATION_PAGES:
    case MIGRATION_ZEROES:
        return sink->layout && !sink->state->len && !sink->done;
    case MIGRATION_SYNC:
        return sink->memory && !sink->state->len && !sink->done;
    case MIGRATION_STATE:
        return sink->layout && sink->memory && !sink->done;
    case MIGRATION_DONE:
        return sink->state->len && !sink->done;
    case MIGRATION_COMMIT:
        return sink->done && !sink->committed;
    case MIGRATION_FAILED:
        return true;
    default:
        return false;
    }
}

bool migration_sink_take(struct migration_sink *sink, const struct migration_message *message,
                         GError **error)
{
    if (!in_order(sink, message->type))
        return stream_refuse(error, WHO, "%s is not what may come now",
                             migration_type_name(message->type));
    switch (message->type) {
    case MIGRATION_HELLO:
        return take_hello(sink, message, error);
    case MIGRATION_CONFIG:
        return take_config(sink, message, error);
    case MIGRATION_LAYOUT:
        return take_layout(sink, message, error);
    case MIGRATION_PAGES:
    case MIGRATION_ZEROES:
        return take_pages(sink, message, error);
    case MIGRATION_STATE:
        return take_state(sink, message, error);
    case MIGRATION_DONE:
        return take_done(sink, message, error);
    case MIGRATION_COMMIT:
        sink->committed = true;
        return true;
    case MIGRATION_SYNC:
        sink->asked = true;
        return true;
    default:
        return take_failed(sink, message, error);
    }
}

bool migration_sink_fits(const struct migration_sink *sink, const struct memory *memory,
                         GError **error)
{
    unsigned count, at = 0;
    const struct memory_region *regions = memory_regions(memory, &count);
    bool same = true;

    for (unsigned i = 0; i < count && same; i++) {
        if (!(regions[i].flags & MEMORY_RAM))
            continue;
        same = at + 1 < sink->layout->len &&
               g_array_index(sink->layout, uint64_t, at) == regions[i].gpa &&
               g_array_index(sink->layout, uint64_t, at + 1) == regions[i].size;
        at += 2;
    }
    return (same && at == sink->layout->len) ||
           stream_refuse(error, WHO, "LAYOUT: the source's memory is laid out differently");
}
