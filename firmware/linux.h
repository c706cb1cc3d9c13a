/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * linux - bzImage, entered in 64-bit mode
 *
 * Documentation/arch/x86/boot.rst of Linux, "The Linux/x86 Boot Protocol": the setup header is
 * checked, the protected-mode part loaded where the kernel will run, and boot_params filled.
 *
 * Thread: main, before the vCPUs run.
 */
#ifndef FIRMWARE_LINUX_H
#define FIRMWARE_LINUX_H

#include <asm/bootparam.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "firmware/source.h"
#include "firmware/space.h"

/* A bzImage whose header has been checked. */
struct linux_image {
    struct setup_header header;      /* what the image has of it; the rest is zero */
    uint64_t code_offset, code_size; /* the protected-mode part, within the file */
    uint64_t payload_offset;         /* of the compressed kernel, within the file */
    uint64_t payload_size;           /* 0: the image does not say */
    uint64_t payload_limit;          /* what it may unpack to, bytes */
    char version[128];               /* "6.1.0-56-amd64", or "" */
};

/* Does it begin like a bzImage? Reads errors are "no". */
bool linux_is_bzimage(const struct source *source);
/* Checks the header against the protocol and the file's size. */
bool linux_parse(const struct source *source, struct linux_image *image, GError **error);

/*
 * Loads the kernel; @initrd_max becomes the highest address that the initrd's last byte may have.
 * Takes the memory the kernel needs until it reads the memory map.
 */
bool linux_load(const struct source *source, const struct linux_image *image, struct space *space,
                uint64_t *entry, uint64_t *initrd_max, GError **error);

/* Writes boot_params at SPACE_BOOT_PARAMS; the command line is in place, @initrd_size may be 0. */
void linux_write_boot_params(const struct linux_image *image, struct space *space, uint64_t entry,
                             uint64_t initrd, uint64_t initrd_size, uint64_t rsdp);

#endif
