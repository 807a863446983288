/* SPDX-License-Identifier: MIT */
/*
 * The life of an MDL, through whatever driver's header was included before, for whatever Windows the source says that
 * it is written for: a file for each combination includes this one. No use of anything that came after Windows 2000.
 */

#pragma once

#include "support.h"

/* Allocate an MDL for nonpaged pool, build it, split it, map the part, prepare it for reuse, free both. */
static inline void live_in_pool(void)
{
    UCHAR *const block = pool_pages(3);
    const PMDL mdl = IoAllocateMdl(block + 10, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    const PMDL part = IoAllocateMdl(block + PAGE_SIZE, PAGE_SIZE, FALSE, FALSE, NULL);

    EXPECT(mdl != NULL && part != NULL);
    MmBuildMdlForNonPagedPool(mdl);
    IoBuildPartialMdl(mdl, part, block + PAGE_SIZE, PAGE_SIZE);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(part), block + PAGE_SIZE);
    EXPECT_EQ(MmGetMdlByteCount(part), PAGE_SIZE);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(part, NORMAL_NX), block + PAGE_SIZE);
    MmPrepareMdlForReuse(part);
    IoFreeMdl(part);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* Allocate one for a user buffer, lock it, split it, map both, unlock, free. */
static inline void live_in_a_process(void)
{
    UCHAR *const va = user_pattern(3, 1);
    const PMDL mdl = IoAllocateMdl(va, 3 * PAGE_SIZE, FALSE, FALSE, NULL);
    const PMDL part = IoAllocateMdl(NULL, 3 * PAGE_SIZE, FALSE, FALSE, NULL);

    EXPECT(mdl != NULL && part != NULL);
    EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
    IoBuildPartialMdl(mdl, part, va + 5, PAGE_SIZE);
    EXPECT_PATTERN_AT(MmGetSystemAddressForMdlSafe(part, NORMAL_NX), PAGE_SIZE, 1, 5);
    MmPrepareMdlForReuse(part);
    IoFreeMdl(part);
    EXPECT_PATTERN(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), 3 * PAGE_SIZE, 1);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}
