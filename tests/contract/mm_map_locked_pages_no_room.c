/* SPDX-License-Identifier: MIT */
/*
 * MmMapLockedPagesSpecifyCache when there is no room for a mapping: on demand, and with system space filled to its end.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "mapping.h"

/* ---- No room ------------------------------------------------------------------------------------------- */

/* MmMapLockedPagesSpecifyCache-04 Driver_Verifier_low_resources_simulation-02: a system mapping that is
   made to fail is NULL, and leaves the MDL and all counters as they were. */
SILENT_TEST(mm_map, kernel_map__made_to_fail__is_null_and_changes_nothing)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const MDL copy = *mdl;
    const struct pinion_counters before = counters_now();

    pinion_fail("MmMapLockedPagesSpecifyCache", 1);
    EXPECT(map_system(mdl) == NULL);
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    EXPECT(map_system(mdl) != NULL);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-07: a user mapping that is made to fail raises, and leaves all as it was. */
SILENT_TEST(mm_map, user_map__made_to_fail__raises_and_changes_nothing)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const MDL copy = *mdl;
    const struct pinion_counters before = counters_now();

    pinion_fail("MmMapLockedPagesSpecifyCache", 1);
    EXPECT(NT_ERROR(try_map(mdl, UserMode, NULL, NORMAL_NX)));
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    MmUnmapLockedPages(map_user(mdl), mdl);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

enum { MOST_MAPPINGS = 4096 };

/* Mappings that were made until there was no room. */
struct crowd {
    PMDL mdls[MOST_MAPPINGS];
    SIZE_T count;
    UCHAR *user;
};

/* Map pages of the buffer at this priority, so many at a time, until it fails. */
static void crowd_fill(struct crowd *crowd, SIZE_T pages, ULONG priority)
{
    for (;;) {
        const PMDL mdl = locked_mdl(crowd->user, pages * PAGE_SIZE);

        if (!MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, priority)) {
            EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
            unlock_and_free(mdl);
            return;
        }
        EXPECT(crowd->count < MOST_MAPPINGS);
        crowd->mdls[crowd->count++] = mdl;
    }
}

/* Fill to the last page that this priority gets, with mappings of ever fewer pages. */
static void crowd_fill_up(struct crowd *crowd, SIZE_T most_pages, ULONG priority)
{
    for (SIZE_T pages = most_pages; pages > 0; pages /= 2)
        crowd_fill(crowd, pages, priority);
}

static void crowd_clear(struct crowd *crowd)
{
    while (crowd->count > 0)
        unlock_and_free(crowd->mdls[--crowd->count]);
}

enum { BIG_PAGES = 256 * 1024 };

/* MmMapLockedPagesSpecifyCache-04: when system space is full a mapping is NULL and changes nothing, and the
   mappings there are stay usable. */
SILENT_TEST(mm_map, kernel_map__system_space_full__is_null_and_the_others_hold)
{
    static struct crowd crowd;

    crowd.user = user_pages(BIG_PAGES, PAGE_READWRITE);
    fill_pattern(crowd.user, PAGE_SIZE, 3);
    crowd_fill(&crowd, BIG_PAGES, NORMAL_NX);
    EXPECT(crowd.count > 1);
    EXPECT_EQ(counters_now().system_mappings, crowd.count);
    EXPECT_EQ(counters_now().system_pages_mapped, crowd.count * BIG_PAGES);
    EXPECT_PATTERN(crowd.mdls[0]->MappedSystemVa, PAGE_SIZE, 3);
    EXPECT_PATTERN(crowd.mdls[crowd.count - 1]->MappedSystemVa, PAGE_SIZE, 3);
    crowd_clear(&crowd);
    pinion_user_free(crowd.user);
}

/* MmMapLockedPagesSpecifyCache-04: what is released can be mapped again, as often as one likes: the room does
   not shrink. */
SILENT_TEST(mm_map, kernel_map__filled_and_released__room_does_not_shrink)
{
    static struct crowd crowd;

    crowd.user = user_pages(BIG_PAGES, PAGE_READWRITE);
    crowd_fill(&crowd, BIG_PAGES, HIGH_NX);
    for (ULONG round = 0; round < 2; round++) {
        for (SIZE_T i = 0; i < crowd.count; i++)
            MmUnmapLockedPages(crowd.mdls[i]->MappedSystemVa, crowd.mdls[i]);
        EXPECT_EQ(counters_now().system_pages_mapped, 0);
        for (SIZE_T i = 0; i < crowd.count; i++)
            EXPECT(map(crowd.mdls[i], KernelMode, MmCached, NULL, HIGH_NX) != NULL);
    }
    crowd_clear(&crowd);
    pinion_user_free(crowd.user);
}

/* MmGetSystemAddressForMdlSafe-07 MmGetSystemAddressForMdlSafe-08 MmGetSystemAddressForMdlSafe-09
   MmMapLockedPagesSpecifyCache-04: as room runs out, low priority fails first, then normal, and high gets
   the last page. */
SILENT_TEST(mm_map, kernel_map__room_runs_out__low_fails_before_normal_before_high)
{
    static const ULONG priorities[] = {LowPagePriority, NormalPagePriority, HighPagePriority};
    static struct crowd crowd;

    crowd.user = user_pages(BIG_PAGES, PAGE_READWRITE);
    for (SIZE_T i = 0; i < ARRAYSIZE(priorities); i++) {
        const SIZE_T before = crowd.count;

        crowd_fill_up(&crowd, BIG_PAGES, priorities[i] | MdlMappingNoExecute);
        EXPECT(crowd.count > before);
    }
    crowd_clear(&crowd);
    pinion_user_free(crowd.user);
}

/* Read-only mappings: without the verifier, others need no room of their own. */
static void map_or_stop(void *context HARNESS_UNUSED)
{
    static struct crowd crowd;

    boot("verifier=off");
    crowd.user = user_pages(BIG_PAGES, PAGE_READWRITE);
    crowd_fill_up(&crowd, BIG_PAGES, HIGH_NX | MdlMappingNoWrite);
    const PMDL mdl = locked_mdl(crowd.user, 2 * PAGE_SIZE);
    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, TRUE, HIGH_NX | MdlMappingNoWrite);
}

/* MmMapLockedPagesSpecifyCache-05 Bug_checks-08: without the verifier, BugCheckOnFailure TRUE stops with
   0x3F when there is no room: system PTEs, the pages asked for, those free, those there are. */
TEST_UNTIDY(mm_map, kernel_map__no_room_and_bug_check_on_failure__stops)
{
    const struct stop stop = expect_stop(map_or_stop, NULL, NO_MORE_SYSTEM_PTES, 0);

    EXPECT(stop.p[1] >= 2);
    EXPECT(stop.p[2] < 64);
    EXPECT(stop.p[3] > BIG_PAGES);
}

static void map_made_to_fail_or_stop(void *context HARNESS_UNUSED)
{
    boot("verifier=off");
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    pinion_fail("MmMapLockedPagesSpecifyCache", 1);
    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, TRUE, NORMAL_NX);
}

/* MmMapLockedPagesSpecifyCache-05: a failure on demand with BugCheckOnFailure TRUE stops in the same
   way. */
TEST_UNTIDY(mm_map, kernel_map__made_to_fail_and_bug_check_on_failure__stops)
{
    expect_stop(map_made_to_fail_or_stop, NULL, NO_MORE_SYSTEM_PTES, 0);
}
