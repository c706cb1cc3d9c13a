/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verbs_memory - guest pages as one range of addresses, registered with the host's device
 * (backends/rdma/verbs.h)
 *
 * A region whose pages are contiguous is registered where guest memory is mapped anyway. Else its pages
 * are mapped once more, one after the other, from the file behind guest memory: one mapping for each run
 * of contiguous pages. Both are registered at the guest's own address (ibv_reg_mr_iova), so that keys
 * and addresses mean the same to the guest, its peers and the host's device.
 *
 * Mappings are counted, over all adapters of the process, and refused before the rest of the process
 * runs out of them (vm.max_map_count).
 *
 * Registering pins pages and may take a while: workers do it. A DMA region would pin all of guest memory
 * when the guest's driver loads; it is registered when work first uses it.
 *
 * Limits: mappings (vm.max_map_count) for scattered pages; huge pages can only be mapped whole; locked
 * memory (RLIMIT_MEMLOCK) unless CAP_IPC_LOCK.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "backends/rdma/verbs.h"
#include "vmm/memory.h"
#include "vmm/rcu.h"

#define MIN_LOCKED       (UINT64_C(64) << 20)
#define MIB              (UINT64_C(1) << 20)
#define USUAL_MAPPINGS   65530u                /* the kernel's default of vm.max_map_count */
#define MAPPINGS_OF_REST 4096u                 /* of those, for the rest of the process */
#define HOLE             (UINT64_C(128) << 10) /* bytes; less than malloc asks the kernel for */

/* ---- limits ---- */

/* Of the process: vm.max_map_count, and how many of those are ours. */
static struct {
    unsigned max, used;
} mappings;

static void read_max_mappings(void)
{
    g_autofree char *text = NULL;
    uint64_t max = USUAL_MAPPINGS;

    if (g_file_get_contents("/proc/sys/vm/max_map_count", &text, NULL, NULL))
        max = g_ascii_strtoull(text, NULL, 10);
    __atomic_store_n(&mappings.max, MIN(max, (uint64_t)G_MAXINT), __ATOMIC_RELAXED);
}

static unsigned mappings_left(unsigned used)
{
    unsigned max = __atomic_load_n(&mappings.max, __ATOMIC_RELAXED);

    return max > used + MAPPINGS_OF_REST ? max - used - MAPPINGS_OF_REST : 0;
}

static bool take_mappings(uint32_t count)
{
    unsigned used = __atomic_load_n(&mappings.used, __ATOMIC_RELAXED);

    do {
        if (count > mappings_left(used))
            return false;
    } while (!__atomic_compare_exchange_n(&mappings.used, &used, used + count, true,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return true;
}

static void give_back_mappings(uint32_t count)
{
    __atomic_fetch_sub(&mappings.used, count, __ATOMIC_RELAXED);
}

static uint64_t locked_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}

/* CAP_IPC_LOCK is bit 14 of the effective set. */
static bool may_lock(void)
{
    g_autofree char *status = NULL;
    const char *line;

    if (!g_file_get_contents("/proc/self/status", &status, NULL, NULL) ||
        !(line = strstr(status, "CapEff:")))
        return false;
    return g_ascii_strtoull(line + strlen("CapEff:"), NULL, 16) >> 14 & 1;
}

bool verbs_memory_check(struct verbs *verbs, const struct options *options, GError **error)
{
    struct memory *memory = verbs->rdma.dma->memory;
    uint64_t limit = may_lock() ? UINT64_MAX : locked_limit();
    unsigned count;

    read_max_mappings();
    const struct memory_region *regions = memory_regions(memory, &count);
    for (unsigned i = 0; i < count; i++) {
        if ((regions[i].flags & MEMORY_RAM) && regions[i].fd < 0) {
            options_set_error(error, options, "backend",
                              "needs guest memory that can be mapped twice: --shared-memory on");
            return false;
        }
    }
    if (limit < MIN_LOCKED) {
        options_set_error(error, options, "backend",
                          "%" G_GUINT64_FORMAT
                          " MiB of memory may be locked, at least %" G_GUINT64_FORMAT
                          " are needed: ulimit -l unlimited",
                          limit / MIB, MIN_LOCKED / MIB);
        return false;
    }
    if (limit < memory_ram_size(memory))
        log_warn("rdma",
                 "%s: the guest may register %" G_GUINT64_FORMAT " of its %" G_GUINT64_FORMAT
                 " MiB (ulimit -l)",
                 verbs->device, limit / MIB, memory_ram_size(memory) / MIB);
    return true;
}

/* Why a registration failed, for whoever runs this. @runs: that its pages are in. */
static void complain(struct verbs *verbs, uint64_t size, uint32_t runs, int error)
{
    uint64_t mib = (size + MIB - 1) / MIB;
    unsigned used = __atomic_load_n(&mappings.used, __ATOMIC_RELAXED);

    if (error == -ENOBUFS)
        log_guest(
            &verbs->complaints, "rdma",
            "%s: %" G_GUINT64_FORMAT " MiB in %u pieces can't be registered: they need as many "
            "mappings, of which %u are left; with sysctl vm.max_map_count=%u at the start (it was "
            "%u) they could",
            verbs->device, mib, runs, mappings_left(used), used + runs + MAPPINGS_OF_REST,
            __atomic_load_n(&mappings.max, __ATOMIC_RELAXED));
    else if (error == -ENOMEM || error == -EAGAIN)
        log_guest(&verbs->complaints, "rdma",
                  "%s: %" G_GUINT64_FORMAT " MiB can't be registered: too little memory may be "
                  "locked (ulimit -l), or too many mappings (sysctl vm.max_map_count)",
                  verbs->device, mib);
    else
        log_guest(&verbs->complaints, "rdma", "%s: registering %" G_GUINT64_FORMAT " MiB: %s",
                  verbs->device, mib, g_strerror(-error));
}

/* ---- ranges ---- */

/* A run of pages that follow each other in guest memory. */
static uint32_t run_length(const uint64_t *pages, uint32_t count)
{
    uint32_t n = 1;

    while (n < count && pages[n] == pages[n - 1] + RDMA_PAGE_SIZE)
        n++;
    return n;
}

static uint32_t count_runs(const uint64_t *pages, uint32_t count)
{
    uint32_t runs = 0;

    for (uint32_t i = 0; i < count; i += run_length(pages + i, count - i))
        runs++;
    return runs;
}

/* What is mapped at [gpa, gpa + size), all in one region of RAM; false: not there. */
static bool find_ram(struct memory *memory, uint64_t gpa, uint64_t size, struct memory_span *span)
{
    return memory_find(memory, gpa, size, span) && (span->region->flags & MEMORY_RAM) &&
           !(span->region->flags & MEMORY_READONLY);
}

static int reserve(struct verbs_range *range)
{
    void *host =
        mmap(NULL, range->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    range->host = host;
    range->filled = range->reserved = host == MAP_FAILED ? range->size : 0;
    return host == MAP_FAILED ? -errno : 0;
}

static void unmap(struct verbs_range *range)
{
    if (range->filled)
        munmap(range->host, range->filled);
    if (range->reserved < range->size)
        munmap(range->host + range->reserved, range->size - range->reserved);
    range->filled = range->reserved = range->size;
}

/*
 * Maps what starts at @gpa behind what is mapped already. A mapping over a reservation splits it, which
 * takes longer than the mapping itself. So the reservation gives way by small holes, each for many
 * mappings. -EEXIST: another thread got into the hole, which is not ours any more; can't be if @slowly.
 */
static int map_run(struct verbs_range *range, uint64_t gpa, const struct memory_span *span,
                   bool slowly)
{
    size_t end = range->filled + span->len;
    off_t at = (off_t)(span->region->fd_offset + (gpa - span->region->gpa));

    if (end > range->reserved && !slowly) {
        size_t hole = MIN(MAX(end - range->reserved, HOLE), range->size - range->reserved);
        if (munmap(range->host + range->reserved, hole))
            return -errno;
        range->reserved += hole;
    }
    if (mmap(range->host + range->filled, span->len, PROT_READ | PROT_WRITE,
             MAP_SHARED | (slowly ? MAP_FIXED : MAP_FIXED_NOREPLACE), span->region->fd,
             at) == MAP_FAILED)
        return -errno;
    range->filled = end;
    range->reserved = MAX(range->reserved, end);
    return 0;
}

static int map_pages(struct memory *memory, const uint64_t *pages, uint32_t count,
                     struct verbs_range *range, bool slowly)
{
    int error = reserve(range);

    for (uint32_t i = 0; i < count && !error;) {
        uint64_t size = (uint64_t)run_length(pages + i, count - i) * RDMA_PAGE_SIZE;
        struct memory_span span;
        rcu_read_begin();
        error = !find_ram(memory, pages[i], size, &span) ? -EFAULT
                : span.region->fd < 0                    ? -ENOMEM
                                                         : map_run(range, pages[i], &span, slowly);
        rcu_read_end();
        if (!error)
            i += span.len / RDMA_PAGE_SIZE;
    }
    return error;
}

/* -ENOBUFS: too many mappings. What there is on errors goes with free_range(). */
static int make_range(struct memory *memory, const uint64_t *pages, uint32_t count, uint32_t runs,
                      struct verbs_range *range)
{
    struct memory_span span;
    int error;

    range->size = (size_t)count * RDMA_PAGE_SIZE;
    rcu_read_begin();
    bool one =
        runs == 1 && find_ram(memory, pages[0], range->size, &span) && span.len == range->size;
    if (one)
        range->host = span.host;
    rcu_read_end();
    if (one)
        return 0;
    if (!take_mappings(runs))
        return -ENOBUFS;
    range->mappings = runs;
    error = map_pages(memory, pages, count, range, false);
    if (error == -EEXIST) {
        unmap(range);
        error = map_pages(memory, pages, count, range, true);
    }
    return error;
}

static void free_range(struct verbs_range *range)
{
    if (range->mappings) {
        unmap(range);
        give_back_mappings(range->mappings);
    }
    *range = (struct verbs_range){0};
}

static int access_of(uint32_t access)
{
    return (access & RDMA_ACCESS_LOCAL_WRITE ? IBV_ACCESS_LOCAL_WRITE : 0) |
           (access & RDMA_ACCESS_REMOTE_WRITE ? IBV_ACCESS_REMOTE_WRITE : 0) |
           (access & RDMA_ACCESS_REMOTE_READ ? IBV_ACCESS_REMOTE_READ : 0) |
           (access & RDMA_ACCESS_REMOTE_ATOMIC ? IBV_ACCESS_REMOTE_ATOMIC : 0);
}

/* ---- registering, by workers ---- */

struct verbs_job {
    struct verbs *verbs;
    struct rdma_mr_attributes attributes;
    struct ibv_pd *pd;
    GMutex lock;
    GCond cond;
    bool finished;
    struct verbs_mr *mr; /* NULL: destroyed meanwhile; under the adapter's lock */
    struct verbs_range range;
    struct ibv_mr *ib;
    int error;
};

static void job_free(struct verbs_job *job)
{
    if (job->ib)
        ibv_dereg_mr(job->ib);
    free_range(&job->range);
    g_mutex_clear(&job->lock);
    g_cond_clear(&job->cond);
    g_free(job);
}

/* On the loop. What became of the region meanwhile is known under the lock only. */
static void job_done(void *opaque)
{
    struct verbs_job *job = opaque;
    struct verbs_mr *mr;

    if (!job->mr) {
        job_free(job);
        return;
    }
    g_mutex_lock(&job->verbs->rdma.lock);
    if ((mr = job->mr)) {
        mr->job = NULL;
        mr->ib = g_steal_pointer(&job->ib);
        mr->range = job->range;
        job->range = (struct verbs_range){0};
        if (mr->ib) {
            mr->mr.lkey = mr->ib->lkey;
            mr->mr.rkey = mr->ib->rkey;
        }
        rdma_mr_created(&mr->mr, job->error);
    }
    g_mutex_unlock(&job->verbs->rdma.lock);
    job_free(job);
}

void verbs_work_on(gpointer data, gpointer opaque)
{
    struct verbs_job *job = data;
    struct verbs *verbs = opaque;
    const struct rdma_mr_attributes *a = &job->attributes;
    struct loop *loop = verbs->rdma.loop;
    uint32_t runs = count_runs(a->pages, a->page_count);

    job->error = make_range(verbs->rdma.dma->memory, a->pages, a->page_count, runs, &job->range);
    if (!job->error) {
        errno = 0;
        job->ib = ibv_reg_mr_iova(job->pd, job->range.host + a->start % RDMA_PAGE_SIZE, a->length,
                                  a->start, access_of(a->access));
        if (!job->ib)
            job->error = errno ? -errno : -ENOMEM;
    }
    if (job->error)
        complain(verbs, a->length, runs, job->error);
    g_free(a->pages);
    g_mutex_lock(&job->lock);
    job->finished = true;
    g_cond_signal(&job->cond);
    g_mutex_unlock(&job->lock);
    loop_defer(loop, job_done, job);
}

int verbs_create_mr(struct rdma_mr *base)
{
    struct verbs *verbs = verbs_of(base->object.rdma);
    struct verbs_mr *mr = (struct verbs_mr *)base;
    struct verbs_pd *pd = (struct verbs_pd *)base->pd;

    if (base->attributes.type == RDMA_MR_DMA) {
        base->lkey = base->rkey = VERBS_DMA_KEY;
        if (!pd->dma)
            pd->dma = mr;
        return 0;
    }
    struct verbs_job *job = g_new0(struct verbs_job, 1);
    job->verbs = verbs;
    job->attributes = base->attributes;
    base->attributes.pages = NULL;
    job->pd = pd->ib;
    job->mr = mr;
    g_mutex_init(&job->lock);
    g_cond_init(&job->cond);
    mr->job = job;
    g_thread_pool_push(verbs->workers, job, NULL);
    return 1;
}

void verbs_destroy_mr(struct rdma_mr *base)
{
    struct verbs_mr *mr = (struct verbs_mr *)base;
    struct verbs_pd *pd = (struct verbs_pd *)base->pd;
    struct verbs_job *job = mr->job;

    if (job) {
        /* The worker uses the protection domain, which may go next: wait for it. */
        g_mutex_lock(&job->lock);
        while (!job->finished)
            g_cond_wait(&job->cond, &job->lock);
        g_mutex_unlock(&job->lock);
        g_clear_pointer(&job->ib, ibv_dereg_mr);
        job->mr = NULL;
    }
    if (pd->dma == mr)
        pd->dma = NULL;
    for (unsigned i = 0; i < mr->segment_count; i++)
        if (mr->segments[i].ib)
            ibv_dereg_mr(mr->segments[i].ib);
    g_free(mr->segments);
    if (mr->ib)
        ibv_dereg_mr(mr->ib);
    free_range(&mr->range);
}

/* ---- DMA regions ---- */

/* The regions of RAM; the map may change under those that it does not tell. */
static void find_segments(struct memory *memory, struct verbs_mr *mr)
{
    unsigned count;

    rcu_read_begin();
    const struct memory_region *regions = memory_regions(memory, &count);
    mr->segments = g_new0(struct verbs_segment, MAX(count, 1));
    for (unsigned i = 0; i < count; i++)
        if ((regions[i].flags & MEMORY_RAM) && !(regions[i].flags & MEMORY_READONLY))
            mr->segments[mr->segment_count++] = (struct verbs_segment){
                .gpa = regions[i].gpa, .size = regions[i].size, .host = regions[i].host};
    rcu_read_end();
}

/* Registers each region of RAM at its guest-physical address. */
static int register_dma(struct verbs *verbs, struct verbs_mr *mr)
{
    struct verbs_pd *pd = (struct verbs_pd *)mr->mr.pd;

    if (!mr->segments)
        find_segments(verbs->rdma.dma->memory, mr);
    for (unsigned i = 0; i < mr->segment_count; i++) {
        struct verbs_segment *segment = &mr->segments[i];
        if (segment->ib)
            continue;
        errno = 0;
        segment->ib = ibv_reg_mr_iova(pd->ib, segment->host, segment->size, segment->gpa,
                                      access_of(mr->mr.attributes.access));
        if (!segment->ib) {
            int error = errno ? -errno : -ENOMEM;
            complain(verbs, segment->size, 1, error);
            return error;
        }
    }
    mr->registered = true;
    return 0;
}

static int translate_dma(struct verbs *verbs, struct verbs_mr *mr, const struct rdma_sge *sge,
                         struct ibv_sge *out, unsigned room)
{
    uint64_t at = sge->addr, left = sge->length;
    unsigned n = 0;

    if (!mr->registered) {
        int error = register_dma(verbs, mr);
        if (error)
            return error;
    }
    for (unsigned i = 0; i < mr->segment_count && left; i++) {
        const struct verbs_segment *segment = &mr->segments[i];
        if (at < segment->gpa || at - segment->gpa >= segment->size)
            continue;
        if (n == room)
            return -E2BIG;
        uint64_t part = MIN(left, segment->size - (at - segment->gpa));
        out[n++] = (struct ibv_sge){at, part, segment->ib->lkey};
        at += part;
        left -= part;
    }
    return left ? -EFAULT : (int)n;
}

int verbs_translate(struct verbs_pd *pd, const struct rdma_sge *sge, uint32_t num_sge,
                    struct ibv_sge *out)
{
    struct verbs *verbs = verbs_of(pd->pd.object.rdma);
    unsigned count = 0;

    for (uint32_t i = 0; i < num_sge; i++) {
        if (sge[i].lkey == VERBS_DMA_KEY && pd->dma) {
            int n = translate_dma(verbs, pd->dma, &sge[i], out + count, VERBS_MAX_SGE - count);
            if (n < 0)
                return n;
            count += n;
            continue;
        }
        if (count == VERBS_MAX_SGE)
            return -E2BIG;
        out[count++] = (struct ibv_sge){sge[i].addr, sge[i].length, sge[i].lkey};
    }
    return count;
}
