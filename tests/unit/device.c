/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of vmm/device: the rule table, paths over the arcs, the gates, and moving all devices at once. */
#include <errno.h>
#include <string.h>

#include "tests/support/fake_interrupts.h"
#include "vmm/device.h"
#include "vmm/dma.h"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/shutdown.h"

#define TIMEOUT_MS 1000

/* ---- the tables ---- */

#define A DEVICE_ALLOW
#define L DEVICE_LATCH
#define R DEVICE_REFUSE

static void test_every_cell_of_the_rules(void)
{
    /* config, register read, register write, DMA read, DMA write, interrupt, save, load */
    static const enum device_verdict expected[DEVICE_STATES][DEVICE_OPERATIONS] = {
        [DEVICE_ERROR] = {R, R, R, R, R, R, R, R},
        [DEVICE_STOP] = {A, A, R, R, R, L, R, R},
        [DEVICE_RUNNING] = {A, A, A, A, A, A, R, R},
        [DEVICE_STOP_COPY] = {R, R, R, R, R, R, A, R},
        [DEVICE_RESUMING] = {R, R, R, R, R, R, R, A},
        [DEVICE_RUNNING_P2P] = {A, A, A, R, R, L, R, R},
        [DEVICE_PRE_COPY] = {A, A, A, A, A, A, A, R},
        [DEVICE_PRE_COPY_P2P] = {A, A, A, R, R, L, A, R},
    };

    for (int state = 0; state < DEVICE_STATES; state++)
        for (int operation = 0; operation < DEVICE_OPERATIONS; operation++) {
            g_test_message("%s, operation %d", device_state_name(state), operation);
            g_assert_cmpint(device_rule(state, operation), ==, expected[state][operation]);
        }
    g_assert_cmpint(device_rule(DEVICE_STATES, DEVICE_OP_CONFIG), ==, R);
    g_assert_cmpint(device_rule(DEVICE_RUNNING, DEVICE_OPERATIONS), ==, R);
}

/* An independent account of the arcs: a matrix, and paths by trying all of them. */
static bool is_arc(int from, int to)
{
    static const char *const matrix[DEVICE_STATES] = {
        /*                       E S R C U P p q  (q: PRE_COPY_P2P, p: PRE_COPY, U: RESUMING) */
        [DEVICE_ERROR] = "........",    [DEVICE_STOP] = "...xxx..",
        [DEVICE_RUNNING] = ".....xx.",  [DEVICE_STOP_COPY] = ".x......",
        [DEVICE_RESUMING] = ".x......", [DEVICE_RUNNING_P2P] = ".xx....x",
        [DEVICE_PRE_COPY] = "..x....x", [DEVICE_PRE_COPY_P2P] = "...x.xx.",
    };
    return matrix[from][to] == 'x';
}

static bool saves(int state)
{
    return state == DEVICE_STOP_COPY || state == DEVICE_PRE_COPY || state == DEVICE_PRE_COPY_P2P;
}

/* The length of the shortest path with at most @depth arcs, or 100; the first step in *first. */
static int shortest(int from, int to, int depth, bool may_save, int *first)
{
    int best = 100, ignored;

    if (from == to)
        return 0;
    for (int next = 0; depth > 0 && next < DEVICE_STATES; next++) {
        if (!is_arc(from, next) || (next != to && saves(next) && !may_save))
            continue;
        int rest = shortest(next, to, depth - 1, may_save, &ignored);
        if (rest + 1 < best) {
            best = rest + 1;
            *first = next;
        }
    }
    return best;
}

static void test_there_are_15_arcs(void)
{
    int arcs = 0;

    for (int from = 0; from < DEVICE_STATES; from++)
        for (int to = 0; to < DEVICE_STATES; to++) {
            arcs += is_arc(from, to);
            if (is_arc(from, to))
                g_assert_cmpint(device_next_state(from, to), ==, to);
        }
    g_assert_cmpint(arcs, ==, 15);
}

static void test_all_pairs_take_the_shortest_legal_path(void)
{
    for (int from = 0; from < DEVICE_STATES; from++)
        for (int to = 0; to < DEVICE_STATES; to++) {
            int next = device_next_state(from, to), first = -1;

            g_test_message("%s -> %s: %s", device_state_name(from), device_state_name(to),
                           next < 0 ? "refused" : device_state_name(next));
            if (from == DEVICE_ERROR || to == DEVICE_ERROR ||
                (from == DEVICE_STOP_COPY &&
                 (to == DEVICE_PRE_COPY || to == DEVICE_PRE_COPY_P2P))) {
                g_assert_cmpint(next, ==, -EINVAL);
                continue;
            }
            if (from == to) {
                g_assert_cmpint(next, ==, to);
                continue;
            }
            int length = shortest(from, to, 7, saves(from) && saves(to), &first);
            g_assert_cmpint(length, <, 100);
            g_assert_cmpint(next, ==, first);
        }
    g_assert_cmpint(device_next_state(DEVICE_STATES, DEVICE_STOP), ==, -EINVAL);
    g_assert_cmpint(device_next_state(DEVICE_STOP, -1), ==, -EINVAL);
}

static char *path_text(int from, int to)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (int steps = 0; from != to && from >= 0 && steps < 10; steps++) {
        from = device_next_state(from, to);
        g_string_append_printf(text, "%s%s", text->len ? "," : "", device_state_name(from));
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* The combinations that the protocol's documentation spells out. */
static void test_published_paths(void)
{
    static const struct {
        int from, to;
        const char *path;
    } cases[] = {
        {DEVICE_STOP, DEVICE_RUNNING, "RUNNING_P2P,RUNNING"},
        {DEVICE_RUNNING, DEVICE_STOP_COPY, "RUNNING_P2P,STOP,STOP_COPY"},
        {DEVICE_RUNNING, DEVICE_RESUMING, "RUNNING_P2P,STOP,RESUMING"},
        {DEVICE_RESUMING, DEVICE_RUNNING, "STOP,RUNNING_P2P,RUNNING"},
        {DEVICE_RESUMING, DEVICE_STOP_COPY, "STOP,STOP_COPY"},
        {DEVICE_STOP_COPY, DEVICE_RESUMING, "STOP,RESUMING"},
        {DEVICE_PRE_COPY, DEVICE_STOP_COPY, "PRE_COPY_P2P,STOP_COPY"},
        {DEVICE_PRE_COPY, DEVICE_STOP, "RUNNING,RUNNING_P2P,STOP"},
        {DEVICE_STOP, DEVICE_PRE_COPY, "RUNNING_P2P,RUNNING,PRE_COPY"},
        {DEVICE_RUNNING, DEVICE_PRE_COPY_P2P, "RUNNING_P2P,PRE_COPY_P2P"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = path_text(cases[i].from, cases[i].to);
        g_assert_cmpstr(path, ==, cases[i].path);
    }
}

static void test_names(void)
{
    g_assert_cmpstr(device_state_name(DEVICE_PRE_COPY_P2P), ==, "PRE_COPY_P2P");
    g_assert_cmpstr(device_state_name(77), ==, "?");
    g_assert_cmpstr(shutdown_reason_name(SHUTDOWN_POWER_OFF), ==, "power-off");
    g_assert_cmpstr(shutdown_reason_name(SHUTDOWN_COMMAND_DONE), ==, "command-done");
    g_assert_cmpstr(shutdown_reason_name(99), ==, "?");
}

/* ---- a device that tells everything it is told ---- */

struct toy {
    struct device device;
    GString *log;    /* shared by all toys of a test */
    int drain_polls; /* how often quiesced() says no; -1: always */
    bool drained_by_loop;
    bool breaks_rules;
};

static struct toy *toy_of(struct device *device)
{
    return (struct toy *)device;
}

static void tell(struct toy *toy, const char *what)
{
    g_string_append_printf(toy->log, "%s:%s:%s ", toy->device.name, what,
                           device_state_name(device_state(&toy->device)));
}

static void finish_work(void *opaque)
{
    ((struct toy *)opaque)->drain_polls = 0;
}

static void toy_quiesce(struct device *device)
{
    tell(toy_of(device), "quiesce");
    if (toy_of(device)->drained_by_loop)
        loop_defer(loop_main(), finish_work, device);
}

static bool toy_quiesced(struct device *device)
{
    struct toy *toy = toy_of(device);

    if (toy->drain_polls > 0 && !toy->drained_by_loop)
        toy->drain_polls--;
    return toy->drain_polls == 0;
}

static void toy_resume(struct device *device)
{
    tell(toy_of(device), "resume");
}

static void toy_reset(struct device *device)
{
    tell(toy_of(device), "reset");
}

static const struct device_ops toy_ops = {
    .quiesce = toy_quiesce,
    .quiesced = toy_quiesced,
    .resume = toy_resume,
    .reset = toy_reset,
};
static const struct device_ops bare_ops = {.quiesced = NULL};

struct fixture {
    struct devices devices;
    struct toy toys[3];
    GString *log;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    static const char *const names[] = {"a", "b", "c"};

    f->log = g_string_new(NULL);
    for (int i = 0; i < 3; i++) {
        device_init(&f->toys[i].device, names[i], "toy", &toy_ops);
        f->toys[i].log = f->log;
        g_assert_true(devices_add(&f->devices, &f->toys[i].device, NULL));
    }
    device_violations_fatal(false);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    for (int i = 0; i < 3; i++) {
        devices_remove(&f->devices, &f->toys[i].device);
        device_finish(&f->toys[i].device);
    }
    g_assert_null(f->devices.first);
    g_string_free(f->log, TRUE);
    device_violations_fatal(false);
}

static void assert_states(struct fixture *f, enum device_state expected)
{
    for (int i = 0; i < 3; i++)
        g_assert_cmpstr(device_state_name(device_state(&f->toys[i].device)), ==,
                        device_state_name(expected));
}

#define assert_log(F, EXPECTED)                                                                    \
    do {                                                                                           \
        g_assert_cmpstr((F)->log->str, ==, EXPECTED);                                              \
        g_string_truncate((F)->log, 0);                                                            \
    } while (0)

static void move(struct fixture *f, enum device_state target)
{
    g_autoptr(GError) error = NULL;
    bool done = devices_set_state(&f->devices, target, TIMEOUT_MS, &error);

    g_assert_no_error(error);
    g_assert_true(done);
    assert_states(f, target);
}

/* ---- the gates ---- */

static void test_violations_are_counted(struct fixture *f, gconstpointer data)
{
    struct device *device = &f->toys[0].device;

    move(f, DEVICE_STOP);
    for (int operation = 0; operation < DEVICE_OPERATIONS; operation++) {
        uint64_t before = device->violations;
        enum device_verdict verdict = device_check(device, operation);
        g_assert_cmpint(verdict, ==, device_rule(DEVICE_STOP, operation));
        g_assert_cmpuint(device->violations - before, ==, verdict == DEVICE_REFUSE);
    }
    g_assert_cmpuint(f->toys[1].device.violations, ==, 0);
}

static void test_accesses_to_a_broken_device_are_no_violation(struct fixture *f, gconstpointer data)
{
    struct device *device = &f->toys[0].device;

    device_fail(device, "the other side is gone");
    g_assert_cmpint(device_check(device, DEVICE_OP_CONFIG), ==, DEVICE_REFUSE);
    g_assert_cmpint(device_check(device, DEVICE_OP_REGISTER_READ), ==, DEVICE_REFUSE);
    g_assert_cmpint(device_check(device, DEVICE_OP_REGISTER_WRITE), ==, DEVICE_REFUSE);
    g_assert_cmpuint(device->violations, ==, 0);
    g_assert_cmpint(device_check(device, DEVICE_OP_DMA_WRITE), ==, DEVICE_REFUSE);
    g_assert_cmpuint(device->violations, ==, 1);
}

/* A device that breaks each rule on purpose is caught: one process for each cell that refuses. */
static void test_fatal_violations(void)
{
    if (g_test_subprocess()) {
        static struct device device;
        device_init(&device, "bad0", "toy", &bare_ops);
        device_violations_fatal(true);
        device.state = DEVICE_RUNNING_P2P;
        device_check(&device, DEVICE_OP_INTERRUPT); /* latched: no violation */
        device_check(&device, DEVICE_OP_DMA_WRITE);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*bad0: DMA write in state RUNNING_P2P*");
}

/* ---- all devices ---- */

static void test_add_find_remove(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    struct device twin;

    g_assert_true(devices_find(&f->devices, "b") == &f->toys[1].device);
    g_assert_null(devices_find(&f->devices, "x"));
    device_init(&twin, "b", "other", &bare_ops);
    g_assert_false(devices_add(&f->devices, &twin, &error));
    g_assert_cmpstr(error->message, ==, "there is already a device named 'b' (toy)");
    devices_remove(&f->devices, &twin); /* not in the list: nothing happens */
    device_finish(&twin);
    devices_remove(&f->devices, &f->toys[1].device);
    g_assert_null(devices_find(&f->devices, "b"));
    g_assert_true(devices_find(&f->devices, "c") == &f->toys[2].device);
}

static void test_pause_and_resume_have_a_barrier(struct fixture *f, gconstpointer data)
{
    f->toys[1].drain_polls = 5;
    move(f, DEVICE_STOP);
    assert_log(f, "a:quiesce:RUNNING b:quiesce:RUNNING c:quiesce:RUNNING ");
    move(f, DEVICE_RUNNING);
    assert_log(f, "a:resume:RUNNING b:resume:RUNNING c:resume:RUNNING ");
}

/* While any device still drains, none has left its state: nobody goes on to STOP alone. */
static struct fixture *watched;
static bool someone_was_ahead, someone_stopped_early;

static bool watching_quiesced(struct device *device)
{
    struct toy *toy = toy_of(device);

    for (int i = 0; i < 3; i++) {
        enum device_state state = device_state(&watched->toys[i].device);
        someone_stopped_early |= state == DEVICE_STOP || state == DEVICE_STOP_COPY;
        someone_was_ahead |= state != DEVICE_RUNNING;
    }
    return toy->drain_polls-- <= 0;
}

static void watching_resume(struct device *device)
{
    for (int i = 0; i < 3; i++)
        someone_stopped_early |= device_state(&watched->toys[i].device) == DEVICE_STOP;
    tell(toy_of(device), "resume");
}

static const struct device_ops watching_ops = {
    .quiesce = toy_quiesce,
    .quiesced = watching_quiesced,
    .resume = watching_resume,
};

static void test_nobody_passes_the_barrier_early(struct fixture *f, gconstpointer data)
{
    watched = f;
    someone_was_ahead = someone_stopped_early = false;
    for (int i = 0; i < 3; i++) {
        f->toys[i].device.ops = &watching_ops;
        f->toys[i].drain_polls = i * 3;
    }
    move(f, DEVICE_STOP_COPY);
    g_assert_false(someone_was_ahead);
    move(f, DEVICE_RUNNING); /* when the first resumes, none is in STOP any more */
    g_assert_false(someone_stopped_early);
}

static void test_devices_in_different_states_meet_at_the_barrier(struct fixture *f,
                                                                 gconstpointer data)
{
    watched = f;
    someone_stopped_early = false;
    for (int i = 0; i < 3; i++)
        f->toys[i].device.ops = &watching_ops;
    /* One paused before, one half way, one deep in a load: none may resume before all can. */
    f->toys[0].device.state = DEVICE_RUNNING_P2P;
    f->toys[1].device.state = DEVICE_STOP;
    f->toys[2].device.state = DEVICE_RESUMING;
    move(f, DEVICE_RUNNING);
    g_assert_false(someone_stopped_early);
    assert_log(f, "a:resume:RUNNING b:resume:RUNNING c:resume:RUNNING ");
}

static void test_work_on_the_main_loop_drains(struct fixture *f, gconstpointer data)
{
    f->toys[1].drain_polls = 1;
    f->toys[1].drained_by_loop = true;
    move(f, DEVICE_STOP);
}

static void test_one_that_does_not_drain_sends_everyone_back(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->toys[1].drain_polls = -1;
    g_assert_false(devices_set_state(&f->devices, DEVICE_STOP, 20, &error));
    g_assert_cmpstr(error->message, ==,
                    "b did not complete its outstanding work within 20 ms; all devices are back "
                    "where they were");
    assert_states(f, DEVICE_RUNNING);
    assert_log(f, "a:quiesce:RUNNING b:quiesce:RUNNING c:quiesce:RUNNING "
                  "a:resume:RUNNING b:resume:RUNNING c:resume:RUNNING ");
    /* And it can be asked again. */
    f->toys[1].drain_polls = 0;
    move(f, DEVICE_STOP);
}

static void test_roll_back_to_pre_copy(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    move(f, DEVICE_PRE_COPY);
    f->toys[2].drain_polls = -1;
    g_assert_false(devices_set_state(&f->devices, DEVICE_STOP_COPY, 20, &error));
    g_assert_true(g_str_has_prefix(error->message, "c did not complete"));
    assert_states(f, DEVICE_PRE_COPY);
}

static void test_blocker_is_found_before_anything_moves(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->toys[1].device.migration_blocker = "it is wired to host hardware";
    g_assert_false(devices_set_state(&f->devices, DEVICE_STOP_COPY, TIMEOUT_MS, &error));
    g_assert_cmpstr(error->message, ==, "b can't be saved: it is wired to host hardware");
    assert_states(f, DEVICE_RUNNING);
    assert_log(f, "");
    move(f, DEVICE_STOP); /* pausing is no saving */
}

static void test_broken_device_does_not_keep_others_from_pausing(struct fixture *f,
                                                                 gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    device_fail(&f->toys[1].device, "the other side is gone");
    g_assert_true(devices_set_state(&f->devices, DEVICE_STOP, TIMEOUT_MS, &error));
    g_assert_cmpint(device_state(&f->toys[0].device), ==, DEVICE_STOP);
    g_assert_cmpint(device_state(&f->toys[1].device), ==, DEVICE_ERROR);
    g_assert_false(devices_set_state(&f->devices, DEVICE_STOP_COPY, TIMEOUT_MS, &error));
    g_assert_cmpstr(error->message, ==,
                    "b can't go from ERROR to STOP_COPY; only a reset brings it back");
    g_assert_cmpint(device_state(&f->toys[0].device), ==, DEVICE_STOP);
    g_clear_error(&error);
    devices_reset(&f->devices);
    assert_states(f, DEVICE_RUNNING);
    move(f, DEVICE_STOP_COPY);
}

static void test_forbidden_requests(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(devices_set_state(&f->devices, DEVICE_ERROR, TIMEOUT_MS, &error));
    g_assert_cmpstr(error->message, ==, "a can't go from RUNNING to ERROR");
    g_clear_error(&error);
    move(f, DEVICE_STOP_COPY);
    g_assert_false(devices_set_state(&f->devices, DEVICE_PRE_COPY, TIMEOUT_MS, &error));
    g_assert_cmpstr(error->message, ==, "a can't go from STOP_COPY to PRE_COPY");
    assert_states(f, DEVICE_STOP_COPY);
}

static struct devices *entered;
static int entered_refusals;

static void enter_again(void *opaque)
{
    g_autoptr(GError) error = NULL, add_error = NULL;
    struct device late;

    g_assert_false(devices_set_state(entered, DEVICE_RUNNING, TIMEOUT_MS, &error));
    g_assert_cmpstr(error->message, ==, "the machine is pausing or resuming already; try again");
    device_init(&late, "late", "toy", &bare_ops);
    g_assert_false(devices_add(entered, &late, &add_error));
    g_assert_cmpstr(add_error->message, ==,
                    "late can't be added while the machine pauses or resumes; try again");
    device_finish(&late);
    entered_refusals++;
}

static void test_it_is_not_entered_again_while_it_waits(struct fixture *f, gconstpointer data)
{
    entered = &f->devices;
    entered_refusals = 0;
    f->toys[0].drain_polls = 10;
    loop_defer(loop_main(), enter_again, NULL);
    move(f, DEVICE_STOP);
    g_assert_cmpint(entered_refusals, ==, 1);
}

static struct fixture *unplugging;

static void unplug(void *opaque)
{
    devices_remove(&unplugging->devices, &unplugging->toys[1].device);
}

static void test_a_device_may_go_while_it_waits(struct fixture *f, gconstpointer data)
{
    unplugging = f;
    f->toys[0].drain_polls = 10;
    f->toys[1].drain_polls = -1; /* would never drain */
    loop_defer(loop_main(), unplug, NULL);
    g_assert_true(devices_set_state(&f->devices, DEVICE_STOP, TIMEOUT_MS, NULL));
    g_assert_cmpint(device_state(&f->toys[2].device), ==, DEVICE_STOP);
}

static void test_reset_from_every_state(struct fixture *f, gconstpointer data)
{
    for (int state = 0; state < DEVICE_STATES; state++) {
        for (int i = 0; i < 3; i++)
            f->toys[i].device.state = state;
        devices_reset(&f->devices);
        assert_states(f, DEVICE_RUNNING);
        assert_log(f, "a:reset:RUNNING b:reset:RUNNING c:reset:RUNNING ");
    }
}

/* A million-step walk would only repeat itself: this one visits every legal pair many times. */
static void test_random_walk_stays_legal(struct fixture *f, gconstpointer data)
{
    int state = DEVICE_RUNNING;

    for (int step = 0; step < 5000; step++) {
        int target = g_test_rand_int_range(0, DEVICE_STATES);
        bool legal = device_next_state(state, target) >= 0;
        f->toys[step % 3].drain_polls = step % 2;
        g_assert_true(devices_set_state(&f->devices, target, TIMEOUT_MS, NULL) == legal);
        if (legal)
            state = target;
        assert_states(f, state);
        g_string_truncate(f->log, 0);
    }
}

/* ---- with the real gates: what a device does in the wrong state has no effect, and is counted ---- */

static void test_rogue_device_is_stopped_in_every_state(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct memory *memory = memory_create();
    struct memory_ram_options ram = {0};
    struct device device;
    struct irq_msi msi;
    struct dma dma;

    g_assert_true(memory_add_ram(memory, 16 << 20, LAYOUT_LOW_END, &ram, NULL));
    device_init(&device, "rogue0", "rogue", &bare_ops);
    device_violations_fatal(false);
    dma_init(&dma, memory, &device, true);
    g_assert_cmpint(irq_msi_init(&msi, fake->interrupts, &device), ==, 0);
    g_assert_cmpint(irq_msi_set_message(&msi, 0xfee00000, 0x41), ==, 0);
    g_assert_cmpint(irq_msi_set_masked(&msi, false), ==, 0);

    for (int state = 0; state < DEVICE_STATES; state++) {
        bool works = state == DEVICE_RUNNING || state == DEVICE_PRE_COPY;
        uint32_t value = 0x5a5a5a5a;
        g_test_message("%s", device_state_name(state));

        device.state = DEVICE_RUNNING;
        g_assert_cmpint(dma_store32(&dma, 0x1000, 1), ==, 0);
        device.state = state;
        uint64_t before = device.violations;
        g_assert_cmpint(dma_store32(&dma, 0x1000, 2), ==, works ? 0 : -EAGAIN);
        g_assert_cmpint(dma_load32(&dma, 0x1000, &value), ==, works ? 0 : -EAGAIN);
        g_assert_cmphex(value, ==, works ? 2 : 0x5a5a5a5a);
        irq_msi_fire(&msi);
        g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, works);
        bool latches = device_rule(state, DEVICE_OP_INTERRUPT) == DEVICE_LATCH;
        g_assert_cmpuint(device.violations - before, ==, works ? 0 : latches ? 2 : 3);
        g_assert_true(msi.latched == latches);

        device.state = DEVICE_RUNNING;
        g_assert_cmpint(dma_load32(&dma, 0x1000, &value), ==, 0);
        g_assert_cmphex(value, ==, works ? 2 : 1);
        device_reset(&device);
        g_assert_false(msi.latched);
        g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 0);
    }
    irq_msi_finish(&msi);
    device_finish(&device);
    memory_destroy(memory);
    fake_interrupts_destroy(fake);
}

static void test_latched_interrupt_comes_once_after_resume(struct fixture *f, gconstpointer data)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct device *device = &f->toys[1].device;
    struct irq_msi msi;

    g_assert_cmpint(irq_msi_init(&msi, fake->interrupts, device), ==, 0);
    irq_msi_set_message(&msi, 0xfee00000, 0x41);
    irq_msi_set_masked(&msi, false);

    move(f, DEVICE_RUNNING_P2P);
    for (int i = 0; i < 3; i++)
        irq_msi_fire(&msi);
    move(f, DEVICE_STOP);
    irq_msi_fire(&msi);
    g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 0);
    g_assert_cmpuint(device->violations, ==, 0);
    move(f, DEVICE_RUNNING);
    g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 1);
    move(f, DEVICE_STOP);
    move(f, DEVICE_RUNNING);
    g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 0);
    irq_msi_finish(&msi);
    fake_interrupts_destroy(fake);
}

#define ADD(NAME) g_test_add_func("/device/" #NAME, test_##NAME)
#define ADD_WITH_DEVICES(NAME)                                                                     \
    g_test_add("/device/" #NAME, struct fixture, NULL, set_up, test_##NAME, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(every_cell_of_the_rules);
    ADD(there_are_15_arcs);
    ADD(all_pairs_take_the_shortest_legal_path);
    ADD(published_paths);
    ADD(names);
    ADD_WITH_DEVICES(violations_are_counted);
    ADD_WITH_DEVICES(accesses_to_a_broken_device_are_no_violation);
    ADD(fatal_violations);
    ADD_WITH_DEVICES(add_find_remove);
    ADD_WITH_DEVICES(pause_and_resume_have_a_barrier);
    ADD_WITH_DEVICES(nobody_passes_the_barrier_early);
    ADD_WITH_DEVICES(devices_in_different_states_meet_at_the_barrier);
    ADD_WITH_DEVICES(work_on_the_main_loop_drains);
    ADD_WITH_DEVICES(one_that_does_not_drain_sends_everyone_back);
    ADD_WITH_DEVICES(roll_back_to_pre_copy);
    ADD_WITH_DEVICES(blocker_is_found_before_anything_moves);
    ADD_WITH_DEVICES(broken_device_does_not_keep_others_from_pausing);
    ADD_WITH_DEVICES(forbidden_requests);
    ADD_WITH_DEVICES(it_is_not_entered_again_while_it_waits);
    ADD_WITH_DEVICES(a_device_may_go_while_it_waits);
    ADD_WITH_DEVICES(reset_from_every_state);
    ADD_WITH_DEVICES(random_walk_stays_legal);
    ADD(rogue_device_is_stopped_in_every_state);
    ADD_WITH_DEVICES(latched_interrupt_comes_once_after_resume);
    return g_test_run();
}
