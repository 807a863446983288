/* SPDX-License-Identifier: MIT */
/* What does an IRP cost? Allocate one, send it through three drivers, complete it, free it. */

#include "bench.h"

#include <stdlib.h>

enum { LAYERS = 3 };

static PDEVICE_OBJECT devices[LAYERS];
static unsigned dispatched, completed;

static PDEVICE_OBJECT *lower_of(PDEVICE_OBJECT device)
{
    return device->DeviceExtension;
}

static NTSTATUS dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    PDEVICE_OBJECT lower = *lower_of(device);

    dispatched++;
    if (lower != NULL) {
        IoSkipCurrentIrpStackLocation(irp);
        return IoCallDriver(lower, irp);
    }
    irp->IoStatus.Status = STATUS_SUCCESS;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS entry(PDRIVER_OBJECT driver, void *registry_path)
{
    (void)registry_path;
    for (int major = 0; major <= IRP_MJ_MAXIMUM_FUNCTION; major++)
        driver->MajorFunction[major] = dispatch;
    return STATUS_SUCCESS;
}

static NTSTATUS on_completion(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    (void)device;
    (void)irp;
    (void)context;
    completed++;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static void send(void *context, uint64_t times)
{
    PDEVICE_OBJECT top = devices[LAYERS - 1];

    (void)context;
    while (times-- > 0) {
        PIRP irp = IoAllocateIrp(top->StackSize, FALSE);

        IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
        IoSetCompletionRoutine(irp, on_completion, NULL, TRUE, TRUE, TRUE);
        IoCallDriver(top, irp);
        IoFreeIrp(irp);
    }
}

static bool is_sent(void *context)
{
    const unsigned dispatched_before = dispatched, completed_before = completed;

    send(context, 10);
    return dispatched - dispatched_before == 10 * LAYERS && completed - completed_before == 10;
}

static void create_layer(unsigned layer)
{
    PDRIVER_OBJECT driver;

    if (pinion_driver_load("layer", entry, &driver) != STATUS_SUCCESS
        || IoCreateDevice(driver, sizeof(PDEVICE_OBJECT), NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &devices[layer]) != STATUS_SUCCESS)
        abort();
    if (layer > 0)
        *lower_of(devices[layer]) = IoAttachDeviceToDeviceStack(devices[layer], devices[layer - 1]);
    devices[layer]->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
}

int main(int argc, char **argv)
{
    const struct bench_case cases[] = {
        {"10", "IRP through three drivers and back", "-", 0, 150, send, NULL, is_sent, NULL, NULL},
    };

    pinion_boot("verifier=off");
    for (unsigned layer = 0; layer < LAYERS; layer++)
        create_layer(layer);
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
