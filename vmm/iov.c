/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iov - memory in pieces (contract: vmm/iov.h)
 */
#include "vmm/iov.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

size_t iov_size(const struct iovec *iov, unsigned count)
{
    size_t size = 0;

    for (unsigned i = 0; i < count; i++)
        size += iov[i].iov_len;
    return size;
}

/* The first piece that has bytes behind *@offset, which becomes an offset in it. */
static unsigned find(const struct iovec *iov, unsigned count, size_t *offset)
{
    unsigned i;

    for (i = 0; i < count && *offset >= iov[i].iov_len; i++)
        *offset -= iov[i].iov_len;
    return i;
}

size_t iov_read(const struct iovec *iov, unsigned count, size_t offset, void *data, size_t size)
{
    size_t done = 0;

    for (unsigned i = find(iov, count, &offset); i < count && done < size; i++, offset = 0) {
        size_t part = MIN(iov[i].iov_len - offset, size - done);

        memcpy((uint8_t *)data + done, (const uint8_t *)iov[i].iov_base + offset, part);
        done += part;
    }
    return done;
}

size_t iov_write(const struct iovec *iov, unsigned count, size_t offset, const void *data,
                 size_t size)
{
    size_t done = 0;

    for (unsigned i = find(iov, count, &offset); i < count && done < size; i++, offset = 0) {
        size_t part = MIN(iov[i].iov_len - offset, size - done);

        memcpy((uint8_t *)iov[i].iov_base + offset, (const uint8_t *)data + done, part);
        done += part;
    }
    return done;
}

unsigned iov_slice(const struct iovec *iov, unsigned count, size_t offset, size_t *size,
                   struct iovec *out, unsigned max)
{
    size_t covered = 0;
    unsigned used = 0;

    for (unsigned i = find(iov, count, &offset); i < count && used < max && covered < *size;
         i++, offset = 0) {
        size_t part = MIN(iov[i].iov_len - offset, *size - covered);

        if (!part)
            continue;
        out[used++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, part};
        covered += part;
    }
    *size = covered;
    return used;
}

struct iovec *iov_drop(struct iovec *iov, unsigned *count, size_t size)
{
    unsigned gone = find(iov, *count, &size);

    iov += gone;
    *count -= gone;
    if (*count) {
        iov->iov_base = (uint8_t *)iov->iov_base + size;
        iov->iov_len -= size;
    }
    return iov;
}
