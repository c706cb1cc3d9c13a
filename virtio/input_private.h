/* SPDX-License-Identifier: GPL-2.0-or-later */
/* input_private - between input.c and input_config.c; nobody else includes it */
#ifndef VIRTIO_INPUT_PRIVATE_H
#define VIRTIO_INPUT_PRIVATE_H

#include <linux/virtio_input.h>
#include <stdbool.h>
#include <stdint.h>

#define INPUT_SLOTS 10u /* fingers */

enum input_type { INPUT_KEYBOARD, INPUT_TABLET, INPUT_MOUSE, INPUT_TOUCH };

/* What a device says of itself (5.8.4); fixed. */
struct input_identity {
    enum input_type type;
    char name[128]; /* no longer than the config space's string, which has no terminator */
    char serial[128];
};

/* The rest of @config, by its select and subsel. */
void input_config_fill(const struct input_identity *identity, struct virtio_input_config *config);
/* Does a device of @type have the key or button @code? */
bool input_has_key(enum input_type type, unsigned code);

#endif
