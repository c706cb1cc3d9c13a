/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that was saved while it waited for START may be restored many times: the host's COPY frame
 * makes each of them one of its own. Random numbers must not repeat, so the host's are mixed in and
 * the kernel's generator is told to start from them; network interfaces get their own addresses;
 * and what was cached of shares is forgotten, because the host's files may have changed meanwhile.
 *
 * What can't be done is said on the console, and the command runs all the same, except for random
 * numbers: two guests with the same would be worse than none.
 */
#include "guest-images/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SEED_MAX 64

#ifndef RNDRESEEDCRNG /* Linux 4.14 */
#define RNDRESEEDCRNG _IO('R', 0x07)
#endif

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void seed(const char *text)
{
    struct rand_pool_info *pool = must_alloc(sizeof(*pool) + SEED_MAX);
    unsigned char *bytes = (unsigned char *)pool->buf;
    size_t size = 0;
    int fd;

    for (; text[0] && text[1] && size < SEED_MAX; text += 2) {
        int high = nibble(text[0]), low = nibble(text[1]);

        if (high < 0 || low < 0)
            break;
        bytes[size++] = (unsigned char)(high << 4 | low);
    }
    if (*text || !size)
        fail(LODGE_STATUS_FAILED, "copy", "COPY: seed is not 1 to %d bytes in hexadecimal",
             SEED_MAX);
    pool->entropy_count = (int)size * 8;
    pool->buf_size = (int)size;
    fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, pool))
        fail(LODGE_STATUS_FAILED, "copy", "cannot seed the random number generator: %s",
             strerror(errno));
    ioctl(fd, RNDRESEEDCRNG); /* older kernels: within five minutes */
    close(fd);
    free(pool);
}

void copy_from_frame(char *payload, size_t length)
{
    char *at = payload, *key, *value;

    while (control_field(&at, payload + length, &key, &value)) {
        if (!strcmp(key, "seed"))
            seed(value);
        else if (!strcmp(key, "mac"))
            net_set_mac(value);
        else if (!strcmp(key, "forget") && !write_text("/proc/sys/vm/drop_caches", "3\n"))
            say("cannot drop caches: %s", strerror(errno));
    }
}
