/* SPDX-License-Identifier: MIT */
/*
 * At the host's limit of mappings (vm.max_map_count): isolated pages that are locked between trimmed ones
 * use it up. What then needs one more is refused as its page says, and what brings pages back or frees them
 * still works.
 */

#include "../contract/support.h"

#include <stdio.h>

enum { PAGES = 80000, SMALL_PAGES = 100, MOST_MAPPINGS = 70000 };

static unsigned long mappings_allowed(void)
{
    FILE *const file = fopen("/proc/sys/vm/max_map_count", "r");
    unsigned long count = 0;

    if (file != NULL && fscanf(file, "%lu", &count) != 1)
        count = 0;
    if (file != NULL)
        fclose(file);
    return count;
}

struct fixture {
    UCHAR *small, *large;
    PMDL mdls[PAGES / 2];
};

static struct fixture f;

/* Some memory is away as a whole; of the rest every other page is locked, and as many others are away as the
   host can bear. */
static void reach_the_limit(void)
{
    if (mappings_allowed() == 0 || mappings_allowed() > MOST_MAPPINGS)
        SKIP("the host allows more mappings than this test makes");
    boot("ram=512M:verifier=off");
    f.small = user_pattern(SMALL_PAGES, 3);
    EXPECT_EQ(pinion_trim(), SMALL_PAGES);
    f.large = user_pages(PAGES, PAGE_READWRITE);
    for (SIZE_T i = 0; i < PAGES / 2; i++) {
        f.mdls[i] = mdl_over(f.large + 2 * i * PAGE_SIZE, PAGE_SIZE);
        MmProbeAndLockPages(f.mdls[i], UserMode, IoWriteAccess);
    }
    const SIZE_T trimmed = pinion_trim();
    EXPECT(trimmed > 10000 && trimmed < PAGES / 2);
}

static void leave(void)
{
    for (SIZE_T i = 0; i < PAGES / 2; i++)
        unlock_and_free(f.mdls[i]);
    pinion_user_free(f.large);
    pinion_user_free(f.small);
}

/* Pages that were trimmed before the limit was reached come back when they are touched, from the middle of a
   run too. */
TEST(host_limits, trimmed_pages__touched_at_the_limit__come_back)
{
    reach_the_limit();
    EXPECT_EQ(f.small[50 * PAGE_SIZE], pattern_byte(3, 50 * PAGE_SIZE));
    EXPECT_PATTERN(f.small, SMALL_PAGES * PAGE_SIZE, 3);
    for (SIZE_T i = 0; i < PAGES; i++)
        EXPECT_EQ(f.large[i * PAGE_SIZE], 0);
    leave();
}

/* Pages can be locked that are away, and unlocked, at the limit. */
TEST(host_limits, trimmed_pages__locked_at_the_limit__come_back)
{
    PMDL mdl;

    reach_the_limit();
    mdl = locked_mdl(f.small + 30 * PAGE_SIZE, PAGE_SIZE);
    EXPECT_EQ(f.small[30 * PAGE_SIZE], pattern_byte(3, 30 * PAGE_SIZE));
    unlock_and_free(mdl);
    leave();
}

/* A private mapping that the host cannot make is NULL; memory of one mapping is given back at the limit. */
TEST(host_limits, mapping_and_freeing__at_the_limit__refuse_or_work)
{
    UCHAR *va;

    reach_the_limit();
    va = MmMapLockedPagesSpecifyCache(f.mdls[0], KernelMode, MmCached, NULL, FALSE,
                                      NORMAL_NX | MdlMappingNoWrite);
    if (va != NULL)
        MmUnmapLockedPages(va, f.mdls[0]);
    pinion_user_free(f.small);
    f.small = NULL;
    EXPECT_EQ(counters_now().locked_pages, PAGES / 2);
    leave();
}

/* A mapping that was released costs the host nothing, so that any number of them can follow one another. */
TEST(host_limits, more_mappings_than_the_limit__one_after_another__never_fail)
{
    const unsigned long limit = mappings_allowed();
    UCHAR *va;

    if (limit == 0 || limit > MOST_MAPPINGS)
        SKIP("the host allows more mappings than this test makes");
    va = user_pages(1, PAGE_READWRITE);
    for (unsigned long i = 0; i < limit; i++) {
        const PMDL mdl = locked_mdl(va, PAGE_SIZE);

        system_address(mdl);
        unlock_and_free(mdl);
    }
    pinion_user_free(va);
}
