/* SPDX-License-Identifier: MIT */
/*
 * reassembler: a filter driver for a lower device that moves fewer bytes than it is asked for.
 *
 * Its callers want a request done whole. So whenever the lower device has moved a part, the filter sends the same IRP
 * down again for the rest, until nothing is left. There are two ways to describe the rest of the buffer:
 *
 *     request's MDL   |############|.......................|      # moved, . still to come
 *
 *     the rule                     |--- a partial MDL -----|      IoAllocateMdl + IoBuildPartialMdl
 *     the last resort              |--- the request's MDL -|      MmAdvanceMdl: its beginning moves, the pages passed
 *                                                                 are unlocked at once
 *
 * MmAdvanceMdl changes an MDL that others may still look at and cannot be taken back, and so it is for a driver that
 * cannot do with less than the whole request, has tried to allocate an MDL, was refused, and must make progress all
 * the same. A driver that gets its MDL has to use IoBuildPartialMdl.
 */

#include <ntddk.h>

#define REASSEMBLER_TAG 'msaR'

typedef struct _REASSEMBLER_EXTENSION {
    PDEVICE_OBJECT Lower;
} REASSEMBLER_EXTENSION, *PREASSEMBLER_EXTENSION;

/* One request that is being put together. */
typedef struct _REASSEMBLY {
    PDEVICE_OBJECT Lower;
    PIRP           Irp;             /* the caller's: the same one goes down each time */
    PMDL           Mdl;             /* the one it came with, and must be completed with */
    PMDL           Rest;            /* our partial MDL for what is left, if there is one */
    PUCHAR         Start;           /* where Mdl began when the request came */
    ULONG          Length;          /* bytes that the caller wants */
    ULONG          Moved;           /* bytes that are there */
    volatile LONG  Arrivals;        /* see ReassemblyRun */
} REASSEMBLY, *PREASSEMBLY;

DRIVER_INITIALIZE DriverEntry;
DRIVER_ADD_DEVICE ReassemblerAddDevice;
DRIVER_UNLOAD ReassemblerUnload;
_Dispatch_type_(IRP_MJ_PNP) DRIVER_DISPATCH ReassemblerPnp;
_Dispatch_type_(IRP_MJ_READ) _Dispatch_type_(IRP_MJ_WRITE) DRIVER_DISPATCH ReassemblerReadWrite;
DRIVER_DISPATCH ReassemblerPass;
IO_COMPLETION_ROUTINE ReassemblyPartDone;

/* ---- One request ---- */

/* Make Irp->MdlAddress describe what is left. All calls here may be made at DISPATCH_LEVEL, where parts complete. */
static NTSTATUS ReassemblyDescribeRest(PREASSEMBLY Request)
{
    PUCHAR rest = Request->Start + Request->Moved;
    ULONG left = Request->Length - Request->Moved;

    /* One that was allocated for an earlier part fits: what is left only ever becomes less. */
    if (Request->Rest == NULL)
        Request->Rest = IoAllocateMdl(rest, left, FALSE, FALSE, NULL);
    else
        MmPrepareMdlForReuse(Request->Rest);

    if (Request->Rest != NULL) {
        IoBuildPartialMdl(Request->Mdl, Request->Rest, rest, left);
        Request->Irp->MdlAddress = Request->Rest;
        return STATUS_SUCCESS;
    }

    /*
     * No memory, and half a request is of no use to anybody: move the beginning of the request's own MDL. There is
     * always something left here, and so the beginning never reaches the end, which MmAdvanceMdl refuses.
     */
    return MmAdvanceMdl(Request->Mdl, (ULONG)(rest - (PUCHAR)MmGetMdlVirtualAddress(Request->Mdl)));
}

static VOID ReassemblySend(PREASSEMBLY Request)
{
    PIRP irp = Request->Irp;
    PIO_STACK_LOCATION next;

    IoCopyCurrentIrpStackLocationToNext(irp);
    next = IoGetNextIrpStackLocation(irp);
    next->Parameters.Read.Length = Request->Length - Request->Moved;        /* Write has them in the same places */
    next->Parameters.Read.ByteOffset.QuadPart += Request->Moved;
    IoSetCompletionRoutine(irp, ReassemblyPartDone, Request, TRUE, TRUE, TRUE);

    irp->IoStatus.Status = STATUS_SUCCESS;
    irp->IoStatus.Information = 0;
    IoCallDriver(Request->Lower, irp);
}

/* A part is back. TRUE: the rest is described and ready to be sent; FALSE: the IRP's status is the request's. */
static BOOLEAN ReassemblyTakePart(PREASSEMBLY Request)
{
    PIO_STATUS_BLOCK result = &Request->Irp->IoStatus;

    if (!NT_SUCCESS(result->Status))
        return FALSE;
    Request->Moved += (ULONG)result->Information;

    /* A success that moved nothing will move nothing the next time: the device has no more to give. */
    if (result->Information == 0 || Request->Moved >= Request->Length)
        return FALSE;

    result->Status = ReassemblyDescribeRest(Request);
    return NT_SUCCESS(result->Status);
}

static VOID ReassemblyFinish(PREASSEMBLY Request)
{
    PIRP irp = Request->Irp;
    ULONG moved = Request->Moved;

    /*
     * Whoever made the request looks for its MDL in the IRP, to unlock and free it. It is the same MDL even when its
     * beginning has moved: the pages that were passed are unlocked already, the others are what it still describes.
     */
    irp->MdlAddress = Request->Mdl;
    if (Request->Rest != NULL)
        IoFreeMdl(Request->Rest);
    ExFreePoolWithTag(Request, REASSEMBLER_TAG);

    /* The device ended where a part did. A device that moved all at once would have ended short, with success. */
    if (irp->IoStatus.Status == STATUS_END_OF_FILE && moved != 0)
        irp->IoStatus.Status = STATUS_SUCCESS;
    irp->IoStatus.Information = NT_SUCCESS(irp->IoStatus.Status) ? moved : 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

/*
 * Send parts for as long as they come back at once. For each part both the sender, after IoCallDriver, and the
 * completion routine report here; the second one goes on, and the first must not touch the request any more. A lower
 * driver that completes synchronously thus makes a loop of this, not a recursion.
 */
static VOID ReassemblyRun(PREASSEMBLY Request)
{
    do {
        Request->Arrivals = 0;
        ReassemblySend(Request);
        if (InterlockedIncrement(&Request->Arrivals) == 1)
            return;
    } while (ReassemblyTakePart(Request));
    ReassemblyFinish(Request);
}

NTSTATUS ReassemblyPartDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    PREASSEMBLY request = Context;

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);        /* marked pending once, by the dispatch routine: that holds for every reissue */

    if (InterlockedIncrement(&request->Arrivals) == 2) {
        if (ReassemblyTakePart(request))
            ReassemblyRun(request);
        else
            ReassemblyFinish(request);
    }

    /* The IRP is ours, is on its way down again, or is completed: this pass of the I/O manager ends here. */
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* ---- Dispatch routines ---- */

static NTSTATUS ReassemblerRefuse(PIRP Irp, NTSTATUS Status)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

NTSTATUS ReassemblerReadWrite(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PREASSEMBLER_EXTENSION extension = DeviceObject->DeviceExtension;
    ULONG length = IoGetCurrentIrpStackLocation(Irp)->Parameters.Read.Length;
    PREASSEMBLY request;

    /* A request for no bytes has no MDL, and it cannot come back half done. */
    if (Irp->MdlAddress == NULL || length == 0)
        return ReassemblerPass(DeviceObject, Irp);
    if (length > MmGetMdlByteCount(Irp->MdlAddress))
        return ReassemblerRefuse(Irp, STATUS_INVALID_PARAMETER);

    /* The only allocation that the request cannot do without is made here, before the first byte moves. */
    request = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*request), REASSEMBLER_TAG);
    if (request == NULL)
        return ReassemblerRefuse(Irp, STATUS_INSUFFICIENT_RESOURCES);
    request->Lower = extension->Lower;
    request->Irp = Irp;
    request->Mdl = Irp->MdlAddress;
    request->Start = MmGetMdlVirtualAddress(Irp->MdlAddress);
    request->Length = length;

    IoMarkIrpPending(Irp);
    ReassemblyRun(request);
    return STATUS_PENDING;
}

NTSTATUS ReassemblerPass(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PREASSEMBLER_EXTENSION extension = DeviceObject->DeviceExtension;

    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(extension->Lower, Irp);
}

/* Every PnP request goes down; after a removal has come back, the filter leaves the stack. */
NTSTATUS ReassemblerPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PREASSEMBLER_EXTENSION extension = DeviceObject->DeviceExtension;
    PDEVICE_OBJECT lower = extension->Lower;
    UCHAR minor = IoGetCurrentIrpStackLocation(Irp)->MinorFunction;
    NTSTATUS status;

    if (minor == IRP_MN_REMOVE_DEVICE)
        Irp->IoStatus.Status = STATUS_SUCCESS;
    status = ReassemblerPass(DeviceObject, Irp);
    if (minor == IRP_MN_REMOVE_DEVICE) {
        IoDetachDevice(lower);
        IoDeleteDevice(DeviceObject);
    }
    return status;
}

/* ---- Coming and going ---- */

NTSTATUS ReassemblerAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDeviceObject)
{
    PREASSEMBLER_EXTENSION extension;
    PDEVICE_OBJECT device;
    NTSTATUS status;

    status = IoCreateDevice(DriverObject, sizeof(REASSEMBLER_EXTENSION), NULL, FILE_DEVICE_DISK,
                            FILE_DEVICE_SECURE_OPEN, FALSE, &device);
    if (!NT_SUCCESS(status))
        return status;

    extension = device->DeviceExtension;
    extension->Lower = IoAttachDeviceToDeviceStack(device, PhysicalDeviceObject);
    if (extension->Lower == NULL) {
        IoDeleteDevice(device);
        return STATUS_NO_SUCH_DEVICE;
    }
    device->Flags |= extension->Lower->Flags & (DO_DIRECT_IO | DO_BUFFERED_IO | DO_POWER_PAGABLE);
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

VOID ReassemblerUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);       /* nothing is held for the driver as a whole */
}

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    ULONG i;

    UNREFERENCED_PARAMETER(RegistryPath);

    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        DriverObject->MajorFunction[i] = ReassemblerPass;
    DriverObject->MajorFunction[IRP_MJ_READ] = ReassemblerReadWrite;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = ReassemblerReadWrite;
    DriverObject->MajorFunction[IRP_MJ_PNP] = ReassemblerPnp;
    DriverObject->DriverExtension->AddDevice = ReassemblerAddDevice;
    DriverObject->DriverUnload = ReassemblerUnload;
    return STATUS_SUCCESS;
}
