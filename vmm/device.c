/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device - the lifecycle of every device, and of all devices of a machine together (vmm/device.h)
 *
 * The rules are two constant tables: what a state allows, and which arcs the VFIO migration protocol
 * has. Everything else follows: a request is carried out arc by arc along the shortest legal path,
 * all devices in step, and none leaves the P2P states before all are there.
 *
 * While it waits for devices to drain, devices_set_state() turns the main loop, because slow devices
 * complete their work there. It therefore holds no pointer across a turn, and refuses to be entered
 * again from it.
 */
#include "vmm/device.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

#include "vmm/irq.h"
#include "vmm/loop.h"
#include "vmm/shutdown.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(device_state, "%s %s -> %s", (const char *device, const char *from, const char *to),
            device, from, to)
TRACE_EVENT(device_quiesce, "%s", (const char *device), device)
TRACE_EVENT(device_violation, "%s %s in %s",
            (const char *device, const char *operation, const char *state), device, operation,
            state)

#define DRAIN_POLL_US 200

static bool violations_fatal; /* atomic */

static const char *const state_names[DEVICE_STATES] = {
    [DEVICE_ERROR] = "ERROR",       [DEVICE_STOP] = "STOP",
    [DEVICE_RUNNING] = "RUNNING",   [DEVICE_STOP_COPY] = "STOP_COPY",
    [DEVICE_RESUMING] = "RESUMING", [DEVICE_RUNNING_P2P] = "RUNNING_P2P",
    [DEVICE_PRE_COPY] = "PRE_COPY", [DEVICE_PRE_COPY_P2P] = "PRE_COPY_P2P",
};

static const char *const operation_names[DEVICE_OPERATIONS] = {
    [DEVICE_OP_CONFIG] = "config access",
    [DEVICE_OP_REGISTER_READ] = "register read",
    [DEVICE_OP_REGISTER_WRITE] = "register write",
    [DEVICE_OP_DMA_READ] = "DMA read",
    [DEVICE_OP_DMA_WRITE] = "DMA write",
    [DEVICE_OP_INTERRUPT] = "interrupt",
    [DEVICE_OP_SAVE] = "saving",
    [DEVICE_OP_LOAD] = "loading",
};

#define YES   DEVICE_ALLOW
#define LATER DEVICE_LATCH
#define NO    DEVICE_REFUSE

/*
 * A device may not interrupt in the P2P states: a message is a DMA write too. In STOP an interrupt
 * is kept as well, not lost: the host side may still change (a link, a console's size). In
 * STOP_COPY the latches have been read already, so it would be.
 */
/* clang-format off */
static const uint8_t rules[DEVICE_STATES][DEVICE_OPERATIONS] = {
    /*                        config  read  write  dma-r  dma-w  irq    save  load */
    [DEVICE_ERROR]        = { NO,     NO,   NO,    NO,    NO,    NO,    NO,   NO },
    [DEVICE_STOP]         = { YES,    YES,  NO,    NO,    NO,    LATER, NO,   NO },
    [DEVICE_RUNNING]      = { YES,    YES,  YES,   YES,   YES,   YES,   NO,   NO },
    [DEVICE_STOP_COPY]    = { NO,     NO,   NO,    NO,    NO,    NO,    YES,  NO },
    [DEVICE_RESUMING]     = { NO,     NO,   NO,    NO,    NO,    NO,    NO,   YES },
    [DEVICE_RUNNING_P2P]  = { YES,    YES,  YES,   NO,    NO,    LATER, NO,   NO },
    [DEVICE_PRE_COPY]     = { YES,    YES,  YES,   YES,   YES,   YES,   YES,  NO },
    [DEVICE_PRE_COPY_P2P] = { YES,    YES,  YES,   NO,    NO,    LATER, YES,  NO },
};
/* clang-format on */

/* The arcs of <linux/vfio.h>, enum vfio_device_mig_state, with P2P and PRE_COPY. */
static const struct arc {
    uint8_t from, to;
} arcs[] = {
    {DEVICE_RUNNING, DEVICE_RUNNING_P2P},
    {DEVICE_RUNNING_P2P, DEVICE_RUNNING},
    {DEVICE_RUNNING_P2P, DEVICE_STOP},
    {DEVICE_STOP, DEVICE_RUNNING_P2P},
    {DEVICE_STOP, DEVICE_STOP_COPY},
    {DEVICE_STOP_COPY, DEVICE_STOP},
    {DEVICE_STOP, DEVICE_RESUMING},
    {DEVICE_RESUMING, DEVICE_STOP},
    {DEVICE_RUNNING, DEVICE_PRE_COPY},
    {DEVICE_PRE_COPY, DEVICE_RUNNING},
    {DEVICE_RUNNING_P2P, DEVICE_PRE_COPY_P2P},
    {DEVICE_PRE_COPY_P2P, DEVICE_RUNNING_P2P},
    {DEVICE_PRE_COPY, DEVICE_PRE_COPY_P2P},
    {DEVICE_PRE_COPY_P2P, DEVICE_PRE_COPY},
    {DEVICE_PRE_COPY_P2P, DEVICE_STOP_COPY},
};

const char *device_state_name(enum device_state state)
{
    return (unsigned)state < DEVICE_STATES ? state_names[state] : "?";
}

const char *shutdown_reason_name(enum shutdown_reason reason)
{
    static const char *const names[] = {
        [SHUTDOWN_NONE] = "none",
        [SHUTDOWN_POWER_OFF] = "power-off",
        [SHUTDOWN_RESET] = "reset",
        [SHUTDOWN_DEBUG_EXIT] = "debug-exit",
        [SHUTDOWN_TRIPLE_FAULT] = "triple-fault",
        [SHUTDOWN_PANIC] = "panic",
        [SHUTDOWN_CRASH_LOADED] = "crash-loaded",
        [SHUTDOWN_WATCHDOG] = "watchdog",
        [SHUTDOWN_INTERNAL_ERROR] = "internal-error",
        [SHUTDOWN_QUIT] = "quit",
        [SHUTDOWN_TIMEOUT] = "timeout",
        [SHUTDOWN_MIGRATED] = "migrated",
        [SHUTDOWN_COMMAND_DONE] = "command-done",
    };

    return (unsigned)reason < G_N_ELEMENTS(names) ? names[reason] : "?";
}

/* ---- rules ---- */

enum device_verdict device_rule(enum device_state state, enum device_operation operation)
{
    if ((unsigned)state >= DEVICE_STATES || (unsigned)operation >= DEVICE_OPERATIONS)
        return DEVICE_REFUSE;
    return rules[state][operation];
}

static void violation(struct device *device, enum device_state state,
                      enum device_operation operation)
{
    const char *what = operation_names[operation];
    const char *where = device_state_name(state);

    __atomic_fetch_add(&device->violations, 1, __ATOMIC_RELAXED);
    trace_device_violation(device->name, what, where);
    if (__atomic_load_n(&violations_fatal, __ATOMIC_RELAXED))
        g_error("%s: %s in state %s", device->name, what, where);
    log_guest(&device->guest_errors, device->name, "%s refused in state %s", what, where);
}

enum device_verdict device_check(struct device *device, enum device_operation operation)
{
    enum device_state state = device_state(device);
    enum device_verdict verdict = device_rule(state, operation);

    if (G_LIKELY(verdict != DEVICE_REFUSE))
        return verdict;
    /* vCPUs may run while a device is broken, so accesses to it are nobody's fault. */
    if (state != DEVICE_ERROR || operation > DEVICE_OP_REGISTER_WRITE)
        violation(device, state, operation);
    return verdict;
}

void device_violations_fatal(bool fatal)
{
    __atomic_store_n(&violations_fatal, fatal, __ATOMIC_RELAXED);
}

/* ---- paths ---- */

/* States in which a saving session is open. A path does not open one by the way. */
static bool is_saving(enum device_state state)
{
    return state == DEVICE_PRE_COPY || state == DEVICE_PRE_COPY_P2P || state == DEVICE_STOP_COPY;
}

static bool is_p2p(enum device_state state)
{
    return state == DEVICE_RUNNING_P2P || state == DEVICE_PRE_COPY_P2P;
}

static bool is_working(enum device_state state)
{
    return state == DEVICE_RUNNING || state == DEVICE_PRE_COPY;
}

/* Breadth first from @to backwards, so that the first state met that leads to it is the next one. */
int device_next_state(enum device_state from, enum device_state to)
{
    uint8_t next[DEVICE_STATES] = {0}; /* DEVICE_ERROR, which no path has: not reached yet */
    uint8_t queue[DEVICE_STATES];
    unsigned head = 0, tail = 0;

    if ((unsigned)from >= DEVICE_STATES || (unsigned)to >= DEVICE_STATES || from == DEVICE_ERROR ||
        to == DEVICE_ERROR)
        return -EINVAL;
    if (from == to)
        return to;
    /* What was streamed can't be taken back, so there is no way from its end to its beginning. */
    if (from == DEVICE_STOP_COPY && is_saving(to))
        return -EINVAL;

    next[to] = to;
    queue[tail++] = to;
    while (head < tail && !next[from]) {
        enum device_state state = queue[head++];
        if (state != to && is_saving(state) && !(is_saving(from) && is_saving(to)))
            continue; /* may be an end of the path, not its middle */
        for (unsigned i = 0; i < G_N_ELEMENTS(arcs); i++)
            if (arcs[i].to == state && !next[arcs[i].from]) {
                next[arcs[i].from] = state;
                queue[tail++] = arcs[i].from;
            }
    }
    return next[from] ? next[from] : -EINVAL;
}

/* ---- one device ---- */

void device_init(struct device *device, const char *name, const char *type,
                 const struct device_ops *ops)
{
    memset(device, 0, sizeof(*device));
    device->name = g_strdup(name);
    device->type = type;
    device->ops = ops;
    device->state = DEVICE_RUNNING;
}

void device_finish(struct device *device)
{
    g_clear_pointer(&device->name, g_free);
}

static void enter_state(struct device *device, enum device_state state)
{
    trace_device_state(device->name, device_state_name(device_state(device)),
                       device_state_name(state));
    __atomic_store_n(&device->state, state, __ATOMIC_RELEASE);
}

void device_reset(struct device *device)
{
    /* What was to interrupt before the reset has nothing to say after it. */
    for (struct irq_msi *msi = device->msis; msi; msi = msi->next)
        __atomic_store_n(&msi->latched, false, __ATOMIC_RELEASE);
    for (struct irq_line *line = device->lines; line; line = line->next)
        __atomic_store_n(&line->latched, false, __ATOMIC_RELEASE);
    device->quiescing = false;
    enter_state(device, DEVICE_RUNNING);
    if (device->ops->reset)
        device->ops->reset(device);
}

void device_fail(struct device *device, const char *reason)
{
    log_error(device->name, "%s; the device is out of order until a reset", reason);
    enter_state(device, DEVICE_ERROR);
}

bool device_save(struct device *device, GByteArray *out, GError **error)
{
    if (device->migration_blocker) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "%s can't be saved: %s",
                    device->name, device->migration_blocker);
        return false;
    }
    if (device_check(device, DEVICE_OP_SAVE) != DEVICE_ALLOW) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_WRONG_ETAG, "%s can't be saved in state %s",
                    device->name, device_state_name(device_state(device)));
        return false;
    }
    if (device->ops->before_save)
        device->ops->before_save(device);
    if (device->state_table)
        state_save(device->state_table, device->state_base, out);
    return true;
}

bool device_load(struct device *device, const uint8_t *data, size_t size, GError **error)
{
    if (device_check(device, DEVICE_OP_LOAD) != DEVICE_ALLOW) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_WRONG_ETAG, "%s can't be loaded in state %s",
                    device->name, device_state_name(device_state(device)));
        return false;
    }
    if (!device->state_table) {
        if (!size)
            return true;
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%s has no state, but the stream has %zu bytes for it", device->name, size);
        return false;
    }
    if (!state_load(device->state_table, device->state_base, data, size, error)) {
        g_prefix_error(error, "%s: ", device->name);
        return false;
    }
    if (device->ops->after_load && !device->ops->after_load(device, error)) {
        g_prefix_error(error, "%s: ", device->name);
        enter_state(device, DEVICE_ERROR); /* its fields are no longer its own */
        return false;
    }
    return true;
}

/* ---- all devices ---- */

bool devices_add(struct devices *devices, struct device *device, GError **error)
{
    struct device **link = &devices->first;

    if (devices->changing) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    "%s can't be added while the machine pauses or resumes; try again",
                    device->name);
        return false;
    }
    for (; *link; link = &(*link)->next)
        if (!strcmp((*link)->name, device->name)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                        "there is already a device named '%s' (%s)", device->name, (*link)->type);
            return false;
        }
    device->next = NULL;
    *link = device;
    return true;
}

void devices_remove(struct devices *devices, struct device *device)
{
    for (struct device **link = &devices->first; *link; link = &(*link)->next)
        if (*link == device) {
            *link = device->next;
            device->next = NULL;
            return;
        }
}

struct device *devices_find(const struct devices *devices, const char *name)
{
    for (struct device *device = devices->first; device; device = device->next)
        if (!strcmp(device->name, name))
            return device;
    return NULL;
}

void devices_reset(struct devices *devices)
{
    for (struct device *device = devices->first; device; device = device->next)
        device_reset(device);
}

/* Has this device yet to come to the P2P states on its way? */
static bool is_before_barrier(const struct device *device)
{
    enum device_state state = device_state(device);

    if (state == DEVICE_ERROR || is_p2p(state))
        return false;
    while (state != device->target) {
        int next = device_next_state(state, device->target);
        if (next < 0)
            return false;
        if (is_p2p(next))
            return true;
        state = next;
    }
    return false;
}

static bool any_before_barrier(const struct devices *devices)
{
    for (struct device *device = devices->first; device; device = device->next)
        if (is_before_barrier(device))
            return true;
    return false;
}

/* The state that the next arc of @device leads to in this round, or its own: it waits or is there. */
static enum device_state next_in_round(const struct device *device, bool barrier_open)
{
    enum device_state state = device_state(device);
    int next = state == DEVICE_ERROR ? -EINVAL : device_next_state(state, device->target);

    if (next < 0 || (is_p2p(state) && !is_p2p(next) && !barrier_open))
        return state;
    return next;
}

/* A device that was asked to quiesce and does not say that it has; or NULL. */
static struct device *find_undrained(const struct devices *devices)
{
    for (struct device *device = devices->first; device; device = device->next)
        if (device->quiescing && device->ops->quiesced && !device->ops->quiesced(device))
            return device;
    return NULL;
}

static bool drain(struct devices *devices, unsigned timeout_ms, GError **error)
{
    int64_t end = loop_now_ns() + timeout_ms * INT64_C(1000000);
    struct device *busy;

    while ((busy = find_undrained(devices))) {
        if (loop_now_ns() >= end) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                        "%s did not complete its outstanding work within %u ms; all devices are "
                        "back where they were",
                        busy->name, timeout_ms);
            return false;
        }
        if (!loop_iterate(loop_main(), false))
            g_usleep(DRAIN_POLL_US);
    }
    return true;
}

static void take_arc(struct device *device, enum device_state next)
{
    bool starts = is_p2p(device_state(device)) && is_working(next);

    device->quiescing = false;
    enter_state(device, next);
    if (starts) {
        irq_release_latched(device);
        if (device->ops->resume)
            device->ops->resume(device);
    }
}

/* Every device takes its next arc: all stop starting work first, then all are waited for at once. */
static bool advance(struct devices *devices, unsigned timeout_ms, bool *moved, GError **error)
{
    bool barrier_open = !any_before_barrier(devices);

    *moved = false;
    for (struct device *device = devices->first; device; device = device->next)
        if (is_working(device_state(device)) && is_p2p(next_in_round(device, barrier_open))) {
            trace_device_quiesce(device->name);
            device->quiescing = true;
            if (device->ops->quiesce)
                device->ops->quiesce(device);
        }
    if (!drain(devices, timeout_ms, error))
        return false;
    for (struct device *device = devices->first; device; device = device->next) {
        enum device_state next = next_in_round(device, barrier_open);
        if (next != device_state(device)) {
            take_arc(device, next);
            *moved = true;
        }
    }
    return true;
}

static bool move_to_targets(struct devices *devices, unsigned timeout_ms, GError **error)
{
    bool moved = true;

    while (moved)
        if (!advance(devices, timeout_ms, &moved, error))
            return false;
    return true;
}

/* Refuses, before anything moves, what can't end well. */
static bool may_move(const struct devices *devices, enum device_state target, GError **error)
{
    for (struct device *device = devices->first; device; device = device->next) {
        enum device_state state = device_state(device);

        if (is_saving(target) && device->migration_blocker) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "%s can't be saved: %s",
                        device->name, device->migration_blocker);
            return false;
        }
        /* One that is broken does nothing, so it does not keep the others from pausing. */
        if (state == DEVICE_ERROR && !is_saving(target) && target != DEVICE_RESUMING)
            continue;
        if (device_next_state(state, target) < 0) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                        "%s can't go from %s to %s%s", device->name, device_state_name(state),
                        device_state_name(target),
                        state == DEVICE_ERROR ? "; only a reset brings it back" : "");
            return false;
        }
    }
    return true;
}

/* Everyone back to ->origin; one that was asked to quiesce but never left its state starts again. */
static void roll_back(struct devices *devices, unsigned timeout_ms)
{
    g_autoptr(GError) error = NULL;

    for (struct device *device = devices->first; device; device = device->next) {
        if (device->quiescing) {
            device->quiescing = false;
            if (device->ops->resume)
                device->ops->resume(device);
        }
        device->target = device->origin;
        /* A stream that was begun can't be begun again: then just run on. */
        if (device_next_state(device_state(device), device->target) < 0)
            device->target = DEVICE_RUNNING;
    }
    if (!move_to_targets(devices, timeout_ms, &error))
        log_error("device", "not all devices are back where they were: %s", error->message);
}

bool devices_set_state(struct devices *devices, enum device_state target, unsigned timeout_ms,
                       GError **error)
{
    if (devices->changing) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    "the machine is pausing or resuming already; try again");
        return false;
    }
    if (!may_move(devices, target, error))
        return false;
    devices->changing = true;
    for (struct device *device = devices->first; device; device = device->next) {
        device->origin = device_state(device);
        device->target = target;
    }
    bool done = move_to_targets(devices, timeout_ms, error);
    if (!done)
        roll_back(devices, timeout_ms);
    devices->changing = false;
    return done;
}
