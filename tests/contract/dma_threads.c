/* SPDX-License-Identifier: MIT */
/*
 * Adapters under concurrency: many requests wait for few map registers, and two threads ask at once. Each routine runs
 * exactly once, in the order of the requests, and no byte goes astray.
 */

#include "harness.h"
#include <wdm.h>

#include <pthread.h>
#include <stdlib.h>

#include "dma_support.h"

/* ---- Ten thousand requests over sixteen registers -------------------------------------------------------------- */

enum { REQUESTS = 10000, BUFFERS = 32 };

struct many {
    PDMA_ADAPTER adapter;
    PMDL mdls[BUFFERS];
    unsigned asked, called;
    struct one {
        struct many *many;
        unsigned number, calls;
        PSCATTER_GATHER_LIST list;
    } requests[REQUESTS];
};

static void note_order(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST ScatterGather, PVOID Context)
{
    struct one *const one = Context;

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    EXPECT_EQ(one->number, one->many->called);
    one->many->called++;
    one->calls++;
    one->list = ScatterGather;
}

/* GetScatterGatherList-06, GetScatterGatherList-07: all are accepted, none is lost, and they come in order, four pages at a time. */
TEST(dma_threads, ten_thousand_requests__over_16_registers__come_once_and_in_order)
{
    struct many *const many = calloc(1, sizeof(*many));
    UCHAR *const va = user_pattern(BUFFERS * 4, 1);
    static UCHAR seen[4 * PAGE_SIZE];
    KIRQL irql;

    many->adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 15 * PAGE_SIZE);
    for (int i = 0; i < BUFFERS; i++)
        many->mdls[i] = locked_mdl(va + i * 4 * PAGE_SIZE, 4 * PAGE_SIZE);
    irql = raise_irql(DISPATCH_LEVEL);
    for (unsigned i = 0; i < REQUESTS; i++) {
        many->requests[i] = (struct one){.many = many, .number = i};
        EXPECT_STATUS(many->adapter->DmaOperations->GetScatterGatherList(
                          many->adapter, NULL, many->mdls[i % BUFFERS], MmGetMdlVirtualAddress(many->mdls[i % BUFFERS]),
                          4 * PAGE_SIZE, note_order, &many->requests[i], TRUE), STATUS_SUCCESS);
    }
    EXPECT_EQ(many->called, 4);
    EXPECT_EQ(counters_now().outstanding_lists, 4);
    for (unsigned i = 0; i < REQUESTS; i++) {
        EXPECT_EQ(many->requests[i].calls, 1);
        if (i % 97 == 0) {
            device_reads(many->adapter, many->requests[i].list, seen);
            EXPECT_PATTERN_AT(seen, sizeof(seen), 1, i % BUFFERS * 4 * PAGE_SIZE);
        }
        many->adapter->DmaOperations->PutScatterGatherList(many->adapter, many->requests[i].list, TRUE);
    }
    KeLowerIrql(irql);
    EXPECT_EQ(many->called, REQUESTS);
    put_adapter(many->adapter);
    for (int i = 0; i < BUFFERS; i++)
        unlock_and_free(many->mdls[i]);
    pinion_user_free(va);
    free(many);
}

/* ---- Several threads on one adapter ---------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 1500 };

struct worker {
    PDMA_ADAPTER adapter;
    PEPROCESS process;
    unsigned number;
    pthread_t thread;
};

struct turn {
    KEVENT ready;
    PSCATTER_GATHER_LIST list;
    _Atomic unsigned calls;
};

static void take_turn(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST ScatterGather, PVOID Context)
{
    struct turn *const turn = Context;

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    turn->list = ScatterGather;
    turn->calls++;
    KeSetEvent(&turn->ready, IO_NO_INCREMENT, FALSE);
}

/* Ask, wait for the list, let the device write to it, give it back, look. */
static void round_trip(const struct worker *worker, PMDL mdl, const UCHAR *va, ULONG bytes, ULONG seed)
{
    UCHAR sent[2 * PAGE_SIZE];
    struct turn turn = {0};
    KIRQL irql;

    KeInitializeEvent(&turn.ready, NotificationEvent, FALSE);
    irql = raise_irql(DISPATCH_LEVEL);
    EXPECT_STATUS(worker->adapter->DmaOperations->GetScatterGatherList(worker->adapter, NULL, mdl, MmGetMdlVirtualAddress(mdl), bytes,
                                                                       take_turn, &turn, FALSE), STATUS_SUCCESS);
    KeLowerIrql(irql);
    EXPECT_STATUS(KeWaitForSingleObject(&turn.ready, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
    EXPECT_EQ(turn.calls, 1);
    fill_pattern(sent, bytes, seed);
    device_writes(worker->adapter, turn.list, sent);
    put_list(worker->adapter, turn.list, FALSE);
    EXPECT_PATTERN(va, bytes, seed);
}

static void *work(void *context)
{
    const struct worker *const worker = context;
    UCHAR *va;
    PMDL mdl;

    va = user_pages(2, PAGE_READWRITE);
    mdl = locked_mdl(va, 2 * PAGE_SIZE);
    for (unsigned i = 0; i < ROUNDS; i++)
        round_trip(worker, mdl, va, i % 2 == 0 ? 2 * PAGE_SIZE : 100, worker->number * 1000 + i);
    unlock_and_free(mdl);
    pinion_user_free(va);
    return NULL;
}

static void work_together(PDMA_ADAPTER adapter)
{
    struct worker workers[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.adapter = adapter, .number = i};
        EXPECT_EQ(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_join(workers[i].thread, NULL), 0);
    put_adapter(adapter);
}

/* GetScatterGatherList-05, GetScatterGatherList-07: threads that ask one adapter at once are all served, over two registers. */
TEST(dma_threads, threads__on_one_adapter_with_few_registers__are_all_served)
{
    work_together(master(DEVICE_DESCRIPTION_VERSION1, 32, PAGE_SIZE));
}

/* The same on a device that reaches everything, where only the routines take turns. */
TEST(dma_threads, threads__on_one_64_bit_adapter__are_all_served)
{
    work_together(master(DEVICE_DESCRIPTION_VERSION1, 64, PAGE_SIZE));
}

/* The same through an IOMMU. */
TEST(dma_threads, threads__on_one_remapped_adapter__are_all_served)
{
    boot("dma=remapped");
    work_together(master(DEVICE_DESCRIPTION_VERSION1, 32, PAGE_SIZE));
}
