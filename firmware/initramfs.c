/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * initramfs: a newc cpio archive made in memory. Entries are kept sorted by path, so a folder stands
 * before what is in it, as the kernel's unpacker needs. Each file has its own inode number and one
 * link; the kernel takes sizes of up to 4 GiB - 1 from the eight hexadecimal digits of a header.
 */
#include "firmware/initramfs.h"
#include "firmware/kmodules.h"
#include "firmware/sharedlibs.h"
#include "firmware/source.h"
#include "firmware/unpack.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <gio/gio.h>

#define HEADER_SIZE  110
#define ARCHIVE_MAX  (G_GUINT64_CONSTANT(2) << 30)
#define ARCHIVE_UNIT 512
#define MODULE_MAX   (G_GUINT64_CONSTANT(256) << 20) /* of one module, unpacked */

struct entry {
    unsigned mode; /* with the file type */
    unsigned major, minor;
    GBytes *data; /* content or link target; NULL: none */
};

struct initramfs {
    GTree *entries; /* path without the leading slash -> struct entry */
};

static void entry_free(gpointer data)
{
    struct entry *entry = data;

    g_clear_pointer(&entry->data, g_bytes_unref);
    g_free(entry);
}

static int compare_paths(gconstpointer a, gconstpointer b, gpointer unused)
{
    return strcmp(a, b);
}

struct initramfs *initramfs_create(void)
{
    struct initramfs *initramfs = g_new0(struct initramfs, 1);

    initramfs->entries = g_tree_new_full(compare_paths, NULL, g_free, entry_free);
    return initramfs;
}

void initramfs_destroy(struct initramfs *initramfs)
{
    if (!initramfs)
        return;
    g_tree_unref(initramfs->entries);
    g_free(initramfs);
}

static void add_parents(struct initramfs *initramfs, const char *path)
{
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        g_autofree char *parent = g_strndup(path, (gsize)(slash - path));

        if (!g_tree_lookup(initramfs->entries, parent)) {
            struct entry *entry = g_new0(struct entry, 1);

            entry->mode = S_IFDIR | 0755;
            g_tree_insert(initramfs->entries, g_steal_pointer(&parent), entry);
        }
    }
}

static struct entry *add_entry(struct initramfs *initramfs, const char *path, unsigned mode)
{
    g_autofree char *clean = g_canonicalize_filename(path, "/");
    struct entry *entry;

    if (!clean[1]) /* the root itself is there already: nothing to say about it */
        return NULL;
    entry = g_new0(struct entry, 1);
    entry->mode = mode;
    add_parents(initramfs, clean + 1);
    g_tree_replace(initramfs->entries, g_strdup(clean + 1), entry);
    return entry;
}

void initramfs_add_data(struct initramfs *initramfs, const char *path, unsigned mode, GBytes *data)
{
    struct entry *entry = add_entry(initramfs, path, S_IFREG | (mode & 07777));

    if (entry)
        entry->data = g_bytes_ref(data);
}

void initramfs_add_directory(struct initramfs *initramfs, const char *path, unsigned mode)
{
    add_entry(initramfs, path, S_IFDIR | (mode & 07777));
}

void initramfs_add_symlink(struct initramfs *initramfs, const char *path, const char *target)
{
    struct entry *entry = add_entry(initramfs, path, S_IFLNK | 0777);

    if (entry)
        entry->data = g_bytes_new(target, strlen(target));
}

void initramfs_add_node(struct initramfs *initramfs, const char *path, unsigned mode,
                        unsigned major, unsigned minor)
{
    struct entry *entry = add_entry(initramfs, path, mode);

    if (entry) {
        entry->major = major;
        entry->minor = minor;
    }
}

/* Read, not mapped: a file that shrinks meanwhile must not end the program by SIGBUS. */
bool initramfs_add_file(struct initramfs *initramfs, const char *source, const char *path,
                        GError **error)
{
    g_autoptr(GBytes) data = NULL;
    struct stat info;
    char *content;
    gsize size;

    if (stat(source, &info)) {
        g_set_error(error, G_IO_ERROR, (int)g_io_error_from_errno(errno), "%s: %s", source,
                    g_strerror(errno));
        return false;
    }
    if (!S_ISREG(info.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE, "%s: not a regular file",
                    source);
        return false;
    }
    if (!g_file_get_contents(source, &content, &size, error))
        return false;
    data = g_bytes_new_take(content, size);
    initramfs_add_data(initramfs, path, info.st_mode & 07777, data);
    return true;
}

bool initramfs_add_init(struct initramfs *initramfs, const char *init, GError **error)
{
    static const char *const folders[] = {"/dev", "/proc", "/sys", "/root", "/etc"};

    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++)
        initramfs_add_directory(initramfs, folders[i], 0755);
    initramfs_add_directory(initramfs, "/tmp", 01777);
    initramfs_add_node(initramfs, "/dev/console", S_IFCHR | 0600, 5, 1);
    initramfs_add_node(initramfs, "/dev/null", S_IFCHR | 0666, 1, 3);
    initramfs_add_node(initramfs, "/dev/port", S_IFCHR | 0600, 1, 4);
    if (!initramfs_add_file(initramfs, init, "/init", error)) {
        g_prefix_error(error, "init program of the guest: ");
        return false;
    }
    return true;
}

bool initramfs_add_program(struct initramfs *initramfs, const char *source, const char *path,
                           GError **error)
{
    g_autoptr(GPtrArray) libraries = g_ptr_array_new_with_free_func((GDestroyNotify)sharedlib_free);

    if (!initramfs_add_file(initramfs, source, path, error) ||
        !sharedlibs_find(source, libraries, error))
        return false;
    for (guint i = 0; i < libraries->len; i++) {
        const struct sharedlib *library = libraries->pdata[i];

        if (!initramfs_add_file(initramfs, library->source, library->path, error))
            return false;
    }
    return true;
}

/* Where the archive is being put together. */
struct writer {
    GByteArray *out;
    unsigned inode;
    bool too_big;
};

static void pad(GByteArray *out, unsigned unit)
{
    static const uint8_t zeroes[ARCHIVE_UNIT];

    if (out->len % unit)
        g_byte_array_append(out, zeroes, unit - out->len % unit);
}

static void append_entry(struct writer *writer, const char *path, const struct entry *entry)
{
    gsize size = entry->data ? g_bytes_get_size(entry->data) : 0, name_size = strlen(path) + 1;
    char header[HEADER_SIZE + 1];

    if (writer->too_big || writer->out->len + HEADER_SIZE + name_size + size + 8 > ARCHIVE_MAX) {
        writer->too_big = true;
        return;
    }
    /* magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check */
    snprintf(header, sizeof(header), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
             ++writer->inode, entry->mode, 0, 0, S_ISDIR(entry->mode) ? 2 : 1, 0, (unsigned)size, 0,
             0, entry->major, entry->minor, (unsigned)name_size, 0);
    g_byte_array_append(writer->out, (const guint8 *)header, HEADER_SIZE);
    g_byte_array_append(writer->out, (const guint8 *)path, (guint)name_size);
    pad(writer->out, 4);
    if (size) {
        g_byte_array_append(writer->out, g_bytes_get_data(entry->data, NULL), (guint)size);
        pad(writer->out, 4);
    }
}

static gboolean append_each(gpointer path, gpointer entry, gpointer writer)
{
    append_entry(writer, path, entry);
    return FALSE;
}

GBytes *initramfs_finish(struct initramfs *initramfs, GError **error)
{
    struct writer writer = {.out = g_byte_array_new()};
    static const struct entry trailer = {0};

    g_tree_foreach(initramfs->entries, append_each, &writer);
    writer.inode = UINT32_MAX; /* the trailer's is 0 */
    append_entry(&writer, "TRAILER!!!", &trailer);
    if (writer.too_big) {
        g_byte_array_unref(writer.out);
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "the initramfs would be larger than %u MiB", (unsigned)(ARCHIVE_MAX >> 20));
        return NULL;
    }
    pad(writer.out, ARCHIVE_UNIT);
    return g_byte_array_free_to_bytes(writer.out);
}

bool initramfs_write(struct initramfs *initramfs, const char *path, GError **error)
{
    g_autoptr(GBytes) archive = initramfs_finish(initramfs, error);
    gsize size;
    const char *data;

    if (!archive)
        return false;
    data = g_bytes_get_data(archive, &size);
    return g_file_set_contents(path, data, (gssize)size, error);
}

struct module_request {
    char *name;             /* without '?' and parameters */
    const char *parameters; /* into the caller's text, or NULL */
    bool optional;
};

static struct module_request parse_request(const char *text)
{
    struct module_request request = {.optional = *text == '?'};
    const char *name = text + request.optional, *blank = strchr(name, ' ');

    request.name = blank ? g_strndup(name, (gsize)(blank - name)) : g_strdup(name);
    request.parameters = blank && blank[1] ? blank + 1 : NULL;
    return request;
}

/* The parameters asked for a module file, by any of the names in the request. */
static const char *parameters_of(const char *file, const char *const *names)
{
    g_autofree char *module = kmodules_name(file);

    for (; *names; names++) {
        struct module_request request = parse_request(*names);
        g_autofree char *name = g_strdelimit(request.name, "-", '_');

        if (request.parameters && !strcmp(name, module))
            return request.parameters;
    }
    return NULL;
}

/* The module unpacked: for the guest it is faster, and not every kernel can do it itself. NULL without an
 * error: it isn't packed, or there is no library for it here, which leaves it to the kernel. */
static GBytes *unpack_module(const char *path, GError **error)
{
    static const char *const suffixes[] = {".xz", ".zst", ".gz"};
    struct source source;
    uint8_t head[8];
    enum unpack_format format;
    GBytes *data = NULL;
    bool packed = false;

    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++)
        packed |= g_str_has_suffix(path, suffixes[i]);
    if (!packed || !source_open(&source, "module", path, error))
        return NULL;
    if (source.size >= sizeof(head) && source_read(&source, 0, head, sizeof(head), error)) {
        format = unpack_detect(head, sizeof(head));
        if (unpack_available(format))
            data = unpack_bytes(&source, format, MODULE_MAX, error);
    }
    source_close(&source);
    return data;
}

static bool add_module(struct initramfs *initramfs, const char *tree, const char *file,
                       const char *const *names, GString *list, GError **error)
{
    /* modules.dep names files relative to the tree, or absolutely when they are elsewhere */
    g_autofree char *source = g_canonicalize_filename(file, tree);
    g_autofree char *path = g_build_filename("/lodge/modules.d", file, NULL);
    const char *parameters = parameters_of(file, names);
    g_autoptr(GError) local = NULL;
    g_autoptr(GBytes) data = unpack_module(source, &local);

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (data) {
        *strrchr(path, '.') = 0;
        initramfs_add_data(initramfs, path, 0644, data);
    } else if (!initramfs_add_file(initramfs, source, path, error)) {
        return false;
    }
    g_string_append_printf(list, "%s%s%s\n", path, parameters ? " " : "",
                           parameters ? parameters : "");
    return true;
}

bool initramfs_add_modules(struct initramfs *initramfs, const char *tree, const char *const *names,
                           char ***missing, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(tree, NULL);
    g_autoptr(Kmodules) modules = kmodules_open(absolute, error);
    g_autoptr(GPtrArray) files = g_ptr_array_new(), absent = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GString) list = g_string_new(NULL);
    g_autoptr(GBytes) data = NULL;

    if (!modules)
        return false;
    for (const char *const *name = names; *name; name++) {
        struct module_request request = parse_request(*name);
        g_autofree char *plain = request.name;

        if (!kmodules_resolve(modules, plain, files) && !request.optional)
            g_ptr_array_add(absent, g_steal_pointer(&plain));
    }
    g_ptr_array_add(absent, NULL);
    if (absent->len > 1 && !missing) {
        g_autofree char *joined = g_strjoinv(" ", (char **)absent->pdata);

        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "%s has no module, loadable or built in, for: %s", tree, joined);
        return false;
    }
    for (guint i = 0; i < files->len; i++)
        if (!add_module(initramfs, absolute, files->pdata[i], names, list, error))
            return false;
    data = g_bytes_new(list->str, list->len);
    initramfs_add_data(initramfs, "/lodge/modules", 0644, data);
    if (missing)
        *missing = (char **)g_ptr_array_free(g_steal_pointer(&absent), FALSE);
    return true;
}
