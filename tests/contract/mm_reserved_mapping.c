/* SPDX-License-Identifier: MIT */
/*
 * Reserved mappings: system addresses that a driver keeps for mappings that must not fail, and what it may do
 * wrong with them.
 *
 *     reserve        |<---------- addresses that nothing answers at ---------->|
 *     map an MDL     |<--- its pages, its byte offset first --->|              |
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

enum { TAG = 'gatR', OTHER_TAG = 'htoO' };

static UCHAR *reserve(SIZE_T pages)
{
    UCHAR *const at = MmAllocateMappingAddress(pages * PAGE_SIZE, TAG);

    EXPECT(at != NULL);
    return at;
}

static UCHAR *map_at(UCHAR *reserved, PMDL mdl)
{
    UCHAR *const mapped = MmMapLockedPagesWithReservedMapping(reserved, TAG, mdl, MmCached);

    EXPECT(mapped != NULL);
    return mapped;
}

/* ---- Reserving ---------------------------------------------------------------------------------------- */

/* MmAllocateMappingAddress-01 MmAllocateMappingAddress-02 MmAllocateMappingAddressEx-01
   MmAllocateMappingAddressEx-02 MmFreeMappingAddress-01: by their documented types the routines reserve
   system addresses, page aligned, and give them back. */
SILENT_TEST(mm_reserved_mapping, reserve__through_the_types__gives_an_address)
{
    PVOID (*const allocate)(SIZE_T, ULONG) = MmAllocateMappingAddress;
    PVOID (*const allocate_ex)(SIZE_T, ULONG, ULONG) = MmAllocateMappingAddressEx;
    VOID (*const free)(PVOID, ULONG) = MmFreeMappingAddress;
    static const SIZE_T sizes[] = {1, PAGE_SIZE, PAGE_SIZE + 1, 100 * PAGE_SIZE};

    for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
        PVOID const at[] = {allocate(sizes[i], TAG), allocate_ex(sizes[i], TAG, 0),
                            allocate_ex(sizes[i], TAG, MM_MAPPING_ADDRESS_DIVISIBLE)};

        for (SIZE_T j = 0; j < ARRAYSIZE(at); j++) {
            EXPECT(at[j] != NULL);
            EXPECT_EQ(BYTE_OFFSET(at[j]), 0);
            EXPECT(at[j] != at[(j + 1) % 3]);
        }
        for (SIZE_T j = 0; j < ARRAYSIZE(at); j++)
            free(at[j], TAG);
    }
}

/* MmAllocateMappingAddress-03: a reservation is no memory: none of its pages is valid, nothing is mapped
   or locked. */
SILENT_TEST(mm_reserved_mapping, reserve__pages__are_not_there)
{
    const struct pinion_counters before = counters_now();
    UCHAR *const at = reserve(3);

    for (SIZE_T i = 0; i < 3 * PAGE_SIZE; i += PAGE_SIZE / 2)
        EXPECT(!MmIsAddressValid(at + i));
    EXPECT_EQ(MmGetPhysicalAddress(at).QuadPart, 0);
    EXPECT_SAME_COUNTERS(before);
    MmFreeMappingAddress(at, TAG);
}

static void touch_reserved(void *words)
{
    UCHAR *const at = reserve(2) + ((uint64_t *)words)[0];

    ((uint64_t *)words)[1] = (uint64_t)(uintptr_t)at;
    *(volatile UCHAR *)at = 1;
}

/* MmAllocateMappingAddress-03 Bug_checks-10: touching it before it is mapped stops with 0x50. */
TEST_UNTIDY(mm_reserved_mapping, reserve__touched__stops)
{
    static const uint64_t places[] = {0, PAGE_SIZE, 2 * PAGE_SIZE - 1};
    uint64_t *const words = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(places); i++) {
        words[0] = places[i];
        const struct stop stop = run_until_stop(touch_reserved, words);

        EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
        EXPECT_EQ(stop.p[0], words[1]);
    }
}

/* MmFreeMappingAddress-01: what is given back can be reserved again, as often as one likes: no address is
   lost. */
SILENT_TEST(mm_reserved_mapping, free__reservation__can_be_had_again)
{
    for (ULONG round = 0; round < 100; round++) {
        UCHAR *const at = reserve(256 * 1024);

        EXPECT(!MmIsAddressValid(at));
        MmFreeMappingAddress(at, TAG);
    }
}

/* MmAllocateMappingAddress-02 MmFreeMappingAddress-01: when system space is full a reservation is NULL;
   once some is given back there is room again, for reservations and mappings. */
SILENT_TEST(mm_reserved_mapping, reserve__no_room__is_null_and_recovers)
{
    enum { MOST = 64, BIG = 256 * 1024 };
    UCHAR *at[MOST];
    SIZE_T count = 0;

    while (count < MOST && (at[count] = MmAllocateMappingAddress((SIZE_T)BIG * PAGE_SIZE, TAG)) != NULL)
        count++;
    EXPECT(count > 1 && count < MOST);
    MmFreeMappingAddress(at[--count], TAG);
    at[count] = reserve(BIG);
    count++;
    while (count > 0)
        MmFreeMappingAddress(at[--count], TAG);
    const PMDL pages = pages_anywhere(1);
    system_address(pages);
    free_pages(pages);
}

/* MmAllocateMappingAddress-02: made to fail, each routine is NULL once. */
SILENT_TEST(mm_reserved_mapping, reserve__made_to_fail__is_null)
{
    pinion_fail("MmAllocateMappingAddress", 1);
    EXPECT(MmAllocateMappingAddress(PAGE_SIZE, TAG) == NULL);
    MmFreeMappingAddress(reserve(1), TAG);
    pinion_fail("MmAllocateMappingAddressEx", 1);
    EXPECT(MmAllocateMappingAddressEx(PAGE_SIZE, TAG, 0) == NULL);
    MmFreeMappingAddress(MmAllocateMappingAddressEx(PAGE_SIZE, TAG, 0), TAG);
}

/* MmAllocateMappingAddress-02: a size that no address space holds is NULL. */
SILENT_TEST(mm_reserved_mapping, reserve__impossible_size__is_null)
{
    static const SIZE_T sizes[] = {1ull << 40, 1ull << 63, ~(SIZE_T)0, ~(SIZE_T)0 - PAGE_SIZE};

    for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++)
        EXPECT(MmAllocateMappingAddress(sizes[i], TAG) == NULL);
}

/* MmAllocateMappingAddress-04 MmAllocateMappingAddressEx-01 MmFreeMappingAddress-04: at APC_LEVEL they
   work. */
SILENT_TEST(mm_reserved_mapping, reserve_and_free__at_apc_level__works)
{
    const KIRQL before = raise_irql(APC_LEVEL);

    MmFreeMappingAddress(reserve(2), TAG);
    MmFreeMappingAddress(MmAllocateMappingAddressEx(1, TAG, 0), TAG);
    KeLowerIrql(before);
}

static void reserve_too_high(void *context HARNESS_UNUSED)
{
    raise_irql(*(KIRQL *)context);
    MmAllocateMappingAddress(PAGE_SIZE, TAG);
}

static void free_too_high(void *context HARNESS_UNUSED)
{
    UCHAR *const at = reserve(1);

    raise_irql(*(KIRQL *)context);
    MmFreeMappingAddress(at, TAG);
}

/* MmAllocateMappingAddress-04 MmAllocateMappingAddressEx-01 MmFreeMappingAddress-04: above that, they are
   reported. */
TEST_UNTIDY(mm_reserved_mapping, reserve_and_free__above_apc_level__is_reported)
{
    for (KIRQL irql = DISPATCH_LEVEL; irql <= DISPATCH_LEVEL + 1; irql++) {
        expect_report(reserve_too_high, &irql);
        expect_report(free_too_high, &irql);
    }
}

/* ---- Mapping ------------------------------------------------------------------------------------------ */

static const ULONG ranges[][2] = {{0, PAGE_SIZE}, {1, PAGE_SIZE},     {PAGE_SIZE - 1, 2},
                                  {100, 1},       {0, 4 * PAGE_SIZE}, {4095, 3 * PAGE_SIZE + 1}};

/* MmMapLockedPagesWithReservedMapping-01 MmMapLockedPagesWithReservedMapping-03
   MmMapLockedPagesWithReservedMapping-04 MmUnmapReservedMapping-01 MmUnmapReservedMapping-02: by their
   documented types, an MDL is mapped at the start of the reservation: the result includes the byte offset,
   MappedSystemVa does not; unmapped, the reservation can be mapped again. */
SILENT_TEST(mm_reserved_mapping, map__ranges_around_page_edges__starts_at_the_reservation)
{
    PVOID (*const map)(PVOID, ULONG, PMDL, MEMORY_CACHING_TYPE) = MmMapLockedPagesWithReservedMapping;
    VOID (*const unmap)(PVOID, ULONG, PMDL) = MmUnmapReservedMapping;
    UCHAR *const user = user_pattern(4, 3), *const at = reserve(4);

    for (SIZE_T i = 0; i < ARRAYSIZE(ranges); i++) {
        const PMDL mdl = locked_mdl(user + ranges[i][0], ranges[i][1]);
        const struct pinion_counters before = counters_now();
        UCHAR *const mapped = map(at, TAG, mdl, MmCached);

        EXPECT_PTR_EQ(mapped, at + BYTE_OFFSET(user + ranges[i][0]));
        EXPECT_PTR_EQ(mdl->MappedSystemVa, at);
        EXPECT_PATTERN_AT(mapped, ranges[i][1], 3, ranges[i][0]);
        mapped[0] ^= 0x55;
        EXPECT_EQ(user[ranges[i][0]], mapped[0]);
        mapped[0] ^= 0x55;
        unmap(at, TAG, mdl);
        EXPECT(!MmIsAddressValid(mapped));
        EXPECT(!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA));
        EXPECT_SAME_COUNTERS(before);
        unlock_and_free(mdl);
    }
    MmFreeMappingAddress(at, TAG);
    pinion_user_free(user);
}

/* MmMapLockedPagesWithReservedMapping-02 MmAllocateMappingAddressEx-02: an MDL may be smaller than the
   reservation: what is behind it is not there; and a reservation of the other routine does as well. */
SILENT_TEST(mm_reserved_mapping, map__smaller_than_the_reservation__maps_only_itself)
{
    UCHAR *const user = user_pattern(2, 3), *const at = MmAllocateMappingAddressEx(8 * PAGE_SIZE, TAG, 0);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);

    EXPECT_PATTERN(map_at(at, mdl), 2 * PAGE_SIZE, 3);
    EXPECT(MmIsAddressValid(at + 2 * PAGE_SIZE - 1));
    EXPECT(!MmIsAddressValid(at + 2 * PAGE_SIZE));
    MmUnmapReservedMapping(at, TAG, mdl);
    MmFreeMappingAddress(at, TAG);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesWithReservedMapping-01: several MDLs take turns in one reservation, each showing its own
   bytes. */
SILENT_TEST(mm_reserved_mapping, map__mdls_in_turn__shows_each)
{
    UCHAR *const user = user_pattern(6, 3), *const at = reserve(2);

    for (SIZE_T round = 0; round < 20; round++) {
        const SIZE_T first = (round * 733) % (4 * PAGE_SIZE);
        const PMDL mdl = locked_mdl(user + first, PAGE_SIZE);

        EXPECT_PATTERN_AT(map_at(at, mdl), PAGE_SIZE, 3, first);
        MmUnmapReservedMapping(at, TAG, mdl);
        unlock_and_free(mdl);
    }
    MmFreeMappingAddress(at, TAG);
    pinion_user_free(user);
}

/* MmMapLockedPagesWithReservedMapping-06: each kind of MDL that holds its pages can be mapped: locked, of
   allocated pages, with frames in any order, and of each cache type. */
SILENT_TEST(mm_reserved_mapping, map__other_kinds_of_mdl__shows_their_pages)
{
    static const MEMORY_CACHING_TYPE types[] = {MmCached, MmNonCached, MmWriteCombined};
    UCHAR *const at = reserve(4);
    const PMDL pages = pages_anywhere(4);
    PFN_NUMBER *const pfns = MmGetMdlPfnArray(pages);

    fill_pattern(system_address(pages), 4 * PAGE_SIZE, 8);
    MmUnmapLockedPages(pages->MappedSystemVa, pages);
    const PFN_NUMBER first = pfns[0];
    pfns[0] = pfns[3];
    pfns[3] = first;
    for (SIZE_T i = 0; i < ARRAYSIZE(types); i++) {
        UCHAR *const mapped = MmMapLockedPagesWithReservedMapping(at, TAG, pages, types[i]);

        EXPECT_PATTERN_AT(mapped, PAGE_SIZE, 8, 3 * PAGE_SIZE);
        EXPECT_PATTERN_AT(mapped + PAGE_SIZE, 2 * PAGE_SIZE, 8, PAGE_SIZE);
        EXPECT_PATTERN_AT(mapped + 3 * PAGE_SIZE, PAGE_SIZE, 8, 0);
        MmUnmapReservedMapping(at, TAG, pages);
    }
    MmFreeMappingAddress(at, TAG);
    free_pages(pages);
}

/* MmMapLockedPagesWithReservedMapping-05: a reservation too small for the pages that the MDL touches gives
   NULL and changes nothing. */
SILENT_TEST(mm_reserved_mapping, map__reservation_too_small__is_null)
{
    static const struct {
        SIZE_T reserved, offset, bytes;
    } cases[] = {
        {1, 0, PAGE_SIZE + 1}, {1, 1, PAGE_SIZE}, {2, PAGE_SIZE - 1, PAGE_SIZE + 2}, {3, 0, 4 * PAGE_SIZE}};
    UCHAR *const user = user_pages(4, PAGE_READWRITE);

    for (SIZE_T i = 0; i < ARRAYSIZE(cases); i++) {
        UCHAR *const at = reserve(cases[i].reserved);
        const PMDL mdl = locked_mdl(user + cases[i].offset, cases[i].bytes);
        const struct pinion_counters before = counters_now();
        const MDL copy = *mdl;

        EXPECT(MmMapLockedPagesWithReservedMapping(at, TAG, mdl, MmCached) == NULL);
        EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
        EXPECT_SAME_COUNTERS(before);
        EXPECT(!MmIsAddressValid(at));
        MmFreeMappingAddress(at, TAG);
        unlock_and_free(mdl);
    }
    pinion_user_free(user);
}

/* MmMapLockedPagesWithReservedMapping-05: no lack of resources makes it fail: every allocation inside it
   may. */
SILENT_TEST(mm_reserved_mapping, map__allocations_fail__works_all_the_same)
{
    UCHAR *const user = user_pattern(3, 3), *const at = reserve(3);
    const PMDL mdl = locked_mdl(user, 3 * PAGE_SIZE);

    for (unsigned nth = 1; nth <= 4; nth++) {
        pinion_fail("internal", nth);
        EXPECT_PATTERN(map_at(at, mdl), 3 * PAGE_SIZE, 3);
        MmUnmapReservedMapping(at, TAG, mdl);
        pinion_fail("internal", 0);
    }
    pinion_fail_every("internal", 1);
    EXPECT_PATTERN(map_at(at, mdl), 3 * PAGE_SIZE, 3);
    MmUnmapReservedMapping(at, TAG, mdl);
    pinion_fail_every("internal", 0);
    MmFreeMappingAddress(at, TAG);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesWithReservedMapping-05: nor does a full system space: that is what a reservation is for. */
SILENT_TEST(mm_reserved_mapping, map__system_space_full__works_all_the_same)
{
    enum { MOST = 4096 };
    static UCHAR *taken[MOST];
    SIZE_T count = 0;
    UCHAR *const user = user_pattern(3, 3), *const at = reserve(3);
    const PMDL mdl = locked_mdl(user, 3 * PAGE_SIZE);

    for (SIZE_T pages = 256 * 1024; pages > 0;) {
        UCHAR *const more = MmAllocateMappingAddress(pages * PAGE_SIZE, TAG);

        EXPECT(count < MOST);
        if (more)
            taken[count++] = more;
        else
            pages /= 2;
    }
    EXPECT_PATTERN(map_at(at, mdl), 3 * PAGE_SIZE, 3);
    MmUnmapReservedMapping(at, TAG, mdl);
    while (count > 0)
        MmFreeMappingAddress(taken[--count], TAG);
    MmFreeMappingAddress(at, TAG);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesWithReservedMapping-08 MmUnmapReservedMapping-04: they work at DISPATCH_LEVEL. */
SILENT_TEST(mm_reserved_mapping, map_and_unmap__at_dispatch_level__works)
{
    UCHAR *const user = user_pattern(2, 3), *const at = reserve(2);
    const PMDL mdl = locked_mdl(user, 2 * PAGE_SIZE);
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    EXPECT_PATTERN(map_at(at, mdl), 2 * PAGE_SIZE, 3);
    MmUnmapReservedMapping(at, TAG, mdl);
    KeLowerIrql(before);
    MmFreeMappingAddress(at, TAG);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmMapLockedPagesWithReservedMapping-03: without the verifier the mapping is at the reservation just the
   same. */
TEST(mm_reserved_mapping, map__verifier_off__starts_at_the_reservation)
{
    boot("verifier=off");
    UCHAR *const user = user_pattern(3, 3), *const at = reserve(3);
    const PMDL mdl = locked_mdl(user + 10, 2 * PAGE_SIZE);

    for (ULONG round = 0; round < 3; round++) {
        EXPECT_PTR_EQ(map_at(at, mdl), at + 10);
        EXPECT_PTR_EQ(mdl->MappedSystemVa, at);
        EXPECT_PATTERN_AT(at + 10, 2 * PAGE_SIZE, 3, 10);
        MmUnmapReservedMapping(at, TAG, mdl);
        EXPECT(!MmIsAddressValid(at + 10));
    }
    MmFreeMappingAddress(at, TAG);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmUnmapReservedMapping-02: its page calls BaseAddress the start of the reservation and also what the map
   routine returned; both do. */
SILENT_TEST(mm_reserved_mapping, unmap__address_with_the_byte_offset__unmaps)
{
    UCHAR *const user = user_pattern(2, 3), *const at = reserve(2);
    const PMDL mdl = locked_mdl(user + 10, PAGE_SIZE);

    MmUnmapReservedMapping(map_at(at, mdl), TAG, mdl);
    EXPECT(!MmIsAddressValid(at));
    MmFreeMappingAddress(at, TAG);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* ---- Mistakes ----------------------------------------------------------------------------------------- */

/* What a mistake's body leaves for the test, and what tells it the machine's options. */
struct told {
    uint64_t verifier_off;
    uint64_t address; /* of the reservation, or whatever was passed as one */
    uint64_t mdl;
};

static void start(struct told *told)
{
    boot(told->verifier_off ? "verifier=off" : "verifier=on");
}

static UCHAR *tell_reserve(struct told *told, SIZE_T pages)
{
    start(told);
    UCHAR *const at = reserve(pages);
    told->address = (uint64_t)(uintptr_t)at;
    return at;
}

static PMDL tell_locked(struct told *told, SIZE_T pages)
{
    const PMDL mdl = locked_mdl(user_pages(pages, PAGE_READWRITE), pages * PAGE_SIZE);

    told->mdl = (uint64_t)(uintptr_t)mdl;
    return mdl;
}

/* The body must stop with 0xDA and this first parameter, with the verifier and without. The last of both
   is returned. */
static struct stop expect_misuse(void (*body)(void *), uint64_t p1, struct told *told)
{
    struct stop stop = {0};

    for (uint64_t off = 0; off < 2; off++) {
        *told = (struct told){.verifier_off = off};
        stop = expect_stop(body, told, SYSTEM_PTE_MISUSE, p1);
    }
    return stop;
}

static struct told *told_words(void)
{
    return (struct told *)shared_words();
}

static void reserve_nothing(void *told)
{
    start(told);
    MmAllocateMappingAddress(0, TAG);
}

static void reserve_nothing_ex(void *told)
{
    start(told);
    MmAllocateMappingAddressEx(0, TAG, 0);
}

/* MmAllocateMappingAddress-05: reserving no bytes stops with 0xDA/0x100, the number of mappings and the
   tag. */
TEST_UNTIDY(mm_reserved_mapping, reserve__no_bytes__stops)
{
    void (*const bodies[])(void *) = {reserve_nothing, reserve_nothing_ex};

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = expect_misuse(bodies[i], 0x100, told_words());

        EXPECT_EQ(stop.p[1], 0);
        EXPECT_EQ(stop.p[2], TAG);
    }
}

static void free_with_another_tag(void *told)
{
    MmFreeMappingAddress(tell_reserve(told, 2), OTHER_TAG);
}

/* MmFreeMappingAddress-02: freeing with another tag stops with 0xDA/0x101, the address, that tag and the
   owner's. */
TEST_UNTIDY(mm_reserved_mapping, free__another_tag__stops)
{
    struct told *const told = told_words();
    const struct stop stop = expect_misuse(free_with_another_tag, 0x101, told);

    EXPECT_EQ(stop.p[1], told->address);
    EXPECT_EQ(stop.p[2], OTHER_TAG);
    EXPECT_EQ(stop.p[3], TAG);
}

static void free_twice(void *told)
{
    UCHAR *const at = tell_reserve(told, 2);

    MmFreeMappingAddress(at, TAG);
    MmFreeMappingAddress(at, TAG);
}

static void free_what_is_none(void *told)
{
    UCHAR *const at = tell_reserve(told, 2) + PAGE_SIZE;

    ((struct told *)told)->address += PAGE_SIZE;
    MmFreeMappingAddress(at, TAG);
}

static void free_pool_as_reservation(void *told)
{
    start(told);
    UCHAR *const pool = pool_pages(1);
    ((struct told *)told)->address = (uint64_t)(uintptr_t)pool;
    MmFreeMappingAddress(pool, TAG);
}

/* MmFreeMappingAddress-02: freeing what is no reservation, or none any more, stops with 0xDA/0x102, the
   address and the tag. */
TEST_UNTIDY(mm_reserved_mapping, free__no_reservation__stops)
{
    void (*const bodies[])(void *) = {free_twice, free_what_is_none, free_pool_as_reservation};
    struct told *const told = told_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = expect_misuse(bodies[i], 0x102, told);

        EXPECT_EQ(stop.p[1], told->address);
        EXPECT_EQ(stop.p[2], TAG);
    }
}

static void free_while_mapped(void *told)
{
    UCHAR *const at = tell_reserve(told, 5);

    map_at(at, tell_locked(told, 2));
    MmFreeMappingAddress(at, TAG);
}

/* MmFreeMappingAddress-03: freeing a reservation that is mapped stops with 0xDA/0x103, the address, the
   tag, the number of mappings. */
TEST_UNTIDY(mm_reserved_mapping, free__still_mapped__stops)
{
    struct told *const told = told_words();
    const struct stop stop = expect_misuse(free_while_mapped, 0x103, told);

    EXPECT_EQ(stop.p[1], told->address);
    EXPECT_EQ(stop.p[2], TAG);
    EXPECT(stop.p[3] == 2 || stop.p[3] == 5);
}

static void map_with_another_tag(void *told)
{
    UCHAR *const at = tell_reserve(told, 2);

    MmMapLockedPagesWithReservedMapping(at, OTHER_TAG, tell_locked(told, 2), MmCached);
}

/* MmMapLockedPagesWithReservedMapping-02: mapping with another tag stops with 0xDA/0x104, the address,
   that tag and the owner's. */
TEST_UNTIDY(mm_reserved_mapping, map__another_tag__stops)
{
    struct told *const told = told_words();
    const struct stop stop = expect_misuse(map_with_another_tag, 0x104, told);

    EXPECT_EQ(stop.p[1], told->address);
    EXPECT_EQ(stop.p[2], OTHER_TAG);
    EXPECT_EQ(stop.p[3], TAG);
}

static void map_inside_a_reservation(void *told)
{
    UCHAR *const at = tell_reserve(told, 4) + PAGE_SIZE;

    ((struct told *)told)->address += PAGE_SIZE;
    MmMapLockedPagesWithReservedMapping(at, TAG, tell_locked(told, 1), MmCached);
}

static void map_where_nothing_is(void *told)
{
    UCHAR *const at = tell_reserve(told, 2);

    MmFreeMappingAddress(at, TAG);
    MmMapLockedPagesWithReservedMapping(at, TAG, tell_locked(told, 1), MmCached);
}

/* MmMapLockedPagesWithReservedMapping-02: mapping anywhere but at the start of a reservation stops with
   0xDA/0x105. */
TEST_UNTIDY(mm_reserved_mapping, map__no_start_of_a_reservation__stops)
{
    void (*const bodies[])(void *) = {map_inside_a_reservation, map_where_nothing_is};
    struct told *const told = told_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = expect_misuse(bodies[i], 0x105, told);

        EXPECT_EQ(stop.p[1], told->address);
        EXPECT_EQ(stop.p[2], TAG);
    }
}

static void map_twice(void *told)
{
    UCHAR *const at = tell_reserve(told, 5);

    map_at(at, tell_locked(told, 2));
    MmMapLockedPagesWithReservedMapping(at, TAG, tell_locked(told, 1), MmCached);
}

/* MmMapLockedPagesWithReservedMapping-07: mapping a reservation a second time stops with 0xDA/0x107, its
   first address, one that is mapped, and its last. */
TEST_UNTIDY(mm_reserved_mapping, map__mapped_already__stops)
{
    struct told *const told = told_words();
    const struct stop stop = expect_misuse(map_twice, 0x107, told);

    EXPECT_EQ(stop.p[1], told->address);
    EXPECT(stop.p[2] >= told->address && stop.p[2] < told->address + 2 * PAGE_SIZE);
    EXPECT(stop.p[3] > stop.p[2] && stop.p[3] <= told->address + 5 * PAGE_SIZE);
}

static void unmap_with_another_tag(void *told)
{
    UCHAR *const at = tell_reserve(told, 2);
    const PMDL mdl = tell_locked(told, 2);

    map_at(at, mdl);
    MmUnmapReservedMapping(at, OTHER_TAG, mdl);
}

/* MmUnmapReservedMapping-03: unmapping with another tag stops with 0xDA/0x108, the address, that tag and
   the owner's. */
TEST_UNTIDY(mm_reserved_mapping, unmap__another_tag__stops)
{
    struct told *const told = told_words();
    const struct stop stop = expect_misuse(unmap_with_another_tag, 0x108, told);

    EXPECT_EQ(stop.p[1], told->address);
    EXPECT_EQ(stop.p[2], OTHER_TAG);
    EXPECT_EQ(stop.p[3], TAG);
}

static void unmap_where_nothing_is(void *told)
{
    UCHAR *const at = tell_reserve(told, 2);

    MmFreeMappingAddress(at, TAG);
    MmUnmapReservedMapping(at, TAG, tell_locked(told, 1));
}

/* MmUnmapReservedMapping-03: unmapping what is no reservation stops with 0xDA/0x109, the address and the
   tag. */
TEST_UNTIDY(mm_reserved_mapping, unmap__no_reservation__stops)
{
    struct told *const told = told_words();
    const struct stop stop = expect_misuse(unmap_where_nothing_is, 0x109, told);

    EXPECT_EQ(stop.p[1], told->address);
    EXPECT_EQ(stop.p[2], TAG);
}

static void unmap_more_than_there_is(void *told)
{
    UCHAR *const at = tell_reserve(told, 2);

    map_at(at, tell_locked(told, 2));
    MmUnmapReservedMapping(at, TAG, tell_locked(told, 4));
}

/* MmUnmapReservedMapping-03: unmapping more pages than the reservation has stops with 0xDA/0x10A, the
   address, how many there are and how many were to go. */
TEST_UNTIDY(mm_reserved_mapping, unmap__more_than_the_reservation__stops)
{
    struct told *const told = told_words();
    const struct stop stop = expect_misuse(unmap_more_than_there_is, 0x10A, told);

    EXPECT_EQ(stop.p[1], told->address);
    EXPECT_EQ(stop.p[2], 2);
    EXPECT_EQ(stop.p[3], 4);
}

static void unmap_unmapped(void *told)
{
    UCHAR *const at = tell_reserve(told, 2);

    MmUnmapReservedMapping(at, TAG, tell_locked(told, 2));
}

static void unmap_twice(void *told)
{
    UCHAR *const at = tell_reserve(told, 2);
    const PMDL mdl = tell_locked(told, 2);

    map_at(at, mdl);
    MmUnmapReservedMapping(at, TAG, mdl);
    MmUnmapReservedMapping(at, TAG, mdl);
}

/* MmUnmapReservedMapping-03: unmapping pages that are not mapped stops with 0xDA/0x10B, the address, the
   tag and how many were to go. */
TEST_UNTIDY(mm_reserved_mapping, unmap__not_mapped__stops)
{
    void (*const bodies[])(void *) = {unmap_unmapped, unmap_twice};
    struct told *const told = told_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = expect_misuse(bodies[i], 0x10B, told);

        EXPECT_EQ(stop.p[1], told->address);
        EXPECT_EQ(stop.p[2], TAG);
        EXPECT_EQ(stop.p[3], 2);
    }
}

static void unmap_a_page_too_many(void *told)
{
    UCHAR *const at = tell_reserve(told, 4);

    map_at(at, tell_locked(told, 1));
    MmUnmapReservedMapping(at, TAG, tell_locked(told, 2));
}

/* MmUnmapReservedMapping-03: unmapping a page more than is mapped, in a reservation that has it, is both
   more than there is (0x10A) and not mapped (0x10B). */
TEST_UNTIDY(mm_reserved_mapping, unmap__a_page_more_than_is_mapped__stops)
{
    struct told *const told = told_words();
    const struct stop stop = run_until_stop(unmap_a_page_too_many, told);

    EXPECT_EQ(stop.code, SYSTEM_PTE_MISUSE);
    EXPECT(stop.p[0] == 0x10A || stop.p[0] == 0x10B);
    EXPECT_EQ(stop.p[1], told->address);
    EXPECT_EQ(stop.p[3], 2);
}

static void unmap_a_page_less(void *told)
{
    UCHAR *const at = tell_reserve(told, 4);

    map_at(at, tell_locked(told, 3));
    MmUnmapReservedMapping(at, TAG, tell_locked(told, 2));
}

/* MmUnmapReservedMapping-03: unmapping less than what is mapped stops with 0xDA/0x10C, the address, the
   tag and how many were to go. */
TEST_UNTIDY(mm_reserved_mapping, unmap__part_of_what_is_mapped__stops)
{
    struct told *const told = told_words();
    const struct stop stop = expect_misuse(unmap_a_page_less, 0x10C, told);

    EXPECT_EQ(stop.p[1], told->address);
    EXPECT_EQ(stop.p[2], TAG);
    EXPECT_EQ(stop.p[3], 2);
}

static void map_unlocked(void *context)
{
    struct told *const told = context;
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    told->mdl = (uint64_t)(uintptr_t)mdl;
    MmMapLockedPagesWithReservedMapping(reserve(1), TAG, mdl, MmCached);
}

/* MmMapLockedPagesWithReservedMapping-06: an MDL that holds no locked pages is 0xC4/0xB3 here as well. */
TEST_UNTIDY(mm_reserved_mapping, map__pages_not_locked__stops)
{
    struct told *const told = told_words();
    const struct stop stop = expect_stop(map_unlocked, told, DRIVER_VERIFIER_DETECTED_VIOLATION, 0xB3);

    EXPECT_EQ(stop.p[1], told->mdl);
}

static void map_too_high(void *context HARNESS_UNUSED)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const at = reserve(1);

    raise_irql(DISPATCH_LEVEL + 1);
    MmMapLockedPagesWithReservedMapping(at, TAG, mdl, MmCached);
}

static void unmap_too_high(void *context HARNESS_UNUSED)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const at = reserve(1);

    map_at(at, mdl);
    raise_irql(DISPATCH_LEVEL + 1);
    MmUnmapReservedMapping(at, TAG, mdl);
}

/* MmMapLockedPagesWithReservedMapping-08 MmUnmapReservedMapping-04: above DISPATCH_LEVEL both are
   reported. */
TEST_UNTIDY(mm_reserved_mapping, map_and_unmap__above_dispatch_level__is_reported)
{
    expect_report(map_too_high, NULL);
    expect_report(unmap_too_high, NULL);
}

/* ---- Advancing ----------------------------------------------------------------------------------------- */

/* MmMapLockedPagesWithReservedMapping-04 MmUnmapReservedMapping-02 MmAdvanceMdl-18: an MDL that was advanced meanwhile is
   released as before; its address goes on without the byte offset. */
SILENT_TEST(mm_reserved_mapping, unmap__after_advance__releases_all)
{
    UCHAR *const va = user_pages(4, PAGE_READWRITE), *const at = reserve(4);

    for (int i = 0; i < 2; i++) {
        const PMDL mdl = locked_mdl(va + 100, 3 * PAGE_SIZE);

        map_at(at, mdl);
        EXPECT_STATUS(MmAdvanceMdl(mdl, 200), STATUS_SUCCESS);
        EXPECT_PTR_EQ(mdl->MappedSystemVa, at);
        EXPECT_STATUS(MmAdvanceMdl(mdl, PAGE_SIZE), STATUS_SUCCESS);
        EXPECT_PTR_EQ(mdl->MappedSystemVa, at + PAGE_SIZE);
        MmUnmapReservedMapping(at, TAG, mdl);
        EXPECT_EQ(counters_now().system_pages_mapped, 0);
        MmUnlockPages(mdl);
        IoFreeMdl(mdl);
    }
    MmFreeMappingAddress(at, TAG);
    pinion_user_free(va);
}

static void write_reserved_read_locked(void *context HARNESS_UNUSED)
{
    UCHAR *const va = user_pages(1, PAGE_READONLY);
    const PMDL mdl = mdl_over(va, PAGE_SIZE);

    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
    *(volatile UCHAR *)map_at(reserve(1), mdl) = 1;
}

/* MmMapLockedPagesWithReservedMapping-06: with the verifier, a buffer that was locked for reading is mapped for reading here too. */
TEST_UNTIDY(mm_reserved_mapping, write__buffer_locked_for_reading__stops)
{
    EXPECT_EQ(run_until_stop(write_reserved_read_locked, NULL).code, ATTEMPTED_WRITE_TO_READONLY_MEMORY);
}
