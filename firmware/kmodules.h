/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The module tree of one kernel (/lib/modules/VERSION), read from the text files that depmod makes:
 * modules.dep, modules.builtin, modules.alias, modules.softdep (depmod.d(5), modules.dep(5)).
 * Not thread-safe; the files are trusted no more than any other file: a loop among dependencies ends,
 * a line that makes no sense is skipped.
 */
#ifndef FIRMWARE_KMODULES_H
#define FIRMWARE_KMODULES_H

#include <glib.h>
#include <stdbool.h>

struct kmodules;
typedef struct kmodules Kmodules; /* for g_autoptr */

/* tree: the folder. NULL: error set (no modules.dep). */
struct kmodules *kmodules_open(const char *tree, GError **error);
/* Takes NULL. */
void kmodules_close(struct kmodules *modules);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Kmodules, kmodules_close)

/* Appends to `files` (paths relative to the tree or absolute, owned by `modules`) what must be loaded for
 * `name` (a module, an alias, or the path of a module file outside the tree, which says itself what it
 * needs), in load order, without what is in `files` already. False: the kernel has no
 * such module, neither loadable nor built in. */
bool kmodules_resolve(struct kmodules *modules, const char *name, GPtrArray *files);

/* "kernel/fs/9p/9p.ko.xz" -> "9p"; '-' becomes '_'. The caller frees it. */
char *kmodules_name(const char *path);

#endif
