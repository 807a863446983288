/* SPDX-License-Identifier: MIT */
/* What a driver leaves behind is told at the end: how often, how fast, and with what advice. */

#include "harness.h"
#include <wdm.h>

#include "stories.h"

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
    EXPECT_EQ(pinion_shutdown(), 6);
}

/* IoAllocateMdl-33: of leaks with the same call stacks a few are told, and how many more there are; another place is told by itself. */
TEST_UNTIDY(leaks, many_mdls_of_one_place__some_are_told_and_the_rest_counted)
{
    const struct stop stop = run_until_stop(leak_from_two_places, NULL);
    const char *const rest = strstr(stop.stderr_text, "and so it is with 2996 MDLs more");

    EXPECT_EQ(stop_warnings(&stop, "mdl-leak"), 6);
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
