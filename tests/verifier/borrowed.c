/* SPDX-License-Identifier: MIT */
/*
 * A partial MDL with a mapping of its own, whose source is unlocked or freed first: the mapping may stay, and be released like any
 * other; who touches it is met. And memory that a process sees when it is freed, beyond the rules' twins.
 */

#include "harness.h"
#include <wdm.h>

#include "../contract/partial.h"
#include "stories.h"

enum { BYTES = 2 * PAGE_SIZE };

static UCHAR *mapped;
static PMDL part;

/* A locked source, and a partial MDL of its second page, mapped by itself. */
static PMDL map_part(UCHAR *va)
{
    const PMDL source = allocate_it(va);

    lock_it(source);
    part = part_of(source, va + PAGE_SIZE, 100);
    mapped = map_it(part);
    return source;
}

static void touch_after_unlock(HARNESS_UNUSED void *context)
{
    MmUnlockPages(map_part(user_pages(2, PAGE_READWRITE)));
    touch_store(mapped + 7);
}

static void touch_after_free(HARNESS_UNUSED void *context)
{
    unlock_and_free(map_part(user_pages(2, PAGE_READWRITE)));
    touch_load(mapped);
}

static void touch_after_free_of_pages(HARNESS_UNUSED void *context)
{
    const PHYSICAL_ADDRESS low = {.QuadPart = 0}, high = {.QuadPart = -1};
    const PMDL pages = MmAllocatePagesForMdlEx(low, high, low, BYTES, MmCached, MM_ALLOCATE_FULLY_REQUIRED);

    part = part_of(pages, (UCHAR *)MmGetMdlVirtualAddress(pages) + PAGE_SIZE, 100);
    mapped = system_address(part);
    MmFreePagesFromMdl(pages);
    touch_store(mapped);
}

/* What is touched there would be the pages' next owner's. */
TEST_UNTIDY(borrowed, own_mapping_of_a_partial__touched_after_the_source__stops)
{
    static void (*const bodies[])(void *) = {touch_after_unlock, touch_after_free, touch_after_free_of_pages};

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = run_until_stop(bodies[i], NULL);

        EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
        EXPECT(strstr(stop.stderr_text, "whose source holds the pages no longer") != NULL);
    }
}

/* The story is that of both MDLs. */
TEST_UNTIDY(borrowed, report__tells_the_partial_and_its_source)
{
    const struct stop stop = run_until_stop(touch_after_unlock, NULL);
    const char *const source = strstr(stop.stderr_text, "Its source, MDL ");

    EXPECT(names(stop.stderr_text, "mapped at", "map_it"));
    EXPECT(source != NULL && names(source, "locked at", "lock_it"));
}

/* Nothing is wrong with a mapping that is merely released late. */
SILENT_TEST(borrowed, own_mapping_of_a_partial__released_after_the_unlock__is_silent)
{
    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL source = map_part(va);

    MmUnlockPages(source);
    MmPrepareMdlForReuse(part);
    MmProbeAndLockPages(source, UserMode, IoWriteAccess);
    IoBuildPartialMdl(source, part, va, 100);
    fill_pattern(va, BYTES, 4);
    EXPECT_PATTERN(system_address(part), 100, 4);
    IoFreeMdl(part);
    unlock_and_free(source);
    pinion_user_free(va);
}

/* Pages that another lock keeps cannot become anybody else's. */
SILENT_TEST(borrowed, own_mapping_of_a_partial__pages_still_locked__can_be_touched)
{
    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL other = locked_mdl(va, BYTES), source = map_part(va);

    unlock_and_free(source);
    va[PAGE_SIZE + 3] = 77;
    EXPECT_EQ(mapped[3], 77);
    IoFreeMdl(part);
    unlock_and_free(other);
    pinion_user_free(va);
}

/* One of several goes, the others are found all the same. */
TEST_UNTIDY(borrowed, several_partials__each_is_out_of_reach)
{
    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL source = locked_mdl(va, BYTES);
    PMDL parts[5];
    UCHAR *at[5];

    for (unsigned i = 0; i < 5; i++) {
        parts[i] = part_of(source, va + i * 500, 100);
        at[i] = system_address(parts[i]);
    }
    IoFreeMdl(parts[2]);
    MmPrepareMdlForReuse(parts[4]);
    unlock_and_free(source);
    for (unsigned i = 0; i < 5; i++)
        EXPECT(!MmIsAddressValid(at[i]));
}

static void ask_again(HARNESS_UNUSED void *context)
{
    MmUnlockPages(map_part(user_pages(2, PAGE_READWRITE)));
    system_address(part);
}

/* Who asks for the address once more is told before it is touched. */
TEST_UNTIDY(borrowed, own_mapping_of_a_partial__asked_for_after_the_source__warns)
{
    const struct stop stop = run_until_stop(ask_again, NULL);

    EXPECT_EQ(stop_warnings(&stop, "partial-outlives-source"), 1);
}

static void free_shared_contiguous(HARNESS_UNUSED void *context)
{
    const PHYSICAL_ADDRESS high = {.QuadPart = -1};
    UCHAR *const block = MmAllocateContiguousMemory(BYTES, high);
    const PMDL mdl = mdl_over(block, BYTES);
    PVOID shared;

    MmBuildMdlForNonPagedPool(mdl);
    shared = map_user(mdl);
    MmFreeContiguousMemory(block);
    MmUnmapLockedPages(shared, mdl);
    IoFreeMdl(mdl);
}

/* MmMapLockedPagesSpecifyCache-17: contiguous memory is no different from pool. */
TEST_UNTIDY(borrowed, contiguous_memory__freed_while_a_process_sees_it__warns)
{
    const struct stop stop = run_until_stop(free_shared_contiguous, NULL);

    EXPECT_EQ(stop_warnings(&stop, "freed-while-user-mapped"), 1);
    EXPECT_EQ(stop_warnings(&stop, NULL), 1);
}
