/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio-console ports: found by name, opened once, kept open. The control port carries frames
 * (protocol.h); what the host sends is checked as it comes, a frame that is too long ends the talk.
 */
#include "guest-images/init/init.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PORTS_DIR    "/sys/class/virtio-ports"
#define PORT_WAIT    10000 /* ms for the control port to appear */
#define CONNECT_WAIT 1000  /* ms for the host's side of a port to open */

static int control = -1;
static int stream_ports[3] = {-1, -1, -1};

static char *frame; /* header and payload being received */
static size_t frame_have, frame_room;

/* Opens the port of this name: -1 if there is none (yet). */
static int open_port(const char *name)
{
    DIR *dir = opendir(PORTS_DIR);
    struct dirent *entry;
    int fd = -1;

    while (dir && fd < 0 && (entry = readdir(dir))) {
        char path[sizeof(PORTS_DIR) + 300], *have;

        if (*entry->d_name == '.')
            continue;
        snprintf(path, sizeof(path), PORTS_DIR "/%s/name", entry->d_name);
        have = read_text(path);
        if (!have)
            continue;
        have[strcspn(have, "\n")] = 0;
        if (!strcmp(have, name)) {
            snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
            fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        }
        free(have);
    }
    if (dir)
        closedir(dir);
    return fd;
}

/* A port's name may be there a moment before the host's "open" event: a read before it would look
 * like the end of input. */
static void wait_connected(int fd)
{
    uint64_t until = now_ns() + (uint64_t)CONNECT_WAIT * 1000000;
    struct pollfd poll_fd = {.fd = fd};

    while (poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLHUP) && now_ns() < until)
        sleep_ms(1);
}

/* lodge.control=NAMES: which streams the host offers, any of "stdin,stdout,stderr"; the control port
 * itself is implied. Only what is named is waited for. */
static void open_streams(uint64_t until)
{
    static const char *const names[3] = {LODGE_PORT_STDIN, LODGE_PORT_STDOUT, LODGE_PORT_STDERR};
    static const char *const words[3] = {"stdin", "stdout", "stderr"};
    char *list = must_format("%s", setting("control"));

    for (char *save, *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        int i = 0;

        while (i < 3 && strcmp(word, words[i]))
            i++;
        if (i == 3)
            fail(LODGE_STATUS_FAILED, "control",
                 "lodge.control=%s: %s is none of stdin, stdout, stderr", setting("control"), word);
        while (stream_ports[i] < 0 && (stream_ports[i] = open_port(names[i])) < 0) {
            if (now_ns() > until)
                fail(LODGE_STATUS_FAILED, "control", "no virtio-console port named %s", names[i]);
            sleep_ms(1);
        }
        wait_connected(stream_ports[i]);
    }
    free(list);
}

void control_open(void)
{
    uint64_t until = now_ns() + (uint64_t)PORT_WAIT * 1000000;

    while ((control = open_port(LODGE_PORT_CONTROL)) < 0) {
        if (now_ns() > until)
            fail(LODGE_STATUS_FAILED, "control",
                 "no virtio-console port named %s (is virtio_console loaded?)", LODGE_PORT_CONTROL);
        sleep_ms(1);
    }
    wait_connected(control);
    open_streams(until);
}

void control_try(void)
{
    for (int i = 0; i < 100 && (control = open_port(LODGE_PORT_CONTROL)) < 0; i++)
        sleep_ms(5);
    if (control >= 0)
        wait_connected(control);
}

bool control_is_open(void)
{
    return control >= 0;
}

int control_fd(void)
{
    return control;
}

int control_port(int stream)
{
    return stream_ports[stream];
}

void control_close_port(int stream)
{
    if (stream_ports[stream] >= 0)
        close(stream_ports[stream]);
    stream_ports[stream] = -1;
}

void control_wait(int timeout_ms)
{
    struct pollfd poll_fd = {.fd = control, .events = POLLIN};

    poll(&poll_fd, 1, timeout_ms);
}

static bool send_all(const char *data, size_t length)
{
    while (length) {
        ssize_t sent = write(control, data, length);

        if (sent < 0 && errno == EAGAIN) {
            struct pollfd poll_fd = {.fd = control, .events = POLLOUT};

            poll(&poll_fd, 1, 1000);
            if (poll_fd.revents & POLLHUP)
                return false;
            continue;
        }
        if (sent < 0)
            return false;
        data += sent;
        length -= (size_t)sent;
    }
    return true;
}

/* The format writes each field's NUL itself (%c of 0). */
void control_send(uint16_t type, const char *format, ...)
{
    struct {
        struct lodge_frame_header header;
        char payload[2048];
    } out;
    va_list args;
    int length;

    if (control < 0)
        return;
    va_start(args, format);
    length = vsnprintf(out.payload, sizeof(out.payload), format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= sizeof(out.payload))
        return;
    out.header.length = htole32((uint32_t)length);
    out.header.type = htole16(type);
    out.header.zero = 0;
    if (!send_all((char *)&out, sizeof(out.header) + (size_t)length))
        say("the host does not read the control port");
}

static bool frame_reserve(size_t room)
{
    char *grown;

    if (room <= frame_room)
        return true;
    grown = realloc(frame, room);
    if (!grown)
        return false;
    frame = grown;
    frame_room = room;
    return true;
}

int control_receive(uint16_t *type, char **payload, size_t *length)
{
    struct lodge_frame_header header;
    size_t want = sizeof(header);
    ssize_t got;

    for (;;) {
        if (frame_have >= sizeof(header)) {
            memcpy(&header, frame, sizeof(header));
            if (le32toh(header.length) > LODGE_FRAME_MAX_TO_GUEST) {
                say("a frame of %u bytes on the control port", le32toh(header.length));
                return -1;
            }
            want = sizeof(header) + le32toh(header.length);
            if (frame_have == want)
                break;
        }
        if (!frame_reserve(want + 1))
            return -1;
        got = read(control, frame + frame_have, want - frame_have);
        if (got < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        if (got == 0)
            return -1;
        frame_have += (size_t)got;
    }
    frame_have = 0;
    *type = le16toh(header.type);
    *payload = frame + sizeof(header);
    *length = le32toh(header.length);
    (*payload)[*length] = 0; /* so that an unterminated last field is harmless */
    return 1;
}

bool control_field(char **at, const char *end, char **key, char **value)
{
    char *equals;

    if (*at >= end)
        return false;
    *key = *at;
    *at += strlen(*at) + 1;
    equals = strchr(*key, '=');
    if (equals)
        *equals = 0;
    *value = equals ? equals + 1 : *at - 1;
    return true;
}
