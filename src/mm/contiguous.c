/* SPDX-License-Identifier: MIT */
/*
 * Physically contiguous memory: blocks of frames with consecutive PFNs from the linear zones, seen through the RAM window.
 * The first frame of a block knows its length, so freeing needs no list.
 */

#include "mm/state.h"

/* ---- what is wanted ---- */

static PFN_NUMBER pfn_up(PHYSICAL_ADDRESS address)
{
    return ((uint64_t)address.QuadPart + SPAN_PAGE_MASK) >> SPAN_PAGE_SHIFT;
}

PFN_NUMBER mm_pfn_below(uint64_t highest_pa)
{
    const uint64_t end = highest_pa == UINT64_MAX ? UINT64_MAX : highest_pa + 1;

    return end < SPAN_PAGE_SIZE ? 0 : (end >> SPAN_PAGE_SHIFT) - 1;
}

static PFN_NUMBER pfn_down(PHYSICAL_ADDRESS highest)
{
    return mm_pfn_below((uint64_t)highest.QuadPart);
}

static struct mm_frame_want want_of(SIZE_T bytes, PHYSICAL_ADDRESS low, PHYSICAL_ADDRESS high, PHYSICAL_ADDRESS boundary)
{
    return (struct mm_frame_want){
        .npages = span_bytes_to_pages(bytes),
        .low = pfn_up(low),
        .high = pfn_down(high),
        .boundary_pages = (uint64_t)boundary.QuadPart >> SPAN_PAGE_SHIFT,
        .node = MM_ANY_NODE,
    };
}

static bool is_usable(MEMORY_CACHING_TYPE cache)
{
    return cache == MmNonCached || cache == MmCached || cache == MmWriteCombined;
}

/* A multiple must be a power of two; one below a page restricts nothing that is page aligned. */
static bool is_boundary(PHYSICAL_ADDRESS multiple)
{
    return (multiple.QuadPart & (multiple.QuadPart - 1)) == 0;
}

/* What a block is to be, beyond its frames. */
struct kind {
    MEMORY_CACHING_TYPE cache;
    bool                executable;
};

static struct kind plain(MEMORY_CACHING_TYPE cache)
{
    return (struct kind){.cache = cache};
}

/* PAGE_READWRITE or PAGE_EXECUTE_READWRITE, with at most one of the two modifiers. */
static bool is_protection(ULONG protect, struct kind *kind)
{
    const ULONG modifier = protect & (PAGE_NOCACHE | PAGE_WRITECOMBINE);
    const ULONG base = protect & ~modifier;

    kind->cache = modifier == PAGE_NOCACHE ? MmNonCached : modifier == PAGE_WRITECOMBINE ? MmWriteCombined : MmCached;
    kind->executable = base == PAGE_EXECUTE_READWRITE;
    return (base == PAGE_READWRITE || base == PAGE_EXECUTE_READWRITE) && modifier != (PAGE_NOCACHE | PAGE_WRITECOMBINE);
}

/* ---- allocate and free ---- */

static PVOID allocate(struct machine *machine, const struct mm_frame_want *want, struct kind kind)
{
    uint32_t first;

    if (!mm_frames_take_contiguous(machine, want, &first))
        return NULL;
    for (size_t i = 0; i < want->npages; i++) {
        mm_frame(machine, first + (uint32_t)i)->owner_page = 0;
        mm_frame(machine, first + (uint32_t)i)->cache = (uint8_t)(kind.cache + 1);
    }
    mm_frame(machine, first)->owner_page = (uint32_t)want->npages;
    mm_frames_mark(machine, first, want->npages, MM_FRAME_CONTIGUOUS);
    if (kind.executable)
        mm_frames_allow_execution(machine, first, want->npages);
    mm_frames_leave_uninitialised(machine, first, want->npages);
    ke_count(KE_CONTIGUOUS_BLOCKS, 1);
    return mm_window_va(machine, first);
}

/* Parameter 1 of bug check 0xC2 for an address that no allocation starts at. */
enum { BAD_CONTIGUOUS_ADDRESS = 0x60 };

static void free_block(struct machine *machine, struct ke_site site, PVOID base)
{
    uint32_t first, npages = 0;

    if (mm_window_page(machine, (uintptr_t)base, &first) && span_offset((uintptr_t)base) == 0
        && mm_frame_state(machine, first) == MM_FRAME_CONTIGUOUS)
        npages = mm_frame(machine, first)->owner_page;
    if (npages == 0)
        ke_bug_check(BAD_POOL_CALLER, BAD_CONTIGUOUS_ADDRESS, (uintptr_t)base, 0, 0);
    if (machine->hooks.memory_free_check != NULL)
        machine->hooks.memory_free_check(site, base, (SIZE_T)npages * PAGE_SIZE);
    mm_frames_give_unpinned(machine, first, npages);
    ke_count(KE_CONTIGUOUS_BLOCKS, -1);
}

/* ---- the routines ---- */

/*
 * Nonpaged memory, physically contiguous, page aligned, inside [LowestAcceptableAddress, HighestAcceptableAddress], that crosses no multiple
 * of BoundaryAddressMultiple (0: any). Uninitialised; NULL when there is none.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmallocatecontiguousmemoryspecifycache
 */
PVOID MmAllocateContiguousMemorySpecifyCache(SIZE_T NumberOfBytes, PHYSICAL_ADDRESS LowestAcceptableAddress,
                                             PHYSICAL_ADDRESS HighestAcceptableAddress, PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                             MEMORY_CACHING_TYPE CacheType)
{
    struct machine *machine = ke_machine();
    const struct mm_frame_want want =
        want_of(NumberOfBytes, LowestAcceptableAddress, HighestAcceptableAddress, BoundaryAddressMultiple);

    KE_HOOK(machine, contiguous_check, false);
    if (ke_fails(KE_FALLIBLE_MmAllocateContiguousMemorySpecifyCache) || !is_usable(CacheType) || !is_boundary(BoundaryAddressMultiple))
        return NULL;
    return allocate(machine, &want, plain(CacheType));
}

/* The node if it can be, unless `only`; MM_ANY_NODE_OK asks for no node in particular. */
static PVOID allocate_on_node(struct machine *machine, struct mm_frame_want want, struct kind kind, ULONG node, bool only)
{
    PVOID va = NULL;

    if (node != MM_ANY_NODE_OK && node >= MM_NODES)
        return NULL;
    if (node != MM_ANY_NODE_OK) {
        want.node = (int)node;
        va = allocate(machine, &want, kind);
    }
    if (va == NULL && (node == MM_ANY_NODE_OK || !only)) {
        want.node = MM_ANY_NODE;
        va = allocate(machine, &want, kind);
    }
    return va;
}

/* As MmAllocateContiguousMemorySpecifyCache, from a node of memory by preference. Doc: wdm/nf-wdm-mmallocatecontiguousmemoryspecifycachenode */
PVOID MmAllocateContiguousMemorySpecifyCacheNode(SIZE_T NumberOfBytes, PHYSICAL_ADDRESS LowestAcceptableAddress,
                                                 PHYSICAL_ADDRESS HighestAcceptableAddress, PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                                 MEMORY_CACHING_TYPE CacheType, NODE_REQUIREMENT PreferredNode)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, contiguous_check, false);
    if (ke_fails(KE_FALLIBLE_MmAllocateContiguousMemorySpecifyCacheNode) || !is_usable(CacheType) || !is_boundary(BoundaryAddressMultiple))
        return NULL;
    return allocate_on_node(machine, want_of(NumberOfBytes, LowestAcceptableAddress, HighestAcceptableAddress, BoundaryAddressMultiple),
                            plain(CacheType), PreferredNode, false);
}

/* As before, with a protection (PAGE_READWRITE or PAGE_EXECUTE_READWRITE, PAGE_NOCACHE or PAGE_WRITECOMBINE); NULL when the preferred
 * node cannot satisfy it. Doc: wdm/nf-wdm-mmallocatecontiguousnodememory */
PVOID MmAllocateContiguousNodeMemory(SIZE_T NumberOfBytes, PHYSICAL_ADDRESS LowestAcceptableAddress,
                                     PHYSICAL_ADDRESS HighestAcceptableAddress, PHYSICAL_ADDRESS BoundaryAddressMultiple, ULONG Protect,
                                     NODE_REQUIREMENT PreferredNode)
{
    struct machine *machine = ke_machine();
    struct kind kind;

    KE_HOOK(machine, contiguous_check, false);
    KE_HOOK(machine, protection_check, Protect);
    if (ke_fails(KE_FALLIBLE_MmAllocateContiguousNodeMemory) || !is_protection(Protect, &kind) || !is_boundary(BoundaryAddressMultiple))
        return NULL;
    return allocate_on_node(machine, want_of(NumberOfBytes, LowestAcceptableAddress, HighestAcceptableAddress, BoundaryAddressMultiple),
                            kind, PreferredNode, true);
}

/* The same with a status: *NumberOfBytes receives what was allocated, *BaseAddress where. Doc: wdm/nf-wdm-mmallocatecontiguousmemoryex */
NTSTATUS MmAllocateContiguousMemoryEx(PSIZE_T NumberOfBytes, PHYSICAL_ADDRESS LowestAcceptableAddress,
                                      PHYSICAL_ADDRESS HighestAcceptableAddress, PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                      NODE_REQUIREMENT PreferredNode, ULONG Protect, PVOID PartitionObject, ULONG Tag, ULONG Flags,
                                      PVOID *BaseAddress)
{
    struct machine *machine = ke_machine();
    struct kind kind;
    PVOID va;

    KE_HOOK(machine, contiguous_check, false);
    KE_HOOK(machine, protection_check, Protect);
    UNREFERENCED_PARAMETER(Tag);
    if (!is_protection(Protect, &kind) || !is_boundary(BoundaryAddressMultiple) || PartitionObject != NULL
        || (Flags & ~(ULONG)MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY) != 0)
        return STATUS_INVALID_PARAMETER;
    if (ke_fails(KE_FALLIBLE_MmAllocateContiguousMemoryEx))
        return STATUS_INSUFFICIENT_RESOURCES;
    va = allocate_on_node(machine, want_of(*NumberOfBytes, LowestAcceptableAddress, HighestAcceptableAddress, BoundaryAddressMultiple),
                          kind, PreferredNode, false);
    if (va == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    *NumberOfBytes = span_bytes_to_pages(*NumberOfBytes) * PAGE_SIZE;
    *BaseAddress = va;
    return STATUS_SUCCESS;
}

/* Contiguous cached memory at or below HighestAcceptableAddress; NULL when there is none. IRQL <= DISPATCH_LEVEL.
 * Doc: wdm/nf-wdm-mmallocatecontiguousmemory */
PVOID MmAllocateContiguousMemory(SIZE_T NumberOfBytes, PHYSICAL_ADDRESS HighestAcceptableAddress)
{
    struct machine *machine = ke_machine();
    const PHYSICAL_ADDRESS none = {.QuadPart = 0};
    const struct mm_frame_want want = want_of(NumberOfBytes, none, HighestAcceptableAddress, none);

    KE_HOOK(machine, contiguous_check, false);
    if (ke_fails(KE_FALLIBLE_MmAllocateContiguousMemory))
        return NULL;
    return allocate(machine, &want, plain(MmCached));
}

/* Free a block of any of the routines above. An address that none of them returned: bug check 0xC2. Doc: wdm/nf-wdm-mmfreecontiguousmemory */
VOID MmFreeContiguousMemory(PVOID BaseAddress)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, contiguous_check, true);
    free_block(machine, KE_SITE, BaseAddress);
}

/* Do size and cache type match the allocation's? */
static bool is_same_block(struct machine *machine, PVOID base, SIZE_T bytes, MEMORY_CACHING_TYPE cache)
{
    uint32_t first;

    return mm_window_page(machine, (uintptr_t)base, &first) && mm_frame(machine, first)->owner_page == span_bytes_to_pages(bytes)
        && mm_frame(machine, first)->cache == cache + 1;
}

/* The same; size and cache type must be the allocation's: the verifier warns. Doc: wdm/nf-wdm-mmfreecontiguousmemoryspecifycache */
VOID MmFreeContiguousMemorySpecifyCache(PVOID BaseAddress, SIZE_T NumberOfBytes, MEMORY_CACHING_TYPE CacheType)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, contiguous_check, true);
    if (!is_same_block(machine, BaseAddress, NumberOfBytes, CacheType))
        KE_HOOK(machine, contiguous_mismatch_check, BaseAddress);
    free_block(machine, KE_SITE, BaseAddress);
}

/* Noncached, page-aligned, nonpaged memory; NULL when there is none. IRQL < DISPATCH_LEVEL. Doc: ntddk/nf-ntddk-mmallocatenoncachedmemory */
PVOID MmAllocateNonCachedMemory(SIZE_T NumberOfBytes)
{
    struct machine *machine = ke_machine();
    const PHYSICAL_ADDRESS low = {.QuadPart = 0}, high = {.QuadPart = -1};
    const struct mm_frame_want want = want_of(NumberOfBytes, low, high, low);

    KE_HOOK(machine, irql_check, APC_LEVEL);
    if (ke_fails(KE_FALLIBLE_MmAllocateNonCachedMemory))
        return NULL;
    return allocate(machine, &want, plain(MmNonCached));
}

/* Free what MmAllocateNonCachedMemory returned. Doc: ntddk/nf-ntddk-mmfreenoncachedmemory */
VOID MmFreeNonCachedMemory(PVOID BaseAddress, SIZE_T NumberOfBytes)
{
    struct machine *machine = ke_machine();

    UNREFERENCED_PARAMETER(NumberOfBytes);
    KE_HOOK(machine, irql_check, APC_LEVEL);
    free_block(machine, KE_SITE, BaseAddress);
}
