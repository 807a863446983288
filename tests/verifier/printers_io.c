/* SPDX-License-Identifier: MIT */
/* What the printers say of IRPs, in the layout of !irp, and of DMA adapters, in that of !dma. */

#include "harness.h"
#include <ntddk.h>

#include "printed.h"

#include "../contract/dma_support.h"
#include "../contract/io_stack.h"

/* ---- IRPs ---- */

APART static NTSTATUS completion_of_ours(PDEVICE_OBJECT device HARNESS_UNUSED, PIRP irp HARNESS_UNUSED, PVOID context HARNESS_UNUSED)
{
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* What the layer at the bottom prints of the IRP that it is given. */
static char *seen_below;

static NTSTATUS print_and_complete(struct layer *layer HARNESS_UNUSED, PIRP irp)
{
    seen_below = printed(print_irp, irp);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static PIRP read_irp(PMDL mdl)
{
    const PIRP irp = IoAllocateIrp(2, FALSE);
    const PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);

    irp->MdlAddress = mdl;
    irp->Flags = IRP_READ_OPERATION | IRP_NOCACHE;
    next->MajorFunction = IRP_MJ_READ;
    next->Parameters.Read.Length = 0x1234;
    next->Parameters.Read.ByteOffset.QuadPart = 0x5678;
    IoSetCompletionRoutine(irp, completion_of_ours, NULL, TRUE, FALSE, TRUE);
    return irp;
}

/* At the bottom of a stack of two: the current location is marked, each has its device, driver, completion routine and arguments. */
TEST(printers_io, irp__at_the_bottom_of_a_stack__shows_all_locations_and_marks_one)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    struct layer bottom, top;
    PIRP irp;

    layer_create(&bottom, DO_DIRECT_IO, print_and_complete);
    layer_create(&top, DO_DIRECT_IO, pass_down);
    layer_attach(&top, &bottom);
    irp = read_irp(mdl);
    IoSetNextIrpStackLocation(irp);
    IoGetCurrentIrpStackLocation(irp)->DeviceObject = top.device;
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutineEx(top.device, irp, completion_of_ours, NULL, TRUE, TRUE, TRUE);
    EXPECT_STATUS(IoCallDriver(bottom.device, irp), STATUS_SUCCESS);

    expect_line(seen_below, "Irp is active with 2 stacks 1 is current (= %p)\n Mdl=%p: No System Buffer: Thread ",
                (void *)(irp + 1), (void *)mdl);
    expect_line(seen_below, ">[IRP_MJ_READ(3), N/A(0)]\n            0 e0 %012lx 000000000000 ", (ULONG_PTR)bottom.device);
    expect_line(seen_below, " [IRP_MJ_READ(3), N/A(0)]\n            0 60 %012lx 000000000000 ", (ULONG_PTR)top.device);
    expect_line(seen_below, "           \\Driver\\");
    expect_line(seen_below, "           completion_of_ours (printers_io.c:");
    EXPECT(strstr(strstr(seen_below, "completion_of_ours"), "           completion_of_ours") != NULL);
    expect_line(seen_below, "            Args: 00001234 00000000 00005678 00000000\n");
    expect_line(seen_below, "Flags = 0x00000101 IRP_NOCACHE | IRP_READ_OPERATION\n");
    expect_line(seen_below, "Made by IoAllocateIrp\n");
    free(seen_below);
    IoFreeIrp(irp);
    IoFreeMdl(mdl);
    layer_destroy(&top);
    layer_destroy(&bottom);
}

/* An IRP that is with nobody, one that is complete, and one that was freed are told apart. */
TEST(printers_io, irp__not_sent_and_freed__says_so)
{
    const PIRP irp = IoAllocateIrp(1, FALSE);
    char *text = printed(print_irp, irp);

    expect_line(text, "Irp is active with 1 stacks 2 is current");
    expect_line(text, " It is with its maker: ");
    EXPECT(strstr(text, "\n>[") == NULL);
    free(text);
    irp->Cancel = TRUE;
    IoSetCancelRoutine(irp, (PDRIVER_CANCEL)(ULONG_PTR)completion_of_ours);
    text = printed(print_irp, irp);
    expect_line(text, "RequestorMode = KernelMode  Cancel = 1  CancelRoutine = completion_of_ours (printers_io.c:");
    free(text);
    irp->CurrentLocation = 3;
    text = printed(print_irp, irp);
    expect_line(text, " It is complete\n");
    free(text);
    IoFreeIrp(irp);
    text = printed(print_irp, irp);
    EXPECT(strstr(text, " is no IRP: the memory is IoAllocateIrp's, and no IRP is there now.\n") != NULL);
    free(text);
}

/* Neither a bad address nor an IRP full of bad addresses does harm. */
TEST(printers_io, irp__bad_addresses__are_told_of)
{
    static IRP junk;
    void *addresses[8];
    const PIRP irp = IoAllocateIrp(1, FALSE);
    char *text;

    for (size_t i = bad_addresses(addresses); i-- > 0;) {
        text = printed(print_irp, addresses[i]);
        expect_line(text, "%p is no IRP: ", addresses[i]);
        free(text);
        IoGetNextIrpStackLocation(irp)->DeviceObject = addresses[i];
        text = printed(print_irp, irp);
        EXPECT(addresses[i] == NULL || strstr(text, "\n           no driver\n") != NULL);
        free(text);
    }
    junk = (IRP){.Type = IO_TYPE_IRP, .StackCount = 5, .CurrentLocation = 100};
    text = printed(print_irp, &junk);
    EXPECT(strstr(text, " is no IRP: its stack cannot be.\n") != NULL);
    free(text);
    IoFreeIrp(irp);
}

/* ---- adapters ---- */

APART static PSCATTER_GATHER_LIST ask_for(PDMA_ADAPTER adapter, PMDL mdl)
{
    const PSCATTER_GATHER_LIST list = get_list(adapter, mdl, 0, 3 * PAGE_SIZE, TRUE);

    after = true;
    return list;
}

/* An adapter is shown with what it can do, its map registers, and each list and common buffer that is out. */
TEST(printers_io, adapter__with_a_list_and_a_buffer_out__shows_both)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 32, 16 * PAGE_SIZE);
    const PMDL mdl = locked_mdl(user_pages(3, PAGE_READWRITE), 3 * PAGE_SIZE);
    const PSCATTER_GATHER_LIST list = ask_for(adapter, mdl);
    PHYSICAL_ADDRESS la;
    const PVOID buffer = adapter->DmaOperations->AllocateCommonBuffer(adapter, 2 * PAGE_SIZE, &la, TRUE);
    char *text = printed(print_adapter, adapter);

    expect_line(text, "Adapter: %p     Owner: ", (void *)adapter);
    expect_line(text, "   Bus master, 32 address bits, scatter/gather, version 2\n");
    expect_line(text, "   Domain: none, logical addresses are physical ones\n");
    expect_line(text, "   Scatter-gather lists: 00000001 allocated, 00000000 freed\n");
    expect_line(text, "   Adapter channel:      free, 0 requests wait for it\n");
    expect_line(text, "   Scatter-gather list %p of MDL %p, made by ", (void *)list, (void *)mdl);
    expect_line(text, "      Elements: %x   Bytes: 3000   To the device\n", list->NumberOfElements);
    expect_line(text, "      Length:           2000\n      Virtual address:  %p\n      Logical address:  %lx\n", buffer, la.QuadPart);
    free(text);
    text = printed(print_adapter, NULL);
    expect_line(text, "1 DMA adapters\nAdapter: %p ", (void *)adapter);
    free(text);
    put_list(adapter, list, TRUE);
    adapter->DmaOperations->FreeCommonBuffer(adapter, 2 * PAGE_SIZE, la, buffer, TRUE);
    text = printed(print_adapter, adapter);
    expect_line(text, "   Scatter-gather lists: 00000001 allocated, 00000001 freed\n");
    EXPECT(strstr(text, "made by") == NULL && strstr(text, "Length:") == NULL);
    free(text);
    put_adapter(adapter);
    unlock_and_free(mdl);
}

static IO_ALLOCATION_ACTION keep_channel(PDEVICE_OBJECT device HARNESS_UNUSED, PIRP irp HARNESS_UNUSED, PVOID base HARNESS_UNUSED,
                                         PVOID context HARNESS_UNUSED)
{
    return KeepObject;
}

static void take_channel(PDMA_ADAPTER adapter, PDEVICE_OBJECT device)
{
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);

    EXPECT_STATUS(adapter->DmaOperations->AllocateAdapterChannel(adapter, device, 2, keep_channel, NULL), STATUS_SUCCESS);
    KeLowerIrql(irql);
}

/* A channel that its driver keeps is shown with its map registers, and who waits for it is counted. */
TEST(printers_io, adapter__channel_kept__shows_who_has_it_and_who_waits)
{
    const PDEVICE_OBJECT first = pinion_device_create("first"), second = pinion_device_create("second");
    const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION1, 24, FALSE, 4 * PAGE_SIZE));
    char *text;
    KIRQL irql;

    take_channel(adapter, first);
    take_channel(adapter, second);
    text = printed(print_adapter, adapter);
    expect_line(text, "   Bus master, 24 address bits, version 1\n");
    expect_line(text, "   Map registers:        00000002 in use, 00000003 free, 00000005 max\n");
    expect_line(text, "   Adapter channel:      kept by its driver, 1 requests wait for it\n");
    expect_line(text, "   Adapter channel of device %p, asked for by ", (void *)first);
    expect_line(text, "      Map registers: 2   Mapped: 0 bytes in 0 pieces\n");
    free(text);
    for (int i = 0; i < 2; i++) {
        irql = raise_irql(DISPATCH_LEVEL);
        adapter->DmaOperations->FreeAdapterChannel(adapter);
        KeLowerIrql(irql);
    }
    put_adapter(adapter);
}

/* With an IOMMU between, the adapter has a domain. */
TEST(printers_io, adapter__remapped__has_a_domain)
{
    boot("dma=remapped");
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 16 * PAGE_SIZE);
    char *const text = printed(print_adapter, adapter);

    expect_line(text, "   Domain: its own, logical pages 100..fffff\n");
    free(text);
    put_adapter(adapter);
}

/* What is no adapter, or not any more, is compared with the adapters there are and never looked at. */
TEST(printers_io, adapter__released_or_bad_address__says_that_it_is_none)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 64, PAGE_SIZE);
    void *addresses[8];
    char *text;

    put_adapter(adapter);
    text = printed(print_adapter, adapter);
    expect_line(text, "%p: it is no DMA adapter that is in use.\n", (void *)adapter);
    free(text);
    for (size_t i = bad_addresses(addresses); i-- > 1;) {
        text = printed(print_adapter, addresses[i]);
        expect_line(text, "%p: it is no DMA adapter that is in use.\n", addresses[i]);
        free(text);
    }
    text = printed(print_adapter, NULL);
    EXPECT_EQ(strcmp(text, "0 DMA adapters\n"), 0);
    free(text);
}
