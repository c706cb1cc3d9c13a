/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exitcode - what the shell sees when lodge ends
 *
 * In command mode 0-123 and 128+N are the guest command's own status; the rest says why there is
 * none. README and the manual page carry the same table.
 */
#ifndef LODGE_EXITCODE_H
#define LODGE_EXITCODE_H

enum exit_code {
    EXIT_POWER_OFF = 0,
    EXIT_RESET = 32, /* guest reset with --no-reboot */
    EXIT_TRIPLE_FAULT = 33,
    EXIT_PANIC = 34,
    EXIT_WATCHDOG = 36,
    EXIT_INTERNAL_ERROR = 37, /* KVM can't go on */
    EXIT_TIMEOUT = 124,
    EXIT_LODGE = 125, /* option, configuration or host error; the guest did not run to its end */
    EXIT_NOT_EXECUTABLE = 126,
    EXIT_NOT_FOUND = 127,
};

#endif
