/* SPDX-License-Identifier: GPL-2.0-or-later */
/* manual_control - docs/control.md: the control socket's page, from the tables that its schema is of */
#include <stdio.h>

#include "lodge/commands.h"
#include "lodge/control.h"

/* A bar would end a cell of a table. */
static void cell(const char *text)
{
    for (; *text; text++)
        printf(*text == '|' ? "\\|" : "%c", *text);
}

static void print_arguments(const struct option_spec *spec)
{
    for (; spec && spec->key; spec++) {
        printf("| | `%s`: %s%s", spec->key, control_type_name(spec->type),
               spec->flags & OPTION_REQUIRED ? ", required" : "");
        if (spec->value)
            printf(", default %s", spec->value);
        printf(" | ");
        cell(spec->help);
        printf(" | |\n");
    }
}

void print_control_page(void)
{
    printf(
        "# The control socket\n\n"
        "`lodge run --control SOCKET` listens on a UNIX stream socket that only its owner may "
        "use. It speaks QMP's wire form:\n"
        "JSON objects, one a line. `lodge ctl SOCKET COMMAND [KEY=VALUE...]` sends one command; "
        "`lodge ctl SOCKET events` prints events.\n\n"
        "```\n"
        "<- {\"QMP\": {\"version\": {\"lodge\": \"...\"}, \"capabilities\": []}}\n"
        "-> {\"execute\": \"qmp_capabilities\"}\n"
        "<- {\"return\": {}}\n"
        "-> {\"execute\": \"set-trace\", \"arguments\": {\"events\": \"virtio_blk_*\"}, "
        "\"id\": 7}\n"
        "<- {\"return\": {\"events\": 4}, \"id\": 7}\n"
        "<- {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"power-off\"}, "
        "\"timestamp\": {...}}\n"
        "```\n\n"
        "An error is `{\"error\": {\"class\": ..., \"desc\": ...}}`. Events are sent to "
        "clients that said `qmp_capabilities`. At most %u clients;\n"
        "a line has at most %u bytes and %u levels of nesting; a client that leaves more than %u "
        "MiB of answers unread is disconnected.\n\n"
        "This page is what `lodge manual control` prints, from the tables that answer "
        "`query-schema`.\n\n"
        "## Commands\n\n| command | arguments | | returns |\n|---|---|---|---|\n",
        CONTROL_MAX_CLIENTS, CONTROL_MAX_LINE, CONTROL_MAX_DEPTH, CONTROL_MAX_BACKLOG >> 20);
    for (const struct control_command *command = control_commands; command->name; command++) {
        printf("| `%s` | | ", command->name);
        cell(command->help);
        printf(" | `");
        cell(command->returns);
        printf("` |\n");
        print_arguments(command->arguments);
    }
    printf("\n## Events\n\n| event | |\n|---|---|\n");
    for (const struct control_event_type *event = control_event_types; event->name; event++) {
        printf("| `%s` | ", event->name);
        cell(event->help);
        printf(" |\n");
    }
}
