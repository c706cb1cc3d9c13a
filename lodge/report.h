/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * report - how a run ended: the exit code, what the user reads, and --result's JSON
 *
 * Thread: main.
 */
#ifndef LODGE_REPORT_H
#define LODGE_REPORT_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "lodge/machine.h"

/* The exit code of an ended machine (exitcode.h). */
int report_exit_code(const struct machine *machine);
/* Explains an end that the user did not ask for, on standard error, with the console's last lines
 * when they were not on the terminal. */
void report_explain(struct machine *machine, bool console_was_hidden);
/* Counters of the machine and its devices: of `ctl stats` and of the result file. */
JsonObject *report_stats(struct machine *machine);
/* How it ended, for the result file. */
struct report_end {
    const char *reason; /* shutdown_reason_name(), or "error": the guest could not be started */
    const char *detail; /* or NULL */
    int status, exit_code;
    int64_t started_ns; /* the program's start, loop_now_ns() */
};

/* Writes the result file (complete or not at all). @machine NULL: the guest did not start. @error
 * names the file. */
bool report_write(struct machine *machine, const char *path, const struct report_end *end,
                  GError **error);

#endif
