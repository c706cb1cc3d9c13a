/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stream - what the readers of saved and migrated machines share (contract: vmm/stream.h) */
#include "vmm/stream.h"

#include <gio/gio.h>
#include <string.h>

uint32_t stream_get_u32(const uint8_t *at)
{
    uint32_t little;

    memcpy(&little, at, sizeof(little));
    return GUINT32_FROM_LE(little);
}

uint64_t stream_get_u64(const uint8_t *at)
{
    uint64_t little;

    memcpy(&little, at, sizeof(little));
    return GUINT64_FROM_LE(little);
}

bool stream_refuse(GError **error, const char *who, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: %s", who, text);
    return false;
}
