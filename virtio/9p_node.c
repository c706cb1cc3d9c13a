/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_node - the tree of names that a guest has walked to, and the descriptors of its directories
 *
 * A node is a name in a parent node, and remembers which inode it found there. It is used in one of
 * two ways: by name in its parent's descriptor (one system call, no descriptor of its own), or by a
 * descriptor, if it is a directory that is looked into or if it must outlive its name. Either way the
 * inode must be the one that was walked to; if another is there by now, the file that the guest knows
 * is gone: -ENOENT. (Where inode numbers are not stable, a file of the same type will do.)
 *
 * Descriptors of directories are a cache (clock replacement); one that was dropped is opened again
 * through its parents, one name at a time.
 */
#include "virtio/9p_internal.h"
#include "vmm/fd.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define INITIAL_BUCKETS 1024u
#define PREFIX_SHIFT    48
#define MAX_PREFIXES    65536u

static bool is_directory(const struct p9_node *node)
{
    return S_ISDIR(node->mode);
}

/* ---- the table of nodes; all with server->lock held ---- */

static unsigned node_hash(const struct p9_server *server, const struct p9_node *parent,
                          const char *name)
{
    uint64_t hash = (uintptr_t)parent / 16 * UINT64_C(0x9e3779b97f4a7c15);

    for (; *name; name++) {
        hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    }
    return (hash ^ hash >> 32) & (server->node_bucket_count - 1);
}

static struct p9_node *find_node(const struct p9_server *server, const struct p9_node *parent,
                                 const char *name)
{
    struct p9_node *node = server->node_buckets[node_hash(server, parent, name)];

    while (node && (node->parent != parent || strcmp(node->name, name) != 0)) {
        node = node->hash_next;
    }
    return node;
}

static void grow_buckets(struct p9_server *server)
{
    struct p9_node **old = server->node_buckets;
    unsigned old_count = server->node_bucket_count;

    server->node_bucket_count = old_count * 2;
    server->node_buckets = g_new0(struct p9_node *, server->node_bucket_count);
    for (unsigned i = 0; i < old_count; i++) {
        for (struct p9_node *node = old[i], *next; node; node = next) {
            unsigned bucket = node_hash(server, node->parent, node->name);

            next = node->hash_next;
            node->hash_next = server->node_buckets[bucket];
            server->node_buckets[bucket] = node;
        }
    }
    g_free(old);
}

static void hash_node(struct p9_server *server, struct p9_node *node)
{
    unsigned bucket;

    if (server->node_count > server->node_bucket_count) {
        grow_buckets(server);
    }
    bucket = node_hash(server, node->parent, node->name);
    node->hash_next = server->node_buckets[bucket];
    server->node_buckets[bucket] = node;
    node->hashed = true;
}

static void unhash_node(struct p9_server *server, struct p9_node *node)
{
    struct p9_node **link;

    if (!node->hashed) {
        return;
    }
    link = &server->node_buckets[node_hash(server, node->parent, node->name)];
    while (*link != node) {
        link = &(*link)->hash_next;
    }
    *link = node->hash_next;
    node->hash_next = NULL;
    node->hashed = false;
}

/* ---- the cache of descriptors; with server->lock held ---- */

/* Takes the descriptor away from @node; the caller closes it. */
static int uncache(struct p9_server *server, struct p9_node *node)
{
    int fd = node->fd;

    if (fd >= 0) {
        server->cached[node->slot] = server->cached[--server->cached_count];
        server->cached[node->slot]->slot = node->slot;
        node->fd = -1;
    }
    return fd;
}

/* A descriptor that can be spared, for the caller to close; -1 if all are in use. Those of removed
 * files can't be opened again: they go last. */
static int evict(struct p9_server *server)
{
    for (unsigned pass = 0; pass < 3 * server->cached_count; pass++) {
        struct p9_node *node = server->cached[server->hand++ % server->cached_count];

        if (node->pins || (!node->hashed && pass < 2 * server->cached_count)) {
            continue;
        }
        if (node->recent && pass < server->cached_count) {
            node->recent = false;
            continue;
        }
        return uncache(server, node);
    }
    return -1;
}

/* Gives @fd to @node, unless it has got one meanwhile; what is to be closed comes back in @spare (-1:
 * nothing). -EMFILE: no room. */
static int cache(struct p9_server *server, struct p9_node *node, int fd, int *spare)
{
    *spare = -1;
    if (node->fd >= 0) {
        *spare = fd;
        return 0;
    }
    if (server->cached_count == server->max_cached) {
        *spare = evict(server);
        if (*spare < 0) {
            *spare = fd;
            return -EMFILE;
        }
    }
    node->fd = fd;
    node->slot = server->cached_count;
    node->recent = true;
    server->cached[server->cached_count++] = node;
    return 0;
}

/* ---- life of a node ---- */

static uint64_t mount_of(const struct statx *stat)
{
    return stat->stx_mask & STATX_MNT_ID ? stat->stx_mnt_id : 0;
}

static struct p9_node *node_new(struct p9_node *parent, const char *name, const struct statx *stat,
                                unsigned file_system)
{
    struct p9_node *node = g_new0(struct p9_node, 1);

    node->parent = parent;
    node->name = g_strdup(name);
    node->dev = share_dev(stat);
    node->ino = stat->stx_ino;
    node->mount = mount_of(stat);
    node->mode = stat->stx_mode & S_IFMT;
    node->barred = file_system & SHARE_FS_KERNEL;
    node->unstable = file_system & SHARE_FS_UNSTABLE;
    node->fd = -1;
    node->refs = 1;
    return node;
}

struct p9_node *p9_node_ref(struct p9_server *server, struct p9_node *node)
{
    pthread_mutex_lock(&server->lock);
    node->refs++;
    pthread_mutex_unlock(&server->lock);
    return node;
}

void p9_node_unref(struct p9_server *server, struct p9_node *node)
{
    struct p9_node *dead = NULL;

    pthread_mutex_lock(&server->lock);
    while (node && --node->refs == 0) {
        struct p9_node *parent = node->parent;
        int fd;

        unhash_node(server, node);
        fd = uncache(server, node);
        node->fd = fd;
        node->hash_next = dead;
        dead = node;
        server->node_count--;
        node = parent;
    }
    pthread_mutex_unlock(&server->lock);
    while (dead) {
        struct p9_node *next = dead->hash_next;

        close_fd(dead->fd);
        g_free(dead->name);
        g_free(dead);
        dead = next;
    }
}

int p9_nodes_init(struct p9_server *server)
{
    struct statx stat;
    int root = share_root(server->share), ret = share_stat(server->share, root, NULL, &stat);

    if (ret < 0) {
        return ret;
    }
    server->node_bucket_count = INITIAL_BUCKETS;
    server->node_buckets = g_new0(struct p9_node *, server->node_bucket_count);
    server->cached = g_new0(struct p9_node *, server->max_cached);
    server->prefixes = g_array_new(FALSE, FALSE, sizeof(struct p9_prefix));
    server->root = node_new(NULL, "", &stat, share_file_system(server->share, root));
    server->root->fd = root;
    server->node_count = 1;
    return 0;
}

void p9_nodes_finish(struct p9_server *server)
{
    if (server->root) {
        g_free(server->root->name);
        g_free(server->root);
    }
    g_free(server->node_buckets);
    g_free(server->cached);
    if (server->prefixes) {
        g_array_unref(server->prefixes);
    }
}

/* ---- descriptors ---- */

/* If @node has a descriptor: pins it. */
static bool pin(struct p9_server *server, struct p9_node *node, struct p9_handle *handle)
{
    bool has = false;

    pthread_mutex_lock(&server->lock);
    if (node->fd >= 0) {
        node->pins++;
        node->recent = true;
        handle->pinned = node;
        handle->fd = node->fd;
        has = true;
    }
    pthread_mutex_unlock(&server->lock);
    return has;
}

void p9_handle_close(struct p9_server *server, struct p9_handle *handle)
{
    if (handle->pinned) {
        pthread_mutex_lock(&server->lock);
        handle->pinned->pins--;
        pthread_mutex_unlock(&server->lock);
    } else {
        close_fd(handle->fd);
    }
    handle->pinned = NULL;
    handle->fd = -1;
}

bool p9_node_is(const struct p9_node *node, const struct statx *stat)
{
    return node->mode == (stat->stx_mode & S_IFMT) &&
           (node->unstable || (node->ino == stat->stx_ino && node->dev == share_dev(stat)));
}

/* Opens @node by its name in @dir, the descriptor of its parent. */
static int open_by_name(struct p9_server *server, const struct p9_node *node, int dir)
{
    struct statx stat;
    int ret, fd = share_lookup(server->share, dir, node->name);

    if (fd == -EMFILE || fd == -ENFILE) {
        int spare;

        pthread_mutex_lock(&server->lock);
        spare = evict(server);
        pthread_mutex_unlock(&server->lock);
        if (spare >= 0) {
            close(spare);
            fd = share_lookup(server->share, dir, node->name);
        }
    }
    if (fd < 0) {
        return fd;
    }
    ret = share_stat(server->share, fd, NULL, &stat);
    if (ret == 0 && !p9_node_is(node, &stat)) {
        ret = -ENOENT;
    }
    if (ret < 0) {
        close(fd);
        return ret;
    }
    return fd;
}

/* The highest of @node and its parents that has no descriptor, while its own parent has one, which is
 * pinned at @handle; or NULL if @node itself has one, pinned likewise. */
static int find_gap(struct p9_server *server, struct p9_node *node, struct p9_node **gap,
                    struct p9_handle *handle)
{
    struct p9_node *has = node;
    unsigned depth = 0;
    int ret = 0;

    *gap = NULL;
    pthread_mutex_lock(&server->lock);
    while (has->fd < 0) {
        *gap = has;
        if (!has->hashed) {
            ret = -ENOENT;
            break;
        }
        if (++depth > P9_MAX_DEPTH) {
            ret = -ENAMETOOLONG;
            break;
        }
        has = has->parent; /* the root has a descriptor always */
    }
    if (ret == 0) {
        has->pins++;
        has->recent = true;
        handle->pinned = has;
        handle->fd = has->fd;
    }
    pthread_mutex_unlock(&server->lock);
    return ret;
}

/* Pins a descriptor of @node, which stays with it (a directory, or a file about to lose its name). */
static int hold(struct p9_server *server, struct p9_node *node, struct p9_handle *handle)
{
    /* Others may evict what was opened, but not what is pinned: some progress is certain unless the
     * cache is smaller than the number of threads. */
    for (unsigned attempt = 0; attempt < 2 * P9_MAX_DEPTH; attempt++) {
        struct p9_node *gap;
        int fd, spare, ret = find_gap(server, node, &gap, handle);

        if (ret < 0) {
            return ret;
        }
        if (!gap) {
            return 0;
        }
        fd = open_by_name(server, gap, handle->fd);
        p9_handle_close(server, handle);
        if (fd < 0) {
            return fd;
        }
        pthread_mutex_lock(&server->lock);
        ret = cache(server, gap, fd, &spare);
        if (ret == 0 && gap == node) {
            node->pins++;
            handle->pinned = node;
            handle->fd = node->fd;
        }
        pthread_mutex_unlock(&server->lock);
        close_fd(spare);
        if (ret < 0 || gap == node) {
            return ret;
        }
    }
    return -EMFILE;
}

int p9_node_enter(struct p9_server *server, struct p9_node *dir, struct p9_handle *handle)
{
    handle->pinned = NULL;
    handle->fd = -1;
    if (!is_directory(dir)) {
        return -ENOTDIR;
    }
    if (dir->barred) {
        return -EACCES;
    }
    return hold(server, dir, handle);
}

/* Pins the parent's descriptor, for access by name. The node has none. */
static int hold_parent(struct p9_server *server, struct p9_node *node, struct p9_handle *handle)
{
    handle->pinned = NULL;
    handle->fd = -1;
    if (!__atomic_load_n(&node->hashed, __ATOMIC_RELAXED)) {
        return -ENOENT;
    }
    return hold(server, node->parent, handle);
}

int p9_node_handle(struct p9_server *server, struct p9_node *node, struct p9_handle *handle)
{
    struct p9_handle parent;
    int ret;

    handle->pinned = NULL;
    handle->fd = -1;
    if (node->barred) {
        return -EACCES;
    }
    if (is_directory(node)) {
        return hold(server, node, handle);
    }
    if (pin(server, node, handle)) {
        return 0;
    }
    ret = hold_parent(server, node, &parent);
    if (ret < 0) {
        return ret;
    }
    handle->fd = open_by_name(server, node, parent.fd);
    p9_handle_close(server, &parent);
    return handle->fd < 0 ? handle->fd : 0;
}

int p9_node_stat(struct p9_server *server, struct p9_node *node, struct statx *stat)
{
    struct p9_handle handle;
    int ret;

    if (pin(server, node, &handle)) {
        ret = share_stat(server->share, handle.fd, NULL, stat);
    } else {
        ret = hold_parent(server, node, &handle);
        if (ret < 0) {
            return ret;
        }
        ret = share_stat(server->share, handle.fd, node->name, stat);
        if (ret == 0 && !p9_node_is(node, stat)) {
            ret = -ENOENT;
        }
    }
    p9_handle_close(server, &handle);
    return ret;
}

/* ---- walking ---- */

/* The kind of file system that @name in @dir is on: its directory's, unless it is a mount point. */
static unsigned file_system_of(struct p9_server *server, const struct p9_node *dir, int dir_fd,
                               const char *name, const struct statx *stat)
{
    bool crossing =
        dir->mount && mount_of(stat) ? dir->mount != mount_of(stat) : dir->dev != share_dev(stat);
    unsigned file_system;
    int fd;

    if (!crossing) {
        return dir->unstable ? SHARE_FS_UNSTABLE : 0; /* nothing lies in a barred one */
    }
    fd = share_lookup(server->share, dir_fd, name);
    if (fd < 0) {
        return SHARE_FS_KERNEL;
    }
    file_system = share_file_system(server->share, fd);
    close(fd);
    return file_system;
}

int p9_node_child(struct p9_server *server, struct p9_node *dir, const char *name,
                  const struct statx *stat, unsigned file_system, struct p9_node **child)
{
    struct p9_node *node;
    int ret = 0;

    pthread_mutex_lock(&server->lock);
    node = find_node(server, dir, name);
    if (node && p9_node_is(node, stat)) {
        node->refs++;
    } else if (server->node_count >= server->max_nodes) {
        ret = -ENFILE;
    } else {
        if (node) {
            unhash_node(server, node); /* the host has put something else there */
        }
        dir->refs++;
        server->node_count++;
        node = node_new(dir, name, stat, file_system);
        hash_node(server, node);
    }
    pthread_mutex_unlock(&server->lock);
    *child = ret < 0 ? NULL : node;
    return ret;
}

int p9_node_walk(struct p9_server *server, struct p9_node *dir, const char *name,
                 struct statx *stat, struct p9_node **child)
{
    struct p9_handle handle;
    unsigned file_system = 0;
    int ret = p9_node_enter(server, dir, &handle);

    if (ret < 0) {
        return ret == -EACCES && dir->barred ? -ENOENT : ret;
    }
    ret = share_stat(server->share, handle.fd, name, stat);
    if (ret == 0) {
        file_system = file_system_of(server, dir, handle.fd, name, stat);
    }
    p9_handle_close(server, &handle);
    return ret < 0 ? ret : p9_node_child(server, dir, name, stat, file_system, child);
}

struct p9_node *p9_node_restore(struct p9_server *server, struct p9_node *parent, const char *name,
                                uint64_t dev, uint64_t ino, uint32_t mode, bool named)
{
    struct statx stat = {.stx_mode = mode, .stx_ino = ino};
    struct p9_node *node = NULL;
    int ret = -ENOENT;

    pthread_rwlock_rdlock(&server->names);
    if (named && (parent->hashed || !parent->parent)) {
        ret = p9_node_walk(server, parent, name, &stat, &node);
    }
    pthread_rwlock_unlock(&server->names);
    /* By its inode number; that of the device may be another one after a reboot. */
    if (ret == 0 && (node->mode != (mode & S_IFMT) || (!node->unstable && node->ino != ino))) {
        p9_node_unref(server, node);
        ret = -ENOENT;
    }
    if (ret < 0) {
        stat.stx_mode = mode;
        stat.stx_ino = ino;
        stat.stx_dev_major = dev >> 32;
        stat.stx_dev_minor = dev;
        pthread_mutex_lock(&server->lock);
        parent->refs++;
        server->node_count++;
        node = node_new(parent, name, &stat, 0);
        pthread_mutex_unlock(&server->lock);
    }
    return node;
}

/* ---- changes of names ---- */

struct p9_node *p9_node_keep(struct p9_server *server, struct p9_node *dir, const char *name)
{
    struct p9_handle handle;
    struct p9_node *node;

    pthread_mutex_lock(&server->lock);
    node = find_node(server, dir, name);
    if (node) {
        node->refs++;
    }
    pthread_mutex_unlock(&server->lock);
    if (node && hold(server, node, &handle) < 0) {
        p9_node_unref(server, node); /* it is not what the guest knew, or no descriptor is left */
        node = NULL;
    }
    return node;
}

void p9_node_release(struct p9_server *server, struct p9_node *kept)
{
    int spare = -1;

    if (!kept) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    if (--kept->pins == 0 && kept->hashed && !is_directory(kept)) {
        spare = uncache(server, kept);
    }
    pthread_mutex_unlock(&server->lock);
    close_fd(spare);
    p9_node_unref(server, kept);
}

void p9_node_unlinked(struct p9_server *server, struct p9_node *kept)
{
    if (kept) {
        pthread_mutex_lock(&server->lock);
        unhash_node(server, kept);
        pthread_mutex_unlock(&server->lock);
    }
}

void p9_node_renamed(struct p9_server *server, struct p9_node *old_dir, const char *old_name,
                     struct p9_node *new_dir, const char *new_name)
{
    struct p9_node *node, *victim;

    pthread_mutex_lock(&server->lock);
    node = find_node(server, old_dir, old_name);
    victim = find_node(server, new_dir, new_name);
    if (node && victim && node->dev == victim->dev && node->ino == victim->ino) {
        node = victim = NULL; /* two names of one file: rename(2) does nothing */
    }
    if (victim) {
        unhash_node(server, victim);
    }
    if (node) {
        unhash_node(server, node);
        g_free(node->name);
        node->name = g_strdup(new_name);
        new_dir->refs++;
        node->parent = new_dir;
        hash_node(server, node);
    }
    pthread_mutex_unlock(&server->lock);
    if (node) {
        p9_node_unref(server, old_dir);
    }
}

/* ---- qids ---- */

/*
 * Inode numbers are unique on one host file system, a qid path must be on the whole share. The top 16
 * bits number what was seen of (device, top 16 bits of the inode number), in order of appearance.
 */
int p9_qid_path(struct p9_server *server, uint64_t dev, uint64_t ino, uint64_t *path)
{
    struct p9_prefix wanted = {.dev = dev, .high = ino >> PREFIX_SHIFT};
    unsigned i;

    pthread_mutex_lock(&server->lock);
    for (i = 0; i < server->prefixes->len; i++) {
        struct p9_prefix *prefix = &g_array_index(server->prefixes, struct p9_prefix, i);

        if (prefix->dev == wanted.dev && prefix->high == wanted.high) {
            break;
        }
    }
    if (i == server->prefixes->len && i < MAX_PREFIXES) {
        g_array_append_val(server->prefixes, wanted);
    }
    pthread_mutex_unlock(&server->lock);
    *path = (uint64_t)i << PREFIX_SHIFT | (ino & ((UINT64_C(1) << PREFIX_SHIFT) - 1));
    return i < MAX_PREFIXES ? 0 : -ENFILE;
}

int p9_qid_make(struct p9_server *server, const struct statx *stat, struct p9_qid *qid)
{
    uint64_t mix = (uint64_t)stat->stx_mtime.tv_sec * 1000000000u + stat->stx_mtime.tv_nsec;

    qid->type = S_ISDIR(stat->stx_mode)   ? P9_QID_DIRECTORY
                : S_ISLNK(stat->stx_mode) ? P9_QID_SYMLINK
                                          : 0;
    /* A new version tells a client that what it has cached is old. 0 says "do not cache". */
    mix = (mix ^ stat->stx_size) * UINT64_C(0x9e3779b97f4a7c15);
    qid->version = (uint32_t)(mix >> 32) | 1;
    return p9_qid_path(server, share_dev(stat), stat->stx_ino, &qid->path);
}
