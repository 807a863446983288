/* SPDX-License-Identifier: MIT */
/*
 * The hardware of Pinion's disk, as the driver of that hardware sees it: a bus master that follows scatter/gather lists.
 *
 * A driver attaches to the disk's physical device and gets itself a DMA adapter, scatter/gather, as wide as the disk says. For
 * each transfer it sends down an IRP_MJ_INTERNAL_DEVICE_CONTROL that carries a PINION_DISK_COMMAND. The disk moves the bytes
 * between the file and the memory behind the list's logical addresses, through the adapter, and completes the IRP at
 * DISPATCH_LEVEL with the bytes moved in IoStatus.Information. The list stays out until then.
 *
 * An element that the device may not access: nothing is moved, a warning (dma-fault), and STATUS_DEVICE_DATA_ERROR.
 */
#ifndef PINION_DISK_H
#define PINION_DISK_H

#include <wdm.h>

typedef struct _PINION_DISK_COMMAND {
    PDMA_ADAPTER Adapter;
    PSCATTER_GATHER_LIST List;
    ULONGLONG Offset;               /* on the disk, in bytes */
    BOOLEAN WriteToDevice;          /* from memory to the disk */
} PINION_DISK_COMMAND, *PPINION_DISK_COMMAND;

/* Parameters.DeviceIoControl.Type3InputBuffer: the command, which stays valid until the IRP is completed. */
#define IOCTL_PINION_DISK_TRANSFER      CTL_CODE(FILE_DEVICE_DISK, 0x900, METHOD_NEITHER, FILE_ANY_ACCESS)

/* IoStatus.Information: how many address bits the disk has, 32 or 64. */
#define IOCTL_PINION_DISK_ADDRESS_WIDTH CTL_CODE(FILE_DEVICE_DISK, 0x901, METHOD_NEITHER, FILE_ANY_ACCESS)

#endif /* PINION_DISK_H */
