/* SPDX-License-Identifier: MIT */
/* What does an IRP cost? Allocate one, send it through three drivers, complete it, free it; and the same under the eyes of the verifier. */

#include "bench.h"

#include <stdlib.h>

enum { LAYERS = 3 };

static PDRIVER_OBJECT drivers[LAYERS];
static PDEVICE_OBJECT devices[LAYERS];
static const char    *booted;           /* the options of the machine that there is; NULL: none */
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

static void create_layer(unsigned layer)
{
    if (pinion_driver_load("layer", entry, &drivers[layer]) != STATUS_SUCCESS
        || IoCreateDevice(drivers[layer], sizeof(PDEVICE_OBJECT), NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &devices[layer]) != STATUS_SUCCESS)
        abort();
    if (layer > 0)
        *lower_of(devices[layer]) = IoAttachDeviceToDeviceStack(devices[layer], devices[layer - 1]);
    devices[layer]->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
}

static void delete_layer(unsigned layer)
{
    if (layer > 0)
        IoDetachDevice(*lower_of(devices[layer]));
    IoDeleteDevice(devices[layer]);
    pinion_driver_unload(drivers[layer]);
}

static void end_machine(void)
{
    for (unsigned layer = LAYERS; layer-- > 0;)
        delete_layer(layer);
    if (pinion_shutdown() != 0)
        abort();
    booted = NULL;
}

/* Once for a row of samples, and while nobody measures. */
static void be_in_machine(const char *options)
{
    if (booted == options)
        return;
    if (booted != NULL)
        end_machine();
    pinion_boot(options);
    for (unsigned layer = 0; layer < LAYERS; layer++)
        create_layer(layer);
    booted = options;
}

static const char unverified[] = "verifier=off", verified[] = "verifier=on";

static void send(uint64_t times)
{
    PDEVICE_OBJECT top = devices[LAYERS - 1];

    while (times-- > 0) {
        PIRP irp = IoAllocateIrp(top->StackSize, FALSE);

        IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
        IoSetCompletionRoutine(irp, on_completion, NULL, TRUE, TRUE, TRUE);
        IoCallDriver(top, irp);
        IoFreeIrp(irp);
    }
}

static void send_unverified(void *context, uint64_t times)
{
    (void)context;
    be_in_machine(unverified);
    send(times);
}

static void send_verified(void *context, uint64_t times)
{
    (void)context;
    be_in_machine(verified);
    send(times);
}

static bool is_sent(void *context)
{
    const unsigned dispatched_before = dispatched, completed_before = completed;

    be_in_machine(context);
    send(10);
    return dispatched - dispatched_before == 10 * LAYERS && completed - completed_before == 10;
}

int main(int argc, char **argv)
{
    const struct bench_case cases[] = {
        {"10", "IRP through three drivers and back", "-", 0, 150, send_unverified, NULL, is_sent, (void *)(uintptr_t)unverified, NULL},
        {"10", "the same with the verifier on", "off", 2.5, 0, send_verified, send_unverified, is_sent, (void *)(uintptr_t)verified, NULL},
    };
    const int code = bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));

    if (booted != NULL)
        end_machine();
    return code;
}
