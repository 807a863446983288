/* SPDX-License-Identifier: MIT */
/* The twins of the rules for DMA: bug check 0xE6, and the warnings beside it. */

#include "rules.h"

enum { SEED = 40, REGISTERS = 3, BYTES = REGISTERS * PAGE_SIZE };

/* A locked buffer and the adapter of a bus master. The routines below know them by these names. */
static UCHAR *va;
static PMDL mdl;
static PDMA_ADAPTER adapter;
static PDMA_OPERATIONS dma;
static PHYSICAL_ADDRESS la;
static KIRQL old_irql;

static DEVICE_DESCRIPTION bus_master(void)
{
    return (DEVICE_DESCRIPTION){.Version = DEVICE_DESCRIPTION_VERSION2, .Master = TRUE, .ScatterGather = TRUE,
                                .Dma32BitAddresses = TRUE, .InterfaceType = PCIBus, .MaximumLength = 65536};
}

static void get_adapter_for(DEVICE_DESCRIPTION description)
{
    ULONG registers;

    va = user_pattern(REGISTERS, SEED);
    mdl = locked_mdl(va, BYTES);
    adapter = IoGetDmaAdapter(NULL, &description, &registers);
    EXPECT(adapter != NULL);
    dma = adapter->DmaOperations;
}

static void get_adapter(void)
{
    get_adapter_for(bus_master());
}

/* Of a device that takes but one stretch of memory, so that each transfer is copied. */
static void get_copying_adapter(void)
{
    DEVICE_DESCRIPTION description = bus_master();

    description.ScatterGather = FALSE;
    get_adapter_for(description);
}

static void put_adapter(void)
{
    dma->PutDmaAdapter(adapter);
    free_all(mdl, va);
}

/* DMA routines for DISPATCH_LEVEL are called between these two. */
static void raise_to_dispatch(void)
{
    KeRaiseIrql(DISPATCH_LEVEL, &old_irql);
}

static void lower_again(void)
{
    KeLowerIrql(old_irql);
}

static IO_ALLOCATION_ACTION keep_registers(PDEVICE_OBJECT device, PIRP irp, PVOID base, PVOID context)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(irp);
    *(PVOID *)context = base;
    return DeallocateObjectKeepRegisters;
}

static IO_ALLOCATION_ACTION keep_object(PDEVICE_OBJECT device, PIRP irp, PVOID base, PVOID context)
{
    keep_registers(device, irp, base, context);
    return KeepObject;
}

/* Map registers, kept; at DISPATCH_LEVEL. */
static PVOID take_registers(ULONG registers)
{
    PVOID base = NULL;

    dma->AllocateAdapterChannel(adapter, NULL, registers, keep_registers, &base);
    return base;
}

static void keep_list(PDEVICE_OBJECT device, PIRP irp, PSCATTER_GATHER_LIST list, PVOID context)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(irp);
    *(PSCATTER_GATHER_LIST *)context = list;
}

/* A list over the whole buffer, to the device or from it; at DISPATCH_LEVEL. */
static PSCATTER_GATHER_LIST take_list(BOOLEAN write)
{
    PSCATTER_GATHER_LIST list = NULL;

    dma->GetScatterGatherList(adapter, NULL, mdl, va, BYTES, keep_list, &list, write);
    return list;
}

/* ---- common buffers --------------------------------------------------------------------------------------------- */

RULE_BAD(DMA_SURPLUS_BUFFER)
{
    PVOID buffer;

    get_adapter();
    buffer = dma->AllocateCommonBuffer(adapter, 100, &la, TRUE);
    dma->FreeCommonBuffer(adapter, 100, la, buffer, TRUE);
    PARAMETERS(1, 0, 0);
    dma->FreeCommonBuffer(adapter, 100, la, buffer, TRUE);
}

RULE_GOOD(DMA_SURPLUS_BUFFER)
{
    PVOID buffer;

    get_adapter();
    buffer = dma->AllocateCommonBuffer(adapter, 100, &la, TRUE);
    dma->FreeCommonBuffer(adapter, 100, la, buffer, TRUE);
    put_adapter();
}

RULE_BAD(DMA_BUFFER_MISMATCH)
{
    PVOID buffer;

    get_adapter();
    buffer = dma->AllocateCommonBuffer(adapter, 100, &la, TRUE);
    dma->FreeCommonBuffer(adapter, 99, la, buffer, TRUE);
    put_adapter();
}

RULE_GOOD(DMA_BUFFER_MISMATCH)
{
    PVOID buffer;

    get_adapter();
    buffer = dma->AllocateCommonBuffer(adapter, 100, &la, TRUE);
    dma->FreeCommonBuffer(adapter, 100, la, buffer, TRUE);
    put_adapter();
}

RULE_BAD(DMA_OVERRUN)
{
    UCHAR *buffer;

    get_adapter();
    buffer = dma->AllocateCommonBuffer(adapter, 100, &la, TRUE);
    buffer[100] ^= 1;
    PARAMETERS(2, 100, p(buffer));
    dma->FreeCommonBuffer(adapter, 100, la, buffer, TRUE);
}

RULE_GOOD(DMA_OVERRUN)
{
    UCHAR *buffer;

    get_adapter();
    buffer = dma->AllocateCommonBuffer(adapter, 100, &la, TRUE);
    buffer[99] ^= 1;
    dma->FreeCommonBuffer(adapter, 100, la, buffer, TRUE);
    put_adapter();
}

/* ---- channels and map registers --------------------------------------------------------------------------------- */

RULE_BAD(DMA_SURPLUS_CHANNEL)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    dma->AllocateAdapterChannel(adapter, NULL, 1, keep_object, &base);
    dma->FreeAdapterChannel(adapter);
    PARAMETERS(1, 0, 0);
    dma->FreeAdapterChannel(adapter);
}

RULE_GOOD(DMA_SURPLUS_CHANNEL)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    dma->AllocateAdapterChannel(adapter, NULL, 1, keep_object, &base);
    dma->FreeAdapterChannel(adapter);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_SURPLUS_REGISTERS)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(2);
    PARAMETERS(3, 0, 0);
    dma->FreeMapRegisters(adapter, base, 5);
}

RULE_GOOD(DMA_SURPLUS_REGISTERS)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(2);
    dma->FreeMapRegisters(adapter, base, 2);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_REGISTER_COUNT)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(2);
    dma->FreeMapRegisters(adapter, base, 1);
    lower_again();
    put_adapter();
}

RULE_GOOD(DMA_REGISTER_COUNT)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(2);
    dma->FreeMapRegisters(adapter, base, 2);
    lower_again();
    put_adapter();
}

static IO_ALLOCATION_ACTION ask_again(PDEVICE_OBJECT device, PIRP irp, PVOID base, PVOID context)
{
    UNREFERENCED_PARAMETER(irp);
    UNREFERENCED_PARAMETER(base);
    dma->AllocateAdapterChannel(adapter, device, 1, ask_again, context);
    return DeallocateObject;
}

RULE_BAD(DMA_TWO_CHANNELS)
{
    get_adapter();
    raise_to_dispatch();
    PARAMETERS(1, 0, 0);
    dma->AllocateAdapterChannel(adapter, NULL, 1, ask_again, NULL);     /* ask_again calls it once more */
}

RULE_GOOD(DMA_TWO_CHANNELS)
{
    PVOID first, second;

    get_adapter();
    raise_to_dispatch();
    dma->AllocateAdapterChannel(adapter, NULL, 1, keep_registers, &first);
    dma->AllocateAdapterChannel(adapter, NULL, 1, keep_registers, &second);
    dma->FreeMapRegisters(adapter, first, 1);
    dma->FreeMapRegisters(adapter, second, 1);
    lower_again();
    put_adapter();
}

/* ---- MapTransfer, FlushAdapterBuffers --------------------------------------------------------------------------- */

RULE_BAD(DMA_TOO_MANY_REGISTERS)
{
    ULONG length = BYTES;

    get_adapter();
    raise_to_dispatch();
    PARAMETERS(ANYTHING, 0, 0);
    dma->MapTransfer(adapter, mdl, NULL, va, &length, TRUE);
}

RULE_GOOD(DMA_TOO_MANY_REGISTERS)
{
    ULONG length = BYTES;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, length, TRUE);
    dma->FreeMapRegisters(adapter, base, REGISTERS);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_NOT_FLUSHED)
{
    ULONG length = 2 * PAGE_SIZE, rest = PAGE_SIZE;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(2);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    PARAMETERS(2 * PAGE_SIZE, 2 * PAGE_SIZE, 0);
    dma->MapTransfer(adapter, mdl, base, va + length, &rest, TRUE);
}

RULE_GOOD(DMA_NOT_FLUSHED)
{
    ULONG length = 2 * PAGE_SIZE, rest = PAGE_SIZE;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(2);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, length, TRUE);
    dma->MapTransfer(adapter, mdl, base, va + length, &rest, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va + length, rest, TRUE);
    dma->FreeMapRegisters(adapter, base, 2);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_STILL_MAPPED)
{
    ULONG length = BYTES;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    PARAMETERS(REGISTERS, 0, 0);
    dma->FreeMapRegisters(adapter, base, REGISTERS);
}

RULE_GOOD(DMA_STILL_MAPPED)
{
    ULONG length = BYTES;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, length, TRUE);
    dma->FreeMapRegisters(adapter, base, REGISTERS);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_MAPPED_TWICE)
{
    ULONG length = 100, more = 100;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    PARAMETERS(p(va + 99), p(va + 199), p(va + 99));
    dma->MapTransfer(adapter, mdl, base, va + 99, &more, TRUE);
}

RULE_GOOD(DMA_MAPPED_TWICE)
{
    ULONG length = 100, more = 100;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    dma->MapTransfer(adapter, mdl, base, va + length, &more, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, length + more, TRUE);
    dma->FreeMapRegisters(adapter, base, REGISTERS);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_OUTSIDE)
{
    UCHAR *mapped;
    ULONG length = PAGE_SIZE;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    mapped = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    PARAMETERS(p(mapped), p(mdl), 0);
    dma->MapTransfer(adapter, mdl, base, mapped, &length, TRUE);
}

RULE_GOOD(DMA_OUTSIDE)
{
    ULONG length = PAGE_SIZE;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    dma->MapTransfer(adapter, mdl, base, MmGetMdlVirtualAddress(mdl), &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, MmGetMdlVirtualAddress(mdl), length, TRUE);
    dma->FreeMapRegisters(adapter, base, REGISTERS);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_ZERO_LENGTH)
{
    ULONG length = 0;

    get_adapter();
    raise_to_dispatch();
    PARAMETERS(0, 0, 0);
    dma->MapTransfer(adapter, mdl, take_registers(1), va, &length, TRUE);
}

RULE_GOOD(DMA_ZERO_LENGTH)
{
    ULONG length = 1;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(1);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, length, TRUE);
    dma->FreeMapRegisters(adapter, base, 1);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_FLUSH_TOO_MUCH)
{
    ULONG length = BYTES;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    PARAMETERS(1, BYTES, BYTES + 1);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, length + 1, TRUE);
}

RULE_GOOD(DMA_FLUSH_TOO_MUCH)
{
    ULONG length = BYTES;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, length, TRUE);
    dma->FreeMapRegisters(adapter, base, REGISTERS);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_FLUSH_UNMAPPED)
{
    ULONG length = 100;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(1);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    PARAMETERS(p(va + 200), 0, 0);
    dma->FlushAdapterBuffers(adapter, mdl, base, va + 200, length, TRUE);
}

RULE_GOOD(DMA_FLUSH_UNMAPPED)
{
    ULONG length = 100;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(1);
    dma->MapTransfer(adapter, mdl, base, va + 200, &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va + 200, length, TRUE);
    dma->FreeMapRegisters(adapter, base, 1);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_FLUSH_START)
{
    ULONG length = 100;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(1);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va + 10, length, TRUE);
    dma->FreeMapRegisters(adapter, base, 1);
    lower_again();
    put_adapter();
}

RULE_GOOD(DMA_FLUSH_START)
{
    ULONG length = 100;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(2);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    dma->MapTransfer(adapter, mdl, base, va + 100, &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, 200, TRUE);
    dma->FreeMapRegisters(adapter, base, 2);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_FLUSH_DIRECTION)
{
    ULONG length = 100;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(1);
    dma->MapTransfer(adapter, mdl, base, va, &length, TRUE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, length, FALSE);
    dma->FreeMapRegisters(adapter, base, 1);
    lower_again();
    put_adapter();
}

RULE_GOOD(DMA_FLUSH_DIRECTION)
{
    ULONG length = 100;
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(1);
    dma->MapTransfer(adapter, mdl, base, va, &length, FALSE);
    dma->FlushAdapterBuffers(adapter, mdl, base, va, 60, FALSE);        /* the device came to no more */
    dma->FreeMapRegisters(adapter, base, 1);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_FLUSH_NOTHING)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    PARAMETERS(p(base), p(va), p(mdl));
    dma->FlushAdapterBuffers(adapter, mdl, base, va, BYTES, TRUE);
}

RULE_GOOD(DMA_FLUSH_NOTHING)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(REGISTERS);
    dma->FreeMapRegisters(adapter, base, REGISTERS);
    lower_again();
    put_adapter();
}

/* ---- buffers and lists ------------------------------------------------------------------------------------------ */

RULE_BAD(DMA_NOT_LOCKED)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    raise_to_dispatch();
    list = take_list(TRUE);
    MmUnlockPages(mdl);
    PARAMETERS(p(mdl), 0, 0);
    dma->PutScatterGatherList(adapter, list, TRUE);
}

RULE_GOOD(DMA_NOT_LOCKED)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    raise_to_dispatch();
    list = take_list(TRUE);
    dma->PutScatterGatherList(adapter, list, TRUE);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_BAD_BUFFER)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    raise_to_dispatch();
    PARAMETERS(1, p(va - 1), p(mdl));
    dma->GetScatterGatherList(adapter, NULL, mdl, va - 1, 1, keep_list, &list, TRUE);
}

RULE_GOOD(DMA_BAD_BUFFER)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    raise_to_dispatch();
    dma->GetScatterGatherList(adapter, NULL, mdl, va + BYTES - 1, 1, keep_list, &list, TRUE);
    dma->PutScatterGatherList(adapter, list, TRUE);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_SURPLUS_LIST)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    raise_to_dispatch();
    list = take_list(TRUE);
    dma->PutScatterGatherList(adapter, list, TRUE);
    PARAMETERS(1, 2, 0);
    dma->PutScatterGatherList(adapter, list, TRUE);
}

RULE_GOOD(DMA_SURPLUS_LIST)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    raise_to_dispatch();
    list = take_list(TRUE);
    dma->PutScatterGatherList(adapter, list, TRUE);
    lower_again();
    put_adapter();
}

RULE_BAD(LIST_MDL_FREED)
{
    PSCATTER_GATHER_LIST list;
    PMDL target;

    get_copying_adapter();
    raise_to_dispatch();
    list = take_list(TRUE);
    dma->BuildMdlFromScatterGatherList(adapter, list, mdl, &target);
    EXPECT(target != mdl);
    PARAMETERS(p(target), 0, 0);
    IoFreeMdl(target);
}

RULE_GOOD(LIST_MDL_FREED)
{
    PSCATTER_GATHER_LIST list;
    PMDL target;

    get_copying_adapter();
    raise_to_dispatch();
    list = take_list(TRUE);
    dma->BuildMdlFromScatterGatherList(adapter, list, mdl, &target);
    EXPECT(target != mdl);
    dma->PutScatterGatherList(adapter, list, TRUE);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_DIRECTION)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    raise_to_dispatch();
    dma->GetScatterGatherList(adapter, NULL, mdl, va, BYTES, keep_list, &list, TRUE);
    dma->PutScatterGatherList(adapter, list, FALSE);
    lower_again();
    put_adapter();
}

RULE_GOOD(DMA_DIRECTION)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    raise_to_dispatch();
    dma->GetScatterGatherList(adapter, NULL, mdl, va, BYTES, keep_list, &list, TRUE);
    dma->PutScatterGatherList(adapter, list, TRUE);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_LOCKED_FOR_READING)
{
    get_adapter();
    MmUnlockPages(mdl);
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    raise_to_dispatch();
    dma->PutScatterGatherList(adapter, take_list(FALSE), FALSE);
    lower_again();
    put_adapter();
}

RULE_GOOD(DMA_LOCKED_FOR_READING)
{
    get_adapter();
    MmUnlockPages(mdl);
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    raise_to_dispatch();
    dma->PutScatterGatherList(adapter, take_list(FALSE), FALSE);
    lower_again();
    put_adapter();
}

/* ---- adapters --------------------------------------------------------------------------------------------------- */

RULE_BAD(DMA_IRQL)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    PARAMETERS(1, DISPATCH_LEVEL, PASSIVE_LEVEL);
    dma->GetScatterGatherList(adapter, NULL, mdl, va, BYTES, keep_list, &list, TRUE);
}

RULE_GOOD(DMA_IRQL)
{
    PSCATTER_GATHER_LIST list;

    get_adapter();
    raise_to_dispatch();
    dma->GetScatterGatherList(adapter, NULL, mdl, va, BYTES, keep_list, &list, TRUE);
    dma->PutScatterGatherList(adapter, list, TRUE);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_LEFT_BUFFERS)
{
    get_adapter();
    dma->AllocateCommonBuffer(adapter, 100, &la, TRUE);
    PARAMETERS(p(adapter), 1, 0);
    dma->PutDmaAdapter(adapter);
}

RULE_GOOD(DMA_LEFT_BUFFERS)
{
    PVOID buffer;

    get_adapter();
    buffer = dma->AllocateCommonBuffer(adapter, 100, &la, TRUE);
    dma->FreeCommonBuffer(adapter, 100, la, buffer, TRUE);
    put_adapter();
}

RULE_BAD(DMA_LEFT_CHANNELS)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    dma->AllocateAdapterChannel(adapter, NULL, 1, keep_object, &base);
    PARAMETERS(p(adapter), 1, 0);
    dma->PutDmaAdapter(adapter);
}

RULE_GOOD(DMA_LEFT_CHANNELS)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    dma->AllocateAdapterChannel(adapter, NULL, 1, keep_object, &base);
    dma->FreeAdapterChannel(adapter);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_LEFT_REGISTERS)
{
    get_adapter();
    raise_to_dispatch();
    take_registers(1);
    PARAMETERS(p(adapter), 1, 0);
    dma->PutDmaAdapter(adapter);
}

RULE_GOOD(DMA_LEFT_REGISTERS)
{
    PVOID base;

    get_adapter();
    raise_to_dispatch();
    base = take_registers(1);
    dma->FreeMapRegisters(adapter, base, 1);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_LEFT_LISTS)
{
    get_adapter();
    raise_to_dispatch();
    take_list(TRUE);
    PARAMETERS(p(adapter), 1, 0);
    dma->PutDmaAdapter(adapter);
}

RULE_GOOD(DMA_LEFT_LISTS)
{
    get_adapter();
    raise_to_dispatch();
    dma->PutScatterGatherList(adapter, take_list(TRUE), TRUE);
    lower_again();
    put_adapter();
}

RULE_BAD(DMA_RELEASED)
{
    get_adapter();
    dma->PutDmaAdapter(adapter);
    PARAMETERS(p(adapter), 0, 0);
    dma->GetDmaAlignment(adapter);
}

RULE_GOOD(DMA_RELEASED)
{
    get_adapter();
    dma->GetDmaAlignment(adapter);
    put_adapter();
}

RULE_BAD(DMA_NULL)
{
    get_adapter();
    PARAMETERS(0, 0, 0);
    dma->GetDmaAlignment(NULL);
}

RULE_GOOD(DMA_NULL)
{
    get_adapter();
    dma->GetDmaAlignment(adapter);
    put_adapter();
}

RULE_BAD(DMA_UNKNOWN_VERSION)
{
    DEVICE_DESCRIPTION description = bus_master();
    ULONG registers;

    description.Version = 0xCCCCCCCC;
    PARAMETERS(0, 0, 0);
    IoGetDmaAdapter(NULL, &description, &registers);
}

RULE_GOOD(DMA_UNKNOWN_VERSION)
{
    DEVICE_DESCRIPTION description = bus_master();
    ULONG registers;
    PDMA_ADAPTER mine;

    description.Version = DEVICE_DESCRIPTION_VERSION2;
    mine = IoGetDmaAdapter(NULL, &description, &registers);
    mine->DmaOperations->PutDmaAdapter(mine);
}

RULE_BAD(DMA_DESCRIPTION)
{
    DEVICE_DESCRIPTION description = bus_master();
    ULONG registers;
    PDMA_ADAPTER mine;

    description.Reserved1 = TRUE;
    mine = IoGetDmaAdapter(NULL, &description, &registers);
    mine->DmaOperations->PutDmaAdapter(mine);
}

RULE_GOOD(DMA_DESCRIPTION)
{
    DEVICE_DESCRIPTION description = bus_master();
    ULONG registers;
    PDMA_ADAPTER mine;

    description.Reserved1 = FALSE;
    mine = IoGetDmaAdapter(NULL, &description, &registers);
    mine->DmaOperations->PutDmaAdapter(mine);
}
