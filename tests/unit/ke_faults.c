/* SPDX-License-Identifier: MIT */
/* Failures on demand, the machinery: which call fails, once or in a period, and that routines do not disturb
   each other. */

#include "harness.h"

#include "ke/ke.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const names[] = {
#define NAME(name) #name,
    KE_FALLIBLE_ROUTINES(NAME)
#undef NAME
};

/* A letter for each of n calls: F fails, - does not. */
static void call(enum ke_fallible routine, unsigned n, char *text)
{
    for (unsigned i = 0; i < n; i++)
        text[i] = ke_fails(routine) ? 'F' : '-';
    text[n] = '\0';
}

static void expect_calls(enum ke_fallible routine, const char *expected)
{
    char text[64];

    call(routine, (unsigned)strlen(expected), text);
    EXPECT_MEM_EQ(text, expected, strlen(expected) + 1);
}

/* Every fallible routine can be named, its nth call fails, and the calls around it do not. */
TEST(ke_faults, fail__each_routine__only_its_nth_call_fails)
{
    EXPECT_EQ(sizeof(names) / sizeof(names[0]), KE_FALLIBLE_COUNT);
    for (int i = 0; i < KE_FALLIBLE_COUNT; i++) {
        pinion_fail(names[i], 3);
        expect_calls((enum ke_fallible)((i + 1) % KE_FALLIBLE_COUNT), "-----");
        expect_calls((enum ke_fallible)i, "--F-----");
        EXPECT_EQ(atomic_load(&ke_failures_armed), 0);
    }
}

/* The list of fallible routines is in order and names none twice. */
TEST(ke_faults, names__each__is_after_the_one_before)
{
    for (size_t i = 1; i < sizeof(names) / sizeof(names[0]); i++)
        EXPECT(strcmp(names[i - 1], names[i]) < 0);
}

/* Does a test name the routine, in quotes where it makes it fail or in the table of host_failures.c? */
static bool is_tested(const char *name)
{
    const char *const file = strrchr(__FILE__, '/');
    char command[1200];

    snprintf(command, sizeof(command), "cd '%.*s/..' && grep -rqE '\"%s\"|CALL\\(%s\\)' contract faults",
             (int)(file - __FILE__), __FILE__, name, name);
    return system(command) == 0;
}

/* Every fallible routine has a test that makes it fail. */
TEST(ke_faults, names__each__is_made_to_fail_by_some_test)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!is_tested(names[i]))
            harness_fail(HARNESS_HERE, "no test in tests/contract or tests/faults makes %s fail", names[i]);
    EXPECT(!is_tested("NtSuspendTime"));
}

/* A later call of pinion_fail replaces the earlier one, and 0 takes it back. */
TEST(ke_faults, fail__again_or_zero__replaces)
{
    pinion_fail("IoAllocateMdl", 2);
    pinion_fail("IoAllocateMdl", 4);
    expect_calls(KE_FALLIBLE_IoAllocateMdl, "---F--");
    pinion_fail("IoAllocateMdl", 1);
    pinion_fail("IoAllocateMdl", 0);
    expect_calls(KE_FALLIBLE_IoAllocateMdl, "----");
    EXPECT_EQ(atomic_load(&ke_failures_armed), 0);
}

/* Each call whose number is a multiple of the period fails, until the period is taken back. */
TEST(ke_faults, fail_every__period__fails_in_rhythm)
{
    pinion_fail_every("IoAllocateMdl", 3);
    expect_calls(KE_FALLIBLE_IoAllocateMdl, "--F--F--F-");
    pinion_fail_every("IoAllocateMdl", 1);
    expect_calls(KE_FALLIBLE_IoAllocateMdl, "FFF");
    pinion_fail_every("IoAllocateMdl", 2);
    expect_calls(KE_FALLIBLE_IoAllocateMdl, "-F-");
    pinion_fail_every("IoAllocateMdl", 0);
    expect_calls(KE_FALLIBLE_IoAllocateMdl, "------");
}

/* Both kinds of order may stand for one routine at a time. */
TEST(ke_faults, fail_and_fail_every__together__both_count)
{
    pinion_fail_every("IoAllocateMdl", 4);
    pinion_fail("IoAllocateMdl", 3);
    expect_calls(KE_FALLIBLE_IoAllocateMdl, "--FF---F");
    pinion_fail_every("IoAllocateMdl", 0);
}

/* Failures are counted, and those that were ordered of an earlier machine are forgotten by the next. */
TEST(ke_faults, shutdown__orders_left__do_not_outlive_the_machine)
{
    struct pinion_totals totals;

    pinion_fail_every("IoAllocateMdl", 2);
    expect_calls(KE_FALLIBLE_IoAllocateMdl, "-F-F");
    pinion_totals(&totals);
    EXPECT_EQ(totals.injected_failures, 2);
    EXPECT_EQ(pinion_shutdown(), 0);
    EXPECT_EQ(pinion_boot("ram=16M"), 0);
    pinion_totals(&totals);
    EXPECT_EQ(totals.injected_failures, 0);
    expect_calls(KE_FALLIBLE_IoAllocateMdl, "----");
}

/* The end of a child that calls pinion_fail with this name: its exit code, and the first line that it wrote. */
static int end_of_child(const char *name, char *text, size_t bytes)
{
    int fds[2], status;
    pid_t child;

    EXPECT_EQ(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        dup2(fds[1], STDERR_FILENO);
        pinion_fail(name, 1);
        _exit(0);
    }
    close(fds[1]);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    text[read(fds[0], text, bytes - 1)] = '\0';
    text[strcspn(text, "\n")] = '\0';
    close(fds[0]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A name that is none of them is a mistake in the test itself: one line that names it, and exit code 2. */
TEST(ke_faults, fail__unknown_name__ends_with_a_line)
{
    char text[512];

    EXPECT_EQ(end_of_child("IoFreeMdl", text, sizeof(text)), 2);
    EXPECT_MEM_EQ(text, "pinion: pinion_fail: ", 21);
    EXPECT(strstr(text, "'IoFreeMdl'") != NULL);
    EXPECT_EQ(end_of_child(NULL, text, sizeof(text)), 2);
    EXPECT_EQ(end_of_child("", text, sizeof(text)), 2);
    EXPECT_EQ(end_of_child("ioallocatemdl", text, sizeof(text)), 2);
}
