/* SPDX-License-Identifier: MIT */
/* MDLs of memory that is nonpaged by nature: MmBuildMdlForNonPagedPool. */

#include "mdl/mdl.h"

/* A buffer is of one kind throughout, so that its first page tells. */
static bool is_device_memory(PMDL mdl, size_t npages)
{
    return npages != 0 && mm_is_io_pfn(mdl_pfns(mdl)[0]);
}

/*
 * Describe the pages under a nonpaged buffer. The MDL then counts as mapped at the buffer's own address: it is neither locked nor
 * unlocked nor mapped into system space again, and needs no clean-up but its own. The MDL of memory that MmMapIoSpace mapped says
 * MDL_IO_SPACE as well.
 *
 * A page that is not resident: bug check 0x1A/0x1240 (MDL, address of the page).
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmbuildmdlfornonpagedpool
 */
VOID MmBuildMdlForNonPagedPool(PMDLX MemoryDescriptorList)
{
    struct machine *machine = ke_machine();
    PMDL mdl = MemoryDescriptorList;
    uintptr_t start;
    size_t npages, resident;

    KE_HOOK(machine, mdl_build_check, mdl);
    start = (uintptr_t)mdl->StartVa;
    npages = mdl_span(mdl);
    resident = mm_translate_range(machine, start, npages, mdl_pfns(mdl));
    if (machine->options.verifier != 0)
        resident = mm_count_present(machine, start, resident);
    if (resident < npages && mm_pool_page_behind(machine, start + resident * PAGE_SIZE, &mdl_pfns(mdl)[resident]))
        resident++;
    if (resident < npages)
        ke_bug_check(MEMORY_MANAGEMENT, 0x1240, (uintptr_t)mdl, start + resident * PAGE_SIZE, 0);
    mdl->Process = NULL;
    mdl->MappedSystemVa = (PVOID)mdl_va(mdl);
    mdl_set_flags(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL | MDL_PARTIAL_HAS_BEEN_MAPPED,
                  MDL_SOURCE_IS_NONPAGED_POOL | (is_device_memory(mdl, npages) ? MDL_IO_SPACE : 0));
    KE_HOOK(machine, mdl_build_record, mdl);
}
