/* SPDX-License-Identifier: GPL-2.0-or-later */
/* incoming - the target's side of a migration (lodge/incoming.h) */
#include "lodge/incoming.h"

#include <errno.h>
#include <gio/gio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/block/block.h"
#include "lodge/migrate.h"
#include "lodge/snapshot.h"
#include "virtio/blk.h"
#include "vmm/fd.h"
#include "vmm/log.h"
#include "vmm/migration.h"
#include "vmm/trace.h"

#define GREETING_MS 10000
#define DEVICES_MS  5000

TRACE_EVENT(incoming_phase, "%s", (const char *phase), phase)

struct incoming {
    struct migration_channel channel;
    struct migration_sink sink;
    int cancel_fd;
    bool local, told;
    /* One piece of work on the thread. */
    bool (*work)(struct incoming *incoming, GError **error);
    GError *work_error;
    bool work_done, work_result;
};

/* ---- the greeting ---- */

static bool take_next(struct incoming *incoming, unsigned timeout_ms, GError **error)
{
    struct migration_message message;

    return migration_receive(&incoming->channel, &message, timeout_ms, error) &&
           migration_sink_take(&incoming->sink, &message, error);
}

static bool receive_greeting(struct incoming *incoming, GError **error)
{
    while (!incoming->sink.layout)
        if (!take_next(incoming, GREETING_MS, error))
            return false;
    return true;
}

/* A peer that vanishes without a word (its host is gone) is found out. */
static void keep_alive(int fd)
{
    int one = 1, idle = 10, interval = 5, count = 3;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* -1 with errno: ETIMEDOUT after @end_ns (0: never). */
static int accept_one(int listener, int64_t end_ns)
{
    struct pollfd fds = {.fd = listener, .events = POLLIN};
    int fd;

    do {
        int64_t left_ms = end_ns ? MAX((end_ns - loop_now_ns()) / 1000000, 0) : -1;

        if (!poll(&fds, 1, (int)MIN(left_ms, 3600000)) && loop_now_ns() >= end_ns) {
            errno = ETIMEDOUT;
            return -1;
        }
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED));
    return fd;
}

static struct incoming *create(int fd, bool local)
{
    struct incoming *incoming = g_new0(struct incoming, 1);

    incoming->local = local;
    incoming->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    migration_channel_init(&incoming->channel, fd, incoming->cancel_fd);
    migration_sink_init(&incoming->sink);
    return incoming;
}

struct incoming *incoming_accept(const char *address, double seconds, GError **error)
{
    int64_t end_ns = seconds > 0 ? loop_now_ns() + (int64_t)(MIN(seconds, 1e7) * 1e9) : 0;
    g_autofree char *path = NULL;
    int listener = migration_listen(address, &path, error);
    struct incoming *incoming = NULL;

    while (listener >= 0 && !incoming) {
        g_autoptr(GError) reason = NULL;
        int fd = accept_one(listener, end_ns);

        if (fd < 0) {
            g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "%s: %s", address,
                        g_strerror(errno));
            break;
        }
        if (!path)
            keep_alive(fd);
        incoming = create(fd, path != NULL);
        if (receive_greeting(incoming, &reason))
            break;
        log_warn("migration", "a connection was turned away: %s", reason->message);
        g_clear_pointer(&incoming, incoming_destroy);
    }
    close_fd(listener);
    if (path)
        unlink(path);
    return incoming;
}

void incoming_destroy(struct incoming *incoming)
{
    if (!incoming)
        return;
    migration_channel_clear(&incoming->channel);
    migration_sink_clear(&incoming->sink);
    close(incoming->cancel_fd);
    g_clear_error(&incoming->work_error);
    g_free(incoming);
}

struct config *incoming_config(const struct incoming *incoming, char **argv, GError **error)
{
    return restore_config_text((const char *)incoming->sink.config->data,
                               incoming->sink.config->len - 1, !incoming->local, argv, error);
}

/* ---- work on the thread, while the main loop turns ---- */

static void work_ended(void *opaque)
{
    ((struct incoming *)opaque)->work_done = true;
}

static void *work_thread(void *opaque)
{
    struct incoming *incoming = opaque;

    incoming->work_result = incoming->work(incoming, &incoming->work_error);
    loop_defer(loop_main(), work_ended, incoming);
    return NULL;
}

static bool in_thread(struct incoming *incoming,
                      bool (*work)(struct incoming *incoming, GError **error),
                      bool (*ended)(void *opaque), void *opaque, GError **error)
{
    pthread_t thread;
    uint64_t one = 1;
    int err;

    incoming->work = work;
    incoming->work_done = false;
    err = pthread_create(&thread, NULL, work_thread, incoming);
    if (err) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(err), "migration: no thread: %s",
                    g_strerror(err));
        return false;
    }
    while (!incoming->work_done) {
        loop_iterate(loop_main(), true);
        if (ended(opaque) && write(incoming->cancel_fd, &one, sizeof(one)) < 0) {
            /* Its count is at the limit: it is cancelled. */
        }
    }
    pthread_join(thread, NULL);
    if (incoming->work_error)
        g_propagate_error(error, g_steal_pointer(&incoming->work_error));
    return incoming->work_result;
}

static bool receive_all(struct incoming *incoming, GError **error)
{
    while (!incoming->sink.done) {
        if (!take_next(incoming, 0, error))
            return false;
        if (incoming->sink.asked &&
            !migration_send_type(&incoming->channel, MIGRATION_SYNCED, NULL, error))
            return false;
        incoming->sink.asked = false;
    }
    return true;
}

static bool receive_commit(struct incoming *incoming, GError **error)
{
    while (!incoming->sink.committed)
        if (!take_next(incoming, 0, error))
            return false;
    return true;
}

/* ---- the machine ---- */

static bool load(struct incoming *incoming, struct machine *machine, GError **error)
{
    struct restore *restore =
        restore_from_stream(incoming->sink.state->data, incoming->sink.state->len, error);
    bool done = restore && restore_load(restore, machine, error);

    restore_close(restore);
    return done;
}

bool incoming_receive(struct incoming *incoming, struct machine *machine,
                      bool (*ended)(void *opaque), void *opaque, GError **error)
{
    machine->arriving = true;
    if (!migration_sink_fits(&incoming->sink, machine->memory, error))
        return false;
    incoming->sink.memory = machine->memory;
    trace_incoming_phase("receive");
    if (!migration_send_type(&incoming->channel, MIGRATION_READY, NULL, error) ||
        !in_thread(incoming, receive_all, ended, opaque, error))
        return false;
    trace_incoming_phase("load");
    if (!load(incoming, machine, error) ||
        !migration_send_type(&incoming->channel, MIGRATION_LOADED, NULL, error))
        return false;
    trace_incoming_phase("commit");
    /* From COMMIT on the guest is ours, whatever is asked for meanwhile: that comes after its start. */
    if (!in_thread(incoming, receive_commit, ended, opaque, error))
        return false;
    if (!machine_take_disks(machine, error) ||
        !devices_set_state(&machine->devices, DEVICE_RUNNING, DEVICES_MS, error))
        return false;
    machine->arriving = false;
    return true;
}

void incoming_tell_running(struct incoming *incoming)
{
    g_autoptr(GError) error = NULL;

    incoming->told = true;
    incoming->channel.cancel_fd = -1;
    if (!migration_send_type(&incoming->channel, MIGRATION_RUNNING, NULL, &error))
        log_warn("migration", "the source was not told that the guest runs here: %s",
                 error->message);
    trace_incoming_phase("running");
}

void incoming_tell_failed(struct incoming *incoming, struct machine *machine, const char *why)
{
    if (incoming->told || incoming->channel.fd < 0)
        return;
    incoming->told = true;
    incoming->channel.cancel_fd = -1;
    /* First the disks, then the word: the source takes them back when it hears it. */
    for (guint i = 0; machine && i < machine->entries->len; i++) {
        struct machine_device *entry = g_ptr_array_index(machine->entries, i);

        if (!strcmp(entry->type->name, "virtio-blk"))
            block_set_lock(virtio_blk_backend(entry->vdev), false);
    }
    if (!incoming->sink.failure)
        migration_send_type(&incoming->channel, MIGRATION_FAILED, why, NULL);
}
