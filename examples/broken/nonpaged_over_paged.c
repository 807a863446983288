/* SPDX-License-Identifier: MIT */
/*
 * MmBuildMdlForNonPagedPool over paged memory.
 *
 * Caught: 0xC4/0x7F
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PVOID buffer = ExAllocatePool2(POOL_FLAG_PAGED, PAGE_SIZE, BROKEN_TAG);
    PMDL mdl = IoAllocateMdl(buffer, PAGE_SIZE, FALSE, FALSE, NULL);

    if (buffer == NULL || mdl == NULL)
        return PassDown(Lower, Irp);
    MmBuildMdlForNonPagedPool(mdl);                         /* lock it instead */
    IoFreeMdl(mdl);
    ExFreePoolWithTag(buffer, BROKEN_TAG);
    return PassDown(Lower, Irp);
}
