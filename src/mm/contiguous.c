/* SPDX-License-Identifier: MIT */
/*
 * Physically contiguous memory: blocks of frames with consecutive PFNs from the linear zones, seen through the RAM window.
 * The first frame of a block knows its length, so freeing needs no list.
 */

#include "mm/state.h"

static PVOID allocate(struct machine *machine, const struct mm_frame_want *want)
{
    uint32_t first;

    if (!mm_frames_take_contiguous(machine, want, &first))
        return NULL;
    for (size_t i = 0; i < want->npages; i++)
        mm_frame(machine, first + (uint32_t)i)->owner_page = 0;
    mm_frame(machine, first)->owner_page = (uint32_t)want->npages;
    mm_frames_mark(machine, first, want->npages, MM_FRAME_CONTIGUOUS);
    return mm_window_va(machine, first);
}

static PFN_NUMBER pfn_up(PHYSICAL_ADDRESS address)
{
    return ((uint64_t)address.QuadPart + SPAN_PAGE_MASK) >> SPAN_PAGE_SHIFT;
}

/* The highest page that lies wholly at or below an inclusive address. */
static PFN_NUMBER pfn_down(PHYSICAL_ADDRESS highest)
{
    const uint64_t end = (uint64_t)highest.QuadPart == UINT64_MAX ? UINT64_MAX : (uint64_t)highest.QuadPart + 1;

    return end < SPAN_PAGE_SIZE ? 0 : (end >> SPAN_PAGE_SHIFT) - 1;
}

static bool is_usable(MEMORY_CACHING_TYPE cache)
{
    return cache == MmNonCached || cache == MmCached || cache == MmWriteCombined;
}

/* A multiple must be a power of two; one below a page restricts nothing that is page aligned. */
static bool is_boundary(ULONGLONG multiple)
{
    return (multiple & (multiple - 1)) == 0;
}

PVOID MmAllocateContiguousMemorySpecifyCache(SIZE_T NumberOfBytes, PHYSICAL_ADDRESS LowestAcceptableAddress,
                                             PHYSICAL_ADDRESS HighestAcceptableAddress, PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                             MEMORY_CACHING_TYPE CacheType)
{
    struct machine *machine = ke_machine();
    const ULONGLONG boundary = (ULONGLONG)BoundaryAddressMultiple.QuadPart;
    const struct mm_frame_want want = {
        .npages = span_bytes_to_pages(NumberOfBytes),
        .low = pfn_up(LowestAcceptableAddress),
        .high = pfn_down(HighestAcceptableAddress),
        .boundary_pages = boundary >> SPAN_PAGE_SHIFT,
    };

    if (ke_fails(KE_FALLIBLE_MmAllocateContiguousMemorySpecifyCache) || !is_usable(CacheType) || !is_boundary(boundary))
        return NULL;
    return allocate(machine, &want);
}

PVOID MmAllocateContiguousMemory(SIZE_T NumberOfBytes, PHYSICAL_ADDRESS HighestAcceptableAddress)
{
    struct machine *machine = ke_machine();
    const struct mm_frame_want want = {.npages = span_bytes_to_pages(NumberOfBytes), .high = pfn_down(HighestAcceptableAddress)};

    if (ke_fails(KE_FALLIBLE_MmAllocateContiguousMemory))
        return NULL;
    return allocate(machine, &want);
}

/* Parameter 1 of bug check 0xC2 for an address that no allocation starts at. */
enum { BAD_CONTIGUOUS_ADDRESS = 0x60 };

VOID MmFreeContiguousMemory(PVOID BaseAddress)
{
    struct machine *machine = ke_machine();
    uint32_t first, npages = 0;

    if (mm_window_page(machine, (uintptr_t)BaseAddress, &first) && span_offset((uintptr_t)BaseAddress) == 0
        && atomic_load(&mm_frame(machine, first)->state) == MM_FRAME_CONTIGUOUS)
        npages = mm_frame(machine, first)->owner_page;
    if (npages == 0)
        ke_bug_check(BAD_POOL_CALLER, BAD_CONTIGUOUS_ADDRESS, (uintptr_t)BaseAddress, 0, 0);
    mm_frames_give(machine, first, npages);
}

VOID MmFreeContiguousMemorySpecifyCache(PVOID BaseAddress, SIZE_T NumberOfBytes, MEMORY_CACHING_TYPE CacheType)
{
    UNREFERENCED_PARAMETER(NumberOfBytes);
    UNREFERENCED_PARAMETER(CacheType);
    MmFreeContiguousMemory(BaseAddress);
}
