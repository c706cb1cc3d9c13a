/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migration - the wire between two monitors while a machine moves from one to the other
 *
 * Messages over one stream socket, little-endian: u32 type, u32 length of the payload, u32 CRC32C of
 * the payload, u32 CRC32C of the header before it; payload. The order of them:
 *
 *     source                                target
 *     HELLO, CONFIG, LAYOUT           ->
 *                                     <-    READY    the machine is made, its memory is there
 *     PAGES, ZEROES, as often as      ->             the guest runs on; a page sent again counts
 *     rounds need it                                 as it was sent last
 *     SYNC, after each round          ->
 *                                     <-    SYNCED   all that was sent before is in its memory: so the
 *                                                    source knows how fast that is, and stops no guest
 *                                                    that would wait for what is on its way
 *     (stops the guest) PAGES,        ->
 *     ZEROES, STATE pieces, DONE
 *                                     <-    LOADED   everything is there, checked and loaded
 *     (gives its disks up) COMMIT     ->             from here on the guest is the target's
 *                                     <-    RUNNING  or FAILED: it has not run and never will
 *
 * Either side may send FAILED (the reason as text) instead of what is expected, and both take the end
 * of the stream for it. Before COMMIT that means the source's guest goes on. After COMMIT only
 * FAILED does: when the stream just ends, the source can't know, and its guest stays stopped.
 *
 * STATE pieces together are a stream of vmm/snapshot.h with the RAM section of a snapshot folder.
 *
 * What arrives is hostile: lengths, checksums, order and addresses are checked here.
 *
 * Threads: the caller's; a sink is used by one at a time.
 */
#ifndef VMM_MIGRATION_H
#define VMM_MIGRATION_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/memory.h"

#define MIGRATION_FORMAT      2u /* since 2: SYNC */
#define MIGRATION_HEADER      16u
#define MIGRATION_MAX_PAGES   64u /* in one PAGES message */
#define MIGRATION_MAX_PAYLOAD (1u << 20)
#define MIGRATION_PIECE       (256u << 10) /* of the state */

enum migration_type {
    MIGRATION_HELLO = 1,  /* "LODGEMIG", u32 format, u32 the oldest that can read this */
    MIGRATION_CONFIG = 2, /* JSON text, as a snapshot's CONFIG */
    MIGRATION_LAYOUT = 3, /* u64 gpa, u64 size of each RAM region */
    MIGRATION_PAGES = 4,  /* u64 gpa, pages */
    MIGRATION_ZEROES = 5, /* u64 gpa, u64 number of pages */
    MIGRATION_STATE = 6,
    MIGRATION_DONE = 7, /* u64 pages sent in all (zeroes too), u64 bytes of state */
    MIGRATION_COMMIT = 8,
    MIGRATION_SYNC = 9,
    MIGRATION_READY = 16,
    MIGRATION_LOADED = 17,
    MIGRATION_RUNNING = 18,
    MIGRATION_SYNCED = 19,
    MIGRATION_FAILED = 32, /* text */
};

struct migration_message {
    enum migration_type type;
    const uint8_t *data; /* within what was parsed */
    size_t size;
};

const char *migration_type_name(unsigned type); /* "PAGES" */
/* Appends a whole message. */
void migration_put(GByteArray *out, enum migration_type type, const void *data, size_t size);
void migration_put_hello(GByteArray *out);
void migration_put_layout(GByteArray *out, const struct memory *memory);
/* Pages [gpa, gpa + count pages) of @host. */
void migration_put_pages(GByteArray *out, uint64_t gpa, const uint8_t *host, unsigned count);
void migration_put_zeroes(GByteArray *out, uint64_t gpa, uint64_t count);
void migration_put_done(GByteArray *out, uint64_t pages, uint64_t state_bytes);

/* The first message in @data: bytes that it takes, 0 when it is not all there yet, or -1 with @error
 * set. */
gssize migration_parse(const uint8_t *data, size_t size, struct migration_message *message,
                       GError **error);

/* ---- the target's half ---- */

struct migration_sink {
    struct memory *memory; /* where pages go; NULL until it is known: no pages are taken */
    GByteArray *config;    /* text; NULL: not there yet */
    GArray *layout;        /* of uint64_t: gpa, size, ...; NULL: not there yet */
    GByteArray *state;
    uint64_t pages;
    bool greeted, done, committed;
    bool asked;    /* SYNC came; whoever answers takes it away */
    char *failure; /* FAILED's text, clean */
};

void migration_sink_init(struct migration_sink *sink);
void migration_sink_clear(struct migration_sink *sink);
/* Carries one message out. False with @error set: it is not one that may come now, or FAILED. */
bool migration_sink_take(struct migration_sink *sink, const struct migration_message *message,
                         GError **error);
/* Is @memory's RAM what the source has? */
bool migration_sink_fits(const struct migration_sink *sink, const struct memory *memory,
                         GError **error);

/* ---- a connection ---- */

struct migration_channel {
    int fd;        /* non-blocking; owned */
    int cancel_fd; /* an eventfd: readable ends every wait; not owned, or -1 */
    GByteArray *in;
    size_t taken; /* bytes of @in that messages took already */
};

void migration_channel_init(struct migration_channel *channel, int fd, int cancel_fd);
void migration_channel_clear(struct migration_channel *channel); /* closes */
/* Blocks until all is sent, nothing was taken for @timeout_ms, or cancel_fd. */
bool migration_send(struct migration_channel *channel, const void *data, size_t size,
                    unsigned timeout_ms, GError **error);
bool migration_send_type(struct migration_channel *channel, enum migration_type type,
                         const char *text, GError **error);
/* Blocks until there is a message, which is valid until the next call; nothing for @timeout_ms (0: for
 * ever) is an error, and so is the end of the stream. */
bool migration_receive(struct migration_channel *channel, struct migration_message *message,
                       unsigned timeout_ms, GError **error);

/* "unix:PATH", "tcp:HOST:PORT" (an IPv6 host in brackets): non-blocking sockets; -1 with @error set.
 * @path gets the socket file to remove after listening, or NULL; the caller frees it. Names are looked
 * up: may block. */
int migration_connect(const char *address, int cancel_fd, GError **error);
int migration_listen(const char *address, char **path, GError **error);
bool migration_is_local(const char *address); /* a UNIX socket: the peer is this user */

#endif
