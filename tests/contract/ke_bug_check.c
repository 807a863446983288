/* SPDX-License-Identifier: MIT */
/* KeBugCheckEx: the STOP line, letter by letter, and how the process ends. */

#include "support.h"
#include "threads.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct bug_check {
    ULONG code;
    ULONG_PTR p[4];
};

static void stop_ex(void *context)
{
    const struct bug_check *const b = context;

    KeBugCheckEx(b->code, b->p[0], b->p[1], b->p[2], b->p[3]);
}

/* The first line on stderr has the code in eight digits, four parameters in hexadecimal and the name; then
   comes SIGABRT. */
TEST_UNTIDY(ke_bug_check, ex__any_parameters__prints_the_stop_line_first)
{
    static const struct {
        struct bug_check b;
        const char *line;
    } rows[] = {
        {{MANUALLY_INITIATED_CRASH, {0, 1, 0xABCDEF, 0xFFFFFFFFFFFFFFFF}},
         "*** STOP: 0x000000E2 (0x0, 0x1, 0xABCDEF, 0xFFFFFFFFFFFFFFFF) MANUALLY_INITIATED_CRASH\n"},
        {{INVALID_MDL_RANGE, {0x8000000000000000, 2, 3, 4}},
         "*** STOP: 0x0000012E (0x8000000000000000, 0x2, 0x3, 0x4) INVALID_MDL_RANGE\n"},
        {{0xDEADBEEF, {1, 2, 3, 4}}, "*** STOP: 0xDEADBEEF (0x1, 0x2, 0x3, 0x4) "},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bug_check b = rows[i].b;
        const struct stop stop = run_until_stop(stop_ex, &b);

        EXPECT_MEM_EQ(stop.stderr_text, rows[i].line, strlen(rows[i].line));
        EXPECT_EQ(stop.exit_status, -SIGABRT);
    }
}

static void stop_plain(void *context)
{
    UNREFERENCED_PARAMETER(context);
    KeBugCheck(MEMORY_MANAGEMENT);
}

/* KeBugCheck has no parameters: all four are zero. */
TEST_UNTIDY(ke_bug_check, plain__any_code__has_zero_parameters)
{
    static const char line[] = "*** STOP: 0x0000001A (0x0, 0x0, 0x0, 0x0) MEMORY_MANAGEMENT\n";
    const struct stop stop = run_until_stop(stop_plain, NULL);

    EXPECT_MEM_EQ(stop.stderr_text, line, sizeof(line) - 1);
    EXPECT_EQ(stop.exit_status, -SIGABRT);
}

/* Every code that the headers define has its name in the STOP line. */
TEST_UNTIDY(ke_bug_check, names__of_defined_codes__are_printed)
{
#define NAMED(code)                                                                                          \
    {                                                                                                        \
        code, #code                                                                                          \
    }
    static const struct {
        ULONG code;
        const char *name;
    } rows[] = {
        NAMED(IRQL_NOT_GREATER_OR_EQUAL),
        NAMED(IRQL_NOT_LESS_OR_EQUAL),
        NAMED(MAXIMUM_WAIT_OBJECTS_EXCEEDED),
        NAMED(MEMORY_MANAGEMENT),
        NAMED(KMODE_EXCEPTION_NOT_HANDLED),
        NAMED(NO_MORE_SYSTEM_PTES),
        NAMED(TARGET_MDL_TOO_SMALL),
        NAMED(MULTIPLE_IRP_COMPLETE_REQUESTS),
        NAMED(PFN_LIST_CORRUPT),
        NAMED(PAGE_FAULT_IN_NONPAGED_AREA),
        NAMED(PROCESS_HAS_LOCKED_PAGES),
        NAMED(ATTEMPTED_WRITE_TO_READONLY_MEMORY),
        NAMED(BAD_POOL_CALLER),
        NAMED(DRIVER_VERIFIER_DETECTED_VIOLATION),
        NAMED(DRIVER_VERIFIER_IOMANAGER_VIOLATION),
        NAMED(DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS),
        NAMED(PAGE_FAULT_IN_FREED_SPECIAL_POOL),
        NAMED(DRIVER_IRQL_NOT_LESS_OR_EQUAL),
        NAMED(SYSTEM_PTE_MISUSE),
        NAMED(DRIVER_VERIFIER_DMA_VIOLATION),
        NAMED(INVALID_MDL_RANGE),
        NAMED(DMA_COMMON_BUFFER_VECTOR_ERROR),
    };
#undef NAMED

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bug_check b = {rows[i].code, {0}};
        const struct stop stop = run_until_stop(stop_ex, &b);

        EXPECT_MEM_EQ(stop.name, rows[i].name, strlen(rows[i].name) + 1);
    }
}

static void print_and_stop(void *context)
{
    UNREFERENCED_PARAMETER(context);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    printf("what was said before\n");
    KeBugCheck(MEMORY_MANAGEMENT);
}

/* What the program had printed is not lost: it comes out before the end, and behind the STOP line. */
TEST_UNTIDY(ke_bug_check, stdout__buffered__is_flushed_behind_the_stop_line)
{
    const struct stop stop = run_until_stop(print_and_stop, NULL);

    EXPECT(stop.stopped);
    EXPECT_MEM_EQ(stop.stderr_text, "*** STOP: ", 10);
    EXPECT(strstr(stop.stderr_text, "\nwhat was said before\n") != NULL);
}

enum { THREADS = 8 };

static pthread_barrier_t together;

static void stop_together(void *context)
{
    pthread_barrier_wait(&together);
    stop_ex(context);
}

static void stop_on_all_threads(void *context)
{
    struct bug_check checks[THREADS];

    UNREFERENCED_PARAMETER(context);
    pthread_barrier_init(&together, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        checks[i] = (struct bug_check){MANUALLY_INITIATED_CRASH, {i, i, i, i}};
    run_on_threads(stop_together, checks, sizeof(checks[0]), THREADS);
}

/* When several threads stop the machine at once, one of them does: there is one STOP line and it is whole. */
TEST_UNTIDY(ke_bug_check, several_threads__at_once__print_one_line)
{
    for (int round = 0; round < 5; round++) {
        const struct stop stop = run_until_stop(stop_on_all_threads, NULL);

        EXPECT(stop.stopped);
        EXPECT_EQ(stop.p[0], stop.p[3]);
        EXPECT_PTR_EQ(strstr(strstr(stop.stderr_text, "STOP") + 1, "STOP"), NULL);
    }
}
