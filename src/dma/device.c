/* SPDX-License-Identifier: MIT */
/*
 * Memory as a device sees it, and what happens when it touches what it should not.
 *
 *     dma=remapped   every access goes through the adapter's domain: what is not mapped there now, or not for this
 *                    direction, is a fault. With the verifier on, down to the byte
 *     dma=identity   no IOMMU stands in the way: the device may touch any memory that it can address. With the verifier on,
 *                    what a list or a buffer of this adapter covered until a while ago is a fault all the same
 *
 * A fault moves nothing, is STATUS_ACCESS_VIOLATION for the device, and a warning that names the list.
 */

#include "dma/dma.h"

#include <stdlib.h>
#include <string.h>

/* ---- what is mapped now ---- */

/* Does [start, start + bytes) hold la? How much of it follows. */
static uint64_t rest_of(uint64_t start, uint64_t bytes, uint64_t la)
{
    return la - start < bytes ? bytes - (la - start) : 0;
}

static uint64_t rest_of_element(const SCATTER_GATHER_ELEMENT *element, uint64_t la)
{
    return rest_of((uint64_t)element->Address.QuadPart, element->Length, la);
}

static uint64_t covered_by_list(struct dma_adapter *adapter, struct dma_request *request, uint32_t from, uint32_t to, uint64_t la)
{
    for (uint32_t i = from; i < to && i < request->nelements; i++) {
        const uint64_t rest = rest_of_element(&request->elements[i], la);

        if (rest == 0)
            continue;
        adapter->hint = request;
        adapter->hint_element = i;
        return rest;
    }
    return 0;
}

static uint64_t covered_by_request(struct dma_adapter *adapter, struct dma_request *request, uint64_t la)
{
    uint64_t rest = 0;

    if (request->kind == DMA_FOR_LIST)
        return covered_by_list(adapter, request, 0, request->nelements, la);
    for (uint32_t i = 0; i < request->nsegments && rest == 0; i++)
        rest = rest_of(request->segments[i].la, request->segments[i].bytes, la);
    return rest;
}

/* A device goes through its list in order: the next element is tried before all others. */
static uint64_t covered_locked(struct dma_adapter *adapter, uint64_t la)
{
    uint64_t rest = 0;

    if (adapter->hint != NULL)
        rest = covered_by_list(adapter, adapter->hint, adapter->hint_element, adapter->hint_element + 2, la);
    for (PLIST_ENTRY link = adapter->requests.Flink; link != &adapter->requests && rest == 0; link = link->Flink)
        rest = covered_by_request(adapter, CONTAINING_RECORD(link, struct dma_request, link), la);
    for (PLIST_ENTRY link = adapter->buffers.Flink; link != &adapter->buffers && rest == 0; link = link->Flink) {
        const struct dma_common_buffer *buffer = CONTAINING_RECORD(link, struct dma_common_buffer, link);

        rest = rest_of(buffer->la, buffer->bytes, la);
    }
    return rest;
}

/* How many bytes from la on are mapped for this adapter, as drivers see it; 0: la is not. */
static uint64_t covered(struct dma_adapter *adapter, uint64_t la)
{
    uint64_t rest;

    dma_lock(adapter);
    rest = covered_locked(adapter, la);
    dma_unlock(adapter);
    return rest;
}

/* ---- what was mapped before ---- */

static void push_past(struct machine *machine, struct dma_past entry)
{
    struct dma_state *dma = machine->dma;
    struct dma_past *slot;

    host_mutex_lock(&dma->lock);
    slot = &dma->past[dma->npast++ % DMA_HISTORY];
    free(slot->elements);
    *slot = entry;
    host_mutex_unlock(&dma->lock);
}

static void remember(struct dma_past entry, const SCATTER_GATHER_ELEMENT *elements)
{
    struct machine *machine = &ke_the_machine;

    if (machine->options.verifier == 0 || entry.nelements == 0)
        return;
    entry.elements = malloc(entry.nelements * sizeof(*elements));
    if (entry.elements == NULL)
        return;                         /* a report will say less, nothing else */
    memcpy(entry.elements, elements, entry.nelements * sizeof(*elements));
    push_past(machine, entry);
}

void dma_remember_list(struct dma_adapter *adapter, const struct dma_request *request)
{
    remember((struct dma_past){.adapter = adapter, .list = request->list, .where = request->where, .nelements = request->nelements},
             request->elements);
}

void dma_remember_range(struct dma_adapter *adapter, uint64_t la, uint64_t bytes, const void *where)
{
    const SCATTER_GATHER_ELEMENT element = {.Address.QuadPart = (LONGLONG)la, .Length = (ULONG)bytes};

    remember((struct dma_past){.adapter = adapter, .where = where, .nelements = 1}, &element);
}

void dma_forget_past(struct machine *machine)
{
    for (size_t i = 0; i < DMA_HISTORY; i++) {
        free(machine->dma->past[i].elements);
        machine->dma->past[i].elements = NULL;
    }
}

static bool holds(const struct dma_past *past, uint64_t la)
{
    for (uint32_t i = 0; i < past->nelements && past->elements != NULL; i++)
        if (rest_of_element(&past->elements[i], la) != 0)
            return true;
    return false;
}

/* The newest thing of this adapter that covered la. */
static bool find_past(const struct dma_adapter *adapter, uint64_t la, struct dma_past *out)
{
    struct dma_state *dma = ke_the_machine.dma;
    bool found = false;

    host_mutex_lock(&dma->lock);
    for (uint32_t age = 1; age <= DMA_HISTORY && age <= dma->npast && !found; age++) {
        const struct dma_past *past = &dma->past[(dma->npast - age) % DMA_HISTORY];

        found = past->adapter == adapter && holds(past, la);
        if (found)
            *out = *past;
    }
    host_mutex_unlock(&dma->lock);
    return found;
}

/* ---- faults ---- */

static void report_fault(const struct dma_adapter *adapter, uint64_t la, unsigned access)
{
    const char *verb = access & DMA_DEVICE_WRITES ? "wrote to" : "read from";
    const struct machine *machine = &ke_the_machine;
    struct dma_past past;

    if (!find_past(adapter, la, &past)) {
        ke_warn("dma-fault", "the device of adapter %p %s logical address 0x%llX, which is not mapped for it and has not been lately",
                (const void *)adapter, verb, (unsigned long long)la);
        return;
    }
    if (past.list != NULL)
        ke_warn("dma-fault", "the device of adapter %p %s logical address 0x%llX, which scatter/gather list %p covered until it was "
                "given back; stop the device before PutScatterGatherList", (const void *)adapter, verb, (unsigned long long)la, past.list);
    else
        ke_warn("dma-fault", "the device of adapter %p %s logical address 0x%llX, which a transfer or common buffer covered until it "
                "was flushed or freed; stop the device first", (const void *)adapter, verb, (unsigned long long)la);
    if (machine->hooks.tell_stack != NULL)
        machine->hooks.tell_stack("mapped at", past.where);
}

/* ---- from a logical address to the memory behind it ---- */

static bool is_alone_in_domain(const struct dma_adapter *adapter)
{
    return adapter->domain == adapter->own_domain && adapter->domain->uses == 1;
}

/* How many bytes the access may go on for at most; 0: fault. */
static uint64_t allowed_remapped(struct dma_adapter *adapter, uint64_t la)
{
    if (ke_the_machine.options.verifier == 0 || !is_alone_in_domain(adapter))
        return UINT64_MAX;
    return covered(adapter, la);
}

static bool covered_by_anyone(uint64_t la)
{
    struct dma_state *dma = ke_the_machine.dma;
    bool found = false;

    host_mutex_lock(&dma->lock);
    for (struct dma_adapter *adapter = dma->adapters; adapter != NULL && !found; adapter = adapter->next)
        found = covered(adapter, la) != 0;
    host_mutex_unlock(&dma->lock);
    return found;
}

static bool is_addressable(const struct dma_adapter *adapter, uint64_t la)
{
    uint32_t page;

    return la >> SPAN_PAGE_SHIFT < dma_reach(adapter) && mm_page_of_pfn(&ke_the_machine, la >> SPAN_PAGE_SHIFT, &page);
}

static uint64_t rest_of_page(uint64_t la)
{
    return SPAN_PAGE_SIZE - (la & SPAN_PAGE_MASK);
}

/* Without a verifier nobody asks what the adapter's books say of memory that the device reaches. */
static uint64_t allowed_identity(struct dma_adapter *adapter, uint64_t la)
{
    struct dma_past past;
    uint64_t rest;

    if (ke_the_machine.options.verifier == 0 && is_addressable(adapter, la))
        return rest_of_page(la);
    rest = covered(adapter, la);
    if (rest != 0)
        return rest;
    if (!is_addressable(adapter, la) || (find_past(adapter, la, &past) && !covered_by_anyone(la)))
        return 0;
    return rest_of_page(la);
}

static bool translate(const struct dma_adapter *adapter, uint64_t la, unsigned access, PFN_NUMBER *pfn)
{
    *pfn = la >> SPAN_PAGE_SHIFT;
    return adapter->domain == NULL || dma_domain_translate(adapter->domain, *pfn, access, pfn);
}

/* Where la's page is in this process, NULL for nowhere. */
static uint8_t *page_at(const struct dma_adapter *adapter, uint64_t la, unsigned access)
{
    PFN_NUMBER pfn;

    return translate(adapter, la, access, &pfn) ? dma_page_va(&ke_the_machine, pfn) : NULL;
}

size_t dma_device_run(struct dma_adapter *adapter, uint64_t la, size_t bytes, unsigned access, uint8_t **va)
{
    const uint64_t most = adapter->domain != NULL ? allowed_remapped(adapter, la) : allowed_identity(adapter, la);
    uint8_t *page = most == 0 ? NULL : page_at(adapter, la, access);
    size_t run;

    if (page == NULL) {
        report_fault(adapter, la, access);
        return 0;
    }
    if (bytes > most)
        bytes = most;
    *va = page + (la & SPAN_PAGE_MASK);
    run = SPAN_PAGE_SIZE - (la & SPAN_PAGE_MASK);
    while (run < bytes && page_at(adapter, la + run, access) == *va + run)
        run += SPAN_PAGE_SIZE;
    return run < bytes ? run : bytes;
}

/* ---- the device's own accesses ---- */

struct move {
    struct dma_adapter *adapter;
    uint64_t            la;
    uint8_t            *bytes;          /* NULL: only find out whether it may be */
    size_t              left;
    unsigned            access;
};

static void copy_run(struct move *move, uint8_t *va, size_t run)
{
    if (move->bytes == NULL)
        return;
    if (move->access == DMA_DEVICE_READS)
        memcpy(move->bytes, va, run);
    else
        memcpy(va, move->bytes, run);
    move->bytes += run;
}

static NTSTATUS go_through(struct move move)
{
    while (move.left > 0) {
        uint8_t *va;
        const size_t run = dma_device_run(move.adapter, move.la, move.left, move.access, &va);

        if (run == 0)
            return STATUS_ACCESS_VIOLATION;
        copy_run(&move, va, run);
        move.la += run;
        move.left -= run;
    }
    return STATUS_SUCCESS;
}

static void copy_all(void *context)
{
    go_through(*(const struct move *)context);
}

/* Host memory may be gone: then the copy raises. */
static NTSTATUS access_memory(struct move move)
{
    struct move trial = move;
    NTSTATUS status;

    trial.bytes = NULL;
    status = go_through(trial);
    return NT_SUCCESS(status) ? pinion_try(copy_all, &move) : status;
}

/* ---- a subordinate device: the controller counts, and knows the address ---- */

static bool take_from_controller(struct move *move, struct dma_controller *after)
{
    struct dma_adapter *adapter = move->adapter;
    struct dma_controller *controller = &adapter->controller;
    bool fits;

    dma_lock(adapter);
    fits = controller->active && controller->left >= move->left && controller->write == (move->access == DMA_DEVICE_READS);
    if (fits) {
        move->la = controller->la + (controller->bytes - controller->left);
        controller->left -= (uint32_t)move->left;
        *after = *controller;
        if (controller->left == 0 && adapter->description.AutoInitialize)
            controller->left = controller->bytes;
    }
    dma_unlock(adapter);
    return fits;
}

void dma_tell_completion(struct dma_adapter *adapter, const struct dma_controller *program, DMA_COMPLETION_STATUS status)
{
    const KIRQL irql = ke_self()->irql;

    if (program->done == NULL)
        return;
    if (irql < DISPATCH_LEVEL)
        KeRaiseIrqlToDpcLevel();
    program->done(&adapter->object, program->device, program->done_context, status);
    if (irql < DISPATCH_LEVEL)
        KeLowerIrql(irql);
}

static NTSTATUS access_by_controller(struct move move)
{
    struct dma_controller after;
    NTSTATUS status;

    if (!take_from_controller(&move, &after)) {
        ke_warn("dma-fault", "the device of adapter %p asked the DMA controller for %zu bytes that no transfer is set up for",
                (void *)move.adapter, move.left);
        return STATUS_ACCESS_VIOLATION;
    }
    status = access_memory(move);
    if (after.left == 0)
        dma_tell_completion(move.adapter, &after, NT_SUCCESS(status) ? DmaComplete : DmaError);
    return status;
}

static NTSTATUS access_as_device(struct move move)
{
    return move.adapter->description.Master ? access_memory(move) : access_by_controller(move);
}

NTSTATUS pinion_device_read(PDMA_ADAPTER adapter, uint64_t la, void *out, size_t bytes)
{
    ke_machine();
    return access_as_device((struct move){dma_adapter_of(adapter), la, out, bytes, DMA_DEVICE_READS});
}

NTSTATUS pinion_device_write(PDMA_ADAPTER adapter, uint64_t la, const void *in, size_t bytes)
{
    ke_machine();
    return access_as_device((struct move){dma_adapter_of(adapter), la, (uint8_t *)(uintptr_t)in, bytes, DMA_DEVICE_WRITES});
}
