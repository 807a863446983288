/* SPDX-License-Identifier: MIT */
/* What a driver leaves behind is told at the end: how often, how fast, and with what advice. */

#include "harness.h"
#include <wdm.h>

#include "stories.h"

#include "../contract/dma_support.h"

enum { MANY = 3000 };

/* Is there a stack of this title whose innermost frame is in the function, behind `from`? */
static bool tells(const char *from, const char *title, const char *function)
{
    char expected[128];

    snprintf(expected, sizeof(expected), "    %s\n        #0 %s (", title, function);
    return from != NULL && strstr(from, expected) != NULL;
}

APART static PMDL allocate_another(void)
{
    const PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

    after = true;
    return mdl;
}

static void leak_from_two_places(HARNESS_UNUSED void *context)
{
    for (int i = 0; i < MANY; i++)
        allocate_it(NULL);
    allocate_another();
    EXPECT_EQ(pinion_shutdown(), MANY + 1);
}

/* IoAllocateMdl-33: of leaks with the same call stacks a few are told, and how many more there are; another place is told by itself. */
TEST_UNTIDY(leaks, many_mdls_of_one_place__some_are_told_and_the_rest_counted)
{
    const struct stop stop = run_until_stop(leak_from_two_places, NULL);
    const char *const rest = strstr(stop.stderr_text, "and so it is with 2984 MDLs more");

    EXPECT_EQ(stop_warnings(&stop, "mdl-leak"), 16 + 1 + 1);
    EXPECT(tells(rest, "allocated at", "allocate_it"));
    EXPECT(tells(stop.stderr_text, "allocated at", "allocate_another"));
}

static void leak_few(HARNESS_UNUSED void *context)
{
    for (int i = 0; i < 4; i++)
        allocate_it(NULL);
    EXPECT_EQ(pinion_shutdown(), 4);
}

/* There is no talk of a rest that there is not. */
TEST_UNTIDY(leaks, few_mdls_of_one_place__each_is_told)
{
    const struct stop stop = run_until_stop(leak_few, NULL);

    EXPECT_EQ(stop_warnings(&stop, "mdl-leak"), 4);
    EXPECT(strstr(stop.stderr_text, " more") == NULL);
}

/* ---- whose leak it is -------------------------------------------------------------------------------------------- */

static void leak_list_with_mdl(HARNESS_UNUSED void *context)
{
    const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION2, 24, TRUE, 65536));
    const PMDL mdl = locked_mdl(user_pages(2, PAGE_READWRITE), 2 * PAGE_SIZE);
    const PSCATTER_GATHER_LIST list = get_list(adapter, mdl, 0, 2 * PAGE_SIZE, TRUE);
    PMDL target = mdl;

    EXPECT_STATUS(adapter->DmaOperations->BuildMdlFromScatterGatherList(adapter, list, mdl, &target), STATUS_SUCCESS);
    EXPECT(target != mdl);
    unlock_and_free(mdl);
    pinion_shutdown();
}

/* BuildMdlFromScatterGatherList-22: the MDL behind a list is not the driver's to free, so that only the list has leaked. */
TEST_UNTIDY(leaks, list_with_an_mdl_of_its_own__is_told_alone)
{
    const struct stop stop = run_until_stop(leak_list_with_mdl, NULL);

    EXPECT_EQ(stop_warnings(&stop, "dma-list-leak"), 1);
    EXPECT_EQ(stop_warnings(&stop, "mdl-leak"), 0);
}

static void use_after_put(HARNESS_UNUSED void *context)
{
    const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION2, 24, TRUE, 65536));
    const PMDL mdl = locked_mdl(user_pages(2, PAGE_READWRITE), 2 * PAGE_SIZE);
    const PSCATTER_GATHER_LIST list = get_list(adapter, mdl, 0, 2 * PAGE_SIZE, TRUE);
    PMDL target = mdl;

    adapter->DmaOperations->BuildMdlFromScatterGatherList(adapter, list, mdl, &target);
    put_list(adapter, list, TRUE);
    IoFreeMdl(target);
}

/* What the library did inside is in no story: it begins where the driver called. */
TEST_UNTIDY(leaks, mdl_that_the_system_freed__tells_where_the_driver_called)
{
    const struct stop stop = run_until_stop(use_after_put, NULL);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_FREED_SPECIAL_POOL);
    EXPECT(strstr(stop.stderr_text, "(sglist.c:") == NULL);
    EXPECT(strstr(stop.stderr_text, "(buildmdl.c:") == NULL);
    EXPECT(strstr(stop.stderr_text, "    allocated at\n        #0 use_after_put (leaks.c:") != NULL);
}
