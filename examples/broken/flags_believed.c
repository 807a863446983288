/* SPDX-License-Identifier: MIT */
/*
 * A flag believed in place of the state behind it: an MDL that says it is locked, and holds no pages.
 *
 * Caught: 0xC4/0x89
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

    if (mdl == NULL)
        return PassDown(Lower, Irp);
    MmGetMdlPfnArray(mdl)[0] = 0;
    mdl->MdlFlags |= MDL_PAGES_LOCKED;                      /* "so that it can be mapped" */
    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
    IoFreeMdl(mdl);
    return PassDown(Lower, Irp);
}
