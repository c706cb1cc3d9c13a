/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * configuration - what the user asked for: one typed tree from the command line or from JSON
 *
 * The tree has the run options (a struct options over run_options) and a list of devices, each with
 * its type and a struct options over that type's keys. `lodge run --dry-run` prints it as JSON, and
 * --config FILE loads what was printed; options on the command line override or add, wherever they
 * stand. Of a value given twice, the last counts; lists add up.
 *
 * Thread: main.
 */
#ifndef LODGE_CONFIGURATION_H
#define LODGE_CONFIGURATION_H

#include <glib.h>
#include <stdbool.h>

#include "lodge/types.h"
#include "vmm/options.h"

struct device_config {
    const struct device_type *type;
    struct options *options;
};

struct config {
    struct options *run;
    GPtrArray *devices; /* of struct device_config * */
    char **command;     /* after "--", or NULL */
    bool dry_run;
};

/* One command-line option: a run option, or a short form of --device. */
struct cli_option {
    char letter;          /* 0: none */
    const char *name;     /* "disk" */
    const char *key;      /* of run_options, or NULL */
    const char *type;     /* device type, or NULL */
    const char *argument; /* "FILE"; NULL: none (a switch) */
    const char *help;
};

extern const struct option_spec run_options[];
extern const struct cli_option cli_options[]; /* ends with a NULL name */

/* @argv after the subcommand. NULL with @error set when anything is wrong with it. */
struct config *config_from_arguments(char **argv, GError **error);
void config_free(struct config *config);
typedef struct config config_t;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(config_t, config_free)

bool config_add_device(struct config *config, const struct device_type *type, const char *what,
                       const char *text, GError **error);
bool config_has_device(const struct config *config, const char *type);
/* Pretty-printed JSON; the caller frees it. */
char *config_to_json(const struct config *config);
/* --memory in bytes: a bare number is MiB, as for other monitors. */
bool config_memory(const struct config *config, uint64_t *bytes, GError **error);
/* --timeout in seconds; 0 without one. */
bool config_timeout(const struct config *config, double *seconds, GError **error);

#endif
