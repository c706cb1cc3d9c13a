/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of init share. init is one thread; nothing here is safe for more. Every function
 * that can't do its work before the command runs calls fail(), which does not return.
 */
#ifndef GUEST_IMAGES_INIT_INIT_H
#define GUEST_IMAGES_INIT_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "protocol.h"

/* Settings of the kernel command line, in the order given; value is "" for a key without one. */
struct setting {
    const char *key; /* without "lodge." */
    const char *value;
};

struct strings {
    char **item; /* NULL-terminated once something was added */
    size_t count;
};

/* The command: from START, or from lodge.exec= on the kernel command line. */
struct command {
    struct strings args;
    struct strings env;
    struct strings mounts;
    struct strings addresses;
    const char *cwd;
    const char *hostname;
    const char *clock;    /* "SECONDS.NANOSECONDS" to set CLOCK_REALTIME to, or NULL */
    const char *stdio[3]; /* "port", "null", "console"; NULL: port where there is one */
    bool tty;
    unsigned rows, cols;
    bool ids; /* uid and gid given */
    unsigned uid, gid;
    unsigned groups[64];
    size_t group_count;
};

/* util.c */
void strings_add(struct strings *list, const char *item);
void *must_alloc(size_t size);
char *must_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *read_text(const char *path); /* whole file, NUL-terminated, or NULL */
bool write_text(const char *path, const char *text);
void make_dirs(const char *path); /* mkdir -p, errors show up where the path is used */
bool parse_unsigned(const char *text, unsigned long max, unsigned long *value);
bool write_port(uint16_t port, uint8_t value);
void progress(uint8_t code);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ns(void); /* CLOCK_BOOTTIME */
void sleep_ms(unsigned ms);

/* init.c */
const char *setting(const char *key); /* the last value given, or NULL */
const struct setting *setting_next(const char *key, const struct setting *after);
/* Says what failed on the console and over the control port, and ends the machine. */
void fail(int status, const char *stage, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
/* Ends the machine as lodge.end= says; status is what an exit port is told. */
void end_machine(int status) __attribute__((noreturn));

/* root.c */
void root_early(void);  /* /proc /sys /dev of the initramfs */
void root_enter(void);  /* mounts the root that lodge.root= names and makes it "/" */
void root_shares(void); /* lodge.mount= */
void root_mount_share(const char *spec);

/* net.c */
void net_loopback(void);
void net_configure(const char *spec); /* lodge.ip= */
void net_set_mac(const char *spec);   /* "BEFORE,AFTER": of the interface that has BEFORE */

/* copy.c */
void copy_from_frame(char *payload, size_t length); /* COPY: this guest is one of many */

/* power.c */
size_t power_open(int fds[], size_t room); /* input devices with a power button */
bool power_pressed(int fd);                /* reads what is there */

/* control.c */
void control_open(void); /* finds the ports; fails if there is no control port in time */
void control_try(void);  /* the control port alone, to report a failure before control_open */
bool control_is_open(void);
int control_fd(void);
int control_port(int stream); /* stdin 0, stdout 1, stderr 2: descriptor, or -1 */
void control_close_port(int stream);
void control_send(uint16_t type, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Reads what is there. 1: *type and *payload (NUL-terminated fields) are one frame, valid until the
 * next call; 0: no whole frame yet; -1: the host is gone or broke the protocol. */
int control_receive(uint16_t *type, char **payload, size_t *length);
/* The next "key=value" field of a payload; advances *at. */
bool control_field(char **at, const char *end, char **key, char **value);
void control_wait(int timeout_ms); /* until the control port is readable */

/* command.c */
void command_from_start(struct command *command, char *payload, size_t length);
void command_rehearse(struct command *command); /* runs it, heard by nobody */
void command_run(struct command *command) __attribute__((noreturn));

#endif
