/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unpack - compressed kernels, unpacked on the host straight into guest memory
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

/*
 * Unpacks [offset, offset + size) of @source into @out, and finishes it. What follows the end of the
 * compressed data is ignored (a bzImage has the unpacked size there).
 * G_IO_ERROR_PARTIAL_INPUT: the packed data is damaged or ends early; G_IO_ERROR_NOT_SUPPORTED: no
 * library for it; or the errors of the stream.
 */
bool unpack(const struct source *source, uint64_t offset, uint64_t size, enum unpack_format format,
            struct elf_stream *out, GError **error);

#endif
