/* SPDX-License-Identifier: MIT */
/*
 * Version 3 of the table: what adapter and transfer need, transfer contexts, channels and lists with flags and cancellation.
 *
 * A transfer context lives in the driver's memory and stands for one allocation request: new -> waiting -> granted, or
 * cancelled from either of the first two. It is written under the channel's lock, and never after the request was granted.
 */

#include "dma/dma.h"

#include <string.h>

/* ---- information ---- */

/* Doc: wdm/nc-wdm-pget_dma_adapter_info */
static NTSTATUS get_adapter_info(PDMA_ADAPTER DmaAdapter, PDMA_ADAPTER_INFO AdapterInfo)
{
    struct machine *machine = ke_machine();
    const struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    if (AdapterInfo->Version != DMA_ADAPTER_INFO_VERSION1)
        return STATUS_NOT_SUPPORTED;
    AdapterInfo->V1 = (DMA_ADAPTER_INFO_V1){
        .ReadDmaCounterAvailable = !adapter->description.Master,
        .ScatterGatherLimit = adapter->scatter_gather ? adapter->registers.count : 1,
        .DmaAddressWidth = adapter->width,
        .MinimumTransferUnit = 1,
    };
    return STATUS_SUCCESS;
}

/* Doc: wdm/nc-wdm-pget_dma_transfer_info */
static NTSTATUS get_transfer_info(PDMA_ADAPTER DmaAdapter, PMDL Mdl, ULONGLONG Offset, ULONG Length, BOOLEAN WriteOnly,
                                  PDMA_TRANSFER_INFO TransferInfo)
{
    struct machine *machine = ke_machine();
    struct dma_mapping mapping = {.adapter = dma_adapter_of(DmaAdapter), .buffer = {Mdl, Offset, Length}, .write = WriteOnly};

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    if (TransferInfo->Version != DMA_TRANSFER_INFO_VERSION1 && TransferInfo->Version != DMA_TRANSFER_INFO_VERSION2)
        return STATUS_NOT_SUPPORTED;
    if (Length == 0 || !dma_chain_holds(&mapping.buffer) || !dma_plan(&mapping))
        return STATUS_INVALID_PARAMETER;
    TransferInfo->V1 = (DMA_TRANSFER_INFO_V1){
        .MapRegisterCount = mapping.npages,
        .ScatterGatherElementCount = mapping.nelements,
        .ScatterGatherListSize = (ULONG)dma_list_bytes(mapping.nelements),
    };
    if (TransferInfo->Version == DMA_TRANSFER_INFO_VERSION2)
        TransferInfo->V2.LogicalPageCount = mapping.npages;
    return STATUS_SUCCESS;
}

/* ---- contexts ---- */

/* Doc: wdm/nc-wdm-pinitialize_dma_transfer_context */
static NTSTATUS initialize_context(PDMA_ADAPTER DmaAdapter, PVOID DmaTransferContext)
{
    struct machine *machine = ke_machine();
    struct dma_context *context = DmaTransferContext;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, HIGH_LEVEL);
    if (context == NULL)
        return STATUS_INVALID_PARAMETER;
    memset(DmaTransferContext, 0, DMA_TRANSFER_CONTEXT_SIZE_V1);
    context->state = DMA_CONTEXT_NEW;
    return STATUS_SUCCESS;
}

/* May a request be made with it? One that was cancelled beforehand ends before it begins. */
static NTSTATUS check_context(struct dma_adapter *adapter, const struct dma_context *context)
{
    uint32_t state;

    if (context == NULL)
        return STATUS_INVALID_PARAMETER;
    dma_lock(adapter);
    state = context->state;
    dma_unlock(adapter);
    if (state == DMA_CONTEXT_CANCELLED)
        return STATUS_CANCELLED;
    return state == DMA_CONTEXT_NEW ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

/* The waiting request with this context, out of the queue; NULL: there is none. */
static struct dma_request *take_waiting_locked(struct dma_adapter *adapter, const struct dma_context *context)
{
    LIST_ENTRY *waiting = &adapter->channel->waiting;

    for (PLIST_ENTRY link = waiting->Flink; link != waiting; link = link->Flink) {
        struct dma_request *request = CONTAINING_RECORD(link, struct dma_request, link);

        if (request->transfer_context != context || request->adapter != adapter)
            continue;
        RemoveEntryList(&request->link);
        if (request->kind == DMA_FOR_LIST)
            adapter->nlists--;
        else
            adapter->nchannels--;
        return request;
    }
    return NULL;
}

/* Doc: wdm/nc-wdm-pcancel_adapter_channel */
static BOOLEAN cancel_channel(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID DmaTransferContext)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    struct dma_context *context = DmaTransferContext;
    struct dma_request *request;
    bool cancelled;

    UNREFERENCED_PARAMETER(DeviceObject);
    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    dma_lock(adapter);
    request = take_waiting_locked(adapter, context);
    cancelled = request != NULL || context->state == DMA_CONTEXT_NEW;
    if (cancelled)
        context->state = DMA_CONTEXT_CANCELLED;
    dma_unlock(adapter);
    if (request != NULL) {
        dma_request_free(request);
        dma_pump(adapter->channel);
    }
    return cancelled;
}

/* ---- channels ---- */

/* Who is to go on with the resources, and when, must be clear. */
static bool is_clear(ULONG flags, bool has_routine, bool has_result)
{
    if (flags & ~(ULONG)DMA_SYNCHRONOUS_CALLBACK)
        return false;
    return flags & DMA_SYNCHRONOUS_CALLBACK ? has_routine || has_result : has_routine;
}

static NTSTATUS start(struct dma_request *request, bool now)
{
    if (!now) {
        dma_submit(request);
        return STATUS_SUCCESS;
    }
    if (dma_submit_now(request))
        return STATUS_SUCCESS;
    dma_request_free(request);
    return STATUS_INSUFFICIENT_RESOURCES;
}

/* Doc: wdm/nc-wdm-pallocate_adapter_channel_ex */
static NTSTATUS allocate_channel_ex(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID DmaTransferContext,
                                    ULONG NumberOfMapRegisters, ULONG Flags, PDRIVER_CONTROL ExecutionRoutine,
                                    PVOID ExecutionContext, PVOID *MapRegisterBase)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    const bool now = Flags & DMA_SYNCHRONOUS_CALLBACK;
    struct dma_request *request;
    NTSTATUS status;

    KE_HOOK(machine, dma_call_check, DmaAdapter, DISPATCH_LEVEL, DISPATCH_LEVEL);
    if (ke_fails(KE_FALLIBLE_AllocateAdapterChannelEx))
        return STATUS_INSUFFICIENT_RESOURCES;
    if (!is_clear(Flags, ExecutionRoutine != NULL, MapRegisterBase != NULL) || (!now && MapRegisterBase != NULL))
        return STATUS_INVALID_PARAMETER;
    status = check_context(adapter, DmaTransferContext);
    if (!NT_SUCCESS(status))
        return status;
    request = dma_request_channel(adapter, DeviceObject, NumberOfMapRegisters, ExecutionRoutine, ExecutionContext);
    if (request == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    request->transfer_context = DmaTransferContext;
    request->where = DMA_WHERE(machine);
    status = start(request, now);
    if (NT_SUCCESS(status) && MapRegisterBase != NULL)
        *MapRegisterBase = request;
    return status;
}

/* No controller here has functions of its own. Doc: wdm/nc-wdm-pconfigure_adapter_channel */
static NTSTATUS configure_channel(PDMA_ADAPTER DmaAdapter, ULONG FunctionNumber, PVOID Context)
{
    struct machine *machine = ke_machine();

    UNREFERENCED_PARAMETER(FunctionNumber);
    UNREFERENCED_PARAMETER(Context);
    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    return STATUS_NOT_IMPLEMENTED;
}

/* Doc: wdm/nc-wdm-pfree_adapter_object */
static VOID free_adapter_object(PDMA_ADAPTER DmaAdapter, IO_ALLOCATION_ACTION AllocationAction)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    if (AllocationAction == KeepObject)
        return;
    if (AllocationAction == DeallocateObject)
        KE_HOOK(machine, dma_free_channel_check, DmaAdapter);
    dma_release_channel(dma_adapter_of(DmaAdapter), AllocationAction == DeallocateObjectKeepRegisters);
}

/* ---- lists ---- */

static NTSTATUS make_list_ex(PDMA_ADAPTER DmaAdapter, ULONG flags, struct dma_list_call *call)
{
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    NTSTATUS status;

    if (!is_clear(flags, call->routine != NULL, call->out != NULL) || !adapter->description.Master)
        return STATUS_INVALID_PARAMETER;
    if (call->buffer.bytes == 0 || !dma_chain_holds(&call->buffer))
        return STATUS_INVALID_PARAMETER;
    status = check_context(adapter, call->transfer_context);
    if (!NT_SUCCESS(status))
        return status;
    call->now = flags & DMA_SYNCHRONOUS_CALLBACK;
    return dma_make_list(adapter, call);
}

/*
 * Doc: wdm/nc-wdm-pget_scatter_gather_list_ex
 *
 * DEVIATION: wdm/nc-wdm-pget_scatter_gather_list_ex: list and map registers stay until PutScatterGatherList; the page says that they are
 * released after the AdapterListControl routine, or with FreeAdapterObject once the transfer has been initiated, when the device still
 * uses them. FreeAdapterObject frees the channel only, and may be called before PutScatterGatherList, after it, or not at all.
 */
static NTSTATUS get_list_ex(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID DmaTransferContext, PMDL Mdl,
                            ULONGLONG Offset, ULONG Length, ULONG Flags, PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                            BOOLEAN WriteToDevice, PDMA_COMPLETION_ROUTINE DmaCompletionRoutine, PVOID CompletionContext,
                            PSCATTER_GATHER_LIST *ScatterGatherList)
{
    struct machine *machine = ke_machine();
    const struct ke_dma_call transfer = {
        .adapter = DmaAdapter, .mdl = Mdl, .by_offset = true, .offset = Offset, .length = Length, .write = WriteToDevice, .list = true};
    struct dma_list_call call = {
        .device = DeviceObject, .buffer = {Mdl, Offset, Length}, .routine = ExecutionRoutine, .context = Context,
        .write = WriteToDevice, .transfer_context = DmaTransferContext, .out = ScatterGatherList, .where = DMA_WHERE(machine),
    };

    UNREFERENCED_PARAMETER(DmaCompletionRoutine);
    UNREFERENCED_PARAMETER(CompletionContext);
    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_transfer_check, &transfer);
    if (ke_fails(KE_FALLIBLE_GetScatterGatherListEx))
        return STATUS_INSUFFICIENT_RESOURCES;
    return make_list_ex(DmaAdapter, Flags, &call);
}

/* Doc: wdm/nc-wdm-pbuild_scatter_gather_list_ex */
static NTSTATUS build_list_ex(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID DmaTransferContext, PMDL Mdl,
                              ULONGLONG Offset, ULONG Length, ULONG Flags, PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                              BOOLEAN WriteToDevice, PVOID ScatterGatherBuffer, ULONG ScatterGatherLength,
                              PDMA_COMPLETION_ROUTINE DmaCompletionRoutine, PVOID CompletionContext, PVOID ScatterGatherList)
{
    struct machine *machine = ke_machine();
    const struct ke_dma_call transfer = {
        .adapter = DmaAdapter, .mdl = Mdl, .by_offset = true, .offset = Offset, .length = Length, .write = WriteToDevice, .list = true};
    struct dma_list_call call = {
        .device = DeviceObject, .buffer = {Mdl, Offset, Length}, .routine = ExecutionRoutine, .context = Context,
        .write = WriteToDevice, .transfer_context = DmaTransferContext, .out = ScatterGatherList, .where = DMA_WHERE(machine),
        .own_buffer = true, .list = ScatterGatherBuffer, .list_bytes = ScatterGatherLength,
    };

    UNREFERENCED_PARAMETER(DmaCompletionRoutine);
    UNREFERENCED_PARAMETER(CompletionContext);
    KE_HOOK(machine, dma_call_check, DmaAdapter, DISPATCH_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_transfer_check, &transfer);
    if (ke_fails(KE_FALLIBLE_BuildScatterGatherListEx))
        return STATUS_INSUFFICIENT_RESOURCES;
    return make_list_ex(DmaAdapter, Flags, &call);
}

void dma_fill_version3(DMA_OPERATIONS *operations)
{
    operations->GetDmaAdapterInfo = get_adapter_info;
    operations->GetDmaTransferInfo = get_transfer_info;
    operations->InitializeDmaTransferContext = initialize_context;
    operations->AllocateAdapterChannelEx = allocate_channel_ex;
    operations->ConfigureAdapterChannel = configure_channel;
    operations->CancelAdapterChannel = cancel_channel;
    operations->GetScatterGatherListEx = get_list_ex;
    operations->BuildScatterGatherListEx = build_list_ex;
    operations->FreeAdapterObject = free_adapter_object;
}
