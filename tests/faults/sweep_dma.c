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
