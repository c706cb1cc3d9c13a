/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loopback_memory - keys, memory regions, and moving bytes between them (backends/rdma/loopback.h)
 *
 * A key is an index of 24 bits and a low byte. The low byte of a new region differs from that of the
 * last region with the same index, so that a key that was kept too long opens nothing; of a region for
 * fast registration it is the consumer's to choose (IBTA 10.6.3).
 *
 * Addresses are translated for each run of contiguous pages as it is copied, by the device's own struct
 * dma: a region never holds a host pointer.
 */
#include <errno.h>
#include <string.h>

#include "backends/rdma/loopback.h"

#define FIRST_SLOTS 64u

/* ---- keys ---- */

/* Room for index @index; false: no memory. */
static bool make_room(struct loopback *loopback, uint32_t index)
{
    uint32_t room = loopback->mr_room ? loopback->mr_room : FIRST_SLOTS;

    if (index < loopback->mr_room)
        return true;
    while (room <= index)
        room *= 2;
    struct mr_slot *slots = g_try_renew(struct mr_slot, loopback->mr_slots, room);
    if (!slots)
        return false;
    for (uint32_t i = loopback->mr_room; i < room; i++)
        slots[i] = (struct mr_slot){.next_free = i + 1 < room ? i + 1 : 0};
    /* Index 0 is never given out: a key of 0 is a bug that shall be seen. */
    loopback->mr_free = loopback->mr_room ? loopback->mr_room : 1;
    loopback->mr_slots = slots;
    loopback->mr_room = room;
    return true;
}

/* A free index, or 0. */
static uint32_t take_index(struct loopback *loopback)
{
    if (!loopback->mr_free && !make_room(loopback, loopback->mr_room))
        return 0;
    uint32_t index = loopback->mr_free;
    loopback->mr_free = loopback->mr_slots[index].next_free;
    return index;
}

static int install(struct loopback_mr *mr, uint32_t key)
{
    struct rdma_mr_attributes *a = &mr->mr.attributes;
    struct loopback *loopback = loopback_of(mr->mr.object.rdma);

    if (a->type == RDMA_MR_FAST) {
        mr->room = a->page_count;
        a->page_count = 0;
        a->length = 0;
        g_clear_pointer(&a->pages, g_free);
        if (!(a->pages = g_try_new0(uint64_t, mr->room)))
            return -ENOMEM;
    }
    mr->valid = a->type != RDMA_MR_FAST;
    mr->mr.lkey = mr->mr.rkey = key;
    loopback->mr_slots[key >> 8].mr = mr;
    return 0;
}

static void give_back(struct loopback *loopback, uint32_t index)
{
    struct mr_slot *slot = &loopback->mr_slots[index];

    slot->mr = NULL;
    slot->next_free = loopback->mr_free;
    loopback->mr_free = index;
}

/* With the key that was saved. Free indices are not looked after: loopback_load_keys does that. */
static int create_mr_as(struct loopback *loopback, struct loopback_mr *mr, uint32_t key)
{
    uint32_t index = key >> 8;

    if (!index || index > 2 * loopback->rdma.limits.max_mr || !make_room(loopback, index) ||
        loopback->mr_slots[index].mr)
        return -EINVAL;
    return install(mr, key);
}

int loopback_create_mr(struct rdma_mr *base)
{
    struct loopback *loopback = loopback_of(base->object.rdma);
    struct loopback_mr *mr = (struct loopback_mr *)base;
    int error = -ENOMEM;

    if (loopback->load_key) {
        error = create_mr_as(loopback, mr, loopback->load_key);
    } else {
        uint32_t index = take_index(loopback);
        if (index) {
            error = install(mr, index << 8 | loopback->mr_slots[index].key++);
            if (error)
                give_back(loopback, index);
        }
    }
    if (error)
        g_free(base->attributes.pages);
    return error;
}

void loopback_load_keys(struct loopback *loopback, const GByteArray *keys)
{
    if (keys->len && keys->len <= 2 * loopback->rdma.limits.max_mr)
        make_room(loopback, keys->len - 1);
    loopback->mr_free = 0;
    for (uint32_t i = loopback->mr_room; i-- > 1;) {
        struct mr_slot *slot = &loopback->mr_slots[i];
        slot->key = i < keys->len ? keys->data[i] : 0;
        if (slot->mr)
            continue;
        slot->next_free = loopback->mr_free;
        loopback->mr_free = i;
    }
}

void loopback_destroy_mr(struct rdma_mr *base)
{
    g_free(base->attributes.pages);
    give_back(loopback_of(base->object.rdma), base->rkey >> 8);
}

static struct loopback_mr *mr_of_index(struct loopback *loopback, uint32_t key)
{
    uint32_t index = key >> 8;

    return index < loopback->mr_room ? loopback->mr_slots[index].mr : NULL;
}

struct loopback_mr *loopback_find_mr(struct loopback *loopback, uint32_t key)
{
    struct loopback_mr *mr = mr_of_index(loopback, key);

    return mr && mr->mr.rkey == key ? mr : NULL;
}

/* ---- fast registration ---- */

bool loopback_fast_register(struct loopback *loopback, const struct rdma_pd *pd,
                            const struct rdma_send_wr *wr)
{
    struct loopback_mr *mr = mr_of_index(loopback, wr->fast_reg.rkey);
    uint64_t iova = wr->fast_reg.iova, length = wr->fast_reg.length;
    uint32_t count = wr->fast_reg.page_count, access = wr->fast_reg.access;

    if (!mr || mr->mr.attributes.type != RDMA_MR_FAST || mr->mr.pd != pd || mr->valid)
        return false;
    if (!count || count > mr->room || !length || iova + (length - 1) < iova ||
        length > (uint64_t)count * RDMA_PAGE_SIZE - iova % RDMA_PAGE_SIZE)
        return false;
    if ((access & (RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_ATOMIC)) &&
        !(access & RDMA_ACCESS_LOCAL_WRITE))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (wr->fast_reg.pages[i] % RDMA_PAGE_SIZE)
            return false;
    memcpy(mr->mr.attributes.pages, wr->fast_reg.pages, count * sizeof(uint64_t));
    mr->mr.attributes.page_count = count;
    mr->mr.attributes.start = iova;
    mr->mr.attributes.length = length;
    mr->mr.attributes.access = access;
    mr->mr.lkey = mr->mr.rkey = wr->fast_reg.rkey;
    mr->valid = true;
    return true;
}

bool loopback_invalidate(struct loopback *loopback, const struct rdma_pd *pd, uint32_t key)
{
    struct loopback_mr *mr = loopback_find_mr(loopback, key);

    if (!mr || mr->mr.attributes.type != RDMA_MR_FAST || mr->mr.pd != pd)
        return false;
    mr->valid = false;
    return true;
}

/* ---- sides ---- */

uint64_t loopback_sge_length(const struct rdma_sge *sge, uint32_t num_sge)
{
    uint64_t length = 0;

    for (uint32_t i = 0; i < num_sge; i++)
        length += sge[i].length;
    return length;
}

/* The region under a piece if everything about it is right, else NULL. */
static struct loopback_mr *check_piece(const struct loopback_side *side, const struct rdma_sge *sge)
{
    struct loopback_mr *mr = loopback_find_mr(side->loopback, sge->lkey);

    if (!mr || !mr->valid || mr->mr.pd != side->pd)
        return NULL;
    const struct rdma_mr_attributes *a = &mr->mr.attributes;
    if ((a->access & side->access) != side->access)
        return NULL;
    if (a->type == RDMA_MR_DMA)
        return sge->addr + sge->length >= sge->addr ? mr : NULL;
    if (sge->addr < a->start || sge->length > a->length ||
        sge->addr - a->start > a->length - sge->length)
        return NULL;
    return mr;
}

bool loopback_side_is_valid(const struct loopback_side *side)
{
    for (uint32_t i = 0; i < side->num_sge; i++)
        if (side->sge[i].length && !check_piece(side, &side->sge[i]))
            return false;
    return true;
}

/* Host memory of a run of bytes. */
struct run {
    uint8_t *host;
    uint64_t gpa;
    uint32_t size;
};

/* How many bytes from page @page on, at @offset in it, are contiguous in guest memory; at most @size. */
static uint32_t contiguous(const struct rdma_mr_attributes *a, uint64_t page, uint32_t offset,
                           uint32_t size)
{
    uint32_t run = RDMA_PAGE_SIZE - offset;

    for (; run < size && page + 1 < a->page_count &&
           a->pages[page + 1] == a->pages[page] + RDMA_PAGE_SIZE;
         page++)
        run += RDMA_PAGE_SIZE;
    return MIN(run, size);
}

/* Translates what lies at @addr in @mr, at most @size bytes. 0 or -errno of dma_map. */
static int map_run(struct loopback *loopback, const struct loopback_mr *mr, uint64_t addr,
                   uint32_t size, enum dma_direction direction, struct run *run)
{
    const struct rdma_mr_attributes *a = &mr->mr.attributes;
    struct iovec iov[2];

    run->gpa = addr;
    if (a->type != RDMA_MR_DMA) {
        uint64_t at = a->start % RDMA_PAGE_SIZE + (addr - a->start);
        uint32_t offset = at % RDMA_PAGE_SIZE;
        run->gpa = a->pages[at / RDMA_PAGE_SIZE] + offset;
        size = contiguous(a, at / RDMA_PAGE_SIZE, offset, size);
    }
    int pieces = dma_map(loopback->rdma.dma, run->gpa, size, direction, iov, 2);
    if (pieces < 0)
        return pieces;
    run->host = iov[0].iov_base;
    run->size = iov[0].iov_len;
    return 0;
}

/* The run at byte @offset of @side, at most @size bytes. 0, -EFAULT, -EACCES or -EAGAIN. */
static int side_run(const struct loopback_side *side, uint64_t offset, uint32_t size,
                    enum dma_direction direction, struct run *run)
{
    offset += side->skip;
    for (uint32_t i = 0; i < side->num_sge; i++) {
        const struct rdma_sge *sge = &side->sge[i];
        if (offset >= sge->length) {
            offset -= sge->length;
            continue;
        }
        struct loopback_mr *mr = check_piece(side, sge);
        if (!mr)
            return -EFAULT;
        return map_run(side->loopback, mr, sge->addr + offset, MIN(size, sge->length - offset),
                       direction, run);
    }
    return -EFAULT;
}

static enum loopback_moved moved_of(int error, enum loopback_moved bad)
{
    return error == -EACCES || error == -EAGAIN ? LOOPBACK_NO_DMA : bad;
}

/*
 * Copies so that the end of the target is stored last and whole: who polls the last byte (or word) of a
 * message sees all that is before it. (x86 stores in order but for the string instructions inside of
 * memmove, and these are complete when a later store is seen.)
 */
static void copy_end_last(uint8_t *to, const uint8_t *from, uint32_t size)
{
    uintptr_t end = (uintptr_t)to + size;
    uint32_t word = size >= 8 && end % 8 == 0   ? 8
                    : size >= 4 && end % 4 == 0 ? 4
                    : size >= 2 && end % 2 == 0 ? 2
                                                : 1;
    union {
        uint64_t u64;
        uint32_t u32;
        uint16_t u16;
        uint8_t u8;
    } last;

    memcpy(&last, from + size - word, word);
    memmove(to, from, size - word);
    switch (word) {
    case 8:
        __atomic_store_n((uint64_t *)(end - 8), last.u64, __ATOMIC_RELEASE);
        break;
    case 4:
        __atomic_store_n((uint32_t *)(end - 4), last.u32, __ATOMIC_RELEASE);
        break;
    case 2:
        __atomic_store_n((uint16_t *)(end - 2), last.u16, __ATOMIC_RELEASE);
        break;
    default:
        __atomic_store_n((uint8_t *)(end - 1), last.u8, __ATOMIC_RELEASE);
    }
}

enum loopback_moved loopback_move(const struct loopback_side *source,
                                  const struct loopback_side *target, uint32_t from, uint32_t to)
{
    struct dma *dma = source->loopback->rdma.dma;

    while (from < to) {
        struct run in, out;
        int error = side_run(source, from, to - from, DMA_TO_DEVICE, &in);
        if (error)
            return moved_of(error, LOOPBACK_BAD_SOURCE);
        error = side_run(target, from, in.size, DMA_FROM_DEVICE, &out);
        if (error)
            return moved_of(error, LOOPBACK_BAD_TARGET);
        copy_end_last(out.host, in.host, out.size);
        dma_written(dma, out.gpa, out.size);
        from += out.size;
    }
    return LOOPBACK_MOVED;
}

enum loopback_moved loopback_put(const struct loopback_side *target, const void *data,
                                 uint32_t size)
{
    struct dma *dma = target->loopback->rdma.dma;

    for (uint32_t done = 0; done < size;) {
        struct run out;
        int error = side_run(target, done, size - done, DMA_FROM_DEVICE, &out);
        if (error)
            return moved_of(error, LOOPBACK_BAD_TARGET);
        memcpy(out.host, (const uint8_t *)data + done, out.size);
        dma_written(dma, out.gpa, out.size);
        done += out.size;
    }
    return LOOPBACK_MOVED;
}

enum loopback_moved loopback_map_atomic(const struct loopback_side *side, uint64_t **host,
                                        uint64_t *gpa)
{
    struct run run;
    int error = side_run(side, 0, 8, DMA_FROM_DEVICE, &run);

    if (error || run.size < 8 || (uintptr_t)run.host % 8)
        return moved_of(error, LOOPBACK_BAD_TARGET);
    *host = (uint64_t *)run.host;
    *gpa = run.gpa;
    return LOOPBACK_MOVED;
}
