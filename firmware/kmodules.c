/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kmodules: finds out which module files must be loaded, in which order. Each line of modules.dep lists
 * everything that a module needs, the last one first to be loaded; soft dependencies ("pre", "post")
 * are modules that work better together, and are taken where the tree has them.
 */
#include "firmware/kmodules.h"

#include <fnmatch.h>
#include <string.h>

struct module {
    const char *file;  /* relative to the tree; NULL: only soft dependencies are known */
    char *needs;       /* file names, the last one first to be loaded; NULL once visited */
    GPtrArray *before; /* soft dependencies: names or aliases */
    GPtrArray *after;
};

struct kmodules {
    char *tree;
    char *text;          /* of modules.dep; struct module points into it */
    GHashTable *by_name; /* name -> struct module */
    GHashTable *builtin; /* set of names */
    GPtrArray *outside;  /* paths of files that are not in the tree */
    char *alias_text;    /* of modules.alias, once it was needed */
    GPtrArray *patterns; /* pattern, name, pattern, name, ... into alias_text */
    GHashTable *exact;   /* pattern without wildcards -> GPtrArray of names */
};

static void module_free(gpointer data)
{
    struct module *module = data;

    g_clear_pointer(&module->before, g_ptr_array_unref);
    g_clear_pointer(&module->after, g_ptr_array_unref);
    g_free(module);
}

static char *normalize(const char *name)
{
    return g_strdelimit(g_strdup(name), "-", '_');
}

char *kmodules_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *name = normalize(slash ? slash + 1 : path), *dot = strstr(name, ".ko");

    if (dot)
        *dot = 0;
    return name;
}

/* Calls `line` for every line of a text. */
static void each_line(struct kmodules *modules, char *text,
                      void (*line)(struct kmodules *modules, char *text))
{
    for (char *at = text, *end; *at; at = end) {
        end = at + strcspn(at, "\n");
        if (*end)
            *end++ = 0;
        if (*at && *at != '#')
            line(modules, at);
    }
}

/* The same for a file of the tree; one that isn't there has no lines. The caller frees *text. */
static bool read_file(struct kmodules *modules, const char *name, char **text, GError **error)
{
    g_autofree char *path = g_build_filename(modules->tree, name, NULL);

    return g_file_get_contents(path, text, NULL, error);
}

/* "kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/fscache/fscache.ko" */
static void dep_line(struct kmodules *modules, char *text)
{
    char *colon = strchr(text, ':');
    struct module *module;

    if (!colon)
        return;
    *colon = 0;
    module = g_new0(struct module, 1);
    module->file = text;
    module->needs = colon + 1;
    g_hash_table_replace(modules->by_name, kmodules_name(text), module);
}

static void builtin_line(struct kmodules *modules, char *text)
{
    g_hash_table_add(modules->builtin, kmodules_name(text));
}

/* "softdep NAME pre: A B post: C" */
static void softdep_line(struct kmodules *modules, char *text)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    g_autofree char *name = NULL;
    struct module *module;
    GPtrArray **list = NULL;

    if (g_strv_length(words) < 3 || strcmp(words[0], "softdep"))
        return;
    name = normalize(words[1]);
    module = g_hash_table_lookup(modules->by_name, name);
    if (!module)
        return;
    for (char **word = words + 2; *word; word++) {
        if (!strcmp(*word, "pre:")) {
            list = &module->before;
        } else if (!strcmp(*word, "post:")) {
            list = &module->after;
        } else if (list && **word) {
            if (!*list)
                *list = g_ptr_array_new_with_free_func(g_free);
            g_ptr_array_add(*list, g_strdup(*word));
        }
    }
}

/* "alias PATTERN NAME" */
static void alias_line(struct kmodules *modules, char *text)
{
    char *pattern, *name;
    GPtrArray *names;

    if (strncmp(text, "alias ", 6))
        return;
    pattern = g_strdelimit(text + 6, "-", '_');
    name = strchr(pattern, ' ');
    if (!name)
        return;
    *name++ = 0;
    if (strpbrk(pattern, "*?[")) {
        g_ptr_array_add(modules->patterns, pattern);
        g_ptr_array_add(modules->patterns, name);
        return;
    }
    names = g_hash_table_lookup(modules->exact, pattern);
    if (!names) {
        names = g_ptr_array_new();
        g_hash_table_insert(modules->exact, pattern, names);
    }
    g_ptr_array_add(names, name);
}

/* modules.alias is by far the largest file: most calls never need it. */
static void read_aliases(struct kmodules *modules)
{
    if (modules->exact)
        return;
    modules->exact =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)g_ptr_array_unref);
    modules->patterns = g_ptr_array_new();
    if (read_file(modules, "modules.alias", &modules->alias_text, NULL))
        each_line(modules, modules->alias_text, alias_line);
}

struct kmodules *kmodules_open(const char *tree, GError **error)
{
    g_autoptr(Kmodules) modules = g_new0(struct kmodules, 1);
    g_autofree char *builtin = NULL, *softdep = NULL;

    modules->tree = g_strdup(tree);
    modules->outside = g_ptr_array_new_with_free_func(g_free);
    modules->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, module_free);
    modules->builtin = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!read_file(modules, "modules.dep", &modules->text, error)) {
        g_prefix_error(error, "%s: no module tree of a kernel (depmod makes modules.dep): ", tree);
        return NULL;
    }
    each_line(modules, modules->text, dep_line);
    if (read_file(modules, "modules.builtin", &builtin, NULL))
        each_line(modules, builtin, builtin_line);
    if (read_file(modules, "modules.softdep", &softdep, NULL))
        each_line(modules, softdep, softdep_line);
    return g_steal_pointer(&modules);
}

void kmodules_close(struct kmodules *modules)
{
    if (!modules)
        return;
    g_hash_table_unref(modules->by_name);
    g_hash_table_unref(modules->builtin);
    g_clear_pointer(&modules->exact, g_hash_table_unref);
    g_clear_pointer(&modules->patterns, g_ptr_array_unref);
    g_ptr_array_unref(modules->outside);
    g_free(modules->alias_text);
    g_free(modules->text);
    g_free(modules->tree);
    g_free(modules);
}

static void resolve_soft(struct kmodules *modules, const GPtrArray *names, GPtrArray *files)
{
    for (guint i = 0; names && i < names->len; i++)
        kmodules_resolve(modules, names->pdata[i], files);
}

/* Each module is visited once, so that a loop among dependencies ends. */
static bool resolve_module(struct kmodules *modules, struct module *module, GPtrArray *files)
{
    g_auto(GStrv) needs = NULL;

    if (!module->needs)
        return true;
    needs = g_strsplit(module->needs, " ", -1);
    module->needs = NULL;
    resolve_soft(modules, module->before, files);
    for (guint i = g_strv_length(needs); i > 0; i--) {
        g_autofree char *name = kmodules_name(needs[i - 1]);
        struct module *need = g_hash_table_lookup(modules->by_name, name);

        if (*name && (!need || !resolve_module(modules, need, files)))
            return false;
    }
    g_ptr_array_add(files, (char *)module->file);
    resolve_soft(modules, module->after, files);
    return true;
}

/* One that is known by its own name. */
static bool resolve_name(struct kmodules *modules, const char *name, GPtrArray *files)
{
    struct module *module = g_hash_table_lookup(modules->by_name, name);

    if (module)
        return resolve_module(modules, module, files);
    return g_hash_table_contains(modules->builtin, name);
}

/* A file that depmod has not seen: the field "depends=a,b" of its .modinfo section. */
static bool resolve_file(struct kmodules *modules, const char *path, GPtrArray *files)
{
    static const char key[] = "\0depends=";
    g_autofree char *data = NULL;
    gsize size = 0;
    const char *field = g_file_get_contents(path, &data, &size, NULL)
                            ? memmem(data, size, key, sizeof(key) - 1)
                            : NULL;
    g_autofree char *text = NULL, *kept = NULL;
    g_auto(GStrv) needs = NULL;

    if (!field)
        return false;
    field += sizeof(key) - 1;
    text = g_strndup(field, (gsize)(data + size - field));
    needs = g_strsplit(text, ",", -1);
    for (char **need = needs; *need; need++)
        if (**need && !resolve_name(modules, *need, files))
            return false;
    kept = g_strdup(path);
    g_ptr_array_add(modules->outside, kept);
    g_ptr_array_add(files, g_steal_pointer(&kept));
    return true;
}

bool kmodules_resolve(struct kmodules *modules, const char *name, GPtrArray *files)
{
    g_autofree char *plain = normalize(name);
    const GPtrArray *names;
    bool found;

    if (strchr(name, '/'))
        return resolve_file(modules, name, files);
    if (resolve_name(modules, plain, files))
        return true;
    read_aliases(modules);
    names = g_hash_table_lookup(modules->exact, plain);
    found = false;
    for (guint i = 0; names && i < names->len; i++)
        found |= resolve_name(modules, names->pdata[i], files);
    for (guint i = 0; i < modules->patterns->len; i += 2)
        if (fnmatch(modules->patterns->pdata[i], plain, 0) == 0)
            found |= resolve_name(modules, modules->patterns->pdata[i + 1], files);
    return found;
}
