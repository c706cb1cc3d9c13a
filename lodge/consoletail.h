/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * consoletail - remembers the end of the guest's console, and notices a kernel panic in it
 *
 * For the report when a guest panics, times out or can't go on: the last lines, and the panic text
 * from "Kernel panic - not syncing" on. Bounded: CONSOLE_TAIL_SIZE bytes.
 *
 * Thread: main (the serial port's and console's loop).
 */
#ifndef LODGE_CONSOLETAIL_H
#define LODGE_CONSOLETAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_TAIL_SIZE 32768u

struct console_tail;

struct console_tail *console_tail_create(void);
void console_tail_destroy(struct console_tail *tail); /* NULL is allowed */
void console_tail_append(struct console_tail *tail, const uint8_t *data, size_t size);
bool console_tail_panicked(const struct console_tail *tail);
bool console_tail_empty(const struct console_tail *tail);
/* The panic message's own line, or NULL; the caller frees it. */
char *console_tail_panic_line(const struct console_tail *tail);
/* The last @lines lines, control characters but newline removed; the caller frees it. */
char *console_tail_text(const struct console_tail *tail, unsigned lines);

#endif
