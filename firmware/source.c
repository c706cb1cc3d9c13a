/* SPDX-License-Identifier: GPL-2.0-or-later */
/* source - the bytes of an image; see source.h. */
#include "firmware/source.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/memory.h"

static void set_errno(GError **error, const char *name, int code)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "%s: %s", name, g_strerror(code));
}

bool source_open(struct source *source, const char *what, const char *path, GError **error)
{
    memset(source, 0, sizeof(*source));
    source->name = g_strdup_printf("%s %s", what, path);
    /* Not blocking: opening a FIFO nobody writes to would hang. */
    source->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (source->fd < 0 || fstat(source->fd, &source->stat) < 0) {
        set_errno(error, source->name, errno);
        source_close(source);
        return false;
    }
    source->size = source->stat.st_size;
    if (S_ISREG(source->stat.st_mode) && source->size > 0)
        return true;
    if (S_ISDIR(source->stat.st_mode))
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_IS_DIRECTORY,
                    "%s: is a directory: give the file in it", source->name);
    else if (S_ISREG(source->stat.st_mode))
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%s: the file is empty: fetch or build it again", source->name);
    else
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE,
                    "%s: not a regular file: copy it into one", source->name);
    source_close(source);
    return false;
}

void source_init_bytes(struct source *source, const char *name, const void *data, uint64_t size)
{
    memset(source, 0, sizeof(*source));
    source->name = g_strdup(name);
    source->fd = -1;
    source->data = data;
    source->size = size;
}

void source_close(struct source *source)
{
    if (source->fd >= 0 && source->name)
        close(source->fd);
    source->fd = -1;
    g_clear_pointer(&source->name, g_free);
}

static bool read_file(const struct source *source, uint64_t offset, uint8_t *buffer,
                      uint64_t length, GError **error)
{
    while (length > 0) {
        ssize_t n = pread(source->fd, buffer, length, source->start + offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            set_errno(error, source->name, errno);
            return false;
        }
        if (n == 0) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_PARTIAL_INPUT,
                        "%s: became shorter while it was read: try again", source->name);
            return false;
        }
        buffer += n;
        offset += n;
        length -= n;
    }
    return true;
}

bool source_read(const struct source *source, uint64_t offset, void *buffer, uint64_t length,
                 GError **error)
{
    if (!source_in_range(offset, length, source->size)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%s: truncated: %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT
                    " are missing: fetch or build it again",
                    source->name, length, offset);
        return false;
    }
    if (source->fd >= 0)
        return read_file(source, offset, buffer, length, error);
    if (length > 0)
        memcpy(buffer, source->data + offset, length);
    return true;
}

bool source_read_guest(const struct source *source, uint64_t offset, struct memory *memory,
                       uint64_t gpa, uint64_t length, GError **error)
{
    while (length > 0) {
        struct memory_span span;

        if (!memory_find(memory, gpa, length, &span) || !(span.region->flags & MEMORY_RAM)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                        "%s: no memory at 0x%" G_GINT64_MODIFIER "x", source->name, gpa);
            return false;
        }
        if (!source_read(source, offset, span.host, span.len, error))
            return false;
        memory_mark_dirty(memory, gpa, span.len);
        offset += span.len;
        gpa += span.len;
        length -= span.len;
    }
    return true;
}

uint64_t source_next_data(const struct source *source, uint64_t offset)
{
    off_t found;

    if (source->fd < 0)
        return offset;
    found = lseek(source->fd, source->start + offset, SEEK_DATA);
    if (found < 0)
        return errno == ENXIO ? source->size : offset;
    return MIN((uint64_t)found - source->start, source->size);
}
