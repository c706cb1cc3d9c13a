/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvh - what a guest that is entered by its PVH note finds in ebx
 *
 * struct hvm_start_info version 1 of Xen's x86/HVM direct boot ABI, with one module (the initrd), the
 * command line, the RSDP and the memory map.
 */
#ifndef FIRMWARE_PVH_H
#define FIRMWARE_PVH_H

#include <stdint.h>

#include "firmware/space.h"

/* Writes it at SPACE_START_INFO; the command line is in place, @initrd_size may be 0. */
void pvh_write_start_info(struct space *space, uint64_t initrd, uint64_t initrd_size,
                          uint64_t rsdp);

#endif
