/* SPDX-License-Identifier: GPL-2.0-or-later */
/* unpack - compressed kernels; see unpack.h. */
#include "firmware/unpack.h"

#include <gio/gio.h>
#include <string.h>

#include "config.h"

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_LZMA
#include <lzma.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif
#ifdef HAVE_LZ4
#include <lz4.h>
#endif

#define INPUT_SIZE (256u << 10)

struct input {
    const struct source *source;
    uint64_t offset, left; /* in the source, of what is still to be read */
    enum unpack_format format;
    uint8_t *buffer;
};

static const struct {
    const char *name;
    unsigned size;
    uint8_t magic[6];
} formats[] = {
    [UNPACK_GZIP] = {"gzip", 3, {0x1f, 0x8b, 0x08}},
    [UNPACK_XZ] = {"xz", 6, {0xfd, '7', 'z', 'X', 'Z', 0}},
    [UNPACK_LZMA] = {"lzma", 3, {0x5d, 0, 0}},
    [UNPACK_ZSTD] = {"zstd", 4, {0x28, 0xb5, 0x2f, 0xfd}},
    [UNPACK_LZ4] = {"lz4", 4, {0x02, 0x21, 0x4c, 0x18}},
    [UNPACK_BZIP2] = {"bzip2", 3, {'B', 'Z', 'h'}},
    [UNPACK_LZO] = {"lzo", 4, {0x89, 'L', 'Z', 'O'}},
};

enum unpack_format unpack_detect(const uint8_t *head, size_t size)
{
    for (unsigned i = UNPACK_GZIP; i < G_N_ELEMENTS(formats); i++)
        if (size >= formats[i].size && memcmp(head, formats[i].magic, formats[i].size) == 0)
            return i;
    return UNPACK_UNKNOWN;
}

const char *unpack_name(enum unpack_format format)
{
    return format == UNPACK_UNKNOWN ? "unknown" : formats[format].name;
}

/* Unused in a build without any library. */
static G_GNUC_UNUSED bool corrupt(const struct input *input, GError **error, const char *detail)
{
    g_set_error(
        error, G_IO_ERROR, G_IO_ERROR_PARTIAL_INPUT,
        "%s: corrupt or truncated: its %s data does not unpack (%s): fetch or build it again",
        input->source->name, unpack_name(input->format), detail);
    return false;
}

/* The next piece of input; @size 0 at the end. */
static G_GNUC_UNUSED bool next_input(struct input *input, uint64_t wanted, uint64_t *size,
                                     GError **error)
{
    *size = MIN(MIN(input->left, wanted), INPUT_SIZE);
    if (*size > 0 && !source_read(input->source, input->offset, input->buffer, *size, error))
        return false;
    input->offset += *size;
    input->left -= *size;
    return true;
}

#ifdef HAVE_ZLIB
static bool unpack_gzip(struct input *input, const struct unpack_sink *out, GError **error)
{
    z_stream z = {0};
    bool ok = true, done = false;

    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) /* 16: with gzip header and checksum */
        return corrupt(input, error, "zlib does not start");
    while (ok && !done) {
        uint64_t size, room;
        int ret;

        if (z.avail_in == 0) {
            ok = next_input(input, INPUT_SIZE, &size, error);
            z.next_in = input->buffer;
            z.avail_in = size;
            if (!ok)
                break;
        }
        z.next_out = out->buffer(out->opaque, &room);
        room = MIN(room, G_MAXINT);
        z.avail_out = room;
        ret = inflate(&z, Z_NO_FLUSH);
        if (ret != Z_OK && ret != Z_STREAM_END) /* no progress is Z_BUF_ERROR */
            ok = corrupt(input, error, z.msg ? z.msg : "it ends early");
        else
            ok = out->commit(out->opaque, room - z.avail_out, error);
        done = ret == Z_STREAM_END;
    }
    inflateEnd(&z);
    return ok;
}
#endif

#ifdef HAVE_LZMA
static const char *lzma_text(lzma_ret ret)
{
    switch (ret) {
    case LZMA_MEM_ERROR:
    case LZMA_MEMLIMIT_ERROR:
        return "it takes too much memory";
    case LZMA_OPTIONS_ERROR:
        return "unknown options";
    case LZMA_BUF_ERROR:
        return "it ends early";
    default:
        return "damaged";
    }
}

static bool unpack_lzma(struct input *input, const struct unpack_sink *out, GError **error)
{
    lzma_stream lzma = LZMA_STREAM_INIT;
    lzma_ret ret = input->format == UNPACK_XZ ? lzma_stream_decoder(&lzma, UNPACK_MEMORY_MAX, 0)
                                              : lzma_alone_decoder(&lzma, UNPACK_MEMORY_MAX);
    bool ok = ret == LZMA_OK || corrupt(input, error, lzma_text(ret));

    while (ok && ret != LZMA_STREAM_END) {
        uint64_t size, room;

        if (lzma.avail_in == 0) {
            ok = next_input(input, INPUT_SIZE, &size, error);
            lzma.next_in = input->buffer;
            lzma.avail_in = size;
            if (!ok)
                break;
        }
        lzma.next_out = out->buffer(out->opaque, &room);
        lzma.avail_out = room;
        ret = lzma_code(&lzma, input->left == 0 ? LZMA_FINISH : LZMA_RUN);
        if (ret != LZMA_OK && ret != LZMA_STREAM_END)
            ok = corrupt(input, error, lzma_text(ret));
        else
            ok = out->commit(out->opaque, room - lzma.avail_out, error);
    }
    lzma_end(&lzma);
    return ok;
}
#endif

#ifdef HAVE_ZSTD
static bool unpack_zstd(struct input *input, const struct unpack_sink *out, GError **error)
{
    ZSTD_DCtx *zstd = ZSTD_createDCtx();
    ZSTD_inBuffer in = {input->buffer, 0, 0};
    size_t ret = 1; /* 0: a frame is complete */
    bool ok = zstd != NULL || corrupt(input, error, "zstd does not start");

    while (ok && ret != 0) {
        ZSTD_outBuffer piece = {0};
        uint64_t size, room;
        size_t before;

        if (in.pos == in.size) {
            ok = next_input(input, INPUT_SIZE, &size, error);
            in.size = size;
            in.pos = 0;
            if (!ok)
                break;
        }
        piece.dst = out->buffer(out->opaque, &room);
        piece.size = room;
        before = in.pos;
        ret = ZSTD_decompressStream(zstd, &piece, &in);
        if (ZSTD_isError(ret))
            ok = corrupt(input, error, ZSTD_getErrorName(ret));
        else if (ret != 0 && in.pos == before && piece.pos == 0)
            ok = corrupt(input, error, "it ends early");
        else
            ok = out->commit(out->opaque, piece.pos, error);
    }
    ZSTD_freeDCtx(zstd);
    return ok;
}
#endif

#ifdef HAVE_LZ4
#define LZ4_BLOCK (8u << 20) /* of the legacy format, unpacked */

static bool read_exactly(struct input *input, void *to, uint64_t size, GError **error)
{
    if (size > input->left)
        return corrupt(input, error, "it ends early");
    if (!source_read(input->source, input->offset, to, size, error))
        return false;
    input->offset += size;
    input->left -= size;
    return true;
}

/* lz4_Block_format.md, "Legacy frame": blocks, each behind its packed size; no checksums. */
static bool unpack_lz4(struct input *input, const struct unpack_sink *out, GError **error)
{
    uint32_t packed_max = LZ4_compressBound(LZ4_BLOCK);
    g_autofree uint8_t *packed = g_malloc(packed_max), *block = g_malloc(LZ4_BLOCK);
    uint32_t word;

    if (!read_exactly(input, &word, 4, error)) /* the magic */
        return false;
    while (input->left > 4) { /* a last word alone is the unpacked size */
        if (!read_exactly(input, &word, 4, error))
            return false;
        word = GUINT32_FROM_LE(word);
        if (word == 0 || word > packed_max)
            return corrupt(input, error, "a block of impossible size");
        if (!read_exactly(input, packed, word, error))
            return false;
        int size = LZ4_decompress_safe((const char *)packed, (char *)block, word, LZ4_BLOCK);
        if (size < 0)
            return corrupt(input, error, "damaged");
        if (!out->write(out->opaque, block, size, error))
            return false;
        if (size < (int)LZ4_BLOCK) /* only the last one is shorter */
            break;
    }
    return true;
}
#endif

typedef bool (*unpack_function)(struct input *input, const struct unpack_sink *out, GError **error);

static unpack_function find_function(enum unpack_format format)
{
    switch (format) {
#ifdef HAVE_ZLIB
    case UNPACK_GZIP:
        return unpack_gzip;
#endif
#ifdef HAVE_LZMA
    case UNPACK_XZ:
    case UNPACK_LZMA:
        return unpack_lzma;
#endif
#ifdef HAVE_ZSTD
    case UNPACK_ZSTD:
        return unpack_zstd;
#endif
#ifdef HAVE_LZ4
    case UNPACK_LZ4:
        return unpack_lz4;
#endif
    default:
        return NULL;
    }
}

bool unpack_available(enum unpack_format format)
{
    return find_function(format) != NULL;
}

bool unpack_to(const struct source *source, uint64_t offset, uint64_t size,
               enum unpack_format format, const struct unpack_sink *out, GError **error)
{
    struct input input = {source, offset, size, format, NULL};
    unpack_function function = find_function(format);

    if (!function) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    "%s: lodge was built without a library for %s: unpack it yourself",
                    source->name, unpack_name(format));
        return false;
    }
    input.buffer = g_malloc(INPUT_SIZE);
    bool ok = function(&input, out, error);
    g_free(input.buffer);
    return ok;
}

static uint8_t *stream_buffer(void *opaque, uint64_t *size)
{
    return elf_stream_buffer(opaque, size);
}

static bool stream_commit(void *opaque, uint64_t size, GError **error)
{
    return elf_stream_commit(opaque, size, error);
}

static bool stream_write(void *opaque, const uint8_t *bytes, uint64_t size, GError **error)
{
    return elf_stream_write(opaque, bytes, size, error);
}

bool unpack(const struct source *source, uint64_t offset, uint64_t size, enum unpack_format format,
            struct elf_stream *out, GError **error)
{
    const struct unpack_sink sink = {stream_buffer, stream_commit, stream_write, out};

    return unpack_to(source, offset, size, format, &sink, error) && elf_stream_finish(out, error);
}

/* Where unpack_bytes collects its output: the array's bytes up to `fill`, room after it. */
struct bytes_sink {
    const struct source *source;
    GByteArray *array;
    uint64_t fill, limit;
};

static uint8_t *bytes_buffer(void *opaque, uint64_t *size)
{
    struct bytes_sink *sink = opaque;

    if (sink->array->len - sink->fill < INPUT_SIZE)
        g_byte_array_set_size(sink->array, sink->array->len + INPUT_SIZE);
    *size = sink->array->len - sink->fill;
    return sink->array->data + sink->fill;
}

static bool bytes_commit(void *opaque, uint64_t size, GError **error)
{
    struct bytes_sink *sink = opaque;

    sink->fill += size;
    if (sink->fill <= sink->limit)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE, "%s: unpacks to more than %u MiB",
                sink->source->name, (unsigned)(sink->limit >> 20));
    return false;
}

static bool bytes_write(void *opaque, const uint8_t *bytes, uint64_t size, GError **error)
{
    struct bytes_sink *sink = opaque;

    g_byte_array_set_size(sink->array, (guint)sink->fill);
    g_byte_array_append(sink->array, bytes, (guint)size);
    return bytes_commit(sink, size, error);
}

GBytes *unpack_bytes(const struct source *source, enum unpack_format format, uint64_t limit,
                     GError **error)
{
    struct bytes_sink bytes = {source, g_byte_array_new(), 0, limit};
    const struct unpack_sink sink = {bytes_buffer, bytes_commit, bytes_write, &bytes};

    if (!unpack_to(source, 0, source->size, format, &sink, error)) {
        g_byte_array_unref(bytes.array);
        return NULL;
    }
    g_byte_array_set_size(bytes.array, (guint)bytes.fill);
    return g_byte_array_free_to_bytes(bytes.array);
}
