/* SPDX-License-Identifier: MIT */
/*
 * BuildMdlFromScatterGatherList: an MDL that shows what the device sees of a list.
 *
 *     nothing was copied    the original MDL itself, as often as it is asked for
 *     pages were copied     new MDLs, one for each original one: where a page was copied, the map register's frame stands
 *     packed                one new MDL over the stretch of registers
 *
 * The new MDLs describe exactly the bytes of the list. Nothing but their frames is known of them, so their StartVa is NULL.
 * Their pages stay where they are until PutScatterGatherList, which also frees them.
 */

#include "dma/dma.h"

static PFN_NUMBER register_pfn(const struct dma_mapping *mapping, uint32_t ordinal)
{
    return mapping->adapter->registers.first_pfn + mapping->first_register + ordinal;
}

static PMDL new_mdl(struct machine *machine, uint32_t off, uint64_t bytes)
{
    PMDL mdl = mdl_new(machine, off, bytes);

    if (mdl == NULL)
        return NULL;
    mdl_set_flags(mdl, 0, MDL_PAGES_LOCKED);
    KE_HOOK(machine, mdl_lent_record, mdl);
    return mdl;
}

static PMDL build_packed(struct machine *machine, const struct dma_mapping *mapping)
{
    PMDL mdl = new_mdl(machine, mapping->pieces[0].off, mapping->buffer.bytes);

    for (uint32_t i = 0; mdl != NULL && i < mdl_span(mdl); i++)
        mdl_pfns(mdl)[i] = register_pfn(mapping, i);
    return mdl;
}

/* What the device sees of one part; its pieces begin with number *ordinal. */
static PMDL build_part(struct machine *machine, const struct dma_mapping *mapping, const struct dma_part *part, uint32_t *ordinal)
{
    PMDL mdl = new_mdl(machine, mapping->pieces[*ordinal].off, part->bytes);
    const size_t npages = mdl == NULL ? 0 : mdl_span(mdl);

    for (size_t i = 0; i < npages && *ordinal < mapping->npieces; i++, ++*ordinal) {
        const PFN_NUMBER pfn = mapping->pieces[*ordinal].pfn;

        mdl_pfns(mdl)[i] = dma_reaches(mapping->adapter, pfn) ? pfn : register_pfn(mapping, *ordinal);
    }
    return mdl;
}

static void destroy_chain(struct machine *machine, PMDL mdl)
{
    while (mdl != NULL) {
        PMDL next = mdl->Next;

        mdl_destroy(machine, mdl);
        mdl = next;
    }
}

static PMDL build_chain(struct machine *machine, const struct dma_mapping *mapping)
{
    PMDL chain = NULL, *link = &chain;
    uint32_t ordinal = 0;

    for (uint32_t i = 0; i < mapping->nparts; i++) {
        *link = build_part(machine, mapping, &mapping->parts[i], &ordinal);
        if (*link == NULL) {
            destroy_chain(machine, chain);
            return NULL;
        }
        link = &(*link)->Next;
    }
    return chain;
}

static NTSTATUS build(struct machine *machine, struct dma_request *request, PMDL *target)
{
    PMDL chain;

    if (!request->mapping.copied) {
        *target = request->original;
        return STATUS_SUCCESS;
    }
    if (request->target != NULL)
        return STATUS_NONE_MAPPED;
    chain = request->mapping.packed ? build_packed(machine, &request->mapping) : build_chain(machine, &request->mapping);
    if (chain == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    request->target = chain;
    *target = chain;
    return STATUS_SUCCESS;
}

/*
 * The MDL behind a list: the original, or a new one that PutScatterGatherList frees. A list that is not out, or another MDL
 * than it was made from, is an invalid parameter too.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nc-wdm-pbuild_mdl_from_scatter_gather_list
 */
NTSTATUS dma_build_mdl(PDMA_ADAPTER DmaAdapter, PSCATTER_GATHER_LIST ScatterGather, PMDL OriginalMdl, PMDL *TargetMdl)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    struct dma_request *request;
    NTSTATUS status = STATUS_INVALID_PARAMETER;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    if (OriginalMdl == NULL)
        return STATUS_INVALID_PARAMETER;
    KE_HOOK(machine, mdl_use_check, OriginalMdl);
    if (ke_fails(KE_FALLIBLE_BuildMdlFromScatterGatherList))
        return STATUS_INSUFFICIENT_RESOURCES;
    dma_lock(adapter);
    request = dma_find_locked(adapter, ScatterGather);
    if (request != NULL && request->kind == DMA_FOR_LIST && request->original == OriginalMdl)
        status = build(machine, request, TargetMdl);
    dma_unlock(adapter);
    return status;
}
