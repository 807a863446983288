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
 * So the sum is never too small. Readers look at claims first and at counts then, and may see one in both; that a page
 * which is being unlocked looks pinned for a moment longer harms nobody.
 *
 * A row is full at ROW_CLAIMS locks at a time; what comes then is counted page by page.
 */

#include "mm/state.h"

#include <stdlib.h>

enum { ROW_CLAIMS = 64, MOST_SCANS = 64 };

enum { PAGES_BITS = 28, FIRST_BITS = 27, PAGES_SHIFT = 1, FIRST_SHIFT = PAGES_SHIFT + PAGES_BITS, SPACE_SHIFT = FIRST_SHIFT + FIRST_BITS };

#define MOVING ((uint64_t)1)

_Static_assert(SPACE_SHIFT + 8 == 64 && MM_MAX_SPACES <= 256, "a claim is a word");

/* Rows stay until shutdown; one whose thread has ended keeps its claims and goes to the next new thread. */
struct mm_claim_row {
    _Alignas(64) _Atomic uint64_t claims[ROW_CLAIMS];
    _Atomic uint32_t              nused;        /* places from here on have never been filled. Its thread writes it, before the place */
    atomic_bool                   owned;
    struct mm_claim_row          *next;         /* constant once the row is in the list */
};

static _Thread_local struct {
    uint32_t             generation;            /* of the machine that the row belongs to */
    uint32_t             place;                 /* filled or emptied last */
    struct mm_claim_row *row;
} own;

/* ---- words ---- */

static bool fits_a_word(uint32_t first, size_t n)
{
    return n != 0 && n >> PAGES_BITS == 0 && first >> FIRST_BITS == 0;
}

static uint64_t word_of(const struct mm_space *space, uint32_t first, size_t n)
{
    return (uint64_t)space->id << SPACE_SHIFT | (uint64_t)first << FIRST_SHIFT | (uint64_t)n << PAGES_SHIFT;
}

static uint32_t first_of(uint64_t word)
{
    return (uint32_t)(word >> FIRST_SHIFT) & ((1u << FIRST_BITS) - 1);
}

static uint32_t pages_of(uint64_t word)
{
    return (uint32_t)(word >> PAGES_SHIFT) & ((1u << PAGES_BITS) - 1);
}

static bool is_in(uint64_t word, const struct mm_space *space)
{
    return word != 0 && word >> SPACE_SHIFT == space->id;
}

static bool covers(uint64_t word, const struct mm_space *space, uint32_t page)
{
    return is_in(word, space) && page - first_of(word) < pages_of(word);
}

/* ---- rows ---- */

static struct mm_claim_row *first_row(const struct machine *machine)
{
    return atomic_load_explicit(&machine->mm->claim_rows, memory_order_acquire);
}

static struct mm_claim_row *adopt_row(const struct machine *machine)
{
    for (struct mm_claim_row *row = first_row(machine); row != NULL; row = row->next)
        if (!atomic_load_explicit(&row->owned, memory_order_relaxed) && !atomic_exchange(&row->owned, true))
            return row;
    return NULL;
}

static struct mm_claim_row *make_row(struct machine *machine)
{
    struct mm_claim_row *row = ke_internal_fails() ? NULL : aligned_alloc(_Alignof(struct mm_claim_row), sizeof(*row));

    if (row == NULL)
        return NULL;
    *row = (struct mm_claim_row){.owned = true, .next = first_row(machine)};
    while (!atomic_compare_exchange_weak(&machine->mm->claim_rows, &row->next, row))
        ;
    return row;
}

/* At a thread's first lock. NULL: no memory, and no harm: pages are counted one by one. */
static struct mm_claim_row *open_row(struct machine *machine)
{
    ke_self();                                  /* so that thread_exit sees the thread */
    own.row = adopt_row(machine);
    if (own.row == NULL)
        own.row = make_row(machine);
    own.generation = own.row == NULL ? 0 : machine->generation;
    own.place = 0;
    return own.row;
}

static struct mm_claim_row *own_row(struct machine *machine)
{
    return LIKELY(own.generation == machine->generation) ? own.row : open_row(machine);
}

void mm_claims_leave_thread(struct machine *machine)
{
    if (own.generation == machine->generation)
        atomic_store_explicit(&own.row->owned, false, memory_order_release);
    own.generation = 0;
}

void mm_claims_shutdown(struct machine *machine)
{
    struct mm_claim_row *row;

    while ((row = first_row(machine)) != NULL) {
        atomic_store(&machine->mm->claim_rows, row->next);
        free(row);
    }
}

/* ---- making and giving up ---- */

static uint64_t at(const struct mm_claim_row *row, uint32_t place)
{
    return atomic_load_explicit(&row->claims[place], memory_order_relaxed);
}

static bool find_place(struct mm_claim_row *row, uint32_t *place)
{
    for (*place = 0; *place < ROW_CLAIMS; ++*place)
        if (at(row, *place) == 0)
            return true;
    return false;
}

bool mm_claim(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n)
{
    struct mm_claim_row *row = own_row(machine);

    if (UNLIKELY(row == NULL || !fits_a_word(first, n)))
        return false;
    if (at(row, own.place) != 0 && !find_place(row, &own.place))
        return false;
    if (own.place >= atomic_load_explicit(&row->nused, memory_order_relaxed))
        atomic_store_explicit(&row->nused, own.place + 1, memory_order_relaxed);
    atomic_exchange(&row->claims[own.place], word_of(space, first, n));
    return true;
}

static _Atomic uint64_t *find_in_row(struct mm_claim_row *row, uint64_t word)
{
    const uint32_t nused = atomic_load_explicit(&row->nused, memory_order_relaxed);

    for (uint32_t place = 0; place < nused; place++)
        if (at(row, place) == word)
            return &row->claims[place];
    return NULL;
}

static _Atomic uint64_t *find_in_other_rows(const struct machine *machine, uint64_t word)
{
    for (struct mm_claim_row *row = first_row(machine); row != NULL; row = row->next) {
        _Atomic uint64_t *place = find_in_row(row, word);

        if (place != NULL)
            return place;
    }
    return NULL;
}

_Atomic uint64_t *mm_claim_find(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n)
{
    const uint64_t word = word_of(space, first, n);
    struct mm_claim_row *row = own_row(machine);
    _Atomic uint64_t *place;

    if (UNLIKELY(row == NULL || !fits_a_word(first, n)))
        return NULL;
    if (LIKELY(at(row, own.place) == word))
        return &row->claims[own.place];
    place = find_in_row(row, word);
    if (place == NULL)
        return find_in_other_rows(machine, word);
    own.place = (uint32_t)(place - row->claims);
    return place;
}

static bool is_covered_by(const struct mm_claim_row *row, const struct mm_space *space, uint32_t first, size_t n)
{
    const uint32_t nused = atomic_load_explicit(&row->nused, memory_order_relaxed);

    for (uint32_t place = 0; place < nused; place++) {
        const uint64_t word = atomic_load_explicit(&row->claims[place], memory_order_acquire);

        if (covers(word, space, first) && n <= pages_of(word) - (first - first_of(word)))
            return true;
    }
    return false;
}

bool mm_claim_covers(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n)
{
    for (const struct mm_claim_row *row = first_row(machine); row != NULL; row = row->next)
        if (is_covered_by(row, space, first, n))
            return true;
    return false;
}

bool mm_claim_shorten(_Atomic uint64_t *claim, const struct mm_space *space, uint32_t first, size_t n, size_t passed)
{
    uint64_t word = word_of(space, first, n);
    const uint64_t rest = passed == n ? 0 : word_of(space, first + (uint32_t)passed, n - passed);

    return atomic_compare_exchange_strong(claim, &word, rest);
}

/* ---- breaking ---- */

/* Move one claim that covers the page into the counts. False: its owner was faster. */
static bool break_locked(struct mm_space *space, _Atomic uint64_t *claim, uint64_t word)
{
    if (!atomic_compare_exchange_strong(claim, &word, word | MOVING))
        return false;
    for (uint32_t i = 0; i < pages_of(word); i++)
        atomic_fetch_add(&space->pins[first_of(word) + i], 1);
    atomic_store(claim, 0);
    return true;
}

static bool break_in_row_locked(struct mm_space *space, struct mm_claim_row *row, uint32_t page)
{
    for (uint32_t place = 0; place < ROW_CLAIMS; place++) {
        const uint64_t word = atomic_load(&row->claims[place]);

        if (covers(word, space, page) && break_locked(space, &row->claims[place], word))
            return true;
    }
    return false;
}

/* A claim can leave a place that is still to be looked at for one that was: a scan that finds none is made again. */
static bool break_any_locked(struct machine *machine, struct mm_space *space, uint32_t page)
{
    for (int scan = 0; scan < MOST_SCANS; scan++) {
        if (atomic_load(&space->pins[page]) != 0)
            return true;
        for (struct mm_claim_row *row = first_row(machine); row != NULL; row = row->next)
            if (break_in_row_locked(space, row, page))
                return true;
    }
    return false;
}

bool mm_claim_break(struct machine *machine, struct mm_space *space, uint32_t page)
{
    bool counted;

    host_mutex_lock(&machine->mm->claims_lock);
    counted = break_any_locked(machine, space, page);
    host_mutex_unlock(&machine->mm->claims_lock);
    return counted;
}

/* ---- sums ---- */

static uint32_t overlap(uint64_t word, uint32_t first, uint32_t n)
{
    const uint32_t start = first_of(word) > first ? first_of(word) : first;
    const uint32_t claim_end = first_of(word) + pages_of(word);
    const uint32_t end = claim_end < first + n ? claim_end : first + n;

    return end > start ? end - start : 0;
}

uint64_t mm_space_pins_on(const struct machine *machine, const struct mm_space *space, uint32_t first, uint32_t n)
{
    uint64_t pins = 0;

    if (space->pins == NULL)
        return 0;
    for (const struct mm_claim_row *row = first_row(machine); row != NULL; row = row->next) {
        const uint32_t nused = atomic_load_explicit(&row->nused, memory_order_relaxed);

        for (uint32_t place = 0; place < nused; place++) {
            const uint64_t word = atomic_load(&row->claims[place]);

            if (is_in(word, space))
                pins += overlap(word, first, n);
        }
    }
    for (uint32_t i = 0; i < n; i++)
        pins += atomic_load(&space->pins[first + i]);
    return pins;
}
