/* SPDX-License-Identifier: MIT */
/* Call stacks in what is told of a driver: functions that are to be found in one, and the looking for them. */

#pragma once

#include "../contract/support.h"

#include <stdio.h>
#include <string.h>

/* A function that keeps its name and its frame. */
#ifdef __clang__
#define APART __attribute__((noinline, unused))
#else
#define APART __attribute__((noinline, noclone, unused))
#endif

/* Written behind a call, so that it is no tail call. */
static HARNESS_UNUSED volatile bool after;

APART static PMDL allocate_it(PVOID va)
{
    const PMDL mdl = IoAllocateMdl(va, 2 * PAGE_SIZE, FALSE, FALSE, NULL);

    return mdl;
}

APART static void lock_it(PMDL mdl)
{
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    after = true;
}

APART static UCHAR *map_it(PMDL mdl)
{
    UCHAR *const va = system_address(mdl);

    after = true;
    return va;
}

/* Does the text have, somewhere after `title`, the innermost frame of a call stack in that function? */
static HARNESS_UNUSED bool names(const char *text, const char *title, const char *function)
{
    char frame[128];
    const char *part = strstr(text, title);

    snprintf(frame, sizeof(frame), "#0 %s (", function);
    return part != NULL && strstr(part, frame) != NULL;
}
