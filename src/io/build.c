/* SPDX-License-Identifier: MIT */
/*
 * Requests that a driver builds for the device below it, and parts of a request that come together again.
 *
 *                                     who ends it                                   who frees IRP, MDLs, system buffer
 *     IoBuildSynchronousFsdRequest    the I/O manager: data, status block, event    the I/O manager
 *     IoBuildDeviceIoControlRequest   the same                                      the I/O manager
 *     IoBuildAsynchronousFsdRequest   the driver's completion routine               that routine
 *     IoMakeAssociatedIrp             the I/O manager, or a completion routine      likewise
 *
 * Synchronous requests belong to the thread that built them and are cancelled when it ends.
 */

#include "io/io.h"

/* ---- the end of a synchronous request ---- */

/* Signalling the event is the last of all: its owner may be gone then, and what it counts must be right. */
static void finish_built(struct machine *machine, struct io_slot *slot, const IO_STATUS_BLOCK *outcome)
{
    PIRP irp = io_slot_irp(slot);
    const PIO_STATUS_BLOCK status_block = irp->UserIosb;
    const PKEVENT event = irp->UserEvent;
    struct io_ending ending;

    ending = io_request_unqueue(machine, irp);
    if (ending.free)
        io_irp_free(machine, irp);
    if (!ending.tell)
        return;
    if (status_block != NULL)
        *status_block = *outcome;
    if (event != NULL)
        KeSetEvent(event, IO_NO_INCREMENT, FALSE);
}

/* ---- building ---- */

static void abandon(struct machine *machine, PIRP irp)
{
    io_irp_release_buffers(machine, irp);
    io_irp_free(machine, irp);
}

/* What refuses the caller's buffer, rather than the caller's luck. */
static bool is_bad_buffer(NTSTATUS status)
{
    return !NT_SUCCESS(status) && status != STATUS_INSUFFICIENT_RESOURCES && status != STATUS_WORKING_SET_QUOTA
        && status != STATUS_NO_MEMORY;
}

/* Reads and writes have a buffer; IRP_MJ_FLUSH_BUFFERS, IRP_MJ_SHUTDOWN and IRP_MJ_PNP have none. */
static NTSTATUS attach_fsd(struct machine *machine, PIRP irp, ULONG major, PDEVICE_OBJECT device,
                           struct io_buffer buffer, const LARGE_INTEGER *offset)
{
    const struct io_transfer transfer = {
        .write = major == IRP_MJ_WRITE, .buffer = buffer, .offset = offset == NULL ? 0 : offset->QuadPart};

    if (major == IRP_MJ_READ || major == IRP_MJ_WRITE)
        return io_attach_transfer(machine, irp, device->Flags, &transfer);
    IoGetNextIrpStackLocation(irp)->MajorFunction = (UCHAR)major;
    return STATUS_SUCCESS;
}

static PIRP new_irp(struct machine *machine, enum io_maker maker, PDEVICE_OBJECT device, PIO_STATUS_BLOCK status_block)
{
    PIRP irp = io_irp_new_by(machine, maker, device->StackSize, maker == IO_BY_MANAGER ? finish_built : NULL);

    if (irp == NULL)
        return NULL;
    irp->RequestorMode = KernelMode;
    irp->Tail.Overlay.Thread = PsGetCurrentThread();
    irp->UserIosb = status_block;
    return irp;
}

/* The IRP, or why there is none: then nothing has changed. */
static NTSTATUS build_fsd(struct machine *machine, enum io_maker maker, ULONG major, PDEVICE_OBJECT device,
                          struct io_buffer buffer, const LARGE_INTEGER *offset, PIO_STATUS_BLOCK status_block, PIRP *out)
{
    PIRP irp = new_irp(machine, maker, device, status_block);
    NTSTATUS status;

    if (irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = attach_fsd(machine, irp, major, device, buffer, offset);
    if (NT_SUCCESS(status))
        *out = irp;
    else
        abandon(machine, irp);
    return status;
}

/*
 * Build a read, write, flush, shutdown or Plug and Play request for a device, to be sent by the calling thread, which then
 * waits for Event. The I/O manager frees it. NULL: no memory, or the buffer cannot be used.
 *
 * IRQL: <= APC_LEVEL.
 * Doc:  wdm/nf-wdm-iobuildsynchronousfsdrequest
 */
PIRP IoBuildSynchronousFsdRequest(ULONG MajorFunction, PDEVICE_OBJECT DeviceObject, PVOID Buffer, ULONG Length,
                                  PLARGE_INTEGER StartingOffset, PKEVENT Event, PIO_STATUS_BLOCK IoStatusBlock)
{
    struct machine *machine = ke_machine();
    const struct io_buffer buffer = {Buffer, Length};
    PIRP irp = NULL;
    NTSTATUS status;

    if (ke_fails(KE_FALLIBLE_IoBuildSynchronousFsdRequest))
        return NULL;
    status = build_fsd(machine, IO_BY_MANAGER, MajorFunction, DeviceObject, buffer, StartingOffset, IoStatusBlock, &irp);
    if (is_bad_buffer(status))
        KE_HOOK(machine, irp_fsd_buffer_check, DeviceObject, MajorFunction, status);
    if (irp == NULL)
        return NULL;
    irp->UserEvent = Event;
    io_request_queue(machine, irp);
    return irp;
}

/* The system buffer is the driver's from here on, as the MDL is. */
static void hand_over_buffers(struct machine *machine, PIRP irp)
{
    io_slot_of(machine, irp)->system_buffer = NULL;
}

/*
 * As IoBuildSynchronousFsdRequest, for a driver that does not wait: its completion routine unlocks and frees the MDLs, frees a
 * system buffer (IRP_DEALLOCATE_BUFFER) and the IRP, and keeps it from the I/O manager.
 *
 * IRQL: <= APC_LEVEL.
 * Doc:  wdm/nf-wdm-iobuildasynchronousfsdrequest
 */
PIRP IoBuildAsynchronousFsdRequest(ULONG MajorFunction, PDEVICE_OBJECT DeviceObject, PVOID Buffer, ULONG Length,
                                   PLARGE_INTEGER StartingOffset, PIO_STATUS_BLOCK IoStatusBlock)
{
    struct machine *machine = ke_machine();
    const struct io_buffer buffer = {Buffer, Length};
    PIRP irp = NULL;
    NTSTATUS status;

    if (ke_fails(KE_FALLIBLE_IoBuildAsynchronousFsdRequest))
        return NULL;
    status = build_fsd(machine, IO_BY_ASYNC_BUILD, MajorFunction, DeviceObject, buffer, StartingOffset, IoStatusBlock, &irp);
    if (is_bad_buffer(status))
        KE_HOOK(machine, irp_fsd_buffer_check, DeviceObject, MajorFunction, status);
    if (irp != NULL)
        hand_over_buffers(machine, irp);
    return irp;
}

static NTSTATUS build_control(struct machine *machine, PDEVICE_OBJECT device, const struct io_control *control,
                              PIO_STATUS_BLOCK status_block, PIRP *out)
{
    PIRP irp = new_irp(machine, IO_BY_MANAGER, device, status_block);
    NTSTATUS status;

    if (irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = io_attach_control(machine, irp, control);
    if (NT_SUCCESS(status))
        *out = irp;
    else
        abandon(machine, irp);
    return status;
}

/*
 * Build a device control request, with its buffers by the method of the code, to be sent by the calling thread. The I/O
 * manager frees it. NULL: no memory, or a buffer cannot be used.
 *
 * IRQL: <= APC_LEVEL.
 * Doc:  wdm/nf-wdm-iobuilddeviceiocontrolrequest
 */
PIRP IoBuildDeviceIoControlRequest(ULONG IoControlCode, PDEVICE_OBJECT DeviceObject, PVOID InputBuffer,
                                   ULONG InputBufferLength, PVOID OutputBuffer, ULONG OutputBufferLength,
                                   BOOLEAN InternalDeviceIoControl, PKEVENT Event, PIO_STATUS_BLOCK IoStatusBlock)
{
    struct machine *machine = ke_machine();
    const struct io_control control = {.code = IoControlCode, .internal = InternalDeviceIoControl,
                                       .in = {InputBuffer, InputBufferLength}, .out = {OutputBuffer, OutputBufferLength}};
    PIRP irp = NULL;
    NTSTATUS status;

    if (ke_fails(KE_FALLIBLE_IoBuildDeviceIoControlRequest))
        return NULL;
    status = build_control(machine, DeviceObject, &control, IoStatusBlock, &irp);
    if (is_bad_buffer(status))
        KE_HOOK(machine, irp_control_buffer_check, DeviceObject, IoControlCode, status);
    if (irp == NULL)
        return NULL;
    irp->UserEvent = Event;
    io_request_queue(machine, irp);
    return irp;
}

/* ---- associated IRPs ---- */

/* The IRP goes before it is counted: whoever sees the master complete finds no part of it alive. */
static void finish_associated(struct machine *machine, struct io_slot *slot, const IO_STATUS_BLOCK *outcome)
{
    PIRP master = slot->requester;
    LONG left;

    (void)outcome;
    io_irp_free(machine, io_slot_irp(slot));
    left = InterlockedDecrement(&master->AssociatedIrp.IrpCount);
    if (left == 0)
        IofCompleteRequest(master, IO_NO_INCREMENT);
    if (left < 0)
        ke_warn("associated-irp-count",
                "more associated IRPs of master IRP %p have completed than its IrpCount said; set it to their number before "
                "the first of them is sent", (void *)master);
}

/*
 * Make an IRP that stands for a part of another. When all of them are complete, as counted by the master's IrpCount, so is the
 * master. A driver whose completion routine keeps one frees it with IoFreeIrp; it then completes the master itself. NULL: no
 * memory.
 *
 * IRQL: <= DISPATCH_LEVEL.
 * Doc:  ntddk/nf-ntddk-iomakeassociatedirp
 */
PIRP IoMakeAssociatedIrp(PIRP Irp, CCHAR StackSize)
{
    struct machine *machine = ke_machine();
    PIRP part;

    if (ke_fails(KE_FALLIBLE_IoMakeAssociatedIrp))
        return NULL;
    part = io_irp_new_by(machine, IO_BY_ASSOCIATION, StackSize, finish_associated);
    if (part == NULL)
        return NULL;
    io_slot_of(machine, part)->requester = Irp;
    part->Flags |= IRP_ASSOCIATED_IRP;
    part->AssociatedIrp.MasterIrp = Irp;
    part->Tail.Overlay.Thread = Irp->Tail.Overlay.Thread;
    return part;
}
