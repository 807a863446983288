/* SPDX-License-Identifier: MIT */
/*
 * Zones: how frame numbers lie over the RAM file. Private to frames.c and window.c.
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

struct mm_zone {
    uint32_t         first_page, npages;
    PFN_NUMBER       base_pfn;
    bool             scattered;
    uint64_t         multiplier, inverse, offset, mask;     /* of pi; scattered only */
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

#endif
