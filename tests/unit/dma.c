/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The DMA gate: bus mastering, lifecycle states, holes, read-only regions, BARs, dirty marks. */
#include "vmm/dma.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/device.h"
#include "vmm/layout.h"
#include "vmm/memory.h"

#define MIB UINT64_C(0x100000)
#define GIB UINT64_C(0x40000000)

static const struct device_ops no_ops = {0};

struct fixture {
    struct memory *memory;
    struct device device;
    struct dma dma;
};

static void set_up(struct fixture *f, uint64_t ram)
{
    struct memory_ram_options options = {0};
    g_autoptr(GError) error = NULL;

    memset(f, 0, sizeof(*f));
    f->memory = memory_create();
    g_assert_true(memory_add_ram(f->memory, ram, LAYOUT_LOW_END, &options, &error));
    device_init(&f->device, "test0", "test", &no_ops);
    dma_init(&f->dma, f->memory, &f->device, true);
}

static void tear_down(struct fixture *f)
{
    device_finish(&f->device);
    memory_destroy(f->memory);
}

static void values_are_little_endian_and_bounds_checked(void)
{
    struct fixture f;
    uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8}, back[8];
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;

    set_up(&f, 64 * MIB);
    g_assert_cmpint(dma_write(&f.dma, 0x1000, bytes, 8), ==, 0);
    g_assert_cmpint(dma_load16(&f.dma, 0x1002, &v16), ==, 0);
    g_assert_cmphex(v16, ==, 0x0403);
    g_assert_cmpint(dma_load32(&f.dma, 0x1004, &v32), ==, 0);
    g_assert_cmphex(v32, ==, 0x08070605);
    g_assert_cmpint(dma_load64(&f.dma, 0x1000, &v64), ==, 0);
    g_assert_cmphex(v64, ==, UINT64_C(0x0807060504030201));
    g_assert_cmpint(dma_store16(&f.dma, 0x1000, 0xa1b2), ==, 0);
    g_assert_cmpint(dma_store32(&f.dma, 0x1004, 0x11223344), ==, 0);
    g_assert_cmpint(dma_read(&f.dma, 0x1000, back, 8), ==, 0);
    g_assert_cmpmem(back, 8, ((uint8_t[]){0xb2, 0xa1, 3, 4, 0x44, 0x33, 0x22, 0x11}), 8);
    g_assert_cmpint(dma_load32(&f.dma, 0x1002, &v32), ==, -EINVAL);
    g_assert_cmpint(dma_store64(&f.dma, 0x1004, 0), ==, -EINVAL);
    g_assert_cmpint(dma_load64(&f.dma, 64 * MIB, &v64), ==, -EFAULT);
    g_assert_cmpint(dma_load64(&f.dma, UINT64_MAX - 7, &v64), ==, -EFAULT);
    g_assert_cmpint(dma_read(&f.dma, UINT64_MAX, back, 8), ==, -EFAULT);
    tear_down(&f);
}

static void nothing_moves_without_bus_mastering(void)
{
    struct fixture f;
    struct iovec iov[4];
    uint32_t value = 5;

    set_up(&f, 64 * MIB);
    g_assert_cmpint(dma_store32(&f.dma, 0, 7), ==, 0);
    dma_set_enabled(&f.dma, false);
    g_assert_cmpint(dma_allowed(&f.dma, DMA_TO_DEVICE), ==, -EACCES);
    g_assert_cmpint(dma_read(&f.dma, 0, &value, 4), ==, -EACCES);
    g_assert_cmpint(dma_write(&f.dma, 0, &value, 4), ==, -EACCES);
    g_assert_cmpint(dma_load32(&f.dma, 0, &value), ==, -EACCES);
    g_assert_cmpint(dma_store32(&f.dma, 0, 9), ==, -EACCES);
    g_assert_cmpint(dma_map(&f.dma, 0, 4, DMA_TO_DEVICE, iov, 4), ==, -EACCES);
    g_assert_cmpuint(value, ==, 5);
    dma_set_enabled(&f.dma, true);
    g_assert_cmpint(dma_load32(&f.dma, 0, &value), ==, 0);
    g_assert_cmpuint(value, ==, 7);
    g_assert_cmpuint(f.device.violations, ==, 0);
    tear_down(&f);
}

static void nothing_moves_in_states_that_forbid_it(void)
{
    static const enum device_state forbidden[] = {
        DEVICE_RUNNING_P2P, DEVICE_PRE_COPY_P2P, DEVICE_STOP,
        DEVICE_STOP_COPY,   DEVICE_RESUMING,     DEVICE_ERROR,
    };
    struct fixture f;
    uint32_t value = 5;

    set_up(&f, 64 * MIB);
    for (unsigned i = 0; i < G_N_ELEMENTS(forbidden); i++) {
        uint64_t before = f.device.violations;
        __atomic_store_n(&f.device.state, forbidden[i], __ATOMIC_SEQ_CST);
        g_assert_cmpint(dma_allowed(&f.dma, DMA_FROM_DEVICE), ==, -EAGAIN);
        g_assert_cmpuint(f.device.violations, ==, before); /* asking is none */
        g_assert_cmpint(dma_read(&f.dma, 0, &value, 4), ==, -EAGAIN);
        g_assert_cmpint(dma_write(&f.dma, 0, &value, 4), ==, -EAGAIN);
        g_assert_cmpuint(f.device.violations, ==, before + 2);
    }
    __atomic_store_n(&f.device.state, DEVICE_PRE_COPY, __ATOMIC_SEQ_CST);
    g_assert_cmpint(dma_read(&f.dma, 0, &value, 4), ==, 0);
    g_assert_cmpuint(value, ==, 0);
    tear_down(&f);
}

static void maps_give_pieces_and_count_them(void)
{
    struct fixture f;
    struct iovec iov[2];
    uint8_t *extra = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct memory_region more = {
        .gpa = 64 * MIB, .size = 4096, .host = extra, .fd = -1, .flags = MEMORY_RAM};

    set_up(&f, 64 * MIB);
    g_assert_cmpint(memory_add(f.memory, &more), ==, 0);
    g_assert_cmpint(dma_map(&f.dma, 64 * MIB - 100, 300, DMA_FROM_DEVICE, iov, 2), ==, 2);
    g_assert_cmpuint(iov[0].iov_len, ==, 100);
    g_assert_cmpuint(iov[1].iov_len, ==, 200);
    g_assert_true(iov[1].iov_base == extra);
    g_assert_cmpint(dma_map(&f.dma, 64 * MIB - 100, 300, DMA_FROM_DEVICE, iov, 1), ==, -E2BIG);
    g_assert_cmpint(dma_map(&f.dma, 0, 0, DMA_FROM_DEVICE, iov, 2), ==, 0);
    g_assert_cmpint(dma_map(&f.dma, 64 * MIB + 4000, 100, DMA_TO_DEVICE, iov, 2), ==, -EFAULT);
    g_assert_cmpint(dma_map(&f.dma, 0, UINT64_MAX, DMA_TO_DEVICE, iov, 2), ==, -EFAULT);
    g_assert_nonnull(dma_map_ring(&f.dma, 0x1000, 4096));
    g_assert_null(dma_map_ring(&f.dma, 64 * MIB - 8, 16));
    g_assert_null(dma_map_ring(&f.dma, 0x1000, 0));
    tear_down(&f);
    munmap(extra, 8192);
}

static void a_map_does_not_cross_the_pci_hole(void)
{
    struct fixture f;
    struct iovec iov[4];

    set_up(&f, 4 * GIB);
    g_assert_cmpint(dma_map(&f.dma, 3 * GIB - 4096, 8192, DMA_TO_DEVICE, iov, 4), ==, -EFAULT);
    g_assert_cmpint(dma_map(&f.dma, 4 * GIB, 8192, DMA_TO_DEVICE, iov, 4), ==, 1);
    tear_down(&f);
}

static void readonly_regions_and_bars_are_refused(void)
{
    struct fixture f;
    struct iovec iov;
    uint8_t *extra = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct memory_region rom = {
        .gpa = 64 * MIB, .size = 4096, .host = extra, .fd = -1, .flags = MEMORY_READONLY};
    struct memory_region bar = {
        .gpa = 65 * MIB, .size = 4096, .host = extra + 4096, .fd = -1, .flags = MEMORY_BAR};
    uint32_t value = 1;

    set_up(&f, 64 * MIB);
    g_assert_cmpint(memory_add(f.memory, &rom), ==, 0);
    g_assert_cmpint(memory_add(f.memory, &bar), ==, 0);
    g_assert_cmpint(dma_load32(&f.dma, 64 * MIB, &value), ==, 0);
    g_assert_cmpint(dma_store32(&f.dma, 64 * MIB, 1), ==, -EFAULT);
    g_assert_cmpint(dma_write(&f.dma, 64 * MIB - 2, &value, 4), ==, -EFAULT);
    g_assert_cmpint(dma_map(&f.dma, 64 * MIB, 8, DMA_TO_DEVICE, &iov, 1), ==, 1);
    g_assert_cmpint(dma_map(&f.dma, 64 * MIB, 8, DMA_FROM_DEVICE, &iov, 1), ==, -EFAULT);
    g_assert_cmpint(dma_load32(&f.dma, 65 * MIB, &value), ==, -EFAULT);
    g_assert_cmpint(dma_map(&f.dma, 65 * MIB, 8, DMA_TO_DEVICE, &iov, 1), ==, -EFAULT);
    g_assert_null(dma_map_ring(&f.dma, 64 * MIB, 8));
    g_assert_null(dma_map_ring(&f.dma, 65 * MIB, 8));
    tear_down(&f);
    munmap(extra, 8192);
}

static void what_the_device_wrote_is_marked_dirty(void)
{
    struct fixture f;
    uint64_t bitmap[64 * MIB / 4096 / 64] = {0};
    struct iovec iov[1];
    unsigned count;

    set_up(&f, 64 * MIB);
    g_assert_cmpint(memory_dirty_start(f.memory), ==, 0);
    g_assert_cmpint(dma_store32(&f.dma, 0x0, 1), ==, 0);
    g_assert_cmpint(dma_write(&f.dma, 0x2ffc, "12345678", 8), ==, 0);
    g_assert_cmpint(dma_map(&f.dma, 0x8000, 0x4000, DMA_FROM_DEVICE, iov, 1), ==, 1);
    dma_written_iov(&f.dma, iov, 1, 0x1001); /* of four pages it wrote one and a byte */
    dma_written(&f.dma, 0x10000, 1);
    memory_dirty_sync(f.memory, memory_regions(f.memory, &count), bitmap);
    g_assert_cmphex(bitmap[0], ==, 1 | 1 << 2 | 1 << 3 | 1 << 8 | 1 << 9 | 1 << 16);
    memory_dirty_stop(f.memory);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dma/values", values_are_little_endian_and_bounds_checked);
    g_test_add_func("/dma/nothing-moves-without-bus-mastering",
                    nothing_moves_without_bus_mastering);
    g_test_add_func("/dma/nothing-moves-in-forbidden-states",
                    nothing_moves_in_states_that_forbid_it);
    g_test_add_func("/dma/maps-give-pieces", maps_give_pieces_and_count_them);
    g_test_add_func("/dma/a-map-does-not-cross-the-pci-hole", a_map_does_not_cross_the_pci_hole);
    g_test_add_func("/dma/readonly-regions-and-bars", readonly_regions_and_bars_are_refused);
    g_test_add_func("/dma/dirty-marks", what_the_device_wrote_is_marked_dirty);
    return g_test_run();
}
