/* SPDX-License-Identifier: MIT */
/*
 * MmMapLockedPagesSpecifyCache into the current process: where a mapping lies, what it shows, and what it refuses.
 *
 *     user address  ----.
 *     system address ----> the same frames     (all three differ)
 *     user mapping  ----'
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "mapping.h"

/* ---- Mappings into a process --------------------------------------------------------------------------- */

/* MmMapLockedPagesSpecifyCache-09 MmMapLockedPagesSpecifyCache-03: a user mapping lies in the current
   process's range, at the buffer's offset, and shows the same frames. */
SILENT_TEST(mm_map, user_map__locked_pages__shows_them_in_the_current_process)
{
    UCHAR *const user = user_pattern(3, 3);
    const PMDL mdl = locked_mdl(user + 50, 2 * PAGE_SIZE);
    UCHAR *const mapped = map_user(mdl);

    EXPECT(mapped != NULL && mapped != user + 50);
    EXPECT_EQ(BYTE_OFFSET(mapped), 50);
    EXPECT_MEM_EQ(mapped, user + 50, 2 * PAGE_SIZE);
    fill_pattern(mapped, 2 * PAGE_SIZE, 7);
    EXPECT_PATTERN(user + 50, 2 * PAGE_SIZE, 7);
    EXPECT_EQ(MmGetPhysicalAddress(mapped).QuadPart, MmGetPhysicalAddress(user + 50).QuadPart);
    const PMDL again = locked_mdl(mapped, PAGE_SIZE);
    EXPECT_EQ(MmGetMdlPfnArray(again)[0], MmGetMdlPfnArray(mdl)[0]);
    unlock_and_free(again);
    MmUnmapLockedPages(mapped, mdl);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-09: a buffer of one process can be mapped into another, where it is that
   process's memory. */
SILENT_TEST(mm_map, user_map__in_another_process__is_valid_there)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const PEPROCESS other = pinion_process_create("other");

    pinion_process_attach(other);
    UCHAR *const theirs = map_user(mdl);
    const PMDL lock_there = locked_mdl(theirs, PAGE_SIZE);
    EXPECT_PATTERN(theirs, PAGE_SIZE, 3);
    unlock_and_free(lock_there);
    pinion_process_attach(NULL);
    const PMDL lock_here = mdl_over(theirs, PAGE_SIZE);
    EXPECT_STATUS(try_lock(lock_here, UserMode, IoReadAccess), STATUS_ACCESS_VIOLATION);
    IoFreeMdl(lock_here);
    pinion_process_attach(other);
    MmUnmapLockedPages(theirs, mdl);
    pinion_process_attach(NULL);
    pinion_process_exit(other);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-16 MmMapLockedPagesSpecifyCache-02 MmMapLockedPagesSpecifyCache-17: zeroed
   pool of whole pages can be mapped into the current process, and is shared both ways. */
SILENT_TEST(mm_map, user_map__zeroed_pool__is_shared_both_ways)
{
    UCHAR *const pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, TEST_TAG);
    const PMDL mdl = mdl_over(pool, 2 * PAGE_SIZE);

    MmBuildMdlForNonPagedPool(mdl);
    UCHAR *const mapped = map_user(mdl);
    EXPECT(mapped != NULL && mapped != pool);
    EXPECT_EQ(mapped[0], 0);
    fill_pattern(pool, 2 * PAGE_SIZE, 1);
    EXPECT_PATTERN(mapped, 2 * PAGE_SIZE, 1);
    fill_pattern(mapped, 2 * PAGE_SIZE, 2);
    EXPECT_PATTERN(pool, 2 * PAGE_SIZE, 2);
    MmUnmapLockedPages(mapped, mdl);
    IoFreeMdl(mdl);
    ExFreePool(pool);
}

/* MmMapLockedPagesSpecifyCache-15: user mappings do not count as the one system mapping: an MDL may have
   both, and several. */
SILENT_TEST(mm_map, user_map__beside_a_system_mapping__both_hold)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    UCHAR *const a = map_user(mdl), *const system = map_system(mdl), *const b = map_user(mdl);

    EXPECT(a != b && system != a && system != b);
    system[10] = 0x11;
    a[20] = 0x22;
    b[30] = 0x33;
    EXPECT(user[10] == 0x11 && user[20] == 0x22 && user[30] == 0x33);
    EXPECT(b[10] == 0x11 && system[20] == 0x22 && a[30] == 0x33);
    MmUnmapLockedPages(a, mdl);
    EXPECT_EQ(system[30], 0x33);
    EXPECT_EQ(b[20], 0x22);
    MmUnmapLockedPages(b, mdl);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* An address in the current process where nothing is, with room for some pages. */
static UCHAR *free_user_address(SIZE_T pages)
{
    UCHAR *const va = user_pages(pages, PAGE_READWRITE);

    pinion_user_free(va);
    return va;
}

/* MmMapLockedPagesSpecifyCache-08: a requested address in free user space is where the mapping starts; the
   system may round it down, never up. */
SILENT_TEST(mm_map, user_map__free_address_requested__starts_there_or_just_below)
{
    UCHAR *const user = user_pattern(2, 3);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    UCHAR *const requested = free_user_address(64);
    const SIZE_T nudges[] = {0, 1, PAGE_SIZE - 1, 3 * PAGE_SIZE};

    for (SIZE_T i = 0; i < ARRAYSIZE(nudges); i++) {
        UCHAR *const mapped = map(mdl, UserMode, MmCached, requested + nudges[i], NORMAL_NX);

        EXPECT(mapped <= requested + nudges[i]);
        EXPECT(mapped + 0x10000 > requested + nudges[i]);
        EXPECT_PATTERN(mapped, 2 * PAGE_SIZE, 3);
        MmUnmapLockedPages(mapped, mdl);
    }
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-08 MmMapLockedPagesSpecifyCache-07: where the requested address is taken, or
   is none of the process, the call raises, and nothing is changed. */
SILENT_TEST(mm_map, user_map__requested_address_taken_or_foreign__raises_and_changes_nothing)
{
    UCHAR *const user = user_pattern(2, 3), *const pool = pool_pages(2);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    const MDL copy = *mdl;
    const struct pinion_counters before = counters_now();
    PVOID const requests[] = {user, user + PAGE_SIZE, pool, (PVOID) ~(ULONG_PTR)(PAGE_SIZE - 1)};

    for (SIZE_T i = 0; i < ARRAYSIZE(requests); i++) {
        EXPECT(NT_ERROR(try_map(mdl, UserMode, requests[i], NORMAL_NX)));
        EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
        EXPECT_SAME_COUNTERS(before);
    }
    EXPECT_PATTERN(user, 2 * PAGE_SIZE, 3);
    unlock_and_free(mdl);
    ExFreePool(pool);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-08: for KernelMode the requested address has no meaning. */
SILENT_TEST(mm_map, kernel_map__address_requested__is_ignored)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    UCHAR *const system = map(mdl, KernelMode, MmCached, user, NORMAL_NX);

    EXPECT(system != NULL && system != user);
    EXPECT_PATTERN(system, PAGE_SIZE, 3);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-19: a user mapping may be made and undone at APC_LEVEL. */
SILENT_TEST(mm_map, user_map__at_apc_level__works)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const KIRQL before = raise_irql(APC_LEVEL);
    UCHAR *const mapped = map_user(mdl);

    EXPECT_PATTERN(mapped, PAGE_SIZE, 3);
    MmUnmapLockedPages(mapped, mdl);
    KeLowerIrql(before);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* ---- Protection of mappings ---------------------------------------------------------------------------- */

enum { RETURN_INSTRUCTION = 0xC3 };

/* MmMapLockedPagesSpecifyCache-11: a user mapping made with MdlMappingNoWrite can be read, and refuses a
   store. */
SILENT_TEST(mm_map, user_map__no_write__refuses_a_store)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    UCHAR *const mapped = map(mdl, UserMode, MmCached, NULL, NORMAL_NX | MdlMappingNoWrite);

    EXPECT_PATTERN(mapped, PAGE_SIZE, 3);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_store, mapped);
    EXPECT_PATTERN(user, PAGE_SIZE, 3);
    MmUnmapLockedPages(mapped, mdl);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-10: a user mapping cannot be executed, whether the priority says so or
   not. */
SILENT_TEST(mm_map, user_map__execute__is_refused)
{
    static const ULONG priorities[] = {NormalPagePriority, NormalPagePriority | MdlMappingNoExecute};
    UCHAR *const user = user_pages(1, PAGE_EXECUTE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);

    user[0] = RETURN_INSTRUCTION;
    for (SIZE_T i = 0; i < ARRAYSIZE(priorities); i++) {
        UCHAR *const mapped = map(mdl, UserMode, MmCached, NULL, priorities[i]);

        EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_execute, mapped);
        MmUnmapLockedPages(mapped, mdl);
    }
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-12: a process cannot make a mapping of its driver writable or executable. */
SILENT_TEST(mm_map, user_map__process_changes_protection__mapping_keeps_its_own)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    UCHAR *const mapped = map(mdl, UserMode, MmCached, NULL, NORMAL_NX | MdlMappingNoWrite);

    user[0] = RETURN_INSTRUCTION;
    pinion_user_protect(mapped, PAGE_SIZE, PAGE_EXECUTE_READWRITE);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_store, mapped);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, touch_execute, mapped);
    MmUnmapLockedPages(mapped, mdl);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void store_to_no_write_mapping(void *words)
{
    const PMDL mdl = locked_mdl(user_pattern(1, 3), PAGE_SIZE);
    UCHAR *const system = map(mdl, KernelMode, MmCached, NULL, NORMAL_NX | MdlMappingNoWrite);

    EXPECT_PATTERN(system, PAGE_SIZE, 3);
    *(uint64_t *)words = (uint64_t)(uintptr_t)(system + 7);
    pinion_try(touch_store, system + 7);
}

/* MmMapLockedPagesSpecifyCache-11: a system mapping made with MdlMappingNoWrite can be read, and a store to
   it stops with 0xBE. */
TEST_UNTIDY(mm_map, kernel_map__no_write__store_stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(store_to_no_write_mapping, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, ATTEMPTED_WRITE_TO_READONLY_MEMORY);
    EXPECT_EQ(stop.p[0], words[0]);
}
