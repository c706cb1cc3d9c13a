/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot - the stream that a stopped machine is written to: named, versioned, checked sections
 *
 * All integers are little-endian, nothing is padded:
 *
 *     header   "LODGESNP", u32 format, u32 flags (0), u32 the oldest format whose reader can read
 *              this, u32 number of sections, 32 bytes SHA-256 of the CONFIG section's payload,
 *              u32 CRC32C of the header before it
 *     section  u16 type, u16 version, u16 flags (bit 0: mandatory), u16 length of the name,
 *              u64 length of the payload, u32 CRC32C of name and payload, u32 CRC32C of the section's
 *              header before it; name; payload
 *     ...
 *     END      a section named "end" whose payload is the SHA-256 of all before that section
 *
 * A reader gets all or nothing: every length, checksum and count is checked before the first section
 * is handed out. The stream holds everything but guest RAM, which is a file beside it so that it can
 * be mapped on demand (lodge/snapshot.h has the folder).
 *
 * Threads: the caller's.
 */
#ifndef VMM_SNAPSHOT_H
#define VMM_SNAPSHOT_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_FORMAT       1u
#define SNAPSHOT_MAX_SECTIONS 4096u
#define SNAPSHOT_MAX_NAME     255u
#define SNAPSHOT_MAX_SIZE     (1u << 30) /* bytes of a whole stream; the writer refuses more, too */
#define SNAPSHOT_MAX_DEVICES  (SNAPSHOT_MAX_SIZE - (16u << 20)) /* of that, all devices' */

enum snapshot_type {
    SNAPSHOT_CONFIG = 1, /* JSON text */
    SNAPSHOT_RAM = 2,    /* where each RAM region lies in the memory file */
    SNAPSHOT_VM = 3,     /* interrupt controllers, clock */
    SNAPSHOT_VCPU = 4,
    SNAPSHOT_DEVICE = 5, /* by the device's name: its state table */
    SNAPSHOT_END = 0xffff,
};

enum snapshot_flags {
    SNAPSHOT_MANDATORY = 1 << 0, /* a reader that does not know the type must refuse */
};

struct snapshot_section {
    uint16_t type, version, flags;
    char *name;
    uint8_t *data; /* never NULL */
    size_t size;
};

struct snapshot {
    GPtrArray *sections; /* of struct snapshot_section *, without END */
    uint64_t devices; /* bytes of snapshot_add_device so far, and at most (SNAPSHOT_MAX_DEVICES) */
    uint64_t max_devices;
};

struct snapshot *snapshot_create(void);
void snapshot_destroy(struct snapshot *snapshot); /* NULL is allowed */
typedef struct snapshot snapshot_t;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(snapshot_t, snapshot_destroy)

/* Adds a mandatory section; @name (at most SNAPSHOT_MAX_NAME bytes) and @data are copied. */
void snapshot_add(struct snapshot *snapshot, enum snapshot_type type, uint16_t version,
                  const char *name, const void *data, size_t size);
/* A device's, of version 1; false if all devices' together would be more than a reader takes: names the device. */
bool snapshot_add_device(struct snapshot *snapshot, const char *name, const void *data, size_t size,
                         GError **error);
/* The section of that type and name (NULL: the first of the type), or NULL. */
const struct snapshot_section *snapshot_find(const struct snapshot *snapshot,
                                             enum snapshot_type type, const char *name);
const char *snapshot_type_name(unsigned type); /* "DEV" */

/* The caller owns the bytes. */
GByteArray *snapshot_encode(const struct snapshot *snapshot);
/* @data is hostile. Errors say which section and what about it. Sections of unknown type that are not
 * mandatory are left out. */
struct snapshot *snapshot_decode(const uint8_t *data, size_t size, GError **error);

/* To a temporary file that is synced and then renamed to @path: complete or not at all. */
bool snapshot_write(const struct snapshot *snapshot, const char *path, GError **error);
struct snapshot *snapshot_read(const char *path, GError **error);

/* CRC-32C (Castagnoli, as iSCSI's, RFC 3720) of @size bytes, going on from @crc (0 at first). */
uint32_t snapshot_crc32c(uint32_t crc, const void *data, size_t size);

#endif
