/* SPDX-License-Identifier: MIT */
/* Claims, beyond what claim.h does by itself: rows, claims at other places and of other threads, breaking, sums. */

#include "mm/claim.h"
#include "rtl/lanes.h"

#include <stdlib.h>

enum { MOST_SCANS = 64, MOST_YIELDS = 1000, SLEEP_NS = 50000 };

_Thread_local struct mm_claim_own mm_claim_own = {.generation = CLAIM_NO_ROW};

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
    *row = (struct mm_claim_row){.nused = 1, .common = machine->mm->claims_common, .owned = true, .next = first_row(machine)};
    while (!atomic_compare_exchange_weak(&machine->mm->claim_rows, &row->next, row))
        ;
    return row;
}

/* At a thread's first lock. NULL: no memory, and no harm: pages are counted one by one. */
static struct mm_claim_row *open_row(struct machine *machine)
{
    struct mm_claim_own *own = &mm_claim_own;

    ke_self();                                  /* so that thread_exit sees the thread */
    own->row = adopt_row(machine);
    if (own->row == NULL)
        own->row = make_row(machine);
    own->generation = own->row == NULL ? CLAIM_NO_ROW : machine->generation;
    own->place = own->row == NULL ? NULL : &own->row->claims[0];
    return own->row;
}

static struct mm_claim_row *own_row(struct machine *machine)
{
    return mm_claim_own.generation == machine->generation ? mm_claim_own.row : open_row(machine);
}

/* A thread in the middle of a change has seen the mark, or will be done soon: it waits for nobody, at worst for a processor. */
static void make_common_locked(struct machine *machine, struct mm_claim_row *row)
{
    if (atomic_load(&row->common))
        return;
    atomic_store(&row->common, true);
    mm_claims_settle(machine);
    for (int tries = 0; atomic_load(&row->busy); tries++)
        if (tries < MOST_YIELDS)
            host_thread_yield();
        else
            host_sleep_ns(SLEEP_NS);
}

/* Before a place of the row is changed by a thread that does not own it. */
static void make_common(struct machine *machine, struct mm_claim_row *row)
{
    if (atomic_load_explicit(&row->common, memory_order_acquire))
        return;
    host_mutex_lock(&machine->mm->claims_lock);
    make_common_locked(machine, row);
    host_mutex_unlock(&machine->mm->claims_lock);
}

void mm_claims_settle(const struct machine *machine)
{
    if (machine->mm->claims_common)
        atomic_thread_fence(memory_order_seq_cst);
    else
        host_barrier_all();
}

void mm_claims_boot(struct machine *machine)
{
    host_mutex_init(&machine->mm->claims_lock);
    machine->mm->claims_common = host_barrier_prepare() != 0;
}

void mm_claims_leave_thread(struct machine *machine)
{
    if (mm_claim_own.generation == machine->generation)
        atomic_store_explicit(&mm_claim_own.row->owned, false, memory_order_release);
    mm_claim_own.generation = CLAIM_NO_ROW;
}

void mm_claims_shutdown(struct machine *machine)
{
    struct mm_claim_row *row;

    while ((row = first_row(machine)) != NULL) {
        atomic_store(&machine->mm->claim_rows, row->next);
        free(row);
    }
    host_mutex_destroy(&machine->mm->claims_lock);
}

/* ---- making and giving up ---- */

/* A place between used ones may be the one that is found: `nused` only says where the others end. */
static void note_used(struct mm_claim_row *row, size_t place)
{
    if (place >= atomic_load_explicit(&row->nused, memory_order_relaxed))
        atomic_store_explicit(&row->nused, (uint32_t)place + 1, memory_order_relaxed);
}

bool mm_claim(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n)
{
    struct mm_claim_row *row = own_row(machine);
    const size_t place = row == NULL ? CLAIMS_IN_ROW : rtl_find_word(row->claims, CLAIMS_IN_ROW, 0);

    if (place == CLAIMS_IN_ROW)
        return false;
    note_used(row, place);
    mm_claim_own.place = &row->claims[place];
    claim_fill(row, mm_claim_own.place, claim_word(space, first, n));
    return true;
}

static _Atomic uint64_t *find_in_row(struct mm_claim_row *row, uint64_t word)
{
    const uint32_t nused = atomic_load_explicit(&row->nused, memory_order_relaxed);
    const size_t place = rtl_find_word(row->claims, nused, word);

    return place == nused ? NULL : &row->claims[place];
}

static _Atomic uint64_t *find_in_other_rows(struct machine *machine, uint64_t word)
{
    for (struct mm_claim_row *row = first_row(machine); row != NULL; row = row->next) {
        _Atomic uint64_t *place = find_in_row(row, word);

        if (place != NULL) {
            make_common(machine, row);
            return place;
        }
    }
    return NULL;
}

_Atomic uint64_t *mm_claim_find(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n)
{
    const uint64_t word = claim_word(space, first, n);
    struct mm_claim_row *row = own_row(machine);
    _Atomic uint64_t *place = row == NULL ? NULL : find_in_row(row, word);

    if (place == NULL)
        return find_in_other_rows(machine, word);
    mm_claim_own.place = place;
    return place;
}

static bool is_own(const _Atomic uint64_t *place)
{
    const struct mm_claim_row *row = mm_claim_own.row;

    return row != NULL && (uintptr_t)place - (uintptr_t)row < sizeof(row->claims);
}

bool mm_claim_shorten(_Atomic uint64_t *claim, const struct mm_space *space, uint32_t first, size_t n, size_t passed)
{
    uint64_t before = claim_word(space, first, n);
    const uint64_t after = passed == n ? 0 : claim_word(space, first + (uint32_t)passed, n - passed);

    return (is_own(claim) && claim_change_own(claim, after)) || atomic_compare_exchange_strong(claim, &before, after);
}

static const _Atomic uint64_t *find_cover(const struct mm_claim_row *row, const struct mm_space *space, uint32_t first, size_t n, uint64_t *word)
{
    const uint32_t nused = atomic_load_explicit(&row->nused, memory_order_relaxed);

    for (uint32_t place = 0; place < nused; place++) {
        *word = atomic_load_explicit(&row->claims[place], memory_order_acquire);
        if (claim_covers(*word, space, first) && n <= claim_pages(*word) - (first - claim_first(*word)))
            return &row->claims[place];
    }
    return NULL;
}

/* Mostly it is a claim of the thread's own, on exactly that range. */
const _Atomic uint64_t *mm_claim_covering(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n, uint64_t *word)
{
    struct mm_claim_row *own = own_row(machine);
    const _Atomic uint64_t *place;

    *word = claim_word(space, first, n);
    place = own == NULL ? NULL : find_in_row(own, *word);
    for (const struct mm_claim_row *row = first_row(machine); row != NULL && place == NULL; row = row->next)
        place = find_cover(row, space, first, n, word);
    return place;
}

/* ---- breaking ---- */

/* Move a claim of a common row, or of the thread's own, into the counts. False: somebody was faster. */
static bool break_locked(struct mm_space *space, _Atomic uint64_t *claim, uint64_t word)
{
    if (!atomic_compare_exchange_strong(claim, &word, word | CLAIM_MOVING))
        return false;
    for (uint32_t i = 0; i < claim_pages(word); i++)
        atomic_fetch_add(&space->pins[claim_first(word) + i], 1);
    atomic_store(claim, 0);
    return true;
}

/* With the lock of the claims nobody makes the thread's own row common. */
static bool break_in_row_locked(struct machine *machine, struct mm_space *space, struct mm_claim_row *row, uint32_t page)
{
    for (uint32_t place = 0; place < CLAIMS_IN_ROW; place++) {
        uint64_t word = atomic_load(&row->claims[place]);

        if (!claim_covers(word, space, page))
            continue;
        if (row != own_row(machine))
            make_common_locked(machine, row);
        word = atomic_load(&row->claims[place]);
        if (claim_covers(word, space, page) && break_locked(space, &row->claims[place], word))
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
            if (break_in_row_locked(machine, space, row, page))
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
    const uint32_t start = claim_first(word) > first ? claim_first(word) : first;
    const uint32_t claim_end = claim_first(word) + claim_pages(word);
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

            if (claim_is_in(word, space))
                pins += overlap(word, first, n);
        }
    }
    for (uint32_t i = 0; i < n; i++)
        pins += atomic_load(&space->pins[first + i]);
    return pins;
}
