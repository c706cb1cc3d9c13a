/* SPDX-License-Identifier: GPL-2.0-or-later */
/* library - loading libraries of displays (library.h) */
#include "backends/display/library.h"

#include <dlfcn.h>
#include <gio/gio.h>
#include <string.h>

bool display_load_library(const char *name, const struct library_symbol *symbols, void *lib,
                          GError **error)
{
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);

    for (; handle && symbols->name; symbols++) {
        void *symbol = dlsym(handle, symbols->name);

        if (!symbol)
            break;
        memcpy((char *)lib + symbols->offset, &symbol, sizeof(symbol));
    }
    if (handle && !symbols->name)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "%s", dlerror());
    return false;
}
