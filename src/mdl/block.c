/* SPDX-License-Identifier: MIT */
/*
 * Where the MDLs of IoAllocateMdl live: blocks of 64 bytes and multiples in an address range of their own.
 *
 *     | prefix 16 | MDL header 48 | PFN array, 64-byte aligned ............ |
 *     ^ block, 64-byte aligned
 *
 * A block for up to BIG_PAGES PFNs belongs to a class by its size. A thread keeps freed blocks of each class for itself,
 * and trades with the shared lists a batch at a time. A larger block is a run of pages of its own.
 *
 * The prefix is read only for addresses of the range, so "is this MDL ours" is one subtraction and one comparison.
 */

#include "mdl/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    UNIT        = 64,
    BIG_PAGES   = 256,
    NCLASSES    = 1 + (BIG_PAGES * 8 + UNIT - 1) / UNIT + 1,        /* a class for each count of units */
    CHUNK_PAGES = 16,                   /* cut into blocks of one class at a time */
    CACHE_MOST  = 64,                   /* blocks of one class that a thread keeps */
    BATCH       = 32,
};

#define RANGE_BYTES ((size_t)2 << 30)

enum { BLOCK_LIVE = 0x4C444D76, BLOCK_FREE = 0x6C646D66 };          /* "vMDL", "fmdl" */

struct block {
    struct block *next;                 /* while free */
    uint32_t      capacity;             /* PFNs, while live */
    uint32_t      state;
    MDL           mdl;
};
_Static_assert(offsetof(struct block, mdl) == 16 && sizeof(struct block) == UNIT, "the PFN array starts a cache line");

/* Blocks that this thread freed, by class; worthless when their generation is not the machine's. */
struct cache {
    uint32_t      generation;
    uint32_t      count[NCLASSES];
    struct block *head[NCLASSES];
};
static _Thread_local struct cache cache;

struct mdl_blocks {
    uintptr_t         base;             /* of the range */
    struct host_mutex lock;             /* guards what follows */
    struct rtl_buddy  pages;
    void             *bitmaps;
    size_t            bitmaps_bytes;
    struct block     *shared[NCLASSES];
};

static struct block *block_of(const MDL *mdl)
{
    return CONTAINING_RECORD(mdl, struct block, mdl);
}

static size_t block_bytes(size_t npages)
{
    return (sizeof(struct block) + npages * sizeof(PFN_NUMBER) + UNIT - 1) & ~(size_t)(UNIT - 1);
}

static unsigned class_of(size_t npages)
{
    return (unsigned)(block_bytes(npages) / UNIT) - 1;
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
    const size_t bytes = (size_t)(class + 1) * UNIT;
    char *chunk = take_pages_locked(blocks, CHUNK_PAGES);

    for (size_t off = 0; chunk != NULL && off + bytes <= (size_t)CHUNK_PAGES * HOST_PAGE_SIZE; off += bytes) {
        struct block *block = (struct block *)(chunk + off);

        block->state = BLOCK_FREE;
        push(&blocks->shared[class], block);
    }
}

static void refill(struct mdl_blocks *blocks, unsigned class)
{
    host_mutex_lock(&blocks->lock);
    if (blocks->shared[class] == NULL)
        cut_chunk_locked(blocks, class);
    while (cache.count[class] < BATCH && blocks->shared[class] != NULL) {
        push(&cache.head[class], pop(&blocks->shared[class]));
        cache.count[class]++;
    }
    host_mutex_unlock(&blocks->lock);
}

static void spill(struct mdl_blocks *blocks, unsigned class, uint32_t keep)
{
    host_mutex_lock(&blocks->lock);
    while (cache.count[class] > keep) {
        push(&blocks->shared[class], pop(&cache.head[class]));
        cache.count[class]--;
    }
    host_mutex_unlock(&blocks->lock);
}

/* At a thread's first use of its cache since boot: what it holds is an earlier machine's, and thread_exit must see the thread. */
static void open_cache(const struct machine *machine)
{
    if (UNLIKELY(cache.generation != machine->generation)) {
        memset(&cache, 0, sizeof(cache));
        cache.generation = machine->generation;
        ke_self();
    }
}

/* ---- take and give ---- */

static struct block *take_small(struct machine *machine, unsigned class)
{
    open_cache(machine);
    if (cache.head[class] == NULL)
        refill(machine->mdl->blocks, class);
    if (cache.head[class] == NULL)
        return NULL;
    cache.count[class]--;
    return pop(&cache.head[class]);
}

static void give_small(struct machine *machine, unsigned class, struct block *block)
{
    open_cache(machine);
    push(&cache.head[class], block);
    if (++cache.count[class] > CACHE_MOST)
        spill(machine->mdl->blocks, class, CACHE_MOST - BATCH);
}

static size_t pages_of_large(size_t npages)
{
    return span_bytes_to_pages(block_bytes(npages));
}

PMDL mdl_block_take(struct machine *machine, size_t npages)
{
    struct block *block;

    if (ke_internal_fails())
        return NULL;
    if (npages <= BIG_PAGES)
        block = take_small(machine, class_of(npages));
    else
        block = take_pages(machine->mdl->blocks, pages_of_large(npages));
    if (block == NULL)
        return NULL;
    block->capacity = (uint32_t)npages;
    block->state = BLOCK_LIVE;
    return &block->mdl;
}

void mdl_block_give(struct machine *machine, PMDL mdl)
{
    struct block *block = block_of(mdl);
    const size_t npages = block->capacity;

    VERIFY(block->state == BLOCK_LIVE);
    block->state = BLOCK_FREE;
    if (npages <= BIG_PAGES)
        give_small(machine, class_of(npages), block);
    else
        give_pages(machine->mdl->blocks, block, pages_of_large(npages));
}

bool mdl_block_is_ours(const struct machine *machine, const MDL *mdl)
{
    return (uintptr_t)mdl - machine->mdl->blocks->base < RANGE_BYTES;
}

bool mdl_block_is_live(const struct machine *machine, const MDL *mdl)
{
    return mdl_block_is_ours(machine, mdl) && (uintptr_t)mdl % UNIT == offsetof(struct block, mdl)
        && block_of(mdl)->state == BLOCK_LIVE;
}

size_t mdl_capacity(const struct machine *machine, const MDL *mdl)
{
    if (mdl_block_is_live(machine, mdl))
        return block_of(mdl)->capacity;
    return (size_t)(USHORT)mdl->Size < sizeof(MDL) ? 0 : ((USHORT)mdl->Size - sizeof(MDL)) / sizeof(PFN_NUMBER);
}

/* ---- boot, shutdown, the end of a thread ---- */

int mdl_blocks_boot(struct machine *machine)
{
    const size_t npages = RANGE_BYTES / HOST_PAGE_SIZE;
    struct mdl_blocks *blocks = calloc(1, sizeof(*blocks));
    void *base;

    if (blocks == NULL)
        return -ENOMEM;
    blocks->bitmaps_bytes = span_bytes_to_pages(rtl_buddy_bytes(npages)) * HOST_PAGE_SIZE;
    if (host_table(blocks->bitmaps_bytes, &blocks->bitmaps) != 0 || host_table(RANGE_BYTES, &base) != 0) {
        host_release(blocks->bitmaps, blocks->bitmaps_bytes);
        free(blocks);
        return -ENOMEM;
    }
    blocks->base = (uintptr_t)base;
    host_mutex_init(&blocks->lock);
    rtl_buddy_init(&blocks->pages, npages, blocks->bitmaps);
    rtl_buddy_give(&blocks->pages, 0, npages);
    machine->mdl->blocks = blocks;
    return 0;
}

void mdl_blocks_shutdown(struct machine *machine)
{
    struct mdl_blocks *blocks = machine->mdl->blocks;

    host_release((void *)blocks->base, RANGE_BYTES);
    host_release(blocks->bitmaps, blocks->bitmaps_bytes);
    host_mutex_destroy(&blocks->lock);
    free(blocks);
}

void mdl_blocks_leave_thread(struct machine *machine)
{
    open_cache(machine);
    for (unsigned class = 0; class < NCLASSES; class++)
        if (cache.count[class] != 0)
            spill(machine->mdl->blocks, class, 0);
}
