/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pty - a new pseudo-terminal: /dev/pts/N for screen, minicom or cat
 *
 * With path=..., a symbolic link of that name leads to it, so that scripts need not parse the number.
 * The terminal starts raw. Until somebody opens it output is dropped; when the last one closes it,
 * the next one is waited for. The kernel has no event for the first open, so a timer looks.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "backends/char/driver.h"
#include "vmm/fd.h"
#include "vmm/log.h"

#define LOOK_NS (INT64_C(200) * 1000 * 1000)

struct pty {
    int fd;
    char *link;
    struct loop_timer *timer;
};

static void look_for_opener(void *opaque)
{
    struct chardev *chardev = opaque;
    struct pty *pty = chardev->state;
    struct pollfd pollfd = {.fd = pty->fd, .events = POLLIN};

    if (poll(&pollfd, 1, 0) >= 0 && !(pollfd.revents & POLLHUP))
        char_connect(chardev, pty->fd, pty->fd);
    else
        loop_timer_set(pty->timer, loop_now_ns() + LOOK_NS);
}

static void pty_left(struct chardev *chardev)
{
    struct pty *pty = chardev->state;

    char_disconnect(chardev);
    loop_timer_set(pty->timer, loop_now_ns() + LOOK_NS);
}

/* Echo and line editing are the guest's business. */
static int make_raw(const char *name)
{
    struct termios tio;
    int slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    int ret = 0;

    if (slave < 0)
        return -errno;
    if (tcgetattr(slave, &tio) < 0) {
        ret = -errno;
    } else {
        cfmakeraw(&tio);
        ret = tcsetattr(slave, TCSANOW, &tio) < 0 ? -errno : 0;
    }
    close(slave);
    return ret;
}

static bool make_link(struct chardev *chardev, const struct options *options, GError **error)
{
    struct pty *pty = chardev->state;
    const char *path = options_string(options, "path");

    if (!path)
        return true;
    if (symlink(chardev->address, path) < 0) {
        options_set_error(error, options, "path", "%s%s", g_strerror(errno),
                          errno == EEXIST ? "; remove it or choose another name" : "");
        return false;
    }
    pty->link = g_strdup(path);
    return true;
}

static bool pty_open(struct chardev *chardev, const struct options *options, GError **error)
{
    struct pty *pty = g_new0(struct pty, 1);
    char name[64];
    int ret = 0;

    chardev->state = pty;
    pty->fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (pty->fd < 0 || grantpt(pty->fd) < 0 || unlockpt(pty->fd) < 0)
        ret = -errno;
    else
        ret = -ptsname_r(pty->fd, name, sizeof(name));
    if (!ret)
        ret = make_raw(name);
    if (ret) {
        options_set_error(error, options, NULL, "no pseudo-terminal: %s; is devpts mounted?",
                          g_strerror(-ret));
        return false;
    }
    chardev->address = g_strdup(name);
    if (!make_link(chardev, options, error))
        return false;
    pty->timer = loop_timer_create(chardev->loop, look_for_opener, chardev);
    loop_timer_set(pty->timer, loop_now_ns() + LOOK_NS);
    return true;
}

static void pty_close(struct chardev *chardev)
{
    struct pty *pty = chardev->state;
    char target[64];

    if (!pty)
        return;
    loop_timer_destroy(pty->timer);
    if (pty->link) {
        /* Ours only if nobody put another in its place. */
        ssize_t n = readlink(pty->link, target, sizeof(target) - 1);
        if (n > 0) {
            target[n] = '\0';
            if (!strcmp(target, chardev->address))
                unlink(pty->link);
        }
        g_free(pty->link);
    }
    close_fd(pty->fd);
    g_free(pty);
}

const struct char_driver char_pty = {.type = "pty",
                                     .open = pty_open,
                                     .close = pty_close,
                                     .input_ended = pty_left,
                                     .output_broken = pty_left};
