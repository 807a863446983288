/* SPDX-License-Identifier: MIT */
/*
 * Locking what is not one buffer of the current process: MmProbeAndLockSelectedPages (pages that lie apart)
 * and MmProbeAndLockProcessPages (pages of another process).
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

/* ---- Selected pages ----------------------------------------------------------------------------------- */

enum { MOST_SEGMENTS = 16 };

struct selected_call {
    PMDL mdl;
    FILE_SEGMENT_ELEMENT segments[MOST_SEGMENTS];
    KPROCESSOR_MODE mode;
    LOCK_OPERATION operation;
};

static void selected_body(void *context)
{
    struct selected_call *const call = context;

    MmProbeAndLockSelectedPages(call->mdl, call->segments, call->mode, call->operation);
}

static NTSTATUS try_selected(struct selected_call *call)
{
    return pinion_try(selected_body, call);
}

/* A call for these pages of a buffer, in UserMode for writing, with an MDL of its own. */
static struct selected_call selected(UCHAR *buffer, const SIZE_T *pages, SIZE_T count)
{
    struct selected_call call = {.mode = UserMode, .operation = IoWriteAccess};

    EXPECT(count <= MOST_SEGMENTS);
    for (SIZE_T i = 0; i < count; i++)
        call.segments[i].Buffer = buffer + pages[i] * PAGE_SIZE;
    call.mdl = mdl_over(call.segments[0].Buffer, count * PAGE_SIZE);
    return call;
}

static const SIZE_T order[] = {5, 2, 7, 0, 6};

/* MmProbeAndLockSelectedPages-01 MmProbeAndLockSelectedPages-02: by its documented type it locks the pages
   of the segments, and the MDL holds their frames in the order of the array. */
SILENT_TEST(mm_selected_pages, call_through_its_type__pages_out_of_order__frames_are_in_that_order)
{
    VOID(*const lock)
    (PMDL, PFILE_SEGMENT_ELEMENT, KPROCESSOR_MODE, LOCK_OPERATION) = MmProbeAndLockSelectedPages;
    UCHAR *const user = user_pattern(8, 1);
    struct selected_call call = selected(user, order, ARRAYSIZE(order));

    lock(call.mdl, call.segments, UserMode, IoWriteAccess);
    EXPECT(call.mdl->MdlFlags & MDL_PAGES_LOCKED);
    EXPECT_EQ(counters_now().locked_pages, ARRAYSIZE(order));
    for (SIZE_T i = 0; i < ARRAYSIZE(order); i++)
        EXPECT_EQ(MmGetMdlPfnArray(call.mdl)[i], frame_of(user + order[i] * PAGE_SIZE));
    unlock_and_free(call.mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    pinion_user_free(user);
}

/* MmProbeAndLockSelectedPages-02: the pages appear side by side in a mapping, in both directions. */
SILENT_TEST(mm_selected_pages, lock__mapped__shows_the_pages_side_by_side)
{
    UCHAR *const user = user_pattern(8, 1);
    struct selected_call call = selected(user, order, ARRAYSIZE(order));

    EXPECT_STATUS(try_selected(&call), STATUS_SUCCESS);
    UCHAR *const system = system_address(call.mdl);
    for (SIZE_T i = 0; i < ARRAYSIZE(order); i++)
        EXPECT_PATTERN_AT(system + i * PAGE_SIZE, PAGE_SIZE, 1, order[i] * PAGE_SIZE);
    fill_pattern(system, ARRAYSIZE(order) * PAGE_SIZE, 2);
    for (SIZE_T i = 0; i < ARRAYSIZE(order); i++)
        EXPECT_PATTERN_AT(user + order[i] * PAGE_SIZE, PAGE_SIZE, 2, i * PAGE_SIZE);
    EXPECT_PATTERN_AT(user + PAGE_SIZE, PAGE_SIZE, 1, PAGE_SIZE);
    unlock_and_free(call.mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockSelectedPages-02: pages that are away are brought back; the others of the buffer may go. */
SILENT_TEST(mm_selected_pages, lock__trimmed_pages__are_resident_with_their_contents)
{
    UCHAR *const user = user_pattern(8, 4);
    struct selected_call call = selected(user, order, ARRAYSIZE(order));

    EXPECT_EQ(pinion_trim(), 8);
    EXPECT_STATUS(try_selected(&call), STATUS_SUCCESS);
    EXPECT_EQ(pinion_trim(), 0);
    for (SIZE_T i = 0; i < ARRAYSIZE(order); i++)
        EXPECT_PATTERN_AT(system_address(call.mdl) + i * PAGE_SIZE, PAGE_SIZE, 4, order[i] * PAGE_SIZE);
    EXPECT_PATTERN(user, 8 * PAGE_SIZE, 4);
    EXPECT_EQ(pinion_trim(), 3);
    unlock_and_free(call.mdl);
    EXPECT_EQ(pinion_trim(), 5);
    pinion_user_free(user);
}

/* MmProbeAndLockSelectedPages-02: a page that is named twice is locked twice, and unlocked with the MDL. */
SILENT_TEST(mm_selected_pages, lock__one_page_named_twice__counts_twice)
{
    static const SIZE_T pages[] = {1, 1, 0, 1};
    UCHAR *const user = user_pattern(2, 4);
    struct selected_call call = selected(user, pages, ARRAYSIZE(pages));

    EXPECT_STATUS(try_selected(&call), STATUS_SUCCESS);
    EXPECT_EQ(counters_now().locked_pages, 4);
    EXPECT_EQ(MmGetMdlPfnArray(call.mdl)[0], MmGetMdlPfnArray(call.mdl)[3]);
    unlock_and_free(call.mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), 2);
    pinion_user_free(user);
}

/* The call must raise STATUS_ACCESS_VIOLATION and change nothing, then free its MDL. */
static void expect_violation(struct selected_call *call)
{
    const struct pinion_counters before = counters_now();
    const MDL copy = *call->mdl;

    EXPECT_STATUS(try_selected(call), STATUS_ACCESS_VIOLATION);
    EXPECT_MEM_EQ(call->mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    IoFreeMdl(call->mdl);
}

/* MmProbeAndLockSelectedPages-03: one page that refuses the access, wherever it stands in the array, raises
   STATUS_ACCESS_VIOLATION, and no page stays locked. */
SILENT_TEST(mm_selected_pages, lock__one_page_refuses__raises_and_locks_nothing)
{
    static const ULONG protections[] = {PAGE_READONLY, PAGE_NOACCESS};
    UCHAR *const user = user_pages(8, PAGE_READWRITE);

    for (SIZE_T refusing = 0; refusing < ARRAYSIZE(order); refusing++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(protections); i++) {
            struct selected_call call = selected(user, order, ARRAYSIZE(order));

            pinion_user_protect(user + order[refusing] * PAGE_SIZE, PAGE_SIZE, protections[i]);
            expect_violation(&call);
            pinion_user_protect(user + order[refusing] * PAGE_SIZE, PAGE_SIZE, PAGE_READWRITE);
        }
    }
    pinion_trim();
    EXPECT_EQ(pinion_trim(), 0);
    pinion_user_free(user);
}

/* MmProbeAndLockSelectedPages-03: pages that may be read are locked for reading. */
SILENT_TEST(mm_selected_pages, lock__read_only_pages__for_reading_only)
{
    UCHAR *const user = user_pattern(8, 3);
    struct selected_call call = selected(user, order, ARRAYSIZE(order)),
                         refused = selected(user, order, ARRAYSIZE(order));

    pinion_user_protect(user, 8 * PAGE_SIZE, PAGE_READONLY);
    call.operation = IoReadAccess;
    EXPECT_STATUS(try_selected(&call), STATUS_SUCCESS);
    refused.operation = IoModifyAccess;
    expect_violation(&refused);
    unlock_and_free(call.mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockSelectedPages-03: no memory, memory of another process, and in UserMode the system's,
   raise. */
SILENT_TEST(mm_selected_pages, lock__address_without_right__raises)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE), *const pool = pool_pages(1);
    const PEPROCESS other = pinion_process_create("other");

    pinion_process_attach(other);
    UCHAR *const foreign = user_pages(1, PAGE_READWRITE);
    pinion_process_attach(NULL);
    UCHAR *const wrong[] = {foreign, pool, user + 1024 * 1024 * 1024, (UCHAR *)(ULONG_PTR)0xFFFFF80000000000,
                            NULL};
    for (SIZE_T i = 0; i < ARRAYSIZE(wrong); i++) {
        static const SIZE_T pages[] = {0, 1};
        struct selected_call call = selected(user, pages, 2);

        call.segments[1].Buffer = wrong[i];
        expect_violation(&call);
    }
    ExFreePool(pool);
    pinion_process_exit(other);
    pinion_user_free(user);
}

/* MmProbeAndLockSelectedPages-02: KernelMode locks pages of pool as well. */
SILENT_TEST(mm_selected_pages, lock__pages_of_pool_in_kernel_mode__are_locked)
{
    static const SIZE_T pages[] = {2, 0};
    UCHAR *const pool = pool_pages(3);
    struct selected_call call = selected(pool, pages, 2);

    call.mode = KernelMode;
    EXPECT_STATUS(try_selected(&call), STATUS_SUCCESS);
    EXPECT_EQ(MmGetMdlPfnArray(call.mdl)[0], frame_of(pool + 2 * PAGE_SIZE));
    EXPECT_EQ(MmGetMdlPfnArray(call.mdl)[1], frame_of(pool));
    unlock_and_free(call.mdl);
    ExFreePool(pool);
}

/* MmProbeAndLockSelectedPages-04: it works at APC_LEVEL. */
SILENT_TEST(mm_selected_pages, lock__at_apc_level__works)
{
    UCHAR *const user = user_pages(8, PAGE_READWRITE);
    struct selected_call call = selected(user, order, ARRAYSIZE(order));
    const KIRQL before = raise_irql(APC_LEVEL);

    EXPECT_STATUS(try_selected(&call), STATUS_SUCCESS);
    KeLowerIrql(before);
    unlock_and_free(call.mdl);
    pinion_user_free(user);
}

static void lock_selected_too_high(void *words)
{
    UCHAR *const user = user_pages(8, PAGE_READWRITE);
    struct selected_call call = selected(user, order, ARRAYSIZE(order));

    ((uint64_t *)words)[0] = (uint64_t)(uintptr_t)call.mdl;
    ((uint64_t *)words)[1] = (uint64_t)(uintptr_t)PsGetCurrentProcess();
    raise_irql(DISPATCH_LEVEL + 1);
    selected_body(&call);
}

/* MmProbeAndLockSelectedPages-04: above DISPATCH_LEVEL it stops with 0xC4/0x72, the IRQL, the MDL and the
   process. */
TEST_UNTIDY(mm_selected_pages, lock__above_dispatch_level__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop =
        expect_stop(lock_selected_too_high, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x72);

    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], words[1]);
}

/* MmProbeAndLockSelectedPages-03: made to fail, it raises an error once and leaves all as it was. */
SILENT_TEST(mm_selected_pages, lock__made_to_fail__raises_and_changes_nothing)
{
    UCHAR *const user = user_pages(8, PAGE_READWRITE);
    struct selected_call call = selected(user, order, ARRAYSIZE(order));
    const struct pinion_counters before = counters_now();
    const MDL copy = *call.mdl;

    pinion_fail("MmProbeAndLockSelectedPages", 1);
    EXPECT(NT_ERROR(try_selected(&call)));
    EXPECT_MEM_EQ(call.mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    EXPECT_STATUS(try_selected(&call), STATUS_SUCCESS);
    unlock_and_free(call.mdl);
    pinion_user_free(user);
}

/* ---- Pages of another process ------------------------------------------------------------------------- */

struct process_call {
    PMDL mdl;
    PEPROCESS process;
    KPROCESSOR_MODE mode;
    LOCK_OPERATION operation;
};

static void process_body(void *context)
{
    const struct process_call *const call = context;

    MmProbeAndLockProcessPages(call->mdl, call->process, call->mode, call->operation);
}

static NTSTATUS try_process(PMDL mdl, PEPROCESS process, LOCK_OPERATION operation)
{
    struct process_call call = {mdl, process, UserMode, operation};

    return pinion_try(process_body, &call);
}

/* Memory of a process that is not the current one. */
static UCHAR *foreign_pattern(PEPROCESS process, SIZE_T pages, ULONG seed)
{
    pinion_process_attach(process);
    UCHAR *const user = user_pattern(pages, seed);
    pinion_process_attach(NULL);
    return user;
}

/* MmProbeAndLockProcessPages locks the pages of the process that is named, whichever is current, and the
   MDL names it. */
SILENT_TEST(mm_process_pages, lock__another_process__locks_its_pages)
{
    VOID (*const lock)(PMDL, PEPROCESS, KPROCESSOR_MODE, LOCK_OPERATION) = MmProbeAndLockProcessPages;
    const PEPROCESS other = pinion_process_create("other");
    UCHAR *const user = foreign_pattern(other, 3, 6);
    const PMDL mdl = mdl_over(user + 50, 2 * PAGE_SIZE);

    EXPECT_EQ(pinion_trim(), 3);
    lock(mdl, other, UserMode, IoWriteAccess);
    EXPECT(mdl->Process == other);
    EXPECT_EQ(counters_now().locked_pages, 3);
    EXPECT_PATTERN_AT(system_address(mdl), 2 * PAGE_SIZE, 6, 50);
    EXPECT(PsGetCurrentProcess() != other);
    EXPECT_EQ(pinion_trim(), 0);
    MmUnlockPages(mdl);
    EXPECT_EQ(pinion_trim(), 3);
    IoFreeMdl(mdl);
    pinion_process_exit(other);
}

/* MmProbeAndLockProcessPages of the current process is as MmProbeAndLockPages. */
SILENT_TEST(mm_process_pages, lock__current_process__locks_its_pages)
{
    UCHAR *const user = user_pattern(2, 6);
    const PMDL mdl = mdl_over(user, 2 * PAGE_SIZE);

    EXPECT_STATUS(try_process(mdl, PsGetCurrentProcess(), IoWriteAccess), STATUS_SUCCESS);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[1], frame_of(user + PAGE_SIZE));
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockProcessPages raises STATUS_ACCESS_VIOLATION where the named process lacks the right, and
   locks nothing. */
SILENT_TEST(mm_process_pages, lock__without_right__raises_and_locks_nothing)
{
    const PEPROCESS other = pinion_process_create("other");
    UCHAR *const foreign = foreign_pattern(other, 3, 6), *const own = user_pages(3, PAGE_READWRITE);
    const PMDL mdl = mdl_over(foreign, 3 * PAGE_SIZE), own_mdl = mdl_over(own, PAGE_SIZE);
    const struct pinion_counters before = counters_now();
    const MDL copy = *mdl;

    pinion_process_attach(other);
    pinion_user_protect(foreign + 2 * PAGE_SIZE, PAGE_SIZE, PAGE_READONLY);
    pinion_process_attach(NULL);
    EXPECT_STATUS(try_process(mdl, other, IoWriteAccess), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(try_process(mdl, PsGetCurrentProcess(), IoReadAccess), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(try_process(own_mdl, other, IoReadAccess), STATUS_ACCESS_VIOLATION);
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    EXPECT_STATUS(try_process(mdl, other, IoReadAccess), STATUS_SUCCESS);
    unlock_and_free(mdl);
    IoFreeMdl(own_mdl);
    pinion_process_exit(other);
    pinion_user_free(own);
}

/* MmProbeAndLockProcessPages works at APC_LEVEL, and can be made to fail. */
SILENT_TEST(mm_process_pages, lock__made_to_fail__raises_and_changes_nothing)
{
    const PEPROCESS other = pinion_process_create("other");
    UCHAR *const user = foreign_pattern(other, 1, 6);
    const PMDL mdl = mdl_over(user, PAGE_SIZE);
    const struct pinion_counters before = counters_now();
    const KIRQL irql = raise_irql(APC_LEVEL);

    pinion_fail("MmProbeAndLockProcessPages", 1);
    EXPECT(NT_ERROR(try_process(mdl, other, IoWriteAccess)));
    EXPECT_SAME_COUNTERS(before);
    EXPECT_STATUS(try_process(mdl, other, IoWriteAccess), STATUS_SUCCESS);
    unlock_and_free(mdl);
    KeLowerIrql(irql);
    pinion_process_exit(other);
}

static void lock_process_too_high(void *words)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    ((uint64_t *)words)[0] = (uint64_t)(uintptr_t)mdl;
    ((uint64_t *)words)[1] = (uint64_t)(uintptr_t)PsGetCurrentProcess();
    raise_irql(DISPATCH_LEVEL + 1);
    MmProbeAndLockProcessPages(mdl, PsGetCurrentProcess(), UserMode, IoReadAccess);
}

/* MmProbeAndLockProcessPages above DISPATCH_LEVEL stops with 0xC4/0x71, the IRQL, the MDL and the process. */
TEST_UNTIDY(mm_process_pages, lock__above_dispatch_level__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop =
        expect_stop(lock_process_too_high, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x71);

    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], words[1]);
}

/* Lock MDLs that must not be: locked already, of nonpaged pool, partial; the first word says which. */
static void lock_process_of_wrong_mdl(void *context)
{
    uint64_t *const words = context;
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);

    if (words[0] == 1) {
        mdl = mdl_over(pool_pages(1), PAGE_SIZE);
        MmBuildMdlForNonPagedPool(mdl);
    } else if (words[0] == 2) {
        const PMDL source = mdl;

        mdl = mdl_over(user, PAGE_SIZE);
        IoBuildPartialMdl(source, mdl, user, PAGE_SIZE);
    }
    words[1] = (uint64_t)(uintptr_t)mdl;
    words[2] = mdl_flags(mdl);
    MmProbeAndLockProcessPages(mdl, PsGetCurrentProcess(), UserMode, IoReadAccess);
}

/* Driver_Verifier_automatic_MDL_checks-01: MmProbeAndLockProcessPages of an MDL that is locked, of
   nonpaged memory or partial stops with 0xC4/0xB1, the MDL, its flags and the wrong one. */
TEST_UNTIDY(mm_process_pages, lock__mdl_in_a_wrong_state__stops)
{
    static const CSHORT wrong[] = {MDL_PAGES_LOCKED, MDL_SOURCE_IS_NONPAGED_POOL, MDL_PARTIAL};
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < ARRAYSIZE(wrong); words[0]++) {
        const struct stop stop =
            expect_stop(lock_process_of_wrong_mdl, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0xB1);

        EXPECT_EQ(stop.p[1], words[1]);
        EXPECT_EQ(stop.p[2], words[2]);
        EXPECT(stop.p[3] & (USHORT)wrong[words[0]]);
    }
}
