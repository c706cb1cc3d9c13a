/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_lock - Tlock and Tgetlock: POSIX record locks between the processes of a guest
 *
 * A table of ranges with POSIX's rules: per owner (client and process) and file, ranges of one type
 * are merged, a new type replaces the old one where they overlap, readers exclude writers. Linux
 * guests settle conflicts of their own processes before they ask; what is asked here is asked again
 * where a client uses several mounts. Nothing waits: P9_LOCK_BLOCKED tells a client to come back.
 *
 * Host processes do not see these locks, as with other 9P servers: they are the guest's own.
 */
#include "virtio/9p_internal.h"

#include <errno.h>
#include <string.h>

#include "vmm/trace.h"

TRACE_EVENT(p9_lock, "%s fid=%u type=%u start=%llu length=%llu process=%u",
            (const char *name, unsigned fid, unsigned type, unsigned long long start,
             unsigned long long length, unsigned process),
            name, fid, type, start, length, process)
TRACE_EVENT(p9_getlock, "%s fid=%u type=%u start=%llu length=%llu process=%u",
            (const char *name, unsigned fid, unsigned type, unsigned long long start,
             unsigned long long length, unsigned process),
            name, fid, type, start, length, process)

#define MAX_CLIENT_NAME 64

struct owner {
    char client[MAX_CLIENT_NAME + 1];
    uint32_t process;
};

struct lock {
    uint64_t dev, ino;
    uint64_t start, last; /* bytes, both included; last UINT64_MAX: to the end, wherever that is */
    uint8_t type;
    uint32_t fid;
    struct owner owner;
};

struct p9_lock_table {
    pthread_mutex_t mutex;
    GArray *locks; /* struct lock */
};

struct request {
    uint8_t type;
    uint32_t flags;
    uint64_t start, length;
    struct owner owner;
};

void p9_locks_init(struct p9_server *server)
{
    server->locks = g_new0(struct p9_lock_table, 1);
    pthread_mutex_init(&server->locks->mutex, NULL);
    server->locks->locks = g_array_new(FALSE, FALSE, sizeof(struct lock));
}

void p9_locks_finish(struct p9_server *server)
{
    g_array_unref(server->locks->locks);
    pthread_mutex_destroy(&server->locks->mutex);
    g_free(server->locks);
}

void p9_locks_clear(struct p9_server *server)
{
    pthread_mutex_lock(&server->locks->mutex);
    g_array_set_size(server->locks->locks, 0);
    pthread_mutex_unlock(&server->locks->mutex);
}

void p9_locks_drop(struct p9_server *server, struct p9_fid *fid)
{
    GArray *locks = server->locks->locks;

    if (!fid->open) {
        return;
    }
    pthread_mutex_lock(&server->locks->mutex);
    for (unsigned i = locks->len; i-- > 0;) {
        if (g_array_index(locks, struct lock, i).fid == fid->number) {
            g_array_remove_index_fast(locks, i);
        }
    }
    pthread_mutex_unlock(&server->locks->mutex);
}

/* ---- the table, its mutex held ---- */

static bool is_owner(const struct lock *lock, const struct owner *owner)
{
    return lock->owner.process == owner->process && strcmp(lock->owner.client, owner->client) == 0;
}

static bool overlaps(const struct lock *a, const struct lock *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->start <= b->last && b->start <= a->last;
}

/* The first lock that stands in the way of @wanted, or NULL. */
static const struct lock *conflict(const GArray *locks, const struct lock *wanted)
{
    for (unsigned i = 0; i < locks->len; i++) {
        const struct lock *lock = &g_array_index(locks, struct lock, i);

        if (overlaps(lock, wanted) && !is_owner(lock, &wanted->owner) &&
            (lock->type == P9_LOCK_WRITE || wanted->type == P9_LOCK_WRITE)) {
            return lock;
        }
    }
    return NULL;
}

/* Cuts @range out of what its owner holds. Leaves at most one lock more than there were. */
static void cut(GArray *locks, const struct lock *range)
{
    for (unsigned i = locks->len; i-- > 0;) {
        struct lock *lock = &g_array_index(locks, struct lock, i), rest;

        if (!overlaps(lock, range) || !is_owner(lock, &range->owner)) {
            continue;
        }
        rest = *lock;
        if (lock->start < range->start && lock->last > range->last) {
            lock->last = range->start - 1;
            rest.start = range->last + 1;
            g_array_append_val(locks, rest);
        } else if (lock->start < range->start) {
            lock->last = range->start - 1;
        } else if (lock->last > range->last) {
            lock->start = range->last + 1;
        } else {
            g_array_remove_index_fast(locks, i);
        }
    }
}

/* Joins @range with what its owner holds of the same type right beside it. */
static void join(GArray *locks, struct lock *range)
{
    for (unsigned i = locks->len; i-- > 0;) {
        const struct lock *lock = &g_array_index(locks, struct lock, i);
        bool before = lock->last != UINT64_MAX && lock->last + 1 == range->start;
        bool after = range->last != UINT64_MAX && range->last + 1 == lock->start;

        if (lock->dev == range->dev && lock->ino == range->ino && lock->type == range->type &&
            lock->fid == range->fid && is_owner(lock, &range->owner) && (before || after)) {
            range->start = MIN(range->start, lock->start);
            range->last = MAX(range->last, lock->last);
            g_array_remove_index_fast(locks, i);
        }
    }
}

static int set_lock(GArray *locks, struct lock *wanted)
{
    if (wanted->type != P9_LOCK_UNLOCK && conflict(locks, wanted)) {
        return P9_LOCK_BLOCKED;
    }
    if (locks->len + 2 > P9_MAX_LOCKS && wanted->type != P9_LOCK_UNLOCK) {
        return P9_LOCK_ERROR;
    }
    cut(locks, wanted);
    if (wanted->type != P9_LOCK_UNLOCK) {
        join(locks, wanted);
        g_array_append_val(locks, *wanted);
    }
    return P9_LOCK_SUCCESS;
}

/* ---- saved state ---- */

static void put(GByteArray *out, uint64_t value, unsigned size)
{
    value = GUINT64_TO_LE(value);
    g_byte_array_append(out, (const uint8_t *)&value, size);
}

void p9_locks_save(struct p9_server *server, GByteArray *out)
{
    GArray *locks = server->locks->locks;

    put(out, locks->len, 4);
    for (unsigned i = 0; i < locks->len; i++) {
        const struct lock *lock = &g_array_index(locks, struct lock, i);

        put(out, lock->fid, 4);
        put(out, lock->type, 1);
        put(out, lock->start, 8);
        put(out, lock->last, 8);
        put(out, lock->owner.process, 4);
        put(out, strlen(lock->owner.client), 2);
        g_byte_array_append(out, (const uint8_t *)lock->owner.client, strlen(lock->owner.client));
    }
}

GArray *p9_locks_array(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct lock));
}

int p9_locks_read(struct p9_reader *reader, GArray *locks)
{
    uint32_t count = p9_read_u32(reader);

    if (count > P9_MAX_LOCKS) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < count && !reader->error; i++) {
        struct lock lock = {.fid = p9_read_u32(reader)};

        lock.type = p9_read_u8(reader);
        lock.start = p9_read_u64(reader);
        lock.last = p9_read_u64(reader);
        lock.owner.process = p9_read_u32(reader);
        g_strlcpy(lock.owner.client, p9_read_string(reader, MAX_CLIENT_NAME, NULL),
                  sizeof(lock.owner.client));
        if (lock.type > P9_LOCK_WRITE || lock.start > lock.last) {
            return -EINVAL;
        }
        g_array_append_val(locks, lock);
    }
    return reader->error;
}

void p9_locks_load(struct p9_server *server, GArray *locks)
{
    for (unsigned i = 0; i < locks->len; i++) {
        struct lock *lock = &g_array_index(locks, struct lock, i);
        struct p9_use use;

        if (p9_use_get(server, lock->fid, &use) < 0) {
            continue;
        }
        if (use.open) {
            lock->dev = use.node->dev;
            lock->ino = use.node->ino;
            g_array_append_vals(server->locks->locks, lock, 1);
        }
        p9_use_put(server, &use);
    }
}

/* ---- the messages ---- */

static int make_lock(struct p9_use *use, const struct request *request, struct lock *lock)
{
    if (!use->open) {
        return -EBADF;
    }
    if (request->length > 0 && request->start > UINT64_MAX - (request->length - 1)) {
        return -EINVAL;
    }
    lock->dev = use->node->dev;
    lock->ino = use->node->ino;
    lock->start = request->start;
    lock->last = request->length ? request->start + request->length - 1 : UINT64_MAX;
    lock->type = request->type;
    lock->fid = use->fid->number;
    lock->owner = request->owner;
    return 0;
}

int p9_do_lock(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    struct request request = {.type = p9_read_u8(&call->reader)};
    struct p9_use use;
    struct lock lock;
    int ret;

    request.flags = p9_read_u32(&call->reader);
    request.start = p9_read_u64(&call->reader);
    request.length = p9_read_u64(&call->reader);
    request.owner.process = p9_read_u32(&call->reader);
    g_strlcpy(request.owner.client, p9_read_string(&call->reader, MAX_CLIENT_NAME, NULL),
              sizeof(request.owner.client));
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_lock(server->name, number, request.type, request.start, request.length,
                  request.owner.process);
    if (request.type > P9_LOCK_UNLOCK || request.flags & ~3u) {
        return -EINVAL;
    }
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    ret = make_lock(&use, &request, &lock);
    if (ret == 0) {
        pthread_mutex_lock(&server->locks->mutex);
        p9_write_u8(&call->writer, set_lock(server->locks->locks, &lock));
        pthread_mutex_unlock(&server->locks->mutex);
    }
    p9_use_put(server, &use);
    return ret;
}

int p9_do_getlock(struct p9_call *call)
{
    struct p9_server *server = call->server;
    uint32_t number = p9_read_u32(&call->reader);
    struct request request = {.type = p9_read_u8(&call->reader)};
    struct p9_writer *writer = &call->writer;
    const struct lock *found;
    struct p9_use use;
    struct lock lock;
    int ret;

    request.start = p9_read_u64(&call->reader);
    request.length = p9_read_u64(&call->reader);
    request.owner.process = p9_read_u32(&call->reader);
    g_strlcpy(request.owner.client, p9_read_string(&call->reader, MAX_CLIENT_NAME, NULL),
              sizeof(request.owner.client));
    if (call->reader.error) {
        return call->reader.error;
    }
    trace_p9_getlock(server->name, number, request.type, request.start, request.length,
                     request.owner.process);
    if (request.type > P9_LOCK_UNLOCK) {
        return -EINVAL;
    }
    ret = p9_use_get(server, number, &use);
    if (ret < 0) {
        return ret;
    }
    ret = make_lock(&use, &request, &lock);
    if (ret == 0) {
        pthread_mutex_lock(&server->locks->mutex);
        found = request.type == P9_LOCK_UNLOCK ? NULL : conflict(server->locks->locks, &lock);
        if (found) {
            lock = *found;
            request.start = lock.start;
            request.length = lock.last == UINT64_MAX ? 0 : lock.last - lock.start + 1;
        } else {
            lock.type = P9_LOCK_UNLOCK;
        }
        pthread_mutex_unlock(&server->locks->mutex);
        p9_write_u8(writer, lock.type);
        p9_write_u64(writer, request.start);
        p9_write_u64(writer, request.length);
        p9_write_u32(writer, lock.owner.process);
        p9_write_string(writer, lock.owner.client, strlen(lock.owner.client));
    }
    p9_use_put(server, &use);
    return ret;
}
