/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * prepare - `lodge prepare KERNEL...`: unpacks kernels into the cache before they are booted
 *
 * For whoever boots them somewhere slower (the tests, before they enter the lab). A kernel that is not
 * one to unpack is none to complain about.
 */
#include <stdio.h>
#include <string.h>

#include "firmware/boot.h"
#include "lodge/commands.h"
#include "lodge/exitcode.h"

int command_prepare(char **argv)
{
    int code = 0;

    if (!argv[0] || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h")) {
        fprintf(
            argv[0] ? stdout : stderr,
            "Usage: lodge prepare KERNEL...\n\n"
            "Unpacks kernels into the cache, so that they start at once when they are booted.\n");
        return argv[0] ? 0 : EXIT_LODGE;
    }
    for (; *argv; argv++) {
        g_autoptr(GError) error = NULL;

        if (boot_prepare(*argv, NULL, &error))
            continue;
        fprintf(stderr, "lodge: prepare: %s\n", error->message);
        code = EXIT_LODGE;
    }
    return code;
}
