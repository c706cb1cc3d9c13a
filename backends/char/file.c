/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file, fd - output to a file or device; an open descriptor that the caller passed
 *
 * file: output only; created if need be, cut to nothing unless append=on. A full disk is reported
 * once, then output is lost. A FIFO needs a reader already.
 *
 * fd: the directions that its access mode has. It ends with its input, unless it can also be
 * written; what it refers to stays open in whoever else has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/char/driver.h"
#include "vmm/fd.h"
#include "vmm/log.h"
#include "vmm/setup.h"

struct file {
    int in, out; /* -1: none; may be the same */
    char *name;
};

static struct file *file_new(struct chardev *chardev, char *name)
{
    struct file *file = g_new0(struct file, 1);

    file->in = file->out = -1;
    file->name = name;
    chardev->state = file;
    return file;
}

static void close_both(struct file *file)
{
    close_fd(file->in);
    if (file->out >= 0 && file->out != file->in)
        close(file->out);
    file->in = file->out = -1;
}

static void file_close(struct chardev *chardev)
{
    struct file *file = chardev->state;

    if (!file)
        return;
    close_both(file);
    g_free(file->name);
    g_free(file);
}

static bool file_open(struct chardev *chardev, const struct options *options, GError **error)
{
    const char *path = options_string(options, "path");
    int how = options_bool(options, "append") ? O_APPEND : O_TRUNC;
    struct file *file = file_new(chardev, g_strdup(path));

    file->out = setup_open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | how, 0666);
    if (file->out < 0) {
        options_set_error(error, options, "path", "%s%s", g_strerror(errno),
                          errno == ENXIO    ? "; a FIFO needs its reader first"
                          : errno == EISDIR ? "; give the name of a file in it"
                                            : "");
        return false;
    }
    chardev->address = g_strdup(path);
    char_connect(chardev, -1, file->out);
    return true;
}

static void input_ended(struct chardev *chardev)
{
    if (chardev->out.fd >= 0 && chardev->out.fd != chardev->in.fd)
        char_stop_input(chardev, false);
    else
        char_disconnect(chardev);
}

static void output_broken(struct chardev *chardev)
{
    struct file *file = chardev->state;

    log_warn("char", "%s: it takes no more output; what follows is lost", file->name);
    if (chardev->in.fd < 0)
        char_disconnect(chardev);
}

const struct char_driver char_file = {.type = "file",
                                      .open = file_open,
                                      .close = file_close,
                                      .input_ended = input_ended,
                                      .output_broken = output_broken};

/* ---- fd ---- */

static bool fd_open(struct chardev *chardev, const struct options *options, GError **error)
{
    int fd = options_uint(options, "fd");
    int flags = fcntl(fd, F_GETFL);
    struct stat st;

    if (flags < 0 || fstat(fd, &st) < 0) {
        options_set_error(error, options, "fd", "not an open descriptor of this process");
        return false;
    }
    if (S_ISDIR(st.st_mode) || (flags & O_PATH)) {
        options_set_error(error, options, "fd", "it can be neither read nor written");
        return false;
    }
    struct file *file = file_new(chardev, g_strdup_printf("descriptor %d", fd));
    int mode = flags & O_ACCMODE;
    if (S_ISSOCK(st.st_mode)) {
        file->in = file->out = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    } else {
        if (mode != O_WRONLY && (file->in = char_reopen(fd, O_RDONLY)) < 0)
            file->in = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        /* Opening a regular file again would start at its beginning. */
        if (mode != O_RDONLY &&
            (S_ISREG(st.st_mode) || (file->out = char_reopen(fd, O_WRONLY)) < 0))
            file->out = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    char_connect(chardev, file->in, file->out);
    return true;
}

static void fd_output_ended(struct chardev *chardev)
{
    struct file *file = chardev->state;

    if (file->in >= 0 && file->in == file->out)
        shutdown(file->out, SHUT_WR);
    else if (file->out >= 0)
        close(file->out);
    if (file->in != file->out)
        file->out = -1;
}

const struct char_driver char_fd = {.type = "fd",
                                    .open = fd_open,
                                    .close = file_close,
                                    .input_ended = input_ended,
                                    .output_broken = output_broken,
                                    .output_ended = fd_output_ended};
