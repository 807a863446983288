/* SPDX-License-Identifier: MIT */
/* Requests that belong to the thread which built them: what becomes of them when it ends. */

#include "io_stack.h"
#include "support.h"
#include "threads.h"

static KEVENT event;
static IO_STATUS_BLOCK status_block;

static PIRP build_flush(struct layer *layer, PIO_STATUS_BLOCK block)
{
    KeInitializeEvent(&event, NotificationEvent, FALSE);
    status_block = (IO_STATUS_BLOCK){.Status = 0x5A5A5A5A};
    return IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, layer->device, NULL, 0, NULL, &event, block);
}

static void send_and_end(void *context)
{
    struct layer *layer = context;

    EXPECT_STATUS(IoCallDriver(layer->device, build_flush(layer, &status_block)), STATUS_PENDING);
}

static void run_to_its_end(void (*body)(void *), void *context)
{
    struct test_thread thread;

    thread_start(&thread, body, context);
    thread_join(&thread);
}

static void expect_over(NTSTATUS status)
{
    EXPECT_EQ(KeReadStateEvent(&event), 1);
    EXPECT_STATUS(status_block.Status, status);
}

/* ---- a driver that lets its IRPs be cancelled -------------------------------------------------------------------- */

static void cancel_held(PDEVICE_OBJECT device, PIRP irp)
{
    EXPECT_PTR_EQ(layer_of(device)->held, irp);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    IoReleaseCancelSpinLock(irp->CancelIrql);
    layer_complete(irp, STATUS_CANCELLED, 0);
}

static NTSTATUS hold_cancelable(struct layer *layer, PIRP irp)
{
    IoMarkIrpPending(irp);
    __atomic_store_n(&layer->held, irp, __ATOMIC_RELEASE);
    EXPECT(IoSetCancelRoutine(irp, cancel_held) == NULL);
    return STATUS_PENDING;
}

/* IoBuildSynchronousFsdRequest-04: the request of a thread that ends is cancelled. */
TEST(io_build_threads, sync__thread_ends__is_cancelled)
{
    struct layer layer;
    struct pinion_counters before;

    layer_create(&layer, 0, hold_cancelable);
    before = counters_now();
    run_to_its_end(send_and_end, &layer);
    expect_over(STATUS_CANCELLED);
    EXPECT_SAME_COUNTERS(before);
    layer_destroy(&layer);
}

/* ---- one that does not ------------------------------------------------------------------------------------------- */

static NTSTATUS hold_visibly(struct layer *layer, PIRP irp)
{
    IoMarkIrpPending(irp);
    __atomic_store_n(&layer->held, irp, __ATOMIC_RELEASE);
    return STATUS_PENDING;
}

/* IoBuildSynchronousFsdRequest-04: without a cancel routine the IRP is marked, and the thread waits for its end. */
TEST(io_build_threads, sync__thread_ends_but_nobody_cancels__waits)
{
    struct layer layer;
    struct test_thread thread;

    layer_create(&layer, 0, hold_visibly);
    thread_start(&thread, send_and_end, &layer);
    while (__atomic_load_n(&layer.held, __ATOMIC_ACQUIRE) == NULL || !__atomic_load_n(&layer.held->Cancel, __ATOMIC_ACQUIRE))
        sched_yield();
    EXPECT_EQ(KeReadStateEvent(&event), 0);
    layer_complete(layer.held, STATUS_SUCCESS, 0);
    thread_join(&thread);
    expect_over(STATUS_SUCCESS);
    layer_destroy(&layer);
}

/* ---- requests that are none of the thread's ---------------------------------------------------------------------- */

static void send_and_wait_for_end(void *context)
{
    struct layer *layer = context;

    EXPECT_STATUS(IoCallDriver(layer->device, build_flush(layer, &status_block)), STATUS_SUCCESS);
}

/* A request that is over is not cancelled. */
TEST(io_build_threads, sync__over_before_the_thread_ends__stays_as_it_is)
{
    struct layer layer;

    layer_create(&layer, 0, complete_with_success);
    run_to_its_end(send_and_wait_for_end, &layer);
    expect_over(STATUS_SUCCESS);
    layer_destroy(&layer);
}

static void build_async(void *context)
{
    struct layer *layer = context;

    layer->held = IoBuildAsynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, layer->device, NULL, 0, NULL, NULL);
}

/* IoBuildAsynchronousFsdRequest-01: an asynchronous one belongs to no thread. */
TEST(io_build_threads, async__thread_ends__is_not_cancelled)
{
    struct layer layer;

    layer_create(&layer, 0, complete_with_success);
    run_to_its_end(build_async, &layer);
    EXPECT_EQ(layer.held->Cancel, FALSE);
    IoFreeIrp(layer.held);
    layer_destroy(&layer);
}

/* ---- a status block on the thread's stack ------------------------------------------------------------------------ */

static void send_with_own_block(void *context)
{
    struct layer *layer = context;
    IO_STATUS_BLOCK own;

    EXPECT_STATUS(IoCallDriver(layer->device, build_flush(layer, &own)), STATUS_PENDING);
}

/* Driver_Verifier_I_O_verification-02: a thread that ends while a request may yet write to its stack. */
STOP_TEST(io_build_threads, sync__status_block_on_the_stack_of_the_ended_thread__stops, 0xC9, 0x0C)
{
    struct layer layer;

    layer_create(&layer, 0, hold_cancelable);
    run_to_its_end(send_with_own_block, &layer);
}

/* Without the verifier nothing is written there. */
TEST(io_build_threads, sync__the_same_without_verifier__is_cancelled_silently)
{
    struct layer layer;

    boot("verifier=off");
    layer_create(&layer, 0, hold_cancelable);
    run_to_its_end(send_with_own_block, &layer);
    EXPECT_EQ(KeReadStateEvent(&event), 0);
    EXPECT_EQ(counters_now().live_irps, 0);
    layer_destroy(&layer);
}

/* ---- completion and cancelling at once --------------------------------------------------------------------------- */

enum { ROUNDS = 200 };

/* IoBuildSynchronousFsdRequest-04: a driver that completes the IRP while its thread is ending: one of the two has it. */
TEST(io_build_threads, sync__completed_while_the_thread_ends__ends_once)
{
    struct layer layer;

    layer_create(&layer, 0, hold_cancelable);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct test_thread thread;
        PIRP irp;

        __atomic_store_n(&layer.held, NULL, __ATOMIC_RELEASE);
        thread_start(&thread, send_and_end, &layer);
        while ((irp = __atomic_load_n(&layer.held, __ATOMIC_ACQUIRE)) == NULL)
            sched_yield();
        for (unsigned i = 0; i < round % 16; i++)
            sched_yield();
        if (KeReadStateEvent(&event) == 0 && IoSetCancelRoutine(irp, NULL) != NULL)
            layer_complete(irp, STATUS_SUCCESS, 0);
        thread_join(&thread);
        EXPECT_EQ(KeReadStateEvent(&event), 1);
        EXPECT(status_block.Status == STATUS_SUCCESS || status_block.Status == STATUS_CANCELLED);
    }
    layer_destroy(&layer);
}
