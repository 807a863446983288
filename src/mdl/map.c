/* SPDX-License-Identifier: MIT */
/*
 * Mapping an MDL's pages: MmMapLockedPagesSpecifyCache, MmUnmapLockedPages, MmGetSystemAddressForMdlSafe.
 *
 * Which system address an MDL gets:
 *
 *     host pages                    their own address: Linux cannot show them a second time
 *     verifier off, pages lie side  the RAM window, where they are mapped anyway: no call to the host
 *       by side in the RAM file
 *     else                          a private mapping among the system PTEs, with guard pages, revoked at unmap
 *
 * A mapping goes by the PFNs and never by the MDL's virtual address: drivers write PFN arrays themselves.
 */

#include "mdl/state.h"

/* ---- what may be mapped ---- */

/* Bug check 0x1A/0x1233 for the first page that could be taken away while it is mapped. */
static void require_held(const struct machine *machine, PMDL mdl, size_t npages)
{
    const PPFN_NUMBER pfns = mdl_pfns(mdl);

    for (size_t i = 0; i < npages; i++)
        if (!mm_pfn_is_held(machine, pfns[i]))
            ke_bug_check(MEMORY_MANAGEMENT, 0x1233, pfns[i], 0, 0);
}

static uint8_t attributes_of_priority(ULONG priority, bool user)
{
    uint8_t attributes = MM_READ;

    if (!(priority & MdlMappingNoWrite))
        attributes |= MM_WRITE;
    if (!user && !(priority & MdlMappingNoExecute))
        attributes |= MM_EXEC;
    return attributes;
}

static bool is_in_host_memory(const struct machine *machine, const void *va)
{
    struct mm_space *space;

    return mm_classify(machine, (uintptr_t)va, &space) == MM_KIND_HOST;
}

/* ---- system space ---- */

void mdl_note_mapped(PMDL mdl, uintptr_t va)
{
    const unsigned own = mdl_has(mdl, MDL_PARTIAL) ? MDL_PARTIAL_HAS_BEEN_MAPPED : 0;

    mdl->MappedSystemVa = (PVOID)(va + mdl->ByteOffset);
    mdl_set_flags(mdl, 0, MDL_MAPPED_TO_SYSTEM_VA | own);
    ke_count(KE_SYSTEM_MAPPINGS, 1);
    ke_count(KE_SYSTEM_PAGES_MAPPED, (int64_t)mdl_span(mdl));
    ke_count(KE_MAPPINGS_MADE, 1);
}

void mdl_note_unmapped(PMDL mdl)
{
    mdl->MappedSystemVa = NULL;
    mdl_set_flags(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED | MDL_PARENT_MAPPED_SYSTEM_VA, 0);
    ke_count(KE_SYSTEM_MAPPINGS, -1);
    ke_count(KE_SYSTEM_PAGES_MAPPED, -(int64_t)mdl_span(mdl));
}

/* Bytes that lie side by side in this process already, where no protection asks for more: no mapping is needed. */
static bool find_existing(struct machine *machine, PMDL mdl, size_t npages, ULONG priority, uintptr_t *va)
{
    void *start;

    if ((priority & MdlMappingNoWrite) || mm_first_run(machine, mdl_pfns(mdl), npages, &start) != npages)
        return false;
    *va = (uintptr_t)start;
    return machine->options.verifier == 0 || is_in_host_memory(machine, start);
}

static bool has_host_page(const struct machine *machine, PMDL mdl, size_t npages)
{
    const PPFN_NUMBER pfns = mdl_pfns(mdl);
    void *va;

    for (size_t i = 0; i < npages; i++)
        if (mm_first_run(machine, &pfns[i], 1, &va) == 1 && is_in_host_memory(machine, va))
            return true;
    return false;
}

static bool map_privately(struct machine *machine, PMDL mdl, size_t npages, ULONG priority, uintptr_t *va)
{
    const struct mm_map_request request = {
        .pfns = mdl_pfns(mdl),
        .npages = npages,
        .attributes = attributes_of_priority(priority, false),
        .mdl = mdl,
        .start_va = (uintptr_t)mdl->StartVa,
    };

    if (has_host_page(machine, mdl, npages)) {
        ke_warn("host-pages-not-mappable", "MDL %p describes pages of the host process that do not lie side by side, or asks to protect "
                "them: they have no system mapping; use process memory or pool", (void *)mdl);
        return false;
    }
    return NT_SUCCESS(mm_space_map(machine, machine->mm->system_ptes, &request, va));
}

/* The address of the first byte, or NULL when it cannot be mapped. */
static PVOID map_system(struct machine *machine, PMDL mdl, ULONG priority)
{
    const size_t npages = mdl_span(mdl);
    uintptr_t va;

    require_held(machine, mdl, npages);
    if (!find_existing(machine, mdl, npages, priority, &va) && !map_privately(machine, mdl, npages, priority, &va))
        return NULL;
    mdl_note_mapped(mdl, va);
    return mdl->MappedSystemVa;
}

/* Parameter 1 of bug check 0xDA. */
enum { PTE_WRONG_COUNT = 2, PTE_WRONG_ADDRESS = 3, PTE_WRONG_PFN = 4, PTE_WRONG_VA = 5, PTE_NEVER_MAPPED = 6 };

/* Does what is unmapped agree with what was mapped? */
static void require_same_mapping(struct mm_space *ptes, PMDL mdl, uintptr_t va)
{
    const size_t npages = mdl_span(mdl);
    struct mm_region region;
    uint32_t page;

    if (!mm_space_region(ptes, va, &region))
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_NEVER_MAPPED, (uintptr_t)mdl, va, npages);
    page = (uint32_t)((va - ptes->base) >> SPAN_PAGE_SHIFT);
    if (page != region.live_first)
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_WRONG_ADDRESS, (uintptr_t)region.mdl,
                     ptes->base + (uintptr_t)region.live_first * HOST_PAGE_SIZE, va);
    if (npages != region.npages - (region.live_first - region.first))
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_WRONG_COUNT, (uintptr_t)region.mdl, region.npages, npages);
    if (mdl_pfns(mdl)[0] != region.first_pfn)
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_WRONG_PFN, (uintptr_t)region.mdl, region.first_pfn, mdl_pfns(mdl)[0]);
}

void mdl_unmap_system(struct machine *machine, PMDL mdl)
{
    struct mm_space *ptes = machine->mm->system_ptes;
    const uintptr_t va = (uintptr_t)mdl->MappedSystemVa;
    struct mm_space *space;

    if (mm_classify(machine, va, &space) == MM_KIND_SYSTEM_PTE) {
        require_same_mapping(ptes, mdl, va);
        mm_space_unmap(machine, ptes, va);
    }
    mdl_note_unmapped(mdl);
}

/* ---- user space ---- */

/* Into the current process; raises where it cannot. */
static PVOID map_user(struct machine *machine, PMDL mdl, PVOID wanted, ULONG priority, uintptr_t ip)
{
    struct mm_space *space = mm_current_space(machine);
    const struct mm_map_request request = {
        .pfns = mdl_pfns(mdl),
        .npages = mdl_span(mdl),
        .attributes = attributes_of_priority(priority, true),
        .wanted = span_page_base((uintptr_t)wanted),
        .mdl = mdl,
        .start_va = (uintptr_t)mdl->StartVa,
    };
    uintptr_t va;
    NTSTATUS status;

    require_held(machine, mdl, request.npages);
    if (wanted != NULL && !span_contains(space->base, (size_t)space->npages * PAGE_SIZE, request.wanted, request.npages * PAGE_SIZE))
        ke_raise(STATUS_INVALID_ADDRESS, ip, 0);
    status = mm_space_map(machine, space, &request, &va);
    if (!NT_SUCCESS(status))
        ke_raise(status, ip, 0);
    return (PVOID)(va + mdl->ByteOffset);
}

/* A mapping of this MDL in the current process that starts at va. */
static bool is_user_mapping(struct mm_space *space, uintptr_t va, const MDL *mdl)
{
    struct mm_region region;

    return mm_space_region(space, va, &region) && region.kind == MM_REGION_USER_MAPPING && region.mdl == mdl
        && span_page_base(va) == space->base + (uintptr_t)region.live_first * HOST_PAGE_SIZE;
}

/* ---- the routines ---- */

static _Noreturn void stop_no_ptes(struct machine *machine, size_t npages)
{
    const struct mm_space *ptes = machine->mm->system_ptes;

    ke_bug_check(NO_MORE_SYSTEM_PTES, 0, npages, ptes->npages - ptes->nused, ptes->npages);
}

/*
 * Map the pages that an MDL describes: into system space (KernelMode), or into the current process (UserMode).
 *
 * The address of the first byte, with the MDL's byte offset. KernelMode: NULL when the pages cannot be mapped, or bug check 0x3F if
 * BugCheckOnFailure. UserMode: raises. A page that is not locked: bug check 0x1A/0x1233.
 * IRQL: <= DISPATCH_LEVEL (KernelMode), <= APC_LEVEL (UserMode).
 * Doc:  wdm/nf-wdm-mmmaplockedpagesspecifycache
 */
PVOID MmMapLockedPagesSpecifyCache(PMDLX MemoryDescriptorList, KPROCESSOR_MODE AccessMode, MEMORY_CACHING_TYPE CacheType,
                                   PVOID RequestedAddress, ULONG BugCheckOnFailure, ULONG Priority)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    const struct ke_map_call call = {.mdl = mdl, .mode = AccessMode, .bug_check_on_failure = BugCheckOnFailure != 0,
                                     .priority_given = true, .priority = Priority};
    const bool fails = ke_fails(KE_FALLIBLE_MmMapLockedPagesSpecifyCache);
    PVOID va;

    UNREFERENCED_PARAMETER(CacheType);
    KE_HOOK(machine, mdl_map_check, &call);
    if (fails && AccessMode != KernelMode)
        ke_raise(STATUS_INSUFFICIENT_RESOURCES, (uintptr_t)__builtin_return_address(0), 0);
    if (AccessMode == KernelMode)
        va = fails ? NULL : map_system(machine, mdl, Priority);
    else
        va = map_user(machine, mdl, RequestedAddress, Priority, (uintptr_t)__builtin_return_address(0));
    if (va == NULL && BugCheckOnFailure)
        stop_no_ptes(machine, mdl_span(mdl));
    if (va != NULL)
        KE_HOOK(machine, mdl_map_record, mdl, va, AccessMode);
    return va;
}

/*
 * The system address of an MDL's buffer, mapped if it is not yet; NULL when it cannot be, or when Mdl is NULL.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmgetsystemaddressformdlsafe
 */
PVOID MmGetSystemAddressForMdlSafe(PMDL Mdl, ULONG Priority)
{
    struct machine *machine = ke_machine();
    const struct ke_map_call call = {.mdl = Mdl, .mode = KernelMode, .priority_given = true, .priority = Priority};
    PVOID va;

    if (Mdl == NULL)
        return NULL;
    KE_HOOK(machine, mdl_system_address_check, Mdl);
    if (mdl_has(Mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL))
        return Mdl->MappedSystemVa;
    if (ke_fails(KE_FALLIBLE_MmGetSystemAddressForMdlSafe))
        return NULL;
    KE_HOOK(machine, mdl_map_check, &call);
    va = map_system(machine, Mdl, Priority);
    if (va != NULL)
        KE_HOOK(machine, mdl_map_record, Mdl, va, KernelMode);
    return va;
}

/*
 * Release a mapping of MmMapLockedPagesSpecifyCache or MmGetSystemAddressForMdlSafe. The pages stay locked.
 *
 * An address that maps nothing, or something else: bug check 0xDA.
 * IRQL: <= DISPATCH_LEVEL for a system mapping, <= APC_LEVEL for a user mapping, in the process where it was made.
 * Doc:  wdm/nf-wdm-mmunmaplockedpages
 */
VOID MmUnmapLockedPages(PVOID BaseAddress, PMDLX MemoryDescriptorList)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    const uintptr_t va = (uintptr_t)BaseAddress;
    struct mm_space *space;
    const bool user = mm_classify(machine, va, &space) == MM_KIND_PROCESS;

    KE_HOOK(machine, mdl_unmap_check, BaseAddress, mdl, user);
    if (user ? space != mm_current_space(machine) || !is_user_mapping(space, va, mdl)
             : !mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA) || mdl->MappedSystemVa != BaseAddress)
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_NEVER_MAPPED, (uintptr_t)mdl, va, mdl_span(mdl));
    if (user)
        mm_space_unmap(machine, space, va);
    else
        mdl_unmap_system(machine, mdl);
    KE_HOOK(machine, mdl_unmap_record, mdl, user);
}
