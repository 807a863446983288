/* SPDX-License-Identifier: MIT */
/*
 * Locking the pages behind an MDL: MmProbeAndLockPages, MmUnlockPages.
 *
 * The PFN array is the lock: unlocking goes by the PFNs that the MDL holds then, as on Windows, whatever the driver did to
 * the header meanwhile. A mapping goes before the lock that keeps its pages.
 */

#include "mdl/mdl.h"

enum { LOCK_STATE = MDL_PAGES_LOCKED | MDL_WRITE_OPERATION | MDL_IO_SPACE };

static NTSTATUS lock(struct machine *machine, PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation)
{
    const struct mm_lock_request request = {
        .va = mdl_va(mdl),
        .bytes = mdl->ByteCount,
        .user_mode = mode == UserMode,
        .write = operation != IoReadAccess,
    };
    PEPROCESS process;
    const NTSTATUS status = mm_lock_pages(machine, &request, mdl_pfns(mdl), &process);

    if (!NT_SUCCESS(status))
        return status;
    mdl->Process = process;
    mdl_set_flags(mdl, LOCK_STATE, MDL_PAGES_LOCKED | (request.write ? MDL_WRITE_OPERATION : 0));
    return STATUS_SUCCESS;
}

NTSTATUS mdl_lock(struct machine *machine, PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation)
{
    const NTSTATUS status = lock(machine, mdl, mode, operation);

    if (NT_SUCCESS(status))
        KE_HOOK(machine, mdl_lock_record, mdl);
    return status;
}

/*
 * Probe the buffer's pages for the access, make them resident, lock them, and store their PFNs. Each success is undone by one
 * MmUnlockPages.
 *
 * Raises STATUS_ACCESS_VIOLATION, or what else the pages refuse with; then no page stays locked and the MDL is as it was, but
 * for its PFN array.
 * IRQL: <= APC_LEVEL for pageable addresses, <= DISPATCH_LEVEL for others.
 * Doc:  wdm/nf-wdm-mmprobeandlockpages
 */
VOID MmProbeAndLockPages(PMDLX MemoryDescriptorList, KPROCESSOR_MODE AccessMode, LOCK_OPERATION Operation)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    NTSTATUS status;

    KE_HOOK(machine, mdl_lock_check, mdl, AccessMode);
    if (ke_fails(KE_FALLIBLE_MmProbeAndLockPages))
        ke_raise(STATUS_INSUFFICIENT_RESOURCES, (uintptr_t)__builtin_return_address(0), 0);
    status = lock(machine, mdl, AccessMode, Operation);
    if (!NT_SUCCESS(status))
        ke_raise(status, (uintptr_t)__builtin_return_address(0), mdl_va(mdl));
    KE_HOOK(machine, mdl_lock_record, mdl);
}

static void unlock(struct machine *machine, PMDL mdl)
{
    if (mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA) && !mdl_has(mdl, MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL))
        mdl_unmap_system(machine, mdl);
    mm_unlock_pages(machine, mdl_pfns(mdl), mdl_span(mdl));
    mdl_set_flags(mdl, LOCK_STATE, 0);
    mdl->Process = NULL;
}

void mdl_unlock(struct machine *machine, PMDL mdl)
{
    unlock(machine, mdl);
    KE_HOOK(machine, mdl_unlock_record, mdl);
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
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;

    KE_HOOK(machine, mdl_unlock_check, mdl);
    if (!mdl_has(mdl, MDL_PAGES_LOCKED))
        ke_bug_check(PROCESS_HAS_LOCKED_PAGES, 0x01, (uintptr_t)mdl, (uint64_t)ke_sum(KE_LOCKED_PAGES), 0);
    unlock(machine, mdl);
    KE_HOOK(machine, mdl_unlock_record, mdl);
}
