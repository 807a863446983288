/* SPDX-License-Identifier: MIT */
/* Locking one range again and again, up to the most locks that a page can have. */

#pragma once

#include "support.h"

enum { MOST_LOCKS = 65535 };

/*
 * An MDL in memory of the test's own, large enough for LARGE pages. Lock it again and again without
 * unlocking: each time its flags say that it is not locked. The verifier would call that a leak of locks, and
 * is off.
 */
enum { LARGE = 1536 };

struct big_mdl {
    MDL mdl;
    PFN_NUMBER pfns[LARGE];
};

/* Lock so many bytes once more: STATUS_SUCCESS, or what was raised. */
static inline NTSTATUS lock_once(struct big_mdl *big, UCHAR *va, SIZE_T bytes, KPROCESSOR_MODE mode)
{
    MmInitializeMdl(&big->mdl, va, bytes);
    return try_lock(&big->mdl, mode, IoWriteAccess);
}

/* The same so many times; each must succeed. */
static inline void lock_times(struct big_mdl *big, UCHAR *va, SIZE_T bytes, KPROCESSOR_MODE mode, ULONG times)
{
    for (ULONG i = 0; i < times; i++) {
        MmInitializeMdl(&big->mdl, va, bytes);
        MmProbeAndLockPages(&big->mdl, mode, IoWriteAccess);
    }
}

/* Unlock what one lock of the same range locked, so many times. */
static inline void unlock_times(struct big_mdl *big, ULONG times)
{
    for (ULONG i = 0; i < times; i++) {
        big->mdl.MdlFlags |= MDL_PAGES_LOCKED;
        MmUnlockPages(&big->mdl);
    }
}

static inline void expect_quota(UCHAR *va, SIZE_T bytes, KPROCESSOR_MODE mode)
{
    static struct big_mdl big;
    const struct pinion_counters before = counters_now();

    EXPECT_STATUS(lock_once(&big, va, bytes, mode), STATUS_WORKING_SET_QUOTA);
    EXPECT(!(big.mdl.MdlFlags & MDL_PAGES_LOCKED));
    EXPECT_SAME_COUNTERS(before);
}
