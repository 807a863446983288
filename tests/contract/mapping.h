/* SPDX-License-Identifier: MIT */
/*
 * What the tests of MmMapLockedPagesSpecifyCache share: a mapping that must work, and one that may raise.
 */

#pragma once

#include "support.h"

static inline PVOID map(PMDL mdl, KPROCESSOR_MODE mode, MEMORY_CACHING_TYPE cache, PVOID requested,
                        ULONG priority)
{
    struct map_call call = {mdl, mode, cache, requested, priority, NULL};

    EXPECT_STATUS(pinion_try(map_body, &call), STATUS_SUCCESS);
    return call.result;
}

/* What the call raises, or STATUS_SUCCESS. */
static inline NTSTATUS try_map(PMDL mdl, KPROCESSOR_MODE mode, PVOID requested, ULONG priority)
{
    struct map_call call = {mdl, mode, MmCached, requested, priority, NULL};

    return pinion_try(map_body, &call);
}
