/* SPDX-License-Identifier: MIT */
/*
 * Reserved mappings: addresses that are set aside once, so that mapping can never fail for lack of them later.
 * MmAllocateMappingAddress(Ex), MmFreeMappingAddress, MmMapLockedPagesWithReservedMapping, MmUnmapReservedMapping.
 *
 * The MDL's MappedSystemVa is set without the byte offset, unlike all other mappings': that is documented.
 */

#include "mdl/state.h"

/* Parameter 1 of bug check 0xDA: what is wrong with a reservation, by the routine that finds it out. */
struct complaints {
    uint64_t wrong_tag, not_reserved;
};
static const struct complaints at_free = {0x101, 0x102}, at_map = {0x104, 0x105}, at_unmap = {0x108, 0x109};

enum {
    RESERVE_NOTHING   = 0x100,
    FREE_STILL_MAPPED = 0x103,
    MAP_STILL_MAPPED  = 0x107,
    UNMAP_TOO_MANY    = 0x10A,
    UNMAP_NOT_MAPPED  = 0x10B,
    UNMAP_TOO_FEW     = 0x10C,
};

static struct mm_space *ptes(const struct machine *machine)
{
    return machine->mm->system_ptes;
}

/* The reservation that starts at va; bug check where there is none, or where it has another tag. */
static struct mm_region require_reservation(const struct machine *machine, uintptr_t va, ULONG tag, const struct complaints *complaints)
{
    struct mm_region region = {0};
    struct mm_space *space;
    const bool there = mm_classify(machine, va, &space) == MM_KIND_SYSTEM_PTE && mm_space_region(space, va, &region)
        && region.kind == MM_REGION_RESERVED && va == space->base + (uintptr_t)region.first * PAGE_SIZE;

    if (!there)
        ke_bug_check(SYSTEM_PTE_MISUSE, complaints->not_reserved, va, tag, 0);
    if (region.tag != tag)
        ke_bug_check(SYSTEM_PTE_MISUSE, complaints->wrong_tag, va, tag, region.tag);
    return region;
}

static PVOID reserve(struct ke_site site, enum ke_fallible routine, SIZE_T bytes, ULONG tag)
{
    struct machine *machine = ke_machine();
    const void *where = NULL;

    if (machine->hooks.irql_check != NULL)
        machine->hooks.irql_check(site, APC_LEVEL);
    if (bytes == 0)
        ke_bug_check(SYSTEM_PTE_MISUSE, RESERVE_NOTHING, 0, tag, site.ip);
    if (ke_fails(routine))
        return NULL;
    if (machine->hooks.remember != NULL)
        where = machine->hooks.remember(site);
    return (PVOID)mm_space_reserve(ptes(machine), span_bytes_to_pages(bytes), tag, where);
}

/*
 * Reserve system addresses for later mappings of up to NumberOfBytes. No memory comes with them.
 *
 * NULL when there are none left. No bytes: bug check 0xDA/0x100.
 * IRQL: <= APC_LEVEL.
 * Doc:  wdm/nf-wdm-mmallocatemappingaddress
 */
PVOID MmAllocateMappingAddress(SIZE_T NumberOfBytes, ULONG PoolTag)
{
    return reserve(KE_SITE, KE_FALLIBLE_MmAllocateMappingAddress, NumberOfBytes, PoolTag);
}

/* As MmAllocateMappingAddress; Flags is 0 or MM_MAPPING_ADDRESS_DIVISIBLE. Doc: wdm/nf-wdm-mmallocatemappingaddressex */
PVOID MmAllocateMappingAddressEx(SIZE_T NumberOfBytes, ULONG PoolTag, ULONG Flags)
{
    if (Flags & ~(ULONG)MM_MAPPING_ADDRESS_DIVISIBLE)
        return NULL;
    return reserve(KE_SITE, KE_FALLIBLE_MmAllocateMappingAddressEx, NumberOfBytes, PoolTag);
}

/* Give a reservation back. Still mapped, or another tag: bug check 0xDA. IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-mmfreemappingaddress */
VOID MmFreeMappingAddress(PVOID BaseAddress, ULONG PoolTag)
{
    struct machine *machine = ke_machine();
    const struct mm_region region = require_reservation(machine, (uintptr_t)BaseAddress, PoolTag, &at_free);

    KE_HOOK(machine, irql_check, APC_LEVEL);
    if (region.mapped != 0)
        ke_bug_check(SYSTEM_PTE_MISUSE, FREE_STILL_MAPPED, (uintptr_t)BaseAddress, PoolTag, region.mapped);
    mm_space_unreserve(ptes(machine), (uintptr_t)BaseAddress);
}

/*
 * Map a locked MDL at a reservation. The address of its first byte, or NULL when the MDL spans more pages than were reserved.
 *
 * Mapped already: bug check 0xDA/0x107.
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmmaplockedpageswithreservedmapping
 */
PVOID MmMapLockedPagesWithReservedMapping(PVOID MappingAddress, ULONG PoolTag, PMDLX MemoryDescriptorList,
                                          MEMORY_CACHING_TYPE CacheType)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    const uintptr_t va = (uintptr_t)MappingAddress;
    const struct mm_region region = require_reservation(machine, va, PoolTag, &at_map);
    struct mm_map_request request = {.pfns = mdl_pfns(mdl), .attributes = MM_READ | MM_WRITE, .mdl = mdl, .reserved = true};

    UNREFERENCED_PARAMETER(CacheType);
    KE_HOOK(machine, mdl_reserved_map_check, mdl);
    request.npages = mdl_span(mdl);
    if (mdl_is_for_reading(machine, mdl))
        request.attributes = MM_READ;
    if (region.mapped != 0)
        ke_bug_check(SYSTEM_PTE_MISUSE, MAP_STILL_MAPPED, va, va, va + (uintptr_t)(region.mapped - 1) * PAGE_SIZE);
    if (request.npages > region.npages || request.npages == 0)
        return NULL;
    mdl_require_held(machine, mdl);
    if (!mm_space_map_reserved(machine, ptes(machine), va, &request))
        return NULL;
    mdl_note_mapped(mdl, va);
    mdl->MappedSystemVa = MappingAddress;
    KE_HOOK(machine, mdl_map_record, mdl, MappingAddress, KernelMode);
    return (PCHAR)MappingAddress + mdl->ByteOffset;
}

/*
 * Undo MmMapLockedPagesWithReservedMapping, for pages that MmAdvanceMdl has passed meanwhile as well; the reservation stays.
 *
 * Another tag, nothing mapped, or another number of pages: bug check 0xDA/0x108 to 0x10C.
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmunmapreservedmapping
 */
VOID MmUnmapReservedMapping(PVOID BaseAddress, ULONG PoolTag, PMDLX MemoryDescriptorList)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    const uintptr_t va = span_page_base((uintptr_t)BaseAddress);
    const struct mm_region region = require_reservation(machine, va, PoolTag, &at_unmap);
    const size_t live = region.mapped - (region.live_first - region.first);
    size_t npages;

    KE_HOOK(machine, mdl_use_check, mdl);
    npages = mdl_span(mdl);
    if (npages > region.npages)
        ke_bug_check(SYSTEM_PTE_MISUSE, UNMAP_TOO_MANY, va, region.npages, npages);
    if (npages > live)
        ke_bug_check(SYSTEM_PTE_MISUSE, UNMAP_NOT_MAPPED, va, PoolTag, npages);
    if (npages < live)
        ke_bug_check(SYSTEM_PTE_MISUSE, UNMAP_TOO_FEW, va, PoolTag, npages);
    mm_space_unmap_reserved(ptes(machine), va);
    mdl_note_unmapped(mdl, npages);
    KE_HOOK(machine, mdl_unmap_record, mdl, false);
}
