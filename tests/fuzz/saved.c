/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration of a saved machine as a hostile source of a migration may send it: what a target
 * makes of it, with and without options of its own. From another host nothing may be left in it that
 * names something of this one.
 */
#include <stdlib.h>
#include <string.h>

#include "lodge/configuration.h"
#include "lodge/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_foreign(const struct config *config)
{
    static const char *const run[] = {"kernel", "initrd",   "control",
                                      "result", "log-file", "prepare"};

    for (unsigned i = 0; i < G_N_ELEMENTS(run); i++)
        check(!options_given(config->run, run[i]));
    for (guint i = 0; i < config->devices->len; i++) {
        const struct device_config *device = g_ptr_array_index(config->devices, i);
        const struct option_spec *spec = device_type_options(device->type);

        for (; spec->key; spec++)
            check(!device_type_is_host_key(device->type, spec->key) ||
                  !options_given(device->options, spec->key) ||
                  (!strcmp(spec->key, "type") &&
                   !strcmp(options_string(device->options, "type"), "null")));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *none[] = {NULL};
    char *some[] = {(char *)"--disk",
                    (char *)"path=/nowhere",
                    (char *)"--console",
                    (char *)"serial",
                    (char *)"-c",
                    (char *)"2",
                    NULL};
    g_autofree char *text = g_strndup((const char *)data, size);

    for (unsigned flags = 0; flags < 4; flags++) {
        for (unsigned i = 0; i < 2; i++) {
            g_autoptr(GError) error = NULL;
            g_autoptr(config_t) config =
                config_from_saved(text, strlen(text), flags, i ? some : none, &error);

            check(!config == (error != NULL));
            if (config && flags & CONFIG_FOREIGN && !i)
                check_foreign(config);
            if (config) {
                JsonObject *object = config_to_save(config);

                json_object_unref(object);
                config_make_copy(config, NULL);
                config_override_verbose(config, NULL);
            }
        }
    }
    config_free(restore_config_text(text, strlen(text), true, some, NULL));
    return 0;
}
