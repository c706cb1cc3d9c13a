/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * library - libraries of displays, and of 3D, that few runs use, loaded when they are
 *
 * Linked, they and the dozens that they bring would cost every start of lodge more time than all else
 * it does before the guest runs. A user lists the functions:
 *
 *     #define FUNCTIONS(X) X(rfbGetScreen) X(rfbNewClient)
 *     static struct { FUNCTIONS(LIBRARY_MEMBER) } lib;
 *     static const struct library_symbol symbols[] = {FUNCTIONS(LIBRARY_SYMBOL){}};
 *
 * and calls lib.rfbGetScreen(...) once display_load_library() said true. Libraries stay loaded.
 * Thread: main.
 */
#ifndef BACKENDS_DISPLAY_LIBRARY_H
#define BACKENDS_DISPLAY_LIBRARY_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

struct library_symbol {
    const char *name;
    size_t offset; /* of its pointer */
};

#define LIBRARY_MEMBER(NAME) __typeof__(&NAME) NAME;
#define LIBRARY_SYMBOL(NAME) {#NAME, offsetof(__typeof__(lib), NAME)},

/* Fills the pointers of @lib. False with @error set: no such library, or not all is in it. */
bool display_load_library(const char *name, const struct library_symbol *symbols, void *lib,
                          GError **error);

#endif
