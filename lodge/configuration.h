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
#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "lodge/types.h"
#include "vmm/options.h"

struct device_config {
    const struct device_type *type;
    struct options *options;
};

struct config {
    struct options *run;
    GPtrArray *devices;  /* of struct device_config * */
    GPtrArray *displays; /* of struct options *: run option "display", by display_parse */
    char **command;      /* after "--", or NULL */
    bool dry_run;
    /* Of a machine that was saved: what the command line says of devices changes those there are. */
    bool restoring;
    unsigned saved_flags;
    bool new_console; /* it says where the console goes */
    /* Boot a guest that waits for a command, and save it there; or (restoring) such a guest; or NULL.
     * A string of @run. */
    const char *prepare;
};

/* Does our init run one command in the guest, now or once it is told which? */
static inline bool config_is_command(const struct config *config)
{
    return config->command || config->prepare;
}

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

/*
 * The configuration of a saved machine, JSON @text, with the options of @argv over it (override.c):
 * a device there changes what the saved one of that id (or tag; or the only one of its type) has on
 * the host, and can't add one. Errors name the device and the key.
 */
enum config_saved_flags {
    CONFIG_FOREIGN = 1 << 0,    /* of another host: what names something of a host's is left out */
    CONFIG_INCOMPLETE = 1 << 1, /* what is missing then is not missed */
};
struct config *config_from_saved(const char *text, size_t size, unsigned flags, char **argv,
                                 GError **error);
/* For config_from_arguments, while restoring: the options @text of a device of @type. */
bool config_override_device(struct config *config, const struct device_type *type, const char *what,
                            const char *text, GError **error);
/* Connects the terminal to the console that run option "console" names, and to no other. */
bool config_override_console(struct config *config, GError **error);
/* For one of many from a snapshot: what it writes to disks is temporary, unless snapshot= was given. */
bool config_make_copy(struct config *config, GError **error);
/* Connects a prepared guest's console as run option "verbose" says. */
bool config_override_verbose(struct config *config, GError **error);
/* From another host: leaves out what names something of that host, in a device or in run options. */
void config_drop_foreign(JsonObject *device, const struct device_type *type);
void config_drop_foreign_run(JsonObject *run);
/* Have all devices what they can't do without? */
bool config_check_complete(struct config *config, GError **error);
/* The id of the device at @index: given, or the one that it will get. The caller frees it. */
char *config_device_id(const struct config *config, guint index);
/*
 * As JSON, for a snapshot: without what belongs to the run and not to the machine (its files, sockets
 * and limits), host paths made absolute. The caller owns the object; "devices" is in it as in
 * config_to_json.
 */
JsonObject *config_to_save(const struct config *config);

/* The type of a device in JSON is its "device"; an option of its own of that name is "device-name" there. */
void config_put_type(JsonObject *device, const struct device_type *type);
void config_take_type(JsonObject *device);

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
