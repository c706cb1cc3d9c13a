/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of vmm/setup: new files go with a failed set-up, all others stay. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "tests/unit/scratch.h"
#include "vmm/setup.h"

static void make(const char *dir, const char *name, int flags)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    int fd = setup_open(path, O_WRONLY | O_CLOEXEC | flags, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, "new", 3), ==, 3);
    close(fd);
}

static void test_undo_removes_what_is_new(void)
{
    g_autofree char *dir = scratch_create();
    g_autofree char *text = NULL;

    scratch_write(dir, "old", "was here");
    make(dir, "old", O_APPEND);
    make(dir, "new", 0);
    make(dir, "other", 0);
    setup_undo();
    text = scratch_read(dir, "old");
    g_assert_cmpstr(text, ==, "was herenew");
    g_assert_false(scratch_exists(dir, "new"));
    g_assert_false(scratch_exists(dir, "other"));
    scratch_remove(dir);
}

static void test_keep_keeps(void)
{
    g_autofree char *dir = scratch_create();

    make(dir, "kept", 0);
    setup_keep();
    make(dir, "later", 0);
    setup_undo();
    g_assert_true(scratch_exists(dir, "kept"));
    g_assert_false(scratch_exists(dir, "later"));
    scratch_remove(dir);
}

static void test_undo_leaves_what_took_the_place(void)
{
    g_autofree char *dir = scratch_create();
    g_autofree char *path = g_build_filename(dir, "file", NULL);
    g_autofree char *away = g_build_filename(dir, "away", NULL);

    make(dir, "file", 0);
    g_assert_cmpint(rename(path, away), ==, 0);
    scratch_write(dir, "file", "somebody else's");
    setup_undo();
    g_assert_true(scratch_exists(dir, "file"));
    scratch_remove(dir);
}

static void test_errors_are_those_of_open(void)
{
    errno = 0;
    g_assert_cmpint(setup_open("/no/such/folder/file", O_WRONLY, 0600), ==, -1);
    g_assert_cmpint(errno, ==, ENOENT);
    setup_undo();
}

#define ADD(NAME) g_test_add_func("/setup/" #NAME, test_##NAME)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(undo_removes_what_is_new);
    ADD(keep_keeps);
    ADD(undo_leaves_what_took_the_place);
    ADD(errors_are_those_of_open);
    return g_test_run();
}
