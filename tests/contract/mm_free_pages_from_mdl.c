/* SPDX-License-Identifier: MIT */
/*
 * MDLs that bring pages of their own, once they are there: MmFreePagesFromMdl, mappings, partial MDLs, and
 * what MmMdlPagesAreZero and MmAreMdlPagesCached say of their pages.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

/* ---- Freeing ------------------------------------------------------------------------------------------ */

/* MmFreePagesFromMdl-02: all pages are free again: a scarce range can be had whole, time after time, by
   each routine. */
SILENT_TEST(mm_free_pages, free__pages__can_be_had_again)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;

    for (ULONG round = 0; round < 9; round++) {
        const PMDL mdl = kinds[round % 3](SCATTERED_AT, high, 0, 2 * SCARCE);

        EXPECT_EQ(MmGetMdlByteCount(mdl), SCARCE);
        free_pages(mdl);
    }
}

/* MmFreePagesFromMdl-04 MmAllocatePagesForMdl-11 MmAllocatePagesForMdlEx-18
   MmAllocateNodePagesForMdlEx-05: the MDL itself outlives its pages; ExFreePool frees it. */
SILENT_TEST(mm_free_pages, free__pages__mdl_is_there_until_it_is_freed)
{
    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const PMDL mdl = kinds[kind](0, EVERYWHERE, 0, 3 * PAGE_SIZE);

        MmFreePagesFromMdl(mdl);
        EXPECT(MmIsAddressValid(mdl));
        EXPECT_EQ(mdl->Size % 8, 0);
        ExFreePool(mdl);
    }
    const PMDL mdl = pages_anywhere(2);
    MmFreePagesFromMdl(mdl);
    ExFreePoolWithTag(mdl, 0);
}

/* MmFreePagesFromMdl-02: MmFreePagesFromMdlEx with MM_FREE_MDL_PAGES_ZERO leaves no trace of what the
   pages held. */
SILENT_TEST(mm_free_pages, free__with_zeroing__next_owner_sees_zeros)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;

    for (ULONG flags = 0; flags <= MM_FREE_MDL_PAGES_ZERO; flags++) {
        const PMDL first = pages_in(SCATTERED_AT, high, 0, SCARCE);
        fill_pattern(system_address(first), SCARCE, 8);
        MmFreePagesFromMdlEx(first, flags);
        ExFreePool(first);

        const PMDL next = pages_in_ex(SCATTERED_AT, high, 0, SCARCE, MM_DONT_ZERO_ALLOCATION);
        EXPECT_EQ(!!is_zero(system_address(next), SCARCE), flags == MM_FREE_MDL_PAGES_ZERO);
        free_pages(next);
    }
}

/* MmAllocatePagesForMdl-11 MmAllocatePagesForMdlEx-18 MmAllocateNodePagesForMdlEx-05: pages that are never
   freed are reported at the end. */
WARN_TEST(mm_free_pages, shutdown__pages_never_freed__is_reported, "allocated-pages-leak")
{
    pages_anywhere(3);
}

/* MmAllocatePagesForMdl-11 MmFreePagesFromMdl-04: so is an MDL that outlives its pages. */
WARN_TEST(mm_free_pages, shutdown__mdl_never_freed__is_reported, "pages-mdl-leak")
{
    MmFreePagesFromMdl(pages_anywhere(3));
}

static void io_free_with_pages(void *words)
{
    const PMDL mdl = pages_anywhere(1);

    ((uint64_t *)words)[1] = (uintptr_t)mdl;
    IoFreeMdl(mdl);
}

static void io_free_without_pages(void *words)
{
    const PMDL mdl = pages_anywhere(1);

    ((uint64_t *)words)[1] = (uintptr_t)mdl;
    MmFreePagesFromMdl(mdl);
    IoFreeMdl(mdl);
}

/* IoFreeMdl-08: IoFreeMdl of such an MDL stops, with its pages still there or not, and nothing else is told; it is freed by ExFreePool. */
TEST_UNTIDY(mm_free_pages, io_free_mdl__mdl_with_pages_of_its_own__bug_check_0xC2)
{
    static void (*const bodies[])(void *) = {io_free_with_pages, io_free_without_pages};
    uint64_t *words = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = expect_stop(bodies[i], words, BAD_POOL_CALLER, 0x46);

        EXPECT_EQ(stop.p[1], words[1]);
        EXPECT_EQ(stop_warnings(&stop, NULL), 0);
    }
}

static void free_of_a_locked_mdl(void *words)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    ((uint64_t *)words)[1] = (uint64_t)(uintptr_t)mdl;
    MmFreePagesFromMdl(mdl);
}

static void free_of_an_unlocked_mdl(void *words)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    ((uint64_t *)words)[1] = (uint64_t)(uintptr_t)mdl;
    MmFreePagesFromMdl(mdl);
}

static void free_of_a_pool_mdl(void *words)
{
    const PMDL mdl = mdl_over(pool_pages(1), PAGE_SIZE);

    MmBuildMdlForNonPagedPool(mdl);
    ((uint64_t *)words)[1] = (uint64_t)(uintptr_t)mdl;
    MmFreePagesFromMdl(mdl);
}

static void free_of_a_partial_mdl(void *words)
{
    const PMDL source = pages_anywhere(2), mdl = mdl_over(NULL, PAGE_SIZE);

    IoBuildPartialMdl(source, mdl, MmGetMdlVirtualAddress(source), PAGE_SIZE);
    ((uint64_t *)words)[1] = (uint64_t)(uintptr_t)mdl;
    MmFreePagesFromMdl(mdl);
}

/* MmFreePagesFromMdl-03 Bug_checks-05: MmFreePagesFromMdl of any other MDL stops with 0x1A/0x1236 and the
   MDL. */
TEST_UNTIDY(mm_free_pages, free__mdl_of_another_kind__stops)
{
    static void (*const bodies[])(void *) = {free_of_a_locked_mdl, free_of_an_unlocked_mdl,
                                             free_of_a_pool_mdl};
    uint64_t *const words = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = expect_stop(bodies[i], words, MEMORY_MANAGEMENT, 0x1236);

        EXPECT_EQ(stop.p[1], words[1]);
    }
}

/* MmFreePagesFromMdl-03: a partial MDL has no pages of its own to free: that stops as well, and its source
   keeps the pages. */
TEST_UNTIDY(mm_free_pages, free__part_of_pages__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(free_of_a_partial_mdl, words, MEMORY_MANAGEMENT, 0x1236);

    EXPECT_EQ(stop.p[1], words[1]);
}

/* Free pages twice; in between they get another owner. What is the other's must stay so. */
static void free_twice(void *words HARNESS_UNUSED)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;
    const PMDL mdl = pages_in(SCATTERED_AT, high, 0, SCARCE);

    MmFreePagesFromMdl(mdl);
    const PMDL next = pages_in(SCATTERED_AT, high, 0, SCARCE);
    EXPECT_EQ(MmGetMdlByteCount(next), SCARCE);
    MmFreePagesFromMdl(mdl);
    EXPECT(pages_in(SCATTERED_AT, high, 0, SCARCE) == NULL);
}

/* MmFreePagesFromMdl-03: an MDL whose pages were freed has none: freeing them again stops, or does nothing
   to their next owner. */
TEST_UNTIDY(mm_free_pages, free__twice__leaves_the_next_owner_alone)
{
    const struct stop stop = run_until_stop(free_twice, NULL);

    EXPECT(stop.stopped || stop.exit_status == 0);
}

static void free_other_verifier_off(void *words)
{
    boot("verifier=off");
    free_of_a_locked_mdl(words);
}

/* MmFreePagesFromMdl-03: so does it without the verifier. */
TEST_UNTIDY(mm_free_pages, free__mdl_of_another_kind_verifier_off__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(free_other_verifier_off, words, MEMORY_MANAGEMENT, 0x1236);

    EXPECT_EQ(stop.p[1], words[1]);
}

static void touch_after_free(void *words)
{
    const PMDL mdl = pages_anywhere(1);
    volatile UCHAR *const system = system_address(mdl);

    ((uint64_t *)words)[1] = (uint64_t)(uintptr_t)system;
    free_pages(mdl);
    *system = 1;
}

/* MmGetSystemAddressForMdlSafe-18 Bug_checks-10: the address of freed pages is gone with them: a touch
   stops with 0x50. */
TEST_UNTIDY(mm_free_pages, touch__mapping_of_freed_pages__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_after_free, words);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT_EQ(stop.p[0], words[1]);
    EXPECT_EQ(stop.p[1], 2);
}

/* ---- Mappings and parts ------------------------------------------------------------------------------- */

/* MmGetSystemAddressForMdlSafe-17: however often the address is asked for there is one mapping, which one
   MmUnmapLockedPages releases; then it can be mapped anew. */
SILENT_TEST(mm_free_pages, system_address__asked_often__one_unmap_releases_it)
{
    const PMDL mdl = pages_anywhere(4);
    UCHAR *const system = system_address(mdl);

    fill_pattern(system, 4 * PAGE_SIZE, 3);
    for (ULONG i = 0; i < 5; i++)
        EXPECT_PTR_EQ(system_address(mdl), system);
    EXPECT_EQ(counters_now().system_mappings, 1);
    EXPECT_EQ(counters_now().system_pages_mapped, 4);
    MmUnmapLockedPages(system, mdl);
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
    EXPECT_PATTERN(system_address(mdl), 4 * PAGE_SIZE, 3);
    MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    free_pages(mdl);
}

/* MmGetSystemAddressForMdlSafe-18: MmFreePagesFromMdl releases the mapping without MmUnmapLockedPages. */
SILENT_TEST(mm_free_pages, free__pages_still_mapped__releases_the_mapping)
{
    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const PMDL mdl = kinds[kind](0, EVERYWHERE, 0, 4 * PAGE_SIZE);
        UCHAR *const system = system_address(mdl);

        EXPECT_EQ(counters_now().system_mappings, 1);
        MmFreePagesFromMdl(mdl);
        EXPECT_EQ(counters_now().system_mappings, 0);
        EXPECT_EQ(counters_now().system_pages_mapped, 0);
        EXPECT(!MmIsAddressValid(system));
        EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
        ExFreePool(mdl);
    }
}

/* MmGetSystemAddressForMdlSafe-17 MmGetSystemAddressForMdlSafe-18: the same holds without the verifier,
   where a mapping may be had without making one. */
TEST(mm_free_pages, system_address__verifier_off__shows_the_pages_and_goes)
{
    boot("verifier=off");
    for (ULONG round = 0; round < 3; round++) {
        const PMDL mdl = pages_in_ex(SCATTERED_AT, SCATTERED_AT + SCARCE - 1, 0, SCARCE, 0);
        UCHAR *const system = system_address(mdl);

        EXPECT_PTR_EQ(system_address(mdl), system);
        EXPECT(is_zero(system, SCARCE));
        fill_pattern(system, SCARCE, round);
        if (round == 1) {
            MmUnmapLockedPages(system, mdl);
            EXPECT_EQ(counters_now().system_mappings, 0);
            EXPECT_PATTERN(system_address(mdl), SCARCE, round);
        }
        free_pages(mdl);
        EXPECT_EQ(counters_now().system_mappings, 0);
    }
}

/* IoBuildPartialMdl-22 IoBuildPartialMdl-23: an MDL that brought its pages is a source of partial MDLs:
   each shows its part. */
SILENT_TEST(mm_free_pages, partial__of_pages__shows_its_part)
{
    enum { PAGES = 6, BYTES = PAGES * PAGE_SIZE };
    static const ULONG parts[][2] = {{0, 1},
                                     {0, PAGE_SIZE},
                                     {1, PAGE_SIZE},
                                     {PAGE_SIZE - 1, 2},
                                     {2 * PAGE_SIZE, 3 * PAGE_SIZE},
                                     {BYTES - 1, 1},
                                     {100, BYTES - 100},
                                     {0, BYTES}};

    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const PMDL source = kinds[kind](0, EVERYWHERE, 0, BYTES);

        for (SIZE_T i = 0; i < ARRAYSIZE(parts); i++) {
            PVOID const start = address_in(source, parts[i][0]);
            const PMDL part = mdl_over(start, parts[i][1]);

            IoBuildPartialMdl(source, part, start, parts[i][1]);
            for (SIZE_T page = 0; page < mdl_pages(part); page++)
                EXPECT_EQ(MmGetMdlPfnArray(part)[page],
                          MmGetMdlPfnArray(source)[parts[i][0] / PAGE_SIZE + page]);
            fill_pattern(system_address(part), parts[i][1], (ULONG)i);
            EXPECT_MEM_EQ(system_address(source) + parts[i][0], system_address(part), parts[i][1]);
            EXPECT_PATTERN(system_address(source) + parts[i][0], parts[i][1], (ULONG)i);
            IoFreeMdl(part);
        }
        free_pages(source);
    }
}

static void map_a_part_of_freed_pages(void *context HARNESS_UNUSED)
{
    const PMDL source = pages_anywhere(2), part = mdl_over(NULL, PAGE_SIZE);

    IoBuildPartialMdl(source, part, MmGetMdlVirtualAddress(source), PAGE_SIZE);
    free_pages(source);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
}

/* IoBuildPartialMdl-22: a part outlives neither the pages nor their MDL: mapping it afterwards stops. */
TEST_UNTIDY(mm_free_pages, partial__of_freed_pages__cannot_be_mapped)
{
    const struct stop stop = run_until_stop(map_a_part_of_freed_pages, NULL);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, DRIVER_VERIFIER_DETECTED_VIOLATION);
}

/* MmAllocateNodePagesForMdlEx-04 MmAllocatePagesForMdl-10: the pages are mapped into a process as well,
   and shared both ways. */
SILENT_TEST(mm_free_pages, user_map__of_pages__is_shared_with_the_system)
{
    const PMDL mdl = pages_anywhere(3);
    UCHAR *const user = map_user(mdl), *const system = system_address(mdl);

    fill_pattern(user, 3 * PAGE_SIZE, 1);
    EXPECT_PATTERN(system, 3 * PAGE_SIZE, 1);
    fill_pattern(system, 3 * PAGE_SIZE, 2);
    EXPECT_PATTERN(user, 3 * PAGE_SIZE, 2);
    EXPECT_EQ(pinion_trim(), 0);
    MmUnmapLockedPages(user, mdl);
    free_pages(mdl);
}

/* ---- What can be asked of pages ----------------------------------------------------------------------- */

/* MmMdlPagesAreZero looks at every byte of every page: one byte set anywhere makes it FALSE. */
SILENT_TEST(mm_free_pages, are_zero__one_byte_set__says_so)
{
    static const SIZE_T places[] = {0, 1, PAGE_SIZE - 1, PAGE_SIZE, 2 * PAGE_SIZE + 77, 3 * PAGE_SIZE - 1};
    const PMDL mdl = pages_anywhere(3);
    UCHAR *const system = system_address(mdl);

    EXPECT(MmMdlPagesAreZero(mdl));
    for (SIZE_T i = 0; i < ARRAYSIZE(places); i++) {
        system[places[i]] = 0x80;
        EXPECT(!MmMdlPagesAreZero(mdl));
        system[places[i]] = 0;
        EXPECT(MmMdlPagesAreZero(mdl));
    }
    free_pages(mdl);
}

/* MmMdlPagesAreZero works for an MDL that is not mapped, and for the whole pages of a locked buffer. */
SILENT_TEST(mm_free_pages, are_zero__locked_buffer__whole_pages_count)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user + 10, PAGE_SIZE);

    EXPECT(MmMdlPagesAreZero(mdl));
    user[2 * PAGE_SIZE - 1] = 1;
    EXPECT(!MmMdlPagesAreZero(mdl));
    EXPECT_EQ(counters_now().system_mappings, 0);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmAreMdlPagesCached is TRUE for ordinary memory: process memory, pool, allocated pages. */
SILENT_TEST(mm_free_pages, are_cached__ordinary_memory__true)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE), *const pool = pool_pages(1);
    const PMDL locked = locked_mdl(user, PAGE_SIZE), nonpaged = mdl_over(pool, PAGE_SIZE),
               pages = pages_anywhere(1);

    MmBuildMdlForNonPagedPool(nonpaged);
    EXPECT(MmAreMdlPagesCached(locked));
    EXPECT(MmAreMdlPagesCached(nonpaged));
    EXPECT(MmAreMdlPagesCached(pages));
    unlock_and_free(locked);
    IoFreeMdl(nonpaged);
    free_pages(pages);
    ExFreePool(pool);
    pinion_user_free(user);
}
