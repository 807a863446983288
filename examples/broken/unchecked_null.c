/* SPDX-License-Identifier: MIT */
/*
 * NULL of a mapping is used unchecked: there is not always room for one.
 *
 * Caught: 0x1E
 * Needs: --fail MmGetSystemAddressForMdlSafe:1
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PUCHAR mapped = MmGetSystemAddressForMdlSafe(Irp->MdlAddress, NormalPagePriority | MdlMappingNoExecute);

    mapped[0] = 0;
    return PassDown(Lower, Irp);
}
