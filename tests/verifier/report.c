/* SPDX-License-Identifier: MIT */
/* What a report says: in the shape of the debugger's !analyze, with the places where the mistake and its object were made. */

#include "harness.h"
#include <wdm.h>

#include "stories.h"

#include <stdlib.h>

APART static void free_it_too_early(PMDL mdl)
{
    IoFreeMdl(mdl);
    after = true;
}

static void freed_while_locked(void *context)
{
    const PMDL mdl = allocate_it(user_pages(2, PAGE_READWRITE));

    UNREFERENCED_PARAMETER(context);
    lock_it(mdl);
    free_it_too_early(mdl);
}

/* The report has the STOP line, the bug check's name, four arguments, three stacks in the order of events, and advice. */
TEST_UNTIDY(report, of_a_stop__names_the_mistake_and_the_life_of_its_mdl)
{
    const struct stop stop = run_until_stop(freed_while_locked, NULL);
    char argument[64];

    EXPECT_EQ(stop.code, DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS);
    EXPECT(strstr(stop.stderr_text, "DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS (cb)\n") != NULL);
    EXPECT(strstr(stop.stderr_text, "Arguments:\nArg1: ") != NULL);
    snprintf(argument, sizeof(argument), "Arg3: %016llx, MDL\n", (unsigned long long)stop.p[2]);
    EXPECT(strstr(stop.stderr_text, argument) != NULL);
    EXPECT(strstr(stop.stderr_text, "Arg4: 0000000000000002, locked pages\n") != NULL);
    EXPECT(names(stop.stderr_text, "done at", "free_it_too_early"));
    EXPECT(names(stop.stderr_text, "allocated at", "allocate_it"));
    EXPECT(names(stop.stderr_text, "locked at", "lock_it"));
    EXPECT(strstr(stop.stderr_text, "\nWhat to do: ") != NULL);
    EXPECT(strstr(stop.stderr_text, "\nMore: pinion explain 0xCB\n") != NULL);
}

static void hold_for_long(HARNESS_UNUSED void *context)
{
    LARGE_INTEGER interval = {.QuadPart = -10000 * 20};

    boot("lock-limit=5");

    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = allocate_it(va);

    lock_it(mdl);
    KeDelayExecutionThread(KernelMode, FALSE, &interval);
    unlock_and_free(mdl);
    pinion_user_free(va);
}

/* How long, how long would have been well, and who locked them. */
TEST_UNTIDY(report, of_pages_held_long__tells_the_time_and_who_locked_them)
{
    const struct stop stop = run_until_stop(hold_for_long, NULL);
    const char *const held = strstr(stop.stderr_text, "Held for ");

    EXPECT_EQ(stop_warnings(&stop, "lock-held-long"), 1);
    EXPECT(held != NULL && atoi(held + strlen("Held for ")) >= 20);
    EXPECT(strstr(held, " ms; the limit is 5 ms.\n") != NULL);
    EXPECT(names(stop.stderr_text, "locked at", "lock_it"));
}

static void unlock_twice(void *context)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    UNREFERENCED_PARAMETER(context);
    MmUnlockPages(mdl);
    MmUnlockPages(mdl);
}

/* Where the first argument is the kind of violation, the others have their own meanings. */
TEST_UNTIDY(report, of_a_violation__says_what_kind)
{
    const struct stop stop = run_until_stop(unlock_twice, NULL);

    EXPECT(strstr(stop.stderr_text, "Arg1: 000000000000007c, what kind of violation\nArg2: ") != NULL);
    EXPECT(strstr(stop.stderr_text, ", its MdlFlags\nArg4: 0000000000000000\n") != NULL);
    EXPECT(strstr(stop.stderr_text, "\nMore: pinion explain 0xC4/0x7C\n") != NULL);
}

MAY_FAULT static void touch_it(volatile UCHAR *va)
{
    (void)*va;
    after = true;
}

static void use_mapping_of_freed(void *context)
{
    UCHAR *const va = user_pages(1, PAGE_READWRITE);
    const PMDL source = locked_mdl(va, PAGE_SIZE), part = mdl_over(va, PAGE_SIZE);
    UCHAR *mapped;

    UNREFERENCED_PARAMETER(context);
    IoBuildPartialMdl(source, part, va, PAGE_SIZE);
    mapped = system_address(part);
    IoFreeMdl(part);
    touch_it(mapped);
}

/* A fault is told with the line that faulted, and the story of the MDL whose mapping was there. */
TEST_UNTIDY(report, of_a_fault__names_the_line_and_the_mapping_that_was_there)
{
    const struct stop stop = run_until_stop(use_mapping_of_freed, NULL);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT(strstr(stop.stderr_text, "\nArguments:\nArg1: ") != NULL);
    EXPECT(strstr(stop.stderr_text, ", 0: read, 2: write, 0x10: execute\nArg3: ") != NULL);
    EXPECT(strstr(stop.stderr_text, "\nWhat to do: ") != NULL);
    EXPECT(strstr(stop.stderr_text, "\nMore: pinion explain 0x50\n") != NULL);
    EXPECT(names(stop.stderr_text, "done at", "touch_it"));
    EXPECT(strstr(stop.stderr_text, ", which was freed:\n") != NULL);
    EXPECT(names(stop.stderr_text, "freed at", "use_mapping_of_freed"));
}

static void raise_unhandled(void *context)
{
    UNREFERENCED_PARAMETER(context);
    lock_it(mdl_over((PVOID)(ULONG_PTR)PAGE_SIZE, PAGE_SIZE));
}

/* An exception that nobody handled is told with the driver's line, not the library's. */
TEST_UNTIDY(report, of_an_unhandled_exception__names_the_drivers_line)
{
    const struct stop stop = run_until_stop(raise_unhandled, NULL);

    EXPECT_EQ(stop.code, KMODE_EXCEPTION_NOT_HANDLED);
    EXPECT(names(stop.stderr_text, "done at", "lock_it"));
}

static volatile SIZE_T too_many = PAGE_SIZE + 100;

APART static void fill_it(PVOID va)
{
    RtlFillMemory(va, too_many, 0x5A);
    after = true;
}

APART static void copy_it(PVOID va)
{
    static UCHAR source[2 * PAGE_SIZE];

    RtlCopyMemory(va, source, too_many);
    after = true;
}

static void overrun_mapping(void *context)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    ((void (*)(PVOID))context)(map_it(mdl));
}

APART static void call_it(PVOID code)
{
    ((void (*)(void))code)();
    after = true;
}

/* Data: the mapping is not executable. */
static void call_data(void *context)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    UNREFERENCED_PARAMETER(context);
    call_it(map_it(mdl));
}

/* Is the function the first of the stack "done at" that has a file of this name? */
static bool first_of_this_file(const char *text, const char *function)
{
    char frame[128];
    const char *stack = strstr(text, "done at"), *line = stack == NULL ? NULL : strstr(stack, "(report.c:");

    snprintf(frame, sizeof(frame), " %s (report.c:", function);
    return line != NULL && strstr(stack, frame) + strlen(function) + 2 == line;
}

/*
 * A routine of the C library has no frame of its own, and a call of what is no code never gets one: whoever called is in the report
 * all the same.
 */
TEST_UNTIDY(report, of_a_fault_in_the_c_library__names_the_caller)
{
    struct stop stop = run_until_stop(overrun_mapping, (void *)fill_it);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT(first_of_this_file(stop.stderr_text, "fill_it"));
    stop = run_until_stop(overrun_mapping, (void *)copy_it);
    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT(first_of_this_file(stop.stderr_text, "copy_it"));
}

TEST_UNTIDY(report, of_a_call_to_data__names_the_caller)
{
    const struct stop stop = run_until_stop(call_data, NULL);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT(first_of_this_file(stop.stderr_text, "call_it"));
}
