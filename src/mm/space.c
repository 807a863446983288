/* SPDX-License-Identifier: MIT */
/*
 * Address spaces: page tables in parallel arrays, regions, and the host's mappings that follow them.
 *
 *     | guard | region A ........ | guard | region B ... | guard |  free ...
 *
 * Each region has an unused page before and behind it; neighbours share one. New regions start where the last one
 * ended, and the search wraps at the end: addresses are reused oldest first, so a stale pointer faults for a long time.
 *
 * The page table is the truth and the host's mapping follows it: attributes are taken away before the host's mapping is,
 * and given after it has been made. A pin that comes in between sees the attribute gone and asks under the lock.
 */

#include "mm/state.h"
#include "rtl/lanes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void *va_of(const struct mm_space *space, uint32_t page)
{
    return (void *)(space->base + (uintptr_t)page * HOST_PAGE_SIZE);
}

static uint8_t attributes_of(const struct mm_space *space, uint32_t page)
{
    return atomic_load(&space->attrs[page]);
}

/* Who then looks for pins calls mm_claims_settle first. */
static void set_attributes(struct mm_space *space, uint32_t page, uint8_t attributes)
{
    atomic_store_explicit(&space->attrs[page], attributes, memory_order_release);
}

void mm_space_fill_attributes(struct mm_space *space, uint32_t first, size_t npages, uint8_t attributes)
{
    rtl_fill_bytes(&space->attrs[first], npages, attributes);
}

/* What the host's mapping of a page permits: nothing while it is trimmed, or guarded. */
static unsigned host_access_of(uint8_t attributes)
{
    const bool reachable = (attributes & MM_RESIDENT) && !(attributes & (MM_GUARD | MM_ZOMBIE));

    return reachable ? attributes & MM_ACCESS : HOST_NONE;
}

/* ---- regions ---- */

enum { FIRST_ROOM = 16 };

static bool grow_regions_locked(struct mm_space *space)
{
    const uint32_t room = space->regions_room == 0 ? FIRST_ROOM : space->regions_room * 2;
    struct mm_region *regions = realloc(space->regions, room * sizeof(*regions));

    if (regions == NULL)
        return false;
    space->regions = regions;
    space->regions_room = room;
    return true;
}

/* An entry of the table with its pages marked as its own; NULL when there is no memory for it. */
static struct mm_region *add_region_locked(struct mm_space *space, uint32_t first, uint32_t npages, enum mm_region_kind kind)
{
    uint32_t index = space->free_region;

    if (ke_internal_fails())
        return NULL;
    if (index != MM_NO_REGION) {
        space->free_region = space->regions[index].next_free;
    } else {
        if (space->nregions == space->regions_room && !grow_regions_locked(space))
            return NULL;
        index = space->nregions++;
    }
    space->regions[index] = (struct mm_region){.first = first, .live_first = first, .npages = npages, .kind = kind};
    for (uint32_t i = 0; i < npages; i++)
        space->region_of[first + i] = index + 1;
    space->nused += npages;
    return &space->regions[index];
}

void mm_space_forget_region_locked(struct mm_space *space, struct mm_region *region)
{
    mm_space_fill_attributes(space, region->first, region->npages, 0);
    memset(&space->region_of[region->first], 0, region->npages * sizeof(space->region_of[0]));
    space->nused -= region->npages;
    region->npages = 0;
    region->next_free = space->free_region;
    space->free_region = (uint32_t)(region - space->regions);
}

/* The region that the address is in; NULL where there is none, or one that is only kept. */
static struct mm_region *region_at_locked(struct mm_space *space, uintptr_t va)
{
    const uint32_t index = space->region_of[mm_space_page(space, va)];

    return index == 0 || space->regions[index - 1].kind == MM_REGION_KEPT ? NULL : &space->regions[index - 1];
}

bool mm_space_region(struct mm_space *space, uintptr_t va, struct mm_region *out)
{
    const struct mm_region *region;

    host_mutex_lock(&space->lock);
    region = region_at_locked(space, va);
    if (region != NULL)
        *out = *region;
    host_mutex_unlock(&space->lock);
    return region != NULL;
}

size_t mm_space_room(struct mm_space *space)
{
    size_t room;

    host_mutex_lock(&space->lock);
    room = space->npages - space->nused + mm_kept_pages(space);
    host_mutex_unlock(&space->lock);
    return room;
}

/* ---- free addresses ---- */

enum { LINE_PAGES = 8, LARGE_PAGES = 16 };              /* page numbers in a cache line; from where on it matters where they begin */

/* The end of the last region that touches [first, first + n), or 0 when none does. */
static uint32_t end_of_obstacle_locked(const struct mm_space *space, uint32_t first, uint32_t n)
{
    for (uint32_t page = first + n; page-- > first;) {
        const uint32_t index = space->region_of[page];

        if (index != 0)
            return space->regions[index - 1].first + space->regions[index - 1].npages;
    }
    return 0;
}

bool mm_space_is_unused_locked(const struct mm_space *space, uint32_t first, uint32_t npages)
{
    return end_of_obstacle_locked(space, first, npages) == 0;
}

/* npages from `first` on, with the unused pages around them, are inside the space and belong to nobody. */
static bool is_free_locked(const struct mm_space *space, uint32_t first, uint32_t npages)
{
    if (first == 0 || first >= space->npages || npages > space->npages - first - 1)
        return false;
    return end_of_obstacle_locked(space, first - 1, npages + 2) == 0;
}

static uint32_t round_up(uint32_t page, uint32_t multiple)
{
    return (page + multiple - 1) / multiple * multiple;
}

static bool search_locked(const struct mm_space *space, uint32_t from, uint32_t to, uint32_t npages, uint32_t multiple, uint32_t *found)
{
    uint32_t first = round_up(from, multiple);

    while (first <= to && npages <= space->npages - first - 1) {
        const uint32_t obstacle = end_of_obstacle_locked(space, first - 1, npages + 2);

        if (obstacle == 0) {
            *found = first;
            return true;
        }
        first = round_up(obstacle + 1, multiple);
        if (first >= space->npages)
            break;
    }
    return false;
}

static bool find_multiple_locked(const struct mm_space *space, uint32_t npages, uint32_t multiple, uint32_t *found)
{
    return search_locked(space, space->cursor, space->npages - 1, npages, multiple, found)
        || search_locked(space, 1, space->cursor, npages, multiple, found);
}

/*
 * The numbers of a large region begin at a cache line of their table as long as there is room: copying and comparing them, which is most
 * of what a lock costs, takes two thirds of the time then.
 */
static bool find_place_locked(const struct mm_space *space, uint32_t npages, uint32_t *found)
{
    return (npages >= LARGE_PAGES && find_multiple_locked(space, npages, LINE_PAGES, found)) || find_multiple_locked(space, npages, 1, found);
}

/* Where addresses have run out, kept mappings give theirs. */
static bool find_free_locked(struct mm_space *space, uint32_t npages, uint32_t *found)
{
    const uint32_t last = space->npages - 1;

    if (npages == 0 || npages > last - 1)
        return false;
    if (!find_place_locked(space, npages, found) && !(mm_kept_evict_all_locked(space) && find_place_locked(space, npages, found)))
        return false;
    space->cursor = *found + npages + 1 < last ? *found + npages + 1 : 1;
    return true;
}

/* ---- the host's mappings ---- */

/* False: the host refused, and the addresses are as they were. */
static bool map_host(struct machine *machine, struct mm_space *space, uint32_t first, uint32_t page, size_t n, unsigned access)
{
    return host_map(&machine->mm->ram, (size_t)page * HOST_PAGE_SIZE, va_of(space, first), n * HOST_PAGE_SIZE, access) == 0;
}

/* Put pages out of reach for good. At its limit of mappings the host refuses a new one, but not to shut those that are there. */
void mm_space_shut(struct mm_space *space, uint32_t first, size_t npages)
{
    void *at = va_of(space, first);

    VERIFY(host_revoke(at, npages * HOST_PAGE_SIZE) == 0 || host_protect(at, npages * HOST_PAGE_SIZE, HOST_NONE) == 0);
}

/* Only mappings in system space have bytes that are poisoned; of a whole space this would take seconds. */
void mm_space_unpoison(const struct mm_space *space, uint32_t first, size_t npages)
{
    if (space->kind == MM_KIND_SYSTEM_PTE)
        host_unpoison(va_of(space, first), npages * HOST_PAGE_SIZE);
}

void mm_space_revoke(struct mm_space *space, uint32_t first, size_t npages)
{
    mm_space_unpoison(space, first, npages);
    mm_space_shut(space, first, npages);
}

/* ---- memory of the space's own ---- */

/* Return the frames of pages [first, first + n) in as few runs as they have. */
static void give_frames_locked(struct machine *machine, struct mm_space *space, uint32_t first, size_t n)
{
    while (n > 0) {
        void *va;
        uint32_t page;
        const size_t run = mm_first_run(machine, &space->pfns[first], n, &va);

        VERIFY(run != 0 && mm_window_page(machine, (uintptr_t)va, &page));
        mm_frames_give(machine, page, run);
        first += (uint32_t)run;
        n -= run;
    }
}

/* The space is no longer anybody's. */
void mm_space_give_memory(struct machine *machine, struct mm_space *space)
{
    for (uint32_t i = 0; i < space->nregions; i++)
        if (space->regions[i].npages != 0 && space->regions[i].kind == MM_REGION_MEMORY)
            give_frames_locked(machine, space, space->regions[i].first, space->regions[i].npages);
}

static void own_frames_locked(struct machine *machine, struct mm_space *space, uint32_t first, uint32_t page, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct mm_frame *frame = mm_frame(machine, page + (uint32_t)i);

        frame->owner_space = space->id;
        frame->owner_page = first + (uint32_t)i;
    }
    mm_frames_mark(machine, page, n, MM_FRAME_SPACE);
    mm_pfns_of_pages(machine, page, n, &space->pfns[first]);
    for (size_t i = 0; i < n; i++)
        space->runs[first + i] = (uint32_t)(n - i);
}

/* Back one run: frames, contents, the host's mapping, the page table. How many pages; 0 when RAM or the host refuses. */
static size_t back_run_locked(struct machine *machine, struct mm_space *space, uint32_t first, size_t n, uint8_t attributes)
{
    uint32_t page;
    const size_t got = mm_frames_take(machine, n, &page);

    if (got == 0)
        return 0;
    mm_frames_zero(machine, page, got);
    if (ke_internal_fails() || !map_host(machine, space, first, page, got, host_access_of(attributes))) {
        mm_frames_give(machine, page, got);
        return 0;
    }
    own_frames_locked(machine, space, first, page, got);
    mm_space_fill_attributes(space, first, got, attributes);
    return got;
}

static bool back_locked(struct machine *machine, struct mm_space *space, uint32_t first, uint32_t npages, uint8_t attributes)
{
    size_t done = 0;

    while (done < npages) {
        const size_t got = back_run_locked(machine, space, first + (uint32_t)done, npages - done, attributes);

        if (got == 0) {
            mm_space_revoke(space, first, npages);
            give_frames_locked(machine, space, first, done);
            return false;
        }
        done += got;
    }
    return true;
}

static uintptr_t allocate_locked(struct machine *machine, struct mm_space *space, uint32_t npages, uint8_t attributes)
{
    struct mm_region *region;
    uint32_t first;

    if (!find_free_locked(space, npages, &first))
        return 0;
    region = add_region_locked(space, first, npages, MM_REGION_MEMORY);
    if (region == NULL)
        return 0;
    if (!back_locked(machine, space, first, npages, attributes | MM_USED | MM_RESIDENT)) {
        mm_space_forget_region_locked(space, region);
        return 0;
    }
    return (uintptr_t)va_of(space, first);
}

uintptr_t mm_space_allocate(struct machine *machine, struct mm_space *space, size_t npages, uint8_t attributes)
{
    uintptr_t va;

    if (npages >= space->npages)
        return 0;
    host_mutex_lock(&space->lock);
    va = allocate_locked(machine, space, (uint32_t)npages, attributes);
    host_mutex_unlock(&space->lock);
    return va;
}

static uint64_t region_pins(const struct machine *machine, const struct mm_space *space, const struct mm_region *region)
{
    return mm_space_pins_on(machine, space, region->first, region->npages);
}

uint64_t mm_space_pins(struct mm_space *space)
{
    const struct machine *machine = ke_machine();
    uint64_t pins = 0;

    mm_claims_settle(machine);
    host_mutex_lock(&space->lock);
    for (uint32_t i = 0; i < space->nregions; i++)
        pins += region_pins(machine, space, &space->regions[i]);
    host_mutex_unlock(&space->lock);
    return pins;
}

static void drop_region_locked(struct machine *machine, struct mm_space *space, struct mm_region *region)
{
    give_frames_locked(machine, space, region->first, region->npages);
    mm_space_forget_region_locked(space, region);
}

/*
 * The region is out of reach from here on. Its attributes say ZOMBIE before its pins are added up: a lock that slips in
 * between finds the page gone, drops its pin again and so comes to mm_space_reap.
 */
static void free_region_locked(struct machine *machine, struct mm_space *space, struct mm_region *region)
{
    mm_space_fill_attributes(space, region->first, region->npages, MM_USED | MM_ZOMBIE);
    mm_space_revoke(space, region->first, region->npages);
    mm_claims_settle(machine);
    if (region_pins(machine, space, region) == 0)
        drop_region_locked(machine, space, region);
}

bool mm_space_free(struct machine *machine, struct mm_space *space, uintptr_t va)
{
    struct mm_region *region;
    bool found;

    host_mutex_lock(&space->lock);
    region = region_at_locked(space, va);
    found = region != NULL && region->kind == MM_REGION_MEMORY && (uintptr_t)va_of(space, region->first) == va
        && !(attributes_of(space, region->first) & MM_ZOMBIE);
    if (found)
        free_region_locked(machine, space, region);
    host_mutex_unlock(&space->lock);
    return found;
}

void mm_space_reap(struct machine *machine, struct mm_space *space, uint32_t page)
{
    struct mm_region *region;

    host_mutex_lock(&space->lock);
    region = region_at_locked(space, (uintptr_t)va_of(space, page));
    if (region != NULL && (attributes_of(space, page) & MM_ZOMBIE) && region_pins(machine, space, region) == 0)
        drop_region_locked(machine, space, region);
    host_mutex_unlock(&space->lock);
}

/* ---- protection and residence ---- */

/* One call to the host for each run of pages whose host access comes out the same. False: the host refused `*failed`. */
static bool apply_host_access(struct mm_space *space, uint32_t first, uint32_t npages, uint32_t *failed)
{
    for (uint32_t i = 0; i < npages;) {
        const unsigned access = host_access_of(attributes_of(space, first + i));
        uint32_t run = 1;

        while (i + run < npages && host_access_of(attributes_of(space, first + i + run)) == access)
            run++;
        if (host_protect(va_of(space, first + i), (size_t)run * HOST_PAGE_SIZE, access) != 0) {
            *failed = first + i;
            return false;
        }
        i += run;
    }
    return true;
}

/* Whole pages of one region that is in use. */
static bool is_inside_region_locked(struct mm_space *space, uintptr_t va, size_t npages)
{
    const struct mm_region *region = region_at_locked(space, va);
    const uint32_t first = mm_space_page(space, va);

    return region != NULL && !(attributes_of(space, first) & MM_ZOMBIE) && npages <= region->first + region->npages - first;
}

/* What the host did before it refused is undone: the runs that it split are there already, so it does not refuse again. */
static bool protect_locked(struct mm_space *space, uint32_t first, uint32_t npages, uint8_t attributes)
{
    uint8_t *old = malloc(npages);
    uint32_t failed;
    bool done;

    if (old == NULL)
        return false;
    for (uint32_t i = 0; i < npages; i++) {
        old[i] = attributes_of(space, first + i);
        if (!(old[i] & MM_ALIAS))
            set_attributes(space, first + i, (old[i] & (MM_USED | MM_RESIDENT)) | attributes);
    }
    done = apply_host_access(space, first, npages, &failed);
    for (uint32_t i = 0; i < npages && !done; i++)
        set_attributes(space, first + i, old[i]);
    if (!done)
        VERIFY(failed == first || apply_host_access(space, first, failed - first, &failed));
    free(old);
    return done;
}

bool mm_space_protect(struct machine *machine, struct mm_space *space, uintptr_t va, size_t npages, uint8_t attributes)
{
    bool done;

    (void)machine;
    host_mutex_lock(&space->lock);
    done = is_inside_region_locked(space, va, npages) && protect_locked(space, mm_space_page(space, va), (uint32_t)npages, attributes);
    host_mutex_unlock(&space->lock);
    return done;
}

static bool is_trimmed(uint8_t attributes)
{
    return (attributes & MM_USED) && !(attributes & (MM_RESIDENT | MM_ZOMBIE));
}

static bool make_resident_locked(struct mm_space *space, uint32_t first, uint32_t end)
{
    const uint8_t attributes = attributes_of(space, first) | MM_RESIDENT;

    if (host_protect(va_of(space, first), (size_t)(end - first) * HOST_PAGE_SIZE, host_access_of(attributes)) != 0)
        return false;
    mm_space_fill_attributes(space, first, end - first, attributes);
    return true;
}

/* The same region, and trimmed with the same attributes. */
static bool is_like(const struct mm_space *space, uint32_t page, uint32_t other)
{
    return space->region_of[page] == space->region_of[other] && attributes_of(space, page) == attributes_of(space, other);
}

/*
 * Make one used page resident. False: the host refused.
 *
 * The host keeps a limited number of mappings, and a page out of the middle of a trimmed run costs it two more. At the
 * limit the whole run comes back, which costs none.
 */
static bool page_in_locked(struct mm_space *space, uint32_t page)
{
    uint32_t first = page, end = page + 1;

    if (make_resident_locked(space, page, page + 1))
        return true;
    if (!is_trimmed(attributes_of(space, page)))
        return false;
    while (first > 0 && is_like(space, first - 1, page))
        first--;
    while (end < space->npages && is_like(space, end, page))
        end++;
    return make_resident_locked(space, first, end);
}

void mm_space_page_in(struct machine *machine, struct mm_space *space, uint32_t first, size_t npages)
{
    (void)machine;
    host_mutex_lock(&space->lock);
    for (size_t i = 0; i < npages; i++)
        if (is_trimmed(attributes_of(space, first + (uint32_t)i)))
            VERIFY(page_in_locked(space, first + (uint32_t)i));
    host_mutex_unlock(&space->lock);
}

NTSTATUS mm_space_prepare_page_locked(struct mm_space *space, uint32_t page, uint8_t access)
{
    const uint8_t attributes = attributes_of(space, page);

    if (!(attributes & MM_USED) || (attributes & MM_ZOMBIE) || (attributes & access) != access)
        return STATUS_ACCESS_VIOLATION;
    if (is_trimmed(attributes) && !page_in_locked(space, page))
        return STATUS_INSUFFICIENT_RESOURCES;
    if (!(attributes & MM_GUARD))
        return STATUS_SUCCESS;
    set_attributes(space, page, attributes_of(space, page) & (uint8_t)~MM_GUARD);
    if (page_in_locked(space, page))
        return STATUS_GUARD_PAGE_VIOLATION;
    set_attributes(space, page, attributes_of(space, page) | MM_GUARD);
    return STATUS_INSUFFICIENT_RESOURCES;
}

static bool is_pinned(const struct machine *machine, const struct mm_space *space, uint32_t page)
{
    return mm_space_pins_on(machine, space, page, 1) != 0;
}

/* How many pages in a row are resident, their own, and without a pin as far as can be seen; RESIDENT is taken away from them. */
static uint32_t mark_run_locked(const struct machine *machine, struct mm_space *space, uint32_t first, uint32_t npages)
{
    uint32_t run = 0;

    while (run < npages) {
        const uint8_t attributes = attributes_of(space, first + run);

        if (!(attributes & MM_RESIDENT) || (attributes & (MM_ALIAS | MM_ZOMBIE)) || is_pinned(machine, space, first + run))
            break;
        set_attributes(space, first + run, attributes & (uint8_t)~MM_RESIDENT);
        run++;
    }
    return run;
}

static void unmark_run_locked(struct mm_space *space, uint32_t first, uint32_t npages)
{
    for (uint32_t i = 0; i < npages; i++)
        set_attributes(space, first + i, attributes_of(space, first + i) | MM_RESIDENT);
}

/*
 * The pages from `first` on that could be evicted in a row; they are then out of the host's page table too. Looked at for pins
 * a second time, when a lock that comes sees RESIDENT gone and waits for the space's lock.
 */
static uint32_t evict_run_locked(const struct machine *machine, struct mm_space *space, uint32_t first, uint32_t npages)
{
    const uint32_t marked = mark_run_locked(machine, space, first, npages);
    uint32_t run = 0;

    if (marked == 0)
        return 0;
    mm_claims_settle(machine);
    while (run < marked && !is_pinned(machine, space, first + run))
        run++;
    unmark_run_locked(space, first + run, marked - run);
    if (run == 0 || host_protect(va_of(space, first), (size_t)run * HOST_PAGE_SIZE, HOST_NONE) == 0)
        return run;
    unmark_run_locked(space, first, run);
    return 0;
}

size_t mm_space_trim(struct machine *machine, struct mm_space *space)
{
    size_t trimmed = 0;

    host_mutex_lock(&space->lock);
    for (uint32_t i = 0; i < space->nregions; i++) {
        const struct mm_region *region = &space->regions[i];

        for (uint32_t page = 0; page < region->npages;) {
            const uint32_t run = evict_run_locked(machine, space, region->first + page, region->npages - page);

            trimmed += run;
            page += run == 0 ? 1 : run;
        }
    }
    host_mutex_unlock(&space->lock);
    return trimmed;
}

/* ---- mappings of other owners' frames ---- */

/* How many mappings of the host it took; 0: a PFN is no page of RAM, or the host refused. */
static uint32_t map_runs(struct machine *machine, struct mm_space *space, uint32_t first, const struct mm_map_request *request)
{
    uint32_t nruns = 0;

    for (size_t done = 0; done < request->npages; nruns++) {
        void *window;
        uint32_t page;
        const size_t run = mm_first_run(machine, request->pfns + done, request->npages - done, &window);

        if (run == 0 || !mm_window_page(machine, (uintptr_t)window, &page))
            return 0;
        if ((!request->reserved && ke_internal_fails())
            || !map_host(machine, space, first + (uint32_t)done, page, run, request->attributes & MM_ACCESS))
            return 0;
        done += run;
    }
    return nruns;
}

static NTSTATUS choose_pages_locked(struct mm_space *space, const struct mm_map_request *request, uint32_t *first)
{
    if (request->wanted == 0)
        return find_free_locked(space, (uint32_t)request->npages, first) ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
    *first = mm_space_page(space, request->wanted);
    return is_free_locked(space, *first, (uint32_t)request->npages) ? STATUS_SUCCESS : STATUS_CONFLICTING_ADDRESSES;
}

void mm_space_describe_mapping(struct mm_region *region, const struct mm_map_request *request)
{
    region->mdl = request->mdl;
    region->start_va = request->start_va;
    region->first_pfn = request->pfns[0];
    region->kept.witness = request->witness;
    region->kept.attributes = request->attributes;
    region->kept.wanted = request->mdl != NULL && (request->attributes & MM_WRITE);
}

static NTSTATUS map_anew_locked(struct machine *machine, struct mm_space *space, const struct mm_map_request *request, uint32_t *first)
{
    const enum mm_region_kind kind = mm_space_is_of_aliases(space) ? MM_REGION_SYSTEM_MAPPING : MM_REGION_USER_MAPPING;
    struct mm_region *region;
    const NTSTATUS status = choose_pages_locked(space, request, first);

    if (!NT_SUCCESS(status))
        return status;
    region = add_region_locked(space, *first, (uint32_t)request->npages, kind);
    if (region == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    region->kept.nruns = map_runs(machine, space, *first, request);
    if (region->kept.nruns == 0) {
        mm_space_revoke(space, *first, request->npages);
        mm_space_forget_region_locked(space, region);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    mm_space_describe_mapping(region, request);
    memcpy(&space->pfns[*first], request->pfns, request->npages * sizeof(PFN_NUMBER));
    mm_space_fill_attributes(space, *first, request->npages, request->attributes | MM_USED | MM_RESIDENT | MM_ALIAS);
    return STATUS_SUCCESS;
}

/* What is kept gives way to what is wanted: where the host refuses, perhaps for the number of its mappings, it is asked once more without. */
static NTSTATUS map_locked(struct machine *machine, struct mm_space *space, const struct mm_map_request *request, uint32_t *first)
{
    struct mm_region *kept = mm_kept_find_locked(space, request);
    NTSTATUS status;

    if (kept != NULL) {
        mm_kept_take_locked(space, kept, request);
        *first = kept->first;
        return STATUS_SUCCESS;
    }
    status = map_anew_locked(machine, space, request, first);
    if (!NT_SUCCESS(status) && mm_kept_evict_all_locked(space))
        status = map_anew_locked(machine, space, request, first);
    return status;
}

NTSTATUS mm_space_map(struct machine *machine, struct mm_space *space, const struct mm_map_request *request, uintptr_t *va)
{
    NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;
    uint32_t first;

    if (request->npages == 0 || request->npages >= space->npages)
        return status;
    host_mutex_lock(&space->lock);
    status = map_locked(machine, space, request, &first);
    host_mutex_unlock(&space->lock);
    if (NT_SUCCESS(status))
        *va = (uintptr_t)va_of(space, first);
    return status;
}

static bool holds(const struct machine *machine, const struct mm_witness *witness)
{
    return witness->given == atomic_load_explicit(&machine->mm->frames_given, memory_order_relaxed)
        && (witness->claim == NULL || atomic_load_explicit(witness->claim, memory_order_relaxed) == witness->word);
}

bool mm_space_map_again(struct machine *machine, struct mm_space *space, const struct mm_map_request *request, uintptr_t *va)
{
    struct mm_map_request again = *request;
    struct mm_region *kept;
    bool taken;

    if (space->kept == NULL || request->npages == 0)
        return false;
    host_mutex_lock(&space->lock);
    kept = mm_kept_find_locked(space, request);
    taken = kept != NULL && holds(machine, &kept->kept.witness);
    if (taken) {
        again.witness = kept->kept.witness;
        mm_kept_take_locked(space, kept, &again);
        *va = (uintptr_t)va_of(space, kept->first);
    }
    host_mutex_unlock(&space->lock);
    return taken;
}

static void unmap_locked(struct mm_space *space, struct mm_region *region)
{
    VERIFY(region != NULL && region->kind != MM_REGION_MEMORY);
    if (mm_kept_release_locked(space, region))
        return;
    mm_space_revoke(space, region->first, region->npages);
    mm_space_forget_region_locked(space, region);
}

void mm_space_unmap(struct machine *machine, struct mm_space *space, uintptr_t va)
{
    (void)machine;
    host_mutex_lock(&space->lock);
    unmap_locked(space, region_at_locked(space, va));
    host_mutex_unlock(&space->lock);
}

size_t mm_space_unmap_this(struct mm_space *space, uintptr_t va, PFN_NUMBER first_pfn, size_t npages, struct mm_region *found)
{
    struct mm_region *region;
    size_t live = 0;

    host_mutex_lock(&space->lock);
    region = region_at_locked(space, va);
    if (region != NULL && mm_space_page(space, va) == region->live_first && region->first_pfn == first_pfn)
        live = mm_region_live_pages(region);
    if (live != 0 && (npages == MM_ANY_COUNT || npages == live)) {
        unmap_locked(space, region);
    } else {
        *found = region == NULL ? (struct mm_region){.npages = 0} : *region;
        live = 0;
    }
    host_mutex_unlock(&space->lock);
    return live;
}

bool mm_space_protect_mapping(struct mm_space *space, uintptr_t va, size_t npages, uint8_t attributes)
{
    const uint8_t fixed = MM_USED | MM_RESIDENT | MM_ALIAS;
    const uint32_t first = mm_space_page(space, va);
    bool done;

    host_mutex_lock(&space->lock);
    done = is_inside_region_locked(space, va, npages) && !ke_internal_fails()
        && host_protect(va_of(space, first), npages * HOST_PAGE_SIZE, attributes & MM_ACCESS) == 0;
    if (done) {
        region_at_locked(space, va)->kept.wanted = false;
        mm_space_fill_attributes(space, first, npages, (attributes & MM_ACCESS) | fixed);
    }
    host_mutex_unlock(&space->lock);
    return done;
}

/* ---- reserved addresses ---- */

uintptr_t mm_space_reserve(struct mm_space *space, size_t npages, ULONG tag, const void *where)
{
    struct mm_region *region = NULL;
    uint32_t first;

    if (npages == 0 || npages >= space->npages)
        return 0;
    host_mutex_lock(&space->lock);
    if (find_free_locked(space, (uint32_t)npages, &first))
        region = add_region_locked(space, first, (uint32_t)npages, MM_REGION_RESERVED);
    if (region != NULL) {
        region->tag = tag;
        region->where = where;
        mm_space_fill_attributes(space, first, npages, MM_USED | MM_ALIAS);
    }
    host_mutex_unlock(&space->lock);
    return region == NULL ? 0 : (uintptr_t)va_of(space, first);
}

bool mm_space_map_reserved(struct machine *machine, struct mm_space *space, uintptr_t va, const struct mm_map_request *request)
{
    const uint32_t first = mm_space_page(space, va);
    struct mm_region *region;
    bool done;

    host_mutex_lock(&space->lock);
    region = region_at_locked(space, va);
    done = map_runs(machine, space, first, request) != 0;
    if (done) {
        region->mdl = request->mdl;
        region->mapped = (uint32_t)request->npages;
        memcpy(&space->pfns[first], request->pfns, request->npages * sizeof(PFN_NUMBER));
        mm_space_fill_attributes(space, first, request->npages, request->attributes | MM_USED | MM_RESIDENT | MM_ALIAS);
    } else {
        mm_space_revoke(space, first, request->npages);
    }
    host_mutex_unlock(&space->lock);
    return done;
}

void mm_space_unmap_reserved(struct mm_space *space, uintptr_t va)
{
    struct mm_region *region;

    host_mutex_lock(&space->lock);
    region = region_at_locked(space, va);
    mm_space_fill_attributes(space, region->first, region->mapped, MM_USED | MM_ALIAS);
    mm_space_revoke(space, region->first, region->mapped);
    region->mapped = 0;
    region->live_first = region->first;
    region->mdl = NULL;
    host_mutex_unlock(&space->lock);
}

void mm_space_unreserve(struct mm_space *space, uintptr_t va)
{
    host_mutex_lock(&space->lock);
    mm_space_forget_region_locked(space, region_at_locked(space, va));
    host_mutex_unlock(&space->lock);
}

enum mm_region_kind mm_space_advance_mapping(struct mm_space *space, uintptr_t va, size_t npages)
{
    enum mm_region_kind kind = MM_REGION_MEMORY;
    struct mm_region *region;

    host_mutex_lock(&space->lock);
    region = region_at_locked(space, va);
    if (region != NULL && region->kind != MM_REGION_MEMORY) {
        region->live_first += (uint32_t)npages;
        region->first_pfn = space->pfns[region->live_first];
        region->start_va += npages * HOST_PAGE_SIZE;
        kind = region->kind;
    }
    host_mutex_unlock(&space->lock);
    return kind;
}
