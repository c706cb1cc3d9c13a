/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options - what `lodge run` takes: the run options and their names on the command line
 *
 * Everything a user reads about an option (help, manual page, completion, JSON keys) comes from
 * these two tables and from the device types' own.
 */
#include "lodge/configuration.h"

#include "vmm/vm.h"

static const char *const boot_choices[] = {"auto", "linux64", "pvh", "pvh-unpacked", NULL};
static const char *const console_choices[] = {"serial", "virtio", "off", NULL};

static const char *const shared_choices[] = {"auto", "on", "off", NULL};

const struct option_spec run_options[] = {
    {"kernel", OPTION_PATH, .help = "bzImage or vmlinux to boot (default: the host's own)"},
    {"initrd", OPTION_PATH, .help = "initial RAM disk"},
    {"params", OPTION_LIST, .help = "appended to the kernel command line"},
    {"memory", OPTION_STRING, .value = "512M",
     .help = "guest RAM, 64M to 1T; a bare number is MiB"},
    {"cpus", OPTION_UINT, .value = "1", .min = 1, .max = VM_MAX_VCPUS, .help = "virtual CPUs"},
    {"boot", OPTION_ENUM, .value = "auto", .choices = boot_choices,
     .help = "boot protocol: how the kernel is entered"},
    {"console", OPTION_ENUM, .value = "serial", .choices = console_choices,
     .help = "what the terminal is connected to"},
    {"shared-memory", OPTION_ENUM, .value = "auto", .choices = shared_choices,
     .help = "guest RAM that other processes can map; auto: where it costs no huge pages"},
    {"hugepages", OPTION_BOOL, .value = "off", .help = "back guest RAM by the host's huge pages"},
    {"prefault", OPTION_BOOL, .value = "off", .help = "touch all guest RAM at start"},
    {"defaults", OPTION_BOOL, .value = "on",
     .help = "add serial port, RTC, RNG, pvpanic, vmgenid, with --gpu a keyboard and a tablet"},
    {"io-threads", OPTION_UINT, .value = "1", .min = 1, .max = 16,
     .help = "threads that serve devices; a device's iothread=N chooses one"},
    {"timeout", OPTION_STRING, .help = "end the guest after SECONDS (exit code 124)"},
    {"no-reboot", OPTION_BOOL, .value = "off", .help = "a guest reset ends the run (exit code 32)"},
    {"root", OPTION_PATH, .value = "/",
     .help = "with a command: this host folder is the guest's root, copy-on-write"},
    {"rwdir", OPTION_LIST, .help = "with a command: host folder the guest may write"},
    {"cwd", OPTION_STRING, .help = "with a command: where it starts (default: here)"},
    {"env", OPTION_LIST, .help = "with a command: NAME=VALUE, or NAME to pass ours on"},
    {"prepare", OPTION_PATH,
     .help = "boot a guest that waits for a command, save it to this new folder for --from, end"},
    {"modules", OPTION_LIST, .help = "kernel modules to load before the command or shell"},
    {"tty", OPTION_BOOL, .value = "off",
     .help = "with a command: run it on a terminal; Ctrl-A x ends the guest"},
    {"verbose", OPTION_BOOL, .value = "off", .help = "show the guest's console on stderr"},
    {"display", OPTION_LIST,
     .help = "who looks at the guest's screens: none, png,path=FILE, vnc=WHERE, sdl; may repeat"},
    {"control", OPTION_PATH, .help = "UNIX socket for `lodge ctl` (QMP's wire form)"},
    {"result", OPTION_PATH, .help = "write reason, status, times and counters there as JSON"},
    {"log", OPTION_STRING, .value = "warn", .help = "log levels: LEVEL[,DOMAIN=LEVEL...]"},
    {"log-file", OPTION_PATH, .help = "write the log there instead of stderr"},
    {"trace", OPTION_STRING, .help = "trace events to print, shell patterns with commas"},
    {"trace-file", OPTION_PATH, .help = "write trace lines there instead of stderr"},
    {"kvm", OPTION_PATH, .value = "/dev/kvm", .help = "KVM device"},
    {"allow-software-kvm", OPTION_BOOL, .value = "off",
     .help = "run on a KVM without hardware support (stock kernels fail there)"},
    {},
};

const struct cli_option cli_options[] = {
    {'k', "kernel", "kernel", NULL, "FILE", NULL},
    {'i', "initrd", "initrd", NULL, "FILE", NULL},
    {'p', "params", "params", NULL, "TEXT", NULL},
    {'m', "memory", "memory", NULL, "SIZE", NULL},
    {'c', "cpus", "cpus", NULL, "N", NULL},
    {0, "boot", "boot", NULL, "PROTOCOL", NULL},
    {'d', "disk", NULL, "virtio-blk", "path=FILE[,KEY=VALUE...]", "a disk"},
    {'n', "net", NULL, "virtio-net", "type=TYPE[,KEY=VALUE...]",
     "a network interface; model=vmxnet3: not virtio-net"},
    {0, "rdma", NULL, "pvrdma", "backend=BACKEND[,KEY=VALUE...][,net=...]",
     "an RDMA adapter and its network interface (net=: of that, to the end)"},
    {0, "share", NULL, "virtio-9p", "path=FOLDER,tag=TAG[,readonly]", "a shared host folder"},
    {0, "serial", NULL, "serial", "type=TYPE[,KEY=VALUE...]", "a serial port"},
    {0, "rng", NULL, "virtio-rng", "[KEY=VALUE...]", "an entropy source"},
    {0, "gpu", NULL, "virtio-gpu", "[KEY=VALUE...]", "a GPU, with a screen or more"},
    {0, "device", NULL, NULL, "TYPE[,KEY=VALUE...]", "any device; `lodge devices` lists them"},
    {0, "console", "console", NULL, "KIND", NULL},
    {0, "shared-memory", "shared-memory", NULL, "WHEN", NULL},
    {0, "hugepages", "hugepages", NULL, NULL, NULL},
    {0, "prefault", "prefault", NULL, NULL, NULL},
    {0, "defaults", "defaults", NULL, "on|off", NULL},
    {0, "io-threads", "io-threads", NULL, "N", NULL},
    {0, "timeout", "timeout", NULL, "SECONDS", NULL},
    {0, "no-reboot", "no-reboot", NULL, NULL, NULL},
    {0, "root", "root", NULL, "FOLDER", NULL},
    {0, "rwdir", "rwdir", NULL, "FOLDER", NULL},
    {0, "cwd", "cwd", NULL, "FOLDER", NULL},
    {'e', "env", "env", NULL, "NAME[=VALUE]", NULL},
    {0, "prepare", "prepare", NULL, "FOLDER", NULL},
    {0, "from", NULL, NULL, "FOLDER", "run the command in a copy of a guest that --prepare saved"},
    {0, "module", "modules", NULL, "NAME", NULL},
    {'t', "tty", "tty", NULL, NULL, NULL},
    {'v', "verbose", "verbose", NULL, NULL, NULL},
    {0, "display", "display", NULL, "TYPE[,KEY=VALUE...]", NULL},
    {0, "control", "control", NULL, "SOCKET", NULL},
    {0, "result", "result", NULL, "FILE", NULL},
    {0, "log", "log", NULL, "LEVELS", NULL},
    {0, "log-file", "log-file", NULL, "FILE", NULL},
    {0, "trace", "trace", NULL, "PATTERNS", NULL},
    {0, "trace-file", "trace-file", NULL, "FILE", NULL},
    {0, "kvm", "kvm", NULL, "DEVICE", NULL},
    {0, "allow-software-kvm", "allow-software-kvm", NULL, NULL, NULL},
    {0, "config", NULL, NULL, "FILE", "load the JSON that --dry-run prints"},
    {0, "dry-run", NULL, NULL, NULL, "print the whole configuration as JSON and end"},
    {},
};
