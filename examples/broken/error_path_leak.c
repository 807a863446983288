/* SPDX-License-Identifier: MIT */
/*
 * A leak on an error path: what was allocated first is forgotten when something later does not work.
 *
 * Caught: 0xC4/0x62
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PMDL container = IoAllocateMdl(NULL, 64 * 1024, FALSE, FALSE, NULL);

    if (container == NULL)
        return PassDown(Lower, Irp);
    if (MmGetMdlByteCount(Irp->MdlAddress) > 16)            /* "too large": out, and the container is lost */
        return PassDown(Lower, Irp);
    IoFreeMdl(container);
    return PassDown(Lower, Irp);
}
