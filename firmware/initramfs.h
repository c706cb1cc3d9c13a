/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds an initramfs: a newc cpio archive ("070701", Linux Documentation/driver-api/early-userspace/
 * buffer-format.rst) of files, folders, links, device nodes and kernel modules.
 *
 * The archive is the same for the same content: no times, owner root, entries sorted by path.
 * Not thread-safe: one initramfs belongs to one thread. Paths in the archive are absolute ("/init");
 * folders above an entry are made (mode 0755) where they were not added before. Adding a path again
 * replaces the entry. All sizes in bytes.
 */
#ifndef FIRMWARE_INITRAMFS_H
#define FIRMWARE_INITRAMFS_H

#include <glib.h>
#include <stdbool.h>

struct initramfs;
typedef struct initramfs Initramfs; /* for g_autoptr */

struct initramfs *initramfs_create(void);
/* Takes NULL. */
void initramfs_destroy(struct initramfs *initramfs);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Initramfs, initramfs_destroy)

/* mode: permission bits. The path is copied; `data` is referenced. */
void initramfs_add_data(struct initramfs *initramfs, const char *path, unsigned mode, GBytes *data);
void initramfs_add_directory(struct initramfs *initramfs, const char *path, unsigned mode);
void initramfs_add_symlink(struct initramfs *initramfs, const char *path, const char *target);
/* mode: S_IFCHR or S_IFBLK and permission bits. */
void initramfs_add_node(struct initramfs *initramfs, const char *path, unsigned mode,
                        unsigned major, unsigned minor);

/* Adds a file of the host with its permission bits; follows symbolic links. False: error set, with the
 * file's name. */
bool initramfs_add_file(struct initramfs *initramfs, const char *source, const char *path,
                        GError **error);

/* What every guest starts with: `init` (a host file, guest-images/init) as /init, the folders it mounts on,
 * and the device nodes that are used before it has mounted /dev. False: error set. */
bool initramfs_add_init(struct initramfs *initramfs, const char *init, GError **error);

/* Adds a program and the shared libraries it needs, at the paths where its loader
 * looks for them. False: error set. */
bool initramfs_add_program(struct initramfs *initramfs, const char *source, const char *path,
                           GError **error);

/*
 * Adds kernel modules and what they need, unpacked where the libraries are there, and lists them in load order in /lodge/modules,
 * which init reads. Call once per initramfs.
 *
 * tree: "/lib/modules/VERSION" or a folder with the same files (modules.dep at least).
 * names: NULL-terminated; each a module ("virtio-pci" is "virtio_pci"), an alias of modules.alias
 * ("fs-9p"), the path of a module file outside the tree, or any of them with parameters after a blank ("overlay metacopy=on"). A leading '?' makes a
 * name optional. What is built into the kernel needs nothing.
 * Soft dependencies come along where the tree has them.
 * missing: if not NULL, set to a NULL-terminated list (g_strfreev) of mandatory names that the tree
 * doesn't have, and that is no error; if NULL, they are all listed in the error.
 */
bool initramfs_add_modules(struct initramfs *initramfs, const char *tree, const char *const *names,
                           char ***missing, GError **error);

/* The archive, padded to 512 bytes; the caller owns the reference. NULL: error set (too big). */
GBytes *initramfs_finish(struct initramfs *initramfs, GError **error);

/* The same into a file, complete or not at all (written beside it and renamed). */
bool initramfs_write(struct initramfs *initramfs, const char *path, GError **error);

#endif
