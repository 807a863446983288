/* SPDX-License-Identifier: MIT */
/*
 * Pool: nonpaged in the RAM window, paged in a space of its own; the same allocator over two supplies of pages.
 *
 *     small (up to half a page)   a page cut into equal blocks, multiples of 16 bytes; no block crosses the page
 *     large                       whole pages, page aligned
 *
 * What is known about a block (size as asked for, tag) stands in a `struct pool_run` outside the pool: every byte of
 * the pool belongs to drivers, and an overrun harms only their data.
 */

#include "mm/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    GRANULE      = 16,
    SMALL_MAX    = SPAN_PAGE_SIZE / 2,
    MOST_BLOCKS  = SPAN_PAGE_SIZE / GRANULE,
    NCLASSES     = SMALL_MAX / GRANULE + 1,
    CACHE_LINE   = 64,
};

struct pool_block {
    size_t      bytes;                  /* as asked for */
    const void *driver;                 /* whose code allocated it, NULL for the host program's */
    ULONG       tag;
    bool        used;
    uint8_t     owner;                  /* enum pool_owner */
};

/* One page of small blocks, or the pages of one large block. */
struct pool_run {
    LIST_ENTRY        link;             /* small, with free blocks: in its class's list */
    uintptr_t         va;
    uint32_t          npages;
    uint32_t          block_bytes;      /* small: of each; 0: one large block */
    uint32_t          nblocks, nused, hint;
    bool              executable;
    struct pool_block block[];
};

/* Key: (C) constant (L) under the lock. Invariant: run_of[i] != NULL exactly for pages that belong to a run. */
struct pool {
    struct mm_space  *space;            /* (C) NULL: the RAM window */
    uintptr_t         base;             /* (C) */
    size_t            npages;           /* (C) */
    struct pool_run **run_of;           /* (L) one a page */
    LIST_ENTRY        partial[2][NCLASSES];     /* (L) runs with a free block; plain and executable, by block size */
    uint64_t          live;             /* (L) blocks allocated */
    struct host_mutex lock;
};

struct mm_pool {
    struct pool nonpaged;
    struct pool paged;
};

/* ---- supplies of pages ---- */

static uintptr_t take_pages(struct machine *machine, const struct pool *pool, uint32_t npages, bool executable)
{
    uint32_t first;

    if (pool->space != NULL)
        return mm_space_allocate(machine, pool->space, npages, MM_READ | MM_WRITE);
    if (!mm_frames_take_whole(machine, npages, &first))
        return 0;
    mm_frames_mark(machine, first, npages, MM_FRAME_POOL);
    if (executable)
        mm_frames_allow_execution(machine, first, npages);
    return (uintptr_t)mm_window_va(machine, first);
}

/* Bug check 0x4E/0x9A for a page of paged pool that is still locked for I/O. */
static void require_unpinned(const struct machine *machine, const struct mm_space *space, uintptr_t va, uint32_t npages)
{
    const uint32_t first = mm_space_page(space, va);

    if (mm_space_pins_on(machine, space, first, npages) == 0)
        return;
    for (uint32_t page = first; page < first + npages; page++)
        if (mm_space_pins_on(machine, space, page, 1) != 0)
            ke_bug_check(PFN_LIST_CORRUPT, 0x9A, space->pfns[page], MM_FRAME_SPACE, mm_space_pins_on(machine, space, page, 1));
}

static void give_pages(struct machine *machine, const struct pool *pool, uintptr_t va, uint32_t npages)
{
    uint32_t first;

    if (pool->space != NULL) {
        require_unpinned(machine, pool->space, va, npages);
        VERIFY(mm_space_free(machine, pool->space, va));
        return;
    }
    VERIFY(mm_window_page(machine, va, &first));
    mm_frames_give_unpinned(machine, first, npages);
}

/* ---- runs ---- */

static size_t page_index(const struct pool *pool, uintptr_t va)
{
    return (va - pool->base) >> SPAN_PAGE_SHIFT;
}

static void set_run_locked(struct pool *pool, const struct pool_run *run, struct pool_run *value)
{
    for (uint32_t i = 0; i < run->npages; i++)
        pool->run_of[page_index(pool, run->va) + i] = value;
}

static struct pool_run *add_run_locked(struct machine *machine, struct pool *pool, uint32_t npages, uint32_t nblocks, bool executable)
{
    struct pool_run *run = ke_internal_fails() ? NULL : calloc(1, sizeof(*run) + nblocks * sizeof(run->block[0]));

    if (run == NULL)
        return NULL;
    run->va = take_pages(machine, pool, npages, executable);
    if (run->va == 0) {
        free(run);
        return NULL;
    }
    run->npages = npages;
    run->nblocks = nblocks;
    run->executable = executable;
    set_run_locked(pool, run, run);
    return run;
}

static void remove_run_locked(struct machine *machine, struct pool *pool, struct pool_run *run)
{
    set_run_locked(pool, run, NULL);
    give_pages(machine, pool, run->va, run->npages);
    free(run);
}

/* ---- small blocks ---- */

/* The driver to whose account the block is put; none's for what the system keeps. */
static const void *account_of(const struct pool_request *request)
{
    return request->owner == POOL_OF_SYSTEM ? NULL : ke_self()->driver;
}

static void fill_in(struct pool_run *run, uint32_t i, const struct pool_request *request)
{
    run->nused++;
    run->block[i] = (struct pool_block){
        .bytes = request->bytes, .tag = request->tag, .used = true, .owner = (uint8_t)request->owner, .driver = account_of(request)};
}

static LIST_ENTRY *partial_list(struct pool *pool, uint32_t block_bytes, bool executable)
{
    return &pool->partial[executable][block_bytes / GRANULE];
}

static struct pool_run *run_with_room_locked(struct machine *machine, struct pool *pool, uint32_t block_bytes, bool executable)
{
    LIST_ENTRY *partial = partial_list(pool, block_bytes, executable);
    struct pool_run *run;

    if (!IsListEmpty(partial))
        return CONTAINING_RECORD(partial->Flink, struct pool_run, link);
    run = add_run_locked(machine, pool, 1, SPAN_PAGE_SIZE / block_bytes, executable);
    if (run == NULL)
        return NULL;
    run->block_bytes = block_bytes;
    InsertHeadList(partial, &run->link);
    return run;
}

static uint32_t free_block_locked(const struct pool_run *run)
{
    uint32_t i = run->hint;

    while (run->block[i].used)
        i = (i + 1) % run->nblocks;
    return i;
}

static uintptr_t allocate_small_locked(struct machine *machine, struct pool *pool, uint32_t block_bytes,
                                       const struct pool_request *request)
{
    struct pool_run *run = run_with_room_locked(machine, pool, block_bytes, request->executable);
    uint32_t i;

    if (run == NULL)
        return 0;
    i = free_block_locked(run);
    fill_in(run, i, request);
    run->hint = (i + 1) % run->nblocks;
    if (run->nused == run->nblocks)
        RemoveEntryList(&run->link);
    return run->va + (uintptr_t)i * run->block_bytes;
}

static void free_small_locked(struct machine *machine, struct pool *pool, struct pool_run *run, uint32_t i)
{
    if (run->nused == run->nblocks)
        InsertTailList(partial_list(pool, run->block_bytes, run->executable), &run->link);
    run->block[i].used = false;
    if (--run->nused != 0)
        return;
    RemoveEntryList(&run->link);
    remove_run_locked(machine, pool, run);
}

/* ---- allocate ---- */

static uintptr_t allocate_large_locked(struct machine *machine, struct pool *pool, const struct pool_request *request)
{
    const size_t npages = span_bytes_to_pages(request->bytes);
    struct pool_run *run = npages < pool->npages ? add_run_locked(machine, pool, (uint32_t)npages, 1, request->executable) : NULL;

    if (run == NULL)
        return 0;
    fill_in(run, 0, request);
    return run->va;
}

void *mm_pool_take(struct machine *machine, const struct pool_request *request)
{
    struct pool *pool = request->paged ? &machine->mm->pool->paged : &machine->mm->pool->nonpaged;
    const size_t granule = request->cache_aligned ? CACHE_LINE : GRANULE;
    const size_t bytes = request->bytes == 0 ? 1 : request->bytes;
    const size_t rounded = bytes > SMALL_MAX ? bytes : (bytes + granule - 1) / granule * granule;
    uintptr_t va;

    host_mutex_lock(&pool->lock);
    if (rounded <= SMALL_MAX)
        va = allocate_small_locked(machine, pool, (uint32_t)rounded, request);
    else
        va = allocate_large_locked(machine, pool, request);
    pool->live += va != 0;
    host_mutex_unlock(&pool->lock);
    return (void *)va;
}

void *mm_pool_allocate_mdl(struct machine *machine, size_t bytes)
{
    const struct pool_request request = {.bytes = bytes, .tag = 0x206C644D /* 'Mdl ' */, .owner = POOL_OF_MDL};
    void *block = mm_pool_take(machine, &request);

    if (block != NULL)
        ke_count(KE_MDLS_MADE, 1);
    return block;
}

static void *allocate_for_floor(struct machine *machine, const struct pool_request *request)
{
    return ke_internal_fails() ? NULL : mm_pool_take(machine, request);
}

void *mm_pool_allocate(struct machine *machine, POOL_TYPE type, size_t bytes, ULONG tag)
{
    struct pool_request request = mm_pool_request_of_type(type, bytes, tag);

    request.owner = POOL_OF_SYSTEM;
    return allocate_for_floor(machine, &request);
}

void *mm_pool_allocate_for_driver(struct machine *machine, POOL_TYPE type, size_t bytes, ULONG tag)
{
    const struct pool_request request = mm_pool_request_of_type(type, bytes, tag);

    return allocate_for_floor(machine, &request);
}

/* ---- find and free ---- */

static struct pool *pool_of(struct machine *machine, uintptr_t va)
{
    struct mm_pool *pools = machine->mm->pool;
    uint32_t page;

    if (mm_window_page(machine, va, &page))
        return &pools->nonpaged;
    return va - pools->paged.base < pools->paged.npages * SPAN_PAGE_SIZE ? &pools->paged : NULL;
}

/* The run and the number of the block that va lies in; false where no allocated block is. */
static bool find_locked(struct pool *pool, uintptr_t va, struct pool_run **run, uint32_t *index)
{
    *run = pool->run_of[page_index(pool, va)];
    if (*run == NULL)
        return false;
    *index = (*run)->block_bytes == 0 ? 0 : (uint32_t)((va - (*run)->va) / (*run)->block_bytes);
    return *index < (*run)->nblocks && (*run)->block[*index].used;
}

static struct mm_pool_block describe(const struct pool_run *run, uint32_t i)
{
    return (struct mm_pool_block){
        .va = run->va + (uintptr_t)i * run->block_bytes, .bytes = run->block[i].bytes, .tag = run->block[i].tag};
}

bool mm_pool_find(struct machine *machine, uintptr_t va, struct mm_pool_block *block)
{
    struct pool *pool = pool_of(machine, va);
    struct pool_run *run;
    uint32_t i;
    bool found;

    if (pool == NULL)
        return false;
    host_mutex_lock(&pool->lock);
    found = find_locked(pool, va, &run, &i);
    if (found)
        *block = describe(run, i);
    host_mutex_unlock(&pool->lock);
    return found;
}

/* Parameter 1 of bug check 0xC2. */
enum { POOL_ALREADY_FREE = 0x07, POOL_WRONG_TAG = 0x0A, POOL_BAD_ADDRESS = 0x46 };

static void require_freeable(const struct pool_run *run, uint32_t i, uintptr_t va, ULONG tag)
{
    const struct mm_pool_block block = describe(run, i);

    if (block.va != va)
        ke_bug_check(BAD_POOL_CALLER, POOL_BAD_ADDRESS, va, 0, 0);
    if (tag != 0 && tag != block.tag)
        ke_bug_check(BAD_POOL_CALLER, POOL_WRONG_TAG, va, block.tag, tag);
}

void mm_pool_give(struct machine *machine, uintptr_t va, ULONG tag)
{
    struct pool *pool = pool_of(machine, va);
    struct pool_run *run;
    uint32_t i;

    if (pool == NULL)
        ke_bug_check(BAD_POOL_CALLER, POOL_BAD_ADDRESS, va, 0, 0);
    host_mutex_lock(&pool->lock);
    if (!find_locked(pool, va, &run, &i))
        ke_bug_check(BAD_POOL_CALLER, POOL_ALREADY_FREE, 0, 0, va);
    require_freeable(run, i, va, tag);
    if (run->block[i].owner == POOL_OF_MDL)
        ke_count(KE_MDLS_FREED, 1);
    if (run->block_bytes == 0)
        remove_run_locked(machine, pool, run);
    else
        free_small_locked(machine, pool, run, i);
    pool->live--;
    host_mutex_unlock(&pool->lock);
}

void mm_pool_free(struct machine *machine, void *va)
{
    mm_pool_give(machine, (uintptr_t)va, 0);
}

/* ---- what was never freed ---- */

enum { MOST_TAGS = 64 };

/* Blocks of one tag that are still allocated. */
struct tag_count {
    ULONG    tag;
    uint64_t blocks, bytes;
};

static void count_block(struct tag_count *counts, const struct mm_pool_block *block)
{
    size_t i = 0;

    while (i < MOST_TAGS - 1 && counts[i].blocks != 0 && counts[i].tag != block->tag)
        i++;
    counts[i].tag = block->tag;
    counts[i].blocks++;
    counts[i].bytes += block->bytes;
}

static void count_run(struct tag_count *counts, const struct pool_run *run)
{
    for (uint32_t i = 0; i < run->nblocks; i++) {
        const struct mm_pool_block block = describe(run, i);

        if (run->block[i].used && run->block[i].owner == POOL_OF_DRIVER)
            count_block(counts, &block);
    }
}

static void warn_of_tag(const struct tag_count *count)
{
    char tag[5] = {0};

    for (unsigned i = 0; i < 4; i++) {
        const char c = (char)(count->tag >> (8 * i));

        tag[i] = c >= 0x20 && c < 0x7F ? c : '.';
    }
    ke_warn("pool-leak", "%llu blocks of pool with tag '%s', %llu bytes, were never freed", (unsigned long long)count->blocks, tag,
            (unsigned long long)count->bytes);
}

static void report_pool(const struct pool *pool)
{
    struct tag_count counts[MOST_TAGS] = {0};

    for (size_t page = 0; pool->live != 0 && page < pool->npages; page++) {
        if (pool->run_of[page] == NULL)
            continue;
        count_run(counts, pool->run_of[page]);
        page += pool->run_of[page]->npages - 1;
    }
    for (size_t i = 0; i < MOST_TAGS && counts[i].blocks != 0; i++)
        warn_of_tag(&counts[i]);
}

static uint64_t count_of_driver(const struct pool *pool, const void *driver)
{
    uint64_t count = 0;

    for (size_t page = 0; pool->live != 0 && page < pool->npages; page++) {
        const struct pool_run *run = pool->run_of[page];

        if (run == NULL)
            continue;
        for (uint32_t i = 0; i < run->nblocks; i++)
            count += run->block[i].used && run->block[i].driver == driver;
        page += run->npages - 1;
    }
    return count;
}

uint64_t mm_pool_blocks_of_driver(struct machine *machine, const void *driver)
{
    return count_of_driver(&machine->mm->pool->nonpaged, driver) + count_of_driver(&machine->mm->pool->paged, driver);
}

void mm_pool_report_leaks(struct machine *machine)
{
    report_pool(&machine->mm->pool->nonpaged);
    report_pool(&machine->mm->pool->paged);
}

/* ---- boot ---- */

static size_t table_bytes(const struct pool *pool)
{
    return span_bytes_to_pages(pool->npages * sizeof(pool->run_of[0])) * HOST_PAGE_SIZE;
}

static int open_pool(struct pool *pool, struct mm_space *space, uintptr_t base, size_t npages)
{
    void *table;
    int error;

    *pool = (struct pool){.space = space, .base = base, .npages = npages};
    for (int i = 0; i < NCLASSES; i++) {
        InitializeListHead(&pool->partial[false][i]);
        InitializeListHead(&pool->partial[true][i]);
    }
    error = host_table(table_bytes(pool), &table);
    if (error != 0)
        return error;
    pool->run_of = table;
    host_mutex_init(&pool->lock);
    return 0;
}

/* Blocks that drivers never freed; their pages go with the machine. */
static void close_pool(struct pool *pool)
{
    if (pool->run_of == NULL)
        return;
    for (size_t page = 0; pool->live != 0 && page < pool->npages; page++) {
        struct pool_run *run = pool->run_of[page];

        if (run == NULL)
            continue;
        pool->live -= run->nused;
        page += run->npages - 1;
        free(run);
    }
    host_release(pool->run_of, table_bytes(pool));
    host_mutex_destroy(&pool->lock);
}

int mm_pool_boot(struct machine *machine)
{
    struct mm_state *mm = machine->mm;
    int error;

    mm->pool = calloc(1, sizeof(*mm->pool));
    if (mm->pool == NULL)
        return -ENOMEM;
    error = open_pool(&mm->pool->nonpaged, NULL, (uintptr_t)mm->window, mm->npages);
    if (error != 0)
        return error;
    return open_pool(&mm->pool->paged, mm->paged_pool, mm->paged_pool->base, mm->paged_pool->npages);
}

void mm_pool_shutdown(struct machine *machine)
{
    struct mm_state *mm = machine->mm;

    if (mm->pool == NULL)
        return;
    close_pool(&mm->pool->paged);
    close_pool(&mm->pool->nonpaged);
    free(mm->pool);
    mm->pool = NULL;
}
