/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command - the host side of guest-images/protocol.md (command.h)
 *
 * A guest is not believed: frames are bounded, fields are parsed by length, what it says is cleaned
 * before a user reads it, and output that an exit announced is waited for no longer than GRACE_NS
 * after the last that came. What our reader has not taken yet is waited for as long as it takes.
 */
#include "lodge/command.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "backends/char/terminal.h"
#include "guest-images/init/protocol.h"
#include "lodge/stream.h"
#include "vmm/log.h"
#include "vmm/trace.h"

#define GRACE_NS (INT64_C(2000000000))

TRACE_EVENT(command_frame, "type=0x%02x length=%u", (unsigned type, unsigned length), type, length)

struct command {
    const struct config *config;
    struct machine *machine;
    struct console_port *control;
    struct stream *input, *output, *errors;
    GByteArray *incoming, *outgoing;
    bool ready, started, exited, done, tty;
    bool input_sent; /* STDIN_EOF was sent */
    bool broken;     /* what comes on the control port makes no sense */
    int status;
    uint64_t expected_output, expected_errors;
    uint64_t received; /* output in all, when the grace timer was set */
    uint64_t init_ns, ready_ns;
    char *error;
    struct loop_timer *grace;
    struct terminal_escape escape; /* --tty: Ctrl-A x ends the guest */
    struct log_limit control_limit;
    void (*prepared)(void *opaque); /* instead of START; NULL when it was called */
    void *prepared_opaque;
};

/* ---- sending ---- */

static void control_flush(struct command *command)
{
    while (command->outgoing->len) {
        size_t taken =
            console_port_write(command->control, command->outgoing->data, command->outgoing->len);

        if (!taken)
            break;
        g_byte_array_remove_range(command->outgoing, 0, taken);
    }
}

static void add_field(GByteArray *body, const char *key, const char *value)
{
    g_byte_array_append(body, (const guint8 *)key, strlen(key));
    g_byte_array_append(body, (const guint8 *)"=", 1);
    g_byte_array_append(body, (const guint8 *)value, strlen(value) + 1);
}

static void add_number(GByteArray *body, const char *key, uint64_t value)
{
    g_autofree char *text = g_strdup_printf("%" PRIu64, value);

    add_field(body, key, text);
}

static void send_frame(struct command *command, enum lodge_frame_type type, GByteArray *body)
{
    struct lodge_frame_header header = {
        .length = GUINT32_TO_LE(body ? body->len : 0),
        .type = GUINT16_TO_LE(type),
    };

    g_byte_array_append(command->outgoing, (const guint8 *)&header, sizeof(header));
    if (body)
        g_byte_array_append(command->outgoing, body->data, body->len);
    control_flush(command);
}

/* NAME=VALUE as given; NAME alone: ours, if we have it. */
static void add_environment(GByteArray *body, const char *const *given)
{
    static const char *const passed[] = {"PATH", "HOME",   "USER", "LOGNAME", "TERM",
                                         "LANG", "LC_ALL", "TZ",   NULL};

    for (unsigned i = 0; passed[i]; i++) {
        const char *value = getenv(passed[i]);
        g_autofree char *text = value ? g_strdup_printf("%s=%s", passed[i], value) : NULL;

        if (text)
            add_field(body, "env", text);
    }
    for (; given && *given; given++) {
        const char *value = strchr(*given, '=') ? NULL : getenv(*given);
        g_autofree char *text = value ? g_strdup_printf("%s=%s", *given, value) : NULL;

        if (text || strchr(*given, '='))
            add_field(body, "env", text ? text : *given);
    }
}

/* What to run, and with which environment. */
static void add_command(GByteArray *body, const struct config *config, char *const *words)
{
    for (; *words; words++)
        add_field(body, "arg", *words);
    add_environment(body, options_list(config->run, "env"));
}

/* The shell, a program that it finds, the loader, libc and the locale: most commands begin with them.
 * Not in our folder: that one changes, if only by what is prepared in it, and whatever the guest knows
 * of must not (virtio/9p_state.c). */
static void send_warm(struct command *command)
{
    static char *const words[] = {"sh", "-c", "exec env echo", NULL};
    g_autoptr(GByteArray) body = g_byte_array_new();

    add_command(body, command->config, words);
    send_frame(command, LODGE_FRAME_WARM, body);
}

static void send_start(struct command *command)
{
    const struct config *config = command->config;
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree char *here = g_get_current_dir();
    const char *cwd = options_string(config->run, "cwd");
    struct winsize size;
    struct timespec now;
    g_autofree char *clock = NULL;

    add_command(body, config, config->command);
    add_field(body, "cwd", cwd ? cwd : here);
    clock_gettime(CLOCK_REALTIME, &now);
    clock = g_strdup_printf("%lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
    add_field(body, "clock", clock);
    if (command->tty) {
        add_field(body, "tty", "1");
        if (!ioctl(STDIN_FILENO, TIOCGWINSZ, &size)) {
            add_number(body, "rows", size.ws_row);
            add_number(body, "cols", size.ws_col);
        }
    }
    send_frame(command, LODGE_FRAME_START, body);
}

void command_resume(struct command *command, const GByteArray *identity)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    g_byte_array_append(body, identity->data, identity->len);
    command->ready = true;
    send_frame(command, LODGE_FRAME_COPY, body);
    send_start(command);
}

void command_set_prepared(struct command *command, void (*prepared)(void *opaque), void *opaque)
{
    command->prepared = prepared;
    command->prepared_opaque = opaque;
}

bool command_signal(struct command *command, int number)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    if (!command->started || command->exited)
        return false;
    add_number(body, "signal", number);
    send_frame(command, LODGE_FRAME_SIGNAL, body);
    return true;
}

void command_window_size(struct command *command, unsigned rows, unsigned columns)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    if (!command->tty || !command->started)
        return;
    add_number(body, "rows", rows);
    add_number(body, "cols", columns);
    send_frame(command, LODGE_FRAME_WINSIZE, body);
}

static void input_ended(void *opaque)
{
    struct command *command = opaque;
    g_autoptr(GByteArray) body = g_byte_array_new();

    if (command->input_sent)
        return;
    command->input_sent = true;
    add_number(body, "bytes", stream_bytes(command->input));
    send_frame(command, LODGE_FRAME_STDIN_EOF, body);
}

/* ---- --tty: the terminal is the command's, from its start to its end ---- */

static void look_at_foreground(void *opaque)
{
    struct command *command = opaque;
    bool ours = terminal_in_foreground();

    if (ours)
        terminal_make_raw(false);
    stream_hold(command->input, !ours);
}

static void take_terminal(struct command *command)
{
    if (!command->tty || !isatty(STDIN_FILENO))
        return;
    if (terminal_open(loop_main(), look_at_foreground, command))
        look_at_foreground(command);
    else
        log_warn("command", "the terminal can't be made raw: %s", g_strerror(errno));
}

static void terminal_key(void *opaque, char key)
{
    struct command *command = opaque;

    if (key == 'x')
        machine_request(command->machine, SHUTDOWN_QUIT, 128 + SIGINT, NULL);
}

static size_t filter_keys(void *opaque, uint8_t *data, size_t size)
{
    return terminal_filter(opaque, data, size);
}

/* ---- receiving ---- */

/* The value of @key in a frame's fields, or NULL; fields are NUL-terminated (checked before). */
static const char *find_field(const char *fields, size_t length, const char *key)
{
    size_t key_length = strlen(key);

    for (const char *end = fields + length; fields < end; fields += strlen(fields) + 1)
        if (!strncmp(fields, key, key_length) && fields[key_length] == '=')
            return fields + key_length + 1;
    return NULL;
}

static uint64_t find_number(const char *fields, size_t length, const char *key, uint64_t missing)
{
    const char *value = find_field(fields, length, key);

    return value ? g_ascii_strtoull(value, NULL, 10) : missing;
}

static void conclude(void *opaque)
{
    struct command *command = opaque;

    if (command->done)
        return;
    command->done = true;
    machine_request(command->machine, SHUTDOWN_COMMAND_DONE, command->status, command->error);
}

static bool output_done(const struct stream *stream, uint64_t expected)
{
    return stream_failed(stream) || (stream_received(stream) >= expected && !stream_waits(stream));
}

/* Done when all output that the guest announced has been written. */
static void look_whether_done(void *opaque)
{
    struct command *command = opaque;

    if (!command->exited || command->done)
        return;
    if (output_done(command->output, command->expected_output) &&
        output_done(command->errors, command->expected_errors))
        conclude(command);
}

/* Has nothing come for GRACE_NS, while we could have taken it? */
static void grace_ended(void *opaque)
{
    struct command *command = opaque;
    uint64_t received = stream_received(command->output) + stream_received(command->errors);

    if (!stream_waits(command->output) && !stream_waits(command->errors) &&
        received == command->received) {
        conclude(command);
        return;
    }
    command->received = received;
    loop_timer_set(command->grace, loop_now_ns() + GRACE_NS);
}

static void handle_exit(struct command *command, const char *fields, size_t length)
{
    uint64_t signal = find_number(fields, length, "signal", 0);

    command->exited = true;
    command->status = signal ? 128 + (signal & 127) : find_number(fields, length, "code", 0) & 255;
    command->expected_output = find_number(fields, length, "stdout", 0);
    command->expected_errors = find_number(fields, length, "stderr", 0);
    command->received = stream_received(command->output) + stream_received(command->errors);
    loop_timer_set(command->grace, loop_now_ns() + GRACE_NS);
    look_whether_done(command);
}

/* What a guest says, as one line that does nothing to a terminal. */
static char *clean(const char *text)
{
    char *line = g_utf8_make_valid(text, -1);

    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    return line;
}

static void handle_error(struct command *command, const char *fields, size_t length)
{
    const char *message = find_field(fields, length, "message");

    if (!message)
        message = find_field(fields, length, "stage");
    command->exited = true;
    command->status = find_number(fields, length, "code", LODGE_STATUS_FAILED) & 255;
    command->error = clean(message ? message : "the guest does not say why");
    conclude(command);
}

static void guest_is_prepared(struct command *command)
{
    void (*prepared)(void *) = g_steal_pointer(&command->prepared);

    if (prepared)
        prepared(command->prepared_opaque);
}

static void handle_hello(struct command *command, const char *fields, size_t length)
{
    command->ready = true;
    command->init_ns = find_number(fields, length, "init-ns", 0);
    command->ready_ns = find_number(fields, length, "ready-ns", 0);
    if (!command->prepared)
        send_start(command);
    else if (find_number(fields, length, "version", 1) >= 2)
        send_warm(command);
    else
        guest_is_prepared(command);
}

static void handle_frame(struct command *command, unsigned type, const char *fields, size_t length)
{
    trace_command_frame(type, length);
    if (length && fields[length - 1] != '\0') {
        log_guest(&command->control_limit, "command", "a control frame is not terminated");
        return;
    }
    switch (type) {
    case LODGE_FRAME_HELLO:
        if (!command->ready)
            handle_hello(command, fields, length);
        break;
    case LODGE_FRAME_WARMED:
        if (command->ready)
            guest_is_prepared(command);
        break;
    case LODGE_FRAME_STARTED:
        if (command->started || command->exited)
            break;
        command->started = true;
        take_terminal(command);
        stream_start(command->input);
        break;
    case LODGE_FRAME_EXIT:
        if (!command->exited)
            handle_exit(command, fields, length);
        break;
    case LODGE_FRAME_ERROR:
        if (!command->exited)
            handle_error(command, fields, length);
        break;
    }
}

static size_t control_receive(void *opaque, const uint8_t *data, size_t size)
{
    struct command *command = opaque;
    struct lodge_frame_header header;

    if (command->broken)
        return size;
    g_byte_array_append(command->incoming, data, size);
    while (command->incoming->len >= sizeof(header)) {
        size_t length;

        memcpy(&header, command->incoming->data, sizeof(header));
        length = GUINT32_FROM_LE(header.length);
        if (length > LODGE_FRAME_MAX_TO_HOST) {
            command->broken = true;
            machine_request(command->machine, SHUTDOWN_INTERNAL_ERROR, 0,
                            "the guest's init sent a control frame of more than 64 KiB");
            g_byte_array_set_size(command->incoming, 0);
            return size;
        }
        if (command->incoming->len < sizeof(header) + length)
            break;
        handle_frame(command, GUINT16_FROM_LE(header.type),
                     (const char *)command->incoming->data + sizeof(header), length);
        g_byte_array_remove_range(command->incoming, 0, sizeof(header) + length);
    }
    return size;
}

static void control_writable(void *opaque)
{
    control_flush(opaque);
}

static const struct console_port_ops control_ops = {
    .receive = control_receive,
    .writable = control_writable,
};

/* ---- life ---- */

static bool add_stream(struct virtio_device *console, const char *name, struct stream *stream,
                       GError **error)
{
    struct console_port *port =
        virtio_console_add_port(console, name, false, &stream_port_ops, stream, error);

    if (!port)
        return false;
    stream_set_port(stream, port);
    console_port_set_open(port, true);
    return true;
}

struct command *command_create(const struct config *config, const int descriptors[3])
{
    struct command *command = g_new0(struct command, 1);

    command->config = config;
    command->tty = options_bool(config->run, "tty");
    command->incoming = g_byte_array_new();
    command->outgoing = g_byte_array_new();
    command->input = stream_create_input(descriptors[0], input_ended, command);
    command->escape = (struct terminal_escape){.key = terminal_key, .opaque = command};
    if (command->tty && isatty(descriptors[0]))
        stream_set_filter(command->input, filter_keys, &command->escape);
    command->output = stream_create_output(descriptors[1], look_whether_done, command);
    command->errors = stream_create_output(descriptors[2], look_whether_done, command);
    command->grace = loop_timer_create(loop_main(), grace_ended, command);
    return command;
}

bool command_add_ports(struct command *command, struct virtio_device *console, GError **error)
{
    command->control =
        virtio_console_add_port(console, LODGE_PORT_CONTROL, false, &control_ops, command, error);
    if (!command->control || !add_stream(console, LODGE_PORT_STDIN, command->input, error) ||
        !add_stream(console, LODGE_PORT_STDOUT, command->output, error) ||
        /* A guest that was prepared has them all, also for a command with a terminal. */
        ((!command->tty || command->config->prepare) &&
         !add_stream(console, LODGE_PORT_STDERR, command->errors, error)))
        return false;
    console_port_set_open(command->control, true);
    return true;
}

void command_set_machine(struct command *command, struct machine *machine)
{
    command->machine = machine;
}

void command_write_out(struct command *command)
{
    stream_write_out(command->output);
    stream_write_out(command->errors);
    terminal_close();
}

void command_destroy(struct command *command)
{
    if (!command)
        return;
    terminal_close();
    stream_destroy(command->input);
    stream_destroy(command->output);
    stream_destroy(command->errors);
    loop_timer_destroy(command->grace);
    g_byte_array_unref(command->incoming);
    g_byte_array_unref(command->outgoing);
    g_free(command->error);
    g_free(command);
}

bool command_guest_ends(const struct command *command)
{
    return command->exited;
}

void command_guest_times(const struct command *command, uint64_t *init_ns, uint64_t *ready_ns)
{
    *init_ns = command->init_ns;
    *ready_ns = command->ready_ns;
}
