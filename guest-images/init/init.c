/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * init: the first program of a Lodge guest, and of the lab's kernel (tests/lab).
 *
 * It mounts /proc, /sys and /dev, loads the modules listed in /lodge/modules of the initramfs,
 * mounts the root file system and the shares that the kernel command line names, and runs one
 * command: the one that the host sends over the control port (lodge.control), the one on the kernel
 * command line (lodge.exec="..."), or else a shell on the console. It passes input, output, signals
 * and the window size, reports the exact status, and ends the machine. Whatever fails before the
 * command starts is said in one line, on the console and over the control port, and ends the
 * machine too: it never waits without bound for anything but the host's START.
 *
 * Settings and protocol: guest-images/protocol.md. One thread; pid 1; static, so that it runs in an
 * initramfs that holds nothing else. Specification of the ports: virtio 1.2, section 5.3.
 */
#include "guest-images/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/module.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef MODULE_INIT_COMPRESSED_FILE /* Linux 5.17 */
#define MODULE_INIT_COMPRESSED_FILE 4
#endif
#define MODULE_LIST  "/lodge/modules"
#define SETTINGS_MAX 256
#define SETTLE       500 /* ms; most of what the kernel puts off comes within them */

static struct setting settings[SETTINGS_MAX];
static size_t setting_count;
static uint64_t entered_ns;

/* Splits /proc/cmdline as the kernel does: blanks separate, double quotes protect them. */
static void read_settings(void)
{
    char *at = read_text("/proc/cmdline");

    if (!at)
        fail(LODGE_STATUS_FAILED, "settings", "cannot read /proc/cmdline: %s", strerror(errno));
    while (*at) {
        bool quoted = false;
        char *start, *write_at, *equals;

        while (*at == ' ' || *at == '\n')
            at++;
        for (start = write_at = at; *at && (quoted || (*at != ' ' && *at != '\n')); at++) {
            if (*at == '"')
                quoted = !quoted;
            else
                *write_at++ = *at;
        }
        if (*at)
            at++;
        *write_at = 0;
        if (strncmp(start, "lodge.", 6))
            continue;
        if (setting_count == SETTINGS_MAX)
            fail(LODGE_STATUS_FAILED, "settings", "more than %d lodge.* settings", SETTINGS_MAX);
        equals = strchr(start, '=');
        if (equals)
            *equals = 0;
        settings[setting_count].key = start + 6;
        settings[setting_count++].value = equals ? equals + 1 : "";
    }
}

const struct setting *setting_next(const char *key, const struct setting *after)
{
    for (size_t i = after ? (size_t)(after - settings) + 1 : 0; i < setting_count; i++)
        if (!strcmp(settings[i].key, key))
            return &settings[i];
    return NULL;
}

const char *setting(const char *key)
{
    const char *value = NULL;

    for (const struct setting *s = NULL; (s = setting_next(key, s));)
        value = s->value;
    return value;
}

static void check_settings(void)
{
    static const char *const known[] = {"control", "exec",    "init",     "end", "root",
                                        "mount",   "overlay", "hostname", "ip"};

    for (size_t i = 0; i < setting_count; i++) {
        bool found = false;

        for (size_t k = 0; k < sizeof(known) / sizeof(*known); k++)
            found |= !strcmp(settings[i].key, known[k]);
        if (!found)
            fail(LODGE_STATUS_FAILED, "settings",
                 "unknown setting lodge.%s on the kernel command line", settings[i].key);
    }
}

/* What the VMM hears first, where there is such a device. */
static void write_exit_port(uint16_t port, int status)
{
    if (write_port(port, (uint8_t)status))
        sleep_ms(1000);
    say("nothing answers at exit port %#x", port);
}

void end_machine(int status)
{
    const char *how = setting("end");
    unsigned long port;

    sync();
    if (how && !strncmp(how, "port:", 5) && parse_unsigned(how + 5, 0xffff, &port))
        write_exit_port((uint16_t)port, status);
    /* A power-off without ACPI would halt for ever instead. */
    if ((how && !strcmp(how, "reboot")) ||
        (!(how && !strcmp(how, "poweroff")) && access("/sys/firmware/acpi/tables", F_OK)))
        reboot(RB_AUTOBOOT);
    reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
    _exit(1); /* pid 1 gone: the kernel panics, and says so */
}

void fail(int status, const char *stage, const char *format, ...)
{
    static bool failing;
    va_list args;
    char message[768];

    if (failing) /* from inside here: nothing left to try */
        end_machine(status);
    failing = true;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    progress(LODGE_PROGRESS_FAILED);
    say("%s", message);
    if (setting("control") && !control_is_open())
        control_try();
    if (control_is_open()) {
        control_send(LODGE_FRAME_ERROR, "code=%d%cstage=%s%cmessage=%s%c", status, 0, stage, 0,
                     message, 0);
        control_wait(10000); /* for END, or the host closing its side */
    }
    end_machine(status);
}

/* A module that the host could not unpack: newer kernels can (CONFIG_MODULE_DECOMPRESS). */
static bool is_compressed(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot && strcmp(dot, ".ko");
}

static void load_module(char *line)
{
    char *parameters = strchr(line, ' ');
    int fd;

    if (parameters)
        *parameters++ = 0;
    fd = open(line, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail(LODGE_STATUS_FAILED, "modules", "cannot open module %s: %s", line, strerror(errno));
    /* ENODEV is a driver that found out that it has nothing to drive here: not an error. */
    if (syscall(SYS_finit_module, fd, parameters ? parameters : "",
                is_compressed(line) ? MODULE_INIT_COMPRESSED_FILE : 0) &&
        errno != EEXIST && errno != ENODEV)
        fail(LODGE_STATUS_FAILED, "modules", "cannot load module %s: %s", line, strerror(errno));
    close(fd);
}

static void load_modules(void)
{
    char *list = read_text(MODULE_LIST);

    for (char *save, *line = list ? strtok_r(list, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        if (*line != '#')
            load_module(line);
    free(list);
}

/* A command expects a machine: a loopback interface, memory that can be locked, many files. */
static void set_up_machine(void)
{
    struct rlimit memlock = {RLIM_INFINITY, RLIM_INFINITY}, files = {1024, 1 << 20};
    const char *name = setting("hostname");

    net_loopback();
    for (const struct setting *s = NULL; (s = setting_next("ip", s));)
        net_configure(s->value);
    setrlimit(RLIMIT_MEMLOCK, &memlock);
    setrlimit(RLIMIT_NOFILE, &files);
    if (name && sethostname(name, strlen(name)))
        fail(LODGE_STATUS_FAILED, "settings", "cannot set host name %s: %s", name, strerror(errno));
    reboot(RB_DISABLE_CAD);
}

/* A guest to be copied runs a command before it is saved: what starting one takes is in its memory then, and
 * in that of every copy; and what the kernel had put off is done. */
static void warm_up(char *payload, size_t length)
{
    struct command command = {0};

    command_from_start(&command, payload, length);
    command_rehearse(&command);
    sleep_ms(SETTLE);
    control_send(LODGE_FRAME_WARMED, "ready-ns=%llu%c", (unsigned long long)now_ns(), 0);
}

static void wait_for_start(struct command *command)
{
    struct utsname kernel;
    uint16_t type;
    char *payload;
    size_t length;
    int got;

    uname(&kernel);
    control_send(LODGE_FRAME_HELLO, "version=%d%ckernel=%s%cinit-ns=%llu%cready-ns=%llu%c",
                 LODGE_PROTOCOL_VERSION, 0, kernel.release, 0, (unsigned long long)entered_ns, 0,
                 (unsigned long long)now_ns(), 0);
    progress(LODGE_PROGRESS_HELLO);
    for (;;) {
        while ((got = control_receive(&type, &payload, &length)) == 1) {
            if (type == LODGE_FRAME_START) {
                command_from_start(command, payload, length);
                return;
            }
            if (type == LODGE_FRAME_WARM)
                warm_up(payload, length);
            if (type == LODGE_FRAME_COPY)
                copy_from_frame(payload, length);
            if (type == LODGE_FRAME_END)
                end_machine(0);
        }
        if (got < 0)
            fail(LODGE_STATUS_FAILED, "control", "the host closed the control port before START");
        control_wait(-1);
    }
}

/* A console whose driver was a module is none when the kernel starts us: then nothing is open. */
static void open_console(void)
{
    int fd = open("/dev/console", O_RDWR | O_NOCTTY);

    for (int i = 0; fd >= 0 && i < 3; i++)
        if (fd != i)
            dup2(fd, i);
    if (fd > 2)
        close(fd);
}

int main(void)
{
    struct command command = {0};
    const char *program, *shell;

    entered_ns = now_ns();
    progress(LODGE_PROGRESS_INIT);
    if (getpid() != 1) {
        fputs("init: this is the first program of a guest; it runs as process 1 only\n", stderr);
        return 1;
    }
    root_early();
    read_settings();
    load_modules();
    progress(LODGE_PROGRESS_MODULES);
    check_settings(); /* now that the host can hear of it */
    if (setting("control"))
        control_open();
    root_enter();
    root_shares();
    set_up_machine();
    progress(LODGE_PROGRESS_ROOT);

    program = setting("init");
    if (program) {
        open_console();
        execl(program, program, NULL);
        fail(errno == ENOENT ? LODGE_STATUS_NOT_FOUND : LODGE_STATUS_NOT_EXECUTABLE, "command",
             "cannot run %s: %s", program, strerror(errno));
    }
    shell = setting("exec");
    if (control_is_open()) {
        wait_for_start(&command);
    } else {
        strings_add(&command.args, "/bin/sh");
        if (shell) {
            strings_add(&command.args, "-c");
            strings_add(&command.args, shell);
        }
        command.stdio[0] = command.stdio[1] = command.stdio[2] = "console";
    }
    command_run(&command);
}
