/* SPDX-License-Identifier: MIT */
/*
 * MmProbeAndLockPages: which memory it accepts in which mode for which operation (the protections of process memory,
 * system addresses, other processes, the memory of the host program), and that a refusal leaves nothing behind.
 */

#include "harness.h"

#include <stdlib.h>

#include <wdm.h>
#include <pinion/pinion.h>

#include "locking.h"

/* ---- Protections --------------------------------------------------------------------------------------- */

static const struct {
    ULONG protection;
    NTSTATUS read, write;
} protections[] = {
    {PAGE_NOACCESS, STATUS_ACCESS_VIOLATION, STATUS_ACCESS_VIOLATION},
    {PAGE_READONLY, STATUS_SUCCESS, STATUS_ACCESS_VIOLATION},
    {PAGE_READWRITE, STATUS_SUCCESS, STATUS_SUCCESS},
    {PAGE_EXECUTE, STATUS_SUCCESS, STATUS_ACCESS_VIOLATION},
    {PAGE_EXECUTE_READ, STATUS_SUCCESS, STATUS_ACCESS_VIOLATION},
    {PAGE_EXECUTE_READWRITE, STATUS_SUCCESS, STATUS_SUCCESS},
    {PAGE_READWRITE | PAGE_NOCACHE, STATUS_SUCCESS, STATUS_SUCCESS},
    {PAGE_READWRITE | PAGE_WRITECOMBINE, STATUS_SUCCESS, STATUS_SUCCESS},
    {PAGE_READONLY | PAGE_NOCACHE, STATUS_SUCCESS, STATUS_ACCESS_VIOLATION},
};

static void expect_lock(PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation, NTSTATUS status)
{
    if (status != STATUS_SUCCESS) {
        expect_refused(mdl, mode, operation, status);
        return;
    }
    EXPECT_STATUS(try_lock(mdl, mode, operation), STATUS_SUCCESS);
    MmUnlockPages(mdl);
}

/* MmProbeAndLockPages-04 MmProbeAndLockPages-05 MmProbeAndLockPages-06 MmProbeAndLockPages-08
   MmProbeAndLockPages-15 LOCK_OPERATION-01: each protection of a page permits or refuses each operation, in
   both modes alike, and a refusal raises STATUS_ACCESS_VIOLATION. */
SILENT_TEST(mm_probe_and_lock, lock__each_protection_mode_and_operation__permitted_or_refused)
{
    for (SIZE_T p = 0; p < ARRAYSIZE(protections); p++) {
        UCHAR *const user = user_pages(2, protections[p].protection);
        const PMDL mdl = mdl_over(user + 100, PAGE_SIZE);

        for (SIZE_T m = 0; m < ARRAYSIZE(modes); m++) {
            expect_lock(mdl, modes[m], IoReadAccess, protections[p].read);
            expect_lock(mdl, modes[m], IoWriteAccess, protections[p].write);
            expect_lock(mdl, modes[m], IoModifyAccess, protections[p].write);
        }
        IoFreeMdl(mdl);
        pinion_user_free(user);
    }
}

/* MmProbeAndLockPages-08: what counts is the protection at the time of the call, after
   pinion_user_protect. */
SILENT_TEST(mm_probe_and_lock, lock__protection_changed__follows_the_change)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, PAGE_SIZE);

    for (SIZE_T p = 0; p < ARRAYSIZE(protections); p++) {
        pinion_user_protect(user, PAGE_SIZE, protections[p].protection);
        expect_lock(mdl, UserMode, IoReadAccess, protections[p].read);
        expect_lock(mdl, UserMode, IoWriteAccess, protections[p].write);
    }
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-08 MmProbeAndLockPages-07: a trimmed page that refuses the operation refuses it
   still. */
SILENT_TEST(mm_probe_and_lock, lock_for_writing__trimmed_read_only_page__raises)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = mdl_over(user, PAGE_SIZE);

    pinion_user_protect(user, PAGE_SIZE, PAGE_READONLY);
    EXPECT_EQ(pinion_trim(), 1);
    expect_refused(mdl, UserMode, IoWriteAccess, STATUS_ACCESS_VIOLATION);
    EXPECT_PATTERN(user, PAGE_SIZE, 3);
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-15: a guard page raises STATUS_GUARD_PAGE_VIOLATION once; then it is a page like any
   other. */
SILENT_TEST(mm_probe_and_lock, lock__guard_page__raises_once)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, 2 * PAGE_SIZE);

    pinion_user_protect(user + PAGE_SIZE, PAGE_SIZE, PAGE_READWRITE | PAGE_GUARD);
    expect_refused(mdl, UserMode, IoReadAccess, STATUS_GUARD_PAGE_VIOLATION);
    EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-17 MmProbeAndLockPages-16: wherever the page that refuses lies, no page stays locked,
   and the MDL is as it was. */
SILENT_TEST(mm_probe_and_lock, lock__one_page_refuses__nothing_stays_locked)
{
    enum { PAGES = 5 };
    UCHAR *const user = user_pattern(PAGES, 3);
    const PMDL mdl = mdl_over(user + 9, (PAGES - 1) * PAGE_SIZE);

    for (SIZE_T bad = 0; bad < PAGES; bad++) {
        pinion_user_protect(user + bad * PAGE_SIZE, PAGE_SIZE, PAGE_READONLY);
        expect_refused(mdl, UserMode, IoWriteAccess, STATUS_ACCESS_VIOLATION);
        expect_refused(mdl, KernelMode, IoModifyAccess, STATUS_ACCESS_VIOLATION);
        pinion_user_protect(user + bad * PAGE_SIZE, PAGE_SIZE, PAGE_READWRITE);
        EXPECT_EQ(pinion_trim(), PAGES);
        EXPECT_PATTERN(user, PAGES * PAGE_SIZE, 3);
    }
    EXPECT_STATUS(try_lock(mdl, UserMode, IoWriteAccess), STATUS_SUCCESS);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-17: a refused lock has changed nothing, not even the entries of the PFN array. */
SILENT_TEST(mm_probe_and_lock, lock__last_page_refuses__pfn_array_is_as_it_was)
{
    UCHAR *const user = user_pages(3, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, 3 * PAGE_SIZE);

    pinion_user_protect(user + 2 * PAGE_SIZE, PAGE_SIZE, PAGE_READONLY);
    fill_pattern(MmGetMdlPfnArray(mdl), 3 * sizeof(PFN_NUMBER), 7);
    EXPECT(NT_ERROR(try_lock(mdl, UserMode, IoWriteAccess)));
    EXPECT_PATTERN(MmGetMdlPfnArray(mdl), 3 * sizeof(PFN_NUMBER), 7);
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-17: a refusal at the end of a range of several large blocks takes back the locks of
   all of them. */
SILENT_TEST(mm_probe_and_lock, lock__last_page_of_many_blocks_refuses__nothing_stays_locked)
{
    enum { PAGES = 3 * 512 + 7 };
    UCHAR *const user = user_pages(PAGES, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, PAGES * PAGE_SIZE);

    pinion_user_protect(user + (PAGES - 1) * PAGE_SIZE, PAGE_SIZE, PAGE_READONLY);
    expect_refused(mdl, UserMode, IoWriteAccess, STATUS_ACCESS_VIOLATION);
    EXPECT_EQ(pinion_trim(), PAGES);
    EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
    EXPECT_EQ(counters_now().locked_pages, PAGES);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* A lock of the page at the context's address, that nobody guards. */
static void lock_unguarded(void *context HARNESS_UNUSED)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_NOACCESS), PAGE_SIZE);

    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
}

/* MmProbeAndLockPages-16: a failure that no handler catches stops the machine with the exception's code. */
TEST_UNTIDY(mm_probe_and_lock, lock__refused_outside_of_any_try__stops)
{
    const struct stop stop = run_until_stop(lock_unguarded, NULL);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, KMODE_EXCEPTION_NOT_HANDLED);
    EXPECT_EQ((ULONG)stop.p[0], (ULONG)STATUS_ACCESS_VIOLATION);
}

/* ---- Modes and ranges ---------------------------------------------------------------------------------- */

/* MmProbeAndLockPages-04: UserMode refuses addresses of the system, whatever lies there; KernelMode takes
   them. */
SILENT_TEST(mm_probe_and_lock, lock__system_addresses__refused_in_user_mode_only)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE), *const pool = pool_pages(1);
    const PMDL source = locked_mdl(user, PAGE_SIZE);
    PVOID const addresses[] = {pool, MmGetSystemAddressForMdlSafe(source, NORMAL_NX)};

    for (SIZE_T i = 0; i < ARRAYSIZE(addresses); i++) {
        const PMDL mdl = mdl_over(addresses[i], PAGE_SIZE);

        expect_range_refused(addresses[i], PAGE_SIZE, UserMode);
        EXPECT_STATUS(try_lock(mdl, KernelMode, IoWriteAccess), STATUS_SUCCESS);
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], pfn_of(addresses[i]));
        unlock_and_free(mdl);
    }
    unlock_and_free(source);
    ExFreePool(pool);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-04: a range that starts in a process and runs out of its memory, and one where no
   memory is, are refused in both modes. */
SILENT_TEST(mm_probe_and_lock, lock__addresses_without_memory__refused)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE), *const freed = user_pages(1, PAGE_READWRITE);

    pinion_user_free(freed);
    for (SIZE_T m = 0; m < ARRAYSIZE(modes); m++) {
        expect_range_refused(user + 1, 64 * 1024 * PAGE_SIZE, modes[m]);
        expect_range_refused(freed, PAGE_SIZE, modes[m]);
        expect_range_refused(NULL, PAGE_SIZE, modes[m]);
        expect_range_refused((PVOID)0x10, 1, modes[m]);
    }
    pinion_user_free(user);
}

/* MmProbeAndLockPages-04: ranges at the top of the address space, across its end, and in the hole of
   non-canonical addresses are refused in both modes. */
SILENT_TEST(mm_probe_and_lock, lock__range_wraps_or_is_out_of_the_world__refused)
{
    PVOID const top = (PVOID) ~(ULONG_PTR)(PAGE_SIZE - 1);

    for (SIZE_T m = 0; m < ARRAYSIZE(modes); m++) {
        expect_range_refused(top, PAGE_SIZE, modes[m]);
        expect_range_refused((PUCHAR)top + PAGE_SIZE - 1, 1, modes[m]);
        expect_range_refused(top, 2 * PAGE_SIZE, modes[m]);
        expect_range_refused((PVOID)0x8000000000000000, PAGE_SIZE, modes[m]);
        expect_range_refused((PVOID)0x00007FFFFFFFF000, 2 * PAGE_SIZE, modes[m]);
    }
}

/* MmProbeAndLockPages-04: memory of another process is no memory here, in either mode. */
SILENT_TEST(mm_probe_and_lock, lock__memory_of_another_process__refused)
{
    const PEPROCESS other = pinion_process_create("other");

    pinion_process_attach(other);
    UCHAR *const theirs = user_pages(2, PAGE_READWRITE);
    pinion_process_attach(NULL);
    for (SIZE_T m = 0; m < ARRAYSIZE(modes); m++)
        expect_range_refused(theirs, 2 * PAGE_SIZE, modes[m]);
    pinion_process_attach(other);
    unlock_and_free(locked_mdl(theirs, 2 * PAGE_SIZE));
    pinion_process_attach(NULL);
    pinion_process_exit(other);
}

/* MmProbeAndLockPages-02: each process locks its own pages; the frames of two processes are never the
   same. */
SILENT_TEST(mm_probe_and_lock, lock__two_processes__have_frames_of_their_own)
{
    const PEPROCESS other = pinion_process_create("other");
    const PMDL mine = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    pinion_process_attach(other);
    const PMDL theirs = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    EXPECT_PTR_EQ(theirs->Process, other);
    EXPECT_NE(MmGetMdlPfnArray(mine)[0], MmGetMdlPfnArray(theirs)[0]);
    pinion_process_attach(NULL);
    unlock_and_free(theirs);
    pinion_process_exit(other);
    unlock_and_free(mine);
}

/* ---- Host addresses ------------------------------------------------------------------------------------ */

static UCHAR static_buffer[3 * PAGE_SIZE];
static const UCHAR constant_buffer[2 * PAGE_SIZE] = {1};

/* Lock a host buffer in both modes; its system address is itself, its frames follow each other, its bytes
   stay. */
static void expect_host_lock(UCHAR *va, SIZE_T bytes)
{
    const PMDL mdl = mdl_over(va, bytes);

    fill_pattern(va, bytes, 6);
    for (SIZE_T m = 0; m < ARRAYSIZE(modes); m++) {
        EXPECT_STATUS(try_lock(mdl, modes[m], IoWriteAccess), STATUS_SUCCESS);
        EXPECT_EQ(counters_now().locked_pages, mdl_pages(mdl));
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], pfn_of(va));
        for (SIZE_T page = 1; page < mdl_pages(mdl); page++)
            EXPECT_EQ(MmGetMdlPfnArray(mdl)[page], MmGetMdlPfnArray(mdl)[0] + page);
        EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), va);
        EXPECT_PATTERN(va, bytes, 6);
        MmUnlockPages(mdl);
        EXPECT_EQ(counters_now().locked_pages, 0);
    }
    IoFreeMdl(mdl);
}

/* MmProbeAndLockPages-02 MmProbeAndLockPages-03: memory of the host program can be locked: heap, statics,
   stack. */
SILENT_TEST(mm_probe_and_lock, lock__heap_static_and_stack__are_counted_and_map_to_themselves)
{
    UCHAR on_stack[PAGE_SIZE + 17];
    UCHAR *const heap = malloc(3 * PAGE_SIZE);

    expect_host_lock(heap + 3, 2 * PAGE_SIZE);
    expect_host_lock(static_buffer + PAGE_SIZE - 1, PAGE_SIZE + 2);
    expect_host_lock(on_stack, sizeof(on_stack));
    free(heap);
}

/* MmProbeAndLockPages-08 MmProbeAndLockPages-05: constants of the host program can be locked for reading
   and not for writing. */
SILENT_TEST(mm_probe_and_lock, lock__constants_of_the_program__for_reading_only)
{
    const PMDL mdl = mdl_over((PVOID)(ULONG_PTR)constant_buffer, sizeof(constant_buffer));

    EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
    MmUnlockPages(mdl);
    expect_refused(mdl, UserMode, IoWriteAccess, STATUS_ACCESS_VIOLATION);
    expect_refused(mdl, KernelMode, IoModifyAccess, STATUS_ACCESS_VIOLATION);
    IoFreeMdl(mdl);
}

static UCHAR *host_pages(SIZE_T pages, int protection)
{
    UCHAR *const va = mmap(NULL, pages * PAGE_SIZE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    EXPECT(va != MAP_FAILED);
    return va;
}

/* MmProbeAndLockPages-08 MmProbeAndLockPages-17: host memory whose last page refuses is refused as a
   whole. */
SILENT_TEST(mm_probe_and_lock, lock__host_memory_with_a_refusing_page__raises_and_locks_nothing)
{
    UCHAR *const va = host_pages(3, PROT_READ | PROT_WRITE);
    const PMDL mdl = mdl_over(va, 3 * PAGE_SIZE);

    mprotect(va + 2 * PAGE_SIZE, PAGE_SIZE, PROT_READ);
    EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
    MmUnlockPages(mdl);
    expect_refused(mdl, UserMode, IoWriteAccess, STATUS_ACCESS_VIOLATION);
    mprotect(va + 2 * PAGE_SIZE, PAGE_SIZE, PROT_NONE);
    expect_refused(mdl, UserMode, IoReadAccess, STATUS_ACCESS_VIOLATION);
    munmap(va + PAGE_SIZE, PAGE_SIZE);
    expect_refused(mdl, KernelMode, IoReadAccess, STATUS_ACCESS_VIOLATION);
    IoFreeMdl(mdl);
}

/* MmProbeAndLockPages-03: a buffer that ends with its page is locked although the next page refuses. */
SILENT_TEST(mm_probe_and_lock, lock__host_buffer_ends_at_a_refusing_page__only_its_own_pages_are_probed)
{
    UCHAR *const va = host_pages(3, PROT_NONE);

    mprotect(va + PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE);
    unlock_and_free(locked_mdl(va + PAGE_SIZE, PAGE_SIZE));
    unlock_and_free(locked_mdl(va + 2 * PAGE_SIZE - 1, 1));
    expect_range_refused(va + 2 * PAGE_SIZE - 1, 2, UserMode);
    expect_range_refused(va + PAGE_SIZE - 1, 2, UserMode);
}

/* ---- Failures on demand -------------------------------------------------------------------------------- */

/* MmProbeAndLockPages-26 MmProbeAndLockPages-17: a lock that is made to fail raises an error, leaves all as
   it was, and the next one works. */
SILENT_TEST(mm_probe_and_lock, lock__made_to_fail__raises_and_changes_nothing)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, 2 * PAGE_SIZE);
    const struct pinion_counters before = counters_now();
    const MDL copy = *mdl;

    pinion_fail("MmProbeAndLockPages", 1);
    EXPECT(NT_ERROR(try_lock(mdl, UserMode, IoWriteAccess)));
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    EXPECT_STATUS(try_lock(mdl, UserMode, IoWriteAccess), STATUS_SUCCESS);
    unlock_and_free(mdl);
    pinion_user_free(user);
}
