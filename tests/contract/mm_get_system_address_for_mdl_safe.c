/* SPDX-License-Identifier: MIT */
/*
 * MmGetSystemAddressForMdlSafe: one system address for an MDL, made when it is first asked for, whatever built the MDL,
 * and gone with whatever ends it.
 */

#include "harness.h"

#include <pthread.h>
#include <string.h>

#include <wdm.h>
#include <pinion/pinion.h>

#include "support.h"

/* ---- The address --------------------------------------------------------------------------------------- */

/* MmGetSystemAddressForMdlSafe-01 MmGetSystemAddressForMdlSafe-22 MmGetSystemAddressForMdlSafe-02: it takes
   an MDL and a priority, and gives an address that shows the pages of the MDL. */
SILENT_TEST(mm_get_system_address, call_through_its_type__locked_mdl__shows_the_pages)
{
    PVOID (*const get)(PMDL, ULONG) = MmGetSystemAddressForMdlSafe;
    UCHAR *const user = user_pattern(2, 3);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    const UCHAR *const system = get(mdl, NORMAL_NX);

    EXPECT(system != NULL && system != user);
    EXPECT_PATTERN(system, 2 * PAGE_SIZE, 3);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-05 MmGetSystemAddressForMdlSafe-02: the address has the offset of the buffer
   in its page, at every offset that matters, for each priority. */
SILENT_TEST(mm_get_system_address, get__offsets_and_priorities__keeps_the_offset)
{
    static const SIZE_T offsets[] = {0, 1, 511, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE - 1};
    const ULONG priorities[] = {LOW_NX, NORMAL_NX, HIGH_NX};
    UCHAR *const user = user_pattern(4, 3);

    for (SIZE_T i = 0; i < ARRAYSIZE(offsets); i++) {
        const PMDL mdl = locked_mdl(user + offsets[i], PAGE_SIZE + 1);
        const UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, priorities[i % ARRAYSIZE(priorities)]);

        EXPECT_EQ(BYTE_OFFSET(system), MmGetMdlByteOffset(mdl));
        EXPECT_MEM_EQ(system, user + offsets[i], PAGE_SIZE + 1);
        unlock_and_free(mdl);
    }
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-04 MmGetSystemAddressForMdlSafe-13: the first call maps, later ones give the
   same address and map nothing, whatever priority they bring. */
SILENT_TEST(mm_get_system_address, get__again__gives_the_first_mapping)
{
    UCHAR *const user = user_pages(3, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, 3 * PAGE_SIZE);
    const PVOID first = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    EXPECT(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA);
    EXPECT_EQ(counters_now().system_mappings, 1);
    EXPECT_EQ(counters_now().system_pages_mapped, 3);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, HIGH_NX), first);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, LOW_NX | MdlMappingNoWrite), first);
    EXPECT_EQ(counters_now().system_mappings, 1);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-04: a mapping that MmMapLockedPagesSpecifyCache made is the one that it
   gives. */
SILENT_TEST(mm_get_system_address, get__mapped_before_by_hand__gives_that_mapping)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const PVOID mapped = map_system(mdl);

    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), mapped);
    EXPECT_EQ(counters_now().system_mappings, 1);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-12: it leaves an MDL as the mapping call of its page does: the same flags,
   counters and offset, and an address that can be written. */
SILENT_TEST(mm_get_system_address, get__beside_the_mapping_call__leaves_the_same_mdl)
{
    UCHAR *const user = user_pattern(2, 3);
    const PMDL one = locked_mdl(user + 9, PAGE_SIZE), two = locked_mdl(user + 9, PAGE_SIZE);
    UCHAR *const got = MmGetSystemAddressForMdlSafe(one, NORMAL_NX);
    UCHAR *const mapped = MmMapLockedPagesSpecifyCache(two, KernelMode, MmCached, NULL, FALSE, NORMAL_NX);

    EXPECT_EQ(one->MdlFlags, two->MdlFlags);
    EXPECT_PTR_EQ(one->MappedSystemVa, got);
    EXPECT_PTR_EQ(two->MappedSystemVa, mapped);
    EXPECT_EQ(counters_now().system_pages_mapped, 4);
    got[0] = 0x5A;
    EXPECT(mapped[0] == 0x5A && user[9] == 0x5A);
    unlock_and_free(two);
    unlock_and_free(one);
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-20: a driver that wants another cache type maps the pages itself, and then
   gets that mapping. */
SILENT_TEST(mm_get_system_address, get__mapped_write_combined_by_hand__gives_that_mapping)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const PVOID mapped =
        MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmWriteCombined, NULL, FALSE, NORMAL_NX);

    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), mapped);
    EXPECT_PATTERN(mapped, PAGE_SIZE, 3);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-23: for no MDL, as of a request of zero bytes, it gives NULL; the macro of
   Windows would touch address 0 there, so a warning says so. */
WARN_TEST(mm_get_system_address, get__no_mdl__is_null_with_a_warning, "null-mdl")
{
    EXPECT(MmGetSystemAddressForMdlSafe(NULL, NORMAL_NX) == NULL);
    EXPECT_EQ(counters_now().system_mappings, 0);
}

/* MmGetSystemAddressForMdlSafe-21: it may be called at DISPATCH_LEVEL. */
SILENT_TEST(mm_get_system_address, get__at_dispatch_level__works)
{
    UCHAR *const user = user_pattern(2, 3);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    const UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    const SIZE_T mismatch = pattern_mismatch(system, 2 * PAGE_SIZE, 3);

    KeLowerIrql(before);
    EXPECT_EQ(mismatch, 2 * PAGE_SIZE);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static PVOID get_on_thread(void *mdl)
{
    return MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
}

/* MmGetSystemAddressForMdlSafe-19: threads that take turns may all ask for one MDL, and get the one
   mapping. */
SILENT_TEST(mm_get_system_address, get__from_threads_in_turn__gives_one_mapping)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    PVOID got[2];

    for (SIZE_T i = 0; i < ARRAYSIZE(got); i++) {
        pthread_t thread;

        EXPECT_EQ(pthread_create(&thread, NULL, get_on_thread, mdl), 0);
        pthread_join(thread, &got[i]);
    }
    EXPECT(got[0] != NULL);
    EXPECT_PTR_EQ(got[1], got[0]);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), got[0]);
    EXPECT_EQ(counters_now().system_mappings, 1);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-02 MmGetSystemAddressForMdlSafe-13: without the verifier too the address
   differs from the buffer's, shows its pages, and stays the same. */
TEST(mm_get_system_address, get__verifier_off__shows_the_pages)
{
    boot("verifier=off");
    UCHAR *const user = user_pattern(3, 3);
    const PMDL mdl = locked_mdl(user + 11, 2 * PAGE_SIZE);
    UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

    EXPECT(system != NULL && system != user + 11);
    EXPECT_EQ(BYTE_OFFSET(system), 11);
    EXPECT_MEM_EQ(system, user + 11, 2 * PAGE_SIZE);
    fill_pattern(system, 2 * PAGE_SIZE, 8);
    EXPECT_PATTERN(user + 11, 2 * PAGE_SIZE, 8);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, HighPagePriority), system);
    EXPECT_EQ(counters_now().system_mappings, 1);
    unlock_and_free(mdl);
}

/* MmGetSystemAddressForMdlSafe-02: without the verifier, frames that do not lie side by side are mapped in
   the order of the MDL. */
TEST(mm_get_system_address, get__verifier_off_and_frames_apart__maps_them_in_order)
{
    boot("verifier=off");
    UCHAR *const user = user_pattern(4, 3);
    const PMDL source = locked_mdl(user, 4 * PAGE_SIZE), backwards = mdl_over(NULL, 4 * PAGE_SIZE);

    for (SIZE_T i = 0; i < 4; i++)
        MmGetMdlPfnArray(backwards)[i] = MmGetMdlPfnArray(source)[3 - i];
    backwards->MdlFlags |= MDL_PAGES_LOCKED;
    const UCHAR *const system = MmGetSystemAddressForMdlSafe(backwards, NORMAL_NX);
    for (SIZE_T i = 0; i < 4; i++)
        EXPECT_MEM_EQ(system + i * PAGE_SIZE, user + (3 - i) * PAGE_SIZE, PAGE_SIZE);
    MmUnmapLockedPages((PVOID)(ULONG_PTR)system, backwards);
    IoFreeMdl(backwards);
    unlock_and_free(source);
}

/* ---- What ends the mapping ----------------------------------------------------------------------------- */

/* MmGetSystemAddressForMdlSafe-14: for a locked MDL, MmUnlockPages releases the mapping. */
SILENT_TEST(mm_get_system_address, unlock__mapped_mdl__releases_the_mapping)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);

    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) != NULL);
    MmUnlockPages(mdl);
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-15: an MDL of nonpaged pool gives the pool's own address, maps nothing, and
   needs no cleanup. */
SILENT_TEST(mm_get_system_address, get__mdl_of_nonpaged_pool__gives_the_pools_address)
{
    UCHAR *const pool = pool_pages(2);
    const PMDL mdl = mdl_over(pool + 21, PAGE_SIZE);

    MmBuildMdlForNonPagedPool(mdl);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), pool + 21);
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT_EQ(counters_now().system_pages_mapped, 0);
    IoFreeMdl(mdl);
    ExFreePool(pool);
}

/* MmGetSystemAddressForMdlSafe-16: the mapping of a partial MDL is released by MmPrepareMdlForReuse. */
SILENT_TEST(mm_get_system_address, prepare_for_reuse__mapped_partial_mdl__releases_the_mapping)
{
    UCHAR *const user = user_pattern(2, 3);
    const PMDL source = locked_mdl(user, 2 * PAGE_SIZE), part = mdl_over(user, 2 * PAGE_SIZE);

    for (ULONG piece = 0; piece < 2; piece++) {
        IoBuildPartialMdl(source, part, user + piece * PAGE_SIZE, PAGE_SIZE);
        EXPECT_MEM_EQ(MmGetSystemAddressForMdlSafe(part, NORMAL_NX), user + piece * PAGE_SIZE, PAGE_SIZE);
        EXPECT_EQ(counters_now().system_mappings, 1);
        MmPrepareMdlForReuse(part);
        EXPECT_EQ(counters_now().system_mappings, 0);
    }
    IoFreeMdl(part);
    unlock_and_free(source);
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-16: the mapping of a partial MDL is released by IoFreeMdl. */
SILENT_TEST(mm_get_system_address, free__mapped_partial_mdl__releases_the_mapping)
{
    UCHAR *const user = user_pattern(2, 3);
    const PMDL source = locked_mdl(user, 2 * PAGE_SIZE), part = mdl_over(user, PAGE_SIZE);

    IoBuildPartialMdl(source, part, user, PAGE_SIZE);
    EXPECT_PATTERN(MmGetSystemAddressForMdlSafe(part, NORMAL_NX), PAGE_SIZE, 3);
    IoFreeMdl(part);
    EXPECT_EQ(counters_now().system_mappings, 0);
    unlock_and_free(source);
    pinion_user_free(user);
}

static void rebuild_mapped_partial(void *context HARNESS_UNUSED)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL source = locked_mdl(user, 2 * PAGE_SIZE), part = mdl_over(user, PAGE_SIZE);

    IoBuildPartialMdl(source, part, user, PAGE_SIZE);
    EXPECT(MmGetSystemAddressForMdlSafe(part, NORMAL_NX) != NULL);
    IoBuildPartialMdl(source, part, user + PAGE_SIZE, PAGE_SIZE);
}

/* MmGetSystemAddressForMdlSafe-16: a partial MDL that is built anew while it holds a mapping of its own
   leaks it, with a warning. */
TEST_UNTIDY(mm_get_system_address, partial_mdl__built_anew_without_release__is_reported)
{
    const struct stop stop = run_until_stop(rebuild_mapped_partial, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "partial-mapping-leaked"), 1);
}

/* An MDL with pages of its own; pages_free undoes it. */
static PMDL pages_allocate(SIZE_T pages)
{
    const PHYSICAL_ADDRESS zero = {.QuadPart = 0}, anywhere = {.QuadPart = MAXLONGLONG};
    const PMDL mdl = MmAllocatePagesForMdlEx(zero, anywhere, zero, pages * PAGE_SIZE, MmCached,
                                             MM_ALLOCATE_FULLY_REQUIRED);

    EXPECT(mdl != NULL);
    return mdl;
}

static void pages_free(PMDL mdl)
{
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

/* MmGetSystemAddressForMdlSafe-17 MmGetSystemAddressForMdlSafe-06: for an MDL of MmAllocatePagesForMdlEx
   one MmUnmapLockedPages releases the mapping, however often it was asked for, and it can be mapped
   anew. */
SILENT_TEST(mm_get_system_address, unmap__mdl_of_allocated_pages__releases_the_one_mapping)
{
    const PMDL mdl = pages_allocate(3);

    for (ULONG round = 0; round < 2; round++) {
        UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

        for (ULONG again = 0; again < 3; again++)
            EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), system);
        fill_pattern(system, 3 * PAGE_SIZE, round);
        EXPECT_PATTERN(system, 3 * PAGE_SIZE, round);
        EXPECT_EQ(counters_now().system_mappings, 1);
        MmUnmapLockedPages(system, mdl);
        EXPECT_EQ(counters_now().system_mappings, 0);
        EXPECT(!MmIsAddressValid(system));
    }
    pages_free(mdl);
}

/* MmGetSystemAddressForMdlSafe-18: from Windows 7 on, MmFreePagesFromMdl releases the mapping of such an
   MDL. */
SILENT_TEST(mm_get_system_address, free_pages__mapped_mdl__releases_the_mapping)
{
    const PMDL mdl = pages_allocate(2);
    UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    fill_pattern(system, 2 * PAGE_SIZE, 1);
    pages_free(mdl);
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT(!MmIsAddressValid(system));
}

static void free_mapped_pages_on_vista(void *context HARNESS_UNUSED)
{
    boot("windows=vista");
    const PMDL mdl = pages_allocate(2);
    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) != NULL);
    pages_free(mdl);
}

/* MmGetSystemAddressForMdlSafe-18: before Windows 7 the driver must unmap first, and is told so. */
TEST_UNTIDY(mm_get_system_address, free_pages__mapped_mdl_on_vista__is_reported)
{
    const struct stop stop = run_until_stop(free_mapped_pages_on_vista, NULL);

    EXPECT(stop.stopped || stop_warnings(&stop, NULL) == 1);
}

/* ---- Protection ---------------------------------------------------------------------------------------- */

/* What the context's first word says is ORed into the priority; leaves the address that is stored to in
   it. */
static void store_through(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = locked_mdl(user_pattern(2, 3), 2 * PAGE_SIZE);
    UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX | (ULONG)words[0]);

    EXPECT_PATTERN(system, 2 * PAGE_SIZE, 3);
    words[1] = (uint64_t)(uintptr_t)(system + PAGE_SIZE);
    EXPECT_STATUS(pinion_try(touch_store, system + PAGE_SIZE), STATUS_SUCCESS);
    unlock_and_free(mdl);
}

/* MmGetSystemAddressForMdlSafe-10: with MdlMappingNoWrite the pages can be read, and a store stops with
   0xBE; without it, stores go through. */
TEST_UNTIDY(mm_get_system_address, get__no_write__store_stops)
{
    uint64_t *const words = shared_words();

    words[0] = 0;
    EXPECT_EQ(run_until_stop(store_through, words).exit_status, 0);
    words[0] = MdlMappingNoWrite;
    const struct stop stop = run_until_stop(store_through, words);
    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, ATTEMPTED_WRITE_TO_READONLY_MEMORY);
    EXPECT_EQ(stop.p[0], words[1]);
}

enum { RETURN_INSTRUCTION = 0xC3 };

/* The context's first word is the priority; leaves the address in it. */
static void execute_through(void *context)
{
    uint64_t *const words = context;
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const PVOID system = MmGetSystemAddressForMdlSafe(mdl, (ULONG)words[0]);

    user[0] = RETURN_INSTRUCTION;
    words[0] = (uint64_t)(uintptr_t)system;
    touch_execute(system);
    unlock_and_free(mdl);
}

/* MmGetSystemAddressForMdlSafe-11: with MdlMappingNoExecute an execution stops with 0x50 and its code. */
TEST_UNTIDY(mm_get_system_address, get__no_execute__execution_stops)
{
    uint64_t *const words = shared_words();

    words[0] = NORMAL_NX;
    const struct stop stop = run_until_stop(execute_through, words);
    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT_EQ(stop.p[0], words[0]);
    EXPECT_EQ(stop.p[1], 0x10);
}

/* MmGetSystemAddressForMdlSafe-11: without MdlMappingNoExecute the mapping can be executed, which is one
   warning. */
TEST_UNTIDY(mm_get_system_address, get__executable__runs_with_a_warning)
{
    uint64_t *const words = shared_words();

    words[0] = NormalPagePriority;
    const struct stop stop = run_until_stop(execute_through, words);
    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "executable-mapping"), 1);
}

static void map_executable_checked(void *context HARNESS_UNUSED)
{
    boot("verifier=0x02000000");
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    MmGetSystemAddressForMdlSafe(mdl, HighPagePriority);
}

/* MmGetSystemAddressForMdlSafe-11 Driver_Verifier_code_integrity-01: with code-integrity checking, an
   executable mapping stops with 0xC4/0x2002, the caller's address and the priority. */
TEST_UNTIDY(mm_get_system_address, get__executable_under_code_integrity__stops)
{
    const struct stop stop =
        expect_stop(map_executable_checked, NULL, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x2002);

    EXPECT_NE(stop.p[1], 0);
    EXPECT_EQ(stop.p[2], HighPagePriority);
}

static void write_read_locked(void *context HARNESS_UNUSED)
{
    const PMDL mdl = mdl_over(user_pattern(1, 3), PAGE_SIZE);

    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    EXPECT_PATTERN(system, PAGE_SIZE, 3);
    touch_store(system);
    unlock_and_free(mdl);
}

/* MmGetSystemAddressForMdlSafe-24: a store through the address of an MDL that was locked for reading is
   reported. */
TEST_UNTIDY(mm_get_system_address, get__locked_for_reading__store_is_reported)
{
    const struct stop stop = run_until_stop(write_read_locked, NULL);

    EXPECT(stop.stopped || stop_warnings(&stop, NULL) == 1);
}

static void write_part_of_read_locked(void *context HARNESS_UNUSED)
{
    UCHAR *const va = user_pages(1, PAGE_READONLY);
    const PMDL mdl = mdl_over(va, PAGE_SIZE), part = mdl_over(va, PAGE_SIZE);

    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    IoBuildPartialMdl(mdl, part, va, PAGE_SIZE);
    touch_store(MmGetSystemAddressForMdlSafe(part, NORMAL_NX));
}

/* MmGetSystemAddressForMdlSafe-24: the same through a partial MDL of it, which has pages that its user may not even write. */
TEST_UNTIDY(mm_get_system_address, get__partial_of_locked_for_reading__store_is_reported)
{
    EXPECT_EQ(run_until_stop(write_part_of_read_locked, NULL).code, ATTEMPTED_WRITE_TO_READONLY_MEMORY);
}

static void expect_no_address(PMDL mdl)
{
    const ULONG bytes = mdl->ByteCount;
    const CSHORT flags = mdl->MdlFlags;

    mdl->ByteCount = 0;
    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) == NULL);
    EXPECT(MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, NORMAL_NX) == NULL);
    EXPECT_EQ(mdl->MdlFlags, flags);
    mdl->ByteCount = bytes;
}

/* MmGetSystemAddressForMdlSafe-03: an MDL of no bytes has no page that could be mapped. */
SILENT_TEST(mm_get_system_address, get__no_bytes__is_null)
{
    UCHAR *const va = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(va, PAGE_SIZE);

    expect_no_address(mdl);
    unlock_and_free(mdl);
    pinion_user_free(va);
}

/* MmGetSystemAddressForMdlSafe-03: nor has it without the verifier. */
SILENT_TEST(mm_get_system_address, get__no_bytes_without_verifier__is_null)
{
    boot("verifier=off");
    UCHAR *const va = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(va, PAGE_SIZE);

    expect_no_address(mdl);
    unlock_and_free(mdl);
    pinion_user_free(va);
}

/* MmGetSystemAddressForMdlSafe-25: the rest of the buffer's last page, and the start of its first, can be
   touched. AddressSanitizer would tell of it, as tests/verifier/poison.c has it: nobody poisons without the verifier. */
SILENT_TEST(mm_get_system_address, get__bytes_around_the_buffer_in_its_pages__can_be_touched)
{
#if defined(__SANITIZE_ADDRESS__)
    boot("verifier=off");
#endif
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user + 100, 10);
    UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    EXPECT_EQ(system[PAGE_SIZE - 101], user[PAGE_SIZE - 1]);
    EXPECT_EQ(*(system - 100), user[0]);
    system[10] = 0x66;
    EXPECT_EQ(user[110], 0x66);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* One byte past the last page of a buffer that ends at its page's end. */
static void touch_past_the_last_page(void *context)
{
    const PMDL mdl = locked_mdl(user_pages(2, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    *(uint64_t *)context = (uint64_t)(uintptr_t)(system + PAGE_SIZE);
    touch_load(system + PAGE_SIZE);
}

/* MmGetSystemAddressForMdlSafe-25: past the last page there is nothing: a load stops with 0x50. */
TEST_UNTIDY(mm_get_system_address, get__byte_past_the_last_page__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_past_the_last_page, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT_EQ(stop.p[0], words[0]);
}

/* ---- Failure and misuse -------------------------------------------------------------------------------- */

/* MmGetSystemAddressForMdlSafe-03 MmGetSystemAddressForMdlSafe-26: a call that is made to fail gives NULL,
   and leaves the MDL and the counters as they were; the next one works. */
SILENT_TEST(mm_get_system_address, get__made_to_fail__is_null_and_changes_nothing)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const MDL copy = *mdl;
    const struct pinion_counters before = counters_now();

    pinion_fail("MmGetSystemAddressForMdlSafe", 1);
    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) == NULL);
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_SAME_COUNTERS(before);
    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX) != NULL);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmGetSystemAddressForMdlSafe-03: where the pages are mapped already there is nothing that could fail. */
SILENT_TEST(mm_get_system_address, get__made_to_fail_but_mapped__gives_the_mapping)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE), *const pool = pool_pages(1);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE), nonpaged = mdl_over(pool, PAGE_SIZE);
    const PVOID system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    MmBuildMdlForNonPagedPool(nonpaged);
    pinion_fail("MmGetSystemAddressForMdlSafe", 1);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), system);
    EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(nonpaged, NORMAL_NX), pool);
    pinion_fail("MmGetSystemAddressForMdlSafe", 0);
    IoFreeMdl(nonpaged);
    unlock_and_free(mdl);
    ExFreePool(pool);
    pinion_user_free(user);
}

static void get_for_unlocked(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    words[0] = (uint64_t)(uintptr_t)mdl;
    words[1] = mdl_flags(mdl);
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
}

/* MmGetSystemAddressForMdlSafe-06: an MDL whose pages are not locked stops with 0xC4/0xB3. */
TEST_UNTIDY(mm_get_system_address, get__pages_not_locked__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(get_for_unlocked, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0xB3);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
}

static void get_above_dispatch(void *context)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    *(uint64_t *)context = (uint64_t)(uintptr_t)mdl;
    raise_irql(DISPATCH_LEVEL + 1);
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
}

/* MmGetSystemAddressForMdlSafe-21 MmGetSystemAddressForMdlSafe-12: above DISPATCH_LEVEL it stops as the
   mapping call does, with 0xC4/0x76, the IRQL, the MDL and KernelMode. */
TEST_UNTIDY(mm_get_system_address, get__above_dispatch_level__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(get_above_dispatch, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x76);

    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], KernelMode);
}

/* MmGetSystemAddressForMdlSafe-03: a host page cannot be protected by a second mapping: NULL, one warning,
   and the MDL as it was. */
WARN_TEST(mm_get_system_address, get__host_pages_without_write__is_null, "host-pages-not-mappable")
{
    static UCHAR buffer[100];
    const PMDL mdl = locked_mdl(buffer, sizeof(buffer));
    const MDL copy = *mdl;

    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX | MdlMappingNoWrite) == NULL);
    EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
    EXPECT_EQ(counters_now().system_mappings, 0);
    unlock_and_free(mdl);
}

/* MmGetSystemAddressForMdlSafe-03: host pages and others in one MDL have no common mapping: NULL and one
   warning. */
WARN_TEST(mm_get_system_address, get__host_and_process_pages_mixed__is_null, "host-pages-not-mappable")
{
    static UCHAR buffer[PAGE_SIZE];
    const PMDL host = locked_mdl(buffer, 1), user = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    const PMDL mixed = mdl_over(NULL, 2 * PAGE_SIZE);

    MmGetMdlPfnArray(mixed)[0] = MmGetMdlPfnArray(host)[0];
    MmGetMdlPfnArray(mixed)[1] = MmGetMdlPfnArray(user)[0];
    mixed->MdlFlags |= MDL_PAGES_LOCKED;
    EXPECT(MmGetSystemAddressForMdlSafe(mixed, NORMAL_NX) == NULL);
    IoFreeMdl(mixed);
    unlock_and_free(user);
    unlock_and_free(host);
}
