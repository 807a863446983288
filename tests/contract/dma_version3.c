/* SPDX-License-Identifier: MIT */
/*
 * Version 3 of the DMA routines: information, contexts, channels and lists with flags and cancellation, transfers over chains.
 * Its common buffers and domains are in dma_buffers3.c.
 */

#include "harness.h"
#include <wdm.h>

#include "dma_support.h"

enum { PAGES = 6, BYTES = 5 * PAGE_SIZE, OFF = 300, SEED = 30 };

typedef union {
    UCHAR bytes[DMA_TRANSFER_CONTEXT_SIZE_V1];
    ULONG_PTR aligned;
} TRANSFER_CONTEXT;

/* A buffer of two MDLs, an adapter of version 3, a context. */
struct subject {
    PDMA_ADAPTER adapter;
    const DMA_OPERATIONS *operations;
    UCHAR *first, *second;
    PMDL mdl;
    ULONG bytes;
    TRANSFER_CONTEXT context;
};

static struct subject make_with(DEVICE_DESCRIPTION description)
{
    struct subject subject = {.first = user_pattern(PAGES, SEED), .second = user_pattern(PAGES, SEED + 1), .bytes = 2 * BYTES};

    subject.mdl = locked_mdl(subject.first + OFF, BYTES);
    subject.mdl->Next = locked_mdl(subject.second, BYTES);
    subject.adapter = get_adapter(description);
    subject.operations = subject.adapter->DmaOperations;
    EXPECT_STATUS(subject.operations->InitializeDmaTransferContext(subject.adapter, &subject.context), STATUS_SUCCESS);
    return subject;
}

static struct subject make(unsigned width)
{
    return make_with(describe(DEVICE_DESCRIPTION_VERSION3, width, TRUE, 65536));
}

static void end(struct subject *subject)
{
    put_adapter(subject->adapter);
    unlock_and_free(subject->mdl->Next);
    subject->mdl->Next = NULL;
    unlock_and_free(subject->mdl);
    pinion_user_free(subject->first);
    pinion_user_free(subject->second);
}

/* What the chain holds from `off` on. */
static void expect_chain_bytes(const UCHAR *seen, ULONG off, ULONG bytes)
{
    const ULONG in_first = off >= BYTES ? 0 : BYTES - off < bytes ? BYTES - off : bytes;

    EXPECT_PATTERN_AT(seen, in_first, SEED, OFF + off);
    EXPECT_PATTERN_AT(seen + in_first, bytes - in_first, SEED + 1, off + in_first - BYTES);
}

/* ---- The table and information --------------------------------------------------------------------------------- */

/* DMA_OPERATIONS-04, IoGetDmaAdapter-06: Windows 8 gives these thirteen, and no more. */
TEST(dma_version3, table__of_windows_8__has_thirteen_routines_more)
{
    const DMA_OPERATIONS *operations;
    PDMA_ADAPTER adapter;

    boot("windows=8");
    adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    operations = adapter->DmaOperations;
    EXPECT_EQ(operations->Size, 232);
    EXPECT(operations->GetDmaAdapterInfo != NULL && operations->GetDmaTransferInfo != NULL);
    EXPECT(operations->InitializeDmaTransferContext != NULL && operations->AllocateCommonBufferEx != NULL);
    EXPECT(operations->AllocateAdapterChannelEx != NULL && operations->ConfigureAdapterChannel != NULL);
    EXPECT(operations->CancelAdapterChannel != NULL && operations->MapTransferEx != NULL);
    EXPECT(operations->GetScatterGatherListEx != NULL && operations->BuildScatterGatherListEx != NULL);
    EXPECT(operations->FlushAdapterBuffersEx != NULL && operations->FreeAdapterObject != NULL);
    EXPECT(operations->CancelMappedTransfer != NULL);
    EXPECT(operations->AllocateDomainCommonBuffer == NULL && operations->CreateCommonBufferFromMdl == NULL);
    EXPECT(operations->CalculateScatterGatherList != NULL && operations->BuildMdlFromScatterGatherList != NULL);
    put_adapter(adapter);
}

/* DMA_OPERATIONS-05: Windows 10 gives all. */
TEST(dma_version3, table__of_windows_10__has_every_member)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);
    const DMA_OPERATIONS *operations = adapter->DmaOperations;

    EXPECT_EQ(operations->Size, sizeof(DMA_OPERATIONS));
    EXPECT(operations->AllocateDomainCommonBuffer != NULL && operations->FlushDmaBuffer != NULL);
    EXPECT(operations->JoinDmaDomain != NULL && operations->LeaveDmaDomain != NULL && operations->GetDmaDomain != NULL);
    EXPECT(operations->AllocateCommonBufferWithBounds != NULL && operations->AllocateCommonBufferVector != NULL);
    EXPECT(operations->GetCommonBufferFromVectorByIndex != NULL && operations->FreeCommonBufferFromVector != NULL);
    EXPECT(operations->FreeCommonBufferVector != NULL && operations->CreateCommonBufferFromMdl != NULL);
    put_adapter(adapter);
}

/* GetDmaAdapterInfo-01, GetDmaAdapterInfo-02: what the device can, in version 1 of the structure only. */
TEST(dma_version3, adapter_info__of_version_1__says_what_the_device_can)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 40, 65536);
    DMA_ADAPTER_INFO info = {.Version = 2};

    EXPECT_STATUS(adapter->DmaOperations->GetDmaAdapterInfo(adapter, &info), STATUS_NOT_SUPPORTED);
    info.Version = DMA_ADAPTER_INFO_VERSION1;
    EXPECT_STATUS(adapter->DmaOperations->GetDmaAdapterInfo(adapter, &info), STATUS_SUCCESS);
    EXPECT_EQ(info.V1.DmaAddressWidth, 40);
    EXPECT_EQ(info.V1.ScatterGatherLimit, 17);
    EXPECT_EQ(info.V1.ReadDmaCounterAvailable, FALSE);
    EXPECT_EQ(info.V1.Flags, 0);
    EXPECT(info.V1.MinimumTransferUnit >= 1);
    put_adapter(adapter);
}

/* GetDmaTransferInfo-01, GetDmaTransferInfo-02, GetDmaTransferInfo-03: what a transfer takes, by range, in versions 1 and 2. */
TEST(dma_version3, transfer_info__of_a_range_of_a_chain__says_what_it_takes)
{
    struct subject subject = make(64);
    DMA_TRANSFER_INFO info = {.Version = 3};

    EXPECT_STATUS(subject.operations->GetDmaTransferInfo(subject.adapter, subject.mdl, 0, 1, TRUE, &info), STATUS_NOT_SUPPORTED);
    info.Version = DMA_TRANSFER_INFO_VERSION2;
    EXPECT_STATUS(subject.operations->GetDmaTransferInfo(subject.adapter, subject.mdl, 0, subject.bytes, TRUE, &info), STATUS_SUCCESS);
    EXPECT_EQ(info.V2.MapRegisterCount, 6 + 5);
    EXPECT_EQ(info.V2.LogicalPageCount, 6 + 5);
    EXPECT(info.V2.ScatterGatherElementCount >= 2 && info.V2.ScatterGatherElementCount <= 11);
    EXPECT(info.V2.ScatterGatherListSize
           >= sizeof(SCATTER_GATHER_LIST) + info.V2.ScatterGatherElementCount * sizeof(SCATTER_GATHER_ELEMENT));
    info.Version = DMA_TRANSFER_INFO_VERSION1;
    EXPECT_STATUS(subject.operations->GetDmaTransferInfo(subject.adapter, subject.mdl, 2 * BYTES - 1, 1, FALSE, &info), STATUS_SUCCESS);
    EXPECT_EQ(info.V1.MapRegisterCount, 1);
    EXPECT_STATUS(subject.operations->GetDmaTransferInfo(subject.adapter, subject.mdl, 2 * BYTES - 1, 2, FALSE, &info),
                  STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(subject.operations->GetDmaTransferInfo(subject.adapter, subject.mdl, 0, 0, FALSE, &info), STATUS_INVALID_PARAMETER);
    end(&subject);
}

/* InitializeDmaTransferContext-01: no memory for the context is an invalid parameter. */
TEST(dma_version3, context__without_memory__is_refused)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);

    EXPECT_STATUS(adapter->DmaOperations->InitializeDmaTransferContext(adapter, NULL), STATUS_INVALID_PARAMETER);
    put_adapter(adapter);
}

/* ---- Channels -------------------------------------------------------------------------------------------------- */

struct control {
    IO_ALLOCATION_ACTION answer;
    unsigned calls;
    PVOID base;
};

static IO_ALLOCATION_ACTION on_control(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID MapRegisterBase, PVOID Context)
{
    struct control *const control = Context;

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    control->calls++;
    control->base = MapRegisterBase;
    return control->answer;
}

static NTSTATUS allocate(const struct subject *subject, PVOID context, ULONG registers, ULONG flags, struct control *control, PVOID *base)
{
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);
    const NTSTATUS status = subject->operations->AllocateAdapterChannelEx(
        subject->adapter, NULL, context, registers, flags, control == NULL ? NULL : on_control, control, base);

    KeLowerIrql(irql);
    return status;
}

static void renew(struct subject *subject)
{
    EXPECT_STATUS(subject->operations->InitializeDmaTransferContext(subject->adapter, &subject->context), STATUS_SUCCESS);
}

/* AllocateAdapterChannelEx-01, AllocateAdapterChannelEx-04, FreeAdapterObject-01: synchronous and without a routine, the resources are the
   caller's until it frees them. */
TEST(dma_version3, channel__synchronous_without_a_routine__is_the_callers)
{
    struct subject subject = make(32);
    NTSTATUS (*const routine)(PDMA_ADAPTER, PDEVICE_OBJECT, PVOID, ULONG, ULONG, PDRIVER_CONTROL, PVOID, PVOID *) =
        subject.operations->AllocateAdapterChannelEx;
    struct control waiting = {.answer = DeallocateObject};
    TRANSFER_CONTEXT second;
    PVOID base = NULL;

    EXPECT(routine != NULL);
    EXPECT_STATUS(allocate(&subject, &subject.context, 3, DMA_SYNCHRONOUS_CALLBACK, NULL, &base), STATUS_SUCCESS);
    EXPECT(base != NULL);
    subject.operations->InitializeDmaTransferContext(subject.adapter, &second);
    EXPECT_STATUS(allocate(&subject, &second, 1, 0, &waiting, NULL), STATUS_SUCCESS);
    EXPECT_EQ(waiting.calls, 0);
    subject.operations->FreeAdapterObject(subject.adapter, KeepObject);
    EXPECT_EQ(waiting.calls, 0);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    EXPECT_EQ(waiting.calls, 1);
    end(&subject);
}

/* FreeAdapterObject-01: DeallocateObjectKeepRegisters leaves the registers to FreeMapRegisters. */
TEST(dma_version3, free_object__that_keeps_registers__leaves_them)
{
    struct subject subject = make_with(describe(DEVICE_DESCRIPTION_VERSION3, 32, TRUE, 2 * PAGE_SIZE));
    struct control waiting = {.answer = DeallocateObject};
    TRANSFER_CONTEXT second;
    PVOID base = NULL;
    KIRQL irql;

    EXPECT_STATUS(allocate(&subject, &subject.context, 3, DMA_SYNCHRONOUS_CALLBACK, NULL, &base), STATUS_SUCCESS);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObjectKeepRegisters);
    subject.operations->InitializeDmaTransferContext(subject.adapter, &second);
    EXPECT_STATUS(allocate(&subject, &second, 1, 0, &waiting, NULL), STATUS_SUCCESS);
    EXPECT_EQ(waiting.calls, 0);
    irql = raise_irql(DISPATCH_LEVEL);
    subject.operations->FreeMapRegisters(subject.adapter, base, 3);
    KeLowerIrql(irql);
    EXPECT_EQ(waiting.calls, 1);
    end(&subject);
}

/* AllocateAdapterChannelEx-02, AllocateAdapterChannelEx-03: synchronous with a routine, it has run on return; busy, the call fails and
   nothing runs. */
TEST(dma_version3, channel__synchronous__runs_now_or_not_at_all)
{
    struct subject subject = make(32);
    struct control control = {.answer = DeallocateObject}, keep = {.answer = KeepObject};

    EXPECT_STATUS(allocate(&subject, &subject.context, 3, DMA_SYNCHRONOUS_CALLBACK, &control, NULL), STATUS_SUCCESS);
    EXPECT_EQ(control.calls, 1);
    renew(&subject);
    EXPECT_STATUS(allocate(&subject, &subject.context, 3, 0, &keep, NULL), STATUS_SUCCESS);
    renew(&subject);
    EXPECT_STATUS(allocate(&subject, &subject.context, 3, DMA_SYNCHRONOUS_CALLBACK, &control, NULL), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_EQ(control.calls, 1);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    end(&subject);
}

/* AllocateAdapterChannelEx-05: nobody to go on, or a result that would come too late. */
TEST(dma_version3, channel__with_nobody_to_go_on__is_refused)
{
    struct subject subject = make(32);
    struct control control = {.answer = DeallocateObject};
    PVOID base = &subject;

    EXPECT_STATUS(allocate(&subject, &subject.context, 1, 0, &control, &base), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(allocate(&subject, &subject.context, 1, 0, NULL, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(allocate(&subject, &subject.context, 1, DMA_SYNCHRONOUS_CALLBACK, NULL, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(allocate(&subject, NULL, 1, 0, &control, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_PTR_EQ(base, &subject);
    EXPECT_EQ(control.calls, 0);
    end(&subject);
}

/* AllocateAdapterChannelEx-06, CancelAdapterChannel-01: a waiting request can be cancelled, one that has been served cannot; a context
   serves once. */
TEST(dma_version3, cancel__of_a_waiting_request__takes_it_out)
{
    struct subject subject = make(32);
    struct control keep = {.answer = KeepObject}, waiting = {.answer = DeallocateObject}, last = waiting;
    TRANSFER_CONTEXT second, third;

    subject.operations->InitializeDmaTransferContext(subject.adapter, &second);
    subject.operations->InitializeDmaTransferContext(subject.adapter, &third);
    EXPECT_STATUS(allocate(&subject, &subject.context, 1, 0, &keep, NULL), STATUS_SUCCESS);
    EXPECT_STATUS(allocate(&subject, &second, 1, 0, &waiting, NULL), STATUS_SUCCESS);
    EXPECT_STATUS(allocate(&subject, &third, 1, 0, &last, NULL), STATUS_SUCCESS);
    EXPECT_STATUS(allocate(&subject, &third, 1, 0, &last, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(subject.operations->CancelAdapterChannel(subject.adapter, NULL, &subject.context), FALSE);
    EXPECT_EQ(subject.operations->CancelAdapterChannel(subject.adapter, NULL, &second), TRUE);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    EXPECT_EQ(waiting.calls, 0);
    EXPECT_EQ(last.calls, 1);
    EXPECT_EQ(subject.operations->CancelAdapterChannel(subject.adapter, NULL, &third), FALSE);
    end(&subject);
}

/* CancelAdapterChannel-02: cancelled before it is asked for, a request never runs. */
TEST(dma_version3, cancel__before_the_request__cancels_it)
{
    struct subject subject = make(32);
    struct control control = {.answer = DeallocateObject};

    EXPECT_EQ(subject.operations->CancelAdapterChannel(subject.adapter, NULL, &subject.context), TRUE);
    EXPECT_STATUS(allocate(&subject, &subject.context, 1, 0, &control, NULL), STATUS_CANCELLED);
    EXPECT_EQ(control.calls, 0);
    end(&subject);
}

/* ConfigureAdapterChannel-01: no controller here has functions of its own. */
TEST(dma_version3, configure__any_function__is_not_implemented)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, 64, 65536);

    EXPECT_STATUS(adapter->DmaOperations->ConfigureAdapterChannel(adapter, 1, NULL), STATUS_NOT_IMPLEMENTED);
    put_adapter(adapter);
}

static VOID on_completion(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID CompletionContext, DMA_COMPLETION_STATUS Status);

/* ---- Transfers ------------------------------------------------------------------------------------------------- */

static PVOID get_registers(struct subject *subject, ULONG registers)
{
    PVOID base = NULL;

    EXPECT_STATUS(allocate(subject, &subject->context, registers, DMA_SYNCHRONOUS_CALLBACK, NULL, &base), STATUS_SUCCESS);
    return base;
}

/* MapTransferEx-01, MapTransferEx-02, MapTransferEx-03, MapTransferEx-04, FlushAdapterBuffersEx-01: by a small list, and by few registers,
   the loop covers the chain exactly. */
TEST(dma_version3, map_ex__in_a_loop__covers_the_chain)
{
    static const struct {
        unsigned width;
        ULONG registers, room;
        BOOLEAN scatter_gather;
    } cases[] = {{64, 17, 100, TRUE}, {64, 17, 2, TRUE}, {32, 4, 100, TRUE}, {24, 3, 1, TRUE}, {32, 5, 1, FALSE}, {64, 4, 3, FALSE}};
    static UCHAR seen[2 * BYTES], space[sizeof(SCATTER_GATHER_LIST) + 100 * sizeof(SCATTER_GATHER_ELEMENT)];
    const PSCATTER_GATHER_LIST list = (PSCATTER_GATHER_LIST)space;

    for (SIZE_T i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct subject subject = make_with(describe(DEVICE_DESCRIPTION_VERSION3, cases[i].width, cases[i].scatter_gather, 65536));
        const PVOID base = get_registers(&subject, cases[i].registers);

        for (ULONG done = 0; done < subject.bytes;) {
            ULONG length = subject.bytes - done;

            EXPECT_STATUS(subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, done, 0, &length, TRUE, list,
                                                            (ULONG)(16 + 24 * cases[i].room), NULL, NULL), STATUS_SUCCESS);
            EXPECT(length > 0 && length <= subject.bytes - done);
            EXPECT_EQ(list_sum(list), length);
            EXPECT(list->NumberOfElements <= cases[i].room);
            device_reads(subject.adapter, list, seen + done);
            EXPECT_STATUS(subject.operations->FlushAdapterBuffersEx(subject.adapter, subject.mdl, base, done, length, TRUE),
                          STATUS_SUCCESS);
            done += length;
        }
        expect_chain_bytes(seen, 0, subject.bytes);
        subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
        end(&subject);
    }
}

/*
 * SCATTER_GATHER_LIST-03, GetDmaTransferInfo-01, MapTransferEx-03: without scatter/gather a chain is one element, and as many registers
 * as were said to be needed map all of it, though its MDLs end in the middle of pages.
 */
TEST(dma_version3, map_ex__without_scatter_gather__fits_the_registers_it_was_told)
{
    static UCHAR seen[2 * BYTES], space[1024];
    const PSCATTER_GATHER_LIST list = (PSCATTER_GATHER_LIST)space;
    static const unsigned widths[] = {24, 32, 64};

    for (SIZE_T i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        struct subject subject = make_with(describe(DEVICE_DESCRIPTION_VERSION3, widths[i], FALSE, 65536));
        const ULONG bytes = 100 + 3 * PAGE_SIZE - 500, off = BYTES - 100;
        DMA_TRANSFER_INFO info = {.Version = DMA_TRANSFER_INFO_VERSION1};
        ULONG length = bytes;
        PVOID base;

        EXPECT_STATUS(subject.operations->GetDmaTransferInfo(subject.adapter, subject.mdl, off, bytes, TRUE, &info), STATUS_SUCCESS);
        EXPECT_EQ(info.V1.ScatterGatherElementCount, 1);
        EXPECT_EQ(info.V1.MapRegisterCount, 3);
        base = get_registers(&subject, info.V1.MapRegisterCount);
        EXPECT_STATUS(subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, off, 0, &length, TRUE, list, sizeof(space), NULL,
                                                        NULL), STATUS_SUCCESS);
        EXPECT_EQ(length, bytes);
        EXPECT_EQ(list->NumberOfElements, 1);
        device_reads(subject.adapter, list, seen);
        expect_chain_bytes(seen, off, bytes);
        EXPECT_STATUS(subject.operations->FlushAdapterBuffersEx(subject.adapter, subject.mdl, base, off, length, TRUE), STATUS_SUCCESS);
        subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
        end(&subject);
    }
}

/* FlushAdapterBuffersEx-01: what the device wrote is there after the flush. */
TEST(dma_version3, flush_ex__of_a_read__brings_the_bytes)
{
    struct subject subject = make(32);
    static UCHAR space[1024], sent[2 * BYTES];
    const PSCATTER_GATHER_LIST list = (PSCATTER_GATHER_LIST)space;
    const PVOID base = get_registers(&subject, 17);
    ULONG length = 2 * BYTES - 1000;

    EXPECT_STATUS(subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, 1000, 0, &length, FALSE, list, sizeof(space), NULL,
                                                    NULL), STATUS_SUCCESS);
    EXPECT_EQ(length, 2 * BYTES - 1000);
    fill_pattern(sent, length, 99);
    device_writes(subject.adapter, list, sent);
    EXPECT_PATTERN(subject.first, PAGES * PAGE_SIZE, SEED);
    EXPECT_STATUS(subject.operations->FlushAdapterBuffersEx(subject.adapter, subject.mdl, base, 1000, length, FALSE), STATUS_SUCCESS);
    EXPECT_PATTERN(subject.first, OFF + 1000, SEED);
    EXPECT_PATTERN(subject.first + OFF + 1000, BYTES - 1000, 99);
    EXPECT_PATTERN_AT(subject.second, BYTES, 99, BYTES - 1000);
    EXPECT_STATUS(subject.operations->FlushAdapterBuffersEx(subject.adapter, subject.mdl, NULL, 0, 1, FALSE), STATUS_INVALID_PARAMETER);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    end(&subject);
}

/* FlushAdapterBuffersEx-01: the range of a flush is the one that was mapped, though the chain is shorter meanwhile. */
TEST(dma_version3, flush_ex__of_a_chain_shortened_meanwhile__brings_the_bytes)
{
    struct subject subject = make(32);
    static UCHAR space[1024], sent[2 * BYTES];
    const PSCATTER_GATHER_LIST list = (PSCATTER_GATHER_LIST)space;
    const PVOID base = get_registers(&subject, 17);
    const PMDL second = subject.mdl->Next;
    ULONG length = 2 * BYTES;

    EXPECT_STATUS(subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, 0, 0, &length, FALSE, list, sizeof(space), NULL,
                                                    NULL), STATUS_SUCCESS);
    fill_pattern(sent, length, 99);
    device_writes(subject.adapter, list, sent);
    subject.mdl->ByteCount = 100;
    subject.mdl->Next = NULL;
    EXPECT_STATUS(subject.operations->FlushAdapterBuffersEx(subject.adapter, subject.mdl, base, 0, length, FALSE), STATUS_SUCCESS);
    subject.mdl->ByteCount = BYTES;
    subject.mdl->Next = second;
    EXPECT_PATTERN(subject.first + OFF, BYTES, 99);
    EXPECT_PATTERN_AT(subject.second, BYTES, 99, BYTES);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    end(&subject);
}

/* MapTransferEx-05, MapTransferEx-06: no list for a bus master, one without room for an element, a completion routine, a range outside. */
TEST(dma_version3, map_ex__with_wrong_arguments__is_refused)
{
    struct subject subject = make(32);
    static UCHAR space[1024];
    const PSCATTER_GATHER_LIST list = (PSCATTER_GATHER_LIST)space;
    const PVOID base = get_registers(&subject, 17);
    const PMAP_TRANSFER_EX map = subject.operations->MapTransferEx;
    ULONG length = 100;

    EXPECT_STATUS(map(subject.adapter, subject.mdl, base, 0, 0, &length, TRUE, NULL, 0, NULL, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(map(subject.adapter, subject.mdl, base, 0, 0, &length, TRUE, list, 39, NULL, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(map(subject.adapter, subject.mdl, base, 2 * BYTES - 99, 0, &length, TRUE, list, 1024, NULL, NULL),
                  STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(map(subject.adapter, subject.mdl, base, 0, 0, &length, TRUE, list, 1024, on_completion, NULL),
                  STATUS_INVALID_PARAMETER);
    EXPECT_EQ(length, 100);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    end(&subject);
}

/* CancelMappedTransfer-01, MapTransferEx-05: after it, nothing is mapped under that context any more; the flush is still due. */
TEST(dma_version3, cancel_mapped__lets_no_further_transfer_begin)
{
    struct subject subject = make(32);
    static UCHAR space[1024];
    const PSCATTER_GATHER_LIST list = (PSCATTER_GATHER_LIST)space;
    const PVOID base = get_registers(&subject, 17);
    ULONG length = 100;

    EXPECT_STATUS(subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, 0, 0, &length, TRUE, list, 1024, NULL, NULL),
                  STATUS_SUCCESS);
    EXPECT_STATUS(subject.operations->CancelMappedTransfer(subject.adapter, &subject.context), STATUS_SUCCESS);
    EXPECT_STATUS(subject.operations->FlushAdapterBuffersEx(subject.adapter, subject.mdl, base, 0, 100, TRUE), STATUS_SUCCESS);
    EXPECT_STATUS(subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, 0, 0, &length, TRUE, list, 1024, NULL, NULL),
                  STATUS_CANCELLED);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    end(&subject);
}

/* ---- Behind the system's controller ---------------------------------------------------------------------------- */

struct completion {
    unsigned calls;
    KIRQL irql;
    DMA_COMPLETION_STATUS status;
    ULONG *length, seen_length;
};

static VOID on_completion(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject, PVOID CompletionContext, DMA_COMPLETION_STATUS Status)
{
    struct completion *const completion = CompletionContext;

    UNREFERENCED_PARAMETER(DmaAdapter);
    UNREFERENCED_PARAMETER(DeviceObject);
    completion->calls++;
    completion->irql = KeGetCurrentIrql();
    completion->status = Status;
    completion->seen_length = *completion->length;
}

static DEVICE_DESCRIPTION subordinate(void)
{
    return (DEVICE_DESCRIPTION){.Version = DEVICE_DESCRIPTION_VERSION3, .Master = FALSE, .DmaRequestLine = 1, .InterfaceType = Isa,
                                .DmaWidth = Width8Bits, .MaximumLength = 65536};
}

/* DmaCompletionRoutine-01, DmaCompletionRoutine-02, MapTransferEx-06: a system transfer needs no list, and its end is told at DISPATCH_LEVEL. */
TEST(dma_version3, completion__of_a_system_transfer__is_told_once)
{
    struct subject subject = make_with(subordinate());
    const PVOID base = get_registers(&subject, 17);
    ULONG length = 6000;
    struct completion completion = {.length = &length};
    static UCHAR seen[6000];

    EXPECT_EQ(DmaComplete, 0);
    EXPECT_EQ(DmaAborted, 1);
    EXPECT_EQ(DmaError, 2);
    EXPECT_EQ(DmaCancelled, 3);
    EXPECT_STATUS(subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, 100, 0, &length, TRUE, NULL, 0, on_completion,
                                                    &completion), STATUS_SUCCESS);
    EXPECT_STATUS(pinion_device_read(subject.adapter, 0, seen, 5999), STATUS_SUCCESS);
    EXPECT_EQ(completion.calls, 0);
    EXPECT_STATUS(pinion_device_read(subject.adapter, 0, seen + 5999, 1), STATUS_SUCCESS);
    EXPECT_EQ(completion.calls, 1);
    EXPECT_EQ(completion.irql, DISPATCH_LEVEL);
    EXPECT_EQ(completion.status, DmaComplete);
    EXPECT_EQ(completion.seen_length, 6000);
    expect_chain_bytes(seen, 100, 6000);
    EXPECT_STATUS(subject.operations->FlushAdapterBuffersEx(subject.adapter, subject.mdl, base, 100, 6000, TRUE), STATUS_SUCCESS);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    end(&subject);
}

/* CancelMappedTransfer-01, DmaCompletionRoutine-02: a cancelled system transfer ends with DmaCancelled. */
TEST(dma_version3, completion__of_a_cancelled_transfer__says_so)
{
    struct subject subject = make_with(subordinate());
    const PVOID base = get_registers(&subject, 17);
    ULONG length = 6000;
    struct completion completion = {.length = &length};

    EXPECT_STATUS(subject.operations->MapTransferEx(subject.adapter, subject.mdl, base, 0, 0, &length, TRUE, NULL, 0, on_completion,
                                                    &completion), STATUS_SUCCESS);
    EXPECT_STATUS(subject.operations->CancelMappedTransfer(subject.adapter, &subject.context), STATUS_SUCCESS);
    EXPECT_EQ(completion.calls, 1);
    EXPECT_EQ(completion.status, DmaCancelled);
    EXPECT_STATUS(subject.operations->FlushAdapterBuffersEx(subject.adapter, subject.mdl, base, 0, 6000, TRUE), STATUS_SUCCESS);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObject);
    end(&subject);
}

/* ---- Lists ----------------------------------------------------------------------------------------------------- */

static NTSTATUS get_ex(struct subject *subject, ULONGLONG off, ULONG bytes, ULONG flags, struct heard *heard, PSCATTER_GATHER_LIST *out)
{
    return subject->operations->GetScatterGatherListEx(subject->adapter, NULL, &subject->context, subject->mdl, off, bytes, flags,
                                                       heard == NULL ? NULL : hear, heard, TRUE, NULL, NULL, out);
}

/* GetScatterGatherListEx-01, GetScatterGatherListEx-03: by offset, with a routine. */
TEST(dma_version3, list_ex__by_offset__describes_that_range)
{
    static UCHAR seen[2 * BYTES];
    static const struct {
        ULONG off, bytes;
    } ranges[] = {{0, 1}, {0, 2 * BYTES}, {2 * BYTES - 1, 1}, {BYTES - 100, 200}, {BYTES, BYTES}, {123, BYTES}};

    for (SIZE_T i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        struct subject subject = make(i % 2 == 0 ? 32 : 64);
        struct heard heard = {0};

        EXPECT_STATUS(get_ex(&subject, ranges[i].off, ranges[i].bytes, 0, &heard, NULL), STATUS_SUCCESS);
        EXPECT_EQ(heard.calls, 1);
        EXPECT_EQ(heard.irql, DISPATCH_LEVEL);
        EXPECT_EQ(list_sum(heard.list), ranges[i].bytes);
        device_reads(subject.adapter, heard.list, seen);
        expect_chain_bytes(seen, ranges[i].off, ranges[i].bytes);
        put_list(subject.adapter, heard.list, TRUE);
        end(&subject);
    }
}

/* GetScatterGatherListEx-02, GetScatterGatherListEx-03: nobody to give the list to, or a range outside. */
TEST(dma_version3, list_ex__with_wrong_arguments__is_refused)
{
    struct subject subject = make(32);
    struct heard heard = {0};
    PSCATTER_GATHER_LIST list = NULL;

    EXPECT_STATUS(get_ex(&subject, 0, 1, DMA_SYNCHRONOUS_CALLBACK, NULL, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(get_ex(&subject, 0, 1, 0, NULL, &list), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(get_ex(&subject, 2 * BYTES, 1, 0, &heard, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(get_ex(&subject, 1, 2 * BYTES, 0, &heard, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(get_ex(&subject, 0, 0, 0, &heard, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(heard.calls, 0);
    EXPECT(list == NULL);
    end(&subject);
}

/* GetScatterGatherListEx-01, FreeAdapterObject-01: synchronous without a routine, the list is the caller's, and the adapter too. */
TEST(dma_version3, list_ex__synchronous_without_a_routine__is_the_callers)
{
    struct subject subject = make(32);
    PSCATTER_GATHER_LIST list = NULL, second = NULL;
    static UCHAR seen[2 * BYTES];

    EXPECT_STATUS(get_ex(&subject, 0, 2 * BYTES, DMA_SYNCHRONOUS_CALLBACK, NULL, &list), STATUS_SUCCESS);
    renew(&subject);
    EXPECT_STATUS(get_ex(&subject, 0, 1, DMA_SYNCHRONOUS_CALLBACK, NULL, &second), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT(second == NULL);
    device_reads(subject.adapter, list, seen);
    expect_chain_bytes(seen, 0, 2 * BYTES);
    subject.operations->FreeAdapterObject(subject.adapter, DeallocateObjectKeepRegisters);
    put_list(subject.adapter, list, TRUE);
    end(&subject);
}

/* FreeAdapterObject-01: before the put or after it, whatever it is to do with the registers, or not at all. The next request has the channel. */
TEST(dma_version3, free_object__before_or_after_the_put_of_a_list__frees_the_channel)
{
    static const struct {
        IO_ALLOCATION_ACTION before, after;
    } orders[] = {{DeallocateObject, KeepObject}, {DeallocateObjectKeepRegisters, KeepObject}, {KeepObject, DeallocateObject},
                  {KeepObject, DeallocateObjectKeepRegisters}, {KeepObject, KeepObject}};

    for (SIZE_T i = 0; i < 2 * sizeof(orders) / sizeof(orders[0]); i++) {
        struct subject subject = make(i % 2 == 0 ? 32 : 64);
        PSCATTER_GATHER_LIST list = NULL;

        for (unsigned round = 0; round < 2; round++) {
            EXPECT_STATUS(get_ex(&subject, 0, 2 * BYTES, DMA_SYNCHRONOUS_CALLBACK, NULL, &list), STATUS_SUCCESS);
            subject.operations->FreeAdapterObject(subject.adapter, orders[i / 2].before);
            put_list(subject.adapter, list, TRUE);
            subject.operations->FreeAdapterObject(subject.adapter, orders[i / 2].after);
            renew(&subject);
        }
        end(&subject);
    }
}

/* BuildScatterGatherListEx-01: in the caller's memory, which must be large enough. */
TEST(dma_version3, build_ex__in_the_callers_memory__needs_room)
{
    struct subject subject = make(64);
    DMA_TRANSFER_INFO info = {.Version = DMA_TRANSFER_INFO_VERSION1};
    static UCHAR seen[2 * BYTES], space[2048];
    PVOID list = NULL;
    struct heard heard = {0};
    KIRQL irql;

    EXPECT_STATUS(subject.operations->GetDmaTransferInfo(subject.adapter, subject.mdl, 0, 2 * BYTES, TRUE, &info), STATUS_SUCCESS);
    irql = raise_irql(DISPATCH_LEVEL);
    EXPECT_STATUS(subject.operations->BuildScatterGatherListEx(subject.adapter, NULL, &subject.context, subject.mdl, 0, 2 * BYTES, 0, hear,
                                                               &heard, TRUE, space, info.V1.ScatterGatherListSize - 1, NULL, NULL, &list),
                  STATUS_BUFFER_TOO_SMALL);
    EXPECT_EQ(heard.calls, 0);
    EXPECT_STATUS(subject.operations->BuildScatterGatherListEx(subject.adapter, NULL, &subject.context, subject.mdl, 0, 2 * BYTES, 0, hear,
                                                               &heard, TRUE, space, info.V1.ScatterGatherListSize, NULL, NULL, &list),
                  STATUS_SUCCESS);
    KeLowerIrql(irql);
    EXPECT_EQ(heard.calls, 1);
    EXPECT_PTR_EQ(heard.list, space);
    EXPECT_PTR_EQ(list, space);
    device_reads(subject.adapter, heard.list, seen);
    expect_chain_bytes(seen, 0, 2 * BYTES);
    put_list(subject.adapter, heard.list, TRUE);
    end(&subject);
}
