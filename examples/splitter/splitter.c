/* SPDX-License-Identifier: MIT */
/*
 * splitter: a filter driver for a lower device that takes at most 64 KiB in one request.
 *
 * Whatever the caller asks for goes down in pieces. One IRP and one MDL serve all the pieces of a request, one after
 * the other; IoBuildPartialMdl points that MDL at the next stretch of the caller's buffer each time:
 *
 *     caller's MDL   |#####################################|      already locked: never locked again here
 *     piece MDL      |-- 64 KiB --|
 *                                 |-- 64 KiB --|
 *                                              |-- rest ---|
 *
 * A partial MDL copies page frame numbers out of its source and owns no page. So it is freed, never unlocked, and the
 * source must stay as it is until the last piece is back: that is, until the caller's IRP is completed.
 */

#include <ntddk.h>

#define PIECE_BYTES  (64 * 1024)
#define SPLITTER_TAG 'tlpS'

typedef struct _SPLITTER_EXTENSION {
    PDEVICE_OBJECT Lower;
} SPLITTER_EXTENSION, *PSPLITTER_EXTENSION;

/* One request of the caller's on its way down. */
typedef struct _SPLIT {
    PDEVICE_OBJECT Lower;
    PIRP           Original;        /* the caller's, pending until the last piece is back */
    PIRP           Piece;           /* ours, sent once for each piece */
    PMDL           PieceMdl;        /* ours, rebuilt for each piece */
    ULONG          Length;          /* bytes that the caller wants */
    ULONG          Done;            /* bytes that earlier pieces moved */
    ULONG          Sent;            /* bytes that the piece under way asks for */
    NTSTATUS       Status;          /* of the latest piece */
    volatile LONG  Arrivals;        /* see SplitRun */
} SPLIT, *PSPLIT;

DRIVER_INITIALIZE DriverEntry;
DRIVER_ADD_DEVICE SplitterAddDevice;
DRIVER_UNLOAD SplitterUnload;
_Dispatch_type_(IRP_MJ_PNP) DRIVER_DISPATCH SplitterPnp;
_Dispatch_type_(IRP_MJ_READ) _Dispatch_type_(IRP_MJ_WRITE) DRIVER_DISPATCH SplitterReadWrite;
DRIVER_DISPATCH SplitterPass;
IO_COMPLETION_ROUTINE SplitPieceDone;

/* ---- One request ---- */

static VOID SplitFree(PSPLIT Split)
{
    if (Split->PieceMdl != NULL)
        IoFreeMdl(Split->PieceMdl);
    if (Split->Piece != NULL) {
        Split->Piece->MdlAddress = NULL;
        IoFreeIrp(Split->Piece);
    }
    ExFreePoolWithTag(Split, SPLITTER_TAG);
}

/* All that the request will need, so that nothing can run out half-way. NULL: there is not enough memory. */
static PSPLIT SplitCreate(PDEVICE_OBJECT Lower, PIRP Original, ULONG Length)
{
    PSPLIT split = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*split), SPLITTER_TAG);

    if (split == NULL)
        return NULL;
    split->Lower = Lower;
    split->Original = Original;
    split->Length = Length;
    split->Piece = IoAllocateIrp(Lower->StackSize, FALSE);

    /*
     * The MDL is only a container here, hence no address. A piece may start anywhere in a page, and 64 KiB from the
     * middle of a page touch 17 pages, not 16: room for one page more makes every piece fit.
     */
    split->PieceMdl = IoAllocateMdl(NULL, PIECE_BYTES + PAGE_SIZE, FALSE, FALSE, NULL);
    if (split->Piece == NULL || split->PieceMdl == NULL) {
        SplitFree(split);
        return NULL;
    }
    return split;
}

/* Free everything first: once the caller's IRP is completed, it and its MDL belong to the caller again. */
static VOID SplitFinish(PSPLIT Split)
{
    PIRP original = Split->Original;
    NTSTATUS status = Split->Status;
    ULONG done = Split->Done;

    SplitFree(Split);

    /* The device ends exactly where an earlier piece did. Unsplit, this would have been a short success. */
    if (status == STATUS_END_OF_FILE && done != 0)
        status = STATUS_SUCCESS;

    original->IoStatus.Status = status;
    original->IoStatus.Information = NT_SUCCESS(status) ? done : 0;
    IoCompleteRequest(original, IO_NO_INCREMENT);
}

static VOID SplitSendPiece(PSPLIT Split)
{
    PIO_STACK_LOCATION from = IoGetCurrentIrpStackLocation(Split->Original);
    PMDL source = Split->Original->MdlAddress;
    PIRP piece = Split->Piece;
    PIO_STACK_LOCATION to;

    Split->Sent = min(PIECE_BYTES, Split->Length - Split->Done);

    /*
     * The range is named by the source MDL's own virtual address. It serves as an index into the source and is never
     * dereferenced, so it does not matter that it may mean nothing in the process that is current now. (A mapped
     * address, from MmGetSystemAddressForMdlSafe, would be the wrong one.)
     */
    IoBuildPartialMdl(source, Split->PieceMdl, (PUCHAR)MmGetMdlVirtualAddress(source) + Split->Done, Split->Sent);

    IoReuseIrp(piece, STATUS_SUCCESS);
    piece->MdlAddress = Split->PieceMdl;
    piece->Tail.Overlay.Thread = Split->Original->Tail.Overlay.Thread;

    /* Read and Write have the same parameters in the same places. */
    to = IoGetNextIrpStackLocation(piece);
    to->MajorFunction = from->MajorFunction;
    to->MinorFunction = from->MinorFunction;
    to->Flags = from->Flags;
    to->FileObject = from->FileObject;
    to->Parameters.Read = from->Parameters.Read;
    to->Parameters.Read.Length = Split->Sent;
    to->Parameters.Read.ByteOffset.QuadPart += Split->Done;
    IoSetCompletionRoutine(piece, SplitPieceDone, Split, TRUE, TRUE, TRUE);
    IoCallDriver(Split->Lower, piece);
}

/* The piece is back: take note of what it did. TRUE: there is another one to send. */
static BOOLEAN SplitTakeResult(PSPLIT Split)
{
    ULONG moved = (ULONG)Split->Piece->IoStatus.Information;

    /* A driver below may have mapped the piece. That mapping must go before the MDL describes other pages. */
    MmPrepareMdlForReuse(Split->PieceMdl);

    Split->Status = Split->Piece->IoStatus.Status;
    if (!NT_SUCCESS(Split->Status))
        return FALSE;
    Split->Done += moved;
    return moved == Split->Sent && Split->Done < Split->Length;
}

/*
 * Send pieces for as long as they come back at once.
 *
 * A completion routine that sent the next piece itself would be called from within that very call when the lower
 * driver completes synchronously, and so on, deeper with each piece. So two parties report here for each piece, the
 * sender when IoCallDriver has returned and the completion routine, in either order; the second one goes on. When
 * that is the sender, it goes on in this loop. The first one must not touch the request any more.
 */
static VOID SplitRun(PSPLIT Split)
{
    do {
        Split->Arrivals = 0;
        SplitSendPiece(Split);
        if (InterlockedIncrement(&Split->Arrivals) == 1)
            return;
    } while (SplitTakeResult(Split));
    SplitFinish(Split);
}

/* Runs at any IRQL up to DISPATCH_LEVEL, in any thread; everything it calls may be called there. */
NTSTATUS SplitPieceDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    PSPLIT split = Context;

    UNREFERENCED_PARAMETER(DeviceObject);       /* NULL: the IRP has no stack location of ours */
    UNREFERENCED_PARAMETER(Irp);

    if (InterlockedIncrement(&split->Arrivals) == 2) {
        if (SplitTakeResult(split))
            SplitRun(split);
        else
            SplitFinish(split);
    }

    /* The IRP is ours and may be on its way again, or freed: the I/O manager must not look at it. */
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* ---- Dispatch routines ---- */

static NTSTATUS SplitterRefuse(PIRP Irp, NTSTATUS Status)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

NTSTATUS SplitterReadWrite(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PSPLITTER_EXTENSION extension = DeviceObject->DeviceExtension;
    ULONG length = IoGetCurrentIrpStackLocation(Irp)->Parameters.Read.Length;
    PSPLIT split;

    /* A request for no bytes has no MDL, and there is nothing in it to split. */
    if (Irp->MdlAddress == NULL || length == 0)
        return SplitterPass(DeviceObject, Irp);

    /* A piece beyond the end of its source MDL would stop the machine, so ask before cutting. */
    if (length > MmGetMdlByteCount(Irp->MdlAddress))
        return SplitterRefuse(Irp, STATUS_INVALID_PARAMETER);

    split = SplitCreate(extension->Lower, Irp, length);
    if (split == NULL)
        return SplitterRefuse(Irp, STATUS_INSUFFICIENT_RESOURCES);

    /* Pending from here on: the request may be complete before SplitRun returns, and the IRP gone. */
    IoMarkIrpPending(Irp);
    SplitRun(split);
    return STATUS_PENDING;
}

NTSTATUS SplitterPass(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PSPLITTER_EXTENSION extension = DeviceObject->DeviceExtension;

    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(extension->Lower, Irp);
}

/* Every PnP request goes down; after a removal has come back, the filter leaves the stack. */
NTSTATUS SplitterPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PSPLITTER_EXTENSION extension = DeviceObject->DeviceExtension;
    PDEVICE_OBJECT lower = extension->Lower;
    UCHAR minor = IoGetCurrentIrpStackLocation(Irp)->MinorFunction;
    NTSTATUS status;

    if (minor == IRP_MN_REMOVE_DEVICE)
        Irp->IoStatus.Status = STATUS_SUCCESS;
    status = SplitterPass(DeviceObject, Irp);
    if (minor == IRP_MN_REMOVE_DEVICE) {
        IoDetachDevice(lower);
        IoDeleteDevice(DeviceObject);
    }
    return status;
}

/* ---- Coming and going ---- */

NTSTATUS SplitterAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDeviceObject)
{
    PSPLITTER_EXTENSION extension;
    PDEVICE_OBJECT device;
    NTSTATUS status;

    status = IoCreateDevice(DriverObject, sizeof(SPLITTER_EXTENSION), NULL, FILE_DEVICE_DISK,
                            FILE_DEVICE_SECURE_OPEN, FALSE, &device);
    if (!NT_SUCCESS(status))
        return status;

    extension = device->DeviceExtension;
    extension->Lower = IoAttachDeviceToDeviceStack(device, PhysicalDeviceObject);
    if (extension->Lower == NULL) {
        IoDeleteDevice(device);
        return STATUS_NO_SUCH_DEVICE;
    }

    /* The I/O manager asks the topmost device how it wants its buffers: as the lower device does. */
    device->Flags |= extension->Lower->Flags & (DO_DIRECT_IO | DO_BUFFERED_IO | DO_POWER_PAGABLE);
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

VOID SplitterUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);       /* nothing is held for the driver as a whole */
}

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    ULONG i;

    UNREFERENCED_PARAMETER(RegistryPath);

    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        DriverObject->MajorFunction[i] = SplitterPass;
    DriverObject->MajorFunction[IRP_MJ_READ] = SplitterReadWrite;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = SplitterReadWrite;
    DriverObject->MajorFunction[IRP_MJ_PNP] = SplitterPnp;
    DriverObject->DriverExtension->AddDevice = SplitterAddDevice;
    DriverObject->DriverUnload = SplitterUnload;
    return STATUS_SUCCESS;
}
