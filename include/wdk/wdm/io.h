/* SPDX-License-Identifier: MIT */
/*
 * The I/O manager: MDLs of requests, IRPs, devices, work items. The structures are in device.h and irp.h.
 */
#ifndef PINION_WDK_WDM_IO_H
#define PINION_WDK_WDM_IO_H

#include "../ntdef.h"
#include "device.h"
#include "ex.h"
#include "interlocked.h"
#include "irp.h"
#include "mm.h"

EXTERN_C_START

/* ---- MDLs ---------------------------------------------------------------------------------------------- */

/* Allocate an MDL for a buffer and put it on an IRP if asked to; NULL if that fails.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-ioallocatemdl */
NTKERNELAPI PMDL IoAllocateMdl(PVOID VirtualAddress, ULONG Length, BOOLEAN SecondaryBuffer,
                               BOOLEAN ChargeQuota, PIRP Irp);

/* Free an MDL of IoAllocateMdl. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iofreemdl */
NTKERNELAPI VOID IoFreeMdl(PMDL Mdl);

/* Describe part of an MDL's buffer in another MDL.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iobuildpartialmdl */
NTKERNELAPI VOID IoBuildPartialMdl(PMDL SourceMdl, PMDL TargetMdl, PVOID VirtualAddress, ULONG Length);

/* ---- IRPs ---------------------------------------------------------------------------------------------- */

/* Allocate an IRP; NULL if that fails. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-ioallocateirp */
NTKERNELAPI PIRP IoAllocateIrp(CCHAR StackSize, BOOLEAN ChargeQuota);

/* Free an IRP of the driver's own. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iofreeirp */
NTKERNELAPI VOID IoFreeIrp(PIRP Irp);

/* Make an IRP ready for another round, with this status.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-ioreuseirp */
NTKERNELAPI VOID IoReuseIrp(PIRP Irp, NTSTATUS Iostatus);

/* Make an IRP of memory of the driver's own. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-ioinitializeirp */
NTKERNELAPI VOID IoInitializeIrp(PIRP Irp, USHORT PacketSize, CCHAR StackSize);

/* Build a read, write, flush, shutdown or Plug and Play request that this thread sends and waits for; NULL if that
   fails. IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-iobuildsynchronousfsdrequest */
NTKERNELAPI PIRP IoBuildSynchronousFsdRequest(ULONG MajorFunction, PDEVICE_OBJECT DeviceObject, PVOID Buffer,
                                              ULONG Length, PLARGE_INTEGER StartingOffset, PKEVENT Event,
                                              PIO_STATUS_BLOCK IoStatusBlock);

/* The same for a driver whose completion routine frees what it built; NULL if that fails.
   IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-iobuildasynchronousfsdrequest */
NTKERNELAPI PIRP IoBuildAsynchronousFsdRequest(ULONG MajorFunction, PDEVICE_OBJECT DeviceObject, PVOID Buffer,
                                               ULONG Length, PLARGE_INTEGER StartingOffset,
                                               PIO_STATUS_BLOCK IoStatusBlock);

/* Build a device control request that this thread sends and waits for; NULL if that fails.
   IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-iobuilddeviceiocontrolrequest */
NTKERNELAPI PIRP IoBuildDeviceIoControlRequest(ULONG IoControlCode, PDEVICE_OBJECT DeviceObject,
                                               PVOID InputBuffer, ULONG InputBufferLength, PVOID OutputBuffer,
                                               ULONG OutputBufferLength, BOOLEAN InternalDeviceIoControl,
                                               PKEVENT Event, PIO_STATUS_BLOCK IoStatusBlock);

/* Make an IRP that stands for a part of a master IRP, which is complete when all of them are; NULL if that fails.
   IRQL <= DISPATCH_LEVEL. Doc: ntddk/nf-ntddk-iomakeassociatedirp */
NTKERNELAPI PIRP IoMakeAssociatedIrp(PIRP Irp, CCHAR StackSize);

/* Send an IRP to a driver's dispatch routine. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iofcalldriver */
NTKERNELAPI NTSTATUS FASTCALL IofCallDriver(PDEVICE_OBJECT DeviceObject, PIRP Irp);

/* The same under its usual name. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iocalldriver */
#define IoCallDriver(DeviceObject, Irp) IofCallDriver(DeviceObject, Irp)

/* Complete an IRP: completion routines run, then it goes back to the I/O manager.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iofcompleterequest */
NTKERNELAPI VOID FASTCALL IofCompleteRequest(PIRP Irp, CCHAR PriorityBoost);

/* The same under its usual name. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iocompleterequest */
#define IoCompleteRequest(Irp, PriorityBoost) IofCompleteRequest(Irp, PriorityBoost)

#if NTDDI_VERSION >= NTDDI_WINXP
/* IoSetCompletionRoutine, keeping the driver loaded until the routine has run.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iosetcompletionroutineex */
NTKERNELAPI NTSTATUS IoSetCompletionRoutineEx(PDEVICE_OBJECT DeviceObject, PIRP Irp,
                                              PIO_COMPLETION_ROUTINE CompletionRoutine, PVOID Context,
                                              BOOLEAN InvokeOnSuccess, BOOLEAN InvokeOnError,
                                              BOOLEAN InvokeOnCancel);
#endif

/* ---- Cancelling ---------------------------------------------------------------------------------------- */

/* Set an IRP's cancel bit and call its cancel routine; TRUE if it had one.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iocancelirp */
NTKERNELAPI BOOLEAN IoCancelIrp(PIRP Irp);

/* Set an IRP's cancel routine, NULL for none; returns the one before.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iosetcancelroutine */
static inline PDRIVER_CANCEL IoSetCancelRoutine(PIRP Irp, PDRIVER_CANCEL CancelRoutine)
{
    return (PDRIVER_CANCEL)(ULONG_PTR)InterlockedExchangePointer((PVOID volatile *)&Irp->CancelRoutine,
                                                                 (PVOID)(ULONG_PTR)CancelRoutine);
}

/* Take the lock that guards cancel routines. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-ioacquirecancelspinlock */
NTKERNELAPI VOID IoAcquireCancelSpinLock(PKIRQL Irql);

/* Release it; a cancel routine passes Irp->CancelIrql.
   IRQL == DISPATCH_LEVEL. Doc: wdm/nf-wdm-ioreleasecancelspinlock */
NTKERNELAPI VOID IoReleaseCancelSpinLock(KIRQL Irql);

/* ---- Devices ------------------------------------------------------------------------------------------- */

/* Create a device object with an extension. IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-iocreatedevice */
NTKERNELAPI NTSTATUS IoCreateDevice(PDRIVER_OBJECT DriverObject, ULONG DeviceExtensionSize,
                                    PUNICODE_STRING DeviceName, DEVICE_TYPE DeviceType,
                                    ULONG DeviceCharacteristics, BOOLEAN Exclusive,
                                    PDEVICE_OBJECT *DeviceObject);

/* Delete a device object. IRQL <= APC_LEVEL. Doc: wdm/nf-wdm-iodeletedevice */
NTKERNELAPI VOID IoDeleteDevice(PDEVICE_OBJECT DeviceObject);

/* Put a device on top of another one's stack; returns the one that was on top.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-ioattachdevicetodevicestack */
NTKERNELAPI PDEVICE_OBJECT IoAttachDeviceToDeviceStack(PDEVICE_OBJECT SourceDevice,
                                                       PDEVICE_OBJECT TargetDevice);

/* Take away the device that is attached to this one. PASSIVE_LEVEL. Doc: wdm/nf-wdm-iodetachdevice */
NTKERNELAPI VOID IoDetachDevice(PDEVICE_OBJECT TargetDevice);

/* ---- Work items ---------------------------------------------------------------------------------------- */

typedef struct _IO_WORKITEM *PIO_WORKITEM;

/* Allocate a work item of a device; NULL if that fails.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-ioallocateworkitem */
NTKERNELAPI PIO_WORKITEM IoAllocateWorkItem(PDEVICE_OBJECT DeviceObject);

/* Free a work item that is not queued. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-iofreeworkitem */
NTKERNELAPI VOID IoFreeWorkItem(PIO_WORKITEM IoWorkItem);

/* Have a system thread call a routine at PASSIVE_LEVEL.
   IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-ioqueueworkitem */
NTKERNELAPI VOID IoQueueWorkItem(PIO_WORKITEM IoWorkItem, PIO_WORKITEM_ROUTINE WorkerRoutine,
                                 WORK_QUEUE_TYPE QueueType, PVOID Context);

EXTERN_C_END

#endif /* PINION_WDK_WDM_IO_H */
