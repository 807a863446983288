/* SPDX-License-Identifier: MIT */
/*
 * Device stacks for tests of the I/O manager: layers whose dispatch routine is a function of the test's own.
 *
 *     struct layer bottom, top;
 *     layer_create(&bottom, DO_DIRECT_IO, complete_with_success);
 *     layer_create(&top, DO_DIRECT_IO, pass_down);
 *     layer_attach(&top, &bottom);
 *     ...
 *     layer_destroy(&top);
 *     layer_destroy(&bottom);
 *
 * Opening and closing a file is handled here; a layer's function sees everything else.
 */

#pragma once

#include "harness.h"
#include <wdm.h>
#include <pinion/pinion.h>

#include <string.h>

struct layer {
    PDRIVER_OBJECT driver;
    PDEVICE_OBJECT device;
    PDEVICE_OBJECT lower;       /* NULL at the bottom */
    NTSTATUS (*dispatch)(struct layer *layer, PIRP irp);
    PIRP held;                  /* tests keep an IRP here */
};

static inline struct layer *layer_of(PDEVICE_OBJECT device)
{
    return *(struct layer **)device->DeviceExtension;
}

static inline NTSTATUS layer_complete(PIRP irp, NTSTATUS status, ULONG_PTR information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static inline NTSTATUS layer_skip(struct layer *layer, PIRP irp)
{
    IoSkipCurrentIrpStackLocation(irp);
    return IoCallDriver(layer->lower, irp);
}

/* For layers: succeed with everything that was asked for. */
static inline NTSTATUS complete_with_success(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    return layer_complete(irp, STATUS_SUCCESS, IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length);
}

/* For layers: keep the IRP for the test to complete. */
static inline NTSTATUS hold(struct layer *layer, PIRP irp)
{
    IoMarkIrpPending(irp);
    layer->held = irp;
    return STATUS_PENDING;
}

static inline NTSTATUS pass_down(struct layer *layer, PIRP irp)
{
    return layer_skip(layer, irp);
}

static inline NTSTATUS layer_dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    struct layer *layer = layer_of(device);

    switch (IoGetCurrentIrpStackLocation(irp)->MajorFunction) {
    case IRP_MJ_CREATE:
    case IRP_MJ_CLEANUP:
    case IRP_MJ_CLOSE:
        return layer->lower != NULL ? layer_skip(layer, irp) : layer_complete(irp, STATUS_SUCCESS, 0);
    default:
        return layer->dispatch(layer, irp);
    }
}

static inline NTSTATUS layer_entry(PDRIVER_OBJECT driver, HARNESS_UNUSED void *registry_path)
{
    for (int major = 0; major <= IRP_MJ_MAXIMUM_FUNCTION; major++)
        driver->MajorFunction[major] = layer_dispatch;
    return STATUS_SUCCESS;
}

static inline void layer_create(struct layer *layer, ULONG flags, NTSTATUS (*dispatch)(struct layer *, PIRP))
{
    *layer = (struct layer){.dispatch = dispatch};
    EXPECT_STATUS(pinion_driver_load("layer", layer_entry, &layer->driver), STATUS_SUCCESS);
    EXPECT_STATUS(IoCreateDevice(layer->driver, sizeof(struct layer *), NULL, FILE_DEVICE_UNKNOWN, 0, FALSE,
                                 &layer->device), STATUS_SUCCESS);
    *(struct layer **)layer->device->DeviceExtension = layer;
    layer->device->Flags |= flags;
    layer->device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
}

static inline void layer_attach(struct layer *upper, struct layer *lower)
{
    upper->lower = IoAttachDeviceToDeviceStack(upper->device, lower->device);
    EXPECT_PTR_EQ(upper->lower, lower->device);
}

static inline void layer_destroy(struct layer *layer)
{
    if (layer->lower != NULL)
        IoDetachDevice(layer->lower);
    IoDeleteDevice(layer->device);
    pinion_driver_unload(layer->driver);
}
