/* SPDX-License-Identifier: GPL-2.0-or-later */
/* space, source - the guest's memory map, what is taken of it, and where images are read from. */
#include "firmware/space.h"

#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "firmware/source.h"
#include "vmm/layout.h"

struct fixture {
    struct memory *memory;
    struct space space;
};

static void make(struct fixture *f, uint64_t size, uint64_t low_end, uint64_t vmgenid)
{
    struct memory_ram_options options = {0};
    struct boot_machine machine = {.vmgenid = vmgenid};
    g_autoptr(GError) error = NULL;

    f->memory = memory_create();
    g_assert_true(memory_add_ram(f->memory, size, low_end, &options, NULL));
    g_assert_true(space_init(&f->space, f->memory, &machine, &error));
    g_assert_no_error(error);
}

static void setup(struct fixture *f, gconstpointer data)
{
    make(f, 64 * MIB, 48 * MIB, LAYOUT_VMGENID); /* 48 MiB low, 16 from 4 GiB */
}

static void teardown(struct fixture *f, gconstpointer data)
{
    memory_destroy(f->memory);
}

static void test_takes_do_not_overlap(struct fixture *f, gconstpointer data)
{
    g_assert_true(space_take(&f->space, 2 * MIB, MIB));
    g_assert_false(space_take(&f->space, 2 * MIB, 1));
    g_assert_false(space_take(&f->space, 3 * MIB - 1, 2));
    g_assert_false(space_take(&f->space, MIB, 8 * MIB));
    g_assert_true(space_take(&f->space, 3 * MIB, 1));
    g_assert_true(space_take(&f->space, 2 * MIB - 1, 1));
}

static void test_only_ram_is_free(struct fixture *f, gconstpointer data)
{
    g_assert_false(space_is_free(&f->space, 0x1000, 0x1000)); /* the boot structures' */
    g_assert_false(space_is_free(&f->space, MIB - 1, 2));
    g_assert_false(space_is_free(&f->space, MIB, 0));
    g_assert_true(space_is_free(&f->space, MIB, 47 * MIB));
    g_assert_false(space_is_free(&f->space, MIB, 47 * MIB + 1));
    g_assert_false(space_is_free(&f->space, 2048 * MIB, 1));
    g_assert_true(space_is_free(&f->space, 4096 * MIB, 16 * MIB));
    g_assert_false(space_is_free(&f->space, 4096 * MIB, 16 * MIB + 1));
    g_assert_false(space_is_free(&f->space, G_MAXUINT64, 1));
    g_assert_false(space_is_free(&f->space, G_MAXUINT64 - 10, 100));
}

static void test_highest_place(struct fixture *f, gconstpointer data)
{
    uint64_t base;

    g_assert_true(space_take_highest(&f->space, MIB, 4096, 0, G_MAXUINT64, &base));
    g_assert_cmpuint(base, ==, 4111 * MIB);
    g_assert_true(space_take_highest(&f->space, MIB, 4096, 0, G_MAXUINT32, &base));
    g_assert_cmpuint(base, ==, 47 * MIB);
    /* Below what is taken, aligned down; the limit is the last byte's. */
    g_assert_true(space_take_highest(&f->space, 5, 4096, 0, G_MAXUINT32, &base));
    g_assert_cmpuint(base, ==, 47 * MIB - 4096);
    g_assert_true(space_take_highest(&f->space, MIB, MIB, 0, 16 * MIB - 1, &base));
    g_assert_cmpuint(base, ==, 15 * MIB);
    g_assert_true(space_take_highest(&f->space, MIB, MIB, 0, 15 * MIB, &base));
    g_assert_cmpuint(base, ==, 14 * MIB);
    g_assert_false(space_take_highest(&f->space, 40 * MIB, MIB, 0, G_MAXUINT64, &base));
    g_assert_false(space_take_highest(&f->space, MIB, MIB, 46 * MIB + 1, 47 * MIB - 1, &base));
    g_assert_false(space_take_highest(&f->space, G_MAXUINT64, 1, 0, G_MAXUINT64, &base));
    g_assert_false(space_take_highest(&f->space, 0, 1, 0, G_MAXUINT64, &base));
}

static void test_lowest_place(struct fixture *f, gconstpointer data)
{
    uint64_t base;

    g_assert_true(space_take_lowest(&f->space, MIB, 4096, 0, G_MAXUINT64, &base));
    g_assert_cmpuint(base, ==, MIB);
    g_assert_true(space_take_lowest(&f->space, MIB, 4 * MIB, 0, G_MAXUINT64, &base));
    g_assert_cmpuint(base, ==, 4 * MIB);
    g_assert_true(space_take_lowest(&f->space, 2 * MIB, 1, 0, G_MAXUINT64, &base));
    g_assert_cmpuint(base, ==, 2 * MIB);
    g_assert_true(space_take_lowest(&f->space, 2 * MIB, 1, 0, G_MAXUINT64, &base));
    g_assert_cmpuint(base, ==, 5 * MIB);
    g_assert_true(space_take_lowest(&f->space, MIB, 1, 48 * MIB, G_MAXUINT64, &base));
    g_assert_cmpuint(base, ==, 4096 * MIB);
    g_assert_false(space_take_lowest(&f->space, MIB, 1, 48 * MIB, 4096 * MIB, &base));
    g_assert_false(space_take_lowest(&f->space, G_MAXUINT64, 1, 0, G_MAXUINT64, &base));
}

static void test_takes_are_bounded(struct fixture *f, gconstpointer data)
{
    unsigned taken = 0;

    while (taken < 100000 && space_take(&f->space, MIB + taken, 1))
        taken++;
    g_assert_cmpuint(taken, ==, SPACE_TAKEN);
}

static void test_vmgenid_outside_is_reserved(void)
{
    struct fixture f;

    make(&f, 64 * MIB, LAYOUT_LOW_END, 10 * MIB + 16);
    g_assert_true(space_is_free(&f.space, 10 * MIB - 1, 1));
    g_assert_false(space_is_free(&f.space, 10 * MIB, 1));
    g_assert_false(space_is_free(&f.space, 10 * MIB + 4095, 1));
    g_assert_true(space_is_free(&f.space, 10 * MIB + 4096, 1));
    for (unsigned i = 1; i < f.space.ranges; i++)
        g_assert_cmpuint(f.space.map[i - 1].base + f.space.map[i - 1].size, <=,
                         f.space.map[i].base);
    teardown(&f, NULL);
}

static void test_zeroing_clears_but_does_not_touch(struct fixture *f, gconstpointer data)
{
    unsigned count;
    const struct memory_region *ram = memory_regions(f->memory, &count);
    uint8_t dirt[8192], zeros[8192] = {0}, seen[8192];
    struct stat before, after;

    memset(dirt, 0xee, sizeof(dirt));
    g_assert_cmpint(memory_write(f->memory, 8 * MIB + 100, dirt, sizeof(dirt)), ==, 0);
    g_assert_cmpint(fstat(ram->fd, &before), ==, 0);
    space_zero(&f->space, 8 * MIB + 200, 16 * MIB);
    g_assert_cmpint(fstat(ram->fd, &after), ==, 0);
    g_assert_cmpuint(after.st_blocks, ==, before.st_blocks);
    g_assert_cmpint(memory_read(f->memory, 8 * MIB + 100, seen, sizeof(seen)), ==, 0);
    g_assert_cmpmem(seen, 100, dirt, 100);
    g_assert_cmpmem(seen + 100, sizeof(seen) - 100, zeros, sizeof(zeros) - 100);
}

static void test_zeroing_private_memory(void)
{
    struct memory_ram_options options = {0};
    struct boot_machine machine = {0};
    struct fixture f;
    uint8_t byte = 1;

    /* A file with holes behind a private mapping: what was written is not in the file. */
    options.fd = memfd_create("file", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(options.fd, 8 * MIB), ==, 0);
    f.memory = memory_create();
    g_assert_true(memory_add_ram(f.memory, 8 * MIB, LAYOUT_LOW_END, &options, NULL));
    g_assert_true(space_init(&f.space, f.memory, &machine, NULL));
    g_assert_cmpint(memory_write(f.memory, 5 * MIB, &byte, 1), ==, 0);
    space_zero(&f.space, 4 * MIB, 2 * MIB);
    g_assert_cmpint(memory_read(f.memory, 5 * MIB, &byte, 1), ==, 0);
    g_assert_cmpuint(byte, ==, 0);
    teardown(&f, NULL);
    close(options.fd);
}

/* ---- source ---- */

static void test_source_reads_within_its_size(void)
{
    struct source source;
    char bytes[4];

    source_init_bytes(&source, "thing", "abcdef", 6);
    g_assert_true(source_read(&source, 2, bytes, 4, NULL));
    g_assert_cmpmem(bytes, 4, "cdef", 4);
    g_assert_true(source_read(&source, 6, bytes, 0, NULL));
    g_assert_false(source_read(&source, 3, bytes, 4, NULL));
    g_assert_false(source_read(&source, 7, bytes, 0, NULL));
    g_assert_false(source_read(&source, G_MAXUINT64, bytes, 4, NULL));
    g_assert_false(source_read(&source, 2, bytes, G_MAXUINT64 - 1, NULL));
    source_close(&source);
}

static void test_file_that_shrinks(void)
{
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;
    int fd = g_file_open_tmp("lodge-source-XXXXXX", &path, NULL);
    struct source source;
    char bytes[4];

    g_assert_cmpint(ftruncate(fd, 100), ==, 0);
    g_assert_true(source_open(&source, "kernel", path, NULL));
    g_assert_cmpint(ftruncate(fd, 50), ==, 0);
    g_assert_false(source_read(&source, 48, bytes, 4, &error));
    g_assert_nonnull(strstr(error->message, "became shorter"));
    source_close(&source);
    close(fd);
    g_remove(path);
}

static void test_fifo_does_not_block(void)
{
    g_autofree char *folder = g_dir_make_tmp("lodge-source-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "fifo", NULL);
    g_autoptr(GError) error = NULL;
    struct source source;

    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    g_assert_false(source_open(&source, "initrd", path, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE);
    g_remove(path);
    g_rmdir(folder);
}

#define ADD(NAME, FUNCTION) g_test_add(NAME, struct fixture, NULL, setup, FUNCTION, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/space/takes-do-not-overlap", test_takes_do_not_overlap);
    ADD("/space/only-ram-is-free", test_only_ram_is_free);
    ADD("/space/highest-place", test_highest_place);
    ADD("/space/lowest-place", test_lowest_place);
    ADD("/space/takes-are-bounded", test_takes_are_bounded);
    ADD("/space/zeroing-clears-but-does-not-touch", test_zeroing_clears_but_does_not_touch);
    g_test_add_func("/space/zeroing-private-memory", test_zeroing_private_memory);
    g_test_add_func("/space/vmgenid-outside-is-reserved", test_vmgenid_outside_is_reserved);
    g_test_add_func("/source/reads-within-its-size", test_source_reads_within_its_size);
    g_test_add_func("/source/file-that-shrinks", test_file_that_shrinks);
    g_test_add_func("/source/fifo-does-not-block", test_fifo_does_not_block);
    return g_test_run();
}
