/* SPDX-License-Identifier: MIT */
/*
 * Drivers: their objects, and their life as the Plug and Play manager leads it: DriverEntry, AddDevice, start,
 * remove, unload. A driver that refuses to load leaves nothing behind.
 */

#include "io/io.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_PATH = 192 };

/* A string that DRIVER_OBJECT and friends point to. */
struct path {
    UNICODE_STRING string;
    WCHAR          text[MOST_PATH];
};

/* Key: (L) under the machine's I/O lock. The object comes first: a PDRIVER_OBJECT is a struct io_driver *. */
struct io_driver {
    DRIVER_OBJECT      object;
    DRIVER_EXTENSION   extension;
    struct path        name;            /* \Driver\NAME */
    struct path        registry;        /* the key that DriverEntry is given */
    char               plain_name[64];
    struct io_driver  *next, **link;    /* (L) */
};

static struct io_driver *record_of(PDRIVER_OBJECT driver)
{
    return (struct io_driver *)(void *)driver;
}

/* ---- the object ---- */

static void set_path(struct path *path, const char *folder, const char *name)
{
    char text[MOST_PATH];
    USHORT length = 0;

    snprintf(text, sizeof(text), "%s%s", folder, name);
    for (; text[length] != 0; length++)
        path->text[length] = (WCHAR)(unsigned char)text[length];
    path->string = (UNICODE_STRING){
        .Length = (USHORT)(length * sizeof(WCHAR)),
        .MaximumLength = (USHORT)((length + 1) * sizeof(WCHAR)),
        .Buffer = path->text,
    };
}

static void initialize(struct io_driver *driver, const char *name)
{
    snprintf(driver->plain_name, sizeof(driver->plain_name), "%s", name);
    set_path(&driver->name, "\\Driver\\", driver->plain_name);
    set_path(&driver->registry, "\\REGISTRY\\MACHINE\\SYSTEM\\ControlSet001\\Services\\", driver->plain_name);
    driver->object.Type = IO_TYPE_DRIVER;
    driver->object.Size = sizeof(driver->object);
    driver->object.DriverExtension = &driver->extension;
    driver->object.DriverName = driver->name.string;
    driver->extension.DriverObject = &driver->object;
    for (int major = 0; major <= IRP_MJ_MAXIMUM_FUNCTION; major++)
        driver->object.MajorFunction[major] = io_refuse_request;
}

PDRIVER_OBJECT io_driver_new(struct machine *machine, const char *name)
{
    struct io_state *io = machine->io;
    struct io_driver *driver = ke_internal_fails() ? NULL : calloc(1, sizeof(*driver));

    if (driver == NULL)
        return NULL;
    initialize(driver, name);
    host_mutex_lock(&io->lock);
    driver->next = io->drivers;
    driver->link = &io->drivers;
    if (driver->next != NULL)
        driver->next->link = &driver->next;
    io->drivers = driver;
    host_mutex_unlock(&io->lock);
    return &driver->object;
}

static void free_driver(struct machine *machine, struct io_driver *driver)
{
    host_mutex_lock(&machine->io->lock);
    *driver->link = driver->next;
    if (driver->next != NULL)
        driver->next->link = driver->link;
    host_mutex_unlock(&machine->io->lock);
    free(driver);
}

void io_drivers_shutdown(struct machine *machine)
{
    while (machine->io->drivers != NULL)
        free_driver(machine, machine->io->drivers);
}

/* ---- load and unload ---- */

/* What DriverEntry created is ready now. Devices of AddDevice, the driver declares ready itself. */
static void finish_initialization(PDRIVER_OBJECT driver)
{
    for (PDEVICE_OBJECT device = driver->DeviceObject; device != NULL; device = device->NextDevice)
        device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
}

NTSTATUS pinion_driver_load(const char *name, pinion_driver_entry *entry, PDRIVER_OBJECT *out)
{
    struct machine *machine = ke_machine();
    PDRIVER_OBJECT driver = io_driver_new(machine, name);
    PDRIVER_OBJECT caller;
    NTSTATUS status;

    if (driver == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    driver->DriverInit = (PDRIVER_INITIALIZE)(void *)entry;
    caller = ke_enter_driver(driver);
    status = entry(driver, &record_of(driver)->registry.string);
    ke_leave_driver(caller);
    if (!NT_SUCCESS(status)) {
        io_devices_sweep(driver, name);
        free_driver(machine, record_of(driver));
        return status;
    }
    finish_initialization(driver);
    *out = driver;
    return status;
}

void pinion_driver_unload(PDRIVER_OBJECT driver)
{
    struct machine *machine = ke_machine();
    const PDRIVER_OBJECT caller = ke_enter_driver(driver);

    if (driver->DriverUnload != NULL)
        driver->DriverUnload(driver);
    ke_leave_driver(caller);
    KE_HOOK(machine, driver_unload_check, driver);
    io_devices_sweep(driver, record_of(driver)->plain_name);
    free_driver(machine, record_of(driver));
}

/* ---- Plug and Play ---- */

/* As the Plug and Play manager sends it: to the top, with a status that only a driver which handles it changes. */
static NTSTATUS send_pnp(struct machine *machine, PDEVICE_OBJECT physical_device, UCHAR minor)
{
    PDEVICE_OBJECT top = io_device_top(physical_device);
    PIRP irp = io_irp_new(machine, top->StackSize, io_finish_wait);
    PIO_STACK_LOCATION location;
    ULONG_PTR information;

    if (irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    irp->RequestorMode = KernelMode;
    location = IoGetNextIrpStackLocation(irp);
    location->MajorFunction = IRP_MJ_PNP;
    location->MinorFunction = minor;
    return io_send_and_wait(machine, top, irp, &information);
}

/* A stack that does not start is removed again. */
NTSTATUS pinion_driver_start(PDRIVER_OBJECT driver, PDEVICE_OBJECT physical_device)
{
    struct machine *machine = ke_machine();
    PDRIVER_OBJECT caller;
    NTSTATUS status;

    if (driver->DriverExtension->AddDevice == NULL)
        return STATUS_NOT_SUPPORTED;
    caller = ke_enter_driver(driver);
    status = driver->DriverExtension->AddDevice(driver, physical_device);
    ke_leave_driver(caller);
    if (!NT_SUCCESS(status))
        return status;
    status = send_pnp(machine, physical_device, IRP_MN_START_DEVICE);
    if (!NT_SUCCESS(status))
        (void)send_pnp(machine, physical_device, IRP_MN_REMOVE_DEVICE);
    return status;
}

NTSTATUS pinion_driver_remove(PDEVICE_OBJECT physical_device)
{
    return send_pnp(ke_machine(), physical_device, IRP_MN_REMOVE_DEVICE);
}
