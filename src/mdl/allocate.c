/* SPDX-License-Identifier: MIT */
/* Making and freeing MDLs: IoAllocateMdl, IoFreeMdl, MmCreateMdl, MmSizeOfMdl. */

#include "mdl/block.h"

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
static inline PMDL format(PMDL mdl, uintptr_t va, size_t bytes)
{
    MmInitializeMdl(mdl, (PVOID)va, bytes);
    mdl->MdlFlags = MDL_ALLOCATED_FIXED_SIZE;
    mdl->Process = NULL;
    mdl->MappedSystemVa = NULL;
    return mdl;
}

static PMDL take(struct machine *machine, struct ke_site site, uintptr_t va, size_t bytes)
{
    const size_t npages = span_pages(va, bytes);
    PMDL mdl;

    if (ke_internal_fails())
        return NULL;
    mdl = mdl_special_take(machine, site, npages);
    if (mdl == NULL)
        mdl = mdl_block_take(machine, npages);
    return mdl == NULL ? NULL : format(mdl, va, bytes);
}

PMDL mdl_new(struct machine *machine, uintptr_t va, size_t bytes)
{
    PMDL mdl = take(machine, KE_SITE, va, bytes);

    if (mdl == NULL)
        return NULL;
    ke_count(KE_MDLS_MADE, 1);
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

/* With all that can stand in the way: the verifier, failures on demand, limits, an IRP to put it into. */
static __attribute__((noinline)) PMDL allocate(struct ke_site site, uintptr_t va, ULONG length, BOOLEAN secondary, BOOLEAN quota, PIRP irp)
{
    struct machine *machine = ke_machine();
    PMDL mdl = NULL, replaced = NULL;

    if (machine->hooks.mdl_allocate_check != NULL)
        machine->hooks.mdl_allocate_check(site, (PVOID)va, length, secondary, quota, irp);
    if (!ke_fails(KE_FALLIBLE_IoAllocateMdl) && length <= largest_length(machine->options.windows))
        mdl = take(machine, site, va, length);
    if (mdl == NULL) {
        if (machine->hooks.mdl_allocate_refused != NULL)
            machine->hooks.mdl_allocate_refused();
        return NULL;
    }
    if (irp != NULL)
        replaced = enter_chain(irp, mdl, secondary);
    ke_count(KE_MDLS_ALLOCATED, 1);
    if (machine->hooks.mdl_allocate_record != NULL)
        machine->hooks.mdl_allocate_record(site, mdl, replaced);
    return mdl;
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
    const uintptr_t va = (uintptr_t)VirtualAddress;
    PMDL mdl = UNLIKELY(Irp != NULL) ? NULL : block_take_own(span_pages(va, Length));

    if (UNLIKELY(mdl == NULL))
        return allocate(KE_SITE, va, Length, SecondaryBuffer, ChargeQuota, Irp);
    ke_count_here(KE_MDLS_ALLOCATED, 1);
    return format(mdl, va, Length);
}

static void release(struct machine *machine, PMDL mdl)
{
    if (mdl_has(mdl, MDL_PARTIAL_HAS_BEEN_MAPPED))
        mdl_unmap_system(machine, mdl);
    if (!mdl_block_is_live(machine, mdl))
        ke_bug_check(BAD_POOL_CALLER, 0x46, (uintptr_t)mdl, 0, 0);
    mdl_block_give(machine, mdl);
    ke_count(KE_MDLS_FREED, 1);
}

/* The record comes first here: afterwards there is no MDL to speak of. */
void mdl_destroy(struct machine *machine, PMDL mdl)
{
    KE_HOOK(machine, mdl_destroy_record, mdl);
    release(machine, mdl);
}

static __attribute__((noinline)) void free_mdl(struct ke_site site, PMDL mdl)
{
    struct machine *machine = ke_machine();

    if (machine->hooks.mdl_free_check != NULL)
        machine->hooks.mdl_free_check(site, mdl);
    if (machine->hooks.mdl_free_record != NULL)
        machine->hooks.mdl_free_record(site, mdl);
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
    if (LIKELY(block_give_own(Mdl)))
        ke_count_here(KE_MDLS_FREED, 1);
    else
        free_mdl(KE_SITE, Mdl);
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
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;

    if (mdl == NULL) {
        KE_HOOK(machine, irql_check, DISPATCH_LEVEL);
        mdl = mm_pool_allocate_mdl(machine, MmSizeOfMdl(Base, Length));
    }
    if (mdl != NULL)
        MmInitializeMdl(mdl, Base, Length);
    return mdl;
}
