/* SPDX-License-Identifier: MIT */
/*
 * A filter driver that does one thing wrong; FAULT says which. The command must notice each.
 */

#include <ntddk.h>

#include <stdio.h>
#include <stdlib.h>

#define FAULT_FLIPS    1            /* changes a byte of what was read */
#define FAULT_LEAKS    2            /* allocates an MDL for each read and forgets it */
#define FAULT_OVERRUNS 3            /* changes the byte behind the buffer */
#define FAULT_REFUSES  4            /* its DriverEntry fails */
#define FAULT_FORGETS  5            /* never completes a read */
#define FAULT_EXITS    6            /* ends the process, as if all were well */
#define FAULT_ABORTS   7            /* ends the process by abort() */
#define FAULT_HANGS    8            /* never returns from a read */
#define FAULT_PRINTS   9            /* prints on stdout, and is otherwise well */
#define FAULT_FILLS    10           /* has the C library fill more than its block of pool */
#define FAULT_LOSES    11           /* without memory, returns an error and does not complete the read */
#define FAULT_SWAPS    12           /* sends its own MDL down in a read, and does not put the system's back */
#define FAULT_FREES    13           /* so, and frees its own */

static PDEVICE_OBJECT LowerOf(PDEVICE_OBJECT DeviceObject)
{
    return *(PDEVICE_OBJECT *)DeviceObject->DeviceExtension;
}

static NTSTATUS Pass(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(LowerOf(DeviceObject), Irp);
}

/* Change one byte: the last of the buffer, or the one behind it where that is in the same page. */
static VOID Spoil(PMDL Mdl, ULONG Behind)
{
    PUCHAR data = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority | MdlMappingNoExecute);
    ULONG bytes = MmGetMdlByteCount(Mdl);

    if (data != NULL && (MmGetMdlByteOffset(Mdl) + bytes) % PAGE_SIZE != 0)
        data[bytes - 1 + Behind] ^= 1;
}

static NTSTATUS ReadDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Context);

    if (Irp->PendingReturned)
        IoMarkIrpPending(Irp);
    if (NT_SUCCESS(Irp->IoStatus.Status) && FAULT == FAULT_FLIPS)
        Spoil(Irp->MdlAddress, 0);
    if (NT_SUCCESS(Irp->IoStatus.Status) && FAULT == FAULT_OVERRUNS)
        Spoil(Irp->MdlAddress, 1);
    if (FAULT == FAULT_FREES)
        IoFreeMdl(Irp->MdlAddress);
    return STATUS_CONTINUE_COMPLETION;
}

static VOID WaitForEver(VOID)
{
    KEVENT never;

    KeInitializeEvent(&never, NotificationEvent, FALSE);
    KeWaitForSingleObject(&never, Executive, KernelMode, FALSE, NULL);
}

static VOID FillTooMuch(VOID)
{
    static volatile SIZE_T bytes = 200;
    PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, 'lliF');

    if (block == NULL)
        return;
    RtlZeroMemory(block, bytes);
    ExFreePoolWithTag(block, 'lliF');
}

static VOID SwapMdl(PIRP Irp)
{
    PMDL mdl = Irp->MdlAddress;
    PMDL part = IoAllocateMdl(MmGetMdlVirtualAddress(mdl), MmGetMdlByteCount(mdl), FALSE, FALSE, NULL);

    if (part == NULL)
        return;
    IoBuildPartialMdl(mdl, part, MmGetMdlVirtualAddress(mdl), MmGetMdlByteCount(mdl));
    Irp->MdlAddress = part;
}

static BOOLEAN HasMemory(VOID)
{
    PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, 'tluf');

    if (block != NULL)
        ExFreePoolWithTag(block, 'tluf');
    return block != NULL;
}

static NTSTATUS Read(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    if (FAULT == FAULT_EXITS)
        exit(0);
    if (FAULT == FAULT_ABORTS)
        abort();
    if (FAULT == FAULT_HANGS)
        WaitForEver();
    if (FAULT == FAULT_PRINTS)
        puts("reading");
    if (FAULT == FAULT_FILLS)
        FillTooMuch();
    if (FAULT == FAULT_LEAKS)
        IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    if (FAULT == FAULT_SWAPS || FAULT == FAULT_FREES)
        SwapMdl(Irp);
    if (FAULT == FAULT_LOSES && !HasMemory())
        return STATUS_INSUFFICIENT_RESOURCES;
    if (FAULT == FAULT_FORGETS) {
        IoMarkIrpPending(Irp);
        return STATUS_PENDING;
    }
    IoCopyCurrentIrpStackLocationToNext(Irp);
    IoSetCompletionRoutine(Irp, ReadDone, NULL, TRUE, TRUE, TRUE);
    return IoCallDriver(LowerOf(DeviceObject), Irp);
}

static NTSTATUS Pnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PDEVICE_OBJECT lower = LowerOf(DeviceObject);
    UCHAR minor = IoGetCurrentIrpStackLocation(Irp)->MinorFunction;
    NTSTATUS status = Pass(DeviceObject, Irp);

    if (minor == IRP_MN_REMOVE_DEVICE) {
        IoDetachDevice(lower);
        IoDeleteDevice(DeviceObject);
    }
    return status;
}

static NTSTATUS AddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDeviceObject)
{
    PDEVICE_OBJECT device, lower;
    NTSTATUS status = IoCreateDevice(DriverObject, sizeof(PDEVICE_OBJECT), NULL, FILE_DEVICE_DISK, 0, FALSE, &device);

    if (!NT_SUCCESS(status))
        return status;
    lower = IoAttachDeviceToDeviceStack(device, PhysicalDeviceObject);
    *(PDEVICE_OBJECT *)device->DeviceExtension = lower;
    device->Flags |= lower->Flags & DO_DIRECT_IO;
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static VOID Unload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
}

DRIVER_INITIALIZE DriverEntry;
NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    ULONG i;

    UNREFERENCED_PARAMETER(RegistryPath);

    if (FAULT == FAULT_REFUSES)
        return STATUS_NOT_SUPPORTED;
    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        DriverObject->MajorFunction[i] = Pass;
    DriverObject->MajorFunction[IRP_MJ_READ] = Read;
    DriverObject->MajorFunction[IRP_MJ_PNP] = Pnp;
    DriverObject->DriverExtension->AddDevice = AddDevice;
    DriverObject->DriverUnload = Unload;
    return STATUS_SUCCESS;
}
