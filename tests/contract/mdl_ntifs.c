/* SPDX-License-Identifier: MIT */
/* A driver that includes <ntifs.h> and names no version of Windows. */

#include "harness.h"
#include <ntifs.h>

#include "mdl_life.h"

/* IoAllocateMdl-28, IoFreeMdl-10, IoBuildPartialMdl-36, MmPrepareMdlForReuse-07, MmBuildMdlForNonPagedPool-21: <ntifs.h>
   has all of them. */
SILENT_TEST(mdl_ntifs, mdl__through_ntifs_h__lives)
{
    live_in_pool();
    live_in_a_process();
}

/* MmAdvanceMdl-28: and MmAdvanceMdl. */
SILENT_TEST(mdl_ntifs, mm_advance_mdl__through_ntifs_h__advances)
{
    const PMDL mdl = mdl_over((PVOID)(ULONG_PTR)0x10000, 2 * PAGE_SIZE);

    EXPECT_STATUS(MmAdvanceMdl(mdl, 1), STATUS_SUCCESS);
    EXPECT_EQ(MmGetMdlByteCount(mdl), 2 * PAGE_SIZE - 1);
    IoFreeMdl(mdl);
}
