/* SPDX-License-Identifier: GPL-2.0-or-later */
/* commands - the table of subcommands: main, the manual page and the completion read it */
#include "lodge/commands.h"

#include <stddef.h>

const struct subcommand subcommands[] = {
    {"run", command_run, "[OPTION...] [-- COMMAND [ARGUMENT...]]",
     "start a guest, or run one command in a copy of this machine", false},
    {"restore", command_restore, "FOLDER|--listen ADDRESS [OPTION...]",
     "go on with a guest that was saved, or that comes from another lodge", false},
    {"fork", command_fork, "FOLDER [-n N] [OPTION...] [-- COMMAND [ARGUMENT...]]",
     "start many guests from one snapshot", false},
    {"inspect", command_inspect, "FOLDER", "say what is in a snapshot, as JSON", false},
    {"ctl", command_ctl, "SOCKET COMMAND [KEY=VALUE...]", "talk to a running guest's monitor",
     false},
    {"doctor", command_doctor, "", "say whether this host can run guests, and what is missing",
     false},
    {"devices", command_devices, "[TYPE]", "list device types, or show the manual of one", false},
    {"prepare", command_prepare, "KERNEL...", "unpack kernels into the cache", true},
    {"manual", command_manual, "[control]", "print the manual page, or docs/control.md", true},
    {"completion", command_completion, "", "print a completion for bash", true},
    {},
};
