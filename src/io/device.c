/* SPDX-License-Identifier: MIT */
/*
 * Devices and their stacks.
 *
 *     one block of nonpaged pool:  [ struct io_device ][ DEVICE_OBJECT ][ device extension ]
 *
 * Up the stack leads DEVICE_OBJECT.AttachedDevice, which drivers may read and which is walked without a lock;
 * down leads a pointer of ours. A deleted device lives on while it is held or another one is attached to it.
 */

#include "io/io.h"

#include <string.h>

enum { DEVICE_TAG = 0x69766544 };       /* 'Devi' */

/* Key: (L) under the machine's I/O lock */
struct io_device {
    alignas(MEMORY_ALLOCATION_ALIGNMENT) struct io_device *next;        /* (L) in the machine's list */
    struct io_device **link;            /* (L) */
    PDEVICE_OBJECT     attached_to;     /* (L) the device below */
    uint32_t           holds;           /* (L) */
    bool               deleted;         /* (L) */
};

static struct io_device *record_of(PDEVICE_OBJECT device)
{
    return (struct io_device *)(void *)device - 1;
}

static PDEVICE_OBJECT object_of(struct io_device *record)
{
    return (PDEVICE_OBJECT)(void *)(record + 1);
}

static PDEVICE_OBJECT above(PDEVICE_OBJECT device)
{
    return __atomic_load_n(&device->AttachedDevice, __ATOMIC_ACQUIRE);
}

static void set_above(PDEVICE_OBJECT device, PDEVICE_OBJECT upper)
{
    __atomic_store_n(&device->AttachedDevice, upper, __ATOMIC_RELEASE);
}

PDEVICE_OBJECT io_device_top(PDEVICE_OBJECT device)
{
    PDEVICE_OBJECT upper;

    while ((upper = above(device)) != NULL)
        device = upper;
    return device;
}

/* ---- create ---- */

static void initialize(PDEVICE_OBJECT device, ULONG extension_bytes, DEVICE_TYPE type)
{
    device->Type = IO_TYPE_DEVICE;
    device->Size = (USHORT)(sizeof(*device) + extension_bytes);
    device->Flags = DO_DEVICE_INITIALIZING;
    device->DeviceType = type;
    device->StackSize = 1;
    device->DeviceExtension = extension_bytes == 0 ? NULL : device + 1;
    InitializeListHead(&device->DeviceQueue.DeviceListHead);
    KeInitializeEvent(&device->DeviceLock, SynchronizationEvent, TRUE);
}

static void link_device(struct io_state *io, struct io_device *record, PDRIVER_OBJECT driver)
{
    PDEVICE_OBJECT device = object_of(record);

    host_mutex_lock(&io->lock);
    record->next = io->devices;
    record->link = &io->devices;
    if (record->next != NULL)
        record->next->link = &record->next;
    io->devices = record;
    device->DriverObject = driver;
    device->NextDevice = driver->DeviceObject;
    driver->DeviceObject = device;
    host_mutex_unlock(&io->lock);
}

NTSTATUS io_device_new(struct machine *machine, PDRIVER_OBJECT driver, ULONG extension_bytes, DEVICE_TYPE type,
                       PDEVICE_OBJECT *device)
{
    const size_t bytes = sizeof(struct io_device) + sizeof(DEVICE_OBJECT) + extension_bytes;
    struct io_device *record = mm_pool_allocate(machine, NonPagedPoolNx, bytes, DEVICE_TAG);

    if (record == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    memset(record, 0, bytes);
    initialize(object_of(record), extension_bytes, type);
    link_device(machine->io, record, driver);
    *device = object_of(record);
    return STATUS_SUCCESS;
}

/* Names lead nowhere here: nothing opens a device by name. That it has one shows in its flags. */
NTSTATUS IoCreateDevice(PDRIVER_OBJECT DriverObject, ULONG DeviceExtensionSize, PUNICODE_STRING DeviceName,
                        DEVICE_TYPE DeviceType, ULONG DeviceCharacteristics, BOOLEAN Exclusive,
                        PDEVICE_OBJECT *DeviceObject)
{
    struct machine *machine = ke_machine();
    PDEVICE_OBJECT device;
    NTSTATUS status;

    if (ke_fails(KE_FALLIBLE_IoCreateDevice))
        return STATUS_INSUFFICIENT_RESOURCES;
    status = io_device_new(machine, DriverObject, DeviceExtensionSize, DeviceType, &device);
    if (!NT_SUCCESS(status))
        return status;
    device->Characteristics = DeviceCharacteristics;
    device->Flags |= (Exclusive ? DO_EXCLUSIVE : 0u) | (DeviceName != NULL ? DO_DEVICE_HAS_NAME : 0u);
    *DeviceObject = device;
    return STATUS_SUCCESS;
}

/* ---- delete ---- */

/* Take a deleted device that nobody needs any more out of the list; NULL when it has to stay. */
static struct io_device *retire_locked(struct io_device *record)
{
    if (!record->deleted || record->holds != 0 || above(object_of(record)) != NULL)
        return NULL;
    *record->link = record->next;
    if (record->next != NULL)
        record->next->link = record->link;
    return record;
}

static void free_device(struct machine *machine, struct io_device *record)
{
    if (record != NULL)
        mm_pool_free(machine, record);
}

static void leave_driver_locked(PDEVICE_OBJECT device)
{
    PDEVICE_OBJECT *link = &device->DriverObject->DeviceObject;

    while (*link != NULL && *link != device)
        link = &(*link)->NextDevice;
    if (*link == device)
        *link = device->NextDevice;
}

/* Take the device off the one below it. What is below may have waited for just that to go away. */
static struct io_device *detach_locked(struct io_device *record)
{
    PDEVICE_OBJECT lower = record->attached_to;

    if (lower == NULL)
        return NULL;
    record->attached_to = NULL;
    set_above(lower, NULL);
    return retire_locked(record_of(lower));
}

VOID IoDeleteDevice(PDEVICE_OBJECT DeviceObject)
{
    struct machine *machine = ke_machine();
    struct io_state *io = machine->io;
    struct io_device *record = record_of(DeviceObject);
    struct io_device *below, *retired;
    bool attached;

    host_mutex_lock(&io->lock);
    attached = record->attached_to != NULL;
    below = detach_locked(record);
    leave_driver_locked(DeviceObject);
    record->deleted = true;
    retired = retire_locked(record);
    host_mutex_unlock(&io->lock);
    if (attached)
        ke_warn("device-attached",
                "IoDeleteDevice of device %p, which is still attached to another; call IoDetachDevice first",
                (void *)DeviceObject);
    free_device(machine, below);
    free_device(machine, retired);
}

void io_device_hold(struct machine *machine, PDEVICE_OBJECT device)
{
    host_mutex_lock(&machine->io->lock);
    record_of(device)->holds++;
    host_mutex_unlock(&machine->io->lock);
}

void io_device_release(struct machine *machine, PDEVICE_OBJECT device)
{
    struct io_device *retired;

    host_mutex_lock(&machine->io->lock);
    record_of(device)->holds--;
    retired = retire_locked(record_of(device));
    host_mutex_unlock(&machine->io->lock);
    free_device(machine, retired);
}

/* ---- stacks ---- */

/* The top is found and taken under one lock: of two drivers which attach at once, one ends up above the other. */
PDEVICE_OBJECT IoAttachDeviceToDeviceStack(PDEVICE_OBJECT SourceDevice, PDEVICE_OBJECT TargetDevice)
{
    struct io_state *io = ke_machine()->io;
    PDEVICE_OBJECT lower;

    host_mutex_lock(&io->lock);
    lower = io_device_top(TargetDevice);
    if (record_of(lower)->deleted || lower->StackSize == IO_LARGE_STACK) {
        host_mutex_unlock(&io->lock);
        return NULL;
    }
    SourceDevice->StackSize = (CCHAR)(lower->StackSize + 1);
    SourceDevice->AlignmentRequirement = lower->AlignmentRequirement;
    SourceDevice->SectorSize = lower->SectorSize;
    record_of(SourceDevice)->attached_to = lower;
    set_above(lower, SourceDevice);
    host_mutex_unlock(&io->lock);
    return lower;
}

VOID IoDetachDevice(PDEVICE_OBJECT TargetDevice)
{
    struct machine *machine = ke_machine();
    struct io_device *retired = NULL;

    host_mutex_lock(&machine->io->lock);
    if (above(TargetDevice) != NULL)
        retired = detach_locked(record_of(above(TargetDevice)));
    host_mutex_unlock(&machine->io->lock);
    free_device(machine, retired);
}

/* ---- what is left ---- */

static void report(PDEVICE_OBJECT device, const char *who)
{
    ke_warn("device-leak", "device %p (type 0x%X)%s%s was never deleted", (void *)device, device->DeviceType,
            who == NULL ? "" : " of driver ", who == NULL ? "" : who);
}

void io_devices_sweep(PDRIVER_OBJECT driver, const char *who)
{
    while (driver->DeviceObject != NULL) {
        PDEVICE_OBJECT device = driver->DeviceObject;

        report(device, who);
        IoDetachDevice(device);
        if (record_of(device)->attached_to != NULL)
            IoDetachDevice(record_of(device)->attached_to);
        IoDeleteDevice(device);
    }
}

void io_devices_check(struct machine *machine)
{
    host_mutex_lock(&machine->io->lock);
    for (struct io_device *record = machine->io->devices; record != NULL; record = record->next)
        if (!record->deleted)
            report(object_of(record), NULL);
    host_mutex_unlock(&machine->io->lock);
}

/* Their memory is pool, and goes with the machine. */
void io_devices_shutdown(struct machine *machine)
{
    machine->io->devices = NULL;
}
