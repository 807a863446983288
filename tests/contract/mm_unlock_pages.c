/* SPDX-License-Identifier: MIT */
/*
 * MmUnlockPages: what it gives back (locks, the system mapping), that an MDL can be locked anew, and what happens when
 * there is nothing to unlock.
 */

#include "harness.h"

#include <stdlib.h>

#include <wdm.h>
#include <pinion/pinion.h>

#include "support.h"

/* ---- What an unlock does ------------------------------------------------------------------------------- */

/* MmUnlockPages-01 MmUnlockPages-09 MmUnlockPages-04: the routine has its documented type, and after it the
   MDL is not locked. */
SILENT_TEST(mm_unlock, call_through_its_type__locked_mdl__is_unlocked)
{
    VOID (*const unlock)(PMDL) = MmUnlockPages;
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);

    unlock(mdl);
    EXPECT(!(mdl->MdlFlags & MDL_PAGES_LOCKED));
    EXPECT_EQ(counters_now().locked_pages, 0);
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmUnlockPages-03: a system mapping of the MDL goes with the lock, and the MDL no longer says that it is
   mapped. */
SILENT_TEST(mm_unlock, unlock__mdl_is_mapped__releases_the_mapping)
{
    UCHAR *const user = user_pages(3, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 3 * PAGE_SIZE);
    UCHAR *const system = map_system(mdl);

    EXPECT(MmIsAddressValid(system));
    EXPECT_EQ(counters_now().system_mappings, 1);
    EXPECT_EQ(counters_now().system_pages_mapped, 3);
    MmUnlockPages(mdl);
    EXPECT(!(mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PAGES_LOCKED)));
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT_EQ(counters_now().system_pages_mapped, 0);
    EXPECT(!MmIsAddressValid(system));
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmUnlockPages-06: what MmGetSystemAddressForMdlSafe mapped needs no MmUnmapLockedPages; the machine ends
   without a leak. */
SILENT_TEST(mm_unlock, unlock__mapped_by_safe__leaves_no_mapping)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user + 5, 10);

    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) != NULL);
    MmUnlockPages(mdl);
    EXPECT_EQ(counters_now().system_mappings, 0);
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmUnlockPages-05: once unlocked, pages can be taken away, so that the PFN array speaks of nothing that
   lasts. */
SILENT_TEST(mm_unlock, unlock__pages__can_be_taken_away_again)
{
    UCHAR *const user = user_pattern(4, 2);
    const PMDL mdl = locked_mdl(user + 1, 3 * PAGE_SIZE);

    EXPECT_EQ(pinion_trim(), 0);
    MmUnlockPages(mdl);
    EXPECT_EQ(pinion_trim(), 4);
    EXPECT_EQ(MmGetPhysicalAddress(user).QuadPart, 0);
    EXPECT_PATTERN(user, 4 * PAGE_SIZE, 2);
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmUnlockPages-07: one MDL can be locked, mapped and unlocked again and again, for any operation. */
SILENT_TEST(mm_unlock, unlock__then_lock_again__works_each_time)
{
    UCHAR *const user = user_pattern(2, 1);
    const PMDL mdl = mdl_over(user + 10, PAGE_SIZE);

    for (ULONG round = 0; round < 6; round++) {
        EXPECT_STATUS(try_lock(mdl, round % 2, (LOCK_OPERATION)(round % 3)), STATUS_SUCCESS);
        EXPECT_MEM_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), user + 10, PAGE_SIZE);
        MmUnlockPages(mdl);
        EXPECT_EQ(counters_now().locked_pages, 0);
        pinion_trim();
    }
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmUnlockPages-02: an MDL in memory of the driver's own is unlocked as well as one of IoAllocateMdl. */
SILENT_TEST(mm_unlock, unlock__mdl_of_the_drivers_own__works)
{
    UCHAR memory[sizeof(MDL) + 2 * sizeof(PFN_NUMBER)] __attribute__((aligned(8)));
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = (PMDL)memory;

    MmInitializeMdl(mdl, user + 100, PAGE_SIZE);
    EXPECT_STATUS(try_lock(mdl, UserMode, IoWriteAccess), STATUS_SUCCESS);
    EXPECT_EQ(counters_now().locked_pages, 2);
    MmUnlockPages(mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    pinion_user_free(user);
}

/* MmUnlockPages-02: memory of a process is unlocked from any process, as completion routines do. */
SILENT_TEST(mm_unlock, unlock__another_process_attached__unlocks)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const PEPROCESS other = pinion_process_create("other");

    pinion_process_attach(other);
    MmUnlockPages(mdl);
    pinion_process_attach(NULL);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), 1);
    IoFreeMdl(mdl);
    pinion_process_exit(other);
    pinion_user_free(user);
}

/* MmUnlockPages-02: drivers cut ByteCount while an MDL is locked, and put it back: the unlock gives back
   every lock. */
SILENT_TEST(mm_unlock, unlock__byte_count_cut_and_restored__gives_everything_back)
{
    UCHAR *const user = user_pages(3, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 3 * PAGE_SIZE);

    EXPECT(map_system(mdl) != NULL);
    mdl->ByteCount = 100;
    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) != NULL);
    mdl->ByteCount = 3 * PAGE_SIZE;
    unlock_and_free(mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), 3);
    pinion_user_free(user);
}

/* MmUnlockPages-08: it may be called at DISPATCH_LEVEL, for a mapped MDL as well. */
SILENT_TEST(mm_unlock, unlock__at_dispatch_level__works)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);

    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) != NULL);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    MmUnlockPages(mdl);
    KeLowerIrql(before);
    EXPECT_EQ(counters_now().locked_pages, 0);
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmUnlockPages-03: without the verifier too, lock and mapping are given back at once. */
TEST(mm_unlock, unlock__verifier_off__releases_lock_and_mapping)
{
    boot("verifier=off");
    UCHAR *const user = user_pattern(2, 1);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);

    EXPECT_MEM_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), user, 2 * PAGE_SIZE);
    MmUnlockPages(mdl);
    EXPECT(!(mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PAGES_LOCKED)));
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), 2);
    IoFreeMdl(mdl);
}

/* ---- Mistakes that stop the machine -------------------------------------------------------------------- */

static void tell(uint64_t *words, PMDL mdl)
{
    words[0] = (uint64_t)(uintptr_t)mdl;
    words[1] = mdl_flags(mdl);
}

/* The body's unlock must stop with 0xC4 and this subcode, the MDL and its flags. */
static struct stop expect_refusal(void (*body)(void *), uint64_t subcode)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(body, words, DRIVER_VERIFIER_DETECTED_VIOLATION, subcode);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    return stop;
}

static void unlock_never_locked(void *words)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    tell(words, mdl);
    MmUnlockPages(mdl);
}

/* The driver forgot that its lock was refused, a common slip on error paths. */
static void unlock_after_refused_lock(void *words)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READONLY), PAGE_SIZE);

    EXPECT_STATUS(try_lock(mdl, UserMode, IoWriteAccess), STATUS_ACCESS_VIOLATION);
    tell(words, mdl);
    MmUnlockPages(mdl);
}

static void unlock_twice(void *words)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    MmUnlockPages(mdl);
    tell(words, mdl);
    MmUnlockPages(mdl);
}

static void unlock_nonpaged(void *words)
{
    const PMDL mdl = mdl_over(pool_pages(1), PAGE_SIZE);

    MmBuildMdlForNonPagedPool(mdl);
    tell(words, mdl);
    MmUnlockPages(mdl);
}

static void unlock_partial(void *words)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL source = locked_mdl(user, 2 * PAGE_SIZE), part = mdl_over(user, PAGE_SIZE);

    IoBuildPartialMdl(source, part, user, PAGE_SIZE);
    tell(words, part);
    MmUnlockPages(part);
}

/* MmUnlockPages-02 MmUnlockPages-10: an MDL that was never locked, or whose lock was refused, stops with
   0xC4/0x7C. */
TEST_UNTIDY(mm_unlock, unlock__never_locked__stops)
{
    expect_refusal(unlock_never_locked, 0x7C);
    expect_refusal(unlock_after_refused_lock, 0x7C);
}

/* MmUnlockPages-10: a second unlock of one lock stops with 0xC4/0x7C. */
TEST_UNTIDY(mm_unlock, unlock__second_time__stops)
{
    expect_refusal(unlock_twice, 0x7C);
}

/* MmUnlockPages-11: an MDL of nonpaged pool stops with 0xC4/0x7D. */
TEST_UNTIDY(mm_unlock, unlock__mdl_of_nonpaged_pool__stops)
{
    expect_refusal(unlock_nonpaged, 0x7D);
}

/* MmUnlockPages-12 Driver_Verifier_automatic_MDL_checks-03: a partial MDL stops with 0xC4/0xB4 and
   MDL_PARTIAL. */
TEST_UNTIDY(mm_unlock, unlock__partial_mdl__stops)
{
    const struct stop stop = expect_refusal(unlock_partial, 0xB4);

    EXPECT_EQ(stop.p[3], MDL_PARTIAL);
}

static void unlock_above_dispatch(void *words)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    tell(words, mdl);
    raise_irql(DISPATCH_LEVEL + 1);
    MmUnlockPages(mdl);
}

/* MmUnlockPages-13 MmUnlockPages-08: above DISPATCH_LEVEL it stops with 0xC4/0x78, the IRQL and the MDL. */
TEST_UNTIDY(mm_unlock, unlock__above_dispatch_level__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop =
        expect_stop(unlock_above_dispatch, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x78);

    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], 0);
}

/* ---- The same without the verifier --------------------------------------------------------------------- */

/* An unlock too many, as the context's first word says: 0 with the flag clear, 1 with the flag set again by
   hand. */
static void unlock_too_often(void *context)
{
    uint64_t *const words = context;

    boot("verifier=off");
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE), other = locked_mdl(user + PAGE_SIZE, PAGE_SIZE);
    words[1] = (uint64_t)(uintptr_t)mdl;
    words[2] = MmGetMdlPfnArray(mdl)[0];
    EXPECT(other->MdlFlags & MDL_PAGES_LOCKED);
    MmUnlockPages(mdl);
    if (words[0])
        mdl->MdlFlags |= MDL_PAGES_LOCKED;
    MmUnlockPages(mdl);
}

/* MmUnlockPages-14 MmUnlockPages-15: without the verifier an unlock too many still stops, with 0x76/1 and
   the MDL, or with 0x4E/7 and the frame. */
TEST_UNTIDY(mm_unlock, unlock__second_time_verifier_off__stops)
{
    uint64_t *const words = shared_words();

    for (uint64_t by_hand = 0; by_hand < 2; by_hand++) {
        words[0] = by_hand;
        const struct stop stop = run_until_stop(unlock_too_often, words);

        EXPECT(stop.stopped);
        EXPECT(stop.code == PROCESS_HAS_LOCKED_PAGES || stop.code == PFN_LIST_CORRUPT);
        EXPECT_EQ(stop.p[0], stop.code == PROCESS_HAS_LOCKED_PAGES ? 1 : 7);
        EXPECT_EQ(stop.p[1], stop.code == PROCESS_HAS_LOCKED_PAGES ? words[1] : words[2]);
    }
}

static void unlock_corrupted(void *context)
{
    uint64_t *const words = context;

    boot("verifier=off");
    const PMDL mdl = mdl_over(pool_pages(2), 2 * PAGE_SIZE);
    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    words[0] = (uint64_t)(uintptr_t)mdl;
    words[1] = (uint64_t)(uintptr_t)&MmGetMdlPfnArray(mdl)[1];
    MmGetMdlPfnArray(mdl)[1] = ~(PFN_NUMBER)0;
    MmUnlockPages(mdl);
}

/* Bug_checks-05: an unlock of an MDL in which a frame number was overwritten by one that no frame has stops
   with 0x1A/0x1236, the MDL, the entry and the number. */
TEST_UNTIDY(mm_unlock, unlock__pfn_overwritten__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(unlock_corrupted, words, MEMORY_MANAGEMENT, 0x1236);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    EXPECT_EQ(stop.p[3], ~(uint64_t)0);
}
