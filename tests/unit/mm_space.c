/* SPDX-License-Identifier: MIT */
/* Address spaces: regions and the unused pages around them, reuse of addresses, freeing under locks,
   protection, residence. */

#include "space.h"

/* ---- regions ---- */

/* Memory is zeroed, page aligned, there at once, and each page has a frame of its own. */
TEST(mm_space, allocate__any_size__is_zeroed_and_backed)
{
    struct fixture f;
    static const char zeros[HOST_PAGE_SIZE];

    open_fixture(&f, SMALL);
    for (size_t npages = 1; npages <= 20; npages++) {
        const uintptr_t va = allocate(&f, npages);

        EXPECT(va != 0 && va % HOST_PAGE_SIZE == 0);
        for (size_t i = 0; i < npages; i++) {
            EXPECT_EQ(attributes_at(&f, va + i * HOST_PAGE_SIZE), RW | MM_USED | MM_RESIDENT);
            EXPECT_MEM_EQ(va + i * HOST_PAGE_SIZE, zeros, HOST_PAGE_SIZE);
        }
        EXPECT_EQ(mm_frames_free(f.machine), f.free_frames - npages);
        fill(va, npages, 1);
        EXPECT(mm_space_free(f.machine, f.space, va));
        EXPECT_EQ(mm_frames_free(f.machine), f.free_frames);
    }
    close_fixture(&f);
}

/* What a page's PFN names in the RAM window is the same memory. */
TEST(mm_space, allocate__through_the_window__is_the_same_memory)
{
    struct fixture f;
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, 5);
    fill(va, 5, 9);
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t page;

        EXPECT(mm_page_of_pfn(f.machine, mm_translate(f.machine, va + i * HOST_PAGE_SIZE + 17), &page));
        EXPECT_MEM_EQ(mm_window_va(f.machine, page), va + i * HOST_PAGE_SIZE, HOST_PAGE_SIZE);
    }
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* On both sides of a region there is a page that belongs to nobody and faults; neighbours share it. */
TEST(mm_space, allocate__neighbours__have_a_guard_page_between_them)
{
    struct fixture f;
    uintptr_t a, b;

    open_fixture(&f, SMALL);
    a = allocate(&f, 3);
    b = allocate(&f, 2);
    EXPECT_EQ(page_of(&f, a), 1);
    EXPECT_EQ(b, a + 4 * HOST_PAGE_SIZE);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_a_byte, (void *)(a - 1));
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, write_a_byte, (void *)(b - 1));
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_a_byte, (void *)(b + 2 * HOST_PAGE_SIZE));
    EXPECT_EQ(attributes_at(&f, b - 1), 0);
    EXPECT(mm_space_free(f.machine, f.space, a));
    EXPECT(mm_space_free(f.machine, f.space, b));
    close_fixture(&f);
}

/* Freed memory is out of reach at once and its address is unknown; so is it the second time. */
TEST(mm_space, free__memory__faults_from_then_on)
{
    struct fixture f;
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, 2);
    EXPECT(mm_space_free(f.machine, f.space, va));
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_a_byte, (void *)va);
    EXPECT_EQ(mm_translate(f.machine, va), MM_NO_PFN);
    EXPECT(!mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* Only the start of a region frees it. */
TEST(mm_space, free__not_the_start__frees_nothing)
{
    struct fixture f;
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, 3);
    EXPECT(!mm_space_free(f.machine, f.space, va + HOST_PAGE_SIZE));
    EXPECT(!mm_space_free(f.machine, f.space, va - HOST_PAGE_SIZE));
    EXPECT(!mm_space_free(f.machine, f.space, va + 3 * HOST_PAGE_SIZE));
    EXPECT_EQ(f.space->nused, 3);
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* An address is reused only after all others: oldest first. */
TEST(mm_space, allocate__after_frees__reuses_addresses_oldest_first)
{
    struct fixture f;
    uintptr_t order[SMALL];
    size_t n = 0;

    open_fixture(&f, SMALL);
    for (;; n++) {
        order[n] = allocate(&f, 1);
        EXPECT(order[n] != 0);
        EXPECT(mm_space_free(f.machine, f.space, order[n]));
        if (n > 0 && order[n] == order[0])
            break;
        for (size_t i = 0; i < n; i++)
            EXPECT_NE(order[i], order[n]);
    }
    EXPECT(n >= SMALL / 2 - 2);
    for (size_t i = 1; i < 10; i++) {
        const uintptr_t va = allocate(&f, 1);

        EXPECT_EQ(va, order[i]);
        EXPECT(mm_space_free(f.machine, f.space, va));
    }
    close_fixture(&f);
}

/* A search that comes to the end goes on at the beginning and finds the one gap that fits. */
TEST(mm_space, allocate__one_gap_left__is_found_wherever_it_is)
{
    enum { MOST = 15 };
    struct fixture f;
    uintptr_t va[MOST];

    open_fixture(&f, MOST * 4 + 1);
    for (size_t i = 0; i < MOST; i++) {
        va[i] = allocate(&f, 3);
        EXPECT(va[i] != 0);
    }
    EXPECT_EQ(allocate(&f, 3), 0);
    for (size_t i = 0; i < MOST; i++) {
        EXPECT(mm_space_free(f.machine, f.space, va[i]));
        EXPECT_EQ(allocate(&f, 4), 0);
        EXPECT_EQ(allocate(&f, 3), va[i]);
        EXPECT_EQ(allocate(&f, 3), 0);
    }
    for (size_t i = 0; i < MOST; i++)
        EXPECT(mm_space_free(f.machine, f.space, va[i]));
    close_fixture(&f);
}

/* The whole range but its first and last page can be one region, and no more than that. */
TEST(mm_space, allocate__as_large_as_the_space__leaves_its_guard_pages)
{
    struct fixture f;
    uintptr_t va;

    open_fixture(&f, SMALL);
    EXPECT_EQ(allocate(&f, 0), 0);
    EXPECT_EQ(allocate(&f, SMALL - 1), 0);
    EXPECT_EQ(allocate(&f, SMALL), 0);
    EXPECT_EQ(allocate(&f, SIZE_MAX), 0);
    va = allocate(&f, SMALL - 2);
    EXPECT_EQ(page_of(&f, va), 1);
    EXPECT_EQ(allocate(&f, 1), 0);
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* When frames run out in the middle of an allocation, all that it had taken goes back. */
TEST(mm_space, allocate__not_enough_ram__changes_nothing)
{
    struct fixture f;
    uintptr_t most, rest[64];
    size_t n = 0, before;

    open_fixture(&f, 20 * 256);
    most = allocate(&f, 16 * 256 - 100);
    EXPECT(most != 0);
    before = mm_frames_free(f.machine);
    EXPECT_EQ(allocate(&f, 120), 0);
    EXPECT_EQ(mm_frames_free(f.machine), before);
    EXPECT_EQ(f.space->nused, 16 * 256 - 100);
    expect_sound(&f);
    for (uintptr_t va; n < 64 && (va = allocate(&f, 10)) != 0; n++)
        rest[n] = va;
    EXPECT_EQ(n, 10);
    while (n-- > 0)
        EXPECT(mm_space_free(f.machine, f.space, rest[n]));
    EXPECT(mm_space_free(f.machine, f.space, most));
    close_fixture(&f);
}

/* The table of regions grows as needed, and entries of freed regions serve again. */
TEST(mm_space, regions__many_at_once__entries_are_reused)
{
    enum { MANY = 300 };
    struct fixture f;
    uintptr_t va[MANY];

    open_fixture(&f, 4 * MANY);
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < MANY; i++)
            va[i] = allocate(&f, 1);
        for (size_t i = 0; i < MANY; i++) {
            struct mm_region region;

            EXPECT(mm_space_region(f.space, va[i] + 123, &region));
            EXPECT_EQ(region.first, page_of(&f, va[i]));
            EXPECT_EQ(region.npages, 1);
        }
        for (size_t i = 0; i < MANY; i++)
            EXPECT(mm_space_free(f.machine, f.space, va[i * 7 % MANY]));
        expect_sound(&f);
    }
    EXPECT_EQ(f.space->nregions, MANY);
    EXPECT_EQ(f.space->nused, 0);
    close_fixture(&f);
}

/* ---- locks ---- */

/* A lock stores the PFNs of the pages and counts on each; unlocking takes exactly that back. */
TEST(mm_space, lock__several_times__counts_on_each_page)
{
    struct fixture f;
    PFN_NUMBER all[4], middle[2];
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, 4);
    EXPECT_STATUS(lock(&f, va, 4, true, all), STATUS_SUCCESS);
    EXPECT_STATUS(lock(&f, va + HOST_PAGE_SIZE, 2, false, middle), STATUS_SUCCESS);
    EXPECT_MEM_EQ(middle, all + 1, sizeof(middle));
    for (size_t i = 0; i < 4; i++) {
        EXPECT_EQ(all[i], mm_translate(f.machine, va + i * HOST_PAGE_SIZE));
        EXPECT_EQ(mm_pins_of_pfn(f.machine, all[i]), i == 1 || i == 2 ? 2 : 1);
    }
    EXPECT_EQ(mm_space_pins(f.space), 6);
    mm_unlock_pages(f.machine, all, 4);
    EXPECT_EQ(mm_space_pins(f.space), 2);
    mm_unlock_pages(f.machine, middle, 2);
    EXPECT_EQ(mm_space_pins(f.space), 0);
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* Wherever in a range the one page is that refuses, the lock fails and no page stays pinned. */
TEST(mm_space, lock__one_page_refuses__pins_nothing)
{
    enum { N = 6 };
    struct fixture f;
    PFN_NUMBER pfns[N + 1];
    uintptr_t va;

    open_fixture(&f, SMALL);
    for (size_t bad = 0; bad < N; bad++) {
        va = allocate(&f, N);
        EXPECT(mm_space_protect(f.machine, f.space, va + bad * HOST_PAGE_SIZE, 1, MM_READ));
        EXPECT_STATUS(lock(&f, va, N, true, pfns), STATUS_ACCESS_VIOLATION);
        EXPECT_EQ(mm_space_pins(f.space), 0);
        EXPECT_STATUS(lock(&f, va, N, false, pfns), STATUS_SUCCESS);
        mm_unlock_pages(f.machine, pfns, N);
        EXPECT_STATUS(lock(&f, va, N + 1, false, pfns), STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(lock(&f, va - HOST_PAGE_SIZE, N + 1, false, pfns), STATUS_ACCESS_VIOLATION);
        EXPECT_EQ(mm_space_pins(f.space), 0);
        EXPECT(mm_space_free(f.machine, f.space, va));
    }
    close_fixture(&f);
}

/* A range that leaves the space, or wraps, is refused. */
TEST(mm_space, lock__past_the_end_of_the_space__is_refused)
{
    struct fixture f;
    static PFN_NUMBER pfns[2 * SMALL];
    const uintptr_t page = HOST_PAGE_SIZE;
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, SMALL - 2);
    EXPECT_STATUS(lock(&f, va, SMALL, false, pfns), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(lock(&f, va, (UINTPTR_MAX - va) / page + 2, false, pfns), STATUS_ACCESS_VIOLATION);
    EXPECT_EQ(mm_space_pins(f.space), 0);
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* Windows counts locks of a page in 16 bits: one more is refused, and the count stays. */
TEST(mm_space, lock__more_than_65535_times__is_refused)
{
    enum { MOST = 0xFFFF };
    struct fixture f;
    PFN_NUMBER pfn;
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, 1);
    for (unsigned i = 0; i < MOST; i++)
        if (!NT_SUCCESS(lock(&f, va, 1, true, &pfn)))
            harness_fail(HARNESS_HERE, "lock number %u failed", i + 1);
    EXPECT_STATUS(lock(&f, va, 1, true, &pfn), STATUS_WORKING_SET_QUOTA);
    EXPECT_EQ(mm_pins_of_pfn(f.machine, pfn), MOST);
    for (unsigned i = 0; i < MOST; i++)
        mm_unlock_pages(f.machine, &pfn, 1);
    EXPECT_EQ(mm_space_pins(f.space), 0);
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* Memory freed under a lock is out of reach, but its frames, contents and addresses stay until the last lock
   goes. */
TEST(mm_space, free__while_locked__keeps_frames_until_the_last_unlock)
{
    struct fixture f;
    PFN_NUMBER first[2], second[1];
    uintptr_t va, again;
    uint32_t page;

    open_fixture(&f, SMALL);
    va = allocate(&f, 4);
    fill(va, 4, 3);
    EXPECT_STATUS(lock(&f, va, 2, true, first), STATUS_SUCCESS);
    EXPECT_STATUS(lock(&f, va + HOST_PAGE_SIZE, 1, true, second), STATUS_SUCCESS);
    EXPECT(mm_space_free(f.machine, f.space, va));
    EXPECT(!mm_space_free(f.machine, f.space, va));
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_a_byte, (void *)va);
    EXPECT_STATUS(lock(&f, va, 1, false, &(PFN_NUMBER){0}), STATUS_ACCESS_VIOLATION);
    EXPECT(!mm_space_protect(f.machine, f.space, va, 1, RW));
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 0);
    EXPECT_EQ(mm_frames_free(f.machine), f.free_frames - 4);
    expect_sound(&f);
    EXPECT(mm_page_of_pfn(f.machine, first[0], &page));
    expect_filled((uintptr_t)mm_window_va(f.machine, page), 1, 3);
    EXPECT(mm_pfn_is_held(f.machine, first[0]));

    for (unsigned i = 0; i < SMALL; i++) {
        again = allocate(&f, 1);
        EXPECT(page_of(&f, again) < page_of(&f, va) - 1 || page_of(&f, again) > page_of(&f, va) + 4);
        EXPECT(mm_space_free(f.machine, f.space, again));
    }
    mm_unlock_pages(f.machine, first, 2);
    EXPECT_EQ(mm_frames_free(f.machine), f.free_frames - 4);
    mm_unlock_pages(f.machine, second, 1);
    EXPECT_EQ(mm_frames_free(f.machine), f.free_frames);
    EXPECT_EQ(f.space->nused, 0);
    close_fixture(&f);
}

/* A guard page refuses the first lock with its own status, once; the page is an ordinary one from then on. */
TEST(mm_space, lock__guard_page__is_refused_once)
{
    struct fixture f;
    PFN_NUMBER pfns[3];
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, 3);
    EXPECT(mm_space_protect(f.machine, f.space, va + HOST_PAGE_SIZE, 1, RW | MM_GUARD));
    EXPECT_STATUS(lock(&f, va, 3, true, pfns), STATUS_GUARD_PAGE_VIOLATION);
    EXPECT_EQ(mm_space_pins(f.space), 0);
    EXPECT_STATUS(lock(&f, va, 3, true, pfns), STATUS_SUCCESS);
    mm_unlock_pages(f.machine, pfns, 3);
    EXPECT(mm_space_protect(f.machine, f.space, va, 1, RW | MM_GUARD));
    EXPECT_RAISES(STATUS_GUARD_PAGE_VIOLATION, read_a_byte, (void *)va);
    EXPECT_RAISES(STATUS_SUCCESS, write_a_byte, (void *)va);
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* ---- protection and residence ---- */

/* Protection holds for exactly the pages that were named, and stays inside one region. */
TEST(mm_space, protect__part_of_a_region__changes_that_part)
{
    struct fixture f;
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, 4);
    fill(va, 4, 5);
    EXPECT(mm_space_protect(f.machine, f.space, va + HOST_PAGE_SIZE, 2, MM_READ));
    EXPECT_RAISES(STATUS_SUCCESS, write_a_byte, (void *)(va + HOST_PAGE_SIZE - 1));
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, write_a_byte, (void *)(va + HOST_PAGE_SIZE));
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, write_a_byte, (void *)(va + 3 * HOST_PAGE_SIZE - 1));
    EXPECT_RAISES(STATUS_SUCCESS, write_a_byte, (void *)(va + 3 * HOST_PAGE_SIZE));
    EXPECT(mm_space_protect(f.machine, f.space, va, 4, 0));
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_a_byte, (void *)va);
    EXPECT(!mm_space_protect(f.machine, f.space, va + 2 * HOST_PAGE_SIZE, 3, RW));
    EXPECT(!mm_space_protect(f.machine, f.space, va - HOST_PAGE_SIZE, 1, RW));
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, read_a_byte, (void *)(va + 3 * HOST_PAGE_SIZE));
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* A trim takes every resident page that is not locked, once; what it took comes back with its contents when
   touched. */
TEST(mm_space, trim__some_pages_locked__takes_the_others_once)
{
    struct fixture f;
    PFN_NUMBER pfns[2];
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, 6);
    fill(va, 6, 8);
    EXPECT_STATUS(lock(&f, va + 2 * HOST_PAGE_SIZE, 2, true, pfns), STATUS_SUCCESS);
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 4);
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 0);
    EXPECT_EQ(mm_translate(f.machine, va), MM_NO_PFN);
    EXPECT_EQ(mm_translate(f.machine, va + 2 * HOST_PAGE_SIZE), pfns[0]);
    expect_sound(&f);
    expect_filled(va, 6, 8);
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 4);
    mm_unlock_pages(f.machine, pfns, 2);
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 2);
    mm_space_page_in(f.machine, f.space, page_of(&f, va), 6);
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 6);
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* A lock of trimmed pages brings them back; protection of trimmed pages holds once they are back. */
TEST(mm_space, trim__then_lock_or_protect__works_on_what_is_away)
{
    struct fixture f;
    PFN_NUMBER pfns[3];
    uintptr_t va;

    open_fixture(&f, SMALL);
    va = allocate(&f, 3);
    fill(va, 3, 4);
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 3);
    EXPECT_STATUS(lock(&f, va, 3, true, pfns), STATUS_SUCCESS);
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 0);
    mm_unlock_pages(f.machine, pfns, 3);
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 3);
    EXPECT(mm_space_protect(f.machine, f.space, va, 3, MM_READ));
    EXPECT_STATUS(lock(&f, va, 3, true, pfns), STATUS_ACCESS_VIOLATION);
    expect_filled(va, 3, 4);
    EXPECT_RAISES(STATUS_ACCESS_VIOLATION, write_a_byte, (void *)va);
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}
