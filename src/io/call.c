/* SPDX-License-Identifier: MIT */
/*
 * Sending IRPs down and completing them up.
 *
 *     IofCallDriver        location L becomes current, its DeviceObject is stored, its driver's dispatch runs
 *     IofCompleteRequest   for L = current .. StackCount: location L, which its driver is done with, is cleared,
 *                          and the routine that the driver above had put there runs with L + 1 current
 *
 * Past StackCount there is nobody left, and the IRP goes to final completion.
 */

#include "io/io.h"

#include <string.h>

/* ---- down ---- */

PDRIVER_DISPATCH io_dispatch_of(const DEVICE_OBJECT *device, UCHAR major)
{
    return major <= IRP_MJ_MAXIMUM_FUNCTION ? device->DriverObject->MajorFunction[major] : io_refuse_request;
}

/*
 * Noted apart from the stack locations: a driver that passed its location over has none that is current, and the device that one
 * names may be gone when somebody asks.
 */
static void note_holder(const struct machine *machine, const IRP *irp, PDRIVER_DISPATCH dispatch)
{
    struct io_slot *slot = io_slot_of(machine, irp);

    if (slot != NULL)
        atomic_store_explicit(&slot->had_by, dispatch, memory_order_relaxed);
}

NTSTATUS FASTCALL IofCallDriver(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    struct machine *machine = ke_machine();
    const KIRQL irql = ke_self()->irql;
    PIO_STACK_LOCATION location;
    PDRIVER_DISPATCH dispatch;
    PDRIVER_OBJECT caller;
    NTSTATUS status;

    ke_frames_left(KE_CALLERS_SP);
    KE_HOOK(machine, irp_call_check, DeviceObject, Irp);
    if (UNLIKELY(Irp->CurrentLocation <= 1))
        ke_bug_check(NO_MORE_IRP_STACK_LOCATIONS, (uintptr_t)Irp, 0, 0, 0);
    IoSetNextIrpStackLocation(Irp);
    location = IoGetCurrentIrpStackLocation(Irp);
    location->DeviceObject = DeviceObject;
    caller = ke_enter_driver(DeviceObject->DriverObject);
    dispatch = io_dispatch_of(DeviceObject, location->MajorFunction);
    note_holder(machine, Irp, dispatch);
    status = dispatch(DeviceObject, Irp);
    ke_leave_driver(caller);
    KE_HOOK(machine, irp_call_record, DeviceObject, dispatch, irql);
    return status;
}

NTSTATUS io_complete_now(PIRP irp, NTSTATUS status, ULONG_PTR information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IofCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

NTSTATUS io_refuse_request(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    return io_complete_now(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

/* ---- up ---- */

static bool wants_call(const IRP *irp, UCHAR control)
{
    const UCHAR wanted = NT_SUCCESS(irp->IoStatus.Status) ? SL_INVOKE_ON_SUCCESS : SL_INVOKE_ON_ERROR;

    return (control & wanted) != 0
        || ((control & SL_INVOKE_ON_CANCEL) != 0 && __atomic_load_n(&irp->Cancel, __ATOMIC_RELAXED));
}

/* Whose location is current: nobody's in a routine of the IRP's own maker, who has no location. */
static PDEVICE_OBJECT current_device(PIRP irp)
{
    return irp->CurrentLocation <= irp->StackCount ? IoGetCurrentIrpStackLocation(irp)->DeviceObject : NULL;
}

/* In the stead of a driver that has no routine to do it. */
static void pass_on_pending(PIRP irp)
{
    if (irp->PendingReturned && irp->CurrentLocation <= irp->StackCount)
        IoMarkIrpPending(irp);
}

/* False: the routine keeps the IRP. One of the IRP's own maker, who has no location, runs on the account of whoever completes it. */
static bool run_routine(PIRP irp, PIO_COMPLETION_ROUTINE routine, PVOID context)
{
    const PDEVICE_OBJECT device = current_device(irp);
    const PDRIVER_OBJECT caller = ke_enter_driver(device != NULL ? device->DriverObject : ke_self()->driver);
    const struct machine *machine = ke_machine();
    const PIO_COMPLETION_ROUTINE drivers = machine->hooks.irp_passed_check == NULL ? routine : io_completion_of(routine, context);
    NTSTATUS status;

    note_holder(machine, irp, device == NULL ? NULL : io_dispatch_of(device, IoGetCurrentIrpStackLocation(irp)->MajorFunction));
    status = routine(device, irp, context);
    ke_leave_driver(caller);
    if (status == STATUS_MORE_PROCESSING_REQUIRED)
        return false;
    KE_HOOK(machine, irp_passed_check, irp, drivers);
    return true;
}

/*
 * Leave the current location for the one above, clear it, and call the routine that it held. False: that
 * routine keeps the IRP, which may not even exist any more.
 */
static bool climb(PIRP irp)
{
    PIO_STACK_LOCATION passed = IoGetCurrentIrpStackLocation(irp);
    const PIO_COMPLETION_ROUTINE routine = passed->CompletionRoutine;
    const PVOID context = passed->Context;
    const UCHAR control = passed->Control;

    IoSkipCurrentIrpStackLocation(irp);
    irp->PendingReturned = (control & SL_PENDING_RETURNED) != 0;
    memset(passed, 0, sizeof(*passed));
    if (irp->CurrentLocation > irp->StackCount)
        ke_count(KE_IRPS_COMPLETED, 1);
    if (routine != NULL && wants_call(irp, control))
        return run_routine(irp, routine, context);
    pass_on_pending(irp);
    return true;
}

/* CurrentLocation is StackCount + 2 for an IRP that is complete, so that a second completion is found out. */
VOID FASTCALL IofCompleteRequest(PIRP Irp, CCHAR PriorityBoost)
{
    struct machine *machine = ke_machine();

    UNREFERENCED_PARAMETER(PriorityBoost);
    ke_frames_left(KE_CALLERS_SP);
    KE_HOOK(machine, irp_complete_check, Irp);
    if (UNLIKELY(Irp->Type != IO_TYPE_IRP || Irp->CurrentLocation > Irp->StackCount + 1))
        ke_bug_check(MULTIPLE_IRP_COMPLETE_REQUESTS, (uintptr_t)Irp, 0, 0, 0);
    while (Irp->CurrentLocation <= Irp->StackCount)
        if (!climb(Irp))
            return;
    IoSkipCurrentIrpStackLocation(Irp);
    io_complete_finally(machine, Irp);
}

/* ---- IoSetCompletionRoutineEx ---- */

/* What stands as the context of the routine that IoSetCompletionRoutineEx registers in the driver's place. */
struct completion {
    PDEVICE_OBJECT         device;      /* held until the routine has run */
    PIO_COMPLETION_ROUTINE routine;
    PVOID                  context;
    UCHAR                  control;     /* when the driver wants to be called */
};

enum { COMPLETION_TAG = 0x43706F49 };   /* 'IopC' */

/* Registered for every outcome, so that the memory comes back whatever the driver asked for. */
static NTSTATUS run_completion(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    struct machine *machine = ke_machine();
    const struct completion completion = *(const struct completion *)context;
    NTSTATUS status = STATUS_SUCCESS;

    mm_pool_free(machine, context);
    atomic_fetch_sub(&machine->io->completions, 1);
    if (wants_call(irp, completion.control))
        status = completion.routine(device, irp, completion.context);
    else
        pass_on_pending(irp);
    io_device_release(machine, completion.device);
    return status;
}

NTSTATUS IoSetCompletionRoutineEx(PDEVICE_OBJECT DeviceObject, PIRP Irp,
                                  PIO_COMPLETION_ROUTINE CompletionRoutine, PVOID Context,
                                  BOOLEAN InvokeOnSuccess, BOOLEAN InvokeOnError, BOOLEAN InvokeOnCancel)
{
    struct machine *machine = ke_machine();
    struct completion *completion;

    if (ke_fails(KE_FALLIBLE_IoSetCompletionRoutineEx))
        return STATUS_INSUFFICIENT_RESOURCES;
    completion = mm_pool_allocate(machine, NonPagedPoolNx, sizeof(*completion), COMPLETION_TAG);
    if (completion == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    IoSetCompletionRoutine(Irp, CompletionRoutine, Context, InvokeOnSuccess, InvokeOnError, InvokeOnCancel);
    *completion = (struct completion){.device = DeviceObject, .routine = CompletionRoutine, .context = Context,
                                      .control = IoGetNextIrpStackLocation(Irp)->Control};
    io_device_hold(machine, DeviceObject);
    atomic_fetch_add(&machine->io->completions, 1);
    IoSetCompletionRoutine(Irp, run_completion, completion, TRUE, TRUE, TRUE);
    return STATUS_SUCCESS;
}

PIO_COMPLETION_ROUTINE io_completion_of(PIO_COMPLETION_ROUTINE routine, const void *context)
{
    struct completion behind;

    if (routine != run_completion || !host_peek(context, &behind, sizeof(behind)))
        return routine;
    return behind.routine;
}

void io_completions_check(struct machine *machine)
{
    const int64_t left = atomic_load(&machine->io->completions);

    if (left != 0)
        ke_warn("completion-leak",
                "%lld completion routines of IoSetCompletionRoutineEx never ran; each registration needs its IRP "
                "to be sent with IoCallDriver", (long long)left);
}
