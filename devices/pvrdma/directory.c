/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * directory - page directories: how the driver names memory that is larger than a page
 *
 * Two levels, pages of 512 addresses of 64 bits each: the directory names tables, a table names
 * pages; one directory reaches 1 GiB. All of it is the guest's: every entry is read once, into
 * memory of our own, and must be the address of a page of RAM. An entry that is zero names nothing:
 * the driver fills as many as it says. Names may repeat: the pages are the guest's own.
 */
#include <errno.h>

#include "devices/pvrdma/private.h"

static bool is_page(uint64_t gpa)
{
    return gpa && !(gpa & (PVR_PAGE_SIZE - 1));
}

static int read_table(struct dma *dma, uint64_t table, uint64_t *gpa, uint32_t count)
{
    int ret;

    if (!is_page(table))
        return -EINVAL;
    ret = dma_read(dma, table, gpa, count * sizeof(*gpa));
    for (uint32_t i = 0; i < count && !ret; i++)
        if (!is_page(gpa[i]))
            ret = -EINVAL;
        else if (!dma_map_ring(dma, gpa[i], PVR_PAGE_SIZE))
            ret = -EFAULT;
    return ret;
}

int guest_pages_read(struct dma *dma, uint64_t pdir, uint32_t count, uint64_t **gpa)
{
    uint64_t tables[PVR_PAGES_A_TABLE];
    g_autofree uint64_t *pages = NULL;
    uint32_t table_count;
    int ret;

    if (!count || count > PVR_MAX_PAGES || !is_page(pdir))
        return -EINVAL;
    table_count = (count + PVR_PAGES_A_TABLE - 1) / PVR_PAGES_A_TABLE;
    ret = dma_read(dma, pdir, tables, table_count * sizeof(*tables));
    if (ret)
        return ret;
    pages = g_new(uint64_t, count);
    for (uint32_t i = 0; i < table_count && !ret; i++) {
        uint32_t first = i * PVR_PAGES_A_TABLE;

        ret = read_table(dma, tables[i], pages + first, MIN(count - first, PVR_PAGES_A_TABLE));
    }
    if (!ret)
        *gpa = g_steal_pointer(&pages);
    return ret;
}

/* Takes over @gpa. */
static int map_pages(struct guest_pages *pages, struct dma *dma, uint64_t *gpa, uint32_t count)
{
    pages->count = count;
    pages->gpa = gpa;
    pages->host = g_new(uint8_t *, count);
    for (uint32_t i = 0; i < count; i++) {
        pages->host[i] = is_page(gpa[i]) ? dma_map_ring(dma, gpa[i], PVR_PAGE_SIZE) : NULL;
        if (!pages->host[i]) {
            guest_pages_clear(pages);
            return -EFAULT;
        }
    }
    return 0;
}

int guest_pages_map(struct guest_pages *pages, struct dma *dma, uint64_t pdir, uint32_t count)
{
    uint64_t *gpa;
    int ret = guest_pages_read(dma, pdir, count, &gpa);

    return ret ? ret : map_pages(pages, dma, gpa, count);
}

int guest_pages_restore(struct guest_pages *pages, struct dma *dma, const uint64_t *gpa,
                        uint32_t count)
{
    return map_pages(pages, dma, g_memdup2(gpa, count * sizeof(*gpa)), count);
}

void guest_pages_clear(struct guest_pages *pages)
{
    g_free(pages->gpa);
    g_free(pages->host);
    *pages = (struct guest_pages){0};
}
