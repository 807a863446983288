/* SPDX-License-Identifier: MIT */
/*
 * MDLs in special pool (verifier flag 0x1): where they stand, which of them do, and what is told of those that are touched
 * too late or too far. The rules have their twins in rules_special.c.
 */

#include "harness.h"
#include <wdm.h>

#include "../contract/partial.h"
#include "stories.h"

#include <string.h>

/* Driver_Verifier_special_pool-01: the last page number ends the page, as far as the alignment of pool lets it. */
SILENT_TEST(special_mdl, mdl__of_up_to_a_page__ends_its_page)
{
    static const SIZE_T counts[] = {1, 2, 3, 8, 64, 65, 255, 256, 257, 505, 506};

    for (SIZE_T i = 0; i < ARRAYSIZE(counts); i++) {
        const PMDL mdl = mdl_over(NULL, counts[i] * PAGE_SIZE);
        UCHAR *const end = (UCHAR *)(MmGetMdlPfnArray(mdl) + counts[i]);

        EXPECT_EQ((ULONG_PTR)mdl % 16, 0);
        EXPECT_EQ(PAGE_ALIGN(mdl), PAGE_ALIGN(end - 1));
        EXPECT_EQ(BYTE_OFFSET(end + counts[i] % 2 * sizeof(PFN_NUMBER)), 0);
        EXPECT(!MmIsAddressValid(PAGE_ALIGN(end + 15)));
        IoFreeMdl(mdl);
        EXPECT(!MmIsAddressValid(mdl));
    }
}

/* It locks, maps, splits and advances as any other does; so does one that is too large for a page. */
SILENT_TEST(special_mdl, mdl__of_any_size__works)
{
    static const SIZE_T counts[] = {1, 7, 506, 507, 600};

    for (SIZE_T i = 0; i < ARRAYSIZE(counts); i++) {
        UCHAR *const va = user_pattern(counts[i], 3);
        const PMDL mdl = locked_mdl(va, counts[i] * PAGE_SIZE), part = part_of(mdl, va + 5, 100);

        EXPECT_PATTERN(system_address(mdl), counts[i] * PAGE_SIZE, 3);
        EXPECT_PATTERN_AT(system_address(part), 100, 3, 5);
        IoFreeMdl(part);
        MmUnlockPages(mdl);
        EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
        EXPECT_STATUS(MmAdvanceMdl(mdl, 100), STATUS_SUCCESS);
        unlock_and_free(mdl);
        pinion_user_free(va);
    }
}

static ULONG_PTR end_of(PMDL mdl)
{
    return (ULONG_PTR)(MmGetMdlPfnArray(mdl) + 2);
}

/* It stands elsewhere without the flag, and before Windows 7. */
TEST(special_mdl, mdl__not_asked_for__is_ordinary)
{
    static const char *const options[] = {"verifier=0x9B8", "verifier=off", "windows=vista"};

    for (SIZE_T i = 0; i < ARRAYSIZE(options); i++) {
        boot(options[i]);
        const PMDL mdl = mdl_over(NULL, 2 * PAGE_SIZE);

        EXPECT_NE(BYTE_OFFSET(end_of(mdl)), 0);
        IoFreeMdl(mdl);
        EXPECT(MmIsAddressValid(mdl));
        pinion_shutdown();
    }
}

enum { FIRST = 64, THEN_EACH = 64, MANY = FIRST + 10 * THEN_EACH };

/* A call site that makes thousands of MDLs pays for a page of its own once in a while. */
TEST(special_mdl, many_of_one_site__are_special_at_first_and_then_now_and_again)
{
    unsigned special = 0;

    for (unsigned i = 0; i < MANY; i++) {
        const PMDL mdl = mdl_over(NULL, 2 * PAGE_SIZE);

        special += BYTE_OFFSET(end_of(mdl)) == 0;
        EXPECT(i >= FIRST || special == i + 1);
        IoFreeMdl(mdl);
    }
    EXPECT_EQ(special, FIRST + 10);
}

/* An address is as old as can be when it is used again, so that a late access meets no other MDL. */
TEST(special_mdl, address__of_a_freed_mdl__is_not_used_again_soon)
{
    const PMDL first = mdl_over(NULL, PAGE_SIZE);

    IoFreeMdl(first);
    for (unsigned i = 0; i < 4000 * THEN_EACH; i++) {
        const PMDL mdl = mdl_over(NULL, PAGE_SIZE);

        EXPECT_NE(mdl, first);
        IoFreeMdl(mdl);
    }
    EXPECT(!MmIsAddressValid(first));
}

/* ---- stops ------------------------------------------------------------------------------------------------------ */

struct access {
    bool free_first;
    LONG off;                           /* from the guard behind the MDL */
};

static void touch_beside(void *context)
{
    const struct access *const access = context;
    const PMDL mdl = mdl_over(NULL, 2 * PAGE_SIZE);
    UCHAR *const guard = (UCHAR *)end_of(mdl);

    if (access->free_first)
        IoFreeMdl(mdl);
    touch_load(guard + access->off);
}

/* Driver_Verifier_special_pool-01: behind it, in front of its page, freed. */
TEST_UNTIDY(special_mdl, access__outside_the_mdl__stops)
{
    static const struct {
        struct access access;
        uint32_t      code;
    } cases[] = {
        {{false, 0}, 0xCD}, {{false, PAGE_SIZE - 1}, 0xCD}, {{true, -1}, 0xCC}, {{true, -PAGE_SIZE}, 0xCC}, {{true, 0}, 0xCC},
    };

    for (SIZE_T i = 0; i < ARRAYSIZE(cases); i++) {
        struct access access = cases[i].access;
        const struct stop stop = run_until_stop(touch_beside, &access);

        EXPECT(stop.stopped);
        EXPECT_EQ(stop.code, cases[i].code);
        EXPECT_EQ(stop.p[1], 0);
    }
}

static void touch_in_front(HARNESS_UNUSED void *context)
{
    mdl_over(NULL, PAGE_SIZE);
    touch_store((UCHAR *)PAGE_ALIGN(mdl_over(NULL, PAGE_SIZE)) - 1);
}

TEST_UNTIDY(special_mdl, access__in_front_of_its_page__stops)
{
    EXPECT_EQ(run_until_stop(touch_in_front, NULL).code, 0xCD);
}

static void damage_in_front(void *context)
{
    const PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    *(PMDL *)context = mdl;
    ((UCHAR *)mdl)[-20] ^= 1;
    IoFreeMdl(mdl);
}

/* Driver_Verifier_special_pool-01: damage in front of it is 0xC1 when it is freed. */
TEST_UNTIDY(special_mdl, damage__in_front__stops_at_the_free)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(damage_in_front, words);

    EXPECT_EQ(stop.code, 0xC1);
    EXPECT_EQ(stop.p[0], words[0]);
    EXPECT_EQ(stop.p[1], words[0] - 20);
    EXPECT_EQ(stop.p[3], 0x23);
}

APART static PMDL make_it(void)
{
    const PMDL mdl = mdl_over(NULL, PAGE_SIZE);

    after = true;
    return mdl;
}

APART static void free_it(PMDL mdl)
{
    IoFreeMdl(mdl);
    after = true;
}

static void touch_what_is_freed(HARNESS_UNUSED void *context)
{
    const PMDL mdl = make_it();

    free_it(mdl);
    touch_load(&mdl->MappedSystemVa);
}

/* The story is the MDL's: who made it, who freed it, and who touches it now. */
TEST_UNTIDY(special_mdl, report__of_a_late_access__tells_the_life_of_the_mdl)
{
    const struct stop stop = run_until_stop(touch_what_is_freed, NULL);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_FREED_SPECIAL_POOL);
    EXPECT(names(stop.stderr_text, "done at", "touch_load"));
    EXPECT(names(stop.stderr_text, "allocated at", "make_it"));
    EXPECT(names(stop.stderr_text, "freed at", "free_it"));
}

static bool survived;

static void touch_in_try(HARNESS_UNUSED void *context)
{
    touch_what_is_freed(NULL);
}

static void touch_under_handler(HARNESS_UNUSED void *context)
{
    pinion_try(touch_in_try, NULL);
    survived = true;
}

/* It is no exception that a driver could handle. */
TEST_UNTIDY(special_mdl, late_access__under_a_handler__stops_all_the_same)
{
    EXPECT_EQ(run_until_stop(touch_under_handler, NULL).code, PAGE_FAULT_IN_FREED_SPECIAL_POOL);
    EXPECT(!survived);
}
