/* SPDX-License-Identifier: MIT */
/*
 * A lock imbalance: pages are unlocked once more than they were locked.
 *
 * Caught: 0xC4/0x7C
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PVOID buffer = ExAllocatePool2(POOL_FLAG_PAGED, PAGE_SIZE, BROKEN_TAG);
    PMDL mdl = IoAllocateMdl(buffer, PAGE_SIZE, FALSE, FALSE, NULL);

    if (buffer == NULL || mdl == NULL)
        return PassDown(Lower, Irp);
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
    MmUnlockPages(mdl);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(buffer, BROKEN_TAG);
    return PassDown(Lower, Irp);
}
