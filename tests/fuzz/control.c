/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: what a client may send on the control socket (lodge/control), to a machine that does not
 * run. Where there is no KVM at all it does nothing.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lodge/control.h"
#include "vmm/log.h"
#include "vmm/trace.h"
#include "vmm/unixsocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_TURNS 2000

static struct config *config;
static struct machine *machine;
static struct control *control;
static struct sockaddr_un address;

static void remove_machine(void)
{
    control_destroy(control);
    machine_destroy(machine);
    config_free(config);
    g_autofree char *folder = g_path_get_dirname(address.sun_path);
    g_rmdir(folder);
}

static bool set_up(void)
{
    static bool tried;
    char *words[] = {(char *)"--defaults",  (char *)"off",  (char *)"--allow-software-kvm",
                     (char *)"--no-reboot", (char *)"-m",   (char *)"64",
                     (char *)"--net",       (char *)"null", NULL};
    struct machine_hooks hooks = {};
    g_autofree char *folder = NULL, *path = NULL;

    if (tried)
        return control != NULL;
    tried = true;
    config = config_from_arguments(words, NULL);
    machine = machine_create(config, &hooks, NULL);
    if (!machine) {
        config_free(config);
        return false;
    }
    folder = g_dir_make_tmp("lodge-fuzz-XXXXXX", NULL);
    path = g_build_filename(folder, "s", NULL);
    g_assert_true(unixsocket_address(&address, path, NULL));
    control = control_create(machine, path, NULL);
    g_assert_nonnull(control);
    atexit(remove_machine);
    return true;
}

static bool drain(int fd)
{
    static char buffer[65536];
    ssize_t got;

    while ((got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0)
        ;
    return got < 0;
}

static void say(int fd, const uint8_t *data, size_t size)
{
    unsigned idle = 0;

    for (unsigned turn = 0; turn < MAX_TURNS && idle < 3; turn++) {
        ssize_t put = size ? send(fd, data, MIN(size, 3000), MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

        if (put > 0) {
            data += put;
            size -= put;
        }
        idle = loop_iterate(loop_main(), false) ? 0 : idle + 1;
        if (!drain(fd))
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int null, fd;

    if (!set_up())
        return 0;
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    log_set_fd(null);
    trace_set_fd(null);
    fd = unixsocket_connect(&address, SOCK_STREAM);
    g_assert_cmpint(fd, >=, 0);
    say(fd, data, size);
    close(fd);
    for (unsigned turn = 0; turn < MAX_TURNS && loop_iterate(loop_main(), false); turn++)
        ;
    /* As new for the next input. */
    machine->reason = SHUTDOWN_NONE;
    g_clear_pointer(&machine->detail, g_free);
    g_assert_true(machine_resume(machine, NULL));
    trace_set("*", false, NULL);
    log_set_levels("warn", NULL);
    log_set_fd(-1);
    trace_set_fd(-1);
    close(null);
    return 0;
}
