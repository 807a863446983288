/* SPDX-License-Identifier: MIT */
/*
 * MDLs that bring their own pages: MmAllocatePagesForMdl and its kin, MmFreePagesFromMdl, MmAllocateMdlForIoSpace,
 * MmAreMdlPagesCached, MmMdlPagesAreZero.
 *
 * Such an MDL stands in nonpaged pool, because its owner frees it with ExFreePool. Its pages have no address until they
 * are mapped, and count as locked for as long as they exist: MDL_PAGES_LOCKED is set, although no pin is held.
 */

#include "mdl/state.h"

#include <string.h>

#define MOST_BYTES (0x100000000ull - PAGE_SIZE)

enum { LARGE_PAGE_BYTES = 2 << 20 };

/* One call, in pages and PFNs. */
struct pages_call {
    PFN_NUMBER          low, high, skip;
    size_t              npages, bytes;
    int                 node;
    MEMORY_CACHING_TYPE cache;
    ULONG               flags;
};

/* ---- taking pages ---- */

static void give_back(struct machine *machine, const PFN_NUMBER *pfns, size_t n)
{
    while (n > 0) {
        void *va;
        uint32_t page;
        const size_t run = mm_first_run(machine, pfns, n, &va);

        VERIFY(run != 0 && mm_window_page(machine, (uintptr_t)va, &page));
        mm_frames_give_unpinned(machine, page, run);
        pfns += run;
        n -= run;
    }
}

static void settle(struct machine *machine, const struct pages_call *call, const PFN_NUMBER *pfns, size_t n)
{
    while (n > 0) {
        uint32_t page;
        const size_t run = mm_run_of_pfns(machine, pfns, n, &page);

        VERIFY(run != 0);
        mm_frames_mark(machine, page, run, MM_FRAME_PAGES);
        mm_frames_set_cache(machine, page, run, call->cache);
        if (call->flags & MM_DONT_ZERO_ALLOCATION)
            mm_frames_leave_uninitialised(machine, page, run);
        else
            mm_frames_zero(machine, page, run);
        pfns += run;
        n -= run;
    }
}

/* Pages of one address range, each by itself. The ideal node is asked first, the others only if the flags allow it. */
static size_t take_loose(struct machine *machine, const struct pages_call *call, PFN_NUMBER low, PFN_NUMBER high, size_t n,
                         PFN_NUMBER *pfns)
{
    struct mm_frame_want want = {.npages = n, .low = low, .high = high, .node = call->node};
    size_t done = mm_frames_take_pages(machine, &want, pfns);

    if (done < n && call->node != MM_ANY_NODE && !(call->flags & MM_ALLOCATE_FROM_LOCAL_NODE_ONLY)) {
        want.npages = n - done;
        want.node = MM_ANY_NODE;
        done += mm_frames_take_pages(machine, &want, pfns + done);
    }
    return done;
}

/* The address ranges in turn, each SkipBytes above the last, until there are pages enough or no memory lies so high. */
static size_t take_from_ranges(struct machine *machine, const struct pages_call *call, PFN_NUMBER *pfns)
{
    const PFN_NUMBER highest = mm_highest_pfn(machine);
    PFN_NUMBER low = call->low, high = call->high;
    size_t done = 0;

    while (done < call->npages && low <= highest) {
        done += take_loose(machine, call, low, high < highest ? high : highest, call->npages - done, pfns + done);
        if (call->skip == 0)
            break;
        low += call->skip;
        high += call->skip;
    }
    return done;
}

static bool take_chunk(struct machine *machine, const struct pages_call *call, size_t npages, size_t boundary, PFN_NUMBER *pfns)
{
    struct mm_frame_want want = {
        .npages = npages, .low = call->low, .high = call->high, .boundary_pages = boundary, .node = call->node};
    uint32_t first;
    bool taken = mm_frames_take_contiguous(machine, &want, &first);

    if (!taken && call->node != MM_ANY_NODE && !(call->flags & MM_ALLOCATE_FROM_LOCAL_NODE_ONLY)) {
        want.node = MM_ANY_NODE;
        taken = mm_frames_take_contiguous(machine, &want, &first);
    }
    if (taken)
        mm_pfns_of_pages(machine, first, npages, pfns);
    return taken;
}

/* One block for everything, or blocks of SkipBytes each, aligned to their size. Whole blocks only. */
static size_t take_chunks(struct machine *machine, const struct pages_call *call, PFN_NUMBER *pfns)
{
    const size_t chunk = call->skip == 0 ? call->npages : call->skip;
    size_t done = 0;

    while (done < call->npages && take_chunk(machine, call, chunk, call->skip, pfns + done))
        done += chunk;
    return done;
}

/* ---- what a call may ask for ---- */

static bool is_power_of_two(uint64_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static bool are_flags_valid(const struct pages_call *call)
{
    const ULONG known = MM_DONT_ZERO_ALLOCATION | MM_ALLOCATE_FROM_LOCAL_NODE_ONLY | MM_ALLOCATE_FULLY_REQUIRED
        | MM_ALLOCATE_NO_WAIT | MM_ALLOCATE_PREFER_CONTIGUOUS | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS
        | MM_ALLOCATE_FAST_LARGE_PAGES | MM_ALLOCATE_TRIM_IF_NECESSARY | MM_ALLOCATE_AND_HOT_REMOVE;
    const bool chunks = call->flags & MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS;

    if (call->flags & ~known)
        return false;
    if (chunks && call->skip != 0 && (!is_power_of_two(call->skip) || call->bytes % (call->skip * PAGE_SIZE) != 0))
        return false;
    if ((call->flags & MM_ALLOCATE_FAST_LARGE_PAGES)
        && (!chunks || call->skip == 0 || call->skip % (LARGE_PAGE_BYTES / PAGE_SIZE) != 0))
        return false;
    if (call->flags & MM_ALLOCATE_AND_HOT_REMOVE)
        return !(call->flags & MM_ALLOCATE_FULLY_REQUIRED) && ke_self()->irql == PASSIVE_LEVEL;
    return true;
}

/* ---- the MDL ---- */

static PMDL new_pool_mdl(struct machine *machine, size_t npages)
{
    PMDL mdl = mm_pool_allocate_mdl(machine, sizeof(MDL) + npages * sizeof(PFN_NUMBER));

    if (mdl == NULL)
        return NULL;
    MmInitializeMdl(mdl, NULL, npages * PAGE_SIZE);
    mdl->Process = NULL;
    mdl->MappedSystemVa = NULL;
    mdl_set_flags(mdl, 0, MDL_PAGES_LOCKED);
    return mdl;
}

static bool is_enough(const struct pages_call *call, size_t done)
{
    return done != 0 && (done == call->npages || !(call->flags & MM_ALLOCATE_FULLY_REQUIRED));
}

static PMDL allocate_pages(struct machine *machine, const struct pages_call *call)
{
    PMDL mdl = new_pool_mdl(machine, call->npages);
    size_t done;

    if (mdl == NULL)
        return NULL;
    if (call->flags & MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS)
        done = take_chunks(machine, call, mdl_pfns(mdl));
    else
        done = take_from_ranges(machine, call, mdl_pfns(mdl));
    if (!is_enough(call, done)) {
        give_back(machine, mdl_pfns(mdl), done);
        ExFreePool(mdl);
        return NULL;
    }
    settle(machine, call, mdl_pfns(mdl), done);
    mdl->ByteCount = (ULONG)(done * PAGE_SIZE);
    ke_count(KE_ALLOCATED_PAGES, (int64_t)done);
    return mdl;
}

static PMDL allocate_for_mdl(struct ke_site site, enum ke_fallible routine, PHYSICAL_ADDRESS low, PHYSICAL_ADDRESS high,
                             PHYSICAL_ADDRESS skip, SIZE_T bytes, MEMORY_CACHING_TYPE cache, int node, ULONG flags)
{
    struct machine *machine = ke_machine();
    const struct pages_call call = {
        .low = ((uint64_t)low.QuadPart + PAGE_SIZE - 1) >> PAGE_SHIFT,
        .high = mm_pfn_below((uint64_t)high.QuadPart),
        .skip = (uint64_t)skip.QuadPart >> PAGE_SHIFT,
        .npages = span_bytes_to_pages(bytes),
        .bytes = bytes,
        .node = node,
        .cache = cache,
        .flags = flags,
    };
    PMDL mdl;

    if (machine->hooks.pages_allocate_check != NULL)
        machine->hooks.pages_allocate_check(site);
    if (bytes == 0 || bytes > MOST_BYTES || (skip.QuadPart & (PAGE_SIZE - 1)) != 0 || (uint64_t)high.QuadPart < (uint64_t)low.QuadPart)
        return NULL;
    if (cache < MmNotMapped || cache >= MmMaximumCacheType || !are_flags_valid(&call) || ke_fails(routine))
        return NULL;
    mdl = allocate_pages(machine, &call);
    if (mdl != NULL && machine->hooks.pages_allocate_record != NULL)
        machine->hooks.pages_allocate_record(site, mdl);
    return mdl;
}

/* ---- the routines ---- */

/*
 * Allocate zeroed pages, as many of TotalBytes as there are, from [LowAddress, HighAddress] and the ranges SkipBytes further up; and an
 * MDL that describes them. The pages go with MmFreePagesFromMdl, the MDL with ExFreePool.
 *
 * NULL when there is no page in the ranges, or no pool.
 * IRQL: <= DISPATCH_LEVEL (<= APC_LEVEL before Windows Server 2008).
 * Doc:  wdm/nf-wdm-mmallocatepagesformdl
 */
PMDL MmAllocatePagesForMdl(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress, PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes)
{
    return allocate_for_mdl(KE_SITE, KE_FALLIBLE_MmAllocatePagesForMdl, LowAddress, HighAddress, SkipBytes, TotalBytes,
                            MmNotMapped, MM_ANY_NODE, 0);
}

/* The node that the calling thread's memory comes from by preference. */
static int ideal_node(ULONG flags)
{
    return flags & MM_ALLOCATE_FROM_LOCAL_NODE_ONLY ? 0 : MM_ANY_NODE;
}

/*
 * As MmAllocatePagesForMdl, with a cache type and MM_ALLOCATE_* flags.
 *
 * Doc:  wdm/nf-wdm-mmallocatepagesformdlex
 */
PMDL MmAllocatePagesForMdlEx(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress, PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes,
                             MEMORY_CACHING_TYPE CacheType, ULONG Flags)
{
    return allocate_for_mdl(KE_SITE, KE_FALLIBLE_MmAllocatePagesForMdlEx, LowAddress, HighAddress, SkipBytes, TotalBytes,
                            CacheType, ideal_node(Flags), Flags);
}

/*
 * As MmAllocatePagesForMdlEx, from a node of memory by preference: 0 is what lies below 4 GiB, 1 what lies above.
 *
 * Doc:  wdm/nf-wdm-mmallocatenodepagesformdlex
 */
PMDL MmAllocateNodePagesForMdlEx(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress, PHYSICAL_ADDRESS SkipBytes,
                                 SIZE_T TotalBytes, MEMORY_CACHING_TYPE CacheType, ULONG IdealNode, ULONG Flags)
{
    const struct ke_site site = KE_SITE;

    if (IdealNode >= MM_NODES)
        return NULL;
    return allocate_for_mdl(site, KE_FALLIBLE_MmAllocateNodePagesForMdlEx, LowAddress, HighAddress, SkipBytes, TotalBytes,
                            CacheType, (int)IdealNode, Flags);
}

static _Noreturn void stop_not_own_page(PMDL mdl, const PFN_NUMBER *pfn)
{
    ke_bug_check(MEMORY_MANAGEMENT, 0x1236, (uintptr_t)mdl, (uintptr_t)pfn, *pfn);
}

/* How many numbers from the start are of pages in a row that a routine of this file allocated; 0: the first is not. */
static size_t run_of_own_pages(const struct machine *machine, const PFN_NUMBER *pfns, size_t n)
{
    uint32_t page;
    const size_t run = mm_run_of_pfns(machine, pfns, n, &page);

    if (run == 0 || mm_frames_are(machine, page, run, MM_FRAME_PAGES))
        return run;
    return mm_frames_are(machine, page, 1, MM_FRAME_PAGES) ? 1 : 0;
}

/* Bug check 0x1A/0x1236 for an MDL that brought no pages of its own, or a page that it cannot have brought. */
static void require_own_pages(const struct machine *machine, PMDL mdl)
{
    const bool other = mdl_has(mdl, MDL_PARTIAL) || mdl_block_is_ours(machine, mdl);
    const PFN_NUMBER *pfns = mdl_pfns(mdl);

    for (size_t left = mdl_span(mdl), run; left > 0; left -= run, pfns += run) {
        run = other ? 0 : run_of_own_pages(machine, pfns, left);
        if (run == 0)
            stop_not_own_page(mdl, pfns);
    }
}

static void clear_pages(struct machine *machine, PMDL mdl)
{
    void *va;

    for (size_t i = 0; i < mdl_span(mdl); i++)
        if (mm_first_run(machine, mdl_pfns(mdl) + i, 1, &va) == 1)
            memset(va, 0, PAGE_SIZE);
}

static void free_pages(struct ke_site site, PMDL mdl, ULONG flags)
{
    struct machine *machine = ke_machine();
    size_t npages;

    if (machine->hooks.pages_free_check != NULL)
        machine->hooks.pages_free_check(site, mdl);
    require_own_pages(machine, mdl);
    if (mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA))
        mdl_unmap_system(machine, mdl);
    if (flags & MM_FREE_MDL_PAGES_ZERO)
        clear_pages(machine, mdl);
    npages = mdl_span(mdl);
    give_back(machine, mdl_pfns(mdl), npages);
    mdl_set_flags(mdl, MDL_PAGES_LOCKED, 0);
    mdl->ByteCount = 0;
    ke_count(KE_ALLOCATED_PAGES, -(int64_t)npages);
    if (machine->hooks.pages_free_record != NULL)
        machine->hooks.pages_free_record(site, mdl);
}

/*
 * Free the pages of an MDL of MmAllocatePagesForMdl and its kin, and a system mapping of it. The MDL itself is freed with ExFreePool.
 *
 * A page that no such call allocated: bug check 0x1A/0x1236.
 * IRQL: <= DISPATCH_LEVEL (<= APC_LEVEL before Windows Server 2008).
 * Doc:  wdm/nf-wdm-mmfreepagesfrommdl
 */
VOID MmFreePagesFromMdl(PMDL MemoryDescriptorList)
{
    free_pages(KE_SITE, MemoryDescriptorList, 0);
}

/* As MmFreePagesFromMdl; MM_FREE_MDL_PAGES_ZERO clears the pages first. */
VOID MmFreePagesFromMdlEx(PMDL MemoryDescriptorList, ULONG Flags)
{
    free_pages(KE_SITE, MemoryDescriptorList, Flags);
}

/* ---- I/O space ---- */

/* Whole pages of which none is RAM, nor memory of the host. */
static bool is_io_range(const struct machine *machine, const MM_PHYSICAL_ADDRESS_LIST *range)
{
    const uint64_t start = (uint64_t)range->PhysicalAddress.QuadPart;
    const size_t npages = range->NumberOfBytes >> PAGE_SHIFT;

    if (range->NumberOfBytes == 0 || ((start | range->NumberOfBytes) & (PAGE_SIZE - 1)) != 0 || span_wraps(start, range->NumberOfBytes))
        return false;
    for (size_t i = 0; i < npages; i++) {
        const PFN_NUMBER pfn = (start >> PAGE_SHIFT) + i;

        if (!mm_is_io_pfn(pfn) && mm_pfn_exists(machine, pfn))
            return false;
    }
    return true;
}

static NTSTATUS add_ranges(const struct machine *machine, const MM_PHYSICAL_ADDRESS_LIST *ranges, SIZE_T n, uint64_t *bytes)
{
    *bytes = 0;
    for (SIZE_T i = 0; i < n; i++) {
        if (ranges[i].NumberOfBytes > MAXULONG || *bytes > MAXULONG - ranges[i].NumberOfBytes)
            return STATUS_INVALID_PARAMETER_1;
        *bytes += ranges[i].NumberOfBytes;
        if (!is_io_range(machine, &ranges[i]))
            return STATUS_INVALID_PARAMETER_1;
    }
    return n == 0 ? STATUS_INVALID_PARAMETER_2 : STATUS_SUCCESS;
}

/*
 * Allocate an MDL that describes ranges of device memory, in their order. It can be mapped and is freed with IoFreeMdl.
 *
 * STATUS_INVALID_PARAMETER_1 for a range that is not whole pages, empty, in RAM, or for more than 2^32 - 1 bytes in all;
 * STATUS_INSUFFICIENT_RESOURCES.
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmallocatemdlforiospace
 */
NTSTATUS MmAllocateMdlForIoSpace(PMM_PHYSICAL_ADDRESS_LIST PhysicalAddressList, SIZE_T NumberOfEntries, PMDL *NewMdl)
{
    struct machine *machine = ke_machine();
    PPFN_NUMBER pfns;
    uint64_t bytes;
    NTSTATUS status;
    PMDL mdl;

    KE_HOOK(machine, irql_check, DISPATCH_LEVEL);
    status = add_ranges(machine, PhysicalAddressList, NumberOfEntries, &bytes);
    if (!NT_SUCCESS(status))
        return status;
    mdl = ke_fails(KE_FALLIBLE_MmAllocateMdlForIoSpace) ? NULL : mdl_new(machine, 0, bytes);
    if (mdl == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    pfns = mdl_pfns(mdl);
    for (SIZE_T i = 0; i < NumberOfEntries; i++)
        for (uint64_t off = 0; off < PhysicalAddressList[i].NumberOfBytes; off += PAGE_SIZE)
            *pfns++ = ((uint64_t)PhysicalAddressList[i].PhysicalAddress.QuadPart + off) >> PAGE_SHIFT;
    mdl_set_flags(mdl, 0, MDL_IO_SPACE | MDL_PAGES_LOCKED);
    *NewMdl = mdl;
    return STATUS_SUCCESS;
}

/* ---- questions about pages ---- */

/* TRUE unless a page of the MDL is used with another cache type than MmCached. IRQL <= DISPATCH_LEVEL. */
LOGICAL MmAreMdlPagesCached(PMDL MemoryDescriptorList)
{
    struct machine *machine = ke_machine();
    uint32_t page;

    KE_HOOK(machine, mdl_use_check, MemoryDescriptorList);
    if (mdl_has(MemoryDescriptorList, MDL_IO_SPACE))
        return FALSE;
    for (size_t i = 0; i < mdl_span(MemoryDescriptorList); i++) {
        if (!mm_page_of_pfn(machine, mdl_pfns(MemoryDescriptorList)[i], &page))
            continue;
        if (mm_frame(machine, page)->cache > MmCached + 1 || mm_frame(machine, page)->cache == MmNonCached + 1)
            return FALSE;
    }
    return TRUE;
}

static bool is_zero(const void *va)
{
    const uint64_t *words = va;

    for (size_t i = 0; i < PAGE_SIZE / sizeof(*words); i++)
        if (words[i] != 0)
            return false;
    return true;
}

/* TRUE if every byte of every page that the MDL describes is zero. IRQL <= DISPATCH_LEVEL. */
LOGICAL MmMdlPagesAreZero(PMDL MemoryDescriptorList)
{
    struct machine *machine = ke_machine();
    void *va;

    KE_HOOK(machine, mdl_use_check, MemoryDescriptorList);
    for (size_t i = 0; i < mdl_span(MemoryDescriptorList); i++)
        if (mm_first_run(machine, mdl_pfns(MemoryDescriptorList) + i, 1, &va) == 0 || !is_zero(va))
            return FALSE;
    return TRUE;
}
