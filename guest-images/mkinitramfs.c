/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkinitramfs: makes an initramfs for a Lodge guest from the command line: init, busybox, kernel
 * modules with what they need, files of the host. `mkinitramfs --help` lists the options. It needs
 * neither cpio nor kmod.
 */
#include "firmware/initramfs.h"

#include <gio/gio.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

static char *output, *kernel, *init_path, *busybox;
static char **modules, **module_lists, **files, **programs, **links, **directories;
static gboolean with_busybox, print_missing;

static const GOptionEntry options[] = {
    {"output", 'o', 0, G_OPTION_ARG_FILENAME, &output, "Write the initramfs to FILE", "FILE"},
    {"kernel", 'k', 0, G_OPTION_ARG_STRING, &kernel,
     "Take modules from /lib/modules/VERSION, or from DIR (default: the running kernel's)",
     "VERSION|DIR"},
    {"init", 'i', 0, G_OPTION_ARG_FILENAME, &init_path,
     "The init program (default: the one built beside this tool)", "FILE"},
    {"module", 'm', 0, G_OPTION_ARG_STRING_ARRAY, &modules,
     "Load a module, or an alias, with its dependencies; \"NAME PARAMETERS\"; ?NAME where it "
     "exists",
     "NAME"},
    {"modules-from", 'M', 0, G_OPTION_ARG_FILENAME_ARRAY, &module_lists,
     "Load the modules that a file names, one a line, before those of --module", "FILE"},
    {"tolerate-missing", 0, 0, G_OPTION_ARG_NONE, &print_missing,
     "Modules that the kernel doesn't have are a warning", NULL},
    {"file", 'f', 0, G_OPTION_ARG_FILENAME_ARRAY, &files, "Add a file of the host", "SRC[:DST]"},
    {"program", 'p', 0, G_OPTION_ARG_FILENAME_ARRAY, &programs,
     "Add a program of the host and its shared libraries", "SRC[:DST]"},
    {"link", 'l', 0, G_OPTION_ARG_FILENAME_ARRAY, &links, "Add a symbolic link", "TARGET:DST"},
    {"directory", 'd', 0, G_OPTION_ARG_FILENAME_ARRAY, &directories, "Add a folder", "DST"},
    {"busybox", 'b', 0, G_OPTION_ARG_NONE, &with_busybox,
     "Add a static busybox and a link for each of its commands", NULL},
    {"busybox-file", 0, 0, G_OPTION_ARG_FILENAME, &busybox, "The same, with this busybox", "FILE"},
    G_OPTION_ENTRY_NULL,
};

/* init stands beside this tool in the build folder and where it is installed. */
static char *default_init(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = g_path_get_dirname(self ? self : ".");

    return g_build_filename(folder, "init", NULL);
}

static char *module_tree(void)
{
    struct utsname running;

    if (kernel && (strchr(kernel, '/') || g_file_test(kernel, G_FILE_TEST_IS_DIR)))
        return g_strdup(kernel);
    uname(&running);
    return g_build_filename("/lib/modules", kernel ? kernel : running.release, NULL);
}

/* Splits "SOURCE:DESTINATION" at the last colon; no colon: both are the same. */
static void split_pair(const char *pair, char **source, char **destination)
{
    const char *colon = strrchr(pair, ':');

    *source = colon ? g_strndup(pair, (gsize)(colon - pair)) : g_strdup(pair);
    *destination = g_strdup(colon ? colon + 1 : pair);
}

static bool add_pairs(struct initramfs *initramfs, char **pairs,
                      bool (*add)(struct initramfs *initramfs, const char *source, const char *path,
                                  GError **error),
                      GError **error)
{
    for (; pairs && *pairs; pairs++) {
        g_autofree char *source = NULL, *destination = NULL;

        split_pair(*pairs, &source, &destination);
        if (!add(initramfs, source, destination, error))
            return false;
    }
    return true;
}

static bool add_busybox(struct initramfs *initramfs, GError **error)
{
    static const char *const places[] = {"/bin/busybox", "/usr/bin/busybox", NULL};
    g_autofree char *list = NULL;
    g_auto(GStrv) names = NULL;
    const char *path = busybox;
    int status;

    for (int i = 0; !path && places[i]; i++)
        if (g_file_test(places[i], G_FILE_TEST_IS_EXECUTABLE))
            path = places[i];
    if (!path) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "no /bin/busybox: install busybox-static, or name one with --busybox-file");
        return false;
    }
    const char *const command[] = {path, "--list-full", NULL};

    if (!g_spawn_sync(NULL, (char **)command, NULL, G_SPAWN_DEFAULT, NULL, NULL, &list, NULL,
                      &status, error) ||
        !g_spawn_check_wait_status(status, error) ||
        !initramfs_add_file(initramfs, path, "/bin/busybox", error))
        return false;
    names = g_strsplit(list, "\n", -1);
    for (char **name = names; *name; name++) {
        g_autofree char *at = g_strconcat("/", *name, NULL);

        if (**name && strcmp(at, "/bin/busybox"))
            initramfs_add_symlink(initramfs, at, "/bin/busybox");
    }
    return true;
}

/* Appends the lines of a file that are neither empty nor comments. */
static bool read_module_list(const char *path, GPtrArray *names, GError **error)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, error))
        return false;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++)
        if (*g_strstrip(*line) && **line != '#')
            g_ptr_array_add(names, g_strdup(*line));
    return true;
}

static bool add_modules(struct initramfs *initramfs, GError **error)
{
    g_autofree char *tree = module_tree();
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) missing = NULL;

    for (char **list = module_lists; list && *list; list++)
        if (!read_module_list(*list, names, error))
            return false;
    for (char **module = modules; module && *module; module++)
        g_ptr_array_add(names, g_strdup(*module));
    if (!names->len)
        return true;
    g_ptr_array_add(names, NULL);
    if (!initramfs_add_modules(initramfs, tree, (const char *const *)names->pdata,
                               print_missing ? &missing : NULL, error))
        return false;
    for (char **name = missing; name && *name; name++)
        fprintf(stderr, "mkinitramfs: warning: %s has no module %s\n", tree, *name);
    return true;
}

static bool build(struct initramfs *initramfs, GError **error)
{
    g_autofree char *init = init_path ? g_strdup(init_path) : default_init();

    if (!initramfs_add_init(initramfs, init, error))
        return false;
    if ((with_busybox || busybox) && !add_busybox(initramfs, error))
        return false;
    if (!add_pairs(initramfs, files, initramfs_add_file, error) ||
        !add_pairs(initramfs, programs, initramfs_add_program, error))
        return false;
    for (char **link = links; link && *link; link++) {
        g_autofree char *target = NULL, *destination = NULL;

        split_pair(*link, &target, &destination);
        initramfs_add_symlink(initramfs, destination, target);
    }
    for (char **directory = directories; directory && *directory; directory++)
        initramfs_add_directory(initramfs, *directory, 0755);
    return add_modules(initramfs, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new("- make an initramfs for a guest");
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autoptr(GError) error = NULL;

    setlocale(LC_ALL, "");
    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1 || !output) {
        if (error)
            fprintf(stderr, "mkinitramfs: %s\n", error->message);
        else if (argc > 1)
            fprintf(stderr, "mkinitramfs: unexpected argument %s\n", argv[1]);
        else
            fprintf(stderr, "mkinitramfs: -o FILE is missing; see mkinitramfs --help\n");
        return 2;
    }
    if (!build(initramfs, &error) || !initramfs_write(initramfs, output, &error)) {
        fprintf(stderr, "mkinitramfs: %s\n", error->message);
        return 1;
    }
    return 0;
}
