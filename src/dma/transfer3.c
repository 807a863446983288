/* SPDX-License-Identifier: MIT */
/*
 * Packet DMA of version 3: MapTransferEx maps a stretch of a whole chain into a list, as far as map registers and the
 * caller's list go; FlushAdapterBuffersEx ends it; CancelMappedTransfer lets no further one begin.
 */

#include "dma/dma.h"

/* The arguments that do not concern where the buffer lies. */
struct list_space {
    PSCATTER_GATHER_LIST list;          /* NULL: only the system's DMA controller is to know */
    uint32_t             room;          /* elements */
};

static NTSTATUS find_space(const struct dma_adapter *adapter, PSCATTER_GATHER_LIST list, ULONG bytes, struct list_space *space)
{
    *space = (struct list_space){list, 1};
    if (list == NULL)
        return adapter->description.Master || bytes != 0 ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
    if (bytes < dma_list_bytes(1))
        return STATUS_INVALID_PARAMETER;
    space->room = (uint32_t)((bytes - dma_list_bytes(0)) / sizeof(SCATTER_GATHER_ELEMENT));
    return STATUS_SUCCESS;
}

/* One element after the other, until something is used up. The bytes mapped. */
static uint64_t map_elements(struct dma_request *request, struct dma_buffer buffer, bool write, const struct list_space *space,
                             uint64_t *first_la)
{
    uint64_t done = 0;
    uint32_t n = 0;

    while (n < space->room && done < buffer.bytes) {
        const struct dma_buffer rest = {buffer.mdl, buffer.off + done, buffer.bytes - done};
        uint64_t la;
        const uint64_t mapped = dma_map_some(request, rest, write, true, &la);

        if (mapped == 0)
            break;
        if (n == 0)
            *first_la = la;
        if (space->list != NULL)
            space->list->Elements[n] =
                (SCATTER_GATHER_ELEMENT){.Address.QuadPart = (LONGLONG)la, .Length = (ULONG)mapped};
        done += mapped;
        n++;
    }
    if (space->list != NULL) {
        space->list->NumberOfElements = n;
        space->list->Reserved = 0;
    }
    return done;
}

static NTSTATUS may_map(struct dma_adapter *adapter, const struct dma_request *request, const struct dma_buffer *buffer)
{
    bool cancelled, mapped;

    if (request == NULL || buffer->mdl == NULL || buffer->bytes == 0 || !dma_chain_holds(buffer))
        return STATUS_INVALID_PARAMETER;
    dma_lock(adapter);
    cancelled = request->cancelled;
    mapped = request->nsegments != 0;
    dma_unlock(adapter);
    if (cancelled)
        return STATUS_CANCELLED;
    return mapped ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
}

/* Doc: wdm/nc-wdm-pmap_transfer_ex */
static NTSTATUS map_transfer_ex(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase, ULONGLONG Offset, ULONG DeviceOffset,
                                PULONG Length, BOOLEAN WriteToDevice, PSCATTER_GATHER_LIST ScatterGatherBuffer,
                                ULONG ScatterGatherBufferLength, PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
                                PVOID CompletionContext)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    const struct dma_buffer buffer = {Mdl, Offset, *Length};
    const struct ke_dma_call call = {
        .adapter = DmaAdapter, .mdl = Mdl, .by_offset = true, .offset = Offset, .length = *Length, .write = WriteToDevice};
    struct dma_request *request;
    struct list_space space;
    uint64_t la = 0, done;
    NTSTATUS status;

    UNREFERENCED_PARAMETER(DeviceOffset);
    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    if (adapter->description.Master && DmaCompletionRoutine != NULL)
        return STATUS_INVALID_PARAMETER;
    KE_HOOK(machine, dma_map_ex_check, DmaAdapter, MapRegisterBase, *Length);
    KE_HOOK(machine, dma_transfer_check, &call);
    if (ke_fails(KE_FALLIBLE_MapTransferEx))
        return STATUS_INSUFFICIENT_RESOURCES;
    request = dma_find_channel(adapter, MapRegisterBase);
    status = may_map(adapter, request, &buffer);
    if (NT_SUCCESS(status))
        status = find_space(adapter, ScatterGatherBuffer, ScatterGatherBufferLength, &space);
    if (!NT_SUCCESS(status))
        return status;
    done = map_elements(request, buffer, WriteToDevice, &space, &la);
    if (done == 0)
        return STATUS_INSUFFICIENT_RESOURCES;
    *Length = (ULONG)done;
    dma_program_controller(adapter, (struct dma_controller){
        .la = la, .bytes = (uint32_t)done, .left = (uint32_t)done, .write = WriteToDevice, .active = true,
        .done = DmaCompletionRoutine, .done_context = CompletionContext, .device = request->device});
    return STATUS_SUCCESS;
}

/* Doc: wdm/nc-wdm-pflush_adapter_buffers_ex */
static NTSTATUS flush_buffers_ex(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase, ULONGLONG Offset, ULONG Length,
                                 BOOLEAN WriteToDevice)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    const struct dma_range range = {Mdl, Offset, Length, true};
    const struct ke_dma_call call = {
        .adapter = DmaAdapter, .mdl = Mdl, .by_offset = true, .offset = Offset, .length = Length, .write = WriteToDevice};
    struct dma_request *request;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_flush_ex_check, &call, MapRegisterBase);
    request = dma_find_channel(adapter, MapRegisterBase);
    if (request == NULL)
        return STATUS_INVALID_PARAMETER;
    dma_stop_controller(adapter);
    return dma_flush(request, &range) == 0 ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
}

static bool cancel_locked(struct dma_adapter *adapter, const void *context)
{
    for (PLIST_ENTRY link = adapter->requests.Flink; link != &adapter->requests; link = link->Flink) {
        struct dma_request *request = CONTAINING_RECORD(link, struct dma_request, link);

        if (context == NULL || request->transfer_context != context)
            continue;
        request->cancelled = true;
        return true;
    }
    return false;
}

/* A transfer that the controller was about to make ends with DmaCancelled. Doc: wdm/nc-wdm-pcancel_mapped_transfer */
static NTSTATUS cancel_mapped(PDMA_ADAPTER DmaAdapter, PVOID DmaTransferContext)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    struct dma_controller program = {0};
    bool found;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    dma_lock(adapter);
    found = cancel_locked(adapter, DmaTransferContext);
    if (found && adapter->controller.active) {
        program = adapter->controller;
        adapter->controller.active = false;
    }
    dma_unlock(adapter);
    dma_tell_completion(adapter, &program, DmaCancelled);
    return found ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

void dma_fill_transfer3(DMA_OPERATIONS *operations)
{
    operations->MapTransferEx = map_transfer_ex;
    operations->FlushAdapterBuffersEx = flush_buffers_ex;
    operations->CancelMappedTransfer = cancel_mapped;
}
