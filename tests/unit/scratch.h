/* SPDX-License-Identifier: GPL-2.0-or-later */
/* scratch - a directory of its own for a test, with files in it; asserts that all goes well */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include <ftw.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <unistd.h>

static inline char *scratch_create(void)
{
    GError *error = NULL;
    char *dir = g_dir_make_tmp("lodge-test-XXXXXX", &error);

    g_assert_no_error(error);
    return dir;
}

static inline int scratch_remove_one(const char *path, const struct stat *stat, int type,
                                     struct FTW *ftw)
{
    return remove(path);
}

static inline void scratch_remove(const char *dir)
{
    g_assert_cmpint(nftw(dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT), ==, 0);
}

static inline void scratch_write(const char *dir, const char *name, const char *contents)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    FILE *file = fopen(path, "w"); /* g_file_set_contents would wait for the disk */

    g_assert_nonnull(file);
    g_assert_cmpint(fputs(contents, file), >=, 0);
    g_assert_cmpint(fclose(file), ==, 0);
}

static inline char *scratch_read(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char *contents = NULL;

    g_file_get_contents(path, &contents, NULL, NULL);
    return contents; /* NULL: no such file */
}

static inline void scratch_mkdir(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    g_assert_cmpint(g_mkdir_with_parents(path, 0755), ==, 0);
}

static inline void scratch_symlink(const char *dir, const char *name, const char *target)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    g_assert_cmpint(symlink(target, path), ==, 0);
}

static inline bool scratch_exists(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    struct stat stat;

    return lstat(path, &stat) == 0;
}

#endif
