/* SPDX-License-Identifier: MIT */
/*
 * What the DMA tests share: adapters of each kind, lists taken and given back at DISPATCH_LEVEL, and a device that follows
 * a list. No expectation about a routine's result lives here but that a set-up succeeds.
 */

#pragma once

#include "support.h"

/* ---- Adapters ------------------------------------------------------------------------------------------ */

static inline DEVICE_DESCRIPTION describe(ULONG version, unsigned width, BOOLEAN scatter_gather, ULONG bytes)
{
    return (DEVICE_DESCRIPTION){
        .Version = version,
        .Master = TRUE,
        .ScatterGather = scatter_gather,
        .Dma32BitAddresses = width == 32,
        .Dma64BitAddresses = width == 64,
        .InterfaceType = width == 24 ? Isa : PCIBus,
        .MaximumLength = bytes,
        .DmaAddressWidth = version == DEVICE_DESCRIPTION_VERSION3 ? width : 0,
    };
}

static inline PDMA_ADAPTER get_adapter(DEVICE_DESCRIPTION description)
{
    ULONG registers = 0;
    const PDMA_ADAPTER adapter = IoGetDmaAdapter(NULL, &description, &registers);

    EXPECT(adapter != NULL);
    EXPECT(registers > 0);
    return adapter;
}

static inline PDMA_ADAPTER master(ULONG version, unsigned width, ULONG bytes)
{
    return get_adapter(describe(version, width, TRUE, bytes));
}

static inline void put_adapter(PDMA_ADAPTER adapter)
{
    adapter->DmaOperations->PutDmaAdapter(adapter);
}

/* ---- Lists --------------------------------------------------------------------------------------------- */

/* What an AdapterListControl routine was called with, and how often. */
struct heard {
    unsigned calls;
    PDEVICE_OBJECT device;
    PIRP irp;
    PSCATTER_GATHER_LIST list;
    KIRQL irql;
};

static inline void hear(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST ScatterGather, PVOID Context)
{
    struct heard *const heard = Context;

    *heard = (struct heard){heard->calls + 1, DeviceObject, Irp, ScatterGather, KeGetCurrentIrql()};
}

static inline NTSTATUS ask_for_list(PDMA_ADAPTER adapter, PMDL mdl, ULONG offset, ULONG bytes, BOOLEAN write, struct heard *heard)
{
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);
    const NTSTATUS status = adapter->DmaOperations->GetScatterGatherList(
        adapter, NULL, mdl, (PUCHAR)MmGetMdlVirtualAddress(mdl) + offset, bytes, hear, heard, write);

    KeLowerIrql(irql);
    return status;
}

static inline PSCATTER_GATHER_LIST get_list(PDMA_ADAPTER adapter, PMDL mdl, ULONG offset, ULONG bytes, BOOLEAN write)
{
    struct heard heard = {0};

    EXPECT_STATUS(ask_for_list(adapter, mdl, offset, bytes, write, &heard), STATUS_SUCCESS);
    EXPECT_EQ(heard.calls, 1);
    return heard.list;
}

static inline void put_list(PDMA_ADAPTER adapter, PSCATTER_GATHER_LIST list, BOOLEAN write)
{
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);

    adapter->DmaOperations->PutScatterGatherList(adapter, list, write);
    KeLowerIrql(irql);
}

static inline uint64_t list_sum(const SCATTER_GATHER_LIST *list)
{
    uint64_t sum = 0;

    for (ULONG i = 0; i < list->NumberOfElements; i++)
        sum += list->Elements[i].Length;
    return sum;
}

/* ---- The device ---------------------------------------------------------------------------------------- */

/* The device reads what its list describes, one element after the other. */
static inline void device_reads(PDMA_ADAPTER adapter, const SCATTER_GATHER_LIST *list, UCHAR *out)
{
    for (ULONG i = 0; i < list->NumberOfElements; i++) {
        EXPECT_STATUS(pinion_device_read(adapter, (uint64_t)list->Elements[i].Address.QuadPart, out, list->Elements[i].Length),
                      STATUS_SUCCESS);
        out += list->Elements[i].Length;
    }
}

static inline void device_writes(PDMA_ADAPTER adapter, const SCATTER_GATHER_LIST *list, const UCHAR *in)
{
    for (ULONG i = 0; i < list->NumberOfElements; i++) {
        EXPECT_STATUS(pinion_device_write(adapter, (uint64_t)list->Elements[i].Address.QuadPart, in, list->Elements[i].Length),
                      STATUS_SUCCESS);
        in += list->Elements[i].Length;
    }
}
