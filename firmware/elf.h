/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * elf - ELF64 kernels with a PVH note
 *
 * The System V ABI's ELF-64, and Xen's note XEN_ELFNOTE_PHYS32_ENTRY (18), whose descriptor is the
 * physical address at which to enter in 32-bit protected mode. Everything in the headers is checked
 * against the image's size, the guest's memory and each other before a byte is copied.
 *
 * An image may be at hand (elf_load reads the segments where they belong) or arrive in order from an
 * unpacker (struct elf_stream: its output goes straight into guest memory, what no segment wants is
 * dropped).
 *
 * Thread: main, before the vCPUs run.
 */
#ifndef FIRMWARE_ELF_H
#define FIRMWARE_ELF_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "firmware/source.h"
#include "firmware/space.h"

#define ELF_SEGMENTS   64
#define ELF_NOTES      8
#define ELF_NOTE_BYTES 16384u /* what is looked at of each note segment */
#define ELF_BLOCK      65536u /* what is read and summed at a time */
#define ELF_HEAD       8192u  /* header and program headers lie within so many bytes */

struct elf_segment {
    uint64_t offset, file_size; /* in the image */
    uint64_t gpa, memory_size;  /* in the guest; memory_size >= file_size */
};

struct elf_note {
    uint64_t offset;
    uint32_t size;
    uint32_t align; /* 4 or 8 */
    uint8_t bytes[ELF_NOTE_BYTES];
};

struct elf_image {
    unsigned segments, notes;
    struct elf_segment segment[ELF_SEGMENTS];
    struct elf_note note[ELF_NOTES];
    uint64_t head_size;  /* bytes at the start up to the end of the program headers */
    uint64_t end;        /* of the last byte that is needed of the image */
    uint64_t memory_end; /* of the highest segment in the guest */
    /* After elf_finish: */
    uint64_t pvh_entry;
    char version[128]; /* of the kernel, as its build salt says it, or "" */
};

bool elf_is_elf(const void *head, size_t size);

/*
 * Checks header and program headers in the first @size bytes of an image of (at most) @limit bytes.
 * G_IO_ERROR_INVALID_DATA: corrupt; G_IO_ERROR_NOT_SUPPORTED: no kernel for this machine.
 */
bool elf_parse(struct elf_image *image, const char *name, const uint8_t *head, size_t size,
               uint64_t limit, GError **error);

/* Takes the memory of all segments: G_IO_ERROR_NO_SPACE when it isn't there. */
bool elf_place(const struct elf_image *image, const char *name, struct space *space,
               GError **error);

/* Looks through the notes that were loaded: G_IO_ERROR_NOT_SUPPORTED without a PVH entry. Zeroes
 * what the segments have in memory beyond the file. */
bool elf_finish(struct elf_image *image, const char *name, struct space *space, GError **error);

/* All of it from a source: parse, place, read, finish. @checksum may be NULL. */
bool elf_load(struct elf_image *image, const struct source *source, struct space *space,
              uint64_t *checksum, GError **error);

/* The same checksum, taken from the guest's memory after the image was loaded: of the head (its first
 * head_size bytes), the notes, and what is not zero in the segments. Not cryptographic. */
uint64_t elf_checksum(const struct elf_image *image, const uint8_t *head, struct space *space);

/* ---- an image that arrives in order ---- */

struct elf_stream {
    struct elf_image *image;
    const char *name;
    struct space *space;
    uint64_t limit;  /* the image is at most so long */
    uint64_t offset; /* of the next byte */
    bool parsed;
    GError *bad; /* the image can't be booted; kept until its packed data proved to be whole */
    unsigned head_fill;
    uint8_t head[ELF_HEAD];
    uint8_t *direct; /* where the last elf_stream_buffer pointed, if into guest memory */
    uint64_t direct_segment;
    uint8_t scratch[65536];
};

void elf_stream_init(struct elf_stream *stream, struct elf_image *image, const char *name,
                     struct space *space, uint64_t limit);
void elf_stream_clear(struct elf_stream *stream);
/* Where the next bytes may be put, at least 1; valid until the commit. */
uint8_t *elf_stream_buffer(struct elf_stream *stream, uint64_t *size);
/* So many bytes were put there. */
bool elf_stream_commit(struct elf_stream *stream, uint64_t size, GError **error);
/* Bytes that lie elsewhere (not at the address that elf_stream_buffer gave). */
bool elf_stream_write(struct elf_stream *stream, const uint8_t *bytes, uint64_t size,
                      GError **error);
/* The image is complete: checks that, and does elf_finish. */
bool elf_stream_finish(struct elf_stream *stream, GError **error);

#endif
