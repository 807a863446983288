/* SPDX-License-Identifier: MIT */
/*
 * A mapping that can be executed, where data was meant.
 *
 * Caught: executable-mapping
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    MmGetSystemAddressForMdlSafe(Irp->MdlAddress, NormalPagePriority);          /* | MdlMappingNoExecute */
    return PassDown(Lower, Irp);
}
