/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keys - KEY_* codes (<linux/input-event-codes.h>) by name, by character and by X11 keysym
 *
 * Characters and keysyms are those of a US keyboard: a guest with another layout sees the key at that
 * place. Threads: any.
 */
#ifndef BACKENDS_DISPLAY_KEYS_H
#define BACKENDS_DISPLAY_KEYS_H

#include <stdbool.h>
#include <stdint.h>

/* "a", "ctrl", "f1", "ret", or a code as "#30"; 0: there is no such key. */
unsigned display_key_by_name(const char *name);
/* Which key makes @c, and whether with Shift; newline and tab too. 0: none does. */
unsigned display_key_of_char(char c, bool *shift);
/* 0: no key has it. Whether Shift is down makes no difference: it is a key of its own. */
unsigned display_key_of_keysym(uint32_t keysym);

#endif
