/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rdma_registration - memory regions over verbs: their mappings, and how long 1 GiB takes
 *
 * Only over a device: LODGE_RDMA=backend=verbs,device=rxe0 (tests/e2e/47-rdma-verbs.t). With -m perf the
 * seconds are measured (tests/bench/rdma --only registration).
 */
#define RAM (UINT64_C(1) << 30)
#include "tests/unit/rdma_host.h"

#include <sys/mman.h>

#define PAGES ((uint32_t)(RAM / RDMA_PAGE_SIZE))
#define SCATTER                                                                                    \
    100003u /* pages from one to the next: odd, so that all come before one comes again */

static uint32_t max_mappings(void)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents("/proc/sys/vm/max_map_count", &text, NULL, NULL));
    return (uint32_t)g_ascii_strtoull(text, NULL, 10);
}

/* A region of @count pages, each so many further than the one before. */
static struct made_mr try_region(struct host *host, uint32_t count, uint32_t step)
{
    struct made_mr made = {0};
    struct rdma_mr_attributes a = {
        .type = RDMA_MR_USER,
        .access = ALL_ACCESS,
        .start = WHOLE,
        .length = (uint64_t)count * RDMA_PAGE_SIZE,
        .pages = g_new(uint64_t, count),
        .page_count = count,
    };

    for (uint32_t i = 0; i < count; i++)
        a.pages[i] = (uint64_t)i * step % PAGES * RDMA_PAGE_SIZE;
    g_assert_cmpint(rdma_create_mr(host->pd, host->next++, &a, mr_made, &made), ==, 0);
    while (!made.done)
        loop_iterate(loop_main(), true);
    return made;
}

static void expect_region(struct host *host, uint32_t count)
{
    struct made_mr made = try_region(host, count, SCATTER);

    g_assert_cmpint(made.error, ==, 0);
    g_assert_cmpint(rdma_destroy_mr(made.mr), ==, 0);
}

static void what_takes_too_many_mappings_is_refused(void)
{
    uint32_t max = max_mappings(), most = max / 3 * 2;
    struct host host;

    host_set_up(&host);
    g_assert_cmpint(try_region(&host, max, SCATTER).error, ==, -ENOBUFS);
    struct made_mr first = try_region(&host, most, SCATTER);
    g_assert_cmpint(first.error, ==, 0);
    g_assert_cmpint(try_region(&host, most, SCATTER).error, ==, -ENOBUFS);
    expect_region(&host, 1000);
    g_assert_cmpint(rdma_destroy_mr(first.mr), ==, 0);
    expect_region(&host, most);
    host_tear_down(&host);
}

/* Runs of 1 to 50 pages, far from each other: mappings shorter and longer than a hole in what is
 * reserved for them. */
static void runs_of_any_length_are_one_range(void)
{
    const uint32_t count = 2000, length = count * RDMA_PAGE_SIZE;
    g_autofree uint64_t *pages = g_new(uint64_t, count);
    struct pair p;

    pair_set_up(&p);
    for (uint32_t i = 0, run = 0, left = 0; i < count; i++, left--) {
        if (!left)
            left = 1 + run++ * 7 % 50;
        pages[i] = (UINT64_C(512) << 20) - run * (1 << 20) - left * RDMA_PAGE_SIZE;
    }
    struct rdma_mr_attributes a = {
        .type = RDMA_MR_USER,
        .access = ALL_ACCESS,
        .start = UINT64_C(0x10000000),
        .length = length,
        .pages = g_memdup2(pages, count * sizeof(*pages)),
        .page_count = count,
    };
    struct rdma_mr *mr = make_mr_in(&p.host, p.host.pd, &a);
    fill(p.host.ram, length, 4);
    struct rdma_sge sge = sge_at(&p, 0, length);
    struct rdma_send_wr wr = send_wr(RDMA_WR_WRITE, 5, &sge);
    wr.remote.addr = a.start;
    wr.remote.rkey = rdma_mr_rkey(mr);
    g_assert_cmpint(rdma_post_send(p.qp[0], &wr), ==, 0);
    expect_wc(p.cq[0], 5, RDMA_WC_SUCCESS);
    for (uint32_t i = 0; i < count; i++)
        g_assert_cmpmem(p.host.ram + pages[i], RDMA_PAGE_SIZE, p.host.ram + i * RDMA_PAGE_SIZE,
                        RDMA_PAGE_SIZE);
    pair_tear_down(&p);
}

/* Another thread of the process that maps memory, a page at a time: all of it stays as it was. */
struct mapper {
    gint end; /* atomic */
    uint32_t count;
    uint32_t *pages[60000];
};

static gpointer map_pages(gpointer data)
{
    struct mapper *mapper = data;

    while (!g_atomic_int_get(&mapper->end)) {
        for (unsigned i = 0; i < 16 && mapper->count < G_N_ELEMENTS(mapper->pages); i++) {
            uint32_t *page = mmap(NULL, RDMA_PAGE_SIZE, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            g_assert_true(page != MAP_FAILED);
            mapper->pages[mapper->count] = page;
            *page = ++mapper->count;
        }
        g_usleep(100);
    }
    return NULL;
}

/* Their pages come into the holes of what is reserved for a region. */
static void other_threads_may_map(void)
{
    g_autofree struct mapper *mapper = g_new0(struct mapper, 1);
    struct host host;

    host_set_up(&host);
    GThread *thread = g_thread_new("maps", map_pages, mapper);
    for (unsigned i = 0; i < 10; i++)
        expect_region(&host, 2000);
    g_atomic_int_set(&mapper->end, 1);
    g_thread_join(thread);
    for (uint32_t i = 0; i < mapper->count; i++) {
        g_assert_cmpuint(*mapper->pages[i], ==, i + 1);
        munmap(mapper->pages[i], RDMA_PAGE_SIZE);
    }
    host_tear_down(&host);
}

static void measure(struct host *host, const char *what, uint32_t step)
{
    gint64 begin = g_get_monotonic_time();
    struct made_mr made = try_region(host, PAGES, step);
    gint64 there = g_get_monotonic_time();

    g_assert_cmpint(made.error, ==, 0);
    g_assert_cmpint(rdma_destroy_mr(made.mr), ==, 0);
    gint64 gone = g_get_monotonic_time();
    g_test_message("registration of 1 GiB, %s: %.3f s, and back: %.3f s", what,
                   (there - begin) / 1e6, (gone - there) / 1e6);
}

static void measure_registration(void)
{
    struct host host;

    host_set_up(&host);
    memset(host.ram, 1, RAM);
    for (unsigned i = 0; i < 3; i++) {
        measure(&host, "contiguous", 1);
        if (max_mappings() > PAGES + 10000)
            measure(&host, "scattered", SCATTER);
        else
            g_test_message("scattered: skipped, sysctl vm.max_map_count is only %u",
                           max_mappings());
    }
    host_tear_down(&host);
}

#define ADD(NAME) g_test_add_func("/registration/" #NAME, NAME)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (g_test_perf()) {
        ADD(measure_registration);
        return g_test_run();
    }
    ADD(what_takes_too_many_mappings_is_refused);
    ADD(runs_of_any_length_are_one_range);
    ADD(other_threads_may_map);
    return g_test_run();
}
