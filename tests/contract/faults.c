/* SPDX-License-Identifier: MIT */
/*
 * What happens when memory refuses an access: an exception that pinion_try catches for process and host addresses, a
 * bug check for system addresses and at raised IRQL, and silence for pages that were only away.
 *
 *     address                 IRQL < DISPATCH_LEVEL          IRQL >= DISPATCH_LEVEL
 *     trimmed page            comes back                     0xD1
 *     process, host           exception; uncaught: 0x1E      exception, 0xD1 for what can be paged
 *     system                  0x50, 0xBE (store to read-only), in a try or not
 */

#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <wdm.h>
#include <pinion/pinion.h>

#include "support.h"

enum { RETURN_INSTRUCTION = 0xC3, FAULT_READ = 0, FAULT_WRITE = 2, FAULT_EXECUTE = 0x10 };

/* A system mapping of new process memory that holds the pattern with seed 1, or NULL. */
static UCHAR *new_mapping(SIZE_T pages, ULONG priority, PMDL *mdl)
{
    *mdl = locked_mdl(user_pattern(pages, 1), pages * PAGE_SIZE);
    return MmMapLockedPagesSpecifyCache(*mdl, KernelMode, MmCached, NULL, FALSE, priority);
}

/* ---- System addresses ---------------------------------------------------------------------------------- */

/* What the child does: an access, in a try or not, with these options. */
struct system_fault {
    const char *options;
    void (*access)(void *va);
    ULONG priority;
    bool unmapped; /* before the access */
    LONG offset;   /* from the base of the mapping, in bytes */
    bool in_try;
    uint64_t *va;
};

static void cause_system_fault(void *context)
{
    const struct system_fault *const fault = context;
    PMDL mdl;

    boot(fault->options);
    UCHAR *const system = new_mapping(2, NORMAL_NX | fault->priority, &mdl);
    EXPECT_PATTERN(system, 2 * PAGE_SIZE, 1);
    *(PUCHAR)MmGetMdlVirtualAddress(mdl) = RETURN_INSTRUCTION;
    *fault->va = (uint64_t)(uintptr_t)(system + fault->offset);
    if (fault->unmapped)
        MmUnmapLockedPages(system, mdl);
    if (fault->in_try)
        pinion_try(fault->access, system + fault->offset);
    else
        fault->access(system + fault->offset);
}

/* The fault stops the machine with this code and the address, in a try or not. */
static void expect_system_fault(struct system_fault fault, uint32_t code, uint64_t p2)
{
    fault.va = shared_words();
    fault.options = fault.options ? fault.options : "";
    for (int in_try = 0; in_try < 2; in_try++) {
        fault.in_try = in_try;
        const struct stop stop = run_until_stop(cause_system_fault, &fault);

        EXPECT(stop.stopped);
        EXPECT_EQ(stop.code, code);
        EXPECT_EQ(stop.p[0], *fault.va);
        if (code != PAGE_FAULT_IN_NONPAGED_AREA)
            continue;
        EXPECT_EQ(stop.p[1], p2);
        EXPECT_NE(stop.p[2], 0);
    }
}

/* MmMapLockedPagesSpecifyCache-11 MmGetSystemAddressForMdlSafe-10: a store through a mapping made with
   MdlMappingNoWrite stops with 0xBE and the address, in a try or not, with the verifier or without. */
TEST_UNTIDY(faults, store__read_only_system_mapping__stops)
{
    expect_system_fault(
        (struct system_fault){.access = touch_store, .priority = MdlMappingNoWrite, .offset = 9},
        ATTEMPTED_WRITE_TO_READONLY_MEMORY, 0);
    expect_system_fault((struct system_fault){.options = "verifier=off",
                                              .access = touch_store,
                                              .priority = MdlMappingNoWrite},
                        ATTEMPTED_WRITE_TO_READONLY_MEMORY, 0);
}

/* Bug_checks-10 MmUnmapLockedPages-02: a load from an address that was unmapped stops with 0x50, the
   address, and the code of a read. */
TEST_UNTIDY(faults, load__after_unmap__stops)
{
    expect_system_fault(
        (struct system_fault){.access = touch_load, .unmapped = true, .offset = PAGE_SIZE + 5},
        PAGE_FAULT_IN_NONPAGED_AREA, FAULT_READ);
}

/* Bug_checks-10 MmUnmapLockedPages-02: a store to an address that was unmapped stops with 0x50 and the code
   of a write. */
TEST_UNTIDY(faults, store__after_unmap__stops)
{
    expect_system_fault((struct system_fault){.access = touch_store, .unmapped = true},
                        PAGE_FAULT_IN_NONPAGED_AREA, FAULT_WRITE);
}

/* Bug_checks-10: without the verifier, a mapping that was made private ends as surely. */
TEST_UNTIDY(faults, load__after_unmap_verifier_off__stops)
{
    expect_system_fault(
        (struct system_fault){
            .options = "verifier=off", .access = touch_load, .priority = MdlMappingNoWrite, .unmapped = true},
        PAGE_FAULT_IN_NONPAGED_AREA, FAULT_READ);
}

/* Bug_checks-10: before Windows 10 the code of a write is 1. */
TEST_UNTIDY(faults, store__after_unmap_on_windows_7__has_the_older_code)
{
    expect_system_fault(
        (struct system_fault){.options = "windows=7", .access = touch_store, .unmapped = true},
        PAGE_FAULT_IN_NONPAGED_AREA, 1);
    expect_system_fault((struct system_fault){.options = "windows=7", .access = touch_load, .unmapped = true},
                        PAGE_FAULT_IN_NONPAGED_AREA, FAULT_READ);
}

/* MmGetSystemAddressForMdlSafe-11 Bug_checks-10: execution of a mapping made with MdlMappingNoExecute stops
   with 0x50 and the code of an execution. */
TEST_UNTIDY(faults, execute__system_mapping_without_execute__stops)
{
    expect_system_fault((struct system_fault){.access = touch_execute}, PAGE_FAULT_IN_NONPAGED_AREA,
                        FAULT_EXECUTE);
}

/* MmGetSystemAddressForMdlSafe-25 Bug_checks-10: there is a guard page on either side of a system mapping:
   the first byte behind it and the last one before it stop with 0x50. */
TEST_UNTIDY(faults, load_and_store__beside_a_system_mapping__stop)
{
    static const LONG offsets[] = {-1, -PAGE_SIZE, 2 * PAGE_SIZE, 3 * PAGE_SIZE - 1};

    for (SIZE_T i = 0; i < ARRAYSIZE(offsets); i++) {
        expect_system_fault((struct system_fault){.access = touch_load, .offset = offsets[i]},
                            PAGE_FAULT_IN_NONPAGED_AREA, FAULT_READ);
        expect_system_fault((struct system_fault){.access = touch_store, .offset = offsets[i]},
                            PAGE_FAULT_IN_NONPAGED_AREA, FAULT_WRITE);
    }
}

static void load_after_unmap(void *context HARNESS_UNUSED)
{
    PMDL mdl;
    UCHAR *const system = new_mapping(1, NORMAL_NX, &mdl);

    MmUnmapLockedPages(system, mdl);
    touch_load(system);
}

/* Bug_checks-10: an address that was mapped and freed is told apart: parameter 4 is 0, a freed PTE. */
TEST_UNTIDY(faults, load__after_unmap__says_freed_pte)
{
    const struct stop stop = run_until_stop(load_after_unmap, NULL);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT_EQ(stop.p[3], 0);
}

/* Bug_checks-10: an address is not used again soon after its mapping ended, so that a stale pointer keeps
   faulting. */
SILENT_TEST(faults, unmapped_address__after_many_other_mappings__still_faults)
{
    enum { ROUNDS = 200 };
    PMDL mdl;
    UCHAR *const stale = new_mapping(2, NORMAL_NX, &mdl);

    MmUnmapLockedPages(stale, mdl);
    for (ULONG round = 0; round < ROUNDS; round++) {
        UCHAR *const other = map_system(mdl);

        EXPECT(other + 2 * PAGE_SIZE <= stale || other >= stale + 2 * PAGE_SIZE);
        EXPECT(!MmIsAddressValid(stale));
        MmUnmapLockedPages(other, mdl);
    }
    unlock_and_free(mdl);
}

/* ---- Process memory ------------------------------------------------------------------------------------ */

/* A store to a read-only page raises STATUS_ACCESS_VIOLATION, which pinion_try returns, and changes
   nothing. */
SILENT_TEST(faults, store__read_only_user_page__raises)
{
    UCHAR *const user = user_pattern(1, 3);

    pinion_user_protect(user, PAGE_SIZE, PAGE_READONLY);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_store, user + 5);
    EXPECT_PATTERN(user, PAGE_SIZE, 3);
    pinion_user_free(user);
}

/* Each protection permits or refuses a load, a store and an execution. */
SILENT_TEST(faults, access__each_protection__permitted_or_refused)
{
    static const struct {
        ULONG protection;
        bool load, store, execute;
    } rows[] = {
        {PAGE_NOACCESS, false, false, false},   {PAGE_READONLY, true, false, false},
        {PAGE_READWRITE, true, true, false},    {PAGE_EXECUTE, true, false, true},
        {PAGE_EXECUTE_READ, true, false, true}, {PAGE_EXECUTE_READWRITE, true, true, true},
    };
    UCHAR *const user = user_pages(1, PAGE_READWRITE);

    for (SIZE_T i = 0; i < ARRAYSIZE(rows); i++) {
        pinion_user_protect(user, PAGE_SIZE, PAGE_READWRITE);
        user[0] = RETURN_INSTRUCTION;
        pinion_user_protect(user, PAGE_SIZE, rows[i].protection);
        EXPECT_STATUS(pinion_try(touch_load, user), rows[i].load ? STATUS_SUCCESS : STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(pinion_try(touch_execute, user),
                      rows[i].execute ? STATUS_SUCCESS : STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(pinion_try(touch_store, user),
                      rows[i].store ? STATUS_SUCCESS : STATUS_ACCESS_VIOLATION);
    }
    pinion_user_free(user);
}

/* The first touch of a guard page raises STATUS_GUARD_PAGE_VIOLATION and takes the guard away. */
SILENT_TEST(faults, touch__guard_page__raises_once)
{
    void (*const accesses[])(void *) = {touch_load, touch_store};
    UCHAR *const user = user_pattern(2, 3);

    for (SIZE_T i = 0; i < ARRAYSIZE(accesses); i++) {
        pinion_user_protect(user + PAGE_SIZE, PAGE_SIZE, PAGE_READWRITE | PAGE_GUARD);
        EXPECT_STATUS(pinion_try(accesses[i], user), STATUS_SUCCESS);
        EXPECT_RAISES(STATUS_GUARD_PAGE_VIOLATION, accesses[i], user + PAGE_SIZE + 7);
        EXPECT_EQ(user[PAGE_SIZE], pattern_byte(3, PAGE_SIZE));
        EXPECT_STATUS(pinion_try(accesses[i], user + PAGE_SIZE + 7), STATUS_SUCCESS);
    }
    pinion_user_free(user);
}

/* A guard page that is read-only below its guard refuses stores once the guard is gone. */
SILENT_TEST(faults, store__read_only_guard_page__raises_both_in_turn)
{
    UCHAR *const user = user_pages(1, PAGE_READONLY | PAGE_GUARD);

    EXPECT_RAISES(STATUS_GUARD_PAGE_VIOLATION, touch_store, user);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_store, user);
    EXPECT_STATUS(pinion_try(touch_load, user), STATUS_SUCCESS);
    pinion_user_free(user);
}

/* A page that was trimmed away comes back with its contents when it is read or written below
   DISPATCH_LEVEL. */
SILENT_TEST(faults, touch__trimmed_page__comes_back_with_its_contents)
{
    static const KIRQL irqls[] = {PASSIVE_LEVEL, APC_LEVEL};
    UCHAR *const user = user_pattern(3, 3);

    for (SIZE_T i = 0; i < ARRAYSIZE(irqls); i++) {
        EXPECT_EQ(pinion_trim(), 3);
        EXPECT(!MmIsAddressValid(user));
        const KIRQL before = raise_irql(irqls[i]);
        EXPECT_PATTERN(user, 2 * PAGE_SIZE, 3);
        touch_store(user + 2 * PAGE_SIZE);
        KeLowerIrql(before);
        EXPECT(MmIsAddressValid(user));
        EXPECT_EQ(user[2 * PAGE_SIZE], 0x77);
        user[2 * PAGE_SIZE] = pattern_byte(3, 2 * PAGE_SIZE);
        EXPECT_PATTERN(user, 3 * PAGE_SIZE, 3);
    }
    pinion_user_free(user);
}

/* A trimmed page keeps its protection: it comes back for a load and refuses a store. */
SILENT_TEST(faults, store__trimmed_read_only_page__raises)
{
    UCHAR *const user = user_pattern(1, 3);

    pinion_user_protect(user, PAGE_SIZE, PAGE_READONLY);
    EXPECT_EQ(pinion_trim(), 1);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_store, user);
    EXPECT_PATTERN(user, PAGE_SIZE, 3);
    pinion_user_free(user);
}

/* An address of freed process memory, and one in the range where nothing ever was, raise. */
SILENT_TEST(faults, load__process_range_without_memory__raises)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);

    pinion_user_free(user);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_load, user);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_load, user + 256 * PAGE_SIZE);
}

/* What the child touches, how, and at which IRQL. */
struct raised_touch {
    void (*access)(void *va);
    bool in_try;
    uint64_t *va;
};

static void touch_trimmed_at_dispatch(void *context)
{
    const struct raised_touch *const touch = context;
    UCHAR *const user = user_pattern(1, 3);

    pinion_trim();
    *touch->va = (uint64_t)(uintptr_t)(user + 33);
    raise_irql(DISPATCH_LEVEL);
    if (touch->in_try)
        pinion_try(touch->access, user + 33);
    else
        touch->access(user + 33);
}

/* Bug_checks-12 Bug_checks-11: a touch of a trimmed page at DISPATCH_LEVEL stops with 0xD1, the address,
   the IRQL, whether it was a read or a write, and the instruction; a try does not help. */
TEST_UNTIDY(faults, touch__trimmed_page_at_dispatch_level__stops)
{
    void (*const accesses[])(void *) = {touch_load, touch_store};
    uint64_t *const va = shared_words();

    for (uint64_t write = 0; write < 2; write++) {
        for (int in_try = 0; in_try < 2; in_try++) {
            struct raised_touch touch = {accesses[write], in_try, va};
            const struct stop stop = run_until_stop(touch_trimmed_at_dispatch, &touch);

            EXPECT(stop.stopped);
            EXPECT_EQ(stop.code, DRIVER_IRQL_NOT_LESS_OR_EQUAL);
            EXPECT_EQ(stop.p[0], *va);
            EXPECT_EQ(stop.p[1], DISPATCH_LEVEL);
            EXPECT_EQ(stop.p[2], write);
            EXPECT_NE(stop.p[3], 0);
        }
    }
}

/* MmProbeAndLockPages-21 Bug_checks-12: what is locked can be touched at DISPATCH_LEVEL, at either address,
   after a trim. */
SILENT_TEST(faults, touch__locked_page_at_dispatch_level_after_trim__works)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    EXPECT_EQ(pinion_trim(), 0);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    const SIZE_T through_user = pattern_mismatch(user, PAGE_SIZE, 3),
                 through_system = pattern_mismatch(system, PAGE_SIZE, 3);
    KeLowerIrql(before);
    EXPECT_EQ(through_user, PAGE_SIZE);
    EXPECT_EQ(through_system, PAGE_SIZE);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void *touch_pages_on_thread(void *va)
{
    return (void *)(pattern_mismatch(va, 2 * PAGE_SIZE, 3) == 2 * PAGE_SIZE ? va : NULL);
}

/* Pages come back on a thread that never called the library before. */
SILENT_TEST(faults, touch__trimmed_page_on_a_new_thread__comes_back)
{
    UCHAR *const user = user_pattern(2, 3);
    pthread_t thread;
    void *result;

    EXPECT_EQ(pinion_trim(), 2);
    EXPECT_EQ(pthread_create(&thread, NULL, touch_pages_on_thread, user), 0);
    pthread_join(thread, &result);
    EXPECT_PTR_EQ(result, user);
    pinion_user_free(user);
}

/* ---- Host addresses ------------------------------------------------------------------------------------ */

/* A NULL dereference, and one of any address where nothing is, raise STATUS_ACCESS_VIOLATION in a try. */
SILENT_TEST(faults, access__host_address_without_memory__raises)
{
    UCHAR *const hole = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    PVOID const addresses[] = {NULL, (PVOID)8, hole, (PVOID)0xDEAD0000DEAD0000};

    (void)PsGetCurrentProcess();
    for (SIZE_T i = 0; i < ARRAYSIZE(addresses); i++) {
        EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_load, addresses[i]);
        EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_store, addresses[i]);
        EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_execute, addresses[i]);
    }
}

static void *try_on_thread(void *status)
{
    *(NTSTATUS *)status = pinion_try(touch_load, NULL);
    return NULL;
}

/* Each thread has tries of its own, one that never called the library before as well. */
SILENT_TEST(faults, null_dereference__in_a_try_on_a_new_thread__raises)
{
    pthread_t thread;
    NTSTATUS status = STATUS_SUCCESS;

    (void)PsGetCurrentProcess();
    EXPECT_EQ(pthread_create(&thread, NULL, try_on_thread, &status), 0);
    pthread_join(thread, NULL);
    EXPECT_STATUS(status, STATUS_ACCESS_VIOLATION);
}

static void dereference_null_uncaught(void *context HARNESS_UNUSED)
{
    (void)PsGetCurrentProcess();
    touch_store(NULL);
}

static void store_read_only_uncaught(void *context HARNESS_UNUSED)
{
    touch_store(user_pages(1, PAGE_READONLY));
}

static void raise_uncaught(void *context HARNESS_UNUSED)
{
    ExRaiseStatus(STATUS_INSUFFICIENT_RESOURCES);
}

/* An exception that nobody catches, a fault or one that was raised, stops with 0x1E and its status. */
TEST_UNTIDY(faults, exception__nobody_catches__stops)
{
    static const struct {
        void (*body)(void *);
        NTSTATUS status;
    } rows[] = {
        {dereference_null_uncaught, STATUS_ACCESS_VIOLATION},
        {store_read_only_uncaught, STATUS_ACCESS_VIOLATION},
        {raise_uncaught, STATUS_INSUFFICIENT_RESOURCES},
    };

    for (SIZE_T i = 0; i < ARRAYSIZE(rows); i++) {
        const struct stop stop = run_until_stop(rows[i].body, NULL);

        EXPECT(stop.stopped);
        EXPECT_EQ(stop.code, KMODE_EXCEPTION_NOT_HANDLED);
        EXPECT_EQ((ULONG)stop.p[0], (ULONG)rows[i].status);
        EXPECT_EQ(strcmp(stop.name, "KMODE_EXCEPTION_NOT_HANDLED"), 0);
    }
}

static void dereference_null_at_dispatch(void *context HARNESS_UNUSED)
{
    raise_irql(DISPATCH_LEVEL);
    pinion_try(touch_load, NULL);
}

/* Bug_checks-11 Bug_checks-12: a bad pointer at DISPATCH_LEVEL stops with 0xA or 0xD1, even in a try. */
TEST_UNTIDY(faults, null_dereference__at_dispatch_level__stops)
{
    const struct stop stop = run_until_stop(dereference_null_at_dispatch, NULL);

    EXPECT(stop.stopped);
    EXPECT(stop.code == DRIVER_IRQL_NOT_LESS_OR_EQUAL || stop.code == IRQL_NOT_LESS_OR_EQUAL);
    EXPECT_EQ(stop.p[0], 0);
    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL);
}

/* ---- faults=host --------------------------------------------------------------------------------------- */

enum { HOST_HANDLER_RAN = 7 };

static void leave_from_handler(int signal_number HARNESS_UNUSED)
{
    _exit(HOST_HANDLER_RAN);
}

static void fault_with_host_handler(void *options)
{
    const struct sigaction action = {.sa_handler = leave_from_handler};

    sigaction(SIGSEGV, &action, NULL);
    boot(options);
    touch_store(NULL);
}

/* With faults=host, a fault at a host address that nobody catches goes to the handler from before the boot;
   without, it is a bug check. */
TEST_UNTIDY(faults, fault_at_host_address__faults_host__goes_to_the_earlier_handler)
{
    EXPECT_EQ(run_until_stop(fault_with_host_handler, "faults=host").exit_status, HOST_HANDLER_RAN);
    const struct stop stop = run_until_stop(fault_with_host_handler, "faults=catch");
    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, KMODE_EXCEPTION_NOT_HANDLED);
}

static void caught_and_system_faults(void *context)
{
    PMDL mdl;

    boot("faults=host");
    EXPECT_STATUS(pinion_try(touch_store, NULL), STATUS_ACCESS_VIOLATION);
    UCHAR *const user = user_pattern(1, 3);
    EXPECT_EQ(pinion_trim(), 1);
    EXPECT_PATTERN(user, PAGE_SIZE, 3);
    UCHAR *const system = new_mapping(1, NORMAL_NX, &mdl);
    MmUnmapLockedPages(system, mdl);
    *(uint64_t *)context = (uint64_t)(uintptr_t)system;
    touch_load(system);
}

/* With faults=host, what a try catches is caught, trimmed pages come back, and system addresses stop the
   machine as ever. */
TEST_UNTIDY(faults, other_faults__faults_host__are_as_ever)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(caught_and_system_faults, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT_EQ(stop.p[0], words[0]);
}

static void fault_with_default_handler(void *context HARNESS_UNUSED)
{
    signal(SIGSEGV, SIG_DFL);
    boot("faults=host");
    touch_store(NULL);
}

/* With faults=host and no handler before the boot, such a fault ends the process as Linux does. */
TEST_UNTIDY(faults, fault_at_host_address__faults_host_and_no_handler__ends_by_sigsegv)
{
    EXPECT_EQ(run_until_stop(fault_with_default_handler, NULL).exit_status, -SIGSEGV);
}

/* ---- pinion_try ---------------------------------------------------------------------------------------- */

struct trail {
    ULONG steps;
    NTSTATUS inner;
};

static void two_steps(void *context)
{
    struct trail *const trail = context;

    trail->steps++;
    trail->steps++;
}

/* A body that raises nothing runs to its end and gives STATUS_SUCCESS. */
SILENT_TEST(pinion_try, body_raises_nothing__is_success)
{
    struct trail trail = {0};

    EXPECT_STATUS(pinion_try(two_steps, &trail), STATUS_SUCCESS);
    EXPECT_EQ(trail.steps, 2);
}

static void raise_after_a_step(void *context)
{
    struct trail *const trail = context;

    trail->steps++;
    ExRaiseStatus(trail->inner);
    trail->steps = 99;
}

/* The body ends where it raises, and the status is what it raised, whatever its severity. */
SILENT_TEST(pinion_try, body_raises__is_that_status)
{
    static const NTSTATUS raised[] = {STATUS_ACCESS_VIOLATION, STATUS_DATATYPE_MISALIGNMENT,
                                      STATUS_INSUFFICIENT_RESOURCES, STATUS_GUARD_PAGE_VIOLATION,
                                      STATUS_PENDING};

    for (SIZE_T i = 0; i < ARRAYSIZE(raised); i++) {
        struct trail trail = {.inner = raised[i]};

        EXPECT_STATUS(pinion_try(raise_after_a_step, &trail), raised[i]);
        EXPECT_EQ(trail.steps, 1);
    }
}

static void catch_inside_and_go_on(void *context)
{
    struct trail *const trail = context;

    trail->inner = pinion_try(touch_store, NULL);
    trail->steps++;
}

/* An inner try catches what its body raises, and the outer body goes on. */
SILENT_TEST(pinion_try, nested__inner_catches__outer_goes_on)
{
    struct trail trail = {0};

    (void)PsGetCurrentProcess();
    EXPECT_STATUS(pinion_try(catch_inside_and_go_on, &trail), STATUS_SUCCESS);
    EXPECT_STATUS(trail.inner, STATUS_ACCESS_VIOLATION);
    EXPECT_EQ(trail.steps, 1);
}

static void catch_inside_and_raise(void *context)
{
    catch_inside_and_go_on(context);
    ExRaiseStatus(STATUS_CANCELLED);
}

/* What is raised after an inner try belongs to the outer one. */
SILENT_TEST(pinion_try, nested__raise_after_inner__outer_catches)
{
    struct trail trail = {0};

    (void)PsGetCurrentProcess();
    EXPECT_STATUS(pinion_try(catch_inside_and_raise, &trail), STATUS_CANCELLED);
    EXPECT_STATUS(trail.inner, STATUS_ACCESS_VIOLATION);
}

/* Depth levels of tries, the innermost of which raises; each level counts the exceptions that it sees. */
static void nest(void *context)
{
    struct trail *const trail = context;

    if (trail->steps == 50)
        ExRaiseStatus(STATUS_CANCELLED);
    trail->steps++;
    trail->inner = pinion_try(nest, trail);
    EXPECT_STATUS(trail->inner, trail->steps == 50 ? STATUS_CANCELLED : STATUS_SUCCESS);
    trail->steps = 0;
}

/* Of fifty nested tries, the innermost catches, and the others see success. */
SILENT_TEST(pinion_try, nested_deeply__innermost_catches)
{
    struct trail trail = {0};

    EXPECT_STATUS(pinion_try(nest, &trail), STATUS_SUCCESS);
}

/* A thousand faults in a row are each caught: nothing of one is left for the next. */
SILENT_TEST(pinion_try, many_faults_in_a_row__each_is_caught)
{
    UCHAR *const user = user_pages(1, PAGE_READONLY);

    for (ULONG i = 0; i < 500; i++) {
        EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_store, user);
        EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_load, NULL);
    }
    pinion_user_free(user);
}

static void raise_irql_and_status(void *context HARNESS_UNUSED)
{
    raise_irql(APC_LEVEL);
    ExRaiseStatus(STATUS_CANCELLED);
}

/* The IRQL stays as the exception left it. */
SILENT_TEST(pinion_try, body_raises_irql_and_status__irql_stays)
{
    EXPECT_STATUS(pinion_try(raise_irql_and_status, NULL), STATUS_CANCELLED);
    EXPECT_EQ(KeGetCurrentIrql(), APC_LEVEL);
    KeLowerIrql(PASSIVE_LEVEL);
}

struct copy {
    PVOID to;
    PVOID from;
    SIZE_T bytes;
};

static void copy_bytes(void *context)
{
    const struct copy *const copy = context;
    UCHAR *const to = copy->to;
    const UCHAR *const from = copy->from;

    for (SIZE_T i = 0; i < copy->bytes; i++)
        *(volatile UCHAR *)(to + i) = from[i];
}

/* A copy that runs into a refusing page has moved the bytes before it, and raises there. */
SILENT_TEST(pinion_try, copy_runs_into_a_refusing_page__bytes_before_it_have_moved)
{
    UCHAR *const from = user_pattern(2, 3), *const to = user_pages(2, PAGE_READWRITE);
    struct copy copy = {to + 5, from, 2 * PAGE_SIZE - 5};

    pinion_user_protect(to + PAGE_SIZE, PAGE_SIZE, PAGE_NOACCESS);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, copy_bytes, &copy);
    EXPECT_PATTERN(to + 5, PAGE_SIZE - 5, 3);
    pinion_user_free(to);
    pinion_user_free(from);
}
