/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream - what the readers of saved and migrated machines share: numbers, and refusals
 *
 * Thread: any.
 */
#ifndef VMM_STREAM_H
#define VMM_STREAM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Little-endian, at any alignment. */
uint32_t stream_get_u32(const uint8_t *at);
uint64_t stream_get_u64(const uint8_t *at);

/* Sets @error (G_IO_ERROR_INVALID_DATA): "@who: ..."; false, for the caller to return. */
bool stream_refuse(GError **error, const char *who, const char *format, ...) G_GNUC_PRINTF(3, 4);

#endif
