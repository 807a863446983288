/* SPDX-License-Identifier: MIT */
/*
 * The request is completed first, and its MDL used afterwards.
 *
 * Caught: 0xCC
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PMDL mdl = Irp->MdlAddress;

    UNREFERENCED_PARAMETER(Lower);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = IoGetCurrentIrpStackLocation(Irp)->Parameters.Read.Length;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
    return STATUS_SUCCESS;
}
