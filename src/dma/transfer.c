/* SPDX-License-Identifier: MIT */
/*
 * Packet DMA: MapTransfer and FlushAdapterBuffers, between the AdapterControl routine and the return of its map registers.
 *
 *     MapRegisterBase   | register 0 | register 1 | register 2 | ...        one for each page mapped, direct or copied
 *                       [ segment 0      ][ segment 1 ]
 *
 * A segment is what one element became. Its copy goes back when a flush touches it; when none is left, the registers are
 * used from the first one on again.
 */

#include "dma/dma.h"

#include <stdlib.h>

enum { FIRST_SEGMENTS = 8 };

/* Parameter 1 of bug check 0xE6: an address from which on nothing can be mapped, verifier or not. */
enum { OUTSIDE_MDL = 0x1B };

static _Noreturn void stop_out_of_registers(uint32_t needed, uint32_t left)
{
    ke_bug_check(INSUFFICIENT_SYSTEM_MAP_REGS, needed, left, 0, 0);
}

/* ---- mapping ---- */

/* Room for one more; the array doubles, so that its size is known from what it holds. */
static struct dma_segment *add_segment(struct dma_request *request)
{
    const uint32_t n = request->nsegments;
    const bool full = n == 0 ? request->segments == NULL : n >= FIRST_SEGMENTS && (n & (n - 1)) == 0;

    if (full) {
        const size_t room = n == 0 ? FIRST_SEGMENTS : 2 * (size_t)n;
        struct dma_segment *segments = realloc(request->segments, room * sizeof(*segments));

        if (segments == NULL)
            stop_out_of_registers(1, 0);
        request->segments = segments;
    }
    return &request->segments[request->nsegments++];
}

/* The bytes of the first pieces, one a register. */
static uint64_t cut_pieces(const struct dma_buffer *buffer, uint32_t registers)
{
    struct dma_cursor cursor;
    struct dma_piece piece;
    uint64_t bytes = 0;

    dma_walk(&cursor, buffer);
    for (uint32_t i = 0; i < registers && dma_next_piece(&cursor, &piece); i++)
        bytes += piece.bytes;
    return bytes;
}

/* The bytes that lie in the registers without gaps. */
static uint64_t cut_run(const struct dma_buffer *buffer, uint32_t registers)
{
    const uint64_t room = ((uint64_t)registers << SPAN_PAGE_SHIFT) - (registers == 0 ? 0 : dma_first_offset(buffer));

    return room < buffer->bytes ? room : buffer->bytes;
}

/* What the registers that are left can hold at most, from this place on. */
static uint64_t cut(const struct dma_request *request, const struct dma_buffer *buffer)
{
    const uint32_t left = request->nregisters - request->registers_used;

    return request->adapter->scatter_gather ? cut_pieces(buffer, left) : cut_run(buffer, left);
}

static bool plan(const struct dma_request *request, struct dma_mapping *mapping)
{
    if (mapping->adapter->scatter_gather)
        return dma_plan_first(mapping);
    if (!dma_plan(mapping))
        return false;
    if (mapping->npages > request->nregisters - request->registers_used)
        stop_out_of_registers(mapping->npages, request->nregisters - request->registers_used);
    return true;
}

static void place(const struct dma_request *request, struct dma_mapping *mapping)
{
    if (request->first_register != DMA_NO_REGISTER)
        mapping->first_register = request->first_register + request->registers_used;
    mapping->la_first = request->mapping.la_first + request->registers_used;
    mapping->la_pages = dma_la_pages_needed(mapping);
}

static uint64_t la_of(const struct dma_mapping *mapping)
{
    SCATTER_GATHER_ELEMENT first;

    return dma_store_elements(mapping, &first, 1) == 1 ? (uint64_t)first.Address.QuadPart : 0;
}

/* Nobody else works on this request meanwhile: the lock is for those who look at the adapter's books. */
uint64_t dma_map_some(struct dma_request *request, struct dma_buffer buffer, bool write, bool partial, uint64_t *la)
{
    struct dma_adapter *adapter = request->adapter;
    struct dma_mapping mapping = {.adapter = adapter, .buffer = buffer, .write = write};
    const uintptr_t va = mdl_va(buffer.mdl) + buffer.off;

    if (adapter->scatter_gather || partial)
        mapping.buffer.bytes = cut(request, &buffer);
    if (mapping.buffer.bytes == 0)
        return 0;
    mapping.first_register = request->first_register == DMA_NO_REGISTER ? 0 : request->first_register;
    if (!plan(request, &mapping))
        return 0;
    place(request, &mapping);
    if (!dma_record_new(&mapping))
        return 0;
    dma_map(&mapping);
    *la = la_of(&mapping);
    dma_lock(adapter);
    *add_segment(request) = (struct dma_segment){mapping, va, *la, mapping.buffer.bytes};
    request->registers_used += mapping.npages;
    request->bytes_mapped += mapping.buffer.bytes;
    dma_unlock(adapter);
    return mapping.buffer.bytes;
}

/* ---- flushing ---- */

uint64_t dma_segment_start(const struct dma_segment *segment, const struct dma_range *range)
{
    return range->by_offset ? segment->mapping.buffer.off : segment->va;
}

bool dma_segment_meets(const struct dma_segment *segment, const struct dma_range *range)
{
    return segment->mapping.buffer.mdl == range->mdl
        && span_overlaps(dma_segment_start(segment, range), segment->bytes, range->start, range->bytes);
}

static void end_segment(struct dma_request *request, struct dma_segment *segment)
{
    struct dma_adapter *adapter = request->adapter;

    dma_unmap(&segment->mapping);
    if (segment->mapping.la_pages != 0)
        dma_domain_unmap(adapter->domain, segment->mapping.la_first, segment->mapping.la_pages);
    dma_remember_range(adapter, segment->la, segment->bytes, request->where);
}

static void forget_segment_locked(struct dma_request *request, const struct dma_segment *segment)
{
    request->bytes_mapped -= segment->bytes;
    dma_record_free(&segment->mapping);
}

/* The copies go back without the lock; only then does the device lose the segments. */
uint32_t dma_flush(struct dma_request *request, const struct dma_range *range)
{
    uint32_t kept = 0, flushed;

    for (uint32_t i = 0; i < request->nsegments; i++)
        if (dma_segment_meets(&request->segments[i], range))
            end_segment(request, &request->segments[i]);
    dma_lock(request->adapter);
    for (uint32_t i = 0; i < request->nsegments; i++) {
        if (dma_segment_meets(&request->segments[i], range))
            forget_segment_locked(request, &request->segments[i]);
        else
            request->segments[kept++] = request->segments[i];
    }
    flushed = request->nsegments - kept;
    request->nsegments = kept;
    if (kept == 0)
        request->registers_used = 0;
    dma_unlock(request->adapter);
    return flushed;
}

/* ---- the routines ---- */

struct dma_request *dma_find_channel(struct dma_adapter *adapter, const void *base)
{
    struct dma_request *request;

    dma_lock(adapter);
    request = dma_find_locked(adapter, base);
    dma_unlock(adapter);
    return request != NULL && request->kind == DMA_FOR_CHANNEL ? request : NULL;
}

/* The stretch of an MDL that starts at an address in it, and ends with it at the latest. */
static struct dma_buffer stretch(PMDL mdl, const void *va, ULONG length)
{
    const uint64_t off = dma_offset_of(mdl, va), rest = mdl->ByteCount - off;

    return (struct dma_buffer){mdl, off, length < rest ? length : rest};
}

void dma_program_controller(struct dma_adapter *adapter, struct dma_controller program)
{
    if (adapter->description.Master)
        return;
    dma_lock(adapter);
    adapter->controller = program;
    dma_unlock(adapter);
}

/* Its count stays readable. */
void dma_stop_controller(struct dma_adapter *adapter)
{
    dma_lock(adapter);
    adapter->controller.active = false;
    dma_unlock(adapter);
}

/* No bytes are no mistake without the verifier: nothing is mapped. Doc: wdm/nc-wdm-pmap_transfer */
PHYSICAL_ADDRESS dma_map_transfer(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase, PVOID CurrentVa, PULONG Length,
                                  BOOLEAN WriteToDevice)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    const struct ke_dma_call call = {
        .adapter = DmaAdapter, .mdl = Mdl, .va = CurrentVa, .length = *Length, .write = WriteToDevice};
    struct dma_request *request;
    uint64_t la = 0, mapped;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_transfer_check, &call);
    KE_HOOK(machine, dma_map_check, &call, MapRegisterBase);
    if (*Length == 0)
        return (PHYSICAL_ADDRESS){.QuadPart = 0};
    if (dma_offset_of(Mdl, CurrentVa) >= Mdl->ByteCount)
        ke_bug_check(DRIVER_VERIFIER_DMA_VIOLATION, OUTSIDE_MDL, (uintptr_t)CurrentVa, (uintptr_t)Mdl, 0);
    request = dma_find_channel(adapter, MapRegisterBase);
    if (request == NULL)
        stop_out_of_registers(1, 0);
    mapped = dma_map_some(request, stretch(Mdl, CurrentVa, *Length), WriteToDevice, false, &la);
    if (mapped == 0)
        stop_out_of_registers(1, request->nregisters - request->registers_used);
    if (adapter->scatter_gather)
        *Length = (ULONG)mapped;
    dma_program_controller(adapter, (struct dma_controller){.la = la, .bytes = (uint32_t)mapped, .left = (uint32_t)mapped,
                                                            .write = WriteToDevice, .active = true});
    return (PHYSICAL_ADDRESS){.QuadPart = (LONGLONG)la};
}

/* Doc: wdm/nc-wdm-pflush_adapter_buffers */
BOOLEAN dma_flush_buffers(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase, PVOID CurrentVa, ULONG Length,
                          BOOLEAN WriteToDevice)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    const struct ke_dma_call call = {
        .adapter = DmaAdapter, .mdl = Mdl, .va = CurrentVa, .length = Length, .write = WriteToDevice};
    const struct dma_range range = {Mdl, (uintptr_t)CurrentVa, Length, false};
    struct dma_request *request;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_flush_check, &call, MapRegisterBase);
    request = dma_find_channel(adapter, MapRegisterBase);
    if (request == NULL)
        return FALSE;
    dma_stop_controller(adapter);
    return dma_flush(request, &range) != 0;
}

/* Doc: wdm/nc-wdm-pread_dma_counter */
ULONG dma_read_counter(PDMA_ADAPTER DmaAdapter)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    ULONG left;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    dma_lock(adapter);
    left = adapter->controller.left;
    dma_unlock(adapter);
    return left;
}
