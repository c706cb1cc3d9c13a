/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Buses: lookup, splitting, doorbells with and without a kernel, changes under readers. */
#include "vmm/bus.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct probe {
    GString *text;
    uint64_t value; /* what reads give */
    bool alive;
};

static uint64_t probe_read(void *opaque, uint64_t offset, unsigned size)
{
    struct probe *probe = opaque;

    g_string_append_printf(probe->text, "r%u@%x ", size, (unsigned)offset);
    return probe->value >> (8 * (offset % 8));
}

static void probe_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct probe *probe = opaque;

    g_string_append_printf(probe->text, "w%u@%x=%" G_GINT64_MODIFIER "x ", size, (unsigned)offset,
                           value);
}

static const struct bus_ops probe_ops = {probe_read, probe_write};

static struct probe *probe_new(void)
{
    struct probe *probe = g_new0(struct probe, 1);

    probe->text = g_string_new(NULL);
    probe->value = UINT64_C(0x8877665544332211);
    return probe;
}

static void probe_free(struct probe *probe)
{
    g_string_free(probe->text, TRUE);
    g_free(probe);
}

static uint64_t drain(int fd)
{
    uint64_t count = 0;

    if (read(fd, &count, sizeof(count)) < 0)
        g_assert_cmpint(errno, ==, EAGAIN);
    return count;
}

static void accesses_reach_the_range(void)
{
    struct bus *bus = bus_create(BUS_MMIO);
    struct probe *a = probe_new(), *b = probe_new();

    g_assert_cmpint(bus_add(bus, 0x2000, 0x100, &probe_ops, b, "b"), ==, 0);
    g_assert_cmpint(bus_add(bus, 0x1000, 0x1000, &probe_ops, a, "a"), ==, 0);
    g_assert_cmphex(bus_read(bus, 0x1000, 4), ==, 0x44332211);
    g_assert_cmphex(bus_read(bus, 0x1fff, 1), ==, 0x88);
    g_assert_cmphex(bus_read(bus, 0x2008, 8), ==, UINT64_C(0x8877665544332211));
    bus_write(bus, 0x20ff, 1, 0x1234);
    g_assert_cmpstr(a->text->str, ==, "r4@0 r1@fff ");
    g_assert_cmpstr(b->text->str, ==, "r8@8 w1@ff=34 ");
    bus_destroy(bus);
    probe_free(a);
    probe_free(b);
}

static void unclaimed_reads_give_ones(void)
{
    struct bus *bus = bus_create(BUS_PORT);

    g_assert_cmphex(bus_read(bus, 0x80, 1), ==, 0xff);
    g_assert_cmphex(bus_read(bus, 0x80, 4), ==, 0xffffffff);
    g_assert_cmphex(bus_read(bus, 0x80, 8), ==, UINT64_MAX);
    g_assert_cmphex(bus_read(bus, 0xffff, 4), ==, 0xffffffff);
    bus_write(bus, 0x80, 1, 5);
    g_assert_cmphex(bus_read(bus, 0x80, 0), ==, 0);
    bus_destroy(bus);
}

static void crossing_accesses_are_split_into_bytes(void)
{
    struct bus *bus = bus_create(BUS_MMIO);
    struct probe *probe = probe_new();

    g_assert_cmpint(bus_add(bus, 0x1000, 2, &probe_ops, probe, "two"), ==, 0);
    g_assert_cmphex(bus_read(bus, 0x1000, 4), ==, 0xffff2211);
    g_assert_cmphex(bus_read(bus, 0xffe, 4), ==, 0x2211ffff);
    bus_write(bus, 0xfff, 8, UINT64_C(0x0807060504030201));
    g_assert_cmpstr(probe->text->str, ==, "r1@0 r1@1 r1@0 r1@1 w1@0=2 w1@1=3 ");
    g_string_truncate(probe->text, 0);
    /* Emulated instructions that cross a page give odd sizes. */
    g_assert_cmpint(bus_add(bus, 0x2000, 0x10, &probe_ops, probe, "wide"), ==, 0);
    g_assert_cmphex(bus_read(bus, 0x2000, 3), ==, 0x332211);
    g_assert_cmpstr(probe->text->str, ==, "r1@0 r1@1 r1@2 ");
    bus_destroy(bus);
    probe_free(probe);
}

static void overlaps_are_refused(void)
{
    struct bus *bus = bus_create(BUS_MMIO), *ports = bus_create(BUS_PORT);
    struct probe *probe = probe_new();

    g_assert_cmpint(bus_add(bus, 0x1000, 0x100, &probe_ops, probe, "a"), ==, 0);
    g_assert_cmpint(bus_add(bus, 0x10ff, 1, &probe_ops, probe, "b"), ==, -EEXIST);
    g_assert_cmpint(bus_add(bus, 0xff0, 0x11, &probe_ops, probe, "b"), ==, -EEXIST);
    g_assert_cmpint(bus_add(bus, 0, UINT64_MAX, &probe_ops, probe, "b"), ==, -EEXIST);
    g_assert_cmpint(bus_add(bus, 0xff0, 0x10, &probe_ops, probe, "b"), ==, 0);
    g_assert_cmpint(bus_add(bus, 0x5000, 0, &probe_ops, probe, "c"), ==, -EINVAL);
    g_assert_cmpint(bus_add(bus, UINT64_MAX, 2, &probe_ops, probe, "c"), ==, -EINVAL);
    g_assert_cmpint(bus_add(bus, UINT64_MAX, 1, &probe_ops, probe, "c"), ==, 0);
    g_assert_cmpint(bus_add(ports, 0xfff8, 9, &probe_ops, probe, "c"), ==, -EINVAL);
    g_assert_cmpint(bus_add(ports, 0xfff8, 8, &probe_ops, probe, "c"), ==, 0);
    g_assert_cmpint(bus_remove(bus, 0x1001), ==, -ENOENT);
    g_assert_cmpint(bus_remove(bus, 0x1000), ==, 0);
    g_assert_cmphex(bus_read(bus, 0x1000, 1), ==, 0xff);
    bus_destroy(bus);
    bus_destroy(ports);
    probe_free(probe);
}

static void doorbells_ring_without_a_kernel(void)
{
    struct bus *bus = bus_create(BUS_MMIO);
    struct probe *probe = probe_new();
    int any = eventfd(0, EFD_NONBLOCK), two = eventfd(0, EFD_NONBLOCK);
    struct bus_doorbell bell = {.address = 0x1010, .size = 0, .fd = any};
    struct bus_doorbell match = {
        .address = 0x1020, .size = 2, .match = true, .value = 2, .fd = two};

    g_assert_cmpint(bus_add(bus, 0x1000, 0x100, &probe_ops, probe, "a"), ==, 0);
    g_assert_cmpint(bus_add_doorbell(bus, &match), ==, 0);
    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, 0);
    bus_write(bus, 0x1010, 2, 7);
    bus_write(bus, 0x1010, 4, 8);
    g_assert_cmpuint(drain(any), ==, 2);
    bus_write(bus, 0x1020, 2, 2);
    g_assert_cmpuint(drain(two), ==, 1);
    g_assert_cmpstr(probe->text->str, ==, "");
    /* Other values, widths and addresses are the handler's. */
    bus_write(bus, 0x1020, 2, 3);
    bus_write(bus, 0x1020, 4, 2);
    bus_write(bus, 0x1011, 1, 1);
    g_assert_cmpuint(drain(two), ==, 0);
    g_assert_cmpuint(drain(any), ==, 0);
    g_assert_cmpstr(probe->text->str, ==, "w2@20=3 w4@20=2 w1@11=1 ");
    g_assert_cmpint(bus_remove_doorbell(bus, &bell), ==, 0);
    g_assert_cmpint(bus_remove_doorbell(bus, &bell), ==, -ENOENT);
    bus_write(bus, 0x1010, 2, 9);
    g_assert_cmpuint(drain(any), ==, 0);
    bus_destroy(bus);
    probe_free(probe);
    close(any);
    close(two);
}

static void conflicting_doorbells_are_refused(void)
{
    struct bus *bus = bus_create(BUS_MMIO);
    int fd = eventfd(0, EFD_NONBLOCK);
    struct bus_doorbell bell = {.address = 0x10, .size = 2, .match = true, .value = 1, .fd = fd};

    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, 0);
    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, -EEXIST);
    bell.value = 2;
    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, 0);
    bell.match = false;
    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, -EEXIST);
    bell.size = 4;
    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, 0);
    bell.size = 0;
    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, -EEXIST);
    bell.size = 3;
    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, -EINVAL);
    bus_destroy(bus);
    close(fd);
}

/* ---- a kernel that takes some doorbells ---- */

struct kernel {
    unsigned taken, room;
};

static int kernel_add(void *opaque, enum bus_kind kind, const struct bus_doorbell *doorbell)
{
    struct kernel *kernel = opaque;

    if (kernel->taken == kernel->room)
        return -ENOSPC;
    kernel->taken++;
    return 0;
}

static void kernel_remove(void *opaque, enum bus_kind kind, const struct bus_doorbell *doorbell)
{
    struct kernel *kernel = opaque;

    g_assert_cmpuint(kernel->taken, >, 0);
    kernel->taken--;
}

static void doorbells_go_to_the_kernel_while_it_has_room(void)
{
    struct bus *bus = bus_create(BUS_MMIO);
    struct kernel kernel = {.room = 2};
    struct bus_doorbell_ops ops = {kernel_add, kernel_remove, &kernel};
    int fd = eventfd(0, EFD_NONBLOCK);
    struct bus_doorbell bell = {.size = 4, .fd = fd};

    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, 0);
    bus_set_doorbell_ops(bus, &ops); /* offers what is there */
    g_assert_cmpuint(kernel.taken, ==, 1);
    bell.address = 0x10;
    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, 0);
    bell.address = 0x20;
    g_assert_cmpint(bus_add_doorbell(bus, &bell), ==, 0);
    g_assert_cmpuint(kernel.taken, ==, 2);
    bus_write(bus, 0x20, 4, 0); /* the one that found no room */
    g_assert_cmpuint(drain(fd), ==, 1);
    g_assert_cmpint(bus_remove_doorbell(bus, &bell), ==, 0);
    g_assert_cmpuint(kernel.taken, ==, 2);
    bell.address = 0x10;
    g_assert_cmpint(bus_remove_doorbell(bus, &bell), ==, 0);
    g_assert_cmpuint(kernel.taken, ==, 1);
    bus_set_doorbell_ops(bus, NULL);
    g_assert_cmpuint(kernel.taken, ==, 0);
    bus_write(bus, 0, 4, 0);
    g_assert_cmpuint(drain(fd), ==, 1);
    bus_destroy(bus);
    close(fd);
}

static void note_range(uint64_t base, uint64_t size, const char *name, void *opaque)
{
    g_string_append_printf(opaque, "%s:%x+%x ", name, (unsigned)base, (unsigned)size);
}

static void ranges_are_listed_in_order(void)
{
    struct bus *bus = bus_create(BUS_PORT);
    g_autoptr(GString) text = g_string_new(NULL);

    bus_add(bus, 0x3f8, 8, &probe_ops, NULL, "serial0");
    bus_add(bus, 0x70, 2, &probe_ops, NULL, "rtc");
    bus_for_each(bus, note_range, text);
    g_assert_cmpstr(text->str, ==, "rtc:70+2 serial0:3f8+8 ");
    bus_destroy(bus);
}

/* ---- changes under readers ---- */

struct racer {
    struct bus *bus;
    bool stop;
    unsigned turns;
};

static uint64_t alive_read(void *opaque, uint64_t offset, unsigned size)
{
    struct probe *probe = opaque;

    g_assert_true(__atomic_load_n(&probe->alive, __ATOMIC_RELAXED));
    return 0x55;
}

static const struct bus_ops alive_ops = {.read = alive_read};

static gpointer access_all_the_time(gpointer data)
{
    struct racer *racer = data;

    while (!__atomic_load_n(&racer->stop, __ATOMIC_RELAXED)) {
        uint64_t moving = bus_read(racer->bus, 0x2000, 1);
        g_assert_true(moving == 0x55 || moving == 0xff);
        g_assert_cmphex(bus_read(racer->bus, 0x3000, 1), ==, 0x55);
        racer->turns++;
    }
    return NULL;
}

static void a_removed_range_is_not_called_again(void)
{
    struct bus *bus = bus_create(BUS_MMIO);
    struct probe fixed = {.alive = true};
    struct racer racers[2] = {{.bus = bus}, {.bus = bus}};
    GThread *threads[2];

    g_assert_cmpint(bus_add(bus, 0x3000, 1, &alive_ops, &fixed, "fixed"), ==, 0);
    for (unsigned i = 0; i < 2; i++)
        threads[i] = g_thread_new("racer", access_all_the_time, &racers[i]);
    for (unsigned i = 0; i < 500; i++) {
        struct probe *probe = g_new0(struct probe, 1);
        probe->alive = true;
        g_assert_cmpint(bus_add(bus, 0x2000, 1, &alive_ops, probe, "moving"), ==, 0);
        g_assert_cmpint(bus_remove(bus, 0x2000), ==, 0);
        __atomic_store_n(&probe->alive, false, __ATOMIC_RELAXED);
        g_free(probe);
    }
    for (unsigned i = 0; i < 2; i++) {
        __atomic_store_n(&racers[i].stop, true, __ATOMIC_RELAXED);
        g_thread_join(threads[i]);
    }
    bus_destroy(bus);
}

struct mover {
    struct bus *bus;
    uint64_t at;
};

/* As a config write that moves a BAR: changes the bus from inside a handler, its own range too. */
static void move_write(void *opaque, uint64_t offset, unsigned size, uint64_t value);
static const struct bus_ops move_ops = {.write = move_write};

static void move_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct mover *mover = opaque;

    g_assert_cmpint(bus_remove_nowait(mover->bus, mover->at), ==, 0);
    mover->at = value;
    g_assert_cmpint(bus_add(mover->bus, mover->at, 0x10, &move_ops, mover, "mover"), ==, 0);
}

static void a_handler_may_move_its_own_range(void)
{
    struct bus *bus = bus_create(BUS_MMIO);
    struct mover mover = {.bus = bus, .at = 0x1000};

    g_assert_cmpint(bus_add(bus, 0x1000, 0x10, &move_ops, &mover, "mover"), ==, 0);
    bus_write(bus, 0x1000, 4, 0x8000);
    bus_write(bus, 0x1000, 4, 0x1234); /* nobody there */
    g_assert_cmphex(mover.at, ==, 0x8000);
    bus_write(bus, 0x8000, 4, 0x1000);
    g_assert_cmphex(mover.at, ==, 0x1000);
    bus_drain(bus);
    bus_destroy(bus);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bus/accesses-reach-the-range", accesses_reach_the_range);
    g_test_add_func("/bus/unclaimed-reads-give-ones", unclaimed_reads_give_ones);
    g_test_add_func("/bus/crossing-accesses-are-split", crossing_accesses_are_split_into_bytes);
    g_test_add_func("/bus/overlaps-are-refused", overlaps_are_refused);
    g_test_add_func("/bus/doorbells-ring-without-a-kernel", doorbells_ring_without_a_kernel);
    g_test_add_func("/bus/conflicting-doorbells-are-refused", conflicting_doorbells_are_refused);
    g_test_add_func("/bus/doorbells-go-to-the-kernel",
                    doorbells_go_to_the_kernel_while_it_has_room);
    g_test_add_func("/bus/ranges-are-listed-in-order", ranges_are_listed_in_order);
    g_test_add_func("/bus/a-removed-range-is-not-called-again",
                    a_removed_range_is_not_called_again);
    g_test_add_func("/bus/a-handler-may-move-its-own-range", a_handler_may_move_its_own_range);
    return g_test_run();
}
