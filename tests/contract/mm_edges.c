/* SPDX-License-Identifier: MIT */
/*
 * Where the numbers end: the most locks that one page can have, counted by page and by blocks of pages, in
 * process memory and in pool; and the routines that make mappings on a machine whose frames follow each
 * other.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "lock_limit.h"
#include "pages.h"

/* A page can be locked 65,535 times; one more raises STATUS_WORKING_SET_QUOTA and changes nothing; one
   less, and it works again. */
TEST(mm_lock_limit, lock__one_page_to_the_end__raises_and_recovers)
{
    static struct big_mdl big;

    boot("verifier=off");
    UCHAR *const user = user_pattern(3, 1);
    lock_times(&big, user + PAGE_SIZE, PAGE_SIZE, UserMode, MOST_LOCKS);
    EXPECT_EQ(counters_now().locked_pages, MOST_LOCKS);
    expect_quota(user + PAGE_SIZE, PAGE_SIZE, UserMode);
    expect_quota(user + PAGE_SIZE, 1, UserMode);
    unlock_times(&big, 1);
    EXPECT_STATUS(lock_once(&big, user + PAGE_SIZE, PAGE_SIZE, UserMode), STATUS_SUCCESS);
    expect_quota(user + PAGE_SIZE, 1, UserMode);
    EXPECT_EQ(pinion_trim(), 2);
    unlock_times(&big, MOST_LOCKS);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), 1);
    EXPECT_PATTERN(user, 3 * PAGE_SIZE, 1);
    pinion_user_free(user);
}

/* A range in which one page is at its end raises as a whole, and its other pages have no lock more than
   before. */
TEST(mm_lock_limit, lock__range_over_a_page_at_the_end__locks_nothing)
{
    static struct big_mdl big;

    boot("verifier=off");
    UCHAR *const user = user_pattern(5, 1);
    lock_times(&big, user + 2 * PAGE_SIZE, PAGE_SIZE, UserMode, MOST_LOCKS);
    for (SIZE_T first = 0; first <= 2; first++)
        expect_quota(user + first * PAGE_SIZE, 3 * PAGE_SIZE, UserMode);
    EXPECT_EQ(pinion_trim(), 4);
    unlock_times(&big, MOST_LOCKS);
    EXPECT_STATUS(lock_once(&big, user, 5 * PAGE_SIZE, UserMode), STATUS_SUCCESS);
    unlock_times(&big, 1);
    EXPECT_PATTERN(user, 5 * PAGE_SIZE, 1);
    pinion_user_free(user);
}

/* One MDL may name a page 65,535 times, and no more: with a 65,536th it raises, and the page has no lock
   at all. */
TEST(mm_lock_limit, lock_selected__one_page_named_to_the_end__raises_and_locks_nothing)
{
    static struct {
        MDL mdl;
        PFN_NUMBER pfns[MOST_LOCKS + 1];
    } many;
    static FILE_SEGMENT_ELEMENT segments[MOST_LOCKS + 1];
    UCHAR *const user = user_pattern(2, 1);

    for (SIZE_T i = 0; i <= MOST_LOCKS; i++)
        segments[i].Buffer = user;
    segments[7].Buffer = user + PAGE_SIZE;
    MmInitializeMdl(&many.mdl, user, (SIZE_T)(MOST_LOCKS + 1) * PAGE_SIZE);
    MmProbeAndLockSelectedPages(&many.mdl, segments, UserMode, IoWriteAccess);
    EXPECT_EQ(counters_now().locked_pages, MOST_LOCKS + 1);
    EXPECT_EQ(pinion_trim(), 0);
    MmUnlockPages(&many.mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), 2);
    pinion_user_free(user);
}

static void select_too_many(void *context)
{
    static struct {
        MDL mdl;
        PFN_NUMBER pfns[MOST_LOCKS + 1];
    } many;
    FILE_SEGMENT_ELEMENT *const segments = context;

    MmInitializeMdl(&many.mdl, segments[0].Buffer, (SIZE_T)(MOST_LOCKS + 1) * PAGE_SIZE);
    MmProbeAndLockSelectedPages(&many.mdl, segments, UserMode, IoWriteAccess);
}

/* The same with one more: it raises STATUS_WORKING_SET_QUOTA, and the page has no lock. */
TEST(mm_lock_limit, lock_selected__one_page_named_once_too_often__raises_and_locks_nothing)
{
    static FILE_SEGMENT_ELEMENT segments[MOST_LOCKS + 1];
    UCHAR *const user = user_pattern(1, 1);

    for (SIZE_T i = 0; i <= MOST_LOCKS; i++)
        segments[i].Buffer = user;
    EXPECT_STATUS(pinion_try(select_too_many, segments), STATUS_WORKING_SET_QUOTA);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), 1);
    pinion_user_free(user);
}

/* Locks of large buffers and of single pages add up: neither kind gets past the end, whatever was first. */
TEST(mm_lock_limit, lock__large_buffers_and_pages__add_up)
{
    enum { WHOLE = 2000, PAGE = 800 };
    static struct big_mdl large, small;

    boot("verifier=off:ram=64M");
    UCHAR *const user = user_pages(LARGE, PAGE_READWRITE);
    UCHAR *const page = user + PAGE * PAGE_SIZE;
    lock_times(&large, user, LARGE * PAGE_SIZE, UserMode, WHOLE);
    lock_times(&small, page, PAGE_SIZE, UserMode, MOST_LOCKS - WHOLE);
    expect_quota(page, PAGE_SIZE, UserMode);
    expect_quota(user, LARGE * PAGE_SIZE, UserMode);
    expect_quota(page - 5 * PAGE_SIZE, 10 * PAGE_SIZE, UserMode);
    unlock_times(&large, 1);
    EXPECT_STATUS(lock_once(&large, user, LARGE * PAGE_SIZE, UserMode), STATUS_SUCCESS);
    expect_quota(user, LARGE * PAGE_SIZE, UserMode);
    unlock_times(&small, MOST_LOCKS - WHOLE);
    unlock_times(&large, WHOLE);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), LARGE);
    pinion_user_free(user);
}

/* Pages of pool have the same end, paged or not. */
TEST(mm_lock_limit, lock__page_of_pool_to_the_end__raises_and_recovers)
{
    static const POOL_TYPE types[] = {NonPagedPoolNx, PagedPool};
    static struct big_mdl big;

    boot("verifier=off");
    for (SIZE_T i = 0; i < ARRAYSIZE(types); i++) {
        UCHAR *const pool = ExAllocatePoolWithTag(types[i], 2 * PAGE_SIZE, TEST_TAG);

        lock_times(&big, pool, PAGE_SIZE, KernelMode, MOST_LOCKS);
        expect_quota(pool, PAGE_SIZE, KernelMode);
        expect_quota(pool, 2 * PAGE_SIZE, KernelMode);
        unlock_times(&big, MOST_LOCKS);
        EXPECT_EQ(counters_now().locked_pages, 0);
        EXPECT_STATUS(lock_once(&big, pool, 2 * PAGE_SIZE, KernelMode), STATUS_SUCCESS);
        unlock_times(&big, 1);
        ExFreePool(pool);
    }
}

/* ---- Frames that follow each other -------------------------------------------------------------------- */

static void lock_and_map(void)
{
    UCHAR *const user = user_pattern(5, 1);
    const PMDL mdl = locked_mdl(user + 10, 4 * PAGE_SIZE), part = mdl_over(NULL, 3 * PAGE_SIZE);

    IoBuildPartialMdl(mdl, part, user + PAGE_SIZE + 7, 2 * PAGE_SIZE);
    EXPECT_PATTERN_AT(system_address(part), 2 * PAGE_SIZE, 1, PAGE_SIZE + 7);
    EXPECT_PATTERN_AT(system_address(mdl), 4 * PAGE_SIZE, 1, 10);
    UCHAR *const again = map_user(mdl);
    EXPECT_PATTERN_AT(again, 4 * PAGE_SIZE, 1, 10);
    fill_pattern(again, 4 * PAGE_SIZE, 2);
    EXPECT_PATTERN(user + 10, 4 * PAGE_SIZE, 2);
    EXPECT_PATTERN_AT(system_address(part), 2 * PAGE_SIZE, 2, PAGE_SIZE - 3);
    MmUnmapLockedPages(again, mdl);
    IoFreeMdl(part);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void map_out_of_order(void)
{
    static const SIZE_T order[] = {3, 0, 2, 2, 1};
    UCHAR *const user = user_pattern(4, 1);
    const PMDL mdl = mdl_over(user, ARRAYSIZE(order) * PAGE_SIZE);
    FILE_SEGMENT_ELEMENT segments[ARRAYSIZE(order)];

    for (SIZE_T i = 0; i < ARRAYSIZE(order); i++)
        segments[i].Buffer = user + order[i] * PAGE_SIZE;
    MmProbeAndLockSelectedPages(mdl, segments, UserMode, IoWriteAccess);
    for (SIZE_T i = 0; i < ARRAYSIZE(order); i++)
        EXPECT_PATTERN_AT(system_address(mdl) + i * PAGE_SIZE, PAGE_SIZE, 1, order[i] * PAGE_SIZE);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void map_reserved(void)
{
    UCHAR *const user = user_pattern(3, 1), *const at = MmAllocateMappingAddress(3 * PAGE_SIZE, TEST_TAG);
    const PMDL mdl = locked_mdl(user + 99, 2 * PAGE_SIZE);

    for (ULONG round = 0; round < 3; round++) {
        EXPECT_PATTERN_AT(MmMapLockedPagesWithReservedMapping(at, TEST_TAG, mdl, MmCached), 2 * PAGE_SIZE, 1,
                          99);
        MmUnmapReservedMapping(at, TEST_TAG, mdl);
        EXPECT(!MmIsAddressValid(at));
    }
    MmFreeMappingAddress(at, TEST_TAG);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void map_device(void)
{
    MM_PHYSICAL_ADDRESS_LIST list[] = {{phys(DEVICE_AT + 3 * PAGE_SIZE), PAGE_SIZE},
                                       {phys(DEVICE_AT), 2 * PAGE_SIZE}};
    UCHAR *const all = MmMapIoSpace(phys(DEVICE_AT), 4 * PAGE_SIZE, MmNonCached);
    PMDL mdl;

    fill_pattern(all, 4 * PAGE_SIZE, 1);
    EXPECT_STATUS(MmAllocateMdlForIoSpace(list, ARRAYSIZE(list), &mdl), STATUS_SUCCESS);
    UCHAR *const system = map_system(mdl);
    EXPECT_PATTERN_AT(system, PAGE_SIZE, 1, 3 * PAGE_SIZE);
    EXPECT_PATTERN(system + PAGE_SIZE, 2 * PAGE_SIZE, 1);
    MmUnmapLockedPages(system, mdl);
    IoFreeMdl(mdl);
    MmUnmapIoSpace(all, 4 * PAGE_SIZE);
}

static void advance(void)
{
    UCHAR *const user = user_pattern(5, 1);
    const PMDL mdl = locked_mdl(user + 10, 4 * PAGE_SIZE);

    EXPECT(system_address(mdl) != NULL);
    for (SIZE_T passed = 10; passed + 5000 < 4 * PAGE_SIZE; passed += 4999) {
        EXPECT_STATUS(MmAdvanceMdl(mdl, 4999), STATUS_SUCCESS);
        EXPECT_PATTERN_AT(system_address(mdl), MmGetMdlByteCount(mdl), 1, passed + 4999);
    }
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void trim_and_lock(void)
{
    UCHAR *const user = user_pattern(9, 1);

    EXPECT_EQ(pinion_trim(), 9);
    const PMDL mdl = locked_mdl(user + 3 * PAGE_SIZE, 3 * PAGE_SIZE);
    EXPECT_PATTERN_AT(system_address(mdl), 3 * PAGE_SIZE, 1, 3 * PAGE_SIZE);
    EXPECT_EQ(pinion_trim(), 0);
    EXPECT_PATTERN(user, 9 * PAGE_SIZE, 1);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void (*const lives[])(void) = {lock_and_map, map_out_of_order, map_reserved,
                                      map_device,   advance,          trim_and_lock};

static void live(const char *options)
{
    boot(options);
    for (SIZE_T i = 0; i < ARRAYSIZE(lives); i++) {
        const struct pinion_counters before = counters_now();

        lives[i]();
        EXPECT_SAME_COUNTERS(before);
    }
}

/* What holds where frames are scattered holds where they follow each other: locks, parts, mappings of all
   kinds, advances, trims. */
TEST(mm_layout, lives__layout_linear__show_the_same_bytes)
{
    live("layout=linear");
}

/* And without the verifier, where more mappings are had without making them. */
TEST(mm_layout, lives__layout_linear_verifier_off__show_the_same_bytes)
{
    live("layout=linear:verifier=off");
}

/* And in the default layout without the verifier. */
TEST(mm_layout, lives__layout_scattered_verifier_off__show_the_same_bytes)
{
    live("layout=scattered:verifier=off");
}

/* And on a machine with as little memory as there can be. */
TEST(mm_layout, lives__smallest_machine__show_the_same_bytes)
{
    live("ram=16M");
}
