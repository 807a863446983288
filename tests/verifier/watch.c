/* SPDX-License-Identifier: MIT */
/* Findings and calls as data: what a program that watches is told, and failing the calls that it names. */

#include "harness.h"
#include <wdm.h>

#include "../contract/support.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A function that keeps its name and its frame. */
#ifdef __clang__
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noinline, noclone))
#endif

#define NOT_A_TAIL_CALL() __asm__ volatile("" ::: "memory")

APART static PMDL allocate_here(void)
{
    const PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

    NOT_A_TAIL_CALL();
    return mdl;
}

APART static void free_here(PMDL mdl)
{
    IoFreeMdl(mdl);
    NOT_A_TAIL_CALL();
}

/* ---- findings -------------------------------------------------------------------------------------------------- */

/* Print what is told in a form that a test can look for, each call stack by its innermost frame. */
static void print_finding(const struct pinion_finding *finding, void *context)
{
    fprintf(stderr, "%s id=%s bug_check=%s p1=%llx advice=%d what=%s\n", (const char *)context, finding->id,
            finding->bug_check == NULL ? "none" : finding->bug_check, (unsigned long long)finding->parameters[0],
            finding->advice[0] != '\0', finding->what);
    for (unsigned i = 0; i < finding->nstacks; i++) {
        struct pinion_place place;

        pinion_place_of(finding->stacks[i].frames[0], &place);
        fprintf(stderr, "%s %s: %s in %s\n", (const char *)context, finding->stacks[i].title, place.function,
                strrchr(place.file, '/') + 1);
    }
}

static char watched[] = "watched";

static void leak_one(void *context)
{
    UNREFERENCED_PARAMETER(context);
    pinion_watch_findings(print_finding, watched);
    boot("verifier=on");
    allocate_here();
    EXPECT_EQ(pinion_shutdown(), 1);
}

/* A warning is told with its name, its text, what to do, and the story of its object; once. */
TEST_UNTIDY(watch, findings__warning__is_told_with_its_story)
{
    const struct stop stop = run_until_stop(leak_one, NULL);
    const char *told = strstr(stop.stderr_text, "watched id=mdl-leak bug_check=none p1=0 advice=1 what=");

    EXPECT(!stop.stopped);
    EXPECT(told != NULL && strstr(told + 1, "watched id=") == NULL);
    EXPECT(strstr(told, "watched allocated at: allocate_here in watch.c\n") != NULL);
}

static void free_twice(void *context)
{
    PMDL mdl;

    UNREFERENCED_PARAMETER(context);
    pinion_watch_findings(print_finding, watched);
    boot("verifier=on");
    mdl = allocate_here();
    free_here(mdl);
    free_here(mdl);
}

/* A stop is told as the report names it, with the bug check's name, before the process ends. */
TEST_UNTIDY(watch, findings__stop__is_told_before_the_end)
{
    const struct stop stop = run_until_stop(free_twice, NULL);

    EXPECT(stop.stopped);
    EXPECT(strstr(stop.stderr_text, "watched id=0xCC bug_check=PAGE_FAULT_IN_FREED_SPECIAL_POOL p1=") != NULL);
    EXPECT(strstr(stop.stderr_text, "watched done at: free_here in watch.c\n") != NULL);
    EXPECT(strstr(stop.stderr_text, "watched freed at: free_here in watch.c\n") != NULL);
}

static void stop_without_verifier(void *context)
{
    UNREFERENCED_PARAMETER(context);
    pinion_watch_findings(print_finding, watched);
    boot("verifier=off");
    KeBugCheckEx(MANUALLY_INITIATED_CRASH, 1, 2, 3, 4);
}

/* Without the verifier there is no report, but what stopped and where is told. */
TEST_UNTIDY(watch, findings__stop_without_verifier__is_told)
{
    const struct stop stop = run_until_stop(stop_without_verifier, NULL);

    EXPECT_EQ(stop.code, MANUALLY_INITIATED_CRASH);
    EXPECT(strstr(stop.stderr_text, "watched id=0xE2 bug_check=MANUALLY_INITIATED_CRASH p1=1 ") != NULL);
    EXPECT(strstr(stop.stderr_text, "watched done at: stop_without_verifier in watch.c\n") != NULL);
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

enum { MOST_MET = 16 };

static struct met {
    unsigned n;
    uint64_t ids[MOST_MET];
    char     callers[MOST_MET][128];     /* innermost frame */
    char     routines[MOST_MET][64];
} met;

static void take_note(const struct pinion_call *call, void *context)
{
    struct met *list = context;
    struct pinion_place place;

    pinion_place_of(call->stack.frames[0], &place);
    snprintf(list->callers[list->n], sizeof(list->callers[0]), "%s", place.function);
    snprintf(list->routines[list->n], sizeof(list->routines[0]), "%s", call->routine);
    list->ids[list->n++] = call->id;
}

APART static bool try_one(void)
{
    const PMDL mdl = allocate_here();

    NOT_A_TAIL_CALL();
    if (mdl == NULL)
        return false;
    IoFreeMdl(mdl);
    return true;
}

static void try_in_body(void *context)
{
    *(bool *)context = try_one();
}

APART static bool try_apart(void)
{
    const bool got = try_one();

    NOT_A_TAIL_CALL();
    return got;
}

/* Two calls of different routines from one place, the first also from another place: three in all, however often each is made. */
static void make_calls(void)
{
    volatile unsigned rounds = 3;

    for (unsigned i = 0; i < rounds; i++) {
        const PVOID pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, TEST_TAG);

        if (pool != NULL)
            ExFreePoolWithTag(pool, TEST_TAG);
        try_one();
        try_apart();
    }
}

/* Driver_Verifier_low_resources_simulation-04: each distinct call stack is told once, in the order in which they are met. */
TEST(watch, calls__made_again_and_again__are_told_once)
{
    boot("verifier=on");
    pinion_watch_calls(take_note, &met);
    make_calls();
    EXPECT_EQ(met.n, 3);
    EXPECT(strcmp(met.routines[0], "ExAllocatePool2") == 0 && strcmp(met.routines[1], "IoAllocateMdl") == 0);
    EXPECT(strcmp(met.callers[1], "allocate_here") == 0 && strcmp(met.callers[2], "allocate_here") == 0);
    EXPECT_NE(met.ids[1], met.ids[2]);
    make_calls();
    EXPECT_EQ(met.n, 6);                /* make_calls was called from another place */
    pinion_watch_calls(NULL, NULL);
    try_apart();
    EXPECT_EQ(met.n, 6);
}

static void make_calls_in_body(void *context)
{
    UNREFERENCED_PARAMETER(context);
    make_calls();
}

/* Frames beyond the routine that the system called are not the driver's, and do not tell calls apart. */
TEST(watch, calls__system_called_the_driver__begin_there)
{
    boot("verifier=on");
    pinion_watch_calls(take_note, &met);
    EXPECT_STATUS(pinion_try(make_calls_in_body, NULL), STATUS_SUCCESS);
    EXPECT_EQ(met.n, 3);
    EXPECT_STATUS(pinion_try(make_calls_in_body, NULL), STATUS_SUCCESS);
    EXPECT_EQ(met.n, 3);
    pinion_watch_calls(NULL, NULL);
}

static void meet_in_body(void)
{
    pinion_watch_calls(take_note, &met);
    pinion_try(make_calls_in_body, NULL);
}

/* Driver_Verifier_low_resources_simulation-04: the same call has the same id in another process. */
TEST(watch, calls__in_another_process__have_the_same_ids)
{
    uint64_t ids[3];
    int fds[2], status;
    pid_t child;

    EXPECT_EQ(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        boot("verifier=off:layout=linear");
        meet_in_body();
        _exit(write(fds[1], met.ids, sizeof(ids)) == sizeof(ids) ? 0 : 1);
    }
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(read(fds[0], ids, sizeof(ids)), sizeof(ids));
    boot("verifier=on");
    meet_in_body();
    EXPECT_EQ(met.n, 3);
    EXPECT_MEM_EQ(met.ids, ids, sizeof(ids));
    pinion_watch_calls(NULL, NULL);
}

/* A named call fails the first time that it is made, and no other one does. */
TEST(watch, fail_calls__named__fails_once)
{
    struct pinion_totals totals;
    bool got;

    boot("verifier=on");
    pinion_watch_calls(take_note, &met);
    EXPECT_STATUS(pinion_try(try_in_body, &got), STATUS_SUCCESS);
    EXPECT(got);
    pinion_fail_calls(met.ids, 1);
    EXPECT(try_apart());
    pinion_try(try_in_body, &got);
    EXPECT(!got);
    pinion_try(try_in_body, &got);
    EXPECT(got);
    pinion_totals(&totals);
    EXPECT_EQ(totals.injected_failures, 1);
    pinion_watch_calls(NULL, NULL);
}

/* A later order replaces the earlier one, several calls may be named, and the next machine knows of none. */
TEST(watch, fail_calls__again__replaces)
{
    uint64_t ids[2];
    bool got;

    boot("verifier=on");
    meet_in_body();
    pinion_try(try_in_body, &got);
    EXPECT_EQ(met.n, 4);
    ids[0] = met.ids[3];
    ids[1] = 12345;
    pinion_fail_calls(ids, 2);
    pinion_fail_calls(NULL, 0);
    pinion_try(try_in_body, &got);
    EXPECT(got);
    pinion_fail_calls(ids, 2);
    EXPECT_EQ(pinion_shutdown(), 0);
    boot("verifier=on");
    pinion_try(try_in_body, &got);
    EXPECT(got);
    pinion_watch_calls(NULL, NULL);
}
