/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small helpers of init: strings, files, the console, time, the progress port. */
#include "guest-images/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <sys/io.h>
#endif

void *must_alloc(size_t size)
{
    void *memory = calloc(1, size ? size : 1);

    if (!memory)
        fail(LODGE_STATUS_FAILED, "memory", "out of memory (%zu bytes)", size);
    return memory;
}

char *must_format(const char *format, ...)
{
    va_list args;
    char *text;
    int length;

    va_start(args, format);
    length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0)
        fail(LODGE_STATUS_FAILED, "memory", "out of memory");
    return text;
}

void strings_add(struct strings *list, const char *item)
{
    char **grown = realloc(list->item, (list->count + 2) * sizeof(*grown));

    if (!grown)
        fail(LODGE_STATUS_FAILED, "memory", "out of memory");
    list->item = grown;
    list->item[list->count++] = (char *)item;
    list->item[list->count] = NULL;
}

char *read_text(const char *path)
{
    size_t have = 0, room = 4096;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text;
    ssize_t got;

    if (fd < 0)
        return NULL;
    text = must_alloc(room + 1);
    while ((got = read(fd, text + have, room - have)) > 0) {
        have += (size_t)got;
        if (have == room) {
            char *grown = realloc(text, room * 2 + 1);

            if (!grown)
                fail(LODGE_STATUS_FAILED, "memory", "out of memory");
            text = grown;
            room *= 2;
        }
    }
    close(fd);
    text[have] = 0;
    return text;
}

bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done;

    if (fd < 0)
        return false;
    done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return done;
}

void make_dirs(const char *path)
{
    char *copy = must_format("%s", path);

    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(copy, 0755);
        *slash = '/';
    }
    mkdir(copy, 0755);
    free(copy);
}

bool parse_unsigned(const char *text, unsigned long max, unsigned long *value)
{
    char *end;

    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    *value = strtoul(text, &end, 0);
    return !*end && !errno && *value <= max;
}

/* By /dev/port first: QEMU's software emulation of SVM raises #GP at a port access in user mode, in spite
 * of ioperm(), once a VMM has written the vCPU's segment registers back (it takes a busy TSS for none). */
bool write_port(uint16_t port, uint8_t value)
{
    static int device = -1;

    if (device < 0) /* not before /dev is mounted */
        device = open("/dev/port", O_WRONLY | O_CLOEXEC);
    if (device >= 0)
        return pwrite(device, &value, 1, port) == 1;
#if defined(__x86_64__)
    if (ioperm(port, 1, 1) == 0) {
        outb(value, port);
        return true;
    }
#endif
    return false;
}

/* The VMM times the boot by these; where the port can't be had, nothing is lost but the figures. */
void progress(uint8_t code)
{
    write_port(LODGE_PROGRESS_PORT, code);
}

/* One line on the console, ahead of what the kernel still has to print. */
void say(const char *format, ...)
{
    va_list args;
    char line[1024];
    int length, fd;

    va_start(args, format);
    length = vsnprintf(line, sizeof(line) - 1, format, args);
    va_end(args);
    if (length < 0)
        return;
    if ((size_t)length > sizeof(line) - 2)
        length = sizeof(line) - 2;
    line[length++] = '\n';
    fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (write(fd < 0 ? 2 : fd, "lodge-init: ", 12) < 0 ||
        write(fd < 0 ? 2 : fd, line, (size_t)length) < 0) {
        /* No console to complain on. */
    }
    if (fd >= 0)
        close(fd);
}

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void sleep_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}
