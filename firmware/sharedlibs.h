/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds what a dynamically linked program needs at run time: its interpreter and shared libraries, and
 * theirs (System V ABI, chapter 5; ld.so(8)). Nothing is executed. The files are not trusted: each
 * offset is checked, a loop among libraries ends. Not thread-safe.
 */
#ifndef FIRMWARE_SHAREDLIBS_H
#define FIRMWARE_SHAREDLIBS_H

#include <glib.h>
#include <stdbool.h>

struct sharedlib {
    char *source; /* file on this host */
    char *path;   /* where a loader without /etc/ld.so.cache finds it */
};

void sharedlib_free(struct sharedlib *library);

/* Adds what `program` needs to `libraries` (of struct sharedlib, freed with it), each library once. A file
 * that is not dynamically linked needs nothing. False: error set, naming the program and what is not
 * found or malformed. */
bool sharedlibs_find(const char *program, GPtrArray *libraries, GError **error);

#endif
