/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_wire - the 9P2000.L messages as bytes: numbers, reading and writing, copying from and to pieces
 *
 * Integers are little-endian; a string is u16 length and bytes; a qid is u8 type, u32 version, u64
 * path; a message is u32 size (of all of it), u8 type, u16 tag, body. (Protocol: "9P2000.L",
 * diod/protocol.md and the Linux client's net/9p; constants are its <net/9p/9p.h>.)
 *
 * A reader works on a private copy of a message and never leaves it: after an overrun or a bad string
 * `error` is set, and every further read gives 0 or "".
 */
#ifndef VIRTIO_9P_WIRE_H
#define VIRTIO_9P_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Requests; each reply is the request plus one. */
enum p9_type {
    P9_RLERROR = 7,
    P9_TSTATFS = 8,
    P9_TLOPEN = 12,
    P9_TLCREATE = 14,
    P9_TSYMLINK = 16,
    P9_TMKNOD = 18,
    P9_TRENAME = 20,
    P9_TREADLINK = 22,
    P9_TGETATTR = 24,
    P9_TSETATTR = 26,
    P9_TXATTRWALK = 30,
    P9_TXATTRCREATE = 32,
    P9_TREADDIR = 40,
    P9_TFSYNC = 50,
    P9_TLOCK = 52,
    P9_TGETLOCK = 54,
    P9_TLINK = 70,
    P9_TMKDIR = 72,
    P9_TRENAMEAT = 74,
    P9_TUNLINKAT = 76,
    P9_TVERSION = 100,
    P9_TAUTH = 102,
    P9_TATTACH = 104,
    P9_TFLUSH = 108,
    P9_TWALK = 110,
    P9_TREAD = 116,
    P9_TWRITE = 118,
    P9_TCLUNK = 120,
    P9_TREMOVE = 122,
};

#define P9_HEADER_SIZE  7u
#define P9_RLERROR_SIZE 11u
#define P9_IO_HEADER    24u /* what a client subtracts from msize for read and write */
#define P9_NOTAG        0xffffu
#define P9_NOFID        0xffffffffu
#define P9_NONUNAME     0xffffffffu
#define P9_MAX_WALK     16u

#define P9_QID_DIRECTORY 0x80
#define P9_QID_SYMLINK   0x02

/* Tlopen and Tlcreate: Linux's numbers, whatever the host's are. */
#define P9_O_ACCESS    00000003
#define P9_O_EXCL      00000200
#define P9_O_TRUNC     00001000
#define P9_O_APPEND    00002000
#define P9_O_DSYNC     00010000
#define P9_O_DIRECTORY 00200000
#define P9_O_SYNC      04000000

#define P9_AT_REMOVEDIR 0x200

/* Tgetattr request_mask and Rgetattr valid. */
#define P9_GETATTR_BASIC 0x000007ffu
#define P9_GETATTR_BTIME 0x00000800u

#define P9_SETATTR_MODE      0x001
#define P9_SETATTR_UID       0x002
#define P9_SETATTR_GID       0x004
#define P9_SETATTR_SIZE      0x008
#define P9_SETATTR_ATIME     0x010
#define P9_SETATTR_MTIME     0x020
#define P9_SETATTR_CTIME     0x040
#define P9_SETATTR_ATIME_SET 0x080
#define P9_SETATTR_MTIME_SET 0x100

#define P9_LOCK_READ       0
#define P9_LOCK_WRITE      1
#define P9_LOCK_UNLOCK     2
#define P9_LOCK_FLAG_BLOCK 1
#define P9_LOCK_SUCCESS    0
#define P9_LOCK_BLOCKED    1
#define P9_LOCK_ERROR      2

struct p9_qid {
    uint8_t type;
    uint32_t version;
    uint64_t path;
};
#define P9_QID_SIZE 13u

struct p9_reader {
    uint8_t *next;
    uint8_t *end;
    int error; /* 0 or -errno */
};

uint8_t p9_read_u8(struct p9_reader *reader);
uint16_t p9_read_u16(struct p9_reader *reader);
uint32_t p9_read_u32(struct p9_reader *reader);
uint64_t p9_read_u64(struct p9_reader *reader);
/* The string as a C string, in place in the copy (it is moved onto its own length): valid as long as
 * the copy. An embedded NUL is -EINVAL, more than @max bytes -ENAMETOOLONG. @length may be NULL. */
const char *p9_read_string(struct p9_reader *reader, size_t max, size_t *length);

struct p9_writer {
    uint8_t *start;
    uint8_t *next;
    uint8_t *end;
    bool overflow; /* something did not fit and was left out */
};

void p9_write_u8(struct p9_writer *writer, uint8_t value);
void p9_write_u16(struct p9_writer *writer, uint16_t value);
void p9_write_u32(struct p9_writer *writer, uint32_t value);
void p9_write_u64(struct p9_writer *writer, uint64_t value);
void p9_write_string(struct p9_writer *writer, const char *string, size_t length);
void p9_write_qid(struct p9_writer *writer, const struct p9_qid *qid);
static inline size_t p9_written(const struct p9_writer *writer)
{
    return writer->next - writer->start;
}
static inline size_t p9_room(const struct p9_writer *writer)
{
    return writer->end - writer->next;
}

const char *p9_type_name(uint8_t type); /* "Twalk"; "T?" for one that is not a request */

#endif
