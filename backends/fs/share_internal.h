/* SPDX-License-Identifier: GPL-2.0-or-later */
/* share_internal - what share.c and change.c have in common */
#ifndef BACKENDS_FS_SHARE_INTERNAL_H
#define BACKENDS_FS_SHARE_INTERNAL_H

#include <fcntl.h>
#include <limits.h>

#include "backends/fs/share.h"

struct share {
    char *path;
    int root; /* O_PATH */
    int proc; /* /proc, O_PATH: self/fd/N below it reopens a descriptor */
    uint64_t root_dev;
    uid_t uid; /* what new files get from the host */
    gid_t gid;
    bool readonly;
    bool passthrough;
    bool has_openat2;
};

/* What a guest decides about an open. */
#define SHARE_OPEN_FLAGS (O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC)

#define SHARE_PROC_NAME 32
void share_proc_name(char name[SHARE_PROC_NAME], int fd); /* relative to share->proc */

#endif
