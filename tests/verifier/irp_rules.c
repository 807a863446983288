/* SPDX-License-Identifier: MIT */
/* The verifier's rules for sending and completing IRPs: each mistake, and its correct twin. */

#include "harness.h"
#include <wdm.h>
#include <pinion/pinion.h>

#include "../contract/io_stack.h"
#include "../contract/support.h"
#include "../contract/threads.h"

static NTSTATUS free_irp(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(context);
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static PIRP new_read(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(irp, free_irp, NULL, TRUE, TRUE, TRUE);
    return irp;
}

static KIRQL raise_to(KIRQL irql)
{
    KIRQL old;

    KeRaiseIrql(irql, &old);
    return old;
}

/* IoCallDriver-04 Driver_Verifier_I_O_verification-01: what is no IRP is not sent. */
STOP_TEST(irp_rules, call__no_irp__stops, DRIVER_VERIFIER_IOMANAGER_VIOLATION, 0x03)
{
    struct layer layer;
    PIRP irp;

    layer_create(&layer, 0, complete_with_success);
    irp = new_read();
    irp->Type = 0;
    IoCallDriver(layer.device, irp);
}

/* IoCallDriver-04: an IRP is sent to a device only. */
STOP_TEST(irp_rules, call__no_device__stops, DRIVER_VERIFIER_IOMANAGER_VIOLATION, 0x04)
{
    IoCallDriver(NULL, new_read());
}

static NTSTATUS keep_spinning(struct layer *layer, PIRP irp)
{
    UNREFERENCED_PARAMETER(layer);
    raise_to(DISPATCH_LEVEL);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static void call_driver_that_raises(void *context)
{
    struct layer layer;

    UNREFERENCED_PARAMETER(context);
    layer_create(&layer, 0, keep_spinning);
    IoCallDriver(layer.device, new_read());
}

/* IoCallDriver-04: a dispatch routine returns at the IRQL it was called at; the stop names both. */
TEST_UNTIDY(irp_rules, call__dispatch_changes_irql__stops)
{
    const struct stop stop = run_until_stop(call_driver_that_raises, NULL);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, DRIVER_VERIFIER_IOMANAGER_VIOLATION);
    EXPECT_EQ(stop.p[0], 0x05);
    EXPECT_EQ(stop.p[2], PASSIVE_LEVEL);
    EXPECT_EQ(stop.p[3], DISPATCH_LEVEL);
}

/* IoCallDriver-04: not above DISPATCH_LEVEL. */
STOP_TEST(irp_rules, call__above_dispatch_level__stops, DRIVER_VERIFIER_IOMANAGER_VIOLATION, 0x10)
{
    struct layer layer;
    PIRP irp;

    layer_create(&layer, 0, complete_with_success);
    irp = new_read();
    raise_to(DISPATCH_LEVEL + 1);
    IoCallDriver(layer.device, irp);
}

/* IoCallDriver-04: at DISPATCH_LEVEL, to a device that keeps the IRQL, all is well. */
SILENT_TEST(irp_rules, call__at_dispatch_level__is_silent)
{
    struct layer layer;
    KIRQL old;

    layer_create(&layer, 0, complete_with_success);
    old = raise_to(DISPATCH_LEVEL);
    EXPECT_STATUS(IoCallDriver(layer.device, new_read()), STATUS_SUCCESS);
    KeLowerIrql(old);
    layer_destroy(&layer);
}

static NTSTATUS complete_as_pending(struct layer *layer, PIRP irp)
{
    UNREFERENCED_PARAMETER(layer);
    return layer_complete(irp, STATUS_PENDING, 0);
}

/* IoCompleteRequest-06: STATUS_PENDING is no final status. */
STOP_TEST(irp_rules, complete__status_pending__stops, DRIVER_VERIFIER_IOMANAGER_VIOLATION, 0x06)
{
    struct layer layer;

    layer_create(&layer, 0, complete_as_pending);
    IoCallDriver(layer.device, new_read());
}

static VOID cancel(PDEVICE_OBJECT device, PIRP irp)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(irp);
}

static NTSTATUS complete_cancelable(struct layer *layer, PIRP irp)
{
    UNREFERENCED_PARAMETER(layer);
    irp->CancelRoutine = cancel;
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

/* IoCompleteRequest-06: an IRP that can still be cancelled is not completed. */
STOP_TEST(irp_rules, complete__cancel_routine_set__stops, DRIVER_VERIFIER_IOMANAGER_VIOLATION, 0x07)
{
    struct layer layer;

    layer_create(&layer, 0, complete_cancelable);
    IoCallDriver(layer.device, new_read());
}

static NTSTATUS complete_too_high(struct layer *layer, PIRP irp)
{
    UNREFERENCED_PARAMETER(layer);
    raise_to(DISPATCH_LEVEL + 1);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

/* IoCompleteRequest-06: not above DISPATCH_LEVEL. */
STOP_TEST(irp_rules, complete__above_dispatch_level__stops, DRIVER_VERIFIER_IOMANAGER_VIOLATION, 0x0E)
{
    struct layer layer;

    layer_create(&layer, 0, complete_too_high);
    IoCallDriver(layer.device, new_read());
}

/* IoCompleteRequest-06: a final status, no cancel routine, DISPATCH_LEVEL: all is well. */
SILENT_TEST(irp_rules, complete__as_documented__is_silent)
{
    struct layer layer;

    layer_create(&layer, 0, complete_with_success);
    EXPECT_STATUS(IoCallDriver(layer.device, new_read()), STATUS_SUCCESS);
    layer_destroy(&layer);
}

/* ---- event and status block on a stack ---------------------------------------------------------------------------- */

static struct layer lower;

static NTSTATUS send_flush(PKEVENT event, PIO_STATUS_BLOCK outcome)
{
    KeInitializeEvent(event, NotificationEvent, FALSE);
    return IoCallDriver(lower.device,
                        IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, lower.device, NULL, 0, NULL, event, outcome));
}

/* A routine that forgets to wait: event and status block are its own locals. */
__attribute__((noinline)) static void send_and_leave(void)
{
    IO_STATUS_BLOCK outcome;
    KEVENT event;

    EXPECT_STATUS(send_flush(&event, &outcome), STATUS_PENDING);
}

__attribute__((noinline)) static PIRP build_and_leave(void)
{
    IO_STATUS_BLOCK outcome;
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    return IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, lower.device, NULL, 0, NULL, &event, &outcome);
}

static void complete_held(void *layer)
{
    layer_complete(((struct layer *)layer)->held, STATUS_SUCCESS, 0);
}

/* Driver_Verifier_I_O_verification-02: whoever completes the request may be another thread than the one whose stack it is. */
STOP_TEST(irp_rules, complete__by_another_thread_after_the_routine_was_left__stops, DRIVER_VERIFIER_IOMANAGER_VIOLATION, 0x0C)
{
    struct test_thread thread;

    layer_create(&lower, 0, hold);
    send_and_leave();
    thread_start(&thread, complete_held, &lower);
    thread_join(&thread);
}

/* Driver_Verifier_I_O_verification-02: found before the request ends, where the thread waits for something else. */
STOP_TEST(irp_rules, wait__after_the_routine_was_left__stops, DRIVER_VERIFIER_IOMANAGER_VIOLATION, 0x0C)
{
    LARGE_INTEGER interval = {.QuadPart = -1};

    layer_create(&lower, 0, hold);
    send_and_leave();
    KeDelayExecutionThread(KernelMode, FALSE, &interval);
}

static NTSTATUS flush_without_waiting(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    send_and_leave();
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

/* Driver_Verifier_I_O_verification-02: and where a dispatch routine is over. */
STOP_TEST(irp_rules, call__dispatch_leaves_a_request_behind__stops, DRIVER_VERIFIER_IOMANAGER_VIOLATION, 0x0C)
{
    struct layer upper;

    layer_create(&lower, 0, hold);
    layer_create(&upper, 0, flush_without_waiting);
    IoCallDriver(upper.device, new_read());
}

/* Reached through a routine of the C library, whose code keeps no frame pointers; it may compare more than once. */
static int send_from_a_comparison(const void *a, const void *b)
{
    const struct { PKEVENT event; PIO_STATUS_BLOCK outcome; } *locals = a;

    UNREFERENCED_PARAMETER(b);
    if (lower.held == NULL)
        EXPECT_STATUS(send_flush(locals->event, locals->outcome), STATUS_PENDING);
    return 0;
}

/* Driver_Verifier_I_O_verification-02: locals of a routine further out are good until that one returns, whoever ends the request. */
SILENT_TEST(irp_rules, complete__by_another_thread_while_the_routine_waits__is_silent)
{
    LARGE_INTEGER interval = {.QuadPart = -1};
    struct test_thread thread;
    IO_STATUS_BLOCK outcome;
    KEVENT event;
    struct { PKEVENT event; PIO_STATUS_BLOCK outcome; } locals[2] = {{&event, &outcome}, {&event, &outcome}};

    layer_create(&lower, 0, hold);
    qsort(locals, 2, sizeof(locals[0]), send_from_a_comparison);
    KeDelayExecutionThread(KernelMode, FALSE, &interval);
    thread_start(&thread, complete_held, &lower);
    KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
    thread_join(&thread);
    EXPECT_STATUS(outcome.Status, STATUS_SUCCESS);
    layer_destroy(&lower);
}

/* Driver_Verifier_I_O_verification-02: one that was built and not sent writes nothing; it is a leak, and no more. */
WARN_TEST(irp_rules, build__left_without_sending__is_a_leak_only, "irp-leak")
{
    LARGE_INTEGER interval = {.QuadPart = -1};

    layer_create(&lower, 0, hold);
    EXPECT(build_and_leave() != NULL);
    KeDelayExecutionThread(KernelMode, FALSE, &interval);
    layer_destroy(&lower);
}
