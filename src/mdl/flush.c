/* SPDX-License-Identifier: MIT */
/* KeFlushIoBuffers: caches of the processors that Windows runs on here see DMA by themselves. */

#include "mdl/mdl.h"

/* Flush one MDL's memory from the caches: on x64 there is nothing to do. IRQL <= DISPATCH_LEVEL. Doc: wdm/nf-wdm-keflushiobuffers */
VOID KeFlushIoBuffers(PMDL Mdl, BOOLEAN ReadOperation, BOOLEAN DmaOperation)
{
    struct machine *machine = ke_machine();

    UNREFERENCED_PARAMETER(ReadOperation);
    UNREFERENCED_PARAMETER(DmaOperation);
    KE_HOOK(machine, mdl_use_check, Mdl);
}
