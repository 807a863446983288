/* SPDX-License-Identifier: MIT */
/*
 * Where the MDLs of IoAllocateMdl live, as far as allocating and freeing one without asking anybody: blocks of 64 bytes
 * and multiples in an address range of their own, and those that a thread keeps for itself. block.c has the rest.
 *
 *     | prefix 16 | MDL header 48 | PFN array, 64-byte aligned ............ |
 *     ^ block, 64-byte aligned
 *
 * A block for up to BLOCK_BIG_PAGES PFNs belongs to a class by its size, and each thread keeps freed blocks of each class: one
 * magazine that it takes from and gives to, and a full one, so that a thread that goes back and forth between the two trades with nobody. A
 * larger block is a run of pages of its own; of those a thread keeps the one that it freed last, unless it is very large.
 *
 * The prefix is read only for addresses of the range, so "is this MDL ours" is one subtraction and one comparison.
 */
#ifndef PINION_MDL_BLOCK_H
#define PINION_MDL_BLOCK_H

#include "mdl/state.h"

enum {
    BLOCK_UNIT        = 64,
    BLOCK_BIG_PAGES   = 256,
    BLOCK_CLASSES     = BLOCK_BIG_PAGES * 8 / BLOCK_UNIT + 1,        /* a class for each count of units behind the header */
    BLOCK_LARGE_PAGES = 32760,                                      /* a larger one, 256 KiB, is kept by no thread */
    BLOCK_MAGAZINE    = 32,                                         /* blocks of one class that go from thread to thread together */
};

#define BLOCK_RANGE_BYTES ((size_t)2 << 30)

enum { BLOCK_LIVE = 0x4C444D76, BLOCK_FREE = 0x6C646D66 };          /* "vMDL", "fmdl" */

struct block {
    struct block *next;                 /* while free: in its magazine */
    uint32_t      capacity;             /* PFNs, while live; of the first in a magazine that no thread has: how many blocks it holds */
    uint32_t      state;
    MDL           mdl;
};
_Static_assert(offsetof(struct block, mdl) == 16 && sizeof(struct block) == BLOCK_UNIT, "the PFN array starts a cache line");

/* Blocks that this thread freed; worthless when their generation is not the machine's. */
struct block_cache {
    uint32_t      generation;           /* never 0 once it has been opened, by a thread that ke knows */
    uintptr_t     base;                 /* of the range */
    uint32_t      count[BLOCK_CLASSES];
    struct block *head[BLOCK_CLASSES];
    struct block *full[BLOCK_CLASSES];  /* a whole magazine, or NULL */
    struct block *large;                /* with the capacity that it had; or NULL */
};
extern _Thread_local struct block_cache mdl_block_cache;

static inline struct block *block_of(const MDL *mdl)
{
    return CONTAINING_RECORD(mdl, struct block, mdl);
}

/* Ours, and allocated now? */
static inline bool block_is_live_at(uintptr_t base, const MDL *mdl)
{
    const uintptr_t off = (uintptr_t)mdl - base;

    return off < BLOCK_RANGE_BYTES && off % BLOCK_UNIT == offsetof(struct block, mdl) && block_of(mdl)->state == BLOCK_LIVE;
}

/* PFNs that there is room for, in whoever's memory the MDL lies. */
static inline size_t block_capacity_at(uintptr_t base, const MDL *mdl)
{
    if (LIKELY(block_is_live_at(base, mdl)))
        return block_of(mdl)->capacity;
    return (size_t)(USHORT)mdl->Size < sizeof(MDL) ? 0 : ((USHORT)mdl->Size - sizeof(MDL)) / sizeof(PFN_NUMBER);
}

static inline unsigned block_class(size_t npages)
{
    return (unsigned)((npages * sizeof(PFN_NUMBER) + BLOCK_UNIT - 1) / BLOCK_UNIT);
}

static inline PMDL block_start(struct block *block, size_t npages)
{
    block->capacity = (uint32_t)npages;
    block->state = BLOCK_LIVE;
    return &block->mdl;
}

/* The large block that was freed last, if it is for as many pages. */
static inline PMDL block_take_own_large(struct block_cache *cache, size_t npages)
{
    struct block *block = cache->large;

    if (block == NULL || block->capacity != npages)
        return NULL;
    cache->large = NULL;
    return block_start(block, npages);
}

static inline bool block_give_own_large(struct block_cache *cache, struct block *block)
{
    if (cache->large != NULL || block->capacity > BLOCK_LARGE_PAGES)
        return false;
    block->state = BLOCK_FREE;
    cache->large = block;
    return true;
}

/*
 * A block of this thread's own, in a plain machine; an uninitialised MDL, or NULL: ask mdl_block_take. This and its
 * counterpart are all that allocating and freeing an MDL costs, nearly always.
 */
static inline PMDL block_take_own(size_t npages)
{
    struct block_cache *cache = &mdl_block_cache;
    const unsigned class = block_class(npages);
    struct block *block;

    if (!ke_is_plain(cache->generation))
        return NULL;
    if (UNLIKELY(npages > BLOCK_BIG_PAGES))
        return block_take_own_large(cache, npages);
    if (UNLIKELY(cache->head[class] == NULL))
        return NULL;
    block = cache->head[class];
    cache->head[class] = block->next;
    cache->count[class]--;
    return block_start(block, npages);
}

/* Keep it for this thread, if nothing else is to be done with it. False: nothing was done, and it is not one that can be freed so. */
static inline bool block_give_own(PMDL mdl)
{
    struct block_cache *cache = &mdl_block_cache;
    struct block *block = block_of(mdl);
    unsigned class;

    if (!ke_is_plain(cache->generation) || UNLIKELY(!block_is_live_at(cache->base, mdl)))
        return false;
    if (UNLIKELY(mdl_has(mdl, MDL_PARTIAL_HAS_BEEN_MAPPED)))
        return false;
    if (UNLIKELY(block->capacity > BLOCK_BIG_PAGES))
        return block_give_own_large(cache, block);
    class = block_class(block->capacity);
    if (UNLIKELY(cache->count[class] == BLOCK_MAGAZINE))
        return false;
    block->state = BLOCK_FREE;
    block->next = cache->head[class];
    cache->head[class] = block;
    cache->count[class]++;
    return true;
}

#endif
