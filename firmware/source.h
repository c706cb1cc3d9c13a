/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * source - the bytes of an image: a file, a window of one, or memory
 *
 * Files are read, never mapped, so that one which shrinks under us is a short read and not a signal.
 * Every read is checked against the size seen at the start; "ends early" is an error like any other.
 *
 * Thread: main, before the vCPUs run.
 */
#ifndef FIRMWARE_SOURCE_H
#define FIRMWARE_SOURCE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct source {
    char *name;          /* "kernel /boot/vmlinuz", for messages */
    int fd;              /* owned; -1: the bytes are in memory */
    const uint8_t *data; /* not owned */
    uint64_t start;      /* where byte 0 lies in the file */
    uint64_t size;       /* bytes, never 0 */
    struct stat stat;    /* of the file */
};

/* Opens a regular file that is not empty. @what ("kernel", "initrd") begins every message. */
bool source_open(struct source *source, const char *what, const char *path, GError **error);
void source_init_bytes(struct source *source, const char *name, const void *data, uint64_t size);
void source_close(struct source *source); /* a zeroed or closed one is allowed */

/* All of [offset, offset + length) into @buffer, or an error that names the file. */
bool source_read(const struct source *source, uint64_t offset, void *buffer, uint64_t length,
                 GError **error);

/* The same straight into guest memory; all of it must be RAM (the caller has checked). */
struct memory;
bool source_read_guest(const struct source *source, uint64_t offset, struct memory *memory,
                       uint64_t gpa, uint64_t length, GError **error);

/* The offset of the next byte at or after @offset that may differ from zero (a file's holes are
 * skipped); the size when there is none. */
uint64_t source_next_data(const struct source *source, uint64_t offset);

/* Is [offset, offset + length) inside of @size? No overflow. */
static inline bool source_in_range(uint64_t offset, uint64_t length, uint64_t size)
{
    return offset <= size && length <= size - offset;
}

#endif
