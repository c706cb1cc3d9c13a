/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of how a vmxnet3 stops, pauses, and is saved and loaded. */
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/net/driver.h"
#include "devices/vmxnet3/private.h"
#include "tests/device/vmxnet3.h"
#include "tests/support/check_state.h"

static const uint8_t somebody[6] = {2, 2, 2, 2, 2, 2};

/* After QUIESCE nothing touches the rings, whatever arrives. */
static void test_quiesce(void)
{
    uint8_t data[60], before[16 * VMXTEST_RING], after[16 * VMXTEST_RING];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_QUIESCE), ==, 0);
    harness_read(t.h, t.rx[0].completions.base, before, sizeof(before));
    vmxtest_fill(data, sizeof(data), vmxtest_mac, 1);
    net_readable(&t.backend.net, 0);
    vmxtest_put(&t, 0, data, sizeof(data), 1, NULL);
    vmxtest_ring_doorbell(&t, 0);
    harness_settle(t.h, 2);
    g_assert_false(vmxtest_reap(&t, 0));
    harness_read(t.h, t.rx[0].completions.base, after, sizeof(after));
    g_assert_cmpmem(before, sizeof(before), after, sizeof(after));
    g_assert_false(t.backend.active[0]);
    vmxtest_activate(&t);
    vmxtest_echo(&t, 0, 60, 1);
    vmxtest_tear_down(&t);
}

static void set_state(struct vmxtest *t, enum device_state state)
{
    g_autoptr(GError) error = NULL;

    devices_set_state(&t->h->devices, state, HARNESS_TIMEOUT_MS, &error);
    g_assert_no_error(error);
}

/* Doorbells, frames and commands of a paused device wait for the end of the pause. */
static void test_pause(void)
{
    uint8_t data[60];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    vmxtest_fill(data, sizeof(data), vmxtest_mac, 1);
    set_state(&t, DEVICE_RUNNING_P2P);
    vmxtest_put(&t, 0, data, sizeof(data), 1, NULL);
    vmxtest_ring_doorbell(&t, 0);
    vmxtest_host_sends(&t, NULL, data, sizeof(data));
    t.config.filter.mode = VMXNET3_RX_PROMISCUOUS;
    vmxtest_share(&t);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_UPDATE_RX_MODE), ==, 0);
    vmxnet3_set_link(t.v, false);
    harness_settle(t.h, 2);
    vmxnet3_set_link(t.v, true);
    harness_settle(t.h, 2);
    g_assert_false(vmxtest_reap(&t, 0));
    set_state(&t, DEVICE_STOP);
    set_state(&t, DEVICE_RUNNING);
    harness_settle(t.h, 2);
    g_assert_true(vmxtest_reap(&t, 0));
    vmxtest_expect(&t, data, sizeof(data));
    vmxtest_offer(&t, somebody, 0, true);
    vmxtest_tear_down(&t);
}

/* While the host sends and sends, neither memory nor an interrupt moves; afterwards all of it comes, in turn. */
static void test_flooded(void)
{
    static const enum device_state quiet[] = {DEVICE_RUNNING_P2P, DEVICE_STOP, DEVICE_STOP_COPY};
    uint8_t data[300];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    for (unsigned i = 0; i < G_N_ELEMENTS(quiet); i++) {
        struct harness_still *still;

        set_state(&t, quiet[i]);
        still = harness_watch(t.h, 0, t.slot, 2);
        for (unsigned frame = 0; frame < 20; frame++) {
            vmxtest_fill(data, sizeof(data), vmxtest_mac, frame);
            vmxtest_host_sends(&t, NULL, data, sizeof(data));
            harness_settle(t.h, 3);
        }
        g_assert_true(harness_unmoved(still));
        still = harness_watch(t.h, 0, t.slot, 2);
        set_state(&t, DEVICE_RUNNING);
        for (unsigned frame = 0; frame < 20; frame++) {
            vmxtest_fill(data, sizeof(data), vmxtest_mac, frame);
            vmxtest_expect(&t, data, sizeof(data));
        }
        g_assert_false(harness_unmoved(still));
    }
    vmxtest_tear_down(&t);
}

/* An activation in a pause is carried out at its end. */
static void test_pause_activate(void)
{
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_lay_out(&t);
    set_state(&t, DEVICE_RUNNING_P2P);
    g_assert_cmphex(vmxtest_command(&t, VMXNET3_ACTIVATE), ==, 0);
    g_assert_false(vmxnet3_active(t.v));
    set_state(&t, DEVICE_RUNNING);
    g_assert_true(vmxnet3_active(t.v));
    vmxtest_echo(&t, 0, 60, 1);
    vmxtest_tear_down(&t);
}

/* The driver can't say where it is: a frame is sent in its name, while it is active and plugged in. */
static void test_announce(void)
{
    struct vmxtest_frame *frame;
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxnet3_announce(t.v);
    g_assert_true(g_queue_is_empty(&t.backend.sent));
    vmxtest_activate(&t);
    vmxnet3_announce(t.v);
    frame = g_queue_pop_head(&t.backend.sent);
    g_assert_nonnull(frame);
    g_assert_cmpuint(frame->length, ==, 60);
    g_assert_cmpmem(frame->data + 6, 6, vmxtest_mac, 6);
    g_free(frame);
    vmxnet3_set_link(t.v, false);
    vmxnet3_announce(t.v);
    g_assert_true(g_queue_is_empty(&t.backend.sent));
    vmxtest_tear_down(&t);
}

/* Saved in the middle of everything: a frame that waits, a masked vector, rings half way round. */
static void test_state(void)
{
    g_autoptr(GByteArray) saved = NULL;
    g_autoptr(GError) error = NULL;
    struct device *device;
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    t.tx_count = t.rx_count = 2;
    vmxtest_activate(&t);
    device = &vmxnet3_function(t.v)->device;
    for (unsigned i = 0; i < 100; i++) {
        vmxtest_echo(&t, 1, 60, 1);
        vmxtest_pass(&t, 2000, i);
    }
    for (unsigned i = 0; i < VMXTEST_RING - 1; i++) {
        uint8_t data[100];

        vmxtest_fill(data, sizeof(data), vmxtest_mac, i);
        vmxtest_host_sends(&t, NULL, data, sizeof(data));
    }
    harness_settle(t.h, 2);
    g_assert_true(g_queue_is_empty(&t.backend.incoming)); /* the last one waits */
    saved = harness_save(device);
    device_reset(device);
    g_assert_false(vmxnet3_active(t.v));
    g_assert_true(harness_load_state(device, saved, &error));
    g_assert_no_error(error);
    g_assert_true(vmxnet3_active(t.v));
    for (unsigned i = 0; i < VMXTEST_RING - 1; i++) {
        uint8_t data[100];

        vmxtest_fill(data, sizeof(data), vmxtest_mac, i);
        vmxtest_expect(&t, data, sizeof(data));
    }
    vmxtest_echo(&t, 1, 60, 1);
    vmxtest_echo(&t, 0, 60, 1);
    vmxtest_tear_down(&t);
}

/* The device's state with one number of it changed; the device itself is as it was. */
static GByteArray *save_spoilt(struct vmxtest *t, size_t offset, uint32_t value)
{
    struct device *device = &vmxnet3_function(t->v)->device;
    uint32_t *field = (uint32_t *)(void *)((uint8_t *)t->v + offset), before = *field;
    GByteArray *saved = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    set_state(t, DEVICE_STOP_COPY);
    *field = value;
    device_save(device, saved, &error);
    g_assert_no_error(error);
    *field = before;
    set_state(t, DEVICE_RUNNING);
    return saved;
}

/* A state that makes no sense is refused, and the device is as after a reset. */
static void refuses_state(size_t offset, uint32_t value)
{
    g_autoptr(GByteArray) saved = NULL;
    g_autoptr(GError) error = NULL;
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    saved = save_spoilt(&t, offset, value);
    g_assert_false(harness_load_state(&vmxnet3_function(t.v)->device, saved, &error));
    g_assert_nonnull(strstr(error->message, "vmxnet3: "));
    g_assert_false(vmxnet3_active(t.v));
    harness_command(t.h, t.slot, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
    harness_msix_enable(t.h, t.slot, VMXNET3_VECTORS);
    vmxtest_activate(&t);
    vmxtest_echo(&t, 0, 60, 1);
    vmxtest_tear_down(&t);
}

static void test_state_hostile(void)
{
    refuses_state(offsetof(struct vmxnet3, revision), 0);
    refuses_state(offsetof(struct vmxnet3, revision), 4);
    refuses_state(offsetof(struct vmxnet3, later_count), VMXNET3_LATER + 1);
    refuses_state(offsetof(struct vmxnet3, setup.tx_count), VMXNET3_MAX_QUEUES + 1);
    refuses_state(offsetof(struct vmxnet3, setup.rx_count), 0);
    refuses_state(offsetof(struct vmxnet3, setup.multicast_count), VMXNET3_MULTICASTS + 1);
    refuses_state(offsetof(struct vmxnet3, tx[0].ring.next), VMXTEST_RING);
    refuses_state(offsetof(struct vmxnet3, tx[0].ring.size), VMXTEST_RING + 1);
    refuses_state(offsetof(struct vmxnet3, rx[0].ring[0].next), UINT32_MAX);
    refuses_state(offsetof(struct vmxnet3, rx[0].ring[1].size), 2 * VMXNET3_MAX_RING);
    refuses_state(offsetof(struct vmxnet3, rx[0].completions.size), 1u << 31);
}

static void test_state_table(void)
{
    check_state_table(&vmxnet3_state);
}

/* Bus mastering goes away, and comes back. */
static void test_bus_master(void)
{
    uint8_t data[60];
    struct vmxtest t;

    vmxtest_set_up(&t, 1, false);
    vmxtest_activate(&t);
    harness_command(t.h, t.slot, 0, PCI_COMMAND_MASTER);
    vmxtest_fill(data, sizeof(data), vmxtest_mac, 1);
    vmxtest_put(&t, 0, data, sizeof(data), 1, NULL);
    vmxtest_ring_doorbell(&t, 0);
    vmxtest_host_sends(&t, NULL, data, sizeof(data));
    harness_settle(t.h, 2);
    g_assert_false(vmxtest_reap(&t, 0));
    harness_command(t.h, t.slot, PCI_COMMAND_MASTER, 0);
    harness_settle(t.h, 2);
    g_assert_true(vmxtest_reap(&t, 0));
    vmxtest_expect(&t, data, sizeof(data));
    vmxtest_tear_down(&t);
}

/* The data path on a thread of its own, as in a machine, while the driver stops and starts the device
 * at any time: what a QUIESCE that returned leaves in the rings stays. */
static void test_threads(void)
{
    struct loop *loop = loop_create("io0", NULL);
    uint8_t data[200], before[16 * VMXTEST_RING], after[16 * VMXTEST_RING];
    g_autofree char *text = NULL;
    struct vmxtest t;
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==, 0);
    text = g_strdup_printf("type=dgram,fd=%d", pair[1]);
    vmxtest_set_up_on(&t, loop, text);
    vmxtest_fill(data, sizeof(data), vmxtest_mac, 1);
    for (unsigned turn = 0; turn < 30; turn++) {
        unsigned reaped = 0;

        vmxtest_activate(&t);
        for (unsigned i = 0; i < VMXTEST_RING - 1; i++) {
            vmxtest_put(&t, 0, data, sizeof(data), 1, NULL);
            if (i % 8 == turn % 8)
                vmxtest_ring_doorbell(&t, 0);
            send(pair[0], data, sizeof(data), 0);
            vmxtest_unmask(&t, 0);
        }
        vmxtest_command(&t, turn % 3 ? VMXNET3_QUIESCE : VMXNET3_RESET);
        harness_read(t.h, t.tx[0].completions.base, before, sizeof(before));
        while (vmxtest_reap(&t, 0))
            reaped++;
        g_assert_cmpuint(reaped, <, VMXTEST_RING);
        harness_settle(t.h, 1);
        harness_read(t.h, t.tx[0].completions.base, after, sizeof(after));
        g_assert_cmpmem(before, sizeof(before), after, sizeof(after));
        while (recv(pair[0], data, sizeof(data), 0) > 0)
            ;
        vmxtest_fill(data, sizeof(data), vmxtest_mac, turn);
    }
    vmxtest_tear_down(&t);
    loop_destroy(loop);
    close(pair[0]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    g_test_add_func("/vmxnet3/quiesce", test_quiesce);
    g_test_add_func("/vmxnet3/pause", test_pause);
    g_test_add_func("/vmxnet3/flooded", test_flooded);
    g_test_add_func("/vmxnet3/pause/activate", test_pause_activate);
    g_test_add_func("/vmxnet3/announce", test_announce);
    g_test_add_func("/vmxnet3/state", test_state);
    g_test_add_func("/vmxnet3/state/hostile", test_state_hostile);
    g_test_add_func("/vmxnet3/state/table", test_state_table);
    g_test_add_func("/vmxnet3/bus-master", test_bus_master);
    g_test_add_func("/vmxnet3/threads", test_threads);
    return g_test_run();
}
