/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * driver - what a kind of char backend provides, and what char.c does for it
 *
 * char.c owns the buffers, the flow control and the descriptors' sources; a driver finds descriptors,
 * hands them over with char_connect(), and is told when a direction ends. Private to backends/char.
 *
 * Thread: the chardev's loop, but for open, which runs before anything else can.
 */
#ifndef BACKENDS_CHAR_DRIVER_H
#define BACKENDS_CHAR_DRIVER_H

#include "backends/char/char.h"

#define CHAR_OUTPUT_MAX 65536u /* bytes kept for a slow reader */
#define CHAR_INPUT_MAX  65536u /* typed ahead on a terminal */

/* One direction of a stream. */
struct char_end {
    int fd; /* -1: none. Not owned by char.c */
    bool is_socket;
    bool may_block; /* could not be made non-blocking without changing it for others */
    struct loop_fd *source;
};

struct char_driver {
    const char *type;
    bool (*open)(struct chardev *chardev, const struct options *options, GError **error);
    void (*close)(struct chardev *chardev); /* also after a failed open */
    /* Input, in place: returns how many bytes are for the client. Then it is read even while the
     * client can take none (up to CHAR_INPUT_MAX). NULL: as it comes. */
    size_t (*filter)(struct chardev *chardev, uint8_t *data, size_t size);
    /* The input is at its end, or broken. */
    void (*input_ended)(struct chardev *chardev);
    /* Nobody takes output any more; what was pending is gone. */
    void (*output_broken)(struct chardev *chardev);
    /* All output is out after char_end_output(). NULL: nothing to tell the peer. */
    void (*output_ended)(struct chardev *chardev);
};

struct chardev {
    const struct char_driver *driver;
    struct loop *loop;
    char *address;
    void *state; /* of the driver */

    const struct chardev_client_ops *client;
    void *client_opaque;
    void (*observe)(void *opaque, const uint8_t *data, size_t size);
    void *observe_opaque;
    bool (*escape)(void *opaque, char key);
    void *escape_opaque;

    bool input_held; /* by the driver, whatever room there is */
    bool connected;  /* as the client was or will be told */
    struct char_end in, out;
    GByteArray *pending; /* output */
    GByteArray *typed;   /* input that passed the filter */
    bool owes_writable;  /* char_write was short */
    bool ending;         /* char_end_output was called */
};

extern const struct char_driver char_stdio, char_fd, char_pty, char_file, char_socket, char_null;
extern const struct char_driver char_terminal; /* what stdio becomes on a terminal */

/*
 * Starts a stream on @in and @out (-1: no such direction; may be the same), which the driver keeps and
 * closes after char_disconnect(). Tells the client.
 */
void char_connect(struct chardev *chardev, int in, int out);
/* Stops using both descriptors, drops pending output, tells the client. */
void char_disconnect(struct chardev *chardev);
/* Stops reading, but still notices when the peer hangs up: input_ended is called again then. */
void char_stop_input(struct chardev *chardev, bool watch_hang_up);

/* A description of our own of what @fd refers to, non-blocking, so that others who share @fd see no
 * change; or -1. @mode: O_RDONLY or O_WRONLY. */
int char_reopen(int fd, int mode);

#endif
