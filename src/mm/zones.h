/* SPDX-License-Identifier: MIT */
/*
 * Zones: how frame numbers lie over the RAM file. Private to mm.
 *
 *     RAM file   | linear, below 16 MiB | linear, below 4 GiB | linear, above | scattered, below 4 GiB | scattered, above ... |
 *     PFNs         0x100 ..               0x10000 ..            0x100000 ..     0x20000 ..               0x200000 ..
 *
 * One more linear zone, from 3 GiB to 4 GiB, stands for the addresses of devices: it is no RAM and nothing is allocated there,
 * but a driver may map it and finds again what it stored.
 *
 * Inside a scattered zone, pi maps page i to base + (multiplier * i + offset) mod 2^k with an odd multiplier: a
 * bijection that costs a multiplication either way. In a linear zone pi keeps the order. General allocations come from
 * the scattered zones, those above 4 GiB first; contiguous memory from the linear ones.
 */
#ifndef PINION_MM_ZONES_H
#define PINION_MM_ZONES_H

#include "mm/mm.h"
#include "rtl/buddy.h"
#include "rtl/lanes.h"

struct mm_zone {
    uint32_t         first_page, npages;
    PFN_NUMBER       base_pfn;
    uint64_t         multiplier, inverse, offset, mask;     /* of pi; where it keeps the order: 1, 1, 0 and all ones */
    bool             general;               /* serves ordinary allocations, not contiguous ones */
    bool             io;                    /* a device's addresses: never allocated */
    void            *bitmaps;               /* of the buddy */
    size_t           bitmaps_bytes;
    struct rtl_buddy buddy;                 /* numbers its pages from 0 */
};

struct mm_zones {
    struct host_mutex lock;                 /* guards the buddies */
    unsigned          nzones;
    struct mm_zone    zone[MM_MAX_ZONES];
};

static inline PFN_NUMBER pfn_in_zone(const struct mm_zone *zone, uint32_t index)
{
    return zone->base_pfn + ((zone->multiplier * index + zone->offset) & zone->mask);
}

static inline uint32_t index_in_zone(const struct mm_zone *zone, PFN_NUMBER pfn)
{
    return (uint32_t)((zone->inverse * (pfn - zone->base_pfn - zone->offset)) & zone->mask);
}

static inline bool is_scattered(const struct mm_zone *zone)
{
    return zone->mask != ~(uint64_t)0;
}

/* Most memory is in the last zones: they are asked first. */
static inline struct mm_zone *zone_of_page(const struct machine *machine, uint32_t page)
{
    struct mm_zones *zones = machine->mm->zones;

    for (unsigned i = zones->nzones; i-- > 0;)
        if (page - zones->zone[i].first_page < zones->zone[i].npages)
            return &zones->zone[i];
    return NULL;
}

static inline const struct mm_zone *zone_of_pfn(const struct machine *machine, PFN_NUMBER pfn)
{
    const struct mm_zones *zones = machine->mm->zones;

    for (unsigned i = zones->nzones; i-- > 0;)
        if (pfn - zones->zone[i].base_pfn < zones->zone[i].npages)
            return &zones->zone[i];
    return NULL;
}

/* From one page to the next, a number goes on by the multiplier, round the zone. */
static inline struct rtl_steps steps_from(const struct mm_zone *zone, PFN_NUMBER pfn)
{
    return (struct rtl_steps){.base = zone->base_pfn, .place = pfn - zone->base_pfn, .step = zone->multiplier, .mask = zone->mask};
}

#endif
