/* SPDX-License-Identifier: MIT */
/*
 * Mapping an MDL's pages: MmMapLockedPagesSpecifyCache, MmMapLockedPages, MmUnmapLockedPages,
 * MmGetSystemAddressForMdlSafe, MmGetSystemAddressForMdl, MmProtectMdlSystemAddress, MmMapMdl.
 *
 * Which system address an MDL gets:
 *
 *     host pages                    their own address: Linux cannot show them a second time
 *     verifier off, pages lie side  the RAM window, where they are mapped anyway: no call to the host
 *       by side in the RAM file
 *     else                          a private mapping among the system PTEs, with guard pages, revoked at unmap
 *
 * With the verifier on, the mapping of a buffer that was locked for reading is read-only: a driver must not write there.
 *
 * Under AddressSanitizer, what its pages hold beside the buffer is then poisoned: the MDL's own bytes are all that a driver may touch.
 *
 * A mapping goes by the PFNs and never by the MDL's virtual address: drivers write PFN arrays themselves.
 */

#include "mdl/state.h"
#include "mm/pin.h"

/* ---- what may be mapped ---- */

/* A device's, as far as the MDL says so; where there is no device, the mapping fails and nothing worse. */
static bool is_device_address(const struct machine *machine, PMDL mdl, PFN_NUMBER pfn)
{
    return mdl_has(mdl, MDL_IO_SPACE) && !mm_pfn_exists(machine, pfn);
}

static void require_held(struct machine *machine, PMDL mdl, struct mm_witness *witness)
{
    const PPFN_NUMBER pfns = mdl_pfns(mdl);
    const size_t npages = mdl_span(mdl);
    size_t held = mm_count_held(machine, pfns, npages, witness);

    while (held < npages) {
        if (!is_device_address(machine, mdl, pfns[held]))
            ke_bug_check(MEMORY_MANAGEMENT, 0x1233, pfns[held], 0, 0);
        held++;
        held += mm_count_held(machine, &pfns[held], npages - held, witness);
        witness->given = 0;
    }
}

void mdl_require_held(struct machine *machine, PMDL mdl)
{
    struct mm_witness witness;

    require_held(machine, mdl, &witness);
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
    ke_count(KE_MAPPINGS_MADE, 1);
    ke_count(KE_SYSTEM_PAGES_MAPPED, (int64_t)mdl_span(mdl));
}

void mdl_note_unmapped(PMDL mdl, size_t npages)
{
    mdl->MappedSystemVa = NULL;
    mdl_set_flags(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED | MDL_PARENT_MAPPED_SYSTEM_VA, 0);
    ke_count(KE_MAPPINGS_RELEASED, 1);
    ke_count(KE_SYSTEM_PAGES_MAPPED, -(int64_t)npages);
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

static bool has_host_page(PMDL mdl, size_t npages)
{
    const PPFN_NUMBER pfns = mdl_pfns(mdl);

    for (size_t i = 0; i < npages; i++)
        if (mm_is_host_pfn(pfns[i]))
            return true;
    return false;
}

/* Of the system PTEs, the share that stays for requests of higher priority: 1/16 for more than low, 1/64 for high. */
static size_t reserved_for_higher(const struct mm_space *ptes, ULONG priority)
{
    const ULONG level = priority & ~(ULONG)(MdlMappingNoWrite | MdlMappingNoExecute | MdlMappingWithGuardPtes);

    return level >= HighPagePriority ? 0 : level >= NormalPagePriority ? ptes->npages / 64 : ptes->npages / 16;
}

static bool map_privately(struct machine *machine, const struct mm_map_request *request, PMDL mdl, ULONG priority, uintptr_t *va)
{
    struct mm_space *ptes = machine->mm->system_ptes;

    if (has_host_page(mdl, request->npages)) {
        ke_warn("host-pages-not-mappable", "MDL %p describes pages of the host process that do not lie side by side, or asks to protect "
                "them: they have no system mapping; use process memory or pool", (void *)mdl);
        return false;
    }
    if (mm_space_room(ptes) < request->npages + reserved_for_higher(ptes, priority))
        return false;
    return NT_SUCCESS(mm_space_map(machine, ptes, request, va));
}

bool mdl_is_for_reading(const struct machine *machine, PMDL mdl)
{
    return machine->hooks.mdl_is_read_locked != NULL && machine->hooks.mdl_is_read_locked(mdl);
}

static struct mm_map_request private_request(const struct machine *machine, PMDL mdl, ULONG priority)
{
    const bool read_locked = mdl_is_for_reading(machine, mdl);

    return (struct mm_map_request){
        .pfns = mdl_pfns(mdl),
        .npages = mdl_span(mdl),
        .attributes = attributes_of_priority(read_locked ? priority | MdlMappingNoWrite : priority, false),
        .mdl = mdl,
        .start_va = (uintptr_t)mdl->StartVa,
    };
}

/* Pages that are known to be held, where they are seen already: in the RAM window, or as they were mapped before. */
static bool find_held(struct machine *machine, PMDL mdl, ULONG priority, uintptr_t *va)
{
    const struct mm_map_request request = private_request(machine, mdl, priority);
    void *run = NULL;

    if (machine->options.verifier != 0)
        return false;
    if (!(priority & MdlMappingNoWrite))
        run = mm_locked_run(machine, (uintptr_t)mdl->StartVa, request.pfns, request.npages);
    *va = (uintptr_t)run;
    return run != NULL || mm_space_map_again(machine, machine->mm->system_ptes, &request, va);
}

/* What the pages hold beside the buffer is somebody else's. */
static void poison_around(const MDL *mdl, uintptr_t first_page)
{
    const uintptr_t end = first_page + mdl->ByteOffset + mdl->ByteCount;

    host_poison((const void *)first_page, mdl->ByteOffset);
    host_poison((const void *)end, first_page + mdl_span(mdl) * PAGE_SIZE - end);
}

static bool find_or_map(struct machine *machine, PMDL mdl, ULONG priority, uintptr_t *va)
{
    struct mm_map_request request = private_request(machine, mdl, priority);

    require_held(machine, mdl, &request.witness);
    if (find_existing(machine, mdl, request.npages, priority, va))
        return true;
    if (!map_privately(machine, &request, mdl, priority, va))
        return false;
    if (machine->options.verifier != 0)
        poison_around(mdl, *va);
    return true;
}

static bool lacks_cache_type(const struct machine *machine, uint32_t page)
{
    return mm_frame(machine, page)->cache == 0 && mm_frame_state(machine, page) == MM_FRAME_PAGES;
}

/* The first mapping of pages that were allocated without a cache type gives them one; MmAreMdlPagesCached asks for it. */
static void settle_cache_type(const struct machine *machine, PMDL mdl, MEMORY_CACHING_TYPE cache)
{
    uint32_t page;

    for (size_t i = 0; i < mdl_span(mdl); i++)
        if (mm_page_of_pfn(machine, mdl_pfns(mdl)[i], &page) && lacks_cache_type(machine, page))
            mm_frame(machine, page)->cache = (uint8_t)(cache + 1);
}

/* The address of the first byte, or NULL when it cannot be mapped: an MDL of no bytes has no page to be mapped. */
static PVOID map_system(struct machine *machine, PMDL mdl, MEMORY_CACHING_TYPE cache, ULONG priority)
{
    uintptr_t va;

    if (mdl_span(mdl) == 0)
        return NULL;
    if (!find_held(machine, mdl, priority, &va) && !find_or_map(machine, mdl, priority, &va))
        return NULL;
    if (cache != MmCached)
        settle_cache_type(machine, mdl, cache);
    mdl_note_mapped(mdl, va);
    return mdl->MappedSystemVa;
}

/* Parameter 1 of bug check 0xDA. */
enum { PTE_WRONG_COUNT = 2, PTE_WRONG_ADDRESS = 3, PTE_WRONG_PFN = 4, PTE_NEVER_MAPPED = 6 };

/* The MDL is mapped, but not at va. */
static _Noreturn void stop_wrong_address(const struct machine *machine, PMDL mdl, uintptr_t va)
{
    struct mm_region region = {0};
    struct mm_space *space;

    if (mm_classify(machine, va, &space) == MM_KIND_SYSTEM_PTE && mm_space_region(space, va, &region))
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_WRONG_ADDRESS, (uintptr_t)region.mdl, (uintptr_t)mdl->MappedSystemVa, va);
    ke_bug_check(SYSTEM_PTE_MISUSE, PTE_NEVER_MAPPED, (uintptr_t)mdl, va, mdl_span(mdl));
}

/* What is unmapped at va is not what was mapped there. */
static _Noreturn void stop_other_mapping(const struct mm_space *ptes, PMDL mdl, uintptr_t va, const struct mm_region *region)
{
    if (region->npages == 0)
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_NEVER_MAPPED, (uintptr_t)mdl, va, mdl_span(mdl));
    if (mm_space_page(ptes, va) != region->live_first)
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_WRONG_ADDRESS, (uintptr_t)region->mdl,
                     ptes->base + (uintptr_t)region->live_first * HOST_PAGE_SIZE, va);
    if (mdl_pfns(mdl)[0] != region->first_pfn)
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_WRONG_PFN, (uintptr_t)region->mdl, region->first_pfn, mdl_pfns(mdl)[0]);
    ke_bug_check(SYSTEM_PTE_MISUSE, PTE_WRONG_COUNT, (uintptr_t)region->mdl, region->npages, mdl_span(mdl));
}

/* Release the mapping at the MDL's system address, which must have so many pages. */
static void unmap_system(struct machine *machine, PMDL mdl, size_t npages)
{
    const uintptr_t va = (uintptr_t)mdl->MappedSystemVa;
    size_t unmapped = mdl_span(mdl);
    struct mm_region found;
    struct mm_space *space;

    if (mm_classify(machine, va, &space) == MM_KIND_SYSTEM_PTE) {
        unmapped = mm_space_unmap_this(space, va, mdl_pfns(mdl)[0], npages, &found);
        if (unmapped == 0)
            stop_other_mapping(space, mdl, va, &found);
    }
    mdl_note_unmapped(mdl, unmapped);
}

/* The driver that unmaps says how much; one that frees or unlocks a mapped MDL does not, and may have shortened it meanwhile. */
void mdl_unmap_system(struct machine *machine, PMDL mdl)
{
    unmap_system(machine, mdl, MM_ANY_COUNT);
}

/* ---- protection ---- */

/* Is the first page of the MDL really seen at the address that the MDL says? */
static bool is_mapped_there(const struct machine *machine, PMDL mdl)
{
    struct mm_space *space;
    const enum mm_kind kind = mm_classify(machine, (uintptr_t)mdl->MappedSystemVa, &space);

    return kind != MM_KIND_PROCESS && kind != MM_KIND_PAGED_POOL
        && mm_translate(machine, (uintptr_t)mdl->MappedSystemVa) == mdl_pfns(mdl)[0];
}

/*
 * A mapping of its own is protected. The RAM window stays as it is: it is everybody's view of the page, and the verifier, which
 * gives each MDL a mapping of its own, is off. So does host memory, whose protection is the host program's.
 */
static bool protect_system(struct machine *machine, PMDL mdl, uint8_t attributes)
{
    const uintptr_t va = (uintptr_t)mdl->MappedSystemVa;
    struct mm_space *space;

    if (mm_classify(machine, va, &space) != MM_KIND_SYSTEM_PTE)
        return true;
    return mm_space_protect_mapping(space, va, mdl_span(mdl), attributes);
}

/*
 * Change what the MDL's system mapping permits; of a mapping that a partial MDL shares, its part. STATUS_INVALID_PAGE_PROTECTION for a
 * protection that system mappings cannot have, STATUS_NOT_MAPPED_VIEW for an MDL that is not mapped.
 *
 * An MDL that says it is mapped where it is not: bug check 0x1A/0x1235.
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmprotectmdlsystemaddress
 */
NTSTATUS MmProtectMdlSystemAddress(PMDL MemoryDescriptorList, ULONG NewProtect)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    uint8_t attributes;

    KE_HOOK(machine, mdl_use_check, mdl);
    KE_HOOK(machine, protection_check, NewProtect);
    if (!mm_access_of_protection(NewProtect, &attributes))
        return STATUS_INVALID_PAGE_PROTECTION;
    if (!mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA))
        return STATUS_NOT_MAPPED_VIEW;
    if (!is_mapped_there(machine, mdl))
        ke_bug_check(MEMORY_MANAGEMENT, 0x1235, (uintptr_t)mdl, (uintptr_t)mdl->MappedSystemVa, 0);
    return protect_system(machine, mdl, attributes) ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
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

    mdl_require_held(machine, mdl);
    if (wanted != NULL && !span_contains(space->base, (size_t)space->npages * PAGE_SIZE, request.wanted, request.npages * PAGE_SIZE))
        ke_raise(STATUS_INVALID_ADDRESS, ip);
    status = mm_space_map(machine, space, &request, &va);
    if (!NT_SUCCESS(status))
        ke_raise(status, ip);
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

    KE_HOOK(machine, mdl_map_check, &call);
    if (fails && AccessMode != KernelMode)
        ke_raise(STATUS_INSUFFICIENT_RESOURCES, (uintptr_t)__builtin_return_address(0));
    if (AccessMode == KernelMode)
        va = fails ? NULL : map_system(machine, mdl, CacheType, Priority);
    else
        va = map_user(machine, mdl, RequestedAddress, Priority, (uintptr_t)__builtin_return_address(0));
    if (va == NULL && BugCheckOnFailure)
        stop_no_ptes(machine, mdl_span(mdl));
    if (va != NULL)
        KE_HOOK(machine, mdl_map_record, mdl, va, AccessMode);
    else
        KE_HOOK(machine, mdl_map_failed_record, mdl);
    return va;
}

static __attribute__((noinline)) PVOID get_system_address(struct ke_site site, PMDL mdl, ULONG priority)
{
    struct machine *machine = ke_machine();
    const struct ke_map_call call = {.mdl = mdl, .mode = KernelMode, .priority_given = true, .priority = priority};
    bool fails;
    PVOID va;

    if (machine->hooks.mdl_system_address_check != NULL)
        machine->hooks.mdl_system_address_check(site, mdl);
    if (mdl == NULL)
        return NULL;
    if (mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL))
        return mdl->MappedSystemVa;
    fails = ke_fails(KE_FALLIBLE_MmGetSystemAddressForMdlSafe);
    if (!fails && machine->hooks.mdl_map_check != NULL)
        machine->hooks.mdl_map_check(site, &call);
    va = fails ? NULL : map_system(machine, mdl, MmCached, priority);
    if (va != NULL && machine->hooks.mdl_map_record != NULL)
        machine->hooks.mdl_map_record(site, mdl, va, KernelMode);
    if (va == NULL && machine->hooks.mdl_map_failed_record != NULL)
        machine->hooks.mdl_map_failed_record(site, mdl);
    return va;
}

/* Pages that this thread has locked as one range, and that lie side by side in the RAM window. NULL: it is not so, or somebody looks on. */
static inline PVOID map_run(PMDL mdl, ULONG priority)
{
    void *run;

    if (!pin_is_plain() || mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) || (priority & MdlMappingNoWrite))
        return NULL;
    run = pin_find_run((uintptr_t)mdl->StartVa, mdl_pfns(mdl), mdl_span(mdl));
    if (run == NULL)
        return NULL;
    mdl_note_mapped(mdl, (uintptr_t)run);
    return mdl->MappedSystemVa;
}

/*
 * The system address of an MDL's buffer, mapped if it is not yet; NULL when it cannot be, or when Mdl is NULL.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmgetsystemaddressformdlsafe
 */
PVOID MmGetSystemAddressForMdlSafe(PMDL Mdl, ULONG Priority)
{
    const PVOID run = Mdl == NULL ? NULL : map_run(Mdl, Priority);

    return LIKELY(run != NULL) ? run : get_system_address(KE_SITE, Mdl, Priority);
}

/* What MmMapLockedPages and MmGetSystemAddressForMdl share: cached, executable as they cannot ask otherwise, or bug check 0x3F. */
static PVOID map_or_stop(struct machine *machine, PMDL mdl)
{
    PVOID va = map_system(machine, mdl, MmCached, HighPagePriority);

    if (va == NULL)
        stop_no_ptes(machine, mdl_span(mdl));
    return va;
}

/*
 * Map an MDL's pages, cached. Obsolete: it stops the machine (0x3F) where MmMapLockedPagesSpecifyCache returns NULL, and the
 * verifier stops any use of it (0xC4/0x81). UserMode raises.
 *
 * Doc:  wdm/nf-wdm-mmmaplockedpages
 */
PVOID MmMapLockedPages(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    PVOID va;

    KE_HOOK(machine, mdl_map_obsolete_check, mdl, AccessMode);
    if (AccessMode == KernelMode)
        va = map_or_stop(machine, mdl);
    else
        va = map_user(machine, mdl, NULL, 0, (uintptr_t)__builtin_return_address(0));
    KE_HOOK(machine, mdl_map_record, mdl, va, AccessMode);
    return va;
}

/*
 * The system address of an MDL's buffer, mapped if it is not yet; bug check 0x3F when it cannot be. Obsolete.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmgetsystemaddressformdl
 */
PVOID MmGetSystemAddressForMdl(PMDL Mdl)
{
    struct machine *machine = ke_machine();
    const struct ke_map_call call = {.mdl = Mdl, .mode = KernelMode};
    PVOID va;

    KE_HOOK(machine, mdl_system_address_check, Mdl);
    if (mdl_has(Mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL))
        return Mdl->MappedSystemVa;
    KE_HOOK(machine, mdl_map_check, &call);
    va = map_or_stop(machine, Mdl);
    KE_HOOK(machine, mdl_map_record, Mdl, va, KernelMode);
    return va;
}

/*
 * Map the MDL if it is not mapped, call DriverRoutine with the address, and release what was mapped. STATUS_SUCCESS exactly if the routine
 * was called.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmmapmdl
 */
NTSTATUS MmMapMdl(PMDL MemoryDescriptorList, ULONG Protection, PMM_MDL_ROUTINE DriverRoutine, PVOID DriverContext)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    const bool mapped_before = mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL);
    const struct ke_map_call call = {.mdl = mdl, .mode = KernelMode};
    uint8_t attributes;

    KE_HOOK(machine, mdl_system_address_check, mdl);
    KE_HOOK(machine, protection_check, Protection);
    if (!mm_access_of_protection(Protection, &attributes))
        return STATUS_INVALID_PAGE_PROTECTION;
    if (!mapped_before) {
        KE_HOOK(machine, mdl_map_check, &call);
        if (ke_fails(KE_FALLIBLE_MmMapMdl) || map_system(machine, mdl, MmCached, HighPagePriority) == NULL)
            return STATUS_INSUFFICIENT_RESOURCES;
        if (!protect_system(machine, mdl, attributes)) {
            mdl_unmap_system(machine, mdl);
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    DriverRoutine(DriverContext, mdl->MappedSystemVa);
    if (!mapped_before)
        mdl_unmap_system(machine, mdl);
    return STATUS_SUCCESS;
}

static __attribute__((noinline)) void unmap(struct ke_site site, PMDL mdl, uintptr_t va)
{
    struct machine *machine = ke_machine();
    struct mm_space *space;
    const bool user = mm_classify(machine, va, &space) == MM_KIND_PROCESS;
    const bool mine = user && space == mm_current_space(machine) && is_user_mapping(space, va, mdl);

    if (machine->hooks.mdl_unmap_check != NULL)
        machine->hooks.mdl_unmap_check(site, (PVOID)va, mdl, user, mine);
    if (user ? !mine : !mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA))
        ke_bug_check(SYSTEM_PTE_MISUSE, PTE_NEVER_MAPPED, (uintptr_t)mdl, va, mdl_span(mdl));
    if (!user && (uintptr_t)mdl->MappedSystemVa != va)
        stop_wrong_address(machine, mdl, va);
    if (user)
        mm_space_unmap(machine, space, va);
    else
        unmap_system(machine, mdl, mdl_span(mdl));
    if (machine->hooks.mdl_unmap_record != NULL)
        machine->hooks.mdl_unmap_record(site, mdl, user);
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
    PMDL mdl = MemoryDescriptorList;
    uint32_t page;

    if (pin_is_plain() && LIKELY(mdl->MappedSystemVa == BaseAddress) && LIKELY(mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA))
        && LIKELY(mm_window_page(&ke_the_machine, (uintptr_t)BaseAddress, &page)))
        mdl_note_unmapped(mdl, mdl_span(mdl));
    else
        unmap(KE_SITE, mdl, (uintptr_t)BaseAddress);
}
