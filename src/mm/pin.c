/* SPDX-License-Identifier: MIT */
/*
 * Pins: locks on pages.
 *
 * A page of process memory or paged pool is pinned in its space: as part of a range that is claimed as a whole (claim.c),
 * or by its own count, for what is not a range or no longer one. Any other frame has a count of its own. A mapping of someone else's frame
 * (an alias) is pinned through the frame. Host pages are counted in the total only.
 *
 * Pin first, look afterwards: once the pin is there, whoever wants to take the page away sees it. A page that then turns
 * out not to be plainly valid is asked for again under the space's lock.
 */

#include "mm/pin.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_PINS     = 0xFFFF,             /* of one page: Windows keeps them in 16 bits */
    MOST_READINGS = 8,
};

/* ---- one count ---- */

static bool add_pin(_Atomic uint32_t *count)
{
    if (atomic_fetch_add(count, 1) < MOST_PINS)
        return true;
    atomic_fetch_sub(count, 1);
    return false;
}

static _Noreturn void stop_unlocked_too_often(PFN_NUMBER pfn)
{
    ke_bug_check(PFN_LIST_CORRUPT, 0x07, pfn, 0, 0);
}

/* True when that was the last one. */
static bool drop_pin(_Atomic uint32_t *count, PFN_NUMBER pfn)
{
    const uint32_t before = atomic_fetch_sub(count, 1);

    if (before == 0) {
        atomic_fetch_add(count, 1);
        stop_unlocked_too_often(pfn);
    }
    return before == 1;
}

/* ---- pins by frame ---- */

/* Near the limit the claims count too, and from here on none is made in this space. */
static bool has_room_for_pin(struct machine *machine, struct mm_space *space, uint32_t page)
{
    if (LIKELY(atomic_load(&space->pins[page]) < MOST_PINS / 2))
        return true;
    atomic_store(&space->crowded, true);
    return mm_space_pins_on(machine, space, page, 1) < MOST_PINS;
}

static bool pin_space_page(struct machine *machine, struct mm_space *space, uint32_t page)
{
    return has_room_for_pin(machine, space, page) && add_pin(&space->pins[page]);
}

static bool pin_frame(struct machine *machine, uint32_t page)
{
    struct mm_frame *frame = mm_frame(machine, page);

    if (mm_frame_state(machine, page) == MM_FRAME_SPACE)
        return pin_space_page(machine, mm_space_by_id(machine, frame->owner_space), frame->owner_page);
    return add_pin(&frame->pins);
}

static bool pin_pfn(struct machine *machine, PFN_NUMBER pfn)
{
    uint32_t page;

    if (mm_is_host_pfn(pfn))
        return true;
    return mm_page_of_pfn(machine, pfn, &page) && pin_frame(machine, page);
}

/* Drop one pin that the page itself counts; false: it counts none. */
static bool drop_counted_pin(_Atomic uint32_t *count)
{
    uint32_t before = atomic_load(count);

    while (before != 0)
        if (atomic_compare_exchange_weak(count, &before, before - 1))
            return true;
    return false;
}

static void unpin_space_page(struct machine *machine, struct mm_space *space, uint32_t page, PFN_NUMBER pfn)
{
    while (!drop_counted_pin(&space->pins[page]))
        if (!mm_claim_break(machine, space, page))
            stop_unlocked_too_often(pfn);
    pin_reap_if_zombie(machine, space, page);
}

static void unpin_pfn(struct machine *machine, PFN_NUMBER pfn)
{
    struct mm_frame *frame;
    uint32_t page;

    if (mm_is_host_pfn(pfn))
        return;
    if (!mm_page_of_pfn(machine, pfn, &page))
        stop_unlocked_too_often(pfn);
    frame = mm_frame(machine, page);
    if (mm_frame_state(machine, page) == MM_FRAME_SPACE)
        unpin_space_page(machine, mm_space_by_id(machine, frame->owner_space), frame->owner_page, pfn);
    else if (drop_pin(&frame->pins, pfn))
        mm_frame_unpinned(machine, page);
}

/* Pages of the host count no pins: a run of them is passed at once. */
static size_t host_run(const PFN_NUMBER *pfns, size_t n)
{
    const struct rtl_steps numbers = rtl_steps_up_from(pfns[0]);

    return mm_is_host_pfn(pfns[0]) ? rtl_lanes->count_steps(pfns, &numbers, n) : 0;
}

static void unpin_pfns(struct machine *machine, const PFN_NUMBER *pfns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        i += host_run(pfns + i, n - i);
        if (i < n)
            unpin_pfn(machine, pfns[i]);
    }
}

/* ---- spaces ---- */

/* False: they are not all neighbours in the RAM file. */
static bool find_steps(const struct machine *machine, const struct mm_space *space, uint32_t first, size_t n, struct rtl_steps *steps)
{
    if (space->runs[first] < n)
        return false;
    *steps = steps_from(zone_of_pfn(machine, space->pfns[first]), space->pfns[first]);
    return true;
}

void mm_store_many_numbers(const struct machine *machine, const struct mm_space *space, uint32_t first, size_t n, PFN_NUMBER *pfns)
{
    struct rtl_steps steps;

    if (find_steps(machine, space, first, n, &steps))
        rtl_store_steps(pfns, &steps, n);
    else
        rtl_move_words(pfns, &space->pfns[first], n);
}

bool mm_are_many_numbers(const struct machine *machine, const struct mm_space *space, uint32_t first, size_t n, const PFN_NUMBER *pfns)
{
    struct rtl_steps steps;

    return find_steps(machine, space, first, n, &steps) ? rtl_lanes->count_steps(pfns, &steps, n) == n
                                                        : rtl_equal(pfns, &space->pfns[first], n);
}

/* Pin the pages of a range one by one; how many could be. */
static size_t pin_pages(struct machine *machine, struct mm_space *space, uint32_t first, size_t n)
{
    size_t pinned = 0;

    while (pinned < n && pin_space_page(machine, space, first + (uint32_t)pinned))
        pinned++;
    return pinned;
}

static void unpin_pages(struct machine *machine, struct mm_space *space, uint32_t first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        unpin_space_page(machine, space, first + (uint32_t)i, MM_NO_PFN);
}

void mm_unclaim(struct machine *machine, struct mm_space *space, uint32_t first, size_t n)
{
    _Atomic uint64_t *claim;

    do {
        claim = mm_claim_find(machine, space, first, n);
        if (claim == NULL) {
            unpin_pages(machine, space, first, n);
            return;
        }
    } while (!mm_claim_shorten(claim, space, first, n, n));
    pin_reap_if_zombie(machine, space, first);
}

/*
 * The common case: all pages are there. True when they are pinned and their PFNs stored; false: nothing has changed. Pages that
 * turn out not to be there may be anyone's by now: their PFNs are not to be looked at.
 */
static bool lock_plain(struct machine *machine, struct mm_space *space, uint32_t first, size_t n, uint8_t access,
                       PFN_NUMBER *pfns)
{
    const bool claimed = n != 0 && !atomic_load_explicit(&space->crowded, memory_order_relaxed) && mm_claim(machine, space, first, n);
    const size_t pinned = claimed ? n : pin_pages(machine, space, first, n);

    if (pinned == n && pin_are_plain(space, first, n, access)) {
        pin_store_numbers(machine, space, first, n, pfns);
        return true;
    }
    if (claimed)
        mm_unclaim(machine, space, first, n);
    else
        unpin_pages(machine, space, first, pinned);
    return false;
}

static void require_paging_allowed(const struct mm_space *space, uint32_t page, bool write)
{
    const KIRQL irql = ke_self()->irql;

    if (irql >= DISPATCH_LEVEL && !(atomic_load(&space->attrs[page]) & MM_RESIDENT))
        ke_bug_check(DRIVER_IRQL_NOT_LESS_OR_EQUAL, space->base + (uintptr_t)page * HOST_PAGE_SIZE, irql, write, 0);
}

static NTSTATUS lock_page_locked(struct machine *machine, struct mm_space *space, uint32_t page, uint8_t access, PFN_NUMBER *pfn)
{
    NTSTATUS status;

    if (atomic_load(&space->attrs[page]) & MM_USED)
        require_paging_allowed(space, page, access & MM_WRITE);
    status = mm_space_prepare_page_locked(space, page, access);
    if (!NT_SUCCESS(status))
        return status;
    *pfn = space->pfns[page];
    return pin_pfn(machine, *pfn) ? STATUS_SUCCESS : STATUS_WORKING_SET_QUOTA;
}

/*
 * Page by page under the lock: brings pages in, follows aliases, and finds out what refuses. The PFNs are collected apart from the caller's
 * array: it stays as it is when a later page refuses, and it may lie in memory whose fault would ask for the same lock.
 */
static NTSTATUS lock_carefully(struct machine *machine, struct mm_space *space, uint32_t first, size_t n, uint8_t access,
                               PFN_NUMBER *pfns)
{
    PFN_NUMBER *found = ke_internal_fails() ? NULL : malloc(n * sizeof(*found));
    NTSTATUS status = found == NULL ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS;
    size_t done = 0;

    host_mutex_lock(&space->lock);
    while (done < n && NT_SUCCESS(status)) {
        status = lock_page_locked(machine, space, first + (uint32_t)done, access, &found[done]);
        done += NT_SUCCESS(status);
    }
    host_mutex_unlock(&space->lock);
    if (NT_SUCCESS(status))
        memcpy(pfns, found, n * sizeof(*found));
    else
        unpin_pfns(machine, found, done);
    free(found);
    return status;
}

/* ---- the kinds of range ---- */

static NTSTATUS lock_in_space(struct machine *machine, struct mm_space *space, const struct mm_lock_request *request,
                              PFN_NUMBER *pfns)
{
    const size_t n = span_pages(request->va, request->bytes);
    const uintptr_t start = span_page_base(request->va);
    const uint32_t first = mm_space_page(space, start);
    const uint8_t access = pin_access(request->write);

    if (n > space->npages - first)
        return STATUS_ACCESS_VIOLATION;
    if (space->pins != NULL && lock_plain(machine, space, first, n, access, pfns))
        return STATUS_SUCCESS;
    return lock_carefully(machine, space, first, n, access, pfns);
}

static bool pin_window_page(struct machine *machine, uint32_t page)
{
    return mm_frame_state(machine, page) != MM_FRAME_FREE && pin_frame(machine, page);
}

static NTSTATUS lock_in_window(struct machine *machine, const struct mm_lock_request *request, PFN_NUMBER *pfns)
{
    const size_t n = span_pages(request->va, request->bytes);
    NTSTATUS status;
    uint32_t first;
    size_t done = 0;

    mm_window_page(machine, request->va, &first);
    if (n > machine->mm->npages - first)
        return STATUS_ACCESS_VIOLATION;
    while (done < n && pin_window_page(machine, first + (uint32_t)done))
        done++;
    if (done == n) {
        mm_pfns_of_pages(machine, first, n, pfns);
        return STATUS_SUCCESS;
    }
    status = mm_frame_state(machine, first + (uint32_t)done) == MM_FRAME_FREE ? STATUS_ACCESS_VIOLATION
                                                                                              : STATUS_WORKING_SET_QUOTA;
    while (done-- > 0)
        unpin_pfn(machine, mm_pfn_of_page(machine, first + (uint32_t)done));
    return status;
}

static void probe_host(void *context)
{
    const struct mm_lock_request *request = context;

    if (request->write)
        host_probe_write((void *)request->va, request->bytes);
    else
        host_probe_read((const void *)request->va, request->bytes);
}

static NTSTATUS lock_on_host(const struct mm_lock_request *request, PFN_NUMBER *pfns)
{
    struct mm_lock_request probe = *request;
    const NTSTATUS status = probe.bytes == 0 ? STATUS_SUCCESS : pinion_try(probe_host, &probe);
    struct rtl_steps numbers;

    if (!NT_SUCCESS(status))
        return status;
    numbers = rtl_steps_up_from(MM_HOST_PFN_BASE + (probe.va >> SPAN_PAGE_SHIFT));
    rtl_store_steps(pfns, &numbers, span_pages(probe.va, probe.bytes));
    return STATUS_SUCCESS;
}

static bool is_out_of_the_world(const struct mm_lock_request *request)
{
    return request->va > MM_HIGHEST_USER_ADDRESS || request->bytes > MM_HIGHEST_USER_ADDRESS - request->va;
}

static bool lies_in(const struct mm_space *space, uintptr_t va)
{
    return va - space->base < (uintptr_t)space->npages * HOST_PAGE_SIZE;
}

/* As mm_classify, with the process that most addresses are expected to be of. */
static enum mm_kind classify(const struct machine *machine, PEPROCESS process, uintptr_t va, struct mm_space **space)
{
    *space = process->space;
    return LIKELY(lies_in(*space, va)) ? MM_KIND_PROCESS : mm_classify(machine, va, space);
}

/* Whose memory may be locked: in user mode the host's and the current process's own, in kernel mode the system's too. */
static bool may_lock(enum mm_kind kind, const struct mm_space *space, PEPROCESS process, bool user_mode)
{
    if (kind == MM_KIND_HOST)
        return true;
    if (kind == MM_KIND_PROCESS)
        return space == process->space;
    return !user_mode;
}

NTSTATUS mm_lock_pages(struct machine *machine, const struct mm_lock_request *request, PFN_NUMBER *pfns, PEPROCESS *process)
{
    const PEPROCESS whose = request->process != NULL ? request->process : mm_current_process(machine);
    struct mm_space *space;
    const enum mm_kind kind = classify(machine, whose, request->va, &space);
    const size_t n = span_pages(request->va, request->bytes);
    NTSTATUS status;

    if (span_wraps(request->va, request->bytes) || is_out_of_the_world(request) || !may_lock(kind, space, whose, request->user_mode))
        return STATUS_ACCESS_VIOLATION;
    if (kind == MM_KIND_HOST)
        status = lock_on_host(request, pfns);
    else if (kind == MM_KIND_WINDOW)
        status = lock_in_window(machine, request, pfns);
    else
        status = lock_in_space(machine, space, request, pfns);
    if (!NT_SUCCESS(status))
        return status;
    *process = kind == MM_KIND_PROCESS ? whose : NULL;
    ke_count(KE_PAGES_LOCKED, (int64_t)n);
    return STATUS_SUCCESS;
}

/* The space with this address in it, seen from the current process, and the page there; NULL: it is in none. */
static struct mm_space *find_space(const struct machine *machine, uintptr_t va, uint32_t *page)
{
    struct mm_space *space;

    classify(machine, mm_current_process(machine), va, &space);
    if (space != NULL)
        *page = mm_space_page(space, va);
    return space;
}

bool mm_unlock_range(struct machine *machine, uintptr_t va, const PFN_NUMBER *pfns, size_t npages, size_t passed)
{
    _Atomic uint64_t *claim;
    uint32_t first;
    struct mm_space *space = find_space(machine, va, &first);

    if (space == NULL || npages == 0)
        return false;
    claim = mm_claim_find(machine, space, first, npages);
    if (claim == NULL || !rtl_equal(pfns, &space->pfns[first], passed)
        || !mm_claim_shorten(claim, space, first, npages, passed))
        return false;
    pin_reap_if_zombie(machine, space, first);
    ke_count(KE_PAGES_UNLOCKED, (int64_t)passed);
    return true;
}

void mm_unlock_pages(struct machine *machine, const PFN_NUMBER *pfns, size_t npages)
{
    unpin_pfns(machine, pfns, npages);
    ke_count(KE_PAGES_UNLOCKED, (int64_t)npages);
}

/* ---- questions ---- */

void *mm_locked_run(struct machine *machine, uintptr_t va, const PFN_NUMBER *pfns, size_t npages)
{
    uint32_t first, page;
    uint64_t word;
    const struct mm_space *space = find_space(machine, va, &first);

    if (space == NULL || space->runs == NULL || npages == 0 || npages > space->npages - first
        || pfns[npages - 1] != space->pfns[first + npages - 1] || mm_claim_covering(machine, space, first, npages, &word) == NULL)
        return NULL;
    if (space->runs[first] < npages || !pin_are_numbers(machine, space, first, npages, pfns) || !mm_page_of_pfn(machine, pfns[0], &page))
        return NULL;
    return mm_window_va(machine, page);
}

/* A zero is read again: claim.h says what one reading can miss. */
static uint32_t pins_of_space_page(const struct machine *machine, const struct mm_space *space, uint32_t page)
{
    uint64_t pins = 0;

    for (int reading = 0; reading < MOST_READINGS && pins == 0; reading++)
        pins = mm_space_pins_on(machine, space, page, 1);
    return (uint32_t)pins;
}

uint32_t mm_pins_of_pfn(const struct machine *machine, PFN_NUMBER pfn)
{
    const struct mm_frame *frame;
    uint32_t page;

    if (!mm_page_of_pfn(machine, pfn, &page))
        return 0;
    frame = mm_frame(machine, page);
    if (mm_frame_state(machine, page) != MM_FRAME_SPACE)
        return atomic_load(&frame->pins);
    return pins_of_space_page(machine, mm_space_by_id(machine, frame->owner_space), frame->owner_page);
}

bool mm_pfn_exists(const struct machine *machine, PFN_NUMBER pfn)
{
    uint32_t page;

    return mm_is_host_pfn(pfn) || mm_is_io_pfn(pfn) || mm_page_of_pfn(machine, pfn, &page);
}

size_t mm_pfns_exist(const struct machine *machine, const PFN_NUMBER *pfns, size_t n)
{
    size_t good = 0, run;
    void *va;

    do {
        run = mm_first_run(machine, pfns + good, n - good, &va);
        good += run;
    } while (run != 0 && good < n);
    return good;
}

bool mm_pfn_is_held(const struct machine *machine, PFN_NUMBER pfn)
{
    uint32_t page;

    if (mm_is_host_pfn(pfn) || mm_is_io_pfn(pfn))
        return true;
    if (!mm_page_of_pfn(machine, pfn, &page))
        return false;
    switch (mm_frame_state(machine, page)) {
    case MM_FRAME_FREE:
        return false;
    case MM_FRAME_SPACE:
        return mm_pins_of_pfn(machine, pfn) != 0;
    default:
        return true;
    }
}

/* ---- what may be mapped ---- */

/* A page of a space. The claim that covers it becomes the witness, unless another one has been it before. */
static bool is_pinned(struct machine *machine, PFN_NUMBER pfn, const struct mm_frame *frame, struct mm_witness *witness)
{
    uint64_t word;
    const struct mm_space *space = mm_space_by_id(machine, frame->owner_space);
    const _Atomic uint64_t *claim = mm_claim_covering(machine, space, frame->owner_page, 1, &word);

    if (claim == NULL || witness->claim != NULL)
        witness->given = 0;
    witness->claim = claim;
    witness->word = claim == NULL ? 0 : word;
    return claim != NULL || mm_pins_of_pfn(machine, pfn) != 0;
}

static bool is_held(struct machine *machine, PFN_NUMBER pfn, struct mm_witness *witness)
{
    const struct mm_frame *frame;
    uint32_t page;

    if (mm_is_io_pfn(pfn) || !mm_page_of_pfn(machine, pfn, &page) || mm_frame_state(machine, page) != MM_FRAME_SPACE)
        return mm_pfn_is_held(machine, pfn);
    frame = mm_frame(machine, page);
    return (frame->owner_space == witness->word >> CLAIM_SPACE_SHIFT
            && frame->owner_page - claim_first(witness->word) < claim_pages(witness->word))
        || is_pinned(machine, pfn, frame, witness);
}

size_t mm_count_held(struct machine *machine, const PFN_NUMBER *pfns, size_t npages, struct mm_witness *witness)
{
    size_t n = 0;

    *witness = (struct mm_witness){.given = atomic_load(&machine->mm->frames_given)};
    while (n < npages && is_held(machine, pfns[n], witness))
        n++;
    return n;
}
