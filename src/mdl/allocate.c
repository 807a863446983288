/* SPDX-License-Identifier: MIT */
/* Making and freeing MDLs: IoAllocateMdl, IoFreeMdl, MmCreateMdl, MmSizeOfMdl. */

#include "mdl/state.h"

/* The largest buffer that an MDL can describe, in bytes, by version of Windows. */
static ULONG largest_length(enum ke_windows windows)
{
    const ULONG slots_by_size_field = (65535 - sizeof(MDL)) * (PAGE_SIZE / sizeof(ULONG_PTR));

    if (windows <= KE_WINDOWS_2003)
        return slots_by_size_field;
    if (windows == KE_WINDOWS_VISTA)
        return 0x80000000u - PAGE_SIZE;
    return 0u - PAGE_SIZE;
}

/* The PFN array behind the header stays as it is: only a lock or a build gives it meaning. */
static PMDL take(struct machine *machine, uintptr_t va, size_t bytes)
{
    PMDL mdl = mdl_block_take(machine, span_pages(va, bytes));

    if (mdl == NULL)
        return NULL;
    MmInitializeMdl(mdl, (PVOID)va, bytes);
    mdl->Process = NULL;
    mdl->MappedSystemVa = NULL;
    mdl_set_flags(mdl, 0, MDL_ALLOCATED_FIXED_SIZE);
    ke_count(KE_LIVE_MDLS, 1);
    return mdl;
}

PMDL mdl_new(struct machine *machine, uintptr_t va, size_t bytes)
{
    PMDL mdl = take(machine, va, bytes);

    if (mdl != NULL)
        KE_HOOK(machine, mdl_allocate_record, mdl, NULL);
    return mdl;
}

/* Put the MDL into the IRP's chain; the head that it replaces, or NULL. */
static PMDL enter_chain(PIRP irp, PMDL mdl, bool secondary)
{
    PMDL *link = &irp->MdlAddress;
    PMDL replaced;

    while (secondary && *link != NULL)
        link = &(*link)->Next;
    replaced = *link;
    *link = mdl;
    return replaced;
}

/*
 * Allocate an MDL for [VirtualAddress, VirtualAddress + Length), with room for the PFNs of every page it touches, and put it into
 * the IRP's chain if there is one: as its head, or at the end for a secondary buffer.
 *
 * NULL, and the chain as it was, when there is no memory or Length is above the limit of the Windows version.
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-ioallocatemdl
 */
PMDL IoAllocateMdl(PVOID VirtualAddress, ULONG Length, BOOLEAN SecondaryBuffer, BOOLEAN ChargeQuota, PIRP Irp)
{
    struct machine *machine = ke_machine();
    PMDL mdl, replaced = NULL;

    KE_HOOK(machine, mdl_allocate_check, VirtualAddress, Length, SecondaryBuffer, ChargeQuota, Irp);
    if (ke_fails(KE_FALLIBLE_IoAllocateMdl) || Length > largest_length(machine->options.windows))
        return NULL;
    mdl = take(machine, (uintptr_t)VirtualAddress, Length);
    if (mdl == NULL)
        return NULL;
    if (Irp != NULL)
        replaced = enter_chain(Irp, mdl, SecondaryBuffer);
    ke_count(KE_MDLS_ALLOCATED, 1);
    KE_HOOK(machine, mdl_allocate_record, mdl, replaced);
    return mdl;
}

static void release(struct machine *machine, PMDL mdl)
{
    if (mdl_has(mdl, MDL_PARTIAL_HAS_BEEN_MAPPED))
        mdl_unmap_system(machine, mdl);
    if (!mdl_block_is_live(machine, mdl))
        ke_bug_check(BAD_POOL_CALLER, 0x46, (uintptr_t)mdl, 0, 0);
    mdl_block_give(machine, mdl);
    ke_count(KE_LIVE_MDLS, -1);
}

/* The record comes first here: afterwards there is no MDL to speak of. */
void mdl_destroy(struct machine *machine, PMDL mdl)
{
    KE_HOOK(machine, mdl_free_record, mdl);
    release(machine, mdl);
}

/*
 * Free an MDL of IoAllocateMdl; a mapping that a partial MDL made for itself goes with it. MDLs chained behind it stay.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-iofreemdl
 */
VOID IoFreeMdl(PMDL Mdl)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, mdl_free_check, Mdl);
    KE_HOOK(machine, mdl_free_record, Mdl);
    release(machine, Mdl);
}

/* Bytes that an MDL for the range needs: header and one PFN a page. Any IRQL. Doc: wdm/nf-wdm-mmsizeofmdl */
SIZE_T MmSizeOfMdl(PVOID Base, SIZE_T Length)
{
    return sizeof(MDL) + span_pages((uintptr_t)Base, Length) * sizeof(PFN_NUMBER);
}

/*
 * Format an MDL for the range in the caller's memory, or, where that is NULL, in nonpaged pool that the caller frees with ExFreePool.
 * Obsolete. NULL when there is no pool.
 */
PMDL MmCreateMdl(PMDL MemoryDescriptorList, PVOID Base, SIZE_T Length)
{
    PMDL mdl = MemoryDescriptorList;

    if (mdl == NULL)
        mdl = mm_pool_allocate_mdl(ke_machine(), MmSizeOfMdl(Base, Length));
    if (mdl != NULL)
        MmInitializeMdl(mdl, Base, Length);
    return mdl;
}
