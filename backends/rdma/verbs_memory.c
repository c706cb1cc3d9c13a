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

#define MIN_LOCKED (UINT64_C(64) << 20)
#define MAX_RUNS   60000u /* of vm.max_map_count, by default 65530 a process */
#define MIB        (UINT64_C(1) << 20)

/* ---- limits ---- */

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

/* Why a registration failed, for whoever runs this. */
static void complain(struct verbs *verbs, uint64_t size, int error)
{
    if (error == -ENOMEM || error == -EAGAIN)
        log_guest(&verbs->complaints, "rdma",
                  "%s: %" G_GUINT64_FORMAT " MiB can't be registered: too little memory may be "
                  "locked (ulimit -l), or too many mappings (sysctl vm.max_map_count)",
                  verbs->device, (size + MIB - 1) / MIB);
    else
        log_guest(&verbs->complaints, "rdma", "%s: registering %" G_GUINT64_FORMAT " MiB: %s",
                  verbs->device, (size + MIB - 1) / MIB, g_strerror(-error));
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

/* What is mapped at [gpa, gpa + size), all in one region of RAM; false: not there. */
static bool find_ram(struct memory *memory, uint64_t gpa, uint64_t size, struct memory_span *span)
{
    return memory_find(memory, gpa, size, span) && (span->region->flags & MEMORY_RAM) &&
           !(span->region->flags & MEMORY_READONLY);
}

/* Maps @count pages, in runs, at @to. */
static int map_pages(struct memory *memory, const uint64_t *pages, uint32_t count, uint8_t *to)
{
    unsigned runs = 0;

    for (uint32_t i = 0; i < count;) {
        uint64_t size = (uint64_t)run_length(pages + i, count - i) * RDMA_PAGE_SIZE;
        struct memory_span span;
        if (!find_ram(memory, pages[i], size, &span))
            return -EFAULT;
        if (runs++ == MAX_RUNS || span.region->fd < 0)
            return -ENOMEM;
        uint64_t at = span.region->fd_offset + (pages[i] - span.region->gpa);
        if (mmap(to, span.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, span.region->fd,
                 (off_t)at) == MAP_FAILED)
            return -errno;
        to += span.len;
        i += span.len / RDMA_PAGE_SIZE;
    }
    return 0;
}

static int make_range(struct memory *memory, const uint64_t *pages, uint32_t count,
                      struct verbs_range *range)
{
    struct memory_span span;

    range->size = (size_t)count * RDMA_PAGE_SIZE;
    rcu_read_begin();
    bool one = run_length(pages, count) == count &&
               find_ram(memory, pages[0], range->size, &span) && span.len == range->size;
    if (one)
        range->host = span.host;
    rcu_read_end();
    if (one)
        return 0;
    void *host =
        mmap(NULL, range->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (host == MAP_FAILED)
        return -errno;
    range->host = host;
    range->mapped = true;
    rcu_read_begin();
    int error = map_pages(memory, pages, count, range->host);
    rcu_read_end();
    return error;
}

static void free_range(struct verbs_range *range)
{
    if (range->mapped)
        munmap(range->host, range->size);
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
        if (job->error)
            complain(job->verbs, mr->mr.attributes.length, job->error);
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

    job->error = make_range(verbs->rdma.dma->memory, a->pages, a->page_count, &job->range);
    if (!job->error) {
        errno = 0;
        job->ib = ibv_reg_mr_iova(job->pd, job->range.host + a->start % RDMA_PAGE_SIZE, a->length,
                                  a->start, access_of(a->access));
        if (!job->ib)
            job->error = errno ? -errno : -ENOMEM;
    }
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
            complain(verbs, segment->size, error);
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
