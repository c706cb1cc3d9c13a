/* SPDX-License-Identifier: GPL-2.0-or-later */
/* migrate - the source's side of a migration (lodge/migrate.h; vmm/migration.h has the wire) */
#include "lodge/migrate.h"

#include <errno.h>
#include <gio/gio.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backends/block/block.h"
#include "lodge/control.h"
#include "lodge/snapshot.h"
#include "virtio/blk.h"
#include "vmm/fd.h"
#include "vmm/log.h"
#include "vmm/migration.h"
#include "vmm/trace.h"

#define SETUP_MS  30000 /* for the target to make its machine */
#define LOAD_MS   60000 /* for it to load the state */
#define STALL_MS  10000 /* without a byte being taken */
#define COMMIT_MS 30000 /* between COMMIT and RUNNING */
#define WORTH_MS  10    /* of expected downtime that another round is worth its while for */
#define CHUNK     (1u << 20)

TRACE_EVENT(migrate_phase, "%s", (const char *phase), phase)
TRACE_EVENT(migrate_round, "%u: %" G_GINT64_MODIFIER "u pages, %" G_GINT64_MODIFIER "u left",
            (unsigned round, uint64_t pages, uint64_t left), round, pages, left)

enum phase {
    PHASE_SETUP,
    PHASE_ACTIVE,  /* rounds */
    PHASE_STOPPED, /* the guest is; the rest is sent */
    PHASE_COMMIT,  /* COMMIT may have been sent */
    PHASE_COMPLETED,
    PHASE_FAILED,
    PHASE_CANCELLED,
    PHASE_LOST, /* no answer to COMMIT: the target may run the guest */
};
static const char *const phase_names[] = {"setup",     "active", "stopped",   "commit",
                                          "completed", "failed", "cancelled", "lost"};

struct ram {
    struct memory_region region; /* a copy; RAM stays as long as the machine */
    uint64_t *dirty;
    uint64_t pages;
};

struct migrate {
    struct machine *machine;
    char *to;
    unsigned downtime_ms;
    uint64_t bandwidth;
    pthread_t thread;
    int cancel_fd;
    struct migration_channel channel;
    GByteArray *greeting, *state, *out;
    struct ram *ram;
    unsigned ram_count;
    unsigned resets;    /* of the machine, when last looked at */
    bool refused;       /* the target said FAILED; thread */
    bool regained;      /* after PHASE_LOST: the disks are ours again; main thread */
    bool tracking;      /* dirty logs are on; main thread */
    bool finished;      /* the thread does no more steps; main thread */
    int64_t limited_ns; /* when the bandwidth limit was last kept */
    uint64_t limited_bytes;
    GError *step_error;   /* of the step that the main thread did */
    pthread_mutex_t lock; /* what follows is told to query-migrate */
    enum phase phase;
    char *error;
    unsigned rounds;
    uint64_t sent_bytes, sent_pages, left_pages, total_pages;
    int64_t begun_ns, stopped_ns, ended_ns;
    uint64_t expected_downtime_ms;
};

/* ---- what is told ---- */

static void set_phase(struct migrate *m, enum phase phase)
{
    pthread_mutex_lock(&m->lock);
    m->phase = phase;
    pthread_mutex_unlock(&m->lock);
    trace_migrate_phase(phase_names[phase]);
}

static bool is_over(enum phase phase)
{
    return phase >= PHASE_COMPLETED;
}

JsonObject *migrate_describe(const struct machine *machine)
{
    JsonObject *object = json_object_new();
    struct migrate *m = machine->migrate;
    int64_t now;

    if (!m) {
        json_object_set_string_member(object, "status", "none");
        return object;
    }
    pthread_mutex_lock(&m->lock);
    now = m->ended_ns ? m->ended_ns : loop_now_ns();
    json_object_set_string_member(object, "status", phase_names[m->phase]);
    json_object_set_string_member(object, "to", m->to);
    json_object_set_int_member(object, "rounds", m->rounds);
    json_object_set_int_member(object, "ram-bytes", (gint64)m->total_pages * MEMORY_PAGE_SIZE);
    json_object_set_int_member(object, "remaining-bytes", (gint64)m->left_pages * MEMORY_PAGE_SIZE);
    json_object_set_int_member(object, "sent-bytes", (gint64)m->sent_bytes);
    json_object_set_int_member(object, "sent-pages", (gint64)m->sent_pages);
    json_object_set_int_member(object, "total-ms", (now - m->begun_ns) / 1000000);
    json_object_set_int_member(object, "expected-downtime-ms", (gint64)m->expected_downtime_ms);
    if (m->stopped_ns)
        json_object_set_int_member(object, "downtime-ms", (now - m->stopped_ns) / 1000000);
    if (m->error)
        json_object_set_string_member(object, "error", m->error);
    pthread_mutex_unlock(&m->lock);
    return object;
}

static void tell(void *opaque)
{
    struct migrate *m = opaque;

    if (m->machine->control)
        control_event(m->machine->control, "MIGRATION", migrate_describe(m->machine));
}

/* ---- steps of the main thread ---- */

struct step {
    struct migrate *m;
    bool (*run)(struct migrate *m, GError **error);
    bool done;
};

static void run_step(void *opaque)
{
    struct step *step = opaque;
    struct machine *machine = step->m->machine;

    if (machine->reason != SHUTDOWN_NONE)
        g_set_error(&step->m->step_error, G_IO_ERROR, G_IO_ERROR_FAILED,
                    "migration: the guest has ended");
    else
        step->done = step->run(step->m, &step->m->step_error);
}

static bool on_main(struct migrate *m, bool (*run)(struct migrate *m, GError **error),
                    GError **error)
{
    struct step step = {.m = m, .run = run};

    loop_call(loop_main(), run_step, &step);
    if (m->step_error)
        g_propagate_error(error, g_steal_pointer(&m->step_error));
    return step.done;
}

static void mark_all(struct migrate *m)
{
    for (unsigned i = 0; i < m->ram_count; i++)
        for (uint64_t page = 0; page < m->ram[i].pages; page++)
            m->ram[i].dirty[page / 64] |= UINT64_C(1) << (page % 64);
}

/* Pages that were never touched, as the target's. */
static void skip_unused(struct ram *ram)
{
    uint64_t words = (ram->pages + 63) / 64;
    g_autofree uint64_t *used = g_new(uint64_t, words);

    if (!memory_find_used(&ram->region, 0, ram->pages, used))
        return;
    for (uint64_t i = 0; i < words; i++)
        ram->dirty[i] &= used[i];
}

/* Pages that a file has no room for were never written: the target's are zero too. Not read, because
 * reading them through the mapping would make them. */
static void skip_holes(struct ram *ram)
{
    off_t base = (off_t)ram->region.fd_offset, size = (off_t)ram->region.size, at = 0;

    while (ram->region.fd >= 0 && at < size) {
        off_t data = lseek(ram->region.fd, base + at, SEEK_DATA), end;

        if (data < 0 && errno != ENXIO)
            return;
        end = data < 0 ? size : MIN(data - base, size);
        for (uint64_t page = (uint64_t)at / MEMORY_PAGE_SIZE;
             page < (uint64_t)end / MEMORY_PAGE_SIZE; page++)
            ram->dirty[page / 64] &= ~(UINT64_C(1) << (page % 64));
        data = end < size ? lseek(ram->region.fd, base + end, SEEK_HOLE) : -1;
        at =
            data < 0 ? size : (data - base + MEMORY_PAGE_SIZE - 1) & ~(off_t)(MEMORY_PAGE_SIZE - 1);
    }
}

static void stop_tracking(struct migrate *m)
{
    if (!m->tracking)
        return;
    m->tracking = false;
    vm_dirty_stop(m->machine->vm);
    memory_dirty_stop(m->machine->memory);
}

/* Logs on, then everything counts as written: nothing is written between the two unseen. */
static bool step_track(struct migrate *m, GError **error)
{
    struct machine *machine = m->machine;
    int ret = memory_dirty_start(machine->memory);

    m->tracking = true;
    if (!ret)
        ret = vm_dirty_start(machine->vm);
    if (ret) {
        stop_tracking(m);
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret),
                    "migration: what the guest writes can't be followed: %s", g_strerror(-ret));
        return false;
    }
    m->resets = machine->resets;
    mark_all(m);
    for (unsigned i = 0; i < m->ram_count; i++) {
        skip_holes(&m->ram[i]);
        skip_unused(&m->ram[i]);
    }
    return true;
}

static bool step_sync(struct migrate *m, GError **error)
{
    for (unsigned i = 0; i < m->ram_count; i++) {
        unsigned count;
        const struct memory_region *regions = memory_regions(m->machine->memory, &count);
        int ret = vm_dirty_sync(m->machine->vm, &m->ram[i].region, m->ram[i].dirty);

        for (unsigned r = 0; r < count; r++)
            if (regions[r].gpa == m->ram[i].region.gpa)
                memory_dirty_sync(m->machine->memory, &regions[r], m->ram[i].dirty);
        if (ret < 0) {
            g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret),
                        "migration: KVM's dirty log: %s", g_strerror(-ret));
            return false;
        }
    }
    /* The loaders write where nobody looks. */
    if (m->resets != m->machine->resets)
        mark_all(m);
    m->resets = m->machine->resets;
    return true;
}

/* The guest stops; its state goes into memory here, what it wrote last into the bitmaps. */
static bool step_stop(struct migrate *m, GError **error)
{
    pthread_mutex_lock(&m->lock);
    m->stopped_ns = loop_now_ns();
    pthread_mutex_unlock(&m->lock);
    if (!machine_hold(m->machine, error))
        return false;
    g_clear_pointer(&m->state, g_byte_array_unref);
    m->state = machine_state(m->machine, error);
    return m->state && step_sync(m, error);
}

static void set_disk_locks(struct machine *machine, bool locked, GError **error)
{
    for (guint i = 0; i < machine->entries->len; i++) {
        struct machine_device *entry = g_ptr_array_index(machine->entries, i);

        if (strcmp(entry->type->name, "virtio-blk") ||
            !block_set_lock(virtio_blk_backend(entry->vdev), locked))
            continue;
        if (error && !*error)
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                        "migration: %s: in use by another monitor (the image is locked)",
                        entry->id);
    }
}

bool machine_take_disks(struct machine *machine, GError **error)
{
    GError *reason = NULL;

    set_disk_locks(machine, true, &reason);
    if (!reason)
        return true;
    set_disk_locks(machine, false, NULL);
    g_propagate_error(error, reason);
    return false;
}

/* What the guest wrote is to be found by the target, on another host perhaps. May take its time. */
static bool sync_disks(struct migrate *m, GError **error)
{
    for (guint i = 0; i < m->machine->entries->len; i++) {
        struct machine_device *entry = g_ptr_array_index(m->machine->entries, i);
        const struct block *block =
            strcmp(entry->type->name, "virtio-blk") ? NULL : virtio_blk_backend(entry->vdev);

        if (block && block->lock_fd >= 0 && !block->read_only && fdatasync(block->lock_fd) &&
            errno != EINVAL) {
            g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                        "migration: %s can't be synced: %s", entry->id, g_strerror(errno));
            return false;
        }
    }
    return true;
}

static bool step_give_up(struct migrate *m, GError **error)
{
    set_phase(m, PHASE_COMMIT);
    set_disk_locks(m->machine, false, NULL);
    return true;
}

/* It failed before the target had the guest, or the target says that it could not start it. */
static bool step_go_on(struct migrate *m, GError **error)
{
    bool committed = m->phase == PHASE_COMMIT;

    stop_tracking(m);
    m->machine->migrating = false;
    if (committed && !machine_take_disks(m->machine, error))
        return false;
    return machine_release(m->machine, error);
}

static bool step_leave(struct migrate *m, GError **error)
{
    m->machine->migrating = false;
    machine_request(m->machine, SHUTDOWN_MIGRATED, 0, m->to);
    return true;
}

bool migrate_may_continue(struct machine *machine, GError **error)
{
    struct migrate *m = machine->migrate;

    if (!m || m->phase != PHASE_LOST || m->regained)
        return true;
    m->regained = machine_take_disks(machine, error);
    return m->regained;
}

/* ---- what the target says ---- */

static bool expect(struct migrate *m, enum migration_type type, unsigned timeout_ms, GError **error)
{
    struct migration_message message;

    if (!migration_receive(&m->channel, &message, timeout_ms, error))
        return false;
    if (message.type == MIGRATION_FAILED) {
        g_autofree char *text = g_strndup((const char *)message.data, message.size);
        g_autofree char *valid = g_utf8_make_valid(text, -1);

        m->refused = true;
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "migration: the target: %s", valid);
    } else if (message.type != type) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "migration: the target says %s, expected was %s",
                    migration_type_name(message.type), migration_type_name(type));
    }
    return message.type == type && type != MIGRATION_FAILED;
}

/* ---- sending RAM ---- */

/* Keeps to the limit. A cancellation ends the wait, and so does the target, which has nothing to say
 * while RAM is sent but that it failed. */
static bool keep_limit(struct migrate *m, uint64_t bytes, GError **error)
{
    struct pollfd fds[2] = {{.fd = m->cancel_fd, .events = POLLIN},
                            {.fd = m->channel.fd, .events = POLLIN}};
    int64_t due = 0;

    if (m->bandwidth) {
        m->limited_bytes += bytes;
        due = m->limited_ns + (int64_t)((double)m->limited_bytes / (double)m->bandwidth * 1e9);
    }
    for (;;) {
        int64_t left_ms = MAX((due - loop_now_ns()) / 1000000, 0);

        if (poll(fds, 2, (int)MIN(left_ms, 1000)) > 0 && fds[0].revents) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "migration: cancelled");
            return false;
        }
        if (fds[1].revents)
            return expect(m, MIGRATION_FAILED, STALL_MS, error);
        if (!left_ms)
            return true;
    }
}

static bool flush(struct migrate *m, bool limited, GError **error)
{
    guint bytes = m->out->len;

    if (!migration_send(&m->channel, m->out->data, bytes, STALL_MS, error))
        return false;
    g_byte_array_set_size(m->out, 0);
    pthread_mutex_lock(&m->lock);
    m->sent_bytes += bytes;
    pthread_mutex_unlock(&m->lock);
    return !limited || keep_limit(m, bytes, error);
}

static bool is_zero(const uint8_t *page)
{
    return !page[0] && !memcmp(page, page + 1, MEMORY_PAGE_SIZE - 1);
}

/* How many pages from @page on are in @dirty and zero (or not), up to @most. */
static uint64_t run_length(const struct ram *ram, const uint64_t *dirty, uint64_t page, bool zero,
                           uint64_t most)
{
    uint64_t count = 0;

    while (count < most && page + count < ram->pages &&
           dirty[(page + count) / 64] >> ((page + count) % 64) & 1 &&
           is_zero(ram->region.host + (page + count) * MEMORY_PAGE_SIZE) == zero)
        count++;
    return count;
}

/* Sends the pages in the bitmap, and clears it first: a page written from here on is in the next. */
static bool send_ram(struct migrate *m, struct ram *ram, bool limited, GError **error)
{
    uint64_t words = (ram->pages + 63) / 64;
    g_autofree uint64_t *dirty = g_memdup2(ram->dirty, words * sizeof(uint64_t));

    memset(ram->dirty, 0, words * sizeof(uint64_t));
    for (uint64_t page = 0; page < ram->pages;) {
        uint64_t gpa = ram->region.gpa + page * MEMORY_PAGE_SIZE, count;
        const uint8_t *host = ram->region.host + page * MEMORY_PAGE_SIZE;

        if (!(dirty[page / 64] >> (page % 64) & 1)) {
            page += dirty[page / 64] ? 1 : 64 - page % 64;
            continue;
        }
        count = run_length(ram, dirty, page, true, 1u << 18);
        if (count) {
            migration_put_zeroes(m->out, gpa, count);
        } else {
            count = MAX(run_length(ram, dirty, page, false, MIGRATION_MAX_PAGES), 1);
            migration_put_pages(m->out, gpa, host, (unsigned)count);
        }
        page += count;
        pthread_mutex_lock(&m->lock);
        m->sent_pages += count;
        m->left_pages -= MIN(count, m->left_pages);
        pthread_mutex_unlock(&m->lock);
        if (m->out->len >= CHUNK && !flush(m, limited, error))
            return false;
    }
    return true;
}

static uint64_t count_dirty(struct migrate *m)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < m->ram_count; i++)
        for (uint64_t w = 0; w < (m->ram[i].pages + 63) / 64; w++)
            count += (uint64_t)__builtin_popcountll(m->ram[i].dirty[w]);
    pthread_mutex_lock(&m->lock);
    m->left_pages = count;
    pthread_mutex_unlock(&m->lock);
    return count;
}

static bool send_round(struct migrate *m, bool limited, GError **error)
{
    for (unsigned i = 0; i < m->ram_count; i++)
        if (!send_ram(m, &m->ram[i], limited, error))
            return false;
    return flush(m, limited, error);
}

/* Until what is left fits into the downtime limit, at the speed of the last round: that of the slower
 * side, and with nothing on its way any more. Then on as long as each round leaves less than half: all of
 * these take no longer than twice the limit. */
static bool send_rounds(struct migrate *m, GError **error)
{
    m->limited_ns = loop_now_ns();
    for (;;) {
        int64_t begun = loop_now_ns(), took;
        uint64_t sent = count_dirty(m), left, expected_ms;

        if (!send_round(m, true, error) ||
            !migration_send_type(&m->channel, MIGRATION_SYNC, NULL, error) ||
            !expect(m, MIGRATION_SYNCED, LOAD_MS, error))
            return false;
        took = MAX(loop_now_ns() - begun, 1000000);
        if (!on_main(m, step_sync, error))
            return false;
        left = count_dirty(m);
        expected_ms = sent ? (uint64_t)((double)left * (double)took / (double)sent / 1e6) : 0;
        pthread_mutex_lock(&m->lock);
        m->rounds++;
        m->expected_downtime_ms = expected_ms;
        pthread_mutex_unlock(&m->lock);
        trace_migrate_round(m->rounds, sent, left);
        loop_defer(loop_main(), tell, m);
        if (expected_ms <= m->downtime_ms && (expected_ms <= WORTH_MS || left > sent / 2))
            return true;
    }
}

/* ---- the thread ---- */

static bool connect_to(struct migrate *m, GError **error)
{
    int fd = migration_connect(m->to, m->cancel_fd, error);

    if (fd < 0)
        return false;
    m->channel.fd = fd;
    return migration_send(&m->channel, m->greeting->data, m->greeting->len, STALL_MS, error) &&
           expect(m, MIGRATION_READY, SETUP_MS, error);
}

static bool send_state(struct migrate *m, GError **error)
{
    for (guint at = 0; at < m->state->len; at += MIGRATION_PIECE) {
        migration_put(m->out, MIGRATION_STATE, m->state->data + at,
                      MIN(MIGRATION_PIECE, m->state->len - at));
        if (!flush(m, false, error))
            return false;
    }
    migration_put_done(m->out, m->sent_pages, m->state->len);
    return flush(m, false, error);
}

/* Everything up to COMMIT. False: the guest is to go on here. */
static bool hand_over(struct migrate *m, GError **error)
{
    if (!connect_to(m, error))
        return false;
    set_phase(m, PHASE_ACTIVE);
    if (!on_main(m, step_track, error) || !send_rounds(m, error))
        return false;
    set_phase(m, PHASE_STOPPED);
    if (!on_main(m, step_stop, error))
        return false;
    count_dirty(m);
    return send_round(m, false, error) && send_state(m, error) && sync_disks(m, error) &&
           expect(m, MIGRATION_LOADED, LOAD_MS, error) && on_main(m, step_give_up, error);
}

/* The answer to COMMIT, which a cancellation does not hurry. */
static enum phase commit(struct migrate *m, GError **error)
{
    m->channel.cancel_fd = -1;
    /* What was not handed to the kernel to its last byte, nobody takes for a COMMIT. */
    if (!migration_send_type(&m->channel, MIGRATION_COMMIT, NULL, error))
        return PHASE_FAILED;
    if (expect(m, MIGRATION_RUNNING, COMMIT_MS, error))
        return PHASE_COMPLETED;
    return m->refused ? PHASE_FAILED : PHASE_LOST;
}

static void finish_thread(void *opaque)
{
    struct migrate *m = opaque;

    m->finished = true;
    tell(m);
}

/* The last thing that the thread does. */
static void end(struct migrate *m, enum phase phase, const GError *error)
{
    if (phase == PHASE_LOST)
        log_error("migration",
                  "%s. The target may run the guest, so it stays stopped here; if you "
                  "know that the target does not, let it go on by cont",
                  error->message);
    else if (phase != PHASE_COMPLETED)
        log_warn("migrate", "%s; the guest goes on here", error->message);
    pthread_mutex_lock(&m->lock);
    m->phase = phase;
    m->ended_ns = loop_now_ns();
    m->error = error ? g_strdup(error->message) : NULL;
    pthread_mutex_unlock(&m->lock);
    trace_migrate_phase(phase_names[phase]);
}

static bool step_lost(struct migrate *m, GError **error)
{
    stop_tracking(m);
    m->machine->migrating = false; /* cont is the user's to say */
    return machine_settle(m->machine, error);
}

static void *migrate_thread(void *opaque)
{
    struct migrate *m = opaque;
    g_autoptr(GError) error = NULL, worse = NULL;
    enum phase phase;

    if (hand_over(m, &error)) {
        phase = commit(m, &error);
    } else {
        phase = g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ? PHASE_CANCELLED
                                                                         : PHASE_FAILED;
        m->channel.cancel_fd = -1;
        if (m->channel.fd >= 0)
            migration_send_type(&m->channel, MIGRATION_FAILED, error->message, NULL);
    }
    close_fd(m->channel.fd);
    m->channel.fd = -1;
    if (!on_main(m,
                 phase == PHASE_COMPLETED ? step_leave
                 : phase == PHASE_LOST    ? step_lost
                                          : step_go_on,
                 &worse) &&
        worse && m->machine->reason == SHUTDOWN_NONE)
        log_error("migration", "%s", worse->message);
    end(m, phase, error);
    loop_defer(loop_main(), finish_thread, m);
    return NULL;
}

/* ---- from outside ---- */

static void find_ram(struct migrate *m)
{
    unsigned count;
    const struct memory_region *regions = memory_regions(m->machine->memory, &count);

    m->ram = g_new0(struct ram, count);
    for (unsigned i = 0; i < count; i++) {
        struct ram *ram = &m->ram[m->ram_count];

        if (!(regions[i].flags & MEMORY_RAM))
            continue;
        ram->region = regions[i];
        ram->pages = regions[i].size / MEMORY_PAGE_SIZE;
        ram->dirty = g_new0(uint64_t, (ram->pages + 63) / 64);
        m->total_pages += ram->pages;
        m->ram_count++;
    }
}

static struct migrate *create(struct machine *machine, const struct migrate_options *options)
{
    struct migrate *m = g_new0(struct migrate, 1);
    g_autofree char *config = machine_saved_config(machine);

    m->machine = machine;
    m->to = g_strdup(options->to);
    m->downtime_ms = options->downtime_ms;
    m->bandwidth = options->bandwidth;
    m->begun_ns = loop_now_ns();
    m->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&m->lock, NULL);
    m->out = g_byte_array_new();
    m->greeting = g_byte_array_new();
    migration_channel_init(&m->channel, -1, m->cancel_fd);
    migration_put_hello(m->greeting);
    migration_put(m->greeting, MIGRATION_CONFIG, config, strlen(config));
    migration_put_layout(m->greeting, machine->memory);
    find_ram(m);
    return m;
}

bool migrate_start(struct machine *machine, const struct migrate_options *options, GError **error)
{
    int err;

    if (machine->migrate && !machine->migrate->finished)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY, "a migration is under way");
    else if (machine->paused || machine->changing)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_WRONG_ETAG,
                    "migrate: the guest is stopped: let it go on first (cont)");
    else if (!machine_may_be_saved(machine, error))
        return false;
    else
        goto start;
    return false;
start:
    migrate_destroy(machine); /* an earlier one */
    machine->migrate = create(machine, options);
    machine->migrating = true;
    err = pthread_create(&machine->migrate->thread, NULL, migrate_thread, machine->migrate);
    if (!err)
        return true;
    machine->migrating = false;
    machine->migrate->finished = true;
    machine->migrate->thread = 0;
    migrate_destroy(machine);
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(err), "migrate: no thread: %s",
                g_strerror(err));
    return false;
}

bool migrate_cancel(struct machine *machine, GError **error)
{
    struct migrate *m = machine->migrate;
    uint64_t one = 1;

    if (!m || is_over(m->phase) || m->phase == PHASE_COMMIT) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "migrate_cancel: there is no migration that could be cancelled");
        return false;
    }
    if (write(m->cancel_fd, &one, sizeof(one)) < 0) {
        /* Its count is at the limit: it is cancelled. */
    }
    return true;
}

void migrate_destroy(struct machine *machine)
{
    struct migrate *m = machine->migrate;
    uint64_t one = 1;

    if (!m)
        return;
    if (!m->finished && write(m->cancel_fd, &one, sizeof(one)) < 0) {
        /* as above */
    }
    /* The thread may be waiting for a step. */
    while (!m->finished)
        loop_iterate(loop_main(), true);
    if (m->thread)
        pthread_join(m->thread, NULL);
    machine->migrate = NULL;
    migration_channel_clear(&m->channel);
    for (unsigned i = 0; i < m->ram_count; i++)
        g_free(m->ram[i].dirty);
    g_free(m->ram);
    g_byte_array_unref(m->greeting);
    g_byte_array_unref(m->out);
    g_clear_pointer(&m->state, g_byte_array_unref);
    close(m->cancel_fd);
    pthread_mutex_destroy(&m->lock);
    g_free(m->error);
    g_free(m->to);
    g_free(m);
}
