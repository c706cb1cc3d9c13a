/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl - `lodge ctl SOCKET COMMAND [KEY=VALUE...]`: one command to a running lodge
 *
 * Prints the answer as JSON. `lodge ctl SOCKET events` prints events, one a line, until the guest
 * ends. Exit code 0, 1 when the command failed, 125 when the socket can't be talked to.
 */
#include <errno.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lodge/commands.h"
#include "lodge/control.h"
#include "lodge/exitcode.h"

/* What is asked of an answer; the other side may be anything. */
#define ANSWER_DEPTH    32
#define ANSWER_BRACKETS 20000

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "lodge: ctl: %s: %s\n", what, why);
    return EXIT_LODGE;
}

static FILE *connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    return fdopen(fd, "r+");
}

/* The next object from the monitor, or NULL at its end. */
static JsonNode *receive(FILE *stream)
{
    char *line = NULL;
    size_t room = 0;
    JsonNode *node = NULL;

    while (!node && getline(&line, &room, stream) > 0)
        node = options_json_is_flat(line, ANSWER_DEPTH, ANSWER_BRACKETS)
                   ? json_from_string(line, NULL)
                   : NULL;
    free(line);
    return node;
}

static void send_command(FILE *stream, const char *name, JsonObject *arguments)
{
    JsonObject *object = json_object_new();
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    g_autofree char *text = NULL;

    json_object_set_string_member(object, "execute", name);
    if (arguments)
        json_object_set_object_member(object, "arguments", arguments);
    json_node_take_object(node, object);
    text = json_to_string(node, FALSE);
    json_node_unref(node);
    fprintf(stream, "%s\n", text);
    fflush(stream);
}

static bool has_key(const struct option_spec *spec, const char *key)
{
    for (; spec && spec->key; spec++)
        if (!strcmp(spec->key, key))
            return true;
    return false;
}

/* KEY=VALUE words; a word that names no argument is the value of the command's first one. */
static JsonObject *read_arguments(char **words, const char *name)
{
    JsonObject *arguments = json_object_new();
    const struct control_command *command = control_commands;

    while (command->name && strcmp(command->name, name))
        command++;
    for (; *words; words++) {
        const char *equals = strchr(*words, '=');
        g_autofree char *key = equals ? g_strndup(*words, equals - *words) : NULL;
        bool first =
            command->name && command->arguments && (command->arguments[0].flags & OPTION_FIRST);

        if (key && (!first || has_key(command->arguments, key)))
            json_object_set_string_member(arguments, key, equals + 1);
        else if (first)
            json_object_set_string_member(arguments, command->arguments[0].key, *words);
        else
            json_object_set_string_member(arguments, *words, "on");
    }
    return arguments;
}

static int print_answer(JsonNode *node)
{
    JsonObject *object = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    g_autofree char *text = NULL;

    if (object && json_object_has_member(object, "error")) {
        JsonNode *error = json_object_get_member(object, "error");
        const char *why = JSON_NODE_HOLDS_OBJECT(error)
                              ? json_object_get_string_member_with_default(
                                    json_node_get_object(error), "desc", "unknown")
                              : "unknown";

        fprintf(stderr, "lodge: ctl: %s\n", why);
        return 1;
    }
    text = json_to_string(json_object_get_member(object, "return"), TRUE);
    if (strcmp(text, "{}"))
        puts(text);
    return 0;
}

/* Waits for the answer to the command that was sent; events come in between. */
static int await_answer(FILE *stream)
{
    JsonNode *node;
    int code = -1;

    while (code < 0 && (node = receive(stream))) {
        JsonObject *object = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

        if (object &&
            (json_object_has_member(object, "return") || json_object_has_member(object, "error")))
            code = print_answer(node);
        json_node_unref(node);
    }
    return code;
}

static int print_events(FILE *stream)
{
    JsonNode *node;

    while ((node = receive(stream))) {
        JsonObject *object = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

        if (object && json_object_has_member(object, "event")) {
            g_autofree char *text = json_to_string(node, FALSE);

            puts(text);
            fflush(stdout);
        }
        json_node_unref(node);
    }
    return 0;
}

static int print_help(void)
{
    printf("Usage: lodge ctl SOCKET COMMAND [KEY=VALUE...]\n\nCommands:\n");
    for (const struct control_command *command = control_commands; command->name; command++) {
        printf("  %-18s %s\n", command->name, command->help);
        for (const struct option_spec *spec = command->arguments; spec && spec->key; spec++)
            printf("  %-18s   %s: %s\n", "", spec->key, spec->help);
    }
    printf("  %-18s %s\n", "events", "print events, one a line, until the guest ends");
    return 0;
}

int command_ctl(char **argv)
{
    FILE *stream;
    JsonNode *greeting;
    int code;

    if (!argv[0] || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))
        return argv[0] ? print_help() : complain("SOCKET", "missing; see `lodge ctl --help`");
    if (!argv[1])
        return complain("COMMAND", "missing; see `lodge ctl --help`");
    stream = connect_to(argv[0]);
    if (!stream) {
        g_autofree char *why =
            g_strdup_printf("%s; the guest must run with --control %s", g_strerror(errno), argv[0]);

        return complain(argv[0], why);
    }
    greeting = receive(stream);
    if (!greeting) {
        fclose(stream);
        return complain(argv[0], "the other side is not a lodge: it closed the connection");
    }
    json_node_unref(greeting);
    send_command(stream, "qmp_capabilities", NULL);
    code = await_answer(stream);
    if (!strcmp(argv[1], "events")) {
        code = code ? code : print_events(stream);
    } else {
        send_command(stream, argv[1], read_arguments(argv + 2, argv[1]));
        code = await_answer(stream);
    }
    if (code < 0 && !strcmp(argv[1], "quit"))
        code = 0;
    fclose(stream);
    return code < 0 ? complain(argv[0], "closed before it answered") : code;
}
