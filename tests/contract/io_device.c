/* SPDX-License-Identifier: MIT */
/* Drivers, devices, stacks of devices, and work items. */

#include "io_stack.h"
#include "support.h"

#include <stdlib.h>

/* ---- devices ----------------------------------------------------------------------------------------------------- */

/* A new device: zeroed extension, one stack location, initializing, first in its driver's list. */
TEST(io_device, create__fields_are_the_documented_ones)
{
    enum { EXTENSION = 1000 };
    struct layer layer;
    PDEVICE_OBJECT device;
    const UCHAR *extension;

    layer_create(&layer, 0, complete_with_success);
    EXPECT_STATUS(IoCreateDevice(layer.driver, EXTENSION, NULL, FILE_DEVICE_DISK, FILE_REMOVABLE_MEDIA, TRUE, &device),
                  STATUS_SUCCESS);
    EXPECT_EQ(device->Type, IO_TYPE_DEVICE);
    EXPECT_EQ(device->Size, sizeof(DEVICE_OBJECT) + EXTENSION);
    EXPECT_EQ(device->DeviceType, FILE_DEVICE_DISK);
    EXPECT_EQ(device->Characteristics, FILE_REMOVABLE_MEDIA);
    EXPECT_EQ(device->Flags, DO_DEVICE_INITIALIZING | DO_EXCLUSIVE);
    EXPECT_EQ(device->StackSize, 1);
    EXPECT_PTR_EQ(device->AttachedDevice, NULL);
    EXPECT_PTR_EQ(device->DriverObject, layer.driver);
    EXPECT_PTR_EQ(layer.driver->DeviceObject, device);
    EXPECT_PTR_EQ(device->NextDevice, layer.device);
    EXPECT_EQ((uintptr_t)device->DeviceExtension % 16, 0);
    extension = device->DeviceExtension;
    for (size_t i = 0; i < EXTENSION; i++)
        EXPECT_EQ(extension[i], 0);
    IoDeleteDevice(device);
    EXPECT_PTR_EQ(layer.driver->DeviceObject, layer.device);
    layer_destroy(&layer);
}

/* Without an extension there is none; a name shows in the flags. */
TEST(io_device, create__no_extension__has_none)
{
    static WCHAR text[] = L"\\Device\\Thing";
    UNICODE_STRING name = {.Length = sizeof(text) - sizeof(WCHAR), .MaximumLength = sizeof(text), .Buffer = text};
    struct layer layer;
    PDEVICE_OBJECT device;

    layer_create(&layer, 0, complete_with_success);
    EXPECT_STATUS(IoCreateDevice(layer.driver, 0, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device), STATUS_SUCCESS);
    EXPECT_PTR_EQ(device->DeviceExtension, NULL);
    EXPECT((device->Flags & DO_DEVICE_HAS_NAME) != 0);
    IoDeleteDevice(device);
    layer_destroy(&layer);
}

/* Out of memory: the status, and nothing is made. */
TEST(io_device, create__no_memory__makes_nothing)
{
    struct layer layer;
    PDEVICE_OBJECT device = NULL;

    layer_create(&layer, 0, complete_with_success);
    pinion_fail("IoCreateDevice", 1);
    EXPECT_STATUS(IoCreateDevice(layer.driver, 8, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device),
                  STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_PTR_EQ(device, NULL);
    EXPECT_PTR_EQ(layer.driver->DeviceObject, layer.device);
    layer_destroy(&layer);
}

/* A device that its driver never deletes is told when the driver goes. */
WARN_TEST(io_device, create__never_deleted__is_a_leak, "device-leak")
{
    struct layer layer;

    layer_create(&layer, 0, complete_with_success);
    pinion_driver_unload(layer.driver);
}

/* ---- stacks ------------------------------------------------------------------------------------------------------ */

/* Attaching goes to the top of the stack, whichever device is named, and takes over what must be taken over. */
TEST(io_device, attach__goes_on_top__and_takes_over_size_and_alignment)
{
    struct layer bottom, middle, top;

    layer_create(&bottom, 0, complete_with_success);
    layer_create(&middle, 0, pass_down);
    layer_create(&top, 0, pass_down);
    bottom.device->AlignmentRequirement = FILE_512_BYTE_ALIGNMENT;
    bottom.device->SectorSize = 512;
    EXPECT_PTR_EQ(IoAttachDeviceToDeviceStack(middle.device, bottom.device), bottom.device);
    EXPECT_PTR_EQ(IoAttachDeviceToDeviceStack(top.device, bottom.device), middle.device);
    EXPECT_PTR_EQ(bottom.device->AttachedDevice, middle.device);
    EXPECT_PTR_EQ(middle.device->AttachedDevice, top.device);
    EXPECT_EQ(middle.device->StackSize, 2);
    EXPECT_EQ(top.device->StackSize, 3);
    EXPECT_EQ(top.device->AlignmentRequirement, FILE_512_BYTE_ALIGNMENT);
    EXPECT_EQ(top.device->SectorSize, 512);
    IoDetachDevice(middle.device);
    EXPECT_PTR_EQ(middle.device->AttachedDevice, NULL);
    IoDetachDevice(bottom.device);
    IoDetachDevice(bottom.device);
    EXPECT_PTR_EQ(bottom.device->AttachedDevice, NULL);
    layer_destroy(&top);
    layer_destroy(&middle);
    layer_destroy(&bottom);
}

/* A device under another one lives until that one is detached; it takes no newcomers meanwhile. */
TEST(io_device, delete__with_a_device_on_top__waits_for_the_detach)
{
    struct layer bottom, top, late;

    layer_create(&bottom, 0, complete_with_success);
    layer_create(&top, 0, pass_down);
    layer_create(&late, 0, pass_down);
    layer_attach(&top, &bottom);
    IoDeleteDevice(bottom.device);
    EXPECT_EQ(bottom.device->Type, IO_TYPE_DEVICE);
    EXPECT_PTR_EQ(bottom.device->AttachedDevice, top.device);
    IoDetachDevice(bottom.device);
    top.lower = NULL;
    layer_destroy(&late);
    layer_destroy(&top);
    pinion_driver_unload(bottom.driver);
}

/* Deleting a device that still sits on another is a mistake, and is told; the stack below stays in order. */
WARN_TEST(io_device, delete__still_attached__is_reported, "device-attached")
{
    struct layer bottom, top;

    layer_create(&bottom, 0, complete_with_success);
    layer_create(&top, 0, pass_down);
    layer_attach(&top, &bottom);
    IoDeleteDevice(top.device);
    EXPECT_PTR_EQ(bottom.device->AttachedDevice, NULL);
    pinion_driver_unload(top.driver);
    layer_destroy(&bottom);
}

/* ---- the life of a driver ---------------------------------------------------------------------------------------- */

static char story[64];

static void tell(char what)
{
    story[strlen(story)] = what;
}

static NTSTATUS add_status, start_status;
static PDEVICE_OBJECT added, added_over;

static NTSTATUS add_device(PDRIVER_OBJECT driver, PDEVICE_OBJECT physical_device)
{
    tell('A');
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    if (!NT_SUCCESS(add_status))
        return add_status;
    EXPECT_STATUS(IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &added), STATUS_SUCCESS);
    added_over = IoAttachDeviceToDeviceStack(added, physical_device);
    added->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static NTSTATUS pnp(PDEVICE_OBJECT device, PIRP irp)
{
    NTSTATUS status;

    switch (IoGetCurrentIrpStackLocation(irp)->MinorFunction) {
    case IRP_MN_START_DEVICE:
        tell('S');
        EXPECT_STATUS(irp->IoStatus.Status, STATUS_NOT_SUPPORTED);
        EXPECT_EQ(irp->RequestorMode, KernelMode);
        if (!NT_SUCCESS(start_status))
            return layer_complete(irp, start_status, 0);
        IoSkipCurrentIrpStackLocation(irp);
        return IoCallDriver(added_over, irp);
    case IRP_MN_REMOVE_DEVICE:
        tell('R');
        IoSkipCurrentIrpStackLocation(irp);
        status = IoCallDriver(added_over, irp);
        IoDetachDevice(added_over);
        IoDeleteDevice(device);
        return status;
    default:
        return layer_complete(irp, irp->IoStatus.Status, 0);
    }
}

static VOID unload(HARNESS_UNUSED PDRIVER_OBJECT driver)
{
    tell('U');
}

static NTSTATUS driver_entry(PDRIVER_OBJECT driver, void *registry_path)
{
    const UNICODE_STRING *path = registry_path;

    tell('E');
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    EXPECT(path->Length > 0 && path->Buffer[path->Length / sizeof(WCHAR) - 1] == 'd');
    EXPECT_EQ(driver->Type, IO_TYPE_DRIVER);
    EXPECT_EQ(driver->Size, sizeof(DRIVER_OBJECT));
    EXPECT_PTR_EQ(driver->DriverExtension->DriverObject, driver);
    for (int major = 0; major <= IRP_MJ_MAXIMUM_FUNCTION; major++)
        EXPECT(driver->MajorFunction[major] != NULL);
    driver->DriverExtension->AddDevice = add_device;
    driver->MajorFunction[IRP_MJ_PNP] = pnp;
    driver->DriverUnload = unload;
    return STATUS_SUCCESS;
}

static void expect_story(const char *expected)
{
    EXPECT_MEM_EQ(story, expected, strlen(expected) + 1);
}

static NTSTATUS pnp_bottom(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    tell('b');
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

/* Entry, AddDevice and start; remove; unload. */
TEST(io_device, driver__loaded_started_removed_unloaded__in_this_order)
{
    struct layer bottom;
    PDRIVER_OBJECT driver;

    layer_create(&bottom, 0, pnp_bottom);
    EXPECT_STATUS(pinion_driver_load("word", driver_entry, &driver), STATUS_SUCCESS);
    EXPECT_STATUS(pinion_driver_start(driver, bottom.device), STATUS_SUCCESS);
    EXPECT_PTR_EQ(bottom.device->AttachedDevice, added);
    expect_story("EASb");
    EXPECT_STATUS(pinion_driver_remove(bottom.device), STATUS_SUCCESS);
    EXPECT_PTR_EQ(bottom.device->AttachedDevice, NULL);
    pinion_driver_unload(driver);
    expect_story("EASbRbU");
    layer_destroy(&bottom);
}

/* A stack that does not start is removed; a driver that adds no device is not started. */
TEST(io_device, driver__that_refuses__is_undone)
{
    struct layer bottom;
    PDRIVER_OBJECT driver;

    layer_create(&bottom, 0, pnp_bottom);
    EXPECT_STATUS(pinion_driver_load("word", driver_entry, &driver), STATUS_SUCCESS);
    add_status = STATUS_NO_SUCH_DEVICE;
    EXPECT_STATUS(pinion_driver_start(driver, bottom.device), STATUS_NO_SUCH_DEVICE);
    add_status = STATUS_SUCCESS;
    start_status = STATUS_INSUFFICIENT_RESOURCES;
    EXPECT_STATUS(pinion_driver_start(driver, bottom.device), STATUS_INSUFFICIENT_RESOURCES);
    expect_story("EAASRb");
    EXPECT_PTR_EQ(bottom.device->AttachedDevice, NULL);
    pinion_driver_unload(driver);
    layer_destroy(&bottom);
}

static NTSTATUS refuse_to_load(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    PDEVICE_OBJECT device;

    IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    return STATUS_UNSUCCESSFUL;
}

/* What a DriverEntry that fails has left is told and taken away. */
WARN_TEST(io_device, driver__entry_fails_and_leaves_a_device__is_reported, "device-leak")
{
    PDRIVER_OBJECT driver = NULL;

    EXPECT_STATUS(pinion_driver_load("word", refuse_to_load, &driver), STATUS_UNSUCCESSFUL);
    EXPECT_PTR_EQ(driver, NULL);
}

/* ---- work items -------------------------------------------------------------------------------------------------- */

struct work {
    PIO_WORKITEM item;
    PDEVICE_OBJECT device;
    KEVENT go, done;
    KIRQL irql;
    LONG size_seen;
};

static VOID do_work(PDEVICE_OBJECT device, PVOID context)
{
    struct work *work = context;

    KeWaitForSingleObject(&work->go, Executive, KernelMode, FALSE, NULL);
    work->irql = KeGetCurrentIrql();
    work->device = device;
    work->size_seen = device->Size;
    IoFreeWorkItem(work->item);
    KeSetEvent(&work->done, IO_NO_INCREMENT, FALSE);
}

/* Take hold of the memory that a freed device would have had, and spoil it. */
static void spoil_freed_memory(PVOID *blocks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        blocks[i] = ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(DEVICE_OBJECT) + 100, TEST_TAG);
        EXPECT(blocks[i] != NULL);
        memset(blocks[i], 0xEE, sizeof(DEVICE_OBJECT) + 100);
    }
}

/* The routine runs at PASSIVE_LEVEL with its device, which outlives IoDeleteDevice; it may free its work item. */
TEST(io_device, work_item__device_deleted_meanwhile__still_has_its_device)
{
    struct layer layer;
    struct work work = {.irql = HIGH_LEVEL};
    PVOID blocks[64];
    KIRQL irql;

    layer_create(&layer, 0, complete_with_success);
    KeInitializeEvent(&work.go, NotificationEvent, FALSE);
    KeInitializeEvent(&work.done, NotificationEvent, FALSE);
    work.item = IoAllocateWorkItem(layer.device);
    EXPECT(work.item != NULL);
    irql = raise_irql(DISPATCH_LEVEL);
    IoQueueWorkItem(work.item, do_work, DelayedWorkQueue, &work);
    KeLowerIrql(irql);
    layer_destroy(&layer);
    spoil_freed_memory(blocks, 64);
    KeSetEvent(&work.go, IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(&work.done, Executive, KernelMode, FALSE, NULL);
    EXPECT_EQ(work.irql, PASSIVE_LEVEL);
    EXPECT_PTR_EQ(work.device, layer.device);
    EXPECT_EQ(work.size_seen, sizeof(DEVICE_OBJECT) + sizeof(struct layer *));
    for (size_t i = 0; i < 64; i++)
        ExFreePoolWithTag(blocks[i], TEST_TAG);
}

/* Out of memory: NULL. */
TEST(io_device, work_item__no_memory__is_null)
{
    struct layer layer;

    layer_create(&layer, 0, complete_with_success);
    pinion_fail("IoAllocateWorkItem", 1);
    EXPECT_PTR_EQ(IoAllocateWorkItem(layer.device), NULL);
    layer_destroy(&layer);
}
