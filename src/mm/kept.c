/* SPDX-License-Identifier: MIT */
/*
 * Kept mappings: private mappings of system space that were released, and wait to be wanted again.
 *
 *     release -> kept: the host's mapping stays, the page table says that nothing is there -> the same pages are mapped again: taken
 *                                                                                         -> evicted: revoked, addresses free
 *
 * What is kept is found by its page numbers, all of which are compared, and by what it permits. A frame's number says
 * which page of the RAM file it is, now and for ever: a kept mapping shows the right bytes to whoever takes it, whoever the
 * frames belonged to meanwhile, and it keeps no frame from being freed or used for something else. A stale pointer into
 * it reaches those bytes, as one into the RAM window would; the verifier, which wants to catch it, keeps no mappings. Neither
 * is one kept that was asked to be read-only, or whose protection was changed: whoever cares for that gets its end, too.
 *
 * Some of them are evicted, oldest first, when there are too many mappings, pages or host mappings, and all of them when
 * addresses run out or the host refuses a mapping. Neighbours go in one call.
 */

#include "mm/state.h"
#include "rtl/lanes.h"

#include <stdlib.h>

enum {
    HEADS         = 1024,
    HASH_SHIFT    = 54,
    MOST_MAPPINGS = 1024,
    MOST_RUNS     = 8192,               /* host mappings: Linux allows 65530 of all kinds */
    MOST_PAGES    = 65536,
    MOST_GAP      = 16,                 /* unused pages between neighbours that go in one call */
};

/* Regions are named by their index + 1; 0: none. */
struct mm_kept {
    uint32_t heads[HEADS];              /* of the chains of those with one hash */
    uint32_t oldest, newest;
    uint32_t nmappings, nruns, npages;
};

struct mm_kept *mm_kept_create(void)
{
    return calloc(1, sizeof(struct mm_kept));
}

/* Four numbers stand for all: lists that differ elsewhere share a chain. */
static uint32_t hash_of(const PFN_NUMBER *pfns, size_t n)
{
    const uint64_t mixed = pfns[0] * 0x9E3779B97F4A7C15 + pfns[n / 2] * 0xC2B2AE3D27D4EB4F + pfns[n - 1] * 0x165667B19E3779F9 + n;

    return (uint32_t)(mixed * 0xD6E8FEB86659FD93 >> HASH_SHIFT);
}
_Static_assert((uint64_t)HEADS << HASH_SHIFT == 0, "a hash is an index");

static struct mm_region *region_of(const struct mm_space *space, uint32_t name)
{
    return &space->regions[name - 1];
}

static uint32_t name_of(const struct mm_space *space, const struct mm_region *region)
{
    return (uint32_t)(region - space->regions) + 1;
}

uint32_t mm_kept_pages(const struct mm_space *space)
{
    return space->kept == NULL ? 0 : space->kept->npages;
}

/* ---- in and out ---- */

static void leave_chain_locked(struct mm_space *space, struct mm_region *region)
{
    uint32_t *link = &space->kept->heads[region->kept.hash];

    while (*link != name_of(space, region))
        link = &region_of(space, *link)->kept.same;
    *link = region->kept.same;
}

static void leave_ages_locked(struct mm_space *space, struct mm_region *region)
{
    struct mm_kept *kept = space->kept;

    *(region->kept.older == 0 ? &kept->oldest : &region_of(space, region->kept.older)->kept.newer) = region->kept.newer;
    *(region->kept.newer == 0 ? &kept->newest : &region_of(space, region->kept.newer)->kept.older) = region->kept.older;
}

static void leave_locked(struct mm_space *space, struct mm_region *region)
{
    leave_chain_locked(space, region);
    leave_ages_locked(space, region);
    space->kept->nmappings--;
    space->kept->nruns -= region->kept.nruns;
    space->kept->npages -= region->npages;
}

static void enter_locked(struct mm_space *space, struct mm_region *region)
{
    struct mm_kept *kept = space->kept;
    uint32_t *head = &kept->heads[region->kept.hash];

    region->kept.same = *head;
    region->kept.older = kept->newest;
    region->kept.newer = 0;
    *head = name_of(space, region);
    *(kept->newest == 0 ? &kept->oldest : &region_of(space, kept->newest)->kept.newer) = *head;
    kept->newest = *head;
    kept->nmappings++;
    kept->nruns += region->kept.nruns;
    kept->npages += region->npages;
}

/* ---- eviction ---- */

/* Revoke the oldest, and with it those that come next in age and in addresses. */
static void evict_some_locked(struct mm_space *space)
{
    struct mm_kept *kept = space->kept;
    struct mm_region *region = region_of(space, kept->oldest);
    const uint32_t first = region->first;
    uint32_t end = first;

    do {
        end = region->first + region->npages;
        leave_locked(space, region);
        mm_space_forget_region_locked(space, region);
        region = kept->oldest == 0 ? NULL : region_of(space, kept->oldest);
    } while (region != NULL && region->first > end && region->first - end <= MOST_GAP
             && mm_space_is_unused_locked(space, end, region->first - end));
    mm_space_revoke(space, first, end - first);
}

bool mm_kept_evict_all_locked(struct mm_space *space)
{
    const bool any = space->kept != NULL && space->kept->oldest != 0;

    while (space->kept != NULL && space->kept->oldest != 0)
        evict_some_locked(space);
    return any;
}

static bool is_over(const struct mm_kept *kept, uint32_t eighths)
{
    return kept->nmappings > MOST_MAPPINGS / 8 * eighths || kept->nruns > MOST_RUNS / 8 * eighths || kept->npages > MOST_PAGES / 8 * eighths;
}

/* A batch at a time, so that the calls of many releases come together. */
static void evict_batch_locked(struct mm_space *space)
{
    if (is_over(space->kept, 8))
        while (is_over(space->kept, 7))
            evict_some_locked(space);
}

/* ---- the interface ---- */

bool mm_kept_release_locked(struct mm_space *space, struct mm_region *region)
{
    if (space->kept == NULL || region->kind != MM_REGION_SYSTEM_MAPPING || !region->kept.wanted || region->npages > MOST_PAGES / 8
        || region->kept.nruns > MOST_RUNS / 8)
        return false;
    region->kind = MM_REGION_KEPT;
    region->mdl = NULL;
    region->live_first = region->first;
    region->kept.hash = hash_of(&space->pfns[region->first], region->npages);
    mm_space_fill_attributes(space, region->first, region->npages, MM_USED | MM_ALIAS);
    enter_locked(space, region);
    evict_batch_locked(space);
    return true;
}

struct mm_region *mm_kept_find_locked(const struct mm_space *space, const struct mm_map_request *request)
{
    uint32_t name = space->kept == NULL ? 0 : space->kept->heads[hash_of(request->pfns, request->npages)];

    for (; name != 0; name = region_of(space, name)->kept.same) {
        struct mm_region *region = region_of(space, name);

        if (region->npages == request->npages && region->kept.attributes == request->attributes
            && rtl_equal(&space->pfns[region->first], request->pfns, request->npages))
            return region;
    }
    return NULL;
}

void mm_kept_take_locked(struct mm_space *space, struct mm_region *region, const struct mm_map_request *request)
{
    leave_locked(space, region);
    region->kind = MM_REGION_SYSTEM_MAPPING;
    mm_space_describe_mapping(region, request);
    mm_space_fill_attributes(space, region->first, region->npages, request->attributes | MM_USED | MM_RESIDENT | MM_ALIAS);
}

bool mm_kept_check_locked(const struct mm_space *space, const char **why)
{
    const struct mm_kept *kept = space->kept;
    uint32_t nmappings = 0, nruns = 0, npages = 0, before = 0;

    if (kept == NULL)
        return true;
    *why = "the kept mappings are not in a list by age";
    for (uint32_t name = kept->oldest; name != 0; name = region_of(space, name)->kept.newer) {
        const struct mm_region *region = region_of(space, name);

        if (region->kind != MM_REGION_KEPT || region->kept.older != before || nmappings++ > kept->nmappings)
            return false;
        nruns += region->kept.nruns;
        npages += region->npages;
        before = name;
    }
    *why = "the kept mappings do not add up";
    return before == kept->newest && nmappings == kept->nmappings && nruns == kept->nruns && npages == kept->npages && !is_over(kept, 8);
}
