/* SPDX-License-Identifier: MIT */
/*
 * DMA domains: the table that an IOMMU walks, from logical pages to physical ones, with what the device may do there.
 *
 * The table is flat and sparse. An entry is read without a lock, as the hardware would; it is 0 for what is not mapped.
 * Logical pages are handed out in a circle, so that a device which uses an old address meets a hole and not a stranger.
 */

#include "dma/dma.h"

#include <stdlib.h>

enum { ACCESS_BITS = 2 };

static const uint64_t RESERVED = 1ull << 63;

static size_t table_bytes(const struct dma_domain *domain)
{
    return span_bytes_to_pages(((size_t)domain->first + domain->npages) * sizeof(uint64_t)) * HOST_PAGE_SIZE;
}

struct dma_domain *dma_domain_new(uint32_t first, uint32_t npages)
{
    struct dma_domain *domain = ke_internal_fails() ? NULL : calloc(1, sizeof(*domain));
    void *table;

    if (domain == NULL)
        return NULL;
    domain->uses = 1;
    domain->first = domain->cursor = first;
    domain->npages = npages;
    if (host_table(table_bytes(domain), &table) != 0) {
        free(domain);
        return NULL;
    }
    domain->table = table;
    host_mutex_init(&domain->lock);
    return domain;
}

void dma_domain_use(struct dma_domain *domain)
{
    host_mutex_lock(&domain->lock);
    domain->uses++;
    host_mutex_unlock(&domain->lock);
}

void dma_domain_unuse(struct dma_domain *domain)
{
    bool last;

    host_mutex_lock(&domain->lock);
    last = --domain->uses == 0;
    host_mutex_unlock(&domain->lock);
    if (!last)
        return;
    host_mutex_destroy(&domain->lock);
    host_release((void *)domain->table, table_bytes(domain));
    free(domain);
}

/* ---- logical pages ---- */

static void set(struct dma_domain *domain, uint32_t la_page, uint64_t entry)
{
    atomic_store_explicit(&domain->table[la_page], entry, memory_order_release);
}

static uint64_t get(const struct dma_domain *domain, uint64_t la_page)
{
    return atomic_load_explicit(&domain->table[la_page], memory_order_acquire);
}

/* The first run of free pages in [from, end); end: there is none. */
static uint32_t find_run_locked(const struct dma_domain *domain, uint32_t npages, uint32_t from, uint32_t end)
{
    uint32_t run = 0;

    for (uint32_t page = from; page < end; page++) {
        run = get(domain, page) == 0 ? run + 1 : 0;
        if (run == npages)
            return page + 1 - npages;
    }
    return end;
}

static bool take_locked(struct dma_domain *domain, uint32_t npages, uint32_t low, uint32_t end, uint32_t *first)
{
    const uint32_t from = domain->cursor > low && domain->cursor < end ? domain->cursor : low;
    uint32_t found = find_run_locked(domain, npages, from, end);

    if (found == end && from > low)
        found = find_run_locked(domain, npages, low, end);
    if (found == end)
        return false;
    for (uint32_t i = 0; i < npages; i++)
        set(domain, found + i, RESERVED);
    domain->cursor = found + npages;
    *first = found;
    return true;
}

static bool take(struct dma_domain *domain, uint32_t npages, uint32_t low, uint32_t high, uint32_t *first)
{
    bool taken;

    if (npages == 0 || low > high || npages > high - low + 1)
        return false;
    host_mutex_lock(&domain->lock);
    taken = take_locked(domain, npages, low, high + 1, first);
    host_mutex_unlock(&domain->lock);
    return taken;
}

static uint32_t middle(const struct dma_domain *domain)
{
    return domain->first + domain->npages / 2;
}

static uint32_t last(const struct dma_domain *domain)
{
    return domain->first + domain->npages - 1;
}

/* The upper half only for those who insist on it. */
bool dma_domain_take(struct dma_domain *domain, uint32_t npages, uint32_t low, uint32_t high, uint32_t *first)
{
    const uint32_t end = low < middle(domain) ? middle(domain) - 1 : last(domain);

    return take(domain, npages, low < domain->first ? domain->first : low, high < end ? high : end, first);
}

bool dma_domain_take_for_transfer(struct dma_domain *domain, uint32_t npages, uint32_t *first)
{
    return take(domain, npages, middle(domain), last(domain), first);
}

void dma_domain_map(struct dma_domain *domain, uint32_t la_page, PFN_NUMBER pfn, unsigned access)
{
    set(domain, la_page, (uint64_t)pfn << ACCESS_BITS | access);
}

void dma_domain_unmap(struct dma_domain *domain, uint32_t first, uint32_t npages)
{
    for (uint32_t i = 0; i < npages; i++)
        set(domain, first + i, RESERVED);
}

void dma_domain_give(struct dma_domain *domain, uint32_t first, uint32_t npages)
{
    host_mutex_lock(&domain->lock);
    for (uint32_t i = 0; i < npages; i++)
        set(domain, first + i, 0);
    host_mutex_unlock(&domain->lock);
}

bool dma_domain_translate(const struct dma_domain *domain, uint64_t la_page, unsigned access, PFN_NUMBER *pfn)
{
    uint64_t entry;

    if (la_page < domain->first || la_page - domain->first >= domain->npages)
        return false;
    entry = get(domain, la_page);
    if (entry == 0 || entry == RESERVED || (entry & access) != access)
        return false;
    *pfn = entry >> ACCESS_BITS;
    return true;
}
