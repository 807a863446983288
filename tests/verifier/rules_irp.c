/* SPDX-License-Identifier: MIT */
/* The twins of the rules for IRPs: how they are sent, completed and freed, and what requests are built from. */

#include "rules.h"

#include "../contract/io_stack.h"

static NTSTATUS free_irp(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(context);
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* A read whose completion routine frees it. */
static PIRP new_read(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(irp, free_irp, NULL, TRUE, TRUE, TRUE);
    return irp;
}

static struct layer lower;

static PDEVICE_OBJECT device_that(NTSTATUS (*dispatch)(struct layer *, PIRP))
{
    layer_create(&lower, 0, dispatch);
    return lower.device;
}

/* ---- IoFreeIrp -------------------------------------------------------------------------------------------------- */

RULE_BAD(IRP_FREE_OF_NONE)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    IoFreeIrp(irp);
    PARAMETERS(p(irp), 0, 0);
    IoFreeIrp(irp);
}

RULE_GOOD(IRP_FREE_OF_NONE)
{
    PIRP irp = IoAllocateIrp(1, FALSE);

    IoFreeIrp(irp);
}

RULE_BAD(IRP_FREE_OF_THREADS)
{
    PDEVICE_OBJECT device = device_that(complete_with_success);
    IO_STATUS_BLOCK outcome;
    KEVENT event;
    PIRP irp;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    irp = IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, device, NULL, 0, NULL, &event, &outcome);
    PARAMETERS(p(irp), 0, 0);
    IoFreeIrp(irp);
}

RULE_GOOD(IRP_FREE_OF_THREADS)
{
    PDEVICE_OBJECT device = device_that(complete_with_success);
    IO_STATUS_BLOCK outcome;
    KEVENT event;
    PIRP irp;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    irp = IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, device, NULL, 0, NULL, &event, &outcome);
    if (IoCallDriver(device, irp) == STATUS_PENDING)
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
    layer_destroy(&lower);
}

/* ---- IoCallDriver ----------------------------------------------------------------------------------------------- */

RULE_BAD(IRP_INVALID)
{
    PDEVICE_OBJECT device = device_that(complete_with_success);
    static IRP never_initialised;

    PARAMETERS(p(&never_initialised), 0, 0);
    IoCallDriver(device, &never_initialised);
}

RULE_GOOD(IRP_INVALID)
{
    PDEVICE_OBJECT device = device_that(complete_with_success);

    IoCallDriver(device, new_read());
    layer_destroy(&lower);
}

RULE_BAD(IRP_NO_DEVICE)
{
    PARAMETERS(0, 0, 0);
    IoCallDriver(NULL, new_read());
}

RULE_GOOD(IRP_NO_DEVICE)
{
    PDEVICE_OBJECT device = device_that(complete_with_success);

    IoCallDriver(device, new_read());
    layer_destroy(&lower);
}

RULE_BAD(IRP_CALL_IRQL)
{
    PDEVICE_OBJECT device = device_that(complete_with_success);
    PIRP irp = new_read();
    KIRQL irql;

    KeRaiseIrql(TOO_HIGH, &irql);
    PARAMETERS(TOO_HIGH, p(irp), 0);
    IoCallDriver(device, irp);
}

RULE_GOOD(IRP_CALL_IRQL)
{
    PDEVICE_OBJECT device = device_that(complete_with_success);
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    IoCallDriver(device, new_read());
    KeLowerIrql(irql);
    layer_destroy(&lower);
}

static NTSTATUS raise_and_forget(struct layer *layer, PIRP irp)
{
    KIRQL irql;

    UNREFERENCED_PARAMETER(layer);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static NTSTATUS raise_and_lower(struct layer *layer, PIRP irp)
{
    KIRQL irql;

    UNREFERENCED_PARAMETER(layer);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    KeLowerIrql(irql);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

RULE_BAD(IRP_DISPATCH_IRQL)
{
    PDEVICE_OBJECT device = device_that(raise_and_forget);

    PARAMETERS(p(device), PASSIVE_LEVEL, DISPATCH_LEVEL);
    IoCallDriver(device, new_read());
}

RULE_GOOD(IRP_DISPATCH_IRQL)
{
    PDEVICE_OBJECT device = device_that(raise_and_lower);

    IoCallDriver(device, new_read());
    layer_destroy(&lower);
}

/* ---- IoCompleteRequest ------------------------------------------------------------------------------------------ */

RULE_BAD(IRP_COMPLETE_PENDING)
{
    PIRP irp;

    IoCallDriver(device_that(hold), new_read());
    irp = lower.held;
    irp->IoStatus.Status = STATUS_PENDING;
    PARAMETERS(STATUS_PENDING, p(irp), 0);
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

RULE_GOOD(IRP_COMPLETE_PENDING)
{
    PIRP irp;

    IoCallDriver(device_that(hold), new_read());
    irp = lower.held;
    irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    layer_destroy(&lower);
}

static VOID cancel(PDEVICE_OBJECT device, PIRP irp)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(irp);
}

RULE_BAD(IRP_COMPLETE_CANCEL)
{
    PIRP irp;

    IoCallDriver(device_that(hold), new_read());
    irp = lower.held;
    IoSetCancelRoutine(irp, cancel);
    irp->IoStatus.Status = STATUS_SUCCESS;
    PARAMETERS((uintptr_t)cancel, p(irp), 0);
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

RULE_GOOD(IRP_COMPLETE_CANCEL)
{
    PIRP irp;

    IoCallDriver(device_that(hold), new_read());
    irp = lower.held;
    IoSetCancelRoutine(irp, cancel);
    irp->IoStatus.Status = STATUS_SUCCESS;
    IoSetCancelRoutine(irp, NULL);
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    layer_destroy(&lower);
}

static NTSTATUS set_and_go_on(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(context);
    IoSetCancelRoutine(irp, cancel);
    return STATUS_SUCCESS;
}

static NTSTATUS set_and_keep(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(context);
    IoSetCancelRoutine(irp, cancel);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* A flush with a completion routine; the I/O manager ends it. */
static PIRP flush_with(PDEVICE_OBJECT device, PIO_COMPLETION_ROUTINE routine, PKEVENT event, PIO_STATUS_BLOCK outcome)
{
    PIRP irp;

    KeInitializeEvent(event, NotificationEvent, FALSE);
    irp = IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, device, NULL, 0, NULL, event, outcome);
    IoSetCompletionRoutine(irp, routine, NULL, TRUE, TRUE, TRUE);
    return irp;
}

RULE_BAD(IRP_PASSED_CANCELABLE)
{
    PDEVICE_OBJECT device = device_that(complete_with_success);
    IO_STATUS_BLOCK outcome;
    KEVENT event;

    IoCallDriver(device, flush_with(device, set_and_go_on, &event, &outcome));    /* it sets a cancel routine, and returns STATUS_SUCCESS */
    layer_destroy(&lower);
}

RULE_GOOD(IRP_PASSED_CANCELABLE)
{
    PDEVICE_OBJECT device = device_that(complete_with_success);
    IO_STATUS_BLOCK outcome;
    KEVENT event;
    PIRP irp = flush_with(device, set_and_keep, &event, &outcome);

    IoCallDriver(device, irp);                              /* it sets a cancel routine, and returns STATUS_MORE_PROCESSING_REQUIRED */
    if (IoSetCancelRoutine(irp, NULL) != NULL)
        IoCompleteRequest(irp, IO_NO_INCREMENT);
    layer_destroy(&lower);
}

RULE_BAD(IRP_COMPLETE_IRQL)
{
    PIRP irp;
    KIRQL irql;

    IoCallDriver(device_that(hold), new_read());
    irp = lower.held;
    irp->IoStatus.Status = STATUS_SUCCESS;
    KeRaiseIrql(TOO_HIGH, &irql);
    PARAMETERS(TOO_HIGH, p(irp), 0);
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

RULE_GOOD(IRP_COMPLETE_IRQL)
{
    PIRP irp;
    KIRQL irql;

    IoCallDriver(device_that(hold), new_read());
    irp = lower.held;
    irp->IoStatus.Status = STATUS_SUCCESS;
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    KeLowerIrql(irql);
    layer_destroy(&lower);
}

/* ---- requests that a driver builds ------------------------------------------------------------------------------ */

static const LARGE_INTEGER start;

RULE_BAD(FSD_BAD_BUFFER)
{
    UCHAR *va = user_pages(1, PAGE_READONLY);
    LARGE_INTEGER offset = start;
    PDEVICE_OBJECT device = device_that(complete_with_success);

    device->Flags |= DO_DIRECT_IO;
    PARAMETERS(p(device), IRP_MJ_READ, (uint32_t)STATUS_ACCESS_VIOLATION);
    IoBuildAsynchronousFsdRequest(IRP_MJ_READ, device, va, PAGE_SIZE, &offset, NULL);
}

RULE_GOOD(FSD_BAD_BUFFER)
{
    UCHAR *va = user_pages(1, PAGE_READWRITE);
    LARGE_INTEGER offset = start;
    PDEVICE_OBJECT device = device_that(complete_with_success);
    PIRP irp;

    device->Flags |= DO_DIRECT_IO;
    irp = IoBuildAsynchronousFsdRequest(IRP_MJ_READ, device, va, PAGE_SIZE, &offset, NULL);
    unlock_and_free(irp->MdlAddress);
    irp->MdlAddress = NULL;
    IoFreeIrp(irp);
    pinion_user_free(va);
    layer_destroy(&lower);
}

enum { CONTROL = CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_OUT_DIRECT, FILE_ANY_ACCESS) };

RULE_BAD(CONTROL_BAD_BUFFER)
{
    UCHAR *va = user_pages(1, PAGE_READONLY);
    PDEVICE_OBJECT device = device_that(complete_with_success);
    IO_STATUS_BLOCK outcome;
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    PARAMETERS(p(device), CONTROL, (uint32_t)STATUS_ACCESS_VIOLATION);
    IoBuildDeviceIoControlRequest(CONTROL, device, NULL, 0, va, PAGE_SIZE, FALSE, &event, &outcome);
}

RULE_GOOD(CONTROL_BAD_BUFFER)
{
    UCHAR *va = user_pages(1, PAGE_READWRITE);
    PDEVICE_OBJECT device = device_that(complete_with_success);
    IO_STATUS_BLOCK outcome;
    KEVENT event;
    PIRP irp;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    irp = IoBuildDeviceIoControlRequest(CONTROL, device, NULL, 0, va, PAGE_SIZE, FALSE, &event, &outcome);
    if (IoCallDriver(device, irp) == STATUS_PENDING)
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
    pinion_user_free(va);
    layer_destroy(&lower);
}

static KEVENT global_event;
static IO_STATUS_BLOCK global_outcome;

__attribute__((noinline)) static void send_and_leave_status_block(PDEVICE_OBJECT device)
{
    IO_STATUS_BLOCK outcome;

    KeInitializeEvent(&global_event, NotificationEvent, FALSE);
    PARAMETERS(p(&outcome), 0, 0);
    IoCallDriver(device, IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, device, NULL, 0, NULL, &global_event, &outcome));
}

RULE_BAD(IRP_STATUS_BLOCK_GONE)
{
    send_and_leave_status_block(device_that(hold));         /* the status block is a local of that routine */
    layer_complete(lower.held, STATUS_SUCCESS, 0);
}

RULE_GOOD(IRP_STATUS_BLOCK_GONE)
{
    PDEVICE_OBJECT device = device_that(hold);

    KeInitializeEvent(&global_event, NotificationEvent, FALSE);
    IoCallDriver(device, IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, device, NULL, 0, NULL, &global_event, &global_outcome));
    layer_complete(lower.held, STATUS_SUCCESS, 0);
    KeWaitForSingleObject(&global_event, Executive, KernelMode, FALSE, NULL);
    layer_destroy(&lower);
}

__attribute__((noinline)) static void send_and_leave_event(PDEVICE_OBJECT device)
{
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    PARAMETERS(p(&event), 0, 0);
    IoCallDriver(device, IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, device, NULL, 0, NULL, &event, &global_outcome));
}

RULE_BAD(IRP_EVENT_GONE)
{
    send_and_leave_event(device_that(hold));                /* the event is a local of that routine */
    layer_complete(lower.held, STATUS_SUCCESS, 0);
}

RULE_GOOD(IRP_EVENT_GONE)
{
    PDEVICE_OBJECT device = device_that(hold);
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    IoCallDriver(device, IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, device, NULL, 0, NULL, &event, &global_outcome));
    layer_complete(lower.held, STATUS_SUCCESS, 0);
    KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
    layer_destroy(&lower);
}

/* ---- invariant MDLs ---------------------------------------------------------------------------------------------- */

static struct layer upper;

static UCHAR *buffer_of(PIRP irp)
{
    return MmGetSystemAddressForMdlSafe(irp->MdlAddress, NORMAL_NX);
}

static NTSTATUS scribble_then_pass(struct layer *layer, PIRP irp)
{
    buffer_of(irp)[10] ^= 1;
    IoCopyCurrentIrpStackLocationToNext(irp);
    return IoCallDriver(layer->lower, irp);
}

static NTSTATUS read_then_pass(struct layer *layer, PIRP irp)
{
    touch_load(buffer_of(irp));
    IoCopyCurrentIrpStackLocationToNext(irp);
    return IoCallDriver(layer->lower, irp);
}

static NTSTATUS fill_and_complete(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    RtlFillMemory(buffer_of(irp), LENGTH, 0x77);
    return layer_complete(irp, STATUS_SUCCESS, LENGTH);
}

static NTSTATUS free_request(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    UNREFERENCED_PARAMETER(device);
    UNREFERENCED_PARAMETER(context);
    IoFreeMdl(irp->MdlAddress);
    irp->MdlAddress = NULL;
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static PIRP invariant_irp;

/* Send a request whose buffer is invariant through two devices. */
static void send_invariant(UCHAR major, const char *options, NTSTATUS (*above)(struct layer *, PIRP), NTSTATUS (*below)(struct layer *, PIRP))
{
    static UCHAR buffer[LENGTH];
    PMDL mdl;

    boot(options);
    layer_create(&lower, DO_DIRECT_IO, below);
    layer_create(&upper, DO_DIRECT_IO, above);
    layer_attach(&upper, &lower);
    mdl = nonpaged_mdl(buffer, LENGTH);
    mdl->MdlFlags |= MDL_PAGE_CONTENTS_INVARIANT;
    invariant_irp = IoAllocateIrp(2, FALSE);
    invariant_irp->MdlAddress = mdl;
    IoGetNextIrpStackLocation(invariant_irp)->MajorFunction = major;
    IoSetCompletionRoutine(invariant_irp, free_request, NULL, TRUE, TRUE, TRUE);
    if (rule_words != NULL)
        PARAMETERS(p(lower.device), p(invariant_irp), p(buffer));
    IoCallDriver(upper.device, invariant_irp);
    layer_destroy(&upper);
    layer_destroy(&lower);
}

/* Driver_Verifier_invariant_MDL_checking-01 Driver_Verifier_invariant_MDL_checking-03: a write's buffer, compared at the completion. */
RULE_BAD(INVARIANT_WRITE)
{
    send_invariant(IRP_MJ_WRITE, "verifier=0x29B9", scribble_then_pass, complete_with_success);
}

RULE_GOOD(INVARIANT_WRITE)
{
    send_invariant(IRP_MJ_WRITE, "verifier=0x29B9", read_then_pass, complete_with_success);
}

/* Driver_Verifier_invariant_MDL_checking-01 Driver_Verifier_invariant_MDL_checking-03: a read's, compared on its way down. */
RULE_BAD(INVARIANT_READ)
{
    send_invariant(IRP_MJ_READ, "verifier=0x29B9", scribble_then_pass, fill_and_complete);
}

RULE_GOOD(INVARIANT_READ)
{
    send_invariant(IRP_MJ_READ, "verifier=0x29B9", read_then_pass, fill_and_complete);
}

static NTSTATUS must_not_be_reached(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const bool reached = true;

    EXPECT(!reached);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static NTSTATUS put_back(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    buffer_of(irp)[10] ^= 1;
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static void write_checked_at_each_driver(void *context)
{
    UNREFERENCED_PARAMETER(context);
    send_invariant(IRP_MJ_WRITE, "verifier=0x49B9", scribble_then_pass, must_not_be_reached);
}

/* Driver_Verifier_invariant_MDL_checking-02 Driver_Verifier_invariant_MDL_checking-03: for drivers the next IoCallDriver
   compares, before the lower driver is called; the device that was to get it, the IRP and the buffer's address are told. */
TEST_UNTIDY(invariant_mdl, write__changed_by_a_driver__stops_at_its_next_call)
{
    rule_words = shared_words();
    const struct stop stop = run_until_stop(write_checked_at_each_driver, NULL);

    EXPECT_EQ(stop.code, DRIVER_VERIFIER_DETECTED_VIOLATION);
    EXPECT_EQ(stop.p[0], 0x1010);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(stop.p[1 + i], rule_words[FIRST_PARAMETER + i]);
}

/* Driver_Verifier_invariant_MDL_checking-01: over the stack, what one driver changes and another puts back is not seen. */
SILENT_TEST(invariant_mdl, write__changed_and_put_back__is_not_seen_over_the_stack)
{
    send_invariant(IRP_MJ_WRITE, "verifier=0x29B9", scribble_then_pass, put_back);
}

/* Without the flags nobody looks. */
SILENT_TEST(invariant_mdl, write__changed_without_the_flags__is_not_seen)
{
    send_invariant(IRP_MJ_WRITE, "verifier=on", scribble_then_pass, complete_with_success);
}

/* ---- MmAdvanceMdl ------------------------------------------------------------------------------------------------ */

static NTSTATUS advance_at_once(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    MmAdvanceMdl(irp->MdlAddress, 16);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static NTSTATUS advance_when_refused(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const PMDL mdl = irp->MdlAddress;
    UCHAR *const rest = (UCHAR *)MmGetMdlVirtualAddress(mdl) + 16;
    const PMDL own = IoAllocateMdl(rest, MmGetMdlByteCount(mdl) - 16, FALSE, FALSE, NULL);

    if (own == NULL)
        MmAdvanceMdl(mdl, 16);
    else
        IoFreeMdl(own);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static void send_to(NTSTATUS (*dispatch)(struct layer *, PIRP))
{
    static UCHAR buffer[LENGTH];
    const PDEVICE_OBJECT device = device_that(dispatch);
    const PIRP irp = IoAllocateIrp(1, FALSE);

    irp->MdlAddress = nonpaged_mdl(buffer, LENGTH);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(irp, free_request, NULL, TRUE, TRUE, TRUE);
    pinion_fail("IoAllocateMdl", 1);
    IoCallDriver(device, irp);
    pinion_fail("IoAllocateMdl", 0);
    layer_destroy(&lower);
}

/* MmAdvanceMdl-23 MmAdvanceMdl-24 MmAdvanceMdl-26: who could allocate an MDL must not advance. */
RULE_BAD(ADVANCE_UNNEEDED)
{
    send_to(advance_at_once);
}

RULE_GOOD(ADVANCE_UNNEEDED)
{
    send_to(advance_when_refused);
}
