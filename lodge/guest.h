/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guest - which kernel, initramfs and command line a run gets
 *
 * From the run options and the devices: the kernel given or the host's own; the initrd given, or one
 * made here of our init and the modules that the devices need; and what the command line must say for
 * the console, the panic behaviour and init.
 *
 * Thread: main.
 */
#ifndef LODGE_GUEST_H
#define LODGE_GUEST_H

#include <glib.h>
#include <stdbool.h>

#include "firmware/boot.h"
#include "lodge/configuration.h"

struct guest {
    char *kernel;
    char *initrd;
    GBytes *initramfs; /* made here, or NULL */
    GString *command_line;
};

/* Fills in devices that @config's run options imply (console, root share, defaults). */
bool guest_complete_config(struct config *config, GError **error);
struct guest *guest_create(const struct config *config, GError **error);
void guest_destroy(struct guest *guest); /* NULL is allowed */
void guest_boot_config(const struct guest *guest, const struct config *config,
                       struct boot_config *boot);

/* Where init lies: beside the program in a build folder, or where it was installed. */
char *guest_init_path(void);

#endif
