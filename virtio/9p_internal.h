/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p_internal - what the files of the 9P server have in common
 *
 * Locks, in the order in which they are taken: server->names (readers: everything that goes by a
 * node's place; writer: renames), an open file's lock, server->lock (tables and counts; never held
 * across a system call).
 */
#ifndef VIRTIO_9P_INTERNAL_H
#define VIRTIO_9P_INTERNAL_H

#include <glib.h>
#include <limits.h>
#include <pthread.h>

#include "virtio/9p_server.h"

#define P9_MAX_DEPTH      2048u /* of a node below the root */
#define P9_MAX_TARGET     4095u /* bytes of a symbolic link */
#define P9_MAX_XATTR      65536u
#define P9_MAX_XATTR_NAME 255u
#define P9_MAX_XATTR_HELD (4u * 1024 * 1024) /* bytes of attribute values in all fids */
#define P9_MAX_LOCKS      4096u
#define P9_REQUEST_BUFFER 16384u
#define P9_REPLY_BUFFER   65536u
#define P9_MAX_PIECES     1040u

/* A name in the shared directory that fids stand for, or that leads to one. */
struct p9_node {
    struct p9_node *parent; /* NULL: the root. Constant while names is held */
    struct p9_node *hash_next;
    char *name;        /* constant while names is held */
    uint64_t dev, ino; /* what was there when it was walked to; constant */
    uint64_t mount;    /* the mount it lies in, or 0 if the host does not tell; constant */
    uint32_t refs;
    uint32_t mode; /* file type bits; constant */
    int fd;        /* O_PATH, or -1 */
    unsigned pins; /* users of fd at this moment */
    unsigned slot; /* in server->cached, if fd is not -1 */
    bool hashed;   /* is what its parent's name stands for */
    bool recent;   /* used since the clock hand went by */
    bool barred;   /* on one of the kernel's file systems: has no contents (constant) */
    bool unstable; /* inode numbers of its file system may change (constant) */
};

#define P9_NO_FILE (-0x7fffffff)

/* An opened file. Belongs to its fid. */
struct p9_open {
    int fd;         /* P9_NO_FILE: an empty directory that stands for a barred one */
    uint32_t flags; /* P9_O_* */
    bool is_directory;
    pthread_mutex_t lock; /* the position of a directory */
    uint64_t position;    /* where fd stands, if it is a directory */
};

/* An attribute being read or written. Belongs to its fid. */
struct p9_xattr {
    bool writing;
    char name[P9_MAX_XATTR_NAME + 1];
    int flags;
    size_t size, filled;
    pthread_mutex_t lock;
    uint8_t value[];
};

struct p9_fid {
    struct p9_fid *hash_next;
    uint32_t number;
    uint32_t uid; /* who attached */
    uint32_t refs;
    struct p9_node *node;
    struct p9_open *open;   /* once set, stays as long as the fid */
    struct p9_xattr *xattr; /* likewise */
};

/* A fid and what it was when a request began. */
struct p9_use {
    struct p9_fid *fid;
    struct p9_node *node;   /* referenced */
    struct p9_open *open;   /* NULL: not open; stays as long as the fid */
    struct p9_xattr *xattr; /* likewise */
};

/* Is there an open file to ask, rather than the node? */
static inline bool p9_use_file(const struct p9_use *use)
{
    return use->open && use->open->fd >= 0;
}

/* An O_PATH descriptor for the time of a request. */
struct p9_handle {
    struct p9_node *pinned; /* whose fd it is; NULL: to be closed */
    int fd;
};

struct p9_prefix {
    uint64_t dev, high;
};

struct p9_lock_table;

struct p9_server {
    struct share *share;
    const char *name;
    struct log_limit *limit;
    uint32_t msize; /* 0: no session. Atomic */
    uint64_t requests, errors;
    bool unchanged; /* was what the loaded session knew, when it was loaded */
    unsigned max_fids, max_nodes, max_open, max_cached;

    pthread_rwlock_t names;
    pthread_mutex_t lock;
    struct p9_node *root;
    struct p9_node **node_buckets;
    unsigned node_bucket_count, node_count;
    struct p9_fid **fid_buckets;
    unsigned fid_bucket_count, fid_count;
    struct p9_node **cached; /* nodes that have a descriptor, but the root */
    unsigned cached_count, hand;
    unsigned open_count;
    size_t xattr_held;
    GArray *prefixes; /* struct p9_prefix: place is the top 16 bits of qid.path */
    struct p9_lock_table *locks;
};

struct p9_worker {
    uint8_t request[P9_REQUEST_BUFFER];
    uint8_t reply[P9_REPLY_BUFFER];
    uint8_t buffer[P9_REPLY_BUFFER];
    struct iovec iov[P9_MAX_PIECES];
};

struct p9_call {
    struct p9_server *server;
    struct p9_worker *worker;
    struct p9_message *message;
    struct p9_reader reader;
    struct p9_writer writer; /* body of the reply */
    size_t room;             /* largest reply, header included */
    size_t direct;           /* bytes of data already in the reply's pieces, after the body */
};

/* ---- 9p_node.c ---- */

int p9_nodes_init(struct p9_server *server);
void p9_nodes_finish(struct p9_server *server);
struct p9_node *p9_node_ref(struct p9_server *server, struct p9_node *node);
void p9_node_unref(struct p9_server *server, struct p9_node *node); /* NULL is allowed */

/* The functions below want server->names held, at least for reading. */

/* Looks @name up in @dir: its node (referenced) and attributes. ".." and "." are not for this. */
int p9_node_walk(struct p9_server *server, struct p9_node *dir, const char *name,
                 struct statx *stat, struct p9_node **child);
/* The node of @name, which is known to be what @stat says, on a @file_system of that kind (enum
 * share_fs). -ENFILE: too many. */
int p9_node_child(struct p9_server *server, struct p9_node *dir, const char *name,
                  const struct statx *stat, unsigned file_system, struct p9_node **child);
/* The descriptor of directory @dir to change or look into, pinned until p9_handle_close. */
int p9_node_enter(struct p9_server *server, struct p9_node *dir, struct p9_handle *handle);
/* A descriptor of @node itself. */
int p9_node_handle(struct p9_server *server, struct p9_node *node, struct p9_handle *handle);
void p9_handle_close(struct p9_server *server, struct p9_handle *handle);
int p9_node_stat(struct p9_server *server, struct p9_node *node, struct statx *stat);
/* Is @stat still what was walked to? */
bool p9_node_is(const struct p9_node *node, const struct statx *stat);
/* If the guest has fids to @name in @dir: its node, referenced, with a descriptor that stays when the
 * name goes away. Give back by p9_node_release. */
struct p9_node *p9_node_keep(struct p9_server *server, struct p9_node *dir, const char *name);
void p9_node_release(struct p9_server *server, struct p9_node *kept);
/* @kept is no longer what its name stands for. */
void p9_node_unlinked(struct p9_server *server, struct p9_node *kept);
/* Follows a rename that was done; names held for writing. */
void p9_node_renamed(struct p9_server *server, struct p9_node *old_dir, const char *old_name,
                     struct p9_node *new_dir, const char *new_name);
/* A node of a saved session, referenced: what @name in @parent is now, if it is still the file that was
 * saved; else a node without a name, whose file is gone. Takes names. */
struct p9_node *p9_node_restore(struct p9_server *server, struct p9_node *parent, const char *name,
                                uint64_t dev, uint64_t ino, uint32_t mode, bool named);

/* The qid of a file. -ENFILE: too many host file systems. */
int p9_qid_make(struct p9_server *server, const struct statx *stat, struct p9_qid *qid);
int p9_qid_path(struct p9_server *server, uint64_t dev, uint64_t ino, uint64_t *path);

/* ---- 9p_fid.c ---- */

int p9_fids_init(struct p9_server *server);
void p9_fids_clear(struct p9_server *server);
void p9_fids_finish(struct p9_server *server);
/* -EBADF: no such fid. */
int p9_use_get(struct p9_server *server, uint32_t number, struct p9_use *use);
void p9_use_put(struct p9_server *server, struct p9_use *use);
/* Adds a fid; takes its own reference of @node. @xattr (may be NULL) is the fid's on success.
 * -EBADF: the number is in use, -ENFILE: too many. */
int p9_fid_add(struct p9_server *server, uint32_t number, uint32_t uid, struct p9_node *node,
               struct p9_xattr *xattr);
void p9_fid_remove(struct p9_server *server, struct p9_fid *fid);
/* The fid stands for @node from now on. -EINVAL: it is open. */
int p9_fid_move(struct p9_server *server, struct p9_fid *fid, struct p9_node *node);
/* The fid (which becomes one of @node, unless that is NULL) is open as @fd, which is the fid's on
 * success. -EINVAL: it was open already. */
int p9_fid_set_open(struct p9_server *server, struct p9_fid *fid, struct p9_node *node, int fd,
                    uint32_t flags, bool is_directory);
int p9_fid_set_xattr(struct p9_server *server, struct p9_fid *fid, struct p9_xattr *xattr);
/* May one more file be opened? Reserves its place. -EMFILE. */
int p9_open_reserve(struct p9_server *server);
void p9_open_release(struct p9_server *server);
/* -ENOMEM: the fids hold too many attribute bytes. */
int p9_xattr_create(struct p9_server *server, const char *name, size_t size,
                    struct p9_xattr **xattr);
void p9_xattr_free(struct p9_server *server, struct p9_xattr *xattr);

/* ---- the messages: 0 (the reply's body is in call->writer) or -errno ---- */

typedef int (*p9_handler)(struct p9_call *call);

int p9_do_version(struct p9_call *call); /* 9p_walk.c */
int p9_do_auth(struct p9_call *call);
int p9_do_attach(struct p9_call *call);
int p9_do_walk(struct p9_call *call);
int p9_do_clunk(struct p9_call *call);
int p9_do_flush(struct p9_call *call);
int p9_do_getattr(struct p9_call *call); /* 9p_attr.c */
int p9_do_setattr(struct p9_call *call);
int p9_do_statfs(struct p9_call *call);
int p9_do_xattrwalk(struct p9_call *call);
int p9_do_xattrcreate(struct p9_call *call);
int p9_do_lopen(struct p9_call *call); /* 9p_file.c */
int p9_do_lcreate(struct p9_call *call);
int p9_do_read(struct p9_call *call);
int p9_do_write(struct p9_call *call);
int p9_do_readdir(struct p9_call *call);
int p9_do_fsync(struct p9_call *call);
int p9_do_symlink(struct p9_call *call); /* 9p_name.c */
int p9_do_readlink(struct p9_call *call);
int p9_do_mknod(struct p9_call *call);
int p9_do_mkdir(struct p9_call *call);
int p9_do_link(struct p9_call *call);
int p9_do_rename(struct p9_call *call);
int p9_do_renameat(struct p9_call *call);
int p9_do_unlinkat(struct p9_call *call);
int p9_do_remove(struct p9_call *call);
int p9_do_lock(struct p9_call *call); /* 9p_lock.c */
int p9_do_getlock(struct p9_call *call);

/* Opens @node; P9_NO_FILE for a directory that is barred. 9p_file.c */
int p9_open_node(struct p9_server *server, struct p9_node *node, uint32_t flags);

/* Writes the attribute of a fid that Txattrcreate made; at clunk. */
int p9_xattr_commit(struct p9_server *server, struct p9_use *use);

void p9_locks_init(struct p9_server *server);
void p9_locks_finish(struct p9_server *server);
void p9_locks_clear(struct p9_server *server);
/* The fid is closed: its locks go. */
void p9_locks_drop(struct p9_server *server, struct p9_fid *fid);
/* Saved state: writing, reading into an array (-EINVAL), and what was read into the empty table, where
 * each lock belongs to the file that its fid has open now. */
void p9_locks_save(struct p9_server *server, GByteArray *out);
GArray *p9_locks_array(void);
int p9_locks_read(struct p9_reader *reader, GArray *locks);
void p9_locks_load(struct p9_server *server, GArray *locks);

/* Reads a name that is to become or to find one component. */
static inline const char *p9_read_name(struct p9_call *call)
{
    size_t length;
    const char *name = p9_read_string(&call->reader, NAME_MAX, &length);

    if (!call->reader.error) {
        call->reader.error = share_check_name(name, length);
    }
    return name;
}

#endif
