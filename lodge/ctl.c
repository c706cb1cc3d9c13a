/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl - `lodge ctl SOCKET COMMAND [KEY=VALUE...]`: one command to a running lodge
 *
 * Prints the answer as JSON. `migrate ADDRESS wait` stays until the guest has moved, or has not.
 * `lodge ctl SOCKET events` prints events, one a line, until the guest
 * ends. Exit code 0, 1 when the command failed, 125 when the socket can't be talked to.
 */
#include <errno.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "lodge/commands.h"
#include "lodge/control.h"
#include "lodge/exitcode.h"
#include "vmm/fd.h"

/* What is asked of an answer; the other side may be anything. */
#define ANSWER_DEPTH    32
#define ANSWER_BRACKETS 20000
#define ANSWER_SIZE     (16u << 20) /* bytes */
#define GREETING_WAIT   10          /* seconds; a lodge greets at once */

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
        close_fd(fd);
        return NULL;
    }
    return fdopen(fd, "r+");
}

/* How long to wait for what is read next; 0: for ever. */
static void set_wait(FILE *stream, unsigned seconds)
{
    struct timeval wait = {.tv_sec = seconds};

    setsockopt(fileno(stream), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
}

static bool receive_line(FILE *stream, GString *line)
{
    int c;

    g_string_truncate(line, 0);
    while ((c = getc_unlocked(stream)) != EOF && c != '\n')
        if (line->len < ANSWER_SIZE)
            g_string_append_c(line, (char)c);
    return c != EOF;
}

/* The next object from the monitor, or NULL at its end. */
static JsonNode *receive(FILE *stream)
{
    g_autoptr(GString) line = g_string_new(NULL);
    JsonNode *node = NULL;

    while (!node && receive_line(stream, line))
        if (line->len < ANSWER_SIZE &&
            options_json_is_flat(line->str, ANSWER_DEPTH, ANSWER_BRACKETS))
            node = json_from_string(line->str, NULL);
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
    /* Not by the stream: what it has read ahead would be lost. */
    if (dprintf(fileno(stream), "%s\n", text) < 0) {
        /* The next read tells that the other side is gone. */
    }
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

/* ---- migrate ... wait ---- */

static const char *member(JsonObject *object, const char *name)
{
    return object ? json_object_get_string_member_with_default(object, name, "") : "";
}

/* The object within: "return" of an answer, "data" of an event, or NULL. */
static JsonObject *inner(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static void show_progress(JsonObject *migration, bool last)
{
    gint64 left = json_object_get_int_member_with_default(migration, "remaining-bytes", 0);
    gint64 sent = json_object_get_int_member_with_default(migration, "sent-bytes", 0);
    gint64 ms = json_object_get_int_member_with_default(migration, "total-ms", 0);
    gint64 round = json_object_get_int_member_with_default(migration, "rounds", 0);

    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr,
            "\r\033[Kmigration: %s, round %" G_GINT64_FORMAT ", %" G_GINT64_FORMAT
            " MiB sent, %" G_GINT64_FORMAT " MiB left, %.1f s%s",
            member(migration, "status"), round + 1, sent >> 20, left >> 20, (double)ms / 1000,
            last ? "\n" : "");
}

/* What this answer or event says of the migration's end: 0 good, 1 bad, -1 not yet. */
static int judge(JsonObject *object)
{
    JsonObject *data = inner(object, "data");
    JsonObject *migration = data ? data : inner(object, "return");
    const char *event = member(object, "event"), *status;

    if (!strcmp(event, "SHUTDOWN"))
        return strcmp(member(data, "reason"), "migrated") ? 1 : 0;
    if (!migration || (*event && strcmp(event, "MIGRATION")))
        return -1;
    status = member(migration, "status");
    if (!strcmp(status, "failed") || !strcmp(status, "cancelled") || !strcmp(status, "lost")) {
        show_progress(migration, true);
        fprintf(stderr, "lodge: ctl: %s\n", member(migration, "error"));
        return 1;
    }
    show_progress(migration, !strcmp(status, "completed"));
    return strcmp(status, "completed") ? -1 : 0;
}

/* Asks again and again, until it is over or the monitor is gone. */
static int follow_migration(FILE *stream)
{
    int code = -1;

    while (code < 0) {
        bool answered = false;

        send_command(stream, "query-migrate", NULL);
        while (code < 0 && !answered) {
            JsonNode *node = receive(stream);
            JsonObject *object =
                node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

            if (!node)
                return -1;
            if (object) {
                answered = json_object_has_member(object, "return");
                code = judge(object);
            }
            json_node_unref(node);
        }
        if (code < 0)
            g_usleep(100000);
    }
    return code;
}

/* "wait" among the words of migrate is ours; takes it out. */
static bool take_wait(char **words, const char *command)
{
    for (; !strcmp(command, "migrate") && *words; words++)
        if (!strcmp(*words, "wait") || !strcmp(*words, "wait=on")) {
            memmove(words, words + 1, (g_strv_length(words + 1) + 1) * sizeof(*words));
            return true;
        }
    return false;
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
    printf("\n`migrate ADDRESS wait` shows how far it is, and ends with it: exit code 0 when the "
           "guest has moved.\n");
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
    set_wait(stream, GREETING_WAIT);
    greeting = receive(stream);
    if (!greeting) {
        bool silent = ferror(stream) && errno == EAGAIN;

        fclose(stream);
        return complain(argv[0], silent
                                     ? "no greeting in 10 s: not a lodge, or a stopped one"
                                     : "the other side is not a lodge: it closed the connection");
    }
    json_node_unref(greeting);
    send_command(stream, "qmp_capabilities", NULL);
    code = await_answer(stream);
    set_wait(stream, 0);
    if (!strcmp(argv[1], "events")) {
        code = code ? code : print_events(stream);
    } else {
        bool wait = take_wait(argv + 2, argv[1]);

        send_command(stream, argv[1], read_arguments(argv + 2, argv[1]));
        code = await_answer(stream);
        if (wait && !code)
            code = follow_migration(stream);
    }
    if (code < 0 && !strcmp(argv[1], "quit"))
        code = 0;
    fclose(stream);
    return code < 0 ? complain(argv[0], "closed before it answered") : code;
}
