/* SPDX-License-Identifier: GPL-2.0-or-later */
/* MSI vectors and lines against a fake controller: masks, pending, routes, latches, resampling. */
#include "vmm/irq.h"

#include <errno.h>
#include <unistd.h>

#include "tests/support/fake_interrupts.h"
#include "vmm/device.h"
#include "vmm/loop.h"

#define ADDRESS UINT64_C(0xfee01000)

static void set_state(struct device *device, enum device_state state)
{
    __atomic_store_n(&device->state, state, __ATOMIC_SEQ_CST);
}

static void a_vector_delivers_its_message_once_unmasked(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct irq_msi msi;
    uint64_t address;
    uint32_t data;

    g_assert_cmpint(irq_msi_init(&msi, fake->interrupts, NULL), ==, 0);
    g_assert_cmpuint(msi.gsi, >=, INTERRUPTS_PINS);
    g_assert_cmpint(irq_msi_set_message(&msi, ADDRESS, 0x41), ==, 0);
    g_assert_cmpuint(fake->route_calls, ==, 0); /* masked: kept */
    g_assert_cmpint(irq_msi_set_masked(&msi, false), ==, 0);
    g_assert_true(fake_interrupts_message(fake, msi.gsi, &address, &data));
    g_assert_cmphex(address, ==, ADDRESS);
    g_assert_cmphex(data, ==, 0x41);
    irq_msi_fire(&msi);
    g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 1);
    g_assert_false(irq_msi_pending(&msi));
    g_assert_cmpuint(msi.fired, ==, 1);
    irq_msi_finish(&msi);
    fake_interrupts_destroy(fake);
}

static void a_masked_vector_is_pending_and_unmasking_delivers(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct irq_msi msi;

    g_assert_cmpint(irq_msi_init(&msi, fake->interrupts, NULL), ==, 0);
    irq_msi_set_message(&msi, ADDRESS, 0x41);
    g_assert_false(irq_msi_pending(&msi));
    irq_msi_fire(&msi);
    irq_msi_fire(&msi);
    g_assert_true(irq_msi_pending(&msi));
    g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 0);
    irq_msi_set_masked(&msi, false);
    g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 1);
    irq_msi_set_masked(&msi, true);
    g_assert_false(fake_interrupts_attached(fake, msi.gsi));
    irq_msi_fire(&msi);
    irq_msi_clear_pending(&msi);
    irq_msi_set_masked(&msi, false);
    g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 0);
    irq_msi_finish(&msi);
    fake_interrupts_destroy(fake);
}

static void a_vector_without_a_message_stays_pending(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct irq_msi msi;

    g_assert_cmpint(irq_msi_init(&msi, fake->interrupts, NULL), ==, 0);
    g_assert_cmpint(irq_msi_set_masked(&msi, false), ==, 0);
    irq_msi_fire(&msi);
    g_assert_true(irq_msi_pending(&msi));
    g_assert_cmpint(irq_msi_set_message(&msi, ADDRESS, 0x42), ==, 0);
    g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 1);
    irq_msi_finish(&msi);
    fake_interrupts_destroy(fake);
}

static void an_unchanged_message_is_not_routed_again(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct irq_msi msi;

    g_assert_cmpint(irq_msi_init(&msi, fake->interrupts, NULL), ==, 0);
    irq_msi_set_message(&msi, ADDRESS, 0x41);
    irq_msi_set_masked(&msi, false);
    irq_msi_set_masked(&msi, true);
    irq_msi_set_message(&msi, ADDRESS + 0x1000, 0x41);
    irq_msi_set_message(&msi, ADDRESS, 0x41);
    irq_msi_set_masked(&msi, false);
    g_assert_cmpuint(fake->route_calls, ==, 1);
    irq_msi_set_message(&msi, ADDRESS, 0x43); /* while unmasked: at once */
    g_assert_cmpuint(fake->route_calls, ==, 2);
    irq_msi_finish(&msi);
    fake_interrupts_destroy(fake);
}

static void failures_of_the_controller_are_returned_and_can_be_repeated(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct irq_msi msi;

    g_assert_cmpint(irq_msi_init(&msi, fake->interrupts, NULL), ==, 0);
    irq_msi_set_message(&msi, ADDRESS, 0x41);
    fake->fail = -ENOSPC;
    g_assert_cmpint(irq_msi_set_masked(&msi, false), ==, -ENOSPC);
    irq_msi_fire(&msi);
    g_assert_true(irq_msi_pending(&msi));
    fake->fail = 0;
    g_assert_cmpint(irq_msi_set_masked(&msi, false), ==, 0);
    g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 1);
    irq_msi_finish(&msi);
    fake_interrupts_destroy(fake);
}

static void numbers_are_used_again(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct irq_msi first, second, again;
    uint32_t gsi;

    g_assert_cmpint(irq_msi_init(&first, fake->interrupts, NULL), ==, 0);
    g_assert_cmpint(irq_msi_init(&second, fake->interrupts, NULL), ==, 0);
    g_assert_cmpuint(first.gsi, !=, second.gsi);
    gsi = first.gsi;
    irq_msi_finish(&first);
    irq_msi_finish(&first); /* harmless */
    g_assert_cmpint(irq_msi_init(&again, fake->interrupts, NULL), ==, 0);
    g_assert_cmpuint(again.gsi, ==, gsi);
    irq_msi_finish(&again);
    irq_msi_finish(&second);
    fake_interrupts_destroy(fake);
}

/* ---- the lifecycle gate ---- */

static const struct device_ops no_ops = {0};

static void a_device_in_p2p_latches_and_fires_once(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct device device = {0};
    struct irq_msi one, two;

    device_init(&device, "test0", "test", &no_ops);
    g_assert_cmpint(irq_msi_init(&one, fake->interrupts, &device), ==, 0);
    g_assert_cmpint(irq_msi_init(&two, fake->interrupts, &device), ==, 0);
    irq_msi_set_message(&one, ADDRESS, 1);
    irq_msi_set_message(&two, ADDRESS, 2);
    irq_msi_set_masked(&one, false);
    irq_msi_set_masked(&two, false);
    set_state(&device, DEVICE_RUNNING_P2P);
    irq_msi_fire(&one);
    irq_msi_fire(&one);
    irq_msi_fire(&one);
    g_assert_cmpuint(fake_interrupts_take(fake, one.gsi), ==, 0);
    g_assert_true(irq_msi_pending(&one));
    set_state(&device, DEVICE_RUNNING);
    irq_release_latched(&device);
    g_assert_cmpuint(one.fired, ==, 1);
    g_assert_cmpuint(two.fired, ==, 0);
    g_assert_cmpuint(fake_interrupts_take(fake, one.gsi), ==, 1);
    g_assert_cmpuint(fake_interrupts_take(fake, two.gsi), ==, 0);
    irq_release_latched(&device);
    g_assert_cmpuint(fake_interrupts_take(fake, one.gsi), ==, 0);
    irq_msi_finish(&one);
    irq_msi_finish(&two);
    g_assert_null(device.msis);
    device_finish(&device);
    fake_interrupts_destroy(fake);
}

struct racer {
    struct irq_msi *msi;
    unsigned count;
};

static gpointer fire_all_the_time(gpointer data)
{
    struct racer *racer = data;

    for (unsigned i = 0; i < racer->count; i++)
        irq_msi_fire(racer->msi);
    return NULL;
}

static void no_interrupt_is_lost_between_states(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct device device = {0};
    struct irq_msi msi;

    device_init(&device, "test0", "test", &no_ops);
    g_assert_cmpint(irq_msi_init(&msi, fake->interrupts, &device), ==, 0);
    irq_msi_set_message(&msi, ADDRESS, 1);
    irq_msi_set_masked(&msi, false);
    for (unsigned turn = 0; turn < 300; turn++) {
        struct racer racer = {&msi, 1};
        GThread *thread;
        set_state(&device, DEVICE_RUNNING_P2P);
        thread = g_thread_new("fire", fire_all_the_time, &racer);
        set_state(&device, DEVICE_RUNNING);
        irq_release_latched(&device);
        g_thread_join(thread);
        g_assert_cmpuint(fake_interrupts_take(fake, msi.gsi), ==, 1);
        g_assert_false(msi.latched);
    }
    irq_msi_finish(&msi);
    device_finish(&device);
    fake_interrupts_destroy(fake);
}

/* ---- lines ---- */

static void a_level_line_asserts_again_until_the_device_lowers_it(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct loop *loop = loop_main();
    struct irq_line line;

    g_assert_cmpint(irq_line_init(&line, fake->interrupts, NULL, 16, true, loop), ==, 0);
    irq_line_set(&line, true);
    irq_line_set(&line, true);
    g_assert_cmpuint(fake_interrupts_take(fake, 16), ==, 1);
    fake_interrupts_eoi(fake, 16);
    loop_iterate(loop, true);
    g_assert_cmpuint(fake_interrupts_take(fake, 16), ==, 1); /* still up */
    irq_line_set(&line, false);
    fake_interrupts_eoi(fake, 16);
    loop_iterate(loop, true);
    g_assert_cmpuint(fake_interrupts_take(fake, 16), ==, 0);
    irq_line_finish(&line);
    fake_interrupts_destroy(fake);
}

static void two_devices_share_a_pin(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct loop *loop = loop_main();
    struct irq_line one, two;

    g_assert_cmpint(irq_line_init(&one, fake->interrupts, NULL, 17, true, loop), ==, 0);
    g_assert_cmpint(irq_line_init(&two, fake->interrupts, NULL, 17, true, loop), ==, 0);
    irq_line_set(&one, true);
    irq_line_set(&two, true);
    g_assert_cmpuint(fake_interrupts_take(fake, 17), ==, 1);
    irq_line_set(&one, false); /* the guest served one, not two */
    fake_interrupts_eoi(fake, 17);
    while (loop_iterate(loop, false))
        ;
    g_assert_cmpuint(fake_interrupts_take(fake, 17), ==, 1);
    irq_line_set(&two, false);
    fake_interrupts_eoi(fake, 17);
    while (loop_iterate(loop, false))
        ;
    g_assert_cmpuint(fake_interrupts_take(fake, 17), ==, 0);
    irq_line_finish(&one);
    irq_line_finish(&two);
    fake_interrupts_destroy(fake);
}

static void an_edge_line_signals_each_rising_level(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct irq_line line;

    g_assert_cmpint(irq_line_init(&line, fake->interrupts, NULL, 4, false, NULL), ==, 0);
    irq_line_set(&line, true);
    g_assert_cmpuint(fake_interrupts_take(fake, 4), ==, 1);
    irq_line_set(&line, true);
    irq_line_set(&line, false);
    g_assert_cmpuint(fake_interrupts_take(fake, 4), ==, 0);
    irq_line_set(&line, true);
    g_assert_cmpuint(fake_interrupts_take(fake, 4), ==, 1);
    irq_line_finish(&line);
    fake_interrupts_destroy(fake);
}

static void lines_latch_an_edge_and_reconsider_a_level(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct loop *loop = loop_main();
    struct device device = {0};
    struct irq_line edge, level;

    device_init(&device, "test0", "test", &no_ops);
    g_assert_cmpint(irq_line_init(&edge, fake->interrupts, &device, 4, false, NULL), ==, 0);
    g_assert_cmpint(irq_line_init(&level, fake->interrupts, &device, 18, true, loop), ==, 0);
    set_state(&device, DEVICE_RUNNING_P2P);
    irq_line_set(&edge, true);
    irq_line_set(&edge, false);
    irq_line_set(&level, true);
    irq_line_set(&level, false);
    set_state(&device, DEVICE_RUNNING);
    irq_release_latched(&device);
    g_assert_cmpuint(fake_interrupts_take(fake, 4), ==, 1);
    g_assert_cmpuint(fake_interrupts_take(fake, 18), ==, 0);
    set_state(&device, DEVICE_RUNNING_P2P);
    irq_line_set(&level, true);
    set_state(&device, DEVICE_RUNNING);
    irq_release_latched(&device);
    g_assert_cmpuint(fake_interrupts_take(fake, 18), ==, 1);
    irq_line_finish(&edge);
    irq_line_finish(&level);
    g_assert_null(device.lines);
    device_finish(&device);
    fake_interrupts_destroy(fake);
}

static void bad_pins_are_refused(void)
{
    struct fake_interrupts *fake = fake_interrupts_create();
    struct irq_line line;

    g_assert_cmpint(irq_line_init(&line, fake->interrupts, NULL, 24, false, NULL), ==, -EINVAL);
    irq_line_finish(&line); /* harmless after a failed init */
    fake->fail = -EBUSY;
    g_assert_cmpint(irq_line_init(&line, fake->interrupts, NULL, 4, false, NULL), ==, -EBUSY);
    fake->fail = 0;
    fake_interrupts_destroy(fake);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/irq/delivers-once-unmasked", a_vector_delivers_its_message_once_unmasked);
    g_test_add_func("/irq/masked-is-pending", a_masked_vector_is_pending_and_unmasking_delivers);
    g_test_add_func("/irq/no-message-stays-pending", a_vector_without_a_message_stays_pending);
    g_test_add_func("/irq/unchanged-message-is-not-routed-again",
                    an_unchanged_message_is_not_routed_again);
    g_test_add_func("/irq/controller-failures-are-returned",
                    failures_of_the_controller_are_returned_and_can_be_repeated);
    g_test_add_func("/irq/numbers-are-used-again", numbers_are_used_again);
    g_test_add_func("/irq/p2p-latches-and-fires-once", a_device_in_p2p_latches_and_fires_once);
    g_test_add_func("/irq/none-lost-between-states", no_interrupt_is_lost_between_states);
    g_test_add_func("/irq/level-line-resamples",
                    a_level_line_asserts_again_until_the_device_lowers_it);
    g_test_add_func("/irq/two-devices-share-a-pin", two_devices_share_a_pin);
    g_test_add_func("/irq/edge-line", an_edge_line_signals_each_rising_level);
    g_test_add_func("/irq/lines-latch", lines_latch_an_edge_and_reconsider_a_level);
    g_test_add_func("/irq/bad-pins-are-refused", bad_pins_are_refused);
    return g_test_run();
}
