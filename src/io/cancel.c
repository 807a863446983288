/* SPDX-License-Identifier: MIT */
/*
 * Cancelling: IoCancelIrp, and the spin lock that it and cancel routines share. Whether a driver or IoCancelIrp gets the
 * IRP is settled by the exchange of CancelRoutine: the one that finds a routine there has it.
 */

#include "io/io.h"

VOID IoAcquireCancelSpinLock(PKIRQL Irql)
{
    *Irql = KeAcquireSpinLockRaiseToDpc(&ke_machine()->io->cancel_lock);
}

VOID IoReleaseCancelSpinLock(KIRQL Irql)
{
    KeReleaseSpinLock(&ke_machine()->io->cancel_lock, Irql);
}

static PDEVICE_OBJECT holder_of(PIRP irp)
{
    return irp->CurrentLocation <= irp->StackCount ? IoGetCurrentIrpStackLocation(irp)->DeviceObject : NULL;
}

/* The routine releases the cancel spin lock. */
static void call_cancel_routine(PIRP irp, PDRIVER_CANCEL routine)
{
    const PDEVICE_OBJECT device = holder_of(irp);
    const PDRIVER_OBJECT before = ke_enter_driver(device != NULL ? device->DriverObject : ke_self()->driver);

    routine(device, irp);
    ke_leave_driver(before);
}

/*
 * Set the IRP's cancel bit and call its cancel routine, if it has one: TRUE exactly then. An IRP that is complete but has
 * a cancel routine yet: bug check 0x48.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  wdm/nf-wdm-iocancelirp
 */
BOOLEAN IoCancelIrp(PIRP Irp)
{
    PDRIVER_CANCEL routine;
    KIRQL irql;

    IoAcquireCancelSpinLock(&irql);
    __atomic_store_n(&Irp->Cancel, TRUE, __ATOMIC_RELAXED);     /* whoever completes it reads this without the lock */
    routine = IoSetCancelRoutine(Irp, NULL);
    if (routine == NULL) {
        IoReleaseCancelSpinLock(irql);
        return FALSE;
    }
    if (Irp->CurrentLocation > Irp->StackCount + 1)
        ke_bug_check(CANCEL_STATE_IN_COMPLETED_IRP, (uintptr_t)Irp, (uintptr_t)routine, 0, 0);
    Irp->CancelIrql = irql;
    call_cancel_routine(Irp, routine);
    return TRUE;
}
