/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtqueues against a driver's side of the ring, in plain guest memory: every layout and feature. */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/device/virtio_driver.h"

#define RAM_SIZE  (UINT64_C(16) << 20)
#define LOW_END   (UINT64_C(8) << 20)
#define RING_GPA  UINT64_C(0x100000)
#define DATA_GPA  UINT64_C(0x400000)
#define QUEUE     64u
#define CHAIN_MAX 6u
#define PIECE     256u

struct fixture {
    struct memory *memory;
    struct dma dma;
    struct virtq vq;
    struct driver_ring ring;
    unsigned notified;
    unsigned broken;
    char why[80];
    struct virtq_element *element;
};

static void on_notify(void *opaque, struct virtq *vq)
{
    ((struct fixture *)opaque)->notified++;
}

static void on_broken(void *opaque, struct virtq *vq, const char *why)
{
    struct fixture *f = opaque;

    f->broken++;
    g_strlcpy(f->why, why, sizeof(f->why));
}

static const struct virtq_ops ops = {on_notify, on_broken};

static void setup_sized(struct fixture *f, const struct virtq_features *features, uint16_t size)
{
    g_autoptr(GError) error = NULL;
    const struct memory_ram_options options = {0};

    memset(f, 0, sizeof(*f));
    f->memory = memory_create();
    g_assert_true(memory_add_ram(f->memory, RAM_SIZE, LOW_END, &options, &error));
    dma_init(&f->dma, f->memory, NULL, true);
    driver_ring_init(&f->ring, f->memory, RING_GPA, size, features);
    virtq_init(&f->vq, 0, 1024, &f->dma, &ops, f);
    driver_ring_give(&f->ring, &f->vq);
    g_assert_cmpint(virtq_enable(&f->vq, features), ==, 0);
    f->element = virtq_element_create(1024);
}

static void setup(struct fixture *f, const struct virtq_features *features)
{
    setup_sized(f, features, QUEUE);
}

static void teardown(struct fixture *f)
{
    virtq_finish(&f->vq);
    driver_ring_finish(&f->ring);
    memory_destroy(f->memory);
    g_free(f->element);
}

static struct virtq_features features_of(unsigned bits)
{
    return (struct virtq_features){bits & 1, bits & 2, bits & 4, bits & 8};
}

/* Registers one test for every feature combination. */
static void add_matrix(const char *name, void (*test)(const void *bits))
{
    for (unsigned bits = 0; bits < 16; bits++) {
        g_autofree char *path = g_strdup_printf(
            "/virtq/%s/%s%s%s%s", name, bits & 1 ? "packed" : "split", bits & 2 ? "+indirect" : "",
            bits & 4 ? "+event-idx" : "", bits & 8 ? "+in-order" : "");
        g_test_add_data_func(path, GUINT_TO_POINTER(bits), test);
    }
}

/* ---- traffic ---- */

struct request {
    struct driver_buffer out[CHAIN_MAX], in[CHAIN_MAX];
    unsigned outs, ins, number;
    uint32_t in_bytes, seed, written;
};

/* What the device puts into the writable part: a function of what it was given to read. */
static uint8_t answer(uint32_t seed, uint32_t i)
{
    return (uint8_t)(seed * 31 + i * 7 + 1);
}

static struct request *make_request(struct fixture *f, GRand *rand, unsigned number, unsigned slot)
{
    struct request *r = g_new0(struct request, 1);
    uint64_t gpa = DATA_GPA + (uint64_t)slot * 2 * CHAIN_MAX * PIECE;

    r->number = number;
    r->outs = 1 + g_rand_int(rand) % (CHAIN_MAX / 2);
    r->ins = g_rand_int(rand) % (CHAIN_MAX / 2 + 1);
    for (unsigned i = 0; i < r->outs; i++, gpa += PIECE)
        r->out[i] = (struct driver_buffer){gpa, 4 + g_rand_int(rand) % (PIECE - 4)};
    for (unsigned i = 0; i < r->ins; i++, gpa += PIECE) {
        r->in[i] = (struct driver_buffer){gpa, 1 + g_rand_int(rand) % (PIECE - 1)};
        r->in_bytes += r->in[i].len;
    }
    r->seed = g_rand_int(rand);
    memcpy(driver_ring_ptr(&f->ring, r->out[0].gpa, 4), &r->seed, 4);
    return r;
}

static uint32_t serve(const struct virtq_element *element)
{
    uint32_t seed, done = 0;

    g_assert_cmpuint(element->out_count, >, 0);
    memcpy(&seed, element->iov[0].iov_base, 4);
    for (unsigned i = 0; i < element->in_count; i++) {
        const struct iovec *iov = &element->iov[element->out_count + i];
        for (size_t n = 0; n < iov->iov_len; n++)
            ((uint8_t *)iov->iov_base)[n] = answer(seed, done++);
    }
    g_assert_cmpuint(done, ==, element->in_bytes);
    return done;
}

static void check_answer(struct fixture *f, const struct request *r, uint32_t written)
{
    uint32_t done = 0;

    g_assert_cmpuint(written, ==, r->in_bytes);
    for (unsigned i = 0; i < r->ins; i++) {
        const uint8_t *data = driver_ring_ptr(&f->ring, r->in[i].gpa, r->in[i].len);
        for (uint32_t n = 0; n < r->in[i].len; n++)
            g_assert_cmpuint(data[n], ==, answer(r->seed, done++));
    }
}

struct traffic {
    struct virtq_element *out[QUEUE]; /* popped */
    unsigned popped;
    struct request *slots[QUEUE]; /* by data slot */
    unsigned added, reaped, last;
};

static void driver_turn(struct fixture *f, struct traffic *t, GRand *rand, unsigned total)
{
    struct request *r;
    uint32_t written;

    for (unsigned n = g_rand_int(rand) % 8; n > 0 && t->added < total; n--) {
        unsigned slot = 0;
        while (slot < QUEUE && t->slots[slot])
            slot++;
        if (slot == QUEUE)
            break;
        r = make_request(f, rand, t->added + 1, slot);
        if (!driver_ring_add(&f->ring, r->out, r->outs, r->in, r->ins,
                             f->ring.features.indirect && g_rand_boolean(rand), r)) {
            g_free(r);
            break;
        }
        t->slots[slot] = r;
        t->added++;
    }
    driver_ring_publish(&f->ring);
    while ((r = driver_ring_reap(&f->ring, &written))) {
        check_answer(f, r, written);
        if (f->ring.features.in_order)
            g_assert_cmpuint(r->number, ==, t->last + 1);
        t->last = r->number;
        for (unsigned i = 0; i < QUEUE; i++)
            if (t->slots[i] == r)
                t->slots[i] = NULL;
        g_free(r);
        t->reaped++;
    }
}

static void device_turn(struct fixture *f, struct traffic *t, GRand *rand)
{
    while (t->popped < QUEUE && g_rand_int(rand) % 8) {
        struct virtq_element *element = virtq_element_create(CHAIN_MAX);
        int ret = virtq_pop(&f->vq, element);

        g_assert_cmpint(ret, >=, 0);
        if (ret && g_rand_int(rand) % 8 == 0) {
            virtq_unpop(&f->vq, element);
            ret = 0;
        }
        if (!ret) {
            g_free(element);
            break;
        }
        t->out[t->popped++] = element;
    }
    while (t->popped && g_rand_int(rand) % 8) { /* any that is out, not the oldest */
        unsigned i = g_rand_int(rand) % t->popped;
        virtq_push(&f->vq, t->out[i], serve(t->out[i]));
        g_free(t->out[i]);
        t->out[i] = t->out[--t->popped];
    }
    if (g_rand_boolean(rand))
        virtq_flush(&f->vq);
}

static void run_traffic(const struct virtq_features *features, uint16_t size, unsigned total,
                        uint32_t seed)
{
    struct fixture f;
    struct traffic t = {0};
    GRand *rand = g_rand_new_with_seed(seed);

    setup_sized(&f, features, size);
    for (unsigned turn = 0; t.reaped < total; turn++) {
        g_assert_cmpuint(turn, <, 100 * total);
        driver_turn(&f, &t, rand, total);
        device_turn(&f, &t, rand);
    }
    g_assert_cmpuint(f.broken, ==, 0);
    g_assert_cmpuint(f.vq.in_flight, ==, 0);
    g_assert_true(virtq_is_empty(&f.vq));
    g_assert_cmpuint(f.ring.free, ==, size);
    g_rand_free(rand);
    teardown(&f);
}

static void test_traffic(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));

    run_traffic(&features, QUEUE, 3000, 1);
    run_traffic(&features, 8, 1000, 2);
}

static void test_odd_packed_size(void)
{
    for (unsigned bits = 1; bits < 16; bits += 2) {
        struct virtq_features features = features_of(bits);
        run_traffic(&features, 37, 2000, bits);
        run_traffic(&features, 3, 300, bits);
    }
}

/* ---- notifications to the driver ---- */

static void add_one(struct fixture *f, void *cookie)
{
    const struct driver_buffer in = {DATA_GPA, 16};

    g_assert_true(driver_ring_add(&f->ring, NULL, 0, &in, 1, false, cookie));
}

static void complete(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        g_assert_cmpint(virtq_pop(&f->vq, f->element), ==, 1);
        virtq_push(&f->vq, f->element, 16);
    }
    virtq_flush(&f->vq);
}

static void reap(struct fixture *f, unsigned count)
{
    uint32_t written;

    for (unsigned i = 0; i < count; i++) {
        g_assert_nonnull(driver_ring_reap(&f->ring, &written));
        g_assert_cmpuint(written, ==, 16);
    }
    g_assert_null(driver_ring_reap(&f->ring, &written));
}

static void test_notify_once_a_batch(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));
    struct fixture f;

    setup(&f, &features);
    driver_ring_interrupts_on(&f.ring);
    for (unsigned i = 0; i < 10; i++)
        add_one(&f, &f);
    driver_ring_publish(&f.ring);
    g_assert_cmpuint(f.notified, ==, 0);
    complete(&f, 10);
    g_assert_cmpuint(f.notified, ==, 1);
    virtq_flush(&f.vq); /* nothing new */
    g_assert_cmpuint(f.notified, ==, 1);
    reap(&f, 10);
    teardown(&f);
}

static void test_notify_off(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));
    struct fixture f;

    setup(&f, &features);
    add_one(&f, &f);
    driver_ring_publish(&f.ring);
    complete(&f, 1); /* the first after enabling may always interrupt */
    reap(&f, 1);
    f.notified = 0;
    for (unsigned i = 0; i < 300; i++) {
        driver_ring_interrupts_off(&f.ring);
        add_one(&f, &f);
        driver_ring_publish(&f.ring);
        complete(&f, 1);
        reap(&f, 1);
    }
    g_assert_cmpuint(f.notified, ==, 0);
    add_one(&f, &f);
    driver_ring_publish(&f.ring);
    g_assert_false(driver_ring_interrupts_on(&f.ring));
    complete(&f, 1);
    g_assert_cmpuint(f.notified, ==, 1);
    g_assert_true(driver_ring_interrupts_on(&f.ring));
    reap(&f, 1);
    teardown(&f);
}

/* The driver asks for an interrupt after so many: it comes with that one and with no other, wherever
 * in the ring that is. */
static void test_notify_event_index(void)
{
    for (unsigned bits = 4; bits < 16; bits++) {
        struct virtq_features features = features_of(bits);
        struct fixture f;
        GRand *rand;

        if (!features.event_idx)
            continue;
        rand = g_rand_new_with_seed(bits);
        setup_sized(&f, &features, 16);
        for (unsigned round = 0; round < 20000; round++) {
            unsigned after = 1 + g_rand_int(rand) % 16;
            unsigned batch = 1 + g_rand_int(rand) % 16;
            unsigned done = 0;

            if (round) /* the very first always interrupts */
                f.notified = 0;
            driver_ring_interrupts_after(&f.ring, after);
            for (unsigned i = 0; i < 16; i++)
                add_one(&f, &f);
            driver_ring_publish(&f.ring);
            while (done < 16) {
                unsigned count = MIN(batch, 16 - done);
                unsigned before = f.notified;
                complete(&f, count);
                if (round)
                    g_assert_cmpuint(f.notified - before, ==,
                                     done < after && after <= done + count);
                done += count;
            }
            reap(&f, 16);
        }
        g_rand_free(rand);
        teardown(&f);
    }
}

/* ---- the doorbell ---- */

static void test_doorbell(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));
    struct fixture f;

    setup(&f, &features);
    for (unsigned i = 0; i < 3 * QUEUE; i++) {
        g_assert_false(virtq_enable_notify(&f.vq));
        add_one(&f, &f);
        g_assert_true(driver_ring_publish(&f.ring));
        virtq_disable_notify(&f.vq);
        complete(&f, 1);
        reap(&f, 1);
        add_one(&f, &f);
        g_assert_false(driver_ring_publish(&f.ring)); /* we are polling */
        g_assert_true(virtq_enable_notify(&f.vq));    /* and told of it here */
        g_assert_false(virtq_is_empty(&f.vq));
        complete(&f, 1);
        reap(&f, 1);
        g_assert_true(virtq_is_empty(&f.vq));
    }
    teardown(&f);
}

/* ---- details of chains ---- */

static void test_unpop(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));
    struct fixture f;
    const struct driver_buffer out[2] = {{DATA_GPA, 8}, {DATA_GPA + 64, 8}};
    const struct driver_buffer in[1] = {{DATA_GPA + 128, 16}};

    setup_sized(&f, &features, 4);
    for (unsigned i = 0; i < 50; i++) { /* chains of three in four slots: every position */
        uint16_t id;

        g_assert_true(driver_ring_add(&f.ring, out, 2, in, 1, false, &f));
        driver_ring_publish(&f.ring);
        g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
        id = f.element->id;
        virtq_unpop(&f.vq, f.element);
        g_assert_cmpuint(f.vq.in_flight, ==, 0);
        g_assert_false(virtq_is_empty(&f.vq));
        g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
        g_assert_cmpuint(f.element->id, ==, id);
        g_assert_cmpuint(f.element->out_count, ==, 2);
        g_assert_cmpuint(f.element->in_count, ==, 1);
        g_assert_true(virtq_is_empty(&f.vq));
        virtq_push(&f.vq, f.element, 16);
        virtq_flush(&f.vq);
        reap(&f, 1);
    }
    teardown(&f);
}

static void test_written_is_limited(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));
    struct fixture f;
    uint32_t written;

    setup(&f, &features);
    add_one(&f, &f);
    driver_ring_publish(&f.ring);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
    virtq_push(&f.vq, f.element, 1000000);
    virtq_flush(&f.vq);
    g_assert_nonnull(driver_ring_reap(&f.ring, &written));
    g_assert_cmpuint(written, ==, 16);
    teardown(&f);
}

/* Nothing of a batch is visible before the flush. */
static void test_flush_publishes(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));
    struct fixture f;
    struct virtq_element *elements[4];

    setup(&f, &features);
    for (unsigned i = 0; i < 4; i++)
        add_one(&f, &f);
    driver_ring_publish(&f.ring);
    for (unsigned i = 0; i < 4; i++) {
        elements[i] = virtq_element_create(1);
        g_assert_cmpint(virtq_pop(&f.vq, elements[i]), ==, 1);
    }
    for (unsigned i = 0; i < 4; i++) {
        virtq_push(&f.vq, elements[3 - i], 16);
        g_assert_null(driver_ring_reap(&f.ring, NULL));
        g_free(elements[3 - i]);
    }
    virtq_flush(&f.vq);
    reap(&f, 4);
    teardown(&f);
}

/* A buffer that lies in two regions side by side is two pieces, for the device to use as one. */
static void test_buffer_in_two_regions(void)
{
    struct virtq_features features = {0};
    struct fixture f;
    const struct driver_buffer in = {LOW_END - 100, 300};
    void *host = g_aligned_alloc0(1, 4096, 4096);
    struct memory_region region = {
        .gpa = LOW_END, .size = 4096, .host = host, .fd = -1, .flags = MEMORY_RAM, .name = "more"};

    setup(&f, &features);
    g_assert_cmpint(memory_add(f.memory, &region), ==, 0);
    g_assert_true(driver_ring_add(&f.ring, NULL, 0, &in, 1, false, &f));
    driver_ring_publish(&f.ring);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
    g_assert_cmpuint(f.element->in_count, ==, 2);
    g_assert_cmpuint(f.element->iov[0].iov_len, ==, 100);
    g_assert_cmpuint(f.element->iov[1].iov_len, ==, 200);
    g_assert_true(f.element->iov[1].iov_base == host);
    g_assert_cmpuint(f.element->in_bytes, ==, 300);
    g_assert_cmpint(memory_remove(f.memory, LOW_END, 4096), ==, 0);
    teardown(&f);
    g_aligned_free(host);
}

static void test_no_dma_no_pop(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));
    struct fixture f;

    setup(&f, &features);
    add_one(&f, &f);
    driver_ring_publish(&f.ring);
    dma_set_enabled(&f.dma, false);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 0);
    g_assert_false(virtq_enable_notify(&f.vq));
    dma_set_enabled(&f.dma, true);
    __atomic_store_n(&f.vq.paused, true, __ATOMIC_RELEASE);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 0);
    __atomic_store_n(&f.vq.paused, false, __ATOMIC_RELEASE);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
    dma_set_enabled(&f.dma, false); /* it went away under a request */
    virtq_push(&f.vq, f.element, 16);
    virtq_flush(&f.vq);
    g_assert_cmpuint(f.vq.in_flight, ==, 0);
    g_assert_null(driver_ring_reap(&f.ring, NULL));
    g_assert_cmpuint(f.broken, ==, 0);
    teardown(&f);
}

/* What is pushed after a reset belongs to a ring that is gone. */
static void test_reset_under_a_request(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));
    struct fixture f;

    setup(&f, &features);
    add_one(&f, &f);
    driver_ring_publish(&f.ring);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
    virtq_reset(&f.vq);
    virtq_push(&f.vq, f.element, 16);
    virtq_flush(&f.vq);
    g_assert_null(driver_ring_reap(&f.ring, NULL));
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 0);
    g_assert_cmpuint(f.notified, ==, 0);
    teardown(&f);
}

/* The saved positions are all that a ring needs to go on, in the middle of a lap. */
static void test_reenable_goes_on(const void *bits)
{
    struct virtq_features features = features_of(GPOINTER_TO_UINT(bits));
    struct fixture f;

    setup(&f, &features);
    for (unsigned i = 0; i < 5 * QUEUE; i++) {
        struct virtq saved = f.vq;

        add_one(&f, &f);
        driver_ring_publish(&f.ring);
        virtq_reset(&f.vq); /* frees what it had mapped */
        saved.p = NULL;
        f.vq = saved;
        g_assert_cmpint(virtq_reenable(&f.vq), ==, 0);
        complete(&f, 1);
        reap(&f, 1);
    }
    f.vq.in_flight = 1;
    g_assert_cmpint(virtq_reenable(&f.vq), ==, -EINVAL);
    teardown(&f);
}

static void test_enable_refuses(void)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        struct virtq_features features = {.packed = packed};
        struct fixture f;
        const struct {
            uint16_t size;
            uint64_t descriptors, driver, device;
            int result;
        } cases[] = {
            {0, RING_GPA, RING_GPA, RING_GPA, -EINVAL},
            {2048, RING_GPA, RING_GPA, RING_GPA, -EINVAL},
            {24, RING_GPA, RING_GPA, RING_GPA, packed ? 0 : -EINVAL},
            {16, RING_GPA + 8, RING_GPA, RING_GPA, -EINVAL},
            {16, RING_GPA, RING_GPA + 1, RING_GPA, -EINVAL},
            {16, RING_GPA, RING_GPA, RING_GPA + 2, -EINVAL},
            {16, LOW_END, RING_GPA, RING_GPA, -EFAULT},
            {16, LOW_END - 16, RING_GPA, RING_GPA, -EFAULT},
            {16, RING_GPA, LOW_END, RING_GPA, -EFAULT},
            {16, RING_GPA, RING_GPA, UINT64_MAX - 3, -EFAULT},
            {16, UINT64_MAX - 15, RING_GPA, RING_GPA, -EFAULT},
            {16, RING_GPA, RING_GPA, RING_GPA, 0},
        };

        setup(&f, &features);
        for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
            virtq_reset(&f.vq);
            f.vq.size = cases[i].size;
            f.vq.descriptors = cases[i].descriptors;
            f.vq.driver_area = cases[i].driver;
            f.vq.device_area = cases[i].device;
            g_assert_cmpint(virtq_enable(&f.vq, &features), ==, cases[i].result);
            g_assert_cmpint(f.vq.enabled, ==, !cases[i].result);
        }
        teardown(&f);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_matrix("traffic", test_traffic);
    add_matrix("notify-once-a-batch", test_notify_once_a_batch);
    add_matrix("notify-off", test_notify_off);
    add_matrix("doorbell", test_doorbell);
    add_matrix("unpop", test_unpop);
    add_matrix("written-is-limited", test_written_is_limited);
    add_matrix("flush-publishes", test_flush_publishes);
    add_matrix("no-dma-no-pop", test_no_dma_no_pop);
    add_matrix("reset-under-a-request", test_reset_under_a_request);
    add_matrix("reenable-goes-on", test_reenable_goes_on);
    g_test_add_func("/virtq/odd-packed-size", test_odd_packed_size);
    g_test_add_func("/virtq/notify-event-index", test_notify_event_index);
    g_test_add_func("/virtq/buffer-in-two-regions", test_buffer_in_two_regions);
    g_test_add_func("/virtq/enable-refuses", test_enable_refuses);
    return g_test_run();
}
