/* SPDX-License-Identifier: MIT */
/*
 * Scatter/gather lists: GetScatterGatherList, BuildScatterGatherList, CalculateScatterGatherList, PutScatterGatherList.
 *
 *     of ours          [ struct dma_request ][ record ][ elements ][ SCATTER_GATHER_LIST ][ elements ]      one block
 *     of the caller's  [ struct dma_request ][ record ][ elements ]        and the list in the caller's buffer
 *
 * What becomes of a list is decided by our own elements and record: a driver may write into its list and its MDLs, and some do.
 */

#include "dma/dma.h"

#include <string.h>

/* Parameter 1 of bug check 0xE6: a list that there is not. */
enum { SURPLUS_LIST = 0x06 };

size_t dma_list_bytes(uint32_t nelements)
{
    return sizeof(SCATTER_GATHER_LIST) + nelements * sizeof(SCATTER_GATHER_ELEMENT);
}

/* ---- making one ---- */

/* They depend on nothing that is still to be granted. */
static void store_direct_elements(struct dma_request *request)
{
    const struct dma_mapping *mapping = &request->mapping;

    request->nelements = mapping->nelements;
    if (mapping->nelements == 1)
        dma_store_only_run(&mapping->buffer, request->elements);
    else
        request->nelements = dma_store_elements(mapping, request->elements, mapping->nelements);
}

static struct dma_request *new_request(struct dma_adapter *adapter, const struct dma_list_call *call,
                                       const struct dma_mapping *mapping)
{
    const size_t record_bytes = dma_record_bytes(mapping), own_bytes = mapping->nelements * sizeof(SCATTER_GATHER_ELEMENT);
    const size_t list_bytes = call->own_buffer ? 0 : dma_list_bytes(mapping->nelements);
    struct dma_request *request = dma_request_new(adapter, DMA_FOR_LIST, record_bytes + own_bytes + list_bytes);

    if (request == NULL)
        return NULL;
    request->device = call->device;
    request->irp = call->device == NULL ? NULL : call->device->CurrentIrp;
    request->context = call->context;
    request->list_control = call->routine;
    request->transfer_context = call->transfer_context;
    request->where = call->where;
    request->mapping = *mapping;
    request->nregisters = mapping->npages;
    request->original = call->buffer.mdl;
    dma_record(&request->mapping, request + 1);
    request->elements = (SCATTER_GATHER_ELEMENT *)(void *)((uint8_t *)(request + 1) + record_bytes);
    request->list = call->own_buffer ? call->list : (PSCATTER_GATHER_LIST)(void *)(request->elements + mapping->nelements);
    if (mapping->direct)
        store_direct_elements(request);
    return request;
}

static NTSTATUS plan_list(struct dma_adapter *adapter, const struct dma_buffer *buffer, bool write, struct dma_mapping *mapping)
{
    *mapping = (struct dma_mapping){.adapter = adapter, .buffer = *buffer, .write = write};
    if (buffer->bytes == 0)
        return STATUS_INVALID_PARAMETER;
    if (!dma_chain_holds(buffer))
        return STATUS_BUFFER_TOO_SMALL;
    if (!dma_plan(mapping))
        return STATUS_INVALID_PARAMETER;
    return mapping->npages > adapter->registers.count ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS;
}

NTSTATUS dma_make_list(struct dma_adapter *adapter, const struct dma_list_call *call)
{
    struct dma_mapping mapping;
    PSCATTER_GATHER_LIST before = call->out == NULL ? NULL : *call->out;
    struct dma_request *request;
    NTSTATUS status = plan_list(adapter, &call->buffer, call->write, &mapping);

    if (!NT_SUCCESS(status))
        return status;
    if (call->own_buffer && call->list_bytes < dma_list_bytes(mapping.nelements))
        return STATUS_BUFFER_TOO_SMALL;
    request = new_request(adapter, call, &mapping);
    if (request == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    if (call->out != NULL)
        *call->out = request->list;
    if (!call->now)
        dma_submit(request);
    else if (!dma_submit_now(request)) {
        if (call->out != NULL)
            *call->out = before;
        dma_request_free(request);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return STATUS_SUCCESS;
}

/* Those that depend on the registers or the logical pages that the request was granted. */
static void store_granted_elements(struct dma_request *request)
{
    const uint32_t n = dma_store_elements(&request->mapping, request->elements, request->mapping.nelements);

    dma_lock(request->adapter);
    request->nelements = n;
    dma_unlock(request->adapter);
}

void dma_fill_list(struct dma_request *request)
{
    if (!request->mapping.direct)
        store_granted_elements(request);
    dma_map(&request->mapping);
    dma_program_controller(request->adapter, (struct dma_controller){
        .la = (uint64_t)request->elements[0].Address.QuadPart, .bytes = request->elements[0].Length,
        .left = request->elements[0].Length, .write = request->mapping.write, .active = true});
    request->list->NumberOfElements = request->nelements;
    request->list->Reserved = 0;
    memcpy(request->list->Elements, request->elements, request->nelements * sizeof(request->elements[0]));
    ke_count(KE_OUTSTANDING_LISTS, 1);
    ke_count(KE_LISTS_BUILT, 1);
}

/* ---- the routines ---- */

/* Doc: wdm/nc-wdm-pget_scatter_gather_list */
NTSTATUS dma_get_list(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PMDL Mdl, PVOID CurrentVa, ULONG Length,
                      PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context, BOOLEAN WriteToDevice)
{
    struct machine *machine = ke_machine();
    const struct ke_dma_call transfer = {
        .adapter = DmaAdapter, .mdl = Mdl, .va = CurrentVa, .length = Length, .write = WriteToDevice, .list = true};
    const struct dma_list_call call = {
        .device = DeviceObject, .routine = ExecutionRoutine, .context = Context, .write = WriteToDevice, .where = DMA_WHERE(machine),
        .buffer = {Mdl, dma_offset_of(Mdl, CurrentVa), Length},
    };

    KE_HOOK(machine, dma_call_check, DmaAdapter, DISPATCH_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_transfer_check, &transfer);
    if (ke_fails(KE_FALLIBLE_GetScatterGatherList))
        return STATUS_INSUFFICIENT_RESOURCES;
    return dma_make_list(dma_adapter_of(DmaAdapter), &call);
}

/* Doc: wdm/nc-wdm-pbuild_scatter_gather_list */
NTSTATUS dma_build_list(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PMDL Mdl, PVOID CurrentVa, ULONG Length,
                        PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context, BOOLEAN WriteToDevice, PVOID ScatterGatherBuffer,
                        ULONG ScatterGatherLength)
{
    struct machine *machine = ke_machine();
    const struct ke_dma_call transfer = {
        .adapter = DmaAdapter, .mdl = Mdl, .va = CurrentVa, .length = Length, .write = WriteToDevice, .list = true};
    const struct dma_list_call call = {
        .device = DeviceObject, .routine = ExecutionRoutine, .context = Context, .write = WriteToDevice, .where = DMA_WHERE(machine),
        .buffer = {Mdl, dma_offset_of(Mdl, CurrentVa), Length},
        .own_buffer = true, .list = ScatterGatherBuffer, .list_bytes = ScatterGatherLength,
    };

    KE_HOOK(machine, dma_call_check, DmaAdapter, DISPATCH_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_transfer_check, &transfer);
    if (ke_fails(KE_FALLIBLE_BuildScatterGatherList))
        return STATUS_INSUFFICIENT_RESOURCES;
    return dma_make_list(dma_adapter_of(DmaAdapter), &call);
}

static NTSTATUS give_size(const struct dma_adapter *adapter, uint64_t nelements, uint64_t nregisters, PULONG list_bytes,
                          PULONG registers)
{
    if (nregisters > adapter->registers.count)
        return STATUS_INSUFFICIENT_RESOURCES;
    *list_bytes = (ULONG)dma_list_bytes((uint32_t)nelements);
    if (registers != NULL)
        *registers = (ULONG)nregisters;
    return STATUS_SUCCESS;
}

/* Doc: wdm/nc-wdm-pcalculate_scatter_gather_list_size */
NTSTATUS dma_calculate_list(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID CurrentVa, ULONG Length, PULONG ScatterGatherListSize,
                            PULONG pNumberOfMapRegisters)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    const size_t npages = span_pages((uintptr_t)CurrentVa, Length);
    struct dma_mapping mapping;
    struct dma_buffer buffer;
    NTSTATUS status;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, HIGH_LEVEL);
    if (Mdl == NULL)
        return give_size(adapter, adapter->scatter_gather ? npages : 1, npages, ScatterGatherListSize, pNumberOfMapRegisters);
    buffer = (struct dma_buffer){Mdl, dma_offset_of(Mdl, CurrentVa), Length};
    status = plan_list(adapter, &buffer, true, &mapping);
    if (!NT_SUCCESS(status))
        return status;
    return give_size(adapter, mapping.nelements, mapping.npages, ScatterGatherListSize, pNumberOfMapRegisters);
}

/* ---- giving one back ---- */

static struct dma_request *end_locked(struct dma_adapter *adapter, const void *list)
{
    struct dma_request *request = dma_find_locked(adapter, list);

    if (request == NULL || request->kind != DMA_FOR_LIST || request->ended)
        ke_bug_check(DRIVER_VERIFIER_DMA_VIOLATION, SURPLUS_LIST, adapter->lists_made, adapter->lists_put + 1, 0);
    request->ended = true;
    adapter->lists_put++;
    adapter->nlists--;
    dma_release_for_list_locked(request);
    return request;
}

static void free_target(struct machine *machine, PMDL mdl)
{
    while (mdl != NULL) {
        PMDL next = mdl->Next;

        if (mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA))
            mdl_unmap_system(machine, mdl);
        mdl_destroy(machine, mdl);
        mdl = next;
    }
}

static struct dma_request *retire_locked(struct dma_request *request)
{
    dma_retire_locked(request);
    return dma_grant_next_locked(request->adapter->channel);
}

/* Nothing was copied, and nobody wants to know later what the list covered. */
static bool leaves_no_trace(const struct machine *machine, const struct dma_request *request)
{
    return request->mapping.direct && machine->options.verifier == 0;
}

/* Copies go to where they belong before registers and logical pages are anyone else's. */
static struct dma_request *bring_back(struct machine *machine, struct dma_request *request)
{
    struct dma_request *next;

    dma_remember_list(request->adapter, request);
    dma_unmap(&request->mapping);
    free_target(machine, request->target);
    dma_lock(request->adapter);
    next = retire_locked(request);
    dma_unlock(request->adapter);
    return next;
}

/* Doc: wdm/nc-wdm-pput_scatter_gather_list */
VOID dma_put_list(PDMA_ADAPTER DmaAdapter, PSCATTER_GATHER_LIST ScatterGather, BOOLEAN WriteToDevice)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    struct dma_request *request, *next = NULL;
    bool over;

    KE_HOOK(machine, dma_call_check, DmaAdapter, DISPATCH_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_put_list_check, DmaAdapter, ScatterGather, WriteToDevice);
    dma_lock(adapter);
    request = end_locked(adapter, ScatterGather);
    over = leaves_no_trace(machine, request);
    if (over)
        next = retire_locked(request);
    dma_unlock(adapter);
    if (!over)
        next = bring_back(machine, request);
    dma_request_free(request);
    ke_count(KE_OUTSTANDING_LISTS, -1);
    dma_run(next);
}
