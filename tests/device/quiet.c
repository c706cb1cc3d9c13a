/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The proof that a quiet device is quiet (docs/lifecycle.md): while the host's end keeps sending, all of
 * guest memory and all interrupt counters are compared over a span of time in each state that allows
 * neither DMA nor interrupts. A device that writes behind the gates' back is caught by it: that is
 * tried, too. And in STOP, STOP_COPY and RESUMING a guest that accesses everything at random changes
 * nothing of the state.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/device/virtio_net.h"
#include "vmm/dma.h"

#define RAM     (UINT64_C(64) << 20)
#define WATCHED 60 /* ms */

/* ---- a peer that never stops ---- */

struct flood {
    pthread_t thread;
    int fd;
    bool stop;     /* atomic */
    uint64_t sent; /* atomic */
};

static void *flood_thread(void *opaque)
{
    struct flood *flood = opaque;
    uint8_t frame[600];

    for (unsigned seed = 0; !__atomic_load_n(&flood->stop, __ATOMIC_ACQUIRE); seed++) {
        nettest_fill(frame, sizeof(frame), nettest_mac, seed);
        if (send(flood->fd, frame, sizeof(frame), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            __atomic_fetch_add(&flood->sent, 1, __ATOMIC_RELAXED);
        else
            g_usleep(200);
    }
    return NULL;
}

static void flood_start(struct flood *flood, int fd)
{
    memset(flood, 0, sizeof(*flood));
    flood->fd = fd;
    g_assert_cmpint(pthread_create(&flood->thread, NULL, flood_thread, flood), ==, 0);
}

static void flood_stop(struct flood *flood)
{
    __atomic_store_n(&flood->stop, true, __ATOMIC_RELEASE);
    pthread_join(flood->thread, NULL);
}

/* ---- the proof ---- */

/* Is memory the same, and has nothing interrupted, over WATCHED ms in which the loop turns? */
static bool nothing_moves(struct harness *h, unsigned slot, unsigned vectors)
{
    struct harness_still *still = harness_watch(h, RAM, slot, vectors);

    harness_settle(h, WATCHED);
    return harness_unmoved(still);
}

static void set_state(struct harness *h, enum device_state state)
{
    g_autoptr(GError) error = NULL;

    devices_set_state(&h->devices, state, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
}

/* Receives until some more came than there had. */
static bool frames_come(struct nettest *t)
{
    g_autofree uint8_t *frame = g_malloc(NET_MAX_FRAME);

    for (unsigned i = 0; i < 20; i++) {
        nettest_post(t, 1, 1526, 1);
        if (nettest_receive(t, frame, NET_MAX_FRAME, HARNESS_TIMEOUT_MS) < 0)
            return false;
    }
    return true;
}

/* Is more of the flood sent than @sent was, once what the device and the socket hold is received? */
static bool flood_goes_on(struct nettest *t, struct flood *flood, uint64_t sent)
{
    for (unsigned i = 0; i < 500; i++) {
        if (!frames_come(t))
            return false;
        if (__atomic_load_n(&flood->sent, __ATOMIC_RELAXED) > sent)
            return true;
    }
    return false;
}

static void test_a_flooded_interface_is_quiet(void)
{
    static const enum device_state quiet[] = {DEVICE_RUNNING_P2P, DEVICE_STOP, DEVICE_STOP_COPY};
    struct nettest t;
    struct flood flood;

    nettest_set_up(&t, SOCK_DGRAM, "queue-size=256");
    virtio_driver_start(t.driver, NETTEST_RINGS | NETTEST_MERGE);
    flood_start(&flood, t.peer);
    g_assert_true(frames_come(&t));
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(quiet); i++) {
        uint64_t sent;

        nettest_post(&t, 100, 1526, 1); /* it could take them */
        set_state(t.h, quiet[i % G_N_ELEMENTS(quiet)]);
        sent = __atomic_load_n(&flood.sent, __ATOMIC_RELAXED);
        g_assert_true(nothing_moves(t.h, t.driver->slot, 4));
        g_assert_cmpuint(virtio_pci_function(t.vpci)->device.violations, ==, 0);
        set_state(t.h, DEVICE_RUNNING);
        g_assert_true(flood_goes_on(&t, &flood, sent));
    }
    flood_stop(&flood);
    nettest_tear_down(&t);
}

/* In PRE_COPY it works as ever; from there to P2P it is as quiet. */
static void test_the_saving_path_is_quiet(void)
{
    struct nettest t;
    struct flood flood;

    nettest_set_up(&t, SOCK_DGRAM, "queue-size=256");
    virtio_driver_start(t.driver, NETTEST_RINGS | NETTEST_MERGE);
    flood_start(&flood, t.peer);
    set_state(t.h, DEVICE_PRE_COPY);
    g_assert_true(frames_come(&t));
    nettest_post(&t, 100, 1526, 1);
    set_state(t.h, DEVICE_PRE_COPY_P2P);
    g_assert_true(nothing_moves(t.h, t.driver->slot, 4));
    set_state(t.h, DEVICE_STOP_COPY);
    g_assert_true(nothing_moves(t.h, t.driver->slot, 4));
    set_state(t.h, DEVICE_RUNNING);
    g_assert_true(frames_come(&t));
    flood_stop(&flood);
    nettest_tear_down(&t);
}

/* ---- what a migration must know ---- */

/* Every page that the device changes is marked, so that it is sent again. Nobody else writes then. */
static void test_every_page_that_a_device_writes_is_marked(void)
{
    g_autofree uint8_t *before = g_malloc(RAM);
    g_autofree uint64_t *bitmap = g_new0(uint64_t, RAM / MEMORY_PAGE_SIZE / 64);
    struct nettest t;
    struct flood flood;
    unsigned count, changed = 0;
    const uint8_t *ram;

    nettest_set_up(&t, SOCK_DGRAM, "queue-size=256");
    ram = harness_ptr(t.h, 0, RAM);
    virtio_driver_start(t.driver, NETTEST_RINGS | NETTEST_MERGE);
    nettest_post(&t, 200, 1526, 1);
    g_assert_cmpint(memory_dirty_start(t.h->memory), ==, 0);
    memcpy(before, ram, RAM);
    flood_start(&flood, t.peer);
    for (unsigned ms = 0; ms < HARNESS_TIMEOUT_MS; ms += WATCHED) {
        harness_settle(t.h, WATCHED);
        if (__atomic_load_n(&flood.sent, __ATOMIC_RELAXED) > 100)
            break;
    }
    flood_stop(&flood);
    set_state(t.h, DEVICE_STOP);
    memory_dirty_sync(t.h->memory, memory_regions(t.h->memory, &count), bitmap);
    for (uint64_t page = 0; page < RAM / MEMORY_PAGE_SIZE; page++) {
        if (!memcmp(before + page * MEMORY_PAGE_SIZE, ram + page * MEMORY_PAGE_SIZE,
                    MEMORY_PAGE_SIZE))
            continue;
        changed++;
        if (!(bitmap[page / 64] >> (page % 64) & 1))
            g_error("page 0x%x was written, and is not marked", (unsigned)page * MEMORY_PAGE_SIZE);
    }
    g_assert_cmpuint(changed, >, 20);
    memory_dirty_stop(t.h->memory);
    set_state(t.h, DEVICE_RUNNING);
    nettest_tear_down(&t);
}

/* ---- one that breaks the rules ---- */

/* It has a pointer into memory from better days (dma_map_ring), and a timer. */
struct rogue {
    struct device device;
    struct dma dma;
    uint64_t *ring;
    struct loop_timer *timer;
    bool through_gate;
    unsigned ticks;
};

static void rogue_tick(void *opaque)
{
    struct rogue *rogue = opaque;

    rogue->ticks++;
    if (rogue->through_gate)
        dma_store64(&rogue->dma, 0x10000, rogue->ticks);
    else
        __atomic_store_n(rogue->ring, rogue->ticks, __ATOMIC_RELAXED);
    loop_timer_set(rogue->timer, loop_now_ns() + 1000000);
}

static const struct device_ops rogue_ops = {.quiesced = NULL};

static void rogue_start(struct rogue *rogue, struct harness *h, bool through_gate)
{
    g_autoptr(GError) error = NULL;

    memset(rogue, 0, sizeof(*rogue));
    rogue->through_gate = through_gate;
    device_init(&rogue->device, "rogue0", "rogue", &rogue_ops);
    g_assert_true(devices_add(&h->devices, &rogue->device, &error));
    dma_init(&rogue->dma, h->memory, &rogue->device, true);
    rogue->ring = dma_map_ring(&rogue->dma, 0x10000, 8);
    g_assert_nonnull(rogue->ring);
    rogue->timer = loop_timer_create(h->loop, rogue_tick, rogue);
    rogue_tick(rogue);
}

static void rogue_stop(struct rogue *rogue, struct harness *h)
{
    loop_timer_destroy(rogue->timer);
    devices_remove(&h->devices, &rogue->device);
    device_finish(&rogue->device);
}

/* As nothing_moves(), for as long as a few ticks take. */
static bool nothing_moves_by(struct rogue *rogue, struct harness *h)
{
    struct harness_still *still = harness_watch(h, RAM, 0, 0);
    unsigned enough = rogue->ticks + 3;

    for (unsigned ms = 0; ms < HARNESS_TIMEOUT_MS && rogue->ticks < enough; ms++)
        harness_settle(h, 1);
    return harness_unmoved(still);
}

static void test_a_device_that_writes_behind_the_gates_is_caught(void)
{
    static const enum device_state quiet[] = {DEVICE_RUNNING_P2P, DEVICE_STOP, DEVICE_STOP_COPY,
                                              DEVICE_RESUMING};
    struct harness *h = harness_create(RAM);
    struct rogue rogue;

    rogue_start(&rogue, h, false);
    for (unsigned i = 0; i < G_N_ELEMENTS(quiet); i++) {
        set_state(h, quiet[i]);
        g_assert_false(nothing_moves_by(&rogue, h));
        set_state(h, DEVICE_RUNNING);
    }
    rogue_stop(&rogue, h);
    harness_destroy(h);
}

/* Through the gates it changes nothing, and every try is counted. */
static void test_the_gates_hold_a_device_that_does_not_stop(void)
{
    static const enum device_state quiet[] = {DEVICE_RUNNING_P2P, DEVICE_STOP, DEVICE_STOP_COPY,
                                              DEVICE_RESUMING};
    struct harness *h = harness_create(RAM);
    struct rogue rogue;

    device_violations_fatal(false);
    rogue_start(&rogue, h, true);
    for (unsigned i = 0; i < G_N_ELEMENTS(quiet); i++) {
        uint64_t before;

        set_state(h, quiet[i]);
        before = rogue.device.violations;
        g_assert_true(nothing_moves_by(&rogue, h));
        g_assert_cmpuint(rogue.device.violations, >, before);
        set_state(h, DEVICE_RUNNING);
    }
    g_assert_false(nothing_moves_by(&rogue, h)); /* running, it does move */
    rogue_stop(&rogue, h);
    harness_destroy(h);
    device_violations_fatal(true);
}

/* ---- accesses at random ---- */

static void access_at_random(struct nettest *t, GRand *random, unsigned count)
{
    static const uint8_t sizes[] = {1, 2, 4};

    for (unsigned i = 0; i < count; i++) {
        unsigned size = sizes[g_rand_int_range(random, 0, 3)];
        unsigned offset = (unsigned)g_rand_int_range(random, 0, 0x4000) & ~(size - 1);

        if (g_rand_boolean(random))
            harness_bar_read(t->h, t->driver->slot, 0, offset, size);
        else
            harness_bar_write(t->h, t->driver->slot, 0, offset, size, g_rand_int(random));
        /* Of config space only what is read: in STOP it is the guest's to write. */
        harness_config_read(t->h, t->driver->slot, (unsigned)g_rand_int_range(random, 0, 64) * 4,
                            4);
    }
}

static GByteArray *save(struct device *device)
{
    GByteArray *out = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    device_save(device, out, &error);
    g_assert_no_error(error);
    return out;
}

static void test_accesses_change_nothing_of_what_is_saved(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(5);
    g_autoptr(GByteArray) before = NULL, after = NULL, third = NULL;
    struct nettest t;
    struct device *device;

    nettest_set_up(&t, SOCK_DGRAM, "queue-size=64");
    virtio_driver_start(t.driver, NETTEST_RINGS | NETTEST_MERGE);
    nettest_post(&t, 20, 1526, 1);
    harness_settle(t.h, 5);
    device = &virtio_pci_function(t.vpci)->device;
    device_violations_fatal(false);
    set_state(t.h, DEVICE_STOP_COPY);
    before = save(device);
    access_at_random(&t, random, 20000);
    after = save(device);
    g_assert_cmpmem(before->data, before->len, after->data, after->len);
    g_assert_cmpuint(device->violations, >, 10000);
    set_state(t.h, DEVICE_RESUMING);
    access_at_random(&t, random, 20000);
    set_state(t.h, DEVICE_STOP_COPY);
    third = save(device);
    g_assert_cmpmem(before->data, before->len, third->data, third->len);
    device_violations_fatal(true);
    set_state(t.h, DEVICE_RUNNING);
    nettest_echo(&t, 500, 1);
    nettest_tear_down(&t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(NAME) g_test_add_func("/quiet/" #NAME, test_##NAME)
    ADD(a_flooded_interface_is_quiet);
    ADD(the_saving_path_is_quiet);
    ADD(every_page_that_a_device_writes_is_marked);
    ADD(a_device_that_writes_behind_the_gates_is_caught);
    ADD(the_gates_hold_a_device_that_does_not_stop);
    ADD(accesses_change_nothing_of_what_is_saved);
    return g_test_run();
}
