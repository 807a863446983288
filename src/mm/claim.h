/* SPDX-License-Identifier: MIT */
/*
 * Claims: pins on whole ranges. A lock of any number of pages is one word, and that word is all that it writes.
 *
 *     claim   | space 8 | first page 27 | pages 28 | moving 1 |       0: an empty place
 *
 *     pins(page) = its own count + claims that cover it
 *
 * Each thread has a row of places and is the only one to fill them; any thread may empty one, by a compare and exchange.
 * A range is given up as a whole by the one that finds a claim on exactly that range: whose it was never matters, for the
 * sum is the same. Whoever meets only a part of a claim breaks it first, which moves it into the pages' own counts:
 *
 *     mark it as moving (nobody can give it up now) -> add one to each page's count -> empty the place
 *
 * Readers look at claims first and at counts then, and may see one in both; that a page which is being unlocked looks pinned
 * for a moment longer harms nobody. What they may miss is a pin that changes hands: equal claims stand in for each other, so
 * one thread's pin can go on as another's newer claim, in a row that was read before. Who takes pages away cannot miss one,
 * for it takes their attributes first and from then on no new claim stays. Who only asks reads a zero again.
 *
 * A row is full at CLAIMS_IN_ROW locks at a time; what comes then is counted page by page.
 */
#ifndef PINION_MM_CLAIM_H
#define PINION_MM_CLAIM_H

#include "mm/state.h"

enum {
    CLAIMS_IN_ROW     = 64,
    CLAIM_PAGES_BITS  = 28,
    CLAIM_FIRST_BITS  = 27,
    CLAIM_PAGES_SHIFT = 1,
    CLAIM_FIRST_SHIFT = CLAIM_PAGES_SHIFT + CLAIM_PAGES_BITS,
    CLAIM_SPACE_SHIFT = CLAIM_FIRST_SHIFT + CLAIM_FIRST_BITS,
};

#define CLAIM_MOVING ((uint64_t)1)

_Static_assert(CLAIM_SPACE_SHIFT + 8 == 64 && MM_MAX_SPACES <= 256, "a claim is a word");

/* Rows stay until shutdown; one whose thread has ended keeps its claims and goes to the next new thread. */
struct mm_claim_row {
    _Alignas(64) _Atomic uint64_t claims[CLAIMS_IN_ROW];
    _Atomic uint32_t              nused;        /* places from here on have never been filled. Its thread writes it, before the place */
    atomic_bool                   owned;
    struct mm_claim_row          *next;         /* constant once the row is in the list */
};

/* A thread's row, and the place in it that was filled or emptied last: below nused, and nearly always the one to look at. */
struct mm_claim_own {
    uint32_t             generation;            /* of the machine that the row belongs to; 0: no row */
    uint32_t             place;
    struct mm_claim_row *row;
};
extern _Thread_local struct mm_claim_own mm_claim_own;

bool              mm_claim_elsewhere(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n);
_Atomic uint64_t *mm_claim_find_elsewhere(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n);

static inline bool claim_fits(uint32_t first, size_t n)
{
    return n != 0 && n >> CLAIM_PAGES_BITS == 0 && first >> CLAIM_FIRST_BITS == 0;
}

static inline uint64_t claim_word(const struct mm_space *space, uint32_t first, size_t n)
{
    return (uint64_t)space->id << CLAIM_SPACE_SHIFT | (uint64_t)first << CLAIM_FIRST_SHIFT | (uint64_t)n << CLAIM_PAGES_SHIFT;
}

static inline uint64_t claim_at(const struct mm_claim_row *row, uint32_t place)
{
    return atomic_load_explicit(&row->claims[place], memory_order_relaxed);
}

/* Does the place that this thread used last hold this word? */
static inline bool claim_is_at_hand(const struct machine *machine, uint64_t word)
{
    return LIKELY(mm_claim_own.generation == machine->generation) && LIKELY(claim_at(mm_claim_own.row, mm_claim_own.place) == word);
}

/* Pin a range as a whole, by one word. False: nothing was done, count its pages one by one. */
static inline bool mm_claim(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n)
{
    if (!claim_is_at_hand(machine, 0) || UNLIKELY(!claim_fits(first, n)))
        return mm_claim_elsewhere(machine, space, first, n);
    atomic_exchange(&mm_claim_own.row->claims[mm_claim_own.place], claim_word(space, first, n));
    return true;
}

/* A claim on exactly this range; NULL: there is none. */
static inline _Atomic uint64_t *mm_claim_find(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n)
{
    if (claim_fits(first, n) && claim_is_at_hand(machine, claim_word(space, first, n)))
        return &mm_claim_own.row->claims[mm_claim_own.place];
    return mm_claim_find_elsewhere(machine, space, first, n);
}

/* Drop the first `passed` of its pages, which may be all. False: somebody else was faster, look for another. */
static inline bool mm_claim_shorten(_Atomic uint64_t *claim, const struct mm_space *space, uint32_t first, size_t n, size_t passed)
{
    uint64_t word = claim_word(space, first, n);
    const uint64_t rest = passed == n ? 0 : claim_word(space, first + (uint32_t)passed, n - passed);

    return atomic_compare_exchange_strong(claim, &word, rest);
}

#endif
