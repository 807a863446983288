/* SPDX-License-Identifier: MIT */
/*
 * Partial MDLs: IoBuildPartialMdl, MmPrepareMdlForReuse.
 *
 *     source   | page 0 | page 1 | page 2 | page 3 |
 *                   ^-----------------^                    VirtualAddress, Length
 *     target   | page 0 | page 1 | page 2 |                the same PFNs; a lock of its own it has not
 *
 * A partial MDL of a mapped source shares the source's mapping: MDL_MAPPED_TO_SYSTEM_VA without
 * MDL_PARTIAL_HAS_BEEN_MAPPED. One that was mapped by itself carries both, and only that one releases its mapping.
 */

#include "mdl/block.h"
#include "rtl/copy.h"

/* Flags that a partial MDL takes over from its source, and those that it keeps of its own. */
enum {
    FROM_SOURCE = MDL_IO_PAGE_READ | MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA | MDL_IO_SPACE,
    KEPT        = MDL_ALLOCATED_FIXED_SIZE | MDL_ALLOCATED_MUST_SUCCEED,
    IS_MAPPED   = MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA,
};

/* Length 0 asks for all that the source describes from VirtualAddress on. */
static size_t part_bytes(const MDL *source, uintptr_t va, ULONG length)
{
    return length != 0 ? length : (ULONG)(mdl_va(source) + source->ByteCount - va);
}

/* Without the verifier a wrong call leaves the target as it was; with it, the check hook has stopped the machine. */
static inline bool fits(uintptr_t blocks_base, const MDL *source, const MDL *target, uintptr_t va, size_t bytes)
{
    return bytes != 0 && span_contains(mdl_va(source), source->ByteCount, va, bytes)
        && span_pages(va, bytes) <= block_capacity_at(blocks_base, target);
}

/* False: it does not fit, and the target is as it was. */
static inline bool build(uintptr_t blocks_base, PMDL source, PMDL target, uintptr_t va, ULONG length)
{
    const size_t bytes = part_bytes(source, va, length);
    const size_t skipped = (span_page_base(va) - (uintptr_t)source->StartVa) >> SPAN_PAGE_SHIFT;
    const unsigned inherited = (USHORT)source->MdlFlags & FROM_SOURCE;

    if (!fits(blocks_base, source, target, va, bytes))
        return false;
    target->StartVa = (PVOID)span_page_base(va);
    target->ByteOffset = (ULONG)span_offset(va);
    target->ByteCount = (ULONG)bytes;
    target->Process = source->Process;
    target->MappedSystemVa = inherited & IS_MAPPED ? (PVOID)((uintptr_t)source->MappedSystemVa + (va - mdl_va(source))) : NULL;
    mdl_set_flags(target, ~(unsigned)KEPT, MDL_PARTIAL | inherited);
    rtl_move_words(mdl_pfns(target), mdl_pfns(source) + skipped, span_pages(va, bytes));
    return true;
}

/* With the verifier, or on a thread that has no MDLs of its own yet. */
static __attribute__((noinline)) void build_watched(struct ke_site site, PMDL source, PMDL target, PVOID va, ULONG length)
{
    struct machine *machine = ke_machine();

    if (machine->hooks.mdl_partial_check != NULL)
        machine->hooks.mdl_partial_check(site, source, target, va, length);
    if (!build(machine->mdl->blocks_base, source, target, (uintptr_t)va, length))
        return;
    ke_count(KE_PARTIALS_BUILT, 1);
    if (machine->hooks.mdl_partial_record != NULL)
        machine->hooks.mdl_partial_record(site, source, target);
}

/*
 * Make TargetMdl describe [VirtualAddress, VirtualAddress + Length) of SourceMdl's buffer. VirtualAddress counts from
 * MmGetMdlVirtualAddress(SourceMdl); Length 0 means up to the buffer's end. The source must be locked or nonpaged.
 *
 * A range outside the source, or a target without room for its pages: bug check 0x12E or 0x40 with the verifier on, else
 * TargetMdl stays as it was.
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-iobuildpartialmdl
 */
VOID IoBuildPartialMdl(PMDL SourceMdl, PMDL TargetMdl, PVOID VirtualAddress, ULONG Length)
{
    const struct block_cache *cache = &mdl_block_cache;

    if (!ke_is_plain(cache->generation) || UNLIKELY(cache->base == 0))
        build_watched(KE_SITE, SourceMdl, TargetMdl, VirtualAddress, Length);
    else if (LIKELY(build(cache->base, SourceMdl, TargetMdl, (uintptr_t)VirtualAddress, Length)))
        ke_count_here(KE_PARTIALS_BUILT, 1);
}

/*
 * Release the mapping that a partial MDL made for itself, so that it can be a target again. One that it shares with its source, and any
 * other MDL's, stays.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-mmpreparemdlforreuse
 */
VOID MmPrepareMdlForReuse(PMDL Mdl)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, mdl_reuse_check, Mdl);
    if (!mdl_has(Mdl, MDL_PARTIAL_HAS_BEEN_MAPPED))
        return;
    mdl_unmap_system(machine, Mdl);
    KE_HOOK(machine, mdl_unmap_record, Mdl, false);
}
