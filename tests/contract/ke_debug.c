/* SPDX-License-Identifier: MIT */
/* Debug output as a driver makes it: DbgPrint and its kin succeed at any IRQL and write to stderr; checked
   builds assert. */

#define DBG 1

#include "support.h"
#include "debug_output.h"

#include <string.h>

static void print_at_each_level(void *context)
{
    UNREFERENCED_PARAMETER(context);
    for (KIRQL level = PASSIVE_LEVEL; level <= HIGH_LEVEL; level++) {
        raise_irql(level);
        EXPECT_STATUS(DbgPrint("at %d\n", level), STATUS_SUCCESS);
        EXPECT_STATUS(DbgPrintEx(DPFLTR_IHVDRIVER_ID, DPFLTR_INFO_LEVEL, "ex %d\n", level), STATUS_SUCCESS);
        EXPECT_STATUS(print_by_list("list %d\n", level), STATUS_SUCCESS);
        KeLowerIrql(PASSIVE_LEVEL);
    }
}

/* Printing is allowed at any IRQL, gives STATUS_SUCCESS, and each call's text comes out in order. */
TEST_UNTIDY(ke_debug, print__at_each_irql__succeeds)
{
    const struct stop stop = run_until_stop(print_at_each_level, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_MEM_EQ(stop.stderr_text, "at 0\nex 0\nlist 0\nat 1\n", 22);
    EXPECT(strstr(stop.stderr_text, "list 14\nat 15\nex 15\nlist 15\n") != NULL);
}

static void print_by_macros(void *context)
{
    UNICODE_STRING counted = {4, 6, (PWCH)(ULONG_PTR)L"ab"};

    UNREFERENCED_PARAMETER(context);
    KdPrint(("kd %ws %d\n", L"wide", 1));
    KdPrintEx((DPFLTR_IHVDRIVER_ID, DPFLTR_ERROR_LEVEL, "kdex %wZ\n", &counted));
}

/* KdPrint prints in checked builds. */
TEST_UNTIDY(ke_debug, kd_print__checked_build__prints)
{
    EXPECT_MEM_EQ(run_until_stop(print_by_macros, NULL).stderr_text, "kd wide 1\nkdex ab\n", 19);
}

static void assert_true(void *context)
{
    UNREFERENCED_PARAMETER(context);
    ASSERT(1 + 1 == 2);
    NT_ASSERT(context == NULL);
}

static void assert_false(void *context)
{
    ASSERT(context != NULL);
}

/* An assertion that holds does nothing; one that does not raises STATUS_ASSERTION_FAILURE. */
TEST(ke_debug, assert__checked_build__raises_when_it_fails)
{
    EXPECT_RAISES(STATUS_SUCCESS, assert_true, NULL);
    EXPECT_RAISES(STATUS_ASSERTION_FAILURE, assert_false, NULL);
    EXPECT_RAISES(STATUS_SUCCESS, assert_false, &(int){0});
}

/* An assertion that fails and that nobody catches stops the machine. */
STOP_TEST_ANY_P1(ke_debug, assert__fails_uncaught__stops_with_0x1e, KMODE_EXCEPTION_NOT_HANDLED)
{
    assert_false(NULL);
}
