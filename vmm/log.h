/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log - what the monitor says to the person who runs it
 *
 * One line a message, on standard error (or a file), never mixed with the guest's console:
 *
 *     lodge: warn: virtio-blk0: request beyond the end of the disk (sector 4096, disk has 2048)
 *
 * A domain is a device name ("virtio-blk0") or a module name ("kvm", "pci"). Levels are set for all
 * domains and for single ones: "warn,pci=debug,virtio-*=info" (shell patterns, the last match wins).
 *
 * Thread: every function here may be called from any thread.
 */
#ifndef VMM_LOG_H
#define VMM_LOG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_ERROR, /* something the user asked for does not work */
    LOG_WARN,  /* it works, but not as asked; or the guest misbehaves */
    LOG_INFO,  /* what happens, a few lines a run */
    LOG_DEBUG, /* everything a developer of that module wants to see */
};

/* Writes one line; a trailing newline in @format is not wanted. errno is preserved. */
void log_write(enum log_level level, const char *domain, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

#define log_error(domain, ...) log_write(LOG_ERROR, domain, __VA_ARGS__)
#define log_warn(domain, ...)  log_write(LOG_WARN, domain, __VA_ARGS__)
#define log_info(domain, ...)  log_write(LOG_INFO, domain, __VA_ARGS__)
#define log_debug(domain, ...) log_write(LOG_DEBUG, domain, __VA_ARGS__)

/*
 * For what a guest or a peer can provoke at will: at most LOG_LIMIT_BURST lines in
 * LOG_LIMIT_SECONDS per limit (one per device, zero-initialised), the next line then says how many
 * were dropped. Every call counts in log_guest_errors(), printed or not.
 */
#define LOG_LIMIT_BURST   5
#define LOG_LIMIT_SECONDS 5

struct log_limit {
    int64_t window_start; /* us, monotonic; all fields belong to log.c (atomics) */
    unsigned printed;
    unsigned dropped;
    uint64_t total;
};

void log_guest(struct log_limit *limit, const char *domain, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* How many times log_guest() was called in this process, for the stats. */
uint64_t log_guest_errors(void);

/* Sets levels from "LEVEL[,PATTERN=LEVEL...]"; on error nothing changes. The default is "warn". */
bool log_set_levels(const char *spec, GError **error);

/* Redirects to the open file descriptor @fd (the log does not take ownership); -1 is stderr. */
void log_set_fd(int fd);

#endif
