/* SPDX-License-Identifier: MIT */
/*
 * What the tests of MmProbeAndLockPages share: the modes and operations, and calls that must be refused.
 */

#pragma once

#include "support.h"

static const LOCK_OPERATION operations[] = {IoReadAccess, IoWriteAccess, IoModifyAccess};
static const KPROCESSOR_MODE modes[] = {KernelMode, UserMode};

static inline ULONG64 pfn_of(PVOID va)
{
    return (ULONG64)MmGetPhysicalAddress(va).QuadPart >> PAGE_SHIFT;
}

/* The lock must raise this, and leave the MDL's header, byte by byte, and the counters as they were. */
static inline void expect_refused(PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation, NTSTATUS status)
{
    const struct pinion_counters before = counters_now();
    const MDL copy = *mdl;

    EXPECT_STATUS(try_lock(mdl, mode, operation), status);
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
}

/* The range refuses every operation in this mode. */
static inline void expect_range_refused(PVOID va, SIZE_T bytes, KPROCESSOR_MODE mode)
{
    const PMDL mdl = mdl_over(va, bytes);

    for (SIZE_T i = 0; i < ARRAYSIZE(operations); i++)
        expect_refused(mdl, mode, operations[i], STATUS_ACCESS_VIOLATION);
    IoFreeMdl(mdl);
}
