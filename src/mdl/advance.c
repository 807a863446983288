/* SPDX-License-Identifier: MIT */
/*
 * Moving the beginning of an MDL forward: MmAdvanceMdl.
 *
 *     before   | passed | passed | first | .... | last |      PFNs of passed pages are unlocked at once
 *     after    | first | .... | last |                        the end of the buffer stays where it is
 *
 * Nothing is allocated: this is the road for drivers that must go on when memory is short. The pages of a mapping that
 * were passed stay mapped until it is released; the mapping's address moves with the buffer.
 */

#include "mdl/mdl.h"
#include "rtl/copy.h"

static size_t pages_passed(const MDL *mdl, ULONG bytes)
{
    return ((size_t)mdl->ByteOffset + bytes) >> SPAN_PAGE_SHIFT;
}

/* The system address moves by as much as the buffer does, whoever made it: a mapping, or nonpaged memory itself. */
static void advance_mapping(struct machine *machine, PMDL mdl, ULONG bytes, size_t passed)
{
    const uintptr_t va = (uintptr_t)mdl->MappedSystemVa;
    const bool own = !mdl_has(mdl, MDL_PARTIAL) || mdl_has(mdl, MDL_PARTIAL_HAS_BEEN_MAPPED);
    struct mm_space *space;

    mdl->MappedSystemVa = (PVOID)(va + bytes);
    if (!mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA) || !own)
        return;
    ke_count(KE_SYSTEM_PAGES_MAPPED, -(int64_t)passed);
    if (mm_classify(machine, va, &space) == MM_KIND_SYSTEM_PTE && mm_space_advance_mapping(space, va, passed) == MM_REGION_RESERVED)
        mdl->MappedSystemVa = (PVOID)(va + passed * PAGE_SIZE);         /* without the byte offset, as it was mapped */
}

/*
 * A lock of its own, as the verifier knows. Without it the flags say so: those of a partial MDL, of nonpaged or of device memory may well
 * have been set by the driver.
 */
static inline bool is_locked(const struct machine *machine, PMDL mdl)
{
    const unsigned flags = (USHORT)mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL | MDL_IO_SPACE);

    if (UNLIKELY(machine->hooks.mdl_is_locked != NULL))
        return machine->hooks.mdl_is_locked(mdl);
    return flags == MDL_PAGES_LOCKED;
}

/* Of pages that somebody allocated for an MDL, which counts as locked for as long as they exist. */
static bool is_kept_by_owner(const struct machine *machine, PFN_NUMBER pfn)
{
    uint32_t page;

    return mm_page_of_pfn(machine, pfn, &page) && mm_frame_state(machine, page) != MM_FRAME_FREE
        && mm_frame_state(machine, page) != MM_FRAME_SPACE && atomic_load(&mm_frame(machine, page)->pins) == 0;
}

static void unlock_passed(struct machine *machine, PMDL mdl, size_t span, size_t passed)
{
    if (mm_unlock_range(machine, (uintptr_t)mdl->StartVa, mdl_pfns(mdl), span, passed) || is_kept_by_owner(machine, mdl_pfns(mdl)[0]))
        return;
    mm_unlock_pages(machine, mdl_pfns(mdl), passed);
}

/*
 * Move the beginning of the MDL's buffer forward by NumberOfBytes; its end stays. Pages that are passed are unlocked at once.
 *
 * STATUS_INVALID_PARAMETER_2, and the MDL as it was, when NumberOfBytes reaches or passes the end. Zero bytes change nothing.
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmadvancemdl
 */
NTSTATUS MmAdvanceMdl(PMDLX Mdl, ULONG NumberOfBytes)
{
    struct machine *machine = ke_machine();
    size_t span, passed;

    KE_HOOK(machine, mdl_advance_check, Mdl, NumberOfBytes);
    span = mdl_span(Mdl);
    passed = pages_passed(Mdl, NumberOfBytes);
    if (NumberOfBytes == 0)
        return STATUS_SUCCESS;
    if (NumberOfBytes >= Mdl->ByteCount)
        return STATUS_INVALID_PARAMETER_2;
    if (mdl_has(Mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL))
        advance_mapping(machine, Mdl, NumberOfBytes, passed);
    if (passed != 0) {
        if (is_locked(machine, Mdl))
            unlock_passed(machine, Mdl, span, passed);
        rtl_move_words(mdl_pfns(Mdl), mdl_pfns(Mdl) + passed, span - passed);
    }
    Mdl->StartVa = (PVOID)((uintptr_t)Mdl->StartVa + passed * PAGE_SIZE);       /* of pages without a buffer it is NULL at first */
    Mdl->ByteOffset = (ULONG)span_offset(Mdl->ByteOffset + (size_t)NumberOfBytes);
    Mdl->ByteCount -= NumberOfBytes;
    ke_count(KE_MDLS_ADVANCED, 1);
    KE_HOOK(machine, mdl_advance_record, Mdl, passed);
    return STATUS_SUCCESS;
}
