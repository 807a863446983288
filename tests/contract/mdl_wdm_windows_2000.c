/* SPDX-License-Identifier: MIT */
/* A driver that includes <wdm.h> and says that it is written for Windows 2000. */

#define NTDDI_VERSION 0x05000000 /* NTDDI_WIN2K */

#include "harness.h"
#include <wdm.h>

#include "mdl_life.h"

C_ASSERT(NTDDI_VERSION == NTDDI_WIN2K);

/* MmAdvanceMdl came with Windows XP: here its name is free. */
enum { MmAdvanceMdl = 1234 };

/* IoAllocateMdl-27, IoAllocateMdl-28, IoFreeMdl-10, IoBuildPartialMdl-35, IoBuildPartialMdl-36,
   MmPrepareMdlForReuse-07, MmBuildMdlForNonPagedPool-20, MmBuildMdlForNonPagedPool-21: all of them are there from
   Windows 2000 on, by <wdm.h> alone. */
SILENT_TEST(mdl_windows_2000, mdl__through_wdm_h__lives)
{
    live_in_pool();
    live_in_a_process();
}

/* MmAdvanceMdl-27: it is not declared for Windows 2000. */
TEST(mdl_windows_2000, mm_advance_mdl__is_not_there)
{
    EXPECT_EQ(MmAdvanceMdl, 1234);
}
