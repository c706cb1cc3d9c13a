/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * setup - files that are made while a machine is set up
 *
 * Setting up opens one thing after the other, and any may fail; a failed start leaves no file behind.
 * Who makes a file that is to outlive the run (a log, a capture) opens it here; the program says at the
 * end of the set-up which way it went.
 *
 * Thread: main.
 */
#ifndef VMM_SETUP_H
#define VMM_SETUP_H

#include <sys/types.h>

/* open(2) with O_CREAT added to @flags; remembers @path if the file is new. -1 with errno set. */
int setup_open(const char *path, int flags, mode_t mode);
/* The set-up went well: files stay. */
void setup_keep(void);
/* It failed: removes the files made since, unless something else has taken their place. */
void setup_undo(void);

#endif
