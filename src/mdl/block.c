/* SPDX-License-Identifier: MIT */
/*
 * Where the MDLs of IoAllocateMdl live: the range, and what threads' caches ask it for. block.h shows a block.
 *
 * A thread trades blocks of a class with the shared lists a batch at a time.
 */

#include "mdl/block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_PAGES     = 16,               /* cut into blocks of one class at a time */
    BATCH           = 32,
    MOST_LARGE_KEPT = 64,               /* pages of a large block that a thread keeps */
};

_Thread_local struct block_cache mdl_block_cache;

struct mdl_blocks {
    uintptr_t         base;             /* of the range */
    struct host_mutex lock;             /* guards what follows */
    struct rtl_buddy  pages;
    void             *bitmaps;
    size_t            bitmaps_bytes;
    struct block     *shared[BLOCK_CLASSES];
};

/* Pages that a large block takes. */
static size_t pages_of_large(size_t npages)
{
    return span_bytes_to_pages(sizeof(struct block) + npages * sizeof(PFN_NUMBER));
}

/* ---- the range ---- */

static void *take_pages_locked(struct mdl_blocks *blocks, size_t npages)
{
    size_t first;
    const size_t got = rtl_buddy_take_run(&blocks->pages, npages, &first);

    if (got == npages)
        return (void *)(blocks->base + first * HOST_PAGE_SIZE);
    if (got != 0)
        rtl_buddy_give(&blocks->pages, first, got);
    return NULL;
}

static void *take_pages(struct mdl_blocks *blocks, size_t npages)
{
    void *pages;

    host_mutex_lock(&blocks->lock);
    pages = take_pages_locked(blocks, npages);
    host_mutex_unlock(&blocks->lock);
    return pages;
}

static void give_pages(struct mdl_blocks *blocks, const void *pages, size_t npages)
{
    host_mutex_lock(&blocks->lock);
    rtl_buddy_give(&blocks->pages, ((uintptr_t)pages - blocks->base) >> SPAN_PAGE_SHIFT, npages);
    host_mutex_unlock(&blocks->lock);
}

/* ---- lists ---- */

static void push(struct block **list, struct block *block)
{
    block->next = *list;
    *list = block;
}

static struct block *pop(struct block **list)
{
    struct block *block = *list;

    if (block != NULL)
        *list = block->next;
    return block;
}

/* Cut a new chunk into blocks of the class; nothing where the range is used up. */
static void cut_chunk_locked(struct mdl_blocks *blocks, unsigned class)
{
    const size_t bytes = (size_t)(class + 1) * BLOCK_UNIT;
    char *chunk = take_pages_locked(blocks, CHUNK_PAGES);

    for (size_t off = 0; chunk != NULL && off + bytes <= (size_t)CHUNK_PAGES * HOST_PAGE_SIZE; off += bytes) {
        struct block *block = (struct block *)(chunk + off);

        block->state = BLOCK_FREE;
        push(&blocks->shared[class], block);
    }
}

static void refill(struct mdl_blocks *blocks, struct block_cache *cache, unsigned class)
{
    host_mutex_lock(&blocks->lock);
    if (blocks->shared[class] == NULL)
        cut_chunk_locked(blocks, class);
    while (cache->count[class] < BATCH && blocks->shared[class] != NULL) {
        push(&cache->head[class], pop(&blocks->shared[class]));
        cache->count[class]++;
    }
    host_mutex_unlock(&blocks->lock);
}

static void spill(struct mdl_blocks *blocks, struct block_cache *cache, unsigned class, uint32_t keep)
{
    host_mutex_lock(&blocks->lock);
    while (cache->count[class] > keep) {
        push(&blocks->shared[class], pop(&cache->head[class]));
        cache->count[class]--;
    }
    host_mutex_unlock(&blocks->lock);
}

/* At a thread's first use of its cache since boot: what it holds is an earlier machine's, and thread_exit must see the thread. */
static struct block_cache *open_cache(const struct machine *machine)
{
    struct block_cache *cache = &mdl_block_cache;

    if (UNLIKELY(cache->generation != machine->generation)) {
        memset(cache, 0, sizeof(*cache));
        cache->generation = machine->generation;
        cache->base = machine->mdl->blocks_base;
        ke_self();
    }
    return cache;
}

/* ---- take and give ---- */

static struct block *take_small(struct machine *machine, unsigned class)
{
    struct block_cache *cache = open_cache(machine);

    if (cache->head[class] == NULL)
        refill(machine->mdl->blocks, cache, class);
    if (cache->head[class] == NULL)
        return NULL;
    cache->count[class]--;
    return pop(&cache->head[class]);
}

static void give_small(struct machine *machine, unsigned class, struct block *block)
{
    struct block_cache *cache = open_cache(machine);

    if (cache->count[class] == BLOCK_CACHE_MOST)
        spill(machine->mdl->blocks, cache, class, BLOCK_CACHE_MOST - BATCH);
    push(&cache->head[class], block);
    cache->count[class]++;
}

static struct block *take_large(struct machine *machine, size_t npages)
{
    struct block_cache *cache = open_cache(machine);
    struct block *kept = cache->large;

    if (kept == NULL || pages_of_large(kept->capacity) != npages)
        return take_pages(machine->mdl->blocks, npages);
    cache->large = NULL;
    return kept;
}

static void give_large(struct machine *machine, struct block *block, size_t npages)
{
    struct block_cache *cache = open_cache(machine);

    if (cache->large == NULL && npages <= MOST_LARGE_KEPT)
        cache->large = block;
    else
        give_pages(machine->mdl->blocks, block, npages);
}

PMDL mdl_block_take(struct machine *machine, size_t npages)
{
    struct block *block;

    if (ke_internal_fails())
        return NULL;
    if (npages <= BLOCK_BIG_PAGES)
        block = take_small(machine, block_class(npages));
    else
        block = take_large(machine, pages_of_large(npages));
    return block == NULL ? NULL : block_start(block, npages);
}

void mdl_block_give(struct machine *machine, PMDL mdl)
{
    struct block *block = block_of(mdl);
    const size_t npages = block->capacity;

    VERIFY(block->state == BLOCK_LIVE);
    block->state = BLOCK_FREE;
    if (npages <= BLOCK_BIG_PAGES)
        give_small(machine, block_class(npages), block);
    else
        give_large(machine, block, pages_of_large(npages));
}

bool mdl_block_is_ours(const struct machine *machine, const MDL *mdl)
{
    return (uintptr_t)mdl - machine->mdl->blocks_base < BLOCK_RANGE_BYTES;
}

bool mdl_block_is_live(const struct machine *machine, const MDL *mdl)
{
    return block_is_live_at(machine->mdl->blocks_base, mdl);
}

size_t mdl_capacity(const struct machine *machine, const MDL *mdl)
{
    return block_capacity_at(machine->mdl->blocks_base, mdl);
}

/* ---- boot, shutdown, the end of a thread ---- */

int mdl_blocks_boot(struct machine *machine)
{
    const size_t npages = BLOCK_RANGE_BYTES / HOST_PAGE_SIZE;
    struct mdl_blocks *blocks = calloc(1, sizeof(*blocks));
    void *base;

    if (blocks == NULL)
        return -ENOMEM;
    blocks->bitmaps_bytes = span_bytes_to_pages(rtl_buddy_bytes(npages)) * HOST_PAGE_SIZE;
    if (host_table(blocks->bitmaps_bytes, &blocks->bitmaps) != 0 || host_table(BLOCK_RANGE_BYTES, &base) != 0) {
        host_release(blocks->bitmaps, blocks->bitmaps_bytes);
        free(blocks);
        return -ENOMEM;
    }
    blocks->base = (uintptr_t)base;
    host_mutex_init(&blocks->lock);
    rtl_buddy_init(&blocks->pages, npages, blocks->bitmaps);
    rtl_buddy_give(&blocks->pages, 0, npages);
    machine->mdl->blocks = blocks;
    machine->mdl->blocks_base = blocks->base;
    return 0;
}

void mdl_blocks_shutdown(struct machine *machine)
{
    struct mdl_blocks *blocks = machine->mdl->blocks;

    host_release((void *)blocks->base, BLOCK_RANGE_BYTES);
    host_release(blocks->bitmaps, blocks->bitmaps_bytes);
    host_mutex_destroy(&blocks->lock);
    free(blocks);
}

void mdl_blocks_leave_thread(struct machine *machine)
{
    struct block_cache *cache = open_cache(machine);

    for (unsigned class = 0; class < BLOCK_CLASSES; class++)
        if (cache->count[class] != 0)
            spill(machine->mdl->blocks, cache, class, 0);
    if (cache->large != NULL)
        give_pages(machine->mdl->blocks, cache->large, pages_of_large(cache->large->capacity));
    cache->large = NULL;
}
