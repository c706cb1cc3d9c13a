/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * shutdown - why a machine ends, from whoever notices to whoever decides
 *
 * Devices (ACPI sleep control, debug-exit port, pvpanic), vCPUs (triple fault, KVM errors) and the
 * control socket report to one sink that the program provides. The first report wins.
 * Thread: request may be called from any thread; it does not block.
 */
#ifndef VMM_SHUTDOWN_H
#define VMM_SHUTDOWN_H

enum shutdown_reason {
    SHUTDOWN_NONE,
    SHUTDOWN_POWER_OFF,  /* the guest turned itself off */
    SHUTDOWN_RESET,      /* the guest asked for a reset (may be carried out instead) */
    SHUTDOWN_DEBUG_EXIT, /* debug-exit port; status = value written */
    SHUTDOWN_TRIPLE_FAULT,
    SHUTDOWN_PANIC,        /* pvpanic; status = event bits */
    SHUTDOWN_CRASH_LOADED, /* pvpanic: the guest's crash kernel takes over: only reported */
    SHUTDOWN_WATCHDOG,
    SHUTDOWN_INTERNAL_ERROR, /* KVM can't go on; detail says why and what to do */
    SHUTDOWN_QUIT,           /* control socket or signal */
    SHUTDOWN_TIMEOUT,        /* --timeout */
    SHUTDOWN_MIGRATED,       /* it goes on in another process */
    SHUTDOWN_COMMAND_DONE,   /* command mode: the command ended; status = exit status */
};

struct shutdown_sink {
    /* @detail: one line for the user or NULL; copied. */
    void (*request)(void *opaque, enum shutdown_reason reason, int status, const char *detail);
    void *opaque;
};

static inline void shutdown_request(const struct shutdown_sink *sink, enum shutdown_reason reason,
                                    int status, const char *detail)
{
    sink->request(sink->opaque, reason, status, detail);
}

const char *shutdown_reason_name(enum shutdown_reason reason); /* "power-off"; in vmm/device.c */

#endif
