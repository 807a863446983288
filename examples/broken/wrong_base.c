/* SPDX-License-Identifier: MIT */
/*
 * A wrong base address: the address where the request is mapped, where the address that its MDL describes was meant.
 *
 * Caught: 0x12E
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PMDL source = Irp->MdlAddress, part;
    PUCHAR mapped = MmGetSystemAddressForMdlSafe(source, NormalPagePriority | MdlMappingNoExecute);

    part = IoAllocateMdl(mapped, 512, FALSE, FALSE, NULL);
    if (part == NULL)
        return PassDown(Lower, Irp);
    IoBuildPartialMdl(source, part, mapped, 512);           /* MmGetMdlVirtualAddress(source) is right */
    IoFreeMdl(part);
    return PassDown(Lower, Irp);
}
