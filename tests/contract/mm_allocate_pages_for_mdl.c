/* SPDX-License-Identifier: MIT */
/*
 * MDLs that bring pages of their own: what MmAllocatePagesForMdl, MmAllocatePagesForMdlEx and
 * MmAllocateNodePagesForMdlEx give, from which ranges, how much of it, and when. Flags and nodes have a file
 * of their own; so has the other end.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

/* ---- What comes back ---------------------------------------------------------------------------------- */

/* MmAllocatePagesForMdl-01 MmAllocatePagesForMdlEx-01 MmAllocatePagesForMdlEx-23
   MmAllocateNodePagesForMdlEx-01 MmFreePagesFromMdl-01: the routines have their documented types, and the
   pages of each are freed alike. */
SILENT_TEST(mm_allocate_pages, call_through_their_types__pages_are_had_and_freed)
{
    PMDL (*const plain)(PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, SIZE_T) = MmAllocatePagesForMdl;
    PMDL(*const ex)
    (PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, SIZE_T, MEMORY_CACHING_TYPE, ULONG) =
        MmAllocatePagesForMdlEx;
    PMDL(*const node)
    (PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, PHYSICAL_ADDRESS, SIZE_T, MEMORY_CACHING_TYPE, ULONG, ULONG) =
        MmAllocateNodePagesForMdlEx;
    VOID (*const free)(PMDL) = MmFreePagesFromMdl;
    const PMDL mdls[] = {plain(phys(0), phys(EVERYWHERE), phys(0), PAGE_SIZE),
                         ex(phys(0), phys(EVERYWHERE), phys(0), PAGE_SIZE, MmCached, 0),
                         node(phys(0), phys(EVERYWHERE), phys(0), PAGE_SIZE, MmCached, 1, 0)};

    for (SIZE_T i = 0; i < ARRAYSIZE(mdls); i++) {
        EXPECT(mdls[i] != NULL);
        free(mdls[i]);
        ExFreePool(mdls[i]);
    }
}

/* MmAllocatePagesForMdl-05 MmAllocatePagesForMdlEx-16 MmAllocatePagesForMdlEx-21
   MmAllocateNodePagesForMdlEx-03: the MDL describes the bytes asked for in frames that differ from each
   other, and in whole pages. */
SILENT_TEST(mm_allocate_pages, allocate__sizes_around_page_edges__frames_differ_and_suffice)
{
    static const SIZE_T sizes[] = {
        1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE, 17 * PAGE_SIZE - 5};

    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
            const PMDL mdl = kinds[kind](0, EVERYWHERE, 0, sizes[i]);

            EXPECT(mdl != NULL);
            EXPECT_EQ(mdl_pages(mdl), BYTES_TO_PAGES(sizes[i]));
            EXPECT(MmGetMdlByteCount(mdl) >= sizes[i]);
            EXPECT_EQ(MmGetMdlByteOffset(mdl), 0);
            EXPECT(mdl->Next == NULL);
            EXPECT(frames_differ(mdl));
            free_pages(mdl);
        }
    }
}

/* MmAllocatePagesForMdlEx-21: no frame is of no memory, none is held by two MDLs, and each shows other
   bytes. */
SILENT_TEST(mm_allocate_pages, allocate__two_mdls__have_no_frame_in_common)
{
    enum { PAGES = 40 };
    const PMDL a = pages_anywhere(PAGES), b = pages_anywhere(PAGES);

    fill_pattern(system_address(a), PAGES * PAGE_SIZE, 1);
    fill_pattern(system_address(b), PAGES * PAGE_SIZE, 2);
    EXPECT_PATTERN(system_address(a), PAGES * PAGE_SIZE, 1);
    EXPECT_PATTERN(system_address(b), PAGES * PAGE_SIZE, 2);
    for (SIZE_T i = 0; i < PAGES; i++) {
        const PFN_NUMBER pfn = MmGetMdlPfnArray(a)[i];

        EXPECT(pfn != 0 && pfn != ~(PFN_NUMBER)0);
        EXPECT_EQ(frames_in(b, (LONGLONG)pfn << PAGE_SHIFT, ((LONGLONG)pfn << PAGE_SHIFT) + 1), 0);
    }
    free_pages(a);
    free_pages(b);
}

/* MmAllocatePagesForMdl-10 MmAllocateNodePagesForMdlEx-04: the pages have no address: the MDL is not
   mapped, belongs to no process, and nothing is mapped into system space until it is asked for. */
SILENT_TEST(mm_allocate_pages, allocate__mdl__is_not_mapped)
{
    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const struct pinion_counters before = counters_now();
        const PMDL mdl = kinds[kind](0, EVERYWHERE, 0, 3 * PAGE_SIZE);

        EXPECT_EQ(mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL), 0);
        EXPECT(mdl->Process == NULL);
        EXPECT_EQ(counters_now().system_mappings, before.system_mappings);
        EXPECT(MmGetVirtualForPhysical(phys(0)) == NULL);
        free_pages(mdl);
    }
}

/* Fill a scarce range with a pattern and give it back, so that its next owner sees whether it was zeroed. */
static void dirty_range(LONGLONG low, LONGLONG high, SIZE_T bytes)
{
    const PMDL mdl = pages_in(low, high, 0, bytes);

    EXPECT(mdl != NULL);
    fill_pattern(system_address(mdl), bytes, 77);
    free_pages(mdl);
}

/* MmAllocatePagesForMdl-08 MmAllocatePagesForMdlEx-04 MmAllocateNodePagesForMdlEx-04
   MmAllocatePagesForMdl-15: frames that held other bytes before come zeroed, whichever of the routines is
   called. */
SILENT_TEST(mm_allocate_pages, allocate__frames_used_before__come_zeroed)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;

    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        dirty_range(SCATTERED_AT, high, SCARCE);
        const PMDL mdl = kinds[kind](SCATTERED_AT, high, 0, SCARCE);

        EXPECT_EQ(MmGetMdlByteCount(mdl), SCARCE);
        EXPECT(is_zero(system_address(mdl), SCARCE));
        free_pages(mdl);
    }
}

/* MmAllocatePagesForMdlEx-05: with MM_DONT_ZERO_ALLOCATION frames are not zeroed. */
SILENT_TEST(mm_allocate_pages, allocate__dont_zero__frames_keep_what_they_held)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;

    dirty_range(SCATTERED_AT, high, SCARCE);
    const PMDL mdl = pages_in_ex(SCATTERED_AT, high, 0, SCARCE, MM_DONT_ZERO_ALLOCATION);
    EXPECT_EQ(MmGetMdlByteCount(mdl), SCARCE);
    for (SIZE_T page = 0; page < SCARCE / PAGE_SIZE; page++)
        EXPECT(!is_zero(system_address(mdl) + page * PAGE_SIZE, PAGE_SIZE));
    free_pages(mdl);
}

/* MmAllocatePagesForMdlEx-22: a driver that takes pages unzeroed zeroes them itself before a process sees
   them. */
SILENT_TEST(mm_allocate_pages, allocate__dont_zero_then_zeroed__process_sees_zeros)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;

    dirty_range(SCATTERED_AT, high, SCARCE);
    const PMDL mdl = pages_in_ex(SCATTERED_AT, high, 0, SCARCE, MM_DONT_ZERO_ALLOCATION);
    RtlZeroMemory(system_address(mdl), SCARCE);
    UCHAR *const user = map_user(mdl);
    EXPECT(is_zero(user, SCARCE));
    MmUnmapLockedPages(user, mdl);
    free_pages(mdl);
}

/* MmAllocatePagesForMdl-09: pages of an MDL are nonpaged: no trim takes them, and they keep their frames. */
SILENT_TEST(mm_allocate_pages, allocate__pages__are_never_trimmed)
{
    const PMDL mdl = pages_anywhere(5);
    UCHAR *const system = system_address(mdl);

    fill_pattern(system, 5 * PAGE_SIZE, 4);
    EXPECT_EQ(pinion_trim(), 0);
    for (SIZE_T i = 0; i < 5; i++)
        EXPECT_EQ(frame_of(system + i * PAGE_SIZE), MmGetMdlPfnArray(mdl)[i]);
    EXPECT_PATTERN(system, 5 * PAGE_SIZE, 4);
    free_pages(mdl);
}

/* MmAllocatePagesForMdl-09: no contiguity is promised, and in the default layout there is none. */
SILENT_TEST(mm_allocate_pages, allocate__from_anywhere__frames_are_no_neighbours)
{
    boot("layout=scattered");
    const PMDL mdl = pages_anywhere(64);

    EXPECT(!frames_follow(MmGetMdlPfnArray(mdl), 64));
    free_pages(mdl);
}

/* ---- Ranges ------------------------------------------------------------------------------------------- */

/* MmAllocatePagesForMdl-02 MmAllocatePagesForMdlEx-02 MmAllocatePagesForMdlEx-21: each frame lies in the
   range, whose end is inclusive, at ranges around the edges of pages and zones. */
SILENT_TEST(mm_allocate_pages, allocate__range__each_frame_lies_in_it)
{
    static const struct {
        LONGLONG low, bytes;
        SIZE_T pages;
    } ranges[] = {
        {0x20000LL << PAGE_SHIFT, PAGE_SIZE, 1},
        {0x20000LL << PAGE_SHIFT, 2 * PAGE_SIZE, 2},
        {0x20007LL << PAGE_SHIFT, 9 * PAGE_SIZE, 9},
        {0x2FFFFLL << PAGE_SHIFT, 3 * PAGE_SIZE, 3},
        {0x1FFFELL << PAGE_SHIFT, 4 * PAGE_SIZE, 4}, /* the end of one zone, the start of the next */
        {0x100LL << PAGE_SHIFT, 5 * PAGE_SIZE, 5},
        {0xFFCLL << PAGE_SHIFT, 8 * PAGE_SIZE, 4}, /* no RAM behind the zone */
        {0x200003LL << PAGE_SHIFT, 40 * PAGE_SIZE, 40},
    };

    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
            const LONGLONG high = ranges[i].low + ranges[i].bytes - 1;
            const PMDL mdl = kinds[kind](ranges[i].low, high, 0, (SIZE_T)ranges[i].bytes + 3 * PAGE_SIZE);

            EXPECT(mdl != NULL);
            EXPECT_EQ(MmGetMdlByteCount(mdl), ranges[i].pages * PAGE_SIZE);
            EXPECT_EQ(frames_in(mdl, ranges[i].low, high), ranges[i].pages);
            EXPECT(frames_differ(mdl));
            free_pages(mdl);
        }
    }
}

/* MmAllocatePagesForMdl-02 MmAllocatePagesForMdlEx-02: drivers that do not care write all ones for the
   highest address; physical addresses have no sign. */
SILENT_TEST(mm_allocate_pages, allocate__highest_address_all_ones__is_everywhere)
{
    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const PMDL mdl = kinds[kind](0, -1, 0, 3 * PAGE_SIZE);

        EXPECT(mdl != NULL);
        EXPECT_EQ(MmGetMdlByteCount(mdl), 3 * PAGE_SIZE);
        free_pages(mdl);
    }
}

/* MmAllocatePagesForMdl-06 MmAllocatePagesForMdlEx-16 MmAllocateNodePagesForMdlEx-03: where fewer pages
   are there than asked for, the MDL describes those, and the caller sees it by the byte count; a second
   call then gets none. */
SILENT_TEST(mm_allocate_pages, allocate__range_too_small__describes_what_there_is)
{
    const LONGLONG high = SCATTERED_AT + SCARCE - 1;

    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const PMDL most = kinds[kind](SCATTERED_AT, high, 0, SCARCE - 3 * PAGE_SIZE);
        const PMDL rest = kinds[kind](SCATTERED_AT, high, 0, SCARCE);

        EXPECT_EQ(MmGetMdlByteCount(most), SCARCE - 3 * PAGE_SIZE);
        EXPECT_EQ(MmGetMdlByteCount(rest), 3 * PAGE_SIZE);
        EXPECT_EQ(frames_in(rest, SCATTERED_AT, high), 3);
        EXPECT(kinds[kind](SCATTERED_AT, high, 0, PAGE_SIZE) == NULL);
        free_pages(rest);
        free_pages(most);
    }
}

/* MmAllocatePagesForMdl-07 MmAllocatePagesForMdlEx-17 MmAllocateNodePagesForMdlEx-03: a range without RAM,
   or that ends before it starts, gives NULL and changes nothing. */
SILENT_TEST(mm_allocate_pages, allocate__range_without_ram__is_null)
{
    static const LONGLONG ranges[][2] = {
        {0, PAGE_SIZE - 1}, /* frame 0 is none */
        {0, (0x100LL << PAGE_SHIFT) - 1},
        {0xC0000LL << PAGE_SHIFT, (0x100000LL << PAGE_SHIFT) - 1}, /* a device's */
        {1LL << 52, (1LL << 52) + (1 << 30)},
        {0x20001LL << PAGE_SHIFT, (0x20001LL << PAGE_SHIFT) - 1},
        {0x20002LL << PAGE_SHIFT, 0x20000LL << PAGE_SHIFT},
    };
    const struct pinion_counters before = counters_now();

    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++)
            EXPECT(kinds[kind](ranges[i][0], ranges[i][1], 0, PAGE_SIZE) == NULL);
    }
    EXPECT_SAME_COUNTERS(before);
}

/* MmAllocatePagesForMdl-03 MmAllocatePagesForMdlEx-02: what the first range lacks comes from the next
   ones, each of which starts SkipBytes after the start of the one before. */
SILENT_TEST(mm_allocate_pages, allocate__skip__takes_from_range_after_range)
{
    const LONGLONG low = SCATTERED_AT, bytes = 4 * PAGE_SIZE, skip = 16 * PAGE_SIZE;

    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const PMDL mdl = kinds[kind](low, low + bytes - 1, skip, 10 * PAGE_SIZE);

        EXPECT_EQ(MmGetMdlByteCount(mdl), 10 * PAGE_SIZE);
        EXPECT(frames_differ(mdl));
        EXPECT_EQ(frames_in(mdl, low, low + bytes - 1), 4);
        EXPECT_EQ(frames_in(mdl, low + skip, low + skip + bytes - 1), 4);
        EXPECT_EQ(frames_in(mdl, low + 2 * skip, low + 2 * skip + bytes - 1), 2);
        free_pages(mdl);
    }
}

/* MmAllocatePagesForMdl-03: ranges may overlap, and no frame is taken twice. */
SILENT_TEST(mm_allocate_pages, allocate__skip_less_than_the_range__takes_each_frame_once)
{
    const LONGLONG low = SCATTERED_AT, bytes = 8 * PAGE_SIZE, skip = PAGE_SIZE;
    const PMDL mdl = pages_in(low, low + bytes - 1, skip, 20 * PAGE_SIZE);

    EXPECT_EQ(MmGetMdlByteCount(mdl), 20 * PAGE_SIZE);
    EXPECT(frames_differ(mdl));
    EXPECT_EQ(frames_in(mdl, low, low + 20 * PAGE_SIZE - 1), 20);
    free_pages(mdl);
}

/* MmAllocatePagesForMdl-03: the ranges go on over addresses where there is no RAM. */
SILENT_TEST(mm_allocate_pages, allocate__skip_over_a_hole__reaches_the_ram_behind_it)
{
    const PMDL mdl = pages_in(DEVICE_AT, DEVICE_AT + 4 * PAGE_SIZE - 1, 256 * MIB, 6 * PAGE_SIZE);

    EXPECT_EQ(MmGetMdlByteCount(mdl), 6 * PAGE_SIZE);
    EXPECT_EQ(frames_in(mdl, NODE_1_AT, NODE_1_AT + 4 * PAGE_SIZE - 1), 4);
    free_pages(mdl);
}

/* MmAllocatePagesForMdl-06: ranges that leave the address space end the search; what was found counts. */
SILENT_TEST(mm_allocate_pages, allocate__skip_beyond_all_addresses__describes_what_there_is)
{
    const LONGLONG skips[] = {1LL << 62, MAXLONGLONG & ~(LONGLONG)(PAGE_SIZE - 1)};

    for (SIZE_T i = 0; i < ARRAYSIZE(skips); i++) {
        const PMDL mdl = pages_in(SCATTERED_AT, SCATTERED_AT + 2 * PAGE_SIZE - 1, skips[i], 5 * PAGE_SIZE);

        EXPECT_EQ(MmGetMdlByteCount(mdl), 2 * PAGE_SIZE);
        free_pages(mdl);
    }
}

static void skip_of_half_a_page(void *words)
{
    const SIZE_T kind = (SIZE_T)((uint64_t *)words)[0];

    ((uint64_t *)words)[1] =
        kinds[kind](SCATTERED_AT, SCATTERED_AT + MIB - 1, PAGE_SIZE / 2, PAGE_SIZE) == NULL;
}

/* MmAllocatePagesForMdl-04 MmAllocatePagesForMdlEx-02: SkipBytes that is no multiple of the page size is
   refused. */
TEST_UNTIDY(mm_allocate_pages, allocate__skip_no_multiple_of_a_page__is_refused)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < ARRAYSIZE(kinds); words[0]++) {
        words[1] = 0;
        const struct stop stop = run_until_stop(skip_of_half_a_page, words);

        EXPECT(stop.stopped || words[1]);
    }
}

/* MmAllocatePagesForMdl-07: no bytes are no pages. */
SILENT_TEST(mm_allocate_pages, allocate__no_bytes__is_null)
{
    const struct pinion_counters before = counters_now();

    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++)
        EXPECT(kinds[kind](0, EVERYWHERE, 0, 0) == NULL);
    EXPECT_SAME_COUNTERS(before);
}

/* ---- Limits ------------------------------------------------------------------------------------------- */

static const SIZE_T MOST = 4ull * 1024 * 1024 * 1024 - PAGE_SIZE;

static PMDL most_of_kind(SIZE_T kind, SIZE_T bytes)
{
    if (kind == 0)
        return pages_in(0, EVERYWHERE, 0, bytes);
    if (kind == 1)
        return pages_in_ex(0, EVERYWHERE, 0, bytes, MM_DONT_ZERO_ALLOCATION);
    return MmAllocateNodePagesForMdlEx(phys(0), phys(EVERYWHERE), phys(0), bytes, MmCached, 1,
                                       MM_DONT_ZERO_ALLOCATION);
}

/* MmAllocatePagesForMdl-12 MmAllocatePagesForMdlEx-19 MmAllocateNodePagesForMdlEx-06: one call gives up to
   4 GiB less a page, and never an MDL whose byte count wrapped. */
TEST(mm_allocate_pages, allocate__four_gib_less_a_page__is_the_most)
{
    boot("ram=12G");
    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const PMDL most = most_of_kind(kind, MOST);

        EXPECT(most != NULL);
        EXPECT_EQ(MmGetMdlByteCount(most), MOST);
        EXPECT_NE(MmGetMdlPfnArray(most)[MOST / PAGE_SIZE - 1], 0);
        free_pages(most);
    }
}

/* MmAllocatePagesForMdl-12 MmAllocatePagesForMdlEx-19 MmAllocateNodePagesForMdlEx-06: a request for more
   is NULL, or cut to that. */
TEST(mm_allocate_pages, allocate__more_than_four_gib__is_null_or_cut)
{
    static const SIZE_T sizes[] = {4ull << 30, (4ull << 30) + 1, 5ull << 30,
                                   1ull << 40, ~(SIZE_T)0,       ~(SIZE_T)0 - PAGE_SIZE};

    boot("ram=12G");
    const struct pinion_counters before = counters_now();
    for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
        for (SIZE_T kind = 1; kind < ARRAYSIZE(kinds); kind++) {
            const PMDL mdl = most_of_kind(kind, sizes[i]);

            EXPECT(mdl == NULL || (MmGetMdlByteCount(mdl) >= PAGE_SIZE && MmGetMdlByteCount(mdl) <= MOST));
            if (mdl != NULL)
                free_pages(mdl);
        }
    }
    EXPECT_SAME_COUNTERS(before);
}

/* MmAllocatePagesForMdl-06 MmAllocatePagesForMdlEx-07: when all RAM is taken further calls get NULL; once
   it is given back, the same amount is there again, as often as one likes. */
TEST(mm_allocate_pages, allocate__all_of_ram__comes_back)
{
    SIZE_T first = 0;

    boot("ram=16M");
    for (ULONG round = 0; round < 3; round++) {
        const PMDL all = pages_in_ex(0, EVERYWHERE, 0, 1ull << 30, MM_DONT_ZERO_ALLOCATION);

        EXPECT(all != NULL);
        EXPECT(MmGetMdlByteCount(all) >= 14 * MIB && MmGetMdlByteCount(all) < GIB);
        EXPECT(pages_in_ex(0, EVERYWHERE, 0, PAGE_SIZE, 0) == NULL);
        EXPECT(pinion_user_alloc(16 << 20, PAGE_READWRITE) == NULL);
        first = first ? first : MmGetMdlByteCount(all);
        EXPECT_EQ(MmGetMdlByteCount(all), first);
        free_pages(all);
    }
    UCHAR *const user = user_pattern(100, 1);
    EXPECT_PATTERN(user, 100 * PAGE_SIZE, 1);
    pinion_user_free(user);
}

/* ---- IRQL --------------------------------------------------------------------------------------------- */

/* MmAllocatePagesForMdl-13 MmAllocatePagesForMdl-14 MmAllocatePagesForMdlEx-20
   MmAllocateNodePagesForMdlEx-07 MmFreePagesFromMdl-05: pages can be had and freed at APC_LEVEL and at
   DISPATCH_LEVEL. */
SILENT_TEST(mm_allocate_pages, allocate_and_free__at_apc_and_dispatch_level__works)
{
    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        for (KIRQL irql = APC_LEVEL; irql <= DISPATCH_LEVEL; irql++) {
            const KIRQL before = raise_irql(irql);
            const PMDL mdl = kinds[kind](0, EVERYWHERE, 0, 20 * PAGE_SIZE);

            EXPECT(mdl != NULL);
            EXPECT(is_zero(system_address(mdl), 20 * PAGE_SIZE));
            free_pages(mdl);
            EXPECT_EQ(KeGetCurrentIrql(), irql);
            KeLowerIrql(before);
        }
    }
}

static void allocate_too_high(void *words)
{
    const uint64_t kind = *(uint64_t *)words;

    raise_irql(DISPATCH_LEVEL + 1);
    kinds[kind](0, EVERYWHERE, 0, PAGE_SIZE);
}

static void free_too_high(void *words HARNESS_UNUSED)
{
    const PMDL mdl = pages_anywhere(1);

    raise_irql(DISPATCH_LEVEL + 1);
    MmFreePagesFromMdl(mdl);
}

static void expect_irql_stop(void (*body)(void *), uint64_t *words)
{
    const struct stop stop = expect_stop(body, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x7E);

    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL + 1);
    EXPECT_EQ(stop.p[2], DISPATCH_LEVEL);
    EXPECT_EQ(stop.p[3], 0);
}

/* MmAllocatePagesForMdl-17 MmAllocatePagesForMdl-16 MmAllocatePagesForMdlEx-20
   MmAllocateNodePagesForMdlEx-07 MmFreePagesFromMdl-05 DDI_compliance_rules_for_MDLs-04: above
   DISPATCH_LEVEL each stops with 0xC4/0x7E, the IRQL and the highest that is allowed. */
TEST_UNTIDY(mm_allocate_pages, allocate_or_free__above_dispatch_level__stops)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < ARRAYSIZE(kinds); words[0]++)
        expect_irql_stop(allocate_too_high, words);
    expect_irql_stop(free_too_high, words);
}

/* ---- Failures on demand ------------------------------------------------------------------------------- */

/* MmAllocatePagesForMdl-07 MmAllocatePagesForMdl-18 MmAllocatePagesForMdlEx-17
   MmAllocateNodePagesForMdlEx-03 Driver_Verifier_low_resources_simulation-02: each of the routines can be
   made to fail: NULL, nothing changed, the next call works. */
SILENT_TEST(mm_allocate_pages, allocate__made_to_fail__is_null_once)
{
    static const char *const names[] = {"MmAllocatePagesForMdl", "MmAllocatePagesForMdlEx",
                                        "MmAllocateNodePagesForMdlEx"};

    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const struct pinion_counters before = counters_now();

        pinion_fail(names[kind], 1);
        EXPECT(kinds[kind](SCATTERED_AT, SCATTERED_AT + SCARCE - 1, 0, SCARCE) == NULL);
        EXPECT_SAME_COUNTERS(before);
        const PMDL mdl = kinds[kind](SCATTERED_AT, SCATTERED_AT + SCARCE - 1, 0, SCARCE);
        EXPECT_EQ(MmGetMdlByteCount(mdl), SCARCE);
        free_pages(mdl);
    }
}

/* ---- Both layouts ------------------------------------------------------------------------------------- */

static void ranges_in(const char *options)
{
    const LONGLONG low = SCATTERED_AT + 3 * PAGE_SIZE, high = low + 11 * PAGE_SIZE - 1;

    boot(options);
    for (SIZE_T kind = 0; kind < ARRAYSIZE(kinds); kind++) {
        const PMDL mdl = kinds[kind](low, high, 0, 1 << 20),
                   rest = kinds[kind](SCATTERED_AT, high, 0, 1 << 20);

        EXPECT_EQ(MmGetMdlByteCount(mdl), 11 * PAGE_SIZE);
        EXPECT_EQ(frames_in(mdl, low, high), 11);
        EXPECT(frames_differ(mdl));
        EXPECT_EQ(MmGetMdlByteCount(rest), 3 * PAGE_SIZE);
        fill_pattern(system_address(mdl), 11 * PAGE_SIZE, 5);
        EXPECT(is_zero(system_address(rest), 3 * PAGE_SIZE));
        EXPECT_PATTERN(system_address(mdl), 11 * PAGE_SIZE, 5);
        free_pages(mdl);
        free_pages(rest);
    }
}

/* MmAllocatePagesForMdl-02 MmAllocatePagesForMdlEx-02: with layout=linear ranges are honoured just the
   same. */
TEST(mm_allocate_pages, allocate__range_layout_linear__each_frame_lies_in_it)
{
    ranges_in("layout=linear");
}

/* MmAllocatePagesForMdl-02 MmAllocatePagesForMdlEx-02: and so they are for another shuffle of the frames,
   and without verifier. */
TEST(mm_allocate_pages, allocate__range_other_seed__each_frame_lies_in_it)
{
    ranges_in("seed=99:verifier=off");
}
