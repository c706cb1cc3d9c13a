/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iov - memory in pieces (struct iovec), as descriptor chains and frames come: copying and cutting
 *
 * The pieces are taken as one run of bytes; offsets and sizes are bytes of that run, and what is beyond
 * its end is not there. Nothing is allocated, nothing is checked but lengths.
 *
 * Thread: any, the caller's memory.
 */
#ifndef VMM_IOV_H
#define VMM_IOV_H

#include <stddef.h>
#include <sys/uio.h>

/* How many bytes there are. */
size_t iov_size(const struct iovec *iov, unsigned count);

/* Copies from (to) byte @offset on. Returns how many bytes, fewer than @size when the pieces end. */
size_t iov_read(const struct iovec *iov, unsigned count, size_t offset, void *data, size_t size);
size_t iov_write(const struct iovec *iov, unsigned count, size_t offset, const void *data,
                 size_t size);

/* The pieces of [offset, offset + *size) as new ones at @out, which has room for @max; *size becomes what
 * they cover. Returns how many they are. */
unsigned iov_slice(const struct iovec *iov, unsigned count, size_t offset, size_t *size,
                   struct iovec *out, unsigned max);

/* Takes the first @size bytes off, in place: returns the first piece that is left, and in *@count how many
 * are. */
struct iovec *iov_drop(struct iovec *iov, unsigned *count, size_t size);

#endif
