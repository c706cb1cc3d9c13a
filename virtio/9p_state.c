/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_state - a session as bytes, so that a guest finds its fids again after a restore
 *
 * Saved are names, not descriptors: the tree of nodes, which fid stands for which node and how it was
 * opened, attributes being read or written, locks. Loading looks every name up again, in the directory
 * that this server shares. A file that is not there any more, or is another one by now (its inode
 * number tells, where those are stable), is gone: its fids stay and fail with ENOENT, or ESTALE if they
 * were open. So does a file that had been removed while open: it has no name to be found by.
 *
 * What the guest has cached of a share is as good as before if nothing that it has a fid to was changed
 * meanwhile; each file's times and size, and each folder's modification time, are saved as one number,
 * and compared (p9_server_is_unchanged). Linux keeps a fid to everything that it has in its caches.
 *
 * Layout, little-endian: u32 layout version, u32 msize, u64 stamp of the root (since layout 2); u32 count
 * of prefixes (u64 device, u64 high bits); u32 count of nodes after the root, parents first (u32 parent,
 * u8 named, u64 device, u64 inode, u32 type, string name, u64 stamp (since layout 2)); u32 count of fids (u32 number, u32 uid, u32 node, u8 kind, then of an open
 * one u32 flags, of an attribute u8 writing, u32 flags, string name, u32 size, u32 filled, value);
 * u32 count of locks (p9_locks_save). The stream is hostile: all of it is checked before the session
 * that is there is ended.
 */
#include "virtio/9p_internal.h"

#include <errno.h>
#include <string.h>

#include "vmm/trace.h"

TRACE_EVENT(p9_load, "%s nodes=%u fids=%u lost=%u",
            (const char *name, unsigned nodes, unsigned fids, unsigned lost), name, nodes, fids,
            lost)

TRACE_EVENT(p9_changed, "%s name=%s was=0x%" G_GINT64_MODIFIER "x is=0x%" G_GINT64_MODIFIER "x",
            (const char *name, const char *file, uint64_t was, uint64_t is), name, file, was, is)

#define LAYOUT        2u
#define OLDEST_LAYOUT 1u

enum { FID_PATH, FID_OPEN, FID_XATTR };

/* ---- saving; no request is under way ---- */

static void put(GByteArray *out, uint64_t value, unsigned size)
{
    value = GUINT64_TO_LE(value);
    g_byte_array_append(out, (const uint8_t *)&value, size);
}

static void put_string(GByteArray *out, const char *string)
{
    put(out, strlen(string), 2);
    g_byte_array_append(out, (const uint8_t *)string, strlen(string));
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    return (hash ^ word) * 1099511628211u; /* FNV-1a, by words */
}

/* Could it change once more, and have the same times as now? Clocks of files tick at least every 10 ms,
 * or every 2 s where no fraction is kept. */
static bool has_just_changed(const struct statx *stat)
{
    const struct statx_timestamp *last =
        S_ISDIR(stat->stx_mode) ? &stat->stx_mtime : &stat->stx_ctime;
    int64_t age_us = g_get_real_time() - last->tv_sec * G_USEC_PER_SEC - last->tv_nsec / 1000;

    return age_us < (last->tv_nsec ? 20000 : 2 * G_USEC_PER_SEC);
}

/*
 * Of what there is under the node's name: another one after any change that a guest's caches could tell.
 * 0: it can't be known. A folder's caches are its names, whose changes set its modification time; its
 * size and change time also differ after what is no change of its own (an overlay file system's copying
 * of what lies in it, for one).
 */
static uint64_t stamp_of(struct p9_server *server, struct p9_node *node, bool saving)
{
    uint64_t stamp = 14695981039346656037u;
    struct statx stat;
    int ret;

    if (node->barred) {
        return 1;
    }
    pthread_rwlock_rdlock(&server->names);
    ret = node->hashed || !node->parent ? p9_node_stat(server, node, &stat) : -ENOENT;
    pthread_rwlock_unlock(&server->names);
    if (ret < 0) {
        return 0;
    }
    /* A folder for everybody's temporary files changes all the time, and what was not there is no news. */
    if (S_ISDIR(stat.stx_mode) && stat.stx_mode & S_ISVTX) {
        return 1;
    }
    if (saving && has_just_changed(&stat)) {
        return 0;
    }
    stamp = mix(mix(stamp, stat.stx_mode), (uint64_t)stat.stx_uid << 32 | stat.stx_gid);
    stamp = mix(mix(stamp, stat.stx_mtime.tv_sec), stat.stx_mtime.tv_nsec);
    if (S_ISDIR(stat.stx_mode)) {
        stamp = mix(stamp, stat.stx_nlink);
    } else {
        stamp = mix(mix(stamp, stat.stx_ctime.tv_sec), stat.stx_ctime.tv_nsec);
        stamp = mix(stamp, stat.stx_size);
    }
    return stamp ? stamp : 1;
}

/* Numbers @node and its parents, and writes those that have no number yet, parents first. */
static uint32_t save_node(struct p9_server *server, GByteArray *out, GHashTable *numbers,
                          struct p9_node *node)
{
    g_autoptr(GPtrArray) path = g_ptr_array_new();

    for (; !g_hash_table_contains(numbers, node); node = node->parent) {
        g_ptr_array_add(path, node);
    }
    for (unsigned i = path->len; i-- > 0;) {
        uint32_t parent = GPOINTER_TO_UINT(g_hash_table_lookup(numbers, node));

        node = path->pdata[i];
        put(out, parent, 4);
        put(out, node->hashed, 1);
        put(out, node->dev, 8);
        put(out, node->ino, 8);
        put(out, node->mode, 4);
        put_string(out, node->name);
        put(out, stamp_of(server, node, true), 8);
        g_hash_table_insert(numbers, node, GUINT_TO_POINTER(g_hash_table_size(numbers)));
    }
    return GPOINTER_TO_UINT(g_hash_table_lookup(numbers, node));
}

static void save_fid(GByteArray *out, const struct p9_fid *fid, uint32_t node)
{
    const struct p9_xattr *xattr = fid->xattr;

    put(out, fid->number, 4);
    put(out, fid->uid, 4);
    put(out, node, 4);
    put(out, fid->open ? FID_OPEN : xattr ? FID_XATTR : FID_PATH, 1);
    if (fid->open) {
        put(out, fid->open->flags, 4);
    } else if (xattr) {
        put(out, xattr->writing, 1);
        put(out, xattr->flags, 4);
        put_string(out, xattr->name);
        put(out, xattr->size, 4);
        put(out, xattr->filled, 4);
        g_byte_array_append(out, xattr->value, xattr->filled);
    }
}

static void save_prefixes(struct p9_server *server, GByteArray *out)
{
    put(out, server->prefixes->len, 4);
    for (unsigned i = 0; i < server->prefixes->len; i++) {
        const struct p9_prefix *prefix = &g_array_index(server->prefixes, struct p9_prefix, i);

        put(out, prefix->dev, 8);
        put(out, prefix->high, 8);
    }
}

void p9_server_save(struct p9_server *server, GByteArray *out)
{
    g_autoptr(GHashTable) numbers = g_hash_table_new(NULL, NULL);
    g_autoptr(GByteArray) nodes = g_byte_array_new(), fids = g_byte_array_new();

    put(out, LAYOUT, 4);
    put(out, __atomic_load_n(&server->msize, __ATOMIC_RELAXED), 4);
    put(out, stamp_of(server, server->root, true), 8);
    save_prefixes(server, out);
    g_hash_table_insert(numbers, server->root, GUINT_TO_POINTER(0));
    for (unsigned i = 0; i < server->fid_bucket_count; i++) {
        for (struct p9_fid *fid = server->fid_buckets[i]; fid; fid = fid->hash_next) {
            save_fid(fids, fid, save_node(server, nodes, numbers, fid->node));
        }
    }
    put(out, g_hash_table_size(numbers) - 1, 4);
    g_byte_array_append(out, nodes->data, nodes->len);
    put(out, server->fid_count, 4);
    g_byte_array_append(out, fids->data, fids->len);
    p9_locks_save(server, out);
}

/* ---- reading: everything is checked here ---- */

struct saved_node {
    uint32_t parent, mode;
    uint64_t dev, ino, stamp;
    const char *name;
    bool named;
};

struct saved_fid {
    uint32_t number, uid, node, flags;
    uint8_t kind;
    bool writing;
    const char *name;
    uint32_t size, filled;
    const uint8_t *value;
};

struct saved {
    uint32_t layout, msize;
    uint64_t root_stamp;
    GArray *prefixes, *nodes, *fids, *locks;
    const char *problem; /* where reading stopped */
};

static void saved_clear(struct saved *saved)
{
    g_array_unref(saved->prefixes);
    g_array_unref(saved->nodes);
    g_array_unref(saved->fids);
    g_array_unref(saved->locks);
}

/* A count of things that take at least @size bytes each. */
static uint32_t read_count(struct p9_reader *reader, size_t size, uint32_t max)
{
    uint32_t count = p9_read_u32(reader);

    if (count > max || count > (size_t)(reader->end - reader->next) / size) {
        reader->error = -EINVAL;
    }
    return reader->error ? 0 : count;
}

static void read_prefixes(struct p9_reader *reader, struct saved *saved)
{
    uint32_t count = read_count(reader, 16, 65536);

    for (uint32_t i = 0; i < count; i++) {
        struct p9_prefix prefix;

        prefix.dev = p9_read_u64(reader);
        prefix.high = p9_read_u64(reader);
        g_array_append_val(saved->prefixes, prefix);
    }
}

static void read_nodes(struct p9_server *server, struct p9_reader *reader, struct saved *saved)
{
    uint32_t count = read_count(reader, 28, server->max_nodes - 1);

    for (uint32_t i = 0; i < count && !reader->error; i++) {
        struct saved_node node;
        size_t length;

        node.parent = p9_read_u32(reader);
        node.named = p9_read_u8(reader);
        node.dev = p9_read_u64(reader);
        node.ino = p9_read_u64(reader);
        node.mode = p9_read_u32(reader) & S_IFMT;
        node.name = p9_read_string(reader, NAME_MAX, &length);
        if (!reader->error && (node.parent > i || share_check_name(node.name, length) < 0)) {
            reader->error = -EINVAL;
        }
        node.stamp = saved->layout >= 2 ? p9_read_u64(reader) : 0;
        g_array_append_val(saved->nodes, node);
    }
}

static void read_xattr(struct p9_reader *reader, struct saved_fid *fid)
{
    fid->writing = p9_read_u8(reader);
    fid->flags = p9_read_u32(reader);
    fid->name = p9_read_string(reader, P9_MAX_XATTR_NAME, NULL);
    fid->size = p9_read_u32(reader);
    fid->filled = p9_read_u32(reader);
    if (reader->error || fid->size > P9_MAX_XATTR || fid->filled > fid->size ||
        fid->filled > (size_t)(reader->end - reader->next)) {
        reader->error = -EINVAL;
        return;
    }
    fid->value = reader->next;
    reader->next += fid->filled;
}

static void read_fids(struct p9_server *server, struct p9_reader *reader, struct saved *saved)
{
    g_autoptr(GHashTable) numbers = g_hash_table_new(NULL, NULL);
    uint32_t count = read_count(reader, 13, server->max_fids);

    for (uint32_t i = 0; i < count && !reader->error; i++) {
        struct saved_fid fid = {.number = p9_read_u32(reader)};

        fid.uid = p9_read_u32(reader);
        fid.node = p9_read_u32(reader);
        fid.kind = p9_read_u8(reader);
        if (fid.kind == FID_OPEN) {
            fid.flags = p9_read_u32(reader);
        } else if (fid.kind == FID_XATTR) {
            read_xattr(reader, &fid);
        }
        if (fid.kind > FID_XATTR || fid.node > saved->nodes->len || fid.number == P9_NOFID ||
            !g_hash_table_add(numbers, GUINT_TO_POINTER(fid.number))) {
            reader->error = -EINVAL;
        }
        g_array_append_val(saved->fids, fid);
    }
}

static bool read_all(struct p9_server *server, struct p9_reader *reader, struct saved *saved)
{
    saved->problem = "layout";
    saved->layout = p9_read_u32(reader);
    if (reader->error || saved->layout < OLDEST_LAYOUT || saved->layout > LAYOUT) {
        return false;
    }
    saved->problem = "message size";
    saved->msize = p9_read_u32(reader);
    if (reader->error || (saved->msize && saved->msize < P9_MIN_MSIZE) ||
        saved->msize > P9_MAX_MSIZE) {
        return false;
    }
    saved->root_stamp = saved->layout >= 2 ? p9_read_u64(reader) : 0;
    saved->problem = "devices";
    read_prefixes(reader, saved);
    saved->problem = reader->error ? saved->problem : "names";
    read_nodes(server, reader, saved);
    saved->problem = reader->error ? saved->problem : "fids";
    read_fids(server, reader, saved);
    saved->problem = reader->error ? saved->problem : "locks";
    if (!reader->error && p9_locks_read(reader, saved->locks) < 0) {
        return false;
    }
    return !reader->error && reader->next == reader->end;
}

/* ---- loading ---- */

/* The device number of a file system may be another one by now: qids must not change with it. */
static void rename_device(GArray *prefixes, uint64_t old, uint64_t new)
{
    for (unsigned i = 0; old != new &&i < prefixes->len; i++) {
        struct p9_prefix *prefix = &g_array_index(prefixes, struct p9_prefix, i);

        if (prefix->dev == old) {
            prefix->dev = new;
        }
    }
}

/* Finds every name again; the nodes (referenced) are at nodes[1...], the root at 0. */
static void load_nodes(struct p9_server *server, struct saved *saved, struct p9_node **nodes)
{
    g_autoptr(GHashTable) renamed =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

    nodes[0] = p9_node_ref(server, server->root);
    for (unsigned i = 0; i < saved->nodes->len; i++) {
        const struct saved_node *node = &g_array_index(saved->nodes, struct saved_node, i);

        nodes[i + 1] = p9_node_restore(server, nodes[node->parent], node->name, node->dev,
                                       node->ino, node->mode, node->named);
        if (nodes[i + 1]->hashed && nodes[i + 1]->dev != node->dev &&
            g_hash_table_add(renamed, g_memdup2(&node->dev, sizeof(node->dev)))) {
            rename_device(saved->prefixes, node->dev, nodes[i + 1]->dev);
        }
    }
}

static bool is_unchanged(struct p9_server *server, const struct saved *saved,
                         struct p9_node **nodes)
{
    for (unsigned i = 0; i <= saved->nodes->len; i++) {
        uint64_t is = stamp_of(server, nodes[i], false);
        uint64_t was =
            i ? g_array_index(saved->nodes, struct saved_node, i - 1).stamp : saved->root_stamp;

        if (!was || was != is) {
            trace_p9_changed(server->name, i ? nodes[i]->name : "/", was, is);
            return false;
        }
    }
    return true;
}

static void load_xattr(struct p9_server *server, const struct saved_fid *saved,
                       struct p9_xattr **xattr)
{
    if (p9_xattr_create(server, saved->name, saved->size, xattr) == 0) {
        (*xattr)->writing = saved->writing;
        (*xattr)->flags = saved->flags;
        (*xattr)->filled = saved->filled;
        memcpy((*xattr)->value, saved->value, saved->filled);
    }
}

/* Opens the fid's file again. What can't be opened stays as an open fid without a file. */
static bool load_open(struct p9_server *server, const struct saved_fid *saved, struct p9_node *node)
{
    struct p9_use use;
    int fd, ret;

    if (p9_open_reserve(server) < 0) {
        return false;
    }
    fd = p9_open_node(server, node, saved->flags & ~(P9_O_TRUNC | P9_O_EXCL));
    ret = p9_use_get(server, saved->number, &use);
    g_assert(ret == 0); /* it was added just now */
    p9_fid_set_open(server, use.fid, NULL, fd < 0 ? P9_NO_FILE : fd, saved->flags,
                    S_ISDIR(node->mode));
    p9_use_put(server, &use);
    return fd >= 0 || fd == P9_NO_FILE;
}

static unsigned load_fids(struct p9_server *server, struct saved *saved, struct p9_node **nodes)
{
    unsigned lost = 0;

    for (unsigned i = 0; i < saved->fids->len; i++) {
        const struct saved_fid *fid = &g_array_index(saved->fids, struct saved_fid, i);
        struct p9_node *node = nodes[fid->node];
        struct p9_xattr *xattr = NULL;

        if (fid->kind == FID_XATTR) {
            load_xattr(server, fid, &xattr);
        }
        if (p9_fid_add(server, fid->number, fid->uid, node, xattr) < 0) {
            p9_xattr_free(server, xattr);
            lost++;
        } else if (fid->kind == FID_OPEN && !load_open(server, fid, node)) {
            lost++;
        }
    }
    return lost;
}

static void apply(struct p9_server *server, struct saved *saved)
{
    unsigned count = saved->nodes->len + 1, lost;
    g_autofree struct p9_node **nodes = g_new0(struct p9_node *, count);

    p9_server_reset(server);
    load_nodes(server, saved, nodes);
    server->unchanged = is_unchanged(server, saved, nodes);
    g_array_set_size(server->prefixes, 0);
    g_array_append_vals(server->prefixes, saved->prefixes->data, saved->prefixes->len);
    lost = load_fids(server, saved, nodes);
    p9_locks_load(server, saved->locks);
    for (unsigned i = count; i-- > 0;) {
        p9_node_unref(server, nodes[i]);
    }
    __atomic_store_n(&server->msize, saved->msize, __ATOMIC_RELAXED);
    trace_p9_load(server->name, count, saved->fids->len, lost);
    if (lost) {
        log_warn(server->name, "%u files that the guest had open are not there any more", lost);
    }
}

bool p9_server_is_unchanged(const struct p9_server *server)
{
    return server->unchanged;
}

bool p9_server_load(struct p9_server *server, const uint8_t *data, size_t size, GError **error)
{
    g_autofree uint8_t *copy = g_malloc(size + 1); /* strings are ended in place */
    struct p9_reader reader = {.next = copy, .end = copy + size};
    struct saved saved = {
        .prefixes = g_array_new(FALSE, FALSE, sizeof(struct p9_prefix)),
        .nodes = g_array_new(FALSE, FALSE, sizeof(struct saved_node)),
        .fids = g_array_new(FALSE, FALSE, sizeof(struct saved_fid)),
        .locks = p9_locks_array(),
    };
    bool ok;

    if (size) {
        memcpy(copy, data, size);
    }
    ok = read_all(server, &reader, &saved);
    if (ok) {
        apply(server, &saved);
    } else {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "saved session: bad %s at byte %zu of %zu", saved.problem,
                    (size_t)(reader.next - copy), size);
    }
    saved_clear(&saved);
    return ok;
}
