/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot - encoding and checking of the stream (vmm/snapshot.h has the format)
 *
 * The stream is small (RAM is apart), so both ways work on a whole one in memory: what is not valid to
 * its last byte never becomes a struct snapshot.
 */
#include "vmm/fd.h"
#include "vmm/snapshot.h"
#include "vmm/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHO            "snapshot" /* in messages */
#define MAGIC          "LODGESNP"
#define DIGEST_SIZE    32u
#define HEADER_SIZE    (8u + 16u + DIGEST_SIZE + 4u)
#define SECTION_SIZE   24u
#define CRC32C_POLY    0x82f63b78u /* reflected */
#define FIRST_READABLE 1u

/* The newest version of each section type that this program knows. */
static const struct {
    uint16_t type, version;
    const char *name;
} known_types[] = {
    {SNAPSHOT_CONFIG, 1, "CONFIG"}, {SNAPSHOT_RAM, 1, "RAM"},    {SNAPSHOT_VM, 1, "VM"},
    {SNAPSHOT_VCPU, 1, "VCPU"},     {SNAPSHOT_DEVICE, 1, "DEV"}, {SNAPSHOT_END, 1, "END"},
};

static uint32_t crc32c_by_table(uint32_t crc, const uint8_t *bytes, size_t size)
{
    static uint32_t table[256];
    static gsize ready;

    if (g_once_init_enter(&ready)) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (unsigned bit = 0; bit < 8; bit++)
                value = value >> 1 ^ (value & 1 ? CRC32C_POLY : 0);
            table[i] = value;
        }
        g_once_init_leave(&ready, 1);
    }
    while (size--)
        crc = table[(crc ^ *bytes++) & 0xff] ^ crc >> 8;
    return crc;
}

#ifdef __x86_64__
/* SSE 4.2 has an instruction for just this polynomial: a migration's RAM goes through here. */
__attribute__((target("sse4.2"))) static uint32_t
crc32c_by_instruction(uint32_t crc, const uint8_t *bytes, size_t size)
{
    uint64_t wide = crc, value;

    for (; size >= sizeof(value); bytes += sizeof(value), size -= sizeof(value)) {
        memcpy(&value, bytes, sizeof(value));
        wide = __builtin_ia32_crc32di(wide, value);
    }
    crc = (uint32_t)wide;
    while (size--)
        crc = __builtin_ia32_crc32qi(crc, *bytes++);
    return crc;
}
#endif

uint32_t snapshot_crc32c(uint32_t crc, const void *data, size_t size)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return ~crc32c_by_instruction(~crc, data, size);
#endif
    return ~crc32c_by_table(~crc, data, size);
}

static void sha256(const uint8_t *data, size_t size, uint8_t digest[DIGEST_SIZE])
{
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize length = DIGEST_SIZE;

    g_checksum_update(checksum, data, (gssize)size);
    g_checksum_get_digest(checksum, digest, &length);
}

const char *snapshot_type_name(unsigned type)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(known_types); i++)
        if (known_types[i].type == type)
            return known_types[i].name;
    return "unknown";
}

static unsigned newest_version(unsigned type)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(known_types); i++)
        if (known_types[i].type == type)
            return known_types[i].version;
    return 0;
}

/* ---- in memory ---- */

static void section_free(gpointer data)
{
    struct snapshot_section *section = data;

    g_free(section->name);
    g_free(section->data);
    g_free(section);
}

struct snapshot *snapshot_create(void)
{
    struct snapshot *snapshot = g_new0(struct snapshot, 1);

    snapshot->sections = g_ptr_array_new_with_free_func(section_free);
    snapshot->max_devices = SNAPSHOT_MAX_DEVICES;
    return snapshot;
}

void snapshot_destroy(struct snapshot *snapshot)
{
    if (!snapshot)
        return;
    g_ptr_array_unref(snapshot->sections);
    g_free(snapshot);
}

static struct snapshot_section *append(struct snapshot *snapshot, const char *name, size_t name_len,
                                       const void *data, size_t size)
{
    struct snapshot_section *section = g_new0(struct snapshot_section, 1);

    section->name = g_strndup(name, name_len);
    section->data = g_malloc(size + 1);
    if (size)
        memcpy(section->data, data, size);
    section->data[size] = '\0'; /* so that text is a string */
    section->size = size;
    g_ptr_array_add(snapshot->sections, section);
    return section;
}

void snapshot_add(struct snapshot *snapshot, enum snapshot_type type, uint16_t version,
                  const char *name, const void *data, size_t size)
{
    struct snapshot_section *section =
        append(snapshot, name, MIN(strlen(name), SNAPSHOT_MAX_NAME), data, size);

    section->type = (uint16_t)type;
    section->version = version;
    section->flags = SNAPSHOT_MANDATORY;
}

bool snapshot_add_device(struct snapshot *snapshot, const char *name, const void *data, size_t size,
                         GError **error)
{
    if (size > snapshot->max_devices - snapshot->devices) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "snapshot: with the %zu MiB that %s holds the devices' states are larger than "
                    "%" G_GUINT64_FORMAT " MiB; the guest must free some of it",
                    size >> 20, name, snapshot->max_devices >> 20);
        return false;
    }
    snapshot->devices += size;
    snapshot_add(snapshot, SNAPSHOT_DEVICE, 1, name, data, size);
    return true;
}

const struct snapshot_section *snapshot_find(const struct snapshot *snapshot,
                                             enum snapshot_type type, const char *name)
{
    for (guint i = 0; i < snapshot->sections->len; i++) {
        const struct snapshot_section *section = g_ptr_array_index(snapshot->sections, i);

        if (section->type == type && (!name || !strcmp(section->name, name)))
            return section;
    }
    return NULL;
}

/* ---- encoding ---- */

static void put(GByteArray *out, uint64_t value, unsigned bytes)
{
    uint64_t little = GUINT64_TO_LE(value);

    g_byte_array_append(out, (const uint8_t *)&little, bytes);
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t little = 0;

    memcpy(&little, at, bytes);
    return GUINT64_FROM_LE(little);
}

static void put_section(GByteArray *out, const struct snapshot_section *section)
{
    guint start = out->len;
    size_t name_length = strlen(section->name);
    uint32_t crc = snapshot_crc32c(0, section->name, name_length);

    put(out, section->type, 2);
    put(out, section->version, 2);
    put(out, section->flags, 2);
    put(out, name_length, 2);
    put(out, section->size, 8);
    put(out, snapshot_crc32c(crc, section->data, section->size), 4);
    put(out, snapshot_crc32c(0, out->data + start, out->len - start), 4);
    g_byte_array_append(out, (const uint8_t *)section->name, (guint)name_length);
    g_byte_array_append(out, section->data, (guint)section->size);
}

GByteArray *snapshot_encode(const struct snapshot *snapshot)
{
    GByteArray *out = g_byte_array_new();
    const struct snapshot_section *config = snapshot_find(snapshot, SNAPSHOT_CONFIG, NULL);
    uint8_t digest[DIGEST_SIZE];
    struct snapshot_section end = {
        .type = SNAPSHOT_END,
        .version = 1,
        .flags = SNAPSHOT_MANDATORY,
        .name = "end",
        .data = digest,
        .size = DIGEST_SIZE,
    };

    g_byte_array_append(out, (const uint8_t *)MAGIC, 8);
    put(out, SNAPSHOT_FORMAT, 4);
    put(out, 0, 4);
    put(out, FIRST_READABLE, 4);
    put(out, snapshot->sections->len + 1, 4);
    sha256(config ? config->data : (const uint8_t *)"", config ? config->size : 0, digest);
    g_byte_array_append(out, digest, DIGEST_SIZE);
    put(out, snapshot_crc32c(0, out->data, out->len), 4);
    for (guint i = 0; i < snapshot->sections->len; i++)
        put_section(out, g_ptr_array_index(snapshot->sections, i));
    sha256(out->data, out->len, digest);
    put_section(out, &end);
    return out;
}

/* ---- decoding ---- */

static bool check_header(const uint8_t *data, size_t size, uint32_t *sections, GError **error)
{
    if (size < 8 || memcmp(data, MAGIC, 8))
        return stream_refuse(error, WHO,
                             "not a Lodge snapshot: it does not begin with \"" MAGIC "\"");
    if (size < HEADER_SIZE)
        return stream_refuse(error, WHO, "truncated in its header: %zu bytes of %u", size,
                             HEADER_SIZE);
    if (get(data + HEADER_SIZE - 4, 4) != snapshot_crc32c(0, data, HEADER_SIZE - 4))
        return stream_refuse(error, WHO, "the header is damaged (its checksum is wrong)");
    if (get(data + 16, 4) > SNAPSHOT_FORMAT)
        return stream_refuse(
            error, WHO,
            "format %u, which needs a reader of format %u; this program has %u: use a "
            "newer lodge",
            (unsigned)get(data + 8, 4), (unsigned)get(data + 16, 4), SNAPSHOT_FORMAT);
    if (get(data + 12, 4))
        return stream_refuse(error, WHO, "header flags %#x are not known: use a newer lodge",
                             (unsigned)get(data + 12, 4));
    *sections = (uint32_t)get(data + 20, 4);
    if (*sections < 1 || *sections > SNAPSHOT_MAX_SECTIONS)
        return stream_refuse(error, WHO, "%u sections: must be 1 to %u", *sections,
                             SNAPSHOT_MAX_SECTIONS);
    return true;
}

/* A section's place in the stream, checked; the payload belongs to the stream. */
struct view {
    struct snapshot_section head; /* but name and data */
    const char *name;
    size_t name_length;
    const uint8_t *data;
};

static bool view_section(const uint8_t *data, size_t size, size_t *at, unsigned index,
                         struct view *view, GError **error)
{
    const uint8_t *head = data + *at;
    size_t left = size - *at;
    uint64_t length;
    uint32_t crc;

    if (left < SECTION_SIZE)
        return stream_refuse(error, WHO, "truncated in the header of section %u", index);
    if (get(head + 20, 4) != snapshot_crc32c(0, head, 20))
        return stream_refuse(error, WHO, "section %u: its header is damaged (checksum)", index);
    view->head.type = (uint16_t)get(head, 2);
    view->head.version = (uint16_t)get(head + 2, 2);
    view->head.flags = (uint16_t)get(head + 4, 2);
    view->name_length = (size_t)get(head + 6, 2);
    length = get(head + 8, 8);
    left -= SECTION_SIZE;
    if (view->name_length < 1 || view->name_length > SNAPSHOT_MAX_NAME)
        return stream_refuse(error, WHO, "section %u: a name of %zu bytes: must be 1 to %u", index,
                             view->name_length, SNAPSHOT_MAX_NAME);
    if (left < view->name_length || left - view->name_length < length)
        return stream_refuse(error, WHO, "truncated in section %u (%s)", index,
                             snapshot_type_name(view->head.type));
    view->name = (const char *)head + SECTION_SIZE;
    view->data = head + SECTION_SIZE + view->name_length;
    view->head.size = (size_t)length;
    crc = snapshot_crc32c(0, view->name, view->name_length + view->head.size);
    if (get(head + 16, 4) != crc)
        return stream_refuse(error, WHO, "section %u (%s): its content is damaged (checksum)",
                             index, snapshot_type_name(view->head.type));
    if (memchr(view->name, 0, view->name_length) ||
        !g_utf8_validate(view->name, (gssize)view->name_length, NULL))
        return stream_refuse(error, WHO, "section %u (%s): its name is no text", index,
                             snapshot_type_name(view->head.type));
    *at += SECTION_SIZE + view->name_length + view->head.size;
    return true;
}

/* Takes one section in, if its type and version can be read. */
static bool take_section(struct snapshot *snapshot, const struct view *view, GError **error)
{
    unsigned newest = newest_version(view->head.type);
    struct snapshot_section *section;
    g_autofree char *name = g_strndup(view->name, view->name_length);

    if (!newest && !(view->head.flags & SNAPSHOT_MANDATORY))
        return true;
    if (!newest)
        return stream_refuse(error, WHO, "section '%s': type %u is not known: use a newer lodge",
                             name, view->head.type);
    if (view->head.version < 1 || view->head.version > newest)
        return stream_refuse(
            error, WHO,
            "section %s '%s': version %u; this program reads up to %u: use a newer "
            "lodge",
            snapshot_type_name(view->head.type), name, view->head.version, newest);
    if (snapshot_find(snapshot, view->head.type, name))
        return stream_refuse(error, WHO, "section %s '%s' is there twice",
                             snapshot_type_name(view->head.type), name);
    section = append(snapshot, view->name, view->name_length, view->data, view->head.size);
    section->type = view->head.type;
    section->version = view->head.version;
    section->flags = view->head.flags;
    return true;
}

static bool check_end(const uint8_t *data, size_t before, const struct view *view, GError **error)
{
    uint8_t digest[DIGEST_SIZE];

    if (view->head.type != SNAPSHOT_END || view->head.size != DIGEST_SIZE)
        return stream_refuse(error, WHO, "its last section is not END: it is not complete");
    sha256(data, before, digest);
    if (memcmp(digest, view->data, DIGEST_SIZE))
        return stream_refuse(error, WHO, "section END: the digest of the whole does not match");
    return true;
}

static bool decode_sections(struct snapshot *snapshot, const uint8_t *data, size_t size,
                            GError **error)
{
    uint8_t digest[DIGEST_SIZE];
    const struct snapshot_section *config;
    uint32_t sections = 0;
    size_t at = HEADER_SIZE;

    if (!check_header(data, size, &sections, error))
        return false;
    for (uint32_t i = 0; i < sections; i++) {
        size_t before = at;
        struct view view = {0};

        if (!view_section(data, size, &at, i, &view, error))
            return false;
        if (i == sections - 1) {
            if (!check_end(data, before, &view, error))
                return false;
        } else if (view.head.type == SNAPSHOT_END) {
            return stream_refuse(error, WHO, "section %u is END, but the header says %u sections",
                                 i, sections);
        } else if (!take_section(snapshot, &view, error)) {
            return false;
        }
    }
    if (at != size)
        return stream_refuse(error, WHO, "%zu bytes follow the END section", size - at);
    config = snapshot_find(snapshot, SNAPSHOT_CONFIG, NULL);
    sha256(config ? config->data : (const uint8_t *)"", config ? config->size : 0, digest);
    if (memcmp(digest, data + 24, DIGEST_SIZE))
        return stream_refuse(error, WHO, "section CONFIG is not the one that the header names");
    return true;
}

struct snapshot *snapshot_decode(const uint8_t *data, size_t size, GError **error)
{
    g_autoptr(snapshot_t) snapshot = snapshot_create();

    if (!decode_sections(snapshot, data, size, error))
        return NULL;
    return g_steal_pointer(&snapshot);
}

/* ---- files ---- */

bool snapshot_write(const struct snapshot *snapshot, const char *path, GError **error)
{
    g_autoptr(GByteArray) bytes = snapshot_encode(snapshot);

    return g_file_set_contents_full(path, (const char *)bytes->data, bytes->len,
                                    G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                    0600, error);
}

struct snapshot *snapshot_read(const char *path, GError **error)
{
    /* O_NONBLOCK: a FIFO there must not make us wait. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    g_autofree uint8_t *data = NULL;
    struct snapshot *snapshot = NULL;
    struct stat st;
    size_t got = 0, size;

    if (fd < 0 || fstat(fd, &st)) {
        stream_refuse(error, WHO, "%s: %s", path, g_strerror(errno));
    } else if (!S_ISREG(st.st_mode) || st.st_size > (off_t)SNAPSHOT_MAX_SIZE) {
        stream_refuse(error, WHO, "%s: must be a file of at most %u MiB", path,
                      SNAPSHOT_MAX_SIZE >> 20);
    } else {
        size = (size_t)st.st_size;
        data = g_malloc(size + 1);
        while (got < size) {
            ssize_t n = read(fd, data + got, size - got);
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                break;
            got += (size_t)n;
        }
        snapshot = snapshot_decode(data, got, error);
        if (!snapshot)
            g_prefix_error(error, "%s: ", path);
    }
    close_fd(fd);
    return snapshot;
}
