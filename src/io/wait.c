/* SPDX-License-Identifier: MIT */
/* How the I/O manager sends an IRP of its own and waits for its end. */

#include "io/io.h"

/* The waiter frees the slot, so signalling it is the last that is done here. */
void io_finish_wait(struct machine *machine, struct io_slot *slot, const IO_STATUS_BLOCK *outcome)
{
    (void)machine;
    slot->outcome = *outcome;
    if (slot->file != NULL)
        io_file_unuse(slot->file);
    KeSetEvent(&slot->event, IO_NO_INCREMENT, FALSE);
}

/*
 * A dispatch routine that answers anything but STATUS_PENDING has completed its IRP. One that has not, has lost
 * it, and the requester would never end on Windows: here that is said, and the wait given up.
 */
static bool wait_for_end(struct io_slot *slot, NTSTATUS answer, UCHAR major)
{
    LARGE_INTEGER patience = {.QuadPart = -10000000};    /* 1 s */
    struct ke_finding finding;

    if (answer == STATUS_PENDING || KeReadStateEvent(&slot->event) != 0)
        return KeWaitForSingleObject(&slot->event, Executive, KernelMode, FALSE, NULL) == STATUS_SUCCESS;
    ke_finding_begin(&finding);
    ke_warn("irp-lost",
            "the dispatch routine for major function 0x%02X returned 0x%08X, but it has not completed the IRP; a "
            "driver that keeps one marks it pending and returns STATUS_PENDING", major, (unsigned)answer);
    io_irp_tell(&ke_the_machine, slot);
    ke_finding_end(&finding);
    return KeWaitForSingleObject(&slot->event, Executive, KernelMode, FALSE, &patience) == STATUS_SUCCESS;
}

NTSTATUS io_send_and_wait(struct machine *machine, PDEVICE_OBJECT device, PIRP irp, ULONG_PTR *information)
{
    struct io_slot *slot = io_slot_of(machine, irp);
    const UCHAR major = IoGetNextIrpStackLocation(irp)->MajorFunction;
    IO_STATUS_BLOCK outcome;

    KeInitializeEvent(&slot->event, NotificationEvent, FALSE);
    irp->UserEvent = &slot->event;
    irp->UserIosb = &slot->outcome;
    if (!wait_for_end(slot, IofCallDriver(device, irp), major))
        return STATUS_UNSUCCESSFUL;
    outcome = slot->outcome;
    io_irp_free(machine, irp);
    *information = outcome.Information;
    return outcome.Status;
}
