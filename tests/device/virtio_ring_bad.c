/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rings that break the rules: each ends in a broken queue that says why, with nothing popped. */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/device/virtio_driver.h"

#define RAM_SIZE (UINT64_C(16) << 20)
#define LOW_END  (UINT64_C(8) << 20)
#define RING_GPA UINT64_C(0x100000)
#define DATA     UINT64_C(0x400000)
#define TABLE    UINT64_C(0x500000)
#define BAR_GPA  UINT64_C(0xc0000000)
#define QUEUE    16u
#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define AVAIL    (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED     (1u << VRING_PACKED_DESC_F_USED)

struct fixture {
    struct memory *memory;
    struct dma dma;
    struct virtq vq;
    struct driver_ring ring; /* only for its layout */
    unsigned broken;
    char why[100];
    struct virtq_element *element;
};

static void on_notify(void *opaque, struct virtq *vq)
{
}

static void on_broken(void *opaque, struct virtq *vq, const char *why)
{
    struct fixture *f = opaque;

    f->broken++;
    g_strlcpy(f->why, why, sizeof(f->why));
}

static const struct virtq_ops ops = {on_notify, on_broken};

static void setup(struct fixture *f, bool packed, bool indirect)
{
    const struct virtq_features features = {.packed = packed, .indirect = indirect};
    const struct memory_ram_options options = {0};
    g_autoptr(GError) error = NULL;

    memset(f, 0, sizeof(*f));
    f->memory = memory_create();
    g_assert_true(memory_add_ram(f->memory, RAM_SIZE, LOW_END, &options, &error));
    dma_init(&f->dma, f->memory, NULL, true);
    driver_ring_init(&f->ring, f->memory, RING_GPA, QUEUE, &features);
    virtq_init(&f->vq, 0, QUEUE, &f->dma, &ops, f);
    driver_ring_give(&f->ring, &f->vq);
    g_assert_cmpint(virtq_enable(&f->vq, &features), ==, 0);
    f->element = virtq_element_create(VIRTQ_MAX_SEGMENTS);
}

static void teardown(struct fixture *f)
{
    virtq_finish(&f->vq);
    driver_ring_finish(&f->ring);
    memory_destroy(f->memory);
    g_free(f->element);
}

/* A descriptor: split (in the table) or, with @next as its id, packed (available from the start). */
static void desc(struct fixture *f, uint64_t table, unsigned index, uint64_t address,
                 uint32_t length, uint16_t flags, uint16_t next)
{
    struct vring_desc *d = driver_ring_ptr(&f->ring, table + 16 * index, 16);

    if (!f->vq.features.packed) {
        *d = (struct vring_desc){address, length, flags, next};
        return;
    }
    *(struct vring_packed_desc *)d = (struct vring_packed_desc){address, length, next, flags};
}

static void ring_desc(struct fixture *f, unsigned index, uint64_t address, uint32_t length,
                      uint16_t flags, uint16_t next)
{
    desc(f, f->ring.descriptors, index, address, length,
         f->vq.features.packed ? flags | AVAIL : flags, next);
}

static void make_available(struct fixture *f, uint16_t head, uint16_t count)
{
    struct vring_avail *avail = driver_ring_ptr(&f->ring, f->ring.driver_area, 4 + 2 * QUEUE);

    if (f->vq.features.packed)
        return;
    for (unsigned i = 0; i < QUEUE; i++)
        avail->ring[i] = head;
    avail->idx += count;
}

static void expect_broken(struct fixture *f, int result, const char *why)
{
    g_assert_cmpint(virtq_pop(&f->vq, f->element), ==, result);
    g_assert_cmpuint(f->broken, ==, 1);
    g_assert_nonnull(strstr(f->why, why));
    g_assert_cmpuint(f->vq.in_flight, ==, 0);
    /* And stays so, silently. */
    g_assert_cmpint(virtq_pop(&f->vq, f->element), ==, -EBADMSG);
    g_assert_false(virtq_enable_notify(&f->vq));
    g_assert_true(virtq_is_empty(&f->vq));
    virtq_flush(&f->vq);
    g_assert_cmpuint(f->broken, ==, 1);
}

/* ---- one chain of descriptors, for both layouts ---- */

struct chain_case {
    const char *name;
    const char *why; /* NULL: it is fine */
    bool indirect;   /* negotiated */
    bool table;      /* the descriptors are those of an indirect table that slot 0 refers to */
    bool split_only, packed_only;
    struct {
        uint64_t address;
        uint32_t length;
        uint16_t flags, next;
    } desc[4];
    unsigned count;
    uint32_t table_length; /* if not 16 * count */
    uint64_t table_address;
};

static const struct chain_case cases[] = {
    {"good", NULL, false, false, false, false, {{DATA, 8, NEXT, 1}, {DATA, 8, WRITE, 0}}, 2},
    {"good-indirect", NULL, true, true, false, false, {{DATA, 8, NEXT, 1}, {DATA, 8, WRITE, 0}}, 2},
    {"zero-length", NULL, false, false, false, false, {{DATA, 0, NEXT, 1}, {DATA, 0, WRITE, 0}}, 2},
    {"zero-length-anywhere", NULL, false, false, false, false, {{BAR_GPA, 0, 0, 0}}, 1},
    {"writable-first",
     "device-readable",
     false,
     false,
     false,
     false,
     {{DATA, 8, WRITE | NEXT, 1}, {DATA, 8, 0, 0}},
     2},
    {"writable-first-indirect",
     "device-readable",
     true,
     true,
     false,
     false,
     {{DATA, 8, WRITE | NEXT, 1}, {DATA, 8, 0, 0}},
     2},
    {"readable-in-the-middle",
     "device-readable",
     false,
     false,
     false,
     false,
     {{DATA, 8, NEXT, 1}, {DATA, 8, WRITE | NEXT, 2}, {DATA, 8, 0, 0}},
     3},
    {"hole", "outside", false, false, false, false, {{LOW_END, 8, 0, 0}}, 1},
    {"into-the-hole", "outside", false, false, false, false, {{LOW_END - 4, 8, WRITE, 0}}, 1},
    {"bar", "outside", false, false, false, false, {{BAR_GPA, 8, WRITE, 0}}, 1},
    {"read-only-memory", "outside", false, false, false, false, {{0xf0000000, 8, WRITE, 0}}, 1},
    {"read-only-memory-read", NULL, false, false, false, false, {{0xf0000000, 8, 0, 0}}, 1},
    {"beyond-memory", "outside", false, false, false, false, {{UINT64_C(1) << 52, 8, 0, 0}}, 1},
    {"wraps", "outside", false, false, false, false, {{UINT64_MAX - 3, 8, 0, 0}}, 1},
    {"wraps-huge", "outside", false, false, false, false, {{UINT64_MAX, UINT32_MAX, 0, 0}}, 1},
    {"huge", "outside", false, false, false, false, {{DATA, UINT32_MAX, WRITE, 0}}, 1},
    {"second-is-bad",
     "outside",
     false,
     false,
     false,
     false,
     {{DATA, 8, NEXT, 1}, {LOW_END, 8, WRITE, 0}},
     2},
    {"loop-of-one", "loop", false, false, true, false, {{DATA, 8, NEXT, 0}}, 1},
    {"loop-of-two", "loop", false, false, true, false, {{DATA, 8, NEXT, 1}, {DATA, 8, NEXT, 0}}, 2},
    {"loop-of-empty-ones", "loop", false, false, true, false, {{DATA, 0, NEXT, 0}}, 1},
    {"link-out-of-table", "link out", false, false, true, false, {{DATA, 8, NEXT, QUEUE}}, 1},
    {"link-far-out", "link out", false, false, true, false, {{DATA, 8, NEXT, 0xffff}}, 1},
    {"indirect-not-negotiated", "not negotiated", false, true, false, false, {{DATA, 8, 0, 0}}, 1},
    {"indirect-with-link",
     "indirect",
     true,
     false,
     false,
     false,
     {{TABLE, 16, INDIRECT | NEXT, 1}, {DATA, 8, 0, 0}},
     2},
    {"indirect-after-others",
     NULL,
     true,
     false,
     true,
     false,
     {{DATA, 8, NEXT, 1}, {TABLE, 16, INDIRECT, 0}},
     2},
    {"indirect-after-others-packed",
     "inside a chain",
     true,
     false,
     false,
     true,
     {{DATA, 8, NEXT, 1}, {TABLE, 16, INDIRECT, 0}},
     2},
    {"indirect-in-indirect",
     "inside an indirect",
     true,
     true,
     true,
     false,
     {{TABLE, 16, INDIRECT, 0}},
     1},
    {"indirect-write-flag", NULL, true, false, false, false, {{TABLE, 16, INDIRECT | WRITE, 0}}, 1},
    {"indirect-empty", "length of an indirect", true, true, false, false, {{DATA, 8, 0, 0}}, 0},
    {"indirect-odd-length",
     "length of an indirect",
     true,
     true,
     false,
     false,
     {{DATA, 8, 0, 0}},
     1,
     .table_length = 24},
    {"indirect-too-long",
     "length of an indirect",
     true,
     true,
     false,
     false,
     {{DATA, 8, 0, 0}},
     1,
     .table_length = 16 * (VIRTQ_MAX_SIZE + 1)},
    {"indirect-huge",
     "length of an indirect",
     true,
     true,
     false,
     false,
     {{DATA, 8, 0, 0}},
     1,
     .table_length = 0xfffffff0},
    {"indirect-loop", "loop", true, true, true, false, {{DATA, 8, NEXT, 1}, {DATA, 8, NEXT, 0}}, 2},
    {"indirect-link-out", "link out", true, true, true, false, {{DATA, 8, NEXT, 1}}, 1},
    {"indirect-table-in-hole",
     "indirect table",
     true,
     true,
     false,
     false,
     {{DATA, 8, 0, 0}},
     1,
     .table_address = LOW_END},
    {"indirect-table-wraps",
     "indirect table",
     true,
     true,
     false,
     false,
     {{DATA, 8, NEXT, 1}, {DATA, 8, 0, 0}},
     2,
     .table_address = UINT64_MAX - 15},
};

static void write_chain(struct fixture *f, const struct chain_case *c)
{
    unsigned count = MAX(c->count, 1);

    desc(f, TABLE, 0, DATA, 8, 0, 0); /* for cases that refer to it themselves */
    for (unsigned i = 0; i < count; i++) {
        if (c->table)
            desc(f, TABLE, i, c->desc[i].address, c->desc[i].length, c->desc[i].flags,
                 c->desc[i].next);
        else
            ring_desc(f, i, c->desc[i].address, c->desc[i].length, c->desc[i].flags,
                      c->desc[i].next);
    }
    if (c->table)
        ring_desc(f, 0, c->table_address ? c->table_address : TABLE,
                  c->table_length ? c->table_length : 16 * c->count, INDIRECT, 0);
    make_available(f, 0, 1);
}

static void run_case(const struct chain_case *c, bool packed)
{
    struct fixture f;
    void *host = g_aligned_alloc0(1, 4096, 4096);
    const struct memory_region bar = {
        .gpa = BAR_GPA, .size = 4096, .host = host, .fd = -1, .flags = MEMORY_BAR, .name = "bar"};
    const struct memory_region rom = {.gpa = 0xf0000000,
                                      .size = 4096,
                                      .host = host,
                                      .fd = -1,
                                      .flags = MEMORY_READONLY,
                                      .name = "rom"};

    setup(&f, packed, c->indirect);
    g_assert_cmpint(memory_add(f.memory, &bar), ==, 0);
    g_assert_cmpint(memory_add(f.memory, &rom), ==, 0);
    write_chain(&f, c);
    if (c->why) {
        expect_broken(&f, -EBADMSG, c->why);
    } else {
        g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
        g_assert_cmpuint(f.broken, ==, 0);
        virtq_push(&f.vq, f.element, 0);
        virtq_flush(&f.vq);
        g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 0);
    }
    memory_remove(f.memory, BAR_GPA, 4096);
    memory_remove(f.memory, 0xf0000000, 4096);
    teardown(&f);
    g_aligned_free(host);
}

static void test_case(gconstpointer opaque)
{
    const struct chain_case *c = opaque;

    if (!c->packed_only)
        run_case(c, false);
    if (!c->split_only)
        run_case(c, true);
}

/* ---- what belongs to one layout ---- */

static void test_available_index_jumps(void)
{
    for (unsigned jump = QUEUE + 1; jump < 65536; jump *= 3) {
        struct fixture f;

        setup(&f, false, false);
        ring_desc(&f, 0, DATA, 8, 0, 0);
        make_available(&f, 0, jump);
        expect_broken(&f, -EBADMSG, "more than a ring ahead");
        teardown(&f);
    }
}

static void test_available_index_goes_back(void)
{
    struct fixture f;

    setup(&f, false, false);
    ring_desc(&f, 0, DATA, 8, 0, 0);
    make_available(&f, 0, 2);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
        virtq_push(&f.vq, f.element, 0);
    }
    make_available(&f, 0, (uint16_t)-1);
    expect_broken(&f, -EBADMSG, "more than a ring ahead");
    teardown(&f);
}

static void test_head_out_of_table(void)
{
    const uint16_t heads[] = {QUEUE, QUEUE + 1, 0x7fff, 0xffff};

    for (unsigned i = 0; i < G_N_ELEMENTS(heads); i++) {
        struct fixture f;

        setup(&f, false, false);
        make_available(&f, heads[i], 1);
        expect_broken(&f, -EBADMSG, "head out");
        teardown(&f);
    }
}

/* The same head over and over: a device never has more out than the ring holds. */
static void test_more_than_a_ring_in_flight(void)
{
    struct fixture f;

    setup(&f, false, false);
    ring_desc(&f, 0, DATA, 8, 0, 0);
    make_available(&f, 0, QUEUE);
    for (unsigned i = 0; i < QUEUE; i++)
        g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 0);
    make_available(&f, 0, 1);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, -EBADMSG);
    g_assert_cmpuint(f.vq.in_flight, ==, QUEUE);
    g_assert_cmpuint(f.broken, ==, 1);
    for (unsigned i = 0; i < QUEUE; i++) /* what is out may still come back, to no effect */
        virtq_push(&f.vq, f.element, 0);
    virtq_flush(&f.vq);
    g_assert_cmpuint(f.vq.in_flight, ==, 0);
    teardown(&f);
}

static void test_packed_more_than_a_ring_in_flight(void)
{
    struct fixture f;

    setup(&f, true, false);
    for (unsigned i = 0; i < QUEUE; i++)
        ring_desc(&f, i, DATA, 8, i < QUEUE - 1 && i != 3 ? NEXT : 0, 0);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
    g_assert_cmpuint(f.element->count, ==, 4);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
    g_assert_cmpuint(f.element->count, ==, QUEUE - 4);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 0); /* not available in this lap */
    for (unsigned i = 0; i < QUEUE; i++)
        desc(&f, f.ring.descriptors, i, DATA, 8, USED, 0); /* but the driver says it is */
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, -EBADMSG);
    g_assert_nonnull(strstr(f.why, "free of the ring"));
    teardown(&f);
}

static void test_packed_chain_without_end(void)
{
    struct fixture f;

    setup(&f, true, false);
    for (unsigned i = 0; i < QUEUE; i++)
        ring_desc(&f, i, DATA, i % 2, NEXT, 0);
    expect_broken(&f, -EBADMSG, "free of the ring");
    teardown(&f);
}

/* In an indirect table of a packed ring everything but WRITE is ignored. */
static void test_packed_table_flags(void)
{
    struct fixture f;

    setup(&f, true, true);
    desc(&f, TABLE, 0, DATA, 8, INDIRECT | NEXT | USED, 999);
    desc(&f, TABLE, 1, DATA, 16, INDIRECT | WRITE | AVAIL, 998);
    ring_desc(&f, 0, TABLE, 32, INDIRECT, 5);
    g_assert_cmpint(virtq_pop(&f.vq, f.element), ==, 1);
    g_assert_cmpuint(f.element->id, ==, 5);
    g_assert_cmpuint(f.element->count, ==, 1);
    g_assert_cmpuint(f.element->out_bytes, ==, 8);
    g_assert_cmpuint(f.element->in_bytes, ==, 16);
    teardown(&f);
}

/* More pieces than the device has room for: said as such. */
static void test_too_many_pieces(void)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        struct fixture f;

        setup(&f, packed, false);
        for (unsigned i = 0; i < 5; i++)
            ring_desc(&f, i, DATA + 64 * i, 8, i < 4 ? NEXT : 0, i + 1);
        make_available(&f, 0, 1);
        f.element->max = 4;
        expect_broken(&f, -ENOBUFS, "more pieces");
        teardown(&f);
    }
}

/* 16 buffers of 512 MiB would be more than a chain may have, were there memory for them. */
static void test_more_than_4_gib(void)
{
    struct fixture f;
    const struct memory_ram_options options = {0};
    g_autoptr(GError) error = NULL;

    for (unsigned packed = 0; packed < 2; packed++) {
        setup(&f, packed, false);
        memory_destroy(f.memory); /* another one, sparse */
        f.memory = f.dma.memory = f.ring.memory = memory_create();
        g_assert_true(
            memory_add_ram(f.memory, UINT64_C(1) << 30, UINT64_C(1) << 30, &options, &error));
        virtq_reset(&f.vq);
        driver_ring_give(&f.ring, &f.vq);
        const struct virtq_features features = {.packed = packed};
        g_assert_cmpint(virtq_enable(&f.vq, &features), ==, 0);
        for (unsigned i = 0; i < 9; i++)
            ring_desc(&f, i, 0x10000000, 512 << 20, WRITE | (i < 8 ? NEXT : 0), i + 1);
        make_available(&f, 0, 1);
        expect_broken(&f, -EBADMSG, "4 GiB");
        teardown(&f);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/virtq-bad/chain/%s", cases[i].name);
        g_test_add_data_func(path, &cases[i], test_case);
    }
    g_test_add_func("/virtq-bad/available-index-jumps", test_available_index_jumps);
    g_test_add_func("/virtq-bad/available-index-goes-back", test_available_index_goes_back);
    g_test_add_func("/virtq-bad/head-out-of-table", test_head_out_of_table);
    g_test_add_func("/virtq-bad/more-than-a-ring-in-flight", test_more_than_a_ring_in_flight);
    g_test_add_func("/virtq-bad/packed-more-than-a-ring-in-flight",
                    test_packed_more_than_a_ring_in_flight);
    g_test_add_func("/virtq-bad/packed-chain-without-end", test_packed_chain_without_end);
    g_test_add_func("/virtq-bad/packed-table-flags", test_packed_table_flags);
    g_test_add_func("/virtq-bad/too-many-pieces", test_too_many_pieces);
    g_test_add_func("/virtq-bad/more-than-4-gib", test_more_than_4_gib);
    return g_test_run();
}
