/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_fid - the fids of a session: numbers that the client gave to files
 *
 * A fid is counted by the table and by every request that uses it; what belongs to it (an opened file,
 * an attribute) goes with the last of them, so that a clunk never pulls a file away from under a read.
 */
#include "virtio/9p_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define INITIAL_BUCKETS 256u

/* ---- the table; with server->lock held ---- */

static struct p9_fid **bucket_of(struct p9_server *server, uint32_t number)
{
    uint32_t hash = number * 0x9e3779b1u;

    return &server->fid_buckets[(hash ^ hash >> 16) & (server->fid_bucket_count - 1)];
}

static struct p9_fid *find_fid(struct p9_server *server, uint32_t number)
{
    struct p9_fid *fid = *bucket_of(server, number);

    while (fid && fid->number != number) {
        fid = fid->hash_next;
    }
    return fid;
}

static void grow_buckets(struct p9_server *server)
{
    struct p9_fid **old = server->fid_buckets;
    unsigned old_count = server->fid_bucket_count;

    server->fid_bucket_count = old_count * 2;
    server->fid_buckets = g_new0(struct p9_fid *, server->fid_bucket_count);
    for (unsigned i = 0; i < old_count; i++) {
        for (struct p9_fid *fid = old[i], *next; fid; fid = next) {
            struct p9_fid **bucket = bucket_of(server, fid->number);

            next = fid->hash_next;
            fid->hash_next = *bucket;
            *bucket = fid;
        }
    }
    g_free(old);
}

/* ---- life ---- */

int p9_fids_init(struct p9_server *server)
{
    server->fid_bucket_count = INITIAL_BUCKETS;
    server->fid_buckets = g_new0(struct p9_fid *, server->fid_bucket_count);
    return 0;
}

static void open_free(struct p9_server *server, struct p9_open *open)
{
    if (open->fd >= 0) {
        close(open->fd);
    }
    pthread_mutex_destroy(&open->lock);
    g_free(open);
    p9_open_release(server);
}

static void fid_free(struct p9_server *server, struct p9_fid *fid)
{
    p9_locks_drop(server, fid);
    if (fid->open) {
        open_free(server, fid->open);
    }
    p9_xattr_free(server, fid->xattr);
    p9_node_unref(server, fid->node);
    g_free(fid);
}

void p9_fids_clear(struct p9_server *server)
{
    for (unsigned i = 0; i < server->fid_bucket_count; i++) {
        struct p9_fid *fid;

        while ((fid = server->fid_buckets[i])) {
            p9_fid_remove(server, fid);
        }
    }
}

void p9_fids_finish(struct p9_server *server)
{
    if (server->fid_buckets) {
        p9_fids_clear(server);
        g_free(server->fid_buckets);
    }
}

int p9_use_get(struct p9_server *server, uint32_t number, struct p9_use *use)
{
    struct p9_fid *fid;

    pthread_mutex_lock(&server->lock);
    fid = find_fid(server, number);
    use->fid = fid;
    if (fid) {
        fid->refs++;
        use->node = fid->node;
        use->node->refs++;
        use->open = fid->open;
        use->xattr = fid->xattr;
    }
    pthread_mutex_unlock(&server->lock);
    return fid ? 0 : -EBADF;
}

void p9_use_put(struct p9_server *server, struct p9_use *use)
{
    bool last;

    if (!use->fid) {
        return;
    }
    p9_node_unref(server, use->node);
    pthread_mutex_lock(&server->lock);
    last = --use->fid->refs == 0;
    pthread_mutex_unlock(&server->lock);
    if (last) {
        fid_free(server, use->fid);
    }
    use->fid = NULL;
}

int p9_fid_add(struct p9_server *server, uint32_t number, uint32_t uid, struct p9_node *node,
               struct p9_xattr *xattr)
{
    struct p9_fid **bucket, *fid = g_new0(struct p9_fid, 1);
    int ret = 0;

    fid->number = number;
    fid->uid = uid;
    fid->refs = 1;
    fid->node = node;
    fid->xattr = xattr;
    pthread_mutex_lock(&server->lock);
    if (number == P9_NOFID || find_fid(server, number)) {
        ret = -EBADF;
    } else if (server->fid_count >= server->max_fids) {
        ret = -ENFILE;
    } else {
        if (server->fid_count++ > server->fid_bucket_count) {
            grow_buckets(server);
        }
        bucket = bucket_of(server, number);
        fid->hash_next = *bucket;
        *bucket = fid;
        node->refs++;
    }
    pthread_mutex_unlock(&server->lock);
    if (ret < 0) {
        g_free(fid);
    }
    return ret;
}

void p9_fid_remove(struct p9_server *server, struct p9_fid *fid)
{
    struct p9_fid **link;
    bool last = false;

    pthread_mutex_lock(&server->lock);
    link = bucket_of(server, fid->number);
    while (*link && *link != fid) {
        link = &(*link)->hash_next;
    }
    if (*link) { /* else another request has removed it already */
        *link = fid->hash_next;
        server->fid_count--;
        last = --fid->refs == 0;
    }
    pthread_mutex_unlock(&server->lock);
    if (last) {
        fid_free(server, fid);
    }
}

int p9_fid_move(struct p9_server *server, struct p9_fid *fid, struct p9_node *node)
{
    struct p9_node *old = node;
    int ret = -EINVAL;

    pthread_mutex_lock(&server->lock);
    if (!fid->open && !fid->xattr) {
        old = fid->node;
        node->refs++;
        fid->node = node;
        ret = 0;
    }
    pthread_mutex_unlock(&server->lock);
    if (ret == 0) {
        p9_node_unref(server, old);
    }
    return ret;
}

/* ---- opened files ---- */

int p9_open_reserve(struct p9_server *server)
{
    int ret = 0;

    pthread_mutex_lock(&server->lock);
    if (server->open_count >= server->max_open) {
        ret = -EMFILE;
    } else {
        server->open_count++;
    }
    pthread_mutex_unlock(&server->lock);
    return ret;
}

void p9_open_release(struct p9_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->open_count--;
    pthread_mutex_unlock(&server->lock);
}

int p9_fid_set_open(struct p9_server *server, struct p9_fid *fid, struct p9_node *node, int fd,
                    uint32_t flags, bool is_directory)
{
    struct p9_open *open = g_new0(struct p9_open, 1);
    struct p9_node *old = NULL;
    int ret = -EINVAL;

    open->fd = fd;
    open->flags = flags;
    open->is_directory = is_directory;
    pthread_mutex_init(&open->lock, NULL);
    pthread_mutex_lock(&server->lock);
    if (!fid->open && !fid->xattr) {
        fid->open = open;
        ret = 0;
        if (node) {
            old = fid->node;
            node->refs++;
            fid->node = node;
        }
    }
    pthread_mutex_unlock(&server->lock);
    p9_node_unref(server, old);
    if (ret < 0) {
        pthread_mutex_destroy(&open->lock);
        g_free(open);
    }
    return ret;
}

/* ---- attributes ---- */

int p9_fid_set_xattr(struct p9_server *server, struct p9_fid *fid, struct p9_xattr *xattr)
{
    int ret = -EINVAL;

    pthread_mutex_lock(&server->lock);
    if (!fid->open && !fid->xattr) {
        fid->xattr = xattr;
        ret = 0;
    }
    pthread_mutex_unlock(&server->lock);
    return ret;
}

int p9_xattr_create(struct p9_server *server, const char *name, size_t size,
                    struct p9_xattr **xattr)
{
    size_t held = sizeof(struct p9_xattr) + size;
    int ret = 0;

    *xattr = NULL;
    pthread_mutex_lock(&server->lock);
    if (size > P9_MAX_XATTR) {
        ret = -E2BIG;
    } else if (server->xattr_held + held > P9_MAX_XATTR_HELD) {
        ret = -ENOMEM;
    } else {
        server->xattr_held += held;
    }
    pthread_mutex_unlock(&server->lock);
    if (ret == 0) {
        *xattr = g_malloc0(held);
        g_strlcpy((*xattr)->name, name, sizeof((*xattr)->name));
        (*xattr)->size = size;
        pthread_mutex_init(&(*xattr)->lock, NULL);
    }
    return ret;
}

void p9_xattr_free(struct p9_server *server, struct p9_xattr *xattr)
{
    if (!xattr) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    server->xattr_held -= sizeof(*xattr) + xattr->size;
    pthread_mutex_unlock(&server->lock);
    pthread_mutex_destroy(&xattr->lock);
    g_free(xattr);
}
