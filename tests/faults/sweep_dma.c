/* SPDX-License-Identifier: MIT */
/* Sweeps over DMA: an adapter that is got, used for common memory, lists and channels, and put, for near and
   far memory. */

#include "sweep.h"

#include "../contract/dma_support.h"

enum { BYTES = 5 * PAGE_SIZE + 100, OFFSET = 50, SEED = 3 };

/* ---- parts of the job ---- */

static NTSTATUS use_common_buffer(PDMA_ADAPTER adapter)
{
    PHYSICAL_ADDRESS la;
    UCHAR *const va = adapter->DmaOperations->AllocateCommonBuffer(adapter, 2 * PAGE_SIZE, &la, TRUE);
    UCHAR seen[64];

    if (va == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    fill_pattern(va, sizeof(seen), SEED);
    EXPECT_STATUS(pinion_device_read(adapter, (uint64_t)la.QuadPart, seen, sizeof(seen)), STATUS_SUCCESS);
    EXPECT_PATTERN(seen, sizeof(seen), SEED);
    adapter->DmaOperations->FreeCommonBuffer(adapter, 2 * PAGE_SIZE, la, va, TRUE);
    return STATUS_SUCCESS;
}

/* The MDL that shows what the device sees; where it is a new one the driver unmaps it and
   PutScatterGatherList frees it. */
static NTSTATUS show_list(PDMA_ADAPTER adapter, PSCATTER_GATHER_LIST list, PMDL mdl)
{
    UCHAR seen[BYTES];
    PMDL target = NULL;
    const NTSTATUS status =
        adapter->DmaOperations->BuildMdlFromScatterGatherList(adapter, list, mdl, &target);

    device_reads(adapter, list, seen);
    EXPECT_PATTERN(seen, BYTES, SEED);
    if (NT_SUCCESS(status))
        EXPECT(target != NULL);
    return status;
}

static NTSTATUS use_list(PDMA_ADAPTER adapter, PMDL mdl)
{
    struct heard heard = {0};
    NTSTATUS status = ask_for_list(adapter, mdl, 0, BYTES, TRUE, &heard);

    if (!NT_SUCCESS(status)) {
        EXPECT_EQ(heard.calls, 0);
        return status;
    }
    status = show_list(adapter, heard.list, mdl);
    put_list(adapter, heard.list, TRUE);
    return status;
}

static IO_ALLOCATION_ACTION keep_registers(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID MapRegisterBase,
                                           PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    *(PVOID *)Context = MapRegisterBase;
    return DeallocateObjectKeepRegisters;
}

static NTSTATUS use_channel(PDMA_ADAPTER adapter)
{
    const PDEVICE_OBJECT device = pinion_device_create("channel");
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);
    PVOID base = NULL;
    const NTSTATUS status =
        adapter->DmaOperations->AllocateAdapterChannel(adapter, device, 3, keep_registers, &base);

    if (NT_SUCCESS(status))
        adapter->DmaOperations->FreeMapRegisters(adapter, base, 3);
    KeLowerIrql(irql);
    return status;
}

static NTSTATUS use_adapter(PDMA_ADAPTER adapter, PVOID buffer)
{
    const PMDL mdl = IoAllocateMdl(buffer, BYTES, FALSE, FALSE, NULL);
    NTSTATUS status = mdl == NULL ? STATUS_INSUFFICIENT_RESOURCES : try_lock(mdl, UserMode, IoModifyAccess);

    if (NT_SUCCESS(status)) {
        status = use_list(adapter, mdl);
        MmUnlockPages(mdl);
    }
    if (mdl != NULL)
        IoFreeMdl(mdl);
    return status;
}

static NTSTATUS transfer_by(unsigned width, PVOID buffer)
{
    DEVICE_DESCRIPTION description = describe(DEVICE_DESCRIPTION_VERSION2, width, TRUE, 64 * 1024);
    ULONG registers;
    const PDMA_ADAPTER adapter = IoGetDmaAdapter(NULL, &description, &registers);
    NTSTATUS status;

    if (adapter == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = use_common_buffer(adapter);
    if (NT_SUCCESS(status))
        status = use_adapter(adapter, buffer);
    if (NT_SUCCESS(status))
        status = use_channel(adapter);
    put_adapter(adapter);
    return status;
}

static NTSTATUS transfer_far(PVOID buffer)
{
    return transfer_by(64, buffer);
}

static NTSTATUS transfer_near(PVOID buffer)
{
    return transfer_by(32, buffer);
}

/* ---- version 3 ---- */

static NTSTATUS use_vector(PDMA_ADAPTER adapter)
{
    const PHYSICAL_ADDRESS low = {.QuadPart = 0}, high = {.QuadPart = -1};
    PDMA_COMMON_BUFFER_VECTOR vector;
    const NTSTATUS status = adapter->DmaOperations->AllocateCommonBufferVector(adapter, low, high, MmCached, 0, 0, 3,
                                                                               100, &vector);

    for (ULONG i = 0; NT_SUCCESS(status) && i < 3; i++)
        adapter->DmaOperations->FreeCommonBufferFromVector(adapter, vector, i);
    if (NT_SUCCESS(status))
        adapter->DmaOperations->FreeCommonBufferVector(adapter, vector);
    return status;
}

/* In the domain that the adapter has, if it has one. */
static NTSTATUS use_domain_buffer(PDMA_ADAPTER adapter)
{
    const HANDLE domain = adapter->DmaOperations->GetDmaDomain(adapter);
    PHYSICAL_ADDRESS la;
    NTSTATUS status;
    PVOID va;

    if (domain == NULL)
        return STATUS_SUCCESS;
    status = adapter->DmaOperations->AllocateDomainCommonBuffer(adapter, domain, NULL, 100, 0, NULL, 0, &la, &va);
    if (NT_SUCCESS(status))
        adapter->DmaOperations->FreeCommonBuffer(adapter, 100, la, va, TRUE);
    return status;
}

static NTSTATUS use_memory_of_the_driver(PDMA_ADAPTER adapter)
{
    const PHYSICAL_ADDRESS reach = {.QuadPart = 0xFFFFFFFF};
    const PVOID va = MmAllocateContiguousMemory(PAGE_SIZE, reach);
    const PMDL mdl = va == NULL ? NULL : IoAllocateMdl(va, PAGE_SIZE, FALSE, FALSE, NULL);
    NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;
    PHYSICAL_ADDRESS la;

    if (mdl != NULL) {
        MmBuildMdlForNonPagedPool(mdl);
        status = adapter->DmaOperations->CreateCommonBufferFromMdl(adapter, mdl, NULL, 0, &la);
        if (NT_SUCCESS(status))
            adapter->DmaOperations->FreeCommonBuffer(adapter, PAGE_SIZE, la, va, TRUE);
        IoFreeMdl(mdl);
    }
    if (va != NULL)
        MmFreeContiguousMemory(va);
    return status;
}

static NTSTATUS use_common_buffers(PDMA_ADAPTER adapter)
{
    PHYSICAL_ADDRESS la;
    PVOID va = adapter->DmaOperations->AllocateCommonBufferEx(adapter, NULL, 100, &la, TRUE, 0);
    NTSTATUS status;

    if (va == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    adapter->DmaOperations->FreeCommonBuffer(adapter, 100, la, va, TRUE);
    va = adapter->DmaOperations->AllocateCommonBufferWithBounds(adapter, NULL, NULL, 100, 0, NULL, 0, &la);
    if (va == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    adapter->DmaOperations->FreeCommonBuffer(adapter, 100, la, va, TRUE);
    status = use_vector(adapter);
    if (NT_SUCCESS(status))
        status = use_domain_buffer(adapter);
    return NT_SUCCESS(status) ? use_memory_of_the_driver(adapter) : status;
}

typedef union {
    UCHAR bytes[DMA_TRANSFER_CONTEXT_SIZE_V1];
    ULONG_PTR aligned;
} TRANSFER_CONTEXT;

static NTSTATUS renew(PDMA_ADAPTER adapter, TRANSFER_CONTEXT *context)
{
    return adapter->DmaOperations->InitializeDmaTransferContext(adapter, context);
}

/* What a list shows, and its end. */
static NTSTATUS check_list(PDMA_ADAPTER adapter, NTSTATUS status, PSCATTER_GATHER_LIST list)
{
    UCHAR seen[BYTES];

    if (!NT_SUCCESS(status))
        return status;
    device_reads(adapter, list, seen);
    EXPECT_PATTERN(seen, BYTES, SEED);
    put_list(adapter, list, TRUE);
    return status;
}

static NTSTATUS use_lists(PDMA_ADAPTER adapter, PMDL mdl)
{
    static UCHAR space[1024];
    const PVOID va = MmGetMdlVirtualAddress(mdl);
    struct heard heard = {0};
    TRANSFER_CONTEXT context;
    PSCATTER_GATHER_LIST list;
    NTSTATUS status = adapter->DmaOperations->BuildScatterGatherList(adapter, NULL, mdl, va, BYTES, hear, &heard, TRUE,
                                                                     space, sizeof(space));

    status = check_list(adapter, status, heard.list);
    if (NT_SUCCESS(status)) {
        renew(adapter, &context);
        status = adapter->DmaOperations->GetScatterGatherListEx(adapter, NULL, &context, mdl, 0, BYTES,
                                                                DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, TRUE, NULL, NULL,
                                                                &list);
        status = check_list(adapter, status, list);
    }
    if (NT_SUCCESS(status)) {
        renew(adapter, &context);
        status = adapter->DmaOperations->BuildScatterGatherListEx(adapter, NULL, &context, mdl, 0, BYTES, 0, hear,
                                                                  &heard, TRUE, space, sizeof(space), NULL, NULL, NULL);
        status = check_list(adapter, status, heard.list);
    }
    return status;
}

static NTSTATUS use_transfer(PDMA_ADAPTER adapter, PMDL mdl)
{
    static UCHAR space[1024];
    TRANSFER_CONTEXT context;
    ULONG length = BYTES;
    NTSTATUS status;
    PVOID base;

    renew(adapter, &context);
    status = adapter->DmaOperations->AllocateAdapterChannelEx(adapter, NULL, &context, 7, DMA_SYNCHRONOUS_CALLBACK, NULL,
                                                              NULL, &base);
    if (!NT_SUCCESS(status))
        return status;
    status = adapter->DmaOperations->MapTransferEx(adapter, mdl, base, 0, 0, &length, TRUE, (PSCATTER_GATHER_LIST)space,
                                                   sizeof(space), NULL, NULL);
    if (NT_SUCCESS(status))
        adapter->DmaOperations->FlushAdapterBuffersEx(adapter, mdl, base, 0, length, TRUE);
    adapter->DmaOperations->FreeAdapterObject(adapter, DeallocateObject);
    return status;
}

static NTSTATUS use_buffer(PDMA_ADAPTER adapter, PVOID buffer)
{
    const PMDL mdl = IoAllocateMdl(buffer, BYTES, FALSE, FALSE, NULL);
    NTSTATUS status = mdl == NULL ? STATUS_INSUFFICIENT_RESOURCES : try_lock(mdl, UserMode, IoModifyAccess);

    if (NT_SUCCESS(status)) {
        const KIRQL irql = raise_irql(DISPATCH_LEVEL);

        status = use_lists(adapter, mdl);
        if (NT_SUCCESS(status))
            status = use_transfer(adapter, mdl);
        KeLowerIrql(irql);
        MmUnlockPages(mdl);
    }
    if (mdl != NULL)
        IoFreeMdl(mdl);
    return status;
}

static NTSTATUS transfer_version3(PVOID buffer)
{
    DEVICE_DESCRIPTION description = describe(DEVICE_DESCRIPTION_VERSION3, 32, TRUE, 64 * 1024);
    ULONG registers;
    const PDMA_ADAPTER adapter = IoGetDmaAdapter(NULL, &description, &registers);
    NTSTATUS status;

    if (adapter == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = use_common_buffers(adapter);
    if (NT_SUCCESS(status))
        status = use_buffer(adapter, buffer);
    put_adapter(adapter);
    return status;
}

/* ---- the sweeps ---- */

static const char *const calls[] = {"IoGetDmaAdapter",
                                    "AllocateCommonBuffer",
                                    "GetScatterGatherList",
                                    "BuildMdlFromScatterGatherList",
                                    "AllocateAdapterChannel",
                                    "IoAllocateMdl",
                                    "MmProbeAndLockPages",
                                    "internal",
                                    NULL};

/* The first one wants an IOMMU. */
static const char *const calls_of_version3[] = {"AllocateDomainCommonBuffer",
                                                "IoGetDmaAdapter",
                                                "AllocateCommonBufferEx",
                                                "AllocateCommonBufferWithBounds",
                                                "AllocateCommonBufferVector",
                                                "CreateCommonBufferFromMdl",
                                                "BuildScatterGatherList",
                                                "GetScatterGatherListEx",
                                                "BuildScatterGatherListEx",
                                                "AllocateAdapterChannelEx",
                                                "MapTransferEx",
                                                "MmAllocateContiguousMemory",
                                                "IoAllocateMdl",
                                                "MmProbeAndLockPages",
                                                "internal",
                                                NULL};

static void sweep_dma(const char *options, const struct job *job)
{
    UCHAR *buffer;

    boot(options);
    buffer = user_pages(6, PAGE_READWRITE);
    fill_pattern(buffer + OFFSET, BYTES, SEED);
    sweep_all(job, buffer + OFFSET);
    EXPECT_PATTERN(buffer + OFFSET, BYTES, SEED);
    pinion_user_free(buffer);
}

/* A device that reaches all of memory: whichever call fails, adapter, lists, registers and buffers are given
   back. */
TEST(fault_sweep_dma, far_device__each_call_fails_in_turn__is_undone)
{
    static const struct job job = {"far device", transfer_far, calls};

    sweep_dma("ram=64M", &job);
}

/* A device whose transfers are copied through map registers. */
TEST(fault_sweep_dma, near_device__each_call_fails_in_turn__is_undone)
{
    static const struct job job = {"near device", transfer_near, calls};

    sweep_dma("ram=64M", &job);
}

/* A device behind an IOMMU. */
TEST(fault_sweep_dma, remapped_device__each_call_fails_in_turn__is_undone)
{
    static const struct job job = {"remapped device", transfer_near, calls};

    sweep_dma("ram=64M:dma=remapped", &job);
}

/* AllocateAdapterChannelEx-02, CreateCommonBufferFromMdl-04, MapTransferEx-05: the routines of version 3. */
TEST(fault_sweep_dma, version3__each_call_fails_in_turn__is_undone)
{
    static const struct job job = {"version 3", transfer_version3, calls_of_version3 + 1};

    sweep_dma("ram=64M", &job);
}

/* The same behind an IOMMU, with memory in its domain. */
TEST(fault_sweep_dma, version3_remapped__each_call_fails_in_turn__is_undone)
{
    static const struct job job = {"version 3, remapped", transfer_version3, calls_of_version3};

    sweep_dma("ram=64M:dma=remapped", &job);
}
