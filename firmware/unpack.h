/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unpack - compressed kernels, unpacked on the host straight into guest memory; and kernel modules
 *
 * Formats: gzip (zlib), xz and lzma (liblzma), zstd, and LZ4's legacy format, as the kernel's build
 * makes them. Each library is optional at build time. Output is bounded by the stream's limit, input
 * is read in pieces, and a decoder may use at most UNPACK_MEMORY_MAX bytes.
 *
 * Thread: main, before the vCPUs run.
 */
#ifndef FIRMWARE_UNPACK_H
#define FIRMWARE_UNPACK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "firmware/elf.h"
#include "firmware/source.h"

#define UNPACK_MEMORY_MAX (UINT64_C(320) << 20) /* the kernel's xz has dictionaries up to 128 MiB */

enum unpack_format {
    UNPACK_UNKNOWN,
    UNPACK_GZIP,
    UNPACK_XZ,
    UNPACK_LZMA,
    UNPACK_ZSTD,
    UNPACK_LZ4,
    UNPACK_BZIP2, /* known by name only */
    UNPACK_LZO,
};

enum unpack_format unpack_detect(const uint8_t *head, size_t size);
const char *unpack_name(enum unpack_format format); /* "zstd" */
bool unpack_available(enum unpack_format format);   /* was its library there at build time? */

/* Where unpacked bytes go. */
struct unpack_sink {
    /* Where the next bytes may be put, at least 1; valid until the commit. */
    uint8_t *(*buffer)(void *opaque, uint64_t *size);
    /* So many bytes were put there. False: error set, enough. */
    bool (*commit)(void *opaque, uint64_t size, GError **error);
    /* Bytes that lie elsewhere. */
    bool (*write)(void *opaque, const uint8_t *bytes, uint64_t size, GError **error);
    void *opaque;
};

/* Unpacks [offset, offset + size) of @source into @out; errors as for unpack. */
bool unpack_to(const struct source *source, uint64_t offset, uint64_t size,
               enum unpack_format format, const struct unpack_sink *out, GError **error);

/* All of @source, of at most @limit (below 2 GiB) unpacked bytes. NULL: as for unpack, or
 * G_IO_ERROR_NO_SPACE. */
GBytes *unpack_bytes(const struct source *source, enum unpack_format format, uint64_t limit,
                     GError **error);

/*
 * Unpacks [offset, offset + size) of @source into @out, and finishes it. What follows the end of the
 * compressed data is ignored (a bzImage has the unpacked size there).
 * G_IO_ERROR_PARTIAL_INPUT: the packed data is damaged or ends early; G_IO_ERROR_NOT_SUPPORTED: no
 * library for it; or the errors of the stream.
 */
bool unpack(const struct source *source, uint64_t offset, uint64_t size, enum unpack_format format,
            struct elf_stream *out, GError **error);

#endif
