/* SPDX-License-Identifier: GPL-2.0-or-later */
/* setup - a list of the files made since the last setup_keep (setup.h) */
#include "vmm/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/stat.h>
#include <unistd.h>

struct made {
    char *path; /* absolute */
    dev_t device;
    ino_t inode;
};

static GSList *files;

static void made_free(gpointer data)
{
    struct made *made = data;

    g_free(made->path);
    g_free(made);
}

int setup_open(const char *path, int flags, mode_t mode)
{
    int fd = open(path, flags | O_CREAT | O_EXCL, mode);
    struct made *made;
    struct stat status;

    if (fd < 0 && errno == EEXIST)
        return open(path, flags | O_CREAT, mode);
    if (fd < 0 || fstat(fd, &status))
        return fd;
    made = g_new0(struct made, 1);
    made->path = g_canonicalize_filename(path, NULL);
    made->device = status.st_dev;
    made->inode = status.st_ino;
    files = g_slist_prepend(files, made);
    return fd;
}

void setup_keep(void)
{
    g_slist_free_full(g_steal_pointer(&files), made_free);
}

void setup_undo(void)
{
    for (GSList *item = files; item; item = item->next) {
        struct made *made = item->data;
        struct stat status;

        if (!lstat(made->path, &status) && status.st_dev == made->device &&
            status.st_ino == made->inode)
            unlink(made->path);
    }
    setup_keep();
}
