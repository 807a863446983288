/* SPDX-License-Identifier: MIT */
/*
 * busmaster: the driver of a disk that moves its data by bus-master DMA.
 *
 * Each read or write becomes scatter/gather lists, of at most as many pages as there are map registers:
 *
 *     caller's MDL            |#####################################|
 *     GetScatterGatherList    [el][el][el][el]  -> the disk -> PutScatterGatherList, and so on with the next part
 *
 * On a disk with 64 address bits the elements are the caller's own pages. One with 32 bits cannot reach all of them: the system
 * then has the disk work on copies, and brings the bytes over. The driver is the same for both. What it wants to see of the
 * data in flight, it must look for where the disk looks: BuildMdlFromScatterGatherList gives an MDL for that.
 */

#include <ntddk.h>

#include <pinion/disk.h>

#define BUSMASTER_TAG      'tsaM'
#define MAXIMUM_TRANSFER   (1024 * 1024)
#define TRANSFERS_LOOKED_AT 16

typedef struct _BUSMASTER_EXTENSION {
    PDEVICE_OBJECT Self;
    PDEVICE_OBJECT Disk;            /* the device below */
    PDMA_ADAPTER   Adapter;
    ULONG          Width;           /* address bits of the disk */
    ULONG          PartBytes;       /* of the largest transfer that always has enough map registers */
    volatile LONG  Looks;           /* transfers still to be looked at */
} BUSMASTER_EXTENSION, *PBUSMASTER_EXTENSION;

/* One request of the caller's, and the part of it that is under way. */
typedef struct _TRANSFER {
    PBUSMASTER_EXTENSION Extension;
    PIRP                 Irp;
    BOOLEAN              Write;
    ULONG                Length;
    ULONG                Done;
    ULONG                Part;
    LONGLONG             DiskOffset;
    PMDL                 Seen;      /* what the disk sees of this part; NULL: nobody looks */
    PINION_DISK_COMMAND  Command;
} TRANSFER, *PTRANSFER;

DRIVER_INITIALIZE DriverEntry;
DRIVER_ADD_DEVICE BusmasterAddDevice;
DRIVER_UNLOAD BusmasterUnload;
_Dispatch_type_(IRP_MJ_PNP) DRIVER_DISPATCH BusmasterPnp;
_Dispatch_type_(IRP_MJ_READ) _Dispatch_type_(IRP_MJ_WRITE) DRIVER_DISPATCH BusmasterReadWrite;
DRIVER_DISPATCH BusmasterPass;
DRIVER_LIST_CONTROL BusmasterProgramDisk;
IO_COMPLETION_ROUTINE BusmasterDiskDone;

static NTSTATUS BusmasterStartPart(PTRANSFER Transfer);

/* ---- What the disk sees ---- */

/* FALSE: the MDL cannot be mapped now, so nobody looks. */
static BOOLEAN BusmasterChecksum(PMDL Mdl, ULONG Offset, ULONG Length, PULONG Sum)
{
    const UCHAR *bytes = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority | MdlMappingNoExecute);

    if (bytes == NULL)
        return FALSE;
    *Sum = 1;
    for (ULONG i = 0; i < Length; i++)
        *Sum = *Sum * 31 + bytes[Offset + i];
    return TRUE;
}

/* The first few transfers are looked at, if the disk works on copies. */
static VOID BusmasterLook(PTRANSFER Transfer)
{
    const PDMA_ADAPTER adapter = Transfer->Extension->Adapter;
    PMDL seen = NULL;

    Transfer->Seen = NULL;
    if (InterlockedDecrement(&Transfer->Extension->Looks) < 0)
        return;
    if (NT_SUCCESS(adapter->DmaOperations->BuildMdlFromScatterGatherList(adapter, Transfer->Command.List,
                                                                         Transfer->Irp->MdlAddress, &seen))
        && seen != Transfer->Irp->MdlAddress)
        Transfer->Seen = seen;
}

/* After the list is back, the caller's pages hold what the disk wrote. */
static VOID BusmasterCompare(PTRANSFER Transfer, ULONG Moved, ULONG Sum)
{
    ULONG now;

    if (!BusmasterChecksum(Transfer->Irp->MdlAddress, Transfer->Done, Moved, &now))
        return;
    if (now != Sum)
        DbgPrint("busmaster: the disk moved other bytes than the caller has\n");
    NT_ASSERT(now == Sum);
}

/* ---- One part of a request ---- */

/* The list is there: tell the disk. */
VOID BusmasterProgramDisk(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST ScatterGather, PVOID Context)
{
    const PTRANSFER transfer = Context;
    PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(transfer->Irp);

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    transfer->Command.Adapter = transfer->Extension->Adapter;
    transfer->Command.List = ScatterGather;
    transfer->Command.Offset = (ULONGLONG)(transfer->DiskOffset + transfer->Done);
    transfer->Command.WriteToDevice = transfer->Write;
    BusmasterLook(transfer);
    next->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    next->Parameters.DeviceIoControl.IoControlCode = IOCTL_PINION_DISK_TRANSFER;
    next->Parameters.DeviceIoControl.Type3InputBuffer = &transfer->Command;
    IoSetCompletionRoutine(transfer->Irp, BusmasterDiskDone, transfer, TRUE, TRUE, TRUE);
    IoCallDriver(transfer->Extension->Disk, transfer->Irp);
}

/* The list goes back, which is what brings copied bytes to the caller's pages. */
static VOID BusmasterFinishPart(PTRANSFER Transfer, ULONG Moved)
{
    const PDMA_ADAPTER adapter = Transfer->Extension->Adapter;
    ULONG sum = 0;
    const BOOLEAN looked = Transfer->Seen != NULL && BusmasterChecksum(Transfer->Seen, 0, Moved, &sum);

    adapter->DmaOperations->PutScatterGatherList(adapter, Transfer->Command.List, Transfer->Write);
    if (looked)
        BusmasterCompare(Transfer, Moved, sum);
}

/* The end of the request: the caller's IRP goes on up by itself. */
static VOID BusmasterFinish(PTRANSFER Transfer, NTSTATUS Status)
{
    Transfer->Irp->IoStatus.Status = Status;
    Transfer->Irp->IoStatus.Information = Transfer->Done;
    ExFreePoolWithTag(Transfer, BUSMASTER_TAG);
}

/* Called at DISPATCH_LEVEL, as from the disk's interrupt. */
NTSTATUS BusmasterDiskDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    const PTRANSFER transfer = Context;
    const ULONG moved = (ULONG)Irp->IoStatus.Information;
    NTSTATUS status = Irp->IoStatus.Status;

    UNREFERENCED_PARAMETER(DeviceObject);
    BusmasterFinishPart(transfer, NT_SUCCESS(status) ? moved : 0);
    if (NT_SUCCESS(status))
        transfer->Done += moved;
    else if (transfer->Done != 0 && status == STATUS_END_OF_FILE)
        status = STATUS_SUCCESS;
    if (NT_SUCCESS(status) && moved == transfer->Part && transfer->Done < transfer->Length) {
        status = BusmasterStartPart(transfer);
        if (NT_SUCCESS(status))
            return STATUS_MORE_PROCESSING_REQUIRED;
    }
    BusmasterFinish(transfer, status);
    return STATUS_CONTINUE_COMPLETION;
}

static NTSTATUS BusmasterStartPart(PTRANSFER Transfer)
{
    const PDMA_ADAPTER adapter = Transfer->Extension->Adapter;
    const ULONG left = Transfer->Length - Transfer->Done;
    const PMDL mdl = Transfer->Irp->MdlAddress;
    NTSTATUS status;
    KIRQL irql;

    Transfer->Part = left < Transfer->Extension->PartBytes ? left : Transfer->Extension->PartBytes;
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    status = adapter->DmaOperations->GetScatterGatherList(adapter, Transfer->Extension->Self, mdl,
                                                          (PUCHAR)MmGetMdlVirtualAddress(mdl) + Transfer->Done, Transfer->Part,
                                                          BusmasterProgramDisk, Transfer, Transfer->Write);
    KeLowerIrql(irql);
    return status;
}

/* ---- Requests ---- */

static NTSTATUS BusmasterComplete(PIRP Irp, NTSTATUS Status)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

NTSTATUS BusmasterReadWrite(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(Irp);
    PTRANSFER transfer;
    NTSTATUS status;

    if (location->Parameters.Read.Length == 0)
        return BusmasterComplete(Irp, STATUS_SUCCESS);
    transfer = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*transfer), BUSMASTER_TAG);
    if (transfer == NULL)
        return BusmasterComplete(Irp, STATUS_INSUFFICIENT_RESOURCES);
    transfer->Extension = DeviceObject->DeviceExtension;
    transfer->Irp = Irp;
    transfer->Write = location->MajorFunction == IRP_MJ_WRITE;
    transfer->Length = location->Parameters.Read.Length;
    transfer->DiskOffset = location->Parameters.Read.ByteOffset.QuadPart;
    IoMarkIrpPending(Irp);
    status = BusmasterStartPart(transfer);
    if (!NT_SUCCESS(status)) {
        ExFreePoolWithTag(transfer, BUSMASTER_TAG);
        BusmasterComplete(Irp, status);
    }
    return STATUS_PENDING;
}

NTSTATUS BusmasterPass(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PBUSMASTER_EXTENSION extension = DeviceObject->DeviceExtension;

    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(extension->Disk, Irp);
}

/* ---- The device ---- */

static NTSTATUS BusmasterAskWidth(PBUSMASTER_EXTENSION Extension)
{
    IO_STATUS_BLOCK outcome;
    NTSTATUS status;
    KEVENT done;
    PIRP irp;

    KeInitializeEvent(&done, NotificationEvent, FALSE);
    irp = IoBuildDeviceIoControlRequest(IOCTL_PINION_DISK_ADDRESS_WIDTH, Extension->Disk, NULL, 0, NULL, 0, TRUE, &done, &outcome);
    if (irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    status = IoCallDriver(Extension->Disk, irp);
    if (status == STATUS_PENDING) {
        KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
        status = outcome.Status;
    }
    Extension->Width = (ULONG)outcome.Information;
    return status;
}

/* A buffer need not begin with a page, so one register is kept in hand. */
static NTSTATUS BusmasterGetAdapter(PBUSMASTER_EXTENSION Extension, PDEVICE_OBJECT PhysicalDevice)
{
    DEVICE_DESCRIPTION description = {0};
    ULONG registers;

    description.Version = DEVICE_DESCRIPTION_VERSION2;
    description.Master = TRUE;
    description.ScatterGather = TRUE;
    description.Dma32BitAddresses = TRUE;
    description.Dma64BitAddresses = Extension->Width == 64;
    description.InterfaceType = PCIBus;
    description.MaximumLength = MAXIMUM_TRANSFER;
    Extension->Adapter = IoGetDmaAdapter(PhysicalDevice, &description, &registers);
    if (Extension->Adapter == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    Extension->PartBytes = registers > 1 ? (registers - 1) * PAGE_SIZE : PAGE_SIZE;
    return STATUS_SUCCESS;
}

static VOID BusmasterEnd(PBUSMASTER_EXTENSION Extension)
{
    if (Extension->Adapter != NULL)
        Extension->Adapter->DmaOperations->PutDmaAdapter(Extension->Adapter);
    if (Extension->Disk != NULL)
        IoDetachDevice(Extension->Disk);
    IoDeleteDevice(Extension->Self);
}

static NTSTATUS BusmasterPrepare(PBUSMASTER_EXTENSION Extension, PDEVICE_OBJECT PhysicalDevice)
{
    NTSTATUS status;

    Extension->Looks = TRANSFERS_LOOKED_AT;
    Extension->Disk = IoAttachDeviceToDeviceStack(Extension->Self, PhysicalDevice);
    if (Extension->Disk == NULL)
        return STATUS_NO_SUCH_DEVICE;
    status = BusmasterAskWidth(Extension);
    return NT_SUCCESS(status) ? BusmasterGetAdapter(Extension, PhysicalDevice) : status;
}

NTSTATUS BusmasterAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDeviceObject)
{
    PBUSMASTER_EXTENSION extension;
    PDEVICE_OBJECT device;
    NTSTATUS status = IoCreateDevice(DriverObject, sizeof(BUSMASTER_EXTENSION), NULL, FILE_DEVICE_DISK, FILE_DEVICE_SECURE_OPEN,
                                     FALSE, &device);

    if (!NT_SUCCESS(status))
        return status;
    extension = device->DeviceExtension;
    extension->Self = device;
    status = BusmasterPrepare(extension, PhysicalDeviceObject);
    if (!NT_SUCCESS(status)) {
        BusmasterEnd(extension);
        return status;
    }
    device->Flags |= DO_DIRECT_IO;
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

NTSTATUS BusmasterPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PBUSMASTER_EXTENSION extension = DeviceObject->DeviceExtension;
    const BOOLEAN remove = IoGetCurrentIrpStackLocation(Irp)->MinorFunction == IRP_MN_REMOVE_DEVICE;
    NTSTATUS status;

    IoSkipCurrentIrpStackLocation(Irp);
    status = IoCallDriver(extension->Disk, Irp);
    if (remove)
        BusmasterEnd(extension);
    return status;
}

/* ---- The driver ---- */

VOID BusmasterUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
}

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    for (ULONG i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        DriverObject->MajorFunction[i] = BusmasterPass;
    DriverObject->MajorFunction[IRP_MJ_READ] = BusmasterReadWrite;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = BusmasterReadWrite;
    DriverObject->MajorFunction[IRP_MJ_PNP] = BusmasterPnp;
    DriverObject->DriverExtension->AddDevice = BusmasterAddDevice;
    DriverObject->DriverUnload = BusmasterUnload;
    return STATUS_SUCCESS;
}
