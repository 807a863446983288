/* SPDX-License-Identifier: MIT */
/*
 * The channel of an adapter, and the requests that wait for it: AllocateAdapterChannel, FreeAdapterChannel, FreeMapRegisters.
 *
 *     submit -> waiting, in order -> granted: registers taken, routine runs -> channel free for the next
 *                                                                           -> registers kept until they are given back
 *
 * A request is granted when it is the oldest, nobody has the channel, and its registers are free in one run. Whoever frees a
 * channel or registers starts those who can be started then, on its own thread, one after the other: a routine that makes a
 * new request finds the channel taken, and no stack grows. A request that arrives meanwhile is seen by the same loop.
 */

#include "dma/dma.h"

#include <stdlib.h>
#include <string.h>

/* Parameter 1 of bug check 0xE6 where there is nothing sensible to go on with, verifier or not. */
enum { SURPLUS_CHANNEL = 0x04, SURPLUS_REGISTERS = 0x05 };

void dma_lock(struct dma_adapter *adapter)
{
    host_mutex_lock(&adapter->channel->lock);
}

void dma_unlock(struct dma_adapter *adapter)
{
    host_mutex_unlock(&adapter->channel->lock);
}

void dma_channel_init(struct dma_channel *channel)
{
    host_mutex_init(&channel->lock);
    InitializeListHead(&channel->waiting);
}

void dma_channel_destroy(struct dma_channel *channel)
{
    host_mutex_destroy(&channel->lock);
}

/* ---- requests ---- */

struct dma_request *dma_request_new(struct dma_adapter *adapter, enum dma_kind kind, size_t extra_bytes)
{
    struct dma_request *request = ke_internal_fails() ? NULL : malloc(sizeof(*request) + extra_bytes);

    if (request == NULL)
        return NULL;
    memset(request, 0, sizeof(*request));
    request->adapter = adapter;
    request->kind = kind;
    request->first_register = DMA_NO_REGISTER;
    return request;
}

struct dma_request *dma_request_channel(struct dma_adapter *adapter, PDEVICE_OBJECT device, ULONG nregisters,
                                        PDRIVER_CONTROL routine, PVOID context)
{
    struct dma_request *request = nregisters > adapter->registers.count ? NULL : dma_request_new(adapter, DMA_FOR_CHANNEL, 0);

    if (request == NULL)
        return NULL;
    request->device = device;
    request->irp = device == NULL ? NULL : device->CurrentIrp;
    request->control = routine;
    request->context = context;
    request->nregisters = nregisters;
    return request;
}

void dma_request_free(struct dma_request *request)
{
    for (uint32_t i = 0; i < request->nsegments; i++)
        dma_record_free(&request->segments[i].mapping);
    free(request->segments);
    free(request);
}

static const void *handle_of(const struct dma_request *request)
{
    return request->kind == DMA_FOR_LIST ? (const void *)request->list : request;
}

static struct dma_request **bucket_of(struct dma_adapter *adapter, const void *handle)
{
    return &adapter->by_handle[((uintptr_t)handle >> 4) * 0x9E3779B97F4A7C15ull >> 56];
}
_Static_assert(DMA_BUCKETS == 256, "the top 8 bits choose a bucket");

struct dma_request *dma_find_locked(struct dma_adapter *adapter, const void *handle)
{
    struct dma_request *request = *bucket_of(adapter, handle);

    while (request != NULL && handle_of(request) != handle)
        request = request->next_by_handle;
    return request;
}

static void book_locked(struct dma_request *request)
{
    struct dma_adapter *adapter = request->adapter;
    struct dma_request **bucket = bucket_of(adapter, handle_of(request));

    InsertTailList(&adapter->requests, &request->link);
    request->next_by_handle = *bucket;
    *bucket = request;
}

static void unbook_locked(struct dma_request *request)
{
    struct dma_request **link = bucket_of(request->adapter, handle_of(request));

    while (*link != request)
        link = &(*link)->next_by_handle;
    *link = request->next_by_handle;
    RemoveEntryList(&request->link);
    if (request->adapter->hint == request)
        request->adapter->hint = NULL;
}

static uint32_t la_pages_of(const struct dma_request *request)
{
    if (request->adapter->domain == NULL)
        return 0;
    return request->kind == DMA_FOR_LIST ? dma_la_pages_needed(&request->mapping) : request->nregisters;
}

static bool take_logical_pages(struct dma_request *request)
{
    const uint32_t npages = la_pages_of(request);

    if (npages == 0)
        return true;
    if (!dma_domain_take_for_transfer(request->adapter->domain, npages, &request->mapping.la_first))
        return false;
    request->mapping.la_pages = npages;
    return true;
}

/* What the request needs beside the channel, or nothing. */
static bool take_locked(struct dma_request *request)
{
    struct dma_adapter *adapter = request->adapter;

    if (adapter->has_registers && request->nregisters != 0) {
        request->first_register = dma_registers_take(&adapter->registers, request->nregisters);
        if (request->first_register == DMA_NO_REGISTER)
            return false;
    }
    if (take_logical_pages(request))
        return true;
    if (request->first_register != DMA_NO_REGISTER)
        dma_registers_give(&adapter->registers, request->first_register, request->nregisters);
    request->first_register = DMA_NO_REGISTER;
    return false;
}

static void give_locked(struct dma_request *request)
{
    struct dma_adapter *adapter = request->adapter;

    if (request->first_register != DMA_NO_REGISTER)
        dma_registers_give(&adapter->registers, request->first_register, request->nregisters);
    request->first_register = DMA_NO_REGISTER;
    if (request->mapping.la_pages != 0)
        dma_domain_give(adapter->domain, request->mapping.la_first, request->mapping.la_pages);
    request->mapping.la_pages = 0;
}

void dma_retire_locked(struct dma_request *request)
{
    give_locked(request);
    unbook_locked(request);
    if (request->kind == DMA_FOR_CHANNEL)
        request->adapter->nregisters_out -= request->nregisters;
}

/* ---- granting ---- */

static void grant_locked(struct dma_channel *channel, struct dma_request *request)
{
    channel->busy = true;
    request->in_routine = true;
    request->mapping.first_register = request->first_register == DMA_NO_REGISTER ? 0 : request->first_register;
    if (request->transfer_context != NULL)
        request->transfer_context->state = DMA_CONTEXT_GRANTED;
    if (request->kind == DMA_FOR_CHANNEL)
        request->adapter->nregisters_out += request->nregisters;
    else
        request->adapter->lists_made++;
    if (request->first_register != DMA_NO_REGISTER)
        ke_count(KE_MAP_REGISTERS_USED, request->nregisters);
    book_locked(request);
}

struct dma_request *dma_grant_next_locked(struct dma_channel *channel)
{
    struct dma_request *request;

    if (channel->busy || IsListEmpty(&channel->waiting))
        return NULL;
    request = CONTAINING_RECORD(channel->waiting.Flink, struct dma_request, link);
    if (!take_locked(request))
        return NULL;
    RemoveEntryList(&request->link);
    grant_locked(channel, request);
    return request;
}

static void free_channel_locked(struct dma_channel *channel)
{
    channel->busy = false;
    channel->holder = NULL;
}

/* A channel request's routine has said what it wants to keep; who is next. */
static struct dma_request *settle(struct dma_request *request, IO_ALLOCATION_ACTION action)
{
    struct dma_adapter *adapter = request->adapter;
    struct dma_channel *channel = adapter->channel;
    struct dma_request *next;
    bool over;

    dma_lock(adapter);
    request->in_routine = false;
    over = request->ended || (action != KeepObject && (action == DeallocateObject || request->nregisters == 0));
    if (action == KeepObject && !over)
        channel->holder = request;
    else
        free_channel_locked(channel);
    if (channel->holder != request)
        adapter->nchannels--;
    if (over && !request->ended)
        dma_retire_locked(request);
    next = dma_grant_next_locked(channel);
    dma_unlock(adapter);
    if (over)
        dma_request_free(request);
    return next;
}

static struct dma_request *run_for_channel(struct dma_request *request)
{
    IO_ALLOCATION_ACTION action = KeepObject;

    if (request->control != NULL)
        action = request->control(request->device, request->irp, request, request->context);
    return settle(request, action);
}

/* The routine may give the list back: the request is not touched after it. */
static struct dma_request *run_for_list(struct dma_request *request)
{
    struct dma_channel *channel = request->adapter->channel;
    const PDRIVER_LIST_CONTROL routine = request->list_control;
    struct dma_request *next;

    dma_fill_list(request);
    if (routine != NULL)
        routine(request->device, request->irp, request->list, request->context);
    host_mutex_lock(&channel->lock);
    if (routine != NULL)
        free_channel_locked(channel);
    else
        channel->holder = request;
    next = dma_grant_next_locked(channel);
    host_mutex_unlock(&channel->lock);
    return next;
}

void dma_run(struct dma_request *request)
{
    const KIRQL irql = ke_self()->irql;

    if (request == NULL)
        return;
    if (irql < DISPATCH_LEVEL)
        KeRaiseIrqlToDpcLevel();
    while (request != NULL)
        request = request->kind == DMA_FOR_LIST ? run_for_list(request) : run_for_channel(request);
    if (irql < DISPATCH_LEVEL)
        KeLowerIrql(irql);
}

void dma_pump(struct dma_channel *channel)
{
    struct dma_request *next;

    host_mutex_lock(&channel->lock);
    next = dma_grant_next_locked(channel);
    host_mutex_unlock(&channel->lock);
    dma_run(next);
}

static void count_submitted_locked(struct dma_request *request)
{
    if (request->kind == DMA_FOR_LIST)
        request->adapter->nlists++;
    else
        request->adapter->nchannels++;
}

void dma_submit(struct dma_request *request)
{
    struct dma_channel *channel = request->adapter->channel;
    struct dma_request *next;

    host_mutex_lock(&channel->lock);
    count_submitted_locked(request);
    if (request->transfer_context != NULL)
        request->transfer_context->state = DMA_CONTEXT_WAITING;
    InsertTailList(&channel->waiting, &request->link);
    next = dma_grant_next_locked(channel);
    host_mutex_unlock(&channel->lock);
    dma_run(next);
}

bool dma_submit_now(struct dma_request *request)
{
    struct dma_channel *channel = request->adapter->channel;
    bool granted;

    host_mutex_lock(&channel->lock);
    granted = !channel->busy && IsListEmpty(&channel->waiting) && take_locked(request);
    if (granted) {
        count_submitted_locked(request);
        grant_locked(channel, request);
    }
    host_mutex_unlock(&channel->lock);
    if (!granted)
        return false;
    dma_run(request);
    return true;
}

/* ---- the routines ---- */

/* Doc: wdm/nc-wdm-pallocate_adapter_channel */
NTSTATUS dma_allocate_channel(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, ULONG NumberOfMapRegisters,
                              PDRIVER_CONTROL ExecutionRoutine, PVOID Context)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    struct dma_request *request;

    KE_HOOK(machine, dma_call_check, DmaAdapter, DISPATCH_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_channel_check, DmaAdapter, DeviceObject);
    if (ke_fails(KE_FALLIBLE_AllocateAdapterChannel))
        return STATUS_INSUFFICIENT_RESOURCES;
    request = dma_request_channel(adapter, DeviceObject, NumberOfMapRegisters, ExecutionRoutine, Context);
    if (request == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    request->where = DMA_WHERE(machine);
    dma_submit(request);
    return STATUS_SUCCESS;
}

/* The holder's request: gone with its registers, unless it is a list, which PutScatterGatherList ends. */
static struct dma_request *release_holder_locked(struct dma_channel *channel, bool keep_registers)
{
    struct dma_request *holder = channel->holder;

    free_channel_locked(channel);
    holder->in_routine = false;
    if (holder->kind == DMA_FOR_LIST)
        return NULL;
    holder->adapter->nchannels--;
    if (keep_registers && holder->nregisters != 0)
        return NULL;
    dma_retire_locked(holder);
    return holder;
}

struct dma_request *dma_holder_locked(const struct dma_adapter *adapter)
{
    struct dma_request *holder = adapter->channel->holder;

    return holder != NULL && holder->adapter == adapter ? holder : NULL;
}

void dma_release_for_list_locked(const struct dma_request *request)
{
    if (request->adapter->channel->holder != request)
        return;
    free_channel_locked(request->adapter->channel);
    request->adapter->free_is_due = true;
}

/* A driver may give its list back before it calls FreeAdapterObject, or after. */
void dma_release_channel(struct dma_adapter *adapter, bool keep_registers)
{
    struct dma_channel *channel = adapter->channel;
    struct dma_request *ended = NULL;

    dma_lock(adapter);
    if (dma_holder_locked(adapter) != NULL)
        ended = release_holder_locked(channel, keep_registers);
    else if (adapter->free_is_due)
        adapter->free_is_due = false;
    else
        ke_bug_check(DRIVER_VERIFIER_DMA_VIOLATION, SURPLUS_CHANNEL, 1, 0, 0);
    dma_unlock(adapter);
    if (ended != NULL)
        dma_request_free(ended);
    dma_pump(channel);
}

/* Doc: wdm/nc-wdm-pfree_adapter_channel */
VOID dma_free_channel(PDMA_ADAPTER DmaAdapter)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, dma_call_check, DmaAdapter, DISPATCH_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_free_channel_check, DmaAdapter);
    dma_release_channel(dma_adapter_of(DmaAdapter), false);
}

/* A request for no registers keeps none, and is over with its routine: freeing them does nothing. Doc: wdm/nc-wdm-pfree_map_registers */
VOID dma_free_registers(PDMA_ADAPTER DmaAdapter, PVOID MapRegisterBase, ULONG NumberOfMapRegisters)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    struct dma_request *request;
    bool in_routine;

    KE_HOOK(machine, dma_call_check, DmaAdapter, DISPATCH_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_free_registers_check, DmaAdapter, MapRegisterBase, NumberOfMapRegisters);
    if (NumberOfMapRegisters == 0)
        return;
    dma_lock(adapter);
    request = dma_find_locked(adapter, MapRegisterBase);
    if (request == NULL || request->kind != DMA_FOR_CHANNEL || request == adapter->channel->holder)
        ke_bug_check(DRIVER_VERIFIER_DMA_VIOLATION, SURPLUS_REGISTERS, NumberOfMapRegisters, 0, 0);
    in_routine = request->in_routine;
    request->ended = true;
    dma_retire_locked(request);
    dma_unlock(adapter);
    if (!in_routine)
        dma_request_free(request);
    dma_pump(adapter->channel);
}
