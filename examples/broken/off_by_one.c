/* SPDX-License-Identifier: MIT */
/*
 * Off by one at the end of an MDL: the byte behind the last one is read as well.
 *
 * Caught: 0x50
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PVOID buffer = ExAllocatePool2(POOL_FLAG_PAGED, PAGE_SIZE, BROKEN_TAG);
    PMDL mdl = IoAllocateMdl(buffer, PAGE_SIZE, FALSE, FALSE, NULL);
    volatile UCHAR *mapped;
    UCHAR sum = 0;

    if (buffer == NULL || mdl == NULL)
        return PassDown(Lower, Irp);
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
    mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
    for (ULONG i = 0; mapped != NULL && i <= MmGetMdlByteCount(mdl); i++)       /* < */
        sum ^= mapped[i];
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(buffer, BROKEN_TAG);
    Irp->IoStatus.Information = sum;
    return PassDown(Lower, Irp);
}
