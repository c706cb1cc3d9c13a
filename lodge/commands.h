/* SPDX-License-Identifier: GPL-2.0-or-later */
/* commands - the subcommands: each takes the words after its name and returns the exit code */
#ifndef LODGE_COMMANDS_H
#define LODGE_COMMANDS_H

#include <stdbool.h>

int command_run(char **argv);
int command_restore(char **argv);
int command_fork(char **argv);
int command_inspect(char **argv);
int command_ctl(char **argv);
int command_doctor(char **argv);
int command_devices(char **argv);
int command_prepare(char **argv);
int command_manual(char **argv);     /* the manual page, from the option tables */
int command_completion(char **argv); /* a bash completion, from the same tables */

struct subcommand {
    const char *name;
    int (*run)(char **argv);
    const char *usage;
    const char *help;
    bool hidden; /* used by the build and the tests */
};
extern const struct subcommand subcommands[]; /* ends with a NULL name */

/* docs/control.md, on standard output. */
void print_control_page(void);

struct config;
struct restore;
/* Runs a restored machine to its end; takes @config over. The exit code. */
int run_restored(struct config *config, const struct restore *restore);
/* The same of one that comes from another monitor (incoming.h). */
struct incoming;
int run_incoming(struct config *config, struct incoming *incoming);
/* `lodge run --from FOLDER` with the other words of its command line. The exit code. */
int run_from(const char *folder, char **argv);

/* The help of `lodge run`, on standard output. */
void print_run_help(void);

#endif
