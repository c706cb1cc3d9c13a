/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The power button: what acpid or systemd-logind do in a larger guest. The stock `button` driver turns
 * the ACPI event into a key of an input device (evdev); a press asks the command to end, and after
 * some seconds makes it end.
 */
#include "guest-images/init/init.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool has_power_key(int fd)
{
    unsigned char keys[KEY_MAX / 8 + 1] = {0};

    return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) > 0 &&
           (keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1);
}

size_t power_open(int fds[], size_t room)
{
    DIR *dir = opendir("/dev/input");
    struct dirent *entry;
    size_t count = 0;

    while (dir && count < room && (entry = readdir(dir))) {
        int fd;

        if (strncmp(entry->d_name, "event", 5))
            continue;
        fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && has_power_key(fd))
            fds[count++] = fd;
        else if (fd >= 0)
            close(fd);
    }
    if (dir)
        closedir(dir);
    return count;
}

bool power_pressed(int fd)
{
    struct input_event event;
    bool pressed = false;

    while (read(fd, &event, sizeof(event)) == sizeof(event))
        pressed |= event.type == EV_KEY && event.code == KEY_POWER && event.value == 1;
    return pressed;
}
