/* SPDX-License-Identifier: MIT */
/*
 * The wrong access: pages that are to be written to are locked for reading.
 *
 * Caught: 0xBE
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PVOID buffer = ExAllocatePool2(POOL_FLAG_PAGED, PAGE_SIZE, BROKEN_TAG);
    PMDL mdl = IoAllocateMdl(buffer, PAGE_SIZE, FALSE, FALSE, NULL);
    PUCHAR mapped;

    if (buffer == NULL || mdl == NULL)
        return PassDown(Lower, Irp);
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);     /* IoWriteAccess: the memory is written to */
    mapped = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
    if (mapped != NULL)
        mapped[0] = 1;
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(buffer, BROKEN_TAG);
    return PassDown(Lower, Irp);
}
