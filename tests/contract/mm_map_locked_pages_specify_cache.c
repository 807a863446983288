/* SPDX-License-Identifier: MIT */
/*
 * MmMapLockedPagesSpecifyCache into system space: what a mapping shows, its cache type, and which misuses stop the machine.
 */

#include "harness.h"

#include <ntddk.h>
#include <pinion/pinion.h>

#include "mapping.h"

/* ---- System mappings ----------------------------------------------------------------------------------- */

/* MmMapLockedPagesSpecifyCache-01 MmMapLockedPagesSpecifyCache-02: the routine has its documented type, and
   maps locked pages. */
SILENT_TEST(mm_map, call_through_its_type__locked_pages__are_mapped)
{
    PVOID(*const map_locked)
    (PMDL, KPROCESSOR_MODE, MEMORY_CACHING_TYPE, PVOID, ULONG, ULONG) = MmMapLockedPagesSpecifyCache;
    UCHAR *const user = user_pattern(2, 3);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    UCHAR *const system = map_locked(mdl, KernelMode, MmCached, NULL, FALSE, NORMAL_NX);

    EXPECT(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA);
    EXPECT_PATTERN(system, 2 * PAGE_SIZE, 3);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static const struct {
    SIZE_T offset, bytes;
} ranges[] = {
    {0, 1},
    {0, PAGE_SIZE},
    {1, PAGE_SIZE - 1},
    {1, PAGE_SIZE},
    {PAGE_SIZE - 1, 1},
    {PAGE_SIZE - 1, PAGE_SIZE + 2},
    {77, 3 * PAGE_SIZE},
};

/* MmMapLockedPagesSpecifyCache-03: the address has the offset of the buffer, and shows the buffer and no
   other bytes, for ranges around page edges. */
SILENT_TEST(mm_map, kernel_map__ranges_around_page_edges__shows_the_buffer_at_its_offset)
{
    UCHAR *const user = user_pattern(4, 3);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL mdl = locked_mdl(user + ranges[i].offset, ranges[i].bytes);
        UCHAR *const system = map_system(mdl);

        EXPECT_EQ(BYTE_OFFSET(system), MmGetMdlByteOffset(mdl));
        EXPECT(system != user + ranges[i].offset);
        EXPECT_MEM_EQ(system, user + ranges[i].offset, ranges[i].bytes);
        EXPECT_PTR_EQ(mdl->MappedSystemVa, system);
        unlock_and_free(mdl);
    }
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-03: the mapping goes by frames: each of its pages has the physical address
   of its page in the MDL. */
SILENT_TEST(mm_map, kernel_map__each_page__has_the_frame_of_the_mdl)
{
    enum { PAGES = 40 };
    UCHAR *const user = user_pattern(PAGES, 3);
    const PMDL mdl = locked_mdl(user + 5, (PAGES - 1) * PAGE_SIZE);
    UCHAR *const system = PAGE_ALIGN(map_system(mdl));

    for (SIZE_T page = 0; page < PAGES; page++) {
        const PHYSICAL_ADDRESS pa = MmGetPhysicalAddress(system + page * PAGE_SIZE + 9);

        EXPECT_EQ(pa.QuadPart, MmGetMdlPfnArray(mdl)[page] << PAGE_SHIFT | 9);
    }
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-03: frames in any order, one of them several times, are mapped in that
   order: a driver may fill the PFN array itself, with pages that are locked. */
SILENT_TEST(mm_map, kernel_map__pfns_shuffled_and_repeated__maps_them_in_that_order)
{
    static const SIZE_T order[] = {4, 0, 3, 3, 1, 2, 4, 0};
    UCHAR *const user = user_pattern(5, 3);
    const PMDL source = locked_mdl(user, 5 * PAGE_SIZE),
               shuffled = mdl_over(NULL, ARRAYSIZE(order) * PAGE_SIZE);

    for (SIZE_T i = 0; i < ARRAYSIZE(order); i++)
        MmGetMdlPfnArray(shuffled)[i] = MmGetMdlPfnArray(source)[order[i]];
    shuffled->MdlFlags |= MDL_PAGES_LOCKED;
    UCHAR *const system = map_system(shuffled);
    for (SIZE_T i = 0; i < ARRAYSIZE(order); i++)
        EXPECT_MEM_EQ(system + i * PAGE_SIZE, user + order[i] * PAGE_SIZE, PAGE_SIZE);
    system[2 * PAGE_SIZE + 1] = 0xA5;
    EXPECT_EQ(system[3 * PAGE_SIZE + 1], 0xA5);
    EXPECT_EQ(user[3 * PAGE_SIZE + 1], 0xA5);
    MmUnmapLockedPages(system, shuffled);
    IoFreeMdl(shuffled);
    unlock_and_free(source);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-02: two MDLs over the same frames have two mappings, and each sees what the
   other stores. */
SILENT_TEST(mm_map, kernel_map__two_mdls_over_one_buffer__see_each_others_stores)
{
    UCHAR *const user = user_pages(2, PAGE_READWRITE);
    const PMDL one = locked_mdl(user, 2 * PAGE_SIZE), two = locked_mdl(user + PAGE_SIZE, PAGE_SIZE);
    UCHAR *const a = map_system(one), *const b = map_system(two);

    EXPECT(a + PAGE_SIZE != b);
    fill_pattern(a + PAGE_SIZE, PAGE_SIZE, 1);
    EXPECT_PATTERN(b, PAGE_SIZE, 1);
    fill_pattern(b, PAGE_SIZE, 2);
    EXPECT_PATTERN(a + PAGE_SIZE, PAGE_SIZE, 2);
    EXPECT_PATTERN(user + PAGE_SIZE, PAGE_SIZE, 2);
    EXPECT_EQ(counters_now().system_mappings, 2);
    EXPECT_EQ(counters_now().system_pages_mapped, 3);
    unlock_and_free(two);
    EXPECT_PATTERN(a + PAGE_SIZE, PAGE_SIZE, 2);
    unlock_and_free(one);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-18: MmUnmapLockedPages undoes the mapping, and the MDL can be mapped
   again. */
SILENT_TEST(mm_map, kernel_map__unmapped__can_be_mapped_again)
{
    UCHAR *const user = user_pattern(2, 3);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);

    for (ULONG round = 0; round < 3; round++) {
        UCHAR *const system = map_system(mdl);

        EXPECT_EQ(counters_now().system_mappings, 1);
        EXPECT_PATTERN(system, 2 * PAGE_SIZE, 3);
        MmUnmapLockedPages(system, mdl);
        EXPECT_EQ(counters_now().system_mappings, 0);
    }
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-13 MEMORY_CACHING_TYPE-01: each usable cache type gives a mapping that shows
   the pages, whatever type they have already. */
SILENT_TEST(mm_map, kernel_map__each_cache_type__shows_the_pages)
{
    static const MEMORY_CACHING_TYPE types[] = {MmNonCached, MmCached, MmWriteCombined};
    UCHAR *const user = user_pattern(2, 3);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);

    for (SIZE_T i = 0; i < ARRAYSIZE(types); i++) {
        UCHAR *const system = map(mdl, KernelMode, types[i], NULL, NORMAL_NX);

        EXPECT_PATTERN(system, 2 * PAGE_SIZE, 3);
        MmUnmapLockedPages(system, mdl);
    }
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MEMORY_CACHING_TYPE-02 MmMapLockedPagesSpecifyCache-13: where cached pages are mapped as noncached beside
   a cached mapping, both mappings show the same bytes: the pages' own type is kept. */
SILENT_TEST(mm_map, kernel_map__noncached_beside_cached__both_see_the_same)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL cached = locked_mdl(user, PAGE_SIZE), noncached = locked_mdl(user, PAGE_SIZE);
    UCHAR *const a = map_system(cached), *const b = map(noncached, KernelMode, MmNonCached, NULL, NORMAL_NX);

    fill_pattern(b, PAGE_SIZE, 4);
    EXPECT_PATTERN(a, PAGE_SIZE, 4);
    unlock_and_free(noncached);
    unlock_and_free(cached);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-13: a process's pages are cached, and stay so while they are mapped as
   noncached. */
SILENT_TEST(mm_map, kernel_map__noncached_over_cached_pages__pages_keep_their_type)
{
    UCHAR *const user = user_pattern(2, 3);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);

    EXPECT(MmAreMdlPagesCached(mdl));
    map(mdl, KernelMode, MmNonCached, NULL, NORMAL_NX);
    EXPECT(MmAreMdlPagesCached(mdl));
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-14: pages of MmAllocatePagesForMdl have no type of their own: that of the
   mapping decides. */
SILENT_TEST(mm_map, kernel_map__pages_without_a_type__take_that_of_the_mapping)
{
    static const MEMORY_CACHING_TYPE types[] = {MmNonCached, MmCached, MmWriteCombined};
    const PHYSICAL_ADDRESS zero = {.QuadPart = 0}, anywhere = {.QuadPart = MAXLONGLONG};

    for (SIZE_T i = 0; i < ARRAYSIZE(types); i++) {
        const PMDL mdl = MmAllocatePagesForMdl(zero, anywhere, zero, 2 * PAGE_SIZE);
        UCHAR *const system = map(mdl, KernelMode, types[i], NULL, NORMAL_NX);

        fill_pattern(system, 2 * PAGE_SIZE, 3);
        EXPECT_PATTERN(system, 2 * PAGE_SIZE, 3);
        EXPECT_EQ(!!MmAreMdlPagesCached(mdl), types[i] == MmCached);
        MmUnmapLockedPages(system, mdl);
        MmFreePagesFromMdl(mdl);
        ExFreePool(mdl);
    }
}

/* MmMapLockedPagesSpecifyCache-19: a system mapping may be made at DISPATCH_LEVEL. */
SILENT_TEST(mm_map, kernel_map__at_dispatch_level__works)
{
    UCHAR *const user = user_pattern(1, 3);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);
    const UCHAR *const system = map_system(mdl);
    const SIZE_T mismatch = pattern_mismatch(system, PAGE_SIZE, 3);

    KeLowerIrql(before);
    EXPECT_EQ(mismatch, PAGE_SIZE);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesSpecifyCache-03: without the verifier a mapping shows the buffer at its offset as well,
   protected or not. */
TEST(mm_map, kernel_map__verifier_off__shows_the_buffer)
{
    static const ULONG priorities[] = {NormalPagePriority, NormalPagePriority | MdlMappingNoExecute};

    boot("verifier=off");
    UCHAR *const user = user_pattern(3, 3);
    for (SIZE_T i = 0; i < ARRAYSIZE(priorities); i++) {
        const PMDL mdl = locked_mdl(user + 100, 2 * PAGE_SIZE);
        UCHAR *const system = map(mdl, KernelMode, MmCached, NULL, priorities[i]);

        EXPECT(system != user + 100);
        EXPECT_EQ(BYTE_OFFSET(system), 100);
        EXPECT_MEM_EQ(system, user + 100, 2 * PAGE_SIZE);
        system[PAGE_SIZE] = (UCHAR)~system[PAGE_SIZE];
        EXPECT_EQ(system[PAGE_SIZE], user[100 + PAGE_SIZE]);
        unlock_and_free(mdl);
    }
}

/* ---- Mistakes that stop the machine -------------------------------------------------------------------- */

static void tell(uint64_t *words, PMDL mdl)
{
    words[0] = (uint64_t)(uintptr_t)mdl;
    words[1] = mdl_flags(mdl);
}

static struct stop expect_refusal(void (*body)(void *), uint64_t subcode, uint64_t *words)
{
    const struct stop stop = expect_stop(body, words, DRIVER_VERIFIER_DETECTED_VIOLATION, subcode);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    return stop;
}

static void map_twice(void *words)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    EXPECT(map_system(mdl) != NULL);
    tell(words, mdl);
    map_system(mdl);
}

/* MmMapLockedPagesSpecifyCache-15 MmMapLockedPagesSpecifyCache-25 Driver_Verifier_automatic_MDL_checks-02:
   a second system mapping of an MDL stops with 0xC4/0xB2 and the flag that says so. */
TEST_UNTIDY(mm_map, kernel_map__mapped_already__stops)
{
    const struct stop stop = expect_refusal(map_twice, 0xB2, shared_words());

    EXPECT(stop.p[3] & MDL_MAPPED_TO_SYSTEM_VA);
}

static void map_nonpaged(void *words)
{
    const PMDL mdl = mdl_over(pool_pages(1), PAGE_SIZE);

    MmBuildMdlForNonPagedPool(mdl);
    tell(words, mdl);
    map_system(mdl);
}

/* MmMapLockedPagesSpecifyCache-16 MmMapLockedPagesSpecifyCache-25: an MDL of nonpaged pool has a system
   address already: mapping it into system space stops with 0xC4/0xB2. */
TEST_UNTIDY(mm_map, kernel_map__mdl_of_nonpaged_pool__stops)
{
    const struct stop stop = expect_refusal(map_nonpaged, 0xB2, shared_words());

    EXPECT(stop.p[3] & MDL_SOURCE_IS_NONPAGED_POOL);
}

/* The context's third word is the mode. */
static void map_unlocked(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    tell(words, mdl);
    MmMapLockedPagesSpecifyCache(mdl, (KPROCESSOR_MODE)words[2], MmCached, NULL, FALSE, NORMAL_NX);
}

/* MmMapLockedPagesSpecifyCache-02 MmMapLockedPagesSpecifyCache-26: mapping an MDL whose pages are not
   locked stops with 0xC4/0xB3 and the flag that is missing, in both modes. */
TEST_UNTIDY(mm_map, map__pages_not_locked__stops)
{
    uint64_t *const words = shared_words();

    for (KPROCESSOR_MODE mode = KernelMode; mode <= UserMode; mode++) {
        words[2] = (uint64_t)mode;
        const struct stop stop = expect_refusal(map_unlocked, 0xB3, words);

        EXPECT(stop.p[3] & MDL_PAGES_LOCKED);
    }
}

static void map_with_bug_check(void *words)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    tell(words, mdl);
    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, TRUE, NORMAL_NX);
}

/* MmMapLockedPagesSpecifyCache-06 MmMapLockedPagesSpecifyCache-22: BugCheckOnFailure TRUE stops with
   0xC4/0x82. */
TEST_UNTIDY(mm_map, kernel_map__bug_check_on_failure__stops)
{
    const struct stop stop = expect_refusal(map_with_bug_check, 0x82, shared_words());

    EXPECT_EQ(stop.p[3], 0);
}

/* At the IRQL of the third word, in the mode of the second. */
static void map_at_irql(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    words[0] = (uint64_t)(uintptr_t)mdl;
    raise_irql((KIRQL)words[2]);
    MmMapLockedPagesSpecifyCache(mdl, (KPROCESSOR_MODE)words[1], MmCached, NULL, FALSE, NORMAL_NX);
}

/* MmMapLockedPagesSpecifyCache-19 MmMapLockedPagesSpecifyCache-20 MmMapLockedPagesSpecifyCache-21: above
   DISPATCH_LEVEL a system mapping stops with 0xC4/0x76, above APC_LEVEL a user mapping with 0xC4/0x77; each
   with the IRQL, the MDL and the mode. */
TEST_UNTIDY(mm_map, map__irql_too_high__stops)
{
    static const struct {
        KPROCESSOR_MODE mode;
        KIRQL irql;
        uint64_t subcode;
    } rows[] = {
        {KernelMode, DISPATCH_LEVEL + 1, 0x76},
        {KernelMode, HIGH_LEVEL, 0x76},
        {UserMode, DISPATCH_LEVEL, 0x77},
        {UserMode, HIGH_LEVEL, 0x77},
    };
    uint64_t *const words = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(rows); i++) {
        words[1] = (uint64_t)rows[i].mode;
        words[2] = rows[i].irql;
        const struct stop stop =
            expect_stop(map_at_irql, words, DRIVER_VERIFIER_DETECTED_VIOLATION, rows[i].subcode);

        EXPECT_EQ(stop.p[1], rows[i].irql);
        EXPECT_EQ(stop.p[2], words[0]);
        EXPECT_EQ(stop.p[3], rows[i].mode);
    }
}

/* An MDL of the driver's own making: frames that were locked once and are not any more. */
static PMDL mdl_of_unlocked_frames(SIZE_T pages)
{
    const PMDL source = locked_mdl(user_pages(pages, PAGE_READWRITE), pages * PAGE_SIZE);
    const PMDL mdl = mdl_over(NULL, pages * PAGE_SIZE);

    RtlCopyMemory(MmGetMdlPfnArray(mdl), MmGetMdlPfnArray(source), pages * sizeof(PFN_NUMBER));
    mdl->MdlFlags |= MDL_PAGES_LOCKED;
    unlock_and_free(source);
    return mdl;
}

static void map_unlocked_frames(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = mdl_of_unlocked_frames(3);

    words[0] = (uint64_t)(uintptr_t)mdl;
    words[1] = MmGetMdlPfnArray(mdl)[0];
    map_system(mdl);
}

/* MmMapLockedPagesSpecifyCache-23: mapping an MDL that calls itself locked while its frames are not stops
   with 0xC4/0x85, the MDL, the number of pages and the first frame. */
TEST_UNTIDY(mm_map, kernel_map__frames_not_locked__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop =
        expect_stop(map_unlocked_frames, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x85);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], 3);
    EXPECT_EQ(stop.p[3], words[1]);
}

static void map_unlocked_frames_unverified(void *context)
{
    boot("verifier=off");
    map_unlocked_frames(context);
}

/* MmMapLockedPagesSpecifyCache-27: without the verifier the same stops with 0x1A/0x1233 and the frame. */
TEST_UNTIDY(mm_map, kernel_map__frames_not_locked_verifier_off__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(map_unlocked_frames_unverified, words, MEMORY_MANAGEMENT, 0x1233);

    EXPECT_EQ(stop.p[1], words[1]);
}

/* The frame number of the context's third word is put between two good ones. */
static void map_bad_frame(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = locked_mdl(user_pages(3, PAGE_READWRITE), 3 * PAGE_SIZE);

    MmGetMdlPfnArray(mdl)[1] = words[2];
    words[0] = (uint64_t)(uintptr_t)mdl;
    words[1] = (uint64_t)(uintptr_t)&MmGetMdlPfnArray(mdl)[1];
    map_system(mdl);
}

/* MmMapLockedPagesSpecifyCache-24: a frame number that is no memory stops with 0xC4/0x89, the MDL, its
   entry and the number. */
TEST_UNTIDY(mm_map, kernel_map__frame_is_no_memory__stops)
{
    static const uint64_t frames[] = {0, ~(uint64_t)0, 0xFFFFFFFFF};
    uint64_t *const words = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(frames); i++) {
        words[2] = frames[i];
        const struct stop stop = expect_stop(map_bad_frame, words, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x89);

        EXPECT_EQ(stop.p[1], words[0]);
        EXPECT_EQ(stop.p[2], words[1]);
        EXPECT_EQ(stop.p[3], frames[i]);
    }
}

static void protect_invalid_mapping(void *context)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE), other = locked_mdl(user, PAGE_SIZE);

    if (*(uint64_t *)context == 0) {
        mdl->MappedSystemVa = map_system(other);
        MmUnmapLockedPages(mdl->MappedSystemVa, other);
    } else {
        mdl->MappedSystemVa = user;
    }
    mdl->MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
    MmProtectMdlSystemAddress(mdl, PAGE_READONLY);
}

/* Bug_checks-06: protecting an MDL that calls itself mapped, at an address that is no mapping, stops with
   0x1A/0x1235. */
TEST_UNTIDY(mm_map, protect__mapping_is_none__stops)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < 2; words[0]++)
        expect_stop(protect_invalid_mapping, words, MEMORY_MANAGEMENT, 0x1235);
}
