/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control - the control socket: QMP's wire form on a UNIX stream socket
 *
 * JSON objects, one a line. Server: a greeting {"QMP": ...}; for each {"execute": NAME, "arguments":
 * {...}, "id": ANY} a {"return": ...} or {"error": {"class", "desc"}} with the same id; events
 * {"event": NAME, "data": {...}, "timestamp": {...}} after the client's qmp_capabilities. The command
 * query-schema describes every command, argument and event.
 *
 * A client is not trusted: lines are at most CONTROL_MAX_LINE bytes and CONTROL_MAX_DEPTH deep, a
 * client that does not read its answers is dropped once CONTROL_MAX_BACKLOG bytes wait.
 *
 * Thread: main.
 */
#ifndef LODGE_CONTROL_H
#define LODGE_CONTROL_H

#include <glib.h>
#include <json-glib/json-glib.h>

#include "lodge/machine.h"

#define CONTROL_MAX_LINE     65536u
#define CONTROL_MAX_DEPTH    16u
#define CONTROL_MAX_BRACKETS 1000u
#define CONTROL_MAX_BACKLOG  (4u << 20)
#define CONTROL_MAX_CLIENTS  16u

struct control;

/* Listens at @path (mode 0600). A socket file that nobody serves is replaced; one that is in use, or
 * another kind of file there, is an error. */
struct control *control_create(struct machine *machine, const char *path, GError **error);
void control_destroy(struct control *control); /* removes the socket file; NULL is allowed */

/* Sends an event to every client; takes @data (may be NULL). */
void control_event(struct control *control, const char *name, JsonObject *data);
/* SHUTDOWN (after GUEST_PANICKED, if it did), before the program ends, and waits a little for clients to read it. */
void control_announce_end(struct control *control);

/* ---- the commands (control_commands.c) ---- */

struct control_command {
    const char *name;
    const char *help;
    const struct option_spec *arguments; /* NULL: none */
    const char *returns;                 /* for the schema */
    /* The answer (NULL: an empty object), or NULL with @error set. */
    JsonNode *(*run)(struct control *control, struct machine *machine,
                     const struct options *arguments, GError **error);
};
extern const struct control_command control_commands[]; /* ends with a NULL name */

struct control_event_type {
    const char *name, *help;
};
extern const struct control_event_type control_event_types[]; /* ends with a NULL name */
/* "string", "uint": what the schema calls the type of an argument. */
const char *control_type_name(enum option_type type);

#endif
