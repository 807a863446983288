/* SPDX-License-Identifier: MIT */
/*
 * A mapping that is used after it has gone, with the partial MDL that it belonged to.
 *
 * Caught: 0x50
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PMDL part = IoAllocateMdl(MmGetMdlVirtualAddress(Irp->MdlAddress), 512, FALSE, FALSE, NULL);
    volatile UCHAR *mapped;

    if (part == NULL)
        return PassDown(Lower, Irp);
    IoBuildPartialMdl(Irp->MdlAddress, part, MmGetMdlVirtualAddress(Irp->MdlAddress), 512);
    mapped = MmGetSystemAddressForMdlSafe(part, NormalPagePriority | MdlMappingNoExecute);
    IoFreeMdl(part);
    if (mapped != NULL)
        (VOID)mapped[0];
    return PassDown(Lower, Irp);
}
