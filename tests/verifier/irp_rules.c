/* SPDX-License-Identifier: MIT */
/* The verifier's rules for sending and completing IRPs: each mistake, and its correct twin. */

#include "harness.h"
#include <wdm.h>
#include <pinion/pinion.h>

#include "../contract/io_stack.h"

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
