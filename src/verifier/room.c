/* SPDX-License-Identifier: MIT */
/*
 * Room for page numbers: is the memory behind an MDL's header as large as what a lock or a build writes there?
 *
 *     | header 48 | PFN | PFN | PFN |  somebody else's        `room` is 3; a buffer of four pages asks for one more
 *
 *   of IoAllocateMdl      as many as it was allocated for
 *   in a block of pool    as far as the block goes: MmInitializeMdl believes any length
 *   anywhere else         what MmInitializeMdl wrote into Size, as far as 16 bits can hold it
 */

#include "verifier/verifier.h"

/* What MDL.Size says of an MDL in a driver's own memory: nothing that could be held against it where 16 bits do not hold it, or nobody set it. */
static size_t room_by_size(const MDL *mdl)
{
    const size_t size = (USHORT)mdl->Size;
    const bool says_it = size >= sizeof(MDL) && sizeof(MDL) + mdl_span(mdl) * sizeof(PFN_NUMBER) <= MAXUSHORT;

    return says_it ? (size - sizeof(MDL)) / sizeof(PFN_NUMBER) : SIZE_MAX;
}

/* PFNs that there is room for behind the header. Of a block of pool, up to its end: MmInitializeMdl believes any length. */
static size_t room_for_pfns(PMDL mdl)
{
    const uintptr_t behind = (uintptr_t)(mdl + 1);
    struct ke_pool_block block;

    if (mdl_block_is_live(&ke_the_machine, mdl))
        return mdl_capacity(&ke_the_machine, mdl);
    if (!mm_pool_find(&ke_the_machine, (uintptr_t)mdl, &block))
        return room_by_size(mdl);
    return block.va + block.bytes < behind ? 0 : (block.va + block.bytes - behind) / sizeof(PFN_NUMBER);
}

void vf_require_room(struct ke_site site, PMDL mdl)
{
    const size_t room = room_for_pfns(mdl);

    if (mdl_span(mdl) > room)
        vf_stop(VF_MDL_TOO_SMALL, (struct vf_case){.site = site, .mdl = mdl}, (uintptr_t)(mdl_pfns(mdl) + room), 1, site.ip, 0);
}
