/* SPDX-License-Identifier: MIT */
/*
 * Physical devices of no special kind: something to attach to, and to ask IoGetDmaAdapter for. They answer what a bus driver
 * answers, as disks do, and know no other request. What their hardware does is up to the program that made them.
 */

#include "io/io.h"

#include <errno.h>

int io_physical_boot(struct machine *machine)
{
    static const UCHAR answered[] = {IRP_MJ_CREATE, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_POWER, IRP_MJ_PNP};
    PDRIVER_OBJECT driver = io_driver_new(machine, "PinionDevice");

    if (driver == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < sizeof(answered); i++)
        driver->MajorFunction[answered[i]] = machine->io->disk_driver->MajorFunction[answered[i]];
    machine->io->physical_driver = driver;
    return 0;
}

/* NULL: no memory. The name is for people who read the program; nothing opens a device by name. */
PDEVICE_OBJECT pinion_device_create(const char *name)
{
    struct machine *machine = ke_machine();
    PDEVICE_OBJECT device;

    (void)name;
    if (!NT_SUCCESS(io_device_new(machine, machine->io->physical_driver, 0, FILE_DEVICE_UNKNOWN, &device)))
        return NULL;
    device->Flags |= DO_BUS_ENUMERATED_DEVICE;
    device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    return device;
}

void io_physical_remove(struct machine *machine)
{
    while (machine->io->physical_driver->DeviceObject != NULL)
        IoDeleteDevice(machine->io->physical_driver->DeviceObject);
}
