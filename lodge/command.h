/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command - `lodge run -- COMMAND`: runs one command in the guest as if it ran here
 *
 * The host side of guest-images/protocol.md: four console ports carry control frames and the
 * command's three streams; its exit status, signals and ends of file are passed through exactly.
 *
 * Thread: main.
 */
#ifndef LODGE_COMMAND_H
#define LODGE_COMMAND_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lodge/machine.h"

struct command;
struct virtio_device;

/* @config has the command; it outlives the result. @descriptors (not owned): the command's standard
 * input, output and error. */
struct command *command_create(const struct config *config, const int descriptors[3]);
/* Adds the four ports to a console device that no transport has yet. */
bool command_add_ports(struct command *command, struct virtio_device *console, GError **error);
/* Instead of starting a command once the guest waits for one, calls @prepared (from a port's receive). */
void command_set_prepared(struct command *command, void (*prepared)(void *opaque), void *opaque);
/* The guest waits for its command, restored: it gets fields @identity of a COPY frame, and starts. */
void command_resume(struct command *command, const GByteArray *identity);
/* The machine that is to end with the command. */
void command_set_machine(struct command *command, struct machine *machine);
/* Before machine_destroy. */
void command_destroy(struct command *command);
/* At the end: writes out what it still holds of the command's output. */
void command_write_out(struct command *command);

/* Passes signal @number on; false while there is nothing to pass it to (the caller then ends). */
bool command_signal(struct command *command, int number);
void command_window_size(struct command *command, unsigned rows, unsigned columns);

/* The guest powers off or resets: is it because its command has ended? The command then makes the
 * request that ends the machine, once its output has been written. */
bool command_guest_ends(const struct command *command);
/* Nanoseconds of the guest's clock from its boot to init and to readiness; 0 if not known. */
void command_guest_times(const struct command *command, uint64_t *init_ns, uint64_t *ready_ns);

#endif
