/* SPDX-License-Identifier: MIT */
/* The DMA floor: boot, what drivers have left, shutdown. */

#include "dma/dma.h"

#include <errno.h>
#include <stdlib.h>

static int boot(struct machine *machine)
{
    machine->dma = ke_internal_fails() ? NULL : calloc(1, sizeof(*machine->dma));
    if (machine->dma == NULL)
        return -ENOMEM;
    host_mutex_init(&machine->dma->lock);
    for (size_t i = 0; i < DMA_SYSTEM_CHANNELS; i++)
        dma_channel_init(&machine->dma->system[i]);
    return 0;
}

static void tell(const struct machine *machine, const char *title, const void *where)
{
    if (machine->hooks.tell_stack != NULL)
        machine->hooks.tell_stack(title, where);
}

static void tell_requests(const struct machine *machine, const struct dma_adapter *adapter, enum dma_kind kind)
{
    for (const LIST_ENTRY *link = adapter->requests.Flink; link != &adapter->requests; link = link->Flink) {
        const struct dma_request *request = CONTAINING_RECORD(link, struct dma_request, link);

        if (request->kind == kind)
            tell(machine, "one was asked for at", request->where);
    }
}

static void tell_buffers(const struct machine *machine, const struct dma_adapter *adapter)
{
    for (const LIST_ENTRY *link = adapter->buffers.Flink; link != &adapter->buffers; link = link->Flink)
        tell(machine, "one was allocated at", CONTAINING_RECORD(link, struct dma_common_buffer, link)->where);
}

static void report_lists(const struct machine *machine, const struct dma_adapter *adapter)
{
    if (adapter->nlists == 0)
        return;
    ke_warn("dma-list-leak", "%u scatter/gather lists of adapter %p were never given back; call PutScatterGatherList",
            adapter->nlists, (const void *)adapter);
    tell_requests(machine, adapter, DMA_FOR_LIST);
}

static void report_buffers(const struct machine *machine, const struct dma_adapter *adapter)
{
    if (adapter->nbuffers == 0)
        return;
    ke_warn("dma-buffer-leak", "%u common buffers of adapter %p were never freed; call FreeCommonBuffer", adapter->nbuffers,
            (const void *)adapter);
    tell_buffers(machine, adapter);
}

static void report_channels(const struct machine *machine, const struct dma_adapter *adapter)
{
    if (adapter->nregisters_out == 0 && adapter->nchannels == 0)
        return;
    ke_warn("dma-channel-leak", "%u map registers and %u channel requests of adapter %p were never given back; call FreeMapRegisters "
            "or FreeAdapterChannel", adapter->nregisters_out, adapter->nchannels, (const void *)adapter);
    tell_requests(machine, adapter, DMA_FOR_CHANNEL);
}

static void report(const struct machine *machine, const struct dma_adapter *adapter)
{
    report_lists(machine, adapter);
    report_buffers(machine, adapter);
    report_channels(machine, adapter);
    if (adapter->released)
        return;
    ke_warn("dma-adapter-leak", "adapter %p was never released; call PutDmaAdapter", (const void *)adapter);
    tell(machine, "made at", adapter->where);
}

static void check(struct machine *machine)
{
    for (const struct dma_adapter *adapter = machine->dma->adapters; adapter != NULL; adapter = adapter->next)
        report(machine, adapter);
}

static void drop_waiting(struct dma_channel *channel)
{
    while (!IsListEmpty(&channel->waiting))
        dma_request_free(CONTAINING_RECORD(RemoveHeadList(&channel->waiting), struct dma_request, link));
}

static void shutdown(struct machine *machine)
{
    struct dma_state *dma = machine->dma;

    for (size_t i = 0; i < DMA_SYSTEM_CHANNELS; i++) {
        drop_waiting(&dma->system[i]);
        dma_channel_destroy(&dma->system[i]);
    }
    while (dma->adapters != NULL) {
        struct dma_adapter *adapter = dma->adapters;

        dma->adapters = adapter->next;
        dma_adapter_free(machine, adapter);
    }
    for (size_t i = 0; i < DMA_KEPT_ADAPTERS; i++)
        if (dma->kept[i] != NULL)
            dma_adapter_free(machine, dma->kept[i]);
    dma_forget_past(machine);
    host_mutex_destroy(&dma->lock);
    free(dma);
    machine->dma = NULL;
}

const struct ke_floor dma_floor = {.name = "dma", .boot = boot, .check = check, .shutdown = shutdown};
