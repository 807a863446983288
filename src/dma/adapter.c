/* SPDX-License-Identifier: MIT */
/* Adapters: IoGetDmaAdapter, PutDmaAdapter, GetDmaAlignment; what a DEVICE_DESCRIPTION comes to. */

#include "dma/dma.h"

#include <stdlib.h>

enum { SYSTEM_WIDTH = 24, LEAST_WIDTH = 14, LOGICAL_PAGES = 1 << 20, FIRST_LOGICAL_PAGE = 0x100 };

/* ---- the description ---- */

/* 1 to 3; 0: this Windows has none such. */
static unsigned version_of(const struct machine *machine, const DEVICE_DESCRIPTION *description)
{
    switch (description->Version) {
    case DEVICE_DESCRIPTION_VERSION:
    case DEVICE_DESCRIPTION_VERSION1:
        return 1;
    case DEVICE_DESCRIPTION_VERSION2:
        return machine->options.windows >= KE_WINDOWS_XP ? 2 : 0;
    case DEVICE_DESCRIPTION_VERSION3:
        return machine->options.windows >= KE_WINDOWS_8 ? 3 : 0;
    default:
        return 0;
    }
}

/* A device whose bus the driver does not know sits on PCI here. */
static bool is_pci(const DEVICE_DESCRIPTION *description)
{
    return description->InterfaceType == PCIBus || description->InterfaceType == InterfaceTypeUndefined;
}

/* Address bits; 0: the description is not valid. */
static unsigned width_of(const DEVICE_DESCRIPTION *description)
{
    if (!description->Master)
        return SYSTEM_WIDTH;
    if (description->Version == DEVICE_DESCRIPTION_VERSION3)
        return description->DmaAddressWidth <= 64 ? description->DmaAddressWidth : 0;
    if (description->Dma64BitAddresses)
        return 64;
    if (description->Dma32BitAddresses || (description->ScatterGather && is_pci(description)))
        return 32;
    return SYSTEM_WIDTH;
}

static ULONG system_line(const DEVICE_DESCRIPTION *description)
{
    return description->Version == DEVICE_DESCRIPTION_VERSION3 ? description->DmaRequestLine : description->DmaChannel;
}

static bool is_valid(const struct dma_adapter *adapter)
{
    if (adapter->version == 0 || adapter->width < LEAST_WIDTH)
        return false;
    return adapter->description.Master || system_line(&adapter->description) < DMA_SYSTEM_CHANNELS;
}

/* ---- the table ---- */

static ULONG size_of_version3(enum ke_windows windows)
{
    return windows >= KE_WINDOWS_10 ? (ULONG)sizeof(DMA_OPERATIONS) : (ULONG)offsetof(DMA_OPERATIONS, AllocateDomainCommonBuffer);
}

static void fill_version1(DMA_OPERATIONS *operations)
{
    operations->Size = offsetof(DMA_OPERATIONS, CalculateScatterGatherList);
    operations->PutDmaAdapter = dma_put_adapter;
    operations->AllocateCommonBuffer = dma_allocate_common_buffer;
    operations->FreeCommonBuffer = dma_free_common_buffer;
    operations->AllocateAdapterChannel = dma_allocate_channel;
    operations->FlushAdapterBuffers = dma_flush_buffers;
    operations->FreeAdapterChannel = dma_free_channel;
    operations->FreeMapRegisters = dma_free_registers;
    operations->MapTransfer = dma_map_transfer;
    operations->GetDmaAlignment = dma_get_alignment;
    operations->ReadDmaCounter = dma_read_counter;
    operations->GetScatterGatherList = dma_get_list;
    operations->PutScatterGatherList = dma_put_list;
}

static void fill_version2(DMA_OPERATIONS *operations)
{
    operations->Size = offsetof(DMA_OPERATIONS, GetDmaAdapterInfo);
    operations->CalculateScatterGatherList = dma_calculate_list;
    operations->BuildScatterGatherList = dma_build_list;
    operations->BuildMdlFromScatterGatherList = dma_build_mdl;
}

static void fill_operations(struct dma_adapter *adapter, enum ke_windows windows)
{
    fill_version1(&adapter->operations);
    if (adapter->version >= 2)
        fill_version2(&adapter->operations);
    if (adapter->version >= 3) {
        adapter->operations.Size = size_of_version3(windows);
        dma_fill_version3(&adapter->operations);
        dma_fill_transfer3(&adapter->operations);
        dma_fill_buffers3(&adapter->operations, windows >= KE_WINDOWS_10);
    }
}

/* ---- making one ---- */

static struct dma_domain *new_domain(const struct dma_adapter *adapter)
{
    if (adapter->width >= 32)
        return dma_domain_new(FIRST_LOGICAL_PAGE, LOGICAL_PAGES - FIRST_LOGICAL_PAGE);
    return dma_domain_new(1, (1u << (adapter->width - SPAN_PAGE_SHIFT)) - 1);
}

static bool open_domain(const struct machine *machine, struct dma_adapter *adapter)
{
    if (!machine->options.dma_remapped)
        return true;
    adapter->own_domain = adapter->domain = new_domain(adapter);
    return adapter->domain != NULL;
}

static uint32_t at_most(uint32_t n, uint32_t most)
{
    return n < most ? n : most;
}

/* One register more than MaximumLength fills pages: a buffer need not start with a page. */
static bool open_registers(struct machine *machine, struct dma_adapter *adapter)
{
    const uint32_t wanted = (uint32_t)span_bytes_to_pages(adapter->description.MaximumLength) + 1;

    const uint32_t most = adapter->domain == NULL ? DMA_MOST_REGISTERS : at_most(adapter->domain->npages / 4, DMA_MOST_REGISTERS);

    adapter->has_registers = !adapter->scatter_gather || (adapter->domain == NULL && adapter->width < 64);
    if (adapter->has_registers)
        return dma_registers_new(machine, &adapter->registers, at_most(wanted, most),
                                 adapter->domain != NULL ? MM_NO_PFN : dma_reach(adapter));
    adapter->registers.count = adapter->domain == NULL ? wanted : at_most(wanted, adapter->domain->npages / 4);
    return true;
}

static struct dma_adapter *new_adapter(struct machine *machine, PDEVICE_OBJECT device, const DEVICE_DESCRIPTION *description)
{
    struct dma_adapter *adapter = ke_internal_fails() ? NULL : calloc(1, sizeof(*adapter));

    if (adapter == NULL)
        return NULL;
    adapter->object = (DMA_ADAPTER){.Version = 1, .Size = sizeof(DMA_ADAPTER), .DmaOperations = &adapter->operations};
    adapter->device = device;
    adapter->description = *description;
    adapter->version = version_of(machine, description);
    adapter->width = width_of(description);
    adapter->scatter_gather = description->Master && description->ScatterGather;
    dma_channel_init(&adapter->own_channel);
    adapter->channel = &adapter->own_channel;
    InitializeListHead(&adapter->requests);
    InitializeListHead(&adapter->buffers);
    if (!is_valid(adapter) || !open_domain(machine, adapter) || !open_registers(machine, adapter)) {
        dma_adapter_free(machine, adapter);
        return NULL;
    }
    if (!description->Master)
        adapter->channel = &machine->dma->system[system_line(description)];
    fill_operations(adapter, machine->options.windows);
    return adapter;
}

/*
 * The adapter of a device as its driver describes it.
 *
 * NULL: the machine's version of Windows has no such table, the description is not valid, or memory is short.
 * IRQL: PASSIVE_LEVEL.
 * Doc:  wdm/nf-wdm-iogetdmaadapter
 */
PDMA_ADAPTER IoGetDmaAdapter(PDEVICE_OBJECT PhysicalDeviceObject, PDEVICE_DESCRIPTION DeviceDescription,
                             PULONG NumberOfMapRegisters)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter;

    KE_HOOK(machine, dma_describe_check, DeviceDescription);
    if (ke_fails(KE_FALLIBLE_IoGetDmaAdapter))
        return NULL;
    adapter = new_adapter(machine, PhysicalDeviceObject, DeviceDescription);
    if (adapter == NULL)
        return NULL;
    adapter->where = DMA_WHERE(machine);
    host_mutex_lock(&machine->dma->lock);
    adapter->next = machine->dma->adapters;
    machine->dma->adapters = adapter;
    host_mutex_unlock(&machine->dma->lock);
    *NumberOfMapRegisters = adapter->registers.count;
    return &adapter->object;
}

/* ---- ending one ---- */

/* What is still out goes with it. */
static void drop_all(struct dma_adapter *adapter)
{
    while (!IsListEmpty(&adapter->buffers)) {
        struct dma_common_buffer *buffer = CONTAINING_RECORD(RemoveHeadList(&adapter->buffers), struct dma_common_buffer, link);

        if (buffer->la_pages != 0)
            dma_domain_give(buffer->domain, (uint32_t)(buffer->la >> SPAN_PAGE_SHIFT), buffer->la_pages);
        free(buffer);
    }
    while (!IsListEmpty(&adapter->requests))
        dma_request_free(CONTAINING_RECORD(RemoveHeadList(&adapter->requests), struct dma_request, link));
    while (!IsListEmpty(&adapter->own_channel.waiting))
        dma_request_free(CONTAINING_RECORD(RemoveHeadList(&adapter->own_channel.waiting), struct dma_request, link));
}

void dma_adapter_free(struct machine *machine, struct dma_adapter *adapter)
{
    drop_all(adapter);
    dma_registers_end(machine, &adapter->registers);
    if (adapter->domain != NULL && adapter->domain != adapter->own_domain)
        dma_domain_unuse(adapter->domain);
    if (adapter->own_domain != NULL)
        dma_domain_unuse(adapter->own_domain);
    dma_channel_destroy(&adapter->own_channel);
    free(adapter);
}

static bool is_listed_locked(const struct dma_state *dma, const DMA_ADAPTER *object)
{
    for (const struct dma_adapter *adapter = dma->adapters; adapter != NULL; adapter = adapter->next)
        if (&adapter->object == object)
            return !adapter->released;
    return false;
}

static bool is_kept_locked(const struct dma_state *dma, const DMA_ADAPTER *object)
{
    for (size_t i = 0; i < DMA_KEPT_ADAPTERS; i++)
        if (dma->kept[i] != NULL && &dma->kept[i]->object == object)
            return true;
    return false;
}

/* By the address alone: nothing of the adapter is read. */
enum dma_adapter_state dma_adapter_state(struct machine *machine, const DMA_ADAPTER *object)
{
    enum dma_adapter_state state = DMA_ADAPTER_UNKNOWN;

    host_mutex_lock(&machine->dma->lock);
    if (is_listed_locked(machine->dma, object))
        state = DMA_ADAPTER_IN_USE;
    else if (is_kept_locked(machine->dma, object))
        state = DMA_ADAPTER_RELEASED;
    host_mutex_unlock(&machine->dma->lock);
    return state;
}

static void unlink_locked(struct dma_state *dma, const struct dma_adapter *adapter)
{
    struct dma_adapter **link = &dma->adapters;

    while (*link != adapter)
        link = &(*link)->next;
    *link = adapter->next;
}

/* A released adapter is kept for a while, so that its use can be told from any other mistake. The oldest one goes for good. */
static struct dma_adapter *keep_locked(struct dma_state *dma, struct dma_adapter *adapter)
{
    struct dma_adapter **slot = &dma->kept[dma->nkept++ % DMA_KEPT_ADAPTERS];
    struct dma_adapter *oldest = *slot;

    *slot = adapter;
    return oldest;
}

static bool is_idle(const struct dma_adapter *adapter)
{
    return adapter->nbuffers == 0 && adapter->nlists == 0 && adapter->nchannels == 0 && adapter->nregisters_out == 0;
}

/* An adapter that is released too early stays in the list, where the end of the machine finds it. Doc: wdm/nc-wdm-pput_dma_adapter */
VOID dma_put_adapter(PDMA_ADAPTER DmaAdapter)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter), *oldest = NULL;
    struct dma_state *dma = machine->dma;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    KE_HOOK(machine, dma_put_adapter_check, DmaAdapter);
    host_mutex_lock(&dma->lock);
    if (is_idle(adapter) && !adapter->released) {
        unlink_locked(dma, adapter);
        dma_registers_end(machine, &adapter->registers);
        oldest = keep_locked(dma, adapter);
    }
    adapter->released = true;
    host_mutex_unlock(&dma->lock);
    if (oldest != NULL)
        dma_adapter_free(machine, oldest);
}

/* Every address and length is aligned enough for the processors and devices here. Doc: wdm/nc-wdm-pget_dma_alignment */
ULONG dma_get_alignment(PDMA_ADAPTER DmaAdapter)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    return 1;
}
