/* SPDX-License-Identifier: MIT */
/*
 * Rules that follow an MDL back to where its pages come from.
 *
 *     source    locked; perhaps mapped          lock no. 7       mapping no. 9
 *     partial   the source's pages               ^ lives on it    ^ shares it, until it is mapped by itself
 *     partial   of the partial: the same         ^                ^
 *
 * A partial MDL that was mapped by itself keeps that mapping when the pages are no longer locked: nobody may touch it then, and it is put
 * out of reach, so that whoever does is met.
 *
 * Each lock and each mapping has a number of its own. A partial MDL remembers the numbers that it lives on, so that a source which
 * was unlocked, freed, or freed and locked anew at the same address is known to be another one. What is held against a driver is
 * the use of such a partial MDL, never that it is there: drivers keep them as containers for the next request.
 */

#include "verifier/about.h"

void vf_require_alive(struct ke_site site, PMDL mdl)
{
    struct vf_mdl freed = {0};

    if (!mdl_block_is_ours(the(), mdl) || mdl_block_is_live(the(), mdl))
        return;
    vf_lookup_freed(the(), mdl, &freed);
    vf_stop(freed.of_system ? VF_USED_AFTER_COMPLETION : VF_USED_AFTER_FREE, (struct vf_case){.site = site, .mdl = mdl, .event = VF_EVENT_FREED},
            (uintptr_t)mdl, 0, site.ip, 0);
}

static void check_passed(const struct vf_mdl *entry, struct vf_case of)
{
    if (entry->source.mdl != NULL && vf_lookup(the(), entry->source.mdl).advanced_to > (uintptr_t)of.mdl->StartVa)
        vf_warn(VF_PARTIAL_PASSED_BY_ADVANCE, of);
}

void vf_check_source(struct ke_site site, PMDL mdl)
{
    const struct vf_mdl entry = vf_lookup(the(), mdl);
    const struct vf_case of = {.site = site, .mdl = mdl};

    if (entry.source.mdl == NULL)
        return;
    if (!vf_hold_lasts(the(), entry.source))
        vf_warn(VF_PARTIAL_OUTLIVES_SOURCE, of);
    else
        check_passed(&entry, of);
}

/* Pages may be held by more than one lock. */
static bool is_all_held(uintptr_t va, size_t npages)
{
    for (size_t i = 0; i < npages; i++)
        if (!mm_pfn_is_held(the(), mm_translate(the(), va + i * PAGE_SIZE)))
            return false;
    return true;
}

void vf_revoke_borrowed(PMDL mdl)
{
    struct vf_mdl part;
    struct mm_space *space;

    while (vf_take_borrower(the(), mdl, &part)) {
        const uintptr_t base = span_page_base(part.mapped_at);
        const size_t npages = span_pages(part.mapped_at, part.mapped_bytes);

        if (mm_classify(the(), base, &space) == MM_KIND_SYSTEM_PTE && !is_all_held(base, npages))
            mm_space_protect_mapping(space, base, npages, 0);
    }
}

/* ---- mappings that failed ---- */

enum { NEAR_NULL = 0x10000 };           /* nothing is ever mapped below */

static _Thread_local struct {
    uint32_t generation;                /* of the machine; 0: none */
    PMDL     mdl;
} not_mapped;

void vf_note_not_mapped(struct ke_site site, PMDL mdl)
{
    vf_record_not_mapped(the(), site, mdl);
    not_mapped.generation = the()->generation;
    not_mapped.mdl = mdl;
}

void vf_forget_not_mapped(void)
{
    not_mapped.generation = 0;
}

void vf_check_access(uintptr_t va)
{
    if (va >= NEAR_NULL || not_mapped.generation != the()->generation)
        return;
    vf_forget_not_mapped();
    vf_warn(VF_MAPPING_UNCHECKED, (struct vf_case){.mdl = not_mapped.mdl});
}

void vf_check_lent_mapping(struct ke_site site, PMDL mdl)
{
    const struct vf_mdl entry = vf_lookup(the(), mdl);
    const struct vf_case of = {.site = site, .mdl = mdl};

    if (!vf_hold_lasts(the(), entry.lender))
        vf_warn(VF_PARTIAL_OUTLIVES_MAPPING, of);
    else if (entry.lender.mdl != NULL)
        check_passed(&entry, of);
}
