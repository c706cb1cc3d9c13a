/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The initramfs builder: the archive's bytes, module closure over a made-up tree, shared libraries. */
#include "firmware/initramfs.h"
#include "firmware/kmodules.h"
#include "firmware/sharedlibs.h"
#include "firmware/unpack.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a test needs from one entry of an archive. */
struct found {
    bool there;
    unsigned mode, major, minor;
    char data[256];
    gsize size;
    unsigned position; /* in the archive */
};

static unsigned hex_field(const char *header, unsigned index)
{
    char text[9] = {0};

    memcpy(text, header + 6 + 8 * index, 8);
    return (unsigned)strtoul(text, NULL, 16);
}

/* An independent reader of newc, strict about magic, padding and the trailer. */
static struct found find(GBytes *archive, const char *path)
{
    gsize size, at = 0;
    const char *data = g_bytes_get_data(archive, &size);
    struct found found = {0};

    for (unsigned position = 0;; position++) {
        const char *header = data + at, *name = header + 110;
        unsigned file_size, name_size;

        g_assert_cmpuint(at + 110, <=, size);
        g_assert_cmpmem(header, 6, "070701", 6);
        file_size = hex_field(header, 6);
        name_size = hex_field(header, 11);
        g_assert_cmpuint(name[name_size - 1], ==, 0);
        at += (110 + name_size + 3) & ~3u;
        if (!strcmp(name, "TRAILER!!!"))
            break;
        if (!strcmp(name, path)) {
            g_assert_false(found.there);
            found.there = true;
            found.mode = hex_field(header, 1);
            found.major = hex_field(header, 9);
            found.minor = hex_field(header, 10);
            g_assert_cmpuint(file_size, <, sizeof(found.data));
            memcpy(found.data, data + at, file_size);
            found.size = file_size;
            found.position = position;
        }
        at += (file_size + 3) & ~3u;
    }
    for (; at < size; at++)
        g_assert_cmpint(data[at], ==, 0);
    return found;
}

static GBytes *finish(struct initramfs *initramfs)
{
    g_autoptr(GError) error = NULL;
    GBytes *archive = initramfs_finish(initramfs, &error);

    g_assert_no_error(error);
    return archive;
}

static void write_file(const char *folder, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *parent = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *inner = g_build_filename(path, name, NULL);

        remove_tree(inner);
    }
    g_remove(path);
}

/* a needs b and c, c needs b; d has a soft dependency on an alias of e; x and y need each other. */
static char *made_up_tree(void)
{
    static const char *const files[] = {"a-one", "b", "c", "d", "e", "late", "x", "y"};
    char *tree = g_dir_make_tmp("lodge-modules-XXXXXX", NULL);

    g_assert_nonnull(tree);
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *name = g_strdup_printf("kernel/%s.ko", files[i]);

        write_file(tree, name, files[i]);
    }
    write_file(tree, "modules.dep",
               "kernel/a-one.ko: kernel/c.ko kernel/b.ko\n"
               "kernel/b.ko:\nkernel/c.ko: kernel/b.ko\nkernel/d.ko:\nkernel/e.ko:\n"
               "kernel/late.ko:\nkernel/x.ko: kernel/y.ko\nkernel/y.ko: kernel/x.ko\n"
               "kernel/torn.ko: kernel/gone.ko\nno colon here\n");
    write_file(tree, "modules.builtin", "kernel/drivers/built-in.ko\n");
    write_file(
        tree, "modules.alias",
        "# Aliases\nalias fs-d d\nalias pci:v00001AF4d*sv* b\nalias gen-e e\nalias broken\n");
    write_file(tree, "modules.softdep", "# Soft\nsoftdep d pre: gen-e nowhere post: late\n");
    return tree;
}

static void assert_order(const char *tree, const char *name, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Kmodules) modules = kmodules_open(tree, &error);
    g_autoptr(GPtrArray) files = g_ptr_array_new();
    g_autoptr(GString) got = g_string_new(NULL);

    g_assert_no_error(error);
    g_assert_true(kmodules_resolve(modules, name, files));
    for (guint i = 0; i < files->len; i++) {
        g_autofree char *plain = kmodules_name(files->pdata[i]);

        g_string_append_printf(got, "%s%s", i ? " " : "", plain);
    }
    g_assert_cmpstr(got->str, ==, expected);
}

static void test_archive_holds_each_kind(void)
{
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GBytes) data = g_bytes_new_static("hello", 5), archive = NULL;
    struct found found;

    initramfs_add_data(initramfs, "/deep/in/file", 0640, data);
    initramfs_add_symlink(initramfs, "/link", "deep/in/file");
    initramfs_add_node(initramfs, "/dev/console", S_IFCHR | 0600, 5, 1);
    initramfs_add_directory(initramfs, "/tmp", 01777);
    archive = finish(initramfs);
    g_assert_cmpuint(g_bytes_get_size(archive) % 512, ==, 0);

    found = find(archive, "deep/in/file");
    g_assert_cmpuint(found.mode, ==, S_IFREG | 0640);
    g_assert_cmpmem(found.data, found.size, "hello", 5);
    g_assert_cmpuint(find(archive, "deep").position, <, find(archive, "deep/in").position);
    g_assert_cmpuint(find(archive, "deep/in").position, <, found.position);
    found = find(archive, "link");
    g_assert_cmpuint(found.mode, ==, S_IFLNK | 0777);
    g_assert_cmpstr(found.data, ==, "deep/in/file");
    found = find(archive, "dev/console");
    g_assert_cmpuint(found.mode, ==, S_IFCHR | 0600);
    g_assert_cmpuint(found.major, ==, 5);
    g_assert_cmpuint(found.minor, ==, 1);
    g_assert_cmpuint(find(archive, "tmp").mode, ==, S_IFDIR | 01777);
}

static void test_same_content_same_bytes(void)
{
    g_autoptr(GBytes) one = NULL, two = NULL, data = g_bytes_new_static("x", 1);

    for (int i = 0; i < 2; i++) {
        g_autoptr(Initramfs) initramfs = initramfs_create();

        initramfs_add_data(initramfs, i ? "/a" : "/b", 0644, data);
        initramfs_add_data(initramfs, i ? "/b" : "/a", 0644, data);
        *(i ? &two : &one) = finish(initramfs);
    }
    g_assert_true(g_bytes_equal(one, two));
}

static void test_paths_are_cleaned(void)
{
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GBytes) data = g_bytes_new_static("x", 1), archive = NULL;

    initramfs_add_data(initramfs, "/a/../../b//c", 0644, data);
    initramfs_add_directory(initramfs, "/", 0700);
    archive = finish(initramfs);
    g_assert_true(find(archive, "b/c").there);
    g_assert_false(find(archive, "a").there);
}

static void test_missing_file_is_named(void)
{
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GError) error = NULL;

    g_assert_false(initramfs_add_file(initramfs, "/no/such/file", "/x", &error));
    g_assert_nonnull(strstr(error->message, "/no/such/file"));
    g_clear_error(&error);
    g_assert_false(initramfs_add_file(initramfs, "/", "/x", &error));
    g_assert_nonnull(strstr(error->message, "not a regular file"));
}

/* init's own work starts after it has opened these. */
static void test_init_has_what_it_needs_at_once(void)
{
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GBytes) archive = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *tree = made_up_tree(), *init = g_build_filename(tree, "kernel/b.ko", NULL);
    struct found port;

    g_assert_true(initramfs_add_init(initramfs, init, &error));
    archive = finish(initramfs);
    g_assert_cmpstr(find(archive, "init").data, ==, "b");
    port = find(archive, "dev/port");
    g_assert_cmpuint(port.mode, ==, S_IFCHR | 0600);
    g_assert_cmpuint(port.major, ==, 1);
    g_assert_cmpuint(port.minor, ==, 4);
    g_assert_true(find(archive, "dev/console").there);
    g_assert_true(find(archive, "proc").there);
    remove_tree(tree);
    g_assert_false(initramfs_add_init(initramfs, init, &error));
    g_assert_nonnull(strstr(error->message, init));
}

static void test_dependencies_come_first(void)
{
    g_autofree char *tree = made_up_tree();

    assert_order(tree, "a_one", "b c a_one");
    assert_order(tree, "a-one", "b c a_one");
    remove_tree(tree);
}

static void test_soft_dependencies_and_aliases(void)
{
    g_autofree char *tree = made_up_tree();

    assert_order(tree, "fs-d", "e d late");
    assert_order(tree, "pci:v00001AF4d00001000sv0", "b");
    assert_order(tree, "built_in", "");
    remove_tree(tree);
}

static void test_dependency_loop_ends(void)
{
    g_autofree char *tree = made_up_tree();

    assert_order(tree, "x", "y x");
    remove_tree(tree);
}

static void test_modules_in_archive(void)
{
    static const char *const names[] = {"a-one debug=1 level=2", "?nowhere", "built-in", "c", NULL};
    g_autofree char *tree = made_up_tree();
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) archive = NULL;
    struct found found;

    g_assert_true(initramfs_add_modules(initramfs, tree, names, NULL, &error));
    g_assert_no_error(error);
    archive = finish(initramfs);
    found = find(archive, "lodge/modules");
    g_assert_cmpstr(found.data, ==,
                    "/lodge/modules.d/kernel/b.ko\n/lodge/modules.d/kernel/c.ko\n"
                    "/lodge/modules.d/kernel/a-one.ko debug=1 level=2\n");
    found = find(archive, "lodge/modules.d/kernel/a-one.ko");
    g_assert_cmpstr(found.data, ==, "a-one");
    remove_tree(tree);
}

/* Packed with the host's tools; skipped where one is not installed. */
static void check_packed(const char *tool, const char *suffix, enum unpack_format format)
{
    g_autofree char *tree = made_up_tree();
    g_autofree char *command = g_strdup_printf("%s -q %s/kernel/b.ko", tool, tree);
    g_autofree char *dep = g_strdup_printf("kernel/b.ko%s:\n", suffix);
    g_autofree char *packed = g_strdup_printf("%s/kernel/b.ko%s", tree, suffix);
    static const char *const names[] = {"b x=1", NULL};
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) archive = NULL;
    struct stat info;
    int status;

    write_file(tree, "modules.dep", dep);
    if (!unpack_available(format) ||
        !g_spawn_command_line_sync(command, NULL, NULL, &status, NULL) || status) {
        g_test_skip("no tool or library");
        remove_tree(tree);
        return;
    }
    g_assert_true(initramfs_add_modules(initramfs, tree, names, NULL, &error));
    g_assert_no_error(error);
    archive = finish(initramfs);
    g_assert_cmpstr(find(archive, "lodge/modules").data, ==, "/lodge/modules.d/kernel/b.ko x=1\n");
    g_assert_cmpstr(find(archive, "lodge/modules.d/kernel/b.ko").data, ==, "b");
    g_assert_cmpint(stat(packed, &info), ==, 0);
    g_assert_cmpint(truncate(packed, info.st_size - 3), ==, 0);
    g_assert_false(initramfs_add_modules(initramfs, tree, names, NULL, &error));
    g_assert_nonnull(strstr(error->message, packed));
    remove_tree(tree);
}

static void test_xz_modules_are_unpacked(void)
{
    check_packed("xz", ".xz", UNPACK_XZ);
}

static void test_zstd_modules_are_unpacked(void)
{
    check_packed("zstd --rm", ".zst", UNPACK_ZSTD);
}

static void test_gzip_modules_are_unpacked(void)
{
    check_packed("gzip", ".gz", UNPACK_GZIP);
}

/* A driver built out of tree says itself what it needs. */
static void test_module_file_outside_the_tree(void)
{
    static const char info[] = "\x7f"
                               "ELF ...\0license=GPL\0depends=c,e\0name=extra";
    g_autofree char *tree = made_up_tree(), *path = g_build_filename(tree, "extra.ko", NULL);
    const char *names[] = {path, NULL};
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) archive = NULL;
    struct found found;

    g_assert_true(g_file_set_contents(path, info, sizeof(info), NULL));
    g_assert_true(initramfs_add_modules(initramfs, tree, names, NULL, &error));
    g_assert_no_error(error);
    archive = finish(initramfs);
    found = find(archive, "lodge/modules");
    g_assert_true(g_str_has_prefix(found.data, "/lodge/modules.d/kernel/b.ko\n"
                                               "/lodge/modules.d/kernel/c.ko\n"
                                               "/lodge/modules.d/kernel/e.ko\n"));
    g_assert_true(g_str_has_suffix(found.data, "/extra.ko\n"));
    g_assert_true(g_file_set_contents(path, "not a module", -1, NULL));
    g_assert_false(initramfs_add_modules(initramfs, tree, names, NULL, &error));
    g_assert_nonnull(strstr(error->message, path));
    remove_tree(tree);
}

static void test_missing_modules_are_listed(void)
{
    static const char *const names[] = {"b", "nowhere", "torn", NULL};
    g_autofree char *tree = made_up_tree();
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) missing = NULL;

    g_assert_false(initramfs_add_modules(initramfs, tree, names, NULL, &error));
    g_assert_nonnull(strstr(error->message, "nowhere torn"));
    g_clear_error(&error);
    g_assert_true(initramfs_add_modules(initramfs, tree, names, &missing, &error));
    g_assert_cmpuint(g_strv_length(missing), ==, 2);
    g_assert_cmpstr(missing[0], ==, "nowhere");
    g_assert_cmpstr(missing[1], ==, "torn");
    remove_tree(tree);
}

static void test_no_tree_is_an_error(void)
{
    static const char *const names[] = {"b", NULL};
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GError) error = NULL;

    g_assert_false(initramfs_add_modules(initramfs, "/no/such/tree", names, NULL, &error));
    g_assert_nonnull(strstr(error->message, "/no/such/tree"));
}

static bool has_library(GPtrArray *libraries, const char *part)
{
    for (guint i = 0; i < libraries->len; i++)
        if (strstr(((struct sharedlib *)libraries->pdata[i])->path, part))
            return true;
    return false;
}

/* This test program itself is dynamically linked with glib, which needs pcre, which needs libc. */
static void test_shared_libraries_of_a_program(void)
{
    g_autoptr(GPtrArray) libraries = g_ptr_array_new_with_free_func((GDestroyNotify)sharedlib_free);
    g_autoptr(GError) error = NULL;

    g_assert_true(sharedlibs_find("/proc/self/exe", libraries, &error));
    g_assert_no_error(error);
    g_assert_true(has_library(libraries, "libglib-2.0.so"));
    g_assert_true(has_library(libraries, "libc.so.6"));
    g_assert_true(has_library(libraries, "/ld-linux"));
    for (guint i = 0; i < libraries->len; i++)
        for (guint k = 0; k < i; k++)
            g_assert_cmpstr(((struct sharedlib *)libraries->pdata[i])->path, !=,
                            ((struct sharedlib *)libraries->pdata[k])->path);
}

/* Without the fsync of g_file_set_contents. */
static bool overwrite(const char *path, const char *data, gsize size)
{
    return g_file_set_contents_full(path, data, (gssize)size, G_FILE_SET_CONTENTS_NONE, 0600, NULL);
}

/* Every single-byte change of a small dynamic program's start is survived, with or without an error. */
static void test_damaged_programs_are_survived(void)
{
    g_autofree char *folder = g_dir_make_tmp("lodge-elf-XXXXXX", NULL), *text = NULL;
    g_autofree char *path = g_build_filename(folder, "damaged", NULL);
    /* One list for all: libraries that are known already are not read again and again. */
    g_autoptr(GPtrArray) libraries = g_ptr_array_new_with_free_func((GDestroyNotify)sharedlib_free);
    gsize size;

    g_assert_true(g_file_get_contents("/bin/true", &text, &size, NULL));
    for (gsize i = 0; i < MIN(size, 1024); i++) {
        char original = text[i];

        text[i] = (char)~original;
        g_assert_true(overwrite(path, text, size));
        sharedlibs_find(path, libraries, NULL);
        text[i] = original;
    }
    for (gsize length = 0; length < MIN(size, 4096); length += 61) {
        g_assert_true(overwrite(path, text, length));
        sharedlibs_find(path, libraries, NULL);
    }
    g_assert_true(has_library(libraries, "libc.so.6"));
    remove_tree(folder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/initramfs/archive-holds-each-kind", test_archive_holds_each_kind);
    g_test_add_func("/initramfs/same-content-same-bytes", test_same_content_same_bytes);
    g_test_add_func("/initramfs/paths-are-cleaned", test_paths_are_cleaned);
    g_test_add_func("/initramfs/missing-file-is-named", test_missing_file_is_named);
    g_test_add_func("/initramfs/init-has-what-it-needs-at-once",
                    test_init_has_what_it_needs_at_once);
    g_test_add_func("/initramfs/modules-in-archive", test_modules_in_archive);
    g_test_add_func("/initramfs/xz-modules-are-unpacked", test_xz_modules_are_unpacked);
    g_test_add_func("/initramfs/zstd-modules-are-unpacked", test_zstd_modules_are_unpacked);
    g_test_add_func("/initramfs/gzip-modules-are-unpacked", test_gzip_modules_are_unpacked);
    g_test_add_func("/initramfs/module-file-outside-the-tree", test_module_file_outside_the_tree);
    g_test_add_func("/initramfs/missing-modules-are-listed", test_missing_modules_are_listed);
    g_test_add_func("/initramfs/no-tree-is-an-error", test_no_tree_is_an_error);
    g_test_add_func("/kmodules/dependencies-come-first", test_dependencies_come_first);
    g_test_add_func("/kmodules/soft-dependencies-and-aliases", test_soft_dependencies_and_aliases);
    g_test_add_func("/kmodules/dependency-loop-ends", test_dependency_loop_ends);
    g_test_add_func("/sharedlibs/of-a-program", test_shared_libraries_of_a_program);
    g_test_add_func("/sharedlibs/damaged-programs-are-survived",
                    test_damaged_programs_are_survived);
    return g_test_run();
}
