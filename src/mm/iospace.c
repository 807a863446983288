/* SPDX-License-Identifier: MIT */
/*
 * Physical addresses seen through system PTEs: MmMapIoSpace(Ex), MmUnmapIoSpace.
 *
 * Device memory (3 GiB to 4 GiB) can always be mapped; RAM only where it cannot be taken away.
 */

#include "mm/state.h"

#include <stdlib.h>

static bool store_pfns(const struct machine *machine, uint64_t pa, size_t npages, PFN_NUMBER *pfns)
{
    for (size_t i = 0; i < npages; i++) {
        pfns[i] = (pa >> SPAN_PAGE_SHIFT) + i;
        if (!mm_pfn_is_held(machine, pfns[i]))
            return false;
    }
    return true;
}

static PVOID map(struct machine *machine, uint64_t pa, SIZE_T bytes, uint8_t attributes)
{
    const size_t npages = span_pages(pa, bytes);
    PFN_NUMBER *pfns = ke_internal_fails() ? NULL : malloc(npages * sizeof(PFN_NUMBER));
    struct mm_map_request request = {.pfns = pfns, .npages = npages, .attributes = attributes};
    uintptr_t va = 0;

    if (pfns == NULL)
        return NULL;
    if (store_pfns(machine, pa, npages, pfns) && !NT_SUCCESS(mm_space_map(machine, machine->mm->system_ptes, &request, &va)))
        va = 0;
    free(pfns);
    if (va == 0)
        return NULL;
    ke_count(KE_IO_MAPPINGS, 1);
    ke_count(KE_SYSTEM_PAGES_MAPPED, (int64_t)npages);
    return (PVOID)(va + span_offset(pa));
}

/*
 * Map physical addresses into system space. NULL when mapping space is short, or an address is neither a device's nor locked memory.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmmapiospace
 */
PVOID MmMapIoSpace(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes, MEMORY_CACHING_TYPE CacheType)
{
    struct machine *machine = ke_machine();
    const uint64_t pa = (uint64_t)PhysicalAddress.QuadPart;

    KE_HOOK(machine, io_space_map_check, pa, NumberOfBytes);
    if (NumberOfBytes == 0 || span_wraps(pa, NumberOfBytes) || CacheType < MmNonCached || CacheType >= MmMaximumCacheType
        || ke_fails(KE_FALLIBLE_MmMapIoSpace))
        return NULL;
    return map(machine, pa, NumberOfBytes, MM_READ | MM_WRITE);
}

/* One protection that grants something, and at most one of the cache modifiers. */
static bool attributes_of(ULONG protect, uint8_t *attributes)
{
    const ULONG modifier = protect & (PAGE_NOCACHE | PAGE_WRITECOMBINE);

    return modifier != (PAGE_NOCACHE | PAGE_WRITECOMBINE) && mm_access_of_protection(protect & ~modifier, attributes)
        && *attributes != 0;
}

/* As MmMapIoSpace, with a protection; NULL also for one that is none. Doc: wdm/nf-wdm-mmmapiospaceex */
PVOID MmMapIoSpaceEx(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes, ULONG Protect)
{
    struct machine *machine = ke_machine();
    const uint64_t pa = (uint64_t)PhysicalAddress.QuadPart;
    uint8_t attributes;

    KE_HOOK(machine, io_space_map_check, pa, NumberOfBytes);
    KE_HOOK(machine, protection_check, Protect);
    if (NumberOfBytes == 0 || span_wraps(pa, NumberOfBytes) || !attributes_of(Protect, &attributes)
        || ke_fails(KE_FALLIBLE_MmMapIoSpaceEx))
        return NULL;
    return map(machine, pa, NumberOfBytes, attributes);
}

/* Undo a mapping, with the size it was made with. Another size, or nothing mapped: bug check 0xDA/0x400. Doc: wdm/nf-wdm-mmunmapiospace */
VOID MmUnmapIoSpace(PVOID BaseAddress, SIZE_T NumberOfBytes)
{
    struct machine *machine = ke_machine();
    const uintptr_t va = (uintptr_t)BaseAddress;
    const size_t npages = span_pages(va, NumberOfBytes);
    struct mm_region region = {0};
    struct mm_space *space;

    KE_HOOK(machine, io_space_unmap_check, BaseAddress, NumberOfBytes);
    if (mm_classify(machine, va, &space) != MM_KIND_SYSTEM_PTE || !mm_space_region(space, va, &region)
        || region.kind != MM_REGION_SYSTEM_MAPPING || region.mdl != NULL || region.npages != npages
        || span_page_base(va) != space->base + (uintptr_t)region.first * PAGE_SIZE)
        ke_bug_check(SYSTEM_PTE_MISUSE, 0x400, va, npages, 0);
    mm_space_unmap(machine, space, va);
    ke_count(KE_IO_MAPPINGS, -1);
    ke_count(KE_SYSTEM_PAGES_MAPPED, -(int64_t)npages);
}
