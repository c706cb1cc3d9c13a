/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lodge - a small KVM virtual machine monitor: the program's entry, which finds the subcommand */
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "lodge/commands.h"
#include "lodge/exitcode.h"
#include "vmm/options.h"

#define THREAD_STACK (512u << 10)

static int print_help(void)
{
    printf("Usage: lodge COMMAND [ARGUMENT...]\n\nCommands:\n");
    for (const struct subcommand *command = subcommands; command->name; command++)
        if (!command->hidden)
            printf("  %-8s %s\n", command->name, command->help);
    printf("\n  lodge run -k vmlinuz -i initrd.img -m 1G -c 2 --disk a.img --net user\n"
           "  lodge run -- uname -a\n\n"
           "`lodge COMMAND --help` says more; man lodge(1) has it all.\n");
    return 0;
}

/*
 * Threads get stacks that suffice instead of 8 MiB: where the host gives huge pages to everybody, the
 * first touch of a large stack costs 2 MiB of resident memory a thread.
 */
static void limit_thread_stacks(void)
{
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

/* A standard descriptor that was closed would be the next file's, which then gets what is printed. */
static void open_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

int main(int argc, char **argv)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *close;

    open_standard_descriptors();
    limit_thread_stacks();
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
        !strcmp(argv[1], "help"))
        return print_help();
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("lodge %s\n", LODGE_VERSION);
        return 0;
    }
    for (const struct subcommand *command = subcommands; command->name; command++) {
        if (!strcmp(argv[1], command->name))
            return command->run(argv + 2);
        g_ptr_array_add(names, (gpointer)command->name);
    }
    g_ptr_array_add(names, NULL);
    close = options_suggest(argv[1], (const char *const *)names->pdata);
    fprintf(stderr, "lodge: no command '%s'%s%s%s; `lodge --help` lists them\n", argv[1],
            close ? " (did you mean '" : "", close ? close : "", close ? "'?)" : "");
    return EXIT_LODGE;
}
