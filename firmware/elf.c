/* SPDX-License-Identifier: GPL-2.0-or-later */
/* elf - ELF64 kernels with a PVH note; see elf.h. */
#include "firmware/elf.h"

#include <elf.h>
#include <gio/gio.h>
#include <string.h>

#include "vmm/layout.h"

#define ELF_BAD_MAX           (UINT64_C(256) << 20) /* of what is no kernel: unpacked to see if it is whole */
#define NOTE_XEN_PHYS32_ENTRY 18
#define NOTE_LINUX_BUILD_SALT 0x100

static bool fail(GError **error, int code, const char *name, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

static bool fail(GError **error, int code, const char *name, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    g_autofree char *text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error(error, G_IO_ERROR, code, "%s: %s", name, text);
    return false;
}

bool elf_is_elf(const void *head, size_t size)
{
    return size >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0;
}

static bool check_header(const Elf64_Ehdr *header, const char *name, GError **error)
{
    if (header->e_ident[EI_CLASS] != ELFCLASS64)
        return fail(error, G_IO_ERROR_NOT_SUPPORTED, name,
                    "a 32-bit ELF file: use a kernel for x86-64");
    if (header->e_ident[EI_DATA] != ELFDATA2LSB || GUINT16_FROM_LE(header->e_machine) != EM_X86_64)
        return fail(error, G_IO_ERROR_NOT_SUPPORTED, name,
                    "an ELF file for another architecture (machine %u): use a kernel for x86-64",
                    GUINT16_FROM_LE(header->e_machine));
    if (header->e_ident[EI_VERSION] != EV_CURRENT || header->e_version != EV_CURRENT)
        return fail(error, G_IO_ERROR_INVALID_DATA, name, "corrupt: unknown ELF version");
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return fail(error, G_IO_ERROR_NOT_SUPPORTED, name,
                    "an ELF file of type %u, not an executable: give the linked vmlinux",
                    header->e_type);
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0)
        return fail(error, G_IO_ERROR_INVALID_DATA, name, "corrupt: %u program headers of %u bytes",
                    header->e_phnum, header->e_phentsize);
    return true;
}

static bool add_segment(struct elf_image *image, const Elf64_Phdr *phdr, const char *name,
                        uint64_t limit, GError **error)
{
    struct elf_segment *segment = &image->segment[image->segments];

    if (phdr->p_memsz == 0 && phdr->p_filesz == 0)
        return true;
    if (image->segments >= ELF_SEGMENTS)
        return fail(error, G_IO_ERROR_INVALID_DATA, name, "more than %u segments", ELF_SEGMENTS);
    if (!source_in_range(phdr->p_offset, phdr->p_filesz, limit))
        return fail(error, G_IO_ERROR_INVALID_DATA, name,
                    "truncated: a segment ends at %" G_GUINT64_FORMAT
                    ", the file at %" G_GUINT64_FORMAT ": fetch or build it again",
                    phdr->p_offset + phdr->p_filesz, limit);
    if (phdr->p_filesz > phdr->p_memsz || phdr->p_paddr + phdr->p_memsz < phdr->p_paddr)
        return fail(error, G_IO_ERROR_INVALID_DATA, name,
                    "corrupt: a segment of %" G_GUINT64_FORMAT " bytes has %" G_GUINT64_FORMAT
                    " in memory at 0x%" G_GINT64_MODIFIER "x",
                    phdr->p_filesz, phdr->p_memsz, phdr->p_paddr);
    *segment = (struct elf_segment){
        .offset = phdr->p_offset,
        .file_size = phdr->p_filesz,
        .gpa = phdr->p_paddr,
        .memory_size = phdr->p_memsz,
    };
    image->segments++;
    image->end = MAX(image->end, phdr->p_offset + phdr->p_filesz);
    image->memory_end = MAX(image->memory_end, phdr->p_paddr + phdr->p_memsz);
    return true;
}

static bool add_note(struct elf_image *image, const Elf64_Phdr *phdr, const char *name,
                     uint64_t limit, GError **error)
{
    struct elf_note *note = &image->note[image->notes];

    if (phdr->p_filesz == 0 || image->notes >= ELF_NOTES)
        return true;
    if (!source_in_range(phdr->p_offset, phdr->p_filesz, limit))
        return fail(error, G_IO_ERROR_INVALID_DATA, name,
                    "truncated: its notes lie at %" G_GUINT64_FORMAT
                    ", the file ends at %" G_GUINT64_FORMAT ": fetch or build it again",
                    phdr->p_offset, limit);
    note->offset = phdr->p_offset;
    note->size = MIN(phdr->p_filesz, ELF_NOTE_BYTES);
    note->align = phdr->p_align == 8 ? 8 : 4;
    memset(note->bytes, 0, note->size);
    image->notes++;
    image->end = MAX(image->end, note->offset + note->size);
    return true;
}

bool elf_parse(struct elf_image *image, const char *name, const uint8_t *head, size_t size,
               uint64_t limit, GError **error)
{
    Elf64_Ehdr header;

    image->segments = image->notes = 0;
    image->end = image->memory_end = image->pvh_entry = 0;
    image->version[0] = 0;
    if (!elf_is_elf(head, size))
        return fail(error, G_IO_ERROR_NOT_SUPPORTED, name, "not an ELF file");
    if (size < sizeof(header))
        return fail(error, G_IO_ERROR_INVALID_DATA, name,
                    "truncated within the ELF header: fetch or build it again");
    memcpy(&header, head, sizeof(header));
    if (!check_header(&header, name, error))
        return false;
    uint64_t table = (uint64_t)header.e_phnum * sizeof(Elf64_Phdr);
    if (!source_in_range(header.e_phoff, table, limit))
        return fail(error, G_IO_ERROR_INVALID_DATA, name,
                    "truncated within the program headers: fetch or build it again");
    if (!source_in_range(header.e_phoff, table, size))
        return fail(error, G_IO_ERROR_NOT_SUPPORTED, name,
                    "its program headers lie beyond the first %u bytes: relink it", ELF_HEAD);
    image->head_size = MAX(header.e_phoff + table, sizeof(header));
    image->end = image->head_size;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr phdr;

        memcpy(&phdr, head + header.e_phoff + i * sizeof(phdr), sizeof(phdr));
        if (phdr.p_type == PT_LOAD && !add_segment(image, &phdr, name, limit, error))
            return false;
        if (phdr.p_type == PT_NOTE && !add_note(image, &phdr, name, limit, error))
            return false;
    }
    if (image->segments == 0)
        return fail(error, G_IO_ERROR_INVALID_DATA, name, "has nothing to load: not a kernel");
    return true;
}

bool elf_place(const struct elf_image *image, const char *name, struct space *space, GError **error)
{
    for (unsigned i = 0; i < image->segments; i++) {
        const struct elf_segment *segment = &image->segment[i];

        if (space_take(space, segment->gpa, segment->memory_size))
            continue;
        if (segment->gpa < SPACE_HIGH_RAM)
            return fail(error, G_IO_ERROR_NOT_SUPPORTED, name,
                        "wants to lie at 0x%" G_GINT64_MODIFIER "x, below 1 MiB: not a kernel",
                        segment->gpa);
        for (unsigned j = 0; j < i; j++) {
            const struct elf_segment *other = &image->segment[j];
            if (segment->gpa < other->gpa + other->memory_size &&
                other->gpa < segment->gpa + segment->memory_size)
                return fail(error, G_IO_ERROR_INVALID_DATA, name,
                            "corrupt: segments %u and %u overlap in memory", j, i);
        }
        if (image->memory_end > LAYOUT_LOW_END)
            return fail(error, G_IO_ERROR_NO_SPACE, name,
                        "a segment lies at 0x%" G_GINT64_MODIFIER "x, where no guest has memory",
                        segment->gpa);
        return fail(error, G_IO_ERROR_NO_SPACE, name,
                    "needs at least %" G_GUINT64_FORMAT
                    " MiB of memory, the guest has %" G_GUINT64_FORMAT ": give it more (-m)",
                    (image->memory_end + MIB - 1) / MIB, space_ram_mib(space));
    }
    return true;
}

/* ---- notes ---- */

static uint64_t align_up(uint64_t value, uint32_t align)
{
    return (value + align - 1) & ~(uint64_t)(align - 1);
}

static void take_note(struct elf_image *image, const char *owner, uint32_t type,
                      const uint8_t *data, uint32_t size)
{
    if (strcmp(owner, "Xen") == 0 && type == NOTE_XEN_PHYS32_ENTRY && (size == 4 || size == 8)) {
        uint64_t entry = 0;
        memcpy(&entry, data, size);
        image->pvh_entry = GUINT64_FROM_LE(entry);
    } else if (strcmp(owner, "Linux") == 0 && type == NOTE_LINUX_BUILD_SALT && size > 0) {
        g_strlcpy(image->version, (const char *)data, MIN(sizeof(image->version), size));
        for (char *c = image->version; *c; c++)
            if (*c <= ' ' || *c >= 0x7f)
                *c = 0;
    }
}

static void parse_notes(struct elf_image *image, const struct elf_note *note)
{
    uint64_t at = 0;

    while (note->size - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr header;
        char owner[8] = {0};

        memcpy(&header, note->bytes + at, sizeof(header));
        uint64_t name = at + sizeof(header);
        uint64_t data = name + align_up(header.n_namesz, note->align);
        uint64_t next = data + align_up(header.n_descsz, note->align);
        if (data > note->size || header.n_descsz > note->size - data)
            return;
        if (header.n_namesz < sizeof(owner)) {
            memcpy(owner, note->bytes + name, header.n_namesz);
            take_note(image, owner, header.n_type, note->bytes + data, header.n_descsz);
        }
        if (next > note->size)
            return;
        at = next;
    }
}

static bool check_notes(struct elf_image *image, const char *name, GError **error)
{
    for (unsigned i = 0; i < image->notes; i++)
        parse_notes(image, &image->note[i]);
    return image->pvh_entry != 0 ||
           fail(error, G_IO_ERROR_NOT_SUPPORTED, name,
                "has no PVH entry note: build the kernel with CONFIG_PVH=y, or give its bzImage");
}

bool elf_finish(struct elf_image *image, const char *name, struct space *space, GError **error)
{
    if (!check_notes(image, name, error))
        return false;
    for (unsigned i = 0; i < image->segments; i++) {
        const struct elf_segment *segment = &image->segment[i];
        space_zero(space, segment->gpa + segment->file_size,
                   segment->memory_size - segment->file_size);
    }
    for (unsigned i = 0; i < image->segments; i++) {
        const struct elf_segment *segment = &image->segment[i];
        if (image->pvh_entry >= segment->gpa &&
            image->pvh_entry - segment->gpa < segment->file_size && image->pvh_entry <= G_MAXUINT32)
            return true;
    }
    return fail(error, G_IO_ERROR_INVALID_DATA, name,
                "corrupt: the PVH entry 0x%" G_GINT64_MODIFIER "x lies in none of its segments",
                image->pvh_entry);
}

/* ---- checksum ---- */

#define MIX UINT64_C(0x9e3779b97f4a7c15)

/* Four independent lanes, so that the multiplications overlap. */
struct sum {
    uint64_t lane[4];
};

static void sum_add(struct sum *sum, const uint8_t *bytes, uint64_t size)
{
    uint64_t *lane = sum->lane, word[4];

    for (; size >= sizeof(word); bytes += sizeof(word), size -= sizeof(word)) {
        memcpy(word, bytes, sizeof(word));
        for (unsigned i = 0; i < 4; i++) {
            lane[i] = (lane[i] ^ word[i]) * MIX;
            lane[i] ^= lane[i] >> 32;
        }
    }
    memset(word, 0, sizeof(word));
    memcpy(word, bytes, size);
    for (unsigned i = 0; i < 4; i++)
        lane[i] = ((lane[i] ^ word[i]) + size) * MIX;
}

static void sum_start(struct sum *sum, const struct elf_image *image, const uint8_t *head)
{
    *sum = (struct sum){{1, 2, 3, 4}};
    sum_add(sum, head, image->head_size);
    for (unsigned i = 0; i < image->notes; i++)
        sum_add(sum, image->note[i].bytes, image->note[i].size);
}

/* A block of a segment: one of zeros counts for nothing, be it a hole in a file or written out. */
static void sum_block(struct sum *sum, uint64_t offset, const uint8_t *bytes, uint64_t size)
{
    if (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0)
        return;
    sum->lane[0] ^= offset;
    sum_add(sum, bytes, size);
}

static uint64_t sum_finish(const struct sum *sum)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < 4; i++)
        all = (all ^ sum->lane[i] ^ sum->lane[i] >> 29) * MIX;
    return all;
}

uint64_t elf_checksum(const struct elf_image *image, const uint8_t *head, struct space *space)
{
    struct sum sum;

    sum_start(&sum, image, head);
    for (unsigned i = 0; i < image->segments; i++) {
        const struct elf_segment *segment = &image->segment[i];
        struct memory_span span;

        for (uint64_t at = 0; at < segment->file_size; at += span.len) {
            if (!memory_find(space->memory, segment->gpa + at,
                             MIN(ELF_BLOCK, segment->file_size - at), &span))
                break;
            sum_block(&sum, segment->offset + at, span.host, span.len);
        }
    }
    return sum_finish(&sum);
}

/* ---- loading ---- */

static bool read_segment(const struct source *source, const struct elf_segment *segment,
                         struct space *space, struct sum *sum, GError **error)
{
    uint64_t next_data = 0; /* where the file is known to have something again */

    for (uint64_t at = 0; at < segment->file_size;) {
        uint64_t offset = segment->offset + at, gpa = segment->gpa + at;
        uint64_t size = MIN(ELF_BLOCK, segment->file_size - at);
        struct memory_span span;

        if (next_data <= offset)
            next_data = source_next_data(source, offset);
        if (next_data >= offset + size) {
            space_zero(space, gpa, size);
        } else {
            if (!source_read_guest(source, offset, space->memory, gpa, size, error))
                return false;
            if (sum && memory_find(space->memory, gpa, size, &span)) /* still in the CPU's cache */
                sum_block(sum, offset, span.host, span.len);
        }
        at += size;
    }
    return true;
}

bool elf_load(struct elf_image *image, const struct source *source, struct space *space,
              uint64_t *checksum, GError **error)
{
    uint8_t head[ELF_HEAD];
    size_t size = MIN(sizeof(head), source->size);
    struct sum sum;

    if (!source_read(source, 0, head, size, error) ||
        !elf_parse(image, source->name, head, size, source->size, error) ||
        !elf_place(image, source->name, space, error))
        return false;
    for (unsigned i = 0; i < image->notes; i++) {
        struct elf_note *note = &image->note[i];
        if (!source_read(source, note->offset, note->bytes, note->size, error))
            return false;
    }
    sum_start(&sum, image, head);
    for (unsigned i = 0; i < image->segments; i++) {
        if (!read_segment(source, &image->segment[i], space, checksum ? &sum : NULL, error))
            return false;
    }
    if (checksum)
        *checksum = sum_finish(&sum);
    return elf_finish(image, source->name, space, error);
}

/* ---- streams ---- */

void elf_stream_init(struct elf_stream *stream, struct elf_image *image, const char *name,
                     struct space *space, uint64_t limit)
{
    stream->image = image;
    stream->name = name;
    stream->space = space;
    stream->limit = limit;
    stream->offset = 0;
    stream->parsed = false;
    stream->bad = NULL;
    stream->head_fill = 0;
    stream->direct = NULL;
}

void elf_stream_clear(struct elf_stream *stream)
{
    g_clear_error(&stream->bad);
}

/* Guest memory for the bytes at the current offset, or NULL if no segment wants them; @size becomes
 * how far that holds. */
static uint8_t *find_direct(struct elf_stream *stream, uint64_t *size)
{
    struct memory_span span;

    for (unsigned i = 0; i < stream->image->segments; i++) {
        const struct elf_segment *segment = &stream->image->segment[i];

        if (stream->offset < segment->offset) {
            *size = MIN(*size, segment->offset - stream->offset);
        } else if (stream->offset - segment->offset < segment->file_size) {
            uint64_t within = stream->offset - segment->offset;
            if (!memory_find(stream->space->memory, segment->gpa + within,
                             segment->file_size - within, &span))
                return NULL; /* can't be: elf_place has seen it */
            *size = span.len;
            stream->direct_segment = i;
            return span.host;
        }
    }
    return NULL;
}

uint8_t *elf_stream_buffer(struct elf_stream *stream, uint64_t *size)
{
    if (!stream->parsed) {
        *size = sizeof(stream->head) - stream->head_fill;
        return stream->head + stream->head_fill;
    }
    *size = G_MAXUINT64;
    stream->direct = find_direct(stream, size);
    if (stream->direct)
        return stream->direct;
    *size = MIN(*size, sizeof(stream->scratch));
    return stream->scratch;
}

/* Copies [offset, offset + size) at @bytes to wherever the image wants it. */
static void scatter(struct elf_stream *stream, uint64_t offset, const uint8_t *bytes, uint64_t size)
{
    struct elf_image *image = stream->image;

    for (unsigned i = 0; i < image->notes; i++) {
        struct elf_note *note = &image->note[i];
        uint64_t from = MAX(offset, note->offset);
        uint64_t to = MIN(offset + size, note->offset + note->size);
        if (from < to)
            memcpy(note->bytes + (from - note->offset), bytes + (from - offset), to - from);
    }
    for (unsigned i = 0; i < image->segments; i++) {
        const struct elf_segment *segment = &image->segment[i];
        uint64_t from = MAX(offset, segment->offset);
        uint64_t to = MIN(offset + size, segment->offset + segment->file_size);
        if (from >= to)
            continue;
        uint64_t gpa = segment->gpa + (from - segment->offset);
        if (stream->direct && i == stream->direct_segment)
            memory_mark_dirty(stream->space->memory, gpa, to - from);
        else
            space_write(stream->space, gpa, bytes + (from - offset), to - from);
    }
}

/* The head is full, or the image is over. What can't be a kernel is only remembered: if its packed
 * data turns out to be damaged, that is the better message, and the reason why. */
static bool parse_head(struct elf_stream *stream, GError **error)
{
    struct elf_image *image = stream->image;

    stream->parsed = true;
    stream->direct = NULL;
    if (!elf_parse(image, stream->name, stream->head, stream->head_fill, stream->limit,
                   &stream->bad)) {
        image->segments = image->notes = 0;
        return true;
    }
    if (!elf_place(image, stream->name, stream->space, error))
        return false;
    scatter(stream, 0, stream->head, stream->head_fill);
    return true;
}

static bool check_limit(struct elf_stream *stream, uint64_t size, GError **error)
{
    if (stream->bad && stream->offset > ELF_BAD_MAX) {
        g_propagate_error(error, g_steal_pointer(&stream->bad));
        return false;
    }
    if (size > stream->limit - stream->offset)
        return fail(error, G_IO_ERROR_INVALID_DATA, stream->name,
                    "corrupt: unpacks to more than %" G_GUINT64_FORMAT " MiB", stream->limit >> 20);
    return true;
}

bool elf_stream_commit(struct elf_stream *stream, uint64_t size, GError **error)
{
    if (!check_limit(stream, size, error))
        return false;
    if (!stream->parsed) {
        stream->head_fill += size;
        stream->offset += size;
        return stream->head_fill < sizeof(stream->head) || parse_head(stream, error);
    }
    scatter(stream, stream->offset, stream->direct ? stream->direct : stream->scratch, size);
    stream->offset += size;
    stream->direct = NULL;
    return true;
}

bool elf_stream_write(struct elf_stream *stream, const uint8_t *bytes, uint64_t size,
                      GError **error)
{
    while (!stream->parsed && size > 0) {
        uint64_t room;
        uint8_t *to = elf_stream_buffer(stream, &room);
        uint64_t n = MIN(room, size);

        memcpy(to, bytes, n);
        if (!elf_stream_commit(stream, n, error))
            return false;
        bytes += n;
        size -= n;
    }
    if (!check_limit(stream, size, error))
        return false;
    stream->direct = NULL;
    scatter(stream, stream->offset, bytes, size);
    stream->offset += size;
    return true;
}

bool elf_stream_finish(struct elf_stream *stream, GError **error)
{
    if (!stream->parsed) {
        stream->limit = stream->offset;
        if (!parse_head(stream, error))
            return false;
    }
    if (stream->bad) {
        g_propagate_error(error, g_steal_pointer(&stream->bad));
        return false;
    }
    if (stream->offset < stream->image->end)
        return fail(error, G_IO_ERROR_INVALID_DATA, stream->name,
                    "truncated: unpacks to %" G_GUINT64_FORMAT " bytes of %" G_GUINT64_FORMAT
                    ": fetch or build it again",
                    stream->offset, stream->image->end);
    return elf_finish(stream->image, stream->name, stream->space, error);
}
