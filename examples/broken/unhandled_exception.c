/* SPDX-License-Identifier: MIT */
/*
 * An exception that nobody handles: MmProbeAndLockPages raises when a page refuses.
 *
 * Caught: 0x1E
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PMDL mdl = IoAllocateMdl((PVOID)(ULONG_PTR)PAGE_SIZE, PAGE_SIZE, FALSE, FALSE, NULL);       /* where nothing is */

    if (mdl == NULL)
        return PassDown(Lower, Irp);
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);      /* no __try around it */
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    return PassDown(Lower, Irp);
}
