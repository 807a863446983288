/* SPDX-License-Identifier: MIT */
/*
 * What the tests of physical memory share: the zones of RAM, physical addresses, MDLs that bring pages of
 * their own.
 *
 *     PFNs                    what is there
 *     0x100    .. 0xFFF       RAM, linear              node 0
 *     0x10000  .. 0x1FFFF     RAM, linear              node 0
 *     0x20000  ...            RAM, scattered           node 0
 *     0xC0000  .. 0xFFFFF     a device's memory
 *     0x100000 .. 0x10FFFF    RAM, linear              node 1
 *     0x200000 ...            RAM, scattered           node 1
 */

#pragma once

#include "support.h"

#include <string.h>

static const LONGLONG MIB = 1 << 20;
static const LONGLONG GIB = 1 << 30;

/* First bytes of zones. The first scattered one is what tests of scarce ranges use: nothing takes from it
   by preference. */
static const LONGLONG LINEAR_AT = 0x100LL << PAGE_SHIFT;
static const LONGLONG LINEAR_END = 0x1000LL << PAGE_SHIFT;
static const LONGLONG SCATTERED_AT = 0x20000LL << PAGE_SHIFT;
static const LONGLONG DEVICE_AT = 0xC0000LL << PAGE_SHIFT;
static const LONGLONG NODE_1_AT = 0x100000LL << PAGE_SHIFT;
static const LONGLONG EVERYWHERE = MAXLONGLONG;

/* Bytes of a range that a test takes whole. */
enum { SCARCE = 16 * PAGE_SIZE };

static inline PHYSICAL_ADDRESS phys(LONGLONG at)
{
    PHYSICAL_ADDRESS address;

    address.QuadPart = at;
    return address;
}

static inline PMDL pages_in(LONGLONG low, LONGLONG high, LONGLONG skip, SIZE_T bytes)
{
    return MmAllocatePagesForMdl(phys(low), phys(high), phys(skip), bytes);
}

static inline PMDL pages_in_ex(LONGLONG low, LONGLONG high, LONGLONG skip, SIZE_T bytes, ULONG flags)
{
    return MmAllocatePagesForMdlEx(phys(low), phys(high), phys(skip), bytes, MmCached, flags);
}

/* So many pages from anywhere. */
static inline PMDL pages_anywhere(SIZE_T pages)
{
    const PMDL mdl = pages_in_ex(0, EVERYWHERE, 0, pages * PAGE_SIZE, 0);

    EXPECT(mdl != NULL);
    EXPECT_EQ(MmGetMdlByteCount(mdl), pages * PAGE_SIZE);
    return mdl;
}

/* The address so many bytes into an MDL's buffer, as IoBuildPartialMdl counts. That of such an MDL starts at 0,
   where pointers may not be counted from. */
static inline PVOID address_in(PMDL mdl, SIZE_T offset)
{
    return (PVOID)((ULONG_PTR)MmGetMdlVirtualAddress(mdl) + offset);
}

static inline void free_pages(PMDL mdl)
{
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

static inline PMDL first_kind(LONGLONG low, LONGLONG high, LONGLONG skip, SIZE_T bytes)
{
    return pages_in(low, high, skip, bytes);
}

static inline PMDL second_kind(LONGLONG low, LONGLONG high, LONGLONG skip, SIZE_T bytes)
{
    return pages_in_ex(low, high, skip, bytes, 0);
}

/* IdealNode 0: the ranges that these tests use are its own. */
static inline PMDL third_kind(LONGLONG low, LONGLONG high, LONGLONG skip, SIZE_T bytes)
{
    return MmAllocateNodePagesForMdlEx(phys(low), phys(high), phys(skip), bytes, MmCached, 0, 0);
}

/* The three routines differ in their last parameters only: what holds for one can be asked of each. */
static HARNESS_UNUSED PMDL (*const kinds[])(LONGLONG, LONGLONG, LONGLONG, SIZE_T) = {first_kind, second_kind,
                                                                                     third_kind};

/* How many frames of an MDL lie in [low, high]. */
static inline SIZE_T frames_in(PMDL mdl, LONGLONG low, LONGLONG high)
{
    const PFN_NUMBER *const pfns = MmGetMdlPfnArray(mdl);
    SIZE_T count = 0;

    for (SIZE_T i = 0; i < mdl_pages(mdl); i++) {
        const ULONGLONG pa = (ULONGLONG)pfns[i] << PAGE_SHIFT;

        count += pa >= (ULONGLONG)low && pa <= (ULONGLONG)high;
    }
    return count;
}

/* Are these frames numbered one after another? */
static inline BOOLEAN frames_follow(const PFN_NUMBER *pfns, SIZE_T count)
{
    for (SIZE_T i = 1; i < count; i++) {
        if (pfns[i] != pfns[0] + i)
            return FALSE;
    }
    return TRUE;
}

/* Is none of an MDL's frames there twice? For few pages. */
static inline BOOLEAN frames_differ(PMDL mdl)
{
    const PFN_NUMBER *const pfns = MmGetMdlPfnArray(mdl);
    const SIZE_T count = mdl_pages(mdl);

    for (SIZE_T i = 0; i < count; i++) {
        for (SIZE_T j = i + 1; j < count; j++) {
            if (pfns[i] == pfns[j])
                return FALSE;
        }
    }
    return TRUE;
}

static inline BOOLEAN is_zero(const VOID *va, SIZE_T bytes)
{
    const UCHAR *const from = va;

    for (SIZE_T i = 0; i < bytes; i++) {
        if (from[i])
            return FALSE;
    }
    return TRUE;
}

/* A driver's mistake must be told of, whatever the way: a stop, or at least one warning. */
static inline struct stop expect_report(void (*body)(void *), void *context)
{
    const struct stop stop = run_until_stop(body, context);

    EXPECT(stop.stopped || stop_warnings(&stop, NULL) > 0);
    return stop;
}
