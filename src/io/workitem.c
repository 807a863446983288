/* SPDX-License-Identifier: MIT */
/*
 * Work items of devices, over those of the executive. The device is held from the queueing until the routine
 * has returned, so it outlives an IoDeleteDevice in between.
 */

#include "io/io.h"

enum { WORKITEM_TAG = 0x6B576F49 };     /* 'IoWk' */

struct _IO_WORKITEM {
    WORK_QUEUE_ITEM      item;
    PDEVICE_OBJECT       device;
    PIO_WORKITEM_ROUTINE routine;
    PVOID                context;
};

PIO_WORKITEM IoAllocateWorkItem(PDEVICE_OBJECT DeviceObject)
{
    struct machine *machine = ke_machine();
    PIO_WORKITEM work;

    if (ke_fails(KE_FALLIBLE_IoAllocateWorkItem))
        return NULL;
    work = mm_pool_allocate_for_driver(machine, NonPagedPoolNx, sizeof(*work), WORKITEM_TAG);
    if (work != NULL)
        *work = (struct _IO_WORKITEM){.device = DeviceObject};
    return work;
}

VOID IoFreeWorkItem(PIO_WORKITEM IoWorkItem)
{
    mm_pool_free(ke_machine(), IoWorkItem);
}

/* The routine may queue its work item again, or free it. */
static void run_work(PVOID parameter)
{
    const struct _IO_WORKITEM work = *(const struct _IO_WORKITEM *)parameter;
    const PDRIVER_OBJECT before = ke_enter_driver(work.device->DriverObject);

    work.routine(work.device, work.context);
    ke_require_passive_return((const void *)(uintptr_t)work.routine, work.context, parameter);
    ke_leave_driver(before);
    io_device_release(ke_machine(), work.device);
}

VOID IoQueueWorkItem(PIO_WORKITEM IoWorkItem, PIO_WORKITEM_ROUTINE WorkerRoutine, WORK_QUEUE_TYPE QueueType,
                     PVOID Context)
{
    io_device_hold(ke_machine(), IoWorkItem->device);
    IoWorkItem->routine = WorkerRoutine;
    IoWorkItem->context = Context;
    ExInitializeWorkItem(&IoWorkItem->item, run_work, IoWorkItem);
    ExQueueWorkItem(&IoWorkItem->item, QueueType);
}
