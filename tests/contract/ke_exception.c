/* SPDX-License-Identifier: MIT */
/* Exceptions: what ExRaiseStatus and its kin raise, who catches it, what a bad access becomes, and what
   nobody catches. */

#include "support.h"
#include "threads.h"

#include <signal.h>

static void raise_status(void *context)
{
    ExRaiseStatus(*(const NTSTATUS *)context);
}

static void raise_access_violation(void *context)
{
    UNREFERENCED_PARAMETER(context);
    ExRaiseAccessViolation();
}

static void raise_misalignment(void *context)
{
    UNREFERENCED_PARAMETER(context);
    ExRaiseDatatypeMisalignment();
}

static void raise_nothing(void *context)
{
    ++*(int *)context;
}

/* Each of the three raises its status. */
TEST(ke_exception, raise__each_routine__is_its_status)
{
    static const NTSTATUS statuses[] = {STATUS_INSUFFICIENT_RESOURCES, STATUS_ACCESS_VIOLATION,
                                        STATUS_GUARD_PAGE_VIOLATION, (NTSTATUS)0xE0001234, 1};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        EXPECT_RAISES(statuses[i], raise_status, (void *)&statuses[i]);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, raise_access_violation, NULL);
    EXPECT_RAISES(STATUS_DATATYPE_MISALIGNMENT, raise_misalignment, NULL);
}

/* A body that raises nothing runs to its end and gives STATUS_SUCCESS. */
TEST(ke_exception, try__nothing_raised__is_success)
{
    int runs = 0;

    EXPECT_RAISES(STATUS_SUCCESS, raise_nothing, &runs);
    EXPECT_EQ(runs, 1);
}

/* ---- nesting ---- */

struct trace {
    NTSTATUS inner;
    bool went_on;
};

static const NTSTATUS first_status = STATUS_INVALID_PARAMETER, second_status = STATUS_CANCELLED;

static void catch_and_go_on(void *context)
{
    struct trace *const trace = context;

    trace->inner = pinion_try(raise_status, (void *)&first_status);
    trace->went_on = true;
}

static void catch_and_raise_another(void *context)
{
    catch_and_go_on(context);
    ExRaiseStatus(second_status);
}

/* The innermost one catches; the outer one sees nothing of it. */
TEST(ke_exception, nested__inner_catches__outer_sees_success)
{
    struct trace trace = {0};

    EXPECT_RAISES(STATUS_SUCCESS, catch_and_go_on, &trace);
    EXPECT_STATUS(trace.inner, STATUS_INVALID_PARAMETER);
    EXPECT(trace.went_on);
}

/* An exception that is raised after an inner one was caught goes to the outer one. */
TEST(ke_exception, nested__raised_after_an_inner_one__goes_to_the_outer)
{
    struct trace trace = {0};

    EXPECT_RAISES(STATUS_CANCELLED, catch_and_raise_another, &trace);
    EXPECT(trace.went_on);
}

/* The compiler may not know that this does not return. */
static void (*volatile raise_hidden)(void *context) = raise_status;

static unsigned raise_from_depth(unsigned depth)
{
    static const NTSTATUS status = STATUS_NO_MEMORY;

    if (depth == 0)
        raise_hidden((void *)&status);
    else
        depth += raise_from_depth(depth - 1);
    return depth;
}

static void raise_from_fifty(void *context)
{
    *(unsigned *)context = raise_from_depth(50);
}

/* An exception leaves any number of functions behind. */
TEST(ke_exception, raise__deep_in_calls__is_caught)
{
    for (int i = 0; i < 100; i++) {
        unsigned untouched = 7;

        EXPECT_RAISES(STATUS_NO_MEMORY, raise_from_fifty, &untouched);
        EXPECT_EQ(untouched, 7);
    }
}

/* ---- bad accesses ---- */

static void read_byte(void *va)
{
    (void)*(volatile UCHAR *)va;
}

static void write_byte(void *va)
{
    *(volatile UCHAR *)va = 1;
}

/* A bad access of host memory is STATUS_ACCESS_VIOLATION, as often as it happens. */
TEST(ke_exception, access__of_host_memory_that_refuses__is_access_violation)
{
    UCHAR *const pages = mmap(NULL, 2 * PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    EXPECT(pages != MAP_FAILED);
    EXPECT_EQ(mprotect(pages + PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
    for (int i = 0; i < 20; i++) {
        EXPECT_RAISES(STATUS_SUCCESS, read_byte, pages + PAGE_SIZE - 1);
        EXPECT_RAISES(STATUS_ACCESS_VIOLATION, write_byte, pages + PAGE_SIZE - 1);
        EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_byte, pages + PAGE_SIZE);
        EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_byte, (void *)8);
    }
}

/* So is one of process memory: what is not there, and what its protection refuses. */
TEST(ke_exception, access__of_process_memory_that_refuses__is_access_violation)
{
    UCHAR *const buffer = user_pages(2, PAGE_READONLY);

    EXPECT_RAISES(STATUS_SUCCESS, read_byte, buffer);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, write_byte, buffer);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_byte, buffer - 1);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_byte, buffer + 2 * PAGE_SIZE);
    pinion_user_free(buffer);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_byte, buffer);
}

/* A page with PAGE_GUARD raises its own status once, and is an ordinary page afterwards. */
TEST(ke_exception, access__of_a_guard_page__is_guard_page_violation_once)
{
    UCHAR *const buffer = user_pages(1, PAGE_READWRITE | PAGE_GUARD);

    EXPECT_RAISES(STATUS_GUARD_PAGE_VIOLATION, write_byte, buffer);
    EXPECT_RAISES(STATUS_SUCCESS, write_byte, buffer);
    pinion_user_free(buffer);
}

#if defined(__x86_64__)                 /* other processors divide by zero without a word */

#ifdef __clang__
__attribute__((no_sanitize("integer-divide-by-zero")))
#else
__attribute__((no_sanitize("undefined")))
#endif
static void divide_by(void *context)
{
    volatile int quotient = 1000 / *(volatile int *)context;

    UNREFERENCED_PARAMETER(quotient);
}

static void execute_no_instruction(void *context)
{
    UNREFERENCED_PARAMETER(context);
    __asm__ volatile("ud2");
}

/* A division by zero and an instruction that does not exist are exceptions too, as often as they happen, at any IRQL. */
TEST(ke_exception, instruction__that_has_no_result__is_an_exception)
{
    int zero = 0, two = 2;

    for (int i = 0; i < 20; i++) {
        EXPECT_RAISES(STATUS_INTEGER_DIVIDE_BY_ZERO, divide_by, &zero);
        EXPECT_RAISES(STATUS_SUCCESS, divide_by, &two);
        EXPECT_RAISES(STATUS_ILLEGAL_INSTRUCTION, execute_no_instruction, NULL);
    }
    raise_irql(DISPATCH_LEVEL);
    EXPECT_RAISES(STATUS_INTEGER_DIVIDE_BY_ZERO, divide_by, &zero);
    KeLowerIrql(PASSIVE_LEVEL);
}

static void break_here(void *context)
{
    UNREFERENCED_PARAMETER(context);
    __debugbreak();
}

static void call_dbg_break_point(void *context)
{
    UNREFERENCED_PARAMETER(context);
    DbgBreakPoint();
}

static void call_dbg_break_point_with_status(void *context)
{
    UNREFERENCED_PARAMETER(context);
    DbgBreakPointWithStatus(0x1234);
}

/* Without a debugger a breakpoint is an exception like any other, as often as it is met, at any IRQL. */
TEST(ke_exception, breakpoint__caught__is_status_breakpoint)
{
    static void (*const bodies[])(void *) = {break_here, call_dbg_break_point, call_dbg_break_point_with_status};

    for (int i = 0; i < 20; i++)
        EXPECT_RAISES(STATUS_BREAKPOINT, bodies[i % 3], NULL);
    raise_irql(DISPATCH_LEVEL);
    EXPECT_RAISES(STATUS_BREAKPOINT, break_here, NULL);
    KeLowerIrql(PASSIVE_LEVEL);
}

static void boot_and_break(void *context)
{
    boot(context);
    break_here(NULL);
}

/* Uncaught it stops the machine, and the address is that of the breakpoint itself. */
TEST_UNTIDY(ke_exception, breakpoint__uncaught__stops_with_0x1e)
{
    const struct stop stop = expect_stop(boot_and_break, (void *)(ULONG_PTR)"ram=16M", KMODE_EXCEPTION_NOT_HANDLED, 0xFFFFFFFF80000003);

    EXPECT_EQ(*(const UCHAR *)(ULONG_PTR)stop.p[1], 0xCC);
}

/* With faults=host it is the host's, whose debugger may wait for it. */
TEST_UNTIDY(ke_exception, breakpoint__uncaught_with_faults_host__is_the_hosts)
{
    signal(SIGTRAP, SIG_DFL);
    EXPECT_EQ(run_until_stop(boot_and_break, (void *)(ULONG_PTR)"ram=16M:faults=host").exit_status, -SIGTRAP);
}

/* Uncaught, they stop the machine as any exception does. */
STOP_TEST(ke_exception, division__uncaught__stops_with_0x1e, KMODE_EXCEPTION_NOT_HANDLED, 0xFFFFFFFFC0000094)
{
    boot("ram=16M");
    divide_by(&(int){0});
}

static void boot_for_host_faults_and_divide(void *context)
{
    boot("ram=16M:faults=host");
    EXPECT_RAISES(STATUS_INTEGER_DIVIDE_BY_ZERO, divide_by, context);
    divide_by(context);
}

/* With faults=host they are the host's where nobody would catch them. */
TEST_UNTIDY(ke_exception, division__uncaught_with_faults_host__is_the_hosts)
{
    signal(SIGFPE, SIG_DFL);
    EXPECT_EQ(run_until_stop(boot_for_host_faults_and_divide, &(int){0}).exit_status, -SIGFPE);
}

#endif

static void raise_irql_and_then_an_exception(void *context)
{
    UNREFERENCED_PARAMETER(context);
    raise_irql(DISPATCH_LEVEL);
    ExRaiseStatus(STATUS_NO_MEMORY);
}

/* IRQL stays as the exception left it: lowering it is the handler's business. */
TEST(ke_exception, irql__raised_in_the_body__stays)
{
    EXPECT_RAISES(STATUS_NO_MEMORY, raise_irql_and_then_an_exception, NULL);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeLowerIrql(PASSIVE_LEVEL);
}

/* ---- nobody catches ---- */

/* An exception that nobody catches is bug check 0x1E, with the status extended to 64 bits. */
STOP_TEST(ke_exception, raise__uncaught__stops_with_0x1e, KMODE_EXCEPTION_NOT_HANDLED, 0xFFFFFFFFC000009A)
{
    ExRaiseStatus(STATUS_INSUFFICIENT_RESOURCES);
}

static void boot_and_touch(void *va)
{
    boot("ram=16M");
    write_byte(va);
}

/* So is a bad access that nobody catches; the last parameter is its address. */
TEST_UNTIDY(ke_exception, access__uncaught__stops_with_0x1e_and_the_address)
{
    UCHAR *const page = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const struct stop stop =
        expect_stop(boot_and_touch, page + 0x123, KMODE_EXCEPTION_NOT_HANDLED, 0xFFFFFFFFC0000005);

    EXPECT_NE(stop.p[1], 0);
    EXPECT_EQ(stop.p[3], (uintptr_t)page + 0x123);
}

static void boot_for_host_faults_and_touch(void *va)
{
    boot("ram=16M:faults=host");
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, write_byte, va);
    write_byte(va);
}

/* With faults=host such an access goes to the handler that the program had before; the default one ends it
   by SIGSEGV. */
TEST_UNTIDY(ke_exception, access__uncaught_with_faults_host__is_the_hosts)
{
    UCHAR *const page = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    EXPECT(page != MAP_FAILED);
    signal(SIGSEGV, SIG_DFL);
    EXPECT_EQ(run_until_stop(boot_for_host_faults_and_touch, page).exit_status, -SIGSEGV);
}

static void catch_then_raise(void *context)
{
    UNREFERENCED_PARAMETER(context);
    pinion_try(raise_access_violation, NULL);
    ExRaiseStatus(STATUS_CANCELLED);
}

/* What was caught once protects nothing that comes later. */
STOP_TEST(ke_exception, raise__after_a_try_has_ended__stops_with_0x1e, KMODE_EXCEPTION_NOT_HANDLED,
          0xFFFFFFFFC0000120)
{
    catch_then_raise(NULL);
}

static void raise_on_thread(void *context)
{
    raise_status(context);
}

static void start_thread_that_raises(void *context)
{
    struct test_thread thread;

    thread_start(&thread, raise_on_thread, context);
    thread_join(&thread);
}

/* One thread's try does not catch another thread's exception. */
STOP_TEST(ke_exception, raise__on_another_thread__is_not_caught_here, KMODE_EXCEPTION_NOT_HANDLED,
          0xFFFFFFFFC0000017)
{
    static NTSTATUS status = STATUS_NO_MEMORY;

    pinion_try(start_thread_that_raises, &status);
}
