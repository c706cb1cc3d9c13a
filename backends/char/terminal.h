/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * terminal - the terminal that is our standard input
 *
 * Raw while we are in the foreground; its old modes come back on every way out: terminal_close(),
 * exit(), a fatal signal. In the background it is not to be changed or read (that would stop us).
 *
 * Thread: the loop's. One user a process.
 */
#ifndef BACKENDS_CHAR_TERMINAL_H
#define BACKENDS_CHAR_TERMINAL_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/loop.h"

/* Calls @continued after each SIGCONT, which comes with the return to the foreground. False with errno
 * set: no descriptor left. Does not change the modes yet. */
bool terminal_open(struct loop *loop, loop_fn continued, void *opaque);
void terminal_close(void); /* also when it is not open */

bool terminal_in_foreground(void);
/* Every key comes through. @process_output: newlines that are written still begin lines. */
void terminal_make_raw(bool process_output);

/* Takes Ctrl-A and the key after it out of what was typed (Ctrl-A twice is one); the key goes to @key. */
struct terminal_escape {
    void (*key)(void *opaque, char key);
    void *opaque;
    bool escaped; /* Ctrl-A came last */
};
size_t terminal_filter(struct terminal_escape *escape, uint8_t *data, size_t size);

#endif
