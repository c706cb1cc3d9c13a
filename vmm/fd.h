/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fd - descriptors that may not be there (-1) */
#ifndef VMM_FD_H
#define VMM_FD_H

#include <unistd.h>

static inline void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

#endif
