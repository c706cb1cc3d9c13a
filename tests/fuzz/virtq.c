/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a virtqueue whose ring anybody may write. The input is a small program:
 *
 *     byte 0     ring features (packed, indirect, event index, in order)
 *     byte 1     queue size
 *     then       operations, a byte each with what belongs to it: write bytes anywhere in the ring or
 *                the tables, make a descriptor, move an index, pop, give back (any that is out), take
 *                back, flush, notification on and off, bus mastering, go on from the saved positions
 *
 * Whatever is in memory: what pop gives lies in RAM and adds up, no more is out than the ring holds,
 * and a broken queue stays broken.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "tests/fuzz/input.h"
#include "virtio/queue.h"
#include "vmm/memory.h"

#define RAM_SIZE   0x20000u
#define LOW_END    0x10000u /* above it a hole, and the other half from 4 GiB on */
#define DRIVER     0x2000u
#define DEVICE     0x4000u
#define TABLE      0x8000u
#define MAX_SIZE   64u
#define PIECES     80u
#define OPERATIONS 600u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    struct memory *memory;
    struct dma dma;
    struct virtq vq;
    struct virtq_element *out[VIRTQ_MAX_SIZE];
    unsigned out_count;
    unsigned broken;
};

static void on_notify(void *opaque, struct virtq *vq)
{
    struct state *s = opaque;

    g_assert_cmpuint(s->broken, ==, 0);
}

static void on_broken(void *opaque, struct virtq *vq, const char *why)
{
    struct state *s = opaque;

    g_assert_cmpuint(s->broken++, ==, 0);
}

static const struct virtq_ops ops = {on_notify, on_broken};

static uint8_t *low_memory(struct state *s)
{
    struct memory_span span;

    g_assert_true(memory_find(s->memory, 0, LOW_END, &span));
    return span.host;
}

static bool in_ram(struct state *s, const struct iovec *iov)
{
    unsigned count;
    const struct memory_region *regions = memory_regions(s->memory, &count);
    const uint8_t *host = iov->iov_base;

    for (unsigned i = 0; i < count; i++)
        if (host >= regions[i].host && host + iov->iov_len <= regions[i].host + regions[i].size)
            return true;
    return false;
}

static void check_element(struct state *s, const struct virtq_element *element)
{
    uint64_t out = 0, in = 0;

    g_assert_cmpuint(element->out_count + element->in_count, <=, element->max);
    for (unsigned i = 0; i < element->out_count + element->in_count; i++) {
        g_assert_true(in_ram(s, &element->iov[i]));
        *(i < element->out_count ? &out : &in) += element->iov[i].iov_len;
    }
    g_assert_cmpuint(out, ==, element->out_bytes);
    g_assert_cmpuint(in, ==, element->in_bytes);
}

static void pop(struct state *s)
{
    struct virtq_element *element = virtq_element_create(PIECES);
    int ret = virtq_pop(&s->vq, element);

    if (ret == 1) {
        check_element(s, element);
        s->out[s->out_count++] = element;
    } else {
        g_assert_true(ret == 0 || ret == -EBADMSG || ret == -ENOBUFS);
        g_assert_cmpint(s->broken == 0, ==, ret == 0);
        g_free(element);
    }
    g_assert_cmpuint(s->vq.in_flight, ==, s->out_count);
    g_assert_cmpuint(s->out_count, <=, s->vq.size);
}

static void push(struct state *s, uint8_t which, uint32_t written)
{
    if (!s->out_count)
        return;
    which %= s->out_count;
    virtq_push(&s->vq, s->out[which], written);
    g_free(s->out[which]);
    memmove(s->out + which, s->out + which + 1, (--s->out_count - which) * sizeof(s->out[0]));
    g_assert_cmpuint(s->vq.in_flight, ==, s->out_count);
}

static void unpop(struct state *s)
{
    struct virtq_element *element = virtq_element_create(PIECES);

    if (virtq_pop(&s->vq, element) == 1) {
        virtq_unpop(&s->vq, element);
        g_assert_cmpuint(s->vq.in_flight, ==, s->out_count);
    }
    g_free(element);
}

/* A descriptor that makes sense in most of its parts, at table entry @at. */
static void make_descriptor(struct state *s, struct input *input, uint64_t at, uint16_t keep)
{
    static const uint64_t bases[] = {
        0xc000, 0xd000, 0xe000, LOW_END - 8, UINT64_C(1) << 32, TABLE, UINT64_MAX - 16, 0};
    uint8_t what = take(input, 1);
    uint64_t address = bases[what % G_N_ELEMENTS(bases)] + (take(input, 1) & 0xf0);
    uint32_t length = what & 0x40 ? take(input, 4) : take(input, 1);
    uint16_t flags = what & 0x80 ? take(input, 2) : (take(input, 1) & 6);
    uint16_t next = take(input, 1);

    if (flags & VRING_DESC_F_INDIRECT && !(what & 0x80))
        length &= 0x70;
    if (s->vq.features.packed) {
        struct vring_packed_desc packed = {address, length, next, flags | keep};
        memcpy(low_memory(s) + at, &packed, sizeof(packed));
    } else {
        struct vring_desc split = {address, length, flags | keep, next};
        memcpy(low_memory(s) + at, &split, sizeof(split));
    }
}

/* A chain where the device will look for the next one, as a driver would put it there. */
static void offer(struct state *s, struct input *input)
{
    unsigned count = 1 + take(input, 1) % 4;
    uint8_t *driver = low_memory(s) + DRIVER;
    unsigned at = s->vq.features.packed ? s->vq.next_avail : take(input, 1) % s->vq.size;
    bool wrap = s->vq.avail_wrap;
    uint16_t head = at, index;

    for (unsigned i = 0; i < count; i++) {
        uint16_t keep = i + 1 < count ? VRING_DESC_F_NEXT : 0;
        if (s->vq.features.packed)
            keep |= wrap ? 1u << VRING_PACKED_DESC_F_AVAIL : 1u << VRING_PACKED_DESC_F_USED;
        make_descriptor(s, input, 16 * at, keep);
        if (!s->vq.features.packed && keep) {
            index = (at + 1) % s->vq.size;
            memcpy(low_memory(s) + 16 * at + 14, &index, 2);
        }
        if (++at == s->vq.size) {
            at = 0;
            wrap = !wrap;
        }
    }
    if (s->vq.features.packed)
        return;
    memcpy(&index, driver + 2, 2);
    memcpy(driver + 4 + 2 * (index % s->vq.size), &head, 2);
    index++;
    memcpy(driver + 2, &index, 2);
}

static void move_index(struct state *s, struct input *input)
{
    uint8_t *driver = low_memory(s) + DRIVER;
    uint8_t step = take(input, 1);
    uint16_t index;

    memcpy(&index, driver + 2, 2);
    if (!s->vq.features.packed)
        driver[4 + 2 * (index % s->vq.size)] = take(input, 1) % (s->vq.size + 1);
    index += step < 0xf0 ? step % 4 : step << 8;
    memcpy(driver + 2, &index, 2);
}

static void reenable(struct state *s)
{
    struct virtq saved;

    virtq_flush(&s->vq);
    if (s->out_count)
        return;
    saved = s->vq;
    virtq_reset(&s->vq);
    saved.p = NULL;
    s->vq = saved;
    g_assert_cmpint(virtq_reenable(&s->vq), ==, 0);
}

static void operate(struct state *s, struct input *input)
{
    uint8_t operation = take(input, 1);

    switch (operation % 16) {
    case 0: {
        uint16_t at = take(input, 2);
        for (unsigned n = 1 + take(input, 1) % 16; n; n--)
            low_memory(s)[at++ % LOW_END] = take(input, 1);
        break;
    }
    case 1:
        make_descriptor(s, input, TABLE + 16 * (take(input, 1) % 8), VRING_DESC_F_NEXT);
        break;
    case 2:
        make_descriptor(s, input, 16 * (take(input, 1) % s->vq.size), 0);
        break;
    case 3:
    case 4:
        offer(s, input);
        break;
    case 5:
        move_index(s, input);
        break;
    case 6:
        push(s, take(input, 1), take(input, 4));
        break;
    case 7:
        push(s, take(input, 1), take(input, 1));
        break;
    case 8:
        virtq_flush(&s->vq);
        break;
    case 9:
        virtq_disable_notify(&s->vq);
        break;
    case 10:
        if (virtq_enable_notify(&s->vq))
            g_assert_false(virtq_is_empty(&s->vq));
        break;
    case 11:
        unpop(s);
        break;
    case 12:
        dma_set_enabled(&s->dma, operation & 0x10);
        break;
    case 13:
        reenable(s);
        break;
    default:
        pop(s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct state s = {0};
    const struct memory_ram_options options = {0};
    uint8_t bits = take(&input, 1);
    const struct virtq_features features = {bits & 1, bits & 2, bits & 4, bits & 8};
    uint16_t ring_size = 1 + take(&input, 1) % MAX_SIZE;

    if (!features.packed)
        while (ring_size & (ring_size - 1))
            ring_size &= ring_size - 1;
    s.memory = memory_create();
    g_assert_true(memory_add_ram(s.memory, RAM_SIZE, LOW_END, &options, NULL));
    dma_init(&s.dma, s.memory, NULL, true);
    virtq_init(&s.vq, 0, MAX_SIZE, &s.dma, &ops, &s);
    s.vq.size = ring_size;
    s.vq.driver_area = DRIVER;
    s.vq.device_area = DEVICE;
    g_assert_cmpint(virtq_enable(&s.vq, &features), ==, 0);
    for (unsigned i = 0; i < OPERATIONS && input.left; i++)
        operate(&s, &input);
    while (s.out_count)
        push(&s, 0, 1);
    virtq_flush(&s.vq);
    g_assert_cmpuint(s.vq.in_flight, ==, 0);
    virtq_finish(&s.vq);
    memory_destroy(s.memory);
    return 0;
}
