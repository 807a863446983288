/* SPDX-License-Identifier: MIT */
/*
 * An MDL that is too small: room for as many pages as the length has, and the range starts in the middle of one.
 *
 * Caught: 0x40
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PMDL source = Irp->MdlAddress, part;
    ULONG bytes = MmGetMdlByteCount(source);
    PUCHAR va = MmGetMdlVirtualAddress(source);

    if (bytes <= PAGE_SIZE)
        return PassDown(Lower, Irp);
    part = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    if (part == NULL)
        return PassDown(Lower, Irp);
    IoBuildPartialMdl(source, part, PAGE_ALIGN(va) == va ? va + 1 : va, PAGE_SIZE);
    IoFreeMdl(part);
    return PassDown(Lower, Irp);
}
