/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cache - unpacked kernels, kept between runs
 *
 * Unpacking Debian's xz kernel takes about a second, reading it unpacked some hundredths. So what an
 * unpacked kernel has to load is kept in a folder, by default $XDG_CACHE_HOME/lodge/kernels: one file a
 * kernel, an ELF without sections and a trailer behind it. The name is a digest of what identifies
 * the packed file: size, modification time, first and last bytes (version and build string;
 * checksums of the packed data).
 *
 * Nothing depends on it. Folder and file are used only if they are ours and nobody else may write
 * them; a file is made under a temporary name and renamed, so that it is whole or not there; what was
 * read is compared with a checksum, and a file that fails is removed. At most CACHE_FILES are kept.
 * It may be removed at any time.
 *
 * A file that says only "no PVH" spares kernels without that entry the unpacking.
 *
 * Thread: main. Errors are logged at level debug and mean "not cached".
 */
#ifndef FIRMWARE_CACHE_H
#define FIRMWARE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "firmware/elf.h"
#include "firmware/source.h"

#define CACHE_FILES 4

struct cache {
    int folder;    /* -1: none */
    char name[80]; /* of the kernel's file in it */
};

enum cache_hit { CACHE_MISS, CACHE_IMAGE, CACHE_NO_PVH };

/* @path: NULL for the default, "" for none. */
void cache_open(struct cache *cache, const char *path, const struct source *kernel);
void cache_close(struct cache *cache);

/* CACHE_IMAGE: @image is opened and the caller closes it; after loading, its checksum has to be
 * @checksum, or cache_drop. */
enum cache_hit cache_find(struct cache *cache, struct source *image, uint64_t *checksum);
void cache_drop(struct cache *cache);

/* Keeps what was just loaded: @image NULL for "no PVH". @head has image->head_size bytes. */
void cache_store(struct cache *cache, const struct elf_image *image, const uint8_t *head,
                 struct space *space);

#endif
