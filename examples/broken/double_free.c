/* SPDX-License-Identifier: MIT */
/*
 * A double free: two routines each think that the MDL is theirs.
 *
 * Caught: 0xCC
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

    if (mdl == NULL)
        return PassDown(Lower, Irp);
    IoFreeMdl(mdl);
    IoFreeMdl(mdl);
    return PassDown(Lower, Irp);
}
