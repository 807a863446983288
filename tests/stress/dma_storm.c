/* SPDX-License-Identifier: MIT */
/*
 * Threads on one adapter with few map registers: lists, lists that are cancelled or not, channels without waiting, common
 * buffers, each checked byte by byte. At the end nothing is out.
 */

#include "harness.h"
#include <wdm.h>

#include <pthread.h>

#include "../contract/dma_support.h"

enum { THREADS = 4, ROUNDS = 1500, BYTES = 2 * PAGE_SIZE };

struct thread {
    PDMA_ADAPTER adapter;
    uint64_t random;
    UCHAR *va;
    PMDL mdl;
    unsigned cancelled, served;
    pthread_t handle;
};

struct request {
    KEVENT ready;
    PSCATTER_GATHER_LIST list;
    _Atomic unsigned calls;
};

static ULONG next_random(struct thread *thread)
{
    thread->random = thread->random * 6364136223846793005ull + 1442695040888963407ull;
    return (ULONG)(thread->random >> 33);
}

static void on_list(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST ScatterGather, PVOID Context)
{
    struct request *const request = Context;

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    request->list = ScatterGather;
    request->calls++;
    KeSetEvent(&request->ready, IO_NO_INCREMENT, FALSE);
}

/* The device writes through the list, and the buffer shows it after the put. */
static void use_list(struct thread *thread, struct request *request, ULONG off, ULONG bytes)
{
    UCHAR sent[BYTES];
    const ULONG seed = next_random(thread) % 1000;

    EXPECT_STATUS(KeWaitForSingleObject(&request->ready, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
    EXPECT_EQ(request->calls, 1);
    fill_pattern(sent, bytes, seed);
    device_writes(thread->adapter, request->list, sent);
    put_list(thread->adapter, request->list, FALSE);
    EXPECT_PATTERN(thread->va + off, bytes, seed);
    thread->served++;
}

static void ask_plainly(struct thread *thread)
{
    const ULONG off = next_random(thread) % BYTES, bytes = 1 + next_random(thread) % (BYTES - off);
    struct request request = {0};
    KIRQL irql;

    KeInitializeEvent(&request.ready, NotificationEvent, FALSE);
    irql = raise_irql(DISPATCH_LEVEL);
    EXPECT_STATUS(thread->adapter->DmaOperations->GetScatterGatherList(thread->adapter, NULL, thread->mdl, thread->va + off, bytes, on_list,
                                                                       &request, FALSE), STATUS_SUCCESS);
    KeLowerIrql(irql);
    use_list(thread, &request, off, bytes);
}

/* Either the cancellation wins and the routine never runs, or it runs once. */
static void ask_and_cancel(struct thread *thread)
{
    const DMA_OPERATIONS *operations = thread->adapter->DmaOperations;
    const ULONG off = next_random(thread) % BYTES, bytes = 1 + next_random(thread) % (BYTES - off);
    ULONG_PTR context[DMA_TRANSFER_CONTEXT_SIZE_V1 / sizeof(ULONG_PTR)];
    struct request request = {0};

    KeInitializeEvent(&request.ready, NotificationEvent, FALSE);
    EXPECT_STATUS(operations->InitializeDmaTransferContext(thread->adapter, context), STATUS_SUCCESS);
    EXPECT_STATUS(operations->GetScatterGatherListEx(thread->adapter, NULL, context, thread->mdl, off, bytes, 0, on_list, &request, FALSE,
                                                     NULL, NULL, NULL), STATUS_SUCCESS);
    if (!operations->CancelAdapterChannel(thread->adapter, NULL, context)) {
        use_list(thread, &request, off, bytes);
        return;
    }
    thread->cancelled++;
    EXPECT_EQ(request.calls, 0);
}

static void try_channel(struct thread *thread)
{
    const DMA_OPERATIONS *operations = thread->adapter->DmaOperations;
    ULONG_PTR context[DMA_TRANSFER_CONTEXT_SIZE_V1 / sizeof(ULONG_PTR)];
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);
    PVOID base = NULL;
    NTSTATUS status;

    operations->InitializeDmaTransferContext(thread->adapter, context);
    status = operations->AllocateAdapterChannelEx(thread->adapter, NULL, context, 1 + next_random(thread) % 3, DMA_SYNCHRONOUS_CALLBACK,
                                                  NULL, NULL, &base);
    if (status == STATUS_SUCCESS)
        operations->FreeAdapterObject(thread->adapter, DeallocateObject);
    else
        EXPECT_STATUS(status, STATUS_INSUFFICIENT_RESOURCES);
    KeLowerIrql(irql);
}

static void use_buffer(struct thread *thread)
{
    PHYSICAL_ADDRESS la;
    UCHAR byte = 0, *const va = thread->adapter->DmaOperations->AllocateCommonBuffer(thread->adapter, 3000, &la, TRUE);

    EXPECT(va != NULL);
    va[2999] = 77;
    EXPECT_STATUS(pinion_device_read(thread->adapter, (uint64_t)la.QuadPart + 2999, &byte, 1), STATUS_SUCCESS);
    EXPECT_EQ(byte, 77);
    thread->adapter->DmaOperations->FreeCommonBuffer(thread->adapter, 3000, la, va, TRUE);
}

static void *work(void *argument)
{
    static void (*const actions[])(struct thread *) = {ask_plainly, ask_and_cancel, ask_and_cancel, try_channel, use_buffer};
    struct thread *const thread = argument;

    thread->va = user_pages(2, PAGE_READWRITE);
    thread->mdl = locked_mdl(thread->va, BYTES);
    for (unsigned i = 0; i < ROUNDS; i++)
        actions[next_random(thread) % 5](thread);
    unlock_and_free(thread->mdl);
    pinion_user_free(thread->va);
    return NULL;
}

static void storm(unsigned width)
{
    struct thread threads[THREADS];
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION3, width, 3 * PAGE_SIZE);
    unsigned served = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.adapter = adapter, .random = i + 1};
        EXPECT_EQ(pthread_create(&threads[i].handle, NULL, work, &threads[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        EXPECT_EQ(pthread_join(threads[i].handle, NULL), 0);
        served += threads[i].served;
    }
    EXPECT(served > THREADS * ROUNDS / 5);
    put_adapter(adapter);
}

/* GetScatterGatherList-07, CancelAdapterChannel-01, AllocateAdapterChannelEx-02: on a device that needs map registers. */
TEST(dma_storm, threads__on_a_32_bit_adapter__lose_nothing)
{
    storm(32);
}

/* The same through an IOMMU. */
TEST(dma_storm, threads__on_a_remapped_adapter__lose_nothing)
{
    boot("dma=remapped");
    storm(32);
}
