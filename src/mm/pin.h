/* SPDX-License-Identifier: MIT */
/*
 * Pinning as it nearly always is: pages of the current process that are plainly there, claimed as one range by a thread that
 * has a row, in a plain machine. Small enough to stand in the routines that lock and unlock; pin.c does all the rest.
 */
#ifndef PINION_MM_PIN_H
#define PINION_MM_PIN_H

#include "mm/claim.h"
#include "mm/zones.h"
#include "rtl/copy.h"
#include "rtl/lanes.h"

_Static_assert((size_t)MM_ATTRIBUTE_SLACK >= RTL_SLACK_BYTES, "attributes are looked at eight at a time");

/*
 * A machine runs in which nobody looks on, and this thread has a row; pins go this short way only then. To be asked before an MDL is
 * read: the verifier, where it looks on, may know that it was freed.
 */
static inline bool pin_is_plain(void)
{
    return ke_is_plain(mm_claim_own.generation);
}

/* Valid for the access: nothing to bring in, none of them an alias or guarded. Any other page makes it false. */
static inline bool pin_are_plain(const struct mm_space *space, uint32_t first, size_t n, uint8_t access)
{
    const uint8_t plain = access | MM_USED | MM_RESIDENT;

    return rtl_all_bytes(&space->attrs[first], n, plain | MM_ALIAS | MM_GUARD | MM_ZOMBIE, plain);
}

enum { PIN_MANY = 2048 };

/*
 * The numbers of claimed pages, stored or compared. Thousands of them are more than the caches hold: those of neighbours are worked out
 * then instead of being read.
 */
void mm_store_many_numbers(const struct machine *machine, const struct mm_space *space, uint32_t first, size_t n, PFN_NUMBER *pfns);
bool mm_are_many_numbers(const struct machine *machine, const struct mm_space *space, uint32_t first, size_t n, const PFN_NUMBER *pfns);

static inline void pin_store_numbers(const struct machine *machine, const struct mm_space *space, uint32_t first, size_t n, PFN_NUMBER *pfns)
{
    if (LIKELY(n <= PIN_MANY))
        rtl_move_words(pfns, &space->pfns[first], n);
    else
        mm_store_many_numbers(machine, space, first, n, pfns);
}

static inline bool pin_are_numbers(const struct machine *machine, const struct mm_space *space, uint32_t first, size_t n, const PFN_NUMBER *pfns)
{
    return LIKELY(n <= PIN_MANY) ? rtl_equal(pfns, &space->pfns[first], n) : mm_are_many_numbers(machine, space, first, n, pfns);
}

static inline uint8_t pin_access(bool write)
{
    return write ? MM_READ | MM_WRITE : MM_READ;
}

/* Free a region whose last pin may have been this page's. */
static inline void pin_reap_if_zombie(struct machine *machine, struct mm_space *space, uint32_t page)
{
    if (UNLIKELY(atomic_load_explicit(&space->attrs[page], memory_order_relaxed) & MM_ZOMBIE))
        mm_space_reap(machine, space, page);
}

/*
 * Pin npages from va on and store their numbers; the process that they belong to. NULL: nothing has changed, and mm_lock_pages will
 * find out what there is to do. A process's range is below MM_HIGHEST_USER_ADDRESS, so that pages inside it need no other check.
 */
static inline PEPROCESS pin_range(uintptr_t va, size_t npages, bool write, PFN_NUMBER *pfns)
{
    struct machine *machine = &ke_the_machine;
    const PEPROCESS process = mm_current_process(machine);
    struct mm_space *space = process->space;
    const uintptr_t page = (va - space->base) >> SPAN_PAGE_SHIFT;

    if (UNLIKELY(page >= space->npages || npages - 1 >= space->npages - page)
        || UNLIKELY(atomic_load_explicit(&space->crowded, memory_order_relaxed)) || UNLIKELY(claim_at_hand() != 0))
        return NULL;
    claim_fill(mm_claim_own.row, mm_claim_own.place, claim_word(space, (uint32_t)page, npages));
    if (UNLIKELY(!pin_are_plain(space, (uint32_t)page, npages, pin_access(write)))) {
        mm_unclaim(machine, space, (uint32_t)page, npages);
        return NULL;
    }
    pin_store_numbers(machine, space, (uint32_t)page, npages, pfns);
    ke_count_here(KE_PAGES_LOCKED, (int64_t)npages);
    return process;
}

/*
 * Undo it for pages that still have those numbers. False: nothing has changed, and mm_unlock_range will find out. The claim keeps
 * the pages' entries in the table as they are, so they are compared after it has been found.
 */
static inline bool unpin_range(uintptr_t va, const PFN_NUMBER *pfns, size_t npages)
{
    struct machine *machine = &ke_the_machine;
    struct mm_space *space = mm_current_process(machine)->space;
    const uintptr_t page = (va - space->base) >> SPAN_PAGE_SHIFT;

    if (UNLIKELY(page >= space->npages || npages - 1 >= space->npages - page)
        || UNLIKELY(claim_at_hand() != claim_word(space, (uint32_t)page, npages))
        || UNLIKELY(!pin_are_numbers(machine, space, (uint32_t)page, npages, pfns)) || UNLIKELY(!claim_change_own(mm_claim_own.place, 0)))
        return false;
    pin_reap_if_zombie(machine, space, (uint32_t)page);
    ke_count_here(KE_PAGES_UNLOCKED, (int64_t)npages);
    return true;
}

/*
 * Where pages of the current process lie side by side in the RAM window: one lock holds them, mostly this thread's of just these, and they
 * still have those numbers. NULL: a look at each page will find out.
 */
static inline void *pin_find_run(uintptr_t va, const PFN_NUMBER *pfns, size_t npages)
{
    struct machine *machine = &ke_the_machine;
    const struct mm_claim_row *row = mm_claim_own.row;
    const struct mm_space *space = mm_current_process(machine)->space;
    const uintptr_t page = (va - space->base) >> SPAN_PAGE_SHIFT;
    const struct mm_zone *zone;
    uint64_t word;

    if (UNLIKELY(page >= space->npages || npages - 1 >= space->npages - page) || pfns[npages - 1] != space->pfns[page + npages - 1])
        return NULL;
    word = claim_word(space, (uint32_t)page, npages);
    if (claim_at_hand() != word && rtl_find_word(row->claims, row->nused, word) == row->nused
        && mm_claim_covering(machine, space, (uint32_t)page, npages, &word) == NULL)
        return NULL;
    if (UNLIKELY(space->runs[page] < npages) || UNLIKELY(!pin_are_numbers(machine, space, (uint32_t)page, npages, pfns)))
        return NULL;
    zone = zone_of_pfn(machine, pfns[0]);
    return mm_window_va(machine, zone->first_page + index_in_zone(zone, pfns[0]));
}

#endif
