/* SPDX-License-Identifier: MIT */
/*
 * The machine's RAM: which frames there are, their numbers, who has them. zones.h explains how numbers lie.
 *
 * Interface: take and give work in runs of neighbouring pages, because a run is one mapping. What taken frames are used
 * for is the taker's to mark. A frame given back while it is pinned becomes a zombie, and mm_frame_unpinned frees it.
 */

#include "mm/state.h"
#include "mm/zones.h"
#include "rtl/lanes.h"
#include "rtl/mix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOW_LINEAR_PAGES = (16 - 1) * 256,      /* 1 MiB .. 16 MiB */
    LINEAR_PAGES     = 256 * 256,           /* 256 MiB */
    DISCARD_PAGES    = 512,                 /* runs from here up go back to the host instead of being zeroed by hand */
};

#define LOW_LINEAR_PFN   0x100ull
#define MID_LINEAR_PFN   0x10000ull
#define LOW_SCATTER_PFN  0x20000ull
#define HIGH_LINEAR_PFN  0x100000ull
#define HIGH_SCATTER_PFN 0x200000ull
#define LOW_SCATTER_MAX  0x80000ull

/* ---- pi ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

/* Newton's iteration doubles the correct low bits each time; an odd number is its own inverse modulo 8. */
static uint64_t inverse_of_odd(uint64_t odd)
{
    uint64_t inverse = odd;

    for (int i = 0; i < 5; i++)
        inverse *= 2 - odd * inverse;
    return inverse;
}

/* A multiplier between a quarter and a half of the zone keeps neighbours, and neighbours' neighbours, apart. */
static void scatter(struct mm_zone *zone, uint64_t seed)
{
    zone->mask = zone->npages - 1;
    zone->multiplier = (mix(seed + zone->npages) & (zone->mask >> 2)) | (zone->npages >> 2) | 1;
    zone->inverse = inverse_of_odd(zone->multiplier);
    zone->offset = mix(seed * 31 + zone->first_page) & zone->mask;
}

bool mm_page_of_pfn(const struct machine *machine, PFN_NUMBER pfn, uint32_t *page)
{
    const struct mm_zone *zone = zone_of_pfn(machine, pfn);

    if (zone != NULL)
        *page = zone->first_page + index_in_zone(zone, pfn);
    return zone != NULL;
}

size_t mm_run_of_pfns(const struct machine *machine, const PFN_NUMBER *pfns, size_t n, uint32_t *page)
{
    const struct mm_zone *zone = zone_of_pfn(machine, pfns[0]);
    struct rtl_steps numbers;
    uint32_t index;
    size_t most;

    if (zone == NULL)
        return 0;
    numbers = steps_from(zone, pfns[0]);
    index = index_in_zone(zone, pfns[0]);
    most = n < zone->npages - index ? n : zone->npages - index;
    *page = zone->first_page + index;
    return rtl_lanes->count_steps(pfns, &numbers, most);
}

PFN_NUMBER mm_pfn_of_page(const struct machine *machine, uint32_t page)
{
    const struct mm_zone *zone = zone_of_page(machine, page);

    return pfn_in_zone(zone, page - zone->first_page);
}

static void store_pfns(const struct mm_zone *zone, uint32_t first, size_t n, PFN_NUMBER *pfns)
{
    const struct rtl_steps numbers = steps_from(zone, pfn_in_zone(zone, first));

    rtl_store_steps(pfns, &numbers, n);
}

void mm_pfns_of_pages(const struct machine *machine, uint32_t page, size_t npages, PFN_NUMBER *pfns)
{
    while (npages > 0) {
        const struct mm_zone *zone = zone_of_page(machine, page);
        const uint32_t first = page - zone->first_page;
        const size_t here = npages < zone->npages - first ? npages : zone->npages - first;

        store_pfns(zone, first, here, pfns);
        pfns += here;
        page += (uint32_t)here;
        npages -= here;
    }
}

PFN_NUMBER mm_highest_pfn(const struct machine *machine)
{
    const struct mm_zones *zones = machine->mm->zones;
    PFN_NUMBER highest = 0;

    for (unsigned i = 0; i < zones->nzones; i++)
        if (zones->zone[i].base_pfn + zones->zone[i].npages - 1 > highest)
            highest = zones->zone[i].base_pfn + zones->zone[i].npages - 1;
    return highest;
}

_Static_assert(MM_FRAME_FREE == 0 && sizeof(struct mm_frame) == 12, "a free frame's state is zero; with it, a frame takes 13 bytes");

struct mm_frame *mm_frame(const struct machine *machine, uint32_t page)
{
    return &machine->mm->frames[page];
}

enum mm_frame_state mm_frame_state(const struct machine *machine, uint32_t page)
{
    return (enum mm_frame_state)atomic_load(&machine->mm->frame_states[page]);
}

/* ---- taking ---- */

static bool is_on_node(const struct mm_zone *zone, int node)
{
    return node == MM_ANY_NODE || node == (zone->base_pfn >= HIGH_LINEAR_PFN);
}

/* From the general zones, the last one (highest memory) first; `whole` refuses a shorter run. */
static size_t take_run_locked(struct mm_zones *zones, size_t npages, bool whole, uint32_t *first)
{
    for (unsigned i = zones->nzones; i-- > 0;) {
        struct mm_zone *zone = &zones->zone[i];
        size_t index;
        const size_t got = zone->general ? rtl_buddy_take_run(&zone->buddy, npages, &index) : 0;

        if (got != 0 && (!whole || got == npages)) {
            *first = zone->first_page + (uint32_t)index;
            return got;
        }
        if (got != 0)
            rtl_buddy_give(&zone->buddy, index, got);
    }
    return 0;
}

static size_t take_run(struct machine *machine, size_t npages, bool whole, uint32_t *first)
{
    struct mm_zones *zones = machine->mm->zones;
    size_t got;

    if (ke_internal_fails())
        return 0;
    host_mutex_lock(&zones->lock);
    got = take_run_locked(zones, npages, whole, first);
    host_mutex_unlock(&zones->lock);
    return got;
}

bool mm_frames_take_whole(struct machine *machine, size_t npages, uint32_t *first)
{
    return npages != 0 && take_run(machine, npages, true, first) == npages;
}

size_t mm_frames_take(struct machine *machine, size_t npages, uint32_t *first)
{
    const size_t whole = npages == 0 ? 0 : take_run(machine, npages, true, first);

    return whole != 0 ? whole : take_run(machine, npages, false, first);
}

/* The first index from `index` up where npages would neither leave the wanted PFNs nor cross the boundary. */
static size_t align_to_want(const struct mm_zone *zone, const struct mm_frame_want *want, size_t index)
{
    PFN_NUMBER pfn = zone->base_pfn + index;

    if (pfn < want->low)
        pfn = want->low;
    if (want->boundary_pages != 0 && pfn / want->boundary_pages != (pfn + want->npages - 1) / want->boundary_pages)
        pfn = (pfn / want->boundary_pages + 1) * want->boundary_pages;
    return (size_t)(pfn - zone->base_pfn);
}

static bool is_wanted(const struct mm_zone *zone, const struct mm_frame_want *want, size_t index)
{
    const PFN_NUMBER pfn = zone->base_pfn + index;

    return index + want->npages <= zone->npages && pfn + want->npages - 1 <= want->high;
}

/* The first page in [index, index + n) that is not free, or index + n. */
static size_t first_busy(const struct mm_zone *zone, size_t index, size_t n)
{
    const size_t end = index + n;

    while (index < end) {
        size_t start;
        const size_t have = rtl_buddy_block_at(&zone->buddy, index, &start);

        if (have == 0)
            return index;
        index = start + have;
    }
    return end;
}

static bool take_contiguous_locked(struct mm_zone *zone, const struct mm_frame_want *want, size_t *index)
{
    *index = align_to_want(zone, want, 0);
    while (is_wanted(zone, want, *index)) {
        const size_t busy = first_busy(zone, *index, want->npages);

        if (busy >= *index + want->npages)
            return rtl_buddy_take_exact(&zone->buddy, *index, want->npages);
        *index = align_to_want(zone, want, busy + 1);
    }
    return false;
}

bool mm_frames_take_contiguous(struct machine *machine, const struct mm_frame_want *want, uint32_t *first)
{
    struct mm_zones *zones = machine->mm->zones;
    bool taken = false;

    if (want->npages == 0 || (want->boundary_pages != 0 && want->npages > want->boundary_pages) || ke_internal_fails())
        return false;
    host_mutex_lock(&zones->lock);
    for (unsigned i = zones->nzones; i-- > 0 && !taken;) {
        struct mm_zone *zone = &zones->zone[i];
        size_t index;

        if (is_scattered(zone) || zone->io || !is_on_node(zone, want->node))
            continue;
        taken = take_contiguous_locked(zone, want, &index);
        if (taken)
            *first = zone->first_page + (uint32_t)index;
    }
    host_mutex_unlock(&zones->lock);
    return taken;
}

/* ---- taking page by page ---- */

static size_t take_runs_locked(struct mm_zone *zone, size_t npages, PFN_NUMBER *pfns)
{
    size_t done = 0, index, got;

    while (done < npages && (got = rtl_buddy_take_run(&zone->buddy, npages - done, &index)) != 0) {
        store_pfns(zone, (uint32_t)index, got, pfns + done);
        done += got;
    }
    return done;
}

/* Only some PFNs of the zone are acceptable: try each of them. */
static size_t take_singles_locked(struct mm_zone *zone, PFN_NUMBER low, PFN_NUMBER high, size_t npages, PFN_NUMBER *pfns)
{
    size_t done = 0;

    for (PFN_NUMBER pfn = low; pfn <= high && done < npages; pfn++)
        if (rtl_buddy_take_exact(&zone->buddy, index_in_zone(zone, pfn), 1))
            pfns[done++] = pfn;
    return done;
}

static size_t take_from_zone_locked(struct mm_zone *zone, const struct mm_frame_want *want, size_t npages, PFN_NUMBER *pfns)
{
    const PFN_NUMBER first = zone->base_pfn, last = zone->base_pfn + zone->npages - 1;

    if (zone->io || first > want->high || last < want->low || !is_on_node(zone, want->node))
        return 0;
    if (first >= want->low && last <= want->high)
        return take_runs_locked(zone, npages, pfns);
    return take_singles_locked(zone, first > want->low ? first : want->low, last < want->high ? last : want->high, npages, pfns);
}

/* General zones first, so that contiguous memory lasts longest. */
size_t mm_frames_take_pages(struct machine *machine, const struct mm_frame_want *want, PFN_NUMBER *pfns)
{
    struct mm_zones *zones = machine->mm->zones;
    size_t done = 0;

    if (ke_internal_fails())
        return 0;
    host_mutex_lock(&zones->lock);
    for (int general = 1; general >= 0; general--)
        for (unsigned i = zones->nzones; i-- > 0;)
            if (zones->zone[i].general == (general != 0))
                done += take_from_zone_locked(&zones->zone[i], want, want->npages - done, pfns + done);
    host_mutex_unlock(&zones->lock);
    return done;
}

/* ---- giving back ---- */

static void set_state(struct machine *machine, uint32_t page, enum mm_frame_state state)
{
    atomic_store(&machine->mm->frame_states[page], (uint8_t)state);
}

static void give_run(struct machine *machine, uint32_t first, size_t npages)
{
    struct mm_zone *zone = zone_of_page(machine, first);
    const bool discarded = npages >= DISCARD_PAGES
        && host_ram_discard(&machine->mm->ram, (size_t)first * HOST_PAGE_SIZE, npages * HOST_PAGE_SIZE) == 0;

    for (size_t i = 0; i < npages; i++) {
        machine->mm->frames[first + i].dirty = !discarded;
        machine->mm->frames[first + i].cache = 0;
        if (machine->mm->frames[first + i].executable)
            mm_window_stop_execution(machine, first + (uint32_t)i);
    }
    host_mutex_lock(&machine->mm->zones->lock);
    rtl_buddy_give(&zone->buddy, first - zone->first_page, npages);
    host_mutex_unlock(&machine->mm->zones->lock);
}

/* Free a frame, or leave it to its pins. A last unpin that comes between is seen by one side or the other. */
static bool release_frame(struct machine *machine, uint32_t page)
{
    uint8_t zombie = MM_FRAME_ZOMBIE;

    set_state(machine, page, MM_FRAME_ZOMBIE);
    if (atomic_load(&mm_frame(machine, page)->pins) != 0)
        return false;
    return atomic_compare_exchange_strong(&machine->mm->frame_states[page], &zombie, MM_FRAME_FREE);
}

static bool is_released(struct machine *machine, uint32_t page)
{
    return LIKELY(atomic_load_explicit(&mm_frame(machine, page)->pins, memory_order_relaxed) == 0) || release_frame(machine, page);
}

/*
 * Hardly any frame is pinned now, so all of them become free, and behind one fence those that have pins become zombies after all. Whoever
 * drops a last pin before finds a free frame, which is nobody's to release, and then we find no pin.
 */
void mm_frames_give(struct machine *machine, uint32_t first, size_t npages)
{
    size_t start = 0;

    atomic_fetch_add(&machine->mm->frames_given, 1);
    mm_frames_mark(machine, first, npages, MM_FRAME_FREE);
    atomic_thread_fence(memory_order_seq_cst);
    for (size_t i = 0; i < npages; i++) {
        if (is_released(machine, first + (uint32_t)i))
            continue;
        if (i > start)
            give_run(machine, first + (uint32_t)start, i - start);
        start = i + 1;
    }
    if (npages > start)
        give_run(machine, first + (uint32_t)start, npages - start);
}

void mm_frames_give_unpinned(struct machine *machine, uint32_t first, size_t npages)
{
    for (size_t i = 0; i < npages; i++) {
        const struct mm_frame *frame = mm_frame(machine, first + (uint32_t)i);
        const uint32_t pins = atomic_load(&frame->pins);

        if (pins != 0)
            ke_bug_check(PFN_LIST_CORRUPT, 0x9A, mm_pfn_of_page(machine, first + (uint32_t)i), mm_frame_state(machine, first + (uint32_t)i), pins);
    }
    mm_frames_give(machine, first, npages);
}

void mm_frame_unpinned(struct machine *machine, uint32_t page)
{
    if (mm_frame_state(machine, page) != MM_FRAME_ZOMBIE)
        return;
    atomic_fetch_add(&machine->mm->frames_given, 1);
    if (release_frame(machine, page))
        give_run(machine, page, 1);
}

void mm_frames_set_cache(struct machine *machine, uint32_t first, size_t npages, MEMORY_CACHING_TYPE cache)
{
    for (size_t i = 0; i < npages; i++)
        mm_frame(machine, first + (uint32_t)i)->cache = (uint8_t)(cache + 1);
}

void mm_frames_zero(struct machine *machine, uint32_t first, size_t npages)
{
    for (size_t i = 0; i < npages; i++) {
        struct mm_frame *frame = mm_frame(machine, first + (uint32_t)i);

        if (frame->dirty)
            memset(mm_window_va(machine, first + (uint32_t)i), 0, HOST_PAGE_SIZE);
        frame->dirty = 0;
    }
}

static void fill_at_random(uint64_t *words, uint64_t seed)
{
    for (size_t i = 0; i < HOST_PAGE_SIZE / sizeof(*words); i++)
        words[i] = rtl_mix(seed + i);
}

void mm_frames_leave_uninitialised(struct machine *machine, uint32_t first, size_t npages)
{
    const struct ke_options *options = &machine->options;

    if (!(options->verifier & KE_VERIFIER_LOW_RESOURCES) || options->windows < KE_WINDOWS_8_1)
        return;
    for (size_t i = 0; i < npages; i++)
        fill_at_random(mm_window_va(machine, first + (uint32_t)i), rtl_mix(options->seed + first + i));
}

void mm_frames_allow_execution(struct machine *machine, uint32_t first, size_t npages)
{
    for (size_t i = 0; i < npages; i++)
        mm_frame(machine, first + (uint32_t)i)->executable = 1;
}

void mm_frames_mark(struct machine *machine, uint32_t first, size_t npages, enum mm_frame_state state)
{
    _Atomic uint8_t *states = &machine->mm->frame_states[first];

    for (size_t i = 0; i < npages; i++)
        atomic_store_explicit(&states[i], (uint8_t)state, memory_order_release);
}

bool mm_frames_are(const struct machine *machine, uint32_t first, size_t npages, enum mm_frame_state state)
{
    return rtl_all_bytes(&machine->mm->frame_states[first], npages, 0xFF, (uint8_t)state);
}

size_t mm_frames_free(struct machine *machine)
{
    struct mm_zones *zones = machine->mm->zones;
    size_t nfree = 0;

    host_mutex_lock(&zones->lock);
    for (unsigned i = 0; i < zones->nzones; i++)
        nfree += zones->zone[i].buddy.nfree;
    host_mutex_unlock(&zones->lock);
    return nfree;
}

/* ---- boot ---- */

static struct mm_zone *plan_zone(struct mm_zones *zones, uint32_t *next_page, PFN_NUMBER base, size_t npages, bool general)
{
    struct mm_zone *zone = &zones->zone[zones->nzones++];

    VERIFY(zones->nzones <= MM_MAX_ZONES);
    *zone = (struct mm_zone){.first_page = *next_page, .npages = (uint32_t)npages, .base_pfn = base, .general = general,
                              .multiplier = 1, .inverse = 1, .mask = ~(uint64_t)0};
    *next_page += (uint32_t)npages;
    return zone;
}

static size_t power_of_two_below(size_t n)
{
    return (size_t)1 << (63 - __builtin_clzll(n));
}

/* Half of RAM below 4 GiB as far as there is room for it, the rest above, in pieces whose sizes are powers of two. */
static size_t plan_zones(struct mm_zones *zones, size_t ram_pages)
{
    const size_t half = power_of_two_below(ram_pages / 2);
    const size_t low = half < LOW_SCATTER_MAX ? half : LOW_SCATTER_MAX;
    PFN_NUMBER high_pfn = HIGH_SCATTER_PFN;
    uint32_t next_page = 0;

    plan_zone(zones, &next_page, LOW_LINEAR_PFN, LOW_LINEAR_PAGES, false);
    plan_zone(zones, &next_page, MID_LINEAR_PFN, LINEAR_PAGES, false);
    plan_zone(zones, &next_page, HIGH_LINEAR_PFN, LINEAR_PAGES, false);
    plan_zone(zones, &next_page, MM_IO_PFN, MM_IO_PAGES, false)->io = true;
    plan_zone(zones, &next_page, LOW_SCATTER_PFN, low, true);
    for (size_t left = ram_pages - low; left > 0;) {
        const size_t piece = power_of_two_below(left);

        plan_zone(zones, &next_page, high_pfn, piece, true);
        high_pfn += piece;
        left -= piece;
    }
    return next_page;
}

static int open_zone(struct mm_zone *zone, const struct ke_options *options)
{
    int error;

    if (zone->general && options->scattered)
        scatter(zone, options->seed);
    zone->bitmaps_bytes = (rtl_buddy_bytes(zone->npages) + HOST_PAGE_SIZE - 1) & ~(size_t)(HOST_PAGE_SIZE - 1);
    error = host_table(zone->bitmaps_bytes, &zone->bitmaps);
    if (error != 0)
        return error;
    rtl_buddy_init(&zone->buddy, zone->npages, zone->bitmaps);
    if (!zone->io)
        rtl_buddy_give(&zone->buddy, 0, zone->npages);
    return 0;
}

static size_t table_bytes(const struct mm_state *mm, size_t entry_bytes)
{
    return span_bytes_to_pages(mm->npages * entry_bytes) * HOST_PAGE_SIZE;
}

static int make_frame_tables(struct mm_state *mm)
{
    void *frames = NULL, *states = NULL;
    int error = host_table(table_bytes(mm, sizeof(*mm->frames)), &frames);

    if (error == 0)
        error = host_table(table_bytes(mm, sizeof(*mm->frame_states)), &states);
    mm->frames = frames;
    mm->frame_states = states;
    return error;
}

int mm_frames_boot(struct machine *machine)
{
    struct mm_state *mm = machine->mm;
    int error = 0;

    atomic_store(&mm->frames_given, 1);
    mm->zones = calloc(1, sizeof(*mm->zones));
    if (mm->zones == NULL)
        return -ENOMEM;
    host_mutex_init(&mm->zones->lock);
    mm->npages = plan_zones(mm->zones, machine->options.ram_bytes / HOST_PAGE_SIZE);
    for (unsigned i = 0; i < mm->zones->nzones && error == 0; i++)
        error = open_zone(&mm->zones->zone[i], &machine->options);
    return error == 0 ? make_frame_tables(mm) : error;
}

void mm_frames_shutdown(struct machine *machine)
{
    struct mm_state *mm = machine->mm;

    if (mm->zones == NULL)
        return;
    host_release(mm->frames, table_bytes(mm, sizeof(*mm->frames)));
    host_release((void *)mm->frame_states, table_bytes(mm, sizeof(*mm->frame_states)));
    for (unsigned i = 0; i < mm->zones->nzones; i++)
        host_release(mm->zones->zone[i].bitmaps, mm->zones->zone[i].bitmaps_bytes);
    host_mutex_destroy(&mm->zones->lock);
    free(mm->zones);
    mm->zones = NULL;
}
