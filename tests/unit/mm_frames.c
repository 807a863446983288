/* SPDX-License-Identifier: MIT */
/*
 * Frames: their numbers, who gets which, and that none is lost. The numbering is checked page by page for
 * machines of several sizes and seeds; takes of contiguous frames against a table of what they may accept.
 */

#include "harness.h"

#include "mm/state.h"
#include "mm/zones.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Scattered unless the options say otherwise, whatever the environment says. */
static struct machine *boot(const char *options)
{
    char all[128];

    snprintf(all, sizeof(all), "layout=scattered:%s", options);
    EXPECT_EQ(pinion_boot(all), 0);
    return ke_machine();
}

static const struct mm_zone *zone_at(const struct machine *machine, unsigned i)
{
    return &machine->mm->zones->zone[i];
}

/* ---- numbers ---- */

/* Every page has a number of its own that leads back to it. */
static void expect_bijection(const struct machine *machine)
{
    size_t wrong = 0;

    for (uint32_t page = 0; page < machine->mm->npages; page++) {
        uint32_t back;

        wrong += !mm_page_of_pfn(machine, mm_pfn_of_page(machine, page), &back) || back != page;
    }
    EXPECT_EQ(wrong, 0);
}

/* The numbers of a zone fill [base, base + npages): each number in it leads to a page of the zone. */
static void expect_zones_filled(const struct machine *machine)
{
    for (unsigned i = 0; i < machine->mm->zones->nzones; i++) {
        const struct mm_zone *zone = zone_at(machine, i);
        size_t wrong = 0;

        for (PFN_NUMBER pfn = zone->base_pfn; pfn < zone->base_pfn + zone->npages; pfn++) {
            uint32_t page;

            wrong += !mm_page_of_pfn(machine, pfn, &page) || page - zone->first_page >= zone->npages ||
                     mm_pfn_of_page(machine, page) != pfn;
        }
        EXPECT_EQ(wrong, 0);
    }
}

static void expect_sound_numbers(const char *options)
{
    const struct machine *machine = boot(options);

    expect_bijection(machine);
    expect_zones_filled(machine);
    EXPECT_EQ(pinion_shutdown(), 0);
}

/* pi is a bijection on every zone, whatever the seed, also where a zone is as small as one can be. */
TEST(mm_frames, numbers__small_machines_and_many_seeds__are_a_bijection)
{
    static const char *const sizes[] = {"16M", "18M", "22M", "62M"};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (unsigned seed = 0; seed < 6; seed++) {
            char options[64];

            snprintf(options, sizeof(options), "ram=%s:seed=%u", sizes[i], seed * 0x9E3779B9u);
            expect_sound_numbers(options);
        }
    }
}

/* The same for machines of 4 and 8 GiB, where zones lie on both sides of 4 GiB. */
TEST(mm_frames, numbers__machine_of_4_gib__are_a_bijection)
{
    expect_sound_numbers("ram=4G:seed=2");
}

TEST(mm_frames, numbers__machine_of_8_gib__are_a_bijection)
{
    expect_sound_numbers("ram=8G:seed=3");
}

/* The same for the largest machine there is. */
TEST(mm_frames, numbers__machine_of_24_gib__are_a_bijection)
{
    expect_sound_numbers("ram=24G:seed=4");
}

/* 0, ~0, numbers of host pages and those just outside each zone are no memory. */
TEST(mm_frames, numbers__outside_the_zones__are_no_page)
{
    static const char *const options[] = {"ram=16M", "ram=18M", "ram=4G", "ram=8G:layout=linear", "ram=24G"};

    for (size_t o = 0; o < sizeof(options) / sizeof(options[0]); o++) {
        const struct machine *machine = boot(options[o]);
        const unsigned nzones = machine->mm->zones->nzones;
        uint32_t page;

        EXPECT(!mm_page_of_pfn(machine, 0, &page));
        EXPECT(!mm_page_of_pfn(machine, MM_NO_PFN, &page));
        EXPECT(!mm_page_of_pfn(machine, MM_HOST_PFN_BASE, &page));
        EXPECT(!mm_page_of_pfn(machine, mm_highest_pfn(machine) + 1, &page));
        for (unsigned i = 0; i < nzones; i++) {
            const PFN_NUMBER first = zone_at(machine, i)->base_pfn;

            EXPECT_NE(first, 0);
            EXPECT(!mm_page_of_pfn(machine, first - 1, &page) ||
                   page - zone_at(machine, i)->first_page >= zone_at(machine, i)->npages);
        }
        pinion_shutdown();
    }
}

/* No two zones share a page or a number, and together they are all of RAM. */
TEST(mm_frames, zones__any_two__are_disjoint)
{
    static const char *const options[] = {"ram=16M", "ram=18M", "ram=4G", "ram=6G", "ram=24G", "ram=24574M"};

    for (size_t o = 0; o < sizeof(options) / sizeof(options[0]); o++) {
        const struct machine *machine = boot(options[o]);
        size_t npages = 0, general = 0;

        for (unsigned i = 0; i < machine->mm->zones->nzones; i++) {
            const struct mm_zone *zone = zone_at(machine, i);

            EXPECT_EQ(zone->first_page, npages);
            npages += zone->npages;
            general += zone->general ? zone->npages : 0;
            for (unsigned k = 0; k < i; k++)
                EXPECT(!span_overlaps(zone->base_pfn, zone->npages, zone_at(machine, k)->base_pfn,
                                      zone_at(machine, k)->npages));
        }
        EXPECT_EQ(npages, machine->mm->npages);
        EXPECT_EQ(general, machine->options.ram_bytes / HOST_PAGE_SIZE);
        pinion_shutdown();
    }
}

static size_t count_contiguous_neighbours(const struct machine *machine, const struct mm_zone *zone)
{
    size_t count = 0;

    for (uint32_t i = 0; i + 1 < zone->npages; i++) {
        const PFN_NUMBER here = mm_pfn_of_page(machine, zone->first_page + i);
        const PFN_NUMBER next = mm_pfn_of_page(machine, zone->first_page + i + 1);

        count += next == here + 1 || here == next + 1;
    }
    return count;
}

/* In scattered memory no two neighbouring pages have neighbouring numbers; in linear memory all have. */
TEST(mm_frames, neighbours__scattered_and_linear__differ_in_contiguity)
{
    static const char *const options[] = {"ram=16M:seed=1", "ram=18M:seed=77", "ram=128M:seed=5",
                                          "ram=64M:layout=linear"};

    for (size_t o = 0; o < sizeof(options) / sizeof(options[0]); o++) {
        const struct machine *machine = boot(options[o]);

        for (unsigned i = 0; i < machine->mm->zones->nzones; i++) {
            const struct mm_zone *zone = zone_at(machine, i);
            const bool scattered = zone->general && machine->options.scattered;

            EXPECT_EQ(zone->mask != ~(uint64_t)0, scattered);
            EXPECT_EQ(count_contiguous_neighbours(machine, zone), scattered ? 0 : zone->npages - 1);
        }
        pinion_shutdown();
    }
}

/* The seed decides the numbering: the same seed gives the same, another seed another. */
TEST(mm_frames, seed__same_and_other__same_and_other_numbers)
{
    PFN_NUMBER pfns[3][64];
    static const char *const options[] = {"ram=16M:seed=11", "ram=16M:seed=11", "ram=16M:seed=12"};

    for (size_t o = 0; o < 3; o++) {
        const struct machine *machine = boot(options[o]);

        mm_pfns_of_pages(machine, (uint32_t)machine->mm->npages - 64, 64, pfns[o]);
        pinion_shutdown();
    }
    EXPECT_MEM_EQ(pfns[0], pfns[1], sizeof(pfns[0]));
    EXPECT(memcmp(pfns[0], pfns[2], sizeof(pfns[0])) != 0);
}

/* A run of numbers is what one page at a time gives, across the border of two zones as well. */
TEST(mm_frames, pfns_of_pages__across_each_border__as_one_by_one)
{
    const struct machine *machine = boot("ram=18M");
    PFN_NUMBER pfns[9];

    for (unsigned i = 1; i < machine->mm->zones->nzones; i++) {
        const uint32_t first = zone_at(machine, i)->first_page - 4;

        mm_pfns_of_pages(machine, first, 9, pfns);
        for (uint32_t k = 0; k < 9; k++)
            EXPECT_EQ(pfns[k], mm_pfn_of_page(machine, first + k));
    }
}

/* mm_highest_pfn is the largest number that any page has. */
TEST(mm_frames, highest_pfn__small_machine__is_the_largest)
{
    const struct machine *machine = boot("ram=18M");
    PFN_NUMBER highest = 0;

    for (uint32_t page = 0; page < machine->mm->npages; page++)
        if (mm_pfn_of_page(machine, page) > highest)
            highest = mm_pfn_of_page(machine, page);
    EXPECT_EQ(mm_highest_pfn(machine), highest);
}

/* ---- taking and giving ---- */

static void expect_sound(struct machine *machine)
{
    const char *why = "nothing";

    if (!mm_check(machine, &why))
        harness_fail(HARNESS_HERE, "mm_check: %s", why);
}

/* A take gives the whole run or the largest piece there is, of free frames; together they give all general
   memory. */
TEST(mm_frames, take__until_nothing_is_left__gives_all_general_memory_once)
{
    struct machine *machine = boot("ram=18M");
    const size_t before = mm_frames_free(machine), general = 18 * 256;
    bool *taken = calloc(machine->mm->npages, sizeof(*taken));
    uint32_t firsts[18 * 256], first;
    size_t lengths[18 * 256], n = 0, total = 0;

    for (size_t got; (got = mm_frames_take(machine, 100, &first)) != 0; n++) {
        EXPECT(got <= 100);
        for (size_t i = 0; i < got; i++) {
            EXPECT(!taken[first + i]);
            taken[first + i] = true;
        }
        firsts[n] = first;
        lengths[n] = got;
        total += got;
    }
    EXPECT(total <= general);
    EXPECT(total >= general - 64); /* what process memory of the boot itself holds */
    EXPECT_EQ(mm_frames_free(machine), before - total);
    EXPECT(!mm_frames_take_whole(machine, 1, &first));
    expect_sound(machine);
    while (n-- > 0)
        mm_frames_give(machine, firsts[n], lengths[n]);
    EXPECT_EQ(mm_frames_free(machine), before);
    expect_sound(machine);
    free(taken);
}

/* A whole take gives exactly as many as asked for, side by side, or nothing at all. */
TEST(mm_frames, take_whole__more_than_the_largest_run__takes_nothing)
{
    struct machine *machine = boot("ram=16M");
    const size_t before = mm_frames_free(machine);
    uint32_t first;

    EXPECT(!mm_frames_take_whole(machine, 16 * 256 + 1, &first));
    EXPECT(!mm_frames_take_whole(machine, 0, &first));
    EXPECT(!mm_frames_take_whole(machine, SIZE_MAX / 2, &first));
    EXPECT_EQ(mm_frames_free(machine), before);
    EXPECT(mm_frames_take_whole(machine, 1000, &first));
    EXPECT_EQ(mm_frames_free(machine), before - 1000);
    mm_frames_give(machine, first, 1000);
    EXPECT_EQ(mm_frames_free(machine), before);
    expect_sound(machine);
}

/* A take that would be cut in two by the end of a run still gives a shorter run, not nothing. */
TEST(mm_frames, take__no_run_is_long_enough__gives_a_shorter_one)
{
    struct machine *machine = boot("ram=16M");
    uint32_t first;
    const size_t got = mm_frames_take(machine, 16 * 256, &first);

    EXPECT(got > 0 && got < 16 * 256);
    mm_frames_give(machine, first, got);
    expect_sound(machine);
}

/* ---- contiguous ---- */

#define ANY 0, MM_NO_PFN
#define BELOW_16M 0, 0xFFF
#define BELOW_4G 0, 0xFFFFF
#define ABOVE_4G 0x100000, MM_NO_PFN

/* Numbers of the linear zones: 0x100..0xFFF, 0x10000..0x1FFFF, 0x100000..0x10FFFF. From 0xC0000 on there are
   devices. */
/* clang-format off */
static const struct {
    struct mm_frame_want want;
    bool                 possible;
} wants[] = {
    {{1, ANY, 0, MM_ANY_NODE}, true},
    {{0, ANY, 0, MM_ANY_NODE}, false},
    {{1000, ANY, 0, MM_ANY_NODE}, true},
    {{1, BELOW_16M, 0, MM_ANY_NODE}, true},
    {{0xF00, BELOW_16M, 0, MM_ANY_NODE}, true},
    {{0xF01, BELOW_16M, 0, MM_ANY_NODE}, false},
    {{1, 0, 0x100, 0, MM_ANY_NODE}, true},
    {{1, 0, 0xFF, 0, MM_ANY_NODE}, false},
    {{2, 0, 0x100, 0, MM_ANY_NODE}, false},
    {{1, 0xFFF, 0xFFF, 0, MM_ANY_NODE}, true},
    {{2, 0xFFF, 0xFFF, 0, MM_ANY_NODE}, false},
    {{1, 0x1000, 0xFFFF, 0, MM_ANY_NODE}, false},
    {{16, 0x10000, 0x1000F, 0, MM_ANY_NODE}, true},
    {{17, 0x10000, 0x1000F, 0, MM_ANY_NODE}, false},
    {{16, 0x10001, 0x1000F, 0, MM_ANY_NODE}, false},
    {{64, BELOW_4G, 0, MM_ANY_NODE}, true},
    {{0x10000, BELOW_4G, 0, MM_ANY_NODE}, true},
    {{0x10001, BELOW_4G, 0, MM_ANY_NODE}, false},
    {{64, ABOVE_4G, 0, MM_ANY_NODE}, true},
    {{64, 0x110000, MM_NO_PFN, 0, MM_ANY_NODE}, false},
    {{64, 0x10FFC0, MM_NO_PFN, 0, MM_ANY_NODE}, true},
    {{64, 0x10FFC1, MM_NO_PFN, 0, MM_ANY_NODE}, false},
    {{1, 0x200, 0x100, 0, MM_ANY_NODE}, false},
    {{1, MM_NO_PFN, MM_NO_PFN, 0, MM_ANY_NODE}, false},
    {{1, 1ull << 52, MM_NO_PFN, 0, MM_ANY_NODE}, false},
    {{16, ANY, 16, MM_ANY_NODE}, true},
    {{17, ANY, 16, MM_ANY_NODE}, false},
    {{16, 0x101, 0xFFF, 16, MM_ANY_NODE}, true},
    {{16, 0x101, 0x11F, 16, MM_ANY_NODE}, true},
    {{16, 0x101, 0x11E, 16, MM_ANY_NODE}, false},
    {{3, 0x10E, 0x111, 16, MM_ANY_NODE}, false},
    {{3, 0x10D, 0x111, 16, MM_ANY_NODE}, true},
    {{3, 0x10E, 0x112, 16, MM_ANY_NODE}, true},
    {{0x8000, 0x10001, 0x1FFFF, 0x8000, MM_ANY_NODE}, true},
    {{0x8000, 0x10001, 0x1FFFE, 0x8000, MM_ANY_NODE}, false},
    {{1, ANY, 1, MM_ANY_NODE}, true},
    {{2, ANY, 1, MM_ANY_NODE}, false},
    {{SIZE_MAX / 4096, ANY, 0, MM_ANY_NODE}, false},
    {{64, ANY, 0, 0}, true},
    {{64, ANY, 0, 1}, true},
    {{64, BELOW_4G, 0, 1}, false},
    {{64, ABOVE_4G, 0, 0}, false},
    {{1, 0xC0000, 0xFFFFF, 0, MM_ANY_NODE}, false},
};
/* clang-format on */

static void expect_wanted(const struct machine *machine, const struct mm_frame_want *want, uint32_t first)
{
    const PFN_NUMBER pfn = mm_pfn_of_page(machine, first);
    const PFN_NUMBER last = pfn + want->npages - 1;

    for (uint32_t i = 0; i < want->npages; i++)
        EXPECT_EQ(mm_pfn_of_page(machine, first + i), pfn + i);
    EXPECT(pfn >= want->low && last <= want->high);
    if (want->boundary_pages != 0)
        EXPECT_EQ(pfn / want->boundary_pages, last / want->boundary_pages);
}

static void try_want(struct machine *machine, size_t row)
{
    const struct mm_frame_want *want = &wants[row].want;
    const size_t before = mm_frames_free(machine);
    uint32_t first;
    const bool taken = mm_frames_take_contiguous(machine, want, &first);

    if (taken != wants[row].possible)
        harness_fail(HARNESS_HERE, "row %zu: taken is %d", row, taken);
    EXPECT_EQ(mm_frames_free(machine), before - (taken ? want->npages : 0));
    if (!taken)
        return;
    expect_wanted(machine, want, first);
    mm_frames_give(machine, first, want->npages);
    EXPECT_EQ(mm_frames_free(machine), before);
}

/* A contiguous take has consecutive numbers between low and high and crosses no boundary, or takes nothing. */
TEST(mm_frames, take_contiguous__table_of_wants__respects_each)
{
    struct machine *machine = boot("ram=16M");

    for (size_t row = 0; row < sizeof(wants) / sizeof(wants[0]); row++)
        try_want(machine, row);
    expect_sound(machine);
}

/* Contiguous memory does not depend on how much ordinary memory there is. */
TEST(mm_frames, take_contiguous__other_machines__respects_each)
{
    static const char *const options[] = {"ram=18M:seed=9", "ram=4G", "ram=24G"};

    for (size_t o = 0; o < sizeof(options) / sizeof(options[0]); o++) {
        struct machine *machine = boot(options[o]);

        for (size_t row = 0; row < sizeof(wants) / sizeof(wants[0]); row++)
            try_want(machine, row);
        pinion_shutdown();
    }
}

/* Holes that are too small are passed over, and one that just fits is found. */
TEST(mm_frames, take_contiguous__fragmented_zone__finds_the_hole_that_fits)
{
    struct machine *machine = boot("ram=16M");
    const struct mm_frame_want all = {.npages = 0xF00, .high = 0xFFF, .node = MM_ANY_NODE};
    const struct mm_frame_want three = {.npages = 3, .high = 0xFFF, .node = MM_ANY_NODE};
    uint32_t first, found;

    EXPECT(mm_frames_take_contiguous(machine, &all, &first));
    for (uint32_t hole = 0; hole < 20; hole++)
        mm_frames_give(machine, first + hole * 10, hole == 13 ? 3 : 2);
    EXPECT(mm_frames_take_contiguous(machine, &three, &found));
    EXPECT_EQ(found, first + 130);
    EXPECT(!mm_frames_take_contiguous(machine, &three, &found));
    expect_sound(machine);
    mm_frames_give(machine, first + 130, 3);
    for (uint32_t page = 0; page < 0xF00; page++)
        if (page >= 200 || page % 10 >= (page / 10 == 13 ? 3u : 2u))
            mm_frames_give(machine, first + page, 1);
    EXPECT(mm_frames_take_contiguous(machine, &all, &found));
    mm_frames_give(machine, found, 0xF00);
    expect_sound(machine);
}

/* A linear zone is handed out to its last page and can be handed out again when all of it came back. */
TEST(mm_frames, take_contiguous__until_nothing_is_left__gives_the_zone_once)
{
    struct machine *machine = boot("ram=16M");
    const struct mm_frame_want seven = {.npages = 7, .high = 0xFFF, .node = MM_ANY_NODE};
    uint32_t firsts[0xF00 / 7 + 1];
    size_t n = 0;

    while (mm_frames_take_contiguous(machine, &seven, &firsts[n]))
        n++;
    EXPECT_EQ(n, 0xF00 / 7);
    expect_sound(machine);
    while (n-- > 0)
        mm_frames_give(machine, firsts[n], 7);
    try_want(machine, 4);
}

/* ---- page by page ---- */

/* clang-format off */
static const struct {
    struct mm_frame_want want;
    size_t               expected;
} selections[] = {
    {{1, ANY, 0, MM_ANY_NODE}, 1},
    {{0, ANY, 0, MM_ANY_NODE}, 0},
    {{3000, ANY, 0, MM_ANY_NODE}, 3000},
    {{100, BELOW_16M, 0, MM_ANY_NODE}, 100},
    {{0x1000, BELOW_16M, 0, MM_ANY_NODE}, 0xF00},
    {{100, 0x20000, 0x20010, 0, MM_ANY_NODE}, 17},
    {{100, 0xFF0, 0x1000F, 0, MM_ANY_NODE}, 32},
    {{100, 0xC0000, 0xFFFFF, 0, MM_ANY_NODE}, 0},
    {{100, ABOVE_4G, 0, 0}, 0},
    {{100, ABOVE_4G, 0, 1}, 100},
    {{100, BELOW_4G, 0, 0}, 100},
    {{100, BELOW_4G, 0, 1}, 0},
    {{100, 0x200, 0x100, 0, MM_ANY_NODE}, 0},
    {{100, 0, 0, 0, MM_ANY_NODE}, 0},
    {{100, MM_NO_PFN, MM_NO_PFN, 0, MM_ANY_NODE}, 0},
};
/* clang-format on */

static void give_pfns(struct machine *machine, const PFN_NUMBER *pfns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t page;

        EXPECT(mm_page_of_pfn(machine, pfns[i], &page));
        mm_frames_give(machine, page, 1);
    }
}

/* Pages taken one by one are distinct, between low and high, on the node that was named, and as many as
   there are of such. */
TEST(mm_frames, take_pages__table_of_wants__respects_each)
{
    static PFN_NUMBER pfns[0x1000];
    struct machine *machine = boot("ram=16M");
    const size_t before = mm_frames_free(machine);

    for (size_t row = 0; row < sizeof(selections) / sizeof(selections[0]); row++) {
        const struct mm_frame_want *want = &selections[row].want;
        const size_t got = mm_frames_take_pages(machine, want, pfns);

        if (got != selections[row].expected)
            harness_fail(HARNESS_HERE, "row %zu: got %zu pages", row, got);
        EXPECT_EQ(mm_frames_free(machine), before - got);
        for (size_t i = 0; i < got; i++) {
            EXPECT(pfns[i] >= want->low && pfns[i] <= want->high);
            EXPECT(want->node == MM_ANY_NODE || want->node == (pfns[i] >= 0x100000));
        }
        give_pfns(machine, pfns, got);
        EXPECT_EQ(mm_frames_free(machine), before);
    }
    expect_sound(machine);
}

/* All of memory can be had page by page, contiguous memory last, and never a device's address; all of it can
   come back. */
TEST(mm_frames, take_pages__everything__is_every_free_page_once)
{
    enum { MOST = 150000 };
    struct machine *machine = boot("ram=16M");
    const struct mm_frame_want all = {.npages = MOST, .high = MM_NO_PFN, .node = MM_ANY_NODE};
    const size_t before = mm_frames_free(machine);
    PFN_NUMBER *pfns = calloc(MOST, sizeof(*pfns));
    const size_t got = mm_frames_take_pages(machine, &all, pfns);

    EXPECT_EQ(got, before);
    EXPECT_EQ(mm_frames_free(machine), 0);
    for (size_t i = 0; i < got; i++)
        EXPECT(!mm_is_io_pfn(pfns[i]));
    expect_sound(machine);
    give_pfns(machine, pfns, got); /* a page that came twice would be given twice: the checker would say so */
    EXPECT_EQ(mm_frames_free(machine), before);
    expect_sound(machine);
    free(pfns);
}

/* ---- contents and pins ---- */

/* Frames that were written read as zero after mm_frames_zero, whether they came back one by one or in a long
   run. */
TEST(mm_frames, zero__after_other_owners__reads_as_zero)
{
    struct machine *machine = boot("ram=16M");
    static const size_t lengths[] = {1, 5, 511, 512, 700};
    static const char zeros[HOST_PAGE_SIZE];

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint32_t first, again;

        EXPECT(mm_frames_take_whole(machine, lengths[i], &first));
        memset(mm_window_va(machine, first), 0xEE, lengths[i] * HOST_PAGE_SIZE);
        mm_frames_give(machine, first, lengths[i]);
        EXPECT(mm_frames_take_whole(machine, lengths[i], &again));
        mm_frames_zero(machine, again, lengths[i]);
        for (uint32_t k = 0; k < lengths[i]; k++)
            EXPECT_MEM_EQ(mm_window_va(machine, again + k), zeros, HOST_PAGE_SIZE);
        mm_frames_give(machine, again, lengths[i]);
    }
}

/* A frame that is given back while it is locked is nobody's until the lock goes, and free from then on. */
TEST(mm_frames, give__while_locked__is_free_only_after_the_unlock)
{
    struct machine *machine = boot("ram=16M:verifier=off");
    const size_t before = mm_frames_free(machine);
    struct mm_lock_request middle = {.bytes = PAGE_SIZE};
    PFN_NUMBER pfn;
    PEPROCESS process;
    uint32_t first;

    EXPECT(mm_frames_take_whole(machine, 5, &first));
    mm_frames_mark(machine, first, 5, MM_FRAME_POOL);
    middle.va = (uintptr_t)mm_window_va(machine, first + 2);
    EXPECT_STATUS(mm_lock_pages(machine, &middle, &pfn, &process), STATUS_SUCCESS);
    EXPECT_EQ(mm_pins_of_pfn(machine, pfn), 1);
    mm_frames_give(machine, first, 5);
    EXPECT_EQ(mm_frames_free(machine), before - 1);
    EXPECT(mm_pfn_is_held(machine, pfn));
    mm_unlock_pages(machine, &pfn, 1);
    EXPECT_EQ(mm_frames_free(machine), before);
    EXPECT(!mm_pfn_is_held(machine, pfn));
    expect_sound(machine);
}
