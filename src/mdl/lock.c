/* SPDX-License-Identifier: MIT */
/*
 * Locking the pages behind an MDL: MmProbeAndLockPages, MmProbeAndLockProcessPages, MmProbeAndLockSelectedPages,
 * MmUnlockPages.
 *
 * The PFN array is the lock: unlocking goes by the PFNs that the MDL holds then, as on Windows, whatever the driver did to
 * the header meanwhile. A mapping goes before the lock that keeps its pages.
 */

#include "mdl/mdl.h"
#include "mm/pin.h"

#include <stdlib.h>
#include <string.h>

enum { LOCK_STATE = MDL_PAGES_LOCKED | MDL_WRITE_OPERATION };

static void note_locked(PMDL mdl, PEPROCESS process, bool write)
{
    mdl->Process = process;
    mdl_set_flags(mdl, LOCK_STATE, MDL_PAGES_LOCKED | (write ? MDL_WRITE_OPERATION : 0));
}

/* `whose` is the process whose user addresses are meant, NULL for the current one. */
static NTSTATUS lock(struct machine *machine, PMDL mdl, PEPROCESS whose, KPROCESSOR_MODE mode, LOCK_OPERATION operation)
{
    const struct mm_lock_request request = {
        .va = mdl_va(mdl),
        .bytes = mdl->ByteCount,
        .user_mode = mode == UserMode,
        .write = operation != IoReadAccess,
        .process = whose,
    };
    PEPROCESS process;
    const NTSTATUS status = mm_lock_pages(machine, &request, mdl_pfns(mdl), &process);

    if (NT_SUCCESS(status))
        note_locked(mdl, process, request.write);
    return status;
}

NTSTATUS mdl_lock(struct machine *machine, PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation)
{
    const NTSTATUS status = lock(machine, mdl, NULL, mode, operation);

    if (NT_SUCCESS(status))
        KE_HOOK(machine, mdl_lock_record, mdl);
    return status;
}

/* What the routines do with the outcome of a lock: raise it, or record it. */
static void finish_lock(struct machine *machine, struct ke_site site, PMDL mdl, NTSTATUS status)
{
    if (!NT_SUCCESS(status))
        ke_raise(status, site.ip);
    if (machine->hooks.mdl_lock_record != NULL)
        machine->hooks.mdl_lock_record(site, mdl);
}

/* With all that can stand in the way: the verifier, failures on demand, memory of any kind and state. */
static __attribute__((noinline)) void lock_anything(struct ke_site site, PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation)
{
    struct machine *machine = ke_machine();
    NTSTATUS status;

    if (machine->hooks.mdl_lock_check != NULL)
        machine->hooks.mdl_lock_check(site, mdl, mode);
    status = ke_fails(KE_FALLIBLE_MmProbeAndLockPages) ? STATUS_INSUFFICIENT_RESOURCES : lock(machine, mdl, NULL, mode, operation);
    finish_lock(machine, site, mdl, status);
}

/*
 * Probe the buffer's pages for the access, make them resident, lock them, and store their PFNs. Each success is undone by one
 * MmUnlockPages.
 *
 * Raises STATUS_ACCESS_VIOLATION, or what else the pages refuse with; then no page stays locked and the MDL is as it was.
 * IRQL: <= APC_LEVEL for pageable addresses, <= DISPATCH_LEVEL for others.
 * Doc:  wdm/nf-wdm-mmprobeandlockpages
 */
VOID MmProbeAndLockPages(PMDLX MemoryDescriptorList, KPROCESSOR_MODE AccessMode, LOCK_OPERATION Operation)
{
    PMDL mdl = MemoryDescriptorList;
    const bool write = Operation != IoReadAccess;
    const PEPROCESS process = pin_is_plain() ? pin_range(mdl_va(mdl), mdl_span(mdl), write, mdl_pfns(mdl)) : NULL;

    if (LIKELY(process != NULL))
        note_locked(mdl, process, write);
    else
        lock_anything(KE_SITE, mdl, AccessMode, Operation);
}

/* As MmProbeAndLockPages, for user addresses of a process that need not be the current one. Doc: wdm/nf-wdm-mmprobeandlockprocesspages */
VOID MmProbeAndLockProcessPages(PMDL MemoryDescriptorList, PEPROCESS Process, KPROCESSOR_MODE AccessMode, LOCK_OPERATION Operation)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    NTSTATUS status;

    KE_HOOK(machine, mdl_lock_process_check, mdl, Process);
    status = ke_fails(KE_FALLIBLE_MmProbeAndLockProcessPages) ? STATUS_INSUFFICIENT_RESOURCES
                                                             : lock(machine, mdl, Process, AccessMode, Operation);
    finish_lock(machine, KE_SITE, mdl, status);
}

/* One page of each segment, in their order. On failure nothing stays locked, and pfns are as they were. */
static NTSTATUS lock_segments(struct machine *machine, PMDL mdl, const FILE_SEGMENT_ELEMENT *segments, KPROCESSOR_MODE mode,
                              LOCK_OPERATION operation)
{
    const size_t npages = mdl_span(mdl);
    PFN_NUMBER *pfns = ke_internal_fails() ? NULL : malloc(npages * sizeof(*pfns));
    NTSTATUS status = pfns == NULL ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS;
    PEPROCESS process = NULL;
    size_t done = 0;

    while (done < npages && NT_SUCCESS(status)) {
        const struct mm_lock_request request = {
            .va = span_page_base((uintptr_t)segments[done].Alignment), .bytes = PAGE_SIZE,
            .user_mode = mode == UserMode, .write = operation != IoReadAccess};

        status = mm_lock_pages(machine, &request, &pfns[done], &process);
        done += NT_SUCCESS(status);
    }
    if (NT_SUCCESS(status)) {
        memcpy(mdl_pfns(mdl), pfns, npages * sizeof(*pfns));
        note_locked(mdl, process, operation != IoReadAccess);
    } else {
        mm_unlock_pages(machine, pfns, done);
    }
    free(pfns);
    return status;
}

/*
 * Probe and lock one page for each element of SegmentArray, in its order; the MDL's span says how many there are.
 *
 * Raises STATUS_ACCESS_VIOLATION, or what else a page refuses with; then no page stays locked.
 * IRQL: <= APC_LEVEL.
 * Doc:  wdm/nf-wdm-mmprobeandlockselectedpages
 */
VOID MmProbeAndLockSelectedPages(PMDLX MemoryDescriptorList, PFILE_SEGMENT_ELEMENT SegmentArray, KPROCESSOR_MODE AccessMode,
                                 LOCK_OPERATION Operation)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    NTSTATUS status;

    KE_HOOK(machine, mdl_lock_selected_check, mdl);
    status = ke_fails(KE_FALLIBLE_MmProbeAndLockSelectedPages) ? STATUS_INSUFFICIENT_RESOURCES
                                                              : lock_segments(machine, mdl, SegmentArray, AccessMode, Operation);
    finish_lock(machine, KE_SITE, mdl, status);
}

/* Bug check 0x1A/0x1236 for a number in the MDL that no page has: somebody wrote over it. */
static void require_pages(const struct machine *machine, PMDL mdl)
{
    const PPFN_NUMBER pfns = mdl_pfns(mdl);
    const size_t good = mm_pfns_exist(machine, pfns, mdl_span(mdl));

    if (good != mdl_span(mdl))
        ke_bug_check(MEMORY_MANAGEMENT, 0x1236, (uintptr_t)mdl, (uintptr_t)&pfns[good], pfns[good]);
}

static bool has_own_mapping(const MDL *mdl)
{
    return mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA) && !mdl_has(mdl, MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL);
}

static void unlock_pages(struct machine *machine, PMDL mdl)
{
    const size_t npages = mdl_span(mdl);

    if (mm_unlock_range(machine, (uintptr_t)mdl->StartVa, mdl_pfns(mdl), npages, npages))
        return;
    require_pages(machine, mdl);
    mm_unlock_pages(machine, mdl_pfns(mdl), npages);
}

static void note_unlocked(PMDL mdl)
{
    mdl_set_flags(mdl, LOCK_STATE, 0);
    mdl->Process = NULL;
}

static void unlock(struct machine *machine, PMDL mdl)
{
    if (has_own_mapping(mdl)) {
        require_pages(machine, mdl);
        mdl_unmap_system(machine, mdl);
    }
    unlock_pages(machine, mdl);
    note_unlocked(mdl);
}

void mdl_unlock(struct machine *machine, PMDL mdl)
{
    unlock(machine, mdl);
    KE_HOOK(machine, mdl_unlock_record, mdl);
}

static inline bool is_only_locked(const MDL *mdl)
{
    return ((USHORT)mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA)) == MDL_PAGES_LOCKED;
}

static __attribute__((noinline)) void unlock_anything(struct ke_site site, PMDL mdl)
{
    struct machine *machine = ke_machine();

    if (machine->hooks.mdl_unlock_check != NULL)
        machine->hooks.mdl_unlock_check(site, mdl);
    if (!mdl_has(mdl, MDL_PAGES_LOCKED))
        ke_bug_check(PROCESS_HAS_LOCKED_PAGES, 0x01, (uintptr_t)mdl, (uint64_t)ke_locked_pages(), 0);
    unlock(machine, mdl);
    if (machine->hooks.mdl_unlock_record != NULL)
        machine->hooks.mdl_unlock_record(site, mdl);
}

/*
 * Undo MmProbeAndLockPages: release the MDL's system mapping, if it has one, then its pages. The PFN array is void afterwards.
 *
 * An MDL that is not locked: bug check 0x76/1 (MDL, pages locked now).
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmunlockpages
 */
VOID MmUnlockPages(PMDLX MemoryDescriptorList)
{
    PMDL mdl = MemoryDescriptorList;

    if (pin_is_plain() && LIKELY(is_only_locked(mdl)) && LIKELY(unpin_range((uintptr_t)mdl->StartVa, mdl_pfns(mdl), mdl_span(mdl))))
        note_unlocked(mdl);
    else
        unlock_anything(KE_SITE, mdl);
}
