/* SPDX-License-Identifier: MIT */
/*
 * A filter driver that is well as long as every call succeeds. Each of its reads makes some calls that can fail, and handles the failure of
 * each in another way, two of them well: what --faults systematic must find out one by one.
 */

#include <ntddk.h>

#include <stdlib.h>

#define CARELESS_TAG 'erac'

typedef struct _EXTENSION {
    PDEVICE_OBJECT Lower;
    BOOLEAN        GaveUp;
} EXTENSION, *PEXTENSION;

/* Functions that keep their names and frames. */
#ifdef __clang__
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noinline, noclone))
#endif

/* The second failing forgets the first. */
APART static NTSTATUS Leaks(VOID)
{
    PMDL first = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL), second;

    if (first == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    second = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    if (second == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    IoFreeMdl(second);
    IoFreeMdl(first);
    return STATUS_SUCCESS;
}

APART static NTSTATUS TrustsItsLuck(VOID)
{
    ExFreePoolWithTag(ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, CARELESS_TAG), CARELESS_TAG);
    return STATUS_SUCCESS;
}

APART static NTSTATUS GivesUpForGood(PEXTENSION Extension)
{
    PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, CARELESS_TAG);

    Extension->GaveUp = block == NULL;
    if (block == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    ExFreePoolWithTag(block, CARELESS_TAG);
    return STATUS_SUCCESS;
}

APART static NTSTATUS Hangs(VOID)
{
    PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, CARELESS_TAG);
    KEVENT never;

    KeInitializeEvent(&never, NotificationEvent, FALSE);
    if (block == NULL)
        KeWaitForSingleObject(&never, Executive, KernelMode, FALSE, NULL);
    ExFreePoolWithTag(block, CARELESS_TAG);
    return STATUS_SUCCESS;
}

APART static NTSTATUS Exits(VOID)
{
    PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, CARELESS_TAG);

    if (block == NULL)
        _Exit(0);
    ExFreePoolWithTag(block, CARELESS_TAG);
    return STATUS_SUCCESS;
}

/* Only when the first fails is the second called at all. */
APART static NTSTATUS MakesDoWithLess(VOID)
{
    PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 8192, CARELESS_TAG);

    if (block == NULL)
        block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, CARELESS_TAG);
    if (block == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    ExFreePoolWithTag(block, CARELESS_TAG);
    return STATUS_SUCCESS;
}

static NTSTATUS MakeCalls(PEXTENSION Extension)
{
    NTSTATUS status = Extension->GaveUp ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS;

    if (NT_SUCCESS(status))
        status = Leaks();
    if (NT_SUCCESS(status))
        status = TrustsItsLuck();
    if (NT_SUCCESS(status))
        status = GivesUpForGood(Extension);
    if (NT_SUCCESS(status))
        status = Hangs();
    if (NT_SUCCESS(status))
        status = Exits();
    if (NT_SUCCESS(status))
        status = MakesDoWithLess();
    return status;
}

static NTSTATUS Pass(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(((PEXTENSION)DeviceObject->DeviceExtension)->Lower, Irp);
}

static NTSTATUS Read(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    NTSTATUS status = MakeCalls(DeviceObject->DeviceExtension);

    if (NT_SUCCESS(status))
        return Pass(DeviceObject, Irp);
    Irp->IoStatus.Status = status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return status;
}

static NTSTATUS Pnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PDEVICE_OBJECT lower = ((PEXTENSION)DeviceObject->DeviceExtension)->Lower;
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
    PDEVICE_OBJECT device;
    NTSTATUS status = IoCreateDevice(DriverObject, sizeof(EXTENSION), NULL, FILE_DEVICE_DISK, 0, FALSE, &device);
    PEXTENSION extension;

    if (!NT_SUCCESS(status))
        return status;
    extension = device->DeviceExtension;
    extension->Lower = IoAttachDeviceToDeviceStack(device, PhysicalDeviceObject);
    device->Flags |= extension->Lower->Flags & DO_DIRECT_IO;
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

    for (i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        DriverObject->MajorFunction[i] = Pass;
    DriverObject->MajorFunction[IRP_MJ_READ] = Read;
    DriverObject->MajorFunction[IRP_MJ_PNP] = Pnp;
    DriverObject->DriverExtension->AddDevice = AddDevice;
    DriverObject->DriverUnload = Unload;
    return STATUS_SUCCESS;
}
