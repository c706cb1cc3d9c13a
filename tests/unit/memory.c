/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest-physical address space: lookups around holes, copies, changes, RAM errors, dirty bits. */
#include "vmm/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/layout.h"

#define MIB UINT64_C(0x100000)
#define GIB UINT64_C(0x40000000)

static struct memory *machine(uint64_t size)
{
    struct memory *memory = memory_create();
    struct memory_ram_options options = {0};
    g_autoptr(GError) error = NULL;

    g_assert_true(memory_add_ram(memory, size, LAYOUT_LOW_END, &options, &error));
    g_assert_no_error(error);
    return memory;
}

static uint8_t *pages(uint64_t count)
{
    void *at = mmap(NULL, count * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(at != MAP_FAILED);
    return at;
}

static void small_ram_is_one_region(void)
{
    struct memory *memory = machine(64 * MIB);
    unsigned count;
    const struct memory_region *regions = memory_regions(memory, &count);
    struct memory_span span;

    g_assert_cmpuint(count, ==, 1);
    g_assert_cmpuint(regions[0].gpa, ==, 0);
    g_assert_cmpuint(regions[0].size, ==, 64 * MIB);
    g_assert_cmpint(regions[0].fd, >=, 0);
    g_assert_cmpuint((uintptr_t)regions[0].host % (2 * MIB), ==, 0);
    g_assert_true(memory_find(memory, 64 * MIB - 1, 10, &span));
    g_assert_cmpuint(span.len, ==, 1);
    g_assert_false(memory_find(memory, 64 * MIB, 1, &span));
    g_assert_false(memory_find(memory, 0, 0, &span));
    memory_destroy(memory);
}

static void ram_goes_around_the_pci_hole(void)
{
    struct memory *memory = machine(6 * GIB);
    struct memory_span span;
    unsigned count;
    const struct memory_region *regions = memory_regions(memory, &count);
    uint32_t value = 0x12345678, seen = 0;

    g_assert_cmpuint(count, ==, 2);
    g_assert_cmpuint(memory_ram_size(memory), ==, 6 * GIB);
    g_assert_cmpuint(regions[1].gpa, ==, 4 * GIB);
    g_assert_cmpuint(regions[1].fd_offset, ==, 3 * GIB);
    g_assert_true(memory_find(memory, 3 * GIB - 16, 64, &span));
    g_assert_cmpuint(span.len, ==, 16);
    g_assert_false(memory_find(memory, 3 * GIB, 1, &span));
    g_assert_false(memory_find(memory, 4 * GIB - 1, 1, &span));
    g_assert_true(memory_find(memory, 7 * GIB - 1, 1, &span));
    g_assert_false(memory_find(memory, 7 * GIB, 1, &span));
    g_assert_cmpint(memory_write(memory, 4 * GIB + 8, &value, 4), ==, 0);
    g_assert_cmpint(memory_read(memory, 4 * GIB + 8, &seen, 4), ==, 0);
    g_assert_cmpuint(seen, ==, value);
    /* Another process that maps the file sees the same bytes at fd_offset. */
    g_assert_cmpint(pread(regions[1].fd, &seen, 4, (off_t)(regions[1].fd_offset + 8)), ==, 4);
    g_assert_cmpuint(seen, ==, value);
    memory_destroy(memory);
}

static void copies_over_an_end_transfer_nothing(void)
{
    struct memory *memory = machine(64 * MIB);
    uint8_t data[16], back[16] = {0};

    memset(data, 0xaa, sizeof(data));
    g_assert_cmpint(memory_write(memory, 64 * MIB - 8, data, 16), ==, -EFAULT);
    g_assert_cmpint(memory_read(memory, 64 * MIB - 8, back, 8), ==, 0);
    g_assert_cmpuint(back[0], ==, 0);
    g_assert_cmpint(memory_read(memory, UINT64_MAX - 7, back, 16), ==, -EFAULT);
    g_assert_cmpint(memory_read(memory, 16, back, UINT64_MAX), ==, -EFAULT);
    g_assert_cmpint(memory_read(memory, 64 * MIB, back, 0), ==, 0);
    memory_destroy(memory);
}

static void overlaps_and_bad_shapes_are_refused(void)
{
    struct memory *memory = machine(64 * MIB);
    uint8_t *host = pages(4);
    struct memory_region region = {.gpa = 64 * MIB, .size = 4 * 4096, .host = host, .fd = -1};

    g_assert_cmpint(memory_add(memory, &region), ==, 0);
    g_assert_cmpint(memory_add(memory, &region), ==, -EEXIST);
    region.gpa += 3 * 4096;
    g_assert_cmpint(memory_add(memory, &region), ==, -EEXIST);
    region.gpa = 64 * MIB - 4096;
    g_assert_cmpint(memory_add(memory, &region), ==, -EEXIST);
    region.gpa = 128 * MIB + 1;
    g_assert_cmpint(memory_add(memory, &region), ==, -EINVAL);
    region.gpa = UINT64_MAX - 4095 - 4096;
    g_assert_cmpint(memory_add(memory, &region), ==, -EINVAL);
    region.gpa = 128 * MIB;
    region.size = 0;
    g_assert_cmpint(memory_add(memory, &region), ==, -EINVAL);
    region.size = 100;
    g_assert_cmpint(memory_add(memory, &region), ==, -EINVAL);
    g_assert_cmpint(memory_remove(memory, 64 * MIB, 4096), ==, -ENOENT);
    g_assert_cmpint(memory_remove(memory, 64 * MIB, 4 * 4096), ==, 0);
    g_assert_cmpint(memory_remove(memory, 64 * MIB, 4 * 4096), ==, -ENOENT);
    memory_destroy(memory);
    munmap(host, 4 * 4096);
}

static void the_last_page_of_the_address_space_works(void)
{
    struct memory *memory = memory_create();
    uint8_t *host = pages(1);
    struct memory_region region = {
        .gpa = UINT64_MAX - 4095, .size = 4096, .host = host, .fd = -1, .flags = MEMORY_RAM};
    uint8_t byte = 7;

    g_assert_cmpint(memory_add(memory, &region), ==, 0);
    g_assert_cmpint(memory_write(memory, UINT64_MAX, &byte, 1), ==, 0);
    g_assert_cmpuint(host[4095], ==, 7);
    /* Wrapping to address 0, where there may be memory too, is not a run. */
    region.gpa = 0;
    g_assert_cmpint(memory_add(memory, &region), ==, 0);
    uint16_t word;
    g_assert_cmpint(memory_read(memory, UINT64_MAX, &word, 2), ==, -EFAULT);
    memory_destroy(memory);
    munmap(host, 4096);
}

static void readonly_and_bars_are_not_written(void)
{
    struct memory *memory = memory_create();
    uint8_t *host = pages(2);
    struct memory_region rom = {
        .gpa = 0x1000, .size = 4096, .host = host, .fd = -1, .flags = MEMORY_READONLY};
    struct memory_region bar = {
        .gpa = 0x2000, .size = 4096, .host = host + 4096, .fd = -1, .flags = MEMORY_BAR};
    uint8_t byte = 1;

    g_assert_cmpint(memory_add(memory, &bar), ==, 0);
    g_assert_cmpint(memory_add(memory, &rom), ==, 0);
    g_assert_cmpint(memory_write(memory, 0x1000, &byte, 1), ==, -EFAULT);
    g_assert_cmpint(memory_read(memory, 0x1000, &byte, 1), ==, 0);
    g_assert_cmpint(memory_write(memory, 0x2000, &byte, 1), ==, -EFAULT);
    g_assert_cmpint(memory_read(memory, 0x2000, &byte, 1), ==, -EFAULT);
    memory_destroy(memory);
    munmap(host, 2 * 4096);
}

/* ---- the listener ---- */

struct log {
    GString *text;
    uint64_t refuse; /* address to refuse */
};

static int log_add(void *opaque, const struct memory_region *region)
{
    struct log *log = opaque;

    if (log->refuse && region->gpa == log->refuse)
        return -ENOSPC;
    g_string_append_printf(log->text, "+%u@%x ", region->slot, (unsigned)region->gpa);
    return 0;
}

static void log_remove(void *opaque, const struct memory_region *region)
{
    struct log *log = opaque;

    g_string_append_printf(log->text, "-%u@%x ", region->slot, (unsigned)region->gpa);
}

static void listener_sees_changes_and_slots_are_used_again(void)
{
    struct memory *memory = memory_create();
    struct log log = {.text = g_string_new(NULL), .refuse = 0x9000};
    struct memory_listener listener = {log_add, log_remove, &log};
    uint8_t *host = pages(1);
    struct memory_region region = {.gpa = 0x5000, .size = 4096, .host = host, .fd = -1};

    g_assert_cmpint(memory_add(memory, &region), ==, 0);
    g_assert_cmpint(memory_set_listener(memory, &listener), ==, 0);
    region.gpa = 0x1000;
    g_assert_cmpint(memory_add(memory, &region), ==, 0);
    g_assert_cmpint(memory_remove(memory, 0x5000, 4096), ==, 0);
    region.gpa = 0x7000;
    g_assert_cmpint(memory_add(memory, &region), ==, 0);
    region.gpa = 0x9000;
    g_assert_cmpint(memory_add(memory, &region), ==, -ENOSPC);
    g_assert_cmpstr(log.text->str, ==, "+0@5000 +1@1000 -0@5000 +0@7000 ");
    struct memory_span span;
    g_assert_false(memory_find(memory, 0x9000, 1, &span));
    memory_set_listener(memory, NULL);
    memory_destroy(memory);
    munmap(host, 4096);
    g_string_free(log.text, TRUE);
}

/* ---- RAM options ---- */

static void bad_ram_sizes_are_errors(void)
{
    struct memory *memory = memory_create();
    struct memory_ram_options options = {0};
    g_autoptr(GError) error = NULL;

    g_assert_false(memory_add_ram(memory, 0, LAYOUT_LOW_END, &options, &error));
    g_assert_nonnull(error);
    g_clear_error(&error);
    g_assert_false(memory_add_ram(memory, 4097, LAYOUT_LOW_END, &options, &error));
    g_assert_nonnull(strstr(error->message, "4 KiB"));
    g_clear_error(&error);
    /* More than any address space. */
    g_assert_false(memory_add_ram(memory, UINT64_C(1) << 61, LAYOUT_LOW_END, &options, &error));
    g_assert_nonnull(error);
    memory_destroy(memory);
}

static void missing_huge_pages_are_an_error_with_the_remedy(void)
{
    struct memory *memory = memory_create();
    struct memory_ram_options options = {.hugepages = true};
    g_autoptr(GError) error = NULL;

    /* No machine of ours has half a terabyte of huge pages set aside. */
    g_assert_false(memory_add_ram(memory, 512 * GIB, LAYOUT_LOW_END, &options, &error));
    g_assert_nonnull(strstr(error->message, "nr_hugepages"));
    g_clear_error(&error);
    g_assert_false(memory_add_ram(memory, 3 * MIB, LAYOUT_LOW_END, &options, &error));
    g_assert_nonnull(strstr(error->message, "2 MiB"));
    g_assert_cmpuint(memory_ram_size(memory), ==, 0);
    memory_destroy(memory);
}

static void a_file_is_mapped_copy_on_write(void)
{
    struct memory *memory = memory_create();
    struct memory_ram_options options = {.fd = memfd_create("test", MFD_CLOEXEC),
                                         .fd_offset = 4096};
    g_autoptr(GError) error = NULL;
    char text[6] = "", changed[] = "other";
    unsigned count;

    g_assert_cmpint(ftruncate(options.fd, 3 * 4096), ==, 0);
    g_assert_cmpint(pwrite(options.fd, "hello", 5, 4096), ==, 5);
    g_assert_false(memory_add_ram(memory, 3 * 4096, LAYOUT_LOW_END, &options, &error));
    g_assert_nonnull(strstr(error->message, "too short"));
    g_clear_error(&error);
    g_assert_true(memory_add_ram(memory, 2 * 4096, LAYOUT_LOW_END, &options, &error));
    g_assert_cmpint(memory_read(memory, 0, text, 5), ==, 0);
    g_assert_cmpstr(text, ==, "hello");
    g_assert_cmpint(memory_write(memory, 0, changed, 5), ==, 0);
    g_assert_cmpint(pread(options.fd, text, 5, 4096), ==, 5);
    g_assert_cmpstr(text, ==, "hello");
    g_assert_cmpint(memory_regions(memory, &count)[0].fd, ==, -1);
    memory_destroy(memory);
    close(options.fd);
}

static void private_ram_has_no_file_and_starts_as_zeroes(void)
{
    struct memory *memory = memory_create();
    struct memory_ram_options options = {.private = true};
    g_autoptr(GError) error = NULL;
    uint64_t value = 1;
    unsigned count;

    g_assert_true(memory_add_ram(memory, 5 * GIB, LAYOUT_LOW_END, &options, &error));
    g_assert_cmpint(memory_regions(memory, &count)[0].fd, ==, -1);
    g_assert_cmpint(memory_regions(memory, &count)[1].fd, ==, -1);
    g_assert_cmpint(memory_read(memory, 4 * GIB + 8, &value, 8), ==, 0);
    g_assert_cmpuint(value, ==, 0);
    value = 7;
    g_assert_cmpint(memory_write(memory, 6 * GIB - 8, &value, 8), ==, 0);
    memory_destroy(memory);
}

static struct memory *seventy_pages(const struct memory_ram_options *options)
{
    struct memory *memory = memory_create();
    g_autoptr(GError) error = NULL;

    g_assert_true(memory_add_ram(memory, 70 * 4096, LAYOUT_LOW_END, options, &error));
    g_assert_no_error(error);
    return memory;
}

static void untouched_memory_is_known(void)
{
    struct memory_ram_options anonymous = {.private = true, .no_thp = true};
    struct memory_ram_options copy = {.fd = memfd_create("test", MFD_CLOEXEC), .no_thp = true};
    struct memory_ram_options shared = {.no_thp = true};
    struct memory *memory = seventy_pages(&anonymous);
    const struct memory_region *region;
    uint64_t used[2] = {1, 1};
    unsigned count;

    region = memory_regions(memory, &count);
    g_assert_true(memory_find_used(region, 0, 70, used));
    g_assert_cmphex(used[0] | used[1], ==, 0);
    g_assert_cmpint(memory_write(memory, 66 * 4096, "x", 1), ==, 0);
    g_assert_true(memory_find_used(region, 0, 70, used));
    g_assert_cmphex(used[0], ==, 0);
    g_assert_cmphex(used[1], ==, 1 << 2);
    memory_destroy(memory);

    g_assert_cmpint(ftruncate(copy.fd, 70 * 4096), ==, 0);
    g_assert_cmpint(pwrite(copy.fd, "hello", 5, 5 * 4096), ==, 5);
    memory = seventy_pages(&copy);
    close(copy.fd);
    region = memory_regions(memory, &count);
    g_assert_cmpint(memory_write(memory, 9 * 4096, "x", 1), ==, 0);
    g_assert_true(memory_find_used(region, 0, 70, used));
    g_assert_cmphex(used[0], ==, 1 << 5 | 1 << 9);
    g_assert_cmphex(used[1], ==, 0);
    g_assert_true(memory_find_used(region, 4, 3, used));
    g_assert_cmphex(used[0], ==, 1 << 1);
    memory_destroy(memory);

    memory = seventy_pages(&shared);
    g_assert_false(memory_find_used(memory_regions(memory, &count), 0, 70, used));
    memory_destroy(memory);
}

static void prefault_populates(void)
{
    struct memory *memory = memory_create();
    struct memory_ram_options options = {.prefault = true, .no_thp = true};
    g_autoptr(GError) error = NULL;
    unsigned char in_core[16] = {0};
    struct memory_span span;

    g_assert_true(memory_add_ram(memory, 16 * 4096, LAYOUT_LOW_END, &options, &error));
    g_assert_true(memory_find(memory, 0, 16 * 4096, &span));
    g_assert_cmpint(mincore(span.host, 16 * 4096, in_core), ==, 0);
    for (unsigned i = 0; i < 16; i++)
        g_assert_cmpuint(in_core[i] & 1, ==, 1);
    memory_destroy(memory);
}

/* ---- dirty tracking ---- */

static void writes_mark_pages_while_tracking(void)
{
    struct memory *memory = machine(64 * MIB);
    uint64_t bitmap[64 * MIB / 4096 / 64] = {0};
    uint8_t data[4096] = {0};
    unsigned count;

    memory_write(memory, 0, data, 1); /* before: not seen */
    g_assert_cmpint(memory_dirty_start(memory), ==, 0);
    g_assert_true(memory_is_tracking(memory));
    g_assert_cmpint(memory_write(memory, 4095, data, 2), ==, 0);
    memory_mark_dirty(memory, 64 * 4096, 3 * 4096 + 1);
    memory_mark_dirty(memory, 64 * MIB - 1, 100); /* beyond the end: as far as there is memory */
    memory_dirty_sync(memory, memory_regions(memory, &count), bitmap);
    g_assert_cmphex(bitmap[0], ==, 3);
    g_assert_cmphex(bitmap[1], ==, 0xf);
    g_assert_cmphex(bitmap[G_N_ELEMENTS(bitmap) - 1], ==, UINT64_C(1) << 63);
    memset(bitmap, 0, sizeof(bitmap));
    memory_dirty_sync(memory, memory_regions(memory, &count), bitmap);
    g_assert_cmphex(bitmap[0], ==, 0);
    memory_dirty_stop(memory);
    g_assert_false(memory_is_tracking(memory));
    g_assert_null(memory_regions(memory, &count)->dirty);
    memory_destroy(memory);
}

/* ---- lookups while the map changes ---- */

struct racer {
    struct memory *memory;
    bool stop;
    uint64_t found;
};

static gpointer look_up(gpointer data)
{
    struct racer *racer = data;
    uint8_t byte;

    while (!__atomic_load_n(&racer->stop, __ATOMIC_RELAXED)) {
        /* The RAM is always found, whatever happens around it. */
        g_assert_cmpint(memory_read(racer->memory, 5 * 4096, &byte, 1), ==, 0);
        if (memory_read(racer->memory, 128 * MIB, &byte, 1) == 0)
            racer->found++;
    }
    return NULL;
}

static void lookups_run_while_regions_come_and_go(void)
{
    struct memory *memory = machine(64 * MIB);
    struct racer racers[2] = {{.memory = memory}, {.memory = memory}};
    GThread *threads[2];

    for (unsigned i = 0; i < 2; i++)
        threads[i] = g_thread_new("racer", look_up, &racers[i]);
    for (unsigned i = 0; i < 500; i++) {
        struct memory_region region = {.gpa = 128 * MIB, .size = 4096, .host = pages(1), .fd = -1};
        g_assert_cmpint(memory_add(memory, &region), ==, 0);
        g_assert_cmpint(memory_remove(memory, region.gpa, region.size), ==, 0);
        munmap(region.host, 4096); /* nobody reads it any more */
    }
    for (unsigned i = 0; i < 2; i++) {
        __atomic_store_n(&racers[i].stop, true, __ATOMIC_RELAXED);
        g_thread_join(threads[i]);
    }
    memory_destroy(memory);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory/small-ram-is-one-region", small_ram_is_one_region);
    g_test_add_func("/memory/ram-goes-around-the-pci-hole", ram_goes_around_the_pci_hole);
    g_test_add_func("/memory/copies-over-an-end-transfer-nothing",
                    copies_over_an_end_transfer_nothing);
    g_test_add_func("/memory/overlaps-and-bad-shapes-are-refused",
                    overlaps_and_bad_shapes_are_refused);
    g_test_add_func("/memory/last-page-of-the-address-space",
                    the_last_page_of_the_address_space_works);
    g_test_add_func("/memory/readonly-and-bars-are-not-written", readonly_and_bars_are_not_written);
    g_test_add_func("/memory/listener-sees-changes",
                    listener_sees_changes_and_slots_are_used_again);
    g_test_add_func("/memory/bad-ram-sizes-are-errors", bad_ram_sizes_are_errors);
    g_test_add_func("/memory/missing-huge-pages", missing_huge_pages_are_an_error_with_the_remedy);
    g_test_add_func("/memory/a-file-is-mapped-copy-on-write", a_file_is_mapped_copy_on_write);
    g_test_add_func("/memory/private-ram", private_ram_has_no_file_and_starts_as_zeroes);
    g_test_add_func("/memory/untouched-memory-is-known", untouched_memory_is_known);
    g_test_add_func("/memory/prefault-populates", prefault_populates);
    g_test_add_func("/memory/writes-mark-pages-while-tracking", writes_mark_pages_while_tracking);
    g_test_add_func("/memory/lookups-while-regions-come-and-go",
                    lookups_run_while_regions_come_and_go);
    return g_test_run();
}
