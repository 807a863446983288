/* SPDX-License-Identifier: MIT */
/*
 * DMA verification: what the DMA routines are held to. Bug check 0xE6, whose first parameter is the kind of violation.
 *
 * The books of the adapters themselves are read here, under their locks: who has what is kept there, once, and is right
 * whatever the driver wrote into its own structures.
 */

#include "verifier/about.h"

#include "dma/dma.h"

static struct vf_case about_made(struct ke_site site, const void *where)
{
    return (struct vf_case){.site = site, .made = where};
}

/* ---- every routine ---- */

static void require_irql(struct ke_site site, KIRQL least, KIRQL most)
{
    const KIRQL irql = ke_self()->irql;

    if (least == most && irql != most)
        vf_stop(VF_DMA_IRQL, about(site, NULL), 1, most, irql, 0);
    if (irql > most)
        vf_stop(VF_DMA_IRQL, about(site, NULL), 2, most, irql, 0);
}

static void call_check(struct ke_site site, PDMA_ADAPTER adapter, KIRQL least, KIRQL most)
{
    if (adapter == NULL)
        vf_stop(VF_DMA_NULL, about(site, NULL), 0, 0, 0, 0);
    if (dma_adapter_state(the(), adapter) != DMA_ADAPTER_IN_USE)
        vf_stop(VF_DMA_RELEASED, about(site, NULL), address(adapter), 0, 0, 0);
    require_irql(site, least, most);
}

static void describe_check(struct ke_site site, const DEVICE_DESCRIPTION *description)
{
    require_irql(site, PASSIVE_LEVEL, PASSIVE_LEVEL);
    if (description->Version > DEVICE_DESCRIPTION_VERSION3)
        vf_stop(VF_DMA_UNKNOWN_VERSION, about(site, NULL), 0, 0, 0, 0);
    if (description->Reserved1)
        vf_warn(VF_DMA_DESCRIPTION, about(site, NULL));
}

/* ---- buffers ---- */

static bool is_held(PMDL mdl)
{
    return has_state(mdl, VF_LOCKED | VF_BUILT | VF_PARTIAL)
        || mdl_has(mdl, MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL | MDL_IO_SPACE);
}

static void require_held(struct ke_site site, PMDL mdl)
{
    vf_require_alive(site, mdl);
    if (!is_held(mdl))
        vf_stop(VF_DMA_NOT_LOCKED, about(site, mdl), address(mdl), 0, 0, 0);
    vf_check_source(site, mdl);
}

static bool is_locked_for_reading(PMDL mdl)
{
    return has_state(mdl, VF_LOCKED) && !mdl_has(mdl, MDL_WRITE_OPERATION);
}

/* Of what is to be mapped. */
static void require_usable(struct ke_site site, PMDL mdl, bool write)
{
    require_held(site, mdl);
    if (!write && is_locked_for_reading(mdl))
        vf_warn(VF_DMA_LOCKED_FOR_READING, about(site, mdl));
}

static void require_chain_usable(struct ke_site site, const struct ke_dma_call *call, uint64_t bytes)
{
    PMDL mdl = call->mdl;

    for (uint64_t sum = 0; mdl != NULL && sum < bytes; mdl = mdl->Next) {
        require_usable(site, mdl, call->write);
        sum += mdl->ByteCount;
    }
}

/* Is any of what the transfer has of the MDL no longer locked, because MmAdvanceMdl has passed it since? */
static bool is_passed(const struct dma_part *part)
{
    const struct vf_mdl entry = vf_lookup(the(), part->mdl);

    return (entry.state & (VF_LOCKED | VF_PAGES)) != 0 && span_page_base(part->va) < entry.advanced_to;
}

/* At its end: everything that it began with must have stayed locked, however the chain has been linked since. */
static void require_mapping_held(struct ke_site site, const struct dma_mapping *mapping)
{
    for (uint32_t i = 0; mapping->parts != NULL && i < mapping->nparts; i++) {
        const struct dma_part *part = &mapping->parts[i];

        require_held(site, part->mdl);
        if (is_passed(part))
            vf_stop(VF_DMA_NOT_LOCKED, about(site, part->mdl), address(part->mdl), 0, 0, 0);
    }
}

static void require_list_range(struct ke_site site, const struct ke_dma_call *call)
{
    const uintptr_t start = mdl_va(call->mdl);

    if ((uintptr_t)call->va < start)
        vf_stop(VF_DMA_BAD_BUFFER, about(site, call->mdl), 1, address(call->va), address(call->mdl), 0);
    if ((uintptr_t)call->va - start >= call->mdl->ByteCount)
        vf_stop(VF_DMA_BAD_BUFFER, about(site, call->mdl), 2, address(call->va), address(call->mdl), 0);
}

/* Where the MDL's buffer ends, from the call's address on; 0: before it. */
static uint64_t rest_of_mdl(const struct ke_dma_call *call)
{
    const uint64_t off = dma_offset_of(call->mdl, call->va);

    return off < call->mdl->ByteCount ? call->mdl->ByteCount - off : 0;
}

/* A length that is rounded up inside the last page of what there is does no harm. */
static bool runs_past_last_page(const struct ke_dma_call *call, uint64_t rest)
{
    return call->length > rest + (SPAN_PAGE_SIZE - span_offset((uintptr_t)call->va + rest - 1) - 1);
}

static void require_in_mdl(struct ke_site site, const struct ke_dma_call *call)
{
    if (dma_offset_of(call->mdl, call->va) >= call->mdl->ByteCount)
        vf_stop(VF_DMA_OUTSIDE, (struct vf_case){.site = site, .mdl = call->mdl, .va = (uintptr_t)call->va}, address(call->va),
                address(call->mdl), 0, 0);
}

/* The routines of version 3 have statuses for a range that is none. */
static void transfer_check(struct ke_site site, const struct ke_dma_call *call)
{
    if (call->by_offset) {
        require_chain_usable(site, call, call->offset + call->length);
        return;
    }
    if (call->length == 0)
        vf_stop(VF_DMA_ZERO_LENGTH, about(site, call->mdl), 0, 0, 0, 0);
    if (call->list) {
        require_held(site, call->mdl);
        require_list_range(site, call);
        require_chain_usable(site, call, dma_offset_of(call->mdl, call->va) + call->length);
        return;
    }
    require_usable(site, call->mdl, call->write);
    require_in_mdl(site, call);
    if (runs_past_last_page(call, rest_of_mdl(call)))
        vf_stop(VF_DMA_BAD_BUFFER, about(site, call->mdl), 3, address(call->mdl), call->length, 0);
}

/* ---- channels and map registers ---- */

/* Requests of this device that wait, or whose routine is running. */
static uint32_t unserved_locked(const struct dma_adapter *adapter, const DEVICE_OBJECT *device)
{
    const LIST_ENTRY *const lists[] = {&adapter->channel->waiting, &adapter->requests};
    uint32_t n = 0;

    for (int i = 0; i < 2; i++) {
        for (const LIST_ENTRY *link = lists[i]->Flink; link != lists[i]; link = link->Flink) {
            const struct dma_request *request = CONTAINING_RECORD(link, struct dma_request, link);

            n += request->kind == DMA_FOR_CHANNEL && request->adapter == adapter && request->device == device
              && (i == 0 || (request->in_routine && request != adapter->channel->holder));
        }
    }
    return n;
}

static void channel_check(struct ke_site site, PDMA_ADAPTER object, PDEVICE_OBJECT device)
{
    struct dma_adapter *adapter = dma_adapter_of(object);
    uint32_t unserved;

    dma_lock(adapter);
    unserved = unserved_locked(adapter, device);
    dma_unlock(adapter);
    if (unserved != 0)
        vf_stop(VF_DMA_TWO_CHANNELS, about(site, NULL), unserved, 0, 0, 0);
}

/* What the books say of a MapRegisterBase. All zero: it is none. */
struct channel_facts {
    bool        known;
    uint32_t    nregisters, used, nsegments;
    uint64_t    bytes_mapped;
    const void *where;
    bool        overlaps;               /* some of the call's range is mapped: */
    uint64_t    overlap;                /* the first of it, as address or offset */
    uint64_t    mapped_from, mapped_to; /* what is mapped there starts and ends */
    bool        write;                  /* its direction */
};

static struct dma_range range_of(const struct ke_dma_call *call)
{
    return (struct dma_range){call->mdl, call->by_offset ? call->offset : (uintptr_t)call->va, call->length, call->by_offset};
}

static void add_overlap(struct channel_facts *facts, const struct dma_segment *segment, const struct dma_range *range)
{
    const uint64_t from = dma_segment_start(segment, range), to = from + segment->bytes;

    if (!facts->overlaps)
        facts->overlap = from > range->start ? from : range->start;
    if (!facts->overlaps || from < facts->mapped_from)
        facts->mapped_from = from;
    if (!facts->overlaps || to > facts->mapped_to)
        facts->mapped_to = to;
    facts->write = segment->mapping.write;
    facts->overlaps = true;
}

static void find_overlap(struct channel_facts *facts, const struct dma_request *request, const struct dma_range *range)
{
    for (uint32_t i = 0; i < request->nsegments; i++)
        if (dma_segment_meets(&request->segments[i], range))
            add_overlap(facts, &request->segments[i], range);
}

static struct channel_facts facts_of(struct dma_adapter *adapter, const void *base, const struct ke_dma_call *call)
{
    const struct dma_range range = call == NULL ? (struct dma_range){0} : range_of(call);
    struct channel_facts facts = {0};
    const struct dma_request *request;

    dma_lock(adapter);
    request = dma_find_locked(adapter, base);
    if (request != NULL && request->kind == DMA_FOR_CHANNEL)
        facts = (struct channel_facts){.known = true, .nregisters = request->nregisters, .used = request->registers_used,
                                       .nsegments = request->nsegments, .bytes_mapped = request->bytes_mapped, .where = request->where};
    if (facts.known && call != NULL)
        find_overlap(&facts, request, &range);
    dma_unlock(adapter);
    return facts;
}

/* A device with scatter/gather is served as far as the registers go; any other needs them all at once. */
static uint32_t registers_needed(const struct dma_adapter *adapter, const struct ke_dma_call *call)
{
    return adapter->scatter_gather ? 1 : (uint32_t)span_pages((uintptr_t)call->va, call->length);
}

static void map_check(struct ke_site site, const struct ke_dma_call *call, PVOID base)
{
    struct dma_adapter *adapter = dma_adapter_of(call->adapter);
    const struct channel_facts facts = facts_of(adapter, base, call);
    const uint32_t needed = registers_needed(adapter, call);

    if (facts.overlaps)
        vf_stop(VF_DMA_MAPPED_TWICE, about(site, call->mdl), address(call->va), address(call->va) + call->length, facts.overlap, 0);
    if (!facts.known || (facts.nsegments == 0 && needed > facts.nregisters))
        vf_stop(VF_DMA_TOO_MANY_REGISTERS, about_made(site, facts.where), needed, facts.nregisters, 0, 0);
    if (needed > facts.nregisters - facts.used)
        vf_stop(VF_DMA_NOT_FLUSHED, about_made(site, facts.where), facts.bytes_mapped, (uint64_t)facts.nregisters * PAGE_SIZE, 0, 0);
}

static void map_ex_check(struct ke_site site, PDMA_ADAPTER object, PVOID base, ULONG length)
{
    const struct channel_facts facts = facts_of(dma_adapter_of(object), base, NULL);

    if (length == 0)
        vf_stop(VF_DMA_ZERO_LENGTH, about(site, NULL), 0, 0, 0, 0);
    if (facts.nsegments != 0)
        vf_stop(VF_DMA_NOT_FLUSHED, about_made(site, facts.where), facts.bytes_mapped, (uint64_t)facts.nregisters * PAGE_SIZE, 0, 0);
}

/* A length that is shorter is what a device may have come to; where the range begins, and its direction, are known beforehand. */
static void compare_with_mapped(struct ke_site site, const struct ke_dma_call *call, const struct channel_facts *facts)
{
    if (!facts->overlaps)
        return;
    if (range_of(call).start != facts->mapped_from)
        vf_warn(VF_DMA_FLUSH_START, about(site, call->mdl));
    if (call->write != facts->write)
        vf_warn(VF_DMA_FLUSH_DIRECTION, about(site, call->mdl));
}

/* The driver flushes in one call after the other: nobody takes the segments away meanwhile. */
static void require_flushed_held(struct ke_site site, const struct ke_dma_call *call, const void *base)
{
    const struct dma_request *request = dma_find_channel(dma_adapter_of(call->adapter), base);
    const struct dma_range range = range_of(call);

    for (uint32_t i = 0; request != NULL && i < request->nsegments; i++)
        if (dma_segment_meets(&request->segments[i], &range))
            require_mapping_held(site, &request->segments[i].mapping);
}

static void flush_ex_check(struct ke_site site, const struct ke_dma_call *call, PVOID base)
{
    const struct channel_facts facts = facts_of(dma_adapter_of(call->adapter), base, call);

    compare_with_mapped(site, call, &facts);
    require_flushed_held(site, call, base);
}

/* What may be flushed: what the MDL has, or had when it was mapped. */
static uint64_t most_to_flush(const struct ke_dma_call *call, const struct channel_facts *facts)
{
    const uint64_t rest = rest_of_mdl(call), mapped = facts->overlaps ? facts->mapped_to - (uintptr_t)call->va : 0;

    return mapped > rest ? mapped : rest;
}

static void flush_check(struct ke_site site, const struct ke_dma_call *call, PVOID base)
{
    const struct channel_facts facts = facts_of(dma_adapter_of(call->adapter), base, call);
    uint64_t most;

    vf_require_alive(site, call->mdl);
    if (!facts.overlaps)
        require_in_mdl(site, call);
    most = most_to_flush(call, &facts);
    if (runs_past_last_page(call, most))
        vf_stop(VF_DMA_FLUSH_TOO_MUCH, about(site, call->mdl), 1, most, call->length, 0);
    if (facts.nsegments == 0)
        vf_stop(VF_DMA_FLUSH_NOTHING, about(site, call->mdl), address(base), address(call->va), address(call->mdl), 0);
    if (!facts.overlaps)
        vf_stop(VF_DMA_FLUSH_UNMAPPED, about(site, call->mdl), address(call->va), 0, 0, 0);
    compare_with_mapped(site, call, &facts);
    require_flushed_held(site, call, base);
}

static void free_channel_check(struct ke_site site, PDMA_ADAPTER object)
{
    struct dma_adapter *adapter = dma_adapter_of(object);
    uint64_t mapped = 0, most = 0;
    const struct dma_request *holder;
    bool due;

    dma_lock(adapter);
    holder = dma_holder_locked(adapter);
    due = holder != NULL || adapter->free_is_due;
    if (holder != NULL) {
        mapped = holder->bytes_mapped;
        most = (uint64_t)holder->nregisters * PAGE_SIZE;
    }
    dma_unlock(adapter);
    if (!due)
        vf_stop(VF_DMA_SURPLUS_CHANNEL, about_made(site, adapter->where), 1, 0, 0, 0);
    if (mapped != 0)
        vf_stop(VF_DMA_NOT_FLUSHED, about_made(site, adapter->where), mapped, most, 0, 0);
}

static void free_registers_check(struct ke_site site, PDMA_ADAPTER object, PVOID base, ULONG nregisters)
{
    const struct channel_facts facts = facts_of(dma_adapter_of(object), base, NULL);

    if (nregisters == 0)
        return;                         /* the base of a request for none is over, and may be another request's by now */
    if (!facts.known || nregisters > facts.nregisters)
        vf_stop(VF_DMA_SURPLUS_REGISTERS, about_made(site, facts.where), nregisters - facts.nregisters, 0, 0, 0);
    if (facts.nsegments != 0)
        vf_stop(VF_DMA_STILL_MAPPED, about_made(site, facts.where), facts.used, 0, 0, 0);
    if (nregisters < facts.nregisters)
        vf_warn(VF_DMA_REGISTER_COUNT, about_made(site, facts.where));
}

static void overwritten(uintptr_t va)
{
    const struct ke_site here = {(uintptr_t)__builtin_return_address(0), *(const uintptr_t *)__builtin_frame_address(0)};

    vf_stop(VF_DMA_OVERRUN, about(here, NULL), 3, va, 0, 0);
}

/* ---- common buffers ---- */

static void require_guards(struct ke_site site, const struct dma_common_buffer *buffer)
{
    uintptr_t where;
    const enum dma_guard guard = dma_buffer_guard(buffer, &where);
    const struct vf_case of = about_made(site, buffer->where);

    if (guard == DMA_GUARD_TAG_BEFORE || guard == DMA_GUARD_TAG_AFTER)
        vf_stop(VF_DMA_OVERRUN, of, guard, buffer->bytes, address(buffer->va), 0);
    if (guard != DMA_GUARD_WHOLE)
        vf_stop(VF_DMA_OVERRUN, of, guard, address(buffer->va), where, 0);
}

static void free_buffer_check(struct ke_site site, PDMA_ADAPTER object, PVOID va, ULONG length, uint64_t la, bool cached)
{
    struct dma_adapter *adapter = dma_adapter_of(object);
    const struct dma_common_buffer *found;
    struct dma_common_buffer buffer = {0};

    dma_lock(adapter);
    found = dma_buffer_find_locked(adapter, va);
    if (found != NULL)
        buffer = *found;
    dma_unlock(adapter);
    if (found == NULL)
        vf_stop(VF_DMA_SURPLUS_BUFFER, about_made(site, adapter->where), 1, 0, 0, 0);
    require_guards(site, &buffer);
    if (buffer.bytes != length || buffer.la != la || (buffer.caching != DMA_CACHING_DEFAULT && (buffer.caching == DMA_CACHED) != cached))
        vf_warn(VF_DMA_BUFFER_MISMATCH, about_made(site, buffer.where));
}

/* ---- lists and adapters ---- */

static void put_list_check(struct ke_site site, PDMA_ADAPTER object, PSCATTER_GATHER_LIST list, bool write)
{
    struct dma_adapter *adapter = dma_adapter_of(object);
    const struct dma_request *found;
    struct dma_mapping mapping = {0};
    uint64_t made, put;
    const void *where = NULL;

    dma_lock(adapter);
    found = dma_find_locked(adapter, list);
    if (found != NULL && (found->kind != DMA_FOR_LIST || found->ended))
        found = NULL;
    if (found != NULL) {
        mapping = found->mapping;
        where = found->where;
    }
    made = adapter->lists_made;
    put = adapter->lists_put;
    dma_unlock(adapter);
    if (found == NULL)
        vf_stop(VF_DMA_SURPLUS_LIST, about_made(site, adapter->where), made, put + 1, 0, 0);
    require_mapping_held(site, &mapping);
    if (mapping.write != write)
        vf_warn(VF_DMA_DIRECTION, about_made(site, where));
}

static void put_adapter_check(struct ke_site site, PDMA_ADAPTER object)
{
    const struct dma_adapter *adapter = dma_adapter_of(object);
    const struct vf_case of = about_made(site, adapter->where);

    if (adapter->nbuffers != 0)
        vf_stop(VF_DMA_LEFT_BUFFERS, of, address(object), adapter->nbuffers, 0, 0);
    if (adapter->nchannels != 0)
        vf_stop(VF_DMA_LEFT_CHANNELS, of, address(object), adapter->nchannels, 0, 0);
    if (adapter->nregisters_out != 0)
        vf_stop(VF_DMA_LEFT_REGISTERS, of, address(object), adapter->nregisters_out, 0, 0);
    if (adapter->nlists != 0)
        vf_stop(VF_DMA_LEFT_LISTS, of, address(object), adapter->nlists, 0, 0);
}

/* ---- stories ---- */

static void tell(const char *title, const void *where)
{
    vf_story_print(title, where);
}

void vf_dma_hooks_install(struct ke_hooks *hooks)
{
    hooks->dma_describe_check = describe_check;
    hooks->dma_call_check = call_check;
    hooks->dma_transfer_check = transfer_check;
    hooks->dma_channel_check = channel_check;
    hooks->dma_map_check = map_check;
    hooks->dma_map_ex_check = map_ex_check;
    hooks->dma_flush_check = flush_check;
    hooks->dma_flush_ex_check = flush_ex_check;
    hooks->dma_free_channel_check = free_channel_check;
    hooks->dma_free_registers_check = free_registers_check;
    hooks->dma_free_buffer_check = free_buffer_check;
    hooks->dma_put_list_check = put_list_check;
    hooks->dma_put_adapter_check = put_adapter_check;
    hooks->dma_overwritten = overwritten;
    hooks->tell_stack = tell;
}
