/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control - connections, lines and events of the control socket (control.h) */
#include "lodge/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "vmm/log.h"
#include "vmm/loop.h"
#include "vmm/options.h"
#include "vmm/trace.h"
#include "vmm/unixsocket.h"

#define FLUSH_AT_END_MS 200

TRACE_EVENT(control_command, "%s", (const char *name), name)
TRACE_EVENT(control_event, "%s", (const char *name), name)

struct client {
    struct control *control;
    int fd;
    bool capabilities, dead;
    GString *in, *out;
    struct loop_fd *watch;
};

struct control {
    struct machine *machine;
    struct unixsocket *listener;
    GPtrArray *clients;
};

/* ---- output ---- */

static void client_update(struct client *client)
{
    loop_fd_set_events(client->watch, G_IO_IN | (client->out->len ? G_IO_OUT : 0));
}

static void client_flush(struct client *client)
{
    while (client->out->len && !client->dead) {
        ssize_t put =
            send(client->fd, client->out->str, client->out->len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN)
            break;
        if (put <= 0)
            client->dead = true;
        else
            g_string_erase(client->out, 0, put);
    }
    if (client->out->len > CONTROL_MAX_BACKLOG) {
        log_warn("control", "a client does not read its answers: disconnected");
        client->dead = true;
        shutdown(client->fd, SHUT_RDWR); /* client_ready frees it */
    }
    client_update(client);
}

/* Takes @object. */
static void client_send(struct client *client, JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    g_autofree char *text = NULL;

    json_node_take_object(node, object);
    if (!client->dead)
        text = json_to_string(node, FALSE);
    json_node_unref(node);
    if (!text)
        return;
    g_string_append(client->out, text);
    g_string_append(client->out, "\r\n");
    client_flush(client);
}

static void send_error(struct client *client, JsonNode *id, const char *class, const char *text)
{
    JsonObject *answer = json_object_new();
    JsonObject *error = json_object_new();

    json_object_set_string_member(error, "class", class);
    json_object_set_string_member(error, "desc", text);
    json_object_set_object_member(answer, "error", error);
    if (id)
        json_object_set_member(answer, "id", json_node_copy(id));
    client_send(client, answer);
}

static void send_greeting(struct client *client)
{
    JsonObject *greeting = json_object_new();
    JsonObject *qmp = json_object_new();
    JsonObject *version = json_object_new();

    json_object_set_string_member(version, "lodge", LODGE_VERSION);
    json_object_set_object_member(qmp, "version", version);
    json_object_set_array_member(qmp, "capabilities", json_array_new());
    json_object_set_object_member(greeting, "QMP", qmp);
    client_send(client, greeting);
}

/* ---- input ---- */

static const struct control_command *find_command(const char *name)
{
    for (const struct control_command *command = control_commands; command->name; command++)
        if (!strcmp(command->name, name))
            return command;
    return NULL;
}

static void execute(struct client *client, const struct control_command *command,
                    JsonObject *arguments, JsonNode *id)
{
    static const struct option_spec no_arguments[] = {{}};
    struct control *control = client->control;
    g_autoptr(GError) error = NULL;
    struct options *options;
    JsonObject *answer;
    JsonNode *value = NULL;

    trace_control_command(command->name);
    options = options_from_json(command->arguments ? command->arguments : no_arguments,
                                command->name, arguments, &error);
    if (options)
        value = command->run(control, control->machine, options, &error);
    options_free(options);
    if (error) {
        send_error(client, id, "GenericError", error->message);
        return;
    }
    if (!strcmp(command->name, "qmp_capabilities"))
        client->capabilities = true;
    answer = json_object_new();
    if (!value) {
        value = json_node_new(JSON_NODE_OBJECT);
        json_node_take_object(value, json_object_new());
    }
    json_object_set_member(answer, "return", value);
    if (id)
        json_object_set_member(answer, "id", json_node_copy(id));
    client_send(client, answer);
}

static void handle_object(struct client *client, JsonObject *object)
{
    JsonNode *id = json_object_get_member(object, "id");
    JsonNode *name = json_object_get_member(object, "execute");
    JsonNode *arguments = json_object_get_member(object, "arguments");
    g_autoptr(JsonObject) none = json_object_new();
    const struct control_command *command;
    const char *text =
        name && JSON_NODE_HOLDS_VALUE(name) && json_node_get_value_type(name) == G_TYPE_STRING
            ? json_node_get_string(name)
            : NULL;

    if (!text) {
        send_error(client, id, "GenericError", "an \"execute\" member with a string is needed");
        return;
    }
    if (arguments && !JSON_NODE_HOLDS_OBJECT(arguments)) {
        send_error(client, id, "GenericError", "\"arguments\" must be an object");
        return;
    }
    command = find_command(text);
    if (!command) {
        g_autofree char *why = g_strdup_printf("no command '%s'; query-commands lists them", text);

        send_error(client, id, "CommandNotFound", why);
        return;
    }
    execute(client, command, arguments ? json_node_get_object(arguments) : none, id);
}

static void handle_line(struct client *client, const char *line)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) error = NULL;
    JsonNode *root;

    if (!line[strspn(line, " \t\r")])
        return;
    if (!options_json_is_flat(line, CONTROL_MAX_DEPTH, CONTROL_MAX_BRACKETS)) {
        send_error(client, NULL, "GenericError",
                   "JSON is nested deeper than 16 levels, or has more than 1000 brackets");
        return;
    }
    if (!json_parser_load_from_data(parser, line, -1, &error)) {
        send_error(client, NULL, "GenericError", error->message);
        return;
    }
    root = json_parser_get_root(parser);
    if (root && JSON_NODE_HOLDS_OBJECT(root))
        handle_object(client, json_node_get_object(root));
    else
        send_error(client, NULL, "GenericError", "a JSON object is needed");
}

static void client_free(gpointer data)
{
    struct client *client = data;

    loop_fd_destroy(client->watch);
    close(client->fd);
    g_string_free(client->in, TRUE);
    g_string_free(client->out, TRUE);
    g_free(client);
}

static void client_ready(void *opaque, GIOCondition ready)
{
    struct client *client = opaque;
    char buffer[4096];
    ssize_t got;
    char *end;

    client_flush(client);
    if (ready & (G_IO_IN | G_IO_HUP | G_IO_ERR)) {
        got = recv(client->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            client->dead = true;
        for (ssize_t i = 0; i < got; i++)
            g_string_append_c(client->in, buffer[i] ? buffer[i] : ' ');
    }
    while (!client->dead && (end = strchr(client->in->str, '\n'))) {
        *end = '\0';
        handle_line(client, client->in->str);
        g_string_erase(client->in, 0, end + 1 - client->in->str);
    }
    if (client->in->len > CONTROL_MAX_LINE) {
        send_error(client, NULL, "GenericError", "a line is longer than 64 KiB");
        client->dead = true;
    }
    if (client->dead)
        g_ptr_array_remove(client->control->clients, client);
}

static void accept_client(void *opaque, int fd)
{
    struct control *control = opaque;
    struct client *client;

    if (control->clients->len >= CONTROL_MAX_CLIENTS) {
        log_warn("control", "more than %u clients: one was refused", CONTROL_MAX_CLIENTS);
        close(fd);
        return;
    }
    client = g_new0(struct client, 1);
    client->control = control;
    client->fd = fd;
    client->in = g_string_new(NULL);
    client->out = g_string_new(NULL);
    client->watch = loop_fd_create(loop_main(), fd, G_IO_IN, client_ready, client);
    g_ptr_array_add(control->clients, client);
    send_greeting(client);
}

/* ---- events ---- */

void control_event(struct control *control, const char *name, JsonObject *data)
{
    gint64 now = g_get_real_time();

    if (!control) {
        if (data)
            json_object_unref(data);
        return;
    }
    trace_control_event(name);
    for (guint i = 0; i < control->clients->len; i++) {
        struct client *client = g_ptr_array_index(control->clients, i);
        JsonObject *event = json_object_new();
        JsonObject *stamp = json_object_new();

        json_object_set_int_member(stamp, "seconds", now / 1000000);
        json_object_set_int_member(stamp, "microseconds", now % 1000000);
        json_object_set_string_member(event, "event", name);
        if (data)
            json_object_set_object_member(event, "data", json_object_ref(data));
        json_object_set_object_member(event, "timestamp", stamp);
        if (client->capabilities)
            client_send(client, event);
        else
            json_object_unref(event);
    }
    if (data)
        json_object_unref(data);
}

static void machine_event(struct machine *machine, const char *name)
{
    control_event(machine->control, name, NULL);
}

void control_announce_end(struct control *control)
{
    int64_t end = loop_now_ns() + FLUSH_AT_END_MS * INT64_C(1000000); /* for all clients */
    JsonObject *data;

    if (!control)
        return;
    data = json_object_new();
    json_object_set_string_member(data, "reason", shutdown_reason_name(control->machine->reason));
    if (control->machine->detail)
        json_object_set_string_member(data, "detail", control->machine->detail);
    if (control->machine->reason == SHUTDOWN_PANIC)
        control_event(control, "GUEST_PANICKED", NULL);
    control_event(control, "SHUTDOWN", data);
    for (guint i = 0; i < control->clients->len; i++) {
        struct client *client = g_ptr_array_index(control->clients, i);
        struct pollfd poller = {.fd = client->fd, .events = POLLOUT};
        int64_t left = (end - loop_now_ns()) / 1000000;

        if (client->out->len && poll(&poller, 1, MAX(left, 0)) == 1)
            client_flush(client);
    }
}

/* ---- life ---- */

struct control *control_create(struct machine *machine, const char *path, GError **error)
{
    g_autoptr(GError) reason = NULL;
    struct unixsocket *listener = unixsocket_create(path, SOCK_STREAM, 0600, &reason);
    struct control *control;

    if (!listener) {
        if (reason->code == UNIXSOCKET_ERROR_SERVED)
            g_set_error(error, OPTIONS_ERROR, 0,
                        "--control: %s: another program serves this socket; choose another path, "
                        "or end that guest with `lodge ctl %s quit`",
                        path, path);
        else
            g_set_error(error, OPTIONS_ERROR, 0, "--control: %s: %s", path, reason->message);
        return NULL;
    }
    control = g_new0(struct control, 1);
    control->machine = machine;
    control->listener = listener;
    control->clients = g_ptr_array_new_with_free_func(client_free);
    unixsocket_watch(listener, loop_main(), accept_client, control);
    machine->control = control;
    machine->event = machine_event;
    return control;
}

void control_destroy(struct control *control)
{
    if (!control)
        return;
    control->machine->event = NULL;
    control->machine->control = NULL;
    unixsocket_destroy(control->listener);
    g_ptr_array_unref(control->clients);
    g_free(control);
}
