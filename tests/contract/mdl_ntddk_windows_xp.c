/* SPDX-License-Identifier: MIT */
/* A driver that includes <ntddk.h> and says that it is written for Windows XP. */

#define NTDDI_VERSION 0x05010000 /* NTDDI_WINXP */

#include "harness.h"
#include <ntddk.h>

#include "mdl_life.h"

C_ASSERT(NTDDI_VERSION == NTDDI_WINXP);

/* IoAllocateMdl-28, IoFreeMdl-10, IoBuildPartialMdl-36, MmPrepareMdlForReuse-07, MmBuildMdlForNonPagedPool-21: <ntddk.h>
   has all of them. */
SILENT_TEST(mdl_ntddk, mdl__through_ntddk_h__lives)
{
    live_in_pool();
    live_in_a_process();
}

/* MmAdvanceMdl-27, MmAdvanceMdl-28: and MmAdvanceMdl, from Windows XP on. */
SILENT_TEST(mdl_ntddk, mm_advance_mdl__through_ntddk_h__advances)
{
    NTSTATUS (*const advance)(PMDL, ULONG) = &MmAdvanceMdl;
    const PMDL mdl = mdl_over((PVOID)(ULONG_PTR)0x10000, 2 * PAGE_SIZE);

    EXPECT_STATUS(advance(mdl, PAGE_SIZE), STATUS_SUCCESS);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), (PVOID)(ULONG_PTR)0x11000);
    IoFreeMdl(mdl);
}
