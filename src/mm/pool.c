/* SPDX-License-Identifier: MIT */
/*
 * Pool: nonpaged in the RAM window, paged in a space of its own; the same allocator over two supplies of pages.
 *
 *     small (up to half a page)   a page cut into equal blocks, multiples of 16 bytes; no block crosses the page
 *     large                       whole pages, page aligned
 *     special                     for drivers, with the verifier's flag: up to a page, at the end of a page of its own
 *
 *         | guard | filler .... block .. filler | guard |       an overrun meets the guard at once; filler is compared at the free
 *
 * With pool tracking there is filler behind other blocks too: GRANULE bytes at least where they are small, what is left of the
 * last page where they are large.
 *
 * What is known about a block (size as asked for, tag) stands in a `struct pool_run` outside the pool: every byte of
 * the pool belongs to drivers, and an overrun harms only their data.
 */

#include "mm/pool.h"
#include "rtl/filler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    GRANULE      = 16,
    SMALL_MAX    = SPAN_PAGE_SIZE / 2,
    MOST_BLOCKS  = SPAN_PAGE_SIZE / GRANULE,
    NCLASSES     = SMALL_MAX / GRANULE + 1,
    CACHE_LINE   = 64,
    MOST_SPECIAL = 8192,                /* each takes two of the host's mappings, of which there are 65,530 */
};

struct pool_block {
    size_t      bytes;                  /* as asked for */
    const void *driver;                 /* whose code allocated it, NULL for the host program's */
    const void *allocated;              /* call stack; NULL: the verifier is off */
    ULONG       tag;
    bool        used;
    bool        filled;                 /* there is filler around it */
    uint8_t     owner;                  /* enum pool_owner */
};

/*
 * One page of small blocks, or the pages of one large or special block. The run of a special block stays when the block is
 * freed, so that a late access can be told, until its page is taken anew.
 */
struct pool_run {
    LIST_ENTRY        link;             /* small, with free blocks: in its class's list */
    uintptr_t         va;
    uint32_t          npages;
    uint32_t          block_bytes;      /* small: of each; 0: one large or special block */
    uint32_t          nblocks, nused, hint;
    uint32_t          off;              /* of the first block in the first page: 0, but for special ones */
    bool              executable;
    bool              special;
    const void       *freed;            /* special: call stack of the free */
    struct pool_block block[];
};

/* Key: (C) constant (L) under the lock. Invariant: run_of[i] != NULL exactly for pages that belong to a run, or did to a special one. */
struct pool {
    struct mm_space  *space;            /* (C) NULL: the RAM window */
    uintptr_t         base;             /* (C) */
    size_t            npages;           /* (C) */
    struct pool_run **run_of;           /* (L) one a page */
    LIST_ENTRY        partial[2][NCLASSES];     /* (L) runs with a free block; plain and executable, by block size */
    uint64_t          live;             /* (L) blocks allocated */
    uint64_t          nfreed;           /* (L) runs of special blocks that were freed */
    struct host_mutex lock;
};

struct mm_pool {
    struct pool nonpaged;
    struct pool paged;                  /* special blocks too: its pages have guards as they are */
    struct pool special;                /* nonpaged; without room when the verifier does not ask for it */
    _Atomic uint32_t nspecial;          /* blocks alive */
    uint32_t         most_special;
    uint32_t         behind;            /* a page of RAM that stands for guards in MDLs, + 1; under special's lock */
};

/* ---- supplies of pages ---- */

/* A frame of nonpaged pool, seen at an address with guards around it. */
static uintptr_t take_special_page(struct machine *machine, struct mm_space *space, bool executable)
{
    uintptr_t va;
    uint32_t page;
    PFN_NUMBER pfn;
    const struct mm_map_request request = {
        .pfns = &pfn, .npages = 1, .attributes = MM_READ | MM_WRITE | (executable ? MM_EXEC : 0)};

    if (!mm_frames_take_whole(machine, 1, &page))
        return 0;
    mm_frames_mark(machine, page, 1, MM_FRAME_POOL);
    pfn = mm_pfn_of_page(machine, page);
    if (!NT_SUCCESS(mm_space_map(machine, space, &request, &va))) {
        mm_frames_give(machine, page, 1);
        return 0;
    }
    mm_frame(machine, page)->owner_space = space->id;
    mm_frame(machine, page)->owner_page = mm_space_page(space, va);
    return va;
}

static void give_special_page(struct machine *machine, struct mm_space *space, uintptr_t va)
{
    uint32_t page;

    VERIFY(mm_page_of_pfn(machine, space->pfns[mm_space_page(space, va)], &page));
    mm_space_unmap(machine, space, va);
    mm_frames_give_unpinned(machine, page, 1);
}

static bool is_special(const struct pool *pool)
{
    return pool->space != NULL && pool->space->kind == MM_KIND_SPECIAL_POOL;
}

static uintptr_t take_pages(struct machine *machine, const struct pool *pool, uint32_t npages, bool executable)
{
    uint32_t first;

    if (is_special(pool))
        return take_special_page(machine, pool->space, executable);
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

    if (is_special(pool)) {
        give_special_page(machine, pool->space, va);
        return;
    }
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

/* The pages of a new run may have been special blocks, of which no more is told then. */
static void forget_freed_locked(struct pool *pool, const struct pool_run *run)
{
    for (uint32_t i = 0; i < run->npages && pool->nfreed != 0; i++) {
        struct pool_run *freed = pool->run_of[page_index(pool, run->va) + i];

        pool->nfreed -= freed != NULL;
        free(freed);
    }
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
    forget_freed_locked(pool, run);
    set_run_locked(pool, run, run);
    return run;
}

static void remove_run_locked(struct machine *machine, struct pool *pool, struct pool_run *run)
{
    give_pages(machine, pool, run->va, run->npages);
    if (run->special) {
        pool->nfreed++;
        return;
    }
    set_run_locked(pool, run, NULL);
    free(run);
}

/* ---- blocks ---- */

/* The driver to whose account the block is put; none's for what the system keeps. */
static const void *account_of(const struct pool_request *request)
{
    return request->owner == POOL_OF_SYSTEM ? NULL : ke_self()->driver;
}

static const void *remember(const struct machine *machine, struct ke_site site)
{
    return machine->hooks.remember == NULL ? NULL : machine->hooks.remember(site);
}

static void fill_in(const struct machine *machine, struct pool_run *run, uint32_t i, const struct pool_request *request)
{
    run->nused++;
    run->block[i] = (struct pool_block){
        .bytes = request->bytes, .tag = request->tag, .used = true, .owner = (uint8_t)request->owner, .driver = account_of(request),
        .allocated = remember(machine, request->site)};
}

static struct ke_pool_block describe(const struct pool_run *run, uint32_t i)
{
    const struct pool_block *block = &run->block[i];

    return (struct ke_pool_block){
        .va = run->va + run->off + (uintptr_t)i * run->block_bytes, .bytes = block->bytes, .tag = block->tag,
        .allocated = block->allocated, .freed = run->freed};
}

/* ---- what lies around a block ---- */

static bool tracks(const struct machine *machine, const struct pool_request *request)
{
    return (machine->options.verifier & KE_VERIFIER_POOL_TRACKING) && request->owner != POOL_OF_SYSTEM;
}

/* Different from page to page: what is copied from one block to another does not look whole. */
static uint8_t filler_of(const struct pool_run *run)
{
    return (uint8_t)((run->va >> SPAN_PAGE_SHIFT) * 37 | 1);
}

/* Where the filler in front of a block begins, and where that behind it ends. */
static uintptr_t filler_begin(const struct pool_run *run, uint32_t i)
{
    return run->special ? run->va : describe(run, i).va;
}

static uintptr_t filler_end(const struct pool_run *run, uint32_t i)
{
    return run->block_bytes != 0 ? describe(run, i).va + run->block_bytes : run->va + run->npages * SPAN_PAGE_SIZE;
}

static void fill_around(struct pool_run *run, uint32_t i)
{
    const struct ke_pool_block block = describe(run, i);
    const uintptr_t begin = filler_begin(run, i), behind = block.va + block.bytes;

    memset((void *)begin, filler_of(run), block.va - begin);
    memset((void *)behind, filler_of(run), filler_end(run, i) - behind);
    run->block[i].filled = true;
}

/* Is all of [va + 1, to) whole, and at va one bit wrong? */
static bool is_one_bit(const struct pool_run *run, uintptr_t va, uintptr_t to)
{
    return __builtin_popcount(*(const uint8_t *)va ^ filler_of(run)) == 1 && rtl_find_damage(va + 1, to, filler_of(run)) == to;
}

static bool is_damaged(const struct pool_run *run, uint32_t i, struct ke_pool_damage *damage)
{
    const struct ke_pool_block block = describe(run, i);
    const uintptr_t end = filler_end(run, i);
    uintptr_t to = block.va, va = rtl_find_damage(filler_begin(run, i), to, filler_of(run));

    if (va == to) {
        to = end;
        va = rtl_find_damage(block.va + block.bytes, to, filler_of(run));
    }
    if (va == end)
        return false;
    *damage = (struct ke_pool_damage){.block = block, .va = va, .special = run->special, .one_bit = is_one_bit(run, va, to)};
    return true;
}

/* ---- small blocks ---- */


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
    fill_in(machine, run, i, request);
    if (tracks(machine, request))
        fill_around(run, i);
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

/* ---- large blocks ---- */

static uintptr_t allocate_large_locked(struct machine *machine, struct pool *pool, const struct pool_request *request)
{
    const size_t npages = span_bytes_to_pages(request->bytes);
    struct pool_run *run = npages < pool->npages ? add_run_locked(machine, pool, (uint32_t)npages, 1, request->executable) : NULL;

    if (run == NULL)
        return 0;
    fill_in(machine, run, 0, request);
    if (tracks(machine, request))
        fill_around(run, 0);
    return run->va;
}

/* ---- special blocks ---- */

static uintptr_t allocate_special_locked(struct machine *machine, struct pool *pool, const struct pool_request *request, size_t granule)
{
    const size_t bytes = request->bytes == 0 ? 1 : request->bytes;
    struct pool_run *run = add_run_locked(machine, pool, 1, 1, request->executable);

    if (run == NULL)
        return 0;
    run->special = true;
    run->off = (uint32_t)((SPAN_PAGE_SIZE - bytes) / granule * granule);
    fill_in(machine, run, 0, request);
    fill_around(run, 0);
    pool->live++;
    return run->va + run->off;
}

/* Only what a driver frees, and as long as there is room; 0: ordinary pool will do. */
static uintptr_t take_special(struct machine *machine, const struct pool_request *request, size_t granule)
{
    struct mm_pool *pools = machine->mm->pool;
    struct pool *pool = request->paged ? &pools->paged : &pools->special;
    uintptr_t va = 0;

    if (!(machine->options.verifier & KE_VERIFIER_SPECIAL_POOL) || request->owner == POOL_OF_SYSTEM
        || request->bytes > SPAN_PAGE_SIZE || pool->run_of == NULL)
        return 0;
    if (atomic_fetch_add(&pools->nspecial, 1) < pools->most_special) {
        host_mutex_lock(&pool->lock);
        va = allocate_special_locked(machine, pool, request, granule);
        host_mutex_unlock(&pool->lock);
    }
    if (va == 0)
        atomic_fetch_sub(&pools->nspecial, 1);
    return va;
}

/* ---- allocate ---- */

void *mm_pool_take(struct machine *machine, const struct pool_request *request)
{
    struct pool *pool = request->paged ? &machine->mm->pool->paged : &machine->mm->pool->nonpaged;
    const size_t granule = request->cache_aligned ? CACHE_LINE : GRANULE;
    const size_t bytes = request->bytes == 0 ? 1 : request->bytes;
    const size_t filled = bytes <= SMALL_MAX && tracks(machine, request) ? bytes + GRANULE : bytes;
    const size_t rounded = filled > SMALL_MAX ? filled : (filled + granule - 1) / granule * granule;
    uintptr_t va = take_special(machine, request, granule);

    if (va != 0)
        return (void *)va;
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
    const struct pool_request request = {.bytes = bytes, .tag = 0x206C644D /* 'Mdl ' */, .owner = POOL_OF_MDL, .site = KE_SITE};
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
    struct pool_request request = mm_pool_request_of_type(type, bytes, tag);

    request.site = KE_SITE;
    return allocate_for_floor(machine, &request);
}

/* ---- find and free ---- */

static bool lies_in(const struct pool *pool, uintptr_t va)
{
    return va - pool->base < pool->npages * SPAN_PAGE_SIZE;
}

static struct pool *pool_of(struct machine *machine, uintptr_t va)
{
    struct mm_pool *pools = machine->mm->pool;

    if (lies_in(&pools->nonpaged, va))
        return &pools->nonpaged;
    if (lies_in(&pools->special, va))
        return &pools->special;
    return lies_in(&pools->paged, va) ? &pools->paged : NULL;
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

bool mm_pool_find(struct machine *machine, uintptr_t va, struct ke_pool_block *block)
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

bool mm_pool_find_freed(struct machine *machine, uintptr_t va, struct ke_pool_block *block)
{
    struct pool *pool = pool_of(machine, va);
    const struct pool_run *run;
    bool found;

    if (pool == NULL)
        return false;
    host_mutex_lock(&pool->lock);
    run = pool->run_of[page_index(pool, va)];
    found = run != NULL && run->special && !run->block[0].used;
    if (found)
        *block = describe(run, 0);
    host_mutex_unlock(&pool->lock);
    return found;
}

/* Parameter 1 of bug check 0xC2. */
enum { POOL_ALREADY_FREE = 0x07, POOL_WRONG_TAG = 0x0A, POOL_BAD_ADDRESS = 0x46 };

/* The report asks the pool: it is to be unlocked by then. */
static void require_freeable_locked(struct pool *pool, uintptr_t va, ULONG tag, struct pool_run **run, uint32_t *i)
{
    const bool found = find_locked(pool, va, run, i);
    const struct ke_pool_block block = found ? describe(*run, *i) : (struct ke_pool_block){0};

    if (found && block.va == va && (tag == 0 || tag == block.tag))
        return;
    host_mutex_unlock(&pool->lock);
    if (!found)
        ke_bug_check(BAD_POOL_CALLER, POOL_ALREADY_FREE, 0, 0, va);
    if (block.va != va)
        ke_bug_check(BAD_POOL_CALLER, POOL_BAD_ADDRESS, va, 0, 0);
    ke_bug_check(BAD_POOL_CALLER, POOL_WRONG_TAG, va, block.tag, tag);
}

static void require_undamaged_locked(const struct machine *machine, struct pool *pool, const struct pool_run *run, uint32_t i,
                                     struct ke_site site)
{
    struct ke_pool_damage damage;

    if (!run->block[i].filled || !is_damaged(run, i, &damage))
        return;
    host_mutex_unlock(&pool->lock);
    machine->hooks.pool_damaged(site, &damage);
}

static void release_locked(struct machine *machine, struct pool *pool, struct pool_run *run, uint32_t i, struct ke_site site)
{
    pool->live--;
    if (run->block[i].owner == POOL_OF_MDL)
        ke_count(KE_MDLS_FREED, 1);
    if (run->block_bytes != 0) {
        free_small_locked(machine, pool, run, i);
        return;
    }
    if (run->special) {
        atomic_fetch_sub(&machine->mm->pool->nspecial, 1);
        run->freed = remember(machine, site);
        run->block[i].used = false;
        run->nused = 0;
    }
    remove_run_locked(machine, pool, run);
}

void mm_pool_give(struct machine *machine, struct ke_site site, uintptr_t va, ULONG tag)
{
    struct pool *pool = pool_of(machine, va);
    struct pool_run *run;
    uint32_t i;

    if (pool == NULL)
        ke_bug_check(BAD_POOL_CALLER, POOL_BAD_ADDRESS, va, 0, 0);
    host_mutex_lock(&pool->lock);
    require_freeable_locked(pool, va, tag, &run, &i);
    require_undamaged_locked(machine, pool, run, i, site);
    release_locked(machine, pool, run, i, site);
    host_mutex_unlock(&pool->lock);
}

void mm_pool_free(struct machine *machine, void *va)
{
    mm_pool_give(machine, KE_SITE, (uintptr_t)va, 0);
}

/* ---- accesses that special pool tells of ---- */

bool mm_pool_page_behind(struct machine *machine, uintptr_t va, PFN_NUMBER *pfn)
{
    struct mm_pool *pools = machine->mm->pool;
    struct pool *pool = &pools->special;
    const size_t page = page_index(pool, va);
    uint32_t frame;
    bool guards;

    if (page == 0 || !lies_in(pool, va))
        return false;
    host_mutex_lock(&pool->lock);
    guards = pool->run_of[page] == NULL && pool->run_of[page - 1] != NULL && pool->run_of[page - 1]->nused != 0;
    if (guards && pools->behind == 0 && mm_frames_take_whole(machine, 1, &frame)) {
        mm_frames_mark(machine, frame, 1, MM_FRAME_POOL);
        pools->behind = frame + 1;
    }
    guards = guards && pools->behind != 0;
    if (guards)
        *pfn = mm_pfn_of_page(machine, pools->behind - 1);
    host_mutex_unlock(&pool->lock);
    return guards;
}

static const struct pool_run *special_run_locked(const struct pool *pool, size_t page)
{
    const struct pool_run *run = page < pool->npages ? pool->run_of[page] : NULL;

    return run != NULL && run->special ? run : NULL;
}

/* Whom an access concerns that met no page: the block that was freed there; else the one in front, as overruns are the rule. */
static const struct pool_run *concerned_locked(const struct pool *pool, size_t page)
{
    const struct pool_run *here = special_run_locked(pool, page);
    const struct pool_run *front = special_run_locked(pool, page - 1), *behind = special_run_locked(pool, page + 1);

    if (pool->run_of[page] != NULL)
        return here != NULL && here->nused == 0 ? here : NULL;
    if (front != NULL && front->nused != 0)
        return front;
    return behind != NULL && behind->nused != 0 ? behind : front;
}

void mm_pool_on_fault(struct machine *machine, const struct host_fault *fault)
{
    struct pool *pool = pool_of(machine, fault->va);
    struct ke_pool_fault told = {.access = mm_access_of(fault)};
    const struct pool_run *run;

    if (pool == NULL || !(machine->options.verifier & KE_VERIFIER_SPECIAL_POOL))
        return;
    host_mutex_lock(&pool->lock);
    run = concerned_locked(pool, page_index(pool, fault->va));
    if (run != NULL) {
        told.block = describe(run, 0);
        told.freed = !run->block[0].used;
    }
    host_mutex_unlock(&pool->lock);
    if (run != NULL)
        machine->hooks.pool_fault(&told);
}

/* ---- what was never freed ---- */

enum { MOST_TAGS = 64, MOST_TOLD = 3 };

/* Blocks of one tag that are still allocated. */
struct tag_count {
    ULONG    tag;
    uint64_t blocks, bytes;
    struct ke_pool_block told[MOST_TOLD];       /* the first of them */
};

static void count_block(struct tag_count *counts, const struct ke_pool_block *block)
{
    size_t i = 0;

    while (i < MOST_TAGS - 1 && counts[i].blocks != 0 && counts[i].tag != block->tag)
        i++;
    counts[i].tag = block->tag;
    if (counts[i].blocks < MOST_TOLD)
        counts[i].told[counts[i].blocks] = *block;
    counts[i].blocks++;
    counts[i].bytes += block->bytes;
}

static void count_run(struct tag_count *counts, const struct pool_run *run)
{
    for (uint32_t i = 0; i < run->nblocks; i++) {
        const struct ke_pool_block block = describe(run, i);

        if (run->block[i].used && run->block[i].owner == POOL_OF_DRIVER)
            count_block(counts, &block);
    }
}

static void warn_of_tag(const struct tag_count *count)
{
    const bool one = count->blocks == 1;
    struct ke_finding finding;
    char tag[KE_TAG_TEXT];

    ke_tag_text(count->tag, tag);
    ke_finding_begin(&finding);
    ke_warn("pool-leak", "%llu block%s of pool with tag '%s', %llu bytes, %s never freed", (unsigned long long)count->blocks,
            one ? "" : "s", tag, (unsigned long long)count->bytes, one ? "was" : "were");
    for (size_t i = 0; i < MOST_TOLD && i < count->blocks && ke_the_machine.hooks.tell_block != NULL; i++)
        ke_the_machine.hooks.tell_block(&count->told[i]);
    ke_finding_end(&finding);
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

/* What was found so far is `count`. */
static uint64_t find_of_driver(const struct pool *pool, const void *driver, uint64_t count, struct ke_pool_block *some, size_t room)
{

    for (size_t page = 0; pool->live != 0 && page < pool->npages; page++) {
        const struct pool_run *run = pool->run_of[page];

        if (run == NULL)
            continue;
        for (uint32_t i = 0; i < run->nblocks; i++) {
            if (!run->block[i].used || run->block[i].driver != driver)
                continue;
            if (count < room)
                some[count] = describe(run, i);
            count++;
        }
        page += run->npages - 1;
    }
    return count;
}

uint64_t mm_pool_blocks_of_driver(struct machine *machine, const void *driver, struct ke_pool_block *some, size_t room)
{
    const struct mm_pool *pools = machine->mm->pool;
    uint64_t count = find_of_driver(&pools->nonpaged, driver, 0, some, room);

    count = find_of_driver(&pools->special, driver, count, some, room);
    return find_of_driver(&pools->paged, driver, count, some, room);
}

void mm_pool_report_leaks(struct machine *machine)
{
    report_pool(&machine->mm->pool->nonpaged);
    report_pool(&machine->mm->pool->special);
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
    for (size_t page = 0; pool->live + pool->nfreed != 0 && page < pool->npages; page++) {
        struct pool_run *run = pool->run_of[page];

        if (run == NULL)
            continue;
        pool->live -= run->nused;
        pool->nfreed -= run->nused == 0;
        page += run->npages - 1;
        free(run);
    }
    host_release(pool->run_of, table_bytes(pool));
    host_mutex_destroy(&pool->lock);
}

/* A page for each block: the rest of RAM is for other things. */
static uint32_t most_special_in(uint64_t ram_pages)
{
    return ram_pages / 4 < MOST_SPECIAL ? (uint32_t)(ram_pages / 4) : MOST_SPECIAL;
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
    mm->pool->most_special = most_special_in(machine->options.ram_bytes >> SPAN_PAGE_SHIFT);
    error = open_pool(&mm->pool->paged, mm->paged_pool, mm->paged_pool->base, mm->paged_pool->npages);
    if (error != 0 || mm->special_pool == NULL)
        return error;
    return open_pool(&mm->pool->special, mm->special_pool, mm->special_pool->base, mm->special_pool->npages);
}

void mm_pool_shutdown(struct machine *machine)
{
    struct mm_state *mm = machine->mm;

    if (mm->pool == NULL)
        return;
    close_pool(&mm->pool->special);
    close_pool(&mm->pool->paged);
    close_pool(&mm->pool->nonpaged);
    free(mm->pool);
    mm->pool = NULL;
}
