/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sharedlibs: 64-bit little-endian ELF only, which is all that our guests run. A library is looked for
 * as the dynamic loader does: DT_RUNPATH or DT_RPATH with $ORIGIN, the loader's own folders, those of
 * /etc/ld.so.conf.d. One found in the latter goes to a folder of the loader's own in the guest, which
 * has no cache.
 */
#include "firmware/sharedlibs.h"

#include <elf.h>
#include <gio/gio.h>
#include <string.h>

static const char *const loader_folders[] = {
#if defined(__x86_64__)
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
#elif defined(__aarch64__)
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
#endif
    "/lib",
    "/usr/lib"};

struct image {
    const char *name;
    const uint8_t *data;
    gsize size;
    const char *strings; /* dynamic string table */
    gsize string_size;
    Elf64_Phdr *segments;
    unsigned segment_count;
};

void sharedlib_free(struct sharedlib *library)
{
    g_free(library->source);
    g_free(library->path);
    g_free(library);
}

static bool broken(const struct image *image, const char *what, GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: damaged ELF file (%s)",
                image->name, what);
    return false;
}

static bool in_file(const struct image *image, uint64_t offset, uint64_t size)
{
    return offset <= image->size && size <= image->size - offset;
}

/* False with no error: not an ELF file, or not one of ours; it needs no libraries then. */
static bool read_segments(struct image *image, GError **error)
{
    Elf64_Ehdr header;

    if (image->size < sizeof(header))
        return false;
    memcpy(&header, image->data, sizeof(header));
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_ident[EI_DATA] != ELFDATA2LSB)
        return false;
    if (header.e_phentsize != sizeof(Elf64_Phdr) ||
        !in_file(image, header.e_phoff, (uint64_t)header.e_phnum * sizeof(Elf64_Phdr)))
        return broken(image, "program headers", error);
    image->segment_count = header.e_phnum;
    image->segments = g_new(Elf64_Phdr, header.e_phnum);
    memcpy(image->segments, image->data + header.e_phoff, header.e_phnum * sizeof(Elf64_Phdr));
    return true;
}

static const Elf64_Phdr *segment(const struct image *image, uint32_t type)
{
    for (unsigned i = 0; i < image->segment_count; i++)
        if (image->segments[i].p_type == type)
            return &image->segments[i];
    return NULL;
}

static bool to_offset(const struct image *image, uint64_t address, uint64_t *offset)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const Elf64_Phdr *s = &image->segments[i];

        if (s->p_type == PT_LOAD && address >= s->p_vaddr && address - s->p_vaddr < s->p_filesz) {
            *offset = s->p_offset + (address - s->p_vaddr);
            return true;
        }
    }
    return false;
}

/* The i-th entry of the dynamic section; false at its end. */
static bool dynamic_entry(const struct image *image, unsigned i, Elf64_Dyn *entry)
{
    const Elf64_Phdr *dynamic = segment(image, PT_DYNAMIC);

    if (!dynamic || (i + 1) * sizeof(*entry) > dynamic->p_filesz)
        return false;
    memcpy(entry, image->data + dynamic->p_offset + i * sizeof(*entry), sizeof(*entry));
    return entry->d_tag != DT_NULL;
}

static bool read_strings(struct image *image, GError **error)
{
    const Elf64_Phdr *dynamic = segment(image, PT_DYNAMIC);
    uint64_t address = 0, offset;
    Elf64_Dyn entry;

    if (!in_file(image, dynamic->p_offset, dynamic->p_filesz))
        return broken(image, "dynamic section", error);
    for (unsigned i = 0; dynamic_entry(image, i, &entry); i++) {
        if (entry.d_tag == DT_STRTAB)
            address = entry.d_un.d_ptr;
        if (entry.d_tag == DT_STRSZ)
            image->string_size = entry.d_un.d_val;
    }
    if (!to_offset(image, address, &offset) || !in_file(image, offset, image->string_size) ||
        !image->string_size || image->data[offset + image->string_size - 1])
        return broken(image, "string table", error);
    image->strings = (const char *)image->data + offset;
    return true;
}

static const char *string_at(const struct image *image, uint64_t index)
{
    return index < image->string_size ? image->strings + index : NULL;
}

/* A folder list as in DT_RUNPATH: each with $ORIGIN, the folder of the file that has it. */
static char *search_path(const struct image *image, const char *folders, const char *library)
{
    g_autofree char *origin = g_path_get_dirname(image->name);
    g_auto(GStrv) list = g_strsplit(folders, ":", -1);

    for (char **folder = list; *folder; folder++) {
        g_autoptr(GString) text = g_string_new(*folder);
        g_autofree char *path = NULL;

        g_string_replace(text, "${ORIGIN}", origin, 0);
        g_string_replace(text, "$ORIGIN", origin, 0);
        path = g_build_filename(text->str, library, NULL);
        if (**folder && g_file_test(path, G_FILE_TEST_IS_REGULAR))
            return g_steal_pointer(&path);
    }
    return NULL;
}

/* The folders named in /etc/ld.so.conf.d. */
static char *search_configured(const char *library)
{
    g_autoptr(GDir) dir = g_dir_open("/etc/ld.so.conf.d", 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename("/etc/ld.so.conf.d", name, NULL), *text = NULL;
        g_auto(GStrv) lines = NULL;

        if (!g_str_has_suffix(name, ".conf") || !g_file_get_contents(file, &text, NULL, NULL))
            continue;
        lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++) {
            g_autofree char *path = g_build_filename(g_strstrip(*line), library, NULL);

            if (**line == '/' && g_file_test(path, G_FILE_TEST_IS_REGULAR))
                return g_steal_pointer(&path);
        }
    }
    return NULL;
}

static struct sharedlib *locate(const struct image *image, const char *library)
{
    struct sharedlib *found = g_new0(struct sharedlib, 1);
    Elf64_Dyn entry;

    if (strchr(library, '/')) {
        found->source = g_strdup(library);
        found->path = g_strdup(library);
        return found;
    }
    for (unsigned i = 0; !found->source && dynamic_entry(image, i, &entry); i++)
        if (entry.d_tag == DT_RUNPATH || entry.d_tag == DT_RPATH) {
            const char *folders = string_at(image, entry.d_un.d_val);

            found->source = folders ? search_path(image, folders, library) : NULL;
            found->path = g_strdup(found->source);
        }
    for (size_t i = 0; !found->source && i < G_N_ELEMENTS(loader_folders); i++) {
        found->source = search_path(image, loader_folders[i], library);
        found->path = g_strdup(found->source);
    }
    if (!found->source) {
        found->source = search_configured(library);
        found->path = g_build_filename(loader_folders[0], library, NULL);
    }
    if (!found->source)
        g_clear_pointer(&found, sharedlib_free);
    return found;
}

static bool add_library(struct sharedlib *library, GPtrArray *libraries, GError **error)
{
    for (guint i = 0; i < libraries->len; i++) {
        const struct sharedlib *have = libraries->pdata[i];

        if (!strcmp(have->path, library->path)) {
            sharedlib_free(library);
            return true;
        }
    }
    g_ptr_array_add(libraries, library);
    return sharedlibs_find(library->source, libraries, error);
}

static bool add_interpreter(const struct image *image, GPtrArray *libraries, GError **error)
{
    const Elf64_Phdr *interp = segment(image, PT_INTERP);
    struct sharedlib *library;

    if (!interp)
        return true;
    if (!in_file(image, interp->p_offset, interp->p_filesz) || !interp->p_filesz ||
        image->data[interp->p_offset + interp->p_filesz - 1])
        return broken(image, "interpreter", error);
    library = g_new0(struct sharedlib, 1);
    library->source = g_strdup((const char *)image->data + interp->p_offset);
    library->path = g_strdup(library->source);
    return add_library(library, libraries, error);
}

static bool add_needed(struct image *image, GPtrArray *libraries, GError **error)
{
    Elf64_Dyn entry;

    if (!segment(image, PT_DYNAMIC))
        return true;
    if (!read_strings(image, error) || !add_interpreter(image, libraries, error))
        return false;
    for (unsigned i = 0; dynamic_entry(image, i, &entry); i++) {
        const char *name;
        struct sharedlib *library;

        if (entry.d_tag != DT_NEEDED)
            continue;
        name = string_at(image, entry.d_un.d_val);
        if (!name)
            return broken(image, "needed library", error);
        library = locate(image, name);
        if (!library) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                        "%s needs the shared library %s, which is not found", image->name, name);
            return false;
        }
        if (!add_library(library, libraries, error))
            return false;
    }
    return true;
}

bool sharedlibs_find(const char *program, GPtrArray *libraries, GError **error)
{
    struct image image = {.name = program};
    g_autoptr(GError) damage = NULL;
    g_autofree char *content = NULL;
    bool done = true;

    if (!g_file_get_contents(program, &content, &image.size, error))
        return false;
    image.data = (const uint8_t *)content;
    if (read_segments(&image, &damage))
        done = add_needed(&image, libraries, error);
    else if (damage) {
        g_propagate_error(error, g_steal_pointer(&damage));
        done = false;
    }
    g_free(image.segments);
    return done;
}
