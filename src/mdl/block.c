/* SPDX-License-Identifier: MIT */
/*
 * Where the MDLs of IoAllocateMdl live: the range, and what threads' caches ask it for. block.h shows a block.
 *
 * A thread trades blocks of a class with the others a magazine at a time. To give one away is one compare-and-swap, and nobody walks
 * through it; to take one needs the lock, so that no magazine can go and come back while another thread is about to take it.
 *
 *     magazines[class] -> first -> block -> block ...
 *                           |  the next magazine stands in the first block's MDL, in Next
 *                         first -> block -> block ...
 */

#include "mdl/block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_PAGES = 16,                   /* cut into blocks of one class at a time */
};

_Thread_local struct block_cache mdl_block_cache;

struct mdl_blocks {
    uintptr_t         base;             /* of the range */
    struct host_mutex lock;             /* guards what follows */
    struct rtl_buddy  pages;
    void             *bitmaps;
    size_t            bitmaps_bytes;
    _Atomic(struct block *) magazines[BLOCK_CLASSES];   /* anybody adds one, who takes one has the lock */
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

/* ---- magazines ---- */

static void give_magazine(struct mdl_blocks *blocks, unsigned class, struct block *first, uint32_t count)
{
    struct block *head = atomic_load_explicit(&blocks->magazines[class], memory_order_relaxed);

    first->capacity = count;
    host_hands_over(&blocks->magazines[class]);
    do
        first->mdl.Next = head == NULL ? NULL : &head->mdl;
    while (!atomic_compare_exchange_weak_explicit(&blocks->magazines[class], &head, first, memory_order_release, memory_order_relaxed));
}

static struct block *take_magazine_locked(struct mdl_blocks *blocks, unsigned class)
{
    struct block *first = atomic_load_explicit(&blocks->magazines[class], memory_order_acquire), *next;

    do {
        if (first == NULL)
            return NULL;
        next = first->mdl.Next == NULL ? NULL : block_of(first->mdl.Next);
    } while (!atomic_compare_exchange_weak_explicit(&blocks->magazines[class], &first, next, memory_order_acquire, memory_order_acquire));
    host_takes_over(&blocks->magazines[class]);
    return first;
}

/* Cut a new chunk into magazines of the class; nothing where the range is used up. */
static void cut_chunk_locked(struct mdl_blocks *blocks, unsigned class)
{
    const size_t bytes = (size_t)(class + 1) * BLOCK_UNIT;
    char *chunk = take_pages_locked(blocks, CHUNK_PAGES);
    struct block *magazine = NULL;
    uint32_t count = 0;

    for (size_t off = 0; chunk != NULL && off + bytes <= (size_t)CHUNK_PAGES * HOST_PAGE_SIZE; off += bytes) {
        struct block *block = (struct block *)(chunk + off);

        block->state = BLOCK_FREE;
        push(&magazine, block);
        if (++count < BLOCK_MAGAZINE)
            continue;
        give_magazine(blocks, class, magazine, count);
        magazine = NULL;
        count = 0;
    }
    if (count != 0)
        give_magazine(blocks, class, magazine, count);
}

static void refill(struct mdl_blocks *blocks, struct block_cache *cache, unsigned class)
{
    struct block *magazine;

    host_mutex_lock(&blocks->lock);
    magazine = take_magazine_locked(blocks, class);
    if (magazine == NULL) {
        cut_chunk_locked(blocks, class);
        magazine = take_magazine_locked(blocks, class);
    }
    host_mutex_unlock(&blocks->lock);
    cache->head[class] = magazine;
    cache->count[class] = magazine == NULL ? 0 : magazine->capacity;
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

/* The magazine is empty: the full one, or somebody else's. */
static void load_magazine(struct mdl_blocks *blocks, struct block_cache *cache, unsigned class)
{
    if (cache->full[class] == NULL) {
        refill(blocks, cache, class);
        return;
    }
    cache->head[class] = cache->full[class];
    cache->count[class] = BLOCK_MAGAZINE;
    cache->full[class] = NULL;
}

static struct block *take_small(struct machine *machine, unsigned class)
{
    struct block_cache *cache = open_cache(machine);

    if (cache->head[class] == NULL)
        load_magazine(machine->mdl->blocks, cache, class);
    if (cache->head[class] == NULL)
        return NULL;
    cache->count[class]--;
    return pop(&cache->head[class]);
}

/* The magazine is full: it is put beside, and the one that was there goes to the others. */
static void unload_magazine(struct mdl_blocks *blocks, struct block_cache *cache, unsigned class)
{
    if (cache->full[class] != NULL)
        give_magazine(blocks, class, cache->full[class], BLOCK_MAGAZINE);
    cache->full[class] = cache->head[class];
    cache->head[class] = NULL;
    cache->count[class] = 0;
}

static void give_small(struct machine *machine, unsigned class, struct block *block)
{
    struct block_cache *cache = open_cache(machine);

    if (cache->count[class] == BLOCK_MAGAZINE)
        unload_magazine(machine->mdl->blocks, cache, class);
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

    if (!block_give_own_large(cache, block))
        give_pages(machine->mdl->blocks, block, npages);
}

PMDL mdl_block_take(struct machine *machine, size_t npages)
{
    struct block *block;

    if (npages <= BLOCK_BIG_PAGES)
        block = take_small(machine, block_class(npages));
    else
        block = take_large(machine, pages_of_large(npages));
    return block == NULL ? NULL : block_start(block, npages);
}

void mdl_block_give(struct machine *machine, PMDL mdl)
{
    struct block *block = block_of(mdl);
    size_t npages;

    if (mdl_special_give(machine, mdl))
        return;
    npages = block->capacity;
    VERIFY(block->state == BLOCK_LIVE);
    block->state = BLOCK_FREE;
    if (npages <= BLOCK_BIG_PAGES)
        give_small(machine, block_class(npages), block);
    else
        give_large(machine, block, pages_of_large(npages));
}

bool mdl_block_is_ours(const struct machine *machine, const MDL *mdl)
{
    size_t capacity;

    return (uintptr_t)mdl - machine->mdl->blocks_base < BLOCK_RANGE_BYTES || mdl_special_place(machine, mdl, &capacity) != MDL_ELSEWHERE;
}

bool mdl_block_is_live(const struct machine *machine, const MDL *mdl)
{
    size_t capacity;
    const enum mdl_place place = mdl_special_place(machine, mdl, &capacity);

    return place == MDL_LIVE || (place == MDL_ELSEWHERE && block_is_live_at(machine->mdl->blocks_base, mdl));
}

size_t mdl_capacity(const struct machine *machine, const MDL *mdl)
{
    size_t capacity;

    if (mdl_special_place(machine, mdl, &capacity) == MDL_LIVE)
        return capacity;
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

    for (unsigned class = 0; class < BLOCK_CLASSES; class++) {
        if (cache->count[class] != 0)
            give_magazine(machine->mdl->blocks, class, cache->head[class], cache->count[class]);
        if (cache->full[class] != NULL)
            give_magazine(machine->mdl->blocks, class, cache->full[class], BLOCK_MAGAZINE);
        cache->head[class] = cache->full[class] = NULL;
        cache->count[class] = 0;
    }
    if (cache->large != NULL)
        give_pages(machine->mdl->blocks, cache->large, pages_of_large(cache->large->capacity));
    cache->large = NULL;
}
