/* SPDX-License-Identifier: MIT */
/*
 * MmProbeAndLockPages: what the MDL says once its pages are locked, that locked pages stay, and how several locks of one
 * page live together.
 */

#include "harness.h"

#include <ntifs.h>
#include <pinion/pinion.h>

#include "locking.h"

/* ---- What a lock does ---------------------------------------------------------------------------------- */

/* MmProbeAndLockPages-01 MmProbeAndLockPages-22 MmProbeAndLockPages-10: the routine has its documented
   type, and after it the MDL is in the locked state. */
SILENT_TEST(mm_probe_and_lock, call_through_its_type__read_write_page__mdl_is_locked)
{
    VOID (*const lock)(PMDL, KPROCESSOR_MODE, LOCK_OPERATION) = MmProbeAndLockPages;
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, PAGE_SIZE);

    EXPECT(!(mdl->MdlFlags & MDL_PAGES_LOCKED));
    lock(mdl, KernelMode, IoModifyAccess);
    EXPECT(mdl->MdlFlags & MDL_PAGES_LOCKED);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* Where a range starts and how long it is, against the edges of pages. */
static const struct {
    SIZE_T offset, bytes;
} ranges[] = {
    {0, 1},
    {0, PAGE_SIZE - 1},
    {0, PAGE_SIZE},
    {0, PAGE_SIZE + 1},
    {1, PAGE_SIZE - 1},
    {1, PAGE_SIZE},
    {PAGE_SIZE - 1, 1},
    {PAGE_SIZE - 1, 2},
    {PAGE_SIZE - 1, PAGE_SIZE + 2},
    {PAGE_SIZE / 2, 3 * PAGE_SIZE},
    {0, 4 * PAGE_SIZE},
};

/* MmProbeAndLockPages-03 MmProbeAndLockPages-09: each PFN of a locked MDL is that of its page, for ranges
   at, before and behind the edges of pages. */
SILENT_TEST(mm_probe_and_lock, lock__ranges_around_page_edges__pfns_are_those_of_the_pages)
{
    UCHAR *const user = user_pattern(4, 2);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL mdl = locked_mdl(user + ranges[i].offset, ranges[i].bytes);

        for (SIZE_T page = 0; page < mdl_pages(mdl); page++)
            EXPECT_EQ(MmGetMdlPfnArray(mdl)[page], pfn_of((PUCHAR)MmGetMdlBaseVa(mdl) + page * PAGE_SIZE));
        unlock_and_free(mdl);
    }
    pinion_user_free(user);
}

/* MmProbeAndLockPages-02: a lock is counted once for each page that the range touches, and leaves the range
   as it was. */
SILENT_TEST(mm_probe_and_lock, lock__ranges_around_page_edges__counts_touched_pages)
{
    UCHAR *const user = user_pattern(4, 2);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL mdl = locked_mdl(user + ranges[i].offset, ranges[i].bytes);

        EXPECT_EQ(counters_now().locked_pages, mdl_pages(mdl));
        EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), user + ranges[i].offset);
        EXPECT_EQ(MmGetMdlByteCount(mdl), ranges[i].bytes);
        unlock_and_free(mdl);
        EXPECT_EQ(counters_now().locked_pages, 0);
    }
    EXPECT_PATTERN(user, 4 * PAGE_SIZE, 2);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-03: an MDL over memory of a process names the process; one over pool names none. */
SILENT_TEST(mm_probe_and_lock, lock__process_memory_and_pool__mdl_names_the_process_or_none)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE), *const pool = pool_pages(1);
    const PMDL user_mdl = locked_mdl(user, PAGE_SIZE), pool_mdl = mdl_over(pool, PAGE_SIZE);

    MmProbeAndLockPages(pool_mdl, KernelMode, IoWriteAccess);
    EXPECT_PTR_EQ(user_mdl->Process, PsGetCurrentProcess());
    EXPECT(pool_mdl->Process == NULL);
    unlock_and_free(pool_mdl);
    unlock_and_free(user_mdl);
    ExFreePool(pool);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-06 LOCK_OPERATION-01: locks for writing and for modifying leave the same flags, a
   lock for reading leaves no sign of writing. */
SILENT_TEST(mm_probe_and_lock, lock__each_operation__write_and_modify_are_one)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, PAGE_SIZE);
    CSHORT flags[ARRAYSIZE(operations)];

    for (SIZE_T i = 0; i < ARRAYSIZE(operations); i++) {
        MmProbeAndLockPages(mdl, UserMode, operations[i]);
        flags[i] = mdl->MdlFlags;
        MmUnlockPages(mdl);
    }
    EXPECT_EQ(flags[IoWriteAccess], flags[IoModifyAccess]);
    EXPECT(flags[IoWriteAccess] & MDL_WRITE_OPERATION);
    EXPECT(!(flags[IoReadAccess] & MDL_WRITE_OPERATION));
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-20 MmProbeAndLockPages-02: a driver at the top of a stack of direct I/O locks its
   caller's buffer, and what goes through the system address is seen through the user address and the
   reverse, at different addresses. */
SILENT_TEST(mm_probe_and_lock, locked_buffer__stores_on_either_side__are_seen_on_the_other)
{
    UCHAR *const user = user_pattern(3, 1);
    const SIZE_T bytes = 2 * PAGE_SIZE;
    const PMDL mdl = locked_mdl(user + 77, bytes);
    UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    EXPECT(system != NULL && system != user + 77);
    EXPECT_MEM_EQ(system, user + 77, bytes);
    fill_pattern(system, bytes, 8);
    EXPECT_PATTERN(user + 77, bytes, 8);
    EXPECT_EQ(user[76], pattern_byte(1, 76));
    EXPECT_EQ(user[77 + bytes], pattern_byte(1, 77 + bytes));
    fill_pattern(user + 77, bytes, 9);
    EXPECT_PATTERN(system, bytes, 9);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* ---- Residency ----------------------------------------------------------------------------------------- */

/* MmProbeAndLockPages-07: pages that were taken away are back, with their contents, once they are
   locked. */
SILENT_TEST(mm_probe_and_lock, lock__trimmed_pages__are_resident_with_their_contents)
{
    UCHAR *const user = user_pattern(3, 4);

    EXPECT_EQ(pinion_trim(), 3);
    EXPECT(!MmIsAddressValid(user + PAGE_SIZE));
    const PMDL mdl = locked_mdl(user, 3 * PAGE_SIZE);
    EXPECT(MmIsAddressValid(user + PAGE_SIZE));
    const UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    EXPECT_PATTERN(system, 3 * PAGE_SIZE, 4);
    EXPECT_PATTERN(user, 3 * PAGE_SIZE, 4);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-21 MmProbeAndLockPages-02: the trimmer takes the pages around a lock and none of the
   locked ones. */
SILENT_TEST(mm_probe_and_lock, trim__middle_pages_locked__takes_only_the_others)
{
    UCHAR *const user = user_pattern(5, 4);
    const PMDL mdl = locked_mdl(user + 2 * PAGE_SIZE - 1, PAGE_SIZE + 2);

    EXPECT_EQ(pinion_trim(), 2);
    for (SIZE_T page = 0; page < 5; page++)
        EXPECT_EQ(MmIsAddressValid(user + page * PAGE_SIZE), page >= 1 && page <= 3);
    unlock_and_free(mdl);
    EXPECT_EQ(pinion_trim(), 3);
    EXPECT_PATTERN(user, 5 * PAGE_SIZE, 4);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-21: a resident locked page keeps its frame through a trim; its contents come and go
   in one place. */
SILENT_TEST(mm_probe_and_lock, trim__locked_page__keeps_its_frame)
{
    UCHAR *const user = user_pattern(1, 4);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const ULONG64 pfn = MmGetMdlPfnArray(mdl)[0];

    EXPECT_EQ(pinion_trim(), 0);
    EXPECT_EQ(pfn_of(user), pfn);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], pfn);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-19: the address may be freed while the pages are locked: PFNs and contents stay, the
   address is gone. */
SILENT_TEST(mm_probe_and_lock, user_free__while_locked__pages_and_contents_stay)
{
    UCHAR *const user = user_pattern(2, 6);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    const UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    const PFN_NUMBER pfns[2] = {MmGetMdlPfnArray(mdl)[0], MmGetMdlPfnArray(mdl)[1]};

    pinion_user_free(user);
    EXPECT(!MmIsAddressValid(user));
    EXPECT_EQ(counters_now().locked_pages, 2);
    EXPECT_PATTERN(system, 2 * PAGE_SIZE, 6);
    EXPECT_MEM_EQ(MmGetMdlPfnArray(mdl), pfns, sizeof(pfns));
    unlock_and_free(mdl);
}

/* ---- Several locks of one page ------------------------------------------------------------------------- */

/* MmProbeAndLockPages-13: a page that several MDLs lock is locked once for each, and can be taken when the
   last lets go. */
SILENT_TEST(mm_probe_and_lock, three_mdls__one_page__unlocked_with_the_last)
{
    UCHAR *const user = user_pattern(1, 3);
    PMDL mdls[3];

    for (ULONG i = 0; i < 3; i++)
        mdls[i] = locked_mdl(user + i, 100);
    for (ULONG left = 3; left > 0; left--) {
        EXPECT_EQ(counters_now().locked_pages, left);
        EXPECT_EQ(pinion_trim(), 0);
        unlock_and_free(mdls[(left + 1) % 3]);
    }
    EXPECT_EQ(pinion_trim(), 1);
    EXPECT_PATTERN(user, PAGE_SIZE, 3);
    pinion_user_free(user);
}

/* MmProbeAndLockPages-13: MDLs that overlap in one page keep that page and each its own. */
SILENT_TEST(mm_probe_and_lock, two_mdls__overlapping_in_a_page__each_keeps_its_own)
{
    UCHAR *const user = user_pattern(3, 3);
    const PMDL low = locked_mdl(user, PAGE_SIZE + 1), high = locked_mdl(user + 2 * PAGE_SIZE - 1, PAGE_SIZE);

    EXPECT_EQ(counters_now().locked_pages, 4);
    EXPECT_EQ(pinion_trim(), 0);
    unlock_and_free(low);
    EXPECT_EQ(pinion_trim(), 1);
    EXPECT(MmIsAddressValid(user + PAGE_SIZE) && MmIsAddressValid(user + 2 * PAGE_SIZE));
    unlock_and_free(high);
    EXPECT_EQ(pinion_trim(), 2);
    pinion_user_free(user);
}

/* ---- Physical layout ----------------------------------------------------------------------------------- */

/* How many neighbours in a new buffer have neighbouring frames. */
static SIZE_T contiguous_neighbours(SIZE_T pages)
{
    const PMDL mdl = locked_mdl(user_pages(pages, PAGE_READWRITE), pages * PAGE_SIZE);
    const PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);
    SIZE_T count = 0;

    for (SIZE_T page = 1; page < pages; page++)
        count += pfns[page] == pfns[page - 1] + 1;
    unlock_and_free(mdl);
    return count;
}

/* MmProbeAndLockPages-03: under layout=scattered no two pages of a buffer have
   neighbouring frames. */
TEST(mm_probe_and_lock, lock__scattered_layout__no_frames_are_neighbours)
{
    boot("layout=scattered");
    EXPECT_EQ(contiguous_neighbours(256), 0);
}

/* MmProbeAndLockPages-03: under layout=linear a new buffer's frames follow each other. */
TEST(mm_probe_and_lock, lock__linear_layout__frames_follow_each_other)
{
    boot("layout=linear");
    EXPECT_EQ(contiguous_neighbours(256), 255);
}

/* MmProbeAndLockPages-03: no frame has number 0 or ~0, and the frames of a buffer all differ. */
TEST(mm_probe_and_lock, lock__many_pages__frames_differ_and_none_is_0)
{
    enum { PAGES = 128 };
    const PMDL mdl = locked_mdl(user_pages(PAGES, PAGE_READWRITE), PAGES * PAGE_SIZE);
    const PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);

    for (SIZE_T i = 0; i < PAGES; i++) {
        EXPECT(pfns[i] != 0 && pfns[i] != ~(PFN_NUMBER)0);
        for (SIZE_T j = 0; j < i; j++)
            EXPECT_NE(pfns[i], pfns[j]);
    }
    unlock_and_free(mdl);
}

/* MmProbeAndLockPages-02: an MDL of just below 4 GiB is locked and unlocked whole. */
TEST(mm_probe_and_lock, lock__four_gib_less_a_page__is_locked_whole)
{
    const SIZE_T bytes = 0x100000000 - PAGE_SIZE, pages = bytes / PAGE_SIZE;

    boot("ram=8G");
    UCHAR *const user = user_pages(pages, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, bytes);
    EXPECT_EQ(counters_now().locked_pages, pages);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[pages - 1], pfn_of(user + bytes - 1));
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* ---- IRQL ---------------------------------------------------------------------------------------------- */

/* MmProbeAndLockPages-18: nonpageable memory may be locked at DISPATCH_LEVEL. */
SILENT_TEST(mm_probe_and_lock, lock__pool_at_dispatch_level__works)
{
    UCHAR *const pool = pool_pages(1);
    const PMDL mdl = mdl_over(pool, PAGE_SIZE);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    KeLowerIrql(before);
    EXPECT(mdl->MdlFlags & MDL_PAGES_LOCKED);
    unlock_and_free(mdl);
    ExFreePool(pool);
}

/* MmProbeAndLockPages-18: pageable memory may be locked at APC_LEVEL, resident or not. */
SILENT_TEST(mm_probe_and_lock, lock__pageable_memory_at_apc_level__works)
{
    UCHAR *const user = user_pattern(2, 3);
    const PMDL mdl = mdl_over(user, 2 * PAGE_SIZE);

    pinion_trim();
    const KIRQL before = raise_irql(APC_LEVEL);
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    KeLowerIrql(before);
    EXPECT_PATTERN(user, 2 * PAGE_SIZE, 3);
    unlock_and_free(mdl);
    pinion_user_free(user);
}
