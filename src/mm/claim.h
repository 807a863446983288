/* SPDX-License-Identifier: MIT */
/*
 * Claims: pins on whole ranges. A lock of any number of pages is one word, and that word is all that it writes.
 *
 *     claim   | space 8 | first page 27 | pages 28 | moving 1 |       0: an empty place
 *
 *     pins(page) = its own count + claims that cover it
 *
 * Each thread has a row of places and is the only one to fill them. A range is given up as a whole by whoever finds a claim on
 * exactly that range: whose it was never matters, for the sum is the same. Whoever meets only a part of a claim breaks it first,
 * which moves it into the pages' own counts:
 *
 *     mark it as moving (nobody can give it up now) -> add one to each page's count -> empty the place
 *
 * Who may store what. A row is private, or common:
 *
 *     private    only its thread changes the places that are filled: by plain stores, and `busy` meanwhile
 *     common     every thread may, by a compare and exchange
 *
 * Rows begin private. A thread that must change another's row makes it common first, for good: it marks the row, forces a
 * barrier on all threads, and waits until the row is not busy. Its thread has then seen the mark, or is done. While a row is
 * busy its thread touches nothing but the row: it cannot fault and waits for nobody.
 *
 * Why no pin is missed, although locking has no barrier. The barrier is forced by the other side, which is rare:
 *
 *     to lock             store the claim                            | load the attributes: gone? give the claim up, ask carefully
 *     to take pages away  take their attributes, force a barrier     | load the claims: one of them? give the attributes back
 *
 * The forced barrier falls somewhere into the locking thread's work. If that is behind its store, the claim is seen; if before,
 * the attributes that it loads are the new ones. An unlock that must free what was freed before it (a zombie) is the same
 * with the roles changed: it empties the place and then loads the attributes. Where Linux has no such barrier all rows are
 * common from the start, and each of these stores is a locked operation.
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
#define CLAIM_NO_ROW UINT32_MAX             /* no machine's generation, and not what ke_plain_generation is without one */

_Static_assert(CLAIM_SPACE_SHIFT + 8 == 64 && MM_MAX_SPACES <= 256 && MM_MOST_PAGES <= (size_t)1 << CLAIM_FIRST_BITS, "a claim is a word");

/* Rows stay until shutdown; one whose thread has ended keeps its claims and goes to the next new thread. */
struct mm_claim_row {
    _Alignas(64) _Atomic uint64_t claims[CLAIMS_IN_ROW];
    _Atomic uint32_t              nused;        /* places from here on have never been filled. Its thread writes it, before the place */
    atomic_bool                   busy;         /* its thread is changing a filled place */
    atomic_bool                   common;       /* set once, under the lock of the claims */
    atomic_bool                   owned;
    struct mm_claim_row          *next;         /* constant once the row is in the list */
};

/* A thread's row, and the place in it that was filled or emptied last: nearly always the one to look at. */
struct mm_claim_own {
    uint32_t             generation;            /* of the machine that the row belongs to, or CLAIM_NO_ROW: the others are not to be looked at */
    struct mm_claim_row *row;
    _Atomic uint64_t    *place;
};
extern _Thread_local struct mm_claim_own mm_claim_own;

/* What stands there; of a thread that has a row. */
static inline uint64_t claim_at_hand(void)
{
    return atomic_load_explicit(mm_claim_own.place, memory_order_relaxed);
}

static inline uint64_t claim_word(const struct mm_space *space, uint32_t first, size_t n)
{
    return (uint64_t)space->id << CLAIM_SPACE_SHIFT | (uint64_t)first << CLAIM_FIRST_SHIFT | (uint64_t)n << CLAIM_PAGES_SHIFT;
}

static inline uint32_t claim_first(uint64_t word)
{
    return (uint32_t)(word >> CLAIM_FIRST_SHIFT) & ((1u << CLAIM_FIRST_BITS) - 1);
}

static inline uint32_t claim_pages(uint64_t word)
{
    return (uint32_t)(word >> CLAIM_PAGES_SHIFT) & ((1u << CLAIM_PAGES_BITS) - 1);
}

static inline bool claim_is_in(uint64_t word, const struct mm_space *space)
{
    return word != 0 && word >> CLAIM_SPACE_SHIFT == space->id;
}

static inline bool claim_covers(uint64_t word, const struct mm_space *space, uint32_t page)
{
    return claim_is_in(word, space) && page - claim_first(word) < claim_pages(word);
}

/* The compiler keeps the order of what stands before and behind it; the processor is made to, by mm_claims_settle. */
static inline void claim_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/* Fill an empty place of the thread's own row. */
static inline void claim_fill(const struct mm_claim_row *row, _Atomic uint64_t *place, uint64_t word)
{
    if (LIKELY(!atomic_load_explicit(&row->common, memory_order_relaxed)))
        atomic_store_explicit(place, word, memory_order_release);
    else
        atomic_exchange(place, word);
    claim_order();
}

/* Change a filled place of the thread's own row, whose word it knows. False: the row is common, and the place may have changed. */
static inline bool claim_change_own(_Atomic uint64_t *place, uint64_t word)
{
    struct mm_claim_row *row = mm_claim_own.row;
    bool private;

    atomic_store_explicit(&row->busy, true, memory_order_relaxed);
    claim_order();
    private = !atomic_load_explicit(&row->common, memory_order_acquire);
    if (LIKELY(private))
        atomic_store_explicit(place, word, memory_order_release);
    atomic_store_explicit(&row->busy, false, memory_order_release);
    claim_order();
    return private;
}

/* Pin a range of at least one page as a whole, by one word. False: nothing was done, count its pages one by one. */
bool mm_claim(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n);

/* A claim on exactly this range, in the thread's own row or a common one; NULL: there is none. */
_Atomic uint64_t *mm_claim_find(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n);

/* Drop the first `passed` of the pages of a claim that mm_claim_find found; all of them, perhaps. False: somebody else was faster. */
bool mm_claim_shorten(_Atomic uint64_t *claim, const struct mm_space *space, uint32_t first, size_t n, size_t passed);

/* Give up a claim that this thread has just made; where it has been broken meanwhile, its pages count it. */
void mm_unclaim(struct machine *machine, struct mm_space *space, uint32_t first, size_t n);

#endif
